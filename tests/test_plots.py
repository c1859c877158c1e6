"""The hero picture and the tools of all: it says what happened, drops no extreme, and leaves matplotlib as it was."""

import doctest
import sys
from itertools import pairwise
from textwrap import shorten

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from looking import RUNS, Stubborn, calm, curves_of, deaths_of, died_often, died_once, drawn, idle, of_two, settings, words_of
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from playing import CALM, frame

from bt_margin import plots
from bt_margin.backtest import run
from bt_margin.panels import kept_rows, kept_with_gaps
from bt_margin.plots import drawing, equity, headlines, overview, page, save
from bt_margin.plots.account import IMPOSSIBLE
from bt_margin.plots.drawing import BLUE, RED, spread
from bt_margin.plots.price import CROWDED


def test_titles_say_what_the_reader_sees():
    assert headlines(died_once()) == [
        f"Backtrader says: 1,000 became {died_once().baseline.iloc[-1]:,.0f} (+500%)",
        "The venue says: liquidated once, DEAD since 01 Jan 2024, 0 left",
    ]


def test_without_a_baseline_only_the_venue_speaks():
    result = run(Stubborn, {"BTCUSDT": frame([CALM, CALM, (100, 150, 100, 150)])}, cash=1_000, venue=None)
    assert headlines(result) == ["The venue says: never liquidated, 1,000 became 1,050 (+5.0%)"]
    assert deaths_of(overview(result)) == [0, 0]


def test_small_money_is_told_to_its_digits():
    result = run(Stubborn, {"BTCUSDT": frame([CALM, CALM, (100, 150, 100, 150)])}, cash=10, sizer=0.01, venue=None)
    assert headlines(result) == ["The venue says: never liquidated, 10.0 became 10.5 (+5.0%)"]


def test_a_liquidation_is_marked_by_shape_and_word_on_price_and_equity():
    figure = drawn("overview", "died once")
    assert deaths_of(figure) == [1, 1]
    marks = [line for panel in figure.axes for line in panel.lines if line.get_marker() == "X"]
    assert {line.get_color() for line in marks} == {RED}
    assert "LIQUIDATED" in words_of(figure)


def test_what_lies_below_zero_is_shaded_and_called_impossible():
    figure = drawn("overview", "died once")
    equity = figure.axes[1]
    assert equity.get_ylim()[0] < died_once().baseline.min() < 0
    assert IMPOSSIBLE in words_of(figure)
    assert any(patch.get_hatch() for patch in equity.patches)


def test_an_account_that_stays_above_zero_has_no_impossible_region():
    figure = overview(run(Stubborn, {"BTCUSDT": frame([CALM] * 5)}, baseline=True))
    assert IMPOSSIBLE not in words_of(figure)


def test_a_fortune_bends_the_scale_and_the_title_says_so():
    figure = drawn("overview", "died once")
    assert figure.axes[1].get_yscale() == "symlog"
    assert "Equity, log scale above 1,000 and below \N{MINUS SIGN}1,000" in words_of(figure)
    figure.canvas.draw()
    assert "5,000" in [label.get_text() for label in figure.axes[1].get_yticklabels()]


def test_liquidations_that_stand_close_together_are_shown_again_enlarged():
    times = died_often().liquidations["time"]
    span = died_often().equity.index[-1] - died_often().equity.index[0]
    assert len(times) >= 3
    assert times.iloc[-1] - times.iloc[0] < CROWDED * span
    figure = drawn("overview", "died often")
    assert deaths_of(figure) == [len(times)] * 3
    assert any(word.startswith(f"LIQUIDATED {len(times)} TIMES") for word in words_of(figure))


@pytest.mark.parametrize(
    ("first", "last"), [("2020-02-18", "2020-03-15"), ("2020-03-03", "2020-03-15"), ("2020-02-28 20:00", "2020-03-01 20:00")]
)
def test_days_below_a_small_panel_are_told_with_their_month(first, last):
    axes = Figure().add_subplot()
    axes.set_xlim(np.datetime64(first), np.datetime64(last))
    drawing.date_ticks(axes, 5)
    axes.figure.canvas.draw()
    days = [label.get_text() for label in axes.get_xticklabels() if ":" not in label.get_text()]
    assert len(days) >= 2
    assert [day for day in days if day[-3:] not in ("Feb", "Mar")] == []
    assert all(day[:2].isdigit() for day in days)


def test_a_name_too_long_for_the_room_beside_its_panel_is_written_smaller():
    figure = drawing.sheet(9, [], "", "")[0]
    axes = figure.add_axes((drawing.LEFT, 0.1, drawing.RIGHT - drawing.LEFT, 0.8))
    end = np.datetime64("2024-01-02")
    axes.set_xlim(np.datetime64("2024-01-01"), end)
    for text, size in (("liquidations 1", 13.0), ("liquidations -123,456,789,012", None)):
        drawing.name_ends(axes, [drawing.End(pd.Timestamp(end, tz="UTC"), 0.5, text, RED)], size=13)
        name = axes.texts[-1]
        assert name.get_window_extent(figure.canvas.get_renderer()).x1 <= figure.bbox.x1
        assert name.get_size() == size or size is None


def test_a_note_a_title_and_every_flag_are_written():
    figure = overview(died_once(), title="My run", note="A note")
    words = words_of(figure)
    assert "My run" in words
    assert "; ".join(["A note", *died_once().summary["flags"]]) in [word.replace("\n", " ") for word in words]
    assert any("UTC" in word for word in words)
    assert figure.axes[1].get_xlabel() == "01 Jan 2024, UTC"


def test_words_too_wide_for_the_figure_are_broken_shrunk_or_cut():
    figure = overview(died_once(), title="wide " * 40, note="many words " * 200)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    assert max(text.get_window_extent(renderer).x1 for text in figure.texts) <= figure.bbox.x1
    assert any(word.count("\n") == drawing.MOST_FOOTNOTES - 1 and word.endswith("\N{HORIZONTAL ELLIPSIS}") for word in words_of(figure))


def test_a_title_of_any_length_ends_inside_its_room():
    for count in range(60, 100):  # letters do not shrink quite as their size does
        said = shorten("Best within the cap: risk 1 % to stop, x2 after a loss at 3x, 1.36x on the median path, 0 % liquidated", count)
        figure = Figure(figsize=(drawing.WIDTH, 5), dpi=100)
        FigureCanvasAgg(figure)
        size = drawing.shrunk(figure, said, 26, 12, weight="bold")
        assert drawing.text_width(figure, said, size, weight="bold") <= 12


def test_a_long_wait_for_the_first_order_is_left_out():
    class Patient(bt.Strategy):
        def next(self):
            if len(self) == 900:
                self.buy()

    result = run(Patient, {"BTCUSDT": frame([CALM] * 1_000)})
    figure = overview(result)
    first_drawn = curves_of(figure.axes[1], BLUE)[0].index[0]
    assert first_drawn > result.equity.index[890]
    assert any("drawn from" in word for word in words_of(figure))


@pytest.mark.parametrize("name", ["overview", "page", "equity"])
def test_names_of_curves_do_not_cover_each_other_or_the_title(name):
    figure = drawn(name, "died once")
    figure.canvas.draw()
    for panel in figure.axes:
        names = [text for text in panel.texts if text.get_text().startswith(("equity\n", "under margin", "stock", "wallet balance\n"))]
        names += [text for text in panel.texts if text.get_text().startswith(("trading fees", "funding", "liquidations"))]
        boxes = sorted((name.get_window_extent() for name in names), key=lambda box: box.y0)
        assert all(lower.y1 <= upper.y0 + 1 for lower, upper in pairwise(boxes))
        assert all(box.y1 <= panel.bbox.y1 + 2 and box.x1 <= figure.bbox.x1 for box in boxes)


@pytest.mark.parametrize(("name", "result"), [("overview", "of two"), ("page", "of two"), ("page", "died often")])
def test_the_key_above_a_panel_stays_on_the_figure(name, result):
    figure = drawn(name, result)
    figure.canvas.draw()
    keys = [text for panel in figure.axes for text in panel.texts if text.get_window_extent().y0 >= panel.bbox.y1]
    assert len(keys) >= 2
    assert max(text.get_window_extent().x1 for text in keys) <= figure.bbox.x1


def test_hollow_marks_are_the_fills_that_close():
    price = overview(of_two(), symbol="ETHUSDT").axes[0]
    marks = {(line.get_marker(), line.get_markerfacecolor()): len(line.get_xdata()) for line in price.lines if line.get_marker() in "^v"}
    assert {kind: count for kind, count in marks.items() if count} == {("v", drawing.BLUE): 1, ("^", "white"): 1}


def test_the_contract_that_is_drawn_can_be_chosen_and_is_named():
    assert any(word.startswith("Price of ETHUSDT, one of 2 contracts") for word in words_of(overview(of_two(), symbol="ETHUSDT")))
    assert any(word.startswith("Equity of the account, 2 contracts") for word in words_of(drawn("overview", "of two")))


def test_a_contract_whose_candles_end_before_what_is_drawn_says_so():
    class Late(bt.Strategy):
        def next(self):
            if len(self) == 900:
                self.buy(self.datas[0], size=0.01)

    data = {"BTCUSDT": frame([CALM] * 1_000), "ETHUSDT": frame([CALM] * 50)}
    figure = page(run(Late, data, venue="generic"), symbol="ETHUSDT")
    assert "no candle of ETHUSDT in this time" in words_of(figure)


def test_contracts_with_bars_of_their_own_are_drawn_on_one_time():
    data = {"BTCUSDT": frame([CALM] * 40), "ETHUSDT": frame([CALM] * 8, freq="4h", start="2024-01-01 04:00")}
    figure = page(run(Stubborn, data, venue="generic", leverage=20, cash=1_000, sizer=100), symbol="ETHUSDT")
    figure.draw_without_rendering()
    assert any(word.startswith("Price of ETHUSDT, one of 2") for word in words_of(figure))


@pytest.mark.parametrize("name", ["overview", "page"])
def test_an_unknown_contract_is_refused_with_those_there_are(name):
    with pytest.raises(
        ValueError, match=rf"{name}\(\) draws the price of one contract of the run, was 'XRPUSDT'; there are BTCUSDT, ETHUSDT"
    ):
        getattr(plots, name)(of_two(), symbol="XRPUSDT")


@pytest.mark.parametrize("name", ["overview", "page", "equity"])
def test_what_is_no_result_is_refused_with_what_to_do(name):
    with pytest.raises(ValueError, match=rf"{name}\(\) draws a Result, was dict; run\(\) returns one"):
        getattr(plots, name)({})
    with pytest.raises(ValueError, match=r"was Stubborn; make one of it with Result.of\(strategy\)"):
        getattr(plots, name)(calm().strategy)


# -- the tools -------------------------------------------------------------------------------------------------------


def test_the_examples_of_the_tools_hold():
    assert doctest.testmod(drawing).attempted >= 3
    assert doctest.testmod(drawing).failed == 0


def test_thinning_keeps_both_ends_and_every_extreme():
    rng = np.random.default_rng(7)
    low = rng.normal(size=10_000)
    high = low + rng.random(10_000)
    rows = kept_rows(low, high, steps=100)
    assert len(rows) <= 2 * 100 + 2
    assert {0, 9_999, low.argmin(), high.argmax()} <= set(rows)
    for step in range(100):
        chosen = [row for row in rows if step * 100 <= row < (step + 1) * 100]
        assert low[chosen].min() == low[step * 100 : (step + 1) * 100].min()
        assert high[chosen].max() == high[step * 100 : (step + 1) * 100].max()


def test_short_series_are_drawn_whole():
    assert list(kept_rows(np.arange(5.0), np.arange(5.0))) == [0, 1, 2, 3, 4]


def test_thinning_with_gaps_keeps_extremes_and_both_sides_of_each_gap():
    values = np.random.default_rng(8).normal(size=10_000)
    values[2_000:5_000] = np.nan
    values[7_001] = np.nan
    rows = kept_with_gaps(values, steps=50)
    assert len(rows) < 200
    assert {1_999, 2_000, 4_999, 5_000, 7_000, 7_001, 7_002, np.nanargmin(values), np.nanargmax(values)} <= set(rows)


@pytest.mark.parametrize(
    ("wanted", "heights", "expected"),
    [
        ([], [], []),
        ([50], [20], [50]),
        ([20, 60], [20, 20], [20, 60]),
        ([50, 50], [20, 20], [40, 60]),  # a pile of 40 centred on 50
        ([50, 50, 50], [20, 20, 20], [30, 50, 70]),
        ([0, 100], [20, 20], [10, 90]),  # kept inside
        ([95, 99], [20, 20], [70, 90]),
    ],
)
def test_labels_are_moved_apart_no_further_than_they_must(wanted, heights, expected):
    assert spread(wanted, heights, 100) == pytest.approx(expected)


@pytest.mark.parametrize(("value", "scale", "said"), [(-4833.7, 10_000, "4,834"), (0.5, 10, "0.5"), (1234.5678, 1, "1,234.57")])
def test_money_is_said_to_the_digits_that_count(value, scale, said):
    assert drawing.money(value, scale) == "\N{MINUS SIGN}" * (value < 0) + said


def test_nothing_left_is_not_minus_nothing():
    assert drawing.money(-0.2, 10_000) == "0"


# -- files -----------------------------------------------------------------------------------------------------------


def compared() -> Figure:
    return plots.compare({"once": died_once(), "idle": idle()})


@pytest.mark.parametrize("run_name", RUNS)
@pytest.mark.parametrize("name", ["overview", "equity", "page"])
def test_every_kind_of_run_is_drawn(name, run_name):
    figure = drawn(name, run_name)
    figure.draw_without_rendering()
    assert all(panel.lines or panel.collections for panel in figure.axes)
    assert any(word.startswith("The venue says: ") for word in words_of(figure))


@pytest.mark.parametrize("name", ["overview", "page", "equity", "compare"])
def test_every_picture_is_written_as_png_and_svg(name, tmp_path):
    figure = compared() if name == "compare" else drawn(name, "died once")
    assert save(figure, tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in save(figure, tmp_path / "picture.svg").read_bytes()


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_picture_is_the_same_in_every_byte_when_it_is_drawn_again(suffix, tmp_path):
    first, second = (save(compared(), tmp_path / f"{count}.{suffix}").read_bytes() for count in "12")
    assert first == second
    assert b"dc:date" not in first


def test_a_picture_of_another_kind_is_refused():
    with pytest.raises(ValueError, match=r"a picture is saved as .png or .svg, was 'page.jpg'"):
        save(drawn("overview", "idle"), "page.jpg")


def test_drawing_and_saving_change_nothing_global(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    before = settings()
    overview(died_once()).savefig(tmp_path / "picture.png", dpi=20)
    for figure in (page(died_often()), equity(idle()), compared()):
        save(figure, tmp_path / "picture.svg")
    assert settings() == before
    assert "matplotlib.pyplot" not in sys.modules


def test_long_parameters_are_cut_in_the_subtitle():
    class Wordy(Stubborn):
        params = (("story", "word " * 100),)

    words = words_of(overview(run(Wordy, {"BTCUSDT": frame([CALM] * 3)})))
    assert any(shorten("word " * 100, 20, placeholder="") in word and len(word) < 250 and word.startswith("Wordy(story=") for word in words)


def test_a_dollar_in_a_text_is_a_dollar(tmp_path):
    result = died_once()
    figures = [overview(result, title="$x_{", note="$y"), equity(result, title="$x_{"), page(result, note="$x_{ $y")]
    figures.append(plots.compare({"$x_{": result, "a $ and a $": result}, title="$x_{"))
    for figure in figures:
        figure.savefig(tmp_path / "picture.png", dpi=20)
