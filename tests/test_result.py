"""The numbers of a Result are those a reader gets by hand; its frames keep their shape whatever happened."""

import doctest
import json
from datetime import date
from itertools import pairwise
from math import isnan, sqrt

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from playing import CALM, Action, Script, buy, close, frame, play, rate_column, sell

from bt_margin import MarginBroker, PerpCommInfo, PerpData, TierSchedule, TierTable, measures
from bt_margin.measures import annual_return, daily_returns, max_drawdown, round_trips, sharpe, without_flows
from bt_margin.record import FillRow, FlowRow, FundingRow
from bt_margin.result import EQUITY_COLUMNS, POSITION_COLUMNS, TRADE_COLUMNS, Result

CRASH = (100, 100, 80, 85)
COSTS = {"commission": 0.001, "liquidation_fee": 0.005}
DAY = 86_400
LIQUIDATION_PRICE = 90 / 0.99


def flow(bar, amount, equity, *, kind="transfer") -> FlowRow:
    return FlowRow(0.0, bar, kind, amount, equity)


def fill(time, size, price, *, fee=0.0, pnl=0.0, symbol="AAA", liquidation=False, ref=1) -> FillRow:
    return FillRow(time, symbol, size, price, fee, pnl, False, liquidation, ref)


def payment(time, size, amount, symbol="AAA") -> FundingRow:
    return FundingRow(time, symbol, size, 100.0, 0.0, amount)


def aim(size: int) -> Action:
    return lambda strategy: strategy.order_target_size(target=size)


class Asker(bt.Strategy):
    """Holds 1 of each data, and asks on every bar for the liquidation prices."""

    def __init__(self):
        self.said = []

    def next(self):
        for data in self.datas:
            if not self.getposition(data).size:
                self.buy(data, size=1)
            else:
                self.said.append(self.broker.liquidation_price(data))


@pytest.fixture(scope="module")
def liquidated() -> Result:
    """A long of 1 bought at 100 with 10x isolated, which dies in the third of five hours."""
    return Result.of(play({1: buy()}, frame([CALM, CALM, CRASH, CALM, CALM]), terms=COSTS))


@pytest.fixture(scope="module")
def idle() -> Result:
    return Result.of(play({}, frame([CALM, CALM, CALM])))


# -- arithmetic ------------------------------------------------------------------------------------------------------


def test_a_result_says_in_a_line_what_became_of_the_money(idle, liquidated):
    assert repr(idle) == "<Result of Script on AAA: 1,000.00 became 1,000.00, 0 liquidations>"
    end = liquidated.summary["final_equity"]
    assert end < 1_000
    assert repr(liquidated) == f"<Result of Script on AAA: 1,000.00 became {end:,.2f}, 1 liquidation>"


def test_examples_in_the_docstrings_are_true():
    outcome = doctest.testmod(measures)
    assert outcome.attempted >= 5
    assert outcome.failed == 0


def test_drawdown_is_measured_from_an_earlier_peak_to_the_low_inside_a_bar():
    assert max_drawdown(100.0, [200.0, 150.0], [90.0, 50.0]) == 1 - 50 / 200


def test_a_low_before_the_high_of_its_own_bar_is_measured_from_the_peak_before():
    assert max_drawdown(100.0, [200.0], [90.0]) == 1 - 90 / 100


def test_drawdown_of_an_account_that_only_rises_is_none():
    assert max_drawdown(100.0, [101.0, 102.0], [100.0, 101.0]) == 0.0


def test_daily_returns_are_cut_at_midnight_by_the_opening_instant():
    opened = [23 * 3600.0, DAY, DAY + 3600.0]  # the first bar closes at midnight and still belongs to its day
    assert daily_returns(100.0, opened, [110.0, 105.0, 121.0]) == pytest.approx([110 / 100 - 1, 121 / 110 - 1])


def test_a_day_without_bars_returned_nothing():
    assert daily_returns(100.0, [0.0, 2.0 * DAY], [110.0, 132.0]) == pytest.approx([0.1, 0.0, 0.2])


def test_days_after_ruin_returned_nothing():
    assert daily_returns(100.0, [0.0, 1.0 * DAY, 2.0 * DAY], [50.0, 0.0, 0.0]) == [-0.5, -1.0, 0.0]


def test_sharpe_is_mean_over_sample_deviation_times_root_365():
    deviation = sqrt(((0.01 - 0.02) ** 2 + (0.03 - 0.02) ** 2) / 1)
    assert sharpe([0.01, 0.03]) == pytest.approx(0.02 / deviation * sqrt(365))


@pytest.mark.parametrize("returns", [[], [0.01], [0.01, 0.01]])
def test_returns_that_do_not_vary_have_no_sharpe(returns):
    assert sharpe(returns) is None


def test_annual_return_compounds_over_365_days():
    assert annual_return(0.1, 73 * DAY) == pytest.approx(1.1**5 - 1)


def test_annual_return_of_a_ruined_account_is_minus_one_even_within_a_day():
    assert annual_return(-1.0, 3600) == -1.0


@pytest.mark.parametrize(("total", "seconds"), [(0.1, DAY - 1), (9e9, DAY)])
def test_what_cannot_be_annualised_is_none(total, seconds):
    assert annual_return(total, seconds) is None


def test_a_deposit_is_no_return():
    levels, lows = without_flows(100.0, [110.0, 330.0], [100.0, 220.0], [flow(1, 110.0, 110.0)])  # 110 + 110 paid in, then x 1.5
    assert levels == [110.0, 110 * 1.5]
    assert lows == [100.0, 110 * 1.0]


def test_an_owner_who_withdraws_everything_is_not_ruined():
    levels, lows = without_flows(100.0, [120.0, 0.0, 0.0], [110.0, 0.0, 0.0], [flow(1, -120.0, 120.0)])
    assert levels == [120.0] * 3
    assert lows == [110.0, 120.0, 120.0]


def test_money_paid_in_after_ruin_does_not_undo_it_and_what_it_earns_is_a_return():
    levels, lows = without_flows(100.0, [0.0, 50.0, 60.0], [0.0, 50.0, 45.0], [flow(1, 50.0, 0.0)])
    assert levels == pytest.approx([1e-18, 1e-18, 1.2e-18], rel=1e-9, abs=0)  # SPECK x 100, then x 60 / 50
    assert lows == pytest.approx([0.0, 1e-18, 0.9e-18], rel=1e-9, abs=0)
    assert daily_returns(100.0, [0.0, DAY, 2 * DAY], levels) == pytest.approx([-1, 0, 0.2])


def test_a_top_up_comes_in_while_its_bar_is_under_way():
    """From 100 down to 10, 50 paid in, up from 60 to 90: 0.1 x 1.5, not 90 / 150."""
    levels, lows = without_flows(100.0, [90.0], [10.0], [flow(0, 50.0, 10.0, kind="top_up")])
    assert levels == pytest.approx([100 * 0.1 * 1.5])
    assert lows == pytest.approx([10.0])


# -- round trips -----------------------------------------------------------------------------------------------------


def test_a_round_trip_averages_its_prices_over_parts():
    (trip,), still_open = round_trips([fill(1, 1, 100), fill(2, 3, 120), fill(3, -2, 130, pnl=30), fill(4, -2, 140, pnl=50)], [])
    assert (trip.side, trip.size, trip.opened, trip.closed) == ("long", 4, 1, 4)
    assert trip.entry_price == (1 * 100 + 3 * 120) / 4
    assert trip.exit_price == (2 * 130 + 2 * 140) / 4
    assert trip.realized_pnl == 30 + 50
    assert still_open == 0


def test_a_reversal_is_two_round_trips_that_share_its_fee_by_size():
    fills = [fill(1, 1, 100, fee=1.0), fill(2, -4, 110, fee=4.0, pnl=10), fill(3, 3, 100, fee=3.0, pnl=30)]
    (first, second), still_open = round_trips(fills, [])
    assert (first.side, first.size, first.fees, first.net_pnl) == ("long", 1, -(1 + 4 / 4), 10 - 2)
    assert (second.side, second.size, second.fees, second.net_pnl) == ("short", 3, -(4 * 3 / 4 + 3), 30 - 6)
    assert still_open == 0


def test_what_is_still_held_is_counted_and_not_listed():
    trips, still_open = round_trips([fill(1, 1, 100), fill(2, -2, 100), fill(2, 1, 50, symbol="BBB")], [])
    assert [trip.symbol for trip in trips] == ["AAA"]
    assert still_open == 2


def test_a_close_that_rounding_leaves_a_hair_apart_is_a_close():
    trips, still_open = round_trips([fill(1, 0.1, 100), fill(2, 0.2, 100), fill(3, -0.3, 100, fee=3.0)], [])
    assert (len(trips), still_open, trips[0].fees) == (1, 0, -3.0)


def test_one_liquidation_of_two_owners_is_one_round_trip():
    parts = [fill(5, -3, 90, pnl=-30, fee=3, liquidation=True), fill(5, 1, 90, pnl=10, fee=1, liquidation=True)]
    (trip,), still_open = round_trips([fill(1, 3, 100), fill(2, -1, 100, ref=2), *parts], [])
    assert (trip.liquidated, trip.size, trip.realized_pnl, trip.fees, still_open) == (True, 3, -30 + 10, -4, 0)


def test_funding_goes_to_the_position_it_was_paid_on_also_inside_the_bar_that_turned_it():
    fills = [fill(3600, 1, 100), fill(7200, -3, 100), fill(10_800, 2, 100)]
    payments = [payment(3600, 1, -1.0), payment(5000, 1, -2.0), payment(6000, -2, 4.0), payment(7200, -2, 8.0)]
    (first, second), _ = round_trips(fills, payments)
    assert (first.funding, second.funding) == (-1 - 2, 4 + 8)


def test_funding_of_one_contract_is_not_another_ones():
    fills = [fill(1, 1, 100), fill(1, 1, 100, symbol="BBB"), fill(9, -1, 100), fill(9, -1, 100, symbol="BBB")]
    trips, _ = round_trips(fills, [payment(5, 1, -7.0, symbol="BBB")])
    assert {trip.symbol: trip.funding for trip in trips} == {"AAA": 0.0, "BBB": -7.0}


# -- one liquidation, by hand ----------------------------------------------------------------------------------------


def test_summary_of_one_liquidation_can_be_redone_by_hand(liquidated):
    summary = liquidated.summary
    loss = (LIQUIDATION_PRICE - 100) - 0.005 * LIQUIDATION_PRICE
    assert summary["final_equity"] == pytest.approx(1_000 - 0.1 + loss)
    assert summary["total_return"] == pytest.approx((-0.1 + loss) / 1_000)
    assert summary["liquidation_loss"] == pytest.approx(loss)
    assert summary["fees"] == pytest.approx(-0.001 * 100)
    assert summary["max_drawdown"] == pytest.approx((0.1 - loss) / 1_000)
    assert (summary["liquidations"], summary["possible_liquidations"], summary["closest_call"]) == (1, 0, 0.0)
    assert (summary["trades"], summary["open_trades"], summary["win_rate"]) == (1, 0, 0.0)
    assert (summary["bars"], summary["time_in_market"]) == (5, 1 / 5)
    assert (summary["start_cash"], summary["net_deposits"], summary["funding"]) == (1_000, 0.0, 0.0)
    assert (summary["sharpe"], summary["annual_return"], summary["insurance_fund"]) == (None, None, 0.0)
    assert summary["journal_imbalance"] < 1e-12


def test_summary_holds_plain_numbers_only(liquidated):
    kinds = {type(value) for name, value in liquidated.summary.items() if name != "flags"}
    assert kinds <= {int, float, type(None)}


def test_its_trade_is_flagged_and_carries_both_fees(liquidated):
    (trade,) = liquidated.trades.to_dict("records")
    assert trade["liquidated"]
    assert trade["fees"] == pytest.approx(-(0.1 + 0.005 * LIQUIDATION_PRICE))
    assert trade["exit_price"] == pytest.approx(LIQUIDATION_PRICE)
    assert trade["net_pnl"] == pytest.approx(liquidated.summary["final_equity"] - 1_000)
    assert (trade["opened"], trade["closed"]) == tuple(liquidated.equity.index[[1, 2]])


def test_equity_columns_agree_with_each_other(liquidated):
    held = liquidated.equity.iloc[1]  # bought at 100, closed at 100, low of 99
    assert (held["notional"], held["initial_margin"], held["maintenance_margin"]) == (100, 10, 1)
    assert held["equity"] == pytest.approx(1_000 - 0.1)
    assert held["lowest_equity"] == pytest.approx(1_000 - 0.1 - 1)
    assert held["margin_ratio"] == pytest.approx(1 / held["equity"])
    assert held["effective_leverage"] == pytest.approx(100 / held["equity"])
    flat = liquidated.equity.iloc[-1]
    assert isnan(flat["margin_ratio"])
    assert flat["effective_leverage"] == 0.0
    assert (liquidated.equity["unrealized_pnl"] == liquidated.equity["equity"] - liquidated.equity["wallet_balance"]).all()


def test_rows_are_timed_by_the_close_of_their_bar(liquidated):
    closes = pd.date_range("2024-01-01 02:00", periods=5, freq="h", tz="UTC")
    assert list(liquidated.equity.index) == list(closes)
    assert list(liquidated.candles()["low"]) == [99, 99, 80, 99, 99]
    assert list(liquidated.candles("AAA").index) == list(closes)


def test_journal_frame_balances_by_entry_and_sums_to_the_wallet(liquidated):
    journal = liquidated.journal
    assert journal.groupby("entry_id")["amount"].sum().abs().max() < 1e-12
    wallets = journal[journal["account"].str.startswith("wallet:")]["amount"].sum()
    assert wallets == pytest.approx(liquidated.summary["final_equity"])


def test_closed_trades_explain_every_cent_the_account_gained_or_lost():
    rng = np.random.default_rng(11)
    closes = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, 400)))
    opens = np.concatenate([[100.0], closes[:-1]])
    rows = list(zip(opens, np.maximum(opens, closes) * 1.01, np.minimum(opens, closes) * 0.99, closes, strict=True))
    script = {bar: aim(int(rng.integers(-3, 4))) for bar in range(1, 380, 3)}
    result = Result.of(play({**script, 390: close}, frame(rows), terms={**COSTS, "leverage": 20}, funding=0.001, cash=10_000))
    summary, trades = result.summary, result.trades
    assert summary["liquidations"] == trades["liquidated"].sum() > 3
    assert len(trades) > 20
    assert summary["open_trades"] == 0
    assert trades["funding"].sum() == pytest.approx(summary["funding"], rel=1e-12)
    assert trades["fees"].sum() == pytest.approx(-result.fills["fee"].sum(), rel=1e-12)
    assert trades["net_pnl"].sum() == pytest.approx(summary["final_equity"] - 10_000, rel=1e-9)


# -- shapes ----------------------------------------------------------------------------------------------------------


def test_frames_without_rows_keep_columns_and_types(idle, liquidated):
    for name in ("fills", "funding", "liquidations", "trades", "journal"):
        empty, full = getattr(idle, name), getattr(liquidated, name)
        assert list(empty.columns) == list(full.columns)
        assert list(empty.dtypes) == list(full.dtypes)
    assert len(idle.fills) == len(idle.trades) == len(idle.liquidations) == 0
    assert list(idle.trades.columns) == list(TRADE_COLUMNS)
    assert list(idle.equity.columns) == list(EQUITY_COLUMNS)


def test_frames_have_the_columns_that_are_promised(liquidated):
    promised = {
        "fills": "time symbol size price fee realized_pnl maker liquidation order_ref",
        "funding": "time symbol size mark_price rate amount",
        "liquidations": "time symbol size price mark_price trigger fee returned to_insurance_fund from_insurance_fund certainty",
        "journal": "time kind symbol account amount entry_id",
    }
    for name, columns in promised.items():
        assert set(columns.split()) <= set(getattr(liquidated, name).columns)


def test_every_time_column_is_in_utc(liquidated):
    times = [liquidated.equity.index, *(getattr(liquidated, name)["time"].dt for name in ("fills", "funding", "liquidations", "journal"))]
    assert {str(time.tz) for time in [*times, liquidated.trades["opened"].dt, liquidated.trades["closed"].dt]} == {"UTC"}


def test_a_run_without_trades_has_blanks_where_nothing_can_be_said(idle):
    summary = idle.summary
    assert (summary["closest_call"], summary["win_rate"], summary["sharpe"]) == (None, None, None)
    assert (summary["final_equity"], summary["total_return"], summary["max_drawdown"]) == (1_000, 0.0, 0.0)


def test_json_holds_everything_and_nothing_that_is_no_json(liquidated):
    whole = json.loads(liquidated.to_json(), parse_constant=pytest.fail)
    assert whole["summary"] == liquidated.summary
    assert whole["equity"]["time"][0] == "2024-01-01T02:00:00Z"
    assert whole["equity"]["margin_ratio"][-1] is None
    assert [row["symbol"] for row in whole["liquidations"]] == ["AAA"]
    assert len(whole["journal"]) == len(liquidated.journal)
    assert whole["positions"]["symbol"] == list(liquidated.positions["symbol"])
    assert whole["baseline"] is None
    assert whole["settings"]["leverage"] == {"AAA": 10}


def test_closest_call_and_funding_are_read_from_the_run():
    candles = frame([CALM] * 9, start="2024-01-01 05:00")
    result = Result.of(play({1: buy(), 7: close}, candles, funding=rate_column(d0108=0.001)))
    assert result.summary["funding"] == pytest.approx(-100 * 0.001)
    price = (100 - 10 + 0.1) / 0.99  # after funding has taken 0.1 of the margin
    assert result.summary["closest_call"] == pytest.approx((99 - price) / 99)
    assert list(result.trades["funding"]) == pytest.approx([-0.1])
    assert list(result.funding["time"]) == [pd.Timestamp("2024-01-01 08:00", tz="UTC")]


def test_deposits_and_adjustments_are_no_return_and_are_shown_apart():
    script = {1: lambda strategy: strategy.broker.add_cash(500), 3: lambda strategy: strategy.broker.set_cash(1_600)}
    summary = Result.of(play(script, frame([CALM] * 6))).summary
    assert (summary["start_cash"], summary["final_equity"], summary["net_deposits"]) == (1_000, 1_600, 600)
    assert (summary["total_return"], summary["max_drawdown"]) == (0.0, 0.0)


def test_profit_after_a_deposit_is_measured_on_both():
    script = {1: lambda strategy: strategy.broker.add_cash(1_000), 2: buy(size=10), 3: close}
    summary = Result.of(play(script, frame([CALM, CALM, (100, 110, 100, 110), (110, 110, 110, 110)]))).summary
    assert summary["total_return"] == pytest.approx(100 / 2_000)


def test_daily_bars_are_counted_by_the_day_they_open():
    rows = [CALM, CALM, (100, 110, 100, 110), (110, 110, 99, 99), (99, 99, 99, 99)]
    result = Result.of(play({1: buy(size=10), 4: close}, frame(rows, start="2024-01-01", freq="D")))
    values = [1_000, 1_000, 1_100, 990, 990]
    returns = [0.0] + [after / before - 1 for before, after in pairwise(values)]
    assert list(result.equity["equity"]) == pytest.approx(values)
    assert result.summary["sharpe"] == pytest.approx(sharpe(returns))
    assert result.summary["annual_return"] == pytest.approx(0.99 ** (365 / 5) - 1)


def test_a_short_wins_as_a_long_does():
    result = Result.of(play({1: sell(), 2: close}, frame([CALM, CALM, (95, 95, 95, 95)])))
    (trade,) = result.trades.to_dict("records")
    assert (trade["side"], trade["size"], trade["realized_pnl"]) == ("short", 1, 100 - 95)
    assert result.summary["win_rate"] == 1.0


# -- what it says of the run ---------------------------------------------------------------------------------------


def test_policies_that_were_used_are_flagged_and_others_are_not():
    plain = Result.of(play({}, frame([CALM] * 3), terms={"tiers": None}))
    assert plain.summary["flags"] == [
        "mark from last: AAA",
        "generic tiers (flat 0.5 %): AAA",
        "no trading fees: AAA",
        "no funding: AAA",
        "intrabar: adverse",
    ]
    fees = {"commission": 0.001}
    given = Result.of(play({}, frame([CALM] * 3, marks=[CALM] * 3), funding=rate_column(d0108=0.001), terms=fees, intrabar="close"))
    assert given.summary["flags"] == ["intrabar: close"]
    constant = Result.of(play({}, frame([CALM] * 3, marks=[CALM] * 3), funding=0.0001, terms=fees))
    assert constant.summary["flags"] == ["constant funding of 0.0001 per 8 h: AAA", "intrabar: adverse"]


def test_one_flag_names_every_contract_it_is_true_of():
    result = Result.of(play({}, frame([CALM] * 3), frame([CALM] * 3)))
    assert "mark from last: AAA, BBB" in result.summary["flags"]


def test_a_stamp_in_a_gap_of_the_data_is_flagged():
    candles = frame([CALM] * 9, start="2024-01-01 05:00", drop=(2, 3, 4))
    result = Result.of(play({1: buy()}, candles, funding=rate_column(d0108=0.001)))
    assert "funding stamps in data gaps, settled at the last known mark: 1" in result.summary["flags"]


def test_settings_say_how_the_run_was_made(liquidated):
    settings = liquidated.settings
    assert settings["leverage"] == {"AAA": 10}
    assert settings["margin_mode"] == {"AAA": "isolated"}
    assert settings["fees"] == {"AAA": {"maker": 0.001, "taker": 0.001, "liquidation_fee": 0.005}}
    assert (settings["cash"], settings["intrabar"], settings["profile"], settings["venue"]) == (1_000, "adverse", "market", None)
    assert settings["data"] == {"first": "2024-01-01T01:00:00Z", "last": "2024-01-01T06:00:00Z", "bars": 5, "bar_seconds": 3600.0}
    assert (settings["strategy"], settings["versions"]["backtrader"]) == ("Script", "1.9.78.123")


def test_a_result_needs_a_run():
    strategy = play({}, frame([CALM] * 3))
    strategy.broker.init()
    with pytest.raises(ValueError, match=r"this one has no bar yet; call cerebro\.run\(\) first"):
        Result.of(strategy)


def test_a_result_needs_a_margin_broker():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=frame([CALM] * 3)))
    cerebro.addstrategy(Script, script={})
    (strategy,) = cerebro.run()
    with pytest.raises(ValueError, match=r"this one had a BackBroker; use plug\(cerebro"):
        Result.of(strategy)


def test_a_funding_series_that_covers_only_part_of_the_run_is_said():
    bars = frame([(100, 100, 100, 100)] * 40)  # 2024-01-01 01:00 to 2024-01-02 17:00
    part = play({}, bars, funding=rate_column(d0108=0.001, d0116=0.001))
    whole = play({}, bars, funding=rate_column(d0108=0.001, d0116=0.001, d0200=0.001, d0208=0.001, d0216=0.001))
    said = [[flag for flag in Result.of(run).summary["flags"] if "no funding stamps" in flag] for run in (part, whole)]
    assert said == [["no funding stamps, none paid: AAA 2024-01-01T16:00:00Z to 2024-01-02T17:00:00Z"], []]


# -- positions -------------------------------------------------------------------------------------------------------


def test_positions_have_the_liquidation_price_that_the_broker_gave_on_each_bar():
    said = []

    def ask(strategy):
        said.extend(
            (strategy.data.datetime.datetime(), data._name, strategy.broker.liquidation_price(data))
            for data in strategy.datas
            if strategy.getposition(data).size
        )

    def buy_both(strategy):
        strategy.buy(data=strategy.datas[0], size=3)
        strategy.sell(data=strategy.datas[1], size=2)

    moves = [CALM, (100, 102, 99, 101), (101, 104, 100, 103), (103, 103, 96, 97), (97, 99, 95, 98)]
    back = [CALM, (100, 101, 97, 98), (98, 99, 90, 92), (92, 95, 91, 94), (94, 99, 94, 98)]
    script = {1: buy_both, 2: ask, 3: ask, 4: ask, 5: ask}
    for mode in ("cross", "isolated"):
        said.clear()
        terms = {"tiers": [(250, 0.01, 50), (None, 0.02, 20)], "commission": 0.001, "leverage": 5}
        result = Result.of(play(script, frame(moves), frame(back), margin_mode=mode, cash=150, terms=terms, funding=0.001))
        rows = result.positions
        assert [(time.tz_localize(None), symbol) for time, symbol in zip(rows["time"], rows["symbol"], strict=True)] == [
            (time, name) for time, name, _ in said
        ]
        expected = [price for *_, price in said]
        assert len(expected) == 8
        assert list(rows["liquidation_price"]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("feed", ["resampled", "replayed", "stock", "mixed"])
def test_positions_follow_the_dated_tiers_as_the_broker_did_on_every_kind_of_feed(feed):
    schedule = TierSchedule.from_days(
        (date(2024, 1, day), TierTable.from_rows([(None, rate, 10)])) for day, rate in ((1, 0.01), (3, 0.02), (5, 0.05))
    )
    candles = frame([CALM] * 150, start="2024-01-01")
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000, margin_mode="isolated", check=True)
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=5, tiers=schedule))
    days = {"timeframe": bt.TimeFrame.Days, "compression": 1}
    if feed == "stock":
        cerebro.adddata(bt.feeds.PandasData(dataname=candles.tz_convert(None), timeframe=bt.TimeFrame.Minutes, compression=60), name="AAA")
    elif feed == "mixed":
        cerebro.adddata(PerpData(dataname=candles, name="AAA"))
        cerebro.adddata(PerpData(dataname=frame([CALM] * 7, start="2024-01-01", freq="1D"), name="BBB"))
    else:
        data = PerpData(dataname=candles, name="AAA")
        (cerebro.resampledata if feed == "resampled" else cerebro.replaydata)(data, **days)
    cerebro.addstrategy(Asker)
    asked = cerebro.run()[0]
    prices = Result.of(asked).positions["liquidation_price"]
    assert len(prices) >= 4
    assert len(set(prices.round(6))) >= 3
    assert list(prices) == pytest.approx(asked.said, rel=1e-12)


def test_positions_are_what_was_held_at_each_close():
    rows = Result.of(play({1: buy(), 3: close}, frame([CALM, CALM, (100, 104, 99, 103), CALM, CALM]))).positions
    assert list(rows["mark_price"]) == [100, 103]
    assert list(rows["size"]) == [1, 1]
    assert list(rows["liquidation_price"]) == pytest.approx([LIQUIDATION_PRICE] * 2)
    assert list(rows["bankruptcy_price"]) == pytest.approx([90] * 2)  # 100 - its 10 of margin


def test_without_positions_the_frame_keeps_its_shape(idle):
    assert list(idle.positions.columns) == list(POSITION_COLUMNS)
    assert idle.positions.empty


def test_a_position_that_nothing_can_liquidate_has_no_price():
    rows = Result.of(play({1: buy()}, frame([CALM] * 3), margin_mode="cross")).positions
    assert rows["liquidation_price"].isna().all()


@pytest.mark.parametrize(
    "terms",
    [
        {"kind": "inverse", "currency": "BTC", "mult": 100},
        {"tiers": TierTable.from_rows([(150, 0.01, 20), (None, 0.05, 10)], mode="slab")},
        {"fee_in_margin": "bankruptcy", "commission": 0.001},
        {"maintenance_basis": "entry"},
        {},
    ],
)
def test_in_cross_the_wallets_margin_ratio_is_the_accounts(terms):
    bars = [CALM, CALM, (100, 105, 95, 96), (96, 104, 96, 103), CALM]
    script = {1: buy(), 2: buy(), 4: close}
    result = Result.of(play(script, frame(bars), terms=terms, margin_mode="cross"))
    assert list(result.margin_ratios.columns) == ["cross"]
    pd.testing.assert_series_equal(result.margin_ratios["cross"], result.equity["margin_ratio"], check_names=False, rtol=1e-12)
    assert result.margin_ratios["cross"].count() == 3


def test_bars_that_are_missing_are_told():
    result = Result.of(play({}, frame([CALM] * 8, drop=(3, 4))))
    assert "bars missing between the first and the last: AAA 2" in result.summary["flags"]
    assert [flag for flag in Result.of(play({}, frame([CALM] * 8))).summary["flags"] if "missing" in flag] == []
