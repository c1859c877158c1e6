"""Workload W with bt_margin, funding and seven tiers in."""

from typing import Any

import backtrader as bt
from common import CASH, FAST, FEE, LEVERAGE, SLOW, UNITS, frame, report

import bt_margin as bm

FUNDING = 0.0001
TIERS = [
    (50_000, 0.004, 125),
    (250_000, 0.005, 100),
    (1_000_000, 0.01, 50),
    (5_000_000, 0.025, 20),
    (20_000_000, 0.05, 10),
    (50_000_000, 0.1, 5),
    (None, 0.125, 4),
]


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
        cerebro = bm.Cerebro(stdstats=False)
        cerebro.broker = bm.MarginBroker(cash=CASH)
        cerebro.broker.addcommissioninfo(bm.PerpCommInfo(leverage=LEVERAGE, commission=FEE, tiers=TIERS))
        cerebro.adddata(bm.PerpData(dataname=candles, funding=FUNDING), name="PERP")
        cerebro.addstrategy(Cross)
        (strategy,) = cerebro.run()
        balances = cerebro.broker.journal.balances()
        return {"fills": strategy.fills, "equity": cerebro.broker.getvalue() + balances["funding"]}

    report(run)


if __name__ == "__main__":
    main()
