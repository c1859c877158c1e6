"""Liquidation profiles in a run: what is sold in part stays a position, a trade and a cooldown of its owner.

The terms are those of ``playing``. A long of 2 000 at 100 holds 20 000 and dies at 90.909; a fifth of it goes at 100 000 and more.
"""

import backtrader as bt
import pytest
from playing import CALM, buy, frame, play

from bt_margin.core.profiles import Minimum, Profile

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


@pytest.mark.parametrize(("profile", "alive"), [("market", 1), ("binance", 0)])
def test_a_venue_cancels_the_orders_of_the_contract_or_of_the_wallet(profile, alive):
    def orders(strategy):
        strategy.buy(size=10)
        strategy.buy(data=strategy.datas[1], size=1, exectype=bt.Order.Limit, price=50)

    falls = frame([CALM, CALM, (100, 101, 80, 99)])
    strategy = play({1: orders}, falls, frame([CALM] * 3), cash=105, margin_mode="cross", terms={"profile": profile})
    assert strategy.broker.record.liquidations
    assert len(strategy.broker.pending) == alive
