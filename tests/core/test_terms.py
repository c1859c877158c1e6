"""Contracts of every kind, margin terms, order cost, funding rates and collateral."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_margin.core.collateral import collateral_value
from bt_margin.core.contract import Contract, average_entry, break_even_price, notional, unrealized_pnl
from bt_margin.core.orders import assumed_price, order_cost, order_margin
from bt_margin.core.premium import average_premium, funding_rate, impact_notional, premium_index
from bt_margin.core.terms import Holding, MarginTerms, margin_ratios
from bt_margin.core.tiers import TierTable

FLAT = TierTable.flat(0.01)
sizes = st.floats(0.1, 1_000).flatmap(lambda size: st.sampled_from((size, -size)))
prices = st.floats(1, 1e5)


# Contracts


@pytest.mark.parametrize("kind", ["linear", "inverse", "spot"])
@given(size=sizes, entry=prices, mark=prices)
def test_a_contract_reckons_as_the_pure_functions_do(kind, size, entry, mark):
    contract = Contract("X", multiplier=10, kind=kind)
    terms = {"size": size, "multiplier": 10, "kind": kind}
    assert contract.notional(size, mark) == notional(price=mark, **terms)
    assert contract.unrealized_pnl(size=size, entry_price=entry, mark_price=mark) == unrealized_pnl(
        entry_price=entry, mark_price=mark, **terms
    )


def test_an_unknown_kind_of_contract_is_refused():
    with pytest.raises(ValueError, match="X: a contract is 'linear', 'inverse' or 'spot', was 'quanto'"):
        Contract("X", kind="quanto")


@pytest.mark.parametrize("kind", ["linear", "inverse"])
@given(first=st.floats(0.1, 100), second=st.floats(0.1, 100), one=prices, two=prices, mark=prices, side=st.sampled_from((1, -1)))
def test_two_entries_earn_what_their_average_does(kind, first, second, one, two, mark, side):
    entry = average_entry(size=side * first, entry_price=one, added=side * second, price=two, kind=kind)
    apart = sum(
        unrealized_pnl(size=side * size, entry_price=price, mark_price=mark, kind=kind) for size, price in ((first, one), (second, two))
    )
    together = unrealized_pnl(size=side * (first + second), entry_price=entry, mark_price=mark, kind=kind)
    gross = sum(notional(size=first + second, price=price, kind=kind) for price in (one, two, mark))
    assert together == pytest.approx(apart, rel=1e-9, abs=1e-9 * gross)


def test_the_first_entry_of_an_inverse_position_is_its_price():
    assert average_entry(size=0, entry_price=0, added=5, price=123, kind="inverse") == 123


@pytest.mark.parametrize("kind", ["linear", "inverse"])
@given(size=sizes, entry=prices, opening=st.floats(0, 0.002), closing=st.floats(0, 0.002))
def test_at_the_break_even_price_the_profit_has_paid_the_fees(kind, size, entry, opening, closing):
    price = break_even_price(size=size, entry_price=entry, opening_rate=opening, closing_rate=closing, kind=kind)
    profit = unrealized_pnl(size=size, entry_price=entry, mark_price=price, kind=kind)
    fees = opening * notional(size=size, price=entry, kind=kind) + closing * notional(size=size, price=price, kind=kind)
    assert profit == pytest.approx(fees, abs=1e-9 * notional(size=size, price=entry, kind=kind))


# Margin terms


def test_maintenance_at_entry_stays_and_at_mark_moves():
    at_mark, at_entry = (Holding(10, 100, FLAT, leverage=5, terms=MarginTerms(basis)) for basis in ("mark", "entry"))
    assert (at_mark.maintenance_margin(120), at_entry.maintenance_margin(120)) == (12, 10)
    assert (at_mark.initial_margin(120), at_entry.initial_margin(120)) == (240, 200)


def test_a_fee_on_notional_is_in_maintenance_and_where_the_venue_says_so_in_initial():
    both, maintenance_only = (
        Holding(-10, 100, FLAT, leverage=5, taker=0.001, terms=MarginTerms(fee_in_margin="notional", fee_in_initial=keeps))
        for keeps in (True, False)
    )
    assert both.maintenance_margin(110) == pytest.approx(11 + 1.1)
    assert both.initial_margin(110) == pytest.approx(220 + 1.1)
    assert maintenance_only.initial_margin(110) == 220


def test_a_fee_at_bankruptcy_moves_with_the_mark_in_cross_and_is_fixed_at_entry_in_isolated():
    terms = MarginTerms(fee_in_margin="bankruptcy")
    cross, alone = (Holding(10, 100, FLAT, leverage=5, taker=0.001, is_isolated=own, terms=terms) for own in (False, True))
    assert cross.maintenance_margin(110) == pytest.approx(11 + 0.001 * 1_100 * 0.8)
    assert alone.maintenance_margin(110) == pytest.approx(11 + 0.001 * 1_000 * 0.8)
    assert alone.initial_margin(110) == pytest.approx(200 + 0.001 * 1_000 * 0.8)
    assert (cross.reserved_fee, alone.reserved_fee) == (0, pytest.approx(0.8))


def test_the_share_at_bankruptcy_is_of_the_side_and_the_kind():
    shares = [Holding(size, 100, FLAT, kind, leverage=5).bankruptcy_share for kind in ("linear", "inverse") for size in (1, -1)]
    assert shares == [0.8, 1.2, 1.2, 0.8]


def test_a_rebate_takes_nothing_off_margin():
    assert Holding(10, 100, FLAT, taker=-0.001, terms=MarginTerms(fee_in_margin="notional")).maintenance_margin(100) == 10


def test_a_lone_tiers_amount_is_money_whatever_its_unit():
    table = TierTable.supplied(TierTable.from_rows([(None, 0.02, 10)], unit="contracts").tiers, [3], unit="contracts")
    assert Holding(10, 100, table, multiplier=2).maintenance_margin(100) == pytest.approx(2_000 * 0.02 - 3)


@pytest.mark.parametrize("unit", ["quote", "base", "contracts"])
@pytest.mark.parametrize("mode", ["marginal", "slab"])
@pytest.mark.parametrize("kind", ["linear", "inverse"])
def test_brackets_of_the_notional_say_what_maintenance_is(unit, mode, kind):
    caps = {"quote": 900.0, "base": 9.0, "contracts": 4.5}
    table = TierTable.from_rows([(caps[unit], 0.01, 50), (None, 0.03, 20)], mode=mode, unit=unit)
    held = Holding(5 if kind == "linear" else 500, 100, table, kind, 2, 10, 0.001, terms=MarginTerms(fee_in_margin="notional"))
    for price in (60, 89, 91, 130):
        worth = held.notional(price)
        row = next(row for row in held.brackets() if worth <= row.cap)
        assert worth * row.rate - row.amount == pytest.approx(held.maintenance_margin(price))


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [({"maintenance_basis": "last"}, "maintenance_basis is 'mark' or 'entry', was 'last'"), ({"fee_in_margin": "all"}, "fee_in_margin is")],
)
def test_unknown_terms_are_refused(terms, sentence):
    with pytest.raises(ValueError, match=sentence):
        MarginTerms(**terms)


@pytest.mark.parametrize("wrong", [{"size": -1}, {"leverage": 2}, {"table": FLAT}])
def test_spot_is_held_long_in_full_and_without_tiers(wrong):
    with pytest.raises(ValueError, match="spot is held long"):
        Holding(**{"size": 1, "entry_price": 100, "table": None, "kind": "spot", **wrong})
    assert Holding(1, 100, None, "spot", terms=MarginTerms(fee_in_margin="notional"), taker=0.01).maintenance_margin(50) == 0


def test_a_ratio_without_anything_below_has_no_value():
    flat = margin_ratios(equity=5, initial_margin=0, maintenance_margin=0, notional=0)
    assert flat == {"maintenance/equity": 0, "equity/maintenance": None, "equity/notional": None, "equity/initial": None}
    broke = margin_ratios(equity=-5, initial_margin=10, maintenance_margin=1, notional=100)
    assert broke == {"maintenance/equity": None, "equity/maintenance": -5, "equity/notional": -0.05, "equity/initial": -0.5}


# Orders


def test_a_buy_above_the_mark_and_a_sell_below_it_open_with_a_loss():
    costs = [
        order_cost(size=size, price=price, leverage=10, mark_price=100).open_loss
        for size, price in ((2, 101), (-2, 99), (2, 99), (-2, 101))
    ]
    assert costs == [2, 2, 0, 0]


def test_an_inverse_order_costs_coin():
    cost = order_cost(size=-1_000, price=100, leverage=10, multiplier=2, kind="inverse", mark_price=125, reserved_rate=0.001)
    assert cost.initial_margin == 2
    assert cost.open_loss == pytest.approx(2_000 * (1 / 100 - 1 / 125))
    assert cost.opening_fee == pytest.approx(0.02)
    assert cost.closing_fee == pytest.approx(0.02 * (1 - 1 / 10))
    assert cost.total == pytest.approx(2 + 4 + 0.02 + 0.018)


def test_a_sell_is_margined_by_the_highest_price_it_may_fill_at():
    terms = {"size": -1, "last_price": 100, "buffer": 0.01}
    assert assumed_price(price=90, mark_price=95, **terms) == 101
    assert assumed_price(price=90, mark_price=102, **terms) == 102
    assert assumed_price(price=103, mark_price=102, **terms) == 103
    assert assumed_price(size=1, price=90, mark_price=102, last_price=100) == 90


def test_resting_orders_that_close_need_nothing():
    assert order_margin(bids=[50], asks=[100], position=200, leverage=5) == 10
    assert order_margin(bids=[], asks=[100], position=200, leverage=5) == 0


# Funding rates and collateral


def test_a_premium_is_where_the_book_stands_beside_the_index():
    assert premium_index(impact_bid=101, impact_ask=102, index_price=100) == 0.01
    assert premium_index(impact_bid=98, impact_ask=99, index_price=100) == -0.01
    assert premium_index(impact_bid=99, impact_ask=101, index_price=100) == 0


def test_premiums_are_averaged_plainly_or_with_weight_on_the_late_ones():
    assert average_premium([0.0, 0.003], late_weighs_more=False) == 0.0015
    assert average_premium([0.0, 0.003], late_weighs_more=True) == pytest.approx(0.002)
    with pytest.raises(ValueError, match="at least one sample"):
        average_premium([], late_weighs_more=True)


def test_a_rate_is_capped_either_way():
    assert funding_rate(premium=0.02, cap=0.0075) == 0.0075
    assert funding_rate(premium=-0.02, cap=0.0075) == -0.0075
    assert funding_rate(premium=0.02, cap=inf) == pytest.approx(0.0195)


def test_an_impact_notional_is_the_margin_at_the_highest_leverage():
    assert impact_notional(max_leverage=125) == 25_000


def test_what_is_held_counts_less_and_what_is_owed_more():
    assert collateral_value(balance=10, index_price=2, bid_buffer=0.1, rate=0.5) == pytest.approx(9)
    assert collateral_value(balance=-10, index_price=2, ask_buffer=0.1, rate=0.5) == pytest.approx(-22)
