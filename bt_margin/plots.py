"""Pictures of a Result, as matplotlib Figures; nothing here touches pyplot or any other global state.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; a liquidation is told by its shape and its word
as well. Times are UTC. Long series are thinned to the lows and highs of each step across, so no extreme is lost.
"""

from itertools import pairwise
from textwrap import fill
from typing import TYPE_CHECKING, Any

from .result import Result

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GREY, PALE = "#222222", "#6B6B6B", "#C9C9C9"
BLUE, SKY, GREEN, RED = "#0072B2", "#56B4E9", "#009E73", "#C8102E"
IMPOSSIBLE = "IMPOSSIBLE: no venue lets an account fall below zero"
DEPTH = 1.45  # how far below stock Backtrader's lowest value its panel reaches
NAME_HEIGHT = 0.16  # of a panel, taken by the two lines that name a curve
STEPS = 1_200  # across a panel, about one for each pixel
WARM_UP = 0.06  # of what is drawn: how much of the time before the first fill is shown
LONG_WAIT = 0.1  # of the run: a shorter wait for the first fill is drawn
MANY_FILLS = 60  # from here on their marks are smaller
CROWDED = 0.2  # of what is drawn: liquidations within less than this are shown again, enlarged
BOX = (0.39, 0.34)  # their share of the price panel: width, height
PLACES = [(left, bottom) for bottom in (0.58, 0.12) for left in (0.06, 0.18, 0.3, 0.42, 0.54)]  # of the box's lower left corner


def overview(result: Result, *, symbol: str | None = None, title: str | None = None, note: str = "") -> "Figure":
    """Return price with its liquidations above equity beside stock Backtrader's claim (where it was run).

    ``symbol`` is the contract whose price is drawn (default: the first), ``title`` replaces the sentences on top, ``note``
    goes before the result's flags at the bottom. A long time before the first fill is left out, and the picture says so.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    symbol = result.symbols[0] if symbol is None else symbol
    start = _drawn_from(result)
    figure = Figure(figsize=(16, 10), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    price, equity = figure.subplots(2, 1, sharex=True, height_ratios=(1.05, 1))
    figure.subplots_adjust(left=0.07, right=0.85, top=0.80, bottom=0.1, hspace=0.14)
    _draw_price(price, result, symbol, start)
    _draw_equity(equity, result, start)
    first, last = start.year, result.equity.index[-1].year
    _dress(price, equity, f"{first}" if first == last else f"{first} to {last}")
    _write_texts(figure, result, start, title, note)
    return figure


def headlines(result: Result) -> list[str]:
    """Return the sentences that a picture of this result tells: what stock Backtrader claims, if it was run, and the truth."""
    summary, stock = result.summary, result.baseline
    start, final, count = summary["start_cash"], summary["final_equity"], summary["liquidations"]
    fate = "never liquidated" if not count else "liquidated once" if count == 1 else f"liquidated {count} times"
    rest = _growth(start, final) if final >= start else f"{final:,.0f} of {start:,.0f} left"
    venue = f"The venue says: {fate}, {rest}"
    return [venue] if stock is None else [f"Backtrader says: {_growth(start, stock.iloc[-1])}", venue]


def _growth(start: float, final: float) -> str:
    change = final / start - 1
    return f"{start:,.0f} became {final:,.0f} ({change:+,.{0 if abs(change) >= 0.1 else 1}%})"


def kept_rows(low: "np.ndarray", high: "np.ndarray", steps: int = STEPS) -> "np.ndarray":
    """Return the rows that a picture ``steps`` wide needs: the lowest low and highest high of each step, and both ends."""
    import numpy as np

    if len(low) <= 2 * steps:
        return np.arange(len(low))
    edges = np.linspace(0, len(low), steps + 1).astype(int)
    kept = [0, len(low) - 1]
    for first, end in pairwise(edges):
        kept += [first + int(low[first:end].argmin()), first + int(high[first:end].argmax())]
    return np.unique(kept)


def _write_texts(figure: "Figure", result: Result, start: "pd.Timestamp", title: str | None, note: str) -> None:
    lines = headlines(result) if title is None else [title]
    height = 0.955
    for line in lines:
        is_claim, is_death = line is not lines[-1], bool(result.summary["liquidations"])
        figure.text(0.07, height, line, size=26, weight="bold", color=GREY if is_claim else RED if is_death else INK, va="center")
        height -= 0.047
    figure.text(0.07, height + 0.004, _subtitle(result, start), size=13, color=GREY, va="center")
    flags = "; ".join([note, *result.summary["flags"]] if note else result.summary["flags"])
    figure.text(0.07, 0.042, fill(flags, 195), size=10, color=GREY, va="top", linespacing=1.4)


# -- panels ----------------------------------------------------------------------------------------------------------


def _draw_price(axes: "Axes", result: Result, symbol: str, start: "pd.Timestamp") -> None:
    candles = result.candles(symbol).loc[start:]
    deaths = result.liquidations[result.liquidations["symbol"] == symbol]
    axes.set_yscale("log")
    _candle_line(axes, candles)
    fills = result.fills[(result.fills["symbol"] == symbol) & ~result.fills["liquidation"]]
    _mark_fills(axes, fills, 9 if len(fills) < MANY_FILLS else 5)
    _mark_deaths(axes, deaths["time"], deaths["mark_price"])
    if _is_crowded(deaths["time"], candles.index):
        _enlarge(axes, candles, fills, deaths)
    else:
        for row in deaths.itertuples():
            _say(axes, "LIQUIDATED", row.time, row.mark_price, (0, -24), RED, ha="center")
    last = candles["close"].iloc[-1]
    _say(axes, f"{symbol}\n{last:,.8g}", candles.index[-1], last, (10, 0), INK)
    axes.set_title("Price, log scale   ▲ buy   ▼ sell   ✖ liquidated", loc="left", size=14, color=GREY)


def _candle_line(axes: "Axes", candles: "pd.DataFrame") -> None:
    low, high = candles["low"].to_numpy(), candles["high"].to_numpy()
    rows = kept_rows(low, high)
    times = _naive(candles.index)[rows]
    axes.fill_between(times, low[rows], high[rows], color=PALE, linewidth=0.8)
    axes.plot(times, candles["close"].to_numpy()[rows], color=INK, linewidth=0.9)


def _mark_fills(axes: "Axes", fills: "pd.DataFrame", markersize: float) -> None:
    for marker, color, chosen in (("^", GREEN, fills[fills["size"] > 0]), ("v", BLUE, fills[fills["size"] < 0])):
        style: dict[str, Any] = {"color": color, "markersize": markersize, "alpha": 0.8, "markeredgecolor": "white", "zorder": 5}
        axes.plot(_naive(chosen["time"]), chosen["price"], marker, **style)


def _mark_deaths(axes: "Axes", times: Any, heights: Any, markersize: float = 15) -> None:
    axes.plot(_naive(times), heights, "X", color=RED, markersize=markersize, markeredgecolor="white", markeredgewidth=1.2, zorder=8)


def _enlarge(axes: "Axes", candles: "pd.DataFrame", fills: "pd.DataFrame", deaths: "pd.DataFrame") -> None:
    """Show liquidations that stand close together a second time, wide enough to be counted, and frame where they are."""
    from matplotlib.patches import Rectangle

    first, last = deaths["time"].iloc[[0, -1]]
    margin = 0.12 * (last - first)
    span = candles.loc[first - margin : last + margin]
    box = axes.inset_axes((*_emptiest_place(axes, candles), *BOX))
    box.set_facecolor("#FFF8F2")
    _candle_line(box, span)
    _mark_fills(box, fills, 7)
    _mark_deaths(box, deaths["time"], deaths["mark_price"], 14)
    box.set_xlim(*_naive(span.index[[0, -1]]))
    box.set_title(f"LIQUIDATED {len(deaths)} TIMES, {first:%d %b} to {last:%d %b %Y}", size=16, weight="bold", color=RED, loc="left")
    _date_ticks(box, 5)
    box.tick_params(labelsize=10, colors=GREY)
    box.yaxis.set_major_formatter("{x:,.0f}")
    for spine in box.spines.values():
        spine.set_color(RED)
    first, last = _naive(span.index[[0, -1]])
    low, high = span["low"].min() * 0.95, span["high"].max() * 1.05
    axes.add_patch(Rectangle((first, low), last - first, high - low, facecolor="#FFF8F2", edgecolor=RED, linewidth=1, zorder=0))


def _emptiest_place(axes: "Axes", candles: "pd.DataFrame") -> tuple[float, float]:
    """Return the place of the box that hides the fewest candles; room for its title and dates is part of it."""
    import numpy as np
    from matplotlib.dates import date2num

    axes.autoscale_view()
    width, height = BOX
    days = date2num(_naive(candles.index))
    inside = axes.transScale + axes.transLimits
    across, low = inside.transform(np.column_stack([days, candles["low"]])).T
    high = inside.transform(np.column_stack([days, candles["high"]]))[:, 1]

    def hidden(place: tuple[float, float]) -> int:
        left, bottom = place
        is_beside = (across > left - 0.05) & (across < left + width)
        return int((is_beside & (high > bottom - 0.1) & (low < bottom + height + 0.07)).sum())

    return min(PLACES, key=hidden)


def _draw_equity(axes: "Axes", result: Result, start: "pd.Timestamp") -> None:
    frame = result.equity.loc[start:]
    stock = None if result.baseline is None else result.baseline.loc[start:].dropna()
    equity, lowest = frame["equity"].to_numpy(), frame["lowest_equity"].to_numpy()
    rows = kept_rows(lowest, equity)
    times = _naive(frame.index)[rows]
    axes.fill_between(times, lowest[rows], equity[rows], color=SKY, alpha=0.6, linewidth=0.8, zorder=3)
    axes.plot(times, equity[rows], color=BLUE, linewidth=2.8, zorder=4)
    deaths = result.liquidations["time"].unique()
    _mark_deaths(axes, deaths, result.equity["equity"].reindex(deaths), 13)
    axes.axhline(0, color=INK, linewidth=1.2, zorder=2)
    drawn = [*equity, *(stock if stock is not None else ())]
    bends = _scale(axes, result.summary["start_cash"], lowest=min(drawn), highest=max(drawn))
    axes.set_title(f"Equity{bends}", loc="left", size=14, color=GREY)
    ends = [(frame.index[-1], float(equity[-1]), "under margin", BLUE)]
    if stock is not None and len(stock):
        _draw_stock(axes, stock)
        ends.append((stock.index[-1], float(stock.iloc[-1]), "stock Backtrader", GREY))
    _name_ends(axes, ends)


def _scale(axes: "Axes", start: float, *, lowest: float, highest: float) -> str:
    """Scale equity by logarithms above the starting money where a fortune would flatten what happens below; say so."""
    if highest <= 3 * start:
        return ""
    axes.set_yscale("symlog", linthresh=start, linscale=1)
    steps = [start * step for step in (-100, -10, -5, -2, -1, -0.5, 0, 0.5, 1, 2, 5, 10, 20, 50, 100, 1_000, 10_000)]
    axes.set_yticks([step for step in steps if DEPTH * min(lowest, 0) <= step <= 1.2 * highest])
    axes.set_yticks([], minor=True)
    return f", log scale above {start:,.0f}"


def _draw_stock(axes: "Axes", stock: "pd.Series") -> None:
    values = stock.to_numpy()
    rows = kept_rows(values, values)
    axes.plot(_naive(stock.index)[rows], values[rows], color=GREY, linewidth=2.2, linestyle=(0, (4, 1.6)), zorder=3)
    if values.min() >= 0:
        return
    bottom = values.min() * DEPTH
    axes.set_ylim(bottom=bottom)
    axes.axhspan(bottom, 0, facecolor="#FDEDEA", edgecolor="#F3C6C0", hatch="//", linewidth=0, zorder=0)
    lowest = stock.idxmin()
    _say(axes, f"{values.min():,.0f} on {lowest:%d %b %Y}", lowest, values.min(), (14, 0), RED)
    axes.text(0.99, 0.03, IMPOSSIBLE, transform=axes.transAxes, ha="right", va="bottom", size=15, weight="bold", color=RED, zorder=9)


def _name_ends(axes: "Axes", ends: "list[tuple[pd.Timestamp, float, str, str]]") -> None:
    """Name curves where they end, with what they came to; names that would cover each other are moved apart."""
    ends = sorted(ends, key=lambda end: end[1])
    heights = (axes.transScale + axes.transLimits).transform([(0.0, value) for _, value, _, _ in ends])[:, 1]
    crowded = max(NAME_HEIGHT - (heights[-1] - heights[0]), 0.0) if len(ends) > 1 else 0.0
    shift = crowded / 2 * axes.bbox.height * 72 / axes.figure.dpi
    for number, (time, value, name, color) in enumerate(ends):
        _say(axes, f"{name}\n{value:,.0f}", time, value, (10, shift if number else -shift), color)


# -- dress -----------------------------------------------------------------------------------------------------------


def _drawn_from(result: Result) -> "pd.Timestamp":
    """Return where drawing begins: the first bar, or a little before the first fill where the wait for it is long."""
    first, last = result.equity.index[[0, -1]]
    if result.fills.empty:
        return first
    opening = result.fills["time"].iloc[0]
    start = opening - (last - opening) * WARM_UP
    return start if start - first > LONG_WAIT * (last - first) else first


def _subtitle(result: Result, start: "pd.Timestamp") -> str:
    settings = result.settings
    params = ", ".join(f"{name}={value}" for name, value in settings["params"].items())
    modes = settings["margin_mode"]
    rules = ", ".join(f"{symbol} {leverage:g}x {modes[symbol]}" for symbol, leverage in settings["leverage"].items())
    first, last = result.equity.index[[0, -1]]
    left_out = f" (flat until the first order, drawn from {start:%d %b})" if start > first else ""
    span = f"{first:%d %b %Y} to {last:%d %b %Y} UTC{left_out}"
    return f"{settings['strategy']}({params}) on {rules}, {settings['venue'] or 'own'} rules, {span}"


def _dress(price: "Axes", equity: "Axes", years: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    for axes in (price, equity):
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(PALE)
        axes.tick_params(labelsize=13, colors=GREY)
        axes.grid(axis="y", color="#EDEDED", linewidth=1)
        axes.set_axisbelow(True)
        axes.margins(x=0)
    price.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    price.yaxis.set_minor_formatter(NullFormatter())
    for axes in (price, equity):
        axes.yaxis.set_major_formatter("{x:,.0f}")
    _date_ticks(equity, 12)
    equity.set_xlabel(f"{years}, UTC", size=13, color=GREY)


def _date_ticks(axes: "Axes", most: int) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(maxticks=most)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))


def _is_crowded(times: "pd.Series", drawn: "pd.DatetimeIndex") -> bool:
    return len(times) >= 3 and times.iloc[-1] - times.iloc[0] < CROWDED * (drawn[-1] - drawn[0])


def _say(axes: "Axes", text: str, time: "pd.Timestamp", height: float, offset: tuple[float, float], color: str, ha: str = "left") -> None:
    """Write a label beside a point, legible on whatever lies below."""
    from matplotlib.patheffects import withStroke

    axes.annotate(
        text, (_naive([time])[0], height), xytext=offset, textcoords="offset points", color=color,
        size=15, weight="bold", ha=ha, va="center", annotation_clip=False, zorder=9,
        path_effects=[withStroke(linewidth=4, foreground="white")],
    )  # fmt: skip


def _naive(times: Any) -> "np.ndarray":
    """Return UTC instants without their zone, as matplotlib wants them."""
    import pandas as pd

    return pd.DatetimeIndex(times).tz_convert(None).to_numpy()
