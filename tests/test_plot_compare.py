"""A comparison puts runs on one scale, ranks them, and tells the dead from the living."""

from itertools import groupby

import numpy as np
import pytest
from looking import Stubborn, calm, curves_of, deaths_of, died_often, died_once, idle, words_of
from playing import CALM, frame, play

from bt_margin import Result
from bt_margin.backtest import run
from bt_margin.plots import compare
from bt_margin.plots.drawing import BLUE, RED


def risen(**changes) -> Result:
    """1 held from 100 to 150."""
    terms = {"leverage": 5, "cash": 1_000, "venue": None, **changes}
    return run(Stubborn, {"BTCUSDT": frame([CALM, CALM, (100, 150, 100, 150)])}, **terms)


def texts_of(figure) -> list[tuple[float, str]]:
    """Return the figure's own words with their height."""
    return [(text.get_position()[1], text.get_text()) for text in figure.texts]


def test_each_run_has_a_panel_in_the_order_given():
    figure = compare({"calm": calm(), "dead": died_once(), "idle": idle()})
    assert [panel.get_title("left") for panel in figure.axes] == ["calm", "dead", "idle"]


def test_a_panel_shows_multiples_of_the_starting_money():
    (first, _) = compare({"1,000": risen(), "2,000": risen(cash=2_000)}).axes
    (curve,) = curves_of(first, BLUE)
    assert list(curve) == pytest.approx([1, 1, 1_050 / 1_000])
    assert first.get_title("right") == "1.05\N{MULTIPLICATION SIGN}"


def test_all_panels_have_one_scale():
    figure = compare({"calm": calm(), "dead": died_once(), "often": died_often(), "idle": idle()})
    assert len({(panel.get_ylim(), panel.get_xlim(), panel.get_yscale()) for panel in figure.axes}) == 1


def test_a_fortune_bends_the_scale_of_all_and_the_words_say_so():
    rich = run(Stubborn, {"BTCUSDT": frame([CALM, CALM, (100, 900, 100, 900)])}, leverage=5, cash=1_000, venue=None, sizer=10)
    figure = compare({"rich": rich, "dead": died_once()})
    assert rich.summary["final_equity"] == 1_000 + 10 * 800
    assert {panel.get_yscale() for panel in figure.axes} == {"symlog"}
    assert "Equity, multiples of the starting money, log scale above 1\N{MULTIPLICATION SIGN}" in words_of(figure)


def test_the_dead_are_marked_by_shape_and_word():
    figure = compare({"dead": died_once(), "idle": idle(), "often": died_often()})
    assert deaths_of(figure) == [1, 0, len(died_often().liquidations)]
    words = words_of(figure)
    assert "LIQUIDATED" in words
    assert f"LIQUIDATED {len(died_often().liquidations)} TIMES" in words


def test_the_table_ranks_by_return_with_drawdown_and_liquidations():
    figure = compare({"dead": died_once(), "idle": idle(), "risen": risen()})
    rows = [text for _, text in sorted(texts_of(figure), reverse=True) if text[1:3] == "  "]
    assert rows == ["1  risen", "2  idle", "3  dead"]
    words = words_of(figure)
    assert {"1,050", "1,000", "0", "\N{MINUS SIGN}100%", "✖ 1"} <= set(words)
    assert words.count("never") == 2


def test_titles_say_who_was_best_and_how_many_died():
    words = words_of(compare({"dead": died_once(), "risen": risen()}))
    assert "Best of 2: risen, 1,000 became 1,050 (+5.0%)" in words
    assert "1 of 2 was liquidated" in words
    assert "2 of 3 were liquidated" in words_of(compare({"dead": died_once(), "often": died_often(), "risen": risen()}))
    assert "None was ever liquidated" in words_of(compare({"idle": idle(), "risen": risen()}))
    assert "My title" in words_of(compare([idle()], title="My title"))


def test_a_deposit_is_no_return():
    paid_in = Result.of(play({2: lambda strategy: strategy.broker.add_cash(1_000)}, frame([CALM] * 5)))
    figure = compare({"paid in": paid_in, "idle": idle()})
    assert list(curves_of(figure.axes[0], BLUE)[0]) == [1.0] * 5
    assert any("deposits and withdrawals taken out" in word for word in words_of(figure))


def test_runs_without_labels_are_told_apart_by_their_settings():
    figure = compare([risen(), risen(leverage=10), risen(leverage=10, margin_mode="isolated")])
    assert [panel.get_title("left") for panel in figure.axes] == ["5x, cross", "10x, cross", "10x, isolated"]
    assert compare([risen()]).axes[0].get_title("left") == "Stubborn"


# -- the grid --------------------------------------------------------------------------------------------------------


def laid_out(figure) -> list[list[str]]:
    """Return the titles of the panels as they stand: rows from the top, in each from the left."""
    panels = sorted((-round(panel.bbox.y0), round(panel.bbox.x0), panel.get_title("left")) for panel in figure.axes if panel.get_visible())
    return [[title for *_, title in row] for _, row in groupby(panels, key=lambda panel: panel[0])]


def test_sizers_at_leverages_stand_a_row_for_each_sizer_and_a_column_for_each_leverage():
    runs = {f"{size} at {leverage}x": risen(sizer=size, leverage=leverage) for leverage in (5, 10, 20) for size in (1, 2, 3, 4, 5)}
    figure = compare(runs)
    assert laid_out(figure) == [[f"{size} at {leverage}x" for leverage in (5, 10, 20)] for size in (1, 2, 3, 4, 5)]
    assert any("across: 5x, 10x, 20x; down: sizer" in word for word in words_of(figure))


def test_a_grid_keeps_the_order_in_which_its_values_come():
    runs = [risen(sizer=size, leverage=leverage) for size in (3, 1) for leverage in (20, 5)]
    assert laid_out(compare(runs)) == [["FixedSize 3, 20x", "FixedSize 3, 5x"], ["FixedSize, 20x", "FixedSize, 5x"]]


def test_two_settings_of_a_strategy_form_a_grid_with_at_most_four_panels_across():
    class Tuned(Stubborn):
        params = (("fast", 1), ("leverage", 1))  # a name that the venue's terms have too

    candles = {"BTCUSDT": frame([CALM] * 3)}
    tuned = [run(Tuned, candles, params={"fast": fast, "leverage": own}) for fast in (1, 2, 3, 4, 5) for own in (7, 8)]
    figure = compare(tuned)
    assert laid_out(figure) == [[f"fast={fast}, leverage={own}" for own in (7, 8)] for fast in (1, 2, 3, 4, 5)]
    assert any("across: leverage=7, leverage=8; down: fast" in word.replace("\n", " ") for word in words_of(figure))


def test_a_grid_with_a_hole_or_a_run_too_many_flows():
    whole = [risen(sizer=size, leverage=leverage) for size in (1, 2, 3, 4) for leverage in (5, 10)]
    for runs in (whole[:-1], [*whole, risen(sizer=5)]):
        figure = compare(runs)
        assert [len(row) for row in laid_out(figure)][:2] == [3, 3]
        assert not any("across" in word for word in words_of(figure))


def test_fifteen_runs_are_legible():
    labels = [f"sizer {sizer}, {leverage}x" for sizer in "ABCDE" for leverage in (1, 10, 100)]
    figure = compare(dict.fromkeys(labels, died_once()))
    figure.canvas.draw()
    columns = {round(panel.bbox.x0) for panel in figure.axes}
    assert len(columns) == 3
    for panel in figure.axes:
        left, right = panel._left_title.get_window_extent(), panel._right_title.get_window_extent()
        assert left.x1 < right.x0
    boxes = [text.get_window_extent() for text in figure.texts if text.get_text().strip()]
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other.shrunk(0.98, 0.9)) for other in boxes[number + 1 :])


def test_long_labels_are_made_to_fit():
    figure = compare({f"a label that goes on and on, number {number}, to no end at all": idle() for number in range(9)})
    figure.canvas.draw()
    assert all(panel._left_title.get_window_extent().x1 < panel._right_title.get_window_extent().x0 for panel in figure.axes)


def test_unlike_spans_share_their_union():
    early, late = idle(), run(Stubborn, {"BTCUSDT": frame([CALM] * 5, start="2024-01-02 01:00")})
    figure = compare({"early": early, "late": late})
    first, last = (np.datetime64("1970-01-01") + np.array(figure.axes[0].get_xlim()) * np.timedelta64(86_400, "s")).astype("datetime64[s]")
    assert first <= np.datetime64("2024-01-01T02:00")
    assert last >= np.datetime64("2024-01-02T06:00")


@pytest.mark.parametrize(
    ("results", "sentence"),
    [
        ([], "draws one Result or more, there was none"),
        ({}, "draws one Result or more, there was none"),
        ("runs", "a mapping of label to Result, or a sequence of Results, was str"),
        (None, "was NoneType"),
        ({"a": 1}, "'a' draws a Result, was int"),
        (["x"], "result 1 draws a Result, was str"),
    ],
)
def test_what_cannot_be_compared_is_refused(results, sentence):
    with pytest.raises(ValueError, match=sentence):
        compare(results)


def test_a_lone_result_is_refused():
    with pytest.raises(ValueError, match=r"a sequence of Results, was Result"):
        compare(idle())


def test_labels_that_are_equal_are_refused():
    with pytest.raises(ValueError, match=r"2 of them were '5x'; give a mapping of label to Result"):
        compare([risen(), risen(), risen(leverage=10)])
    with pytest.raises(ValueError, match=r"2 of them were '1'"):
        compare({1: idle(), "1": calm()})


def test_the_colour_of_death_is_kept_for_it():
    figure = compare({"idle": idle(), "risen": risen()})
    assert not any(text.get_color() == RED for text in figure.texts)
