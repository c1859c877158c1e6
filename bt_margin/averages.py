"""Computes the host's moving averages a block at a time, with the host's own bits.

Before a run in which indicators are computed at once, ``vectorise`` gives those that the host computes by a loop over its
bars another ``once``: averages, sums, weighted averages, highest and lowest, and what averages and their crossings are made of:
delays, operations and logic of two lines. It replaces the host's own ``once``, on the instance; a class that has another is left
alone. Exact sums follow from integers: see ``window_sums``. By option, smoothed and weighted averages are computed within a
tolerance: see ``smoothed`` and ``weighted_near``.

Invariant: wherever the numbers could be others than the host's (values that are not finite, magnitudes too far apart, a lookback
before the first value) the host's own loop computes that block, and the reason is logged at debug level.
"""

import functools
import logging
import math
import operator
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from backtrader.functions import MultiLogic, _andlogic, _orlogic
from backtrader.indicators.basicops import Average, ExponentialSmoothing, OperationN, WeightedAverage
from backtrader.indicators.crossover import NonZeroDifference
from backtrader.linebuffer import LineBuffer, LinesOperation, _LineDelay
from backtrader.lineiterator import LineIterator
from backtrader.lineseries import LineSeries

LOG = logging.getLogger("bt_margin")
TOLERANCE = 1e-12  # relative, what the faster road of ``vectorise`` is meant for
BLOCK = 16_384  # results computed together: few enough to stay in the processor's cache
FEWEST = 64  # results below which the host's loop is as fast
HALF_ULP = 2.0**-53
FAR = 2.0**900  # magnitudes beyond it, or below its inverse, come too near to overflow and to subnormal numbers
LONGEST = 2**21  # window whose sums of 32-bit limbs a float still holds exactly
LIMB = 32
MASK = 2**LIMB - 1

Values = np.ndarray[Any, np.dtype[np.float64]]
Integers = np.ndarray[Any, np.dtype[np.int64]]


class UnfitError(Exception):
    """Why some results are left to the host; its message ends a sentence."""


class Road(NamedTuple):
    """How to compute a block: the lines it reads, how many values it needs before its first result, and what is done.

    ``compute`` takes the values of every source and at last the result before the block.
    """

    sources: tuple[Any, ...]
    reach: int
    compute: Callable[..., Values]


class Grid(NamedTuple):
    """What values are counted in, ``2**exponent``, and how many limbs of 32 bits their counts need, sign included."""

    exponent: int
    limbs: int


def vectorise(strategies: Iterable[Any], tolerance: float = 0.0) -> None:
    """Let the indicators of strategies be computed a block at a time, before the host's ``strategy._once()`` computes them.

    With ``tolerance`` 0 every number has the host's bits. Above it, exponential, smoothed and weighted averages may differ from
    the host's by that much of themselves, each for itself: what is made of several (a difference that is nearly 0) is as close
    in absolute terms only. They, too, are left to the host where their error could be larger.
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance is {tolerance}, expected 0 or more and below 1; 0 keeps the host's bits, {TOLERANCE} is fast")
    roads = EXACT | NEAR if tolerance else EXACT
    for strategy in strategies:
        for indicator in _indicators(strategy):  # the strategy itself goes bar by bar, and a loop may look whose methods it has
            own = vars(indicator)
            if type(indicator).forward in (LineSeries.forward, LineBuffer.forward) and "forward" not in own:
                indicator.forward = partial(_forward, indicator)
            host = getattr(type(indicator), "once", None)
            if host in roads and ("once" not in own or getattr(own["once"], "func", None) is _once):
                indicator.once = partial(_once, indicator, tolerance)


def share_equal_lines(strategies: Iterable[Any]) -> None:
    """Let lines that only hand on another one, once all are computed, keep one array where they have the same bits.

    The host gives an indicator a line by a copy of it without delay, and that is bound to the indicator's own: a moving average
    is kept three times. Of those that share, one at most can be written to by name, so that nobody sees it in another.
    """
    for strategy in strategies:
        nameless = _nameless(strategy)
        for copy in _indicators(strategy):
            if type(copy) is not _LineDelay or copy.ago or len(copy.bindings) > 1 or not {id(copy), id(copy.a)} <= nameless:
                continue
            source = copy.a.array
            for line in (copy, *copy.bindings):
                if type(source) is array and type(line.array) is array and line.array is not source and _has_same_bits(source, line.array):
                    line.array = source


def _nameless(strategy: Any) -> set[int]:
    """Return the ids of lines of indicators that are inside another one and that it has not kept as an attribute."""
    found: set[int] = set()
    for outer in _indicators(strategy):
        if isinstance(outer, LineIterator):
            known = set(map(id, vars(outer).values()))
            inside = [inner for inner in outer.getindicators() if id(inner) not in known]
            found.update(id(line) for inner in inside for line in (inner.lines.lines if isinstance(inner, LineSeries) else (inner,)))
    return found


def _has_same_bits(first: array, second: array) -> bool:
    return len(first) == len(second) and bool((np.frombuffer(first, np.int64) == np.frombuffer(second, np.int64)).all())


def window_sums(values: Values, period: int) -> Values:
    """Return ``math.fsum`` of every ``period`` neighbours, bit for bit; raises UnfitError where that is not certain.

    Every value is an integer times ``2**q``, where ``q`` is the exponent of the last bit of the smallest of them that is not 0.
    These integers are cut into limbs of 32 bits, two or, where the values are of very different size, three. The running sums
    of a limb, differenced over the window, are exact: that they wrap round cancels in the difference. A window's limbs
    make two integers below ``2**53``, and then

        sum = high * 2**(q + shift) + low * 2**q

    is one addition of two floats that are exact, hence the exact sum rounded once, which is what ``fsum`` returns. A sum of
    nothing but zeros is 0.0, of whatever sign they are, in both.

    >>> window_sums(np.array([0.1, 0.2, 0.3, 1e6]), 3).tolist() == [math.fsum([0.1, 0.2, 0.3]), math.fsum([0.2, 0.3, 1e6])]
    True
    """
    grid = _grid(*_extent(values), period)
    return _joined([_differences(limb, period) for limb in _limbs(values, grid)], grid)


def weighted_sums(values: Values, weights: Values) -> Values:
    """Return ``math.fsum(map(mul, window, weights))`` of every window, bit for bit; raises UnfitError where that is not certain.

    The products are rounded like the host's, one weight at a time over all windows, and summed as in ``window_sums``.
    """
    least, most = _extent(values)
    grid = _grid(least * float(weights.min()), most * float(weights.max()), len(weights))
    results = len(values) - len(weights) + 1
    totals = [np.zeros(results, np.int64) for _ in range(grid.limbs)]
    for offset, weight in enumerate(weights.tolist()):
        for total, limb in zip(totals, _limbs(values[offset : offset + results] * weight, grid), strict=True):
            np.add(total, limb, out=total)
    return _joined(totals, grid)


def weighted_near(values: Values, weights: Values, tolerance: float) -> Values:
    """Return the weighted sum of every window within a tolerance of the host's; raises UnfitError where that is not certain.

    With u = 2**-53 and p weights, a sum of p rounded products in any order is within ``p * u`` of itself of the true one, if
    all products have one sign; the host's, rounded once after its products, within ``2 * u``. The factor in front of the sum
    rounds both once more: together ``(p + 4) * u``, second orders included.
    """
    least, most = _extent(values)
    if (len(weights) + 4) * HALF_ULP > tolerance:
        raise UnfitError("its window is too long for the tolerance")
    _one_sign(values)
    _moderate(least * float(weights.min()), most * float(weights.max()))
    return np.correlate(values, weights, "valid")


def smoothed(values: Values, previous: float, alpha: float, tolerance: float) -> Values:
    """Return ``y = y_before * (1 - alpha) + value * alpha`` from ``previous`` on, within a tolerance of the host's loop.

    In pass s = 1, 2, 4, ... every result takes in those s before it, times ``(1 - alpha)**s``, so that it spans twice as many
    values; what is left out at the end weighs less than 2**-106. Raises UnfitError where the error could exceed the tolerance:

    Let u = 2**-53, all values and ``previous`` have one sign and M / m be the largest over the smallest of them. Then all results
    lie between m and M, and with r the relative error of a result and y the result, the host's loop has

        r <= r_before * (1 - alpha * value / y) + 2 * u  <=  r_before * (1 - alpha * m / M) + 2 * u

    and stays below 2 * u * M / (alpha * m). Here a value of age k has been rounded k times by the powers of 1 - alpha and twice in
    each of at most 14 passes of its block, which by the same recursion is at most u * (M / (alpha * m) + 28), plus u * M / m for
    what is left out. Of the error of the blocks before, which ``previous`` carries, a block leaves less than half (as long as the
    tolerance is small; with a large one the 28 of each block add up to nothing beside it). Together below
    ``u * M / m * (3 / alpha + 64)``, which is what must not exceed the tolerance.
    """
    extremes = np.append(values, previous)
    least, most = _extent(extremes)
    _one_sign(extremes)
    _moderate(least, most)
    if HALF_ULP * (most / least) * (3 / alpha + 64) > tolerance:
        raise UnfitError("its error could exceed the tolerance")
    factor, step = 1 - alpha, 1
    results = values * alpha
    results[0] += factor * previous
    while step < len(results) and factor > 2.0**-106:
        results[step:] += factor * results[:-step]
        factor *= factor
        step *= 2
    return results


def window_extremes(values: Values, period: int, larger: Callable[..., Values]) -> Values:
    """Return the maximum (``np.maximum``) or minimum of every ``period`` neighbours; raises UnfitError where the host's differ.

    Pass by pass each result spans twice as many values; a last one joins two spans that overlap. An extreme is one of its values,
    so nothing is rounded. Zeros of different sign are equal: which of them is told depends on the order.
    """
    _finite(values)
    if np.signbit(values[values == 0]).any():
        raise UnfitError("there is a negative zero among its values")
    results, span = values, 1
    while span < period:
        step = min(span, period - span)
        results = larger(results[step:], results[: len(results) - step])
        span += step
    return results


def _indicators(owner: Any) -> Iterator[Any]:
    # Operations on lines have no indicators of their own: whoever made them has theirs.
    for indicator in getattr(owner, "_lineiterators", {}).get(owner.IndType, ()):
        yield indicator
        yield from _indicators(indicator)


def _once(indicator: Any, tolerance: float, start: int, end: int) -> None:
    host = type(indicator).once
    if end - start < FEWEST:  # the host also computes the first result by itself
        host(indicator, start, end)
        return
    try:
        road = (EXACT | NEAR if tolerance else EXACT)[host](indicator, tolerance)
        sources, target = _opened(road, indicator.array, start, end)
    except UnfitError as unfit:
        _leave(indicator, start, end, str(unfit))
        return
    size = max(BLOCK, road.reach)
    for first in range(start, end, size):
        last = min(first + size, end)
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # what follows from it is judged, and left to the host
                blocks = [source[first - road.reach : last] for source in sources]
                target[first:last] = road.compute(*blocks, float(target[first - 1]))
        except UnfitError as unfit:
            _leave(indicator, first, last, str(unfit))


def _leave(indicator: Any, start: int, end: int, reason: str) -> None:
    LOG.debug("%s: bars %d to %d are left to the host: %s", type(indicator).__name__, start, end - 1, reason)
    type(indicator).once(indicator, start, end)


def _forward(indicator: Any, value: float = math.nan, size: int = 1) -> None:
    # The host appends to each line value by value, once, before the line is computed.
    del indicator.forward
    lines = list(indicator.lines)
    if any(type(line).forward is not LineBuffer.forward or type(line.array) is not array for line in lines):
        indicator.forward(value, size=size)
        return
    for line in lines:
        line.idx += size
        line.lencount += size
        line.array.extend(array("d", [value]) * size)


def _opened(road: Road, target: Any, start: int, end: int) -> tuple[list[Values], Values]:
    if any(type(line) is not array or line is target for line in road.sources) or type(target) is not array:
        raise UnfitError("its lines are no plain arrays")
    if start - road.reach < 0 or start < 1:
        raise UnfitError("it looks back before the first value")
    if end > min(map(len, (*road.sources, target))):
        raise UnfitError("its data ends before it")
    return [np.frombuffer(source) for source in road.sources], np.frombuffer(target)


def _period(indicator: Any) -> int:
    period = indicator.p.period
    if not isinstance(period, int | np.int64) or not 1 <= period <= LONGEST:
        raise UnfitError(f"its period is {period!r}")
    return int(period)


def _average_road(indicator: Any, _: float) -> Road:
    period = _period(indicator)
    return Road((indicator.data.array,), period - 1, lambda values, _: window_sums(values, period) / period)


def _operation_road(indicator: Any, _: float) -> Road:
    period, func, source = _period(indicator), indicator.func, indicator.data.array
    if func is math.fsum:
        return Road((source,), period - 1, lambda values, _: window_sums(values, period))
    if func is max or func is min:
        larger = np.maximum if func is max else np.minimum
        return Road((source,), period - 1, lambda values, _: window_extremes(values, period, larger))
    raise UnfitError("its function is another")


def _weighted_road(indicator: Any, tolerance: float) -> Road:
    period, weights, coef = _period(indicator), indicator.p.weights, indicator.p.coef
    if len(weights) != period or not all(type(weight) is float and 0 < weight < math.inf for weight in weights):
        raise UnfitError("its weights are not one positive float for each value")
    if type(coef) is not float or not 1 / FAR < abs(coef) < FAR:
        raise UnfitError(f"its factor is {coef!r}")
    factors = np.array(weights)

    def compute(values: Values, _: float) -> Values:
        sums = weighted_near(values, factors, tolerance) if tolerance else weighted_sums(values, factors)
        return coef * sums

    return Road((indicator.data.array,), period - 1, compute)


def _smoothing_road(indicator: Any, tolerance: float) -> Road:
    alpha = indicator.alpha
    if type(alpha) is not float or not 0 < alpha <= 1 or indicator.alpha1 != 1.0 - alpha:
        raise UnfitError(f"its smoothing factor is {alpha!r}")
    return Road((indicator.data.array,), 0, lambda values, previous: smoothed(values, previous, alpha, tolerance))


def _delay_road(line: Any, _: float) -> Road:
    return Road((line.a.array,), -line.ago, lambda values, _: values[: len(values) + line.ago])


def _lines_road(line: Any, _: float) -> Road:
    operation = OPERATIONS.get(line.operation)
    if operation is None or line.btime:
        raise UnfitError("its operation is another")
    # Of a line and a number the number stands where it was written.
    fixed = None if line.bline else line.a if line.r else line.b
    if fixed is not None and (type(fixed) not in (int, float) or not abs(fixed) <= 2**53):
        raise UnfitError(f"its operand is {fixed!r}")

    def compute(*blocks: Any) -> Values:
        first, *others = blocks[:-1]
        left, right = (first, *others) if fixed is None else (fixed, first) if line.r else (first, fixed)
        for values in blocks[:-1]:
            _finite(values)
        if operation is np.true_divide and not np.all(right):
            raise UnfitError("it divides by zero")
        return operation(left, right)

    return Road(tuple(operand.array for operand in (line.a, line.b) if operand is not fixed), 0, compute)


def _logic_road(line: Any, _: float) -> Road:
    flogic, sources = line.flogic, tuple(operand.array for operand in line.args)
    known = type(flogic) is functools.partial and flogic.func is functools.reduce and not flogic.keywords and len(sources) > 1
    if not known or flogic.args not in LOGIC:
        raise UnfitError("its function is another")
    reduce = LOGIC[flogic.args]
    return Road(sources, 0, lambda *blocks: reduce([values != 0 for values in blocks[:-1]]))


def _difference_road(indicator: Any, _: float) -> Road:
    def compute(minuend: Values, subtrahend: Values, previous: float) -> Values:
        _finite(minuend)
        _finite(subtrahend)
        differences = minuend - subtrahend
        known = np.append(previous, differences)  # what stands for a zero is the last that is none, at first the one before
        return known[np.maximum.accumulate(np.where(differences != 0, np.arange(1, len(known)), 0))]

    return Road((indicator.data0.array, indicator.data1.array), 0, compute)


# Whose loop is replaced, and by what.
EXACT: dict[Any, Callable[[Any, float], Road]] = {
    Average.once: _average_road,
    OperationN.once: _operation_road,
    WeightedAverage.once: _weighted_road,
    _LineDelay.once: _delay_road,
    LinesOperation.once: _lines_road,
    MultiLogic.once: _logic_road,
    NonZeroDifference.once: _difference_road,
}
NEAR: dict[Any, Callable[[Any, float], Road]] = {ExponentialSmoothing.once: _smoothing_road}
OPERATIONS: dict[Any, Callable[..., Any]] = {  # those that are rounded in one way only
    operator.add: np.add,
    operator.sub: np.subtract,
    operator.mul: np.multiply,
    operator.truediv: np.true_divide,
    operator.lt: np.less,
    operator.le: np.less_equal,
    operator.gt: np.greater,
    operator.ge: np.greater_equal,
    operator.eq: np.equal,
    operator.ne: np.not_equal,
}
LOGIC: dict[Any, Callable[..., Any]] = {(_andlogic,): np.logical_and.reduce, (_orlogic,): np.logical_or.reduce}


def _finite(values: Values) -> None:
    if not np.isfinite(values).all():
        raise UnfitError("there are values that are not finite")


def _extent(values: Values) -> tuple[float, float]:
    # The smallest magnitude that is not 0 and the largest; 1 and 1 of nothing but zeros, which fit every grid.
    magnitudes = np.abs(values)
    most = float(magnitudes.max())
    if not math.isfinite(most):
        raise UnfitError("there are values that are not finite")
    if most == 0:
        return 1.0, 1.0
    least = float(magnitudes.min())
    return least or float(magnitudes[magnitudes > 0].min()), most


def _one_sign(values: Values) -> None:
    if not (values.min() > 0 or values.max() < 0):
        raise UnfitError("its values are not of one sign")


def _moderate(least: float, most: float) -> None:
    if most > FAR or least < 1 / FAR:
        raise UnfitError("its values are too large or too small")


def _grid(least: float, most: float, period: int) -> Grid:
    _moderate(least, most)
    exponent = math.frexp(least)[1] - 53
    width = math.frexp(most)[1] - exponent
    if period > LONGEST or width + period.bit_length() > 3 * LIMB - 2:
        raise UnfitError("the magnitudes of its values are too far apart")
    return Grid(exponent, 2 if width <= 2 * LIMB - 1 else 3)


def _limbs(values: Values, grid: Grid) -> list[Integers]:
    # Highest first; all but the highest are positive.
    scaled = values * 2.0**-grid.exponent
    if grid.limbs == 2:
        integers = scaled.astype(np.int64)
        return [integers >> LIMB, integers & MASK]
    upper = np.floor(scaled * 2.0**-LIMB)
    integers = upper.astype(np.int64)
    return [integers >> LIMB, integers & MASK, (scaled - upper * 2.0**LIMB).astype(np.int64)]


def _differences(limb: Integers, period: int) -> Integers:
    running = np.cumsum(limb)
    running[period:] -= running[:-period].copy()
    return running[period - 1 :]


def _joined(limbs: list[Integers], grid: Grid) -> Values:
    if grid.limbs == 2:
        high, low, shift = *limbs, LIMB
    else:  # the upper two make one integer of 63 bits, of which 11 go down to the lowest: a float holds 53
        highest, middle, lowest = limbs
        upper = (highest << LIMB) + middle + (lowest >> LIMB)
        high, low, shift = upper >> 11, (upper & 2047) << LIMB | lowest & MASK, LIMB + 11
    joined: Values = high * 2.0 ** (grid.exponent + shift) + low * 2.0**grid.exponent
    return joined
