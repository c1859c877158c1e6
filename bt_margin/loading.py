"""What a command line names, made into objects: strategies, sizers, candles, values by symbol.

Whatever is wrong with a name is a ValueError of one sentence. What a user's own code raises while it is imported or run
is a ``UserCodeError``, which knows the traceback that begins in that code.
"""

import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING
from datetime import UTC, datetime, timedelta
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from math import isnan
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar
from zlib import crc32

import backtrader as bt

from . import scalers, sizers
from .core.account import is_number
from .feeds import EmptyWindowError, PerpData
from .frames import LocalTimeWarning
from .joining import plain_files
from .shapes import symbol_of
from .venues import Venue, plain_symbol

T = TypeVar("T")
PACKAGE = Path(__file__).resolve().parent
HIGHEST_RATE = 0.04  # of funding at one stamp: Hyperliquid's cap, the highest of those sourced
HIGHEST_FEE = 0.01
SAID = {
    "give PerpData stamp='close'": "say --stamp close",
    "take venue 'generic' (a flat 0.5 %), or give PerpCommInfo tiers=[(cap, rate, max_leverage), ...] of its own": (
        "say --venue generic (a flat 0.5 %)"
    ),
    "sizer is a class derived from backtrader.Sizer, (class, params) or a size": "--sizer is a sizer's name, file.py:Class or a size",
    ", or say currency= in their PerpCommInfo": "",
    "the same command with resume=True does the rest": "the same command with --resume does the rest",
    "continue it with resume=True": "continue it with --resume",
    "run again with resume=True": "run again with --resume",
    "resume goes on with what a folder holds; name it as out=": "--resume goes on with what a folder holds; name it as --out DIR",
    "backend='dask' takes scheduler='tcp://host:port', and no other backend does": (
        "--backend dask takes --scheduler tcp://host:port, and no other backend does"
    ),
    "see why with backend='serial'": "see why with --backend serial",
    "run it with margin_mode='isolated'": "say --margin-mode isolated",
    ", or PerpData a timeframe= of Seconds, Minutes or Days and a compression=": "",
}
KINDS: dict[Any, str] = {bool: "true or false", int: "a whole number", Real: "a number"}


class UserCodeError(Exception):
    """A user's strategy or sizer raised: ``trace`` is the traceback from its own first line on, the text one sentence."""

    def __init__(self, sentence: str, trace: str) -> None:
        super().__init__(sentence)
        self.trace = trace


# -- strategies and sizers -------------------------------------------------------------------------------------------


def strategy_from(text: str) -> type[bt.Strategy]:
    """Return the strategy that ``file.py``, ``file.py:Class``, ``module`` or ``module:Class`` names."""
    return _class_from(text, bt.Strategy, "strategy")


def sizer_from(text: str) -> float | tuple[type[bt.Sizer], dict[str, Any]]:
    """Return the sizer that a text names: the size of every order, or ``NAME:key=value,...``.

    NAME is that of a rule (``risk``, see ``docs/sizing.md``), a class of Backtrader's or of ours (``PercentSizer``), ``file.py:Class``
    or ``module:Class``.
    """
    try:
        return float(text)
    except ValueError:
        pass
    name, terms = sizers.split(text)
    params = sizers.params_from(terms, "--sizer")
    own = sizers.RULES.get(name) or getattr(bt.sizers, name, None) or getattr(sizers, name, None)
    if isinstance(own, type) and issubclass(own, bt.Sizer):
        return own, params
    if name.partition(":")[0].strip() in sizers.RULES:
        raise ValueError(f"--sizer {text}: a rule is NAME or NAME:key=value,key=value; a rule inside it stands in brackets")
    if ".py" not in name and ":" not in name:
        hosts = sorted(key for key, item in vars(bt.sizers).items() if isinstance(item, type) and issubclass(item, bt.Sizer))
        raise ValueError(
            f"--sizer {text} is no number and no sizer; known are {', '.join(sorted(sizers.RULES))}, Backtrader's {', '.join(hosts)}; "
            "yours is file.py:Class"
        )
    return _class_from(name, bt.Sizer, "sizer"), params


def scaler_from(text: str) -> scalers.Scaler | scalers.MarginTopUp:
    """Return the scaler that ``NAME`` or ``NAME:key=value,...`` names; a row of numbers is written ``shares=0.5/0.3/0.2`` or in %."""
    name, _, terms = text.partition(":")
    known = {kind.__name__: kind for kind in scalers.SCHEMES}
    kind = next((kind for each, kind in known.items() if each.lower() == name.strip().lower()), None)
    if kind is None:
        raise ValueError(f"--scaler {text} names no scaler; known are {', '.join(known)}")
    texts = sizers.params_from(terms.split(",") if terms else [], "--scaler", str)
    unknown = [name for name in texts if name not in kind.__dataclass_fields__]
    if unknown:
        raise ValueError(f"{kind.__name__} has no parameter {', '.join(unknown)}; it has {', '.join(kind.__dataclass_fields__)}")
    missing = [name for name, each in kind.__dataclass_fields__.items() if each.default is MISSING and name not in texts]
    if missing:
        raise ValueError(f"{kind.__name__} needs {', '.join(missing)}; say --scaler {kind.__name__}:{missing[0]}=...")
    params = {name: _row_of_numbers(text) for name, text in texts.items()}
    ranges = params.get("atr_period", getattr(kind, "atr_period", None))
    for name in ("step", "stop"):
        if ranges is not None and "%" in texts.get(name, ""):
            raise ValueError(
                f"--scaler: {name} of a {kind.__name__} counts average true ranges of {ranges} bars, was {texts[name]}; "
                "give a number, or say atr_period=none for a share of the price"
            )
    scaler = kind(**params)
    if isinstance(scaler, scalers.Scaler):
        scaler.ladder()  # which refuses numbers that make none
    return scaler


def _row_of_numbers(text: str) -> Any:
    """Return ``0.5/0.3/0.2`` or ``50%/30%/20%`` as numbers, anything else as the value that it stands for."""
    if "/" not in text:
        return sizers.value_from(text)
    row = tuple(sizers.value_from(part) for part in text.split("/"))
    if not all(is_number(part) for part in row):
        raise ValueError(f"--scaler: a row of numbers is written 0.5/0.3/0.2, was {text!r}")
    return row


def params_from(pairs: Sequence[str], option: str = "--param") -> dict[str, Any]:
    """Return parameters from ``key=value`` texts; a value is read as a Python literal, else kept as text."""
    return sizers.params_from(pairs, option, sizers.literal_from)


def values_from(pairs: Sequence[str], option: str = "--param") -> dict[str, list[Any]]:
    """Return the values to try of parameters from ``key=value`` and ``key=value,value`` texts; commas in brackets part nothing."""
    return sizers.params_from(pairs, option, lambda text: listed_from(text, sizers.literal_from))


def listed_from(text: str, read: Callable[[str], T]) -> list[T]:
    """Return the values of a text that commas outside of brackets and quotes part.

    >>> listed_from("10,(1, 2),'a,b'", str)
    ['10', '(1, 2)', "'a,b'"]
    """
    parts, depth, quote = [""], 0, ""
    for letter in text:
        quote = "" if letter == quote else quote or (letter if letter in "'\"" else "")
        depth += 0 if quote else (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [read(part.strip()) for part in parts]


def check_kinds(strategy: type[bt.Strategy], params: Mapping[str, Any]) -> None:
    """Refuse a parameter that is of another kind than its default: a word for a number, a fraction for a count of bars."""
    defaults = dict(strategy.params._getitems())
    for name, value in params.items():
        default = defaults.get(name)
        kind = next((kind for kind in KINDS if isinstance(default, kind)), None)
        if kind is not None and not (isinstance(value, kind) and isinstance(value, bool) == (kind is bool)):
            raise ValueError(f"--param {name} is {KINDS[kind]}, as its default {default!r} is; was {value!r}")


def _class_from(text: str, base: type[T], word: str) -> type[T]:
    file = re.fullmatch(r"(.*\.py)(?::(\w*))?", text)
    place, name = (file[1], file[2] or "") if file else (text.partition(":")[0], text.partition(":")[2])
    module = _module_of_file(Path(place)) if file else _module_called(place, word)
    own = {
        key: item
        for key, item in vars(module).items()
        if isinstance(item, type) and issubclass(item, base) and item.__module__ == module.__name__ and not key.startswith("_")
    }
    if name:
        found = getattr(module, name, None)
        if not (isinstance(found, type) and issubclass(found, base)):
            raise ValueError(f"{place} has no {word} {name}; it has {', '.join(own) or 'none'}")
        return found
    if not own:
        if not file and Path(place).is_dir():
            raise ValueError(f"{place} is a folder; name the {word} in it as {place}/file.py:Class")
        raise ValueError(f"{place} has no {word}; write a class derived from backtrader.{base.__name__} there")
    if len(own) > 1:
        raise ValueError(f"{place} has {len(own)} classes of {word}, {', '.join(own)}; say which: {place}:{next(iter(own))}")
    return next(iter(own.values()))


def _module_of_file(path: Path) -> ModuleType:
    path = path.expanduser()
    if not path.is_file():
        raise ValueError(f"there is no file {path}; name a Python file, or a module as module:Class")
    # A file called numpy.py must not stand in the way of the real one, nor one strategy.py in that of another folder's.
    name = f"user_{path.stem}_{crc32(str(path.resolve()).encode()):08x}"
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # Backtrader looks its classes' modules up there
    sys.path.insert(0, str(path.resolve().parent))  # as 'python file.py' has it: what lies beside it can be imported
    with blaming(str(path), name):
        spec.loader.exec_module(module)
    return module


def _module_called(name: str, word: str) -> ModuleType:
    if "" not in sys.path:
        sys.path.insert(0, "")  # as 'python -m' has it; a console script has not
    try:
        with blaming(name, name):
            return import_module(name)
    except (ModuleNotFoundError, TypeError, ValueError) as error:
        if Path(name).is_dir():
            raise ValueError(f"{name} is a folder; name the {word} in it as {name.rstrip('/')}/file.py:Class") from error
        if Path(name).is_file():
            raise ValueError(f"{name} is not a Python file; name a {word} as file.py:Class") from error
        raise ValueError(f"there is no module {name!r} ({error}); name a {word} as file.py:Class or module:Class") from error


# -- whose fault ------------------------------------------------------------------------------------------------------


@contextmanager
def blaming(label: str, *modules: str) -> Iterator[None]:
    """Turn what is raised in user code into a UserCodeError that calls it ``label``; what our own code raises passes.

    It is the user's if a line of one of the ``modules``, or of a file beside one of them, is on the way to the error.
    """
    try:
        yield
    except (Exception, SystemExit) as error:  # whatever a stranger's code raises
        trace = _trace_in(error, modules)
        if trace is None:
            raise
        raise UserCodeError(_sentence(error, label), trace) from error


def _trace_in(error: BaseException, modules: Sequence[str]) -> str | None:
    """Return the traceback from the first line of user code on, None where none is on the way."""
    folders = {Path(str(getattr(sys.modules.get(module), "__file__", None) or module)).resolve().parent for module in modules}
    frames = list(traceback.walk_tb(error.__traceback__))
    first = next((number for number, (frame, _) in enumerate(frames) if _lies_in(frame.f_code.co_filename, folders)), None)
    is_unreadable = isinstance(error, SyntaxError) and _lies_in(error.filename or "", folders)
    if first is None and not is_unreadable:
        return None
    shown = traceback.StackSummary.extract(iter(frames[first:] if first is not None else ()))
    said = traceback.format_exception_only(error)
    return "".join(["Traceback (most recent call last):\n" if shown else "", *shown.format(), *said])


def _lies_in(file: str, folders: set[Path]) -> bool:
    """Whether a file is a user's: in or below one of the folders, but neither installed there nor a room of ours."""
    if file.startswith("<"):  # code without a file: the interpreter's own
        return False
    path = Path(file).resolve()
    is_ours = path.is_relative_to(PACKAGE) and not any(folder.is_relative_to(PACKAGE) for folder in folders)
    return "site-packages" not in path.parts and not is_ours and any(path.is_relative_to(folder) for folder in folders)


def _sentence(error: BaseException, label: str) -> str:
    bars = [bar for frame, _ in traceback.walk_tb(error.__traceback__) if (bar := _bar_of(frame.f_locals.get("self"))) is not None]
    when = f" on the bar of {bars[-1]:%Y-%m-%d %H:%M} UTC" if bars else ""
    said = " ".join(str(error).split())
    return f"{label} raised {type(error).__name__}{when}{f': {said}' if said else ''}; mend it and run again"


def _bar_of(owner: Any) -> datetime | None:
    """Return the bar a strategy is on, None for anything else and before its first."""
    if not (isinstance(owner, bt.Strategy) and len(owner)):
        return None
    day_number = owner.datetime[0]
    return None if isnan(day_number) else bt.num2date(day_number)


# -- candles ---------------------------------------------------------------------------------------------------------


def feeds_from(
    files: Sequence[str],
    marks: Sequence[str],
    funding: Sequence[str],
    start: str | None,
    end: str | None,
    rules: Venue,
    stamp: str,
    details: Sequence[str] = (),
) -> dict[str, PerpData]:
    """Return the feeds of candle files by symbol, from ``start`` up to ``end`` (see ``window_from``).

    A file is ``SYMBOL=FILE``, or a path whose name begins with the symbol: BTCUSDT-1h.csv. ``marks``, ``details`` and ``funding``
    are files or, for funding, rates: one for the only symbol (a rate: for all), or ``SYMBOL=...``. ``rules`` say how often a rate
    is charged.
    """
    sources: dict[str, str] = {}
    for text in files:
        symbol, path = _symbol_of(text)
        if path == text and rules.any_tiers is None and plain_symbol(symbol) not in rules.contracts:
            raise ValueError(
                f"--data {text}: the name of the file says the symbol is {symbol}, for which {rules.name} has no tiers here; say "
                "SYMBOL=FILE, or take --venue generic"
            )
        if symbol in sources:
            raise ValueError(f"--data names {symbol} twice, {sources[symbol]} and {path}; give each file its own as SYMBOL=FILE")
        sources[symbol] = path
    fromdate, todate = window_from(start, end)
    marks_of = _sidecars("--mark", marks, sources, str)
    funding_of = _sidecars("--funding", funding, sources, _funding_or_path)
    details_of = _sidecars("--detail", details, sources, str)
    feeds = {}
    for symbol, path in sources.items():
        terms = {"dataname": path, "name": symbol, "mark": marks_of.get(symbol), "funding": funding_of.get(symbol)}
        terms["stamp"] = stamp
        terms["detail"] = details_of.get(symbol)
        terms["funding_hours"] = rules.funding_hours(symbol)
        feeds[symbol] = _feed(_with_arrays(terms), fromdate, todate)
    return feeds


def window_from(start: str | None, end: str | None) -> tuple[datetime | None, datetime | None]:
    """Return the bounds of the bars' closes for candles from ``start`` up to ``end``, ISO dates or times, UTC unless they say.

    A day as ``end`` is that whole day.
    """
    first, last = (None if text is None else _moment(option, text) for option, text in (("--start", start), ("--end", end)))
    if end is not None and last is not None and len(end.strip()) <= len("2024-01-31"):
        last += timedelta(days=1)
    if first is not None and last is not None and first >= last:
        raise ValueError(f"--start {start} is not before --end {end}; give the earlier one as --start")
    return None if first is None else first + timedelta(milliseconds=1), last  # the host's clock cannot tell less


def fee_from(text: str) -> float | tuple[float, float]:
    """Return a trading fee from ``0.0005``, or (maker, taker) from ``0.0002,0.0005``; percent signs are understood."""
    rates = [rate for part in text.split(",") if isinstance(rate := _rate_or_path(part.strip()), float)]
    if len(rates) > 2 or len(rates) <= text.count(","):
        raise ValueError(f"--fee takes a fraction of notional such as 0.0005 or 0.05%, or MAKER,TAKER, was {text!r}")
    if not all(abs(rate) <= HIGHEST_FEE for rate in rates):
        raise ValueError(f"--fee {text} is more than {HIGHEST_FEE:g} of notional; 0.05 % is 0.0005, or 0.05%")
    return rates[0] if len(rates) == 1 else (rates[0], rates[1])


def distance_from(text: str) -> float:
    """Return a share of the mark from ``0.05`` or ``5%``."""
    share = _rate_or_path(text.strip())
    if not isinstance(share, float):
        raise ValueError(f"--warn-at takes a share of the mark such as 0.05 or 5%, was {text!r}")
    return share


def by_symbol_from(option: str, text: str, read: Callable[[str], T]) -> T | dict[str, T]:
    """Return one value for all from ``20``, or a mapping from ``BTCUSDT=5,DOGEUSDT=20``."""
    if "=" not in text:
        return _read(option, text, read)
    values: dict[str, T] = {}
    for pair in text.split(","):
        symbol, equals, value = pair.partition("=")
        if not (equals and symbol.strip()) or symbol.strip() in values:
            raise ValueError(f"{option} takes one value for all, or SYMBOL=value,SYMBOL=value with each symbol once, was {text!r}")
        values[symbol.strip()] = _read(option, value, read)
    return values


def _read(option: str, text: str, read: Callable[[str], T]) -> T:
    try:
        return read(text.strip())
    except ValueError:
        raise ValueError(f"{option} takes a number, was {text!r}") from None


def leverage_from(text: str) -> float:
    """Return a leverage from ``20`` or ``20x``, as tables show it."""
    return float(text.lower().removesuffix("x"))


def _moment(option: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{option} takes a UTC date or time such as 2024-01-31 or 2024-01-31T08:00, was {text!r}") from None
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def _symbol_of(text: str) -> tuple[str, str]:
    symbol, equals, path = text.partition("=")
    if equals and not path:
        raise ValueError(f"--data {text} names no file; say SYMBOL=FILE")
    if equals and not Path(text).is_file() and symbol.replace("/", "").replace(":", "").replace("-", "").replace("_", "").isalnum():
        return symbol, path
    stem = Path(text).name
    symbol = stem[: next((place for place, letter in enumerate(stem) if not letter.isalnum()), len(stem))]
    if re.match(r"[A-Z0-9]+(_USD[TC]?(_[A-Z]+)?|-USD[TC]?-SWAP)(?![A-Za-z])", stem):  # as freqtrade and OKX spell it
        symbol = symbol_of(stem)
    if not symbol:
        raise ValueError(f"--data {text}: a file's name begins with its symbol, or say SYMBOL=FILE")
    return symbol, text


def _sidecars(option: str, texts: Sequence[str], symbols: Mapping[str, str], read: Callable[[str], str | float]) -> dict[str, str | float]:
    found: dict[str, str | float] = {}
    for text in texts:
        symbol, equals, rest = text.partition("=")
        value = read(rest if equals else text)
        if equals and symbol not in symbols:
            raise ValueError(f"{option} names {symbol}, but --data has {', '.join(symbols)}")
        if not equals and isinstance(value, str) and len(symbols) > 1:
            raise ValueError(f"{option} {text} is one contract's, but there are {', '.join(symbols)}; say SYMBOL=FILE")
        twice = [name for name in ([symbol] if equals else symbols) if name in found]
        if twice:
            raise ValueError(f"{option} is given twice for {', '.join(twice)}; leave one out")
        found.update(dict.fromkeys([symbol] if equals else symbols, value))
    return found


def fraction(text: str) -> float:
    """Return a rate from ``0.0005`` or ``0.05%``."""
    return float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)


def _rate_or_path(text: str) -> float | str:
    try:
        return fraction(text)
    except ValueError:
        return text


def _funding_or_path(text: str) -> float | str:
    rate = _rate_or_path(text)
    if isinstance(rate, float) and not abs(rate) <= HIGHEST_RATE:
        raise ValueError(
            f"--funding {text} is {rate:.6g} of notional at every stamp, more than the {HIGHEST_RATE:g} that any venue allows; 0.01 % is "
            "0.0001, or 0.01%"
        )
    return rate


def _with_arrays(terms: dict[str, Any]) -> dict[str, Any]:
    """Return the terms of a feed with files that ``PerpData`` does not read by itself (feather, JSON, a venue's dumps) made into arrays."""
    roles = {"last": "dataname", "mark": "mark", "funding": "funding", "detail": "detail"}
    files = {role: terms[name] for role, name in roles.items() if isinstance(terms[name], str)}
    arrays = plain_files(files, terms["name"], terms["stamp"])
    return terms if arrays is None else {**terms, **{roles[role]: columns for role, columns in arrays.items()}, "stamp": "open"}


def _feed(terms: Mapping[str, Any], fromdate: datetime | None, todate: datetime | None) -> PerpData:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", LocalTimeWarning)
            return PerpData(**terms, fromdate=fromdate, todate=todate)
    except EmptyWindowError as error:
        raise ValueError(f"{error.told}, and --start and --end leave none of them; widen them") from error
    except LocalTimeWarning as warned:
        raise ValueError(str(warned)) from warned


def as_options(sentence: str) -> str:
    """Return a sentence with what it advises said as a command line says it."""
    for advice, option in SAID.items():
        sentence = sentence.replace(advice, option)
    return sentence
