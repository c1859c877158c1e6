"""What the pictures of a comparison are made of: the grid, the frontier, growth against the parabola, and the pictures themselves."""

from dataclasses import replace
from itertools import pairwise
from math import isnan, log, nan
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from comparing import CAP, DAYS, LEVERAGES, RULES, compared
from looking import calm, settings, words_of

from bt_margin import plots
from bt_margin.laboratory import PICTURES, Laboratory, log_ticks, multiple, picture, probability, strength, trials_of, wealth_limits
from bt_margin.outcome import AGGREGATES

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


def test_the_cliff_can_be_drawn_by_what_accounts_effectively_had():
    (by_set, by_held) = (plots.cliff(small(), by=by).axes[0] for by in ("leverage", "mean_leverage"))
    assert by_set.get_xlabel() != by_held.get_xlabel()
    assert by_held.get_xlim()[0] < by_set.get_xlim()[0]


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda: plots.panel(small(), "price"), "there is no picture 'price' of a comparison; there are heatmap, fans, cliff, pareto"),
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
