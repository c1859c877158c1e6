"""Funding schedules and the journal."""

from datetime import UTC, datetime
from math import inf, nan

import pytest

from bt_margin import FundingSchedule
from bt_margin.core.funding import funding_payment, whole_stamp
from bt_margin.core.ledger import Journal

HOUR = 3_600


@pytest.mark.parametrize(("size", "rate", "expected"), [(2, 0.001, -0.2), (2, -0.001, 0.2), (-2, 0.001, 0.2), (-2, -0.001, -0.2)])
def test_a_positive_rate_makes_longs_pay_shorts(size, rate, expected):
    assert funding_payment(size=size, multiplier=1, mark_price=100, rate=rate) == pytest.approx(expected)


def test_stamps_are_taken_after_the_first_instant_and_up_to_the_second():
    schedule = FundingSchedule((0, 8 * HOUR, 16 * HOUR), (0.1, 0.2, 0.3))
    assert [s.rate for s in schedule.between(0, 16 * HOUR)] == [0.2, 0.3]
    assert [s.rate for s in schedule.between(-1, 8 * HOUR - 1)] == [0.1]
    assert schedule.first_after(0) == 8 * HOUR
    assert schedule.first_after(16 * HOUR) == inf


def test_milliseconds_of_jitter_settle_on_the_whole_minute():
    schedule = FundingSchedule((0.003, 8 * HOUR - 0.007), (0.1, 0.2))
    assert schedule.stamps == (0, 8 * HOUR)
    assert whole_stamp(90.0) == 90.0  # a stamp that is no jitter stays


def test_a_constant_rate_has_a_stamp_at_every_whole_interval():
    schedule = FundingSchedule.constant(0.0001, first=1, last=24 * HOUR)
    assert schedule.stamps == (8 * HOUR, 16 * HOUR, 24 * HOUR)
    assert set(schedule.rates) == {0.0001}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (((0, 0), (0.1, 0.1)), "must rise"),
        (((8, 0), (0.1, 0.1)), "must rise"),
        (((0,), (nan,)), "must be a finite fraction, was nan"),
        (((0,), (0.1, 0.2)), "had 1 stamps, 2 rates"),
        (((0,), (0.1,), (-5.0,)), "must be positive, was -5"),
    ],
)
def test_a_bad_schedule_is_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        FundingSchedule(*arguments)


def test_a_constant_rate_needs_a_positive_interval():
    with pytest.raises(ValueError, match="positive number of seconds"):
        FundingSchedule.constant(0.0001, first=0, last=1, interval_seconds=0)


def test_rows_carry_their_entry_and_an_aware_time():
    journal = Journal.empty()
    journal.post(0, "deposit", "", ("wallet:cross", 10.0), ("external", -10.0))
    journal.post(60, "funding", "BTC", ("wallet:cross", -1.0), ("funding", 1.0))
    rows = list(journal)
    assert [(row.entry_id, row.account, row.amount) for row in rows][2:] == [(1, "wallet:cross", -1.0), (1, "funding", 1.0)]
    assert rows[2].time == datetime(1970, 1, 1, 0, 1, tzinfo=UTC)
    assert journal.balances() == {"wallet:cross": 9.0, "external": -10.0, "funding": 1.0}
    assert journal.turnover() == 22
    assert journal.imbalance() == 0


def test_an_entry_that_does_not_balance_is_refused():
    journal = Journal.empty()
    with pytest.raises(AssertionError, match="unbalanced fill entry for BTC"):
        journal.post(0, "fill", "BTC", ("wallet:cross", 10.0), ("pnl", -9.0))
    with pytest.raises(AssertionError, match="needs two ends"):
        journal.post(0, "fill", "BTC", ("wallet:cross", 0.0))
    assert len(journal) == 0
