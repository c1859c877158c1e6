"""Still pictures of a comparison: heat maps, equity fans, the leverage cliff, wealth against liquidation."""

from math import ceil, isfinite
from typing import TYPE_CHECKING, Any

from ..laboratory import (
    PICTURES,
    TIMES,
    Comparable,
    Heat,
    Laboratory,
    Trial,
    log_ticks,
    multiple,
    picture,
    probability,
    strength,
    wealth_limits,
)
from .drawing import (
    BLUE,
    GREEN,
    GREY,
    GRID,
    INK,
    LEFT,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    SMALL,
    TITLE,
    WIDTH,
    dress,
    fitted,
    legible,
    lettering,
    panel_title,
    sheet,
    text_width,
    times_said,
    unit_axis,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 0.42  # inches, of a heat map
HEAD, FOOT = 2.1, 1.25  # inches, about, above and below the panels
MOST_ACROSS = 4  # fans
FAN = 2.15  # inches, of one fan
FAN_POINTS = 400
COLORS = (BLUE, ORANGE, GREEN, PURPLE, GREY)
STYLES = ("-", "--", ":")
NAMES = 0.74  # where a panel ends whose curves are named in a key beside it
KEY_MARK = 0.95  # inches, of the stroke before a name in the key and of what is around both
PLUM = "#9C4F86"  # dark enough for white numbers
HEAT_COLORS = {"p_liquidation": RED, "liquidations": RED, "max_drawdown": RED, "p_ruin": PLUM}
DARK = 0.6  # a cell as strong as this has a white number


@lettering()
def heatmap(comparison: Comparable, *, title: str | None = None, note: str = "") -> "Figure":
    """Return median wealth, P(liquidation) and P(ruin) of every rule (down) at every leverage (across), numbers in the cells.

    Without bootstrap paths wealth, liquidations and drawdown on the market as it was. The best-ranked combination is framed; a
    cross in a corner is one beyond the cap. ``title`` replaces the sentence on top, ``note`` goes before the flags at the bottom.
    """
    laboratory = Laboratory(comparison)
    lines, heats = laboratory.lines, laboratory.heats()
    height = HEAD + FOOT + max(len(lines) * ROW, 1.6) + 0.5
    figure, top, bottom = _sheet(laboratory, height, title, note, "framed: the best-ranked")
    widest = max(text_width(figure, legible(line), SMALL) for line in lines)
    left = min(widest / WIDTH + 0.03, 0.27)
    axes = figure.subplots(1, len(heats), width_ratios=(1.25, 1, 1))
    figure.subplots_adjust(left=left, right=0.99, top=top - 0.3 / height, bottom=bottom + 0.25 / height, wspace=0.03)
    for panel, heat in zip(axes, heats, strict=True):
        _draw_heat(panel, laboratory, heat)
    room = (left - 0.012) * WIDTH
    names, sizes = zip(*(fitted(figure, legible(line), SMALL, room) for line in lines), strict=True)
    axes[0].set_yticks(range(len(lines)), names, color=INK, parse_math=False)
    for label, size in zip(axes[0].get_yticklabels(), sizes, strict=True):
        label.set_size(size)
    return figure


@lettering()
def fans(comparison: Comparable, *, leverage: float | None = None, title: str | None = None, note: str = "") -> "Figure":
    """Return the equity fan of every rule at one leverage (default: that of the best-ranked), all on one scale by logarithms.

    The dark band is 25 to 75 % of the paths, the pale one 5 to 95 %, the line the median; dashed is the market as it was.
    """
    laboratory = Laboratory(comparison)
    trials = [trial for trial in laboratory.at_leverage(leverage) if trial.id in comparison.fans]
    across = min(MOST_ACROSS, max(len(trials), 1))
    down = ceil(len(trials) / across) or 1
    height = HEAD + FOOT + down * (FAN + 0.35)
    what = "Equity over time, as multiples of the start,"
    said = title or (f"{what} at {trials[0].leverage:g}x" if trials else what)
    bands = "dark: 25 to 75 % of the paths, pale: 5 to 95 %, line: median, dashed: the market as it was" if laboratory.has_paths else ""
    figure, top, bottom = _sheet(laboratory, height, said, note, bands)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    figure.subplots_adjust(left=0.06, right=0.99, top=top - 0.2 / height, bottom=bottom, wspace=0.08, hspace=0.3)
    panels = list(grid.flat)
    dress(panels)
    low, high = laboratory.fan_limits([trial.id for trial in trials])
    limits = (low / 1.5, high)  # with room for a line of words
    for axes, trial in zip(panels, trials, strict=False):
        _draw_fan(axes, laboratory, trial, limits)
    for number, axes in enumerate(panels):
        axes.set_visible(number < len(trials))
        if number + across >= len(trials):
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("days", size=SMALL, color=GREY)
    return figure


@lettering()
def cliff(comparison: Comparable, *, by: str = "leverage", title: str | None = None, note: str = "") -> "Figure":
    """Return each rule's median log growth a year by leverage beside the market's Kelly parabola.

    ``by``: 'leverage', the one that was set, or 'mean_leverage', what accounts effectively had, which is the parabola's own. What
    falls below the panel is marked at its edge.
    """
    if by not in ("leverage", "mean_leverage"):
        raise ValueError(f"the cliff is drawn by 'leverage' or by 'mean_leverage', was {by!r}")
    laboratory = Laboratory(comparison)
    figure, top, bottom = _sheet(laboratory, 9, title, note)
    axes = figure.subplots()
    figure.subplots_adjust(left=LEFT, right=NAMES, top=top, bottom=bottom)
    dress([axes])
    low, high = laboratory.growth_limits()
    _draw_parabola(axes, laboratory, by, low)
    for place, line in enumerate(laboratory.growths()):
        color, style = COLORS[place % len(COLORS)], STYLES[place // len(COLORS) % len(STYLES)]
        across = line.leverages if by == "leverage" else line.mean_leverages
        heights = [max(growth, low) for growth in line.growths]
        axes.plot(across, heights, style, color=color, linewidth=1.8, label=_key_of(figure, line.line), zorder=3)
        for x, growth, is_safe in zip(across, line.growths, line.is_safe, strict=True):
            marker, size = ("v", 9) if growth < low else ("o", 7) if is_safe else ("X", 10)
            axes.plot(x, max(growth, low), marker, color=color, markersize=size, markeredgecolor="white", zorder=4, clip_on=False)
    axes.set_ylim(low, high)
    axes.axhline(0, color=INK, linewidth=1, zorder=2)
    _minus_axis(axes)
    unit_axis(axes, "median log growth a year")
    axes.set_xlabel("leverage set" if by == "leverage" else "mean effective leverage: notional / equity", size=SMALL, color=GREY)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=SMALL, labelcolor=INK)
    is_cut = any(growth < low for line in laboratory.growths() for growth in line.growths)
    caught = f"✖ beyond the cap of {probability(laboratory.cap)}" if laboratory.has_paths else "✖ liquidated"
    panel_title(
        axes,
        "The leverage cliff",
        ("● within" if laboratory.has_paths else "● never liquidated", GREY),
        (caught, GREY),
        *([("▼ lower than the panel", GREY)] if is_cut else []),
    )
    return figure


@lettering()
def pareto(comparison: Comparable, *, title: str | None = None, note: str = "") -> "Figure":
    """Return median wealth of every combination against its probability of liquidation, the frontier joined and named.

    Bars are Wilson intervals. Without bootstrap paths, wealth against the largest drawdown.
    """
    from matplotlib.ticker import FuncFormatter

    laboratory = Laboratory(comparison)
    figure, top, bottom = _sheet(laboratory, 10, title, note)
    axes = figure.subplots()
    figure.subplots_adjust(left=LEFT, right=0.97, top=top, bottom=bottom)
    dress([axes])
    axes.grid(axis="x", color=GRID, linewidth=1)
    known = [trial for trial in laboratory.trials if isfinite(trial.figure(laboratory.risk)) and isfinite(trial.figure("wealth_50"))]
    low, high = wealth_limits(trial.figure("wealth_50") for trial in known)
    high *= (high / low) ** 0.08  # room for the name of the highest
    _wealth_axis(axes, low, high)
    axes.set_xlim(-0.02, 1.03)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.axhline(1, color=GREY, linewidth=1, linestyle=":", zorder=1)
    if laboratory.has_paths and isfinite(laboratory.cap):
        axes.axvline(laboratory.cap, color=RED, linewidth=1.4, linestyle="--", zorder=1)
    _draw_trials(axes, laboratory, known, low)
    frontier = [trial for trial in laboratory.frontier() if trial.figure("wealth_50") > 0]
    _draw_frontier(axes, laboratory, frontier, low)
    unit_axis(axes, "median final wealth, multiples of the start" if laboratory.has_paths else "final wealth, multiples of the start")
    risk = "probability of at least one liquidation" if laboratory.has_paths else "largest drawdown, inside bars"
    axes.set_xlabel(risk, size=SMALL, color=GREY)
    key = (
        [("● within the cap", BLUE), ("✖ beyond it", RED)]
        if laboratory.has_paths
        else [("● never liquidated", BLUE), ("✖ liquidated", RED)]
    )
    panel_title(axes, f"{len(known)} combinations", *key, ("◆ frontier: none has more at less risk", GREEN))
    return figure


DRAWN = {"heatmap": heatmap, "fans": fans, "cliff": cliff, "pareto": pareto}


def drawn(comparison: Comparable, key: str, **options: Any) -> "Figure":
    """Return one of PICTURES; ValueError for another key."""
    if key not in DRAWN:
        raise ValueError(f"there is no picture {key!r} of a comparison; there are {', '.join(PICTURES)}")
    return DRAWN[key](comparison, **options)


def text(comparison: Comparable, key: str) -> str:
    """Return what a picture shows in tables of numbers, for who cannot see it."""
    return picture(comparison, key).as_text()


def _key_of(figure: "Figure", name: str) -> str:
    """Return a curve's name for the key beside its panel, in two lines where one has no room."""
    return "\n".join(wrapped(figure, legible(name), SMALL, (1 - NAMES) * WIDTH - KEY_MARK, 2))


# -- words -----------------------------------------------------------------------------------------------------------


def _sheet(laboratory: Laboratory, height: float, title: str | None, note: str, more: str = "") -> "tuple[Figure, float, float]":
    settings, comparison = laboratory.settings, laboratory.comparison
    notes = [note, *getattr(comparison, "flags", ())]
    symbols = ", ".join(settings.get("symbols") or [laboratory.market["symbol"]])
    paths = f"{laboratory.paths:,} bootstrap paths, seed {settings.get('seed')}" if laboratory.has_paths else "the market as it was"
    span = settings.get("span")
    when = f", {str(span[0])[:10]} to {str(span[1])[:10]} UTC" if isinstance(span, list | tuple) and len(span) == 2 else ""
    subtitle = f"{settings['strategy']} on {symbols}{when}; {len(laboratory.lines)} rules at {len(laboratory.leverages)} leverages; {paths}"
    subtitle += f"; {more}" if more else ""
    return sheet(
        height, [(headline(laboratory) if title is None else title, INK)], subtitle, "; ".join(filter(None, notes)), laboratory.lines
    )


def headline(laboratory: Laboratory) -> str:
    """Return the sentence that the pictures of a comparison tell: what is ranked first, its wealth and its liquidations."""
    best = laboratory.best
    wealth = multiple(best.figure("wealth_50"))
    if not laboratory.has_paths:
        count = round(best.figure("liquidations"))
        fate = f"liquidated {times_said(count)}" if count else "never liquidated"
        return f"Best: {best.name}, {wealth}, {fate}"
    dead = probability(best.figure("p_liquidation"))
    start = "Best within the cap" if best.is_admitted else f"None within the cap of {probability(laboratory.cap)}; best-ranked"
    return f"{start}: {best.name}, {wealth} on the median path, {dead} liquidated"


# -- heat maps -------------------------------------------------------------------------------------------------------


def _draw_heat(axes: "Axes", laboratory: Laboratory, heat: Heat) -> None:
    from matplotlib.patches import Rectangle

    axes.set_xlim(-0.5, len(laboratory.leverages) - 0.5)
    axes.set_ylim(len(laboratory.lines) - 0.5, -0.5)
    inches = axes.get_position().width * WIDTH / len(laboratory.leverages)
    room = inches * 72 * 0.9 / 0.64  # points by letters
    for row, line in enumerate(laboratory.lines):
        for column, leverage in enumerate(laboratory.leverages):
            value = float(heat.values[row, column])
            trial = laboratory.by_cell.get((line, leverage))
            share = strength(heat.key, value, heat.most) if isfinite(value) else 0.0
            color = HEAT_COLORS.get(heat.key, BLUE if share > 0 else ORANGE)
            face = _mixed(color, abs(share))
            axes.add_patch(Rectangle((column - 0.49, row - 0.48), 0.98, 0.96, facecolor=face, edgecolor="none", zorder=1))
            size = min(11.0, room / max(len(heat.said(value)), 4))
            ink = "white" if abs(share) > DARK else INK
            axes.text(column, row, heat.said(value), ha="center", va="center", size=size, color=ink, zorder=3)
            if heat.key == "wealth_50" and trial is not None and laboratory.is_caught(trial):
                axes.text(column + 0.45, row - 0.42, "✖", ha="right", va="top", size=6.5, color=ink, zorder=3)
            if trial is laboratory.best:
                axes.add_patch(Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, fill=False, edgecolor=INK, linewidth=2.2, zorder=4))
    axes.set_xticks(
        range(len(laboratory.leverages)), [f"{lever:g}x" for lever in laboratory.leverages], size=min(11.0, room / 4), color=GREY
    )
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("leverage", size=SMALL, color=GREY)
    names = {
        "wealth_50": f"Median wealth {TIMES} start" if laboratory.has_paths else f"Wealth {TIMES} start",
        "p_liquidation": "P(liquidation), %",
    }
    names |= {"p_ruin": "P(ruin), %", "liquidations": "Liquidations", "max_drawdown": "Drawdown, %"}
    marked = (" ✖ beyond the cap" if laboratory.has_paths else " ✖ liquidated") if heat.key == "wealth_50" else ""
    axes.set_title(names[heat.key] + marked, loc="left", size=TITLE, color=GREY)


def _mixed(color: str, share: float) -> Any:
    """Return so much of a colour in white."""
    from matplotlib.colors import to_rgb

    return tuple(1 - 0.92 * share * (1 - part) for part in to_rgb(color))


# -- fans ------------------------------------------------------------------------------------------------------------


def _draw_fan(axes: "Axes", laboratory: Laboratory, trial: Trial, limits: tuple[float, float]) -> None:
    import numpy as np

    days, fan, history = laboratory.fan(trial.id, FAN_POINTS)
    shown = np.maximum(fan, limits[0] / 2)
    _wealth_axis(axes, *limits)
    axes.axhline(1, color=GREY, linewidth=1, linestyle=":", zorder=1)
    if laboratory.has_paths:
        axes.fill_between(days, shown[0], shown[4], color=SKY, alpha=0.3, linewidth=0, zorder=2)
        axes.fill_between(days, shown[1], shown[3], color=SKY, alpha=0.6, linewidth=0, zorder=3)
        if history is not None:
            axes.plot(days, np.maximum(history, limits[0] / 2), color=ORANGE, linewidth=1.1, linestyle="--", zorder=4)
    axes.plot(days, shown[2], color=BLUE, linewidth=1.8, zorder=5)
    axes.set_xlim(float(days[0]), float(days[-1]))
    figure: Any = axes.figure
    name, size = fitted(figure, legible(trial.line), 13, axes.get_position().width * WIDTH - 0.1, weight="bold")
    axes.set_title(name, loc="left", size=size, weight="bold", color=INK, parse_math=False)
    is_caught = laboratory.is_caught(trial)
    said = f"{multiple(trial.figure('wealth_50'))}, liquidations {trial.figure('liquidations'):g}"
    if laboratory.has_paths:
        dead, ruin = (probability(trial.figure(key)) for key in ("p_liquidation", "p_ruin"))
        said = f"median {multiple(trial.figure('wealth_50'))}, liquidated {dead}, ruin {ruin}"
    style: dict[str, Any] = {"color": RED if is_caught else GREY, "weight": "bold" if is_caught else "normal", "va": "bottom", "zorder": 6}
    axes.text(0.02, 0.02, ("✖ " if is_caught else "") + said, transform=axes.transAxes, size=11, **style)


def _wealth_axis(axes: "Axes", low: float, high: float) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(FixedLocator(log_ticks(low, high)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}{TIMES}"))


# -- cliff and scatter -----------------------------------------------------------------------------------------------


def _draw_parabola(axes: "Axes", laboratory: Laboratory, by: str, low: float) -> None:
    """Draw the parabola over the leverages shown, on an axis by logarithms that names them."""
    import numpy as np
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    held = [lever for line in laboratory.growths() for lever in line.mean_leverages if lever > 0]
    shown = laboratory.leverages if by == "leverage" or not held else held
    first, last = min(shown) / 1.15, max(shown) * 1.15
    levers = np.geomspace(first, last, 300)
    growth = laboratory.kelly(levers)
    seen = growth >= low  # nowhere, where the market is not known
    if seen.any():
        axes.plot(levers[seen], growth[seen], color=INK, linewidth=2.2, linestyle="--", label="Kelly parabola", zorder=2)
    axes.set_xscale("log")
    axes.set_xlim(first, last)
    axes.xaxis.set_major_locator(FixedLocator(laboratory.leverages if by == "leverage" else log_ticks(first, last, 10)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))


def _minus_axis(axes: "Axes") -> None:
    from matplotlib.ticker import FuncFormatter

    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "\N{MINUS SIGN}")))


def _draw_trials(axes: "Axes", laboratory: Laboratory, trials: list[Trial], low: float) -> None:
    for is_caught, marker, color, size in ((False, "o", BLUE, 8), (True, "X", RED, 9)):
        chosen = [trial for trial in trials if laboratory.is_caught(trial) is is_caught]
        across = [trial.figure(laboratory.risk) for trial in chosen]
        up = [max(trial.figure("wealth_50"), low) for trial in chosen]
        if laboratory.has_paths:
            first, last = ([trial.figure(f"p_liquidation_{edge}") for trial in chosen] for edge in ("low", "high"))
            axes.hlines(up, first, last, color=color, linewidth=1, alpha=0.3, zorder=2)
        axes.plot(across, up, marker, color=color, markersize=size, markeredgecolor="white", alpha=0.85, clip_on=False, zorder=3)


def _draw_frontier(axes: "Axes", laboratory: Laboratory, frontier: list[Trial], low: float) -> None:
    from matplotlib.patheffects import withStroke

    across, up = [trial.figure(laboratory.risk) for trial in frontier], [max(trial.figure("wealth_50"), low) for trial in frontier]
    axes.plot(across, up, color=GREEN, linewidth=1.5, drawstyle="steps-post", zorder=4)
    axes.plot(across, up, "D", color=GREEN, markersize=10, markeredgecolor="white", zorder=5)
    names = laboratory.named_frontier(*axes.get_ylim())
    for number, trial in enumerate(frontier):
        if trial.id not in names:
            continue
        is_right = across[number] > 0.6
        style: dict[str, Any] = {"textcoords": "offset points", "size": SMALL, "color": INK, "weight": "bold", "zorder": 6}
        style["path_effects"] = [withStroke(linewidth=3, foreground="white")]
        place = (-10 if is_right else 10, 9)
        axes.annotate(
            legible(trial.name), (across[number], up[number]), xytext=place, ha="right" if is_right else "left", parse_math=False, **style
        )
