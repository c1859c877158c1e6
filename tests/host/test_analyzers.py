"""Analyzers say by hand-checked numbers what became of the account, the same in every run mode and through every door.

The scripts are those of ``playing``: unless a test says otherwise no fees, maintenance 1 %, 10x isolated, 1 000 of cash.
"""

import inspect
import io
import json
import pickle
from math import ceil, isclose

import backtrader as bt
import numpy as np
import pytest
from playing import CALM, Script, buy, close, frame, rate_column, sell

from bt_margin import MarginBroker, PerpCommInfo, PerpData
from bt_margin.analyzers import SUMMARY_KEYS, AccountAnalyzer, Equity, Funding, Leverage, Liquidations, Margin
from bt_margin.result import Result

ALL = (Margin, Liquidations, Funding, Leverage, Equity)
CRASH = (100, 100, 80, 85)
COSTS = {"commission": 0.001, "liquidation_fee": 0.005}
LIQUIDATION_PRICE = 90 / 0.99
LOSS = (LIQUIDATION_PRICE - 100) - 0.005 * LIQUIDATION_PRICE
POOL = [
    pytest.mark.filterwarnings("ignore:Pickle, copy, and deepcopy support:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
MODES = {
    "runnext": {"runonce": False},
    "no_preload": {"preload": False},
    "neither": {"runonce": False, "preload": False},
    "exactbars": {"exactbars": 1},
    "exactbars_but_for_indicators": {"exactbars": -1},
    "exactbars_but_for_plotted_indicators": {"exactbars": -2},
}


class Gambler(bt.Strategy):
    """Moves each data to a target drawn at random, far beyond what is safe at 20x."""

    params = (("share", 9.0),)

    def __init__(self):
        self.draw = np.random.default_rng(4)

    def next(self):
        for data in self.datas:
            if self.draw.random() < 0.08:
                self.order_target_percent(data, target=self.p.share * self.draw.choice([-1.0, 0.0, 1.0]))


def engine(*candles, kinds=ALL, funding=None, terms=None, broker=None, **settings) -> bt.Cerebro:
    """Return a Cerebro with analyzers of these kinds, named by their class, over a data for each frame."""
    cerebro = bt.Cerebro(stdstats=False, **settings)
    cerebro.broker = MarginBroker(**{"cash": 1_000, "margin_mode": "isolated", "check": True, **(broker or {})})
    cerebro.broker.addcommissioninfo(PerpCommInfo(**{"leverage": 10, "tiers": 0.01, "liquidation_fee": 0.0, **(terms or {})}))
    for number, candle_frame in enumerate(candles):
        cerebro.adddata(PerpData(dataname=candle_frame, name="ABC"[number] * 3, funding=funding))
    for kind in kinds:
        cerebro.addanalyzer(kind, _name=kind.__name__)
    return cerebro


def play(script, *candles, **how) -> bt.Strategy:
    """Run a script and return its strategy."""
    cerebro = engine(*candles, **how)
    cerebro.addstrategy(Script, script=script)
    return cerebro.run()[0]


def told(strategy) -> dict:
    """Return all analyses by the analyzer's name."""
    return {name: analyzer.get_analysis() for name, analyzer in strategy.analyzers.getitems()}


def walk(rows=150, seed=1):
    """Return hourly candles of a wild random walk."""
    draw = np.random.default_rng(seed)
    closes = 100 * np.exp(np.cumsum(draw.normal(0, 0.02, rows)))
    opens = np.concatenate([[100.0], closes[:-1]])
    return frame(list(zip(opens, np.maximum(opens, closes) * 1.004, np.minimum(opens, closes) * 0.996, closes, strict=True)))


def gamble(*candles, share=9.0, **settings) -> bt.Cerebro:
    terms = {**COSTS, "leverage": 20}
    cerebro = engine(*candles, funding=0.0001, terms=terms, broker={"cash": 10_000, "margin_mode": "cross"}, **settings)
    cerebro.addstrategy(Gambler, share=share)
    return cerebro


def leaves(tree):
    """Yield every key and every value that is neither a dict nor a list."""
    if isinstance(tree, dict):
        yield from tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for branch in tree:
            yield from leaves(branch)
    else:
        yield tree


@pytest.fixture(scope="module")
def liquidated() -> bt.Strategy:
    """A long of 1 bought at 100 with 10x isolated, which dies in the third of five hours."""
    return play({1: buy()}, frame([CALM, CALM, CRASH, CALM, CALM]), terms=COSTS)


@pytest.fixture(scope="module")
def pressed() -> bt.Strategy:
    """A long of 9 at 100 on 100 of cash in cross, closes at 100, 90.5, 90, 90.5 and (three hours on) 100."""
    bars = [(price,) * 4 for price in (100, 100, 90.5, 90, 90.5, 100, 100, 100)]
    return play({1: buy(size=9)}, frame(bars, drop=(5, 6)), broker={"cash": 100, "margin_mode": "cross"})


# -- by hand ---------------------------------------------------------------------------------------------------------


def test_an_isolated_wallet_is_judged_by_its_own_money():
    bars = [(price,) * 4 for price in (100, 100, 92, 100)]
    margin = told(play({1: buy()}, frame(bars)))["Margin"]
    assert margin["highest_ratio"] == pytest.approx(0.92 / 2)  # 10 of margin less 8; the account has 992
    assert margin["highest_ratio_time"] == "2024-01-01T04:00:00Z"


def test_margin_of_a_pressed_account_can_be_redone_by_hand(pressed):
    margin = told(pressed)["Margin"]
    ratio = (9 * 90 * 0.01) / (100 - 9 * 10)  # maintenance over equity at a mark of 90
    price = (900 - 100) / (9 * 0.99)
    assert margin["highest_ratio"] == pytest.approx(ratio)
    assert margin["highest_ratio_time"] == "2024-01-01T05:00:00Z"
    assert margin["closest_call"] == pytest.approx((90 - price) / 90)
    assert margin["bars_held"] == 5
    assert margin["bars_above"] == {"0.5": 3, "0.8": 1}  # 8.145 / 14.5 twice and 8.1 / 10
    assert margin["hours_above"] == {"0.5": 3.0, "0.8": 1.0}
    assert margin["lowest_available_margin"] == pytest.approx((100 - 9 * 10) - 9 * 90 / 10)
    assert margin["lowest_available_margin_time"] == "2024-01-01T05:00:00Z"
    assert (margin["highest_initial_margin"], margin["highest_maintenance_margin"]) == (900 / 10, 900 * 0.01)


def test_hours_above_a_threshold_count_a_gap_to_the_bar_that_ends_it():
    bars = [(price,) * 4 for price in (100, 100, 100, 100, 90, 100)]
    strategy = play({1: buy(size=9)}, frame(bars, drop=(2, 3)), broker={"cash": 100, "margin_mode": "cross"})
    assert told(strategy)["Margin"]["hours_above"] == {"0.5": 3.0, "0.8": 3.0}


class AtOpen(bt.Strategy):
    """Buys 9 at the open of the very first bar."""

    def prenext_open(self):
        self.buy(size=9)


def test_the_first_bar_lasts_as_long_as_the_shortest_of_the_others():
    bars = [(100, 100, 90, 90), (90,) * 4, (100,) * 4]  # closes at margin ratios of 0.81, 0.81 and 0.09
    cerebro = engine(frame(bars), kinds=[Margin], broker={"cash": 100, "margin_mode": "cross"}, cheat_on_open=True)
    cerebro.addstrategy(AtOpen)
    assert told(cerebro.run()[0])["Margin"]["hours_above"] == {"0.5": 2.0, "0.8": 2.0}


def test_thresholds_can_be_chosen():
    cerebro = engine(frame([(price,) * 4 for price in (100, 100, 90, 100)]), kinds=(), broker={"cash": 100, "margin_mode": "cross"})
    cerebro.addstrategy(Script, script={1: buy(size=9)})
    cerebro.addanalyzer(Margin, thresholds=[0.05, 0.85])
    assert cerebro.run()[0].analyzers.margin.get_analysis()["bars_above"] == {"0.05": 3, "0.85": 0}


@pytest.mark.parametrize("thresholds", [0.5, (0.5, 0.0), (float("nan"),), ("0.5",)])
def test_thresholds_that_are_no_ratios_are_refused(thresholds):
    cerebro = engine(frame([CALM] * 3), kinds=())
    cerebro.addanalyzer(Margin, thresholds=thresholds)
    with pytest.raises(ValueError, match=r"thresholds are margin ratios above 0, such as \(0\.5, 0\.8\), were"):
        cerebro.run()


def test_resting_orders_are_seen_as_order_margin():
    strategy = play({1: buy(exectype=bt.Order.Limit, price=50)}, frame([CALM] * 3))
    margin = told(strategy)["Margin"]
    assert margin["highest_order_margin"] == 50 / 10
    assert margin["lowest_available_margin"] == 1_000 - 50 / 10


def test_liquidations_are_counted_and_listed(liquidated):
    deaths = told(liquidated)["Liquidations"]
    assert (deaths["total"], deaths["certain"], deaths["possible"]) == (1, 1, 0)
    assert deaths["loss"] == pytest.approx(LOSS)
    assert deaths["fees"] == pytest.approx(-0.005 * LIQUIDATION_PRICE)
    assert (deaths["insurance_fund"], deaths["by_symbol"]) == (0.0, {"AAA": 1})
    (row,) = deaths["rows"]
    assert set(row) == set(Result.of(liquidated).liquidations.columns)
    assert (row["time"], row["symbol"], row["size"]) == ("2024-01-01T04:00:00Z", "AAA", 1)
    assert row["price"] == pytest.approx(LIQUIDATION_PRICE)
    assert told(liquidated)["Margin"]["closest_call"] == 0.0


def test_what_cannot_be_said_of_a_liquidation_is_none():
    """A short from 100 that meets 250 is liquidated at 1x too: no leverage would have kept it."""
    (row,) = told(play({1: sell()}, frame([CALM, CALM, (100, 250, 100, 100), CALM])))["Liquidations"]["rows"]
    assert row["safe_leverage"] is None
    assert row["leverage"] == 10


def test_a_liquidation_on_one_of_the_two_paths_is_possible_only():
    """A stop buys at 105 on the way up to 112; whether the fall to 84 came before it or after, the bar does not say."""
    bars = [CALM, (100, 112, 84, 110), (110, 110, 110, 110)]
    deaths = told(play({1: buy(exectype=bt.Order.Stop, price=105)}, frame(bars)))["Liquidations"]
    assert (deaths["total"], deaths["certain"], deaths["possible"]) == (1, 0, 1)


def test_what_the_insurance_fund_gets_is_said():
    deaths = told(play({1: buy()}, frame([CALM, CALM, CRASH, CALM]), terms={"profile": "forfeit"}))["Liquidations"]
    assert deaths["loss"] == pytest.approx(-10)  # all of its margin
    assert deaths["insurance_fund"] == pytest.approx(LIQUIDATION_PRICE - 90)


def test_funding_is_summed_by_sign_and_by_contract():
    """At 08:00 the long of AAA pays 0.1 % of 100 and the short of 2 BBB receives it on 200; at 16:00 the long alone, negative."""

    def trade(strategy):
        strategy.buy(strategy.datas[0], size=1)
        strategy.sell(strategy.datas[1], size=2)

    script = {1: trade, 10: lambda strategy: strategy.close(strategy.datas[1])}
    bars = frame([(100,) * 4] * 20, start="2024-01-01 05:00")
    funding = told(play(script, bars, bars, funding=rate_column(d0108=0.001, d0116=-0.002)))["Funding"]
    assert funding["paid"] == pytest.approx(-0.1)
    assert funding["received"] == pytest.approx(0.2 + 0.2)
    assert funding["net"] == pytest.approx(0.3)
    assert (funding["payments"], funding["gap_payments"]) == (3, 0)
    assert funding["by_symbol"]["AAA"] == pytest.approx({"paid": -0.1, "received": 0.2, "net": 0.1, "payments": 2})
    assert funding["by_symbol"]["BBB"] == pytest.approx({"paid": 0.0, "received": 0.2, "net": 0.2, "payments": 1})


def test_funding_in_a_gap_of_the_data_is_counted_apart():
    candles = frame([CALM] * 9, start="2024-01-01 05:00", drop=(2, 3, 4))
    funding = told(play({1: buy()}, candles, funding=rate_column(d0108=0.001)))["Funding"]
    assert (funding["payments"], funding["gap_payments"]) == (1, 1)


def test_leverage_is_notional_over_equity_at_the_closes(pressed):
    leverage = told(pressed)["Leverage"]
    levels = [900 / 100, 814.5 / 14.5, 810 / 10, 814.5 / 14.5, 900 / 100]
    assert leverage["highest"] == pytest.approx(810 / 10)
    assert leverage["highest_time"] == "2024-01-01T05:00:00Z"
    assert leverage["mean"] == pytest.approx(sum(levels) / 5)
    assert leverage["percentile_95"] == pytest.approx(810 / 10)
    assert (leverage["end"], leverage["bars_held"]) == (pytest.approx(9), 5)


def test_the_percentile_leaves_out_the_highest_twentieth():
    bars = [(100 + step,) * 4 for step in range(41)]  # bought at 101, held through 40 closes, ever less levered
    leverage = told(play({1: buy()}, frame(bars)))["Leverage"]
    levels = sorted((101 + step) / (1_000 + step) for step in range(40))
    assert leverage["bars_held"] == 40
    assert leverage["percentile_95"] == pytest.approx(levels[ceil(0.95 * 40) - 1])
    assert leverage["percentile_95"] < leverage["highest"]


def test_leverage_at_the_end_of_a_flat_account_is_zero(liquidated):
    assert told(liquidated)["Leverage"]["end"] == 0.0
    assert told(liquidated)["Leverage"]["highest"] == pytest.approx(100 / 999.9)


def test_equity_says_what_the_result_says(liquidated):
    equity = told(liquidated)["Equity"]
    summary = Result.of(liquidated).summary
    assert {name: equity[name] for name in SUMMARY_KEYS} == {name: summary[name] for name in SUMMARY_KEYS}
    assert equity["final_equity"] == pytest.approx(1_000 - 0.1 + LOSS)
    assert equity["lowest_equity"] == pytest.approx(1_000 - 0.1 + LOSS)
    assert equity["lowest_equity_time"] == "2024-01-01T04:00:00Z"
    assert equity["daily"] == {"2024-01-01": equity["final_equity"]}


def test_daily_equity_is_that_of_the_days_end_and_a_day_without_bars_keeps_the_last():
    """The thirteenth bar closes at midnight with a profit of 10 x 10, and belongs to the day it ends."""
    bars = [(100,) * 4] * 12 + [(100, 110, 100, 110)] + [(110,) * 4] * 48 + [(110, 110, 99, 99)]
    script = {11: buy(size=10)}
    equity = told(play(script, frame(bars, start="2024-01-01 11:00", drop=range(13, 61))))["Equity"]
    assert equity["daily"] == {"2024-01-01": 1_100, "2024-01-02": 1_100, "2024-01-03": 1_100, "2024-01-04": 990}
    assert equity["lowest_equity"] == 990


def test_money_paid_in_is_no_return():
    equity = told(play({1: lambda strategy: strategy.broker.add_cash(500)}, frame([CALM] * 4)))["Equity"]
    assert (equity["start_cash"], equity["final_equity"], equity["net_deposits"]) == (1_000, 1_500, 500)
    assert (equity["total_return"], equity["max_drawdown"], equity["lowest_equity"]) == (0.0, 0.0, 1_000)


# -- runs that say little --------------------------------------------------------------------------------------------

NOTHING = {
    "Margin": {
        "highest_ratio": None,
        "highest_ratio_time": None,
        "closest_call": None,
        "bars_held": 0,
        "bars_above": {"0.5": 0, "0.8": 0},
        "hours_above": {"0.5": 0.0, "0.8": 0.0},
        "lowest_available_margin": None,
        "lowest_available_margin_time": None,
        "highest_initial_margin": 0.0,
        "highest_maintenance_margin": 0.0,
        "highest_order_margin": 0.0,
        "warnings": 0,
        "margin_calls": 0,
        "warning_rows": [],
        "top_ups": 0,
        "topped_up": 0.0,
        "top_up_rows": [],
    },
    "Liquidations": {
        "total": 0,
        "certain": 0,
        "possible": 0,
        "loss": 0.0,
        "fees": 0.0,
        "insurance_fund": 0.0,
        "by_symbol": {},
        "rows": [],
    },
    "Funding": {"paid": 0.0, "received": 0.0, "net": 0.0, "payments": 0, "gap_payments": 0, "by_symbol": {}},
    "Leverage": {"highest": None, "highest_time": None, "mean": None, "percentile_95": None, "end": 0.0, "bars_held": 0},
    "Equity": {
        "start_cash": 1_000,
        "final_equity": 1_000,
        "died": None,
        "net_deposits": 0.0,
        "refills": 0,
        "refilled": 0.0,
        "total_return": 0.0,
        "annual_return": None,
        "sharpe": None,
        "max_drawdown": 0.0,
        "lowest_equity": 1_000,
        "lowest_equity_time": None,
        "daily": {},
        "returns": {},
    },
}


def test_a_run_without_bars_has_every_key_and_nothing_to_say():
    cerebro = engine()
    cerebro.adddata(bt.feeds.PandasData(dataname=frame([CALM] * 3), fromdate=frame([CALM]).index[0].to_pydatetime().replace(year=2025)))
    cerebro.addstrategy(Script, script={})
    assert told(cerebro.run()[0]) == NOTHING


def test_a_run_without_trades_has_blanks_where_nothing_can_be_said():
    analyses = told(play({}, frame([CALM] * 3)))
    assert {name: analyses[name] for name in ("Liquidations", "Funding", "Leverage")} == {
        name: NOTHING[name] for name in ("Liquidations", "Funding", "Leverage")
    }
    assert analyses["Margin"] == {
        **NOTHING["Margin"],
        "lowest_available_margin": 1_000,
        "lowest_available_margin_time": "2024-01-01T02:00:00Z",
    }
    assert {name: list(analysis) for name, analysis in analyses.items()} == {name: list(analysis) for name, analysis in NOTHING.items()}


def test_a_run_stopped_early_is_analysed_as_far_as_it_went():
    script = {1: buy(), 3: lambda strategy: strategy.env.runstop()}
    analyses = told(play(script, frame([CALM] * 9)))
    assert analyses["Leverage"]["bars_held"] == 2
    assert analyses["Equity"]["final_equity"] == 1_000


def test_a_run_that_failed_is_analysed_as_far_as_it_went():
    kept = []

    def fail(strategy):
        kept.append(strategy)
        raise ArithmeticError("the strategy's own mistake")

    with pytest.raises(ArithmeticError):
        play({1: buy(), 3: fail}, frame([CALM] * 9))
    assert told(kept[0])["Leverage"]["bars_held"] == 2


# -- as Backtrader users expect --------------------------------------------------------------------------------------


class Reader(Script):
    """Reads its analyzers in its own ``stop``, before theirs."""

    def stop(self):
        self.read = told(self)


def test_an_analysis_can_be_read_in_the_strategys_stop():
    cerebro = engine(walk(60))
    cerebro.addstrategy(Reader, script={1: buy(), 9: close})
    (strategy,) = cerebro.run()
    assert strategy.read == told(strategy)
    assert strategy.read["Leverage"]["bars_held"] == 8


def test_keys_are_attributes_too_and_a_wrong_one_is_an_error(liquidated):
    analysis = liquidated.analyzers.Liquidations.get_analysis()
    assert analysis.total == analysis["total"] == 1
    with pytest.raises(KeyError):
        analysis["totals"]


@pytest.mark.parametrize("number", [1.0, np.float64(1), np.float32(1), np.int64(1)])
def test_an_analysis_holds_plain_numbers_whatever_a_strategy_ordered_with(number):
    script = {1: buy(size=number), 5: sell(size=number)}
    candles = frame([CALM, CALM, CRASH, CALM, CALM, CALM, CALM], start="2024-01-01 04:00")
    strategy = play(script, candles, funding=rate_column(d0108=0.001, d0110=0.001), broker={"cash": type(number)(1_000)})
    analyses = told(strategy)
    assert analyses["Liquidations"]["total"] == 1
    assert analyses["Funding"]["payments"] == 1
    assert {type(leaf) for leaf in leaves({name: dict(analysis) for name, analysis in analyses.items()})} == {int, float, str, type(None)}
    assert json.loads(json.dumps(analyses, allow_nan=False)) == analyses


@pytest.mark.parametrize("kind", ALL)
def test_pprint_and_print_show_every_key(kind, liquidated, capsys):
    analyzer = liquidated.analyzers.getbyname(kind.__name__)
    analyzer.pprint()
    analyzer.print()
    pretty, _, written = capsys.readouterr().out.partition("==")
    for name in analyzer.get_analysis():
        assert f"'{name}'" in pretty
        assert f"{name}:" in written


@pytest.mark.parametrize("csv", [True, False])
def test_a_writer_takes_every_analysis(csv):
    out = io.StringIO()
    cerebro = engine(frame([CALM, CALM, CRASH, CALM, CALM]), terms=COSTS)
    cerebro.addstrategy(Script, script={1: buy()})
    cerebro.addwriter(bt.WriterFile, csv=csv, out=out)
    (strategy,) = cerebro.run()
    written = out.getvalue()
    for analysis in told(strategy).values():
        assert [name for name in analysis if f"- {name}:" not in written] == []
    assert "- thresholds: 0.5, 0.8" in written
    assert "- 2024-01-01: 990" in written


@pytest.mark.parametrize("kind", ALL)
def test_another_broker_is_refused_in_one_sentence(kind):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=frame([CALM] * 3)))
    cerebro.addanalyzer(kind)
    said = rf"bt_margin\.analyzers\.{kind.__name__} reads a MarginBroker and this run has a BackBroker; use plug\(cerebro, \.\.\.\) before"
    with pytest.raises(ValueError, match=said):
        cerebro.run()


def test_strategies_that_share_the_account_get_the_same_analysis_of_all_of_it():
    cerebro = engine(frame([CALM, CALM, CRASH, CALM, CALM]), frame([CALM] * 5))
    cerebro.addstrategy(Script, script={1: buy()})
    cerebro.addstrategy(Script, script={})
    trader, idler = cerebro.run()
    assert told(trader) == told(idler)
    assert told(idler)["Liquidations"]["total"] == 1


# -- the same everywhere ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gambled() -> dict:
    """What all analyzers say of a gambler on two contracts, runonce and preload on."""
    analyses = told(gamble(walk(), walk(seed=2)).run()[0])
    assert analyses["Liquidations"]["total"] > 0
    assert analyses["Funding"]["payments"] > 5
    assert analyses["Margin"]["highest_ratio"] > 0.3
    return analyses


@pytest.mark.parametrize("mode", MODES)
def test_every_run_mode_gives_equal_analyses(mode, gambled):
    assert told(gamble(walk(), walk(seed=2), **MODES[mode]).run()[0]) == gambled


@pytest.mark.parametrize("mode", [mode for mode in MODES if "exactbars" not in mode])
def test_datas_out_of_step_give_equal_analyses_in_every_run_mode(mode):
    candles = walk(), walk(seed=2).drop(walk().index[20:90:3])
    assert told(gamble(*candles, **MODES[mode]).run()[0]) == told(gamble(*candles).run()[0])


@pytest.mark.parametrize("optreturn", [True, False])
@pytest.mark.parametrize("cpus", [1, pytest.param(2, marks=POOL)])
def test_an_optimisation_gives_the_analyses_of_single_runs(cpus, optreturn):
    cerebro = gamble(walk(60), maxcpus=cpus, optreturn=optreturn)
    cerebro.strats.clear()
    cerebro.optstrategy(Gambler, share=[1.0, 9.0])
    analyses = [told(strategies[0]) for strategies in cerebro.run()]
    assert analyses == [told(gamble(walk(60), share=share).run()[0]) for share in (1.0, 9.0)]
    assert analyses[0] != analyses[1]


def test_what_an_optimisation_returns_is_small_and_holds_no_broker():
    cerebro = gamble(walk(), maxcpus=1)
    cerebro.strats.clear()
    cerebro.optstrategy(Gambler, share=[9.0])
    ((returned,),) = cerebro.run()
    for analyzer in returned.analyzers:
        held = {name: value for name, value in vars(analyzer).items() if value is not None and not name.startswith("data")}
        assert set(held) == {"_children", "rets", "_is_over", "p", "params"}
        assert len(pickle.dumps(analyzer)) < 10_000
        assert pickle.loads(pickle.dumps(analyzer)).get_analysis() == analyzer.get_analysis()


# -- at no cost ------------------------------------------------------------------------------------------------------


def test_the_account_is_read_once_when_the_run_is_over(monkeypatch):
    read = []
    summary = Leverage.summary
    monkeypatch.setattr(Leverage, "summary", lambda self, broker: read.append(len(self)) or summary(self, broker))
    strategy = play({1: buy()}, frame([CALM] * 9))
    assert read == [9]
    assert told(strategy)["Leverage"]["bars_held"] == 8
    assert read == [9]


def test_what_the_host_calls_on_every_bar_does_nothing_and_is_called_so_by_the_host():
    hooks = {"_next": (), "_prenext": (), "_nextstart": (), "_notify_cashvalue": (1.0, 2.0), "_notify_fund": (1.0, 2.0, 3.0, 4.0)}
    for name, arguments in hooks.items():
        host = inspect.signature(getattr(bt.Analyzer, name))
        assert list(inspect.signature(getattr(AccountAnalyzer, name)).parameters) == list(host.parameters), bt.__version__
        assert getattr(AccountAnalyzer, name)(None, *arguments) is None


def test_the_daily_series_gives_the_sharpe_ratio_back():
    equity = told(gamble(walk(150)).run()[0])["Equity"]
    levels = [10_000, *equity["daily"].values()]
    returns = np.diff(levels) / levels[:-1]
    assert isclose(equity["sharpe"], returns.mean() / returns.std(ddof=1) * np.sqrt(365), rel_tol=1e-9)
