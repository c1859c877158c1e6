"""The closed form against bisection on the account inequality, and the laws a price must keep."""

from math import inf

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bt_margin import Contract, MarginAccount, TierSchedule, TierTable, bankruptcy_price, liquidation_price
from bt_margin.core.liquidation import account_liquidation_price

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
