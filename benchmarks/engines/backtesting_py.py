"""Workload W with backtesting.py."""

from typing import Any

import pandas as pd
from backtesting import Backtest, Strategy
from common import CASH, FAST, FEE, LEVERAGE, SLOW, UNITS, frame, report


def mean(prices: Any, period: int) -> Any:
    return pd.Series(prices).rolling(period).mean()


class Cross(Strategy):
    fills = 0

    def init(self) -> None:
        self.fast = self.I(mean, self.data.Close, FAST)
        self.slow = self.I(mean, self.data.Close, SLOW)

    def next(self) -> None:
        target = UNITS if self.fast[-1] > self.slow[-1] else -UNITS
        if self.position.size != target:
            change = target - self.position.size
            (self.buy if change > 0 else self.sell)(size=abs(change))
            Cross.fills += 1


def main() -> None:
    candles = frame().rename(columns=str.capitalize)

    def run() -> dict[str, Any]:
        found = Backtest(candles, Cross, cash=CASH, margin=1 / LEVERAGE, commission=FEE).run()
        return {"fills": Cross.fills, "equity": float(found["Equity Final [$]"])}

    report(run)


if __name__ == "__main__":
    main()
