"""What would have kept a position alive does keep it alive, and a little less does not."""

import doctest
from math import inf, isnan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import CALM, buy, frame, play, sell

from bt_margin.core import rescue as room
from bt_margin.core.rescue import rescue
from bt_margin.core.tiers import TierTable
from bt_margin.result import Result

TABLE = TierTable.from_rows([(2_000, 0.01, 50), (None, 0.025, 20)])
CRASH = (100, 100, 80, 85)


def test_examples_in_the_docstrings_are_true():
    outcome = doctest.testmod(room)
    assert outcome.attempted >= 3
    assert outcome.failed == 0


@pytest.mark.parametrize(
    ("side", "worst", "isolated", "margin", "leverage"),
    [
        ("long", 80, True, 10.8, 100 / 20.8),  # 0.8 of maintenance + 20 lost - 10 of margin
        ("short", 120, True, 11.2, 100 / 21.2),  # 1.2 + 20 - 10
        ("long", 80, False, 10.8, 100 / 20.8),  # 10 of collateral carry 10 / 20.8 of it: 48.08 of notional / 10
        ("long", 5, True, 85.05, 100 / 95.05),  # 0.05 + 95 - 10
        ("short", 250, True, 142.5, None),  # 2.5 + 150 - 10: more than the whole notional
    ],
)
def test_margin_to_add_and_safe_leverage_by_hand(side, worst, isolated, margin, leverage):
    saved = rescue(
        size=1 if side == "long" else -1, entry_price=100, worst_mark=worst, collateral=10, leverage=10, is_isolated=isolated,
        brackets=TierTable.flat(0.01).brackets,
    )  # fmt: skip
    assert saved.margin_to_add == pytest.approx(margin, rel=1e-12)
    assert saved.safe_leverage == (None if leverage is None else pytest.approx(leverage, rel=1e-12))


def test_a_wallet_that_owes_carries_no_position_at_all():
    saved = rescue(
        size=1, entry_price=100, worst_mark=99, collateral=-5, leverage=10, is_isolated=False, brackets=TierTable.flat(0).brackets
    )
    assert saved == (6, None)


@given(
    size=st.floats(0.1, 100),
    is_long=st.booleans(),
    fall=st.floats(0.001, 0.9),
    share=st.floats(0.01, 0.99),
    multiplier=st.sampled_from([1, 10]),
)
def test_the_margin_saves_and_a_little_less_does_not(size, is_long, fall, share, multiplier):
    signed, worst = (size, 100 * (1 - fall)) if is_long else (-size, 100 * (1 + fall))
    need = TABLE.maintenance_margin(size * multiplier * worst) + size * multiplier * 100 * fall
    terms = {"size": signed, "entry_price": 100, "worst_mark": worst, "leverage": 50, "brackets": TABLE.brackets, "multiplier": multiplier}
    saved = rescue(**terms, collateral=need * share, is_isolated=True)
    assert saved.margin_to_add == pytest.approx(need * (1 - share), rel=1e-9)


@given(size=st.floats(0.1, 100), is_long=st.booleans(), fall=st.floats(0.001, 0.9), share=st.floats(0.01, 0.99))
def test_in_cross_the_safe_leverage_is_that_of_the_largest_position_the_wallet_carries(size, is_long, fall, share):
    sign, worst = (1, 100 * (1 - fall)) if is_long else (-1, 100 * (1 + fall))
    collateral = (TABLE.maintenance_margin(size * worst) + size * 100 * fall) * share
    saved = rescue(
        size=sign * size, entry_price=100, worst_mark=worst, collateral=collateral, leverage=50, is_isolated=False, brackets=TABLE.brackets
    )
    carried = (saved.safe_leverage or 0.0) * collateral / 100
    if saved.safe_leverage is not None:
        assert carried < size
        assert collateral - carried * 100 * fall == pytest.approx(TABLE.maintenance_margin(carried * worst), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("mode", ["isolated", "cross"])
@pytest.mark.parametrize("place", [buy, sell])
def test_a_run_at_less_than_the_safe_leverage_survives_the_bar_that_killed(mode, place):
    bar = CRASH if place is buy else (100, 120, 100, 115)
    candles = frame([CALM, CALM, bar, CALM])
    cash = 1_000 if mode == "isolated" else 12

    def liquidations(leverage: float, size: float, money: float) -> list:
        terms = {"leverage": leverage, "tiers": 0.01}
        return Result.of(play({1: place(size=size)}, candles, margin_mode=mode, cash=money, terms=terms)).liquidations.to_dict("records")

    (row,) = liquidations(10, 1, cash)
    assert row["worst_mark"] == (80 if place is buy else 120)
    for factor, deaths in ((0.999, 0), (1.001, 1)):
        leverage = row["safe_leverage"] * factor
        size = 1 if mode == "isolated" else leverage * cash / 100
        assert len(liquidations(leverage if mode == "isolated" else 10, size, cash)) == deaths


@pytest.mark.parametrize(("factor", "deaths"), [(0.999, 1), (1.001, 0)])
def test_a_run_with_the_margin_added_survives_the_bar_that_killed(factor, deaths):
    candles = frame([CALM, CALM, CRASH, CALM])
    (row,) = Result.of(play({1: buy()}, candles)).liquidations.itertuples()

    def add(strategy):
        strategy.broker.add_margin(strategy.data, row.margin_to_add * factor)

    assert len(Result.of(play({1: buy(), 2: add}, candles)).liquidations) == deaths


def test_a_leverage_below_1_is_no_leverage_to_lower_to():
    (row,) = Result.of(play({1: sell()}, frame([CALM, CALM, (100, 250, 100, 240), CALM]))).liquidations.itertuples()
    assert isnan(row.safe_leverage)
    assert row.margin_to_add < inf
