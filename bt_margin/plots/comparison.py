"""Many runs side by side: a panel for each on one scale, and all of them ranked."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from ..panels import kept_rows
from ..result import Result
from .account import scale_money
from .drawing import (
    BLUE,
    GREY,
    INK,
    LEFT,
    PALE,
    RED,
    SKY,
    TITLE,
    WIDTH,
    cut,
    date_axis,
    dress,
    fitted,
    legible,
    lettering,
    mark_deaths,
    money,
    naive,
    plainly,
    sheet,
    span_said,
)
from .pages import MOST_LETTERS, checked, growth, rules

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_HEIGHT = 1.9  # inches
ROW_HEIGHT = (0.36, 0.62)  # inches, at least and at most
HEAD, FOOT = 2.5, 1.1  # inches, about, above and below the panels
TIMES = "\N{MULTIPLICATION SIGN}"
TABLE = (0.64, 0.985)  # where the table begins and ends across
COLUMNS = (0.54, 0.68, 0.84, 1.0)  # right edges of its numbers, across the table
BELOW_TITLES = 0.3  # inches, for the words above panels and table
MOST_IN_TITLE = 44  # letters of a label on top
PARAM = "param "  # before the name of a strategy's own setting, which may be that of another
MOST_ACROSS = 4  # panels, where the runs form a grid
LOW = 0.35  # of a panel: liquidations below leave no room for the word there
CONTEXT_STEPS = 300  # the other runs are drawn pale and more coarsely


class _Run(NamedTuple):
    """One run as it is compared: its curve in multiples of its starting money, deposits and withdrawals taken out."""

    label: str
    result: Result
    times: "np.ndarray"
    curve: "np.ndarray"
    lowest: "np.ndarray"

    @property
    def multiple(self) -> float:
        return float(self.curve[-1])

    @property
    def deaths(self) -> int:
        return int(self.result.summary["liquidations"])


@lettering()
def compare(results: Mapping[str, Result] | Sequence[Result], *, title: str | None = None, note: str = "") -> "Figure":
    """Return the equity of many runs, a panel each on one scale in multiples of their starting money, and their ranking.

    ``results`` maps a label to each run; those of a plain sequence are labelled by the settings in which they differ.
    Where the runs are every value of one setting with every value of another (five sizers at three leverages), the panels
    form that grid; elsewhere they stand in the order given, three to a row from seven runs on. Pale behind each are the
    other runs. The table is in the order of return, deposits and withdrawals taken out. ``title`` replaces the sentences
    on top, ``note`` goes before the results' flags at the bottom.
    """
    labelled = _labelled(results)
    labels = _told_apart(labelled)
    runs = [_run(label, result) for label, result in zip(labels, labelled.values(), strict=True)]
    runs, across, order = _laid_out(runs)
    down = ceil(len(runs) / across)
    height = HEAD + FOOT + max(down * PANEL_HEIGHT, (len(runs) + 1) * ROW_HEIGHT[0], 3.6)
    figure, top, bottom = sheet(height, _sentences(runs, title), _subtitle(runs, order), _footnote(runs, note), labelled)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    figure.subplots_adjust(left=LEFT, right=TABLE[0] - 0.03, top=top - BELOW_TITLES / height, bottom=bottom, wspace=0.14, hspace=0.32)
    panels = list(grid.flat)
    dress(panels)
    _time_axis(panels, runs, across)
    bends = scale_money(panels[0], 1.0, lowest=min(run.lowest.min() for run in runs), highest=max(1.0, *(run.curve.max() for run in runs)))
    _multiples_axis(panels[0])
    for axes, run in zip(panels, runs, strict=False):
        _draw_run(axes, run, runs)
    for axes in panels[len(runs) :]:
        axes.set_visible(False)
    top -= (BELOW_TITLES - 0.33) / height
    text = f"Equity, multiples of the starting money{bends.replace('1.00', f'1{TIMES}')}"
    figure.text(LEFT, top, text, size=TITLE, color=GREY, va="bottom", parse_math=False)
    _draw_table(figure, runs, top, (top - bottom) * height)
    return figure


# -- what is compared ------------------------------------------------------------------------------------------------


def _labelled(results: Any) -> dict[str, Result]:
    """Return the runs by label; ValueError where there is none, one is no Result, or two have the same label."""
    if isinstance(results, Result) or not isinstance(results, Mapping | Sequence) or isinstance(results, str):
        raise ValueError(f"compare() draws a mapping of label to Result, or a sequence of Results, was {type(results).__name__}")
    if not results:
        raise ValueError("compare() draws one Result or more, there was none")
    if isinstance(results, Mapping):
        runs = [checked(result, f"compare(): {label!r}") for label, result in results.items()]
        labels = [str(label) for label in results]
    else:
        runs = [checked(result, f"compare(): result {number}") for number, result in enumerate(results, 1)]
        labels = _differences(runs)
    label, count = Counter(labels).most_common(1)[0]
    if count > 1:
        raise ValueError(f"compare() tells runs apart by their labels, {count} of them were {label!r}; give a mapping of label to Result")
    return dict(zip(labels, runs, strict=True))


def _told_apart(labels: Iterable[str]) -> list[str]:
    """Return labels as they are written, with their number where only letters that no font has tell some of them apart."""
    written = [legible(label) for label in labels]
    counts = Counter(written)
    return [text if counts[text] == 1 else f"{text} ({number})" for number, text in enumerate(written, 1)]


def _differences(results: Sequence[Result]) -> list[str]:
    """Return what is particular to each run, the strategy's name where nothing is."""
    facts = _telling(results)
    said = [", ".join(filter(None, each)) for each in zip(*facts.values(), strict=True)] or [""] * len(results)
    return [text or result.settings["strategy"] for text, result in zip(said, results, strict=True)]


def _telling(results: Sequence[Result]) -> dict[str, list[str]]:
    """Return the facts in which runs differ, each as it is said of every run ('' where a run has no such thing)."""
    facts = [_facts(result) for result in results]
    said = {name: [each.get(name, "") for each in facts] for name in dict.fromkeys(name for each in facts for name in each)}
    return {name: texts for name, texts in said.items() if len(set(texts)) > 1}


def _facts(result: Result) -> dict[str, str]:
    """Return what may tell one run from another, as it is said in a label."""
    settings = result.settings
    leverages, modes = (list(dict.fromkeys(settings[name].values())) for name in ("leverage", "margin_mode"))
    span = settings["data"]
    return {
        "strategy": settings["strategy"],
        **{f"{PARAM}{name}": text for name, text in _params(settings["params"]).items()},
        "sizer": _sizer(result.strategy.getsizer()),
        "symbols": " ".join(settings["leverage"]),
        "leverage": " ".join(f"{leverage:g}x" for leverage in leverages),
        "margin_mode": " ".join(modes),
        "venue": f"{settings['venue'] or 'own'} rules",
        "cash": f"cash {settings['cash']:,.10g}",
        "intrabar": f"intrabar {settings['intrabar']}",
        "unfunded": f"unfunded {settings['unfunded']}",
        "filters": f"filters {settings['filters']}",
        "on_liquidation": f"then {settings['on_liquidation']}",
        "span": f"{span['first'][:10]} to {span['last'][:10]}",
        "bar": f"bars of {span['bar_seconds']:,.10g} s",
    }


def _sizer(sizer: Any) -> str:
    """Return a sizer's name with what of its params is not the default; the value alone where that is one."""
    defaults = _params(sizer.p._getkwargsdefault())
    chosen = [text for name, text in _params(sizer.p._getkwargs()).items() if text != defaults[name]]
    return " ".join([type(sizer).__name__, *(chosen if len(chosen) != 1 else [chosen[0].partition("=")[2]])])


def _params(params: Mapping[str, Any]) -> dict[str, str]:
    return {name: f"{name}={cut(value, MOST_LETTERS)}" for name, value in params.items()}


def _laid_out(runs: list[_Run]) -> tuple[list[_Run], int, str]:
    """Return the runs in the order of their panels, how many of these stand across, and words for a grid ('' where there is none).

    A grid is every value of one setting with every value of another, one run each. Leverages stand across if there are
    few, else the setting of at most MOST_ACROSS values that has the most.
    """
    facts = {name: (texts, list(dict.fromkeys(texts))) for name, texts in _telling([run.result for run in runs]).items()}
    wide = [name for name, (_, values) in facts.items() if len(values) <= MOST_ACROSS]
    for across in sorted(wide, key=lambda name: (name != "leverage", -len(facts[name][1]))):
        for down in facts:
            (texts, columns), (others, rows) = facts[across], facts[down]
            cells = {(row, column): run for row, column, run in zip(others, texts, runs, strict=True)}
            if down != across and len(cells) == len(runs) == len(rows) * len(columns):
                order = f"across: {', '.join(columns)}; down: {down.removeprefix(PARAM).replace('_', ' ')}"
                return [cells[row, column] for row in rows for column in columns], len(columns), order
    return runs, 1 if len(runs) <= 3 else 2 if len(runs) <= 6 else 3, ""


def _run(label: str, result: Result) -> _Run:
    import numpy as np

    start = result.summary["start_cash"]
    equity, lowest = (np.asarray(series) for series in result.levels)
    return _Run(label, result, naive(result.equity.index), equity / start, lowest / start)


# -- words -----------------------------------------------------------------------------------------------------------


def _sentences(runs: Sequence[_Run], title: str | None) -> list[tuple[str, str]]:
    if title is not None:
        return [(title, INK)]
    best = max(runs, key=lambda run: run.multiple)
    dead = sum(run.deaths > 0 for run in runs)
    start = best.result.summary["start_cash"]
    first = f"Best of {len(runs)}: {cut(best.label, MOST_IN_TITLE)}, {growth(start, start * best.multiple)}"
    fate = (
        "None was ever liquidated"
        if not dead
        else f"{'All' if dead == len(runs) else dead} of {len(runs)} {'was' if dead == 1 else 'were'} liquidated"
    )
    return [(first, INK), (fate if len(runs) > 1 or not dead else "It was liquidated", RED if dead else GREY)]


def _subtitle(runs: Sequence[_Run], order: str) -> str:
    """Return what all runs have in common, what the panels show and in which order they stand."""
    settings = [run.result.settings for run in runs]
    kinds = ([each["strategy"] for each in settings], [f"on {rules(each)}" for each in settings])
    kind = " ".join(said[0] for said in kinds if len(set(said)) == 1)
    venues = [f"{each['venue'] or 'own'} rules" for each in settings]
    common = [kind] * bool(kind) + venues[:1] * (len(set(venues)) == 1)
    first, last = min(run.result.equity.index[0] for run in runs), max(run.result.equity.index[-1] for run in runs)
    net = ", deposits and withdrawals taken out" if any(run.result.flows for run in runs) else ""
    panels = "; ".join([f"Each panel: equity over starting money{net}", *([order] if order else []), "pale: the other runs"])
    return f"{', '.join([*common, span_said(first, last)])}. {panels}"


def _footnote(runs: Sequence[_Run], note: str) -> str:
    flags = dict.fromkeys(flag for run in runs for flag in run.result.summary["flags"])
    return "; ".join([note, *flags] if note else flags)


# -- panels ----------------------------------------------------------------------------------------------------------


def _time_axis(panels: "Sequence[Axes]", runs: Sequence[_Run], across: int) -> None:
    """Show the time of all runs; below the lowest panel of each column it is named."""
    times = _all_times(runs)
    for number, axes in enumerate(panels[: len(runs)]):
        date_axis(axes, times, most=5 if across > 1 else 13)
        is_lowest = number + across >= len(runs)
        axes.tick_params(labelbottom=is_lowest)
        if not is_lowest:
            axes.set_xlabel("")


def _all_times(runs: Sequence[_Run]) -> "pd.DatetimeIndex":
    times = runs[0].result.equity.index
    for run in runs[1:]:
        times = times.union(run.result.equity.index)
    return times


def _multiples_axis(axes: "Axes") -> None:
    from matplotlib.ticker import FuncFormatter

    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}{TIMES}"))


def _draw_run(axes: "Axes", run: _Run, runs: Sequence[_Run]) -> None:
    for other in runs:
        if other is not run:
            rows = kept_rows(other.lowest, other.curve, CONTEXT_STEPS)
            axes.plot(other.times[rows], other.curve[rows], color=PALE, linewidth=0.7, alpha=0.8, zorder=1)
    axes.axhline(1, color=GREY, linewidth=1, linestyle=":", zorder=2)
    axes.axhline(0, color=INK, linewidth=1, zorder=2)
    rows = kept_rows(run.lowest, run.curve, CONTEXT_STEPS * 2)
    axes.fill_between(run.times[rows], run.lowest[rows], run.curve[rows], color=SKY, alpha=0.6, linewidth=0.6, zorder=3)
    axes.plot(run.times[rows], run.curve[rows], color=BLUE, linewidth=1.8, marker="o" if len(rows) == 1 else "", zorder=4)
    _mark_deaths(axes, run)
    figure: Any = axes.figure
    room = axes.get_position().width * WIDTH - 0.8
    label, size = fitted(figure, run.label, 13, room, weight="bold")
    axes.set_title(label, loc="left", size=size, weight="bold", color=INK, parse_math=False)
    axes.set_title(f"{run.multiple:,.2f}{TIMES}", loc="right", size=13, weight="bold", color=RED if run.deaths else BLUE)


def _mark_deaths(axes: "Axes", run: _Run) -> None:
    from matplotlib.patheffects import withStroke

    if not run.deaths:
        return
    times, bars = run.result.liquidations["time"].drop_duplicates(), run.result.equity.index
    heights = run.curve[bars.searchsorted(times).clip(max=len(bars) - 1)]
    mark_deaths(axes, times, heights, 11)
    said = "LIQUIDATED" if run.deaths == 1 else f"LIQUIDATED {run.deaths} TIMES"
    is_low = (axes.transScale + axes.transLimits).transform([(0.0, heights.min())])[0, 1] < LOW
    place: dict[str, Any] = (
        {"x": 0.98, "y": 0.92, "ha": "right", "va": "top"} if is_low else {"x": 0.02, "y": 0.17, "ha": "left", "va": "bottom"}
    )
    stroke = [withStroke(linewidth=3, foreground="white")]
    axes.text(s=said, transform=axes.transAxes, size=11, weight="bold", color=RED, zorder=9, path_effects=stroke, **place)


# -- the table -------------------------------------------------------------------------------------------------------


def _draw_table(figure: "Figure", runs: Sequence[_Run], top: float, inches: float) -> None:
    """Rank the runs by return: final equity, return, largest drawdown inside bars, liquidations."""
    from matplotlib.lines import Line2D

    left, right = TABLE
    edges = [left + edge * (right - left) for edge in COLUMNS]
    row = min(max(inches / len(runs), ROW_HEIGHT[0]), ROW_HEIGHT[1]) / figure.get_figheight()
    figure.text(left, top, "Ranked", size=TITLE, color=GREY, va="bottom")
    for edge, head in zip(edges, ("final equity", "of start", "drawdown", "liquidated"), strict=True):
        figure.text(edge, top, head, size=11, color=GREY, ha="right", va="bottom")
    room = (edges[0] - left) * WIDTH - 0.95
    for rank, run in enumerate(sorted(runs, key=lambda run: -run.multiple), 1):
        above = top - (rank - 1) * row - 0.04 / figure.get_figheight()
        figure.add_artist(Line2D([left, right], [above, above], color=PALE, linewidth=0.6))
        _draw_row(figure, run, rank, above - row / 2, left, edges, room)


def _draw_row(figure: "Figure", run: _Run, rank: int, line: float, left: float, edges: Sequence[float], room: float) -> None:
    summary = run.result.summary
    worst = summary["max_drawdown"]
    label, size = fitted(figure, f"{rank}  {run.label}", 13, room)
    figure.text(left, line, label, size=size, color=INK, va="center", parse_math=False)
    cells = (
        (money(summary["final_equity"], summary["start_cash"]), INK),
        (f"{run.multiple:,.2f}{TIMES}", INK),
        (f"{plainly(round(-100 * worst, 0 if worst >= 0.1 else 1) + 0.0)}%", INK),
        (f"✖ {run.deaths}" if run.deaths else "never", RED if run.deaths else GREY),
    )
    for edge, (text, color) in zip(edges, cells, strict=True):
        figure.text(edge, line, text, size=13, color=color, ha="right", va="center", weight="bold" if color == RED else "normal")
