"""What orders and bars tell of a run beyond its record: where stops rested, what slippage took, how far marks went against a position.

Pure functions over rows; ``Result`` hands them what they need. Times are seconds since 1970 UTC.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import TYPE_CHECKING, Any, NamedTuple

from .core.contract import Contract
from .measures import RoundTrip
from .record import FillRow

if TYPE_CHECKING:
    import numpy as np

STOPS = {"Stop": "stop", "StopLimit": "stop_limit", "StopTrail": "trailing", "StopTrailLimit": "trailing_limit"}  # as the host says
TRAILING = ("trailing", "trailing_limit")


class StopRow(NamedTuple):
    """A stop order at one price: it rested from the close of the bar ``placed`` until the close of the bar ``ended``.

    A trailing stop has a row for every price it stood at. ``size`` is signed; ``kind`` is 'stop', 'stop_limit', 'trailing' or
    'trailing_limit'.
    """

    symbol: str
    placed: float
    ended: float
    price: float
    size: float
    kind: str
    order_ref: int


class ExcursionRow(NamedTuple):
    """How near one position came to its liquidation.

    All distances are shares of the entry price and positive against the position. ``adverse`` is how far the mark went
    against it at ``time``, the close of the bar in which it was nearest to its liquidation price, and
    ``liquidation_distance`` how far that price was then (NaN where nothing could liquidate it); ``left`` is the difference,
    0 or less where it was liquidated. ``most_adverse`` is the farthest the mark ever went against it.
    """

    symbol: str
    side: str
    opened: float
    closed: float
    is_open: bool
    liquidated: bool
    most_adverse: float
    time: float
    adverse: float
    liquidation_distance: float
    left: float


# -- stops -----------------------------------------------------------------------------------------------------------


def stop_rows(orders: Iterable[Any], clock: Callable[[float], float], symbol_of: Callable[[Any], str], until: float) -> list[StopRow]:
    """Return where the stop orders of a run rested, by time; ``clock`` turns the host's day numbers into seconds.

    Exits of a bracket rest from the fill of its entry on. Orders that were refused never rested.
    """
    rows: list[StopRow] = []
    by_ref = {order.ref: order for order in orders}
    for order in by_ref.values():
        kind = STOPS.get(order.getordername())
        if kind is None or order.getstatusname() in ("Rejected", "Margin"):
            continue
        placed = clock(order.created.dt)
        if order.parent is not None:
            if order.parent.getstatusname() != "Completed":
                continue
            placed = max(placed, clock(order.parent.executed.dt))
        ended = until if order.alive() or not order.executed.dt else clock(order.executed.dt)
        if ended <= placed:
            continue
        levels = _trail(order, placed, ended, clock) if kind in TRAILING else [(placed, ended, order.created.price)]
        rows += [StopRow(symbol_of(order), first, last, price, order.created.size, kind, order.ref) for first, last, price in levels]
    return sorted(rows, key=lambda row: (row.placed, row.order_ref))


def _trail(order: Any, placed: float, ended: float, clock: Callable[[float], float]) -> list[tuple[float, float, float]]:
    """Return the prices a trailing stop stood at, each with its time: it follows the closes and never goes back."""
    data, sign = order.data, 1 if order.isbuy() else -1
    size = len(data)
    bars = [(clock(day), price) for day, price in zip(data.datetime.get(size=size), data.close.get(size=size), strict=True)]

    def beside(price: float) -> float:
        return price + sign * (order.trailamount or price * (order.trailpercent or 0.0))

    level = beside(order.price or order.created.pclose)
    levels: list[tuple[float, float, float]] = []
    since = placed
    for time, close in bars:
        if not placed < time < ended:
            continue
        moved = min(level, beside(close)) if sign > 0 else max(level, beside(close))
        if moved != level:
            levels.append((since, time, level))
            since, level = time, moved
    return [*levels, (since, ended, level)]


# -- slippage --------------------------------------------------------------------------------------------------------


def slippage(fill: FillRow, order: Any, contract: Contract, bar: Mapping[str, float], *, is_at_close: bool) -> float:
    """Return what slippage took from one fill, negative: its profit or loss against the price it would have had without.

    That is the open of its bar for a market order (``is_at_close``: the close it was placed on), the open or the order's price
    for a limit and a stop, whichever the bar came to first. Forced fills, and stop-limits, which their limit bounds, have none.
    """
    if fill.liquidation or order is None:
        return 0.0
    worse = max if fill.size > 0 else min
    better = min if fill.size > 0 else max
    kind = order.getordername()
    if kind == "Market":
        due = order.created.pclose if is_at_close else bar["open"]
    elif kind == "Close":
        due = bar["close"]
    elif kind == "Limit":
        due = better(bar["open"], order.created.price)
    elif kind in ("Stop", "StopTrail"):
        due = worse(bar["open"], order.created.price)
    else:
        return 0.0
    return contract.unrealized_pnl(size=fill.size, entry_price=fill.price, mark_price=due)


# -- excursions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Held:
    """What was held of one contract at the closes of bars, and the mark's extremes inside these: columns of equal length."""

    times: "np.ndarray"
    sizes: "np.ndarray"
    entry_prices: "np.ndarray"
    liquidation_prices: "np.ndarray"
    mark_lows: "np.ndarray"
    mark_highs: "np.ndarray"


def excursions(
    trips: Sequence[RoundTrip], open_trips: Sequence[RoundTrip], held: Mapping[str, Held], deaths: Mapping[tuple[str, float], float]
) -> Iterator[ExcursionRow]:
    """Yield how near each position came to its liquidation, by its marks: first the closed ones, then those still held.

    A bar counts with its worst mark and with what was held at its close; the bar in which a position ends counts with the
    price it ended at (of ``deaths``, by symbol and time, the mark), and with the liquidation price of the bar before. The bar in
    which it began counts whole, also what came before its fill.
    """
    for trip in (*trips, *open_trips):
        is_open = any(trip is other for other in open_trips)
        yield _excursion(trip, held.get(trip.symbol), deaths, is_open=is_open)


def _excursion(trip: RoundTrip, held: Held | None, deaths: Mapping[tuple[str, float], float], *, is_open: bool) -> ExcursionRow:
    import numpy as np

    side = 1 if trip.side == "long" else -1
    times, adverse, entries, distances = _moves(trip, side, held, is_open=is_open)
    if not is_open:
        price = deaths.get((trip.symbol, trip.closed), trip.exit_price)
        entry, distance = (entries[-1], distances[-1]) if len(times) else (trip.entry_price, nan)
        against = side * (entry - price) / entry
        if trip.liquidated and (trip.symbol, trip.closed) in deaths:
            distance = against if isnan(distance) else min(distance, against)
        ended = (trip.closed, max(against, 0.0), distance)
        times, adverse, distances = (np.append(series, last) for series, last in zip((times, adverse, distances), ended, strict=True))
    most = float(adverse.max()) if len(adverse) else 0.0
    known = np.flatnonzero(~np.isnan(distances))
    nearest: tuple[float, ...] = trip.opened if is_open else trip.closed, most, nan
    if len(known):
        row = known[(distances - adverse)[known].argmin()]
        nearest = tuple(float(series[row]) for series in (times, adverse, distances))
    closed = nan if is_open else trip.closed
    end = (*nearest, nearest[2] - nearest[1])
    return ExcursionRow(trip.symbol, trip.side, trip.opened, closed, is_open, trip.liquidated, most, *end)


def _moves(trip: RoundTrip, side: int, held: Held | None, *, is_open: bool) -> "tuple[np.ndarray, ...]":
    """Return times, adverse excursions, entry prices and liquidation distances of the bars at whose close the position was held."""
    import numpy as np

    if held is None:
        return (np.array([]),) * 4
    first = int(np.searchsorted(held.times, trip.opened))
    end = len(held.times) if is_open else int(np.searchsorted(held.times, trip.closed))
    rows = first + np.flatnonzero(held.sizes[first:end] * side > 0)
    entries, worst = held.entry_prices[rows], (held.mark_lows if side > 0 else held.mark_highs)[rows]
    adverse = np.maximum(side * (entries - worst) / entries, 0.0)
    return held.times[rows], adverse, entries, side * (entries - held.liquidation_prices[rows]) / entries
