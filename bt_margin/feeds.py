"""A Backtrader feed of perpetual-futures candles, with their mark prices and funding beside them.

Rows are read once, checked, cut to ``fromdate``/``todate`` and kept in plain ``array('d')`` columns; read-only arrays of the
user's are kept as they are. The seven lines and ``PerpData.perp`` come from the same rows: bar ``i`` of the lines (``i =
len(data) - 1``, no filter) is row ``i`` of every ``perp`` column. Times are UTC. A delivered stamp is the instant a bar is
known, its close.
"""

import math
import sys
from array import array
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import repeat
from numbers import Real
from pathlib import Path
from typing import Any

import backtrader as bt
from backtrader.linebuffer import LineBuffer

from .core.funding import FundingSchedule
from .detail import Detail
from .frames import (
    DAY,
    HOUR,
    MINUTE,
    PRICES,
    SECOND,
    Table,
    add_column,
    as_column,
    as_shared_column,
    bar_micros,
    left_of_bars,
    listed,
    numbers_of,
    prices_of,
    read_table,
    refuse_rows,
    span_text,
    unmap,
    utc_text,
    warn_of_local_time,
)
from .resampling import apart_of, settlements_of

FUNDING_PRICE_COLUMNS = ("mark_price", "markprice", "oracle_price")
READ = ("datetime", "open", "high", "low", "close")  # lines of every run that somebody reads; others are filled when one does
RATE_COLUMNS = ("rate", "funding_rate", "fundingrate", "last_funding_rate")
EPOCH_DAY = 719_163  # the host's number of 1970-01-01


class EmptyWindowError(ValueError):
    """No row is left between ``fromdate`` and ``todate``; ``told`` says what rows there are."""

    def __init__(self, told: str) -> None:
        super().__init__(f"{told}, which leave none between fromdate and todate, compared with the bars' closes; widen them")
        self.told = told


@dataclass(frozen=True, slots=True)
class PerpSeries:
    """The columns of one feed that are no lines: stamps, mark prices and funding.

    ``stamps`` are delivered stamps in seconds since 1970-01-01 UTC, one for each bar; the mark columns are as long, or
    None where no mark was given. ``constant_funding`` is the rate where one was assumed for every ``funding_hours``. ``gaps``
    counts the bars missing between the first and the last. ``detail`` has finer bars inside these. ``flags`` are policies
    that every result repeats.
    """

    stamps: "array[float]"
    bar_seconds: float
    mark_open: "array[float] | None"
    mark_high: "array[float] | None"
    mark_low: "array[float] | None"
    mark_close: "array[float] | None"
    funding: FundingSchedule | None
    constant_funding: float | None
    funding_hours: float
    gaps: int
    detail: Detail | None = None
    flags: tuple[str, ...] = ()

    def row_at(self, time: float) -> int:
        """Return the row delivered at a time (seconds, UTC), or the last one before it; -1 if there is none."""
        return bisect_right(self.stamps, time) - 1


class PerpData(bt.feed.DataBase):
    """Feed candles of a perpetual contract from a pandas DataFrame, a file, or arrays.

    Params, beside the host's own (``name``, ``fromdate``, ``todate``, ``filters``, ``sessionend``, ``tz``, ...):

      - ``dataname``: a DataFrame, or the path of a ``.csv`` (also compressed) or ``.parquet`` file. Its time is a
        DatetimeIndex or, failing that, the first column that is called as in TIME_COLUMNS (``datetime``,
        ``timestamp``, ``date``, ``open_time`` ...): ISO 8601 or whole seconds, milli-, micro- or nanoseconds since 1970. A
        zone is converted to UTC, none means UTC. Columns (any case) ``open high low close``; optional ``volume``,
        ``openinterest``, all four of ``mark_open mark_high mark_low mark_close``, and ``funding_rate``, blank except on
        settlement rows, whose stamp is the row's own time; ``funding_rate+4h`` is a rate four hours after it
        (``resample``). A line added by a subclass is filled from the column of its name.
        Or the same columns as a mapping of name to array (or sequence of numbers), or as a numpy structured array: times as
        ``datetime64`` in UTC or numbers as above, blanks as NaN. Those are read without pandas. Read-only arrays of float64, as
        ``np.load(path, mmap_mode="r")`` gives them, are not copied, so that processes share them: they must not change.

      - ``stamp`` (default: ``'open'``): what a row's time means. ``'open'``: rows are delivered one bar length later,
        when they are known; ``'close'``: as they stand, or at the bar's end where all are in its last second (07:59:59.999).

      - ``mark`` (default: ``None``): mark prices given apart, as ``dataname``, with ``open high low close`` (or
        ``mark_open`` ...) and a row for each candle's stamp; surplus rows do no harm.

      - ``funding`` (default: ``None``): rates by settlement stamp: a Series, or a path, DataFrame or arrays with times
        as above and a column of RATE_COLUMNS (``rate``, ``funding_rate`` ...), a ``FundingSchedule``, or one number charged
        every ``funding_hours`` from 00:00 UTC. Rates are fractions; positive: longs pay. A column of FUNDING_PRICE_COLUMNS
        (``mark_price`` ...) is the price that the venue paid by, blank where it is not known.

      - ``funding_hours`` (default: ``8.0``): the interval of a rate given as one number

      - ``grace_seconds`` (default: ``0.0``): a position opened up to so long after a stamp pays it too

      - ``detail`` (default: ``None``): finer bars of the same contract, which decide what happened inside a bar where its four
        prices do not: as ``dataname``, or a function of (start, end), two UTC datetimes, that returns a DataFrame or arrays of
        that span or None. Times, prices and marks as of ``dataname``. A path or function is read on the first bar that could
        liquidate. The finer bars fill each bar and are of its prices, up to a millionth; where some are missing the bar takes
        its path, and results say how often. Without marks of their own, theirs are last clipped to the mark of the bar.

      - ``flags`` (default: ``()``): policies by which the data was made, a few words each, which every result repeats

      - ``timeframe``, ``compression`` (default: ``None``): found from the bar length: whole days are ``Days``, whole
        minutes ``Minutes``, whole seconds ``Seconds``. Giving one leaves the other at the host's default.

    The bar length is the smallest difference between two rows; missing bars are kept missing and counted. A row off that
    grid, a bar that cannot be (high below low, a price not above 0, a blank) and a mark that is missing are a ValueError
    that names the row. Where three quarters of the differences, and no fewer than six, agree on a longer one, it is the
    rows at the shorter ones that are off the grid. As with every host feed, ``fromdate`` and ``todate`` are compared with the
    delivered stamp and are read in ``tz`` where that is given; rows outside them are in neither lines nor ``perp``,
    while funding keeps every stamp it was given.

    Stamps without a zone that cannot be UTC (four-hour candles at 01:00, eight-hour settlements at 03:00) are a
    LocalTimeWarning.
    """

    params = (
        ("stamp", "open"),
        ("mark", None),
        ("funding", None),
        ("funding_hours", 8.0),
        ("grace_seconds", 0.0),
        ("detail", None),
        ("flags", ()),
        ("timeframe", None),
        ("compression", None),
    )

    # The host reads these with getattr(data, name, None): None lets a broker fall back to the bar itself.
    tick_open = tick_high = tick_low = tick_close = tick_volume = tick_openinterest = tick_last = None
    # A missing attribute of a feed is looked up among its lines, so the state of a run needs class-level values.
    _bulk = False  # the lines were filled in one go, and nothing but the index moves
    _row = -1  # the row last handed to the host
    notes: tuple[str, ...] = ()  # how its files were read, where it was made from files

    def __init__(self) -> None:
        super().__init__()
        symbol = self._name = self.p.name or _stem(self.p.dataname)
        title = symbol or "PerpData"
        if self.p.stamp not in ("open", "close"):
            raise ValueError(f"{title}: stamp says whether rows are stamped at their 'open' or 'close', was {self.p.stamp!r}")
        if self.p.tzinput is not None:
            raise ValueError(f"{title}: PerpData is UTC only, give the frame a zone-aware index in place of tzinput={self.p.tzinput!r}")
        self._tz = self._gettz()
        self._window = self._asked_window()
        table = read_table(self.p.dataname, f"{title}: candle")
        bar = bar_micros(table, self.p.timeframe, self.p.compression)
        self.p.timeframe, self.p.compression = _labels(bar, self.p.timeframe, self.p.compression)
        left = left_of_bars(table, bar)
        if self.p.stamp == "open" and left is not None:
            raise ValueError(
                f"{table.where(0)} and all after it are stamped just before the end of a bar of {span_text(bar)}; call the column of "
                "opening times datetime, or give PerpData stamp='close'"
            )
        warn_of_local_time(table, bar)
        delivered = table.micros + (bar if self.p.stamp == "open" else 0 if left is None else left)
        days = _day_numbers(delivered)
        rows = _rows_within(table, days, self._window)
        self._columns = self._line_columns(table, rows, days)
        self.perp = self._perp(table, rows, delivered[rows], bar, title)
        table.unmap()
        for alias in self.getlinealiases():  # data.close is then a plain attribute, not a search through three objects
            if not hasattr(type(self), alias):
                setattr(self, alias, getattr(self.lines, alias))

    @classmethod
    def from_files(
        cls,
        last: Any,
        *,
        mark: Any = None,
        funding: Any = None,
        index: Any = None,
        name: str = "",
        start: Any = None,
        end: Any = None,
        timeframe: str | None = None,
        keep_detail: bool = False,
        missing_mark: str = "error",
        missing_funding: str | float = "error",
        funding_hours: float = 8.0,
        rate_unit: str = "fraction",
        stamp: str = "open",
        shape: str | Mapping[str, str] | None = None,
        where: Mapping[str, str] | None = None,
    ) -> "PerpData":
        """Return the feed of one contract from files of its last prices, mark prices and funding, in any shape that is known.

        ``last``, ``mark``, ``funding`` and ``index`` are each a path, several paths of one series, a DataFrame, rows of ccxt or arrays by
        name; ``shape`` says what a file is where that cannot be told ('ccxt', 'binance', 'bybit', 'okx', 'freqtrade', 'plain'; or by role,
        ``{"mark": "okx"}``), ``where`` which of its series is meant (``{"exchange": "okx"}``). See ``docs/data.md``.

        ``missing_mark``: bars without a mark are an 'error', or take 'last' or the 'index'. ``missing_funding``: settlements that are
        missing are an 'error', 'zero', or of a rate (a fraction) every ``funding_hours`` or at the interval beside them. Marks of longer
        bars than last's are fine last clipped to them (R29). Each of these is a flag of every result. ``timeframe`` makes longer bars of
        the candles ('4h'); ``keep_detail`` gives the shorter ones along as detail. ``start`` and ``end``: candles that open from
        the one and close up to the other, UTC; a day as ``end`` is that whole day. ``rate_unit`` 'percent' divides rates by 100.
        ``stamp`` says what the candles' times mean. ``notes`` of the feed tell how each file was read.
        """
        from .joining import Terms, joined

        window = (start, end, timeframe, keep_detail)
        terms = Terms(*window, missing_mark, missing_funding, funding_hours, rate_unit, stamp, shape, where)
        made, notes = joined({"last": last, "mark": mark, "index": index, "funding": funding}, name, terms)
        feed = cls(**made)
        feed.notes = notes
        return feed

    def _asked_window(self) -> tuple[float, float]:
        # The host makes these numbers when the feed starts, after the broker has; the rule is the same.
        start, end = self.p.sessionstart, self.p.sessionend
        opening = start.time() if isinstance(start, datetime) else start or time.min
        closing = end.time() if isinstance(end, datetime) else end or time(23, 59, 59, 999_990)
        window = []
        for name, clock, boundless in (("fromdate", opening, -math.inf), ("todate", closing, math.inf)):
            day = getattr(self.p, name)
            if day is not None and not isinstance(day, date):
                raise ValueError(f"{self._name or 'PerpData'}: {name} must be a date or datetime, was {day!r}")
            if day is not None and not isinstance(day, datetime):
                day = datetime.combine(day, clock)
            window.append(boundless if day is None else self.date2num(day))
        return window[0], window[1]

    def _line_columns(self, table: "Table", rows: slice, days: Any) -> list[Any]:
        # A DataFrame's own arrays are read-only too, and still change when somebody writes to the frame.
        kept = as_shared_column if table.has_arrays else as_column
        columns = prices_of(table, "", rows, kept)
        columns["datetime"] = as_column(days[rows])
        for alias in self.getlinealiases():
            if alias not in columns and alias in table.columns:
                values = numbers_of(table, alias)[rows]
                if alias == "volume":
                    refuse_rows(~(values >= 0) | (values == math.inf), table, rows, "volume must be 0 or more, was {}", values)
                columns[alias] = kept(values)
        return [columns.get(alias) for alias in self.getlinealiases()]

    def columns(self) -> dict[str, Any]:
        """Return the lines that are filled, but the times, and the mark prices: plain columns by name, a row for each bar."""
        found = {name: column for name, column in zip(self.getlinealiases(), self._columns, strict=True) if column is not None}
        del found["datetime"]
        if self.perp.mark_open is not None:
            found |= {f"mark_{price}": getattr(self.perp, f"mark_{price}") for price in PRICES}
        return found

    def _perp(self, table: "Table", rows: slice, delivered: Any, bar: int, title: str) -> PerpSeries:
        marks = _marks(table, rows, self.p.mark, title) or {}
        stamps = as_column(delivered / SECOND)
        bar_seconds = bar / SECOND
        return PerpSeries(
            stamps=stamps,
            bar_seconds=bar_seconds,
            mark_open=marks.get("open"),
            mark_high=marks.get("high"),
            mark_low=marks.get("low"),
            mark_close=marks.get("close"),
            funding=self._schedule(table, title, first=stamps[0] - bar_seconds, last=stamps[-1]),
            constant_funding=float(self.p.funding) if _is_number(self.p.funding) else None,
            funding_hours=self.p.funding_hours,
            gaps=int((delivered[-1] - delivered[0]) // bar) - (len(stamps) - 1),
            detail=None if self.p.detail is None else Detail(self.p.detail, title, stamp=self.p.stamp),
            flags=tuple(self.p.flags),
        )

    def _schedule(self, table: "Table", title: str, *, first: float, last: float) -> FundingSchedule | None:
        hours, grace = self.p.funding_hours, self.p.grace_seconds
        if not (_is_number(hours) and 0 < hours < math.inf):
            raise ValueError(f"{title}: funding_hours is the interval of a constant rate in hours, above 0, was {hours!r}")
        if not (_is_number(grace) and 0 <= grace < math.inf):
            raise ValueError(f"{title}: grace_seconds is a number of seconds, 0 or more, was {grace!r}")
        schedule = _funding(table, self.p.funding, title, first=first, last=last, hours=hours)
        return schedule if schedule is None or not grace else replace(schedule, grace_seconds=grace)

    def _gettz(self) -> Any:
        return _zone(self.p.tz, self._name or "PerpData")

    def start(self) -> None:
        """Return to the first row; refuse a window that is no longer the one the rows were cut to."""
        super().start()
        self._bulk, self._row = False, -1
        self._tick_nullify()
        if self._asked_window() != self._window:
            raise ValueError(
                f"{self._name or 'PerpData'}: fromdate, todate and the session are fixed once the feed is made, make another feed"
            )

    def _load(self) -> bool:
        row = self._row + 1
        if row >= len(self.perp.stamps):
            return False
        self._row = row
        for line, column in zip(self.lines.lines, self._columns, strict=True):
            if column is not None:
                line[0] = float(column[row])  # of an array it would be numpy's own kind of float, which some modes hand on
        return True

    def preload(self) -> None:
        """Fill the lines in one go, or bar by bar where a filter or anything else wants to see each bar."""
        if not self._is_plain():
            super().preload()
            return
        rows = len(self.perp.stamps)
        for alias, line, column in zip(self.getlinealiases(), self.lines.lines, self._columns, strict=True):
            ahead = line.array[:]  # NaN the host has put there for look-ahead, which its own loop would have left behind the bars
            del line.array[:]
            if alias in READ or ahead or type(line) is not LineBuffer:
                _fill(line.array, column, rows)
                line.array.extend(ahead)
            else:
                line.unread = column, rows
                line.__class__ = UnreadLine
        self._row = rows - 1
        self._last()
        self.home()
        self._bulk = True

    def _is_plain(self) -> bool:
        if self._filters or self._ffilters or self._barstack or self._barstash or self.resampling or self.replaying:
            return False
        if type(self)._load is not PerpData._load or type(self).load is not PerpData.load:
            return False
        return all(
            line.mode == line.UnBounded and not line.bindings and line.idx == -1 and len(line.array) == line.extension
            for line in self.lines.lines
        )

    def _tick_fill(self, force: bool = False) -> None:
        if not self._bulk:
            super()._tick_fill(force)

    def advance(self, size: int = 1, datamaster: Any = None, ticks: bool = True) -> None:
        """Move on by ``size`` bars; the bar is its own tick, so the host's tick attributes stay None after a bulk preload."""
        if not self._bulk or datamaster is not None:
            super().advance(size, datamaster, ticks)
            return
        lines = self.lines.lines
        index, count = lines[0]._idx + size, lines[0].lencount + size
        for line in lines:
            line._idx = index
            line.lencount = count

    def advance_peek(self) -> float:
        """Return the day number of the next bar, infinity after the last."""
        if not self._bulk:
            return super().advance_peek()
        line = self.datetime
        following = line._idx + 1
        return line.array[following] if following <= self._row else math.inf

    def next(self, datamaster: Any = None, ticks: bool = True) -> Any:
        """Deliver the next bar as the host does; return whether there was one."""
        if self._bulk and datamaster is None and self.datetime._idx < self._row:
            self.advance()
            return True
        return super().next(datamaster, ticks)

    def __len__(self) -> int:
        return self.lines.lines[0].lencount


class UnreadLine(LineBuffer):
    """A line that is filled once somebody reads it, and is then one of the host's: few strategies look at the volume."""

    @property
    def array(self) -> Any:
        """The line's values, which are filled in by asking for them."""
        column, rows = self.unread
        self._become_read()
        values = vars(self)["array"]
        if not values:  # a copy of the line, which has the same ones, may have been read before
            _fill(values, column, rows)
        return values

    @array.setter
    def array(self, values: Any) -> None:
        self._become_read()
        self.array = values

    def _become_read(self) -> None:
        self.__class__ = LineBuffer
        del self.unread


def _fill(values: "array[float]", column: Any, rows: int) -> None:
    """Write a column behind the values of a line, NaN where there is none."""
    if column is None:
        values.extend(repeat(math.nan, rows))
    else:
        add_column(values, column)
        unmap(column)


def load(
    last: Any, *, mark: Any = None, funding: Any = None, index: Any = None, symbol: str = "", clock: str = "own", **terms: Any
) -> dict[str, PerpData]:
    """Return the feeds of one contract or several by symbol, for ``run(data=...)``.

    ``last`` maps symbols to sources as ``PerpData.from_files`` takes them, and so do ``mark``, ``funding`` and ``index`` where there are
    several; or it is the source of one contract, called ``symbol`` or as its file says. ``terms`` are those of ``from_files`` and hold
    for all. ``clock``: with 'own' each contract has its own bars, and one that is listed later or ends earlier than others is
    flagged (the host calls ``prenext`` until all have begun); 'common' keeps the bars that all have, which the fast loop needs.
    """
    from .joining import Terms, joined, on_one_clock

    is_one = not isinstance(last, Mapping) or any(isinstance(value, int | float) or name in PRICES for name, value in last.items())
    sources = {symbol: last} if is_one else last
    if not sources:
        raise ValueError("last names no candles; give a file, or map each symbol to its own")
    told = Terms(**terms)
    beside = {
        role: _by_symbol(role, source, list(sources), is_one=is_one)
        for role, source in (("mark", mark), ("index", index), ("funding", funding))
    }
    made, notes = {}, {}
    for name, source in sources.items():
        params, noted = joined({"last": source, **{role: found.get(name) for role, found in beside.items()}}, name, told)
        if params["name"] in made:
            raise ValueError(f"{params['name']} is named twice; give each symbol one source")
        made[params["name"]], notes[params["name"]] = params, noted
    on_one_clock(made, clock)
    feeds = {name: PerpData(**params) for name, params in made.items()}
    for name, feed in feeds.items():
        feed.notes = notes[name]
    return feeds


def _by_symbol(role: str, source: Any, symbols: list[str], *, is_one: bool) -> dict[str, Any]:
    if source is None:
        return {}
    if is_one or not isinstance(source, Mapping):
        if len(symbols) > 1:
            raise ValueError(f"{role} is one contract's, but there are {listed(symbols)}; give a mapping by symbol")
        return {symbols[0]: source}
    unknown = [name for name in source if name not in symbols]
    if unknown:
        raise ValueError(f"{role} names {listed(unknown)}, but last has {listed(symbols)}")
    return dict(source)


class _Zone(tzinfo):
    # The host calls tz.localize, which zones of the standard library do not have and do not let anyone add.
    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    def __reduce__(self) -> Any:
        return _Zone, (self._zone,)

    def localize(self, moment: datetime) -> datetime:
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=self)

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return self._zone.utcoffset(moment and moment.replace(tzinfo=self._zone))

    def dst(self, moment: datetime | None) -> timedelta | None:
        return self._zone.dst(moment and moment.replace(tzinfo=self._zone))

    def tzname(self, moment: datetime | None) -> str | None:
        return self._zone.tzname(moment and moment.replace(tzinfo=self._zone))

    def fromutc(self, moment: datetime) -> datetime:
        return self._zone.fromutc(moment.replace(tzinfo=self._zone)).replace(tzinfo=self)


def _zone(tz: Any, title: str) -> Any:
    if tz is None or hasattr(tz, "localize"):
        return tz
    if isinstance(tz, tzinfo):
        return _Zone(tz)
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return _Zone(UTC if tz == "UTC" else ZoneInfo(tz))
    except (TypeError, ValueError, OSError, ZoneInfoNotFoundError) as error:
        raise ValueError(f"{title}: tz must be a zone name such as 'Asia/Shanghai' or a tzinfo, was {tz!r}") from error


def _stem(source: Any) -> str:
    # As the host's own file feeds do, a file without a given name is called after itself.
    return Path(source).name.split(".")[0] if isinstance(source, str | Path) else ""


def _labels(bar: int, timeframe: int | None, compression: int | None) -> tuple[int, int]:
    if timeframe is not None or compression is not None:
        return (bt.TimeFrame.Days if timeframe is None else timeframe, 1 if compression is None else compression)
    for label, micros in ((bt.TimeFrame.Days, DAY), (bt.TimeFrame.Minutes, MINUTE), (bt.TimeFrame.Seconds, SECOND)):
        if bar % micros == 0:
            return label, bar // micros
    return bt.TimeFrame.MicroSeconds, bar


def _day_numbers(micros: Any) -> Any:
    # Equal to the host's date2num in every bit for whole milliseconds: both then round the same exact sum, which is
    # never as near to a tie as their divisions err. Finer stamps can be, so those take the host's own way.
    days = (EPOCH_DAY + micros // DAY) + (micros % DAY) / DAY
    for row in (micros % 1_000).nonzero()[0]:
        days[row] = bt.date2num(datetime(1970, 1, 1) + timedelta(microseconds=int(micros[row])))
    return days


def _rows_within(table: Table, days: Any, window: tuple[float, float]) -> slice:
    import numpy as np

    first, end = (int(np.searchsorted(days, window[0], "left")), int(np.searchsorted(days, window[1], "right")))
    if first >= end:
        raise EmptyWindowError(f"{table.title} rows are from {utc_text(table.micros[0])} to {utc_text(table.micros[-1])}")
    return slice(first, end)


def _marks(table: Table, rows: slice, source: Any, title: str) -> "dict[str, array[float]] | None":
    import numpy as np

    own = any("mark_" + price in table.columns for price in PRICES)
    if source is None:
        return prices_of(table, "mark_", rows) if own else None
    if own:
        raise ValueError(f"{title}: mark= was given and the candles have mark columns too, drop one of them")
    marks = read_table(source, f"{title}: mark")
    wanted = table.micros[rows]
    at = np.searchsorted(marks.micros, wanted).clip(max=len(marks.micros) - 1)
    missing = marks.micros[at] != wanted
    if missing.any():
        raise ValueError(
            f"{title}: {int(missing.sum())} of {len(wanted)} candles have no mark row of their stamp, the first is candle "
            f"row {rows.start + int(missing.argmax())} ({utc_text(wanted[missing.argmax()])}); add them, or leave those candles out"
        )
    prefix = "mark_" if any("mark_" + price in marks.columns for price in PRICES) else ""
    columns = prices_of(marks, prefix, at)
    marks.unmap()
    return columns


def _funding(table: Table, source: Any, title: str, *, first: float, last: float, hours: float) -> FundingSchedule | None:
    import numpy as np

    settled = settlements_of(table)
    if settled is not None:
        if source is not None:
            raise ValueError(f"{title}: funding= was given and the candles have a funding_rate column too, drop one of them")
        if {name for name in table.columns if apart_of(name)} or "funding_mark" in table.columns:
            stamps, rates, marks = settled
            columns = {"funding_rate": rates, "funding_mark": marks}
            apart = Table(table.title, columns, {name: name for name in columns}, stamps, table.has_zone)
            return _schedule(apart, "funding_rate", slice(None), "funding_mark")
        return _schedule(table, "funding_rate", ~np.isnan(numbers_of(table, "funding_rate")))
    if source is None:
        return None
    if _is_number(source):
        if not abs(source) <= 1:
            raise ValueError(f"{title}: funding must be a fraction (0.01 % is 0.0001), was {source}")
        return FundingSchedule.constant(float(source), first=first, last=last, interval_seconds=hours * 3600)
    if isinstance(source, FundingSchedule):
        for stamp, rate in zip(source.stamps, source.rates, strict=True):
            if abs(rate) > 1:
                raise ValueError(
                    f"{title}: the funding rate at {utc_text(round(stamp * SECOND))} must be a fraction (0.01 % is 0.0001), was {rate}"
                )
        return source
    pandas = sys.modules.get("pandas")  # where nothing has loaded it yet, nothing is a Series
    is_series = pandas is not None and isinstance(source, pandas.Series)
    rates = read_table(source.to_frame("rate") if is_series else source, f"{title}: funding")
    names = [name for name in RATE_COLUMNS if name in rates.columns]
    if len(names) != 1:
        raise ValueError(
            f"{rates.title} frame must have one column of rates, called {' or '.join(RATE_COLUMNS[:2])}, has {listed(rates.frame)}"
        )
    return _schedule(rates, names[0], slice(None), next((known for known in FUNDING_PRICE_COLUMNS if known in rates.columns), None))


def _warn_of_local_funding(table: Table, stamps: Any) -> None:
    """Warn where settlements seem to be stamped in local time; BitMEX's are at 04:00, 12:00 and 20:00 UTC."""
    if len(stamps) < 3:
        return
    steps = (stamps[1:] - stamps[:-1] + MINUTE // 2) // MINUTE * MINUTE
    settlements = Table(f"{table.title} funding" if "funding" not in table.title else table.title, None, {}, stamps, table.has_zone)
    warn_of_local_time(settlements, int(steps.min()), offset=4 * HOUR)


def _schedule(table: Table, name: str, kept: Any, paid_by: str | None = None) -> FundingSchedule:
    import numpy as np

    rows, rates = np.arange(len(table.micros))[kept], numbers_of(table, name)[kept]
    _warn_of_local_funding(table, table.micros[rows])
    refuse_rows(~(abs(rates) <= 1), table, rows, "a funding rate must be a fraction (0.01 % is 0.0001), was {}", rates)
    prices = np.array([]) if paid_by is None else numbers_of(table, paid_by)[kept]
    refuse_rows((prices <= 0) | np.isinf(prices), table, rows, f"{paid_by} must be a price above 0 or blank, was {{}}", prices)
    try:
        return FundingSchedule(tuple((table.micros[rows] / SECOND).tolist()), tuple(rates.tolist()), tuple(prices.tolist()))
    except ValueError as error:
        raise ValueError(f"{table.title}: {error}") from error


def _is_number(source: Any) -> bool:
    return isinstance(source, Real) and not isinstance(source, bool)
