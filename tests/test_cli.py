"""The command line prints for people and machines, and refuses wrong use with one sentence and exit code 2."""

import json
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import backtrader as bt
import pytest
from matplotlib.figure import Figure
from playing import frame

from bt_margin import cli, plots
from bt_margin.backtest import run
from bt_margin.result import Result

is_installed = find_spec("bt_margin.data") is not None and find_spec("bt_margin.strategies") is not None


class Stubborn(bt.Strategy):
    def next(self):
        if not self.position:
            self.buy()


def said(capsys: pytest.CaptureFixture, *arguments: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of a command."""
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    printed = capsys.readouterr()
    return ended.value.code or 0, printed.out, printed.err


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put in the place of the demo a run of 8 bars, each but the first with a liquidation, and an empty picture."""
    prices = [100 * 0.9**step for step in range(8)]
    falls = [(now, now, now * 0.88, now * 0.9) for now in prices]
    terms = {"leverage": 20, "margin_mode": "isolated", "cash": 1_000, "sizer": 9, "baseline": True}
    monkeypatch.setattr(cli, "_demo_result", lambda: run(Stubborn, {"BTCUSDT": frame(falls)}, **terms))
    monkeypatch.setattr(plots, "overview", lambda *_, **__: Figure(figsize=(1, 1)))


@pytest.fixture(scope="module")
def demo_result() -> Result:
    """The demo's own run, made once."""
    if not is_installed:
        pytest.skip("the demo's candles come with the installed package: pip install -e .")
    return cli._demo_result()


def test_the_demo_tells_its_story(capsys, tmp_path, monkeypatch, demo_result):
    monkeypatch.setattr(cli, "_demo_result", lambda: demo_result)
    code, out, _ = said(capsys, "demo", "--out", str(tmp_path / "new" / "folder"), "--json")
    whole = json.loads(out)
    picture = tmp_path / "new" / "folder" / cli.DEMO_PICTURE
    assert code == 0
    assert whole["summary"]["liquidations"] == len(whole["liquidations"]) >= 5
    assert whole["summary"]["total_return"] < -0.9
    assert whole["summary"]["final_equity"] > 0
    assert whole["summary"]["journal_imbalance"] < 1e-12
    assert "constant funding: BTCUSDT" in whole["summary"]["flags"]
    assert "mark from last: BTCUSDT" in whole["summary"]["flags"]
    assert whole["picture"] == str(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_demo_makes_stock_backtrader_sink_below_zero_and_recover(demo_result):
    assert demo_result.baseline.min() < -0.3 * 10_000
    assert demo_result.baseline.iloc[-1] > 3 * 10_000
    assert demo_result.equity["lowest_equity"].min() >= 0


@pytest.mark.usefixtures("small_demo")
def test_the_table_sets_claim_and_truth_side_by_side(capsys, tmp_path):
    code, out, _ = said(capsys, "demo", "--out", str(tmp_path))
    assert code == 0
    lines = out.splitlines()
    final = next(line for line in lines if "final equity" in line)
    assert len([cell for cell in final.split("│") if cell.strip()]) == 3
    assert any(line.startswith("Liquidations (7)") for line in lines)
    assert sum("certain" in line for line in lines) == cli.SHOWN
    assert "and 2 more" in out
    assert "spot prices stand in for last and mark price" in out.replace("\n", " ")
    assert "mark from last: BTCUSDT" in out
    assert str(tmp_path / cli.DEMO_PICTURE) in out


@pytest.mark.usefixtures("small_demo")
def test_json_is_all_that_goes_to_stdout(capsys, tmp_path):
    code, out, _ = said(capsys, "demo", "--json", "--out", str(tmp_path))
    assert code == 0
    assert set(json.loads(out)) == {"summary", "liquidations", "picture"}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("demo", "--nope"), "--nope"),
        (("dance",), "dance"),
        (("demo", "--out"), "--out"),
    ],
)
def test_a_command_line_that_is_none_is_one_sentence_and_code_2(capsys, arguments, word):
    code, out, err = said(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("bt-margin: ")
    assert word in err


def test_a_folder_that_cannot_be_is_one_sentence_and_code_2(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err = said(capsys, "demo", "--out", str(tmp_path / "file"))
    assert (code, out) == (2, "")
    assert err == f"bt-margin: --out {tmp_path / 'file'} is no folder to write to (File exists); name one that is\n"


@pytest.mark.usefixtures("small_demo")
def test_a_picture_that_cannot_be_written_is_one_sentence_and_code_2(capsys, tmp_path):
    (tmp_path / cli.DEMO_PICTURE).mkdir()
    code, out, err = said(capsys, "demo", "--out", str(tmp_path))
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].endswith("(Is a directory); name another folder with --out")


def test_bad_input_found_by_the_run_is_one_sentence_and_code_2(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "_demo_result", lambda: run(Stubborn, {"BTCUSDT": frame([(1, 1, 1, 1)] * 2)}, leverage=0))
    code, out, err = said(capsys, "demo", "--out", str(tmp_path))
    assert (code, out) == (2, "")
    assert "leverage is a finite number of 1 or more" in err


def test_a_checkout_that_is_not_installed_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "bt_margin.data", None)
    with pytest.raises(ValueError, match=r"run 'pip install \.' first"):
        cli._shipped("data")


def test_an_interrupted_command_ends_with_130(capsys, tmp_path, monkeypatch):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_demo_result", interrupted)
    assert said(capsys, "demo", "--out", str(tmp_path))[0] == 130


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_lists_the_commands(capsys, arguments):
    code, out, err = said(capsys, *arguments)
    assert (code, err) == (0, "")
    assert "demo" in out


def test_python_dash_m_is_the_command(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bt_margin", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("bt_margin", run_name="__main__")
    assert not ended.value.code
    assert "bt-margin" in capsys.readouterr().out


@pytest.mark.usefixtures("small_demo")
def test_nothing_is_written_but_where_it_was_asked(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said(capsys, "demo")[0] == 0
    assert list(Path().iterdir()) == [Path(cli.DEMO_PICTURE)]
