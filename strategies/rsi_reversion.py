"""RSI mean reversion: buy what has fallen too fast, sell what has risen too fast."""

import backtrader as bt


class RsiReversion(bt.Strategy):
    """Long from RSI ``oversold`` and short from RSI ``overbought``, each until the RSI is back at ``middle``.

    Idea: a hurried move overshoots, and part of it is given back. Every swing to an extreme is traded once: whatever
    became of the trade, the next one waits until the RSI has been back at the middle. How much is traded is the sizer's
    business.

    Params:

      - ``period`` (default: ``14``): bars in Wilder's relative strength index
      - ``oversold`` (default: ``30.0``): RSI at or below which it buys
      - ``overbought`` (default: ``70.0``): RSI at or above which it sells short
      - ``middle`` (default: ``50.0``): RSI at which either trade ends

    Where it fails: in a trend. The RSI of a crash stays oversold all the way down, and this strategy bought its first
    day; it has no stop, for a stop would sell at the very extremes it lives on. It wins often and little, loses rarely
    and much, so that a good year says little about the next. With leverage the rare loss is a liquidation, and the
    recovery it was waiting for comes without it.
    """

    params = (("period", 14), ("oversold", 30.0), ("overbought", 70.0), ("middle", 50.0))

    def __init__(self):
        if not 0 < self.p.oversold < self.p.middle < self.p.overbought < 100:
            levels = f"{self.p.oversold}, {self.p.middle} and {self.p.overbought}"
            raise ValueError(f"oversold, middle and overbought must rise between 0 and 100, were {levels}")
        if not self.p.period >= 1:
            raise ValueError(f"period must be at least 1 bar, was {self.p.period}")
        self.rsi = bt.indicators.RSI(self.data.close, period=self.p.period, safediv=True)
        self.swing = 0  # the extreme that has been traded: 1 oversold, -1 overbought
        self.order = None

    def next(self):
        if self.order is not None and self.order.alive():
            return
        rsi = self.rsi[0]
        if (self.swing > 0 and rsi >= self.p.middle) or (self.swing < 0 and rsi <= self.p.middle):
            self.swing = 0
            self.order = self.close()
        elif not self.swing and not self.p.oversold < rsi < self.p.overbought:
            self.swing = 1 if rsi <= self.p.oversold else -1
            if self.position:  # the order that should have closed it was refused
                self.order = self.close()
            else:
                self.order = self.buy() if self.swing > 0 else self.sell()
