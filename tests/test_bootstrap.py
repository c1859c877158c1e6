"""The stationary bootstrap of market rows: what is drawn, what stays as it was, and what is refused."""

from itertools import pairwise
from math import inf

import numpy as np
import pytest

from bt_margin.bootstrap import PRICES, Candles, common, drawn_rows, funding_clock, generator, resampled

HOUR = 3_600 * 10**6
START = 1_704_067_200 * 10**6  # 2024-01-01, a whole number of funding intervals since 1970


def candles(symbol="BTCUSDT", *, bars=240, seed=1, every=8, first=0, marks=True, drop=(), start=START) -> Candles:
    """Return hours of a random walk with funding every so many hours whose rate tells its own stamp."""
    random = np.random.default_rng(seed)
    closes = 100 * np.exp(np.cumsum(random.normal(0, 0.01, bars)))
    opens = np.concatenate([[100.0], closes[:-1]]) * (1 + random.normal(0, 0.001, bars))
    columns = {
        "open": opens,
        "high": np.maximum(opens, closes) * (1 + abs(random.normal(0, 0.003, bars))),
        "low": np.minimum(opens, closes) * (1 - abs(random.normal(0, 0.003, bars))),
        "close": closes,
        "volume": random.uniform(1, 9, bars),
    }
    if marks:
        columns |= {f"mark_{name}": columns[name] * 1.001 for name in ("open", "high", "low", "close")}
    kept = np.setdiff1d(np.arange(bars), drop)
    closes_at = start + HOUR * np.arange(1, bars + 1) + first * HOUR
    stamps = np.arange(start, start + (bars + 1) * HOUR, every * HOUR)
    rates = np.arange(len(stamps)) * 1e-6
    whole = Candles(symbol, closes_at, HOUR, columns, stamps, rates, np.full(len(stamps), np.nan))
    return whole.taken(kept)


def moves(path: Candles) -> np.ndarray:
    """Return the log-moves of the closes, each from the close before it."""
    closes = path.columns["close"]
    return np.diff(np.log(np.concatenate([path.columns["open"][:1], closes])))


# -- what is drawn ---------------------------------------------------------------------------------------------------


def test_a_path_has_the_stamps_of_the_history_and_begins_at_its_price():
    history = candles()
    (path,) = resampled([history], 24, generator(1, 1))
    assert np.array_equal(path.closes_at, history.closes_at)
    assert np.array_equal(path.stamps, history.stamps)
    first = drawn_rows(history.closes_at - HOUR, 8 * HOUR, 24, generator(1, 1))[0]
    before = history.columns["close"][first - 1] if first else history.columns["open"][0]
    assert path.columns["open"][0] == pytest.approx(history.columns["open"][0] * history.columns["open"][first] / before)


def test_every_row_is_one_row_of_the_history_moved_as_a_whole():
    history = candles()
    rows = drawn_rows(history.closes_at - HOUR, 8 * HOUR, 24, generator(1, 1))
    (path,) = resampled([history], 24, generator(1, 1))
    scale = path.columns["close"] / history.columns["close"][rows]
    for name in PRICES:
        assert path.columns[name] / history.columns[name][rows] == pytest.approx(scale, rel=1e-12)
    assert np.array_equal(path.columns["volume"], history.columns["volume"][rows])
    log_moves = moves(history)[rows]
    assert moves(path)[1:] == pytest.approx(log_moves[1:], abs=1e-12)  # each from the close before it, also where blocks meet


def test_a_bar_stays_a_bar_whatever_is_joined():
    for path in range(1, 20):
        (made,) = resampled([candles()], 3, generator(7, path))
        for prefix in ("", "mark_"):
            opened, high, low, close = (made.columns[prefix + name] for name in ("open", "high", "low", "close"))
            assert (high >= np.maximum(opened, close)).all()
            assert (low <= np.minimum(opened, close)).all()
            assert (low > 0).all()


def test_an_endless_block_is_the_history_begun_elsewhere_in_a_circle():
    history = candles(bars=240)  # thirty funding intervals
    rows = drawn_rows(history.closes_at - HOUR, 8 * HOUR, inf, generator(3, 1))
    assert rows[0] % 8 == 0  # a row of the same phase as the first
    assert np.array_equal(rows, (rows[0] + np.arange(240)) % 240)


def test_an_endless_block_that_begins_at_the_first_row_is_the_history_to_the_last_bit():
    history = candles(bars=8)  # one funding interval: there is one row to begin at
    (path,) = resampled([history], inf, generator(1, 1))
    for name, column in history.columns.items():
        assert np.array_equal(path.columns[name], column)
    assert np.array_equal(path.rates, history.rates)


def test_blocks_are_as_long_on_average_as_was_asked():
    opens_at = START + HOUR * np.arange(200_000)
    rows = drawn_rows(opens_at, HOUR, 50, generator(1, 1))
    joints = np.count_nonzero(np.diff(rows) != 1)  # one in 50 rows begins a block, and 1 in 200 000 of those goes on by chance
    assert 200_000 / 50 * 0.95 < joints < 200_000 / 50 * 1.05  # four standard deviations of a count of 4 000 are 253


def test_rows_are_drawn_evenly():
    opens_at = START + HOUR * np.arange(10)
    counts = np.zeros(10)
    for path in range(2_000):
        counts += np.bincount(drawn_rows(opens_at, HOUR, 4, generator(1, path)), minlength=10)
    assert counts / 2_000 == pytest.approx(np.ones(10), abs=0.15)


def test_moments_of_the_moves_are_those_of_the_history_in_expectation():
    history = candles()
    drawn = np.concatenate([moves(resampled([history], 24, generator(1, path))[0])[1:] for path in range(1, 400)])
    true = moves(history)
    error = 4 * true.std() / np.sqrt(len(drawn) / 24)  # four standard errors, a block counted as one draw
    assert drawn.mean() == pytest.approx(true.mean(), abs=error)
    assert drawn.std() == pytest.approx(true.std(), rel=0.05)


def test_a_path_is_the_same_for_its_seed_and_number_whatever_else_is_drawn():
    alone = resampled([candles()], 24, generator(5, 3))[0].columns["close"]
    for number in (1, 2, 4):
        other = resampled([candles()], 24, generator(5, number))[0].columns["close"]
        assert not np.array_equal(other, alone)
    assert np.array_equal(resampled([candles()], 24, generator(5, 3))[0].columns["close"], alone)
    assert not np.array_equal(resampled([candles()], 24, generator(6, 3))[0].columns["close"], alone)


# -- all contracts together ------------------------------------------------------------------------------------------


def test_contracts_are_drawn_by_the_same_rows():
    first, second = candles(), candles("ETHUSDT", seed=2, every=4)
    rows = drawn_rows(first.closes_at - HOUR, 8 * HOUR, 24, generator(1, 1))
    for history, path in zip((first, second), resampled([first, second], 24, generator(1, 1)), strict=True):
        assert np.array_equal(path.columns["volume"], history.columns["volume"][rows])
        assert moves(path)[1:] == pytest.approx(moves(history)[rows][1:], abs=1e-12)


def test_contracts_of_other_stamps_are_cut_to_the_bars_of_all_of_them():
    early, late = candles(bars=100), candles("ETHUSDT", bars=100, first=40)
    kept, told = common([early, late])
    assert [len(history) for history in kept] == [60, 60]
    assert np.array_equal(kept[0].closes_at, kept[1].closes_at)
    assert "60 of 100" in told
    assert common([early, candles("ETHUSDT", bars=100)])[1] == ""


def test_contracts_without_a_common_bar_and_bars_of_two_lengths_are_refused():
    with pytest.raises(ValueError, match=r"no bar is of all of them \(BTCUSDT 2024-01-01 01:00 UTC to .*leave out the one listed latest"):
        common([candles(bars=10), candles("ETHUSDT", bars=10, first=50)])
    finer = Candles("ETHUSDT", candles().closes_at, HOUR // 2, {}, np.array([]), np.array([]), np.array([]))
    with pytest.raises(ValueError, match="must be of one length, were BTCUSDT 3600 s, ETHUSDT 1800 s"):
        common([candles(), finer])


# -- funding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 4, 8])
def test_every_stamp_has_the_rate_of_a_stamp_of_the_rows_drawn(every):
    history = candles(every=every)
    rows = drawn_rows(history.closes_at - HOUR, every * HOUR, 24, generator(1, 1))
    (path,) = resampled([history], 24, generator(1, 1))
    inside = slice(0, 240 // every)  # the last stamp is the end of the last bar
    drawn = rows[::every]
    assert (drawn % every == 0).all()
    assert np.array_equal(path.rates[inside], drawn // every * 1e-6)
    assert path.rates[-1] == history.rates[-1]


def test_daily_bars_carry_the_three_settlements_inside_them():
    day = 24 * HOUR
    stamps = np.arange(START, START + 10 * day, 8 * HOUR)
    columns = dict.fromkeys(("open", "high", "low", "close"), np.full(10, 100.0))
    rates = np.arange(30) * 1e-6
    history = Candles("BTCUSDT", START + day * np.arange(1, 11), day, columns, stamps, rates, np.array([]))
    rows = drawn_rows(history.closes_at - day, 8 * HOUR, 2, generator(1, 1))
    (path,) = resampled([history], 2, generator(1, 1))
    assert path.rates.tolist() == [rates[3 * row + part] for row in rows for part in range(3)]


def test_the_mean_rate_is_kept_in_expectation():
    history = candles(bars=240)
    paths = [resampled([history], 24, generator(1, path))[0].rates[:-1].mean() for path in range(400)]
    true = history.rates[:-1].mean()
    assert np.mean(paths) == pytest.approx(true, abs=4 * np.std(paths) / 20)


def test_the_price_that_funding_was_paid_by_moves_with_its_row_and_an_unknown_one_stays_unknown():
    history = candles()
    known = np.where(np.arange(len(history.stamps)) % 2, 100.0, np.nan)
    priced = Candles(history.symbol, history.closes_at, HOUR, history.columns, history.stamps, history.rates, known)
    rows = drawn_rows(history.closes_at - HOUR, 8 * HOUR, 24, generator(1, 1))[::8]
    (path,) = resampled([priced], 24, generator(1, 1))
    scale = (path.columns["close"] / history.columns["close"][drawn_rows(history.closes_at - HOUR, 8 * HOUR, 24, generator(1, 1))])[::8]
    assert np.array_equal(np.isnan(path.paid_by[:-1]), rows // 8 % 2 == 0)
    has = ~np.isnan(path.paid_by[:-1])
    assert path.paid_by[:-1][has] == pytest.approx(100 * scale[has])


def test_a_stamp_where_the_venue_had_another_interval_takes_the_rate_settled_before():
    stamps = START + HOUR * np.array([0, 8, 16, 24, 28, 32, 36, 40, 44])  # every 8 hours, then every 4: the more frequent step
    history = candles(bars=48)
    mixed = Candles("BTCUSDT", history.closes_at, HOUR, history.columns, stamps, np.arange(9) * 1e-6, np.array([]))
    assert funding_clock([mixed]) == 4 * HOUR
    for number in range(1, 30):
        (path,) = resampled([mixed], 6, generator(1, number))
        rows = drawn_rows(mixed.closes_at - HOUR, 4 * HOUR, 6, generator(1, number))
        for stamp, rate in zip(stamps, path.rates, strict=True):
            row = rows[(stamp - START) // HOUR]
            assert rate == np.flatnonzero(stamps <= START + row * HOUR)[-1] * 1e-6


def test_a_gap_keeps_the_clock_and_its_stamps_keep_their_own_rates():
    history = candles(bars=240, drop=range(30, 45))  # the stamps of hours 32 and 40 are in no bar
    rows = drawn_rows(history.closes_at - HOUR, 8 * HOUR, 24, generator(2, 1))
    phases = (history.closes_at // HOUR - 1) % 8
    assert np.array_equal(phases[rows], phases)
    (path,) = resampled([history], 24, generator(2, 1))
    assert path.rates[[4, 5]].tolist() == history.rates[[4, 5]].tolist()


def test_a_walk_over_a_gap_goes_on_at_the_next_row_of_the_right_phase():
    opens_at = START + HOUR * np.array([0, 1, 2, 5, 6, 7])  # a cycle of four: phases 0 1 2 1 2 3
    rows = drawn_rows(opens_at, 4 * HOUR, inf, generator(1, 1))
    assert rows.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_period_knows_the_funding_of_its_own_time_alone():
    history = candles(bars=240)
    period = history.during(24, 48)
    assert period.closes_at.tolist() == history.closes_at[24:48].tolist()
    assert period.columns["close"].tolist() == history.columns["close"][24:48].tolist()
    assert ((period.stamps - START) // HOUR).tolist() == [24, 32, 40, 48]
    assert period.rates.tolist() == history.rates[3:7].tolist()
    assert len(period.paid_by) == 4


def test_intervals_of_all_contracts_make_one_clock_or_are_refused():
    assert funding_clock([candles(every=8), candles("ETHUSDT", every=4)]) == 8 * HOUR
    no_funding = Candles("X", candles().closes_at, HOUR, {}, np.array([], dtype=int), np.array([]), np.array([]))
    assert funding_clock([no_funding]) == HOUR
    with pytest.raises(ValueError, match=r"no common clock within a day \(BTCUSDT 8 h, ETHUSDT 7 h\)"):
        funding_clock([candles(every=8), candles("ETHUSDT", every=7)])


# -- edges -----------------------------------------------------------------------------------------------------------


def test_one_bar_can_only_be_itself():
    history = candles(bars=1)
    (path,) = resampled([history], 24, generator(1, 1))
    assert path.columns["close"].tolist() == history.columns["close"].tolist()


@pytest.mark.parametrize("block", [0, 0.5, -1, float("nan")])
def test_a_block_of_less_than_a_bar_is_refused(block):
    with pytest.raises(ValueError, match="block is the mean length of a block in bars, 1 or more"):
        resampled([candles(bars=4)], block, generator(1, 1))


def test_a_history_without_marks_has_paths_without_marks():
    (path,) = resampled([candles(marks=False)], 24, generator(1, 1))
    assert set(path.columns) == {"open", "high", "low", "close", "volume"}


def test_stamps_of_a_path_rise_as_those_of_the_history():
    (path,) = resampled([candles()], 24, generator(1, 1))
    assert all(early < late for early, late in pairwise(path.closes_at.tolist()))
