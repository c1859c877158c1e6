"""Bars that were passed in a lull, kept by what their rows follow from, and the columns that follow.

What an account holds and owes is the same on every bar of a lull, so that its rows differ by the marks alone. A column is
reckoned when it is read, by the same operations in the same order as ``BarClock.write`` does for one bar, so that the
numbers are the same to the last digit.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from .core.tiers import Bracket

if TYPE_CHECKING:
    import numpy as np

    from .slots import Slot

# What of a holding stays the same from bar to bar: HOLDING_COLUMNS but the bar and the mark. The number is the contract's (in
# the order of the datas), the balance that of the wallet behind it, the leverage the one that is set; since when the tier table
# and the margin terms are in force (-inf: the first ones), and the closing fee that was set aside for each contract of an
# isolated position.
HoldingTerms = tuple[int, float, float, float, bool, float, float, float]


class Carried(NamedTuple):
    """A position as a lull carries it: what the figures of a bar follow from but the mark."""

    slot: "Slot"
    units: float
    entry_price: float
    leverage: float
    is_cross: bool
    brackets: Sequence[Bracket]
    terms: HoldingTerms


class Passed(NamedTuple):
    """The bars ``start`` to ``end`` of the feeds (from 0), which are the rows from ``row`` on; their closing instants are ``stamps``."""

    row: int
    start: int
    end: int
    carried: tuple[Carried, ...]
    wallet_balance: float
    cross_balance: float
    order_margin: float
    stamps: array

    @property
    def kind(self) -> list[tuple[int, int]]:
        """What the bars of several lulls must share to be reckoned together: the same contracts, by the same tiers."""
        return [(carried.slot.number, id(carried.brackets)) for carried in self.carried]


def fill(columns: "Mapping[str, np.ndarray]", passed: Iterable[Passed]) -> None:
    """Write the rows of bars that were passed into some of BAR_COLUMNS, those of the same kind together."""
    for _, alike in groupby(sorted(passed, key=lambda one: one.kind), key=lambda one: one.kind):
        bars = _Bars(list(alike))
        for name, column in columns.items():
            column[bars.rows] = getattr(bars, name)


class _Bars:
    """The bars of lulls of one kind, one after the other: BAR_COLUMNS as arrays, each reckoned when it is asked for."""

    def __init__(self, passed: Sequence[Passed]) -> None:
        import numpy as np

        self.passed = passed
        starts, ends, rows = (np.array([one[place] for one in passed]) for place in (1, 2, 0))
        self.lengths = ends - starts
        within = np.arange(self.lengths.sum()) - np.repeat(np.cumsum(self.lengths) - self.lengths, self.lengths)
        self.rows, self.bars = np.repeat(rows, self.lengths) + within, np.repeat(starts, self.lengths) + within
        self.positions = [_Position(self, number) for number in range(len(passed[0].carried))]

    def each(self, values: Iterable[float]) -> "np.ndarray":
        """Return a value for each bar from one for each lull."""
        import numpy as np

        return np.repeat(np.fromiter(values, np.float64, len(self.passed)), self.lengths)

    def at(self, values: array) -> "np.ndarray":
        """Return the values of these bars from those of all bars of a feed."""
        import numpy as np

        return np.frombuffer(values, np.float64)[self.bars]

    @cached_property
    def time(self) -> "np.ndarray":
        return self.at(self.passed[0].stamps)

    @cached_property
    def wallet_balance(self) -> "np.ndarray":
        return self.each(one.wallet_balance for one in self.passed)

    @cached_property
    def order_margin(self) -> "np.ndarray":
        return self.each(one.order_margin for one in self.passed)

    @cached_property
    def equity(self) -> "np.ndarray":
        return sum((position.profit for position in self.positions), self.wallet_balance)

    @cached_property
    def lowest_equity(self) -> "np.ndarray":
        import numpy as np

        return np.minimum(sum((position.worst_profit for position in self.positions), self.wallet_balance), self.equity)

    @cached_property
    def notional(self) -> "np.ndarray":
        return sum((position.value for position in self.positions), self._nothing)

    @cached_property
    def initial_margin(self) -> "np.ndarray":
        return sum((position.margin for position in self.positions), self._nothing)

    @cached_property
    def maintenance_margin(self) -> "np.ndarray":
        return sum((maintenance_margins(position.brackets, position.value) for position in self.positions), self._nothing)

    @cached_property
    def available_margin(self) -> "np.ndarray":
        import numpy as np

        free = self.each(one.cross_balance for one in self.passed)
        for position in self.positions:
            free = np.where(position.is_cross, free + (position.profit - position.margin), free)
        return free - self.order_margin

    @property
    def _nothing(self) -> "np.ndarray":
        import numpy as np

        return np.zeros(len(self.bars))


class _Position:
    """The part of one contract in the figures of these bars."""

    def __init__(self, bars: _Bars, number: int) -> None:
        self.bars, self.carried = bars, [one.carried[number] for one in bars.passed]
        self.slot, self.brackets = self.carried[0].slot, self.carried[0].brackets

    @cached_property
    def units(self) -> "np.ndarray":
        return self.bars.each(one.units for one in self.carried)

    @cached_property
    def entry_price(self) -> "np.ndarray":
        return self.bars.each(one.entry_price for one in self.carried)

    @cached_property
    def is_cross(self) -> "np.ndarray":
        return self.bars.each(one.is_cross for one in self.carried) > 0

    @cached_property
    def mark(self) -> "np.ndarray":
        return self.bars.at(self.slot.mark_closes)

    @cached_property
    def profit(self) -> "np.ndarray":
        return self.units * (self.mark - self.entry_price)

    @cached_property
    def worst_profit(self) -> "np.ndarray":
        import numpy as np

        worst = np.where(self.units > 0, self.bars.at(self.slot.mark_lows), self.bars.at(self.slot.mark_highs))
        return self.units * (worst - self.entry_price)

    @cached_property
    def value(self) -> "np.ndarray":
        return abs(self.units) * self.mark

    @cached_property
    def margin(self) -> "np.ndarray":
        return self.value / self.bars.each(one.leverage for one in self.carried)


def maintenance_margins(brackets: Sequence[Bracket], notionals: "np.ndarray") -> "np.ndarray":
    """Return ``core.tiers.maintenance_margin`` of each notional."""
    import numpy as np

    caps, rates, amounts = (np.array([getattr(bracket, name) for bracket in brackets]) for name in ("cap", "rate", "amount"))
    tiers = np.searchsorted(caps, notionals).clip(max=len(caps) - 1)
    return notionals * rates[tiers] - amounts[tiers]
