"""The equity curve one can believe, beside the one stock Backtrader draws: a 10x long from the top of September 2020."""

from pathlib import Path

from bt_margin.strategies.buy_and_hold import BuyAndHold

import bt_margin as bm
from bt_margin import data, plots


def main() -> None:
    candles = data.load().loc["2020-09-01 20:00":"2021-04-30"]
    params = {"leverage": 10.5, "spare": 0}
    result = bm.run(BuyAndHold, {"BTCUSDT": candles}, venue="binance", leverage=20, params=params, funding=0.0001, baseline=True)

    print(f"Backtrader says: {result.baseline.min():,.0f}, and then {result.baseline.iloc[-1]:,.0f}")
    (row,) = result.liquidations.itertuples()
    print(f"the venue says:  liquidated {row.time:%Y-%m-%d %H:%M} UTC at {row.mark_price:,.2f}, {result.summary['final_equity']:,.2f} left")
    print("stated policies: " + "; ".join(result.summary["flags"]))
    folder = Path(__file__).parent / "output"
    folder.mkdir(exist_ok=True)
    plots.equity(result).savefig(folder / "equity_curve_plot.png")
    plots.page(result).savefig(folder / "equity_curve_plot_page.svg")


if __name__ == "__main__":
    main()
