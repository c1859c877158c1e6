"""``bt-margin ladder`` and ``--scaler``: a scheme before the trade, and in a run."""

import json
from pathlib import Path

import pytest
from playing import frame

from bt_margin import cli
from bt_margin.loading import scaler_from
from bt_margin.scalers import Funnel, MarginTopUp, Pyramid, Rectangle, Turtle, ladder_table

LONG = ("--side", "long", "--entry", "100", "--size", "10", "--wallet", "400", "--venue", "generic", "--symbol", "AUSDT")
BUYER = """
import backtrader as bt


class Buyer(bt.Strategy):
    def next(self):
        if len(self) == 1:
            self.buy(size=10)
"""


def said(capsys: pytest.CaptureFixture, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    printed = capsys.readouterr()
    return ended.value.code or 0, printed.out, printed.err


def test_a_ladder_is_printed_rung_by_rung(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    code, out, _ = said(capsys, "ladder", "rectangle:n=2,share=0.5,step=0.1", *LONG, "--leverage", "5", "--maintenance-rate", "0.01")
    assert code == 0
    assert "Rectangle, long AUSDT at 5x cross" in out
    # 400 + 10 (P - 95) = 0.1 P
    assert "55.5556" in out


def test_a_rung_that_is_refused_is_told_with_the_reason(capsys):
    _, out, _ = said(capsys, "ladder", "Rectangle:n=2,share=0.5,step=0.1", *LONG)
    assert "Rung 1 is not placed: AUSDT: opening 5 at 100 with 1x needs 500, available is 400; lower the size to 4 or less." in out


def test_json_has_every_figure(capsys):
    _, out, _ = said(capsys, "ladder", "Turtle", *LONG, "--leverage", "20", "--atr", "2", "--json")
    told = json.loads(out)
    same = ladder_table(Turtle(), side="long", entry_price=100, size=10, wallet=400, leverage=20, venue=None, symbol="AUSDT", atr=2.0)
    assert told["heading"] == same.heading
    assert [rung["price"] for rung in told["rungs"]] == [100, 101, 102, 103]
    assert [rung["liquidation_price"] for rung in told["rungs"]] == [row.liquidation_price for row in same.rows]


@pytest.mark.parametrize(
    ("scaler", "sentence"),
    [
        ("Circle", "--scaler Circle names no scaler; known are Rectangle, Funnel, Pyramid"),
        ("Turtle:n=3", "Turtle has no parameter n; it has units, step, stop"),
        ("Funnel:shares=1/x", "--scaler: a row of numbers is written 0.5/0.3/0.2, was '1/x'"),
        ("Rectangle:n=0", "n of a Rectangle is a whole number from 1 on, was 0"),
        ("Rectangle:step=wide", "Rectangle: a step is a number above 0, was 'wide'"),
        ("Turtle", "give atr"),
        ("MarginTopUp:within=0.05,amount=1", "MarginTopUp has no rungs"),
        ("MarginTopUp", "MarginTopUp needs within"),
    ],
)
def test_a_scaler_that_is_none_is_one_sentence(capsys, scaler, sentence):
    code, out, err = said(capsys, "ladder", scaler, *LONG)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


def test_a_run_trades_by_the_scalers_it_is_given(capsys, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("buyer.py").write_text(BUYER)
    frame([(100, 100, 100, 100)] * 3 + [(100, 100, 89, 89)] * 2).to_csv("BTCUSDT-1h.csv", index_label="datetime")
    options = ["--data", "BTCUSDT-1h.csv", "--leverage", "5", "--margin-mode", "isolated", "--json", "--out", "out"]
    scalers = ["--scaler", "Rectangle:n=2,share=0.5,step=0.1", "--scaler", "MarginTopUp:within=0.15,amount=20"]
    code, _, _ = said(capsys, "run", "buyer.py", *options, *scalers)
    settings = json.loads(Path("out/summary.json").read_text())["settings"]
    assert code == 0
    assert settings["scaler"][0] == repr(Rectangle(n=2, share=0.5, step=0.1))
    assert Path("out/fills.csv").read_text().count("BTCUSDT") == 2


def test_a_run_prints_its_first_ladder_before_the_trade_and_no_other(capsys, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("buyer.py").write_text(
        BUYER.replace("if len(self) == 1:", "if len(self) in (1, 4):").replace("self.buy", "self.close() or self.buy")
    )
    frame([(100, 100, 100, 100)] * 8).to_csv("BTCUSDT-1h.csv", index_label="datetime")
    options = ["--data", "BTCUSDT-1h.csv", "--venue", "generic", "--leverage", "5", "--scaler", "Rectangle:n=2,share=0.5,step=0.1"]
    code, out, _ = said(capsys, "run", "buyer.py", *options)
    assert code == 0
    assert out.count("Rectangle, long BTCUSDT at 5x cross") == 1
    assert out.index("Rectangle, long BTCUSDT") < out.index("final equity")


def test_a_comparison_trades_by_its_scaler(capsys, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("buyer.py").write_text(BUYER)
    frame([(100, 100, 100, 100)] * 3 + [(100, 100, 89, 95)] * 2).to_csv("BTCUSDT-1h.csv", index_label="datetime")
    options = ["--data", "BTCUSDT-1h.csv", "--venue", "generic", "--leverage", "5", "--fee", "0", "--backend", "serial", "--json"]
    tables = [
        json.loads(said(capsys, "compare", "buyer.py", *options, *scaler)[1])["table"]
        for scaler in ([], ["--scaler", "Rectangle:n=2,share=0.5,step=0.1"])
    ]
    # ten at 100 and a close of 95 lose 50; five at 100 and five at 90 neither lose nor gain
    assert [rows[0]["wealth_50"] for rows in tables] == pytest.approx([1 - 50 / 10_000, 1.0])


def test_a_plan_says_its_scalers_again():
    plan = cli.Plan("buyer.py", ["BTCUSDT-1h.csv"], scaler=["Turtle", "MarginTopUp:within=0.1,amount=5"])
    assert plan.command().endswith("--scaler Turtle --scaler MarginTopUp:within=0.1,amount=5")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Rectangle:step=3%", Rectangle(step=0.03)),
        ("Funnel:shares=15%/25%/40%", Funnel()),
        ("Pyramid:atr_period=none,step=2%,stop=4%", Pyramid(atr_period=None, step=0.02, stop=0.04)),
        ("MarginTopUp:within=5%,to=10%", MarginTopUp(within=0.05, to=0.1)),
    ],
)
def test_a_fraction_of_a_scaler_may_be_written_in_percent(text, expected):
    assert scaler_from(text) == expected


@pytest.mark.parametrize("text", ["Pyramid:stop=2%", "Turtle:step=1%", "Rectangle:step=2%,atr_period=20"])
def test_a_percentage_of_the_price_is_no_multiple_of_a_range(text):
    with pytest.raises(ValueError, match=r"counts average true ranges of 20 bars, was \d%; give a number, or say atr_period=none"):
        scaler_from(text)
