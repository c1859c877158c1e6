"""Volatility-targeted trend: hold the trend, more of it in a quiet market and less in a wild one."""

import math

import backtrader as bt


class VolatilityTarget(bt.Strategy):
    """Hold ``target_vol`` / volatility of equity in the direction of the trend, long or short, at most ``max_leverage``.

    Idea: volatility is easier to foresee than return. A position of constant risk, not of constant size, evens out what
    a trend follower earns. The trend is up while EMA(``fast``) is above EMA(``slow``). Volatility is the root of the
    exponential average of squared returns times the bars in a year of 365 days. The position is brought to its target by
    ``order_target_percent``, and left alone while it is within ``buffer`` of it.

    Params:

      - ``fast`` (default: ``100``): bars in the fast average
      - ``slow`` (default: ``400``): bars in the slow average, more than in the fast one
      - ``vol_span`` (default: ``168``): span in bars of the average of squared returns; an order that was refused is not
        repeated for as long
      - ``bars_per_year`` (default: ``8760``): bars in 365 days, 24 x 365 for hours and 365 for days
      - ``target_vol`` (default: ``0.4``): volatility of the account in a year, a fraction
      - ``max_leverage`` (default: ``2.0``): largest position, notional over equity
      - ``buffer`` (default: ``0.1``): how far the position may be from its target, as a fraction of the target
      - ``allow_short`` (default: ``True``): whether a falling trend is sold short; otherwise it is sat out

    Where it fails: volatility is measured after the fact. A calm market has it at its largest when the shock comes, and
    it then sells at the bottom what it bought at the top. Without a trend it turns to and fro and pays each time. At
    ``max_leverage`` near the venue's it is liquidated by the first such shock, and rebuilds the position on the next
    bar. Stock Backtrader trades whole units only and multiplies the size of such orders by its own leverage once more:
    give it leverage 1 there.
    """

    params = (
        ("fast", 100),
        ("slow", 400),
        ("vol_span", 168),
        ("bars_per_year", 8760),
        ("target_vol", 0.4),
        ("max_leverage", 2.0),
        ("buffer", 0.1),
        ("allow_short", True),
    )

    def __init__(self):
        if not 0 < self.p.fast < self.p.slow:
            raise ValueError(f"fast must be at least 1 bar and slow must be longer, were {self.p.fast} and {self.p.slow}")
        if not (self.p.vol_span >= 1 and self.p.bars_per_year > 0):
            raise ValueError(f"vol_span and bars_per_year must be at least 1, were {self.p.vol_span} and {self.p.bars_per_year}")
        if not (self.p.target_vol > 0 and 0 < self.p.max_leverage < math.inf):
            raise ValueError(
                f"target_vol must be above 0 and max_leverage above 0 and finite, were {self.p.target_vol} and {self.p.max_leverage}"
            )
        if not 0 <= self.p.buffer < 1:
            raise ValueError(f"buffer is a fraction of the target, 0 or more and below 1, was {self.p.buffer}")
        self.fast = bt.indicators.ExponentialMovingAverage(self.data.close, period=self.p.fast)
        self.slow = bt.indicators.ExponentialMovingAverage(self.data.close, period=self.p.slow)
        move = self.data.close / self.data.close(-1) - 1.0
        self.variance = bt.indicators.ExponentialMovingAverage(move * move, period=self.p.vol_span)
        self.order = None
        self.resting_until = 0

    def notify_order(self, order):
        if order.status in (order.Margin, order.Rejected):
            self.resting_until = len(self) + self.p.vol_span

    def next(self):
        equity = self.broker.getvalue()
        if equity <= 0 or len(self) < self.resting_until or (self.order is not None and self.order.alive()):
            return
        target = self.target()
        held = self.broker.getvalue([self.data]) / equity
        if abs(held - target) > self.p.buffer * abs(target):
            self.order = self.order_target_percent(target=target)

    def target(self):
        """Return the position to hold, signed, as notional over equity."""
        is_rising, is_falling = self.fast[0] > self.slow[0], self.fast[0] < self.slow[0]
        side = 1 if is_rising else -1 if is_falling and self.p.allow_short else 0
        volatility = math.sqrt(self.variance[0] * self.p.bars_per_year)
        return side * (min(self.p.target_vol / volatility, self.p.max_leverage) if volatility else self.p.max_leverage)
