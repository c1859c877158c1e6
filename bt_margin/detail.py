"""Finer bars inside the bars of a feed, read on the first bar that needs them.

They decide what happened inside a bar whose own four prices do not. So they must be of the same prices: cut into equal
parts of the bar, beginning and ending where it does, and reaching as far.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .core.path import Track
from .frames import PRICES, SECOND, Table, bar_micros, holds_arrays, is_empty, left_of_bars, prices_of, read_table, span_text, utc_text

if TYPE_CHECKING:
    from .slots import Slot

Prices = tuple[float, float, float, float]  # open, high, low, close
TOLERANCE = 1e-6  # of a price: how far the detail may be off its bar, for prices that were rounded on their way


class FineBars(NamedTuple):
    """The finer bars of one bar, ``micros`` long each: last prices and marks."""

    micros: int
    last: Sequence[Prices]
    marks: Sequence[Prices]


class Detail:
    """The finer bars of one feed.

    ``source`` is what PerpData takes as ``detail``; ``stamp`` says what its times mean, as that of the feed does. Nothing is
    read before the first call of ``bars``.
    """

    def __init__(self, source: Any, title: str, *, stamp: str) -> None:
        is_path = isinstance(source, str | Path)
        if not (hasattr(source, "columns") or holds_arrays(source) or callable(source) or is_path):
            raise ValueError(
                f"{title}: detail is a DataFrame, the path of a .csv or .parquet file, arrays by name, or a function of (start, end) that "
                f"returns a DataFrame or arrays, was {type(source).__name__}"
            )
        if is_path and not Path(source).expanduser().is_file():
            raise ValueError(f"{title}: detail file {str(source)!r} does not exist; give the path of a .csv or .parquet file")
        self.source, self.title, self.is_at_close = source, title, stamp == "close"
        self.has_marks: bool | None = None  # known once something was read
        self._latest: tuple[int, int, _Rows | None] = (0, 0, None)  # what a function was asked for last, and said

    @cached_property
    def _whole(self) -> "_Rows":
        return _Rows(read_table(self.source, f"{self.title}: detail"), None, is_at_close=self.is_at_close)

    def _rows(self, start: int, end: int) -> "_Rows | None":
        if not callable(self.source):
            return self._whole
        if self._latest[:2] != (start, end):
            began = datetime(1970, 1, 1, tzinfo=UTC)
            frame = self.source(began + timedelta(microseconds=start), began + timedelta(microseconds=end))
            table = None if frame is None or is_empty(frame) else read_table(frame, f"{self.title}: detail")
            self._latest = (start, end, None if table is None else _Rows(table, end - start, is_at_close=self.is_at_close))
        return self._latest[2]

    def bars(self, slot: "Slot") -> FineBars | None:
        """Return the finer bars of a slot's present bar, None where they are not all there; ValueError where they are not of it."""
        start, end = round(slot.open_time * SECOND), round(slot.close_time * SECOND)
        rows = self._rows(start, end)
        if rows is None:
            return None
        first, last = rows.within(start, end)
        if first == last:
            return None
        where = f"{self.title}: the detail of the bar opened {utc_text(start)}"
        if rows.micros > end - start or (end - start) % rows.micros:
            raise ValueError(
                f"{where} has bars of {span_text(rows.micros)}, of which one of {span_text(end - start)} is no whole number; "
                "give a finer frame whose bars fill it"
            )
        if (rows.opened[first] - start) % rows.micros:
            raise ValueError(
                f"{where} begins at {utc_text(rows.opened[first])}; its bars of {span_text(rows.micros)} must start where the bar does"
            )
        if last - first != (end - start) // rows.micros:
            return None
        self.has_marks = rows.marks is not None
        if self.has_marks and not slot.has_own_mark:
            raise ValueError(f"{self.title}: the detail has mark prices and the candles have none; give both or neither")
        coarse = (slot.open, slot.high, slot.low, slot.close)
        lasts = _fitted(rows.last[first:last], coarse, where, "")
        coarse_mark = (slot.mark_open, slot.mark_high, slot.mark_low, slot.mark_close)
        if rows.marks is not None:
            return FineBars(rows.micros, lasts, _fitted(rows.marks[first:last], coarse_mark, where, "mark "))
        return FineBars(rows.micros, lasts, _clipped(lasts, coarse_mark) if slot.has_own_mark else lasts)


class _Rows:
    """A checked frame of finer bars; ``whole`` is the length of the one bar there is where the rows cannot tell."""

    def __init__(self, table: Table, whole: int | None, *, is_at_close: bool) -> None:
        import numpy as np

        rows = np.arange(len(table.micros))
        if len(rows) == 1 and whole is None:
            raise ValueError(f"{table.where(0)} stands alone, and the length of a finer bar is the time between two; give more rows")
        self.micros = whole if whole is not None and len(rows) == 1 else bar_micros(table, None, None)
        left = left_of_bars(table, self.micros)
        self.opened = (table.micros + (0 if left is None else left) - self.micros if is_at_close else table.micros).tolist()
        self.last = list(zip(*prices_of(table, "", rows).values(), strict=True))
        self.marks: list[Prices] | None = None
        if any(f"mark_{price}" in table.columns for price in PRICES):
            self.marks = list(zip(*prices_of(table, "mark_", rows).values(), strict=True))

    def within(self, start: int, end: int) -> tuple[int, int]:
        """Return the first row that opens in a span and the one after the last."""
        return bisect_left(self.opened, start), bisect_left(self.opened, end)


def _fitted(bars: Sequence[Prices], whole: Prices, where: str, what: str) -> list[Prices]:
    """Return bars with the corners of the whole bar put in place of theirs; ValueError where these are not the same."""
    theirs = (bars[0][0], max(bar[1] for bar in bars), min(bar[2] for bar in bars), bars[-1][3])
    for name, fine, coarse in zip(PRICES, theirs, whole, strict=True):
        if abs(fine - coarse) > TOLERANCE * coarse:
            raise ValueError(
                f"{where} has {what}{name} {fine:.10g} where the bar has {coarse:.10g}; give finer bars of the same prices, or leave it out"
            )
    return _reaching(_within(bars, whole), bars, whole)


def _within(bars: Sequence[Prices], whole: Prices) -> list[Prices]:
    """Return bars clipped to the extremes of a whole bar, which begin and end where it does."""
    opened, high, low, closed = whole
    clipped = [[min(max(price, low), high) for price in bar] for bar in bars]
    clipped[0][0], clipped[-1][3] = opened, closed
    return [(bar[0], max(bar), min(bar), bar[3]) for bar in clipped]


def _clipped(bars: Sequence[Prices], marks: Prices) -> list[Prices]:
    """Return fine marks where none are known: fine last, clipped to what the mark did in the whole bar (R29).

    The mark has been at its extremes; where last was lowest and highest is where it is taken to have been there.
    """
    return _reaching(_within(bars, marks), bars, marks)


def _reaching(fine: list[Prices], bars: Sequence[Prices], whole: Prices) -> list[Prices]:
    """Return clipped bars that reach the extremes of the whole bar, where ``bars`` were at theirs."""
    lowest = min(range(len(bars)), key=lambda number: bars[number][2])
    highest = max(range(len(bars)), key=lambda number: bars[number][1])
    opened, high, _, closed = fine[lowest]
    fine[lowest] = (opened, high, whole[2], closed)
    opened, _, low, closed = fine[highest]
    fine[highest] = (opened, whole[1], low, closed)
    return fine


def in_parts(fine: Mapping[str, FineBars], tracks: Sequence[Track]) -> list[dict[str, Track]]:
    """Return for each part of a bar the tracks of the contracts that have detail, all cut to one length.

    That is the least of which the lengths of all are divisors.
    """
    if not fine:
        return []
    micros = lcm(*(bars.micros for bars in fine.values()))
    series = {track.symbol: track.series for track in tracks}
    cut = {symbol: [_joined(run, micros // bars.micros) for run in (bars.last, bars.marks)] for symbol, bars in fine.items()}
    parts = len(next(iter(cut.values()))[0])
    return [
        {symbol: Track(symbol, *marks[number], lasts[number], series[symbol]) for symbol, (lasts, marks) in cut.items()}
        for number in range(parts)
    ]


def _joined(bars: Sequence[Prices], every: int) -> Sequence[Prices]:
    """Return bars put together by so many."""
    if every == 1:
        return bars
    groups = [bars[first : first + every] for first in range(0, len(bars), every)]
    return [(group[0][0], max(bar[1] for bar in group), min(bar[2] for bar in group), group[-1][3]) for group in groups]
