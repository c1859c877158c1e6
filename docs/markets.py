"""Measure the made-up market beside BTCUSDT: the table and the picture of ``docs/markets.md``.

    BT_MARGIN_REFERENCE=FOLDER python docs/markets.py

``FOLDER/data/series`` has Binance's hourly candles, marks and funding of BTCUSDT as Parquet files. The words around the table are
written by hand. A test holds the columns that need no folder against what this makes.
"""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bt_margin import data, markets
from bt_margin.plots.drawing import BLUE, GREY, GRID, INK, ORANGE, RED

PAGE = Path(__file__).with_name("markets.md")
PICTURE = Path(__file__).with_name("img") / "markets.png"
BEGIN, END = "<!-- begin table: docs/markets.py -->", "<!-- end table -->"
SEEDS = range(5)
BARS = 7 * 8_760  # as long as the record of the perpetual
HOUR = np.timedelta64(3_600, "s")
COLUMNS = (
    "perpetual, 2019-09 to 2026-05",
    "perpetual, 2023 to 2025",
    "spot as shipped, 2019 to 2023",
    "made up, median",
    "lowest",
    "highest",
)
GROUNDS = {"quiet": "#FFFFFF", "bull": "#E3F1EA", "bear": "#F6E8DA", "panic": RED}

Figures = dict[str, float]


def figures(candles: pd.DataFrame, funding: "pd.Series[float] | None" = None) -> Figures:
    """Return what the table says of hourly candles, with what ``mark_`` columns and funding rates tell where there are any."""
    found = moves(candles) | wicks(candles)
    if "mark_close" in candles:
        found |= divergence(candles)
    return found | ({} if funding is None else funding_of(funding.to_numpy()))


def moves(candles: pd.DataFrame) -> Figures:
    """Return figures of hourly and daily log returns; an hour after a gap is left out of the hourly ones."""
    close, times = candles["close"].to_numpy(), candles.index.tz_localize(None).to_numpy()
    hourly = np.diff(np.log(close))[np.diff(times) == HOUR]
    days = times.astype("datetime64[D]")
    daily = np.diff(np.log(close[np.append(days[1:] != days[:-1], True)]))
    found = {"volatility a year, from hours, %": 100 * hourly.std() * 8_766**0.5, "from days, %": 100 * daily.std() * 365.25**0.5}
    for name, returns in (("hours", hourly), ("days", daily)):
        scaled = (returns - returns.mean()) / returns.std()
        found |= {f"skew, {name}": (scaled**3).mean(), f"excess kurtosis, {name}": (scaled**4).mean() - 3}
    for name, returns, shares in (("hours", hourly, (50, 90, 99, 99.9)), ("days", daily, (50, 90, 99))):
        found |= {f"size of a move, {name}, quantile {share:g} %, %": 100 * np.quantile(abs(returns), share / 100) for share in shares}
    for name, returns, lags in (("hours", hourly, (1, 6, 24, 168, 720)), ("days", daily, (1, 7, 30))):
        found |= {f"autocorrelation of the size, {lag} {name} apart": autocorrelation(abs(returns), lag) for lag in lags}
    found["autocorrelation of the move, 1 hour apart"] = autocorrelation(hourly, 1)
    for name, returns in (("hour", hourly), ("day", daily)):
        found |= {f"worst {name}, %": 100 * np.expm1(returns.min()), f"best {name}, %": 100 * np.expm1(returns.max())}
    return found


def wicks(candles: pd.DataFrame) -> Figures:
    """Return how far bars reach beyond their bodies, above and below taken as two."""
    opened, high, low, close = (candles[name].to_numpy() for name in ("open", "high", "low", "close"))
    both = np.concatenate((high - np.maximum(opened, close), np.minimum(opened, close) - low)) / np.tile(close, 2)
    body = abs(close - opened) / close
    found = {"mean wick / mean body": both.mean() / body.mean(), "median wick / median body": np.median(both) / np.median(body)}
    return found | {f"wick, quantile {share:g} %, % of price": 100 * np.quantile(both, share / 100) for share in (50, 99, 99.9, 100)}


def divergence(candles: pd.DataFrame) -> Figures:
    """Return how far mark is from last at the closes, and how much less far it reached."""
    apart = 1e4 * abs(candles["mark_close"] / candles["close"] - 1).to_numpy()
    found = {"mark from last at the close, mean, bp": apart.mean()}
    found |= {f"mark from last, quantile {share:g} %, bp": np.quantile(apart, share / 100) for share in (50, 99, 99.9)}
    short = 1e4 * np.concatenate((candles["mark_low"] / candles["low"] - 1, 1 - candles["mark_high"] / candles["high"]))
    return found | {f"last reached beyond mark, quantile {share:g} %, bp": np.quantile(short, share / 100) for share in (99, 99.9)}


def funding_of(rates: Any) -> Figures:
    """Return figures of the rates of 8 hours."""
    found = {
        "funding, mean, bp": 1e4 * rates.mean(),
        "funding, standard deviation, bp": 1e4 * rates.std(),
        "funding above zero, % of stamps": 100 * (rates > 0).mean(),
        "funding exactly 1 bp, % of stamps": 100 * np.isclose(rates, 1e-4, atol=1e-9).mean(),
    }
    found |= {f"funding, quantile {share:g} %, bp": 1e4 * np.quantile(rates, share / 100) for share in (1, 10, 50, 90, 99)}
    return found | {f"autocorrelation of funding, {lag} stamps apart": autocorrelation(rates, lag) for lag in (1, 3, 21, 90)}


def autocorrelation(values: Any, lag: int) -> float:
    centred = values - values.mean()
    return float((centred[lag:] * centred[:-lag]).mean() / (centred**2).mean())


def made_up() -> list[Figures]:
    """Return the figures of the made-up market, seed by seed."""
    made = (markets.make(bars=BARS, seed=seed)["BTCUSDT"] for seed in SEEDS)
    return [figures(candles, candles["funding_rate"].dropna()) for candles in made]


def shipped() -> Figures:
    return figures(data.load())


def perpetual(folder: Path, since: str = "2000", until: str = "2100") -> Figures:
    """Return the figures of Binance's BTCUSDT perpetual between two dates, where it has mark prices."""
    last, mark, funding = (
        pd.read_parquet(folder / "data" / "series" / f"binance-BTCUSDT-{what}.parquet").set_index("datetime").loc[since:until]
        for what in ("1h-futures", "1h-mark", "funding")
    )
    found = moves(last) | wicks(last)
    return found | divergence(last.join(mark.add_prefix("mark_"), how="inner")) | funding_of(funding["rate"].to_numpy())


def table(columns: list[Mapping[str, float]]) -> str:
    """Return the table in Markdown: a row for each figure of the first column."""
    lines = [f"| | {' | '.join(COLUMNS)} |", "| --- |" + " ---: |" * len(COLUMNS)]
    lines += [f"| {name} | {' | '.join(told(column.get(name)) for column in columns)} |" for name in columns[0]]
    return "\n".join(lines)


def spread(many: list[Figures]) -> list[Figures]:
    """Return the median, the lowest and the highest of several markets' figures."""
    return [{name: float(pick([one[name] for one in many])) for name in many[0]} for pick in (np.median, min, max)]


def told(value: float | None) -> str:
    if value is None:
        return ""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{round(value, digits) + 0.0:.{digits}f}"


def picture(path: Path) -> None:
    """Draw three years of one market by regime, with its funding, and below it the four stories."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 11), facecolor="white", layout="constrained")
    grid = figure.add_gridspec(4, 4, height_ratios=(2.4, 1, 2.4, 1))
    market = markets.make(bars=3 * 8_760, seed=1)
    _draw(
        figure,
        grid,
        (0, slice(None)),
        market,
        "Three years, seed 1. Behind the price its regime: white quiet, green bull, sand bear, red panic",
    )
    for column, name in enumerate(markets.STORIES):
        told_market = markets.make(bars=192, story=name, seed=1)
        told_market = markets.Market({"BTCUSDT": told_market["BTCUSDT"].iloc[24:]}, None, told_market.regimes.iloc[:0])
        _draw(figure, grid, (2, column), told_market, f"story={name!r}")
    figure.savefig(path, dpi=70, metadata={"Software": None})


def _draw(figure: Any, grid: Any, place: tuple[int, Any], market: markets.Market, title: str) -> None:
    row, column = place
    above, below = figure.add_subplot(grid[row, column]), figure.add_subplot(grid[row + 1, column])
    candles, regimes = market["BTCUSDT"], market.regimes
    times = candles.index.tz_localize(None)
    if len(regimes):
        edges = np.flatnonzero(np.append(True, regimes.to_numpy()[1:] != regimes.to_numpy()[:-1]))
        for first, last in zip(edges, [*edges[1:], len(regimes) - 1], strict=True):
            above.axvspan(times[first], times[last], color=GROUNDS[regimes.iloc[first]], lw=0)
        above.plot(times, candles["close"], color=INK, lw=0.8)
        above.set_yscale("log")
    else:
        above.vlines(times, candles["low"], candles["high"], color=ORANGE, lw=1.0, label="last, low to high")
        above.vlines(times, candles["mark_low"], candles["mark_high"], color=BLUE, lw=1.6, label="mark, low to high")
        if "wick" in title:
            above.legend(frameon=False, fontsize=9, loc="lower left")
    paid = candles["funding_rate"].dropna() * 100
    below.bar(paid.index.tz_localize(None), paid, width=0.3, color=np.where(paid > 0, BLUE, ORANGE).tolist())
    below.set_ylabel("funding, % of 8 h", color=GREY, fontsize=9)
    above.set_title(title, loc="left", color=INK, fontsize=12)
    for axes in (above, below):
        axes.margins(x=0.01)
        axes.grid(color=GRID)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=GREY, labelsize=9)
        axes.xaxis.set_major_formatter(_dates(axes))
    above.yaxis.set_major_formatter("{x:,.0f}")
    above.yaxis.set_minor_formatter("{x:,.0f}" if len(regimes) else "")


def _dates(axes: Any) -> Any:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    return ConciseDateFormatter(locator)


def main() -> None:
    folder = os.environ.get("BT_MARGIN_REFERENCE")
    if not folder:
        sys.exit("set BT_MARGIN_REFERENCE to the folder of the reference data, whose data/series has Binance's BTCUSDT")
    real = [perpetual(Path(folder)), perpetual(Path(folder), "2023-01-01", "2025-12-31")]
    text = PAGE.read_text("utf-8")
    written = f"{BEGIN}\n{table([*real, shipped(), *spread(made_up())])}\n{END}"
    PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: written, text, flags=re.DOTALL), "utf-8")
    picture(PICTURE)


if __name__ == "__main__":
    main()
