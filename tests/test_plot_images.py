"""Each still figure looks as it did when it was last looked at: compared with the images in ``baseline`` by pytest-mpl.

Draw these anew, and look at them, with ``pytest tests/test_plot_images.py --mpl-generate-path tests/baseline``.
"""

import re
from importlib.util import find_spec
from pathlib import Path

import matplotlib as mpl
import pytest
from comparing import compared
from looking import RUNS
from matplotlib import font_manager
from matplotlib.figure import Figure

from bt_margin.laboratory import PICTURES
from bt_margin.plots import PANELS, panel

PINNED = re.search(r"^matplotlib==(\S+)$", (Path(__file__).parents[1] / "constraints.txt").read_text("utf-8"), re.MULTILINE)

assert PINNED is not None
pytestmark = [
    pytest.mark.skipif(find_spec("pytest_mpl") is None, reason="images are compared by pytest-mpl: pip install -e '.[test]'"),
    pytest.mark.skipif(
        mpl.__version__ != PINNED[1], reason=f"images are those of matplotlib {PINNED[1]} in constraints.txt, this is {mpl.__version__}"
    ),
]

FONT = "DejaVu Sans"  # which comes with matplotlib
STORIES = {"price": "warned", "equity": "died once", "costs": "died once", "close_calls": "died often"}  # else 'warned'


def compared_image(name: str):
    """Return the mark of an image test: no more than a trace of a difference, as a root mean square of 255."""
    return pytest.mark.mpl_image_compare(baseline_dir="baseline", filename=f"{name}.png", tolerance=2, style="default", deterministic=True)


def drawn(key: str) -> Figure:
    with mpl.rc_context({"font.family": [FONT]}):
        return panel(RUNS[STORIES.get(key, "warned")](), key)


def test_the_font_is_the_one_that_matplotlib_brings():
    assert Path(font_manager.findfont(FONT)).is_relative_to(Path(mpl.get_data_path()))


@pytest.mark.parametrize("key", [pytest.param(key, marks=compared_image(key)) for key in PANELS])
def test_a_panel_looks_as_it_did(key):
    return drawn(key)


@pytest.mark.parametrize("key", [pytest.param(key, marks=compared_image(key)) for key in PICTURES])
def test_a_picture_of_a_comparison_looks_as_it_did(key):
    with mpl.rc_context({"font.family": [FONT]}):
        return panel(compared(), key)


def test_the_same_input_gives_the_same_figure():
    first, second = drawn("money"), drawn("money")
    for figure in (first, second):
        figure.canvas.draw()
    assert bytes(first.canvas.buffer_rgba()) == bytes(second.canvas.buffer_rgba())
