"""Tier tables at, below and above their edges."""

from datetime import date
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_margin import Tier, TierSchedule, TierTable

ROWS = [(50_000, 0.004, 125), (250_000, 0.005, 100), (None, 0.01, 50)]
TABLE = TierTable.from_rows(ROWS)
DAY = 86_400.0


@pytest.mark.parametrize(
    ("notional", "expected"),
    [
        (0, 0.0),
        (49_999, 49_999 * 0.004),
        (50_000, 50_000 * 0.004),  # the upper edge belongs to the tier it ends
        (50_001, 50_001 * 0.005 - 50),  # 50 000 x (0.5 % - 0.4 %)
        (250_000, 250_000 * 0.005 - 50),
        (1_000_000, 1_000_000 * 0.01 - 1_300),  # 50 + 250 000 x (1 % - 0.5 %)
    ],
)
def test_maintenance_is_marginal_and_continuous_at_the_edges(notional, expected):
    assert TABLE.maintenance_margin(notional) == pytest.approx(expected)


def test_max_leverage_follows_the_tier_that_holds_the_notional():
    assert [TABLE.max_leverage(n) for n in (50_000, 50_001, 10**9)] == [125, 100, 50]


def test_max_notional_is_the_cap_of_the_last_tier_that_allows_the_leverage():
    assert [TABLE.max_notional(x) for x in (126, 125, 100, 50)] == [0.0, 50_000, 250_000, inf]


def test_above_the_last_cap_the_last_rate_stays():
    table = TierTable((Tier(0, 100, 0.01, 20), Tier(100, 200, 0.02, 10)))
    assert table.maintenance_margin(300) == pytest.approx(300 * 0.02 - 100 * 0.01)


@given(st.lists(st.tuples(st.floats(1, 1e7), st.floats(0, 0.01)), min_size=1, max_size=6), st.floats(0, 1e8))
def test_maintenance_equals_the_sum_over_the_tiers_climbed(steps, notional):
    caps, rates, floor, rate = [], [], 0.0, 0.001
    for width, more in steps:
        floor, rate = floor + width, rate + more
        caps.append(floor)
        rates.append(rate)
    table = TierTable.from_rows([*((cap, r, 10) for cap, r in zip(caps, rates, strict=True)), (None, rates[-1], 10)])
    floors = [0.0, *caps]
    summed = sum(
        (min(notional, high) - low) * r for low, high, r in zip(floors, [*caps, inf], [*rates, rates[-1]], strict=True) if notional > low
    )
    assert table.maintenance_margin(notional) == pytest.approx(summed, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "needs at least one tier"),
        ([(100, 0.01, 20), (50, 0.02, 10)], "tier 2 must end above its floor 100, its cap was 50"),
        ([(100, 0.02, 20), (200, 0.01, 10)], "rates never fall: tier 2 has 0.01 after 0.02"),
        ([(100, 0.01, 20), (200, 0.02, 30)], "leverage never rises: tier 2 has 30 after 20"),
        ([(100, 0.1, 20)], "exceeds the initial rate 1/20"),
        ([(100, -0.01, 20)], "a maintenance rate is a fraction"),
        ([(100, 0.5, 1), (200, float("nan"), 1)], "a maintenance rate is a fraction"),
        ([(100, 0.01, 0.5)], "maximum leverage is 1 or more, was 0.5"),
        ([(100, 0.01)], r"tier 1 must be \(cap, rate, max_leverage\)"),
        ([(None, 0.01, 20), (200, 0.02, 10)], "tier 2 must end above its floor inf"),
    ],
)
def test_a_bad_table_is_refused_with_its_row(rows, sentence):
    with pytest.raises(ValueError, match=sentence):
        TierTable.from_rows(rows)


def test_a_gap_between_tiers_is_refused():
    with pytest.raises(ValueError, match="tier 2 must start where tier 1 ends, at 100; its floor was 150"):
        TierTable((Tier(0, 100, 0.01, 20), Tier(150, 200, 0.02, 10)))


def test_a_supplied_amount_that_disagrees_is_refused_with_both_numbers():
    TABLE.check_amounts([0, 50, 1_300])
    with pytest.raises(ValueError, match="tier 3: maintenance amount 1200 disagrees with the derived 1300"):
        TABLE.check_amounts([0, 50, 1_200])
    with pytest.raises(ValueError, match="3 tiers need as many maintenance amounts, were 1"):
        TABLE.check_amounts([0])


def test_the_schedule_picks_the_first_table_before_its_first_date_and_the_last_one_seen_after():
    old, new = TierTable.flat(0.01), TierTable.flat(0.02)
    schedule = TierSchedule.from_days([(date(1970, 1, 3), old), (date(1970, 1, 5), new)])
    assert [schedule.at(day * DAY) for day in (0, 2, 3.9, 4, 9)] == [old, old, old, new, new]


def test_a_schedule_needs_rising_dates_and_a_table_each():
    table = TierTable.flat(0.01)
    with pytest.raises(ValueError, match="must rise"):
        TierSchedule((2.0, 1.0), (table, table))
    with pytest.raises(ValueError, match="had 1 dates and 2 tables"):
        TierSchedule((2.0,), (table, table))
