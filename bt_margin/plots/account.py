"""The panels of an account: equity, margin ratio, drawdown, costs.

Each draws what happened from ``start`` on. The place of the axes on the figure and the span of time must be final
before; a panel sets its own vertical limits and names its curves where they end.
"""

from collections.abc import Sequence
from math import log10
from typing import TYPE_CHECKING, Any

from ..panels import drawdowns, judged_wallets, kept_rows, kept_with_gaps, money_currency, panel
from ..result import Result
from .drawing import (
    BLUE,
    BLUSH,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    PURPLE,
    RED,
    SKY,
    End,
    amount,
    date_number,
    height_in_points,
    legible,
    mark_deaths,
    money,
    naive,
    name_ends,
    named,
    panel_title,
    plainly,
    say,
    say_freely,
    unit_axis,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

IMPOSSIBLE = "IMPOSSIBLE: no venue lets an account fall below zero"
DEPTH = 0.2  # of a panel of money: how far it goes on below a lowest value under zero, for the words there
BENT = 3.0  # times the starting money: beyond, money is scaled by logarithms
HALF = 0.5  # of the starting money: a panel of money that stays above does not go down to zero
LOPSIDED = 12.0  # largest cost over the smallest: from here on they are scaled by logarithms
THRESHOLDS = ((0.5, "0.5", PALE), (0.8, "0.8", GREY), (1.0, "1.0 liquidated here", RED))  # of the margin ratio
TOP_RATIO = 1.15
ROOM = 28.0  # points below the deepest drawdown, for its label
SIDE = 0.12  # of a panel: a label nearer to one of its sides is not centred
LATE = 0.7  # of the run: what happens later is named on its left


# -- equity ----------------------------------------------------------------------------------------------------------


def draw_equity(axes: "Axes", result: Result, start: "pd.Timestamp", *, whole: bool = False) -> None:
    """Draw equity with its lowest inside each bar, stock Backtrader's claim and the band between both ends where they were run.

    ``whole`` adds the wallet balance, the starting money and the word at the liquidations.
    """
    frame, stock, start_cash = result.equity.loc[start:], _stock(result, start), result.summary["start_cash"]
    equity, lowest, wallet = (frame[name].to_numpy() for name in ("equity", "lowest_equity", "wallet_balance"))
    band = None if result.bounds is None else result.bounds.equity.loc[start:]
    unit_axis(axes, money_currency(result))
    drawn = [*equity, *lowest, *([] if stock is None else stock), *([*wallet, start_cash] if whole else [])]
    drawn += [] if band is None else band.to_numpy().ravel().tolist()
    bends = scale_money(axes, start_cash, lowest=min(drawn), highest=max(drawn))
    rows = kept_rows(lowest, equity)
    times = naive(frame.index)[rows]
    axes.fill_between(times, lowest[rows], equity[rows], color=SKY, alpha=0.6, linewidth=0.8, zorder=3)
    axes.plot(times, equity[rows], color=BLUE, linewidth=2.2 if whole else 2.8, marker=_dot(rows), zorder=4)
    axes.axhline(0, color=INK, linewidth=1.2, zorder=2)
    if band is not None:
        _draw_band(axes, band)
    last, is_apart = frame.index[-1], abs(wallet[-1] - equity[-1]) > 1e-9 * start_cash
    ends = [End(last, float(equity[-1]), f"{'equity' if whole else 'under margin'}\n{money(equity[-1], start_cash)}", BLUE)]
    if whole:
        rows = kept_rows(wallet, wallet)
        axes.plot(naive(frame.index)[rows], wallet[rows], color=ORANGE, linewidth=1.4, zorder=3.5)
        axes.axhline(start_cash, color=GREY, linewidth=1, linestyle=":", zorder=1)
        ends += [End(last, float(wallet[-1]), f"wallet balance\n{money(wallet[-1], start_cash)}", ORANGE)] if is_apart else []
    if stock is not None and len(stock):
        _draw_stock(axes, stock, start_cash)
        ends.append(End(stock.index[-1], float(stock.iloc[-1]), f"stock Backtrader\n{money(stock.iloc[-1], start_cash)}", GREY))
    _mark_deaths_on(axes, result, start, name=whole)
    name_ends(axes, ends)
    key = [("━ equity", BLUE), ("▒ its lowest inside bars", BLUE), ("━ wallet balance, open profit left out", ORANGE)]
    key.append((f"┄ start {money(start_cash, start_cash)}", GREY))
    band_key = [] if band is None else [("▒ best to worst path", GREEN)]
    whose = f" of the account, {len(result.symbols)} contracts" if len(result.symbols) > 1 else ""
    panel_title(axes, f"Equity{whose}{bends}", *(key if whole else ()), *band_key)


def _draw_band(axes: "Axes", band: "pd.DataFrame") -> None:
    """Shade what lies between the equity of the best and of the worst path."""
    low, high = band.min(axis=1).to_numpy(), band.max(axis=1).to_numpy()
    rows = kept_rows(low, high)
    axes.fill_between(naive(band.index)[rows], low[rows], high[rows], facecolor=GREEN, edgecolor=GREEN, alpha=0.3, linewidth=1, zorder=2.5)


def scale_money(axes: "Axes", start: float, *, lowest: float, highest: float) -> str:
    """Set the scale and limits of money: by logarithms beyond the starting money where all else would be flat; say so."""
    from matplotlib.ticker import FuncFormatter

    is_bent = highest > BENT * start or lowest < -BENT * start
    if is_bent:
        axes.set_yscale("symlog", linthresh=start, linscale=1)
        steps = (0.5, 1, 2, 5, 10, 20, 50, 100, 1_000, 10_000, 100_000)
        axes.set_yticks([0, *(sign * start * step for step in steps for sign in (1, -1) if _is_tick(sign * start * step, lowest, highest))])
        axes.set_yticks([], minor=True)
    axes.yaxis.set_major_formatter(FuncFormatter(plainly))
    space = 0.07 * (min(highest, BENT * start) - max(lowest, 0.0) or start)
    bottom = lowest if lowest < 0 else lowest - space if lowest > HALF * start else -space
    axes.set_ylim(bottom, highest * 1.25 if is_bent else highest + space)
    if lowest < 0:
        axes.set_ylim(bottom=_below(axes, DEPTH))
    if not is_bent:
        return ""
    return f", log scale above {money(start, start)}" + (f" and below {money(-start, start)}" if lowest < -start else "")


def _below(axes: "Axes", share: float) -> float:
    """Return the value that is a share of the panel's height below it."""
    return float((axes.transScale + axes.transLimits).inverted().transform((0.0, -share))[1])


def _is_tick(value: float, lowest: float, highest: float) -> bool:
    return 1.4 * min(lowest, 0) <= value <= 1.2 * highest


def _dot(rows: "np.ndarray") -> str:
    return "o" if len(rows) == 1 else ""


def _stock(result: Result, start: "pd.Timestamp") -> "pd.Series | None":
    """Return what of stock Backtrader's claim can be drawn: its last values need not be numbers."""
    import numpy as np

    if result.baseline is None:
        return None
    drawn = result.baseline.loc[start:]
    return drawn[np.isfinite(drawn.to_numpy())]


def _draw_stock(axes: "Axes", stock: "pd.Series", scale: float) -> None:
    values = stock.to_numpy()
    rows = kept_rows(values, values)
    axes.plot(naive(stock.index)[rows], values[rows], color=GREY, linewidth=2.2, linestyle=(0, (4, 1.6)), marker=_dot(rows), zorder=3)
    if values.min() >= 0:
        return
    axes.axhspan(axes.get_ylim()[0], 0, facecolor=BLUSH, edgecolor="#F3C6C0", hatch="//", linewidth=0, zorder=0)
    row = int(values.argmin())
    is_late = row > len(values) / 2
    _say_beside(
        axes, f"{money(values[row], scale)} on {stock.index[row]:%d %b %Y}", (stock.index[row], values[row]), RED, is_late=is_late, up=0
    )
    ha, at = ("left", 0.01) if is_late else ("right", 0.99)
    axes.text(at, 0.03, IMPOSSIBLE, transform=axes.transAxes, ha=ha, va="bottom", size=15, weight="bold", color=RED, zorder=9)


def _mark_deaths_on(axes: "Axes", result: Result, start: "pd.Timestamp", *, name: bool) -> None:
    """Mark liquidations on the curve of equity, at the close of their bar; where asked, with the word at one of them."""
    times, count = result.liquidations["time"].drop_duplicates(), len(result.liquidations)
    if not count:
        return
    bars = result.equity.index
    rows = bars.searchsorted(times).clip(max=len(bars) - 1)
    heights = result.equity["equity"].to_numpy()[rows]
    mark_deaths(axes, times, heights, 13)
    if name:
        word = "LIQUIDATED" + (f" {count} TIMES" if count > 1 else "")
        spots = list(zip(times, heights.tolist(), strict=True))[::-1]
        frame, stock = result.equity.loc[start:], _stock(result, start)
        drawn = [(frame["lowest_equity"], frame["equity"]), (frame["wallet_balance"],) * 2, *([] if stock is None else [(stock, stock)])]
        say_freely(axes, word, spots, [(naive(low.index), low, high) for low, high in drawn], (times, heights), RED)


def _say_beside(axes: "Axes", text: str, at: "tuple[pd.Timestamp, float]", color: str, *, is_late: bool, up: float, **style: Any) -> None:
    """Write a label right of a point, or left of one that is late."""
    say(axes, text, at, (-12 if is_late else 12, up), color, ha="right" if is_late else "left", **style)


# -- margin ----------------------------------------------------------------------------------------------------------


def draw_margin_ratio(axes: "Axes", result: Result, start: "pd.Timestamp") -> None:
    """Draw maintenance margin / equity at the close of each bar, of the wallet where it is highest; a liquidation stands at 1."""
    import numpy as np

    unit_axis(axes, "ratio")
    ratios, whose = _judged(result)
    ratios = ratios.loc[start:]
    index, ratio = ratios.index, ratios.max(axis=1).to_numpy(dtype=float)
    _draw_thresholds(axes)
    shown = np.minimum(ratio, TOP_RATIO)
    rows = kept_with_gaps(shown)
    times = naive(index)[rows]
    axes.fill_between(times, 0, shown[rows], color=SKY, alpha=0.35, linewidth=0, step="post")
    axes.plot(times, shown[rows], color=BLUE, linewidth=1.5, zorder=3, drawstyle="steps-post")
    deaths = result.liquidations["time"].drop_duplicates()
    mark_deaths(axes, deaths, [1.0] * len(deaths), 11)
    panel_title(
        axes,
        f"Margin ratio at closes = maintenance margin / equity of {whose}",
        *([("✖ liquidated between closes, at 1", RED)] if len(deaths) else []),
    )
    if np.isnan(ratio).all():
        axes.text(0.5, 0.25, "no position was held at the close of a bar", transform=axes.transAxes, ha="center", size=14, color=GREY)
        return
    row = int(np.nanargmax(ratio))
    at = (index[row], min(float(ratio[row]), 1.0))
    owner = f", {ratios.iloc[row].idxmax()}" if len(ratios.columns) > 1 else ""
    _say_beside(axes, legible(f"highest at a close {ratio[row]:.2g}{owner}"), at, BLUE, is_late=row > LATE * len(ratio), up=9, size=13)


def _judged(result: Result) -> "tuple[pd.DataFrame, str]":
    """Return the margin ratios that decide, by bar and NaN while flat, and whose the highest of them is."""
    names = judged_wallets(result)
    if not names:
        return result.judged_ratios, "the account"
    whose = f"the {names[0]} wallet" if len(names) == 1 else f"the wallet nearest to liquidation: {named(names, 'or')}"
    return result.judged_ratios, whose


def _draw_thresholds(axes: "Axes") -> None:
    from matplotlib.ticker import FuncFormatter

    axes.set_ylim(0, TOP_RATIO)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(FuncFormatter(plainly))
    axes.axhspan(1, TOP_RATIO, facecolor=BLUSH, linewidth=0, zorder=0)
    for height, text, color in THRESHOLDS:
        axes.axhline(height, color=color, linewidth=1.2, linestyle="-" if height == 1 else "--", zorder=1)
        axes.annotate(
            text, (1, height), xycoords=("axes fraction", "data"), xytext=(10, 0), textcoords="offset points", va="center", size=13,
            weight="bold", color=GREY if color == PALE else color,
        )  # fmt: skip


# -- drawdown --------------------------------------------------------------------------------------------------------


def draw_drawdown(axes: "Axes", result: Result, start: "pd.Timestamp") -> None:
    """Draw how far equity is below its highest so far, deposits and withdrawals taken out: at closes and inside bars."""
    from matplotlib.ticker import FuncFormatter

    unit_axis(axes, "of the highest")
    first = int(result.equity.index.searchsorted(start))
    index = result.equity.index[first:]
    closes, inside = (series[first:] for series in drawdowns(result))
    rows = kept_rows(inside, closes)
    times = naive(index)[rows]
    axes.fill_between(times, inside[rows], 0, color=SKY, alpha=0.6, linewidth=0.8)
    axes.plot(times, closes[rows], color=BLUE, linewidth=1.5, marker=_dot(rows))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{plainly(round(100 * value, 6))}%"))
    row = int(inside.argmin())
    deepest = float(inside[row])
    axes.set_ylim(min(deepest / (1 - ROOM / height_in_points(axes)), -0.002), 0)
    if deepest < 0:
        said = f"{plainly(round(100 * deepest, 0 if deepest <= -0.1 else 1))}% on {index[row]:%d %b %Y}"
        across = float(axes.transLimits.transform((date_number(index[row]), 0.0))[0])
        side = "left" if across < SIDE else "right" if across > 1 - SIDE else "center"
        say(axes, said, (index[row], deepest), (0, -ROOM / 2), BLUE, ha=side)  # below the lowest point there is no curve
    net = ", deposits and withdrawals taken out" if result.flows else ""
    panel_title(axes, f"Drawdown from the highest equity so far, inside bars{net}")


# -- costs -----------------------------------------------------------------------------------------------------------


def draw_costs(axes: "Axes", result: Result, start: "pd.Timestamp") -> None:
    """Draw what trading fees, funding, slippage and liquidations have come to so far, as the account sees it: paid is negative."""
    import pandas as pd
    from matplotlib.ticker import FuncFormatter

    unit_axis(axes, money_currency(result))
    start_cash, shown = result.summary["start_cash"], panel(result, "costs", start=start)
    names = {"fees": "trading fees", "liquidation_fees": "liquidation fees", "liquidations": "liquidations", "funding": "funding"}
    colors = {"fees": GREEN, "funding": BLUE, "liquidations": RED, "liquidation_fees": PURPLE, "slippage": ORANGE}
    drawn, ends = [line.values for line in shown.lines], []
    for line in shown.lines:
        last, final = pd.Timestamp(line.times[-1], unit="s", tz="UTC"), float(line.values[-1])
        ends.append(End(last, final, f"{names.get(line.key, line.key)} {amount(final, start_cash)}", colors[line.key]))
    bends = _scale_costs(axes, drawn, start_cash)
    axes.yaxis.set_major_formatter(FuncFormatter(plainly))
    axes.axhline(0, color=INK, linewidth=1, zorder=2)
    for line, end in zip(shown.lines, ends, strict=True):
        times = pd.to_datetime(line.times, unit="s").to_numpy()
        is_inside = line.key in ("slippage", "liquidation_fees")  # of prices, of what liquidations lost: no sum of its own
        style: dict[str, Any] = {"linestyle": (0, (3, 1.5)) if is_inside else "-", "drawstyle": "steps-post", "marker": _dot(times)}
        axes.plot(times, line.values, color=end.color, linewidth=2, zorder=3, **style)
    name_ends(axes, ends, size=13)
    told = {"liquidation_fees": ("┄ inside the loss of liquidations", PURPLE), "slippage": ("┄ inside the prices of fills", ORANGE)}
    panel_title(axes, f"Paid (below 0) and received so far{bends}", *(told[line.key] for line in shown.lines if line.key in told))
    if not drawn:
        axes.text(0.5, 0.25, "no fee, no funding, no liquidation", transform=axes.transAxes, ha="center", size=14, color=GREY)


def _scale_costs(axes: "Axes", drawn: "Sequence[np.ndarray]", start_cash: float) -> str:
    """Scale by logarithms where one cost would make a flat line of another; say so."""
    sizes = [float(abs(series).max()) for series in drawn]
    low = min((float(series.min()) for series in drawn), default=0.0)
    high = max((float(series.max()) for series in drawn), default=0.0)
    if not sizes or max(sizes) < LOPSIDED * min(sizes):
        space = 0.08 * (max(high, 0.0) - min(low, 0.0)) or 0.01 * start_cash
        axes.set_ylim(min(low, 0.0) - space, max(high, 0.0) + space)
        return ""
    threshold = 10.0 ** round(log10(max(min(sizes), max(sizes) / 1e4)))
    axes.set_yscale("symlog", linthresh=threshold, linscale=0.7)
    bottom, top = (low * 1.8 if low < 0 else -0.3 * threshold), (high * 1.8 if high > 0 else 0.3 * threshold)
    axes.set_ylim(bottom, top)
    decades = [sign * threshold * 10**power for sign in (-1, 1) for power in range(6)]
    axes.set_yticks([0, *(step for step in decades if bottom <= step <= top)])
    axes.set_yticks([], minor=True)
    return f", log scale beyond ±{amount(threshold, start_cash)}"
