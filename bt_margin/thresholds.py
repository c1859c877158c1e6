"""Warning and margin call: what a trader hears before a wallet is liquidated (R31). They close nothing.

Judged at a bar's close. Rates are equity / maintenance margin of one wallet; liquidation is at 1. Distances are from one
position's mark to its liquidation price, as a fraction of the mark or in multiples of the contract's average true range.
"""

from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from typing import TYPE_CHECKING

from .core.account import MarginAccount, Marks, is_number
from .core.liquidation import account_liquidation_price
from .record import WarningRow

if TYPE_CHECKING:
    from .slots import Slot

LIQUIDATION_RATE = 1.0
KINDS = ("warning", "margin_call")


class AverageTrueRange:
    """Wilder's average true range of one contract's last prices, as Backtrader's ``bt.ind.ATR`` has it.

    true range = max(high, close before) - min(low, close before), from the second bar on. The first average is the mean of
    ``period`` of them; then (average * (period - 1) + true range) / period. ``value`` is None before that.
    """

    def __init__(self, period: int) -> None:
        self.period = period
        self._bars = 0
        self._close: float | None = None
        self._close_before: float | None = None
        self._now = self._before = (0, 0.0)  # how many ranges, and their sum until there is an average

    def add(self, bars: int, high: float, low: float, close: float) -> None:
        """Take the data's present bar, its ``bars``-th; the same one again, as replayed datas have it, in its stead."""
        if bars != self._bars:
            self._bars, self._before, self._close_before = bars, self._now, self._close
        self._close = close
        if self._close_before is None:
            return
        true_range = max(high, self._close_before) - min(low, self._close_before)
        count, level = self._before
        if count >= self.period:
            self._now = (count + 1, (level * (self.period - 1) + true_range) / self.period)
        else:
            total = level + true_range
            self._now = (count + 1, total / self.period if count + 1 == self.period else total)

    @property
    def value(self) -> float | None:
        """The average as of the last bar, None while there are fewer true ranges than the period."""
        count, level = self._now
        return level if count >= self.period else None


class Thresholds:
    """The rates and distances of one broker, and which wallets and positions stand at or below them."""

    def __init__(
        self,
        warning_rate: float | None,
        call_rate: float | None,
        distance: float | None = None,
        ranges: float | None = None,
        period: int = 14,
    ) -> None:
        self.rates = [(kind, rate) for kind, rate in zip(KINDS, (warning_rate, call_rate), strict=True) if rate is not None]
        for kind, rate in self.rates:
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not (isfinite(rate) and rate > LIQUIDATION_RATE):
                raise ValueError(
                    f"the rate of a {kind.replace('_', ' ')} is equity / maintenance margin and above 1, where liquidation is, was {rate!r}"
                )
        if warning_rate is not None and call_rate is not None and warning_rate < call_rate:
            raise ValueError(f"a warning comes before a margin call: its rate of {warning_rate:g} must not be below {call_rate:g}")
        if distance is not None and not (is_number(distance) and 0 < distance < 1):
            raise ValueError(f"warning_distance is a fraction of the mark between 0 and 1 (0.05 = 5 % away), was {distance!r}")
        if ranges is not None and not (is_number(ranges) and ranges > 0):
            raise ValueError(f"warning_atr is a multiple of the average true range above 0, was {ranges!r}")
        if isinstance(period, bool) or not isinstance(period, int) or period < 1:
            raise ValueError(f"warning_atr_period is a whole number of bars from 1 on, was {period!r}")
        self.distance, self.ranges, self.period = distance, ranges, period
        self.is_set = bool(self.rates) or distance is not None or ranges is not None
        self._averages: dict[str, AverageTrueRange] = {}
        self._fallen: dict[str, int] = {}  # by wallet: how many of the rates it stands at or below
        self._near: set[tuple[str, str]] = set()  # the positions that are nearer than a distance, by contract and measure

    def follow(self, slots: Iterable["Slot"]) -> None:
        """Take the new bars of these contracts into their average true ranges, if one was asked for."""
        if self.ranges is None:
            return
        for slot in slots:
            data = slot.data
            average = self._averages.setdefault(slot.symbol, AverageTrueRange(self.period))
            average.add(len(data), data.high[0], data.low[0], data.close[0])

    def crossed(self, account: MarginAccount, wallets: Mapping[str, str], marks: Marks, time: float) -> Iterator[WarningRow]:
        """Yield a row for each threshold fallen to since the bar before; what has risen again is armed anew.

        ``wallets`` are those of the positions held, by contract.
        """
        if self.rates:
            yield from self._crossed_rates(account, dict.fromkeys(wallets.values()), marks, time)
        if self.distance is not None or self.ranges is not None:
            yield from self._crossed_distances(account, wallets, marks, time)

    def _crossed_rates(self, account: MarginAccount, wallets: Iterable[str], marks: Marks, time: float) -> Iterator[WarningRow]:
        fallen: dict[str, int] = {}
        for wallet in wallets:
            risk = account.risk(wallet, marks)
            fallen[wallet] = sum(risk.equity <= rate * risk.maintenance_margin for _, rate in self.rates)
            for kind, rate in self.rates[self._fallen.get(wallet, 0) : fallen[wallet]]:
                yield WarningRow(time, kind, wallet, risk.equity, risk.maintenance_margin, rate, "rate", rate, "", None, None, None, None)
        self._fallen = fallen

    def _crossed_distances(self, account: MarginAccount, wallets: Mapping[str, str], marks: Marks, time: float) -> Iterator[WarningRow]:
        near = set()
        for symbol, wallet in wallets.items():
            price, mark = account_liquidation_price(account, symbol, marks), marks[symbol]
            if price is None:
                continue
            apart = abs(mark - price)
            average = self._averages[symbol].value if self.ranges is not None else None
            measures = [("distance", self.distance, mark), ("atr", self.ranges, average)]
            for measure, threshold, unit in measures:
                if threshold is None or unit is None or apart > threshold * unit:
                    continue
                near.add((symbol, measure))
                if (symbol, measure) not in self._near:
                    risk = account.risk(wallet, marks)
                    money = (wallet, risk.equity, risk.maintenance_margin)
                    yield WarningRow(time, "warning", *money, None, measure, threshold, symbol, mark, price, apart / mark, average)
        self._near = near
