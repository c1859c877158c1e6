"""How Backtrader strategies found in the wild are built, run unchanged under margin, beside stock Backtrader.

Signals, a pair of two datas, target orders, timers and cheat-on-open, each with and without ``runonce``. Without danger
(10x, no maintenance margin, money to spare) both brokers must tell the same story, and the story is stated; at 20x with
1 % of maintenance margin and no liquidation fee the venue steps in, and what the pattern makes of it is stated too.

A fill is (number of the bar, data, size, price).
"""

from datetime import datetime, time

import backtrader as bt
import numpy as np
import pandas as pd
import pytest

from bt_margin import MarginBroker, PerpCommInfo

CASH = 10_000.0
FEE = 0.001
DANGER = {"leverage": 20, "tiers": 0.01, "liquidation_fee": 0.0}
in_each_mode = pytest.mark.parametrize("runonce", [True, False], ids=["runonce", "runnext"])


# -- candles, brokers and runs ---------------------------------------------------------------------------------------


def table(rows) -> pd.DataFrame:
    """Return hourly candles, stamped at their close from 01:00 on; one price stands for a bar that does not move."""
    bars = [row if isinstance(row, tuple) else (row,) * 4 for row in rows]
    index = pd.date_range("2024-01-01 01:00", periods=len(bars), freq="h")
    return pd.DataFrame(bars, columns=["open", "high", "low", "close"], index=index, dtype=float).assign(volume=1.0)


def candles(bars=200, seed=3, sigma=0.01) -> pd.DataFrame:
    """Return a random walk that opens away from the close before."""
    draw = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(draw.normal(0, sigma, bars)))
    opened = np.concatenate(([100.0], close[:-1])) * np.exp(draw.normal(0, sigma / 2, bars))
    high, low = np.maximum(opened, close) * (1 + sigma / 4), np.minimum(opened, close) * (1 - sigma / 4)
    return table(list(zip(opened, high, low, close, strict=True)))


class Told(bt.Analyzer):
    """Keeps fills, how orders ended, the first data's position and the account's value on each bar."""

    def start(self):
        self.fills: list[tuple] = []
        self.ends: list[tuple] = []
        self.held: list[float] = []
        self.values: list[float] = []

    def notify_order(self, order):
        if order.status == order.Completed:
            self.fills.append((self.bar, order.data._name, order.executed.size, order.executed.price))
        if not order.alive():
            self.ends.append((self.bar, order.data._name, order.getstatusname(), order.executed.comm))

    @property
    def bar(self) -> int:
        return len(self.strategy.data)

    def notify_cashvalue(self, cash, value):
        self.values.append(value)
        self.held.append(self.strategy.getposition().size)

    @property
    def liquidations(self) -> list[tuple]:
        return [(row.symbol, row.size) for row in self.strategy.broker.record.liquidations]


def stock(*, leverage=1.0, fee=0.0, cash=CASH) -> bt.brokers.BackBroker:
    broker = bt.brokers.BackBroker(cash=cash)
    broker.setcommission(commission=fee, leverage=leverage)
    return broker


def margin(*, margin_mode="cross", cash=CASH, **terms) -> MarginBroker:
    broker = MarginBroker(cash=cash, margin_mode=margin_mode, check=True)
    broker.addcommissioninfo(PerpCommInfo(**terms))
    return broker


def run(broker, pattern, *frames, runonce=True, prepare=None, stake=1, cheat_on_open=False, **params) -> Told:
    """Run a pattern, a strategy class or None where ``prepare(cerebro)`` brings its own, and return what it was told."""
    cerebro = bt.Cerebro(stdstats=False, runonce=runonce, cheat_on_open=cheat_on_open)
    cerebro.broker = broker
    for name, frame in zip("AB", frames, strict=False):
        cerebro.adddata(bt.feeds.PandasData(dataname=frame, timeframe=bt.TimeFrame.Minutes, compression=60), name=name)
    if pattern is not None:
        cerebro.addstrategy(pattern, **params)
    if prepare is not None:
        prepare(cerebro)
    cerebro.addsizer(bt.sizers.FixedSize, stake=stake)
    cerebro.addanalyzer(Told, _name="told")
    return cerebro.run()[0].analyzers.told


def without_danger(pattern, *frames, lot=0.0, **kwargs) -> Told:
    """Run a pattern on both brokers where nothing can happen to it, and return what both were told, which is the same."""
    ours = run(margin(leverage=10, tiers=0, commission=FEE, lot=lot, cash=100_000), pattern, *frames, **kwargs)
    theirs = run(stock(fee=FEE, cash=100_000), pattern, *frames, **kwargs)
    assert [fill[:2] for fill in ours.fills] == [fill[:2] for fill in theirs.fills]
    assert [fill[2:] for fill in ours.fills] == [pytest.approx(fill[2:], rel=1e-12) for fill in theirs.fills]
    assert [end[:3] for end in ours.ends] == [end[:3] for end in theirs.ends]
    assert [end[3] for end in ours.ends] == pytest.approx([end[3] for end in theirs.ends], rel=1e-12)
    assert ours.values == pytest.approx(theirs.values, rel=1e-12)
    assert ours.held == pytest.approx(theirs.held, rel=1e-12)
    assert {status for _, _, status, _ in ours.ends} == {"Completed"}
    return ours


def near(*fills: tuple) -> list:
    return [(bar, name, pytest.approx(size), pytest.approx(price)) for bar, name, size, price in fills]


# -- signals ---------------------------------------------------------------------------------------------------------


class Momentum(bt.Indicator):
    """The close above its average: an indicator whose sign is the signal."""

    lines = ("signal",)
    params = (("period", 10),)

    def __init__(self):
        self.lines.signal = self.data.close - bt.indicators.SMA(self.data.close, period=self.p.period)


class CrossSignal(bt.SignalStrategy):
    """Two averages: long from the cross upwards to the cross downwards."""

    params = (("fast", 5), ("slow", 15))

    def __init__(self):
        fast, slow = (bt.indicators.SMA(self.data, period=period) for period in (self.p.fast, self.p.slow))
        self.signal_add(bt.SIGNAL_LONG, bt.indicators.CrossOver(fast, slow))


def long_and_short(cerebro):
    cerebro.add_signal(bt.SIGNAL_LONGSHORT, Momentum)


@in_each_mode
def test_a_long_short_signal_holds_the_sign_of_yesterdays_signal(runonce):
    frame = candles()

    told = without_danger(None, frame, prepare=long_and_short, runonce=runonce)

    signal = np.sign(frame["close"] - frame["close"].rolling(10).mean()).fillna(0.0)
    assert told.held == list(signal.shift(1, fill_value=0.0))  # decided at a close, filled at the next open
    reversals = int((signal.iloc[9:-1].diff().abs() == 2).sum())
    assert len(told.fills) == 1 + 2 * reversals  # a reversal is two orders: out, and in again on the other side
    assert reversals > 10


@in_each_mode
def test_a_signal_strategy_is_long_from_cross_to_cross(runonce):
    frame = candles(seed=4)

    told = without_danger(CrossSignal, frame, runonce=runonce)

    fast, slow = (frame["close"].rolling(period).mean() for period in (5, 15))
    above = (fast > slow).iloc[14:]
    crosses = above.iloc[1:-1] != above.shift(1).iloc[1:-1]
    first = next(number for number, (crossed, is_above) in enumerate(zip(crosses, above.iloc[1:-1], strict=True)) if crossed and is_above)
    assert [size for _, _, size, _ in told.fills] == [1, -1] * (crosses.iloc[first:].sum() // 2) + [1] * (crosses.iloc[first:].sum() % 2)
    assert len(told.fills) >= 6


@in_each_mode
def test_a_signal_that_still_says_long_buys_again_after_a_liquidation(runonce):
    dip = (129, 129, 100, 128)  # a long of 20x dies 4 % below its entry
    frame = table([*range(100, 130), dip, dip, dip])

    told = run(margin(margin_mode="isolated", **DANGER), None, frame, prepare=long_and_short, runonce=runonce)

    # bought at 110, the open of bar 11, with 5.5 of margin; again at the open of the next bar, 129, with 6.45
    first, again = (110 - 5.5) / 0.99, (129 - 6.45) / 0.99
    assert told.fills == near(
        (11, "A", 1, 110), (31, "A", -1, first), (32, "A", 1, 129), (32, "A", -1, again), (33, "A", 1, 129), (33, "A", -1, again)
    )
    assert told.liquidations == [("A", 1)] * 3


@in_each_mode
def test_a_refused_signal_order_is_sent_again_on_every_bar_as_on_stock(runonce):
    frame = table(range(100, 120))

    ours, theirs = (run(broker, None, frame, prepare=long_and_short, runonce=runonce) for broker in (margin(cash=90), stock(cash=90)))

    assert [end[:3] for end in ours.ends] == [end[:3] for end in theirs.ends] == [(bar, "A", "Margin") for bar in range(11, 21)]


# -- a pair of two datas ---------------------------------------------------------------------------------------------


class Pair(bt.Strategy):
    """Sell the dear one and buy the cheap one of two datas when their ratio is far from its average, until it is back."""

    params = (("period", 20), ("far", 2.0))

    def __init__(self):
        ratio = self.data0.close / self.data1.close
        average, deviation = bt.indicators.SMA(ratio, period=self.p.period), bt.indicators.StdDev(ratio, period=self.p.period)
        self.score = (ratio - average) / deviation
        self.side = 0  # 1 where the first data is held long

    def next(self):
        score = self.score[0]
        if not self.side and abs(score) > self.p.far:
            self.side = 1 if score < 0 else -1
            cheap, dear = (self.data0, self.data1) if score < 0 else (self.data1, self.data0)
            self.buy(data=cheap)
            self.sell(data=dear)
        elif self.side and self.side * score >= 0:
            self.side = 0
            for data in self.datas:
                self.close(data=data)


@in_each_mode
def test_a_pair_trades_both_legs_at_once_on_opposite_sides(runonce):
    told = without_danger(Pair, candles(seed=5), candles(seed=6), runonce=runonce, stake=10)

    legs = list(zip(told.fills[::2], told.fills[1::2], strict=True))
    assert len(legs) >= 6
    assert all(one[0] == other[0] and {one[1], other[1]} == {"A", "B"} and one[2] == -other[2] for one, other in legs)


# The first falls a little behind the second, then both fall by thirty per cent, then the ratio is back.
BEHIND = [100.1, 99.9] * 10 + [99.0, 99.0]
FALL = [(99.0, 99.0, 69.3, 69.3), 69.3]
PAIR = table([*BEHIND, *FALL, 70.0, 70.0]), table([*[100.0] * 22, (100.0, 100.0, 70.0, 70.0), 70.0, 70.0, 70.0])


@in_each_mode
def test_a_hedged_pair_in_cross_margin_sits_through_a_crash_as_on_stock(runonce):
    ours = run(margin(margin_mode="cross", **DANGER), Pair, *PAIR, runonce=runonce, stake=100)
    theirs = run(stock(leverage=20), Pair, *PAIR, runonce=runonce, stake=100)

    assert ours.fills == near((22, "A", 100, 99), (22, "B", -100, 100), (26, "A", -100, 70), (26, "B", 100, 70))
    assert ours.fills == theirs.fills
    assert ours.liquidations == []
    assert ours.values[-1] == pytest.approx(CASH + 100 * (70 - 99) + 100 * (100 - 70))


@in_each_mode
def test_a_hedged_pair_in_isolated_margin_loses_a_leg_and_leaves_with_the_other(runonce):
    told = run(margin(margin_mode="isolated", **DANGER), Pair, *PAIR, runonce=runonce, stake=100)

    # 100 at 99 with a twentieth of it: equity meets 1 % of maintenance at 9 900 * 0.95 / 99 = 95
    assert told.fills == near((22, "A", 100, 99), (22, "B", -100, 100), (23, "A", -100, 95), (26, "B", 100, 70))
    assert told.liquidations == [("A", 100)]
    assert told.values[-1] == pytest.approx(CASH + 100 * (95 - 99) + 100 * (100 - 70))


# -- target orders ---------------------------------------------------------------------------------------------------


class Targets(bt.Strategy):
    """Aim at one target after another, by the way that is named."""

    params = (("way", "size"), ("targets", ()))

    def next(self):
        if len(self) <= len(self.p.targets):
            getattr(self, f"order_target_{self.p.way}")(target=self.p.targets[len(self) - 1])


@in_each_mode
@pytest.mark.parametrize("leverage", [1, 5])
def test_target_sizes_are_sizes_on_both_brokers_at_any_leverage(leverage, runonce):
    frame, targets = table([100] * 6), (10, -5, -5, 20, 0)

    for broker in (margin(leverage=leverage), stock(leverage=leverage)):
        told = run(broker, Targets, frame, runonce=runonce, targets=targets)
        assert told.fills == [(2, "A", 10, 100), (3, "A", -15, 100), (5, "A", 25, 100), (6, "A", -20, 100)]


@in_each_mode
@pytest.mark.parametrize(("way", "targets"), [("value", (5_000, -2_000, 8_000, 0)), ("percent", (0.5, -0.2, 0.8, 0.0))])
def test_target_values_and_percents_are_notional_on_both_brokers_without_leverage(way, targets, runonce):
    for broker in (margin(leverage=1), stock()):
        told = run(broker, Targets, table([100] * 6), runonce=runonce, way=way, targets=targets)
        assert told.fills == near((2, "A", 50, 100), (3, "A", -70, 100), (4, "A", 100, 100), (5, "A", -80, 100))


@in_each_mode
def test_half_of_equity_stays_half_under_margin_where_stock_multiplies_by_its_leverage(runonce):
    halves = {"way": "percent", "targets": (0.5,) * 5}

    ours, theirs = (run(broker, Targets, table([100] * 6), runonce=runonce, **halves) for broker in (margin(leverage=5), stock(leverage=5)))

    assert ours.held == [0, 50, 50, 50, 50, 50]  # 0.5 * 10 000 / 100, and there it is
    # five times too many; then 25 000 is 20 000 too much, and 5 * 200 are sold: 7.5 times equity, short
    assert theirs.held == [0, 250, -750, -750, -750, -750]
    assert [status for _, _, status, _ in theirs.ends] == ["Completed", "Completed", "Margin", "Margin", "Margin"]


@in_each_mode
def test_a_target_beyond_the_leverage_is_refused_and_what_was_held_stays(runonce):
    told = run(margin(leverage=5), Targets, table([100] * 5), runonce=runonce, way="percent", targets=(3.0, 6.0, 1.0))

    assert told.fills == near((2, "A", 300, 100), (4, "A", -200, 100))
    assert [status for _, _, status, _ in told.ends] == ["Completed", "Margin", "Completed"]


@in_each_mode
def test_a_target_is_rebuilt_from_what_a_liquidation_has_left(runonce):
    frame = table([100, 100, (100, 100, 90, 90), 90, 90])

    told = run(margin(**DANGER), Targets, frame, runonce=runonce, way="percent", targets=(10.0, 10.0, 10.0))

    # 1 000 at 100 with 10 000: equity meets 1 % of maintenance at 90 000 / 990, and is then 1 000 * 90.91 * 0.01
    price = 90_000 / 990
    assert told.fills == near((2, "A", 1_000, 100), (3, "A", -1_000, price), (4, "A", 10 * (10 * price) / 90, 90))


# -- timers ----------------------------------------------------------------------------------------------------------


class EveryMorning(bt.Strategy):
    """Rebalance by a timer at eight, on working days, and do nothing in between."""

    params = (("target", 0.6), ("cheat", False))

    def __init__(self):
        self.rung: list[datetime] = []
        self.add_timer(when=time(8), weekdays=[1, 2, 3, 4, 5], weekcarry=False, cheat=self.p.cheat)

    def notify_timer(self, timer, when, *args, **kwargs):
        self.rung.append(when)
        self.order_target_percent(target=self.p.target)


@in_each_mode
def test_a_timer_rebalances_once_every_working_day_on_the_bar_after_it_rings(runonce):
    told = without_danger(EveryMorning, candles(bars=24 * 10, sigma=0.02), runonce=runonce, lot=1.0)

    mornings = [datetime(2024, 1, day, 8) for day in (1, 2, 3, 4, 5, 8, 9, 10)]  # the 6th and the 7th are a weekend
    assert told.strategy.rung == mornings
    assert {bar % 24 for bar, *_ in told.fills} == {9}  # bar 8 is stamped 08:00
    assert len(told.fills) >= 6


@in_each_mode
def test_a_cheating_timer_fills_at_the_open_of_the_bar_it_rings_on(runonce):
    frame = candles(bars=24 * 3)

    told = without_danger(EveryMorning, frame, runonce=runonce, lot=1.0, cheat=True, cheat_on_open=True)

    assert [bar for bar, *_ in told.fills] == [8, 32, 56]
    assert [price for *_, price in told.fills] == pytest.approx([frame["open"].iloc[bar - 1] for bar in (8, 32, 56)])


@in_each_mode
def test_a_timer_finds_the_account_liquidated_and_starts_over_in_the_morning(runonce):
    frame = table([*[100] * 12, (100, 100, 90, 90), *[90] * 24])

    told = run(margin(**DANGER), EveryMorning, frame, runonce=runonce, target=10.0)

    price = 90_000 / 990  # as above, and until the next morning nothing is held
    assert told.fills == near((9, "A", 1_000, 100), (13, "A", -1_000, price), (33, "A", 10 * (10 * price) / 90, 90))
    assert told.held[12:32] == [0] * 20


# -- cheat on open ---------------------------------------------------------------------------------------------------


class BuyTheGap(bt.Strategy):
    """Seen at the open: bought where the market opens below the close before, and sold at the open after."""

    def next_open(self):
        if self.position:
            self.close()
        elif self.data.open[0] < self.data.close[-1]:
            self.buy()


@in_each_mode
def test_orders_of_next_open_fill_at_that_very_open(runonce):
    frame = candles(seed=8)

    told = without_danger(BuyTheGap, frame, runonce=runonce, cheat_on_open=True, stake=10)

    opens, closes = list(frame["open"]), list(frame["close"])
    expected, held = [], False
    for number in range(1, len(frame)):
        if held or opens[number] < closes[number - 1]:
            expected.append((number + 1, "A", -10 if held else 10, opens[number]))
            held = not held
    assert told.fills == near(*expected)
    assert len(expected) > 50


@in_each_mode
def test_a_position_of_next_open_can_die_on_its_first_bar(runonce):
    frame = table([100, (99, 99, 90, 98), 98, (97, 97, 96, 97), 97])

    told = run(margin(margin_mode="isolated", **DANGER), BuyTheGap, frame, runonce=runonce, cheat_on_open=True, stake=100)

    # 100 at 99 die at 9 900 * 0.95 / 99 = 95 on the bar they were bought on; bought again at 97 they live for a bar
    assert told.fills == near((2, "A", 100, 99), (2, "A", -100, 95), (4, "A", 100, 97), (5, "A", -100, 97))
    assert told.liquidations == [("A", 100)]


@in_each_mode
def test_an_order_of_next_open_is_judged_at_the_open(runonce):
    frame = table([100, (99, 200, 99, 200), 200])

    told = run(margin(leverage=1, tiers=0), BuyTheGap, frame, runonce=runonce, cheat_on_open=True, stake=101)

    assert told.fills[0] == (2, "A", 101, 99)  # 9 999 of 10 000, though the bar goes on to 200
