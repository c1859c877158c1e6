"""Panels as figures of a page: what its script draws, and the title, key and tables that stand beside it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..panels import Level, Line, Marks, Panel, Table
from .series import Store
from .words import Words, cell

if TYPE_CHECKING:
    from markupsafe import Markup

MANY = 8.0  # highest over lowest equity: from here on it is scaled by logarithms
WIDE = 2.5  # of prices likewise
TOP_RATIO = 1.15  # of a margin ratio, as far as it is drawn
HEIGHTS = {
    "price": 380,
    "equity": 280,
    "margin_ratio": 190,
    "costs": 210,
    "drawdown": 180,
    "leverage": 190,
    "money": 300,
    "close_calls": 340,
}


class Look(NamedTuple):
    """How a line is drawn; ``reach``: it may lie far from the prices, which keep their size then."""

    color: str
    width: float = 1.6
    dash: str = "solid"
    fill: bool = False
    reach: bool = False


LINES = {
    "liquidation_price": Look("red", 2.0, reach=True),
    "bankruptcy_price": Look("faint", 1.3, "dot", reach=True),
    "stop": Look("purple", 1.5, "dash", reach=True),
    "equity": Look("blue", 1.9),
    "wallet_balance": Look("orange", 1.3),
    "baseline": Look("grey", 1.8, "dash"),
    "bounds": Look("green", 0.8),
    "margin_ratio": Look("blue", 1.4, fill=True),
    "fees": Look("green", 1.8),
    "funding": Look("blue", 1.8),
    "slippage": Look("orange", 1.6, "dot"),
    "liquidation_fees": Look("purple", 1.6, "dot"),
    "liquidations": Look("red", 1.8, "dash"),
    "drawdown": Look("blue", 1.4, fill=True),
    "effective_leverage": Look("blue", 1.5, fill=True),
    "max_leverage": Look("red", 1.5, reach=True),
    "leverage": Look("grey", 1.4, "dash"),
}
ROLES = {
    "main": Look("blue"),
    "beside": Look("orange", 1.4),
    "claim": Look("grey", 1.6, "dash"),
    "limit": Look("red"),
    "faint": Look("faint", 1.2),
}


class Mark(NamedTuple):
    """How events are marked; ``fatal`` ones are never left out."""

    symbol: str
    color: str
    size: int
    hollow: bool = False
    fatal: bool = False


MARKS = {
    "buy_open": Mark("triangle-up", "green", 10),
    "sell_open": Mark("triangle-down", "blue", 10),
    "buy_close": Mark("triangle-up", "green", 10, hollow=True),
    "sell_close": Mark("triangle-down", "blue", 10, hollow=True),
    "liquidation": Mark("x", "red", 14, fatal=True),
    "warning": Mark("diamond", "orange", 9, hollow=True),
    "margin_call": Mark("square", "ink", 9, hollow=True),
    "top_up": Mark("cross", "green", 11),
    "flow": Mark("star", "purple", 10),
}
PLAIN_MARK = Mark("circle", "grey", 8)
SHAPES = {
    "triangle-up": "M9 1L15 11H3Z",
    "triangle-down": "M9 11L15 1H3Z",
    "x": "M4 1l5 5-5 5m10-10l-5 5 5 5",
    "diamond": "M9 1l5 5-5 5-5-5Z",
    "square": "M4 1.5h10v9H4Z",
    "cross": "M9 1v10M4 6h10",
    "star": "M9 0l1.8 4.2 4.5.3-3.5 2.8 1.2 4.5-4-2.5-4 2.5 1.2-4.5L2.7 4.5l4.5-.3Z",
    "circle": "M9 2a4 4 0 1 0 .01 0Z",
}
RIM = {"color": "$card", "width": 1}  # of a mark
SHORT_LEG = ":SHORT"  # how the key of a short leg's line ends
BANDS = (
    {"from": 0.5, "to": 0.8, "color": "amber-band"},
    {"from": 0.8, "to": 1.0, "color": "orange-band"},
    {"from": 1.0, "to": None, "color": "red-band"},
)  # of a margin ratio


def look_of(line: Line) -> Look:
    """Return how a line is drawn, a leg's as its contract's; a hedge's short leg is told from its long one by its dashes."""
    look = LINES.get(line.key.partition(":")[0], ROLES.get(line.role, ROLES["main"]))
    return look._replace(dash="dashdot" if look.dash == "solid" else "longdash") if line.key.endswith(SHORT_LEG) else look


def pane(panel: Panel, store: Store, words: Words, *, key: str, candles: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a panel over time as its script and as its template want it; ``candles`` are of a panel of prices."""
    behind = sorted(panel.lines, key=lambda line: line.key != "bounds")  # a band that hid the account would say nothing of it
    lines = [_line(line, store, words) for line in behind if len(line.times)]
    drawn: dict[str, Any] = {
        "key": key,
        "form": panel.form,
        "unit": words.told(_axis_unit(panel)),
        "height": HEIGHTS[panel.key],
        "lines": lines,
        "marks": [_marks(marks, store) for marks in panel.marks],
        "levels": [_level(level, words) for level in panel.levels if level.key not in ("zero",)],
        "bands": _bands(panel, words),
        "candles": None if candles is None else store.candles(candles),
        "shade": _shade(panel, store),
        "log": "auto" if panel.key in ("price", "equity") else "never",
        "wide": WIDE if panel.key == "price" else MANY,
        "floor": 0.0 if panel.key in ("margin_ratio", "leverage") else None,
        "ceiling": {"margin_ratio": 1.0, "drawdown": 0.0}.get(panel.key),
        "cap": TOP_RATIO if panel.key == "margin_ratio" else None,
    }
    return drawn, {
        **_said(panel, words, key),
        "legend": legend(panel, words, candles is not None),
        "has_log": panel.key in ("price", "equity", "margin_ratio"),
    }


def _line(line: Line, store: Store, words: Words) -> dict[str, Any]:
    look = look_of(line)
    return {
        **store.line(line),
        "key": line.key,
        "label": words.told(line.label),
        "color": look.color,
        "width": look.width,
        "dash": look.dash,
        "fill": look.fill,
        "reach": look.reach,
        "names": line.role == "limit",
    }


def _marks(marks: Marks, store: Store) -> dict[str, Any]:
    return {**store.marks(marks), "key": marks.key, "label": marks.label, **MARKS.get(marks.key, PLAIN_MARK)._asdict()}


def _level(level: Level, words: Words) -> dict[str, Any]:
    color = {"ratio_1": "red", "ratio_0.8": "orange"}.get(level.key, "muted")
    return {"value": level.value, "label": words.told(level.label), "color": color}


def _bands(panel: Panel, words: Words) -> list[dict[str, Any]]:
    """Return what is shaded over all the time: the bands of a margin ratio, and money below zero where a claim goes there."""
    if panel.key == "margin_ratio":
        return list(BANDS)
    claims = [float(line.values.min()) for line in panel.lines if line.role == "claim" and len(line.values)]
    return [{"from": min(claims) * 1.2, "to": 0.0, "color": "red-band", "label": words["impossible"]}] if claims and min(claims) < 0 else []


def _shade(panel: Panel, store: Store) -> dict[str, Any] | None:
    if panel.shade is None or not panel.shade.values.any():
        return None
    return {**store.line(panel.shade), "unit": panel.shade_unit}


def _axis_unit(panel: Panel) -> str:
    """Return what stands at an axis: the currency of a price, nothing where the numbers carry their sign."""
    if panel.form == "price":
        return panel.unit.partition(" per ")[0]
    return "" if panel.form in ("percent", "times", "ratio") else panel.unit


def _said(panel: Panel, words: Words, key: str) -> dict[str, Any]:
    tables = [told(table, words) for table in panel.tables if table.rows]
    title = words.told(panel.title)
    return {
        "key": key,
        "title": title,
        "unit": panel.unit,
        "unit_said": words.told(panel.unit),
        "height": HEIGHTS[panel.key],
        "note": "" if panel.key == "price" else words.told(panel.note),
        "tables": tables,
        "said": _alternative(panel, title, words),
    }


def _alternative(panel: Panel, title: str, words: Words) -> str:
    """Return what a picture shows in one line of text: its title and what each line comes to."""
    parts = [title]
    for line in panel.lines:
        known = line.values[~(line.values != line.values)]
        if len(known):
            name = words.told(line.label)
            parts.append(
                words.say("line_said", name=name, low=cell(float(known.min())), high=cell(float(known.max())), last=cell(float(known[-1])))
            )
    parts += [f"{words.told(marks.label)}: {len(marks.times)}" for marks in panel.marks]
    parts += [f"{words.told(step.label)} {cell(step.amount)}" for step in panel.steps]
    if panel.kind == "scatter":
        parts.append(words.say("points_said", count=len(panel.points), dead=sum(point.is_liquidated for point in panel.points)))
    return ". ".join(parts) + "."


def told(table: Table, words: Words) -> dict[str, Any]:
    """Return a table of a panel with every cell as text; a column of words stands on the left."""
    kinds = [any(isinstance(row[place], str) and not _is_time(row[place]) for row in table.rows) for place in range(len(table.columns))]
    columns = [
        {"name": words.told(name), "unit": words.told(unit), "is_text": is_text or place == 0}
        for place, ((name, unit), is_text) in enumerate(zip(table.columns, kinds, strict=True))
    ]
    shares = ["share" in unit for _, unit in table.columns]
    rows = [[cell(value, is_share=is_share) for value, is_share in zip(row, shares, strict=True)] for row in table.rows]
    return {"title": words.told(table.title), "columns": columns, "rows": rows}


def _is_time(text: str) -> bool:
    return len(text) >= 20 and text[4] == text[7] == "-" and text.endswith("Z")


# -- keys ------------------------------------------------------------------------------------------------------------


def legend(panel: Panel, words: Words, has_candles: bool) -> list[dict[str, Any]]:
    """Return a panel's key: a swatch, a name, and which value the crosshair writes there."""
    entries = []
    if has_candles:
        entries.append({"look": _candle_swatch(), "label": words.say("candles"), "value": "candles"})
    for line in panel.lines:
        if len(line.times):
            label = words.told(line.label)
            entries.append({"look": line_swatch(look_of(line), has_edges=line.low is not None), "label": label, "value": line.key})
    for marks in panel.marks:
        count = f" ({len(marks.times):,})" if marks.key == "liquidation" else ""
        entries.append({"look": mark_swatch(MARKS.get(marks.key, PLAIN_MARK)), "label": words.told(marks.label) + count, "value": ""})
    if panel.shade is not None and panel.shade.values.any():
        entries.append({"look": _shade_swatch(), "label": words.told(panel.shade.label), "value": "shade"})
    return entries


def _markup(text: str) -> "Markup":
    from markupsafe import Markup

    return Markup(text)


def line_swatch(look: Look, *, has_edges: bool = False) -> "Markup":
    """Return the swatch of a line."""
    dash = {
        "dash": ' stroke-dasharray="5 3"',
        "dot": ' stroke-dasharray="2 2"',
        "dashdot": ' stroke-dasharray="7 2 2 2"',
        "longdash": ' stroke-dasharray="8 2"',
    }.get(look.dash, "")
    edge = f'<rect y="2" width="18" height="8" fill="var(--{look.color}-soft)"/>' if has_edges or look.fill else ""
    return _markup(f'{edge}<path d="M0 6H18" stroke="var(--{look.color})" stroke-width="{max(look.width, 1.6)}"{dash}/>')


def mark_swatch(mark: Mark) -> "Markup":
    """Return the swatch of a mark."""
    is_open = mark.symbol in ("x", "cross")
    fill = "none" if mark.hollow or is_open else f"var(--{mark.color})"
    width = 3 if is_open else 1.6 if mark.hollow else 0
    return _markup(f'<path d="{SHAPES[mark.symbol]}" fill="{fill}" stroke="var(--{mark.color})" stroke-width="{width}"/>')


def _candle_swatch() -> "Markup":
    bodies = [
        f'<rect x="{x}" y="3" width="5" height="6" fill="var(--{fill})" stroke="var(--candle)"/>'
        for x, fill in ((2.5, "card"), (10.5, "candle"))
    ]
    return _markup(f'<path d="M5 0V12M13 0V12" stroke="var(--candle)"/>{"".join(bodies)}')


def _shade_swatch() -> "Markup":
    return _markup('<rect width="18" height="12" fill="var(--shade)" stroke="var(--faint)" stroke-width=".5"/>')


# -- waterfall and scatter -------------------------------------------------------------------------------------------


def waterfall(panel: Panel, words: Words, money: Callable[[float], str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the bars from what was paid in to what is left; ``money`` writes an amount."""
    labels = [words.told(step.label) for step in panel.steps]
    trace = {
        "type": "waterfall",
        "orientation": "h",
        "y": [plotly_text(label) for label in labels],
        "x": [step.amount for step in panel.steps],
        "measure": ["absolute" if step.is_total else "relative" for step in panel.steps],
        "text": [("+" if step.amount > 0 and not step.is_total else "") + money(step.amount) for step in panel.steps],
        "textposition": "outside",
        "cliponaxis": False,
        "textfont": {"color": "$ink"},
        "hoverinfo": "skip",
        "connector": {"line": {"color": "$line", "width": 1}},
        "increasing": {"marker": {"color": "$green"}},
        "decreasing": {"marker": {"color": "$orange"}},
        "totals": {"marker": {"color": "$blue"}},
    }
    values = [value for step in panel.steps for value in (step.before, step.after)]
    low, high = min(0.0, *values), max(0.0, *values)
    room = 0.24 * (high - low or 1.0)
    layout = {
        "xaxis": {
            "title": {"text": plotly_text(words.told(panel.unit))},
            "tickformat": ",.6~r",
            "range": [low - room, high + room],
            "nticks": 6,
        },
        "yaxis": {"autorange": "reversed", "showgrid": False, "ticksuffix": " "},
        "margin": {"l": 170, "r": 30, "t": 6, "b": 46},
    }
    drawn = {
        "key": "money",
        "height": HEIGHTS["money"],
        "data": [trace],
        "layout": layout,
        "narrow": {"l": 118, "r": 12, "t": 6, "b": 42},
        "zooms": False,
    }
    legend_entries = [
        {"look": _block(color), "label": words.say(name)}
        for color, name in (("blue", "key_total"), ("green", "key_gain"), ("orange", "key_loss"))
    ]
    return drawn, {**_said(panel, words, "money"), "legend": legend_entries}


def _block(color: str) -> "Markup":
    return _markup(f'<rect y="1" x="2" width="14" height="10" fill="var(--{color})"/>')


def scatter(panel: Panel, words: Words) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the positions by how far the mark went against each and how far its liquidation was; a click shows its time."""
    kinds = ((False, Mark("circle", "blue", 8), "survived"), (True, Mark("x", "red", 12), "liquidated"))
    reach = max((max(point.x, point.y) for point in panel.points), default=0.01) * 1.08
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter", "mode": "lines", "x": [0, reach], "y": [0, reach], "hoverinfo": "skip",
            "line": {"color": "$red", "width": 1.4, "dash": "dash"},
        }
    ]  # fmt: skip
    entries = [{"look": line_swatch(Look("red", 1.6, "dash"), has_edges=False), "label": words.say("key_diagonal")}]
    for is_dead, mark, name in kinds:
        chosen = [point for point in panel.points if point.is_liquidated is is_dead]
        if not chosen:
            continue
        entries.append({"look": mark_swatch(mark), "label": f"{words.say(f'key_{name}')} ({len(chosen):,})"})
        traces.append(
            {
                "type": "scatter", "mode": "markers", "hovertemplate": "%{text}<extra></extra>",
                "x": [round(point.x, 7) for point in chosen], "y": [round(point.y, 7) for point in chosen],
                "customdata": [round(point.time) for point in chosen], "text": [plotly_text(point.text) for point in chosen],
                "marker": {"symbol": mark.symbol, "size": mark.size, "color": f"${mark.color}", "opacity": 0.85, "line": RIM},
            }
        )  # fmt: skip
    axis = {"tickformat": ",.3~%", "rangemode": "tozero", "zeroline": True, "nticks": 7}
    layout = {
        "xaxis": {
            **axis,
            "title": {"text": plotly_text(words.say("axis_distance"))},
            "range": [0, max((point.x for point in panel.points), default=0.01) * 1.06],
        },
        "yaxis": {
            **axis,
            "title": {"text": plotly_text(words.say("axis_adverse"))},
            "range": [0, max((point.y for point in panel.points), default=0.01) * 1.12],
        },
        "hovermode": "closest",
        "margin": {"l": 70, "r": 16, "t": 8, "b": 48},
    }
    drawn = {
        "key": "close_calls",
        "height": HEIGHTS["close_calls"],
        "data": traces,
        "layout": layout,
        "narrow": {"l": 56, "r": 10, "t": 8, "b": 46},
        "zooms": True,
    }
    said = _said(panel, words, "close_calls")
    return drawn, {**said, "unit": "", "legend": entries, "note": " ".join(filter(None, (words.say("how_scatter"), said["note"])))}


def plotly_text(text: str) -> str:
    """Return text as plotly shows it letter for letter: it takes tags for formatting."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
