"""A hedged contract in the account: two positions whose marks move together, by hand arithmetic."""

import pytest

from bt_margin import Contract, MarginAccount, TierTable
from bt_margin.core.liquidation import account_bankruptcy_price, account_liquidation_price
from bt_margin.core.profiles import PROFILES, marks_of_bar
from bt_margin.core.rescue import Range, rescue
from bt_margin.core.tiers import TierSchedule

LONG, SHORT = "BTC:LONG", "BTC:SHORT"


def hedged(long=0.0, short=0.0, *, cash=100.0, margin_mode="cross", tiers=((None, 0.01, 50),), price=100.0, **terms):
    """Return an account that holds these sizes (>= 0) of both legs, bought and sold at a price without fees."""
    account = MarginAccount()
    schedule = TierSchedule.constant(TierTable.from_rows(tiers))
    account.add_hedge(Contract("BTC", tiers=schedule, **terms), leverage=10, margin_mode=margin_mode)
    account.deposit(cash, time=0)
    for symbol, size in ((LONG, long), (SHORT, -short)):
        if size:
            account.apply_fill(symbol, size=size, price=price, fee_rate=0, time=0)
    return account


def at(mark):
    return {LONG: mark, SHORT: mark}


def test_an_order_against_its_leg_only_closes():
    account = hedged(short=1)
    assert [account.only_closes(LONG, size) for size in (1, -1)] == [False, True]
    assert [account.only_closes(SHORT, size) for size in (1, -1)] == [True, False]
    account.add_contract(Contract("ETH"), leverage=1, margin_mode="cross")
    assert not account.only_closes("ETH", -1)


def test_a_copy_of_the_account_keeps_its_legs():
    copy = hedged(long=1).clone()
    assert copy.only_closes(LONG, -2)
    assert copy.symbols_of(SHORT) == (LONG, SHORT)


def test_spot_has_no_legs():
    with pytest.raises(ValueError, match="BTC: spot is never short and has no hedge mode"):
        MarginAccount().add_hedge(Contract("BTC", kind="spot"), leverage=1, margin_mode="cross")


def test_a_leg_and_another_contract_cannot_have_one_name():
    account = hedged()
    with pytest.raises(ValueError, match="BTC:LONG: this name is that of a leg of a hedge"):
        account.add_contract(Contract("BTC:LONG"), leverage=1, margin_mode="cross")
    other = MarginAccount()
    other.add_contract(Contract("BTC:SHORT", kind="spot"), leverage=1, margin_mode="cross")
    with pytest.raises(ValueError, match="BTC:SHORT: a contract has this name"):
        other.add_hedge(Contract("BTC"), leverage=1, margin_mode="cross")


def test_the_shared_price_is_solved_in_the_tiers_that_hold_each_leg_there():
    """Binance: LP = (W + cL + cS - L eL + S eS) / (L rL + S rS - L + S), with the tiers at LP."""
    account = hedged(long=3, short=1, tiers=[(100, 0.01, 50), (200, 0.02, 25), (None, 0.05, 10)])
    # 3 x 53.1 is in the second tier (2 %, amount 1), 1 x 53.1 in the first (1 %, 0)
    price = (100 + 1 - 300 + 100) / (3 * 0.02 + 1 * 0.01 - 3 + 1)
    assert 100 < 3 * price < 200
    assert [account_liquidation_price(account, leg, at(100)) for leg in (LONG, SHORT)] == pytest.approx([price] * 2)
    assert account_bankruptcy_price(account, LONG, at(100)) == pytest.approx(100 - 100 / 2)
    risk = account.risk("wallet:cross", at(price))
    assert risk.equity == pytest.approx(risk.maintenance_margin)


def test_inverse_legs_share_a_price_in_coin():
    account = hedged(long=300, short=100, cash=0.5, kind="inverse", multiplier=1.0)
    # 0.5 + 200 (1 / 100 - 1 / p) = 400 / p x 1 %
    assert account_liquidation_price(account, SHORT, at(100)) == pytest.approx((200 + 4) / (0.5 + 2))


def test_isolated_legs_have_a_price_each():
    account = hedged(long=1, short=1, margin_mode="isolated")
    prices = [account_liquidation_price(account, leg, at(100)) for leg in (LONG, SHORT)]
    assert prices == pytest.approx([90 / 0.99, 110 / 1.01])


@pytest.mark.parametrize(("long", "short", "worst"), [(3, 1, 80), (1, 3, 120), (1, 1, 120)])
def test_the_extreme_of_a_hedge_is_the_one_that_is_worse_for_both_together(long, short, worst):
    ranges = dict.fromkeys((LONG, SHORT), (80.0, 120.0))
    assert marks_of_bar(hedged(long, short), ranges)["extremes"] == at(worst)


def test_the_extremes_of_isolated_legs_are_their_own():
    ranges = dict.fromkeys((LONG, SHORT), (80.0, 120.0))
    assert marks_of_bar(hedged(3, 1, margin_mode="isolated"), ranges)["extremes"] == {LONG: 80, SHORT: 120}


def test_margin_to_add_is_what_both_legs_lack_at_one_mark():
    account = hedged(3, 1, cash=30)
    ranges = dict.fromkeys((LONG, SHORT), Range(80.0, 120.0))
    assert rescue(account, LONG, ranges, {}).margin_to_add == pytest.approx(4 * 80 * 0.01 - (30 - 2 * 20))
    assert rescue(account, LONG, ranges, {SHORT: 5.0}).margin_to_add == pytest.approx(4 * 80 * 0.01 - (30 - 2 * 20) + 5)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_orders_of_both_legs_go_together(profile):
    account = hedged(1, 1, margin_mode="isolated")
    assert PROFILES[profile].cancelled_symbols(account, SHORT) == [LONG, SHORT]


def test_a_group_with_several_members_on_one_leg_takes_its_largest():
    """At 10x: 50 for the first long, 10 more for a short of 60, and 40 more for a second long of 100."""
    account = MarginAccount()
    account.add_hedge(Contract("AAA", taker=0.0), leverage=10, margin_mode="cross")
    account.deposit(1_000, time=0)
    needed = []
    for ref, (leg, size) in enumerate([("LONG", 5), ("SHORT", -6), ("LONG", 10), ("LONG", 1)]):
        terms = {"size": size, "price": 100, "fee_rate": 0.0, "mark_price": 100, "margin_price": 100}
        order = account.order(f"AAA:{leg}", **terms, ref=ref, group=7, rests_as="stop")
        needed.append(account.needed_for(order))
        account.reserve(order)
    assert needed == [50, 10, 40, 0]
    assert account.order_margin == 100
