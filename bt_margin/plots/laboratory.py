"""Still pictures of a comparison: heat maps, equity fans, the leverage cliff, wealth against liquidation, the ranked table."""

from math import ceil, isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from ..laboratory import (
    PICTURES,
    TIMES,
    Comparable,
    Heat,
    Laboratory,
    Trial,
    left_out,
    log_ticks,
    multiple,
    picture,
    probability,
    ranked_by,
    shown_as,
    strength,
    told_apart,
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
    PALE,
    PURPLE,
    RED,
    SKY,
    SMALL,
    TITLE,
    WIDTH,
    dress,
    fitted,
    folded,
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

Box = tuple[float, float, float, float]  # left, bottom, right, top

ROW = 0.42  # inches, of a heat map
HEAD, FOOT = 2.1, 1.25  # inches, about, above and below the panels
MOST_ACROSS = 4  # fans
FAN, ABOVE_FAN, BELOW_FAN = 2.0, 0.75, 0.1  # inches: of one fan, of its words above it, of its days below it
KEY = 0.3  # inches, of the line that says what bands and lines are
FAN_NAME = 13.0  # points
FAN_POINTS = 400
PALE_BAND, DARK_BAND = 0.3, 0.6  # how opaque
BESIDE = ((11.0, 14.0), (-11.0, 14.0), (11.0, -14.0), (-11.0, -14.0))  # of a mark, points to the right and up
MARK = 4.0  # points, from a mark's middle to its edge
COLORS = (BLUE, ORANGE, GREEN, PURPLE, GREY)
STYLES = ("-", "--", ":")
MEDIAN: dict[str, Any] = {"color": BLUE, "linewidth": 1.8}
HISTORY: dict[str, Any] = {"color": ORANGE, "linewidth": 1.1, "linestyle": "--"}
NAMES = 0.74  # where a panel ends whose curves are named in a key beside it
KEY_MARK = 0.95  # inches, of the stroke before a name in the key and of what is around both
PLUM = "#9C4F86"  # dark enough for white numbers
HEAT_COLORS = {"p_liquidation": RED, "liquidations": RED, "max_drawdown": RED, "p_ruin": PLUM}
DARK = 0.213  # a ground of less luminance than this has a white number, whose contrast is then the higher one
LETTER = 0.64  # of its size, how wide a digit is
NAMES_OF_RULES = 0.23  # of a heat map, at most
LEVERS_APART = 0.035  # of an axis, the names of two leverages
MOST_RANKED = 20  # rows of the ranked table
RANKED_AROUND = 2.0  # inches, above and below the ranked table
RANK, HEADS, PARTED = 0.4, 0.72, 0.5  # inches: of a row, of the heads, of the words that part what is beyond the cap
CELL, BETWEEN = 12.5, 0.26  # points; inches between columns
BASE = 0.06  # inches, from the middle of a row down to where its letters stand
VALUE, RULE = 1.4, 2.0  # inches: at most of what varies beside the rule, at least of the rule


@lettering()
def heatmap(comparison: Comparable, *, title: str | None = None, note: str = "") -> "Figure":
    """Return median wealth, P(liquidation) and P(ruin) of every rule (down) at every leverage (across), numbers in the cells.

    Without bootstrap paths wealth, liquidations and drawdown on the market as it was. The best-ranked combination is framed; a
    cross in a corner is one beyond the cap. ``title`` replaces the sentence on top, ``note`` goes before the flags at the bottom.
    """
    laboratory = Laboratory(comparison)
    lines, heats = laboratory.lines, laboratory.heats()
    more = f"blue: more than the start, orange: less; ✖: {_cross_said(laboratory)}; framed: ranked first"
    panels = max(len(lines) * ROW, 1.6) + 0.5
    figure, top, bottom = _sheet(laboratory, "heatmap", HEAD + FOOT + panels, title, note, more)
    height = figure.get_figheight()
    widest = max(text_width(figure, legible(line), SMALL) for line in lines)
    left = min(widest / WIDTH + 0.03, NAMES_OF_RULES)
    axes = figure.subplots(1, len(heats), width_ratios=(1.25, 1, 1))
    figure.subplots_adjust(left=left, right=0.99, top=top - 0.3 / height, bottom=bottom + 0.25 / height, wspace=0.03)
    for panel, heat in zip(axes, heats, strict=True):
        _draw_heat(panel, laboratory, heat)
    room = (left - 0.012) * WIDTH
    names, sizes = zip(*(folded(figure, legible(line), SMALL, room) for line in lines), strict=True)
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
    pitch = FAN + ABOVE_FAN + BELOW_FAN
    what = f"Equity over time at {trials[0].leverage:g}x leverage" if trials else "Equity over time"
    said = f"{what}, as multiples of the start" if title is None else title
    figure, top, bottom = _sheet(laboratory, "fans", HEAD + FOOT + KEY + down * pitch, said, note)
    inch = 1 / figure.get_figheight()
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    gap = (ABOVE_FAN + BELOW_FAN) / FAN
    figure.subplots_adjust(
        left=LEFT, right=0.985, top=top - (KEY + ABOVE_FAN - 0.3) * inch, bottom=bottom + 0.2 * inch, wspace=0.08, hspace=gap
    )
    panels = list(grid.flat)
    dress(panels)
    limits = laboratory.fan_limits([trial.id for trial in trials])
    for axes, trial in zip(panels, trials, strict=False):
        _draw_fan(axes, laboratory, trial, limits)
    for number, axes in enumerate(panels):
        axes.set_visible(number < len(trials))
        if number + across >= len(trials):
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("days", size=SMALL, color=GREY)
    _draw_fan_key(figure, laboratory.has_paths, top + 0.3 * inch)
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
    has_kelly = isfinite(laboratory.kelly_leverage)
    parabola = f"Kelly parabola: {laboratory.market['symbol']} held at that leverage all the time, without costs, funding or liquidation"
    figure, top, bottom = _sheet(laboratory, "cliff", 9, title, note, parabola if has_kelly else "")
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
    unit_axis(
        axes, "median log growth a year (0.69 doubles the money)" if laboratory.has_paths else "log growth a year (0.69 doubles the money)"
    )
    axes.set_xlabel("leverage set" if by == "leverage" else "mean effective leverage: notional / equity", size=SMALL, color=GREY)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=SMALL, labelcolor=INK)
    is_cut = any(growth < low for line in laboratory.growths() for growth in line.growths)
    panel_title(
        axes,
        "A curve for each rule",
        (f"● {_safe_said(laboratory)}", GREY),
        (f"✖ {_caught_said(laboratory)}", GREY),
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
    figure, top, bottom = _sheet(laboratory, "pareto", 10, title, note, _bars_said(laboratory))
    axes = figure.subplots()
    figure.subplots_adjust(left=LEFT, right=0.97, top=top, bottom=bottom)
    dress([axes])
    axes.grid(axis="x", color=GRID, linewidth=1)
    known = [trial for trial in laboratory.trials if isfinite(trial.figure(laboratory.risk)) and isfinite(trial.figure("wealth_50"))]
    low, high = wealth_limits(trial.figure("wealth_50") for trial in known)
    high *= (high / low) ** 0.08  # room for the name of the highest
    _wealth_axis(axes, low, high, 12)
    axes.set_xlim(-0.02, 1.03)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.axhline(1, color=GREY, linewidth=1, linestyle=":", zorder=1)
    if laboratory.has_paths and isfinite(laboratory.cap):
        axes.axvline(laboratory.cap, color=RED, linewidth=1.4, linestyle="--", zorder=1)
        cap = f"the cap, {probability(laboratory.cap)}"
        style: dict[str, Any] = {"xytext": (5, -5), "textcoords": "offset points", "va": "top", "size": SMALL, "color": RED}
        axes.annotate(cap, (laboratory.cap, 1), xycoords=("data", "axes fraction"), **style)
    _draw_trials(axes, laboratory, known, low)
    _draw_frontier(axes, laboratory, known, low)
    unit_axis(axes, "median final wealth, multiples of the start" if laboratory.has_paths else "final wealth, multiples of the start")
    risk = "probability of at least one liquidation" if laboratory.has_paths else "largest drawdown, inside bars"
    axes.set_xlabel(risk, size=SMALL, color=GREY)
    is_cut = any(trial.figure("wealth_50") < low for trial in known)
    panel_title(
        axes,
        "Rules at leverages",
        (f"● {_safe_said(laboratory)}", BLUE),
        (f"✖ {_caught_said(laboratory)}", RED),
        ("◆ unbeaten: none has more at less risk", GREEN),
        *([("▼ lower than the panel", GREY)] if is_cut else []),
    )
    return figure


@lettering()
def ranked(comparison: Comparable, *, title: str | None = None, note: str = "") -> "Figure":
    """Return the first combinations in rank order as a table, a line between those within the cap and those beyond it.

    Wealth at 5, 50 and 95 % of the paths and probabilities; without bootstrap paths what the market as it was came to. A cross is what
    it is in ``heatmap``. Margin mode, venue and params have columns where they vary and have room, else they stand with the rule.
    """
    laboratory = Laboratory(comparison)
    shown = laboratory.trials[:MOST_RANKED]
    within = sum(trial.is_admitted for trial in shown)
    parted = PARTED if within < len(shown) else 0.0
    rest = left_out(len(laboratory.trials), len(shown))
    height = HEADS + len(shown) * RANK + parted + (RANK if rest else 0.0)
    until = laboratory.settings.get("walk_forward")
    order = ranked_by(laboratory.cap, has_paths=laboratory.has_paths)
    more = f"ranked {order if parted else order.removesuffix(' (above the line)')}; ✖: {_cross_said(laboratory)}"
    more += f"; figures of the bars until {str(until)[:10]}" if until is not None else ""
    notes = "; ".join(filter(None, (note, _meanings(laboratory))))
    figure, _, bottom = _sheet(laboratory, "ranked", RANKED_AROUND + height, title, notes, more)
    inches = figure.get_figheight()
    axes = figure.add_axes((0, bottom - 0.25 / inches, 1, height / inches))
    axes.set_axis_off()
    axes.set(xlim=(0, WIDTH), ylim=(height, 0))
    columns = _ranked_columns(figure, laboratory, shown, (0.985 - LEFT) * WIDTH)
    first, last = LEFT * WIDTH, columns[-1].edge
    places = [HEADS + (number + 0.5) * RANK + (parted if number >= within else 0.0) for number in range(len(shown))]
    _draw_heads(axes, columns)
    for column in columns:
        for place, cell in zip(places, column.cells, strict=True):
            _write_cell(axes, column, place, cell)
    for place, trial in zip(places, shown, strict=True):
        style: dict[str, Any] = {"size": CELL, "va": "baseline", "ha": "right"}
        axes.text(first - 0.42, place + BASE, str(trial.rank), color=GREY, **style)
        if laboratory.is_caught(trial):
            axes.text(first - 0.12, place + BASE, "✖", color=RED, **style)
        axes.hlines(place + RANK / 2, first - 0.7, last, color=GRID, linewidth=1)
    axes.hlines(HEADS, first - 0.7, last, color=PALE, linewidth=1.2)
    if parted:
        line = HEADS + within * RANK
        axes.hlines(line, first - 0.7, last, color=INK, linewidth=2)
        axes.text(first, line + parted / 2, _beyond_said(laboratory), color=RED, size=CELL, weight="bold", va="center")
    axes.text(first, height - RANK / 2, rest, color=GREY, size=CELL, va="center")
    return figure


DRAWN = {"heatmap": heatmap, "fans": fans, "cliff": cliff, "pareto": pareto, "ranked": ranked}


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


def _sheet(laboratory: Laboratory, key: str, height: float, title: str | None, note: str, more: str = "") -> "tuple[Figure, float, float]":
    settings, comparison = laboratory.settings, laboratory.comparison
    notes = [note, *getattr(comparison, "flags", ())]
    symbols = ", ".join(settings.get("symbols") or [laboratory.market["symbol"]])
    count = laboratory.paths
    paths = f"{count:,} bootstrap path{'s' * (count != 1)}, seed {settings.get('seed')}" if count else "the market as it was"
    span = settings.get("span")
    when = f", {str(span[0])[:10]} to {str(span[1])[:10]} UTC" if isinstance(span, list | tuple) and len(span) == 2 else ""
    rules, levers = len(laboratory.lines), len(laboratory.leverages)
    of = f"{rules} rule{'s' * (rules != 1)} at {levers} leverage{'s' * (levers != 1)}"
    subtitle = f"{settings['strategy']} on {symbols}{when}; {of}; {paths}"
    subtitle += f"; {more}" if more else ""
    said = {"cliff": cliff_said, "pareto": pareto_said, "ranked": ranked_said}.get(key, headline)(laboratory) if title is None else title
    return sheet(height, [(said, INK)], subtitle, "; ".join(filter(None, notes)), laboratory.lines, is_whole=True)


def _bars_said(laboratory: Laboratory) -> str:
    return f"bars: {_confidence_said(laboratory)} Wilson intervals" if laboratory.has_paths else ""


def _safe_said(laboratory: Laboratory) -> str:
    if not laboratory.has_paths:
        return "never liquidated"
    return f"liquidated on at most {probability(laboratory.cap)} of paths" if isfinite(laboratory.cap) else "within the cap"


def _caught_said(laboratory: Laboratory) -> str:
    if not laboratory.has_paths:
        return "liquidated"
    return f"on more than {probability(laboratory.cap)}" if isfinite(laboratory.cap) else "beyond the cap"


def _cross_said(laboratory: Laboratory) -> str:
    is_capped = laboratory.has_paths and isfinite(laboratory.cap)
    return f"liquidated on more than {probability(laboratory.cap)} of the paths" if is_capped else _caught_said(laboratory)


def _beyond_said(laboratory: Laboratory) -> str:
    """Return what is below the line of the ranked table."""
    failed = any(trial.figure("errors") > 0 for trial in laboratory.trials if not trial.is_admitted)
    start = "Beyond the cap: " if laboratory.has_paths and isfinite(laboratory.cap) else ""
    end = "" if laboratory.has_paths else " on the market as it was"
    said = f"{start}{_cross_said(laboratory)}{end}{', or with runs that failed' if failed else ''}"
    return said[0].upper() + said[1:]


def _meanings(laboratory: Laboratory) -> str:
    """Return what the heads of the ranked table mean; wealth has its quantile in the head."""
    has_paths = laboratory.has_paths
    told = dict(column.words(has_paths=has_paths and key != "wealth_50") for key, column in laboratory.ranked.items())
    meanings = [f"{name}: {meaning}" for name, meaning in told.items()]
    return "; ".join([*meanings, *([f"{_confidence_said(laboratory)} Wilson intervals"] if has_paths else [])])


def _confidence_said(laboratory: Laboratory) -> str:
    return probability(float(laboratory.settings.get("confidence") or 0.95))


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


def cliff_said(laboratory: Laboratory) -> str:
    """Return the sentence that the cliff tells: how many rules lose money at the lowest leverage and at the highest."""
    told: list[str] = []
    for lever in dict.fromkeys((laboratory.leverages[0], laboratory.leverages[-1])):
        growths = [growth for line in laboratory.growths() for x, growth in zip(line.leverages, line.growths, strict=True) if x == lever]
        told.append(f"{sum(growth < 0 for growth in growths)} of {len(growths)}{'' if told else ' rules lose money'} at {lever:g}x")
    return f"The leverage cliff: {', '.join(told)}"


def pareto_said(laboratory: Laboratory) -> str:
    """Return the sentence that the scatter tells: how many combinations are within the cap, without paths how many are unbeaten."""
    if not laboratory.has_paths:
        return f"Wealth against drawdown: {len(laboratory.frontier())} of {len(laboratory.trials)} combinations unbeaten at both"
    return f"Wealth against liquidation: {_within_said(laboratory)}"


def ranked_said(laboratory: Laboratory) -> str:
    """Return the sentence that the ranked table tells: how many combinations are within the cap and which is first."""
    return f"{_within_said(laboratory)}; first: {laboratory.trials[0].name}"


def _within_said(laboratory: Laboratory) -> str:
    count = f"of {len(laboratory.trials)} combinations"
    if not laboratory.has_paths:
        return f"{sum(not laboratory.is_caught(trial) for trial in laboratory.trials)} {count} never liquidated"
    cap = f" of {probability(laboratory.cap)}" if isfinite(laboratory.cap) else ""
    return f"{sum(trial.is_admitted for trial in laboratory.trials)} {count} within the cap{cap}"


# -- the ranked table ------------------------------------------------------------------------------------------------


class _Column(NamedTuple):
    """A column of the ranked table: its head, its cells, which edge they share, how they look, and what stands above several heads."""

    head: str
    cells: list[str]
    above: str = ""
    edge: float = 0.0  # inches from the left of the figure, of the right edges of numbers or the left edges of words
    room: float = 0.0  # inches
    is_number: bool = True
    color: str = INK
    weight: str = "normal"


def _ranked_columns(figure: "Figure", laboratory: Laboratory, shown: list[Trial], room: float) -> list[_Column]:
    """Return the columns of the ranked table, set beside each other in so many inches; the rule has what the others leave."""
    numbers = [_Column("leverage", [f"{trial.leverage:g}x" for trial in shown]), *_figure_columns(laboratory, shown)]
    beside = [
        _Column("margin mode" if name == "margin_mode" else name, [str(trial.figures[name]) for trial in shown], is_number=False)
        for name in laboratory.beside
    ]
    is_apart = room - sum(_width(figure, column) + BETWEEN for column in (*numbers, *beside)) >= RULE
    others = [numbers[0], *(beside if is_apart else []), *numbers[1:]]
    widths = [_width(figure, column) for column in others]
    rule = [str(trial.figures["rule"]) if is_apart else trial.line for trial in shown]
    left = room - sum(widths) - BETWEEN * len(widths)
    rules = _Column("rule", rule, is_number=False)
    rules = rules._replace(edge=LEFT * WIDTH, room=min(left, _widest(figure, rules)))
    placed, edge = [rules], rules.edge + rules.room
    gap = min(BETWEEN + (left - rules.room) / len(widths), 2 * BETWEEN)
    for column, width in zip(others, widths, strict=True):
        placed.append(column._replace(edge=edge + gap + (width if column.is_number else 0.0), room=width))
        edge += gap + width
    return placed


def _figure_columns(laboratory: Laboratory, shown: list[Trial]) -> list[_Column]:
    columns = []
    for key, figure in laboratory.ranked.items():
        name, cells = figure.words(has_paths=laboratory.has_paths)[0], [shown_as(trial.figure(key), figure.form) for trial in shown]
        if key == "wealth_50" and laboratory.has_paths:
            for share in (5, 50, 95):
                of = [shown_as(trial.figure(f"wealth_{share}"), figure.form) for trial in shown]
                look: dict[str, Any] = {"weight": "bold"} if share == 50 else {"color": GREY}
                columns.append(_Column(f"{share} %", of, f"{name} on the paths at", **look))
        elif key == "p_liquidation":
            spans = [[shown_as(trial.figure(f"{key}_{edge}"), figure.form) for edge in ("low", "high")] for trial in shown]
            columns.append(_Column("of the paths", cells, name, weight="bold"))
            columns.append(
                _Column(f"{_confidence_said(laboratory)} interval", [f"{low} to {high}" for low, high in spans], name, color=GREY)
            )
        else:
            columns.append(_Column(name, cells))
    return columns


def _head_lines(column: _Column) -> list[str]:
    """Return a head in one line below what stands above several, else in two, the last word in the second."""
    return [legible(column.head)] if column.above else legible(column.head).rsplit(" ", 1)


def _widest(figure: "Figure", column: _Column) -> float:
    """Return how wide the cells of a column and its head are, in inches."""
    cells = max(text_width(figure, legible(cell), CELL, weight=column.weight) for cell in column.cells)
    return max(cells, *(text_width(figure, line, CELL) for line in _head_lines(column)))


def _width(figure: "Figure", column: _Column) -> float:
    """Return how much room a column beside the rule is given: what it needs, of words no more than VALUE."""
    return _widest(figure, column) if column.is_number else min(_widest(figure, column), VALUE)


def _draw_heads(axes: "Axes", columns: list[_Column]) -> None:
    """Write the heads; what stands above several is there once, with a line below it."""
    figure: Any = axes.figure
    style: dict[str, Any] = {"size": CELL, "color": GREY, "va": "baseline", "parse_math": False}
    lines = (HEADS - 0.12, HEADS - 0.4)  # the lower first
    for column in columns:
        style["ha"] = "right" if column.is_number else "left"
        for height, said in zip(lines, reversed(_head_lines(column)), strict=False):
            axes.text(column.edge, height, fitted(figure, said, CELL, column.room)[0], **style)
    for name in dict.fromkeys(column.above for column in columns if column.above):
        under = [column for column in columns if column.above == name]
        axes.text(under[-1].edge, lines[1], legible(name), **{**style, "ha": "right"})
        axes.hlines(HEADS - 0.32, under[0].edge - under[0].room, under[-1].edge, color=PALE, linewidth=1)


def _write_cell(axes: "Axes", column: _Column, place: float, cell: str) -> None:
    figure: Any = axes.figure
    text, size = legible(cell), CELL
    if not column.is_number:
        text, size = folded(figure, text, CELL, column.room)
    is_one = "\n" not in text
    style: dict[str, Any] = {"va": "baseline" if is_one else "center", "ha": "right" if column.is_number else "left", "size": size}
    style |= {"color": column.color, "weight": column.weight, "linespacing": 1.05, "parse_math": False}
    axes.text(column.edge, place + (BASE if is_one else 0.0), text, **style)


# -- heat maps -------------------------------------------------------------------------------------------------------


def _draw_heat(axes: "Axes", laboratory: Laboratory, heat: Heat) -> None:
    from matplotlib.patches import Rectangle

    axes.set_xlim(-0.5, len(laboratory.leverages) - 0.5)
    axes.set_ylim(len(laboratory.lines) - 0.5, -0.5)
    inches = axes.get_position().width * WIDTH / len(laboratory.leverages)
    room = inches * 72 * 0.9 / LETTER  # points by letters
    least = 4 if heat.key == "wealth_50" else 3  # letters that any cell has room for, for numbers of one size
    for row, line in enumerate(laboratory.lines):
        for column, leverage in enumerate(laboratory.leverages):
            value = float(heat.values[row, column])
            trial = laboratory.by_cell.get((line, leverage))
            share = strength(heat.key, value, heat.most) if isfinite(value) else 0.0
            color = HEAT_COLORS.get(heat.key, BLUE if share > 0 else ORANGE)
            face = _mixed(color, abs(share))
            axes.add_patch(Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, facecolor=face, edgecolor="none", zorder=1))
            size = min(11.0, room / max(len(heat.said(value)), least))
            ink = _ink_on(face)
            axes.text(column, row + 0.07, heat.said(value), ha="center", va="center", size=size, color=ink, zorder=3)
            if heat.key == "wealth_50" and trial is not None and laboratory.is_caught(trial):
                axes.text(column + 0.45, row - 0.42, "✖", ha="right", va="top", size=7.5, color=ink, zorder=3)
            if trial is laboratory.best:
                axes.add_patch(Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, fill=False, edgecolor=INK, linewidth=2.2, zorder=4))
    levers = [f"{lever:g}x" for lever in laboratory.leverages]
    axes.set_xticks(range(len(levers)), levers, size=min(11.0, room / max(map(len, levers))), color=GREY)
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("leverage", size=SMALL, color=GREY)
    wealth = f"{'Median wealth' if laboratory.has_paths else 'Wealth'} at the end, {TIMES} the start"
    names = {"wealth_50": wealth, "p_liquidation": "P(liquidation), % of paths", "p_ruin": "P(ruin), % of paths"}
    names |= {"liquidations": "Liquidations", "max_drawdown": "Largest drawdown, %"}
    figure: Any = axes.figure
    name, size = fitted(figure, names[heat.key], TITLE, axes.get_position().width * WIDTH)
    axes.set_title(name, loc="left", size=size, color=GREY)


def _mixed(color: str, share: float) -> Any:
    """Return so much of a colour in white."""
    from matplotlib.colors import to_rgb

    return tuple(1 - 0.92 * share * (1 - part) for part in to_rgb(color))


def _ink_on(face: tuple[float, float, float]) -> str:
    """Return which of white and INK can be told better from a ground (luminance as of WCAG 2)."""
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in face)
    return "white" if 0.2126 * red + 0.7152 * green + 0.0722 * blue < DARK else INK


# -- fans ------------------------------------------------------------------------------------------------------------


def _draw_fan(axes: "Axes", laboratory: Laboratory, trial: Trial, limits: tuple[float, float]) -> None:
    import numpy as np

    days, fan, history = laboratory.fan(trial.id, FAN_POINTS)
    shown = np.maximum(fan, limits[0] / 2)
    _wealth_axis(axes, *limits)
    axes.axhline(1, color=GREY, linewidth=1, linestyle=":", zorder=1)
    if laboratory.has_paths:
        axes.fill_between(days, shown[0], shown[4], color=SKY, alpha=PALE_BAND, linewidth=0, zorder=2)
        axes.fill_between(days, shown[1], shown[3], color=SKY, alpha=DARK_BAND, linewidth=0, zorder=3)
        if history is not None:
            axes.plot(days, np.maximum(history, limits[0] / 2), zorder=4, **HISTORY)
    axes.plot(days, shown[2], zorder=5, **MEDIAN)
    axes.set_xlim(float(days[0]), float(days[-1]))
    is_caught = laboratory.is_caught(trial)
    said = f"{multiple(trial.figure('wealth_50'))}, liquidations {trial.figure('liquidations'):g}"
    if laboratory.has_paths:
        dead, ruin = (probability(trial.figure(key)) for key in ("p_liquidation", "p_ruin"))
        said = f"median {multiple(trial.figure('wealth_50'))}, liquidated {dead}, ruin {ruin}"
    _fan_words(axes, trial.line, ("✖ " if is_caught else "") + said, is_caught=is_caught)


def _fan_words(axes: "Axes", name: str, said: str, *, is_caught: bool) -> None:
    """Write above a fan, where nothing is hidden, whose it is and what became of it."""
    figure: Any = axes.figure
    room, weight = axes.get_position().width * WIDTH, "bold" if is_caught else "normal"
    text, size = fitted(figure, said, 11, room, weight=weight)
    style: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom", "annotation_clip": False}
    axes.annotate(text, (0, 1), xytext=(0, 4), size=size, weight=weight, color=RED if is_caught else GREY, **style)
    text, size = folded(figure, legible(name), FAN_NAME, room, weight="bold")
    axes.annotate(text, (0, 1), xytext=(0, 19), size=size, weight="bold", color=INK, linespacing=1.1, parse_math=False, **style)


def _draw_fan_key(figure: "Figure", has_paths: bool, top: float) -> None:
    """Say once for all fans what their bands and lines are."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    keys: list[Any] = [Line2D([], [], label="median path" if has_paths else "on the market as it was", **MEDIAN)]
    if has_paths:
        keys.append(Patch(facecolor=SKY, alpha=1 - (1 - PALE_BAND) * (1 - DARK_BAND), label="25 to 75 % of the paths"))
        keys.append(Patch(facecolor=SKY, alpha=PALE_BAND, label="5 to 95 %"))
        keys.append(Line2D([], [], label="on the market as it was", **HISTORY))
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (LEFT, top), "borderaxespad": 0, "borderpad": 0}
    figure.legend(handles=keys, ncols=len(keys), frameon=False, fontsize=SMALL, labelcolor=INK, columnspacing=2.0, **place)


def _wealth_axis(axes: "Axes", low: float, high: float, most: int = 6) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(FixedLocator(log_ticks(low, high, most)))
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
    axes.xaxis.set_major_locator(
        FixedLocator(told_apart(laboratory.leverages, LEVERS_APART) if by == "leverage" else log_ticks(first, last, 10))
    )
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
        style: dict[str, Any] = {"color": color, "markeredgecolor": "white", "clip_on": False, "zorder": 3}
        axes.plot(across, up, marker, markersize=size, alpha=0.85, **style)
        under = [x for x, trial in zip(across, chosen, strict=True) if trial.figure("wealth_50") < low]
        axes.plot(under, [low] * len(under), "v", markersize=size + 2, **{**style, "zorder": 4})


def _draw_frontier(axes: "Axes", laboratory: Laboratory, trials: list[Trial], low: float) -> None:
    """Join what no other beats and name as many as have room, the best and the richest first."""
    from matplotlib.patheffects import withStroke

    frontier = [trial for trial in laboratory.frontier() if trial.figure("wealth_50") > 0]

    def spot(trial: Trial) -> tuple[float, float]:
        return trial.figure(laboratory.risk), max(trial.figure("wealth_50"), low)

    across, up = zip(*map(spot, frontier), strict=True) if frontier else ((), ())
    axes.plot(across, up, color=GREEN, linewidth=1.5, drawstyle="steps-post", zorder=4)
    axes.plot(across, up, "D", color=GREEN, markersize=10, markeredgecolor="white", zorder=5)
    figure: Any = axes.figure
    style: dict[str, Any] = {"textcoords": "offset points", "size": SMALL, "color": INK, "weight": "bold", "zorder": 6, "parse_math": False}
    style["path_effects"] = [withStroke(linewidth=3, foreground="white")]
    dots = [tuple(place) for place in axes.transData.transform([spot(trial) for trial in trials]) * 72 / figure.dpi]
    window = tuple(axes.get_window_extent().extents * 72 / figure.dpi)
    taken: list[Box] = []
    for trial in sorted(frontier, key=lambda trial: (trial is not laboratory.best, -trial.figure("wealth_50"))):
        name = legible(trial.name)
        width = text_width(figure, name, SMALL, weight="bold") * 72
        x, y = axes.transData.transform(spot(trial)) * 72 / figure.dpi
        place = _free_place((x, y), width, window, taken, dots)
        if place is not None:
            right, up_by, box = place
            taken.append(box)
            align = "left" if right > 0 else "right"
            axes.annotate(name, spot(trial), xytext=(right, up_by), ha=align, va="center", **style)


def _free_place(
    at: tuple[float, float], width: float, window: Box, taken: list[Box], dots: list[tuple[float, ...]]
) -> tuple[float, float, Box] | None:
    """Return where beside a mark a name of this width hides the fewest others: points to the right, points up and the room it takes.

    None where each place is outside the window or on another name.
    """
    found = []
    for number, (right, up) in enumerate(BESIDE):
        left = at[0] + right - (width if right < 0 else 0.0)
        box = (left, at[1] + up - SMALL * 0.7, left + width, at[1] + up + SMALL * 0.7)
        is_out = box[0] < window[0] or box[1] < window[1] or box[2] > window[2] or box[3] > window[3]
        if is_out or any(box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in taken):
            continue
        hidden = sum(box[0] - MARK < x < box[2] + MARK and box[1] - MARK < y < box[3] + MARK for x, y in dots)
        found.append((hidden, number, (right, up, box)))
    return min(found)[2] if found else None
