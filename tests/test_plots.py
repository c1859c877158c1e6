"""The picture says what happened, drops no extreme, and leaves matplotlib as it was."""

import sys
from textwrap import fill

import backtrader as bt
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from playing import CALM, frame

from bt_margin.backtest import run
from bt_margin.plots import CROWDED, IMPOSSIBLE, RED, headlines, kept_rows, overview
from bt_margin.result import Result

CRASH = (100, 100, 40, 60)


class Stubborn(bt.Strategy):
    """Buys whenever it holds nothing."""

    def next(self):
        if not self.position:
            self.buy()


def deaths_of(figure: Figure) -> list[int]:
    """Return how many liquidations each pair of axes marks, insets among them."""
    axes = [*figure.axes, *(inset for panel in figure.axes for inset in panel.child_axes)]
    return [sum(len(line.get_xdata()) for line in panel.lines if line.get_marker() == "X") for panel in axes]


def words_of(figure: Figure) -> list[str]:
    axes = [*figure.axes, *(inset for panel in figure.axes for inset in panel.child_axes)]
    titles = [panel.get_title(loc) for panel in axes for loc in ("left", "center")]
    return [text.get_text() for text in [*figure.texts, *(text for panel in axes for text in panel.texts)]] + titles


def settings() -> dict:
    """Return matplotlib's settings; looking at ``backend`` would choose one, which imports pyplot."""
    return {name: mpl.rcParams[name] for name in mpl.rcParams if name != "backend"}


@pytest.fixture(scope="module")
def died_once() -> Result:
    """Stock Backtrader falls to 1 000 - 50 x 40 or so and comes back; the margin account does not."""
    candles = frame([CALM] * 3 + [CRASH] + [(60, 200, 60, 200)] + [(200, 200, 200, 200)] * 3)
    return run(Stubborn, {"BTCUSDT": candles}, leverage=10, cash=1_000, sizer=50, funding=0.0001, baseline=True)


@pytest.fixture(scope="module")
def died_often() -> Result:
    prices = [100 * 0.9**step for step in range(6)]
    falls = [(now, now, now * 0.88, now * 0.9) for now in prices]
    return run(Stubborn, {"BTCUSDT": frame(falls + [CALM] * 200)}, leverage=20, margin_mode="isolated", sizer=1)


def test_titles_say_what_the_reader_sees(died_once):
    assert headlines(died_once) == [
        f"Backtrader says: 1,000 became {died_once.baseline.iloc[-1]:,.0f} (+500%)",
        "The venue says: liquidated once, 0 of 1,000 left",
    ]


def test_without_a_baseline_only_the_venue_speaks():
    calm = run(Stubborn, {"BTCUSDT": frame([CALM, CALM, (100, 150, 100, 150)])}, cash=1_000, venue=None)
    assert headlines(calm) == ["The venue says: never liquidated, 1,000 became 1,050 (+5.0%)"]
    assert deaths_of(overview(calm)) == [0, 0]


def test_a_liquidation_is_marked_by_shape_and_word_on_price_and_equity(died_once):
    figure = overview(died_once)
    assert deaths_of(figure) == [1, 1]
    marks = [line for panel in figure.axes for line in panel.lines if line.get_marker() == "X"]
    assert {line.get_color() for line in marks} == {RED}
    assert "LIQUIDATED" in words_of(figure)


def test_what_lies_below_zero_is_shaded_and_called_impossible(died_once):
    figure = overview(died_once)
    equity = figure.axes[1]
    assert equity.get_ylim()[0] < died_once.baseline.min() < 0
    assert IMPOSSIBLE in words_of(figure)
    assert any(patch.get_hatch() for patch in equity.patches)


def test_an_account_that_stays_above_zero_has_no_impossible_region():
    figure = overview(run(Stubborn, {"BTCUSDT": frame([CALM] * 5)}, baseline=True))
    assert IMPOSSIBLE not in words_of(figure)


def test_a_fortune_bends_the_scale_and_the_title_says_so(died_once):
    assert overview(died_once).axes[1].get_yscale() == "symlog"
    assert "Equity, log scale above 1,000" in words_of(overview(died_once))


def test_liquidations_that_stand_close_together_are_shown_again_enlarged(died_often):
    times = died_often.liquidations["time"]
    span = died_often.equity.index[-1] - died_often.equity.index[0]
    assert len(times) >= 3
    assert times.iloc[-1] - times.iloc[0] < CROWDED * span
    figure = overview(died_often)
    assert deaths_of(figure) == [len(times)] * 3
    assert any(word.startswith(f"LIQUIDATED {len(times)} TIMES") for word in words_of(figure))


def test_a_note_a_title_and_every_flag_are_written(died_once):
    words = words_of(overview(died_once, title="My run", note="A note"))
    assert "My run" in words
    assert fill("; ".join(["A note", *died_once.summary["flags"]]), 195) in words
    assert any("UTC" in word for word in words)
    assert overview(died_once).axes[1].get_xlabel() == "2024, UTC"


def test_a_long_wait_for_the_first_order_is_left_out():
    class Patient(bt.Strategy):
        def next(self):
            if len(self) == 900:
                self.buy()

    result = run(Patient, {"BTCUSDT": frame([CALM] * 1_000)})
    figure = overview(result)
    first_drawn = min(line.get_xdata()[0] for line in figure.axes[0].lines if len(line.get_xdata()) > 1)
    assert first_drawn > np.datetime64(result.equity.index[890].tz_localize(None))
    assert any("drawn from" in word for word in words_of(figure))


def test_names_of_curves_that_end_together_do_not_cover_each_other():
    figure = overview(run(Stubborn, {"BTCUSDT": frame([CALM] * 5)}, baseline=True))
    names = [text for text in figure.axes[1].texts if text.get_text().startswith(("under margin", "stock Backtrader"))]
    figure.canvas.draw()
    lower, upper = sorted((name.get_window_extent() for name in names), key=lambda box: box.y0)
    assert lower.y1 <= upper.y0


def test_thinning_keeps_both_ends_and_every_extreme():
    rng = np.random.default_rng(7)
    low = rng.normal(size=10_000)
    high = low + rng.random(10_000)
    rows = kept_rows(low, high, steps=100)
    assert len(rows) <= 2 * 100 + 2
    assert {0, 9_999, low.argmin(), high.argmax()} <= set(rows)
    for step in range(100):
        chosen = [row for row in rows if step * 100 <= row < (step + 1) * 100]
        assert low[chosen].min() == low[step * 100 : (step + 1) * 100].min()
        assert high[chosen].max() == high[step * 100 : (step + 1) * 100].max()


def test_short_series_are_drawn_whole():
    assert list(kept_rows(np.arange(5.0), np.arange(5.0))) == [0, 1, 2, 3, 4]


def test_drawing_changes_nothing_global(died_once, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    before = settings()
    overview(died_once).savefig(tmp_path / "picture.png")
    assert settings() == before
    assert "matplotlib.pyplot" not in sys.modules
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
