"""The schemes: how each spaces its rungs, how large they are and where its stop stands.

Sizes are shares of what the strategy's entry order asks for. Those of rectangle, funnel, pyramid and 2-3-5 are fractions of
that whole; those of Turtle units, safety orders and the martingale grid are multiples of it, the first being the order itself,
unless ``total`` says what all of them come to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from ..core.account import is_number
from ..core.ladder import Ladder, Rung, StopRule, shares_of

WHOLE_AT_ONCE = Ladder((Rung(0.0, 1.0),))


@dataclass(frozen=True)
class Scaler:
    """What every scheme has besides its own numbers.

    - ``active`` (default: None): how many rungs rest at once, None for all; 3Commas' "max active safety orders"
    - ``refuse`` (default: None): 'beyond' places no rung whose fill would put liquidation inside the next one, or inside the stop
      of a ladder that has one, and none behind it
    """

    def ladder(self) -> Ladder:
        """Return the rungs as data."""
        raise TypeError(f"{type(self).__name__} is no scheme of its own; take one of those that derive from it")


def _spaced(count: int, step: float | tuple[float, ...] | list[float], sign: int, name: str) -> list[float]:
    """Return distances of so many rungs that lie one step after the other, or by a step of its own each."""
    steps = step if isinstance(step, tuple | list) else [step] * (count - 1)
    if len(steps) != count - 1:
        raise ValueError(f"{name}: {count} rungs have {count - 1} steps between them, were {len(steps)}")
    for each in steps:
        _above_zero(each, f"{name}: a step")
    return list(accumulate((sign * each for each in steps), initial=0.0))


def _count(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{what} is a whole number from 1 on, was {value!r}")
    return value


def _above_zero(value: float, what: str) -> float:
    if not (is_number(value) and value > 0):
        raise ValueError(f"{what} is a number above 0, was {value!r}")
    return value


def _shares(value: Sequence[float], what: str) -> Sequence[float]:
    if not isinstance(value, tuple | list) or not value:
        raise ValueError(f"shares of a {what} are a row of numbers such as (0.5, 0.3, 0.2), were {value!r}")
    return value


def _rungs(distances: Sequence[float], shares: Sequence[float]) -> tuple[Rung, ...]:
    return tuple(Rung(distance, share) for distance, share in zip(distances, shares, strict=True))


@dataclass(frozen=True)
class Rectangle(Scaler):
    """The same share again each step against the trade: averaging down in equal parts.

    Params: ``n`` (5) rungs of ``share`` (0.2) each, ``step`` (0.02) apart; ``atr_period`` (None) makes steps multiples of the
    average true range, such as ``step=1, atr_period=20``.
    """

    n: int = 5
    share: float = 0.2
    step: float | tuple[float, ...] = 0.02
    atr_period: int | None = None
    active: int | None = None
    refuse: str | None = None

    def ladder(self) -> Ladder:
        """Return the rungs as data."""
        count = _count(self.n, "n of a Rectangle")
        distances = _spaced(count, self.step, -1, "Rectangle")
        return Ladder(_rungs(distances, [self.share] * count), self.atr_period, active=self.active, refuse=self.refuse)


@dataclass(frozen=True)
class Funnel(Scaler):
    """A small entry, and larger additions the further the price goes against the trade.

    Params: ``shares`` (0.15, 0.25, 0.40), ``step`` (0.03, 0.05): 3 % below the entry, and 5 % of the entry further; ``atr_period`` as
    in ``Rectangle``.
    """

    shares: tuple[float, ...] = (0.15, 0.25, 0.40)
    step: float | tuple[float, ...] = (0.03, 0.05)
    atr_period: int | None = None
    active: int | None = None
    refuse: str | None = None

    def ladder(self) -> Ladder:
        """Return the rungs as data."""
        shares = _shares(self.shares, "Funnel")
        distances = _spaced(len(shares), self.step, -1, "Funnel")
        return Ladder(_rungs(distances, shares), self.atr_period, active=self.active, refuse=self.refuse)


@dataclass(frozen=True)
class Pyramid(Scaler):
    """A large entry, and smaller additions as the price moves in the trade's favour; nothing is added to a loss.

    Params: ``shares`` (0.30, 0.20, 0.10), ``step`` (1.0) and ``stop`` (2.0) in average true ranges over ``atr_period`` (20) bars; None
    makes them fractions of the entry price. The stop trails the best close and takes all that is held; None for none.
    """

    shares: tuple[float, ...] = (0.30, 0.20, 0.10)
    step: float | tuple[float, ...] = 1.0
    stop: float | None = 2.0
    atr_period: int | None = 20
    active: int | None = None
    refuse: str | None = None

    def ladder(self) -> Ladder:
        """Return the rungs as data."""
        shares = _shares(self.shares, type(self).__name__)
        distances = _spaced(len(shares), self.step, 1, type(self).__name__)
        stop = None if self.stop is None else StopRule(self.stop, "best")
        return Ladder(_rungs(distances, shares), self.atr_period, stop, active=self.active, refuse=self.refuse)


@dataclass(frozen=True)
class TwoThreeFive(Pyramid):
    """20 % at the entry, 30 % one step on, 50 % (its "rolling" part) another step on: a pyramid by its direction, not its shape.

    What the definition rolls, selling and buying back the last half, is the strategy's affair; here that half is the third rung.
    """

    shares: tuple[float, ...] = (0.20, 0.30, 0.50)


@dataclass(frozen=True)
class Turtle(Scaler):
    """One unit more at each half N in the trade's favour, four in all, the stops of all 2 N under the last fill.

    N is the average true range of ``atr_period`` (20) bars when the entry is ordered; a unit is what the strategy orders. Params:
    ``units`` (4), ``step`` (0.5), ``stop`` (2.0), ``total`` (None). The rungs left are put anew from where the last one really filled.

    Source: the Original Turtle Trading Rules; Curtis Faith, "Way of the Turtle", 2007.
    """

    units: int = 4
    step: float = 0.5
    stop: float = 2.0
    atr_period: int = 20
    total: float | None = None
    active: int | None = None
    refuse: str | None = None

    def ladder(self) -> Ladder:
        """Return the rungs as data."""
        count = _count(self.units, "units of a Turtle")
        rungs = _rungs(_spaced(count, self.step, 1, "Turtle"), shares_of(self.total, [1.0] * count))
        return Ladder(rungs, self.atr_period, StopRule(self.stop), follows_fills=True, active=self.active, refuse=self.refuse)


@dataclass(frozen=True)
class SafetyOrders(Scaler):
    """Dollar cost averaging with 3Commas' safety orders, under its names.

    The i-th safety order lies ``price_deviation * (1 + step_scale + ... + step_scale ** (i - 1))`` from the base order and is
    ``safety_order_volume * volume_scale ** (i - 1)`` large. Params: ``base_order`` (1.0) and ``safety_order_volume`` (1.0), multiples
    of what the strategy orders; ``price_deviation`` (0.01), ``volume_scale`` (1.05), ``step_scale`` (1.0), ``max_safety_orders`` (5),
    ``total`` (None).
    """

    base_order: float = 1.0
    safety_order_volume: float = 1.0
    price_deviation: float = 0.01
    volume_scale: float = 1.05
    step_scale: float = 1.0
    max_safety_orders: int = 5
    total: float | None = None
    active: int | None = None
    refuse: str | None = None

    def ladder(self) -> Ladder:
        """Return the rungs as data."""
        count = _count(self.max_safety_orders, "max_safety_orders")
        deviation = _above_zero(self.price_deviation, "price_deviation")
        volume, step = _above_zero(self.volume_scale, "volume_scale"), _above_zero(self.step_scale, "step_scale")
        try:
            distances = list(accumulate((-deviation * step**i for i in range(count)), initial=0.0))
            orders = _above_zero(self.safety_order_volume, "safety_order_volume")
            shares = [_above_zero(self.base_order, "base_order"), *(orders * volume**i for i in range(count))]
        except OverflowError as error:
            raise ValueError(f"{count} safety orders by these scales are too large to count; take smaller scales") from error
        return Ladder(_rungs(distances, shares_of(self.total, shares)), active=self.active, refuse=self.refuse)


@dataclass(frozen=True)
class GridMartingale(Scaler):
    """Twice as much again at each step against the trade.

    Params: ``orders`` (4) in all, the entry among them, ``step`` (0.02), ``factor`` (2.0), ``total`` (None), ``atr_period`` as in
    ``Rectangle``.
    """

    orders: int = 4
    step: float | tuple[float, ...] = 0.02
    factor: float = 2.0
    total: float | None = None
    atr_period: int | None = None
    active: int | None = None
    refuse: str | None = None

    def ladder(self) -> Ladder:
        """Return the rungs as data."""
        count, factor = _count(self.orders, "orders of a GridMartingale"), _above_zero(self.factor, "factor")
        shares = shares_of(self.total, [factor**i for i in range(count)])
        distances = _spaced(count, self.step, -1, "GridMartingale")
        return Ladder(_rungs(distances, shares), self.atr_period, active=self.active, refuse=self.refuse)


@dataclass(frozen=True)
class Rungs(Scaler):
    """A ladder of one's own: ``own`` is a ``Ladder``."""

    own: Ladder = WHOLE_AT_ONCE

    def ladder(self) -> Ladder:
        """Return the rungs as data."""
        return self.own


@dataclass(frozen=True)
class MarginTopUp:
    """Margin that is added to an isolated position when its liquidation price comes near: by rule, not without end.

    Where the mark is within ``within`` of the liquidation price at a bar's close (a fraction of the mark), money is moved from the cross
    wallet to the position's own: ``amount``, or as much as brings the distance back ``to``. At most ``times`` (1) for each
    position and ``budget`` (None: no limit) in money for each; no more than is available. What happens inside a bar it comes too
    late for; ``TopUp`` on the broker acts at the very instant.
    """

    within: float
    amount: float | None = None
    to: float | None = None
    times: int | None = 1
    budget: float | None = None

    def __post_init__(self) -> None:
        if not (is_number(self.within) and 0 < self.within < 1):
            raise ValueError(f"within is a fraction of the mark between 0 and 1 (0.05 = 5 % away), was {self.within!r}")
        if (self.amount is None) == (self.to is None):
            raise ValueError("a MarginTopUp adds an amount, or brings the distance back to a fraction: give one, amount=100 or to=0.1")
        if self.to is not None and not (is_number(self.to) and self.within < self.to < 1):
            raise ValueError(f"to is a fraction of the mark above within ({self.within:g}) and below 1, was {self.to!r}")
        for name, money in (("amount", self.amount), ("budget", self.budget)):
            if money is not None:
                _above_zero(money, f"{name} of a MarginTopUp")
        if self.times is not None:
            _count(self.times, "times of a MarginTopUp")
