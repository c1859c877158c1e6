"""A slot: one Backtrader data as the margin account sees it; in hedge mode one ``side`` of it, 'LONG' or 'SHORT'.

``name`` is the contract's symbol, ``symbol`` the position's: the same, or of a leg ``NAME:LONG``.

It knows when a new bar has come, the bar's last and mark prices, its opening and closing instants (seconds, UTC) and
the funding stamps that fall due. Marks come from the feed's own series where it has one, else from last.
"""

from array import array
from collections.abc import Callable
from math import inf, isnan, nextafter
from operator import lt, sub
from typing import Any

import backtrader as bt

from .core.account import Position
from .core.funding import FundingSchedule, Settlement
from .core.ledger import CROSS
from .feeds import PerpData, PerpSeries
from .passed import HoldingTerms

DAY = 86_400.0
EPOCH = 719_163  # Backtrader's day number of 1970-01-01
UNITS = {bt.TimeFrame.Seconds: 1.0, bt.TimeFrame.Minutes: 60.0, bt.TimeFrame.Days: DAY, bt.TimeFrame.Weeks: 7 * DAY}
UNEVEN = {bt.TimeFrame.Months: 31 * DAY, bt.TimeFrame.Years: 366 * DAY}  # at most this long


def seconds(day_number: float) -> float:
    """Return Backtrader's float day number as seconds since 1970, to the millisecond it can hold."""
    return round((day_number - EPOCH) * DAY, 3)


def all_seconds(day_numbers: "array[float]", count: int) -> "array[float]":
    """Return ``seconds`` of the first day numbers, all at once and with the same bits.

    A whole number of milliseconds divided by 1000 is the nearest float there is, which ``round`` returns too; which whole
    number that is, is doubtful only where there is half a millisecond.
    """
    import numpy as np

    millis = (np.frombuffer(day_numbers, np.float64, count) - EPOCH) * DAY * 1000
    whole = np.rint(millis)
    found = whole / 1000
    for row in (np.abs(np.abs(millis - whole) - 0.5) < 0.01).nonzero()[0]:
        found[row] = seconds(day_numbers[row])
    return array("d", found.tobytes())


class Slot:
    """State of one data between two steps of the broker."""

    def __init__(
        self,
        data: Any,
        symbol: str,
        position: Position,
        funding: FundingSchedule | None,
        *,
        stamps_are_opens: bool,
        number: int,
        side: str | None = None,
    ) -> None:
        self.data, self.symbol, self.position, self.number = data, symbol, position, number
        self.side = side
        self.name = symbol if side is None else symbol.removesuffix(f":{side}")
        self.series: PerpSeries | None = _series_of(data)
        self.schedule = funding if funding is not None else (self.series.funding if self.series else None)
        if position.contract.kind == "spot":
            self._drop_funding(funding)
        self.stamps_are_opens = stamps_are_opens
        self.detail = self.series.detail if self.series is not None else None
        self.has_own_mark = self.series is not None and self.series.mark_open is not None
        self.clock_line, self.close_line = data.lines.datetime, data.lines.close
        self._clock, self._prices = data.lines.datetime, (data.lines.open, data.lines.high, data.lines.low, data.lines.close)
        self.lots: dict[tuple[Any, Any], float] = {}  # by owner and trade id
        self.mark_opens = self.mark_lows = self.mark_highs = self.mark_closes = array(
            "d"
        )  # of all bars, where the feed has them from the start
        self._stamps = array("d")  # of a feed of the host's with ``all_stamps``
        self.count, self.day_number = 0, 0.0
        self.version = 0
        self.is_fresh = self.is_bulk = False
        self.is_usual = False  # whether its market orders may take the short road, as far as its contract goes
        self.bar_seconds = self.series.bar_seconds if self.series is not None else 0.0
        self.mark_row = -1
        self.open_time = self.close_time = -inf
        self.open = self.high = self.low = self.close = 0.0
        self.mark_open = self.mark_high = self.mark_low = self.mark_close = 0.0
        self.funded_until = -inf
        self.next_stamp = inf if self.schedule is None else -inf
        self.shortest_step = inf
        self.previous_stamp = -inf
        dates = [start for start, _ in position.rules[1:]] + [fees[0] for fees in position.offered.dated_fees]
        starts = (*position.contract.tiers.dates[1:], *dates)
        self.change_dates = sorted(set(starts))  # of the tier table, the margin terms and the fees
        self.terms_since = -inf  # which of these dates the ones in force are of
        self.next_tiers = self.change_dates[0] if starts else inf

    def refresh(self) -> bool:
        """Look for a new bar, remember and return whether there is one."""
        line = self._clock
        count = line.lencount
        if not count:
            return False
        day_number = line.array[line._idx]
        self.is_fresh = count != self.count or day_number != self.day_number
        if self.is_fresh:
            if not self.version:
                self.is_bulk = self.series is not None and getattr(self.data, "_bulk", False)
                self._take_columns()
            elif not self.is_bulk:
                self.previous_stamp = seconds(self.day_number)
                if self.series is None and day_number > self.day_number:
                    self.shortest_step = min(self.shortest_step, seconds(day_number) - self.previous_stamp)
            self.count, self.day_number = count, day_number
            self.version += 1
            if self.is_bulk:
                self.close_time = self.series.stamps[count - 1]  # type: ignore[union-attr]  # bulk feeds have a series
                self.open_time = self.close_time - self.bar_seconds
            else:
                self.open_time, self.close_time = self._times()
        return self.is_fresh

    def load(self, retier: Callable[[str, float], None]) -> None:
        """Read the new bar: prices, marks, instants, tiers, margin terms and fees in force at its opening instant (R5)."""
        data = self.data
        opens, highs, lows, closes = self._prices  # each by its own index: where few bars are kept, every line keeps its own number
        self.open, self.high = opens.array[opens._idx], highs.array[highs._idx]
        self.low, self.close = lows.array[lows._idx], closes.array[closes._idx]
        if getattr(data, "tick_close", None) == self.close:  # a replayed bar grows by ticks; elsewhere the host may leave stale ones
            self.open, self.high, self.low = data.tick_open, data.tick_high, data.tick_low
        if not (self.open > 0 and self.high > 0 and self.low > 0 and self.close > 0):
            raise ValueError(
                f"{self.symbol}: the bar at {bt.num2date(self.day_number):%Y-%m-%d %H:%M} UTC has no usable price "
                f"(open {self.open}, high {self.high}, low {self.low}, close {self.close}); repair or drop it"
            )
        if self.has_own_mark:
            self._load_marks()
        else:
            self.mark_open, self.mark_high, self.mark_low, self.mark_close = (self.open, self.high, self.low, self.close)
        if self.open_time >= self.next_tiers:
            self.use_tiers(retier, self.open_time)

    def _take_columns(self) -> None:
        series, (opens, highs, lows, closes) = self.series, self._prices
        own = series if series is not None and self.is_bulk else None
        self.mark_opens = opens.array if own is None or own.mark_open is None else own.mark_open
        self.mark_lows = lows.array if own is None or own.mark_low is None else own.mark_low
        self.mark_highs = highs.array if own is None or own.mark_high is None else own.mark_high
        self.mark_closes = closes.array if own is None or own.mark_close is None else own.mark_close

    def all_stamps(self) -> "array[float] | None":
        """Return the closing instants of all bars, where the feed has all of them and their prices from the start; else None."""
        if self.is_bulk:
            return self.series.stamps  # type: ignore[union-attr]  # bulk feeds have a series
        if not self._is_whole():
            return None
        stamps = all_seconds(self._clock.array, self.data.buflen())
        if not all(map(lt, stamps, stamps[1:])):
            return None
        self._stamps = stamps
        return stamps

    def has_stamps(self, other: "Slot", stamps: "array[float]") -> bool:
        """Whether ``all_stamps`` are those of another slot, which are ``stamps``."""
        if self.is_bulk or other.is_bulk:
            return self.all_stamps() == stamps
        bars = self.data.buflen()
        self._stamps = stamps
        return self._is_whole() and bars == len(stamps) and self._clock.array[:bars] == other._clock.array[:bars]

    def _is_whole(self) -> bool:
        """Whether a feed of the host's has all of its bars from the start, with prices, and its stamps are closes."""
        data, line = self.data, self._clock
        is_plain = not (data._filters or data._clone or data.resampling or data.replaying or data.islive())
        if self.series is not None or self.stamps_are_opens or not is_plain or line.mode != line.UnBounded:
            return False
        return all(_are_prices(line.array, data.buflen()) for line in self._prices)

    def stand_on(self, count: int) -> None:
        """Take note of bars that have come without a ``refresh``, up to the one with this count, of a feed with ``all_stamps``."""
        if count == self.count:
            return
        self.version += count - self.count
        if self.series is None:
            past = self._stamps[self.count - 1 : count]
            self.shortest_step = min(self.shortest_step, *map(sub, past[1:], past))
            self.previous_stamp = past[-2]
        self.count, self.is_fresh, self.day_number = count, True, self._clock.array[count - 1]
        if self.is_bulk:
            self.close_time = self.series.stamps[count - 1]  # type: ignore[union-attr]
            self.open_time = self.close_time - self.bar_seconds
        else:
            self.open_time, self.close_time = self._times()

    def read_row(self, row: int) -> None:
        """Read prices and marks of a row (from 0) of a feed with ``all_stamps``."""
        self.open, self.high, self.low, self.close = (line.array[row] for line in self._prices)
        self.mark_open, self.mark_high, self.mark_low, self.mark_close = self.open, self.high, self.low, self.close
        if self.has_own_mark:
            self._load_marks()

    def terms_held(self, balance: float) -> HoldingTerms:
        """Return what the record keeps of the position besides its marks, with this balance in the wallet behind it."""
        position = self.position
        is_isolated, fee = position.wallet != CROSS, position.set_aside[1]
        return self.number, position.size, position.entry_price, balance, is_isolated, position.leverage, self.terms_since, fee

    @property
    def is_ahead(self) -> bool:
        """Whether the data stands on a bar that the broker has not taken in, as under cheat-on-open."""
        return bool(self._clock.lencount != self.count)

    def present_mark(self, *, at_open: bool = False) -> float:
        """Return the mark at the close, or the open, of the bar that the data stands on; bars of idle contracts are not loaded."""
        if not self.has_own_mark:
            return float((self.data.open if at_open else self.data.close)[0])
        series = self.series
        assert series is not None
        assert series.mark_open is not None
        assert series.mark_close is not None
        marks = series.mark_open if at_open else series.mark_close
        row = self._clock.lencount - 1 if self.is_bulk else series.row_at(seconds(self._clock.array[self._clock._idx]))
        return float(marks[row])

    def use_tiers(self, retier: Callable[[str, float], None], time: float) -> None:
        """Put the tier table, the margin terms and the fees of an instant in force."""
        self.terms_since = max((date for date in self.change_dates if date <= time), default=-inf)
        self.next_tiers = next((date for date in self.change_dates if date > time), inf)
        retier(self.symbol, time)

    def _drop_funding(self, own: FundingSchedule | None) -> None:
        """Forget a constant rate, which is given to all datas at once; spot has no funding (R27)."""
        is_assumed = own is None and self.series is not None and self.series.constant_funding is not None
        if self.schedule and not is_assumed:
            raise ValueError(f"{self.symbol}: spot pays no funding, {len(self.schedule)} stamps were given; leave them out")
        self.schedule = None

    def _times(self) -> tuple[float, float]:
        """Return the opening and closing instants by the stamp and the bar's length."""
        stamp = seconds(self.day_number)
        length = self._length(stamp)
        return (stamp, stamp + length) if self.stamps_are_opens and self.series is None else (stamp - length, stamp)

    def _length(self, stamp: float) -> float:
        """Return the bar's length: the feed's own, else by its timeframe.

        Feeds other than PerpData often leave the timeframe at its default of one day. There no bar is longer than the
        shortest step between two stamps, and the first one counts as an instant, for its length is not known yet.
        """
        timeframe = self.data._timeframe
        if self.series is not None and not isinstance(self.data, bt.feed.DataClone) and not self.data._filters:
            return self.bar_seconds
        if timeframe in UNEVEN:
            return min(UNEVEN[timeframe] * self.data._compression, stamp - self.previous_stamp)
        label = UNITS.get(timeframe, DAY) * self.data._compression
        if self.series is not None:
            return label
        if self.shortest_step == inf and timeframe == bt.TimeFrame.Days:
            return 0.0
        return min(label, self.shortest_step)

    def _load_marks(self) -> None:
        series = self.series
        assert series is not None
        assert series.mark_open is not None
        assert series.mark_high is not None
        assert series.mark_low is not None
        assert series.mark_close is not None
        row = self.count - 1 if self.is_bulk else series.row_at(self.close_time)
        first = row if self.is_bulk else min(max(self.mark_row + 1, series.row_at(self.open_time) + 1), row)
        self.mark_row = row
        self.mark_open, self.mark_close = (series.mark_open[first], series.mark_close[row])
        self.mark_high, self.mark_low = series.mark_high[row], series.mark_low[row]
        if first != row:
            self.mark_high = max(series.mark_high[first : row + 1])
            self.mark_low = min(series.mark_low[first : row + 1])

    def worst_mark(self) -> float:
        """Return the bar's mark extreme that is worst for what is held; the last mark where the bar is not new."""
        if not self.is_fresh:
            return self.mark_close
        return self.mark_low if self.position.size > 0 else self.mark_high

    def has_stamps_due(self) -> bool:
        """Whether a funding stamp falls between the last one settled and this bar's close."""
        return self.next_stamp < self.close_time

    def stamps_in_gap(self) -> list[Settlement]:
        """Return the stamps due before the bar's opening instant, and count them as settled."""
        return self._held_only(self._settle(nextafter(self.open_time, -inf)))

    def stamps_before_open(self) -> list[Settlement]:
        """Return the stamps due up to and including the bar's opening instant, and count them as settled."""
        return self._held_only(self._settle(self.open_time))

    def stamps_inside(self) -> list[Settlement]:
        """Return the stamps between the bar's opening and closing instants, and count them as settled.

        One at the closing instant belongs to the opening of the next bar.
        """
        return self._settle(nextafter(self.close_time, -inf))

    def _settle(self, until: float) -> list[Settlement]:
        due: list[Settlement] = []
        if self.schedule is not None and until > self.funded_until:
            due = list(self.schedule.between(self.funded_until, until)) if self.funded_until > -inf else []
            self.funded_until = until
            self.next_stamp = self.schedule.first_after(until)
        return due

    def _held_only(self, due: list[Settlement]) -> list[Settlement]:
        return due if self.position.size else []

    @property
    def grace(self) -> float:
        """The grace after a funding stamp as a fraction of this bar, 0 where there is none."""
        seconds = 0.0 if self.schedule is None else self.schedule.grace_seconds
        return seconds / (self.close_time - self.open_time) if seconds else 0.0

    def is_in_grace(self) -> bool:
        """Whether the grace after a funding stamp is not over at this bar's close."""
        schedule = self.schedule
        return schedule is not None and schedule.grace_seconds > 0 and any(schedule.late(self.close_time))

    def late_stamps(self) -> list[Settlement]:
        """Return the stamps that a position opened in this bar may still pay: of this bar, and of the grace before it (R24).

        One at the closing instant is the next bar's, as in ``stamps_inside``.
        """
        if self.schedule is None or not self.schedule.grace_seconds:
            return []
        first = nextafter(self.open_time - self.schedule.grace_seconds, -inf)
        return list(self.schedule.between(first, nextafter(self.close_time, -inf)))

    def late_mark(self, settlement: Settlement) -> float:
        """Return the mark of a stamp for a position opened after it; of one before this bar that is the open."""
        return self.mark_open if settlement.stamp < self.open_time and isnan(settlement.mark_price) else self.funding_mark(settlement)

    def funding_mark(self, settlement: Settlement) -> float:
        """Return the mark of a stamp: its own, else the open at the opening instant, else the line to the close (R23)."""
        return self.line_mark(settlement.stamp) if isnan(settlement.mark_price) else settlement.mark_price

    def line_mark(self, time: float) -> float:
        """Return the mark of an instant of the bar on the straight line from open to close."""
        return self.mark_open + (self.mark_close - self.mark_open) * min(max(self.fraction(time), 0.0), 1.0)

    def fraction(self, time: float) -> float:
        """Return where an instant lies in the bar, 0 at its opening and 1 at its closing instant."""
        return (time - self.open_time) / (self.close_time - self.open_time)


def _are_prices(values: "array[float]", count: int) -> bool:
    """Whether the first values are prices: above 0, none of them missing."""
    import numpy as np

    return bool((np.frombuffer(values, np.float64, count) > 0).all())


def _origin(data: Any) -> Any:
    """Return the feed behind clones (resampled or copied datas)."""
    while isinstance(data, bt.feed.DataClone):
        data = data.p.dataname
    return data


def _series_of(data: Any) -> PerpSeries | None:
    origin = _origin(data)
    return origin.perp if isinstance(origin, PerpData) else None
