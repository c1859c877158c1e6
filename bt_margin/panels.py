"""Panels: what each picture of a run shows, as plain series, marks and tables, thinned so that no extreme is lost.

``panels(result)`` returns every panel by its key, in the order of PANELS; the still figures and the HTML page draw the
same ones. Times are seconds since 1970 UTC, a bar's time is its closing instant; money is as the account sees it (paid and
lost are negative), shares and ratios are plain numbers (0.25 = 25 %). NaN in a line is a gap: nothing is drawn there.
``Panel.to_dict()`` is ready for JSON, ``Panel.as_text()`` says in words and numbers what the picture shows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from math import isfinite
from typing import TYPE_CHECKING, Any

from .measures import iso
from .result import Result

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

PANELS = ("price", "equity", "margin_ratio", "costs", "drawdown", "leverage", "money", "close_calls")
STEPS = 1_200  # buckets across a panel, about one for each pixel
MOST_CANDLES = 1_200  # from here on bars are merged
RATIO_LEVELS = (0.5, 0.8, 1.0)
MOST_ROWS = 50  # of a table of marks in words


# -- what a panel is made of -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One curve over time; ``low`` and ``high`` are its extremes inside bars, None where it has none.

    ``is_step``: a value stands from its time until the next. ``role`` says how it is meant: 'main', 'beside' (to compare),
    'claim' (stock Backtrader's, which may be impossible), 'limit' (what must not be met) or 'faint'.
    """

    key: str
    label: str
    times: "np.ndarray"
    values: "np.ndarray"
    low: "np.ndarray | None" = None
    high: "np.ndarray | None" = None
    is_step: bool = False
    role: str = "main"


@dataclass(frozen=True, slots=True)
class Marks:
    """Events of one kind, each with its time, its height on the panel and a few words; never thinned."""

    key: str
    label: str
    times: "np.ndarray"
    values: "np.ndarray"
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Level:
    """A height that means something all the time."""

    key: str
    label: str
    value: float


@dataclass(frozen=True, slots=True)
class Candles:
    """Candles by closing instant; where they are many, ``bars`` of them are merged into one with their highest and lowest."""

    times: "np.ndarray"
    open: "np.ndarray"
    high: "np.ndarray"
    low: "np.ndarray"
    close: "np.ndarray"
    bars: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Step:
    """One bar of a waterfall: from ``before`` by ``amount`` to ``after``; of a total, ``before`` is 0."""

    key: str
    label: str
    amount: float
    before: float
    after: float
    is_total: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """One position of the scatter: how far the mark went against it (``y``) and how far its liquidation was then (``x``)."""

    x: float
    y: float
    symbol: str
    side: str
    time: float
    is_liquidated: bool
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Numbers in words: a title, columns (name, unit) and rows; times are ISO 8601 text, UTC, None is a blank."""

    title: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture's content.

    ``kind`` is 'time', 'waterfall' or 'scatter'; ``unit`` is of the vertical axis, of a scatter ``unit_across`` of the other;
    ``form`` says how its numbers are shown: 'money', 'price', 'percent', 'ratio' or 'times'. ``shade`` is a line with an axis
    of its own (the size held, of ``shade_unit``), ``note`` what a reader must know beside it.
    """

    key: str
    title: str
    kind: str
    unit: str
    form: str
    lines: tuple[Line, ...] = ()
    marks: tuple[Marks, ...] = ()
    levels: tuple[Level, ...] = ()
    candles: Candles | None = None
    shade: Line | None = None
    shade_unit: str = ""
    steps: tuple[Step, ...] = ()
    points: tuple[Point, ...] = ()
    unit_across: str = ""
    note: str = ""
    tables: tuple[Table, ...] = field(default=())

    def line(self, key: str) -> Line:
        """Return the line of a key; KeyError where the panel has none."""
        found = {line.key: line for line in self.lines}
        return found[key]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as dicts, lists, text and numbers; NaN is None."""
        return _plain(self)

    def as_text(self) -> str:
        """Return the title, the note and the tables as text, for who cannot see the picture."""
        head = [self.title, *([self.note] if self.note else [])]
        return "\n\n".join(["\n".join(head), *(_table_text(table) for table in self.tables)]) + "\n"


# -- thinning --------------------------------------------------------------------------------------------------------


def kept_rows(low: "np.ndarray", high: "np.ndarray", steps: int = STEPS) -> "np.ndarray":
    """Return the rows that a picture ``steps`` wide needs: the lowest low and highest high of each step, and both ends."""
    return thinned([(low, high)], steps)


def kept_with_gaps(values: "np.ndarray", steps: int = STEPS) -> "np.ndarray":
    """Return ``kept_rows`` of a series with NaN in it, and the rows on both sides of each gap, so that gaps stay gaps."""
    return thinned([(values, values)], steps, always=gap_rows(values))


def thinned(envelopes: "Sequence[tuple[np.ndarray, np.ndarray]]", steps: int = STEPS, *, always: Iterable[int] = ()) -> "np.ndarray":
    """Return the rows, rising, that keep every extreme of these (low, high) pairs of equal length.

    Of each of ``steps`` equal buckets of rows: where each low is lowest and each high highest, NaN left out; both ends; and the
    rows ``always`` kept. All rows where there are no more than two for each step and pair; else at most these two, the two ends and
    ``always``.
    """
    import numpy as np

    length = len(envelopes[0][0])
    if length <= 2 * steps * len(envelopes):
        return np.arange(length)
    edges = np.linspace(0, length, steps + 1).astype(int)
    kept = [np.array([0, length - 1]), np.fromiter(always, dtype=int)]
    for low, high in envelopes:
        lows, highs = np.where(np.isnan(low), np.inf, low), np.where(np.isnan(high), -np.inf, high)
        kept.append(np.array([first + int(lows[first:end].argmin()) for first, end in pairwise(edges)]))
        kept.append(np.array([first + int(highs[first:end].argmax()) for first, end in pairwise(edges)]))
    return np.unique(np.concatenate(kept))


def gap_rows(values: "np.ndarray") -> "np.ndarray":
    """Return the rows on both sides of every place where a series begins or stops to be a number."""
    import numpy as np

    edges = np.flatnonzero(np.diff(np.isnan(values).astype(int)))
    return np.unique(np.concatenate([edges, edges + 1]))


def merged_candles(times: "np.ndarray", candles: "pd.DataFrame", most: int, seconds: float) -> Candles:
    """Return candles, each of as many bars that there are ``most`` or fewer: first open, highest, lowest, last close."""
    import numpy as np

    bars = -(-len(times) // most) if len(times) else 1
    first = np.arange(0, len(times), bars)
    last = np.minimum(first + bars, len(times)) - 1
    opens, highs, lows, closes = (candles[name].to_numpy(dtype=float) for name in ("open", "high", "low", "close"))
    tops, bottoms = (np.maximum.reduceat(highs, first), np.minimum.reduceat(lows, first)) if len(times) else (highs, lows)
    return Candles(times[last], opens[first], tops, bottoms, closes[last], bars, bars * seconds)


# -- all of them -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class View:
    """What of a run the panels show: the contract of the price, the span of bars, and how finely."""

    result: Result
    symbol: str
    first: int
    end: int
    steps: int

    @property
    def span(self) -> slice:
        """The rows of the bars shown."""
        return slice(self.first, self.end)

    @property
    def equity(self) -> "pd.DataFrame":
        """``Result.equity`` of the bars shown."""
        return self.result.equity.iloc[self.span]

    @property
    def times(self) -> "np.ndarray":
        """The closing instants of the bars shown."""
        return seconds_of(self.equity.index)

    @property
    def money(self) -> str:
        """What money is counted in."""
        return money_currency(self.result)

    def shown(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """Return the rows of a frame with a ``time`` inside the bars shown."""
        index = self.equity.index
        return frame[(frame["time"] >= index[0]) & (frame["time"] <= index[-1])]


def panels(
    result: Result,
    *,
    symbol: str | None = None,
    start: "pd.Timestamp | str | None" = None,
    end: "pd.Timestamp | str | None" = None,
    steps: int = STEPS,
) -> dict[str, Panel]:
    """Return every panel of a run by its key, in the order of PANELS.

    ``symbol`` is the contract whose price is shown (default: the first). ``start`` and ``end`` cut the panels over time, so that a
    short span comes in full detail; the waterfall and the scatter are of the whole run. ``steps`` is how many buckets a line
    is thinned to.
    """
    view = view_of(result, symbol, start, end, steps)
    return {key: BUILDERS[key](view) for key in PANELS}


def panel(result: Result, key: str, **options: Any) -> Panel:
    """Return one panel; ``options`` as in ``panels``."""
    if key not in BUILDERS:
        raise ValueError(f"there is no panel {key!r}; there are {', '.join(PANELS)}")
    settings: dict[str, Any] = {"symbol": None, "start": None, "end": None, "steps": STEPS, **options}
    return BUILDERS[key](view_of(result, **settings))


def view_of(result: Result, symbol: str | None, start: Any, end: Any, steps: int) -> View:
    """Return a checked View; ValueError for a contract, a span or a number of steps that cannot be shown."""
    import pandas as pd

    if symbol is not None and symbol not in result.symbols:
        raise ValueError(f"symbol is one contract of the run, was {symbol!r}; there are {', '.join(result.symbols)}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps is how many buckets a line is thinned to, 1 or more, was {steps!r}")
    index = result.equity.index
    edges = [pd.Timestamp(edge) if edge is not None else default for edge, default in ((start, index[0]), (end, index[-1]))]
    first, last = (edge.tz_localize("UTC") if edge.tzinfo is None else edge.tz_convert("UTC") for edge in edges)
    rows = int(index.searchsorted(first)), int(index.searchsorted(last, side="right"))
    if rows[0] >= rows[1]:
        raise ValueError(f"no bar lies between {first:%Y-%m-%d %H:%M} and {last:%Y-%m-%d %H:%M} UTC; the run has {_span(index)}")
    return View(result, result.symbols[0] if symbol is None else symbol, *rows, steps)


# -- price -----------------------------------------------------------------------------------------------------------


def _price(view: View) -> Panel:
    result, symbol = view.result, view.symbol
    candles = result.candles(symbol)
    candles = candles[(candles.index >= view.equity.index[0]) & (candles.index <= view.equity.index[-1])]
    times = seconds_of(candles.index)
    unit = f"{price_currency(result, symbol)} per unit of {symbol}"
    lines = [*_held_lines(view, "liquidation_price", "limit"), *_held_lines(view, "bankruptcy_price", "faint"), *_stop_lines(view)]
    marks = [*_fill_marks(view), *_death_marks(view, "mark_price", symbol)]
    merged = merged_candles(times, candles, min(MOST_CANDLES, view.steps), result.bar_seconds)
    whose = f"{symbol}, one of {len(result.symbols)} contracts" if len(result.symbols) > 1 else symbol
    merging = f"Each candle is {merged.bars} bars with their highest and lowest." if merged.bars > 1 else ""
    tables = [_price_table(candles, times, unit), _line_table(lines, unit), *_mark_tables(marks, unit)]
    return Panel(
        "price", f"Price of {whose}, with what would have liquidated it", "time", unit, "price", tuple(lines), tuple(marks),
        candles=merged, shade=_size_line(view), shade_unit=f"contracts of {symbol}", note=merging, tables=tuple(tables),
    )  # fmt: skip


def _held_lines(view: View, column: str, role: str) -> list[Line]:
    """Return a price that comes with each position, bar by bar, NaN while flat; legs with equal ones are one line.

    Where a long turns into a short the line breaks: it does not run across the price.
    """
    import numpy as np

    result = view.result
    held = result.positions[result.positions["symbol"].isin(result.legs(view.symbol))]
    if held.empty:
        return []
    by_leg = held.pivot(index="time", columns="symbol", values=column)
    if not (by_leg.max(axis=1) > by_leg.min(axis=1)).any():
        by_leg = by_leg.max(axis=1).to_frame(view.symbol)
    prices = by_leg.reindex(view.equity.index)
    sizes = held.groupby("time")["size"].sum().reindex(view.equity.index).to_numpy(dtype=float)
    name = column.replace("_", " ")
    lines = []
    for leg in prices:
        values = prices[leg].to_numpy(dtype=float)
        label = name if leg == view.symbol else f"{name} of {leg}"
        turns = np.flatnonzero(sizes[:-1] * sizes[1:] < 0) + 1 if leg == view.symbol else ()
        lines.append(_line(view, column if leg == view.symbol else f"{column}:{leg}", label, values, is_step=True, role=role, turns=turns))
    return lines


def _size_line(view: View) -> Line:
    import numpy as np

    held = view.result.positions
    held = held[held["symbol"].isin(view.result.legs(view.symbol))]
    sizes = held.groupby("time")["size"].sum().reindex(view.equity.index).to_numpy(dtype=float)
    return _line(view, "size", f"size held of {view.symbol}", np.nan_to_num(sizes), is_step=True)


def _stop_lines(view: View) -> list[Line]:
    """Return the stop orders of the contract, broken where none rests; those that rest at once are lines of their own."""
    import numpy as np

    rows, index = view.result.stops, view.equity.index
    lanes: list[np.ndarray] = []
    for row in rows[rows["symbol"] == view.symbol].itertuples():
        first, end = (int(index.searchsorted(edge)) for edge in (row.placed, row.ended))
        lane = next((lane for lane in lanes if np.isnan(lane[first:end]).all()), None)
        if lane is None:
            lanes.append(lane := np.full(len(index), np.nan))
        lane[first:end] = row.price
    drawn = [lane for lane in lanes if not np.isnan(lane).all()]
    names = [("stop", "stop order"), *((f"stop:{number}", f"stop order {number}") for number in range(2, len(drawn) + 1))]
    return [_line(view, key, label, lane, is_step=True, role="beside") for (key, label), lane in zip(names, drawn, strict=False)]


def _fill_marks(view: View) -> list[Marks]:
    """Return a contract's own fills by whether they buy or sell, open or close."""
    result = view.result
    fills = result.fills[result.fills["symbol"].isin(result.legs(view.symbol))]
    held = fills.groupby("symbol")["size"].cumsum() - fills["size"]
    is_closing = (held * fills["size"] < 0) & (fills["size"].abs() <= held.abs() * (1 + 1e-9))
    fills = view.shown(fills.assign(is_closing=is_closing)[~fills["liquidation"]])
    marks = []
    for key, label, is_buy, closes in FILL_KINDS:
        chosen = fills[((fills["size"] > 0) == is_buy) & (fills["is_closing"] == closes)]
        if len(chosen):
            texts = tuple(f"{label}: {row.size:+,.10g} at {row.price:,.10g}" for row in chosen.itertuples())
            marks.append(Marks(key, label, seconds_of(chosen["time"]), chosen["price"].to_numpy(dtype=float), texts))
    return marks


FILL_KINDS = (
    ("buy_open", "buy to open", True, False),
    ("sell_open", "sell to open", False, False),
    ("buy_close", "buy to close", True, True),
    ("sell_close", "sell to close", False, True),
)


def _death_marks(view: View, column: str, symbol: str | None = None) -> list[Marks]:
    """Return the liquidations, of one contract or of all, at a column of theirs."""
    deaths = view.shown(view.result.liquidations)
    if symbol is not None:
        deaths = deaths[deaths["symbol"].isin(view.result.legs(symbol))]
    return _deaths_at(deaths, deaths[column].to_numpy(dtype=float))


def _deaths_at(deaths: "pd.DataFrame", heights: "np.ndarray") -> list[Marks]:
    if deaths.empty:
        return []
    texts = tuple(
        f"LIQUIDATED: {row.size:+,.10g} {row.symbol} at mark {row.mark_price:,.10g} ({row.trigger}, {row.certainty})"
        for row in deaths.itertuples()
    )
    return [Marks("liquidation", "liquidated", seconds_of(deaths["time"]), heights, texts)]


def money_currency(result: Result) -> str:
    """Return what the account's money is counted in, 'money' where nothing says."""
    return result.settings["currency"] or "money"


def price_currency(result: Result, symbol: str) -> str:
    """Return what a contract's price is counted in."""
    from .core.contract import settlement_currency

    kind = result.settings["kind"][symbol]
    currency = result.settings["currency"] if kind != "inverse" else None
    return currency or settlement_currency(symbol) or "quote money"


def _price_table(candles: "pd.DataFrame", times: "np.ndarray", unit: str) -> Table:
    title, columns = "Price by bar", (("", ""), ("price", unit), ("when", "UTC"))
    if candles.empty:
        return Table(title, columns, ())
    low, high = int(candles["low"].to_numpy().argmin()), int(candles["high"].to_numpy().argmax())
    picks = [("first open", "open", 0), ("highest", "high", high), ("lowest", "low", low), ("last close", "close", -1)]
    return Table(title, columns, tuple((name, float(candles[column].iloc[row]), iso(times[row])) for name, column, row in picks))


# -- equity, margin, drawdown, leverage ------------------------------------------------------------------------------


def _equity(view: View) -> Panel:
    import numpy as np

    result, frame = view.result, view.equity
    start = result.summary["start_cash"]
    lowest = frame["lowest_equity"].to_numpy()
    lines = [
        _line(view, "equity", "equity", frame["equity"].to_numpy(), low=lowest),
        _line(view, "wallet_balance", "wallet balance (open profit left out)", frame["wallet_balance"].to_numpy(), role="beside"),
    ]
    note = "Equity is drawn with its lowest inside each bar."
    if result.baseline is not None:
        stock = result.baseline.loc[frame.index[0] : frame.index[-1]]
        stock = stock[np.isfinite(stock.to_numpy())]
        values = stock.to_numpy()
        lines.append(_thin("baseline", "stock Backtrader's claim", seconds_of(stock.index), values, view.steps, role="claim"))
        if len(values) and values.min() < 0:
            note += " Below zero is impossible: no venue lets an account fall there."
    if result.bounds is not None:
        band = result.bounds.equity.reindex(frame.index)
        low, high = band.min(axis=1).to_numpy(), band.max(axis=1).to_numpy()
        lines.append(_line(view, "bounds", "worst to best path inside bars", high, low=low, role="faint"))
    deaths = view.shown(result.liquidations)
    rows = frame.index.searchsorted(deaths["time"]).clip(max=len(frame) - 1)
    marks = [*_deaths_at(deaths, frame["equity"].to_numpy()[rows]), *_flow_marks(view)]
    levels = (Level("zero", "nothing left", 0.0), Level("start", "start", start))
    whose = f", {len(result.symbols)} contracts" if len(result.symbols) > 1 else ""
    beside = " and stock Backtrader's claim" if result.baseline is not None else ""
    title = f"Equity of the account{whose}, beside its wallet{beside}"
    tables = (_line_table(lines, view.money), *_mark_tables(marks, view.money))
    return Panel("equity", title, "time", view.money, "money", tuple(lines), tuple(marks), levels, note=note, tables=tables)


def _flow_marks(view: View) -> list[Marks]:
    import numpy as np

    times = seconds_of(view.result.equity.index)
    flows = [flow for flow in view.result.flows if view.first <= flow.bar < view.end]
    if not flows:
        return []
    equity = view.result.equity["equity"].to_numpy()
    rows = np.array([flow.bar for flow in flows])
    texts = tuple(f"{flow.kind}: {flow.amount:+,.10g} {view.money}" for flow in flows)
    return [Marks("flow", "paid in or out", times[rows], equity[rows], texts)]


def judged_wallets(result: Result) -> list[str]:
    """Return the wallets that ``Result.judged_ratios`` are of, [] where they are the account's."""
    ratios, modes = result.judged_ratios, result.settings["margin_mode"]
    isolated = [symbol for symbol in result.symbols if modes[symbol] == "isolated"]
    return [] if list(ratios) == ["account"] else list(ratios) or isolated


def _margin_ratio(view: View) -> Panel:
    names = judged_wallets(view.result)
    highest = view.result.judged_ratios.max(axis=1).iloc[view.span].to_numpy(dtype=float)
    lines = [_line(view, "margin_ratio", "margin ratio at closes", highest, is_step=True)]
    deaths = view.shown(view.result.liquidations)
    marks = [*_deaths_at(deaths, deaths["mark_price"].to_numpy(dtype=float) * 0 + 1), *_warning_marks(view, highest)]
    whose = "the account" if not names else f"the {names[0]} wallet" if len(names) == 1 else "the wallet nearest to liquidation"
    title = f"Margin ratio of {whose}, liquidated at 1"
    told = {1.0: "liquidated here"}
    levels = tuple(Level(f"ratio_{level:g}", told.get(level, f"{level:g}"), level) for level in RATIO_LEVELS)
    note = "At the closes of bars; a liquidation between two closes stands at 1." if len(deaths) else "At the closes of bars."
    tables = (_line_table(lines, "ratio"), _time_above_table(view, highest), *_mark_tables(marks, "ratio"))
    return Panel(
        "margin_ratio", title, "time", "maintenance margin / equity", "ratio", tuple(lines), tuple(marks), levels, note=note, tables=tables
    )


def _warning_marks(view: View, ratio: "np.ndarray") -> list[Marks]:
    """Return warnings, margin calls and top-ups at the ratio of their bar's close (0 where nothing is held then)."""
    import numpy as np

    index, marks = view.equity.index, []
    heights = np.nan_to_num(ratio)
    warnings = view.shown(view.result.warnings)
    kinds = [(key, label, warnings[warnings["kind"] == key]) for key, label in (("warning", "warned"), ("margin_call", "margin called"))]
    for key, label, frame in (*kinds, ("top_up", "topped up", view.shown(view.result.top_ups))):
        if len(frame):
            rows = index.searchsorted(frame["time"]).clip(max=len(index) - 1)
            texts = tuple(f"{label}: {row.account.removeprefix('wallet:')}" for row in frame.itertuples())
            marks.append(Marks(key, label, seconds_of(frame["time"]), heights[rows], texts))
    return marks


def _time_above_table(view: View, ratio: "np.ndarray") -> Table:
    import numpy as np

    lengths = np.diff(view.times, prepend=view.times[0] - view.result.bar_seconds)
    rows = tuple((f"above {level:g}", float(lengths[ratio > level].sum() / 3600)) for level in RATIO_LEVELS[:-1])
    return Table("Time near liquidation", (("margin ratio", ""), ("time", "hours")), rows)


def drawdowns(result: Result) -> "tuple[np.ndarray, np.ndarray]":
    """Return how far equity is below its highest close so far, 0 or negative: at closes, and at the lowest inside bars."""
    import numpy as np

    equity, lowest = (np.asarray(series) for series in result.levels)
    peaks = np.maximum.accumulate([result.summary["start_cash"], *equity])
    return equity / peaks[1:] - 1, np.minimum(lowest / peaks[:-1] - 1, 0)


def _drawdown(view: View) -> Panel:
    closes, inside = (series[view.span] for series in drawdowns(view.result))
    lines = [_line(view, "drawdown", "drawdown", closes, low=inside)]
    note = "Deposits and withdrawals are taken out." if view.result.flows else ""
    return Panel(
        "drawdown", "Drawdown: how far equity is below its highest so far, inside bars too", "time", "share of the highest equity",
        "percent", tuple(lines), levels=(Level("zero", "at the highest", 0.0),), note=note, tables=(_line_table(lines, "share"),),
    )  # fmt: skip


# -- money -----------------------------------------------------------------------------------------------------------


def sums_by_bar(index: "pd.DatetimeIndex", times: Any, amounts: Any) -> "np.ndarray":
    """Return what amounts come to at the close of each bar; one between two bars counts in the later."""
    import numpy as np

    sums = np.zeros(len(index))
    np.add.at(sums, index.searchsorted(times).clip(max=len(index) - 1), np.asarray(amounts, dtype=float))
    return sums.cumsum()


def _costs(view: View) -> Panel:
    result = view.result
    fees, deaths, slipped = result.journal[result.journal["account"] == "fees"], result.liquidations, result.slippage
    loss = deaths["realized_pnl"] - deaths["fee"] - deaths["forfeited"]
    sources = [
        ("fees", "trading fees", fees["time"], -fees["amount"]),
        ("funding", "funding", result.funding["time"], result.funding["amount"]),
        ("liquidation_fees", "liquidation fees", deaths["time"], -deaths["fee"]),
        ("liquidations", "lost in liquidations, their fees in it", deaths["time"], loss),
        ("slippage", "slippage, inside the prices of fills", result.fills["time"], slipped),
    ]
    lines = []
    for key, label, times, amounts in sources:
        values = sums_by_bar(result.equity.index, times, amounts)[view.span]
        lines.append(_line(view, key, label, values, is_step=True))
    drawn = tuple(line for line in lines if line.values.any())
    none = [line.label for line in lines if not line.values.any()]
    note = f"Nothing was paid or received as: {'; '.join(none)}." if none else ""
    title = "What trading cost so far: paid is below 0, received above"
    levels = (Level("zero", "nothing", 0.0),)
    return Panel("costs", title, "time", view.money, "money", drawn, levels=levels, note=note, tables=(_line_table(lines, view.money),))


def _leverage(view: View) -> Panel:
    import numpy as np

    result, frame = view.result, view.equity
    effective = frame["effective_leverage"].to_numpy()
    lines = [_line(view, "effective_leverage", "effective leverage of the account: notional / equity", effective, is_step=True)]
    tiers = result.tiers
    held = [symbol for symbol in result.symbols if tiers["symbol"].isin(result.legs(symbol)).any()]
    if held:
        by_bar = tiers.groupby("time")[["max_leverage", "leverage"]].min().reindex(frame.index)
        most, chosen = f"most that the tier of {held[0]} allows", f"leverage set for {held[0]}"
        if len(held) > 1:
            most, chosen = "least that a tier of the contracts held allows", "lowest leverage set for the contracts held"
        for key, label, role in (("max_leverage", most, "limit"), ("leverage", chosen, "beside")):
            values = by_bar[key].to_numpy(dtype=float)
            lines.append(_line(view, key, label, np.where(np.isfinite(values), values, np.nan), is_step=True, role=role))
    title = "Effective leverage, the leverage set and what the tier allows"
    whose = view.symbol if len(result.symbols) == 1 else "No contract"
    never = f"{whose} was {'never' if len(result.symbols) == 1 else 'ever'} held at a close under a tier."
    note = _binding_said(tiers, held) if held else never
    tables = (_line_table(lines, "times"), *(_tier_table(view, symbol, tiers) for symbol in held or [view.symbol]))
    return Panel("leverage", title, "time", "times equity", "times", tuple(lines), note=note, tables=tables)


def _binding_said(tiers: "pd.DataFrame", held: Sequence[str]) -> str:
    """Return whose tier was the lowest at how many closes; nothing of one contract."""
    if len(held) < 2:
        return ""
    by_close = tiers.groupby("time")["max_leverage"]
    if by_close.min().equals(by_close.max()):
        return "The limits of the contracts held were equal at every close."
    lowest = tiers.loc[tiers.groupby("time")["max_leverage"].idxmin(), "symbol"].value_counts()
    shares = "; ".join(f"{symbol} {100 * count / lowest.sum():.0f} %" for symbol, count in lowest.items())
    return f"The line is the lowest limit of what was held at each close, of: {shares}."


def _tier_table(view: View, symbol: str, tiers: "pd.DataFrame") -> Table:
    """Return the tiers that a contract's position stood in, and on how many bars."""
    tiers = tiers[tiers["symbol"].isin(view.result.legs(symbol))]
    names = (("tier", ""), ("up to", "notional or size"), ("maintenance", "share"), ("most leverage", "times"), ("bars", ""))
    grouped = view.shown(tiers).groupby(["tier", "cap", "rate", "max_leverage"]).size()
    rows = tuple((int(tier), _finite(cap), float(rate), _finite(most), int(bars)) for (tier, cap, rate, most), bars in grouped.items())
    return Table(f"Tiers that {symbol} stood in", names, rows)


def _finite(value: float) -> float | None:
    return float(value) if isfinite(value) else None


def _money(view: View) -> Panel:
    steps, level = [], 0.0
    for key, label, amount in money_steps(view.result):
        is_total = key in ("start", "end")
        after = float(amount) if is_total else level + amount
        steps.append(Step(key, label, float(amount), 0.0 if is_total else level, after, is_total))
        level = after
    rows = tuple((step.label, step.amount, step.after) for step in steps)
    table = Table("Where the money went", (("", ""), ("amount", view.money), ("then left", view.money)), rows)
    return Panel("money", "Where the money went", "waterfall", view.money, "money", steps=tuple(steps), tables=(table,))


def money_steps(result: Result) -> list[tuple[str, str, float]]:
    """Return what led from the first deposit to the final equity, each with its key, its name and its amount.

    Those between start and end add up to their difference.
    """
    summary = result.summary
    steps = [
        ("start", "start", summary["start_cash"]),
        ("price", "price profit and loss", result.price_profit),
        ("fees", "trading fees", summary["fees"]),
        ("funding", "funding", summary["funding"]),
        ("liquidations", "lost in liquidations", summary["liquidation_loss"]),
    ]
    steps += [("deposits", "paid in and out", summary["net_deposits"])] if result.flows else []
    return [*steps, ("end", "end", summary["final_equity"])]


def _close_calls(view: View) -> Panel:
    rows = view.result.excursions
    known = rows[rows["liquidation_distance"].notna()]
    points = tuple(
        Point(row.liquidation_distance, row.adverse, row.symbol, row.side, row.time.timestamp(), row.liquidated, _call_said(row))
        for row in known.itertuples()
    )
    left_out = len(rows) - len(known)
    note = f"{left_out} of {len(rows)} positions are left out: nothing could have liquidated them." if left_out else ""
    columns = (
        ("contract", ""), ("side", ""), ("opened", "UTC"), ("nearest", "UTC"), ("went against it", "share of entry"),
        ("liquidation was at", "share of entry"), ("left", "share of entry"), ("liquidated", ""),
    )  # fmt: skip
    nearest = known.sort_values(["left", "opened"], kind="stable").head(MOST_ROWS)
    told = tuple(
        (
            *(row.symbol, row.side, row.opened.isoformat().replace("+00:00", "Z"), row.time.isoformat().replace("+00:00", "Z")),
            *(row.adverse, row.liquidation_distance, row.left, "yes" if row.liquidated else "no"),
        )
        for row in nearest.itertuples()
    )
    return Panel(
        "close_calls", "How close each position came to its liquidation", "scatter", "share of entry price that the mark went against it",
        "percent", points=points, unit_across="share of entry price from entry to its liquidation", note=note,
        tables=(Table(f"The nearest {len(nearest)} of {len(known)} positions", columns, told),),
    )  # fmt: skip


def _call_said(row: Any) -> str:
    fate = "LIQUIDATED" if row.liquidated else f"{100 * row.left:.2g}% left"
    return f"{row.symbol} {row.side} of {row.opened:%Y-%m-%d %H:%M}: {fate} on {row.time:%Y-%m-%d %H:%M} UTC"


BUILDERS: Mapping[str, Callable[[View], Panel]] = {
    "price": _price,
    "equity": _equity,
    "margin_ratio": _margin_ratio,
    "costs": _costs,
    "drawdown": _drawdown,
    "leverage": _leverage,
    "money": _money,
    "close_calls": _close_calls,
}


# -- pieces ----------------------------------------------------------------------------------------------------------


def seconds_of(times: Any) -> "np.ndarray":
    """Return UTC instants as seconds since 1970."""
    import numpy as np
    import pandas as pd

    return np.asarray(pd.DatetimeIndex(times).as_unit("us").asi8) / 1e6


def _span(index: "pd.DatetimeIndex") -> str:
    return f"{index[0]:%Y-%m-%d %H:%M} to {index[-1]:%Y-%m-%d %H:%M}"


def _line(view: View, key: str, label: str, values: "np.ndarray", **terms: Any) -> Line:
    """Return a thinned line over the bars shown; ``values`` and its extremes may be of the whole run's bars or of these."""
    return _thin(key, label, view.times, values, view.steps, **terms)


def _thin(
    key: str,
    label: str,
    times: "np.ndarray",
    values: "np.ndarray",
    steps: int,
    *,
    low: "np.ndarray | None" = None,
    high: "np.ndarray | None" = None,
    is_step: bool = False,
    role: str = "main",
    turns: "Sequence[int] | np.ndarray" = (),
) -> Line:
    """Return a line of the rows that keep its extremes, those inside bars too, both sides of its gaps and of holes in time.

    At ``turns`` it breaks off, and begins anew at the same instant. Lines that have them have no extremes of their own.
    """
    import numpy as np

    lows, highs = values if low is None else low, values if high is None else high
    holes = np.flatnonzero(np.diff(times) > 1.5 * np.diff(times).min()) if len(times) > 1 else np.array([], dtype=int)
    turned = np.asarray(turns, dtype=int)
    always = np.concatenate([gap_rows(values), holes, holes + 1, turned, np.maximum(turned - 1, 0)])
    pairs = [(values, values)] if low is None and high is None else [(values, values), (lows, highs)]
    rows = thinned(pairs, steps, always=always) if len(times) else np.array([], dtype=int)
    least, most = (None if series is None else series[rows] for series in (low, high))
    kept, shown = times[rows], values[rows]
    if len(turned):
        places = np.searchsorted(rows, turned)
        kept, shown = np.insert(kept, places, times[turned]), np.insert(shown, places, np.nan)
    return Line(key, label, kept, shown, least, most, is_step, role)


def _line_table(lines: Sequence[Line], unit: str) -> Table:
    """Return what each line comes to: first, lowest and highest with their times, last; extremes inside bars counted."""
    import numpy as np

    names = (("", ""), ("first", unit), ("lowest", unit), ("lowest at", "UTC"), ("highest", unit), ("highest at", "UTC"), ("last", unit))
    rows: list[tuple[Any, ...]] = []
    for line in lines:
        known = ~np.isnan(line.values)
        if not known.any():
            rows.append((line.label, *(None,) * 6))
            continue
        low = np.where(known, line.values if line.low is None else np.fmin(line.low, line.values), np.inf)
        high = np.where(known, line.values if line.high is None else np.fmax(line.high, line.values), -np.inf)
        least, most = int(low.argmin()), int(high.argmax())
        ends = line.values[known]
        rows.append(
            (
                *(line.label, float(ends[0]), float(low[least]), iso(line.times[least])),
                *(float(high[most]), iso(line.times[most]), float(ends[-1])),
            )
        )
    return Table("Lines", names, tuple(rows))


def _mark_tables(marks: Sequence[Marks], unit: str) -> list[Table]:
    """Return a table for each kind of mark: when, where and what, the first MOST_ROWS of them."""
    tables = []
    for group in marks:
        count = len(group.times)
        title = f"{group.label} ({count})" + (f", the first {MOST_ROWS}" if count > MOST_ROWS else "")
        rows = zip(group.times[:MOST_ROWS], group.values[:MOST_ROWS], group.texts[:MOST_ROWS], strict=True)
        told = tuple((iso(time), float(value), text) for time, value, text in rows)
        tables.append(Table(title, (("when", "UTC"), ("height", unit), ("what", "")), told))
    return tables


def _table_text(table: Table) -> str:
    """Return a table as text with columns set under each other, numbers on the right."""
    heads = [f"{name} [{unit}]" if name and unit else name or unit for name, unit in table.columns]
    cells = [[_cell(value) for value in row] for row in table.rows]
    widths = [max(len(head), *(len(row[column]) for row in cells)) if cells else len(head) for column, head in enumerate(heads)]
    is_number = [any(isinstance(row[column], int | float) for row in table.rows) for column in range(len(heads))]

    def line(row: Sequence[str]) -> str:
        pads = [text.rjust(width) if number else text.ljust(width) for text, width, number in zip(row, widths, is_number, strict=True)]
        return "  ".join(pads).rstrip()

    return "\n".join([table.title, line(heads), *(map(line, cells) if cells else ["none"])])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """Return dataclasses and arrays as JSON can hold them; what is no finite number is None."""
    import numpy as np

    if isinstance(value, np.ndarray):
        return [float(number) if isfinite(number) else None for number in value.tolist()]
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if hasattr(type(value), "__dataclass_fields__"):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    return value
