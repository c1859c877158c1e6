"""Fetching through ccxt's interface: paging at its edges, patience with a venue, and the same bytes however often it was interrupted."""

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from errno import ENOSPC
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import fakevenue as fake
import pandas as pd
import pytest
from fakevenue import BASE, ERRORS, HOUR, SYMBOL, TIERS, FakeExchange, candles, records, settlements

from bt_margin import fetching
from bt_margin.cli import main
from bt_margin.feeds import load
from bt_margin.fetching import KINDS, Fetched, Request, fetch, iso
from bt_margin.quality import examine
from bt_margin.venues import readers

MINUTE, DAY = HOUR // 60, 24 * HOUR
NOW = BASE + 400 * DAY  # long after everything that is asked for


def asked(hours: int | None = 40, kinds: tuple[str, ...] = KINDS, *, since: int = BASE) -> Request:
    return Request("binance", "BTCUSDT", since, None if hours is None else BASE + hours * HOUR, "1h", kinds)


class Waits(list[float]):
    """The seconds that were waited, without waiting."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture(autouse=True)
def ccxt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ccxt", fake.library())


def fetched(exchange: FakeExchange, folder: Path, request: Request | None = None, *, now: int = NOW, waits: Waits | None = None) -> Fetched:
    sleep = Waits() if waits is None else waits
    return fetch(request or asked(), folder, exchange=exchange, clock=lambda: now / 1_000, sleep=sleep)


def series(folder: Path, kind: str) -> pd.DataFrame:
    return pd.read_parquet(next(folder.glob(f"*-{kind}.parquet")))


def stamps(folder: Path, kind: str) -> list[int]:
    """Return the times of a fetched series, in milliseconds after the first that was asked for."""
    return [int(moment.timestamp() * 1_000) - BASE for moment in series(folder, kind).index]


def entry(done: Fetched, kind: str) -> dict[str, Any]:
    (found,) = [file for file in done.manifest["files"] if file["kind"] == kind]
    return found


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# -- what is written -------------------------------------------------------------------------------------------------


def test_one_tidy_file_of_each_kind_and_a_manifest_are_written(tmp_path: Path) -> None:
    done = fetched(FakeExchange(records(), page=7), tmp_path)

    assert sorted(content(tmp_path)) == [
        "binance-BTCUSDT-1h-index.parquet",
        "binance-BTCUSDT-1h-last.parquet",
        "binance-BTCUSDT-1h-mark.parquet",
        "binance-BTCUSDT-1h.manifest.json",
        "binance-BTCUSDT-funding.parquet",
        "binance-BTCUSDT-tiers.json",
    ]
    last, mark, funding = (series(tmp_path, kind) for kind in ("last", "mark", "funding"))
    assert list(last.columns) == ["open", "high", "low", "close", "volume"] and list(mark.columns) == ["open", "high", "low", "close"]
    assert last.index[0] == pd.Timestamp("2024-01-01", tz="UTC") and len(last) == 40
    assert last.iloc[-1].tolist() == [100 + 39 / 4, 101 + 39 / 4, 99 + 39 / 4, 100 + 40 / 4, 3.0]
    assert funding["funding_rate"].tolist() == [-0.0001, 0.0, 0.0001, 0.0002, 0.0001 * 3]
    assert done.manifest["source"] == {"exchange": "binanceusdm", "symbol": SYMBOL, "ccxt": "4.5.90"}
    assert (done.manifest["started"], done.manifest["end"]) == (iso(NOW), "2024-01-02T16:00:00Z")
    assert entry(done, "last")["gaps"] == [] and entry(done, "funding")["gaps"] == []
    assert json.loads(done.path.read_text("utf-8")) == done.manifest


def test_what_is_fetched_loads_and_is_clean_and_its_tiers_are_read(tmp_path: Path) -> None:
    fetched(FakeExchange(records()), tmp_path)
    files = {kind: next(tmp_path.glob(f"*-{kind}.parquet")) for kind in ("last", "mark", "index", "funding")}

    (feed,) = load(files["last"], mark=files["mark"], funding=files["funding"]).values()
    reports = examine(list(files.values()))

    assert [(report.reading.kind, report.reading.symbol, report.findings) for report in reports if report.reading] == [
        (kind, "BTCUSDT", []) for kind in ("candles", "mark", "index", "funding")
    ]
    assert feed.p.name == "BTCUSDT"
    (table,) = readers.ccxt_tiers(tmp_path / "binance-BTCUSDT-tiers.json").values()
    assert table.maintenance_margin(100_000) == 100_000 * 0.005 - 50


def test_without_pyarrow_csv_is_written_with_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    late = records(funding=settlements(5, late=(0, 3)))

    fetched(FakeExchange(late), tmp_path, asked(kinds=("mark", "funding")))

    mark, funding = ((tmp_path / f"binance-BTCUSDT-{name}.csv").read_text("utf-8").splitlines() for name in ("1h-mark", "funding"))
    assert mark[:2] == ["datetime,open,high,low,close", "2024-01-01T00:00:00Z,100.05,101.05,99.05,100.3"] and len(mark) == 41
    assert funding[:3] == ["datetime,funding_rate", "2024-01-01T00:00:00Z,-0.0001", "2024-01-01T08:00:00.003Z,0.0"]


def test_a_fetch_that_is_done_asks_nothing_again_and_refuses_what_has_changed(tmp_path: Path) -> None:
    first = fetched(FakeExchange(records()), tmp_path)
    silent = FakeExchange(records())

    again = fetched(silent, tmp_path)

    assert (again.was_there, again.manifest, silent.calls) == (True, first.manifest, [])
    with pytest.raises(ValueError, match=r"is of another fetch \(until 2024-01-02T16:00:00Z\); name another folder with --out"):
        fetched(silent, tmp_path, asked(41))
    path = tmp_path / "binance-BTCUSDT-tiers.json"
    path.write_text("[]", "utf-8")
    with pytest.raises(ValueError, match=r"tiers\.json has changed since it was fetched; name another folder with --out"):
        fetched(silent, tmp_path)


def test_a_fetch_never_writes_over_the_rates_of_another_one(tmp_path: Path) -> None:
    fetched(FakeExchange(records()), tmp_path)
    files = content(tmp_path)
    daily = Request("binance", "BTCUSDT", BASE, BASE + 2 * DAY, "1d", ("funding",))

    with pytest.raises(ValueError, match=r"binance-BTCUSDT-funding is of the fetch of .*BTCUSDT-1h\.manifest\.json; finish or remove that"):
        fetched(FakeExchange(records()), tmp_path, daily)
    assert content(tmp_path) == files

    (tmp_path / "binance-BTCUSDT-1h.manifest.json").rename(tmp_path / "kept.json")
    with pytest.raises(ValueError, match=r"BTCUSDT-funding\.parquet is there already and not of this fetch; name another folder"):
        fetched(FakeExchange(records()), tmp_path, daily)


# -- interruptions ---------------------------------------------------------------------------------------------------


def interrupting(call: int) -> Callable[[int], BaseException | None]:
    return lambda number: KeyboardInterrupt() if number == call else None


def whole(tmp_path: Path, **terms: Any) -> tuple[dict[str, bytes], int]:
    """Return the files of a fetch that nothing interrupts, and how many calls it took."""
    exchange = FakeExchange(records(), page=15, **terms)
    fetched(exchange, tmp_path / "whole")
    return content(tmp_path / "whole"), len(exchange.calls)


def without_retrieved(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return files without the one figure that is of the moment, when tiers were told."""
    told = {name: json.loads(text) for name, text in files.items() if name.endswith("manifest.json")}
    for manifest in told.values():
        for file in manifest["files"]:
            file.pop("retrieved", None)
    return {**files, **{name: json.dumps(manifest).encode() for name, manifest in told.items()}}


def test_a_fetch_interrupted_at_any_call_leaves_the_same_bytes(tmp_path: Path) -> None:
    files, calls = whole(tmp_path)
    assert calls == 1 + 1 + 3 * 3 + 2  # markets, tiers, pages of 15 + 15 + 10 candles three times, settlements and none behind them

    for call in range(1, calls + 1):
        folder = tmp_path / f"{call}"
        with pytest.raises(KeyboardInterrupt):
            fetched(FakeExchange(records(), page=15, faults=interrupting(call)), folder)
        resumed = FakeExchange(records(), page=15)
        fetched(resumed, folder)
        assert content(folder) == files
        assert len(resumed.calls) == calls - max(call - 2, 0)  # what was told before is not asked for again, but the markets


def test_a_fetch_interrupted_at_every_call_until_now_ends_where_the_first_attempt_did(tmp_path: Path) -> None:
    now = BASE + 30 * HOUR + 1
    fetched(FakeExchange(records(), page=4), tmp_path / "whole", asked(None), now=now)

    done = None
    for attempt in range(100):
        asked_once = FakeExchange(records(), page=4, faults=interrupting(3))  # the markets, one page, and no more
        try:
            done = fetched(asked_once, tmp_path / "parts", asked(None), now=now + attempt * DAY)
            break
        except KeyboardInterrupt:
            continue

    assert done is not None and entry(done, "last")["rows"] == 30
    assert done.manifest["started"] == iso(now)
    assert without_retrieved(content(tmp_path / "parts")) == without_retrieved(content(tmp_path / "whole"))


def stopped_and_resumed(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, number: int, ending: Callable[..., object]) -> None:
    """Fetch until a function of the fetcher is called for so many times, ends as ``ending`` says, and is stopped; then go on."""
    function, numbers = getattr(fetching, name), count(1)

    def called(*words: Any) -> None:
        if next(numbers) == number:
            ending(function, *words)
            raise KeyboardInterrupt
        function(*words)

    with monkeypatch.context() as patched:
        patched.setattr(fetching, name, called)
        with pytest.raises(KeyboardInterrupt):
            fetched(FakeExchange(records(), page=15), folder)
    fetched(FakeExchange(records(), page=15), folder)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, 1.0])
def test_a_fetch_interrupted_at_any_line_of_its_journal_leaves_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    def torn(append: Callable[..., object], path: Path, line: Any) -> None:
        before = path.stat().st_size
        append(path, line)
        text = path.read_bytes()
        path.write_bytes(text[: before + int((len(text) - before) * share)])

    files, calls = whole(tmp_path)
    for number in range(1, calls + 1):  # the head, the tiers, the pages: as many as calls
        stopped_and_resumed(monkeypatch, tmp_path / f"{number}", "_append", number, torn)
        assert content(tmp_path / f"{number}") == files


@pytest.mark.parametrize("is_done", [False, True])
def test_a_fetch_interrupted_at_any_file_leaves_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_done: bool) -> None:
    files, _ = whole(tmp_path)
    for number in range(1, len(files) + 1):
        folder = tmp_path / f"{number}"
        stopped_and_resumed(monkeypatch, folder, "_replace", number, lambda replace, *words: is_done and replace(*words))
        assert content(folder) == files


def test_a_journal_that_was_damaged_counts_up_to_the_damage(tmp_path: Path) -> None:
    files, calls = whole(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fetched(FakeExchange(records(), page=15, faults=interrupting(calls)), tmp_path / "x")
    (part,) = (tmp_path / "x").iterdir()
    lines = part.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b"100.5", b"100.6", 1)
    part.write_bytes(b"".join(lines))

    fetched(FakeExchange(records(), page=15), tmp_path / "x")

    assert content(tmp_path / "x") == files


KILLED = """
import os, sys
from pathlib import Path
from signal import SIGKILL
import fakevenue as fake
from bt_margin.fetching import Request, fetch
sys.modules["ccxt"] = fake.library()
request = Request("binance", "BTCUSDT", fake.BASE, fake.BASE + 40 * fake.HOUR)
for call in range(1, int(sys.argv[2]) + 1):
    if os.fork() == 0:
        killed = lambda number: os.kill(os.getpid(), SIGKILL) if number == call else None
        exchange = fake.FakeExchange(fake.records(), page=15, faults=killed)
        fetch(request, Path(sys.argv[1]) / str(call), exchange=exchange, clock=lambda: int(sys.argv[3]) / 1_000)
    assert os.WTERMSIG(os.wait()[1]) == SIGKILL
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes as POSIX does")
def test_a_process_killed_at_any_call_leaves_the_same_bytes_and_no_lock(tmp_path: Path) -> None:
    files, calls = whole(tmp_path)
    tests = Path(__file__).parent
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(calls), str(NOW)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}"}, check=True)

    for call in range(1, calls + 1):
        assert ".binance-BTCUSDT.fetch.lock" in content(tmp_path / f"{call}")
        fetched(FakeExchange(records(), page=15), tmp_path / f"{call}")
        assert content(tmp_path / f"{call}") == files


@pytest.mark.parametrize("timeframe", ["1h", "1d"])
def test_a_second_fetch_of_a_contract_into_the_same_folder_waits_for_no_one_and_spoils_nothing(tmp_path: Path, timeframe: str) -> None:
    files, calls = whole(tmp_path)
    said: list[str] = []
    second = Request("binance", "BTCUSDT", BASE, BASE + 40 * HOUR, timeframe)

    def meanwhile(_call: int) -> None:
        with pytest.raises(ValueError, match="at work") as refused:
            fetched(FakeExchange(records()), tmp_path / "a", second)
        said.append(str(refused.value))

    fetched(FakeExchange(records(), page=15, faults=meanwhile), tmp_path / "a")

    holder = rf"\(process {os.getpid()} on \S+\); wait for its end, or name another folder with --out"
    assert len(said) == calls and all(re.search(rf"^another fetch of binance-BTCUSDT is at work in \S+ {holder}$", text) for text in said)
    assert content(tmp_path / "a") == files


def test_a_fetch_that_ended_meanwhile_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent, alone = FakeExchange(records()), fetching._alone

    def after_another(folder: Path, request: Request) -> Any:
        monkeypatch.setattr(fetching, "_alone", alone)
        fetched(FakeExchange(records()), folder, request)
        return alone(folder, request)

    monkeypatch.setattr(fetching, "_alone", after_another)
    assert fetched(silent, tmp_path).was_there and silent.calls == []


def test_a_disk_that_is_full_is_one_sentence_and_what_was_fetched_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, calls = whole(tmp_path)
    opened = Path.open

    for number in range(1, calls + 1):
        appended = count(1)

        def filled(path: Path, mode: str = "r", *words: Any, number: int = number, appended: Any = appended, **more: Any) -> Any:
            if mode == "ab" and next(appended) == number:
                raise OSError(ENOSPC, os.strerror(ENOSPC), str(path))
            return opened(path, mode, *words, **more)

        folder = tmp_path / f"{number}"
        with monkeypatch.context() as patched:
            patched.setattr(Path, "open", filled)
            with pytest.raises(ValueError, match=r"cannot write \S+\.part \(No space left on device\); what was fetched before is kept"):
                fetched(FakeExchange(records(), page=15), folder)
        fetched(FakeExchange(records(), page=15), folder)
        assert content(folder) == files


def test_a_folder_that_cannot_be_written_is_said_before_a_venue_is_asked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    silent = FakeExchange(records())
    with pytest.raises(ValueError, match=r"cannot write \S+file/a \(Not a directory\); .* name another folder with --out"):
        fetched(silent, tmp_path / "file" / "a")
    assert silent.calls == []


def test_a_fetch_that_is_refused_before_anything_was_told_leaves_nothing(tmp_path: Path) -> None:
    for request, sentence in (
        (
            Request("binance", "XYZUSDT", BASE, BASE + DAY),
            "lists no perpetual contract XYZUSDT; it lists 1; what was delisted is in a venue's",
        ),
        (Request("binance", "BTCUSDT", BASE, BASE + DAY, "2h"), "has no candles of 2h; it has 1h, 1d"),
    ):
        with pytest.raises(ValueError, match=sentence):
            fetched(FakeExchange(records()), tmp_path / "new", request)
        assert not (tmp_path / "new").exists()


def test_a_venue_that_tells_its_contracts_to_accounts_alone_is_one_sentence(tmp_path: Path) -> None:
    exchange = FakeExchange(records(), faults=lambda _call: ERRORS["AuthenticationError"]("needs apiKey"))
    with pytest.raises(ValueError, match="binanceusdm answers load_markets with a key of an account only; name another venue, or hand"):
        fetched(exchange, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_fetch_that_was_interrupted_keeps_others_from_writing_its_files(tmp_path: Path) -> None:
    daily = Request("binance", "BTCUSDT", BASE, BASE + DAY, "1d", ("last", "funding"))
    with pytest.raises(KeyboardInterrupt):
        fetched(FakeExchange(records(), faults=interrupting(3)), tmp_path)
    with pytest.raises(
        ValueError, match=r"binance-BTCUSDT-funding is of the fetch of \S+BTCUSDT-1h\.fetch\.part; finish or remove that one"
    ):
        fetched(FakeExchange(records()), tmp_path, daily)

    fetched(FakeExchange(records()), tmp_path, Request("binance", "BTCUSDT", BASE, BASE + DAY, "1d", ("last",)))
    fetched(FakeExchange(records()), tmp_path)

    assert len(stamps(tmp_path, "1d-last")) == 1 and len(stamps(tmp_path, "funding")) == 5


def test_a_fetch_that_goes_on_never_writes_over_what_another_one_wrote_meanwhile(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fetched(FakeExchange(records(), faults=interrupting(3)), tmp_path)
    part = tmp_path / ".binance-BTCUSDT-1h.fetch.part"
    aside = part.rename(tmp_path / "aside")
    daily = fetched(FakeExchange(records()), tmp_path, Request("binance", "BTCUSDT", BASE, BASE + DAY, "1d", ("funding",)))
    aside.rename(part)

    with pytest.raises(ValueError, match=r"binance-BTCUSDT-funding is of the fetch of \S+BTCUSDT-1d\.manifest\.json"):
        fetched(FakeExchange(records()), tmp_path)

    assert fetching._digest(tmp_path / "binance-BTCUSDT-funding.parquet") == entry(daily, "funding")["sha256"]


def test_a_journal_of_another_fetch_is_not_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fetched(FakeExchange(records(), faults=interrupting(3)), tmp_path)
    with pytest.raises(ValueError, match="is of another fetch, that was interrupted; finish that, delete the file, or name another folder"):
        fetched(FakeExchange(records()), tmp_path, asked(39))


# -- pages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [1, 7, 8, 20, 39, 40, 41])
@pytest.mark.parametrize("style", ["from", "window"])
def test_pages_of_any_length_and_either_manner_make_the_same_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: int, style: str
) -> None:
    monkeypatch.setattr(fetching, "PAGE_OF_CANDLES", 50)

    fetched(FakeExchange(records(), page=page, style=style), tmp_path, asked(kinds=("last", "funding")))

    assert stamps(tmp_path, "last") == [number * HOUR for number in range(40)]
    assert stamps(tmp_path, "funding") == [number * 8 * HOUR for number in range(5)]


def test_since_is_inclusive_and_until_is_not(tmp_path: Path) -> None:
    request = Request("binance", "BTCUSDT", BASE + 8 * HOUR, BASE + 16 * HOUR, "1h", ("last", "funding"))

    fetched(FakeExchange(records()), tmp_path, request)

    assert stamps(tmp_path, "last") == [number * HOUR for number in range(8, 16)]
    assert stamps(tmp_path, "funding") == [8 * HOUR]


def test_settlements_keep_their_jitter_and_count_by_the_minute_they_are_of(tmp_path: Path) -> None:
    late = records(funding=settlements(5, late=(-2, 7)))
    request = Request("binance", "BTCUSDT", BASE, BASE + 32 * HOUR, "1h", ("funding",))

    done = fetched(FakeExchange(late), tmp_path, request)

    # The first is of midnight though told 2 ms before it, the one of 32 h is of the end though told before that.
    assert stamps(tmp_path, "funding") == [-2, 8 * HOUR + 7, 16 * HOUR - 2, 24 * HOUR + 7]
    assert entry(done, "funding")["gaps"] == []


def test_the_bar_that_still_runs_is_left_out(tmp_path: Path) -> None:
    half_past = BASE + 10 * HOUR + HOUR // 2

    fetched(FakeExchange(records()), tmp_path, asked(None, ("last",)), now=half_past)

    assert stamps(tmp_path, "last") == [number * HOUR for number in range(10)]


def test_a_bar_that_runs_may_be_told_twice_and_one_that_is_over_may_not(tmp_path: Path) -> None:
    def twice(place: int) -> Callable[[list[Any]], list[Any]]:
        return lambda rows: [*rows, [*rows[place][:4], rows[place][4] + 1, rows[place][5]]]

    fetched(FakeExchange(records(), mend=twice(10)), tmp_path / "a", asked(10, ("last",)))
    assert len(stamps(tmp_path / "a", "last")) == 10
    with pytest.raises(ValueError, match="told last of 2024-01-01T09:00:00Z twice with other numbers; leave that time out"):
        fetched(FakeExchange(records(), mend=twice(9)), tmp_path / "b", asked(10, ("last",)))


def test_rows_out_of_order_and_repeated_ones_count_once(tmp_path: Path) -> None:
    exchange = FakeExchange(records(), page=15, mend=lambda rows: [*rows[::-1], *rows[:3]])

    fetched(exchange, tmp_path, asked(kinds=("last", "funding")))

    assert stamps(tmp_path, "last") == [number * HOUR for number in range(40)]
    assert stamps(tmp_path, "funding") == [number * 8 * HOUR for number in range(5)]


@pytest.mark.parametrize("style", ["from", "window"])
def test_a_contract_listed_later_is_found_and_the_gap_before_it_told(tmp_path: Path, style: str) -> None:
    listed = 45 * 24  # hours: more than a page of candles, and more than an empty page of settlements
    found = {"last": candles(30, start=BASE + listed * HOUR), "funding": settlements(4, start=BASE + listed * HOUR)}

    done = fetched(FakeExchange(found, style=style), tmp_path, asked(listed + 30, ("last", "funding")))

    assert stamps(tmp_path, "last") == [(listed + number) * HOUR for number in range(30)]
    assert stamps(tmp_path, "funding") == [(listed + 8 * number) * HOUR for number in range(4)]
    assert entry(done, "last")["gaps"] == [{"from": iso(BASE), "to": iso(BASE + (listed - 1) * HOUR), "missing": listed}]
    assert entry(done, "funding")["gaps"] == [{"from": iso(BASE), "to": iso(BASE + (listed - 8) * HOUR), "missing": listed // 8}]


@pytest.mark.parametrize("style", ["from", "window"])
def test_years_of_minutes_without_a_bar_take_few_questions_before_a_listing_and_after_the_end(tmp_path: Path, style: str) -> None:
    listed = BASE + 700 * DAY + 17 * HOUR + 23 * MINUTE
    bars = candles(1_500, start=listed, timeframe="1m")
    exchange = FakeExchange({"last": bars}, style=style, recorded="1m", timeframes={"1m": "1m", "1d": "1d"})
    request = Request("binance", "BTCUSDT", BASE, BASE + 1_400 * DAY, "1m", ("last",))

    done = fetched(exchange, tmp_path, request, now=BASE + 2_000 * DAY)

    assert stamps(tmp_path, "last") == [row[0] - BASE for row in bars]
    before, after = (listed - BASE) // MINUTE, (BASE + 1_400 * DAY - bars[-1][0]) // MINUTE - 1
    assert [gap["missing"] for gap in entry(done, "last")["gaps"]] == [before, after]
    # Days by the hundred: 8 times before and 7 after; by the hundred minutes on the day of the listing: 10; and pages of 500.
    assert len(exchange.calls) <= 45 < 10_000 < before / 100


def test_no_bar_is_lost_however_thinly_a_contract_is_traded(tmp_path: Path) -> None:
    for seed in range(4):
        chance = Random(seed)
        start, bars = BASE, []
        while start < BASE + 30 * DAY:
            start += chance.choice((MINUTE, 7 * MINUTE, 99 * MINUTE, 101 * MINUTE, 9 * HOUR, DAY, 3 * DAY))
            bars += candles(chance.choice((1, 2, 150)), start=start, timeframe="1m")
            start = bars[-1][0]
        exchange = FakeExchange({"last": bars}, style="window", page=100, recorded="1m", timeframes={"1m": "1m", "1d": "1d"})

        fetched(exchange, tmp_path / f"{seed}", Request("binance", "BTCUSDT", BASE, bars[-1][0] + MINUTE, "1m", ("last",)))

        assert stamps(tmp_path / f"{seed}", "last") == [row[0] - BASE for row in bars]


def test_a_page_of_long_bars_spans_no_more_than_a_venue_tells_of(tmp_path: Path) -> None:
    exchange = FakeExchange({"last": candles(500, timeframe="1d")}, style="window", recorded="1d")

    fetched(exchange, tmp_path, Request("binance", "BTCUSDT", BASE, BASE + 500 * DAY, "1d", ("last",)), now=BASE + 900 * DAY)

    assert [call[-1] for call in exchange.calls[1:]] == [200, 200, 200]  # 200 days
    assert len(stamps(tmp_path, "last")) == 500


def test_bars_told_some_milliseconds_late_are_of_their_second_and_no_gap(tmp_path: Path) -> None:
    late = [[row[0] + (3, 0, 499)[number % 3], *row[1:]] for number, row in enumerate(candles(40))]

    done = fetched(FakeExchange({"last": late}, page=7), tmp_path, asked(39, ("last",)))

    assert stamps(tmp_path, "last") == [number * HOUR for number in range(39)]
    assert entry(done, "last")["gaps"] == []


def test_a_settlement_told_again_on_the_next_page_with_another_jitter_counts_once(tmp_path: Path) -> None:
    again = [row for one in settlements(30) for row in (one, {**one, "timestamp": one["timestamp"] + 5})]

    fetched(FakeExchange({"funding": again}, page=7), tmp_path / "a", asked(240, ("funding",)))

    assert stamps(tmp_path / "a", "funding") == [number * 8 * HOUR for number in range(30)]
    again[13] = {**again[13], "fundingRate": 0.5}
    with pytest.raises(ValueError, match=r"told funding of 2024-01-03T00:00:00.005Z twice with other numbers"):
        fetched(FakeExchange({"funding": again}), tmp_path / "b", asked(240, ("funding",)))


def test_gaps_inside_and_at_the_end_are_told_and_pages_go_on_behind_them(tmp_path: Path) -> None:
    rows = [row for row in candles(300) if not 20 <= (row[0] - BASE) // HOUR < 270][:-4]
    rates = [row for row in settlements(38) if row["timestamp"] != BASE + 16 * HOUR]

    done = fetched(FakeExchange({"last": rows, "funding": rates}, page=10, style="window"), tmp_path, asked(300, ("last", "funding")))

    assert stamps(tmp_path, "last") == [row[0] - BASE for row in rows]
    assert entry(done, "last")["gaps"] == [
        {"from": iso(BASE + 20 * HOUR), "to": iso(BASE + 269 * HOUR), "missing": 250},
        {"from": iso(BASE + 296 * HOUR), "to": iso(BASE + 299 * HOUR), "missing": 4},
    ]
    assert entry(done, "funding")["gaps"] == [{"from": iso(BASE + 16 * HOUR), "to": iso(BASE + 16 * HOUR), "missing": 1}]


def test_settlements_that_were_hourly_once_are_not_skipped_by_a_page_of_eight_hours(tmp_path: Path) -> None:
    hourly = [{**settlements(1)[0], "timestamp": BASE + number * HOUR} for number in range(1_000)]

    fetched(FakeExchange({"funding": hourly}, style="window", page=100), tmp_path, asked(1_000, ("funding",)))

    # A page of 100 spans 800 h there, and its answer is the last 100 of those.
    assert stamps(tmp_path, "funding") == [number * HOUR for number in range(1_000)]


def test_settlements_of_a_venue_that_begins_with_the_newest_are_all_found(tmp_path: Path) -> None:
    exchange = FakeExchange({"funding": settlements(300)}, style="newest", page=100, id="okx")

    fetched(exchange, tmp_path, asked(2_400, ("funding",)))

    assert stamps(tmp_path, "funding") == [number * 8 * HOUR for number in range(300)]


def test_a_venue_that_answers_the_newest_rates_alone_is_told_of_by_its_gap_or_as_missing(tmp_path: Path) -> None:
    newest = FakeExchange({"funding": settlements(300)}, style="newest", page=100)

    done = fetched(newest, tmp_path / "a", asked(2_400, ("funding",)))
    with pytest.raises(ValueError, match="no funding: binanceusdm tells nothing between 2024-01-01T00:00:00Z and 2024-01-03T00:00:00Z"):
        fetched(newest, tmp_path / "b", asked(48, ("funding",)))

    assert entry(done, "funding")["rows"] == 100
    assert entry(done, "funding")["gaps"] == [{"from": iso(BASE), "to": iso(BASE + 199 * 8 * HOUR), "missing": 200}]
    assert not (tmp_path / "b").exists()


# -- patience --------------------------------------------------------------------------------------------------------


def failing(*faults: BaseException) -> Callable[[int], BaseException | None]:
    return lambda number: faults[number - 2] if 2 <= number < 2 + len(faults) else None


def test_a_venue_is_asked_again_after_longer_and_longer_waits(tmp_path: Path) -> None:
    waits = Waits()
    faults = failing(
        ERRORS["NetworkError"]("lost"),
        ERRORS["RequestTimeout"]("late"),
        ERRORS["RateLimitExceeded"]("429"),
        ERRORS["DDoSProtection"]("wait"),
    )

    fetched(FakeExchange(records(), faults=faults), tmp_path / "a", waits=waits)
    fetched(FakeExchange(records()), tmp_path / "b")

    assert waits == [1, 2, 10, 10]  # doubling from 1 s; 10 s at least where the venue has too many requests
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_a_venue_that_does_not_answer_is_given_up_and_what_was_fetched_is_kept(tmp_path: Path) -> None:
    waits = Waits()
    exchange = FakeExchange(records(), page=15, faults=lambda call: ERRORS["RequestTimeout"]("GET bars\nmore") if call >= 4 else None)

    with pytest.raises(ValueError, match=r"did not answer 8 times \(RequestTimeout: GET bars\); what was fetched is kept") as said:
        fetched(exchange, tmp_path / "a", waits=waits)
    fetched(FakeExchange(records(), page=15), tmp_path / "a")

    assert waits == [1, 2, 4, 8, 16, 32, 60] and "\n" not in str(said.value)
    assert content(tmp_path / "a") == whole(tmp_path)[0]


def test_a_refusal_is_one_sentence_and_not_tried_again(tmp_path: Path) -> None:
    waits = Waits()
    with pytest.raises(ValueError, match=r"binanceusdm refused fetch_ohlcv \(BadSymbol: gone\); what was fetched is kept"):
        fetched(FakeExchange(records(), faults=failing(ERRORS["BadSymbol"]("gone"))), tmp_path, asked(kinds=("last",)), waits=waits)
    assert waits == []


@pytest.mark.parametrize(
    ("kind", "rows", "sentence"),
    [
        ("last", "oops", "answered no list of last but str"),
        ("last", [[BASE, 1, 2]], "answered a row of last that is no candle"),
        ("last", [[BASE / 1_000, 1, 2, 1, 1, 1]], "answered a row of last without a time in milliseconds"),
        ("last", [[BASE, "1", 2, 1, 1, 1]], "answered '1' for a number of last"),
        ("last", [[BASE, float("nan"), 2, 1, 1, 1]], "answered nan for a number of last"),
        ("funding", [{"timestamp": BASE}], "answered a settlement without a rate"),
        ("funding", [{"timestamp": None, "fundingRate": 0.1}], "answered a row of funding without a time in milliseconds, None"),
    ],
)
def test_an_answer_that_is_no_data_is_one_sentence(tmp_path: Path, kind: str, rows: Any, sentence: str) -> None:
    exchange = FakeExchange({kind: []}, mend=lambda _rows: rows)
    with pytest.raises(ValueError, match=sentence):
        fetched(exchange, tmp_path, asked(kinds=(kind,)))


# -- what a venue does not tell --------------------------------------------------------------------------------------


def test_what_ccxt_has_not_is_named_with_what_to_give_instead(tmp_path: Path) -> None:
    has = {**fake.HAS, "fetchMarkOHLCV": False, "fetchIndexOHLCV": None, "fetchLeverageTiers": False, "fetchMarketLeverageTiers": False}

    done = fetched(FakeExchange(records(), has=has, id="hyperliquid"), tmp_path)

    assert [file["kind"] for file in done.manifest["files"]] == ["last", "funding"]
    assert done.manifest["missing"] == {
        "tiers": "no tiers: ccxt has none of hyperliquid; take the tables that come with bt_margin (bt-margin tiers show), "
        "or a file of your own (bt-margin tiers check FILE)",
        "mark": "no mark: ccxt has none of hyperliquid; give mark prices of your own as mark=FILE, or say missing_mark='last' or 'index'",
        "index": "no index: ccxt has none of hyperliquid; "
        "give index prices of your own as index=FILE where missing_mark='index' needs them",
    }


def test_tiers_that_need_a_key_are_named_and_the_rest_is_fetched(tmp_path: Path) -> None:
    exchange = FakeExchange(records(), faults=failing(ERRORS["AuthenticationError"]("needs apiKey")))

    done = fetched(exchange, tmp_path, asked(kinds=("last", "tiers")))

    assert [file["kind"] for file in done.manifest["files"]] == ["last"]
    assert done.manifest["missing"]["tiers"].startswith(
        "no tiers: binanceusdm answers fetch_market_leverage_tiers with a key of an account only;"
    )


def test_tiers_of_all_contracts_do_where_a_venue_has_those_alone(tmp_path: Path) -> None:
    exchange = FakeExchange(records(), has={**fake.HAS, "fetchMarketLeverageTiers": False})

    done = fetched(exchange, tmp_path, asked(kinds=("tiers",)))

    assert exchange.calls[-1] == ("all tiers", [SYMBOL])
    assert (entry(done, "tiers")["rows"], entry(done, "tiers")["fault"], entry(done, "tiers")["retrieved"]) == (2, None, iso(NOW))


def test_tiers_that_make_no_table_are_kept_as_told_and_their_fault_named(tmp_path: Path) -> None:
    broken = [TIERS[0], {**TIERS[1], "minNotional": 60_000}]

    done = fetched(FakeExchange(records(tiers=broken)), tmp_path, asked(kinds=("tiers",)))

    assert "must start where tier 1 ends" in entry(done, "tiers")["fault"]
    assert json.loads((tmp_path / "binance-BTCUSDT-tiers.json").read_text("utf-8")) == {SYMBOL: broken}


@pytest.mark.parametrize("symbol", ["BTCUSDT", "btcusdt", "BTC/USDT:USDT", "BTC/USDT", "BTC"])
def test_the_perpetual_is_found_by_any_of_its_spellings_and_never_the_spot_pair(tmp_path: Path, symbol: str) -> None:
    exchange = FakeExchange(records())
    fetched(exchange, tmp_path, Request("binance", symbol, BASE, BASE + DAY, "1h", ("last",)))
    assert {call[1] for call in exchange.calls[1:]} == {SYMBOL}


def test_a_symbol_that_is_none_or_several_is_one_sentence(tmp_path: Path) -> None:
    many = [fake.market(), fake.market("BTC/USDC:USDC", "BTCUSDC"), fake.market("BTC/EUR:EUR", "BTCEUR", active=False)]
    for symbol, sentence in (("BTC", "BTC may be BTC/USDC:USDC, BTC/USDT:USDT at binanceusdm; say which"), ("BTCX", "lists no perpetual")):
        with pytest.raises(ValueError, match=sentence):
            fetched(FakeExchange(records(), markets=many), tmp_path, Request("binance", symbol, BASE, BASE + DAY))


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ({"kinds": ("last", "oracle")}, "some of last,mark,index,funding,tiers, each once, was 'last,oracle'"),
        ({"until": BASE}, "since, 2024-01-01T00:00:00Z, must be before until, 2024-01-01T00:00:00Z"),
        ({"symbol": ""}, "a symbol is a contract's name such as BTCUSDT, was ''"),
        ({"timeframe": "1M"}, "a timeframe is a number and s, min, h, d or w"),
    ],
)
def test_a_request_that_makes_no_sense_is_one_sentence(terms: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Request(**{"venue": "binance", "symbol": "BTCUSDT", "since": BASE, **terms})


def test_a_timeframe_that_the_venue_has_not_and_a_future_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no candles of 2h; it has 1h, 1d"):
        fetched(FakeExchange(records()), tmp_path / "a", Request("binance", "BTCUSDT", BASE, BASE + DAY, "2h"))
    with pytest.raises(ValueError, match="since, 2024-01-01T00:00:00Z, is not over yet; it is 2023-12-31T00:00:00Z"):
        fetched(FakeExchange(records()), tmp_path / "b", now=BASE - DAY)


# -- the command -----------------------------------------------------------------------------------------------------


def told(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["data", "fetch", *map(str, words)])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


@pytest.fixture
def venue(monkeypatch: pytest.MonkeyPatch) -> FakeExchange:
    exchange = FakeExchange(records(48))
    monkeypatch.setitem(sys.modules, "ccxt", fake.library(binanceusdm=exchange))
    return exchange


ORDER = ("--symbol", "BTCUSDT", "--since", "2024-01-01", "--until", "2024-01-03", "--out")


def test_the_command_writes_tells_and_goes_on_after_ctrl_c(venue: FakeExchange, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    venue.faults = interrupting(4)
    code, out, err = told(capsys, *ORDER, tmp_path)
    assert (code, out) == (130, "")
    assert err == "bt-margin: stopped; what was fetched is kept, the same command goes on from there\n"

    code, out, err = told(capsys, *ORDER, tmp_path)
    assert (code, err) == (0, "")
    assert f"Wrote {tmp_path / 'binance-BTCUSDT-1h-last.parquet'}: 48 rows, 2024-01-01T00:00:00Z to 2024-01-02T23:00:00Z, no gap\n" in out
    assert sys.modules["ccxt"].options == [{"enableRateLimit": True}] * 2

    code, out, _ = told(capsys, *ORDER, tmp_path, "--json")
    assert code == 0 and json.loads(out)["asked"]["until"] == "2024-01-03T00:00:00Z"


def test_the_command_says_of_a_fetch_that_ended_at_its_time_that_more_may_be_had(
    venue: FakeExchange, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for until in ([], ["--until", "2999-01-01"]):
        words = ("--symbol", "BTCUSDT", "--since", "2024-01-01", "--what", "tiers", *until, "--out", tmp_path / f"{len(until)}")
        assert "All of it ends" not in told(capsys, *words)[1]
        code, out, _ = told(capsys, *words)
        assert code == 0
        assert re.search(
            r"^All of it ends at \S+Z, when it was fetched; to have what came since, name another folder with --out\.$", out, re.M
        )
    told(capsys, *ORDER, tmp_path / "whole")
    assert "All of it ends" not in told(capsys, *ORDER, tmp_path / "whole")[1]


def test_the_command_ends_with_1_where_something_is_missing(
    venue: FakeExchange, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    venue.has["fetchMarkOHLCV"] = False
    code, out, err = told(capsys, *ORDER, tmp_path)
    assert code == 1 and "last.parquet" in out
    assert err.startswith("bt-margin: no mark: ccxt has none of binanceusdm; give mark prices of your own")


def test_the_command_says_what_is_needed_without_ccxt_and_which_venue_is_none(
    venue: FakeExchange, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = told(capsys, "--venue", "binanse", *ORDER, tmp_path)
    assert (code, err) == (2, "bt-margin: ccxt has no venue called 'binanse'; near it: binanceusdm\n")
    monkeypatch.setitem(sys.modules, "ccxt", None)
    code, _, err = told(capsys, *ORDER, tmp_path)
    assert code == 2
    assert err == "bt-margin: to fetch needs ccxt: run pip install 'bt_margin[fetch]', or download the venue's own archives\n"


# -- the page and the fake -------------------------------------------------------------------------------------------


def test_the_fake_speaks_the_interface_of_ccxt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ccxt")
    real = pytest.importorskip("ccxt")
    for name in [name for name in vars(FakeExchange) if name.startswith(("fetch_", "load_"))]:
        assert list(inspect.signature(getattr(FakeExchange, name)).parameters) == list(
            inspect.signature(getattr(real.Exchange, name)).parameters
        )
    for name, error in ERRORS.items():
        assert [above.__name__ for above in error.__mro__] == [above.__name__ for above in getattr(real, name).__mro__]
    assert set(fake.HAS) <= set(real.binanceusdm().has) and {"binanceusdm", "binancecoinm"} <= set(real.exchanges)


def test_the_page_says_of_each_venue_what_ccxt_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ccxt")
    real = pytest.importorskip("ccxt")
    page = (Path(__file__).parents[1] / "docs" / "fetching.md").read_text("utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.endswith((" yes |", " no |", " key |"))]
    assert len(rows) == 8
    for venue, *cells in rows:
        has = getattr(real, fetching.CCXT_IDS.get(venue.strip("`"), venue.strip("`")))().has
        assert [any(has.get(name) for name in names) for names in fetching.ABILITIES.values()] == [cell != "no" for cell in cells]


def test_the_commands_of_the_pages_fetch_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    year, hours = 1_609_459_200_000, 31 * 24  # January 2021
    bars = candles(hours, start=year)
    told_by = {"last": bars, "mark": bars, "index": bars, "funding": settlements(hours // 8, start=year), "tiers": TIERS}
    venues = {name: FakeExchange(told_by, id=name, style=style) for name, style in (("binanceusdm", "from"), ("bybit", "window"))}
    monkeypatch.setitem(sys.modules, "ccxt", fake.library(**venues))
    found = 0
    for page in ("docs/fetching.md", "README.md", "README.zh-CN.md"):
        text = (Path(__file__).parents[1] / page).read_text("utf-8").replace("\\\n", " ")
        for line in re.findall(r"^bt-margin data fetch (.*)$", text, re.M):
            folder = tmp_path / f"{found}"
            folder.mkdir()
            monkeypatch.chdir(folder)
            code, out, err = told(capsys, *shlex.split(line))
            assert (code, err) == (0, "") and f"{hours} rows, 2021-01-01T00:00:00Z to 2021-01-31T23:00:00Z; gaps: 2021-02-01" in out
            found += 1
    assert found == 3
