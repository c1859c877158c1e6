"""The page on the made-up market says what its command measures, and that is near what was measured of BTCUSDT."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bypath import loaded

FOLDER = Path(__file__).parents[1] / "docs"
REAL, MADE = "perpetual, 2019-09 to 2026-05", "made up, median"


docs = loaded(FOLDER / "markets.py")


def columns() -> dict[str, dict[str, float]]:
    """Return the numbers of the page's table by column and row."""
    text = (FOLDER / "markets.md").read_text("utf-8")
    header, _, *lines = text.partition(docs.BEGIN)[2].partition(docs.END)[0].strip().splitlines()
    _, *names = [cell.strip() for cell in header.strip("|").split("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name: {row[0]: float(row[at]) for row in rows if row[at]} for at, name in enumerate(names, 1)}


PAGE = columns()


def same(figures: dict[str, float]) -> dict[str, float]:
    """Return figures as the page rounds them, within one unit of their last digit."""
    return {name: pytest.approx(float(docs.told(value)), rel=0.011, abs=0.0011) for name, value in figures.items()}


@pytest.fixture(scope="module")
def made():
    return docs.made_up()


def test_the_columns_of_the_made_up_market_are_what_the_command_measures(made):
    for name, figures in zip(docs.COLUMNS[-3:], docs.spread(made), strict=True):
        assert PAGE[name] == same(figures)


def test_the_column_of_the_shipped_series_is_what_the_command_measures():
    assert PAGE[docs.COLUMNS[2]] == same(docs.shipped())


def test_the_columns_of_the_perpetual_are_what_the_command_measures(reference):
    assert PAGE[REAL] == same(docs.perpetual(reference))
    assert PAGE[docs.COLUMNS[1]] == same(docs.perpetual(reference, "2023-01-01", "2025-12-31"))


@pytest.mark.parametrize(
    ("rows", "within"),  # every row with this in its name, as a share of what was measured
    [
        ("volatility a year", 0.25),
        ("from days", 0.25),
        ("size of a move", 0.35),
        ("mean wick / mean body", 0.10),
        ("median wick / median body", 0.20),
        ("wick, quantile", 0.35),
        ("autocorrelation of the size, 1 hours", 0.25),
        ("autocorrelation of the size, 6 hours", 0.25),
        ("autocorrelation of the size, 24 hours", 0.25),
        ("autocorrelation of the size, 168 hours", 0.25),
        ("mark from last at the close, mean", 0.25),
        ("mark from last, quantile 99", 0.25),
        ("last reached beyond mark", 0.5),
        ("funding, mean", 0.25),
        ("funding, standard deviation", 0.25),
        ("funding above zero", 0.05),
        ("funding, quantile 99 %", 0.25),
        ("autocorrelation of funding, 1 stamps", 0.15),
        ("autocorrelation of funding, 21 stamps", 0.30),
    ],
)
def test_the_made_up_market_resembles_the_real_one(rows, within):
    found = [name for name in PAGE[REAL] if rows in name]
    assert found
    for name in found:
        assert PAGE[MADE][name] == pytest.approx(PAGE[REAL][name], rel=within), name


def test_every_seed_has_fat_tails_clusters_and_no_trend_from_hour_to_hour(made):
    for figures in made:
        assert 8 < figures["excess kurtosis, hours"] < 60
        assert 2.4 < figures["excess kurtosis, days"] < 28
        assert -2.5 < figures["skew, days"] < 0
        assert abs(figures["autocorrelation of the move, 1 hour apart"]) < 0.03
        assert -45 < figures["worst day, %"] < -12
        assert -25 < figures["worst hour, %"] < -5


def test_wicks_marks_and_rates_of_a_few_candles_by_hand():
    candles = pd.DataFrame(
        {"open": [100.0, 100.0], "high": [102.0, 110.0], "low": [100.0, 99.0], "close": [100.0, 110.0], "mark_close": [100.01, 110.0]}
    )
    candles["mark_low"], candles["mark_high"] = [100.0, 99.99], candles["high"]
    figures = docs.wicks(candles) | docs.divergence(candles) | docs.funding_of(np.array([1e-4, -2e-4, 4e-4, 1e-4] * 40))
    assert figures["mean wick / mean body"] == pytest.approx((0.02 + 1 / 110) / 4 / (10 / 110 / 2))
    assert figures["wick, quantile 100 %, % of price"] == pytest.approx(2)
    assert figures["mark from last at the close, mean, bp"] == pytest.approx((1 + 0) / 2)
    assert figures["last reached beyond mark, quantile 99.9 %, bp"] == pytest.approx(100, rel=0.01)  # 99.99 above 99
    assert figures["funding above zero, % of stamps"] == 75
    assert figures["funding exactly 1 bp, % of stamps"] == 50
    assert docs.autocorrelation(np.array([1.0, 2.0, 3.0, 4.0]), 1) == pytest.approx((0.75 - 0.25 + 0.75) / 3 / 1.25)


def test_a_move_over_a_gap_is_a_days_and_no_hours():
    steps = np.random.default_rng(1).normal(0, 0.001, 1_000)
    steps[500] = 0.3
    candles = pd.DataFrame({"close": 100 * np.exp(steps.cumsum())}, pd.date_range("2024-01-01", periods=1_000, freq="h", tz="UTC"))
    figures = docs.moves(candles.drop(candles.index[499]))
    assert figures["best hour, %"] < 1
    assert figures["best day, %"] > 30


def test_without_the_folder_the_command_says_what_it_needs(monkeypatch):
    monkeypatch.delenv("BT_MARGIN_REFERENCE", raising=False)
    with pytest.raises(SystemExit, match="set BT_MARGIN_REFERENCE"):
        docs.main()
