"""The page of a comparison: one file that fetches nothing and says what was tried, what is best and how sure that is."""

import csv
import io
import json
import re
from dataclasses import replace
from functools import cache
from importlib import resources
from itertools import pairwise

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from comparing import CAP, RULES, compared
from looking import died_once
from playing import frame

pytest.importorskip("jinja2", reason="the report page needs the extra: pip install -e '.[report]'")
pytest.importorskip("plotly", reason="the report page needs the extra: pip install -e '.[report]'")

from test_report import data_of, file_of, ours, read

from bt_margin import Report, plots, sizers
from bt_margin.comparison import compare
from bt_margin.laboratory import PICTURES, Laboratory, probability
from bt_margin.report import drawn, words

SMALL = (RULES[:4], (1, 5, 20))


@cache
def page_of(paths: int = 30, lang: str = "en") -> str:
    return ours(Report(compared(*SMALL, paths=paths), lang=lang).html())


@pytest.mark.parametrize("paths", [0, 30])
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_page_is_whole_and_names_nothing_to_fetch(paths, lang):
    page = read(page_of(paths, lang))
    assert [value for _, attributes in page.elements for key, value in attributes.items() if key in ("src", "href", "action")] == []
    (policy,) = [attributes["content"] for attributes in page.all("meta") if attributes.get("http-equiv")]
    assert policy.startswith("default-src 'none'")


def test_the_heat_maps_have_every_combinations_value_in_its_cell():
    maps = re.findall(r'<figure class="heat".*?</figure>', page_of(), re.DOTALL)
    assert len(maps) == 3
    table = compared(*SMALL, paths=30).table
    grid = table.pivot(index="rule", columns="leverage", values="p_liquidation").loc[list(RULES[:4])]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", maps[1])
    assert cells == [probability(value).removesuffix(" %").replace("<", "&lt;") for value in grid.to_numpy().ravel()]


def test_a_cross_stands_beside_the_wealth_of_what_is_beyond_the_cap():
    wealth = re.findall(r'<figure class="heat".*?</figure>', page_of(), re.DOTALL)[0]
    table = compared(*SMALL, paths=30).table
    assert wealth.count('<span class="over-cap">✖</span></td>') == int((table["p_liquidation"] > CAP).sum()) > 0


def luminance(color: str, share: float = 1.0, ground: str = "#ffffff") -> float:
    """Return the luminance (WCAG 2) of so much of a colour in a ground."""
    mixed = [share * int(color[at : at + 2], 16) + (1 - share) * int(ground[at : at + 2], 16) for at in (1, 3, 5)]
    parts = [part / 255 / 12.92 if part / 255 <= 0.04045 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in mixed]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_numbers_can_be_told_from_the_colour_of_their_cell(theme):
    styles = re.findall(
        r":root[^{]*\{\s*color-scheme: (\w+);(.*?)\}", (resources.files("bt_margin.report") / "page.css").read_text("utf-8"), re.DOTALL
    )
    colors = dict(re.findall(r"--(\w+): (#\w{6})", dict(styles)[theme]))
    looks = {"gain": "blue", "loss": "orange", "death": "red", "ruin": "purple"}
    for key, values in {
        "wealth_50": np.geomspace(0.05, 20, 60),
        "p_liquidation": np.linspace(0, 1, 60),
        "p_ruin": np.linspace(0, 1, 60),
    }.items():
        for value in values:
            look, share = drawn.heat_look(key, value, 1.0)
            is_turned = "hot" in drawn.heat_states(look, share) if theme == "light" else "warm" in drawn.heat_states(look, share)
            ink, face = luminance(colors["card" if is_turned else "ink"]), luminance(colors[looks[look]], share / 100, colors["card"])
            assert (max(ink, face) + 0.05) / (min(ink, face) + 0.05) > 3.6, (theme, key, value)


def test_a_long_name_beside_a_mark_is_shortened_and_a_chart_has_few_round_multiples():
    long = "risk 2 % to stop, isolated, liquidation 1 ATR beyond"
    (pareto,) = (chart for chart in data_of(Report(compared((long,), (1, 20), paths=20)).html())["charts"] if chart["key"] == "pareto")
    (names,) = ([text for text in trace["text"] if text] for trace in pareto["data"] if "textfont" in trace)
    assert names
    assert max(map(len, names)) <= 36 + len(" 20x")
    assert 3 <= len(pareto["layout"]["yaxis"]["tickvals"]) <= 9


def test_every_combination_has_a_fan_and_only_those_of_one_leverage_are_in_sight():
    fans = re.findall(r'<figure class="fan" data-of="([^"]+)"( hidden)?', page_of())
    assert len(fans) == 12
    assert len({lever for lever, hidden in fans if not hidden}) == 1
    assert page_of().count('class="fan-drawing"') == 12


def test_the_verdict_names_the_best_within_the_cap_and_how_many_were_tried():
    best = compared(*SMALL, paths=30).table.iloc[0]
    text = read(page_of()).text
    assert f"Best within the cap: {best.rule} at {best.leverage:g}x" in text
    assert "12 combinations were tried" in text
    assert "seed 7" in text


def test_where_nothing_is_within_the_cap_the_verdict_says_so():
    comparison = compared(RULES[:4], (30, 50), paths=30)
    assert not comparison.table["is_admitted"].any()
    assert "Nothing stays within the cap of 5 %" in read(Report(comparison).html()).text


def test_probabilities_come_with_their_intervals():
    row = compared(*SMALL, paths=30).table.iloc[0]
    assert f"{probability(row.p_ruin_low)} to {probability(row.p_ruin_high)}" in read(page_of()).text


def test_without_paths_no_probability_is_shown():
    text = read(page_of(0)).text
    assert "one history tells no probability" in text
    assert "P(liq.)" not in text
    assert "P(ruin)" not in text


def test_the_ranked_table_has_a_row_for_each_and_heads_that_sort():
    (table,) = re.findall(r'<table id="ranked">.*?</table>', page_of(), re.DOTALL)
    assert table.count("<tr") == 1 + 12
    assert table.count('aria-sort="ascending"') == 1
    assert table.count('class="sorts"') >= 12
    assert table.count('class="spark-line"') == 12
    caught = int((compared(*SMALL, paths=30).table["p_liquidation"] > CAP).sum())
    assert table.count('<tr class="out">') == caught > 0


def test_every_chart_has_a_title_a_description_and_its_numbers_as_a_table():
    figures = re.findall(r'<figure id="chart-.*?</figure>', page_of(), re.DOTALL)
    assert len(figures) == 2
    for figure in figures:
        assert "<caption>" in figure
        assert re.search(r'aria-label="[^"]{40,}"', figure)


def test_what_falls_below_the_cliff_is_marked_at_its_edge():
    (cliff,) = (chart for chart in data_of(page_of())["charts"] if chart["key"] == "cliff")
    low, high = cliff["layout"]["yaxis"]["range"]
    edge = low + 0.015 * (high - low)
    points = [
        (y, symbol) for trace in cliff["data"][1:] for y, symbol in zip(trace["y"], trace["marker"]["symbol"], strict=True) if y <= edge
    ]
    assert points
    assert {symbol for _, symbol in points} == {"triangle-down"}


def test_files_of_the_page_are_those_of_the_comparison():
    comparison, html = compared(*SMALL, paths=30), page_of()
    rows = list(csv.DictReader(io.StringIO(file_of(html, "comparison.csv"))))
    assert [int(row["id"]) for row in rows] == comparison.table.index.tolist()
    whole = json.loads(file_of(html, "comparison.json"))
    assert (whole["combinations"], whole["settings"]["seed"]) == (12, 7)
    assert len(list(csv.DictReader(io.StringIO(file_of(html, "runs.csv"))))) == len(comparison.runs) == 12 * 31
    assert "fans.csv" in data_of(html)["files"]


def test_a_walk_forward_split_shows_on_the_next_period_what_was_chosen_on_the_first():
    comparison = compared(*SMALL, paths=30)
    test = comparison.table.assign(median_log_wealth=-comparison.table["median_log_wealth"])  # the next period turns the ranks round
    page = Report(replace(comparison, train=comparison.table, test=test)).html()
    first = comparison.table.iloc[0]
    rank = int(comparison.table["is_admitted"].sum())  # from the first within the cap to the last of them
    assert f"Chosen on the first period, {first.rule} at {first.leverage:g}x" in read(page).text
    assert f"where it ranks {rank} of 12" in read(page).text


def test_runs_that_failed_are_named_with_their_error():
    errors = pd.DataFrame({"combination": [3], "path": [7], "error": ["ValueError: <b>no bars</b>"]})
    page = read(ours(Report(replace(compared(*SMALL, paths=30), errors=errors)).html()))
    assert "Runs that failed (1)" in page.text
    assert "ValueError: <b>no bars</b>" in page.text


def test_text_of_users_is_shown_and_never_run():
    evil = "</script><img src=x onerror=alert(1)>"
    html = ours(Report(compared((evil, "b"), (1, 5), paths=20), title=evil, note=evil, command=evil).html())
    page = read(html)
    assert page.all("img") == []
    assert evil in page.text


def test_a_chinese_page_has_no_english_titles_or_assumptions():
    page = page_of(30, "zh")
    assert '<html lang="zh">' in page
    titles = re.findall(r"<h[12][^>]*>(.*?)</h", page, re.DOTALL)
    titles += re.findall(r'<figure (?:class="heat"|id="chart).*?<h3[^>]*>(.*?)</h3>', page, re.DOTALL)
    assumed = re.findall(r"<li>(.*?)</li>", re.search(r'<ul class="plain">(.*?)</ul>', page, re.DOTALL)[1])
    captions = re.findall(r"<caption>(.*?)</caption>", page, re.DOTALL)
    assert [text for text in [*titles, *assumed, *captions] if not re.search("[\u4e00-\u9fff]", text)] == []


def test_the_same_comparison_gives_the_same_bytes():
    assert ours(Report(compared(*SMALL, paths=30)).html()) == page_of()


class Swing(bt.Strategy):
    """Buys every tenth bar and sells five bars later."""

    def next(self):
        if len(self) % 10 == 1:
            self.buy()
        elif len(self) % 10 == 6:
            self.close()


def test_a_real_comparison_has_a_page_and_pictures():
    closes = 100 * np.exp(np.cumsum(np.random.default_rng(5).normal(0, 0.01, 120)))
    rows = [(before, max(before, now) * 1.004, min(before, now) * 0.996, now) for before, now in pairwise(closes)]
    terms = {"leverages": [2, 25], "margin_modes": ["isolated"], "venues": ["generic"], "paths": 3, "seed": 2, "backend": "serial"}
    asked = {"sizers": [(sizers.EquityFraction, {"fraction": 0.9}), (sizers.MarginFraction, {"fraction": 0.5})], "split": "2024-01-04"}
    comparison = compare(Swing, {"BTCUSDT": frame(rows)}, **terms, **asked)
    page = read(ours(Report(comparison, lang="en").html()))
    assert "4 combinations were tried" in page.text
    assert "Chosen on the first period" in page.text
    assert Laboratory(comparison).lines == list(dict.fromkeys(comparison.table.sort_index()["rule"]))
    assert [len(plots.panel(comparison, key).axes) > 0 for key in PICTURES] == [True] * len(PICTURES)
    unsaid = [flag for flag in comparison.flags if not re.search("[\u4e00-\u9fff]", words.Words("zh").flag(flag))]
    assert unsaid == []


def test_start_and_end_are_of_a_runs_page(tmp_path):
    with pytest.raises(ValueError, match="a comparison is shown whole"):
        Report(compared(*SMALL, paths=30)).save(tmp_path / "x.html", start="2020-01-01")
    with pytest.raises(ValueError, match="was list"):
        Report([died_once()])
