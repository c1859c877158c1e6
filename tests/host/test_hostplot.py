"""plot() draws the host's chart on figures of its own, with dates one can read, and changes nothing else."""

import doctest
import io
import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from playing import CALM, Script, buy, close, frame

from bt_margin import MarginBroker, PerpCommInfo, PerpData, hostplot
from bt_margin.hostplot import plot, round_rows
from bt_margin.observers import LiquidationPrice, MarginRatio, WalletEquity

ROOT = Path(__file__).parents[2]
HOUR, DAY = 3_600.0, 86_400.0
RISE = [(100 + step, 101 + step, 99 + step, 100 + step) for step in range(60)]


def ran(*candles, script=None, leverage=10, observers=True, **settings) -> bt.Cerebro:
    """Return a Cerebro that has run a script with the host's observers and ours."""
    cerebro = bt.Cerebro(**settings)
    cerebro.broker = MarginBroker(cash=1_000, margin_mode="isolated")
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=leverage, tiers=0.01, liquidation_fee=0.0))
    for number, candle_frame in enumerate(candles):
        cerebro.adddata(PerpData(dataname=candle_frame, name="ABC"[number] * 3, timeframe=bt.TimeFrame.Minutes, compression=60))
    if observers:
        cerebro.addobservermulti(LiquidationPrice)
        cerebro.addobserver(MarginRatio)
        cerebro.addobserver(WalletEquity)
    cerebro.addstrategy(Script, script={2: buy(), 40: close} if script is None else script)
    cerebro.run()
    return cerebro


def labels(axes) -> list[str]:
    """Return the dates that can be read below some axes."""
    return [label.get_text() for label in axes.get_xticklabels() if label.get_visible()]


def panes(figure) -> dict[str, object]:
    """Return axes by the first line of each of their legend's labels."""
    return {
        text.get_text().split("\n")[0].split(" C:")[0]: axes
        for axes in figure.axes
        if axes.get_legend() is not None
        for text in axes.get_legend().get_texts()
    }


def marks(figure, name) -> list[tuple[int, float]]:
    """Return what is drawn of a line on the price axis: (bar, value)."""
    (drawn,) = [drawn for axes in figure.axes for drawn in axes.lines if drawn.get_label().startswith(name)]
    return [(int(x), float(y)) for x, y in zip(drawn.get_xdata(), drawn.get_ydata(), strict=True) if y == y]


@pytest.fixture(scope="module")
def rose() -> bt.Cerebro:
    """Sixty hours from 2024-01-01 02:00 on (their closes); a long of 1 is bought at 102 on the third and sold on the 41st."""
    return ran(frame(RISE))


@pytest.fixture(scope="module")
def bare() -> bt.Cerebro:
    """The same without observers, which is quicker to draw."""
    return ran(frame(RISE), observers=False, stdstats=False)


@pytest.fixture(scope="module")
def drawn(rose) -> Figure:
    ((figure,),) = plot(rose)
    figure.canvas.draw()
    return figure


# -- what is drawn ---------------------------------------------------------------------------------------------------


def test_dates_are_written_below_the_lowest_axes_only_and_are_those_of_the_bars(drawn):
    *upper, lowest = drawn.axes
    times = pd.date_range("2024-01-01 02:00", periods=60, freq="h")
    dates = [f"{times[int(row)]:%Y-%m-%d %H:%M}" for row in lowest.get_xticks()]
    *_, host_lowest = [axes for axes in drawn.axes if labels(axes)]
    assert labels(host_lowest) == dates == [f"2024-01-0{1 + hour // 24} {hour % 24:02d}:00" for hour in range(6, 61, 6)]
    assert sum(bool(labels(axes)) for axes in [*upper, lowest]) == 1
    assert host_lowest.get_xlabel() == "UTC"


def test_dates_are_inside_the_picture(drawn):
    boxes = [label.get_window_extent() for axes in drawn.axes for label in axes.get_xticklabels() if label.get_visible()]
    assert min(box.y0 for box in boxes) > 0
    assert len(boxes) == 10
    assert all(earlier.x1 < later.x0 for earlier, later in pairwise(boxes))


def test_the_form_of_dates_is_the_hosts_option(bare):
    ((figure,),) = plot(bare, fmt_x_ticks="%d.%m.", tickrotation=0)
    assert {text for axes in figure.axes for text in labels(axes)} == {"01.01.", "02.01.", "03.01."}


def test_bars_fill_the_width(drawn):
    ((first, last),) = {axes.get_xlim() for axes in drawn.axes}
    assert -0.5 <= first <= 0
    assert 59 <= last <= 60


def test_observers_are_drawn_where_they_belong(drawn):
    found = panes(drawn)
    price = found["AAA (60 Minutes)"]
    ratio, account = found["Margin ratio = maintenance margin / equity (1 = liquidation)"], found["Account"]
    assert found["Liquidation price"] is price
    assert len({ratio, account, price}) == 3
    assert {0.5, 0.8, 1.0} <= {float(line.get_ydata()[0]) for line in ratio.lines if len(set(line.get_ydata())) == 1}
    assert ratio.get_ylim()[1] > 1


def test_liquidation_price_is_marked_on_the_bars_that_hold(drawn):
    entry = 102
    assert marks(drawn, "Liquidation price") == [(bar, pytest.approx(entry * 0.9 / 0.99)) for bar in range(2, 40)]


def test_a_far_liquidation_price_leaves_the_range_of_prices_alone():
    ranges = []
    for observers in (True, False):
        ((figure,),) = plot(ran(frame(RISE), leverage=2, observers=observers, stdstats=False))
        ranges.append(panes(figure)["AAA (60 Minutes)"].get_ylim())
    assert ranges[0] == ranges[1]
    assert ranges[0][0] > 102 * 0.5 / 0.99


def test_a_data_can_make_room_for_a_far_liquidation_price():
    cerebro = ran(frame(RISE), leverage=2, stdstats=False)
    cerebro.datas[0].plotinfo.plotylimited = False
    ((figure,),) = plot(cerebro)
    assert panes(figure)["AAA (60 Minutes)"].get_ylim()[0] < 102 * 0.5 / 0.99


def test_datas_out_of_step_are_drawn_with_their_liquidation_prices_on_their_own_bars():
    second = frame(RISE).iloc[5:50].drop(frame(RISE).index[20:30:2])
    cerebro = ran(frame(RISE), second, script={10: lambda strategy: strategy.buy(strategy.datas[1], size=1)}, stdstats=False)
    ((figure,),) = plot(cerebro)
    (drawn,) = [line for line in panes(figure)["BBB (60 Minutes)"].lines if line.get_label().startswith("Liquidation price")]
    bars = [row for row in range(5, 50) if row not in range(20, 30, 2)]
    assert list(drawn.get_xdata()) == bars
    assert [bar for bar, price in zip(bars, drawn.get_ydata(), strict=True) if price == price] == [bar for bar in bars if bar >= 10]


@pytest.mark.parametrize(
    "options",
    [
        {"style": "bar"},
        {"style": "candle"},
        {"style": "ohlc"},
        {"volume": False},
        {"voloverlay": False, "volup": "green"},
        {"ytight": True},
    ],
)
def test_every_style_of_the_host_can_be_drawn_and_saved(bare, options):
    ((figure,),) = plot(bare, width=4, height=3, dpi=40, **options)
    page = io.BytesIO()
    figure.savefig(page, format="png")
    assert page.getvalue().startswith(b"\x89PNG")
    assert len([axes for axes in figure.axes if labels(axes)]) == 1


def test_a_figure_can_be_saved_in_another_form(drawn):
    page = io.BytesIO()
    drawn.savefig(page, format="svg")
    assert b"2024-01-02" in page.getvalue()


def test_size_and_resolution_are_those_asked_for(bare):
    ((figure,),) = plot(bare, width=8, height=5, dpi=50)
    assert (tuple(figure.get_size_inches()), figure.dpi) == ((8, 5), 50)


def test_figures_are_a_list_for_each_strategy():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker()
    cerebro.adddata(PerpData(dataname=frame(RISE), name="AAA"))
    cerebro.addstrategy(Script, script={1: buy()})
    cerebro.addstrategy(Script, script={})
    cerebro.run()
    figures = plot(cerebro, numfigs=3)
    assert [len(row) for row in figures] == [3, 3]
    assert len({id(figure) for row in figures for figure in row}) == 6
    dates = [[text for axes in figure.axes for text in labels(axes)] for figure in figures[0]]
    assert [row[0] for row in dates] == ["2024-01-01 02:00", "2024-01-01 22:00", "2024-01-02 18:00"]


@pytest.mark.parametrize(
    ("bounds", "bars"),
    [
        ({"start": 10, "end": 20}, 10),
        ({"start": 50}, 10),
        ({"end": -11}, 50),
        ({"start": date(2024, 1, 3)}, 60 - 46),
        ({"start": datetime(2024, 1, 2), "end": datetime(2024, 1, 2, 5, tzinfo=UTC)}, 6),
    ],
)
def test_a_part_of_the_run_can_be_drawn(bare, bounds, bars):
    ((figure,),) = plot(bare, volume=False, **bounds)
    (closes,) = [line for axes in figure.axes for line in axes.lines if line.get_label().startswith("AAA")]
    assert len(closes.get_xdata()) == bars


def test_a_run_of_one_bar_can_be_drawn():
    ((figure,),) = plot(ran(frame([CALM])))
    assert [labels(axes) for axes in figure.axes if labels(axes)] == [["2024-01-01 02:00"]]


def test_an_optimisation_that_kept_its_strategies_can_be_drawn():
    cerebro = bt.Cerebro(maxcpus=1, optreturn=False, stdstats=False)
    cerebro.broker = MarginBroker()
    cerebro.adddata(PerpData(dataname=frame(RISE), name="AAA"))
    cerebro.optstrategy(Script, script=[{1: buy()}, {}])
    cerebro.run()
    assert [len(row) for row in plot(cerebro)] == [1, 1]


# -- nothing else ----------------------------------------------------------------------------------------------------


def test_a_second_picture_is_new_and_leaves_the_first_alone(bare):
    ((first,),) = plot(bare)
    ((second,),) = plot(bare)
    assert first is not second
    assert [len(first.axes), len(second.axes)] == [2, 2]  # prices and volume


def test_options_of_one_picture_are_not_those_of_the_next(bare):
    ((plain,),) = plot(bare, volume=False, style="candle")
    ((again,),) = plot(bare)
    assert (len(plain.axes), len(again.axes)) == (1, 2)
    assert sys.modules["backtrader.plot"].Plot().p.scheme.volume is True


PROGRAM = """
import json, os, sys, warnings
sys.path[:0] = {paths!r}
import matplotlib as mpl
if "MPLBACKEND" in os.environ:
    import matplotlib.pyplot  # gives a window system up as it is imported, where there is no display for it
import backtrader as bt
from bt_margin import MarginBroker, PerpData
from bt_margin.hostplot import plot
from playing import CALM, frame

cerebro, said = bt.Cerebro(), {{}}
cerebro.broker = MarginBroker()
cerebro.adddata(PerpData(dataname=frame([CALM] * 30), name="AAA"))
cerebro.run()

def state():
    return mpl.rcParams.copy(), list(warnings.filters), mpl.use

before, loaded = state(), sorted(name for name in sys.modules if name.startswith("backtrader.plot"))
plot(cerebro)[0][0].savefig({folder!r} + "/first.png", dpi=30)
said["loaded before"] = loaded
said["same"] = before == state()
mpl.dates.set_epoch("0000-12-31T00:00")  # refused once a date axis has been drawn
import matplotlib.pyplot as plt
said["figures"] = plt.get_fignums()

mpl.use("Agg")
for number in (0, 7):
    plt.figure(number).add_subplot().plot([1, 2])
warnings.simplefilter("error")
mpl.rcParams["font.size"] = 7
before = state()
plot(cerebro)[0][0].savefig({folder!r} + "/second.png", dpi=30)
said["same with open figures"] = before == state() and mpl.get_backend().lower() == "agg"
said["open figures"] = [(number, len(plt.figure(number).axes)) for number in plt.get_fignums()]
print(json.dumps(said))
"""


@pytest.mark.parametrize("backend", [None, "TkAgg"])
def test_without_a_display_it_draws_and_leaves_the_process_as_it_was(backend, tmp_path):
    """pyplot's back end and figures, matplotlib's settings and epoch, the filters of warnings."""
    paths = [str(folder) for folder in (ROOT, ROOT / "tests")]
    environment = {name: value for name, value in os.environ.items() if name not in ("MPLBACKEND", "DISPLAY", "WAYLAND_DISPLAY")}
    environment |= {"MPLBACKEND": backend} if backend else {}
    command = [sys.executable, "-c", PROGRAM.format(paths=paths, folder=str(tmp_path))]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    assert json.loads(ended.stdout) == {
        "loaded before": [],
        "same": True,
        "figures": [],
        "same with open figures": True,
        "open figures": [[0, 1], [7, 1]],
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.png", "second.png"]


# -- what cannot be drawn --------------------------------------------------------------------------------------------


def test_a_cerebro_that_has_not_run_is_refused():
    with pytest.raises(ValueError, match=r"this Cerebro has none; call cerebro\.run\(\) first"):
        plot(bt.Cerebro())


def test_a_run_that_kept_no_bars_is_refused():
    with pytest.raises(ValueError, match="needs the bars of the run and exactbars=1 keeps none; use exactbars=0, -1 or -2"):
        plot(ran(frame(RISE), exactbars=1))


@pytest.mark.parametrize("exactbars", [-1, -2])
def test_a_run_that_saved_memory_elsewhere_is_drawn(exactbars):
    ((figure,),) = plot(ran(frame(RISE), exactbars=exactbars, stdstats=False))
    assert len(marks(figure, "Liquidation price")) == 38


def test_a_run_without_bars_is_refused():
    cerebro = bt.Cerebro()
    cerebro.adddata(bt.feeds.PandasData(dataname=frame(RISE), fromdate=datetime(2025, 1, 1)))
    cerebro.run()
    with pytest.raises(ValueError, match="this run had none; check fromdate and todate"):
        plot(cerebro)


def test_an_optimisation_that_kept_analyzers_only_is_refused():
    cerebro = bt.Cerebro(maxcpus=1)
    cerebro.adddata(bt.feeds.PandasData(dataname=frame(RISE)))
    cerebro.optstrategy(Script, script=[{}, {}])
    cerebro.run()
    with pytest.raises(ValueError, match="this optimisation kept their analyzers only; run the one to draw by itself"):
        plot(cerebro)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stlye": "candle"}, r"no option stlye; it has numfigs, start, end, .*, style, "),
        ({"iplot": False}, "without a window, so iplot has no meaning"),
        ({"use": "Agg"}, "without a window, so use has no meaning"),
        ({"numfigs": 0}, "numfigs is a whole number from 1 to the number of bars, 60, was 0"),
        ({"numfigs": 61}, "was 61"),
        ({"numfigs": 1.5}, r"was 1\.5"),
        ({"numfigs": 11, "start": 50}, "to the number of bars, 10, was 11"),
        ({"start": 60}, "found no bars from start=60 to end=None; the run has 60, 2024-01-01 02:00 to 2024-01-03 13:00 UTC"),
        ({"start": -5}, "found no bars from start=-5"),
        ({"start": 20, "end": 10}, "found no bars from start=20 to end=10"),
        ({"end": 61}, "found no bars from start=None to end=61"),
        ({"start": date(2024, 2, 1)}, "found no bars from start=2024-02-01"),
    ],
)
def test_options_that_mean_nothing_are_refused(rose, options, said):
    with pytest.raises(ValueError, match=said):
        plot(rose, **options)


# -- round dates -----------------------------------------------------------------------------------------------------


def test_examples_in_the_docstrings_are_true():
    outcome = doctest.testmod(hostplot)
    assert outcome.attempted >= 1
    assert outcome.failed == 0


@pytest.mark.parametrize(
    ("start", "freq", "count", "most", "dates"),
    [
        ("2024-01-01 00:00:07", "s", 20, 10, "00:00:08 00:00:10 00:00:12 00:00:14 00:00:16 00:00:18 00:00:20 00:00:22 00:00:24 00:00:26"),
        ("2024-01-01 01:07", "min", 60, 5, "01:15:00 01:30:00 01:45:00 02:00:00"),
        ("2024-01-01 05:00", "h", 24, 5, "06:00:00 12:00:00 18:00:00 00:00:00"),
        ("2024-01-03", "D", 20, 4, "2024-01-08 2024-01-15 2024-01-22"),
        ("2024-01-03", "D", 400, 5, "2024-04-01 2024-07-01 2024-10-01 2025-01-01"),
        ("2019-06-01", "D", 1_700, 5, "2020-01-01 2021-01-01 2022-01-01 2023-01-01 2024-01-01"),
        ("2024-01-01 05:00", "h", 1, 5, "05:00:00"),
        ("2024-01-01 05:07:13", "h", 2, 1, "06:07:13"),
    ],
)
def test_ticks_stand_on_round_dates(start, freq, count, most, dates):
    times = pd.date_range(start, periods=count, freq=freq)
    form = "%Y-%m-%d" if "-" in dates else "%H:%M:%S"
    rows = round_rows([time.timestamp() for time in times.tz_localize("UTC")], most)
    assert " ".join(times[row].strftime(form) for row in rows) == dates


def test_a_round_date_without_a_bar_is_told_by_the_next_bar():
    times = [hour * HOUR for hour in range(48) if hour not in (12, 13)]
    assert round_rows(times, 4) == [0, 12, 22, 34]
    assert times[12] == 14 * HOUR


def test_ticks_that_a_gap_would_pile_up_are_left_out():
    """Forty hours, a week of one bar at each midnight, forty hours: dates that would stand too close are left out."""
    times = [*np.arange(40) * HOUR, *(np.arange(2, 10) * DAY), *(10 * DAY + np.arange(40) * HOUR)]
    rows = round_rows(times, 12)
    assert rows == [0, 24, 40, 43, 46, 72]


def test_a_time_without_round_dates_is_told_by_its_first_bar():
    assert round_rows([0.25], 5) == [0]
