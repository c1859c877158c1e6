"""Backtrader's own optstrategy on all cores, with our analyzers: the most profitable leverage stands next to the cliff."""

from pathlib import Path

import backtrader as bt
from bt_margin.strategies.buy_and_hold import BuyAndHold
from matplotlib.figure import Figure

import bt_margin as bm
from bt_margin import analyzers, data


def main() -> None:
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bm.PerpData(dataname=data.load().loc["2020"], name="BTCUSDT", funding=0.0001))
    cerebro.optstrategy(BuyAndHold, leverage=[step / 4 for step in range(2, 15)])
    cerebro.addanalyzer(analyzers.Equity, _name="equity")
    cerebro.addanalyzer(analyzers.Liquidations, _name="liquidations")
    bm.plug(cerebro, venue="binance", leverage=20, cash=10_000)

    rows = [(run[0].p.leverage, *(analyzer.get_analysis() for analyzer in run[0].analyzers)) for run in cerebro.run()]
    for leverage, equity, deaths in rows:
        print(f"{leverage:>4.2f}x: {equity['final_equity']:>12,.2f} left, liquidations: {deaths['total']}")

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([leverage for leverage, *_ in rows], [equity["final_equity"] for _, equity, _ in rows], "o-", color="#0072B2")
    axes.set(
        title="What 10,000 USDT in BTCUSDT became in 2020, bought on the first day and held", xlabel="effective leverage", ylabel="USDT"
    )
    folder = Path(__file__).parent / "output"
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / "optimise_leverage.png")


if __name__ == "__main__":
    main()
