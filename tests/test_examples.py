"""Every example is short, runs as it stands and leaves its picture."""

import runpy
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
FILES = sorted(FOLDER.glob("*.py"))


def test_the_seven_examples_are_there():
    named = ["backtest_with_liquidation", "compare_position_sizing", "cross_and_isolated_together"]
    named += ["equity_curve_plot", "existing_strategy_one_line", "ladder_before_you_trade", "optimise_leverage"]
    assert [path.stem for path in FILES] == named


def test_a_stock_script_becomes_ours_by_one_line():
    text = (FOLDER / "existing_strategy_one_line.py").read_text("utf-8")
    (line,) = [line for line in text.splitlines() if line.endswith("# the one line")]
    assert "bm.plug(" in line


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_examples_are_under_forty_lines(path):
    assert len(path.read_text("utf-8").splitlines()) < 40


@pytest.mark.skipif(find_spec("bt_margin.data") is None, reason="the candles come with the installed package: pip install -e .")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_examples_run_and_leave_a_picture(path, capsys):
    picture = FOLDER / "output" / f"{path.stem}.png"
    picture.unlink(missing_ok=True)

    runpy.run_path(str(path), run_name="__main__")

    assert picture.read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr()
    assert said.out
    assert not said.err
    if "Result" in path.read_text("utf-8") or "bm.run(" in path.read_text("utf-8"):
        assert "stated policies" in said.out
