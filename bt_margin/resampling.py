"""Candles, marks and funding put together into longer bars, nothing of them lost.

Of each longer bar the first open, the highest high, the lowest low and the last close stay, of last and of mark, and the sum
of the volumes. A funding rate stays at its own instant: one inside a bar goes to a column that says how far from the row's
stamp it lies, ``funding_rate+4h``, and the mark it is paid at to ``funding_mark+4h``. ``PerpData`` reads these.
"""

import re
from collections.abc import Mapping
from typing import Any

from .frames import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    TIME_COLUMNS,
    Table,
    bar_micros,
    left_of_bars,
    numbers_of,
    prices_of,
    read_table,
    span_text,
)

UNITS = {"s": SECOND, "min": MINUTE, "m": MINUTE, "t": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
MONDAY = 4 * DAY  # 1970-01-05
APART = re.compile(r"funding_(rate|mark)([+-])(\d+)(s|min|h)")


def micros_of(timeframe: Any) -> int:
    """Return a length of time in microseconds from '15min', '4h', '1d', '1w' ('15m' too); ValueError for what has no fixed length.

    >>> micros_of("4h") // 3_600_000_000
    4
    """
    found = (
        re.fullmatch(r"\s*(\d*)\s*(s|min|m|t|h|d|w)\s*", timeframe.lower().replace("minutes", "min"))
        if isinstance(timeframe, str)
        else None
    )
    count = int(found[1] or 1) if found else 0
    if not (found and count and timeframe.strip()[-1] != "M"):
        raise ValueError(f"a timeframe is a number and s, min, h, d or w, such as '15min', '4h' or '1d', was {timeframe!r}")
    return count * UNITS[found[2]]


def starts_of(opened: Any, length: int) -> Any:
    """Return the instants at which the longer bars of some openings begin: whole lengths from midnight UTC, weeks on Monday."""
    offset = MONDAY if length % (7 * DAY) == 0 else 0
    return (opened - offset) // length * length + offset


def coarse(opened: Any, columns: Mapping[str, Any], length: int) -> tuple[Any, dict[str, Any]]:
    """Return the openings and the columns of the bars of a length that rising shorter bars make up.

    Any column that is no price, mark, volume or funding is the last of its bar.
    """
    import numpy as np

    groups = starts_of(opened, length)
    first = np.flatnonzero(np.diff(groups, prepend=groups[0] - 1))
    last = np.append(first[1:], len(opened)) - 1
    made = {}
    for name, values in columns.items():
        price = name.removeprefix("mark_")
        if price == "open":
            made[name] = values[first]
        elif price == "high":
            made[name] = np.maximum.reduceat(values, first)
        elif price == "low":
            made[name] = np.minimum.reduceat(values, first)
        elif name == "volume":
            made[name] = np.add.reduceat(values, first)
        else:
            made[name] = values[last]
    return groups[first], made


def resample(source: Any, timeframe: str, *, stamp: str = "open") -> Any:
    """Return candles as bars of a longer timeframe ('15min', '4h', '1d', '1w'): a DataFrame, or arrays by name where those were given.

    ``source`` is what PerpData takes: a DataFrame, arrays by name, or the path of a file. ``stamp`` says what its times mean, the 'open' or
    the 'close' of a bar, and those of the result mean the same. Bars begin at whole lengths from midnight UTC, weeks on Monday. A bar that
    lacks some of the shorter ones, at the ends or in a gap, is made of those there are. Rates stay at their instants:
    ``PerpData`` reads ``funding_rate+4h`` as a rate four hours after the row's time, and pays it at ``funding_mark+4h``, the mark
    that the shorter bar there opened with. Other columns keep the last value of each bar.
    """
    if stamp not in ("open", "close"):
        raise ValueError(f"stamp says whether rows are stamped at their 'open' or 'close', was {stamp!r}")
    table = read_table(source, "candle")
    length, bar = micros_of(timeframe), bar_micros(table, None, None)
    if length % bar:
        raise ValueError(f"bars of {span_text(length)} are no whole number of the {span_text(bar)} there are; take a multiple of that")
    prices_of(table, "", slice(None))
    left = left_of_bars(table, bar)
    opened = table.micros if stamp == "open" else table.micros + (0 if left is None else left) - bar
    if stamp == "open" and left is not None:
        raise ValueError(f"{table.where(0)} and all after it are stamped at the close of their bars; say stamp='close'")
    times = set(TIME_COLUMNS)
    columns = {name: _values(table, name) for name in table.columns if name not in times and not name.startswith("funding_")}
    starts, made = coarse(opened, columns, length)
    rows = starts + (length if stamp == "close" else 0)
    made |= _funding_columns(
        settlements_of(table), opened, columns.get("mark_open", columns["open"]), rows, length, is_close=stamp == "close"
    )
    if table.has_arrays:
        return {"datetime": rows.view("datetime64[us]"), **made}
    import pandas as pd

    return pd.DataFrame(made, index=pd.DatetimeIndex(rows.view("datetime64[us]"), tz="UTC", name="datetime"))


def _values(table: Table, name: str) -> Any:
    import numpy as np

    column = table.frame[table.columns[name]]
    return numbers_of(table, name) if column.dtype.kind in "biuf" else np.asarray(column)


def settlements_of(table: Table) -> tuple[Any, Any, Any] | None:
    """Return stamps (microseconds), rates and marks (NaN: not known) of the settlements in a table's own columns; None without any."""
    import numpy as np

    found: list[tuple[Any, Any, Any]] = []
    for name in table.columns:
        what = ("rate", 0) if name == "funding_rate" else apart_of(name)
        if what is None or what[0] != "rate":
            continue
        rates = numbers_of(table, name)
        paid_by = f"funding_mark{apart_text(what[1])}"
        marks = numbers_of(table, paid_by) if paid_by in table.columns else np.full(len(rates), np.nan)
        kept = ~np.isnan(rates)
        found.append((table.micros[kept] + what[1], rates[kept], marks[kept]))
    if not found:
        return None
    stamps, rates, marks = (np.concatenate(values) for values in zip(*found, strict=True))
    order = np.argsort(stamps, kind="stable")
    return stamps[order], rates[order], marks[order]


def marks_at(stamps: Any, marks: Any, opened: Any, mark_open: Any) -> Any:
    """Return what settlements are paid by: their own price, else the mark that a bar opens with at their instant, else NaN."""
    import numpy as np

    at = np.searchsorted(opened, stamps).clip(max=len(opened) - 1)
    return np.where(np.isnan(marks) & (opened[at] == stamps), mark_open[at], marks)


def _funding_columns(
    settled: tuple[Any, Any, Any] | None, opened: Any, mark_open: Any, rows: Any, length: int, *, is_close: bool
) -> dict[str, Any]:
    """Return settlements as columns of the rows, each at the bar that holds it (at its opening, or for closes at its closing)."""
    import numpy as np

    if settled is None:
        return {}
    stamps, rates, marks = settled
    holders = starts_of(stamps - (1 if is_close else 0), length) + (length if is_close else 0)
    places, offsets = np.searchsorted(rows, holders), stamps - holders
    marks = np.where(offsets == 0, marks, marks_at(stamps, marks, opened, mark_open))
    made: dict[str, Any] = {"funding_rate": np.full(len(rows), np.nan)}
    for offset in np.unique(offsets).tolist():
        at = offsets == offset
        for word, values in (("rate", rates), ("mark", marks)):
            if word == "rate" or not np.isnan(values[at]).all():
                column = np.full(len(rows), np.nan)
                column[places[at]] = values[at]
                made[f"funding_{word}{apart_text(offset)}"] = column
    return made


def apart_text(offset: int) -> str:
    """Return how far a settlement lies from its row's stamp, as its column is called; '' where it does not."""
    if not offset:
        return ""
    sign, far = ("+" if offset > 0 else "-"), abs(offset)
    unit = next(unit for unit in ("h", "min", "s") if far % UNITS[unit] == 0)
    return f"{sign}{far // UNITS[unit]}{unit}"


def apart_of(name: str) -> tuple[str, int] | None:
    """Return whether a column holds rates or marks of settlements, and how many microseconds these lie after the row's stamp.

    >>> apart_of("funding_rate+4h"), apart_of("funding_mark-30min"), apart_of("funding_rate")
    (('rate', 14400000000), ('mark', -1800000000), None)
    """
    found = APART.fullmatch(name)
    return (found[1], (1 if found[2] == "+" else -1) * int(found[3]) * UNITS[found[4]]) if found else None
