"""The command line prints for people and machines, and refuses wrong use with one sentence and exit code 2."""

import gzip
import json
import os
import runpy
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

import backtrader as bt
import pandas as pd
import pytest
from matplotlib.figure import Figure
from playing import CALM, frame

import bt_margin as bm
from bt_margin import cli, plots
from bt_margin.tables import spark_line

is_installed = find_spec("bt_margin.data") is not None and find_spec("bt_margin.strategies") is not None

STUBBORN = """
import backtrader as bt


class Stubborn(bt.Strategy):
    params = (("wait", 0),)

    def next(self):
        if not self.position and len(self) > self.p.wait:
            self.buy()
"""
PRICES = [100 * 0.9**step for step in range(8)]
FALLS = frame([(now, now, now * 0.88, now * 0.9) for now in PRICES])  # each bar but the first kills a 20x long
FLAT = [CALM] * 12


def said(capsys: pytest.CaptureFixture, *arguments: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of a command."""
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return ended.value.code or 0, printed.out, printed.err


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder to work in: a strategy, candles that fall, candles that do not."""
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    FALLS.to_csv(tmp_path / "BTCUSDT-1h.csv", index_label="datetime")
    frame(FLAT).to_csv(tmp_path / "ETHUSDT_1h.csv", index_label="datetime")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def small_demo(folder, monkeypatch) -> None:
    """Put in the place of the demo a run of 8 bars, each but the first with a liquidation, and an empty picture."""
    plan = cli.Plan(
        "stubborn.py", ["BTCUSDT-1h.csv"], leverage="20", margin_mode="isolated", cash=1_000, sizer="9", baseline=True, funding=["0.0001"]
    )
    monkeypatch.setattr(cli, "demo_plan", lambda: plan)
    monkeypatch.setattr(plots, "overview", lambda *_, **__: Figure(figsize=(1, 1)))


# -- demo ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not is_installed, reason="the demo's candles come with the installed package: pip install -e .")
def test_the_demo_tells_its_story_and_the_command_it_names_is_the_same_run(capsys, tmp_path):
    code, out, _ = said(capsys, "demo", "--out", tmp_path / "new" / "folder", "--json")
    whole = json.loads(out)
    picture = tmp_path / "new" / "folder" / cli.DEMO_PICTURE
    assert code == 0
    assert whole["summary"]["liquidations"] == len(whole["liquidations"]) >= 5
    assert whole["summary"]["total_return"] < -0.9
    assert whole["summary"]["final_equity"] > 0
    assert whole["summary"]["journal_imbalance"] < 1e-12
    assert "constant funding of 0.0001 per 8 h: BTCUSDT" in whole["summary"]["flags"]
    assert "mark from last: BTCUSDT" in whole["summary"]["flags"]
    assert whole["files"] == [str(picture)]
    assert picture.read_bytes().startswith(b"\x89PNG")

    program, *arguments = shlex.split(cli.demo_plan().command())
    assert program == "bt-margin"
    code, out, _ = said(capsys, *arguments, "--json")
    assert (code, json.loads(out)["summary"]) == (0, whole["summary"])


@pytest.mark.usefixtures("small_demo")
def test_the_table_sets_claim_and_truth_side_by_side(capsys, tmp_path):
    code, out, _ = said(capsys, "demo", "--out", tmp_path)
    assert code == 0
    lines = out.splitlines()
    final = next(line for line in lines if "final equity" in line)
    assert len([cell for cell in final.split("│") if cell.strip()]) == 3
    assert any(line.startswith("Liquidations (7)") for line in lines)
    assert "all certain" in out
    assert "spot prices stand in for last and mark price" in " ".join(out.split())
    assert "mark from last: BTCUSDT" in out
    assert str(tmp_path / cli.DEMO_PICTURE) in out
    assert cli.demo_plan().command() in out


@pytest.mark.usefixtures("small_demo")
def test_json_is_all_that_goes_to_stdout(capsys, tmp_path):
    code, out, _ = said(capsys, "demo", "--json", "--out", tmp_path)
    assert code == 0
    assert set(json.loads(out)) == {"summary", "liquidations", "files", "baseline"}


@pytest.mark.usefixtures("small_demo")
def test_a_picture_that_cannot_be_written_is_one_sentence_and_code_2(capsys, tmp_path):
    (tmp_path / cli.DEMO_PICTURE).mkdir()
    code, out, err = said(capsys, "demo", "--out", tmp_path)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].endswith("(Is a directory); name another folder with --out")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.usefixtures("small_demo")
def test_nothing_is_written_but_where_it_was_asked(capsys, tmp_path, monkeypatch):
    before = set(tmp_path.rglob("*"))
    assert said(capsys, "demo")[0] == 0
    written = {path for path in set(tmp_path.rglob("*")) - before if "__pycache__" not in path.parts}
    assert written == {tmp_path / cli.DEMO_PICTURE}


def test_a_checkout_that_is_not_installed_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "bt_margin.data", None)
    with pytest.raises(ValueError, match=r"run 'pip install \.' first"):
        cli._shipped("data")


# -- run -------------------------------------------------------------------------------------------------------------


def test_a_run_prints_its_account_its_liquidations_and_what_would_have_prevented_them(capsys, folder):
    code, out, _ = said(capsys, "run", "stubborn.py", "--data", "BTCUSDT-1h.csv", "--leverage", 20, "--margin-mode", "isolated")
    assert code == 0
    assert "Stubborn(wait=0) on BTCUSDT 20x isolated, binance rules" in out
    assert "From 10,000 USDT" in out
    assert "sizes in contracts, prices and money in USDT" in " ".join(out.split())
    # bought at 90, worst 79.2: 79.2 x 0.4 % of maintenance + 10.8 lost - 4.5 of margin = 6.6168; 90 / (4.5 + 6.6168) = 8.09x
    assert "+6.62 or 8.0x" in out
    assert "eff." not in out
    assert "stock Backtrader claims" not in out
    (line,) = [line for line in out.splitlines() if line.startswith("equity ")]
    assert set(line.split()[1]) <= set("▁▂▃▄▅▆▇█")


def test_money_in_coin_is_shown_with_the_decimals_of_coin(capsys, folder):
    terms = ("--leverage", 20, "--margin-mode", "isolated", "--venue", "binance-coinm", "--cash", 2)
    _, out, _ = said(capsys, "run", "stubborn.py", "--data", "BTCUSD=BTCUSDT-1h.csv", *terms)
    assert "From 2.000000" in out
    # 100 dollars at 90, worst 79.2: 0.005051 of maintenance + 0.151515 lost - 0.055556 of margin; 1.111111 / 0.156566 = 7.09x
    assert "+0.101011 or 7.0x" in out
    assert "prices in USD, money in BTC" in " ".join(out.split())


def test_false_is_false(capsys, folder):
    Path("switch.py").write_text(
        STUBBORN.replace('(("wait", 0),)', '(("is_on", True), ("wait", 0))').replace("if not", "if self.p.is_on and not")
    )
    for text, trades in (("false", 0), ("False", 0), ("true", 1)):
        _, out, _ = said(capsys, "run", "switch.py", "--data", "ETHUSDT_1h.csv", "--param", f"is_on={text}", "--json")
        assert json.loads(out)["summary"]["open_trades"] == trades


def test_refused_orders_are_counted_and_the_first_says_why(capsys, folder):
    code, out, _ = said(capsys, "run", "stubborn.py", "--data", "BTCUSDT-1h.csv", "--cash", 50, "--out", "o")
    refusals = pd.read_csv("o/refusals.csv")
    assert code == 0
    assert len(refusals) > 1
    assert f"First refusal: {refusals['message'][0]}." in out
    assert "lower the size to" in refusals["message"][0]
    assert json.loads(Path("o/summary.json").read_text())["summary"]["orders_refused"] == len(refusals)


ISOLATED = ("run", "stubborn.py", "--data", "BTCUSDT-1h.csv", "--leverage", 20, "--margin-mode", "isolated", "--sizer", 9, "--cash", 1_000)


def test_a_liquidation_may_stop_the_run_or_be_refilled(capsys, folder):
    code, out, _ = said(capsys, *ISOLATED, "--on-liquidation", "stop", "--json")
    assert (code, json.loads(out)["summary"]["liquidations"]) == (0, 1)
    code, out, _ = said(capsys, *ISOLATED, "--on-liquidation", "refill", "--refill", 1_000, "--json")
    summary = json.loads(out)["summary"]
    assert (code, summary["refills"]) == (0, summary["liquidations"] - 1)  # the one after the last bar is in no figure
    moved = summary["refilled"] + summary["liquidation_loss"] + summary["fees"]
    assert summary["final_equity"] == pytest.approx(1_000 + moved)
    code, out, _ = said(capsys, *ISOLATED, "--on-liquidation", "refill", "--refill", 1_000)
    assert "refilled after them" in out
    code, _, err = said(capsys, *ISOLATED, "--refill", 1_000)
    assert (code, "give both or neither" in err) == (2, True)


@pytest.mark.parametrize("share", ["0.06", "6%"])
def test_warnings_are_counted_told_and_kept(capsys, folder, share):
    calm = ("run", "stubborn.py", "--data", "ETHUSDT_1h.csv", "--leverage", 20, "--margin-mode", "isolated")
    code, out, _ = said(capsys, *calm, "--warn-at", share, "--out", "o")
    warnings = pd.read_csv("o/warnings.csv")
    assert code == 0
    assert f"Warnings: {len(warnings)}, the first " in out
    assert f"ETHUSDT {warnings['distance'][0]:.2%} from its liquidation price" in out
    assert (warnings["distance"] <= 0.06).all()
    assert pd.read_csv("o/top_ups.csv").empty
    assert "Warnings: none." in said(capsys, *calm, "--warn-at", "0.1%")[1]


def test_a_share_to_warn_at_that_is_none_is_one_sentence(capsys, folder):
    code, _, err = said(capsys, *ISOLATED, "--warn-at", "near")
    assert (code, err) == (2, "bt-margin: --warn-at takes a share of the mark such as 0.05 or 5%, was 'near'\n")


def test_refused_orders_are_counted_by_their_reason(capsys, folder):
    """One at 100 is not paid by 50; a size of 0.0001 leaves no lot of 0.001."""
    Path("two.py").write_text(STUBBORN.replace("self.buy()", "self.buy(); self.buy(size=0.0001)"))
    _, out, _ = said(capsys, "run", "two.py", "--data", "BTCUSDT-1h.csv", "--cash", 50, "--out", "o")
    refusals = pd.read_csv("o/refusals.csv")
    counts = refusals["reason"].value_counts()
    assert dict(counts).keys() == {"margin", "lot"}
    row = next(line for line in out.splitlines() if "orders refused" in line)
    assert f"{len(refusals)} (" in row
    assert all(f"{reason} {count}" in row for reason, count in counts.items())


def test_an_order_that_is_not_funded_may_be_cut_and_one_off_its_lot_refused(capsys, folder):
    """One at 100 and 20x takes 5, there are 2: refused, or cut to some lots. 0.0015 is no number of lots of 0.001."""
    fills = {}
    for name, options in (("as it is", []), ("cut", ["--unfunded", "Shrink"]), ("strict", ["--filters", "REFUSE", "--sizer", "0.0015"])):
        assert said(capsys, "run", "stubborn.py", "--data", "BTCUSDT-1h.csv", "--leverage", 20, "--cash", 2, *options, "--out", "o")[0] == 0
        fills[name] = (len(pd.read_csv("o/fills.csv")), set(pd.read_csv("o/refusals.csv")["reason"]))
        settings = json.loads(Path("o/summary.json").read_text())["settings"]
        assert (settings["unfunded"], settings["filters"]) == (
            "shrink" if name == "cut" else "reject",
            "refuse" if name == "strict" else "round",
        )
    assert fills["as it is"] == (0, {"margin"})
    assert fills["cut"][0] >= 1
    assert fills["strict"] == (0, {"lot"})


def test_what_stock_backtrader_claims_is_in_the_json_and_in_a_file(capsys, folder):
    _, out, _ = said(capsys, "run", "stubborn.py", "--data", "BTCUSDT-1h.csv", "--baseline", "--json", "--out", "o")
    claim = pd.read_csv("o/baseline.csv")["baseline"]
    assert json.loads(out)["baseline"] == {"final_equity": claim.iloc[-1], "lowest_equity": claim.min()}


def test_words_are_taken_in_any_case_and_a_rate_in_percent(capsys, folder):
    options = ["--venue", "Binance", "--margin-mode", "Isolated", "--intrabar", "Favorable", "--funding", "0.01%", "--leverage", "3x"]
    code, _, _ = said(capsys, "run", "stubborn.py", "--data", "ETHUSDT_1h.csv", *options, "--out", "o")
    whole = json.loads(Path("o/summary.json").read_text())
    assert code == 0
    assert (whole["settings"]["venue"], whole["settings"]["margin_mode"]) == ("binance", {"ETHUSDT": "isolated"})
    assert (whole["settings"]["intrabar"], whole["settings"]["leverage"]) == ("favourable", {"ETHUSDT": 3})
    assert "constant funding of 0.0001 per 8 h: ETHUSDT" in whole["summary"]["flags"]


@pytest.mark.parametrize(("fee", "maker", "taker"), [("0.001", 0.001, 0.001), ("0.01%,0.03%", 0.0001, 0.0003), ("-0.0001,0", -0.0001, 0.0)])
def test_a_fee_of_ones_own_takes_the_place_of_the_venues(capsys, folder, fee, maker, taker):
    assert said(capsys, "run", "stubborn.py", "--data", "ETHUSDT_1h.csv", f"--fee={fee}", "--out", "o")[0] == 0
    fees = json.loads(Path("o/summary.json").read_text())["settings"]["fees"]["ETHUSDT"]
    assert (fees["maker"], fees["taker"], "later" in fees) == (pytest.approx(maker), pytest.approx(taker), False)
    assert pd.read_csv("o/fills.csv")["fee"].iloc[0] == pytest.approx(100 * taker)


def test_a_rate_is_charged_as_often_as_the_venue_charges(capsys, folder):
    options = ["--data", "ETH=ETHUSDT_1h.csv", "--venue", "hyperliquid", "--funding", "0.00001", "--out", "o"]
    code, _, err = said(capsys, "run", "stubborn.py", *options)
    assert (code, err) == (0, "")
    flags = json.loads(Path("o/summary.json").read_text())["summary"]["flags"]
    assert "constant funding of 1e-05 per 1 h: ETH" in flags
    assert "funding at mark, no oracle price was given: ETH" in flags
    assert len(pd.read_csv("o/funding.csv")) == 10  # twelve bars, bought at the second's open


def test_an_exchange_s_candles_are_read_by_their_opening_time(capsys, folder):
    candles = pd.read_csv("BTCUSDT-1h.csv", parse_dates=["datetime"])
    opened = candles.pop("datetime").dt.as_unit("ms").astype("int64")
    assert opened[0] == 1_704_070_800_000  # 2024-01-01 01:00 UTC, in milliseconds
    candles.assign(open_time=opened, close_time=opened + 3_599_999).to_csv("dump.csv", index=False)
    summaries = [
        json.loads(said(capsys, "run", "stubborn.py", "--data", f"BTCUSDT={name}", "--json")[1])["summary"]
        for name in ("BTCUSDT-1h.csv", "dump.csv")
    ]
    assert summaries[0] == summaries[1]


def written_as(shape: str, candles: pd.DataFrame, rates: pd.Series) -> list[object]:
    """Write candles, marks of the same prices and rates as a venue or tool does; return the options that name them."""
    opened = (candles.index.as_unit("s").astype("int64") * 1_000).tolist()
    bars = candles[["open", "high", "low", "close"]].reset_index(drop=True).assign(volume=1.5)
    rows = [[time, *bar] for time, bar in zip(opened, bars.to_numpy().tolist(), strict=True)]
    if shape == "freqtrade":
        for name, table, times in (
            ("BTC_USDT_USDT-1h-futures", bars, candles.index),
            ("BTC_USDT_USDT-1h-mark", bars.assign(volume=0.0), candles.index),
            ("BTC_USDT_USDT-8h-funding_rate", bars[: len(rates)].assign(open=rates.to_numpy(), high=0.0, low=0.0, close=0.0), rates.index),
        ):
            table.assign(volume=1.5 if "futures" in name else 0.0, date=times)[["date", *bars]].to_feather(f"{name}.feather")
        names = ("1h-futures", "1h-mark", "8h-funding_rate")
        return [
            part
            for option, name in zip(("--data", "--mark", "--funding"), names, strict=True)
            for part in (option, f"BTC_USDT_USDT-{name}.feather")
        ]
    told = [{"timestamp": int(time.timestamp() * 1_000), "fundingRate": rate} for time, rate in rates.items()]
    Path("funding.json").write_text(json.dumps(told))
    mark = {"json": "mark.json", "rows": "mark.csv", "bybit": "mark-bybit.csv", "okx": "mark-okx.csv"}[shape]
    for name, values in (("BTCUSDT." + mark.split(".")[1], rows), (mark, rows)):
        if shape == "json":
            Path(name).write_text(json.dumps(values))
        elif shape == "rows":
            pd.DataFrame(values).to_csv(name, index=False, header=False)
        elif shape == "bybit":  # the newest first
            names = ["startTime", "openPrice", "highPrice", "lowPrice", "closePrice", "volume"]
            pd.DataFrame(values[::-1], columns=names).to_csv(name, index=False)
        else:
            names = ["open_time", "open", "high", "low", "close", "vol"]
            pd.DataFrame(values, columns=names).assign(instrument_name="BTC-USDT-SWAP", confirm=1).to_csv(name, index=False)
    return ["--data", "BTCUSDT." + mark.split(".")[1], "--mark", mark, "--funding", "funding.json"]


@pytest.mark.parametrize("shape", ["freqtrade", "json", "rows", "bybit", "okx"])
def test_a_run_reads_every_shape_that_load_reads(capsys, folder, shape):
    rates = pd.Series([0.001, 0.002], pd.date_range("2024-01-01", periods=2, freq="8h", tz="UTC"))
    candles = frame([(now, now * 1.001, now * 0.999, now) for now in range(100, 112)])
    plain = candles.assign(**{f"mark_{price}": candles[price] for price in ("open", "high", "low", "close")}, volume=1.5)
    plain.to_csv("plain.csv", index_label="datetime")
    rates.rename("rate").to_csv("rates.csv", index_label="datetime")
    options = written_as(shape, candles, rates)

    told = [
        json.loads(said(capsys, "run", "stubborn.py", *asked, "--json")[1])["summary"]
        for asked in (["--data", "BTCUSDT=plain.csv", "--funding", "rates.csv"], options)
    ]

    assert told[0]["funding"] == pytest.approx(-0.002 * 107)
    assert told[1] == told[0]


def test_a_comparison_reads_every_shape_too(capsys, folder):
    candles = frame([(now, now * 1.001, now * 0.999, now) for now in range(100, 140)])
    options = written_as("json", candles, pd.Series([0.001], candles.index[:1]))

    code, out, err = said(capsys, "compare", "stubborn.py", *options, "--leverage", "1,2", "--json")

    assert code == 0, err
    assert "BTCUSDT" in out


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("BTCUSDT.json", '{"code": 404}', "BTCUSDT.json is JSON of code ..., neither candles nor funding; expected a list of rows"),
        ("BTCUSDT.feather", "ARROW1 and no more", "BTCUSDT.feather cannot be read"),
        ("BTCUSDT.xlsx", "Sheet1", "BTCUSDT.xlsx has no rows; expected candles or funding rates"),
    ],
)
def test_what_is_of_no_shape_is_refused_in_a_sentence(capsys, folder, name, text, sentence):
    Path(name).write_text(text)

    code, _, err = said(capsys, "run", "stubborn.py", "--data", name)

    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1


AT_20X = ("--leverage", 20, "--margin-mode", "isolated")
BINANCE_NAMES = (
    *("open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count"),
    *("taker_buy_volume", "taker_buy_quote_volume", "ignore"),
)


def dump_of(candles: pd.DataFrame, *, per_second: int = 1_000) -> pd.DataFrame:
    """Return hourly candles as Binance dumps them."""
    opened = (candles.index.as_unit("s").astype("int64") * per_second).to_numpy()
    prices = candles[["open", "high", "low", "close"]].reset_index(drop=True)
    dumped = prices.assign(open_time=opened, close_time=opened + 3_600 * per_second - 1, volume=1.5)
    return dumped.reindex(columns=BINANCE_NAMES, fill_value=0)


@pytest.mark.parametrize("per_second", [1_000, 1_000_000])
def test_a_dump_without_a_line_of_names_is_the_same_run_as_with_one(capsys, folder, per_second):
    dump = dump_of(FALLS, per_second=per_second)
    dump.to_csv("named.csv", index=False)
    dump.to_csv("bare.csv", index=False, header=False)
    named, bare = (said(capsys, "run", "stubborn.py", f"BTCUSDT={name}", *AT_20X, "--json") for name in ("named.csv", "bare.csv"))
    assert named == bare
    assert json.loads(bare[1])["summary"]["liquidations"] > 0


@pytest.mark.parametrize("length", ["1h", "3599.999s"])
def test_candles_stamped_at_their_close_are_the_same_run_as_at_their_open(capsys, folder, length):
    FALLS.set_axis(FALLS.index + pd.Timedelta(length)).to_csv("closes.csv", index_label="datetime")
    options = ("--funding", "0.001", *AT_20X, "--json")
    opens = said(capsys, "run", "stubborn.py", "--data", "BTCUSDT-1h.csv", *options)
    closes = said(capsys, "run", "stubborn.py", "--data", "BTCUSDT=closes.csv", "--stamp", "close", *options)
    assert opens == closes
    assert json.loads(opens[1])["summary"]["liquidations"] > 0


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_the_line_that_sorts_a_file_can_be_copied_and_its_file_is_the_same_run(capsys, folder, mark):
    pd.concat([FALLS[:6], FALLS[4:]])[::-1].to_csv("late first.csv", index_label="datetime", sep=mark)
    code, _, err = said(capsys, "run", "stubborn.py", "--data", "BTCUSDT=late first.csv")
    exec(err.partition("in Python: ")[2])
    sorted_run = said(capsys, "run", "stubborn.py", "--data", "BTCUSDT=sorted.csv", "--json")
    assert code == 2
    assert sorted_run == said(capsys, "run", "stubborn.py", "--data", "BTCUSDT-1h.csv", "--json")
    assert sorted_run[0] == 0


def test_a_signal_strategy_shows_its_own_parameters_only(capsys, folder):
    Path("signals.py").write_text(
        "import backtrader as bt\n\n\nclass Above(bt.SignalStrategy):\n    params = (('period', 3),)\n\n"
        "    def __init__(self):\n        self.signal_add(bt.SIGNAL_LONG, self.data.close - bt.ind.SMA(period=self.p.period))\n"
    )
    _, out, _ = said(capsys, "run", "signals.py", "--data", "ETHUSDT_1h.csv")
    assert out.startswith("Above(period=3) on ETHUSDT 1x cross")


def test_a_strategy_that_quits_is_no_silent_success(capsys, folder):
    Path("quits.py").write_text(STUBBORN.replace("        if not", "        raise SystemExit\n        if not"))
    code, _, err = said(capsys, "run", "quits.py", "--data", "ETHUSDT_1h.csv")
    assert code == 2
    assert "quits.py raised SystemExit" in err


@pytest.mark.parametrize("columns", [None, "80"])
def test_no_figure_of_a_liquidation_is_cut_off(capsys, folder, monkeypatch, columns):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        (FALLS[["open", "high", "low", "close"]] * 761.2345).to_csv(f"{symbol}.csv", index_label="datetime")
    script = STUBBORN.replace("if not self.position and len(self) > self.p.wait:", "if len(self) == 1:")
    Path("both.py").write_text(script.replace("self.buy()", "self.buy(self.data0)\n            self.buy(self.data1)"))
    code, out, _ = said(
        capsys, "run", "both.py", "--data", "BTCUSDT.csv", "ETHUSDT.csv", "--leverage", 20, "--cash", "12345", "--sizer", "1.234"
    )
    assert code == 0
    assert "Liquidations (" in out
    assert "…" not in out
    assert columns or "x eff." in out


def test_the_options_of_a_run_reach_it(capsys, folder):
    options = ["--data", "BTCUSDT=BTCUSDT-1h.csv", "ETHUSDT_1h.csv", "--leverage", "BTCUSDT=20,ETHUSDT=5"]
    options += ["--margin-mode", "BTCUSDT=isolated,ETHUSDT=cross", "--cash", "777", "--param", "wait=2", "--sizer", "0.5"]
    options += ["--intrabar", "close", "--start", "2024-01-01T02:00", "--end", "2024-01-01T07:00", "--funding", "BTCUSDT=0.001"]
    code, _, _ = said(capsys, "run", "stubborn.py:Stubborn", *options, "--out", "here")
    whole = json.loads(Path("here/summary.json").read_text())
    settings = whole["settings"]
    assert code == 0
    assert settings["leverage"] == {"BTCUSDT": 20, "ETHUSDT": 5}
    assert settings["margin_mode"] == {"BTCUSDT": "isolated", "ETHUSDT": "cross"}
    assert (settings["cash"], settings["intrabar"], settings["params"]) == (777, "close", {"wait": 2})
    assert (settings["data"]["first"], settings["data"]["last"]) == ("2024-01-01T02:00:00Z", "2024-01-01T07:00:00Z")
    assert "constant funding of 0.001 per 8 h: BTCUSDT" in whole["summary"]["flags"]
    assert "no funding: ETHUSDT" in whole["summary"]["flags"]
    assert pd.read_csv("here/fills.csv")["size"].iloc[0] == 0.5


def test_a_run_leaves_its_tables_and_its_picture_and_the_same_run_leaves_the_same(capsys, folder):
    arguments = ("run", "stubborn.py", "--data", "BTCUSDT-1h.csv", "--leverage", 20, "--out", "deep/folder", "--json")
    code, out, _ = said(capsys, *arguments)
    files = json.loads(out)["files"]
    names = {Path(name).name for name in files}
    assert code == 0
    pictures = {"page.png", "leverage.png", "money.png", "close_calls.png", "pictures.txt"}
    assert names == {*pictures, "summary.json", *(f"{name}.csv" for name in cli.FRAMES)}
    assert "Where the money went" in Path("deep/folder/pictures.txt").read_text("utf-8")
    assert {path.name for path in Path("deep/folder").iterdir()} == names
    first = {name: contents(Path(name)) for name in files}
    assert said(capsys, *arguments)[0] == 0
    assert {name: contents(Path(name)) for name in files} == first


def contents(path: Path) -> bytes:
    """Return a file as it is; of fills without the number of the order, which the host counts on through a process."""
    return pd.read_csv(path).drop(columns="order_ref").to_csv().encode() if path.name == "fills.csv" else path.read_bytes()


def test_what_a_strategy_prints_stays_out_of_the_json(capsys, folder):
    Path("chatty.py").write_text(STUBBORN.replace("def next(self):", "def next(self):\n        print('hello')") + "\nprint('loaded')\n")
    code, out, err = said(capsys, "run", "chatty.py", "--data", "BTCUSDT-1h.csv", "--json")
    assert code == 0
    assert set(json.loads(out)) == {"summary", "liquidations", "files"}
    assert "hello" in err
    assert "loaded" in err


def test_a_strategy_can_live_in_a_script_and_import_what_lies_beside_it(capsys, folder):
    Path("beside.py").write_text("SIZE = 2\n")
    script = STUBBORN.replace("import backtrader as bt", "import backtrader as bt\nfrom beside import SIZE").replace(
        "buy()", "buy(size=SIZE)"
    )
    Path("script.py").write_text(script + "\nif __name__ == '__main__':\n    raise SystemExit('this is no time to run')\n")
    code, out, _ = said(capsys, "run", "script.py", "--data", "ETHUSDT_1h.csv", "--json")
    assert code == 0
    assert json.loads(out)["summary"]["open_trades"] == 1


def test_a_strategy_can_be_named_by_its_module(capsys, folder):
    assert said(capsys, "run", "stubborn:Stubborn", "--data", "ETHUSDT_1h.csv")[0] == 0


def test_sizers_are_found_by_name_and_by_file(capsys, folder):
    Path("mine.py").write_text(
        "import backtrader as bt\n\n\nclass Mine(bt.Sizer):\n    params = (('size', 1),)\n\n"
        "    def _getsizing(self, comminfo, cash, data, isbuy):\n        return self.p.size\n"
    )
    for sizer, size in (
        ("PercentSizer:percents=50", 50),
        ("EquityFraction:fraction=0.5", 50),
        ("mine.py:Mine:size=3", 3),
        ("mine.py", 1),
        ("0.25", 0.25),
    ):
        assert said(capsys, "run", "stubborn.py", "--data", "ETHUSDT_1h.csv", "--sizer", sizer, "--out", "o")[0] == 0
        assert pd.read_csv("o/fills.csv")["size"].iloc[0] == size


def test_a_run_that_trades_nothing_says_so(capsys, folder):
    _, out, _ = said(capsys, "run", "stubborn.py", "--data", "ETHUSDT_1h.csv", "--param", "wait=99")
    assert "No order was filled." in out


# -- wrong use -------------------------------------------------------------------------------------------------------


def rows(text: str) -> str:
    return "datetime,open,high,low,close,volume\n" + text


def hours(zone: str = "") -> list[str]:
    return [f"2024-01-01 0{hour}:00{zone},100,101,99,100,1" for hour in range(4)]


BAD_FILES = {
    "bad_column.csv": "datetime,first,high,low,close\n2024-01-01,1,1,1,1\n2024-01-02,1,1,1,1\n",
    "empty.csv": "",
    "header.csv": rows(""),
    "nan.csv": rows("\n".join([*hours()[:2], "2024-01-01 02:00,100,,99,100,1", hours()[3]])),
    "unsorted.csv": rows("\n".join(reversed(hours()))),
    "local.csv": rows("\n".join(f"2024-01-01 {hour:02}:00,100,101,99,100,1" for hour in range(1, 24, 4))),
    "local_funding.csv": "datetime,rate\n" + "".join(f"2024-01-0{day} {hour:02}:00,0.0001\n" for day in (1, 2) for hour in (1, 9, 17)),
    "when.csv": "when,open,high,low,close\n2024-01-01,1,1,1,1\n",
    "ends.csv": rows("\n".join(f"2024-01-01 0{hour}:59:59.999,100,101,99,100,1" for hour in range(4))),
    "commas.csv": rows("\n".join(hours())).replace(",", ";").replace(";100;", ";100,5;"),
    "glued.csv": "open_time,open,high,low,close\n1704067200000,1,1,1,1\nopen_time,open,high,low,close\n1704070800000,1,1,1,1\n",
    "bare.csv": "1704067200000,1,1.1,0.9\n1704070800000,1,1.1,0.9\n",
    "slow.py": "import backtrader as bt\nclass Slow(bt.Strategy):\n    def __init__(self):\n        bt.ind.SMA(period=99)\n",
    "asks.py": "import backtrader as bt\nclass Asks(bt.Strategy):\n    def __init__(self, size):\n        self.size = size\n",
    "none.py": "VALUE = 1\n",
    "two.py": STUBBORN + STUBBORN.replace("Stubborn", "Other"),
    "broken.py": "import backtrader as bt\nclass Broken(bt.Strategy:\n",
    "raises.py": STUBBORN.replace("        if not", "        1 / (len(self) - 3)\n        if not"),
    "uses.py": STUBBORN.replace("import backtrader as bt", "import backtrader as bt\nimport odd_one").replace(
        "    def next", "    def __init__(self):\n        odd_one.Odd()\n\n    def next"
    ),
    "imports.py": "import a_module_that_is_not_there\n",
}
BESIDE = "import backtrader as bt\nclass Odd(bt.Indicator):\n    lines = ('x',)\n    def next(self):\n        self.lines.x[0] = 1 / 0\n"
GOOD = ("stubborn.py", "--data", "ETHUSDT_1h.csv")
WRONG = {
    "missing file": (("stubborn.py", "--data", "BTCUSDT-2h.csv"), "BTCUSDT: candle file 'BTCUSDT-2h.csv' does not exist"),
    "no candles": (("stubborn.py",), "a run needs candles: --data BTCUSDT-1h.csv"),
    "bad column": (("stubborn.py", "--data", "BTCUSDT=bad_column.csv"), "lacks open, it has datetime, first, high, low, close"),
    "unknown venue": ((*GOOD, "--venue", "mtgox"), "no venue is called 'mtgox'; known: binance, "),
    "no tiers": (("stubborn.py", "--data", "NOCOIN=ETHUSDT_1h.csv"), "binance has no tiers for NOCOIN"),
    "no tiers and what to say": (("stubborn.py", "--data", "NOCOIN=ETHUSDT_1h.csv"), "; say --venue generic (a flat 0.5 %)\n"),
    "two currencies": (("stubborn.py", "BTCUSDT-1h.csv", "BTCUSDC=ETHUSDT_1h.csv", "--venue", "generic"), "give each its own run\n"),
    "no strategy": (("none.py", "--data", "ETHUSDT_1h.csv"), "none.py has no strategy"),
    "two strategies": (
        ("two.py", "--data", "ETHUSDT_1h.csv"),
        "Stubborn, Other; say which: two.py:Stubborn",
    ),
    "no such strategy": (("two.py:Third", "--data", "ETHUSDT_1h.csv"), "two.py has no strategy Third; it has Stubborn, Other"),
    "no such script": (("three.py", "--data", "ETHUSDT_1h.csv"), "there is no file three.py"),
    "a folder for a strategy": ((".", "--data", "ETHUSDT_1h.csv"), ". is a folder; name the strategy in it as ./file.py:Class"),
    "candles for a strategy": (("when.csv", "--data", "ETHUSDT_1h.csv"), "when.csv is not a Python file"),
    "decimal commas": (
        ("stubborn.py", "--data", "BTCUSDT=commas.csv"),
        "open must be a number, was '100,5'; write numbers with a decimal point and no comma",
    ),
    "no such module": (("threeee:Third", "--data", "ETHUSDT_1h.csv"), "there is no module 'threeee'"),
    "leverage 0": ((*GOOD, "--leverage", "0"), "leverage is a finite number of 1 or more"),
    "leverage nan": ((*GOOD, "--leverage", "nan"), "leverage is a finite number of 1 or more"),
    "leverage word": ((*GOOD, "--leverage", "much"), "--leverage takes a number, was 'much'"),
    "leverage of another": ((*GOOD, "--leverage", "BTCUSDT=3"), "leverage says nothing of ETHUSDT"),
    "leverage above the tier": ((*GOOD, "--leverage", "400"), "400"),
    "margin mode": ((*GOOD, "--margin-mode", "portfolio"), "ETHUSDT: margin_mode is 'cross' or 'isolated', was 'portfolio'"),
    "cash": ((*GOOD, "--cash", "-5"), "cash is a positive amount of money"),
    "start after end": ((*GOOD, "--start", "2024-02-01", "--end", "2024-01-01"), "--start 2024-02-01 is not before --end 2024-01-01"),
    "start is no time": ((*GOOD, "--start", "soon"), "--start takes a UTC date or time"),
    "window without candles": ((*GOOD, "--start", "2030-01-01"), "--start and --end leave none of them"),
    "empty file": (("stubborn.py", "--data", "BTCUSDT=empty.csv"), "is empty; expected a line of column names"),
    "no rows": (("stubborn.py", "--data", "BTCUSDT=header.csv"), "no rows"),
    "nan": (("stubborn.py", "--data", "BTCUSDT=nan.csv"), "row 2 (2024-01-01 02:00:00 UTC): high must be a finite number"),
    "unsorted": (
        ("stubborn.py", "--data", "BTCUSDT=unsorted.csv"),
        "row 1 (2024-01-01 02:00:00 UTC) is earlier than the row before it, as every row is: the newest comes first; sort the rows",
    ),
    "local time": (("stubborn.py", "--data", "BTCUSDT=local.csv"), "they seem to be local time"),
    "local funding": ((*GOOD, "--funding", "local_funding.csv"), "they seem to be local time"),
    "symbol twice": (("stubborn.py", "--data", "BTCUSDT-1h.csv", "BTCUSDT=ETHUSDT_1h.csv"), "--data names BTCUSDT twice"),
    "funding of another": ((*GOOD, "--funding", "BTCUSDT=0.0001"), "--funding names BTCUSDT, but --data has ETHUSDT"),
    "unknown parameter": ((*GOOD, "--param", "speed=3"), "Stubborn has no parameter speed; it has wait"),
    "half a parameter": ((*GOOD, "--param", "speed"), "--param takes key=value, was 'speed'"),
    "sizer": ((*GOOD, "--sizer", "Big"), "--sizer Big is no number and no sizer"),
    "sizer of another parameter": ((*GOOD, "--sizer", "PercentSizer:foo=1"), "PercentSizer has no parameter foo; it has percents"),
    "endless sizer": ((*GOOD, "--sizer", "inf"), "a size above 0"),
    "parameter twice": ((*GOOD, "--param", "wait=1", "--param", "wait=2"), "--param gives wait twice"),
    "funding twice": ((*GOOD, "--funding", "0.01", "--funding", "ETHUSDT=0.02"), "--funding is given twice for ETHUSDT"),
    "too few bars": (("slow.py", "--data", "ETHUSDT_1h.csv"), "the indicators of Slow need more than the 12 bars there are"),
    "an __init__ that asks": (("asks.py", "--data", "ETHUSDT_1h.csv"), "Asks.__init__ asks for size, but Backtrader gives it nothing"),
    "damaged archive": (("stubborn.py", "--data", "BTCUSDT=bad.csv.gz"), "cannot be read"),
    "another name for time": (("stubborn.py", "--data", "BTCUSDT=when.csv"), "call the column of times datetime"),
    "a word for a number": ((*GOOD, "--param", "wait=abc"), "--param wait is a whole number, as its default 0 is; was 'abc'"),
    "a fraction for a count": ((*GOOD, "--param", "wait=1.5"), "--param wait is a whole number"),
    "a switch for a count": ((*GOOD, "--param", "wait=true"), "--param wait is a whole number, as its default 0 is; was True"),
    "sizer 0": ((*GOOD, "--sizer", "0"), "--sizer is a sizer's name, file.py:Class or a size above 0, was 0.0"),
    "a sizer of less than nothing": (
        (*GOOD, "--sizer", "PercentSizer:percents=-90"),
        "PercentSizer: percents is a number above 0, was -90",
    ),
    "a folder for candles": (("stubborn.py", "--data", "BTCUSDT=."), "candle file '.' is a folder"),
    "an address for candles": (("stubborn.py", "--data", "BTCUSDT=https://x/y.csv"), "is an address, download it first"),
    "stamps of the close": (("stubborn.py", "--data", "BTCUSDT=ends.csv"), "opening times datetime, or say --stamp close"),
    "no fee": ((*GOOD, "--fee", "much"), "--fee takes a fraction of notional such as 0.0005 or 0.05%, or MAKER,TAKER, was 'much'"),
    "three fees": ((*GOOD, "--fee", "0.1,0.2,0.3"), "--fee takes a fraction of notional"),
    "a fee of ten percent": ((*GOOD, "--fee", "10%"), "--fee 10% is more than 0.01 of notional; 0.05 % is 0.0005, or 0.05%"),
    "a rate in percent": (
        (*GOOD, "--funding", "1"),
        "--funding 1 is 1 of notional at every stamp, more than the 0.04 that any venue allows",
    ),
    "a file named after no symbol": (("stubborn.py", "--data", "when.csv"), "the name of the file says the symbol is when"),
    "names twice": (
        ("stubborn.py", "BTCUSDT=glued.csv"),
        "row 1: open_time must be ISO 8601 such as 2024-01-31T08:00:00Z, was 'open_time'; it is the line of column names once more",
    ),
    "another alphabet": (("stubborn.py", "BTCUSDT=wide.csv"), "cannot be read ('utf-8' codec can't decode byte 0xff"),
    "another alphabet and what to do": (("stubborn.py", "BTCUSDT=wide.csv"), "save it as UTF-8\n"),
    "no line of names": (
        ("stubborn.py", "--data", "BTCUSDT=bare.csv"),
        "has no line of column names, it begins with 1704067200000, 1, 1.1, 0.9; write names such as datetime,open,high,low,close above",
    ),
    "a symbol without a file": (("stubborn.py", "--data", "BTCUSDT="), "--data BTCUSDT= names no file; say SYMBOL=FILE"),
    "coins that were not counted": ((*GOOD, "--venue", "binance-coinm"), "--cash is coins at binance-coinm, whose contracts settle"),
    "half a percentage": ((*GOOD, "--funding", "a%"), "funding file 'a%' does not exist"),
    "intrabar": ((*GOOD, "--intrabar", "random"), "intrabar is one of"),
    "unfunded": ((*GOOD, "--unfunded", "ignore"), "unfunded is one of 'reject', 'shrink', was 'ignore'"),
    "filters": ((*GOOD, "--filters", "none"), "filters is one of 'round', 'refuse', was 'none'"),
    "a folder that is a file": ((*GOOD, "--out", "stubborn.py"), "--out stubborn.py is no folder to write to (Not a directory)"),
    "unknown option": ((*GOOD, "--nope"), "--nope"),
}


@pytest.fixture
def traps(folder) -> None:
    for name, text in BAD_FILES.items():
        Path(name).write_text(text)
    Path("wide.csv").write_text(rows("\n".join(hours())), "utf-16")
    Path("bad.csv.gz").write_bytes(gzip.compress(b"datetime,open\n" * 1_000)[:-12] + b"\x00" * 12)
    Path("odd_one.py").write_text(BESIDE)


@pytest.mark.usefixtures("traps")
@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_one_sentence_and_code_2(capsys, case):
    arguments, sentence = WRONG[case]
    code, out, err = said(capsys, "run", *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("bt-margin: ")
    assert sentence in err


@pytest.mark.usefixtures("traps")
@pytest.mark.parametrize(
    ("script", "line", "sentence"),
    [
        ("raises.py", "1 / (len(self) - 3)", "raises.py raised ZeroDivisionError on the bar of 2024-01-01 04:00 UTC: division by zero"),
        ("uses.py", "self.lines.x[0] = 1 / 0", "uses.py raised ZeroDivisionError: division by zero"),
        ("broken.py", "class Broken(bt.Strategy:", "broken.py raised SyntaxError"),
        ("imports.py", "import a_module_that_is_not_there", "imports.py raised ModuleNotFoundError"),
    ],
)
def test_what_a_strategy_raises_is_shown_with_its_own_traceback_and_then_one_sentence(capsys, script, line, sentence):
    code, out, err = said(capsys, "run", script, "--data", "ETHUSDT_1h.csv")
    assert (code, out) == (2, "")
    assert line in err
    assert "bt_margin/backtest.py" not in err
    assert err.splitlines()[-1].startswith(f"bt-margin: {sentence}")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_one_sentence_and_code_2(capsys, folder):
    Path("locked").mkdir(mode=0o500)
    code, _, err = said(capsys, "run", *GOOD, "--out", "locked")
    assert code == 2
    assert err == "bt-margin: --out locked is no folder to write to (Permission denied); name one that is\n"


def test_a_folder_that_takes_no_file_is_refused_before_the_run(capsys, folder, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    code, out, err = said(capsys, "run", *GOOD, "--out", "locked")
    assert (code, out) == (2, "")
    assert err == "bt-margin: --out locked is no folder to write to (Permission denied); name one that is\n"


@pytest.mark.parametrize(("arguments", "word"), [(("demo", "--nope"), "--nope"), (("dance",), "dance"), (("demo", "--out"), "--out")])
def test_a_command_line_that_is_none_is_one_sentence_and_code_2(capsys, arguments, word):
    code, out, err = said(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("bt-margin: ")
    assert word in err


def test_arithmetic_that_fails_says_where_to_look(capsys, folder, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("float division by zero")

    monkeypatch.setattr("bt_margin.backtest.run", fail)
    sentence = "the arithmetic failed (float division by zero); look for a 0 or a huge number among the parameters and the prices"
    assert said(capsys, "run", *GOOD) == (2, "", f"bt-margin: {sentence}\n")


def test_an_error_of_our_own_is_no_wrong_use(folder, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("bt_margin.backtest.run", fail)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        cli.main(["run", *GOOD])


# -- Ctrl-C and progress ---------------------------------------------------------------------------------------------

PRESSES = STUBBORN.replace("import backtrader as bt", "import os, signal\nimport backtrader as bt").replace(
    "        if not", "        if len(self) == 3:\n            os.kill(os.getpid(), signal.SIGINT)\n        if not"
)


def test_ctrl_c_ends_a_run_with_what_was_done_and_code_130(capsys, folder):
    Path("presses.py").write_text(PRESSES)
    before = signal.getsignal(signal.SIGINT)
    code, out, err = said(capsys, "run", "presses.py", "--data", "ETHUSDT_1h.csv", "--json", "--baseline", "--out", "o")
    assert code == 130
    assert json.loads(out)["summary"]["bars"] == 3
    assert "ended 2024-01-01T04:00:00Z, before the data does" in " ".join(json.loads(out)["summary"]["flags"])
    assert err.splitlines()[-1] == "bt-margin: stopped on the bar of 2024-01-01 04:00 UTC; the figures are of what was done"
    assert Path("o/equity.csv").read_text().count("\n") == 4
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_while_stock_backtrader_runs_leaves_its_half_claim_out(capsys, folder):
    Path("presses.py").write_text(PRESSES.replace("len(self) == 3", "len(self) == 3 and type(self.broker).__name__ == 'BackBroker'"))
    code, out, err = said(capsys, "run", "presses.py", "--data", "ETHUSDT_1h.csv", "--baseline", "--out", "o")
    assert code == 130
    assert "stock Backtrader claims" not in out
    assert json.loads(Path("o/summary.json").read_text())["summary"]["bars"] == 12
    assert "those of stock Backtrader are left out" in err.splitlines()[-1]


def test_a_second_ctrl_c_ends_at_once(capsys, folder):
    Path("presses.py").write_text(PRESSES.replace("signal.SIGINT)", "signal.SIGINT)\n            os.kill(os.getpid(), signal.SIGINT)"))
    code, out, err = said(capsys, "run", "presses.py", "--data", "ETHUSDT_1h.csv")
    assert (code, out) == (130, "")
    assert "Ctrl-C again ends at once" in err


def test_ctrl_c_while_the_command_is_put_together_is_one_sentence(capsys, monkeypatch):
    def pressed(_app):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.typer.main, "get_command", pressed)
    assert said(capsys, "run") == (130, "", "bt-margin: stopped at once\n")


def test_ctrl_c_while_files_are_read_ends_at_once(capsys, folder):
    Path("presses.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    code, out, err = said(capsys, "run", "presses.py", "--data", "ETHUSDT_1h.csv")
    assert (code, out) == (130, "")
    assert err == "bt-margin: stopped at once, nothing was kept\n"


def test_ctrl_c_while_files_are_written_says_which_are_there(capsys, folder, monkeypatch):
    def press(*_, **__):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(cli, "_save_text", press)
    code, out, err = said(capsys, "run", *GOOD, "--out", "o")
    assert (code, out) == (130, "")
    assert err == f"bt-margin: stopped at once, kept {Path('o/page.png')}\n"
    assert [path.name for path in Path("o").iterdir()] == ["page.png"]


def test_ctrl_c_while_the_first_file_is_written_leaves_no_empty_folder(capsys, folder, monkeypatch):
    monkeypatch.setattr(plots, "save", lambda *_: signal.raise_signal(signal.SIGINT))
    code, _, err = said(capsys, "run", *GOOD, "--out", "new/deep")
    assert (code, err) == (130, "bt-margin: stopped at once, nothing was kept\n")
    assert not Path("new").exists()
    Path("old").mkdir()
    assert said(capsys, "run", *GOOD, "--out", "old")[0] == 130
    assert not list(Path("old").iterdir())


def test_ctrl_c_inside_of_exec_ends_the_process_with_code_130(folder):
    Path("presses.py").write_text("exec('import signal; signal.raise_signal(signal.SIGINT)')\n")
    command = [sys.executable, "-W", "ignore", "-m", "bt_margin", "run", "presses.py", "ETHUSDT_1h.csv"]
    variables = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    ended = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, "bt-margin: stopped at once, nothing was kept\n")


def test_ctrl_c_on_the_last_bar_leaves_a_whole_run(capsys, folder):
    Path("presses.py").write_text(PRESSES.replace("len(self) == 3", "len(self) == 12"))
    code, out, _ = said(capsys, "run", "presses.py", "--data", "ETHUSDT_1h.csv", "--json")
    assert code == 0
    assert json.loads(out)["summary"]["bars"] == 12


@pytest.fixture
def pressable() -> Iterator[None]:
    """Let Ctrl-C reach this process and those it starts; what is started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


PRESSED_ON_IMPORT = "import signal\nsignal.raise_signal(signal.SIGINT)\nraise SystemExit('was not stopped')\n"
AS_COMMANDS = {
    "module": ["-m", "bt_margin", "demo"],
    "quiet module": ["-W", "ignore", "-m", "bt_margin"],
    "script": ["bin/bt-margin", "demo"],
}


def pressed_on_import(*words: str) -> subprocess.CompletedProcess:
    """Return what Python did with these words in a folder where to import Backtrader is to press Ctrl-C."""
    Path("backtrader.py").write_text(PRESSED_ON_IMPORT)
    Path("bin").mkdir()
    for name in ("bt-margin", "own.py"):
        Path("bin", name).write_text("from bt_margin.cli import main\nmain()\n")
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), str(Path(cli.__file__).parents[1])])}
    return subprocess.run([sys.executable, *words], env=variables, capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("pressable")
@pytest.mark.parametrize("name", AS_COMMANDS)
def test_ctrl_c_while_backtrader_is_imported_is_one_sentence_and_code_130(folder, name):
    ended = pressed_on_import(*AS_COMMANDS[name])
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "bt-margin: stopped before it began\n")


@pytest.mark.usefixtures("pressable")
def test_in_a_script_of_ones_own_ctrl_c_stays_pythons(folder):
    ended = pressed_on_import("bin/own.py", "-m", "bt_margin")
    assert ended.returncode != 130
    assert ended.stderr.splitlines()[-1] == "KeyboardInterrupt"


@pytest.mark.usefixtures("pressable")
def test_ctrl_c_while_the_table_is_printed_is_one_sentence_and_code_130(capsys, folder, monkeypatch):
    monkeypatch.setattr(cli, "_tell", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert said(capsys, "run", *GOOD) == (130, "", "bt-margin: stopped at once\n")


def read_or_end(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4_096)
    except OSError:  # Linux has this in place of an end
        return b""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_sees_how_far_a_run_is_and_how_long_it_will_take(folder):
    import pty

    Path("slow.py").write_text(STUBBORN.replace("import backtrader as bt", "import time\nimport backtrader as bt").replace(
        "        if not", "        time.sleep(0.1)\n        if not"))  # fmt: skip
    ours, theirs = pty.openpty()
    root = str(Path(cli.__file__).parents[1])
    command = [sys.executable, "-W", "ignore", "-m", "bt_margin", "run", "slow.py", "--data", "ETHUSDT_1h.csv", "--json"]
    variables = {**os.environ, "PYTHONPATH": root, "TERM": "xterm", "COLUMNS": "100"}
    seen: list[bytes] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=variables) as process:
        os.close(theirs)
        reader = Thread(target=lambda: seen.extend(iter(lambda: read_or_end(ours), b"")))
        reader.start()
        printed, _ = process.communicate()
    reader.join()
    os.close(ours)
    shown = b"".join(seen).decode()
    assert process.returncode == 0
    assert set(json.loads(printed)) == {"summary", "liquidations", "files"}
    assert [word for word in ("reading", "trading", "drawing and writing") if word not in shown] == []
    assert "%" in shown
    assert "left" in shown


# -- the rest --------------------------------------------------------------------------------------------------------


def test_a_spark_line_keeps_the_lowest_of_each_step():
    assert spark_line([7.0] * 3) == "▁▁▁"
    assert spark_line([0, 7, 7, 0, 7, 7], width=3) == "▁▁█"
    assert spark_line(list(range(8))) == "▁▂▃▄▅▆▇█"


def test_it_says_its_version(capsys):
    code, out, _ = said(capsys, "--version")
    assert code == 0
    assert out == f"bt-margin {bm.__version__}, backtrader {bt.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_lists_the_commands(capsys, arguments):
    code, out, err = said(capsys, *arguments)
    assert (code, err) == (0, "")
    assert "demo" in out
    assert "run" in out


def test_python_dash_m_is_the_command(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bt_margin", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("bt_margin", run_name="__main__")
    assert not ended.value.code
    assert "bt-margin" in capsys.readouterr().out
