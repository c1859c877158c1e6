"""Last, mark and funding are joined by policies that results repeat, and longer bars lose nothing of the shorter ones."""

import json
import math
import subprocess
import sys
from datetime import UTC, date, datetime
from math import fsum
from pathlib import Path
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd
import pytest

import bt_margin as bm
from bt_margin import PerpData
from bt_margin.detail import _clipped
from bt_margin.joining import clipped
from bt_margin.resampling import apart_of, apart_text, micros_of

PRICES = ("open", "high", "low", "close")
HOUR = 3_600 * 10**6
ROOT = Path(__file__).parents[1]


def candles(rows: int = 48, every: str = "1h", start: str = "2024-01-01", seed: int = 7, volatility: float = 0.01) -> pd.DataFrame:
    """Return candles of a seeded walk from 100."""
    rng = np.random.default_rng(seed)
    closes = 100 * np.exp(np.cumsum(rng.normal(0, volatility, rows)))
    opens = np.concatenate(([100.0], closes[:-1]))
    index = pd.date_range(start, periods=rows, freq=every, tz="UTC", name="datetime")
    high = np.maximum(opens, closes) * (1 + abs(rng.normal(0, volatility / 2, rows)))
    low = np.minimum(opens, closes) * (1 - abs(rng.normal(0, volatility / 2, rows)))
    return pd.DataFrame({"open": opens, "high": high, "low": low, "close": closes, "volume": rng.integers(1, 9, rows) * 1.0}, index=index)


def marks_of(frame: pd.DataFrame, factor: float = 1.0002) -> pd.DataFrame:
    return frame[list(PRICES)] * factor


def with_marks(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(**{f"mark_{price}": values for price, values in marks_of(frame).items()})


def rates(rows: int = 6, every: str = "8h", start: str = "2024-01-01", seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    index = pd.date_range(start, periods=rows, freq=every, tz="UTC", name="datetime")
    return pd.DataFrame({"rate": rng.normal(0.0001, 0.0002, rows)}, index=index)


def seconds(moment: str) -> float:
    return pd.Timestamp(moment, tz="UTC").timestamp()


class Opener(bt.Strategy):
    """Buys ``size`` (sells, below 0) on the bar that closes at ``at``, and holds."""

    params = (("at", None), ("size", 1.0))

    def next(self):
        if self.data.datetime.datetime(0) == self.p.at:
            self.buy(size=self.p.size) if self.p.size > 0 else self.sell(size=-self.p.size)


def held(data: Any, at: datetime, size: float = 1.0, **terms: Any) -> bm.Result:
    terms = {"venue": None, "leverage": 2, "cash": 1_000_000.0, "params": {"at": at, "size": size}, "check": True, **terms}
    return bm.run(Opener, data=data, **terms)


# -- policies --------------------------------------------------------------------------------------------------------


def test_what_is_whole_is_joined_without_a_flag() -> None:
    frame = candles()

    feed = PerpData.from_files(frame, mark=marks_of(frame), funding=rates(), name="BTCUSDT")

    assert feed.perp.flags == ()
    assert list(feed.perp.mark_low) == marks_of(frame)["low"].tolist()
    assert (feed.perp.funding.stamps, feed.perp.funding.rates) == (
        tuple(seconds("2024-01-01") + 28_800 * number for number in range(6)),
        tuple(rates()["rate"]),
    )


def test_missing_marks_are_an_error_or_last_or_the_index_and_every_result_says_which() -> None:
    frame, marks = candles(), marks_of(candles())
    late = marks.iloc[8:]
    terms = {"funding": rates(), "name": "BTCUSDT"}

    with pytest.raises(ValueError, match=r"BTCUSDT: 8 of 48 bars have no mark, the first at 2024-01-01 00:00:00 UTC; give mark="):
        PerpData.from_files(frame, mark=late, **terms)
    with pytest.raises(ValueError, match="no mark prices were given"):
        PerpData.from_files(frame, **terms)

    last = PerpData.from_files(frame, mark=late, missing_mark="last", **terms)
    index = PerpData.from_files(frame, mark=late, index=marks * 0.999, missing_mark="index", **terms)
    assert list(last.perp.mark_high) == [*frame["high"][:8], *late["high"]]
    assert list(index.perp.mark_high) == [*(marks["high"][:8] * 0.999), *late["high"]]
    for feed, told in ((last, "mark from last on 8 of 48 bars: BTCUSDT"), (index, "mark from index on 8 of 48 bars: BTCUSDT")):
        assert told in held({"BTCUSDT": feed}, datetime(2024, 1, 1, 8)).summary["flags"]

    none = PerpData.from_files(frame, missing_mark="last", **terms)
    assert none.perp.mark_open is None
    assert "mark from last: BTCUSDT" in held({"BTCUSDT": none}, datetime(2024, 1, 1, 8)).summary["flags"]
    with pytest.raises(ValueError, match="give them as index="):
        PerpData.from_files(frame, missing_mark="index", **terms)
    with pytest.raises(ValueError, match="3 bars have neither mark nor index, the first 2024-01-01 05:00:00"):
        PerpData.from_files(frame, mark=late, index=marks[:5], missing_mark="index", **terms)


def test_missing_funding_is_an_error_or_zero_or_a_rate_and_every_result_says_which() -> None:
    frame = with_marks(candles())
    holed = rates().drop(rates().index[[2, 3]])
    at = datetime(2024, 1, 1, 4)

    with pytest.raises(ValueError, match="no funding was given; give funding="):
        PerpData.from_files(frame, name="BTCUSDT")
    with pytest.raises(ValueError, match=r"2 settlements are missing \(2024-01-01 16:00:00 UTC to 2024-01-02 00:00:00 UTC\)"):
        PerpData.from_files(frame, funding=holed, name="BTCUSDT")

    filled = PerpData.from_files(frame, funding=holed, missing_funding=0.0003, name="BTCUSDT")
    assert filled.perp.funding.rates == (*rates()["rate"][:2], 0.0003, 0.0003, *rates()["rate"][4:])
    cases = {
        "2 missing settlements taken as 0.0003": {"funding": holed, "missing_funding": 0.0003},
        "2 missing settlements taken as 0": {"funding": holed, "missing_funding": "zero"},
        "constant funding of 0.0003 per 4 h": {"missing_funding": 0.0003, "funding_hours": 4},
        "no funding": {"missing_funding": "zero"},
    }
    for told, terms in cases.items():
        result = held({"BTCUSDT": PerpData.from_files(frame, name="BTCUSDT", **terms)}, at)
        assert f"{told}: BTCUSDT" in result.summary["flags"]


def test_funding_that_begins_late_or_ends_early_is_missing() -> None:
    frame = with_marks(candles())

    for kept, count in (
        (rates().iloc[2:], 1),
        (rates().iloc[:4], 2),
    ):  # of 00:00, 08:00 ...: no position is held at the first bar's opening
        feed = PerpData.from_files(frame, funding=kept, missing_funding="zero")
        assert feed.perp.flags == (f"{count} missing settlements taken as 0",)


def test_the_shorter_interval_of_a_venue_is_no_hole() -> None:
    frame = with_marks(candles(96))
    funding = pd.concat([rates(4), rates(10, "1h", "2024-01-02 08:00"), rates(14, "4h", "2024-01-02 20:00")])

    feed = PerpData.from_files(frame, funding=funding)

    assert feed.perp.flags == ()
    assert feed.perp.funding.rates == tuple(funding["rate"])


def test_rates_in_percent_are_refused_until_they_are_said_to_be() -> None:
    frame = with_marks(candles())

    with pytest.raises(ValueError, match=r"percent\? 0.01 % is the fraction 0.0001"):
        PerpData.from_files(frame, funding=rates() * 100)
    feed = PerpData.from_files(frame, funding=rates() * 100, rate_unit="percent")
    assert feed.perp.funding.rates == pytest.approx(tuple(rates()["rate"]), rel=1e-15)


@pytest.mark.parametrize(
    ("spoilt", "word"),
    [
        (lambda frame: frame.assign(high=1.0), "bars? that cannot be"),
        (lambda frame: frame.iloc[[0, 2, 1, *range(3, 48)]], "earlier than the row before"),
        (lambda frame: pd.concat([frame, frame.iloc[[5]] * 1.001]).sort_index(), "with the stamp of another and other numbers"),
        (
            lambda frame: frame.assign(mark_close=frame["mark_close"] * 3, mark_high=frame["mark_high"] * 3),
            "another symbol or another unit",
        ),
    ],
)
def test_what_data_check_calls_an_error_is_refused(spoilt: Any, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        PerpData.from_files(spoilt(with_marks(candles())), funding=rates())


@pytest.mark.parametrize("role", ["mark", "index"])
@pytest.mark.parametrize(
    ("spoilt", "word"),
    [
        (lambda marks: marks.shift(1, freq="h"), "fit last's candles a bar later: one of the two is stamped at the close"),
        (lambda marks: marks.shift(-1, freq="h"), "fit last's candles a bar earlier: one of the two is stamped at the close"),
        (lambda marks: (marks * 1.03).shift(1, freq="h"), "fit last's candles a bar later"),  # a steady basis hides no shift
        (lambda marks: marks * 10, "the mark is 10.002 times last in the middle of all bars: another symbol or another unit"),
    ],
)
def test_prices_of_another_bar_or_another_contract_are_refused(role: str, spoilt: Any, word: str) -> None:
    frame = candles()
    policy = {"missing_mark": "last" if role == "mark" else "index", "missing_funding": "zero"}

    with pytest.raises(ValueError, match=word):
        PerpData.from_files(frame, **{role: spoilt(marks_of(frame))}, **policy, name="BTCUSDT")


def test_what_can_be_repaired_without_judgement_is_and_the_notes_say_so() -> None:
    frame = with_marks(candles())
    pages = pd.concat([frame.iloc[:20], frame.iloc[18:]])
    closing = frame.set_axis(frame.index.as_unit("ms") + pd.Timedelta("59min 59.999s"))
    plain = PerpData.from_files(frame, funding=rates())

    for source, note in (
        (pages, "2 rows: repeats another row, dropped"),
        (closing, "48 rows: stamped at the close, moved to the open of its bar"),
    ):
        feed = PerpData.from_files(source, funding=rates(), name="BTCUSDT")
        assert list(feed.perp.stamps) == list(plain.perp.stamps)
        assert f"BTCUSDT last: {note}" in feed.notes


def test_closing_stamps_at_full_hours_are_moved_where_they_are_said_to_be_closes() -> None:
    frame = with_marks(candles())
    closes = frame.set_axis(frame.index + pd.Timedelta("1h"))

    feed = PerpData.from_files(closes, mark=None, funding=rates(), stamp="close")

    assert list(feed.perp.stamps) == list(PerpData.from_files(frame, funding=rates()).perp.stamps)


def test_a_source_of_another_kind_than_its_role_is_refused() -> None:
    frame = candles()

    with pytest.raises(ValueError, match="was given as last and holds funding rates"):
        PerpData.from_files(rates())
    with pytest.raises(ValueError, match="was given as funding and holds candles"):
        PerpData.from_files(frame, funding=frame)
    with pytest.raises(ValueError, match="mark= was given and BTCUSDT last has it too"):
        PerpData.from_files(with_marks(frame), mark=marks_of(frame), name="BTCUSDT")


@pytest.mark.parametrize(
    ("terms", "word"),
    [
        ({"missing_mark": "guess"}, "missing_mark is one of error, last, index"),
        ({"missing_funding": "guess"}, "missing_funding is 'error', 'zero' or a rate"),
        ({"missing_funding": 3}, "missing_funding is 'error', 'zero' or a rate"),
        ({"funding_hours": 0}, "funding_hours is the interval"),
        ({"rate_unit": "bp"}, "rate_unit is one of"),
        ({"stamp": "middle"}, "stamp is one of"),
        ({"keep_detail": True}, "say which timeframe"),
        ({"where": {"exchange": "okx"}}, "where names exchange, by which no file here"),
        ({"shape": {"candles": "okx"}}, "shape is one for all files, or by role"),
        ({"shape": {"last": "okx"}}, "leave shape= out"),
        ({"timeframe": "90min"}, "no whole number of the 1 h"),
        ({"timeframe": "1M"}, "a timeframe is a number and"),
        ({"start": "yesterday"}, "start is a UTC date or time"),
        ({"start": "2031-01-01"}, "leave none between start 2031-01-01"),
    ],
)
def test_wrong_terms_are_refused(terms: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        PerpData.from_files(with_marks(candles()), funding=rates(), **terms)


# -- files, windows, timeframes --------------------------------------------------------------------------------------


def test_files_of_one_series_are_put_in_order_and_their_overlap_counts_once(tmp_path: Path) -> None:
    frame = with_marks(candles())
    frame.iloc[20:].to_csv(tmp_path / "BTCUSDT-2.csv")
    frame.iloc[:24].to_csv(tmp_path / "BTCUSDT-1.csv")

    feed = PerpData.from_files([tmp_path / "BTCUSDT-2.csv", tmp_path / "BTCUSDT-1.csv"], funding=rates())

    assert feed._name == "BTCUSDT"
    assert len(feed.perp.stamps) == 48
    assert any("4 rows: repeats another row, dropped" in note for note in feed.notes)
    rates().to_csv(tmp_path / "BTCUSDT-3.csv")
    with pytest.raises(ValueError, match="are no files of one series"):
        PerpData.from_files([tmp_path / "BTCUSDT-1.csv", tmp_path / "BTCUSDT-3.csv"])


def test_a_slice_holds_the_candles_that_open_from_the_start_and_close_by_the_end() -> None:
    terms = {"funding": rates(), "name": "BTCUSDT"}
    frame = with_marks(candles())

    for start, end in (("2024-01-01T04:00", "2024-01-01"), (datetime(2024, 1, 1, 4, tzinfo=UTC), date(2024, 1, 1))):
        feed = PerpData.from_files(frame, start=start, end=end, **terms)
        assert (feed.perp.stamps[0], feed.perp.stamps[-1]) == (seconds("2024-01-01 05:00"), seconds("2024-01-02"))
        assert feed.perp.funding.stamps == tuple(map(seconds, ("2024-01-01 08:00", "2024-01-01 16:00", "2024-01-02")))


def test_coarse_marks_are_clipped_as_detail_does_it_and_make_up_the_mark_again() -> None:
    fine = candles(288, "5min")
    coarse = bm.resample(fine, "1h")
    marks = coarse[list(PRICES)] * 1.003
    marks["low"] *= 0.999

    feed = PerpData.from_files(fine, mark=marks, funding=rates(3), name="BTCUSDT")

    got = np.array([feed.perp.mark_open, feed.perp.mark_high, feed.perp.mark_low, feed.perp.mark_close]).T
    lasts = [tuple(bar) for bar in fine[list(PRICES)].to_numpy().tolist()]
    wanted = [bar for hour in range(24) for bar in _clipped(lasts[12 * hour : 12 * hour + 12], tuple(marks.iloc[hour]))]
    assert got.tolist() == [list(bar) for bar in wanted]
    again = bm.resample(pd.DataFrame(got, columns=PRICES, index=fine.index), "1h")
    assert again.to_numpy().tolist() == marks.to_numpy().tolist()
    told = "mark of 1 h on bars of 5 min, fine mark is fine last clipped to the bar's mark"
    assert feed.perp.flags == (told,)
    assert f"{told}: BTCUSDT" in held({"BTCUSDT": feed}, datetime(2024, 1, 1, 8)).summary["flags"]


def test_clipped_marks_are_missing_where_the_coarse_bar_is() -> None:
    fine = candles(36, "5min")
    coarse = bm.resample(fine, "1h").iloc[[0, 2]]
    columns = {price: coarse[price].to_numpy() for price in PRICES}
    opened, mark_opened = (frame.index.tz_localize(None).to_numpy().astype("datetime64[us]").astype("int64") for frame in (fine, coarse))

    got = clipped(opened, {price: fine[price].to_numpy() for price in PRICES}, HOUR // 12, mark_opened, columns, HOUR)

    assert np.isnan(got["mark_low"]).tolist() == [False] * 12 + [True] * 12 + [False] * 12


def test_finer_marks_are_put_together() -> None:
    fine = candles(288, "5min")

    feed = PerpData.from_files(bm.resample(fine, "1h"), mark=marks_of(fine), funding=rates(3))

    assert list(feed.perp.mark_low) == bm.resample(marks_of(fine), "1h")["low"].tolist()
    assert feed.perp.flags == ()


# -- several contracts -----------------------------------------------------------------------------------------------


def test_contracts_with_bars_of_their_own_are_flagged_where_they_begin_late_or_end_early() -> None:
    first, late = with_marks(candles(48)), with_marks(candles(24, start="2024-01-01 12:00"))
    funding = {"BTCUSDT": rates(), "NEWUSDT": rates(3, start="2024-01-01 16:00")}

    feeds = bm.load({"BTCUSDT": first, "NEWUSDT": late}, funding=funding)

    assert list(feeds) == ["BTCUSDT", "NEWUSDT"]
    assert feeds["BTCUSDT"].perp.flags == ()
    assert feeds["NEWUSDT"].perp.flags == ("begins 2024-01-01 12:00, after others", "ends 2024-01-02 11:00, before others")
    result = held(feeds, datetime(2024, 1, 1, 13), venue=None)
    assert "begins 2024-01-01 12:00, after others: NEWUSDT" in result.summary["flags"]
    assert result.equity.index[-1] == pd.Timestamp("2024-01-03", tz="UTC")  # the run goes on after the delisting
    assert set(result.funding["symbol"]) == {"BTCUSDT"}


def test_what_is_held_of_a_contract_that_ends_stays_at_its_last_mark_and_pays_no_more() -> None:
    whole, ended = with_marks(candles(48)), with_marks(candles(24, seed=9))
    feeds = bm.load({"ENDSUSDT": ended, "BTCUSDT": whole}, funding={"ENDSUSDT": rates(4), "BTCUSDT": rates()})

    result = held(feeds, datetime(2024, 1, 1, 4))

    entry, mark = ended["open"].iloc[4], ended["mark_close"].iloc[-1]
    assert set(result.fills["symbol"]) == {"ENDSUSDT"}
    assert result.funding["time"].max() <= pd.Timestamp("2024-01-02", tz="UTC")
    assert result.equity["unrealized_pnl"].iloc[-1] == pytest.approx(mark - entry)  # of one coin, a day after the last bar


def test_a_common_clock_keeps_the_bars_that_all_have() -> None:
    first, holed = with_marks(candles(48)), with_marks(candles(48, seed=8)).drop(candles().index[[5, 6]])

    feeds = bm.load({"A": first, "B": holed}, funding={"A": rates(), "B": rates()}, clock="common")

    assert list(feeds["A"].perp.stamps) == list(feeds["B"].perp.stamps)
    assert (len(feeds["A"].perp.stamps), feeds["A"].perp.flags) == (46, ("2 of 48 bars left out, for others lack them",))
    assert feeds["B"].perp.flags == ()
    with pytest.raises(ValueError, match="have 0 bars in common"):
        bm.load({"A": first, "B": with_marks(candles(start="2025-01-01"))}, missing_funding="zero", clock="common")
    with pytest.raises(ValueError, match="clock is 'own'"):
        bm.load(first, funding=rates(), clock="utc")


def test_one_contract_is_called_as_it_is_said_or_as_its_file_is(tmp_path: Path) -> None:
    with_marks(candles()).to_csv(tmp_path / "binance-ETHUSDT-1h.csv")

    assert list(bm.load(tmp_path / "binance-ETHUSDT-1h.csv", funding=rates())) == ["ETHUSDT"]
    assert list(bm.load(tmp_path / "binance-ETHUSDT-1h.csv", funding=rates(), symbol="X")) == ["X"]
    with pytest.raises(ValueError, match="funding is one contract's, but there are A, B"):
        bm.load({"A": candles(), "B": candles()}, funding=rates())
    with pytest.raises(ValueError, match="mark names C, but last has A, B"):
        bm.load({"A": candles(), "B": candles()}, mark={"C": candles()})
    with pytest.raises(ValueError, match="last names no candles"):
        bm.load({})


# -- resampling ------------------------------------------------------------------------------------------------------


def test_longer_bars_keep_opens_extremes_closes_and_volumes() -> None:
    frame = with_marks(candles(50))  # 12 whole bars of 4 h and half of one

    made = bm.resample(frame, "4h")

    wanted = frame.resample("4h").agg(
        {
            name: {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}[name.removeprefix("mark_")]
            for name in frame
        }
    )
    pd.testing.assert_frame_equal(made, wanted.set_axis(wanted.index.as_unit("us")), check_freq=False)  # pandas 2 counts ns
    assert len(made) == 13


def test_bars_stamped_at_their_close_stay_so() -> None:
    frame = candles(48)
    closes = frame.set_axis(frame.index + pd.Timedelta("1h"))

    made = bm.resample(closes, "4h", stamp="close")

    assert made.index[0] == pd.Timestamp("2024-01-01 04:00", tz="UTC")
    assert made.to_numpy().tolist() == bm.resample(frame, "4h").to_numpy().tolist()


def test_weeks_begin_on_monday_and_other_columns_are_the_last_of_their_bar() -> None:
    frame = candles(15, "1D", "2024-01-03").assign(signal=range(15), side=["a"] * 14 + ["b"])

    made = bm.resample(frame, "1w")

    assert made.index.strftime("%a %d").tolist() == ["Mon 01", "Mon 08", "Mon 15"]
    assert made["signal"].tolist() == [4.0, 11.0, 14.0]
    assert made["side"].tolist() == ["a", "a", "b"]


def test_arrays_stay_arrays() -> None:
    frame = candles(48)
    arrays = {"time": frame.index.tz_localize(None).to_numpy(), **{name: frame[name].to_numpy() for name in frame}}

    made = bm.resample(arrays, "4h")

    assert made["datetime"][1] == np.datetime64("2024-01-01T04:00")
    assert made["low"].tolist() == bm.resample(frame, "4h")["low"].tolist()


@pytest.mark.parametrize("stamp", ["open", "close"])
def test_every_settlement_survives_at_its_instant_with_the_mark_it_is_paid_at(stamp: str) -> None:
    frame = with_marks(candles(48))
    funding = rates(48, "1h")["rate"]
    shift = pd.Timedelta("1h") if stamp == "close" else pd.Timedelta(0)
    fine = frame.set_axis(frame.index + shift)
    fine["funding_rate"] = funding.reindex(fine.index)

    made = bm.resample(fine, "4h", stamp=stamp)
    again = bm.resample(made, "1d", stamp=stamp)

    for source in (made, again):
        schedule = PerpData(dataname=source, stamp=stamp, name="X").perp.funding
        kept = fine["funding_rate"].dropna()
        assert schedule.stamps == tuple(kept.index.astype("datetime64[us, UTC]").astype("int64") / 10**6)
        assert schedule.rates == tuple(kept)
        for instant, mark in zip(schedule.stamps, schedule.marks, strict=True):
            if not math.isnan(mark):
                assert mark == frame["mark_open"][pd.Timestamp(instant, unit="s", tz="UTC")]
    assert sum(not math.isnan(mark) for mark in PerpData(dataname=made, stamp=stamp, name="X").perp.funding.marks) >= 35
    if stamp == "open":
        assert "funding_rate+3h" in made.columns


def test_longer_bars_make_the_round_through_a_csv(tmp_path: Path) -> None:
    fine = with_marks(candles(48)).assign(funding_rate=rates(48, "1h")["rate"])
    made = bm.resample(fine, "4h")
    made.to_csv(tmp_path / "x.csv")

    assert PerpData(dataname=tmp_path / "x.csv").perp.funding.rates == PerpData(dataname=made, name="x").perp.funding.rates


def test_names_of_settlements_apart_from_their_row_are_read_back() -> None:
    for offset in (4 * HOUR, -HOUR, 30 * 60 * 10**6, 7 * 10**6):
        assert apart_of(f"funding_rate{apart_text(offset)}") == ("rate", offset)
    assert apart_of("funding_rate") is None
    assert micros_of("15m") == micros_of("15min") == 900 * 10**6


@pytest.mark.parametrize(
    ("timeframe", "stamp", "word"),
    [("90min", "open", "no whole number"), ("1M", "open", "a timeframe is"), (4, "open", "a timeframe is"), ("4h", "mid", "stamp says")],
)
def test_what_cannot_be_resampled_is_refused(timeframe: Any, stamp: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        bm.resample(candles(), timeframe, stamp=stamp)


def test_a_longer_run_pays_the_funding_of_the_shorter_one() -> None:
    fine = with_marks(candles(96)).assign(funding_rate=rates(96, "1h")["rate"])
    at = datetime(2024, 1, 1, 8)

    for timeframe in ("4h", "1d" if at.hour == 0 else "8h"):
        coarse = held({"X": bm.resample(fine, timeframe)}, at)
        whole = held({"X": fine}, at)
        paid, wanted = coarse.funding, whole.funding
        assert len(wanted) == 87
        assert paid["time"].tolist() == wanted["time"].tolist()
        assert paid["amount"].tolist() == pytest.approx(wanted["amount"].tolist(), rel=1e-12)


def test_loading_to_a_timeframe_pays_the_same_and_says_which_bars_are_partial() -> None:
    fine, funding = with_marks(candles(98)).drop(candles().index[[10]]), rates(98, "1h")
    terms = {"name": "X", "funding": funding}

    whole, coarse = PerpData.from_files(fine, **terms), PerpData.from_files(fine, timeframe="4h", keep_detail=True, **terms)

    assert coarse.perp.flags == ("2 of 25 bars of 4 h made of fewer than 4 of 1 h",)
    assert (coarse.perp.funding.stamps, coarse.perp.funding.rates) == (whole.perp.funding.stamps, whole.perp.funding.rates)
    at = datetime(2024, 1, 1, 16)
    assert held({"X": coarse}, at).funding["amount"].tolist() == pytest.approx(held({"X": whole}, at).funding["amount"].tolist(), rel=1e-12)


@pytest.mark.parametrize("size", [1.0, -1.0])
@pytest.mark.parametrize("seed", range(6))
def test_longer_bars_with_their_detail_liquidate_as_the_shorter_ones(seed: int, size: float) -> None:
    fine = with_marks(candles(96, seed=seed, volatility=0.02)).assign(funding_rate=rates(12)["rate"])
    terms = {"leverage": 10, "margin_mode": "isolated", "cash": 10_000.0}
    at = datetime(2024, 1, 1, 8)

    coarse = held({"X": bm.resample(fine, "4h")}, at, size, detail={"X": fine}, **terms)
    whole = held({"X": fine}, at, size, **terms)

    columns = ["symbol", "size", "mark_price"]
    assert coarse.liquidations[columns].to_numpy().tolist() == whole.liquidations[columns].to_numpy().tolist()
    assert coarse.summary["final_equity"] == pytest.approx(whole.summary["final_equity"], rel=1e-9)


def test_what_is_settled_as_the_last_candle_closes_is_paid_in_no_longer_bar_either() -> None:
    fine = with_marks(candles(48 + 8))  # to 2024-01-03 08:00, when a settlement is due: after the last bar, where nothing is paid
    terms = {"funding": rates(8), "name": "X"}

    whole, coarse = (held({"X": PerpData.from_files(fine, timeframe=every, **terms)}, datetime(2024, 1, 2)) for every in (None, "1d"))

    stamps = pd.DatetimeIndex(["2024-01-02 08:00", "2024-01-02 16:00", "2024-01-03"], tz="UTC")
    assert whole.funding["time"].tolist() == coarse.funding["time"].tolist() == list(stamps)
    assert coarse.summary["funding"] == pytest.approx(whole.summary["funding"], rel=1e-12)


@pytest.mark.parametrize("gone", [["07:00", "08:00"], ["00:00", "01:00"]])
def test_what_is_settled_in_a_gap_is_paid_at_the_mark_before_it_in_longer_bars_too(gone: list[str]) -> None:
    fine = with_marks(candles(72)).drop(pd.DatetimeIndex([f"2024-01-02 {hour}" for hour in gone], tz="UTC"))
    terms = {"funding": rates(9), "name": "X"}
    stamp = pd.Timestamp("2024-01-02 08:00" if "08:00" in gone else "2024-01-02", tz="UTC")

    runs = [held({"X": PerpData.from_files(fine, timeframe=every, **terms)}, datetime(2024, 1, 1, 12)) for every in (None, "4h", "12h")]

    before = fine["mark_close"].loc[: stamp - pd.Timedelta("1h")].iloc[-1]
    for result in runs:
        paid = result.funding.set_index("time")["amount"]
        assert paid[stamp] == pytest.approx(-before * rates(9)["rate"][stamp], rel=1e-12)
    assert [result.summary["funding"] for result in runs] == [pytest.approx(runs[0].summary["funding"], rel=1e-12)] * 3


@pytest.mark.parametrize("mode", ["isolated", "cross"])
@pytest.mark.parametrize("every", ["1h", "4h", "12h", "1d"])
@pytest.mark.parametrize("seed", range(5))
def test_funding_of_every_length_of_bar_is_what_a_table_of_stamps_and_marks_says(seed: int, every: str, mode: str) -> None:
    """The reckoning by hand: what is held from 2024-01-02 on pays size x mark_open x rate at each stamp behind that, until it is dead."""
    fine = with_marks(candles(4 * 24 * 4, every="15min", seed=seed, volatility=0.006))
    paid = pd.concat([rates(24, "2h", seed=seed), rates(49, "1h", "2024-01-03", seed=seed)])
    size = 2.0 if seed % 2 else -2.0
    terms = {"leverage": 10, "cash": 30.0, "margin_mode": mode}
    last, marks, files = fine[[*PRICES, "volume"]], marks_of(fine), {"funding": paid, "name": "X"}

    whole = held({"X": PerpData.from_files(last, mark=marks, **files)}, datetime(2024, 1, 2), size, **terms)
    coarse = held(
        {"X": PerpData.from_files(last, mark=marks, timeframe=every, keep_detail=True, **files)}, datetime(2024, 1, 2), size, **terms
    )

    columns = ["symbol", "size", "mark_price"]
    assert coarse.liquidations[columns].to_numpy().tolist() == whole.liquidations[columns].to_numpy().tolist()
    end = whole.liquidations["time"].iloc[0] if len(whole.liquidations) else fine.index[-1] + pd.Timedelta("15min")
    due = paid["rate"][(paid.index > pd.Timestamp("2024-01-02", tz="UTC")) & (paid.index < end)]
    expected = -size * due * fine["mark_open"].reindex(due.index)
    for result in (whole, coarse):
        assert result.funding["time"].tolist() == due.index.tolist()
        assert result.funding["amount"].tolist() == pytest.approx(expected.tolist(), rel=1e-9)


# -- traps of the host and of the data ---------------------------------------------------------------------------------


def test_a_zone_is_converted_to_utc_before_funding_is_laid_beside_the_bars() -> None:
    frame = with_marks(candles())
    shanghai = frame.tz_convert("Asia/Shanghai")

    assert list(PerpData.from_files(shanghai, funding=rates()).perp.stamps) == list(PerpData.from_files(frame, funding=rates()).perp.stamps)


def test_local_time_is_refused_where_settlements_show_it() -> None:
    local = rates(start="2024-01-01 03:00").tz_localize(None)

    with pytest.raises(ValueError, match="settlements come every 8 h from 03:00 on, which no venue's do in UTC: local time"):
        PerpData.from_files(with_marks(candles()), funding=local)


def test_a_settlement_a_few_milliseconds_late_belongs_to_its_hour() -> None:
    late = rates()
    late.index = late.index.as_unit("ms") + pd.to_timedelta([3, 0, 1_000, 7, 0, 1], unit="ms")

    feed = PerpData.from_files(with_marks(candles()), funding=late, name="X")

    assert feed.perp.funding.stamps == PerpData.from_files(with_marks(candles()), funding=rates()).perp.funding.stamps
    assert "X funding: 4 rows: jitter, moved to the whole minute" in feed.notes


@pytest.mark.parametrize(
    ("frame", "word"),
    [
        (candles().reset_index(drop=True), "no column of times"),
        (candles().iloc[:0], "has no rows"),
        (candles().iloc[:1], "one row alone"),
        (candles().assign(close=np.nan), "bars? that cannot be"),
    ],
)
def test_frames_that_the_host_would_trade_on_are_refused(frame: pd.DataFrame, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        PerpData.from_files(frame, missing_mark="last", missing_funding="zero")


def test_the_position_held_at_a_settlement_pays_before_what_the_new_bar_does() -> None:
    frame = with_marks(candles()).assign(funding_rate=pd.Series(0.001, index=pd.date_range("2024-01-01", periods=6, freq="8h", tz="UTC")))

    before, after = (held(bm.load(frame, symbol="X"), datetime(2024, 1, 1, hour)) for hour in (7, 8))

    first = pd.Timestamp("2024-01-01 08:00", tz="UTC")
    assert before.funding["time"].iloc[0] == first  # filled at 07:00, it is held when 08:00 strikes
    assert after.funding["time"].iloc[0] == first + pd.Timedelta("8h")  # filled at the open of 08:00, after the settlement


@pytest.mark.parametrize(
    ("window", "at", "end", "size", "leverage"),
    [
        ("2021-05-19", datetime(2021, 5, 19, 4), "2021-05-19", 1.0, 2.0),
        ("2020-03-12_covid", datetime(2020, 3, 13, 1), "2020-03-13T03:00", -1.0, 4.0),
    ],
)
def test_the_mark_saves_what_the_last_price_would_have_liquidated(
    reference: Path, window: str, at: datetime, end: str, size: float, leverage: float
) -> None:
    path = reference / "data" / "windows" / window / "binance-ETHUSDT-1h-futures_mark_funding.csv"
    frame = pd.read_csv(path)
    last_alone = frame.drop(columns=[name for name in frame if name.startswith("mark_")])
    terms = {"leverage": leverage, "margin_mode": "isolated"}

    saved = held(bm.load(path, end=end), at, size, **terms)
    lost = held(bm.load(last_alone, symbol="ETHUSDT", missing_mark="last", end=end), at, size, **terms)

    assert (len(saved.liquidations), len(lost.liquidations)) == (0, 1)
    assert "mark from last: ETHUSDT" in lost.summary["flags"]


# -- the reference data ----------------------------------------------------------------------------------------------


@pytest.fixture
def series(reference: Path) -> Path:
    return reference / "data" / "series"


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT", "XTZUSDT"])
def test_the_funding_of_years_is_the_raw_sum(series: Path, symbol: str) -> None:
    funding = series / f"binance-{symbol}-funding.parquet"

    feed = PerpData.from_files(
        series / f"binance-{symbol}-1h-futures.parquet",
        mark=series / f"binance-{symbol}-1h-mark.parquet",
        funding=funding,
        missing_mark="last",
        missing_funding="zero",
    )

    raw = pd.read_parquet(funding)
    inside = raw[
        raw["datetime"].between(
            pd.Timestamp(feed.perp.stamps[0] - 3_600, unit="s", tz="UTC"), pd.Timestamp(feed.perp.stamps[-1], unit="s", tz="UTC")
        )
    ]
    assert len(inside) == len(raw)
    assert fsum(feed.perp.funding.rates) == fsum(raw["rate"])
    missing = {"BTCUSDT": ["4 missing settlements taken as 0"], "ETHUSDT": [], "XTZUSDT": []}
    assert [flag for flag in feed.perp.flags if "settlements" in flag] == missing[symbol]


def test_a_resampled_run_over_the_interval_changes_of_xtz_pays_the_same(series: Path) -> None:
    paths = {role: series / f"binance-XTZUSDT-{role}.parquet" for role in ("1h-futures", "1h-mark", "funding")}
    terms = {"mark": paths["1h-mark"], "funding": paths["funding"], "name": "XTZUSDT", "start": "2025-07-10", "end": "2025-08-10"}
    at = datetime(2025, 7, 12)

    whole = held({"XTZUSDT": PerpData.from_files(paths["1h-futures"], **terms)}, at, 100.0)
    coarse = held({"XTZUSDT": PerpData.from_files(paths["1h-futures"], timeframe="4h", **terms)}, at, 100.0)

    assert len(whole.funding) > 3 * 8 + 52 + 6 * 18
    assert coarse.funding["time"].tolist() == whole.funding["time"].tolist()
    assert coarse.summary["funding"] == pytest.approx(whole.summary["funding"], rel=1e-12)


@pytest.mark.parametrize("hours", ["4h", "8h"])
def test_the_crash_of_march_2020_liquidates_alike_in_longer_bars_with_detail(reference: Path, hours: str) -> None:
    path = reference / "data" / "windows" / "2020-03-12_covid" / "binance-BTCUSDT-1h-futures_mark_funding.csv"
    terms = {"leverage": 10, "margin_mode": "isolated", "cash": 100_000.0}
    at = datetime(2020, 3, 12)

    whole = held(bm.load(path), at, **terms)
    coarse = held(bm.load(path, timeframe=hours, keep_detail=True), at, **terms)

    assert len(whole.liquidations) == 1
    assert coarse.liquidations["mark_price"].tolist() == whole.liquidations["mark_price"].tolist()
    assert coarse.summary["funding"] == pytest.approx(whole.summary["funding"], rel=1e-12)


def test_every_file_of_the_reference_data_is_loaded(reference: Path) -> None:
    lenient = {"missing_mark": "last", "missing_funding": "zero"}
    data = reference / "data"
    files = sorted(data.glob("windows/*/*.csv")) + sorted(data.glob("series/*USDT-*.parquet"))
    loaded = 0
    for path in files:
        role = "funding" if "funding" in path.stem and "futures" not in path.stem else "mark" if path.stem.endswith("mark") else "last"
        if role == "last":
            (feed,) = bm.load(path, **lenient).values()
        else:
            stem = path.stem.rsplit("-", 1)[0].removesuffix("-1h") if role == "mark" else path.stem.split("-funding")[0]
            (last,) = [other for other in path.parent.glob(f"{stem}-*futures*") if not other.stem.endswith("funding")][:1]
            (feed,) = bm.load(last, **{role: path}, **lenient).values()
        loaded += len(feed.perp.stamps) > 0
    assert loaded == len(files) == 72


def test_one_series_of_many_in_a_file_is_loaded_by_its_labels(series: Path) -> None:
    path = series / "binance_bybit_okx-8h-spot_perp_funding_2023-01_2024-07.parquet"
    labels = {"exchange": "okx", "pair": "BTCUSDT", "contract": "perpetual"}

    raw = pd.read_parquet(path)
    with pytest.raises(ValueError, match="holds 18 series"):
        bm.load(path, missing_mark="last")
    (feed,) = bm.load(path, missing_mark="last", where=labels).values()

    rows = raw[(raw["exchange"] == "okx") & (raw["pair"] == "BTCUSDT") & (raw["contract"] == "perpetual")]
    assert feed._name == "BTCUSDT"
    assert fsum(feed.perp.funding.rates) == fsum(rows["funding_rate"])


# -- size ------------------------------------------------------------------------------------------------------------

A_BIG_FILE = """
import json, resource, sys
import numpy, pandas, backtrader
from bt_margin import PerpData
from bt_margin.shapes import read
read(sys.argv[2])  # what reading loads once, whatever the size
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
reading = read(sys.argv[1])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
frame = reading.frame.memory_usage(index=True).sum()
del reading
feed = PerpData.from_files(sys.argv[1], missing_mark="last", missing_funding="zero")
last = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([int(frame), (after - before) * 1024, (last - before) * 1024, len(feed.perp.stamps)]))
"""


@pytest.mark.slow
def test_a_csv_of_200_mb_takes_less_memory_than_three_times_its_frame(tmp_path: Path) -> None:
    rows, block = 2_800_000, 100_000
    with (tmp_path / "BTCUSDT-1m.csv").open("w", encoding="utf-8") as out:
        out.write("datetime,open,high,low,close,volume\n")
        for first in range(0, rows, block):
            stamps = np.datetime_as_string(np.datetime64("2020-01-01T00:00:00") + np.arange(first, first + block).astype("timedelta64[m]"))
            out.writelines(
                f"{stamp}Z,{number % 97 + 30_000}.125,30200.25,29900.75,30050.125,{number}.12345678\n"
                for number, stamp in enumerate(stamps)
            )
    assert (tmp_path / "BTCUSDT-1m.csv").stat().st_size > 190e6
    (tmp_path / "small.csv").write_text(
        "datetime,open,high,low,close\n2024-01-01T00:00:00Z,1,2,1,2\n2024-01-01T01:00:00Z,1,2,1,2\n", "utf-8"
    )

    command = [sys.executable, "-W", "ignore", "-c", A_BIG_FILE, str(tmp_path / "BTCUSDT-1m.csv"), str(tmp_path / "small.csv")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    frame, reading, loading, loaded = json.loads(done.stdout)
    assert loaded == rows
    assert frame == rows * 6 * 8
    assert reading < 3 * frame
    assert loading < 3 * frame
