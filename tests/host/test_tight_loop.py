"""The tight loop and the host's loop: the same calls in the same order, the same lines, the same money.

Every comparison says by itself which loop ran: ``loops`` lists them as they are entered.
"""

import importlib.util
import random
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import backtrader as bt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenarios.test_random_hedger import RandomHedger
from scenarios.test_random_trader import RandomTrader
from twins import Averages, Listener, both, check_equal, margin, stock

import bt_margin as bm
from bt_margin import analyzers as own_analyzers
from bt_margin import cerebro as engine
from bt_margin import observers as own_observers

FOLDER = Path(__file__).parents[2] / "strategies"


def module(path: Path):
    spec = importlib.util.spec_from_file_location(f"tight_{path.stem}", path)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded  # Backtrader looks its classes' modules up there
    spec.loader.exec_module(loaded)
    return loaded


SHIPPED = [
    item
    for path in sorted(FOLDER.glob("*.py"))
    for item in vars(module(path)).values()
    if isinstance(item, type) and issubclass(item, bt.Strategy) and item.__module__.startswith("tight_")
]
TRADER = (RandomTrader, {"seed": 5, "appetite": 0.4})


def test_there_are_strategies_to_compare():
    assert len(SHIPPED) == 7


@pytest.mark.parametrize("cash", [False, True], ids=["deaf", "hearing cash"])
@pytest.mark.parametrize("strategy", SHIPPED, ids=lambda strategy: strategy.__name__)
def test_shipped_strategies_see_and_do_the_same(loops, strategy, cash):
    found = both(loops, strategy, datas=2 if "Carry" in strategy.__name__ else 1, bars=500, cash=cash)
    check_equal(found)
    assert len({what for what, *_ in found[0][0]["told"]}) >= 2


ACCOUNTS = {
    "margin": {},
    "stops at a liquidation": {"on_liquidation": "stop"},
    "warned, shrunk and refilled": {"unfunded": "shrink", "on_liquidation": "refill", "refill": 9_000, "warning_rate": 3.0},
    "hedge": {"position_mode": "hedge"},
}


@pytest.mark.parametrize("cash", [False, True], ids=["deaf", "hearing cash"])
@pytest.mark.parametrize("datas", [1, 3])
@pytest.mark.parametrize("account", ACCOUNTS)
def test_a_random_trader_sees_and_does_the_same(loops, account, datas, cash):
    trader = (RandomHedger, TRADER[1]) if account == "hedge" else TRADER
    found = both(loops, trader, datas=datas, cash=cash, broker=lambda: margin(**ACCOUNTS[account]))
    check_equal(found)
    assert found[0][0]["fills"]


def test_a_random_trader_on_the_stock_broker_sees_and_does_the_same(loops):
    check_equal(both(loops, Averages, broker=stock, cash=True))
    check_equal(both(loops, Averages, broker=stock))


# -- whatever a run is made of ---------------------------------------------------------------------------------------


class Inner(bt.Indicator):
    """Calculated bar by bar, with an average inside it that others may look at."""

    lines = ("spread", "rank")
    params = (("period", 4),)

    def __init__(self):
        self.average = bt.ind.SMA(self.data, period=self.p.period)
        self.addminperiod(self.p.period + 1)

    def next(self):
        self.l.spread[0] = self.data[0] - self.average[0]
        self.l.rank[0] = self.l.spread[0] > self.l.spread[-1]


class Coupled(bt.Indicator):
    """Its lines are made of other lines, one of them of two datas where there are two."""

    lines = ("change", "mixed")

    def __init__(self):
        self.l.change = self.data - self.data(-2)
        self.l.mixed = bt.ind.SMA(self.datas[-1], period=3) + abs(self.data)


BUILD = {  # of a data and another, which may be the same
    "average": lambda data, _: bt.ind.SMA(data.close, period=5),
    "of data": lambda data, _: bt.ind.EMA(data, period=7),
    "nested": lambda data, _: bt.ind.SMA(bt.ind.RSI(data, period=4), period=3),
    "macd": lambda data, _: bt.ind.MACDHisto(data, period_me1=3, period_me2=6, period_signal=3),
    "inside another": lambda data, _: bt.ind.SMA(Inner(data.close).average, period=2),
    "bar by bar": lambda data, _: Inner(data.close, period=3),
    "line of it": lambda data, _: bt.ind.Highest(Inner(data.close).rank, period=3),
    "operation": lambda data, _: (data.high - data.low) / data.close > 0.01,
    "delayed": lambda data, _: data.close(-3),
    "coupler": lambda data, _: data.close(),
    "coupled lines": lambda data, other: Coupled(data.close, other.close),
    "two datas": lambda data, other: bt.ind.CrossOver(bt.ind.SMA(data, period=3), bt.ind.SMA(other, period=4)),
    "logic": lambda data, _: bt.If(data.close > data.open, data.high, data.low),
}


class WideStrategy(bt.Strategy):
    """Builds the indicators it is told to, and trades by chance on all datas: markets, brackets, sized by the sizer or itself."""

    lines = ("own",)
    params = (("kinds", ()), ("seed", 0), ("first", 0), ("mine", None))

    def __init__(self):
        self.rng = random.Random(self.p.seed)
        self.built = [BUILD[kind](self.datas[number % len(self.datas)], self.datas[-1]) for number, kind in enumerate(self.p.kinds)]
        self.l.own = self.data.close - self.data.open

    def next(self):
        mine = self.datas if self.p.mine is None else [self.datas[self.p.mine]]
        for data in mine:
            chance, price = self.rng.random(), data.close[0]
            if chance < 0.1:
                self.buy(data)
            elif chance < 0.2:
                self.sell(data)
            elif chance < 0.25:
                self.buy_bracket(data=data, exectype=bt.Order.Market, stopprice=price * 0.98, limitprice=price * 1.02)
            elif chance < 0.3:
                self.close(data)
            elif chance < 0.31 and self.p.first:
                self.env.runstop()


OBSERVERS = {
    "host's broker": lambda cerebro: cerebro.addobserver(bt.observers.Broker),
    "trades": lambda cerebro: cerebro.addobserver(bt.observers.DataTrades),
    "orders": lambda cerebro: cerebro.addobservermulti(bt.observers.BuySell, barplot=True),
    "drawdown": lambda cerebro: cerebro.addobserver(bt.observers.DrawDown),
    "liquidation": lambda cerebro: cerebro.addobservermulti(own_observers.LiquidationPrice),
    "ratio": lambda cerebro: cerebro.addobserver(own_observers.MarginRatio),
    "account": lambda cerebro: cerebro.addobserver(own_observers.WalletEquity),
}
ANALYZERS = {
    "listener": lambda cerebro: cerebro.addanalyzer(Listener),
    "with a child": lambda cerebro: cerebro.addanalyzer(Listener, child=True),
    "trades": lambda cerebro: cerebro.addanalyzer(bt.analyzers.TradeAnalyzer),
    "returns": lambda cerebro: cerebro.addanalyzer(bt.analyzers.TimeReturn, timeframe=bt.TimeFrame.Days),
    "sharpe": lambda cerebro: cerebro.addanalyzer(bt.analyzers.SharpeRatio, timeframe=bt.TimeFrame.Days),
    "drawdown": lambda cerebro: cerebro.addanalyzer(bt.analyzers.DrawDown),
    "transactions": lambda cerebro: cerebro.addanalyzer(bt.analyzers.Transactions),
    "margin": lambda cerebro: cerebro.addanalyzer(own_analyzers.Margin),
    "equity": lambda cerebro: cerebro.addanalyzer(own_analyzers.Equity),
}
SIZERS = {
    "none": lambda _: None,
    "fixed": lambda cerebro: cerebro.addsizer(bt.sizers.FixedSize, stake=3),
    "percent": lambda cerebro: cerebro.addsizer(bt.sizers.PercentSizer, percents=40),
    "equity": lambda cerebro: cerebro.addsizer(bm.sizers.EquityFraction, fraction=0.7),
}


@st.composite
def configurations(draw):
    datas = draw(st.integers(1, 3))
    kinds = draw(st.lists(st.sampled_from([*BUILD]), max_size=5))
    first = (WideStrategy, {"kinds": tuple(kinds), "seed": draw(st.integers(0, 99)), "first": draw(st.booleans())})
    others = []
    if datas > 1 and draw(st.booleans()):
        first[1]["mine"] = 0  # a contract is traded by one strategy
        others = [(WideStrategy, {"kinds": tuple(kinds[:2]), "seed": 1, "mine": 1})]
    dressing = [OBSERVERS[name] for name in draw(st.lists(st.sampled_from([*OBSERVERS]), max_size=3, unique=True))]
    dressing += [ANALYZERS[name] for name in draw(st.lists(st.sampled_from([*ANALYZERS]), max_size=4, unique=True))]
    dressing.append(SIZERS[draw(st.sampled_from([*SIZERS]))])
    account = {"margin_mode": draw(st.sampled_from(["cross", "isolated"])), "unfunded": draw(st.sampled_from(["reject", "shrink"]))}
    return {
        "strategies": (first, *others),
        "dressing": dressing,
        "datas": datas,
        "bars": draw(st.integers(45, 60)),
        "broker": lambda: margin(check=False, **account),
        "cash": draw(st.booleans()),
        "stdstats": draw(st.booleans()),
        "tradehistory": draw(st.booleans()),
    }


@settings(deadline=None, max_examples=40)
@given(configurations())
def test_whatever_a_run_is_made_of_both_loops_do_the_same(watch, configuration):
    strategies, dressing = configuration.pop("strategies"), configuration.pop("dressing")

    def dress(cerebro):
        for put_on in dressing:
            put_on(cerebro)

    check_equal(both(watch, *strategies, dress=dress, **configuration))


# -- the examples ------------------------------------------------------------------------------------------------------

EXAMPLES = sorted((FOLDER.parent / "examples").glob("*.py"))
FOREIGN = ("existing_strategy_one_line",)  # its feed is the host's


@pytest.mark.slow
@pytest.mark.skipif(find_spec("bt_margin.data") is None, reason="the candles come with the installed package: pip install -e .")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_print_the_same_by_both_loops(loops, path, tmp_path, capsys, monkeypatch):
    script = tmp_path / path.name  # where it leaves its picture
    script.write_text(text := path.read_text("utf-8"), "utf-8")
    is_ours, is_stock = path.stem not in FOREIGN, "baseline=True" in text or path.stem in FOREIGN
    said = []
    for is_tight, judge in ((is_ours, engine.why_not), (False, lambda *_: "a test asks for it")):
        loops.clear()
        monkeypatch.setattr(engine, "why_not", judge)
        runpy.run_path(str(script), run_name="__main__")
        said.append(capsys.readouterr().out)
        if path.stem != "optimise_leverage":  # which runs in processes of its own
            assert ("tight" in loops) == is_tight
            assert ("_runonce" in loops) == (is_stock or not is_tight)
    assert said[0] == said[1] != ""
