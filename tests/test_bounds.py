"""Both ends of what bars hide: the runs by the best and by the worst path, in results, pictures, tables and on the command line."""

import json
from pathlib import Path

import backtrader as bt
import pandas as pd
import pytest
from looking import words_of
from matplotlib.colors import to_rgb
from playing import CALM, frame

from bt_margin import cli, run
from bt_margin.plots import pages
from bt_margin.plots.drawing import GREEN
from bt_margin.tables import summary_table

SWING, AFTER = (100, 106, 94, 100), (100, 120, 100, 120)


class Pair(bt.Strategy):
    """Buys 10 of the first contract and sells 10 of the second, once."""

    def next(self):
        if len(self) == 1:
            self.buy(self.datas[0], size=10)
            self.sell(self.datas[1], size=10)


def result(**terms):
    """A swing of 6 % costs 120 of 100 where it meets; then the long gains 200 and the short stays."""
    candles = {"AAA": frame([CALM, CALM, SWING, AFTER]), "BBB": frame([CALM, CALM, SWING, CALM])}
    given = {"venue": None, "leverage": 50, "cash": 110, "bounds": True, **terms}
    return run(Pair, candles, **given)


def test_bounds_are_the_same_run_by_the_favourable_and_the_worst_path():
    whole = result()
    assert whole.bounds.liquidations == (0, 2)
    assert whole.summary["liquidations"] == 0
    alone = result(bounds=False, intrabar="worst")
    assert alone.bounds is None
    assert whole.bounds.worst.summary == alone.summary
    assert (whole.bounds.best.settings["intrabar"], whole.bounds.worst.settings["intrabar"]) == ("favourable", "worst")
    assert whole.bounds.equity["best"].tolist() == [110, 110, 110, 310]
    assert whole.bounds.equity["worst"].tolist() == alone.equity["equity"].tolist()
    assert whole.bounds.equity["worst"].iloc[-1] < 110


def test_an_end_that_stops_early_stands_at_its_last_equity():
    whole = result(on_liquidation="stop")
    assert len(whole.bounds.worst.equity) == 3
    shares: list[float] = []
    result(intrabar="worst", on_liquidation="stop", progress=shares.append)
    assert shares == sorted(shares), "a run that stopped counts as done"
    assert whole.bounds.equity["worst"].iloc[-1] == whole.bounds.worst.equity["equity"].iloc[-1]


def test_progress_counts_all_runs_and_half_a_band_is_none():
    shares: list[float] = []
    whole = result(baseline=True, progress=shares.append)
    assert whole.bounds is not None
    assert (shares == sorted(shares), shares[-1]) == (True, 1.0)
    assert len(shares) == 4 * 4
    cut = result(progress=lambda share: share < 0.8)
    assert cut.bounds is None
    assert not cut.ended_early


def test_json_has_both_ends():
    told = json.loads(result().to_json())["bounds"]
    assert told["worst"]["summary"]["liquidations"] == 2
    assert told["best"]["equity"]["equity"] == [110, 110, 110, 310]
    assert json.loads(result(bounds=False).to_json())["bounds"] is None


def test_the_table_has_a_row_of_both_ends():
    whole = result()
    rows = list(zip(*(column.cells for column in summary_table(whole).columns), strict=True))
    assert ("equity by best, worst path", f"310.00, {whole.bounds.worst.summary['final_equity']:,.2f}") in rows
    assert ("liquidations there", "0, 2") in rows
    assert "liquidations there" not in list(summary_table(result(bounds=False)).columns[0].cells)


def bands(panel):
    """Return the heights between which a panel is shaded in the colour of the band."""
    found = [shape for shape in panel.collections if len(shape.get_facecolor()) and tuple(shape.get_facecolor()[0][:3]) == to_rgb(GREEN)]
    return [(path.vertices[:, 1].min(), path.vertices[:, 1].max()) for shape in found for path in shape.get_paths()]


@pytest.mark.parametrize(("name", "place"), [("overview", 1), ("page", 1), ("equity", 0)])
def test_the_band_between_both_ends_is_shaded_and_named(name, place):
    whole = result()
    figure = getattr(pages, name)(whole)
    figure.canvas.draw()
    panel = figure.axes[place]
    assert bands(panel) == [(pytest.approx(whole.bounds.equity.min().min()), 310)]
    assert "▒ best to worst path" in words_of(figure)
    keys = [text for text in panel.texts if text.get_text() == "▒ best to worst path"]
    assert max(text.get_window_extent().x1 for text in keys) <= figure.bbox.x1
    assert bands(getattr(pages, name)(result(bounds=False)).axes[place]) == []


STUBBORN = """
import backtrader as bt


class Stubborn(bt.Strategy):
    def next(self):
        if len(self) == 1:
            self.buy()
            self.sell(exectype=bt.Order.Limit, price=105)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    frame([CALM, CALM, (100, 106, 80, 99)]).to_csv(tmp_path / "BTCUSDT-1h.csv", index_label="datetime")
    rows = [(100, 106, 100, 104), (104, 104, 98, 98), (98, 98, 80, 85), (85, 99, 85, 99)]
    frame(rows, start="2024-01-01 03:00", freq="15min").to_csv(tmp_path / "BTCUSDT-15m.csv", index_label="datetime")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys, *options: str) -> tuple[int, str, str]:
    terms = ("--venue", "generic", "--leverage", "10", "--margin-mode", "isolated", "--sizer", "1")
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "stubborn.py", "--data", "BTCUSDT-1h.csv", *terms, *options])
    printed = capsys.readouterr()
    return ended.value.code or 0, printed.out, printed.err


@pytest.mark.usefixtures("folder")
def test_the_command_line_runs_both_ends(capsys):
    code, out, _ = said(capsys, "--bounds", "--json", "--out", "o")
    told = json.loads(out)
    assert code == 0
    assert told["bounds"]["best"] == {"final_equity": 10_005.0, "lowest_equity": told["bounds"]["best"]["lowest_equity"], "liquidations": 0}
    assert told["bounds"]["worst"]["liquidations"] == told["summary"]["liquidations"] == 1
    assert told["summary"]["ambiguous"] == 1
    assert pd.read_csv("o/bounds.csv").columns.tolist() == ["time", "best", "worst"]
    assert "liquidations there" in said(capsys, "--bounds")[1]
    assert "bounds" not in json.loads(said(capsys, "--json")[1])


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("option", ["BTCUSDT-15m.csv", "BTCUSDT=BTCUSDT-15m.csv"])
def test_the_command_line_reads_detail(capsys, option):
    code, out, _ = said(capsys, "--detail", option, "--json", "--bounds")
    summary = json.loads(out)["summary"]
    assert (code, summary["liquidations"], summary["ambiguous"], summary["detailed"]) == (0, 0, 0, 1)
    assert json.loads(out)["bounds"]["worst"]["liquidations"] == 0


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--detail", "ETHUSDT=x.csv"), "--detail names ETHUSDT, but --data has BTCUSDT"),
        (("--detail", "nowhere.csv"), "detail file 'nowhere.csv' does not exist"),
        (("--detail", "BTCUSDT-15m.csv", "--intrabar", "close"), "intrabar='close' looks inside no bar"),
    ],
)
def test_wrong_detail_is_one_sentence_and_code_2(capsys, options, word):
    code, _, err = said(capsys, *options)
    assert (code, err.count("\n")) == (2, 1)
    assert word in err
