"""Accounts of inverse contracts, spot and other terms, by hand: what moves, what is taken, what symbols say."""

import doctest

import pytest

from bt_margin import Contract, MarginAccount, TierSchedule, TierTable, plan_liquidation
from bt_margin.core import contract as contract_room
from bt_margin.core import funding as funding_room
from bt_margin.core import terms as terms_room
from bt_margin.core.contract import settlement_currency
from bt_margin.core.funding import funding_payment
from bt_margin.core.ledger import CROSS
from bt_margin.core.liquidation import liquidation_fee, takeover_price
from bt_margin.core.profiles import FORFEIT
from bt_margin.core.rescue import Range, rescue
from bt_margin.core.terms import MarginTerms, terms_at

FLAT = TierSchedule.constant(TierTable.flat(0.01))


def account_of(*contracts, cash, leverage=10, margin_mode="cross", terms=None):
    account = MarginAccount()
    for contract in contracts:
        rules = {} if terms is None else {"rules": ((0.0, terms),)}
        account.add_contract(contract, leverage=1 if contract.kind == "spot" else leverage, margin_mode=margin_mode, **rules)
    account.deposit(cash, time=0)
    return account


def test_examples_in_the_docstrings_are_true():
    for room in (contract_room, funding_room, terms_room):
        outcome = doctest.testmod(room)
        assert outcome.attempted >= 3
        assert outcome.failed == 0


@pytest.mark.parametrize(
    ("symbol", "kind", "currency"),
    [
        ("BTCUSDT", "linear", "USDT"),
        ("BTCUSDT_SPOT", "spot", "USDT"),
        ("BTC-USD-SWAP", "inverse", "BTC"),
        ("ETHUSD_240628", "inverse", "ETH"),
        ("ETH/USD:ETH-240628", "inverse", "ETH"),
        ("SOL_USDC", "linear", "USDC"),
        ("BTC-SPOT", "spot", None),
        ("AAA", "inverse", None),
        ("USDT", "linear", None),
    ],
)
def test_a_symbol_tells_its_settlement_or_nothing(symbol, kind, currency):
    assert settlement_currency(symbol, kind) == currency


def test_spot_pays_no_funding_and_inverse_contracts_pay_coin():
    terms = {"size": 200, "multiplier": 100, "mark_price": 50_000, "rate": 0.0001}
    assert funding_payment(**terms, kind="inverse") == pytest.approx(-0.4 * 0.0001)
    assert funding_payment(**terms, kind="spot") == 0


def test_an_inverse_takeover_spends_its_share_of_the_coins():
    # 1 000 long at 80 are worth 12.5 coins; 0.5 x 0.6 of them spent: 1 / p = 1 / 80 + 0.3 / 1 000
    assert takeover_price(units=1_000, mark_price=80, equity=0.5, share=0.6, kind="inverse") == pytest.approx(1 / (1 / 80 + 0.0003))


def test_a_takeover_never_asks_for_more_than_the_position_is_worth():
    assert takeover_price(units=1, mark_price=100, equity=500, share=1.0) == pytest.approx(0.1)
    assert takeover_price(units=-100, mark_price=100, equity=5, share=1.0, kind="inverse") == pytest.approx(100_000)


def test_an_inverse_liquidation_fee_is_of_its_coins_and_no_more_than_is_left():
    assert liquidation_fee(rate=0.01, units=-1_000, price=80, equity=1, kind="inverse") == pytest.approx(0.125)
    assert liquidation_fee(rate=0.01, units=-1_000, price=80, equity=0.1, kind="inverse") == 0.1


def test_forfeit_leaves_nothing_in_a_wallet_of_two_inverse_contracts():
    contracts = [Contract(symbol, kind="inverse", tiers=FLAT) for symbol in ("AAA", "BBB")]
    account = account_of(*contracts, cash=3)
    for symbol, size in (("AAA", 1_000), ("BBB", -400)):
        account.apply_fill(symbol, size=size, price=100, fee_rate=0.0, time=0)
    marks = {"AAA": 78.0, "BBB": 104.0}  # 3 + 10 - 12.821 - 4 + 3.846 = 0.026, below 0.167
    for step in plan_liquidation(account, CROSS, marks, FORFEIT):
        account.apply(step, time=0)
    assert account.wallets[CROSS] == pytest.approx(0, abs=1e-12)
    assert not any(position.size for position in account.positions.values())


def test_the_shortfall_of_an_inverse_position_is_the_funds_in_coin():
    account = account_of(Contract("AAA", kind="inverse", tiers=FLAT), cash=1, margin_mode="isolated")
    account.apply_fill("AAA", size=1_000, price=100, fee_rate=0.0, time=0)
    (step,) = plan_liquidation(account, "wallet:AAA", {"AAA": 80.0}, FORFEIT)
    moved = account.apply(step, time=0)
    assert (moved.realized_pnl, moved.from_insurance_fund) == (pytest.approx(-1), pytest.approx(12.5 - 11))
    assert account.wallet_balance == pytest.approx(0, abs=1e-12)


def test_what_would_have_saved_a_slab_position_stops_at_the_edge():
    # half of it stands at the edge; there 5 % of 500 would be 25 and 1 % is 5, with 15 + 0 of headroom
    tiers = TierSchedule.constant(TierTable.from_rows([(500, 0.01, 50), (None, 0.05, 20)], mode="slab"))
    account = account_of(Contract("AAA", tiers=tiers), cash=15)
    account.apply_fill("AAA", size=10, price=100, fee_rate=0.0, time=0)
    saved = rescue(account, "AAA", {"AAA": Range(100, 100)}, {})
    assert saved.margin_to_add == pytest.approx(0.05 * 1_000 - 15)
    assert saved.safe_leverage == pytest.approx(500 / 15)


def test_initial_margin_of_spot_is_its_value_at_mark_so_that_its_profit_is_not_lent_out():
    account = account_of(Contract("COIN", kind="spot"), cash=1_000)
    account.apply_fill("COIN", size=4, price=100, fee_rate=0.0, time=0)
    for mark in (50.0, 100.0, 400.0):
        assert account.available_margin({"COIN": mark}) == 600
        assert account.equity({"COIN": mark}) == 600 + 4 * mark


def test_money_that_bought_spot_cannot_be_withdrawn():
    account = account_of(Contract("COIN", kind="spot"), cash=1_000)
    account.apply_fill("COIN", size=4, price=100, fee_rate=0.0, time=0)
    with pytest.raises(ValueError, match="cannot withdraw 601: 600 is available"):
        account.withdraw(601, time=0, marks={"COIN": 400.0})


def test_terms_of_a_time_are_the_last_that_had_begun():
    dated = ((100.0, MarginTerms("entry")), (200.0, MarginTerms("mark", "notional")))
    assert [terms_at(dated, time).maintenance_basis for time in (0, 100, 199, 200)] == ["entry", "entry", "entry", "mark"]


def test_the_closing_fee_kept_with_two_fills_is_that_of_the_whole():
    contract = Contract("AAA", taker=0.001, tiers=FLAT)
    account = account_of(contract, cash=1_000, margin_mode="isolated", terms=MarginTerms("mark", "bankruptcy"))
    for price in (100, 120):
        account.apply_fill("AAA", size=-1, price=price, fee_rate=0.0, time=0)
    assert account.wallets["wallet:AAA"] == pytest.approx(22 + 220 * 1.1 * 0.001)
    assert account.positions["AAA"].reserved_fee == pytest.approx(220 * 1.1 * 0.001)


def test_a_change_of_leverage_renews_what_is_maintained():
    contract = Contract("AAA", taker=0.001, tiers=FLAT)
    account = account_of(contract, cash=1_000, terms=MarginTerms("mark", "bankruptcy"))
    account.apply_fill("AAA", size=10, price=100, fee_rate=0.0, time=0)
    fees = []
    for leverage in (10, 20):
        account.set_leverage("AAA", leverage)
        fees.append(account.risk(CROSS, {"AAA": 100.0}).maintenance_margin - 10)
    assert fees == [pytest.approx(0.9), pytest.approx(0.95)]
