"""The calculator's contract: its names, what stands in for what, what it refuses, and the sheet of one position."""

import json
import re
from copy import deepcopy
from math import inf, nan, nextafter

import pytest

from bt_margin.calculator import contract_sheet, evaluate, share_left

ADDED_TO_POSITION = {
    *("notional", "unrealized_pnl", "initial_margin", "maintenance_margin"),
    *("liquidation_price", "bankruptcy_price", "tier", "adl_score"),
}
ADDED_TO_ACCOUNT = {"equity", "available_margin", "initial_margin", "maintenance_margin", "margin_ratio", "liquidatable"}

FULL = {
    "venue": "generic",
    "margin_mode": "cross",
    "wallet_balance": 1_535_443.01,
    "date": "2021-03-01",
    "maintenance_basis": "mark",
    "fee_in_margin": "none",
    "positions": [
        {
            "symbol": "BTCUSDT",
            "size": 109.488,
            "entry_price": 32_481.98,
            "mark_price": 31_967.27,
            "contract_type": "linear",
            "multiplier": 1,
            "leverage": 20,
            "margin_mode": "cross",
            "isolated_margin": None,
            "taker_fee": None,
            "tiers": [{"floor": 0, "cap": None, "rate": 0.025, "amount": 16_300, "max_leverage": 20}],
            "tier_mode": "marginal",
            "tier_unit": "quote",
        }
    ],
}


def account(*positions, **terms):
    return {**terms, "positions": list(positions)}


def position(size=1, entry_price=100, **terms):
    return {"size": size, "entry_price": entry_price, **terms}


def isolated(size=1, entry_price=100, **terms):
    return position(size, entry_price, margin_mode="isolated", **terms)


def figures_of(entry, **terms):
    """The figures of one position alone."""
    return evaluate(account(entry, **terms))["positions"][0]


# What comes out


def test_a_full_account_comes_back_with_exactly_the_promised_names_added():
    sheet = evaluate(FULL)
    assert set(sheet) - set(FULL) == ADDED_TO_ACCOUNT
    assert set(sheet["positions"][0]) - set(FULL["positions"][0]) == ADDED_TO_POSITION
    assert {name: sheet[name] for name in FULL if name != "positions"} == {name: FULL[name] for name in FULL if name != "positions"}


def test_the_figures_of_a_full_account_can_be_redone_by_hand():
    sheet = evaluate(FULL)
    (line,) = sheet["positions"]
    notional = 109.488 * 31_967.27
    profit = 109.488 * (31_967.27 - 32_481.98)
    assert line["notional"] == pytest.approx(notional)
    assert line["maintenance_margin"] == pytest.approx(notional * 0.025 - 16_300)
    assert line["initial_margin"] == pytest.approx(notional / 20)
    assert line["bankruptcy_price"] == pytest.approx(32_481.98 - 1_535_443.01 / 109.488)
    assert sheet["equity"] == pytest.approx(1_535_443.01 + profit)
    assert sheet["available_margin"] == pytest.approx(1_535_443.01 + profit - notional / 20)
    assert line["tier"] == {"number": 1, "floor": 0, "cap": None, "rate": 0.025, "amount": 16_300, "max_leverage": 20}


def test_the_margin_ratio_is_shown_in_every_convention_by_its_formula():
    sheet = evaluate(account(position(leverage=10, mark_price=90), wallet_balance=19))
    ratios = {"maintenance/equity": 0.45 / 9, "equity/maintenance": 9 / 0.45, "equity/notional": 9 / 90, "equity/initial": 9 / 9}
    assert sheet["margin_ratio"] == pytest.approx(ratios)


def test_an_empty_account_is_its_wallet():
    sheet = evaluate({"wallet_balance": 5})
    assert (sheet["equity"], sheet["available_margin"], sheet["liquidatable"], sheet["positions"]) == (5, 5, False, [])
    assert sheet["margin_ratio"] == {"maintenance/equity": 0, "equity/maintenance": None, "equity/notional": None, "equity/initial": None}


def test_what_comes_out_is_json_and_what_went_in_is_untouched():
    given = account(position(), position(-2, 50, tiers=[{"rate": 0.01}]), wallet_balance=1_000)
    before = deepcopy(given)
    assert json.loads(json.dumps(evaluate(given), allow_nan=False)) == evaluate(given)
    assert given == before


def test_null_is_the_same_as_left_out():
    blank = dict.fromkeys(("symbol", "mark_price", "contract_type", "multiplier", "leverage", "margin_mode", "isolated_margin"))
    nulls = blank | dict.fromkeys(("taker_fee", "tiers", "tier_mode", "tier_unit"))
    one, two = figures_of(position()), figures_of(position(**nulls), venue=None, date=None, maintenance_basis=None, fee_in_margin=None)
    assert {name: one[name] for name in ADDED_TO_POSITION} == {name: two[name] for name in ADDED_TO_POSITION}


def test_what_stands_in_for_mark_and_tiers_is_said():
    flags = evaluate(account(position(symbol="X"), wallet_balance=50))["flags"]
    assert flags == [
        "position 1 (X): no tiers, a flat maintenance rate of 0.005 stands in",
        "position 1 (X): no mark_price, its entry price 100 stands in",
    ]


# Money


def test_a_positions_margin_mode_wins_over_the_accounts():
    sheet = evaluate(account(position(symbol="A", margin_mode="cross"), position(symbol="B"), margin_mode="isolated", wallet_balance=100))
    assert [line["bankruptcy_price"] for line in sheet["positions"]] == [None, None]  # 100 of the wallet, 100 / 1x of its own
    assert sheet["equity"] == 100 + 100


def test_isolated_money_is_besides_the_wallet_and_adds_nothing_to_what_is_available():
    sheet = evaluate(account(isolated(leverage=10, mark_price=95), wallet_balance=1_000))
    assert sheet["equity"] == 1_000 + 10 - 5
    assert sheet["available_margin"] == 1_000


def test_positions_of_a_shared_wallet_carry_each_other():
    winner = position(1, 100, symbol="A", mark_price=150, tiers=[{"rate": 0.01}])
    loser = position(-2, 50, symbol="B", mark_price=60, tiers=[{"rate": 0.02}])
    sheet = evaluate(account(winner, loser, wallet_balance=10))
    # Of B: 10 + 50 - 1.5 of A's maintenance, and its own 2 x 50: (58.5 + 100) / (2 x 1.02)
    assert sheet["positions"][1]["liquidation_price"] == pytest.approx((10 + 50 - 1.5 + 100) / (2 * 1.02))
    assert sheet["positions"][1]["bankruptcy_price"] == pytest.approx((10 + 50 + 100) / 2)


def test_the_account_is_liquidatable_when_one_isolated_wallet_is():
    broke = isolated(leverage=10, mark_price=90.1, symbol="A")  # 0.1 of equity, 0.45 to maintain
    assert evaluate(account(broke, position(symbol="B"), wallet_balance=1_000))["liquidatable"]
    assert not evaluate(account(position(symbol="B"), wallet_balance=1_000))["liquidatable"]


def test_equity_at_maintenance_is_liquidatable():
    half_a_percent = account(position(tiers=[{"rate": 0.5}]), wallet_balance=50)
    assert evaluate(half_a_percent)["liquidatable"]
    assert not evaluate(half_a_percent | {"wallet_balance": 50.01})["liquidatable"]


def test_both_legs_of_a_hedge_have_one_price_and_need_margin_each():
    long, short = (
        position(3, 100, symbol="A", tiers=[{"rate": 0.01}]),
        position(-1, 110, symbol="A", tiers=[{"rate": 0.01}], mark_price=100),
    )
    sheet = evaluate(account(long, short, wallet_balance=20))
    # 20 + 3 (p - 100) - (p - 110) = 0.01 x 4 p
    prices = [line["liquidation_price"] for line in sheet["positions"]]
    assert prices == pytest.approx([(300 - 110 - 20) / (3 - 1 - 0.04)] * 2)
    assert sheet["maintenance_margin"] == 3 + 1


def test_a_mark_given_once_is_the_mark_of_the_whole_contract():
    sheet = evaluate(account(position(symbol="A"), position(-1, symbol="A", mark_price=90), wallet_balance=100))
    assert [line["unrealized_pnl"] for line in sheet["positions"]] == [-10, 10]


def test_the_same_symbol_spot_and_perpetual_are_two_contracts():
    spot = position(1, 100, symbol="BTCUSDT", contract_type="spot", mark_price=110)
    short = position(-1, 101, symbol="BTCUSDT", mark_price=110.5, leverage=5, tiers=[{"rate": 0.01}])
    sheet = evaluate(account(spot, short, wallet_balance=150))
    assert sheet["equity"] == 150 + 10 - 9.5
    assert sheet["maintenance_margin"] == pytest.approx(1.105)
    assert sheet["positions"][1]["liquidation_price"] == pytest.approx((150 + 10 + 101) / 1.01)


def test_spot_is_paid_in_full_and_cannot_be_liquidated():
    line = figures_of(position(2, 100, contract_type="spot", mark_price=1))
    assert (line["initial_margin"], line["maintenance_margin"], line["liquidation_price"], line["tier"]) == (2, 0, None, None)
    assert not evaluate(account(position(2, 100, contract_type="spot", mark_price=1)))["liquidatable"]


def test_an_inverse_position_is_reckoned_in_coin():
    line = figures_of(isolated(60_000, 50_000, contract_type="inverse", leverage=10, tiers=[{"rate": 0.005}]))
    assert (line["notional"], line["initial_margin"]) == (1.2, 0.12)
    assert line["liquidation_price"] == pytest.approx(60_000 * 1.005 / (1.2 + 0.12))
    assert line["bankruptcy_price"] == pytest.approx(60_000 / (1.2 + 0.12))


def test_an_inverse_short_at_1x_has_no_liquidation_price():
    assert figures_of(isolated(-60_000, 50_000, contract_type="inverse"))["liquidation_price"] is None


# Tiers


def test_tiers_by_contracts_stay_where_they_are_while_the_price_moves():
    tiers = [{"cap": 1_000, "rate": 0.004, "max_leverage": 100}, {"cap": 5_000, "rate": 0.005, "max_leverage": 66.66}]
    okx = isolated(2_000, 100_000, multiplier=0.01, leverage=10, tiers=tiers, tier_mode="slab", tier_unit="contracts", taker_fee=0.0005)
    line = figures_of(okx, fee_in_margin="notional")
    assert line["tier"]["number"] == 2
    assert line["liquidation_price"] == pytest.approx(90_000 / (1 - 0.0055))


def test_a_slab_table_charges_the_whole_position_and_a_marginal_one_each_part():
    tiers = [{"cap": 1_000, "rate": 0.01}, {"cap": None, "rate": 0.03}]
    held = position(20, 100, tiers=tiers)
    assert figures_of(held)["maintenance_margin"] == pytest.approx(1_000 * 0.01 + 1_000 * 0.03)
    assert figures_of(held | {"tier_mode": "slab"})["maintenance_margin"] == pytest.approx(2_000 * 0.03)


def test_of_two_slab_tiers_that_fit_the_nearest_to_the_mark_counts():
    """With 120 of margin 10 from 100 fail at 3 % from 90.72 on, are safe again under 90, where 1 % will do, and fail at 88.89."""
    tiers = [{"cap": 900, "rate": 0.01}, {"cap": None, "rate": 0.03}]
    held = isolated(10, 100, isolated_margin=100, tiers=tiers, tier_mode="slab")
    assert figures_of(held)["liquidation_price"] == pytest.approx(900 / (10 * 0.97))
    deeper = held | {"isolated_margin": 120}
    assert figures_of(deeper)["liquidation_price"] == pytest.approx(880 / (10 * 0.97))
    assert figures_of(deeper | {"mark_price": 89})["liquidation_price"] == pytest.approx(880 / (10 * 0.99))
    assert figures_of(deeper | {"mark_price": 89.5})["liquidation_price"] == pytest.approx(90)  # 0.50 up, 0.61 down


def test_a_lone_tier_is_taken_as_it_stands():
    line = figures_of(isolated(10, 100, leverage=5, tiers=[{"floor": 0, "cap": 50, "rate": 0.02, "amount": 3, "max_leverage": 100}]))
    assert line["maintenance_margin"] == pytest.approx(1_000 * 0.02 - 3)
    assert line["liquidation_price"] == pytest.approx((1_000 - 200 - 3) / (10 * 0.98))


# Venues


def test_the_venue_fills_in_its_tiers_on_the_day():
    held = position(1, 60_000, symbol="BTCUSDT", margin_mode="isolated", leverage=20)
    (then,), (now,) = (evaluate(account(held, venue="binance", date=day))["positions"] for day in ("2021-03-01", "2026-11-01"))
    assert then["maintenance_margin"] == pytest.approx(60_000 * 0.005 - 50)
    assert now["maintenance_margin"] == pytest.approx(60_000 * 0.004)


def test_bybit_took_maintenance_of_the_entry_until_september_2025():
    held = position(1.2, 64.59947917, symbol="LTCUSDT", mark_price=71.1, leverage=6, tiers=[{"rate": 0.01}], taker_fee=0.00055)
    worth, fee = 1.2 * 64.59947917, 0.00055 * (1 - 1 / 6)
    before, after = (figures_of(held, venue="bybit", date=day) for day in ("2025-09-01", "2025-09-02"))
    assert before["maintenance_margin"] == pytest.approx(worth * (0.01 + fee))
    assert after["maintenance_margin"] == pytest.approx(1.2 * 71.1 * (0.01 + fee))


def test_what_the_account_says_wins_over_its_venue():
    held = isolated(1, 100, symbol="X", leverage=10, taker_fee=0.001, tiers=[{"rate": 0.01}])
    assert figures_of(held, venue="bybit", fee_in_margin="none")["maintenance_margin"] == 1
    assert figures_of(held, venue="binance", fee_in_margin="notional")["maintenance_margin"] == pytest.approx(1.1)


def test_the_venues_taker_fee_is_the_one_in_margin():
    held = isolated(1, 60_000, symbol="BTC-USDT-SWAP", leverage=10)
    line = figures_of(held, venue="okx")
    assert line["notional"] == 600  # a contract is 0.01 BTC
    assert line["maintenance_margin"] == pytest.approx(600 * (0.004 + 0.0005))


def test_tiers_of_ones_own_are_read_the_way_the_venues_are():
    tiers = [{"cap": 10, "rate": 0.01}, {"cap": 100, "rate": 0.02}]
    held = isolated(20, 100, symbol="NEW-USDT-SWAP", tiers=tiers, taker_fee=0)
    assert figures_of(held, venue="okx")["maintenance_margin"] == 20 * 100 * 0.02  # by contracts, the whole of it
    assert figures_of(held, venue="bybit")["maintenance_margin"] == pytest.approx(10 * 0.01 + 1_990 * 0.02)  # by notional, each part


# What is refused


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], "the account must be an object"),
        ({"wallet": 5}, "the account has unknown fields 'wallet'; known are venue, date"),
        (account(position(side="long", qty=1)), "position 1 has unknown fields 'side', 'qty'; known are symbol, size"),
        (account(position(tiers=[{"rate": 0.1, "mmr": 1}])), "position 1, tier 1 has unknown fields 'mmr'"),
        (account(5), "position 1 must be an object with the fields symbol"),
        ({"positions": {}}, "the account: positions must be a list, was {}"),
        (account({"size": 1}), "position 1: entry_price is missing"),
        (account({"entry_price": 1, "symbol": "BTCUSDT"}), "position 1 (BTCUSDT): size is missing"),
        (account(position(), position(0)), "position 2: size must not be 0"),
        (account(position("1")), "position 1: size must be a finite number, was '1'"),
        (account(position(True)), "position 1: size must be a finite number, was True"),
        (account(position(nan)), "position 1: size must be a finite number, was nan"),
        (account(position(10**400)), "position 1: size must be a finite number, was 1000"),
        (account(position(entry_price=inf)), "position 1: entry_price must be a finite number, was inf"),
        (account(position(entry_price=0)), "position 1: entry_price must be above 0, was 0"),
        (account(position(mark_price=-3)), "position 1: mark_price must be above 0, was -3"),
        (account(position(multiplier=0)), "position 1: multiplier must be above 0, was 0"),
        (account(position(leverage=0.5)), "position 1: leverage must be 1 or more, was 0.5"),
        (account(position(taker_fee=0.5)), "position 1: taker_fee is a fraction of notional (0.0005 = 5 bp) between -0.1 and 0.1, was 0.5"),
        (account(position(symbol=5)), "position 1: symbol must be a text, was 5"),
        (account(position(contract_type="future")), "contract_type is one of 'linear', 'inverse', 'spot', was 'future'"),
        (account(position(margin_mode="hedge")), "margin_mode is one of 'cross', 'isolated', was 'hedge'"),
        (account(position(isolated_margin=5)), "position 1: isolated_margin is 5 on a position in cross margin; set its margin_mode"),
        (account(isolated(isolated_margin=-5)), "position 1: isolated_margin must be 0 or more, was -5"),
        (account(position(tiers={})), "position 1: tiers must be a list, was {}"),
        (account(position(tiers=[])), "position 1: a tier table needs at least one tier"),
        (account(position(tiers=[{"cap": 5}])), "position 1, tier 1: rate is missing"),
        (
            account(position(tiers=[{"cap": 5, "rate": 0.1}, {"floor": 6, "rate": 0.2}])),
            "position 1: tier 2 must start where tier 1 ends, at 5",
        ),
        (
            account(position(tiers=[{"cap": 5, "rate": 0.2}, {"rate": 0.1}])),
            "position 1: maintenance rates never fall: tier 2 has 0.1 after 0.2",
        ),
        (
            account(position(tiers=[{"cap": 5, "rate": 0.1}, {"rate": 0.2, "amount": 7}])),
            "maintenance amount 7 disagrees with the derived 0.5",
        ),
        (account(position(tier_mode="stairs")), "tier_mode is one of 'marginal', 'slab', was 'stairs'"),
        (
            account(position(-1, contract_type="spot")),
            "position 1: spot is bought and paid in full, with size > 0 and leverage 1; they were -1",
        ),
        (account(position(contract_type="spot", leverage=2)), "spot is bought and paid in full"),
        (account(position(contract_type="spot", tiers=[{"rate": 0.1}])), "position 1: spot has no tiers, 1 were given"),
        (account(venue="mtgox"), "no venue is called 'mtgox'"),
        (account(venue="binance", date=20210301), "the account: date must be a text, was 20210301"),
        (account(position(), venue="binance"), "position 1: binance has no tiers for a position without a symbol here (known: "),
        (
            account(position(symbol="BTCUSDT", tier_mode="slab"), venue="binance"),
            "tier_mode 'slab' and tier_unit 'quote' need tiers of your own",
        ),
        (account(maintenance_basis="last"), "maintenance_basis is one of 'mark', 'entry', was 'last'"),
        (account(fee_in_margin=True), "fee_in_margin is one of 'none', 'notional', 'bankruptcy', was True"),
        (
            account(position(symbol="A", mark_price=1), position(symbol="A", mark_price=2)),
            "position 2 (A): a contract has one mark price, was 2",
        ),
        (account(position(1e200, 1e200)), "position 1: notional is too large or too small"),
    ],
)
def test_what_it_cannot_take_is_one_sentence(given, sentence):
    with pytest.raises(ValueError, match=f"^.*{re.escape(sentence)}.*$"):
        evaluate(given)


def test_a_day_that_is_none_is_refused():
    with pytest.raises(ValueError, match="1st of March"):
        evaluate({"venue": "binance", "date": "1st of March", "positions": []})


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"symbol": "BTCUSD", "contract_type": "inverse"}, {"symbol": "BTCUSDT"}),
        ({"symbol": "BTCUSD_PERP", "contract_type": "inverse"}, {"symbol": "ETHUSD_PERP", "contract_type": "inverse"}),
        ({"symbol": "BTCUSDT"}, {"symbol": "ETH/USDC:USDC"}),
        ({"contract_type": "inverse"}, {}),
    ],
)
def test_positions_that_settle_in_different_money_are_refused(one, two):
    with pytest.raises(ValueError, match="an account has one settlement currency: position 1"):
        evaluate(account(position(**one), position(**two)))


def test_contracts_that_settle_in_one_money_stand_together():
    same = [{"symbol": "BTCUSDT"}, {"symbol": "ETH-USDT-SWAP"}, {"symbol": "SOL/USDT", "contract_type": "spot"}, {"symbol": "?"}]
    assert evaluate(account(*(position(**terms) for terms in same), wallet_balance=1_000))["equity"] == 1_000


# The sheet of one position


def btc(**terms):
    return contract_sheet(**{"venue": "binance", "symbol": "BTCUSDT", "size": 0.5, "entry_price": 60_000, "leverage": 20, **terms})


def test_the_sheet_has_the_accounts_figures():
    sheet = btc()
    line = figures_of(isolated(0.5, 60_000, symbol="BTCUSDT", leverage=20), venue="binance")
    assert {name: sheet[name] for name in ADDED_TO_POSITION} == {name: line[name] for name in ADDED_TO_POSITION}
    assert sheet["liquidation_distance_percent"] == pytest.approx(100 * (1 - line["liquidation_price"] / 60_000))
    assert sheet["bankruptcy_distance_percent"] == pytest.approx(5)


def test_in_cross_the_sheet_stands_on_the_balance():
    assert btc(margin_mode="cross", balance=3_000)["bankruptcy_price"] == 60_000 - 3_000 / 0.5
    with pytest.raises(ValueError, match="give its balance"):
        btc(margin_mode="cross")


def test_order_cost_is_the_venues():
    binance = contract_sheet(
        venue="binance", symbol="BTCUSDT", size=-1, entry_price=9_253.3, mark_price=9_259.84, last_price=9_258.99, leverage=20
    )
    assert binance["order_cost"]["total"] == pytest.approx(9_258.99 * 1.0015 / 20 + 6.54)
    bybit = contract_sheet(venue="bybit", symbol="BTCUSDT", size=1, entry_price=50_000, leverage=10)
    assert bybit["order_cost"]["total"] == pytest.approx(5_000 + 27.5 + 24.75)
    okx = contract_sheet(venue="okx", symbol="BTC-USDT-SWAP", size=100, entry_price=50_000, leverage=10)
    assert okx["order_cost"]["total"] == pytest.approx(5_000 + 25)


def test_fees_and_break_even_are_those_of_the_taker():
    sheet = contract_sheet(size=-2, entry_price=100, taker_fee=0.001)
    assert sheet["fees"]["taker"] == pytest.approx(0.2)
    assert sheet["break_even_price"] == pytest.approx(99.9)
    closed = sheet["break_even_price_closed"]
    assert 2 * (100 - closed) == pytest.approx(0.001 * 2 * (100 + closed))


def test_profit_at_a_price_is_of_the_margin_it_was_opened_with():
    at_price = btc(price=58_000, taker_fee=0.0005)["at_price"]
    assert at_price["unrealized_pnl"] == -1_000
    assert at_price["return_on_margin"] == -1_000 / 1_500
    assert at_price["net_pnl"] == pytest.approx(-1_000 - 0.0005 * (30_000 + 29_000))


def test_a_day_of_funding_is_what_its_stamps_take():
    assert contract_sheet(size=2, entry_price=100, funding_rate=0.0001)["funding_per_day"]["amount"] == pytest.approx(-200 * 0.0001 * 3)
    hourly = contract_sheet(venue="hyperliquid", symbol="BTC", size=-1, entry_price=100, funding_rate=0.0001)["funding_per_day"]
    assert hourly["amount"] == pytest.approx(100 * 0.0001 * 24)
    assert contract_sheet(size=1, entry_price=100, contract_type="spot", funding_rate=0.1)["funding_per_day"]["amount"] == 0


@pytest.mark.parametrize("wanted", [50_000, 58_000])
@pytest.mark.parametrize("terms", [{}, {"fee_in_margin": "bankruptcy"}, {"fee_in_margin": "notional"}])
def test_the_margin_to_add_moves_the_price_to_the_wanted_one(wanted, terms):
    sheet = btc(wanted_liquidation_price=wanted, **terms)
    assert btc(isolated_margin=sheet["isolated_margin"] + sheet["margin_to_add"], **terms)["liquidation_price"] == pytest.approx(wanted)


def test_the_largest_size_is_what_the_balance_pays_and_the_tier_allows():
    assert contract_sheet(size=1, entry_price=100, leverage=10, balance=55)["largest_size"] == pytest.approx(5.5)
    assert contract_sheet(size=-1, entry_price=100, leverage=10, balance=55, taker_fee=0.01)["largest_size"] == pytest.approx(-55 / 11)
    tiers = [{"cap": 1_000, "rate": 0.01, "max_leverage": 50}, {"cap": 5_000, "rate": 0.02, "max_leverage": 20}]
    assert contract_sheet(size=1, entry_price=100, leverage=25, balance=900, tiers=tiers)["largest_size"] == 10
    assert btc(balance=1_000)["largest_size"] == 0.333  # 20 000 of notional in lots of 0.001
    assert btc(balance=-5)["largest_size"] == 0


def test_the_largest_size_ends_where_its_lots_meet_the_money_to_the_last_digit():
    for lots in range(1, 400):
        paid = btc(size=lots * 0.001)["order_cost"]["total"]
        for balance in (paid, nextafter(paid, 0)):
            most = btc(balance=balance)["largest_size"]
            assert most in (lots * 0.001, (lots - 1) * 0.001)
            assert not most or btc(size=most)["order_cost"]["total"] <= balance


def test_the_ladder_climbs_to_the_tiers_highest_leverage():
    ladder = btc()["ladder"]
    assert [rung["leverage"] for rung in ladder] == [1, 2, 3, 5, 10, 20, 25, 50, 75, 100, 125, 150]
    prices = {rung["leverage"]: rung["liquidation_price"] for rung in ladder}
    assert prices[1] is None
    assert prices[20] == btc()["liquidation_price"]
    assert contract_sheet(size=1, entry_price=100, contract_type="spot")["ladder"] == []


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ({"leverage": 151}, "leverage 151 is not possible at this size, its tier allows 150x"),
        ({"size": 50, "leverage": 100}, "leverage 100 is not possible at this size, its tier allows 75x"),
        ({"size": 1e6}, "the last tier ends at"),
        ({"price": 0}, "price must be above 0"),
        ({"last_price": -1}, "last_price must be above 0"),
        ({"wanted_liquidation_price": nan}, "wanted_liquidation_price must be a finite number"),
        ({"funding_rate": "1"}, "funding_rate must be a finite number"),
        ({"positions": []}, "position 1 (BTCUSDT) has unknown fields 'positions'"),
    ],
)
def test_a_sheet_that_cannot_be_is_refused(terms, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        btc(**terms)


def test_losses_of_a_first_balance_and_of_what_is_left():
    assert share_left(risk=0.25, losses=2, is_compounded=False) == 0.5
    assert share_left(risk=0.25, losses=2, is_compounded=True) == 0.5625
    assert share_left(risk=0.5, losses=3, is_compounded=False) == 0


def earning(venue: str, symbol: str, **more) -> dict:
    """Return the first position of an account that holds two bought at 1 000 and standing at 1 100, and one more."""
    first = {"symbol": symbol, "size": 2, "entry_price": 1_000, "mark_price": 1_100, "tiers": [{"rate": 0.01}], **more}
    other = {"symbol": "OTHER", "size": 1, "entry_price": 500, "mark_price": 400, "tiers": [{"rate": 0.01}]}
    return evaluate({"venue": venue, "wallet_balance": 900, "positions": [first, other]})["positions"]


@pytest.mark.parametrize(
    ("venue", "symbol", "score"),
    [
        ("binance", "BTCUSDT", 200 / (1_000 - 200) * 26 / 1_000),  # 900 + 200 - 100 of equity, 22 and 4 of maintenance
        ("hyperliquid", "BTC", 1.1 * 2_200 / 1_000),
        ("bybit", "BTCUSDT", None),
        ("okx", "BTCUSDT", None),
        ("generic", "BTCUSDT", None),
    ],
)
def test_the_deleveraging_score_is_the_venues_where_it_is_sourced(venue, symbol, score):
    line, losing = earning(venue, symbol)
    assert line["adl_score"] == (None if score is None else pytest.approx(score))
    assert losing["adl_score"] is None, "what has lost is not queued"


def test_an_isolated_positions_deleveraging_score_is_that_of_its_own_money():
    line, _ = earning("binance", "BTCUSDT", margin_mode="isolated", isolated_margin=100)
    assert line["adl_score"] == pytest.approx(200 / 100 * 22 / 300)


@pytest.mark.parametrize(("venue", "is_liquidatable"), [("generic", True), ("dydx", False)])
def test_equity_equal_to_maintenance_is_liquidatable_but_at_dydx(venue, is_liquidatable):
    held = {"symbol": "X", "size": 1, "entry_price": 100, "mark_price": 93.75, "tiers": [{"rate": 0.01}]}
    assert evaluate({"venue": venue, "wallet_balance": 6.25 + 0.9375, "positions": [held]})["liquidatable"] is is_liquidatable


@pytest.mark.parametrize("account", [{}, {"venue": "binance"}, {"wallet_balance": None, "positions": None}])
def test_an_account_without_money_and_positions_is_refused(account):
    with pytest.raises(ValueError, match="the account has neither wallet_balance nor positions; give one or both"):
        evaluate(account)
