"""compare(): what is run, on which paths, how it is ranked and kept, and what is refused."""

import json
from math import isnan

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from lab_strategies import AlsoTenth, Breaks, BreaksBelow, Counting, Flips, Holds, Rests, Tenth

import bt_margin as bm
from bt_margin.bootstrap import generator, resampled
from bt_margin.comparison import AXES, Comparison, _candles, column_of, compare
from bt_margin.core.top_up import TopUp
from bt_margin.engines import Engine, play_by_loop
from bt_margin.outcome import AGGREGATES, FIGURES, Outcome
from bt_margin.sizers import EquityFraction
from bt_margin.sweep import Stopped

HOUR = 3_600
START = 1_704_067_200  # 2024-01-01
MAJOR = (EquityFraction, {"fraction": 2.0})


def candles(bars=240, *, seed=1, sigma=0.006, price=30_000.0, start=START) -> dict:
    """Return hours of a random walk as arrays by name."""
    random = np.random.default_rng(seed)
    closes = price * np.exp(np.cumsum(random.normal(0, sigma, bars)))
    opens = np.concatenate([[price], closes[:-1]])
    return {
        "time": start + HOUR * np.arange(bars),
        "open": opens,
        "high": np.maximum(opens, closes) * 1.001,
        "low": np.minimum(opens, closes) * 0.999,
        "close": closes,
        "volume": np.ones(bars),
    }


def compared(strategy=Flips, data=None, **terms) -> Comparison:
    given = {"funding": {"BTCUSDT": 0.0001}} if data is None else {}
    return compare(strategy, {"BTCUSDT": candles()} if data is None else data, **{"backend": "serial", **given, **terms})


def same(first: Comparison, second: Comparison) -> bool:
    """Return whether two comparisons have the same numbers to the last bit."""
    pd.testing.assert_frame_equal(first.table, second.table, check_exact=True)
    pd.testing.assert_frame_equal(first.runs, second.runs, check_exact=True)
    assert first.fans.keys() == second.fans.keys()
    return all(np.array_equal(first.fans[number], second.fans[number]) for number in first.fans)


# -- what is run -----------------------------------------------------------------------------------------------------


def test_every_combination_has_a_row_and_every_path_a_run():
    told = compared(sizers=[0.1, MAJOR], leverages=[2, 5], margin_modes=["cross", "isolated"], params={"fast": [2, 3], "slow": 8}, paths=1)
    assert told.combinations == len(told.table) == 2 * 2 * 2 * 2
    assert sorted(told.table.index) == list(range(16))
    assert len(told.runs) == 16 * 2
    assert list(told.table.columns) == [*AXES, "fast", "paths", "errors", *AGGREGATES, "is_admitted"]
    assert list(told.runs.columns) == ["combination", "path", *FIGURES, "error"]
    assert set(told.table["rule"]) == {"size 0.1", bm.sizers.label(MAJOR)}
    assert set(told.fans) == set(told.history) == set(range(16))
    assert told.fans[0].shape == (5, len(told.fan_days))
    assert told.fan_days[[0, -1]].tolist() == [0.0, 10.0]
    assert told.errors.empty


def test_path_0_is_the_history_as_run_has_it():
    told = compared(sizers=[MAJOR], leverages=[5])
    result = bm.run(Flips, {"BTCUSDT": candles()}, leverage=5, sizer=MAJOR, funding={"BTCUSDT": 0.0001})
    known = Outcome(result).figures
    run = told.runs.iloc[0]
    assert run["path"] == 0
    for name in FIGURES:
        assert (known[name] is None and isnan(run[name])) or run[name] == known[name], name
    assert told.history[0][-1] == pytest.approx(known["wealth"], rel=1e-6)
    assert told.history[0][0] == 1.0


def test_a_path_is_the_engine_run_on_rows_drawn_from_the_history():
    index = pd.DatetimeIndex(pd.to_datetime(START + 8 * HOUR * np.arange(31), unit="s", utc=True))
    funding = pd.Series(np.linspace(-0.001, 0.002, 31), index=index)
    data = candles()
    told = compared(sizers=[MAJOR], leverages=[5], paths=2, block=24, seed=7, data={"BTCUSDT": data}, funding=funding)
    history = _candles(bm.PerpData(dataname=data, name="BTCUSDT", funding=funding))
    (path,) = resampled([history], 24, generator(7, 2))
    drawn = {**{name: path.columns[name] for name in ("open", "high", "low", "close", "volume")}, "time": data["time"]}
    result = bm.run(Flips, {"BTCUSDT": drawn}, leverage=5, sizer=MAJOR, funding=pd.Series(path.rates, index=index))
    run = told.runs[told.runs["path"] == 2].iloc[0]
    known = Outcome(result).figures
    for name in ("wealth", "max_drawdown", "funding_paid", "funding_received", "trades", "closest_call_atr"):
        assert run[name] == pytest.approx(known[name], rel=1e-9), name


def test_all_combinations_meet_the_same_paths():
    told = compared(sizers=[Tenth, AlsoTenth], paths=3)
    first, second = (told.runs[told.runs["combination"] == number].drop(columns="combination") for number in (0, 1))
    pd.testing.assert_frame_equal(first.reset_index(drop=True), second.reset_index(drop=True))
    assert first["wealth"].nunique() == 4


def test_the_seed_decides_the_paths_and_not_the_history():
    first, second = (compared(sizers=[0.1], paths=2, seed=seed) for seed in (1, 2))
    assert first.runs["wealth"][0] == second.runs["wealth"][0]
    assert (first.runs["wealth"][1:] != second.runs["wealth"][1:]).all()


def test_the_table_is_the_same_for_any_number_of_workers():
    terms = {"sizers": [0.1, MAJOR], "leverages": [2, 20], "paths": 1, "seed": 5}
    alone = compared(**terms)
    assert same(alone, compared(**terms, backend="loky", workers=1))
    assert same(alone, compared(**terms, backend="loky", workers=2))


def test_contracts_are_drawn_together():
    data = {"BTCUSDT": candles(), "ETHUSDT": {**candles(), "time": START + HOUR * np.arange(240)}}
    told = compared(Holds, data, sizers=[0.1], paths=2, block=12)  # the same prices under two names
    doubled = compared(Holds, {"BTCUSDT": candles()}, sizers=[0.2], paths=2, block=12)
    assert told.runs["wealth"].tolist() == pytest.approx(doubled.runs["wealth"].tolist())


def test_contracts_with_other_bars_are_cut_to_common_ones_and_that_is_said():
    data = {"BTCUSDT": candles(), "ETHUSDT": candles(200, start=START + 40 * HOUR)}
    told = compared(Holds, data, sizers=[0.1], paths=1)
    assert any("only bars that all contracts have" in flag and "200 of 240" in flag for flag in told.flags)
    assert told.settings["bars"] == 200
    assert compared(Holds, data, sizers=[0.1]).settings["bars"] == 240  # nothing is drawn, nothing is cut


def test_finer_bars_are_left_out_and_that_is_said():
    feed = bm.PerpData(dataname=candles(), name="BTCUSDT", detail=candles())
    told = compared(Holds, {"BTCUSDT": feed}, sizers=[0.1])
    assert any("finer bars are not drawn" in flag for flag in told.flags)


def test_a_constant_rate_is_charged_as_often_as_each_venue_does():
    told = compared(Holds, {"BTC": candles()}, sizers=[0.1], leverages=[5], venues=["generic", "hyperliquid"], funding={"BTC": 0.0001})
    assert told.errors["error"].tolist() == []
    paid = told.table.set_index("venue")["funding_paid"]
    assert paid["hyperliquid"] == pytest.approx(8 * paid["generic"], rel=0.05)  # every hour, and every eight


def test_arguments_of_run_reach_the_runs():
    costly = compared(sizers=[0.1], fee=(0.001, 0.01), intrabar="close", cash=50_000)
    assert costly.settings["cash"] == 50_000
    assert costly.settings["intrabar"] == "close"
    assert costly.table["fees"].iloc[0] == pytest.approx(
        compared(sizers=[0.1], fee=0.001, cash=50_000).table["fees"].iloc[0] * 10, rel=1e-9
    )
    crash = {"BTCUSDT": candles(sigma=0.03)}
    saved = compared(Holds, crash, sizers=[0.9], leverages=[20], margin_modes=["isolated"], cash=1e6, top_up=TopUp(amount=1e5, times=3))
    lost = compared(Holds, crash, sizers=[0.9], leverages=[20], margin_modes=["isolated"], cash=1e6)
    assert saved.table["full_liquidations"].iloc[0] == 0 < lost.table["full_liquidations"].iloc[0]


def test_a_parameter_that_is_called_as_a_figure_has_a_column_of_its_own():
    assert column_of("leverage") == "param_leverage"
    assert column_of("fast") == "fast"


def test_a_process_that_was_on_another_market_does_not_take_it_for_this_one():
    data = candles()
    alone = compared(Holds, {"BTC": data}, sizers=[0.1], leverages=[5], venues=["hyperliquid"])
    for other in ({"BTCUSDT": data}, {"BTC": candles(seed=2)}):
        compared(Holds, other, sizers=[0.1], venues=["generic"])
    compared(Holds, {"BTC": data}, sizers=[0.1], leverages=[5], venues=["hyperliquid"], split="2024-01-06")
    assert same(alone, compared(Holds, {"BTC": data}, sizers=[0.1], leverages=[5], venues=["hyperliquid"]))


def test_arrays_of_numpy_are_lists_of_what_is_tried():
    told = compared(sizers=[0.1], leverages=np.arange(2, 4), params={"fast": np.array([2, 3])}, paths=1, block=np.inf)
    assert told.settings["leverages"] == [2, 3]
    assert sorted(told.table["fast"]) == [2, 2, 3, 3]
    assert told.settings["block"] is None
    assert "in one block" in str(told)


# -- how it is ranked ------------------------------------------------------------------------------------------------


def test_those_within_the_cap_come_first_each_part_by_median_log_wealth():
    told = compared(Holds, {"BTCUSDT": candles(sigma=0.02)}, sizers=[0.05, 0.3, 3.0], leverages=[2, 20, 50], paths=8, cap=0.3, cash=20_000)
    table = told.table
    assert table["is_admitted"].any()
    assert not table["is_admitted"].all()
    assert (table["is_admitted"] == (table["p_liquidation"] <= 0.3)).all()
    assert table["is_admitted"].is_monotonic_decreasing
    for _, part in table.groupby("is_admitted"):
        assert part["median_log_wealth"].is_monotonic_decreasing
    assert (table["p_liquidation_low"] <= table["p_liquidation"]).all()
    assert (table["p_liquidation"] <= table["p_liquidation_high"]).all()
    runs = told.runs[told.runs["path"] > 0]
    assert table["p_liquidation"].sort_index().tolist() == runs.groupby("combination")["is_liquidated"].mean().tolist()


def test_without_paths_there_is_no_probability():
    told = compared(Holds, {"BTCUSDT": candles(sigma=0.03)}, sizers=[0.05, 3.0], leverages=[20], cash=20_000)
    for name in ("p_liquidation", "p_liquidation_low", "p_liquidation_high", "p_ruin", "p_deep_drawdown", "wealth_5", "wealth_95"):
        assert told.table[name].isna().all(), name
    assert told.table["wealth_50"].notna().all()
    dead = told.table["full_liquidations"] > 0
    assert dead.tolist() == [False, True]
    assert (told.table["is_admitted"] == ~dead).all()
    assert np.array_equal(told.fans[0][0], told.history[0])  # the one history, five times
    assert any("there is no probability" in flag for flag in told.flags)
    assert " 0 (" not in str(told)


def test_all_ruined_and_nothing_traded_are_told():
    ruined = compared(Holds, {"BTCUSDT": candles(sigma=0.05)}, sizers=[3.0], leverages=[50], paths=4, cash=5_000)
    assert ruined.table["p_ruin"].iloc[0] == 1.0
    assert ruined.table["annual_return"].iloc[0] == -1.0
    assert ruined.table["median_log_wealth"].iloc[0] == pytest.approx(np.log(0.01))
    idle = compared(Rests, paths=2)
    assert idle.table["wealth_50"].iloc[0] == 1.0
    assert idle.table["trades"].iloc[0] == 0
    assert isnan(idle.table["closest_call"].iloc[0])
    assert idle.table["is_admitted"].iloc[0]
    assert str(idle)


def test_a_rule_that_had_no_part_is_named_once():
    told = compared(Rests, sizers=["risk:fraction=1%", "equity:fraction=2"], leverages=[2, 5])
    named = [flag.split(":")[0] for flag in told.flags if "asked for no entry" in flag]
    assert sorted(named) == sorted(told.settings["rules"])


def test_one_bar_can_be_compared():
    feed = bm.PerpData(
        dataname={name: column[:1] for name, column in candles().items()}, name="BTCUSDT", timeframe=bt.TimeFrame.Minutes, compression=60
    )
    told = compared(Rests, {"BTCUSDT": feed}, paths=2, block=1)
    assert told.table["wealth_50"].iloc[0] == 1.0
    assert told.market["sigma"] is None


def test_the_market_has_what_the_kelly_parabola_needs():
    told = compared(Rests)
    closes = candles()["close"]
    moves = np.diff(np.log(closes))
    years = 239 / (365 * 24)
    sigma = moves.std(ddof=1) * np.sqrt(239 / years)
    assert told.market["sigma"] == pytest.approx(sigma)
    assert told.market["mu"] - told.market["sigma"] ** 2 / 2 == pytest.approx(np.log(closes[-1] / closes[0]) / years)


# -- walk-forward ----------------------------------------------------------------------------------------------------


def test_a_split_ranks_by_the_first_period_and_shows_the_second_in_its_order():
    told = compared(sizers=[0.1, 0.2, MAJOR], leverages=[5], paths=2, split="2024-01-06")
    assert told.train is told.table
    assert told.test is not None
    assert told.test.index.tolist() == told.table.index.tolist()
    assert set(told.runs["period"]) == {"train", "test"}
    assert len(told.runs) == 3 * 3 * 2
    assert told.settings["walk_forward"] == "2024-01-06T00:00:00Z"
    assert told.fan_days[-1] == 5.0
    halves = {name: {key: column[rows] for key, column in candles().items()} for name, rows in PARTS.items()}
    for part, frame in (("train", told.train), ("test", told.test)):
        alone = compared(sizers=[0.1, 0.2, MAJOR], leverages=[5], paths=2, data={"BTCUSDT": halves[part]}, funding={"BTCUSDT": 0.0001})
        pd.testing.assert_frame_equal(alone.table.sort_index(), frame.sort_index())


PARTS = {"train": slice(0, 120), "test": slice(120, 240)}


def test_what_comes_after_the_split_changes_nothing_before_it():
    other = candles()
    later = candles(seed=9)
    for name in ("open", "high", "low", "close"):
        other[name] = np.concatenate([other[name][:120], later[name][120:]])
    terms = {"sizers": [0.1, MAJOR], "leverages": [20], "paths": 2, "split": "2024-01-06"}
    first, second = compared(**terms), compared(**terms, data={"BTCUSDT": other}, funding={"BTCUSDT": 0.0001})
    pd.testing.assert_frame_equal(first.train, second.train, check_exact=True)
    assert not first.test["wealth_50"].equals(second.test["wealth_50"])
    assert all(np.array_equal(first.fans[number], second.fans[number]) for number in first.fans)
    assert first.market == second.market


def funding_after(hours: range) -> pd.Series:
    """Return funding every eight hours of the first 120, of its own rate each time, and then at other hours."""
    stamps = [*range(0, 120, 8), *hours]
    index = pd.to_datetime([START + HOUR * hour for hour in stamps], unit="s", utc=True)
    return pd.Series([1e-4 * (hour % 5 - 1) for hour in stamps], index=index)


def test_a_venue_that_settles_more_often_after_the_split_changes_no_path_before_it():
    terms = {"sizers": [MAJOR], "leverages": [10], "paths": 2, "split": "2024-01-06", "data": {"BTCUSDT": candles()}}
    first, second = (compared(**terms, funding=funding_after(range(120, 241, every))) for every in (8, 1))
    pd.testing.assert_frame_equal(first.train, second.train, check_exact=True)
    half = {"BTCUSDT": {name: column[:120] for name, column in candles().items()}}
    alone = compared(**{**terms, "split": None, "data": half}, funding=funding_after(range(0)))
    pd.testing.assert_frame_equal(first.train, alone.table, check_exact=True)


@pytest.mark.parametrize("split", ["2023-01-01", "2025-01-01"])
def test_a_split_outside_of_the_data_is_refused(split):
    with pytest.raises(ValueError, match=r"split 202.-01-01T00:00:00Z leaves BTCUSDT no bar on one side; its bars close from"):
        compared(split=split)


# -- what fails ------------------------------------------------------------------------------------------------------


def test_a_strategy_that_raises_is_a_row_with_its_error():
    told = compared(Breaks, sizers=[0.1], paths=1)
    assert told.table["errors"].iloc[0] == 2
    assert not told.table["is_admitted"].iloc[0]
    assert isnan(told.table["wealth_50"].iloc[0])
    assert len(told.errors) == 2
    assert "Breaks raised KeyError on the bar of 2024-01-01 10:00 UTC" in told.errors["error"].iloc[0]
    assert told.fans == {}
    assert "runs that failed: 2" in str(told)


def test_a_combination_that_cannot_be_is_a_row_and_the_others_are_ranked_before_it():
    told = compared(leverages=[300, 2])
    assert told.table["leverage"].tolist() == [2, 300]
    assert told.table["errors"].tolist() == [0, 1]
    assert "leverage 300 is not possible" in told.errors["error"].iloc[0]
    assert any("combinations with runs that failed: 1" in flag for flag in told.flags)


def test_a_rule_that_fails_on_some_paths_is_not_ranked_first():
    told = compared(BreaksBelow, {"BTCUSDT": candles(sigma=0.015)}, sizers=[0.01], paths=6)
    assert 0 < told.table["errors"].iloc[0] < 7
    assert not told.table["is_admitted"].iloc[0]
    assert told.table["wealth_50"].notna().all()


def test_a_job_that_dies_whole_is_an_error_of_each_of_its_combinations(monkeypatch):
    def die(market, combinations):
        if market.path == 1:
            raise MemoryError("no more")
        yield from play_by_loop(market, combinations)

    monkeypatch.setattr("bt_margin.engines.ENGINES", {"loop": Engine(die, bars=1e9)})
    told = compared(sizers=[0.1, 0.2], paths=2)
    assert told.errors[["combination", "path"]].to_numpy().tolist() == [[0, 1], [1, 1]]
    assert told.errors["error"].str.contains("MemoryError: no more").all()
    assert told.table["errors"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"sizers": []}, r"sizers is a list of one or more, was \[\]"),
        ({"leverages": 5}, "leverages is a list of one or more, was 5"),
        ({"leverages": [0.5]}, "leverages are numbers of 1 or more, the same for all contracts, one was 0.5"),
        ({"leverages": [2, 2]}, "leverage 2 is tried twice"),
        ({"margin_modes": ["crossed"]}, "margin_modes are 'cross' or 'isolated', one was 'crossed'"),
        ({"venues": ["nowhere"]}, "nowhere"),
        ({"sizers": ["nothing"]}, "nothing is no number and no sizer"),
        ({"sizers": [0.1, 0.1]}, "rule 'size 0.1' is tried twice"),
        ({"sizers": [-1]}, "sizer is a class derived from"),
        ({"sizers": [(EquityFraction, {"part": 1})]}, "EquityFraction has no parameter part"),
        ({"params": {"quick": 1}}, "Flips has no parameter quick"),
        ({"params": {"fast": []}}, "params: fast has no value to try"),
        ({"params": {"fast": [3, 3]}}, "fast 3 is tried twice"),
        ({"paths": -1}, "paths is a whole number of 0 or more, was -1"),
        ({"paths": 2.0}, "paths is a whole number of 0 or more, was 2.0"),
        ({"seed": "x"}, "seed is a whole number of 0 or more, was 'x'"),
        ({"cap": 5}, "cap is a probability from 0 to 1, was 5"),
        ({"cash": 0}, "cash is an amount above 0, was 0"),
        ({"block": "soon"}, "block is a number of bars, or a time such as 48h or 3d, was 'soon'"),
        ({"block": 0}, r"block is the mean length of a block, one bar \(3600 s\) or more, was 0"),
        ({"block": "30m"}, r"block is the mean length of a block, one bar \(3600 s\) or more, was '30m'"),
        ({"split": "tomorrow"}, "split is a UTC date or time such as 2022-01-01, was 'tomorrow'"),
        ({"split": 5}, "split is a UTC date or time such as 2022-01-01, was 5"),
        ({"engine": "replay"}, "engine is one of loop; was 'replay'"),
        ({"resume": True}, "resume goes on with what a folder holds; name it as out="),
        ({"minutes": -1}, "minutes is how long runs may be begun, 0 or more, or None for no end, was -1"),
        ({"baseline": True}, r"compare\(\) has no baseline: it is of a single run"),
        ({"colour": 1}, r"compare\(\) has no argument colour"),
        ({"backend": "threads"}, "backend is one of loky, dask, serial"),
    ],
)
def test_what_can_be_told_before_is_one_sentence(terms, said):
    with pytest.raises(ValueError, match=said):
        compared(**terms)


def test_a_feed_with_lines_of_its_own_is_refused():
    class Basis(bm.PerpData):
        lines = ("basis",)

    feed = Basis(dataname={**candles(), "basis": np.ones(240)}, name="BTCUSDT")
    with pytest.raises(ValueError, match="a comparison knows candles, marks and funding, not the lines basis"):
        compared(data={"BTCUSDT": feed})


def test_a_strategy_made_inside_a_function_is_refused():
    class Inner(Rests):
        pass

    with pytest.raises(ValueError, match="is made inside a function, where worker processes cannot find it"):
        compared(Inner)


# -- what is kept ----------------------------------------------------------------------------------------------------


def test_a_comparison_is_kept_and_read_again(tmp_path):
    told = compared(sizers=[0.1, MAJOR], leverages=[2, 300], paths=2, split="2024-01-06", out=tmp_path, command="bt-margin compare x")
    again = Comparison.load(tmp_path)
    assert same(told, again)
    pd.testing.assert_frame_equal(told.test, again.test, check_exact=True)
    pd.testing.assert_frame_equal(told.errors, again.errors)
    assert (told.settings, told.flags, told.market) == (again.settings, again.flags, again.market)
    assert all(np.array_equal(told.history[number], again.history[number]) for number in told.history)
    assert np.array_equal(told.fan_days, again.fan_days)
    assert pd.read_csv(told.to_csv(tmp_path / "own.csv"))["id"].tolist() == told.table.index.tolist()
    assert json.loads((tmp_path / "comparison.json").read_text())["combinations"] == 4
    assert str(again) == str(told)
    with pytest.raises(ValueError, match=r"there is no comparison\.json"):
        Comparison.load(tmp_path / "elsewhere")


def test_an_interrupted_comparison_resumes_with_what_was_done(tmp_path, monkeypatch):
    runs, folder = tmp_path / "runs", tmp_path / "kept"
    runs.mkdir()
    monkeypatch.setenv("LAB_RUNS", str(runs))
    monkeypatch.setattr("bt_margin.engines.ENGINES", {"loop": Engine(play_by_loop, bars=1)})
    terms = {"strategy": Counting, "sizers": [0.1, 0.2], "paths": 2}

    def stop(done, total, left):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(Stopped, match="4 of 6 jobs are done and kept in"):
        compared(**terms, out=folder, progress=stop)
    with pytest.raises(ValueError, match="holds 4 of 6 results of this sweep"):
        compared(**terms, out=folder)
    told = compared(**terms, out=folder, resume=True)
    assert len(list(runs.iterdir())) == 6
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    assert same(told, compared(**terms))


def test_without_more_time_the_paths_are_those_that_all_combinations_have_met(tmp_path, monkeypatch):
    monkeypatch.setattr("bt_margin.engines.ENGINES", {"loop": Engine(play_by_loop, bars=1)})
    terms = {"sizers": [0.1, 0.2]}

    def stop(done, total, left):
        if done == 5:  # both runs of the history, both of path 1, one of path 2
            raise KeyboardInterrupt

    with pytest.raises(ValueError, match=r"the time for runs was over before .* history itself; what is done is kept"):
        compared(**terms, paths=3, out=tmp_path, minutes=0)
    with pytest.raises(Stopped, match="5 of 8 jobs"):
        compared(**terms, paths=3, out=tmp_path, progress=stop)
    told = compared(**terms, paths=3, out=tmp_path, resume=True, minutes=0)
    assert told.settings["paths"] == 1
    assert "1 of 3 paths: the time for runs was over" in told.flags
    assert same(told, compared(**terms, paths=1))
    whole = compared(**terms, paths=3, out=tmp_path, resume=True)
    assert whole.settings["paths"] == 3
    assert same(whole, compared(**terms, paths=3))


def test_another_comparison_does_not_go_into_the_same_folder(tmp_path, monkeypatch):
    compared(out=tmp_path)
    with pytest.raises(ValueError, match=r"holds another sweep: .*seed was 1, is 2"):
        compared(out=tmp_path, seed=2, resume=True)
    with pytest.raises(ValueError, match="holds results of another input"):
        compared(out=tmp_path, data={"BTCUSDT": candles(seed=3)}, funding={"BTCUSDT": 0.0001}, resume=True)
    assert compared(out=tmp_path, cap=0.5, resume=True).settings["cap"] == 0.5  # the runs are the same
    monkeypatch.setattr("bt_margin.comparison.version_of", lambda _: "99")
    with pytest.raises(ValueError, match=r"holds another sweep: .*made_by\.bt_margin was .*, is \"99\""):
        compared(out=tmp_path, resume=True)


def test_progress_is_told_from_nothing_to_all():
    told = []
    compared(sizers=[0.1], paths=2, progress=lambda *numbers: told.append(numbers))
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1]


def test_a_comparison_reads_as_a_ranked_table():
    text = str(compared(sizers=[0.1, MAJOR], paths=2, seed=11))
    assert "Flips on BTCUSDT, 2024-01-01 to 2024-01-11 UTC: 2 combinations on the history and 2 bootstrap paths" in text
    assert "seed 11" in text
    assert "2 combinations tried" in text
    assert "mark from last: BTCUSDT" in text
