"""``bt-margin data fetch`` and ``data join``: market data from a venue or from its archives as tidy files, what they lack told.

``fetch`` exits 0, 1 where something that was asked for is missing, 130 after Ctrl-C, with what was fetched kept; ``join`` 0, 1 where
the series has warnings.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from .fetching import KINDS, Fetched, Request, fetch, iso
from .interrupt import INTERRUPTED, NAME
from .joining import Terms, chained, instant
from .quality import SHOWN, check, refuse_errors, repaired
from .terminal import shown

MILLI = 1_000  # microseconds


def register(commands: typer.Typer) -> None:
    """Add the commands to those about market data."""
    commands.command("fetch")(fetch_data)
    commands.command("join")(join)


def fetch_data(
    symbol: Annotated[str, typer.Option(help="The perpetual: BTCUSDT, BTC/USDT:USDT or as the venue spells it.")],
    since: Annotated[str, typer.Option(help="First bar and settlement, 2021-01-01 or 2021-01-01T08:00, UTC.")],
    venue: Annotated[str, typer.Option(help="A venue of ccxt's: binance, bybit, okx ...")] = "binance",
    until: Annotated[str | None, typer.Option(help="Where it ends, itself left out; now unless given.")] = None,
    timeframe: Annotated[str, typer.Option(help="Length of the bars: 1m, 5m, 1h, 4h, 1d.")] = "1h",
    what: Annotated[str, typer.Option(help="Some of last, mark, index, funding, tiers.")] = ",".join(KINDS),
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the files.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest.")] = False,
) -> None:
    """Fetch candles, mark and index prices, funding and tiers through ccxt; after an interruption the same command goes on.

    Exits 1 where something that was asked for is missing.
    """
    first, end = instant(since, "--since"), None if until is None else instant(until, "--until")
    kinds = tuple(word.strip() for word in what.split(",") if word.strip())
    request = Request(venue.lower(), symbol, int(first or 0) // MILLI, None if end is None else end // MILLI, timeframe, kinds)
    try:
        with shown() as progress:
            fetched = fetch(request, out, tell=progress)
    except KeyboardInterrupt:
        print(f"{NAME}: stopped; what was fetched is kept, the same command goes on from there", file=sys.stderr)
        sys.exit(INTERRUPTED)
    if as_json:
        print(json.dumps(fetched.manifest, indent=2))
    else:
        for line in _lines(fetched):
            print(line)
    for sentence in fetched.manifest["missing"].values():
        print(f"{NAME}: {sentence}", file=sys.stderr)
    if fetched.manifest["missing"]:
        sys.exit(1)


def _lines(fetched: Fetched) -> Iterator[str]:
    did = "Kept" if fetched.was_there else "Wrote"
    for entry in fetched.manifest["files"]:
        yield f"{did} {fetched.path.with_name(entry['file'])}: {_told(entry)}"
    yield f"{did} {fetched.path}"
    asked, end = fetched.manifest["asked"]["until"], fetched.manifest["end"]
    if fetched.was_there and asked != end:
        yield f"All of it ends at {end}, when it was fetched; to have what came since, name another folder with --out."


def _told(entry: Mapping[str, Any]) -> str:
    if entry["kind"] == "tiers":
        return f"{entry['rows']} tiers, as of {entry['retrieved']}" + (f"; not sound: {entry['fault']}" if entry["fault"] else "")
    told = f"{entry['rows']} rows, {entry['first']} to {entry['last']}"
    gaps = [f"{gap['from']} to {gap['to']}" for gap in entry["gaps"]]
    rest = f" and {len(gaps) - SHOWN} more" if len(gaps) > SHOWN else ""
    return told + (f"; gaps: {', '.join(gaps[:SHOWN])}{rest}" if gaps else ", no gap")


def join(
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="Files of one series, or folders of them.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The tidy file, .parquet or .csv.")],
    shape: Annotated[str | None, typer.Option(help="What the files are: ccxt, binance, bybit, okx, freqtrade or plain.")] = None,
) -> None:
    """Put files of one series, a venue's monthly archives say, together to one tidy file, and tell its gaps.

    Exits 1 where it has warnings; errors are refused.
    """
    if out.suffix.lower() not in (".parquet", ".csv"):
        raise ValueError(f"--out names a .parquet or a .csv file, was {out}")
    if out.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        raise ValueError(f"to write {out.name} needs pyarrow: run pip install 'bt_margin[parquet]', or name a .csv")
    if out.exists():
        raise ValueError(f"--out would write over {out}; name a file that is not there")
    reading = chained(files, "", "", Terms(shape=shape))
    clean, changes = repaired(reading)
    found = check(clean)
    refuse_errors(found, reading.name)
    frame = clean.frame.rename(columns={"rate": "funding_rate", "paid_by": "mark_price"})
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.draft")
    try:
        if out.suffix.lower() == ".csv":
            frame.to_csv(draft, date_format="%Y-%m-%dT%H:%M:%S.%fZ", lineterminator="\n")
        else:
            frame.to_parquet(draft)
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    span = f"{iso(int(clean.micros[0]) // MILLI)} to {iso(int(clean.micros[-1]) // MILLI)}"
    print(f"Wrote {out}: {clean.kind}, {len(frame)} rows, {span}")
    for what in dict.fromkeys(change.what for change in changes):
        print(f"  {sum(change.what == what for change in changes)} rows: {what}")
    for finding in found:
        print(f"  {finding.severity:<8} {finding.check}: {finding.message}")
    if any(finding.severity == "warning" for finding in found):
        sys.exit(1)
