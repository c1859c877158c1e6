"""``bt-margin data check``: what is wrong with files of market data, and a repaired copy of those that can be repaired.

Exits 0 where nothing worse than notes was found, 1 after warnings, 2 after errors, with a sentence on stderr.
"""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from .frames import EPOCH_UNITS, span_text
from .interrupt import NAME
from .loading import fraction
from .quality import DISTANCE, SHOWN, Change, Report, bar_of, examine, repaired, worst_of
from .shapes import Reading, csv_head, form_of, opened_file, table_of

CODES = {"clean": 0, "note": 0, "warning": 1, "error": 2}


@dataclass
class _Fixed:
    """A repaired copy, the changes it has, and what is found in it."""

    path: Path
    changes: list[Change] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)


def register(app: typer.Typer) -> typer.Typer:
    """Add the commands about market data, and return what holds them."""
    commands = typer.Typer(help="Market data: what is in files, and what is wrong with them.")
    commands.callback(invoke_without_command=True)(_hall)
    commands.command("check")(check)
    app.add_typer(commands, name="data")
    return commands


def _hall(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Candles, mark prices and funding, in any known shape.")],
    distance: Annotated[str, typer.Option(metavar="SHARE", help="Name bars whose mark is so far from last, 0.05 or 5%.")] = f"{DISTANCE:g}",
    shape: Annotated[str | None, typer.Option(help="What the files are: ccxt, binance, bybit, okx, freqtrade or plain.")] = None,
    fix: Annotated[Path | None, typer.Option(metavar="DIR", help="Write repaired copies here: repeats, jitter, closing stamps.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all findings as JSON.")] = False,
) -> None:
    """Report gaps, repeats, impossible bars, marks far from last, funding that is off or missing, local time and wrong units.

    Exits 0 for nothing worse than notes, 1 after warnings, 2 after errors; with --fix by what is left in the copies.
    """
    reports = examine(files, shape=shape, distance=_share(distance))
    fixed = {} if fix is None else _repair(reports, fix, shape, _share(distance))
    left = [report for report in reports if report.path not in fixed] + [report for made in fixed.values() for report in made.reports]
    worst = worst_of(finding for report in left for finding in report.findings)
    if as_json:
        print(json.dumps({"worst": worst, "files": [_plain(report, fixed.get(report.path)) for report in reports]}, indent=2))
    else:
        for line in _lines(reports, fixed, is_fixing=fix is not None):
            print(line)
    if worst == "error":
        names = list(dict.fromkeys(report.path.name for report in left if worst_of(report.findings) == "error"))
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        print(f"{NAME}: errors in {', '.join(names[:SHOWN])}{more}; mend them before a backtest", file=sys.stderr)
    if CODES[worst]:
        sys.exit(CODES[worst])


def _share(text: str) -> float:
    try:
        share = fraction(text.strip())
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise ValueError(f"--distance takes a share of last such as 0.05 or 5%, was {text!r}")
    return share


# -- telling ---------------------------------------------------------------------------------------------------------


def _iso(micros: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(micros))
    return moment.isoformat().replace("+00:00", "Z")


def _said(change: Change) -> str:
    after = "" if change.after is None else f" to {_iso(change.after)}"
    return f"row {change.row} {_iso(change.before)}{after}: {change.what}"


def _plain(report: Report, fixed: _Fixed | None) -> dict[str, Any]:
    told: dict[str, Any] = {"file": str(report.path), "name": report.name, "worst": worst_of(report.findings)}
    reading = report.reading
    if reading is not None:
        bar = bar_of(reading.micros)
        told |= {"shape": reading.shape, "kind": reading.kind, "symbol": reading.symbol, "rows": len(reading.micros)}
        told |= {"first": _iso(min(reading.micros)), "last": _iso(max(reading.micros)), "bar": span_text(bar) if bar else None}
        told["notes"] = list(reading.notes)
    told["findings"] = [{**vars(finding), "times": [_iso(time) for time in finding.times]} for finding in report.findings]
    if fixed is not None:
        told["fixed"] = str(fixed.path)
        told["changes"] = [
            {"row": row, "what": what, "from": _iso(before), "to": None if after is None else _iso(after)}
            for row, what, before, after in fixed.changes
        ]
        told["left"] = [{"check": finding.check, "severity": finding.severity} for one in fixed.reports for finding in one.findings]
    return told


def _lines(reports: Sequence[Report], fixed: dict[Path, _Fixed], *, is_fixing: bool) -> Iterator[str]:
    for report in reports:
        yield f"{report.name}: {_heading(report.reading)}"
        for finding in report.findings:
            yield f"  {finding.severity:<8} {finding.check}: {finding.message}"
        for note in () if report.reading is None else report.reading.notes[1:]:
            yield f"  {'read':<8} {note}"
    for made in fixed.values():
        yield f"Wrote {made.path}, {len(made.changes)} changes:"
        yield from (f"  {_said(change)}" for change in made.changes)
    if is_fixing and not fixed:
        yield "Nothing was written: there is nothing that can be repaired without judgement."


def _heading(reading: Reading | None) -> str:
    if reading is None:
        return "not read"
    bar = bar_of(reading.micros)
    every = f" every {span_text(bar)}" if bar else ""
    span = f"{_iso(min(reading.micros))} to {_iso(max(reading.micros))}"
    kind = {"joint": "candles with marks or funding", "mark": "mark prices", "index": "index prices"}.get(reading.kind, reading.kind)
    return f"{reading.shape}, {kind}, {len(reading.micros)} rows{every}, {span}"


# -- repairing -------------------------------------------------------------------------------------------------------


def _repair(reports: Sequence[Report], folder: Path, shape: str | None, distance: float) -> dict[Path, _Fixed]:
    """Write a copy of every file that repairs change, and return them by the file; nothing is written over."""
    found: dict[Path, _Fixed] = {}
    for report in reports:
        changes = [] if report.reading is None else repaired(report.reading)[1]
        if changes:
            made = found.setdefault(report.path, _Fixed(folder / _copy_name(report.path)))
            made.changes = sorted([*made.changes, *changes])
    places = [made.path for made in found.values()]
    taken = [str(place) for place in places if place.exists() or places.count(place) > 1]
    if taken:
        raise ValueError(f"--fix would write over {taken[0]}; name an empty folder, and files of different names")
    readings = {report.path: report.reading for report in reports if report.reading is not None}
    for path, made in found.items():
        _write_copy(path, made, readings[path])
        made.reports = examine([made.path], shape=shape, distance=distance)
    return found


def _copy_name(path: Path) -> str:
    """Return the name of a copy: tables keep their kind, text comes unpacked as CSV."""
    if path.suffix.lower() in (".parquet", ".feather"):
        return path.name
    name = path.name
    while Path(name).suffix.lower() in (".gz", ".zip", ".bz2", ".xz", ".json", ".csv", ".txt"):
        name = Path(name).stem
    return f"{name}.csv"


def _write_copy(path: Path, made: _Fixed, reading: Reading) -> None:
    made.path.parent.mkdir(parents=True, exist_ok=True)
    draft = made.path.with_name(f".{made.path.name}.part")
    form = form_of(path, path.name)
    try:
        if form in ("parquet", "feather"):
            _write_table(table_of(path, form), made.changes, reading, draft, form)
        elif form == "json":
            _write_rows(reading, draft)
        else:
            _write_lines(path, made.changes, reading, draft)
        draft.replace(made.path)
    finally:
        draft.unlink(missing_ok=True)


def _write_table(table: Any, changes: Sequence[Change], reading: Reading, draft: Path, form: str) -> None:
    """Write a frame without the rows that were dropped, with the times that were moved, and all its columns."""
    import numpy as np
    import pandas as pd

    moved = {change.row: change.after for change in changes if change.after is not None}
    dropped = [change.row for change in changes if change.after is None]
    is_index = isinstance(table.index, pd.DatetimeIndex)
    times = (table.index.to_series() if is_index else table[reading.time_names[0]]).reset_index(drop=True)
    if moved:
        rows, after = list(moved), np.array(list(moved.values()), dtype="int64")
        times = times.copy()
        times.iloc[rows] = [_written(times.iloc[row], int(micros)) for row, micros in zip(rows, after, strict=True)]
    made = table.copy()
    if is_index:
        made.index = pd.DatetimeIndex(times, name=table.index.name)
    else:
        made[reading.time_names[0]] = times.to_numpy() if times.dtype == object else times.array
    made = made.iloc[np.setdiff1d(np.arange(len(made)), dropped)]
    if form == "parquet":
        made.to_parquet(draft, index=is_index)
    else:
        made.reset_index(drop=True).to_feather(draft)


def _write_rows(reading: Reading, draft: Path) -> None:
    """Write rows of JSON as a CSV of their numbers."""
    if reading.labels:
        raise ValueError(f"{reading.title} holds several series in JSON, which --fix does not copy; write each as a CSV")
    frame = repaired(reading)[0].frame
    frame.index = [_iso(micros) for micros in repaired(reading)[0].micros]
    frame.to_csv(draft, index_label="datetime")


def _write_lines(path: Path, changes: Sequence[Change], reading: Reading, draft: Path) -> None:
    """Write a CSV without the rows that were dropped and with the times that were moved; every other cell as it was."""
    above, mark, has_names = csv_head(path, path.name)
    changed = {change.row: change.after for change in changes}
    with opened_file(path, path.name) as stream, draft.open("w", encoding="utf-8", newline="") as out:
        lines = TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        for _ in range(above):
            next(lines)
        rows = (row for row in csv.reader(lines, delimiter=mark) if row)
        writer = csv.writer(out, delimiter=mark, lineterminator="\n")
        names = next(rows) if has_names else None
        if names is not None:
            writer.writerow(names)
        places = [name if names is None else names.index(name) for name in reading.time_names]
        for number, row in enumerate(rows):
            after = changed.get(number, number)
            if number in changed and after is None:
                continue
            if number in changed:
                _set_time(row, places, int(after or 0))
            writer.writerow(row)


def _set_time(row: list[str], places: Sequence[int], micros: int) -> None:
    whole = _written(" ".join(row[place] for place in places), micros)
    for place, text in zip(places, [whole] if len(places) == 1 else whole.split(" ", 1), strict=True):
        row[place] = text


def _written(before: Any, micros: int) -> Any:
    """Return an instant as another one is written: a count since 1970 in its unit, a text with its marks, a Timestamp in its zone."""
    import pandas as pd

    if isinstance(before, pd.Timestamp):
        moment = pd.Timestamp(micros, unit="us", tz="UTC")
        return moment.tz_localize(None) if before.tzinfo is None else moment.tz_convert(before.tzinfo)
    text = str(before).strip()
    if text.replace(".", "", 1).isdigit() and "." not in text[:9]:
        count = float(text)
        unit = next(unit for unit, length in EPOCH_UNITS.items() if abs(count * length - micros) < 400 * 86_400 * 10**6)
        made = round(micros / EPOCH_UNITS[unit])
        return made if not isinstance(before, str) else str(made)
    stamp = _iso(micros).removesuffix("Z")
    date, clock = stamp.split("T")
    zone = "Z" if text.endswith(("Z", "z")) else "+00:00" if any(sign in text[10:] for sign in "+-") else ""
    return date.replace("-", text[4]) + ("T" if "T" in text else " ") + clock + zone
