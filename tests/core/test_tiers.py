"""Tier tables at, below and above their edges."""

from datetime import date
from itertools import pairwise
from math import floor, inf, nextafter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bt_margin import Tier, TierSchedule, TierTable
from bt_margin.core.tiers import TierStep

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
    with pytest.raises(ValueError, match=r"tier 2 must start where tier 1 ends, at 100; its floor was 150, a gap$"):
        TierTable((Tier(0, 100, 0.01, 20), Tier(150, 200, 0.02, 10)))


def test_overlapping_tiers_are_refused():
    with pytest.raises(ValueError, match=r"tier 3 must start where tier 2 ends, at 200; its floor was 150, an overlap$"):
        TierTable((Tier(0, 100, 0.01, 20), Tier(100, 200, 0.02, 10), Tier(150, 300, 0.03, 10)))


def test_a_supplied_amount_that_disagrees_is_refused_with_both_numbers():
    TABLE.check_amounts([0, 50, 1_300])
    with pytest.raises(ValueError, match="tier 3: maintenance amount 1200 disagrees with the derived 1300"):
        TABLE.check_amounts([0, 50, 1_200])
    with pytest.raises(ValueError, match="3 tiers need as many maintenance amounts, were 1"):
        TABLE.check_amounts([0])


def test_an_amount_that_is_not_given_is_not_judged():
    TABLE.check_amounts([None, 50, None])


@pytest.mark.parametrize(("contracts", "maintenance"), [(3_000, 1_125), (3_001, 1_500.5), (4_000, 2_000)])
def test_a_slab_table_charges_the_whole_position_the_rate_of_its_tier(contracts, maintenance):
    """OKX ADAUSDT of 2023-10-31, 100 ADA a contract at 0.5: 3 000 x 50 x 0.75 %, then 4 000 x 50 x 1 %."""
    table = TierTable.from_rows([(1_500, 0.005, 50), (3_000, 0.0075, 40), (6_000, 0.01, 33.33)], mode="slab", unit="contracts")

    assert table.requirement(contracts * 100 * 0.5, measure=contracts) == pytest.approx(maintenance, rel=1e-12)
    assert [bracket.amount for bracket in table.brackets] == [0, 0, 0]


def test_a_base_table_counts_coins_and_asks_in_the_money_of_the_notional():
    """50 coins at 60 000: 20 at 1 % and 30 at 2 %, or 2 % of all less 20 x 1 %, each coin worth 60 000."""
    table = TierTable.from_rows([(20, 0.01, 50), (None, 0.02, 25)], unit="base")

    assert table.requirement(50 * 60_000, measure=50) == 50 * 60_000 * 0.02 - 20 * 0.01 * 60_000
    assert table.requirement(50) == 50 * 0.02 - 20 * 0.01  # an inverse contract's notional is coins itself
    assert table.requirement(0.0, measure=0.0) == 0


def test_tiers_are_numbered_from_one_and_hold_their_upper_edge():
    assert [TABLE.tier_of(n) for n in (0, 50_000, 50_001, 250_000, 250_001, 1e12)] == [1, 1, 2, 2, 3, 3]
    capped = TierTable.from_rows([(100, 0.01, 20), (200, 0.02, 10)])
    assert capped.tier_of(1_000) == 2


def test_a_single_tier_is_taken_as_it_stands():
    table = TierTable.supplied([Tier(0, inf, 0.1, 20)], [16_300])  # 10 % of maintenance under 5 % of initial margin

    assert table.requirement(1_000_000) == 1_000_000 * 0.1 - 16_300
    assert TierTable.supplied([Tier(500, 1_000, 0.025, 20)], [7]).requirement(100) == 100 * 0.025 - 7  # also outside its edges
    assert TierTable.supplied([Tier(0, inf, 0.01, 20)]).requirement(100) == 100 * 0.01


def test_the_amounts_of_a_supplied_table_must_be_the_derived_ones():
    tiers = TABLE.tiers

    assert TierTable.supplied(tiers, [0, 50, 1_300]) == TierTable.supplied(tiers) == TABLE
    with pytest.raises(ValueError, match="tier 2: maintenance amount 51 disagrees with the derived 50"):
        TierTable.supplied(tiers, [0, 51, 1_300])
    with pytest.raises(ValueError, match="tier 2: maintenance amount 50 disagrees with the derived 0"):
        TierTable.supplied(tiers, [0, 50, 0], mode="slab")
    with pytest.raises(ValueError, match="3 tiers need as many maintenance amounts, were 2"):
        TierTable.supplied(tiers, [0, 50])


@pytest.mark.parametrize(
    ("tiers", "options", "sentence"),
    [
        ((Tier(0, 1, 0.01, 2),), {"mode": "steps"}, "a tier table's mode is 'marginal' or 'slab', was 'steps'"),
        ((Tier(0, 1, 0.01, 2),), {"unit": "coins"}, "a tier table's unit is 'quote', 'base' or 'contracts', was 'coins'"),
        ((Tier(0, 1, 0.01, 2), Tier(1, 2, 0.02, 2)), {"amount": 3.0}, "for one tier alone, were 2 tiers"),
        ((Tier(0, 1, 0.01, 2),), {"amount": inf}, "a maintenance amount is a number, was inf"),
        ((Tier(0, 1, 1.5, 2),), {"amount": 1.0}, "tier 1: a maintenance rate is a fraction"),
        ((Tier(3, 9, 0.01, 2),), {}, "a tier table starts at floor 0, was 3"),
    ],
)
def test_a_table_that_means_nothing_is_refused(tiers, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        TierTable(tiers, **options)


def test_a_step_goes_on_after_the_rows_exactly():
    """OKX BTC-USDT-SWAP of 2026-09-18, as its 99 rows were fetched."""
    rows = [(1_000, 0.004, 100), (5_000, 0.005, 66.66), (20_000, 0.0075, 50)]
    table = TierTable.from_rows(rows, mode="slab", unit="contracts", step=TierStep(20_000, 0.005, 0.005, 0.02, last=99))

    assert len(table.tiers) == 99
    fetched = {4: (40_000, 0.0125, 40), 5: (60_000, 0.0175, 33.33), 6: (80_000, 0.0225, 28.57), 7: (100_000, 0.0275, 25)}
    fetched |= {9: (140_000, 0.0375, 20), 19: (340_000, 0.0875, 10), 99: (1_940_000, 0.4875, 2)}
    assert {number: table.tiers[number - 1] for number in fetched} == {
        number: Tier(cap - 20_000, cap, rate, leverage) for number, (cap, rate, leverage) in fetched.items()
    }


def test_a_step_without_a_last_tier_goes_on_while_1x_is_allowed():
    table = TierTable.from_rows([(10, 0.01, 2)], step=TierStep(10, 0.1, 0.2, 0.5))

    assert [(tier.cap, tier.rate, tier.max_leverage) for tier in table.tiers] == [(10, 0.01, 2), (20, 0.11, 1.42), (30, 0.21, 1.11)]


@pytest.mark.parametrize(
    ("rows", "step", "sentence"),
    [
        ([(None, 0.01, 2)], (10, 0.1, 0.2, 0.5), "tier 1 has no cap, so no step can follow it"),
        ([(10, 0.01, 2)], (10, 0.1, 0.2, 0.5, 1), "the step's last tier, 1, must come after the 1 rows it follows"),
        ([(10, 0.01, 2)], (10, 0.9, 0.1, 0.5, 3), "tier 2: maintenance rate 0.91 exceeds the initial rate"),
        ([(20, 0.01, 2), (10, 0.01, 2)], (10, 0.1, 0.2, 0.5), "tier 2 must end above its floor 20, its cap was 10"),
    ],
)
def test_a_step_that_does_not_fit_its_rows_is_refused(rows, step, sentence):
    with pytest.raises(ValueError, match=sentence):
        TierTable.from_rows(rows, step=TierStep(*step))


def test_a_step_of_nothing_is_refused():
    with pytest.raises(ValueError, match="a tier step's rate is a positive number, was 0"):
        TierStep(10, 0, 0.1, 0.5)


@st.composite
def tables(draw, mode="marginal", unit="quote"):
    """Draw a table of one to six tiers whose rates are rising and stay below half of 1 / max_leverage."""
    widths = draw(st.lists(st.floats(1, 1e7), min_size=1, max_size=6))
    steps = draw(st.lists(st.floats(0, 0.05), min_size=len(widths), max_size=len(widths)))
    caps, rates = [sum(widths[: n + 1]) for n in range(len(widths))], [0.001 + sum(steps[: n + 1]) for n in range(len(widths))]
    assume(all(low < high for low, high in pairwise([0, *caps])))
    return TierTable.from_rows([(cap, rate, 2) for cap, rate in zip(caps, rates, strict=True)], mode=mode, unit=unit)


@given(tables(), st.floats(0, 1e8), st.floats(0, 1e8))
def test_a_marginal_requirement_never_jumps_and_never_falls(table, one, other):
    for tier in table.tiers:
        assert table.requirement(nextafter(tier.cap, inf)) == pytest.approx(table.requirement(tier.cap), rel=1e-9)
    low, high = sorted((one, other))
    assert table.requirement(low) <= table.requirement(high) * (1 + 1e-12) + 1e-9


@given(tables(mode="slab"), st.floats(0, 1))
def test_a_slab_requirement_is_proportional_within_a_tier_and_jumps_at_its_edge(table, share):
    for low, high in pairwise(table.tiers):
        inside = low.floor + (low.cap - low.floor) * share
        assert table.requirement(inside) == inside * (table.tiers[table.tier_of(inside) - 1].rate)
        jump = table.requirement(nextafter(low.cap, inf)) - table.requirement(low.cap)
        assert jump == pytest.approx(low.cap * (high.rate - low.rate), rel=1e-6, abs=1e-6 * low.cap)


@given(tables(), st.floats(0.001, 1e5), st.floats(0, 1e8), st.sampled_from(["marginal", "slab"]))
def test_a_table_in_coins_asks_what_the_table_in_their_worth_asks(table, price, notional, mode):
    rows = [(tier.cap, tier.rate, tier.max_leverage) for tier in table.tiers]
    quote = TierTable.from_rows(rows, mode=mode)
    coins = TierTable.from_rows([(cap / price, *rest) for cap, *rest in rows], mode=mode, unit="base")
    assume(all(abs(notional - cap) > 1e-9 * cap for cap, *_ in rows))  # a slab edge may fall either way by rounding
    assert coins.requirement(notional, measure=notional / price) == pytest.approx(quote.requirement(notional), rel=1e-9, abs=1e-6)


@given(st.integers(1, 10**6), st.integers(1, 100), st.integers(1, 100), st.integers(1, 60))
def test_a_step_equals_the_rows_written_out(cap, per_mille, initial_per_mille, count):
    """Rates in tenths of a per cent: written out they are counted in whole numbers, so that both are exact."""
    initial_per_mille += per_mille
    assume(200 + initial_per_mille * count <= 1_000)
    step = TierStep(cap, per_mille / 1_000, initial_per_mille / 1_000, 0.2, last=1 + count)
    stepped = TierTable.from_rows([(100, 0.1, 5)], step=step)
    written = [(100, 0.1, 5)]
    for n in range(1, count + 1):
        leverage = floor(100_000 / (200 + initial_per_mille * n)) / 100
        written.append((100 + cap * n, (100 + per_mille * n) / 1_000, leverage))
    assert stepped == TierTable.from_rows(written)


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


def test_a_schedule_known_by_a_time_leaves_out_what_came_later_but_its_first_table():
    old, new = TierTable.flat(0.01), TierTable.flat(0.02)
    schedule = TierSchedule.from_days([(date(1970, 1, 3), old), (date(1970, 1, 5), new)])

    assert schedule.known_by(3.9 * DAY) == schedule.known_by(0) == TierSchedule((2 * DAY,), (old,))
    assert schedule.known_by(4 * DAY) == schedule
