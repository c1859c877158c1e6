"""What each venue does to a dying account, step by step, at numbers that can be redone by hand.

Unless a test says otherwise: 0.5 % of maintenance at mark, taker 0.05 %, liquidation fee 1.25 %, lots of 0.001.
"""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_margin import Contract, MarginAccount, TierSchedule, TierTable, venues
from bt_margin.core.account import Risk
from bt_margin.core.ledger import CROSS, MONEY_TOLERANCE
from bt_margin.core.liquidation import account_liquidation_price
from bt_margin.core.profiles import (
    BINANCE,
    BYBIT,
    DYDX,
    FORFEIT,
    GENERIC,
    HYPERLIQUID,
    MARKET,
    OKX,
    PROFILES,
    TRADINGVIEW,
    Cooldown,
    Fraction,
    Minimum,
    Profile,
    Tiers,
    _to_leave,
    plan_liquidation,
)

BTC = "BTCUSDT"


def contract(symbol: str = BTC, table: TierTable | None = None, **terms: Any) -> Contract:
    given = {"lot": 0.001, "taker": 0.0005, "liquidation_fee": 0.0125, **terms}
    return Contract(symbol, tiers=TierSchedule.constant(table or TierTable.flat(0.005)), **given)


def account_of(*held: tuple[Contract, float, float, float], mode: str = "isolated", cash: float | None = None) -> MarginAccount:
    """Return an account that holds these (contract, size, entry price, leverage); without cash twice their margin."""
    account = MarginAccount()
    margin = sum(terms.notional(size, entry_price) / leverage for terms, size, entry_price, leverage in held)
    account.deposit(2 * margin if cash is None else cash, time=0)
    for terms, size, entry_price, leverage in held:
        account.add_contract(terms, leverage=leverage, margin_mode=mode)
        account.apply_fill(terms.symbol, size=size, price=entry_price, fee_rate=0.0, time=0)
    return account


def wallet_of(account: MarginAccount) -> str:
    return next(position.wallet for position in account.positions.values() if position.size)


def steps_of(account: MarginAccount, profile: Profile, marks: dict[str, float], **known: Any) -> list[tuple[str, float, float, float]]:
    """Apply the plan to the account and return its steps: symbol, size, owner's price, fee."""
    steps = plan_liquidation(account, wallet_of(account), marks, profile, **known)
    for step in steps:
        account.apply(step, time=0)
    return [(step.symbol, step.size, step.price, step.fee) for step in steps]


def fund_of(account: MarginAccount) -> float:
    assert account.journal is not None
    return account.journal.balances()["insurance_fund"]


def near(*figures: float) -> tuple[Any, ...]:
    return tuple(pytest.approx(figure, rel=1e-9, abs=1e-9) for figure in figures)


# The same dying account: a 20x long of one bitcoin from 100 000 holds 5 000. At 95 400 equity is 400, maintenance 477; at
# 95 300 they are 300 and 476.5. What is sold: (size, owner's price, fee); what the trader has of his 5 000 in the end.

TAKEN_OVER = [(1, 95_000, 0)]
DYING = [
    # no venue: sold at the mark, 1.25 % of 95 400 are more than the 400 there are
    (MARKET, 95_400, [(1, 95_400, 400)], 0),
    # no venue: handed over at the price where nothing is left
    (FORFEIT, 95_400, TAKEN_OVER, 0),
    (GENERIC, 95_400, TAKEN_OVER, 0),
    # Binance FAQ 360033525271, 2020-07-05: small positions maintain less than the fee, so they are bankrupt as they fail
    (BINANCE, 95_400, TAKEN_OVER, 0),
    # Bybit help 000001098, 2024-01-24: on the lowest risk limit settled at the bankruptcy price
    (BYBIT, 95_400, TAKEN_OVER, 0),
    # OKX, forced liquidation (copy at amorrr.com/14966): tiers 1 and 2 are taken over at the bankruptcy price
    (OKX, 95_400, TAKEN_OVER, 0),
    # Hyperliquid docs, liquidations: a market order, the taker fee, the rest is returned
    (HYPERLIQUID, 95_400, [(1, 95_400, 47.7)], 352.3),
    # the same: 300 are below two thirds of 476.5, the vault takes it all
    (HYPERLIQUID, 95_300, TAKEN_OVER, 0),
    # dYdX v4 at 014223b6: a tenth of the 77 that are missing off the mark, then a fee that takes what is left of 400
    (DYDX, 95_400, [(1, 95_400 - 7.7, 392.3)], 0),
    # TradingView: 77 / (477 - 47.7) = 0.179 is enough, four times that goes
    (TRADINGVIEW, 95_400, [(0.716, 95_400, 0.716 * 47.7)], 400 - 0.716 * 47.7),
]


@pytest.mark.parametrize("mode", ["isolated", "cross"])
@pytest.mark.parametrize(("profile", "mark", "sold", "left"), DYING, ids=[f"{row[0].name}-{row[1]}" for row in DYING])
def test_the_same_dying_account_fares_as_its_venue_says(profile: Profile, mark: float, sold: list[Any], left: float, mode: str) -> None:
    account = account_of((contract(), 1, 100_000, 20), mode=mode, cash=5_000)

    steps = steps_of(account, profile, {BTC: mark})

    assert [step[1:] for step in steps] == [near(*row) for row in sold]
    assert account.equity({BTC: mark}) == pytest.approx(left, abs=1e-6)


@pytest.mark.parametrize("mode", ["isolated", "cross"])
@pytest.mark.parametrize("name", PROFILES)
def test_a_gap_beyond_bankruptcy_costs_the_wallet_and_the_fund_pays_the_rest(name: str, mode: str) -> None:
    account = account_of((contract(), 1, 100_000, 20), mode=mode, cash=5_000)

    steps = steps_of(account, PROFILES[name], {BTC: 90_000})

    assert [step[1:] for step in steps] == [near(*TAKEN_OVER[0])]
    assert account.wallet_balance == pytest.approx(0, abs=1e-6)
    slipped = 0.1 * 450 if name == "dydx" else 0  # a tenth of maintenance margin off the mark, at the fund's cost too
    assert fund_of(account) == pytest.approx(-5_000 - slipped)


@pytest.mark.parametrize(
    ("profile", "symbol", "size", "left"),
    [
        # maintenance 0.4 %: dies at 95 000 / 0.996 with 381.53, the fee would be 1 192; founding case DER-POLICY-1
        (BINANCE, "BTCUSDT", 1, 0),
        # 0.33 % at mark, 5 052.25 of margin with the fee to close: at (95 000 / 0.9967) with 314.54 + 52.25
        (BYBIT, "BTCUSDT", 1, 0),
        # 0.4 % and the taker fee: at 95 000 / 0.9955 with 429.43
        (OKX, "BTCUSDT", 100, 0),
        # 1.25 %: at 95 000 / 0.9875 with 1 202.53, less 0.045 % of the notional, which is below 100 000
        (HYPERLIQUID, "BTC", 1, 95_000 / 0.9875 * (0.0125 - 0.00045)),
        # 1.2 %: at 95 000 / 0.988 with 1 153.85, less 0.5 %
        (DYDX, "BTC-USD", 1, 95_000 / 0.988 * (0.012 - 0.005)),
    ],
)
def test_on_its_own_tiers_a_venue_keeps_or_returns_what_is_left(profile: Profile, symbol: str, size: float, left: float) -> None:
    account = venue_account(profile.name, symbol, size, entry_price=100_000)
    symbol = next(iter(account.positions))
    mark = account_liquidation_price(account, symbol, {symbol: 100_000})
    assert mark is not None
    before = account.wallets[CROSS]

    steps_of(account, profile, {symbol: mark}, has_failed=True)

    assert account.wallets[CROSS] - before == pytest.approx(left, abs=1e-6)
    assert not account.positions[symbol].size


def venue_account(venue: str, symbol: str, size: float, *, entry_price: float) -> MarginAccount:
    """Return an account with a 20x isolated position on the venue's latest tiers and terms."""
    rules = venues.load(venue)
    found = rules.contract(symbol)
    terms = Contract(found.symbol, found.multiplier, found.lot, found.maker, found.taker, found.liquidation_fee, found.tiers, found.kind)
    account = MarginAccount()
    account.deposit(1e9, time=0)
    account.add_contract(terms, leverage=20, margin_mode="isolated", rules=rules.terms, time=4e9)
    account.apply_fill(terms.symbol, size=size, price=entry_price, fee_rate=0.0, time=0)
    return account


# Binance: just enough, or everything


def test_binance_sells_the_fewest_lots_that_make_the_wallet_safe() -> None:
    # 10 at 10x hold 100 000: at 94 000 equity is 40 000, maintenance 5 % of 940 000. A lot spares 4.7 and costs 1.175 of
    # fee: 7 000 / (4 700 - 1 175) = 1.98582
    account = account_of((contract(table=TierTable.flat(0.05)), 10, 100_000, 10))

    steps = steps_of(account, BINANCE, {BTC: 94_000})

    assert steps == [(BTC, *near(1.986, 94_000, 1.986 * 1_175))]
    risk = account.risk(wallet_of(account), {BTC: 94_000})
    assert (risk.equity, risk.maintenance_margin) == near(40_000 - 1.986 * 1_175, 8.014 * 4_700)
    assert 40_000 - 1.985 * 1_175 < 8.015 * 4_700


def test_what_is_enough_is_judged_at_the_worst_mark_of_the_bar_and_sold_at_the_present_one() -> None:
    # at 93 000 equity would be 30 000 and 1 000 more for each bitcoin sold at 94 000: 16 500 / (4 650 + 1 000 - 1 175)
    account = account_of((contract(table=TierTable.flat(0.05)), 10, 100_000, 10))

    steps = steps_of(account, BINANCE, {BTC: 94_000}, extremes={BTC: 93_000})

    assert steps == [(BTC, *near(3.688, 94_000, 3.688 * 1_175))]
    assert not account.risk(wallet_of(account), {BTC: 93_000}).is_liquidatable


def test_just_enough_looks_for_the_tier_in_which_selling_still_helps() -> None:
    # 5 % above 300 000, 0.5 % below: there a sale costs more fee than it spares. 940 000 ask 47 000 - 13 500 = 33 500
    table = TierTable.from_rows([(300_000, 0.005, 100), (None, 0.05, 20)])
    account = account_of((contract(table=table), 10, 100_000, 11))

    steps = steps_of(account, BINANCE, {BTC: 94_000})  # 30 909.09 of equity: 2 590.91 / 3 525 = 0.73501

    assert steps == [(BTC, *near(0.736, 94_000, 0.736 * 1_175))]


def test_where_no_sale_is_enough_binance_takes_over() -> None:
    table = TierTable.from_rows([(300_000, 0.005, 100), (None, 0.05, 20)])
    account = account_of((contract(table=table), 10, 100_000, 15))  # 66 667 less 62 000; 1.25 % of 640 000 is 8 000

    assert steps_of(account, BINANCE, {BTC: 93_800}) == [(BTC, *near(10, 100_000 - 1e5 / 15, 0))]


@given(
    size=st.integers(1, 150),
    leverage=st.floats(5, 30),
    depth=st.floats(0, 0.99),
    rates=st.sampled_from([(0.01, 0.02), (0.02, 0.03), (0.005, 0.03), (0.03, 0.033)]),
    mode=st.sampled_from(["marginal", "slab"]),
)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_just_enough_is_the_first_lot_at_which_the_account_is_safe(size, leverage, depth, rates, mode) -> None:
    """Against trying every number of lots on the account itself."""
    table = TierTable.from_rows([(5_000, rates[0], 33), (12_000, rates[0], 33), (None, rates[1], 30)], mode=mode)
    terms = contract(table=table, lot=1.0)
    account = account_of((terms, size, 100, leverage))
    wallet = wallet_of(account)
    mark = account_liquidation_price(account, BTC, {BTC: 100}) or 100.0
    mark -= depth * (mark - 100 * (1 - 1 / leverage))
    step = plan_liquidation(account, wallet, {BTC: mark}, BINANCE, has_failed=True)[0]
    enough = [number for number in range(1, size + 1) if is_safe_after(account, wallet, step, number, mark)]
    assert (step.size, step.forfeits_rest) == ((enough[0], False) if enough else (size, True))


def is_safe_after(account: MarginAccount, wallet: str, step: Any, size: float, mark: float) -> bool:
    """Return whether an account is safe, or flat with money left, after a sale at the mark that pays its fee in full."""
    trial = account.clone()
    trial.apply(step._replace(size=size, price=mark, market_price=mark, fee=size * mark * 0.0125, forfeits_rest=False), time=0)
    if not trial.positions[BTC].size:
        return trial.wallets[CROSS] > account.wallets[CROSS] + 1e-9 * mark * size
    risk = trial.risk(wallet, {BTC: mark})
    return risk.equity - risk.maintenance_margin > 1e-12 * (abs(account.risk(wallet, {BTC: mark}).equity) + 2 * size * mark)


# Bybit: down to the tier that suffices, or everything

LADDER = TierTable.from_rows([(1_000_000, 0.005, 100), (3_000_000, 0.01, 50), (None, 0.02, 25)])  # amounts 0, 5 000, 35 000


@pytest.mark.parametrize(
    ("mark", "sold"),
    [
        # 40 000 of equity, 3 840 000 x 2 % - 35 000: the second tier holds 31.25 and asks 25 000
        (96_000, (8.75, 96_000, 840_000 * 0.0005)),
        # 20 000: too little for the second tier; the first holds 10.471 and asks 5 000 of what 1 410 of fee leave
        (95_500, (40 - 10.471, 95_500, 29.529 * 95_500 * 0.0005)),
        # 4 000: too little for any
        (95_100, (40, 95_000, 0)),
    ],
)
def test_bybit_goes_down_to_the_first_tier_that_suffices(mark: float, sold: tuple[float, float, float]) -> None:
    account = account_of((contract(table=LADDER), 40, 100_000, 20))

    assert steps_of(account, BYBIT, {BTC: mark}) == [(BTC, *near(*sold))]


def test_in_a_shared_wallet_the_position_whose_tier_can_be_lowered_goes_first() -> None:
    # the ether has lost 170 000, ten more than the bitcoin, but stands in its first tier; 40 000 are left, 41 800 + 150 asked
    account = account_of((contract(table=LADDER), 40, 100_000, 20), (contract("ETH", LADDER), 100, 2_000, 20), mode="cross", cash=370_000)
    marks = {BTC: 96_000, "ETH": 300.0}

    steps = steps_of(account, BYBIT, marks)

    assert [(symbol, size) for symbol, size, _, _ in steps] == [(BTC, pytest.approx(8.75))]
    assert account.positions["ETH"].size == 100


# OKX: two tiers at a time, from the third on; 1 contract is 0.01 bitcoin


@pytest.mark.parametrize(
    ("contracts", "mark", "sold"),
    [
        # tier 4 (to 40 000, 1.25 %): 360 000 of equity, 300 x 96 200 x 1.3 % = 375 180 asked; the second tier ends at 5 000
        (30_000, 96_200, [(25_000, 96_200, 250 * 96_200 * 0.0005)]),
        # tier 6 (to 80 000, 2.25 %): 420 000; in tier 4 405 660 are still below 400 x 95 600 x 1.3 %
        (70_000, 95_600, [(30_000, 95_600, 300 * 95_600 * 0.0005), (35_000, 95_600, 350 * 95_600 * 0.0005)]),
        # tier 6: 280 000 are below the 0.45 % of 66 780 000 that tier 1 would ask
        (70_000, 95_400, [(70_000, 95_000, 0)]),
        # tier 2 (to 5 000, 0.5 %): 20 000, and 50 x 95 400 x 0.55 % asked
        (5_000, 95_400, [(5_000, 95_000, 0)]),
    ],
)
def test_okx_goes_down_two_tiers_and_again(contracts: float, mark: float, sold: list[Any]) -> None:
    """Tiers of BTC-USDT-SWAP, 99 by rule, fetched from OKX on 2026-09-18 (okx-perp-backtest at 57a7fa5a)."""
    account = venue_account("okx", BTC, contracts, entry_price=100_000)

    steps = steps_of(account, OKX, {"BTC-USDT-SWAP": mark})

    assert [step[1:] for step in steps] == [near(*row) for row in sold]


# Hyperliquid: a fifth of what is large, the vault where it is late


def large_long() -> MarginAccount:
    """Return a long of 10 bitcoins at 20x and 1.25 %: it holds 50 000 and dies at 95 000 / 0.9875 = 96 202.53."""
    return account_of((contract(table=TierTable.flat(0.0125)), 10, 100_000, 20))


def test_hyperliquid_sells_a_fifth_of_a_position_above_100_000() -> None:
    account = large_long()

    steps = steps_of(account, HYPERLIQUID, {BTC: 96_200})  # 12 000 of equity, 12 025 asked

    assert steps == [(BTC, *near(2, 96_200, 2 * 96_200 * 0.0005))]
    assert account.wallets["wallet:BTCUSDT"] == pytest.approx(50_000 - 2 * 3_800 - 96.2)  # margin stays with what stays


@pytest.mark.parametrize(
    ("seconds_later", "bar_seconds", "sold"),
    [(0, 0, 8), (29, 0, 8), (30, 0, 1.6), (29, 30, 8), (29, 31, 1.6), (1_800, 3_600, 1.6)],
)
def test_within_the_cooldown_everything_goes(seconds_later: float, bar_seconds: float, sold: float) -> None:
    account, cooldown = large_long(), Cooldown()
    for step in plan_liquidation(account, "wallet:BTCUSDT", {BTC: 96_200}, HYPERLIQUID, now=100):
        account.apply(step, time=0)
        cooldown.note(account, step, now=100)
    known = {"now": 100 + seconds_later, "bar_seconds": bar_seconds, "cooldown": cooldown}

    # 42 303.8 - 8 x 4 100 = 9 503.8 against 8 x 95 900 x 1.25 % = 9 590
    (step,) = plan_liquidation(account, "wallet:BTCUSDT", {BTC: 95_900}, HYPERLIQUID, **known)

    assert step.size == pytest.approx(sold)
    assert cooldown.cut_at == {BTC: 100}  # a plan leaves it alone


def test_a_sale_of_the_whole_position_starts_no_cooldown() -> None:
    account, cooldown = account_of((contract(), 1, 100_000, 20)), Cooldown()
    (step,) = plan_liquidation(account, "wallet:BTCUSDT", {BTC: 95_400}, HYPERLIQUID, now=100, cooldown=cooldown)
    account.apply(step, time=0)
    cooldown.note(account, step, now=100)

    assert cooldown.cut_at == {}


def test_at_one_instant_every_large_position_gives_a_fifth_before_one_gives_all() -> None:
    # 4 % of 500 000, 200 000 and 50 000 are 30 000; 18 000 are there
    held = [(contract(name, TierTable.flat(0.04)), size, 100, 20) for name, size in (("A", 6_250), ("B", 2_500), ("C", 625))]
    account = account_of(*held, mode="cross", cash=187_500 + 18_000)
    marks = dict.fromkeys("ABC", 80.0)

    steps = steps_of(account, replace(HYPERLIQUID, backstop=None, fee="none"), marks)

    # a fifth of A and B: 24 400 are asked; C, which is small: 22 400; the rest of A, which was cut a moment ago: 6 400
    assert [(symbol, size) for symbol, size, _, _ in steps] == [("A", 1_250), ("B", 500), ("C", 625), ("A", 5_000)]


# dYdX: whole, at worst at the fillable price, each position up to its share


def test_dydx_fails_below_maintenance_only() -> None:
    at = Risk(10.0, 20.0, 10.0)

    assert (DYDX.fails(at), MARKET.fails(at), DYDX.fails(replace(at, equity=9.99))) == (False, True, True)
    assert not DYDX.fails(Risk(-1.0, 0.0, 0.0, holds_position=False))


def two_longs(equity: float) -> tuple[MarginAccount, dict[str, float]]:
    """Return 0.004 bitcoins at 50 000 and 0.1 ether at 3 000 at 10 % of maintenance: 20 and 30 of 50, as in DYDX-B8."""
    table = TierTable.flat(0.1)
    held = [
        (contract(name, table, liquidation_fee=0.005), size, price, 5) for name, size, price in (("A", 0.004, 60_000), ("B", 0.1, 3_000))
    ]
    return account_of(*held, mode="cross", cash=40 + equity), {"A": 50_000.0, "B": 3_000.0}


def test_dydx_sells_the_largest_loss_within_its_share_of_equity() -> None:
    account, marks = two_longs(equity=40)

    steps = steps_of(account, DYDX, marks)

    # a fifth of the way down: 0.2 x 10 % x 20 = 0.4 below the 200 it is worth, then 0.5 % of 199.6; the other lives
    assert steps == [("A", *near(0.004, 199.6 / 0.004, 0.998))]


def test_the_share_of_a_position_caps_its_price_and_its_fee() -> None:
    account, marks = two_longs(equity=1)

    steps = steps_of(account, DYDX, marks)

    # A may spend 0.4 of 1, its fill would cost 0.98 x 2; the fund pays 1.56. B then stands alone with 0.6, and spends it
    assert steps == [("A", *near(0.004, 50_000 - 0.4 / 0.004, 0)), ("B", *near(0.1, 3_000 - 0.6 / 0.1, 0))]
    assert account.wallet_balance == pytest.approx(0, abs=1e-9)
    # the other's fill costs 0.98 x 3
    assert fund_of(account) == pytest.approx(0.4 - 1.96 + 0.6 - 2.94)


def test_below_zero_the_fund_lifts_each_position_to_its_bankruptcy_price() -> None:
    account, marks = two_longs(equity=-10)

    steps = steps_of(account, DYDX, marks)

    assert steps == [("A", *near(0.004, 50_000 + 4 / 0.004, 0)), ("B", *near(0.1, 3_000 + 6 / 0.1, 0))]


# TradingView: four times the minimum at the bar's extreme


def margin_call(lot: float, cash: float, low: float) -> tuple[list[Any], MarginAccount]:
    """Return what is sold of 100 contracts from 100 at 20 % of margin, and the account."""
    account = account_of((contract(table=TierTable.flat(0.2), lot=lot, taker=0.0), 100, 100, 4), mode="cross", cash=cash)
    return steps_of(account, TRADINGVIEW, {BTC: 100.0}, extremes={BTC: low}), account


@pytest.mark.parametrize(
    ("lot", "cash", "sold"),
    [
        (0.0, 2_690, 4 * 110 / 18),  # at 90: 1 690 of equity, 1 800 asked: 110 / (20 % x 90) = 6.111
        (1.0, 2_690, 24),  # cut to 6 before it is multiplied
        (10.0, 2_690, 10),  # no lot is left: one contract, here one lot
        (1.0, 2_795, 1),  # 5 / 18: no lot is left
        (0.0, 2_200, 100),  # 600 / 18 are a third: all of it
    ],
)
def test_tradingview_sells_four_times_the_minimum_at_the_extreme(lot: float, cash: float, sold: float) -> None:
    steps, account = margin_call(lot, cash, 90)

    assert steps == [(BTC, *near(sold, 90, 0))]
    assert account.equity({BTC: 90}) == pytest.approx(cash - 1_000)


def test_tradingview_leaves_what_its_extreme_does_not_reach() -> None:
    assert margin_call(0.0, 2_800, 90)[0] == []  # 1 800 of 1 800: at its margin, not below it


# What a user's own profile may say

SOLD = Profile("own", fee="none")


def test_a_sale_at_the_last_price_is_never_better_than_the_mark() -> None:
    for last, price in ((95_390, 95_390), (95_410, 95_400)):
        account = account_of((contract(), 1, 100_000, 20))
        assert steps_of(account, replace(SOLD, sold_at="last"), {BTC: 95_400}, last={BTC: last}) == [(BTC, *near(1, price, 0))]


def test_what_a_sale_leaves_may_be_the_funds() -> None:
    account = account_of((contract(), 1, 100_000, 20), cash=5_000)
    steps_of(account, replace(SOLD, leftover="fund"), {BTC: 95_400})

    assert (account.wallet_balance, fund_of(account)) == near(0, 400)


def test_all_at_once_sells_what_a_test_in_between_would_have_spared() -> None:
    held = [(contract("A"), 1, 1_000, 10), (contract("B"), 1, 1_000, 10)]
    marks = {"A": 805.0, "B": 995.0}  # 204 - 195 - 5; without A 4 against 4.975, with B at 1 000 it is 9 against 5
    one_by_one, at_once = (account_of(*held, mode="cross", cash=204) for _ in range(2))

    assert [step[0] for step in steps_of(one_by_one, SOLD, marks)] == ["A", "B"]
    assert [step[0] for step in steps_of(at_once, replace(SOLD, order="all_at_once"), {**marks, "B": 1_000.0})] == ["A", "B"]
    assert [step[0] for step in steps_of(account_of(*held, mode="cross", cash=204), SOLD, {**marks, "B": 1_000.0})] == ["A"]


@pytest.mark.parametrize(
    ("cancels", "isolated", "shared"),
    [("contract", ["A"], ["B"]), ("wallet", ["A"], ["A", "B", "C"]), ("account", ["A", "B", "C"], ["A", "B", "C"])],
)
def test_orders_are_cancelled_of_the_contract_the_wallet_or_the_account(cancels: str, isolated: list[str], shared: list[str]) -> None:
    account = MarginAccount()
    for symbol, mode in (("A", "isolated"), ("B", "cross"), ("C", "isolated")):
        account.add_contract(contract(symbol), leverage=10, margin_mode=mode)
    profile = replace(SOLD, cancels=cancels)

    assert profile.cancelled_symbols(account, "A") == isolated
    assert profile.cancelled_symbols(account, "B") == shared


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Profile("own", cancels="none"), r"^profile own: cancels is one of 'contract', 'wallet', 'account', was 'none'$"),
        (lambda: Profile("own", rest="kept"), r"^profile own: rest is one of 'sold', 'taken_over', was 'kept'$"),
        (lambda: Profile("own", backstop=1.5), r"^profile own: a backstop is a share of maintenance margin between 0 and 1, was 1.5$"),
        (lambda: Profile("own", spread=0.1), r"^profile own: a spread from 0 to 1 goes with the fillable price alone, was 0.1$"),
        (lambda: Profile("own", sold_at="fillable"), r"goes with the fillable price alone, was 0$"),
        (lambda: Tiers(down=0), r"^a sale goes down 1 tier or more, from the second or higher; was 0 from tier 2$"),
        (lambda: Fraction(1.5, 0, 0), r"^a sale takes a share between 0 and 1 .* was 1.5 above 0, 0 s$"),
        (lambda: Minimum(times=0.5), r"^a sale takes 1 or more times the minimum, .* was 0.5 and 0$"),
    ],
)
def test_a_profile_that_makes_no_sense_is_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_every_profile_goes_by_its_name_and_says_where_it_is_from() -> None:
    assert all(profile.name == name and profile.source for name, profile in PROFILES.items())


# Owner's prices


@pytest.mark.parametrize("kind", ["linear", "inverse"])
@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_an_owners_price_is_positive_however_deep_the_deficit_is_and_the_fund_pays_it_all(profile: Profile, kind: str) -> None:
    # a short of 1 from 100 beside a long of 1 000 in one wallet: at 40 the long has lost 60 000, the short is worth 40
    short, long = contract("S", kind=kind, lot=0.0), contract("L", kind=kind, lot=0.0)
    sizes, money = ((-1, 1_000), 12_000) if kind == "linear" else ((-100, 100_000), 120)
    account = account_of((short, sizes[0], 100, 10), (long, sizes[1], 100, 10), mode="cross", cash=money)

    steps = plan_liquidation(account, CROSS, {"S": 40, "L": 40}, profile)
    for step in steps:
        account.apply(step, time=0)

    assert all(step.price > 0 for step in steps)
    assert not any(position.size for position in account.positions.values())
    assert account.wallets[CROSS] == pytest.approx(0, abs=1e-6)
    assert_journal(account)


# Other kinds of contract


def test_an_inverse_contract_is_handed_over_where_its_coins_are_spent() -> None:
    # 1 000 contracts of 100 USD from 50 000 at 10x hold 0.2 coins of 2; bankrupt at 50 000 x 10 / 11
    terms = contract("BTCUSD", TierTable.flat(0.005), multiplier=100.0, lot=1.0, kind="inverse")
    account = account_of((terms, 1_000, 50_000, 10), cash=1.0)

    steps = steps_of(account, FORFEIT, {"BTCUSD": 45_500})

    assert steps == [("BTCUSD", *near(1_000, 500_000 / 11, 0))]
    assert account.wallet_balance == pytest.approx(0.8)


def test_just_enough_of_an_inverse_contract() -> None:
    # at 46 600 it has 0.2 + 2 - 100 000 / 46 600 = 0.05408 and is asked 5 % of 2.14592: 0.05322 / (2.14592 / 1 000 x 3.75 %)
    terms = contract("BTCUSD", TierTable.flat(0.05), multiplier=100.0, lot=1.0, kind="inverse")
    account = account_of((terms, 1_000, 50_000, 10), cash=1.0)
    worth = 100_000 / 46_600

    steps = steps_of(account, BINANCE, {"BTCUSD": 46_600})

    fewest = (0.05 * worth - (2.2 - worth)) / (worth / 1_000 * 0.0375)
    assert fewest == pytest.approx(661.33, abs=0.01)
    assert steps == [("BTCUSD", *near(662, 46_600, 662 / 1_000 * worth * 0.0125))]


# Laws

TABLES = [
    TierTable.flat(0.01),
    TierTable.flat(0.0),
    TierTable.from_rows([(3_000, 0.004, 50), (12_000, 0.02, 20), (40_000, 0.04, 15), (None, 0.08, 12)]),
    TierTable.from_rows([(3_000, 0.004, 50), (12_000, 0.02, 20), (40_000, 0.04, 15), (None, 0.08, 12)], mode="slab"),
    TierTable.from_rows([(20, 0.004, 50), (80, 0.02, 20), (200, 0.04, 15), (None, 0.08, 12)], mode="slab", unit="contracts"),
]
OWN = [
    Profile("last", sold_at="last", fee="taker", leftover="fund"),
    Profile("at once", order="all_at_once", part=Fraction(0.5, 2_000, 60), sold_at="last"),
    Profile("tiers", part=Tiers(down=1), floor="share"),
    Profile("twice", part=Minimum(times=2), rest="taken_over", fee="none"),
]
EVERY = [*PROFILES.values(), *OWN]

drawn_position = st.tuples(
    st.sampled_from(TABLES),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(-400, 400).filter(bool),
    st.floats(2, 11),
    st.floats(-1.1, 0.2),
    st.floats(-0.03, 0.0),
)


def drawn_account(drawn: list[Any], mode: str, spare: float) -> tuple[MarginAccount, dict[str, float], dict[str, float]]:
    """Return an account, marks at which positions have lost shares of their margins, and worse marks."""
    account, marks, worst = MarginAccount(), {}, {}
    gross = sum(abs(size) * 100 / leverage for _, _, size, leverage, _, _ in drawn)
    account.deposit(gross * (1 + (spare if mode == "cross" else 1)), time=0)
    for number, (table, lot, size, leverage, gain, further) in enumerate(drawn):
        terms = contract(f"C{number}", table, lot=lot)
        account.add_contract(terms, leverage=leverage, margin_mode=mode)
        account.apply_fill(terms.symbol, size=size, price=100, fee_rate=0.0, time=0)
        side = 1 if size > 0 else -1
        marks[terms.symbol] = 100 * (1 + side * gain / leverage)
        worst[terms.symbol] = marks[terms.symbol] * (1 + side * further)
    return account, marks, worst


@given(
    drawn=st.lists(drawn_position, min_size=1, max_size=4),
    mode=st.sampled_from(["cross", "isolated"]),
    spare=st.floats(-0.3, 0.3),
    profile=st.sampled_from(EVERY),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_whatever_fails_money_is_kept_and_each_wallet_ends_safe_or_empty(drawn, mode, spare, profile) -> None:
    account, marks, worst = drawn_account(drawn, mode, spare)
    judged = worst if profile.sold_at == "extreme" else marks
    for wallet in list(account.wallets):
        untouched = {other: balance for other, balance in account.wallets.items() if other not in (wallet, CROSS)}
        steps = plan_liquidation(account, wallet, marks, profile, last=worst, extremes=worst)
        assert bool(steps) == profile.fails(account.risk(wallet, judged))
        for step in steps:
            assert_step(account, step, wallet, judged)
        after, slack = account.risk(wallet, judged), MONEY_TOLERANCE * account.turnover
        assert not profile.fails(after)
        assert after.equity >= -slack
        assert {other: account.wallets[other] for other in untouched} == untouched
    assert_journal(account)


def assert_step(account: MarginAccount, step: Any, wallet: str, marks: dict[str, float]) -> None:
    """Apply a step and assert that it takes no more than is held, for no more than there is, and eases the wallet."""
    held, before = account.positions[step.symbol].size, account.risk(wallet, marks)
    assert step.size * held > 0
    assert abs(step.size) <= abs(held)
    assert step.price > 0
    assert step.fee >= 0
    account.apply(step, time=0)
    after = account.risk(wallet, marks)
    assert abs(account.positions[step.symbol].size) < abs(held)
    assert after.maintenance_margin <= before.maintenance_margin
    assert after.equity <= max(before.equity, 0.0) + MONEY_TOLERANCE * account.turnover


def assert_journal(account: MarginAccount) -> None:
    assert account.journal is not None
    balances, slack = account.journal.balances(), MONEY_TOLERANCE * account.turnover
    assert abs(sum(balances.values())) <= slack
    for wallet, balance in account.wallets.items():
        assert abs(balance - balances.get(wallet, 0.0)) <= slack


@given(drawn=st.lists(drawn_position, min_size=1, max_size=3), spare=st.floats(-0.3, 0.1), profile=st.sampled_from(EVERY))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_plan_moves_nothing(drawn, spare, profile) -> None:
    account, marks, worst = drawn_account(drawn, "cross", spare)
    before = (dict(account.wallets), {symbol: position.size for symbol, position in account.positions.items()}, account.turnover)

    plan_liquidation(account, CROSS, marks, profile, extremes=worst)

    assert (dict(account.wallets), {symbol: position.size for symbol, position in account.positions.items()}, account.turnover) == before


@given(drawn=drawn_position, profile=st.sampled_from(EVERY), shift=st.floats(0.9, 1.0))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_one_position_fares_alike_in_a_wallet_of_its_own_and_in_a_shared_one(drawn, profile, shift) -> None:
    plans = []
    for mode in ("isolated", "cross"):
        account, marks, _ = drawn_account([drawn], mode, 0.0)
        marks = {symbol: mark * shift for symbol, mark in marks.items()}
        plans.append([step[1:5] for step in plan_liquidation(account, wallet_of(account), marks, profile)])
    assert plans[0] == [pytest.approx(step) for step in plans[1]]


@given(drawn=drawn_position, spare=st.floats(-0.3, 0.3))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_sale_of_just_enough_leaves_equity_above_maintenance_at_the_worst_mark_too(drawn, spare) -> None:
    account, marks, worst = drawn_account([drawn], "cross", spare)
    steps = plan_liquidation(account, CROSS, marks, BINANCE, extremes=worst)
    for step in steps:
        account.apply(step, time=0)
    if steps and account.positions["C0"].size:
        (step,) = steps
        assert not account.risk(CROSS, worst).is_liquidatable


# -- spot beside what is liquidated ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("lot", "sold"), [(0.0, 4.69), (0.1, 4.7), (1.0, 5.0)])
@pytest.mark.parametrize("profile", [MARKET, BINANCE, OKX], ids=lambda profile: profile.name)
def test_spot_is_sold_for_what_a_liquidated_perpetual_has_lost(profile, lot, sold):
    """5 coins and 40 long at 100 on 1 000: at 75.775 the long has lost 969, and 500 of the 31 left had gone into coins."""
    perpetual = contract(taker=0.0, liquidation_fee=0.0)
    coin = Contract("COIN", kind="spot", lot=lot)
    account = account_of((coin, 5, 100, 1), (perpetual, 40, 100, 10), mode="cross", cash=1_000)
    marks = {BTC: 75.775, "COIN": 100.0}

    steps = plan_liquidation(account, CROSS, marks, replace(profile, spread=0.0, part=None, rest="sold", leftover="fund"), has_failed=True)

    assert [(step.symbol, step.size, step.price) for step in steps] == [(BTC, 40, 75.775), ("COIN", pytest.approx(sold), 100.0)]
    for step in steps:
        account.apply(step, time=0)
    # 1 000 - 969 = 31, of which 500 had been paid for coins: 469 are owed
    assert account.free_cash == pytest.approx(100 * sold - 469)
    assert account.equity(marks) == pytest.approx(31.0)


def test_spot_that_is_paid_for_stays():
    perpetual, coin = contract(taker=0.0, liquidation_fee=0.0), Contract("COIN", kind="spot")
    account = account_of((coin, 5, 100, 1), (perpetual, 4, 100, 10), mode="cross", cash=1_000)
    steps = plan_liquidation(account, CROSS, {BTC: 80.0, "COIN": 100.0}, MARKET, has_failed=True)
    assert [step.symbol for step in steps] == [BTC]


@pytest.mark.parametrize(
    ("terms", "size", "leap", "owner"),
    [
        ({}, -40, 300.0, 190.625),  # 8 000 lost of 3 625: the fund pays 4 375, 300 - 4 375 / 40
        ({"kind": "inverse"}, 4_000, 30.0, 1 / (1 / 100 + 0.453125 * (1 / 30 - 1 / 100))),  # the same share of 93.3 coins lost
    ],
)
def test_a_deficit_is_paid_to_the_loser_and_who_has_lost_nothing_gets_the_mark(terms, size, leap, owner):
    held = [(contract(symbol, taker=0.0, lot=0, **terms), size, 100, 10) for symbol in ("AAA", "BBB")]
    loss = abs(held[0][0].unrealized_pnl(size=size, entry_price=100, mark_price=leap))
    account = account_of(*held, mode="cross", cash=0.453125 * loss)
    marks = {"AAA": leap, "BBB": 100.0}

    first, second = plan_liquidation(account, CROSS, marks, FORFEIT)
    for step in (first, second):
        account.apply(step, time=0)

    assert (first.symbol, first.price) == ("AAA", pytest.approx(owner))
    assert (second.symbol, second.price) == ("BBB", 100.0)
    assert account.wallets[CROSS] == pytest.approx(0.0, abs=1e-9)


@given(held=st.floats(0.001, 1e6), share=st.floats(0.001, 0.999))
def test_what_is_taken_leaves_no_more_than_the_tier_holds_to_the_last_digit(held, share):
    kept = held * share
    taken = _to_leave(held, kept)
    assert held - taken <= kept
    assert taken == pytest.approx(held - kept, rel=1e-9, abs=1e-12 * held)
