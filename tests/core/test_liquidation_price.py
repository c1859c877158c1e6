"""The closed form against bisection on the account inequality, and the laws a price must keep."""

from math import inf, nan

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bt_margin import Contract, MarginAccount, TierSchedule, TierTable, bankruptcy_price, liquidation_price
from bt_margin.core.liquidation import (
    account_liquidation_price,
    adl_score,
    fillable_price,
    liquidation_fee,
    shared_bankruptcy_price,
    shared_liquidation_price,
    takeover_price,
)
from bt_margin.core.terms import Holding, MarginTerms

WIDE = TierTable.from_rows([(1_000, 0.004, 125), (20_000, 0.01, 50), (150_000, 0.05, 10), (None, 0.25, 2)])

sizes = st.floats(0.01, 1_000).flatmap(lambda size: st.sampled_from((size, -size)))
prices = st.floats(0.5, 5_000)
leverages = st.floats(1.5, 100)


def headroom(price: float, *, size: float, entry_price: float, collateral: float, table: TierTable) -> float:
    return collateral + size * (price - entry_price) - table.maintenance_margin(abs(size) * price)


@given(size=sizes, entry_price=prices, leverage=leverages)
def test_the_closed_form_equals_bisection(size, entry_price, leverage):
    terms = {"size": size, "entry_price": entry_price, "collateral": abs(size) * entry_price / leverage, "table": WIDE}
    assume(headroom(entry_price, **terms) > 0)
    found = liquidation_price(**terms)

    bad, good = (1e-12, entry_price) if size > 0 else (entry_price * 10, entry_price)
    if headroom(bad, **terms) > 0:
        assert found is None
        return
    for _ in range(200):
        middle = (bad + good) / 2
        bad, good = (middle, good) if headroom(middle, **terms) <= 0 else (bad, middle)
    assert found == pytest.approx(bad, rel=1e-9)


@given(size=sizes, entry_price=prices, leverage=leverages)
def test_bankruptcy_lies_beyond_liquidation(size, entry_price, leverage):
    terms = {"size": size, "entry_price": entry_price, "collateral": abs(size) * entry_price / leverage}
    liquidated, broke = liquidation_price(**terms, table=WIDE), bankruptcy_price(**terms)
    assert broke is None or liquidated is None or (liquidated - broke) * size > 0


@given(size=sizes, entry_price=prices, leverage=leverages, factor=st.floats(0.1, 100))
def test_prices_and_money_times_k_give_a_price_times_k_in_one_tier(size, entry_price, leverage, factor):
    table = TierTable.flat(0.005)
    collateral = abs(size) * entry_price / leverage
    one = liquidation_price(size=size, entry_price=entry_price, collateral=collateral, table=table)
    scaled = liquidation_price(size=size, entry_price=entry_price * factor, collateral=collateral * factor, table=table)
    assert one is not None
    assert scaled == pytest.approx(one * factor, rel=1e-9)


def test_no_positive_price_is_none():
    assert liquidation_price(size=0, entry_price=100, collateral=10, table=WIDE) is None
    assert liquidation_price(size=1, entry_price=100, collateral=100, table=WIDE) is None  # fully paid
    assert bankruptcy_price(size=1, entry_price=100, collateral=100) is None
    assert bankruptcy_price(size=0, entry_price=100, collateral=100) is None


def test_above_the_last_cap_the_last_tier_answers():
    table = TierTable.from_rows([(1_000, 0.01, 50), (2_000, 0.02, 25)])
    price = liquidation_price(size=100, entry_price=100, collateral=1_000, table=table)
    assert price == pytest.approx((10_000 - 1_000 - 10) / (100 * 0.98))


def test_a_multiplier_scales_the_size():
    plain = liquidation_price(size=20, entry_price=100, collateral=200, table=WIDE)
    assert liquidation_price(size=2, entry_price=100, collateral=200, table=WIDE, multiplier=10) == plain


@given(
    positions=st.lists(st.tuples(sizes, prices, st.floats(0.7, 1.4)), min_size=2, max_size=4),
    spare=st.floats(0.02, 3),
)
def test_in_a_shared_wallet_equity_meets_maintenance_at_the_reported_price(positions, spare):
    account, marks, gross = MarginAccount(), {}, 0.0
    for number, (size, entry, move) in enumerate(positions):
        symbol = f"C{number}"
        account.add_contract(Contract(symbol, tiers=TierSchedule.constant(WIDE)), leverage=2, margin_mode="cross")
        marks[symbol] = entry * move
        gross += abs(size) * entry
    account.deposit(gross * spare, time=0)
    for number, (size, entry, _) in enumerate(positions):
        account.apply_fill(f"C{number}", size=size, price=entry, fee_rate=0.0, time=0)
    assume(not account.risk("wallet:cross", marks).is_liquidatable)
    for symbol in marks:
        price = account_liquidation_price(account, symbol, marks)
        if price is not None:
            risk = account.risk("wallet:cross", {**marks, symbol: price})
            assert risk.equity == pytest.approx(risk.maintenance_margin, rel=1e-7, abs=1e-7 * gross)


def test_a_bracket_sequence_serves_as_a_table():
    from bt_margin.core.tiers import Bracket

    price = liquidation_price(size=1, entry_price=100, collateral=10, table=(Bracket(inf, 0.01, 0.5, 50),))
    assert price == pytest.approx((100 - 10 - 0.5) / 0.99)


# Inverse contracts


def test_an_inverse_price_is_solved_in_the_tier_that_holds_it():
    table = TierTable.from_rows([(1, 0.01, 50), (None, 0.03, 20)], unit="base")
    # 60 000 from 50 000 are 1.2 coins and more as the price falls: 0.12 + 60 000 (1/50 000 - 1/p) = 0.03 x 60 000 / p - 0.02
    price = liquidation_price(size=60_000, entry_price=50_000, collateral=0.12, table=table, kind="inverse")
    assert price == pytest.approx(60_000 * 1.03 / (1.2 + 0.12 + 0.02))


def test_quote_tiers_of_an_inverse_contract_are_decided_by_its_size():
    table = TierTable.from_rows([(50_000, 0.01, 50), (None, 0.03, 20)])
    # 60 000 of quote: 1 % on 50 000 and 3 % on 10 000 are 800 / 60 000 of whatever they are worth
    price = liquidation_price(size=60_000, entry_price=50_000, collateral=0.12, table=table, kind="inverse")
    assert price == pytest.approx((60_000 + 800) / (1.2 + 0.12))


def test_a_fully_paid_inverse_short_has_no_price():
    # 1 / 49 is rounded, so that the coin behind the short is not to the last digit what it is worth
    terms = {"size": -49, "entry_price": 49, "collateral": 1.0, "kind": "inverse"}
    assert liquidation_price(**terms, table=TierTable.flat(0.005)) is None
    assert bankruptcy_price(**terms) is None


def test_maintenance_at_entry_is_a_fixed_sum():
    table = TierTable.from_rows([(50, 0.01, 50), (None, 0.02, 25)])
    long = liquidation_price(size=1, entry_price=100, collateral=10, table=table, maintenance_basis="entry", fee_rate=0.001)
    assert long == pytest.approx(100 - (10 - 1.5 - 0.1))
    inverse = {"size": 100, "entry_price": 100, "collateral": 0.1, "kind": "inverse", "table": TierTable.flat(0.02)}
    assert liquidation_price(**inverse, maintenance_basis="entry") == pytest.approx(100 / (1 + 0.1 - 0.02))


def test_a_fee_in_maintenance_adds_to_the_rate():
    terms = {"size": -2, "entry_price": 100, "collateral": 20, "table": TierTable.flat(0.01)}
    assert liquidation_price(**terms, fee_rate=0.001) == pytest.approx(220 / (2 * 1.011))


# Slab tables


SLAB = TierTable.from_rows([(900, 0.01, 50), (1_100, 0.03, 20), (None, 0.08, 10)], mode="slab")


def test_a_short_fails_inside_a_slab_tier_or_just_past_its_edge():
    inside = liquidation_price(size=-10, entry_price=100, collateral=60, table=SLAB)
    assert inside == pytest.approx(1_060 / (10 * 1.03))
    at_edge = liquidation_price(size=-10, entry_price=100, collateral=160, table=SLAB)  # 60 of equity at 110: more than 3 %, less than 8 %
    assert at_edge == pytest.approx(110)
    assert 10 * at_edge > 1_100


STEEP = TierTable.from_rows([(1_000, 0.01, 50), (None, 0.3, 3)], mode="slab")


@pytest.mark.parametrize(
    ("mark_price", "expected"),
    [
        (100, 810 / (9 * 0.99)),  # 90 + 9 x (p - 100) = 1 % of 9 p: 9.1 down, and 11.1 up to the edge
        (101, 810 / (9 * 0.99)),  # 10.09 down and 10.11 up
        (101.1, 1_000 / 9),  # 10.19 down and 10.01 up: 190 of equity there, and 300 are maintained past the edge
        (111, 1_000 / 9),
    ],
)
def test_a_slab_position_that_fails_both_ways_is_told_the_nearer_price(mark_price, expected):
    assert liquidation_price(size=9, entry_price=100, collateral=90, table=STEEP, mark_price=mark_price) == pytest.approx(expected)


def test_an_inverse_short_that_fails_both_ways_is_told_the_nearer_price():
    table = TierTable.from_rows([(10, 0.01, 50), (None, 0.3, 3)], mode="slab", unit="base")
    terms = {"size": -900, "entry_price": 100, "collateral": 0.9, "table": table, "kind": "inverse"}
    # 9 coins at 100, 10 at 90: 1.9 of equity there and 3 maintained; above, 0.9 + 900 / p - 9 = 1 % of 900 / p
    assert liquidation_price(**terms, mark_price=92) == pytest.approx(90)
    assert liquidation_price(**terms, mark_price=105) == pytest.approx(900 * 0.99 / 8.1)


def test_an_inverse_long_fails_just_past_the_edge_of_coin_tiers():
    table = TierTable.from_rows([(1.1, 0.01, 50), (None, 0.08, 10)], mode="slab", unit="base")
    price = liquidation_price(size=100, entry_price=100, collateral=0.15, table=table, kind="inverse")  # 0.05 at 1.1 coins
    assert price == pytest.approx(100 / 1.1)
    assert 100 / price > 1.1


def test_a_wallet_that_has_failed_reports_the_price_where_it_did():
    assert liquidation_price(size=10, entry_price=100, collateral=60, table=SLAB, mark_price=95) == pytest.approx(940 / (10 * 0.97))
    assert liquidation_price(size=-10, entry_price=100, collateral=60, table=SLAB, mark_price=104) == pytest.approx(1_060 / (10 * 1.03))
    past_the_edge = liquidation_price(size=-10, entry_price=100, collateral=160, table=SLAB, mark_price=112)
    assert past_the_edge == pytest.approx(110)


def test_a_wallet_that_fails_at_every_price_reports_none():
    assert liquidation_price(size=-10, entry_price=100, collateral=-1_001, table=SLAB) is None


def test_the_size_alone_decides_tiers_by_contracts():
    table = TierTable.from_rows([(10, 0.01, 50), (None, 0.02, 25)], mode="slab", unit="contracts")
    assert liquidation_price(size=11, entry_price=100, collateral=110, table=table) == pytest.approx((1_100 - 110) / (11 * 0.98))
    marginal = TierTable.from_rows([(10, 0.01, 50), (None, 0.02, 25)], unit="contracts")
    rate = (10 * 0.01 + 10 * 0.02) / 20
    assert liquidation_price(size=20, entry_price=100, collateral=200, table=marginal) == pytest.approx(1_800 / (20 * (1 - rate)))


# Hedges


def hedge(long, short, *, entries=(100, 100), rate=0.01, table=None):
    table = table or TierTable.flat(rate)
    return [Holding(long, entries[0], table), Holding(-short, entries[1], table)]


def test_a_hedge_fails_on_the_side_of_its_larger_leg():
    assert shared_liquidation_price(hedge(3, 1), collateral=20, mark_price=100) == pytest.approx(180 / (2 - 0.04))
    assert shared_liquidation_price(hedge(1, 3), collateral=20, mark_price=100) == pytest.approx(220 / (2 + 0.04))


def test_an_even_hedge_fails_where_its_maintenance_has_grown_to_its_money():
    assert shared_liquidation_price(hedge(1, 1), collateral=4, mark_price=100) == pytest.approx(4 / 0.02)
    assert shared_bankruptcy_price(hedge(1, 1), collateral=4) is None


def test_a_hedge_whose_maintenance_grows_as_its_profit_has_no_price():
    assert shared_liquidation_price(hedge(1.01, 0.99), collateral=10, mark_price=100) is None  # L r + S r = L - S


def test_a_hedge_safe_on_its_losing_side_is_reported_on_the_other():
    steep = TierTable.from_rows([(150, 0.01, 50), (None, 0.45, 2)])
    # 30 + 0.5 (p - 100) against 0.01 and, past 150 of notional, 0.45 of it on 2 p and on 1.5 p
    price = shared_liquidation_price(hedge(2, 1.5, table=steep), collateral=60, mark_price=60)
    room = 60 + 0.5 * (price - 100) - sum(steep.maintenance_margin(size * price) for size in (2, 1.5))
    assert price > 60 and room == pytest.approx(0, abs=1e-9)


def test_a_hedge_of_inverse_legs_is_solved_in_coin():
    table = TierTable.flat(0.01)
    legs = [Holding(300, 100, table, kind="inverse"), Holding(-100, 100, table, kind="inverse")]
    price = shared_liquidation_price(legs, collateral=0.2, mark_price=100)
    assert 0.2 + 200 * (1 / 100 - 1 / price) == pytest.approx(0.01 * 400 / price)
    assert shared_bankruptcy_price(legs, collateral=0.2) == pytest.approx(200 / (2 + 0.2))


def test_one_leg_alone_is_the_price_of_one_position():
    leg = Holding(10, 100, WIDE)
    assert shared_liquidation_price([leg], collateral=100, mark_price=100) == pytest.approx(
        liquidation_price(size=10, entry_price=100, collateral=100, table=WIDE)
    )
    assert shared_bankruptcy_price([leg], collateral=100) == bankruptcy_price(size=10, entry_price=100, collateral=100)
    assert shared_bankruptcy_price([leg], collateral=1_000) is None


def test_the_terms_of_a_holding_are_in_its_price():
    fee = Holding(10, 100, TierTable.flat(0.01), taker=0.001, terms=MarginTerms(fee_in_margin="notional"))
    assert shared_liquidation_price([fee], collateral=100, mark_price=100) == pytest.approx(900 / (10 * (1 - 0.011)))
    at_entry = Holding(10, 100, TierTable.flat(0.01), terms=MarginTerms("entry"))
    assert shared_liquidation_price([at_entry], collateral=100, mark_price=100) == pytest.approx(100 - (100 - 10) / 10)


# What is done at that price


def test_a_share_of_the_equity_is_spent_in_the_takeover_price():
    assert takeover_price(units=2, mark_price=100, equity=30, share=0.5) == 100 - 15 / 2
    assert takeover_price(units=-2, mark_price=100, equity=30, share=0.5) == 100 + 15 / 2


@pytest.mark.parametrize("kind", ["linear", "inverse"])
@pytest.mark.parametrize("units", [2, -2])
@pytest.mark.parametrize("equity", [1_000, -1_000])
def test_a_position_is_handed_over_for_a_positive_price_however_much_there_is_or_is_lacking(kind, units, equity):
    assert takeover_price(units=units, mark_price=100, equity=equity, share=1.0, kind=kind) > 0


def test_a_liquidation_fee_takes_no_more_than_there_is():
    assert liquidation_fee(rate=0.01, units=-2, price=100, equity=5) == 2
    assert liquidation_fee(rate=0.01, units=2, price=100, equity=1.5) == 1.5
    assert liquidation_fee(rate=0.01, units=2, price=100, equity=-3) == 0


def test_a_fillable_price_moves_away_from_the_mark_as_the_wallet_sinks():
    terms = {"units": 1, "mark_price": 100, "maintenance_margin": 10, "total_maintenance_margin": 20}
    assert fillable_price(**terms, equity=20) == 100
    assert fillable_price(**terms, equity=10) == pytest.approx(99.5)
    assert fillable_price(**terms, equity=-50) == 99
    assert fillable_price(**{**terms, "maintenance_margin": 0.001}, equity=-50, kind="inverse") == pytest.approx(1 / (1 / 100 + 0.0001))


def test_adl_ranks_what_has_earned_by_the_venues_formula():
    figures = {"notional": 1_100, "entry_notional": 1_000, "equity": 200, "maintenance_margin": 10}
    assert adl_score("binance", unrealized_pnl=100, **figures) == pytest.approx(1.0 * 0.05)
    assert adl_score("hyperliquid", unrealized_pnl=100, **figures) == pytest.approx(1.1 * 5.5)
    assert adl_score("binance", unrealized_pnl=-5, **figures) is None
    assert adl_score("binance", unrealized_pnl=200, **figures) is None
    with pytest.raises(ValueError, match="'bybit'"):
        adl_score("bybit", unrealized_pnl=100, **figures)


# Positions that cannot be


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"kind": "x"}, "a contract is 'linear', 'inverse' or 'spot', was 'x'"),
        ({"entry_price": 0}, "the entry_price of a position is a finite number above 0, was 0"),
        ({"entry_price": 0, "kind": "inverse"}, "the entry_price of a position is a finite number above 0, was 0"),
        ({"entry_price": -1.0}, "above 0, was -1.0"),
        ({"entry_price": nan}, "above 0, was nan"),
        ({"entry_price": inf}, "above 0, was inf"),
    ],
)
def test_a_price_of_a_position_that_cannot_be_is_refused(wrong, sentence):
    terms = {"size": 1, "entry_price": 100, "collateral": 1, **wrong}
    with pytest.raises(ValueError, match=sentence):
        liquidation_price(**terms, table=WIDE)
    with pytest.raises(ValueError, match=sentence):
        bankruptcy_price(**terms)


def test_a_basis_that_is_none_is_refused():
    with pytest.raises(ValueError, match="maintenance_basis is 'mark' or 'entry', was 'x'"):
        liquidation_price(size=1, entry_price=100, collateral=1, table=WIDE, maintenance_basis="x")


def test_what_is_flat_has_no_price_and_no_entry():
    assert liquidation_price(size=0, entry_price=0, collateral=1, table=WIDE) is None
    assert bankruptcy_price(size=0, entry_price=0, collateral=1) is None
