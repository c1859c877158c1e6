"""Every example is short, runs as it stands and leaves its picture."""

import runpy
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
FILES = sorted(FOLDER.glob("*.py"))


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
    assert "stated policies" in capsys.readouterr().out
