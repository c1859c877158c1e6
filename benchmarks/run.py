"""Measure bt_margin beside stock Backtrader and rewrite benchmarks/RESULTS.md.

    python benchmarks/run.py                    everything, some minutes
    python benchmarks/run.py --quick            few bars and rounds, printed, nothing is written
    python benchmarks/run.py --gate             the whole backtest only; exits with 1 when it costs more than allowed

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
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
GATE = 0.40  # of the CPU of stock Backtrader with PandasData, for the whole backtest
SWAP_TARGETS = {"flat": 1.00, "one position": 0.85, "ten positions": 0.70}
IMPORT_ROUNDS, PROCESS_ROUNDS = 7, 3
QUICK_BARS, QUICK_ROUNDS = 5_000, 2
IMPORT_PROGRAM = """
import json, resource, time
import backtrader, numpy
def now(): return time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = now()
import bt_margin
print(json.dumps([a - b for a, b in zip(now(), before)]))
"""
MEGA = 1024 if sys.platform != "darwin" else 1024**2  # what ru_maxrss counts in, to a megabyte

Seconds = Mapping[str, Sequence[float]]


class Bench:
    """Starts the processes that do the work, with their compiled modules kept in a folder of this run."""

    def __init__(self, cache: str) -> None:
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

    def group(self, name: str, bars: int, rounds: int) -> Any:
        """Return the figures of one group of the workload."""
        return self.python(str(HERE / "workload.py"), name, "--bars", str(bars), "--rounds", str(rounds))

    def processes(self, engine: str, bars: int, rounds: int) -> list[tuple[float, float]]:
        """Return CPU seconds and peak MB of whole processes that run W once."""
        program = str(HERE / "workload.py")
        return [self.measured(program, f"{engine}-process", "--bars", str(bars))[1:] for _ in range(rounds)]

    def imports(self, rounds: int) -> list[list[float]]:
        """Return CPU seconds and memory that ``import bt_margin`` adds to a process that has backtrader and numpy."""
        self.python("-c", IMPORT_PROGRAM)  # compiles the modules
        return [self.python("-c", IMPORT_PROGRAM) for _ in range(rounds)]


def spread(values: Sequence[float], scale: float = 1.0, digits: int = 1) -> str:
    """Return median and range: ``67.1 (66.0-70.2)``."""
    low, middle, high = (f"{value * scale:.{digits}f}" for value in (min(values), median(values), max(values)))
    return f"{middle} ({low}-{high})"


def ratios(seconds: Seconds, ours: str, stock: str) -> list[float]:
    """Return ours over stock, round by round."""
    return [a / b for a, b in zip(seconds[ours], seconds[stock], strict=True)]


def processor() -> str:
    """Return the processor's name where the system tells it."""
    listing = Path("/proc/cpuinfo")
    names = [line for line in listing.read_text().splitlines() if line.startswith("model name")] if listing.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, all columns but the first to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def whole_section(bars: int, seconds: Seconds, fills: int) -> str:
    """Return the section on W: CPU per bar of both engines and of their parts."""
    micros = 1e6 / bars
    rows = [
        [part, spread(seconds[f"stock {name}"], micros), spread(seconds[f"ours {name}"], micros), spread(found, 1, 3)]
        for part, name in (("feed made and loaded", "feed"), ("loop", "loop"), ("**whole backtest**", "whole"))
        if (found := ratios(seconds, f"ours {name}", f"stock {name}"))
    ]
    return f"""## Whole backtest

{bars:,} bars of workload W, {fills:,} fills; microseconds of CPU a bar, median (lowest-highest) of {len(seconds["ours whole"])} rounds.
Stock: `PandasData`, `BackBroker`, no funding. Ours: `PerpData` with funding, `MarginBroker` with seven tiers. Both in a stock
`Cerebro` without observers, from a frame in memory to the finished strategy. Every round checks that both had the same
fills and that their equity differs by the funding alone. Target: at most {GATE:.2f} of stock.

{table(["", "stock", "ours", "ours / stock"], rows)}"""


def swap_section(bars: int, seconds: Seconds) -> str:
    """Return the section on the broker alone."""
    rows = []
    for feed in ("PandasData", "PerpData"):
        for case, target in SWAP_TARGETS.items():
            stock, ours, per_bar = f"{feed}, {case}, stock", f"{feed}, {case}, ours", 10e6 if case == "ten positions" else 1e6
            figures = [spread(seconds[name], per_bar / bars) for name in (stock, ours)]
            rows.append([f"{feed}, {case}", *figures, spread(ratios(seconds, ours, stock), 1, 2), f"{target:.2f}"])
    return f"""## The broker alone

The same feed, strategy and loop, only the broker exchanged: nothing is traded (flat), or every data is bought on the first bar
and held. {bars:,} bars; ten contracts: {bars // 10:,} bars each. Microseconds of CPU a bar of the loop, all contracts together.

{table(["feed, case", "stock", "ours", "ours / stock", "target"], rows)}"""


def process_section(bars: int, found: Mapping[str, Sequence[tuple[float, float]]], imports: Sequence[Sequence[float]]) -> str:
    """Return the section on whole processes and on importing."""
    rows = [[engine, spread([cpu for cpu, _ in runs], 1, 2), spread([peak for _, peak in runs], 1, 0)] for engine, runs in found.items()]
    seconds, memory = zip(*imports, strict=True)
    return f"""## Whole processes

One process that makes the candles ({bars:,} bars, with pandas), runs W once and ends; imports included.

{table(["", "CPU seconds", "peak MB"], rows)}

`import bt_margin` after `import backtrader, numpy` adds {spread(seconds, 1e3)} ms of CPU and {spread(memory, 1 / MEGA)} MB
({len(imports)} processes, modules compiled before). Target: at most 30 ms and 3 MB."""


def machine_section(command: str, load: float) -> str:
    """Return what was measured where, and with which versions."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("backtrader", "numpy", "pandas"))
    return f"""# Benchmarks

Written by `{command}` on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; do not edit. CPU seconds are user and system time.

| | |
|---|---|
| processor | {processor()}, {os.cpu_count()} cores |
| system | {platform.system()} {platform.machine()}, load average {load:.1f} when this began |
| Python | {platform.python_implementation()} {platform.python_version()} |
| packages | bt_margin {version("bt_margin")}, {packages} |"""


def gate(bench: Bench, bars: int, rounds: int) -> int:
    """Print the ratio of the whole backtest; return 1 where it is above the gate."""
    found = ratios(bench.group("whole", bars, rounds)["seconds"], "ours whole", "stock whole")
    passed = median(found) <= GATE
    print(f"W, {bars:,} bars: {spread(found, 1, 3)} of stock's CPU, allowed {GATE:.2f}: {'passed' if passed else 'FAILED'}")
    return 0 if passed else 1


def report(bench: Bench, bars: int, rounds: int, swap_bars: int, command: str) -> str:
    """Measure everything and return the page."""
    load, few = os.getloadavg()[0], min(rounds, PROCESS_ROUNDS)
    processes = {engine: bench.processes(engine, bars, few) for engine in ("stock", "ours")}
    imports = bench.imports(IMPORT_ROUNDS if rounds > QUICK_ROUNDS else QUICK_ROUNDS)
    whole = bench.group("whole", bars, rounds)
    swap = bench.group("swap", swap_bars, rounds)
    sections = [
        machine_section(command, load),
        whole_section(bars, whole["seconds"], whole["fills"]),
        swap_section(swap_bars, swap["seconds"]),
        process_section(bars, processes, imports),
    ]
    return "\n\n".join(sections) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure bt_margin beside stock Backtrader.")
    parser.add_argument("--bars", type=int, default=100_000, help="bars of workload W (default: %(default)s; a year has 525600)")
    parser.add_argument("--swap-bars", type=int, default=20_000, help="bars for the broker alone (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_BARS} bars, {QUICK_ROUNDS} rounds, print and write nothing")
    parser.add_argument("--gate", action="store_true", help=f"measure W only; exit with 1 above {GATE} of stock's CPU")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file to write (default: benchmarks/RESULTS.md)")
    asked = parser.parse_args()
    if asked.rounds < 1 or asked.bars < 1_000 or asked.swap_bars < 1_000:
        parser.error("at least 1 round and 1000 bars are needed")
    bars, swap_bars, rounds = (QUICK_BARS, QUICK_BARS, QUICK_ROUNDS) if asked.quick else (asked.bars, asked.swap_bars, asked.rounds)
    command = " ".join(["python", "benchmarks/run.py", *sys.argv[1:]])
    with tempfile.TemporaryDirectory() as cache:
        bench = Bench(cache)
        if asked.gate:
            return gate(bench, bars, rounds)
        page = report(bench, bars, rounds, swap_bars, command)
    print(page)
    if not asked.quick:
        asked.out.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
