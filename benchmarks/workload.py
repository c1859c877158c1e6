"""The work that is measured. ``run.py`` starts this file once for each group of figures and reads the JSON it prints.

Workload W is one contract in one-minute bars, 8-hour funding and a SMA(20)/SMA(100) cross that is always in the market:
20 units long while the fast average is above the slow one, else 20 short, by market orders that fill at the next open.
Cash 100 000, 5x, a fee of 0.05 %, no observers. Prices start at 100, so that a position of 20 is 2 % of the cash and is
never near liquidation; they lie on no grid, so that the averages never tie. Stock Backtrader has no funding.
"""

import argparse
import gc
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
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


class Cross(bt.Strategy):
    """Always in the market, on the side of the fast average."""

    def __init__(self):
        self.fast = bt.indicators.SMA(self.data.close, period=20)
        self.slow = bt.indicators.SMA(self.data.close, period=100)
        self.fills = self.refusals = 0

    def notify_order(self, order):
        if order.status == order.Completed:
            self.fills += 1
        elif order.status not in (order.Submitted, order.Accepted):
            self.refusals += 1

    def next(self):
        target = UNITS if self.fast[0] > self.slow[0] else -UNITS
        if self.position.size != target:
            self.order_target_size(target=target)


class Idle(bt.Strategy):
    """Do nothing."""


class Hold(bt.Strategy):
    """Buy every data on the first bar and keep it."""

    def next(self):
        if len(self) == 1:
            for data in self.datas:
                self.buy(data, size=2)


@dataclass(frozen=True, slots=True)
class Timing:
    """CPU seconds of one backtest: feeds made and loaded, the loop after it; and the finished strategy."""

    feed: float
    loop: float
    strategy: Any

    @property
    def whole(self) -> float:
        return self.feed + self.loop


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


def stock_broker() -> Any:
    broker = bt.brokers.BackBroker(cash=CASH)
    broker.setcommission(commission=FEE, leverage=LEVERAGE)
    return broker


def margin_broker() -> Any:
    broker = bm.MarginBroker(cash=CASH)
    broker.addcommissioninfo(bm.PerpCommInfo(leverage=LEVERAGE, commission=FEE, tiers=TIERS))
    return broker


def stock_feed(frame: "pd.DataFrame") -> Any:
    return bt.feeds.PandasData(dataname=frame, timeframe=bt.TimeFrame.Minutes)


def perp_feed(frame: "pd.DataFrame") -> Any:
    return bm.PerpData(dataname=frame)


def funded_feed(frame: Any) -> Any:
    return bm.PerpData(dataname=frame, funding=FUNDING)


def backtest(frames: list[Any], make_feed: Callable[[Any], Any], make_broker: Callable[[], Any], strategy: Any) -> Timing:
    """Run one backtest from frames in memory to the finished strategy."""
    gc.collect()
    clock = LoadClock()
    begin = time.process_time()
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = make_broker()
    before_feeds = time.process_time()
    for number, frame in enumerate(frames):
        data = make_feed(frame)
        clock.watch(data)
        cerebro.adddata(data, name=f"PERP{number}")
    clock.seconds += time.process_time() - before_feeds
    cerebro.addstrategy(strategy)
    (finished,) = cerebro.run()
    whole = time.process_time() - begin
    return Timing(clock.seconds, whole - clock.seconds, finished)


def check_same_work(stock: Any, ours: Any) -> None:
    """Stop where two runs did not do the same: the same fills, none refused, equity apart by the funding alone."""
    apart = ours.broker.getvalue() + ours.broker.journal.balances()["funding"] - stock.broker.getvalue()
    if ours.fills != stock.fills or ours.refusals or stock.refusals or abs(apart) > 1e-6:
        raise SystemExit(
            f"the runs differ: {stock.fills} fills in stock and {ours.fills} in ours, {stock.refusals} and {ours.refusals} refusals, "
            f"equity without funding {apart} apart"
        )


def measure_whole(bars: int, rounds: int) -> dict[str, Any]:
    """Return the CPU seconds of W in every round, stock and ours in turn."""
    frame = candles(bars)
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        stock = backtest([frame], stock_feed, stock_broker, Cross)
        ours = backtest([frame], funded_feed, margin_broker, Cross)
        check_same_work(stock.strategy, ours.strategy)
        for name, timing in (("stock", stock), ("ours", ours)):
            for part in ("feed", "loop", "whole"):
                seconds.setdefault(f"{name} {part}", []).append(getattr(timing, part))
    return {"seconds": seconds, "fills": stock.strategy.fills}


def measure_swap(bars: int, rounds: int) -> dict[str, Any]:
    """Return the CPU seconds of the loop alone when nothing but the broker is exchanged: ten positions on a tenth of the bars."""
    one, ten = [candles(bars)], [candles(bars // 10, seed) for seed in range(1, 11)]
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        for feed_name, feed in (("PandasData", stock_feed), ("PerpData", perp_feed)):
            for case, frames, strategy in (("flat", one, Idle), ("one position", one, Hold), ("ten positions", ten, Hold)):
                for name, broker in (("stock", stock_broker), ("ours", margin_broker)):
                    timing = backtest(frames, feed, broker, strategy)
                    seconds.setdefault(f"{feed_name}, {case}, {name}", []).append(timing.loop)
    return {"seconds": seconds}


def run_once(engine: str, bars: int) -> dict[str, Any]:
    """Run W once and return its fills; the caller measures this whole process."""
    feed, broker = (stock_feed, stock_broker) if engine == "stock" else (funded_feed, margin_broker)
    return {"fills": backtest([candles(bars)], feed, broker, Cross).strategy.fills}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure one group of figures and print them as JSON.")
    parser.add_argument("group", choices=("whole", "swap", "stock-process", "ours-process"))
    parser.add_argument("--bars", type=int, required=True)
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    if asked.group == "whole":
        found = measure_whole(asked.bars, asked.rounds)
    elif asked.group == "swap":
        found = measure_swap(asked.bars, asked.rounds)
    else:
        found = run_once(asked.group.partition("-")[0], asked.bars)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
