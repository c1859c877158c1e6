"""What the benchmarks make of measured seconds, and that what they compare did the same work. Nothing here looks at a clock."""

from pathlib import Path
from types import SimpleNamespace

import cases
import figures
import parts
import pytest
import run
import sweeps
import tables
import workload

FILE = "/anywhere/bt_margin/"


# -- figures ---------------------------------------------------------------------------------------------------------


def test_ratios_are_taken_round_by_round() -> None:
    assert figures.ratios([1.0, 3.0], [2.0, 4.0]) == [0.5, 0.75]
    with pytest.raises(ValueError, match="zip"):
        figures.ratios([1.0], [2.0, 4.0])


def test_nominal_microseconds_are_those_of_a_machine_on_which_stock_takes_the_known_figure() -> None:
    # 5 us where stock takes 100 us a bar are 5 % of it, and 5 % of 67.1 us are 3.355 us
    assert figures.nominal([5e-6], [100e-6]) == pytest.approx([3.355])


def test_a_spread_says_median_and_range_and_one_value_alone() -> None:
    assert figures.spread([3e-6, 1e-6, 2.5e-6], 1e6) == "2.5 (1.0-3.0)"
    assert figures.spread([0.456], 1, 2) == "0.46"


def test_a_further_position_costs_a_ninth_of_what_ten_cost_more_than_one() -> None:
    group = {"seconds": {"one position": {"ours": [2.0, 3.0]}, "ten positions": {"ours": [20.0, 12.0]}}}
    assert figures.call_costs(group, "ours")["each further one"] == [2.0, 1.0]


def test_flatness_is_the_dearest_length_over_the_cheapest_by_the_fastest_of_their_rounds() -> None:
    assert figures.flatness([[1.0, 2.0, 1.25], [9.0, 1.5, 1.2], [1.1, 1.6, 1.3]]) == 1.2


def test_growth_is_what_the_last_takes_over_the_cheapest_of_the_others() -> None:
    assert figures.growth([[2.0], [1.0, 1.6, 1.1], [1.1, 1.21, 3.0]]) == 1.1
    assert figures.growth([[2.0], [4.0], [1.0]]) == 0.5  # cheaper is no growth


def test_the_median_of_the_rounds_decides_not_one_of_them() -> None:
    assert figures.Check("x", [0.1, 0.4, 9.0], 0.4).passed
    assert not figures.Check("x", [0.1, 0.41, 0.42], 0.4).passed


def test_what_was_not_measured_is_missed() -> None:
    check = figures.Check("x", [], 0.4)
    assert not check.passed
    assert str(check) == "x: not measured of stock, allowed 0.4: MISSED"
    assert not any(check.passed for check in figures.checks({}))


def measured() -> dict:
    """Return figures in which every target is met exactly, of a machine on which stock takes the nominal time."""
    stock, yardstick = [1.0, 1.0], [figures.NOMINAL * 1e-6] * 2
    swap = {
        f"{feed}, {case}": {"stock": stock, "ours": [limit] * 2}
        for feed in figures.SWAP_FEEDS
        for case, limit in figures.SWAP_TARGETS.items()
    }
    calls = {"one position": {"ours": [0.9e-6] * 2}, "ten positions": {"ours": [(0.9 + 9 * 0.69) * 1e-6] * 2}}
    whole = {"stock": stock, **{engine: [limit] * 2 for engine, limit in figures.WHOLE_TARGETS.items()}}
    return {
        "swap": {"seconds": swap},
        "calls": {"seconds": calls, "yardstick": yardstick},
        "whole": {"seconds": {"whole": whole}},
        "series": {"seconds": {"series": {"ours": [0.29e-6] * 2}}, "yardstick": yardstick},
        "reversals": {"seconds": {"reversal": {"stock": [205e-6] * 2, "own loop": [119e-6] * 2}}, "yardstick": yardstick},
        "imports": [{"seconds": 0.029, "MB": 3.0, "yardstick": yardstick[0]}] * 2,
        "memory": {"year": [150.0], "two workers": [250.0]},
        "sweeps": {
            "seconds": {"one worker": [76.0, 76.0], "two workers": [40.0, 40.0]},
            "yardstick": yardstick,
            "megabytes": {"workers": [250.0, 250.0]},
        },
        "scale": {"ours": {f"1 x {bars}": [{"seconds": 1.0}, {"seconds": 1.1}] for bars in figures.SCALES}},
    }


def test_all_targets_are_met_where_each_figure_is_at_its_limit() -> None:
    assert [str(check) for check in figures.checks(measured()) if not check.passed] == []


@pytest.mark.parametrize(
    ("path", "worse", "name"),
    [
        (("swap", "seconds", "PerpData, ten positions", "ours"), [0.71, 0.71], "broker alone, PerpData, ten positions"),
        (("calls", "seconds", "one position", "ours"), [1.1e-6] * 2, "broker.next, one position"),
        (("calls", "seconds", "ten positions", "ours"), [8e-6] * 2, "broker.next, each further one"),
        (("whole", "seconds", "whole", "host loop"), [0.41, 0.41], "whole backtest, host loop"),
        (("whole", "seconds", "whole", "own loop"), [0.105, 0.105], "whole backtest, own loop"),
        (("whole", "seconds", "whole", "fast averages"), [0.08, 0.08], "whole backtest, fast averages"),
        (("series", "seconds", "series", "ours"), [0.31e-6] * 2, "recorded series, a bar"),
        (("reversals", "seconds", "reversal", "own loop"), [121e-6] * 2, "a reversing order"),
        (("reversals", "seconds", "reversal", "stock"), [190e-6] * 2, "a reversing order, beside stock's"),
        (("imports",), [{"seconds": 0.031, "MB": 3.0, "yardstick": figures.NOMINAL * 1e-6}], "import bt_margin, CPU"),
        (("imports",), [{"seconds": 0.029, "MB": 3.1, "yardstick": figures.NOMINAL * 1e-6}], "import bt_margin, memory"),
        (("memory", "year"), [151.0], "peak memory, year"),
        (("memory", "two workers"), [251.0], "peak memory, two workers"),
        (("sweeps", "seconds"), {"one worker": [80.0] * 2, "two workers": [40.2] * 2}, "a sweep by two workers"),
        (("sweeps", "seconds", "one worker"), [75.0, 75.0], "a sweep, two workers to one"),
        (("sweeps", "megabytes", "workers"), [251.0, 251.0], "peak memory, a sweep's two workers"),
        (
            ("scale", "ours", "1 x 1000000"),
            [{"seconds": 1.15}, {"seconds": 1.17}],
            "cost of a bar of 10,000, 100,000, 1,000,000, dearest to cheapest",
        ),
    ],
)
def test_each_target_that_is_missed_is_named(path: tuple[str, ...], worse: list, name: str) -> None:
    found = measured()
    place = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = worse
    assert [check.name for check in figures.checks(found) if not check.passed] == [name]


@pytest.mark.parametrize(("missing", "code"), [(None, 0), ("series", 1)])
def test_the_gate_fails_with_the_names_of_what_is_missed(monkeypatch, capsys, missing: str | None, code: int) -> None:
    found = {name: group for name, group in measured().items() if name != missing}
    monkeypatch.setattr(run, "collect", lambda *_: found)
    assert run.gate(None) == code
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == ("1 of 22 missed: recorded series, a bar" if missing else "all 22 met")


# -- tables ----------------------------------------------------------------------------------------------------------


def test_a_table_has_its_first_column_to_the_left_and_the_others_to_the_right() -> None:
    assert tables.table(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


def test_the_whole_backtest_is_told_per_bar_with_its_ratio_to_stock_and_its_target() -> None:
    seconds = {part: {"stock": [1.0], "host loop": [0.25]} for part in ("feed", "loop", "series", "whole")}
    text = tables.whole_section({"seconds": seconds, "bars": 10_000, "rounds": 1, "fills": 7})
    # 0.25 s of 10 000 bars are 25 us each; a quarter of 67.1 us are 16.8 us
    assert "| host loop | 25.0 | 25.0 | 25.0 | 25.0 | 0.250 | 16.8 | 0.400 |" in text
    assert "| stock | 100.0 | 100.0 | 100.0 | 100.0 | 1.000 | 67.1 | - |" in text


def test_what_stock_does_not_have_is_a_dash() -> None:
    text = tables.features_section({"seconds": {"W": {"ours": [2e-6], "stock": [4e-6]}, "ours alone": {"ours": [3e-6]}}, "bars": 100})
    assert "| W | 4.0 | 2.0 | 0.50 |" in text
    assert "| ours alone | - | 3.0 | - |" in text


def test_importing_is_told_alone_and_with_what_a_backtest_names() -> None:
    row = {"seconds": 0.020, "MB": 2.0, "used": {"seconds": 0.060, "MB": 5.0}, "yardstick": 2 * figures.NOMINAL * 1e-6}
    text = tables.process_section({"processes": {"stock": [(3.0, 150.0)]}, "memory": {"year": [140.0]}, "imports": [row], "year": 1_000})
    # on a machine of half the nominal speed 20 ms are 10 nominal ones
    assert "| import bt_margin | 20.0 | 10.0 | 30 | 2.0 | 3 |" in text
    assert "| ... and run, MarginBroker, PerpCommInfo, PerpData named | 60.0 | 30.0 | - | 5.0 | - |" in text
    assert "| stock | 3.0 | 150 | - |\n| ours, year, without pandas | - | 140 | 150 |" in text


def test_parts_are_shares_of_the_time_without_a_profiler() -> None:
    engines = {"stock": {"seconds": 100e-6, "shares": {"feed": 0.25, "loop": 0.75}}}
    text = tables.parts_section({"bars": 10, "engines": engines})
    assert "| feed | 25.0 (25%) |\n| loop | 75.0 (75%) |\n| **all** | 100.0 |" in text


def test_long_runs_stand_beside_stocks_where_it_ran() -> None:
    one = {"seconds": 10e-6, "peak": 200.0}
    text = tables.scale_section(
        {"ours": {"1 x 10000": [one], "200 x 20000": [one]}, "stock": {"1 x 10000": [{"seconds": 40e-6, "peak": 100.0}]}}
    )
    assert "| 1 x 10,000 | 40.0 | 10.0 | 0.25 | 100 | 200 |" in text
    assert "| 200 x 20,000 | - | 10.0 | - | - | 200 |" in text
    assert "of one of" not in text  # contracts of one number have nothing to grow from


def test_long_runs_tell_how_flat_they_are_one_contract_and_several_apart() -> None:
    costs = {"1 x 10000": 10.0, "1 x 5000000": 10.5, "10 x 20000": 8.0, "200 x 20000": 10.0}
    runs = {case: [{"seconds": us * 1e-6, "peak": 1.0, "gc": us * share * 1e-6} for share in (0.9, 0.1, 0.2)] for case, us in costs.items()}
    text = tables.scale_section({"ours": runs, "stock": {}})
    assert "fastest rounds, one contract, the dearest bar to the cheapest: 1.05 (at most 1.10)." in text
    assert "A bar of one of 200 contracts to the cheapest with fewer: 1.25 (at most 1.10)." in text
    assert "2.10 us of a bar of 1 x 5000000, 1.60 of 10 x 20000." in text


def test_a_sweep_is_told_by_run_and_whole_with_what_stock_would_take_for_as_many() -> None:
    seconds = {"one worker": [38.0], "two workers": [20.0], "stock, two workers": [2.0]}
    text = tables.sweeps_section(
        {
            "seconds": seconds,
            "yardstick": [2 * figures.NOMINAL * 1e-6],
            "runs": 64,
            "stock_runs": 8,
            "bars": 100_000,
            "year": 525_600,
            "megabytes": {"workers": [201.4], "year": 456.7, "parent": 512.0},
        }
    )
    # on a machine of half the nominal speed 20 s are 10 nominal ones; 64 runs of 2 s are 128 s
    assert "| two workers | 0.31 | 20.0 | 10.0 | 40 | 1.90 |" in text
    assert "| stock | 2.00 | (128.0) | (64.0) | - | - |" in text
    assert "have at most 201 MB between them" in text
    assert "two whose runs have 525,600 bars 457 MB" in text


# -- parts -----------------------------------------------------------------------------------------------------------


def row(own: float, **callers: tuple[int, float]) -> tuple:
    """Return a line of pstats: own time, and by the name of each caller how often it called and how long it waited."""
    return (1, 1, own, own, {FUNCTIONS[name]: (calls, calls, 0.0, waited) for name, (calls, waited) in callers.items()})


FUNCTIONS = {
    "loop": ("/x/backtrader/cerebro.py", 1, "_runonce"),
    "next": (FILE + "broker.py", 2, "next"),
    "write": (FILE + "clock.py", 3, "write"),
    "shared": (FILE + "clock.py", 4, "shared"),
    "len": ("~", 0, "<built-in method builtins.len>"),
}


def test_a_function_belongs_to_the_part_that_called_it_and_a_shared_one_to_each_by_its_share() -> None:
    stats = {
        FUNCTIONS["loop"]: row(1.0),
        FUNCTIONS["next"]: row(2.0, loop=(1, 4.0)),
        FUNCTIONS["write"]: row(3.0, next=(1, 3.0)),
        FUNCTIONS["shared"]: row(4.0, next=(3, 3.0), write=(1, 1.0)),
    }
    found = parts.split(stats)
    # of 10 s in all: next 2 + 3/4 of 4, write 3 + 1/4 of 4
    assert {part: share for part, share in found.items() if share} == pytest.approx(
        {"loop and advance": 0.1, "broker.next": 0.5, "record": 0.4}
    )


def test_what_took_no_time_to_wait_for_is_shared_out_by_calls_and_what_nobody_calls_is_the_rest() -> None:
    stats = {
        FUNCTIONS["loop"]: row(1.0),
        FUNCTIONS["write"]: row(1.0),
        FUNCTIONS["len"]: row(2.0, loop=(3, 0.0), write=(1, 0.0)),
        FUNCTIONS["shared"]: row(4.0),
    }
    found = parts.split(stats)
    assert {part: share for part, share in found.items() if share} == pytest.approx(
        {"loop and advance": 2.5 / 8, "record": 1.5 / 8, "setup and end": 0.5}
    )


def test_what_the_profiler_adds_to_a_call_is_taken_off_caller_and_called() -> None:
    stats = {FUNCTIONS["loop"]: row(5.0), FUNCTIONS["write"]: (2, 2, 3.0, 3.0, {FUNCTIONS["loop"]: (2, 2, 3.0, 3.0)})}
    stats[FUNCTIONS["len"]] = (4, 4, 0.5, 0.5, {FUNCTIONS["loop"]: (4, 4, 0.5, 0.5)})
    found = parts.own_times(stats, (parts.Bias(1.0, 0.5), parts.Bias(0.25, 0.25)))
    # the loop is called once for 1; two calls of write cost it 1 each and the loop 0.5 each, four of len 0.25 on either side
    assert list(found.values()) == [5.0 - 1.0 - 2 * 0.5 - 4 * 0.25, 3.0 - 2 * 1.0, 0.0]


def test_functions_that_call_each_other_end_up_in_the_part_that_began() -> None:
    stats = {
        FUNCTIONS["next"]: row(0.0),
        FUNCTIONS["shared"]: row(1.0, next=(1, 1.0), len=(5, 9.0)),
        FUNCTIONS["len"]: row(1.0, shared=(5, 9.0)),
    }
    assert parts.split(stats)["broker.next"] == pytest.approx(1.0)


# -- the work --------------------------------------------------------------------------------------------------------


def test_every_engine_does_the_work_of_stock_and_every_part_of_it_is_measured() -> None:
    found = cases.measure_whole(600, 1)
    engines = list(workload.engines())
    assert found["fills"] > 0
    assert {part: list(seconds) for part, seconds in found["seconds"].items()} == dict.fromkeys(
        ("feed", "loop", "series", "whole"), engines
    )


@pytest.mark.parametrize("strategy", [workload.Hold, workload.Rest, workload.Bracket, workload.Flip, workload.CrossAll])
def test_every_strategy_trades_in_stock_as_in_ours(strategy) -> None:
    frames = [workload.candles(300, seed) for seed in (1, 2)]
    stock = workload.backtest(frames, workload.engines()["stock"], strategy).strategy
    assert stock.fills > 0
    workload.check_same_work(stock, workload.backtest(frames, workload.usual(), strategy).strategy)


def test_runs_that_differ_are_refused() -> None:
    frames = [workload.candles(300)]
    stock = workload.backtest(frames, workload.engines()["stock"], workload.Hold).strategy
    ours = workload.backtest(frames, workload.usual(), workload.Flip).strategy
    with pytest.raises(SystemExit, match="the runs differ: 1 fills in stock and 30 in ours"):
        workload.check_same_work(stock, ours)


def test_a_run_that_fell_back_to_the_hosts_loop_is_refused() -> None:
    workload.check_loop(SimpleNamespace(env=SimpleNamespace(host_loop_reason="")))
    with pytest.raises(SystemExit, match="the host's loop ran where the own one was to be measured: a filter"):
        workload.check_loop(SimpleNamespace(env=SimpleNamespace(host_loop_reason="a filter")))


def test_walked_bars_are_told_as_a_share_of_all() -> None:
    seconds = {"turned": {"stock": [1e-6]}, "path of the bar": {"ours": [2e-6]}}
    text = tables.walks_section({"seconds": seconds, "bars": 200, "path of the bar": {"walked": 50, "liquidations": 1_000}})
    assert "| turned | 1 | - | - | - |\n| path of the bar | - | 2 | 25% | 1,000 |" in text


def test_a_sweep_runs_every_combination_and_its_workers_are_watched() -> None:
    frame = workload.candles(800)
    with sweeps.watched() as peaks:
        assert sweeps.swept(frame, 2, (3,)) > 0
    assert peaks["workers"] > 20 or not Path("/proc/self/smaps_rollup").exists()
    assert sweeps.optimized(frame.iloc[:150]) > 0


def test_a_sweep_with_a_run_that_failed_is_no_figure(monkeypatch) -> None:
    monkeypatch.setattr(sweeps, "RULES", ("equity:fraction=0.01", "size:size=1e9"))
    with pytest.raises(SystemExit, match="not every run of the sweep was one"):
        sweeps.swept(workload.candles(200), 1, (3,))


def test_a_silent_broker_stops_once_everything_is_held() -> None:
    kind = cases.silent(cases.bm.MarginBroker)
    engine = cases.on("host loop", workload.funded_feed, lambda: workload.margin_broker(kind))
    held = workload.backtest([workload.candles(300)], engine, workload.Hold).strategy
    assert held.fills == 1
    assert len(held) == 300
    assert len(held.broker.record) == 2  # ordered on the first bar, held from the second


def test_a_stopwatch_counts_what_timed_functions_call_among_themselves_once() -> None:
    watch = cases.Stopwatch()
    inner = watch.timed(lambda: 1)
    outer = watch.timed(lambda: inner() + inner())
    assert outer() == 2
    assert watch.calls == 1
    assert inner() == 1
    assert watch.calls == 2


def test_the_writers_of_the_series_are_called_and_put_back() -> None:
    originals = [getattr(owner, name) for owner, name in cases.WRITERS]
    found = cases.measure_series(300, 1)
    assert found["rows"] == 300
    assert [getattr(owner, name) for owner, name in cases.WRITERS] == originals


def test_series_whose_writer_is_not_timed_are_no_figure(monkeypatch) -> None:
    monkeypatch.setattr(cases, "WRITERS", ((cases.Group, "told"),))
    with pytest.raises(SystemExit, match="was called 0 times and wrote 300 rows of 300"):
        cases.measure_series(300, 1)


def test_bars_that_may_liquidate_are_walked_with_minutes_inside_too() -> None:
    found = cases.measure_walks(100, 1)
    assert found["with minutes inside"]["walked"] > 10
    assert found["path of the bar"]["liquidations"] > 0


def test_one_thing_is_asked_for_at_a_time(capsys) -> None:
    assert run.asked(["--gate", "--quick"]).gate
    with pytest.raises(SystemExit):
        run.asked(["--gate", "--scale"])
    assert "not allowed with argument" in capsys.readouterr().err


class NamedBench:
    """Says of everything that is asked for what it was."""

    is_quick = True

    def group(self, name: str) -> str:
        return name

    def long_run(self, contracts: int, bars: int, engine: str) -> dict:
        return {"asked": (contracts, bars, engine), "fills": 7}

    def __getattr__(self, name: str):
        return lambda *_: name


def test_only_what_is_named_is_measured() -> None:
    assert run.collect(NamedBench(), ("swap", "whole")) == {"whole": "whole", "swap": "swap"}
    assert list(run.collect(NamedBench(), ("processes",))) == ["processes", "year", "imports", "memory"]
    assert run.collect(NamedBench(), ("imports", "scale")) == {"imports": "imports", "memory": "memory", "scale": "scale"}


def test_long_runs_have_stock_beside_where_it_comes_to_an_end() -> None:
    found = run.long_runs(NamedBench())["scale"]
    asked = {engine: [case["asked"] for runs in cases_of.values() for case in runs] for engine, cases_of in found.items()}
    assert asked == {"ours": [(1, 2_000, "ours"), (5, 500, "ours")], "stock": [(1, 2_000, "stock")]}


def test_long_runs_that_traded_differently_are_refused() -> None:
    found = {"ours": {"1 x 10": [{"fills": 3}, {"fills": 3}], "2 x 10": [{"fills": 9}]}, "stock": {"1 x 10": [{"fills": 4}]}}
    with pytest.raises(SystemExit, match=r"the runs of 1 x 10 bars differ: \[3, 4\] fills"):
        run.check_same_fills(found)


def test_every_group_has_its_size_its_section_and_its_function() -> None:
    assert set(run.SIZES) == set(tables.SECTIONS) == set(cases.GROUPS)
    assert set(run.GATED) <= set(run.SIZES)
    assert run.SIZES["sweeps"][0] == sweeps.FULL  # fewer would watch the memory of shorter runs


def test_a_page_tells_the_speed_of_the_machine_and_what_was_asked() -> None:
    group = {"seconds": {part: {"stock": [1.0]} for part in ("feed", "loop", "series", "whole")}, "bars": 10_000, "rounds": 1, "fills": 7}
    text = run.page({"whole": {**group, "yardstick": [134.2e-6]}}, "make it", 0.5, is_whole=False)
    assert "Written by `make it`" in text
    assert "stock takes 134.2 us for a bar of W, 0.50 of the nominal speed" in text
    assert "## Whole backtest" in text
    assert "## Targets" not in text
