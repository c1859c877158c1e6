"""Figures of one run against hand-worked scenarios and against the tear sheet's, and of many runs against their definitions."""

import gc
import weakref
from math import log, nan, sqrt

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from playing import CALM, buy, close, frame, play, sell

import bt_margin as bm
from bt_margin import passed
from bt_margin.outcome import (
    AGGREGATES,
    FIGURES,
    RUIN_SHARE,
    WEALTH_FLOOR,
    Outcome,
    average_true_range,
    full_and_partial,
    together,
    wilson,
)
from bt_margin.record import FillRow
from bt_margin.result import Result

LIQUIDATION = 90 / 0.99  # of a long of 1 at 100 that holds 10, at 1 % of maintenance


def outcome(script, *candles, **terms) -> Outcome:
    return Outcome(Result.of(play(script, *candles, **terms)))


def figures(script, *candles, **terms) -> dict:
    return outcome(script, *candles, **terms).figures


# -- wealth, ruin ----------------------------------------------------------------------------------------------------


def test_a_long_of_one_that_gains_ten():
    told = figures({1: buy()}, frame([CALM, CALM, (100, 110, 100, 110)]), intrabar="close")
    assert told["wealth"] == pytest.approx(1_010 / 1_000)
    assert told["log_wealth"] == pytest.approx(log(1.01))
    assert told["max_drawdown"] == pytest.approx(1 / 1_000)  # the second bar's low of 99
    assert told["days_under_water"] == pytest.approx(1 / 24)  # that bar, back at the peak at its close
    assert (told["is_liquidated"], told["is_ruined"], told["is_deep"]) == (0, 0, 0)
    assert told["exposure"] == pytest.approx(2 / 3)
    assert told["mean_leverage"] == pytest.approx((100 / 1_000 + 110 / 1_010) / 2)
    assert told["max_leverage"] == pytest.approx(110 / 1_010)
    assert told["trades"] == 0
    assert told["win_rate"] is None


def test_an_account_that_does_nothing_has_no_figure_of_a_position():
    told = figures({}, frame([CALM] * 30))
    assert told["wealth"] == 1.0
    assert told["exposure"] == told["turnover"] == told["max_drawdown"] == told["days_under_water"] == 0.0
    for name in ("sharpe", "sortino", "calmar", "min_headroom", "closest_call", "closest_call_atr", "mean_leverage", "fees", "payoff"):
        assert told[name] is None


def test_a_single_bar_has_figures():
    feed = bm.PerpData(dataname=frame([CALM]), name="BTCUSDT", timeframe=bt.TimeFrame.Minutes, compression=60)
    result = bm.run(bt.Strategy, {"BTCUSDT": feed})
    told = Outcome(result).figures
    assert told["wealth"] == 1.0
    assert told["annual_return"] is None  # of less than a day


def test_below_a_fifth_an_account_is_ruined_and_what_comes_after_does_not_count():
    # 10 bought at 100 with 1 000: at 15 equity is 1 000 - 850 = 150; it is not liquidated (1 % of 150), and it comes back
    rows = [CALM, CALM, (100, 100, 15, 20), (20, 200, 20, 200), (200, 200, 200, 200)]
    run = outcome({1: buy(size=10), 4: close}, frame(rows), margin_mode="cross", intrabar="close")
    told = run.figures
    assert run.result.summary["final_equity"] == pytest.approx(2_000)
    assert told["wealth"] == pytest.approx(0.15)
    assert told["log_wealth"] == log(WEALTH_FLOOR)
    assert told["annual_return"] == -1.0
    assert told["max_drawdown"] == pytest.approx(0.85)
    assert (told["is_ruined"], told["is_deep"], told["is_liquidated"]) == (1, 1, 0)
    assert told["trades"] == 0  # the one that closed came after ruin
    assert run.curve.equity[-3:] == pytest.approx([0.15] * 3)


@pytest.mark.parametrize(("low", "is_deep"), [(49, 1), (51, 0)])
def test_a_fall_of_more_than_a_half_is_deep(low, is_deep):
    told = figures({1: buy(size=10)}, frame([CALM, CALM, (100, 100, low, 100), CALM]), margin_mode="cross", intrabar="close")
    assert (told["is_deep"], told["is_ruined"]) == (is_deep, 0)


def test_funding_after_ruin_does_not_count():
    stamps = pd.Series([0.001, 0.001], index=pd.to_datetime(["2024-01-01 03:00", "2024-01-01 08:00"], utc=True))
    rows = [CALM, CALM, CALM, CALM, (100, 100, 15, 20), *[(20, 20, 20, 20)] * 6]
    told = figures({1: buy(size=10)}, frame(rows), margin_mode="cross", intrabar="close", funding=stamps)
    assert told["is_ruined"] == 1
    assert told["funding_paid"] == pytest.approx(10 * 100 * 0.001 / 800)  # of the first stamp alone; 80 a contract are lost


def test_turnover_is_what_was_traded_over_average_equity_a_year():
    told = figures({1: buy(), 10: close}, frame([CALM] * 48))
    assert told["turnover"] == pytest.approx((100 + 100) / 1_000 / (2 / 365))


def test_a_fall_to_just_above_a_fifth_is_no_ruin():
    rows = [CALM, CALM, (100, 100, 20.1, 25), (25, 25, 25, 25)]
    told = figures({1: buy(size=10)}, frame(rows), margin_mode="cross", intrabar="close")
    assert RUIN_SHARE == 0.2
    assert told["is_ruined"] == 0
    assert told["wealth"] == pytest.approx(0.25)


def test_ruin_hides_no_liquidation_that_comes_after_it():
    rows = [CALM, CALM, (100, 100, 15, 20), (20, 20, 5, 5), (5, 5, 5, 5)]
    told = figures({1: buy(size=11)}, frame(rows), margin_mode="cross", intrabar="close")
    assert told["is_ruined"] == told["is_liquidated"] == 1
    assert told["wealth"] == pytest.approx((1_000 - 11 * 85) / 1_000)


def test_an_account_that_can_open_nothing_more_is_ruined():
    rows = [CALM, CALM, (100, 100, 60, 60), (60, 60, 60, 60), (60, 60, 60, 60)]
    # a lot of 1 needs 6 of margin at 60: what is left of 10 after the liquidation of 1 that held all of it opens nothing
    told = figures({1: buy()}, frame(rows), cash=10.0, terms={"lot": 1.0})
    assert told["is_liquidated"] == told["is_ruined"] == 1
    assert told["wealth"] == pytest.approx((10 - 100 + LIQUIDATION) / 10)


def test_a_refill_makes_nobody_richer():
    rows = [CALM, CALM, (100, 100, 80, 80), (80, 80, 80, 80)]
    alone = outcome({1: buy()}, frame(rows), cash=10.0)
    refilled = outcome({1: buy()}, frame(rows), cash=10.0, on_liquidation="refill", refill=10.0)
    assert refilled.result.summary["final_equity"] == pytest.approx(10.0)
    assert refilled.figures["wealth"] == pytest.approx(alone.figures["wealth"])
    assert refilled.figures["is_ruined"] == 1


def test_what_is_left_where_a_run_ended_early_stands_until_the_end_of_the_data():
    rows = [CALM, CALM, (100, 100, 80, 80), *[(80, 80, 80, 80)] * 47]
    run = outcome({1: buy()}, frame(rows), on_liquidation="stop")
    assert run.result.ended_early
    assert run.curve.times[-1] - run.curve.opened == 50 * 3_600
    assert run.figures["exposure"] == pytest.approx(1 / 50)
    assert run.figures["annual_return"] == pytest.approx((1 - (100 - LIQUIDATION) / 1_000) ** (365 * 24 / 50) - 1)


def test_a_curve_is_read_at_instants_by_the_last_bar_that_had_closed():
    run = outcome({1: buy()}, frame([CALM, CALM, (100, 110, 100, 110)]), intrabar="close")
    first = run.curve.opened
    assert run.curve.at(first + 3_600 * np.array([0, 0.5, 1, 2, 2.5, 3])) == pytest.approx([1, 1, 1, 1, 1, 1.01])


# -- liquidations ----------------------------------------------------------------------------------------------------


def test_a_liquidation_is_counted_with_what_it_cost():
    told = figures({1: buy()}, frame([CALM, CALM, (100, 100, 80, 80), CALM]))
    assert (told["is_liquidated"], told["full_liquidations"], told["partial_liquidations"]) == (1, 1, 0)
    assert told["liquidation_loss"] == pytest.approx((LIQUIDATION - 100) / 1_000)
    assert told["min_headroom"] == told["closest_call"] == told["closest_call_atr"] == 0.0
    assert told["liquidated_before_stop"] == told["liquidated_past_stop"] == 0


def fill(time: float, size: float, *, liquidation: bool = False, symbol: str = "AAA", price: float = 100.0) -> FillRow:
    return FillRow(time, symbol, size, price, 0.0, 0.0, False, liquidation, 1)


@pytest.mark.parametrize(
    ("fills", "counts"),
    [
        ([fill(1, 3), fill(2, -1, liquidation=True), fill(3, -2, liquidation=True)], (1, 1)),
        ([fill(1, 3), fill(2, -1, liquidation=True), fill(2, -2, liquidation=True)], (1, 0)),  # shares of two owners in one
        ([fill(1, -3), fill(2, 1, liquidation=True), fill(2, 1, liquidation=True, price=99.0)], (0, 2)),  # two steps of one bar
        ([fill(1, 3), fill(1, 2, symbol="BBB"), fill(2, -3, liquidation=True), fill(3, -2, symbol="BBB")], (1, 0)),
        ([fill(1, 0.3), fill(2, -0.1, liquidation=True), fill(3, -0.1, liquidation=True), fill(4, -0.1, liquidation=True)], (1, 2)),
        ([fill(1, 3), fill(2, -3)], (0, 0)),
    ],
)
def test_a_liquidation_is_full_where_it_leaves_nothing(fills, counts):
    assert full_and_partial(fills) == counts


def test_a_stop_that_the_price_had_not_come_to_counts_as_liquidated_before_it():
    stopped = sell(exectype=bt.Order.Stop, price=85)  # below the liquidation price of 90.909
    told = figures({1: buy(), 2: stopped}, frame([CALM, CALM, CALM, (100, 100, 80, 80), CALM]))
    assert (told["liquidated_before_stop"], told["liquidated_past_stop"]) == (1, 0)


def test_an_open_beyond_stop_and_liquidation_counts_as_past_the_stop():
    stopped = sell(exectype=bt.Order.Stop, price=95)
    told = figures({1: buy(), 2: stopped}, frame([CALM, CALM, CALM, (80, 80, 80, 80), CALM]))
    assert (told["liquidated_before_stop"], told["liquidated_past_stop"]) == (0, 1)


def test_what_a_liquidation_lost_is_held_against_what_its_stop_would_have():
    terms = {"commission": 0.001, "liquidation_fee": 0.005}
    early = outcome({1: buy(), 2: sell(exectype=bt.Order.Stop, price=85)}, frame([CALM, CALM, CALM, (100, 100, 80, 80), CALM]), terms=terms)
    (row,) = early.result.strategy.broker.record.liquidations
    assert (row.size, row.entry_price) == (1, 100)
    lost = row.price - 100 - row.fee - row.forfeited  # of a long of 1
    assert row.fee == pytest.approx(0.005 * row.price)
    assert early.figures["liquidation_loss"] == pytest.approx(lost / 1_000)
    # at the stop 15 would have been lost and a fee of 0.085
    assert early.figures["loss_beside_stop"] == pytest.approx((lost + 15 + 0.085) / 1_000)
    # the entry's fee is the only one that is no part of a liquidation
    assert early.figures["fees"] == pytest.approx(0.1 / abs(row.price - 100))
    late = {1: sell(), 2: buy(exectype=bt.Order.Stop, price=105)}
    gap = figures(late, frame([CALM, CALM, CALM, (130, 130, 130, 130), CALM]))
    assert gap["loss_beside_stop"] == pytest.approx((-10 + 5) / 1_000)  # all of its margin is gone, where the stop would have cost 5
    assert figures({1: buy()}, frame([CALM, CALM, (100, 100, 80, 80), CALM]))["loss_beside_stop"] is None
    assert figures({1: buy()}, frame([CALM] * 3))["loss_beside_stop"] == 0


def test_steps_of_a_liquidation_within_a_bar_count_once_before_or_past_the_stop():
    run = outcome({1: buy(), 2: sell(exectype=bt.Order.Stop, price=85)}, frame([CALM, CALM, CALM, (100, 100, 80, 80), CALM]))
    liquidations = run.result.strategy.broker.record.liquidations
    liquidations.append(liquidations[0]._replace(mark_price=84.0))  # a second step, whose mark has gone through the stop
    told = run.figures
    assert (told["liquidated_before_stop"], told["liquidated_past_stop"]) == (1, 0)


def test_a_trade_risks_what_lies_to_its_first_stop():
    stops = {2: sell(exectype=bt.Order.Stop, price=96, reduce_only=True), 3: sell(exectype=bt.Order.Stop, price=98, reduce_only=True)}
    told = figures({1: buy(), **stops}, frame([CALM, CALM, CALM, (100, 100, 97, 97), CALM]))
    assert told["expectancy_r"] == pytest.approx(-2 / 4)  # sold at 98; the first stop was 4 away


def test_a_stop_that_was_met_first_leaves_no_liquidation():
    stopped = sell(exectype=bt.Order.Stop, price=95)
    told = figures({1: buy(), 2: stopped}, frame([CALM, CALM, CALM, (100, 100, 80, 80), CALM]))
    assert told["is_liquidated"] == 0
    assert told["expectancy_r"] == pytest.approx(-1.0)  # filled at 95, five below an entry that risked five


class Stopper(bt.Strategy):
    """Buys once; its stop is known to the sizer alone."""

    def next(self):
        if len(self) == 1:
            self.buy()

    def stop_for(self, data, isbuy):
        return 60.0 if isbuy else 140.0


def test_a_stop_that_only_the_sizer_knew_of_counts_too():
    rows = [CALM, CALM, (100, 100, 50, 70), CALM, CALM]
    sizer = (bm.sizers.RiskToStop, {"fraction": 0.3})
    result = bm.run(Stopper, {"BTCUSDT": frame(rows)}, venue=None, leverage=10, margin_mode="isolated", sizer=sizer)
    told = Outcome(result).figures
    assert told["is_liquidated"] == 1
    assert told["liquidated_before_stop"] == 1


# -- margin ----------------------------------------------------------------------------------------------------------


def test_headroom_and_time_near_liquidation_of_an_isolated_position():
    # at a close of 91 its wallet has 10 - 9 = 1 and needs 0.91: a ratio of 0.91, a headroom of 0.09
    rows = [CALM, CALM, (100, 100, 91, 91), (91, 100, 91, 100)]
    told = figures({1: buy()}, frame(rows), intrabar="close")
    assert told["min_headroom"] == pytest.approx(1 - 0.91 / 1)
    assert told["time_above_half"] == told["time_above_most"] == pytest.approx(1 / 4)
    assert told["closest_call"] == pytest.approx((91 - LIQUIDATION) / 91)


@pytest.mark.parametrize(("at", "half", "most"), [(91.1, 1 / 4, 1 / 4), (91.2, 1 / 4, 0), (91.9, 0, 0)])
def test_the_time_near_liquidation_is_by_two_levels(at, half, most):
    # 10 - (100 - price) is left and 1 % of the price needed: 0.83, 0.76 and 0.48 of it
    ratio = 0.01 * at / (at - 90)
    assert (ratio > 0.5, ratio > 0.8) == (half > 0, most > 0)
    told = figures({1: buy()}, frame([CALM, CALM, (100, 100, at, at), CALM]), intrabar="close")
    assert (told["time_above_half"], told["time_above_most"]) == (pytest.approx(half), pytest.approx(most))


def test_the_closest_call_in_average_true_ranges():
    told = figures({1: buy()}, frame([CALM] * 20))
    assert told["closest_call_atr"] == pytest.approx((99 - LIQUIDATION) / 2)  # lows of 99, ranges of 2
    short = figures({1: sell()}, frame([CALM] * 20))
    assert short["closest_call_atr"] == pytest.approx((110 / 1.01 - 101) / 2)
    assert figures({1: buy()}, frame([CALM] * 14))["closest_call_atr"] is None  # there is no average before the fifteenth bar


@pytest.mark.parametrize("bars", [1, 3, 14])
def test_the_average_true_range_is_wilders(bars):
    random = np.random.default_rng(1)
    for count in (1, bars, bars + 1, bars + 64, bars + 65, 200):
        prices = 100 + np.cumsum(random.normal(size=count))
        high, low = prices + random.uniform(size=count), prices - random.uniform(size=count)
        expected = np.full(count, nan)
        true = [max(high[row], prices[row - 1]) - min(low[row], prices[row - 1]) for row in range(1, count)]
        if count > bars:
            expected[bars] = sum(true[:bars]) / bars
            for row in range(bars + 1, count):
                expected[row] = expected[row - 1] + (true[row - 1] - expected[row - 1]) / bars
        assert average_true_range(high, low, prices, bars) == pytest.approx(expected, rel=1e-12, nan_ok=True)


# -- trades and costs ------------------------------------------------------------------------------------------------


def test_costs_are_shares_of_all_price_profit_and_loss():
    rows = [CALM, CALM, (110, 110, 110, 110), (110, 110, 110, 110), (105, 105, 105, 105), CALM]
    terms = {"commission": 0.001}
    told = figures({1: buy(), 2: close, 3: buy(), 4: close}, frame(rows), terms=terms)
    # bought at 100, sold at 110; bought at 110, sold at 105: profits of 10 and -5
    fees = 0.001 * (100 + 110 + 110 + 105)
    assert told["fees"] == pytest.approx(fees / (10 + 5))
    assert told["trades"] == 2
    assert told["win_rate"] == 0.5
    won, lost = 10 - 0.001 * 210, 5 + 0.001 * 215
    assert told["payoff"] == pytest.approx(won / lost)
    assert told["expectancy_r"] == pytest.approx((won - lost) / 2 / lost)  # no stops: in units of the average loss


def test_funding_is_a_share_of_gross_profit_paid_and_received_apart():
    index = pd.date_range("2024-01-01 08:00", periods=2, freq="8h", tz="UTC")
    funding = pd.Series([0.001, -0.0004], index=index)
    rows = [CALM] * 22 + [(100, 120, 100, 120)]
    told = figures({1: buy()}, frame(rows), funding=funding)
    assert told["funding_paid"] == pytest.approx(0.1 / 20)
    assert told["funding_received"] == pytest.approx(0.04 / 20)


def test_slippage_is_a_share_of_gross_profit():
    rows = [CALM, CALM, (120, 121, 118, 120), (120, 120, 120, 120)]
    told = figures({1: buy(), 2: close}, frame(rows), slip_fixed=1.0, slip_open=True, slip_match=False, slip_out=True)
    assert told["slippage"] == pytest.approx(2 / (119 - 101))


# -- against the tear sheet ------------------------------------------------------------------------------------------


class Flipper(bt.Strategy):
    """Turns round where the fast average crosses the slow one, on every data."""

    def __init__(self):
        self.signs = [bt.ind.SMA(data, period=5) > bt.ind.SMA(data, period=20) for data in self.datas]

    def next(self):
        for data, sign in zip(self.datas, self.signs, strict=True):
            share = 1.5 if sign[0] else -1.5
            if self.getposition(data).size * share <= 0:
                self.order_target_percent(data, target=share / len(self.datas))


def walk(seed: int, bars: int = 600) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    closes = 30_000 * np.exp(np.cumsum(random.normal(0, 0.004, bars)))
    opens = np.concatenate([[30_000], closes[:-1]])
    rows = np.column_stack([opens, np.maximum(opens, closes) * 1.001, np.minimum(opens, closes) * 0.999, closes])
    return frame(rows, drop=range(100, 105))


@pytest.mark.parametrize(
    ("symbols", "mode", "venue"),
    [
        (("BTCUSDT",), "cross", "binance"),
        (("BTCUSDT",), "isolated", "binance"),
        (("BTCUSDT", "ETHUSDT"), "cross", "binance"),
        (("BTCUSDT", "ETHUSDT"), "isolated", "binance"),
        (("BTCUSDT",), "isolated", "okx"),
    ],
)
def test_figures_of_a_run_are_those_of_the_tear_sheet(symbols, mode, venue):
    data = {symbol: walk(seed) for seed, symbol in enumerate(symbols)}
    result = bm.run(Flipper, data, venue=venue, leverage=3, margin_mode=mode, funding=0.0001)
    told, known = Outcome(result).figures, result.statistics
    assert told["is_ruined"] == 0
    pairs = {
        **{name: name for name in ("annual_return", "sharpe", "sortino", "calmar", "max_drawdown", "trades", "win_rate", "payoff")},
        "days_under_water": "longest_drawdown_days",
        "closest_call": "closest_call",
        "mean_leverage": "leverage_mean",
        "high_leverage": "leverage_95",
        "max_leverage": "leverage_highest",
    }
    for ours, theirs in pairs.items():
        assert told[ours] == pytest.approx(known[theirs], rel=1e-9), ours
    assert told["wealth"] == pytest.approx(1 + known["total_return"])
    assert told["min_headroom"] == pytest.approx(1 - known["highest_margin_ratio"])
    hours = (600 * 3_600) / 3_600
    assert told["time_above_half"] * hours == pytest.approx(known["hours_above_50"])
    assert told["closest_call_atr"] == pytest.approx(least_distance_in_ranges(result))


@pytest.mark.parametrize("mode", ["cross", "isolated"])
def test_whatever_the_size_of_the_blocks_figures_columns_and_holdings_are_the_same(monkeypatch, mode):
    data = {symbol: walk(seed) for seed, symbol in enumerate(("BTCUSDT", "ETHUSDT"))}
    result = bm.run(Flipper, data, venue="binance", leverage=3, margin_mode=mode, funding=0.0001)
    record = result.strategy.broker.record
    assert record.bars_passed > 100
    whole = Outcome(result).figures, record.table(), record.holdings()
    monkeypatch.setattr(passed, "BLOCK", 7)
    monkeypatch.setattr("bt_margin.outcome.BLOCK", 7)
    assert len(list(record.passed.groups())) > 10
    assert Outcome(result).figures == whole[0]
    assert np.array_equal(record.table(), whole[1])
    assert np.array_equal(record.holdings(), whole[2])


def test_columns_on_the_way_to_figures_are_gone_with_them():
    result = bm.run(Flipper, {"BTCUSDT": walk(1)}, venue="binance", leverage=3, funding=0.0001)
    gc.disable()
    try:
        bars = next(bars for bars in result.strategy.broker.record.passed.groups() if bars.positions)
        assert len(bars.equity) == len(bars.positions[0].profit)
        gone = weakref.ref(bars), weakref.ref(bars.positions[0])
        del bars
        assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()


def least_distance_in_ranges(result: Result) -> float:
    """Return the closest call in average true ranges, worked out for every position at every close."""
    found = []
    for symbol in result.symbols:
        bars = result.candles(symbol)
        bars["range"] = average_true_range(*(bars[name].to_numpy() for name in ("high", "low", "close")))
        for row in result.positions[result.positions["symbol"] == symbol].itertuples():
            bar, side = bars.loc[row.time], 1 if row.size > 0 else -1
            worst = bar["low"] if side > 0 else bar["high"]
            found.append(max(side * (worst - row.liquidation_price), 0) / bar["range"])
    return np.nanmin(found)


def test_a_hedged_account_has_figures_too():
    rows = [CALM, CALM, *[(100, 104, 99, 103)] * 20]
    both = {1: lambda strategy: (strategy.buy(size=2, position_side="LONG"), strategy.sell(size=1, position_side="SHORT"))}
    told = figures(both, frame(rows), position_mode="hedge", margin_mode="cross", intrabar="close")
    assert told["wealth"] == pytest.approx((1_000 + 2 * 3 - 1 * 3) / 1_000)
    assert told["max_leverage"] == pytest.approx(3 * 103 / 1_003)
    assert told["is_liquidated"] == 0


def test_the_stops_of_two_legs_are_told_apart():
    rows = [CALM, CALM, CALM, (100, 100, 88, 100), (100, 125, 100, 125)]  # a long dies at 90.9, a short at 108.9
    told = figures({1: open_legs, 2: stop_legs}, frame(rows), position_mode="hedge")
    assert told["full_liquidations"] == 2
    assert told["liquidated_before_stop"] == 1  # the first cancels the orders of both legs, so the short has no stop any more
    assert told["liquidated_past_stop"] == 0


def open_legs(strategy) -> None:
    strategy.buy(size=1, position_side="LONG")
    strategy.sell(size=1, position_side="SHORT")


def stop_legs(strategy) -> None:
    strategy.sell(size=1, exectype=bt.Order.Stop, price=85, position_side="LONG")
    strategy.buy(size=1, exectype=bt.Order.Stop, price=130, position_side="SHORT")


def test_figures_are_plain_and_named_once():
    told = figures({1: buy()}, frame([CALM] * 20))
    assert tuple(told) == FIGURES
    assert len(set(FIGURES)) == len(FIGURES)
    assert all(value is None or type(value) in (int, float) for value in told.values())


# -- many runs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "runs", "low", "high"),
    [
        (2, 10, 0.0567, 0.5098),
        (0, 10, 0.0, 0.2775),  # z^2 / (n + z^2) = 3.8415 / 13.8415
        (10, 10, 0.7225, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_intervals_are_the_closed_form(count, runs, low, high):
    assert wilson(count, runs) == pytest.approx((low, high), abs=5e-5)


def test_a_wilson_interval_holds_the_share_and_has_roots_of_its_equation():
    low, high = wilson(3, 17)
    z = 1.959963984540054
    for bound in (low, high):
        assert abs(3 / 17 - bound) == pytest.approx(z * sqrt(bound * (1 - bound) / 17))


def run_of(**known) -> dict:
    return {**dict.fromkeys(FIGURES), **known}


def test_many_runs_are_told_by_quantiles_probabilities_means_and_medians():
    runs = [
        run_of(wealth=wealth, log_wealth=log(wealth), is_liquidated=dead, full_liquidations=2 * dead, sharpe=sharpe)
        for wealth, dead, sharpe in [(0.5, 1, None), (1.0, 0, 1.0), (2.0, 0, 2.0), (4.0, 0, 4.0), (8.0, 0, None)]
    ]
    told = together(runs, is_drawn=True)
    assert tuple(told) == AGGREGATES
    assert [told[f"wealth_{share}"] for share in (5, 25, 50, 75, 95)] == pytest.approx([0.6, 1.0, 2.0, 4.0, 7.2])
    assert told["median_log_wealth"] == pytest.approx(log(2))
    assert told["p_liquidation"] == pytest.approx(1 / 5)
    assert (told["p_liquidation_low"], told["p_liquidation_high"]) == pytest.approx(wilson(1, 5))
    assert told["full_liquidations"] == pytest.approx(2 / 5)
    assert told["sharpe"] == 2.0  # of the runs that have one
    assert np.isnan(told["calmar"])


def test_the_history_alone_is_no_distribution():
    told = together([run_of(wealth=3.0, log_wealth=log(3), is_liquidated=0, is_ruined=0, is_deep=0)], is_drawn=False)
    assert told["wealth_50"] == 3.0
    assert told["median_log_wealth"] == pytest.approx(log(3))
    for name in ("wealth_5", "wealth_95", "p_liquidation", "p_liquidation_low", "p_liquidation_high", "p_ruin", "p_deep_drawdown"):
        assert np.isnan(told[name])


def test_no_runs_have_no_figures():
    assert all(np.isnan(value) for value in together([], is_drawn=True).values())
