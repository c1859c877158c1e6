"""PerpData against stock PandasData, bit for bit, and its refusals, word for word."""

import copy
import math
import pickle
from array import array
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from backtrader.utils.date import num2date

import bt_margin as bm
from bt_margin.core.funding import FundingSchedule
from bt_margin.feeds import PerpData, UnreadLine
from bt_margin.frames import LocalTimeWarning

LINES = ("close", "low", "high", "open", "volume", "openinterest", "datetime")
MODES = {
    "runonce": {},
    "runnext": {"runonce": False},
    "no_preload": {"preload": False},
    "exactbars": {"exactbars": 1},
    "exactbars_plot": {"exactbars": -1},
    "oldsync": {"oldsync": True},
    "oldsync_runnext": {"oldsync": True, "runonce": False},
    "live": {"live": True},
}
FREQS = ("1min", "1s", "1h", "1D", "90s", "500ms")
MARKS = ["mark_open", "mark_high", "mark_low", "mark_close"]
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # the host, from Python 3.12 on


def candles(rows=160, freq="1min", seed=1, start="2024-02-28 22:00", gaps=False, marks=False):
    """Return random candles on a grid; with gaps, about a tenth of the rows is missing."""
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 2e-3, rows)))
    opened = np.concatenate(([100.0], close[:-1]))
    frame = pd.DataFrame(
        {
            "open": opened,
            "high": np.maximum(opened, close) * (1 + random.random(rows) * 1e-3),
            "low": np.minimum(opened, close) * (1 - random.random(rows) * 1e-3),
            "close": close,
            "volume": random.random(rows) * 10,
        },
        index=pd.date_range(start, periods=rows, freq=freq, tz="UTC"),
    )
    if marks:
        for price in ("open", "high", "low", "close"):
            frame["mark_" + price] = frame[price] * 1.001
    return frame[random.random(rows) > 0.1] if gaps else frame


def small(**columns):
    """Return three good hourly candles, with some columns put in their place."""
    frame = pd.DataFrame(
        {"open": [10.0, 11.0, 12.0], "high": [12.0, 13.0, 14.0], "low": [9.0, 10.0, 11.0], "close": [11.0, 12.0, 13.0], "volume": 1.0},
        index=pd.date_range("2024-01-01", periods=3, freq="h", tz="UTC"),
    )
    return frame.assign(**columns)


def stock(frame, bar="1min", **kwargs):
    """Return the host's own feed of the same candles, stamped at their close."""
    kwargs.setdefault("timeframe", bt.TimeFrame.Minutes)
    return bt.feeds.PandasData(dataname=frame.set_axis(frame.index + pd.Timedelta(bar)), **kwargs)


class Recorder(bt.Strategy):
    """Trade a little and note everything the host lets a strategy see, to the bit."""

    params = (("keep", None),)

    def __init__(self):
        self.seen, self.orders = [], []
        self.averages = [bt.indicators.SMA(data, period=5) for data in self.datas]

    def prenext(self):
        self.next()

    def next(self):
        row = array("d")
        for data, average in zip(self.datas, self.averages, strict=True):
            row.append(len(data))
            if len(data):  # before its first bar, a feed has no value that a strategy should read
                row.extend([self.broker.getposition(data).size, average[0] if len(average) else -1.0])
                row.extend(data.lines[i][0] for i in range(7))
        row.append(self.broker.getvalue())
        self.seen.append(row.tobytes())
        number = len(self)
        if number % 7 == 3 and len(self.data):
            self.buy(size=1) if number % 2 else self.sell(size=2, exectype=bt.Order.Limit, price=self.data.close[0] * 1.0005)

    def notify_order(self, order):
        self.orders.append((order.status, order.executed.size, order.executed.price, order.executed.dt))


def run(*feeds, add=None, **mode):
    """Run the recorder over feeds and return what it saw."""
    cerebro = bt.Cerebro(stdstats=False, **mode)
    for feed in feeds:
        (add or bt.Cerebro.adddata)(cerebro, feed)
    cerebro.addstrategy(Recorder)
    strategy = cerebro.run()[0]
    return strategy.seen, strategy.orders


def preloaded(feed, lookahead=0):
    """Take a feed through the host's steps before a preloaded run and return it."""
    cerebro = bt.Cerebro()
    cerebro.adddata(feed)
    feed.reset()
    feed.extend(size=lookahead)
    feed._start()
    feed.preload()
    return feed


def arrays(feed):
    """Return the bytes behind every line."""
    return {alias: getattr(feed.lines, alias).array.tobytes() for alias in LINES}


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("freq", FREQS)
def test_preloaded_lines_equal_the_hosts_in_every_bit(freq, gaps):
    frame = candles(rows=300, freq=freq, gaps=gaps)

    ours, theirs = preloaded(PerpData(dataname=frame), lookahead=3), preloaded(stock(frame, freq), lookahead=3)

    assert arrays(ours) == arrays(theirs)
    for line, other in zip(ours.lines, theirs.lines, strict=True):
        assert (line.idx, line.lencount, line.extension, line.buflen()) == (other.idx, other.lencount, other.extension, other.buflen())
    assert ours._bulk


@pytest.mark.parametrize(
    "window",
    [
        {"fromdate": datetime(2024, 2, 28, 23, 0)},
        {"todate": datetime(2024, 2, 29, 0, 30)},
        {"fromdate": date(2024, 2, 29), "todate": date(2024, 2, 29)},
        {"fromdate": datetime(2024, 2, 28, 22, 30, 30), "todate": datetime(2024, 2, 29, 0, 30, 30)},
        {"fromdate": datetime(2024, 2, 28, 15, 0, tzinfo=timezone(timedelta(hours=-8)))},
        {"todate": date(2024, 2, 28), "sessionend": datetime(2024, 1, 1, 23, 15).time()},
        {"fromdate": date(2024, 2, 29), "sessionstart": datetime(2024, 1, 1, 1, 0)},
    ],
)
def test_a_window_cuts_lines_and_series_at_the_hosts_bar(window):
    frame = candles(rows=300, marks=True)

    feed = preloaded(PerpData(dataname=frame, **window))

    assert arrays(feed) == arrays(preloaded(stock(frame, **window)))
    delivered = [datetime(1970, 1, 1) + timedelta(seconds=stamp) for stamp in feed.perp.stamps]
    assert delivered == [num2date(number) for number in feed.lines.datetime.array]
    kept = frame.loc[(frame.index + pd.Timedelta("1min")).tz_convert(None).isin(delivered)]
    assert 0 < len(kept) < 300
    assert [list(getattr(feed.perp, name)) for name in MARKS] == [list(kept[name]) for name in MARKS]


@pytest.mark.parametrize("mode", MODES)
def test_a_strategy_sees_the_same_in_every_way_of_running(mode):
    frame = candles(gaps=True)
    window = {"fromdate": datetime(2024, 2, 28, 22, 10)}

    assert run(PerpData(dataname=frame, **window), **MODES[mode]) == run(stock(frame, **window), **MODES[mode])


@pytest.mark.parametrize("mode", ["runonce", "runnext", "no_preload", "exactbars_plot", "oldsync", "oldsync_runnext"])
def test_feeds_of_two_lengths_with_gaps_run_as_the_hosts(mode):
    minutes, fives = candles(gaps=True), candles(rows=40, freq="5min", seed=2, start="2024-02-28 22:45", gaps=True)

    ours = run(PerpData(dataname=minutes), PerpData(dataname=fives), **MODES[mode])

    assert ours == run(stock(minutes), stock(fives, "5min", compression=5), **MODES[mode])


def _with_copy(cerebro, feed):
    cerebro.adddata(feed)
    cerebro.adddata(feed.clone())


def _with_resampled(cerebro, feed):
    cerebro.adddata(feed)
    cerebro.resampledata(feed, timeframe=bt.TimeFrame.Minutes, compression=15)


def _with_filter(cerebro, feed):
    feed.addfilter_simple(lambda data: data.close[0] > 100.1)
    cerebro.adddata(feed)


ADDERS = {
    "clone": _with_copy,
    "resampled_beside": _with_resampled,
    "resampled": lambda c, feed: c.resampledata(feed, timeframe=bt.TimeFrame.Minutes, compression=15),
    "days": lambda c, feed: c.resampledata(feed, timeframe=bt.TimeFrame.Days),
    "replayed": lambda c, feed: c.replaydata(feed, timeframe=bt.TimeFrame.Minutes, compression=15),
    "filtered": _with_filter,
}
BARS_SEEN = {"clone": 100, "resampled_beside": 100, "resampled": 8, "days": 2, "replayed": 100, "filtered": 20}  # at least


@pytest.mark.parametrize("how", ADDERS)
def test_resampling_replay_filters_and_clones_see_what_the_hosts_feed_gives(how):
    frame = candles(gaps=True)

    ours = run(PerpData(dataname=frame), add=ADDERS[how])

    assert ours == run(stock(frame), add=ADDERS[how])
    assert len(ours[0]) >= BARS_SEEN[how]


def test_one_feed_runs_again_and_again_in_any_order_of_ways():
    frame = candles(gaps=True)
    feed, expected = PerpData(dataname=frame), run(stock(frame))

    results = [run(feed, **MODES[mode]) for mode in ("runonce", "runnext", "runonce", "no_preload", "runonce", "exactbars_plot", "runonce")]

    assert results == [expected] * 7


@pytest.mark.parametrize("mode", ["runonce", "runnext", "oldsync_runnext"])
def test_a_bulk_feed_has_no_ticks_so_that_brokers_read_the_bar(mode):
    feed = PerpData(dataname=candles())
    run(feed)
    run(feed, preload=False)
    assert feed.tick_open == feed.open[0]

    run(feed, **MODES[mode])

    assert [getattr(feed, "tick_" + name) for name in ("open", "high", "low", "close", "volume", "openinterest", "last")] == [None] * 7


def test_a_line_bound_to_a_feeds_line_is_written_with_it():
    frame, copies = candles(), []
    for feed in (PerpData(dataname=frame), stock(frame)):
        copy = bt.linebuffer.LineBuffer()
        feed.lines.close.addbinding(copy)
        copy.array.extend([0.0] * len(frame))
        copy.idx = 0  # the line under way writes to where its copy stands

        preloaded(feed)

        copies.append(list(copy.array))

    assert copies[0] == copies[1]
    assert copies[0][0] == frame["close"].iloc[-1]


def test_a_subclass_that_loads_bars_itself_is_asked_for_every_bar():
    class Doubled(PerpData):
        def _load(self):
            loaded = super()._load()
            if loaded:
                self.lines.close[0] *= 2
            return loaded

    frame = candles()

    feed = preloaded(Doubled(dataname=frame))

    assert list(feed.lines.close.array) == list(frame["close"] * 2)
    assert not feed._bulk


def test_day_numbers_equal_the_hosts_where_the_quick_sum_rounds_the_other_way():
    stamp = datetime(2024, 1, 1, 1, 30, 0, 280_088)
    micros = (90 * 60 * 10**6) + 280_088
    frame = small().set_axis(pd.DatetimeIndex([stamp - timedelta(seconds=2), stamp - timedelta(seconds=1), stamp]))

    number = preloaded(PerpData(dataname=frame, stamp="close")).lines.datetime.array[2]

    assert number == bt.date2num(stamp) != stamp.toordinal() + micros / (86_400 * 10**6)


@pytest.mark.parametrize(
    ("freq", "label"),
    [
        ("500ms", (bt.TimeFrame.MicroSeconds, 500_000)),
        ("1s", (bt.TimeFrame.Seconds, 1)),
        ("90s", (bt.TimeFrame.Seconds, 90)),
        ("1min", (bt.TimeFrame.Minutes, 1)),
        ("4h", (bt.TimeFrame.Minutes, 240)),
        ("1D", (bt.TimeFrame.Days, 1)),
        ("7D", (bt.TimeFrame.Days, 7)),
    ],
)
def test_timeframe_follows_the_bar_length(freq, label):
    feed = PerpData(dataname=candles(rows=4, freq=freq))

    assert (feed._timeframe, feed._compression) == (feed.p.timeframe, feed.p.compression) == label
    assert feed.perp.bar_seconds == pd.Timedelta(freq).total_seconds()


def test_a_given_timeframe_or_compression_is_kept():
    assert PerpData(dataname=small(), timeframe=bt.TimeFrame.Ticks)._compression == 1
    assert PerpData(dataname=small(), compression=3)._timeframe == bt.TimeFrame.Days


def test_open_stamps_are_delivered_one_bar_later_and_close_stamps_as_they_stand():
    opened, closed = PerpData(dataname=small()), PerpData(dataname=small(), stamp="close")

    first = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
    assert list(opened.perp.stamps) == [first + 3600, first + 7200, first + 10800]
    assert list(closed.perp.stamps) == [first, first + 3600, first + 7200]


def test_row_at_is_the_bar_known_at_a_time():
    series = PerpData(dataname=small()).perp
    first = series.stamps[0]

    assert [series.row_at(first + s) for s in (-1, 0, 1, 3599.9, 3600, 7200, 99_999)] == [-1, 0, 0, 0, 1, 2, 2]


def test_missing_bars_are_counted_and_not_filled():
    feed = PerpData(dataname=candles(rows=10, freq="1h").drop(index=candles(rows=10, freq="1h").index[[3, 4, 8]]))

    assert (len(feed.perp.stamps), feed.perp.gaps, feed.perp.bar_seconds) == (7, 3, 3600.0)


def test_gaps_outside_the_window_do_not_count():
    frame = candles(rows=10, freq="1h", start="2024-01-01")

    feed = PerpData(dataname=frame.drop(index=frame.index[[1, 7]]), fromdate=datetime(2024, 1, 1, 4))

    assert feed.perp.gaps == 1


@pytest.mark.parametrize(("label", "compression", "seconds"), [("Minutes", 15, 900.0), ("Seconds", None, 1.0), ("Days", 1, 86_400.0)])
def test_a_single_row_is_as_long_as_its_timeframe(label, compression, seconds):
    feed = PerpData(dataname=small()[:1], timeframe=getattr(bt.TimeFrame, label), compression=compression)

    assert feed.perp.bar_seconds == seconds
    assert list(feed.perp.stamps) == [datetime(2024, 1, 1, tzinfo=UTC).timestamp() + seconds]


def test_a_row_off_the_grid_does_not_halve_the_bars():
    frame = candles(rows=12, freq="1h", start="2024-01-01")
    stray = frame.iloc[[4]].set_axis(frame.index[[4]] + pd.Timedelta("30min"))

    with pytest.raises(ValueError, match=r"row 5 \(2024-01-01 04:30:00 UTC\) comes 30 min after the row before it.* bars of 1 h"):
        PerpData(dataname=pd.concat([frame, stray]).sort_index())


# What a frame's time may look like


def _as_strings(frame, form):
    return frame.reset_index(drop=True).assign(DateTime=frame.index.strftime(form))


SHAPES = {
    "naive index": lambda f: f.tz_localize(None),
    "another zone": lambda f: f.tz_convert("Asia/Shanghai"),
    "seconds": lambda f: f.set_axis(f.index.as_unit("s")),
    "milliseconds": lambda f: f.set_axis(f.index.as_unit("ms")),
    "nanoseconds": lambda f: f.set_axis(f.index.as_unit("ns")),
    "title case": lambda f: f.rename(columns=str.title),
    "datetime column": lambda f: f.rename_axis("datetime").reset_index(),
    "naive datetime column": lambda f: f.tz_localize(None).rename_axis("datetime").reset_index(),
    "ISO with Z": lambda f: _as_strings(f, "%Y-%m-%dT%H:%M:%SZ"),
    "ISO with offset": lambda f: _as_strings(f.tz_convert("Asia/Kolkata"), "%Y-%m-%dT%H:%M:%S+05:30"),
    "naive ISO": lambda f: _as_strings(f, "%Y-%m-%d %H:%M:%S"),
    "python datetimes": lambda f: f.reset_index(drop=True).assign(datetime=pd.Series(list(f.index.to_pydatetime()), dtype=object)),
    "nullable columns": lambda f: f.astype("Float64"),
    "object columns": lambda f: f.astype(object),
    "columns beside": lambda f: f.assign(exchange="binance"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_usual_shape_of_a_frame_gives_the_same_bars(shape):
    frame = candles(rows=60)

    assert arrays(preloaded(PerpData(dataname=SHAPES[shape](frame)))) == arrays(preloaded(stock(frame)))


def _columns(frame, times=None):
    """Return a frame's columns as arrays, its index as ``datetime`` unless other times are given."""
    naive = frame.index.tz_convert(None).to_numpy()
    return {"datetime": naive if times is None else times, **{name: frame[name].to_numpy() for name in frame.columns}}


def _records(frame):
    """Return a frame as a structured array, its index as whole milliseconds."""
    millis = frame.index.as_unit("ms").asi8
    return np.array(
        list(zip(millis, *frame.to_numpy().T.tolist(), strict=True)),
        dtype=[("open_time", "i8"), *((name, "f8") for name in frame.columns)],
    )


def _mapped(frame, folder):
    """Return a frame's columns as arrays mapped from files."""
    for name, column in _columns(frame).items():
        np.save(folder / f"{name}.npy", column)
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _columns(frame)}


def _mapped_records(frame, folder):
    np.save(folder / "candles.npy", _records(frame))
    return np.load(folder / "candles.npy", mmap_mode="r")


ARRAYS = {
    "arrays": lambda f, _: _columns(f),
    "seconds as datetime64": lambda f, _: _columns(f, f.index.tz_convert(None).to_numpy().astype("datetime64[s]")),
    "nanoseconds as datetime64": lambda f, _: _columns(f, f.index.tz_convert(None).to_numpy().astype("datetime64[ns]")),
    "seconds": lambda f, _: _columns(f, f.index.as_unit("s").asi8),
    "microseconds": lambda f, _: _columns(f, f.index.as_unit("us").asi8),
    "nanoseconds": lambda f, _: _columns(f, f.index.as_unit("ns").asi8),
    "unsigned": lambda f, _: _columns(f, f.index.as_unit("ms").asi8.astype("uint64")),
    "floats of seconds": lambda f, _: _columns(f, f.index.as_unit("s").asi8.astype("float64")),
    "title case": lambda f, _: {name.title(): column for name, column in _columns(f).items()},
    "a column beside": lambda f, _: {**_columns(f), "exchange": ["binance"] * len(f)},
    "other byte order": lambda f, _: {name: column.astype(column.dtype.newbyteorder()) for name, column in _columns(f).items()},
    "strided": lambda f, _: {name: np.repeat(column, 2)[::2] for name, column in _columns(f).items()},
    "lists": lambda f, _: {name: column.tolist() for name, column in _columns(f, f.index.as_unit("s").asi8).items()},
    "plain columns": lambda f, _: {name: array("d", column) for name, column in _columns(f, f.index.as_unit("s").asi8).items()},
    "text of numbers": lambda f, _: {name: [str(value) for value in column] for name, column in _columns(f).items()},
    "python datetimes": lambda f, _: _columns(f, f.index.to_pydatetime().tolist()),
    "columns of a frame": lambda f, _: {"time": f.index.tz_convert("Asia/Shanghai"), **{name: f[name] for name in f.columns}},
    "records": lambda f, _: _records(f),
    "mapped arrays": _mapped,
    "mapped records": _mapped_records,
}


@pytest.mark.parametrize("shape", ARRAYS)
def test_arrays_give_the_same_bars_as_their_frame(tmp_path, shape):
    frame = candles(rows=60, marks=True).assign(funding_rate=[0.0001] + [math.nan] * 59)
    expected = PerpData(dataname=frame)

    feed = PerpData(dataname=ARRAYS[shape](frame, tmp_path))

    assert feed.perp == expected.perp
    assert arrays(preloaded(feed)) == arrays(preloaded(expected))


def test_blanks_of_arrays_are_nan_or_none():
    columns = _columns(small())

    for blanks in ([math.nan, 0.0002, math.nan], [None, 0.0002, None], np.array([None, 0.0002, None], dtype=object)):
        funding = PerpData(dataname={**columns, "funding_rate": blanks}).perp.funding

        assert funding == FundingSchedule((1_704_070_800.0,), (0.0002,))  # 2024-01-01 01:00


def test_fractions_of_a_second_are_rounded_to_a_microsecond():
    columns = _columns(small()[:2], [1_704_067_200.000001, 1_704_067_200.500001])

    assert list(PerpData(dataname=columns).perp.stamps) == [1_704_067_200.500001, 1_704_067_201.000001]


def test_a_window_cuts_arrays_as_it_does_a_frame():
    frame, window = candles(rows=60), {"fromdate": datetime(2024, 2, 28, 22, 10), "todate": datetime(2024, 2, 28, 22, 20)}

    feed = preloaded(PerpData(dataname=_columns(frame), **window))

    assert arrays(feed) == arrays(preloaded(PerpData(dataname=frame, **window)))


@pytest.mark.parametrize("mode", MODES)
def test_a_strategy_sees_the_same_of_mapped_arrays_in_every_way_of_running(tmp_path, mode):
    frame = candles()

    feed = PerpData(dataname=_mapped(frame, tmp_path))

    expected = run(stock(frame), **MODES[mode])
    assert run(feed, **MODES[mode]) == expected
    assert run(feed, **MODES[mode]) == expected  # and once more


class Kinds(bt.Strategy):
    """Notes what kinds of numbers the lines of its data hand out."""

    def __init__(self):
        self.kinds = set()

    def next(self):
        self.kinds |= {type(line[0]) for line in self.data.lines.lines}


@pytest.mark.parametrize("mode", MODES)
def test_mapped_arrays_hand_out_plain_floats_in_every_way_of_running(tmp_path, mode):
    cerebro = bt.Cerebro(stdstats=False, **MODES[mode])
    cerebro.adddata(PerpData(dataname=_mapped(candles(rows=10), tmp_path)))
    cerebro.addstrategy(Kinds)

    assert cerebro.run()[0].kinds == {float}


def test_read_only_arrays_are_taken_as_they_are_and_others_are_copied(tmp_path):
    shared, own = _mapped(small(), tmp_path), {name: column.copy() for name, column in _columns(small()).items()}

    feed, other = PerpData(dataname=shared), PerpData(dataname=own)
    own["close"][:] = 1.0

    close = LINES.index("close")
    assert np.shares_memory(feed._columns[close], shared["close"])
    assert list(preloaded(other).lines.close.array) == [11.0, 12.0, 13.0]


def test_a_feed_of_mapped_arrays_survives_pickling(tmp_path):
    feed = PerpData(dataname=_mapped(candles(), tmp_path), name="BTCUSDT")

    copied = pickle.loads(pickle.dumps(feed))

    assert run(copied) == run(feed)


def test_what_was_written_to_a_private_mapping_stays_written(tmp_path):
    columns = _mapped(small(), tmp_path)
    private = np.load(tmp_path / "close.npy", mmap_mode="c")
    private[:] = [11.5, 12.5, 13.5]
    view = private[:]
    view.flags.writeable = False

    feed = preloaded(PerpData(dataname={**columns, "close": view}))

    assert list(feed.lines.close.array) == list(private) == [11.5, 12.5, 13.5]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only this system says what is resident")
def test_pages_of_a_mapped_file_are_given_back_once_they_are_in_the_lines(tmp_path):
    columns = _mapped(candles(rows=20_000), tmp_path)  # 156 KiB a column

    preloaded(PerpData(dataname=columns))

    mapping = Path("/proc/self/smaps").read_text().partition(str(tmp_path / "close.npy"))[2]
    assert mapping.partition("Rss:")[2].split()[0] == "0"
    assert columns["close"][0] > 0  # read once more


def test_absent_volume_is_left_blank_as_the_host_leaves_it():
    frame = candles(rows=20).drop(columns="volume")

    feed = preloaded(PerpData(dataname=frame))

    assert arrays(feed) == arrays(preloaded(stock(frame)))
    assert math.isnan(feed.lines.volume.array[0])


def test_whole_number_columns_and_open_interest_load_as_the_hosts():
    frame = candles(rows=20).assign(volume=range(20), openinterest=range(100, 120))

    assert arrays(preloaded(PerpData(dataname=frame))) == arrays(preloaded(stock(frame)))


def test_a_line_called_as_a_method_leaves_the_method_alone():
    class Awkward(PerpData):
        lines = ("next",)

    feed = Awkward(dataname=candles(rows=20).assign(next=range(20)))

    assert len(run(feed)[0]) == 20
    assert list(feed.lines.next.array) == list(range(20))


def test_a_line_added_by_a_subclass_is_filled_from_its_column():
    class WithSignal(PerpData):
        lines = ("signal", "absent")

    feed = preloaded(WithSignal(dataname=candles(rows=3).assign(Signal=[1.0, math.nan, 3.0])))

    assert feed._bulk
    assert [math.isnan(value) or value for value in feed.lines.signal.array] == [1.0, True, 3.0]
    assert all(math.isnan(value) for value in feed.lines.absent.array)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".csv.zip", ".parquet"])
@pytest.mark.parametrize("as_text", [True, False])
def test_files_give_back_what_was_written_to_the_bit(tmp_path, suffix, as_text):
    frame = candles(rows=60, marks=True)
    path = tmp_path / f"BTCUSDT{suffix}"
    named = frame.rename_axis("datetime")
    named.to_parquet(path) if suffix == ".parquet" else named.to_csv(path)

    feed = PerpData(dataname=str(path) if as_text else path)

    assert arrays(preloaded(feed)) == arrays(preloaded(stock(frame)))
    assert list(feed.perp.mark_low) == list(frame["mark_low"])
    assert feed._name == "BTCUSDT"


@pytest.mark.parametrize(("unit", "count"), [("s", 1), ("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000)])
@pytest.mark.parametrize("name", ["timestamp", "open_time", "Date"])
def test_numbers_count_from_1970_in_the_unit_that_makes_them_a_time(tmp_path, unit, count, name):
    frame = candles(rows=30, freq="1h", start="2024-01-31 00:00")
    first = 1_706_659_200  # 2024-01-31 00:00 UTC
    told = frame.assign(**{name: [(first + 3_600 * row) * count for row in range(30)], "close_time": 0}).set_index(name)
    told.to_csv(tmp_path / f"{unit}.csv")

    feed = PerpData(dataname=tmp_path / f"{unit}.csv")

    assert list(feed.perp.stamps) == [first + 3_600 * (row + 1) for row in range(30)]
    assert arrays(preloaded(feed)) == arrays(preloaded(PerpData(dataname=frame)))


def test_the_first_name_of_time_that_a_frame_has_is_its_time():
    frame = small().reset_index(drop=True)
    frame["timestamp"], frame["datetime"] = [1, 2, 3], [f"2024-01-01T0{hour}:00Z" for hour in (0, 1, 2)]

    assert list(PerpData(dataname=frame).perp.stamps) == list(PerpData(dataname=small()).perp.stamps)


# Marks


def test_mark_columns_become_series():
    frame = candles(rows=20, marks=True)

    series = PerpData(dataname=frame).perp

    assert [list(getattr(series, name)) for name in MARKS] == [list(frame[name]) for name in MARKS]


def test_no_mark_is_none():
    assert [getattr(PerpData(dataname=small()).perp, name) for name in MARKS] == [None] * 4


@pytest.mark.parametrize("plain_names", [True, False])
def test_marks_may_be_arrays(tmp_path, plain_names):
    marks = small(low=[8.0, 9.0, 10.0]).drop(columns="volume")
    named = marks if plain_names else marks.add_prefix("mark_")

    series = PerpData(dataname=_columns(small()), mark=_mapped(named, tmp_path)).perp

    assert list(series.mark_low) == [8.0, 9.0, 10.0]


@pytest.mark.parametrize("plain_names", [True, False])
def test_marks_given_apart_are_matched_by_stamp_and_may_have_more_rows(plain_names):
    frame = candles(rows=40, marks=True)
    marks = frame[MARKS].rename(columns=lambda name: name.removeprefix("mark_") if plain_names else name)

    series = PerpData(dataname=frame.drop(columns=MARKS).iloc[[5, 6, 9, 30]], mark=marks).perp

    assert [list(getattr(series, name)) for name in MARKS] == [list(frame[name].iloc[[5, 6, 9, 30]]) for name in MARKS]


def test_marks_are_needed_inside_the_window_only():
    frame = candles(rows=10, freq="1h", start="2024-01-01", marks=True)

    series = PerpData(dataname=frame.drop(columns=MARKS), mark=frame[MARKS].iloc[6:], fromdate=datetime(2024, 1, 1, 7)).perp

    assert list(series.mark_open) == list(frame["mark_open"].iloc[6:])


# Funding


def test_a_funding_column_pays_at_its_rows_own_time():
    series = PerpData(dataname=small(funding_rate=[None, 0.0001, -0.0002])).perp

    first = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
    assert series.funding == FundingSchedule((first + 3600, first + 7200), (0.0001, -0.0002))
    assert series.constant_funding is None


def test_a_blank_funding_column_is_a_schedule_without_stamps():
    assert PerpData(dataname=small(funding_rate=math.nan)).perp.funding == FundingSchedule((), ())


def test_no_funding_is_none():
    assert PerpData(dataname=small()).perp.funding is None


@pytest.mark.parametrize("shape", ["series", "naive series", "frame", "archive", "schedule", "arrays", "records", "csv", "parquet"])
def test_funding_given_apart_keeps_every_stamp_and_loses_its_jitter(tmp_path, shape):
    stamps = pd.DatetimeIndex(["2023-12-31 16:00:00.003", "2024-01-01 00:00:00.007", "2024-01-01 08:00:00"], tz="UTC")
    rates = pd.Series([0.0001, -0.0002, 0.0003], index=stamps)
    table = rates.rename("rate").rename_axis("datetime").reset_index()
    expected = FundingSchedule((1704038400.0, 1704067200.0, 1704096000.0), (0.0001, -0.0002, 0.0003))
    table.to_csv(tmp_path / "rates.csv", index=False)
    table.rename(columns={"rate": "funding_rate"}).to_parquet(tmp_path / "rates.parquet")
    epochs = [int(stamp.timestamp() * 1_000 + 0.5) for stamp in stamps]  # as Binance's archive has it
    archive = pd.DataFrame({"calc_time": epochs, "funding_interval_hours": 8, "last_funding_rate": rates.tolist()})
    given = {
        "series": rates,
        "naive series": rates.tz_localize(None),
        "frame": table,
        "archive": archive,
        "schedule": expected,
        "arrays": {"time": epochs, "rate": rates.to_numpy()},
        "records": np.array(list(zip(epochs, rates, strict=True)), dtype=[("calc_time", "i8"), ("last_funding_rate", "f8")]),
        "csv": str(tmp_path / "rates.csv"),
        "parquet": tmp_path / "rates.parquet",
    }

    series = PerpData(dataname=small(), funding=given[shape]).perp

    assert series.funding == expected
    assert series.constant_funding is None


@pytest.mark.parametrize("rate", [0.0001, np.float64(0.0001), 0])
def test_a_number_is_charged_every_eight_hours_from_the_first_open_to_the_last_close(rate):
    series = PerpData(dataname=candles(rows=17, freq="1h", start="2024-01-01"), funding=rate).perp

    first = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
    assert series.funding == FundingSchedule((first, first + 8 * 3600, first + 16 * 3600), (float(rate),) * 3)
    assert series.constant_funding == rate


# Pickling, zones


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the host's Cerebro holds an itertools.count
def test_a_feed_survives_pickling_before_and_after_a_preload():
    feed = PerpData(dataname=candles(marks=True), name="BTCUSDT", funding=0.0001, tz="Asia/Shanghai")
    fresh = pickle.loads(pickle.dumps(feed))
    expected = run(feed)

    used = pickle.loads(pickle.dumps(preloaded(feed)))

    assert (fresh.perp, fresh._name, fresh.p.timeframe) == (feed.perp, "BTCUSDT", bt.TimeFrame.Minutes)
    assert arrays(used) == arrays(feed)
    assert used._bulk
    assert used.advance_peek() == feed.lines.datetime.array[0]
    used.advance()
    assert (len(used), used.close[0]) == (1, feed.lines.close.array[0])
    assert run(fresh) == run(used) == expected
    assert fresh.datetime.datetime(0) == feed.datetime.datetime(0)


@pytest.mark.parametrize(("maxcpus", "optdatas"), [(1, False), (2, True), (2, False)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the same, and forking beside threads
def test_optimising_gives_the_hosts_results(maxcpus, optdatas):
    frame = candles(rows=120, gaps=True)
    values = []
    for feed in (PerpData(dataname=frame), stock(frame)):
        cerebro = bt.Cerebro(stdstats=False, maxcpus=maxcpus, optdatas=optdatas, optreturn=True)
        cerebro.adddata(feed)
        cerebro.optstrategy(Recorder, keep=[1, 2])
        cerebro.addanalyzer(bt.analyzers.TimeReturn, timeframe=bt.TimeFrame.Minutes, _name="returns")
        values.append([result[0].analyzers.returns.get_analysis() for result in cerebro.run()])

    assert values[0] == values[1]
    assert len(values[0]) == 2
    assert any(values[0][0].values())


@pytest.mark.parametrize("tz", ["Asia/Shanghai", ZoneInfo("Asia/Shanghai"), timezone(timedelta(hours=8))])
def test_a_zone_shifts_the_clock_shown_and_the_reading_of_the_window(tz):
    feed = PerpData(dataname=candles(rows=60, freq="1h", start="2024-01-01"), tz=tz, fromdate=datetime(2024, 1, 2))

    run(feed)

    assert feed.lines.datetime.array[0] == bt.date2num(datetime(2024, 1, 1, 16))
    assert feed.datetime.datetime(0) == num2date(feed.lines.datetime[0]) + timedelta(hours=8)


def test_a_zone_keeps_its_summer_time():
    feed = PerpData(dataname=candles(rows=4, freq="1h", start="2024-03-30 23:30"), tz="Europe/Berlin", stamp="close")

    run(feed, preload=False)

    # 2024-03-31 01:00 UTC is where Berlin's clocks go from 02:00 to 03:00.
    assert [feed.datetime.datetime(ago).hour for ago in (-3, -2, -1, 0)] == [0, 1, 3, 4]
    shown = feed.num2date(feed.datetime[0], naive=False)
    assert (shown.tzname(), shown.utcoffset(), shown.dst()) == ("CEST", timedelta(hours=2), timedelta(hours=1))


@pytest.mark.parametrize("tz", ["UTC", UTC, bt.utils.date.UTC, None])
def test_utc_in_any_spelling_shows_utc(tz):
    feed = PerpData(dataname=candles(rows=60), tz=tz)

    run(feed)

    assert feed.datetime.datetime(0) == num2date(feed.lines.datetime[0])


# Refusals: every one is one sentence that says who, where, what and what to do


def _frame(**columns):
    return {"dataname": small(**columns), "name": "BTCUSDT"}


def _indexed(*stamps):
    return {"dataname": small().set_axis(pd.DatetimeIndex(stamps)), "name": "BTCUSDT"}


MARKED = small(mark_open=10.0, mark_high=12.0, mark_low=9.0, mark_close=11.0)
ROW1 = r"BTCUSDT: candle row 1 \(2024-01-01 01:00:00 UTC\)"
REFUSALS = {
    "stamp": ({**_frame(), "stamp": "middle"}, r"BTCUSDT: stamp says whether rows are stamped at their 'open' or 'close', was 'middle'"),
    "tzinput": ({**_frame(), "tzinput": "Asia/Shanghai"}, r"BTCUSDT: PerpData is UTC only, .* in place of tzinput='Asia/Shanghai'"),
    "tz": (
        {**_frame(), "tz": "Mars/Olympus"},
        r"BTCUSDT: tz must be a zone name such as 'Asia/Shanghai' or a tzinfo, was 'Mars/Olympus'",
    ),
    "tz object": ({**_frame(), "tz": 8}, r"BTCUSDT: tz must be a zone name .*, was 8"),
    "fromdate": ({**_frame(), "fromdate": "2024-01-01"}, r"BTCUSDT: fromdate must be a date or datetime, was '2024-01-01'"),
    "source": ({"dataname": [1, 2], "name": "BTCUSDT"}, r"BTCUSDT: candle source must be a pandas DataFrame, a mapping .*, was list"),
    "no source": (
        {},
        r"PerpData: candle source must be a pandas DataFrame, a mapping .*, or the path of a \.csv or \.parquet file, was NoneType",
    ),
    "no file": ({"dataname": "nowhere.csv"}, r"nowhere: candle file 'nowhere\.csv' does not exist; give the path"),
    "a folder": ({"dataname": str(Path(__file__).parent)}, r"host: candle file .* is a folder; give the path"),
    "an address": ({"dataname": "https://nowhere/BTC.csv"}, r"BTC: candle file .* is an address, download it first; give the path"),
    "suffix": ({"dataname": __file__}, r"test_feeds: candle file .* must end in \.parquet or one of \.csv \.gz"),
    "empty": ({"dataname": small()[:0], "name": "BTCUSDT"}, r"BTCUSDT: candle frame has no rows, give at least one"),
    "columns": (
        {"dataname": small().drop(columns=["high", "low"]), "name": "BTCUSDT"},
        r"BTCUSDT: candle frame lacks high, low, it has open, close, volume; add or rename columns",
    ),
    "no columns": ({"dataname": small()[[]], "name": "BTCUSDT"}, r"lacks open, high, low, close, it has none; add"),
    "twice": (_frame(Open=1.0), r"BTCUSDT: candle columns name 'open' twice, drop or rename one"),
    "index": (
        {"dataname": small().reset_index(drop=True), "name": "BTCUSDT"},
        r"BTCUSDT: candle frame needs a UTC DatetimeIndex or a column of times called datetime.*, had an index of int64",
    ),
    "epoch": (
        {"dataname": small().reset_index(drop=True).assign(datetime=[1, 2, 3]), "name": "BTCUSDT"},
        r"BTCUSDT: candle row 0: datetime must be ISO 8601, or count seconds, milli-, micro- or nanoseconds since 1970.*; was 1$",
    ),
    "two epochs": (
        {"dataname": small().reset_index(drop=True).assign(open_time=[1704067200, 1704070800000, 1704074400]), "name": "BTCUSDT"},
        r"BTCUSDT: candle row 1: open_time must be ISO 8601, or count seconds.*, the same in every row; was 1704070800000$",
    ),
    "date and time apart": (
        {"dataname": small().reset_index(drop=True).assign(Date="2024-01-01", Time=["01:00", "02:00", "03:00"]), "name": "BTCUSDT"},
        r"BTCUSDT: candle frame has columns date and time; join them to one that is called datetime",
    ),
    "stamped at the end": (
        _indexed("2024-01-01 00:59:59.999", "2024-01-01 01:59:59.999", "2024-01-01 02:59:59.999"),
        r"BTCUSDT: candle row 0 \(2024-01-01 00:59:59\.999000 UTC\) and all after it are stamped just before the end of a bar of 1 h",
    ),
    "no date": (
        {"dataname": small().reset_index(drop=True).assign(datetime=["2024-01-01", "soon", "2024-01-03"]), "name": "BTCUSDT"},
        r"BTCUSDT: candle row 1: datetime must be ISO 8601 such as 2024-01-31T08:00:00Z, was 'soon'",
    ),
    "no time": (_indexed("2024-01-01", None, "2024-01-03"), r"BTCUSDT: candle row 1 has no time, drop it"),
    "unsorted": (
        _indexed("2024-01-01 02:00", "2024-01-01 01:00", "2024-01-01 03:00"),
        ROW1 + r" is earlier than the row before it; sort the rows by time",
    ),
    "duplicate": (
        _indexed("2024-01-01 01:00", "2024-01-01 01:00", "2024-01-01 03:00"),
        ROW1 + r" has the stamp of the row before it; keep one of the two",
    ),
    "off the grid": (
        _indexed("2024-01-01 00:00", "2024-01-01 01:00", "2024-01-01 02:30"),
        r"BTCUSDT: candle row 2 \(2024-01-01 02:30:00 UTC\) comes 90 min after the row before it, which is no whole number of bars of 1 h",
    ),
    "jitter": (
        _indexed("2024-01-01 00:00", "2024-01-01 00:01", "2024-01-01 00:02:00.003"),
        r"row 2 \(2024-01-01 00:02:00\.003000 UTC\) comes 60\.003 s after .* bars of 1 min",
    ),
    "single": (
        {"dataname": small()[:1], "name": "BTCUSDT"},
        r"BTCUSDT: candle row 0 \(.*\) stands alone, and the length of a bar is the time between two; give more rows",
    ),
    "single of no length": (
        {"dataname": small()[:1], "timeframe": bt.TimeFrame.Minutes, "compression": 0},
        r"give more rows, or PerpData a timeframe=",
    ),
    "single month": ({"dataname": small()[:1], "timeframe": bt.TimeFrame.Months}, r"give more rows, or PerpData a timeframe="),
    "window": (
        {**_frame(), "fromdate": datetime(2025, 1, 1)},
        r"BTCUSDT: candle rows are from 2024-01-01 00:00:00 UTC to 2024-01-01 02:00:00 UTC, which leave none between fromdate and todate",
    ),
    "nan": (_frame(close=[11.0, math.nan, 13.0]), ROW1 + r": close must be a finite number, was nan; repair or drop the row"),
    "inf": (_frame(high=[12.0, math.inf, 14.0]), ROW1 + r": high must be a finite number, was inf"),
    "words": (_frame(low=["9", "ten", "11"]), ROW1 + r": low must be a number, was 'ten'"),
    "zero": (_frame(low=[9.0, 0.0, 11.0]), ROW1 + r": low must be above 0, was 0\.0"),
    "high below low": (_frame(high=[12.0, 9.5, 14.0]), ROW1 + r": high 9\.5 is below low 10\.0"),
    "high below open": (_frame(open=[10.0, 13.5, 12.0]), ROW1 + r": high 13\.0 is below open 13\.5"),
    "high below close": (_frame(close=[11.0, 13.5, 13.0]), ROW1 + r": high 13\.0 is below close 13\.5"),
    "low above open": (_frame(open=[10.0, 9.5, 12.0]), ROW1 + r": open 9\.5 is below low 10\.0"),
    "low above close": (_frame(close=[11.0, 9.5, 13.0]), ROW1 + r": close 9\.5 is below low 10\.0"),
    "volume nan": (_frame(volume=[1.0, math.nan, 1.0]), ROW1 + r": volume must be 0 or more, was nan"),
    "volume inf": (_frame(volume=[1.0, math.inf, 1.0]), ROW1 + r": volume must be 0 or more, was inf"),
    "volume": (_frame(volume=[1.0, -2.0, 1.0]), ROW1 + r": volume must be 0 or more, was -2\.0"),
    "mark columns": (
        _frame(mark_open=10.0, mark_close=11.0),
        r"BTCUSDT: candle frame lacks mark_high, mark_low, it has open, high, low, close, volume, mark_open, mark_close",
    ),
    "mark twice": (
        {"dataname": MARKED, "name": "BTCUSDT", "mark": small()},
        r"BTCUSDT: mark= was given and the candles have mark columns too",
    ),
    "mark nan": ({"dataname": MARKED.assign(mark_close=[1.0, math.nan, 1.0]), "name": "BTCUSDT"}, ROW1 + r": mark close must be a finite"),
    "mark order": (
        {"dataname": MARKED.assign(mark_high=[12.0, 8.0, 12.0]), "name": "BTCUSDT"},
        ROW1 + r": mark high 8\.0 is below mark low 9\.0",
    ),
    "mark rows": (
        {**_frame(), "mark": small()[:1]},
        r"BTCUSDT: 2 of 3 candles have no mark row of their stamp, the first is candle row 1 \(2024-01-01 01:00:00 UTC\); add them",
    ),
    "mark names": ({**_frame(), "mark": small()[["open"]]}, r"BTCUSDT: mark frame lacks high, low, close, it has open"),
    "mark unsorted": ({**_frame(), "mark": small()[::-1]}, r"BTCUSDT: mark row 1 \(2024-01-01 01:00:00 UTC\) is earlier than"),
    "mark value": (
        {"dataname": small()[1:], "name": "BTCUSDT", "mark": small(low=[9.0, 10.0, -1.0])},
        r"BTCUSDT: mark row 2 \(2024-01-01 02:00:00 UTC\): low must be above 0, was -1\.0",
    ),
    "funding twice": (
        {**_frame(funding_rate=0.0001), "funding": 0.0001},
        r"BTCUSDT: funding= was given and the candles have a funding_rate column too, drop one of them",
    ),
    "funding percent": (
        _frame(funding_rate=[0.01, 1.5, None]),
        ROW1 + r": a funding rate must be a fraction \(0\.01 % is 0\.0001\), was 1\.5",
    ),
    "funding number": ({**_frame(), "funding": 10}, r"BTCUSDT: funding must be a fraction \(0\.01 % is 0\.0001\), was 10"),
    "funding nan number": ({**_frame(), "funding": math.nan}, r"BTCUSDT: funding must be a fraction .* was nan"),
    "funding flag": ({**_frame(), "funding": True}, r"BTCUSDT: funding source must be a pandas DataFrame, a mapping .*, was bool"),
    "funding nan": (
        {**_frame(), "funding": pd.Series([0.1, math.nan], pd.DatetimeIndex(["2024-01-01", "2024-01-02"]))},
        r"BTCUSDT: funding row 1 \(2024-01-02 00:00:00 UTC\): a funding rate must be a fraction .*, was nan; repair or drop the row",
    ),
    "funding schedule": (
        {**_frame(), "funding": FundingSchedule((0, 28_800), (0.01, -3.0))},
        r"BTCUSDT: the funding rate at 1970-01-01 08:00:00 UTC must be a fraction \(0\.01 % is 0\.0001\), was -3\.0",
    ),
    "funding index": (
        {**_frame(), "funding": pd.Series([0.1])},
        r"BTCUSDT: funding frame needs a UTC DatetimeIndex or a column of times",
    ),
    "funding order": (
        {**_frame(), "funding": pd.Series([0.1, 0.1], pd.DatetimeIndex(["2024-01-02", "2024-01-01"]))},
        r"BTCUSDT: funding row 1 \(2024-01-01 00:00:00 UTC\) is earlier than the row before it",
    ),
    "funding jitter": (
        {**_frame(), "funding": pd.Series([0.1, 0.1], pd.DatetimeIndex(["2024-01-01", "2024-01-01 00:00:00.003"]))},
        r"BTCUSDT: funding: funding stamps must rise",
    ),
    "funding columns": (
        {**_frame(), "funding": small()},
        r"BTCUSDT: funding frame must have one column of rates, called rate or funding_rate, has open",
    ),
}

HOURS = np.array(["2024-01-01T00", "2024-01-01T01", "2024-01-01T02"], dtype="datetime64[h]")
GOOD = {"datetime": HOURS, "open": [10, 11, 12], "high": [12, 13, 14], "low": [9, 10, 11], "close": [11, 12, 13]}
REFUSALS |= {
    f"arrays, {case}": ({"dataname": source if isinstance(source, np.ndarray) else {**GOOD, **source}, "name": "BTCUSDT"}, sentence)
    for case, (source, sentence) in {
        "flat": (np.zeros((3, 5)), r"BTCUSDT: candle source must be a pandas DataFrame, a mapping .*, was ndarray"),
        "records of two dimensions": (np.zeros((2, 2), [("open", "f8")]), r"BTCUSDT: candle structured array has 2 dimensions"),
        "no records": (np.zeros(0, [("open", "f8")]), r"BTCUSDT: candle columns have no rows, give at least one"),
        "no rows": ({name: [] for name in GOOD}, r"BTCUSDT: candle columns have no rows, give at least one"),
        "lengths": (
            {"low": [9, 10]},
            r"BTCUSDT: candle columns are not equally long \(datetime 3, open 3, high 3, low 2, close 3\), give each one value a row",
        ),
        "two dimensions": (
            {"low": np.zeros((3, 1))},
            r"BTCUSDT: candle column low must be a flat array .*, was of 2 dimensions and type float64",
        ),
        "ragged": ({"low": [[9], [10, 11], [12]]}, r"BTCUSDT: candle column low must be a flat array or sequence of numbers"),
        "one number": ({"low": 9.0}, r"BTCUSDT: candle column low must be a flat array .*, was float"),
        "one word": ({"low": "abc"}, r"BTCUSDT: candle column low must be a flat array .*, was str"),
        "masked": ({"low": np.ma.masked_equal([9, 10, 11], 10)}, r"BTCUSDT: candle column low must be .* blanks as NaN, was masked"),
        "complex": ({"low": np.zeros(3, complex)}, r"BTCUSDT: candle column low must be .*, was of 1 dimensions and type complex128"),
        "times for prices": ({"low": HOURS}, r"BTCUSDT: candle column low must be numbers, was datetime64\[h\]"),
        "words": ({"low": ["9", "ten", "11"]}, ROW1 + r": low must be a number, was 'ten'; repair or drop the row"),
        "words as an array": ({"low": np.array(["9", "ten", "11"])}, ROW1 + r": low must be a number, was 'ten'; repair or drop the row"),
        "a blank price": ({"low": [9, None, 11]}, ROW1 + r": low must be a finite number, was nan; repair or drop the row"),
        "high below low": ({"high": [12, 9.5, 14]}, ROW1 + r": high 9\.5 is below low 10\.0"),
        "volume": ({"volume": [1, -2, 1]}, ROW1 + r": volume must be 0 or more, was -2\.0"),
        "twice": ({"Open": [10, 11, 12]}, r"BTCUSDT: candle columns name 'open' twice, drop or rename one"),
        "no time": ({"datetime": np.array(["2024-01-01", "NaT", "2024-01-03"], "M8[D]")}, r"BTCUSDT: candle row 1 has no time, drop it"),
        "no number for a time": ({"datetime": [1_704_067_200, None, 1_704_074_400]}, r"BTCUSDT: candle row 1 has no time, drop it"),
        "no date": ({"datetime": ["2024-01-01", "soon", "2024-01-03"]}, r"BTCUSDT: candle row 1: datetime must be ISO 8601 .*, was 'soon'"),
        "epoch": ({"datetime": [1, 2, 3]}, r"BTCUSDT: candle row 0: datetime must be ISO 8601, or count seconds.*; was 1$"),
        "unsorted": (
            {"datetime": HOURS[[1, 0, 2]]},
            r"BTCUSDT: candle row 1 \(2024-01-01 00:00:00 UTC\) is earlier than the row before it",
        ),
    }.items()
}
WITHOUT = {
    "a time": ("datetime", r"BTCUSDT: candle columns need one of times called datetime, .* are open, high, low, close; call it datetime"),
    "a price": ("high", r"BTCUSDT: candle frame lacks high, it has datetime, open, low, close; add or rename columns"),
}
REFUSALS |= {
    f"arrays without {what}": ({"dataname": {key: GOOD[key] for key in GOOD if key != name}, "name": "BTCUSDT"}, sentence)
    for what, (name, sentence) in WITHOUT.items()
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_gets_one_sentence(case):
    arguments, sentence = REFUSALS[case]

    with pytest.raises(ValueError, match=sentence) as refusal:
        PerpData(**arguments)

    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".csv.zip", ".parquet"])
def test_a_file_that_holds_no_table_gets_one_sentence(tmp_path, suffix):
    path = tmp_path / f"BTCUSDT{suffix}"
    path.write_bytes(b"")

    with pytest.raises(ValueError, match=r"^BTCUSDT: candle file '.*' is empty; expected a line of column names and a row for each stamp$"):
        PerpData(dataname=path)


def _dumped(frame, per_second=1_000):
    """Return hourly candles as Binance dumps them, without a line of names."""
    opened = frame.index.as_unit("s").astype("int64").to_numpy() * per_second
    table = frame.reset_index(drop=True)[["open", "high", "low", "close", "volume"]]
    table.insert(0, "open_time", opened)
    return table.assign(close_time=opened + 3_600 * per_second - 1, quote_volume=100.5, count=7, taker=0.5, quote_taker=50.0, ignore=0)


@pytest.mark.parametrize("per_second", [1_000, 1_000_000])
@pytest.mark.parametrize("suffix", [".csv", ".zip"])
def test_a_dump_without_a_line_of_names_is_read_as_with_one(tmp_path, per_second, suffix):
    table = _dumped(candles(rows=40, freq="1h", start="2024-01-01", gaps=True), per_second)
    table.to_csv(tmp_path / f"named{suffix}", index=False)
    table.to_csv(tmp_path / f"bare{suffix}", index=False, header=False)

    named, bare = (PerpData(dataname=tmp_path / f"{name}{suffix}") for name in ("named", "bare"))

    assert (bare._columns, bare.perp) == (named._columns, named.perp)
    assert bare.perp.stamps[0] == datetime(2024, 1, 1, 1, tzinfo=UTC).timestamp()
    assert bare.perp.gaps > 0


def test_marks_may_come_as_a_dump_without_a_line_of_names(tmp_path):
    frame = candles(rows=20, freq="1h", start="2024-01-01")
    _dumped(frame).to_csv(tmp_path / "mark.csv", index=False, header=False)

    assert list(PerpData(dataname=frame, mark=tmp_path / "mark.csv").perp.mark_close) == list(frame["close"])


MISTAKEN = {
    "in seconds": lambda table: table.assign(open_time=table["open_time"] // 1_000, close_time=table["close_time"] // 1_000),
    "of bars of two lengths": lambda table: table.assign(close_time=table["close_time"].where(table.index != 2, table["close_time"] + 1)),
    "closed before it opened": lambda table: table.assign(close_time=table["open_time"] - 2),
    "off the grid": lambda table: table.assign(**{n: table[n] + 1_000 * (table.index == 3) for n in ("open_time", "close_time")}),
    "in no order": lambda table: table.iloc[[0, 2, 1, 3]],
    "low above close": lambda table: table.assign(low=table["close"] + 1),
    "high below open": lambda table: table.assign(high=table["open"] - 1),
    "a price of 0": lambda table: table.assign(low=0.0),
    "a blank": lambda table: table.assign(high=table["high"].where(table.index != 1)),
    "a word": lambda table: table.assign(ignore=["0", "0", "none", "0"]),
    "a time with a fraction": lambda table: table.assign(open_time=table["open_time"] + 0.5),
    "of 11 columns": lambda table: table.drop(columns="ignore"),
    "of 13 columns": lambda table: table.assign(more=0),
}


@pytest.mark.parametrize("case", MISTAKEN)
def test_what_may_be_something_else_than_a_dump_is_refused_without_names(tmp_path, case):
    table = _dumped(candles(rows=4, freq="1h", start="2024-01-01"))
    MISTAKEN[case](table).to_csv(tmp_path / "BTCUSDT.csv", index=False, header=False)

    with pytest.raises(ValueError, match=r"^BTCUSDT: candle file has no line of column names, it begins with 17.*one for each column$"):
        PerpData(dataname=tmp_path / "BTCUSDT.csv")


@pytest.mark.parametrize("end", [",", ",7"])
def test_rows_of_more_fields_than_names_are_refused(tmp_path, end):
    path = tmp_path / "BTCUSDT.csv"
    path.write_text("datetime,open,high,low,close\n" + "".join(f"{1_704_067_200 + 3_600 * row},2,2,2,2{end}\n" for row in range(3)))

    with pytest.raises(
        ValueError, match=r"has 6 fields in a row, but 5 names in its first line, datetime, open,.*; name every column, and drop"
    ):
        PerpData(dataname=path)


def test_spaces_around_names_are_no_part_of_them(tmp_path):
    path = tmp_path / "BTCUSDT.csv"
    path.write_text("datetime, open, high, low, Close \n2024-01-01, 10, 12, 9, 11\n2024-01-02, 11, 13, 10, 12\n")

    assert list(preloaded(PerpData(dataname=path)).lines.close.array) == [11.0, 12.0]


def test_a_window_changed_after_the_feed_was_made_is_refused():
    feed = PerpData(dataname=small(), name="BTCUSDT")
    feed.p.fromdate = datetime(2024, 1, 1, 2)

    with pytest.raises(ValueError, match="BTCUSDT: fromdate, todate and the session are fixed once the feed is made"):
        run(feed)


# Real records


def test_every_real_window_loads_with_its_marks_and_funding(reference):
    paths = sorted((reference / "data" / "windows").glob("*/*.csv"))
    loaded = 0
    for path in paths:
        venue, symbol, *rest = path.stem.split("-")
        if rest[-1] in ("mark", "funding"):
            continue
        rates = path.with_name(f"{venue}-{symbol}-funding.csv")
        feed = PerpData(dataname=path, name=symbol, funding=rates if rates.exists() else None)
        assert feed.perp.gaps == 0
        assert (feed.perp.mark_low is not None) == ("mark" in rest[-1])
        assert (feed.perp.funding is not None) == ("funding" in rest[-1] or rates.exists())
        loaded += 1

    assert loaded == len(paths) - sum(path.stem.endswith(("-mark", "-funding")) for path in paths) > 30


MARKED_SPAN = {"fromdate": datetime(2019, 12, 23, 12), "todate": datetime(2026, 5, 17)}  # where the records have both


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT", "XTZUSDT"])
def test_real_series_load_with_marks_and_funding_from_their_files(reference, symbol):
    def series(kind):
        return reference / "data" / "series" / f"binance-{symbol}-{kind}.parquet"

    feed = PerpData(dataname=series("1h-futures"), mark=series("1h-mark"), funding=series("funding"), **MARKED_SPAN)

    perp = feed.perp
    assert (perp.gaps, perp.bar_seconds) == (0, 3600.0)
    assert len(perp.mark_close) == len(perp.stamps) == len(feed._columns[0])
    assert perp.funding.stamps[-1] <= perp.stamps[-1]
    assert all(stamp % 3600 == 0 for stamp in perp.funding.stamps)


def test_the_covid_crash_is_read_as_recorded(reference):
    """BTCUSDT 2020-03-13 08:00 UTC: funding -0.3 % (the record's README)."""
    path = reference / "data" / "windows" / "2020-03-12_covid" / "binance-BTCUSDT-1h-futures_mark_funding.csv"

    perp = PerpData(dataname=path).perp

    settled = list(perp.funding.between(datetime(2020, 3, 13, 7, tzinfo=UTC).timestamp(), datetime(2020, 3, 13, 8, tzinfo=UTC).timestamp()))
    assert [s.rate for s in settled] == [-0.003]
    assert min(perp.mark_low) == pytest.approx(3801.83, abs=0.01)


# -- stamps that seem to be local time -------------------------------------------------------------------------------


def stamped(start: str, freq: str, *, zone: str | None = None) -> pd.DataFrame:
    index = pd.date_range(start, periods=6, freq=freq, tz=zone)
    return pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), 100.0), index=index)


@pytest.mark.parametrize(
    ("start", "freq", "said"),
    [
        ("2024-01-01 01:00", "4h", "come every 4 h from 1:00:00 on"),
        ("2024-01-01 08:00", "1D", "every 1 d"),
        ("2024-01-01 00:30", "1h", "every 1 h"),
    ],
)
def test_candles_without_a_zone_that_begin_where_none_do_in_utc_are_warned_of(start, freq, said):
    with pytest.warns(LocalTimeWarning, match=said):
        PerpData(dataname=stamped(start, freq), name="BTCUSDT")


@pytest.mark.parametrize(
    ("start", "freq", "zone"),
    [("2024-01-01 01:00", "4h", "UTC"), ("2024-01-01", "1D", None), ("2024-01-01 04:00", "4h", None), ("2024-01-01 00:07", "5min", None)],
)
def test_candles_with_a_zone_or_on_the_grid_are_not_warned_of(start, freq, zone):
    assert len(PerpData(dataname=stamped(start, freq, zone=zone), name="BTCUSDT").perp.stamps) == 6


def settled(*hours: int) -> pd.DataFrame:
    return pd.DataFrame({"rate": 0.0001}, index=pd.DatetimeIndex([f"2024-01-01 {hour:02}:00:00.003" for hour in hours]))


def test_settlements_without_a_zone_at_hours_of_no_venue_are_warned_of():
    with pytest.warns(LocalTimeWarning, match="funding stamps have no zone and come every 8 h from 1:00:00 on"):
        PerpData(dataname=stamped("2024-01-01", "1h"), name="BTCUSDT", funding=settled(1, 9, 17))


@pytest.mark.parametrize("hours", [(0, 8, 16), (4, 12, 20), (0, 4, 8), (1, 2, 3), (1, 9)])
def test_settlements_at_the_hours_of_a_venue_are_not_warned_of(hours):
    assert PerpData(dataname=stamped("2024-01-01", "1h"), name="BTCUSDT", funding=settled(*hours)).perp.funding is not None


def test_text_that_names_its_zone_is_converted(tmp_path):
    path = tmp_path / "BTCUSDT.csv"
    frame = stamped("2024-01-01 08:00", "4h")
    frame.index = [f"{time:%Y-%m-%dT%H:%M}+08:00" for time in frame.index]
    frame.to_csv(path, index_label="datetime")
    assert PerpData(dataname=path, stamp="close").perp.stamps[0] == pd.Timestamp("2024-01-01", tz="UTC").timestamp()


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_file_separated_by_semicolons_or_tabs_is_read_as_with_commas(tmp_path, mark):
    frame = stamped("2024-01-01", "4h")
    frame.to_csv(tmp_path / "A.csv", index_label="datetime")
    frame.to_csv(tmp_path / "B.csv", index_label="datetime", sep=mark)
    commas, marks = (PerpData(dataname=tmp_path / name) for name in ("A.csv", "B.csv"))
    assert (marks._columns, marks.perp) == (commas._columns, commas.perp)


# -- lines that nobody reads -------------------------------------------------------------------------------------------


def counted(bars):
    """Return columns of minutes whose volume counts the bars from 1."""
    prices = dict.fromkeys(("open", "high", "low", "close"), np.full(bars, 100.0))
    return {"time": 1_704_067_200 + np.arange(bars) * 60, **prices, "volume": np.arange(bars) + 1.0}


class Reader(bt.Strategy):
    """Reads the volume on one bar, or by way of a line kept from the start on."""

    params = (("bar", 0), ("keeps", False))

    def start(self):
        self.seen, self.kept = [], self.data.lines.volume if self.p.keeps else None

    def next(self):
        if len(self) == self.p.bar:
            line = self.kept if self.p.keeps else self.data.volume
            self.seen.append((line[0], line[-1], list(line.get(size=2)), len(line), self.data.openinterest[0] != self.data.openinterest[0]))


@pytest.mark.parametrize("engine", [bt.Cerebro, bm.Cerebro])
@pytest.mark.parametrize("keeps", [False, True])
def test_the_volume_is_there_for_whoever_reads_it(engine, keeps):
    cerebro = engine(stdstats=False)
    cerebro.adddata(bm.PerpData(dataname=counted(5)))
    cerebro.addstrategy(Reader, bar=3, keeps=keeps)
    (first,), (second,) = cerebro.run(), cerebro.run()
    assert first.seen == second.seen == [(3.0, 2.0, [2.0, 3.0], 3, True)]


def test_a_volume_that_nobody_reads_is_no_line_of_numbers_until_somebody_does():
    cerebro = bm.Cerebro(stdstats=False)
    data = bm.PerpData(dataname=counted(5))
    cerebro.adddata(data)
    cerebro.addstrategy(Reader)
    cerebro.run()
    assert isinstance(data.volume, UnreadLine)
    copied = pickle.loads(pickle.dumps(data.volume.array)), list(data.volume.array)
    assert list(copied[0]) == copied[1] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert not isinstance(data.volume, UnreadLine)
    assert (len(data.volume), data.volume[0]) == (5, 5.0)


def test_a_line_that_is_overwritten_before_it_is_read_keeps_what_was_written():
    class Writer(bt.Strategy):
        def next(self):
            self.data.volume[0] = 10.0 * len(self)

    cerebro = bm.Cerebro(stdstats=False)
    cerebro.adddata(bm.PerpData(dataname=counted(3)))
    cerebro.addstrategy(Writer)
    (strategy,) = cerebro.run()
    assert list(strategy.data.volume.array) == [10.0, 20.0, 30.0]


def test_a_copy_of_a_line_that_nobody_has_read_fills_it_no_second_time():
    data = bm.PerpData(dataname=counted(3))
    cerebro = bm.Cerebro(stdstats=False)
    cerebro.adddata(data)
    cerebro.run()
    copied = copy.copy(data.volume)
    assert list(copied.array) == list(data.volume.array) == [1.0, 2.0, 3.0]
