"""A made-up perpetual market: candles, mark prices and funding of contracts that never traded, for tests and teaching.

A market is a path of ticks; bars of every length are taken from it. Of each contract: an *index* that moves by a
jump-diffusion, whose volatility, drift and jumps depend on the market's regime; the perpetual's *mid* price, a premium away
from it; *last*, which bounces between bid and ask and has wicks; the *mark*, a median of three; and *funding*, from the
premium. Contracts of one call share the regime, the volatility, the jumps and most of each move.

Scales are those of BTCUSDT, 2019 to 2026; ``docs/markets.md`` holds what comes out beside what was measured. Times inside are
hours since the first bar, prices of one contract are natural logarithms until they are prices.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from math import exp, log, sqrt
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from .core.premium import funding_rate

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Array = np.ndarray[Any, np.dtype[Any]]

YEAR = 8_766.0  # hours
FUNDING_HOURS = 8
CAP = 0.003  # of a rate: what BTCUSDT was charged on 2020-02-12 and received on 2020-03-13, and never more
HALF_SPREAD = 0.3e-4  # of mid, at which the impact margin notional fills
MARK_HOURS = 5 / 60  # over which the mark's premium is averaged
TICKS = {"1m": 5, "5m": 15, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 300, "8h": 600}  # seconds from tick to tick
UNITS = {"s": 1, "m": 60, "h": 3_600}
BLOCK = 65_536  # ticks made at once: what stays in a processor's cache
RAGGED = 1.28  # how far prices stray inside a bar, against a random walk of the same open and close
STORY_AT = 120.0  # hours: when a story begins; it needs two more days
STORY_HOURS = 168.0
BASIS_POINT = 1e-4


class Coin(NamedTuple):
    """What is a contract's own: first price, decimals of a price, volatility against BTC's, share of its variance that is the market's."""

    price: float
    decimals: int
    volatility: float
    shared: float
    turnover: float  # quote money an hour


class Regime(NamedTuple):
    """What the market does for a while: on average ``hours``; then another comes, as often as ``next`` has it."""

    volatility: float  # against the whole market's
    drift: float  # a year
    jumps: float  # an hour
    jump_mean: float
    jump_sd: float
    premium: float  # basis points, that the premium is drawn to
    hours: float
    next: tuple[tuple[str, float], ...]


class Story(NamedTuple):
    """What happens from STORY_AT on: (hour, value) pairs, straight lines between them; before and after the ends' values.

    ``moves`` are added to the log of the index (a coin of twice BTC's volatility moves twice as far), ``premium`` in basis
    points to the premium; ``volatility`` multiplies. ``wicks``: (hour, share of the price) of last alone.
    """

    regime: str
    moves: tuple[tuple[float, float], ...] = ((0.0, 0.0),)
    premium: tuple[tuple[float, float], ...] = ((0.0, 0.0),)
    volatility: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    wicks: tuple[tuple[float, float], ...] = ()


class Wave(NamedTuple):
    """A mean-reverting part of a logarithm of volatility or of a premium: its standard deviation and how long it lasts, in hours."""

    sd: float
    hours: float

    def steps(self, hours: float) -> tuple[float, float]:
        """Return what is left of it after ``hours``, and the standard deviation of what is new."""
        left = exp(-hours / self.hours)
        return left, self.sd * sqrt(1 - left * left)


COINS = {
    "BTCUSDT": Coin(30_000.0, 1, 1.0, 0.90, 4e8),
    "ETHUSDT": Coin(2_000.0, 2, 1.29, 0.80, 2e8),
    "SOLUSDT": Coin(100.0, 3, 1.75, 0.60, 6e7),
}
OTHER = Coin(10.0, 4, 1.9, 0.50, 1e7)
REGIMES = {
    "quiet": Regime(0.65, 0.0, 0.003, -0.001, 0.007, -4.7, 500.0, (("bull", 0.48), ("bear", 0.46), ("panic", 0.06))),
    "bull": Regime(1.05, 0.9, 0.007, -0.003, 0.011, 7.0, 700.0, (("quiet", 0.57), ("bear", 0.33), ("panic", 0.10))),
    "bear": Regime(1.05, -0.4, 0.010, -0.003, 0.012, -5.0, 500.0, (("quiet", 0.48), ("bull", 0.42), ("panic", 0.10))),
    "panic": Regime(1.8, -40.0, 0.10, -0.026, 0.022, -5.5, 24.0, (("bear", 0.7), ("quiet", 0.3))),
}
FIRST = "quiet"
STORIES = {
    "crash": Story(
        "quiet",
        moves=((0, 0), (2, -0.04), (4, -0.10), (5, -0.08), (8, -0.22), (9, -0.34), (9.5, -0.50), (10.5, -0.38), (14, -0.34), (40, -0.30)),
        premium=((0, 0), (8, -20), (9.5, -120), (12, -30), (40, 0)),
        volatility=((0, 1), (4, 2.5), (10, 4), (24, 2), (48, 1)),
    ),
    "wick": Story("quiet", volatility=((0, 0.5),), wicks=((6.5, -0.20), (12.5, 0.18))),
    "squeeze": Story(
        "quiet",
        moves=((-72, 0), (0, -0.06), (1, -0.02), (4, 0.14), (5, 0.10), (8, 0.36), (9, 0.30), (40, 0.26)),
        premium=((-96, 0), (-72, -14), (0, -18), (8, 60), (40, 4)),
        volatility=((-1, 1), (4, 2.5), (9, 3), (40, 1)),
    ),
    "quiet_carry": Story("quiet", premium=((-120, 15),), volatility=((-120, 0.5),)),
}
VOLATILITY = 0.40  # a year, where every part of its logarithm is zero
WAVES = (Wave(0.42, 2_000.0), Wave(0.27, 150.0), Wave(0.52, 2.0))  # of its logarithm
FEAR = 0.3  # how much of what is new in them is the fall of the bar before
SLOW, FAST = Wave(0.33, 150.0), Wave(0.8, 5.0)  # of the premium: of the logarithm of what it is above FLOOR; in basis points
FLOOR = -6.0  # basis points, above which the slow part of the premium stays
TICK_NOISE = 2.2  # basis points, of the premium from tick to tick
BOUNCE = 1.2  # basis points, of last about mid
CHASE = 0.012  # of a bar's move goes into the premium: perpetuals run ahead
PULL = 3 * YEAR  # hours in which the index loses most of its distance from its first price: long markets stay in sight
ROOM, WALL = 3.0, 24.0  # that distance, in logarithms, beyond which it loses the rest in so many hours: a panic held for ever ends
WICKS, WICK, WICK_TAIL, LONGEST_WICK = 0.06, 13e-4, 1.7, 0.2  # an hour; the smallest; the power of their tail; the longest


class Market(dict[str, "pd.DataFrame"]):
    """Candles by symbol, as ``run(data=)`` takes them, with ``mark_`` columns and ``funding_rate``.

    ``detail`` has the finer bars of the same ticks by symbol, as ``run(detail=)`` takes them, or is None; with their marks and,
    at the end of each, ``index`` and ``mid``. ``regimes`` names the regime of each bar.
    """

    def __init__(self, candles: "dict[str, pd.DataFrame]", detail: "dict[str, pd.DataFrame] | None", regimes: "pd.Series[str]") -> None:
        super().__init__(candles)
        self.detail, self.regimes = detail, regimes


def make(
    symbols: str | Sequence[str] = ("BTCUSDT",),
    bars: int = 720,
    timeframe: str = "1h",
    start: str | datetime = "2024-01-01",
    seed: int = 0,
    regime: str | None = None,
    story: str | None = None,
    detail: str | None = None,
) -> Market:
    """Return the Market of these contracts: made-up candles of last and mark price, volume and funding.

    BTCUSDT, ETHUSDT and SOLUSDT move as far as those do, any other name is a small coin at first 10 a piece. ``start`` (UTC) is a
    funding stamp, 00:00, 08:00 or 16:00. ``regime`` holds the market in one of REGIMES; None lets them follow each other.
    ``story`` is one of STORIES: a crash, wicks of last that mark does not follow, a squeeze of the shorts, or funding that pays
    shorts while nothing happens. It is told from the sixth day on, in an otherwise quiet market (or in ``regime``) of steady
    volatility and without jumps. ``detail`` is the length of finer bars of the same ticks.

    The same seed gives the same market. What a contract does depends neither on the others asked for nor on ``bars`` or
    ``detail``: more bars are the same market for longer. Another ``timeframe`` is another market. The numbers are those of
    numpy's PCG64, whose bits are the same on every machine and promised for all versions; what ``numpy.random.Generator`` makes
    of them may change with a version of numpy, and the last digit of an exponential with the processor: prices are rounded to
    the contract's decimals, rates to eight.
    """
    names = _checked_symbols(symbols)
    _check_kinds(bars, timeframe, seed, regime, story)
    grid = Grid.of(timeframe, detail)
    if story is not None and bars * grid.hours < STORY_HOURS:
        raise ValueError(
            f"story {story!r} takes {STORY_HOURS:g} hours, and {bars} bars of {timeframe} are {bars * grid.hours:g}; ask for more"
        )
    first = _checked_start(start)
    told = None if story is None else STORIES[story]
    pinned = regime or (told.regime if told else None)
    climate = _Climate(seed, grid, pinned, told)
    contracts = {name: _Contract(name, seed, grid, told, REGIMES[pinned or FIRST].premium) for name in names}
    numbers: list[Array] = []
    for block in climate.blocks(bars):
        numbers.append(block.regimes)
        for contract in contracts.values():
            contract.trade(block)
    candles = {name: _frame(contract.bars, bars, first, grid.bar_seconds) for name, contract in contracts.items()}
    finer = {name: _frame(contract.finer, bars * grid.parts, first, grid.detail_seconds) for name, contract in contracts.items()}
    return Market(candles, None if detail is None else finer, _regimes(numbers, bars, first, grid))


class Grid(NamedTuple):
    """How a market's time is cut: seconds of a tick, of a bar and, 0 without detail, of a finer bar."""

    tick_seconds: int
    bar_seconds: int
    detail_seconds: int

    @classmethod
    def of(cls, timeframe: str, detail: str | None) -> "Grid":
        """Return the grid of two lengths such as '1h' and '1m'; ValueError where finer bars are not whole ticks or do not fill a bar."""
        tick, bar = TICKS[timeframe], _seconds(timeframe)
        if detail is None:
            return cls(tick, bar, 0)
        matched = re.fullmatch(r"([1-9]\d{0,3})([smh])", detail) if isinstance(detail, str) else None
        if matched is None or not 0 < _seconds(detail) < bar or bar % _seconds(detail) or _seconds(detail) % tick:
            raise ValueError(
                f"detail of {timeframe} bars is a length that divides them and is whole ticks of {tick} s, such as "
                f"{_length(tick)!r}, was {detail!r}"
            )
        return cls(tick, bar, _seconds(detail))

    @property
    def hours(self) -> float:
        return self.bar_seconds / 3_600

    @property
    def ticks(self) -> int:
        """How many ticks make a bar."""
        return self.bar_seconds // self.tick_seconds

    @property
    def parts(self) -> int:
        """How many finer bars make a bar, 0 without detail."""
        return self.bar_seconds // self.detail_seconds if self.detail_seconds else 0

    @property
    def interval(self) -> int:
        """How many bars make a funding interval."""
        return FUNDING_HOURS * 3_600 // self.bar_seconds

    @property
    def block(self) -> int:
        """How many bars are made at once: whole funding intervals. It belongs to a timeframe alone, so that more bars change none."""
        return max(BLOCK // (self.ticks * self.interval), 1) * self.interval


class _Block(NamedTuple):
    """What the market as a whole does in some bars; one value a bar, of ``shocks`` one a tick."""

    first: int  # bar
    regimes: "Array"
    volatility: "Array"  # against a market at rest
    drift: "Array"
    jumps: "Array"
    jump_ticks: "Array"
    premium: "Array"
    shocks: "Array"
    hours_a_tick: float

    @property
    def hours(self) -> "Array":
        """The hours since the market's first bar, one for each tick."""
        import numpy as np

        bars, ticks = self.shocks.shape
        return (self.first * ticks + np.arange(1, self.shocks.size + 1)).reshape(bars, ticks) * self.hours_a_tick


class _Climate:
    """Regime, volatility and jumps of the whole market, block by block."""

    def __init__(self, seed: int, grid: Grid, pinned: str | None, story: Story | None) -> None:
        self.grid, self.pinned, self.story = grid, pinned, story
        self.rows, self.ticks = _stream(seed, 0, 0), _stream(seed, 0, 1)
        beginning = _stream(seed, 0, 2)
        self.waves = [wave.sd * beginning.standard_normal() for wave in WAVES]
        self.regime = list(REGIMES).index(pinned or FIRST)
        self.changes, self.chances = _stream(seed, 0, 3), _stream(seed, 0, 4)
        self.fall = 0.0  # of the bar before, in its standard deviations

    def blocks(self, bars: int) -> Iterator[_Block]:
        """Yield blocks until ``bars`` are covered."""
        import numpy as np

        count, hours = self.grid.block, self.grid.hours
        terms = np.array([regime[:6] for regime in REGIMES.values()])
        for first in range(0, bars, count):
            regimes = self._regimes(count)
            volatility, drift, rate, mean, sd, premium = terms[regimes].T
            normals, chances = self.rows.standard_normal((count, len(WAVES) + 1)), self.chances.random((count, 2))
            shocks = self.ticks.standard_normal((count, self.grid.ticks))
            waves = self._waves(self._feared(normals[:, : len(WAVES)], shocks))
            jumps = np.where(chances[:, 0] < rate * hours, mean + sd * normals[:, -1], 0.0)
            if self.story is None:
                volatility = volatility * np.exp(waves)
            else:
                volatility, jumps = volatility * _told(self.story.volatility, (first + np.arange(count)) * hours), 0 * jumps
            at = (chances[:, 1] * self.grid.ticks).astype("int64")
            yield _Block(first, regimes, volatility, drift * hours / YEAR, jumps, at, premium, shocks, self.grid.tick_seconds / 3_600)

    def _feared(self, normals: "Array", shocks: "Array") -> "Array":
        """Return normals that are partly the falls of the bar before: what falls moves more afterwards."""
        import numpy as np

        falls = -shocks.sum(axis=1) / sqrt(self.grid.ticks)
        before = np.concatenate(([self.fall], falls[:-1]))
        self.fall = float(falls[-1])
        return sqrt(1 - FEAR * FEAR) * normals + FEAR * before[:, None]

    def _waves(self, normals: "Array") -> "Array":
        """Return the logarithm of volatility that mean reversion makes of normals, one column for each of WAVES."""
        import numpy as np

        total = np.zeros(len(normals))
        for number, wave in enumerate(WAVES):
            left, sd = wave.steps(self.grid.hours)
            value, path = self.waves[number], []
            for new in (normals[:, number] * sd).tolist():
                value = left * value + new
                path.append(value)
            self.waves[number] = value
            total += path
        return total

    def _regimes(self, count: int) -> "Array":
        """Return the number of each bar's regime."""
        import numpy as np

        chances = self.changes.random((count, 2))
        regimes = np.empty(count, "int64")
        if self.pinned is not None:
            regimes[:] = self.regime
            return regimes
        names, since = list(REGIMES), 0
        soonest = min(regime.hours for regime in REGIMES.values())
        for bar in np.flatnonzero(chances[:, 0] < self.grid.hours / soonest).tolist():
            regime = REGIMES[names[self.regime]]
            if chances[bar, 0] < self.grid.hours / regime.hours:
                regimes[since:bar] = self.regime
                shares = np.cumsum([share for _, share in regime.next])
                chosen = regime.next[min(int(np.searchsorted(shares, chances[bar, 1], "right")), len(shares) - 1)][0]
                self.regime, since = names.index(chosen), bar
        regimes[since:] = self.regime
        return regimes


class _Contract:
    """One contract of a market: what it was last, and the bars it has made."""

    def __init__(self, name: str, seed: int, grid: Grid, story: Story | None, premium: float) -> None:
        key = crc32(name.encode())
        self.coin, self.grid, self.story = COINS.get(name, OTHER), grid, story
        streams = (_stream(seed, key, number) for number in range(1, 7))
        self.shocks, self.noise, self.bounces, self.rows, self.chances, self.lots = streams
        self.level = 0.0  # of the index, in logarithms above the first price
        self.slow = log(premium - FLOOR)  # of what the slow part of the premium is above FLOOR, in logarithms
        self.fast = 0.0  # the other part, in basis points
        self.premium = premium  # at the last tick, but for its noise; in basis points
        self.rate = funding_rate(premium=0.0)
        self.last = self.mark = self.coin.price
        self.basis: Array | None = None  # the latest, as many as the mark's average goes back
        self.bars: dict[str, list[Array]] = {}
        self.finer: dict[str, list[Array]] = {}

    def trade(self, block: _Block) -> None:
        """Make the bars of one block."""
        import numpy as np

        index, moves = self._index(block)
        mid = index * (1 + self._premiums(block, moves))
        last = np.round(self._last(block, mid), self.coin.decimals).ravel()
        rates, settled = self._settle(index, mid)
        mark = np.round(self._mark(index, mid, last.reshape(mid.shape), settled), self.coin.decimals + 1).ravel()
        ticks = self.grid.ticks
        bars = {**_bars(self.last, last, ticks), **_bars(self.mark, mark, ticks, "mark_")}
        bars["volume"] = self._volume(block, bars)
        bars["funding_rate"] = np.full(len(moves), np.nan)
        bars["funding_rate"][:: self.grid.interval] = settled if block.first else [np.nan, *settled[1:]]
        _append(self.bars, bars)
        if self.grid.parts:
            per = ticks // self.grid.parts
            ends = {"index": index.ravel()[per - 1 :: per], "mid": mid.ravel()[per - 1 :: per]}
            _append(self.finer, {**_bars(self.last, last, per), **_bars(self.mark, mark, per, "mark_"), **ends})
        self.last, self.mark, self.rate = float(last[-1]), float(mark[-1]), float(rates[-1])

    def _index(self, block: _Block) -> "tuple[Array, Array]":
        """Return the index tick by tick, and the logarithm of its move in each bar, the story's aside."""
        import numpy as np

        coin, ticks = self.coin, self.grid.ticks
        path = np.sqrt(coin.shared) * block.shocks
        path += np.sqrt(1 - coin.shared) * self.shocks.standard_normal(path.shape)
        np.cumsum(path, axis=1, out=path)
        shares = np.arange(1, ticks + 1) / ticks
        scale = VOLATILITY * coin.volatility * block.volatility * sqrt(self.grid.hours / YEAR / ticks)
        ends = path[:, -1] * scale
        path *= (RAGGED * scale)[:, None]
        path += (ends * (1 - RAGGED) + block.drift)[:, None] * shares
        for bar in np.flatnonzero(block.jumps).tolist():
            path[bar, block.jump_ticks[bar] :] += block.jumps[bar] * coin.volatility
        levels = self._levels(path[:, -1].tolist())
        moves = np.diff(levels)
        path += (moves - path[:, -1])[:, None] * shares
        path += levels[:-1, None]
        if self.story is not None:
            path += coin.volatility * _told(self.story.moves, block.hours)
        return coin.price * np.exp(path, out=path), moves

    def _levels(self, moves: list[float]) -> "Array":
        """Return where the index stands before the first move and after each, held back the more, the farther away it has gone."""
        import numpy as np

        level, pull, wall, levels = self.level, self.grid.hours / PULL, self.grid.hours / WALL, [self.level]
        for move in moves:
            beyond = level - ROOM if level > ROOM else level + ROOM if level < -ROOM else 0.0
            level += move - pull * level - wall * beyond
            levels.append(level)
        self.level = level
        return np.array(levels)

    def _premiums(self, block: _Block, moves: "Array") -> "Array":
        """Return the premium of mid over the index tick by tick, as a fraction."""
        import numpy as np

        (slow_left, slow_sd), (fast_left, fast_sd) = SLOW.steps(self.grid.hours), FAST.steps(self.grid.hours)
        normals = self.rows.standard_normal((len(moves), 2))
        slow_new = (np.log(block.premium - FLOOR) * (1 - slow_left) + normals[:, 0] * slow_sd).tolist()
        fast_new = (moves * (CHASE / BASIS_POINT) + normals[:, 1] * fast_sd * block.volatility).tolist()
        slow, fast, ends = self.slow, self.fast, [self.premium]
        for one, other in zip(slow_new, fast_new, strict=True):
            slow, fast = slow_left * slow + one, fast_left * fast + other
            ends.append(FLOOR + exp(slow) + fast)
        self.slow, self.fast, self.premium = slow, fast, ends[-1]
        corners = np.array(ends)
        shares = np.arange(1, self.grid.ticks + 1) / self.grid.ticks
        premium = (
            self.noise.standard_normal(block.shocks.shape, "float32") * (TICK_NOISE * self.coin.volatility * block.volatility)[:, None]
        )
        premium += corners[:-1, None] + np.diff(corners)[:, None] * shares
        if self.story is not None:
            premium += _told(self.story.premium, block.hours)
        premium *= BASIS_POINT
        return premium

    def _last(self, block: _Block, mid: "Array") -> "Array":
        """Return the last price tick by tick: mid, the bounce between bid and ask, and the wicks."""
        import numpy as np

        last: Array = np.asarray(self.bounces.standard_normal(mid.shape, "float32"), "float64")
        last *= (BOUNCE * BASIS_POINT * self.coin.volatility * block.volatility)[:, None]
        last += 1
        last *= mid
        chances = self.chances.random((len(mid), 4))
        for bar in np.flatnonzero(chances[:, 0] < WICKS * self.grid.hours).tolist():
            size = WICK * block.volatility[bar] * self.coin.volatility * (1 - chances[bar, 1]) ** (-1 / WICK_TAIL)
            side = 1 if chances[bar, 2] < 0.5 else -1
            last[bar, int(chances[bar, 3] * self.grid.ticks)] *= 1 + side * min(size, LONGEST_WICK)
        for hour, share in self.story.wicks if self.story else ():
            told, part = divmod((STORY_AT + hour) / self.grid.hours - block.first, 1)
            if 0 <= told < len(mid):
                last[int(told), int(part * self.grid.ticks)] *= 1 + share
        return last

    def _settle(self, index: "Array", mid: "Array") -> "tuple[Array, Array]":
        """Return the rate that each funding interval makes, and the rate settled where each one begins."""
        import numpy as np

        premium = np.maximum(mid * (1 - HALF_SPREAD) - index, 0)
        premium -= np.maximum(index - mid * (1 + HALF_SPREAD), 0)
        premium /= index
        samples = premium.reshape(-1, self.grid.ticks * self.grid.interval)
        weights = np.arange(1, samples.shape[1] + 1)
        rates = np.array([round(funding_rate(premium=mean, cap=CAP), 8) for mean in (samples @ weights / weights.sum()).tolist()])
        return rates, np.concatenate(([self.rate], rates[:-1]))

    def _mark(self, index: "Array", mid: "Array", last: "Array", settled: "Array") -> "Array":
        """Return the mark price tick by tick: the median of index and funding to come, index and average basis, and last."""
        import numpy as np

        ticks = self.grid.ticks * self.grid.interval
        to_come = settled[:, None] * (1 - np.arange(1, ticks + 1) / ticks)
        first = index.reshape(to_come.shape) * (1 + to_come)
        basis = (mid - index).ravel()
        back = max(round(MARK_HOURS * 3_600 / self.grid.tick_seconds), 1)
        before = np.full(back - 1, basis[0]) if self.basis is None else self.basis
        known = np.concatenate((before, basis))
        self.basis = known[len(basis) :]
        average = np.zeros(len(basis))
        for number in range(back):
            average += known[number : number + len(basis)]
        second = index + average.reshape(index.shape) / back
        first = first.reshape(index.shape)
        return np.maximum(np.minimum(first, second), np.minimum(np.maximum(first, second), last))

    def _volume(self, block: _Block, bars: "dict[str, Array]") -> "Array":
        """Return coins traded: more where volatility is high and where the bar is long for it."""
        import numpy as np

        usual = VOLATILITY * self.coin.volatility * np.sqrt(self.grid.hours / YEAR) * block.volatility
        length = (bars["high"] - bars["low"]) / bars["close"] / usual
        money = (
            self.coin.turnover
            * self.grid.hours
            * block.volatility
            * (0.3 + 0.45 * length)
            * np.exp(0.35 * self.lots.standard_normal(len(length)))
        )
        return np.round(money / bars["close"], 3)


def _bars(before: float, ticks: "Array", per: int, prefix: str = "") -> "dict[str, Array]":
    """Return open, high, low and close of every ``per`` ticks; each opens where the one before closed."""
    import numpy as np

    rows = ticks.reshape(-1, per)
    close = rows[:, -1]
    opened = np.concatenate(([before], close[:-1]))
    prices = (opened, np.maximum(rows.max(axis=1), opened), np.minimum(rows.min(axis=1), opened), close)
    return dict(zip([prefix + name for name in ("open", "high", "low", "close")], prices, strict=True))


def _append(columns: "dict[str, list[Array]]", rows: "dict[str, Array]") -> None:
    for name, values in rows.items():
        columns.setdefault(name, []).append(values)


def _told(corners: Sequence[tuple[float, float]], hours: "Array") -> "Array":
    """Return what a story says at some hours since the market's first bar."""
    import numpy as np

    return np.interp(hours - STORY_AT, [hour for hour, _ in corners], [value for _, value in corners])


def _stream(seed: int, *key: int) -> "np.random.Generator":
    """Return the random numbers of one purpose, which no other purpose takes from."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def _times(count: int, first: datetime, seconds: int) -> "pd.DatetimeIndex":
    import numpy as np
    import pandas as pd

    stamps = np.datetime64(first.replace(tzinfo=None), "us") + np.arange(count) * np.timedelta64(seconds, "s")
    return pd.DatetimeIndex(stamps, name="datetime").tz_localize("UTC")


def _frame(columns: "dict[str, list[Array]]", rows: int, first: datetime, seconds: int) -> "pd.DataFrame":
    import numpy as np
    import pandas as pd

    values = {name: np.concatenate(parts)[:rows] for name, parts in columns.items()}
    order = ("open", "high", "low", "close", "volume")
    return pd.DataFrame({name: values[name] for name in sorted(values, key=lambda name: name not in order)}, _times(rows, first, seconds))


def _regimes(numbers: "list[Array]", bars: int, first: datetime, grid: Grid) -> "pd.Series[str]":
    import numpy as np
    import pandas as pd

    names = np.array(list(REGIMES), dtype=object)
    return pd.Series(names[np.concatenate(numbers)[:bars]], _times(bars, first, grid.bar_seconds), name="regime")


def _seconds(length: str) -> int:
    return int(length[:-1]) * UNITS[length[-1]]


def _length(seconds: int) -> str:
    return f"{seconds}s" if seconds % 60 else f"{seconds // 60}m"


def _checked_symbols(symbols: Any) -> list[str]:
    names = [symbols] if isinstance(symbols, str) else list(symbols) if isinstance(symbols, Iterable) else []
    if not names or not all(isinstance(name, str) and name for name in names) or len(set(names)) != len(names):
        raise ValueError(f"symbols are names such as 'BTCUSDT', each once, was {symbols!r}")
    return names


def _checked_start(start: Any) -> datetime:
    try:
        first = datetime.fromisoformat(start) if isinstance(start, str) else start
    except ValueError:
        first = None
    if not isinstance(first, datetime):
        raise ValueError(f"start is a time such as '2024-01-01' or a datetime, UTC, was {start!r}")
    first = first.replace(tzinfo=UTC) if first.tzinfo is None else first.astimezone(UTC)
    if (first - datetime(1970, 1, 1, tzinfo=UTC)) % timedelta(hours=FUNDING_HOURS):
        raise ValueError(f"start is 00:00, 08:00 or 16:00 UTC, when funding is settled, was {start!r}")
    return first


def _check_kinds(bars: Any, timeframe: Any, seed: Any, regime: Any, story: Any) -> None:
    if isinstance(bars, bool) or not isinstance(bars, Integral) or bars < 1:
        raise ValueError(f"bars is a whole number of bars, at least 1, was {bars!r}")
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise ValueError(f"seed is a whole number, at least 0, was {seed!r}")
    for name, value, known in (("timeframe", timeframe, TICKS), ("regime", regime, REGIMES), ("story", story, STORIES)):
        if (value is not None or known is TICKS) and value not in known:
            raise ValueError(f"{name} is one of {', '.join(known)}, was {value!r}")
