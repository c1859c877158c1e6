"""Parity: leverage 1, no maintenance margin, no funding and one fee make MarginBroker stock BackBroker, order for order and bar for bar.

Every test runs one strategy under both brokers on the same frames and compares all that the host told it: each order
notification, each trade notification, value, cash and fund value on every bar, positions at the end. The strategies
are long only and keep a cash reserve, so that no order stands at the boundary of what the account can pay.
"""

import random
from datetime import timedelta
from math import isclose
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd
import pytest

from bt_margin import MarginBroker, PerpCommInfo, PerpData

CASH = 100_000.0
FEE = 0.001
STAKE = 80  # about 8 000 at a price near 100; LANES of them leave more than half of the cash alone
LANES = 4
MODES = {"runonce": {}, "runnext": {"runonce": False}, "no_preload": {"preload": False}}
UTCNOW = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
Order = bt.Order

ENTRIES = ("market", "close", "limit", "stop", "stop_limit", "trail", "bracket", "limit_bracket", "oco")
EXITS = ("market", "close", "limit", "stop", "stop_limit", "trail", "trail_percent", "trail_limit", "oco")
QUIET = ("market", "limit", "stop")  # kinds that stock judges on new bars only, if priced off the bar


def candles(rows=120, seed=1, sigma=0.006, start="2024-01-01"):
    """Return a random walk of hourly candles that open away from the close before; no two prices are equal."""
    draw = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(draw.normal(0, sigma, rows)))
    opened = np.concatenate(([100.0], close[:-1])) * np.exp(draw.normal(0, sigma / 3, rows))
    high = np.maximum(opened, close) * (1 + draw.random(rows) * sigma)
    low = np.minimum(opened, close) * (1 - draw.random(rows) * sigma)
    index = pd.date_range(start, periods=rows, freq="h", name="datetime")
    return pd.DataFrame({"open": opened, "high": high, "low": low, "close": close, "volume": draw.random(rows) * 500 + 20}, index=index)


def holed(frame, seed):
    """Return the frame with about a fifth of its bars missing."""
    return frame[np.random.default_rng(seed).random(len(frame)) > 0.2]


class Diary(bt.Strategy):
    """Note all that the host tells a strategy."""

    params = (("seed", 1), ("at_open", False))

    def __init__(self):
        self.told: list[tuple] = []
        self.bars: list[tuple] = []
        self.draw = random.Random(self.p.seed)

    def start(self):
        self.first_ref = next(Order.refbasis)

    def notify_order(self, order):
        done = order.executed
        facts = (done.size, done.remsize, done.price, done.value, done.comm, done.pnl, done.dt, order.created.price)
        self.told.append((len(self), "order", order.ref - self.first_ref, order.getordername(), order.getstatusname(), *facts))
        self.note(order)

    def note(self, order):
        """What a strategy does about an order's news."""

    def notify_trade(self, trade):
        facts = (trade.size, trade.price, trade.value, trade.commission, trade.pnl, trade.pnlcomm, trade.dtopen, trade.dtclose)
        self.told.append((len(self), "trade", trade.tradeid, trade.justopened, trade.isclosed, *facts))

    def notify_fund(self, cash, value, fundvalue, shares):
        booked = self.broker.account.order_margin if isinstance(self.broker, MarginBroker) else 0.0  # stock reserves nothing
        self.bars.append((len(self), cash + booked, value, fundvalue, shares, self.broker.getvalue(), self.broker.getvalue(self.datas[:1])))

    def prenext(self):
        self.next()

    def next(self):
        if not self.p.at_open:
            self.act()

    def next_open(self):
        if self.p.at_open:
            self.act()

    def act(self):
        """Place and cancel orders."""
        raise AssertionError("a diary is kept by a trader")


class Lane:
    """One stake of one data: out, entering, in, leaving; ``size`` is what it holds."""

    def __init__(self, data):
        self.data, self.orders, self.size = data, {}, 0


class Trader(Diary):
    """Enter and leave in several lanes of every data, by order kinds drawn at random; each lane is long or flat."""

    params = (("entries", ENTRIES), ("exits", EXITS), ("lanes", LANES), ("off_bar", False), ("valid", True))

    def __init__(self):
        super().__init__()
        self.lanes = [Lane(data) for data in self.datas for _ in range(self.p.lanes)]

    def note(self, order):
        for lane in self.lanes:
            if order.ref in lane.orders and not order.alive():
                del lane.orders[order.ref]
                lane.size += order.executed.size

    def act(self):
        for lane in self.lanes:
            if not len(lane.data):
                continue
            chance = self.draw.random()
            if not lane.orders:
                if chance < 0.3:
                    self.place(lane)
            elif chance < 0.04:
                self.cancel(lane.orders[min(lane.orders)])

    def place(self, lane):
        """Send one entry or exit of a random kind, to rest at a random distance."""
        kind = self.draw.choice(self.p.exits if lane.size else self.p.entries)
        distance = self.draw.uniform(0.001, 0.012)
        send, sign = (self.sell, -1) if lane.size else (self.buy, 1)
        below, above = self.levels(lane.data, distance)
        worse, better = (above, below) if sign > 0 else (below, above)  # a stop's side and a limit's side of the market
        size = lane.size or STAKE
        common = {"data": lane.data, "size": size, "valid": self.expiry(lane.data)}
        reach = worse * (1 + sign * self.draw.uniform(-0.002, 0.002))
        sent = {
            "market": lambda: [send(data=lane.data, size=size)],
            "close": lambda: [send(**common, exectype=Order.Close)],
            "limit": lambda: [send(**common, exectype=Order.Limit, price=better)],
            "stop": lambda: [send(**common, exectype=Order.Stop, price=worse)],
            "stop_limit": lambda: [send(**common, exectype=Order.StopLimit, price=worse, plimit=reach)],
            "trail": lambda: [send(**common, exectype=Order.StopTrail, trailamount=100 * distance)],
            "trail_percent": lambda: [send(**common, exectype=Order.StopTrail, trailpercent=distance)],
            "trail_limit": lambda: [
                send(**common, exectype=Order.StopTrailLimit, price=better, plimit=better - 0.2, trailamount=100 * distance)
            ],
            "oco": lambda: self.pair(send, common, better, worse),
            "bracket": lambda: self.bracket(lane, Order.Market, None, below, above),
            "limit_bracket": lambda: self.bracket(lane, Order.Limit, below, below * 0.99, above),
        }[kind]()
        lane.orders = {order.ref: order for order in sent}

    def levels(self, data, distance):
        """Return a price below and one above the market; off the bar where stock would look at a stale one."""
        if self.p.off_bar:
            return data.low[0] * (1 - distance), data.high[0] * (1 + distance)
        return data.close[0] * (1 - distance), data.close[0] * (1 + distance)

    def expiry(self, data):
        """Return no expiry, one some hours ahead as a span or as a time, or the end of the day."""
        hours = timedelta(hours=self.draw.randint(2, 30))
        if not self.p.valid:
            return None
        return self.draw.choice([None, None, hours, data.datetime.datetime() + hours, 0])

    def pair(self, send, common, better, worse):
        limit = send(**common, exectype=Order.Limit, price=better)
        return [limit, send(**common, exectype=Order.Stop, price=worse, oco=limit)]

    def bracket(self, lane, exectype, price, stop, limit):
        return self.buy_bracket(
            data=lane.data, size=STAKE, exectype=exectype, price=price, stopprice=stop, limitprice=limit,
            valid=self.expiry(lane.data), stopargs={"valid": self.expiry(lane.data)}, limitargs={"valid": self.expiry(lane.data)},
        )  # fmt: skip


class Targeter(Diary):
    """Move towards random targets, never more than four fifths of the account."""

    params = (("way", "size"),)

    def act(self):
        for data in self.datas:
            if self.draw.random() < 0.3:
                self.aim(data, self.draw.choice([0.0, 0.2, 0.5, 0.8]) / len(self.datas))

    def aim(self, data, share):
        if self.p.way == "size":
            self.order_target_size(data=data, target=int(share * 900))
        elif self.p.way == "value":
            self.order_target_value(data=data, target=share * CASH)
        else:
            self.order_target_percent(data=data, target=share)


class InAndOut(Diary):
    """Leave every size to the sizer."""

    def act(self):
        if self.draw.random() < 0.2:
            self.sell() if self.position else self.buy()


class RepairedBroker(bt.brokers.BackBroker):
    """Stock with its slippage put right in two places: a limit sale stays in the bar, no fill goes beyond a limit."""

    def _try_exec_limit(self, order, popen, phigh, plow, plimit):
        if order.isbuy() or plimit > popen:
            super()._try_exec_limit(order, popen, phigh, plow, plimit)
            return
        price = self._slip_down(max(plow, plimit), popen, doslip=self.p.slip_open, lim=True)
        self._execute(order, ago=0, price=price)

    def _execute(self, order, ago=None, price=None, cash=None, position=None, dtcoc=None):
        if price is not None and order.exectype in (Order.Limit, Order.StopLimit, Order.StopTrailLimit):
            price = min(price, order.created.pricelimit) if order.isbuy() else max(price, order.created.pricelimit)
        return super()._execute(order, ago=ago, price=price, cash=cash, position=position, dtcoc=dtcoc)


def stock_broker(kind=bt.brokers.BackBroker, **params):
    broker = kind(cash=CASH, **params)
    broker.setcommission(commission=FEE)
    return broker


def margin_broker(lot=0.0, **params):
    broker = MarginBroker(cash=CASH, margin_mode="cross", check=True, **params)
    broker.addcommissioninfo(PerpCommInfo(tiers=0, leverage=1, commission=FEE, lot=lot))
    return broker


def pandas_feed(frame, **kwargs):
    return bt.feeds.PandasData(dataname=frame, timeframe=bt.TimeFrame.Minutes, compression=60, **kwargs)


def run(broker, feeds, strategy, mode="runonce", prepare=None, sizer=None, cerebro=None, **kwargs):
    """Run one strategy and return it."""
    engine = bt.Cerebro(stdstats=False, **MODES[mode], **(cerebro or {}))
    engine.broker = broker
    if prepare is not None:
        prepare(broker)
    for number, feed in enumerate(feeds):
        engine.adddata(feed, name=f"D{number}")
    if sizer is not None:
        engine.addsizer(sizer[0], **sizer[1])
    engine.addstrategy(strategy, **kwargs)
    return engine.run()[0]


def first_difference(ours, theirs) -> str | None:
    """Return where two runs of rows part, None where they agree; money to 1e-9, all else to the bit."""
    for number, (mine, yours) in enumerate(zip(ours, theirs, strict=False)):
        if len(mine) != len(yours) or not all(map(_same, mine, yours)):
            return f"row {number}: ours {mine}, stock {yours}"
    return None if len(ours) == len(theirs) else f"{len(ours)} rows, stock {len(theirs)}"


def _same(mine: Any, yours: Any) -> bool:
    if isinstance(mine, float) and isinstance(yours, (int, float)):
        return isclose(mine, yours, rel_tol=1e-9, abs_tol=1e-9 * CASH) or mine == yours
    return mine == yours


def assert_parity(ours, theirs):
    """Compare two finished diaries row for row."""
    assert first_difference(ours.told, theirs.told) is None
    assert first_difference(ours.bars, theirs.bars) is None
    ends = [[(p.size, p.price) for p in (s.broker.getposition(data) for data in s.datas)] for s in (ours, theirs)]
    assert first_difference(*ends) is None
    assert ours.broker.record.walked_bars == 0
    assert not [order for order in ours.told if "Margin" in order or "Rejected" in order]


def both(frames, strategy, stock=bt.brokers.BackBroker, lot=0.0, feed=pandas_feed, broker=None, **kwargs):
    """Run a strategy under both brokers, assert parity and return our diary."""
    ours = run(margin_broker(lot, **(broker or {})), [feed(frame) for frame in frames], strategy, **kwargs)
    theirs = run(stock_broker(stock, **(broker or {})), [pandas_feed(frame) for frame in frames], strategy, **kwargs)
    assert_parity(ours, theirs)
    return ours


def fills(diary, kind):
    """Return how many orders of an execution type were filled."""
    return sum(1 for row in diary.told if row[1] == "order" and row[3] == kind and row[4] == "Completed")


EXECTYPES = {
    "market": "Market", "close": "Close", "limit": "Limit", "stop": "Stop", "stop_limit": "StopLimit", "trail": "StopTrail",
    "trail_percent": "StopTrail", "trail_limit": "StopTrailLimit", "oco": "Stop", "bracket": "Stop", "limit_bracket": "Limit",
}  # fmt: skip


@pytest.mark.parametrize(("entry", "leave"), list(zip(ENTRIES, EXITS, strict=True)))
def test_each_kind_of_entry_and_exit_equals_stock(entry, leave):
    ours = both([candles(seed=11)], Trader, entries=(entry,), exits=(leave,), seed=2)

    assert fills(ours, EXECTYPES[entry]) >= 3
    assert fills(ours, EXECTYPES[leave]) >= 3


@UTCNOW
@pytest.mark.parametrize(("seed", "mode"), list(enumerate([*MODES, *MODES])))
def test_a_random_trader_of_all_kinds_equals_stock(seed, mode):
    ours = both([candles(rows=190, seed=20 + seed)], Trader, mode=mode, seed=seed)

    ends = {row[4] for row in ours.told if row[1] == "order"}
    assert ends == {"Submitted", "Accepted", "Completed", "Canceled", "Expired"}
    assert all(fills(ours, kind) for kind in set(EXECTYPES.values()))


@UTCNOW
@pytest.mark.parametrize("mode", MODES)
def test_three_datas_in_step_equal_stock(mode):
    frames = [candles(rows=90, seed=seed) for seed in (31, 32, 33)]

    ours = both(frames, Trader, mode=mode, lanes=2, seed=7)

    assert {row[2] for row in ours.told if row[1] == "trade"} == {0}
    assert len([row for row in ours.told if row[1] == "trade"]) > 30


@UTCNOW
@pytest.mark.parametrize(("seed", "mode"), list(enumerate(MODES)))
def test_datas_out_of_step_equal_stock_where_no_order_could_meet_a_stale_bar(seed, mode):
    frames = [holed(candles(seed=41), 1), holed(candles(seed=42, rows=100), 2), holed(candles(seed=43, start="2024-01-02"), 3)]

    ours = both(frames, Trader, mode=mode, lanes=2, seed=seed, entries=QUIET, exits=QUIET, off_bar=True)

    assert all(fills(ours, EXECTYPES[kind]) for kind in QUIET)


@UTCNOW
@pytest.mark.parametrize("mode", MODES)
def test_perp_data_under_our_broker_equals_pandas_data_under_stock(mode):
    frame = candles(seed=51)
    shifted = frame.set_axis(frame.index + pd.Timedelta("1h"))

    ours = run(margin_broker(), [PerpData(dataname=frame)], Trader, mode=mode, seed=8)
    theirs = run(stock_broker(), [pandas_feed(shifted)], Trader, mode=mode, seed=8)

    assert_parity(ours, theirs)
    assert ours.datas[0].perp is not None


@UTCNOW
@pytest.mark.parametrize(("seed", "mode"), list(enumerate(MODES)))
def test_cheat_on_close_equals_stock(seed, mode):
    ours = both([candles(seed=61)], Trader, mode=mode, seed=seed, prepare=lambda broker: broker.set_coc(True))

    assert fills(ours, "Market") >= 5


@UTCNOW
@pytest.mark.parametrize(("at_open", "mode"), [(True, "runonce"), (True, "runnext"), (False, "no_preload")])
def test_cheat_on_open_equals_stock(at_open, mode):
    ours = both([candles(seed=62)], Trader, mode=mode, seed=4, at_open=at_open, cerebro={"cheat_on_open": True})

    assert fills(ours, "Market") >= 5


SLIPPAGES = {
    "percent": lambda broker: broker.set_slippage_perc(0.002),
    "percent_no_open": lambda broker: broker.set_slippage_perc(0.002, slip_open=False),
    "percent_no_match": lambda broker: broker.set_slippage_perc(0.004, slip_match=False, slip_limit=False),
    "percent_limit_only": lambda broker: broker.set_slippage_perc(0.004, slip_match=False),
    "percent_out": lambda broker: broker.set_slippage_perc(0.01, slip_out=True),
    "fixed": lambda broker: broker.set_slippage_fixed(0.25),
    "fixed_no_match": lambda broker: broker.set_slippage_fixed(0.5, slip_match=False, slip_limit=False),
}


@pytest.mark.parametrize(("seed", "name"), list(enumerate(SLIPPAGES)))
def test_slippage_equals_stock_with_its_two_slips_repaired(name, seed):
    ours = both([candles(seed=71)], Trader, stock=RepairedBroker, seed=seed, prepare=SLIPPAGES[name])

    assert fills(ours, "Limit") >= 5


@pytest.mark.parametrize("name", ["percent", "fixed_no_match"])
def test_slippage_equals_stock_as_it_is_without_limit_sales_and_stop_limits(name):
    entries, exits = ("market", "close", "limit", "stop", "trail"), ("market", "close", "stop", "trail", "trail_percent")

    ours = both([candles(seed=72)], Trader, seed=3, entries=entries, exits=exits, prepare=SLIPPAGES[name])

    assert fills(ours, "StopTrail") >= 5


class SellAtLimit(Diary):
    """Buy one, then offer it far below the market: the sale is due at the next open."""

    def act(self):
        if len(self) == 1:
            self.buy(size=1)
        if len(self) == 2:
            self.sell(size=1, exectype=Order.Limit, price=100.0)


class StopWithLimit(Diary):
    """Buy one above 111, for 112 at most."""

    def act(self):
        if len(self) == 1:
            self.buy(size=1, exectype=Order.StopLimit, price=111.0, plimit=112.0)


def slipped(broker, strategy, bar):
    """Return the last price filled on four equal bars with five percent of slippage."""
    index = pd.date_range("2024-01-01", periods=4, freq="h")
    frame = pd.DataFrame([bar] * 4, columns=["open", "high", "low", "close"], index=index).assign(volume=1.0)
    diary = run(broker, [pandas_feed(frame)], strategy, prepare=lambda b: b.set_slippage_perc(0.05))
    return [row[7] for row in diary.told if row[1] == "order" and row[4] == "Completed"][-1]


def test_a_limit_sale_slips_to_the_bars_low_where_stock_sells_below_the_bar():
    """The open is 110 and the low 109; five percent of slippage reaches 104.5, so the bar's low bounds the price."""
    bar = (110.0, 112.0, 109.0, 111.0)

    assert slipped(stock_broker(), SellAtLimit, bar) == 110.0 * 0.95
    assert slipped(margin_broker(), SellAtLimit, bar) == 109.0


def test_a_stop_limit_slips_to_its_limit_where_stock_buys_above_it():
    """Triggered at 111, five percent of slippage reaches 116.55; the limit of 112 bounds the price."""
    bar = (110.0, 120.0, 109.0, 111.0)

    assert slipped(stock_broker(), StopWithLimit, bar) == 111.0 * 1.05
    assert slipped(margin_broker(), StopWithLimit, bar) == 112.0


@UTCNOW
@pytest.mark.parametrize(("way", "mode"), list(zip(["size", "value", "percent"], MODES, strict=True)))
def test_order_targets_equal_stock(way, mode):
    ours = both([candles(seed=81), candles(seed=82)], Targeter, lot=1.0, mode=mode, way=way, seed=5)

    assert fills(ours, "Market") >= 30


SIZERS = {
    "fixed": (bt.sizers.FixedSize, {"stake": 7}),
    "percent": (bt.sizers.PercentSizer, {"percents": 90}),
    "all_in_but_the_fee": (bt.sizers.AllInSizer, {"percents": 97}),
    "percent_int": (bt.sizers.PercentSizerInt, {"percents": 60}),
}


@pytest.mark.parametrize("name", SIZERS)
def test_sizers_equal_stock(name):
    ours = both([candles(seed=91)], InAndOut, sizer=SIZERS[name], seed=6)

    assert fills(ours, "Market") >= 10


FILLERS = {"fixed": bt.broker.fillers.FixedSize(size=30), "share_of_the_bar": bt.broker.fillers.FixedBarPerc(perc=30)}


@pytest.mark.parametrize("name", FILLERS)
def test_fills_cut_up_by_volume_equal_stock(name):
    kinds = ("market", "close", "limit", "stop", "trail")  # without groups: a part fill of one exit leaves the other too large

    ours = both([candles(seed=95)], Trader, seed=1, entries=kinds, exits=kinds, prepare=lambda broker: broker.set_filler(FILLERS[name]))

    assert {row[3] for row in ours.told if row[4] == "Partial"} >= {"Market", "Close", "Limit", "Stop"}


def test_orders_that_skip_the_check_equal_stock():
    ours = both([candles(seed=96)], Trader, seed=5, broker={"checksubmit": False})

    assert "Submitted" not in {row[4] for row in ours.told if row[1] == "order"}


class LastHour(Diary):
    """Buy one with a stop at 90 and a target that ends at 04:00."""

    def act(self):
        if len(self) == 1:
            until = self.data.datetime.datetime() + timedelta(hours=3)
            self.buy_bracket(size=1, exectype=Order.Market, stopprice=90.0, limitprice=120.0, limitargs={"valid": until})


def test_a_stop_that_is_met_on_the_bar_its_sibling_expires_on_fills_as_in_stock():
    """At 05:00 the low is 85 and the target has just expired: the stop stands before it in the book and is met."""
    rows = [(100.0, 101.0, 99.0, 100.0)] * 4 + [(100.0, 101.0, 85.0, 88.0)] * 2
    index = pd.date_range("2024-01-01 01:00", periods=6, freq="h")
    frame = pd.DataFrame(rows, columns=["open", "high", "low", "close"], index=index).assign(volume=1.0)

    ours = both([frame], LastHour)

    assert fills(ours, "Stop") == 1
    assert ours.broker.getposition(ours.data).size == 0


class Payer(Trader):
    """Pay in on every fortieth bar and take out on every fiftieth."""

    def act(self):
        super().act()
        if len(self) % 40 == 0:
            self.broker.add_cash(3_000.0)
        if len(self) % 50 == 0:
            self.broker.add_cash(-2_000.0)


def analyses(broker):
    """Return what the host's analyzers say about one random trader."""
    engine = bt.Cerebro(stdstats=False)
    engine.broker = broker
    engine.adddata(pandas_feed(candles(seed=97)), name="D0")
    engine.addstrategy(Trader, seed=9)
    kinds = bt.analyzers
    for kind in (kinds.TradeAnalyzer, kinds.TimeReturn, kinds.DrawDown, kinds.TimeDrawDown, kinds.SQN, kinds.Transactions, kinds.Returns):
        engine.addanalyzer(kind, _name=kind.__name__)
    (trader,) = engine.run()
    return {analyzer.__class__.__name__: analyzer.get_analysis() for analyzer in trader.analyzers}


def flat(tree, path=()):
    """Yield every leaf of nested mappings and lists with its path."""
    if isinstance(tree, dict):
        for key, branch in tree.items():
            yield from flat(branch, (*path, str(key)))
    elif isinstance(tree, (list, tuple)):
        for number, branch in enumerate(tree):
            yield from flat(branch, (*path, number))
    else:
        yield (*path, tree)


def test_the_hosts_analyzers_say_the_same_of_both():
    ours, theirs = list(flat(analyses(margin_broker()))), list(flat(analyses(stock_broker())))

    assert first_difference(ours, theirs) is None
    assert len(ours) > 150


def test_deposits_and_withdrawals_equal_stock_from_the_next_bar_on():
    """Stock books them after the fills of the next bar, ours before: the value of every bar is the same."""
    ours = both([candles(seed=98)], Payer, seed=4)

    assert ours.broker.journal.balances()["external"] == -(CASH + 2 * 3_000 - 2 * 2_000)
