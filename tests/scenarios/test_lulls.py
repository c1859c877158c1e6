"""Bars that are passed without a look leave what the plain road leaves: to the last digit, whatever a trader does between them."""

import copy
import random
from array import array

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bt_margin.clock
from bt_margin import FundingSchedule, MarginBroker, PerpCommInfo, PerpData, TopUp
from bt_margin.lull import Lull
from bt_margin.slots import all_seconds, seconds
from tests.playing import Script, frame, play
from tests.scenarios.test_random_trader import TIERS, RandomTrader, wild_frame

pytestmark = pytest.mark.filterwarnings("ignore:.*cannot withdraw:UserWarning")  # the traders try, and both roads refuse


def calm_frame(seed: int, bars: int, *, start: float, gap_every: int = 0) -> pd.DataFrame:
    """Return minute candles that move little, with marks of their own, funding every 8 hours and one crash."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 0.0008, bars)
    steps[bars // 2] = -0.15
    closes = start * np.exp(np.cumsum(steps))
    opens = np.concatenate([[start], closes[:-1]])
    spread = np.exp(np.abs(rng.normal(0, 0.0005, bars)))
    index = pd.date_range("2024-01-01", periods=bars, freq="min", tz="UTC")
    candles = pd.DataFrame({"open": opens, "close": closes}, index=index)
    candles["high"], candles["low"] = np.maximum(opens, closes) * spread, np.minimum(opens, closes) / spread
    candles["volume"] = 1.0
    middle = 1 + rng.normal(0, 0.0002, bars)
    for name in ("open", "high", "low", "close"):
        candles[f"mark_{name}"] = candles[name] * middle
    candles["funding_rate"] = np.where((index.hour % 8 == 0) & (index.minute == 0), rng.normal(0, 0.001, bars), np.nan)
    return candles


class Curious(RandomTrader):
    """A random trader that moves money and terms now and then, and writes down what the broker tells it."""

    params = (("curiosity", 0.1),)

    def __init__(self):
        super().__init__()
        self.told: list[object] = []
        self.mood = random.Random(self.p.seed + 1)

    def notify_margin(self, event):
        self.told.append(event)

    def notify_trade(self, trade):
        self.told.append((trade.size, trade.pnl, trade.pnlcomm, trade.isclosed))

    def next(self):
        super().next()
        if self.mood.random() < self.p.curiosity:
            self._look()
        if self.mood.random() < 0.004:
            self._move()

    def _look(self):
        broker, data = self.broker, self.mood.choice(self.datas)
        looks = (
            lambda: (broker.getcash(), broker.getvalue(), broker.fundvalue, broker.fundshares),
            lambda: (broker.equity, broker.available_margin, broker.wallet_balance, broker.get_leverage()),
            lambda: (broker.margin_ratio(), broker.initial_margin(), broker.maintenance_margin(data)),
            lambda: (broker.liquidation_price(data), broker.bankruptcy_price(data), dict(broker.marks)),
            lambda: (broker.max_size(data, isbuy=True), broker.max_size(data, isbuy=False, price=data.close[0] * 1.01)),
            lambda: (len(broker.record), broker.record.column("equity")[-1], broker.record.bars_held, broker.now),
            lambda: [(slot.version, slot.close_time, slot.mark_close) for slot in broker.slots.values() if slot.position.size],
            lambda: (broker.getvalue([data]), broker.getposition(data).size),
        )
        self.told.append(self.mood.choice(looks)())

    def _move(self):
        data = self.mood.choice(self.datas)
        moves = (
            lambda: self.broker.add_cash(self.mood.choice((500.0, -200.0))),
            lambda: self.broker.set_leverage(data, self.mood.choice((3, 8, 15))),
            lambda: self.broker.add_margin(data, 25.0),
            lambda: self.broker.remove_margin(data, 5.0),
            lambda: self.broker.set_cash(self.broker.getcash() + 50.0),
        )
        try:
            self.mood.choice(moves)()
        except ValueError as refused:
            self.told.append(str(refused))


def leavings(strategy):
    """Return all that a run leaves behind, order references replaced by the order in which they came."""
    broker = strategy.broker
    record = broker.record
    refs = {ref: number for number, ref in enumerate(dict.fromkeys(row.order_ref for row in (*record.fills, *record.refusals)))}
    rows = [row._replace(order_ref=refs[row.order_ref]) for row in (*record.fills, *record.refusals)]
    return {
        "bars": record.table().tobytes(),
        "holdings": record.holdings().tobytes(),
        "rows": rows,
        "lists": [record.funding, record.liquidations, record.warnings, record.top_ups, record.flows],
        "counts": [record.bars_held, record.walked_bars, record.ambiguous_bars, record.gap_stamps, record.detailed],
        "closest call": record.closest_call,
        "journal": [entry[:3] + entry[3] for entry in broker.journal.entries],
        "marks": dict(broker.marks),
        "slots": [(slot.version, slot.close_time, slot.lots and list(slot.lots.values())) for slot in broker.slots.values()],
        "end": (broker.getvalue(), broker.getcash(), broker.fundvalue, broker.now),
    }


def host_feed(candles, broker, name):
    """Return the candles as a feed of the host's, without a timeframe; marks are last, funding is the broker's."""
    rates = candles["funding_rate"].dropna()
    stamps = [stamp.timestamp() for stamp in rates.index]
    broker.set_funding(FundingSchedule(tuple(stamps), tuple(rates)), name=name)
    return bt.feeds.PandasData(dataname=candles[["open", "high", "low", "close", "volume"]].tz_localize(None), name=name)


def run(frames, *, modes, seed=0, strategy=Curious, appetite=0.01, is_host_feed=False, **broker_args):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=10_000, **broker_args)
    for number, candles in enumerate(frames):
        name = "ABC"[number] * 3
        terms = {"leverage": (10, 5, 20)[number], "commission": 0.0005, "maker": 0.0002, "tiers": TIERS, "margin_mode": modes[number]}
        cerebro.broker.addcommissioninfo(PerpCommInfo(**terms), name=name)
        cerebro.adddata(host_feed(candles, cerebro.broker, name) if is_host_feed else PerpData(dataname=candles, name=name))
    cerebro.addstrategy(strategy, seed=seed, appetite=appetite)
    return cerebro.run()[0]


def both_roads(monkeypatch, *args, **kwargs):
    """Return what a run with lulls has passed; it must leave the same as one that looks at every bar."""
    passing = run(*args, **kwargs)
    with monkeypatch.context() as patch:
        patch.setattr(Lull, "_find_out", lambda _: False)
        plain = run(*args, **kwargs)
    assert plain.broker.record.bars_passed == 0
    ours, theirs = leavings(passing), leavings(plain)
    closest, other = ours.pop("closest call"), theirs.pop("closest call")
    assert closest == pytest.approx(other, rel=1e-12)
    for what, left in ours.items():
        assert left == theirs[what], what
    assert passing.seen == plain.seen
    assert passing.values == plain.values
    assert passing.told == plain.told
    return passing.broker.record.bars_passed


@pytest.mark.parametrize(
    ("seed", "modes"), [(1, ("cross",)), (2, ("isolated",)), (3, ("cross", "isolated", "cross")), (4, ("isolated",) * 2)]
)
def test_passed_bars_leave_the_same_in_calm_markets_with_a_crash(monkeypatch, modes, seed):
    frames = [calm_frame(10 * seed + number, 1_200, start=start) for number, start in enumerate((100.0, 3.0, 20_000.0)[: len(modes)])]
    assert both_roads(monkeypatch, frames, modes=modes, seed=seed) > 400


@pytest.mark.parametrize(("seed", "modes"), [(4, ("cross",)), (5, ("isolated",)), (6, ("isolated", "cross", "cross"))])
def test_passed_bars_leave_the_same_in_wild_markets(monkeypatch, modes, seed):
    frames = [wild_frame(10 * seed + number, 600, start=start) for number, start in enumerate((100.0, 3.0, 20_000.0)[: len(modes)])]
    assert both_roads(monkeypatch, frames, modes=modes, seed=seed, appetite=0.03) > 50


@pytest.mark.parametrize(
    "account",
    [
        {"on_liquidation": "refill", "refill": 5_000.0},
        {"on_liquidation": "stop"},
        {"top_up": TopUp(amount=500, times=3, deposit=True)},
        {"unfunded": "shrink", "intrabar": "worst"},
        {"intrabar": "close", "slip_perc": 0.0005},
        {"coc": True},
    ],
)
def test_passed_bars_leave_the_same_by_every_rule_of_the_account(monkeypatch, account):
    frames = [calm_frame(31, 800, start=100.0), calm_frame(32, 800, start=3.0)]
    assert both_roads(monkeypatch, frames, modes=("cross", "isolated"), seed=6, appetite=0.02, **account) > 200


@pytest.mark.parametrize(("seed", "modes"), [(7, ("cross",)), (8, ("isolated", "cross"))])
@pytest.mark.parametrize("make", [calm_frame, wild_frame])
def test_passed_bars_leave_the_same_on_feeds_of_the_hosts(monkeypatch, make, seed, modes):
    frames = [make(10 * seed + number, 600, start=start) for number, start in enumerate((100.0, 3.0)[: len(modes)])]
    assert both_roads(monkeypatch, frames, modes=modes, seed=seed, appetite=0.02, is_host_feed=True, stamp="close") > 50


def test_a_feed_with_a_missing_price_is_looked_at_bar_by_bar():
    candles = calm_frame(9, 50, start=100.0)
    candles.loc[candles.index[20], "low"] = np.nan

    strategy = run([candles], modes=("cross",), appetite=0.0, is_host_feed=True, stamp="close")

    assert strategy.broker.record.bars_passed == 0


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    modes=st.lists(st.sampled_from(("cross", "isolated")), min_size=1, max_size=3),
    wild=st.booleans(),
    appetite=st.sampled_from((0.002, 0.02, 0.2)),
)
def test_passed_bars_leave_the_same_for_any_trader(seed, modes, wild, appetite):
    make, bars = (wild_frame, 150) if wild else (calm_frame, 400)
    frames = [make(seed + number, bars, start=100.0) for number in range(len(modes))]
    with pytest.MonkeyPatch.context() as patch:
        both_roads(patch, frames, modes=modes, seed=seed, appetite=appetite)


class Turning(Curious):
    """Turns a position worth ``appetite`` times its cash round every few bars, adds to it and closes it now and then."""

    def next(self):
        draw, data = self.mood.random(), self.data
        size = self.p.appetite * 10_000 / data.close[0]
        if len(self) % 7 == 1 and draw < 0.8:
            self.order_target_size(target=-size if self.position.size > 0 else size)
        elif len(self) % 7 == 1:
            self.buy(size=size / 2) if draw < 0.9 else self.close()
        if draw < self.p.curiosity:
            self._look()
        if self.mood.random() < 0.01:
            self._move()
        self.values.append(self.broker.getvalue() if draw < 0.5 else 0.0)


@pytest.mark.parametrize(
    ("make", "appetite", "least"), [(calm_frame, 0.05, 60), (calm_frame, 1.5, 10), (wild_frame, 0.05, 10), (wild_frame, 6.0, 0)]
)
def test_a_bar_that_fills_its_position_begins_a_lull_and_leaves_what_a_look_leaves(monkeypatch, make, appetite, least):
    begins, begin_here = [], Lull.begin_here
    monkeypatch.setattr(Lull, "begin_here", lambda *given: begins.append(begin_here(*given)) or begins[-1])
    both_roads(monkeypatch, [make(52, 900, start=100.0)], modes=("cross",), seed=3, strategy=Turning, appetite=appetite)
    assert sum(begins) >= least


class Once(bt.Strategy):
    """Buy 1 on the first bar, and do nothing more."""

    params = (("seed", 0), ("appetite", 0))

    def next(self):
        if len(self) == 1:
            self.buy(size=1)


def test_a_lull_ends_before_the_bar_that_liquidates():
    # 10 behind a long of 1 at 100, flat maintenance of 1 %: it dies at 90 / 0.99 = 90.91.
    rows = [(100, 101, 99, 100)] * 300 + [(100, 101, 90, 95)] + [(95, 96, 94, 95)] * 50
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000, margin_mode="isolated")
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=10, tiers=0.01))
    cerebro.adddata(PerpData(dataname=frame(rows), name="AAA"))
    cerebro.addstrategy(Once)

    broker = cerebro.run()[0].broker

    assert [row.time for row in broker.record.liquidations] == [broker.record.column("time")[300]]
    assert broker.record.bars_held == 299
    assert broker.record.bars_passed > 300


def scripted_both_ways(monkeypatch, script, candles, *, feed=None, terms=None, **broker_args):
    """Return the strategy of a scripted run with lulls; what it leaves must be the same as where every bar gets a look."""

    def once():
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.broker = MarginBroker(**{"cash": 1_000, "margin_mode": "isolated", **broker_args})
        cerebro.broker.addcommissioninfo(PerpCommInfo(**{"leverage": 10, "tiers": 0.01, "liquidation_fee": 0.0, **(terms or {})}))
        cerebro.adddata(PerpData(dataname=candles, name="AAA", **(feed or {})))
        cerebro.addstrategy(Script, script=script)
        return cerebro.run()[0]

    passing = once()
    with monkeypatch.context() as patch:
        patch.setattr(Lull, "_find_out", lambda _: False)
        plain = once()
    assert passing.broker.record.bars_passed > 0 == plain.broker.record.bars_passed
    ours, theirs = leavings(passing), leavings(plain)
    for what, left in ours.items():
        assert left == theirs[what], what
    assert passing.cash == plain.cash
    return passing


def buy_one(strategy):
    strategy.buy(size=1)


def rest_far_away(strategy):
    strategy.resting = strategy.buy(size=1, exectype=bt.Order.Limit, price=50)


def drift_frame(bars=300):
    rng = np.random.default_rng(1)
    closes = 100 * np.exp(np.cumsum(rng.normal(0, 0.0005, bars)))
    return frame([(o, max(o, c) * 1.0003, min(o, c) * 0.9997, c) for o, c in zip([100, *closes], closes, strict=False)], freq="min")


def test_a_lull_waits_for_the_end_of_a_grace_that_the_screen_reckons_with(monkeypatch):
    # After 0.5 of funding 9.5 is behind a long of 1: at 91.8 the headroom is 9.5 - 8.2 - 0.918 = 0.382, less than another stamp's
    # 0.459, which an order that rests beside it has the screen count until the grace is over. Such a bar is walked.
    candles = frame([(100, 100.05, 99.95, 100)] * 150 + [(91.8, 91.85, 91.75, 91.8)] * 250, freq="s")
    candles["funding_rate"] = np.where(np.arange(400) == 100, 0.005, np.nan)

    for grace, walked in ((200, 151), (60, 11), (40, 0)):
        script = {1: buy_one, 3: rest_far_away}
        record = scripted_both_ways(monkeypatch, script, candles, feed={"grace_seconds": grace}).broker.record
        assert record.walked_bars == walked  # those from 150 on that open within it


@pytest.mark.parametrize(
    "write",
    [
        lambda order: setattr(order.created, "price", 100.0),
        lambda order: setattr(order, "valid", order.data.datetime[0] + 1e-9),
        lambda order: setattr(order, "exectype", bt.Order.Market),
    ],
)
def test_an_order_that_is_written_to_ends_a_lull(monkeypatch, write):
    script = {1: buy_one, 3: rest_far_away, 50: lambda strategy: write(strategy.resting)}

    strategy = scripted_both_ways(monkeypatch, script, drift_frame())

    assert strategy.orders[strategy.resting.ref][0] in ("Completed", "Expired")


def test_an_account_that_is_paid_into_behind_its_broker_ends_a_lull(monkeypatch):
    script = {1: buy_one, 50: lambda strategy: strategy.broker.account.deposit(50, time=strategy.broker.now)}

    scripted_both_ways(monkeypatch, script, drift_frame(), margin_mode="cross", cash=20)


def test_a_leverage_that_is_set_behind_the_broker_ends_a_lull(monkeypatch):
    script = {1: buy_one, 50: lambda strategy: strategy.broker.account.set_leverage("AAA", 5)}

    scripted_both_ways(monkeypatch, script, drift_frame(), margin_mode="cross")


def test_an_order_history_that_comes_in_a_lull_ends_it(monkeypatch):
    def replay(strategy):
        strategy.broker.add_order_history([[strategy.data.datetime.datetime(0), 1, 100.0]])

    strategy = scripted_both_ways(monkeypatch, {1: buy_one, 50: replay}, drift_frame())

    assert len(strategy.broker.record.fills) == 2


@pytest.mark.parametrize(("leverage", "tiers", "rows"), [(10, 0.01, [(100, 101, 99, 100)] * 2_000), (1, 0, None)])
def test_a_liquidation_price_that_stays_is_reckoned_a_few_times_in_a_lull(monkeypatch, leverage, tiers, rows):
    # Bars that are all as near as the nearest so far, and bars of a long that has no such price.
    reckon, asked = bt_margin.clock.account_liquidation_price, []
    monkeypatch.setattr(bt_margin.clock, "account_liquidation_price", lambda *args: asked.append(args) or reckon(*args))
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000, margin_mode="isolated")
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=leverage, tiers=tiers, commission=0))
    cerebro.adddata(PerpData(dataname=frame(rows, freq="min") if rows else drift_frame(2_000), name="AAA"))
    cerebro.addstrategy(Once)

    record = cerebro.run()[0].broker.record

    assert record.bars_held == 1_999
    assert len(asked) < 50


def test_a_copy_of_the_account_can_be_tried_on_without_ending_the_lull():
    def try_out(strategy):
        trial = copy.deepcopy(strategy.broker.account)
        trial.deposit(1_000, time=0)
        assert strategy.broker.lull.until > len(strategy) + 1
        assert trial.before_change is None

    play({1: buy_one, 50: try_out}, drift_frame(), check=False)


@given(
    st.lists(
        st.floats(719_163, 800_000)
        | st.integers(0, 3_000_000_000_000).map(lambda millis: 719_163 + millis / 86_400_000)
        | st.integers(0, 3_000_000_000_000).map(lambda millis: 719_163 + (millis + 0.5) / 86_400_000),
        min_size=1,
        max_size=30,
    )
)
def test_seconds_of_many_day_numbers_have_the_bits_of_each(days):
    assert all_seconds(array("d", days), len(days)).tobytes() == array("d", map(seconds, days)).tobytes()


class Mover(Curious):
    """Moves the second data two bars ahead of the first once, by hand."""

    def next(self):
        super().next()
        if len(self) == 150:
            self.datas[1].advance(2)


@pytest.mark.parametrize("appetite", [0.002, 0.05])
def test_a_data_that_is_moved_by_hand_ends_the_lulls(monkeypatch, appetite):
    frames = [calm_frame(50 + number, 400, start=start) for number, start in enumerate((100.0, 3.0))]
    assert 10 < both_roads(monkeypatch, frames, modes=("cross", "cross"), seed=9, strategy=Mover, appetite=appetite) < 151
