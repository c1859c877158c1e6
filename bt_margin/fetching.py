"""Market data from a venue through ccxt: page by page into a journal, then one tidy file of each kind and a manifest.

What is fetched ends where the first attempt said that it ends, every page begins where the one before it ended, and a page counts
once its line in the journal is whole. So a fetch that was interrupted anywhere goes on from its last whole page, and leaves the
bytes that it would have left uninterrupted. Only ccxt's documented interface is used: ``has``, ``timeframes``, ``load_markets``,
``fetch_ohlcv``, ``fetch_mark_ohlcv``, ``fetch_index_ohlcv``, ``fetch_funding_rate_history``, ``fetch_market_leverage_tiers``,
``fetch_leverage_tiers`` and its errors.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import pairwise
from math import isfinite
from pathlib import Path
from time import sleep as real_sleep
from time import time
from typing import Any, NamedTuple
from zlib import crc32

from .frames import PRICES, epoch_bounds, listed
from .locking import HeldError, held
from .resampling import micros_of
from .venues import plain_symbol, readers

KINDS = ("last", "mark", "index", "funding", "tiers")
CANDLES = ("last", "mark", "index")
ABILITIES = {  # kind -> what ccxt's ``has`` calls it, any of them will do
    "last": ("fetchOHLCV",),
    "mark": ("fetchMarkOHLCV",),
    "index": ("fetchIndexOHLCV",),
    "funding": ("fetchFundingRateHistory",),
    "tiers": ("fetchMarketLeverageTiers", "fetchLeverageTiers"),
}
METHODS = {"last": "fetch_ohlcv", "mark": "fetch_mark_ohlcv", "index": "fetch_index_ohlcv"}
INSTEAD = {  # what helps where a venue does not tell a kind through ccxt
    "last": "give candles of your own to bm.load",
    "mark": "give mark prices of your own as mark=FILE, or say missing_mark='last' or 'index'",
    "index": "give index prices of your own as index=FILE where missing_mark='index' needs them",
    "funding": "give rates of your own as funding=FILE, or say missing_funding= a rate",
    "tiers": "take the tables that come with bt_margin (bt-margin tiers show), or a file of your own (bt-margin tiers check FILE)",
}
CCXT_IDS = {"binance": "binanceusdm", "binance-coinm": "binancecoinm"}  # of our venues whose name is another one there
ENDS = dict.fromkeys(("okx", "okxus", "myokx"), "after")  # what ends a span of settlements, where ccxt does not take its own word
PAGE_OF_CANDLES = 500
PAGE_OF_FUNDING = 100  # Bybit and OKX answer no more, and leave out the oldest of what was asked for
SMALLEST_PAGE = 100  # of those that venues answer: what is passed where a page is empty, for nothing may lie beyond it
MILLI = 1_000  # microseconds
SECOND, HOUR, DAY = 1_000, 3_600_000, 86_400_000  # milliseconds
LONGEST_SPAN = 200 * DAY  # of a page: more Binance does not tell of coin-margined contracts (its documentation of /dapi/v1/klines, 2026-11)
JITTER = 2_000  # milliseconds that a settlement may be told off its minute
TRIES = 8
FIRST_WAIT, LONGEST_WAIT, BUSY_WAIT = 1.0, 60.0, 10.0  # seconds; the last is the least after "too many requests"

Row = list[Any]  # of candles [ms, open, high, low, close, volume], of funding [ms, rate]


class UnavailableError(Exception):
    """A kind that a venue does not tell through ccxt, and what helps instead."""


@dataclass(frozen=True)
class Request:
    """What is fetched: bars that open from ``since`` on and close by ``until``, settlements before it (milliseconds, UTC; None: now)."""

    venue: str
    symbol: str
    since: int
    until: int | None = None
    timeframe: str = "1h"
    kinds: tuple[str, ...] = KINDS

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or not self.kinds or len(set(self.kinds)) < len(self.kinds):
            raise ValueError(f"what to fetch is some of {','.join(KINDS)}, each once, was {','.join(self.kinds)!r}")
        if self.until is not None and self.until <= self.since:
            raise ValueError(f"since, {iso(self.since)}, must be before until, {iso(self.until)}")
        if not any(mark.isalnum() for mark in self.symbol):
            raise ValueError(f"a symbol is a contract's name such as BTCUSDT, was {self.symbol!r}")
        micros_of(self.timeframe)

    @property
    def step(self) -> int:
        """The length of a bar in milliseconds."""
        return micros_of(self.timeframe) // MILLI

    @property
    def stem(self) -> str:
        """What its files are called."""
        return f"{self.venue}-{''.join(mark for mark in plain_symbol(self.symbol) if mark.isalnum() or mark == '-')}"

    def name(self, kind: str) -> str:
        """Return what the file of a kind is called, without its suffix; readers tell by it what it holds."""
        return f"{self.stem}-{self.timeframe}-{kind}" if kind in CANDLES else f"{self.stem}-{kind}"

    def asked(self) -> dict[str, Any]:
        """Return the request as JSON has it."""
        until = None if self.until is None else iso(self.until)
        return {
            "venue": self.venue,
            "symbol": self.symbol,
            "since": iso(self.since),
            "until": until,
            "timeframe": self.timeframe,
            "what": list(self.kinds),
        }


@dataclass
class Fetched:
    """What a fetch left: its manifest, as it is in the file, where that is, and whether all of it was there before."""

    manifest: dict[str, Any]
    path: Path
    was_there: bool = False


def iso(millis: int) -> str:
    """Return an instant as 2024-01-31T08:00:00Z, with milliseconds where it has some."""
    from datetime import UTC, datetime, timedelta

    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis)
    return moment.isoformat(timespec="milliseconds" if millis % 1_000 else "seconds").replace("+00:00", "Z")


def fetch(
    request: Request,
    folder: Path,
    *,
    exchange: Any = None,
    clock: Callable[[], float] = time,
    sleep: Callable[[float], object] = real_sleep,
    tell: Callable[[str, float], object] = lambda _kind, _share: None,
) -> Fetched:
    """Fetch what is asked for into files of a folder; one that is there already, whole, is not asked for again.

    ``exchange`` is an instance of ccxt's, one's own with its keys say; without it one is made of the venue's name. ``clock``
    returns seconds since 1970, ``sleep`` waits before another try, ``tell`` hears the kind and the share of it that is done.
    ValueError in one sentence where the venue cannot be asked; what was fetched stays for the next attempt.
    """
    path = folder / f"{request.stem}-{request.timeframe}.manifest.json"
    if path.exists():
        return _was_there(path, request)
    library = _ccxt()
    venue = _Venue(exchange if exchange is not None else _connected(library, request.venue), library, sleep)
    venue.refuse_timeframe(request)
    now = int(clock() * 1_000)
    end = now if request.until is None else min(request.until, now)
    if end <= request.since:
        raise ValueError(f"since, {iso(request.since)}, is not over yet; it is {iso(now)}")
    head = {"asked": request.asked(), "started": iso(now), "end": end, "exchange": venue.exchange.id, "ccxt": library.__version__}
    with _alone(folder, request):
        if path.exists():
            return _was_there(path, request)
        part = _journal_of(path)
        is_begun = part.exists() and next(_whole_lines(part)[0], None) is not None
        _refuse_taken(folder, request, is_begun=is_begun)
        journal = _Journal.opened(part, head)
        try:
            job = _Job(request, venue, journal, venue.symbol_of(request.symbol), journal.head["end"], clock, tell)
            missing = job.gathered()
        except ValueError:
            if journal.is_empty:  # nor of any use to another attempt, which may ask for something else
                part.unlink()
            raise
        if len(missing) == len(request.kinds):
            part.unlink()
            raise ValueError("; ".join(missing.values()))
        manifest = job.written(folder, missing)
        _replace(path, lambda draft: draft.write_text(json.dumps(manifest, indent=2) + "\n", "utf-8"))
        part.unlink()
    return Fetched(manifest, path)


@contextmanager
def _alone(folder: Path, request: Request) -> Iterator[None]:
    """Keep other fetches of the contract out of a folder, which is made where it is not there; ValueError where one is at work."""
    is_new = not folder.exists()
    lock = folder / f".{request.stem}.fetch.lock"
    try:
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock.touch()
        with held(lock):
            try:
                yield
            finally:
                with suppress(OSError):  # Windows removes no file that is open; one that nobody holds hinders nobody
                    lock.unlink()
    except HeldError as holder:
        told = f"another fetch of {request.stem} is at work in {folder} ({holder})"
        raise ValueError(f"{told}; wait for its end, or name another folder with --out") from None
    finally:
        if is_new:
            with suppress(OSError):  # it holds files, as it should
                folder.rmdir()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or _first_line(error)
        raise ValueError(
            f"cannot write {path} ({reason}); what was fetched before is kept, run the same again when it can be, or name another folder "
            "with --out"
        ) from error


def _journal_of(manifest: Path) -> Path:
    return manifest.with_name(f".{manifest.name.removesuffix('.manifest.json')}.fetch.part")


def _was_there(path: Path, request: Request) -> Fetched:
    kept = _kept(path, request)
    _journal_of(path).unlink(missing_ok=True)
    return Fetched(kept, path, was_there=True)


def _kept(path: Path, request: Request) -> dict[str, Any]:
    """Return the manifest of a fetch that is done; ValueError where it was another one, or where its files have changed."""
    try:
        manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
        asked, files = manifest["asked"], [(entry["file"], entry["sha256"]) for entry in manifest["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no manifest of a fetch ({error}); name another folder with --out, or move it away") from None
    if asked != request.asked():
        told = ", ".join(f"{name} {asked.get(name)}" for name, value in request.asked().items() if asked.get(name) != value)
        raise ValueError(f"{path} is of another fetch ({told}); name another folder with --out")
    for name, digest in files:
        place = path.with_name(name)
        if not place.exists() or _digest(place) != digest:
            state = "has changed since it was fetched" if place.exists() else "is gone"
            raise ValueError(f"{place} {state}; name another folder with --out to fetch it anew")
    return manifest


def _refuse_taken(folder: Path, request: Request, *, is_begun: bool) -> None:
    """Raise ValueError where a fetch would write over a file of another one: rates are called the same for bars of any length."""
    names = {request.name(kind) for kind in request.kinds}
    for path, other in _others(folder, request):
        shared = sorted(names & {other.name(kind) for kind in other.kinds})
        if shared:
            raise ValueError(f"{shared[0]} is of the fetch of {path}; finish or remove that one, or name another folder with --out")
    if is_begun:  # what is there is its own
        return
    for name in sorted(names):
        for suffix in (".parquet", ".csv", ".json"):
            place = folder / f"{name}{suffix}"
            if place.exists():
                raise ValueError(f"{place} is there already and not of this fetch; name another folder with --out, or move it away")


def _others(folder: Path, request: Request) -> Iterator[tuple[Path, Request]]:
    """Yield the other fetches of a contract in a folder, done or begun, each with its manifest or its journal."""
    own = folder / f"{request.stem}-{request.timeframe}.manifest.json"
    for path in sorted({*folder.glob(f"{request.stem}-*.manifest.json"), *folder.glob(f".{request.stem}-*.fetch.part")}):
        if path in (own, _journal_of(own)):
            continue
        with suppress(ValueError, KeyError, TypeError):  # nothing of ours
            told = json.loads(path.read_text("utf-8")) if path.suffix == ".json" else next(_whole_lines(path)[0], ({}, 0))[0]
            asked = told["asked"]
            yield path, Request(asked["venue"], asked["symbol"], 0, None, asked["timeframe"], tuple(asked["what"]))


def _digest(path: Path) -> str:
    from hashlib import file_digest

    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        with _writing(path):
            write(draft)
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


# -- the venue -------------------------------------------------------------------------------------------------------


def _ccxt() -> Any:
    try:
        import ccxt
    except ImportError as error:
        raise ValueError("to fetch needs ccxt: run pip install 'bt_margin[fetch]', or download the venue's own archives") from error
    return ccxt


def _connected(library: Any, venue: str) -> Any:
    name = CCXT_IDS.get(venue, venue)
    if name not in library.exchanges:
        from difflib import get_close_matches

        near = get_close_matches(name, library.exchanges, 4) or list(CCXT_IDS)
        raise ValueError(f"ccxt has no venue called {venue!r}; near it: {listed(near)}")
    return getattr(library, name)({"enableRateLimit": True})


class _Venue:
    """An exchange of ccxt's that is asked again after what passes by itself: lost connections, timeouts, too many requests."""

    def __init__(self, exchange: Any, library: Any, sleep: Callable[[float], object]) -> None:
        self.exchange, self.library, self.sleep = exchange, library, sleep

    def asked(self, method: str, *arguments: Any) -> Any:
        """Return what a method answers; ValueError after so many tries, UnavailableError for what is never answered."""
        library = self.library
        for attempt in range(TRIES):
            try:
                return getattr(self.exchange, method)(*arguments)
            except library.OperationFailed as error:
                if attempt == TRIES - 1:
                    reason = f"{type(error).__name__}: {_first_line(error)}"
                    raise ValueError(
                        f"{self.exchange.id} did not answer {TRIES} times ({reason}); what was fetched is kept, run the same again later"
                    ) from error
                is_busy = isinstance(error, library.RateLimitExceeded | library.DDoSProtection)
                self.sleep(max(min(FIRST_WAIT * 2**attempt, LONGEST_WAIT), BUSY_WAIT if is_busy else 0.0))
            except library.AuthenticationError as error:
                raise UnavailableError(f"{self.exchange.id} answers {method} with a key of an account only") from error
            except library.NotSupported as error:
                raise UnavailableError(f"{self.exchange.id} does not answer {method} for this contract") from error
            except library.BaseError as error:
                reason = f"{type(error).__name__}: {_first_line(error)}"
                raise ValueError(f"{self.exchange.id} refused {method} ({reason}); what was fetched is kept") from error
        raise AssertionError("the last try returns or raises")

    def has(self, kind: str) -> bool:
        """Return whether ccxt tells a kind of data of this venue, by itself or put together from others ('emulated')."""
        return any(self.exchange.has.get(name) for name in ABILITIES[kind])

    def refuse_timeframe(self, request: Request) -> None:
        """Raise ValueError where candles are asked for, of a length that the venue has not."""
        known = self.exchange.timeframes or {}
        if request.timeframe not in known and set(request.kinds) & set(CANDLES):
            raise ValueError(f"{self.exchange.id} has no candles of {request.timeframe}; it has {listed(known)}")

    def symbol_of(self, symbol: str) -> str:
        """Return ccxt's symbol of the one perpetual contract that is meant: by its own, the venue's or the plain spelling."""
        try:
            swaps = [market for market in self.asked("load_markets").values() if market.get("swap")]
        except UnavailableError as reason:
            raise ValueError(f"{reason}; name another venue, or hand bt_margin.fetching.fetch an exchange of your own") from None
        wanted = {symbol.upper(), plain_symbol(symbol)}
        for fits in (
            lambda market: symbol == market["symbol"],
            lambda market: wanted & {str(market["id"]).upper(), plain_symbol(market["symbol"])},
            lambda market: symbol.upper() == market["base"],
        ):
            found = [market for market in swaps if fits(market)]
            traded = [market for market in found if market.get("active") is not False]
            names = sorted({market["symbol"] for market in traded or found})
            if len(names) == 1:
                return str(names[0])
            if names:
                raise ValueError(f"{symbol} may be {listed(names)} at {self.exchange.id}; say which")
        near = sorted(market["symbol"] for market in swaps if market["base"] and symbol.upper().startswith(market["base"]))[:6]
        known = f"those near it: {listed(near)}" if near else f"it lists {len(swaps)}"
        raise ValueError(f"{self.exchange.id} lists no perpetual contract {symbol}; {known}; what was delisted is in a venue's archives")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:160]


# -- the journal -----------------------------------------------------------------------------------------------------


class Page(NamedTuple):
    """One answer as it counts: the rows that begin from ``start`` on, and where the next page begins."""

    kind: str
    start: int
    next: int
    rows: list[Row]


@dataclass
class _Journal:
    """The pages fetched so far, one checked line each, append-only; of a line that was cut off nothing counts."""

    path: Path
    head: dict[str, Any]
    reached: dict[str, int] = field(default_factory=dict)
    tiers: dict[str, Any] | None = None

    @classmethod
    def opened(cls, path: Path, head: dict[str, Any]) -> "_Journal":
        """Begin a journal, or go on with the one that is there; ValueError where that is of another fetch."""
        lines, length = _whole_lines(path) if path.exists() else (iter(()), 0)
        first = next(lines, None)
        if first is None:
            with _writing(path):
                path.write_bytes(b"")
            _append(path, head)
            return cls(path, head)
        if first[0].get("asked") != head["asked"]:
            raise ValueError(f"{path} is of another fetch, that was interrupted; finish that, delete the file, or name another folder")
        journal = cls(path, first[0])
        good = first[1]
        for entry, ends in lines:
            if not journal._took(entry):
                break
            good = ends
        if good < length:
            with path.open("r+b") as file:
                file.truncate(good)
        return journal

    def _took(self, entry: dict[str, Any]) -> bool:
        """Return whether a line goes on where the one before it of its kind ended, and take it as reached."""
        kind = entry.get("kind")
        if kind == "tiers":
            self.tiers = entry
            return True
        if self.reached.get(str(kind), entry.get("start")) != entry.get("start"):
            return False
        self.reached[str(kind)] = entry["next"]
        return True

    def add(self, entry: dict[str, Any]) -> None:
        """Write one more page, or the tiers."""
        _append(self.path, entry)
        self._took(entry)

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been told yet."""
        return not self.reached and self.tiers is None

    def rows(self, kind: str) -> Iterator[Row]:
        """Yield the rows of a kind in order of time."""
        for entry, _ in _whole_lines(self.path)[0]:
            if entry.get("kind") == kind:
                yield from entry["rows"]


def _append(path: Path, entry: Mapping[str, Any]) -> None:
    text = json.dumps(entry, separators=(",", ":"), allow_nan=False).encode()
    with _writing(path), path.open("ab") as file:
        file.write(b"%08x %b\n" % (crc32(text), text))


def _whole_lines(path: Path) -> tuple[Iterator[tuple[dict[str, Any], int]], int]:
    """Return the lines of a journal whose sum is right, each with where it ends, up to the first that is not; and the file's length."""

    def lines() -> Iterator[tuple[dict[str, Any], int]]:
        ends = 0
        with path.open("rb") as file:
            for line in file:
                text = line[9:-1]
                if not line.endswith(b"\n") or line[:9] != b"%08x " % crc32(text):
                    return
                ends += len(line)
                yield json.loads(text), ends

    return lines(), path.stat().st_size


# -- pages -----------------------------------------------------------------------------------------------------------


@dataclass
class _Job:
    """One fetch on its way: ``end`` is where all of its kinds end, in milliseconds."""

    request: Request
    venue: _Venue
    journal: _Journal
    symbol: str
    end: int
    clock: Callable[[], float]
    tell: Callable[[str, float], object]
    busy_until: dict[str, int] = field(default_factory=dict)  # by kind, where a day ends that is known to have bars

    def gathered(self) -> dict[str, str]:
        """Fetch all pages that the journal lacks, and return why a kind is missing."""
        missing: dict[str, str] = {}
        for kind in sorted(self.request.kinds, key=("tiers", *CANDLES, "funding").index):  # tiers are of the moment
            try:
                self._gather(kind)
            except UnavailableError as reason:
                missing[kind] = f"no {kind}: {reason}; {INSTEAD[kind]}"
        return missing

    def _gather(self, kind: str) -> None:
        if not self.venue.has(kind):
            raise UnavailableError(f"ccxt has none of {self.venue.exchange.id}")
        if kind == "tiers":
            if self.journal.tiers is None:
                retrieved = iso(int(self.clock() * 1_000))
                self.journal.add({"kind": kind, "retrieved": retrieved, "tiers": self._tiers()})
            return
        since = self.request.since - (0 if kind in CANDLES else JITTER)
        cursor = self.journal.reached.get(kind, since)
        while cursor < self._stop(kind):
            self.tell(kind, (cursor - since) / (self.end - since))
            page = self._page(kind, cursor)
            self.journal.add(page._asdict())
            cursor = page.next
        if next(self.journal.rows(kind), None) is None:
            raise UnavailableError(f"{self.venue.exchange.id} tells nothing between {iso(self.request.since)} and {iso(self.end)}")

    def _stop(self, kind: str) -> int:
        """Return the first instant from which on no row of a kind counts: a bar must close by the end, a settlement come before it."""
        return self.end - self.request.step + 1 if kind in CANDLES else self.end - JITTER

    def _tiers(self) -> Any:
        if self.venue.exchange.has.get("fetchMarketLeverageTiers"):
            return self.venue.asked("fetch_market_leverage_tiers", self.symbol)
        answer = self.venue.asked("fetch_leverage_tiers", [self.symbol])
        if not (isinstance(answer, Mapping) and answer.get(self.symbol)):
            raise UnavailableError(f"{self.venue.exchange.id} names no tiers of {self.symbol}")
        return answer[self.symbol]

    def _page(self, kind: str, cursor: int) -> Page:
        """Return the page that begins at an instant.

        Some venues answer the end of the span that so many rows would fill, and leave out its beginning: what a page that begins
        late lacks is asked for by itself, until it is there or nothing is.
        """
        limit = min(PAGE_OF_CANDLES, max(LONGEST_SPAN // self.request.step, 1)) if kind in CANDLES else PAGE_OF_FUNDING
        rows = self._asked(kind, cursor, limit)
        while rows and rows[0][0] - cursor >= self._usual_step(kind, rows):
            first = rows[0][0]
            if kind in CANDLES:
                earlier = self._asked(kind, cursor, min(limit, (first - cursor) // self.request.step))
            else:  # whose interval may have been another one: the span of a limit is not known
                earlier = self._asked(kind, cursor, limit, {ENDS.get(self.venue.exchange.id, "until"): first - 1})
            earlier = [row for row in earlier if row[0] < first]
            if not earlier:
                break
            rows = earlier + rows
        stop = self._stop(kind)
        if not rows:
            passed = min(SMALLEST_PAGE, limit) * (self.request.step if kind in CANDLES else HOUR)
            return Page(kind, cursor, min(max(cursor + passed, self._next_day(kind, cursor)), stop), [])
        after = rows[-1][0] + (self.request.step if kind in CANDLES else JITTER + 1)
        return Page(kind, cursor, min(after, stop), [row for row in rows if row[0] < stop])

    def _next_day(self, kind: str, cursor: int) -> int:
        """Return where the first day after an instant opens that has bars, or that instant where it is not known.

        A day that has a bar has a daily one, so that years before a listing take a few questions. Settlements need no bars.
        """
        venue = self.venue.exchange
        if kind not in CANDLES or self.request.step >= DAY or "1d" not in venue.timeframes or cursor < self.busy_until.get(kind, cursor):
            return cursor
        day, stop = cursor - 2 * DAY, self._stop(kind)  # days may open at another hour than midnight
        while day < stop:
            answer = self.venue.asked(METHODS[kind], self.symbol, "1d", day, SMALLEST_PAGE)
            days = [_candle(row, kind, venue.id)[0] for row in _sequence(answer, kind, venue.id)]
            opening = min((opens for opens in days if opens + DAY > cursor), default=None)
            if opening is not None:
                self.busy_until[kind] = opening + DAY
                return opening
            day += SMALLEST_PAGE * DAY
        return stop

    def _usual_step(self, kind: str, rows: Sequence[Row]) -> int:
        """Return how late after its beginning a page may begin: by a bar, or by the shortest interval of its settlements."""
        if kind in CANDLES:
            return self.request.step
        steps = [after[0] - before[0] for before, after in pairwise(rows)]
        return max(min([*steps, 8 * HOUR]), HOUR) + JITTER

    def _asked(self, kind: str, since: int, limit: int, params: Mapping[str, Any] | None = None) -> list[Row]:
        """Return the rows from an instant on, in order of time, each once."""
        if kind in CANDLES:
            answer = self.venue.asked(METHODS[kind], self.symbol, self.request.timeframe, since, limit)
            rows = [_candle(row, kind, self.venue.exchange.id) for row in _sequence(answer, kind, self.venue.exchange.id)]
        else:
            answer = self.venue.asked("fetch_funding_rate_history", self.symbol, since, limit, *([params] if params else []))
            rows = [_settlement(row, self.venue.exchange.id) for row in _sequence(answer, kind, self.venue.exchange.id)]
        near = 0 if kind in CANDLES else JITTER
        found: list[Row] = []
        for row in sorted((row for row in rows if row[0] >= since), key=lambda row: row[0]):
            if not found or row[0] - found[-1][0] > near:
                found.append(row)
            elif row[1:] != found[-1][1:] and row[0] < self._stop(kind):  # a bar that runs may be told twice
                told = f"{self.venue.exchange.id} told {kind} of {iso(row[0])} twice with other numbers"
                raise ValueError(f"{told}; leave that time out, or ask again later")
        return found

    # -- files -------------------------------------------------------------------------------------------------------

    def written(self, folder: Path, missing: Mapping[str, str]) -> dict[str, Any]:
        """Write the files of all kinds, and return the manifest."""
        files = []
        for kind in self.request.kinds:
            if kind in missing:
                continue
            self.tell(kind, 1.0)
            files.append(self._tiers_written(folder) if kind == "tiers" else self._series_written(folder, kind))
        head = self.journal.head
        source = {"exchange": head["exchange"], "symbol": self.symbol, "ccxt": head["ccxt"]}
        return {
            "asked": head["asked"],
            "source": source,
            "started": head["started"],
            "end": iso(head["end"]),
            "files": files,
            "missing": dict(missing),
        }

    def _tiers_written(self, folder: Path) -> dict[str, Any]:
        """Write the tiers as ccxt told them, and say whether they make a table."""
        assert self.journal.tiers is not None
        told = {self.symbol: self.journal.tiers["tiers"]}
        path = folder / f"{self.request.name('tiers')}.json"
        _replace(path, lambda draft: draft.write_text(json.dumps(told, indent=1) + "\n", "utf-8"))
        entry = {"kind": "tiers", "file": path.name, "rows": len(told[self.symbol]), "retrieved": self.journal.tiers["retrieved"]}
        try:
            readers.ccxt_tiers(told, exchange=self.journal.head["exchange"])
            fault = None
        except ValueError as error:
            fault = str(error)
        return {**entry, "fault": fault, "sha256": _digest(path)}

    def _series_written(self, folder: Path, kind: str) -> dict[str, Any]:
        from array import array

        names = ("volume",) if kind == "last" else ()
        columns = (*PRICES, *names) if kind in CANDLES else ("funding_rate",)
        stamps: array[int] = array("q")
        numbers: list[array[float]] = [array("d") for _ in columns]
        for row in self.journal.rows(kind):
            stamps.append(row[0])
            for store, value in zip(numbers, row[1:], strict=False):
                store.append(float("nan") if value is None else value)
        path = _series_file(folder, self.request.name(kind), stamps, dict(zip(columns, numbers, strict=True)))
        gaps = self._gaps(kind, stamps)
        entry = {"kind": kind, "file": path.name, "rows": len(stamps), "first": iso(stamps[0]), "last": iso(stamps[-1])}
        return {**entry, "gaps": gaps, "sha256": _digest(path)}

    def _gaps(self, kind: str, stamps: Sequence[int]) -> list[dict[str, Any]]:
        """Return where rows are missing, at the ends too: the first and the last that is, and how many.

        Settlements before the first and after the last are counted by the interval beside them, at most eight hours.
        """
        since, end, step = self.request.since, self.end, self.request.step
        if kind in CANDLES:
            after_last = stamps[-1] + step
            edges = [(since + (stamps[0] - since) % step, stamps[0]), *_apart(stamps, step), (after_last, end - (end - after_last) % step)]
            return [_gap(range(a, b, step)) for a, b in edges if b > a]
        import numpy as np

        from .quality import holes_of, without_jitter

        whole = without_jitter(np.asarray(stamps, dtype="int64") * MILLI, is_funding=True)
        begins, ends = int(whole[0]) // MILLI, int(whole[-1]) // MILLI
        steps = (np.diff(whole) // MILLI).tolist() or [8 * HOUR]
        lacking = [range(begins, since - 1, -min(steps[0], 8 * HOUR))[:0:-1]]
        lacking += [range(hole.stamps[0] // MILLI, hole.before // MILLI, hole.interval // MILLI) for hole in holes_of(whole) if hole.stamps]
        lacking += [range(ends, end, min(steps[-1], 8 * HOUR))[1:]]
        return [_gap(gap) for gap in lacking if gap]


def _gap(missing: range) -> dict[str, Any]:
    return {"from": iso(missing[0]), "to": iso(missing[-1]), "missing": len(missing)}


def _apart(stamps: Sequence[int], step: int) -> Iterator[tuple[int, int]]:
    """Yield from where to where bars are missing between those that are there."""
    yield from ((before + step, after) for before, after in pairwise(stamps) if after > before + step)


def _sequence(answer: Any, kind: str, venue: str) -> Sequence[Any]:
    if not isinstance(answer, list | tuple):
        raise ValueError(f"{venue} answered no list of {kind} but {type(answer).__name__}; update ccxt, or ask again later")
    return answer


def _candle(row: Any, kind: str, venue: str) -> Row:
    """Return a candle of ccxt's, checked to be one; of mark and index there is no volume."""
    if not isinstance(row, list | tuple) or len(row) < 5:
        raise ValueError(f"{venue} answered a row of {kind} that is no candle, {str(row)[:60]}; update ccxt, or ask again later")
    numbers = [_number(value, kind, venue) for value in row[1 : 6 if kind == "last" else 5]]
    opens = (_stamp(row[0], kind, venue) + SECOND // 2) // SECOND * SECOND  # some are told a few milliseconds late
    return [opens, *numbers, *([None] if kind == "last" and len(row) == 5 else [])]


def _settlement(row: Any, venue: str) -> Row:
    if not isinstance(row, Mapping) or row.get("fundingRate") is None:
        raise ValueError(f"{venue} answered a settlement without a rate, {str(row)[:60]}; update ccxt, or ask again later")
    return [_stamp(row.get("timestamp"), "funding", venue), _number(row["fundingRate"], "funding", venue)]


def _stamp(value: Any, kind: str, venue: str) -> int:
    early, late = (bound / MILLI for bound in epoch_bounds())
    if isinstance(value, bool) or not isinstance(value, int | float) or not early <= value < late or value != int(value):
        raise ValueError(f"{venue} answered a row of {kind} without a time in milliseconds, {value!r}; update ccxt, or ask again later")
    return int(value)


def _number(value: Any, kind: str, venue: str) -> float | None:
    """Return a number as a float, so that 1 and 1.0 leave the same bytes; None where there is none."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"{venue} answered {value!r} for a number of {kind}; update ccxt, or ask again later")
    return float(value)


def _series_file(folder: Path, name: str, stamps: Any, columns: Mapping[str, Any]) -> Path:
    """Write a tidy series, Parquet where pyarrow is there and else CSV, and return its path."""
    import numpy as np
    import pandas as pd

    index = pd.DatetimeIndex(np.asarray(stamps, dtype="int64").astype("datetime64[ms]"), tz="UTC", name="datetime")
    frame = pd.DataFrame({key: np.frombuffer(values, dtype="float64") for key, values in columns.items()}, index=index)
    if find_spec("pyarrow") is None:
        path = folder / f"{name}.csv"
        frame.index = pd.Index([iso(int(stamp)) for stamp in stamps], name="datetime")
        _replace(path, lambda draft: frame.to_csv(draft, lineterminator="\n"))
        return path
    path = folder / f"{name}.parquet"
    _replace(path, lambda draft: frame.to_parquet(draft, engine="pyarrow"))
    return path
