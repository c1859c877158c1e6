"""The first crossing is the first: not one that comes after it, and none that is not there."""

import doctest
from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_margin.core import crossing
from bt_margin.core.crossing import Curve, Pole, first_crossing

SAMPLES = 500

poles = st.builds(Pole, weight=st.floats(-50, 50), start=st.floats(0.5, 2), change=st.floats(-0.4, 4))
curves = st.builds(
    Curve, constant=st.floats(-60, 60), slope=st.floats(-20, 20), poles=st.lists(poles, min_size=1, max_size=4).map(tuple)
)  # fmt: skip


def test_examples_in_the_docstrings_are_true():
    outcome = doctest.testmod(crossing)
    assert outcome.attempted >= 2
    assert outcome.failed == 0


@settings(max_examples=300, deadline=None)
@given(curve=curves, low=st.floats(0, 0.5), width=st.floats(0.01, 0.5))
def test_no_sample_before_it_is_below_zero_and_it_is_where_the_curve_is(curve, low, width):
    high = low + width
    found = first_crossing(curve, low, high)
    money = (
        abs(curve.constant) + abs(curve.slope) + sum(abs(pole.weight) / min(pole.start, pole.start + pole.change) for pole in curve.poles)
    )
    noise = 1e-9 * money
    end = high if found is None else found
    for number in range(SAMPLES if found != low else 0):
        fraction = low + (end - low) * number / SAMPLES
        assert curve.at(fraction) >= -noise
    if found is not None:
        assert low <= found <= high
        assert curve.at(found) <= noise


def test_a_dip_between_two_ends_above_zero_is_found():
    # 1 / (1 + t) + 1 / (2 - t) is 1.5 at both ends and 4 / 3 in the middle; so it dips
    curve = Curve(-1.4, 0.0, (Pole(1.0, 1.0, 1.0), Pole(1.0, 2.0, -1.0)))
    # 3 / ((1 + t) (2 - t)) = 1.4, so t (1 - t) = 3 / 1.4 - 2
    product = 3 / 1.4 - 2
    assert curve.at(0.0) > 0
    assert curve.at(1.0) > 0
    assert first_crossing(curve, 0.0, 1.0) == pytest.approx((1 - sqrt(1 - 4 * product)) / 2, rel=1e-9)


def test_a_dip_that_stays_above_zero_is_none():
    assert first_crossing(Curve(-1.333, 0.0, (Pole(1.0, 1.0, 1.0), Pole(1.0, 2.0, -1.0))), 0.0, 1.0) is None


def test_the_first_of_two_failures_is_found():
    # a long of one contract and a short of another: below zero from 0.1 on, above again, below again
    humps = Curve(-1.4, 0.0, (Pole(1.0, 1.0, 1.0), Pole(1.0, 2.0, -1.0)))
    first = first_crossing(humps, 0.0, 1.0)
    assert first is not None
    assert first < 0.5
    assert first_crossing(humps, 0.5, 1.0) == 0.5  # failed already where the stretch begins


def test_a_mark_that_stands_still_adds_a_constant():
    assert first_crossing(Curve(1.0, -4.0, (Pole(1.0, 2.0, 0.0),)), 0.0, 1.0) == pytest.approx(1.5 / 4)
