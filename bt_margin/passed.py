"""What stays the same from bar to bar, kept once: bars that were passed in lulls, and contracts held on the same terms.

What an account holds and owes is the same on every bar of a lull, so that its rows differ by the marks alone. A column is
reckoned when it is read, of all lulls that hold the same contracts at once, by the same operations in the same order as
``BarClock.write`` does for one bar, so that the numbers are the same to the last digit.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from .core.tiers import Bracket

if TYPE_CHECKING:
    import numpy as np

    from .slots import Slot

# What of a holding stays the same from bar to bar: HOLDING_COLUMNS but the bar and the mark. The number is the contract's (in
# the order of the datas), the balance that of the wallet behind it, the leverage the one that is set; since when the tier table
# and the margin terms are in force (-inf: the first ones), and the closing fee that was set aside for each contract of an
# isolated position.
HoldingTerms = tuple[int, float, float, float, bool, float, float, float]
TERMS = ("number", "size", "entry_price", "wallet_balance", "is_isolated", "leverage", "terms_since", "set_aside")

LULL_COLUMNS = ("row", "start", "end", "wallet_balance", "cross_balance", "order_margin", "first")
CARRIED_COLUMNS = (*TERMS, "units", "brackets")
MARK_PLACE = 4  # of the mark among HOLDING_COLUMNS, where the TERMS stand from 1 on
BLOCK = 65_536  # bars that are reckoned at once, a lull more or less


@dataclass(slots=True)
class Passed:
    """The bars that were passed in lulls.

    ``lulls`` has LULL_COLUMNS of each: the rows from ``row`` on are the bars ``start`` to ``end`` of the feeds (from 0), whose
    closing instants are ``stamps``; ``first`` is the first of ``carried`` that it held, the next lull's the one after its last.
    ``carried`` has CARRIED_COLUMNS of each: what was held, its multiple of base units, and which of ``brackets`` were in force.
    """

    lulls: array = field(default_factory=lambda: array("d"))
    carried: array = field(default_factory=lambda: array("d"))
    brackets: list[Sequence[Bracket]] = field(default_factory=list)
    slots: "dict[int, Slot]" = field(default_factory=dict)
    stamps: array = field(default_factory=lambda: array("d"))
    bars: int = 0

    def add(self, row: int, start: int, end: int, balances: tuple[float, float, float], carried: "Sequence[Carried]") -> None:
        """Add the bars of a lull; ``balances``: of all wallets, of the cross wallet, and what is reserved for orders."""
        self.lulls.extend((row, start, end, *balances, len(self.carried) // len(CARRIED_COLUMNS)))
        self.bars += end - start
        for slot, units, brackets, terms in carried:
            self.slots[slot.number] = slot
            self.carried.extend((*terms, units, self._number_of(brackets)))

    def _number_of(self, brackets: Sequence[Bracket]) -> int:
        known = self.brackets
        if not known or known[-1] is not brackets:
            for number, other in enumerate(known):
                if other is brackets:
                    return number
            known.append(brackets)
        return len(known) - 1

    def since(self, row: int) -> "Passed":
        """Return those from a row of the record on, their rows counted from it, at the cost of their lulls."""
        fields, begin, bars = len(LULL_COLUMNS), len(self.lulls), 0
        while begin and self.lulls[begin - fields] + self.lulls[begin - fields + 2] - self.lulls[begin - fields + 1] > row:
            begin -= fields
        lulls = self.lulls[begin:]
        for place in range(0, len(lulls), fields):
            skipped = max(row - lulls[place], 0.0)
            lulls[place] += skipped - row
            lulls[place + 1] += skipped
            bars += int(lulls[place + 2] - lulls[place + 1])
        return replace(self, lulls=lulls, bars=bars)

    @property
    def holdings(self) -> int:
        """How many contracts were held at the closes of these bars, all bars together."""
        import numpy as np

        lulls = np.frombuffer(self.lulls or array("d"), np.float64).reshape(-1, len(LULL_COLUMNS))
        held = np.diff(lulls[:, -1], append=len(self.carried) // len(CARRIED_COLUMNS))
        return int((held * (lulls[:, 2] - lulls[:, 1])).sum())

    def groups(self) -> "Iterator[Bars]":
        """Yield all bars, those of lulls that held the same contracts by the same tiers together, a block at a time."""
        import numpy as np

        if not self.bars:
            return
        lulls = np.frombuffer(self.lulls, np.float64).reshape(-1, len(LULL_COLUMNS))
        carried = np.frombuffer(self.carried or array("d"), np.float64).reshape(-1, len(CARRIED_COLUMNS))
        first = lulls[:, -1].astype(np.int64)
        counts = np.diff(first, append=len(carried))
        for count in np.unique(counts):
            alike = np.flatnonzero(counts == count)
            kinds = carried[first[alike, None] + np.arange(count)][:, :, [0, -1]].reshape(len(alike), -1)
            if (kinds == kinds[:1]).all():
                yield from self._in_blocks(lulls[alike], carried, int(count))
                continue
            _, kind_of = np.unique(kinds, axis=0, return_inverse=True)
            for kind in range(kind_of.max() + 1):
                yield from self._in_blocks(lulls[alike[kind_of.reshape(-1) == kind]], carried, int(count))

    def _in_blocks(self, lulls: "np.ndarray", carried: "np.ndarray", count: int) -> "Iterator[Bars]":
        """Yield the bars of lulls in blocks, so that what is reckoned on the way to a column stays small beside it."""
        import numpy as np

        blocks = np.cumsum(lulls[:, 2] - lulls[:, 1]) // BLOCK
        for alike in np.split(lulls, np.flatnonzero(np.diff(blocks)) + 1):
            yield Bars(self, alike, carried, count)


# A position as a lull carries it: what the figures of a bar follow from but the mark.
Carried = tuple["Slot", float, Sequence[Bracket], HoldingTerms]


class Bars:
    """The bars of lulls that held the same, one after the other: BAR_COLUMNS as arrays, each reckoned when it is asked for."""

    def __init__(self, passed: Passed, lulls: "np.ndarray", carried: "np.ndarray", count: int) -> None:
        import numpy as np

        self.passed, self.lulls = passed, lulls
        rows, starts, ends = (lulls[:, place].astype(np.int64) for place in range(3))
        self.lengths = ends - starts
        within = np.arange(self.lengths.sum()) - np.repeat(np.cumsum(self.lengths) - self.lengths, self.lengths)
        self.rows, self.bars = np.repeat(rows, self.lengths) + within, np.repeat(starts, self.lengths) + within
        first = lulls[:, -1].astype(np.int64)
        self.positions = [HeldBars(passed, carried[first + number], self.lengths, self.bars) for number in range(count)]

    def each(self, values: "np.ndarray") -> "np.ndarray":
        """Return a value for each bar from one for each lull."""
        import numpy as np

        return np.repeat(values, self.lengths)

    def at(self, values: array) -> "np.ndarray":
        """Return the values of these bars from those of all bars of a feed."""
        import numpy as np

        return np.frombuffer(values, np.float64)[self.bars]

    def write(self, columns: "Mapping[str, np.ndarray]") -> None:
        """Write these rows into some of BAR_COLUMNS."""
        for name, column in columns.items():
            column[self.rows] = getattr(self, name)

    @cached_property
    def time(self) -> "np.ndarray":
        return self.at(self.passed.stamps)

    @cached_property
    def wallet_balance(self) -> "np.ndarray":
        return self.each(self.lulls[:, 3])

    @cached_property
    def order_margin(self) -> "np.ndarray":
        return self.each(self.lulls[:, 5])

    @cached_property
    def equity(self) -> "np.ndarray":
        return sum((position.profit for position in self.positions), self.wallet_balance)

    @cached_property
    def lowest_equity(self) -> "np.ndarray":
        import numpy as np

        return np.minimum(sum((position.worst_profit for position in self.positions), self.wallet_balance), self.equity)

    @cached_property
    def notional(self) -> "np.ndarray":
        return self._sum(position.value for position in self.positions)

    @cached_property
    def initial_margin(self) -> "np.ndarray":
        return self._sum(position.margin for position in self.positions)

    @cached_property
    def maintenance_margin(self) -> "np.ndarray":
        return self._sum(maintenance_margins(position.brackets, position.value) for position in self.positions)

    @cached_property
    def available_margin(self) -> "np.ndarray":
        import numpy as np

        free = self.each(self.lulls[:, 4])
        for position in self.positions:
            if position.is_cross.all():
                free = free + (position.profit - position.margin)
            elif position.is_cross.any():
                free = np.where(self.each(position.is_cross), free + (position.profit - position.margin), free)
        return free - self.order_margin

    def _sum(self, parts: "Iterator[np.ndarray]") -> "np.ndarray":
        import numpy as np

        first = next(parts, None)
        return np.zeros(len(self.bars)) if first is None else sum(parts, first)


class HeldBars:
    """The part of one contract in the figures of such bars: ``lengths`` of their lulls, ``bars`` of the feeds.

    It does not know the Bars it is a part of: in a ring the two would keep their columns until Python's collector comes by.
    """

    def __init__(self, passed: Passed, carried: "np.ndarray", lengths: "np.ndarray", bars: "np.ndarray") -> None:
        self.carried, self.lengths, self.bars = carried, lengths, bars
        self.slot, self.brackets = passed.slots[int(carried[0, 0])], passed.brackets[int(carried[0, -1])]
        self.is_cross = carried[:, 4] == 0

    def each(self, place: int) -> "np.ndarray":
        """Return one of CARRIED_COLUMNS for each bar."""
        import numpy as np

        return np.repeat(self.carried[:, place], self.lengths)

    def at(self, values: array) -> "np.ndarray":
        """Return the values of these bars from those of all bars of the contract's feed."""
        import numpy as np

        return np.frombuffer(values, np.float64)[self.bars]

    @cached_property
    def units(self) -> "np.ndarray":
        return self.each(8)

    @cached_property
    def entry_price(self) -> "np.ndarray":
        return self.each(2)

    @cached_property
    def mark(self) -> "np.ndarray":
        return self.at(self.slot.mark_closes)

    @cached_property
    def profit(self) -> "np.ndarray":
        return self.units * (self.mark - self.entry_price)

    @cached_property
    def worst_profit(self) -> "np.ndarray":
        import numpy as np

        worst = np.where(self.units > 0, self.at(self.slot.mark_lows), self.at(self.slot.mark_highs))
        return self.units * (worst - self.entry_price)

    @cached_property
    def value(self) -> "np.ndarray":
        return abs(self.units) * self.mark

    @cached_property
    def margin(self) -> "np.ndarray":
        return self.value / self.each(5)


class HeldRuns:
    """The closing marks of one contract on the bars that got a look, in runs of bars on which it was held on the same terms.

    ``runs`` has the first row of each, where its marks begin, and its TERMS.
    """

    __slots__ = ("following", "marks", "runs", "terms")

    def __init__(self) -> None:
        self.runs, self.marks = array("d"), array("d")
        self.terms: HoldingTerms | None = None
        self.following = -1  # the row that the present run would go on with

    def __len__(self) -> int:
        return len(self.marks)

    def add(self, row: int, terms: HoldingTerms, mark: float) -> None:
        """Note the closing mark of a bar."""
        if row != self.following or terms != self.terms:
            self.runs.extend((row, len(self.marks), *terms))
            self.terms = terms
        self.marks.append(mark)
        self.following = row + 1

    def write(self, table: "np.ndarray") -> None:
        """Write the row, the TERMS and the mark of each bar into a table of HOLDING_COLUMNS."""
        import numpy as np

        marks = np.frombuffer(self.marks, np.float64)
        runs = np.frombuffer(self.runs, np.float64).reshape(-1, 2 + len(TERMS))
        begin = runs[:, 1].astype(np.int64)
        lengths = np.diff(begin, append=len(marks))
        write_holdings(table, np.repeat(runs[:, 0] - begin, lengths) + np.arange(len(marks)), runs[:, 2:], lengths, marks)


def write_holdings(table: "np.ndarray", rows: "np.ndarray", terms: "np.ndarray", lengths: "np.ndarray", marks: "np.ndarray") -> None:
    """Write a table of HOLDING_COLUMNS: ``rows`` and ``marks`` by bar, TERMS for as many bars as their ``lengths`` say."""
    import numpy as np

    table[:, 0], table[:, MARK_PLACE] = rows, marks
    for place, column in enumerate(terms.T, 1):
        table[:, place + (place >= MARK_PLACE)] = np.repeat(column, lengths)


def maintenance_margins(brackets: Sequence[Bracket], notionals: "np.ndarray") -> "np.ndarray":
    """Return ``core.tiers.maintenance_margin`` of each notional."""
    import numpy as np

    caps, rates, amounts = (np.array([getattr(bracket, name) for bracket in brackets]) for name in ("cap", "rate", "amount"))
    if len(notionals) and notionals.max() <= caps[0]:
        return notionals * rates[0] - amounts[0]
    tiers = np.searchsorted(caps, notionals).clip(max=len(caps) - 1)
    return notionals * rates[tiers] - amounts[tiers]
