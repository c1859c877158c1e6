"""When funding is paid, at which rate, and what one payment is.

A schedule is a rising run of stamps (seconds, UTC), each with a rate (fraction of notional, positive: longs pay)
and, where the venue published it, the price of that instant it pays by. Stamps are instants, never bar counts.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, inf, isfinite, nan, nextafter
from typing import NamedTuple

DEBITS = ("position", "free_first", "capped")
PRICES = ("mark", "oracle")
JITTER_SECONDS = 2.0  # venues' records carry a few milliseconds; a stamp this close to a whole minute is that minute


class Settlement(NamedTuple):
    """One funding stamp; ``mark_price`` is the price that the venue paid by, NaN where it is not known."""

    stamp: float
    rate: float
    mark_price: float


@dataclass(frozen=True, slots=True)
class FundingSchedule:
    """Funding stamps of one contract with their rates and, optionally, the prices that the venue paid by.

    The steps between stamps may change inside a schedule. ``grace_seconds``: a position opened up to so long after a stamp
    pays it too (R24); none does by default. Source of a grace of 15 seconds: Binance, as freqtrade's tests have it,
    retrieved 2026-11-21.

    >>> schedule = FundingSchedule((0, 28_800, 57_600), (0.0001, -0.0002, 0.0003))
    >>> [s.rate for s in schedule.between(0, 57_600)]          # after the first instant, up to the last
    [-0.0002, 0.0003]
    """

    stamps: tuple[float, ...]
    rates: tuple[float, ...]
    marks: tuple[float, ...] = ()
    grace_seconds: float = 0.0

    def __post_init__(self) -> None:
        if len(self.stamps) != len(self.rates) or (self.marks and len(self.marks) != len(self.stamps)):
            raise ValueError(
                f"funding needs one rate (and one mark, if any are given) for each stamp, had {len(self.stamps)} stamps, "
                f"{len(self.rates)} rates, {len(self.marks)} marks"
            )
        if not 0 <= self.grace_seconds < inf:
            raise ValueError(f"the grace after a funding stamp is a number of seconds, 0 or more, was {self.grace_seconds}")
        object.__setattr__(self, "stamps", tuple(whole_stamp(stamp) for stamp in self.stamps))
        for earlier, later in pairwise(self.stamps):
            if later <= earlier:
                raise ValueError(f"funding stamps must rise, {later:.0f} follows {earlier:.0f} (seconds, UTC)")
        for stamp, rate in zip(self.stamps, self.rates, strict=True):
            if not isfinite(rate):
                raise ValueError(f"the funding rate at {stamp:.0f} (seconds, UTC) must be a finite fraction, was {rate}")
        for stamp, mark in zip(self.stamps, self.marks, strict=bool(self.marks)):
            if mark <= 0:
                raise ValueError(f"the mark price of the funding stamp at {stamp:.0f} (seconds, UTC) must be positive, was {mark}")

    @classmethod
    def constant(
        cls, rate: float, *, first: float, last: float, interval_seconds: float = 8 * 3600, grace_seconds: float = 0.0
    ) -> "FundingSchedule":
        """Return one rate for every whole interval (counted from 00:00 UTC) in ``[first, last]``."""
        if not interval_seconds > 0:
            raise ValueError(f"a funding interval is a positive number of seconds, was {interval_seconds}")
        stamps, stamp = [], ceil(first / interval_seconds) * interval_seconds
        while stamp <= last:
            stamps.append(stamp)
            stamp += interval_seconds
        return cls(tuple(stamps), (rate,) * len(stamps), grace_seconds=grace_seconds)

    def __len__(self) -> int:
        return len(self.stamps)

    def settlement(self, index: int) -> Settlement:
        """Return the settlement at a position of the schedule."""
        return Settlement(self.stamps[index], self.rates[index], self.marks[index] if self.marks else nan)

    def between(self, after: float, until: float) -> Iterator[Settlement]:
        """Yield the settlements with ``after < stamp <= until``, in order."""
        for index in range(bisect_right(self.stamps, after), bisect_right(self.stamps, until)):
            yield self.settlement(index)

    def late(self, time: float) -> Iterator[Settlement]:
        """Yield the settlements that a position opened at a time still pays: those within the grace before it, and of it (R24)."""
        if self.grace_seconds:
            yield from self.between(nextafter(time - self.grace_seconds, -inf), time)

    def paid_by(self, opened: float, closed: float) -> list[Settlement]:
        """Return the settlements that a position held from one instant to another pays.

        The stamp at which it is closed counts, the one at which it is opened only with a grace.

        >>> schedule, grace = FundingSchedule((0, 28_800), (0.0001, 0.0002)), FundingSchedule((0, 28_800), (0.0001, 0.0002), (), 15)
        >>> len(schedule.paid_by(0, 28_800)), len(grace.paid_by(0, 28_800))
        (1, 2)
        """
        return [*self.late(opened), *self.between(opened, closed)]

    def first_after(self, time: float) -> float:
        """Return the first stamp after a time, infinity where there is none."""
        index = bisect_right(self.stamps, time)
        return self.stamps[index] if index < len(self.stamps) else inf


def whole_stamp(stamp: float) -> float:
    """Return the whole minute a stamp stands for, or the stamp itself where none is near."""
    minute = round(stamp / 60.0) * 60.0
    return minute if abs(stamp - minute) <= JITTER_SECONDS else stamp


def funding_payment(*, size: float, multiplier: float, mark_price: float, rate: float, kind: str = "linear") -> float:
    """Return what the account receives at one stamp: ``-size * multiplier * mark_price * rate`` (R23).

    Of an inverse contract ``-size * multiplier / mark_price * rate``, in coin; spot pays none.

    >>> funding_payment(size=1, multiplier=1, mark_price=60_000, rate=0.0001)     # a long pays a positive rate
    -6.0
    """
    if kind == "linear":
        return -size * multiplier * mark_price * rate
    return -size * multiplier / mark_price * rate if kind == "inverse" else 0.0


def funding_sum(settlements: Sequence[Settlement], *, size: float, multiplier: float = 1.0) -> float:
    """Return what a position of constant size receives over settlements that carry their marks."""
    return sum(funding_payment(size=size, multiplier=multiplier, mark_price=s.mark_price, rate=s.rate) for s in settlements)
