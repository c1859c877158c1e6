"""Each trap of market data is found where it is planted, and nothing is found where there is none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bt_margin.quality import Finding, check, check_pair, examine, repaired, runs_of, worst_of
from bt_margin.shapes import Reading, read

PRICES = ("open", "high", "low", "close")


def candles(rows: int = 60, every: str = "1h", start: str = "2024-01-01", seed: int = 7) -> pd.DataFrame:
    """Return candles of a seeded walk, each bar opening where the one before it closed."""
    rng = np.random.default_rng(seed)
    closes = np.round(100 * np.exp(np.cumsum(rng.normal(0, 0.01, rows))), 2)
    opens = np.concatenate(([100.0], closes[:-1]))
    index = pd.date_range(start, periods=rows, freq=every, tz="UTC", name="datetime")
    high, low = np.maximum(opens, closes) + 0.5, np.minimum(opens, closes) - 0.5
    return pd.DataFrame({"open": opens, "high": high, "low": low, "close": closes, "volume": rng.integers(1, 9, rows) * 1.0}, index=index)


def funding(rows: int = 30, every: str = "8h", start: str = "2024-01-01", seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    index = pd.date_range(start, periods=rows, freq=every, tz="UTC", name="datetime")
    return pd.DataFrame({"rate": rng.normal(0.0001, 0.0001, rows)}, index=index)


def found_in(source: Any, title: str = "data") -> dict[str, Finding]:
    return {finding.check: finding for finding in check(read(source, title=title))}


def test_clean_data_has_no_findings() -> None:
    assert check(read(candles())) == []
    assert check(read(funding())) == []
    assert worst_of([]) == "clean"


# -- rows ------------------------------------------------------------------------------------------------------------


def test_missing_bars_are_a_gap_that_says_where_and_how_many() -> None:
    found = found_in(candles().drop(candles().index[[10, 11, 30]]))

    assert set(found) == {"gap"}
    assert (found["gap"].severity, found["gap"].count) == ("warning", 3)
    assert found["gap"].message == "3 bars of 1 h missing in 2 places: 2024-01-01 10:00 (2), 2024-01-02 06:00 (1)"


def test_a_row_that_is_repeated_and_one_that_contradicts_are_told_apart() -> None:
    frame = candles()
    repeated = frame.iloc[[5]]
    other = frame.iloc[[6]].assign(close=lambda bar: bar["close"] + 0.1)

    found = found_in(pd.concat([frame.iloc[:7], repeated, other, frame.iloc[7:]]))

    assert (found["duplicate"].count, found["duplicate"].severity) == (1, "warning")
    assert (found["conflict"].count, found["conflict"].severity) == (1, "error")


def test_rows_out_of_order_are_an_error_and_pages_that_overlap_are_not() -> None:
    frame = candles()

    assert found_in(frame.iloc[[*range(30), 31, 30, *range(32, 60)]])["disorder"].severity == "error"
    assert set(found_in(pd.concat([frame.iloc[:30], frame.iloc[25:]]))) == {"duplicate"}


def test_the_newest_row_first_is_no_fault() -> None:
    assert check(read(candles().iloc[::-1])) == []


@pytest.mark.parametrize(
    ("column", "value"), [("high", 1.0), ("low", 1_000.0), ("close", float("nan")), ("open", -5.0), ("low", 0.0), ("volume", -1.0)]
)
def test_a_bar_that_cannot_be_is_an_error_that_names_its_row(column: str, value: float) -> None:
    frame = candles()
    frame.iloc[20, frame.columns.get_loc(column)] = value

    found = found_in(frame)["impossible"]

    assert (found.severity, found.count) == ("error", 1)
    assert "2024-01-01 20:00" in found.message


def test_stamps_off_the_grid_are_an_error() -> None:
    frame = candles()
    frame.index = frame.index[:30].append(frame.index[30:] + pd.Timedelta("20min"))

    assert found_in(frame)["off_grid"].severity == "error"


def test_jitter_is_told_of_candles_as_a_warning_and_of_funding_as_a_note() -> None:
    bars, rates = candles(), funding()
    bars.index = bars.index.as_unit("ms") + pd.to_timedelta([3, 0, 0] * 20, unit="ms")
    rates.index = rates.index.as_unit("ms") + pd.to_timedelta([0, 1_000, 7] * 10, unit="ms")

    assert (found_in(bars)["jitter"].severity, found_in(bars)["jitter"].count) == ("warning", 20)
    assert (found_in(rates)["jitter"].severity, set(found_in(rates))) == ("note", {"jitter"})
    assert "up to 1000 ms" in found_in(rates)["jitter"].message


def test_closing_times_of_candles_are_told() -> None:
    bars = candles()
    bars.index = bars.index.as_unit("ms") + pd.Timedelta("59min 59.999s")

    assert set(found_in(bars)) == {"close_stamped"}


@pytest.mark.parametrize(("every", "start"), [("4h", "2024-01-01 01:00"), ("1D", "2024-01-01 16:00")])
def test_candles_in_local_time_are_an_error_and_with_a_zone_a_note(every: str, start: str) -> None:
    bars = candles(every=every, start=start)

    assert found_in(bars.tz_localize(None))["local_time"].severity == "error"
    assert found_in(bars)["off_midnight"].severity == "note"  # OKX's days begin at 16:00 UTC


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Europe/London", "America/New_York"])
@pytest.mark.parametrize("start", ["2024-03-08", "2024-03-29", "2024-10-25", "2024-11-01"])
@pytest.mark.parametrize("every", ["1min", "15min", "1h", "8h"])
def test_clocks_that_are_changed_give_local_time_away(zone: str, start: str, every: str) -> None:
    rows = {"1min": 4 * 1_440, "15min": 4 * 96, "1h": 96, "8h": 30}[every]
    series = funding(rows, every, start) if every == "8h" else candles(rows, every, start)
    local = series.tz_convert(zone)
    is_changed = len({stamp.utcoffset() for stamp in local.index}) > 1

    found = found_in(local.tz_localize(None))

    assert is_changed == ("local_time" in found and "clocks are changed" in found["local_time"].message) or every == "8h"
    assert not is_changed or found["local_time"].severity == "error"
    assert "local_time" not in found_in(local)  # the zone is beside the stamps
    assert "local_time" not in found_in(series.tz_localize(None))


def test_an_hour_that_is_missing_on_another_day_is_a_gap_alone() -> None:
    frame = candles(96, start="2024-03-23").tz_localize(None)

    assert [finding.check for finding in check(read(frame.drop(frame.index[26])))] == ["gap"]  # Sunday, a week early, 02:00


def test_a_file_of_one_candle_is_an_error_and_of_one_settlement_is_none() -> None:
    assert found_in(candles(1))["alone"].severity == "error"
    assert check(read(funding(1))) == []


def test_settlements_in_local_time_are_found_over_the_change_of_clocks() -> None:
    local = funding(200, start="2024-01-01").tz_convert("Europe/Berlin").tz_localize(None)  # 01:00, 09:00, 17:00 and from April 02:00 ...

    assert found_in(local.iloc[:80])["local_time"].severity == "error"
    assert found_in(pd.concat([local.iloc[:80], local.iloc[-8:]]))["local_time"].severity == "error"


def test_bars_without_volume_are_told_and_are_a_warning_where_they_are_many() -> None:
    some, many = candles(), candles()
    some.iloc[10:13, 4] = 0.0
    many.iloc[10:30, 4] = 0.0

    assert found_in(some)["zero_volume"].message == "3 bars without volume, in 1 run, the longest 3 from 2024-01-01 10:00"
    assert (found_in(some)["zero_volume"].severity, found_in(many)["zero_volume"].severity) == ("note", "warning")


def test_runs_are_found_by_their_first_place_and_length() -> None:
    assert runs_of(np.array([True, False, True, True])) == [(0, 1), (2, 2)]
    assert runs_of(np.array([], dtype=bool)) == []


# -- funding ---------------------------------------------------------------------------------------------------------


def test_funding_in_local_time_is_an_error_and_bitmex_hours_are_not() -> None:
    assert found_in(funding(start="2024-01-01 03:00").tz_localize(None))["local_time"].severity == "error"
    assert check(read(funding(start="2024-01-01 04:00").tz_localize(None))) == []


def test_rates_in_percent_are_an_error_and_wild_ones_are_not() -> None:
    percent = funding() * 100
    squeeze = funding()
    squeeze.iloc[3, 0] = -0.02

    assert found_in(percent)["percent"].severity == "error"
    assert check(read(squeeze)) == []


def test_one_rate_above_what_venues_allow_is_told() -> None:
    rates = funding(300)
    rates.iloc[3, 0] = 0.05

    assert found_in(rates)["rate"].severity == "warning"


def test_missing_settlements_are_named() -> None:
    rates = funding()

    found = found_in(rates.drop(rates.index[[4, 5, 20]]))

    assert found["missing_funding"].message == "3 settlements missing: 2024-01-02 08:00, 2024-01-02 16:00, 2024-01-07 16:00"
    assert set(found) == {"missing_funding"}


def test_a_change_of_the_interval_is_a_note_and_no_hole() -> None:
    rates = pd.concat([funding(9), funding(9, "1h", "2024-01-04"), funding(9, "4h", "2024-01-04 12:00")])

    found = found_in(rates)

    told = found["interval_change"]
    assert told.message.startswith("the interval of settlements changes: 8 h to 1 h at 2024-01-04 00:00")
    assert set(found) == {"interval_change"}


def test_settlements_off_the_hour_are_told() -> None:
    rates = funding()
    rates.index = rates.index[:5].append(rates.index[5:6] + pd.Timedelta("17min")).append(rates.index[6:])

    assert (found_in(rates)["off_interval"].severity, found_in(rates)["off_interval"].count) == ("warning", 1)


def test_a_rate_filled_forward_to_every_bar_is_an_error() -> None:
    bars, rates = candles(72), funding(9)
    filled = bars.assign(funding_rate=rates["rate"].reindex(bars.index).ffill())
    sparse = bars.assign(funding_rate=rates["rate"].reindex(bars.index))

    assert "it would be charged 8 times" in found_in(filled)["filled"].message
    assert found_in(filled)["filled"].severity == "error"
    assert check(read(sparse)) == []


# -- marks -----------------------------------------------------------------------------------------------------------


def with_marks(frame: pd.DataFrame, factor: float = 1.0001) -> pd.DataFrame:
    return frame.assign(**{f"mark_{price}": frame[price] * factor for price in PRICES})


def test_a_mark_far_from_last_is_a_note_that_names_the_bar_and_both_prices() -> None:
    frame = with_marks(candles())
    frame.iloc[20, frame.columns.get_loc("low")] = 50.0

    found = found_in(frame)["divergence"]

    mark = frame["mark_low"].iloc[20]
    assert (found.severity, found.count) == ("note", 1)
    assert f"2024-01-01 20:00 low 50, mark {mark:g}" in found.message
    assert found.times == (frame.index[20].value // 1_000,)


def test_a_mark_that_goes_further_than_last_is_a_note() -> None:
    frame = with_marks(candles())
    frame.iloc[20, frame.columns.get_loc("mark_low")] *= 0.99

    assert found_in(frame)["mark_beyond"].count == 1


@pytest.mark.parametrize("factor", [0.001, 1_000.0, 1.4])
def test_a_mark_of_another_unit_or_symbol_is_an_error(factor: float) -> None:
    assert found_in(with_marks(candles(), factor))["foreign_mark"].severity == "error"


@pytest.mark.parametrize("shift", [1, -1])
def test_marks_of_the_bar_beside_are_an_error(shift: int) -> None:
    frame = with_marks(candles(200))
    marks = [f"mark_{price}" for price in PRICES]
    frame[marks] = frame[marks].shift(shift).bfill().ffill()

    assert found_in(frame)["shifted_mark"].severity == "error"


def test_a_mark_that_stands_still_while_last_moves_is_a_warning() -> None:
    frame = with_marks(candles())
    marks = [f"mark_{price}" for price in PRICES]
    frame.iloc[20:24, [frame.columns.get_loc(name) for name in marks]] = frame["mark_close"].iloc[19]

    assert (found_in(frame)["stale_mark"].severity, found_in(frame)["stale_mark"].count) == ("warning", 4)


def test_bars_without_a_mark_are_a_warning_and_not_impossible() -> None:
    frame = with_marks(candles())
    frame.iloc[:5, 5:] = np.nan

    assert {name: finding.severity for name, finding in found_in(frame).items()} == {"no_mark": "warning"}


def test_fine_candles_are_held_against_coarse_marks() -> None:
    fine = candles(240, "5min")
    coarse = fine.resample("1h").agg({"open": "first", "high": "max", "low": "min", "close": "last"})
    coarse.iloc[3, 2] *= 0.8

    found = {finding.check for finding in check_pair(read(fine), read(coarse))}

    assert found == {"divergence", "mark_beyond"}


# -- files -----------------------------------------------------------------------------------------------------------


def test_files_of_one_symbol_are_held_together_by_their_names(tmp_path: Path) -> None:
    frame = candles()
    frame.to_csv(tmp_path / "binance-BTCUSDT-1h-futures.csv")
    (frame.drop(columns="volume") * 0.5).to_csv(tmp_path / "binance-BTCUSDT-1h-mark.csv")
    (frame.drop(columns="volume") * 0.5).to_csv(tmp_path / "binance-ETHUSDT-1h-mark.csv")

    reports = examine(sorted(tmp_path.iterdir()))

    assert {report.name: [finding.check for finding in report.findings] for report in reports} == {
        "binance-BTCUSDT-1h-futures.csv": [],
        "binance-BTCUSDT-1h-mark.csv": ["foreign_mark"],
        "binance-ETHUSDT-1h-mark.csv": [],
    }


def test_a_file_that_cannot_be_read_is_a_finding_and_the_others_are_read(tmp_path: Path) -> None:
    candles().to_csv(tmp_path / "good.csv")
    (tmp_path / "bad.csv").write_text("", "utf-8")

    bad, good = examine([tmp_path / "bad.csv", tmp_path / "good.csv"])

    assert ([finding.check for finding in bad.findings], good.findings) == (["unreadable"], [])


# -- repairs ---------------------------------------------------------------------------------------------------------


def jittered(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.set_axis(frame.index.as_unit("ms") + pd.to_timedelta([3, *[0] * (len(frame) - 1)], unit="ms"))


def closing(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.set_axis(frame.index.as_unit("ms") + pd.Timedelta("59min 59.999s"))


@pytest.mark.parametrize(
    ("fault", "count"), [(jittered, 1), (closing, 60), (lambda frame: pd.concat([frame.iloc[:30], frame.iloc[25:]]), 5)]
)
def test_a_repair_undoes_the_fault_and_lists_every_change(fault: Callable[[pd.DataFrame], pd.DataFrame], count: int) -> None:
    clean = read(candles())

    mended, changes = repaired(read(fault(candles())))

    assert mended.micros.tolist() == clean.micros.tolist()
    assert all((mended.columns[name] == clean.columns[name]).all() for name in clean.columns)
    assert len(changes) == count
    assert check(mended) == []


def test_what_needs_judgement_is_not_repaired() -> None:
    frame = candles()
    other = frame.iloc[[6]].assign(close=lambda bar: bar["close"] + 0.1)
    reading = read(pd.concat([frame.iloc[:7], other, frame.iloc[7:]]))

    mended, changes = repaired(reading)

    assert changes == []
    assert mended.micros.tolist() == reading.micros.tolist()


# -- the reference data ----------------------------------------------------------------------------------------------


def reference_files(reference: Path) -> list[Path]:
    return sorted((reference / "data").glob("series/*.parquet")) + sorted((reference / "data").glob("windows/*/*.csv"))


def test_every_file_of_the_reference_data_is_read_and_has_nothing_worse_than_notes(reference: Path) -> None:
    worst: dict[str, str] = {}
    for path in reference_files(reference):
        reports = examine([path])
        assert all(isinstance(report.reading, Reading) for report in reports)
        worst[str(path)] = worst_of(finding for report in reports for finding in report.findings)

    assert len(worst) == 73
    assert {path: word for path, word in worst.items() if word not in ("clean", "note")} == {}


@pytest.mark.parametrize(
    ("window", "symbol", "check_name", "told"),
    [
        ("2021-05-19", "ETHUSDT", "divergence", "2021-05-19 13:00 low 1400.73, mark 1764.26"),
        ("2020-03-12_covid", "ETHUSDT", "divergence", "2020-03-13 02:00 high 323, mark 119.467"),
        ("2020-02-28_ada_wick", "ADAUSDT", "divergence", "2020-02-28 17:00 low 0.02286, mark 0.0476847"),
        ("2025-10-10", "LINKUSDT", "mark_beyond", "2025-10-10 21:00"),
    ],
)
def test_the_wicks_of_the_windows_are_named(reference: Path, window: str, symbol: str, check_name: str, told: str) -> None:
    (report,) = examine([reference / "data" / "windows" / window / f"binance-{symbol}-1h-futures_mark_funding.csv"])

    assert told in next(finding.message for finding in report.findings if finding.check == check_name)


def test_the_long_series_show_the_bad_print_and_where_marks_begin(reference: Path) -> None:
    series = reference / "data" / "series"

    _, mark = examine([series / "binance-BTCUSDT-1h-futures.parquet", series / "binance-BTCUSDT-1h-mark.parquet"])
    found = {finding.check: finding for finding in mark.findings}

    assert "2021-07-26 01:00 high 48168.6, mark 39744.8" in found["divergence"].message
    assert found["no_mark"].count == 58_623 - 56_084


def test_the_interval_changes_of_xtz_are_seen(reference: Path) -> None:
    (report,) = examine([reference / "data" / "series" / "binance-XTZUSDT-funding.parquet"])

    assert [finding.message for finding in report.findings] == [
        "the interval of settlements changes: 8 h to 1 h at 2025-07-20 08:00, 1 h to 4 h at 2025-07-22 12:00"
    ]
