"""Liquidation profiles in a run: what each venue does to a dying account, and what is sold in part goes on as its owner's.

Unless a test says otherwise the terms are those of ``playing``. A long of 2 000 at 100 holds 20 000 and dies at 90.909; a
fifth of it goes at 100 000 and more.
"""

import backtrader as bt
import pandas as pd
import pytest
from playing import CALM, Script, buy, frame, play

from bt_margin import PerpData, Result, plug
from bt_margin.core.profiles import PROFILES, Minimum, Profile

START = "2026-11-22 01:00"
FALL = [(100_000,) * 4, (100_000,) * 4, (100_000, 100_050, 94_000, 94_500), (94_500,) * 4]


def at_venue(venue: str, script, *, bars: dict[str, list], freq: str = "h", **terms):
    """Run a script at a venue, on its own tiers, fees and terms, and return its strategy."""
    cerebro = bt.Cerebro(stdstats=False)
    for name, rows in bars.items():
        cerebro.adddata(PerpData(dataname=frame(rows, start=START, freq=freq), name=name))
    plug(cerebro, venue, check=True, **{"leverage": 20, "margin_mode": "isolated", "cash": 10_000, **terms})
    cerebro.addstrategy(Script, script=script)
    return cerebro.run()[0]


def near(*figures: float) -> tuple:
    return tuple(pytest.approx(figure, rel=1e-9, abs=1e-6) for figure in figures)


# The same dying account: one bitcoin bought at 100 000 with 20x holds 5 000 and is bankrupt at 95 000. A resting order to
# sell it at 110 000 is cancelled first, everywhere. What is told of each: the mark at which it dies; the owner's price,
# the fee, what the fund gets of it, what is returned to the trader.

GENERIC, BINANCE, BYBIT, OKX = 95_000 / 0.995, 95_000 / 0.996, 95_000 / 0.9967, 95_000 / 0.9955
HYPERLIQUID, DYDX = 95_000 / 0.9875, 95_000 / 0.988
VENUES = [
    # no venue, a flat 0.5 %: taken over at the price where nothing is left
    ("generic", "BTCUSDT", 1, GENERIC, 95_000, 0, GENERIC - 95_000, 0),
    # Binance FAQ 360033525271, 2020-07-05: with 0.4 % kept for a fee of 1.25 % no order helps; closed at the bankruptcy price
    ("binance", "BTCUSDT", 1, BINANCE, 95_000, 0, BINANCE - 95_000, 0),
    # Bybit help 000001098, 2024-01-24: 0.33 %, the lowest risk limit, settled at the bankruptcy price; the fee to close goes too
    ("bybit", "BTCUSDT", 1, BYBIT, 95_000, 0, BYBIT - 95_000 + 95_000 * 0.00055, 0),
    # OKX, forced liquidation (copy at amorrr.com/14966, read 2026-11-22): 0.4 % + 0.05 %, tier 1, taken over
    ("okx", "BTCUSDT", 100, OKX, 95_000, 0, OKX - 95_000, 0),
    # Hyperliquid docs, Liquidations, read 2026-11-22: 1.25 %; below 100 000 USDC one market order at the taker fee, 0.045 %
    ("hyperliquid", "BTC", 1, HYPERLIQUID, HYPERLIQUID, 0.00045 * HYPERLIQUID, 0, (0.0125 - 0.00045) * HYPERLIQUID),
    # dYdX v4-chain at 014223b6, read 2026-11-22: 1.2 %; at the mark, where the wallet has only just failed, and 0.5 % of it
    ("dydx", "BTC-USD", 1, DYDX, DYDX, 0.005 * DYDX, 0, (0.012 - 0.005) * DYDX),
]


@pytest.mark.parametrize(("venue", "symbol", "size", "mark", "price", "fee", "fund", "returned"), VENUES, ids=[row[0] for row in VENUES])
def test_the_same_dying_account_at_each_venue(venue, symbol, size, mark, price, fee, fund, returned):
    def enter(strategy):
        strategy.buy(size=size)
        strategy.sell(size=size, exectype=bt.Order.Limit, price=110_000)

    strategy = at_venue(venue, {1: enter}, bars={symbol: FALL})
    (row,) = strategy.broker.record.liquidations
    assert (row.size, row.mark_price, row.price) == near(size, mark, price)
    assert (row.fee, row.to_insurance_fund, row.from_insurance_fund, row.returned) == near(fee, fund, 0, returned)
    assert (row.trigger, row.certainty) == ("path", "certain")
    assert [status for status, *_ in strategy.orders.values()] == ["Completed", "Canceled", "Completed"]
    assert strategy.position.size == 0
    paid = 10_000 - strategy.broker.equity - 5_000 + returned  # besides the margin: the opening fee, at Bybit the one to close
    assert paid == pytest.approx(strategy.broker.record.fills[0].fee + (95_000 * 0.00055 if venue == "bybit" else 0))
    lost = strategy.broker.equity + strategy.broker.record.fills[0].fee - 10_000
    assert row.loss == pytest.approx(lost)
    assert Result.of(strategy).summary["liquidation_loss"] == pytest.approx(lost)


# The same bitcoin with 0.5 % of maintenance, 0.05 % taker, 1.25 % liquidation fee and 5 000 in the one shared wallet: it dies at
# 95 000 / 0.995 = 95 477.39 with 477.39. (size, owner's price, fee) of each step, and what the fund gets.

DEAD = 95_000 / 0.995
TAKEN_OVER = ([(1, 95_000, 0)], DEAD - 95_000)
PROFILED = {
    "market": ([(1, DEAD, 0.005 * DEAD)], 0),  # no venue: sold at the mark, 1.25 % of it are more than there is
    "forfeit": TAKEN_OVER,  # no venue
    "generic": TAKEN_OVER,
    "binance": TAKEN_OVER,  # FAQ 360033525271, 2020-07-05, and docs.traderwagon.com, read 2026-11-22
    "bybit": TAKEN_OVER,  # help 000001098, 2024-01-24
    "okx": TAKEN_OVER,  # copies at amorrr.com/14966 and 365shuku.com/10258, read 2026-11-22
    "hyperliquid": ([(1, DEAD, 0.0005 * DEAD)], 0),  # docs, Liquidations, read 2026-11-22: below 100 000, so all of it
    "dydx": ([(1, DEAD, 0.005 * DEAD)], 0),  # v4-chain at 014223b6, read 2026-11-22: the fee is cut to what there is
    # TradingView help 43000681727, read 2026-11-22: at the low; four times 3.475 are more than there is, the fund pays 1 000
    "tradingview": ([(1, 95_000, 0)], -1_000),
}


@pytest.mark.parametrize("name", PROFILES)
def test_the_same_dying_wallet_under_each_profile(name):
    terms = {"profile": name, "leverage": 20, "tiers": 0.005, "commission": 0.0005, "liquidation_fee": 0.0125, "lot": 0.001}
    strategy = play({1: buy()}, frame(FALL), terms=terms, cash=5_050, margin_mode="cross")
    steps, fund = PROFILED[name]
    rows = strategy.broker.record.liquidations
    assert [(row.size, row.price, row.fee) for row in rows] == [near(*step) for step in steps]
    assert sum(row.to_insurance_fund - row.from_insurance_fund for row in rows) == pytest.approx(fund)
    left = 5_000 + sum(size * (price - 100_000) - fee for size, price, fee in steps)
    assert strategy.broker.equity == pytest.approx(left, abs=1e-6)
    assert (left > 1) == (name == "hyperliquid")


# In part, and of several contracts in one wallet


def test_okx_takes_the_losing_contract_down_by_two_tiers_and_leaves_the_other():
    # 300 bitcoins in contracts of 0.01 stand in tier 4 (to 40 000 contracts, 1.25 %, and 0.05 % for the fee); tier 2 ends at
    # 5 000. Ten ether maintain 0.45 % of 25 000 = 112.5. 1 600 000 + 300 (p - 100 000) = 112.5 + 3.9 p. OKX, tiers of
    # 2026-09-18; the rule: copies at amorrr.com/14966 and 365shuku.com/10258, read 2026-11-22
    def enter(strategy):
        strategy.buy(size=30_000)
        strategy.buy(data=strategy.datas[1], size=100)

    ether = [(2_500,) * 4] * 4
    fees = 0.0005 * (30_000_000 + 25_000)
    bars = {"BTCUSDT": [*FALL[:2], (100_000, 100_000, 95_500, 96_500), (96_500,) * 4], "ETHUSDT": ether}
    strategy = at_venue("okx", {1: enter}, bars=bars, margin_mode="cross", cash=1_600_000 + fees)
    died = (30_000_000 - 1_600_000 + 112.5) / (300 - 3.9)
    (row,) = strategy.broker.record.liquidations
    assert (row.symbol, row.size, row.price, row.fee) == ("BTCUSDT", *near(25_000, died, 250 * died * 0.0005))
    assert [strategy.getposition(data).size for data in strategy.datas] == [5_000, 100]
    assert strategy.broker.equity == pytest.approx(1_600_000 + 250 * (died - 100_000) + 50 * -3_500 - row.fee)


def two_large(bars: list, *, freq: str):
    """Run ten bitcoins beside a hundred ether at Hyperliquid in one wallet of 62 500, and return the strategy."""

    def enter(strategy):
        strategy.buy(size=10)
        strategy.buy(data=strategy.datas[1], size=100)

    still = [(2_500,) * 4] * (len(bars) + 2)
    fees = 0.00045 * 1_250_000
    return at_venue(
        "hyperliquid", {1: enter}, bars={"BTC": [*FALL[:2], *bars], "ETH": still}, freq=freq, margin_mode="cross", cash=62_500 + fees
    )


# Ten bitcoins maintain 1.25 %, a hundred ether 2 % of 250 000 = 5 000: 62 500 + 10 (p - 100 000) = 5 000 + 0.125 p. The fifth that
# is sold pays 0.045 %; what is left fails again where 62 500 - 2 (100 000 - A) - fee + 8 (p - 100 000) = 5 000 + 0.1 p.
# Docs, Liquidations, and the announcement of partial liquidations, read 2026-11-22.
A = (1_000_000 - 57_500) / (10 - 0.125)
B = (800_000 - 57_500 + 2 * (100_000 - A) + 2 * A * 0.00045) / (8 - 0.1)


@pytest.mark.parametrize(("freq", "second"), [("15s", 8), ("min", 1.6)])
def test_hyperliquid_sells_a_fifth_and_within_30_seconds_everything(freq, second):
    # in bars of 15 seconds the second failure is within the cooldown; in bars of a minute that is over by then (R20)
    strategy = two_large([(100_000, 100_000, 95_400, 95_400), (95_400, 95_400, B - 5, B - 5)], freq=freq)
    rows = strategy.broker.record.liquidations
    assert [(row.symbol, row.size, row.price) for row in rows] == [("BTC", *near(2, A)), ("BTC", *near(second, B))]
    assert strategy.getposition(strategy.datas[0]).size == pytest.approx(8 - second)
    assert strategy.getposition(strategy.datas[1]).size == 100


def test_hyperliquids_vault_takes_the_whole_wallet_below_two_thirds_of_its_maintenance():
    # a gap to 94 500: 62 500 - 55 000 = 7 500 against two thirds of 5 000 + 11 812.50; pro rata to maintenance, nothing is left
    strategy = two_large([(94_500,) * 4, (94_500,) * 4], freq="min")
    rows = strategy.broker.record.liquidations
    bitcoin = 7_500 * 11_812.5 / 16_812.5
    assert [(row.symbol, row.size, row.price) for row in rows] == [
        ("BTC", *near(10, 94_500 - bitcoin / 10)),
        ("ETH", *near(100, 2_500 - (7_500 - bitcoin) / 100)),
    ]
    assert strategy.broker.equity == pytest.approx(0, abs=1e-6)
    assert sum(row.to_insurance_fund for row in rows) == pytest.approx(7_500)


def two_longs(name: str, bars: list, other: list, *, cash: float, **terms):
    """Run a long of ten AAA at 100 beside one of twenty BBB at 50 in one wallet, and return the strategy."""

    def enter(strategy):
        strategy.buy(size=10)
        strategy.buy(data=strategy.datas[1], size=20)

    calm = [(50,) * 4] * 2
    return play(
        {1: enter},
        frame([(100,) * 4] * 2 + bars),
        frame(calm + other),
        cash=cash,
        margin_mode="cross",
        terms={"profile": name, "tiers": 0.05, "liquidation_fee": 0.005, "leverage": 10, **terms},
    )


def test_dydx_gives_each_position_its_share_of_the_wallet_pro_rata_to_maintenance():
    # a gap to 80 and 45: 310 - 200 - 100 = 10 against 5 % of 800 and 900, 40 and 45. v4-chain at 014223b6, read 2026-11-22
    strategy = two_longs("dydx", [(80,) * 4], [(45,) * 4], cash=310)
    rows = strategy.broker.record.liquidations
    depth = 0.1 * (1 - 10 / 85)  # of its maintenance margin, off the mark: 3.53 of the 4.71 that are its share, then the fee
    share = 10 * 40 / 85
    assert [(row.symbol, row.size) for row in rows] == [("AAA", 10), ("BBB", 20)]
    assert (rows[0].price, rows[0].fee) == near(80 - depth * 40 / 10, share - depth * 40)
    left = 10 - share  # the other's own, and deeper: 5.29 of 45
    depth = 0.1 * (1 - left / 45)
    assert (rows[1].price, rows[1].fee) == near(45 - depth * 45 / 20, min(left - depth * 45, 0.005 * (900 - depth * 45)))
    assert strategy.broker.equity == pytest.approx(left - depth * 45 - rows[1].fee, abs=1e-9)


# Help 43000681727, read 2026-11-22
@pytest.mark.parametrize(
    ("cash", "size"),
    [
        (380, 4),  # 5 lack: 1.25, cut to 1
        (384.2, 1),  # 0.8 lack: 0.2 are no lot, one contract goes
        (370, 10),  # 15 lack: 3.75, cut to 3, and four times that is more than there is
    ],
)
def test_tradingview_sells_four_times_the_minimum_of_the_largest_loser_at_the_adverse_extremes(cash, size):
    # at 80 and 45 the wallet has cash - 200 - 100 against 40 and 45; each AAA that goes frees 5 % of 80 = 4
    strategy = two_longs("tradingview", [(100, 100, 80, 90)], [(50, 50, 45, 48)], cash=cash, lot=1.0)
    (row,) = strategy.broker.record.liquidations
    assert (row.symbol, row.size, row.price) == ("AAA", *near(size, 80))
    assert strategy.getposition(strategy.datas[1]).size == 20


# What a step leaves behind


def test_what_would_have_kept_each_part_alive_is_told_of_what_was_held_then():
    strategy = large([CALM, CALM, (100, 101, 90.6, 100)])
    first, second = strategy.broker.record.liquidations
    # at 90.60 the 2 000 have 20 000 - 18 800 and maintain 1 812; the 1 600 have 20 000 - 400 x 9.0909 - 15 040 and 1 449.60
    assert first.margin_to_add == pytest.approx(1_812 - 1_200)
    assert first.safe_leverage == pytest.approx(200_000 / (20_000 + 612))
    lacking = 1_449.6 - (20_000 - 400 * (100 - FIRST) - 15_040)
    assert second.margin_to_add == pytest.approx(lacking)
    assert second.safe_leverage == pytest.approx(160_000 / (16_000 + lacking))


@pytest.mark.parametrize(("added", "steps"), [(611.99, 1), (612.01, 0)])
def test_the_margin_that_was_lacking_spares_it_the_first_part(added, steps):
    def add(strategy):
        strategy.broker.add_margin(strategy.data, added)

    bars = [CALM, CALM, CALM, (100, 101, 90.6, 100)]
    strategy = play({1: buy(size=2_000), 2: add}, frame(bars), cash=100_000, terms={"profile": "hyperliquid"})
    assert len(sold(strategy)) == steps


def test_a_part_that_only_one_path_takes_is_possible_and_the_first_is_certain():
    # half-way through the bar 192 of funding are paid: high first that is before the low, and the second part fails at
    # (160 000 - 19 808 + 400 x 8.9919) / 1 584 = 90.776; low first it fails at 90.679, which the bar does not reach
    bars = [CALM, CALM, (100, 101, 90.7, 92)]
    rates = pd.Series({pd.Timestamp("2024-01-01 03:30", tz="UTC"): 0.001})
    strategy = play({1: buy(size=2_000)}, frame(bars), cash=100_000, terms={"profile": "hyperliquid"}, funding=rates)
    assert [row.certainty for row in strategy.broker.record.liquidations] == ["certain", "possible"]


@pytest.mark.parametrize("name", PROFILES)
def test_the_deleveraging_score_is_told_where_the_venues_formula_is_known(name):
    # a long of 1 at 100 that stands at 110: 10 of profit on 10 of margin, 1.10 maintained of 20
    told = {"binance": 10 / 10 * 1.1 / 20, "hyperliquid": 110 / 100 * 110 / 20}
    scores: list = []
    script = {n: lambda strategy: scores.append(strategy.broker.adl_score(strategy.data)) for n in (2, 3, 4)}
    rise = frame([CALM, (100,) * 4, (110,) * 4, (95,) * 4])
    play({1: buy(), **script}, rise, terms={"profile": name})
    assert scores == [None, pytest.approx(told[name]) if name in told else None, None]


FIRST = 90 / 0.99
SECOND = (160_000 - (20_000 - 400 * (100 - FIRST))) / (1_600 * 0.99)  # 16 363.6 + 1 600 (p - 100) = 16 p


def large(bars, **terms):
    return play({1: buy(size=2_000)}, frame(bars), cash=100_000, terms={"profile": "hyperliquid", **terms})


def sold(strategy) -> list[tuple]:
    return [(row.size, row.price) for row in strategy.broker.record.liquidations]


def test_a_fifth_is_sold_and_the_rest_goes_on():
    strategy = large([CALM, CALM, (100, 101, 90.8, 100)])
    assert sold(strategy) == [(pytest.approx(400), pytest.approx(FIRST))]
    assert (strategy.position.size, strategy.position.price) == (pytest.approx(1_600), 100)
    assert strategy.broker.equity == pytest.approx(100_000 - 400 * (100 - FIRST))
    assert [(status, size) for status, size, *_ in strategy.orders.values()] == [("Completed", 2_000), ("Completed", pytest.approx(-400))]


def test_the_next_failing_point_of_the_bar_sells_another_fifth():
    strategy = large([CALM, CALM, (100, 101, 90.6, 100)])
    assert sold(strategy) == [(pytest.approx(400), pytest.approx(FIRST)), (pytest.approx(320), pytest.approx(SECOND))]


def test_a_trade_is_closed_only_by_the_last_part():
    bars = [CALM, CALM, (100, 101, 90.8, 100), (100, 101, 60, 60), CALM]
    strategy = large(bars)
    trades = [trade for trades in strategy._trades[strategy.data].values() for trade in trades]
    assert [trade.status for trade in trades] == [trades[0].Closed]
    assert len(sold(strategy)) > 2
    assert trades[0].pnl == pytest.approx(strategy.broker.equity - 100_000)


def test_a_margin_call_is_filled_at_the_low():
    terms = {"profile": "tradingview", "tiers": 0.2, "leverage": 4}
    strategy = play({1: buy(size=100)}, frame([CALM, CALM, (100, 101, 90, 100)]), cash=2_690, margin_mode="cross", terms=terms)
    size = 4 * 110 / (0.2 * 90)  # 1 690 of equity, 1 800 asked
    assert sold(strategy) == [(pytest.approx(size), 90)]
    assert strategy.broker.equity == pytest.approx(2_690 - 10 * size)


def test_just_enough_for_the_bar_is_sold_at_once():
    profile = Profile("own", part=Minimum(), fee="none")
    strategy = play({1: buy(size=10)}, frame([CALM, CALM, (100, 101, 90, 100)]), terms={"profile": profile})
    (row,) = strategy.broker.record.liquidations
    # 100 - 10 x 10 = 0 at the low, and FIRST - 90 more for each that is gone, against 0.9 for each that is kept
    assert row.size == pytest.approx(9 / (0.9 + FIRST - 90), rel=1e-6)
    assert strategy.position.size == pytest.approx(10 - row.size)


ALIVE = dict.fromkeys(PROFILES, 1) | {"binance": 0, "okx": 0}  # there all orders that draw on the wallet go


@pytest.mark.parametrize(("profile", "alive"), ALIVE.items())
def test_a_venue_cancels_the_orders_of_the_contract_or_of_the_wallet(profile, alive):
    def orders(strategy):
        strategy.buy(size=10)
        strategy.buy(data=strategy.datas[1], size=1, exectype=bt.Order.Limit, price=50)

    falls = frame([CALM, CALM, (100, 101, 80, 99)])
    strategy = play({1: orders}, falls, frame([CALM] * 3), cash=105, margin_mode="cross", terms={"profile": profile})
    assert strategy.broker.record.liquidations
    assert len(strategy.broker.pending) == alive


def test_a_sale_is_as_large_as_what_is_still_ahead_on_the_path_asks_for():
    """Low first, the stop at 110 is bought after the low; on the way down to the close of 103 it fails at 104.09."""
    terms = {"tiers": 0.05, "liquidation_fee": 0.001, "profile": "binance", "lot": 0.01}
    sizes = []
    for low in (102, 90, 80):
        bars = frame([(104.5,) * 4, (104.5, 120, low, 103), (103,) * 4], start=START, freq="h")
        script = {1: lambda strategy: strategy.buy(size=9, price=110, exectype=bt.Order.Stop)}
        strategy = play(script, bars, terms=terms, cash=100, margin_mode="cross")
        (row,) = strategy.broker.record.liquidations
        sizes.append(row.size)
    # 37 left of 100 at 103; x goes at 104.094 with 0.1 %: 37 + 1.094 x - 0.104 x > 0.05 x 103 x (9 - x)
    assert sizes == [pytest.approx(9.35 / 6.14, abs=0.01)] * 3
