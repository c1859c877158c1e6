"""Warnings and margin calls (R31): heard before the liquidation, once for each fall, and they close nothing.

A long of 1 at 100 with 10x isolated: equity 10 at 100, maintenance 1 % of the mark. At a close of 92.5 equity is 2.5 and
maintenance 0.925, a rate of 2.70; at 91.3 it is 1.3 against 0.913, 1.42; it dies at 90.909.
"""

import backtrader as bt
import pytest
from playing import CALM, Script, buy, close, frame, play, sell

from bt_margin import MarginBroker, PerpCommInfo, PerpData, Result
from bt_margin.thresholds import AverageTrueRange, Thresholds


def closing(*closes: float) -> list[tuple[float, float, float, float]]:
    """Return bars that go straight from one close to the next, from 100 on."""
    return [(begin, max(begin, end), min(begin, end), end) for begin, end in zip((100, *closes[:-1]), closes, strict=True)]


def heard(strategy) -> list[tuple[str, float]]:
    return [(event["kind"], event.get("rate")) for event in strategy.events]


RATES = {"warning_rate": 3.0, "call_rate": 1.5}


def test_a_warning_comes_before_the_call_and_the_call_before_the_liquidation():
    strategy = play({1: buy()}, frame([CALM, CALM, *closing(92.5, 91.3, 90.0)]), **RATES)
    assert heard(strategy) == [("warning", 3.0), ("margin_call", 1.5), ("liquidation", None)]
    first, second = strategy.broker.record.warnings
    assert (first.account, first.equity, first.maintenance_margin) == ("wallet:AAA", pytest.approx(2.5), pytest.approx(0.925))
    assert second.equity == pytest.approx(1.3)
    assert strategy.position.size == 0


def test_a_fall_past_both_tells_both_and_what_stays_below_tells_nothing_more():
    strategy = play({1: buy()}, frame([CALM, CALM, *closing(91.3, 91.2, 91.3, 92.5)]), **RATES)
    assert heard(strategy) == [("warning", 3.0), ("margin_call", 1.5)]
    assert strategy.position.size == 1


def test_a_wallet_that_has_recovered_is_warned_anew():
    strategy = play({1: buy()}, frame([CALM, CALM, *closing(92.5, 95.0, 92.5)]), **RATES)
    assert heard(strategy) == [("warning", 3.0)] * 2


def test_exactly_at_the_rate_counts():
    # 3 x 1 % of the mark: equity 10 - (100 - x) = 0.03 x at x = 92.783505
    exact = 90 / 0.97
    for x, count in ((exact - 1e-9, 1), (exact + 1e-9, 0)):
        assert len(heard(play({1: buy()}, frame([CALM, CALM, *closing(x)]), **RATES))) == count


def test_a_position_opened_again_is_warned_of_again():
    script = {1: buy(), 3: close, 4: buy()}  # again at 92.5; at 85.5 equity is 9.25 - 7 against 0.855
    strategy = play(script, frame([CALM, CALM, *closing(92.5, 92.5, 85.5)]), **RATES)
    assert heard(strategy) == [("warning", 3.0)] * 2


def test_one_rate_alone_and_none_at_all():
    candles = frame([CALM, CALM, *closing(92.5, 91.3)])
    assert heard(play({1: buy()}, candles, call_rate=1.5)) == [("margin_call", 1.5)]
    assert heard(play({1: buy()}, candles)) == []


def test_each_wallet_is_judged_by_itself_and_rows_are_in_the_result():
    def both(strategy):
        strategy.buy(strategy.data0)
        strategy.buy(strategy.data1)

    falls, calm = frame([CALM, CALM, *closing(92.5, 92.5)]), frame([CALM] * 4)
    result = Result.of(play({1: both}, falls, calm, **RATES))
    assert list(result.warnings["account"]) == ["wallet:AAA"]
    assert list(result.warnings["kind"]) == ["warning"]
    assert '"kind": "warning"' in result.to_json()
    cross = play({1: both}, falls, calm, margin_mode="cross", cash=12, terms={"leverage": 20}, **RATES)  # 12 - 7.5 against 1.925: 2.34
    assert [row.account for row in cross.broker.record.warnings] == ["wallet:cross"]


@pytest.mark.parametrize(
    ("rates", "sentence"),
    [
        ({"warning_rate": 1.0}, r"the rate of a warning is equity / maintenance margin and above 1, where liquidation is, was 1\.0"),
        ({"call_rate": float("nan")}, r"the rate of a margin call .*, was nan"),
        ({"call_rate": "2"}, r"the rate of a margin call .*, was '2'"),
        ({"warning_rate": 1.5, "call_rate": 2}, r"a warning comes before a margin call: its rate of 1\.5 must not be below 2"),
    ],
)
def test_rates_in_the_wrong_order_are_refused(rates, sentence):
    with pytest.raises(ValueError, match=sentence):
        MarginBroker(**rates)


# -- by distance to the liquidation price ----------------------------------------------------------------------------

LIQUIDATION_PRICE = 90 / 0.99  # of a long of 1 at 100 with 10 of margin and 1 % of maintenance: 90.909


def warned(strategy) -> list[tuple[str, float]]:
    return [(event["measure"], event["mark_price"]) for event in strategy.events if event["kind"] == "warning"]


def test_a_warning_by_distance_says_how_near_the_liquidation_price_is():
    # 5 % of the mark are left at 90.909 / 0.95 = 95.694
    strategy = play({1: buy()}, frame([CALM, CALM, *closing(95.7, 95.6, 95.5)]), warning_distance=0.05)
    (event,) = strategy.events
    assert (event["kind"], event["measure"], event["symbol"], event["threshold"]) == ("warning", "distance", "AAA", 0.05)
    assert event["liquidation_price"] == pytest.approx(LIQUIDATION_PRICE)
    assert event["distance"] == pytest.approx((95.6 - LIQUIDATION_PRICE) / 95.6)
    assert (event["account"], event["equity"], event["rate"]) == ("wallet:AAA", pytest.approx(10 - 4.4), None)
    assert strategy.position.size == 1


def test_exactly_at_the_distance_counts_and_a_position_that_has_moved_away_is_warned_anew():
    strategy = play({1: buy()}, frame([CALM, CALM, *closing(95.6, 95.7, 95.6, 95.5)]), warning_distance=0.05)
    assert warned(strategy) == [("distance", 95.6)] * 2


def test_a_short_is_warned_by_its_own_side():
    # liquidated where 10 - (p - 100) = p x 1 %: p = 110 / 1.01 = 108.911; 5 % of the mark below it at 108.911 / 1.05 = 103.725
    strategy = play({1: sell()}, frame([CALM, CALM, *closing(103.7, 103.8)]), warning_distance=0.05)
    assert warned(strategy) == [("distance", 103.8)]


def test_each_position_of_a_shared_wallet_has_a_distance_of_its_own():
    def both(strategy):
        strategy.buy(strategy.data0, size=1)
        strategy.buy(strategy.data1, size=5)

    # cash 60 in cross at 10x. At 97 and 100: equity 57, maintenance 0.97 + 5. BBB: 57 + 5 (p - 100) = 0.97 + 0.05 p, so
    # p = 443.97 / 4.95 = 89.69, 10.3 % away (10.9 % when opened); AAA: 60 + (p - 100) = 0.01 p + 5, far below
    candles = frame([CALM, CALM, *closing(97, 97)]), frame([CALM] * 4)
    strategy = play({1: both}, *candles, margin_mode="cross", cash=60, warning_distance=0.105)
    (event,) = strategy.events
    assert (event["symbol"], event["account"]) == ("BBB", "wallet:cross")
    assert event["liquidation_price"] == pytest.approx(443.97 / 4.95)


def test_the_average_true_range_is_the_hosts_own():
    rows = [(100 + step % 7, 107 + step % 5, 96 - step % 3, 100 + step % 4) for step in range(40)]
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(PerpData(dataname=frame(rows), name="AAA"))
    cerebro.addstrategy(Ranges)
    (strategy,) = cerebro.run()
    own, told = AverageTrueRange(5), []
    for bars, (_, high, low, end) in enumerate(rows, 1):
        own.add(bars, high, low, end)
        told.append(own.value)
    assert told[:5] == [None] * 5  # 5 true ranges need 6 bars
    assert told[5:] == pytest.approx(list(strategy.ranges))


class Ranges(bt.Strategy):
    def __init__(self):
        self.range, self.ranges = bt.ind.ATR(self.data, period=5), []

    def next(self):
        self.ranges.append(self.range[0])


def test_a_warning_by_average_true_range_waits_until_there_is_one():
    """True ranges from the second bar on: 2, 2, 5, 1."""
    bars = [CALM, CALM, CALM, *closing(95, 94)]
    # period 3: after bar 4 the mean of 2, 2, 5 = 3; at 95 the price is 4.09 away, 1.36 ranges. After bar 5 (3 x 2 + 1) / 3 =
    # 2.333, and 94 is 3.09 away: 1.325 ranges.
    strategy = play({1: buy()}, frame(bars), warning_atr=1.35, warning_atr_period=3)
    (event,) = strategy.events
    assert (event["measure"], event["mark_price"]) == ("atr", 94)
    assert event["average_range"] == pytest.approx((3 * 2 + 1) / 3)
    assert event["distance"] == pytest.approx((94 - LIQUIDATION_PRICE) / 94)
    assert play({1: buy()}, frame(bars), warning_atr=100, warning_atr_period=3).events[0]["mark_price"] == 95  # not before bar 4
    assert play({1: buy()}, frame(bars), warning_atr=100, warning_atr_period=5).events == []


@pytest.mark.parametrize("mode", [{"runonce": False}, {"preload": False}, {"exactbars": 1}])
def test_a_warning_by_range_is_the_same_in_every_run_mode(mode):
    cerebro = bt.Cerebro(stdstats=False, **mode)
    cerebro.broker = MarginBroker(cash=1_000, margin_mode="isolated", check=True, warning_atr=1.35, warning_atr_period=3)
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=10, tiers=0.01, liquidation_fee=0.0))
    cerebro.adddata(PerpData(dataname=frame([CALM, CALM, CALM, *closing(95, 94)]), name="AAA"))
    cerebro.addstrategy(Script, script={1: buy()})
    assert warned(cerebro.run()[0]) == [("atr", 94)]


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ({"warning_distance": 0}, r"warning_distance is a fraction of the mark between 0 and 1 \(0\.05 = 5 % away\), was 0"),
        ({"warning_distance": 5}, "warning_distance is a fraction .*, was 5"),
        ({"warning_distance": float("nan")}, "warning_distance is a fraction .*, was nan"),
        ({"warning_atr": -1}, "warning_atr is a multiple of the average true range above 0, was -1"),
        ({"warning_atr": 2, "warning_atr_period": 0}, "warning_atr_period is a whole number of bars from 1 on, was 0"),
    ],
)
def test_distances_that_are_none_are_refused(terms, sentence):
    with pytest.raises(ValueError, match=sentence):
        MarginBroker(**terms)


def test_a_run_without_thresholds_looks_at_none(monkeypatch):
    def never(*_):
        raise AssertionError

    monkeypatch.setattr(Thresholds, "follow", never)
    monkeypatch.setattr(Thresholds, "crossed", never)
    assert play({1: buy()}, frame([CALM, CALM, *closing(92)])).events == []
