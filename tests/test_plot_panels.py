"""Each panel as a picture of its own: whole, named, with units, and with the numbers of its run."""

from functools import cache

import backtrader as bt
import numpy as np
import pytest
from looking import RUNS, deaths_of, died_often, died_once, words_of
from matplotlib.figure import Figure
from matplotlib.text import Text
from playing import CALM, buy, close, frame, play, sell

from bt_margin import Result, plots
from bt_margin.panels import PANELS
from bt_margin.plots import panel, save, text
from bt_margin.plots.drawing import BLUE, GREEN, ORANGE, RED, plainly


@cache
def picture(run_name: str, key: str) -> Figure:
    """Return one panel of one of RUNS; not to be changed."""
    return panel(RUNS[run_name](), key)


@pytest.mark.parametrize("key", PANELS)
def test_every_picture_has_a_title_units_and_words_inside_its_edges(key):
    figure = picture("warned", key)
    (axes,) = (axes for axes in figure.axes if axes.get_title("left"))
    assert figure.texts[0].get_text() == plots.pages.panels.panel(RUNS["warned"](), key).title
    assert axes.get_ylabel()
    assert axes.get_xlabel() or key == "money"
    figure.canvas.draw()
    edges = figure.bbox.padded(1)
    for words in figure.findobj(Text):
        if isinstance(words, Text) and words.get_visible() and words.get_text().strip():
            box = words.get_window_extent()
            assert edges.contains(box.x0, box.y0), words.get_text()
            assert edges.contains(box.x1, box.y1), words.get_text()


@pytest.mark.parametrize(("run_name", "key", "said"), [
    ("one bar", "leverage", "nothing was held at the close of a bar"),
    ("one bar", "close_calls", "no position was held that could have been liquidated"),
    ("of two", "costs", "no fee, no funding, no liquidation"),
])  # fmt: skip
def test_a_picture_with_nothing_to_show_says_so(run_name, key, said):
    assert said in words_of(picture(run_name, key))


def test_a_picture_is_written_as_png_and_as_svg(tmp_path):
    figure = picture("warned", "money")
    assert save(figure, tmp_path / "money.png").read_bytes().startswith(b"\x89PNG")
    assert "Where the money went" in save(figure, tmp_path / "money.svg").read_text("utf-8").replace("<!-- ", "").replace(" -->", "")


def test_a_picture_that_is_not_there_and_what_is_no_result_are_refused():
    with pytest.raises(ValueError, match="there is no panel 'pie'"):
        panel(died_once(), "pie")
    with pytest.raises(ValueError, match=r"panel\(\) draws a Result, was dict"):
        panel({}, "money")
    with pytest.raises(ValueError, match=r"text\(\) draws a Result, was dict"):
        text({}, "money")


def test_the_text_of_a_picture_has_its_numbers():
    told = text(died_once(), "money")
    assert told.startswith("Where the money went\n")
    for line in ("trading fees", "lost in liquidations"):
        assert line in told
    assert "-998" in told


# -- where the money went --------------------------------------------------------------------------------------------


def test_the_bars_of_the_waterfall_hang_from_each_other():
    # 1 000, fees of 50 x 100 x 0.04 % = 2, and the rest in one liquidation
    (axes,) = picture("died once", "money").axes
    spans = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in axes.patches]
    assert spans == [
        (0, 1_000), (1_000, 1_000), (998, 1_000), (998, 998), (pytest.approx(0, abs=1e-6), 998), (pytest.approx(0, abs=1e-6),) * 2
    ]  # fmt: skip
    assert [bar.get_hatch() for bar in axes.patches] == [None] * 4 + ["xx", None]
    assert "✖ \N{MINUS SIGN}998\n\N{MINUS SIGN}99.8%" in words_of(picture("died once", "money"))


def test_what_brought_money_is_of_another_colour_than_what_took_it():
    from matplotlib.colors import to_hex

    (axes,) = panel(Result.of(play({1: buy(), 2: close}, frame([CALM, CALM, (110,) * 4, CALM]), terms={"commission": 0.01})), "money").axes
    assert [to_hex(bar.get_facecolor()).upper() for bar in axes.patches[:3]] == [BLUE, GREEN, ORANGE]


# -- how close they came ---------------------------------------------------------------------------------------------


def test_the_diagonal_is_where_a_position_is_liquidated_and_crosses_lie_on_it():
    figure = picture("died often", "close_calls")
    (axes,) = figure.axes
    (diagonal,) = (line for line in axes.lines if line.get_color() == RED and line.get_marker() in ("None", ""))
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())
    assert deaths_of(figure) == [len(died_often().liquidations)]
    crosses = [line for line in axes.lines if line.get_marker() == "X" and len(line.get_xdata())]
    for line in crosses:
        assert list(line.get_xdata()) == pytest.approx(list(line.get_ydata()))


def test_longs_and_shorts_are_told_by_their_shape_and_survivors_by_what_was_left():
    script = {1: buy(), 4: close, 5: sell(), 8: close}
    rows = [CALM, CALM, (100, 100, 92, 95), CALM, CALM, CALM, (100, 106, 100, 101), CALM, CALM, CALM]
    figure = panel(Result.of(play(script, frame(rows))), "close_calls")
    (axes,) = figure.axes
    shapes = {line.get_marker(): list(line.get_ydata()) for line in axes.lines if line.get_marker() in "os" and len(line.get_ydata())}
    assert shapes == {"o": pytest.approx([0.08]), "s": pytest.approx([0.06])}
    assert "1.1% left on 2024-01-01 04:00" in words_of(figure)  # 9.09 % - 8 %


def test_a_liquidation_far_away_stands_on_the_edge_and_the_title_counts_it():
    def spot_like(strategy):
        strategy.sell(size=1)

    # -1 at 100 in cross with 1 000 behind it dies at 1 100 / 1.01 = 1 089: 989 % away
    figure = panel(Result.of(play({1: spot_like, 4: close}, frame([CALM] * 6), margin_mode="cross")), "close_calls")
    (edge,) = (line for line in figure.axes[0].lines if line.get_marker() == ">" and len(line.get_xdata()))
    assert list(edge.get_xdata()) == [1.0]
    assert any(word.startswith("▶ 1 with their liquidation farther away") for word in words_of(figure))


# -- leverage, price, costs ------------------------------------------------------------------------------------------


def test_leverage_is_drawn_in_steps_beside_what_the_tier_allows():
    tiers = [(500, 0.01, 50), (None, 0.02, 20)]
    grow = {1: buy(size=4), 2: buy(size=4)}
    (axes,) = panel(Result.of(play(grow, frame([CALM] * 4), terms={"tiers": tiers}, margin_mode="cross")), "leverage").axes
    by_color = {line.get_color(): line for line in axes.lines}
    assert list(by_color[RED].get_ydata()) == [50, 50, 20, 20]
    assert by_color[RED].get_drawstyle() == "steps-post"
    assert list(by_color[BLUE].get_ydata())[1:] == pytest.approx([0.4, 0.8, 0.8])
    assert axes.get_yscale() == "log"


def test_the_price_shows_the_stop_the_bankruptcy_price_and_the_size_held():
    script = {1: buy(), 2: sell(exectype=bt.Order.Stop, price=95.0)}
    rows = [CALM, CALM, CALM, CALM, (100, 100, 92, 96), CALM]
    (axes,) = panel(Result.of(play(script, frame(rows))), "price").axes
    heights = {
        line.get_color(): set(np.array(line.get_ydata())[~np.isnan(line.get_ydata())]) for line in axes.lines if line.get_color() == ORANGE
    }
    assert heights == {ORANGE: {95.0}}
    bankrupt = [line for line in axes.lines if line.get_color() == RED and 90.0 in list(line.get_ydata())]
    assert len(bankrupt) == 1
    assert [word for word in words_of(axes.figure) if word.startswith("▂ held long")] == ["▂ held long, 1 at most"]


def test_slippage_is_drawn_apart_from_what_was_paid():
    result = Result.of(play({1: buy(), 2: close}, frame([CALM] * 4), slip_perc=0.005, slip_open=True, terms={"commission": 0.01}))
    figure = panel(result, "costs")
    assert "┄ inside the prices of fills" in words_of(figure)
    ends = sorted(word for word in words_of(figure) if word.startswith(("slippage", "trading fees")))
    fees = 1.005 + 0.995
    assert ends == ["slippage \N{MINUS SIGN}1", f"trading fees \N{MINUS SIGN}{plainly(fees)}"]
