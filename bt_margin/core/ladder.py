"""A ladder of orders as data, and what it makes of an account rung by rung, before the trade.

A rung lies a distance from the entry, positive in the trade's favour, negative against it, and is a share of what the entry
order asks for. The first rung is the entry itself, at distance 0. ``climb`` fills the rungs one after the other on a copy of
the account, so that tiers, fees, margin mode and resting orders count as they will in the trade.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import NamedTuple

from .account import MarginAccount, Marks, is_number
from .liquidation import account_liquidation_price

FOLLOWS = ("fills", "best")
REFUSES = (None, "beyond")
MOST_TOLD = 8  # distances in one sentence


class Rung(NamedTuple):
    """One order of a ladder: how far from the entry it lies, and which share of the entry order's size it is."""

    distance: float
    share: float


@dataclass(frozen=True, slots=True)
class StopRule:
    """Where the stop of a ladder stands: ``distance`` away, in the ladder's unit.

    ``follows`` says from what: the last of its 'fills', or the 'best' close since the entry.
    """

    distance: float
    follows: str = "fills"

    def __post_init__(self) -> None:
        if not (is_number(self.distance) and self.distance > 0):
            raise ValueError(f"the distance of a stop is a number above 0, was {self.distance!r}")
        if self.follows not in FOLLOWS:
            raise ValueError(f"a stop follows {' or '.join(map(repr, FOLLOWS))}, was {self.follows!r}")


@dataclass(frozen=True, slots=True)
class Ladder:
    """Rungs in the order in which they are reached, and what holds for all of them.

    - ``atr_period``: distances are multiples of the average true range over so many bars; None: fractions of the entry price
    - ``stop``: the stop that stands for all that is held, None for none
    - ``follows_fills``: the rungs left are put anew from where the last one filled, should that not be its own price
    - ``active``: how many rungs rest at once; None: all
    - ``refuse``: 'beyond' leaves out the rungs from the first on whose fill would put liquidation inside the next one (inside
      the stop, for a ladder that goes with the price)
    """

    rungs: tuple[Rung, ...]
    atr_period: int | None = None
    stop: StopRule | None = None
    follows_fills: bool = False
    active: int | None = None
    refuse: str | None = None

    def __post_init__(self) -> None:
        if not self.rungs or self.rungs[0].distance:
            raise ValueError("a ladder begins with the entry itself, a rung at distance 0")
        for number, rung in enumerate(self.rungs, 1):
            if not (is_number(rung.share) and rung.share > 0):
                raise ValueError(f"rung {number}: a share is a number above 0 (0.2 = a fifth of what is ordered), was {rung.share!r}")
            if not is_number(rung.distance):
                raise ValueError(f"rung {number}: a distance is a finite number, was {rung.distance!r}")
        distances = [rung.distance for rung in self.rungs]
        steps = [after - before for before, after in pairwise(distances)]
        if not (all(step > 0 for step in steps) or all(step < 0 for step in steps)):
            where = ", ".join(f"{distance:g}" for distance in distances[:MOST_TOLD]) + (" ..." if len(distances) > MOST_TOLD else "")
            raise ValueError(f"the rungs of a ladder lie one behind the other, all against the trade or all with it, were at {where}")
        if self.atr_period is None and distances[-1] <= -1:
            raise ValueError(f"a rung cannot lie {-distances[-1]:.0%} below the entry; take smaller steps or fewer rungs")
        for name, count in (("atr_period", self.atr_period), ("active", self.active)):
            if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
                raise ValueError(f"{name} is a whole number from 1 on, or None, was {count!r}")
        if self.refuse not in REFUSES:
            raise ValueError(f"refuse is 'beyond' or None, was {self.refuse!r}")
        if self.refuse and self.is_with_trend and self.stop is None:
            raise ValueError("refuse='beyond' holds rungs against the next one below, or against a stop; this ladder has neither")

    @property
    def is_with_trend(self) -> bool:
        """Whether it adds where the price moves in the trade's favour."""
        return len(self.rungs) > 1 and self.rungs[1].distance > 0

    @property
    def is_trivial(self) -> bool:
        """Whether it changes nothing: one rung, the whole order, no stop."""
        return len(self.rungs) == 1 and self.rungs[0].share == 1 and self.stop is None

    @property
    def total(self) -> float:
        """All shares together."""
        return sum(rung.share for rung in self.rungs)

    def unit(self, entry_price: float, atr: float | None) -> float:
        """Return what a distance of 1 is in money, at an entry price and an average true range."""
        if self.atr_period is None:
            return entry_price
        if atr is None or not (isfinite(atr) and atr >= 0):
            raise ValueError(f"this ladder lies in multiples of the average true range: give atr, a number of 0 or more, was {atr!r}")
        return atr

    def prices(self, side: int, entry_price: float, atr: float | None = None) -> list[float]:
        """Return the prices of the rungs, of a long (side 1) or a short (-1).

        >>> Ladder((Rung(0, 1), Rung(-0.02, 1), Rung(-0.04, 1))).prices(-1, 100.0)
        [100.0, 102.0, 104.0]
        """
        unit = self.unit(entry_price, atr)
        return [entry_price + side * rung.distance * unit for rung in self.rungs]

    def stop_price(self, side: int, fill_price: float, entry_price: float, atr: float | None = None) -> float | None:
        """Return where the stop stands once a rung has filled at a price, None without one."""
        return None if self.stop is None else fill_price - side * self.stop.distance * self.unit(entry_price, atr)


class RungRow(NamedTuple):
    """One rung filled, and the account as it is then, its mark at the rung's price.

    ``distance`` is from the entry, ``next_distance`` from this rung to the next, fractions of each price, positive in the trade's
    favour. ``size`` and ``total_size`` are signed. ``initial_margin`` is of all rungs so far, isolated what they have moved into the
    position's own wallet; ``available_margin`` is before the rungs that this fill has placed set theirs aside.
    ``liquidation_price`` is None where no positive price liquidates, ``stop_price`` without a stop. ``refused`` says why the rung
    is not placed, '' where it is; then the figures are None but for the first rung that is refused for where its liquidation
    would lie. The entry itself is the strategy's and never refused for that.
    """

    number: int
    price: float
    distance: float
    next_distance: float | None
    size: float
    stop_price: float | None
    refused: str
    total_size: float | None = None
    entry_price: float | None = None
    liquidation_price: float | None = None
    initial_margin: float | None = None
    maintenance_margin: float | None = None
    available_margin: float | None = None


def climb(
    account: MarginAccount,
    symbol: str,
    ladder: Ladder,
    *,
    side: int,
    whole: float,
    entry_price: float,
    marks: Marks,
    atr: float | None = None,
    time: float = 0.0,
    is_entered: bool = False,
) -> list[RungRow]:
    """Return a row for each rung of a ladder, worked out on a copy of the account.

    ``whole`` (> 0) is what the entry order asks for. The entry and the rungs that go with the price are filled as takers, the
    others as makers. ``is_entered``: the account holds the first rung already. ``marks`` are of the other contracts. A ladder
    ends at the first rung that is refused: for its liquidation price, for lack of margin, beyond the tiers, below the
    smallest order; those behind it are told with the reason.
    """
    return _Climb(account.clone(), symbol, ladder, side, whole, entry_price, dict(marks), atr, time).rows(is_entered=is_entered)


class _Climb:
    """A ladder on the copy of an account that it is tried on."""

    def __init__(
        self,
        account: MarginAccount,
        symbol: str,
        ladder: Ladder,
        side: int,
        whole: float,
        entry_price: float,
        marks: dict[str, float],
        atr: float | None,
        time: float,
    ) -> None:
        self.account, self.symbol, self.ladder, self.side, self.time = account, symbol, ladder, side, time
        self.marks, self.entry_price, self.atr = marks, entry_price, atr
        self.position = account.positions[symbol]
        self.prices = ladder.prices(side, entry_price, atr)
        self.sizes = [side * self.position.contract.floor_size(whole * rung.share) for rung in ladder.rungs]
        self.ended = ""  # why the ladder goes no further
        self.placed = 1

    def rows(self, *, is_entered: bool) -> list[RungRow]:
        found: list[RungRow] = []
        why_not: dict[int, str] = {}
        for index, price in enumerate(self.prices):
            number = index + 1
            if self.ended:
                found.append(self._row(number, None, f"behind {self.ended}"))
                continue
            refused = why_not.get(index) or (None if is_entered and not index else self._fill(index))
            row = self._row(number, None if refused else price, refused or "")
            beyond = "" if refused else self._why_beyond(row)
            found.append(row._replace(refused=beyond) if beyond and index else row)  # the entry is the strategy's, not refused for it
            if refused or beyond:
                self.ended = f"rung {number}, " + (f"whose {beyond}" if beyond and not index else "which is refused")
            else:
                self._place(index, why_not)
        return found

    def _row(self, number: int, at: float | None, refused: str) -> RungRow:
        index, price = number - 1, self.prices[number - 1]
        following = self.prices[index + 1] if index + 1 < len(self.prices) else None
        ahead = None if following is None else self.side * (following / price - 1) if price > 0 else None
        stop = self.ladder.stop_price(self.side, price, self.entry_price, self.atr)
        away = self.side * (price / self.entry_price - 1)
        row = RungRow(number, price, away, ahead, self.sizes[index], stop, refused)
        return row if at is None else self._with_figures(row, at)

    def _with_figures(self, row: RungRow, price: float) -> RungRow:
        account, position = self.account, self.position
        marks = {**self.marks, self.symbol: price}
        return row._replace(
            total_size=position.size,
            entry_price=position.entry_price,
            liquidation_price=account_liquidation_price(account, self.symbol, marks),
            initial_margin=position.given_margin if position.is_isolated else position.initial_margin(price),
            maintenance_margin=position.maintenance_margin(price),
            available_margin=account.available_margin(marks),
        )

    def _fill(self, index: int) -> str:
        """Fill a rung at its own price, and return why it is refused, '' where it is not."""
        contract, price, size = self.position.contract, self.prices[index], self.sizes[index]
        if price <= 0:
            return f"a price of {price:.8g} is none"
        if not contract.takes(abs(size), price, time=self.time):
            return f"a size of {abs(size):.8g} at {price:.8g} is below the smallest order"
        self.account.release(-index)
        is_taker = not index or self.ladder.is_with_trend
        rate = contract.taker if is_taker else contract.maker
        marks = {**self.marks, self.symbol: price}
        refused = self.account.execute(self.symbol, size=size, price=price, fee_rate=rate, marks=marks, time=self.time)[1]
        return "" if refused is None else refused.message

    def _why_beyond(self, row: RungRow) -> str:
        """Return where the liquidation price of a filled rung lies that should not, '' where all is well or nobody asks."""
        if self.ladder.refuse is None or row.liquidation_price is None:
            return ""
        is_last = row.number == len(self.prices)
        if self.ladder.is_with_trend or row.stop_price is not None:
            name, limit = "the stop", row.stop_price
        else:
            name, limit = f"rung {row.number + 1}", None if is_last else self.prices[row.number]
        if limit is None or self.side * (limit - row.liquidation_price) > 0:
            return ""
        return f"liquidation at {row.liquidation_price:.8g} would come before {name} at {limit:.8g}"

    def _place(self, filled: int, why_not: dict[int, str]) -> None:
        """Reserve what the rungs that rest once this one is filled need, as their orders will, up to the first that cannot."""
        account, contract, marks = self.account, self.position.contract, {**self.marks, self.symbol: self.prices[filled]}
        last = len(self.prices) if self.ladder.active is None else min(filled + 1 + self.ladder.active, len(self.prices))
        while self.placed < last and not why_not:
            index = self.placed
            price, size, now = self.prices[index], self.sizes[index], self.prices[filled]
            self.placed += 1
            if price <= 0 or not contract.takes(abs(size), price, time=self.time):
                return  # told when its turn comes
            kind, by = "stop", price
            if not self.ladder.is_with_trend:
                kind, by = "limit", self.position.orders.price_of_limit(size=size, price=price, mark_price=now, last_price=now)
            rate = contract.taker  # an order that rests reserves it (R7)
            # No order of the account has a reference below 0.
            order = account.order(
                self.symbol, size=size, price=price, fee_rate=rate, mark_price=now, margin_price=by, ref=-index, group=-index, rests_as=kind
            )
            besides = self.position.size + sum(other.size for other in account.orders_of(self.symbol) if other.size * size > 0)
            refused = account.refusal(self.symbol, size=size, price=price, fee_rate=rate, marks=marks, besides=besides, order=order)
            if refused is None:
                account.reserve(order)
            else:
                why_not[index] = refused.message


def shares_of(total: float | None, shares: Sequence[float]) -> list[float]:
    """Return shares as they are, or scaled so that together they are ``total``."""
    if total is None:
        return list(shares)
    if not (is_number(total) and total > 0):
        raise ValueError(f"total is all shares together, a number above 0, or None, was {total!r}")
    return [total * share / sum(shares) for share in shares]
