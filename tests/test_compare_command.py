"""``bt-margin compare``: what it prints and keeps, and its one-sentence errors."""

import json
from pathlib import Path

import lab_strategies
import numpy as np
import pandas as pd
import pytest

from bt_margin.cli import Trial, main
from bt_margin.laboratory import PICTURES
from bt_margin.loading import listed_from, values_from
from bt_margin.sweep import Stopped

STRATEGIES = str(Path(lab_strategies.__file__))


@pytest.fixture
def bars(tmp_path) -> str:
    """A CSV of ten days of hours."""
    random = np.random.default_rng(1)
    closes = 30_000 * np.exp(np.cumsum(random.normal(0, 0.006, 240)))
    opens = np.concatenate([[30_000], closes[:-1]])
    index = pd.date_range("2024-01-01", periods=240, freq="h", name="datetime", tz="UTC")
    columns = {"open": opens, "high": np.maximum(opens, closes), "low": np.minimum(opens, closes), "close": closes}
    path = tmp_path / "BTCUSDT-1h.csv"
    pd.DataFrame(columns, index=index).to_csv(path)
    return str(path)


def command(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["compare", *words])
    return int(ended.value.code or 0)


def test_a_comparison_is_printed_ranked_and_kept(bars, tmp_path, capsys):
    out = tmp_path / "out"
    words = (f"{STRATEGIES}:Flips", bars, "--sizer", "0.1", "--sizer", "equity:fraction=2", "--leverage", "2,20x", "--param", "fast=2,4")
    options = ("--margin-mode", "cross,isolated", "--paths", "2", "--seed", "3", "--backend", "serial", "--out", str(out))
    assert command(*words, *options) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "Flips on BTCUSDT, 2024-01-01 to 2024-01-11 UTC: 16 combinations on the history and 2 bootstrap paths" in printed.out
    assert "seed 3" in printed.out
    assert "20x isolated" in printed.out
    assert f"Wrote {out / 'table.csv'}" in printed.out
    table = pd.read_csv(out / "table.csv")
    assert len(table) == 16
    assert table["fast"].nunique() == 2
    kept = json.loads((out / "comparison.json").read_text())["settings"]["command"]
    assert kept.startswith("bt-margin compare ")
    assert "--seed 3" in kept

    assert command(*words, *options) == 2  # what is there is not done again unasked
    assert "continue it with --resume, or name another folder" in capsys.readouterr().err
    assert command(*words, *options, "--resume") == 0
    assert pd.read_csv(out / "table.csv").equals(table)


def test_json_has_the_table_and_what_was_asked(bars, capsys):
    split = ("--split", "2024-01-06", "--paths", "1", "--block", "1d", "--backend", "serial", "--json")
    assert command(f"{STRATEGIES}:Holds", bars, "--sizer", "0.05", "--leverage", "300,2", *split) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["combinations"] == 2
    assert told["settings"]["block"] == 24
    assert [row["leverage"] for row in told["table"]] == [2, 300]
    assert [row["id"] for row in told["test"]] == [1, 0]
    assert told["table"][1]["wealth_50"] is None
    assert "leverage 300 is not possible" in told["errors"][0]["error"]
    assert told["files"] == []


def test_orders_as_the_strategy_sizes_them_are_a_rule_too(bars, capsys):
    assert command(f"{STRATEGIES}:Rests", bars, "--sizer", "none", "--sizer", "0.1", "--backend", "serial", "--json") == 0
    assert {row["rule"] for row in json.loads(capsys.readouterr().out)["table"]} == {"as the strategy sizes", "size 0.1"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--leverage", "two"), "--leverage takes numbers such as 2,5,10, was 'two'"),
        (("--leverage", "0.5"), "leverages are numbers of 1 or more"),
        (("--margin-mode", "both"), "margin_modes are 'cross' or 'isolated', one was 'both'"),
        (("--venue", "binance-coinm"), "--cash is coins at binance-coinm"),
        (("--param", "fast=2,x"), "--param fast is a whole number, as its default 3 is; was 'x'"),
        (("--param", "quick=2"), "Flips has no parameter quick"),
        (("--sizer", "nothing"), "--sizer nothing is no number and no sizer"),
        (("--paths", "-1"), "paths is a whole number of 0 or more, was -1"),
        (("--block", "soon"), "block is a number of bars, or a time such as 48h or 3d"),
        (("--split", "2030-01-01"), "leaves BTCUSDT no bar on one side"),
        (("--resume",), "--resume goes on with what a folder holds; name it as --out DIR"),
        (("--backend", "dask"), "--backend dask takes --scheduler tcp://host:port"),
        (("--engine", "replay"), "engine is one of loop; was 'replay'"),
        (("--fee", "5"), "--fee 5 is more than"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_2(bars, capsys, words, said):
    assert command(f"{STRATEGIES}:Flips", bars, *words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert said in printed.err


def test_candles_are_needed(capsys):
    assert command(f"{STRATEGIES}:Flips") == 2
    assert "a comparison needs candles" in capsys.readouterr().err


@pytest.mark.parametrize("is_kept", [True, False])
def test_ctrl_c_says_what_is_kept_and_how_to_go_on(bars, tmp_path, capsys, monkeypatch, is_kept):
    def stop(self, **_):
        raise Stopped(f"stopped with 1 of 2 jobs are done and kept in {self.folder}; the same command with resume=True does the rest")

    monkeypatch.setattr("bt_margin.comparison.Sweep.run", stop)
    assert command(f"{STRATEGIES}:Flips", bars, *(("--out", str(tmp_path / "out")) if is_kept else ())) == 130
    told = capsys.readouterr().err
    assert ("the same command with --resume does the rest" in told) == is_kept
    assert ("nothing was kept; --out DIR keeps results" in told) != is_kept


def test_a_trial_knows_its_command():
    trial = Trial("a.py", ["BTCUSDT=x y.csv"], ["0.1", "risk:fraction=1%"], leverage="2,5", paths=10)
    words = "--data 'BTCUSDT=x y.csv' --sizer 0.1 --sizer risk:fraction=1% --leverage 2,5 --paths 10"
    assert trial.command() == f"bt-margin compare a.py {words}"


def test_values_are_parted_by_commas_outside_of_brackets_and_quotes():
    assert values_from(["fast=10,20", "slow=5", "mode=a,b", "pair=(1,2)", "text='a,b'", "on=true,false"]) == {
        "fast": [10, 20],
        "slow": [5],
        "mode": ["a", "b"],
        "pair": [(1, 2)],
        "text": ["a,b"],
        "on": [True, False],
    }
    assert listed_from("2, 5x", str) == ["2", "5x"]


def test_the_page_and_the_pictures_go_to_the_folder_of_the_report(bars, tmp_path, capsys):
    pytest.importorskip("plotly", reason="the report page needs the extra: pip install -e '.[report]'")
    words = (f"{STRATEGIES}:Flips", bars, "--sizer", "0.1", "--leverage", "2,20", "--paths", "2", "--backend", "serial")
    pages = tmp_path / "pages"
    assert command(*words, "--report", str(pages), "--lang", "zh") == 0
    assert {path.name for path in pages.iterdir()} == {"compare.html", *(f"{key}.png" for key in PICTURES)}
    assert f"Wrote {pages / 'compare.html'}" in capsys.readouterr().out
    page = (pages / "compare.html").read_text("utf-8")
    assert '<html lang="zh">' in page
    assert "bt-margin compare " in page
    assert command(*words, "--report", str(pages), "--lang", "xx") == 2
    assert "written in en or zh, was 'xx'" in capsys.readouterr().err


def test_without_plotly_the_pictures_are_written_and_the_page_is_said_to_lack_it(bars, tmp_path, capsys, monkeypatch):
    from bt_margin import report

    def missing() -> None:
        raise report.MissingExtraError("a report page needs plotly")

    monkeypatch.setattr(report, "check_extra", missing)
    words = (f"{STRATEGIES}:Flips", bars, "--sizer", "0.1", "--leverage", "2,20", "--backend", "serial")
    assert command(*words, "--report", str(tmp_path / "pages")) == 0
    assert "needs plotly" in capsys.readouterr().err
    assert len(list((tmp_path / "pages").iterdir())) == len(PICTURES)
