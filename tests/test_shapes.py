"""Files of venues and tools are recognised by what is in them; what could be two things, or none, is refused in one sentence."""

import bz2
import gzip
import io
import json
import lzma
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bt_margin.shapes import read, read_all, symbol_of

T0 = 1_704_067_200  # 2024-01-01 00:00 UTC
HOUR = 3_600
BARS = [(100.0, 102.0, 99.0, 101.0, 5.0), (101.0, 103.5, 100.5, 103.0, 7.25), (103.0, 104.0, 97.0, 98.0, 0.5)]
PRICES = ("open", "high", "low", "close")
KLINES = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"


def kline(number: int, *, unit: int = 1_000, volume: bool = True) -> str:
    """Return one line of a Binance dump, its stamps in 1 / ``unit`` seconds."""
    opened = (T0 + HOUR * number) * unit
    prices = ",".join(f"{price}" for price in BARS[number][:4])
    return f"{opened},{prices},{BARS[number][4] if volume else 0},{opened + HOUR * unit - 1},0,0,0,0,0"


def written(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def assert_is_bars(reading: Any, *, volume: bool = True) -> None:
    assert reading.micros.tolist() == [(T0 + HOUR * number) * 10**6 for number in range(3)]
    for place, name in enumerate(PRICES):
        assert reading.columns[name].tolist() == [bar[place] for bar in BARS]
    if volume:
        assert reading.columns["volume"].tolist() == [bar[4] for bar in BARS]


# -- ccxt ------------------------------------------------------------------------------------------------------------

CCXT = [[(T0 + HOUR * number) * 1_000, *bar] for number, bar in enumerate(BARS)]


def test_rows_of_ccxt_are_read_from_a_list_and_from_json(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT.json"
    path.write_text(json.dumps(CCXT), "utf-8")

    for reading in (read(CCXT), read(path)):
        assert (reading.shape, reading.kind) == ("ccxt", "candles")
        assert_is_bars(reading)
    assert "no line of names" in read(path).notes[0]


def test_funding_of_ccxt_is_read_from_its_mappings() -> None:
    rows = [
        {"symbol": "BTC/USDT:USDT", "fundingRate": rate, "timestamp": T0 * 1_000 + HOUR * 8_000 * number, "info": {"symbol": "BTCUSDT"}}
        for number, rate in enumerate((0.0001, -0.0002))
    ]

    reading = read(rows)

    assert (reading.shape, reading.kind, reading.symbol) == ("ccxt", "funding", "BTCUSDT")
    assert reading.columns["rate"].tolist() == [0.0001, -0.0002]


# -- binance ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [1_000, 1_000_000])
@pytest.mark.parametrize("names", [True, False])
def test_binance_klines_are_read_with_and_without_names_in_ms_and_us(tmp_path: Path, names: bool, unit: int) -> None:
    path = written(tmp_path, "BTCUSDT-1h.csv", *[KLINES] * names, *(kline(number, unit=unit) for number in range(3)))

    reading = read(path)

    assert (reading.shape, reading.kind, reading.symbol) == ("binance", "candles", "BTCUSDT")
    assert_is_bars(reading)


@pytest.mark.parametrize("packed", ["zip", "gz", "bz2", "xz"])
def test_packed_dumps_are_read_by_their_bytes_whatever_they_are_called(tmp_path: Path, packed: str) -> None:
    text = "\n".join(kline(number) for number in range(3)).encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("BTCUSDT-1h-2024-01.csv", text)
    content = {"zip": stream.getvalue(), "gz": gzip.compress(text), "bz2": bz2.compress(text), "xz": lzma.compress(text)}
    path = tmp_path / "BTCUSDT-dump"
    path.write_bytes(content[packed])

    assert_is_bars(read(path))


def test_a_dump_that_changes_from_ms_to_us_keeps_its_hours_and_says_so(tmp_path: Path) -> None:
    path = written(tmp_path, "spot.csv", kline(0), kline(1), kline(2, unit=1_000_000))
    lines = path.read_text("utf-8").splitlines()
    first, rest = lines[2].split(",", 1)
    closes = rest.split(",")
    closes[5] = str(int(closes[5]) // 1_000)  # the closing time is left in ms, so that its distance stays what it was to the sample
    path = written(tmp_path, "mixed.csv", KLINES, *lines[:2], ",".join([first, *closes]))

    reading = read(path)

    assert_is_bars(reading)
    assert "times count ms from row 0, then us from row 2" in reading.notes


def test_mark_klines_are_told_by_the_name_or_by_volumes_of_zero(tmp_path: Path) -> None:
    lines = [KLINES, *(kline(number, volume=False) for number in range(3))]

    assert read(written(tmp_path, "BTCUSDT-1h-2024-01.csv", *lines)).kind == "mark"
    assert read(written(tmp_path, "BTCUSDT-markPriceKlines-1h.csv", KLINES, kline(0), kline(1))).kind == "mark"
    assert read(written(tmp_path, "BTCUSDT-indexPriceKlines-1h.csv", *lines)).kind == "index"
    assert read(written(tmp_path, "BTCUSDT-premiumIndexKlines-1h.csv", *lines)).kind == "premium"


@pytest.mark.parametrize("names", [True, False])
def test_binance_funding_is_read_with_and_without_names(tmp_path: Path, names: bool) -> None:
    lines = [f"{T0 * 1_000 + 3},8,0.0001", f"{(T0 + 8 * HOUR) * 1_000},8,-0.00025"]
    path = written(tmp_path, "BTCUSDT-fundingRate-2024-01.csv", *["calc_time,funding_interval_hours,last_funding_rate"] * names, *lines)

    reading = read(path)

    assert (reading.shape, reading.kind) == ("binance", "funding")
    assert reading.micros.tolist() == [T0 * 10**6 + 3_000, (T0 + 8 * HOUR) * 10**6]
    assert reading.columns["rate"].tolist() == [0.0001, -0.00025]


# -- bybit -----------------------------------------------------------------------------------------------------------


def test_bybit_rows_come_newest_first_and_are_turned_round_with_a_note(tmp_path: Path) -> None:
    rows = [f"{(T0 + HOUR * number) * 1_000},{','.join(map(str, bar))},1" for number, bar in reversed(list(enumerate(BARS)))]
    named = written(tmp_path, "BTCUSDT.csv", "startTime,openPrice,highPrice,lowPrice,closePrice,volume,turnover", *rows)
    bare = written(tmp_path, "BTCUSDT-bare.csv", *rows)
    envelope = {"retCode": 0, "result": {"symbol": "BTCUSDT", "list": [line.split(",") for line in rows]}}

    for source in (named, bare, envelope):
        reading = read(source)
        assert reading.shape == "bybit"
        assert_is_bars(reading)
        assert "the newest row came first: turned round" in reading.notes
        assert reading.rows.tolist() == [2, 1, 0]


def test_bybit_funding_index_and_metatrader_candles_are_read(tmp_path: Path) -> None:
    funding = written(tmp_path, "f.csv", "symbol,fundingRate,fundingRateTimestamp", f"BTCUSDT,0.0001,{T0 * 1_000}")
    index = written(tmp_path, "spot_index.csv", "start_at,symbol,period,open,high,low,close", f"{T0},BTCUSD,1,100,102,99,101")
    candles = written(
        tmp_path,
        "BTCUSDT_60.csv",
        *(f"2024.01.01 {number:02d}:00,{','.join(map(str, bar))}" for number, bar in enumerate(BARS)),
    )
    apart = written(tmp_path, "two.csv", *(f"2024.01.01,{number:02d}:00,{','.join(map(str, bar))}" for number, bar in enumerate(BARS)))

    assert (read(funding).shape, read(funding).symbol, read(funding).columns["rate"].tolist()) == ("bybit", "BTCUSDT", [0.0001])
    assert (read(index).shape, read(index).kind, read(index).symbol) == ("bybit", "index", "BTCUSD")
    for path in (candles, apart):
        assert read(path).shape == "bybit"
        assert_is_bars(read(path))


# -- okx -------------------------------------------------------------------------------------------------------------

OKX = "instrument_name,open,high,low,close,vol,vol_ccy,vol_quote,open_time,confirm"


def okx(number: int, confirm: int = 1, name: str = "BTC-USDT-SWAP") -> str:
    opened, high, low, close, volume = BARS[number]
    return f"{name},{opened},{high},{low},{close},{volume},0,0,{(T0 + HOUR * number) * 1_000},{confirm}"


def test_okx_candles_are_read_and_a_running_bar_is_left_out_with_a_note(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "dump.csv",
        OKX,
        *(okx(number) for number in range(3)),
        okx(2, confirm=0).replace(str((T0 + 7200) * 1_000), str((T0 + 10800) * 1_000)),
    )

    reading = read(path)

    assert (reading.shape, reading.symbol) == ("okx", "BTCUSDT")
    assert_is_bars(reading)
    assert any("left out as unfinished when written (confirm 0): 1 bars" in note for note in reading.notes)


def test_okx_funding_takes_the_rate_that_was_settled(tmp_path: Path) -> None:
    path = written(tmp_path, "f.csv", "instId,fundingRate,realizedRate,fundingTime", f"BTC-USDT-SWAP,0.0009,0.0001,{T0 * 1_000}")
    bilingual = written(
        tmp_path, "g.csv", "instrument_name/交易对,funding_rate/资金费率,funding_time/时间", f"BTC-USDT-SWAP,0.0002,{T0 * 1_000}"
    )

    assert read(path).columns["rate"].tolist() == [0.0001]
    assert (read(bilingual).shape, read(bilingual).columns["rate"].tolist()) == ("okx", [0.0002])


def test_several_instruments_of_one_file_are_told_apart_and_one_must_be_named(tmp_path: Path) -> None:
    path = written(tmp_path, "allswap.csv", OKX, okx(0), okx(0, name="ETH-USDT-SWAP"), okx(1), okx(1, name="ETH-USDT-SWAP"))

    assert [reading.symbol for reading in read_all(path)] == ["BTCUSDT", "ETHUSDT"]
    assert len(read(path, where={"instrument_name": "ETH-USDT-SWAP"}).micros) == 2
    with pytest.raises(
        ValueError, match=r"allswap\.csv holds 2 series, told apart by instrument_name; say where=\{'instrument_name': 'BTC-USDT-SWAP'\}"
    ):
        read(path)
    with pytest.raises(ValueError, match=r"has no instrument_name 'SOL', it has BTC-USDT-SWAP, ETH-USDT-SWAP"):
        read(path, where={"instrument_name": "SOL"})


# -- freqtrade -------------------------------------------------------------------------------------------------------


def freqtrade(folder: Path, name: str, **columns: list[float]) -> Path:
    dates = pd.date_range("2024-01-01", periods=3, freq="h", tz="UTC").as_unit("ms")
    path = folder / name
    pd.DataFrame({"date": dates, **columns}).to_feather(path)
    return path


def test_freqtrade_candles_marks_and_funding_with_the_rate_in_open_are_read(tmp_path: Path) -> None:
    prices = {name: [bar[place] for bar in BARS] for place, name in enumerate((*PRICES, "volume"))}
    zeros = {name: [0.0, 0.0, 0.0] for name in (*PRICES[1:], "volume")}

    candles = read(freqtrade(tmp_path, "BTC_USDT_USDT-1h-futures.feather", **prices))
    mark = read(freqtrade(tmp_path, "BTC_USDT_USDT-1h-mark.feather", **prices))
    funding = read(freqtrade(tmp_path, "BTC_USDT_USDT-8h-funding_rate.feather", open=[0.0001, -0.0001, 0.0], **zeros))

    assert (candles.shape, candles.kind, candles.symbol) == ("freqtrade", "candles", "BTCUSDT")
    assert_is_bars(candles)
    assert mark.kind == "mark"
    assert (funding.shape, funding.kind, funding.columns["rate"].tolist()) == ("freqtrade", "funding", [0.0001, -0.0001, 0.0])
    assert any("rates stand in open" in note for note in funding.notes)


# -- plain -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_plain_csv_is_read_by_its_names_whatever_stands_between(tmp_path: Path, mark: str) -> None:
    lines = [f"2024-01-01T{number:02d}:00:00Z,{','.join(map(str, bar))}".replace(",", mark) for number, bar in enumerate(BARS)]
    path = written(tmp_path, "c.csv", "# a remark", "Date,Open,High,Low,Close,Volume".replace(",", mark), *lines)

    reading = read(path)

    assert (reading.shape, reading.kind) == ("plain", "candles")
    assert_is_bars(reading)
    assert "left out above the names: 1 lines" in reading.notes


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("pyarrow")
    pd.DataFrame({"close": [1.0]}).to_parquet(tmp_path / "candles.parquet")
    monkeypatch.setattr(pd, "read_parquet", lambda _: (_ for _ in ()).throw(ImportError("Missing optional dependency 'pyarrow'.")))
    with pytest.raises(ValueError, match=r"^candles.parquet needs pyarrow to be read: run pip install pyarrow, or write a CSV$"):
        read(tmp_path / "candles.parquet")


@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Shanghai"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parquet_is_read_by_its_index_of_any_unit_and_zone(tmp_path: Path, unit: str, zone: str | None) -> None:
    index = pd.date_range("2024-01-01", periods=3, freq="h", tz="UTC").as_unit(unit)
    index = index.tz_localize(None) if zone is None else index.tz_convert(zone)
    path = tmp_path / "BTCUSDT.parquet"
    pd.DataFrame([bar[:4] for bar in BARS], index=index, columns=PRICES).to_parquet(path)

    assert_is_bars(read(path), volume=False)
    assert read(path).has_zone is (zone is not None)


def test_candles_with_marks_and_rates_beside_them_are_one_reading(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "w.csv",
        "datetime,open,high,low,close,volume,mark_open,mark_high,mark_low,mark_close,funding_rate",
        "2024-01-01T00:00:00Z,100,102,99,101,5,100,101,99.5,101,0.0001",
        "2024-01-01T01:00:00Z,101,103,100,102,5,101,102,100.5,102,",
    )

    reading = read(path)

    assert reading.kind == "joint"
    np.testing.assert_array_equal(reading.columns["rate"], [0.0001, np.nan])
    assert reading.frame.index[0] == pd.Timestamp("2024-01-01", tz="UTC")
    assert reading.frame.loc["2024-01-01 01:00", "mark_low"] == 100.5


def test_the_symbol_is_the_one_that_the_name_of_a_file_says() -> None:
    names = [
        "binance-BTCUSDT-1h-mark.parquet",
        "BTC_USDT_USDT-8h-funding_rate.feather",
        "ETH-USDT-SWAP-fundingrates-2023-08.csv",
        "candles.csv",
    ]

    assert [symbol_of(name) for name in names] == ["BTCUSDT", "BTCUSDT", "ETHUSDT", ""]


# -- what is refused -------------------------------------------------------------------------------------------------


def test_rows_that_could_be_of_two_venues_are_refused_until_one_is_said(tmp_path: Path) -> None:
    path = written(
        tmp_path, "x.csv", *(f"{(T0 + HOUR * number) * 1_000},{','.join(map(str, bar[:4]))},1" for number, bar in enumerate(BARS))
    )

    with pytest.raises(
        ValueError, match=r"x\.csv has no line of names and rows of 6 columns, which may be ccxt \(.*\) or okx \(.*confirm\); say which"
    ):
        read(path)
    assert "volume" in read(path, shape="ccxt").columns
    assert "volume" not in read(path, shape="okx").columns


GOOD = "datetime,open,high,low,close\n2024-01-01T00:00:00Z,100,102,99,101\n"
ZIP_OF_TWO = io.BytesIO()
with zipfile.ZipFile(ZIP_OF_TWO, "w") as two:
    two.writestr("a.csv", GOOD)
    two.writestr("b.csv", GOOD)
WORKBOOK = io.BytesIO()
with zipfile.ZipFile(WORKBOOK, "w") as workbook:
    workbook.writestr("[Content_Types].xml", "<Types/>")
    workbook.writestr("xl/workbook.xml", "<workbook/>")
BROKEN: dict[str, tuple[bytes | str, str]] = {
    "empty": (b"", "is empty"),
    "blank": (b"\n\n  \n", "is empty"),
    "names alone": ("datetime,open,high,low,close\n", "has no rows"),
    "remarks alone": ("# one\n# two\n", "has no rows, only remarks"),
    "a price is missing": ("datetime,open,high,close\n2024-01-01,1,2,1\n", "lacks low"),
    "neither candle nor rate": ("datetime,bid,ask\n2024-01-01,1,2\n", "has neither candles"),
    "no time": ("open,high,low,close\n1,2,1,2\n", "no column of times"),
    "names twice": ("datetime,open,open,high,low,close\n2024-01-01,1,1,2,1,2\n", "name open twice"),
    "an unread time": (GOOD + "01/02/2024,1,2,1,2\n", "row 1: the time must be ISO 8601"),
    "a blank time": (GOOD + ",1,2,1,2\n", "row 1 has no time"),
    "a word for a price": (GOOD + "2024-01-01T01:00:00Z,1,two,1,2\n", "row 1: high must be a number, was 'two'"),
    "a comma for a point": ("datetime;open;high;low;close\n2024-01-01;1,5;2,5;1,5;2,5\n", "decimal point"),
    "names in the midst": (GOOD + GOOD, "row 1: the time must be"),
    "too many fields": (GOOD + "2024-01-01T01:00:00Z,1,2,1,2,3,4\n", "cannot be read"),
    "too many fields everywhere": ("datetime,open,high,low,close\n2024-01-01,1,2,1,2,3\n", "fields in a row"),
    "an open quote": (GOOD + '"2024-01-01T01:00:00Z,1,2,1,2\n', "cannot be read"),
    "zero bytes": (GOOD.encode() + b"\x00" * 40, "zero bytes"),
    "another encoding": (GOOD.encode("utf-16"), "UTF-8|zero bytes"),
    "latin text": ("datetime,open,high,low,close,größe\n".encode("latin-1") + b"2024-01-01,1,2,1,2,3\n", "no UTF-8 text"),
    "html": ("<!DOCTYPE html><html><body>Not found</body></html>\n", "no column of times|has no rows"),
    "half a parquet": (b"PAR1" + b"\x00" * 100, "cannot be read"),
    "half a feather": (b"ARROW1\x00\x00" + b"\x00" * 50, "cannot be read"),
    "half a zip": (b"PK\x03\x04" + b"\x00" * 30, "cannot be read"),
    "a zip of two": (ZIP_OF_TWO.getvalue(), "holds 2 files"),
    "half a gzip": (gzip.compress(GOOD.encode() * 50)[:40], "cannot be read"),
    "a workbook": (WORKBOOK.getvalue(), "a workbook of a spreadsheet, save its sheet as CSV"),
    "a number beyond floats": (f"[[{10**400},1,2,1,2,3]]", "cannot be read"),
    "a zone that is lost": (GOOD + "2024-01-01T01:00:00,1,2,1,2\n", "row 1: .* has no zone, and those before it have one"),
    "a zone that comes late": (GOOD.replace("Z", "") + "2024-01-01T01:00+01:00,1,2,1,2\n", "row 1: .* has a zone, and those before it"),
    "zstd": (b"\x28\xb5\x2f\xfd" + b"\x00" * 20, "packed by zstd"),
    "half a json": ("[[1704067200000, 1, 2", "cannot be read"),
    "json of rows of all lengths": ("[[1704067200000,1,2,1,2,3],[1704070800000,1]]", "rows of several kinds or lengths"),
    "json of words": ('["a", "b"]', "rows of several kinds"),
    "json of tiers": ('{"source": "x", "tiers": []}', "neither candles nor funding|has no rows"),
    "deep json": ("[" * 100_000, "cannot be read"),
    "rows of no shape": ("1704067200000,5,2,9,1,3\n1704070800000,5,2,9,1,3\n", "no known rows"),
    "seconds since never": ("datetime,open,high,low,close\n12,1,2,1,2\n", "row 0: the time must be"),
    "only running bars": (OKX + "\n" + okx(0, confirm=0) + "\n", "only bars that were not finished"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    content, word = BROKEN[name]
    path = tmp_path / "broken.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(ValueError, match=word) as caught:
        read(path)

    assert str(caught.value).startswith("broken.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "index",
    [
        pd.date_range("2024-01-01", periods=3, freq="h", tz="UTC").astype(str).rename("datetime"),
        pd.Index([T0 * 1_000, (T0 + HOUR) * 1_000, (T0 + 2 * HOUR) * 1_000], name="timestamp"),
        pd.period_range("2024-01-01", periods=3, freq="h", name="time"),
        pd.MultiIndex.from_product([["BTCUSDT"], pd.date_range("2024-01-01", periods=3, freq="h", tz="UTC")], names=["symbol", "date"]),
    ],
    ids=["text", "numbers", "periods", "symbol and time"],
)
def test_an_index_of_any_kind_is_read_where_it_is_called_as_times_are(index: pd.Index) -> None:
    frame = pd.DataFrame({price: [float(number + 100)] * 3 for number, price in enumerate(("open", "high", "low", "close"))}, index=index)

    reading = read(frame)

    assert reading.micros.tolist() == [1_704_067_200_000_000 + 3_600_000_000 * number for number in range(3)]
    with pytest.raises(ValueError, match="no column of times"):
        read(frame.set_axis(range(3)))


def test_a_csv_as_spreadsheets_save_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "saved.csv"
    path.write_bytes(b"\xef\xbb\xbfsep=;\r\n" + GOOD.replace(",", ";").replace("\n", "\r\n").encode())

    reading = read(path)

    assert {name: values.tolist() for name, values in reading.columns.items()} == {
        "open": [100.0],
        "high": [102.0],
        "low": [99.0],
        "close": [101.0],
    }
    assert "left out above the names: 1 lines" in reading.notes


def test_columns_that_are_not_read_are_named_and_rates_inside_bars_are_refused() -> None:
    frame = pd.DataFrame({"date": ["2024-01-01"], **{name: [1.0] for name in (*PRICES, "signal")}})

    assert read(frame).notes[0] == "taken for plain: columns date, open, high, low, close; left out signal"
    with pytest.raises(ValueError, match=r"has rates inside its bars \(funding_rate\+1h\), as resample makes them"):
        read(frame.assign(**{"funding_rate+1h": 0.0001}))


def test_sources_that_are_no_data_are_refused(tmp_path: Path) -> None:
    for source, word in (
        (tmp_path, "is a folder"),
        (tmp_path / "none.csv", "does not exist"),
        ("https://host/x.csv", "is an address"),
        (5, "must be a path"),
        ([], "has no rows"),
        ({"open": [1.0], "close": [1.0, 2.0]}, "arrays of one length"),
    ):
        with pytest.raises(ValueError, match=word):
            read(source)
    with pytest.raises(ValueError, match="shape is one of ccxt, binance"):
        read(CCXT, shape="kraken")
    with pytest.raises(ValueError, match=re.escape("which are of plain or freqtrade, not okx")):
        read(pd.DataFrame({"date": ["2024-01-01"], **{name: [1.0] for name in (*PRICES, "volume")}}), shape="okx")
