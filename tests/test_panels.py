"""What the pictures of a run show: thinning loses no extreme, panels are the result's numbers, tables say them in words."""

import json
from functools import cache
from itertools import pairwise
from math import inf

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from looking import RUNS, died_often, died_once, of_two, warned
from playing import CALM, buy, close, frame, play, rate_column, sell

from bt_margin import MarginBroker, PerpCommInfo, PerpData, Result, Tier, TierTable, panels
from bt_margin.backtest import run
from bt_margin.panels import PANELS, Panel, gap_rows, merged_candles, panel, thinned


def series_of(seed: int, length: int, blank: float) -> np.ndarray:
    """Return numbers with ties among them, a share of them NaN."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(length) < blank, np.nan, rng.integers(-50, 50, length) * rng.choice([1.0, 1e3], length))


seeds, lengths, blanks = st.integers(0, 10_000), st.integers(1, 300), st.sampled_from([0.0, 0.1, 0.9, 1.0])


@st.composite
def envelopes(draw) -> tuple[list[tuple[np.ndarray, np.ndarray]], int]:
    """Return series of equal length with their lows and highs, NaN in both where there is none, and a number of steps."""
    length = draw(lengths)
    lows = [series_of(draw(seeds), length, draw(blanks)) for _ in range(draw(st.integers(1, 3)))]
    return [(low, low + draw(st.floats(0, 100))) for low in lows], draw(st.integers(1, 40))


# -- thinning --------------------------------------------------------------------------------------------------------


@given(envelopes(), st.data())
def test_no_extreme_of_any_bucket_is_lost(drawn, data):
    pairs, steps = drawn
    length = len(pairs[0][0])
    always = data.draw(st.lists(st.integers(0, length - 1), max_size=5))
    rows = thinned(pairs, steps, always=always)
    assert (np.diff(rows) > 0).all()
    assert {0, length - 1, *always} <= set(rows.tolist())
    assert len(rows) <= 2 * steps * len(pairs) + 2 + len(set(always))
    edges = np.linspace(0, length, steps + 1).astype(int)
    for low, high in pairs:
        for first, end in pairwise(edges):
            kept = rows[(rows >= first) & (rows < end)]
            if first < end and not np.isnan(low[first:end]).all():
                assert np.nanmin(low[kept]) == np.nanmin(low[first:end])
                assert np.nanmax(high[kept]) == np.nanmax(high[first:end])


@given(seeds, lengths, blanks, st.integers(1, 20))
def test_a_gap_stays_a_gap(seed, length, blank, steps):
    series = series_of(seed, length, blank)
    rows = thinned([(series, series)], steps, always=gap_rows(series))
    is_gap, kept = np.isnan(series), np.isnan(series[rows])
    edges = np.flatnonzero(np.diff(is_gap.astype(int)))
    assert np.diff(kept.astype(int)).nonzero()[0].size == edges.size
    assert {*edges.tolist(), *(edges + 1).tolist()} <= set(rows.tolist())


@given(lengths, st.integers(1, 50), seeds)
def test_merged_candles_keep_the_first_open_the_extremes_and_the_last_close(length, most, seed):
    bottoms = 100 + np.abs(series_of(seed, length, 0.0))
    rows = [(low + 0.5, low + 2, low, low + 1) for low in bottoms]
    candles, times = frame(rows), np.arange(length, dtype=float)
    merged = merged_candles(times, candles, most, 3600.0)
    assert len(merged.times) <= most
    assert (np.diff(merged.times) > 0).all()
    assert merged.seconds == merged.bars * 3600
    assert (merged.low.min(), merged.high.max()) == (candles["low"].min(), candles["high"].max())
    assert (merged.open[0], merged.close[-1], merged.times[-1]) == (candles["open"].iloc[0], candles["close"].iloc[-1], length - 1)
    last = candles.iloc[: merged.bars]
    assert (merged.high[0], merged.low[0], merged.close[0]) == (last["high"].max(), last["low"].min(), last["close"].iloc[-1])


# -- every panel -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("steps", [2, 1_200])
def test_lines_rise_in_time_and_keep_their_extremes(name, steps):
    result = RUNS[name]()
    fine = panels.panels(result)
    for key, shown in panels.panels(result, steps=steps).items():
        assert shown.key == key
        for line in shown.lines:
            whole = fine[key].line(line.key)
            assert (np.diff(line.times) > 0).all()
            assert len(line.times) == len(line.values)
            for series, other, extreme in ((line.values, whole.values, np.nanmin), (line.values, whole.values, np.nanmax)):
                if not np.isnan(other).all():
                    assert extreme(series) == extreme(other)
            if line.low is not None:
                assert line.low.min() == whole.low.min()
        for group, full in zip(shown.marks, fine[key].marks, strict=True):
            assert len(group.times) == len(full.times) == len(group.values) == len(group.texts)


@pytest.mark.parametrize("name", RUNS)
def test_every_panel_has_a_title_a_unit_and_a_table_and_is_ready_for_json(name):
    whole = panels.panels(RUNS[name]())
    assert tuple(whole) == PANELS
    for shown in whole.values():
        assert shown.title
        assert shown.unit
        assert shown.tables
        assert shown.title in shown.as_text()
        json.dumps(shown.to_dict(), allow_nan=False)


def test_the_same_run_gives_the_same_panels():
    first, second = ({key: shown.to_dict() for key, shown in panels.panels(died_once()).items()} for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", RUNS)
def test_every_liquidation_and_every_fill_is_a_mark(name):
    result = RUNS[name]()
    price = [panel(result, "price", symbol=symbol) for symbol in result.symbols]
    deaths, fills = len(result.liquidations), len(result.fills)
    counts = [{group.key: len(group.times) for group in shown.marks} for shown in price]
    assert sum(count.get("liquidation", 0) for count in counts) == deaths
    assert sum(sum(count.values()) for count in counts) - deaths == fills - result.fills["liquidation"].sum()
    for key in ("equity", "margin_ratio"):
        assert sum(len(group.times) for group in panel(result, key).marks if group.key == "liquidation") == deaths


def texts_of(shown: Panel) -> dict[str, tuple]:
    """Return a panel's first table's rows by their first cell."""
    return {row[0]: row[1:] for row in shown.tables[0].rows}


# -- price -----------------------------------------------------------------------------------------------------------


def test_the_price_panel_has_the_liquidation_the_bankruptcy_and_the_stop_price():
    # long 1 at 100 with 10 of margin and maintenance 1 %: dead at 90 / 0.99, bankrupt at 90; its stop stands at 95 and is met
    script = {1: buy(), 2: sell(exectype=bt.Order.Stop, price=95.0)}
    shown = panel(Result.of(play(script, frame([CALM, CALM, CALM, CALM, (100, 100, 94, 96), CALM]))), "price")
    hours = (shown.line("stop").times - shown.line("stop").times[0]) / 3600
    assert list(hours) == [0, 1, 2, 3, 4, 5]
    nan = float("nan")
    assert list(shown.line("liquidation_price").values) == pytest.approx([nan, *[90 / 0.99] * 3, nan, nan], nan_ok=True)
    assert list(shown.line("bankruptcy_price").values) == pytest.approx([nan, 90, 90, 90, nan, nan], nan_ok=True)
    assert list(shown.line("stop").values) == pytest.approx([nan, 95, 95, 95, nan, nan], nan_ok=True)
    assert list(shown.shade.values) == [0, 1, 1, 1, 0, 0]
    assert [(group.key, list(group.values)) for group in shown.marks] == [("buy_open", [100.0]), ("sell_close", [95.0])]


def test_the_liquidation_price_breaks_where_a_long_turns_into_a_short():
    # 10x and maintenance 1 %: a long at 100 dies at 90 / 0.99, a short at 110 / 1.01; the reversal fills in the fourth bar
    result = Result.of(play({1: buy(), 3: sell(size=2)}, frame([CALM] * 6)))
    for steps in (1, 1_000):
        line = panel(result, "price", steps=steps).line("liquidation_price")
        hours = list((line.times - line.times[0]) / 3600)
        place = hours.index(3.0)
        assert hours[place : place + 2] == [3.0, 3.0]
        assert np.isnan(line.values[place])
        assert (line.values[place - 1], line.values[place + 1]) == pytest.approx((90 / 0.99, 110 / 1.01))


def test_the_exits_of_a_bracket_rest_from_its_entry_on():
    def bracket(strategy):
        strategy.buy_bracket(size=1, exectype=bt.Order.Limit, price=98.0, stopprice=95.0, limitprice=105.0)

    rows = [CALM, CALM, CALM, (99, 100, 97, 99), (99, 99, 99, 99), (99, 106, 99, 105), CALM]
    (stop,) = Result.of(play({1: bracket}, frame(rows))).stops.itertuples()
    assert (stop.price, stop.kind, stop.size) == (95.0, "stop", -1)
    assert (stop.placed.hour, stop.ended.hour) == (5, 7)  # filled in the fourth bar, which closes at 05:00; the limit is met at 07:00


def test_a_bracket_whose_entry_never_filled_has_no_stop():
    def bracket(strategy):
        strategy.buy_bracket(size=1, exectype=bt.Order.Limit, price=50.0, stopprice=45.0, limitprice=105.0)

    assert Result.of(play({1: bracket}, frame([CALM] * 4))).stops.empty


def test_a_trailing_stop_has_a_row_for_each_price_it_stood_at():
    rows = [CALM, CALM, (100, 103, 100, 103), (103, 104, 102, 102), (102, 105, 102, 105), (105, 105, 101, 101), CALM]
    script = {1: buy(), 2: sell(exectype=bt.Order.StopTrail, trailamount=3.0)}
    result = Result.of(play(script, frame(rows)))
    assert list(result.stops["price"]) == [97.0, 100.0, 102.0]  # closes of 100, 103 and 105 less 3
    assert result.fills["price"].iloc[-1] == 102.0
    assert [moment.hour for moment in result.stops["placed"]] == [3, 4, 6]


def test_two_stops_at_once_are_two_lines():
    script = {1: buy(size=2), 2: lambda strategy: [strategy.sell(size=1, exectype=bt.Order.Stop, price=price) for price in (95, 96)]}
    shown = panel(Result.of(play(script, frame([CALM] * 5))), "price")
    assert [np.nanmax(line.values) for line in shown.lines if line.key.startswith("stop")] == [95, 96]


def test_prices_of_an_inverse_contract_are_not_in_its_coin():
    candles = frame([(50_000, 50_100, 49_900, 50_000)] * 4)
    result = run(Idle, {"BTCUSD_PERP": candles}, venue="binance-coinm", leverage=5, cash=1.0)
    shown = panels.panels(result)
    assert shown["price"].unit == "USD per unit of BTCUSD_PERP"
    assert shown["equity"].unit == "BTC"


class Idle(bt.Strategy):
    """Does nothing."""


# -- money -----------------------------------------------------------------------------------------------------------


@cache
def gambled(seed: int) -> Result:
    """Two contracts, cross and isolated, traded at random with fees, funding and money from outside until much of it is gone."""

    class Gambler(bt.Strategy):
        def __init__(self):
            self.draws = np.random.default_rng(seed)

        def next(self):
            if len(self) % 4 == 0:
                for data in self.datas:
                    self.order_target_percent(data, target=float(self.draws.choice([-4, 0, 4])))
            if len(self) == 50:
                self.broker.add_cash(500)

    rng = np.random.default_rng(seed)
    candles = []
    for _ in range(2):
        closes = 100 * np.exp(np.cumsum(rng.normal(0, 0.03, 120)))
        opens = np.concatenate([[100.0], closes[:-1]])
        tops, bottoms = np.maximum(opens, closes) * 1.01, np.minimum(opens, closes) * 0.99
        candles.append(frame(list(zip(opens, tops, bottoms, closes, strict=True))))
    modes = {"BTCUSDT": "cross", "ETHUSDT": "isolated"}
    data = dict(zip(modes, candles, strict=True))
    return run(Gambler, data, leverage=10, margin_mode=modes, cash=10_000, funding=0.001, fee=0.0005, slip_perc=0.001, slip_open=True)


@pytest.mark.parametrize("result", [lambda: gambled(1), lambda: gambled(2), died_once, died_often, warned, of_two])
def test_the_waterfall_ends_where_the_account_does(result):
    result = result()
    steps = panel(result, "money").steps
    assert (steps[0].after, steps[-1].amount) == (result.summary["start_cash"], result.summary["final_equity"])
    assert steps[-2].after == pytest.approx(steps[-1].after, abs=1e-6)
    for earlier, later in pairwise(steps[:-1]):
        assert later.before == earlier.after
        assert later.after == pytest.approx(later.before + later.amount)


def test_the_gamblers_were_liquidated_and_paid_everything_there_is_to_pay():
    """Or the test above would show nothing."""
    result = gambled(1)
    assert len(result.liquidations) >= 2
    assert all(step.amount for step in panel(result, "money").steps)
    assert {line.key for line in panel(result, "costs").lines} == {"fees", "funding", "liquidations", "slippage"}


def test_cost_lines_end_at_the_sums_of_the_result():
    result = gambled(2)
    ends = {line.key: line.values[-1] for line in panel(result, "costs").lines}
    numbers = result.statistics
    assert ends["fees"] == pytest.approx(numbers["fees"])
    assert ends["funding"] == pytest.approx(numbers["funding"])
    assert ends["slippage"] == pytest.approx(numbers["slippage"])
    assert ends["liquidations"] == pytest.approx(numbers["liquidation_loss"])


def test_the_fee_of_a_liquidation_is_a_line_and_a_part_of_what_it_lost():
    # long 1 at 100 with 10 behind it, taken at 90.909 for a fee of 0.5 % of it
    result = Result.of(play({1: buy()}, frame([CALM, CALM, (100, 100, 85, 95), CALM]), terms={"liquidation_fee": 0.005}))
    ends = {line.key: line.values[-1] for line in panel(result, "costs").lines}
    assert ends["liquidation_fees"] == result.statistics["liquidation_fees"] == pytest.approx(-0.005 * 90 / 0.99)
    assert ends["liquidations"] == pytest.approx(90 / 0.99 - 100 - 0.005 * 90 / 0.99)


def test_a_cost_that_nobody_paid_is_said_and_not_drawn():
    shown = panel(RUNS["of two"](), "costs")
    assert shown.lines == ()
    assert shown.note.startswith("Nothing was paid or received as: trading fees; funding;")


# -- margin, leverage, drawdown --------------------------------------------------------------------------------------


def test_the_drawdown_reaches_the_summary_s_and_counts_no_deposit():
    result = gambled(1)
    line = panel(result, "drawdown").line("drawdown")
    assert -line.low.min() == pytest.approx(result.summary["max_drawdown"])
    paid = Result.of(play({1: lambda strategy: strategy.broker.add_cash(500)}, frame([CALM] * 4)))
    assert list(panel(paid, "drawdown").line("drawdown").values) == [0, 0, 0, 0]


def test_the_leverage_panel_shows_what_was_set_and_what_the_tier_allows():
    tiers = [(500, 0.01, 50), (None, 0.02, 20)]
    grow = {1: buy(size=4), 2: buy(size=4)}
    shown = panel(Result.of(play(grow, frame([CALM] * 4), terms={"tiers": tiers}, margin_mode="cross")), "leverage")
    nan = float("nan")
    assert list(shown.line("max_leverage").values) == pytest.approx([nan, 50, 20, 20], nan_ok=True)
    assert list(shown.line("leverage").values) == pytest.approx([nan, 10, 10, 10], nan_ok=True)
    assert list(shown.line("effective_leverage").values) == pytest.approx([0, 0.4, 0.8, 0.8])
    assert shown.tables[1].rows == ((1, 500.0, 0.01, 50.0, 1), (2, None, 0.02, 20.0, 2))


def test_the_margin_panel_tells_how_long_it_was_near():
    rows = [CALM, (100, 100, 100, 100), (100, 100, 91.8, 91.8), (91.8, 91.8, 91.1, 91.1), (91.1, 100, 91.1, 100)]
    shown = panel(Result.of(play({1: buy()}, frame(rows, freq="2h"))), "margin_ratio")
    assert shown.tables[1].rows == (("above 0.5", 4.0), ("above 0.8", 2.0))
    assert [(level.value, level.label) for level in shown.levels][-1] == (1.0, "liquidated here")


# -- close calls -----------------------------------------------------------------------------------------------------


def test_a_position_that_survived_shows_how_far_its_mark_went_and_how_far_it_could_have():
    # 1 at 100, dead at 90 / 0.99 = 90.91: the mark went 8 % against it where 9.09 % would have killed it
    result = Result.of(play({1: buy(), 4: close}, frame([CALM, CALM, (100, 100, 92, 95), CALM, CALM, CALM])))
    (row,) = result.excursions.itertuples()
    assert (row.side, row.liquidated, row.is_open, row.time.hour) == ("long", False, False, 4)
    assert row.adverse == row.most_adverse == pytest.approx(0.08)
    assert row.liquidation_distance == pytest.approx(1 - 0.9 / 0.99)
    assert row.left == pytest.approx(0.08 * -1 + 1 - 0.9 / 0.99)


def test_a_short_is_measured_upwards():
    # -1 at 100 with 10 behind it dies where 110 - p = 0.01 p: at 108.91
    result = Result.of(play({1: sell(), 4: close}, frame([CALM, CALM, (100, 106, 100, 101), CALM, CALM, CALM])))
    (row,) = result.excursions.itertuples()
    assert (row.side, row.adverse) == ("short", pytest.approx(0.06))
    assert row.liquidation_distance == pytest.approx(1.1 / 1.01 - 1)


def test_a_liquidated_position_lies_on_the_diagonal_or_beyond():
    calm_then_fall = [CALM, CALM, (100, 100, 85, 95), CALM]
    (met,) = Result.of(play({1: buy()}, frame(calm_then_fall))).excursions.itertuples()
    assert met.liquidated
    assert met.adverse == pytest.approx(met.liquidation_distance) == pytest.approx(1 - 0.9 / 0.99)
    gap = [CALM, CALM, (80, 82, 78, 80), CALM]
    (beyond,) = Result.of(play({1: buy()}, frame(gap))).excursions.itertuples()
    assert beyond.adverse == pytest.approx(0.2)
    assert beyond.left == pytest.approx(1 - 0.9 / 0.99 - 0.2)


def test_the_mark_decides_and_not_the_last_price():
    marks = [CALM, CALM, (100, 100, 97, 98), CALM, CALM]
    rows = [CALM, CALM, (100, 100, 85, 95), CALM, CALM]
    (row,) = Result.of(play({1: buy()}, frame(rows, marks=marks))).excursions.itertuples()
    assert (row.is_open, row.liquidated, row.most_adverse) == (True, False, pytest.approx(0.03))
    assert pd.isna(row.closed)


def test_the_bar_a_position_ends_in_counts_with_the_price_it_ended_at():
    # closed at the open of the fourth bar, before that bar fell to 91
    result = Result.of(play({1: buy(), 3: close}, frame([CALM, CALM, (100, 100, 97, 98), (98, 98, 91, 95), CALM])))
    (row,) = result.excursions.itertuples()
    assert row.most_adverse == pytest.approx(0.03)


def test_what_nothing_could_liquidate_is_counted_and_not_drawn():
    shown = panel(RUNS["calm"](), "close_calls")
    assert shown.points == ()
    assert shown.note == "1 of 1 positions are left out: nothing could have liquidated them."


def test_the_points_of_the_scatter_are_the_excursions():
    result = died_often()
    points = panel(result, "close_calls").points
    assert [point.x for point in points] == list(result.excursions["liquidation_distance"])
    assert [point.is_liquidated for point in points] == ["LIQUIDATED" in point.text for point in points] == [True] * 5 + [False]


# -- a part of the run -----------------------------------------------------------------------------------------------


def test_a_short_span_comes_in_full_detail():
    result = gambled(1)
    index = result.equity.index
    part = panels.panels(result, start=index[10], end=index[19], steps=5)
    line = part["equity"].line("equity")
    assert list(line.values) == list(result.equity["equity"].iloc[10:20])
    assert part["price"].candles.bars == 2
    whole = {group.key: group for group in panel(result, "price").marks}
    for group in part["price"].marks:
        inside = whole[group.key].times
        assert len(group.times) == ((inside >= index[10].timestamp()) & (inside <= index[19].timestamp())).sum()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"symbol": "XRPUSDT"}, r"symbol is one contract of the run, was 'XRPUSDT'; there are BTCUSDT"),
        ({"steps": 0}, "1 or more, was 0"),
        ({"start": "2031-01-01"}, "no bar lies between 2031-01-01 00:00 and"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_what_can(options, said):
    with pytest.raises(ValueError, match=said):
        panels.panels(died_once(), **options)


def test_a_panel_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match=r"there is no panel 'prices'; there are price, equity, margin_ratio"):
        panel(died_once(), "prices")


def test_marks_of_a_resampled_contract_are_the_extremes_of_its_parts():
    result = Result.of(play({1: buy()}, frame([CALM] * 3, marks=[CALM, (100, 103, 97, 98), (98, 99, 96, 97)])))
    assert result.marks().iloc[1].to_dict() == {"open": 100, "high": 103, "low": 97, "close": 98}


def test_money_paid_in_is_marked_and_a_rate_that_pays_is_above_zero():
    paid = Result.of(play({1: lambda strategy: strategy.broker.add_cash(500)}, frame([CALM] * 4)))
    (mark,) = panel(paid, "equity").marks
    assert (mark.key, mark.texts) == ("flow", ("transfer: +500 money",))
    earned = Result.of(play({1: buy()}, frame([CALM] * 10), funding=rate_column(d0108=-0.01)))
    assert panel(earned, "costs").line("funding").values[-1] == pytest.approx(1.0)


@pytest.mark.parametrize("unit", ["quote", "base", "contracts"])
@pytest.mark.parametrize("kind", ["linear", "inverse"])
def test_the_tier_of_what_is_held_is_the_one_its_margin_is_taken_by(kind, unit):
    """Whatever the table counts, the tier told is the one that ``Position.holding().tier`` has."""
    size = 3.0 if kind == "linear" else 300.0
    caps = {"quote": 500, "base": 4, "contracts": 2 * size}[unit]
    tiers = TierTable.from_rows([(caps, 0.01, 20), (None, 0.02, 10)], mode="slab", unit=unit)
    terms = {"tiers": tiers, "kind": kind, "leverage": 2}
    strategy = play({1: buy(size=size), 2: buy(size=size)}, frame([CALM] * 4), terms=terms, cash=10_000, margin_mode="cross")
    told = Result.of(strategy).tiers
    position = strategy.broker.account.positions["AAA"]
    assert told["tier"].iloc[-1] == position.holding().tier(100.0)
    assert told["notional"].iloc[-1] == pytest.approx(position.notional(100.0))
    assert told["rate"].iloc[0] == 0.01


class Holders(bt.Strategy):
    """Buys one of every contract on the first bar."""

    def next(self):
        if len(self) == 1:
            for data in self.datas:
                self.buy(data, size=1)


def test_the_leverage_of_several_contracts_is_held_against_the_lowest_of_their_limits_and_says_whose():
    rows = {"AAAUSDT": [(0, 1_000, 0.01, 50), (1_000, inf, 0.02, 25)], "BBBUSDT": [(0, 1_000, 0.05, 10), (1_000, inf, 0.1, 5)]}
    tables = {symbol: TierTable([Tier(*row) for row in kept]) for symbol, kept in rows.items()}
    candles = {symbol: frame([CALM] * 4) for symbol in tables}
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000)
    for symbol, tiers in tables.items():
        cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=5, tiers=tiers), name=symbol)
        cerebro.adddata(PerpData(dataname=candles[symbol], name=symbol))
    cerebro.addstrategy(Holders)
    leverage = panel(Result.of(cerebro.run()[0]), "leverage")
    assert leverage.line("max_leverage").label == "least that a tier of the contracts held allows"
    assert set(leverage.line("max_leverage").values[-3:]) == {10.0}  # 1 of BBBUSDT at 100 is in its first tier
    assert "of: BBBUSDT 100 %" in leverage.note
    assert [table.title for table in leverage.tables[1:]] == ["Tiers that AAAUSDT stood in", "Tiers that BBBUSDT stood in"]
