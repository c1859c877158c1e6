"""The averages that are computed a block at a time have the bits of the host's loop, or are the host's."""

import doctest
import logging
import math
import operator
import pickle
from array import array
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from backtrader.indicators.basicops import ExponentialSmoothing
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import bt_margin as bm
from bt_margin import averages
from bt_margin.averages import UnfitError, smoothed, vectorise, weighted_near, weighted_sums, window_extremes, window_sums

AVERAGES = {kind.__name__: kind for kind in bt.indicators.MovingAverage._movavs if kind.lines._getlines()}
DECENT = st.floats(128, 65_536) | st.integers(128_000, 65_536_000).map(lambda ticks: ticks / 1000)
FAR_APART = st.floats(1e-4, 1e5) | st.integers(1, 10**9).map(lambda ticks: ticks / 10_000)
SIGNED = DECENT | DECENT.map(operator.neg) | FAR_APART | FAR_APART.map(operator.neg) | st.sampled_from([0.0, -0.0])
WILD = st.floats(allow_nan=False, width=64) | st.floats(-1e6, 1e6) | st.sampled_from([0.0, -0.0, 5e-324, 2.0**-900, 1e300])


def series(elements: st.SearchStrategy[float]) -> st.SearchStrategy[list[float]]:
    return st.lists(elements, min_size=1, max_size=60)


def bits(numbers: Any) -> bytes:
    return array("d", numbers).tobytes()


def windows(values: list[float], period: int) -> list[list[float]]:
    return [values[last - period : last] for last in range(period, len(values) + 1)]


@given(series(SIGNED), st.data())
@example([0.1] * 9, None)
@example([2.0**20, 2.0**-19 * (1 + 2.0**-14), 2.0**-19], None)  # a tie: 2**-33 is half of the last bit of 2**20
@example([2.0**20, 2.0**-19 * (1 + 2.0**-14), 2.0**-19 * (1 + 2.0**-52)], None)  # broken by a bit far below
@example([-(2.0**20), -(2.0**-19) * (1 + 2.0**-14), -(2.0**-19) * (1 + 2.0**-52)], None)
@example([2.0**20, 2.0**-19 * (1 + 2.0**-14), 2.0**-18 - 2.0**-71], None)
@example([3e5, 1e-4, -3e5], None)
@example([-0.0, -0.0, -0.0], None)
@example([1.0, -1.0, 0.5], None)
def test_sums_of_prices_have_the_bits_of_fsum(values: list[float], data: Any) -> None:
    period = data.draw(st.integers(1, len(values))) if data else 3
    assert bits(window_sums(np.array(values), period)) == bits(map(math.fsum, windows(values, period)))


def test_the_documented_example_holds() -> None:
    assert doctest.testmod(averages) == (0, 1)


@given(series(WILD), st.data())
def test_sums_of_anything_have_the_bits_of_fsum_or_are_left(values: list[float], data: Any) -> None:
    period = data.draw(st.integers(1, len(values)))
    try:
        sums = window_sums(np.array(values), period)
    except UnfitError:
        return
    assert bits(sums) == bits(map(math.fsum, windows(values, period)))


@given(series(SIGNED), st.data())
def test_weighted_sums_of_prices_have_the_bits_of_fsum(values: list[float], data: Any) -> None:
    period = data.draw(st.integers(1, len(values)))
    weights = data.draw(st.just([float(n) for n in range(1, period + 1)]) | st.lists(st.floats(0.5, 16), min_size=period, max_size=period))
    host = [math.fsum(map(operator.mul, window, weights)) for window in windows(values, period)]
    assert bits(weighted_sums(np.array(values), np.array(weights))) == bits(host)


@given(series(WILD), st.data())
def test_weighted_sums_of_anything_have_the_bits_of_fsum_or_are_left(values: list[float], data: Any) -> None:
    period = data.draw(st.integers(1, len(values)))
    weights = data.draw(st.lists(st.floats(1e-300, 1e300), min_size=period, max_size=period))
    try:
        sums = weighted_sums(np.array(values), np.array(weights))
    except UnfitError:
        return
    assert bits(sums) == bits(math.fsum(map(operator.mul, window, weights)) for window in windows(values, period))


@given(series(WILD | DECENT), st.data())
def test_extremes_are_those_of_max_and_min_or_are_left(values: list[float], data: Any) -> None:
    period = data.draw(st.integers(1, len(values)))
    assume(not any(value == 0 and math.copysign(1, value) < 0 for value in values))
    assume(all(map(math.isfinite, values)))
    for larger, host in ((np.maximum, max), (np.minimum, min)):
        assert bits(window_extremes(np.array(values), period, larger)) == bits(map(host, windows(values, period)))


@pytest.mark.parametrize("value", [-0.0, math.nan, math.inf])
def test_extremes_of_what_python_orders_its_own_way_are_left(value: float) -> None:
    with pytest.raises(UnfitError):
        window_extremes(np.array([1.0, value, 2.0]), 2, np.maximum)


def smoothed_by_the_host(values: list[float], previous: float, alpha: float) -> list[float]:
    line = SimpleNamespace(array=[previous, *values])
    ExponentialSmoothing.once(SimpleNamespace(data=line, line=line, alpha=alpha, alpha1=1.0 - alpha), 1, len(values) + 1)
    return line.array[1:]


@given(st.lists(st.floats(25, 100), min_size=1, max_size=300), st.floats(25, 100), st.integers(1, 400), st.sampled_from([1, -1]))
def test_smoothed_averages_stay_within_the_tolerance(values: list[float], previous: float, period: int, sign: int) -> None:
    alpha, turned = 2 / (1 + period), [sign * value for value in values]
    host = smoothed_by_the_host(turned, sign * previous, alpha)
    near = smoothed(np.array(turned), sign * previous, alpha, 1e-12)
    assert np.abs(near / np.array(host) - 1).max() <= 1e-12


def test_smoothed_averages_stay_within_the_tolerance_over_many_blocks() -> None:
    draw = np.random.default_rng(6)
    values, previous, near = draw.uniform(50, 100, 40_000), 70.0, []
    for first in range(0, len(values), 500):
        near.extend(smoothed(values[first : first + 500], previous, 0.01, 1e-12).tolist())
        previous = near[-1]
    host = smoothed_by_the_host(values.tolist(), 70.0, 0.01)
    assert np.abs(np.array(near) / np.array(host) - 1).max() <= 1e-12


@pytest.mark.parametrize(
    ("values", "alpha", "tolerance"),
    [([1.0, 2.0], 1e-4, 1e-12), ([1.0, 1e5], 0.02, 1e-12), ([1.0, 2.0], 0.5, 1e-15), ([1.0, -1.0], 0.5, 1e-6), ([0.0, 1.0], 0.5, 1e-6)],
)
def test_smoothing_that_could_miss_the_tolerance_is_left(values: list[float], alpha: float, tolerance: float) -> None:
    with pytest.raises(UnfitError):
        smoothed(np.array(values), 1.0, alpha, tolerance)


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=200), st.data())
def test_weighted_averages_stay_within_the_tolerance(values: list[float], data: Any) -> None:
    period = data.draw(st.integers(1, len(values)))
    weights = [float(n) for n in range(1, period + 1)]
    host = np.array([math.fsum(map(operator.mul, window, weights)) for window in windows(values, period)])
    assert np.abs(weighted_near(np.array(values), np.array(weights), 1e-12) / host - 1).max() <= 1e-12


def test_weighting_that_could_miss_the_tolerance_is_left() -> None:
    with pytest.raises(UnfitError, match="one sign"):
        weighted_near(np.array([1.0, -1.0]), np.array([1.0, 2.0]), 1e-12)
    with pytest.raises(UnfitError, match="too long"):
        weighted_near(np.ones(9), np.ones(9), 1e-15)  # 13 * 2**-53 is more


class Blocks(bt.Cerebro):
    """A Cerebro that computes a block at a time."""

    tolerance = 0.0

    def _runonce(self, runstrats: Any) -> None:
        vectorise(runstrats, self.tolerance)
        super()._runonce(runstrats)


class Near(Blocks):
    tolerance = averages.TOLERANCE


def candles(bars: int, seed: int = 1, ticks: float = 0.0) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(draw.normal(0, 0.01, bars)))
    close = np.round(close / ticks) * ticks if ticks else close
    index = pd.date_range("2024-01-01", periods=bars, freq="h", name="datetime")
    high, low = close * 1.001, close * 0.999
    return pd.DataFrame({"open": close, "high": high, "low": low, "close": close, "volume": 1.0}, index=index)


def ran(kind: type[bt.Cerebro], strategy: type[bt.Strategy], *frames: pd.DataFrame, **options: Any) -> Any:
    cerebro = kind(stdstats=False, **options)
    for frame in frames or (candles(400),):
        cerebro.adddata(bm.PerpData(dataname=frame))
    cerebro.addstrategy(strategy)
    (finished,) = cerebro.run()
    return finished


def lines_of(owner: Any) -> Iterator[tuple[str, int, bytes]]:
    """Yield name, length and bits of every line of every indicator, those of indicators among them."""
    for indicator in owner._lineiterators[owner.IndType] if hasattr(owner, "_lineiterators") else ():
        for line in indicator.lines:
            yield type(indicator).__name__, len(line), line.array.tobytes()
        yield from lines_of(indicator)


def made(*makers: Any) -> type[bt.Strategy]:
    class Made(bt.Strategy):
        def __init__(self) -> None:
            self.made = [make(self) for make in makers]

    return Made


def assert_same(strategy: type[bt.Strategy], *frames: pd.DataFrame) -> None:
    host = list(lines_of(ran(bt.Cerebro, strategy, *frames)))
    assert host
    assert list(lines_of(ran(Blocks, strategy, *frames))) == host


@pytest.fixture
def left(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What was left to the host's loop and why, as the log tells it."""
    caplog.set_level(logging.DEBUG, "bt_margin")
    return caplog


@pytest.mark.parametrize("name", sorted(AVERAGES))
@pytest.mark.parametrize("ticks", [0.0, 0.5])
def test_every_moving_average_of_the_host_is_equal_bit_for_bit(name: str, ticks: float) -> None:
    assert_same(made(lambda strategy: AVERAGES[name](strategy.data)), candles(400, ticks=ticks))


@pytest.mark.parametrize("name", sorted(AVERAGES))
def test_every_moving_average_of_the_host_is_near_by_option(name: str) -> None:
    strategy = made(lambda strategy: AVERAGES[name](strategy.data))
    host, near = (np.array(ran(kind, strategy).made[0].array) for kind in (bt.Cerebro, Near))
    assert (np.isnan(host) == np.isnan(near)).all()
    # Several averages are added up at most, with factors up to 3; the zero-lag indicator chooses among gains.
    np.testing.assert_allclose(near, host, rtol=1e-10)


def test_the_usual_averages_take_the_fast_road(left: pytest.LogCaptureFixture) -> None:
    ind = bt.indicators
    made_of = made(
        lambda s: ind.SMA(s.data, period=20),
        lambda s: ind.WMA(s.data, period=20),
        lambda s: ind.SumN(s.data, period=20),
        lambda s: ind.Highest(s.data.high, period=20),
        lambda s: ind.Lowest(s.data.low, period=20),
        lambda s: ind.CrossOver(ind.SMA(s.data, period=5), ind.SMA(s.data, period=20)),
        lambda s: ind.EMA(s.data, period=20),
        lambda s: ind.SMMA(s.data, period=20),
    )
    ran(Near, made_of)
    assert left.messages == []


def test_indicators_of_indicators_and_of_several_datas_are_equal() -> None:
    ind = bt.indicators
    strategy = made(
        lambda s: ind.SMA(ind.SMA(ind.EMA(s.data1.high, period=7), period=9), period=11),
        lambda s: ind.CrossOver(ind.SMA(s.data0, period=3), ind.SMA(s.data0, period=30)),
        lambda s: ind.BollingerBands(s.data1, period=25),
        lambda s: ind.MACDHisto(s.data0),
        lambda s: ind.RSI(s.data1, safediv=True),
        lambda s: ind.Stochastic(s.data0),
        lambda s: ind.SMA(s.data0.high - s.data0.low, period=14),
        lambda s: ind.AwesomeOscillator(s.data0),
    )
    assert_same(strategy, candles(400), candles(370, seed=2))


def test_operations_on_lines_are_equal() -> None:
    strategy = made(
        lambda s: s.data.close(-3) + s.data.open,
        lambda s: 2 - s.data.close,
        lambda s: s.data.close * -0.5,
        lambda s: s.data.close / s.data.open(-1),
        lambda s: 1 / s.data.close,
        lambda s: bt.And(s.data.close > s.data.close(-1), s.data.close >= 100, s.data.volume == 1),
        lambda s: bt.Or(s.data.close < s.data.close(-1), s.data.close <= 99, s.data.volume != 1),
        lambda s: bt.Max(s.data.close, 100.0),
        lambda s: abs(s.data.close - 100.0),
        lambda s: (s.data.close - 100) ** 2,
        lambda s: s.data.close - s.data.close,
    )
    assert_same(strategy)


def test_a_cross_of_lines_that_touch_is_equal(left: pytest.LogCaptureFixture) -> None:
    """On a grid of whole units neighbours tie, and the last difference that was none stands for a zero."""
    assert_same(made(lambda s: bt.indicators.CrossOver(s.data.close, s.data.close(-1))), candles(400, ticks=1.0))
    assert left.messages == []


def test_blocks_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(averages, "BLOCK", 70)
    for name in ("SMA", "WMA", "HMA"):
        assert_same(made(lambda strategy, name=name: getattr(bt.indicators, name)(strategy.data, period=100)))


@given(
    prices=st.lists(st.floats(1, 1e3), min_size=1, max_size=9), period=st.integers(1, 120), more=st.integers(3, 140), nested=st.booleans()
)
@settings(deadline=None, max_examples=30)
def test_averages_of_any_period_over_any_number_of_bars_are_equal(prices: list[float], period: int, more: int, nested: bool) -> None:
    frame = candles(period + more)
    frame["close"] = np.resize(prices, len(frame))
    frame["high"], frame["low"] = frame[["open", "close"]].max(axis=1), frame[["open", "close"]].min(axis=1)

    def average(strategy: Any) -> Any:
        inner = bt.indicators.SMA(strategy.data, period=period)
        return bt.indicators.SMA(inner, period=3) if nested else inner

    assert_same(made(average), frame)


@pytest.mark.parametrize("kind", [bt.Cerebro, Blocks])
def test_fewer_bars_than_a_period_are_the_hosts_own_error(kind: type[bt.Cerebro]) -> None:
    with pytest.raises(IndexError):
        ran(kind, made(lambda s: bt.indicators.SMA(s.data, period=20)), candles(10))


class Holed(bt.Indicator):
    """The close, and what ``hole`` says on bar 300."""

    lines = ("holed",)
    params = (("hole", math.nan),)

    def once(self, start: int, end: int) -> None:
        self.line.array[start:end] = self.data.array[start:end]
        if start < 300 < end:
            self.line.array[300] = self.p.hole


@pytest.mark.parametrize("hole", [math.nan, math.inf, 1e280, 1e-15, 5e-324, 1e-7, 0.0, -0.0, -1.0])
@pytest.mark.parametrize("name", ["SMA", "WMA", "EMA", "Highest", "Lowest", "SumN"])
def test_values_without_a_common_grid_are_left_to_the_host(
    name: str, hole: float, left: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    monkeypatch.setattr(averages, "BLOCK", 100)
    strategy = made(lambda s: getattr(bt.indicators, name)(Holed(s.data.close, hole=hole), period=10))
    assert_same(strategy)
    if name == "EMA":
        assert left.messages == []  # without the option it is the host's
    elif name in ("Highest", "Lowest"):
        assert bool(left.messages) == (not math.isfinite(hole) or math.copysign(1, hole) < 0 == hole)
    else:
        assert bool(left.messages) == (hole not in (1e-7, 0.0, -1.0))


def test_only_the_blocks_that_need_it_are_left_to_the_host(left: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(averages, "BLOCK", 100)
    ran(Blocks, made(lambda s: bt.indicators.SMA(Holed(s.data.close), period=10)))
    # The first result is the host's alone, on bar 9; blocks begin on bar 10. Windows that have bar 300 end on 300 to 309.
    assert left.messages == ["Average: bars 210 to 309 are left to the host: there are values that are not finite"]


def test_smoothing_near_a_hole_is_left_to_the_host(left: pytest.LogCaptureFixture) -> None:
    strategy = made(lambda s: bt.indicators.EMA(Holed(s.data.close), period=10))
    host, near = (list(lines_of(ran(kind, strategy))) for kind in (bt.Cerebro, Near))
    assert near == host
    assert len(left.messages) == 1


def test_a_class_with_a_loop_of_its_own_is_left_alone() -> None:
    class Own(bt.indicators.Average):
        def once(self, start: int, end: int) -> None:
            for index in range(start, end):
                self.line.array[index] = 7.0

    class Next(bt.Indicator):
        lines = ("mean",)

        def __init__(self) -> None:
            self.addminperiod(3)

        def next(self) -> None:
            self.line[0] = sum(self.data.get(size=3)) / 3

    strategy = made(lambda s: Own(s.data, period=5), lambda s: Next(s.data))
    assert_same(strategy)
    assert set(ran(Blocks, strategy).made[0].array[5:]) == {7.0}


def test_a_loop_put_on_an_indicator_is_left_alone() -> None:
    class Marked(bt.Strategy):
        def __init__(self) -> None:
            self.mean = bt.indicators.Average(self.data, period=5)
            self.mean.once = self.sevens

        def sevens(self, start: int, end: int) -> None:
            self.mean.array[start:end] = array("d", [7.0]) * (end - start)

    assert set(ran(Blocks, Marked).mean.array[4:]) == {7.0}


def test_a_second_call_changes_the_tolerance_and_nothing_else() -> None:
    class Twice(Near):
        def _runonce(self, runstrats: Any) -> None:
            vectorise(runstrats, 1e-6)
            super()._runonce(runstrats)

    strategy = made(lambda s: bt.indicators.SMA(s.data, period=20))
    assert list(lines_of(ran(Twice, strategy))) == list(lines_of(ran(bt.Cerebro, strategy)))


def test_strategies_keep_their_own_methods() -> None:
    class Watched(Blocks):
        def _runonce(self, runstrats: Any) -> None:
            before = [set(vars(strategy)) for strategy in runstrats]
            vectorise(runstrats)
            assert [set(vars(strategy)) for strategy in runstrats] == before
            super()._runonce(runstrats)

    assert len(ran(Watched, Swept)) == 400


def test_a_cerebro_may_run_twice() -> None:
    cerebro = Blocks(stdstats=False)
    cerebro.adddata(bm.PerpData(dataname=candles(300)))
    cerebro.addstrategy(made(lambda s: bt.indicators.SMA(s.data, period=20)))
    first, second = (list(lines_of(cerebro.run()[0])) for _ in range(2))
    assert first == second


class Swept(bt.Strategy):
    params = (("period", 10),)

    def __init__(self) -> None:
        self.mean = bt.indicators.SMA(self.data, period=self.p.period)
        self.cross = bt.indicators.CrossOver(self.data, self.mean)

    def stop(self) -> None:
        self.total = math.fsum(self.mean.array[self.p.period :])


# The host's strategies and analyzers hold counters of itertools; pickling these is deprecated from Python 3.12 on.
PICKLED = pytest.mark.filterwarnings("ignore:Pickle, copy, and deepcopy support:DeprecationWarning")
POOL = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@PICKLED
@POOL
def test_a_sweep_in_two_processes_is_equal() -> None:
    totals = []
    for kind, processes in ((bt.Cerebro, 1), (Blocks, 2)):
        cerebro = kind(stdstats=False, maxcpus=processes, optreturn=False)
        cerebro.adddata(bm.PerpData(dataname=candles(300)))
        cerebro.optstrategy(Swept, period=range(5, 9))
        totals.append([finished.total for (finished,) in cerebro.run()])
    assert totals[0] == totals[1]
    assert len(set(totals[0])) == 4


@PICKLED
def test_a_changed_indicator_can_be_pickled() -> None:
    finished = ran(Blocks, Swept)
    average = finished.mean._lineiterators[finished.IndType][0]
    again = pickle.loads(pickle.dumps(average.once))
    assert isinstance(average.once, partial)
    assert again.args[0].array.tobytes() == average.array.tobytes()
    assert again.args[0].once is again


def test_orders_of_a_cross_are_the_same() -> None:
    class Trades(Swept):
        def __init__(self) -> None:
            super().__init__()
            self.told: list[tuple[int, float, float]] = []

        def notify_order(self, order: Any) -> None:
            if order.status == order.Completed:
                self.told.append((len(self), order.executed.size, order.executed.price))

        def next(self) -> None:
            if self.cross[0]:
                self.order_target_size(target=self.cross[0])

    host = ran(bt.Cerebro, Trades).told
    assert len(host) > 20
    assert ran(Blocks, Trades).told == host


@pytest.mark.parametrize("tolerance", [-1e-12, 1.0, math.nan])
def test_a_tolerance_that_is_none_is_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match="expected 0 or more and below 1"):
        vectorise([], tolerance)


def test_an_average_is_kept_once_in_our_loop_and_as_often_as_the_host_wants_in_its_own():
    class Averager(bt.Strategy):
        def __init__(self):
            self.average = bt.ind.SMA(self.data.close, period=5)
            self.later = self.average(-2)  # other numbers: stays its own

    prices = 100 + np.random.default_rng(1).random(200)

    def kept(cerebro):
        cerebro.adddata(
            bm.PerpData(dataname={"time": 1_704_067_200 + np.arange(200) * 60, **dict.fromkeys(("open", "high", "low", "close"), prices)})
        )
        cerebro.addstrategy(Averager)
        (strategy,) = cerebro.run()
        (inner,) = [indicator for indicator in strategy.average._lineiterators[0] if isinstance(indicator, bt.ind.Average)]
        return [strategy.average.lines[0].array, inner.lines[0].array, strategy.later.array]

    ours, hosts = kept(bm.Cerebro(stdstats=False)), kept(bt.Cerebro(stdstats=False))
    assert [line.tobytes() for line in ours] == [line.tobytes() for line in hosts]
    assert [len({*map(id, lines)}) for lines in (ours, hosts)] == [2, 3]


class Level(bt.Indicator):
    """Begins as the close and as an average; the strategy writes over it."""

    lines = ("level", "mean")

    def __init__(self):
        self.average = bt.ind.SMA(self.data.close, period=3)
        self.l.level = self.data.close
        self.l.mean = self.average


class Leveller(bt.Strategy):
    """Writes to lines of its indicator, and looks at what they were made of."""

    def __init__(self):
        self.level = Level(self.data)
        self.told = []

    def next(self):
        self.level.level[0] = self.level.mean[0] = 1.0
        self.told.append((self.data.close[0], self.level.average[0], self.broker.getvalue()))
        if len(self) == 5:
            self.buy(size=1)


def test_what_a_strategy_writes_into_an_indicator_stands_in_no_other_line():
    def told(cerebro):
        prices = 100 + np.random.default_rng(2).random(30)
        cerebro.adddata(
            bm.PerpData(dataname={"time": 1_704_067_200 + np.arange(30) * 60, **dict.fromkeys(("open", "high", "low", "close"), prices)})
        )
        cerebro.broker = bm.MarginBroker(cash=1_000)
        cerebro.addstrategy(Leveller)
        return cerebro.run()[0].told

    assert told(bm.Cerebro(stdstats=False)) == told(bt.Cerebro(stdstats=False))
