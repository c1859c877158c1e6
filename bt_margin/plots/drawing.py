"""What every picture is made with: colours, thinning, sentences, marks and labels that do not cover each other."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from math import floor, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..panels import STEPS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GREY, PALE, GRID = "#222222", "#6B6B6B", "#C9C9C9", "#EDEDED"
BLUE, SKY, GREEN, ORANGE, RED, PURPLE = "#0072B2", "#56B4E9", "#009E73", "#D55E00", "#C8102E", "#CC79A7"
BLUSH = "#FDEDEA"  # behind what is impossible or fatal
TITLE, LABEL, SMALL, GAP = 14.0, 15, 13, 14  # points
WIDTH = 16.0  # inches, of every picture
LEFT, RIGHT = 0.08, 0.85  # where panels begin and end across; names of curves stand right of them
MOST_FOOTNOTES = 4  # lines at the bottom
FOLDED = 0.85  # of its size, a name in two lines
FEW_BARS = 160  # up to here they are drawn as candles
SUFFIXES = (".png", ".svg")
EDGE = 9.0  # points, from the first and the last instant to the panel's edges: marks there are drawn whole
MOST_NAMES = 3  # of contracts, named one by one
FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK TC", "Noto Sans CJK HK", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "Noto Sans TC"),
    *("Source Han Sans SC", "Source Han Sans CN", "Source Han Sans TC", "Source Han Sans", "Sarasa Gothic SC"),
    *("Microsoft YaHei", "Microsoft JhengHei", "SimHei", "SimSun", "DengXian", "Yu Gothic", "MS Gothic", "Malgun Gothic"),
    *("PingFang SC", "Hiragino Sans GB", "Heiti SC", "Heiti TC", "STHeiti", "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "AR PL UMing CN", "IPAGothic", "NanumGothic", "Unifont"),
)  # with the letters that DejaVu lacks, first the ones that look best beside it
SIDES = (
    *((0.0, -24.0, "center"), (0.0, 24.0, "center"), (14.0, 0.0, "left"), (-14.0, 0.0, "right")),
    *((14.0, 20.0, "left"), (14.0, -20.0, "left"), (-14.0, 20.0, "right"), (-14.0, -20.0, "right")),
)  # of a mark: points to the right, points up, alignment of a label there
TIED = 18.0  # points, from the panel to a name that is tied to its curve
MARK = 9.0  # points, from a mark's middle to its edge
WARNING_MARKS = (("warning", "D", ORANGE, "◇ warned"), ("margin_call", "s", INK, "□ margin called"), ("top_up", "P", GREEN, "✚ topped up"))
BOLD = (600, 700, 800, "semibold", "demibold", "bold", "extra bold")  # weights as matplotlib knows them
DOT = "\N{MIDDLE DOT}"  # for a letter that no font has


class End(NamedTuple):
    """Where a curve ends, and what is written there."""

    time: "pd.Timestamp"
    height: float
    text: str
    color: str


def spread(wanted: "Sequence[float]", heights: "Sequence[float]", room: float) -> "list[float]":
    """Return centres for labels of these heights: in the order given (rising), apart, inside ``room``, near ``wanted``.

    The least squares answer: labels that would overlap become one pile, centred on the mean of what they wanted.

    >>> spread([10.0, 12.0, 80.0], [20.0, 20.0, 20.0], room=100.0)
    [10.0, 30.0, 80.0]
    """
    stacked, below = [], 0.0  # centres, were all labels piled up from 0
    for height in heights:
        stacked.append(below + height / 2)
        below += height
    piles: list[tuple[float, int]] = []
    for want, centre in zip(wanted, stacked, strict=True):
        level, count = want - centre, 1
        while piles and piles[-1][0] > level:
            other, more = piles.pop()
            level, count = (level * count + other * more) / (count + more), count + more
        piles.append((level, count))
    levels = [level for level, count in piles for _ in range(count)]
    return [min(max(level, 0.0), max(room - below, 0.0)) + centre for level, centre in zip(levels, stacked, strict=True)]


def save(figure: "Figure", path: str | Path) -> Path:
    """Write a picture as PNG or SVG, whichever the path ends with, in the same bytes every time; return the path.

    ``figure.savefig`` does as well, but stamps an SVG with the time and with random identifiers.
    """
    import matplotlib as mpl

    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"a picture is saved as {' or '.join(SUFFIXES)}, was {path.name!r}; name the file so")
    written = BytesIO()
    if path.suffix.lower() == ".svg":
        with mpl.rc_context({"svg.hashsalt": "bt_margin"}):  # matplotlib reads the salt of identifiers from nowhere else
            figure.savefig(written, format="svg", metadata={"Date": None})
    else:
        figure.savefig(written, format="png")
    path.write_bytes(written.getvalue())
    return path


# -- words and numbers -----------------------------------------------------------------------------------------------


def money(value: float, scale: float) -> str:
    """Return an amount to three digits or so of ``scale``, whole from 100 on.

    >>> money(4833.7, 10_000), money(0.12345, 0.5)
    ('4,834', '0.123')
    """
    digits = 0 if scale >= 100 or scale <= 0 else 2 - floor(log10(scale))
    text = f"{value:,.{digits}f}"
    return (text[1:] if text.startswith("-") and float(text.replace(",", "")) == 0 else text).replace("-", "\N{MINUS SIGN}")


def amount(value: float, scale: float) -> str:
    """Return ``money``; what would be said to be nothing and is not is said to its own digits.

    >>> amount(0.187, 10_000), amount(0.0, 10_000), amount(1234.5, 10_000)
    ('0.187', '0', '1,234')
    """
    said = money(value, scale)
    return money(value, abs(value)) if value and not said.strip("0.\N{MINUS SIGN}") else said


def plainly(value: float, _: Any = None) -> str:
    """Return a number with thousands apart and no more digits than it has.

    >>> plainly(20000.0), plainly(0.1 + 0.2)
    ('20,000', '0.3')
    """
    return f"{value:,.10g}".replace("-", "\N{MINUS SIGN}")


def times_said(count: int) -> str:
    """Return how often, in words where it is short."""
    return "once" if count == 1 else f"{count} times"


def named(symbols: Sequence[str], last: str = "and") -> str:
    """Return the names of a few contracts, or of the first and how many more there are.

    >>> named(["A", "B", "C"]), named(["A", "B", "C", "D"]), named(["A", "B"], "or")
    ('A, B, C', 'A, B and 2 more', 'A or B')
    """
    if len(symbols) > MOST_NAMES:
        return f"{', '.join(symbols[: MOST_NAMES - 1])} {last} {len(symbols) - MOST_NAMES + 1} more"
    if last == "and" or len(symbols) < 2:
        return ", ".join(symbols)
    return f"{', '.join(symbols[:-1])} {last} {symbols[-1]}"


# -- letters ---------------------------------------------------------------------------------------------------------


@contextmanager
def lettering() -> Iterator[None]:
    """Let the texts made within take letters that the user's fonts lack from DejaVu, which comes with matplotlib, or from FONTS.

    Those of FONTS that have a bold face where there are such: of the others matplotlib logs at each bold text that it has none.
    """
    import matplotlib as mpl
    from matplotlib.font_manager import fontManager

    faces = {(font.name, font.weight in BOLD) for font in fontManager.ttflist}
    bold, plain = ([name for name in FONTS if (name, is_bold) in faces] for is_bold in (True, False))
    with mpl.rc_context({"font.family": [*mpl.rcParams["font.family"], "DejaVu Sans", *(bold or plain)]}):
        yield


def legible(text: str) -> str:
    """Return a text with DOT for each letter that none of the fonts of ``lettering`` has.

    matplotlib would draw an empty box for it, and warn.
    """
    if text.isascii() and text.isprintable():
        return text
    weights = [_fonts(weight) for weight in ("normal", "bold")]

    def is_known(letter: str) -> bool:
        return letter == "\n" or all(any(font.get_char_index(ord(letter)) for font in fonts) for fonts in weights)

    return "".join(letter if is_known(letter) else DOT for letter in text)


def _fonts(weight: str) -> list[Any]:
    import matplotlib as mpl
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return [get_font(findfont(FontProperties(family=[family], weight=weight))) for family in mpl.rcParams["font.family"]]


# -- the sheet -------------------------------------------------------------------------------------------------------


def sheet(
    height: float, sentences: Sequence[tuple[str, str]], subtitle: str, footnote: str, labels: Iterable[str] = (), *, is_whole: bool = False
) -> tuple["Figure", float, float]:
    """Return an empty figure with its sentences (text, colour) on top and its footnote, and where panels end and begin.

    Both are fractions of the height, the upper one first. Where a letter of these words, or of the ``labels`` that are to
    be written elsewhere, is in no font, the footnote says so. With ``is_whole`` nothing of subtitle and footnote is cut: what of
    them has no room makes the picture higher.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    room = (0.985 - LEFT) * WIDTH
    if any(legible(text) != text for text in (*(text for text, _ in sentences), subtitle, footnote, *labels)):
        footnote = f"each {DOT} is a letter that none of the installed fonts has, install one such as Noto Sans CJK; {footnote}"
    sentences, subtitle, footnote = [(legible(text), color) for text, color in sentences], legible(subtitle), legible(footnote)
    lines = wrapped(figure, subtitle, SMALL, room, None if is_whole else 3)
    notes = wrapped(figure, footnote, 10, room, None if is_whole else MOST_FOOTNOTES)
    above, below = 0.24 * (len(lines) - 1), (0.2 if is_whole else 0.19) * max(len(notes) - 2, 0)
    if is_whole:
        height += above + below
        figure.set_figheight(height)
    inch = 1 / height
    top = 1 - 0.45 * inch
    for text, color in sentences:
        size = shrunk(figure, text, 26, room, weight="bold")
        figure.text(LEFT, top, text, size=size, weight="bold", color=color, va="center", parse_math=False)
        top -= 0.47 * inch
    figure.text(LEFT, top + 0.15 * inch, "\n".join(lines), size=SMALL, color=GREY, va="top", linespacing=1.3, parse_math=False)
    top -= above * inch
    figure.text(LEFT, (0.42 + below) * inch, "\n".join(notes), size=10, color=GREY, va="top", linespacing=1.4, parse_math=False)
    return figure, top - 0.61 * inch, (1 + below) * inch


def text_width(figure: "Figure", text: str, size: float, *, weight: str = "normal") -> float:
    """Return how wide a line of text is, in inches."""
    from matplotlib.font_manager import FontProperties

    renderer: Any = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    font = FontProperties(size=size, weight=weight)
    return float(renderer.get_text_width_height_descent(text or " ", font, False)[0]) / figure.dpi


def wrapped(figure: "Figure", text: str, size: float, room: float, most: int | None, *, weight: str = "normal") -> list[str]:
    """Return text as lines no wider than ``room`` inches; where there are more than ``most`` the last ends in an ellipsis.

    A number and its per cent sign stay together.
    """
    lines = [""]
    for kept in " ".join(text.split()).replace(" %", "\N{NO-BREAK SPACE}%").split(" "):
        if most is not None and len(lines) > most:
            break
        word = kept.replace("\N{NO-BREAK SPACE}", " ")
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(figure, longer, size, weight=weight) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    if most is None or len(lines) <= most:
        return lines
    return [*lines[: most - 1], f"{lines[most - 1][:-2]} \N{HORIZONTAL ELLIPSIS}"]


def folded(figure: "Figure", text: str, size: float, room: float, *, weight: str = "normal") -> tuple[str, float]:
    """Return a name in ``room`` inches and its size: in one line, else in two smaller ones about as long, each of which is ``fitted``."""
    if text_width(figure, text, size, weight=weight) <= room:
        return text, size
    size *= FOLDED
    words = text.replace(" %", "\N{NO-BREAK SPACE}%").split(" ")
    breaks = [[" ".join(part).replace("\N{NO-BREAK SPACE}", " ") for part in (words[:at], words[at:])] for at in range(1, len(words))]

    def widest(pieces: Sequence[str]) -> float:
        return max(text_width(figure, piece, size, weight=weight) for piece in pieces)

    fits = [fitted(figure, piece, size, room, weight=weight) for piece in min(breaks, key=widest, default=[text])]
    return "\n".join(piece for piece, _ in fits), min(smaller for _, smaller in fits)


def fitted(figure: "Figure", text: str, size: float, room: float, *, weight: str = "normal") -> tuple[str, float]:
    """Return a line no wider than ``room`` inches, and its size: smaller by a third at most, then without its middle."""
    size = shrunk(figure, text, size, room, least=size * 2 / 3, weight=weight)
    most = min(len(text), int(1.1 * len(text) * room / text_width(figure, text, size, weight=weight)))
    while most > 2 and text_width(figure, cut(text, most), size, weight=weight) > 1.02 * room:
        most -= 1
    return cut(text, most), size


def shrunk(figure: "Figure", text: str, size: float, room: float, *, least: float = 1.0, weight: str = "normal") -> float:
    """Return the size at which a line is no wider than ``room`` inches, or ``least``: letters do not shrink quite as their size does."""
    size = max(min(size, size * room / text_width(figure, text, size, weight=weight)), least)
    while size > least and text_width(figure, text, size, weight=weight) > room:
        size = max(0.98 * size, least)
    return size


def cut(value: Any, most: int) -> str:
    """Return a value as text of at most so many letters, without its middle if need be.

    >>> cut("abcdefgh", 5)
    'ab…gh'
    """
    text = str(value)
    return text if len(text) <= most else f"{text[: most // 2]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - (most - 1) // 2 :]}"


def dress(panels: "Iterable[Axes]") -> None:
    """Give panels their quiet frame, grid and numbers."""
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(PALE)
        axes.tick_params(labelsize=SMALL, colors=GREY)
        axes.grid(axis="y", color=GRID, linewidth=1)
        axes.set_axisbelow(True)


def unit_axis(axes: "Axes", unit: str) -> None:
    """Say beside a panel what its numbers count."""
    axes.set_ylabel(legible(unit), size=SMALL, color=GREY, parse_math=False)


def date_axis(axes: "Axes", times: "pd.DatetimeIndex", *, most: int = 13) -> None:
    """Show the time from the first of ``times`` to the last, with room for whole candles and marks; say it is UTC."""
    import pandas as pd

    first, last = times[0], times[-1]
    pad = (last - first) * EDGE / (axes.get_position().width * WIDTH * 72 - 2 * EDGE) if last > first else pd.Timedelta(minutes=30)
    if len(times) <= FEW_BARS:
        pad = max(pad, (last - first) / (2 * len(times)))
    axes.set_xlim(*naive([first - pad, last + pad]))
    date_ticks(axes, most)
    years = f"{first:%Y}" if first.year == last.year else f"{first:%Y} to {last:%Y}"
    month = f"{first:%b} {years}" if (first.year, first.month) == (last.year, last.month) else years
    axes.set_xlabel(f"{first:%d %b %Y}, UTC" if is_short(first, last) else f"{month}, UTC", size=SMALL, color=GREY)


def is_short(first: "pd.Timestamp", last: "pd.Timestamp") -> bool:
    """Return whether a span is told by its hours and not by its days."""
    return (last - first).total_seconds() < 2 * 86_400


def span_said(first: "pd.Timestamp", last: "pd.Timestamp") -> str:
    """Return from when to when."""
    detail = "%d %b %Y %H:%M" if is_short(first, last) else "%d %b %Y"
    return f"{first:{detail}} to {last:{detail}} UTC"


def date_ticks(axes: "Axes", most: int) -> None:
    """Put dates below a panel, as short as they can be: at most 13 of them (a year by months), or at most 5 below a small one."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    # With a minimum of 5 and few at most there are spans for which matplotlib has no interval, and it warns.
    locator = AutoDateLocator(minticks=5 if most >= 12 else 2, maxticks=most)
    style = ConciseDateFormatter(locator, show_offset=False)
    if most < 12:  # of few days not even one need be the first of its month, which would name it
        style.formats[2] = style.zero_formats[2] = style.zero_formats[3] = "%d %b"
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(style)


def naive(times: Any) -> "np.ndarray":
    """Return UTC instants without their zone, as matplotlib wants them."""
    import pandas as pd

    return pd.DatetimeIndex(times).tz_convert(None).to_numpy()


# -- marks and labels ------------------------------------------------------------------------------------------------


def panel_title(axes: "Axes", text: str, *more: tuple[str, str]) -> None:
    """Write what a panel shows above it; ``more`` are pieces in colours of their own, such as the key of its marks."""
    figure: Any = axes.figure
    text, more = legible(text), tuple((legible(piece), color) for piece, color in more)
    room = (0.99 - axes.get_position().x0) * WIDTH
    wide, gaps = sum(text_width(figure, piece, TITLE) for piece in (text, *(piece for piece, _ in more))), len(more) * GAP / 72
    room = 0.97 * room - gaps  # what is drawn piece by piece is a little wider than what is measured
    size = min(TITLE, TITLE * room / wide)
    before: Any = axes.set_title(text, loc="left", size=size, color=GREY, parse_math=False)
    for piece, color in more:
        style: dict[str, Any] = {"xytext": (GAP, 0), "textcoords": "offset points", "size": size, "color": color, "va": "bottom"}
        before = axes.annotate(piece, (1, 0), xycoords=before, **style)


def mark_deaths(axes: "Axes", times: Any, heights: Any, markersize: float = 15) -> None:
    """Mark liquidations."""
    axes.plot(naive(times), heights, "X", color=RED, markersize=markersize, markeredgecolor="white", markeredgewidth=1.2, zorder=8)


def mark_warnings(axes: "Axes", kinds: Any, times: Any, heights: Any) -> list[tuple[str, str]]:
    """Mark warnings, margin calls and top-ups by a shape each; return what the key says of those that there are.

    ``kinds`` are 'warning', 'margin_call' and 'top_up', one for each time and height.
    """
    import numpy as np

    key, kinds, times, heights = [], np.asarray(kinds), naive(times), np.asarray(heights, dtype=float)
    for kind, marker, color, text in WARNING_MARKS:
        chosen = kinds == kind
        if chosen.any():
            hollow = {"markersize": 10, "markeredgewidth": 2.0, "markerfacecolor": "white", "markeredgecolor": color}
            full = {"markersize": 14, "markeredgewidth": 1.2, "markerfacecolor": color, "markeredgecolor": "white"}
            look: dict[str, Any] = full if kind == "top_up" else hollow
            axes.plot(times[chosen], heights[chosen], marker, zorder=7, **look)
            key.append((f"{text} {times_said(int(chosen.sum()))}", color))
    return key


def say(axes: "Axes", text: str, at: "tuple[pd.Timestamp, float]", offset: tuple[float, float], color: str, **style: Any) -> None:
    """Write a label beside a point, ``offset`` points away, legible on whatever lies below."""
    from matplotlib.patheffects import withStroke

    axes.annotate(
        text, (naive([at[0]])[0], at[1]), xytext=offset, textcoords="offset points", color=color, annotation_clip=False, zorder=9,
        path_effects=[withStroke(linewidth=4, foreground="white")],
        **{"size": LABEL, "weight": "bold", "va": "center", "ha": "left", **style},
    )  # fmt: skip


def say_freely(
    axes: "Axes",
    text: str,
    spots: "Sequence[tuple[pd.Timestamp, float]]",
    curves: "Sequence[tuple[np.ndarray, Any, Any]]",
    marks: "tuple[Any, Any]",
    color: str,
) -> None:
    """Write a label beside one of the marks at ``spots``, on the side where it hides the least: of equals the first, below.

    ``curves`` are the times (naive), lows and highs of what it may hide, ``marks`` the times (UTC) and heights of all marks;
    hiding one of these counts like ten bars, standing out of the panel like all bars. The panel's limits must be final.
    """
    import numpy as np
    from matplotlib.dates import date2num

    figure: Any = axes.figure
    inside, size = axes.transScale + axes.transLimits, np.array([axes.get_position().width * WIDTH * 72, height_in_points(axes)])
    width, height = text_width(figure, text, LABEL, weight="bold") * 72, LABEL * 1.3

    def points(times: Any, heights: Any) -> "np.ndarray":
        return inside.transform(np.column_stack([date2num(times), heights])) * size

    lows, highs = (np.concatenate([_dense(points(curve[0], curve[edge])) for curve in curves]) for edge in (1, 2))
    dots = points(naive(marks[0]), marks[1])

    def hidden(place: "tuple[np.ndarray, tuple[float, float, str]]") -> float:
        spot, (right, up, align) = place
        left = spot[0] + right - {"left": 0.0, "center": width / 2, "right": width}[align]
        bottom = spot[1] + up - height / 2
        is_beside = (lows[:, 0] > left) & (lows[:, 0] < left + width)
        curve = (is_beside & (highs[:, 1] > bottom) & (lows[:, 1] < bottom + height)).sum()
        near = (abs(dots - [left + width / 2, bottom + height / 2]) < [width / 2 + MARK, height / 2 + MARK]).all(axis=1).sum()
        is_out = left < 0 or bottom < 0 or left + width > size[0] or bottom + height > size[1]
        return float(curve + 10 * near + len(lows) * is_out)

    corners = points(naive([time for time, _ in spots]), [value for _, value in spots])
    places = [(number, side) for number in range(len(spots)) for side in SIDES]
    number, (right, up, align) = min(places, key=lambda place: hidden((corners[place[0]], place[1])))
    say(axes, text, spots[number], (right, up), color, ha=align)


def _dense(curve: "np.ndarray") -> "np.ndarray":
    """Return the points of a line, with more between them where they are few."""
    import numpy as np

    if len(curve) >= STEPS:
        return curve
    across = np.linspace(curve[0, 0], curve[-1, 0], STEPS)
    return np.column_stack([across, np.interp(across, *curve.T)])


def name_ends(axes: "Axes", ends: Iterable[End], *, size: float = LABEL) -> None:
    """Name curves right of the panel, each beside its end, smaller where one is too long for the picture.

    Names that would cover each other are moved apart, and then tied to their curve, as are those of curves that end
    early. The panel's limits and scale must be final.
    """
    from matplotlib.transforms import ScaledTranslation

    ends = sorted((end._replace(text=legible(end.text)) for end in ends), key=lambda end: end.height)
    figure: Any = axes.figure
    beside = (1 - axes.get_position().x1) * WIDTH - TIED / 72
    widest = max((text_width(figure, line, size, weight="bold") for end in ends for line in end.text.split("\n")), default=0.0)
    size *= min(1.0, beside / widest) if widest else 1.0
    room = height_in_points(axes)
    inside = axes.transScale + axes.transLimits
    points = [inside.transform((date_number(end.time), end.height)) for end in ends]
    heights = [size * 1.3 * (end.text.count("\n") + 1) for end in ends]
    slack = max(heights, default=0.0) / 2  # the lowest name may stand half below the panel; above it stands its title
    places = spread([y * room + slack for _, y in points], heights, room + slack)
    for end, (x, y), place in zip(ends, points, places, strict=True):
        height = (place - slack) / room
        is_tied = abs(height - y) * room > size or x < 0.93
        line = {"arrowstyle": "-", "color": end.color, "linewidth": 1, "linestyle": ":", "shrinkA": 0, "shrinkB": 0}
        axes.annotate(
            end.text, (naive([end.time])[0], end.height), xytext=(1.0, height), annotation_clip=False, zorder=9, color=end.color, size=size,
            textcoords=axes.transAxes + ScaledTranslation((TIED if is_tied else 10) / 72, 0, axes.figure.dpi_scale_trans),
            weight="bold", va="center", arrowprops=line if is_tied else None,
        )  # fmt: skip


def date_number(time: "pd.Timestamp") -> float:
    """Return an instant as matplotlib's axes count it."""
    from matplotlib.dates import date2num

    return float(date2num(naive([time])[0]))


def height_in_points(axes: "Axes") -> float:
    """Return how high a panel is."""
    return float(axes.get_position().height * axes.figure.get_figheight() * 72)  # type: ignore[union-attr]
