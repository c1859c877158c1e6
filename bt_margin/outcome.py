"""What one run came to, in the figures by which rules are compared, and what many runs of one rule came to together.

Ruin is absorbing: from the bar on in which equity falls below a fifth of what was put in, or from which on nothing can be opened any
more, the curve stands at that bar's lowest equity, and wealth, returns, drawdown, leverage, margin ratios, trades and costs are of
that dead curve. Liquidations are counted over the whole run all the same, so that ruin hides none. Money paid in or out after the
start is taken out of the curve (time-weighted), so that a refill makes nobody richer.

Everything is reckoned with arrays and without pandas: a worker reads the figures of a run in a small part of the time it runs.
"""

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from math import fsum, inf, isfinite, log, nan, sqrt
from typing import TYPE_CHECKING, Any

from .core.contract import RESIDUE
from .measures import DAY, DAYS_A_YEAR, RoundTrip, annual_return, positions_of
from .passed import BLOCK
from .record import FillRow, LiquidationRow, Record
from .slots import seconds
from .traces import STOPS, TRAILING, StopRow, stop_rows

if TYPE_CHECKING:
    import numpy as np

    from .result import Result

Columns = Mapping[str, "np.ndarray"]  # of the record, by name
READ = ("time", "equity", "lowest_equity", "wallet_balance", "maintenance_margin", "notional")
RUIN_SHARE = 0.2  # of what was put in: with less an account is ruined
DEEP_DRAWDOWN = 0.5
WEALTH_FLOOR = 0.01  # what a ruined account is taken to be worth where a logarithm is asked for
NEAR = {"time_above_half": 0.5, "time_above_most": 0.8}  # margin ratios that count as near to liquidation
HIGH = 95  # per cent of the bars with a position on which leverage was not above ``high_leverage``
CONFIDENCE = 0.95
TINY = 1e-300  # in the place of 0 where something is divided by it
LONG, SHORT = ":LONG", ":SHORT"  # ends of the symbols of legs
RANGE_BARS = 14  # of Wilder's average true range
CANDIDATES = 16  # bars whose distance to liquidation in average true ranges is worked out exactly

QUANTILES = (5, 25, 50, 75, 95)
PROBABILITIES = {"p_liquidation": "is_liquidated", "p_ruin": "is_ruined", "p_deep_drawdown": "is_deep"}
MEANS = (
    *("full_liquidations", "partial_liquidations", "liquidation_loss", "loss_beside_stop"),
    *("liquidated_before_stop", "liquidated_past_stop"),
)
MEDIANS = (
    *("annual_return", "max_drawdown", "days_under_water", "calmar", "sharpe", "sortino"),
    *("min_headroom", "closest_call", "closest_call_atr", "time_above_half", "time_above_most"),
    *("mean_leverage", "high_leverage", "max_leverage", "exposure", "turnover"),
    *("fees", "funding_paid", "funding_received", "slippage", "trades", "win_rate", "payoff", "expectancy_r"),
)
AGGREGATES = (
    *(f"wealth_{share}" for share in QUANTILES),
    "median_log_wealth",
    *(f"{name}{end}" for name in PROBABILITIES for end in ("", "_low", "_high")),
    *MEANS,
    *MEDIANS,
)  # of many runs, see ``together``
FIGURES = ("wealth", "log_wealth", *MEDIANS[:6], *PROBABILITIES.values(), *MEANS, *MEDIANS[6:])


@dataclass(frozen=True)
class Outcome:
    """One run: ``figures`` by the names of FIGURES, None where one is not defined, and the curve behind them."""

    result: "Result"

    @cached_property
    def curve(self) -> "Curve":
        """Equity in multiples of what was put in, dead after ruin."""
        return curve_of(self.result, self.columns)

    @cached_property
    def columns(self) -> "Columns":
        """What is read of the record, all of it at once, for each column is reckoned bar by bar."""
        return self.result.strategy.broker.record.columns(READ)

    @cached_property
    def figures(self) -> dict[str, Any]:
        """The figures: fractions plain, money as a share of what was put in (lost is negative).

        - ``wealth`` at the end; ``log_wealth`` its logarithm, of a ruined account that of WEALTH_FLOOR
        - ``annual_return`` (365 days; -1 once ruined), ``max_drawdown`` (inside bars), ``days_under_water`` (the longest time),
          ``calmar`` (return / drawdown at daily closes), ``sharpe``, ``sortino`` (daily UTC returns, sqrt(365))
        - ``is_liquidated``, ``is_ruined``, ``is_deep`` (max drawdown above a half): 1 or 0
        - ``full_liquidations``, ``partial_liquidations``: how many left nothing or something of the position
        - ``liquidation_loss``: what they cost, fees and forfeits too; ``loss_beside_stop``: that less what the stops, filled at
          their price with the taker fee, would have cost of the same size: lost more is negative, None where no stop was known
        - ``liquidated_before_stop``: how often the mark had not come to the stop, that of a stop order which rested or else the one that
          the sizer knew of at the last entry; ``liquidated_past_stop``: how often it had gone through that stop too. What is
          liquidated in several steps within one bar counts once
        - ``min_headroom``: least (equity - maintenance margin) / equity of a wallet at a close, 0 once liquidated
        - ``closest_call`` and ``closest_call_atr``: least distance of a bar's worst mark to the liquidation price, as a fraction of
          mark and in average true ranges (Wilder, 14 bars); 0 once liquidated
        - ``time_above_half``, ``time_above_most``: share of the time at a margin ratio above 0.5 and 0.8
        - ``mean_leverage``, ``high_leverage`` (not above it on 95 % of the bars), ``max_leverage``: notional / equity of bars that
          ended with a position; ``exposure`` their share of the time; ``turnover`` notional traded / average equity, a year
        - ``fees``, ``funding_paid``, ``funding_received``, ``slippage``: each a positive share of the sum of |price profit| of all
          fills; fees without those of liquidations, which are in their loss
        - ``trades``, ``win_rate``, ``payoff`` (average profit / average loss), ``expectancy_r``: average profit of a trade in units
          of what it risked to its first stop; where no trade had one, of the average loss (Van Tharp's stand-in for R)
        """
        curve, columns, record = self.curve, self.columns, self.result.strategy.broker.record
        fills = [fill for fill in record.fills if fill.time <= curve.ends_at]
        payments = [payment for payment in record.funding if payment.time <= curve.ends_at]
        stops = _stops_of(self.result)
        figures = {
            **_of_curve(curve),
            **_of_liquidations(self.result, stops),
            **_of_margin(self.result, curve, columns),
            **_of_leverage(self.result, curve, columns, fills),
            **_of_trades(self.result, fills, payments, stops),
            **_costs(self.result, columns, fills, payments),
        }
        return {name: _plain(figures[name]) for name in FIGURES}


def _plain(value: Any) -> float | int | None:
    """Return a figure as JSON can hold it."""
    if value is None or isinstance(value, int):
        return value
    return float(value) if isfinite(value) else None


# -- the curve -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Curve:
    """Equity by bar in multiples of what was put in.

    ``times`` are the bars' closing instants in seconds, ``opened`` the opening instant of the first, ``lengths`` how long each bar
    lasted; ``alive`` is how many bars, from the first, ended before ruin or with it (all, where there was none). ``is_alive`` is False
    of a curve that was ruined.
    """

    times: "np.ndarray"
    opened: float
    lengths: "np.ndarray"
    equity: "np.ndarray"
    lowest: "np.ndarray"
    alive: int
    is_alive: bool

    @property
    def ends_at(self) -> float:
        """The instant after which nothing counts any more but liquidations, infinity of an account that lives."""
        return inf if self.is_alive else float(self.times[self.alive - 1])

    def at(self, instants: "np.ndarray") -> "np.ndarray":
        """Return equity at instants: of the last bar that had closed, 1 before the first."""
        import numpy as np

        rows = np.searchsorted(self.times, instants, side="right") - 1
        return np.where(rows < 0, 1.0, self.equity[rows])

    def daily_returns(self) -> "np.ndarray":
        """Return one return for every UTC day; a bar belongs to the day it opens on, as in ``measures.daily_returns``."""
        import numpy as np

        days = ((self.times - self.lengths.min()) // DAY).astype(int)
        days -= days[0]
        closes = np.full(days[-1] + 1, nan)
        closes[days] = self.equity  # of several bars of a day the last one stays
        known = np.maximum.accumulate(np.where(np.isnan(closes), 0, np.arange(len(closes))))
        levels = np.concatenate([[1.0], closes[known]])
        before = levels[:-1]
        return np.where(before > 0, levels[1:] / np.where(before > 0, before, 1.0) - 1, 0.0)


def curve_of(result: "Result", columns: Columns) -> Curve:
    """Return the curve of a run; where it ended before its data do, what was left stands until their end."""
    import numpy as np

    times, start = columns["time"], result.start_cash
    levels, lows = (columns["equity"], columns["lowest_equity"]) if not result.flows else (np.array(column) for column in result.levels)
    equity, lowest = levels / start, lows / start
    steps = np.diff(times)
    bar = float(steps[steps > 0].min()) if (steps > 0).any() else _bar_seconds(result)
    last = max((slot.series.stamps[-1] for slot in result.strategy.broker.slots.values() if slot.series is not None), default=times[-1])
    if last > times[-1]:
        times, equity, lowest = np.append(times, last), np.append(equity, equity[-1]), np.append(lowest, equity[-1])
    below = np.flatnonzero(lowest < RUIN_SHARE)
    died = result.died
    ruins = [*below[:1].tolist(), *([] if died is None else [int(np.searchsorted(times, died))])]
    if ruins:
        equity, lowest = equity.copy(), lowest.copy()
        equity[min(ruins) :] = lowest[min(ruins) :] = max(lowest[min(ruins)], 0.0)
    lengths = np.diff(times, prepend=times[0] - bar)
    return Curve(times, float(times[0] - bar), lengths, equity, lowest, min(ruins) + 1 if ruins else len(times), not ruins)


def _bar_seconds(result: "Result") -> float:
    return max((slot.bar_seconds for slot in result.strategy.broker.slots.values()), default=0.0)


def _of_curve(curve: Curve) -> dict[str, Any]:
    import numpy as np

    wealth, returns = float(curve.equity[-1]), curve.daily_returns()
    peaks = np.maximum.accumulate(np.concatenate([[1.0], curve.equity[:-1]]))
    fall = max(float((1 - curve.lowest / peaks).max()), 0.0)
    annual = annual_return(wealth - 1, float(curve.times[-1]) - curve.opened) if curve.is_alive else -1.0
    levels = np.concatenate([[1.0], np.cumprod(1 + returns)])
    daily = float((1 - levels / np.maximum.accumulate(levels)).max())
    return {
        "wealth": wealth,
        "log_wealth": log(wealth if curve.is_alive else WEALTH_FLOOR),
        "annual_return": annual,
        "max_drawdown": fall,
        "days_under_water": _longest_under_water(curve, peaks) / DAY,
        "calmar": annual / daily if annual is not None and daily > 0 else None,
        **_ratios(returns),
        "is_ruined": int(not curve.is_alive),
        "is_deep": int(fall > DEEP_DRAWDOWN),
    }


def _ratios(returns: "np.ndarray") -> dict[str, float | None]:
    """Return Sharpe and Sortino ratio as ``measures`` has them, None where there are too few returns or they do not vary."""
    import numpy as np

    if len(returns) < 2:
        return {"sharpe": None, "sortino": None}
    mean, deviation = float(returns.mean()), float(returns.std(ddof=1))
    downside = sqrt(float((np.minimum(returns, 0.0) ** 2).mean()))
    year = sqrt(DAYS_A_YEAR)
    return {
        "sharpe": mean / deviation * year if deviation > 0 else None,
        "sortino": mean / downside * year if downside > 0 else None,
    }


def _longest_under_water(curve: Curve, peaks: "np.ndarray") -> float:
    """Return the longest of ``measures.dips`` in seconds; ``peaks`` are those before each bar."""
    import numpy as np

    is_back = curve.equity >= peaks
    tops = np.where(is_back, curve.times, -inf)
    since = np.maximum.accumulate(np.concatenate([[curve.opened], tops[:-1]]))
    before = np.concatenate([[curve.opened], curve.times[:-1]])
    is_under = ~is_back | (since < before) | (curve.lowest < peaks)
    return float((curve.times - since)[is_under].max()) if is_under.any() else 0.0


# -- liquidations ----------------------------------------------------------------------------------------------------


def _of_liquidations(result: "Result", stops: "_Stops") -> dict[str, Any]:
    record = result.strategy.broker.record
    full, partial = full_and_partial(record.fills)
    before = past = 0
    beside = [_beside_stop(result, row, stop) for row in record.liquidations if (stop := stops.against(row)) is not None]
    for row in {(row.time, row.symbol): row for row in reversed(record.liquidations)}.values():
        stop = stops.against(row)
        if stop is not None:
            is_before = (row.mark_price - stop) * row.size > 0
            before, past = before + is_before, past + (not is_before)
    return {
        "is_liquidated": int(bool(record.liquidations)),
        "full_liquidations": full,
        "partial_liquidations": partial,
        "liquidation_loss": fsum(row.loss for row in record.liquidations) / result.start_cash,
        "loss_beside_stop": fsum(beside) / result.start_cash if beside or not record.liquidations else None,
        "liquidated_before_stop": before,
        "liquidated_past_stop": past,
    }


def _beside_stop(result: "Result", row: LiquidationRow, stop: float) -> float:
    """Return what a liquidation lost less what its stop would have, filled at its price with the taker fee."""
    contract = result.strategy.broker.slots[row.symbol].position.contract
    at_stop = contract.unrealized_pnl(size=row.size, entry_price=row.entry_price, mark_price=stop)
    return row.loss - (at_stop - contract.notional(row.size, stop) * contract.taker)


def full_and_partial(fills: Sequence[FillRow]) -> tuple[int, int]:
    """Return how many liquidations left nothing of the position, and how many left some of it; parts of several owners are one."""
    held: dict[str, float] = {}
    most: dict[str, float] = {}
    left: dict[tuple[str, float, float], bool] = {}
    for fill in fills:
        size = held.get(fill.symbol, 0.0) + fill.size
        most[fill.symbol] = max(abs(size), abs(held.get(fill.symbol, 0.0)), most.get(fill.symbol, 0.0) if size else 0.0)
        held[fill.symbol] = size
        if fill.liquidation:
            left[fill.symbol, fill.time, fill.price] = abs(size) > RESIDUE * most[fill.symbol]
    return sum(not some for some in left.values()), sum(left.values())


@dataclass(frozen=True, slots=True)
class _Stops:
    """Where the stops of a run were: ``rested`` has the stop orders by symbol of the leg they close, ``decided`` what the sizer knew
    of, by contract and side, as (times, prices); a price is None where it knew of none."""

    rested: dict[str, list[StopRow]]
    decided: dict[tuple[str, int], tuple[list[float], list[float | None]]]

    def against(self, row: LiquidationRow) -> float | None:
        """Return the stop of a position that was liquidated: the nearest that rested for it, else the one decided on, None without."""
        rested = [
            stop.price for stop in self.rested.get(row.symbol, []) if stop.placed < row.time <= stop.ended and stop.size * row.size < 0
        ]
        if rested:
            return max(rested) if row.size > 0 else min(rested)
        return self._decided(row.symbol, 1 if row.size > 0 else -1, row.time)

    def first_of(self, trip: RoundTrip) -> float | None:
        """Return the first stop of a trade, that of an order which rested (no trailing one) or else the one decided on, None without."""
        side = 1 if trip.side == "long" else -1
        rested = [
            stop
            for stop in self.rested.get(trip.symbol, [])
            if stop.kind not in TRAILING and stop.size * side < 0 and trip.opened <= stop.ended and stop.placed < trip.closed
        ]
        return min(rested, key=lambda stop: stop.placed).price if rested else self._decided(trip.symbol, side, trip.opened)

    def _decided(self, leg: str, side: int, time: float) -> float | None:
        times, prices = self.decided.get((leg.removesuffix(LONG).removesuffix(SHORT), side), ([], []))
        place = bisect_left(times, time) - 1
        return prices[place] if place >= 0 else None


def _stops_of(result: "Result") -> _Stops:
    """Return the stops of a run; trailing orders only if there was a liquidation, for where they stood is followed bar by bar."""
    broker = result.strategy.broker
    legs = {id(leg.data): leg.symbol for contract in broker.contracts.values() for leg in contract[:1]}
    has_deaths = bool(broker.record.liquidations)
    orders = [
        order
        for order in broker.orders
        if id(order.data) in legs and (kind := STOPS.get(order.getordername())) is not None and (kind not in TRAILING or has_deaths)
    ]
    rested: dict[str, list[StopRow]] = {}
    if orders:
        last = broker.record.column("time")[-1]
        for row in stop_rows(orders, seconds, lambda order: legs[id(order.data)], last):
            symbol = row.symbol
            if symbol.endswith(LONG):  # of a hedged contract, whose legs share their data
                symbol = symbol.removesuffix(LONG) + (LONG if row.size < 0 else SHORT)
            rested.setdefault(symbol, []).append(row)
    decided: dict[tuple[str, int], tuple[list[float], list[float | None]]] = {}
    for decision in getattr(result.strategy.getsizer(), "decisions", ()):
        if decision.size:
            times, prices = decided.setdefault((decision.symbol, decision.side), ([], []))
            times.append(decision.time)
            prices.append(decision.stop)
    return _Stops(rested, decided)


# -- margin ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Held:
    """What was held at closes, a row for each contract and bar: the table of ``record.HOLDING_COLUMNS`` and columns of it."""

    table: "np.ndarray"
    row: "np.ndarray"
    number: "np.ndarray"
    size: "np.ndarray"
    entry_price: "np.ndarray"
    mark_price: "np.ndarray"
    wallet_balance: "np.ndarray"
    is_isolated: "np.ndarray"

    def part(self, start: int, end: int) -> "_Held":
        """Return some of the rows."""
        return _Held(*(getattr(self, column.name)[start:end] for column in fields(self)))


def _held_in(record: Record) -> _Held:
    table = record.holdings()
    row, number, size, entry_price, mark_price, balance, is_isolated, *_ = table.T
    return _Held(table, row.astype(int), number.astype(int), size, entry_price, mark_price, balance, is_isolated > 0)


def _of_margin(result: "Result", curve: Curve, columns: Columns) -> dict[str, Any]:
    import numpy as np

    record = result.strategy.broker.record
    held = _held_in(record)
    ratios = _worst_ratios(result, columns, held)[: curve.alive]
    lengths, total = curve.lengths[: len(ratios)], float(curve.lengths.sum())
    is_dead = bool(record.liquidations)
    known = ~np.isnan(ratios)
    return {
        "min_headroom": 0.0 if is_dead else max(1 - float(ratios[known].max()), 0.0) if known.any() else None,
        "closest_call": 0.0 if is_dead else record.closest_call,
        "closest_call_atr": 0.0 if is_dead else _closest_in_ranges(result, columns, held),
        **{name: float(lengths[known & (ratios > level)].sum()) / total if total else 0.0 for name, level in NEAR.items()},
    }


def _worst_ratios(result: "Result", columns: Columns, held: _Held) -> "np.ndarray":
    """Return for each bar the highest margin ratio of a wallet at its close, NaN while flat; 1 where a wallet's equity is not above 0."""
    import numpy as np

    equity, maintenance = columns["equity"], columns["maintenance_margin"]
    if not held.is_isolated.any():
        worth = equity
    elif np.bincount(held.row).max() <= 1:  # one position at a time: all unrealized profit is its own
        worth = np.where(columns["notional"] > 0, 0.0, nan)
        worth[held.row] = np.where(held.is_isolated, held.wallet_balance + (equity - columns["wallet_balance"])[held.row], equity[held.row])
    else:
        ratios = result.judged_ratios.to_numpy(dtype=float)
        return np.where(np.isnan(ratios).all(axis=1), nan, np.max(np.nan_to_num(ratios, nan=-inf), axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(columns["notional"] > 0, np.where(worth > 0, maintenance / worth, 1.0), nan)


def _closest_in_ranges(result: "Result", columns: Columns, held: _Held) -> float | None:
    """Return the least distance of a bar's worst mark to its position's liquidation price in average true ranges, None without one.

    Distances are first estimated as if maintenance stood still, each position's a share of all by notional; the CANDIDATES nearest
    are then worked out. The liquidation price is the one at the bar's close.
    """
    import numpy as np

    slots = list(result.strategy.broker.slots.values())
    known = [_bars_of(slot) if slot.position.contract.kind != "spot" else None for slot in slots]
    near: list[tuple[float, int, float, float]] = []
    for start, end in _blocks_of(held.row):
        near = sorted([*near, *_nearest(slots, known, columns, held.part(start, end), start)])[:CANDIDATES]
    if not near:
        return None
    table = held.table[np.isin(held.row, held.row[[place for _, place, _, _ in near]])]
    prices = dict(zip(map(tuple, table[:, :2].astype(int).tolist()), result.position_prices(table)[:, 0].tolist(), strict=True))
    found = []
    for _, place, worst, average_range in near:
        price = prices[int(held.row[place]), int(held.number[place])]
        away = (worst - price) * (1 if held.size[place] > 0 else -1)
        found += [max(away, 0.0) / average_range] if isfinite(price) else []
    return min(found, default=None)


def _blocks_of(rows: "np.ndarray") -> list[tuple[int, int]]:
    """Return where blocks of about BLOCK holdings begin and end, all those of a bar in the same one; what is reckoned of one is small."""
    import numpy as np

    begins = np.searchsorted(rows, rows[::BLOCK]).tolist()
    return [(start, end) for start, end in pairwise([*begins, len(rows)]) if start < end]


def _nearest(
    slots: Sequence[Any], known: "Sequence[tuple[np.ndarray, ...] | None]", columns: Columns, held: _Held, start: int
) -> list[tuple[float, int, float, float]]:
    """Return the estimated distances of the CANDIDATES nearest, their places (counted from ``start``), worst marks and average ranges."""
    import numpy as np

    worsts, ranges, distances = (np.full(len(held.row), nan) for _ in range(3))
    rooms, notionals = _rooms(slots, columns, held)
    for number, bars in enumerate(known):
        rows = np.flatnonzero(held.number == number)
        if bars is None or not len(rows):
            continue
        at = np.searchsorted(bars[0], columns["time"][held.row[rows]], side="right") - 1
        worsts[rows] = np.where(held.size[rows] > 0, bars[1][at], bars[2][at])
        ranges[rows] = bars[3][at]
        away = held.mark_price[rows] * rooms[rows] / np.maximum(notionals[rows], TINY)
        distances[rows] = away - abs(held.mark_price[rows] - worsts[rows])
    scaled = distances / ranges
    found = np.flatnonzero(np.isfinite(scaled) & (ranges > 0))
    places = found[np.argsort(scaled[found])[:CANDIDATES]]
    return [(float(scaled[place]), start + place, float(worsts[place]), float(ranges[place])) for place in places.tolist()]


def _rooms(slots: Sequence[Any], columns: Columns, held: _Held) -> "tuple[np.ndarray, np.ndarray]":
    """Return about how much each position's wallet can lose before it is liquidated, and the position's notional."""
    import numpy as np

    profits, notionals = np.zeros(len(held.row)), np.zeros(len(held.row))
    for number, slot in enumerate(slots):
        rows = np.flatnonzero(held.number == number)
        contract, units = slot.position.contract, held.size[rows] * slot.position.contract.multiplier
        entry, mark = held.entry_price[rows], held.mark_price[rows]
        profits[rows] = units * (1 / entry - 1 / mark) if contract.kind == "inverse" else units * (mark - entry)
        notionals[rows] = abs(units) / mark if contract.kind == "inverse" else abs(units) * mark
    own = held.wallet_balance + profits
    rows = held.row - held.row[0]
    apart = np.bincount(rows, weights=np.where(held.is_isolated, own, 0.0))[rows]
    total = np.maximum(columns["notional"][held.row], TINY)
    maintenance = columns["maintenance_margin"][held.row]
    shared = columns["equity"][held.row] - apart
    return np.where(held.is_isolated, own - maintenance * notionals / total, shared - maintenance), notionals


def _bars_of(slot: Any) -> "tuple[np.ndarray, ...] | None":
    """Return closing instants, lowest and highest marks and the average true range of a contract's bars; None of a host's own feed."""
    import numpy as np

    series = slot.series
    if series is None or len(slot.data.high.array) < len(series.stamps):
        return None
    count = len(series.stamps)
    high, low, close = (np.frombuffer(getattr(slot.data, name).array, np.float64, count) for name in ("high", "low", "close"))
    marks = (low, high) if series.mark_low is None else (np.asarray(series.mark_low), np.asarray(series.mark_high))
    return np.asarray(series.stamps), *marks, average_true_range(high, low, close)


def average_true_range(high: "np.ndarray", low: "np.ndarray", close: "np.ndarray", bars: int = RANGE_BARS) -> "np.ndarray":
    """Return Wilder's average true range of each bar, NaN before there is one: the mean of the first ``bars`` true ranges (from the
    second bar on), then (average * (bars - 1) + true range) / bars, as ``thresholds.AverageTrueRange`` has it bar by bar.

    Source: J. Welles Wilder, "New Concepts in Technical Trading Systems", 1978.

    >>> import numpy as np
    >>> average_true_range(np.array([2.0, 3, 4]), np.array([1.0, 1, 3]), np.array([2.0, 2, 3]), bars=1)
    array([nan,  2.,  2.])
    """
    import numpy as np

    known = np.full(len(high), nan)
    if len(high) <= bars:
        return known
    ranges = np.maximum(high[1:], close[:-1]) - np.minimum(low[1:], close[:-1])
    level = sum(ranges[:bars].tolist()) / bars
    averages = array("d", [level])
    for true_range in memoryview(ranges[bars:]):
        level = (level * (bars - 1) + true_range) / bars
        averages.append(level)
    known[bars:] = averages
    return known


# -- leverage, trades, costs -----------------------------------------------------------------------------------------


def _of_leverage(result: "Result", curve: Curve, columns: Columns, fills: Sequence[FillRow]) -> dict[str, Any]:
    import numpy as np

    broker = result.strategy.broker
    equity, notional = columns["equity"][: curve.alive], columns["notional"][: curve.alive]
    lengths, total = curve.lengths[: len(equity)], float(curve.lengths.sum())
    is_held = notional > 0
    used = np.sort(notional[is_held & (equity > 0)] / equity[is_held & (equity > 0)])
    traded = fsum(broker.slots[fill.symbol].position.contract.notional(fill.size, fill.price) for fill in fills)
    span = float(curve.times[-1]) - curve.opened
    average = float((curve.equity * curve.lengths).sum()) / total * result.start_cash if total else 0.0
    return {
        "mean_leverage": float(used.mean()) if len(used) else None,
        "high_leverage": float(used[(HIGH * len(used) + 99) // 100 - 1]) if len(used) else None,
        "max_leverage": float(used[-1]) if len(used) else None,
        "exposure": float(lengths[is_held].sum()) / total if total else 0.0,
        "turnover": traded / average / (span / DAY / DAYS_A_YEAR) if span >= DAY and average > 0 else None,
    }


def _of_trades(result: "Result", fills: Sequence[FillRow], payments: Sequence[Any], stops: _Stops) -> dict[str, Any]:
    slots = result.strategy.broker.slots
    inverse = {symbol for symbol, slot in slots.items() if slot.position.contract.kind == "inverse"}
    closed, _ = positions_of(fills, payments, inverse)
    profits = [trip.net_pnl for trip in closed]
    won, lost = [profit for profit in profits if profit > 0], [-profit for profit in profits if profit <= 0]
    is_whole = bool(won) and fsum(lost) > 0
    return {
        "trades": len(closed),
        "win_rate": len(won) / len(closed) if closed else None,
        "payoff": fsum(won) / len(won) / (fsum(lost) / len(lost)) if is_whole else None,
        "expectancy_r": _in_units_of_risk(closed, lost, stops, slots),
    }


def _in_units_of_risk(closed: Sequence[RoundTrip], lost: Sequence[float], stops: _Stops, slots: Mapping[str, Any]) -> float | None:
    """Return the average profit of a trade over what it risked; see ``Outcome.figures``."""
    units = []
    for trip in closed:
        stop = stops.first_of(trip)
        if stop is not None:
            size = trip.size if trip.side == "long" else -trip.size
            contract = slots[trip.symbol].position.contract
            risk = -contract.unrealized_pnl(size=size, entry_price=trip.entry_price, mark_price=stop)
            if risk > 0:
                units.append(trip.net_pnl / risk)
    if units:
        return fsum(units) / len(units)
    return fsum(trip.net_pnl for trip in closed) / len(closed) / (fsum(lost) / len(lost)) if fsum(lost) > 0 else None


def _costs(result: "Result", columns: Columns, fills: Sequence[FillRow], payments: Sequence[Any]) -> dict[str, Any]:
    """Return each cost over the sum of |price profit|, of every fill and of what is open at the end; None where that is nothing."""
    params = result.strategy.broker.p
    gross = fsum(abs(fill.realized_pnl) for fill in fills) + abs(float(columns["equity"][-1] - columns["wallet_balance"][-1]))
    amounts = {
        "fees": fsum(fill.fee for fill in fills if not fill.liquidation),
        "funding_paid": -fsum(payment.amount for payment in payments if payment.amount < 0),
        "funding_received": fsum(payment.amount for payment in payments if payment.amount > 0),
        "slippage": -fsum(result.slippage.iloc[: len(fills)]) if params.slip_perc or params.slip_fixed else 0.0,
    }
    return {name: amount / gross + 0.0 if gross > 0 else None for name, amount in amounts.items()}


# -- many runs -------------------------------------------------------------------------------------------------------


def wilson(count: int, runs: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the Wilson score interval of a probability of which ``count`` of ``runs`` came true; (0, 1) of no runs.

    (p + z^2/2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2/n), z the normal quantile of (1 + confidence) / 2. Source: E. B.
    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", Journal of the American Statistical Association
    22, 1927.

    >>> [round(bound, 4) for bound in wilson(2, 10)]
    [0.0567, 0.5098]
    """
    from statistics import NormalDist

    if not runs:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, square = count / runs, z * z / runs
    middle, half = share + square / 2, z * sqrt(share * (1 - share) / runs + square / (4 * runs))
    low, high = ((middle - half) / (1 + square), (middle + half) / (1 + square))
    return (0.0 if count == 0 else max(low, 0.0)), (1.0 if count == runs else min(high, 1.0))


def together(runs: Sequence[Mapping[str, Any]], *, is_drawn: bool) -> dict[str, float]:
    """Return the figures of many runs of one combination: NaN where no run has one.

    Wealth by QUANTILES, the median of ``log_wealth``, PROBABILITIES with their Wilson intervals, MEANS and MEDIANS. Where the runs are
    not drawn (``is_drawn``), but the history alone, there is no distribution: its wealth is the median, and what would be a quantile
    or a probability is NaN.
    """
    import numpy as np

    def column(name: str) -> np.ndarray:
        values = np.array([nan if run[name] is None else run[name] for run in runs], dtype=float)
        return values[~np.isnan(values)]

    wealth = column("wealth")
    figures = {f"wealth_{share}": _quantile(wealth, share) if is_drawn or share == 50 else nan for share in QUANTILES}
    figures["median_log_wealth"] = _quantile(column("log_wealth"), 50)
    for name, source in PROBABILITIES.items():
        happened = column(source)
        bounds = wilson(int(happened.sum()), len(happened)) if is_drawn and len(happened) else (nan, nan)
        figures |= {name: float(happened.mean()) if is_drawn and len(happened) else nan}
        figures |= {f"{name}_low": bounds[0], f"{name}_high": bounds[1]}
    figures |= {name: float(values.mean()) if len(values := column(name)) else nan for name in MEANS}
    figures |= {name: _quantile(column(name), 50) for name in MEDIANS}
    return {name: figures[name] for name in AGGREGATES}


def _quantile(values: "np.ndarray", share: float) -> float:
    import numpy as np

    return float(np.percentile(values, share)) if len(values) else nan
