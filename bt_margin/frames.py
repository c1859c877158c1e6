"""Frames, arrays and files of candles as users give them, read and checked row by row.

A table is rows at rising times, UTC, in whole microseconds since 1970. What cannot be is refused in a sentence that
names the row. Arrays of numbers are read without pandas, and without a copy where they are floats already.
"""

import math
import warnings
from array import array
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import backtrader as bt

PRICES = ("open", "high", "low", "close")
TIME_COLUMNS = ("datetime", "timestamp", "date", "time", "open_time", "open time", "calc_time", "fundingtime", "funding_time", "unix")
DUMP_COLUMNS = ("open_time", *PRICES, "volume", "close_time")  # of Binance's candle dumps, many of which have no line of names
DUMP_WIDTH = 12  # columns
CSV_SUFFIXES = (".csv", ".gz", ".zip", ".bz2", ".xz", ".zst")
SECOND, MINUTE, HOUR, DAY = (10**6, 60 * 10**6, 3_600 * 10**6, 86_400 * 10**6)  # microseconds
EPOCH_UNITS = {"s": SECOND, "ms": 10**3, "us": 1, "ns": 10**-3}  # what a whole number may count since 1970, in microseconds
EPOCH_YEARS = (1990, 2100)  # outside of which a number is no time in that unit; the spans of two units are far apart
FRAME_MICROS = {bt.TimeFrame.Seconds: SECOND, bt.TimeFrame.Minutes: MINUTE, bt.TimeFrame.Days: DAY}


class LocalTimeWarning(UserWarning):
    """Stamps without a zone, read as UTC, lie where no venue's candles or settlements do: they seem to be local time."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a frame by rising times."""

    title: str  # what its sentences start with
    frame: Any  # a DataFrame or a dict of arrays: by either's names its columns, and by iteration its names
    columns: dict[str, Any]  # name, lower-case and without spaces around it -> the frame's own
    micros: Any  # int64 microseconds since the epoch, rising
    has_zone: bool  # whether the times said that they are UTC, or how far from it

    @property
    def has_arrays(self) -> bool:
        return isinstance(self.frame, dict)

    def unmap(self) -> None:
        """Give back the pages of mapped files, once what is needed of them is copied or checked."""
        if self.has_arrays:
            for column in self.frame.values():
                unmap(column)

    def where(self, row: int) -> str:
        return f"{self.title} row {row} ({utc_text(self.micros[row])})"


def read_table(source: Any, title: str) -> Table:
    """Return the rows of a DataFrame, of arrays by name, or of the CSV or Parquet file at a path; ``title`` begins its sentences."""
    has_arrays = holds_arrays(source)
    frame = _arrays(source, title) if has_arrays else _frame(source, title)
    columns: dict[str, Any] = {}
    for name in frame:
        told = str(name).strip().lower()
        if columns.setdefault(told, name) is not name or list(frame).count(name) > 1:
            raise ValueError(f"{title} columns name {told!r} twice, drop or rename one")
    micros, has_zone = _array_micros(frame, columns, title) if has_arrays else _frame_micros(frame, columns, title)
    table = Table(title, frame, columns, micros, has_zone)
    _check_rising(table, source)
    return table


def holds_arrays(source: Any) -> bool:
    """Return whether this is arrays by name: a mapping, or a structured array of numpy's."""
    return isinstance(source, Mapping) or getattr(getattr(source, "dtype", None), "names", None) is not None


def is_empty(source: Any) -> bool:
    """Return whether this is a table that has no rows; a path is none."""
    columns = source.values() if isinstance(source, Mapping) else [source] if hasattr(source, "dtype") or hasattr(source, "columns") else []
    return any(hasattr(column, "__len__") and not len(column) for column in columns)


def _arrays(source: Any, title: str) -> dict[Any, Any]:
    """Return the columns of a mapping or a structured array, all flat and equally long; what is a flat array stays it."""
    import numpy as np

    if isinstance(source, np.ndarray) and source.ndim != 1:
        raise ValueError(f"{title} structured array has {source.ndim} dimensions, give one row for each stamp")
    names = source if isinstance(source, Mapping) else source.dtype.names
    columns = {name: _array(source[name], name, title) for name in names}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        told = listed(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"{title} columns are not equally long ({told}), give each one value a row")
    if not any(lengths.values()):
        raise ValueError(f"{title} columns have no rows, give at least one")
    return columns


def _array(values: Any, name: Any, title: str) -> Any:
    import numpy as np

    try:
        column = np.asarray(values)
    except ValueError:  # rows of rows, of several lengths
        column = np.array([[]])
    if column.ndim != 1 or column.dtype.kind not in "biufMOUS" or np.ma.isMaskedArray(values):
        was = (
            type(values).__name__
            if column.ndim == 0
            else f"{'masked, ' * np.ma.isMaskedArray(values)}of {column.ndim} dimensions and type {column.dtype}"
        )
        raise ValueError(f"{title} column {name} must be a flat array or sequence of numbers, blanks as NaN, was {was}")
    if column.dtype.kind == "O":  # numbers and None among them
        with suppress(TypeError, ValueError):
            return column.astype("float64")
    return column


def _frame(source: Any, title: str) -> Any:
    import zlib
    from lzma import LZMAError
    from zipfile import BadZipFile

    import pandas as pd

    if isinstance(source, pd.DataFrame):
        return source
    if not isinstance(source, str | Path):
        raise ValueError(
            f"{title} source must be a pandas DataFrame, a mapping of column names to arrays, a numpy structured array, or the path of a "
            f".csv or .parquet file, was {type(source).__name__}"
        )
    path = Path(source).expanduser()
    if not path.is_file():
        told = "is a folder" if path.is_dir() else "is an address, download it first" if "://" in str(source) else "does not exist"
        raise ValueError(f"{title} file {str(source)!r} {told}; give the path of a .csv or .parquet file")
    if path.suffix.lower() not in (".parquet", *CSV_SUFFIXES):
        raise ValueError(f"{title} file {str(source)!r} must end in .parquet or one of {' '.join(CSV_SUFFIXES)}")
    try:
        if not path.stat().st_size:
            raise pd.errors.EmptyDataError
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path)
        terms = {"sep": _separator(path), **exact_terms()}
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
            f"first line, {listed(frame.columns)}; name every column, and drop what stands above the names"
        )
    return frame


def exact_terms() -> dict[str, Any]:
    """Return what makes pandas read the numbers of a CSV as they were written: before 3.1 its default could be off by one unit in the
    last place."""
    import pandas as pd

    return {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}


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


def _array_micros(arrays: dict[Any, Any], columns: dict[str, Any], title: str) -> tuple[Any, bool]:
    """Return the times of arrays in microseconds UTC, and whether they came with a zone; datetime64 has none."""
    import numpy as np

    name = _time_name(columns, title)
    if name is None:
        raise ValueError(
            f"{title} columns need one of times called datetime, timestamp, date or open_time, are {listed(arrays)}; call it datetime "
            "(datetime64 in UTC, or whole numbers since 1970)"
        )
    times = arrays[name]
    if times.dtype.kind not in "iufM":
        import pandas as pd

        return _micros_of(_parsed(pd.Series(times, name=name), title), title), _names_zone(pd.Series(times))
    is_blank = np.isnat(times) if times.dtype.kind == "M" else np.isnan(times)
    if is_blank.any():
        raise ValueError(f"{title} row {int(is_blank.argmax())} has no time, drop it")
    if times.dtype.kind == "M":
        return times.astype("datetime64[us]").view("int64"), False
    micros = EPOCH_UNITS[_unit_of(times.astype("float64"), times, name, title)]
    if times.dtype.kind == "f":
        return np.rint(times * micros).astype("int64"), True
    return times.astype("int64") // 1_000 if micros < 1 else times.astype("int64") * micros, True


def _frame_micros(frame: Any, columns: dict[str, Any], title: str) -> tuple[Any, bool]:
    """Return the times of a DataFrame in microseconds UTC, and whether they came with a zone."""
    import pandas as pd

    if not len(frame):
        raise ValueError(f"{title} frame has no rows, give at least one")
    index = frame.index
    has_zone = isinstance(index, pd.DatetimeIndex) and index.tz is not None
    if not isinstance(index, pd.DatetimeIndex):
        column = _time_column(frame, columns, title)
        index, has_zone = _parsed(column, title), _names_zone(column)
    return _micros_of(index, title), has_zone


def _micros_of(index: Any, title: str) -> Any:
    if index.hasnans:
        raise ValueError(f"{title} row {int(index.isna().argmax())} has no time, drop it")
    naive = index.tz_convert(None) if index.tz is not None else index
    return naive.to_numpy().astype("datetime64[us]").astype("int64")


def _time_name(columns: dict[str, Any], title: str) -> Any:
    """Return the name of the column of times, None without one; a date and a time of day apart are refused, for half would be lost."""
    names = [name for name in TIME_COLUMNS if name in columns]
    if names[:2] == ["date", "time"]:
        raise ValueError(f"{title} frame has columns date and time; join them to one that is called datetime")
    return columns[names[0]] if names else None


def _time_column(frame: Any, columns: dict[str, Any], title: str) -> Any:
    """Return the column of times, by its name."""
    name = _time_name(columns, title)
    if name is None:
        if _is_nameless(frame):
            first = listed(frame.columns[:4])
            raise ValueError(
                f"{title} file has no line of column names, it begins with {first}; write names such as "
                "datetime,open,high,low,close above, one for each column"
            )
        raise ValueError(
            f"{title} frame needs a UTC DatetimeIndex or a column of times called datetime, timestamp, date or open_time, had an index of "
            f"{frame.index.dtype} and columns {listed(frame.columns)}; call the column of times datetime (ISO 8601, UTC)"
        )
    return frame[name]


def _names_zone(column: Any) -> bool:
    """Return whether a column of times says what zone they are in: by its type, or by the text of its first row."""
    import pandas as pd

    if isinstance(column.dtype, pd.DatetimeTZDtype) or pd.api.types.is_numeric_dtype(column):
        return True  # a number counts from 1970 UTC
    text = str(column.iloc[0]).strip()
    return text.endswith(("Z", "z")) or any(sign in text[len("2024-01-31") :] for sign in "+-")


def warn_of_local_time(table: Table, length: int, *, offset: int = 0) -> None:
    """Warn where stamps without a zone lie off the whole lengths since midnight UTC, or off these moved by ``offset``.

    Only for lengths from an hour on that divide the day: venues begin those at midnight UTC.
    """
    import numpy as np

    if table.has_zone or length < HOUR or DAY % length:
        return
    phases = np.unique((table.micros + MINUTE // 2) // MINUTE * MINUTE % length)
    if len(phases) > 1 or phases[0] in (0, offset):
        return
    clock = timedelta(microseconds=int(phases[0]))
    warnings.warn(
        f"{table.title} stamps have no zone and come every {span_text(length)} from {clock} on, which no venue's do in UTC: they seem to "
        "be local time; convert them, or write the zone beside them (2024-01-31T08:00+08:00)",
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
    import pandas as pd

    unit = _unit_of(column.to_numpy(dtype="float64", na_value=math.nan), column.array, column.name, title)
    return pd.DatetimeIndex(pd.to_datetime(column, unit=unit, utc=True))


def _unit_of(numbers: Any, written: Any, name: Any, title: str) -> str:
    """Return what numbers count since 1970, told by the first of them; ``written`` are they as they were given."""
    import numpy as np

    first = numbers[~np.isnan(numbers)][:1]
    unit = (_epoch_unit(first[0]) if len(first) else None) or "us"
    early, late = epoch_bounds()
    micros = numbers * EPOCH_UNITS[unit]
    strange = ~np.isnan(numbers) & ~((micros >= early) & (micros < late))
    if strange.any():
        row = int(strange.argmax())
        raise ValueError(
            f"{title} row {row}: {name} must be ISO 8601, or count seconds, milli-, micro- or nanoseconds since 1970, the same in "
            f"every row; was {written[row]}"
        )
    return unit


def epoch_bounds() -> tuple[float, float]:
    """Return the EPOCH_YEARS in microseconds."""
    early, late = (datetime(year, 1, 1, tzinfo=UTC).timestamp() * SECOND for year in EPOCH_YEARS)
    return early, late


def _epoch_unit(number: float) -> str | None:
    """Return the unit in which a number of them since 1970 lies between the EPOCH_YEARS."""
    early, late = epoch_bounds()
    return next((unit for unit, micros in EPOCH_UNITS.items() if early <= number * micros < late), None)


def _check_rising(table: Table, source: Any) -> None:
    steps = table.micros[1:] - table.micros[:-1]
    if (steps <= 0).any():
        row = int((steps <= 0).argmax()) + 1
        if steps[row - 1] == 0:
            raise ValueError(f"{table.where(row)} has the stamp of the row before it; keep one of the two")
        order = ", as every row is: the newest comes first" if len(steps) > 1 and (steps < 0).all() else ""
        raise ValueError(f"{table.where(row)} is earlier than the row before it{order}; sort the rows by time{_sorting(table, source)}")


def _sorting(table: Table, source: Any) -> str:
    """Return how the rows of a file are sorted, as a line of Python to copy; nothing where its times are not one of its columns."""
    name = next((table.columns[name] for name in TIME_COLUMNS if name in table.columns), None)
    if name is None or not isinstance(source, str | Path):
        return ""
    path = str(source)
    separator = "" if path.endswith(".parquet") else _separator(Path(path).expanduser())
    read = f"read_csv({path!r}, sep={separator!r}, dtype=str)" if separator else f"read_parquet({path!r})"
    return f", in Python: import pandas; pandas.{read}.drop_duplicates().sort_values({name!r}).to_csv('sorted.csv', index=False)"


def bar_micros(table: Table, timeframe: int | None, compression: int | None) -> int:
    """Return the length of a bar in microseconds: the smallest step between rows, all of which must be whole numbers of it."""
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
        f"{table.where(row)} comes {span_text(int(steps[row - 1]))} after the row before it, which is no whole number of bars of "
        f"{span_text(bar)}; drop the rows off the grid or move them to their bar's stamp"
    )


def left_of_bars(table: Table, bar: int) -> Any:
    """Return what is left of each bar where all rows are stamped in its last second, as closing times often are; else None.

    Taken for openings such stamps would come a bar late, and as they stand they would be before what happens at the close.
    """
    left = left_of(table.micros, bar)
    return left if bar >= MINUTE and left.max() <= SECOND else None


def left_of(micros: Any, bar: int) -> Any:
    """Return how long each stamp is before the end of its bar, all of one at its beginning."""
    return bar - micros % bar


def prices_of(table: Table, prefix: str, rows: Any, kept: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """Return open, high, low and close of these rows, as plain columns or as ``kept`` makes them; ValueError for what no bar can be."""
    import numpy as np

    names = [prefix + price for price in PRICES]
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise ValueError(f"{table.title} frame lacks {listed(missing)}, it has {listed(table.frame)}; add or rename columns")
    values = [numbers_of(table, name)[rows] for name in names]
    words = [name.replace("_", " ") for name in names]
    for word, value in zip(words, values, strict=True):
        refuse_rows(~np.isfinite(value), table, rows, word + " must be a finite number, was {}", value)
        refuse_rows(value <= 0, table, rows, word + " must be above 0, was {}", value)
    for upper, lower in ((1, 2), (1, 0), (1, 3), (0, 2), (3, 2)):  # high and low, then each against open and close
        above, below = values[upper], values[lower]
        refuse_rows(above < below, table, rows, f"{words[upper]} {{}} is below {words[lower]} {{}}", above, below)
    return {price: (kept or as_column)(value) for price, value in zip(PRICES, values, strict=True)}


def numbers_of(table: Table, name: str) -> Any:
    """Return a column as floats, blanks as NaN; the column itself where it is an array of them."""
    import numpy as np

    column = table.frame[table.columns[name]]
    if isinstance(column, np.ndarray):
        if column.dtype.kind in "biuf":
            return column.astype("float64", copy=False)
        if column.dtype.kind == "M":
            raise ValueError(f"{table.title} column {name} must be numbers, was {column.dtype}")
    import pandas as pd

    column = pd.Series(column)
    try:
        return column.to_numpy(dtype="float64", na_value=math.nan)
    except (TypeError, ValueError) as error:
        unread = (pd.to_numeric(column, errors="coerce").isna() & column.notna()).to_numpy()
        row = int(unread.argmax())
        told = str(column.iloc[row])
        is_comma = "," in told and told.replace(",", "").replace(".", "").strip().isdigit()
        remedy = "write numbers with a decimal point and no comma" if is_comma else "repair or drop the row"
        raise ValueError(f"{table.where(row)}: {name} must be a number, was {told!r}; {remedy}") from error


def refuse_rows(bad: Any, table: Table, rows: Any, fault: str, *values: Any) -> None:
    """Raise ValueError for the first of the rows (a slice or their numbers) that are bad; ``fault`` says what of its values."""
    if bad.any():
        first = int(bad.argmax())
        row = rows.start + first if isinstance(rows, slice) else int(rows[first])
        told = fault.format(*(float(value[first]) for value in values))
        raise ValueError(f"{table.where(row)}: {told}; repair or drop the row")


def as_column(values: Any) -> "array[float]":
    """Return a numpy array as a plain column."""
    column = array("d")
    add_column(column, values)
    return column


def as_shared_column(values: Any) -> Any:
    """Return an array of floats itself where it is read-only, as a mapped file is, so that processes share it; else a plain column."""
    import numpy as np

    is_shared = isinstance(values, np.ndarray) and not values.flags.writeable and values.flags.c_contiguous
    return values if is_shared and values.dtype == np.dtype("float64") else as_column(values)


def unmap(values: Any) -> None:
    """Give back the pages of a file that is mapped for reading; they come again from the system's copy when somebody reads them."""
    import mmap

    import numpy as np

    while isinstance(values, np.ndarray):
        if isinstance(values, np.memmap) and values.mode == "r" and isinstance(values.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            values.base.madvise(mmap.MADV_DONTNEED)
        values = values.base


def add_column(column: "array[float]", values: Any) -> None:
    """Write a numpy array, or a plain column, behind a plain column."""
    import numpy as np

    column.frombytes(np.ascontiguousarray(values, dtype="float64").view("uint8").data)


def listed(names: Any) -> str:
    """Return names in one line."""
    return ", ".join(str(name) for name in names) or "none"


def utc_text(micros: int) -> str:
    """Return an instant as text."""
    return f"{datetime(1970, 1, 1) + timedelta(microseconds=int(micros))} UTC"


def minute_text(micros: int) -> str:
    """Return an instant as text, without seconds where it has none."""
    return utc_text(micros).removesuffix(":00 UTC")


def span_text(micros: int) -> str:
    """Return a length of time as text."""
    for unit, length in (("d", DAY), ("h", HOUR), ("min", MINUTE)):
        if micros % length == 0:
            return f"{micros // length} {unit}"
    return f"{micros / SECOND:g} s"
