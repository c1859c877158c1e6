"""What one contract is: its size, its fees, its tiers, and what a position in it is worth.

Linear contracts: quoted and settled in the same money, so profit is ``size * multiplier * price difference``.
"""

from dataclasses import dataclass, field
from math import floor, isfinite

from .tiers import GENERIC_RATE, TierSchedule, TierTable

# Binary floats cannot hold most lots: 0.3 / 0.1 is 2.9999999999999996. A size this close to a whole number of lots is that number.
LOT_SLACK = 1e-9
# Without a lot, a residue this small against the largest size held is a rounding left-over, not a position.
RESIDUE = 1e-9


@dataclass(frozen=True, slots=True)
class Contract:
    """Terms of one linear contract.

    ``multiplier`` base units per contract; ``lot`` smallest step of a size (0: any size); ``maker``, ``taker`` and
    ``liquidation_fee`` fractions of notional (a maker rebate is negative).
    """

    symbol: str = ""
    multiplier: float = 1.0
    lot: float = 0.0
    maker: float = 0.0
    taker: float = 0.0
    liquidation_fee: float = 0.0
    tiers: TierSchedule = field(default_factory=lambda: TierSchedule.constant(TierTable.flat(GENERIC_RATE)))

    def __post_init__(self) -> None:
        name = self.symbol or "contract"
        if not (isfinite(self.multiplier) and self.multiplier > 0):
            raise ValueError(f"{name}: the multiplier is a positive number of base units per contract, was {self.multiplier}")
        if not (isfinite(self.lot) and self.lot >= 0):
            raise ValueError(f"{name}: the lot is a positive size, or 0 for any size, was {self.lot}")
        for fee in ("maker", "taker", "liquidation_fee"):
            rate = getattr(self, fee)
            if not (isfinite(rate) and -0.1 < rate < 0.1):
                raise ValueError(f"{name}: {fee} is a fraction of notional (0.0005 = 5 bp), was {rate}; 10 % and more is refused as a slip")
        if self.liquidation_fee < 0:
            raise ValueError(f"{name}: a liquidation fee costs, it is 0 or more, was {self.liquidation_fee}")

    def notional(self, size: float, price: float) -> float:
        """Return ``|size| * multiplier * price``."""
        return abs(size) * self.multiplier * price

    def unrealized_pnl(self, *, size: float, entry_price: float, mark_price: float) -> float:
        """Return ``size * multiplier * (mark_price - entry_price)``."""
        return size * self.multiplier * (mark_price - entry_price)

    def fee(self, size: float, price: float, *, maker: bool) -> float:
        """Return the trading fee of a fill, positive when it costs."""
        return self.notional(size, price) * (self.maker if maker else self.taker)

    def floor_size(self, size: float) -> float:
        """Return a size cut towards zero to whole lots, keeping its sign.

        >>> Contract(lot=0.1).floor_size(-0.37)
        -0.30000000000000004
        """
        if not self.lot:
            return size
        lots = floor(abs(size) / self.lot + LOT_SLACK)
        return lots * self.lot if size > 0 else -(lots * self.lot)

    def snap_size(self, size: float, *, largest: float) -> float:
        """Return a held size on its lot grid, 0 where only a residue of ``largest`` is left."""
        if self.lot:
            return round(size / self.lot) * self.lot
        return 0.0 if abs(size) < RESIDUE * largest else size


def initial_margin(*, notional: float, leverage: float) -> float:
    """Return ``notional / leverage``."""
    return notional / leverage


def average_entry(*, size: float, entry_price: float, added: float, price: float) -> float:
    """Return the size-weighted entry price after adding to a position on its own side."""
    return (size * entry_price + added * price) / (size + added)


def split_fill(held: float, size: float) -> tuple[float, float]:
    """Return how much of a fill closes and how much opens, both with the fill's sign.

    >>> split_fill(10, -14)          # the long is closed first, the rest opens a short
    (-10, -4)
    """
    if not held or (held > 0) == (size > 0):
        return 0.0, size
    if abs(size) <= abs(held):
        return size, 0.0
    return -held, size + held
