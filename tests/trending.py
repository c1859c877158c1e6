"""A trend whose stops are orders at the venue, for what is told of sizes and stops."""

import backtrader as bt


class Trend(bt.Strategy):
    """Follows breakouts both ways with a stop ``stop_atr`` ranges away as a bracket; gives its stop to sizers."""

    params = (("period", 24), ("stop_atr", 2.0), ("target_atr", 6.0))

    def __init__(self):
        self.upper = bt.ind.Highest(self.data.high(-1), period=self.p.period)
        self.lower = bt.ind.Lowest(self.data.low(-1), period=self.p.period)
        self.range = bt.ind.ATR(period=14)
        self.bracket = []

    def next(self):
        if self.position or any(order.alive() for order in self.bracket):
            return
        close = self.data.close[0]
        for isbuy, signal in ((True, close > self.upper[0]), (False, close < self.lower[0])):
            amount = self.getsizing(isbuy=isbuy) if signal else 0
            if amount:
                side = 1 if isbuy else -1
                place = self.buy_bracket if isbuy else self.sell_bracket
                target = max(close + side * self.p.target_atr * self.range[0], close / 100)
                self.bracket = place(size=amount, exectype=bt.Order.Market, stopprice=self.stop_for(self.data, isbuy), limitprice=target)

    def stop_for(self, data, isbuy):
        return max(data.close[0] - (1 if isbuy else -1) * self.p.stop_atr * self.range[0], data.close[0] / 100)
