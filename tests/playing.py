"""Play a scripted strategy over frames of a few bars, for tests whose numbers can be redone by hand.

Unless a test says otherwise: no fees, flat maintenance 1 %, 10x isolated, 1 000 of cash, profile 'market' without a
liquidation fee. A long of 1 at 100 holds 10 of margin, is bankrupt at 90 and dies at 90 / 0.99 = 90.909.
"""

from collections.abc import Callable

import backtrader as bt
import pandas as pd

from bt_margin import MarginBroker, PerpCommInfo, PerpData

Action = Callable[[bt.Strategy], None]


class Script(bt.Strategy):
    """Does one scripted thing after each bar: ``script[n]`` after bar n (from 1), so its orders fill on bar n + 1."""

    params = (("script", None),)

    def __init__(self):
        self.orders: dict[int, tuple] = {}
        self.events: list[dict] = []
        self.cash: list[float] = []

    def notify_order(self, order):
        self.orders[order.ref] = (order.getstatusname(), order.executed.size, order.executed.price, order.executed.comm, order.info)

    def notify_margin(self, event):
        self.events.append(event)

    def next(self):
        self.cash.append(self.broker.getcash())
        action = self.p.script.get(len(self.data))
        if action is not None:
            action(self)


def frame(rows, *, start="2024-01-01 01:00", freq="h", marks=None, drop=()) -> pd.DataFrame:
    """Return candles from (open, high, low, close) rows; ``drop`` leaves bars out."""
    index = pd.date_range(start, periods=len(rows), freq=freq, tz="UTC")
    candles = pd.DataFrame(rows, columns=["open", "high", "low", "close"], index=index, dtype=float)
    candles["volume"] = 1.0
    if marks is not None:
        candles[["mark_open", "mark_high", "mark_low", "mark_close"]] = pd.DataFrame(marks, index=index, dtype=float)
    return candles.drop(candles.index[list(drop)])


def play(script, *candles, funding=None, terms=None, detail=(None,) * 3, **broker_args):
    """Run a script over one or more data frames (AAA, BBB, ...), ``detail`` inside each, and return its strategy."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(**{"cash": 1_000, "margin_mode": "isolated", "check": True, **broker_args})
    comminfo = {"leverage": 10, "tiers": 0.01, "liquidation_fee": 0.0, **(terms or {})}
    cerebro.broker.addcommissioninfo(PerpCommInfo(**comminfo))
    for number, candle_frame in enumerate(candles):
        cerebro.adddata(PerpData(dataname=candle_frame, name="ABC"[number] * 3, funding=funding, detail=detail[number]))
    cerebro.addstrategy(Script, script=script)
    return cerebro.run()[0]


def buy(**kwargs) -> Action:
    return lambda strategy: strategy.buy(**{"size": 1, **kwargs})


def sell(**kwargs) -> Action:
    return lambda strategy: strategy.sell(**{"size": 1, **kwargs})


def close(strategy) -> None:
    strategy.close()


CALM = (100, 101, 99, 100)


def rate_column(**rates: float) -> pd.Series:
    """Return funding rates by stamp: ``d0108=0.01`` is 1 % at 08:00 on the first of January 2024."""
    return pd.Series({pd.Timestamp(f"2024-01-{key[1:3]} {key[3:]}:00", tz="UTC"): rate for key, rate in rates.items()})
