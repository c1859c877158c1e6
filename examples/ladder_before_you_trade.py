"""A ladder before the trade: what each rung does to the liquidation price, and the same ladder under a strategy that knows none."""

from pathlib import Path

from bt_margin.strategies.sma_cross import SmaCross
from matplotlib.figure import Figure

import bt_margin as bm
from bt_margin import data
from bt_margin.scalers import Funnel, GridMartingale, Rectangle, ladder_table

LADDERS = [Rectangle(step=0.05), Funnel(step=(0.05, 0.05)), GridMartingale(step=0.05, total=1, refuse="beyond")]


def main() -> None:
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    for axes, scaler in zip(figure.subplots(1, len(LADDERS), sharey=True), LADDERS, strict=True):
        table = ladder_table(scaler, side="long", entry_price=30_000, size=1, wallet=5_000, leverage=10)
        print(table, end="\n\n")
        numbers = [row.number for row in table.placed]
        axes.plot(numbers, [row.price for row in table.placed], "o-", color="#0072B2", label="rung")
        axes.plot(numbers, [row.entry_price for row in table.placed], "s--", color="#009E73", label="average entry")
        lines = [(row.number, row.liquidation_price) for row in table.placed if row.liquidation_price is not None]
        axes.plot(*zip(*lines, strict=True), "x-", color="#D55E00", label="liquidation")
        axes.set(title=type(scaler).__name__, xlabel="rungs filled", ylabel="USDT", xticks=numbers)
    axes.legend()

    terms = {"leverage": 10, "cash": 5_000, "sizer": 1, "params": {"fast": 240, "slow": 1200}}
    result = bm.run(SmaCross, {"BTCUSDT": data.load().loc["2021"]}, scaler=LADDERS[0], **terms)
    print(result, "stated policies: " + "; ".join(result.summary["flags"]), sep="\n")
    folder = Path(__file__).parent / "output"
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / "ladder_before_you_trade.png")


if __name__ == "__main__":
    main()
