"""Hold 5 BTC on 10 000 USDT through the crash of March 2020: what the venue does, in a table and a picture."""

from pathlib import Path

import backtrader as bt

import bt_margin as bm
from bt_margin import data, plots


class BuyAndHold(bt.Strategy):
    """Buys once and never lets go."""

    def nextstart(self):
        self.buy(size=5)


def main() -> None:
    candles = data.load().loc["2020-02-01":"2020-05-31"]
    result = bm.run(BuyAndHold, {"BTCUSDT": candles}, venue="binance", leverage=10, cash=10_000, funding=0.0001, baseline=True)

    columns = ["opened", "closed", "size", "entry_price", "exit_price", "fees", "funding", "net_pnl", "liquidated"]
    print(result.trades[columns].to_string(index=False, float_format="%.2f"))
    for name in ("final_equity", "total_return", "max_drawdown", "liquidations", "liquidation_loss", "fees", "funding"):
        print(f"{name:>16} {result.summary[name]:12.4f}")
    print("stated policies: " + "; ".join(result.summary["flags"]))

    folder = Path(__file__).parent / "output"
    folder.mkdir(exist_ok=True)
    plots.overview(result).savefig(folder / "backtest_with_liquidation.png")


if __name__ == "__main__":
    main()
