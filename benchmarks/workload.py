"""The work that is measured: candles, strategies, brokers and one timed backtest. ``cases.py`` makes figures of it.

Workload W is one contract in one-minute bars, 8-hour funding and a SMA(20)/SMA(100) cross that is always in the market:
20 units long while the fast average is above the slow one, else 20 short, by market orders that fill at the next open.
Cash 100 000, 5x, a fee of 0.05 %, no observers. Prices start at 100, so that a position of 20 is 2 % of the cash and is
never near liquidation; they lie on no grid, so that the averages never tie. Stock Backtrader has no funding.
"""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import backtrader as bt
import numpy as np

import bt_margin as bm

if TYPE_CHECKING:
    import pandas as pd  # left out of processes whose memory is measured without it

CASH, LEVERAGE, FEE, UNITS, FUNDING = 100_000.0, 5.0, 0.0005, 20, 0.0001
SIGMA = 0.0006  # of one minute, about 44 % a year
TIERS = [
    (50_000, 0.004, 125),
    (250_000, 0.005, 100),
    (1_000_000, 0.01, 50),
    (5_000_000, 0.025, 20),
    (20_000_000, 0.05, 10),
    (50_000_000, 0.1, 5),
    (None, 0.125, 4),
]
FAR = 0.2  # of the price, and its reciprocal: where orders wait that no bar of the work reaches


class Trader(bt.Strategy):
    """Counts what became of its orders."""

    def __init__(self):
        self.fills = self.refusals = 0

    def notify_order(self, order):
        if order.status == order.Completed:
            self.fills += 1
        elif order.status not in (order.Submitted, order.Accepted):
            self.refusals += 1


class Cross(Trader):
    """Always in the market, on the side of the fast average."""

    def __init__(self):
        super().__init__()
        self.fast = bt.indicators.SMA(self.data.close, period=20)
        self.slow = bt.indicators.SMA(self.data.close, period=100)

    def next(self):
        target = UNITS if self.fast[0] > self.slow[0] else -UNITS
        if self.position.size != target:
            self.order_target_size(target=target)


class CrossAll(Trader):
    """The same on every data."""

    def __init__(self):
        super().__init__()
        sma = bt.indicators.SMA
        self.averages = [(data, sma(data.close, period=20), sma(data.close, period=100)) for data in self.datas]

    def next(self):
        for data, fast, slow in self.averages:
            target = UNITS if fast[0] > slow[0] else -UNITS
            if self.getposition(data).size != target:
                self.order_target_size(data, target=target)


class Idle(Trader):
    """Do nothing."""


class Hold(Trader):
    """Buy every data on the first bar and keep it."""

    def next(self):
        if len(self) == 1:
            for data in self.datas:
                self.buy(data, size=UNITS)


class Flip(Trader):
    """Turn round every so many bars."""

    params = (("every", 10),)

    def next(self):
        if len(self) % self.p.every == 1:
            self.order_target_size(target=-UNITS if self.position.size > 0 else UNITS)


class Rest(Trader):
    """Hold, with limit orders in the book that no bar reaches."""

    params = (("orders", 1),)

    def next(self):
        if len(self) == 1:
            self.buy(size=UNITS)
            for number in range(self.p.orders):
                self.buy(size=1, exectype=bt.Order.Limit, price=self.data.close[0] * (FAR + number / 1_000))


class Bracket(Trader):
    """Hold between a stop and a limit that no bar reaches."""

    def next(self):
        if len(self) == 1:
            close = self.data.close[0]
            self.buy_bracket(size=UNITS, exectype=bt.Order.Market, stopprice=close * FAR, limitprice=close / FAR)


class Dare(Trader):
    """Turn round on every bar, so that at high leverage each one begins near liquidation."""

    def next(self):
        self.order_target_size(target=-UNITS if self.position.size > 0 else UNITS)


@dataclass(frozen=True, slots=True)
class Engine:
    """How a backtest is put together: the loop, the feed made of a frame, the broker."""

    cerebro: Callable[..., Any]
    feed: Callable[[Any], Any]
    broker: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Timing:
    """CPU seconds of one backtest: feeds made and loaded, the loop after it, the series brought up to date; and the strategy."""

    feed: float
    loop: float
    series: float
    strategy: Any

    @property
    def whole(self) -> float:
        return self.feed + self.loop + self.series


class LoadClock:
    """Adds up the CPU seconds the host spends in ``_start`` and ``preload`` of the feeds it is put on."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def watch(self, data: Any) -> None:
        for name in ("_start", "preload"):
            setattr(data, name, self.timed(getattr(data, name)))

    def timed(self, call: Callable[[], None]) -> Callable[[], None]:
        def measured() -> None:
            before = time.process_time()
            call()
            self.seconds += time.process_time() - before

        return measured


def candle_columns(bars: int, seed: int = 1) -> dict[str, Any]:
    """Return a random walk of one-minute candles from 2024-01-01 as arrays; the same for the same seed, prices on no grid."""
    draw = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(draw.normal(0, SIGMA, bars)))
    opened = np.concatenate(([100.0], close[:-1])) * np.exp(draw.normal(0, SIGMA / 10, bars))
    high = np.maximum(opened, close) * (1 + draw.random(bars) * SIGMA / 2)
    low = np.minimum(opened, close) * (1 - draw.random(bars) * SIGMA / 2)
    times = np.datetime64("2024-01-01", "us") + np.arange(bars) * np.timedelta64(1, "m")
    return {"datetime": times, "open": opened, "high": high, "low": low, "close": close, "volume": draw.random(bars) * 10 + 1}


def candles(bars: int, seed: int = 1) -> "pd.DataFrame":
    """Return the same as a frame."""
    import pandas as pd

    return pd.DataFrame(candle_columns(bars, seed)).set_index("datetime")


def hours(minutes: "pd.DataFrame") -> "pd.DataFrame":
    """Return the hourly candles of minutes that begin on the hour."""
    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    return minutes.resample("h").agg(how)


def stock_broker(cash: float = CASH) -> Any:
    broker = bt.brokers.BackBroker(cash=cash)
    broker.setcommission(commission=FEE, leverage=LEVERAGE)
    return broker


def margin_broker(kind: Any = bm.MarginBroker, *, leverage: float = LEVERAGE, cash: float = CASH, **params: Any) -> Any:
    broker = kind(cash=cash, **params)
    broker.addcommissioninfo(bm.PerpCommInfo(leverage=leverage, commission=FEE, tiers=TIERS))
    return broker


def stock_feed(frame: "pd.DataFrame") -> Any:
    return bt.feeds.PandasData(dataname=frame, timeframe=bt.TimeFrame.Minutes)


def perp_feed(frame: Any) -> Any:
    return bm.PerpData(dataname=frame)


def funded_feed(frame: Any) -> Any:
    return bm.PerpData(dataname=frame, funding=FUNDING)


def engines() -> dict[str, Engine]:
    """Return what W is run with, stock first."""
    return {
        "stock": Engine(bt.Cerebro, stock_feed, stock_broker),
        "host loop": Engine(bt.Cerebro, funded_feed, margin_broker),
        "own loop": Engine(bm.Cerebro, funded_feed, margin_broker),
        "fast averages": Engine(partial(bm.Cerebro, fast_averages=True), funded_feed, margin_broker),
    }


def usual() -> Engine:
    """Return the engine that users of bt_margin get without asking for an option."""
    return engines()["own loop"]


def backtest(
    frames: Sequence[Any],
    engine: Engine,
    strategy: Any,
    *,
    equip: Callable[[Any], None] | None = None,
    stdstats: bool = False,
    reads_series: bool = True,
    **params: Any,
) -> Timing:
    """Run one backtest from frames in memory to the finished strategy; ``equip`` adds to the Cerebro what it wants.

    Series that a margin broker writes later than on its bar are read at the end, all of them, so that their cost is in.
    """
    gc.collect()
    clock = LoadClock()
    begin = time.process_time()
    cerebro = engine.cerebro(stdstats=stdstats)
    cerebro.broker = engine.broker()
    before_feeds = time.process_time()
    for number, frame in enumerate(frames):
        data = engine.feed(frame)
        clock.watch(data)
        cerebro.adddata(data, name=f"PERP{number}")
    clock.seconds += time.process_time() - before_feeds
    cerebro.addstrategy(strategy, **params)
    if equip is not None:
        equip(cerebro)
    (finished,) = cerebro.run()
    before_series = time.process_time()
    if reads_series and (record := getattr(finished.broker, "record", None)) is not None:
        record.table()  # those of bars that were passed are reckoned where they are read
    end = time.process_time()
    return Timing(clock.seconds, before_series - begin - clock.seconds, end - before_series, finished)


def yardstick(frame: "pd.DataFrame") -> float:
    """Return the CPU seconds a bar that stock Backtrader takes for W here and now."""
    return backtest([frame], engines()["stock"], Cross).whole / len(frame)


def check_same_work(stock: Any, ours: Any) -> None:
    """Stop where two runs did not do the same: the same fills, none refused, equity apart by the funding alone."""
    apart = ours.broker.getvalue() + ours.broker.journal.balances().get("funding", 0.0) - stock.broker.getvalue()
    if ours.fills != stock.fills or ours.refusals or stock.refusals or abs(apart) > 1e-6:
        raise SystemExit(
            f"the runs differ: {stock.fills} fills in stock and {ours.fills} in ours, {stock.refusals} and {ours.refusals} refusals, "
            f"equity without funding {apart} apart"
        )


def check_loop(finished: Any) -> None:
    """Stop where bt_margin's own Cerebro has run a backtest by the host's loop."""
    if reason := getattr(finished.env, "host_loop_reason", ""):
        raise SystemExit(f"the host's loop ran where the own one was to be measured: {reason}")
