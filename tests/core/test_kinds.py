"""Accounts of inverse contracts, spot and other terms, by hand: what moves, what is taken, what symbols say."""

import doctest
from random import Random

import pytest

from bt_margin import Contract, MarginAccount, TierSchedule, TierTable, plan_liquidation
from bt_margin.core import contract as contract_room
from bt_margin.core import funding as funding_room
from bt_margin.core import terms as terms_room
from bt_margin.core.account import Step
from bt_margin.core.contract import settlement_currency
from bt_margin.core.funding import funding_payment
from bt_margin.core.ledger import CROSS
from bt_margin.core.liquidation import account_bankruptcy_price, account_liquidation_price, liquidation_fee, takeover_price
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
        # an inverse contract is quoted in USD, whatever letter its coin ends with
        ("BNBUSD_PERP", "inverse", "BNB"),
        ("DOTUSD_PERP", "inverse", "DOT"),
        ("BNB-USD-SWAP", "inverse", "BNB"),
        ("XBTUSD", "inverse", "BTC"),
        # run together, the quote is the one that leaves a coin
        ("BNBUSD", "linear", "USD"),
        ("DOTUSD", "linear", "USD"),
        ("ARBUSD", "linear", "USD"),
        ("BNBBUSD", "linear", "BUSD"),
        ("BTCBUSD", "linear", "BUSD"),
        ("BTCTUSD", "linear", "TUSD"),
        ("TRBUSDT", "linear", "USDT"),
        ("ETHBTC", "spot", "BTC"),
        ("ETH-BTC", "spot", "BTC"),
        ("BTCEUR", "spot", "EUR"),
        ("BTC_TRY", "spot", "TRY"),
        ("USDTTRY", "spot", "TRY"),
        ("PERP_ETH_USDC", "linear", "USDC"),
        # a coin's own name, and names that no coin stands in, tell nothing
        ("WBTC", "spot", None),
        ("STETH", "spot", None),
        ("PERP-BTC", "linear", None),
        ("ETH", "linear", None),
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


def test_spot_is_not_bought_with_profit_that_is_not_realized():
    account = account_of(Contract("PERP", tiers=FLAT), Contract("COIN", kind="spot"), cash=1_000)
    account.apply_fill("PERP", size=50, price=100, fee_rate=0.0, time=0)
    marks = {"PERP": 125.0}
    assert account.available_margin(marks) == 1_000 + 50 * 25 - 50 * 125 / 10
    refused = account.refusal("COIN", size=12, price=100, fee_rate=0.0, marks=marks)
    assert refused is not None
    assert (refused.needed, refused.available, refused.max_size) == (1_200, 1_000, 10)
    account.apply_fill("COIN", size=10, price=100, fee_rate=0.0, time=0)
    assert (account.free_cash, account.available_margin(marks | {"COIN": 100.0})) == (0, 625)
    account.apply_fill("PERP", size=-50, price=125, fee_rate=0.0, time=0)
    assert account.spendable("COIN", {"COIN": 100.0}) == 50 * 25


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


def account_at_60_000(*, leverage=2, dated_fees=(), rules=None):
    """Return an account that is long 1 at 60 000, isolated, with the closing fee at bankruptcy set aside."""
    account = MarginAccount()
    contract = Contract("AAA", taker=0.00055, tiers=TierSchedule.constant(TierTable.flat(0.005)), dated_fees=dated_fees)
    rules = rules or ((float("-inf"), MarginTerms("mark", "bankruptcy")),)
    account.add_contract(contract, leverage=leverage, margin_mode="isolated", rules=rules)
    account.deposit(1e5, time=0)
    account.apply_fill("AAA", size=1, price=60_000, fee_rate=0.00055, time=0)
    return account


def test_raising_leverage_moves_no_liquidation_price_of_a_position_that_has_set_its_closing_fee_aside():
    account = account_at_60_000()
    marks, wallet = {"AAA": 60_000.0}, 30_000 + 60_000 * 0.5 * 0.00055
    for leverage in (2, 10, 100):
        account.set_leverage("AAA", leverage)
        assert account.wallets["wallet:AAA"] == pytest.approx(wallet)
        assert account.positions["AAA"].maintenance_margin(60_000) == pytest.approx(300 + 16.5)
        assert account.positions["AAA"].initial_margin(60_000) == pytest.approx(60_000 / leverage + 16.5)
        assert account_liquidation_price(account, "AAA", marks) == pytest.approx(30_000 / 0.995)
        assert account_bankruptcy_price(account, "AAA", marks) == pytest.approx(30_000)


def test_the_closing_fee_set_aside_grows_with_additions_and_shrinks_with_what_is_closed():
    account = account_at_60_000()
    position = account.positions["AAA"]
    account.set_leverage("AAA", 100)
    account.apply_fill("AAA", size=2, price=63_000, fee_rate=0.0, time=0)
    kept = 16.5 + 2 * 63_000 * 0.99 * 0.00055  # each opening's at the leverage it was made with
    assert position.reserved_fee == pytest.approx(kept)
    assert account.wallets["wallet:AAA"] == pytest.approx(30_000 + 1_260 + kept)
    account.apply_fill("AAA", size=-1.5, price=62_000, fee_rate=0.0, time=0)
    assert position.reserved_fee == pytest.approx(kept / 2)
    account.apply_fill("AAA", size=-1.5, price=62_000, fee_rate=0.0, time=0)
    assert position.reserved_fee == 0
    account.apply_fill("AAA", size=1, price=60_000, fee_rate=0.0, time=0)
    assert position.reserved_fee == pytest.approx(60_000 * 0.99 * 0.00055)


def test_a_partial_liquidation_leaves_the_share_of_the_closing_fee_that_belongs_to_the_rest():
    account = account_at_60_000()
    account.apply(Step("AAA", 0.75, 60_000, 60_000, 0.0, False), time=0)
    assert account.positions["AAA"].reserved_fee == pytest.approx(16.5 / 4)


def test_the_closing_fee_set_aside_stays_as_the_fee_changes_and_is_reckoned_anew_where_the_terms_change():
    fees = account_at_60_000(dated_fees=((100.0, 0.0, 0.001),))
    fees.set_tiers("AAA", 100.0)
    assert fees.positions["AAA"].reserved_fee == pytest.approx(16.5)
    fees.apply_fill("AAA", size=1, price=60_000, fee_rate=0.0, time=100)
    assert fees.positions["AAA"].reserved_fee == pytest.approx(16.5 + 60_000 * 0.5 * 0.001)

    venue = ((float("-inf"), MarginTerms("entry", "bankruptcy")), (100.0, MarginTerms("mark", "bankruptcy")))
    basis = account_at_60_000(rules=venue)  # as Bybit's of 2025-09-02
    basis.set_leverage("AAA", 100)
    basis.set_tiers("AAA", 100.0)
    assert basis.positions["AAA"].reserved_fee == pytest.approx(16.5)

    terms = account_at_60_000(rules=((float("-inf"), MarginTerms("mark", "none")), (100.0, MarginTerms("mark", "bankruptcy"))))
    assert terms.positions["AAA"].reserved_fee == 0
    terms.set_tiers("AAA", 100.0)
    terms.set_leverage("AAA", 100)
    assert terms.positions["AAA"].reserved_fee == pytest.approx(16.5)  # at the 2x it had on that day


def test_a_leverage_whose_margin_the_kept_fee_would_use_up_is_refused_later_too():
    contract = Contract("AAA", taker=0.006, tiers=TierSchedule.constant(TierTable.flat(0.005)))
    account = account_of(contract, cash=1_000, terms=MarginTerms("mark", "notional", fee_in_initial=False))
    with pytest.raises(ValueError, match=r"AAA: leverage 100 is not possible, maintenance and the fee kept with it, 0\.011"):
        account.set_leverage("AAA", 100)
    assert account.positions["AAA"].leverage == 10
    account.set_leverage("AAA", 90)  # 1.1 % of notional in 1.11 %


@pytest.mark.parametrize("lot", [0.1, 0.01, 0.0001])
@pytest.mark.parametrize("lots", [3, 20_971_524, 123_456_789, 10**12 + 1])
def test_whole_lots_stay_whole_however_many_they_are(lot, lots):
    contract = Contract("AAA", lot=lot)
    assert contract.floor_size(lots * lot) == lots * lot
    assert contract.floor_size(-lots * lot) == -lots * lot
    if lots < 10**9:
        assert contract.floor_size((lots + 0.99) * lot) == lots * lot


def test_the_size_below_is_a_lot_less_or_the_next_number():
    assert Contract("AAA", lot=0.1).size_below(0.3) == 0.2
    assert Contract("AAA", lot=0.1).size_below(0.1) == 0
    assert Contract("AAA").size_below(1.0) == 1.0 - 2**-52
    assert Contract("AAA").size_below(1.0, beside=8.0) == 1.0 - 2**-49
    assert Contract("AAA").size_below(1e-20, beside=8.0) == 0


@pytest.mark.parametrize(
    ("kind", "unit", "cap"), [("linear", "quote", 1_234.5), ("inverse", "base", 7.7), ("linear", "contracts", 1_000.7)]
)
@pytest.mark.parametrize("lot", [0.0, 0.001, 0.1])
def test_the_largest_opening_is_never_refused_at_the_tiers_end_nor_at_the_money(kind, unit, cap, lot):
    rng, tiers = Random(1), TierSchedule.constant(TierTable.from_rows([(cap, 0.01, 20)], unit=unit))
    for _ in range(60):
        contract = Contract("AAA", tiers=tiers, kind=kind, multiplier=rng.choice([1, 10, 0.01]), lot=lot)
        price = rng.uniform(1, 1_000)
        account = account_of(contract, cash=rng.choice([1e5, contract.notional(rng.uniform(1, 100), price) / 5]), leverage=5)
        terms = {"price": price, "fee_rate": 0.0005, "marks": {"AAA": price}}
        for share in (rng.random(), 1):
            held = account.positions["AAA"].size
            most = account.max_opening("AAA", **terms)
            assert not most or account.refusal("AAA", size=most, besides=held, **terms) is None
            if contract.floor_size(share * most):
                account.apply_fill("AAA", size=contract.floor_size(share * most), price=price, fee_rate=0.0005, time=0)
