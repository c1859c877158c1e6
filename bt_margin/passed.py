"""Bars that were passed in a lull, kept by what their rows follow from, and the columns that follow.

What an account holds and owes is the same on every bar of a lull, so that its rows differ by the marks alone. A column is
reckoned when it is read, by the same operations in the same order as ``BarClock.write`` does for one bar, so that the
numbers are the same to the last digit.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
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


def fill_column(column: "np.ndarray", name: str, passed: Iterable[Passed]) -> None:
    """Write the rows of bars that were passed into one of BAR_COLUMNS, those of the same kind together."""
    for _, alike in groupby(sorted(passed, key=lambda one: one.kind), key=lambda one: one.kind):
        rows = _Alike(list(alike))
        column[rows.rows()] = COLUMNS[name](rows)


class _Alike:
    """The bars of lulls of one kind, one after the other, as arrays."""

    def __init__(self, passed: Sequence[Passed]) -> None:
        import numpy as np

        self.passed, self.lengths = passed, [one.end - one.start for one in passed]
        self.bars = np.concatenate([np.arange(one.start, one.end) for one in passed])

    def rows(self) -> "np.ndarray":
        import numpy as np

        return np.concatenate([np.arange(one.row, one.row + one.end - one.start) for one in self.passed])

    def each(self, values: Iterable[float]) -> "np.ndarray":
        """Return a value for each bar from one for each lull."""
        import numpy as np

        return np.repeat(np.fromiter(values, np.float64, len(self.passed)), self.lengths)

    def times(self) -> "np.ndarray":
        return self._at_bars(self.passed[0].stamps)

    def wallet_balance(self) -> "np.ndarray":
        return self.each(one.wallet_balance for one in self.passed)

    def order_margin(self) -> "np.ndarray":
        return self.each(one.order_margin for one in self.passed)

    def equity(self) -> "np.ndarray":
        equity = self.wallet_balance()
        for position in self._positions():
            equity += position.profit(position.marks())
        return equity

    def lowest_equity(self) -> "np.ndarray":
        import numpy as np

        lowest = self.wallet_balance()
        for position in self._positions():
            lowest += position.profit(position.worst_marks())
        return np.minimum(lowest, self.equity())

    def notional(self) -> "np.ndarray":
        return self._sum(_Line.value)

    def initial_margin(self) -> "np.ndarray":
        return self._sum(_Line.margin)

    def maintenance_margin(self) -> "np.ndarray":
        return self._sum(lambda position: maintenance_margins(position.brackets, position.value()))

    def available_margin(self) -> "np.ndarray":
        import numpy as np

        free = self.each(one.cross_balance for one in self.passed)
        for position in self._positions():
            taken = position.profit(position.marks()) - position.margin()
            free = np.where(position.each("is_cross") > 0, free + taken, free)
        return free - self.order_margin()

    def _sum(self, part: "Callable[[_Line], np.ndarray]") -> "np.ndarray":
        import numpy as np

        total = np.zeros(len(self.bars))
        for position in self._positions():
            total += part(position)
        return total

    def _positions(self) -> "Iterable[_Line]":
        return (_Line(self, number) for number in range(len(self.passed[0].carried)))

    def _at_bars(self, values: array) -> "np.ndarray":
        import numpy as np

        return np.frombuffer(values, np.float64)[self.bars]


class _Line:
    """One contract's part in the figures of these bars."""

    def __init__(self, alike: _Alike, number: int) -> None:
        self.alike, self.number = alike, number
        self.slot, self.brackets = alike.passed[0].carried[number].slot, alike.passed[0].carried[number].brackets

    def each(self, name: str) -> "np.ndarray":
        return self.alike.each(getattr(one.carried[self.number], name) for one in self.alike.passed)

    def marks(self) -> "np.ndarray":
        return self.alike._at_bars(self.slot.mark_closes)

    def worst_marks(self) -> "np.ndarray":
        import numpy as np

        lows, highs = self.alike._at_bars(self.slot.mark_lows), self.alike._at_bars(self.slot.mark_highs)
        return np.where(self.each("units") > 0, lows, highs)

    def profit(self, marks: "np.ndarray") -> "np.ndarray":
        return self.each("units") * (marks - self.each("entry_price"))

    def value(self) -> "np.ndarray":
        return abs(self.each("units")) * self.marks()

    def margin(self) -> "np.ndarray":
        return self.value() / self.each("leverage")


COLUMNS: "dict[str, Callable[[_Alike], np.ndarray]]" = {
    "time": _Alike.times,
    "equity": _Alike.equity,
    "lowest_equity": _Alike.lowest_equity,
    "wallet_balance": _Alike.wallet_balance,
    "initial_margin": _Alike.initial_margin,
    "maintenance_margin": _Alike.maintenance_margin,
    "order_margin": _Alike.order_margin,
    "available_margin": _Alike.available_margin,
    "notional": _Alike.notional,
}


def maintenance_margins(brackets: Sequence[Bracket], notionals: "np.ndarray") -> "np.ndarray":
    """Return ``core.tiers.maintenance_margin`` of each notional."""
    import numpy as np

    caps, rates, amounts = (np.array([getattr(bracket, name) for bracket in brackets]) for name in ("cap", "rate", "amount"))
    tiers = np.searchsorted(caps, notionals).clip(max=len(caps) - 1)
    return notionals * rates[tiers] - amounts[tiers]
