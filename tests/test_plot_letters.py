"""Names in any script: drawn where a font has their letters, told apart where none has, and never a warning."""

import sys

import backtrader as bt
import matplotlib as mpl
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from looking import Stubborn, settings, words_of
from matplotlib.font_manager import fontManager
from matplotlib.text import Text
from playing import CALM, frame

from bt_margin import PerpData, plot, plots
from bt_margin.backtest import run
from bt_margin.plots import compare, drawing, equity, overview, page
from bt_margin.plots.drawing import DOT, legible, lettering

CHINESE, SYMBOL = "\u53cc\u5747\u7ebf", "\u6bd4\u7279USDT"
EXPLAINED = f"each {DOT} is a letter that none of the installed fonts has"


@pytest.fixture(scope="module")
def result():
    strategy = type(CHINESE, (Stubborn,), {"params": (("\u5feb", 5),)})
    setattr(sys.modules[__name__], CHINESE, strategy)
    crash = [CALM] * 3 + [(100, 100, 40, 60)] + [(60, 70, 50, 60)] * 3
    return run(strategy, {SYMBOL: frame(crash)}, venue="generic", leverage=10, cash=1_000, sizer=50, baseline=True)


@pytest.fixture
def tell_no_font(monkeypatch):
    monkeypatch.setattr(drawing, "FONTS", ())


@pytest.fixture
def one_font(monkeypatch, tmp_path):
    """Install a font of our own, with the letters of CHINESE and SYMBOL and the capitals, and nothing else; return its name."""
    letters = sorted({*CHINESE, *SYMBOL, "\u5feb", *map(chr, range(65, 91))})
    pen = TTGlyphPen(None)
    for number, corner in enumerate([(50, 0), (50, 700), (650, 700), (650, 0)]):
        (pen.lineTo if number else pen.moveTo)(corner)
    pen.closePath()
    names = {ord(letter): f"uni{ord(letter):04X}" for letter in letters}
    order = [".notdef", *names.values()]
    builder = FontBuilder(1_000, isTTF=True)
    builder.setupGlyphOrder(order)
    builder.setupCharacterMap(names)
    builder.setupGlyf(dict.fromkeys(order, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(order, (700, 50)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Bold"})
    builder.setupOS2(usWeightClass=700)
    builder.setupPost()
    builder.save(tmp_path / "squares.ttf")
    monkeypatch.delenv("MPL_IGNORE_SYSTEM_FONTS")
    monkeypatch.setattr(fontManager, "ttflist", list(fontManager.ttflist))
    fontManager.addfont(tmp_path / "squares.ttf")
    return "Squares"


def drawn_whole(figure) -> list[str]:
    """Draw a figure, which raises where a glyph is missing, and return its words."""
    figure.canvas.draw()
    return words_of(figure)


@pytest.mark.parametrize("picture", ["overview", "equity", "page"])
def test_letters_of_an_installed_font_are_drawn(picture, result, one_font, monkeypatch):
    monkeypatch.setattr(drawing, "FONTS", (one_font,))
    words = drawn_whole(getattr(plots, picture)(result, title=CHINESE, note=CHINESE))
    assert CHINESE in words
    assert any(word.startswith(f"{CHINESE}(\u5feb=5) on {SYMBOL}") for word in words)
    assert not any(DOT in word for word in words)


@pytest.mark.parametrize("picture", ["overview", "equity", "page"])
def test_letters_that_no_font_has_are_dots_and_the_footnote_says_so(picture, result, tell_no_font):
    words = drawn_whole(getattr(plots, picture)(result))
    assert any(word.startswith(f"{DOT * 3}({DOT}=5) on {DOT * 2}USDT") for word in words)
    assert any(word.startswith(EXPLAINED) for word in words)


def test_labels_that_no_font_can_tell_apart_are_numbered(result, tell_no_font):
    figure = compare({CHINESE: result, "\u5510\u5947\u5b89": result, "plain": result})
    words = drawn_whole(figure)
    assert [panel.get_title("left") for panel in figure.axes] == [f"{DOT * 3} (1)", f"{DOT * 3} (2)", "plain"]
    assert any(word.startswith(EXPLAINED) for word in words)


def test_a_comparison_draws_letters_of_an_installed_font(result, one_font, monkeypatch):
    monkeypatch.setattr(drawing, "FONTS", (one_font,))
    words = drawn_whole(compare({CHINESE: result, "plain": result}))
    assert {CHINESE, f"1  {CHINESE}"} <= set(words)


def test_a_font_of_the_user_that_lacks_our_signs_is_helped_out(result, one_font, tell_no_font):
    with mpl.rc_context({"font.family": [one_font]}):
        figures = [overview(result), equity(result), page(result), compare([result])]
        for figure in figures:
            assert not any(DOT in word for word in drawn_whole(figure))
        assert mpl.rcParams["font.family"] == [one_font]


@pytest.mark.usefixtures("tell_no_font")
def test_the_hosts_plot_of_a_strategy_in_any_script_has_dots_and_no_warning():
    cerebro = bt.Cerebro()
    cerebro.adddata(PerpData(dataname=frame([CALM] * 12), name=SYMBOL))
    strategy = type(CHINESE, (Stubborn,), {"__init__": lambda strategy: setattr(strategy, "mean", bt.ind.SMA(period=3, plotname=CHINESE))})
    setattr(sys.modules[__name__], CHINESE, strategy)
    cerebro.addstrategy(strategy)
    cerebro.run()
    ((figure,),) = plot(cerebro)
    figure.canvas.draw()  # where matplotlib would warn of a letter
    words = " ".join(text.get_text() for text in figure.findobj(Text))
    assert DOT * 2 + "USDT" in words
    assert DOT * 3 in words
    assert not any(letter in words for letter in CHINESE + SYMBOL[:2])


def test_a_font_without_a_bold_face_gives_way_to_one_with(monkeypatch, one_font):
    plain = next(font.name for font in fontManager.ttflist if font.name == "cmr10")
    monkeypatch.setattr(drawing, "FONTS", (plain, one_font))
    with lettering():
        assert mpl.rcParams["font.family"][-1] == one_font
    monkeypatch.setattr(drawing, "FONTS", (plain,))
    with lettering():
        assert mpl.rcParams["font.family"][-1] == plain


def test_text_that_can_be_drawn_is_left_as_it_is(tell_no_font):
    before = settings()
    with lettering():
        assert [legible(text) for text in ("plain", "two\nlines", "caf\u00e9 \u2716 \u2212", "tab\there")] == [
            "plain", "two\nlines", "caf\u00e9 \u2716 \u2212", f"tab{DOT}here",
        ]  # fmt: skip
    assert settings() == before
