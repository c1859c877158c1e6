"""Rebuild the shipped candles from the sdist they were taken from, byte for byte.

    python data/rebuild_btcusdt.py [SDIST] [--out FILE]

Without SDIST the pinned version is fetched with pip. Nothing is invented: every price in the result is a field of the
raw file, as text. A candle is either kept as it is or dropped, and each drop is printed with its reason. Standard
library only.
"""

import argparse
import csv
import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import isfinite
from pathlib import Path

PACKAGE, VERSION = "gapless-crypto-clickhouse", "17.5.5"
MEMBER = "tests/fixtures/test_data_large/binance_spot_BTCUSDT-1h_20140101-20240101_v2.10.0.csv"
MEMBER_SHA256 = "01751d3b22e16e942023abb67c10332636cebeedf3274719c2b8d03b35cdaecc"
SHIPPED = Path(__file__).with_name("BTCUSDT-1h-2019-2023.csv.gz")
FIRST, LAST = datetime(2019, 1, 1, tzinfo=UTC), datetime(2023, 12, 31, 23, tzinfo=UTC)
HOUR = timedelta(hours=1)
PRICES = ("open", "high", "low", "close")
SHIPPED_FIELDS = (*PRICES, "volume")
# Two traded hours never agree in all nine figures, to the last digit of the volumes.
FIGURES = (*SHIPPED_FIELDS, "quote_asset_volume", "number_of_trades", "taker_buy_base_asset_volume", "taker_buy_quote_asset_volume")


@dataclass(frozen=True, slots=True)
class Candle:
    """One raw candle: the hour it opens (UTC) and its figures as the raw text has them."""

    start: datetime
    figures: dict[str, str]

    @property
    def traded(self) -> bool:
        """Whether anything traded in this candle."""
        return int(self.figures["number_of_trades"]) > 0

    @property
    def fingerprint(self) -> tuple[str, ...]:
        """All nine figures, by which a pasted copy is recognised."""
        return tuple(self.figures[name] for name in FIGURES)


@dataclass(frozen=True, slots=True)
class Repair:
    """What is kept of a raw file, and what was dropped for which reason (stamps inside the window, in order)."""

    kept: list[Candle]
    repeated: list[datetime]
    pasted: list[tuple[datetime, datetime]]
    off_hour: list[datetime]
    untraded: list[datetime]

    @property
    def gaps(self) -> list[tuple[datetime, int]]:
        """Runs of missing hours between kept candles, as (first missing hour, how many)."""
        steps = ((low.start + HOUR, (high.start - low.start) // HOUR - 1) for low, high in pairwise(self.kept))
        return [(start, missing) for start, missing in steps if missing > 0]


def candles(text: str) -> list[Candle]:
    """Return the candles of a raw CSV in the order of their stamps; lines that start with # are comments."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    rows = csv.DictReader(lines)
    found = [Candle(datetime.fromisoformat(row["date"]).replace(tzinfo=UTC), {name: row[name] for name in FIGURES}) for row in rows]
    return sorted(found, key=lambda candle: candle.start)


def repair(raw: Sequence[Candle], first: datetime = FIRST, last: datetime = LAST) -> Repair:
    """Return the candles from first to last (both included) that are whole UTC hours in which the venue traded.

    Dropped, in this order: a line that repeats the one before it; a candle whose nine figures appear again at a later
    stamp (upstream's gap filler read exchange stamps as local time and pasted candles 7 or 8 hours early, so the later
    one is the true one); a candle that does not open on a whole hour; a candle in which nothing traded. What is
    missing stays missing. Raises ValueError where one stamp has two different candles or a kept candle is impossible.
    """
    distinct, repeated = _without_repeats(raw)
    true_start = {candle.fingerprint: candle.start for candle in distinct if candle.traded}
    result = Repair([], [start for start in repeated if first <= start <= last], [], [], [])
    for candle in distinct:
        if not first <= candle.start <= last:
            continue
        if candle.traded and true_start[candle.fingerprint] != candle.start:
            result.pasted.append((candle.start, true_start[candle.fingerprint]))
        elif (candle.start.minute, candle.start.second, candle.start.microsecond) != (0, 0, 0):
            result.off_hour.append(candle.start)
        elif not candle.traded:
            result.untraded.append(candle.start)
        else:
            check(candle)
            result.kept.append(candle)
    return result


def _without_repeats(raw: Sequence[Candle]) -> tuple[list[Candle], list[datetime]]:
    distinct: list[Candle] = []
    repeated: list[datetime] = []
    for candle in raw:
        if not distinct or candle.start != distinct[-1].start:
            distinct.append(candle)
        elif candle.fingerprint == distinct[-1].fingerprint:
            repeated.append(candle.start)
        else:
            raise ValueError(f"{candle.start:%Y-%m-%d %H:%M} has two different candles; a stamp must have one, look at the raw file")
    return distinct, repeated


def check(candle: Candle) -> None:
    """Raise ValueError unless the prices are positive, the extremes hold the open and the close, and volume is >= 0."""
    figures = [float(candle.figures[name]) for name in SHIPPED_FIELDS]
    opening, high, low, close, volume = figures
    if not (all(map(isfinite, figures)) and 0 < low <= min(opening, close) and max(opening, close) <= high and volume >= 0):
        raise ValueError(
            f"{candle.start:%Y-%m-%d %H:%M} is no possible candle (open {opening:g}, high {high:g}, low {low:g}, close {close:g}, "
            f"volume {volume:g}); expected 0 < low <= open, close <= high and volume >= 0, look at the raw file"
        )


def shipped_csv(kept: Iterable[Candle]) -> bytes:
    """Return the CSV we ship: ISO stamps with Z, then open, high, low, close, volume as the raw text has them."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("datetime", *SHIPPED_FIELDS))
    for candle in kept:
        writer.writerow((f"{candle.start:%Y-%m-%dT%H:%M:%SZ}", *(candle.figures[name] for name in SHIPPED_FIELDS)))
    return out.getvalue().encode("ascii")


def packed(content: bytes) -> bytes:
    """Return the gzip of some bytes with neither name nor time in its header, so that it repeats exactly."""
    out = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=out, mtime=0) as stream:
        stream.write(content)
    return out.getvalue()


def raw_member(sdist: Path) -> bytes:
    """Return the raw candles inside an sdist; ValueError if they are not there."""
    with tarfile.open(sdist) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.name.endswith(MEMBER) else None
            if stream is not None:
                return stream.read()
    raise ValueError(f"{sdist.name} has no file {MEMBER}; give the sdist of {PACKAGE} {VERSION}")


def download(folder: Path) -> Path:
    """Return the pinned sdist, fetched into a folder with pip."""
    options = ["--quiet", "--no-deps", "--no-binary", PACKAGE, "--dest", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, f"{PACKAGE}=={VERSION}"], check=True)
    return next(folder.glob("*.tar.gz"))


def report(result: Repair) -> str:
    """Return what was kept and what was dropped, one line for each run of stamps."""
    hours = (LAST - FIRST) // HOUR + 1
    lines = [f"kept {len(result.kept)} of {hours} hours, {hours - len(result.kept)} missing"]
    lines += [f"dropped {len(result.repeated)} repeated lines"] + [f"  {start:%Y-%m-%d %H:%M}" for start in result.repeated]
    lines += [f"dropped {len(result.pasted)} pasted copies of later candles"]
    lines += [f"  {start:%Y-%m-%d %H:%M} copies {true:%Y-%m-%d %H:%M}" for start, true in result.pasted]
    lines += [f"dropped {len(result.off_hour)} off-hour stamps"] + [f"  {start:%Y-%m-%d %H:%M:%S}" for start in result.off_hour]
    lines += [f"dropped {len(result.untraded)} candles without a trade"] + [f"  {start:%Y-%m-%d %H:%M}" for start in result.untraded]
    lines += [f"left {len(result.gaps)} gaps, {sum(count for _, count in result.gaps)} hours"]
    lines += [f"  {start:%Y-%m-%d %H:%M}, {count} h" for start, count in result.gaps]
    return "\n".join(lines)


def rebuild(sdist: Path, out: Path) -> Repair:
    """Write the shipped file from an sdist whose member has the pinned checksum."""
    raw = raw_member(sdist)
    digest = hashlib.sha256(raw).hexdigest()
    if digest != MEMBER_SHA256:
        raise ValueError(f"the raw candles in {sdist.name} have sha256 {digest}, expected {MEMBER_SHA256}; use version {VERSION}")
    result = repair(candles(raw.decode("utf-8")))
    content = shipped_csv(result.kept)
    shipped = packed(content)
    out.write_bytes(shipped)
    print(report(result))
    print(f"sha256 of the raw file: {digest}")
    print(f"sha256 of the CSV:      {hashlib.sha256(content).hexdigest()}")
    print(f"sha256 of {out.name}: {hashlib.sha256(shipped).hexdigest()} ({len(shipped)} bytes)")
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Rebuild from the sdist named on the command line, or from a fresh download."""
    parser = argparse.ArgumentParser(description="rebuild the shipped BTCUSDT candles")
    parser.add_argument("sdist", nargs="?", type=Path, help=f"sdist of {PACKAGE} {VERSION}; fetched with pip when absent")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="file to write")
    given = parser.parse_args(arguments)
    if given.sdist is not None:
        rebuild(given.sdist, given.out)
        return
    with tempfile.TemporaryDirectory() as folder:
        rebuild(download(Path(folder)), given.out)


if __name__ == "__main__":
    main()
