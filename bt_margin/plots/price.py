"""The panel of one contract's price: candles, fills, the liquidation price and the liquidations themselves.

The place of the axes on the figure and the span of time must be final before; the panel sets its own vertical limits.
"""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ..core.ledger import CROSS, wallet_of
from ..panels import Panel, kept_rows, kept_with_gaps, panel, price_currency
from ..result import Result
from .drawing import (
    BLUE,
    FEW_BARS,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    RED,
    End,
    date_number,
    date_ticks,
    legible,
    mark_deaths,
    mark_warnings,
    naive,
    name_ends,
    panel_title,
    plainly,
    say_freely,
    times_said,
    unit_axis,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

WIDE = 2.5  # highest over lowest price: from here on prices are scaled by logarithms
MANY_FILLS = 60  # from here on their marks are smaller
CROWDED = 0.2  # of what is drawn: liquidations within less than this are shown again, enlarged
APART = 0.12  # of what is drawn: where liquidations follow each other sooner they are counted and not named one by one
MOST_NAMED = 3  # liquidations, one by one
REACH = 0.35  # of the span of prices: how far beyond them a liquidation price is followed
BOX = (0.39, 0.32)  # what is enlarged, as a share of the panel: width, height
PLACES = [(left, bottom) for bottom in (0.6, 0.12) for left in (0.06, 0.18, 0.3, 0.42, 0.54)]  # of the box's lower left corner
IVORY = "#FFF8F2"
NEARBY = 0.15  # of the panel: how far outside of it a bankruptcy price is followed
SHADE = 0.1  # of the panel: how high the largest size held is drawn
LEG_STYLES = ("-", (0, (7, 2, 2, 2)))  # of one liquidation price, or a hedge's: the long leg's and the short one's


def draw_price(axes: "Axes", result: Result, symbol: str, start: "pd.Timestamp", *, liquidation_line: bool = False) -> None:
    """Draw a contract's candles, its fills and its liquidations; where asked, also what would have ended it, and its size.

    That is the price it would be liquidated at (of a hedge both legs: one price in cross, of isolated legs one each), faintly the
    one at which its money would be gone, and its stop orders.
    """
    candles = result.candles(symbol).loc[start:]
    if candles.empty:
        panel_title(axes, f"Price of {symbol}, one of {len(result.symbols)} contracts")
        axes.text(
            0.5, 0.5, legible(f"no candle of {symbol} in this time"), transform=axes.transAxes, ha="center", size=14, color=GREY,
            parse_math=False,
        )  # fmt: skip
        return
    unit_axis(axes, price_currency(result, symbol))
    legs = result.legs(symbol)
    deaths = result.liquidations[result.liquidations["symbol"].isin(legs)]
    fills = _fills_with_kind(result.fills, legs)
    steps = _liquidation_steps(result, legs, candles.index) if liquidation_line else None
    scale = _scale_prices(axes, candles)
    _candles(axes, candles)
    _mark_fills(axes, fills, 9 if len(fills) < MANY_FILLS else 5)
    is_one_of_many = len(result.symbols) > 1
    key = _fill_key(fills)
    if len(deaths):
        key.append((f"✖ {f'{symbol} ' * is_one_of_many}liquidated {times_said(len(deaths))}", RED))
    key += _mark_warnings(axes, result, symbol, candles)
    if steps is not None:
        key.append(_draw_liquidation_line(axes, candles.index, steps))
        key += _draw_beside(axes, result, symbol, candles.index)
    mark_deaths(axes, deaths["time"], deaths["mark_price"], 15 if len(deaths) < MANY_FILLS else 10)
    if _is_crowded(deaths["time"], candles.index):
        _enlarge(axes, candles, fills, deaths, steps)
    else:
        _name_deaths(axes, candles, fills, deaths, steps)
    last = float(candles["close"].iloc[-1])
    name_ends(axes, [End(candles.index[-1], last, f"{symbol}\n{last:,.7g}", INK)])
    whose = f" of {symbol}, one of {len(result.symbols)} contracts" if is_one_of_many else ""
    panel_title(axes, f"Price{whose}{scale}", *key)


def _scale_prices(axes: "Axes", candles: "pd.DataFrame") -> str:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = float(candles["low"].min()), float(candles["high"].max())
    is_log = 0 < low * WIDE < high
    if is_log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 5 * low else (1, 1.5, 2, 3, 4, 5, 6, 8)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(plainly))
    pad = (high / low) ** 0.05 if is_log else (high - low or abs(high) or 1.0) * 0.05
    axes.set_ylim(*((low / pad, high * pad) if is_log else (low - pad, high + pad)))
    return ", log scale" if is_log else ""


def _candles(axes: "Axes", candles: "pd.DataFrame") -> None:
    """Draw candles where there is room for them, else the band from low to high and the line of closes."""
    low, high = candles["low"].to_numpy(), candles["high"].to_numpy()
    if len(candles) > FEW_BARS:
        rows = kept_rows(low, high)
        times = naive(candles.index)[rows]
        axes.fill_between(times, low[rows], high[rows], color=PALE, linewidth=0.8)
        axes.plot(times, candles["close"].to_numpy()[rows], color=INK, linewidth=0.9)
        return
    times, width = naive(candles.index), min(max(400 / len(candles), 2.5), 14)
    axes.vlines(times, low, high, color=GREY, linewidth=1.2, zorder=2)
    bodies = candles[["open", "close"]]
    top, bottom = bodies.max(axis=1).to_numpy(), bodies.min(axis=1).to_numpy()
    axes.vlines(times, bottom, top, color=INK, linewidth=width, zorder=2)
    rose = (candles["close"] > candles["open"]).to_numpy()
    axes.plot(times[top == bottom], top[top == bottom], "_", color=INK, markersize=width, markeredgewidth=1.2, zorder=2)
    axes.vlines(times[rose], bottom[rose], top[rose], color="#D8D8D8", linewidth=width - 1.6, zorder=2)


# -- fills -----------------------------------------------------------------------------------------------------------


def _fills_with_kind(fills: "pd.DataFrame", legs: "list[str]") -> "pd.DataFrame":
    """Return a contract's own fills (not forced), of all its legs, with whether each made a position smaller."""
    fills = fills[fills["symbol"].isin(legs)]
    held = fills.groupby("symbol")["size"].cumsum() - fills["size"]
    is_closing = (held * fills["size"] < 0) & (fills["size"].abs() <= held.abs() * (1 + 1e-9))
    return fills.assign(is_closing=is_closing)[~fills["liquidation"]]


def _fill_key(fills: "pd.DataFrame") -> list[tuple[str, str]]:
    """Return what the marks of fills mean, those that there are."""
    key = [("▲ buy", GREEN, fills["size"] > 0), ("▼ sell", BLUE, fills["size"] < 0), ("△▽ hollow: closing", GREY, fills["is_closing"])]
    return [(text, color) for text, color, chosen in key if chosen.any()]


def _mark_fills(axes: "Axes", fills: "pd.DataFrame", markersize: float) -> None:
    for marker, color, is_buy in (("^", GREEN, True), ("v", BLUE, False)):
        for is_closing in (False, True):
            chosen = fills[((fills["size"] > 0) == is_buy) & (fills["is_closing"] == is_closing)]
            look = {"markerfacecolor": "white", "markeredgecolor": color} if is_closing else {"color": color, "markeredgecolor": "white"}
            style: dict[str, Any] = {"markersize": markersize, "alpha": 0.9, "zorder": 5, **look}
            axes.plot(naive(chosen["time"]), chosen["price"], marker, **style)


# -- the liquidation price -------------------------------------------------------------------------------------------


def _liquidation_steps(result: Result, legs: "list[str]", index: "pd.DatetimeIndex") -> "list[np.ndarray] | None":
    """Return the liquidation price at each close by leg, NaN where there is none, or None where the contract was never held.

    Legs that share one price at every close are one line.
    """
    held = result.positions[result.positions["symbol"].isin(legs)]
    if held.empty:
        return None
    by_leg = held.pivot(index="time", columns="symbol", values="liquidation_price")
    if not (by_leg.max(axis=1) > by_leg.min(axis=1)).any():
        by_leg = by_leg.max(axis=1).to_frame()
    return list(by_leg.reindex(index).to_numpy(dtype=float).T)


def _draw_liquidation_line(axes: "Axes", index: "pd.DatetimeIndex", steps: "list[np.ndarray]") -> tuple[str, str]:
    """Draw the liquidation price from each close to the next, broken where there is none; return what the key says of it.

    The candles keep their size: what lies further away than REACH is drawn dotted on the edge, and named there.
    """
    import numpy as np

    if all(np.isnan(line).all() for line in steps):
        return "held, but no price liquidates it", GREY
    limits = [_limits_with(axes, line) for line in steps]
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    axes.set_ylim(low, high)
    for line, style in zip(steps, LEG_STYLES, strict=False):
        if not np.isnan(line).all():
            _draw_steps(axes, index, line, style)
    return "━ liquidation price" if len(steps) == 1 else "━ liquidation price of the long, ━·━ of the short", RED


def _draw_beside(axes: "Axes", result: Result, symbol: str, index: "pd.DatetimeIndex") -> list[tuple[str, str]]:
    """Draw bankruptcy prices and stops where the panel reaches, and the size held as a shade below; return the key of those there are."""
    import numpy as np
    import pandas as pd

    shown = panel(result, "price", symbol=symbol, start=index[0])
    _widen(axes, [line.values for line in shown.lines if line.key.startswith("bankruptcy_price")])
    low, high = axes.get_ylim()
    key = []
    for name, color, style, said in (
        ("bankruptcy_price", RED, (0, (1, 2)), "┈ bankruptcy"),
        ("stop", ORANGE, (0, (5, 1.5)), "┅ stop"),
    ):
        lines = [line for line in shown.lines if line.key.partition(":")[0] == name]
        seen = False
        for line in lines:
            values = np.where((line.values >= low) & (line.values <= high), line.values, np.nan)
            seen = seen or not np.isnan(values).all()
            times = pd.to_datetime(line.times, unit="s").to_numpy()
            axes.plot(times, values, color=color, linewidth=1.3, linestyle=style, drawstyle="steps-post", zorder=3.5)
        key += [(said, color)] if seen else []
    return key + _shade_size(axes, shown)


def _widen(axes: "Axes", curves: "list[np.ndarray]") -> None:
    """Make room for what of the curves lies a little outside of the panel, no more than NEARBY of its height."""
    import numpy as np

    forward, back = (np.log, np.exp) if axes.get_yscale() == "log" else (np.positive, np.positive)
    low, high = (float(forward(limit)) for limit in axes.get_ylim())
    room = NEARBY * (high - low)
    known = np.concatenate([curve[curve > 0] for curve in curves]) if curves else np.array([])
    values = forward(known)
    near = values[(values > low - room) & (values < high + room)]
    if len(near):
        pad = 0.02 * (high - low)
        axes.set_ylim(float(back(min(low, near.min() - pad))), float(back(max(high, near.max() + pad))))


def _shade_size(axes: "Axes", shown: Panel) -> list[tuple[str, str]]:
    """Draw the size held as steps along the bottom, the largest SHADE of the panel high; shorts are hatched."""
    import numpy as np
    import pandas as pd

    assert shown.shade is not None
    sizes, times = shown.shade.values, pd.to_datetime(shown.shade.times, unit="s").to_numpy()
    largest = float(np.abs(sizes).max()) if len(sizes) else 0.0
    if not largest:
        return []
    key = []
    told = plainly(float(f"{largest:.6g}"))
    for is_short, color, hatch, said in ((False, GREEN, None, "▂ held long"), (True, BLUE, "///", "▨ held short")):
        held = np.where((sizes < 0) == is_short, np.abs(sizes), 0.0)
        if held.any():
            look: dict[str, Any] = {"facecolor": color, "edgecolor": color, "alpha": 0.25, "linewidth": 0, "hatch": hatch, "zorder": 1}
            axes.fill_between(times, 0, SHADE * held / largest, transform=axes.get_xaxis_transform(), step="post", **look)
            key.append((said, color))
    return [*key[:-1], (f"{key[-1][0]}, {told} at most", key[-1][1])]


def _draw_steps(axes: "Axes", index: "pd.DatetimeIndex", steps: "np.ndarray", style: Any) -> None:
    import numpy as np

    low, high = axes.get_ylim()
    rows = kept_with_gaps(np.clip(steps, low, high))
    times, values = naive(index)[rows], steps[rows]
    is_below, is_above = values < low, values > high
    look: dict[str, Any] = {"color": RED, "drawstyle": "steps-post"}
    axes.plot(times, np.where(is_below | is_above, np.nan, values), linewidth=1.5, linestyle=style, zorder=4, **look)
    if is_below.any():
        axes.plot(times, np.where(is_below, low, np.nan), linewidth=3, linestyle=":", zorder=4, clip_on=False, **look)
        _say_on_edge(axes, f"▼ liquidation price, down to {_rounded(np.nanmin(steps))}", times[is_below.argmax()], is_top=False)
    if is_above.any():
        axes.plot(times, np.where(is_above, high, np.nan), linewidth=3, linestyle=":", zorder=4, clip_on=False, **look)
        _say_on_edge(axes, f"▲ liquidation price, up to {_rounded(np.nanmax(steps))}", times[is_above.argmax()], is_top=True)


def _rounded(price: float) -> str:
    return plainly(float(f"{price:.4g}"))


def _limits_with(axes: "Axes", steps: "np.ndarray") -> tuple[float, float]:
    """Return the panel's limits, widened for what of the steps lies within REACH, and for words where some does not."""
    import numpy as np

    forward, back = (np.log, np.exp) if axes.get_yscale() == "log" else (np.positive, np.positive)
    low, high = (float(forward(limit)) for limit in axes.get_ylim())
    span = high - low
    with np.errstate(divide="ignore", invalid="ignore"):
        values = forward(np.where(np.isnan(steps) | (steps > 0), steps, 0.0))
    near = values[(values > low - REACH * span) & (values < high + REACH * span)]
    if len(near):
        low, high = min(low, float(near.min()) - 0.03 * span), max(high, float(near.max()) + 0.03 * span)
    low -= 0.08 * span * bool((values < low).any())
    high += 0.08 * span * bool((values > high).any())
    return float(back(low)), float(back(high))


def _say_on_edge(axes: "Axes", text: str, time: "np.datetime64", *, is_top: bool) -> None:
    from matplotlib.dates import date2num
    from matplotlib.patheffects import withStroke

    across = float(axes.transLimits.transform((date2num(time), 0.0))[0])
    axes.annotate(
        text, (min(max(across, 0.01), 0.65), float(is_top)), xycoords="axes fraction", xytext=(0, -7 if is_top else 7),
        textcoords="offset points", size=12, color=RED, va="top" if is_top else "bottom", zorder=9,
        path_effects=[withStroke(linewidth=4, foreground="white")],
    )  # fmt: skip


# -- warnings --------------------------------------------------------------------------------------------------------


def _mark_warnings(axes: "Axes", result: Result, symbol: str, candles: "pd.DataFrame") -> list[tuple[str, str]]:
    """Mark at the closes what the contract's wallet was warned of, called for and given; return what the key says of it.

    Of the shared wallet what names another contract is left out.
    """
    import pandas as pd

    wallets = (wallet_of(symbol), CROSS)
    told = [(row.kind, row.time) for row in result.warnings.itertuples() if row.symbol in ("", symbol) and row.account in wallets]
    told += [("top_up", row.time) for row in result.top_ups.itertuples() if row.account in wallets]
    told = [(kind, time) for kind, time in told if time >= candles.index[0]]
    if not told:
        return []
    kinds, times = zip(*told, strict=True)
    rows = candles.index.searchsorted(pd.DatetimeIndex(times)).clip(max=len(candles) - 1)
    return mark_warnings(axes, kinds, candles.index[rows], candles["close"].to_numpy()[rows])


# -- liquidations ----------------------------------------------------------------------------------------------------


def _is_crowded(times: "pd.Series", drawn: "pd.DatetimeIndex") -> bool:
    return len(times) >= 3 and times.iloc[-1] - times.iloc[0] < CROWDED * (drawn[-1] - drawn[0])


def _name_deaths(
    axes: "Axes", candles: "pd.DataFrame", fills: "pd.DataFrame", deaths: "pd.DataFrame", steps: "list[np.ndarray] | None"
) -> None:
    """Write LIQUIDATED beside each mark where they are few and far apart, else once, with their count."""
    spots = list(zip(deaths["time"], deaths["mark_price"], strict=True))
    inside = axes.transScale + axes.transLimits
    across = [float(inside.transform((date_number(time), price))[0]) for time, price in spots]
    is_each = len(spots) <= MOST_NAMED and all(later - earlier >= APART for earlier, later in pairwise(across))
    times = naive(candles.index)
    curves = [(times, candles["low"], candles["high"]), *((times, line, line) for line in steps or ())]
    marks = [*fills["time"], *deaths["time"]], [*fills["price"], *deaths["mark_price"]]
    if is_each:
        for spot in spots:
            say_freely(axes, "LIQUIDATED", [spot], curves, marks, RED)
    else:
        say_freely(axes, f"LIQUIDATED {len(spots)} TIMES", spots[::-1], curves, marks, RED)


def _enlarge(
    axes: "Axes", candles: "pd.DataFrame", fills: "pd.DataFrame", deaths: "pd.DataFrame", steps: "list[np.ndarray] | None"
) -> None:
    """Show liquidations that stand close together a second time, wide enough to be counted, and frame where they are."""
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import FuncFormatter

    first, last = deaths["time"].iloc[[0, -1]]
    rows = candles.index.searchsorted([first, last])
    margin = max(int(0.12 * (rows[1] - rows[0])), len(candles) // 100, 2)
    is_shown = slice(max(rows[0] - margin, 0), rows[1] + margin + 1)
    span = candles.iloc[is_shown]
    box = axes.inset_axes((*_emptiest_place(axes, candles), *BOX))
    box.set_facecolor(IVORY)
    _candles(box, span)
    limits = box.get_ylim()
    for line in steps or ():
        box.plot(naive(span.index), line[is_shown], color=RED, linewidth=1.5, drawstyle="steps-post", zorder=4)
    box.set_ylim(limits)
    _mark_fills(box, fills, 7)
    mark_deaths(box, deaths["time"], deaths["mark_price"], 12)
    pad = (span.index[-1] - span.index[0]) / (2 * len(span))
    box.set_xlim(*naive([span.index[0] - pad, span.index[-1] + pad]))
    days = f"{last:%d %b %Y}" if first.date() == last.date() else f"{first:%d %b} to {last:%d %b %Y}"
    box.set_title(f"LIQUIDATED {len(deaths)} TIMES, {days}", size=16, weight="bold", color=RED, loc="left")
    date_ticks(box, 5)
    box.tick_params(labelsize=10, colors=GREY)
    box.yaxis.set_major_formatter(FuncFormatter(plainly))
    for spine in box.spines.values():
        spine.set_color(RED)
    left, right = naive(span.index[[0, -1]])
    low, high = _frame(axes, float(span["low"].min()), float(span["high"].max()))
    axes.add_patch(Rectangle((left, low), right - left, high - low, facecolor=IVORY, edgecolor=RED, linewidth=1, zorder=0))


def _frame(axes: "Axes", low: float, high: float) -> tuple[float, float]:
    """Return prices a little below and above these, by the panel's height, but inside the panel."""
    inside = axes.transScale + axes.transLimits
    bottom, top = inside.transform([(0.0, low), (0.0, high)])[:, 1]
    edges = inside.inverted().transform([(0.0, max(bottom - 0.03, 0.003)), (0.0, min(top + 0.03, 0.997))])[:, 1]
    return float(edges[0]), float(edges[1])


def _emptiest_place(axes: "Axes", candles: "pd.DataFrame") -> tuple[float, float]:
    """Return the place of the box that hides the fewest candles; room for its title and dates is part of it."""
    import numpy as np
    from matplotlib.dates import date2num

    width, height = BOX
    days = date2num(naive(candles.index))
    inside = axes.transScale + axes.transLimits
    across, low = inside.transform(np.column_stack([days, candles["low"]])).T
    high = inside.transform(np.column_stack([days, candles["high"]]))[:, 1]

    def hidden(place: tuple[float, float]) -> int:
        left, bottom = place
        is_beside = (across > left - 0.05) & (across < left + width)
        return int((is_beside & (high > bottom - 0.1) & (low < bottom + height + 0.07)).sum())

    return min(PLACES, key=hidden)
