"""A core position in cross and a bet in isolated, on one account: when the bet dies, the core does not feel it."""

from pathlib import Path

import backtrader as bt

import bt_margin as bm
from bt_margin import data, plots


class CoreAndBet(bt.Strategy):
    """Holds 2 of the core; bets 2 on every tenth day that closes above its open."""

    def next(self):
        core, bet = self.datas
        if not self.getposition(core).size:
            self.buy(core, size=2)
        if len(self) % 10 == 0 and bet.close[0] > bet.open[0] and not self.getposition(bet).size:
            self.buy(bet, size=2)


def main() -> None:
    days = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    candles = data.load().loc["2020-01":"2020-06"].resample("1D").agg(days)
    # One series is shipped, so the same candles stand in for both contracts.
    terms = {"leverage": {"CORE": 5, "BET": 20}, "margin_mode": {"CORE": "cross", "BET": "isolated"}}
    result = bm.run(CoreAndBet, {"CORE": candles, "BET": candles}, venue="generic", cash=20_000, funding=0.0001, **terms)

    columns = ["symbol", "opened", "closed", "entry_price", "exit_price", "net_pnl", "liquidated"]
    print(result.trades[columns].to_string(index=False, float_format="%.2f"))
    print(result.positions.groupby("symbol")["liquidation_price"].describe()[["count", "min", "max"]].round(2))
    print("stated policies: " + "; ".join(result.summary["flags"]))
    folder = Path(__file__).parent / "output"
    folder.mkdir(exist_ok=True)
    plots.page(result, symbol="BET").savefig(folder / "cross_and_isolated_together.png")


if __name__ == "__main__":
    main()
