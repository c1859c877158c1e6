"""The account as small stories whose numbers can be redone by hand."""

import math

import pytest

from bt_margin import Contract, MarginAccount, Risk, TierSchedule, TierTable, plan_liquidation
from bt_margin.core.liquidation import account_bankruptcy_price, account_liquidation_price
from bt_margin.core.orders import Resting
from bt_margin.core.profiles import FORFEIT, MARKET


def flat_contract(symbol: str, *, rate: float = 0.01, fee: float = 0.0, lot: float = 0.0) -> Contract:
    return Contract(symbol, lot=lot, liquidation_fee=fee, tiers=TierSchedule.constant(TierTable.flat(rate)))


def account_of(*contracts: tuple[Contract, float, str], cash: float = 1_000.0) -> MarginAccount:
    account = MarginAccount()
    for contract, leverage, mode in contracts:
        account.add_contract(contract, leverage=leverage, margin_mode=mode)
    account.deposit(cash, time=0)
    return account


def balances(account: MarginAccount) -> dict[str, float]:
    assert account.journal is not None
    return account.journal.balances()


def test_isolated_opening_moves_its_margin_and_pays_its_fee_from_the_cross_wallet():
    account = account_of((flat_contract("BTC"), 10, "isolated"))
    account.apply_fill("BTC", size=2, price=100, fee_rate=0.001, time=0)
    assert account.wallets == {"wallet:cross": 1_000 - 20 - 0.2, "wallet:BTC": 20}
    assert balances(account)["fees"] == pytest.approx(2 * 100 * 0.001)


def test_closing_half_an_isolated_position_returns_half_its_wallet_with_profit_and_fee():
    account = account_of((flat_contract("BTC"), 10, "isolated"))
    account.apply_fill("BTC", size=2, price=100, fee_rate=0.0, time=0)
    booked = account.apply_fill("BTC", size=-1, price=104, fee_rate=0.001, time=0)
    returned = 0.5 * 20 + 4 - 0.104
    assert booked.realized_pnl == 4
    assert account.wallets["wallet:BTC"] == pytest.approx(20 + 4 - 0.104 - returned)
    assert account.wallets["wallet:cross"] == pytest.approx(980 + returned)


def test_a_partial_close_at_a_loss_beyond_its_share_returns_nothing():
    account = account_of((flat_contract("BTC"), 10, "isolated"))
    account.apply_fill("BTC", size=2, price=100, fee_rate=0.0, time=0)
    account.apply_fill("BTC", size=-1, price=88, fee_rate=0.0, time=0)  # share 10, loss 12
    assert account.wallets == {"wallet:cross": 980, "wallet:BTC": 20 - 12}


def test_closing_an_isolated_position_below_its_bankruptcy_price_is_made_whole_by_the_fund():
    account = account_of((flat_contract("BTC"), 10, "isolated"))
    account.apply_fill("BTC", size=1, price=100, fee_rate=0.0, time=0)
    account.apply_fill("BTC", size=-1, price=85, fee_rate=0.0, time=0)  # margin 10, loss 15
    assert account.wallets == {"wallet:cross": 990, "wallet:BTC": 0}
    assert balances(account)["insurance_fund"] == -5


def test_a_reversal_is_booked_as_a_close_and_an_opening():
    account = account_of((flat_contract("BTC"), 10, "cross"))
    account.apply_fill("BTC", size=3, price=100, fee_rate=0.0, time=0)
    booked = account.apply_fill("BTC", size=-5, price=110, fee_rate=0.0, time=0)
    assert (booked.closed, booked.opened, booked.realized_pnl) == (-3, -2, 30)
    assert (account.positions["BTC"].size, account.positions["BTC"].entry_price) == (-2, 110)


def test_adding_averages_the_entry_by_size():
    account = account_of((flat_contract("BTC"), 10, "cross"))
    account.apply_fill("BTC", size=1, price=100, fee_rate=0.0, time=0)
    account.apply_fill("BTC", size=3, price=120, fee_rate=0.0, time=0)
    assert account.positions["BTC"].entry_price == (100 + 3 * 120) / 4


def test_one_fill_of_three_equals_fills_of_one_and_two():
    whole, split = (account_of((flat_contract("BTC"), 10, "isolated")) for _ in range(2))
    whole.apply_fill("BTC", size=3, price=100, fee_rate=0.001, time=0)
    for size in (1, 2):
        split.apply_fill("BTC", size=size, price=100, fee_rate=0.001, time=0)
    assert whole.wallets == pytest.approx(split.wallets)


def resting(ref, *, size, price, group=None, rests_as="limit"):
    return Resting(ref, "BTC", ref if group is None else group, size, price, price, 0.0, rests_as=rests_as)


def test_available_counts_cross_profit_but_no_isolated_one():
    account = account_of((flat_contract("BTC"), 10, "cross"), (flat_contract("ETH"), 5, "isolated"))
    account.apply_fill("BTC", size=1, price=100, fee_rate=0.0, time=0)
    account.apply_fill("ETH", size=1, price=50, fee_rate=0.0, time=0)
    account.reserve(resting(7, size=3, price=100))
    marks = {"BTC": 120.0, "ETH": 500.0}
    assert account.available_margin(marks) == pytest.approx(1_000 - 50 / 5 + 20 - 120 / 10 - 30)


def test_an_oco_group_reserves_its_largest_member():
    account = account_of((flat_contract("BTC"), 10, "cross"))
    account.reserve(resting(1, size=3, price=100, group=1))
    account.reserve(resting(2, size=5, price=100, group=1))
    account.reserve(resting(3, size=0.5, price=100, group=3))
    assert account.order_margin == 55
    account.release(2)
    assert account.order_margin == 35


def test_unrealized_profit_funds_a_cross_opening_but_no_isolated_one():
    account = account_of((flat_contract("BTC"), 1, "cross"), (flat_contract("ETH"), 1, "isolated"), (flat_contract("XRP"), 1, "cross"))
    account.apply_fill("BTC", size=9, price=100, fee_rate=0.0, time=0)
    marks = {"BTC": 200.0}
    account.positions["BTC"].leverage = 10  # 1 000 + 900 - 180 = 1 720 available, 1 000 of it in the wallet
    assert account.refusal("XRP", size=15, price=100, fee_rate=0.0, marks=marks) is None
    refused = account.refusal("ETH", size=15, price=100, fee_rate=0.0, marks=marks)
    assert refused is not None
    assert (refused.needed, refused.available, refused.max_size) == (1_500, 1_000, 10)


def test_an_opening_that_is_not_funded_is_refused_and_the_closing_part_stands():
    account = account_of((flat_contract("BTC"), 10, "cross"))
    account.apply_fill("BTC", size=10, price=100, fee_rate=0.0, time=0)
    booked, refused = account.execute("BTC", size=-1_000, price=100, fee_rate=0.0, marks={"BTC": 100.0}, time=0)
    assert (booked.closed, booked.opened) == (-10, 0)
    assert refused is not None
    assert (refused.needed, refused.available, refused.max_size) == (990 * 100 / 10, 1_000, 100)


def test_a_size_past_the_tiers_of_its_leverage_is_refused():
    table = TierTable.from_rows([(1_000, 0.01, 50), (10_000, 0.02, 20)])
    account = account_of((Contract("BTC", tiers=TierSchedule.constant(table)), 50, "cross"), cash=1e6)
    account.apply_fill("BTC", size=9, price=100, fee_rate=0.0, time=0)
    refused = account.refusal("BTC", size=2, price=100, fee_rate=0.0, marks={"BTC": 100.0}, besides=9)
    assert refused is not None
    assert refused.max_size == 1
    assert "1100 would pass the 1000" in refused.message
    assert account.refusal("BTC", size=1, price=100, fee_rate=0.0, marks={"BTC": 100.0}, besides=9) is None


def test_funding_moves_the_wallet_of_the_position():
    account = account_of((flat_contract("BTC"), 10, "isolated"))
    account.apply_fill("BTC", size=-2, price=100, fee_rate=0.0, time=0)
    assert account.pay_funding("BTC", mark_price=90, rate=0.001, time=0, marks={"BTC": 90}) == pytest.approx(0.18)
    assert account.wallets["wallet:BTC"] == pytest.approx(20.18)


def test_one_position_in_cross_equals_isolated_with_the_same_money():
    cross = account_of((flat_contract("BTC"), 10, "cross"), cash=20)
    isolated = account_of((flat_contract("BTC"), 10, "isolated"), cash=20)
    for account in (cross, isolated):
        account.apply_fill("BTC", size=2, price=100, fee_rate=0.0, time=0)
    prices = [(account_liquidation_price(a, "BTC", {}), account_bankruptcy_price(a, "BTC", {})) for a in (cross, isolated)]
    assert prices[0] == prices[1] == (pytest.approx((200 - 20) / (2 * 0.99)), 90)


# -- liquidation -------------------------------------------------------------------------------------------------------


def test_exactly_at_maintenance_is_liquidated_and_a_cent_above_is_not():
    assert Risk(10.0, 20.0, 10.0).is_liquidatable
    assert not Risk(10.01, 20.0, 10.0).is_liquidatable
    assert not Risk(-5.0, 0.0, 0.0, holds_position=False).is_liquidatable
    assert Risk(0.0, 20.0, 0.0).is_liquidatable  # without maintenance margin at zero


def test_forfeit_takes_an_isolated_position_at_its_bankruptcy_price_and_gives_the_rest_to_the_fund():
    account = account_of((flat_contract("BTC"), 10, "isolated"))
    account.apply_fill("BTC", size=1, price=100, fee_rate=0.0, time=0)
    (step,) = plan_liquidation(account, "wallet:BTC", {"BTC": 90.5}, FORFEIT)
    assert (step.price, step.market_price) == (90, 90.5)
    moved = account.apply(step, time=0)
    assert (moved.realized_pnl, moved.to_insurance_fund) == (-10, 0.5)
    assert account.wallets == {"wallet:cross": 990, "wallet:BTC": 0}


def test_market_sells_at_the_mark_charges_its_fee_and_returns_the_rest():
    account = account_of((flat_contract("BTC", fee=0.001), 10, "isolated"))
    account.apply_fill("BTC", size=1, price=100, fee_rate=0.0, time=0)
    (step,) = plan_liquidation(account, "wallet:BTC", {"BTC": 90.5}, MARKET)
    moved = account.apply(step, time=0)
    assert step.fee == pytest.approx(0.0905)
    assert moved.returned == pytest.approx(0.5 - 0.0905)
    assert account.wallets["wallet:cross"] == pytest.approx(990 + 0.5 - 0.0905)


def test_the_market_fee_is_capped_by_what_is_left():
    account = account_of((flat_contract("BTC", fee=0.0125), 10, "isolated"))
    account.apply_fill("BTC", size=1, price=100, fee_rate=0.0, time=0)
    (step,) = plan_liquidation(account, "wallet:BTC", {"BTC": 90.5}, MARKET)
    account.apply(step, time=0)
    assert step.fee == pytest.approx(0.5)  # 1.25 % of 90.5 would be 1.13
    assert account.wallets["wallet:cross"] == pytest.approx(990)


def test_a_gap_beyond_bankruptcy_costs_the_wallet_and_no_more():
    account = account_of((flat_contract("BTC", fee=0.0125), 10, "isolated"))
    account.apply_fill("BTC", size=1, price=100, fee_rate=0.0, time=0)
    (step,) = plan_liquidation(account, "wallet:BTC", {"BTC": 70.0}, MARKET)
    moved = account.apply(step, time=0)
    assert (step.price, step.fee) == (90, 0)
    assert moved.from_insurance_fund == 20
    assert account.wallets == {"wallet:cross": 990, "wallet:BTC": 0}


def test_cross_market_sells_the_largest_loser_first_and_spares_the_rest_once_safe():
    account = account_of((flat_contract("BTC", rate=0.05), 10, "cross"), (flat_contract("ETH", rate=0.05), 10, "cross"))
    account.apply_fill("BTC", size=0.1, price=30_000, fee_rate=0.0, time=0)
    account.apply_fill("ETH", size=-5, price=2_000, fee_rate=0.0, time=0)
    marks = {"BTC": 31_000.0, "ETH": 2_160.0}  # +100, -800: equity 300, maintenance 155 + 540
    (step,) = plan_liquidation(account, "wallet:cross", marks, MARKET)
    assert (step.symbol, step.size) == ("ETH", -5)
    account.apply(step, time=0)
    assert plan_liquidation(account, "wallet:cross", marks, MARKET) == []
    assert account.risk("wallet:cross", marks).equity == pytest.approx(300)


def test_cross_forfeit_takes_everything_each_spending_its_share_by_maintenance():
    account = account_of((flat_contract("BTC", rate=0.05), 10, "cross"), (flat_contract("ETH", rate=0.05), 10, "cross"))
    account.apply_fill("BTC", size=0.1, price=30_000, fee_rate=0.0, time=0)
    account.apply_fill("ETH", size=-5, price=2_000, fee_rate=0.0, time=0)
    marks = {"BTC": 31_000.0, "ETH": 2_160.0}
    steps = plan_liquidation(account, "wallet:cross", marks, FORFEIT)
    assert [step.symbol for step in steps] == ["ETH", "BTC"]
    assert steps[0].price == pytest.approx(2_160 + 300 * 540 / 695 / 5)
    assert steps[1].price == pytest.approx(31_000 - 300 * 155 / 695 / 0.1)
    for step in steps:
        account.apply(step, time=0)
    assert account.wallets["wallet:cross"] == 0
    assert balances(account)["insurance_fund"] == pytest.approx(300)


def test_a_safe_wallet_has_no_plan():
    account = account_of((flat_contract("BTC"), 10, "isolated"))
    account.apply_fill("BTC", size=1, price=100, fee_rate=0.0, time=0)
    assert plan_liquidation(account, "wallet:BTC", {"BTC": 95.0}, FORFEIT) == []


def test_a_clone_moves_no_money_of_the_original():
    account = account_of((flat_contract("BTC"), 10, "isolated"))
    copy = account.clone()
    copy.apply_fill("BTC", size=1, price=100, fee_rate=0.0, time=0)
    assert account.wallets["wallet:cross"] == 1_000
    assert not account.positions["BTC"].size
    assert copy.journal is None


# -- refused input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leverage", [0, 0.5, -3, math.nan, math.inf, 101])
def test_an_impossible_leverage_is_refused_with_the_symbol(leverage):
    with pytest.raises(ValueError, match="BTC: leverage"):
        account_of((flat_contract("BTC", rate=0.01), leverage, "cross"))


def test_a_contract_cannot_take_the_shared_wallets_name():
    with pytest.raises(ValueError, match="cross: this name is the shared wallet's"):
        account_of((flat_contract("cross"), 10, "isolated"))


@pytest.mark.parametrize("amount", [0.0, -1.0, math.nan, math.inf])
def test_a_deposit_is_a_positive_amount(amount):
    with pytest.raises(ValueError, match="a deposit is a positive amount of money"):
        account_of().deposit(amount, time=0)


def test_a_withdrawal_beyond_what_is_available_is_refused_with_both_numbers():
    account = account_of((flat_contract("BTC"), 10, "cross"))
    account.apply_fill("BTC", size=50, price=100, fee_rate=0.0, time=0)
    with pytest.raises(ValueError, match="cannot withdraw 600: 500 is available"):
        account.withdraw(600, time=0, marks={"BTC": 100.0})
    account.withdraw(500, time=0, marks={"BTC": 100.0})
    assert account.wallet_balance == 500


def test_the_margin_mode_of_an_open_position_stays():
    account = account_of((flat_contract("BTC"), 10, "cross"))
    account.apply_fill("BTC", size=1, price=100, fee_rate=0.0, time=0)
    with pytest.raises(ValueError, match="cannot change; close it first"):
        account.set_margin_mode("BTC", "isolated")
    with pytest.raises(ValueError, match="margin_mode is 'cross' or 'isolated', was 'portfolio'"):
        account.set_margin_mode("BTC", "portfolio")


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ({"multiplier": 0}, "multiplier is a positive number"),
        ({"lot": -1}, "lot is a positive size"),
        ({"tick": -0.1}, "the tick is a number of 0 or more, was -0.1"),
        ({"min_size": float("nan")}, "the smallest size is a number of 0 or more"),
        ({"min_notional": -5}, "the smallest notional is a number of 0 or more"),
        ({"min_size": 2, "max_size": 1}, "the largest market order is above the smallest of 2, was 1"),
        ({"taker": 0.5}, "taker is a fraction of notional"),
        ({"liquidation_fee": -0.001}, "a liquidation fee costs"),
        ({"maker": math.nan}, "maker is a fraction of notional"),
    ],
)
def test_bad_contract_terms_are_refused(terms, sentence):
    with pytest.raises(ValueError, match=sentence):
        Contract("BTC", **terms)


def test_lots_make_flat_exact():
    account = account_of((flat_contract("BTC", lot=0.1), 10, "cross"))
    for size in (0.1, 0.2, -0.3):
        account.apply_fill("BTC", size=size, price=100, fee_rate=0.0, time=0)
    assert account.positions["BTC"].size == 0
    assert account.positions["BTC"].contract.floor_size(0.3) == pytest.approx(0.3)
