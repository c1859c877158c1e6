"""The sizing formulas by hand, against closed forms, and the margin-aware ones against the liquidation price itself."""

from itertools import pairwise
from math import exp, inf, isclose, log, sqrt

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bt_margin.core.liquidation import liquidation_price
from bt_margin.core.sizing import (
    Adverse,
    annual_volatility,
    buffered,
    contracts_worth,
    cushion_notional,
    drawdown_factor,
    falls_deeper,
    fixed_ratio_units,
    growth_rate,
    implied_leverage,
    kelly,
    kelly_leverage,
    kelly_of_trades,
    largest_share,
    loss_per_contract,
    margin_to_survive,
    mean_and_variance,
    move_size,
    optimal_fraction,
    risk_size,
    secure_fraction,
    streak_factor,
    surviving_size,
    turtle_factor,
    volatility_leverage,
    whole_leverage,
    worth_at_ratio,
)
from bt_margin.core.tiers import TierTable

FLAT = TierTable.flat(0.01).brackets
TIERS = TierTable.from_rows([(50_000, 0.004, 125), (250_000, 0.005, 100), (None, 0.01, 50)])


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (contracts_worth(10_000, price=50_000), 10_000 / 50_000),  # fixed notional
        (contracts_worth(10_000, price=50_000, multiplier=0.001), 10_000 / 50),
        (contracts_worth(0.5, price=40_000, multiplier=100, kind="inverse"), 0.5 * 40_000 / 100),  # 0.5 coin is 20 000 in 200 contracts
        (contracts_worth(0.1 * 5_000 * 20, price=50_000), 0.2),  # 10 % of 5 000 at 20x
        (contracts_worth(-5, price=100), 0),
        (risk_size(0.02 * 10_000, 500), 0.4),  # 2 % of 10 000 over a stop 500 away
        (risk_size(200, 0), inf),
        (move_size(0.01 * 10_000, move=2 * 250, price=50_000), 0.2),  # 1 % over 2 x ATR 250
        (move_size(100, move=250, price=50_000), 0.4),  # a Turtle unit
        (move_size(0.01, move=400, price=40_000, multiplier=100, kind="inverse"), 0.01 / (100 / 40_000 * 0.01)),
        (volatility_leverage(0.4, 0.8), 0.5),
        (volatility_leverage(0.4, 0), inf),
        (worth_at_ratio(1_000, 4_000, ratio=0.1), 6_000),  # 1 000 / 10 000
        (worth_at_ratio(1_000, 4_000, ratio=0.1, fee=0.02), 600 / 0.12),  # (1 000 - 100) / 9 000 = 10 % after the fee of 5 000
        (worth_at_ratio(300, 4_000, ratio=0.1), 0),
        (largest_share(0.4, 3_000), 2_000),
        (largest_share(0.4, 0), inf),
    ],
)
def test_sizes_by_hand(size, expected):
    assert size == pytest.approx(expected)


def test_the_loss_to_a_stop_has_both_fees_and_slippage_in_it():
    # long 100 to 95: 5 + 0.1 % of 100 + (0.2 % + 0.3 %) of 95
    assert loss_per_contract(price=100, stop=95, entry_fee=0.001, exit_fee=0.002, slippage=0.003) == pytest.approx(5 + 0.1 + 0.475)
    # a short of 2 base units a contract, 100 to 104
    assert loss_per_contract(price=100, stop=104, exit_fee=0.01, multiplier=2) == pytest.approx(2 * (4 + 1.04))
    # an inverse long of 100 dollars: 100 / 80 - 100 / 100 coins
    assert loss_per_contract(price=100, stop=80, multiplier=100, kind="inverse") == pytest.approx(0.25)
    assert loss_per_contract(price=100, stop=125, multiplier=100, kind="inverse") == pytest.approx(1 - 0.8)


@pytest.mark.parametrize("price", [0, -1, inf, float("nan")])
def test_a_price_that_is_none_is_refused(price):
    with pytest.raises(ValueError, match="a price is a finite number above 0"):
        contracts_worth(1, price=price)
    with pytest.raises(ValueError, match="a stop is a finite number above 0"):
        loss_per_contract(price=100, stop=price)


def test_a_target_is_left_alone_within_its_buffer():
    assert (buffered(10, 9.1, 0.1), buffered(10, 9, 0.1), buffered(10, 8, 0.1), buffered(10, 11, 0.1)) == (0, 0, 2, 0)


def test_a_year_has_365_days_whatever_the_bar():
    assert annual_volatility(0.02**2, 86_400) == pytest.approx(0.02 * sqrt(365))
    assert annual_volatility(0.005**2, 3_600) == pytest.approx(0.005 * sqrt(365 * 24))


# -- Kelly and its kin ---------------------------------------------------------------------------------------------------


@given(p=st.floats(0, 1), b=st.floats(0.1, 10))
def test_kelly_of_a_coin_is_p_less_the_rest_over_the_payoff(p, b):
    assert kelly(p, b) == p - (1 - p) / b


@pytest.mark.parametrize(("wins", "losses", "b"), [(11, 9, 1.0), (5, 5, 2.0), (3, 7, 3.0), (18, 12, 0.8)])
def test_kelly_of_trades_is_that_of_the_coin_they_came_from(wins, losses, b):
    trades = [b] * wins + [-1.0] * losses
    p = wins / (wins + losses)
    assert kelly_of_trades(trades) == pytest.approx(p - (1 - p) / b)
    assert kelly_of_trades([3 * trade for trade in trades]) == pytest.approx(p - (1 - p) / b)  # units do not matter


def test_kelly_without_losses_is_everything_and_without_wins_never():
    assert kelly_of_trades([1, 2]) == kelly_of_trades([1, 0]) == 1
    assert kelly_of_trades([-1, 0]) == -inf


@pytest.mark.parametrize(("p", "b", "what"), [(1.1, 1, "win rate"), (-0.1, 1, "win rate"), (0.5, 0, "payoff"), (0.5, -1, "payoff")])
def test_a_bet_that_is_none_is_refused(p, b, what):
    with pytest.raises(ValueError, match=f"a {what} is"):
        kelly(p, b)


@given(mu=st.floats(-0.5, 0.5), sigma=st.floats(0.05, 1.5))
def test_kelly_of_lognormal_prices_is_mu_over_variance_and_half_of_it_keeps_three_quarters(mu, sigma):
    leverage = kelly_leverage(mu, sigma**2)
    best = growth_rate(leverage, mu, sigma**2)
    assert leverage == pytest.approx(mu / sigma**2)
    assert best == pytest.approx(mu**2 / sigma**2 / 2)
    assert growth_rate(leverage / 2, mu, sigma**2) == pytest.approx(0.75 * best)
    assert growth_rate(2 * leverage, mu, sigma**2) == pytest.approx(0, abs=1e-9)


def test_continuous_kelly_of_small_steps_is_that_of_the_prices_they_make():
    # A step up by e^(m + s) or down by e^(m - s) with equal chance has log-drift m and deviation s; mu = m + s^2 / 2.
    m, s = 0.0002, 0.01
    mean, variance = mean_and_variance([exp(m + s) - 1, exp(m - s) - 1] * 5_000)
    assert kelly_leverage(mean, variance) == pytest.approx((m + s**2 / 2) / s**2, rel=1e-2)


def test_returns_that_never_differ_have_no_kelly_leverage():
    with pytest.raises(ValueError, match="a variance is above 0"):
        kelly_leverage(0.1, 0)


@given(p=st.floats(0.2, 0.9), b=st.floats(0.5, 4))
def test_optimal_f_of_a_coin_is_kelly(p, b):
    wins = round(100 * p)
    share = wins / 100
    expected = share - (1 - share) / b
    assert optimal_fraction([b] * wins + [-1.0] * (100 - wins)) == pytest.approx(max(expected, 0), abs=1e-9)


def test_optimal_f_of_two_to_one_is_a_quarter_whatever_the_unit():
    assert optimal_fraction([2.0, -1.0]) == pytest.approx(0.25)
    assert optimal_fraction([0.04, -0.02, 0.04, -0.02]) == pytest.approx(0.25)


@settings(max_examples=30)
@given(st.lists(st.floats(-1, 2), min_size=3, max_size=12))
def test_no_other_f_grows_faster(trades):
    assume(min(trades) < -0.01)
    worst, f = -min(trades), optimal_fraction(trades)

    def growth(fraction):
        return sum(log(1 + fraction * trade / worst) for trade in trades)

    assert all(growth(f) >= growth(other / 200) - 1e-9 for other in range(199))


def test_optimal_f_needs_a_loss():
    with pytest.raises(ValueError, match="none of the trades has lost"):
        optimal_fraction([1.0, 2.0])


def test_a_drawdown_is_from_a_peak():
    # 1, 2, 1, 3, 0.6, 0.66: from 3 to 0.6 it falls by 80 %
    shares = [1, -0.5, 2, -0.8, 0.1]
    assert falls_deeper(shares, 1.0, 0.79)
    assert not falls_deeper(shares, 1.0, 0.81)
    assert not falls_deeper([0.1, 0.2], 1.0, 0.01)


def test_secure_f_is_the_share_at_which_the_allowed_runs_fall_too_far():
    # Runs of one, two and three losses after each other fall by 1 - (1 - f)^n; one of three may fall by more than 20 %.
    draws = [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert secure_fraction([9.0, -1.0], draws, drawdown=0.2, chance=1 / 3) == pytest.approx(1 - sqrt(0.8), abs=1e-3)
    assert secure_fraction([9.0, -1.0], draws, drawdown=0.2, chance=0) == pytest.approx(1 - 0.8 ** (1 / 3), abs=1e-3)
    assert secure_fraction([9.0, -1.0], draws, drawdown=0.999, chance=0) == optimal_fraction([9.0, -1.0])


def test_a_fixed_ratio_adds_a_unit_for_each_further_delta_per_unit():
    assert [fixed_ratio_units(profit, 100) for profit in (-50, 0, 99, 100, 299, 300, 599, 600, 1_000)] == [1, 1, 1, 2, 2, 3, 3, 4, 5]
    assert all(fixed_ratio_units(n * (n - 1) / 2 * 0.1, 0.1) == n for n in range(1, 200))
    with pytest.raises(ValueError, match="delta is the profit"):
        fixed_ratio_units(1, 0)


def test_a_streak_counts_from_the_last_trade_back_to_the_first_of_the_other_kind():
    assert [streak_factor(t, after_loss=True, factor=2, most=3) for t in ([], [1], [-1], [1, -1, -1], [-1] * 9, [-1, 1])] == [
        1,
        1,
        2,
        4,
        8,
        1,
    ]
    assert [streak_factor(t, after_loss=False, factor=3, most=2) for t in ([], [1], [1, 1, 1], [1, -1])] == [1, 3, 9, 1]
    assert streak_factor([-1] * 400, after_loss=True, factor=10.0, most=400) == inf  # 10 ** 400 is no float


def test_drawdowns_shrink_sizes_by_hand():
    assert [drawdown_factor(dd, most=0.3) for dd in (0, 0.15, 0.3, 0.5)] == pytest.approx([1, 0.5, 0, 0])
    assert drawdown_factor(0.15, most=0.3, power=2) == pytest.approx(0.25)
    assert [turtle_factor(dd) for dd in (0.09, 0.1, 0.2, 0.3)] == pytest.approx([1, 0.8, 0.64, 0.512])
    assert cushion_notional(9_000, 10_000, floor_share=0.7, multiple=3) == pytest.approx(3 * 2_000)
    assert cushion_notional(6_000, 10_000, floor_share=0.7, multiple=3) == 0


# -- by margin ------------------------------------------------------------------------------------------------------------


def test_surviving_sizes_by_hand():
    # long: 1 000 / (100 - 90 x 0.99); short: 1 000 / (110 x 1.01 - 100)
    assert surviving_size(1_000, Adverse(100, 90, FLAT)) == pytest.approx(1_000 / (100 - 89.1))
    assert surviving_size(1_000, Adverse(100, 110, FLAT)) == pytest.approx(1_000 / 11.1)
    # three maintenance margins at 95, a fee of 0.1 %: 1 000 / (100.1 - 95 x 0.97)
    assert surviving_size(1_000, Adverse(100, 95, FLAT, entry_fee=0.001, buffer=3)) == pytest.approx(1_000 / (100.1 - 92.15))
    # the second tier, MM = 0.5 % - 50: (10 000 + 50) / (50 000 - 45 000 x 0.995)
    assert surviving_size(10_000, Adverse(50_000, 45_000, TIERS.brackets)) == pytest.approx(10_050 / 5_225)
    # an inverse long of 100 dollars falls from 50 to 40: loss 0.5 coin, 2.5 coins of notional there
    assert surviving_size(1, Adverse(50, 40, FLAT, multiplier=100, kind="inverse")) == pytest.approx(1 / (0.5 + 0.025))


def test_a_size_without_risk_is_endless_and_without_money_none():
    assert surviving_size(10, Adverse(100, 101, TierTable.flat(0).brackets, entry_fee=-0.02)) == inf
    assert surviving_size(-5, Adverse(100, 90, FLAT)) == 0


def test_what_is_held_already_takes_its_maintenance_off():
    # 5 held since 100 lose 50 to 90, where they maintain 4.5 of the 10.9 that each new one takes
    alone = surviving_size(1_000, Adverse(100, 90, FLAT))
    assert surviving_size(1_000 - 50, Adverse(100, 90, FLAT), held=5) == pytest.approx(alone - 5)


def test_margins_to_survive_by_hand():
    assert margin_to_survive(2, Adverse(100, 95, FLAT)) == pytest.approx(10 + 1.9)
    assert margin_to_survive(2, Adverse(100, 105, FLAT, buffer=2)) == pytest.approx(10 + 4.2)
    assert margin_to_survive(2, Adverse(50_000, 45_000, TIERS.brackets)) == pytest.approx(10_000 + 90_000 * 0.005 - 50)
    assert implied_leverage(200, 11.9) == pytest.approx(200 / 11.9)
    assert (whole_leverage(16.8), whole_leverage(16), whole_leverage(0.3), implied_leverage(5, 0)) == (16, 16, 1, inf)


@st.composite
def cases(draw):
    rates = sorted(draw(st.lists(st.floats(0.001, 0.05), min_size=1, max_size=5)))
    caps = sorted(draw(st.lists(st.floats(1_000, 1e7), min_size=len(rates) - 1, max_size=len(rates) - 1, unique=True)))
    assume(all(b > a * 1.001 for a, b in pairwise(caps)))
    kind = draw(st.sampled_from(["linear", "inverse"]))
    unit = 1 / 20_000 if kind == "inverse" else 1
    table = TierTable.from_rows([(cap * unit, rate, 1) for cap, rate in zip(caps, rates, strict=False)] + [(None, rates[-1], 1)])
    side, price = draw(st.sampled_from([1, -1])), draw(st.floats(100, 60_000))
    at = price * (1 - side * draw(st.floats(0.005, 0.5)))
    fee = draw(st.floats(0, 0.001))
    return side, draw(st.floats(10, 1e6)) * unit, Adverse(price, at, table.brackets, fee, 1.0, draw(st.sampled_from([0.001, 1, 100])), kind)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_what_survives_to_a_price_is_liquidated_there(case):
    side, wallet, terms = case
    size = surviving_size(wallet, terms)
    worth = size * terms.multiplier * (terms.price if terms.kind == "linear" else 1 / terms.price)
    price = liquidation_price(
        size=side * size,
        entry_price=terms.price,
        collateral=wallet - terms.entry_fee * worth,
        table=terms.brackets,
        multiplier=terms.multiplier,
        kind=terms.kind,
    )
    assert price is not None
    assert isclose(price, terms.at, rel_tol=1e-7)


@settings(max_examples=100, deadline=None)
@given(cases(), st.floats(0.01, 1_000))
def test_the_margin_to_survive_puts_the_liquidation_price_there(case, lots):
    side, _, terms = case
    size = lots / terms.multiplier
    price = liquidation_price(
        size=side * size,
        entry_price=terms.price,
        collateral=margin_to_survive(size, terms),
        table=terms.brackets,
        multiplier=terms.multiplier,
        kind=terms.kind,
    )
    assert price is not None
    assert isclose(price, terms.at, rel_tol=1e-7)


@settings(max_examples=60, deadline=None)
@given(cases(), st.floats(1, 4))
def test_a_buffer_is_that_many_maintenance_margins_at_the_price(case, beta):
    _, wallet, terms = case
    size = surviving_size(wallet, terms._replace(buffer=beta))
    worth = [size * terms.multiplier * (at if terms.kind == "linear" else 1 / at) for at in (terms.price, terms.at)]
    equity = wallet - abs(worth[0] - worth[1]) - terms.entry_fee * worth[0]
    maintenance = max(worth[1] * row.rate - row.amount for row in terms.brackets)
    assert equity == pytest.approx(beta * maintenance, rel=1e-6, abs=1e-9 * worth[0])
