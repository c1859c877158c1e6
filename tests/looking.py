"""Runs to draw, and what can be read off a figure without looking at it."""

from functools import cache
from itertools import pairwise

import backtrader as bt
import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from playing import CALM, frame

from bt_margin import PerpData, TopUp, plots
from bt_margin.backtest import run
from bt_margin.result import Result

CRASH = (100, 100, 40, 60)


class Stubborn(bt.Strategy):
    """Buys whenever it holds nothing."""

    def next(self):
        if not self.position:
            self.buy()


class Once(bt.Strategy):
    """Buys on the first bar."""

    def next(self):
        if len(self) == 1:
            self.buy()


class Idle(bt.Strategy):
    """Does nothing."""


class Pair(bt.Strategy):
    """Buys the first contract and sells the second, then closes both."""

    def next(self):
        if len(self) == 2:
            self.buy(self.datas[0], size=2)
            self.sell(self.datas[1], size=3)
        if len(self) == 5:
            for data in self.datas:
                self.close(data)


@cache
def died_once() -> Result:
    """Stock Backtrader falls to 1 000 - 50 x 40 or so and comes back; the margin account does not."""
    candles = frame([CALM] * 3 + [CRASH] + [(60, 200, 60, 200)] + [(200, 200, 200, 200)] * 3)
    return run(Stubborn, {"BTCUSDT": candles}, leverage=10, cash=1_000, sizer=50, funding=0.0001, baseline=True)


@cache
def died_often() -> Result:
    prices = [100 * 0.9**step for step in range(6)]
    falls = [(now, now, now * 0.88, now * 0.9) for now in prices]
    return run(Stubborn, {"BTCUSDT": frame(falls + [CALM] * 200)}, leverage=20, margin_mode="isolated", sizer=1)


@cache
def calm() -> Result:
    """10 bought at 100 and held to 120, at a tenth of what 10x allows."""
    rows = [(100 + step, 101 + step, 98 + step, 100 + step) for step in range(21)]
    return run(Stubborn, {"BTCUSDT": frame([CALM, *rows])}, leverage=10, cash=10_000, sizer=10, funding=0.0001)


@cache
def of_two() -> Result:
    down = frame([CALM] * 3 + [(100, 101, 90, 95)] * 4)
    up = frame([(10, 11, 9, 10)] * 3 + [(10, 11.5, 9, 11)] * 4)
    modes = {"BTCUSDT": "cross", "ETHUSDT": "isolated"}
    return run(Pair, {"BTCUSDT": down, "ETHUSDT": up}, venue="generic", leverage=5, cash=1_000, margin_mode=modes)


@cache
def warned() -> Result:
    """Falls from 100 past a warning, a margin call and a top-up, rises, is warned again and dies at last."""
    prices = [100, 100, 97, 94, 91.5, 91.2, 90, 93, 99, 103, 98, 92, 90, 85, 80, 81, 83]
    bars = [(begin, max(begin, end) + 0.5, min(begin, end) - 0.2, end) for begin, end in pairwise(prices)]
    rules = {"top_up": TopUp(ratio=4.0), "warning_rate": 4.0, "call_rate": 2.7, "warning_distance": 0.05}
    return run(Once, {"BTCUSDT": frame([CALM, *bars])}, "generic", 10, "isolated", 1_000, sizer=50, **rules)


@cache
def idle() -> Result:
    return run(Idle, {"BTCUSDT": frame([CALM] * 5)}, cash=1_000)


@cache
def one_bar() -> Result:
    data = PerpData(dataname=frame([CALM]), timeframe=bt.TimeFrame.Minutes, compression=60)
    return run(Stubborn, {"BTCUSDT": data}, cash=1_000, baseline=True)


RUNS = {
    "died once": died_once,
    "died often": died_often,
    "calm": calm,
    "of two": of_two,
    "warned": warned,
    "idle": idle,
    "one bar": one_bar,
}


@cache
def drawn(picture: str, run_name: str) -> Figure:
    """Return a picture of one of RUNS; not to be changed."""
    return getattr(plots, picture)(RUNS[run_name]())


def panels_of(figure: Figure) -> list[Axes]:
    """Return every pair of axes, insets among them."""
    return [*figure.axes, *(inset for panel in figure.axes for inset in panel.child_axes)]


def deaths_of(figure: Figure) -> list[int]:
    """Return how many liquidations each pair of axes marks."""
    return [sum(len(line.get_xdata()) for line in panel.lines if line.get_marker() == "X") for panel in panels_of(figure)]


def words_of(figure: Figure) -> list[str]:
    panels = panels_of(figure)
    titles = [panel.get_title(loc) for panel in panels for loc in ("left", "center", "right")]
    return [text.get_text() for text in [*figure.texts, *(text for panel in panels for text in panel.texts)]] + titles


def panel_of(figure: Figure, beginning: str) -> Axes:
    """Return the panel whose title begins so."""
    (panel,) = (axes for axes in figure.axes if axes.get_title("left").startswith(beginning))
    return panel


def curves_of(panel: Axes, color: str, *, dashed: bool = True) -> list[pd.Series]:
    """Return the lines of a colour by time (UTC), marks and lines across the panel left out, and where asked dashed ones."""
    lines = [
        line
        for line in panel.lines
        if line.get_color() == color
        and line.get_marker() in ("", "None", "o")
        and len(line.get_xdata()) != 2
        and (dashed or line.get_linestyle() == "-")
    ]
    return [pd.Series(line.get_ydata(), index=pd.DatetimeIndex(line.get_xdata()).tz_localize("UTC")) for line in lines]


def settings() -> dict:
    """Return matplotlib's settings; looking at ``backend`` would choose one, which imports pyplot."""
    return {name: mpl.rcParams[name] for name in mpl.rcParams if name != "backend"}
