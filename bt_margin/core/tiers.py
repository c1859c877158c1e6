"""Tiered maintenance margin: tables, and the table in force at a date.

A table is a run of tiers in rising order. The first floor is 0, every floor is the cap before it, rates never
fall and maximum leverage never rises along it. A notional belongs to the tier whose cap it does not exceed: upper
edges are inclusive (R3). Requirements are marginal, like tax brackets, so they are continuous in the notional.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import pairwise
from math import inf, isclose, isfinite
from typing import NamedTuple

GENERIC_RATE = 0.005  # R28: the flat maintenance rate where no tiers are given


@dataclass(frozen=True, slots=True)
class Tier:
    """Terms for notionals above ``floor`` up to and including ``cap`` (settlement currency)."""

    floor: float
    cap: float
    rate: float
    max_leverage: float


class Bracket(NamedTuple):
    """A tier as the formulas use it: ``maintenance = notional * rate - amount`` while notional <= cap."""

    cap: float
    rate: float
    amount: float
    max_leverage: float


@dataclass(frozen=True, slots=True)
class TierTable:
    """Marginal maintenance margin of one contract.

    >>> table = TierTable((Tier(0, 50_000, 0.004, 125), Tier(50_000, 250_000, 0.005, 100)))
    >>> table.maintenance_margin(100_000)            # 100 000 x 0.5 % - 50
    450.0
    >>> table.maintenance_margin(50_000), table.max_leverage(50_000)  # the edge belongs to the lower tier
    (200.0, 125)
    """

    tiers: tuple[Tier, ...]

    def __post_init__(self) -> None:
        if not self.tiers:
            raise ValueError("a tier table needs at least one tier")
        if self.tiers[0].floor != 0:
            raise ValueError(f"a tier table starts at floor 0, was {self.tiers[0].floor:g}")
        for number, tier in enumerate(self.tiers, 1):
            _check_tier(number, tier)
        for number, (low, high) in enumerate(pairwise(self.tiers), 2):
            if high.floor != low.cap:
                raise ValueError(f"tier {number} must start where tier {number - 1} ends, at {low.cap:g}; its floor was {high.floor:g}")
            if high.rate < low.rate:
                raise ValueError(f"maintenance rates never fall: tier {number} has {high.rate:g} after {low.rate:g}")
            if high.max_leverage > low.max_leverage:
                raise ValueError(f"maximum leverage never rises: tier {number} has {high.max_leverage:g} after {low.max_leverage:g}")

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[float | None]]) -> "TierTable":
        """Return a table from ``(cap, rate, max_leverage)`` rows in rising order; the last cap may be None (no cap)."""
        tiers: list[Tier] = []
        floor = 0.0
        for number, row in enumerate(rows, 1):
            if len(row) != 3 or row[1] is None or row[2] is None:
                raise ValueError(f"tier {number} must be (cap, rate, max_leverage), was {tuple(row)!r}")
            cap = inf if row[0] is None else float(row[0])
            tiers.append(Tier(floor, cap, float(row[1]), float(row[2])))
            floor = cap
        return cls(tuple(tiers))

    @classmethod
    def flat(cls, rate: float) -> "TierTable":
        """Return a table of one endless tier; leverage is bounded only by ``1 / rate``."""
        return cls((Tier(0.0, inf, float(rate), inf if rate == 0 else 1 / rate),))

    @property
    def brackets(self) -> tuple[Bracket, ...]:
        """The tiers with their derived amounts.

        amount_n = amount_{n-1} + floor_n * (rate_n - rate_{n-1}), which makes the requirement continuous. Venues
        publish it as "maintenance amount", "cum" or "deduction".
        Source: Binance, "Leverage and margin of USD-M futures", retrieved 2026-11-21.
        """
        amount, rate, brackets = 0.0, self.tiers[0].rate, []
        for tier in self.tiers:
            amount += tier.floor * (tier.rate - rate)
            rate = tier.rate
            brackets.append(Bracket(tier.cap, tier.rate, amount, tier.max_leverage))
        return tuple(brackets)

    def check_amounts(self, amounts: Sequence[float]) -> None:
        """Raise ValueError where an amount supplied by a venue differs from the derived one."""
        if len(amounts) != len(self.tiers):
            raise ValueError(f"{len(self.tiers)} tiers need as many maintenance amounts, were {len(amounts)}")
        for number, (bracket, amount) in enumerate(zip(self.brackets, amounts, strict=True), 1):
            if not isclose(bracket.amount, amount, rel_tol=1e-9, abs_tol=1e-6):
                raise ValueError(f"tier {number}: maintenance amount {amount:g} disagrees with the derived {bracket.amount:g}")

    def bracket_at(self, notional: float) -> Bracket:
        """Return the bracket that holds a notional; above the last cap the last one holds it (R4)."""
        return bracket_at(self.brackets, notional)

    def maintenance_margin(self, notional: float) -> float:
        """Return ``notional * rate - amount`` in the tier that holds the notional (R2)."""
        return maintenance_margin(self.brackets, notional)

    def max_leverage(self, notional: float) -> float:
        """Return the highest leverage a position of this notional may have."""
        return self.bracket_at(notional).max_leverage

    def max_notional(self, leverage: float) -> float:
        """Return the largest notional that may be opened at a leverage, 0 where no tier allows it (R4)."""
        return max((tier.cap for tier in self.tiers if tier.max_leverage >= leverage), default=0.0)


def bracket_at(brackets: Sequence[Bracket], notional: float) -> Bracket:
    """Return the bracket that holds a notional (upper edges inclusive, R3)."""
    for bracket in brackets:
        if notional <= bracket.cap:
            return bracket
    return brackets[-1]


def maintenance_margin(brackets: Sequence[Bracket], notional: float) -> float:
    """Return the maintenance margin of a notional: ``notional * rate - amount``."""
    for bracket in brackets:
        if notional <= bracket.cap:
            return notional * bracket.rate - bracket.amount
    last = brackets[-1]
    return notional * last.rate - last.amount


def _check_tier(number: int, tier: Tier) -> None:
    if not (isfinite(tier.floor) and tier.floor < tier.cap):
        raise ValueError(f"tier {number} must end above its floor {tier.floor:g}, its cap was {tier.cap:g}")
    if not 0 <= tier.rate < 1:
        raise ValueError(f"tier {number}: a maintenance rate is a fraction from 0 to below 1 (0.005 = 0.5 %), was {tier.rate:g}")
    if not tier.max_leverage >= 1:
        raise ValueError(f"tier {number}: maximum leverage is 1 or more, was {tier.max_leverage:g}")
    if tier.rate * tier.max_leverage > 1 + 1e-12:
        raise ValueError(
            f"tier {number}: maintenance rate {tier.rate:g} exceeds the initial rate 1/{tier.max_leverage:g}, "
            "a position would be liquidated as it opens"
        )


@dataclass(frozen=True, slots=True)
class TierSchedule:
    """Dated tables of one contract: ``dates`` rise (seconds, UTC), ``tables[i]`` is in force from ``dates[i]``.

    Before the first date the first table applies; between dates the last one seen (R5).
    """

    dates: tuple[float, ...]
    tables: tuple[TierTable, ...]

    def __post_init__(self) -> None:
        if not self.tables or len(self.dates) != len(self.tables):
            raise ValueError(f"a tier schedule needs one date for each table, had {len(self.dates)} dates and {len(self.tables)} tables")
        if any(later <= earlier for earlier, later in pairwise(self.dates)):
            raise ValueError("the dates of a tier schedule must rise")

    @classmethod
    def constant(cls, table: TierTable) -> "TierSchedule":
        """Return a schedule of one table that is always in force."""
        return cls((-inf,), (table,))

    @classmethod
    def from_days(cls, tables: Iterable[tuple[date, TierTable]]) -> "TierSchedule":
        """Return a schedule from (UTC day, table) pairs in rising order."""
        pairs = list(tables)
        stamps = tuple(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() for day, _ in pairs)
        return cls(stamps, tuple(table for _, table in pairs))

    def index_at(self, time: float) -> int:
        """Return the index of the table in force at a time."""
        index = 0
        for position, start in enumerate(self.dates):
            if start <= time:
                index = position
        return index

    def at(self, time: float) -> TierTable:
        """Return the table in force at a time (seconds, UTC)."""
        return self.tables[self.index_at(time)]
