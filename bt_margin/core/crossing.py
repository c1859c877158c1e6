"""Where on a leg of a bar's path a wallet's headroom first reaches zero.

On a leg every mark is a straight line in the fraction t. Between two edges of a tier table the headroom (equity less
maintenance) of linear contracts is a straight line too; each inverse contract adds ``weight / mark(t)``, a hyperbola. One
alone rises or falls all along; of several, longs are concave and shorts convex, so that their sum may dip below zero
between two ends where it is above.
"""

from typing import NamedTuple

RESOLUTION = 1e-12  # of a leg; a dip that is closer to zero than this can show counts as a failure
STEPS = 200  # far more than a bracketed root needs


class Pole(NamedTuple):
    """``weight / (start + change * t)``; the mark below is positive at both ends of the leg."""

    weight: float
    start: float
    change: float

    def at(self, fraction: float) -> float:
        """Return its value."""
        return self.weight / (self.start + self.change * fraction)

    def slope(self, fraction: float) -> float:
        """Return its derivative, which rises or falls all along the leg."""
        mark = self.start + self.change * fraction
        return -self.weight * self.change / (mark * mark)

    def bounds(self, low: float, high: float) -> tuple[float, float]:
        """Return, for both ends of a stretch, a line below it: the tangent in the middle where it is convex, else the chord."""
        if self.weight < 0:
            return self.at(low), self.at(high)
        middle = (low + high) / 2
        value, step = self.at(middle), self.slope(middle) * (high - low) / 2
        return value - step, value + step


class Curve(NamedTuple):
    """``constant + slope * t`` and poles: the headroom of a wallet between two tier edges."""

    constant: float
    slope: float
    poles: tuple[Pole, ...] = ()

    def at(self, fraction: float) -> float:
        """Return its value."""
        return self.constant + self.slope * fraction + sum(pole.at(fraction) for pole in self.poles)

    def slopes(self, low: float, high: float) -> tuple[float, float]:
        """Return the least and the greatest derivative that a stretch may have."""
        ends = [(pole.slope(low), pole.slope(high)) for pole in self.poles]
        return self.slope + sum(map(min, ends)), self.slope + sum(map(max, ends))

    def is_above_zero(self, low: float, high: float) -> bool:
        """Return whether a line below the curve shows that it is positive all along a stretch."""
        ends = [pole.bounds(low, high) for pole in self.poles]
        at_low, at_high = (self.constant + self.slope * t + sum(end[i] for end in ends) for i, t in enumerate((low, high)))
        return at_low > 0 and at_high > 0


def first_crossing(curve: Curve, low: float, high: float) -> float | None:
    """Return the first fraction of a stretch at which a curve is zero or below, None where it is above all along.

    A stretch on which the curve rises, or lies above a line that is above zero, holds none; one on which it falls holds
    the root between its ends. Any other is halved, the left half first: so the first is found, not just any.

    >>> first_crossing(Curve(1.0, -4.0), 0.0, 1.0)
    0.25
    >>> round(first_crossing(Curve(-0.9, 0.0, (Pole(1.0, 1.0, 1.0),)), 0.0, 1.0), 9)          # 1 / (1 + t) = 0.9
    0.111111111
    """
    if curve.at(low) <= 0:
        return low
    stretches = [(low, high)]
    while stretches:
        start, end = stretches.pop()
        least, greatest = curve.slopes(start, end)
        if least >= 0:
            continue
        if greatest <= 0:
            if curve.at(end) <= 0:
                return _root(curve, start, end)
            continue
        if curve.is_above_zero(start, end):
            continue
        middle = (start + end) / 2
        if end - start < RESOLUTION:
            return start
        stretches += [(middle, end), (start, middle)]
    return None


def _root(curve: Curve, start: float, end: float) -> float:
    """Return where a falling curve that is above zero at ``start``, and not at ``end``, reaches it (regula falsi, Illinois)."""
    above, below, side = curve.at(start), curve.at(end), 0
    for _ in range(STEPS):
        if below == 0 or end - start <= RESOLUTION * 1e-3:
            break
        guess = start + (end - start) * above / (above - below)
        if not start < guess < end:  # one end is so close to zero that the guess is rounded onto it
            guess = (start + end) / 2
        value = curve.at(guess)
        if value <= 0:
            end, below = guess, value
            above = above / 2 if side < 0 else above
            side = -1
        else:
            start, above = guess, value
            below = below / 2 if side > 0 else below
            side = 1
    return end
