"""Donchian breakout: follow the price out of its channel, with a stop and a target as a bracket."""

import backtrader as bt


class DonchianBreakout(bt.Strategy):
    """Long above the highest high of ``entry`` bars, short below their lowest low; out at the channel of ``exit`` bars.

    Idea: a market that makes a new extreme is on its way somewhere. The turtles traded 20 days in, 10 days out, with a
    stop two average true ranges away. An entry is a market order for the open after the breakout; its stop and its
    target rest with it as a bracket, and both are cancelled when the shorter channel ends the trade before they do. How
    much is traded is the sizer's business.

    Params:

      - ``entry`` (default: ``20``): bars in the channel that is broken to enter, the present one left out
      - ``exit`` (default: ``10``): bars in the channel that is broken to leave, fewer than in the first
      - ``atr`` (default: ``20``): bars in Wilder's average true range
      - ``stop_atr`` (default: ``2.0``): distance of the stop from the breakout's close, in average true ranges
      - ``target_atr`` (default: ``10.0``): distance of the target, far enough for the channel to come first as a rule

    Where it fails: most breakouts turn back, so it loses often and little and lives on the few that run; a range as
    wide as its channel bleeds it. A gap jumps over the stop, which is then a market order far below its price. With
    leverage the stop protects only while it is nearer than the liquidation price: two ranges of a wild market can be
    ten per cent, and at 10x the venue is there first.
    """

    params = (("entry", 20), ("exit", 10), ("atr", 20), ("stop_atr", 2.0), ("target_atr", 10.0))

    def __init__(self):
        if not 0 < self.p.exit < self.p.entry:
            raise ValueError(f"exit must be at least 1 bar and entry must be longer, were {self.p.exit} and {self.p.entry}")
        if not (self.p.atr >= 1 and self.p.stop_atr > 0 and self.p.target_atr > 0):
            distances = f"{self.p.atr}, {self.p.stop_atr} and {self.p.target_atr}"
            raise ValueError(f"atr must be at least 1 bar, stop_atr and target_atr must be above 0, were {distances}")
        highs, lows = self.data.high(-1), self.data.low(-1)
        self.upper = bt.indicators.Highest(highs, period=self.p.entry)
        self.lower = bt.indicators.Lowest(lows, period=self.p.entry)
        self.exit_upper = bt.indicators.Highest(highs, period=self.p.exit)
        self.exit_lower = bt.indicators.Lowest(lows, period=self.p.exit)
        self.range = bt.indicators.AverageTrueRange(self.data, period=self.p.atr)
        self.bracket = []
        self.leaving = None
        self.refused = 0  # side of the last refused entry: 1 long, -1 short

    def notify_order(self, order):
        if order.status in (order.Margin, order.Rejected) and order.parent is None:
            self.refused = 1 if order.isbuy() else -1

    def next(self):
        close = self.data.close[0]
        is_below, is_above = close < self.exit_lower[0], close > self.exit_upper[0]
        if (self.refused > 0 and is_below) or (self.refused < 0 and is_above):
            self.refused = 0  # the move it was refused for is over
        if self.leaving is not None and self.leaving.alive():
            return
        if self.position:
            if is_below if self.position.size > 0 else is_above:
                self.leave()
        elif not any(order.alive() for order in self.bracket):
            if close > self.upper[0] and self.refused <= 0:
                self.enter(is_long=True)
            elif close < self.lower[0] and self.refused >= 0:
                self.enter(is_long=False)

    def enter(self, *, is_long):
        size = self.getsizing(isbuy=is_long)
        if not size:  # the host cannot make a bracket of nothing
            return
        place, sign = (self.buy_bracket, 1) if is_long else (self.sell_bracket, -1)
        close = self.data.close[0]
        target = max(close + sign * self.p.target_atr * self.range[0], close / 100)
        self.bracket = place(size=size, exectype=bt.Order.Market, stopprice=self.stop_for(self.data, is_long), limitprice=target)

    def stop_for(self, data, isbuy):
        """Return where an entry made now has its stop; sizers that size by the stop ask for it."""
        close = data.close[0]
        # An exit at or below 0 is no price, and in a wild market ten ranges can be more than the whole of it.
        return max(close - (1 if isbuy else -1) * self.p.stop_atr * self.range[0], close / 100)

    def leave(self):
        """Take the bracket's exits out of the book before selling, or stop and sale could both fill on the next bar."""
        for order in self.bracket:
            if order.alive():
                self.cancel(order)
        self.leaving = self.close()
