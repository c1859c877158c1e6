"""The study says what its tables say, runs through in its smallest size, and goes on where it was interrupted."""

import json
import sys
from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest
from bypath import loaded
from comparing import compared
from matplotlib.colors import to_rgb

from bt_margin.plots.drawing import BLUE, GREEN, RED

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def study():
    """Import the program by its path, and leave the paths of imports as they were."""
    before = [*sys.path]
    yield loaded(DOCS / "study.py")
    sys.path[:] = before


def told_on(page: Path, name: str) -> str:
    """Return what stands on a page between the markers of a study."""
    return page.read_text("utf-8").partition(f"<!-- {name} -->\n")[2].partition(f"<!-- end of {name} -->")[0]


@pytest.mark.parametrize("name", ["records", "shipped"])
def test_the_page_says_what_the_tables_say(study, name: str):
    is_there = (DOCS / "study" / f"{name}.json").is_file()
    assert told_on(DOCS / "study.md", name) == (study.section(DOCS / "study", name) if is_there else "")


def test_the_best_of_the_page_is_the_first_of_the_table(study):
    best = pd.read_csv(DOCS / "study" / "shipped-trend-train.csv").iloc[0]
    said = told_on(DOCS / "study.md", "shipped").partition("### Trend")[2].partition("### Mean")[0]
    assert f"*{best['rule']}* at {best['leverage']:g}x, {study.multiple(best['wealth_50'])} on the median path" in said
    facts = json.loads((DOCS / "study" / "shipped.json").read_text("utf-8"))
    assert facts["paths"]["trend"] == best["paths"]


def test_every_picture_of_the_page_is_there_and_small(study):
    pictures = [
        line.rpartition("(")[2].rstrip(")") for line in (DOCS / "study.md").read_text("utf-8").splitlines() if line.startswith("![")
    ]
    assert len(pictures) >= len(study.KINDS) * len(study.PICTURES)
    assert [name for name in pictures if not 0 < (DOCS / name).stat().st_size < 250_000] == []


def test_as_many_paths_are_planned_as_fit(study):
    shipped = study.shipped()
    runs = 2 * 10 * 5  # strategies, rules, leverages
    assert study.planned(shipped, minutes=10, workers=2, seconds=0.5, spent=40) == int((0.9 * 600 - 40) * 2 / (runs * 0.5)) - 1 == 19
    assert study.planned(shipped, minutes=0.1, workers=2, seconds=0.5, spent=40) == 1


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (1.2, 1.1, "a gain as before it"),
        (1.2, 0.9, "a loss after a gain"),
        (0.8, 0.9, "a loss as before it"),
        (1, 1.1, "a gain after neither gain nor loss"),
    ],
)
def test_the_words_follow_the_figures(study, before: float, after: float, said: str):
    assert study.turned(before, after) == said


def test_a_page_without_markers_is_told(study):
    assert study.between("a\n<!-- x -->\nold<!-- end of x -->\nb", "x", "new\n") == "a\n<!-- x -->\nnew\n<!-- end of x -->\nb"
    with pytest.raises(ValueError, match="has no markers of y"):
        study.between("a\n<!-- x -->\n<!-- end of x -->\n", "y", "new")


def test_records_that_are_not_there_are_told(study, tmp_path: Path):
    with pytest.raises(SystemExit, match=r"it has no series/binance-BTCUSDT-1h-futures\.parquet"):
        study.main([str(tmp_path)])


@pytest.mark.slow
def test_the_smallest_size_runs_through_and_resumes_where_it_was_interrupted(study, tmp_path: Path):
    words = ["--smoke", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "runs")]
    with pytest.raises(SystemExit, match="nothing of the study is in"):
        study.main([*words, "--publish"])
    study.main(words)
    place, rows = tmp_path / "out" / "study", tmp_path / "runs" / "shipped" / "reversion" / "sweep" / "rows.jsonl"
    files = {path.name: path.read_bytes() for path in place.iterdir() if path.suffix in (".csv", ".png")}
    assert len(files) == 2 * (5 + 2) + 1  # of two strategies five pictures and two tables; the crashes
    assert told_on(tmp_path / "out" / "study.md", "shipped") == study.section(place, "shipped")
    whole = rows.read_bytes().splitlines(keepends=True)
    rows.write_bytes(b"".join(whole[:-1]))
    with pytest.raises(SystemExit, match="no path of the reversion is whole yet"):
        study.main([*words, "--publish"])
    study.main(words)
    assert sorted(rows.read_bytes().splitlines()) == sorted(line.rstrip(b"\n") for line in whole)
    assert {path.name: path.read_bytes() for path in place.iterdir() if path.name in files} == files


@pytest.mark.slow
def test_exchange_records_run_through_in_the_smallest_size(study, reference: Path, tmp_path: Path):
    study.main([str(reference / "data"), "--smoke", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "runs")])
    assert told_on(tmp_path / "out" / "study.md", "records") == study.section(tmp_path / "out" / "study", "records")


def test_a_picture_keeps_the_colours_of_its_rarest_marks(study, tmp_path: Path):
    figure = study.plots.pareto(compared())
    study.save_small(figure, tmp_path / "small.png")
    study.plots.save(figure, tmp_path / "whole.png")
    small, whole = (matplotlib.image.imread(tmp_path / f"{name}.png")[:, :, :3] for name in ("small", "whole"))
    for color in (BLUE, GREEN, RED):
        marked = abs(whole - [*to_rgb(color)]).max(axis=2) < 0.002
        assert marked.sum() > 50
        assert abs(small[marked] - [*to_rgb(color)]).max() < 0.02  # of 1
