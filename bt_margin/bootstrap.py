"""Market paths that could have been: the stationary bootstrap of market rows, all contracts together, on the clock of the history.

What is drawn are rows, never returns of a strategy: a bar's open, high, low, close and marks as moves from the close before it, its
volume, and the funding settled inside it. A strategy and the margin rules run on such a path anew, so that it has liquidations of its
own. Source: Politis and Romano, "The Stationary Bootstrap", Journal of the American Statistical Association 89, 1994.

Blocks of rows begin at random and go on for a random (geometric) number of bars. The stamps of a path are those of the history. A row
may stand in for another only if it is at the same phase of the funding interval: a block begins at such a row, and behind a gap or at
the end of the history (where it goes on from the beginning) it goes on at the next such row. So every funding stamp of the history is a
stamp of the path, with one rate, that of the settlement at the same place of the row that was drawn.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import inf, lcm
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SECOND = 10**6  # microseconds
DAY = 86_400 * SECOND
PRICES = ("open", "high", "low", "close", "mark_open", "mark_high", "mark_low", "mark_close")  # what moves with the price


@dataclass(frozen=True, slots=True)
class Candles:
    """The rows of one contract as arrays.

    ``closes_at`` are the bars' closing instants, ``stamps`` those of funding, both whole microseconds since 1970 UTC and rising;
    ``bar`` is the length of a bar in microseconds. ``columns`` has open, high, low and close, and where there are any volume and the
    four mark prices. ``rates`` are the funding rates of the stamps, ``paid_by`` the prices they were paid by, NaN where not known,
    or empty.
    """

    symbol: str
    closes_at: "np.ndarray"
    bar: int
    columns: "Mapping[str, np.ndarray]"
    stamps: "np.ndarray"
    rates: "np.ndarray"
    paid_by: "np.ndarray"

    def __len__(self) -> int:
        return len(self.closes_at)

    def taken(self, rows: "np.ndarray | slice") -> "Candles":
        """Return these rows of it, with all of the funding."""
        return replace(self, closes_at=self.closes_at[rows], columns={name: column[rows] for name, column in self.columns.items()})

    def during(self, first: int, end: int) -> "Candles":
        """Return the rows from ``first`` up to ``end``, with the funding of their time alone: what came before or after is not known."""
        rows = self.taken(slice(first, end))
        begins, ends = rows.closes_at[0] - self.bar, rows.closes_at[-1]
        known = (self.stamps >= begins) & (self.stamps <= ends)
        paid_by = self.paid_by[known] if len(self.paid_by) else self.paid_by
        return replace(rows, stamps=self.stamps[known], rates=self.rates[known], paid_by=paid_by)


def generator(seed: int, path: int) -> "np.random.Generator":
    """Return the random numbers of one path: the same for a seed and a path, whatever else is drawn and by how many processes."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(path,))))


def common(history: Sequence[Candles]) -> tuple[list[Candles], str]:
    """Return the rows that all contracts have, and a sentence on what was left out, '' where nothing was.

    ValueError where bars are of different lengths, or where no instant has a row of every contract.
    """
    import numpy as np

    lengths = {candles.symbol: candles.bar for candles in history}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{symbol} {bar / SECOND:g} s" for symbol, bar in lengths.items())
        raise ValueError(f"contracts are drawn together, so their bars must be of one length, were {told}; resample the finer ones")
    shared = reduce(np.intersect1d, [candles.closes_at for candles in history])
    if not len(shared):
        spans = ", ".join(f"{candles.symbol} {_iso(candles.closes_at[0])} to {_iso(candles.closes_at[-1])}" for candles in history)
        raise ValueError(f"contracts are drawn together, but no bar is of all of them ({spans}); leave out the one listed latest")
    longest = max(len(candles) for candles in history)
    if all(len(candles) == len(shared) for candles in history):
        return list(history), ""
    told = (
        f"only bars that all contracts have, {_iso(shared[0])} to {_iso(shared[-1])}: {len(shared)} of {longest}; a contract listed later "
        "than the others shortens all"
    )
    return [candles.taken(np.searchsorted(candles.closes_at, shared)) for candles in history], told


def funding_clock(history: Sequence[Candles]) -> int:
    """Return the time in microseconds after which funding is at the same phase again for all contracts: their intervals' least common
    multiple, one bar where none pays funding.

    The interval of a contract is the most frequent step of its stamps. ValueError where the multiple is longer than a day, which no
    venues' intervals make.
    """
    import numpy as np

    intervals = {}
    for candles in history:
        if len(candles.stamps) > 1:
            steps, counts = np.unique(np.diff(candles.stamps), return_counts=True)
            intervals[candles.symbol] = int(steps[counts.argmax()])
    clock = lcm(*intervals.values()) if intervals else history[0].bar
    if clock > DAY and len(intervals) > 1:
        told = ", ".join(f"{symbol} {interval / SECOND / 3600:g} h" for symbol, interval in intervals.items())
        raise ValueError(f"the funding intervals have no common clock within a day ({told}); give stamps as the venue settles them")
    return clock


def drawn_rows(opens_at: "np.ndarray", clock: int, block: float, random: "np.random.Generator") -> "np.ndarray":
    """Return which row of the history stands at each row of a path.

    ``opens_at`` are the bars' opening instants in microseconds, ``clock`` the length of the funding clock, ``block`` the mean length
    of a block in bars, 1 or more; with infinity the path is the history begun elsewhere, in a circle.
    """
    import numpy as np

    phases = opens_at % clock
    names, places = np.unique(phases, return_inverse=True)
    rows_of = [np.flatnonzero(places == name).tolist() for name in range(len(names))]
    count = len(opens_at)
    begins = (random.random(count) < 1 / block).tolist()
    begins[0] = True
    picks, phase_of = random.random(count).tolist(), places.tolist()
    drawn, row = [], 0
    for begin, pick, phase in zip(begins, picks, phase_of, strict=True):
        row += 1
        if begin:
            rows = rows_of[phase]
            row = rows[int(pick * len(rows))]
        elif row == count or phase_of[row] != phase:
            rows = rows_of[phase]
            following = bisect_left(rows, row)
            row = rows[following] if following < len(rows) else rows[0]
        drawn.append(row)
    return np.array(drawn)


def resampled(history: Sequence[Candles], block: float, random: "np.random.Generator") -> list[Candles]:
    """Return one path of all contracts, drawn from rows of equal stamps (see ``common``), at the prices each history begins with.

    ``block`` is the mean length of a block in bars. Highs, lows and marks keep their places beside their row's close: a row is the
    drawn one times (close before it on the path / close before it in the history). The first row of the history has no close before
    it, and its open stands in.
    """
    if not 1 <= block <= inf:
        raise ValueError(f"block is the mean length of a block in bars, 1 or more, was {block}")
    first = history[0]
    opens_at = first.closes_at - first.bar
    rows = drawn_rows(opens_at, funding_clock(history), block, random)
    return [_moved(candles, rows) for candles in history]


def _moved(candles: Candles, rows: "np.ndarray") -> Candles:
    """Return the drawn rows of one contract, their prices joined to each other and their funding put on its stamps."""
    import numpy as np

    columns = candles.columns
    closes = np.asarray(columns["close"])
    before = np.concatenate([columns["open"][:1], closes[:-1]])
    # Inside a block the close before a row is the close of the row before, the quotient 1 and the scale the same to the last bit.
    jumps = np.concatenate([[before[0]], closes[rows[:-1]]]) / before[rows]
    scale = np.exp(np.cumsum(np.log(jumps)))
    moved = {name: column[rows] * scale if name in PRICES else column[rows] for name, column in columns.items()}
    rates, paid_by = _settled(candles, rows, scale)
    return replace(candles, columns=moved, rates=rates, paid_by=paid_by)


def _settled(candles: Candles, rows: "np.ndarray", scale: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """Return rate and price of each stamp: what was settled as long after the open of the row drawn, or before that where nothing was.

    The latter is so where a venue has changed its interval. Stamps inside no bar, of gaps and beyond the ends, keep what they had.
    """
    import numpy as np

    rates, paid_by = candles.rates.copy(), candles.paid_by.copy()
    if not len(rates):
        return rates, paid_by
    opens_at = candles.closes_at - candles.bar
    places = np.searchsorted(opens_at, candles.stamps, side="right") - 1
    inside = (places >= 0) & (candles.stamps < candles.closes_at[places])
    places = places[inside]
    instants = opens_at[rows[places]] + candles.stamps[inside] - opens_at[places]
    settled = (np.searchsorted(candles.stamps, instants, side="right") - 1).clip(min=0)
    rates[inside] = candles.rates[settled]
    if len(paid_by):
        paid_by[inside] = candles.paid_by[settled] * scale[places]
    return rates, paid_by


def _iso(micros: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(micros / SECOND, UTC):%Y-%m-%d %H:%M} UTC"
