"""The order of events inside and between bars, on frames of a few bars whose numbers can be redone by hand.

The terms are those of ``playing``: flat maintenance 1 %, 10x isolated, no fees; a long of 1 at 100 dies at 90.909.
"""

import backtrader as bt
import pandas as pd
import pytest
from playing import CALM, buy, close, frame, play, rate_column, sell

from bt_margin import FundingSchedule, TierSchedule, TierTable

LIMIT_PRICE = 90 / 0.99


# -- liquidation -------------------------------------------------------------------------------------------------------


def test_a_position_that_gapped_through_its_limit_goes_before_a_queued_exit_can_save_it():
    strategy = play({1: buy(), 2: close}, frame([CALM, CALM, (85, 99, 84, 98)]))
    (row,) = strategy.broker.record.liquidations
    assert (row.trigger, row.mark_price, row.price, row.from_insurance_fund, row.certainty) == ("gap", 85, 90, 5, "certain")
    assert strategy.broker.equity == 1_000 - 10
    assert [status for status, *_ in strategy.orders.values()] == ["Completed", "Canceled", "Completed"]


def test_a_wick_kills_at_the_solved_price_and_returns_what_is_left():
    strategy = play({1: buy()}, frame([CALM, CALM, (100, 101, 80, 99)]))
    (row,) = strategy.broker.record.liquidations
    assert row.trigger == "path"
    assert row.mark_price == row.price == pytest.approx(LIMIT_PRICE)
    assert row.returned == pytest.approx(LIMIT_PRICE - 90)
    assert strategy.broker.equity == pytest.approx(1_000 - (100 - LIMIT_PRICE))


def test_forfeit_loses_the_whole_margin():
    strategy = play({1: buy()}, frame([CALM, CALM, (100, 101, 80, 99)]), terms={"profile": "forfeit"})
    (row,) = strategy.broker.record.liquidations
    assert row.price == pytest.approx(90)
    assert row.to_insurance_fund == pytest.approx(LIMIT_PRICE - 90)
    assert strategy.broker.equity == pytest.approx(990)


def test_the_liquidation_is_a_real_order_of_its_owner_and_is_announced():
    strategy = play({1: buy()}, frame([CALM, CALM, (100, 101, 80, 99)]), terms={"liquidation_fee": 0.005})
    status, size, price, comm, info = list(strategy.orders.values())[-1]
    assert (status, size, info["liquidation"]) == ("Completed", -1, True)
    assert comm == pytest.approx(price * 0.005)
    assert strategy.position.size == 0
    assert [event["kind"] for event in strategy.events] == ["liquidation"]
    assert strategy.events[0]["symbol"] == "AAA"


def test_the_mark_decides_margin_and_the_last_price_decides_fills():
    wick, calm_mark = (100, 101, 70, 99), (100, 100, 99, 100)
    spared = play({1: buy(), 2: sell(exectype=bt.Order.Stop, price=75)}, frame([CALM, CALM, wick], marks=[calm_mark] * 3))
    assert spared.broker.record.liquidations == []
    assert spared.broker.record.fills[-1].price == 75  # the stop filled on last, below the bankruptcy price of 90
    assert spared.broker.journal.balances()["insurance_fund"] == -15
    killed = play({1: buy()}, frame([CALM, CALM, CALM], marks=[calm_mark, calm_mark, (100, 100, 80, 100)]))
    assert len(killed.broker.record.liquidations) == 1


def test_intrabar_close_sees_opens_and_closes_only():
    bars = frame([CALM, CALM, (100, 101, 80, 99), (99, 100, 80, 90.5)])
    strategy = play({1: buy()}, bars, intrabar="close")
    (row,) = strategy.broker.record.liquidations
    assert (row.trigger, row.mark_price) == ("close", 90.5)


def test_adverse_takes_the_path_that_leaves_less_and_says_that_it_is_only_possible():
    bars = frame([CALM, CALM, (100, 106, 80, 99)])
    script = {1: buy(), 2: sell(exectype=bt.Order.Limit, price=105)}
    adverse, favourable = play(script, bars), play(script, bars, intrabar="favourable")
    (row,) = adverse.broker.record.liquidations
    assert row.certainty == "possible"
    assert favourable.broker.record.liquidations == []
    assert favourable.broker.equity == 1_005


def test_orders_of_a_liquidated_contract_are_cancelled_and_open_nothing_on_that_bar():
    script = {1: buy(), 2: buy(exectype=bt.Order.Limit, price=85)}
    strategy = play(script, frame([CALM, CALM, (100, 101, 80, 99)]))
    assert strategy.position.size == 0
    assert len(strategy.broker.record.fills) == 2
    assert "Canceled" in [status for status, *_ in strategy.orders.values()]


def test_without_maintenance_margin_a_position_dies_at_zero_equity():
    strategy = play({1: buy()}, frame([CALM, CALM, (100, 101, 80, 99)]), terms={"tiers": 0})
    assert strategy.broker.record.liquidations[0].mark_price == pytest.approx(90)
    assert strategy.broker.equity == pytest.approx(990)


def test_cross_margin_lends_the_whole_wallet():
    strategy = play({1: buy()}, frame([CALM, CALM, (100, 101, 5, 99)]), margin_mode="cross")
    assert strategy.broker.record.liquidations == []
    assert strategy.broker.equity == 999


def test_in_a_shared_wallet_the_first_loser_is_sold_and_the_other_dies_later_on_its_own():
    script = {1: lambda s: (s.buy(s.datas[0], size=50), s.buy(s.datas[1], size=50))}
    fall = (100, 100, 88, 89)
    strategy = play(script, frame([CALM, CALM, fall]), frame([CALM, CALM, fall]), margin_mode="cross")
    first, second = strategy.broker.record.liquidations
    # 1 000 + 100 (p - 100) = 0.01 x 100 p; equal losses go in the order of the datas
    assert (first.symbol, first.mark_price) == ("AAA", pytest.approx(9_000 / 99))
    alone = (4_000 + 50 * (100 - 9_000 / 99)) / 49.5  # the loss of AAA is realized: 1 000 - 50 (100 - p1) + 50 (p - 100) = 0.5 p
    assert (second.symbol, second.mark_price) == ("BBB", pytest.approx(alone))


def test_stop_ends_the_run_after_the_strategy_has_seen_it():
    calm = [CALM] * 5
    strategy = play({1: buy()}, frame([CALM, CALM, (100, 101, 80, 99), *calm]), on_liquidation="stop")
    assert [event["kind"] for event in strategy.events] == ["liquidation"]
    assert len(strategy) == 3


# -- funding -----------------------------------------------------------------------------------------------------------


def test_a_stamp_is_paid_on_the_position_held_before_the_fills_of_its_bar():
    bars = frame([CALM] * 4, start="2024-01-01 06:00")  # bars open at 06, 07, 08, 09
    opened_at_stamp = play({2: buy()}, bars, funding=rate_column(d0108=0.01))
    closed_at_stamp = play({1: buy(), 2: close}, bars, funding=rate_column(d0108=0.01))
    assert opened_at_stamp.broker.record.funding == []
    (row,) = closed_at_stamp.broker.record.funding
    assert (row.amount, row.mark_price) == (-1.0, 100)
    assert pd.Timestamp(row.time, unit="s") == pd.Timestamp("2024-01-01 08:00")


def test_funding_at_the_open_can_kill_before_the_fills():
    bars = frame([CALM, (100, 101, 91, 91), (91, 100, 91, 95)], start="2024-01-01 06:00")
    strategy = play({1: buy(), 2: close}, bars, funding=rate_column(d0108=0.01))
    (row,) = strategy.broker.record.liquidations
    assert (row.trigger, row.mark_price) == ("funding", 91)  # 10 - 9 - 0.91 = 0.09 is below 0.91


def test_stamps_inside_a_long_bar_use_the_line_from_mark_open_to_close():
    bars = frame([CALM, CALM, (100, 124, 99, 124)], start="2024-01-01", freq="D")
    strategy = play({1: buy()}, bars, funding=rate_column(d0308=0.001, d0316=0.001))
    assert [row.mark_price for row in strategy.broker.record.funding] == [pytest.approx(108), pytest.approx(116)]


def test_a_stamp_at_the_close_belongs_to_the_next_bar_and_none_is_paid_after_the_last():
    bars = frame([CALM] * 3, start="2024-01-01 05:00")  # the last bar closes at 08:00
    strategy = play({1: buy()}, bars, funding=rate_column(d0108=0.01))
    assert strategy.broker.record.funding == []


def test_a_stamp_in_a_gap_uses_the_last_known_mark_and_is_counted():
    bars = frame([CALM, CALM, CALM, (120, 121, 119, 120), (120, 121, 119, 120)], start="2024-01-01 06:00", drop=[2])
    strategy = play({1: buy()}, bars, funding=rate_column(d0108=0.01))
    (row,) = strategy.broker.record.funding
    assert row.mark_price == 100  # the close before the gap, not the 120 after it
    assert strategy.broker.record.gap_stamps == 1


def test_a_stamp_of_its_own_mark_is_paid_at_it():
    bars = frame([CALM] * 4, start="2024-01-01 06:00")
    stamp = pd.Timestamp("2024-01-01 08:00", tz="UTC").timestamp()
    strategy = play({1: buy()}, bars, funding=FundingSchedule((stamp,), (0.01,), (50.0,)))
    assert [row.amount for row in strategy.broker.record.funding] == [-0.5]


def test_in_cross_a_short_receives_what_a_long_pays():
    bars = frame([CALM] * 4, start="2024-01-01 06:00")
    strategy = play({1: sell()}, bars, funding=rate_column(d0108=0.01), margin_mode="cross")
    assert strategy.broker.equity == pytest.approx(1_001)


# -- orders ------------------------------------------------------------------------------------------------------------


def test_a_resting_order_reserves_margin_and_fee_and_frees_them_when_cancelled():
    script = {1: buy(size=10, exectype=bt.Order.Limit, price=90), 3: lambda s: s.cancel(s.broker.pending[0])}
    strategy = play(script, frame([CALM] * 5), terms={"commission": 0.001})
    assert strategy.cash == [1_000, 1_000 - 900 / 10 - 0.9, 1_000 - 900 / 10 - 0.9, 1_000, 1_000]


def test_a_refusal_carries_the_reason_and_the_numbers():
    strategy = play({1: buy(size=101)}, frame([CALM] * 3))
    ((status, size, _, _, info),) = strategy.orders.values()
    assert (status, size) == ("Margin", 0)
    assert (info["needed"], info["available"], info["max_size"]) == (1_010, 1_000, 100)
    assert "AAA" in info["message"]


def test_sizes_are_cut_to_whole_lots_and_less_than_one_is_rejected():
    script = {1: buy(size=1.37), 2: buy(size=0.04)}
    strategy = play(script, frame([CALM] * 4), terms={"lot": 0.1})
    outcomes = [(status, size) for status, size, *_ in strategy.orders.values()]
    assert outcomes == [("Completed", pytest.approx(1.3)), ("Rejected", 0)]
    assert "no whole lot of 0.1" in list(strategy.orders.values())[1][4]["message"]


def test_a_limit_makes_unless_it_fills_at_the_open_of_its_first_bar():
    terms = {"commission": 0.001, "maker": 0.0002}
    bars = frame([CALM, CALM, (100, 101, 94, 100), CALM])
    taken = play({1: buy(exectype=bt.Order.Limit, price=105)}, bars, terms=terms)
    made = play({1: buy(exectype=bt.Order.Limit, price=95)}, bars, terms=terms)
    assert (taken.broker.record.fills[0].price, taken.broker.record.fills[0].fee) == (100, pytest.approx(0.1))
    assert (made.broker.record.fills[0].price, made.broker.record.fills[0].fee) == (95, pytest.approx(0.019))


def test_a_target_of_three_times_equity_converges_at_once():
    def target(strategy):
        strategy.order_target_percent(target=3.0)

    strategy = play({1: target, 2: target, 3: target}, frame([(100, 100, 100, 100)] * 5), margin_mode="cross")
    assert strategy.position.size == pytest.approx(30)
    assert len(strategy.broker.record.fills) == 1


def test_available_margin_is_what_cash_shows_and_equity_what_value_shows():
    strategy = play({1: buy(size=5)}, frame([CALM, CALM, (100, 110, 100, 110)]), margin_mode="cross")
    broker = strategy.broker
    assert broker.getvalue() == broker.equity == 1_050
    assert broker.getcash() == broker.cash == 1_050 - 5 * 110 / 10
    assert broker.getvalue([strategy.data]) == 550
    assert (broker.initial_margin(), broker.maintenance_margin()) == (55, 5.5)
    assert broker.margin_ratio() == pytest.approx(5.5 / 1_050)


def test_the_tiers_of_a_date_come_into_force_on_the_bar_that_opens_then():
    day = pd.Timestamp("2024-01-01 03:00", tz="UTC").timestamp()
    strict = TierSchedule((0.0, day), (TierTable.flat(0.01), TierTable.flat(0.09)))
    bars = frame([CALM, CALM, CALM, (99, 99, 98, 98)])  # bars open at 01, 02, 03, 04
    strategy = play({1: buy()}, bars, terms={"tiers": strict})
    (row,) = strategy.broker.record.liquidations
    assert row.mark_price == pytest.approx(90 / 0.91)  # 10 + p - 100 = 0.09 p at 98.901, inside the bar of 03:00 (low 99): not met
    assert pd.Timestamp(row.time, unit="s") == pd.Timestamp("2024-01-01 05:00")


def test_money_moved_by_the_strategy_is_in_the_journal():
    def move(strategy):
        strategy.broker.add_margin(strategy.data, 50)
        strategy.broker.remove_margin(strategy.data, 20)
        strategy.broker.add_cash(100)
        strategy.broker.cash -= 7

    strategy = play({1: buy(), 2: move}, frame([CALM] * 4))
    kinds = [row.kind for row in strategy.broker.journal]
    assert list(dict.fromkeys(kinds)) == ["deposit", "transfer", "adjust"]
    assert strategy.broker.account.wallets == {"wallet:cross": 1_000 - 10 - 30 + 100 - 7, "wallet:AAA": 40}
