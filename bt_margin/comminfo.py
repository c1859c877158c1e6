"""PerpCommInfo: a perpetual contract as Backtrader's commission scheme."""

from collections.abc import Sequence
from datetime import UTC, datetime
from math import isfinite

import backtrader as bt

from .core.contract import Contract
from .core.liquidation import PROFILES
from .core.tiers import TierSchedule, TierTable

Tiers = TierTable | TierSchedule | Sequence[Sequence[float | None]] | float | None


class PerpCommInfo(bt.CommInfoBase):
    """Terms of one perpetual contract, for ``broker.addcommissioninfo(PerpCommInfo(...), name="BTCUSDT")``.

    Params:

      - ``leverage`` (default: ``1.0``): what the trader chose, a number of 1 or more
      - ``commission`` (default: ``0.0``): taker fee, a fraction of notional (0.0005 = 5 bp)
      - ``maker`` (default: ``None``): maker fee, a fraction; negative for a rebate; ``None`` takes ``commission``
      - ``mult`` (default: ``1.0``): base units per contract
      - ``lot`` (default: ``0.0``): smallest step of a size; orders are cut down to it; 0 leaves sizes as they are
      - ``tiers`` (default: ``None``): maintenance margin as a ``TierTable``, a dated ``TierSchedule``, rows of
        ``(cap, rate, max_leverage)`` or one flat rate; ``0`` for no maintenance margin at all; ``None`` for a flat
        0.5 %, which every result then states
      - ``margin_mode`` (default: ``None``): 'cross' or 'isolated'; ``None`` follows the broker
      - ``liquidation_fee`` (default: ``0.0125``): fraction of the liquidated notional, under the profile 'market'
      - ``profile`` (default: ``'market'``): 'market' sells a failed position at the mark and charges the fee;
        'forfeit' hands it and the rest of its wallet to the insurance fund
    """

    params = (
        ("leverage", 1.0),
        ("commission", 0.0),
        ("maker", None),
        ("mult", 1.0),
        ("lot", 0.0),
        ("tiers", None),
        ("margin_mode", None),
        ("liquidation_fee", 0.0125),
        ("profile", "market"),
        ("commtype", bt.CommInfoBase.COMM_PERC),
        ("percabs", True),
        ("stocklike", False),
    )

    def __init__(self):
        super().__init__()
        if self.p.profile not in PROFILES:
            raise ValueError(f"profile is one of {', '.join(map(repr, sorted(PROFILES)))}, was {self.p.profile!r}")
        if self.p.margin_mode not in (None, "cross", "isolated"):
            raise ValueError(f"margin_mode is 'cross', 'isolated' or None (the broker's), was {self.p.margin_mode!r}")
        if not (isfinite(self.p.leverage) and self.p.leverage >= 1):
            raise ValueError(f"leverage is a finite number of 1 or more, was {self.p.leverage}")
        self.schedule = tier_schedule(self.p.tiers)
        self.terms = self.contract("")

    def contract(self, symbol: str) -> Contract:
        """Return the terms as a Contract of that symbol."""
        maker = self.p.commission if self.p.maker is None else self.p.maker
        return Contract(
            symbol=symbol,
            multiplier=self.p.mult,
            lot=self.p.lot,
            maker=maker,
            taker=self.p.commission,
            liquidation_fee=self.p.liquidation_fee,
            tiers=self.schedule,
        )

    @property
    def is_generic(self) -> bool:
        """Whether the flat 0.5 % stands in for tiers that were not given (R28)."""
        return self.p.tiers is None

    def get_margin(self, price):
        """Return the initial margin of one contract at a price."""
        return self.terms.notional(1.0, price) / self.p.leverage

    def getsize(self, price, cash):
        """Return the size whose notional is ``cash``, in whole lots: the inverse of ``broker.getvalue([data])``."""
        return self.terms.floor_size(cash / self.terms.notional(1.0, price))

    def getoperationcost(self, size, price):
        """Return the initial margin of a size at a price."""
        return abs(size) * self.get_margin(price)

    def getvaluesize(self, size, price):
        """Return the signed notional of a size at a price."""
        return size * self.p.mult * price

    def getvalue(self, position, price):
        """Return the signed notional of a position at a price."""
        return self.getvaluesize(position.size, price)

    def profitandloss(self, size, price, newprice):
        """Return the profit of a size between two prices."""
        return self.terms.unrealized_pnl(size=size, entry_price=price, mark_price=newprice)

    def _getcommission(self, size, price, pseudoexec):
        return self.terms.fee(size, price, maker=False)

    def cashadjust(self, size, price, newprice):
        """Return 0: the account books profit itself, nothing is moved bar by bar."""
        return 0.0

    def get_credit_interest(self, data, pos, dt):
        """Return 0: funding is paid by settlement stamps, not by days."""
        return 0.0


def tier_schedule(tiers: Tiers) -> TierSchedule:
    """Return tiers in any accepted form as a dated schedule; ValueError for tables that are not marginal in the notional."""
    if isinstance(tiers, TierTable):
        tiers = TierSchedule.constant(tiers)
    if isinstance(tiers, TierSchedule):
        if not all(map(is_by_notional, tiers.tables)):
            raise ValueError(
                "a backtest takes marginal tiers of the notional; slab tiers, coins and contracts are for bt_margin.calculator"
            )
        return tiers
    if tiers is None:
        return Contract().tiers
    if isinstance(tiers, (int, float)):
        return TierSchedule.constant(TierTable.flat(tiers))
    return TierSchedule.constant(TierTable.from_rows(tiers))


def is_by_notional(table: TierTable) -> bool:
    """Whether a table is marginal in the notional, which is what a run obeys."""
    return table.mode == "marginal" and table.unit == "quote"


def utc(time: float) -> datetime:
    """Return an instant in seconds as an aware datetime."""
    return datetime.fromtimestamp(time, UTC)
