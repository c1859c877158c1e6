"""What the pictures of a comparison are made of: the grid, the frontier, growth against the parabola, and the pictures themselves."""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from math import isnan, log, nan
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from comparing import CAP, DAYS, LEVERAGES, RULES, compared
from looking import calm, settings, words_of
from matplotlib.text import Text

from bt_margin import plots
from bt_margin.laboratory import (
    PICTURES,
    Heat,
    Laboratory,
    log_ticks,
    multiple,
    percent,
    picture,
    probability,
    strength,
    told_apart,
    trials_of,
    wealth_limits,
)
from bt_margin.outcome import AGGREGATES
from bt_margin.plots import drawing

SMALL = (RULES[:4], (1, 5, 20))


def small(**terms):
    return compared(*SMALL, **{"paths": 30, **terms})


def made_of(rows: list[dict]) -> Laboratory:
    """Return a laboratory of rows: rule, leverage, wealth, probability of liquidation, whether admitted."""
    names = ("rule", "leverage", "wealth_50", "p_liquidation", "is_admitted")
    table = pd.DataFrame([dict(zip(names, row, strict=True)) | {"paths": 10} for row in rows])
    table["median_log_wealth"] = np.log(table["wealth_50"])
    table["mean_leverage"] = table["leverage"]
    days = np.array([0.0, 365.0])
    fans = {number: np.array([[1.0, row[2]]] * 5) for number, row in enumerate(rows)}
    market = {"mu": 0.5, "sigma": 0.5, "symbol": "BTCUSDT"}
    return Laboratory(
        SimpleNamespace(table=table, fans=fans, fan_days=days, history={}, settings={"cap": 0.05}, market=market, combinations=len(rows))
    )


FOUR = [("a", 2, 1.2, 0.0, True), ("b", 2, 1.1, 0.02, True), ("a", 5, 1.5, 0.3, False), ("b", 5, 1.4, 0.6, False)]


LONG = (
    *("20 % of available as margin", "risk 2 % to stop, less in a drawdown up to 30 %", "risk 2 % to stop, liquidation 1 ATR beyond stop"),
    "risk 2 % to stop, isolated, liquidation 1 ATR beyond",
)


@cache
def wordy(paths: int = 30):
    """Return a comparison of rules with long names and with more flags than four lines hold."""
    return replace(
        compared(LONG, (1, 5, 20), paths=paths), flags=tuple(f"stated policy number {number} of this run" for number in range(60))
    )


@cache
def picture_of(key: str, paths: int = 30):
    """Return a picture of ``wordy`` as it is drawn; not to be changed."""
    figure = plots.panel(wordy(paths), key)
    figure.canvas.draw()
    return figure


def texts_of(figure) -> list:
    """Return every text that is to be seen; of the numbers beside axes matplotlib keeps some that are not."""
    beside = {label for axes in figure.axes for label in (*axes.get_xticklabels(), *axes.get_yticklabels())}
    return [text for text in figure.findobj(Text) if text.get_text().strip() and text not in beside and text.axes in (None, *shown(figure))]


def shown(figure) -> list:
    return [axes for axes in figure.axes if axes.get_visible()]


def corners(text) -> list[float]:
    """Return left, bottom, right and top of a text, in pixels."""
    return list(Text.get_window_extent(text).extents)


def test_rules_keep_the_order_they_were_given_in_whatever_their_rank():
    assert Laboratory(small()).lines == list(RULES[:4])
    assert Laboratory(small()).leverages == [1, 5, 20]


def test_what_else_varies_is_part_of_a_rules_name():
    lines = Laboratory(small(modes=("cross", "isolated"))).lines
    assert lines[0] == f"{RULES[0]}, cross"
    assert len(lines) == 8


def test_a_strategys_param_that_varies_is_named_with_its_value():
    table = pd.DataFrame({"rule": ["a", "a"], "leverage": [2.0, 2.0], "period": [10, 20], "fees_share": [0.1, 0.2]})
    assert [trial.line for trial in trials_of(table)] == ["a, period=10", "a, period=20"]


def test_no_figure_of_a_comparison_is_taken_for_a_param():
    table = pd.DataFrame({"rule": ["a", "a"], "leverage": [2.0, 5.0], **{name: [0.1, 0.2] for name in AGGREGATES}})
    assert [trial.line for trial in trials_of(table)] == ["a", "a"]


def test_the_frontier_is_what_no_other_beats_at_wealth_and_at_risk():
    # b at 2x has less wealth at more risk than a at 2x, b at 5x than a at 5x
    assert [trial.name for trial in made_of(FOUR).frontier()] == ["a at 2x", "a at 5x"]


def test_names_of_the_frontier_do_not_lie_on_each_other():
    crowded = [("a", lever, 1 + 0.01 * lever, 0.01 * lever, lever < 5) for lever in range(1, 21)]
    laboratory = made_of(crowded)
    named = laboratory.named_frontier(0.9, 1.3)
    assert {laboratory.best.id, laboratory.richest.id} <= named
    heights = sorted(log(row[2] / 0.9) / log(1.3 / 0.9) for number, row in enumerate(crowded) if number in named)
    assert len(heights) > 3
    assert min(after - before for before, after in pairwise(heights)) >= 0.07


def test_the_best_is_the_first_that_the_cap_admits_and_the_richest_whatever_it_costs():
    laboratory = made_of(FOUR)
    assert (laboratory.best.name, laboratory.richest.name) == ("a at 2x", "a at 5x")
    assert made_of(FOUR[2:]).best.name == "a at 5x"


def test_growth_is_the_median_log_wealth_over_the_years():
    (first, _) = made_of(FOUR).growths()
    assert first.growths == pytest.approx([log(1.2), log(1.5)])  # over 365 days
    assert first.is_safe == [True, False]


def test_the_parabola_is_highest_at_mu_over_sigma_squared():
    laboratory = made_of(FOUR)
    assert laboratory.kelly_leverage == pytest.approx(0.5 / 0.25)
    assert laboratory.kelly(2.0) == pytest.approx(2 * 0.5 - 4 * 0.25 / 2)


def test_ruin_does_not_press_what_lives_into_one_line():
    ruined = [*FOUR, ("c", 2, 1e-9, 1.0, False)]
    low, high = made_of(ruined).growth_limits()
    assert high > 0.5  # the parabola's top, 2 x 0.5 - 4 x 0.25 / 2
    assert low > log(1e-9)


def test_without_paths_there_are_no_probabilities():
    laboratory = Laboratory(small(paths=0))
    assert [heat.key for heat in laboratory.heats()] == ["wealth_50", "liquidations", "max_drawdown"]
    assert laboratory.risk == "max_drawdown"
    assert isnan(laboratory.best.figure("p_liquidation"))


def test_a_combination_that_was_not_run_is_a_gap():
    comparison = small()
    (heat, *_) = Laboratory(replace(comparison, table=comparison.table.drop(index=0))).heats()
    assert isnan(heat.values[0, 0])
    assert heat.said(heat.values[0, 0]) == "\N{EN DASH}"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("wealth_50", 10.0, 1.0), ("wealth_50", 0.1, -1.0), ("wealth_50", 1.0, 0.0), ("wealth_50", 0.0, -1.0),
        ("p_ruin", 0.0, 0.0), ("p_ruin", 1.0, 1.0), ("liquidations", 4.0, 1.0), ("liquidations", 0.0, 0.0),
    ],
)  # fmt: skip
def test_cells_are_coloured_by_what_they_hold(key, value, expected):
    assert strength(key, value, 4.0) == pytest.approx(expected)


def test_numbers_are_said_to_what_can_be_told_apart():
    assert [multiple(value).rstrip("\N{MULTIPLICATION SIGN}") for value in (1.234, 0.0123, 250.4, 1e-6, 0.0)] == [
        "1.23", "0.012", "250", "<0.001", "0.00"
    ]  # fmt: skip
    assert [probability(value) for value in (0.0, 0.001, 0.5, 0.999, 1.0, nan)] == ["0 %", "<1 %", "50 %", ">99 %", "100 %", "\N{EN DASH}"]
    assert log_ticks(0.2, 12) == [0.2, 0.5, 1.0, 2.0, 5.0, 10.0]
    assert log_ticks(1e-4, 1e4, 5) == [1e-4, 1e-2, 1.0, 1e2, 1e4]
    assert wealth_limits([0.5, 2.0]) == pytest.approx((0.5 / 4**0.08, 2 * 4**0.08))
    assert wealth_limits(iter([0.5, 2.0])) == wealth_limits([0.5, 2.0])
    assert wealth_limits([0.0, 2.0])[0] == pytest.approx(0.01 / 200**0.08)


@pytest.mark.parametrize("key", PICTURES)
def test_every_picture_is_told_in_tables(key):
    said = plots.text(small(), key)
    assert said == picture(small(), key).as_text()
    assert RULES[0] in said or key == "pareto"
    assert len(said.splitlines()) > 4


@pytest.mark.parametrize("key", PICTURES)
@pytest.mark.parametrize("paths", [0, 30])
def test_every_picture_has_a_title_and_changes_no_setting(key, paths):
    before = settings()
    figure = plots.panel(small(paths=paths), key)
    figure.canvas.draw()
    assert settings() == before
    assert any(len(text) > 20 for text in words_of(figure))
    assert any("12 combinations tried" in text for text in words_of(figure))  # a flag


def test_the_heat_map_writes_every_value_into_its_cell():
    comparison = small()
    figure = plots.heatmap(comparison)
    written = [text.get_text() for text in figure.axes[1].texts]
    grid = comparison.table.pivot(index="rule", columns="leverage", values="p_liquidation").loc[list(RULES[:4])]
    assert written == [probability(value).removesuffix(" %") for value in grid.to_numpy().ravel()]


def test_a_liquidation_is_told_by_shape_as_well_as_colour():
    comparison = small()
    caught = int((comparison.table["p_liquidation"] > CAP).sum())
    crosses = [line for line in plots.pareto(comparison).axes[0].lines if line.get_marker() == "X"]
    assert sum(len(line.get_xdata()) for line in crosses) == caught > 0
    assert sum(text.get_text() == "✖" for text in plots.heatmap(comparison).axes[0].texts) == caught


def rows_of(figure) -> dict[float, list]:
    """Return the texts of a ranked table by the height of their row, from left to right."""
    found: dict[float, list] = {}
    for text in sorted(figure.axes[0].texts, key=lambda text: text.get_position()[0]):
        found.setdefault(round(text.get_position()[1], 6), []).append(text)
    return dict(sorted(found.items()))


def test_a_row_of_the_ranked_table_has_the_figures_of_its_combination():
    comparison = small()
    row = comparison.table.iloc[0]
    (said,) = ([text.get_text() for text in texts] for texts in rows_of(plots.ranked(comparison)).values() if texts[0].get_text() == "1")
    wealth = [multiple(row[f"wealth_{share}"]) for share in (5, 50, 95)]
    likely = [probability(row["p_liquidation"]), f"{probability(row['p_liquidation_low'])} to {probability(row['p_liquidation_high'])}"]
    returned, fall = (percent(row[name]) for name in ("annual_return", "max_drawdown"))
    counts = [f"{row['full_liquidations']:.3g}", f"{row['trades']:.0f}"]
    assert said == ["1", row["rule"], f"{row['leverage']:g}x", *wealth, returned, fall, *likely, probability(row["p_ruin"]), *counts]


def test_crosses_of_the_ranked_table_are_below_its_line_and_nowhere_else():
    comparison = small()
    axes = plots.ranked(comparison).axes[0]
    (line,) = (lines.get_segments()[0][0][1] for lines in axes.collections if lines.get_linewidth()[0] == 2)
    crosses = [text.get_position()[1] for text in axes.texts if text.get_text() == "✖"]
    ranks = {
        int(text.get_text()): text.get_position()[1] for text in axes.texts if text.get_text().isdigit() and text.get_position()[0] < 1
    }
    assert crosses == [ranks[rank] for rank in range(1, 13) if not comparison.table["is_admitted"].iloc[rank - 1]]
    assert [rank for rank in ranks if ranks[rank] > line] == [rank for rank in ranks if ranks[rank] in crosses] != []


def test_the_ranked_table_has_twenty_rows_and_says_how_many_more_there_are():
    words = words_of(plots.ranked(compared()))
    assert "20" in words
    assert "21" not in words
    assert "and 80 more" in words
    assert not any("more" in text.split() and "and" in text.split() for text in words_of(plots.ranked(small()))[2:] if len(text) < 20)


def test_numbers_of_the_ranked_table_end_at_one_edge():
    figure = plots.ranked(compared())
    figure.canvas.draw()
    rows = [texts for texts in rows_of(figure).values() if texts[0].get_text().isdigit()]
    for column in range(2, len(rows[0])):
        edges = [corners(texts[column])[2] for texts in rows]
        assert max(edges) - min(edges) < 2.5  # pixels; letters have room around them


def test_what_varies_beside_the_rule_has_a_column_where_it_has_room():
    figure = plots.ranked(small(modes=("cross", "isolated")))
    words = words_of(figure)
    assert {"margin", "mode", "cross", "isolated"} <= set(words)
    assert RULES[0] in words
    crowded = small()
    names = {f"a_rather_long_name_of_a_param_{number}": [number, number + 1] * 6 for number in range(6)}
    figure = plots.ranked(replace(crowded, table=crowded.table.assign(**names)))
    assert not set(names) & set(words_of(figure))
    assert any(
        "a_rather_long_name_of_a_param_5=6" in text
        for text in plots.text(replace(crowded, table=crowded.table.assign(**names)), "ranked").split()
    )


def test_without_paths_the_ranked_table_has_no_probability():
    said = " ".join(words_of(plots.ranked(small(paths=0))))
    assert "P(" not in said
    assert "Wilson" not in said
    assert "never liquidated" in said


def test_every_combination_of_the_scatter_lies_inside_its_panel():
    comparison = small()
    axes = plots.pareto(comparison).axes[0]
    low, high = axes.get_ylim()
    shown = [value for line in axes.lines if line.get_marker() in ("o", "X", "D") for value in line.get_ydata()]
    assert len(shown) >= len(comparison.table)
    assert low <= min(shown)
    assert max(shown) == pytest.approx(comparison.table["wealth_50"].max())
    assert max(shown) < high


def test_fans_are_of_the_leverage_asked_for_and_reach_the_end_of_the_run():
    figure = plots.fans(small(), leverage=20)
    assert "at 20x" in words_of(figure)[0]
    assert figure.axes[0].get_xlim() == (0, DAYS)


@pytest.mark.parametrize("key", PICTURES)
@pytest.mark.parametrize("paths", [0, 30])
def test_no_word_of_a_picture_is_cut_by_its_edge_or_left_out(key, paths):
    figure = picture_of(key, paths)
    width, height = figure.canvas.get_width_height()
    for text in texts_of(figure):
        left, bottom, right, top = corners(text)
        assert (left >= 0, bottom >= 0, right <= width, top <= height) == (True,) * 4, text.get_text()
    assert any("stated policy number 29 of this run" in " ".join(text.get_text().split()) for text in figure.texts)
    assert not [text.get_text() for text in texts_of(figure) if "\N{HORIZONTAL ELLIPSIS}" in text.get_text()]


def test_every_picture_says_in_its_title_what_it_shows():
    comparison = small()
    titles = {key: words_of(plots.panel(comparison, key))[0] for key in PICTURES}
    assert len(set(titles.values())) == len(PICTURES)
    growth = comparison.table.pivot(index="rule", columns="leverage", values="median_log_wealth")
    losing = (growth < 0).sum()
    assert titles["cliff"] == f"The leverage cliff: {losing[1.0]} of 4 rules lose money at 1x, {losing[20.0]} of 4 at 20x"
    admitted = int(comparison.table["is_admitted"].sum())
    assert titles["pareto"] == f"Wealth against liquidation: {admitted} of 12 combinations within the cap of 5 %"
    first = comparison.table.iloc[0]
    assert titles["ranked"] == f"{admitted} of 12 combinations within the cap of 5 %; first: {first['rule']} at {first['leverage']:g}x"
    assert titles["heatmap"].startswith("Best within the cap: ")
    assert titles["fans"].startswith("Equity over time at ")


def test_a_title_of_ones_own_is_kept():
    assert [words_of(plots.panel(small(), key, title="Mine"))[0] for key in PICTURES] == ["Mine"] * len(PICTURES)


def test_names_of_rules_stand_whole_beside_the_heat_map():
    labels = picture_of("heatmap").axes[0].get_yticklabels()
    assert [label.get_text().replace("\n", " ") for label in labels] == list(LONG)
    assert min(corners(label)[0] for label in labels) >= 0


def test_the_words_of_a_fan_stand_above_it_and_no_wider():
    for axes in shown(picture_of("fans")):
        panel = axes.get_window_extent()
        for text in axes.texts:
            left, bottom, right, _ = corners(text)
            assert bottom >= panel.y1
            assert (left >= panel.x0 - 1, right <= panel.x1 + 1) == (True, True), text.get_text()


def test_the_market_as_it_was_never_leaves_the_frame_of_its_fan():
    comparison = small()
    lucky = {number: 1 + 9 * curve.size * np.linspace(0, 1, curve.size) / curve.size for number, curve in comparison.history.items()}
    figure = plots.fans(replace(comparison, history=lucky))  # from 1 to 10
    for axes in shown(figure):
        (dashed,) = (line for line in axes.lines if line.get_linestyle() == "--")
        assert max(dashed.get_ydata()) == pytest.approx(10)
        assert axes.get_ylim()[1] > 10


def test_no_extreme_of_the_market_as_it_was_is_thinned_away():
    comparison = compared(RULES[:1], (1,), paths=30)
    spiked = np.ones(DAYS + 1)
    spiked[77] = 5.0
    _, _, history = Laboratory(replace(comparison, history={0: spiked})).fan(0, 40)
    assert len(history) < DAYS
    assert history.max() == 5


def test_numbers_can_be_told_from_the_colour_of_their_cell():
    def luminance(color) -> float:
        parts = np.array(mpl.colors.to_rgb(color))
        return float(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])

    for axes in plots.heatmap(compared()).axes:
        faces = {
            tuple(np.add(patch.get_xy(), 0.48).round().astype(int)): patch.get_facecolor()[:3] for patch in axes.patches if patch.get_fill()
        }
        for text in axes.texts:
            place = tuple(np.round(text.get_position()).astype(int))
            light, dark = sorted((luminance(faces[place]), luminance(text.get_color())), reverse=True)
            assert (light + 0.05) / (dark + 0.05) > 3.9, text.get_text()


def test_names_in_the_scatter_lie_inside_it_and_not_on_each_other():
    rising = [(f"a rule with a name of some length {x}", 2, 1 + x / 10, x / 10, x == 0) for x in range(10)]  # all on the frontier
    laboratory = made_of(rising)
    laboratory.comparison.table[["p_liquidation_low", "p_liquidation_high"]] = 0.5
    laboratory.settings["strategy"] = "Any"
    figure = plots.pareto(laboratory.comparison)
    figure.canvas.draw()
    (axes,) = figure.axes
    names = [corners(text) for text in axes.texts if "a rule with" in text.get_text()]
    assert len(names) > 5
    panel = axes.get_window_extent()
    assert all(panel.x0 <= left and right <= panel.x1 and panel.y0 <= bottom and top <= panel.y1 for left, bottom, right, top in names)
    pairs = [(one, other) for number, one in enumerate(names) for other in names[:number]]
    assert not [1 for a, b in pairs if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]]


def test_a_combination_below_the_scatter_is_marked_at_its_edge():
    comparison = compared()
    axes = plots.pareto(comparison).axes[0]
    low = axes.get_ylim()[0]
    marked = [x for line in axes.lines if line.get_marker() == "v" for x in line.get_xdata()]
    assert len(marked) == int((comparison.table["wealth_50"] < low).sum()) > 0
    assert "▼ lower than the panel" in words_of(axes.figure)


def test_one_path_is_not_said_to_be_many():
    assert any("; 1 bootstrap path, seed 7" in text for text in words_of(plots.cliff(small(paths=1))))


@pytest.mark.parametrize(
    ("levers", "shown"),
    [([1, 2, 3, 100, 105], [1, 2, 3, 105]), ([3, 3, 1], [1, 3]), ([5], [5]), ([1, 1.01, 50, 50.1], [1, 50.1]), ([20, 21], [20, 21])],
)
def test_leverages_are_named_where_their_names_have_room(levers, shown):
    assert told_apart(levers, 0.05) == shown


@pytest.mark.parametrize(("value", "said"), [(0.0, "0.00"), (0.0004, "<0.01"), (0.0249, "0.02"), (0.97, "0.97"), (250.4, "250")])
def test_cells_of_wealth_are_short(value, said):
    assert Heat("wealth_50", "", "times", np.array([value])).said(value) == said


def test_a_number_and_its_per_cent_sign_stay_on_one_line():
    figure = drawing.sheet(9, [], "", "")[0]
    for room in np.linspace(0.3, 3, 40):
        assert not [line for line in drawing.wrapped(figure, "from 25 to 75 % of 95 %", 10, room, None) if line.startswith("%")]


def test_the_cliff_can_be_drawn_by_what_accounts_effectively_had():
    (by_set, by_held) = (plots.cliff(small(), by=by).axes[0] for by in ("leverage", "mean_leverage"))
    assert by_set.get_xlabel() != by_held.get_xlabel()
    assert by_held.get_xlim()[0] < by_set.get_xlim()[0]


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (
            lambda: plots.panel(small(), "price"),
            "there is no picture 'price' of a comparison; there are heatmap, fans, cliff, pareto, ranked",
        ),
        (lambda: plots.text(small(), "price"), "there is no picture 'price'"),
        (lambda: plots.fans(small(), leverage=7), "leverage is one that was compared, was 7; there are 1, 5, 20"),
        (lambda: plots.cliff(small(), by="price"), "by 'leverage' or by 'mean_leverage', was 'price'"),
        (lambda: plots.heatmap(calm()), "a comparison is drawn, as bt_margin.compare returns it, was Result"),
        (lambda: plots.heatmap(replace(small(), table=small().table.head(0))), "no combination that ran to its end"),
    ],
)
def test_wrong_use_is_told_in_a_sentence(use, said):
    with pytest.raises(ValueError, match=said):
        use()


def test_the_same_comparison_gives_the_same_picture(tmp_path):
    with mpl.rc_context({"font.family": ["DejaVu Sans"]}):
        first, second = (plots.save(plots.pareto(small()), tmp_path / f"{name}.svg").read_bytes() for name in "ab")
    assert first == second


def test_the_numbers_of_the_test_are_those_of_a_comparison():
    assert len(LEVERAGES) * len(RULES) == compared().combinations == len(compared().table)
