"""A folder of a venue's monthly archives as one tidy series: ``load`` and ``bt-margin data join``, with the gaps told."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pandas as pd
import pytest

from bt_margin.cli import main
from bt_margin.feeds import load
from bt_margin.shapes import read

MONTHS = ("2024-01", "2024-02", "2024-03")
NAMES = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
HOURS = {month: pd.date_range(month, periods=pd.Period(month).days_in_month * 24, freq="h", tz="UTC") for month in MONTHS}
HOUR = 3_600_000


def millis(index: pd.DatetimeIndex) -> list[int]:
    return [int(moment.timestamp() * 1_000) for moment in index]


def klines(folder: Path, *, volume: int = 7, without: Sequence[str] = (), level: float = 100.0) -> Path:
    """Write a zip of hourly candles for each month, as the venue does: the first without names, the last in microseconds."""
    folder.mkdir(parents=True)
    for month, hours in HOURS.items():
        scale = 1_000 if month == MONTHS[-1] else 1
        rows = [] if month == MONTHS[0] else [NAMES]
        for hour, stamp in zip(hours, millis(hours), strict=True):
            if str(hour)[:16] in without:
                continue
            opened = level + hour.day / 10
            end = (stamp + HOUR) * scale - 1
            rows.append(f"{stamp * scale},{opened},{opened + 2},{opened - 2},{opened + 1},{volume},{end},0,1,0,0,0")
        zipped(folder, f"BTCUSDT-1h-{month}", rows)
        (folder / f"BTCUSDT-1h-{month}.zip.CHECKSUM").write_text("00  x\n", "utf-8")
    return folder


def rates(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for month, hours in HOURS.items():
        rows = [] if month == MONTHS[0] else ["calc_time,funding_interval_hours,last_funding_rate"]
        rows += [f"{stamp + 3},8,0.0001" for stamp in millis(hours[::8])]
        zipped(folder, f"BTCUSDT-fundingRate-{month}", rows)
    return folder


def zipped(folder: Path, name: str, rows: Sequence[str]) -> None:
    with ZipFile(folder / f"{name}.zip", "w") as archive:
        archive.writestr(f"{name}.csv", "\n".join(rows) + "\n")


def told(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["data", "join", *map(str, words)])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


COUNT = (31 + 29 + 31) * 24


def test_folders_of_monthly_archives_load_as_one_contract(tmp_path: Path) -> None:
    last, marks = klines(tmp_path / "klines"), klines(tmp_path / "markPriceKlines", volume=0, level=100.1)

    (feed,) = load(last, mark=marks, funding=rates(tmp_path / "fundingRate")).values()

    assert feed.p.name == "BTCUSDT"
    assert len(feed.p.dataname["datetime"]) == COUNT
    assert (feed.p.dataname["mark_open"] - feed.p.dataname["open"]).round(9).tolist() == [0.1] * COUNT
    assert any("volume is 0 in every row: mark or index prices" in note for note in feed.notes)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_join_writes_one_tidy_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    out = tmp_path / f"BTCUSDT-1h{suffix}"

    code, printed, err = told(capsys, klines(tmp_path / "klines"), "--out", out)

    assert (code, err) == (0, "")
    assert printed == f"Wrote {out}: candles, {COUNT} rows, 2024-01-01T00:00:00Z to 2024-03-31T23:00:00Z\n"
    reading = read(out)
    assert (reading.kind, reading.symbol, len(reading.micros)) == ("candles", "BTCUSDT", COUNT)
    assert (reading.micros[1:] - reading.micros[:-1] == HOUR * 1_000).all()
    assert reading.columns["close"][0] == 100.1 + 1


def test_join_tells_the_gaps_and_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = klines(tmp_path / "klines", without=("2024-01-31 23:00", "2024-02-01 00:00"))

    code, printed, err = told(capsys, folder, "--out", tmp_path / "x.csv")

    assert (code, err) == (1, "")
    assert "warning  gap: 2 bars of 1 h missing in 1 place: 2024-01-31 23:00 (2)" in printed


def test_join_of_settlements_takes_their_jitter_away_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "BTCUSDT-funding.csv"

    code, printed, _ = told(capsys, rates(tmp_path / "fundingRate"), "--out", out)

    assert code == 0 and f"  {COUNT // 8} rows: jitter" in printed
    assert out.read_text("utf-8").splitlines()[:3] == [
        "datetime,funding_rate",
        "2024-01-01T00:00:00.000000Z,0.0001",
        "2024-01-01T08:00:00.000000Z,0.0001",
    ]


def test_join_to_parquet_without_pyarrow_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, err = told(capsys, klines(tmp_path / "klines"), "--out", tmp_path / "x.parquet")
    assert (code, err) == (2, "bt-margin: to write x.parquet needs pyarrow: run pip install 'bt_margin[parquet]', or name a .csv\n")


def test_an_archive_that_is_there_twice_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = klines(tmp_path / "klines")
    (folder / "BTCUSDT-1h-2024-02 (1).zip").write_bytes((folder / "BTCUSDT-1h-2024-02.zip").read_bytes())

    code, printed, _ = told(capsys, folder, "--out", tmp_path / "x.parquet")

    assert code == 0 and f"{COUNT} rows" in printed and f"  {29 * 24} rows: " in printed


def test_what_is_not_one_series_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last, other = klines(tmp_path / "klines"), klines(tmp_path / "other")
    (tmp_path / "empty").mkdir()
    for path in sorted(other.glob("*.zip")):
        path.rename(other / path.name.replace("BTC", "ETH"))
    out = tmp_path / "x.parquet"

    for files, sentence in (
        ((last, other), "BTCUSDT-1h-2024-01.zip is of BTCUSDT and ETHUSDT-1h-2024-01.zip of ETHUSDT; name files of one contract"),
        ((last, rates(tmp_path / "rates")), "are no files of one series; name files of the same kind and columns"),
        ((tmp_path / "empty",), "is a folder without files of data in it"),
    ):
        code, printed, err = told(capsys, *files, "--out", out)
        assert (code, printed) == (2, "") and sentence in err and not out.exists()

    out.write_bytes(b"kept")
    assert "would write over" in told(capsys, last, "--out", out)[2] and out.read_bytes() == b"kept"
    assert "names a .parquet or a .csv file" in told(capsys, last, "--out", tmp_path / "x.txt")[2]
