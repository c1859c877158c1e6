"""What the sizers that know the liquidation price promise, on real prices: no liquidation before the stop.

A breakout trend with a stop two average true ranges away, hourly BTCUSDT, 30x. "Before the stop" is a liquidation whose mark had
not come to the stop; one past it is a bar that went through both, before the stop was at work or without a fill between.
"""

import pytest
from bt_margin.data import load
from trending import Trend

from bt_margin import run, sizers

AWARE = {  # by margin mode and rule: fills, and liquidations before, past and without a stop
    ("isolated", "isolated:fraction=2%"): (627, 0, 2, 0),
    ("isolated", "liquidation:inner=(risk:fraction=2%)"): (292, 0, 0, 0),
    ("isolated", "maintenance:inner=(risk:fraction=2%)"): (422, 0, 2, 0),
    ("cross", "liquidation"): (56, 0, 1, 0),
    ("cross", "liquidation:inner=(risk:fraction=10%)"): (627, 0, 0, 0),
}


def by_stop(source, margin_mode, rule, *, symbol="BTCUSDT", venue="binance"):
    """Return how many orders were filled, and the liquidations by where the mark stood."""
    strategy = run(Trend, {symbol: source}, venue, 30, margin_mode, params={"period": 20}, sizer=sizers.from_text(rule)).strategy
    return len(strategy.broker.record.fills), *sizers.liquidations_by_stop(strategy)


@pytest.fixture(scope="module")
def shipped():
    return load()["2020-02":"2021-06"]


def test_two_per_cent_at_risk_at_30x_is_liquidated_before_its_stop_again_and_again(shipped):
    assert by_stop(shipped, "isolated", "risk:fraction=2%") == (673, 92, 4, 0)


@pytest.mark.parametrize(("rule", "found"), AWARE.items(), ids=map(" ".join, AWARE))
def test_no_sizer_that_knows_the_liquidation_price_is_liquidated_before_its_stop(shipped, rule, found):
    """What is liquidated past its stop lost both in one bar: two of some hundred trades at most."""
    assert by_stop(shipped, *rule) == found
    assert found[1] == 0


def in_the_crashes(reference, margin_mode, rule):
    """Return the same of every crash that has hourly futures, mark and funding, added up, and their number."""
    files = sorted((reference / "data" / "windows").glob("*/binance-*-1h-futures_mark_funding.csv"))
    runs = [by_stop(str(file), margin_mode, rule, symbol=file.name.split("-")[1], venue="generic") for file in files]
    return len(files), *(sum(numbers) for numbers in zip(*runs, strict=True))


def test_in_the_crashes_two_per_cent_at_risk_dies_before_its_stop(reference):
    assert in_the_crashes(reference, "isolated", "risk:fraction=2%") == (28, 618, 141, 0, 0)


@pytest.mark.parametrize(
    ("margin_mode", "rule", "found"),
    [
        ("isolated", "isolated:fraction=2%", (28, 533, 0, 1, 0)),
        ("cross", "liquidation", (28, 526, 0, 1, 0)),
        ("cross", "maintenance:beta=2", (28, 515, 0, 3, 0)),
    ],
)
def test_in_the_crashes_only_bars_that_go_through_both_liquidate_what_knows_its_liquidation_price(reference, margin_mode, rule, found):
    assert in_the_crashes(reference, margin_mode, rule) == found
