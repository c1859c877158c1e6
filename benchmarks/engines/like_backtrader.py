"""Workload W with Backtrader, or with an engine that has its interface: the module to import is the second argument."""

import importlib
import sys
from typing import Any

from common import CASH, FAST, FEE, LEVERAGE, SLOW, UNITS, frame, report

bt = importlib.import_module(sys.argv[2])


class Cross(bt.Strategy):
    def __init__(self) -> None:
        self.fast = bt.indicators.SMA(self.data.close, period=FAST)
        self.slow = bt.indicators.SMA(self.data.close, period=SLOW)
        self.fills = 0

    def notify_order(self, order: Any) -> None:
        self.fills += order.status == order.Completed

    def next(self) -> None:
        target = UNITS if self.fast[0] > self.slow[0] else -UNITS
        if self.position.size != target:
            self.order_target_size(target=target)


def main() -> None:
    candles = frame()

    def run() -> dict[str, Any]:
        cerebro = bt.Cerebro(stdstats=False)
        given = {"dataframe" if bt.__name__ == "backtrader_next" else "dataname": candles}
        cerebro.adddata(bt.feeds.PandasData(**given, timeframe=bt.TimeFrame.Minutes))
        cerebro.broker.setcash(CASH)
        cerebro.broker.setcommission(commission=FEE, leverage=LEVERAGE)
        cerebro.addstrategy(Cross)
        (strategy,) = cerebro.run()
        return {"fills": strategy.fills, "equity": cerebro.broker.getvalue()}

    report(run)


if __name__ == "__main__":
    main()
