"""Whatever stands in a file: a right answer or one clear sentence, never a traceback, and no row is lost without a word."""

import gzip
import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bt_margin import PerpData, resample
from bt_margin.quality import check, examine, repaired
from bt_margin.shapes import read_all

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
T0 = 1_704_067_200_000
NAMES = ("open_time", "datetime", "open", "high", "low", "close", "volume", "rate", "mark_open", "confirm", "symbol", "x")
CELLS = (
    "",
    "1",
    "1.5",
    "-1",
    "nan",
    "inf",
    "1e400",
    "0x10",
    "1,5",
    '"',
    "BTC",
    "2024-01-01",
    "2024-01-01T01:00:00Z",
    "1704067200000",
    "\t",
    ";",
    "é",
    "0",
)
PRICES = ("open", "high", "low", "close")


def outcome(path: Path) -> list[Any]:
    """Return the readings of a file, [] where it was refused in one sentence; anything else that is raised fails the test."""
    try:
        readings = read_all(path)
    except ValueError as error:
        told = str(error)
        return [] if told.startswith(path.name) and "\n" not in told and len(told) < 600 else pytest.fail(told)
    for reading in readings:
        check(reading)
        repaired(reading)
        assert all(len(values) == len(reading.micros) == len(reading.rows) for values in reading.columns.values())
    return readings


@FEW
@given(
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=8),
    rows=st.lists(st.lists(st.sampled_from(CELLS), min_size=1, max_size=9), max_size=6),
    mark=st.sampled_from(",;\t"),
    end=st.sampled_from(["\n", "\r\n", ""]),
)
def test_any_table_of_text_is_read_or_refused(tmp_path: Path, names: list[str], rows: list[list[str]], mark: str, end: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("".join(mark.join(line) + (end or "\n") for line in (names, *rows)).encode())

    outcome(path)


@FEW
@given(
    content=st.binary(max_size=300),
    sign=st.sampled_from([b"", b"PAR1", b"ARROW1\0\0", b"PK\x03\x04", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"[", b"{"]),
)
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes, sign: bytes) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(sign + content)

    outcome(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.just(T0) | st.floats() | st.sampled_from(["a", "1.5", str(T0)]),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.sampled_from([*NAMES, "data", "result", "list", "timestamp"]), inner, max_size=6)
    ),
    max_leaves=30,
)


@FEW
@given(value=JSON)
def test_any_json_is_read_or_refused(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(value), "utf-8")

    outcome(path)


def valid_files() -> dict[str, bytes]:
    """Return a valid file of 40 hourly candles in every form, by its name."""
    rng = np.random.default_rng(1)
    closes = 100 + np.cumsum(rng.normal(0, 1, 40))
    opens = np.concatenate(([100.0], closes[:-1]))
    frame = pd.DataFrame(
        {"open": opens, "high": np.maximum(opens, closes) + 1, "low": np.minimum(opens, closes) - 1, "close": closes, "volume": 2.5}
    )
    stamped = frame.set_axis(pd.date_range("2024-01-01", periods=40, freq="h", tz="UTC", name="datetime"))
    text = stamped.to_csv().encode()
    parquet, feather, packed = io.BytesIO(), io.BytesIO(), io.BytesIO()
    stamped.to_parquet(parquet)
    stamped.reset_index(names="date").to_feather(feather)
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x.csv", text)
    rows = [[T0 + 3_600_000 * number, *row] for number, row in enumerate(frame.to_numpy().tolist())]
    return {
        "x.csv": text,
        "x.json": json.dumps(rows).encode(),
        "x.csv.gz": gzip.compress(text, mtime=0),
        "x.zip": packed.getvalue(),
        "x.parquet": parquet.getvalue(),
        "x.feather": feather.getvalue(),
    }


FILES = valid_files()


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_anywhere_is_refused_or_has_the_rows_that_are_left(tmp_path: Path, name: str) -> None:
    path, content = tmp_path / name, FILES[name]
    path.write_bytes(content)
    (whole,) = outcome(path)
    assert len(whole.micros) == 40
    for length in sorted(random.Random(3).sample(range(1, len(content)), 40)):
        path.write_bytes(content[:length])
        for reading in outcome(path):  # only text can be cut and still be rows, whole lines and the last one it may be
            assert name == "x.csv"
            assert len(reading.micros) in (content[:length].count(b"\n") - 1, content[:length].count(b"\n"))
            assert reading.micros[:-1].tolist() == whole.micros[: len(reading.micros) - 1].tolist()


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_bytes_changed_is_read_or_refused(tmp_path: Path, name: str) -> None:
    path, dice = tmp_path / name, random.Random(4)
    for _ in range(60):
        spoilt = bytearray(FILES[name])
        for _ in range(dice.choice((1, 1, 3, 20))):
            spoilt[dice.randrange(len(spoilt))] = dice.randrange(256)
        path.write_bytes(bytes(spoilt))
        for reading in outcome(path):
            assert len(reading.micros) >= 38  # a changed line end or quote joins two lines at most, and then numbers are refused


def test_no_row_is_lost_where_cells_are_spoilt(tmp_path: Path) -> None:
    lines, dice = FILES["x.csv"].decode().splitlines(), random.Random(5)
    for cell in CELLS:
        for column in range(6):
            row = dice.randrange(1, len(lines))
            fields = lines[row].split(",")
            fields[column] = cell
            path = tmp_path / "x.csv"
            path.write_text("\n".join([*lines[:row], ",".join(fields), *lines[row + 1 :]]) + "\n", "utf-8")
            for reading in outcome(path):
                assert len(reading.micros) == 40


@FEW
@given(
    rows=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2), st.sampled_from([0, 0, 0, 3, 1_999])), min_size=2, max_size=14),
    is_reversed=st.booleans(),
)
def test_any_order_of_stamps_is_joined_whole_or_refused(rows: list[tuple[int, int, int]], is_reversed: bool) -> None:
    opened = [1_704_067_200_000 + 3_600_000 * hour + jitter for hour, _, jitter in rows]
    prices = [100.0 + step for _, step, _ in rows]
    frame = pd.DataFrame(
        {"timestamp": opened, "open": prices, "high": [p + 1 for p in prices], "low": [p - 1 for p in prices], "close": prices}
    )
    frame = frame.iloc[::-1] if is_reversed else frame

    try:
        feed = PerpData.from_files(frame, missing_mark="last", missing_funding="zero", name="X")
    except ValueError as error:
        if "\n" in str(error):
            pytest.fail(str(error))
        return
    hours = {hour for hour, _, _ in rows}
    assert [round(stamp) for stamp in feed.perp.stamps] == [
        1_704_067_200 + 3_600 * hour + round(feed.perp.bar_seconds) for hour in sorted(hours)
    ]


@FEW
@given(
    steps=st.lists(st.integers(1, 3), min_size=3, max_size=60),
    length=st.sampled_from(["2h", "4h", "1d"]),
    paid=st.sets(st.integers(0, 40), max_size=12),
    first=st.integers(0, 23),
)
def test_longer_bars_of_any_gaps_keep_extremes_volume_and_every_rate(steps: list[int], length: str, paid: set[int], first: int) -> None:
    hours = first + np.cumsum([0, *steps, *[1] * len(steps)])  # so many single hours that they are the bar
    index = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(hours, unit="h")
    rng = np.random.default_rng(len(steps))
    opens = 100 + rng.normal(0, 1, len(hours))
    frame = pd.DataFrame({"open": opens, "high": opens + 2, "low": opens - 2, "close": opens + 1, "volume": 1.5}, index=index)
    frame["funding_rate"] = [0.0001 * (row + 1) if row in paid else np.nan for row in range(len(hours))]

    made = resample(frame, length)

    assert (made["high"].max(), made["low"].min(), made["volume"].sum()) == (frame["high"].max(), frame["low"].min(), frame["volume"].sum())
    assert (made["open"].iloc[0], made["close"].iloc[-1]) == (frame["open"].iloc[0], frame["close"].iloc[-1])
    kept = frame["funding_rate"].dropna()
    rates = made[[name for name in made if name.startswith("funding_rate")]].to_numpy()
    assert sorted(rates[~np.isnan(rates)]) == sorted(kept)


def test_several_broken_files_are_reported_beside_good_ones(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / f"half-{name}").write_bytes(content[: len(content) // 2])

    reports = examine(sorted(tmp_path.iterdir()))

    unread = {report.name for report in reports if report.reading is None}
    assert unread == {f"half-{name}" for name in FILES if name != "x.csv"} | ({"half-x.csv"} & unread)
    assert len(reports) == 12


def test_damaged_notes_of_pandas_in_a_file_are_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.feather"
    path.write_bytes(FILES["x.feather"].replace(b'"pandas_type"', b'"pandas_tyqe"'))

    assert outcome(path) == []
