"""Strategies and sizers that worker processes import by the name of this file."""

import os
from pathlib import Path

import backtrader as bt


class Flips(bt.Strategy):
    """Turns round where the fast average crosses the slow one, by orders of the sizer's size."""

    params = (("fast", 3), ("slow", 8))

    def __init__(self):
        self.sign = bt.ind.SMA(self.data, period=self.p.fast) > bt.ind.SMA(self.data, period=self.p.slow)

    def next(self):
        if self.position and (self.position.size > 0) != bool(self.sign[0]):
            self.close()
        elif not self.position:
            (self.buy if self.sign[0] else self.sell)()


class Holds(bt.Strategy):
    """Buys every data once."""

    def next(self):
        if len(self) == 1:
            for data in self.datas:
                self.buy(data)


class Rests(bt.Strategy):
    """Does nothing."""


class Breaks(Holds):
    """Raises on its tenth bar."""

    def next(self):
        super().next()
        if len(self) == 10:
            raise KeyError("no such thing")


class BreaksBelow(Holds):
    """Raises where the price falls below 20 000, as it does on some paths only."""

    def next(self):
        super().next()
        if self.data.close[0] < 20_000:
            raise RuntimeError("too low")


class Tenth(bt.Sizer):
    """A tenth of a contract."""

    def _getsizing(self, comminfo, cash, data, isbuy):
        return 0.1


class AlsoTenth(Tenth):
    """The same under another name."""


class Counting(Rests):
    """Leaves a file for every run in the folder that the environment names."""

    def stop(self):
        folder = Path(os.environ["LAB_RUNS"])
        (folder / f"run {len(list(folder.iterdir()))}").touch()
