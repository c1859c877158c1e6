"""Buy and hold at leverage: one purchase on the first bar, and no more decisions."""

import math

import backtrader as bt


class BuyAndHold(bt.Strategy):
    """Buy ``leverage`` times the account's worth on the first bar and keep it.

    Idea: the yardstick of every strategy, and at a leverage above 1 the plainest bet that a market rises. What is held
    is never rebalanced, so the leverage falls as the price rises and grows as it falls. The size is worked out here and
    not by the sizer. One order is all there is: refused, or sold by the venue, it is not repeated.

    Params:

      - ``leverage`` (default: ``1.0``): notional over equity; the broker must allow as much
      - ``spare`` (default: ``0.02``): fraction of equity that is kept back for the fee and for a higher open

    Where it fails: at leverage L a fall of a little less than 1/L ends it, and crypto falls by half in most years. It
    does not have to be wrong about the end of the road to be gone before it; stock Backtrader shows the end of the road.
    """

    params = (("leverage", 1.0), ("spare", 0.02))

    def __init__(self):
        if not 0 < self.p.leverage < math.inf:
            raise ValueError(f"leverage must be above 0 and finite, was {self.p.leverage}")
        if not 0 <= self.p.spare < 1:
            raise ValueError(f"spare is a fraction of equity, 0 or more and below 1, was {self.p.spare}")
        self.has_bought = False

    def next(self):
        if self.has_bought:
            return
        self.has_bought = True
        # order_target_percent would do under margin, but stock Backtrader multiplies its size by the broker's leverage.
        notional = self.broker.getvalue() * (1 - self.p.spare) * self.p.leverage
        multiplier = self.broker.getcommissioninfo(self.data).p.mult
        self.buy(size=notional / (self.data.close[0] * multiplier))
