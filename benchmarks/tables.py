"""The sections of RESULTS.md: from figures to Markdown. No clock, no files."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from figures import (
    CALL_TARGETS,
    FLAT_TARGET,
    IMPORT_TARGETS,
    MEMORY_TARGETS,
    NOMINAL,
    REVERSAL_TARGET,
    SERIES_TARGET,
    SPEED_UP_TARGET,
    SWAP_FEEDS,
    SWAP_TARGETS,
    SWEEP_TARGET,
    WHOLE_TARGETS,
    Check,
    call_costs,
    flatness,
    growth,
    nominal,
    of,
    ratios,
    spread,
    sweep_seconds,
    usual,
)

MICRO = 1e6
NONE = "-"

Group = Mapping[str, Any]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, all columns but the first to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def said(engines: Mapping[str, Sequence[float]], engine: str, scale: float, digits: int = 1) -> str:
    """Return an engine's figure, a dash where it has none."""
    return spread(engines[engine], scale, digits) if engine in engines else NONE


def over(group: Group, case: str, engine: str) -> str:
    """Return a case's ratio to stock, a dash where there is none."""
    found = of(group, case, engine)
    return spread(found, 1, 2) if found else NONE


def whole_section(group: Group) -> str:
    seconds, bars, rows = group["seconds"], group["bars"], []
    for engine in seconds["whole"]:
        figures = [spread(seconds[part][engine], MICRO / bars) for part in ("feed", "loop", "series", "whole")]
        found = ratios(seconds["whole"][engine], seconds["whole"]["stock"])
        target = f"{WHOLE_TARGETS[engine]:.3f}" if engine in WHOLE_TARGETS else NONE
        rows.append([engine, *figures, spread(found, 1, 3), spread([NOMINAL * ratio for ratio in found]), target])
    return f"""## Whole backtest

{bars:,} bars of workload W, {group["fills"]:,} fills; microseconds of CPU a bar, median (lowest-highest) of {group["rounds"]} rounds, all
engines in turn in one process, from a frame in memory to the finished strategy without observers. *stock*: `PandasData`,
`BackBroker`, no funding. All others: `PerpData` with funding, `MarginBroker` with seven tiers; *host loop* in stock's `Cerebro`, *own
loop* in `bt_margin.Cerebro`, *fast averages* in that with its option. Every round checks that all had the same fills and that their
equity differs by the funding alone. *series*: what the recorded series still cost when they are asked for.

{table(["engine", "feed", "loop", "series", "whole", "of stock", "nominal us", "target"], rows)}"""


def swap_section(group: Group) -> str:
    rows, seconds = [], group["seconds"]
    for feed in SWAP_FEEDS:
        for case, target in SWAP_TARGETS.items():
            name = f"{feed}, {case}"
            bars = group["bars"] // (10 if case == "ten positions" else 1)
            figures = [spread(seconds[name][engine], MICRO / bars) for engine in ("stock", "ours")]
            rows.append([name, *figures, over(group, name, "ours"), f"{target:.2f}"])
    return f"""## The broker alone

The same feed, strategy and host loop, only the broker exchanged: nothing is traded (flat), or every data is bought on the first bar
and held. {group["bars"]:,} bars; ten contracts: {group["bars"] // 10:,} bars each. Microseconds of CPU a bar of the loop, all contracts
together.

{table(["feed, case", "stock", "ours", "ours / stock", "target"], rows)}"""


def calls_section(group: Group) -> str:
    costs = {engine: call_costs(group, engine) for engine in ("stock", "asked", "ours")}
    rows = []
    for case in costs["ours"]:
        target = f"{CALL_TARGETS[case]:.1f}" if case in CALL_TARGETS else NONE
        measured = [spread(found[case], MICRO, 2) for found in costs.values()]
        rows.append([case, *measured, *(spread(nominal(found[case], group["yardstick"]), 1, 2) for found in costs.values()), target])
    return f"""## One call of `broker.next`

Microseconds: a loop, less the same loop with `next` switched off once everything is held. Ours with funding, tiers and
liquidation screen. *asked*: in the host's loop, which asks for cash and value on every bar, and what we then reckon; *ours*: in the
loop of `bt_margin.Cerebro`, which asks where somebody listens. *Each further one*: a ninth of ten positions less one.

{table(["case", "stock", "asked", "ours", "stock, nominal", "asked, nominal", "ours, nominal", "target"], rows)}"""


def reversals_section(group: Group) -> str:
    costs, rows = group["seconds"]["reversal"], []
    for engine, values in costs.items():
        target = f"{REVERSAL_TARGET:.0f}" if engine == usual(costs) else NONE
        rows.append(
            [engine, spread(values, MICRO, 0), spread(nominal(values, group["yardstick"]), 1, 0), target, over(group, "reversal", engine)]
        )
    return f"""## A reversing order

Microseconds of an order: a position turned round every ten bars, less the same one held, by order ({group["orders"]:,} of them in
{group["bars"]:,} bars). All with `PerpData` without funding; *own loop* also leaves the host's loop.

{table(["engine", "us", "nominal us", "target", "of stock"], rows)}"""


def series_section(group: Group) -> str:
    found = group["seconds"]["series"]["ours"]
    figures = spread(found, MICRO, 2), spread(nominal(found, group["yardstick"]), 1, 2)
    return f"""## The recorded series

{group["rows"]:,} bars of W: CPU time inside the functions that write the series, until they have been asked for at the end (the cost of
timing each call is measured with an empty function and taken off). Stock records nothing.

{table(["", "us a bar", "nominal us", "target"], [["recorded series", *figures, f"{SERIES_TARGET:.1f}"]])}"""


def variants_section(group: Group) -> str:
    rows = []
    for case, engines in group["seconds"].items():
        figures = [said(engines, engine, MICRO) for engine in ("stock", "cross", "isolated")]
        rows.append([case, *figures, over(group, case, "cross"), over(group, case, "isolated")])
    return f"""## Contracts, trading and margin mode

Whole backtests of {group["bars"]:,} bars of all contracts together, 200 of one at least; microseconds of CPU a bar of one contract.
Trading is W on every contract.

{table(["contracts", "stock", "ours, cross", "ours, isolated", "cross / stock", "isolated / stock"], rows)}"""


def features_section(group: Group) -> str:
    rows = [
        [case, said(engines, "stock", MICRO), said(engines, "ours", MICRO), over(group, case, "ours")]
        for case, engines in group["seconds"].items()
    ]
    return f"""## With what users add

Whole backtests of {group["bars"]:,} bars (hours: {group["bars"] // 5:,}), microseconds of CPU a bar. A dash: stock has no such thing.

{table(["", "stock", "ours", "ours / stock"], rows)}"""


def walks_section(group: Group) -> str:
    rows = []
    for case, engines in group["seconds"].items():
        told = group.get(case)
        counts = [f"{told['walked'] / group['bars']:.0%}", f"{told['liquidations']:,}"] if told else [NONE, NONE]
        rows.append([case, said(engines, "stock", MICRO, 0), said(engines, "ours", MICRO, 0), *counts])
    return f"""## Bars that are walked

{group["bars"]:,} hourly bars, isolated at 125x, the position turned round on every bar, so that many bars may liquidate and their inside
is looked at. Microseconds of CPU a bar. Stock turns round as often and never liquidates: no ratio, the work is not the same.

{table(["", "stock", "ours", "bars walked", "liquidations"], rows)}"""


def results_section(group: Group) -> str:
    rows = [[case, spread(engines["ours"], 1, 2)] for case, engines in group["seconds"].items()]
    return f"""## After the run

CPU seconds of what is asked of a finished run of {group["bars"]:,} hourly bars of W, in this order. Stock has none of it.

{table(["", "ours"], rows)}"""


def parts_section(group: Group) -> str:
    engines = group["engines"]
    part_names = list(next(iter(engines.values()))["shares"])
    rows = [
        [part, *(f"{told['shares'][part] * told['seconds'] * MICRO:.1f} ({told['shares'][part]:.0%})" for told in engines.values())]
        for part in part_names
    ]
    rows.append(["**all**", *(f"{told['seconds'] * MICRO:.1f}" for told in engines.values())])
    return f"""## Where the time of W goes

Microseconds of CPU a bar, {group["bars"]:,} bars. The shares are those of a run under `cProfile`, without what that adds to every call,
scaled to what a run without it takes: good to tell large from small, no more. A part is what its first function and all that it
calls have spent, but for what belongs to another part (`benchmarks/parts.py` names them).

{table(["part", *engines], rows)}"""


def sweeps_section(group: Group) -> str:
    seconds, peaks, runs, yardstick = group["seconds"], group["megabytes"], group["runs"], group["yardstick"]
    one, two, stock = (seconds[engine] for engine in ("one worker", "two workers", "stock, two workers"))
    whole = [value * runs for value in stock]
    by_one, by_two = (spread(sweep_seconds(group, engine)) for engine in ("one worker", "two workers"))
    rows = [
        ["stock", spread(stock, 1, 2), f"({spread(whole)})", f"({spread(nominal(whole, yardstick), 1e-6)})", NONE, NONE],
        ["one worker", spread(one, 1 / runs, 2), spread(one), by_one, NONE, NONE],
        ["two workers", spread(two, 1 / runs, 2), spread(two), by_two, f"{SWEEP_TARGET:.0f}", spread(ratios(one, two), 1, 2)],
    ]
    return f"""## Sweeps

`bm.compare` of {runs} runs of {group["bars"]:,} bars each (W by eight sizing rules at eight leverages), from a frame in memory to the
ranked table, processes started within it: seconds on the clock, not of CPU. *Stock*: `optstrategy` on two processes, W in
{group["stock_runs"]} sizes; in brackets what as many runs as ours would take. Speed-up asked of two workers: {SPEED_UP_TARGET:g}.

{table(["", "a run", "all", "nominal s", "target", "speed-up"], rows)}

The two workers have at most {spread(peaks["workers"], 1, 0)} MB between them, shared pages counted once
(target: {MEMORY_TARGETS["two workers"]:.0f}); two whose runs have {group["year"]:,} bars {peaks["year"]:.0f} MB.
The process that gave them the candles and measured all this has {peaks["parent"]:.0f}."""


def process_section(figures: Mapping[str, Any]) -> str:
    """Return the section on memory: whole processes and importing."""
    rows = [
        [name, spread([cpu for cpu, _ in runs], 1, 1), spread([peak for _, peak in runs], 1, 0), NONE]
        for name, runs in figures["processes"].items()
    ]
    rows += [
        [f"ours, {case}, without pandas", NONE, spread(found, 1, 0), f"{MEMORY_TARGETS[case]:.0f}"]
        for case, found in figures["memory"].items()
    ]
    imports = figures["imports"]
    import_rows = [
        _import_said("import bt_margin", imports, imports, targets=True),
        _import_said("... and run, MarginBroker, PerpCommInfo, PerpData named", [row["used"] for row in imports], imports, targets=False),
    ]
    return f"""## Memory and whole processes

Processes that make a year of minutes ({figures["year"]:,} bars, with pandas), run W once and end; imports included. Of two workers the
pages that both have (interpreter, libraries, the candles' files) count once, by what the system says is shared.

{table(["", "CPU seconds", "peak MB", "target"], rows)}

What importing adds to a process that has imported backtrader and numpy, modules compiled before; {len(imports)} processes.

{table(["", "ms", "nominal ms", "target", "MB", "target"], import_rows)}"""


def _import_said(name: str, costs: Sequence[Group], yardsticks: Sequence[Group], *, targets: bool) -> list[str]:
    seconds, memory = [row["seconds"] for row in costs], [row["MB"] for row in costs]
    in_nominal = nominal([value * 1e-3 for value in seconds], [row["yardstick"] for row in yardsticks])
    limits = [f"{IMPORT_TARGETS[unit]:.0f}" if targets else NONE for unit in ("ms", "MB")]
    return [name, spread(seconds, 1e3), spread(in_nominal), limits[0], spread(memory), limits[1]]


def scale_section(scale: Group) -> str:
    """Return the section on long runs and many contracts: ``engine -> "contracts x bars" -> runs``."""
    rows = []
    for case, runs in scale["ours"].items():
        stock = scale["stock"].get(case)
        figures = [_run_said(told, key, size) for key, size in (("seconds", MICRO), ("peak", 1.0)) for told in (stock, runs)]
        found = [run["seconds"] for run in runs]
        contracts, bars = (int(number) for number in case.split(" x "))
        rows.append(
            [
                f"{contracts} x {bars:,}",
                *figures[:2],
                f"{min(found) / min(run['seconds'] for run in stock):.2f}" if stock else NONE,
                *figures[2:],
            ]
        )
    return f"""## Scale

W on many bars and many contracts, each run in a process of its own (ours repeated to a million bars in it), ours in turn;
microseconds of CPU a bar of one contract, and peak MB, stock's candles in pandas and ours in arrays. A dash: not run with stock.
{_flatness_said(scale["ours"])} Five million bars and two
hundred contracts are in `RESULTS-SCALE.md`, which `make bench-scale` writes.{_collector_said(scale["ours"])}

{table(["contracts x bars", "stock", "ours", "ours / stock", "stock, MB", "ours, MB"], rows)}"""


def _flatness_said(ours: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Return how far the costs of long runs, and of many contracts, lie apart."""
    one, several = (
        {case: [run["seconds"] for run in runs] for case, runs in ours.items() if case.startswith("1 x ") == is_one}
        for is_one in (True, False)
    )
    said = [
        f"Ours, fastest rounds, one contract, the dearest bar to the cheapest: {flatness(one.values()):.2f} (at most {FLAT_TARGET:.2f})."
    ]
    if len(several) > 1:
        most = list(several)[-1].partition(" x ")[0]
        said.append(
            f"A bar of one of {most} contracts to the cheapest with fewer: {growth(several.values()):.2f} (at most {FLAT_TARGET:.2f})."
        )
    return "\n".join(said)


def _collector_said(ours: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Return what is left where long runs are dearer, of runs that timed Python's collector."""
    timed = [(case, median(run["gc"] for run in runs) * MICRO) for case, runs in ours.items() if "gc" in runs[0]]
    if not timed:
        return ""
    (dearest, most), (cheapest, least) = max(timed, key=lambda one: one[1]), min(timed, key=lambda one: one[1])
    return f"""

What is left where a long run is dearer is Python's collector, which looks through all that the orders of a run leave behind
whenever they have grown by a quarter: {most:.2f} us of a bar of {dearest}, {least:.2f} of {cheapest}. Below sixteen contracts
each is looked at by itself on a bar with an order; of more all are, at once, by operations whose own cost they share."""


def _run_said(runs: Sequence[Mapping[str, float]] | None, key: str, scale: float) -> str:
    return spread([run[key] for run in runs], scale, 0 if key == "peak" else 1) if runs else NONE


def checks_section(found: Sequence[Check]) -> str:
    """Return the section on the targets, missed ones among them."""
    rows = [
        [
            check.name,
            f"{spread(check.found, 1, 3)} {check.unit}".strip() if check.found else "not measured",
            f"{check.limit:.3g}",
            "yes" if check.passed else "**no**",
        ]
        for check in found
    ]
    met = f"{sum(check.passed for check in found)} of {len(found)}"
    return f"""## Targets

What `make bench-gate` asks, of the figures below: medians of rounds, of the last row the fastest. {met} are met.

{table(["", "found", "at most", "met"], rows)}"""


SECTIONS: dict[str, Callable[[Group], str]] = {
    "whole": whole_section,
    "swap": swap_section,
    "calls": calls_section,
    "reversals": reversals_section,
    "series": series_section,
    "variants": variants_section,
    "features": features_section,
    "walks": walks_section,
    "results": results_section,
    "parts": parts_section,
    "sweeps": sweeps_section,
}
