"""Sweeps through the event loop: 64 runs of workload W by one worker and by two, and by stock's ``optstrategy``.

    python benchmarks/sweeps.py                 printed as JSON: seconds on the clock by engine and round, megabytes
    python benchmarks/sweeps.py --bars 2000     of fewer bars

``measure`` is what the benchmark calls. A sweep is ``bm.compare`` of eight sizing rules at eight leverages on the same signals, from
a frame in memory to the ranked table: workers are started, candles handed out and curves collected within the time.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import backtrader as bt
import workload as work

import bt_margin as bm

if TYPE_CHECKING:
    import pandas as pd

LEVERAGES = (1, 2, 3, 4, 5, 6, 8, 10)
RULES = tuple(f"equity:fraction={percent / 100:g}" for percent in range(1, 9))
WORKERS = 2
STOCK_RUNS = 4
YARDSTICK_BARS = 10_000
FULL, YEAR = 100_000, 525_600  # bars
FEW_LEVERAGES = (3, 4)
EVERY_SECONDS = 0.1  # how often memory is looked at
MEGA = 1024 if sys.platform != "darwin" else 1024**2  # what ru_maxrss counts in, to a megabyte


class Sized(work.Cross):
    """W with the size of the sizer's choice: one reversing order at every cross."""

    def __init__(self):
        super().__init__()
        self.side = 0

    def next(self):
        side = 1 if self.fast[0] > self.slow[0] else -1
        if side != self.side:
            self.side = side
            self.order_target_size(target=side * self.getsizing(isbuy=side > 0))


class StockSized(work.Cross):
    """W in units that differ from run to run."""

    params = (("units", 20),)

    def next(self):
        target = self.p.units if self.fast[0] > self.slow[0] else -self.p.units
        if self.position.size != target:
            self.order_target_size(target=target)


def measure(bars: int = FULL, rounds: int = 1) -> dict[str, Any]:
    """Return the seconds on the clock of a sweep by engine and round, of a run of stock's, the yardsticks, and megabytes of two workers.

    Memory is that of the two workers, and of two whose runs have a year (as many bars as the others where these are fewer than usual).
    """
    year, peaks = YEAR if bars >= FULL else bars, []
    frame, yardsticks = work.candles(bars), []
    short = frame.iloc[:YARDSTICK_BARS]
    seconds: dict[str, list[float]] = {"one worker": [], "two workers": [], "stock, two workers": []}
    for number in range(rounds):
        yardsticks.append(work.yardstick(short))
        for workers in (1, WORKERS) if number % 2 == 0 else (WORKERS, 1):  # a machine that slows down favours neither
            with watched() as peak:
                took = swept(frame, workers, LEVERAGES)
            seconds["one worker" if workers == 1 else "two workers"].append(took)
            peaks += [peak["workers"]] if workers == WORKERS else []
        seconds["stock, two workers"].append(optimized(frame))
    with watched() as peak:
        swept(work.candles(year), WORKERS, FEW_LEVERAGES)
    parent = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEGA
    return {
        "bars": bars,
        "rounds": rounds,
        "runs": len(RULES) * len(LEVERAGES),
        "stock_runs": STOCK_RUNS,
        "year": year,
        "seconds": seconds,
        "yardstick": yardsticks,
        "megabytes": {"workers": peaks, "year": peak["workers"], "parent": parent},
    }


def swept(frame: "pd.DataFrame", workers: int, leverages: tuple[int, ...]) -> float:
    """Return the seconds on the clock of the sweep by so many workers; stops where a run failed or did not trade."""
    begun = time.perf_counter()
    comparison = bm.compare(
        Sized, {"BTCUSDT": frame}, sizers=RULES, leverages=leverages, funding=work.FUNDING, fee=work.FEE, cash=work.CASH, workers=workers
    )
    took = time.perf_counter() - begun
    table = comparison.table
    if len(table) != len(RULES) * len(leverages) or table["errors"].any() or not (table["trades"] > 1).all():
        raise SystemExit("not every run of the sweep was one, so this is no measure of it")
    return took


def optimized(frame: "pd.DataFrame") -> float:
    """Return the seconds on the clock that stock's ``optstrategy`` takes for one of its runs, two at a time."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = work.stock_broker()
    cerebro.adddata(work.stock_feed(frame))
    cerebro.optstrategy(StockSized, units=range(1, STOCK_RUNS + 1))
    begun = time.perf_counter()
    ran = cerebro.run(maxcpus=WORKERS)
    took = time.perf_counter() - begun
    if len(ran) != STOCK_RUNS:
        raise SystemExit(f"stock returned {len(ran)} of {STOCK_RUNS} runs")
    return took / STOCK_RUNS


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Note the most megabytes that the workers of this process took in all while it is entered, 0 where the system does not tell.

    A page that several processes have in memory counts once, split among them (Pss).
    """
    peaks, is_over = {"workers": 0.0}, Event()

    def watch() -> None:
        while not is_over.wait(EVERY_SECONDS):
            peaks["workers"] = max(peaks["workers"], sum(megabytes_of(child) for child in workers_of_this_process()))

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        is_over.set()
        thread.join()


def workers_of_this_process() -> list[Path]:
    """Return the folders in which the system tells of the worker processes."""
    children = [child for listing in Path("/proc/self/task").glob("*/children") for child in listing.read_text().split()]
    return [folder for child in children if b"popen_loky" in command_of(folder := Path("/proc", child))]


def command_of(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


def megabytes_of(folder: Path) -> float:
    """Return the megabytes of a process, its share of shared pages among them; 0 once it has ended."""
    try:
        lines = (folder / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure sweeps of W by one worker and by two and print JSON.")
    parser.add_argument("--bars", type=int, default=FULL, help="one-minute bars of a run (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    print(json.dumps(measure(asked.bars, asked.rounds)))


if __name__ == "__main__":
    main()
