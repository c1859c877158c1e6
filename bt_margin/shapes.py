"""Candles, mark prices and funding as venues and tools write them, made into plain columns.

A file is recognised by what is in it, not by its suffix, and what it was taken for is among the notes of its ``Reading``.
Rows keep the order of the file; nothing is dropped without a note. What could be two things is refused in a sentence that
names both. CSV is read in blocks, so that a file needs little more memory than its numbers do.
"""

import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from .frames import CSV_SUFFIXES, EPOCH_UNITS, PRICES, TIME_COLUMNS, epoch_bounds, listed, utc_text
from .resampling import apart_of

SHAPES = ("ccxt", "binance", "bybit", "okx", "freqtrade", "plain")
BLOCK = 50_000  # rows of a CSV that are text at once
SAMPLE = 1_000  # rows by which a file is recognised
HEAD = 65_536  # bytes
KINDS = {"q": "int64", "d": "float64", "i": "int32"}
TIMES = (*TIME_COLUMNS, "ts", "starttime", "start_time", "start_at", "opentime", "fundingratetimestamp", "fundingtimestamp", "begin_time")
# Tidy name -> what files call it, the one that counts first: of a venue's rates the one that was settled.
NUMBERS = {
    **{price: (price, price[0], f"{price}price", f"{price}_price") for price in PRICES},
    "volume": ("volume", "vol", "v"),
    **{f"mark_{price}": (f"mark_{price}",) for price in PRICES},
    "rate": ("realizedrate", "real_funding_rate", "rate", "funding_rate", "fundingrate", "last_funding_rate"),
    "paid_by": ("mark_price", "markprice", "oracle_price"),
    "close_time": ("close_time", "closetime"),
    "confirm": ("confirm",),
}
RATE_NAMES = {"rate", "funding_rate", "fundingrate", "last_funding_rate"}  # those that PerpData knows
PAID_BY_NAMES = {"mark_price", "markprice", "oracle_price"}
TURNOVER: tuple[str, ...] = (
    "quote_volume",
    "quote_asset_volume",
    "count",
    "number_of_trades",
    "trades",
    "taker_buy_volume",
    "taker_buy_quote_volume",
)
TURNOVER += ("taker_buy_base_asset_volume", "taker_buy_quote_asset_volume", "ignore", "turnover", "volccy", "volccyquote", "vol_ccy")
TURNOVER += ("vol_quote", "funding_interval_hours", "openinterest")
SYMBOLS = ("symbol", "pair", "instrument_name", "instid", "instrument", "ticker")
MARKS_OF = {  # a word in the name of a file -> of what its prices are
    **dict.fromkeys(("mark", "markprice", "markpriceklines", "mark_price"), "mark"),
    **dict.fromkeys(("index", "indexprice", "indexpriceklines", "spot_index"), "index"),
    **dict.fromkeys(("premium", "premiumindex", "premiumindexklines"), "premium"),
}
DUMP = ("datetime", *PRICES, "volume", "close_time", "quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume", "ignore")


class Layout(NamedTuple):
    """What the columns of rows without names are."""

    shape: str
    names: tuple[str, ...]
    told: str


LAYOUTS = (
    Layout("ccxt", ("datetime", *PRICES, "volume"), "time, open, high, low, close, volume"),
    Layout("okx", ("datetime", *PRICES, "confirm"), "time, open, high, low, close, confirm"),
    Layout("bybit", ("datetime", *PRICES), "time, open, high, low, close"),
    Layout("bybit", ("datetime", *PRICES, "volume", "turnover"), "time, open, high, low, close, volume, turnover"),
    Layout("bybit", ("date", "time", *PRICES, "volume"), "date, time, open, high, low, close, volume"),
    Layout("okx", ("datetime", *PRICES, "volume", "volccy", "volccyquote", "confirm"), "time, open, high, low, close, volumes, confirm"),
    Layout("binance", DUMP, "Binance's 12 columns"),
    Layout("binance", ("datetime", "funding_interval_hours", "rate"), "time, interval in hours, rate"),
)


@dataclass(frozen=True)
class Reading:
    """One series of a file: times in microseconds UTC and numbers, in the order of the file, and what it was taken for.

    ``kind`` is 'candles', 'mark', 'index', 'premium', 'funding' (a column ``rate``) or 'joint' (candles with mark or rate). ``rows`` are
    the numbers of its rows in the file, from 0. ``labels`` tell it from other series of the file. ``notes``: what was done.
    """

    title: str
    shape: str
    kind: str
    micros: Any
    columns: dict[str, Any]
    rows: Any
    has_zone: bool
    notes: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    symbol: str = ""
    time_names: tuple[Any, ...] = ()
    path: Path | None = None

    @property
    def frame(self) -> Any:
        """The series as a DataFrame with a UTC index, its columns not copied."""
        import pandas as pd

        index = pd.DatetimeIndex(self.micros.view("datetime64[us]"), tz="UTC", name="datetime", copy=False)
        return pd.DataFrame(self.columns, index=index, copy=False)

    @property
    def name(self) -> str:
        """How sentences call it."""
        told = ", ".join(f"{name}={value}" for name, value in self.labels.items())
        return f"{self.title} [{told}]" if told else self.title

    def where(self, place: int) -> str:
        """Return which row a place among its times is."""
        return f"row {int(self.rows[place])} ({utc_text(self.micros[place])})"

    def at(self, kept: Any, *notes: str) -> "Reading":
        """Return the rows at these places (a mask, numbers or a slice), with more notes."""
        columns = {name: values[kept] for name, values in self.columns.items()}
        return replace(self, micros=self.micros[kept], columns=columns, rows=self.rows[kept], notes=(*self.notes, *notes))


# -- reading ---------------------------------------------------------------------------------------------------------


def read(source: Any, *, shape: str | None = None, where: Mapping[str, str] | None = None, title: str | None = None) -> Reading:
    """Return the one series of a file, DataFrame, list of rows or mapping of arrays; ``where`` picks one of several by its labels."""
    found = read_all(source, shape=shape, where=where, title=title)
    if len(found) > 1:
        names = sorted({name for reading in found for name in reading.labels})
        example = "{" + ", ".join(f"{name!r}: {found[0].labels[name]!r}" for name in names) + "}"
        raise ValueError(f"{found[0].title} holds {len(found)} series, told apart by {listed(names)}; say where={example} for one of them")
    return found[0]


def read_all(source: Any, *, shape: str | None = None, where: Mapping[str, str] | None = None, title: str | None = None) -> list[Reading]:
    """Return every series of a source; ValueError of one sentence for what cannot be read or could be two things."""
    if shape not in (None, *SHAPES):
        raise ValueError(f"shape is one of {listed(SHAPES)}, or None to have it found, was {shape!r}")
    path = Path(source).expanduser() if isinstance(source, str | Path) else None
    name = title or (path.name if path is not None else "data")
    with _one_sentence(name):
        blocks = _blocks_of_file(path, name) if path is not None else _blocks_of_object(source, name)
        series = _Series(blocks, shape, name)
        return [replace(_settled(reading), path=path) for reading in series.readings(where or {})]


def is_tidy(source: str | Path, role: str) -> bool:
    """Return whether ``PerpData`` reads a file by itself: a CSV or Parquet table of one series with its own names, or Binance's candles.

    So is one that cannot be read here, unless its name says that it is something else: ``PerpData`` says what is wrong with it.
    """
    path = Path(source).expanduser()
    has_known_name = path.suffix.lower() in (".parquet", *CSV_SUFFIXES)
    if not path.is_file():
        return True
    try:
        with _one_sentence(path.name):
            form, blocks = form_of(path, path.name), _blocks_of_file(path, path.name)
            first = next((block for block in blocks.again() if len(block)), None)
            plan = None if first is None else _plan_of(first, blocks, None, path.name)
    except ValueError:
        return has_known_name
    if first is None or plan is None:
        return has_known_name
    if not has_known_name or form not in ("csv", "parquet") or blocks.notes:
        return False
    if any(first[name].nunique() > 1 for name in plan.labels.values()):
        return False
    if plan.shape == "binance" and "close_time" in plan.numbers:
        return True
    own = {**{tidy: {tidy} for tidy in plan.numbers}, "rate": RATE_NAMES, "paid_by": PAID_BY_NAMES}
    is_own = all(_plain_name(name) in own[tidy] for tidy, name in plan.numbers.items())
    is_named = blocks.has_names and len(plan.times) == 1 and _plain_name(plan.times[0]) in TIME_COLUMNS
    return is_own and is_named and plan.shape in ("plain", "binance", "ccxt") and (role != "funding" or "rate" in plan.numbers)


@dataclass
class _Blocks:
    """A table as blocks of rows: ``again`` begins anew; ``has_names`` says whether its columns are called as the file calls them."""

    again: Callable[[], Iterator[Any]]
    has_names: bool
    shape: str | None = None  # where the envelope of the rows tells it
    notes: tuple[str, ...] = ()
    is_feather: bool = False


@contextmanager
def _one_sentence(title: str) -> Iterator[None]:
    """Turn what libraries raise about a broken file into one sentence; our own sentences, which begin with its title, pass."""
    import zlib
    from lzma import LZMAError
    from zipfile import BadZipFile

    try:
        yield
    except ImportError as error:
        library = error.name or "pyarrow"  # pandas names it in its sentence alone
        raise ValueError(f"{title} needs {library} to be read: run pip install {library}, or write a CSV") from error
    except UnicodeError as error:
        raise ValueError(
            f"{title} is no UTF-8 text ({error.reason if isinstance(error, UnicodeDecodeError) else error}), save it as UTF-8"
        ) from error
    except (ValueError, ArithmeticError, OSError, EOFError, BadZipFile, LZMAError, zlib.error, RuntimeError) as error:
        if str(error).startswith(title):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{title} cannot be read ({reason.rstrip('.')}), write it anew") from error


def _blocks_of_object(source: Any, title: str) -> _Blocks:
    import pandas as pd

    if isinstance(source, pd.DataFrame):
        return _blocks_of_frame(source)
    if isinstance(source, Mapping) and not {"data", "result"} & set(source):
        lengths = {str(name): len(column) for name, column in source.items() if hasattr(column, "__len__")}
        if len(lengths) < len(source) or len(set(lengths.values())) > 1:
            raise ValueError(
                f"{title} columns must be arrays of one length, are {listed(f'{name} {length}' for name, length in lengths.items())}"
            )
        return _blocks_of_frame(pd.DataFrame({str(name): column for name, column in source.items()}))
    if isinstance(source, list | tuple | Mapping):
        return _blocks_of_rows(source, title)
    raise ValueError(f"{title} must be a path, a DataFrame, arrays by name or a list of rows, was {type(source).__name__}")


def _blocks_of_frame(frame: Any, *, is_feather: bool = False) -> _Blocks:
    import pandas as pd

    if isinstance(frame.index, pd.PeriodIndex):
        frame = frame.set_axis(frame.index.to_timestamp())
    if isinstance(frame.index, pd.DatetimeIndex):
        frame = frame.reset_index(names="datetime" if frame.index.name in (None, *frame.columns) else frame.index.name)
    else:  # an index of other kinds is kept where it is called as times are
        has_times = any(_plain_name(name) in TIMES and name not in frame.columns for name in frame.index.names)
        frame = frame.reset_index(drop=not has_times)
    has_names = not all(isinstance(name, int) for name in frame.columns)
    return _Blocks(lambda: iter([frame]), has_names, is_feather=is_feather)


def _blocks_of_rows(rows: Any, title: str) -> _Blocks:
    """Return the rows of a JSON text or a call of ccxt: lists, or mappings by name; a venue's envelope is opened."""
    import pandas as pd

    shape = None
    if isinstance(rows, Mapping) and "data" in rows:
        rows, shape = rows["data"], "okx"
    elif isinstance(rows, Mapping) and isinstance(rows.get("result"), Mapping):
        rows, shape = rows["result"].get("list"), "bybit"
    if isinstance(rows, Mapping):
        raise ValueError(f"{title} is JSON of {listed(list(rows)[:4])} ..., neither candles nor funding; expected a list of rows")
    if not (isinstance(rows, list | tuple) and rows):
        raise ValueError(f"{title} has no rows; expected a list of rows [time, open, high, low, close, volume] or of mappings by name")
    if all(isinstance(row, Mapping) for row in rows):
        flat = [{name: value for name, value in row.items() if not isinstance(value, Mapping | list | tuple)} for row in rows]
        return replace(_blocks_of_frame(pd.DataFrame(flat)), shape=shape)
    widths = {len(row) if isinstance(row, list | tuple) else -1 for row in rows}
    if widths == {-1} or len(widths) > 1:
        raise ValueError(f"{title} has rows of several kinds or lengths ({listed(sorted(widths - {-1}))} values); give each row the same")
    frame = pd.DataFrame([list(row) for row in rows])
    return _Blocks(lambda: iter([frame]), has_names=False, shape=shape)


def form_of(path: Path, title: str) -> str:
    """Return what a file is by its first bytes: 'parquet', 'feather', 'json' or 'csv'; what packs the latter two is opened."""
    if not path.is_file():
        is_address = "://" in str(path) or ":/" in str(path)
        told = (
            "is a folder, name the files in it" if path.is_dir() else "is an address, download it first" if is_address else "does not exist"
        )
        raise ValueError(f"{title} {told}")
    with path.open("rb") as file:
        magic = file.read(8)
    if magic.startswith(b"PAR1"):
        return "parquet"
    if magic.startswith((b"ARROW1", b"FEA1")):
        return "feather"
    with opened_file(path, title) as stream:
        head = stream.read(HEAD).removeprefix(b"\xef\xbb\xbf").strip()
    if not head:
        raise ValueError(f"{title} is empty; expected candles or funding rates")
    return "json" if head[:1] in (b"[", b"{") else "csv"


def table_of(path: Path, form: str) -> Any:
    """Return a parquet or feather file as a DataFrame."""
    import pandas as pd

    try:
        return pd.read_parquet(path) if form == "parquet" else pd.read_feather(path)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, TypeError) as error:
        # What pandas noted of its types stands in the file too, and is believed by its reader whatever has become of it.
        raise ValueError(f"{path.name} cannot be read (its {form} metadata is damaged: {type(error).__name__}), write it anew") from error


def _blocks_of_file(path: Path, title: str) -> _Blocks:
    form = form_of(path, title)
    if form in ("parquet", "feather"):
        return _blocks_of_frame(table_of(path, form), is_feather=form == "feather")
    if form == "json":
        import json

        with opened_file(path, title) as stream:
            return _blocks_of_rows(json.loads(stream.read()), title)
    return _blocks_of_csv(path, title)


@contextmanager
def opened_file(path: Path, title: str = "") -> Iterator[Any]:
    """Open the bytes of a file, unpacked where it is packed; of a zip the one file that is in it."""
    import bz2
    import gzip
    import lzma
    from zipfile import ZipFile

    with path.open("rb") as file:
        magic = file.read(6)
    if magic.startswith(b"PK"):
        with ZipFile(path) as archive:
            members = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
            if "xl/workbook.xml" in members:
                raise ValueError(f"{title} is a workbook of a spreadsheet, save its sheet as CSV")
            if len(members) != 1:
                raise ValueError(f"{title} holds {len(members)} files ({listed(members[:4])}), unpack it and name those that are wanted")
            with archive.open(members[0]) as member:
                yield member
        return
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        raise ValueError(f"{title} is packed by zstd, unpack it first")
    packers: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
    unpack = next((opened for sign, opened in packers.items() if magic.startswith(sign)), None)
    with unpack(path, "rb") if unpack else path.open("rb") as stream:
        yield stream


class CsvHead(NamedTuple):
    """How a CSV begins: the lines above its first, what stands between columns, and whether its first line names them."""

    above: int
    mark: str
    has_names: bool


def csv_head(path: Path, title: str) -> CsvHead:
    """Return how a CSV begins; ValueError for what is no text, and for names that come twice."""
    import csv

    with opened_file(path, title) as stream:
        head = stream.read(HEAD)
    text = head.decode("utf-8-sig", errors="strict" if len(head) < HEAD else "ignore")
    if "\0" in text:
        raise ValueError(f"{title} is no text, for there are zero bytes in it; give a CSV, parquet, feather, JSON or zip file")
    lines = text.splitlines()
    above = next((number for number, line in enumerate(lines) if line.strip() and not line.startswith(("#", "http", "sep="))), None)
    if above is None:
        raise ValueError(f"{title} has no rows, only remarks; expected candles or funding rates")
    mark = next((mark for mark in (";", "\t") if mark in lines[above]), ",")
    names = [name.strip() for name in next(csv.reader([lines[above]], delimiter=mark))]
    has_names = not _is_row(names)
    told = [_plain_name(name) for name in names if name]
    twice = sorted({name for name in told if told.count(name) > 1})
    if has_names and twice:
        raise ValueError(f"{title} columns name {listed(twice)} twice, drop or rename one")
    return CsvHead(above, mark, has_names)


def _blocks_of_csv(path: Path, title: str) -> _Blocks:
    import pandas as pd

    above, mark, has_names = csv_head(path, title)
    # Before 3.1 the default parser of pandas could be one unit in the last place off what was written.
    exact = {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}
    terms: dict[str, Any] = {"sep": mark, "header": 0 if has_names else None, "skiprows": above, "encoding": "utf-8-sig", **exact}

    def blocks() -> Iterator[Any]:
        with opened_file(path, title) as stream, pd.read_csv(stream, chunksize=BLOCK, low_memory=False, **terms) as reader:
            for block in reader:
                if not isinstance(block.index, pd.RangeIndex):  # pandas takes the fields too many for an index, and shifts the names
                    fields = block.index.nlevels + block.shape[1]
                    raise ValueError(
                        f"{title} has {fields} fields in a row, but {block.shape[1]} names in its first line; name every column"
                    )
                yield block

    notes = (f"left out above the names: {above} lines",) if above else ()
    return _Blocks(blocks, has_names, notes=notes)


def _is_row(fields: Sequence[str]) -> bool:
    """Return whether the first line of a CSV is a row: a time first, numbers or nothing behind it."""
    if len(fields) < 2 or not fields[0][:1].isdigit():
        return False
    return all(
        not text or _is_number(text) or (place == 1 and text[:1].isdigit() and ":" in text) for place, text in enumerate(fields[1:], 1)
    )


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _plain_name(name: Any) -> str:
    """Return a column's name as the tables above spell it; behind a slash some venues repeat it in another language."""
    return str(name).strip().lower().partition("/")[0].strip().replace(" ", "_")


# -- what the columns are --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    shape: str
    times: tuple[Any, ...]
    numbers: dict[str, Any]
    labels: dict[str, Any]
    told: str


def _plan_of(block: Any, blocks: _Blocks, shape: str | None, title: str) -> _Plan:
    if blocks.has_names:
        return _named_plan(block, shape, title, is_feather=blocks.is_feather)
    return _nameless_plan(block, shape, blocks.shape, title)


def _named_plan(block: Any, shape: str | None, title: str, *, is_feather: bool) -> _Plan:
    names: dict[str, Any] = {}
    for name in block.columns:
        if names.setdefault(_plain_name(name), name) is not name:
            raise ValueError(f"{title} columns name {_plain_name(name)!r} twice, drop or rename one")
    numbers = {
        tidy: next(names[alias] for alias in aliases if alias in names) for tidy, aliases in NUMBERS.items() if set(aliases) & set(names)
    }
    if "open" not in numbers:  # 'o', 'c' ... alone are no candle
        numbers = {tidy: name for tidy, name in numbers.items() if tidy not in PRICES}
    times = _time_names(names, block, title)
    labels = {
        told: name
        for told, name in names.items()
        if name not in (*times, *numbers.values()) and told not in TURNOVER and told not in TIMES and _is_text(block[name])
    }
    likely = _shapes_of(set(names), is_feather=is_feather)
    if shape is not None and shape not in likely:
        raise ValueError(
            f"{title} has the columns {listed(block.columns)}, which are of {' or '.join(likely)}, not {shape}; leave shape= out"
        )
    _check_columns(numbers, names, title)
    used = [*times, *numbers.values(), *labels.values()]
    rest = [name for name in block.columns if name not in used]
    told = f"columns {listed(used)}" + (f"; left out {listed(rest)}" if rest else "")
    return _Plan(shape or likely[0], times, numbers, labels, told)


def _check_columns(numbers: Mapping[str, Any], names: Mapping[str, Any], title: str) -> None:
    apart = next((name for name in names if apart_of(name)), None)
    if apart is not None:  # which would be lost
        raise ValueError(f"{title} has rates inside its bars ({apart}), as resample makes them; give it to PerpData(dataname=)")
    for prefix in ("", "mark_"):
        have = [price for price in PRICES if prefix + price in numbers]
        if have and len(have) < len(PRICES):
            lacking = listed(prefix + price for price in PRICES if price not in have)
            raise ValueError(f"{title} lacks {lacking}, it has {listed(names)}; add or rename columns")
    if not {"open", "mark_open", "rate"} & set(numbers):
        raise ValueError(
            f"{title} has neither candles (open high low close) nor funding (rate), its columns are {listed(names)}; rename them"
        )


def _time_names(names: Mapping[str, Any], block: Any, title: str) -> tuple[Any, ...]:
    found = [name for name in TIMES if name in names]
    if "date" in found and "time" in found and _is_text(block[names["time"]]):
        return names["date"], names["time"]
    if not found and "close_time" in names:
        return (names["close_time"],)
    if not found:
        raise ValueError(
            f"{title} has no column of times; call it datetime (ISO 8601, UTC, or whole numbers since 1970), had {listed(names)}"
        )
    return (names[found[0]],)


def _shapes_of(names: set[str], *, is_feather: bool) -> list[str]:
    """Return the shapes that these names may be of, the likeliest first."""
    signs = {
        "binance": {"open_time", "close_time"} <= names or {"calc_time", "last_funding_rate"} <= names,
        "bybit": bool({"starttime", "start_at", "fundingratetimestamp", "openprice"} & names),
        "okx": bool({"confirm", "instrument_name", "instid", "realizedrate"} & names),
        "ccxt": {"timestamp", "fundingrate"} <= names,
        "freqtrade": names == {"date", *PRICES, "volume"},
    }
    found = [shape for shape, is_likely in signs.items() if is_likely and (shape != "freqtrade" or is_feather)]
    return [*found, "plain", *(["freqtrade"] if signs["freqtrade"] and "freqtrade" not in found else [])]


def _is_text(column: Any) -> bool:
    import pandas as pd

    return not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column))


def _nameless_plan(block: Any, shape: str | None, hint: str | None, title: str) -> _Plan:
    """Return what columns without names are, by their number and by what is in them; ValueError where that is two things or none."""
    width = block.shape[1]
    asked = shape or hint
    fitting = [layout for layout in LAYOUTS if len(layout.names) == width and _fits(layout, block.head(SAMPLE))]
    if asked in ("okx", "bybit", "binance", "ccxt"):
        wanted = [layout for layout in fitting if layout.shape == asked or (asked == "ccxt" and width == len(PRICES) + 1)]
        fitting = wanted if shape or wanted else fitting
    if len(fitting) > 1:
        told = " or ".join(f"{layout.shape} ({layout.told})" for layout in fitting)
        raise ValueError(f"{title} has no line of names and rows of {width} columns, which may be {told}; say which by shape=")
    if not fitting:
        first = listed(block.iloc[0].tolist()[:6])
        raise ValueError(
            f"{title} has no line of names and rows such as {first} ({width} columns), which are no {shape or 'known'} rows of candles or "
            "funding; write names such as datetime,open,high,low,close,volume above"
        )
    (layout,) = fitting
    columns = dict(zip(layout.names, block.columns, strict=True))
    times = (columns["date"], columns["time"]) if "date" in columns else (columns["datetime"],)
    numbers = {tidy: columns[tidy] for tidy in NUMBERS if tidy in columns}
    is_dotted = "." in str(block[times[0]].iloc[0])[:5]  # MetaTrader's dates, in which Bybit writes candles
    return _Plan(shape or ("bybit" if is_dotted else layout.shape), times, numbers, {}, f"no line of names: {layout.told}")


def _fits(layout: Layout, block: Any) -> bool:
    """Return whether rows could be of a layout: times where those should be, three quarters of the bars possible, flags that are flags."""
    import numpy as np
    import pandas as pd

    columns = dict(zip(layout.names, (block[name] for name in block.columns), strict=True))
    if "date" in columns:
        if not (_is_text(columns["date"]) and _is_text(columns["time"])):
            return False
    elif not (_is_text(columns["datetime"]) or _unit_names(pd.to_numeric(columns["datetime"]).to_numpy("float64", na_value=math.nan)[:1])):
        return False
    values = {
        name: pd.to_numeric(column, errors="coerce").to_numpy("float64", na_value=math.nan)
        for name, column in columns.items()
        if name not in ("date", "time", "datetime")
    }
    if "open" in values:
        high, low = values["high"], values["low"]
        bad = (high < low) | (high < values["open"]) | (high < values["close"]) | (low > values["open"]) | (low > values["close"])
        if bad.mean() > 0.25:
            return False
    if "confirm" in values and not (np.isin(values["confirm"], (0, 1)).all() and values["confirm"].any()):
        return False
    if "rate" in values:
        return bool(np.isin(values["funding_interval_hours"], range(1, 25)).all() and (abs(values["rate"]) <= 1).all())
    if layout.names == DUMP:
        opened = pd.to_numeric(columns["datetime"], errors="coerce").to_numpy("float64", na_value=math.nan)
        return bool(len({*(values["close_time"] - opened)}) == 1 and values["close_time"][0] > opened[0])
    return True


# -- numbers and times -----------------------------------------------------------------------------------------------


class _Series:
    """The blocks of a source put together by columns."""

    def __init__(self, blocks: _Blocks, shape: str | None, title: str) -> None:
        self.title, self.notes = title, blocks.notes
        stores: dict[str, array[Any]] = {}  # which grow in place
        self.uniques: dict[str, dict[str, int]] = {}
        self.plan: _Plan | None = None
        self.units: dict[str, int] = {}  # of numbers since 1970, and the row where each began
        self.has_zone, row = False, 0
        for block in blocks.again():
            if not len(block):
                continue
            if self.plan is None:
                self.plan = _plan_of(block, blocks, shape, title)
                self.has_zone = _names_zone(block, self.plan.times)
            self._add(stores, block, row)
            row += len(block)
        if self.plan is None:
            raise ValueError(f"{title} has no rows; expected candles or funding rates")
        import numpy as np

        self.columns = {name: np.frombuffer(store, dtype=KINDS[store.typecode]) for name, store in stores.items()}

    def _add(self, stores: "dict[str, array[Any]]", block: Any, row: int) -> None:
        assert self.plan is not None
        _put(stores, " micros", "q", self._times(block, row))
        for tidy, name in self.plan.numbers.items():
            _put(stores, tidy, "d", _numbers(block[name], tidy, f"{self.title} row", row))
        for told, name in self.plan.labels.items():
            known = self.uniques.setdefault(told, {})
            texts = block[name].astype("object").where(block[name].notna(), "")
            _put(stores, f" {told}", "i", [known.setdefault(str(text), len(known)) for text in texts])

    def _times(self, block: Any, row: int) -> Any:
        """Return the times of a block in microseconds; numbers since 1970 tell their unit row by row."""
        import pandas as pd

        assert self.plan is not None
        column = block[self.plan.times[0]]
        if len(self.plan.times) == 2:
            column = column.astype(str).str.strip() + " " + block[self.plan.times[1]].astype(str).str.strip()
        if pd.api.types.is_datetime64_any_dtype(column):
            index = pd.DatetimeIndex(column)
            return self._instants(index, column, row)
        if not pd.api.types.is_numeric_dtype(column):
            numbers = pd.to_numeric(column, errors="coerce")
            if numbers.isna().any():
                return self._texts(column, row)
            column = numbers
        return self._epochs(column.to_numpy("float64", na_value=math.nan), column, row)

    def _texts(self, column: Any, row: int) -> Any:
        import pandas as pd

        texts = column.astype("object").where(column.notna(), "").map(str).str.strip()
        if texts.str.match(r"\d{4}[./]\d\d[./]\d\d").all():
            texts = texts.str.replace(r"[./]", "-", n=2, regex=True)
        times = pd.DatetimeIndex(pd.to_datetime(texts, utc=True, format="ISO8601", errors="coerce"))
        micros = self._instants(times, column, row)
        odd = texts.str[len("2024-01-31") :].str.contains("[Zz+-]").to_numpy(bool) != self.has_zone
        if odd.any():
            first = int(odd.argmax())
            told = "has no zone, and those before it have one" if self.has_zone else "has a zone, and those before it have none"
            raise ValueError(f"{self.title} row {row + first}: the time {texts.iloc[first]!r} {told}; write the zone beside all of them")
        return micros

    def _instants(self, times: Any, column: Any, row: int) -> Any:
        import numpy as np

        self._refuse_times(np.asarray(times.isna()), column, row)
        micros = (times.tz_convert(None) if times.tz is not None else times).to_numpy().astype("datetime64[us]").astype("int64")
        early, late = epoch_bounds()
        self._refuse_times((micros < early) | (micros >= late), column, row)
        return micros

    def _epochs(self, numbers: Any, column: Any, row: int) -> Any:
        import numpy as np

        units = _unit_names(numbers)
        early, late = epoch_bounds()
        micros = np.zeros(len(numbers), dtype="int64")
        known = np.zeros(len(numbers), dtype=bool)
        exact = column.to_numpy() if column.dtype.kind in "iu" else None
        for unit in units:
            length = EPOCH_UNITS[unit]
            within = (numbers * length >= early) & (numbers * length < late)
            if exact is not None:
                micros[within] = exact[within].astype("int64") // 1_000 if length < 1 else exact[within].astype("int64") * int(length)
            else:
                micros[within] = np.rint(numbers[within] * length).astype("int64")
            known |= within
            self.units.setdefault(unit, row + int(within.argmax()))
        self._refuse_times(~known, column, row)
        return micros

    def _refuse_times(self, bad: Any, column: Any, row: int) -> None:
        if bad.any():
            first = int(bad.argmax())
            told = column.iloc[first]
            blank = told is None or told != told or not str(told).strip()
            expected = "ISO 8601 such as 2024-01-31T08:00:00Z, or a count of s, ms, us or ns since 1970"
            raise ValueError(
                f"{self.title} row {row + first} has no time, drop it"
                if blank
                else f"{self.title} row {row + first}: the time must be {expected}, was {str(told)[:40]!r}; repair or drop the row"
            )

    # -- series ------------------------------------------------------------------------------------------------------

    def readings(self, where: Mapping[str, str]) -> list[Reading]:
        """Return each series, those that ``where`` names; a source without labels that tell rows of one time apart is one."""
        import numpy as np

        assert self.plan is not None
        micros = self.columns.pop(" micros")
        codes = {name: self.columns.pop(f" {name}") for name in self.uniques}
        notes = [f"taken for {self.plan.shape}: {self.plan.told}", *self.notes]
        if len(self.units) > 1:
            steps = sorted(self.units.items(), key=lambda item: item[1])
            notes.append("times count " + ", then ".join(f"{unit} from row {row}" for unit, row in steps))
        whole = Reading(
            self.title,
            self.plan.shape,
            "candles",
            micros,
            self.columns,
            np.arange(len(micros), dtype="int32"),
            self.has_zone,
            tuple(notes),
            time_names=self.plan.times,
        )
        kept, chosen = self._chosen(codes, where, len(micros))
        apart = {name: values for name, values in codes.items() if name not in chosen and len(self.uniques[name]) > 1}
        same = {name: next(iter(self.uniques[name])) for name in codes if len(self.uniques[name]) == 1}
        if kept is not None:
            whole = whole.at(kept)
            apart = {name: values[kept] for name, values in apart.items()}
        whole = replace(whole, labels=dict(chosen))
        is_one = not apart or len(np.unique(whole.micros)) == len(whole.micros)
        return [_called(reading, {**same, **reading.labels}) for reading in ([whole] if is_one else self._split(whole, apart))]

    def _chosen(self, codes: Mapping[str, Any], where: Mapping[str, str], rows: int) -> tuple[Any, dict[str, str]]:
        import numpy as np

        if not where:
            return None, {}
        kept = np.ones(rows, dtype=bool)
        for name, value in where.items():
            values = self.uniques.get(_plain_name(name))
            if values is None:
                raise ValueError(
                    f"{self.title} has no column of words called {name}, it has {listed(self.uniques)}; name one of those in where"
                )
            if str(value) not in values:
                raise ValueError(f"{self.title} has no {name} {value!r}, it has {listed(list(values)[:12])}; name one of those in where")
            kept &= codes[_plain_name(name)] == values[str(value)]
        if not kept.any():
            raise ValueError(f"{self.title} has no row with all of {dict(where)}; name labels that stand together")
        return kept, {_plain_name(name): str(value) for name, value in where.items()}

    def _split(self, whole: Reading, apart: Mapping[str, Any]) -> list[Reading]:
        import numpy as np

        key = np.zeros(len(whole.micros), dtype="int64")
        for name, codes in apart.items():
            key = key * len(self.uniques[name]) + codes
        order = np.argsort(key, kind="stable")
        edges = np.flatnonzero(np.diff(key[order], prepend=-1))
        texts = {name: list(self.uniques[name]) for name in apart}
        found = []
        for first, end in zip(edges, [*edges[1:], len(order)], strict=True):
            rows = order[first:end]
            labels = {name: texts[name][int(codes[rows[0]])] for name, codes in apart.items()}
            found.append(replace(whole.at(rows), labels={**whole.labels, **labels}))
        return found


def _put(stores: "dict[str, array[Any]]", name: str, kind: str, values: Any) -> None:
    """Write a block of a column behind those before it."""
    import numpy as np

    stores.setdefault(name, array(kind)).frombytes(np.ascontiguousarray(values, dtype=KINDS[kind]).view("uint8").data)


def _called(reading: Reading, labels: Mapping[str, str]) -> Reading:
    """Return a series with its symbol, by a column that says it or else by the name of the file."""
    told = next((labels[name] for name in SYMBOLS if labels.get(name)), None)
    symbol = (
        symbol_of(reading.title)
        if told is None
        else told.partition(":")[0].removesuffix("-SWAP").translate({ord(mark): None for mark in "/-_"})
    )
    return replace(reading, symbol=symbol)


def _names_zone(block: Any, times: tuple[Any, ...]) -> bool:
    """Return whether a column of times says what zone it is in: by its type, or by the text of its first row."""
    import pandas as pd

    column = block[times[-1]]
    if isinstance(column.dtype, pd.DatetimeTZDtype) or pd.api.types.is_numeric_dtype(column):
        return True
    text = str(column.iloc[0]).strip()
    return text.isdigit() or text.endswith(("Z", "z")) or any(sign in text[len("2024-01-31") :] for sign in "+-")


def _unit_names(numbers: Any) -> list[str]:
    """Return the units in which some of the numbers are times between 1990 and 2100."""
    early, late = epoch_bounds()
    return [unit for unit, length in EPOCH_UNITS.items() if ((numbers * length >= early) & (numbers * length < late)).any()]


def _numbers(column: Any, name: str, title: str, row: int) -> Any:
    """Return a column as floats, blanks as NaN."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(column) and name != "confirm":
        raise ValueError(f"{title} {row}: {name} must be a number, was {column.iloc[0]}; repair the column")
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy("float64", na_value=math.nan)
    if pd.api.types.is_datetime64_any_dtype(column):
        return column.to_numpy().astype("datetime64[us]").astype("float64")
    texts = column.astype("object").where(column.notna(), "").map(str).str.strip()
    numbers = pd.to_numeric(texts.where(texts != "", "nan"), errors="coerce").to_numpy("float64")
    bad = pd.isna(numbers) & ~texts.str.lower().isin(["", "nan"]).to_numpy()
    if bad.any() and name != "close_time":
        first = int(bad.argmax())
        told = texts.iloc[first]
        is_comma = "," in told and told.replace(",", "").replace(".", "").strip("-").isdigit()
        remedy = "write numbers with a decimal point and no comma" if is_comma else "repair or drop the row"
        raise ValueError(f"{title} {row + first}: {name} must be a number, was {told[:40]!r}; {remedy}")
    return numbers


# -- what the series is ----------------------------------------------------------------------------------------------


def _settled(reading: Reading) -> Reading:
    """Return a series by its kind: unfinished bars left out, funding that stands in a column of prices, the newest row last."""
    reading = _finished(_as_funding(reading))
    columns = reading.columns
    columns.pop("close_time", None)
    notes: list[str] = []
    kind = "candles"
    if "open" not in columns:
        kind = "funding" if "rate" in columns and "mark_open" not in columns else "mark"
        if kind == "mark":
            columns = {name.removeprefix("mark_"): values for name, values in columns.items() if name not in ("rate", "paid_by")}
    elif "mark_open" in columns or "rate" in columns:
        kind = "joint"
    else:
        kind, notes = _kind_of_prices(reading)
    if kind != "funding":
        columns.pop("paid_by", None)
    if len(reading.micros) > 1 and (reading.micros[1:] < reading.micros[:-1]).all():
        reading = reading.at(slice(None, None, -1), "the newest row came first: turned round")
        columns = {name: values[::-1] for name, values in columns.items()}
    return replace(reading, kind=kind, columns=columns, notes=(*reading.notes, *notes))


def _as_funding(reading: Reading) -> Reading:
    """Return rates that stand in the open of candles without other prices, as freqtrade stores funding, as rates."""
    columns = reading.columns
    if not {"open", "volume"} <= set(columns) or "rate" in columns:
        return reading
    others = [columns[name] for name in ("high", "low", "close")]
    if not all(((values == 0) | (values != values)).all() for values in others) or not (abs(columns["open"]) <= 1).all():
        return reading
    note = "rates stand in open and the other prices are 0: freqtrade's funding"
    return replace(reading, shape="freqtrade", columns={"rate": columns["open"]}, notes=(*reading.notes, note))


def _finished(reading: Reading) -> Reading:
    """Return a series without the bars that a venue says were still running."""
    confirm = reading.columns.pop("confirm", None)
    if confirm is None or confirm.all():
        return reading
    running = confirm == 0
    told = f"left out as unfinished when written (confirm 0): {int(running.sum())} bars, row {int(reading.rows[running.argmax()])} first"
    if running.all():
        raise ValueError(f"{reading.title} has only bars that were not finished (confirm 0); fetch them again")
    return reading.at(~running, told)


def _kind_of_prices(reading: Reading) -> tuple[str, list[str]]:
    words = reading.title.lower().replace("-", " ").replace("_", " ").replace(".", " ").split()
    named = next((MARKS_OF[word] for word in words if word in MARKS_OF), None)
    if named is not None:
        return named, [f"{named} prices by the name of the file"]
    volume = reading.columns.get("volume")
    if reading.shape == "binance" and volume is not None and not volume.any():
        return "mark", ["volume is 0 in every row: mark or index prices"]
    return "candles", []


def symbol_of(title: str) -> str:
    """Return the symbol in a file's name: the longest run of capitals and digits that has a letter; '' without one.

    >>> symbol_of("binance-BTCUSDT-1h-mark.parquet"), symbol_of("BTC_USDT_USDT-8h-funding_rate.feather"), symbol_of("candles.csv")
    ('BTCUSDT', 'BTCUSDT', '')
    """
    import re

    stem = title.split(".")[0]
    pair = re.match(r"([A-Z0-9]{2,})_(USDT|USDC|USD)(?:_[A-Z]+)?(?![A-Za-z])", stem)
    if pair:
        return pair[1] + pair[2]
    swap = re.search(r"([A-Z0-9]{2,})-(USDT|USDC|USD)-SWAP", stem)
    if swap:
        return swap[1] + swap[2]
    words = [word for word in re.split(r"[^A-Za-z0-9]+", stem) if re.fullmatch(r"(?=.*[A-Z])[A-Z0-9]{3,}", word)]
    return max(words, key=len, default="")
