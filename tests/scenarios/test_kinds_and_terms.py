"""Inverse contracts, spot, slab tiers and margin terms inside a run, on frames of a few bars whose numbers can be redone by hand.

Unless a test says otherwise the terms are those of ``playing``: flat maintenance 1 %, 10x isolated, no fees. An inverse
contract here is 1 of quote money: 1 000 of them at 100 are 10 coins, with 1 coin of margin.
"""

import re

import backtrader as bt
import pandas as pd
import pytest
from playing import CALM, Script, buy, close, frame, play, rate_column, sell

from bt_margin import MarginBroker, PerpCommInfo, PerpData, Result, TierTable
from bt_margin.core.terms import MarginTerms

INVERSE = {"kind": "inverse", "currency": "BTC"}
SPOT = {"kind": "spot", "leverage": 1.0, "tiers": None}
SLAB = TierTable.from_rows([(1_000, 0.01, 50), (None, 0.05, 20)], mode="slab")
FLAT_AT = {price: (price, price, price, price) for price in (80, 90, 100, 110, 120, 125, 150, 200, 250, 300)}


def play_inverse(script, *candles, terms=None, **broker_args):
    """Play with inverse contracts and 10 coins."""
    return play(script, *candles, terms={**INVERSE, **(terms or {})}, **{"cash": 10, **broker_args})


def play_apart(script, *datas, funding=None, **broker_args):
    """Play with terms for each data: pairs of candles and terms, named AAA, BBB, ..."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(**{"cash": 1_000, "margin_mode": "cross", "check": True, **broker_args})
    for letter, (candles, terms) in zip("ABC", datas, strict=False):
        name = letter * 3
        comminfo = {"leverage": 10, "tiers": 0.01, "liquidation_fee": 0.0, **terms}
        cerebro.broker.addcommissioninfo(PerpCommInfo(**comminfo), name=name)
        cerebro.adddata(PerpData(dataname=candles, name=name, funding=None if terms.get("kind") == "spot" else funding))
    cerebro.addstrategy(Script, script=script)
    return cerebro.run()[0]


def both(first, second):
    return lambda strategy: (first(strategy), second(strategy))


def on(number, action, **kwargs):
    return lambda strategy: action(data=strategy.datas[number], **kwargs)(strategy)


# -- inverse: opening, adding, closing -----------------------------------------------------------------------------------


def test_an_inverse_long_earns_coins_as_the_price_rises_and_its_margin_is_coins():
    strategy = play_inverse({1: buy(size=1_000)}, frame([CALM, FLAT_AT[100], FLAT_AT[125]]))
    broker = strategy.broker
    assert broker.account.wallets == {"wallet:cross": 9, "wallet:AAA": 1}
    assert broker.getvalue() == pytest.approx(10 + 1_000 * (1 / 100 - 1 / 125))  # 10 coins bought, 8 owed
    assert broker.getvalue([strategy.data]) == 8
    assert (broker.initial_margin(), broker.maintenance_margin()) == (pytest.approx(0.8), pytest.approx(0.08))


def test_an_inverse_short_earns_coins_as_the_price_falls():
    strategy = play_inverse({1: sell(size=1_000)}, frame([CALM, FLAT_AT[100], FLAT_AT[80]]))
    assert strategy.broker.getvalue() == pytest.approx(10 + 1_000 * (1 / 80 - 1 / 100))
    assert strategy.broker.getvalue([strategy.data]) == -12.5


def test_adding_to_an_inverse_position_averages_harmonically():
    script = {1: buy(size=1_000), 2: buy(size=1_000)}
    strategy = play_inverse(script, frame([CALM, FLAT_AT[100], FLAT_AT[125], FLAT_AT[150]]))
    assert strategy.position.price == pytest.approx(2_000 / (10 + 8))
    assert strategy.broker.account.wallets["wallet:AAA"] == pytest.approx(1 + 0.8)
    assert strategy.broker.equity == pytest.approx(10 + 10 + 8 - 2_000 / 150)


def test_a_partial_close_realizes_its_share_in_coin_and_returns_it():
    script = {1: buy(size=1_000), 2: sell(size=250)}
    strategy = play_inverse(script, frame([CALM, FLAT_AT[100], FLAT_AT[125], FLAT_AT[125]]))
    profit = 250 * (1 / 100 - 1 / 125)
    assert strategy.broker.record.fills[1].realized_pnl == pytest.approx(profit)
    assert strategy.broker.account.wallets == {"wallet:cross": pytest.approx(9 + 0.25 + profit), "wallet:AAA": pytest.approx(0.75)}


def test_a_reversal_closes_in_coin_and_opens_at_its_own_price():
    script = {1: buy(size=1_000), 2: sell(size=1_500)}
    strategy = play_inverse(script, frame([CALM, FLAT_AT[100], FLAT_AT[125], FLAT_AT[100]]))
    assert (strategy.position.size, strategy.position.price) == (-500, 125)
    # 2 coins of the long; the short of 4 coins at 125 owes 5 at 100 and so has earned 1
    assert strategy.broker.equity == pytest.approx(10 + 2 + 1)


def test_fees_of_an_inverse_contract_are_coins():
    strategy = play_inverse({1: buy(size=1_000), 2: close}, frame([CALM, FLAT_AT[100], FLAT_AT[125]]), terms={"commission": 0.001})
    assert [row.fee for row in strategy.broker.record.fills] == [pytest.approx(0.01), pytest.approx(0.008)]
    assert strategy.broker.equity == pytest.approx(10 + 2 - 0.018)


def test_the_trades_of_a_result_average_harmonically_and_add_up():
    script = {1: buy(size=1_000), 2: buy(size=1_000), 3: close}
    strategy = play_inverse(script, frame([CALM, FLAT_AT[100], FLAT_AT[125], FLAT_AT[150]]))
    (trade,) = Result.of(strategy).trades.itertuples()
    assert trade.entry_price == pytest.approx(2_000 / 18)
    assert trade.realized_pnl == pytest.approx(18 - 2_000 / 150) == pytest.approx(strategy.broker.equity - 10)


# -- inverse: refusals and targets ---------------------------------------------------------------------------------------


def test_what_an_inverse_order_needs_is_coins():
    strategy = play_inverse({1: buy(size=10_001)}, frame([FLAT_AT[100]] * 3))
    ((status, _, _, _, info),) = strategy.orders.values()
    assert status == "Margin"
    assert (info["needed"], info["available"], info["max_size"]) == (pytest.approx(10.001), 10, pytest.approx(10_000))


@pytest.mark.parametrize("target", [3.0, -3.0])
def test_targets_are_in_coin_and_converge(target):
    def aim(strategy):
        strategy.order_target_percent(target=target)

    strategy = play_inverse({1: aim, 2: aim, 3: aim}, frame([FLAT_AT[100]] * 5), margin_mode="cross")
    assert strategy.position.size == pytest.approx(target * 10 * 100)  # 30 coins are 3 000 contracts at 100
    assert len(strategy.broker.record.fills) == 1


def test_a_target_value_is_reached_from_a_position_of_another_entry():
    script = {1: lambda s: s.order_target_value(target=10), 2: lambda s: s.order_target_value(target=4)}
    strategy = play_inverse(script, frame([FLAT_AT[100], FLAT_AT[100], FLAT_AT[125], FLAT_AT[125], FLAT_AT[125]]), margin_mode="cross")
    assert strategy.position.size == pytest.approx(400)  # 4 coins at 100, the close it was sized at
    assert [row.size for row in strategy.broker.record.fills] == [pytest.approx(1_000), pytest.approx(-600)]


# -- inverse: funding and liquidation ------------------------------------------------------------------------------------


def test_funding_of_an_inverse_contract_is_coins_of_its_notional_at_mark():
    bars = frame([CALM, FLAT_AT[125], FLAT_AT[125], FLAT_AT[125]], start="2024-01-01 06:00")
    strategy = play_inverse({1: buy(size=1_000)}, bars, funding=rate_column(d0108=0.01))
    (row,) = strategy.broker.record.funding
    assert row.amount == pytest.approx(-8 * 0.01)
    assert strategy.broker.equity == pytest.approx(10 - 0.08)


def test_an_inverse_long_dies_where_its_coins_meet_maintenance_inside_the_bar():
    strategy = play_inverse({1: buy(size=1_000)}, frame([CALM, FLAT_AT[100], (100, 101, 80, 99)]))
    (row,) = strategy.broker.record.liquidations
    assert row.mark_price == row.price == pytest.approx(1_010 / 11)  # 1 + 10 - 1 000 / p = 10 / p
    assert row.returned == pytest.approx(10 / (1_010 / 11))  # its maintenance
    assert strategy.broker.equity == pytest.approx(9 + 10 * 11 / 1_010)


def test_an_inverse_short_dies_above_its_entry():
    strategy = play_inverse({1: sell(size=1_000)}, frame([CALM, FLAT_AT[100], (100, 120, 99, 100)]))
    (row,) = strategy.broker.record.liquidations
    assert row.mark_price == pytest.approx(110)  # 1 - 10 + 1 000 / p = 10 / p
    assert row.realized_pnl == pytest.approx(1_000 / 110 - 10)


def test_forfeit_takes_an_inverse_long_over_where_its_coins_are_gone():
    strategy = play_inverse({1: buy(size=1_000)}, frame([CALM, FLAT_AT[100], (100, 101, 80, 99)]), terms={"profile": "forfeit"})
    (row,) = strategy.broker.record.liquidations
    assert row.price == pytest.approx(1_000 / 11)  # 1 + 10 - 1 000 / p = 0
    assert row.to_insurance_fund == pytest.approx(10 / (1_010 / 11))
    assert strategy.broker.equity == pytest.approx(9)


def test_an_inverse_gap_beyond_bankruptcy_costs_the_margin_and_the_fund_the_rest():
    strategy = play_inverse({1: buy(size=1_000)}, frame([CALM, FLAT_AT[100], (80, 81, 79, 80)]))
    (row,) = strategy.broker.record.liquidations
    assert (row.trigger, row.mark_price) == ("gap", 80)
    assert row.price == pytest.approx(1_000 / 11)
    assert row.from_insurance_fund == pytest.approx(1_000 / 80 - 11)
    assert strategy.broker.equity == pytest.approx(9)


def test_in_cross_all_coins_stand_behind_an_inverse_long():
    strategy = play_inverse({1: buy(size=1_000)}, frame([CALM, FLAT_AT[100], (100, 101, 40, 60)]), margin_mode="cross")
    (row,) = strategy.broker.record.liquidations
    assert row.mark_price == pytest.approx(1_010 / 20)  # 10 + 10 - 1 000 / p = 10 / p
    assert strategy.broker.equity == pytest.approx(10 * 20 / 1_010)


def test_the_liquidation_fee_of_an_inverse_contract_is_taken_of_its_coins():
    terms = {"liquidation_fee": 0.005}
    strategy = play_inverse({1: sell(size=1_000)}, frame([CALM, FLAT_AT[100], (100, 120, 99, 100)]), terms=terms)
    (row,) = strategy.broker.record.liquidations
    assert row.fee == pytest.approx(1_000 / 110 * 0.005)
    assert row.returned == pytest.approx(10 / 110 - row.fee)


def test_what_would_have_saved_an_inverse_position_is_coins():
    strategy = play_inverse({1: buy(size=1_000)}, frame([CALM, FLAT_AT[100], (100, 101, 80, 99)]))
    (row,) = strategy.broker.record.liquidations
    lacking = 1_010 / 80 - 10 - 1  # 1 % of 12.5 coins and 2.5 lost, less 1 of margin
    assert row.margin_to_add == pytest.approx(lacking)
    assert row.safe_leverage == pytest.approx(10 / (1 + lacking))


@pytest.mark.parametrize(("factor", "deaths"), [(0.999, 1), (1.001, 0)])
def test_an_inverse_position_with_the_margin_added_survives_the_bar_that_killed_it(factor, deaths):
    def add(strategy):
        strategy.broker.add_margin(strategy.data, (1_010 / 80 - 11) * factor)

    strategy = play_inverse({1: buy(size=1_000), 2: add}, frame([CALM, FLAT_AT[100], (100, 101, 80, 99)]))
    assert len(strategy.broker.record.liquidations) == deaths


def test_a_long_and_a_short_of_two_inverse_contracts_die_between_two_ends_that_are_safe():
    """On its way down the long's contract falls first; what the short earns comes too late, as both are lines in the price only."""
    long_bars = frame([FLAT_AT[100], FLAT_AT[100], (100, 100, 50, 50)])
    short_bars = frame([FLAT_AT[100], FLAT_AT[100], (100, 100, 20, 20)])
    terms = {**INVERSE, "tiers": 0, "leverage": 20}
    script = {1: both(on(0, buy, size=1_000), on(1, sell, size=250))}
    # at a fraction t of the way: 100 - 50 t and 100 - 80 t. The long loses 1 000 / (100 - 50 t) - 10, the short earns
    # 250 / (100 - 80 t) - 2.5: at the end 10 and 10; in the middle 3.33 and 1.67
    kept = play_apart(script, (long_bars, terms), (short_bars, terms), cash=2.3)
    dead = play_apart(script, (long_bars, terms), (short_bars, terms), cash=2.0)
    assert kept.broker.record.liquidations == []
    assert kept.broker.equity == pytest.approx(2.3)
    assert {row.symbol for row in dead.broker.record.liquidations} >= {"AAA"}


@pytest.mark.parametrize(("place", "price", "worst"), [(buy, 1_010 / 11, min), (sell, 110, max)])
def test_the_closest_call_of_an_inverse_position_is_its_least_distance_in_price(place, price, worst):
    marks = [100, 96, 104, 93, 107, 99]
    bars = frame([CALM, FLAT_AT[100], *((mark, mark, mark, mark) for mark in marks)])
    strategy = play_inverse({1: place(size=1_000)}, bars)
    nearest = worst(marks)
    assert strategy.broker.record.closest_call == pytest.approx(abs(nearest - price) / nearest)


@pytest.mark.parametrize("terms", [{"maintenance_basis": "entry"}, {"fee_in_margin": "notional", "commission": 0.001}])
@pytest.mark.parametrize("place", [buy, sell])
def test_the_closest_call_under_other_terms_is_the_least_distance_in_price(place, terms):
    seen = []

    def note(strategy):
        mark, price = strategy.data.close[0], strategy.broker.liquidation_price(strategy.data)
        seen.append(abs(mark - price) / mark)

    marks = [100, 96, 104, 93, 107, 99]
    bars = frame([CALM, FLAT_AT[100], *((mark, mark, mark, mark) for mark in marks)])
    strategy = play({1: place(), **dict.fromkeys(range(2, 9), note)}, bars, terms=terms)
    assert strategy.broker.record.closest_call == pytest.approx(min(seen))


# -- slab tiers ----------------------------------------------------------------------------------------------------------


def test_a_short_dies_at_the_edge_where_the_slab_requirement_jumps_over_its_equity():
    # 9 at 100 with 140: at 1 000 / 9 equity is 140 - 100 = 40; 1 % of 1 000 is 10, 5 % is 50
    strategy = play(
        {1: sell(size=9)}, frame([CALM, FLAT_AT[100], (100, 115, 99, 100)]), cash=140, margin_mode="cross", terms={"tiers": SLAB}
    )
    (row,) = strategy.broker.record.liquidations
    assert row.mark_price == pytest.approx(1_000 / 9, rel=1e-12)
    assert strategy.broker.equity == pytest.approx(40)


def test_a_slab_position_that_stays_below_the_edge_lives():
    bars = frame([CALM, FLAT_AT[100], (100, 111, 99, 100)])
    strategy = play({1: sell(size=9)}, bars, cash=140, margin_mode="cross", terms={"tiers": SLAB})
    assert strategy.broker.record.liquidations == []


def test_a_slab_requirement_can_jump_over_a_long_that_is_earning():
    table = TierTable.from_rows([(1_000, 0.01, 50), (None, 0.45, 2)], mode="slab")
    # 9 at 100 with 100 at 20x: at the edge equity is 200, and 45 % of 1 000 is 450
    bars = frame([CALM, FLAT_AT[100], (100, 115, 99, 114)])
    strategy = play({1: buy(size=9)}, bars, cash=100, margin_mode="cross", terms={"tiers": table, "leverage": 20})
    (row,) = strategy.broker.record.liquidations
    assert (row.mark_price, row.certainty) == (pytest.approx(1_000 / 9, rel=1e-12), "certain")
    assert strategy.broker.equity == pytest.approx(200)
    assert strategy.broker.record.closest_call == 0


def test_a_bar_that_is_safe_at_both_ends_is_walked_where_a_jump_between_them_may_fail():
    table = TierTable.from_rows([(1_000, 0.01, 50), (None, 0.3, 3)], mode="slab")
    # 9 at 100 with 150: at 125 equity is 375 and 30 % of 1 125 are 337.5; at the edge it is 250, and 30 % of 1 000 are 300
    strategy = play(
        {1: buy(size=9)}, frame([CALM, FLAT_AT[100], (100, 125, 100, 125)]), cash=150, margin_mode="cross", terms={"tiers": table}
    )
    (row,) = strategy.broker.record.liquidations
    assert row.mark_price == pytest.approx(1_000 / 9, rel=1e-12)
    assert strategy.broker.equity == pytest.approx(250)


STEEP = TierTable.from_rows([(1_000, 0.01, 50), (None, 0.3, 3)], mode="slab")


@pytest.mark.parametrize(("high", "closest"), [(110, (1_000 / 9 - 110) / 110), (111, (1_000 / 9 - 111) / 111)])
def test_the_closest_call_of_a_slab_long_may_be_on_its_way_up(high, closest):
    # 9 at 100 with 90: past the edge at 111.11 equity is 190 and 300 are maintained; below, it fails at 810 / 8.91 = 90.91
    bars = frame([CALM, FLAT_AT[100], (100, 110, 100, 110), (110, high, 109, 110)])
    shown = []
    strategy = play({1: buy(size=9), 2: note_price(shown), 3: note_price(shown)}, bars, terms={"tiers": STEEP})
    assert shown == [pytest.approx(810 / 8.91), pytest.approx(1_000 / 9)]
    assert strategy.broker.record.liquidations == []
    assert strategy.broker.record.closest_call == pytest.approx(closest)
    assert Result(strategy).positions["liquidation_price"].tolist() == [shown[0], shown[1], shown[1]]


def note_price(shown):
    return lambda strategy: shown.append(strategy.broker.liquidation_price(strategy.data))


def test_tiers_that_count_contracts_do_not_move_with_the_price():
    table = TierTable.from_rows([(10, 0.01, 50), (100, 0.05, 20)], mode="slab", unit="contracts")
    bars = frame([CALM, FLAT_AT[100], (100, 130, 99, 120)])
    small = play({1: sell(size=10)}, bars, cash=500, margin_mode="cross", terms={"tiers": table})
    large = play({1: sell(size=11)}, bars, cash=500, margin_mode="cross", terms={"tiers": table})
    assert small.broker.maintenance_margin() == pytest.approx(10 * 120 * 0.01)
    assert large.broker.maintenance_margin() == pytest.approx(11 * 120 * 0.05)


def test_an_opening_beyond_the_contracts_that_its_leverage_allows_is_refused():
    table = TierTable.from_rows([(10, 0.01, 50), (100, 0.05, 5)], mode="slab", unit="contracts")
    strategy = play({1: buy(size=11)}, frame([CALM] * 3), terms={"tiers": table})
    ((status, _, _, _, info),) = strategy.orders.values()
    assert (status, info["max_size"]) == ("Margin", pytest.approx(10))
    assert "a size in its tiers' contracts of 11 would pass the 10 that its tiers allow at 10x" in info["message"]


def test_a_fill_that_lifts_a_cross_position_into_a_dearer_slab_is_followed_by_the_test():
    table = TierTable.from_rows([(10, 0.01, 50), (100, 0.3, 2)], mode="slab", unit="contracts")
    # 10 and then 1 more at 2x would need 550 of margin and maintain 330; at 20x the second is refused, at 2x it is not
    script = {1: buy(size=10), 2: buy(size=1)}
    strategy = play(script, frame([FLAT_AT[100]] * 5), cash=600, margin_mode="cross", terms={"tiers": table, "leverage": 2})
    assert strategy.broker.maintenance_margin() == pytest.approx(330)
    assert strategy.broker.record.liquidations == []


# -- the screen ----------------------------------------------------------------------------------------------------------

KINDS_OF_TERMS = {
    "inverse": INVERSE,
    "inverse slab at entry": {**INVERSE, "tiers": TierTable.from_rows([(10, 0.01, 50), (None, 0.05, 20)], mode="slab", unit="base")},
    "slab": {"tiers": SLAB},
    "contracts": {"tiers": TierTable.from_rows([(10, 0.01, 50), (100, 0.05, 20)], unit="contracts")},
    "at entry": {"maintenance_basis": "entry"},
    "notional fee": {"fee_in_margin": "notional", "commission": 0.001},
    "bankruptcy fee": {"fee_in_margin": "bankruptcy", "commission": 0.001},
}


def two_exits(strategy):
    target = strategy.sell(size=1, exectype=bt.Order.Limit, price=104)
    strategy.sell(size=1, exectype=bt.Order.Stop, price=96, oco=target)


@pytest.mark.parametrize("mode", ["cross", "isolated"])
@pytest.mark.parametrize("kind", KINDS_OF_TERMS)
def test_a_bar_without_danger_takes_its_fills_in_the_hosts_order_under_all_terms(kind, mode):
    # 1 at 100 and 1x: nothing between 95 and 105 is near its maintenance; the adverse path would meet the stop first
    terms = {"leverage": 1, **KINDS_OF_TERMS[kind]}
    bars = frame([CALM, FLAT_AT[100], (100, 105, 95, 100), CALM])
    strategy = play({1: buy(), 2: two_exits}, bars, margin_mode=mode, terms=terms)
    assert [row.price for row in strategy.broker.record.fills] == [100, 104]
    assert strategy.broker.record.walked_bars == 0


@pytest.mark.parametrize("mode", ["cross", "isolated"])
@pytest.mark.parametrize("kind", KINDS_OF_TERMS)
def test_a_bar_that_an_addition_may_fail_on_is_walked_under_all_terms(kind, mode):
    # 1 at 100 and 10x with all that is there behind it: the addition stands at 95 and fails on the way to 80
    terms = {"leverage": 10, **KINDS_OF_TERMS[kind]}
    cash = 0.0025 if "inverse" in kind else 25
    bars = frame([CALM, FLAT_AT[100], (100, 101, 80, 81)])
    script = {1: buy(), 2: buy(exectype=bt.Order.Limit, price=95)}
    strategy = play(script, bars, margin_mode=mode, cash=cash if mode == "cross" else 1_000, terms=terms)
    assert [row.trigger for row in strategy.broker.record.liquidations] == ["path"]


def test_a_slab_position_does_not_drag_the_orders_of_another_contract_off_the_hosts_order():
    def three(strategy):
        strategy.buy(data=strategy.datas[0], size=1)
        strategy.buy(data=strategy.datas[1], size=1)

    wide = frame([CALM, FLAT_AT[100], (100, 105, 95, 100), CALM])
    calm = frame([CALM, FLAT_AT[100], CALM, CALM])
    strategy = play_apart({1: three, 2: two_exits}, (wide, {"leverage": 1}), (calm, {"leverage": 1, "tiers": SLAB}))
    assert [row.price for row in strategy.broker.record.fills] == [100, 100, 104]
    assert strategy.broker.record.walked_bars == 0


# -- margin terms --------------------------------------------------------------------------------------------------------


def dies_at(bars, **terms):
    strategy = play({1: buy()}, bars, terms=terms)
    return [row.mark_price for row in strategy.broker.record.liquidations]


WICK = frame([CALM, FLAT_AT[100], (100, 101, 80, 99)])


def test_maintenance_at_entry_stays_what_it_was():
    assert dies_at(WICK, maintenance_basis="entry") == [pytest.approx(91)]  # 10 + p - 100 = 1


def test_a_closing_fee_of_the_notional_raises_what_is_maintained():
    only_there = MarginTerms("mark", "notional", fee_in_initial=False)
    assert dies_at(WICK, margin_terms=only_there, commission=0.001) == [pytest.approx(90 / 0.989)]  # 10 + p - 100 = 0.011 p


def test_a_closing_fee_of_the_notional_that_initial_margin_keeps_is_money_of_the_position():
    terms = {"fee_in_margin": "notional", "commission": 0.001}
    strategy = play({1: buy()}, frame([FLAT_AT[100]] * 3), terms=terms)
    assert strategy.broker.account.wallets["wallet:AAA"] == pytest.approx(10 + 0.1)
    assert dies_at(WICK, **terms) == [pytest.approx(89.9 / 0.989)]  # 10.1 + p - 100 = 0.011 p


def test_a_closing_fee_at_bankruptcy_cancels_out_of_the_liquidation_price():
    assert dies_at(WICK, fee_in_margin="bankruptcy", commission=0.001) == [pytest.approx(90 / 0.99)]


def test_the_closing_fee_at_bankruptcy_is_kept_and_charged_only_when_it_falls_due():
    terms = {"fee_in_margin": "bankruptcy", "commission": 0.001}
    strategy = play({1: buy(), 3: close}, frame([FLAT_AT[100]] * 5), terms=terms)
    kept = 100 * 0.9 * 0.001
    assert strategy.cash[1] == pytest.approx(1_000 - 10 - kept - 0.1)  # margin, closing fee, opening fee paid
    assert strategy.broker.record.column("equity")[2] == pytest.approx(1_000 - 0.1)
    assert strategy.broker.record.column("maintenance_margin")[2] == pytest.approx(1 + kept)
    assert strategy.broker.equity == pytest.approx(1_000 - 0.2)
    assert strategy.broker.account.wallets["wallet:AAA"] == 0


@pytest.mark.parametrize(("cash", "status"), [(10.189, "Margin"), (10.191, "Completed")])
def test_an_order_needs_its_closing_fee_too_where_initial_margin_keeps_it(cash, status):
    terms = {"fee_in_margin": "bankruptcy", "commission": 0.001}
    strategy = play({1: buy()}, frame([FLAT_AT[100]] * 3), cash=cash, terms=terms)
    assert [outcome for outcome, *_ in strategy.orders.values()] == [status]  # 10 + 0.09 + 0.1


def test_forfeit_takes_over_at_the_bankruptcy_price_and_keeps_the_fee_that_was_set_aside():
    terms = {"fee_in_margin": "bankruptcy", "commission": 0.001, "profile": "forfeit"}
    strategy = play({1: buy()}, WICK, terms=terms)
    (row,) = strategy.broker.record.liquidations
    assert row.price == pytest.approx(90)
    assert row.to_insurance_fund == pytest.approx(90 / 0.99 - 90 + 0.09)
    assert row.forfeited == pytest.approx(0.09)
    assert strategy.broker.equity == pytest.approx(1_000 - 10 - 0.09 - 0.1)


def test_a_resting_order_reserves_its_closing_fee_too_and_anew_at_another_leverage():
    def lever(strategy):
        strategy.broker.set_leverage(strategy.data, 5)

    terms = {"fee_in_margin": "bankruptcy", "commission": 0.001}
    script = {1: sell(exectype=bt.Order.Limit, price=110), 3: lever}
    strategy = play(script, frame([FLAT_AT[100]] * 5), terms=terms)
    reserved = [110 / leverage + 110 * (1 + 1 / leverage) * 0.001 + 110 * 0.001 for leverage in (10, 5)]
    assert strategy.cash == [1_000, *(pytest.approx(1_000 - reserved[number]) for number in (0, 0, 1, 1))]


@pytest.mark.parametrize(
    "given", [(), "entry", ((0.0, "entry"),), ((5.0, MarginTerms()), (1.0, MarginTerms("entry"))), (MarginTerms(),)]
)  # fmt: skip
def test_margin_terms_that_are_none_are_refused(given):
    with pytest.raises(ValueError, match=r"margin_terms is a MarginTerms, or .* pairs in rising order"):
        PerpCommInfo(margin_terms=given)


def test_fees_that_only_maintenance_keeps_are_not_asked_of_an_order():
    terms = {"margin_terms": MarginTerms("mark", "notional", fee_in_initial=False), "commission": 0.001}
    strategy = play({1: buy()}, frame([FLAT_AT[100]] * 3), cash=10.11, terms=terms)  # 10 + 0.1
    assert [outcome for outcome, *_ in strategy.orders.values()] == ["Completed"]


def test_margin_terms_of_a_date_come_into_force_on_the_bar_that_opens_then():
    day = pd.Timestamp("2024-01-01 03:00", tz="UTC").timestamp()
    dated = ((float("-inf"), MarginTerms("entry")), (day, MarginTerms("mark")))
    wick = (100, 101, 90.95, 100)  # 91 at entry, 90.909 at mark; the second bar opens at 02:00
    assert dies_at(frame([CALM, wick]), margin_terms=dated) == [pytest.approx(91)]
    assert dies_at(frame([CALM, FLAT_AT[100], wick]), margin_terms=dated) == []


def test_initial_margin_in_cross_is_at_entry_where_maintenance_is():
    strategy = play(
        {1: buy(size=10)}, frame([FLAT_AT[100], FLAT_AT[100], FLAT_AT[120]]), margin_mode="cross", terms={"maintenance_basis": "entry"}
    )
    broker = strategy.broker
    assert (broker.initial_margin(), broker.maintenance_margin()) == (pytest.approx(100), pytest.approx(10))
    assert broker.getcash() == pytest.approx(1_000 + 200 - 100)


def test_leverage_whose_margin_the_kept_fee_would_use_up_is_refused():
    terms = {"leverage": 50, "commission": 0.01}
    with pytest.raises(ValueError, match=r"leverage 50 is not possible, maintenance and the fee kept with it, 0\.02"):
        play({}, frame([CALM] * 2), terms={**terms, "margin_terms": MarginTerms("mark", "notional", fee_in_initial=False)})
    strategy = play({1: buy()}, frame([FLAT_AT[100]] * 3), terms={**terms, "fee_in_margin": "notional"})
    assert strategy.position.size == 1  # 2 of margin and 1 of fee, against 1 + 1 of maintenance


def test_a_leverage_that_would_be_liquidated_at_its_own_fill_is_refused_when_it_is_set():
    refused = []

    def lever(strategy):
        for leverage in (100, 90):
            try:
                strategy.broker.set_leverage(strategy.data, leverage)
            except ValueError as error:
                refused.append(str(error))
        strategy.buy()

    terms = {"tiers": 0.005, "commission": 0.006, "margin_terms": MarginTerms("mark", "notional", fee_in_initial=False)}
    strategy = play({1: lever}, frame([FLAT_AT[100]] * 4), terms=terms)
    assert [said.split(", must")[0] for said in refused] == [
        "AAA: leverage 100 is not possible, maintenance and the fee kept with it, 0.011 of notional"
    ]
    assert (strategy.position.size, strategy.broker.record.liquidations) == (1, [])  # 1.11 of margin against 0.5 + 0.6


def test_raising_leverage_leaves_a_position_with_a_closing_fee_where_it_dies():
    def lever(strategy):
        strategy.broker.set_leverage(strategy.data, 50)

    terms = {"fee_in_margin": "bankruptcy", "commission": 0.001}
    for script in ({1: buy()}, {1: buy(), 2: lever}):
        bars = frame([CALM, FLAT_AT[100], CALM, (100, 101, 80, 100)])
        (row,) = play(script, bars, terms=terms).broker.record.liquidations
        assert row.mark_price == pytest.approx(90 / 0.99)


def test_a_result_knows_which_closing_fee_was_set_aside_at_each_bar():
    def lever(strategy):
        strategy.broker.set_leverage(strategy.data, 50)

    terms = {"fee_in_margin": "bankruptcy", "commission": 0.001}
    bars = frame([FLAT_AT[100]] * 3 + [(102,) * 4] * 2)
    result = Result.of(play({1: buy(), 2: lever, 3: buy()}, bars, terms=terms))  # at another leverage, and then at another entry
    assert list(result.positions["liquidation_price"][:2]) == pytest.approx([90 / 0.99] * 2)
    assert result.positions["entry_price"].iloc[-1] == 101


# -- absurd terms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leverage", ["10", None, True, float("nan"), float("inf"), 0.5, [10]])
def test_a_leverage_that_is_no_number_of_1_or_more_is_refused_wherever_it_is_given(leverage):
    sentence = re.escape(f"leverage is a finite number of 1 or more, was {leverage!r}")
    with pytest.raises(ValueError, match=sentence):
        PerpCommInfo(leverage=leverage)
    with pytest.raises(ValueError, match=f"AAA: {sentence}"):
        play({1: lambda strategy: strategy.broker.set_leverage(strategy.data, leverage)}, frame([CALM] * 3))


@pytest.mark.parametrize(
    ("name", "value"),
    [("mult", "1"), ("mult", None), ("commission", "x"), ("commission", None), ("maker", True), ("lot", "0.1"), ("liquidation_fee", None)],
)
def test_a_param_that_is_no_number_is_refused(name, value):
    with pytest.raises(ValueError, match=re.escape(f"{name} is a finite number, was {value!r}")):
        PerpCommInfo(**{name: value})


def test_a_currency_that_is_no_name_is_refused():
    with pytest.raises(ValueError, match="currency is a name such as 'USDT', or None to read it from the symbol, was 7"):
        PerpCommInfo(currency=7)


# -- spot ----------------------------------------------------------------------------------------------------------------


def test_spot_is_paid_in_full_and_its_value_counts():
    strategy = play_apart({1: on(0, buy, size=4)}, (frame([FLAT_AT[100], FLAT_AT[100], FLAT_AT[150]]), SPOT))
    broker = strategy.broker
    assert broker.getcash() == 1_000 - 400
    assert broker.getvalue() == 1_000 + 4 * 50
    assert broker.maintenance_margin() == 0
    assert broker.liquidation_price(strategy.data) is None


def test_spot_survives_any_fall():
    strategy = play_apart({1: on(0, buy, size=10)}, (frame([FLAT_AT[100], FLAT_AT[100], (100, 100, 0.01, 0.01)]), SPOT))
    assert strategy.broker.record.liquidations == []
    assert strategy.broker.equity == pytest.approx(0.1)


def test_spot_cannot_be_bought_on_credit_nor_sold_short():
    script = {1: on(0, buy, size=11), 2: on(0, sell, size=1)}
    strategy = play_apart(script, (frame([FLAT_AT[100]] * 4), SPOT))
    credit, short = strategy.orders.values()
    assert (credit[0], credit[4]["needed"], credit[4]["max_size"]) == ("Margin", 1_100, 10)
    assert (short[0], short[4]["max_size"]) == ("Margin", 0)
    assert "spot cannot be sold short" in short[4]["message"]


def test_spot_bought_beside_a_perpetual_that_earns_is_paid_with_money_that_is_there():
    # 50 at 100, of 1 000; at 125 1 250 are earned and 1 625 available, and then the profit goes
    perp = frame([FLAT_AT[100], FLAT_AT[100], (100, 125, 100, 125), FLAT_AT[125], (125, 125, 105, 105), (105, 105, 105, 105)])
    spot = frame([FLAT_AT[100]] * 6)
    terms = {"commission": 0.0}
    script = {1: on(0, buy, size=50), 3: both(on(1, buy, size=12), on(1, buy, size=10)), 5: lambda s: s.close(s.data0)}
    strategy = play_apart(script, (perp, terms), (spot, SPOT))
    refused = list(strategy.orders.values())[1]
    assert (refused[0], refused[4]["needed"], refused[4]["available"], refused[4]["max_size"]) == ("Margin", 1_200, 1_000, 10)
    assert strategy.broker.getposition(strategy.datas[1]).size == 10
    assert strategy.broker.account.free_cash == 50 * 5


def test_the_profile_of_spot_does_not_count():
    bars = frame([CALM] * 2)
    strategy = play_apart({}, (bars, {"profile": "forfeit"}), (bars, SPOT))
    assert strategy.broker.profile.name == "forfeit"
    alone = play_apart({}, (bars, {**SPOT, "profile": "forfeit"}), (bars, SPOT))
    assert alone.broker.profile.name == "market"
    with pytest.raises(ValueError, match="all contracts of one broker share a liquidation profile, were forfeit, market"):
        play_apart({}, (bars, {"profile": "forfeit"}), (bars, {}))


def test_selling_more_spot_than_is_held_sells_what_is_held():
    strategy = play_apart({1: on(0, buy, size=4), 2: on(0, sell, size=6)}, (frame([FLAT_AT[100]] * 5), SPOT))
    assert strategy.broker.getposition(strategy.data).size == 0
    assert [row.size for row in strategy.broker.record.fills] == [4, -4]


def test_spot_pays_no_funding():
    bars = frame([FLAT_AT[100]] * 4, start="2024-01-01 06:00")
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(check=True)
    cerebro.broker.addcommissioninfo(PerpCommInfo(kind="spot"))
    cerebro.adddata(PerpData(dataname=bars, name="AAA", funding=0.001))
    cerebro.addstrategy(Script, script={1: buy()})
    assert cerebro.run()[0].broker.record.funding == []


def test_funding_stamps_given_for_spot_are_refused():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker()
    cerebro.broker.addcommissioninfo(PerpCommInfo(kind="spot"))
    cerebro.adddata(PerpData(dataname=frame([CALM] * 12), name="AAA", funding=rate_column(d0108=0.01)))
    with pytest.raises(ValueError, match="AAA: spot pays no funding, 1 stamps were given"):
        cerebro.run()


def test_spot_beside_a_short_keeps_it_alive_and_the_short_alone_dies():
    rally = frame([FLAT_AT[100], FLAT_AT[100], (100, 300, 100, 300)])
    hedged = play_apart({1: both(on(0, sell, size=1), on(1, buy, size=1))}, (rally, {}), (rally, SPOT), cash=150)
    alone = play_apart({1: on(0, sell, size=1)}, (rally, {}), (rally, SPOT), cash=150)
    assert hedged.broker.record.liquidations == []
    assert hedged.broker.equity == 150
    assert hedged.broker.margin_ratio() == pytest.approx(3 / 150)
    assert [row.mark_price for row in alone.broker.record.liquidations] == [pytest.approx(250 / 1.01)]  # 150 + 100 - p = 0.01 p


def test_a_short_that_outgrows_its_spot_goes_first_and_then_as_much_of_the_spot_as_it_has_lost():
    # 3 short and 1 of spot with 250: equity is 250 - 2 d at 100 + d, maintenance 3 % of the price
    rise = (250 - 3) / 2.03
    price = 100 + rise
    bars = frame([FLAT_AT[100], FLAT_AT[100], FLAT_AT[200], (218, 230, 218, 230)])
    strategy = play_apart({1: both(on(0, sell, size=3), on(1, buy, size=1))}, (bars, {}), (bars, SPOT), cash=250)
    short, spot = strategy.broker.record.liquidations
    owed = 3 * rise - 250 + 100  # lost, less what there was, and the coin had taken 100 of that
    assert (short.symbol, short.mark_price) == ("AAA", pytest.approx(price))
    assert (spot.symbol, spot.size, spot.price) == ("BBB", pytest.approx(owed / price), pytest.approx(price))
    assert strategy.broker.account.free_cash == pytest.approx(0, abs=1e-9)
    assert strategy.broker.equity == pytest.approx((1 - owed / price) * 230)


def test_isolated_margin_is_money_that_spot_has_not_been_bought_with():
    bars = frame([FLAT_AT[100]] * 4)
    script = {1: on(1, buy, size=9), 2: on(0, buy, size=11)}
    strategy = play_apart(script, (bars, {"margin_mode": "isolated"}), (bars, {**SPOT, "margin_mode": "cross"}))
    refused = list(strategy.orders.values())[1]
    assert (refused[0], refused[4]["available"]) == ("Margin", 100)


def test_spot_that_a_lost_perpetual_has_left_on_credit_has_a_liquidation_price():
    # 8 of spot at 100 with 1 000, and 10 long that lose 300: 700 are left for 800 of spot, which 8 p - 100 = 0 tells at 12.5
    seen = []

    def look(strategy):
        broker, spot = strategy.broker, strategy.datas[1]
        seen.append((broker.account.free_cash, broker.liquidation_price(spot), broker.bankruptcy_price(spot)))

    def both(strategy):
        strategy.buy(data=strategy.datas[1], size=8)
        strategy.buy(data=strategy.datas[0], size=10)

    perp = frame([CALM, FLAT_AT[100], (70,) * 4, (70,) * 4, (70,) * 4])
    coin = frame([CALM, FLAT_AT[100], FLAT_AT[100], FLAT_AT[100], (100, 100, 12, 12)])
    strategy = play_apart({1: both, 3: close, 4: look}, (perp, {}), (coin, SPOT))
    assert seen == [(pytest.approx(-100), pytest.approx(12.5), pytest.approx(12.5))]
    frames = Result(strategy).positions
    assert frames[frames["symbol"] == "BBB"]["liquidation_price"].tolist()[-1] == pytest.approx(12.5)
    (row,) = strategy.broker.record.liquidations
    assert (row.symbol, row.mark_price) == ("BBB", pytest.approx(12.5))


def test_spot_that_is_paid_for_has_no_liquidation_price():
    seen = []

    def look(strategy):
        seen.append((strategy.broker.liquidation_price(strategy.data), strategy.broker.bankruptcy_price(strategy.data)))

    play({1: buy(size=10), 2: look}, frame([CALM, FLAT_AT[100], FLAT_AT[100]]), cash=1_000, margin_mode="cross", terms=SPOT)
    assert seen == [(None, None)]


def test_spot_in_a_wallet_of_its_own_is_no_collateral():
    rally = frame([FLAT_AT[100], FLAT_AT[100], (100, 300, 100, 300)])
    script = {1: both(on(0, sell, size=1), on(1, buy, size=1))}
    strategy = play_apart(script, (rally, {}), (rally, {**SPOT, "margin_mode": "isolated"}), cash=250)
    (row,) = strategy.broker.record.liquidations
    assert (row.symbol, row.mark_price) == ("AAA", pytest.approx(250 / 1.01))
    assert strategy.broker.getposition(strategy.datas[1]).size == 1


def test_forfeit_sells_the_spot_that_backs_a_failed_short():
    bars = frame([FLAT_AT[100], FLAT_AT[100], (100, 230, 100, 230)])
    terms = {"profile": "forfeit"}
    strategy = play_apart({1: both(on(0, sell, size=3), on(1, buy, size=1))}, (bars, terms), (bars, {**SPOT, **terms}), cash=250)
    short, spot = strategy.broker.record.liquidations
    price = 100 + (250 - 3) / 2.03
    assert (short.symbol, spot.symbol, spot.price) == ("AAA", "BBB", pytest.approx(price))
    assert strategy.broker.equity == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("terms", [{"leverage": 2}, {"tiers": 0.01}])
def test_leverage_and_tiers_are_refused_for_spot(terms):
    with pytest.raises(ValueError, match="spot is paid in full"):
        PerpCommInfo(kind="spot", **terms)


def test_the_leverage_of_spot_stays_1():
    def lever(strategy):
        strategy.broker.set_leverage(strategy.data, 3)

    with pytest.raises(ValueError, match="AAA: spot is paid in full, its leverage is 1, was 3"):
        play_apart({1: lever}, (frame([CALM] * 3), SPOT))


# -- one settlement currency ---------------------------------------------------------------------------------------------


def run_contracts(**contracts):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker()
    for name, terms in contracts.items():
        cerebro.broker.addcommissioninfo(PerpCommInfo(**terms), name=name)
        cerebro.adddata(PerpData(dataname=frame([CALM] * 2), name=name))
    return cerebro.run()[0].broker.currency


@pytest.mark.parametrize(
    ("contracts", "currency"),
    [
        ({"BTCUSDT": {}, "ETHUSDT": {"kind": "spot"}}, "USDT"),
        ({"BTCUSD_PERP": {"kind": "inverse"}, "BTCUSD_240329": {"kind": "inverse"}}, "BTC"),
        ({"AAA": {}, "BBB": {}}, None),
        ({"AAA": {}, "BTCUSDT": {}}, "USDT"),
        ({"AAA": {"kind": "inverse"}}, None),
        ({"AAA": {"kind": "inverse", "currency": "ETH"}, "ETHUSD": {"kind": "inverse"}}, "ETH"),
        ({"BTCUSD": {}, "BNBUSD": {}, "ARBUSD": {}}, "USD"),
        ({"XBTUSD": {"kind": "inverse"}, "BTCUSD": {"kind": "inverse"}}, "BTC"),
    ],
)
def test_contracts_of_one_currency_share_a_broker(contracts, currency):
    assert run_contracts(**contracts) == currency


@pytest.mark.parametrize(
    "contracts",
    [
        {"BTCUSD": {"kind": "inverse"}, "ETHUSD": {"kind": "inverse"}},
        {"BTCUSDT": {}, "BTCUSD": {"kind": "inverse"}},
        {"BTCUSDT": {}, "BTCUSDC": {}},
        {"AAA": {"kind": "inverse"}, "BBB": {"kind": "inverse"}},
        {"BTCUSD": {"kind": "inverse"}, "BTCUSDT": {"kind": "spot"}},
        {"AAA": {}, "BBB": {"currency": "USDT"}, "CCC": {"currency": "USDC"}},
        {"BTCUSDT": {}, "ETHBTC": {"kind": "spot"}},
        {"BTCUSDT": {}, "BTCEUR": {"kind": "spot"}},
    ],
)
def test_contracts_of_different_currencies_are_refused(contracts):
    with pytest.raises(ValueError, match=r"one broker has one settlement currency: .* settles in .*; give each its own run"):
        run_contracts(**contracts)


# -- what a result says --------------------------------------------------------------------------------------------------


def test_a_result_names_what_sets_its_contracts_apart():
    bars = frame([CALM, FLAT_AT[100], FLAT_AT[125]])
    strategy = play_inverse({1: buy(size=1_000)}, bars, terms={"maintenance_basis": "entry", "fee_in_margin": "bankruptcy"})
    result = Result.of(strategy)
    assert {
        "inverse, all money in BTC: AAA",
        "maintenance of the notional at entry: AAA",
        "closing fee kept in margin (bankruptcy): AAA",
    } <= set(result.summary["flags"])
    assert (result.settings["currency"], result.settings["kind"]) == ("BTC", {"AAA": "inverse"})
    assert result.equity["notional"].iloc[-1] == 8
    assert result.equity["effective_leverage"].iloc[-1] == pytest.approx(8 / 12)


@pytest.mark.parametrize("mode", ["cross", "isolated"])
@pytest.mark.parametrize(
    "terms",
    [
        INVERSE,
        {"tiers": SLAB},
        {"tiers": TierTable.from_rows([(1, 0.01, 50), (None, 0.02, 20)], unit="base")},
        {"maintenance_basis": "entry"},
        {"fee_in_margin": "bankruptcy", "commission": 0.001},
        {"fee_in_margin": "notional", "commission": 0.001},
    ],
)
@pytest.mark.parametrize("place", [buy, sell])
def test_the_positions_of_a_result_have_the_liquidation_prices_of_the_broker(mode, terms, place):
    seen = []

    def note(strategy):
        seen.append([strategy.broker.liquidation_price(data) for data in strategy.datas])

    bars = frame([CALM, FLAT_AT[100], (100, 104, 98, 103), (103, 104, 98, 99)])
    script = {1: both(on(0, place, size=20), on(1, sell, size=15)), 2: note, 3: note, 4: note}
    strategy = play(script, bars, bars, terms=terms, margin_mode=mode, cash=1_000)
    prices = Result.of(strategy).positions["liquidation_price"].to_numpy().reshape(-1, 2)
    for told, row in zip(seen, prices, strict=True):
        assert list(row) == [
            pytest.approx(price, nan_ok=True) if price is not None else pytest.approx(float("nan"), nan_ok=True) for price in told
        ]
