"""What the pictures look like, on the pinned matplotlib: marks at their pixels, shades in their places, no panel blank.

``picture_prints.json`` holds each picture as the mean ink (0 white, 255 black) of squares of SQUARE pixels, two hex digits
each, a text for every row of squares. Write it anew, after looking at the pictures, with BT_MARGIN_WRITE_PRINTS=1.
"""

import json
import os
import re
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from looking import died_often, died_once, drawn, idle, panel_of
from matplotlib.figure import Figure

from bt_margin.plots import compare
from bt_margin.plots.drawing import BLUSH, RED, date_number

SQUARE = 25
MOST_PER_SQUARE, MOST_ON_AVERAGE = 3, 0.2  # of 255; the smallest liquidation's mark is worth 10
PRINTS = Path(__file__).with_name("picture_prints.json")
PINNED = re.search(r"^matplotlib==(\S+)$", (Path(__file__).parents[1] / "constraints.txt").read_text("utf-8"), re.MULTILINE)

assert PINNED is not None
pytestmark = pytest.mark.skipif(
    mpl.__version__ != PINNED[1], reason=f"pixels are those of matplotlib {PINNED[1]} in constraints.txt, this is {mpl.__version__}"
)

PICTURES = {
    "overview died once": lambda: drawn("overview", "died once"),
    "overview died often": lambda: drawn("overview", "died often"),
    "equity calm": lambda: drawn("equity", "calm"),
    "page died once": lambda: drawn("page", "died once"),
    "page warned": lambda: drawn("page", "warned"),
    "page of two": lambda: drawn("page", "of two"),
    "compare": lambda: compare({"once": died_once(), "often": died_often(), "idle": idle()}),
}


@cache
def pixels_of(name: str) -> np.ndarray:
    """Return a picture as rows from the top, of red, green and blue."""
    figure = PICTURES[name]()
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[:, :, :3].astype(int)


def colour(code: str) -> np.ndarray:
    return np.array([int(code[at : at + 2], 16) for at in (1, 3, 5)])


def is_colour(pixels: np.ndarray, code: str) -> np.ndarray:
    return (abs(pixels - colour(code)) <= 2).all(axis=-1)


def pixel_at(figure: Figure, panel, time, value: float) -> tuple[int, int]:
    """Return the row and column of a point of a panel."""
    x, y = panel.transData.transform((date_number(time), value))
    return round(figure.bbox.height - y), round(x)


def print_of(pixels: np.ndarray) -> list[str]:
    """Return the ink of each square."""
    rows, columns = (size // SQUARE for size in pixels.shape[:2])
    ink = 255 - pixels[: rows * SQUARE, : columns * SQUARE].mean(axis=2)
    squares = ink.reshape(rows, SQUARE, columns, SQUARE).mean(axis=(1, 3)).round().astype(int)
    return ["".join(f"{value:02x}" for value in row) for row in squares]


def ink_of(rows: list[str]) -> np.ndarray:
    return np.array([list(bytes.fromhex(row)) for row in rows])


@pytest.mark.parametrize("beginning", ["Price", "Equity"])
@pytest.mark.parametrize("picture", ["overview", "page"])
def test_the_mark_of_a_liquidation_is_at_its_time_and_height(picture, beginning):
    figure, death = drawn(picture, "died once"), died_once().liquidations.iloc[0]
    height = death["mark_price"] if beginning == "Price" else died_once().equity["equity"][death["time"]]
    pixels = pixels_of(f"{picture} died once")
    row, column = pixel_at(figure, panel_of(figure, beginning), death["time"], height)
    assert is_colour(pixels[row, column], RED)
    around = is_colour(pixels[row - 12 : row + 13, column - 12 : column + 13], RED)
    assert 60 < around.sum() < 400  # a cross of 13 to 15 points, not a line and not a field


def test_what_is_impossible_is_shaded_below_zero_and_nowhere_above():
    figure, pixels = drawn("overview", "died once"), pixels_of("overview died once")
    panel = panel_of(figure, "Equity")
    zero, _ = pixel_at(figure, panel, died_once().equity.index[0], 0.0)
    left, right = round(panel.bbox.x0), round(panel.bbox.x1)
    bottom, top = (round(figure.bbox.height - edge) for edge in (panel.bbox.y0, panel.bbox.y1))
    assert is_colour(pixels[zero + 3 : bottom - 3, left:right], BLUSH).mean() > 0.4
    assert not is_colour(pixels[top : zero - 3, left:right], BLUSH).any()


@pytest.mark.parametrize("name", PICTURES)
def test_no_panel_is_blank(name):
    figure, pixels = PICTURES[name](), pixels_of(name)
    for panel in figure.axes:
        box = panel.bbox
        inside = pixels[round(figure.bbox.height - box.y1) : round(figure.bbox.height - box.y0), round(box.x0) : round(box.x1)]
        assert (inside.min(axis=2) < 200).sum() > 300


def test_a_picture_looks_as_it_was_when_it_was_last_looked_at():
    prints = {name: print_of(pixels_of(name)) for name in PICTURES}
    if os.environ.get("BT_MARGIN_WRITE_PRINTS"):
        PRINTS.write_text(json.dumps(prints, indent=1) + "\n", "utf-8")
    known = json.loads(PRINTS.read_text("utf-8"))
    assert list(known) == list(prints)
    for name, rows in prints.items():
        now, then = ink_of(rows), ink_of(known[name])
        assert now.shape == then.shape, name
        change = abs(now - then)
        assert change.max() <= MOST_PER_SQUARE, (
            f"{name}: square {np.unravel_index(change.argmax(), change.shape)} of {SQUARE} pixels changed"
        )
        assert change.mean() <= MOST_ON_AVERAGE, f"{name} changed all over"


def test_a_print_tells_a_picture_without_its_liquidation_from_one_with_it():
    figure = compare({"once": died_once(), "often": died_often(), "idle": idle()})
    for panel in figure.axes[:1]:
        for line in panel.lines:
            line.set_visible(line.get_marker() != "X")
    figure.canvas.draw()
    without = print_of(np.asarray(figure.canvas.buffer_rgba())[:, :, :3].astype(int))
    assert abs(ink_of(without) - ink_of(print_of(pixels_of("compare")))).max() > MOST_PER_SQUARE
