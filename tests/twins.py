"""The same run by two engines, and all that can be seen of each: for tests that compare the tight loop with the host's."""

from array import array

import backtrader as bt
from scenarios.test_random_trader import TIERS, wild_frame

import bt_margin as bm

LOOPS = ("_runonce", "_runnext", "_runonce_old", "_runnext_old")


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
    return [(array("d", line.array).tobytes(), line.idx, line.lencount) for line in lines_of(thing)]


def order_told(order) -> tuple:
    executed, info = order.executed, sorted((key, str(value)) for key, value in order.info.items())
    filled = [tuple(map(exact, (*vars(bit).values(),))) for bit in executed.exbits]
    filled += map(exact, (executed.size, executed.price, executed.value, executed.comm, executed.pnl, executed.dt or 0.0))
    return order.data._name, order.getstatusname(), order.getordername(), exact(order.created.size), tuple(filled), info


def trade_told(trade) -> tuple:
    told = {name: value for name, value in vars(trade).items() if name not in ("ref", "data", "history")}
    return trade.data._name, sorted((name, exact(value) if isinstance(value, float) else value) for name, value in told.items())


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
        "orders": [order_told(order) for order in strategy.broker.orders],
        "value": (strategy.broker.getvalue(), strategy.broker.getcash()),
    }
    if isinstance(strategy.broker, bm.MarginBroker):
        record = strategy.broker.record
        found |= {
            "bars": record.table().tobytes(),
            "holdings": record.holdings().tobytes(),
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


class Averages(bt.Strategy):
    """Goes with the side of a cross of averages, and back: warm-up, orders, reversals."""

    def __init__(self):
        self.cross = bt.ind.CrossOver(bt.ind.SMA(self.data.close, period=3), bt.ind.EMA(self.data, period=9))

    def next(self):
        if self.cross[0]:
            self.order_target_size(target=20 * self.cross[0])
