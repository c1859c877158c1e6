"""The shipped candles are what their README says, and the rebuild script drops what it should and nothing else."""

import gzip
import hashlib
import io
import re
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from bypath import loaded

FOLDER = Path(__file__).parents[1] / "data"
HEADER = (
    "# a comment of upstream\n"
    "date,open,high,low,close,volume,close_time,quote_asset_volume,number_of_trades,"
    "taker_buy_base_asset_volume,taker_buy_quote_asset_volume\n"
)
FIRST, LAST = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC)


data = loaded(FOLDER / "__init__.py")  # by path, which works whether or not the package is installed
rebuild = loaded(FOLDER / "rebuild_btcusdt.py")


def line(stamp: str, price: float, trades: int = 9) -> str:
    """Return one raw candle of a day in 2020 that opens at a price and closes one higher."""
    return f"2020-01-01 {stamp},{price},{price + 2},{price - 1},{price + 1},{trades}.5,,{price * trades},{trades},1.0,2.0\n"


def repaired(*lines: str) -> Any:
    return rebuild.repair(rebuild.candles(HEADER + "".join(lines)), FIRST, LAST)


def at(hour: int, minute: int = 0, second: int = 0) -> datetime:
    return datetime(2020, 1, 1, hour, minute, second, tzinfo=UTC)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return data.load()


def test_the_shipped_file_has_the_checksum_its_readme_states() -> None:
    shipped = data.path().read_bytes()

    stated = re.findall(r"`([0-9a-f]{64})`", (FOLDER / "README.md").read_text("utf-8"))

    assert stated == [rebuild.MEMBER_SHA256, hashlib.sha256(gzip.decompress(shipped)).hexdigest(), hashlib.sha256(shipped).hexdigest()]


def test_stamps_are_whole_utc_hours_that_rise(frame: pd.DataFrame) -> None:
    assert str(frame.index.tz) == "UTC"
    assert frame.index.is_monotonic_increasing
    assert frame.index.is_unique
    assert (frame.index == frame.index.floor("h")).all()


def test_the_file_spans_five_years_and_lacks_the_hours_its_readme_lists(frame: pd.DataFrame) -> None:
    hours = pd.date_range("2019-01-01", "2023-12-31 23:00", freq="h", tz="UTC")

    missing = hours.difference(frame.index)

    listed = [
        (pd.Timestamp(start, tz="UTC"), int(count))
        for start, count in re.findall(r"^\| (\d{4}-\d\d-\d\d \d\d:\d\d) \| (\d+) \|", (FOLDER / "README.md").read_text("utf-8"), re.M)
    ]
    assert (frame.index[0], frame.index[-1]) == (hours[0], hours[-1])
    assert list(missing) == [stamp for start, count in listed for stamp in pd.date_range(start, periods=count, freq="h")]
    assert len(frame) == len(hours) - len(missing) == 43_824 - 71


def test_every_candle_is_possible_and_traded(frame: pd.DataFrame) -> None:
    assert list(frame.columns) == ["open", "high", "low", "close", "volume"]
    assert ((frame > 0) & (frame < float("inf"))).all(axis=None)  # neither holds for a missing number
    assert (frame["high"] >= frame[["open", "close"]].max(axis=1)).all()
    assert (frame["low"] <= frame[["open", "close"]].min(axis=1)).all()


def test_no_candle_is_a_copy_of_another(frame: pd.DataFrame) -> None:
    assert not frame.duplicated().any()


def test_the_candle_of_march_2020_is_the_one_the_venue_published(frame: pd.DataFrame) -> None:
    crash = frame.loc["2020-03-13 02:00"]

    assert crash.tolist() == [4131.23, 5276.97, 3782.13, 4848.71, 41434.059072]


def test_whole_traded_hours_are_kept_and_a_gap_stays_a_gap() -> None:
    result = repaired(line("00:00:00", 100), line("03:00:00", 110), line("04:00:00", 120))

    assert [candle.start for candle in result.kept] == [at(0), at(3), at(4)]
    assert result.gaps == [(at(1), 2)]


def test_a_repeated_line_counts_once() -> None:
    result = repaired(line("00:00:00", 100), line("00:00:00", 100))

    assert [candle.start for candle in result.kept] == [at(0)]
    assert result.repeated == [at(0)]


def test_two_different_candles_at_one_stamp_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2020-01-01 00:00 has two different candles; a stamp must have one"):
        repaired(line("00:00:00", 100), line("00:00:00", 101))


def test_of_two_equal_candles_the_earlier_is_the_pasted_copy() -> None:
    result = repaired(line("00:00:00", 100), line("01:00:00", 130), line("09:00:00", 130))

    assert result.pasted == [(at(1), at(9))]
    assert [candle.start for candle in result.kept] == [at(0), at(9)]


def test_a_candle_off_the_hour_is_dropped() -> None:
    result = repaired(line("00:00:00", 100), line("01:28:14", 110))

    assert result.off_hour == [at(1, 28, 14)]
    assert [candle.start for candle in result.kept] == [at(0)]


def test_a_candle_without_a_trade_is_dropped() -> None:
    result = repaired(line("00:00:00", 100), line("01:00:00", 100, trades=0))

    assert result.untraded == [at(1)]
    assert [candle.start for candle in result.kept] == [at(0)]


def test_an_impossible_candle_is_refused_with_its_numbers() -> None:
    impossible = line("05:00:00", 100).replace(",102,", ",99,")

    with pytest.raises(ValueError, match=r"2020-01-01 05:00 is no possible candle \(open 100, high 99, low 99, close 101"):
        repaired(impossible)


@pytest.mark.parametrize("column", range(1, 6))
def test_a_candle_with_a_number_missing_is_refused(column: int) -> None:
    fields = line("05:00:00", 100).split(",")
    fields[column] = "nan"

    with pytest.raises(ValueError, match="is no possible candle"):
        repaired(",".join(fields))


def test_candles_outside_the_window_are_left_out_but_still_unmask_copies() -> None:
    later = "2020-01-02 03:00:00" + line("20:00:00", 100)[19:]

    result = repaired(line("20:00:00", 100), later)

    assert result.kept == []
    assert result.pasted == [(at(20), datetime(2020, 1, 2, 3, tzinfo=UTC))]


def test_the_shipped_text_is_the_raw_text_and_packs_to_the_same_bytes() -> None:
    kept = repaired(line("00:00:00", 100)).kept

    content = rebuild.shipped_csv(kept)

    assert content == b"datetime,open,high,low,close,volume\n2020-01-01T00:00:00Z,100,102,99,101,9.5\n"
    assert rebuild.packed(content) == rebuild.packed(content)
    assert rebuild.packed(content)[4:8] == bytes(4)  # the header's time
    assert gzip.decompress(rebuild.packed(content)) == content


def sdist(folder: Path, member: str, content: bytes) -> Path:
    made = folder / "upstream.tar.gz"
    with tarfile.open(made, "w:gz") as archive:
        entry = tarfile.TarInfo(member)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return made


def test_the_script_writes_what_an_sdist_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    raw = (HEADER + line("00:00:00", 100) + line("02:00:00", 110)).encode()
    monkeypatch.setattr(rebuild, "MEMBER_SHA256", hashlib.sha256(raw).hexdigest())
    out = tmp_path / "candles.csv.gz"

    rebuild.main([str(sdist(tmp_path, f"upstream-1/{rebuild.MEMBER}", raw)), "--out", str(out)])

    assert gzip.decompress(out.read_bytes()).decode().splitlines()[1:] == [
        "2020-01-01T00:00:00Z,100,102,99,101,9.5",
        "2020-01-01T02:00:00Z,110,112,109,111,9.5",
    ]
    assert "2020-01-01 01:00, 1 h" in capsys.readouterr().out


def test_another_version_of_the_raw_file_is_refused(tmp_path: Path) -> None:
    other = sdist(tmp_path, f"upstream-1/{rebuild.MEMBER}", b"something else")

    with pytest.raises(ValueError, match=r"have sha256 [0-9a-f]{64}, expected .*; use version 17\.5\.5"):
        rebuild.rebuild(other, tmp_path / "candles.csv.gz")
    assert not (tmp_path / "candles.csv.gz").exists()


def test_an_sdist_without_the_raw_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"upstream\.tar\.gz has no file tests/fixtures"):
        rebuild.raw_member(sdist(tmp_path, "upstream-1/README.md", b"hello"))
