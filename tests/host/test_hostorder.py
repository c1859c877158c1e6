"""Orders and notifications are made without the host's constructor and copy: here they are compared with what those make."""

import datetime
from types import SimpleNamespace

import backtrader as bt
import pandas as pd
import pytest
from backtrader.order import BuyOrder, SellOrder
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import CALM, frame

from bt_margin import MarginBroker, PerpData
from bt_margin.hostorder import OrderMaker, snapshot

UNLIKE = {"ref", "params", "p"}  # each order has its own


def looked_up(thing) -> dict:
    """Return every attribute of an order or of its data as a reader finds it, by value."""
    names = set(vars(thing)) | set(vars(getattr(thing, "params", SimpleNamespace())))
    found = {name: getattr(thing, name) for name in names - UNLIKE}
    if "exbits" in found:
        found["exbits"] = list(found["exbits"])  # which ours are
    for name in ("created", "executed"):
        if name in found:
            found[name] = looked_up(found[name])
    return found


def same(ours, hosts) -> bool:
    """Whether two orders are alike in every attribute that the host's has, and have the same params."""
    return (
        type(ours) is type(hosts)
        and {name: looked_up(ours)[name] for name in looked_up(hosts)} == looked_up(hosts)
        and set(looked_up(ours)) <= set(looked_up(hosts)) | {"size"}
        and {**vars(ours.params)} == {**vars(hosts.params)}
        and ours.params is ours.p
        and type(ours.params) is type(hosts.params)
        and types_in(ours.executed) == types_in(hosts.executed)
    )


def types_in(filled) -> dict:
    return {name: type(value) for name, value in vars(filled).items() if name != "exbits"}


class Watcher(bt.Strategy):
    """Calls ``look`` with itself on every bar."""

    params = (("look", None),)

    def next(self):
        self.p.look(self)


def on_bars(look, *, freq="h", bars=60, feed=None, **params):
    """Run a strategy that calls ``look(strategy)`` on every bar of a quiet series and return it."""
    cerebro = bt.Cerebro(stdstats=False)
    candles = frame([CALM] * bars, freq=freq)
    cerebro.adddata(PerpData(dataname=candles, **params) if feed is None else feed(candles))
    cerebro.broker = MarginBroker(cash=1_000)
    cerebro.addstrategy(Watcher, look=look)
    return cerebro.run()[0]


prices = st.sampled_from([None, 0.0, 95.5, 101])
TERMS = st.fixed_dictionaries(
    {"size": st.sampled_from([1, 0.25, 3.0]), "price": prices, "pricelimit": prices},
    optional={
        "exectype": st.sampled_from([None, *range(8)]),
        "valid": st.sampled_from([None, 0, 3.5, datetime.timedelta(), datetime.timedelta(hours=3), datetime.datetime(2024, 1, 3)]),
        "tradeid": st.sampled_from([0, 7, "LONG"]),
        "trailamount": st.sampled_from([None, 2.0]),
        "trailpercent": st.sampled_from([None, 0.01]),
        "transmit": st.booleans(),
        "histnotify": st.booleans(),
    },
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([BuyOrder, SellOrder]), TERMS, st.booleans()), min_size=8, max_size=8))
def test_every_order_is_in_every_attribute_what_the_host_makes(drawn):
    made = []

    def look(strategy):
        kind, terms, is_child = drawn[len(strategy) % len(drawn)]
        terms = {**terms, "parent": made[-1][1] if is_child and made else None}
        asked = {"plimit" if name == "pricelimit" else name: value for name, value in terms.items()}
        ours = maker.make(kind, strategy, strategy.data, **asked)
        made.append((ours, kind(owner=strategy, data=strategy.data, **terms)))

    maker = OrderMaker()
    on_bars(look, bars=30, freq="97min")
    assert len(made) == 30
    for ours, hosts in made:
        assert same(ours, hosts), f"{looked_up(ours)} is not {looked_up(hosts)}"
        assert hosts.ref == ours.ref + 1


@pytest.mark.parametrize("exectype", [None, bt.Order.Market])
@pytest.mark.parametrize("kind", [BuyOrder, SellOrder])
def test_a_market_order_is_in_every_attribute_what_the_host_makes(kind, exectype):
    made = []

    def look(strategy):
        data, tradeid = strategy.data, ("LONG", 0)[len(strategy) % 2]
        ours = maker.make_market(kind, strategy, data, 1.5, tradeid, exectype, data.datetime[0], data.close[0])
        made.append((ours, kind(owner=strategy, data=data, size=1.5, exectype=exectype, tradeid=tradeid)))

    maker = OrderMaker()
    on_bars(look, bars=30, freq="97min")
    assert len(made) == 30
    for ours, hosts in made:
        assert same(ours, hosts), f"{looked_up(ours)} is not {looked_up(hosts)}"


def with_time_zone(candles):
    return bt.feeds.PandasData(dataname=candles.tz_localize(None), tz="Europe/Berlin", timeframe=bt.TimeFrame.Minutes, compression=60)


def with_early_close(candles):
    return PerpData(dataname=candles, sessionend=datetime.time(17, 30))


def at_the_very_end(candles):
    """Return a feed whose bars end a few microseconds around the session's end, where the host's rounding tells."""
    ends = pd.DatetimeIndex([pd.Timestamp("2024-01-02 23:59:59.99") + pd.Timedelta(microseconds=100 * n) for n in range(len(candles))])
    return bt.feeds.PandasData(dataname=candles.set_index(ends), timeframe=bt.TimeFrame.Seconds)


@pytest.mark.parametrize("feed", [None, with_time_zone, with_early_close, at_the_very_end])
def test_the_end_of_the_session_is_the_hosts_on_every_bar(feed):
    ends = []

    def look(strategy):
        hosts = BuyOrder(owner=strategy, data=strategy.data, size=1)
        ends.append((maker.make(BuyOrder, strategy, strategy.data, 1).dteos, hosts.dteos))

    maker = OrderMaker()
    on_bars(look, feed=feed, bars=150)
    assert len({end for _, end in ends}) > 1
    assert [ours for ours, _ in ends] == [hosts for _, hosts in ends]


def test_a_notification_is_what_the_host_would_have_cloned_and_stands_apart_from_the_order():
    def look(strategy):
        if len(strategy) > 1:
            return
        for copy in (snapshot, bt.Order.clone):
            order = BuyOrder(owner=strategy, data=strategy.data, size=3)
            order.own_note = "kept"
            first = copy(order)
            order.submit()
            order.execute(1.0, 1, 100.0, 0, 0.0, 0.0, 1, 100.0, 0.1, 20.0, 0.0, 1, 100.0)
            second = copy(order)
            order.execute(2.0, 2, 103.0, 0, 0.0, 0.0, 2, 206.0, 0.2, 41.2, 0.0, 3, 102.0)
            third = copy(order)
            order.status, order.executed.comm = bt.Order.Canceled, 9.9
            shown.append([first, second, third])

    shown: list[list] = []
    on_bars(look)
    for ours, hosts in zip(*shown, strict=True):
        mine, theirs = looked_up(ours), looked_up(hosts)
        for found in (mine, theirs):
            found["executed"]["exbits"] = [vars(bit) for bit in found["executed"]["exbits"]]
            del found["created"]["exbits"]
        assert mine == theirs
        assert [vars(bit) for bit in ours.executed.iterpending()] == [vars(bit) for bit in hosts.executed.iterpending()]
    assert [copy.status for copy in shown[0]] == [bt.Order.Created, bt.Order.Partial, bt.Order.Completed]
    assert [copy.executed.size for copy in shown[0]] == [0, 1, 3]
    assert shown[0][2].executed.comm == pytest.approx(0.1 + 0.2)
    assert shown[0][0].info is shown[0][2].info
    assert shown[0][0].executed.exbits is shown[0][2].executed.exbits
    assert shown[0][0].own_note == "kept"


class Writer(bt.Strategy):
    """Writes to what was executed of an order behind its placing, and into the notification that it was submitted."""

    def __init__(self):
        self.seen = []

    def notify_order(self, order):
        self.seen.append((order.getstatusname(), vars(order.executed).get("mark"), vars(order.executed).get("known")))
        order.executed.known = True

    def next(self):
        if len(self) == 3:
            self.buy(size=1).executed.mark = "mine"


def test_each_notification_has_a_copy_of_its_own_of_what_was_executed():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(PerpData(dataname=frame([CALM] * 6)))
    cerebro.broker = MarginBroker(cash=1_000)
    cerebro.addstrategy(Writer)
    seen = cerebro.run()[0].seen
    assert seen == [("Submitted", None, None), ("Accepted", "mine", None), ("Completed", "mine", None)]
