"""Last prices, mark prices and funding of one contract, joined to what a ``PerpData`` is made of, by stated policies.

What data lacks is an error, or is filled in by a policy that every result repeats (R30). What ``quality`` calls an error is
refused here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import compress, pairwise
from numbers import Real
from pathlib import Path
from typing import Any

import backtrader as bt

from .core.funding import FundingSchedule
from .frames import HOUR, PRICES, SECOND, listed, minute_text, span_text, utc_text
from .quality import Hole, bar_of, check, check_pair, holes_of, refuse_errors, repaired
from .resampling import coarse, marks_at, micros_of, starts_of
from .shapes import Reading, is_tidy, read_all

ROLES = {"last": ("candles", "joint"), "mark": ("mark", "candles"), "index": ("index", "candles", "mark"), "funding": ("funding",)}
MARKS = tuple(f"mark_{price}" for price in PRICES)


@dataclass(frozen=True)
class Terms:
    """How a contract's data is read and joined; see ``PerpData.from_files``."""

    start: Any = None
    end: Any = None
    timeframe: str | None = None
    keep_detail: bool = False
    missing_mark: str = "error"
    missing_funding: str | float = "error"
    funding_hours: float = 8.0
    rate_unit: str = "fraction"
    stamp: str = "open"
    shape: str | Mapping[str, str] | None = None
    where: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        choices = {"missing_mark": ("error", "last", "index"), "rate_unit": ("fraction", "percent"), "stamp": ("open", "close")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is one of {listed(known)}, was {getattr(self, name)!r}")
        rate = self.missing_funding
        if not (rate in ("error", "zero") or (isinstance(rate, Real) and not isinstance(rate, bool) and abs(rate) <= 1)):
            raise ValueError(f"missing_funding is 'error', 'zero' or a rate as a fraction (0.01 % is 0.0001), was {rate!r}")
        if not (isinstance(self.funding_hours, Real) and 0 < self.funding_hours <= 24):
            raise ValueError(
                f"funding_hours is the interval of a rate that is filled in, above 0 and at most 24, was {self.funding_hours!r}"
            )
        roles = self.shape if isinstance(self.shape, Mapping) else ()
        if not set(roles) <= set(ROLES):
            raise ValueError(f"shape is one for all files, or by role ({listed(ROLES)}), was {self.shape!r}")
        if self.keep_detail and self.timeframe is None:
            raise ValueError("keep_detail keeps the bars that longer ones are made of; say which timeframe these have, or leave it out")

    @property
    def rate(self) -> float:
        """What is charged at a settlement that is missing."""
        return 0.0 if isinstance(self.missing_funding, str) else float(self.missing_funding)

    def shape_of(self, role: str) -> str | None:
        """Return the shape that was said of the source of a role."""
        return self.shape.get(role) if isinstance(self.shape, Mapping) else self.shape


def joined(sources: Mapping[str, Any], symbol: str, terms: Terms) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the params of a ``PerpData`` from sources by role (last, mark, index, funding), and how each was read."""
    series = {role: _series(source, role, symbol, terms) for role, source in sources.items() if source is not None}
    last = series["last"]
    told_apart = {label for reading in series.values() for label in reading.labels}
    idle = [label for label in terms.where or {} if str(label).lower() not in told_apart]
    if idle:
        raise ValueError(f"where names {listed(idle)}, by which no file here tells several series apart; leave it out")
    name = symbol or last.symbol or last.title
    for role, column in (("mark", "mark_open"), ("funding", "rate")):
        if role in series and column in last.columns:
            raise ValueError(f"{name}: {role}= was given and {last.title} has it too, leave one out")
    for role in ("mark", "index"):
        if role in series:
            refuse_errors(check_pair(last, series[role]), f"{name}: {role} {series[role].name}")
    funding = _settlements(series.get("funding", last))
    last, bar = _within(last, name, terms)
    marks, mark_flags = _marks(series, last, bar, name, terms)
    arrays = {"datetime": last.micros, **{key: values for key, values in last.columns.items() if key in (*PRICES, "volume")}, **marks}
    funding_terms, flags = _funding(funding, last, bar, name, terms)
    flags, detail = [*mark_flags, *flags], None
    if terms.timeframe is not None:
        funding_terms = _paid_inside(funding_terms, arrays, bar, micros_of(terms.timeframe))
        detail, (arrays, bar, partial) = arrays, _longer(arrays, bar, name, terms.timeframe)
        flags = [*partial, *flags]
    for values in arrays.values():
        values.flags.writeable = False  # so that the feed keeps them as they are
    made = {"dataname": arrays, "name": name, "flags": tuple(flags), **funding_terms}
    if len(arrays["datetime"]) == 1:  # whose length PerpData could not see
        made |= {"timeframe": bt.TimeFrame.Seconds, "compression": bar // SECOND}
    if terms.keep_detail and detail is not None:
        made["detail"] = {key: values for key, values in detail.items() if key != "volume"}
    notes = tuple(f"{reading.title}: {note}" for reading in series.values() for note in reading.notes)
    return made, notes


def plain_files(files: Mapping[str, str], symbol: str, stamp: str) -> dict[str, Any] | None:
    """Return the files of one contract by role (last, mark, funding, detail) as arrays by name, stamped at the opening of bars.

    None where ``PerpData`` reads all of them by itself.
    """
    if all(is_tidy(path, role) for role, path in files.items()):
        return None
    terms = Terms(stamp=stamp)
    series = {role: _series(path, "last" if role == "detail" else role, symbol, terms) for role, path in files.items()}
    if "mark" in series:
        refuse_errors(check_pair(series["last"], series["mark"]), f"{symbol}: mark {series['mark'].name}")
    return {role: _named_arrays(reading) for role, reading in series.items()}


def _named_arrays(reading: Reading) -> dict[str, Any]:
    names = {"rate": "rate" if reading.kind == "funding" else "funding_rate", "paid_by": "mark_price"}
    return {"datetime": reading.micros, **{names.get(name, name): values for name, values in reading.columns.items()}}


# -- one series ------------------------------------------------------------------------------------------------------


def _series(source: Any, role: str, symbol: str, terms: Terms) -> Reading:
    """Return the one clean series of a role: repeats dropped, stamps at the opening of bars, errors refused."""
    reading = chained(source, role, symbol, terms)
    allowed = ROLES[role]
    if reading.kind not in allowed and not (role == "funding" and "rate" in reading.columns):
        told = {"candles": "candles", "mark": "mark prices", "index": "index prices", "premium": "a premium, which is no price"}
        kind = told.get(reading.kind, "funding rates" if reading.kind == "funding" else "candles with marks or rates beside them")
        raise ValueError(f"{reading.name} was given as {role} and holds {kind}; give it as what it is, or as a DataFrame to overrule")
    if terms.rate_unit == "percent" and "rate" in reading.columns:
        reading = replace(reading, columns={**reading.columns, "rate": reading.columns["rate"] / 100})
    clean, changes = repaired(reading)
    counts: dict[str, int] = {}
    for change in changes:
        counts[change.what] = counts.get(change.what, 0) + 1
    notes = tuple(f"{count} rows: {what}" for what, count in counts.items())
    if terms.stamp == "close" and clean.kind != "funding" and not any("at the close" in what for what in counts):
        clean = replace(clean, micros=clean.micros - _bar(clean))
    refuse_errors(check(clean), reading.name)
    return replace(clean, notes=(*clean.notes, *notes))


def chained(source: Any, role: str, symbol: str, terms: Terms) -> Reading:
    """Return a source as it stands as one series: a file, several, or what is in folders, put together by the time they begin at."""
    many = isinstance(source, list | tuple) and bool(source) and all(isinstance(item, str | Path) for item in source)
    items = [part for item in (source if many else [source]) for part in _files_of(item)]
    readings = [_one(item, role, symbol, terms) for item in items]
    return readings[0] if len(readings) == 1 else _chained(readings)


def _files_of(item: Any) -> list[Any]:
    """Return the files of a folder, but those that are hidden and checksums; anything else as it is."""
    if not (isinstance(item, str | Path) and Path(item).expanduser().is_dir()):
        return [item]
    found = [path for path in sorted(Path(item).expanduser().iterdir()) if path.is_file() and path.name[0] != "."]
    kept = [path for path in found if path.suffix.lower() not in (".checksum", ".sha256", ".md", ".txt")]
    if not kept:
        raise ValueError(f"{item} is a folder without files of data in it; name the files, or the folder that has them")
    return kept


def _one(source: Any, role: str, symbol: str, terms: Terms) -> Reading:
    """Return one series of a source: the only one, the one that ``where`` names, or the one of the symbol."""
    found = read_all(source, shape=terms.shape_of(role), title=None if isinstance(source, str | Path) else f"{symbol} {role}".strip())
    if len(found) == 1:
        return found[0]
    wanted = {str(name).lower(): str(value) for name, value in (terms.where or {}).items()}
    fitting = [reading for reading in found if all(reading.labels.get(name) == value for name, value in wanted.items())]
    if len(fitting) > 1 and symbol:
        fitting = [reading for reading in fitting if reading.symbol == symbol]
    if len(fitting) != 1:
        names = sorted({name for reading in found for name in reading.labels})
        values = listed(" ".join(reading.labels.values()) for reading in found[:8])
        raise ValueError(f"{found[0].title} holds {len(found)} series ({values} ...), say which by where={{...}} of {listed(names)}")
    return fitting[0]


def _chained(readings: Sequence[Reading]) -> Reading:
    """Return files of one series as one, by the time they begin at."""
    import numpy as np

    readings = sorted(readings, key=lambda reading: int(reading.micros[0]))
    names = set(readings[0].columns)
    for reading in readings[1:]:
        if set(reading.columns) != names or reading.kind != readings[0].kind:
            told = " and ".join(f"{one.title} ({one.kind}: {listed(sorted(one.columns))})" for one in (readings[0], reading))
            raise ValueError(f"{told} are no files of one series; name files of the same kind and columns")
        if reading.symbol and readings[0].symbol and reading.symbol != readings[0].symbol:
            told = f"{readings[0].title} is of {readings[0].symbol} and {reading.title} of {reading.symbol}"
            raise ValueError(f"{told}; name files of one contract")
    columns = {name: np.concatenate([reading.columns[name] for reading in readings]) for name in readings[0].columns}
    title = f"{readings[0].title} to {readings[-1].title}"
    notes = tuple(f"{reading.title}: {note}" for reading in readings for note in reading.notes)
    rows = np.concatenate([reading.rows for reading in readings])
    return replace(
        readings[0], title=title, micros=np.concatenate([reading.micros for reading in readings]), columns=columns, rows=rows, notes=notes
    )


def _bar(reading: Reading) -> int:
    bar = bar_of(reading.micros)
    if not bar:
        raise ValueError(f"{reading.name} has one row, and the length of a bar is the time between two; give more rows")
    return bar


def _within(last: Reading, name: str, terms: Terms) -> tuple[Reading, int]:
    """Return candles cut to the window, and the length of their bars."""
    import numpy as np

    bar = _bar(last)
    first, end = instant(terms.start, "start"), instant(terms.end, "end")
    kept = np.ones(len(last.micros), dtype=bool)
    if first is not None:
        kept &= last.micros >= first
    if end is not None:
        kept &= last.micros + bar <= end
    if not kept.any():
        raise ValueError(
            f"{name}: the candles are from {utc_text(last.micros[0])} to {utc_text(last.micros[-1] + bar)}, which leave none between start "
            f"{terms.start} and end {terms.end}; widen them"
        )
    return last if kept.all() else last.at(kept), bar


def _longer(arrays: dict[str, Any], bar: int, name: str, timeframe: str) -> tuple[dict[str, Any], int, list[str]]:
    """Return candles put together to a timeframe, its length, and what results must repeat of that."""
    import numpy as np

    length = micros_of(timeframe)
    _check_multiple(length, bar, name)
    opened = arrays["datetime"]
    starts, made = coarse(opened, {key: values for key, values in arrays.items() if key != "datetime"}, length)
    counts = np.bincount(np.searchsorted(starts, starts_of(opened, length)))
    partial = int((counts < length // bar).sum())
    flags = (
        [f"{partial} of {len(starts)} bars of {span_text(length)} made of fewer than {length // bar} of {span_text(bar)}"]
        if partial
        else []
    )
    return {"datetime": starts, **made}, length, flags


def _check_multiple(length: int, bar: int, name: str) -> None:
    if length % bar:
        raise ValueError(
            f"{name}: bars of {span_text(length)} are no whole number of the {span_text(bar)} there are; take a multiple of that"
        )


def instant(value: Any, name: str) -> int | None:
    """Return a bound in microseconds UTC: a date, a datetime or ISO text (without a zone UTC); a day as ``end`` is that whole day."""
    if value is None:
        return None
    moment, is_day = value, isinstance(value, date) and not isinstance(value, datetime)
    if isinstance(value, str):
        is_day = len(value.strip()) <= len("2024-01-31")
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError(f"{name} is a UTC date or time such as 2024-01-31 or 2024-01-31T08:00, was {value!r}") from None
    elif is_day:
        moment = datetime(value.year, value.month, value.day)
    if not isinstance(moment, datetime):
        raise ValueError(f"{name} is a UTC date or time such as 2024-01-31 or 2024-01-31T08:00, was {value!r}")
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    if is_day and name == "end":
        moment += timedelta(days=1)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


# -- marks -----------------------------------------------------------------------------------------------------------


def _marks(series: Mapping[str, Reading], last: Reading, bar: int, name: str, terms: Terms) -> tuple[dict[str, Any], list[str]]:
    """Return mark columns for the candles, {} where all are last's own, and what results must repeat of them."""
    import numpy as np

    flags: list[str] = []
    if "mark_open" in last.columns:
        marks = {key: last.columns[key].copy() for key in MARKS}
    elif "mark" in series:
        marks = _aligned(series["mark"], last, bar, name, flags)
    else:
        marks = {key: np.full(len(last.micros), np.nan) for key in MARKS}
    lacking = np.isnan(marks["mark_open"])
    if not lacking.any():
        return marks, flags
    if terms.missing_mark == "error":
        first = utc_text(last.micros[lacking.argmax()])
        given = (
            "no mark prices were given"
            if lacking.all()
            else f"{int(lacking.sum())} of {len(lacking)} bars have no mark, the first at {first}"
        )
        raise ValueError(f"{name}: {given}; give mark=, or say missing_mark='last', or 'index' with index=")
    if terms.missing_mark == "last":
        if lacking.all():
            return {}, []  # of which every result says "mark from last"
        stand_in = {f"mark_{price}": last.columns[price] for price in PRICES}
    else:
        if "index" not in series:
            raise ValueError(f"{name}: missing_mark='index' takes the index prices for the mark; give them as index=")
        stand_in = _aligned(series["index"], last, bar, name, [])
        still = lacking & np.isnan(stand_in["mark_open"])
        if still.any():
            raise ValueError(
                f"{name}: {int(still.sum())} bars have neither mark nor index, the first {utc_text(last.micros[still.argmax()])}; add them"
            )
    flags.append(f"mark from {terms.missing_mark} on {int(lacking.sum())} of {len(lacking)} bars")
    return {key: np.where(lacking, stand_in[key], values) for key, values in marks.items()}, flags


def _aligned(marks: Reading, last: Reading, bar: int, name: str, flags: list[str]) -> dict[str, Any]:
    """Return marks at the candles' stamps, NaN where there are none: finer ones put together, coarser ones clipped (R29)."""
    import numpy as np

    length = _bar(marks)
    opened, columns = marks.micros, {price: marks.columns[price] for price in PRICES}
    if length < bar:
        _check_multiple(bar, length, f"{name}: mark")
        opened, columns = coarse(opened, columns, bar)
    elif length > bar:
        _check_multiple(length, bar, f"{name}: candles under a mark")
        flags.append(f"mark of {span_text(length)} on bars of {span_text(bar)}, fine mark is fine last clipped to the bar's mark")
        return clipped(last.micros, last.columns, bar, opened, columns, length)
    at = np.searchsorted(opened, last.micros).clip(max=len(opened) - 1)
    here = opened[at] == last.micros
    return {f"mark_{price}": np.where(here, columns[price][at], np.nan) for price in PRICES}


def clipped(opened: Any, lasts: Mapping[str, Any], bar: int, mark_opened: Any, marks: Mapping[str, Any], length: int) -> dict[str, Any]:
    """Return fine marks from coarse ones: fine last, clipped to what the mark did in the longer bar (R29); NaN without one.

    The first opens and the last closes with the mark, and the mark's extremes stand where last was lowest and highest, so
    that all fine marks of a bar together are its mark. As ``detail`` does it, for all bars at once.
    """
    import numpy as np

    start = starts_of(opened, length)
    at = np.searchsorted(mark_opened, start).clip(max=len(mark_opened) - 1)
    whole = {price: np.where(mark_opened[at] == start, marks[price][at], np.nan) for price in PRICES}
    fine = {price: np.minimum(np.maximum(lasts[price], whole["low"]), whole["high"]) for price in PRICES}
    fine["open"] = np.where(opened == start, whole["open"], fine["open"])
    fine["close"] = np.where(opened + bar == start + length, whole["close"], fine["close"])
    high, low = np.max(list(fine.values()), axis=0), np.min(list(fine.values()), axis=0)
    first = np.flatnonzero(np.diff(start, prepend=start[0] - 1))
    group = np.cumsum(np.diff(start, prepend=start[0]) != 0)
    for values, extreme, reach, corner in ((lasts["low"], low, np.minimum, "low"), (lasts["high"], high, np.maximum, "high")):
        places = np.flatnonzero(values == reach.reduceat(values, first)[group])
        places = places[np.unique(group[places], return_index=True)[1]]
        extreme[places] = whole[corner][places]
    return {"mark_open": fine["open"], "mark_high": high, "mark_low": low, "mark_close": fine["close"]}


# -- funding ---------------------------------------------------------------------------------------------------------


def _settlements(reading: Reading) -> tuple[Any, Any, Any] | None:
    import numpy as np

    rates = reading.columns.get("rate")
    if rates is None:
        return None
    kept = ~np.isnan(rates)
    marks = reading.columns.get("paid_by", np.full(len(rates), np.nan))
    return reading.micros[kept], rates[kept], marks[kept]


def _funding(settled: tuple[Any, Any, Any] | None, last: Reading, bar: int, name: str, terms: Terms) -> tuple[dict[str, Any], list[str]]:
    """Return funding as PerpData takes it, the holes in it filled by the policy, and what results must repeat of that."""
    import numpy as np

    hours = {"funding_hours": float(terms.funding_hours)}
    first, end = int(last.micros[0]), int(last.micros[-1]) + bar
    if settled is None or not ((settled[0] >= first) & (settled[0] <= end)).any():
        if terms.missing_funding == "error":
            told = "no funding was given" if settled is None else "the funding has no settlement in the time of the candles"
            raise ValueError(f"{name}: {told}; give funding=, or say missing_funding='zero' or a rate such as 0.0001")
        return ({"funding": None, **hours}, []) if terms.missing_funding == "zero" else ({"funding": terms.rate, **hours}, [])
    within = (settled[0] >= first) & (settled[0] <= end)
    stamps, rates, marks = (values[within] for values in settled)
    holes = _holes(stamps, first, end)
    lacking = sorted({stamp for hole in holes for stamp in hole.stamps if first <= stamp <= end})
    flags = []
    if lacking:
        if terms.missing_funding == "error":
            shown = f"{utc_text(lacking[0])} to {utc_text(lacking[-1])}"
            raise ValueError(
                f"{name}: {len(lacking)} settlements are missing ({shown}); add them, or say missing_funding='zero' or a rate like 0.0001"
            )
        flags.append(f"{len(lacking)} missing settlements taken as {terms.rate:g}")
        stamps = np.concatenate([stamps, np.array(lacking, dtype="int64")])
        rates = np.concatenate([rates, np.full(len(lacking), terms.rate)])
        marks = np.concatenate([marks, np.full(len(lacking), np.nan)])
        order = np.argsort(stamps, kind="stable")
        stamps, rates, marks = stamps[order], rates[order], marks[order]
    paid_by = () if np.isnan(marks).all() else tuple(marks.tolist())
    schedule = FundingSchedule(tuple((stamps / SECOND).tolist()), tuple(rates.tolist()), paid_by)
    return {"funding": schedule, **hours}, flags


def _paid_inside(funding: dict[str, Any], arrays: dict[str, Any], bar: int, length: int) -> dict[str, Any]:
    """Return funding whose settlements inside a longer bar are paid as on the shorter bars: at the mark that one opens with there, in a
    gap at the mark before it, and not at all once the last has closed, though the longer one goes on."""
    import numpy as np

    schedule = funding["funding"]
    if not isinstance(schedule, FundingSchedule):
        return funding
    stamps = np.rint(np.array(schedule.stamps) * SECOND).astype("int64")
    marks = np.array(schedule.marks) if schedule.marks else np.full(len(stamps), np.nan)
    opened = arrays["datetime"]
    mark_open, mark_close = (arrays.get(f"mark_{price}", arrays[price]) for price in ("open", "close"))
    inside = starts_of(stamps, length) != stamps
    marks = np.where(inside, marks_at(stamps, marks, opened, mark_open), marks)
    before = (np.searchsorted(opened, stamps, "right") - 1).clip(min=0)
    is_gap = np.isnan(marks) & (stamps >= opened[before] + bar)
    marks = np.where(is_gap, mark_close[before], marks)
    kept = ~(inside & (stamps >= opened[-1] + bar))
    if not kept.any():
        return {**funding, "funding": None}
    paid_by = () if np.isnan(marks[kept]).all() else tuple(marks[kept].tolist())
    return {**funding, "funding": FundingSchedule(tuple((stamps[kept] / SECOND).tolist()), tuple(compress(schedule.rates, kept)), paid_by)}


def _holes(stamps: Any, first: int, end: int) -> list[Hole]:
    """Return where settlements are missing: inside, before the first and after the last, where a whole interval has none."""
    steps = [late - early for early, late in pairwise(stamps.tolist())]
    edges = (min(steps[0], 8 * HOUR), min(steps[-1], 8 * HOUR)) if steps else (8 * HOUR, 8 * HOUR)
    found = holes_of(stamps) if steps else []
    if stamps[0] - first > edges[0]:
        found.append(Hole(first, int(stamps[0]), edges[0]))  # not at the first opening, where nothing is held yet
    if end - stamps[-1] > edges[1]:
        found.append(Hole(int(stamps[-1]), end, edges[1]))
    return found


# -- several contracts -----------------------------------------------------------------------------------------------


def on_one_clock(made: Mapping[str, dict[str, Any]], clock: str) -> None:
    """Cut the params of several feeds to the bars that all have (clock 'common'), or flag who begins later or ends earlier ('own')."""
    from functools import reduce

    import numpy as np

    if clock not in ("own", "common"):
        raise ValueError(f"clock is 'own' (each contract its bars) or 'common' (the bars that all have), was {clock!r}")
    stamps = {symbol: terms["dataname"]["datetime"] for symbol, terms in made.items()}
    if clock == "own":
        first, end = min(times[0] for times in stamps.values()), max(times[-1] for times in stamps.values())
        for symbol, times in stamps.items():
            told = [f"begins {minute_text(times[0])}, after others"] if times[0] > first else []
            told += [f"ends {minute_text(times[-1])}, before others"] if times[-1] < end else []
            made[symbol]["flags"] = (*made[symbol]["flags"], *told)
        return
    common = reduce(np.intersect1d, stamps.values())
    if len(common) < 2:
        raise ValueError(f"{listed(made)} have {len(common)} bars in common; say clock='own', or give candles of the same time and length")
    for symbol, terms in made.items():
        kept = np.isin(stamps[symbol], common)
        if kept.all():
            continue
        terms["dataname"] = {name: values[kept] for name, values in terms["dataname"].items()}
        for values in terms["dataname"].values():
            values.flags.writeable = False
        terms["flags"] = (*terms["flags"], f"{int((~kept).sum())} of {len(kept)} bars left out, for others lack them")
