"""What is made of measured seconds: ratios, nominal microseconds, and what the targets say of them. No clock, no files.

A target in microseconds is of the machine on which stock Backtrader took NOMINAL of them for a bar of W. Elsewhere
``nominal us = measured us x 67.1 / what stock took in the same round``: the ratio to stock, in its units.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

NOMINAL = 67.1
SWAP_TARGETS = {"flat": 1.00, "one position": 0.85, "ten positions": 0.70}
SWAP_FEEDS = ("PandasData", "PerpData")
WHOLE_TARGETS = {"host loop": 0.40, "own loop": 7.0 / NOMINAL, "fast averages": 5.3 / NOMINAL}  # of stock
CALL_TARGETS = {"one position": 1.0, "each further one": 0.7}  # nominal us
REVERSAL_TARGET = 120.0  # nominal us; stock was said to take 170 to 220
REVERSAL_SHARE = 0.6  # of what stock takes in the same round
SERIES_TARGET = 0.3  # nominal us
FLAT_TARGET = 1.10  # dearest bar to cheapest
SCALES = (10_000, 100_000, 1_000_000)
IMPORT_TARGETS = {"ms": 30.0, "MB": 3.0}
MEMORY_TARGETS = {"year": 150.0, "two workers": 250.0}  # MB
SWEEP_TARGET = 40.0  # nominal seconds on the clock
SPEED_UP_TARGET = 1.9  # one worker's time over two workers'

Rounds = Sequence[float]


@dataclass(frozen=True, slots=True)
class Check:
    """A figure of every round and the most that its median may be; without figures it is missed."""

    name: str
    found: Rounds
    limit: float
    unit: str = "of stock"

    @property
    def passed(self) -> bool:
        return bool(self.found) and median(self.found) <= self.limit

    def __str__(self) -> str:
        figure = spread(self.found, 1, 3) if self.found else "not measured"
        return f"{self.name}: {figure} {self.unit}, allowed {self.limit:.3g}: {'passed' if self.passed else 'MISSED'}"


def spread(values: Rounds, scale: float = 1.0, digits: int = 1) -> str:
    """Return median and range: ``67.1 (66.0-70.2)``; the value alone where there is one."""
    low, middle, high = (f"{value * scale:.{digits}f}" for value in (min(values), median(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({low}-{high})"


def ratios(ours: Rounds, stock: Rounds) -> list[float]:
    """Return ours over stock, round by round."""
    return [a / b for a, b in zip(ours, stock, strict=True)]


def nominal(seconds: Rounds, yardstick: Rounds) -> list[float]:
    """Return seconds as nominal microseconds, by the seconds that stock took for a bar of W in the same round."""
    return [NOMINAL * ratio for ratio in ratios(seconds, yardstick)]


def call_costs(group: Mapping[str, Any], engine: str) -> dict[str, list[float]]:
    """Return the seconds of one ``broker.next`` by case; each further position is a ninth of ten less one."""
    found = {case: list(engines[engine]) for case, engines in group["seconds"].items()}
    found["each further one"] = [(ten - one) / 9 for ten, one in zip(found["ten positions"], found["one position"], strict=True)]
    return found


def flatness(costs: Iterable[Rounds]) -> float:
    """Return the dearest bar over the cheapest of runs of several lengths, each the fastest of its rounds.

    What disturbs a run of seconds only ever slows it down, and not all lengths alike.
    """
    fastest = [min(rounds) for rounds in costs]
    return max(fastest) / min(fastest)


def growth(costs: Iterable[Rounds]) -> float:
    """Return what a bar of the last takes over the cheapest of the others, each the fastest of its rounds."""
    *others, last = (min(rounds) for rounds in costs)
    return last / min(others)


def checks(figures: Mapping[str, Any]) -> list[Check]:
    """Return every target that ``bench-gate`` holds against the figures, in the order of the targets."""
    return [
        *_swap_checks(figures.get("swap")),
        *_call_checks(figures.get("calls")),
        *_whole_checks(figures.get("whole")),
        *_series_checks(figures.get("series")),
        *_reversal_checks(figures.get("reversals")),
        *_memory_checks(figures),
        *_sweep_checks(figures.get("sweeps")),
        *_scale_checks(figures.get("scale")),
    ]


def of(group: Mapping[str, Any] | None, case: str, engine: str, stock: str = "stock") -> list[float]:
    """Return a case's ratios to stock; none where it was not measured."""
    engines = group["seconds"].get(case, {}) if group else {}
    return ratios(engines[engine], engines[stock]) if engine in engines and stock in engines else []


def _swap_checks(group: Mapping[str, Any] | None) -> list[Check]:
    return [
        Check(f"broker alone, {feed}, {case}", of(group, f"{feed}, {case}", "ours"), limit)
        for feed in SWAP_FEEDS
        for case, limit in SWAP_TARGETS.items()
    ]


def _call_checks(group: Mapping[str, Any] | None) -> list[Check]:
    costs = call_costs(group, "ours") if group else {}
    return [
        Check(f"broker.next, {case}", nominal(costs[case], group["yardstick"]) if group else [], limit, "nominal us")
        for case, limit in CALL_TARGETS.items()
    ]


def _whole_checks(group: Mapping[str, Any] | None) -> list[Check]:
    return [Check(f"whole backtest, {engine}", of(group, "whole", engine), limit) for engine, limit in WHOLE_TARGETS.items()]


def _series_checks(group: Mapping[str, Any] | None) -> list[Check]:
    found = nominal(group["seconds"]["series"]["ours"], group["yardstick"]) if group else []
    return [Check("recorded series, a bar", found, SERIES_TARGET, "nominal us")]


def usual(engines: Iterable[str]) -> str:
    """Return the engine that users get without asking for an option."""
    return "own loop" if "own loop" in engines else "host loop"


def _reversal_checks(group: Mapping[str, Any] | None) -> list[Check]:
    costs = group["seconds"]["reversal"] if group else {}
    found = nominal(costs[usual(costs)], group["yardstick"]) if group else []
    return [
        Check("a reversing order", found, REVERSAL_TARGET, "nominal us"),
        Check("a reversing order, beside stock's", of(group, "reversal", usual(costs)), REVERSAL_SHARE),
    ]


def _memory_checks(figures: Mapping[str, Any]) -> list[Check]:
    rows, memory = figures.get("imports") or [], figures.get("memory") or {}
    milliseconds = nominal([row["seconds"] * 1e-3 for row in rows], [row["yardstick"] for row in rows])
    return [
        Check("import bt_margin, CPU", milliseconds, IMPORT_TARGETS["ms"], "nominal ms"),
        Check("import bt_margin, memory", [row["MB"] for row in rows], IMPORT_TARGETS["MB"], "MB"),
        *(Check(f"peak memory, {case}", memory.get(case, []), limit, "MB") for case, limit in MEMORY_TARGETS.items()),
    ]


def sweep_seconds(group: Mapping[str, Any], engine: str) -> list[float]:
    """Return the nominal seconds on the clock that an engine's sweep takes."""
    return [micros * 1e-6 for micros in nominal(group["seconds"][engine], group["yardstick"])]


def _sweep_checks(group: Mapping[str, Any] | None) -> list[Check]:
    seconds = group["seconds"] if group else {}
    return [
        Check("a sweep by two workers", sweep_seconds(group, "two workers") if group else [], SWEEP_TARGET, "nominal s"),
        Check(
            "a sweep, two workers to one", ratios(seconds["two workers"], seconds["one worker"]) if group else [], 1 / SPEED_UP_TARGET, ""
        ),
        Check("peak memory, a sweep's two workers", group["megabytes"]["workers"] if group else [], MEMORY_TARGETS["two workers"], "MB"),
    ]


def _scale_checks(scale: Mapping[str, Any] | None) -> list[Check]:
    rounds = [scale["ours"].get(f"1 x {bars}") for bars in SCALES] if scale else []
    costs = [[run["seconds"] for run in runs] for runs in rounds if runs]
    said = ", ".join(f"{bars:,}" for bars in SCALES)
    return [Check(f"cost of a bar of {said}, dearest to cheapest", [flatness(costs)] if len(costs) == len(SCALES) else [], FLAT_TARGET, "")]
