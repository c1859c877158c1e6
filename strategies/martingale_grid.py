"""Martingale grid: buy twice as much every step down, sell all a little above the average price."""

import math

import backtrader as bt


class MartingaleGrid(bt.Strategy):
    """Long always: each rung ``step`` below the last is ``factor`` times as large, and all goes at ``take_profit`` above average.

    Idea: after a fall some rise always comes, and the larger the last rung, the smaller the rise that is needed. The
    first rung is bought at the market and is as large as the sizer says; the next rung and the sale of everything rest
    as limits of which one cancels the other. When the sale has filled, the grid begins anew.

    Params:

      - ``step`` (default: ``0.02``): how far a rung lies below the fill of the one before, a fraction
      - ``factor`` (default: ``2.0``): size of a rung over that of the one before
      - ``levels`` (default: ``5``): rungs in all; at 2.0 five of them are 31 times the first
      - ``take_profit`` (default: ``0.01``): where all is sold, above the average price, a fraction

    Where it fails: it is short of the one thing it bets against, a fall that goes on. Its record is a long row of small
    wins, right up to the fall of ``levels`` steps that it has no money left to answer; then the whole stake hangs below
    the market at its largest. Stock Backtrader waits for the recovery, with an account below zero if need be. A venue
    sells at the bottom, and one such day costs more than all the wins before it.
    """

    params = (("step", 0.02), ("factor", 2.0), ("levels", 5), ("take_profit", 0.01))

    def __init__(self):
        if not (0 < self.p.step < 1 and self.p.take_profit > 0):
            raise ValueError(f"step must be between 0 and 1 and take_profit above 0, were {self.p.step} and {self.p.take_profit}")
        if not (self.p.factor > 0 and self.p.levels >= 1):
            raise ValueError(f"factor must be above 0 and levels at least 1, were {self.p.factor} and {self.p.levels}")
        self.unit = 0.0
        self.rungs = 0
        self.size = 0.0  # of the position that the resting orders were made for
        self.rung = self.sale = None
        self.is_refused = False
        self.start_below = math.inf

    def notify_order(self, order):
        if order.status in (order.Margin, order.Rejected) and self.rung is not None and order.ref == self.rung.ref:
            self.is_refused = True

    def next(self):
        size, close = self.position.size, self.data.close[0]
        if self.is_refused or size != self.size:
            self.plan(size)
        if not size and close <= self.start_below and not (self.rung is not None and self.rung.alive()):
            self.unit = self.getsizing()
            self.rung = self.buy(size=self.unit)

    def plan(self, size):
        """Make the resting orders anew, after a fill, a liquidation or a refusal."""
        for order in (self.rung, self.sale):
            if order is not None and order.alive():
                self.cancel(order)
        if size > self.size:
            self.rungs += 1
            self.start_below = math.inf
        self.size = size
        if not size:
            self.rungs = 0
            if self.is_refused:  # what was too dear is tried again a step lower
                self.start_below = self.data.close[0] * (1 - self.p.step)
        else:
            self.rest(size)
        self.is_refused = False

    def rest(self, size):
        """Offer everything at the profit, and the next rung with it unless there is none or the last one was refused."""
        self.sale = self.sell(size=size, exectype=bt.Order.Limit, price=self.position.price * (1 + self.p.take_profit))
        if self.rungs < self.p.levels and not self.is_refused:
            price = self.rung.executed.price * (1 - self.p.step)
            size = self.unit * self.p.factor**self.rungs
            self.rung = self.buy(size=size, exectype=bt.Order.Limit, price=price, oco=self.sale)
