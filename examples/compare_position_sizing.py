"""Five sizers, the same signals, three leverages: what each rule is worth once liquidation is counted."""

from pathlib import Path

import backtrader as bt
import pandas as pd
from bt_margin.strategies.sma_cross import SmaCross

import bt_margin as bm
from bt_margin import data, plots

SIZERS = {
    "1 BTC": (bt.sizers.FixedSize, {"stake": 1}),
    "50 % cash": (bt.sizers.PercentSizer, {"percents": 50}),
    "all in": (bt.sizers.AllInSizer, {"percents": 95}),
    "2 x equity": (bm.sizers.EquityFraction, {"fraction": 2}),
    "half as margin": (bm.sizers.MarginFraction, {"fraction": 0.5}),
}
COLUMNS = ["final_equity", "max_drawdown", "trades", "liquidations", "liquidation_loss", "fees", "funding"]
TERMS = {"data": {"BTCUSDT": data.load().loc["2020"]}, "margin_mode": "isolated", "funding": 0.0001}


def compare() -> dict[str, bm.Result]:
    rules = [(leverage, name) for leverage in (3, 10, 20) for name in SIZERS]
    return {f"{name} at {leverage}x": bm.run(SmaCross, **TERMS, leverage=leverage, sizer=SIZERS[name]) for leverage, name in rules}


def main() -> None:
    results = compare()
    table = pd.DataFrame([result.summary for result in results.values()], index=list(results))[COLUMNS]
    print(table.sort_values("final_equity", ascending=False).round(2).to_string())
    print("stated policies: " + "; ".join(results["1 BTC at 3x"].summary["flags"]))
    (folder := Path(__file__).parent / "output").mkdir(exist_ok=True)
    plots.compare(results).savefig(folder / "compare_position_sizing.png")


if __name__ == "__main__":
    main()
