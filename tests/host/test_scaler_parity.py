"""A ladder of one rung changes nothing, bit for bit, and every scheme lives with whatever a strategy does.

Strategies are those of ``strategies/`` and patterns found in the wild: signals, targets that turn round, a pair of datas, brackets,
timers, cheat-on-open, orders sent by the broker's own ``buy``.
"""

from datetime import time
from importlib import import_module

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import bt_margin as bm
from bt_margin import MarginBroker, PerpCommInfo, PerpData
from bt_margin.scalers import (
    Funnel,
    GridMartingale,
    Ladder,
    Pyramid,
    Rectangle,
    Rung,
    Rungs,
    SafetyOrders,
    StopRule,
    Turtle,
    TwoThreeFive,
    attach,
)

SCHEMES = [
    Rectangle(),
    Rectangle(step=1, atr_period=20, refuse="beyond"),
    Funnel(active=1),
    Pyramid(),
    TwoThreeFive(),
    Turtle(total=1),
    SafetyOrders(total=1),
    GridMartingale(total=1),
]


def candles(bars=200, seed=3, sigma=0.01) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(draw.normal(0, sigma, bars)))
    opened = np.concatenate(([100.0], close[:-1]))
    high, low = np.maximum(opened, close) * (1 + sigma / 4), np.minimum(opened, close) * (1 - sigma / 4)
    index = pd.date_range("2024-01-01", periods=bars, freq="h", tz="UTC")
    return pd.DataFrame({"open": opened, "high": high, "low": low, "close": close, "volume": 1.0}, index=index)


# -- strategies ------------------------------------------------------------------------------------------------------


class Flipper(bt.Strategy):
    """Turns its target round every dozen bars, by size, value and percent in turn."""

    def next(self):
        if len(self) % 12 == 0:
            way, sign = len(self) // 12 % 3, 1 if len(self) // 12 % 2 else -1
            (self.order_target_size, self.order_target_value, self.order_target_percent)[way](target=sign * (3, 300.0, 0.3)[way])


class Pair(bt.Strategy):
    """Long one data and short the other for a while."""

    def next(self):
        if len(self) % 20 == 5:
            self.buy(self.data0, size=2)
            self.sell(self.data1, size=2)
        elif len(self) % 20 == 15:
            self.close(self.data0)
            self.close(self.data1)


class Doubler(bt.Strategy):
    """Reverses by orders of twice its size, sent at the broker itself."""

    def next(self):
        if len(self) % 15 == 1:
            size = 2 if not self.position else 4
            way = self.broker.buy if len(self) // 15 % 2 else self.broker.sell
            way(self, self.data, size)


class Bracketed(bt.Strategy):
    """A bracket at a time, closed by hand where it lasts."""

    def __init__(self):
        self.orders = []

    def next(self):
        close = self.data.close[0]
        if not self.position and not any(order.alive() for order in self.orders):
            self.orders = self.buy_bracket(size=3, price=close * 0.999, stopprice=close * 0.97, limitprice=close * 1.03)
        elif self.position and len(self) % 30 == 0:
            for order in self.orders:
                self.cancel(order)
            self.close()


class Straddle(bt.Strategy):
    """Two resting entries of which one cancels the other, and a trailing exit."""

    def next(self):
        close = self.data.close[0]
        if len(self) % 25 == 3 and not self.position:
            up = self.buy(size=2, exectype=bt.Order.Stop, price=close * 1.01, valid=self.data.datetime.datetime() + pd.Timedelta(hours=9))
            self.sell(size=2, exectype=bt.Order.Stop, price=close * 0.99, oco=up)
        elif len(self) % 25 == 15 and self.position:
            (self.sell if self.position.size > 0 else self.buy)(size=2, exectype=bt.Order.StopTrail, trailpercent=0.01)
        elif len(self) % 25 == 24:
            for order in self.broker.get_orders_open():
                self.broker.cancel(order)
            self.close()


class OnTheHour(bt.Strategy):
    """Buys and sells by the clock."""

    def __init__(self):
        self.add_timer(time(9), cheat=False)
        self.add_timer(time(15), cheat=False)

    def notify_timer(self, timer, when, *args, **kwargs):
        self.close() if self.position else self.buy(size=2)


class AtTheOpen(bt.Strategy):
    """Cheats on the open."""

    def next_open(self):
        if len(self) % 10 == 2:
            self.close() if self.position else self.sell(size=2)


class Adder(bt.Strategy):
    """Adds every few bars and sells halves."""

    def next(self):
        if len(self) % 7 == 0:
            self.buy(size=1)
        elif len(self) % 31 == 0 and self.position:
            self.sell(size=self.position.size / 2)


def signals(cerebro):
    cerebro.addindicator(Above)
    cerebro.add_signal(bt.SIGNAL_LONGSHORT, Above)


class Above(bt.Indicator):
    """The close above its average."""

    lines = ("signal",)

    def __init__(self):
        self.lines.signal = self.data.close - bt.indicators.SMA(self.data.close, period=10)


def shipped(name: str, attribute: str) -> type[bt.Strategy]:
    return getattr(import_module(f"bt_margin.strategies.{name}"), attribute)


SHIPPED = [
    (shipped("sma_cross", "SmaCross"), {"fast": 5, "slow": 15}),
    (shipped("donchian_breakout", "DonchianBreakout"), {}),
    (shipped("rsi_reversion", "RsiReversion"), {}),
    (shipped("martingale_grid", "MartingaleGrid"), {}),
    (shipped("buy_and_hold", "BuyAndHold"), {"leverage": 2.0}),
    (shipped("volatility_target", "VolatilityTarget"), {"fast": 5, "slow": 20, "vol_span": 24}),
]
WILD = [(kind, {}) for kind in (Flipper, Pair, Doubler, Bracketed, Straddle, OnTheHour, AtTheOpen, Adder)]
ALL = [*SHIPPED, *WILD, (None, {})]
each_strategy = pytest.mark.parametrize(("strategy", "params"), ALL, ids=[kind.__name__ if kind else "signals" for kind, _ in ALL])


# -- runs ------------------------------------------------------------------------------------------------------------


class Told(bt.Analyzer):
    """Keeps all that a strategy was told of orders and trades, and its account on every bar."""

    def start(self):
        self.orders, self.trades, self.values = [], [], []

    def notify_order(self, order):
        done = order.executed
        self.orders.append((order.getstatusname(), order.size, order.created.price, done.size, done.price, done.comm, dict(order.info)))

    def notify_trade(self, trade):
        self.trades.append((trade.status, trade.size, trade.price, trade.pnlcomm))

    def notify_cashvalue(self, cash, value):
        self.values.append((cash, value))


def run(strategy, params, scaler, *, margin_mode="cross", kind=bm.Cerebro, leverage=20.0, cash=2_000.0, check=True):
    cerebro = kind(stdstats=False, cheat_on_open=strategy is AtTheOpen)
    cerebro.broker = MarginBroker(cash=cash, margin_mode=margin_mode, check=check)
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=leverage, tiers=0.01, commission=0.0005, lot=0.001))
    for name, seed in (("A", 3), ("B", 4)):
        cerebro.adddata(PerpData(dataname=candles(seed=seed), name=name))
    if strategy is not None:
        cerebro.addstrategy(strategy, **params)
    else:
        signals(cerebro)
    cerebro.addsizer(bt.sizers.FixedSize, stake=10)
    cerebro.addanalyzer(Told, _name="told")
    if scaler is not None:
        attach(cerebro, scaler)
    return cerebro.run()[0]


@each_strategy
@pytest.mark.parametrize("margin_mode", ["cross", "isolated"])
def test_a_ladder_of_one_rung_changes_nothing(strategy, params, margin_mode):
    alone = run(strategy, params, None, margin_mode=margin_mode)
    scaled = run(strategy, params, Rungs(), margin_mode=margin_mode)
    assert scaled.broker.record.fills  # there is something to compare
    assert list(map(tuple, scaled.broker.journal)) == list(map(tuple, alone.broker.journal))
    for name in ("orders", "trades", "values"):
        assert repr(getattr(scaled.analyzers.told, name)) == repr(getattr(alone.analyzers.told, name))


EVERY = [(*pair, scaler) for pair in ALL for scaler in (SCHEMES[1], SCHEMES[5])]
EVERY += [(kind, {}, scaler) for kind in (Flipper, Straddle) for scaler in SCHEMES]


@pytest.mark.parametrize(("strategy", "params", "scaler"), EVERY)
def test_every_scheme_lives_with_every_strategy(strategy, params, scaler):
    scaled = run(strategy, params, scaler, margin_mode="isolated" if scaler.active else "cross")
    ladders = scaled.analyzers.scaling.get_analysis()["ladders"]
    assert ladders
    assert all(1 <= told["filled"] <= len(scaler.ladder().rungs) for told in ladders)
    for data in scaled.datas:
        ours = [order for order in scaled.broker.pending if order.info.get("scaler") and order.data is data]
        assert scaled.getposition(data).size or not ours


@each_strategy
def test_both_loops_and_lulls_trade_the_same_ladders(strategy, params):
    host = run(strategy, params, Rectangle(step=0.005), kind=bt.Cerebro)
    ours = run(strategy, params, Rectangle(step=0.005), check=False)
    assert repr(ours.analyzers.told.orders) == repr(host.analyzers.told.orders)
    assert ours.analyzers.told.values == host.analyzers.told.values
    assert list(map(tuple, ours.broker.journal)) == list(map(tuple, host.broker.journal))
    assert ours.env.host_loop_reason in ("", "there are timers", "cheat_on_open is on")


def test_a_scaler_leaves_the_tight_loop_in_place():
    assert run(*SHIPPED[0], Pyramid()).env.host_loop_reason == ""


@pytest.mark.parametrize("cpus", [1, 2])
def test_an_optimisation_runs_each_combination_by_the_ladder(cpus):
    cerebro = bm.Cerebro(stdstats=False, maxcpus=cpus)
    cerebro.broker = MarginBroker(cash=2_000)
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=20, tiers=0.01))
    cerebro.adddata(PerpData(dataname=candles(), name="A"))
    cerebro.optstrategy(SHIPPED[0][0], fast=[5, 8], slow=15)
    cerebro.addsizer(bt.sizers.FixedSize, stake=10)
    attach(cerebro, Rectangle(step=0.005))
    told = [run[0].analyzers.scaling.get_analysis()["ladders"] for run in cerebro.run()]
    assert [len(ladders) > 3 for ladders in told] == [True, True]
    assert max(row["filled"] for ladders in told for row in ladders) == 5


# -- whatever comes --------------------------------------------------------------------------------------------------


class Random(bt.Strategy):
    """Does what a list says, an action a bar; looks at each bar whether the ladder keeps its word."""

    params = (("acts", ()),)

    def __init__(self):
        self.must_be_flat = False

    def next(self):
        held, sized = self.position.size, 2.0
        if not held:
            assert not [order for order in self.broker.pending if order.info.get("scaler")]
        assert not (held and self.must_be_flat)
        self.must_be_flat = False
        act, close = self.p.acts[len(self) - 1], self.data.close[0]
        place = {"buy": self.buy, "sell": self.sell}
        if act in place:
            place[act](size=sized)
        elif act == "close":
            self.must_be_flat = not [order for order in self.broker.get_orders_open() if not order.info.get("scaler")]
            self.close()
        elif act == "target":
            self.order_target_size(target=-sized)
        elif act == "limit":
            self.buy(size=sized, exectype=bt.Order.Limit, price=close * 0.99)
        elif act == "bracket":
            self.sell_bracket(size=sized, exectype=bt.Order.Market, stopprice=close * 1.03, limitprice=close * 0.97)
        elif act == "stop" and held:
            (self.sell if held > 0 else self.buy)(size=abs(held), exectype=bt.Order.Stop, price=close * (0.98 if held > 0 else 1.02))
        elif act == "reverse":
            self.close()
            (self.sell if held > 0 else self.buy)(size=sized)


PHASES = (Phase.explicit, Phase.generate)  # a case is short enough to read as it is found

moves = st.lists(st.integers(-30, 30), min_size=16, max_size=16)
words = st.sampled_from(["", "", "", "buy", "sell", "close", "target", "limit", "bracket", "stop", "reverse"])
actions = st.lists(words, min_size=16, max_size=16)


@st.composite
def ladders(draw) -> Ladder:
    """Return any ladder: against the trade or with it, with a stop or without."""
    shares = draw(st.lists(st.sampled_from([0.1, 0.2, 0.5, 1.0, 2.0]), min_size=1, max_size=4))
    sign = draw(st.sampled_from([1, -1]))
    step = draw(st.sampled_from([0.004, 0.01, 0.02]))
    stop = draw(st.sampled_from([None, StopRule(0.02), StopRule(0.03, "best")]))
    refuse = "beyond" if sign < 0 and draw(st.booleans()) else None
    rungs = tuple(Rung(sign * step * number, share) for number, share in enumerate(shares))
    return Ladder(rungs, stop=stop, follows_fills=draw(st.booleans()), active=draw(st.sampled_from([None, 1, 2])), refuse=refuse)


def play(steps, acts, ladder, margin_mode):
    close = 100 * np.exp(np.cumsum(np.array(steps) / 1_000))
    opened = np.concatenate(([100.0], close[:-1]))
    high, low = np.maximum(opened, close) * 1.004, np.minimum(opened, close) * 0.996
    index = pd.date_range("2024-01-01", periods=len(steps), freq="h", tz="UTC")
    frame = pd.DataFrame({"open": opened, "high": high, "low": low, "close": close, "volume": 1.0}, index=index)
    cerebro = bm.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=60, margin_mode=margin_mode, check=True)
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=15, tiers=0.01, commission=0.0005))
    cerebro.adddata(PerpData(dataname=frame, name="A"))
    cerebro.addstrategy(Random, acts=acts)
    cerebro.addanalyzer(Told, _name="told")
    if ladder is not None:
        attach(cerebro, Rungs(ladder))
    return cerebro.run()[0]


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(moves, actions, ladders(), st.sampled_from(["cross", "isolated"]))
def test_no_ladder_outlives_its_position_and_no_exit_turns_it_round(steps, acts, ladder, margin_mode):
    played = play(steps, acts, ladder, margin_mode)
    for told in played.analyzers.scaling.get_analysis()["ladders"]:
        assert 1 <= told["filled"] <= len(ladder.rungs)
        assert told["whole"] > 0
    rungs = [order for order in played.analyzers.told.orders if order[0] == "Completed" and order[-1].get("scaler") and order[-1]["rung"]]
    assert len(rungs) <= sum(told["filled"] - 1 for told in played.analyzers.scaling.get_analysis()["ladders"])


@settings(max_examples=25, deadline=None, phases=PHASES)
@given(moves, actions, st.sampled_from(["cross", "isolated"]))
def test_one_rung_is_none_whatever_comes(steps, acts, margin_mode):
    alone, scaled = (play(steps, acts, ladder, margin_mode) for ladder in (None, Ladder((Rung(0, 1.0),))))
    assert repr(scaled.analyzers.told.orders) == repr(alone.analyzers.told.orders)
    assert list(map(tuple, scaled.broker.journal)) == list(map(tuple, alone.broker.journal))
