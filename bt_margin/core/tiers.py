"""Tiered maintenance margin: tables, and the table in force at a date.

A table is a run of tiers in rising order. The first floor is 0, every floor is the cap before it, rates never
fall and maximum leverage never rises along it. A position belongs to the tier whose cap its measure does not exceed:
upper edges are inclusive (R3). What is measured is the table's unit: the notional in quote currency, the size in base
coins, or the size in contracts. Requirements are marginal, like tax brackets, so they are continuous; or slab, the
whole position at the rate of its tier, so they jump at the edges.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import ROUND_DOWN, Decimal
from itertools import pairwise
from math import inf, isclose, isfinite
from typing import NamedTuple

GENERIC_RATE = 0.005  # R28: the flat maintenance rate where no tiers are given

MODES = ("marginal", "slab")
UNITS = ("quote", "base", "contracts")
CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Tier:
    """Terms for positions above ``floor`` up to and including ``cap`` (in the unit of its table)."""

    floor: float
    cap: float
    rate: float
    max_leverage: float


class Bracket(NamedTuple):
    """A tier as the formulas use it: ``maintenance = notional * rate - amount`` while the measure <= cap.

    ``amount`` is in the unit of the table; 0 on a slab table.
    """

    cap: float
    rate: float
    amount: float
    max_leverage: float


@dataclass(frozen=True, slots=True)
class TierStep:
    """How a table goes on after its last row: every further tier adds to cap, maintenance rate and initial rate.

    ``first_initial_rate`` is the initial rate of the row the rule starts from. Maximum leverage is 1 / initial rate
    cut to two decimals. ``last`` is the number of the last tier; None goes on while 1x is allowed.
    """

    cap: float
    rate: float
    initial_rate: float
    first_initial_rate: float
    last: int | None = None

    def __post_init__(self) -> None:
        for name in ("cap", "rate", "initial_rate", "first_initial_rate"):
            value = getattr(self, name)
            if not (isfinite(value) and value > 0):
                raise ValueError(f"a tier step's {name} is a positive number, was {value:g}")

    def tiers_after(self, tiers: Sequence[Tier]) -> tuple[Tier, ...]:
        """Return the tiers that follow, exact to the decimal: 40 x 0.5 % after 1.25 % is 21.25 %, not 0.21250000000000002.

        >>> TierStep(20_000, 0.005, 0.005, 0.025).tiers_after([Tier(0, 40_000, 0.0125, 40)])[0]
        Tier(floor=40000.0, cap=60000.0, rate=0.0175, max_leverage=33.33)
        """
        row = tiers[-1]
        if not isfinite(row.cap):
            raise ValueError(f"tier {len(tiers)} has no cap, so no step can follow it; give it one or leave the step out")
        if self.last is not None and self.last <= len(tiers):
            raise ValueError(f"the step's last tier, {self.last}, must come after the {len(tiers)} rows it follows")
        cap, rate, initial = _exact(row.cap), _exact(row.rate), _exact(self.first_initial_rate)
        stepped: list[Tier] = []
        while self.last is None or len(tiers) + len(stepped) < self.last:
            floor, cap, rate, initial = cap, cap + _exact(self.cap), rate + _exact(self.rate), initial + _exact(self.initial_rate)
            if initial > 1 and self.last is None:
                break
            leverage = (1 / initial).quantize(CENT, rounding=ROUND_DOWN)
            stepped.append(Tier(float(floor), float(cap), float(rate), float(leverage)))
        return tuple(stepped)


@dataclass(frozen=True, slots=True)
class TierTable:
    """Maintenance margin of one contract, by the size of the position.

    ``mode`` is 'marginal' or 'slab'; ``unit`` says what floors, caps and amounts count: 'quote' (the notional of a
    linear contract), 'base' (base coins, which for an inverse contract is its notional too) or 'contracts'. A measure
    is a position's size in that unit. ``amount`` is for a table of one tier alone and is taken as it stands.

    >>> table = TierTable((Tier(0, 50_000, 0.004, 125), Tier(50_000, 250_000, 0.005, 100)))
    >>> table.maintenance_margin(100_000)            # 100 000 x 0.5 % - 50
    450.0
    >>> table.maintenance_margin(50_000), table.max_leverage(50_000)  # the edge belongs to the lower tier
    (200.0, 125)
    """

    tiers: tuple[Tier, ...]
    mode: str = "marginal"
    unit: str = "quote"
    amount: float | None = None
    brackets: tuple[Bracket, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"a tier table's mode is 'marginal' or 'slab', was {self.mode!r}")
        if self.unit not in UNITS:
            raise ValueError(f"a tier table's unit is 'quote', 'base' or 'contracts', was {self.unit!r}")
        if not self.tiers:
            raise ValueError("a tier table needs at least one tier")
        if self.amount is not None:
            _check_lone(self.tiers, self.amount)
        else:
            _check_run(self.tiers)
        object.__setattr__(self, "brackets", self._brackets())

    @classmethod
    def from_rows(
        cls, rows: Iterable[Sequence[float | None]], *, mode: str = "marginal", unit: str = "quote", step: TierStep | None = None
    ) -> "TierTable":
        """Return a table from ``(cap, rate, max_leverage)`` rows in rising order, and the tiers a step adds to them.

        The last cap may be None (no cap).
        """
        tiers: list[Tier] = []
        floor = 0.0
        for number, row in enumerate(rows, 1):
            if len(row) != 3 or row[1] is None or row[2] is None:
                raise ValueError(f"tier {number} must be (cap, rate, max_leverage), was {tuple(row)!r}")
            cap = inf if row[0] is None else float(row[0])
            tiers.append(Tier(floor, cap, float(row[1]), float(row[2])))
            floor = cap
        if step is not None and tiers:
            _check_run(tiers)  # before the step follows a row that is wrong
            tiers.extend(step.tiers_after(tiers))
        return cls(tuple(tiers), mode, unit)

    @classmethod
    def flat(cls, rate: float) -> "TierTable":
        """Return a table of one endless tier; leverage is bounded only by ``1 / rate``."""
        return cls((Tier(0.0, inf, float(rate), inf if rate == 0 else 1 / rate),))

    @classmethod
    def supplied(
        cls, tiers: Sequence[Tier], amounts: Sequence[float | None] | None = None, *, mode: str = "marginal", unit: str = "quote"
    ) -> "TierTable":
        """Return the table somebody hands in with its amounts, None where one is not given.

        A single tier is the one a position is in: its rate and amount are taken as they stand, at every measure,
        without judging the rate against its maximum leverage. The amounts of several tiers must be the derived ones.

        >>> TierTable.supplied([Tier(0, inf, 0.025, 20)], [16_300]).requirement(3_500_000)     # 87 500 - 16 300
        71200.0
        """
        given: list[float | None] = [None] * len(tiers) if amounts is None else list(amounts)
        if len(given) != len(tiers):
            raise ValueError(f"{len(tiers)} tiers need as many maintenance amounts, were {len(given)}")
        if len(tiers) == 1:
            return cls(tuple(tiers), mode, unit, given[0] or 0.0)
        table = cls(tuple(tiers), mode, unit)
        table.check_amounts(given)
        return table

    def _brackets(self) -> tuple[Bracket, ...]:
        """Return the tiers with their derived amounts.

        amount_n = amount_{n-1} + floor_n * (rate_n - rate_{n-1}), which makes the requirement continuous; 0 on a
        slab table. Venues publish it as "maintenance amount", "cum" or "deduction".
        Source: Binance, "Leverage and margin of USD-M futures", retrieved 2026-11-21.
        """
        if self.amount is not None:
            return tuple(Bracket(tier.cap, tier.rate, self.amount, tier.max_leverage) for tier in self.tiers)
        amount, rate, brackets = 0.0, self.tiers[0].rate, []
        for tier in self.tiers:
            if self.mode == "marginal":
                amount += tier.floor * (tier.rate - rate)
            rate = tier.rate
            brackets.append(Bracket(tier.cap, tier.rate, amount, tier.max_leverage))
        return tuple(brackets)

    def check_amounts(self, amounts: Sequence[float | None]) -> None:
        """Raise ValueError where an amount supplied by a venue differs from the derived one; None is not judged."""
        if len(amounts) != len(self.tiers):
            raise ValueError(f"{len(self.tiers)} tiers need as many maintenance amounts, were {len(amounts)}")
        for number, (bracket, amount) in enumerate(zip(self.brackets, amounts, strict=True), 1):
            if amount is not None and not isclose(bracket.amount, amount, rel_tol=1e-9, abs_tol=1e-6):
                raise ValueError(f"tier {number}: maintenance amount {amount:.10g} disagrees with the derived {bracket.amount:.10g}")

    def tier_of(self, measure: float) -> int:
        """Return the number, from 1, of the tier that holds a measure; above the last cap the last one holds it (R3, R4)."""
        return min(bisect_left(self.brackets, measure, key=_cap), len(self.brackets) - 1) + 1

    def bracket_at(self, measure: float) -> Bracket:
        """Return the bracket that holds a measure; above the last cap the last one holds it (R4)."""
        return self.brackets[self.tier_of(measure) - 1]

    def requirement(self, notional: float, measure: float | None = None) -> float:
        """Return the maintenance margin of a notional, in the notional's currency (R2).

        notional * rate - amount * (notional / measure), in the tier that holds the measure, which is the notional
        itself unless given: a quote table of a linear contract, a base table of an inverse one.

        >>> coins = TierTable.from_rows([(10, 0.01, 50), (None, 0.02, 25)], unit="base")
        >>> coins.requirement(1_200_000, measure=20)          # 10 coins at 1 % and 10 at 2 %, each worth 60 000
        18000.0
        """
        bracket = self.bracket_at(notional if measure is None else measure)
        if measure is None or not bracket.amount:
            return notional * bracket.rate - bracket.amount
        return notional * bracket.rate - (bracket.amount * (notional / measure) if measure else 0.0)

    def maintenance_margin(self, notional: float) -> float:
        """Return ``requirement(notional)`` of a table that measures by notional (R2)."""
        return self.requirement(notional)

    def max_leverage(self, measure: float) -> float:
        """Return the highest leverage a position of this measure may have."""
        return self.bracket_at(measure).max_leverage

    def max_notional(self, leverage: float) -> float:
        """Return the largest measure that may be opened at a leverage, 0 where no tier allows it (R4)."""
        for tier in reversed(self.tiers):  # caps rise
            if tier.max_leverage >= leverage:
                return tier.cap
        return 0.0


def bracket_at(brackets: Sequence[Bracket], notional: float) -> Bracket:
    """Return the bracket that holds a notional (upper edges inclusive, R3)."""
    for bracket in brackets:
        if notional <= bracket.cap:
            return bracket
    return brackets[-1]


def maintenance_margin(brackets: Sequence[Bracket], notional: float) -> float:
    """Return the maintenance margin of a notional, by brackets that measure it: ``notional * rate - amount``."""
    for bracket in brackets:
        if notional <= bracket.cap:
            return notional * bracket.rate - bracket.amount
    last = brackets[-1]
    return notional * last.rate - last.amount


def _cap(bracket: Bracket) -> float:
    return bracket.cap


def _exact(value: float) -> Decimal:
    return Decimal(repr(float(value)))


def _check_lone(tiers: Sequence[Tier], amount: float) -> None:
    if len(tiers) != 1:
        raise ValueError(f"an amount is taken as it stands for one tier alone, were {len(tiers)} tiers; leave it out, it is derived")
    if not isfinite(amount):
        raise ValueError(f"a maintenance amount is a number, was {amount}")
    _check_bounds(1, tiers[0])


def _check_run(tiers: Sequence[Tier]) -> None:
    if tiers[0].floor != 0:
        raise ValueError(f"a tier table starts at floor 0, was {tiers[0].floor:.10g}")
    for number, tier in enumerate(tiers, 1):
        _check_tier(number, tier)
    for number, (low, high) in enumerate(pairwise(tiers), 2):
        if high.floor != low.cap:
            kind = "a gap" if high.floor > low.cap else "an overlap"
            where = f"tier {number} must start where tier {number - 1} ends, at {low.cap:.10g}"
            raise ValueError(f"{where}; its floor was {high.floor:.10g}, {kind}")
        if high.rate < low.rate:
            raise ValueError(f"maintenance rates never fall: tier {number} has {high.rate:g} after {low.rate:g}")
        if high.max_leverage > low.max_leverage:
            raise ValueError(f"maximum leverage never rises: tier {number} has {high.max_leverage:g} after {low.max_leverage:g}")


def _check_tier(number: int, tier: Tier) -> None:
    _check_bounds(number, tier)
    if tier.rate * tier.max_leverage > 1 + 1e-12:
        raise ValueError(
            f"tier {number}: maintenance rate {tier.rate:g} exceeds the initial rate 1/{tier.max_leverage:g}, "
            "a position would be liquidated as it opens"
        )


def _check_bounds(number: int, tier: Tier) -> None:
    if not (isfinite(tier.floor) and tier.floor < tier.cap):
        raise ValueError(f"tier {number} must end above its floor {tier.floor:.10g}, its cap was {tier.cap:.10g}")
    if not 0 <= tier.rate < 1:
        raise ValueError(f"tier {number}: a maintenance rate is a fraction from 0 to below 1 (0.005 = 0.5 %), was {tier.rate:g}")
    if not tier.max_leverage >= 1:
        raise ValueError(f"tier {number}: maximum leverage is 1 or more, was {tier.max_leverage:g}")


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

    def known_by(self, time: float) -> "TierSchedule":
        """Return the tables dated up to a time (seconds, UTC); the first one alone where all are dated later (R5)."""
        count = self.index_at(time) + 1
        return TierSchedule(self.dates[:count], self.tables[:count])

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
