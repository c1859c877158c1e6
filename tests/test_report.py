"""The report page: one file that fetches nothing, says what happened, and shows every extreme."""

import base64
import gzip
import json
import re
import sys
from functools import cache
from html.parser import HTMLParser

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from looking import CRASH, RUNS, Once, Stubborn, calm, died_once, idle
from playing import CALM, frame

from bt_margin import MarginBroker, PerpCommInfo, PerpData, Report, cli, sizers
from bt_margin.backtest import run
from bt_margin.panels import Line
from bt_margin.report import MissingExtraError, words
from bt_margin.report.frame import Numbers, script_json
from bt_margin.report.series import BUCKETS, WHOLE, Store
from bt_margin.tearsheet import STATISTICS

pytest.importorskip("jinja2", reason="the report page needs the extra: pip install -e '.[report]'")
pytest.importorskip("plotly", reason="the report page needs the extra: pip install -e '.[report]'")

NEVER_CLOSED = {"meta", "path", "rect", "br"}


class Reader(HTMLParser):
    """Collects the elements of a page with their attributes, and the texts outside styles and scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in NEVER_CLOSED:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in NEVER_CLOSED:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def ours(html: str) -> str:
    """Return a page without the five million letters of plotly's script."""
    begin = html.find('<script type="text/plain" id="plotly">')
    return html if begin < 0 else html[:begin] + html[html.index("</script>", begin) + len("</script>") :]


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(ours(html))
    reader.close()
    assert reader.open == []
    return reader


@cache
def page_of(name: str) -> str:
    return ours(Report(RUNS[name]()).html())


def data_of(html: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="page-data">(.*?)</script>', html, re.DOTALL)[1])


def array_of(data: dict, name: str) -> np.ndarray:
    packed = data["arrays"][name]
    return np.frombuffer(base64.b64decode(packed["data"]), dtype={"u": "<u4", "f": "<f4", "d": "<f8"}[packed["type"]])


def file_of(html: str, name: str) -> str:
    return gzip.decompress(base64.b64decode(data_of(html)["files"][name])).decode()


@pytest.mark.parametrize("name", RUNS)
def test_a_page_is_whole_and_names_nothing_to_fetch(name):
    page = read(page_of(name))
    addresses = [value for _, attributes in page.elements for key, value in attributes.items() if key in ("src", "href", "action", "data")]
    assert addresses == []
    assert "url(" not in re.search(r"<style>(.*?)</style>", page_of(name), re.DOTALL)[1]
    (policy,) = [attributes["content"] for attributes in page.all("meta") if attributes.get("http-equiv")]
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("name", RUNS)
def test_every_figure_has_a_title_a_description_and_its_numbers_as_a_table(name):
    html = page_of(name)
    figures = re.findall(r"<figure.*?</figure>", html, re.DOTALL)
    assert len(figures) >= 7
    for figure in figures:
        reader = read(figure)
        title = re.search(r"<h3[^>]*>(.*?)</h3>", figure, re.DOTALL)[1]
        assert len(re.sub(r"<[^>]+>", "", title)) > 10
        (drawing,) = [attributes for attributes in reader.all("div") if attributes.get("role") == "img"]
        assert len(drawing["aria-label"]) > 20
        if "no position" not in figure and name not in ("idle", "one bar"):
            assert "<caption>" in figure
    assert html.count("<table>") == html.count("<caption>")


@pytest.mark.parametrize("name", RUNS)
def test_every_pane_says_the_unit_of_its_numbers(name):
    for pane in data_of(page_of(name))["panes"]:
        assert pane["unit"] or pane["form"] in ("percent", "times", "ratio")


def test_the_same_result_gives_the_same_bytes():
    assert Report(died_once()).html() == Report(died_once()).html()


def test_the_verdict_of_a_dead_account_says_when_it_died_and_what_stock_backtrader_claims():
    text = read(page_of("died once")).text
    day = died_once().summary["died"][:10]
    assert f"Liquidated once and dead since {day}: 0.00 of 1,000 USDT left." in text
    # bought at 100 with a taker fee of 50 x 100 x 0.0005 = 2.50; 50 at 60: 1 000 - 2.50 - 50 x 40 = -1 002.50; at 200: 1 000 - 2.50 + 5 000
    assert "Stock Backtrader would have claimed 5,998 USDT (+500 %)" in text
    assert "no venue lets an account fall below zero" in data_of(page_of("died once"))["panes"][1]["bands"][0]["label"]


def test_the_verdict_of_an_account_that_lives_says_so():
    assert "Never liquidated: 10,000 became" in read(page_of("calm")).text
    assert "No order was filled: 1,000 USDT stayed as they were." in read(page_of("idle")).text


def test_a_liquidation_says_what_would_have_prevented_it_rounded_so_that_it_would():
    (row,) = died_once().liquidations.itertuples()
    text = read(page_of("died once")).text
    told = float(re.search(r"more than ([\d,.]+) USDT of margin added", text)[1].replace(",", ""))
    assert row.margin_to_add <= told < row.margin_to_add + 0.01
    lever = float(re.search(r"effective leverage below ([\d.]+)x", text)[1])
    assert row.safe_leverage - 0.1 < lever <= row.safe_leverage


def test_a_stop_is_priced_at_the_mark_that_liquidated():
    """10x isolated, maintenance 0.5 %: 1 bought at 100 holds 10 and dies at (100 - 10) / 0.995 = 90.4523."""
    fall = frame([CALM] * 3 + [(100, 100, 80, 85)] * 2)
    result = run(Once, {"AAAUSDT": fall}, venue="generic", leverage=10, margin_mode="isolated", cash=1_000, sizer=1)
    text = read(Report(result).html()).text
    assert "a stop above 90.4523, 9.55 % below entry; it would have cost about 9.55 USDT plus fees" in text


def test_a_gap_is_told_as_one_that_no_stop_prevents():
    fall = frame([CALM] * 3 + [(50, 50, 50, 50)] * 2)
    result = run(Once, {"AAAUSDT": fall}, venue="generic", leverage=10, margin_mode="isolated", cash=1_000, sizer=1)
    assert "no stop: the bar opened beyond the liquidation price" in read(Report(result).html()).text


def test_text_of_users_is_shown_and_never_run():
    evil = "</script><img src=x onerror=alert(1)>"

    class Named(Once):
        params = (("motto", evil),)

    symbol = "<b>&USDT"
    result = run(Named, {symbol: frame([CALM] * 3 + [CRASH, CALM])}, venue="generic", leverage=10, cash=1_000, sizer=50)
    html = Report(result, title=evil, note=evil, command=evil).html()
    page = read(html)
    assert page.all("img") == []
    assert page.all("b") == [attributes for attributes in page.all("b") if "data-value" in attributes]
    assert evil in page.text
    assert symbol in page.text


def test_json_cannot_end_its_script_element():
    text = script_json({"a": "</script><!--\u2028&"})
    assert not re.search("[<>&\u2028]", text)
    assert json.loads(text) == {"a": "</script><!--\u2028&"}


def test_the_call_and_the_command_are_on_the_page():
    assert "bt_margin.run( Stubborn, {&#39;BTCUSDT&#39;: candles}," in " ".join(page_of("died once").split())
    assert "bt-margin run mine.py --cash 5" in read(Report(calm(), command="bt-margin run mine.py --cash 5").html()).text


def test_the_call_names_the_sizer_as_run_takes_it():
    assert "sizer=50," in page_of("died once")
    candles = {"AAAUSDT": frame([CALM] * 3)}
    result = run(Once, candles, venue="generic", cash=1_000, sizer=(sizers.EquityFraction, {"fraction": 0.5}))
    assert "sizer=(EquityFraction, {&#39;fraction&#39;: 0.5})" in Report(result).html()


def test_the_data_hash_is_of_the_prices():
    def hash_of(close: float) -> str:
        result = run(Once, {"AAAUSDT": frame([CALM, (100, 101, 99, close)])}, venue="generic", cash=1_000, sizer=1)
        return re.search(r"AAAUSDT ([0-9a-f]{64})", read(Report(result).html()).text)[1]

    assert hash_of(100.0) == hash_of(100.0) != hash_of(99.99)


def test_files_of_the_page_are_those_of_the_result():
    html, result = page_of("died once"), died_once()
    whole = json.loads(file_of(html, "summary.json"))
    assert whole["summary"]["final_equity"] == result.summary["final_equity"]
    assert len(file_of(html, "equity.csv").splitlines()) == 1 + len(result.equity)
    assert len(file_of(html, "liquidations.csv").splitlines()) == 1 + len(result.liquidations)


# -- another language ------------------------------------------------------------------------------------------------


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


def test_every_sentence_is_there_in_chinese_with_the_same_values():
    assert set(words.ZH) == set(words.EN)
    assert [key for key in words.EN if not names_in(words.ZH[key]) <= names_in(words.EN[key])] == []
    assert [statistic.label for statistic in STATISTICS if statistic.label not in words.PHRASES] == []
    assert [statistic.definition for statistic in STATISTICS if statistic.definition not in words.PHRASES] == []


@pytest.mark.parametrize("name", RUNS)
def test_the_titles_keys_and_tables_of_a_chinese_page_are_chinese(name):
    page = ours(Report(RUNS[name](), lang="zh").html())
    assert '<html lang="zh">' in page
    titles = re.findall(r"<h[123][^>]*>(.*?)(?:<span|</h)", page, re.DOTALL)
    labels = re.findall(r"</svg>(.*?)(?:<b|</li)", page, re.DOTALL)
    captions = re.findall(r"<caption>(.*?)</caption>", page, re.DOTALL)
    assert [text for text in titles + labels + captions if not re.search("[\u4e00-\u9fff]", text)] == []


def test_the_prices_of_an_inverse_contract_are_not_told_in_its_coin():
    candles = {"BTCUSD_PERP": frame([CALM, CALM, CRASH])}
    result = run(Once, candles, venue="binance-coinm", leverage=20, cash=1.0, sizer=10)
    assert len(result.liquidations) == 1
    page = ours(Report(result).html())
    assert 'entry <span class="unit">USD</span>' in page
    assert 'lost <span class="unit">BTC</span>' in page


def test_a_chinese_page_tells_a_liquidation_price_from_a_bankruptcy_price():
    chinese = words.Words("zh")
    assert chinese.told("liquidation price of BTCUSDT:LONG") == "BTCUSDT:LONG 的强平价"
    assert chinese.told("bankruptcy price of BTCUSDT:LONG") == "BTCUSDT:LONG 的破产价"


def test_a_liquidated_position_is_told_with_its_own_mark_and_liquidation_price_before():
    result = died_once()
    (death,) = result.liquidations.itertuples()
    before = result.positions[result.positions["time"] < death.time].iloc[-1]
    page = ours(Report(result).html())
    assert f"mark {words.cell(before.mark_price)}, liquidation price {words.cell(before.liquidation_price)}." in page
    assert "The whole account then: equity" in page


def test_a_band_of_paths_lies_behind_the_account_and_says_where_it_is_none():
    result = run(Once, {"BTCUSDT": frame([CALM] * 5)}, cash=1_000, bounds=True)
    page = Report(result).html()
    assert "By the worst and by the best path inside each bar the account ends alike" in page
    (equity,) = (pane for pane in data_of(page)["panes"] if pane["key"] == "equity")
    assert equity["lines"][0]["key"] == "bounds"


# -- thinning --------------------------------------------------------------------------------------------------------


def test_thinning_keeps_every_extreme_every_gap_and_every_bar_around_a_liquidation():
    count = 10 * WHOLE
    times = 1_600_000_000.0 + 60.0 * np.arange(count)
    values = np.sin(np.arange(count) / 5_000.0)
    values[12_345], values[67_890] = 9.0, -9.0
    values[30_000:30_007] = np.nan
    numbers = Numbers()
    store = Store(numbers, times, times[[50_000]])
    names = store.line(Line("equity", "equity", times, values))
    data = {"arrays": numbers.arrays}
    kept, shown = array_of(data, names["t"]), array_of(data, names["v"])
    assert len(kept) < 4 * BUCKETS
    assert (np.nanmax(shown), np.nanmin(shown)) == (9.0, -9.0)
    assert np.isnan(shown[(kept >= times[30_000]) & (kept < times[30_007])]).all()
    assert np.isnan(shown).any()
    around = kept[(kept >= times[49_980]) & (kept <= times[50_020])]
    assert around.tolist() == times[49_980:50_021].tolist()


def test_merged_candles_keep_highs_lows_and_single_bars_around_a_liquidation():
    count = 100_000
    index = pd.date_range("2024-01-01", periods=count, freq="min", tz="UTC")
    close = 100 + np.sin(np.arange(count) / 3_000.0)
    candles = pd.DataFrame({"open": close, "high": close + 0.1, "low": close - 0.1, "close": close}, index=index)
    candles.iloc[4_321, 1], candles.iloc[87_654, 2] = 500.0, 1.0
    numbers = Numbers()
    times = index.as_unit("s").asi8.astype(float)
    names = Store(numbers, times, times[[60_000]]).candles(candles)
    data = {"arrays": numbers.arrays}
    shown = {name: array_of(data, key) for name, key in names.items()}
    assert (shown["h"].max(), shown["l"].min()) == (500.0, 1.0)
    assert shown["t"][-1] == times[-1]
    around = shown["t"][(shown["t"] >= times[59_980]) & (shown["t"] <= times[60_020])]
    assert around.tolist() == times[59_980:60_021].tolist()


def test_a_line_of_steps_is_kept_by_its_steps():
    times = np.arange(6.0)
    numbers = Numbers()
    names = Store(numbers, times, times[:0]).line(Line("fees", "fees", times, np.array([0.0, 0.0, -1.0, -1.0, -1.0, -1.0]), is_step=True))
    assert array_of({"arrays": numbers.arrays}, names["t"]).tolist() == [0, 2, 5]


# -- Backtrader's plotter --------------------------------------------------------------------------------------------


def ran(*strategies: type[bt.Strategy]) -> bt.Cerebro:
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000)
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=10, tiers=0.01))
    cerebro.adddata(PerpData(dataname=frame([CALM] * 3 + [CRASH, CALM]), name="AAAUSDT"))
    for strategy in strategies:
        cerebro.addstrategy(strategy)
    cerebro.run()
    return cerebro


def test_cerebro_plot_writes_the_page_and_returns_its_path(tmp_path):
    path = tmp_path / "new" / "run.html"
    assert ran(Once).plot(Report(path), iplot=False) == [[path]]
    assert "AAAUSDT" in read(path.read_text("utf-8")).text


def test_start_and_end_of_cerebro_plot_are_what_the_page_shows_first(tmp_path):
    cerebro = ran(Once)
    index = pd.date_range("2024-01-01 02:00", periods=5, freq="h", tz="UTC")  # closing instants
    cerebro.plot(Report(tmp_path / "run.html"), iplot=False, start=1, end=3)
    assert data_of((tmp_path / "run.html").read_text("utf-8"))["view"] == [index[1].timestamp(), index[3].timestamp()]


def test_several_strategies_of_one_account_have_one_page(tmp_path):
    class Watcher(bt.Strategy):
        pass

    path = tmp_path / "run.html"
    assert ran(Once, Watcher).plot(Report(path), iplot=False) == [[path], [path]]
    assert [item.name for item in tmp_path.iterdir()] == ["run.html"]


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda: Report(5), r"Report\(\) draws a Result, was int"),
        (lambda: Report(calm(), lang="xx"), "written in en or zh, was 'xx'"),
        (lambda: Report("run.html").html(), r"use Report\(result\)"),
        (lambda: Report(calm()).plot(calm().strategy), r"cerebro.plot\(Report\('run.html'\)\)"),
        (lambda: Report("run.html").plot(object()), "whole strategy"),
        (lambda: Report(calm()).html(start="2030-01-01"), "no bar lies from start=2030-01-01"),
        (lambda: Report(calm()).html(start=99), "was 99; the run has 22 bars"),
        (lambda: Report(calm()).html(start=1.5), "numbers of bars or dates, was 1.5"),
    ],
)
def test_wrong_use_is_told_in_a_sentence(use, said):
    with pytest.raises(ValueError, match=said):
        use()


# -- without the extra, and on the command line ----------------------------------------------------------------------


@pytest.fixture
def without_plotly(monkeypatch):
    from bt_margin.report import frame as page_frame

    for name in [name for name in sys.modules if name.partition(".")[0] == "plotly"] + ["plotly", "plotly.offline"]:
        monkeypatch.setitem(sys.modules, name, None)
    page_frame._plotly.cache_clear()
    yield
    page_frame._plotly.cache_clear()


def test_without_plotly_a_report_says_what_to_install(without_plotly, tmp_path):
    with pytest.raises(MissingExtraError, match=r"needs plotly, which is not installed: pip install 'bt_margin\[report\]'"):
        Report(calm()).save(tmp_path / "run.html")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "once.py").write_text(
        "import backtrader as bt\nclass Once(bt.Strategy):\n    def next(self):\n        if len(self) == 1:\n            self.buy()\n"
    )
    frame([CALM] * 3 + [CRASH, CALM]).to_csv(tmp_path / "BTCUSDT-1h.csv", index_label="datetime")
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMAND = ("run", "once.py", "--data", "BTCUSDT-1h.csv", "--leverage", "10", "--cash", "1000", "--sizer", "50", "--report", "pages")


def test_the_command_line_writes_the_page_with_its_exact_command(folder, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(COMMAND)
    text = read((folder / "pages" / "run.html").read_text("utf-8")).text
    assert ended.value.code in (0, None)
    assert "Wrote pages/run.html" in capsys.readouterr().out
    assert "bt-margin run once.py --data BTCUSDT-1h.csv --leverage 10 --cash 1000.0 --sizer 50" in text


def test_the_command_line_writes_the_page_in_chinese_and_knows_its_languages(folder, capsys):
    with pytest.raises(SystemExit):
        cli.main([*COMMAND, "--lang", "zh"])
    assert '<html lang="zh">' in (folder / "pages" / "run.html").read_text("utf-8")
    with pytest.raises(SystemExit) as ended:
        cli.main([*COMMAND, "--lang", "xx"])
    assert ended.value.code == 2
    assert "written in en or zh, was 'xx'" in capsys.readouterr().err


def test_without_plotly_the_command_line_says_so_and_writes_the_still_picture(folder, without_plotly, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(COMMAND)
    printed = capsys.readouterr()
    assert ended.value.code in (0, None)
    assert "needs plotly, which is not installed" in printed.err
    assert [path.name for path in (folder / "pages").iterdir()] == ["page.png"]


def test_a_run_without_a_fill_has_a_page():
    assert "Nothing was liquidated." in read(Report(idle()).html()).text


def test_a_stubborn_account_of_many_liquidations_says_how_many():
    html = page_of("died often")
    count = len(RUNS["died often"]().liquidations)
    assert f"Liquidations ({count})" in read(html).text
    assert html.count('<tr data-time="') == count
    assert Stubborn.__name__ in read(html).text


# -- what a reader asks next -----------------------------------------------------------------------------------------


class Hedger(bt.Strategy):
    """Holds both legs from the second bar on."""

    def next(self):
        if len(self) == 1:
            self.buy(size=4, position_side="LONG")
            self.sell(size=3, position_side="SHORT")


def test_the_legs_of_a_hedge_are_told_apart_by_their_dashes():
    terms = {"leverage": 10, "margin_mode": "isolated", "cash": 1_000, "position_mode": "hedge"}
    result = run(Hedger, {"BTCUSDT": frame([CALM] * 5)}, venue="generic", **terms)
    (price,) = (pane for pane in data_of(Report(result).html())["panes"] if pane["key"] == "price")
    looks = {line["key"]: (line["color"], line["dash"]) for line in price["lines"]}
    assert looks["liquidation_price:BTCUSDT:LONG"] == ("red", "solid")
    assert looks["liquidation_price:BTCUSDT:SHORT"] == ("red", "dashdot")
    assert looks["bankruptcy_price:BTCUSDT:LONG"][1] != looks["bankruptcy_price:BTCUSDT:SHORT"][1]


def test_the_closest_call_is_told_with_its_day_and_in_average_true_ranges():
    """20 bars of 2 from high to low, so an ATR of 2; 5x isolated at 100 dies at (100 - 20) / 0.995 = 80.402.

    The lowest mark, 89, is 89 - 80.402 = 8.598 away: 9.66 % of the mark, and 8.598 / (2 x 13 / 14 + 11 / 14) = 3.3 ATR with that bar's
    own range of 11 in it.
    """
    rows = [CALM] * 20 + [(100, 100, 89, 100)] + [CALM] * 3
    result = run(Once, {"AAAUSDT": frame(rows)}, venue="generic", leverage=5, margin_mode="isolated", cash=1_000, sizer=1)
    assert result.closest is not None
    assert result.closest.share == pytest.approx((89 - 80 / 0.995) / 89)
    assert result.closest.ranges == pytest.approx((89 - 80 / 0.995) / ((2 * 13 + 11) / 14))
    assert "of the mark from a liquidation price (3.3 ATR, on 2024-01-01)" in read(Report(result).html()).text


def test_a_closest_call_before_there_is_an_average_has_its_day_alone():
    rows = [CALM] * 3 + [(100, 100, 89, 100), CALM]
    result = run(Once, {"AAAUSDT": frame(rows)}, venue="generic", leverage=5, margin_mode="isolated", cash=1_000, sizer=1)
    assert "of the mark from a liquidation price (on 2024-01-01)" in read(Report(result).html()).text


def test_nothing_held_has_no_closest_call():
    assert idle().closest is None


def test_marks_of_their_own_are_named_among_the_assumptions():
    with_marks = frame([CALM] * 4, marks=[CALM] * 4)
    result = run(Once, {"AAAUSDT": with_marks, "BBBUSDT": frame([CALM] * 4)}, venue="generic", cash=1_000, sizer=1)
    text = read(Report(result).html()).text
    assert "mark price: the mark candles given for AAAUSDT" in text
    assert "mark from last: BBBUSDT" in text
    assert result.settings["mark"] == {"AAAUSDT": "own candles", "BBBUSDT": "last price"}


def test_the_versions_of_what_computes_and_draws_are_on_the_page():
    text = read(page_of("calm")).text
    assert all(
        re.search(rf"{name} \d+\.", text) for name in ("bt_margin", "backtrader", "python", "numpy", "pandas", "plotly", "matplotlib")
    )


@pytest.mark.parametrize("name", RUNS)
def test_the_assumptions_of_a_chinese_page_are_chinese(name):
    page = ours(Report(RUNS[name](), lang="zh").html())
    assumed = re.findall(r"<li>(.*?)</li>", re.search(r'<ul class="plain">(.*?)</ul>', page, re.DOTALL)[1])
    assert assumed
    assert [text for text in assumed if not re.search("[\u4e00-\u9fff]", text)] == []


@pytest.mark.parametrize(
    "flag",
    [
        "the account died at 2020-03-12T10:00:00Z: no Sharpe ratio, no annual return",
        "constant funding of 0.0001 per 8 h: AAAUSDT, BBBUSDT",
        "funding at mark, no oracle price was given: AAAUSDT",
        "detail without marks, fine mark is fine last clipped to the bar's mark: AAAUSDT",
        "no maintenance margin: AAAUSDT",
        "spot, paid in full: BTC",
        "inverse, all money in BTC: BTCUSD_PERP",
        "slab tiers, counted in base: AAAUSDT",
        "maintenance of the notional at entry: AAAUSDT",
        "closing fee kept in margin (bankruptcy): AAAUSDT",
        "tiers as of 2026-01-12: AAAUSDT",
        "tiers as of 2026-01-12: AAAUSDT, the first known, also before that day (from 2020-01-01)",
        "tiers as of 2020-01-12 to 2026-01-12 (3 tables): AAAUSDT",
        "tiers as of 2020-01-12 to 2026-01-12 (3 tables): AAAUSDT, the first known, also before that day (from 2019-01-01)",
        "margin terms changed 2024-01-01, 2025-01-01: AAAUSDT",
        "bars missing between the first and the last: AAAUSDT 3",
        "no funding stamps, none paid: AAAUSDT 2020-01-01T00:00:00Z to 2020-02-01T00:00:00Z and 2 shorter times",
        "no funding stamps, none paid: AAAUSDT 2020-01-01T00:00:00Z to 2020-02-01T00:00:00Z",
        "funding stamps in data gaps, settled at the last known mark: 4",
        "detail missing, the path of the bar was walked: AAAUSDT 2 of 9 bars",
        "intrabar: favourable",
        "intrabar: worst",
        "intrabar: close",
        "ended 2020-01-01T00:00:00Z, before the data does, 2020-02-01T00:00:00Z",
        "the stock baseline is of other sizes, 3 AAAUSDT first where the account has 1: stock Backtrader multiplies",
        "the stock baseline ended 2020-01-01T00:00:00Z: ZeroDivisionError",
    ],
)
def test_every_stated_policy_is_said_in_chinese_with_its_values(flag):
    said = words.Words("zh").flag(flag)
    assert re.search("[\u4e00-\u9fff]", said)
    assert [number for number in re.findall(r"[A-Z]{5,}|\d[\d.:TZ-]*\d|\d", flag.partition(": stock")[0]) if number not in said] == []
    assert words.Words("en").flag(flag) == flag


class Both(bt.Strategy):
    """Buys ten of both contracts on the first bar."""

    def next(self):
        if len(self) == 1:
            for data in self.datas:
                self.buy(data, size=10)


def test_liquidations_may_be_only_possible_though_every_path_has_them_and_the_page_says_why():
    """10 of each at 100 in one wallet of 205: both at 85 lose 300, and every path moves them together; one at 85 alone loses 150 and lives.

    So both are taken on each path, with the same end, and none is certain: with the other at its best no contract's extreme suffices.
    """
    fall = frame([CALM, (100, 100, 100, 100), (100, 100, 85, 85), (85, 85, 85, 85)])
    result = run(Both, {"AAAUSDT": fall, "BBBUSDT": fall}, venue="generic", leverage=10, cash=205, bounds=True)
    assert (result.summary["liquidations"], result.summary["possible_liquidations"]) == (2, 2)
    assert result.bounds is not None
    assert result.bounds.liquidations == (2, 2)
    assert {end.summary["final_equity"] for _, end in result.bounds.ends} == {result.summary["final_equity"]}
    assert "because contracts may move apart inside a bar" in read(Report(result).html()).text


def test_one_contract_that_every_path_liquidates_is_certain():
    fall = frame([CALM, (100, 100, 100, 100), (100, 100, 75, 75), (75, 75, 75, 75)])
    result = run(Both, {"AAAUSDT": fall}, venue="generic", leverage=10, cash=205, bounds=True)
    assert (result.summary["liquidations"], result.summary["possible_liquidations"]) == (1, 0)
