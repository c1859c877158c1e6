"""Performance arithmetic over plain numbers: drawdown, returns, Sharpe ratio, round trips.

Money series are one number a bar. Fractions are plain (0.25 = 25 %), times are seconds since 1970 UTC.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby, pairwise
from math import inf, sqrt
from typing import NamedTuple

from .core.contract import RESIDUE, average_entry, split_fill
from .record import SPECK, FillRow, FlowRow, FundingRow

DAY = 86_400.0
DAYS_A_YEAR = 365


def iso(time: float) -> str:
    """Return an instant in seconds as ISO 8601 text, UTC."""
    return datetime.fromtimestamp(time, UTC).isoformat().replace("+00:00", "Z")


def without_flows(
    start: float, equity: Sequence[float], lowest: Sequence[float], flows: Sequence[FlowRow]
) -> tuple[Sequence[float], Sequence[float]]:
    """Return both series as if nothing had been paid in or out after the start.

    Each flow is taken out by scaling what follows, so that growth between two flows is kept: the time-weighted return, which
    is that of the fund's value. A top-up comes in while its bar is under way, which then has a lowest before and after it; any
    other flow comes before its bar moves. While the owner has withdrawn everything, the last level stands; money that comes in
    after everything was lost goes on from SPECK of what the start was worth.

    >>> without_flows(100.0, [110.0, 220.0, 242.0], [100.0, 210.0, 220.0], [FlowRow(0.0, 1, "transfer", 110.0, 110.0)])
    ([110.0, 110.0, 121.0], [100.0, 105.0, 110.0])
    >>> without_flows(100.0, [140.0], [20.0], [FlowRow(0.0, 0, "top_up", 50.0, 20.0, 35.0)])
    ([40.0], [10.0])
    """
    if not flows:
        return equity, lowest
    by_bar: dict[int, list[FlowRow]] = {}
    for flow in flows:
        by_bar.setdefault(flow.bar, []).append(flow)
    levels: list[float] = []
    lows: list[float] = []
    level, ruined = start, SPECK * start
    scale: float | None = 1.0
    for row, (value, low) in enumerate(zip(equity, lowest, strict=True)):
        before, after_top_ups, inside = scale, inf, [inf]
        for flow in by_bar.get(row, ()):
            level = level if scale is None else max(flow.equity, ruined) * scale
            if flow.equity <= ruined and levels:
                levels[-1] = max(levels[-1], level)
            scale = level / (flow.equity + flow.amount) if flow.equity + flow.amount > 0 else None
            if flow.kind != "top_up":
                before = scale
            elif scale is not None:
                after_top_ups = min(after_top_ups, flow.lowest)
                inside += [level, flow.lowest * scale]
        if before is not None and low < after_top_ups:
            inside.append(low * before)
        lows.append(level if scale is None else min(value * scale, *inside))
        level = level if scale is None else value * scale
        levels.append(level)
    return levels, lows


def max_drawdown(start: float, equity: Sequence[float], lowest: Sequence[float]) -> float:
    """Return the largest fall from a peak as a positive fraction, looking inside bars.

    max over bars of 1 - lowest / peak, the peak being the highest of ``start`` and the equity of the bars before.

    >>> max_drawdown(100.0, [120.0, 110.0, 150.0], [95.0, 60.0, 100.0])          # 1 - 60 / 120
    0.5
    """
    peak, worst = start, 0.0
    for value, low in zip(equity, lowest, strict=True):
        worst = max(worst, 1 - low / peak)
        peak = max(peak, value)
    return worst


def daily_returns(start: float, opened: Sequence[float], equity: Sequence[float]) -> list[float]:
    """Return one return for every UTC day from the first bar's to the last's.

    A bar belongs to the day of its opening instant ``opened``; a day without a bar returned 0, and so does every day
    after equity has come to 0.

    >>> daily_returns(100.0, [0.0, 43_200.0, 86_400.0, 259_200.0], [90.0, 110.0, 99.0, 198.0])
    [0.10000000000000009, -0.09999999999999998, 0.0, 1.0]
    """
    closes: dict[int, float] = {}
    for time, value in zip(opened, equity, strict=True):
        closes[int(time // DAY)] = value
    if not closes:
        return []
    levels, level = [start], start
    for day in range(min(closes), max(closes) + 1):
        level = closes.get(day, level)
        levels.append(level)
    return [after / before - 1 if before > 0 else 0.0 for before, after in pairwise(levels)]


def sharpe(returns: Sequence[float], *, periods: int = DAYS_A_YEAR) -> float | None:
    """Return mean / sample standard deviation x sqrt(periods), no risk-free rate; None where they do not vary.

    >>> round(sharpe([0.01, 0.03]), 4)                                      # 0.02 / 0.01414 x 19.105
    27.0185
    """
    from statistics import fmean, stdev  # slow to import, and needed by results only

    deviation = stdev(returns) if len(returns) > 1 else 0.0
    return fmean(returns) / deviation * sqrt(periods) if deviation > 0 else None


def volatility(returns: Sequence[float], *, periods: int = DAYS_A_YEAR) -> float | None:
    """Return the sample standard deviation x sqrt(periods); None of fewer than two returns.

    >>> round(volatility([0.01, 0.03]), 4)                                  # 0.01414 x 19.105
    0.2702
    """
    from statistics import stdev

    return stdev(returns) * sqrt(periods) if len(returns) > 1 else None


def sortino(returns: Sequence[float], *, periods: int = DAYS_A_YEAR) -> float | None:
    """Return mean / root mean square of the losses x sqrt(periods), gains counted as 0; None of fewer than two, or without a loss.

    >>> round(sortino([0.03, -0.01]), 4)                                    # 0.01 / sqrt(0.0001 / 2) x 19.105
    27.0185
    """
    from statistics import fmean

    downside = sqrt(fmean(min(value, 0.0) ** 2 for value in returns)) if len(returns) > 1 else 0.0
    return fmean(returns) / downside * sqrt(periods) if downside > 0 else None


def daily_drawdown(returns: Sequence[float]) -> float:
    """Return the largest fall from a peak of what returns compound to, as a positive fraction; the start is a peak too.

    >>> round(daily_drawdown([0.1, -0.5, 0.2]), 12)                         # 1 - 0.55 / 1.1
    0.5
    """
    level = peak = 1.0
    worst = 0.0
    for value in returns:
        level *= 1 + value
        peak = max(peak, level)
        worst = max(worst, 1 - level / peak)
    return worst


class Dip(NamedTuple):
    """One time under water: from the instant of a peak until equity is back at it, or the end where it never is."""

    begun: float
    ended: float
    depth: float
    is_over: bool

    @property
    def days(self) -> float:
        """How long it lasted."""
        return (self.ended - self.begun) / DAY


def dips(start: float, opened: float, times: Sequence[float], equity: Sequence[float], lowest: Sequence[float]) -> list[Dip]:
    """Return every time under water, in their order; ``depth`` is a positive fraction, looking inside bars as ``max_drawdown`` does.

    A peak is of closes (``start`` at the instant ``opened`` is the first). A bar whose close is back at the peak ends a dip.

    >>> dips(100.0, 0.0, [1.0, 2.0, 3.0, 4.0], [120.0, 110.0, 120.0, 90.0], [99.0, 60.0, 100.0, 90.0])
    [Dip(begun=0.0, ended=1.0, depth=0.010000000000000009, is_over=True), Dip(begun=1.0, ended=3.0, depth=0.5, is_over=True), \
Dip(begun=3.0, ended=4.0, depth=0.25, is_over=False)]
    """
    found: list[Dip] = []
    peak, since, depth, last = start, opened, 0.0, opened
    for time, value, low in zip(times, equity, lowest, strict=True):
        depth, last = max(depth, 1 - low / peak), time
        if value >= peak:
            if depth > 0:
                found.append(Dip(since, time, depth, is_over=True))
            peak, since, depth = value, time, 0.0
    return [*found, Dip(since, last, depth, is_over=False)] if depth > 0 else found


def annual_return(total_return: float, seconds: float) -> float | None:
    """Return the yearly compound rate over 365 days: (1 + total) ** (365 d / span) - 1.

    -1 once everything is lost; None for less than a day, or where the rate is too large for a number.

    >>> round(annual_return(0.21, 2 * 365 * 86_400), 12)
    0.1
    """
    if total_return <= -1:
        return -1.0
    if seconds < DAY:
        return None
    try:
        return (1 + total_return) ** (DAYS_A_YEAR * DAY / seconds) - 1
    except OverflowError:
        return None


@dataclass(slots=True)
class RoundTrip:
    """One position from flat to flat.

    ``size`` is the largest held, unsigned; prices are averages over what was opened and what was closed; ``fees``
    (liquidation fees too) and ``funding`` are money as the account sees it: paid is negative.
    """

    symbol: str
    side: str
    opened: float
    closed: float = 0.0
    size: float = 0.0
    entry_price: float = 0.0
    exit_price: float = 0.0
    realized_pnl: float = 0.0
    fees: float = 0.0
    funding: float = 0.0
    liquidated: bool = False

    @property
    def net_pnl(self) -> float:
        """Realized profit plus fees plus funding."""
        return self.realized_pnl + self.fees + self.funding


def round_trips(fills: Iterable[FillRow], funding: Iterable[FundingRow], inverse: Collection[str] = ()) -> tuple[list[RoundTrip], int]:
    """Return the positions that were opened and closed, by time of closing, and how many are still open.

    A reversal ends one and begins the next; its fee is shared by size. Prices of ``inverse`` contracts are averaged
    harmonically.
    """
    finished, still_open = positions_of(fills, funding, inverse)
    return finished, len(still_open)


def positions_of(
    fills: Iterable[FillRow], funding: Iterable[FundingRow], inverse: Collection[str] = ()
) -> tuple[list[RoundTrip], list[RoundTrip]]:
    """Return the positions that were opened and closed, as ``round_trips``, and those still open; the latter's ``closed`` says nothing."""
    books: dict[str, _Book] = {}
    for payment in funding:
        books.setdefault(payment.symbol, _Book()).payments.append(payment)
    finished: list[RoundTrip] = []
    for fill in _whole_liquidations(fills):
        book = books.setdefault(fill.symbol, _Book())
        book.kind = "inverse" if fill.symbol in inverse else "linear"
        book.attribute(until=fill.time)
        finished.extend(book.take(fill))
    return finished, [book.trip for book in books.values() if book.trip is not None]


def _whole_liquidations(fills: Iterable[FillRow]) -> Iterator[FillRow]:
    """Yield the fills with the parts of one liquidation, a row for each owner, put together again."""
    for key, group in groupby(fills, key=lambda fill: (fill.time, fill.symbol, fill.price) if fill.liquidation else fill.order_ref):
        parts = list(group)
        if not isinstance(key, tuple):
            yield from parts
            continue
        size, fee, profit = (sum(getattr(part, name) for part in parts) for name in ("size", "fee", "realized_pnl"))
        yield parts[0]._replace(size=size, fee=fee, realized_pnl=profit)


@dataclass(slots=True)
class _Book:
    """One contract's fills and funding, replayed."""

    payments: list[FundingRow] = field(default_factory=list)
    paid: int = 0
    held: float = 0.0
    opened: float = 0.0
    closed: float = 0.0
    last_time: float = 0.0
    trip: RoundTrip | None = None
    kind: str = "linear"

    def attribute(self, until: float) -> None:
        """Give the position at hand the payments on it that came before ``until``.

        A fill is timed by its bar's close and a payment by its own instant, so inside one bar the size that was paid
        on tells whether it was before a fill or after.
        """
        while self.trip is not None and self.paid < len(self.payments):
            payment = self.payments[self.paid]
            is_on_this = abs(payment.size - self.held) <= RESIDUE * self.trip.size
            if payment.time >= until or not (is_on_this or payment.time < self.last_time):
                return
            self.trip.funding += payment.amount
            self.paid += 1

    def take(self, fill: FillRow) -> Iterator[RoundTrip]:
        """Book a fill and yield the round trip it ends, if any."""
        closed, opened = split_fill(self.held, fill.size)
        if self.trip is not None and abs(opened) <= RESIDUE * self.trip.size:
            closed, opened = fill.size, 0.0
        self.last_time = fill.time
        if self.trip is not None and closed:
            self._close(self.trip, fill, closed)
            if not self.held:
                yield self.trip
                self.trip = None
        if opened:
            self._open(fill, opened)

    def _close(self, trip: RoundTrip, fill: FillRow, size: float) -> None:
        trip.exit_price = average_entry(size=self.closed, entry_price=trip.exit_price, added=abs(size), price=fill.price, kind=self.kind)
        self.closed += abs(size)
        trip.realized_pnl += fill.realized_pnl
        trip.fees -= fill.fee * abs(size / fill.size)
        trip.liquidated = trip.liquidated or fill.liquidation
        trip.closed = fill.time
        self.held += size
        if abs(self.held) <= RESIDUE * trip.size:
            self.held = 0.0

    def _open(self, fill: FillRow, size: float) -> None:
        if self.trip is None:
            self.trip = RoundTrip(fill.symbol, "long" if size > 0 else "short", fill.time)
            self.opened = self.closed = 0.0
        trip = self.trip
        trip.entry_price = average_entry(size=self.opened, entry_price=trip.entry_price, added=abs(size), price=fill.price, kind=self.kind)
        self.opened += abs(size)
        trip.fees -= fill.fee * abs(size / fill.size)
        self.held += size
        trip.size = max(trip.size, abs(self.held))
