"""Observers of a margin account, for ``cerebro.addobserver(bt_margin.observers.MarginRatio)``.

Each writes one value a bar, as the broker says it once the bar is over; NaN where there is nothing to say. In the loop of
``bt_margin.Cerebro`` they are written late, the same numbers in less time (``late.py``). Money is as the account sees it.
All strategies of a Cerebro trade on its one account, and their observers show the whole of it.
"""

from math import nan
from typing import Any

import backtrader as bt

from .analyzers import margin_broker
from .late import Stretch


class AccountObserver(bt.Observer):
    """An observer of a MarginBroker."""

    def __init__(self) -> None:
        # Not in ``start``: the host does not call it for observers that were added by ``addobservermulti``.
        self._broker = margin_broker(self._owner, f"bt_margin.observers.{type(self).__name__}")

    def put(self, *values: float) -> None:
        """Write the values of this bar into the lines."""
        for line, value in zip(self.lines.lines, values, strict=True):
            line[0] = value


class LiquidationPrice(AccountObserver):
    """The mark at which a data's position would be liquidated, the other marks fixed, on the data's own price axis.

    ``cerebro.addobservermulti(LiquidationPrice)`` shows every data's, ``cerebro.addobserver(LiquidationPrice)`` the first
    one's. NaN while the data is flat, and where no price liquidates. Of the two isolated legs of a hedge it is the price
    that is nearer to the mark; in cross both share one.

    Lines: ``price``, one value for each bar of the data (not of the strategy), like the prices it stands beside. The axis
    keeps the range of the prices: a liquidation price outside it is not drawn. To make room for it give the data
    ``plotinfo.plotylimited = False``.
    """

    may_wait = True
    lines = ("price",)
    plotinfo = (("plot", True), ("subplot", False), ("plotname", "Liquidation price"))
    # Marks, for a line would join the price of a long to that of the short after it. No tag with the last value: the host
    # writes it beside the axis even where that is far above or below the picture.
    plotlines = (("price", {"color": "#CC00CC", "ls": "", "marker": "_", "markersize": 5.0, "mew": 1.5, "_plotvaluetag": False}),)

    def next(self) -> None:
        """Write the liquidation price as of this bar."""
        bars = len(self.data)
        if len(self) > bars:
            self.backwards()  # vectorized, the host moves every observer on with each step of the strategy
        if bars:
            self.put(*self.say())

    def say(self) -> tuple[float]:
        """Return the liquidation price as of this bar."""
        broker = self._broker
        held = [leg for leg in broker.legs_of(self.data) if leg.position.size]
        prices = [(price, broker.marks[leg.symbol]) for leg in held if (price := broker.liquidation_price(self.data, leg.side)) is not None]
        return min(prices, key=lambda found: abs(found[0] - found[1]), default=(nan, nan))[:1]

    def say_of(self, stretch: Stretch) -> tuple[Any]:
        """Return the same of the bars of a stretch."""
        return (stretch.liquidation_price(self.data),)


class MarginRatio(AccountObserver):
    """Maintenance margin / equity at each bar's close, in a pane of its own; NaN while flat.

    Of the wallet nearest to liquidation, which is at 1: an isolated one is judged by its own money, whatever the account has
    besides. Where all is in cross that is the account. Lines: ``ratio``.
    """

    may_wait = True
    _stclock = True
    lines = ("ratio",)
    plotinfo = (
        ("plot", True),
        ("subplot", True),
        ("plotname", "Margin ratio = maintenance margin / equity (1 = liquidation)"),
        ("plothlines", [0.5, 0.8, 1.0]),
        ("plotyticks", [0.5, 0.8]),  # a tick at 1 would end the pane there
    )
    plotlines = (("ratio", {"marker": ".", "markersize": 3.0}),)

    def next(self) -> None:
        """Write the margin ratio as of this bar."""
        self.put(*self.say())

    def say(self) -> tuple[float]:
        """Return the margin ratio as of this bar."""
        broker = self._broker
        wallets = dict.fromkeys(position.wallet for _, position in broker.clock.held)
        risks = [broker.account.risk(wallet, broker.marks) for wallet in wallets]
        return (max((risk.maintenance_margin / risk.equity for risk in risks if risk.equity > 0), default=nan),)

    def say_of(self, stretch: Stretch) -> tuple[Any]:
        """Return the same of the bars of a stretch."""
        return (stretch.margin_ratio,)


class WalletEquity(AccountObserver):
    """What the account holds, in a pane of its own: wallet balance, and equity, which is that plus unrealized profit.

    Lines: ``wallet_balance``, ``equity``: money at each bar's close.
    """

    may_wait = True
    _stclock = True
    lines = ("wallet_balance", "equity")
    plotinfo = (("plot", True), ("subplot", True), ("plotname", "Account"))
    plotlines = (("wallet_balance", {"_name": "wallet balance", "ls": "--"}),)

    def next(self) -> None:
        """Write both as of this bar."""
        self.put(*self.say())

    def say(self) -> tuple[float, float]:
        """Return both as of this bar."""
        return self._broker.wallet_balance, self._broker.equity

    def say_of(self, stretch: Stretch) -> tuple[Any, Any]:
        """Return the same of the bars of a stretch."""
        return stretch.wallet_balance, stretch.equity
