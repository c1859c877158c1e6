"""A Backtrader feed of perpetual-futures candles, with their mark prices and funding beside them.

Rows are read once, checked, cut to ``fromdate``/``todate`` and kept in plain ``array('d')`` columns. The seven lines
and ``PerpData.perp`` come from the same rows: bar ``i`` of the lines (``i = len(data) - 1``, no filter) is row ``i``
of every ``perp`` column. Times are UTC. A delivered stamp is the instant a bar is known, its close.
"""

import math
import warnings
from array import array
from bisect import bisect_right
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from numbers import Real
from pathlib import Path
from typing import Any

import backtrader as bt

from .core.funding import FundingSchedule

PRICES = ("open", "high", "low", "close")
TIME_COLUMNS = ("datetime", "timestamp", "date", "time", "open_time", "open time", "calc_time", "fundingtime", "funding_time", "unix")
FUNDING_PRICE_COLUMNS = ("mark_price", "markprice", "oracle_price")
RATE_COLUMNS = ("rate", "funding_rate", "fundingrate", "last_funding_rate")
DUMP_COLUMNS = ("open_time", *PRICES, "volume", "close_time")  # of Binance's candle dumps, many of which have no line of names
DUMP_WIDTH = 12  # columns
CSV_SUFFIXES = (".csv", ".gz", ".zip", ".bz2", ".xz", ".zst")
EPOCH_DAY = 719_163  # the host's number of 1970-01-01
SECOND, MINUTE, HOUR, DAY = (10**6, 60 * 10**6, 3_600 * 10**6, 86_400 * 10**6)  # microseconds
EPOCH_UNITS = {"s": SECOND, "ms": 10**3, "us": 1, "ns": 10**-3}  # what a whole number may count since 1970, in microseconds
EPOCH_YEARS = (1990, 2100)  # outside of which a number is no time in that unit; the spans of two units are far apart
FRAME_MICROS = {bt.TimeFrame.Seconds: SECOND, bt.TimeFrame.Minutes: MINUTE, bt.TimeFrame.Days: DAY}


class LocalTimeWarning(UserWarning):
    """Stamps without a zone, read as UTC, lie where no venue's candles or settlements do: they seem to be local time."""


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
    counts the bars missing between the first and the last.
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

    def row_at(self, time: float) -> int:
        """Return the row delivered at a time (seconds, UTC), or the last one before it; -1 if there is none."""
        return bisect_right(self.stamps, time) - 1


class PerpData(bt.feed.DataBase):
    """Feed candles of a perpetual contract from a pandas DataFrame or a file.

    Params, beside the host's own (``name``, ``fromdate``, ``todate``, ``filters``, ``sessionend``, ``tz``, ...):

      - ``dataname``: a DataFrame, or the path of a ``.csv`` (also compressed) or ``.parquet`` file. Its time is a
        DatetimeIndex or, failing that, the first column that is called as in TIME_COLUMNS (``datetime``,
        ``timestamp``, ``date``, ``open_time`` ...): ISO 8601 or whole seconds, milli-, micro- or nanoseconds since 1970. A
        zone is converted to UTC, none means UTC. Columns (any case) ``open high low close``; optional ``volume``,
        ``openinterest``, all four of ``mark_open mark_high mark_low mark_close``, and ``funding_rate``, blank except on
        settlement rows, whose stamp is the row's own time. A line added by a subclass is filled from the column of its name.

      - ``stamp`` (default: ``'open'``): what a row's time means. ``'open'``: rows are delivered one bar length later,
        when they are known; ``'close'``: as they stand, or at the bar's end where all are in its last second (07:59:59.999).

      - ``mark`` (default: ``None``): mark prices given apart, a DataFrame or path with ``open high low close`` (or
        ``mark_open`` ...) and a row for each candle's stamp; surplus rows do no harm.

      - ``funding`` (default: ``None``): rates by settlement stamp: a Series, a path or DataFrame with times
        as above and a column of RATE_COLUMNS (``rate``, ``funding_rate`` ...), a ``FundingSchedule``, or one number charged
        every ``funding_hours`` from 00:00 UTC. Rates are fractions; positive: longs pay. A column of FUNDING_PRICE_COLUMNS
        (``mark_price`` ...) is the price that the venue paid by, blank where it is not known.

      - ``funding_hours`` (default: ``8.0``): the interval of a rate given as one number

      - ``grace_seconds`` (default: ``0.0``): a position opened up to so long after a stamp pays it too

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
        ("timeframe", None),
        ("compression", None),
    )

    # The host reads these with getattr(data, name, None): None lets a broker fall back to the bar itself.
    tick_open = tick_high = tick_low = tick_close = tick_volume = tick_openinterest = tick_last = None
    # A missing attribute of a feed is looked up among its lines, so the state of a run needs class-level values.
    _bulk = False  # the lines were filled in one go, and nothing but the index moves
    _row = -1  # the row last handed to the host

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
        table = _table(self.p.dataname, f"{title}: candle")
        bar = _bar_micros(table, self.p.timeframe, self.p.compression)
        self.p.timeframe, self.p.compression = _labels(bar, self.p.timeframe, self.p.compression)
        left = _left_of_bars(table, bar)
        if self.p.stamp == "open" and left is not None:
            raise ValueError(
                f"{table.where(0)} and all after it are stamped just before the end of a bar of {_span(bar)}; call the column of opening "
                "times datetime, or give PerpData stamp='close'"
            )
        _warn_of_local_time(table, bar)
        delivered = table.micros + (bar if self.p.stamp == "open" else 0 if left is None else left)
        days = _day_numbers(delivered)
        rows = _rows_within(table, days, self._window)
        self._columns = self._line_columns(table, rows, days)
        self.perp = self._perp(table, rows, delivered[rows], bar, title)
        for alias in self.getlinealiases():  # data.close is then a plain attribute, not a search through three objects
            if not hasattr(type(self), alias):
                setattr(self, alias, getattr(self.lines, alias))

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

    def _line_columns(self, table: "_Table", rows: Any, days: Any) -> "list[array[float] | None]":
        columns = _prices(table, "", rows)
        columns["datetime"] = _column(days[rows])
        for alias in self.getlinealiases():
            if alias not in columns and alias in table.columns:
                values = _numbers(table, alias)[rows]
                if alias == "volume":
                    _refuse(~(values >= 0) | (values == math.inf), table, rows, "volume must be 0 or more, was {}", values)
                columns[alias] = _column(values)
        return [columns.get(alias) for alias in self.getlinealiases()]

    def _perp(self, table: "_Table", rows: Any, delivered: Any, bar: int, title: str) -> PerpSeries:
        marks = _marks(table, rows, self.p.mark, title) or {}
        stamps = _column(delivered / SECOND)
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
        )

    def _schedule(self, table: "_Table", title: str, *, first: float, last: float) -> FundingSchedule | None:
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
                line[0] = column[row]
        return True

    def preload(self) -> None:
        """Fill the lines in one go, or bar by bar where a filter or anything else wants to see each bar."""
        if not self._is_plain():
            super().preload()
            return
        rows = len(self.perp.stamps)
        for line, column in zip(self.lines.lines, self._columns, strict=True):
            # In front of the NaN the host has put there for look-ahead, where its own loop would have left them.
            line.array[0:0] = array("d", (math.nan,)) * rows if column is None else column
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


@dataclass(frozen=True, slots=True)
class _Table:
    title: str  # what its sentences start with
    frame: Any
    columns: dict[str, Any]  # name, lower-case and without spaces around it -> the frame's own
    micros: Any  # int64 microseconds since the epoch, rising
    has_zone: bool  # whether the times said that they are UTC, or how far from it

    def where(self, row: int) -> str:
        return f"{self.title} row {row} ({_utc(self.micros[row])})"


def _table(source: Any, title: str) -> _Table:
    frame = _frame(source, title)
    columns: dict[str, Any] = {}
    for name in frame.columns:
        told = str(name).strip().lower()
        if columns.setdefault(told, name) is not name or list(frame.columns).count(name) > 1:
            raise ValueError(f"{title} columns name {told!r} twice, drop or rename one")
    if not len(frame):
        raise ValueError(f"{title} frame has no rows, give at least one")
    micros, has_zone = _micros(frame, columns, title)
    table = _Table(title, frame, columns, micros, has_zone)
    _check_rising(table, source)
    return table


def _frame(source: Any, title: str) -> Any:
    import zlib
    from lzma import LZMAError
    from zipfile import BadZipFile

    import pandas as pd

    if isinstance(source, pd.DataFrame):
        return source
    if not isinstance(source, str | Path):
        raise ValueError(f"{title} source must be a pandas DataFrame or the path of a .csv or .parquet file, was {type(source).__name__}")
    path = Path(source).expanduser()
    if not path.is_file():
        told = "is a folder" if path.is_dir() else "is an address, download it first" if "://" in str(source) else "does not exist"
        raise ValueError(f"{title} file {str(source)!r} {told}; give the path of a .csv or .parquet file")
    if path.suffix.lower() not in (".parquet", *CSV_SUFFIXES):
        raise ValueError(f"{title} file {str(source)!r} must end in .parquet or one of {' '.join(CSV_SUFFIXES)}")
    # Before 3.1 the default parser of pandas could be one unit in the last place off what was written.
    exact = {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}
    try:
        if not path.stat().st_size:
            raise pd.errors.EmptyDataError
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path)
        terms = {"sep": _separator(path), **exact}
        frame = pd.read_csv(path, **terms)
        if len(frame.columns) == DUMP_WIDTH and _is_nameless(frame):
            frame = _dump(path, terms)
    except pd.errors.EmptyDataError as error:
        raise ValueError(f"{title} file {str(source)!r} is empty; expected a line of column names and a row for each stamp") from error
    except ImportError as error:
        library = "pyarrow" if path.suffix.lower() == ".parquet" else "zstandard"
        raise ValueError(f"{title} file {str(source)!r} needs {library}: run pip install {library}, or write the file as .csv") from error
    except (ValueError, OSError, EOFError, BadZipFile, LZMAError, zlib.error) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        remedy = "save it as UTF-8" if isinstance(error, UnicodeDecodeError) else "write it anew"
        raise ValueError(f"{title} file {str(source)!r} cannot be read ({reason}), {remedy}") from error
    if not frame.index.equals(pd.RangeIndex(len(frame))):  # pandas takes the columns too many for an index, and shifts the names
        raise ValueError(
            f"{title} file {str(source)!r} has {frame.index.nlevels + frame.shape[1]} fields in a row, but {frame.shape[1]} names in its "
            f"first line, {_listed(frame.columns)}; name every column, and drop what stands above the names"
        )
    return frame


def _separator(path: Path) -> str:
    """Return what stands between the columns of a CSV: a semicolon or tab where only one of them is in its line of names."""
    import pandas as pd

    names = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0]
    found = [mark for mark in (";", "\t") if mark in names.iloc[0]] if len(names) == 1 else []
    return found[0] if len(found) == 1 else ","


def _is_nameless(frame: Any) -> bool:
    """Return whether what stands for the names of a CSV, but for the first, is numbers, so that its first line is a row."""
    return frame.shape[1] > 1 and all(str(name).replace(".", "").isdigit() for name in frame.columns[1:])


def _dump(path: Path, terms: dict[str, Any]) -> Any:
    """Return a CSV without a line of names by the names of Binance's candle dumps, where it can be nothing else; else as it is.

    It is one where open_time and close_time count milli- or microseconds, ``close_time - open_time + 1`` is the same in all rows,
    open_time rises by whole multiples of it, and the prices are a candle's.
    """
    import pandas as pd

    frame = pd.read_csv(path, header=None, **terms)
    if not all(pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes):
        return pd.read_csv(path, **terms)
    dump = frame.rename(columns=dict(enumerate(DUMP_COLUMNS)))
    opened, closed = dump["open_time"], dump["close_time"]
    bar = closed.iloc[0] - opened.iloc[0] + 1
    steps = opened.diff().iloc[1:]
    high, low, body = dump["high"], dump["low"], dump[["open", "close"]]
    is_dump = (
        pd.api.types.is_integer_dtype(opened.dtype)
        and pd.api.types.is_integer_dtype(closed.dtype)
        and _epoch_unit(float(opened.iloc[0])) in ("ms", "us")
        and bar > 0
        and (closed - opened + 1 == bar).all()
        and ((steps > 0) & (steps % bar == 0)).all()
        and ((low > 0) & (low <= body.min(axis=1)) & (body.max(axis=1) <= high) & (high < math.inf)).all()
    )
    return dump if is_dump else pd.read_csv(path, **terms)


def _stem(source: Any) -> str:
    # As the host's own file feeds do, a file without a given name is called after itself.
    return Path(source).name.split(".")[0] if isinstance(source, str | Path) else ""


def _micros(frame: Any, columns: dict[str, Any], title: str) -> tuple[Any, bool]:
    """Return the times in microseconds UTC, and whether they came with a zone."""
    import pandas as pd

    index = frame.index
    has_zone = isinstance(index, pd.DatetimeIndex) and index.tz is not None
    if not isinstance(index, pd.DatetimeIndex):
        column = _time_column(frame, columns, title)
        index, has_zone = _parsed(column, title), _names_zone(column)
    if index.hasnans:
        raise ValueError(f"{title} row {int(index.isna().argmax())} has no time, drop it")
    naive = index.tz_convert(None) if index.tz is not None else index
    return naive.to_numpy().astype("datetime64[us]").astype("int64"), has_zone


def _time_column(frame: Any, columns: dict[str, Any], title: str) -> Any:
    """Return the column of times, by its name; a date and a time of day apart are refused, for half of them would be lost."""
    names = [name for name in TIME_COLUMNS if name in columns]
    if not names:
        if _is_nameless(frame):
            first = _listed(frame.columns[:4])
            raise ValueError(
                f"{title} file has no line of column names, it begins with {first}; write names such as "
                "datetime,open,high,low,close above, one for each column"
            )
        raise ValueError(
            f"{title} frame needs a UTC DatetimeIndex or a column of times called datetime, timestamp, date or open_time, had an index of "
            f"{frame.index.dtype} and columns {_listed(frame.columns)}; call the column of times datetime (ISO 8601, UTC)"
        )
    if names[:2] == ["date", "time"]:
        raise ValueError(f"{title} frame has columns date and time; join them to one that is called datetime")
    return frame[columns[names[0]]]


def _names_zone(column: Any) -> bool:
    """Return whether a column of times says what zone they are in: by its type, or by the text of its first row."""
    import pandas as pd

    if isinstance(column.dtype, pd.DatetimeTZDtype) or pd.api.types.is_numeric_dtype(column):
        return True  # a number counts from 1970 UTC
    text = str(column.iloc[0]).strip()
    return text.endswith(("Z", "z")) or any(sign in text[len("2024-01-31") :] for sign in "+-")


def _warn_of_local_time(table: _Table, length: int, *, offset: int = 0) -> None:
    """Warn where stamps without a zone lie off the whole lengths since midnight UTC, or off these moved by ``offset``.

    Only for lengths from an hour on that divide the day: venues begin those at midnight UTC.
    """
    import numpy as np

    phases = np.unique((table.micros + MINUTE // 2) // MINUTE * MINUTE % length)
    if table.has_zone or length < HOUR or DAY % length or len(phases) > 1 or phases[0] in (0, offset):
        return
    clock = timedelta(microseconds=int(phases[0]))
    warnings.warn(
        f"{table.title} stamps have no zone and come every {_span(length)} from {clock} on, which no venue's do in UTC: they seem to be "
        "local time; convert them, or write the zone beside them (2024-01-31T08:00+08:00)",
        LocalTimeWarning,
        stacklevel=2,
    )


def _parsed(column: Any, title: str) -> Any:
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        return _since_epoch(column, title)
    times = pd.to_datetime(column, utc=True, format="ISO8601", errors="coerce")
    unread = (times.isna() & column.notna()).to_numpy()
    if unread.any():
        words = pd.to_numeric(column, errors="coerce").isna().to_numpy()
        if not words[unread.argmax()] and words.any():  # numbers, and a word among them that made text of them all
            unread = words
        row = int(unread.argmax())
        told = column.iloc[row]
        remedy = "; it is the line of column names once more, drop it" if told == column.name else ""
        raise ValueError(f"{title} row {row}: {column.name} must be ISO 8601 such as 2024-01-31T08:00:00Z, was {told!r}{remedy}")
    return pd.DatetimeIndex(times)


def _since_epoch(column: Any, title: str) -> Any:
    """Return numbers as times, in the unit of the first of them."""
    import numpy as np
    import pandas as pd

    numbers = column.to_numpy(dtype="float64", na_value=math.nan)
    first = numbers[~np.isnan(numbers)][:1]
    unit = (_epoch_unit(first[0]) if len(first) else None) or "us"
    early, late = _epoch_bounds()
    micros = numbers * EPOCH_UNITS[unit]
    strange = ~np.isnan(numbers) & ~((micros >= early) & (micros < late))
    if strange.any():
        row = int(strange.argmax())
        raise ValueError(
            f"{title} row {row}: {column.name} must be ISO 8601, or count seconds, milli-, micro- or nanoseconds since 1970, the same in "
            f"every row; was {column.iloc[row]}"
        )
    return pd.DatetimeIndex(pd.to_datetime(column, unit=unit, utc=True))


def _epoch_bounds() -> tuple[float, float]:
    """Return the EPOCH_YEARS in microseconds."""
    early, late = (datetime(year, 1, 1, tzinfo=UTC).timestamp() * SECOND for year in EPOCH_YEARS)
    return early, late


def _epoch_unit(number: float) -> str | None:
    """Return the unit in which a number of them since 1970 lies between the EPOCH_YEARS."""
    early, late = _epoch_bounds()
    return next((unit for unit, micros in EPOCH_UNITS.items() if early <= number * micros < late), None)


def _check_rising(table: _Table, source: Any) -> None:
    steps = table.micros[1:] - table.micros[:-1]
    if (steps <= 0).any():
        row = int((steps <= 0).argmax()) + 1
        if steps[row - 1] == 0:
            raise ValueError(f"{table.where(row)} has the stamp of the row before it; keep one of the two")
        order = ", as every row is: the newest comes first" if len(steps) > 1 and (steps < 0).all() else ""
        raise ValueError(f"{table.where(row)} is earlier than the row before it{order}; sort the rows by time{_sorting(table, source)}")


def _sorting(table: _Table, source: Any) -> str:
    """Return how the rows of a file are sorted, as a line of Python to copy; nothing where its times are not one of its columns."""
    name = next((table.columns[name] for name in TIME_COLUMNS if name in table.columns), None)
    if name is None or not isinstance(source, str | Path):
        return ""
    path = str(source)
    separator = "" if path.endswith(".parquet") else _separator(Path(path).expanduser())
    read = f"read_csv({path!r}, sep={separator!r}, dtype=str)" if separator else f"read_parquet({path!r})"
    return f", in Python: import pandas; pandas.{read}.drop_duplicates().sort_values({name!r}).to_csv('sorted.csv', index=False)"


def _bar_micros(table: _Table, timeframe: int | None, compression: int | None) -> int:
    import numpy as np

    if len(table.micros) == 1:
        if timeframe not in FRAME_MICROS or (compression is not None and compression < 1):
            raise ValueError(
                f"{table.where(0)} stands alone, and the length of a bar is the time between two; give more rows, or PerpData a "
                "timeframe= of Seconds, Minutes or Days and a compression="
            )
        return FRAME_MICROS[timeframe] * (1 if compression is None else compression)
    steps = np.diff(table.micros)
    lengths, counts = np.unique(steps, return_counts=True)
    bar, usual = int(lengths[0]), int(lengths[counts.argmax()])
    # One stray row between two bars would otherwise halve the bar, and hand every bar over before its end.
    if bar < usual and counts.max() >= max(6, 0.75 * len(steps)):
        row, bar = int((steps == bar).argmax()) + 1, usual
    elif (lengths % bar).any():
        row = int((steps % bar > 0).argmax()) + 1
    else:
        return bar
    raise ValueError(
        f"{table.where(row)} comes {_span(int(steps[row - 1]))} after the row before it, which is no whole number of bars of "
        f"{_span(bar)}; drop the rows off the grid or move them to their bar's stamp"
    )


def _left_of_bars(table: _Table, bar: int) -> Any:
    """Return what is left of each bar where all rows are stamped in its last second, as closing times often are; else None.

    Taken for openings such stamps would come a bar late, and as they stand they would be before what happens at the close.
    """
    left = bar - table.micros % bar
    return left if bar >= MINUTE and left.max() <= SECOND else None


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


def _rows_within(table: _Table, days: Any, window: tuple[float, float]) -> Any:
    import numpy as np

    first, end = (int(np.searchsorted(days, window[0], "left")), int(np.searchsorted(days, window[1], "right")))
    if first >= end:
        raise EmptyWindowError(f"{table.title} rows are from {_utc(table.micros[0])} to {_utc(table.micros[-1])}")
    return np.arange(first, end)


def _prices(table: _Table, prefix: str, rows: Any) -> "dict[str, array[float]]":
    import numpy as np

    names = [prefix + price for price in PRICES]
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise ValueError(f"{table.title} frame lacks {_listed(missing)}, it has {_listed(table.frame.columns)}; add or rename columns")
    values = [_numbers(table, name)[rows] for name in names]
    words = [name.replace("_", " ") for name in names]
    for word, value in zip(words, values, strict=True):
        _refuse(~np.isfinite(value), table, rows, word + " must be a finite number, was {}", value)
        _refuse(value <= 0, table, rows, word + " must be above 0, was {}", value)
    for upper, lower in ((1, 2), (1, 0), (1, 3), (0, 2), (3, 2)):  # high and low, then each against open and close
        above, below = values[upper], values[lower]
        _refuse(above < below, table, rows, f"{words[upper]} {{}} is below {words[lower]} {{}}", above, below)
    return {price: _column(value) for price, value in zip(PRICES, values, strict=True)}


def _numbers(table: _Table, name: str) -> Any:
    import pandas as pd

    column = table.frame[table.columns[name]]
    try:
        return column.to_numpy(dtype="float64", na_value=math.nan)
    except (TypeError, ValueError) as error:
        unread = (pd.to_numeric(column, errors="coerce").isna() & column.notna()).to_numpy()
        row = int(unread.argmax())
        told = str(column.iloc[row])
        is_comma = "," in told and told.replace(",", "").replace(".", "").strip().isdigit()
        remedy = "write numbers with a decimal point and no comma" if is_comma else "repair or drop the row"
        raise ValueError(f"{table.where(row)}: {name} must be a number, was {told!r}; {remedy}") from error


def _refuse(bad: Any, table: _Table, rows: Any, fault: str, *values: Any) -> None:
    if bad.any():
        first = int(bad.argmax())
        told = fault.format(*(float(value[first]) for value in values))
        raise ValueError(f"{table.where(int(rows[first]))}: {told}; repair or drop the row")


def _marks(table: _Table, rows: Any, source: Any, title: str) -> "dict[str, array[float]] | None":
    import numpy as np

    own = any("mark_" + price in table.columns for price in PRICES)
    if source is None:
        return _prices(table, "mark_", rows) if own else None
    if own:
        raise ValueError(f"{title}: mark= was given and the candles have mark columns too, drop one of them")
    marks = _table(source, f"{title}: mark")
    wanted = table.micros[rows]
    at = np.searchsorted(marks.micros, wanted).clip(max=len(marks.micros) - 1)
    missing = marks.micros[at] != wanted
    if missing.any():
        raise ValueError(
            f"{title}: {int(missing.sum())} of {len(rows)} candles have no mark row of their stamp, the first is candle "
            f"row {int(rows[missing.argmax()])} ({_utc(wanted[missing.argmax()])}); add them, or leave those candles out"
        )
    prefix = "mark_" if any("mark_" + price in marks.columns for price in PRICES) else ""
    return _prices(marks, prefix, at)


def _funding(table: _Table, source: Any, title: str, *, first: float, last: float, hours: float) -> FundingSchedule | None:
    import pandas as pd

    if "funding_rate" in table.columns:
        if source is not None:
            raise ValueError(f"{title}: funding= was given and the candles have a funding_rate column too, drop one of them")
        return _schedule(table, "funding_rate", ~pd.isna(_numbers(table, "funding_rate")))
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
                    f"{title}: the funding rate at {_utc(round(stamp * SECOND))} must be a fraction (0.01 % is 0.0001), was {rate}"
                )
        return source
    rates = _table(source.to_frame("rate") if isinstance(source, pd.Series) else source, f"{title}: funding")
    names = [name for name in RATE_COLUMNS if name in rates.columns]
    if len(names) != 1:
        raise ValueError(
            f"{rates.title} frame must have one column of rates, called {' or '.join(RATE_COLUMNS[:2])}, has {_listed(rates.frame.columns)}"
        )
    return _schedule(rates, names[0], slice(None), next((known for known in FUNDING_PRICE_COLUMNS if known in rates.columns), None))


def _warn_of_local_funding(table: _Table, stamps: Any) -> None:
    """Warn where settlements seem to be stamped in local time; BitMEX's are at 04:00, 12:00 and 20:00 UTC."""
    if len(stamps) < 3:
        return
    steps = (stamps[1:] - stamps[:-1] + MINUTE // 2) // MINUTE * MINUTE
    settlements = _Table(f"{table.title} funding" if "funding" not in table.title else table.title, None, {}, stamps, table.has_zone)
    _warn_of_local_time(settlements, int(steps.min()), offset=4 * HOUR)


def _schedule(table: _Table, name: str, kept: Any, paid_by: str | None = None) -> FundingSchedule:
    import numpy as np

    rows, rates = np.arange(len(table.micros))[kept], _numbers(table, name)[kept]
    _warn_of_local_funding(table, table.micros[rows])
    _refuse(~(abs(rates) <= 1), table, rows, "a funding rate must be a fraction (0.01 % is 0.0001), was {}", rates)
    prices = np.array([]) if paid_by is None else _numbers(table, paid_by)[kept]
    _refuse((prices <= 0) | np.isinf(prices), table, rows, f"{paid_by} must be a price above 0 or blank, was {{}}", prices)
    try:
        return FundingSchedule(tuple((table.micros[rows] / SECOND).tolist()), tuple(rates.tolist()), tuple(prices.tolist()))
    except ValueError as error:
        raise ValueError(f"{table.title}: {error}") from error


def _is_number(source: Any) -> bool:
    return isinstance(source, Real) and not isinstance(source, bool)


def _column(values: Any) -> "array[float]":
    column = array("d")
    column.frombytes(values.astype("float64").tobytes())
    return column


def _listed(names: Any) -> str:
    return ", ".join(str(name) for name in names) or "none"


def _utc(micros: int) -> str:
    return f"{datetime(1970, 1, 1) + timedelta(microseconds=int(micros))} UTC"


def _span(micros: int) -> str:
    for unit, length in (("d", DAY), ("h", HOUR), ("min", MINUTE)):
        if micros % length == 0:
            return f"{micros // length} {unit}"
    return f"{micros / SECOND:g} s"
