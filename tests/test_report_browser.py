"""The report page in a browser: it is drawn in time, fetches nothing, complains of nothing, and moves when asked.

Needs Chromium and its driver from the system and selenium from the extra ``test``. Screenshots go to the folder that
BT_MARGIN_SCREENSHOTS names, else to a temporary one.
"""

import base64
import json
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from io import BytesIO
from pathlib import Path
from shutil import which
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from comparing import compared
from looking import died_often
from matplotlib.image import imread

from bt_margin import Report, sizers
from bt_margin.backtest import run

ROOT = Path(__file__).parents[1]
BROWSER = next(filter(None, map(which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = which("chromedriver")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars", "--force-color-profile=srgb"),
)
SCREENS = {"desk": (1440, 900), "phone": (390, 844)}
HOUR = 3_600
MOST_BYTES = 8_000_000
MOST_SECONDS = 3.0
PATIENCE = 60.0  # seconds until a busy machine has drawn a page

pytest.importorskip("plotly", reason="the report page needs the extra: pip install -e '.[report]'")
webdriver = pytest.importorskip("selenium.webdriver", reason="looking at a page needs selenium: pip install -e '.[test]'")


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Any]:
    """A headless Chromium of the system; nothing is downloaded."""
    if BROWSER is None or DRIVER is None:
        pytest.skip("looking at a page needs Chromium and its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.get("about:blank")
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def shots(tmp_path_factory) -> Path:
    folder = Path(os.environ.get("BT_MARGIN_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def show(browser: Any, page: Path, *, screen: str = "desk", is_dark: bool = False) -> dict[str, float]:
    """Open a page as on a screen and wait until it is drawn; return the milliseconds that its steps took from navigation on."""
    from selenium.webdriver.support.ui import WebDriverWait

    width, height = SCREENS[screen]
    is_phone = screen == "phone"
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": is_phone})
    theme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})
    browser.get("about:blank")
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(page.as_uri())
    WebDriverWait(browser, PATIENCE, 0.05).until(
        lambda _: browser.execute_script("return document.body.dataset.ready && document.body.dataset.drawn")
    )
    return browser.execute_script("return {sketched: Number(document.body.dataset.sketched), ready: Number(document.body.dataset.ready)}")


def wait_until_drawn(browser: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, PATIENCE, 0.05).until(lambda _: browser.execute_script("return document.body.dataset.drawn"))


def spans(browser: Any) -> list[tuple[float, float]]:
    """Return what each pane over time shows, by what the drawing library has drawn."""
    script = """return [...document.querySelectorAll('.pane .plot')].map((plot) =>
        plot.layout.xaxis.range.map((edge) => (typeof edge === 'number' ? edge : Date.parse(edge.replace(' ', 'T') + 'Z')) / 1000))"""
    return [tuple(span) for span in browser.execute_script(script)]


def complaints(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def requests(browser: Any) -> set[str]:
    """Return the schemes of everything that the page asked for."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return {
        message["params"]["request"]["url"].partition(":")[0] for message in messages if message["method"] == "Network.requestWillBeSent"
    }


def screenshot(browser: Any, path: Path) -> np.ndarray:
    """Save what is on the screen and return its colours, 0 to 1."""
    raw = base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"])
    path.write_bytes(raw)
    return imread(BytesIO(raw))[:, :, :3]


class Turning(bt.Strategy):
    """Goes long and short by turns, two days each."""

    def next(self):
        if len(self) % 2_880 == 1:
            if self.position:
                self.close()
            elif len(self) // 2_880 % 4 == 0:
                self.buy()
            else:
                self.sell()


def crash(reference: Path) -> Any:
    """A martingale grid at 20x through March 2020."""
    candles = reference / "data" / "windows" / "2020-03-12_covid" / "binance-BTCUSDT-1h-futures_mark_funding.csv"
    from strategies.martingale_grid import MartingaleGrid

    return run(MartingaleGrid, {"BTCUSDT": candles}, leverage=20, margin_mode="isolated", sizer=0.2, baseline=True)


def years(reference: Path) -> Any:
    """A moving-average cross at 10x on all hours from the end of 2019 to 2026, half of what is available as margin."""
    from strategies.sma_cross import SmaCross

    def read(name: str) -> pd.DataFrame:
        return pd.read_parquet(reference / "data" / "series" / f"binance-BTCUSDT-{name}.parquet").set_index("datetime")

    marks = read("1h-mark")
    candles = read("1h-futures").loc[marks.index[0] : marks.index[-1]]
    terms = {"mark": marks, "funding": read("funding")["rate"], "leverage": 10, "margin_mode": "isolated", "baseline": True}
    params = {"fast": 100, "slow": 400}
    return run(SmaCross, {"BTCUSDT": candles}, params=params, sizer=(sizers.MarginFraction, {"fraction": 0.5}), **terms)


@pytest.fixture(scope="module")
def made(reference, tmp_path_factory) -> Callable[[str], Path]:
    """Return a function that gives the page of one of the two runs, made once."""
    folder, runs = tmp_path_factory.mktemp("pages"), {"crash": crash, "years": years}

    def page(name: str) -> Path:
        path = folder / f"{name}.html"
        return path if path.exists() else Report(runs[name](reference)).save(path)

    return page


PAGES = ["crash", pytest.param("years", marks=pytest.mark.slow)]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_the_page_is_drawn_on_every_screen_and_asks_for_nothing(browser, made, shots, name, screen, is_dark):
    took = show(browser, made(name), screen=screen, is_dark=is_dark)
    colours = screenshot(browser, shots / f"{name}-{screen}-{'dark' if is_dark else 'light'}.png")
    assert complaints(browser) == []
    assert requests(browser) <= {"file", "data", "blob"}
    assert took["sketched"] < 1_000 * MOST_SECONDS
    assert made(name).stat().st_size < MOST_BYTES
    assert (np.median(colours) < 0.3) == is_dark
    assert colours.std() > 0.05
    assert browser.execute_script("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize("name", PAGES)
def test_every_liquidation_is_marked_on_the_price(browser, made, name):
    show(browser, made(name))
    rows = browser.execute_script("return document.querySelectorAll('tr[data-time]').length")
    script = """return document.querySelector("#plot-price").data.filter((trace) => trace.marker && trace.marker.symbol === "x")
        .map((trace) => trace.x.length)"""
    assert browser.execute_script(script) == [rows]


@pytest.mark.parametrize("name", PAGES)
def test_a_click_on_a_liquidation_moves_every_pane_to_its_hour(browser, made, shots, name):
    show(browser, made(name))
    before = spans(browser)
    row = browser.find_element("css selector", "tr[data-time] .when button")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", row)
    row.click()
    wait_until_drawn(browser)
    after = spans(browser)
    died = datetime.fromisoformat(f"{row.text}+00:00").timestamp()
    screenshot(browser, shots / f"{name}-clicked.png")
    assert len(set(before)) == len(set(after)) == 1
    (first, last), (was_first, was_last) = after[0], before[0]
    assert was_first <= first < died < last <= was_last
    assert last - first == pytest.approx(30 * HOUR)
    assert browser.execute_script("return document.querySelector('#pane-price').getBoundingClientRect().top < innerHeight / 2")
    low, high = browser.execute_script("return document.querySelector('#plot-price').layout.yaxis.range")
    assert high < 2 * low  # of a log scale its logarithms: the hour fills the pane, whatever lies far from it in time
    assert "margin added" in browser.find_element("id", "chosen").text


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return Report(died_often()).save(tmp_path_factory.mktemp("small") / "run.html")


def test_dragging_across_one_pane_zooms_all_and_a_double_click_shows_everything(browser, small):
    from selenium.webdriver.common.action_chains import ActionChains

    show(browser, small)
    whole = spans(browser)
    pane = browser.find_element("css selector", "#plot-equity .nsewdrag")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", pane)
    ActionChains(browser).move_to_element_with_offset(pane, -200, 0).click_and_hold().move_by_offset(150, 0).release().perform()
    wait_until_drawn(browser)
    zoomed = spans(browser)
    assert len(set(zoomed)) == 1
    assert zoomed[0][1] - zoomed[0][0] < 0.3 * (whole[0][1] - whole[0][0])
    ActionChains(browser).double_click(pane).perform()
    wait_until_drawn(browser)
    assert spans(browser) == whole


def test_the_crosshair_stands_at_one_instant_in_every_pane_and_says_it(browser, small):
    from selenium.webdriver.common.action_chains import ActionChains

    show(browser, small)
    pane = browser.find_element("css selector", "#plot-price .nsewdrag")
    ActionChains(browser).move_to_element_with_offset(pane, 40, 10).perform()
    script = "return [...document.querySelectorAll('.cross')].map((line) => line.hidden ? null : line.getBoundingClientRect().left)"
    places = browser.execute_script(script)
    assert None not in places
    assert max(places) - min(places) < 1
    assert "UTC" in browser.find_element("css selector", ".cross-time").text


def test_buttons_and_the_other_theme_draw_the_panes_anew(browser, small):
    show(browser, small)
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = browser.execute_script(ground)
    whole = spans(browser)
    browser.find_element("css selector", "[data-span='86400']").click()
    wait_until_drawn(browser)
    assert {last - first for first, last in spans(browser)} == {86_400}
    browser.find_element("css selector", "[data-move='-1']").click()
    wait_until_drawn(browser)
    browser.find_element("css selector", "[data-span='all']").click()
    wait_until_drawn(browser)
    assert spans(browser) == whole
    browser.find_element("id", "theme").click()
    wait_until_drawn(browser)
    assert browser.execute_script(ground) != light
    assert complaints(browser) == []


def test_the_scale_of_a_pane_can_be_changed_and_its_button_says_which_it_is(browser, small):
    show(browser, small)
    button = browser.find_element("css selector", "#pane-price .log")
    scale = "return document.querySelector('#plot-price').layout.yaxis.type"
    before = browser.execute_script(scale)
    assert button.get_attribute("aria-pressed") == str(before == "log").lower()
    button.click()
    after = browser.execute_script(scale)
    assert {before, after} == {"log", "linear"}
    assert button.get_attribute("aria-pressed") == str(after == "log").lower()


def test_the_page_prints_in_light_colours_on_paper(browser, small, shots):
    show(browser, small, is_dark=True)
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    (shots / "printed.pdf").write_bytes(pdf)
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 50_000
    assert complaints(browser) == []
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") in ("rgb(244, 245, 247)", "rgb(255, 255, 255)")
    browser.execute_script("dispatchEvent(new Event('afterprint'))")


def test_files_are_handed_over(browser, small, tmp_path):
    show(browser, small)
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    from selenium.webdriver.support.ui import WebDriverWait

    browser.find_element("css selector", "[data-file='liquidations.csv']").click()
    target = tmp_path / "liquidations.csv"
    WebDriverWait(browser, PATIENCE, 0.05).until(lambda _: target.exists() and target.stat().st_size)
    assert len(target.read_text("utf-8").splitlines()) == 1 + len(died_often().liquidations)


# -- the page of a comparison ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def comparison(tmp_path_factory) -> Path:
    return Report(compared()).save(tmp_path_factory.mktemp("comparison") / "compare.html")


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_a_comparison_is_drawn_on_every_screen_and_asks_for_nothing(browser, comparison, shots, screen, is_dark):
    took = show(browser, comparison, screen=screen, is_dark=is_dark)
    colours = screenshot(browser, shots / f"comparison-{screen}-{'dark' if is_dark else 'light'}.png")
    assert complaints(browser) == []
    assert requests(browser) <= {"file", "data", "blob"}
    assert took["sketched"] < 1_000 * MOST_SECONDS
    assert comparison.stat().st_size < MOST_BYTES
    assert (np.median(colours) < 0.3) == is_dark
    assert browser.execute_script("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    crosses = """return [...document.querySelectorAll('.heat .over-cap')].filter((cross) => {
        const [own, cell] = [cross.getBoundingClientRect(), cross.closest('td').getBoundingClientRect()];
        return own.left < cell.left || own.right > cell.right || own.top < cell.top || own.bottom > cell.bottom}).length"""
    assert browser.execute_script(crosses) == 0
    named = browser.execute_script("return document.querySelectorAll('#plot-pareto .textpoint').length")
    assert (named > 0) == (screen == "desk")  # on a phone a name would cover the chart
    assert browser.execute_script("return document.querySelectorAll('#plot-cliff .scatterlayer .trace').length") == 11  # ten and Kelly's
    assert browser.execute_script("return document.querySelectorAll('#plot-pareto .points path').length") == 100


def test_a_head_sorts_the_ranked_table_and_sorts_it_back(browser, comparison):
    show(browser, comparison)
    script = "return [...document.querySelectorAll('#ranked tbody tr')].map((row) => Number(row.cells[arguments[0]].dataset.value))"
    heads = [head.text for head in browser.find_elements("css selector", "#ranked th")]
    place = heads.index("P(liq.)")
    button = browser.find_elements("css selector", "#ranked th")[place].find_element("css selector", "button")
    browser.execute_script("arguments[0].click()", button)
    falling = browser.execute_script(script, place)
    browser.execute_script("arguments[0].click()", button)
    rising = browser.execute_script(script, place)
    assert falling == sorted(falling, reverse=True)
    assert rising == sorted(rising)
    assert falling != rising
    assert browser.find_elements("css selector", "#ranked th")[place].get_attribute("aria-sort") == "ascending"


def test_the_fans_of_another_leverage_are_shown_when_asked_for(browser, comparison, shots):
    show(browser, comparison)
    shown = "return [...document.querySelectorAll('.fan')].filter((fan) => fan.offsetParent).map((fan) => fan.dataset.of)"
    before = browser.execute_script(shown)
    button = browser.find_element("css selector", "[data-leverage='20']")
    browser.execute_script("arguments[0].scrollIntoView({block: 'start'})", button)
    button.click()
    after = browser.execute_script(shown)
    screenshot(browser, shots / "comparison-fans.png")
    assert len(before) == len(after) == 10
    assert set(after) == {"20"} != set(before)
    assert button.get_attribute("aria-pressed") == "true"


def test_the_cliff_is_drawn_by_effective_leverage_when_asked_for(browser, comparison, shots):
    show(browser, comparison)
    axis = "return document.querySelector('#plot-cliff').layout.xaxis.title.text"
    before = browser.execute_script(axis)
    buttons = browser.find_elements("css selector", "[data-chart='cliff']")
    browser.execute_script("arguments[0].scrollIntoView({block: 'start'})", buttons[1])
    buttons[1].click()
    screenshot(browser, shots / "comparison-cliff.png")
    assert (before, browser.execute_script(axis)) == ("leverage set", "mean effective leverage (notional / equity)")
    assert complaints(browser) == []


def test_a_comparison_prints_on_a_few_pages(browser, comparison, shots):
    show(browser, comparison)
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    (shots / "comparison.pdf").write_bytes(pdf)
    assert 3 <= pages_of(pdf) <= 9


def pages_of(pdf: bytes) -> int:
    return pdf.count(b"/Type /Page\n")


@pytest.mark.slow
def test_a_year_of_minutes_is_drawn_in_time_and_small(browser, tmp_path, shots):
    count, luck = 525_600, np.random.default_rng(7)
    close = 10_000 * np.exp(np.cumsum(luck.normal(0, 0.0006, count)))
    begin = np.concatenate([[10_000.0], close[:-1]])
    high, low = (
        np.maximum(begin, close) * (1 + abs(luck.normal(0, 0.0003, count))),
        np.minimum(begin, close) * (1 - abs(luck.normal(0, 0.0003, count))),
    )
    index = pd.date_range("2023-01-01", periods=count, freq="min", tz="UTC")
    candles = pd.DataFrame({"open": begin, "high": high, "low": low, "close": close, "volume": 1.0}, index=index)
    terms = {"sizer": (sizers.MarginFraction, {"fraction": 0.3}), "funding": 0.0001}
    result = run(Turning, {"BTCUSDT": candles}, leverage=25, margin_mode="isolated", **terms)
    page = Report(result).save(tmp_path / "minutes.html")
    took = show(browser, page)
    screenshot(browser, shots / "minutes.png")
    assert took["sketched"] < 1_000 * MOST_SECONDS
    assert page.stat().st_size < MOST_BYTES
    assert complaints(browser) == []
