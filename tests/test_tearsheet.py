"""The numbers of a tear sheet: redone by hand, and equal to the libraries that people know where these define them."""

import builtins
import doctest
import json
from importlib.util import find_spec
from pathlib import Path

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from looking import RUNS, died_often
from playing import CALM, buy, close, frame, play, rate_column, sell

import bt_margin as bm
from bt_margin import Result, analyzers, cli, measures, tearsheet
from bt_margin.backtest import run
from bt_margin.measures import Dip, daily_drawdown, dips, sortino, volatility

needs_quantstats = pytest.mark.skipif(find_spec("quantstats") is None, reason="needs quantstats: pip install -e '.[test]'")


class Coin(bt.Strategy):
    """Goes long or short, or flat, by a fixed draw of its own on every third bar."""

    params = (("seed", 3),)

    def __init__(self):
        self.draws = np.random.default_rng(self.p.seed)

    def next(self):
        if len(self) % 3 == 0:
            self.order_target_percent(target=float(self.draws.choice([-2.0, 0.0, 2.0])))


def whole_days(days: int, *, drift: float = 0.0, seed: int = 1) -> Result:
    """Return a run over whole UTC days of 8-hour bars that goes up and down."""
    moves = np.random.default_rng(seed).normal(drift, 0.02, 3 * days)
    closes = 100 * np.exp(np.cumsum(moves))
    opens = np.concatenate([[100.0], closes[:-1]])
    rows = list(zip(opens, np.maximum(opens, closes) * 1.004, np.minimum(opens, closes) * 0.996, closes, strict=True))
    candles = frame(rows, start="2024-01-01", freq="8h")
    return run(Coin, {"BTCUSDT": candles}, leverage=10, cash=10_000, funding=0.0001)


# -- against the libraries -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "seed"), [(30, 1), (120, 2), (365, 3)])
def test_figures_of_daily_returns_are_those_of_empyrical(days, seed):
    empyrical = pytest.importorskip("empyrical", reason="needs empyrical-reloaded: pip install -e '.[test]'")
    result = whole_days(days, seed=seed)
    numbers, returns = result.statistics, result.daily_returns
    assert len(returns) == days
    assert numbers["total_return"] == pytest.approx(empyrical.cum_returns_final(returns), rel=1e-10)
    assert numbers["annual_return"] == pytest.approx(empyrical.annual_return(returns, annualization=365), rel=1e-9)
    assert numbers["volatility"] == pytest.approx(empyrical.annual_volatility(returns, annualization=365), rel=1e-12)
    assert numbers["sharpe"] == pytest.approx(empyrical.sharpe_ratio(returns, annualization=365), rel=1e-12)
    assert numbers["sortino"] == pytest.approx(empyrical.sortino_ratio(returns, annualization=365), rel=1e-12)
    assert numbers["calmar"] == pytest.approx(empyrical.calmar_ratio(returns, annualization=365), rel=1e-9)
    assert numbers["max_drawdown_daily"] == pytest.approx(-empyrical.max_drawdown(returns), rel=1e-12)
    assert numbers["max_drawdown"] >= numbers["max_drawdown_daily"]


@pytest.mark.slow
@needs_quantstats
@pytest.mark.filterwarnings("ignore")
def test_quantstats_takes_the_daily_series_as_it_is():
    import quantstats

    result = whole_days(90)
    assert quantstats.stats.sharpe(result.daily_returns, periods=365) == pytest.approx(result.statistics["sharpe"], rel=1e-9)
    assert quantstats.stats.sortino(result.daily_returns, periods=365) == pytest.approx(result.statistics["sortino"], rel=1e-9)
    assert quantstats.stats.max_drawdown(result.daily_returns) == pytest.approx(-result.statistics["max_drawdown_daily"], rel=1e-9)


@pytest.mark.slow
@needs_quantstats
def test_the_tear_sheet_is_a_file_and_changes_no_setting(tmp_path):
    from looking import settings

    before = settings()
    path = tearsheet.save(whole_days(60), tmp_path / "sheet.html")
    text = path.read_text("utf-8")
    assert "Coin on BTCUSDT" in text
    assert settings() == before


def test_the_analyzer_gives_the_same_daily_series():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bm.PerpData(dataname=frame([CALM, (100, 110, 100, 110), (110, 110, 99, 99)], freq="12h"), name="BTCUSDT"))
    bm.plug(cerebro, venue="generic", leverage=10, cash=1_000)
    cerebro.addstrategy(Bought)
    cerebro.addanalyzer(analyzers.Equity, _name="equity")
    (strategy,) = cerebro.run()
    series, known = strategy.analyzers.equity.daily_returns(), Result.of(strategy).daily_returns
    pd.testing.assert_series_equal(series, known, check_freq=False)
    # 5 bought at 100: 1 000 at the end of the first day (its bars open at 01:00 and 13:00) is 1 050, of the second 995
    assert list(series) == pytest.approx([1_050 / 1_000 - 1, 995 / 1_050 - 1])
    assert [f"{day:%Y-%m-%d %H:%M %Z}" for day in series.index] == ["2024-01-01 00:00 UTC", "2024-01-02 00:00 UTC"]
    assert strategy.analyzers.equity.get_analysis()["returns"]["2024-01-02"] == pytest.approx(995 / 1_050 - 1)


class Bought(bt.Strategy):
    """Buys 5 on the first bar."""

    def next(self):
        if len(self) == 1:
            self.buy(size=5)


# -- by hand ---------------------------------------------------------------------------------------------------------

ROWS = [CALM, CALM, (100, 112, 100, 110), (110, 110, 110, 110), (110, 110, 104, 105), (105, 105, 105, 105), (105, 105, 100, 100), CALM]


def two_trades() -> dict:
    """A long of 1 from 100 to 110, then a long of 1 from 110 to 105; 1 000 of cash, no fees."""
    return Result.of(play({1: buy(), 3: close, 4: buy(), 5: close}, frame(ROWS))).statistics


def test_trades_are_weighed_against_each_other():
    # opens: bought at 100 (bar 2), sold at 110 (bar 4), bought at 110 (bar 5), sold at 105 (bar 6)
    numbers = two_trades()
    assert numbers["trades"] == 2
    assert numbers["win_rate"] == 0.5
    assert numbers["payoff"] == pytest.approx(10 / 5)
    assert numbers["profit_factor"] == pytest.approx(10 / 5)
    assert numbers["expectancy"] == pytest.approx((10 - 5) / 2)
    assert numbers["average_trade_hours"] == pytest.approx((2 + 1) / 2)


def test_exposure_leverage_and_drawdown_of_two_trades():
    numbers = two_trades()
    assert numbers["exposure"] == pytest.approx(3 / 8)  # held at the closes of bars 2, 3 and 5
    assert numbers["leverage_mean"] == pytest.approx((100 / 1_000 + 110 / 1_010 + 105 / 1_005) / 3)
    assert numbers["leverage_highest"] == numbers["leverage_95"] == pytest.approx(110 / 1_010)
    assert numbers["max_drawdown"] == pytest.approx(1 - (1_010 - 6) / 1_010)  # the low of 104 inside bar 5
    assert numbers["max_drawdown_from"] == "2024-01-01T05:00:00Z"  # the last bar whose close was the peak
    assert numbers["max_drawdown_over"] is None
    assert numbers["max_drawdown_days"] == pytest.approx(4 / 24)


def test_turnover_is_traded_notional_over_equity_by_the_year():
    candles = frame([(100,) * 4] * 48)
    numbers = Result.of(play({1: buy(), 3: close}, candles)).statistics
    assert numbers["turnover"] == pytest.approx((100 + 100) / 1_000 / (2 / 365))
    assert Result.of(play({1: buy(), 3: close}, frame([(100,) * 4] * 23))).statistics["turnover"] is None


def test_costs_are_told_apart_and_set_against_the_price_profit():
    # long 1 from 100 to 120 at 1 %: fees 1 + 1.2; at 08:00 the stamp of 0.5 % takes 0.5, at 16:00 -0.25 % gives 0.3
    rows = [CALM] * 8 + [(100, 120, 100, 120)] + [(120,) * 4] * 8
    rates = rate_column(d0108=0.005, d0116=-0.0025)
    result = Result.of(play({1: buy(), 16: close}, frame(rows), funding=rates, terms={"commission": 0.01}))
    numbers = result.statistics
    assert numbers["fees"] == pytest.approx(-2.2)
    assert (numbers["funding_paid"], numbers["funding_received"]) == pytest.approx((-0.5, 0.3))
    assert numbers["funding"] == pytest.approx(-0.2)
    assert numbers["cost_share"] == pytest.approx((2.2 + 0.2) / 20)


def test_hours_near_liquidation_count_bars_by_their_length():
    # a long of 1 at 100 at 10x holds 10, maintenance 1 %: at a close of 91.8 the ratio is 0.918 / 1.8 = 0.51, at 91.1 it is 0.83
    rows = [CALM, (100, 100, 100, 100), (100, 100, 91.8, 91.8), (91.8, 91.8, 91.1, 91.1), (91.1, 100, 91.1, 100)]
    numbers = Result.of(play({1: buy()}, frame(rows, freq="2h"))).statistics
    assert (numbers["hours_above_50"], numbers["hours_above_80"]) == (4.0, 2.0)
    assert numbers["highest_margin_ratio"] == pytest.approx(0.911 / (10 - 8.9))


def test_slippage_is_the_price_against_the_one_without_it():
    # a market buy at the open of 100 and a market sell at the open of 100, each slipped by half a per cent inside the bar
    result = Result.of(play({1: buy(), 2: close}, frame([CALM] * 4), slip_perc=0.005, slip_open=True))
    assert list(result.fills["price"]) == pytest.approx([100.5, 99.5])
    assert list(result.slippage) == pytest.approx([-0.5, -0.5])
    assert result.statistics["slippage"] == pytest.approx(-1.0)


def test_slippage_of_a_stop_is_from_its_price_or_from_the_open_behind_it():
    gap = [CALM, CALM, (100, 100, 96, 97), (90, 92, 89, 91), (91,) * 4]
    stop = {1: buy(), 2: sell(exectype=bt.Order.Stop, price=98.0)}
    inside = Result.of(play(stop, frame(gap), slip_fixed=0.25, slip_open=True))
    assert list(inside.fills["price"]) == pytest.approx([100.25, 97.75])
    assert list(inside.slippage) == pytest.approx([-0.25, -0.25])
    later = {1: buy(), 3: sell(exectype=bt.Order.Stop, price=95.0)}
    behind = Result.of(play(later, frame(gap), slip_fixed=0.25, slip_open=True, margin_mode="cross"))
    assert list(behind.slippage) == pytest.approx([-0.25, -0.25])  # filled at 89.75 where it opened at 90
    assert list(behind.fills["price"]) == pytest.approx([100.25, 89.75])


def test_a_limit_and_a_run_without_slippage_have_none():
    limited = {1: buy(exectype=bt.Order.Limit, price=99.5), 3: close}
    assert list(Result.of(play(limited, frame([CALM] * 5), slip_perc=0.001, slip_open=True)).slippage[:1]) == [0.0]
    assert list(Result.of(play({1: buy(), 2: close}, frame([CALM] * 4))).slippage) == [0.0, 0.0]


# -- the tools -------------------------------------------------------------------------------------------------------


def test_the_examples_of_the_measures_hold():
    assert doctest.testmod(measures).failed == 0
    assert doctest.testmod(measures).attempted >= 8


def test_few_or_steady_returns_have_no_ratio():
    assert volatility([0.1]) is None
    assert sortino([0.1]) is None
    assert sortino([0.1, 0.2]) is None
    assert daily_drawdown([]) == 0.0
    assert daily_drawdown([-0.25, 0.1]) == 0.25  # from the start


def test_a_dip_that_the_end_cuts_short_is_not_over():
    assert dips(100.0, 0.0, [1.0, 2.0], [90.0, 95.0], [80.0, 90.0]) == [Dip(0.0, 2.0, pytest.approx(0.2), is_over=False)]
    assert dips(100.0, 0.0, [1.0, 2.0], [100.0, 101.0], [100.0, 100.0]) == []


@pytest.mark.parametrize("name", RUNS)
def test_every_run_has_every_number_under_its_name_in_plain_types(name):
    numbers = RUNS[name]().statistics
    assert list(numbers) == [statistic.name for statistic in tearsheet.STATISTICS]
    json.dumps(numbers, allow_nan=False)
    for statistic in tearsheet.STATISTICS:
        value = numbers[statistic.name]
        assert value is None or isinstance(value, str if statistic.unit == "time" else (int, float)), statistic.name


def test_numbers_that_the_summary_has_too_are_the_same():
    result = died_often()
    shared = set(result.statistics) & set(result.summary)
    assert {"sharpe", "annual_return", "max_drawdown", "fees", "closest_call"} <= shared
    assert {name: result.statistics[name] for name in shared} == {name: result.summary[name] for name in shared}


def test_every_statistic_says_its_unit_and_what_it_is_made_of():
    units = {"share", "share a year", "ratio", "times", "times a year", "days", "hours", "count", "money", "time"}
    assert {statistic.unit for statistic in tearsheet.STATISTICS} == units
    assert all(statistic.label and len(statistic.definition) > 7 for statistic in tearsheet.STATISTICS)
    assert len(tearsheet.BY_NAME) == len(tearsheet.STATISTICS)


def test_the_document_has_every_number_with_its_unit_and_definition():
    page = (Path(__file__).parents[1] / "docs" / "numbers.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    known = [f"| `{number.name}` | {number.label} | {number.unit} | {number.definition} |" for number in tearsheet.STATISTICS]
    assert rows == known


# -- the command line ------------------------------------------------------------------------------------------------


def test_a_tear_sheet_without_the_library_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "x.py", "--data", "X.csv", "--tearsheet", str(tmp_path / "sheet.html")])
    assert ended.value.code == 2
    assert "pip install 'bt_margin[tearsheet]'" in capsys.readouterr().err


def test_a_tear_sheet_that_is_no_html_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"writes an HTML file, was 'sheet\.pdf'"):
        tearsheet.check(tmp_path / "sheet.pdf")


def test_a_run_of_one_day_has_no_tear_sheet(tmp_path):
    with pytest.raises(ValueError, match="needs 2 UTC days or more, this run has 1"):
        tearsheet.save(RUNS["died once"](), tmp_path / "sheet.html")


def test_a_library_that_cannot_be_imported_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("quantstats"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match="which is not installed"):
        tearsheet.save(died_often(), tmp_path / "sheet.html")
