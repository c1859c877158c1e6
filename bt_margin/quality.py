"""What is wrong, odd or worth knowing about market data before a backtest believes it, and the repairs that need no judgement.

A ``Finding`` is an *error* where a backtest would be refused or wrong, a *warning* where something is missing or was done to
the data, a *note* where the market itself was so. ``joining`` refuses what is an error here.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from .frames import DAY, HOUR, MINUTE, PRICES, SECOND, left_of, listed, minute_text, span_text
from .resampling import coarse
from .shapes import MARKS_OF, Reading, read_all

SEVERITIES = ("note", "warning", "error")
JITTER = 2 * SECOND  # as FundingSchedule has it: a stamp this close to a whole minute is that minute
HIGHEST_RATE = 0.04  # of funding at one stamp: Hyperliquid's cap, the highest of those sourced
USUAL_RATE = 0.005  # median above which rates look like percent: the usual 0.01 % is 0.01 there
DISTANCE = 0.05  # of mark from last, beyond which a bar is named
BEYOND = 0.005  # how far a mark must reach past last's extreme for its bar to be named
NEAR_SHARE = 0.9  # of stamps at whole minutes, from which on those beside them are jitter
FLAT_BARS = 3  # so many bars without volume, or with one unmoved mark, are told of
FILLED_BLOCKS = 3  # so many eight-hour blocks of one rate on every bar are no chance
NAME_WORDS = {*MARKS_OF, "futures", "last", "klines", "kline", "candles", "perp", "csv", "parquet", "feather", "json", "zip", "gz"}
ONE_OF_MANY = re.compile(r"(?<![\d.,:-])(1 (?:row|bar|stamp|settlement|rate|mark|place|run))s\b")
SHOWN = 5  # places that a sentence names


@dataclass(frozen=True)
class Finding:
    """One thing found: ``check`` is its word, ``count`` how often, ``times`` the instants in microseconds, UTC."""

    check: str
    severity: str
    message: str
    count: int = 1
    times: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", ONE_OF_MANY.sub(r"\1", self.message))


class Change(NamedTuple):
    """One change of a repair: what was done to which row of the file, from and to which instant (microseconds; None: dropped)."""

    row: int
    what: str
    before: int
    after: int | None


# -- stamps ----------------------------------------------------------------------------------------------------------


def bar_of(micros: Any) -> int:
    """Return the usual step between stamps in microseconds, 0 where there are fewer than two; of steps equally usual the shortest."""
    import numpy as np

    steps = np.diff(_unique(without_jitter(micros)))
    if len(steps) and steps.min() == steps.max():  # of millions of rows the rest would be the most memory that reading takes
        return int(steps[0])
    lengths, counts = np.unique(steps, return_counts=True)
    return int(lengths[counts.argmax()]) if len(steps) else 0


def without_jitter(micros: Any, *, is_funding: bool = False) -> Any:
    """Return stamps within two seconds of a whole minute as that minute, where nine in ten are so near; others as they are.

    Stamps of bars shorter than a minute may be meant, and so may those of candles that all lie in the last second of a minute.
    """
    import numpy as np

    if not (micros % MINUTE).any():
        return micros
    whole = (micros + MINUTE // 2) // MINUTE * MINUTE
    near = abs(micros - whole) <= JITTER
    if near.mean() < NEAR_SHARE or (not is_funding and _is_at_end(micros)):
        return micros
    return np.where(near, whole, micros)


def stamps_of(reading: Reading) -> Any:
    """Return the stamps of a series without jitter."""
    return without_jitter(reading.micros, is_funding=reading.kind == "funding")


def _is_at_end(micros: Any) -> bool:
    """Return whether stamps lie in the last second of a minute but not at its end, as closing times of candles do."""
    left = -micros % MINUTE
    return bool(((left > 0) & (left <= SECOND)).all())


def check(reading: Reading, *, distance: float = DISTANCE) -> list[Finding]:
    """Return what is found in one series by itself, errors first."""
    micros = stamps_of(reading)
    found = [*_summer_time(reading, micros), *_repeated(reading), *_disordered(reading)]
    if (micros != reading.micros).any():
        severity = "note" if reading.kind == "funding" else "warning"
        far = int(abs(micros - reading.micros).max()) // 1_000
        found.append(_named("jitter", severity, "stamps up to {} ms off the whole minute", micros != reading.micros, reading.micros, far))
    if reading.kind == "funding":
        found += _of_funding(reading, reading.columns["rate"], micros)
    elif reading.kind != "premium":
        found += _of_candles(reading, micros)
    if reading.kind == "joint":
        found += _of_joint(reading, micros, distance)
    return sorted(found, key=lambda finding: -SEVERITIES.index(finding.severity))


def _named(name: str, severity: str, told: str, bad: Any, micros: Any, *numbers: Any) -> Finding:
    """Return a finding about the stamps where ``bad`` holds, of which its sentence names the first."""
    times = tuple(micros[bad].tolist())
    shown = ", ".join(minute_text(time) for time in times[:SHOWN])
    rest = f" and {len(times) - SHOWN} more" if len(times) > SHOWN else ""
    return Finding(name, severity, f"{len(times)} {told.format(*numbers)}: {shown}{rest}", len(times), times)


def _repeated(reading: Reading) -> list[Finding]:
    same, other = repeats(reading)
    found = []
    if same.any():
        found.append(_named("duplicate", "warning", "rows repeating another to the last digit", same, reading.micros))
    if other.any():
        found.append(_named("conflict", "error", "rows with the stamp of another and other numbers", other, reading.micros))
    return found


def repeats(reading: Reading) -> tuple[Any, Any]:
    """Return which rows repeat an earlier row whole, and which have an earlier row's stamp with other numbers."""
    import numpy as np

    micros = stamps_of(reading)
    if (micros[1:] > micros[:-1]).all():
        return np.zeros(len(micros), dtype=bool), np.zeros(len(micros), dtype=bool)
    order = np.argsort(micros, kind="stable")
    ordered = micros[order]
    twice = np.concatenate(([False], ordered[1:] == ordered[:-1]))
    same, other = np.zeros(len(micros), dtype=bool), np.zeros(len(micros), dtype=bool)
    if not twice.any():
        return same, other
    firsts = np.maximum.accumulate(np.where(twice, 0, np.arange(len(order))))
    places = np.flatnonzero(twice)
    rows, of = order[places], order[firsts[places]]
    equal = np.ones(len(rows), dtype=bool)
    for values in reading.columns.values():
        left, right = values[rows], values[of]
        equal &= (left == right) | (np.isnan(left) & np.isnan(right))
    same[rows], other[rows] = equal, ~equal
    return same, other


def _disordered(reading: Reading) -> list[Finding]:
    import numpy as np

    if (reading.micros[1:] > reading.micros[:-1]).all():
        return []
    kept = reading.micros[~repeats(reading)[0]]
    back = np.concatenate(([False], np.diff(kept) < 0))
    return [_named("disorder", "error", "rows earlier than the row before them, sort the file", back, kept)] if back.any() else []


# -- candles ---------------------------------------------------------------------------------------------------------


def _of_candles(reading: Reading, micros: Any) -> list[Finding]:
    found = _impossible(reading, "", micros)
    stamps, bar = _unique(micros), bar_of(micros)
    if not bar:
        return [*found, Finding("alone", "error", "one row alone, and the length of a bar is the time between two; give more rows")]
    if is_at_close(stamps, bar):
        told = f"all rows are stamped in the last second of a bar of {span_text(bar)}, its close; load and --fix move them to its open"
        found.append(Finding("close_stamped", "warning", told, len(stamps), tuple(stamps[:SHOWN].tolist())))
        stamps = stamps + left_of(stamps, bar) - bar
    found += _steps(stamps, bar)
    found += _local(stamps, bar, reading, offset=0)
    volume = reading.columns.get("volume")
    if volume is not None and reading.kind in ("candles", "joint") and volume.any():
        found += _unmoved(volume == 0, micros, "zero_volume", "without volume")
    if reading.kind in ("mark", "index"):
        found += _unmoved(_is_flat(reading.columns, ""), micros, "stale_mark", "in which the mark did not move")
    return found


def is_at_close(stamps: Any, bar: int) -> bool:
    """Return whether stamps are all in the last second of a bar of a minute or more, as closing times are (07:59:59.999)."""
    left = left_of(stamps, bar)
    return bool(bar >= MINUTE and len(stamps) and 0 < left.max() <= SECOND)


def _unique(micros: Any) -> Any:
    import numpy as np

    return micros if (micros[1:] > micros[:-1]).all() else np.unique(micros)


def _impossible(reading: Reading, prefix: str, micros: Any) -> list[Finding]:
    import numpy as np

    opened, high, low, closed = (reading.columns[prefix + price] for price in PRICES)
    blank = ~np.isfinite(opened + high + low + closed)
    if prefix:  # a row without any mark lacks it, which is told apart
        blank &= ~(np.isnan(opened) & np.isnan(high) & np.isnan(low) & np.isnan(closed))
    with np.errstate(invalid="ignore"):
        bad = (
            blank | (np.minimum(low, opened) <= 0) | (high < low) | (high < np.maximum(opened, closed)) | (low > np.minimum(opened, closed))
        )
    volume = reading.columns.get("volume")
    what = "marks" if prefix else "bars"
    found = []
    if bad.any():
        place = int(bad.argmax())
        told = ", ".join(f"{price} {float(values[place]):g}" for price, values in zip(PRICES, (opened, high, low, closed), strict=True))
        found.append(_named("impossible", "error", what + " that cannot be ({}: {})", bad, micros, reading.where(place), told))
    if volume is not None and not prefix and reading.kind in ("candles", "joint"):
        wrong = ~((volume >= 0) & np.isfinite(volume))
        if wrong.any():
            found.append(_named("impossible", "error", "bars with a volume that is no number from 0 on", wrong, micros))
    return found


def _steps(stamps: Any, bar: int) -> list[Finding]:
    """Return the gaps between bars, and the stamps off their grid."""
    import numpy as np

    off = stamps % bar
    if (off == off[0]).all():
        usual = off[0]
    else:
        phases, counts = np.unique(off, return_counts=True)
        usual = phases[counts.argmax()]
    astray = off != usual
    del off
    found = []
    if astray.any():
        found.append(_named("off_grid", "error", "stamps off the grid of bars of {}", astray, stamps, span_text(bar)))
    grid = stamps[~astray] if astray.any() else stamps
    missing = np.diff(grid) // bar - 1
    holes = np.flatnonzero(missing > 0)
    if len(holes):
        starts = grid[holes] + bar
        told = [f"{minute_text(start)} ({int(missing[hole])})" for hole, start in zip(holes[:SHOWN], starts[:SHOWN], strict=True)]
        more = f" and {len(holes) - SHOWN} more" if len(holes) > SHOWN else ""
        sentence = f"{int(missing.sum())} bars of {span_text(bar)} missing in {len(holes)} places: {listed(told)}{more}"
        found.append(Finding("gap", "warning", sentence, int(missing.sum()), tuple(starts.tolist())))
    return found


def _local(stamps: Any, step: int, reading: Reading, *, offset: int) -> list[Finding]:
    """Return that stamps lie off the whole steps since midnight UTC where no venue has them: local time."""
    import numpy as np

    if step < HOUR or DAY % step or len(stamps) < 3:
        return []
    phases = np.unique((stamps + MINUTE // 2) // MINUTE * MINUTE % step)
    if np.isin(phases, (0, offset)).any():
        return []
    what = "settlements" if reading.kind == "funding" or offset else "bars"
    clock = int(phases[0]) // MINUTE
    told = f"{what} come every {span_text(step)} from {clock // 60:02d}:{clock % 60:02d} on, which no venue's do in UTC: local time"
    if reading.has_zone:  # a number since 1970, or a zone beside it: OKX's days begin at 16:00 UTC
        return [Finding("off_midnight", "note", told.partition(", which")[0], len(stamps), tuple(stamps[:SHOWN].tolist()))]
    return [Finding("local_time", "error", told, len(stamps), tuple(stamps[:SHOWN].tolist()))]


def _summer_time(reading: Reading, micros: Any) -> list[Finding]:
    """Return that stamps without a zone skip or repeat an hour where clocks are changed: in March, October or November, on a Sunday."""
    import numpy as np

    stamps = _unique(micros)
    if reading.has_zone or len(stamps) < 3:
        return []
    step = bar_of(micros)
    steps = np.diff(stamps)
    skipped = (steps == step + HOUR) | ((steps == step - HOUR) & (step > HOUR))
    times = [int(stamps[place]) for place in np.flatnonzero(skipped) if _clocks_change(int(stamps[place]), int(stamps[place + 1]))]
    twice = micros[repeats(reading)[1]]
    if len(twice) * max(step, 1) == HOUR and _clocks_change(int(twice.min()) - 2 * HOUR, int(twice.max()) + 2 * HOUR):
        times.append(int(twice.min()))
    if not times:
        return []
    shown = ", ".join(minute_text(time) for time in times[:SHOWN])
    told = f"an hour is skipped or comes twice where clocks are changed ({shown}): local time; write the zone beside the stamps"
    return [Finding("local_time", "error", told, len(times), tuple(times))]


def _clocks_change(first: int, end: int) -> bool:
    """Return whether Europe's or America's clocks are changed behind one instant and up to another, taken for local time."""
    two = datetime(1970, 1, 1) + timedelta(microseconds=end // DAY * DAY + 2 * HOUR)
    days = {3: (*range(8, 15), *range(25, 32)), 10: range(25, 32), 11: range(1, 8)}.get(two.month, ())
    return two.weekday() == 6 and two.day in days and first < end // DAY * DAY + 2 * HOUR <= end


def runs_of(bad: Any) -> list[tuple[int, int]]:
    """Return the first place and the length of every run of True.

    >>> import numpy
    >>> runs_of(numpy.array([True, False, True, True]))
    [(0, 1), (2, 2)]
    """
    import numpy as np

    edges = np.diff(np.concatenate(([0], bad.astype("int8"), [0])))
    starts = np.flatnonzero(edges == 1)
    return list(zip(starts.tolist(), (np.flatnonzero(edges == -1) - starts).tolist(), strict=True))


def _unmoved(bad: Any, micros: Any, name: str, what: str, severity: str = "note") -> list[Finding]:
    """Return the runs of ``FLAT_BARS`` and more; a warning where they are a twentieth of all bars."""
    runs = [run for run in runs_of(bad) if run[1] >= FLAT_BARS]
    if not runs:
        return []
    total = sum(length for _, length in runs)
    longest = sorted(runs, key=lambda run: -run[1])[:SHOWN]
    told = ", ".join(f"{length} from {minute_text(micros[first])}" for first, length in longest)
    severity = "warning" if total > 0.05 * len(micros) else severity
    return [
        Finding(
            name,
            severity,
            f"{total} bars {what}, in {len(runs)} runs, the longest {told}",
            total,
            tuple(int(micros[first]) for first, _ in runs),
        )
    ]


def _is_flat(columns: dict[str, Any], prefix: str) -> Any:
    """Return which bars stand at the close of the bar before them, open to close."""
    import numpy as np

    opened, high, low, closed = (columns[prefix + price] for price in PRICES)
    before = np.concatenate(([np.nan], closed[:-1]))
    return (high == low) & (opened == high) & (closed == before)


# -- funding ---------------------------------------------------------------------------------------------------------


def _of_funding(reading: Reading, rates: Any, micros: Any) -> list[Finding]:
    import numpy as np

    found = []
    blank = ~np.isfinite(rates)
    if blank.any():
        found.append(_named("impossible", "error", "rates that are no number", blank, micros))
    found += _units(rates[~blank], micros[~blank])
    stamps, places = np.unique(micros, return_index=True)
    if len(stamps) < 2:
        return found
    odd = stamps % HOUR != 0
    if odd.any():
        found.append(_named("off_interval", "warning", "settlements not at a full hour", odd, stamps))
    found += _filled(stamps, rates[places])
    found += _intervals(stamps)
    found += _local(stamps, bar_of(stamps), reading, offset=4 * HOUR)  # BitMEX settles at 04:00, 12:00 and 20:00
    return found


def _units(rates: Any, micros: Any) -> list[Finding]:
    """Return that rates are beyond what venues allow, or look like percent."""
    import numpy as np

    if not len(rates):
        return []
    usual = float(np.median(abs(rates)))
    high = abs(rates) > HIGHEST_RATE
    looks = f"the median rate is {usual:.3g}: percent? 0.01 % is the fraction 0.0001; divide by 100, or say rate_unit='percent'"
    if usual >= USUAL_RATE:
        return [Finding("percent", "error", looks, len(rates))]
    if high.any():
        told = "rates above the {:g} that any venue allows"
        return [_named("rate", "error" if high.mean() > 0.01 or abs(rates).max() > 1 else "warning", told, high, micros, HIGHEST_RATE)]
    return []


def _filled(stamps: Any, rates: Any) -> list[Finding]:
    """Return that one rate stands on every bar of its interval, which would be charged on every one of them."""
    import numpy as np

    steps = np.diff(stamps)
    if not len(steps) or steps.max() >= 8 * HOUR or len(np.unique(steps)) > 1:
        return []
    changed = np.flatnonzero(np.diff(rates) != 0) + 1
    if len(changed) < FILLED_BLOCKS or (stamps[changed] % (8 * HOUR)).any() or np.median(np.diff(changed)) * steps[0] > 8 * HOUR:
        return []
    times = 8 * HOUR // int(steps[0])
    told = f"one rate stands on every row of {span_text(int(steps[0]))} and changes every 8 h alone: it would be charged {times} times"
    return [Finding("filled", "error", f"{told}; leave it on the settlement rows only", len(rates))]


class Hole(NamedTuple):
    """Settlements missing between two stamps (microseconds) at an interval."""

    after: int
    before: int
    interval: int

    @property
    def stamps(self) -> list[int]:
        """The instants that lack one: those inside, by the interval, from midnight UTC."""
        first = self.after // self.interval * self.interval + self.interval
        return list(range(first, self.before, self.interval))


def holes_of(stamps: Any) -> list[Hole]:
    """Return where settlements are missing: steps above eight hours, and those longer than the same step on both sides of them."""
    import numpy as np

    steps = np.diff(stamps)
    found = []
    for place in np.flatnonzero(steps > min(int(steps.min()), 8 * HOUR)) if len(steps) else ():
        step = int(steps[place])
        beside = [int(steps[other]) for other in (place - 1, place + 1) if 0 <= other < len(steps)]
        interval = min([*beside, 8 * HOUR])
        is_between = len(beside) == 2 and beside[0] == beside[1] < step
        if step > 8 * HOUR or (is_between and step % beside[0] == 0):
            found.append(Hole(int(stamps[place]), int(stamps[place + 1]), interval))
    return found


def _intervals(stamps: Any) -> list[Finding]:
    import numpy as np

    found = []
    holes = holes_of(stamps)
    if holes:
        times = tuple(stamp for hole in holes for stamp in hole.stamps)
        shown = ", ".join(minute_text(time) for time in times[:SHOWN])
        more = f" and {len(times) - SHOWN} more" if len(times) > SHOWN else ""
        found.append(Finding("missing_funding", "warning", f"{len(times)} settlements missing: {shown}{more}", len(times), times))
    steps = np.diff(stamps)
    lost = {hole.after for hole in holes}
    whole = np.array([int(stamp) not in lost for stamp in stamps[:-1]])
    places, steps = np.flatnonzero(whole), steps[whole]
    turns = np.flatnonzero(np.diff(steps)) + 1
    if len(turns):
        whence = [
            (span_text(int(steps[turn - 1])), span_text(int(steps[turn])), minute_text(stamps[places[turn]])) for turn in turns[:SHOWN]
        ]
        told = [f"{before} to {after} at {when}" for before, after, when in whence]
        more = f" and {len(turns) - SHOWN} more" if len(turns) > SHOWN else ""
        times = tuple(int(stamps[places[turn]]) for turn in turns)
        found.append(Finding("interval_change", "note", f"the interval of settlements changes: {listed(told)}{more}", len(turns), times))
    return found


# -- last, mark and funding together ---------------------------------------------------------------------------------


def _of_joint(reading: Reading, micros: Any, distance: float) -> list[Finding]:
    import numpy as np

    found = []
    columns = reading.columns
    if "mark_open" in columns:
        found += _impossible(reading, "mark_", micros)
        lacking = np.isnan(columns["mark_open"])
        if lacking.any():
            found.append(_named("no_mark", "warning", "bars without a mark", lacking, micros))
        found += against_marks(micros, columns, {price: columns[f"mark_{price}"] for price in PRICES}, distance=distance)
        moved = ~_is_flat(columns, "")
        found += _unmoved(
            _is_flat(columns, "mark_") & moved, micros, "stale_mark", "in which the mark stood still and last moved", "warning"
        )
    if "rate" in columns:
        kept = ~np.isnan(columns["rate"])
        found += _of_funding(replace(reading, kind="funding"), columns["rate"][kept], micros[kept])
    return found


def check_pair(last: Reading, mark: Reading, *, distance: float = DISTANCE) -> list[Finding]:
    """Return what is found by holding mark candles against last candles, the shorter ones put together, at the stamps both have."""
    import numpy as np

    last, mark = _of_one_length(last, mark)
    stamps, here, there = np.intersect1d(without_jitter(last.micros), without_jitter(mark.micros), return_indices=True)
    if bar_of(last.micros) != bar_of(mark.micros) or not len(stamps):
        return []
    marks = {price: mark.columns[price][there] for price in PRICES}
    lasts = {name: values[here] for name, values in last.columns.items()}
    found = against_marks(stamps, lasts, marks, distance=distance)
    lacking = len(np.unique(last.micros)) - len(stamps)
    if lacking:
        found.append(Finding("no_mark", "warning", f"{lacking} bars of {last.name} without a mark in {mark.name}", lacking))
    moved = ~_is_flat(lasts, "")
    return found + _unmoved(_is_flat(marks, "") & moved, stamps, "stale_mark", "in which the mark stood still and last moved", "warning")


def _of_one_length(last: Reading, mark: Reading) -> tuple[Reading, Reading]:
    """Return two series of rising stamps, the one of shorter bars put together to the bars of the other where those are multiples."""
    import numpy as np

    lengths = bar_of(last.micros), bar_of(mark.micros)
    if not all(lengths) or lengths[0] == lengths[1] or max(lengths) % min(lengths):
        return last, mark
    pair = [last, mark]
    short = int(lengths[1] < lengths[0])
    order = np.argsort(pair[short].micros, kind="stable")
    columns = {name: values[order] for name, values in pair[short].columns.items()}
    starts, made = coarse(pair[short].micros[order], columns, max(lengths))
    pair[short] = replace(pair[short], micros=starts, columns=made, rows=np.arange(len(starts)))
    return pair[0], pair[1]


def against_marks(micros: Any, lasts: dict[str, Any], marks: dict[str, Any], *, distance: float = DISTANCE) -> list[Finding]:
    """Return where marks lie far from last, reach past it, are of something else, or belong to the bar beside."""
    import numpy as np

    with np.errstate(all="ignore"):
        apart = {price: abs(marks[price] / lasts[price] - 1) for price in PRICES}
        furthest = np.nan_to_num(np.max(list(apart.values()), axis=0))
        middle = float(np.nanmedian(marks["close"] / lasts["close"])) if len(micros) else 1.0
        past = np.maximum(1 - marks["low"] / lasts["low"], marks["high"] / lasts["high"] - 1)
    if not abs(middle - 1) <= distance:
        told = f"the mark is {middle:.6g} times last in the middle of all bars: another symbol or another unit"
        return [Finding("foreign_mark", "error", told, len(micros))]
    found = _beside(micros, lasts["close"], marks["close"])
    worst = [place for place in np.argsort(-furthest, kind="stable")[:SHOWN].tolist() if furthest[place] > distance]
    if worst:
        told = "; ".join(
            _far(micros[place], {price: (float(lasts[price][place]), float(marks[price][place])) for price in PRICES}) for place in worst
        )
        times = tuple(micros[furthest > distance].tolist())
        found.append(
            Finding(
                "divergence", "note", f"{len(times)} bars whose mark is over {100 * distance:.3g} % off last: {told}", len(times), times
            )
        )
    beyond = np.nan_to_num(past) > BEYOND
    if beyond.any():
        found.append(_named("mark_beyond", "note", "bars in which the mark went over {:.1%} further than last", beyond, micros, BEYOND))
    return found


def _far(time: int, prices: dict[str, tuple[float, float]]) -> str:
    name, (last, mark) = max(prices.items(), key=lambda item: abs(item[1][1] / item[1][0] - 1))
    return f"{minute_text(time)} {name} {last:g}, mark {mark:g}"


def _beside(micros: Any, last: Any, mark: Any) -> list[Finding]:
    """Return that marks fit last better a bar earlier or later, so that one of the two is stamped at its close."""
    import numpy as np

    if len(micros) < 20:
        return []
    with np.errstate(all="ignore"):
        apart = {0: mark / last, 1: mark[1:] / last[:-1], -1: mark[:-1] / last[1:]}
        apart = {shift: np.log(ratios / np.nanmedian(ratios)) for shift, ratios in apart.items()}  # a steady basis would hide the shift
        apart = {shift: float(np.nanmean(abs(far))) for shift, far in apart.items()}
    best = min(apart, key=lambda shift: apart[shift])
    if best == 0 or not apart[best] < 0.5 * apart[0]:
        return []
    told = "later" if best == 1 else "earlier"
    sentence = f"marks fit last's candles a bar {told}: one of the two is stamped at the close of its bar; say so, or shift it"
    return [Finding("shifted_mark", "error", sentence, len(micros))]


# -- files -----------------------------------------------------------------------------------------------------------


@dataclass
class Report:
    """A file or one series of it, and what was found; without a reading it could not be read."""

    name: str
    path: Path
    reading: Reading | None
    findings: list[Finding]


def examine(files: Sequence[Path], *, shape: str | None = None, distance: float = DISTANCE) -> list[Report]:
    """Return what is found in each series of files; last and mark prices of one symbol, told by the files' names, are held together."""
    reports: list[Report] = []
    for path in files:
        try:
            reports += [Report(one.name, path, one, check(one, distance=distance)) for one in read_all(path, shape=shape)]
        except ValueError as error:
            reports.append(Report(path.name, path, None, [Finding("unreadable", "error", str(error).removeprefix(path.name).lstrip(": "))]))
    pairs: dict[Any, dict[str, list[Report]]] = {}
    for report in reports:
        if report.reading is not None and report.reading.kind in ("candles", "mark") and not report.reading.labels:
            pairs.setdefault(_series_key(report.path), {}).setdefault(report.reading.kind, []).append(report)
    for beside in pairs.values():
        for last, mark in product(beside.get("candles", []), beside.get("mark", [])):
            assert last.reading is not None and mark.reading is not None
            mark.findings += check_pair(last.reading, mark.reading, distance=distance)
            mark.findings.sort(key=lambda finding: -SEVERITIES.index(finding.severity))
    return reports


def _series_key(path: Path) -> tuple[Any, ...]:
    """Return what the names of files of one contract share: all words but those for a timeframe, a kind of price and a date."""
    words = re.split(r"[-_. ]+", path.name.lower())
    return path.parent, *(
        word for word in words if not re.fullmatch(r"\d+(s|m|min|h|d|w)?|[a-z0-9]*\d{4}", word) and word not in NAME_WORDS
    )


# -- repairs ---------------------------------------------------------------------------------------------------------


def repaired(reading: Reading) -> tuple[Reading, list[Change]]:
    """Return a series without repeated rows, jitter and closing stamps, and every change; what needs judgement is left as it is."""
    same, _ = repeats(reading)
    changes = [
        Change(int(reading.rows[place]), "repeats another row, dropped", int(reading.micros[place]), None) for place in same.nonzero()[0]
    ]
    kept = reading.at(~same) if changes else reading
    micros = stamps_of(kept)
    word = "jitter, moved to the whole minute"
    bar = bar_of(micros)
    if reading.kind != "funding" and bar and is_at_close(_unique(micros), bar):
        micros, word = micros + left_of(micros, bar) - bar, "stamped at the close, moved to the open of its bar"
    moved = () if micros is kept.micros else (micros != kept.micros).nonzero()[0]
    changes += [Change(int(kept.rows[place]), word, int(kept.micros[place]), int(micros[place])) for place in moved]
    return replace(kept, micros=micros), sorted(changes)


def worst_of(findings: Iterable[Finding]) -> str:
    """Return the gravest severity, 'clean' without findings."""
    found = {finding.severity for finding in findings}
    return next((severity for severity in reversed(SEVERITIES) if severity in found), "clean")


def refuse_errors(findings: Sequence[Finding], title: str) -> None:
    """Raise ValueError for the first error among findings."""
    for finding in findings:
        if finding.severity == "error":
            raise ValueError(f"{title}: {finding.message}")
