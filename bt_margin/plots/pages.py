"""Pictures of one run, put together from panels under a sentence that says what the reader sees."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .. import panels
from ..laboratory import is_comparison
from ..result import Result
from . import laboratory
from .account import draw_costs, draw_drawdown, draw_equity, draw_margin_ratio
from .drawing import (
    FEW_BARS,
    GREY,
    INK,
    LEFT,
    RED,
    RIGHT,
    cut,
    date_axis,
    dress,
    lettering,
    money,
    named,
    sheet,
    span_said,
    times_said,
)
from .price import draw_price
from .risk import draw_close_calls, draw_leverage, draw_money

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WARM_UP = 0.06  # of what is drawn: how much of the time before the first fill is shown
LONG_WAIT = 0.1  # of the run: a shorter wait for the first fill is drawn
MOST_LETTERS = 40  # of one parameter's value


@lettering()
def overview(result: Result, *, symbol: str | None = None, title: str | None = None, note: str = "") -> "Figure":
    """Return price with its liquidations above equity beside stock Backtrader's claim (where it was run).

    ``symbol`` is the contract whose price is drawn (default: the first), ``title`` replaces the sentences on top, ``note``
    goes before the result's flags at the bottom. A long time before the first fill is left out, and the picture says so.
    """
    symbol = _symbol("overview", result, symbol)
    start = _drawn_from(result)
    figure, (price, money_panel) = _sheet(result, start, title, note, height=10, heights=(1.05, 1), gap=0.14)
    draw_price(price, result, symbol, start)
    draw_equity(money_panel, result, start)
    return figure


@lettering()
def equity(result: Result, *, title: str | None = None, note: str = "") -> "Figure":
    """Return the equity curve: with its lowest inside bars, the wallet, stock Backtrader's claim, and the drawdown below.

    ``title`` replaces the sentences on top, ``note`` goes before the result's flags at the bottom. A long time before the
    first fill is left out, and the picture says so.
    """
    _check("equity", result)
    start = _drawn_from(result)
    figure, (curve, drawdown) = _sheet(result, start, title, note, height=10, heights=(2.4, 1), gap=0.18)
    draw_equity(curve, result, start, whole=True)
    draw_drawdown(drawdown, result, start)
    return figure


@lettering()
def page(result: Result, *, symbol: str | None = None, title: str | None = None, note: str = "") -> "Figure":
    """Return the whole run: price, equity, margin ratio, drawdown and costs, one below the other on the same time.

    ``symbol`` is the contract whose price is drawn (default: the first); all below it is of the whole account. ``title``
    replaces the sentences on top, ``note`` goes before the result's flags at the bottom. A long time before the first
    fill is left out, and the picture says so.
    """
    symbol = _symbol("page", result, symbol)
    start = _drawn_from(result)
    figure, panels = _sheet(result, start, title, note, height=20, heights=(1.7, 1.5, 0.9, 0.8, 0.9), gap=0.22)
    draw_price(panels[0], result, symbol, start, liquidation_line=True)
    draw_equity(panels[1], result, start, whole=True)
    for axes, draw in zip(panels[2:], (draw_margin_ratio, draw_drawdown, draw_costs), strict=True):
        draw(axes, result, start)
    return figure


@lettering()
def panel(result: Result | Any, key: str, *, symbol: str | None = None, title: str | None = None, note: str = "") -> "Figure":
    """Return one panel of the run as a picture of its own, by its key in ``panels.PANELS``; the same that the page has.

    Of a comparison 'heatmap', 'fans', 'cliff', 'pareto' or 'ranked', without ``symbol``.

    'price', 'equity', 'margin_ratio', 'costs', 'drawdown' and 'leverage' over time, 'money' (where it went) and 'close_calls' (how
    close each position came to its liquidation). ``text`` says the same in words and numbers. ``symbol`` is the contract whose
    price, stops and tiers are drawn (default: the first); ``title`` and ``note`` as in ``page``.
    """
    if is_comparison(result):
        return laboratory.drawn(result, key, title=title, note=note)
    symbol = _symbol("panel", result, symbol)
    start = _drawn_from(result)
    shown = panels.panel(result, key, symbol=symbol, start=start)
    said = shown.title if title is None else title
    own = "" if key == "price" else shown.note.rstrip(".")  # there the note is of merged candles, which are not drawn here
    flags = "; ".join(part for part in (own, note, *result.summary["flags"]) if part)
    is_square = shown.kind == "scatter"
    figure, top, bottom = sheet(12 if is_square else 8, [(said, INK)], _subtitle(result, start), flags)
    axes = figure.subplots()
    figure.subplots_adjust(left=LEFT, right=RIGHT, top=top, bottom=bottom)
    dress([axes])
    if shown.kind == "time":
        date_axis(axes, result.equity.loc[start:].index)
    if key in DRAWN_BY_PANEL:
        DRAWN_BY_PANEL[key](axes, shown)
    elif key == "price":
        draw_price(axes, result, symbol, start, liquidation_line=True)
    elif key == "equity":
        draw_equity(axes, result, start, whole=True)
    else:
        {"margin_ratio": draw_margin_ratio, "costs": draw_costs, "drawdown": draw_drawdown}[key](axes, result, start)
    return figure


def text(result: Result | Any, key: str, *, symbol: str | None = None) -> str:
    """Return what ``panel`` draws in words and tables of numbers, for who cannot see it."""
    if is_comparison(result):
        return laboratory.text(result, key)
    return panels.panel(checked(result, "text()"), key, symbol=symbol).as_text()


DRAWN_BY_PANEL = {"leverage": draw_leverage, "money": draw_money, "close_calls": draw_close_calls}


def headlines(result: Result) -> list[str]:
    """Return the sentences that a picture of this result tells: what stock Backtrader claims, if it was run, and the truth."""
    summary, stock = result.summary, result.baseline
    start, final, count = summary["start_cash"], summary["final_equity"], summary["liquidations"]
    fate = f"liquidated {times_said(count)}" if count else "never liquidated"
    rest = growth(start, final) if final >= start else f"{money(final, start)} of {money(start, start)} left"
    if result.died is not None:
        fate, rest = f"{fate}, DEAD since {datetime.fromtimestamp(result.died, UTC):%d %b %Y}", f"{money(final, start)} left"
    venue = f"The venue says: {fate}, {rest}"
    return [venue] if stock is None else [f"Backtrader says: {growth(start, stock.iloc[-1])}", venue]


def growth(start: float, final: float) -> str:
    """Return what money has become, and by how much it has changed."""
    change = final / start - 1
    share = f"{change:+,.{0 if abs(change) >= 0.1 else 1}%}".replace("-", "\N{MINUS SIGN}")
    return f"{money(start, start)} became {money(final, start)} ({share})"


def checked(result: Any, where: str) -> Result:
    """Return what a picture is asked to draw; ValueError, beginning with ``where``, if that is no Result."""
    if isinstance(result, Result):
        return result
    hint = "make one of it with Result.of(strategy)" if hasattr(result, "broker") else "run() returns one"
    raise ValueError(f"{where} draws a Result, was {type(result).__name__}; {hint}")


def _check(picture: str, result: Any) -> None:
    checked(result, f"{picture}()")


def _symbol(picture: str, result: Any, symbol: str | None) -> str:
    symbols = checked(result, f"{picture}()").symbols
    if symbol is not None and symbol not in symbols:
        raise ValueError(f"{picture}() draws the price of one contract of the run, was {symbol!r}; there are {', '.join(symbols)}")
    return symbols[0] if symbol is None else symbol


def _sheet(
    result: Result, start: "pd.Timestamp", title: str | None, note: str, *, height: float, heights: Sequence[float], gap: float
) -> "tuple[Figure, Sequence[Axes]]":
    """Return a figure with all its words on top and at the bottom, and its empty panels of one time axis."""
    lines = headlines(result) if title is None else [title]
    truth = RED if result.summary["liquidations"] else INK
    sentences = [(line, truth if line is lines[-1] else GREY) for line in lines]
    flags = "; ".join([note, *result.summary["flags"]] if note else result.summary["flags"])
    figure, top, bottom = sheet(height, sentences, _subtitle(result, start), flags)
    panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    figure.subplots_adjust(left=LEFT, right=RIGHT, top=top, bottom=bottom, hspace=gap)
    dress(panels)
    date_axis(panels[-1], result.equity.loc[start:].index)
    return figure, panels


def _drawn_from(result: Result) -> "pd.Timestamp":
    """Return where drawing begins: the first bar, or a little before the first fill where the wait for it is long."""
    first, last = result.equity.index[[0, -1]]
    if result.fills.empty or len(result.equity) <= FEW_BARS:
        return first
    opening = result.fills["time"].iloc[0]
    start = opening - (last - opening) * WARM_UP
    return start if start - first > LONG_WAIT * (last - first) else first


def _subtitle(result: Result, start: "pd.Timestamp") -> str:
    settings = result.settings
    params = ", ".join(f"{name}={cut(value, MOST_LETTERS)}" for name, value in settings["params"].items())
    first, last = result.equity.index[[0, -1]]
    left_out = f" (flat until the first order, drawn from {start:%d %b})" if start > first else ""
    return f"{settings['strategy']}({params}) on {rules(settings)}, {settings['venue'] or 'own'} rules, {span_said(first, last)}{left_out}"


def rules(settings: dict[str, Any]) -> str:
    """Return which contracts were traded at which leverage and in which margin mode, those with equal terms together."""
    groups: dict[str, list[str]] = {}
    for symbol, leverage in settings["leverage"].items():
        groups.setdefault(f"{leverage:g}x {settings['margin_mode'][symbol]}", []).append(symbol)
    modes = ["hedge mode"] if settings["position_mode"] == "hedge" else []
    return ", ".join([*(f"{named(symbols)} {terms}" for terms, symbols in groups.items()), *modes])
