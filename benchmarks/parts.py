"""Where the time of a backtest goes, by part.

The functions that a part begins with are named here; all that they call belongs to it until another part begins. What
a function called from several parts has spent is shared out by what each caller waited for it. The shares are those of a
run under cProfile, which makes every call dearer; what it adds to a call is measured on calls of nothing and taken off.
Code between calls is slowed down too, which is not. Whoever scales the shares to a run without it says so.
"""

import cProfile
import pstats
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Function = tuple[str, int, str]  # file, line, name, as pstats has them
Shares = dict[str, float]

PARTS = (
    "feed",
    "indicators once",
    "loop and advance",
    "broker.next",
    "orders and notifications",
    "strategy.next",
    "record",
    "setup and end",
)
REST = PARTS[-1]
BUILT_IN = "~"  # what stands for the file of a function written in C
# By the end of the file's path and the function's name; None takes every function of the file.
ROOTS: tuple[tuple[str, str | None, str], ...] = (
    ("bt_margin/feeds.py", "__init__", "feed"),
    ("bt_margin/feeds.py", "preload", "feed"),
    ("backtrader/feed.py", "preload", "feed"),
    ("backtrader/feed.py", "_start", "feed"),
    ("backtrader/feeds/pandafeed.py", None, "feed"),
    ("backtrader/lineiterator.py", "_once", "indicators once"),
    ("bt_margin/averages.py", None, "indicators once"),
    ("backtrader/cerebro.py", "_runonce", "loop and advance"),
    ("bt_margin/cerebro.py", "_runonce", "loop and advance"),
    ("bt_margin/loop.py", None, "loop and advance"),
    ("bt_margin/broker.py", "next", "broker.next"),
    ("backtrader/brokers/bbroker.py", "next", "broker.next"),
    ("bt_margin/broker.py", "_execute", "orders and notifications"),
    ("backtrader/brokers/bbroker.py", "_execute", "orders and notifications"),
    ("bt_margin/lone.py", "_fill", "orders and notifications"),
    ("bt_margin/hosttrade.py", None, "orders and notifications"),
    ("bt_margin/broker.py", "_take_in", "orders and notifications"),
    ("backtrader/brokers/bbroker.py", "check_submitted", "orders and notifications"),
    ("backtrader/strategy.py", "_addnotification", "orders and notifications"),
    ("backtrader/strategy.py", "_notify", "orders and notifications"),
    ("backtrader/strategy.py", "order_target_size", "orders and notifications"),
    ("benchmarks/workload.py", "next", "strategy.next"),
    ("bt_margin/clock.py", "write", "record"),
    ("bt_margin/record.py", None, "record"),
    ("bt_margin/lull.py", "_keep", "record"),
)


def part_of(file: str, name: str) -> str | None:
    """Return the part that begins with a function, None for all others."""
    path = file.replace("\\", "/")
    return next((part for end, root, part in ROOTS if path.endswith(end) and root in (name, None)), None)


@dataclass(frozen=True, slots=True)
class Bias:
    """Seconds that the profiler adds to one call: counted as the called function's own (``inside``) and as the caller's."""

    inside: float = 0.0
    outside: float = 0.0


Biases = tuple[Bias, Bias]  # of functions in Python, of those in C


def split(stats: Mapping[Function, Any], biases: Biases = (Bias(), Bias())) -> Shares:
    """Return the fraction of all time that each part took, from the table of pstats: function -> (.., calls, own, total, callers).

    Solved by passing every function's parts down to what it calls until nothing changes any more.
    """
    begins = {function: part_of(function[0], function[2]) for function in stats}
    mixed: dict[Function, Shares] = {function: {part or REST: 1.0} for function, part in begins.items()}
    open_ones = [function for function, row in stats.items() if begins[function] is None and row[4]]
    for _ in range(1_000):
        change = 0.0
        for function in open_ones:
            new = _from_callers(function, stats[function][4], mixed)
            change = max(change, sum(abs(new.get(part, 0.0) - mixed[function].get(part, 0.0)) for part in PARTS))
            mixed[function] = new
        if change < 1e-9:
            break
    spent = dict.fromkeys(PARTS, 0.0)
    for function, seconds in own_times(stats, biases).items():
        for part, share in mixed[function].items():
            spent[part] += share * seconds
    whole = sum(spent.values())
    return {part: seconds / whole for part, seconds in spent.items()}


def own_times(stats: Mapping[Function, Any], biases: Biases) -> dict[Function, float]:
    """Return what each function has spent itself, without what the profiler has added; 0 at least."""
    own = {function: row[2] for function, row in stats.items()}
    for function, (_, calls, _, _, callers) in stats.items():
        bias = biases[function[0] == BUILT_IN]
        own[function] -= calls * bias.inside
        for caller, row in callers.items():
            if caller in own:
                own[caller] -= row[0] * bias.outside
    return {function: max(seconds, 0.0) for function, seconds in own.items()}


def _from_callers(function: Function, callers: Mapping[Function, Any], mixed: Mapping[Function, Shares]) -> Shares:
    """Return a function's parts: its callers', weighted by the time each waited for it, by calls where none was measured."""
    others = {caller: row for caller, row in callers.items() if caller != function and caller in mixed}
    column = 3 if sum(row[3] for row in others.values()) > 0 else 0
    whole = sum(row[column] for row in others.values())
    found: Shares = {}
    for caller, row in others.items():
        for part, share in mixed[caller].items():
            found[part] = found.get(part, 0.0) + share * row[column] / whole
    return found or {REST: 1.0}


def shares(work: Callable[[], Any]) -> Shares:
    """Return the fraction of a backtest's time that each part takes, by cProfile."""
    return split(profiled(work), (calibrated(_call_python), calibrated(_call_c)))


def profiled(work: Callable[[], Any]) -> dict[Function, Any]:
    """Return the table of pstats of one call."""
    profile = cProfile.Profile()
    profile.runcall(work)
    return pstats.Stats(profile).stats  # type: ignore[attr-defined]


def calibrated(work: Callable[[int], None], calls: int = 50_000) -> Bias:
    """Return what the profiler adds to a call: the middle one of three loops around so many calls of nothing."""
    found = []
    for _ in range(3):
        before = time.perf_counter()
        work(calls)
        plain = time.perf_counter() - before
        stats = profiled(lambda: work(calls))
        inside = next(row[2] for row in stats.values() if row[1] == calls) / calls
        added = (sum(row[2] for row in stats.values()) - plain) / calls
        found.append(Bias(inside, max(added - inside, 0.0)))
    return sorted(found, key=lambda bias: bias.inside + bias.outside)[1]


def _nothing() -> None:
    pass


def _call_python(calls: int) -> None:
    for _ in range(calls):
        _nothing()


def _call_c(calls: int) -> None:
    values = ()
    for _ in range(calls):
        len(values)
