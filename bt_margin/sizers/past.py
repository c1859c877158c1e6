"""What a sizer knows of the past: averages of a data's bars, the strategy's closed trades, the account's highest equity.

A sizer is asked now and then and cannot own indicators, which the host makes before a run only. So everything here catches up
with the bars, trades and rows that have come since it was asked last, and never looks at one that has not come yet: bars up to
the one the data stands on (under cheat-on-open up to the one before), trades that are closed, rows that are written.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import fsum, inf, isfinite
from typing import Any, NamedTuple

from ..core.sizing import annual_volatility
from ..slots import seconds


def latest(line: Any, size: int, ahead: int) -> Sequence[float]:
    """Return the last ``size`` values of a line up to its present bar, or the one before where that is ``ahead`` of the broker.

    ValueError where the run keeps fewer (``exactbars``).
    """
    if line.mode == line.QBuffer and size + ahead > line.idx + 1:
        raise ValueError(
            f"an average needs {size} bars back, and exactbars keeps fewer; run with exactbars=False, or take a rule that needs no average"
        )
    values: Sequence[float] = line.get(ago=-ahead, size=size)
    return values


class Smoothed:
    """The exponential average of something of each bar, seeded with the mean of the first ``period`` of them.

    average = before * (1 - alpha) + value * alpha: the operations of ``bt.ind.ExponentialSmoothing`` in their order, so that
    they have its bits.
    """

    def __init__(self, period: int, alpha: float) -> None:
        self.period, self.alpha = period, alpha
        self._bars = 0  # that are over, and counted
        self._seed: list[float] = []
        self._level: float | None = None

    def values(self, data: Any, bars: int, has_before: bool, ahead: int) -> list[float]:
        """Return the values of the last ``bars`` bars but the last of all; ``has_before``: there is a bar before them."""
        raise TypeError("an average is of something: derive a class from Smoothed and say of what")

    def value(self, data: Any, ahead: int = 0) -> float | None:
        """Return the average as of the present bar, which may still change (replayed data); None while there are too few."""
        bars = len(data) - ahead
        if bars <= self._bars:
            return None
        values = self.values(data, bars - self._bars, self._bars > 0, ahead)
        for value in values[:-1]:
            self._take(value)
        self._bars = bars - 1
        return self._with(values[-1]) if values else None

    def _take(self, value: float) -> None:
        self._level = self._with(value)
        if self._level is None:
            self._seed.append(value)

    def _with(self, value: float) -> float | None:
        if self._level is not None:
            return self._level * (1.0 - self.alpha) + value * self.alpha
        seed = [*self._seed, value]
        return fsum(seed) / self.period if len(seed) == self.period else None


class AverageRange(Smoothed):
    """Wilder's average true range of the last prices: ``bt.ind.ATR``, to the last digit.

    true range = max(high, close before) - min(low, close before), from the second bar on.
    """

    def __init__(self, period: int) -> None:
        super().__init__(period, 1.0 / period)

    def values(self, data: Any, bars: int, has_before: bool, ahead: int) -> list[float]:
        """Return the true ranges; the first bar of all has none."""
        closes = latest(data.lines.close, bars + has_before, ahead)
        highs, lows = (latest(line, len(closes) - 1, ahead) for line in (data.lines.high, data.lines.low))
        return [max(high, close) - min(low, close) for high, low, close in zip(highs, lows, closes[:-1], strict=True)]

    def so_far(self, data: Any, ahead: int = 0) -> float:
        """Return the average, and before there is one the mean of the true ranges that there are; of the first bar high - low."""
        found, bars = self.value(data, ahead), len(data) - ahead
        if found is not None:
            return found
        if bars < 2:
            return float(data.high[-ahead] - data.low[-ahead]) if bars else 0.0
        return fsum(self.values(data, bars, False, ahead)) / (bars - 1)


class Volatility(Smoothed):
    """The volatility of a year of 365 days: the exponential average (span ``period``) of squared returns from close to close.

    A bar is as long as the shortest step between two stamps so far.
    """

    def __init__(self, period: int) -> None:
        super().__init__(period, 2.0 / (1.0 + period))
        self.bar_seconds = inf

    def values(self, data: Any, bars: int, has_before: bool, ahead: int) -> list[float]:
        """Return the squares of the returns; the first bar of all has none."""
        closes = latest(data.lines.close, bars + has_before, ahead)
        stamps = latest(data.lines.datetime, bars + has_before, ahead)
        steps = [seconds(later) - seconds(earlier) for earlier, later in pairwise(stamps)]
        self.bar_seconds = min([self.bar_seconds, *(step for step in steps if step > 0)])
        return [(after / before - 1.0) ** 2 for before, after in pairwise(closes)]

    def of_year(self, data: Any, ahead: int = 0) -> float | None:
        """Return the volatility of a year as of the present bar, None while there are too few bars."""
        variance = self.value(data, ahead)
        return None if variance is None or not isfinite(self.bar_seconds) else annual_volatility(variance, self.bar_seconds)


def name_of(strategy: Any, data: Any) -> str:
    """Return the symbol of a data of a strategy as the account has it; on stock Backtrader its name, without one its number."""
    legs_of = getattr(strategy.broker, "legs_of", None)
    if legs_of is not None:
        return str(legs_of(data)[0].name)
    return data._name or f"data{next((number for number, own in enumerate(strategy.datas) if own is data), 0)}"


class ClosedTrade(NamedTuple):
    """A trade that is over: ``profit`` net of trading fees (funding apart), ``size`` the largest that was held.

    ``worth`` is the notional that was opened in all, ``side`` 1 of a long and -1 of a short; times are the host's day numbers.
    """

    symbol: str
    side: int
    opened: float
    closed: float
    size: float
    worth: float
    profit: float

    @property
    def outcome(self) -> float:
        """The profit per unit of notional."""
        return self.profit / self.worth if self.worth else 0.0


class ClosedTrades:
    """The closed trades of a strategy in the order in which they closed, from the host's own book of them.

    The host keeps a trade's fills only where it is asked to (``set_tradehistory``, which changes nothing else), so a sizer that
    learns from trades asks for it. Trades that were open or closed before have no size and no worth.
    """

    def __init__(self, strategy: Any) -> None:
        self._strategy = strategy
        self._seen: dict[tuple[int, Any], int] = {}
        self._all: list[ClosedTrade] = []
        strategy.set_tradehistory(True)

    def all(self) -> list[ClosedTrade]:
        """Return all trades closed so far."""
        fresh: list[tuple[float, int, ClosedTrade]] = []
        for data, by_id in self._strategy._trades.items():
            for tradeid, trades in by_id.items():
                key = (id(data), tradeid)
                seen = self._seen.get(key, 0)
                over = [trade for trade in trades[seen:] if trade.isclosed]  # at most the last one is still open
                self._seen[key] = seen + len(over)
                fresh += [(trade.dtclose, trade.ref, _closed(self._strategy, trade)) for trade in over]
        self._all += [trade for *_, trade in sorted(fresh)]
        return self._all

    def of(self, symbol: str) -> list[ClosedTrade]:
        """Return those of one contract."""
        return [trade for trade in self.all() if trade.symbol == symbol]


def _closed(strategy: Any, trade: Any) -> ClosedTrade:
    """Return a host's trade as one that is over."""
    side, worth, size = 1 if trade.long else -1, 0.0, 0.0
    for entry in trade.history:
        event = entry.event
        if event.size * side > 0:
            comminfo = event.order.comminfo
            terms = getattr(comminfo, "terms", None)
            worth += abs(event.size) * event.price * comminfo.p.mult if terms is None else terms.notional(event.size, event.price)
        size = max(size, abs(entry.status.size))
    return ClosedTrade(name_of(strategy, trade.data), side, trade.dtopen, trade.dtclose, size, worth, trade.pnlcomm)


class Decision(NamedTuple):
    """One answer of a sizer to an order that opens something; closing orders have none.

    ``time`` is the closing instant of the bar it was asked on (seconds since 1970 UTC; under cheat-on-open its opening one),
    ``side`` 1 to buy and -1 to sell, ``price`` what it reckoned with, ``stop`` the stop it knew of (None: none), ``wanted`` the
    size before and ``size`` the one after caps and lots. Of a size of 0 ``reason`` is one of ``REASONS``, else ''. ``leverage``
    is the one set for the contract.
    """

    time: float
    symbol: str
    side: int
    price: float
    stop: float | None
    wanted: float
    size: float
    leverage: float
    reason: str


class Outcomes:
    """Past trades as multiples of what was risked: profit over size times the distance to the stop that was decided on."""

    def __init__(
        self, trades: ClosedTrades, decisions: Callable[[], Sequence[Decision]], risk_of: Callable[[str, float, float], float]
    ) -> None:
        self._trades, self._decisions, self._risk_of = trades, decisions, risk_of
        self._seen = 0
        self._all: list[float] = []

    def all(self) -> list[float]:
        """Return the outcome of each closed trade whose entry a decision with a stop stands behind."""
        trades = self._trades.all()
        for trade in trades[self._seen :]:
            last = self._decision_for(trade)
            risked = 0.0 if last is None or last.stop is None else trade.size * self._risk_of(trade.symbol, last.price, last.stop)
            if risked > 0:
                self._all.append(trade.profit / risked)
        self._seen = len(trades)
        return self._all

    def _decision_for(self, trade: ClosedTrade) -> Decision | None:
        """Return the last decision for the trade's contract and side that was made by the time it opened."""
        opened = seconds(trade.opened)
        for decision in reversed(self._decisions()):  # by time for each contract, but not for all: one may stand on an old bar
            is_its_own = decision.symbol == trade.symbol and decision.side == trade.side
            if is_its_own and decision.size and decision.time <= opened:
                return decision
        return None


class HighWater:
    """The highest equity at a bar's close so far; money that comes in or goes out moves it with it.

    Stock Backtrader keeps no record of equity: there it is the highest at which a sizer was asked.
    """

    def __init__(self, broker: Any) -> None:
        self._broker, self._peak = broker, float(broker.startingcash)
        self._row = self._flow = 0

    def peak(self) -> float:
        """Return the highest equity up to now."""
        broker = self._broker
        self._peak = max(self._peak, broker.getvalue()) if not hasattr(broker, "record") else self._from(broker.record)
        return self._peak

    def drawdown(self) -> float:
        """Return how far equity is below it, a fraction of it."""
        peak = self.peak()
        return max(1 - self._broker.getvalue() / peak, 0.0) if peak > 0 else 0.0

    def _from(self, record: Any) -> float:
        peak, flows, rows = self._peak, record.flows, len(record)
        equities = record.tail("equity", self._row) if rows > self._row else ()
        at = self._row
        for flow in [flow for flow in flows[self._flow :] if flow.bar < rows]:
            if flow.bar > at:
                peak = max(peak, float(max(equities[at - self._row : flow.bar - self._row])))
                at = flow.bar
            peak = max(peak + flow.amount, 0.0)
            self._flow += 1
        if rows > at:
            peak = max(peak, float(max(equities[at - self._row :])))
        self._row = rows
        return peak
