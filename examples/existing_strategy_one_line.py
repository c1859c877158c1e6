"""A Backtrader script as it stands in a thousand notebooks, and the one line that puts it under a venue's rules.

Its candles are stamped at their open, as most files are; the line says so.
"""

from pathlib import Path

import backtrader as bt
from bt_margin.strategies.martingale_grid import MartingaleGrid

import bt_margin as bm
from bt_margin import data, plots


def run(*, under_margin: bool) -> bt.Strategy:
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=data.load().loc["2020"], timeframe=bt.TimeFrame.Minutes, compression=60), name="BTCUSDT")
    cerebro.addstrategy(MartingaleGrid)
    cerebro.addsizer(bt.sizers.FixedSize, stake=0.1)
    cerebro.broker.setcash(10_000)
    cerebro.broker.setcommission(commission=0.0005, leverage=10)
    if under_margin:
        bm.plug(cerebro, venue="binance", leverage=10, stamp="open")  # the one line
    return cerebro.run()[0]


def main() -> None:
    claim = run(under_margin=False).broker.getvalue()
    result = bm.Result.of(run(under_margin=True))
    print(f"stock Backtrader: 10,000 became {claim:,.0f}")
    print(f"under margin:     10,000 became {result.summary['final_equity']:,.0f}, liquidations: {result.summary['liquidations']}")
    print("stated policies: " + "; ".join(result.summary["flags"]))
    folder = Path(__file__).parent / "output"
    folder.mkdir(exist_ok=True)
    plots.page(result).savefig(folder / "existing_strategy_one_line.png")


if __name__ == "__main__":
    main()
