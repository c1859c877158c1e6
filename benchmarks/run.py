"""Measure bt_margin beside stock Backtrader and rewrite benchmarks/RESULTS.md.

    python benchmarks/run.py                    everything, about a quarter of an hour
    python benchmarks/run.py --only swap calls  these groups, printed, nothing is written
    python benchmarks/run.py --quick            few bars and one round, printed, nothing is written
    python benchmarks/run.py --gate             what the targets are about; exits with 1 and names what is missed
    python benchmarks/run.py --scale            long runs and many contracts; rewrites benchmarks/RESULTS-SCALE.md

Absolute figures wander with the machine and with what else it does; the ratios, taken round by round in one process,
are what counts. This process imports the standard library only, so that the peak memory of the processes it starts is
their own.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import figures
import memory
import tables

HERE = Path(__file__).parent
RESULTS, SCALE_RESULTS = HERE / "RESULTS.md", HERE / "RESULTS-SCALE.md"
CASES = str(HERE / "cases.py")
SIZES = {  # bars, rounds
    "whole": (100_000, 5),
    "swap": (20_000, 9),
    "calls": (20_000, 7),
    "reversals": (20_000, 5),
    "series": (20_000, 5),
    "variants": (10_000, 3),
    "features": (10_000, 3),
    "walks": (1_000, 3),
    "results": (35_064, 3),
    "parts": (20_000, 3),
    "sweeps": (100_000, 5),
}
QUICK = (2_000, 1)
QUICK_HOURS = (500, 1)  # of groups whose bars are hours
HOURLY = ("walks", "results")
GATED = ("whole", "swap", "calls", "reversals", "series", "sweeps")
YEAR, QUICK_YEAR = 525_600, 5_000
IMPORT_ROUNDS, SCALE_ROUNDS, MEMORY_ROUNDS = 7, 5, 2
LONG_RUNS = {  # contracts x bars: with stock beside or not
    (1, 10_000): True, (1, 100_000): True, (1, 1_000_000): True, (1, 5_000_000): False,
    (10, 20_000): True, (50, 20_000): True, (200, 20_000): False,
}  # fmt: skip
QUICK_RUNS = {(1, 2_000): True, (5, 500): False}
IMPORT_PROGRAM = """
import json, resource, sys, time
import backtrader, numpy
def now(): return time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = now()
import bt_margin
imported = now()
bt_margin.run, bt_margin.MarginBroker, bt_margin.PerpCommInfo, bt_margin.PerpData
used = now()
sys.path.insert(0, sys.argv[1])
import workload
yardstick = workload.yardstick(workload.candles(10_000))
def since(after): return {"seconds": after[0] - before[0], "MB": (after[1] - before[1]) / float(sys.argv[2])}
print(json.dumps({**since(imported), "used": since(used), "yardstick": yardstick}))
"""
MEGA = 1024 if sys.platform != "darwin" else 1024**2  # what ru_maxrss counts in, to a megabyte


class Bench:
    """Starts the processes that do the work, with their compiled modules kept in a folder of this run."""

    def __init__(self, cache: str, *, is_quick: bool) -> None:
        self.is_quick = is_quick
        self.environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def python(self, *arguments: str) -> Any:
        """Return what a Python process prints, read as JSON."""
        return self.measured(*arguments)[0]

    def measured(self, *arguments: str) -> tuple[Any, float, float]:
        """Return what a Python process prints, its CPU seconds and its peak memory in MB."""
        command = [sys.executable, "-W", "ignore", *arguments]
        with subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            printed = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(arguments)[:80]} ended with {process.returncode}")
        return json.loads(printed), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / MEGA

    def group(self, name: str) -> Any:
        """Return the figures of one group."""
        bars, rounds = (QUICK_HOURS if name in HOURLY else QUICK) if self.is_quick else SIZES[name]
        return self.python(CASES, name, "--bars", str(bars), "--rounds", str(rounds))

    def imports(self) -> list[dict[str, float]]:
        """Return CPU seconds and MB that ``import bt_margin`` adds to a process that has backtrader and numpy, with a yardstick.

        ``used`` is the same once what a backtest takes has been named: names may be imported where they are first used.
        """
        arguments = ("-c", IMPORT_PROGRAM, str(HERE), str(MEGA))
        self.python(*arguments)  # compiles the modules
        return [self.python(*arguments) for _ in range(1 if self.is_quick else IMPORT_ROUNDS)]

    def memory(self) -> dict[str, list[float]]:
        """Return peak MB of a year of minutes without pandas, and of two such processes that share the candles."""
        return memory.peaks(self.environment, *((QUICK_YEAR, 1) if self.is_quick else (YEAR, MEMORY_ROUNDS)))

    def processes(self, bars: int) -> dict[str, list[tuple[float, float]]]:
        """Return CPU seconds and peak MB of whole processes that run W once, by engine."""
        engines = self.python(CASES, "engines")
        return {name: [self.measured(CASES, "process", "--engine", name, "--bars", str(bars))[1:]] for name in engines}

    def long_run(self, contracts: int, bars: int, engine: str) -> Any:
        """Return seconds of a bar and peak MB of one run."""
        return self.python(CASES, "scale", "--contracts", str(contracts), "--bars", str(bars), "--engine", engine)

    def scale(self) -> dict[str, dict[str, list[Any]]]:
        """Return runs of ten thousand bars to a million, in turn, and of stock's for the shorter ones."""
        scales = figures.SCALES[:1] if self.is_quick else figures.SCALES
        found: dict[str, dict[str, list[Any]]] = {"ours": {}, "stock": {}}
        for _ in range(1 if self.is_quick else SCALE_ROUNDS):
            for bars in scales:
                found["ours"].setdefault(f"1 x {bars}", []).append(self.long_run(1, bars, "ours"))
        found["stock"] = {f"1 x {bars}": [self.long_run(1, bars, "stock")] for bars in scales[:2]}
        check_same_fills(found)
        return found


def check_same_fills(found: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> None:
    """Stop where stock and ours did not trade the same in long runs."""
    for case, runs in found["stock"].items():
        fills = {run["fills"] for run in (*runs, *found["ours"][case])}
        if len(fills) > 1:
            raise SystemExit(f"the runs of {case} bars differ: {sorted(fills)} fills")


def processor() -> str:
    """Return the processor's name where the system tells it."""
    listing = Path("/proc/cpuinfo")
    names = [line for line in listing.read_text().splitlines() if line.startswith("model name")] if listing.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def machine_section(command: str, load: float, stock: float | None) -> str:
    """Return what was measured where, with which versions, and how fast the machine is; ``stock``: us that it took for a bar of W."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("backtrader", "numpy", "pandas"))
    speed = (
        ""
        if stock is None
        else f"\n| speed | stock takes {stock:.1f} us for a bar of W, {figures.NOMINAL / stock:.2f} of the nominal speed |"
    )
    return f"""# Benchmarks

Written by `{command}` on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; do not edit. CPU seconds are user and system time.

| | |
|---|---|
| processor | {processor()}, {os.cpu_count()} cores |
| system | {platform.system()} {platform.machine()}, load average {load:.1f} when this began |
| Python | {platform.python_implementation()} {platform.python_version()} |
| packages | bt_margin {version("bt_margin")}, {packages} |{speed}

Targets in microseconds are of a machine on which stock Backtrader takes {figures.NOMINAL} us for a bar of W. *Nominal us* = measured us x
{figures.NOMINAL} / what stock took for W in the same round here."""


def collect(bench: Bench, names: Collection[str]) -> dict[str, Any]:
    """Return the figures of the named groups."""
    found = {name: bench.group(name) for name in SIZES if name in names}
    if "processes" in names:
        year = QUICK_YEAR if bench.is_quick else YEAR
        found |= {"processes": bench.processes(year), "year": year}
    if "imports" in names or "processes" in names:
        found |= {"imports": bench.imports(), "memory": bench.memory()}
    if "scale" in names:
        found["scale"] = bench.scale()
    return found


def page(found: dict[str, Any], command: str, load: float, *, is_whole: bool) -> str:
    """Return all sections there are figures for; of a whole page also what the targets say."""
    micros = [seconds * 1e6 for seconds in found["whole"]["yardstick"]] if "whole" in found else []
    sections = [machine_section(command, load, median(micros) if micros else None)]
    sections += [tables.checks_section(figures.checks(found))] if is_whole else []
    sections += [section(found[name]) for name, section in tables.SECTIONS.items() if name in found]
    sections += [tables.process_section(found)] if "processes" in found else []
    sections += [tables.scale_section(found["scale"])] if "scale" in found else []
    return "\n\n".join(sections) + "\n"


def gate(bench: Bench) -> int:
    """Print what every target asks and what was found; return 1 where one is missed."""
    found = figures.checks(collect(bench, (*GATED, "imports", "scale")))
    print("\n".join(str(check) for check in found))
    missed = [check.name for check in found if not check.passed]
    print(f"{len(missed)} of {len(found)} missed: {'; '.join(missed)}" if missed else f"all {len(found)} met")
    return 1 if missed else 0


def long_runs(bench: Bench) -> dict[str, Any]:
    """Return the figures of long runs and many contracts."""
    found: dict[str, dict[str, list[Any]]] = {"ours": {}, "stock": {}}
    chosen = QUICK_RUNS if bench.is_quick else LONG_RUNS
    for _ in range(1 if bench.is_quick else SCALE_ROUNDS):
        for contracts, bars in chosen:
            found["ours"].setdefault(f"{contracts} x {bars}", []).append(bench.long_run(contracts, bars, "ours"))
    found["stock"] = {
        f"{contracts} x {bars}": [bench.long_run(contracts, bars, "stock")] for (contracts, bars), has in chosen.items() if has
    }
    check_same_fills(found)
    return {"scale": found}


def asked(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description="Measure bt_margin beside stock Backtrader.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--gate", action="store_true", help="measure what the targets are about; exit with 1 where one is missed")
    what.add_argument("--scale", action="store_true", help=f"long runs and many contracts, many minutes; rewrites {SCALE_RESULTS.name}")
    what.add_argument("--only", nargs="+", choices=(*SIZES, "processes", "scale"), help="measure these groups, print and write nothing")
    parser.add_argument("--quick", action="store_true", help="few bars and one round, print and write nothing")
    parser.add_argument("--out", type=Path, help=f"file to write (default: benchmarks/{RESULTS.name})")
    return parser.parse_args(arguments)


def main() -> int:
    wanted, load = asked(), os.getloadavg()[0]
    command = " ".join(["python", "benchmarks/run.py", *sys.argv[1:]])
    with tempfile.TemporaryDirectory() as cache:
        bench = Bench(cache, is_quick=wanted.quick)
        if wanted.gate:
            return gate(bench)
        names = wanted.only or (*SIZES, "processes", "scale")
        found = long_runs(bench) if wanted.scale else collect(bench, names)
    text = page(found, command, load, is_whole=not wanted.scale and not wanted.only)
    print(text)
    if not wanted.quick and not wanted.only:
        (wanted.out or (SCALE_RESULTS if wanted.scale else RESULTS)).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
