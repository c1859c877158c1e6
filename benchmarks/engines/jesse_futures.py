"""Workload W with jesse. A position is closed by one order and the other side opened by another, a bar later."""

import os
from typing import Any

import numpy as np

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jesse.indicators as ta
from common import CASH, FAST, FEE, LEVERAGE, SLOW, UNITS, columns, report
from jesse import research
from jesse.strategies import Strategy

VENUE, SYMBOL = "Binance Perpetual Futures", "BTC-USDT"


class Cross(Strategy):
    def is_above(self) -> bool:
        return ta.sma(self.candles, FAST) > ta.sma(self.candles, SLOW)

    def is_known(self) -> bool:
        return len(self.candles) >= SLOW

    def should_long(self) -> bool:
        return self.is_known() and self.is_above()

    def should_short(self) -> bool:
        return self.is_known() and not self.is_above()

    def go_long(self) -> None:
        self.buy = UNITS, self.price

    def go_short(self) -> None:
        self.sell = UNITS, self.price

    def update_position(self) -> None:
        if self.is_long != self.is_above():
            self.liquidate()


def main() -> None:
    found = columns()
    rows = np.column_stack(
        [found["time"] // 1_000_000, *(found[name] for name in ("open", "close", "high", "low", "volume"))]
    )  # jesse's order
    config = {
        "starting_balance": CASH,
        "fee": FEE,
        "type": "futures",
        "futures_leverage": int(LEVERAGE),
        "futures_leverage_mode": "isolated",
        "exchange": VENUE,
        "warm_up_candles": 0,
    }
    routes = [{"exchange": VENUE, "strategy": Cross, "symbol": SYMBOL, "timeframe": "1m"}]
    candles = {f"{VENUE}-{SYMBOL}": {"exchange": VENUE, "symbol": SYMBOL, "candles": rows}}

    def run() -> dict[str, Any]:
        metrics = research.backtest(config, routes, [], candles, fast_mode=True)["metrics"]
        return {"fills": 2 * metrics["total"], "equity": float(metrics["finishing_balance"])}

    report(run)


if __name__ == "__main__":
    main()
