"""The tight loop and the host's loop: the same calls in the same order, the same lines, the same money.

Every comparison says by itself which loop ran: ``loops`` lists them as they are entered.
"""

import importlib.util
import sys
from pathlib import Path

import backtrader as bt
import pytest
from scenarios.test_random_hedger import RandomHedger
from scenarios.test_random_trader import TIERS, RandomTrader, wild_frame

import bt_margin as bm
from bt_margin import cerebro as engine

FOLDER = Path(__file__).parents[2] / "strategies"
LOOPS = ("_runonce", "_runnext", "_runonce_old", "_runnext_old")


@pytest.fixture(scope="module")
def watch():
    """Write down every loop that is entered, ours as 'tight'."""
    entered: list[str] = []

    def noting(name, run):
        def noted(*arguments):
            entered.append(name)
            return run(*arguments)

        return noted

    with pytest.MonkeyPatch.context() as patch:
        for name in LOOPS:
            patch.setattr(bt.Cerebro, name, noting(name, getattr(bt.Cerebro, name)))
        patch.setattr(engine, "run_tight", noting("tight", engine.run_tight))
        patch.setattr(engine, "run_on", noting("run_on", engine.run_on))
        yield entered


@pytest.fixture
def loops(watch):
    watch.clear()
    return watch


# -- what can be seen of a run ---------------------------------------------------------------------------------------


def exact(value: float) -> str:
    return float(value).hex()


def indicators_below(thing):
    """Yield the indicators of a strategy or of an indicator, and those inside them."""
    for indicator in thing.getindicators():
        yield indicator
        yield from indicators_below(indicator)


def lines_of(thing):
    return thing.lines.lines if isinstance(thing, bt.lineseries.LineSeries) else [thing]


def present(thing) -> tuple:
    """Return what a strategy that looks at something finds there: its length, and its values if it has any by now."""
    return len(thing), tuple(exact(line[0]) if len(line.array) > max(line.idx, 0) else "" for line in lines_of(thing))


def kept(thing) -> list[tuple]:
    return [(line.array.tobytes(), line.idx, line.lencount) for line in lines_of(thing)]


def order_told(order) -> tuple:
    executed, info = order.executed, sorted((key, str(value)) for key, value in order.info.items())
    filled = tuple(map(exact, (executed.size, executed.price, executed.value, executed.comm, executed.pnl, executed.dt or 0.0)))
    return order.data._name, order.getstatusname(), order.getordername(), exact(order.created.size), filled, info


def trade_told(trade) -> tuple:
    return trade.data._name, trade.status, *map(exact, (trade.size, trade.price, trade.value, trade.commission, trade.pnl, trade.pnlcomm))


def witnessed(strategy, *, cash: bool):
    """Return the strategy as a class that writes down every call with all that could be seen at it, ``cash`` also those of cash."""

    def look(self, *what):
        seen = [present(self), *map(present, self.datas), *(present(indicator) for indicator in indicators_below(self))]
        held = [exact(self.broker.getposition(data).size) for data in self.datas]
        self.told.append((*what, seen, held, len(self._orderspending), len(self._tradespending), self._minperstatus))

    def forwarding(name, describe):
        before = getattr(strategy, name, lambda *_: None)

        def method(self, *arguments):
            self.look(name, describe(*arguments))
            before(self, *arguments)

        return method

    def plain(*arguments):
        return [exact(argument) for argument in arguments]

    hooks = {
        "next": plain,
        "nextstart": plain,
        "prenext": plain,
        "notify_order": order_told,
        "notify_trade": trade_told,
        "notify_margin": lambda event: sorted((key, str(value)) for key, value in event.items()),
        **({"notify_cashvalue": plain, "notify_fund": plain} if cash else {}),
    }

    def start(self):
        self.told = []
        strategy.start(self)

    methods = {name: forwarding(name, describe) for name, describe in hooks.items()}
    return type(f"Witnessed{strategy.__name__}", (strategy,), {**methods, "look": look, "start": start, "__module__": __name__})


def analysed(analyzer) -> str:
    return "" if isinstance(analyzer, Listener) else repr(analyzer.get_analysis())


def remains(strategy) -> dict:
    """Return all that a run leaves: lines, analyses, the account's books."""
    found = {
        "told": strategy.told,
        "lines": kept(strategy),
        "datas": [kept(data) for data in strategy.datas],
        "indicators": [kept(indicator) for indicator in indicators_below(strategy)],
        "observers": [kept(observer) for observer in strategy.getobservers()],
        "analyses": [analysed(analyzer) for analyzer in strategy.analyzers],
        "heard": [analyzer.heard for analyzer in strategy.analyzers if isinstance(analyzer, Listener)],
        "orders": [order_told(order) for order in strategy._orders],
        "value": (strategy.broker.getvalue(), strategy.broker.getcash()),
    }
    if isinstance(strategy.broker, bm.MarginBroker):
        record = strategy.broker.record
        found |= {
            "bars": record.bars.tobytes(),
            "holdings": record.holdings.tobytes(),
            "fills": [row[:-1] for row in record.fills],  # but for the number of the order, which counts on from run to run
            "rows": [record.funding, record.liquidations, record.warnings, record.top_ups, record.flows],
            "refusals": [row[:-1] for row in record.refusals],
            "journal": list(strategy.broker.journal),
        }
    return found


class Listener(bt.Analyzer):
    """Writes down every call an analyzer gets; with a child that does too."""

    params = (("child", False),)

    def __init__(self):
        self.heard = []
        self.inner = Listener() if self.p.child else None

    def say(self, *what):
        self.heard.append((*what, len(self.strategy), exact(self.strategy.datetime[0])))

    def prenext(self):
        self.say("prenext")

    def nextstart(self):
        self.say("nextstart")

    def next(self):
        self.say("next")

    def notify_order(self, order):
        self.say("order", order_told(order))

    def notify_trade(self, trade):
        self.say("trade", trade_told(trade))

    def notify_cashvalue(self, cash, value):
        self.say("cash", exact(cash), exact(value))

    def notify_fund(self, cash, value, fundvalue, shares):
        self.say("fund", *map(exact, (cash, value, fundvalue, shares)))


# -- runs ------------------------------------------------------------------------------------------------------------


FRAMES = [wild_frame(40 + number, 500, start=start) for number, start in enumerate((100.0, 3.0, 20_000.0))]


def margin(**account):
    broker = bm.MarginBroker(**{"cash": 10_000, "check": True, **account})
    for number, mode in enumerate(("cross", "isolated", "cross")):
        terms = {"leverage": (20, 10, 5)[number], "commission": 0.0005, "maker": 0.0002, "tiers": TIERS}
        broker.addcommissioninfo(bm.PerpCommInfo(margin_mode=mode, **terms), name="ABC"[number] * 3)
    return broker


def stock():
    broker = bt.brokers.BackBroker(cash=10_000)
    broker.setcommission(commission=0.0005, leverage=5.0)
    return broker


def ready(kind, *strategies, datas=1, bars=120, broker=margin, feed=bm.PerpData, cash=False, **asked):
    """Return a Cerebro of this kind with so many datas; a strategy is a class, or (class, params)."""
    cerebro = kind(**{"stdstats": False, **asked})
    cerebro.broker = broker()
    for number in range(datas):
        cerebro.adddata(feed(dataname=FRAMES[number][:bars]), name="ABC"[number] * 3)
    for each in strategies:
        strategy, params = each if isinstance(each, tuple) else (each, {})
        cerebro.addstrategy(witnessed(strategy, cash=cash), **params)
    return cerebro


def both(loops, *strategies, dress=lambda _: None, expected=("tight",), **how):
    """Return what is left of a run of our Cerebro and of the host's, having seen which loops they took."""
    found = []
    for kind, taken in ((bm.Cerebro, [*expected]), (bt.Cerebro, [expected[-1] if expected[-1] in LOOPS else "_runonce"])):
        loops.clear()
        cerebro = ready(kind, *strategies, **how)
        dress(cerebro)
        finished = cerebro.run()
        assert loops == taken
        assert getattr(cerebro, "host_loop_reason", "") == "" or kind is bm.Cerebro
        found.append([remains(strategy) for strategy in finished])
    return found


def check_equal(found) -> None:
    ours, hosts = found
    assert len(ours) == len(hosts)
    for own, other in zip(ours, hosts, strict=True):
        for part in other:  # one by one: the first difference is then a short one
            assert own[part] == other[part], part


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


class Averages(bt.Strategy):
    """Goes with the side of a cross of averages, and back: warm-up, orders, reversals."""

    def __init__(self):
        self.cross = bt.ind.CrossOver(bt.ind.SMA(self.data.close, period=3), bt.ind.EMA(self.data, period=9))

    def next(self):
        if self.cross[0]:
            self.order_target_size(target=20 * self.cross[0])


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
