"""Funding carry: own the coin, sell its perpetual short, and collect the funding that longs pay."""

import backtrader as bt


class FundingCarry(bt.Strategy):
    """Short the perpetual (the first data) and long the spot (the second) of one coin, in equal amounts: whole lots of the perpetual.

    Idea: what the price does to one leg it does to the other with the opposite sign, so the pair earns the funding rate and
    little else. Longs of a perpetual pay shorts while it trades above spot, which is most of the time; so the pair is
    opened once the premium, perp / spot - 1, has on average over ``period`` bars been no less than ``enter``, and closed
    when that average falls below ``leave``. A leg that is left alone, because the other was refused or taken by the venue,
    is closed at once, and what was refused is tried again only after the pair has been due to close.

    Params:

      - ``fraction`` (default: ``0.4``): worth of each leg, as a fraction of the account's value when the pair is opened; at
        1x one leg is paid in full and the other takes as much margin, so no more than 0.5 less fees
      - ``period`` (default: ``24``): bars over which the premium is averaged
      - ``enter`` (default: ``0.0``): average premium from which on the pair is opened
      - ``leave`` (default: ``-0.001``): average premium below which it is closed

    Where it fails: when funding turns negative and stays there for less than the premium shows, the pair pays; four fills
    of fees and a premium that widens after the entry can cost more than weeks of funding bring. The hedge is only as
    good as the money behind the short leg: if that leg's margin is its own (isolated, or the coin is on another account), a
    rally liquidates it while the coin's gain lies idle, and what is left is a coin bought at the top. And half of the
    capital earns nothing but the spread of an exchange that has to survive.
    """

    params = (("fraction", 0.4), ("period", 24), ("enter", 0.0), ("leave", -0.001))

    def __init__(self):
        if len(self.datas) < 2:
            raise ValueError(f"FundingCarry needs two datas, the perpetual and then the spot of the same coin; it has {len(self.datas)}")
        if not (0 < self.p.fraction < 1 and self.p.period >= 1 and self.p.leave <= self.p.enter):
            raise ValueError(
                "fraction lies between 0 and 1, period is 1 or more and leave no higher than enter, "
                f"were {self.p.fraction}, {self.p.period}, {self.p.leave} and {self.p.enter}"
            )
        premium = self.data0.close / self.data1.close - 1.0
        self.premium = bt.indicators.SMA(premium, period=self.p.period)
        self.pending = set()
        self.is_waiting = False

    def notify_order(self, order):
        if order.status in (order.Margin, order.Rejected):
            self.is_waiting = True
        if not order.alive():
            self.pending.discard(order.ref)

    def next(self):
        if self.pending:
            return
        perp, spot = (self.getposition(data).size for data in (self.data0, self.data1))
        if self.premium[0] < self.p.leave:
            self.is_waiting = False
            self._flatten(perp, spot)
        elif bool(perp) != bool(spot):
            self._flatten(perp, spot)
        elif not perp and not self.is_waiting and self.premium[0] >= self.p.enter:
            self._open()

    def _open(self):
        """Sell the perpetual in whole lots and buy as many coins; too little for a lot is left to the broker to refuse."""
        perp, spot = (self.broker.getcommissioninfo(data) for data in (self.data0, self.data1))
        wanted = self.p.fraction * self.broker.getvalue() / self.data1.close[0] / perp.p.mult
        contracts = perp.terms.floor_size(wanted) if hasattr(perp, "terms") else wanted  # stock Backtrader knows no lots
        self._send(self.sell(self.data0, size=contracts or wanted))
        if contracts:
            self._send(self.buy(self.data1, size=contracts * perp.p.mult / spot.p.mult))

    def _flatten(self, perp, spot):
        """Close whatever is held."""
        for data, size in ((self.data0, perp), (self.data1, spot)):
            if size:
                self._send(self.close(data))

    def _send(self, order):
        if order is not None and order.alive():
            self.pending.add(order.ref)
