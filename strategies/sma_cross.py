"""Moving-average cross: hold the market while its fast average is above its slow one."""

import backtrader as bt


class SmaCross(bt.Strategy):
    """Long while SMA(``fast``) is above SMA(``slow``), flat otherwise.

    Idea: markets trend for longer than traders expect; two averages see a trend late, but they never miss a long one.
    50 and 200 days are the "golden cross". How much is bought is the sizer's business.

    Params:

      - ``fast`` (default: ``50``): bars in the fast average
      - ``slow`` (default: ``200``): bars in the slow average, more than in the fast one

    Where it fails: in a market that goes sideways it buys high and sells low, again and again; in a crash the averages
    turn long after the price has, so it sits through the whole fall. With leverage, the second is fatal: it has no stop,
    and when a venue has sold it out on the way down it buys again on the next bar, for the averages have not crossed
    yet. Only an order that is refused makes it wait for the next cross.
    """

    params = (("fast", 50), ("slow", 200))

    def __init__(self):
        if not 0 < self.p.fast < self.p.slow:
            raise ValueError(f"fast must be at least 1 bar and slow must be longer, were {self.p.fast} and {self.p.slow}")
        # SimpleMovingAverage adds up each window anew; a running total makes 200 days of hours as cheap as 200 days.
        total = bt.indicators.Accum(self.data.close)
        self.fast = (total - total(-self.p.fast)) / self.p.fast
        self.slow = (total - total(-self.p.slow)) / self.p.slow
        self.is_waiting = False
        self.order = None

    def notify_order(self, order):
        if order.status in (order.Margin, order.Rejected):
            self.is_waiting = True

    def next(self):
        if self.order is not None and self.order.alive():
            return
        is_rising = self.fast[0] > self.slow[0]
        if not is_rising:
            self.is_waiting = False
            if self.position:
                self.order = self.close()
        elif not self.position and not self.is_waiting:
            self.order = self.buy()
