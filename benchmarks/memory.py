"""Peak memory of a year of one-minute bars without pandas, and of two such processes that share the candles.

    python benchmarks/memory.py                    both, printed as JSON: megabytes by case and round
    python benchmarks/memory.py --bars 5000        of fewer bars

``peaks`` is what the benchmark calls. The processes run workload W with everything recorded. Their candles are files of one
column each that are mapped, not read, so that the system keeps one copy of a page for all who look at it.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

YEAR = 525_600  # bars
WORKERS = 2
MEGA = 1024 if sys.platform != "darwin" else 1024**2  # what ru_maxrss counts in, to a megabyte


def peaks(environment: Mapping[str, str], bars: int = YEAR, rounds: int = 1) -> dict[str, list[float]]:
    """Return peak megabytes, round by round, of one process ("year") and of two at a time, in all ("two workers").

    In all is the sum of both peaks less, for the second, the pages that are shared: those of the interpreter, its libraries and the
    candles' files. The system says how many they are while both stand at their end.
    """
    found: dict[str, list[float]] = {"year": [], "two workers": []}
    with TemporaryDirectory() as folder:
        started(environment, "write", folder, bars, count=1)
        for _ in range(rounds):
            (alone,) = started(environment, "run", folder, bars, count=1)
            found["year"].append(alone["peak"])
            workers = started(environment, "run", folder, bars, count=WORKERS)
            found["two workers"].append(
                sum(worker["peak"] for worker in workers) - (WORKERS - 1) * min(worker["shared"] for worker in workers)
            )
    return found


def started(environment: Mapping[str, str], task: str, folder: str, bars: int, *, count: int) -> list[dict[str, float]]:
    """Return what so many processes of this file that run at one time print, with their peak megabytes."""
    command = [sys.executable, "-W", "ignore", __file__, task, "--folder", folder, "--bars", str(bars)]
    with ExitStack() as stack:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        processes = [stack.enter_context(subprocess.Popen(command, env=environment, **pipes)) for _ in range(count)]
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()  # all of them have done their work before the first one looks at its pages
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
        printed = [process.stdout.readline() for process in processes if process.stdout is not None]
        return [finished(process, said) for process, said in zip(processes, printed, strict=True)]


def finished(process: "subprocess.Popen[bytes]", printed: bytes) -> dict[str, float]:
    """Let a process go that has ``printed`` its figures, and return them with its peak."""
    assert process.stdin is not None
    process.stdin.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"a process of {Path(__file__).name} ended with {process.returncode}")
    return {**json.loads(printed), "peak": usage.ru_maxrss / MEGA}


def write(folder: Path, bars: int) -> dict[str, Any]:
    """Write the candles of W, a file for each column."""
    import numpy as np
    from workload import candle_columns

    for name, column in candle_columns(bars).items():
        np.save(folder / f"{name}.npy", column)
    return {}


def run(folder: Path) -> dict[str, Any]:
    """Run W on mapped candles and return its fills."""
    import numpy as np
    from workload import Cross, backtest, usual

    columns = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
    strategy = backtest([columns], usual(), Cross, reads_series=False).strategy
    if "pandas" in sys.modules:
        raise SystemExit("pandas was loaded, so this is no measure of what a run needs")
    return {"fills": strategy.fills}


def shared_megabytes() -> float:
    """Return how much of this process's memory others have too, 0 where the system does not tell."""
    listing = Path("/proc/self/smaps_rollup")
    lines = listing.read_text().splitlines() if listing.exists() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Shared_Clean:", "Shared_Dirty:"))) / 1024


def tell(found: dict[str, Any]) -> None:
    """Print what was found together with what is shared, once all processes have come so far, and stay until all have printed."""
    print(flush=True)
    sys.stdin.readline()
    print(json.dumps({**found, "shared": shared_megabytes()}), flush=True)
    sys.stdin.read()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the peak memory of W without pandas and print it as JSON.")
    parser.add_argument("task", nargs="?", choices=("peaks", "write", "run"), default="peaks")
    parser.add_argument("--bars", type=int, default=YEAR, help="one-minute bars (default: %(default)s, a year)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="of the candles, for the tasks that are started by this file itself")
    asked = parser.parse_args()
    if asked.task == "peaks":
        print(json.dumps(peaks(os.environ, asked.bars, asked.rounds)))
    else:
        tell(write(asked.folder, asked.bars) if asked.task == "write" else run(asked.folder))


if __name__ == "__main__":
    main()
