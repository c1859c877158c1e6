"""``bt-margin tiers``: the tier table of a contract at a date, what changed between two, and whether a file of one's own is sound."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from math import inf, isinf
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from . import venues
from .core.tiers import TierSchedule, TierTable
from .terminal import console
from .venues import readers
from .venues.fields import one_of, parsed

UNIT_NAMES = {"quote": "of notional", "base": "base coins", "contracts": "contracts"}
SHAPES = ("ccxt", "binance", "bybit", "okx", "hyperliquid", "venue", "csv", "toml")

Venue = Annotated[str, typer.Option(help="Whose tables: binance, binance-coinm, bybit, okx, bitget, gate, hyperliquid, dydx.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True)
class Dated:
    """A tier table in force at a date: since when (None: always), and where it is from."""

    symbol: str
    table: TierTable
    valid_from: str | None
    source: str
    is_earlier: bool = False  # than the first table there is, which then applies (R5)


def register(app: typer.Typer) -> None:
    """Add the commands about tiers."""
    commands = typer.Typer(help="Maintenance tiers: a table at a date, what changed, and whether a file is sound.", no_args_is_help=True)
    for name, command in (("show", show), ("diff", diff), ("check", check)):
        commands.command(name)(command)
    app.add_typer(commands, name="tiers")


def show(
    symbol: Annotated[str, typer.Argument(help="The contract: BTCUSDT, or as the venue spells it.")],
    venue: Venue = "binance",
    date: Annotated[str | None, typer.Option(help="The table of a day, 2024-05-01; the newest unless given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print a contract's tier table at a date."""
    dated = in_force(venue, symbol, date)
    if as_json:
        print(json.dumps({"venue": venue, "date": date, **_plain(dated)}, indent=2))
        return
    since = f"from {dated.valid_from}" if dated.valid_from else "always"
    _print(_table(f"{dated.symbol} at {venue}, {since}", dated.table))
    print(f"{_kind(dated.table)}. Source: {dated.source}.")
    if dated.is_earlier:
        print(f"No table of {date} is known; the first that is applies.")


def diff(
    symbol: Annotated[str, typer.Argument(help="The contract: BTCUSDT, or as the venue spells it.")],
    before: Annotated[str, typer.Option("--from", metavar="DATE", help="The earlier day, 2022-03-01.")],
    after: Annotated[str | None, typer.Option("--to", metavar="DATE", help="The later day; the newest table unless given.")] = None,
    venue: Venue = "binance",
    as_json: AsJson = False,
) -> None:
    """Print what changed of a contract's tiers between two dates."""
    old, new = in_force(venue, symbol, before), in_force(venue, symbol, after)
    if after is not None and _moment(before) > _moment(after):
        raise ValueError(f"--from is the earlier day and --to the later one, were {before} and {after}")
    changes = list(changed(old.table, new.table))
    if as_json:
        plain = [{name: _finite(value) for name, value in change.items()} for change in changes]
        print(json.dumps({"venue": venue, "symbol": new.symbol, "before": _plain(old), "after": _plain(new), "changes": plain}, indent=2))
        return
    print(f"{new.symbol} at {venue}: the table from {old.valid_from or 'always'}, then the one from {new.valid_from or 'always'}.")
    if old.is_earlier:
        print(f"No table of {before} is known; the first that is applies.")
    if old.table.unit != new.table.unit or old.table.mode != new.table.mode:
        print(f"{_kind(old.table)}; then {_kind(new.table)}.")
    if not changes:
        print("Nothing changed.")
        return
    shown = Table()
    for name in ("above", "up to", "rate", "amount", "leverage"):
        shown.add_column(name, justify="right", no_wrap=True)
    for change in changes:
        pairs = [
            _pair(change, "rate", _percent),
            _pair(change, "amount", _number),
            _pair(change, "max_leverage", lambda value: f"{_number(value)}x"),
        ]
        shown.add_row(_number(change["floor"]), _number(change["cap"]), *pairs)
    _print(shown)


def check(
    file: Annotated[Path, typer.Argument(help="JSON of ccxt or a venue, a venue file as bt_margin has them, CSV or TOML.")],
    shape: Annotated[str | None, typer.Option(help=f"What it is: {', '.join(SHAPES)}; found unless given.")] = None,
    exchange: Annotated[str | None, typer.Option(help="Of ccxt's JSON without 'info': okx, binancecoinm ...")] = None,
    mode: Annotated[str | None, typer.Option(help="Of ccxt's JSON and of CSV: marginal or slab.")] = None,
    unit: Annotated[str | None, typer.Option(help="Of CSV: quote, base or contracts.")] = None,
    rates: Annotated[str | None, typer.Option(help="Of Bybit's rows without an initial margin: fraction or percent.")] = None,
    category: Annotated[str | None, typer.Option(help="Of Bybit's rows without it: linear or inverse.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a file of tiers is sound, and what it holds; exits 2 with the first fault where it is not."""
    found = shape or shape_of(file)
    one_of(found, SHAPES, "--shape")
    given = {"exchange": exchange, "mode": mode, "unit": unit, "rates": rates, "category": category}
    schedules = tables_in(file, found, {name: value for name, value in given.items() if value is not None})
    rows = [_summary(symbol, start, table) for symbol, schedule in schedules.items() for start, table in _dates(schedule)]
    if as_json:
        print(json.dumps({"file": str(file), "shape": found, "sound": True, "tables": rows}, indent=2))
        return
    shown = Table(title=f"{file.name}: {found}, {len(rows)} sound table{'s' if len(rows) > 1 else ''}", title_justify="left")
    for name in ("symbol", "from", "tiers", "of", "first rate", "last rate", "leverage", "last cap"):
        shown.add_column(name, justify="left" if name in ("symbol", "of") else "right", no_wrap=True)
    for row in rows:
        cap = "none" if row["last_cap"] is None else _number(row["last_cap"])
        figures = (_percent(row["first_rate"]), _percent(row["last_rate"]), f"{_number(row['max_leverage'])}x", cap)
        shown.add_row(row["symbol"] or "-", row["valid_from"] or "always", str(row["tiers"]), f"{row['unit']}, {row['mode']}", *figures)
    _print(shown)


# -- tables ----------------------------------------------------------------------------------------------------------


def in_force(venue: str, symbol: str, date: str | None) -> Dated:
    """Return the table of a contract that was in force at a date, the newest without one."""
    contract = venues.load(venue.lower(), date).contract(symbol)
    start, table = contract.tiers.dates[-1], contract.tiers.tables[-1]
    since = _day(start)
    is_earlier = date is not None and start > _moment(date)
    source = contract.sources.get(f"tiers from {since}") or contract.sources.get("tiers", "")
    return Dated(contract.symbol, table, since, source.rstrip("."), is_earlier)


def _moment(date: str) -> float:
    asked = datetime.fromisoformat(date)
    return (asked if asked.tzinfo else asked.replace(tzinfo=UTC)).timestamp()


def changed(old: TierTable, new: TierTable) -> Iterator[dict[str, Any]]:
    """Yield the spans of size in which rate, amount or leverage of two tables differ, by (before, after); None where a table ended."""
    edges = sorted({0.0, *(tier.cap for tier in (*old.tiers, *new.tiers))})
    for floor, cap in pairwise(edges):
        told: dict[str, Any] = {"floor": floor, "cap": cap}
        for when, table in (("before", old), ("after", new)):
            bracket = table.bracket_at(cap) if cap <= table.tiers[-1].cap else None
            for name in ("rate", "amount", "max_leverage"):
                told[f"{name}_{when}"] = None if bracket is None else getattr(bracket, name)
        if any(told[f"{name}_before"] != told[f"{name}_after"] for name in ("rate", "amount", "max_leverage")):
            yield told


def shape_of(file: Path) -> str:
    """Return what a file of tiers is, by its suffix and its fields; ValueError for what no reader reads."""
    suffix = file.suffix.lower()
    if suffix in (".csv", ".toml"):
        return suffix[1:]
    entry = parsed(file)[0]
    first: Any = entry[0] if isinstance(entry, list) and entry else entry
    fields = set(first) if isinstance(first, Mapping) else set()
    marks = (
        ("venue", {"contracts", "profile"}),
        ("binance", {"brackets"}),
        ("hyperliquid", {"universe"}),
        ("ccxt", {"minNotional"}),
        ("bybit", {"riskLimitValue"}),
        ("bybit", {"result"}),
        ("okx", {"maxSz"}),
        ("okx", {"data"}),
    )
    found = next((shape for shape, names in marks if names <= fields), None)
    if found is None and isinstance(entry, Mapping) and entry and all(_is_ccxt(value) for value in entry.values()):
        found = "ccxt"
    if found is None:
        raise ValueError(
            f"{file.name} is not known as tiers by its fields ({', '.join(sorted(map(str, fields))[:6]) or 'none'}); "
            f"name its --shape, one of {', '.join(SHAPES)}"
        )
    return found


def _is_ccxt(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping) and "minNotional" in value[0]


def tables_in(file: Path, shape: str, terms: Mapping[str, str]) -> dict[str, TierSchedule]:
    """Return the dated tables of a file by symbol; ValueError for the first fault, and for a term that its shape has no use for."""
    allowed = {"ccxt": {"exchange", "mode"}, "bybit": {"rates", "category"}, "csv": {"mode", "unit"}}.get(shape, set())
    for name in terms:
        if name not in allowed:
            raise ValueError(f"--{name} says nothing of a file that is {shape}; leave it out")
    given: dict[str, Any] = dict(terms)
    if shape == "venue":
        return {contract.symbol: contract.tiers for contract in venues.read(file).contracts.values()}
    if shape == "csv":
        return readers.csv_tiers(file, **given)
    if shape == "toml":
        return readers.toml_tiers(file)
    read: dict[str, Any] = {
        "ccxt": readers.ccxt_tiers,
        "binance": readers.binance_brackets,
        "bybit": readers.bybit_risk_limits,
        "okx": readers.okx_position_tiers,
        "hyperliquid": readers.hyperliquid_meta,
    }
    return {symbol: TierSchedule.constant(table) for symbol, table in read[shape](file, **given).items()}


def _dates(schedule: TierSchedule) -> Iterator[tuple[float, TierTable]]:
    return zip(schedule.dates, schedule.tables, strict=True)


def _day(start: float) -> str | None:
    return None if isinf(start) else datetime.fromtimestamp(start, UTC).date().isoformat()


def _summary(symbol: str, start: float, table: TierTable) -> dict[str, Any]:
    first, last = table.tiers[0], table.tiers[-1]
    return {
        "symbol": symbol,
        "valid_from": _day(start),
        "tiers": len(table.tiers),
        "mode": table.mode,
        "unit": table.unit,
        "first_rate": first.rate,
        "last_rate": last.rate,
        "max_leverage": first.max_leverage,
        "last_cap": _finite(last.cap),
    }


# -- telling ---------------------------------------------------------------------------------------------------------


def _plain(dated: Dated) -> dict[str, Any]:
    rows = [
        {
            "floor": tier.floor,
            "cap": _finite(tier.cap),
            "rate": tier.rate,
            "amount": bracket.amount,
            "max_leverage": _finite(tier.max_leverage),
        }
        for tier, bracket in zip(dated.table.tiers, dated.table.brackets, strict=True)
    ]
    told = {"symbol": dated.symbol, "valid_from": dated.valid_from, "is_earlier_than_known": dated.is_earlier, "source": dated.source}
    return {**told, "mode": dated.table.mode, "unit": dated.table.unit, "tiers": rows}


def _finite(value: Any) -> Any:
    return None if value == inf else value


def _kind(table: TierTable) -> str:
    how = (
        "each part of a position is charged its tier's rate"
        if table.mode == "marginal"
        else "the whole position is charged its tier's rate"
    )
    return f"Edges count {'notional' if table.unit == 'quote' else UNIT_NAMES[table.unit]}, {how}"


def _table(title: str, table: TierTable) -> Table:
    shown = Table(title=title, title_justify="left")
    for name in ("tier", "above", "up to", "rate", "amount", "leverage"):
        shown.add_column(name, justify="right", no_wrap=True)
    for number, (tier, bracket) in enumerate(zip(table.tiers, table.brackets, strict=True), 1):
        figures = (_number(tier.floor), _number(tier.cap), _percent(tier.rate), _number(bracket.amount), f"{_number(tier.max_leverage)}x")
        shown.add_row(str(number), *figures)
    return shown


def _pair(change: Mapping[str, Any], name: str, said: Any) -> str:
    before, after = change[f"{name}_before"], change[f"{name}_after"]
    told: Sequence[str] = ["none" if value is None else said(value) for value in (before, after)]
    return told[0] if before == after else " to ".join(told)


def _percent(rate: float) -> str:
    return f"{100 * rate:.10g} %"


def _number(value: float) -> str:
    return "any" if isinf(value) else f"{value:,.10g}"


def _print(table: Table) -> None:
    console().print(table)
