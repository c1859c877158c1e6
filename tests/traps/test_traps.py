"""Traps that no other file holds; the page beside this one has them all."""

import re
from datetime import datetime
from pathlib import Path

import backtrader as bt
import pandas as pd
import pytest

import bt_margin as bm
from bt_margin.quality import check, examine
from bt_margin.shapes import read

ROOT = Path(__file__).parents[2]


class Opener(bt.Strategy):
    params = (("size", 1.0), ("at", None))

    def next(self):
        if not self.position and self.data.datetime.datetime(0) >= self.p.at:
            self.buy(size=self.p.size) if self.p.size > 0 else self.sell(size=-self.p.size)


def bars(*, last: tuple[float, float] = (99.0, 101.0), mark: tuple[float, float] = (99.0, 101.0)) -> pd.DataFrame:
    """Return 24 hours at 100, in whose thirteenth last and mark reach as far as is said."""
    index = pd.date_range("2024-01-01", periods=24, freq="h", tz="UTC", name="datetime")
    frame = pd.DataFrame(100.0, index, [f"{kind}{price}" for kind in ("", "mark_") for price in ("open", "high", "low", "close")])
    frame.loc[index[12], ["low", "high"]] = last
    frame.loc[index[12], ["mark_low", "mark_high"]] = mark
    return frame.assign(volume=1.0)


def liquidations(frame: pd.DataFrame, size: float) -> int:
    """Return how often 10x isolated is liquidated: by a mark about 9.5 % off its entry of 100."""
    (feed,) = bm.load(frame, symbol="X", missing_mark="last", missing_funding="zero").values()
    params = {"size": size, "at": datetime(2024, 1, 1, 2)}
    return len(bm.run(Opener, data={"X": feed}, venue=None, leverage=10, margin_mode="isolated", cash=1_000.0, params=params).liquidations)


def test_the_oldest_host_and_libraries_are_those_that_were_tested() -> None:
    needed = dict(re.findall(r"^ {4}(\w+) >= ([\d.]+)$", (ROOT / "setup.cfg").read_text("utf-8"), re.M))

    assert needed["backtrader"] == "1.9.78.123"
    assert {name: needed[name] for name in ("matplotlib", "numpy", "pandas", "pyarrow")} == {
        "matplotlib": "3.8",
        "numpy": "1.26",
        "pandas": "2.2",
        "pyarrow": "15",
    }


@pytest.mark.parametrize("size", [1.0, -1.0])
def test_a_bar_beyond_both_barriers_spares_both_sides_that_have_their_mark(size: float) -> None:
    wick = bars(last=(80.0, 120.0))

    assert liquidations(wick, size) == 0
    assert liquidations(wick.drop(columns=[name for name in wick if name.startswith("mark_")]), size) == 1


def test_a_mark_below_the_chart_liquidates() -> None:
    assert liquidations(bars(mark=(90.0, 101.0)), 1.0) == 1  # last never goes below 99
    assert liquidations(bars(mark=(90.0, 101.0)), -1.0) == 0


def test_a_bar_of_43_percent_is_no_fault() -> None:
    assert check(read(bars(last=(80.0, 80.0 * 1.43)).filter(regex="^(?!mark)"))) == []


# -- the record ------------------------------------------------------------------------------------------------------


def window(reference: Path, name: str) -> Path:
    return reference / "data" / "windows" / name


def rate_at(feed: bm.PerpData, moment: str) -> float:
    schedule = feed.perp.funding
    return schedule.rates[schedule.stamps.index(pd.Timestamp(moment, tz="UTC").timestamp())]


def test_the_crash_of_march_2020_and_its_rates_are_loaded_as_recorded(reference: Path) -> None:
    path = window(reference, "2020-03-12_covid") / "binance-BTCUSDT-1h-futures_mark_funding.csv"
    series = reference / "data" / "series"

    (feed,) = bm.load(path, start="2020-03-12", end="2020-03-13").values()
    (years,) = bm.load(
        series / "binance-BTCUSDT-1h-futures.parquet",
        funding=series / "binance-BTCUSDT-funding.parquet",
        missing_mark="last",
        end="2020-03-31",
        missing_funding="zero",
    ).values()

    assert (max(feed.columns()["high"]), min(feed.columns()["low"])) == (7969.0, 3621.81)
    assert min(feed.perp.mark_low) == pytest.approx(3801.83, abs=0.005)
    assert (rate_at(feed, "2020-03-13 08:00"), rate_at(years, "2020-02-12")) == (-0.003, 0.003)


@pytest.mark.parametrize("symbol", ["LTCUSDT", "ADAUSDT"])
def test_the_wild_rates_of_may_2021_are_loaded_as_recorded(reference: Path, symbol: str) -> None:
    (feed,) = bm.load(window(reference, "2021-05-19") / f"binance-{symbol}-1h-futures_mark_funding.csv").values()

    assert rate_at(feed, "2021-05-19 16:00") == -0.004875


def test_the_fall_of_sol_is_loaded_as_recorded(reference: Path) -> None:
    folder = window(reference, "2022-11_ftx")
    files = folder / "okx-SOLUSDT-5m-futures.csv", folder / "okx-SOLUSDT-1h-mark.csv"

    (feed,) = bm.load(files[0], mark=files[1], missing_funding="zero").values()
    columns = feed.columns()
    ranges = [high / low - 1 for high, low in zip(columns["high"], columns["low"], strict=True)]

    assert max(ranges) == pytest.approx(0.432, abs=0.001)
    assert feed.perp.stamps[ranges.index(max(ranges))] == pd.Timestamp("2022-11-09 18:50", tz="UTC").timestamp()  # its close
    assert min(columns["low"]) / columns["open"][0] - 1 == pytest.approx(-0.71, abs=0.005)
    assert "mark of 1 h on bars of 5 min, fine mark is fine last clipped to the bar's mark" in feed.perp.flags
    assert {finding.severity for report in examine(files) for finding in report.findings} <= {"note"}
