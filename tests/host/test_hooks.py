"""The host's private hooks that MarginBroker stands on, and what the broker does with them.

The first part asks the host itself: were one of these to change, MarginBroker would be wrong without an error. The
rest asks the broker: every alias, every refusal, what may change in a run, liquidations as the host's own listeners
see them. Bars are one price, or (open, high, low, close); without other terms there are no fees and 10 000 of cash.
"""

import inspect
import random
from collections import deque
from datetime import UTC, timedelta
from functools import cache
from math import inf, nan

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from backtrader.brokers import BackBroker

from bt_margin import MarginBroker, PerpCommInfo

VERSION = f"backtrader {bt.__version__}"
CASH = 10_000.0
Order = bt.Order
UTCNOW = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
POOL = [
    pytest.mark.filterwarnings("ignore:Pickle, copy, and deepcopy support:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


# -- a script and what it was told -----------------------------------------------------------------------------------


DEADLY = [100.0, 100.0, 100.0, (100.0, 100.0, 50.0, 60.0), 60.0, 60.0]  # a 10x long from 100 dies on the fourth bar


class Scripted(bt.Strategy):
    """Act as the script says, by bar number, and keep what the host tells."""

    params = (("script", {}),)

    def __init__(self):
        self.told, self.trades, self.events, self.values, self.sizes, self.cashes = [], [], [], [], [], []

    def notify_order(self, order):
        self.told.append(order)

    def notify_trade(self, trade):
        self.trades.append(trade)

    def notify_margin(self, event):
        self.events.append(event)

    def next(self):
        self.values.append(self.broker.getvalue())
        self.cashes.append(self.broker.getcash())
        self.sizes.append([self.broker.getposition(data).size for data in self.datas])
        self.p.script.get(len(self), lambda _: None)(self)

    def ends(self):
        """Return (name of the last status, executed size, price, info) of every order, in the order they ended."""
        last = {order.ref: order for order in self.told}
        return [(o.getstatusname(), o.executed.size, o.executed.price, dict(o.info)) for o in last.values()]


class Probe(BackBroker):
    """Stock, noting which of its hooks are called and with what."""

    def __init__(self):
        self.calls: list[str] = []
        self.fills: list[dict] = []
        self.noted: list[int] = []
        super().__init__()

    def init(self):
        self.calls = [*getattr(self, "calls", []), "init"]
        super().init()

    def submit(self, order, check=True):
        self.calls.append("submit")
        return super().submit(order, check=check)

    def check_submitted(self):
        self.calls.append("check_submitted")
        super().check_submitted()

    def submit_accept(self, order):
        self.calls.append("submit_accept")
        super().submit_accept(order)

    def notify(self, order):
        self.noted.append(order.status)
        super().notify(order)

    def _try_exec(self, order):
        self.calls.append("_try_exec")
        super()._try_exec(order)

    def _try_exec_limit(self, order, popen, phigh, plow, plimit):
        self.calls.append("_try_exec_limit")
        super()._try_exec_limit(order, popen, phigh, plow, plimit)

    def _execute(self, order, ago=None, price=None, cash=None, position=None, dtcoc=None):
        if ago is not None:
            self.fills.append({"ago": ago, "price": price, "dtcoc": dtcoc, "kind": order.getordername()})
        return super()._execute(order, ago=ago, price=price, cash=cash, position=position, dtcoc=dtcoc)

    def next(self):
        self.calls.append("next")
        super().next()


def frame(prices, start="2024-01-01", freq="h"):
    bars = [price if isinstance(price, tuple) else (price,) * 4 for price in prices]
    index = pd.date_range(start, periods=len(bars), freq=freq)
    return pd.DataFrame(bars, columns=["open", "high", "low", "close"], index=index).assign(volume=1.0)


def feed(prices):
    table = prices if isinstance(prices, pd.DataFrame) else frame(prices)
    return bt.feeds.PandasData(dataname=table, timeframe=bt.TimeFrame.Minutes, compression=60)


def engine_of(broker, *feeds, **mode):
    engine = bt.Cerebro(stdstats=False, **mode)
    engine.broker = broker
    for number, prices in enumerate(feeds):
        engine.adddata(feed(prices), name=f"D{number}")
    return engine


def run(broker, *feeds, script=None, strategy=Scripted, **mode):
    """Run one script and return the finished strategy."""
    engine = engine_of(broker, *feeds, **mode)
    engine.addstrategy(strategy, script=script or {})
    return engine.run()[0]


def margin_broker(cash=CASH, margin_mode="cross", on_liquidation="continue", **terms):
    terms = {"leverage": 10, "tiers": 0.01, "liquidation_fee": 0.0, **terms}
    broker = MarginBroker(cash=cash, margin_mode=margin_mode, on_liquidation=on_liquidation, check=True)
    broker.addcommissioninfo(PerpCommInfo(**terms))
    return broker


def buy(size, **kwargs):
    return lambda strategy: strategy.buy(size=size, **kwargs)


def in_turn(*acts):
    """Return one act that does several."""
    return lambda strategy: [act(strategy) for act in acts]


# -- the host ---------------------------------------------------------------------------------------------------------

SIGNATURES = {
    "init": [],
    "start": [],
    "next": [],
    "buy": ["owner", "data", "size", "price", "plimit", "exectype", "valid", "tradeid", "oco", "trailamount", "trailpercent", "parent",
            "transmit", "histnotify", "_checksubmit", "kwargs"],
    "sell": ["owner", "data", "size", "price", "plimit", "exectype", "valid", "tradeid", "oco", "trailamount", "trailpercent", "parent",
             "transmit", "histnotify", "_checksubmit", "kwargs"],
    "submit": ["order", "check"],
    "transmit": ["order", "check"],
    "check_submitted": [],
    "submit_accept": ["order"],
    "cancel": ["order", "bracket"],
    "notify": ["order"],
    "get_notification": [],
    "add_cash": ["cash"],
    "_take_children": ["order"],
    "_bracketize": ["order", "cancel"],
    "_ococheck": ["order"],
    "_execute": ["order", "ago", "price", "cash", "position", "dtcoc"],
    "_try_exec": ["order"],
    "_try_exec_market": ["order", "popen", "phigh", "plow"],
    "_try_exec_close": ["order", "pclose"],
    "_try_exec_limit": ["order", "popen", "phigh", "plow", "plimit"],
    "_try_exec_stop": ["order", "popen", "phigh", "plow", "pcreated", "pclose"],
    "_try_exec_stoplimit": ["order", "popen", "phigh", "plow", "pclose", "pcreated", "plimit"],
    "_slip_up": ["pmax", "price", "doslip", "lim"],
    "_slip_down": ["pmin", "price", "doslip", "lim"],
    "_process_order_history": [],
    "_get_value": ["datas", "lever"],
    "get_value": ["datas", "mkt", "lever"],
}  # fmt: skip
ORDER_SIGNATURES = {
    "execute": ["dt", "size", "price", "closed", "closedvalue", "closedcomm", "opened", "openedvalue", "openedcomm", "margin", "pnl",
                "psize", "pprice"],
    "trailadjust": ["price"],
    "expire": [],
    "active": [],
    "activate": [],
    "alive": [],
    "margin": [],
    "cancel": [],
    "reject": ["broker"],
    "addcomminfo": ["comminfo"],
}  # fmt: skip


def parameters(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_hosts_broker_keeps_its_signatures(name):
    found = parameters(getattr(BackBroker, name))

    assert found == SIGNATURES[name], f"{VERSION}: BackBroker.{name} takes {found}, MarginBroker was written for {SIGNATURES[name]}"


@pytest.mark.parametrize("name", ORDER_SIGNATURES)
def test_the_hosts_order_keeps_its_signatures(name):
    found = parameters(getattr(Order, name))

    assert found == ORDER_SIGNATURES[name], f"{VERSION}: Order.{name} takes {found}, MarginBroker was written for {ORDER_SIGNATURES[name]}"


@pytest.mark.parametrize("name", SIGNATURES)
def test_our_broker_can_be_called_as_the_hosts(name):
    """Every parameter of the host's is taken, by place and by name."""
    values = {key: None for key in SIGNATURES[name] if key != "kwargs"}
    ours = inspect.signature(getattr(MarginBroker, name))

    assert ours.bind(None, *values.values()), f"{VERSION}: {name}"
    assert ours.bind(None, **values), f"{VERSION}: {name}"


def test_the_hosts_state_is_made_in_init_and_is_what_we_use():
    broker = BackBroker()
    kinds = {
        "pending": deque, "submitted": deque, "_toactivate": deque, "notifs": deque, "_cash_addition": deque, "orders": list,
        "_ocos": dict, "_userhist": list, "_fundhist": list, "_value": float, "_fundval": float, "_fundshares": float,
    }  # fmt: skip

    found = {name: type(getattr(broker, name)) for name in kinds}

    assert found == kinds, f"{VERSION}: BackBroker keeps {found}"
    assert broker.positions[object()].size == 0, f"{VERSION}: positions are no longer made on sight"


def test_the_host_calls_init_before_the_subclass_is_made_and_again_at_start():
    probe = Probe()

    assert probe.calls == ["init"], f"{VERSION}: construction called {probe.calls}"
    run(probe, [100.0, 100.0])
    assert probe.calls.count("init") == 2, f"{VERSION}: a run called init {probe.calls.count('init')} times"


def test_the_host_checks_accepts_and_tries_orders_in_the_step_after_they_were_sent():
    probe = Probe()

    strategy = run(probe, [100.0] * 3, script={1: in_turn(buy(1), lambda s: s.told.append(list(s.broker.pending)))})

    assert strategy.told[0] == [], f"{VERSION}: an order is in the book before it was checked"
    sent = probe.calls.index("submit")
    after = [call for call in probe.calls[sent:] if call != "init"]
    assert after[:5] == ["submit", "next", "check_submitted", "submit_accept", "_try_exec"], f"{VERSION}: {after}"


def test_every_change_of_an_orders_state_passes_through_notify():
    probe = Probe()
    script = {
        1: buy(1),
        2: in_turn(buy(1, exectype=Order.Limit, price=50.0, valid=timedelta(hours=1)), buy(10**6)),
        3: in_turn(
            lambda s: setattr(s, "rest", s.buy(size=1, exectype=Order.Limit, price=50.0)),
            lambda s: s.buy(size=1, parent=next(order for order in s.told if order.status == Order.Margin)),
        ),
        5: lambda s: s.cancel(s.rest),
    }

    strategy = run(probe, [100.0] * 7, script=script)

    assert probe.noted == [order.status for order in strategy.told], f"{VERSION}: a state changed without notify()"
    kinds = {Order.Submitted, Order.Accepted, Order.Completed, Order.Expired, Order.Margin, Order.Canceled, Order.Rejected}
    assert set(probe.noted) == kinds, f"{VERSION}: {probe.noted}"


def test_the_host_fills_by_execute_with_ago_price_and_dtcoc():
    probe = Probe()
    script = {1: in_turn(buy(1), buy(1, exectype=Order.Limit, price=101.0), buy(1, exectype=Order.Stop, price=99.0))}

    run(probe, [100.0] * 3, script=script)

    expected = [{"ago": 0, "price": 100.0, "dtcoc": None, "kind": kind} for kind in ("Market", "Limit", "Stop")]
    assert probe.fills == expected, f"{VERSION}: BackBroker filled by {probe.fills}"
    assert "_try_exec_limit" in probe.calls, f"{VERSION}: a limit is no longer tried by _try_exec_limit"


def test_cheat_on_close_hands_the_time_of_the_order_to_execute():
    probe = Probe()
    probe.set_coc(True)

    strategy = run(probe, [100.0, 110.0], script={1: buy(1)})

    created = strategy.told[-1].created
    assert probe.fills == [{"ago": 0, "price": 100.0, "dtcoc": created.dt, "kind": "Market"}], f"{VERSION}: {probe.fills}"


def test_a_filled_parent_only_queues_its_children_for_the_next_step():
    seen = {}

    def look(strategy):
        seen[len(strategy)] = [order.active() for order in strategy.broker.pending], len(strategy.broker._toactivate)

    script = {1: lambda s: s.buy_bracket(size=1, exectype=Order.Market, stopprice=90.0, limitprice=120.0), 2: look, 3: look}

    run(BackBroker(), [100.0] * 4, script=script)

    assert seen == {2: ([False, False], 2), 3: ([True, True], 0)}, f"{VERSION}: (children active, queued) by bar was {seen}"


def test_the_host_keeps_groups_by_the_reference_of_their_first_order():
    groups = []

    def pair(strategy):
        first = strategy.buy(size=1, exectype=Order.Limit, price=50.0)
        second = strategy.buy(size=1, exectype=Order.Limit, price=50.0, oco=first)
        groups.append((strategy.broker._ocos[first.ref] - first.ref, strategy.broker._ocos[second.ref] - first.ref))

    run(BackBroker(), [100.0] * 3, script={1: pair})

    assert groups == [(0, 0)], f"{VERSION}: _ocos names groups {groups}"


def test_lines_show_their_count_their_place_and_their_array():
    seen = []

    def look(strategy):
        line = strategy.data.lines.datetime
        seen.append((line.lencount, line.array[line._idx] == strategy.data.datetime[0]))

    run(BackBroker(), [100.0] * 3, script={1: look, 3: look})

    assert seen == [(1, True), (3, True)], f"{VERSION}: lines answer {seen}"


def test_the_host_asks_for_notifications_until_there_are_none_after_each_step():
    asked = []

    class Asked(BackBroker):
        def next(self):
            asked.append("next")
            super().next()

        def get_notification(self):
            order = super().get_notification()
            asked.append("none" if order is None else "order")
            return order

    run(Asked(), [100.0] * 2, script={1: buy(1)})

    assert asked == ["next", "none", "next", "order", "order", "order", "none"], f"{VERSION}: {asked}"


def test_a_stop_asked_for_in_the_brokers_step_ends_the_run_before_the_strategys():
    class Stopper(BackBroker):
        def next(self):
            super().next()
            if len(self.cerebro.datas[0]) == 3:
                self.cerebro.runstop()

    strategy = run(Stopper(), [100.0] * 5)

    assert len(strategy.values) == 2, f"{VERSION}: runstop() in broker.next() let {len(strategy.values)} bars pass"


# -- the aliases ------------------------------------------------------------------------------------------------------

ALIASES = {"getcash": "get_cash", "setcash": "set_cash", "getvalue": "get_value"}


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_is_our_function_not_the_hosts(alias):
    ours = getattr(MarginBroker, alias)

    assert ours is getattr(MarginBroker, ALIASES[alias])
    assert ours is not getattr(BackBroker, alias)


def test_every_name_of_the_hosts_for_a_function_we_replace_is_replaced():
    """A new alias in the host would keep the host's own cash or value."""
    replaced = {id(vars(BackBroker)[name]) for name in vars(BackBroker) if getattr(MarginBroker, name) is not vars(BackBroker)[name]}

    left = [
        name
        for name, member in vars(BackBroker).items()
        if id(member) in replaced and callable(member) and getattr(MarginBroker, name) is member
    ]

    assert left == [], f"{VERSION}: {left} still lead to the host"


def test_the_accessors_of_cash_and_value_speak_of_one_account():
    """5 bought at 100 with 10x on 10 000; at 110 the profit is 50, the margin 55, the notional 550."""
    seen = {}

    def look(strategy):
        broker, data = strategy.broker, strategy.data
        seen["cash"] = {broker.getcash(), broker.get_cash(), broker.cash, broker.available_margin}
        seen["value"] = {broker.getvalue(), broker.get_value(), broker.equity}
        seen["notional"] = {broker.getvalue([data]), broker.get_value([data]), broker.getvalue(mkt=True), broker._get_value([data])}
        seen["lever"] = {broker.get_value_lever(), broker.getvalue(lever=True)}
        seen["leverage"] = {broker.get_leverage()}
        seen["fund"] = {broker.fundvalue * broker.fundshares, broker.get_fundvalue() * broker.get_fundshares()}
        seen["wallet"] = {broker.wallet_balance}

    run(margin_broker(), [100.0, 100.0, 110.0, 110.0], script={1: buy(5), 3: look})

    assert seen == {
        "cash": {10_050 - 55},
        "value": {10_050},
        "notional": {550},
        "lever": {10_000 + 550},
        "leverage": {550 / 10_050},
        "fund": {10_050},
        "wallet": {10_000},
    }


def test_values_of_datas_are_signed_notionals_and_change_nothing():
    seen = []

    def look(strategy):
        broker = strategy.broker
        both = broker.getvalue(strategy.datas)
        seen.append((both, broker.getvalue([strategy.datas[0]]), broker.getvalue([strategy.datas[1]]), broker.getvalue()))

    script = {1: in_turn(buy(5), lambda s: s.sell(data=s.datas[1], size=8)), 3: look}
    run(margin_broker(), [100.0] * 4, [50.0] * 4, script=script)

    assert seen == [(5 * 100 - 8 * 50, 5 * 100, -8 * 50, 10_000)]


def test_writing_cash_books_an_adjustment_of_the_wallet():
    def charge(strategy):
        strategy.broker.cash -= 25.0

    strategy = run(margin_broker(), [100.0] * 4, script={1: buy(5), 3: charge})

    assert strategy.values == [10_000, 10_000, 10_000, 10_000 - 25]
    (row,) = [row for row in strategy.broker.journal if row.kind == "adjust" and row.account == "wallet:cross"]
    assert row.amount == -25
    assert strategy.broker.journal.balances()["external"] == -(10_000 - 25)


@pytest.mark.parametrize("name", ["setcash", "set_cash", "cash"])
def test_cash_set_before_the_run_is_the_first_deposit(name):
    broker = margin_broker()
    if name == "cash":
        broker.cash = 3_000.0
    else:
        getattr(broker, name)(3_000.0)

    strategy = run(broker, [100.0] * 2)

    assert (broker.startingcash, strategy.values) == (3_000, [3_000, 3_000])
    assert [row.amount for row in broker.journal] == [3_000, -3_000]


def test_cash_added_before_it_is_set_is_not_lost():
    broker = margin_broker()
    broker.add_cash(500.0)
    broker.setcash(3_000.0)

    assert run(broker, [100.0] * 2).values == [3_500] * 2


@pytest.mark.parametrize("name", ["setcash", "set_cash", "cash"])
def test_cash_set_while_running_is_what_can_be_committed(name):
    def change(strategy):
        if name == "cash":
            strategy.broker.cash = 4_000.0
        else:
            getattr(strategy.broker, name)(4_000.0)

    strategy = run(margin_broker(), [100.0] * 4, script={1: buy(5), 3: change})

    assert strategy.cashes[-1] == 4_000
    assert strategy.values[-1] == 4_000 + 5 * 100 / 10


def test_a_strategy_may_set_cash_as_it_starts():
    class Starter(Scripted):
        def start(self):
            self.broker.setcash(5_000.0)

    strategy = run(margin_broker(), [100.0] * 3, script={1: buy(5)}, strategy=Starter)

    assert strategy.values == [5_000] * 3
    assert strategy.sizes[-1] == [5]


# -- init is safe to run twice ----------------------------------------------------------------------------------------


def wild_prices(rows=150, seed=5):
    """Return a random walk that kills 20x positions of both sides now and then."""
    draw = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(draw.normal(0, 0.02, rows)))
    opened = np.concatenate(([100.0], close[:-1])) * (1 + draw.normal(0, 0.003, rows))
    high, low = np.maximum(opened, close) * (1 + draw.random(rows) * 0.015), np.minimum(opened, close) * (1 - draw.random(rows) * 0.015)
    return list(zip(opened.tolist(), high.tolist(), low.tolist(), close.tolist(), strict=True))


class Gambler(Scripted):
    """Enter with brackets at a large part of what is available, on either side, by seeded chance."""

    params = (("seed", 1), ("share", 0.5))

    def __init__(self):
        super().__init__()
        self.draw = random.Random(self.p.seed)

    def next(self):
        super().next()
        for data in self.datas:
            if self.draw.random() < 0.25 and not self.getposition(data).size:
                self.enter(data)
        if len(self) % 30 == 0:
            self.broker.add_cash(2_000.0)

    def enter(self, data):
        size = 20 * self.p.share * self.broker.getcash() / data.close[0]
        if size > 0.001:
            place, up = (self.buy_bracket, 1) if self.draw.random() < 0.5 else (self.sell_bracket, -1)
            place(
                data=data,
                size=size,
                exectype=Order.Market,
                stopprice=data.close[0] * (1 - 0.2 * up),
                limitprice=data.close[0] * (1 + 0.1 * up),
            )


class Ledger(bt.Analyzer):
    """What a run came to: it survives an optimisation, which brings only params and analyzers home."""

    def stop(self):
        broker = self.strategy.broker
        self.rets = (
            broker.record.table().tolist(),
            [row[:-1] for row in broker.record.fills],
            list(broker.record.liquidations),
            [tuple(row) for row in broker.journal],
        )

    def get_analysis(self):
        return self.rets


def gamble(engine):
    engine.addanalyzer(Ledger, _name="ledger")
    return engine


def gambled(share=0.5, broker=None, **mode):
    """Run one gambler on two wild datas and return its ledger."""
    engine = gamble(engine_of(broker or margin_broker(leverage=20), wild_prices(), wild_prices(seed=6), **mode))
    engine.addstrategy(Gambler, share=share)
    return engine.run()[0].analyzers.ledger.get_analysis()


@cache
def once(share=0.5, on_liquidation="continue"):
    """Return the ledger of a single run."""
    return gambled(share, broker=margin_broker(leverage=20, on_liquidation=on_liquidation))


def test_one_broker_run_twice_gives_equal_results():
    broker = margin_broker(leverage=20)

    first, second = gambled(broker=broker), gambled(broker=broker)

    assert first == second == once()
    assert len(first[2]) >= 3


def test_cash_added_before_the_run_is_there_in_every_run():
    broker = margin_broker()
    broker.add_cash(500.0)

    values = [run(broker, [100.0] * 2).values for _ in range(2)]

    assert values == [[10_500] * 2] * 2


def test_cash_added_on_the_last_bar_of_a_run_is_not_there_in_the_next():
    broker = margin_broker()

    values = [run(broker, [100.0] * 2, script={2: lambda s: s.broker.add_cash(500.0)}).values for _ in range(2)]

    assert values == [[10_000] * 2] * 2


@UTCNOW
@pytest.mark.parametrize("mode", [{"runonce": False}, {"preload": False}], ids=["runnext", "no_preload"])
def test_every_way_of_running_gives_equal_results(mode):
    assert gambled(**mode) == once()


@pytest.mark.parametrize("cpus", [1, pytest.param(2, marks=POOL)])
def test_an_optimisation_gives_the_results_of_single_runs(cpus):
    shares = [0.5, 0.9]
    engine = gamble(engine_of(margin_broker(leverage=20), wild_prices(), wild_prices(seed=6), maxcpus=cpus))
    engine.optstrategy(Gambler, share=shares)

    results = [strategies[0].analyzers.ledger.get_analysis() for strategies in engine.run()]

    assert results == [once(share) for share in shares]


@pytest.mark.parametrize("cpus", [1, pytest.param(2, marks=POOL)])
def test_a_run_that_stops_at_a_liquidation_does_not_stop_the_next_one(cpus):
    shares = [0.9, 0.5]
    engine = gamble(engine_of(margin_broker(leverage=20, on_liquidation="stop"), wild_prices(), wild_prices(seed=6), maxcpus=cpus))
    engine.optstrategy(Gambler, share=shares)

    results = [strategies[0].analyzers.ledger.get_analysis() for strategies in engine.run()]

    assert results == [once(share, "stop") for share in shares]
    assert all(len(liquidations) >= 1 for _, _, liquidations, _ in results)


# -- orders -----------------------------------------------------------------------------------------------------------


def test_orderstatus_answers_for_the_order_and_for_its_copies():
    seen = []

    def look(strategy):
        seen.extend((strategy.broker.orderstatus(strategy.told[0]), strategy.told[0].status))

    run(margin_broker(), [100.0] * 3, script={1: buy(1), 2: look})

    assert seen == [Order.Completed, Order.Submitted]


def send_and_cancel(strategy):
    order = strategy.buy(size=1)
    assert strategy.broker.cancel(order)
    assert not strategy.broker.cancel(order)


def test_an_order_cancelled_in_the_bar_it_was_sent_on_never_fills():
    strategy = run(margin_broker(), [100.0] * 3, script={1: send_and_cancel})

    assert [order.getstatusname() for order in strategy.told] == ["Submitted", "Canceled"]
    assert strategy.sizes[-1] == [0]
    assert strategy.broker.account.order_margin == 0


@pytest.mark.parametrize("number", [0, 1, 2])
def test_cancelling_one_order_of_a_bracket_in_its_own_bar_cancels_all(number):
    def act(strategy):
        strategy.cancel(strategy.buy_bracket(size=1, exectype=Order.Market, stopprice=90.0, limitprice=120.0)[number])

    strategy = run(margin_broker(), [100.0] * 4, script={1: act})

    assert [end[0] for end in strategy.ends()] == ["Canceled"] * 3
    assert strategy.sizes[-1] == [0]


@pytest.mark.parametrize("bar", [1, 2])
@pytest.mark.parametrize("number", [0, 1])
def test_cancelling_one_order_of_a_group_cancels_the_group_in_its_own_bar_as_later(number, bar):
    def send(strategy):
        first = strategy.buy(size=1, exectype=Order.Limit, price=95.0)
        strategy.pair = [first, strategy.buy(size=1, exectype=Order.Limit, price=94.0, oco=first)]

    def cancel(strategy):
        strategy.cancel(strategy.pair[number])

    script = {1: in_turn(send, cancel)} if bar == 1 else {1: send, 2: cancel}
    strategy = run(margin_broker(), [100.0, 100.0, 100.0, 90.0, 90.0], script=script)

    assert [end[0] for end in strategy.ends()] == ["Canceled"] * 2
    assert strategy.sizes[-1] == [0]


def test_a_resting_order_never_fills_on_a_bar_older_than_itself():
    """The second data stands still from 01:00 (low 90) to 05:00; a limit of 91 sent at 03:00 is first met at 06:00."""
    clock = frame([100.0] * 7)
    still = frame([(100.0, 101.0, 90.0, 100.0), (100.0, 101.0, 95.0, 100.0), (100.0, 101.0, 90.5, 100.0)])
    still.index = clock.index[[0, 4, 5]]
    script = {3: lambda s: s.buy(data=s.datas[1], size=1, exectype=Order.Limit, price=91.0)}

    def filled(broker):
        strategy = run(broker, clock, still, script=script)
        (order,) = [order for order in strategy.told if order.status == Order.Completed]
        return bt.num2date(order.executed.dt), next(n for n, sizes in enumerate(strategy.sizes, 1) if sizes[1])

    assert filled(BackBroker()) == (clock.index[0], 4)
    assert filled(margin_broker()) == (clock.index[5], 6)


def margin_by_bar(script, prices=(100.0,) * 6, prepare=None, **terms):
    """Return the order margin after each step of a script."""
    broker = margin_broker(**terms)
    if prepare is not None:
        prepare(broker)
    strategy = run(broker, list(prices), script=script)
    return list(strategy.broker.record.column("order_margin"))


def test_a_resting_order_reserves_margin_and_fee_until_it_is_cancelled():
    """100 at 90 with 10x and 1 permille: 900 + 9."""
    script = {1: buy(100, exectype=Order.Limit, price=90.0), 3: lambda s: s.cancel(s.told[-1])}

    assert margin_by_bar(script, commission=0.001) == [0, 909, 909, 0, 0, 0]


def test_a_resting_order_reserves_until_it_expires():
    script = {1: buy(100, exectype=Order.Limit, price=90.0, valid=timedelta(hours=2))}

    assert margin_by_bar(script) == [0, 900, 900, 0, 0, 0]


def test_a_resting_order_reserves_until_it_fills():
    script = {1: buy(100, exectype=Order.Limit, price=90.0)}

    assert margin_by_bar(script, prices=(100.0, 100.0, 100.0, 89.0, 89.0)) == [0, 900, 900, 0, 0]


def test_a_part_filled_order_reserves_for_the_rest():
    script = {1: buy(100, exectype=Order.Limit, price=90.0)}

    reserved = margin_by_bar(
        script, prices=(100.0, 100.0, 89.0, 89.0, 89.0), prepare=lambda broker: broker.set_filler(bt.broker.fillers.FixedSize(size=1))
    )

    assert reserved == pytest.approx([0, 900, 9 * 99, 9 * 98, 9 * 97])


def test_exits_reserve_nothing():
    script = {
        1: lambda s: s.buy_bracket(size=100, exectype=Order.Limit, price=99.0, stopprice=50.0, limitprice=150.0),
        4: in_turn(
            lambda s: s.sell(size=100, exectype=Order.Stop, price=60.0), lambda s: s.sell(size=100, exectype=Order.Limit, price=140.0)
        ),
    }

    assert margin_by_bar(script, prices=(100.0, 100.0, 98.0, 98.0, 98.0, 98.0)) == [0, 990, 0, 0, 0, 0]


@pytest.mark.parametrize("later", [False, True], ids=["one bar", "two bars"])
def test_a_group_reserves_its_largest_member_so_that_each_may_need_most_of_what_there_is(later):
    """Of 10 000, one needs 6 000 and the other 7 000; only one of them can ever fill."""

    def first(strategy):
        strategy.first = strategy.buy(size=600, exectype=Order.Limit, price=100.0 - 1e-9)

    def second(strategy):
        strategy.buy(size=1_000, exectype=Order.Limit, price=70.0, oco=strategy.first)

    script = {1: first, 2: second} if later else {1: in_turn(first, second)}
    strategy = run(margin_broker(), [100.0] * 5, script=script)

    assert [end[0] for end in strategy.ends()] == ["Accepted", "Accepted"]
    assert strategy.broker.account.order_margin == pytest.approx(7_000)


def test_an_expired_stop_cannot_save_a_position_on_the_bar_that_kills_it():
    script = {1: buy(1_000), 2: lambda s: s.sell(size=1_000, exectype=Order.Stop, price=95.0, valid=timedelta(minutes=90))}

    strategy = run(margin_broker(), DEADLY, script=script)

    assert [(end[0], end[1]) for end in strategy.ends()] == [("Completed", 1_000), ("Expired", 0), ("Completed", -1_000)]
    assert strategy.ends()[-1][3]["liquidation"] is True


def test_a_limit_sale_without_slippage_is_never_worse_than_its_price():
    prices = [100.0, 100.0, (100.0, 112.0, 99.0, 105.0), 105.0]
    strategy = run(margin_broker(), prices, script={1: buy(1), 2: lambda s: s.sell(size=1, exectype=Order.Limit, price=110.0)})

    assert strategy.ends()[-1][:3] == ("Completed", -1, 110)


@UTCNOW
def test_the_last_bar_of_a_resampled_data_is_marked_at_its_own_close():
    """The host delivers a resampled data's last bar without its ticks; ten from 100 end at 110."""
    engine = bt.Cerebro(stdstats=False)
    engine.broker = margin_broker()
    engine.resampledata(feed([100.0] * 9 + [110.0]), timeframe=bt.TimeFrame.Minutes, compression=240, name="D0")
    engine.addstrategy(Scripted, script={1: buy(10)})

    (strategy,) = engine.run()

    assert strategy.data.close[0] == 110
    assert strategy.values[-1] == strategy.broker.record.column("equity")[-1] == 10_000 + 10 * 10


def test_an_order_history_is_filled_at_its_own_prices():
    engine = engine_of(margin_broker(), [100.0] * 4)
    engine.addstrategy(Scripted)
    history = [["2024-01-01T01:00:00", 5, 99.0], ["2024-01-01T02:00:00", -5, 101.0]]
    engine.add_order_history(history, notify=True)

    (strategy,) = engine.run()

    assert [(o.executed.size, o.executed.price) for o in strategy.told if o.status == Order.Completed] == [(5, 99), (-5, 101)]
    assert strategy.values[-1] == 10_000 + 5 * 2


# -- refusals ---------------------------------------------------------------------------------------------------------

NUMBERS = {"reason", "message", "needed", "available", "max_size"}
TIERS = [(50_000, 0.01, 20), (100_000, 0.02, 10)]
REFUSED = {
    "at submission": ([100.0] * 3, buy(1_001), {}, (10_010, 10_000, 1_000)),
    "at the fill": ([100.0, 125.0, 125.0], buy(1_000), {}, (12_500, 10_000, 800)),
    "above its tier at submission": ([100.0] * 3, buy(600), {"tiers": TIERS, "leverage": 20}, (3_000, 10_000, 500)),
    "above its tier at the fill": ([100.0, 125.0, 125.0], buy(500), {"tiers": TIERS, "leverage": 20}, (3_125, 10_000, 400)),
    "a resting limit": ([100.0] * 3, buy(2_000, exectype=Order.Limit, price=80.0), {}, (16_000, 10_000, 1_250)),
    "with its fee": ([100.0] * 3, buy(1_000), {"commission": 0.001}, (10_100, 10_000, 10_000 / 10.1)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_for_margin_says_why_and_by_how_much(case):
    prices, act, terms, numbers = REFUSED[case]

    strategy = run(margin_broker(**terms), prices, script={1: act})

    ((status, size, _, info),) = strategy.ends()
    assert (status, size) == ("Margin", 0)
    assert set(info) == NUMBERS
    assert (info["needed"], info["available"], info["max_size"]) == pytest.approx(numbers)
    assert info["message"].startswith("D0: ")
    assert strategy.broker.account.order_margin == 0


def test_a_size_that_fits_by_the_refusals_own_word_is_accepted():
    def retry(strategy):
        strategy.buy(size=strategy.told[-1].info["max_size"])

    strategy = run(margin_broker(lot=0.01, commission=0.0007), [99.37] * 4, script={1: buy(5_000), 2: retry})

    assert [end[0] for end in strategy.ends()] == ["Margin", "Completed"]


def test_the_refusal_of_the_rest_of_a_reversal_says_what_the_rest_needs():
    strategy = run(margin_broker(), [100.0] * 5, script={1: buy(10), 3: lambda s: s.sell(size=10 + 2_000)})

    status, size, _, info = strategy.ends()[-1]
    assert (status, size) == ("Margin", -10)
    assert (info["needed"], info["available"], info["max_size"]) == (20_000, 10_000, 1_000)
    assert strategy.sizes[-1] == [0]
    assert strategy.trades[-1].isclosed


def test_a_size_below_one_lot_is_refused_with_reason_and_numbers():
    strategy = run(margin_broker(lot=1.0), [100.0] * 3, script={1: buy(0.4)})

    ((status, size, _, info),) = strategy.ends()
    assert (status, size) == ("Rejected", 0)
    assert info["message"] == "D0: a size of 0.4 leaves no whole lot of 1; order at least one lot"
    assert set(info) == NUMBERS


@pytest.mark.parametrize(
    "act",
    [buy(nan), buy(inf), buy(1, exectype=Order.Limit, price=-5.0), buy(1, exectype=Order.Stop, price=nan),
     buy(1, exectype=Order.StopLimit, price=100.0, plimit=inf)],
    ids=["size nan", "size inf", "negative limit", "stop nan", "stop limit inf"],
)  # fmt: skip
def test_nonsense_is_rejected_with_a_reason(act):
    strategy = run(margin_broker(), [100.0] * 3, script={1: act})

    ((status, _, _, info),) = strategy.ends()
    assert status == "Rejected"
    assert info["message"].startswith("D0: ")


def test_an_order_before_the_first_bar_of_its_data_is_rejected_with_a_reason():
    class Early(Scripted):
        def prenext(self):
            if len(self) == 1:
                self.buy(data=self.datas[1], size=1)

    late = frame([100.0] * 3, start="2024-01-01 02:00")
    strategy = run(margin_broker(), [100.0] * 5, late, strategy=Early)

    ((status, _, _, info),) = strategy.ends()
    assert (status, info["message"]) == ("Rejected", "D1: no bar has come yet; place orders from the first bar on")


def test_a_refused_entry_takes_its_bracket_with_it():
    strategy = run(
        margin_broker(),
        [100.0] * 4,
        script={1: lambda s: s.buy_bracket(size=5_000, exectype=Order.Market, stopprice=90.0, limitprice=120.0)},
    )

    assert sorted(end[0] for end in strategy.ends()) == ["Canceled", "Canceled", "Margin"]
    assert not strategy.broker.get_orders_open()


# -- commission schemes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "D0"])
def test_a_commission_scheme_of_another_class_is_refused(name):
    with pytest.raises(ValueError, match=r"MarginBroker needs a PerpCommInfo for .*, was CommissionInfo; use PerpCommInfo\(\.\.\.\)"):
        MarginBroker().addcommissioninfo(bt.CommissionInfo(commission=0.001), name=name)


def test_a_commission_scheme_given_as_a_param_is_refused_at_the_start():
    with pytest.raises(ValueError, match="D0: MarginBroker needs a PerpCommInfo, was CommInfoBase"):
        run(MarginBroker(commission=bt.CommInfoBase(commission=0.001), check=True), [100.0] * 2)


def test_setcommission_builds_the_terms_of_a_perpetual():
    broker = MarginBroker(check=True)
    broker.setcommission(commission=0.001, leverage=5, mult=2.0)
    broker.setcommission(commission=0.1, percabs=False, leverage=20, name="D1", maker=0.0002, lot=0.5, tiers=0.01)

    run(broker, [100.0] * 2, [100.0] * 2)

    first, second = (broker.slot_of(data).position for data in broker.cerebro.datas)
    assert (first.leverage, first.contract.taker, first.contract.maker, first.contract.multiplier) == (5, 0.001, 0.001, 2)
    assert (second.leverage, second.contract.taker, second.contract.maker, second.contract.lot) == (20, 0.001, 0.0002, 0.5)
    assert second.brackets[0].rate == 0.01


@pytest.mark.parametrize(
    "terms",
    [{"margin": 2_000.0}, {"automargin": 0.1}, {"interest": 0.03}, {"interest_long": True}, {"stocklike": True},
     {"commtype": bt.CommInfoBase.COMM_FIXED}],
    ids=lambda terms: next(iter(terms)),
)  # fmt: skip
def test_setcommission_refuses_what_a_perpetual_has_not(terms):
    (name,) = terms

    with pytest.raises(ValueError, match=rf"setcommission\({name}=\.\.\.\) has no meaning for a perpetual"):
        MarginBroker().setcommission(commission=0.001, **terms)


def test_terms_set_in_a_running_strategy_are_used_or_refused_but_never_ignored():
    class Setter(Scripted):
        refused = False

        def start(self):
            try:
                self.broker.setcommission(commission=0.002, leverage=4, tiers=0.01)
            except ValueError:
                self.refused = True

    strategy = run(margin_broker(), [100.0] * 3, script={1: buy(5)}, strategy=Setter)

    terms = (strategy.told[-1].executed.comm, strategy.broker.initial_margin())
    assert strategy.refused or terms == (pytest.approx(0.002 * 500), 500 / 4)


# -- leverage, mode and margin in a run -------------------------------------------------------------------------------


def holding(act, *, prices=(100.0,) * 5, size=100, **terms):
    """Buy at 100, act on the third bar, and return the finished strategy."""
    return run(margin_broker(**terms), list(prices), script={1: buy(size), 3: act})


@pytest.mark.parametrize("margin_mode", ["cross", "isolated"])
def test_raising_leverage_moves_no_money(margin_mode):
    seen = []

    def act(strategy):
        broker = strategy.broker
        before = dict(broker.account.wallets), broker.equity, len(broker.journal)
        broker.set_leverage(strategy.data, 20)
        seen.append((dict(broker.account.wallets), broker.equity, len(broker.journal)) == before)
        seen.append(broker.initial_margin(strategy.data))

    holding(act, margin_mode=margin_mode)

    assert seen == [True, 100 * 100 / 20]


def test_the_leverage_of_an_open_isolated_position_cannot_fall():
    def act(strategy):
        with pytest.raises(ValueError, match="D0: the leverage of an open isolated position cannot fall from 10 to 5"):
            strategy.broker.set_leverage(strategy.data, 5)

    strategy = holding(act, margin_mode="isolated")

    assert strategy.broker.slot_of(strategy.data).position.leverage == 10


def test_lowering_leverage_in_cross_takes_margin_that_is_there():
    """10 000 of notional at 10x; 2x needs 4 000 more, which is there, and 1x 5 000 more, which is, and then nothing is left."""
    seen = []

    def act(strategy):
        for leverage in (2, 1):
            strategy.broker.set_leverage(strategy.data, leverage)
            seen.append(strategy.broker.getcash())

    holding(act)

    assert seen == [10_000 - 5_000, 0]


def test_lowering_leverage_in_cross_is_refused_without_the_margin():
    def act(strategy):
        with pytest.raises(ValueError, match="D0: 1x needs 18000 more initial margin, available is 8000"):
            strategy.broker.set_leverage(strategy.data, 1)

    strategy = holding(act, size=200)

    assert strategy.broker.initial_margin() == 200 * 100 / 10


@pytest.mark.parametrize("leverage", [0.5, 0, -3, nan, inf, 21])
def test_a_leverage_that_is_none_or_beyond_the_first_tier_is_refused(leverage):
    def act(strategy):
        with pytest.raises(ValueError, match="D0: leverage "):
            strategy.broker.set_leverage(strategy.data, leverage)

    strategy = holding(act, tiers=TIERS)

    assert strategy.broker.slot_of(strategy.data).position.leverage == 10


def test_a_leverage_that_the_tier_of_the_position_forbids_is_refused():
    """60 000 of notional lies in the tier that ends at 100 000 and allows 10x; 20x ends at 50 000."""

    def act(strategy):
        with pytest.raises(ValueError, match="D0: a position of notional 60000 allows no 20x, its tier ends at 50000"):
            strategy.broker.set_leverage(strategy.data, 20)

    strategy = holding(act, size=600, tiers=TIERS)

    assert strategy.broker.slot_of(strategy.data).position.leverage == 10


def test_the_margin_mode_changes_only_for_a_flat_contract_without_orders():
    refusals = []

    def change(strategy):
        try:
            strategy.broker.set_margin_mode(strategy.data, "isolated")
        except ValueError as error:
            refusals.append((len(strategy), str(error)))

    script = {
        1: in_turn(buy(1, exectype=Order.Limit, price=50.0), change),
        2: change,
        3: in_turn(lambda s: s.cancel(s.told[-1]), buy(1)),
        4: change,
        5: lambda s: s.close(),
        6: in_turn(change, buy(1)),
    }
    strategy = run(margin_broker(), [100.0] * 8, script=script)

    assert [bar for bar, _ in refusals] == [1, 2, 4]
    assert refusals[1][1] == "D0: the margin mode cannot change with 1 open orders; cancel them first"
    assert refusals[2][1] == "D0: the margin mode of an open position (1) cannot change; close it first"
    assert strategy.broker.account.wallets == {"wallet:cross": 10_000 - 10, "wallet:D0": 10}


def test_an_unknown_margin_mode_is_refused():
    def act(strategy):
        with pytest.raises(ValueError, match="margin_mode is 'cross' or 'isolated', was 'both'"):
            strategy.broker.set_margin_mode(strategy.data, "both")

    assert len(run(margin_broker(), [100.0] * 3, script={1: act}).values) == 3


def test_added_margin_moves_from_the_cross_wallet_and_is_told():
    """100 at 100 with 10x: 1 000 of margin; 500 more moves the liquidation price from 90.91 to 8 500 / 99."""
    prices = []

    def act(strategy):
        prices.append(strategy.broker.liquidation_price(strategy.data))
        strategy.broker.add_margin(strategy.data, 500.0)
        prices.append(strategy.broker.liquidation_price(strategy.data))

    strategy = holding(act, margin_mode="isolated")

    assert strategy.broker.account.wallets == {"wallet:cross": 10_000 - 1_500, "wallet:D0": 1_500}
    assert prices == pytest.approx([(100 * 100 - 1_000) / 99, (100 * 100 - 1_500) / 99])
    ((event),) = strategy.events
    assert (event["kind"], event["symbol"], event["amount"]) == ("top_up", "D0", 500)
    assert event["time"].tzinfo is UTC


@pytest.mark.parametrize("amount", [9_000.01, 0.0, -5.0, nan])
def test_margin_that_is_not_there_cannot_be_added(amount):
    def act(strategy):
        with pytest.raises(ValueError, match=r"D0: (cannot add|an amount of margin)"):
            strategy.broker.add_margin(strategy.data, amount)

    strategy = holding(act, margin_mode="isolated")

    assert strategy.broker.account.wallets["wallet:D0"] == 1_000


def test_margin_above_the_initial_can_be_removed_and_no_more():
    """At 95 the loss is 500 and the initial margin 950: of 1 000 + 800 stays 1 450, so 350 may go."""

    def act(strategy):
        strategy.broker.add_margin(strategy.data, 800.0)
        with pytest.raises(ValueError, match="D0: cannot remove 351 of margin, 350 is above its initial margin"):
            strategy.broker.remove_margin(strategy.data, 351.0)
        strategy.broker.remove_margin(strategy.data, 350.0)

    strategy = holding(act, prices=(100.0, 100.0, 95.0, 95.0), margin_mode="isolated")

    assert strategy.broker.account.wallets["wallet:D0"] == 1_000 + 800 - 350


@pytest.mark.parametrize(("margin_mode", "bar"), [("cross", 3), ("isolated", 1)])
@pytest.mark.parametrize("move", ["add_margin", "remove_margin"])
def test_margin_of_its_own_belongs_to_an_open_isolated_position(move, margin_mode, bar):
    def act(strategy):
        with pytest.raises(ValueError, match="D0: margin belongs to an open isolated position"):
            getattr(strategy.broker, move)(strategy.data, 10.0)

    script = {1: buy(100), bar: act} if bar != 1 else {1: act}
    assert len(run(margin_broker(margin_mode=margin_mode), [100.0] * 4, script=script).values) == 4


# -- deposits and withdrawals -----------------------------------------------------------------------------------------


def test_cash_added_before_the_run_is_there_at_the_first_bar():
    broker = margin_broker()
    broker.add_cash(500.0)

    strategy = run(broker, [100.0] * 3)

    assert strategy.values == [10_500] * 3
    assert [(row.kind, row.amount) for row in broker.journal if row.account == "wallet:cross"] == [("deposit", 10_000), ("deposit", 500)]
    assert broker.fundvalue == 100
    assert broker.fundshares == 10_500 / 100


def test_cash_added_in_a_run_is_booked_at_the_next_bar_and_buys_shares_at_the_funds_value():
    """100 bought at 100; at 110 the fund stands at 11 000 / 100 shares = 110, so 1 100 buys 10 shares."""
    strategy = run(margin_broker(), [100.0, 100.0, 110.0, 110.0, 110.0], script={1: buy(100), 3: lambda s: s.broker.add_cash(1_100.0)})

    assert strategy.values == [10_000, 10_000, 11_000, 12_100, 12_100]
    assert strategy.broker.fundshares == pytest.approx(100 + 10)
    assert strategy.broker.fundvalue == pytest.approx(110)


def test_a_withdrawal_takes_what_is_available():
    strategy = run(margin_broker(), [100.0] * 5, script={1: buy(500), 3: lambda s: s.broker.add_cash(-5_000.0)})

    assert strategy.cashes == [10_000, 5_000, 5_000, 0, 0]
    assert [row.amount for row in strategy.broker.journal if row.kind == "withdraw"] == [-5_000, 5_000]


def test_a_withdrawal_beyond_what_is_available_is_refused_with_a_warning():
    broker = margin_broker()

    with pytest.warns(UserWarning, match="2024-01-01 03:00 UTC: cannot withdraw 5000.01: 5000 is available"):
        strategy = run(broker, [100.0] * 5, script={1: buy(500), 3: lambda s: s.broker.add_cash(-5_000.01)})

    assert strategy.cashes[-1] == 5_000
    assert broker.fundshares == 100
    assert not [row for row in broker.journal if row.kind == "withdraw"]


def test_unrealized_profit_cannot_be_withdrawn():
    """100 from 100 to 250: equity 25 000 and 2 500 of it bound, so 22 500 are available, but only 10 000 are money."""
    with pytest.warns(UserWarning, match="cannot withdraw 10001: 10000 is available"):
        strategy = run(
            margin_broker(), [100.0, 100.0, 250.0, 250.0, 250.0], script={1: buy(100), 3: lambda s: s.broker.add_cash(-10_001.0)}
        )

    assert strategy.values[-1] == 10_000 + 100 * 150


@pytest.mark.parametrize("amount", [nan, inf])
def test_an_amount_that_is_no_number_is_refused_at_once(amount):
    with pytest.raises(ValueError, match="add_cash takes a finite amount of money"):
        margin_broker().add_cash(amount)


# -- liquidations as the host sees them -------------------------------------------------------------------------------


def test_a_liquidation_is_a_real_order_of_its_owner_with_its_trade():
    """1 000 bought at 100 on 10 000: equity 10 000 + 1 000 (p - 100) meets 1 % of 1 000 p at 90 000 / 990."""
    price = 90_000 / 990

    strategy = run(margin_broker(liquidation_fee=0.0), DEADLY, script={1: buy(1_000)})

    status, size, filled, info = strategy.ends()[-1]
    assert (status, size, filled) == ("Completed", -1_000, pytest.approx(price))
    assert (info["liquidation"], info["mark_price"]) == (True, pytest.approx(price))
    forced = strategy.told[-1]
    assert forced.owner is strategy
    assert forced.executed.pnl == pytest.approx(1_000 * (price - 100))
    assert [order.getstatusname() for order in strategy.told if order.ref == forced.ref] == ["Accepted", "Completed"]
    assert [trade.isclosed for trade in strategy.trades] == [False, True]
    assert strategy.trades[-1].pnl == pytest.approx(1_000 * (price - 100))
    assert strategy.sizes[-1] == [0]


def test_a_liquidation_fee_is_the_orders_commission_and_part_of_the_trades_result():
    price = 90_000 / 990

    strategy = run(margin_broker(liquidation_fee=0.005), DEADLY, script={1: buy(1_000)})

    assert strategy.told[-1].executed.comm == pytest.approx(0.005 * 1_000 * price)
    assert strategy.trades[-1].pnlcomm == pytest.approx(1_000 * (price - 100) - 0.005 * 1_000 * price)
    assert strategy.values[-1] == pytest.approx(10_000 + strategy.trades[-1].pnlcomm)


def test_a_strategy_that_listens_is_told_of_its_liquidation_after_the_order():
    heard = []

    class Listener(Scripted):
        def notify_order(self, order):
            if order.info.get("liquidation"):
                heard.append((len(self), order.getstatusname()))

        def notify_margin(self, event):
            heard.append((len(self), event))

    run(margin_broker(), DEADLY, script={1: buy(1_000)}, strategy=Listener)

    kinds = [item if isinstance(item, str) else item["kind"] for _, item in heard]
    assert sorted(kinds) == ["Accepted", "Completed", "liquidation"]
    (event,) = [item for _, item in heard if isinstance(item, dict)]
    assert (event["symbol"], event["size"], event["trigger"], event["certainty"]) == ("D0", 1_000, "path", "certain")
    assert event["mark_price"] == pytest.approx(90_000 / 990)
    assert event["time"].tzinfo is UTC


def test_a_strategy_that_does_not_listen_is_left_alone():
    class Deaf(bt.Strategy):
        def next(self):
            if len(self) == 1:
                self.buy(size=1_000)

    engine = engine_of(margin_broker(), DEADLY)
    engine.addstrategy(Deaf)

    (strategy,) = engine.run()

    assert len(strategy.broker.record.liquidations) == 1


@UTCNOW
@pytest.mark.parametrize("mode", [{}, {"runonce": False}], ids=["runonce", "runnext"])
def test_a_run_may_stop_once_the_strategy_has_seen_its_liquidation(mode):
    strategy = run(margin_broker(on_liquidation="stop"), DEADLY, script={1: buy(1_000)}, **mode)

    assert strategy.ends()[-1][3]["liquidation"] is True
    assert strategy.trades[-1].isclosed
    assert len(strategy.events) == 1
    assert len(strategy.values) == 4
    assert len(strategy.broker.record) == 4


def test_every_trade_id_is_liquidated_by_an_order_of_its_own():
    script = {1: in_turn(buy(400, tradeid=1), buy(600, tradeid=2))}
    price = 90_000 / 990

    strategy = run(margin_broker(liquidation_fee=0.005), DEADLY, script=script)

    forced = [order for order in strategy.told if order.info.get("liquidation") and order.status == Order.Completed]
    assert [(order.tradeid, order.executed.size) for order in forced] == [(1, -400), (2, -600)]
    assert [order.executed.pnl for order in forced] == pytest.approx([400 * (price - 100), 600 * (price - 100)])
    assert [order.executed.comm for order in forced] == pytest.approx([0.005 * 400 * price, 0.005 * 600 * price])
    assert sorted((trade.tradeid, trade.pnl) for trade in strategy.trades if trade.isclosed) == [
        (1, pytest.approx(400 * (price - 100))),
        (2, pytest.approx(600 * (price - 100))),
    ]
    assert len(strategy.broker.record.liquidations) == 1


def test_trade_ids_of_both_sides_are_liquidated_each_the_other_way():
    script = {1: buy(1_000, tradeid=1), 2: lambda s: s.sell(size=100, tradeid=2)}

    strategy = run(margin_broker(), DEADLY, script=script)

    forced = [order for order in strategy.told if order.info.get("liquidation") and order.status == Order.Completed]
    assert [(order.tradeid, order.executed.size) for order in forced] == [(1, -1_000), (2, 100)]
    assert all(trades[-1].isclosed for trades in strategy._trades[strategy.data].values())
    assert sum(order.executed.pnl for order in forced) == pytest.approx(strategy.values[-1] - 10_000)


def test_a_liquidation_cancels_the_exits_of_a_bracket_first():
    script = {1: lambda s: s.buy_bracket(size=1_000, exectype=Order.Market, stopprice=70.0, limitprice=150.0)}

    strategy = run(margin_broker(), DEADLY, script=script)

    assert [(end[0], end[1]) for end in strategy.ends()] == [("Completed", 1_000), ("Canceled", 0), ("Canceled", 0), ("Completed", -1_000)]
    assert strategy.ends()[-1][3]["liquidation"] is True
    assert not strategy.broker.get_orders_open()
    assert strategy.sizes[-1] == [0]


def test_a_liquidation_cancels_the_orders_of_a_group_and_no_other_contracts():
    def exits(strategy):
        first = strategy.sell(size=900, exectype=Order.Limit, price=150.0)
        strategy.sell(size=900, exectype=Order.Stop, price=70.0, oco=first)
        strategy.buy(data=strategy.datas[1], size=1, exectype=Order.Limit, price=10.0)

    strategy = run(margin_broker(margin_mode="isolated"), DEADLY, [50.0] * 6, script={1: buy(900), 2: exits})

    assert [(end[0], end[1]) for end in strategy.ends()][1:] == [("Canceled", 0), ("Canceled", 0), ("Accepted", 0), ("Completed", -900)]
    assert [order.data for order in strategy.broker.get_orders_open()] == [strategy.datas[1]]


def test_a_bracket_whose_exits_never_woke_dies_with_its_position():
    """The entry fills at the open of the bar that kills: its exits are not active yet and go with it."""
    script = {2: lambda s: s.buy_bracket(size=1_000, exectype=Order.Market, stopprice=70.0, limitprice=150.0), 5: buy(1)}

    strategy = run(margin_broker(), [100.0, *DEADLY[1:]], script={3: script[2], 5: script[5]})

    assert [(end[0], end[1]) for end in strategy.ends()] == [
        ("Completed", 1_000), ("Canceled", 0), ("Canceled", 0), ("Completed", -1_000), ("Completed", 1)
    ]  # fmt: skip
    assert strategy.sizes[-1] == [1]


def analysed(**mode):
    """Run one loser that dies, one winner that is sold, under the host's own analyzers and observers."""
    kinds = bt.analyzers
    prices = [100.0, 100.0, 100.0, (100.0, 100.0, 50.0, 60.0), 60.0, 60.0, 66.0, 66.0]
    engine = engine_of(margin_broker(margin_mode="isolated"), prices, **mode)
    engine.addstrategy(Scripted, script={1: buy(500), 5: buy(10), 7: lambda s: s.close()})
    for kind in (kinds.TradeAnalyzer, kinds.SQN, kinds.Transactions, kinds.PyFolio, kinds.DrawDown, kinds.TimeReturn, kinds.PositionsValue):
        engine.addanalyzer(kind, _name=kind.__name__)
    for observer in (bt.observers.BuySell, bt.observers.Trades, bt.observers.Value):
        engine.addobserver(observer)
    return engine.run()[0]


def test_the_hosts_listeners_are_right_after_a_liquidation():
    """500 isolated at 10x: 5 000 of margin, dead at (500 * 100 - 5 000) / 495; then 10 from 60 to 66."""
    price = 45_000 / 495
    loss, profit = 500 * (price - 100), 10 * 6

    strategy = analysed()
    found = {analyzer.__class__.__name__: analyzer.get_analysis() for analyzer in strategy.analyzers}

    trades = found["TradeAnalyzer"]
    assert (trades.total.total, trades.total.closed, trades.total.open, trades.won.total, trades.lost.total) == (2, 2, 0, 1, 1)
    assert trades.pnl.net.total == pytest.approx(loss + profit)
    assert found["SQN"]["trades"] == 2
    rows = [row for rows in found["Transactions"].values() for row in rows]
    assert [(row[0], row[1]) for row in rows] == [(500, 100), (-500, pytest.approx(price)), (10, 60), (-10, 66)]
    assert found["DrawDown"]["max"]["moneydown"] == pytest.approx(-loss)
    assert strategy.values[-1] == pytest.approx(10_000 + loss + profit)
    returns, _, transactions, _ = strategy.analyzers.PyFolio.get_pf_items()
    assert (1 + returns).prod() == pytest.approx(strategy.values[-1] / 10_000)
    assert list(transactions["amount"]) == [500, -500, 10, -10]
    shown = [row[0] for row in found["PositionsValue"].values()]
    assert shown == [0, 50_000, 50_000, 0, 0, 600, 660, 0]


def test_the_hosts_observers_show_the_forced_sale():
    price = 45_000 / 495

    buysell, trades, value = analysed().observers

    assert buysell.lines.sell.array[3] == pytest.approx(price)
    assert trades.lines.pnlminus.array[3] == pytest.approx(500 * (price - 100))
    assert trades.lines.pnlplus.array[7] == 10 * 6
    assert value.lines[0].array[3] == pytest.approx(10_000 + 500 * (price - 100))


@UTCNOW
def test_the_hosts_analyzers_say_the_same_in_runonce_and_runnext():
    once, following = analysed(), analysed(runonce=False)

    for one, other in zip(once.analyzers, following.analyzers, strict=True):
        assert one.get_analysis() == other.get_analysis(), one.__class__.__name__
    assert once.values == following.values
