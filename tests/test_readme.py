"""What README.md and README.zh-CN.md say in numbers is what the code says today, and their examples run as they stand."""

import contextlib
import io
import re
import runpy
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

import bt_margin as bm

ROOT = Path(__file__).parents[1]
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
IDS = [path.name for path in READMES]
LARGE = re.compile(r"(?<![\w./-])-?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\w/])")  # a number with a thousands comma
GIVEN = {"10,000"}  # the first deposit

needs_data = pytest.mark.skipif(find_spec("bt_margin.data") is None, reason="the candles come with the installed package: pip install -e .")


def blocks(path: Path, language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [text for named, text in fenced if named == language]


def example(path: Path) -> str:
    (code,) = [block for block in blocks(path, "python") if "print(" in block and "data.load()" in block]
    return code


@cache
def printed(code: str) -> str:
    """Return what a piece of Python prints; its picture is left where pytest works."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README", "exec"), {"__name__": "__main__"})
    return out.getvalue()


def sentences(result: bm.Result) -> list[str]:
    return [re.sub(r"^(Backtrader|The venue) says: ", "", line) for line in bm.plots.headlines(result)]


@cache
def hero() -> bm.Result:
    return runpy.run_path(str(ROOT / "docs" / "pictures.py"))["hero"]()


@cache
def paged() -> bm.Result:
    """Return the run of the page's picture, one of those that are compared."""
    example = runpy.run_path(str(ROOT / "examples" / "compare_position_sizing.py"))
    return bm.run(example["SmaCross"], **example["TERMS"], leverage=10, sizer=example["SIZERS"]["half as margin"])


def facts() -> str:
    """Return every figure that the text has from a picture."""
    lowest = f"{hero().baseline.min():,.0f}"
    return " ".join([*sentences(hero()), *sentences(paged()), lowest])


@needs_data
def test_the_example_prints_what_the_readme_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    readme = READMES[0]
    (shown,) = blocks(readme, "text")
    assert len([line for line in example(readme).splitlines() if line.strip()]) <= 15
    assert printed(example(readme)) == shown
    assert Path("overview.png").read_bytes().startswith(b"\x89PNG")


@needs_data
@pytest.mark.parametrize("path", READMES, ids=IDS)
def test_the_figures_about_the_pictures_are_those_in_them(path):
    figures = LARGE.findall(facts()) + re.findall(r"[+-][\d,]+%", facts())
    assert [figure for figure in figures if figure not in path.read_text("utf-8")] == []


@needs_data
def test_the_sentences_about_the_pictures_are_those_in_them():
    text = READMES[0].read_text("utf-8")
    assert [sentence for sentence in [*sentences(hero()), *sentences(paged())] if sentence not in text] == []


@needs_data
def test_the_hero_sinks_to_minus_eighty_per_cent_and_recovers_to_a_fortune():
    assert hero().baseline.min() == pytest.approx(-0.8 * 10_000, rel=0.02)
    assert hero().baseline.iloc[-1] > 10 * 10_000
    (death,) = hero().liquidations.itertuples()
    assert (death.time - hero().fills["time"].iloc[0]).days == 1  # "two days later": from the first to the third of September
    assert (death.time.day, death.time.month) == (3, 9)


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "said"), list(zip(READMES, ["10 of 15 were liquidated", "15 个里有 10 个被强平过"], strict=True)), ids=IDS
)
def test_what_the_comparison_shows_is_what_the_text_says(path, said):
    results = runpy.run_path(str(ROOT / "examples" / "compare_position_sizing.py"))["compare"]()
    deaths = {name: result.summary["liquidations"] for name, result in results.items()}
    best = max(results, key=lambda name: results[name].summary["final_equity"])
    assert (len(results), sum(count > 0 for count in deaths.values()), best) == (15, 10, "half as margin at 10x")
    assert said in path.read_text("utf-8")


@needs_data
@pytest.mark.parametrize("path", READMES, ids=IDS)
def test_no_other_large_number_stands_in_the_text(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    proven = " ".join([facts(), printed(example(path)), *GIVEN])
    assert [number for number in LARGE.findall(path.read_text("utf-8")) if number not in proven] == []


@pytest.mark.parametrize("path", READMES, ids=IDS)
def test_every_piece_of_python_can_be_read(path):
    for block in blocks(path, "python"):
        compile(block, path.name, "exec")


@pytest.mark.parametrize("path", READMES, ids=IDS)
def test_every_link_leads_somewhere(path):
    links = re.findall(r"\]\(([^)#]+)\)", path.read_text("utf-8"))
    assert len(links) > 5
    assert [link for link in links if not link.startswith("https://") and not (ROOT / link).exists()] == []


def test_both_languages_have_the_same_code_and_the_same_pictures():
    for kind in ("python", "text", ""):
        first, second = (blocks(path, kind) for path in READMES)
        assert first == second
    pictures = [re.findall(r"\]\((docs/img/[^)]+)\)", path.read_text("utf-8")) for path in READMES]
    assert pictures[0] == pictures[1]
