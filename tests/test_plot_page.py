"""Each panel of the page and of the equity picture shows the numbers of its result."""

from functools import cache

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from looking import RUNS, Idle, Stubborn, calm, curves_of, deaths_of, died_often, died_once, drawn, of_two, panel_of, words_of
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import date2num
from matplotlib.figure import Figure
from playing import CALM, frame, play

from bt_margin import Result
from bt_margin.backtest import run
from bt_margin.plots import equity, page
from bt_margin.plots.account import IMPOSSIBLE
from bt_margin.plots.drawing import BLUE, GREEN, GREY, ORANGE, RED, WIDTH, naive, say_freely

PANELS = ["Price", "Equity", "Margin ratio", "Drawdown", "Paid"]


def last_of(curve: pd.Series) -> float:
    return float(curve.iloc[-1])


def test_the_page_has_five_panels_on_one_time():
    figure = drawn("page", "died once")
    assert all(panel.get_title("left").startswith(name) for panel, name in zip(figure.axes, PANELS, strict=True))
    assert len({panel.get_xlim() for panel in figure.axes}) == 1
    assert figure.axes[-1].get_xlabel() == "01 Jan 2024, UTC"
    assert drawn("page", "died often").axes[-1].get_xlabel() == "Jan 2024, UTC"


def test_a_liquidation_is_marked_on_price_equity_and_margin_and_named_on_two():
    figure = drawn("page", "died once")
    assert deaths_of(figure) == [1, 1, 1, 0, 0]
    assert words_of(figure).count("LIQUIDATED") == 2


def test_many_liquidations_are_counted_in_words():
    count = len(died_often().liquidations)
    assert f"LIQUIDATED {count} TIMES" in words_of(drawn("equity", "died often"))
    assert f"✖ liquidated {count} times" in words_of(drawn("page", "died often"))


def test_liquidations_that_are_many_are_marked_one_by_one_and_named_once():
    result = died_apart()
    count = len(result.liquidations)
    figure = page(result)
    assert count == 6
    assert deaths_of(figure) == [count, count, count, 0, 0]
    assert [word for word in words_of(figure) if word.startswith("LIQUIDATED")] == [f"LIQUIDATED {count} TIMES"] * 2


@cache
def died_apart() -> Result:
    """Six longs, each taken in a fall of a tenth, 60 calm bars apart."""
    rows = [row for _ in range(6) for row in [CALM] * 60 + [(100, 100, 90, 100)]]
    return run(Stubborn, {"BTCUSDT": frame(rows)}, leverage=20, margin_mode="isolated", cash=1_000, venue="generic")


@pytest.mark.parametrize("result", [died_apart, died_once, died_often])
def test_the_word_at_a_liquidation_is_on_its_panel_and_on_no_mark(result):
    figure = page(result())
    figure.canvas.draw()
    for panel in figure.axes[:2]:
        for text in (text for text in panel.texts if text.get_text().startswith("LIQUIDATED")):
            box = text.get_window_extent()
            marks = [line for line in panel.lines if line.get_marker() in ("X", "^", "v")]
            spots = np.concatenate([line.get_transform().transform(line.get_xydata()) for line in marks])
            assert panel.bbox.x0 <= box.x0 < box.x1 <= panel.bbox.x1
            assert panel.bbox.y0 <= box.y0 < box.y1 <= panel.bbox.y1
            assert not any(box.contains(*spot) for spot in spots)


HOURS = pd.date_range("2024-01-01", periods=101, freq="h", tz="UTC")
MIDDLE = (HOURS[50], 50.0)
AROUND = [(MIDDLE[0], height) for height in (43, 57)]  # marks in the way of a word below and of one above


@pytest.mark.parametrize(
    ("spots", "curves", "marks", "place"),
    [
        ([MIDDLE], [95], [MIDDLE], (0, -24)),  # below, where nothing is in the way
        ([MIDDLE], [43], [MIDDLE], (0, 24)),
        ([MIDDLE], [43, 57], [MIDDLE], (14, 0)),
        ([MIDDLE], [95], [MIDDLE, *AROUND], (14, 0)),
        ([MIDDLE], [43, 50, 58], [MIDDLE, *AROUND[:1]], (0, 24)),  # everywhere a curve, but here no mark
        ([(HOURS[50], 2.0)], [95], [(HOURS[50], 2.0)], (0, 24)),  # the bottom of the panel
        ([(HOURS[99], 50.0)], [43, 57], [(HOURS[99], 50.0)], (-14, 0)),  # its right end
        ([MIDDLE, (HOURS[20], 80.0)], [43, 50, 57], [MIDDLE], (0, -24)),  # the other spot
    ],
)
def test_a_word_stands_where_it_hides_the_least(spots, curves, marks, place):
    figure = Figure(figsize=(WIDTH, 6))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    axes.set_xlim(*naive(HOURS[[0, -1]]))
    axes.set_ylim(0, 100)
    lines = [(naive(HOURS), np.full(101, height), np.full(101, height)) for height in curves]
    say_freely(axes, "LIQUIDATED", spots, lines, tuple(zip(*marks, strict=True)), RED)
    (word,) = axes.texts
    assert word.get_position() == place
    assert word.xy[1] == spots[-1][1]


@pytest.mark.parametrize("length", [20, 2_000])
def test_marks_at_both_ends_are_drawn_whole(length):
    class Hasty(bt.Strategy):
        def next(self):
            if len(self) in (1, length - 2):
                self.buy()

    price = page(run(Hasty, {"BTCUSDT": frame([CALM] * length)})).axes[0]
    (line,) = (line for line in price.lines if line.get_marker() == "^" and len(line.get_xdata()))
    across = [price.transData.transform((x, 100))[0] for x in date2num(line.get_xdata())]
    half = line.get_markersize() / 2 * price.figure.dpi / 72
    assert price.bbox.x0 <= across[0] - half
    assert across[-1] + half <= price.bbox.x1


def test_what_the_host_keeps_among_a_signal_strategys_params_is_not_shown():
    class Above(bt.SignalStrategy):
        params = (("period", 2),)

        def __init__(self):
            self.signal_add(bt.SIGNAL_LONG, self.data.close - bt.ind.SMA(period=self.p.period))

    words = words_of(page(run(Above, {"BTCUSDT": frame([CALM] * 5)})))
    assert any(word.startswith("Above(period=2) on BTCUSDT") for word in words)


# -- the liquidation price -------------------------------------------------------------------------------------------


def test_the_liquidation_price_is_drawn_from_close_to_close_and_broken_while_flat():
    result = died_often()
    (line,) = (curve for curve in curves_of(panel_of(drawn("page", "died often"), "Price"), RED, dashed=False) if curve.notna().any())
    held = result.positions.set_index("time")["liquidation_price"]
    pd.testing.assert_series_equal(line.dropna(), held.reindex(line.index).dropna(), check_names=False, check_freq=False)
    assert line.isna().any()


def test_the_liquidation_price_ends_where_the_position_dies():
    result = died_once()
    (line,) = (curve for curve in curves_of(panel_of(drawn("page", "died once"), "Price"), RED, dashed=False) if curve.notna().any())
    death = result.liquidations.iloc[0]
    bar_before = line.index[line.index < death["time"]][-1]
    assert np.isnan(line[death["time"]])
    assert line[bar_before] == pytest.approx(death["mark_price"], rel=0.02)


def test_a_far_liquidation_price_does_not_squash_the_candles_and_is_named():
    result = run(Stubborn, {"BTCUSDT": frame([CALM] * 30)}, leverage=10, cash=1_000, sizer=12)
    far = result.positions["liquidation_price"].dropna()
    price = panel_of(page(result), "Price")
    assert far.max() < 50
    assert 90 < price.get_ylim()[0] < 99
    assert any(text.get_text().startswith("▼ liquidation price, down to 1") for text in price.texts)
    (dotted,) = (line for line in price.lines if line.get_linestyle() == ":")
    assert np.nanmax(dotted.get_ydata()) == price.get_ylim()[0]


def test_a_position_that_no_price_liquidates_is_said_to_be_one():
    result = run(Stubborn, {"BTCUSDT": frame([CALM] * 5)}, leverage=1, cash=10_000, sizer=1)
    assert result.positions["liquidation_price"].isna().all()
    assert "held, but no price liquidates it" in words_of(page(result))


def test_without_a_position_nothing_is_said_of_a_liquidation_price():
    assert not any("liquidat" in word for word in words_of(drawn("page", "idle")) if not word.startswith(("The venue", "1.0 ", "no fee")))


# -- equity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("picture", ["equity", "page"])
def test_equity_wallet_and_stock_baseline_are_drawn_whole(picture):
    result = died_once()
    panel = panel_of(drawn(picture, "died once"), "Equity")
    curves = {color: curves_of(panel, color)[0] for color in (BLUE, ORANGE, GREY)}
    assert list(curves[BLUE]) == list(result.equity["equity"])
    assert list(curves[ORANGE]) == list(result.equity["wallet_balance"])
    assert list(curves[GREY]) == list(result.baseline)
    assert IMPOSSIBLE in words_of(panel.figure)


def test_the_starting_money_is_a_line():
    panel = panel_of(drawn("equity", "calm"), "Equity")
    assert [line.get_ydata()[0] for line in panel.lines if line.get_linestyle() == ":"] == [10_000]
    assert "┄ start 10,000" in words_of(panel.figure)


def test_wallet_and_equity_are_named_with_what_they_came_to():
    words = words_of(drawn("equity", "calm"))
    final = calm().equity.iloc[-1]
    assert f"equity\n{final['equity']:,.0f}" in words
    assert f"wallet balance\n{final['wallet_balance']:,.0f}" in words
    assert final["equity"] - final["wallet_balance"] == pytest.approx(10 * (120 - 100))


def test_a_baseline_that_stops_being_a_number_is_drawn_up_to_there():
    result = Result.of(died_once().strategy)
    result.baseline = died_once().baseline.where(died_once().baseline.index < died_once().baseline.index[5], np.inf)
    (stock,) = (curve for curve in curves_of(panel_of(equity(result), "Equity"), GREY) if len(curve) > 2)
    assert list(stock) == list(died_once().baseline.iloc[:5])


# -- margin ratio ----------------------------------------------------------------------------------------------------


def test_the_margin_ratio_is_the_accounts_under_cross_margin():
    result = calm()
    panel = panel_of(drawn("page", "calm"), "Margin ratio")
    assert panel.get_title("left") == "Margin ratio at closes = maintenance margin / equity of the account"
    (ratio,) = curves_of(panel, BLUE)
    np.testing.assert_array_equal(ratio, result.equity["margin_ratio"])
    assert {"0.5", "0.8", "1.0 liquidated here"} <= set(words_of(panel.figure))


def test_a_single_isolated_contract_is_judged_by_its_own_wallet():
    # 1 at 100 with 10x: 10 of margin, maintenance 1 % of 96; equity 10 - 4, so 0.96 / 6
    strategy = play({1: lambda strategy: strategy.buy(size=1)}, frame([CALM, (100, 100, 96, 96), (96, 96, 96, 96)]))
    (ratio,) = curves_of(panel_of(page(Result.of(strategy)), "Margin ratio"), BLUE)
    assert last_of(ratio) == pytest.approx(0.96 / 6)

    assert any(word.endswith("equity of the AAA wallet") for word in words_of(page(Result.of(strategy))))


def test_of_several_wallets_the_one_nearest_to_liquidation_is_drawn_and_named():
    # each 1 at 100 with 10 of margin, then 96: the long's 10 - 4 for a maintenance of 0.96, the short's 10 + 4
    falling = frame([CALM, (100, 100, 96, 96), (96, 96, 96, 96)])
    strategy = play(
        {1: lambda strategy: [strategy.sell(strategy.datas[0], size=1), strategy.buy(strategy.datas[1], size=1)]}, falling, falling
    )
    result = Result.of(strategy)
    ratios = result.margin_ratios.iloc[-1]
    assert dict(ratios) == {"AAA": pytest.approx(0.96 / 14), "BBB": pytest.approx(0.96 / 6)}
    panel = panel_of(page(result), "Margin ratio")
    assert panel.get_title("left").endswith("equity of the wallet nearest to liquidation: AAA or BBB")
    (ratio,) = curves_of(panel, BLUE)
    assert last_of(ratio) == pytest.approx(0.96 / 6)
    assert "highest at a close 0.16, BBB" in words_of(panel.figure)


def test_the_cross_wallet_is_one_of_several():
    panel = panel_of(drawn("page", "of two"), "Margin ratio")
    assert panel.get_title("left").endswith("equity of the wallet nearest to liquidation: cross or ETHUSDT")
    (ratio,) = curves_of(panel, BLUE)
    np.testing.assert_array_equal(ratio, of_two().margin_ratios.max(axis=1))


@pytest.mark.parametrize("size", [1, 30, 400])
def test_where_all_is_in_cross_its_wallets_ratio_is_the_accounts_in_every_tier(size):
    rows = [(100_000 + 100 * step, 100_200 + 100 * step, 99_900 + 100 * step, 100_000 + 100 * step) for step in range(20)]
    result = run(Stubborn, {"BTCUSDT": frame(rows)}, leverage=5, cash=30_000_000, sizer=size)
    np.testing.assert_allclose(result.margin_ratios["cross"], result.equity["margin_ratio"], rtol=1e-12)
    assert result.equity["margin_ratio"].max() > 0


def test_an_isolated_wallet_that_was_never_used_is_still_named():
    words = words_of(page(run(Idle, {"BTCUSDT": frame([CALM] * 5)}, margin_mode="isolated")))
    assert "Margin ratio at closes = maintenance margin / equity of the BTCUSDT wallet" in words
    assert "no position was held at the close of a bar" in words


def test_an_account_that_never_held_says_so():
    assert "no position was held at the close of a bar" in words_of(drawn("page", "idle"))


# -- drawdown --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["calm", "died once", "died often", "of two"])
def test_the_deepest_drawdown_is_the_summarys(name):
    panel = panel_of(drawn("page", name), "Drawdown")
    (shade,) = panel.collections
    lowest = min(path.vertices[:, 1].min() for path in shade.get_paths())
    assert -lowest == pytest.approx(RUNS[name]().summary["max_drawdown"])
    assert panel.get_ylim()[0] < lowest


@pytest.mark.parametrize("name", ["calm", "died once", "died often", "of two"])
def test_the_word_at_the_deepest_drawdown_lies_below_the_curve_and_inside_the_panel(name):
    figure = drawn("page", name)
    panel = panel_of(figure, "Drawdown")
    (word,) = [text for text in panel.texts if "% on " in text.get_text()]
    figure.canvas.draw()
    box, around = word.get_window_extent(figure.canvas.get_renderer()), panel.get_window_extent()
    (shade,) = panel.collections
    lowest = min(panel.transData.transform(path.vertices)[:, 1].min() for path in shade.get_paths())
    assert around.y0 < box.y0 < box.y1 < lowest
    assert around.x0 < box.x0 < box.x1 < around.x1


def test_a_withdrawal_is_no_drawdown():
    strategy = play({2: lambda strategy: strategy.broker.add_cash(-500)}, frame([CALM] * 5))
    panel = panel_of(page(Result.of(strategy)), "Drawdown")
    assert panel.get_title("left").endswith("deposits and withdrawals taken out")
    (closes,) = curves_of(panel, BLUE)
    assert list(closes) == [0.0] * 5


# -- costs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["calm", "died once", "died often"])
def test_costs_end_where_the_summary_says(name):
    summary, panel = RUNS[name]().summary, panel_of(drawn("page", name), "Paid")
    for key, color in (("fees", GREEN), ("funding", BLUE), ("liquidation_loss", RED)):
        ends = [last_of(curve) for curve in curves_of(panel, color)]
        assert ends == ([pytest.approx(summary[key])] if summary[key] else [])


def test_costs_of_unlike_size_are_bent_apart_and_the_title_says_so():
    panel = panel_of(drawn("page", "died once"), "Paid")
    assert panel.get_yscale() == "symlog"
    assert "log scale beyond" in panel.get_title("left")


def test_where_nothing_was_paid_it_says_so():
    assert "no fee, no funding, no liquidation" in words_of(drawn("page", "idle"))


def test_no_extreme_of_a_long_run_is_lost():
    class Once(bt.Strategy):
        def next(self):
            if len(self) == 10:
                self.buy(size=10)

    rows = [CALM] * 9_000
    rows[4_321] = (100, 100, 60, 100)
    figure = page(run(Once, {"BTCUSDT": frame(rows, freq="5min")}, leverage=2, cash=1_000))
    (shade,) = panel_of(figure, "Drawdown").collections
    lowest = min(path.vertices[:, 1].min() for path in shade.get_paths())
    assert lowest == pytest.approx(-10 * 40 / 1_000, rel=0.01)
    band = panel_of(figure, "Price").collections[0]
    assert min(path.vertices[:, 1].min() for path in band.get_paths()) == 60
