"""Build the gallery: five backtests, each as a page, a picture and ten lines of text.

    python docs/gallery.py FOLDER

FOLDER holds the candles, as data/windows and data/series of the reference data do; else BT_MARGIN_REFERENCE/data is
taken. Writes docs/gallery/README.md with its pictures (kept in the repository) and the pages NAME.html (not kept: each has
plotly's script inside). The same bytes every time.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import backtrader as bt
import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from strategies.buy_and_hold import BuyAndHold  # noqa: E402  # strategies stand at the top of the checkout
from strategies.funding_carry import FundingCarry  # noqa: E402
from strategies.martingale_grid import MartingaleGrid  # noqa: E402

import bt_margin as bm  # noqa: E402
from bt_margin import Report, plots  # noqa: E402

GALLERY = Path(__file__).parent / "gallery"
HEAD = """# Gallery

Five backtests on exchange records, each told by its picture and ten lines; the numbers are written by the program that draws them.
`python docs/gallery.py FOLDER` builds this page, its pictures, and one interactive page for each (NAME.html beside this file:
zoom, crosshair, what would have prevented each liquidation). All times are UTC, bars are named by their close.
"""


class Pair(bt.Strategy):
    """Buys the first contract and sells the second on the first bar, each worth ``leverage`` times the account."""

    params = (("leverage", 1.0),)

    def next(self):
        if len(self) > 1:
            return
        worth = self.p.leverage * self.broker.getvalue()
        self.buy(self.datas[0], size=worth / self.datas[0].close[0])
        self.sell(self.datas[1], size=worth / self.datas[1].close[0])


class Story(NamedTuple):
    """One piece of the gallery: its file's name, its title, how it is run, and what is said of it."""

    name: str
    title: str
    play: Callable[[Path], bm.Result]
    tell: Callable[[Path, bm.Result], str]
    symbol: str | None = None


def window(folder: Path, event: str, symbol: str) -> pd.DataFrame:
    """Return candles with mark and funding of one event."""
    path = folder / "windows" / event / f"binance-{symbol}-1h-futures_mark_funding.csv"
    return pd.read_csv(path, index_col="datetime", parse_dates=True)


def crash(folder: Path) -> bm.Result:
    candles = {"BTCUSDT": window(folder, "2020-03-12_covid", "BTCUSDT")}
    return bm.run(BuyAndHold, candles, leverage=10, params={"leverage": 4}, baseline=True)


def tell_crash(folder: Path, result: bm.Result) -> str:
    (row,) = result.liquidations.itertuples()
    return f"""A long of four times the account, bought on 5 March 2020 and left alone.
Bitcoin traded at {row.entry_price:,.0f} then. A week later it had halved within a day.
Nothing was decided badly in between; nothing was decided at all.
On {row.time:%d March at %H:%M} the mark met {row.mark_price:,.2f}: what was left no longer covered the maintenance margin.
The venue took over {row.size:g} BTC. Of {result.summary["start_cash"]:,.0f} USDT, {result.summary["final_equity"]:,.2f} remained.
{row.to_insurance_fund:,.2f} USDT went to its insurance fund.
Stock Backtrader goes on holding. Its account sinks to {result.baseline.min():,.0f} USDT and ends at {result.baseline.iloc[-1]:,.0f}.
To survive that bar alone, {row.margin_to_add:,.0f} USDT more had to be in the wallet,
or the position had to be below {row.safe_leverage:.2f} times the wallet's money.
The price did not come back within the week, but that is no longer this account's concern."""


def saved(folder: Path) -> bm.Result:
    candles = {"ETHUSDT": window(folder, "2021-05-19", "ETHUSDT").loc["2021-05-18 22:00":]}
    return bm.run(BuyAndHold, candles, leverage=2, margin_mode="isolated", baseline=True)


def tell_saved(folder: Path, result: bm.Result) -> str:
    candles = window(folder, "2021-05-19", "ETHUSDT").loc["2021-05-18 22:00":]
    last_alone = candles[["open", "high", "low", "close", "volume", "funding_rate"]]
    other = bm.run(BuyAndHold, {"ETHUSDT": last_alone}, leverage=2, margin_mode="isolated")
    (row,) = other.liquidations.itertuples()
    worst = candles["low"].idxmin()
    price = result.positions["liquidation_price"].iloc[0]
    (call,) = result.excursions.itertuples()
    return f"""An isolated long at 2x, opened on the eve of 19 May 2021 at {result.positions["entry_price"].iloc[0]:,.2f}.
Its liquidation price is {price:,.2f}.
In the hour from {worst:%H:%M} on 19 May the last price touched {candles.loc[worst, "low"]:,.2f}, far below it.
The mark price, an index of several venues, fell to {candles.loc[worst, "mark_low"]:,.2f} and no further.
The mark decides, so the position lived: the chart crosses the red line and nothing happens.
Its closest call came later, on {call.time:%d May at %H:%M}, when the mark itself was {100 * result.summary["closest_call"]:.2f} % away.
The same run without mark candles, the last price standing in, is liquidated on {row.time:%d May at %H:%M} at {row.mark_price:,.2f},
and ends with {other.summary["final_equity"]:,.2f} USDT instead of {result.summary["final_equity"]:,.2f}.
A backtest that tests its lows would have called this strategy dead; one that tests closes would not have noticed the hour.
Neither would have been right for the right reason."""


def unravelled(folder: Path) -> bm.Result:
    candles = {symbol: window(folder, "2025-10-10", symbol) for symbol in ("LINKUSDT", "BTCUSDT")}
    return bm.run(Pair, candles, leverage=10, params={"leverage": 3.0}, baseline=True)


def tell_unravelled(folder: Path, result: bm.Result) -> str:
    rows = result.liquidations
    first = rows.iloc[0]
    legs = ", then ".join(dict.fromkeys(rows["symbol"]))
    fall = result.candles("LINKUSDT").loc[first["time"]]
    return f"""Long LINK and short BTC, three times the account each: market-neutral, said the idea.
Both legs share one cross wallet, so the profit of one carries the loss of the other.
On 10 October 2025 BTC fell too, and the short earned. LINK fell from {fall["open"]:,.2f} to {fall["low"]:,.2f} within one hour.
Its mark fell as far. At {first["mark_price"]:,.3f} the wallet no longer covered what both legs need, in the hour to {first["time"]:%H:%M}.
Liquidated: {legs}, {len(rows)} {"step" if len(rows) == 1 else "steps"} in all, {-result.summary["liquidation_loss"]:,.0f} USDT lost in them.
{result.summary["final_equity"]:,.2f} of {result.summary["start_cash"]:,.0f} USDT were left a week later.
A hedge between two coins is a bet on their ratio, and the ratio has tails of its own.
Stock Backtrader sinks to {result.baseline.min():,.0f} USDT and ends at {result.baseline.iloc[-1]:,.0f}: the rebound comes for those who are still there.
{first["margin_to_add"]:,.0f} USDT more in the wallet would have carried the pair through that hour.
With isolated margin LINK would have died earlier, and BTC would have stayed open without its other half."""


def carry(folder: Path) -> bm.Result:
    rows = pd.read_parquet(folder / "series" / "binance_bybit_okx-8h-spot_perp_funding_2023-01_2024-07.parquet")
    rows = rows[rows["exchange"] == "binance"].set_index("datetime")
    perpetual, spot = (rows[rows["pair"] == pair] for pair in ("BTCUSDT", "BTC/USDT"))
    prices = ["open", "high", "low", "close", "volume"]
    common = perpetual.index.intersection(spot.index)
    data = {"BTCUSDT": perpetual.loc[common, prices], "BTC": spot.loc[common, prices]}
    funding = {"BTCUSDT": perpetual["funding_rate"].dropna(), "BTC": None}
    return bm.run(FundingCarry, data, leverage=3, funding=funding, spot={"BTC": 0.001}, params={"period": 3})


def tell_carry(folder: Path, result: bm.Result) -> str:
    summary, funding = result.summary, result.funding["amount"]
    return f"""Own the coin, sell its perpetual short in the same amount, collect the funding that longs pay.
From {result.equity.index[0]:%B %Y} to {result.equity.index[-1]:%B %Y}, BTC at Binance in bars of eight hours.
Bitcoin more than tripled meanwhile; of that the pair saw nothing, as it should.
{len(funding):,} settlements: {summary["funding"]:+,.2f} USDT in all, {(funding < 0).mean():.0%} of them paid instead of received.
Fees took {-summary["fees"]:,.2f} USDT, for {summary["trades"]} closed positions: the pair is opened seldom.
{summary["start_cash"]:,.0f} became {summary["final_equity"]:,.2f} USDT, {100 * summary["annual_return"]:.1f} % a year; the days' ends fell by {100 * result.statistics["max_drawdown_daily"]:.2f} % at most.
The short leg is the fragile one: in cross margin the coin's gain stands behind it, and the red line stays far above.
Closest call: {100 * summary["closest_call"]:.1f} % of the mark.
The blue spikes, down to {100 * summary["max_drawdown"]:.0f} %, set the coin's low against the perpetual's high: bars do not tell that the two move as one.
What it does not show is the venue itself, which has to survive as well."""


def grid(folder: Path) -> bm.Result:
    candles = {"BTCUSDT": window(folder, "2020-03-12_covid", "BTCUSDT")}
    return bm.run(MartingaleGrid, candles, leverage=20, margin_mode="isolated", sizer=0.2, baseline=True)


def tell_grid(folder: Path, result: bm.Result) -> str:
    summary, rows = result.summary, result.liquidations
    worst = rows.loc[(rows["realized_pnl"] - rows["fee"] - rows["forfeited"]).idxmin()]
    loss = -(worst["realized_pnl"] - worst["fee"] - worst["forfeited"])
    return f"""Buy twice as much at every step down, sell all a little above the average: it nearly always works.
Here {100 * summary["win_rate"]:.0f} % of {summary["trades"]} trades won, through the worst fortnight Bitcoin has had.
The other {100 - 100 * summary["win_rate"]:.0f} % were {len(rows)} liquidations, and cost {-summary["liquidation_loss"]:,.0f} USDT.
The largest, on {worst["time"]:%d March at %H:%M}, took {loss:,.0f} USDT: five rungs at once, on the first day of falling.
A mere {worst["margin_to_add"]:,.2f} USDT more in its wallet would have saved that one,
or a leverage below {worst["safe_leverage"]:.1f} instead of 20.
The next ones had no such cure: on 12 March the price fell through the whole grid within an hour.
{summary["start_cash"]:,.0f} became {summary["final_equity"]:,.0f} USDT. Trading fees were {-summary["fees"]:,.0f} of it, funding {-summary["funding"]:,.0f}.
Stock Backtrader lets the grid grow without end: {result.baseline.min():,.0f} USDT at its worst, {result.baseline.iloc[-1]:,.0f} at the end.
On its page the scatter of close calls is a ladder of dots that ends at the dashed line; beyond it there are crosses only."""


STORIES = (
    Story("covid-crash", "A long through the crash of March 2020", crash, tell_crash),
    Story("mark-saved", "A long that the mark price saved", saved, tell_saved),
    Story("cross-pair", "A hedged pair that unravels in one cross wallet", unravelled, tell_unravelled),
    Story("funding-carry", "A funding carry", carry, tell_carry),
    Story("martingale-grid", "A martingale grid", grid, tell_grid),
)


def text_of(folder: Path, results: dict[str, bm.Result]) -> str:
    """Return the gallery's README."""
    parts = [HEAD]
    for story in STORIES:
        told = story.tell(folder, results[story.name])
        lines = "  \n".join(told.splitlines())
        verdict = plots.headlines(results[story.name])[-1]
        parts.append(f"## {story.title}\n\n![{verdict}]({story.name}.png)\n\n{lines}\n")
    return "\n".join(parts)


def main(folder: Path) -> None:
    if not (folder / "windows").is_dir():
        sys.exit(f"the gallery is drawn from exchange records, which {folder} does not hold: it has no folder 'windows'")
    GALLERY.mkdir(exist_ok=True)
    results = {story.name: story.play(folder) for story in STORIES}
    for story in STORIES:
        plots.save(plots.page(results[story.name], symbol=story.symbol), GALLERY / f"{story.name}.png")
        Report(results[story.name]).save(GALLERY / f"{story.name}.html")
    (GALLERY / "README.md").write_text(text_of(folder, results), "utf-8")


if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("BT_MARGIN_REFERENCE", ".") + "/data"
    main(Path(given))
