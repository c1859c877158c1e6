"""Run workload W with other engines beside stock Backtrader and bt_margin, and rewrite benchmarks/PEERS.md.

    python benchmarks/peers.py                       every engine; installing them takes many minutes the first time
    python benchmarks/peers.py nautilus jesse        these beside stock and bt_margin, printed, nothing is written
    python benchmarks/peers.py --bars 20000          fewer bars

Each engine is installed from PyPI into an environment of its own under ``.venv-peers`` at the top of the checkout, which git
ignores; nothing of it is part of this project. One that cannot be installed or does not run is a row that says so. Every
engine reads the same candles and runs W by its public interface (``benchmarks/engines``), in a process of its own, all of them
in turn, round by round. This process imports the standard library only, so that the peak memory is theirs.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE / "PEERS.md"
ENVIRONMENTS = HERE.parent / ".venv-peers"
INSTALL_SECONDS, RUN_SECONDS = 900, 600
WARM_BARS = 2_000
MEGA = 1024 if sys.platform != "darwin" else 1024**2  # what ru_maxrss counts in, to a megabyte
PLACE = re.compile(r"\b[a-z+]+://\S+|(?<!\w)(?:~|[A-Za-z]:)?[/\\][\w.+-]+(?:[/\\][^\s'\"]*)?|\bhost='[^']*'|\b(?:[\w-]+\.)+[a-z]{2,}:\d+")
CANDLES_PROGRAM = """
import sys
import numpy as np
from workload import candles
for path, bars in zip(sys.argv[1::2], sys.argv[2::2]):
    frame = candles(int(bars))
    time = frame.index.to_numpy().astype("datetime64[ns]").astype("int64")
    np.savez(path, time=time, **{name: frame[name].to_numpy() for name in frame})
"""


class Missing(Exception):  # noqa: N818  its message is what the page says
    """Why an engine has no figures."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine: what pip is asked for ('' for the environment this runs in), its program, and what it models of W's account."""

    name: str
    package: str
    program: tuple[str, ...]
    models: tuple[str, str, str, str, str]
    needs: tuple[str, ...] = ()
    fills_a_turn: int = 1  # 2 where one order closes a position and another opens the other side
    remark: str = ""

    @property
    def is_own(self) -> bool:
        return not self.needs


@dataclass(slots=True)
class Figures:
    """What was measured of an engine, one number for each round, or why nothing was."""

    seconds: list[float] = field(default_factory=list)
    process: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)
    fills: int = 0
    equity: float = 0.0
    version: str = ""
    missing: str = ""


NO = "no"
ENGINES = (
    Engine("Backtrader", "backtrader", ("like_backtrader.py", "backtrader"), ("next open", "yes", NO, NO, NO)),
    Engine(
        "bt_margin",
        "bt_margin",
        ("ours.py",),
        ("next open", "yes", "seven tiers", "yes", "inside the bar"),
        remark="Equity is without the funding it paid.",
    ),
    Engine(
        "backtrader-next",
        "backtrader-next",
        ("like_backtrader.py", "backtrader_next"),
        ("next open", "yes", NO, NO, NO),
        needs=("backtrader-next==2.3.7",),
    ),
    Engine(
        "back-trader-cpp",
        "back-trader-cpp",
        ("like_backtrader.py", "back_trader"),
        ("next open", "yes", NO, NO, NO),
        needs=("back-trader-cpp", "numpy", "pandas"),
        remark="Its loop and its account are compiled.",
    ),
    Engine(
        "backtesting.py",
        "backtesting",
        ("backtesting_py.py",),
        ("next open", "yes", NO, NO, "equity at 0"),
        needs=("backtesting==0.6.6",),
        remark="Its strategy begins one bar later. Its figures include the statistics that its `run` always computes.",
    ),
    Engine(
        "NautilusTrader",
        "nautilus_trader",
        ("nautilus.py",),
        ("the close it is sent on", "yes", "one rate", NO, NO),
        needs=("nautilus_trader",),
        remark="Prices are rounded to 8 digits. Bars were given a volume from which every order is filled in one.",
    ),
    Engine(
        "freqtrade",
        "freqtrade",
        ("freqtrade_futures.py",),
        ("next open", "yes", "one tier given", "yes", "by price, inside the bar"),
        needs=("freqtrade",),
        fills_a_turn=2,
        remark="Signals are computed for all bars at once. It reads candles, marks and funding rates from files, written before. "
        "Equity is without the funding it paid; what is held at the end is closed.",
    ),
    Engine(
        "jesse",
        "jesse",
        ("jesse_futures.py",),
        ("the close it is sent on", "yes", "in its liquidation price", NO, "by price, inside the bar"),
        needs=("jesse",),
        fills_a_turn=2,
        remark="The other side is opened a bar after the close. Run with its `fast_mode`; what is held at the end is closed.",
    ),
)


def without_places(text: str) -> str:
    """Return a message without addresses, hosts and paths of the machine it was written on."""
    return PLACE.sub("...", text).replace("|", "/").strip()


def last_sentence(printed: str, fallback: str) -> str:
    """Return the last error pip or Python printed, without the places it names."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR") or re.match(r"[\w.]+(Error|Exception)\b", line)]
    return without_places((errors or lines or [fallback])[-1])[:200]


def run(command: Sequence[str], seconds: int, **options: Any) -> None:
    """Run a command to its end; raises Missing with the last sentence it printed where it fails."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, **options)
    except subprocess.TimeoutExpired:
        raise Missing(f"not done after {seconds // 60} minutes") from None
    if ended.returncode:
        raise Missing(last_sentence(ended.stdout + ended.stderr, f"ended with {ended.returncode}"))


def python_of(engine: Engine) -> str:
    """Return the interpreter of an engine, which is installed where it is not yet, or where other versions are asked for."""
    if engine.is_own:
        return sys.executable
    folder = ENVIRONMENTS / engine.package
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp, asked = folder / "installed", "\n".join(engine.needs)
    if not stamp.exists() or stamp.read_text() != asked:
        print(f"installing {' '.join(engine.needs)}", flush=True)
        run([sys.executable, "-m", "venv", "--clear", str(folder)], INSTALL_SECONDS)
        pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, *engine.needs], INSTALL_SECONDS, env=environment(engine))
        stamp.write_text(asked)
    return str(interpreter)


def environment(engine: Engine) -> dict[str, str]:
    """Return the variables of an engine's processes: only ours may see this checkout."""
    found = dict(os.environ)
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    if not engine.is_own:
        found.pop("PYTHONPATH", None)
    return found


def measured(engine: Engine, python: str, candles: Path) -> tuple[dict[str, Any], float, float]:
    """Run W once; return what the program printed, the CPU seconds of its process and its peak memory in MB."""
    program, *arguments = engine.program
    command = [python, "-W", "ignore", str(HERE / "engines" / program), str(candles), *arguments]
    with tempfile.TemporaryFile("w+") as errors, tempfile.TemporaryDirectory() as folder:
        with subprocess.Popen(command, env=environment(engine), cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            assert process.stdout is not None
            printed = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        if process.returncode:
            raise Missing(last_sentence(errors.read(), f"ended with {process.returncode}"))
    return json.loads(printed.splitlines()[-1]), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / MEGA


def version_of(engine: Engine, python: str) -> str:
    """Return the version of an engine as its environment has it."""
    program = f"from importlib.metadata import version; print(version({engine.package!r}))"
    return subprocess.run([python, "-c", program], capture_output=True, text=True, check=True, env=environment(engine)).stdout.strip()


def made_candles(folder: Path, bars: int) -> tuple[Path, Path]:
    """Return the file of W's candles and a short one, by which modules are compiled before anything is measured."""
    whole, few = folder / "whole.npz", folder / "few.npz"
    command = [sys.executable, "-W", "ignore", "-c", CANDLES_PROGRAM, str(whole), str(bars), str(few), str(WARM_BARS)]
    inherited = [entry for entry in (os.environ.get("PYTHONPATH"),) if entry]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *inherited])})
    return whole, few


def measure(engines: Sequence[Engine], bars: int, rounds: int) -> dict[str, Figures]:
    """Return the figures of every engine, measured in turn."""
    found = {engine.name: Figures() for engine in engines}
    pythons: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        whole, few = made_candles(Path(folder), bars)
        for number in range(-1, rounds):  # the first is not counted
            for engine in engines:
                figures = found[engine.name]
                if figures.missing:
                    continue
                print(f"{engine.name}, {'warming up' if number < 0 else f'round {number + 1} of {rounds}'}", flush=True)
                try:
                    if number < 0:
                        pythons[engine.name] = python_of(engine)
                        figures.version = version_of(engine, pythons[engine.name])
                    facts, process, peak = measured(engine, pythons[engine.name], few if number < 0 else whole)
                except Missing as missing:
                    figures.missing = str(missing)
                    continue
                if number >= 0:
                    figures.seconds.append(facts["seconds"])
                    figures.process.append(process)
                    figures.peak.append(peak)
                    figures.fills, figures.equity = facts["fills"], facts["equity"]
    return found


def spread(values: Sequence[float], scale: float = 1.0, digits: int = 1) -> str:
    """Return median and range: ``67.1 (66.0-70.2)``."""
    low, middle, high = (f"{value * scale:.{digits}f}" for value in (min(values), median(values), max(values)))
    return f"{middle} ({low}-{high})"


def relation(values: Sequence[float], others: Sequence[float]) -> str:
    """Return the median over the rounds of one over the other."""
    return f"{median(a / b for a, b in zip(values, others, strict=True)):.3f}" if len(values) == len(others) else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: bool = True) -> str:
    """Return a Markdown table, its columns but the first to the right."""
    lines = [head, ["---", *(["---:" if right else "---"] * (len(head) - 1))], *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def processor() -> str:
    """Return the processor's name where the system tells it."""
    listing = Path("/proc/cpuinfo")
    names = [line for line in listing.read_text().splitlines() if line.startswith("model name")] if listing.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def fills_told(engine: Engine, figures: Figures, stock: Figures) -> str:
    """Return the fills, and that they are others than W's where they are: first and last position may be told apart."""
    told = f"{figures.fills:,}" + (f" ({engine.fills_a_turn} a turn)" if engine.fills_a_turn > 1 else "")
    return told if abs(figures.fills - engine.fills_a_turn * stock.fills) <= engine.fills_a_turn else f"{told}, **other work**"


def speed_table(engines: Sequence[Engine], found: dict[str, Figures], bars: int) -> str:
    """Return the table of what each engine needs."""
    stock, ours = found[ENGINES[0].name], found[ENGINES[1].name]
    rows = []
    for engine in engines:
        figures = found[engine.name]
        name = f"{engine.name} {figures.version}".strip()
        if figures.missing:
            rows.append([name, f"not measured: {figures.missing}", *[""] * 6])
            continue
        rows.append(
            [
                name,
                spread(figures.seconds, 1e6 / bars),
                relation(figures.seconds, stock.seconds),
                relation(figures.seconds, ours.seconds),
                spread(figures.process),
                f"{median(figures.peak):.0f}",
                fills_told(engine, figures, stock),
                f"{figures.equity:,.2f}",
            ]
        )
    return table(["", "CPU us a bar", "/ Backtrader", "/ bt_margin", "whole process, CPU s", "peak MB", "fills", "equity"], rows)


def report(engines: Sequence[Engine], found: dict[str, Figures], bars: int, rounds: int, load: float) -> str:
    """Return the page."""
    heads = ["", "market orders fill at", "initial margin", "maintenance margin", "funding", "liquidation"]
    models = table(heads, [[engine.name, *engine.models] for engine in engines], right=False)
    remarks = "\n".join(f"- {engine.name}: {engine.remark}" for engine in engines if engine.remark)
    return f"""# Other engines

Written by `python benchmarks/peers.py` on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; do not edit. {processor()}, {os.cpu_count()} cores,
load average {load:.1f} when this began; {platform.system()} {platform.machine()}, CPython {platform.python_version()}; bt_margin
{version("bt_margin")}.

Workload W (`benchmarks/workload.py`): {bars:,} one-minute candles, SMA(20) over SMA(100), always in the market with 20 units, cash
100,000, 5x, a fee of 0.05 %. Every engine runs it by its public interface (`benchmarks/engines`) from the same candles, in an
environment and a process of its own, all in turn, {rounds} rounds. CPU microseconds a bar, median (lowest-highest), are from a frame in
memory to the finished backtest, whatever the engine makes of the frame included; the whole process includes imports and reading
the candles.
Absolute figures wander with the machine; ratios are medians of those within a round.

{speed_table(engines, found, bars)}

## What they model

W is traded on a perpetual future. What an engine does not model costs it no time, and its equity is that of an account no venue has.

{models}

{remarks}
"""


def main() -> int:
    names = {engine.package: engine for engine in ENGINES if not engine.is_own}
    parser = argparse.ArgumentParser(description="Measure other engines beside stock Backtrader and bt_margin.")
    parser.add_argument("packages", nargs="*", metavar="package", help=f"only these, and print only: {', '.join(names)}")
    parser.add_argument("--bars", type=int, default=100_000, help="bars of workload W (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: %(default)s)")
    asked = parser.parse_args()
    if unknown := set(asked.packages) - set(names):
        parser.error(f"no such engine: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if asked.rounds < 1 or asked.bars < 1_000:
        parser.error("at least 1 round and 1000 bars are needed")
    engines = [engine for engine in ENGINES if engine.is_own or not asked.packages or engine.package in asked.packages]
    load = os.getloadavg()[0]
    found = measure(engines, asked.bars, asked.rounds)
    if failed := [f"{engine.name}: {found[engine.name].missing}" for engine in engines if engine.is_own and found[engine.name].missing]:
        raise SystemExit("; ".join(failed))
    page = report(engines, found, asked.bars, asked.rounds, load)
    print(page)
    if not asked.packages:
        PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
