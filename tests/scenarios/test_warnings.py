"""Warnings and margin calls (R31): heard before the liquidation, once for each fall, and they close nothing.

A long of 1 at 100 with 10x isolated: equity 10 at 100, maintenance 1 % of the mark. At a close of 92.5 equity is 2.5 and
maintenance 0.925, a rate of 2.70; at 91.3 it is 1.3 against 0.913, 1.42; it dies at 90.909.
"""

import pytest
from playing import CALM, buy, close, frame, play

from bt_margin import MarginBroker, Result


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
