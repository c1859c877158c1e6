"""The panels of what was risked: effective leverage, where the money went, how close positions came to their liquidation.

Each draws a Panel of ``bt_margin.panels``, with all of its numbers. The place of the axes on the figure, and over time the
span, must be final before.
"""

from math import isnan
from typing import TYPE_CHECKING, Any

from ..panels import Panel, Point, Step
from .drawing import (
    BLUE,
    BLUSH,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    SMALL,
    End,
    amount,
    legible,
    name_ends,
    panel_title,
    plainly,
    say,
    unit_axis,
)

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

TIMES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)  # leverages that are marked on the axis
WIDE_BAR = 0.62  # of the room for one
FARTHEST = 1.0  # of the entry price: a liquidation farther away is drawn on the edge
MOST_NAMED = 3  # survivors, nearest first
NEAR = 0.25  # of its distance: with more left a survivor is not named
ROOM = 1.12  # of the farthest point
CLOSE = 0.6  # of the farthest distance: where all are farther, the axis does not begin at 0


# -- leverage --------------------------------------------------------------------------------------------------------


def draw_leverage(axes: "Axes", panel: Panel) -> None:
    """Draw effective leverage on a log scale, the leverage that was set and the most that the position's tier allows."""
    import numpy as np
    import pandas as pd
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    unit_axis(axes, panel.unit)
    looks = {"max_leverage": (RED, "-", 1.6), "leverage": (GREY, "--", 1.6), "effective_leverage": (BLUE, "-", 1.8)}
    drawn = []
    for line in panel.lines:
        values = np.where(line.values > 0, line.values, np.nan)
        if not np.isnan(values).all():
            drawn.append((line, values))
    if not drawn:
        _say_empty(axes, "nothing was held at the close of a bar")
        axes.set_yticks([])
        panel_title(axes, panel.title)
        return
    low, high = (float(extreme([extreme(values) for _, values in drawn])) for extreme in (np.nanmin, np.nanmax))
    axes.set_yscale("log")
    axes.set_ylim(low / 1.6, high * 1.6)
    axes.yaxis.set_major_locator(FixedLocator([times for times in TIMES if low / 1.6 <= times <= high * 1.6]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{plainly(value)}x"))
    ends = []
    for line, known in drawn:
        color, style, width = looks[line.key]
        stands = line.key != "effective_leverage"  # whether something is held or not
        values = pd.Series(known).ffill().bfill().to_numpy() if stands else known
        times = pd.to_datetime(line.times, unit="s").to_numpy()
        look: dict[str, Any] = {"color": color, "linestyle": style, "linewidth": width, "drawstyle": "steps-post", "zorder": 3}
        axes.plot(times, values, marker="o" if len(times) == 1 else "", **look)
        row = int(np.flatnonzero(~np.isnan(values))[-1])
        lowest = "lowest " * line.label.startswith(("least", "lowest"))
        name = {"max_leverage": f"{lowest}tier allows", "leverage": f"{lowest}set", "effective_leverage": "effective"}[line.key]
        ends.append(End(pd.Timestamp(line.times[row], unit="s", tz="UTC"), float(values[row]), f"{name}\n{values[row]:.3g}x", color))
        if line.key == "effective_leverage":
            most = int(np.nanargmax(values))
            at = (pd.Timestamp(line.times[most], unit="s", tz="UTC"), float(values[most]))
            is_late = most > 0.7 * len(values)
            said = f"highest at a close {values[most]:.3g}x"
            say(axes, said, at, (-12 if is_late else 12, 12), color, size=SMALL, ha="right" if is_late else "left")
    name_ends(axes, ends, size=SMALL)
    panel_title(
        axes, "Leverage, log scale, broken while flat", ("━ effective: notional / equity", BLUE), ("┄ set", GREY), ("━ tier allows", RED)
    )


def _say_empty(axes: "Axes", text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", size=14, color=GREY)


# -- where the money went --------------------------------------------------------------------------------------------


def draw_money(axes: "Axes", panel: Panel) -> None:
    """Draw a bar for each thing that took or brought money, from the start to the end; liquidations are hatched and crossed."""
    from matplotlib.ticker import FuncFormatter

    unit_axis(axes, panel.unit)
    steps, start = panel.steps, panel.steps[0].after
    heights = [level for step in steps for level in (step.before, step.after)]
    low, high = min(*heights, 0.0), max(heights)
    pad = 0.12 * (high - low or 1.0)
    axes.set_ylim(low - (pad if low < 0 else 0.0), high + pad)
    axes.set_xlim(-0.6, len(steps) - 0.4)
    axes.axhline(0, color=INK, linewidth=1.2, zorder=2)
    for place, step in enumerate(steps):
        color = _step_color(step)
        is_death = step.key == "liquidations" and step.amount != 0
        bottom, top = sorted((step.before, step.after))
        axes.bar(
            place, top - bottom, WIDE_BAR, bottom, color=color, edgecolor="white" if is_death else color, zorder=3,
            hatch="xx" if is_death else None,
        )  # fmt: skip
        if place + 1 < len(steps):
            axes.plot([place, place + 1], [step.after] * 2, color=GREY, linewidth=1, linestyle=":", zorder=2)
        sign = "+" if step.amount > 0 and not step.is_total else ""
        share = "" if step.is_total or not step.amount else f"\n{plainly(float(f'{100 * step.amount / start:.3g}'))}%"
        said = f"{'✖ ' * is_death}{sign}{amount(step.amount, start)}{share}"
        offset: dict[str, Any] = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center", "va": "bottom", "weight": "bold"}
        axes.annotate(said, (place, top), size=SMALL, color=color, zorder=5, **offset)
    axes.set_xticks(range(len(steps)), [_two_lines(step.label) for step in steps], size=SMALL)
    axes.tick_params(axis="x", length=0)
    axes.yaxis.set_major_formatter(FuncFormatter(plainly))
    key = [("■ total", BLUE), ("■ brought", GREEN), ("■ took", ORANGE)]
    deaths = [step for step in steps if step.key == "liquidations" and step.amount]
    panel_title(axes, "From start to end, share of the start below each amount", *key, *([("▩ liquidations", RED)] if deaths else []))


def _step_color(step: Step) -> str:
    if step.is_total or not step.amount:
        return BLUE if step.is_total else GREY
    return RED if step.key == "liquidations" else GREEN if step.amount >= 0 else ORANGE


def _two_lines(label: str) -> str:
    """Return a label with the line broken after the word nearest to its middle."""
    words = label.split()
    if len(words) < 2:
        return label
    lengths = [abs(len(" ".join(words[:count])) - len(" ".join(words[count:]))) for count in range(1, len(words))]
    count = lengths.index(min(lengths)) + 1
    return " ".join(words[:count]) + "\n" + " ".join(words[count:])


# -- how close they came ---------------------------------------------------------------------------------------------


def draw_close_calls(axes: "Axes", panel: Panel) -> None:
    """Draw each position by how far its liquidation was and how far the mark went against it; on the diagonal it is liquidated."""
    import numpy as np
    from matplotlib.ticker import FuncFormatter

    percent = FuncFormatter(lambda value, _: f"{plainly(round(100 * value, 6))}%")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(percent)
    axes.grid(axis="x", color="#EDEDED", linewidth=1)
    unit_axis(axes, panel.unit)
    axes.set_xlabel(panel.unit_across, size=SMALL, color=GREY)
    points = panel.points
    if not points:
        _say_empty(axes, "no position was held that could have been liquidated")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks([])
        panel_title(axes, "no position to show")
        return
    across = np.array([min(point.x, FARTHEST) for point in points])
    up = np.array([min(point.y, FARTHEST) for point in points])
    farthest = float(max(across.max(), up.max(), 0.01))
    left, right = _across(across)
    axes.set_xlim(left, right)
    axes.set_ylim(0, farthest * ROOM)
    axes.fill_between([left, right], [left, right], max(farthest * ROOM, right), color=BLUSH, zorder=0)
    axes.plot([left, right], [left, right], color=RED, linewidth=1.6, zorder=1)
    said = "LIQUIDATED on the red line and above it"
    axes.text(0.02, 0.975, said, transform=axes.transAxes, ha="left", va="top", size=14, weight="bold", color=RED, zorder=2)
    _plot_points(axes, points, across, up)
    _name_survivors(axes, points)
    count = sum(point.is_liquidated for point in points)
    key = [("● long", BLUE), ("■ short", GREEN), ("✖ liquidated", RED)]
    beyond = sum(point.x > FARTHEST for point in points)
    many = "1 position" if len(points) == 1 else f"{len(points)} positions"
    title = f"{many}, {count} liquidated; below the red line are survivors"
    panel_title(axes, title, *key, *([(f"▶ {beyond} with their liquidation farther away than here", GREY)] if beyond else []))


def _across(across: "np.ndarray") -> tuple[float, float]:
    """Return the limits of the distances: from 0, or where they lie close together from a little before the first of them."""
    low, high = float(across.min()), max(float(across.max()), 0.01)
    if low < CLOSE * high:
        return 0.0, high * ROOM
    pad = max(0.4 * (high - low), 0.1 * high)
    return low - pad, high + pad


def _plot_points(axes: "Axes", points: "tuple[Point, ...]", across: "np.ndarray", up: "np.ndarray") -> None:
    """Draw the points; those farther away than the panel reaches are arrows on its edge."""
    import numpy as np

    dead, short = (
        np.array([getattr(point, name) == value for point in points]) for name, value in (("is_liquidated", True), ("side", "short"))
    )
    far = np.array([point.x > FARTHEST for point in points])
    looks = [
        (~dead & ~short, "o", BLUE, 9, 3),
        (~dead & short, "s", GREEN, 8, 3),
        (dead, "X", RED, 14, 5),
    ]  # chosen, shape, colour, size, in front of what
    for chosen, marker, color, size, order in looks:
        for is_far in (False, True):
            here = chosen & (far == is_far)
            shape = ">" if is_far else marker
            axes.plot(
                across[here], up[here], shape, color=color, markersize=size, markeredgecolor="white", zorder=order, clip_on=False, alpha=0.9
            )


def _name_survivors(axes: "Axes", points: "tuple[Point, ...]") -> None:
    """Name the survivors that came nearest, with what was left of their distance."""
    from matplotlib.patheffects import withStroke

    alive = [point for point in points if not point.is_liquidated and not isnan(point.x) and point.x <= FARTHEST]
    nearest = sorted((point for point in alive if point.x - point.y < NEAR * point.x), key=lambda point: point.x - point.y)
    (first, last), limit = axes.get_xlim(), axes.get_ylim()[1]
    named: list[float] = []
    for point in nearest[:MOST_NAMED]:
        if any(abs(point.y - other) < 0.05 * limit for other in named):
            continue
        named.append(point.y)
        is_right = point.x - first > 0.6 * (last - first)
        text = point.text.partition(": ")[2].replace(" UTC", "")
        style: dict[str, Any] = {"textcoords": "offset points", "size": 12, "color": INK, "va": "top", "zorder": 6}
        style["path_effects"] = [withStroke(linewidth=3, foreground="white")]
        axes.annotate(legible(text), (point.x, point.y), xytext=(-12 if is_right else 12, -12), ha="right" if is_right else "left", **style)
