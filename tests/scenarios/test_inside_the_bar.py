"""What happens inside one bar: which of orders, extremes and liquidations comes first, and what finer bars decide.

The terms are those of ``playing``: flat maintenance 1 %, 10x isolated, no fees; a long of 1 at 100 dies at 90.909. Bars are
of one hour from 01:00; detail is of four quarters of an hour unless it says otherwise.
"""

from dataclasses import replace

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from playing import CALM, buy, frame, play, rate_column, sell

from bt_margin import MarginBroker, PerpCommInfo, PerpData, Result, TopUp

LIMIT_PRICE = 90 / 0.99
STOP, LIMIT, TRAIL = bt.Order.Stop, bt.Order.Limit, bt.Order.StopTrail


def fills(strategy) -> list[tuple[float, float]]:
    return [(row.size, round(row.price, 6)) for row in strategy.broker.record.fills[1:]]


def deaths(strategy) -> list[tuple[str, float]]:
    return [(row.symbol, row.mark_price) for row in strategy.broker.record.liquidations]


# -- orders and liquidation, in the order in which the path reaches them -----------------------------------------------

DIVE = (100, 101, 85, 95)  # low first: 100, 85, 101, 95

TABLE = {
    # name: (orders after the entry, the bar, what is filled, where it dies)
    "a stop nearer than the limit saves": ([sell(exectype=STOP, price=92)], DIVE, [(-1, 92)], None),
    "a stop farther than the limit never fills": ([sell(exectype=STOP, price=90)], DIVE, [(-1, LIMIT_PRICE)], LIMIT_PRICE),
    # 96 is 4 below the close of 100 on which it was placed
    "a trailing stop by amount saves": ([sell(exectype=TRAIL, trailamount=4)], DIVE, [(-1, 96)], None),
    "a trailing stop by percent saves": ([sell(exectype=TRAIL, trailpercent=0.07)], DIVE, [(-1, 93)], None),
    "a trailing stop beyond the limit comes too late": ([sell(exectype=TRAIL, trailpercent=0.1)], DIVE, [(-1, LIMIT_PRICE)], LIMIT_PRICE),
    "what gapped through both is liquidated before its stop": ([sell(exectype=STOP, price=95)], (85, 99, 84, 98), [(-1, 90)], 85),
    "what gapped through its stop alone leaves at the open": ([sell(exectype=STOP, price=95)], (93, 99, 84, 98), [(-1, 93)], None),
    # 1 more at 95: 10 + 9.5 behind 2 from 97.5 fail where 19.5 + 2 (p - 97.5) = 0.02 p
    "a limit entry dies with the position it joined": ([buy(exectype=LIMIT, price=95)], DIVE, [(1, 95), (-2, 175.5 / 1.98)], 175.5 / 1.98),
    "a target above is not met before the limit below": ([sell(exectype=LIMIT, price=100.5)], DIVE, [(-1, LIMIT_PRICE)], LIMIT_PRICE),
}


@pytest.mark.parametrize("name", TABLE)
def test_orders_and_liquidation_come_as_the_path_reaches_them(name):
    orders, bar, filled, dies_at = TABLE[name]
    script = {1: buy(), 2: lambda strategy: [order(strategy) for order in orders]}
    strategy = play(script, frame([CALM, CALM, bar]))
    assert fills(strategy) == [(size, pytest.approx(price)) for size, price in filled]
    assert [mark for _, mark in deaths(strategy)] == ([] if dies_at is None else [pytest.approx(dies_at)])


def test_a_position_opened_by_a_limit_dies_on_the_same_leg():
    strategy = play({1: buy(exectype=LIMIT, price=97)}, frame([CALM, DIVE]))
    assert [row.price for row in strategy.broker.record.fills] == [97, pytest.approx(97 * 0.9 / 0.99)]


def test_a_trailing_stop_stands_in_a_bar_where_the_close_before_put_it():
    """The host lets it follow closes; high first, 104 on the way does not lift it above 100 - 4."""
    strategy = play({1: buy(), 2: sell(exectype=TRAIL, trailamount=4)}, frame([CALM, CALM, (100, 104, 89, 98)]))
    assert fills(strategy) == [(-1, 96)]


def test_the_fraction_of_the_leg_is_solved_for_two_contracts_together():
    # 300 behind 10 of each from 100: 300 + 10 (a - 100) + 10 (b - 100) = 0.1 (a + b); a = 100 - 20 t, b = 100 - 10 t
    # 300 - 300 t = 20 - 3 t, so t = 280 / 297
    both = {1: lambda s: (s.buy(s.datas[0], size=10), s.buy(s.datas[1], size=10))}
    falls = [frame([CALM, CALM, (100, 100, 80, 90)]), frame([CALM, CALM, (100, 100, 90, 95)])]
    strategy = play(both, *falls, margin_mode="cross", cash=300)
    assert deaths(strategy)[0] == ("AAA", pytest.approx(100 - 20 * 280 / 297))


def test_what_a_filler_gives_an_order_is_the_same_in_the_plan_of_a_bar_and_in_the_bar():
    """This one gives the stop 2 at its own price and would give 1 at 94.50, to which it slips; what is left of 4 dies at 90.909."""

    def filler(order, price, _ago):
        return 2 if price == order.created.price else 1

    script = {1: buy(size=2), 2: lambda s: (s.buy(size=2), s.sell(size=4, exectype=STOP, price=95))}
    strategy = play(script, frame([CALM, CALM, DIVE]), filler=filler, slip_fixed=0.5, slip_open=False)
    assert fills(strategy)[1:] == [(-2, 94.5), (-2, pytest.approx(LIMIT_PRICE))]


# -- certain or possible: of what is held when it fails ------------------------------------------------------------------


def labels(strategy) -> list[str]:
    return [row.certainty for row in strategy.broker.record.liquidations]


def test_what_a_limit_opened_or_added_to_is_certain_to_die_where_prices_have_to_pass_the_limit_before():
    assert labels(play({1: buy(exectype=LIMIT, price=97)}, frame([CALM, DIVE]))) == ["certain"]
    # 20 behind 1 from 100 fail at 80.8; behind 3 from 290 / 3 where 20 + 3 p - 290 = 0.03 p, at 90.909
    joined = play(
        {1: buy(), 2: buy(size=2, exectype=LIMIT, price=95)},
        frame([CALM, CALM, (100, 101, 90, 95)]),
        margin_mode="cross",
        cash=20,
        terms={"leverage": 50},
    )
    assert deaths(joined) == [("AAA", pytest.approx(270 / 2.97))]
    assert labels(joined) == ["certain"]


def test_what_orders_have_turned_round_is_certain_to_die_only_where_both_paths_hold_as_much_of_it():
    """Low first a long of 1.5 dies, high first one of 0.5; by way of 101, 98 and 102 a long of 1.5 from 100.67 stands at 97.7."""
    terms = {"terms": {"leverage": 25}}
    orders = [buy(exectype=LIMIT, price=98), buy(exectype=STOP, price=102), buy(size=0.5, exectype=STOP, price=101)]
    script = {1: sell(), 2: lambda strategy: [order(strategy) for order in orders]}
    assert labels(play(script, frame([CALM, CALM, (100, 102, 97.7, 97.9)]), **terms)) == ["possible"]
    way = [(100, 101, 100, 101), (101, 101, 98, 98), (98, 102, 98, 102), (102, 102, 97.7, 97.9)]
    assert deaths(play(script, frame([CALM, CALM, (100, 102, 97.7, 97.9)]), detail=[quarters(way)], **terms)) == []
    # 100 closes at 100.8 and opens at 101.3 on either path: the long from 101.3 dies at 101.3 x 0.96 / 0.99
    stops = {1: sell(), 2: lambda strategy: [strategy.buy(size=1, exectype=STOP, price=price) for price in (100.8, 101.3)]}
    turned = play(stops, frame([CALM, CALM, (100, 101.4, 97, 97)]), **terms)
    assert (deaths(turned), labels(turned)) == ([("AAA", pytest.approx(101.3 * 0.96 / 0.99))], ["certain"])


def test_what_fails_only_because_another_contract_possibly_did_is_possible_too():
    """100 behind 10 of each from 100 carry either low of 94.5 alone; where they meet AAA goes at 95.96, then BBB on what is left."""
    both = {1: lambda s: (s.buy(s.datas[0], size=10), s.buy(s.datas[1], size=10))}
    bars = [frame([CALM, CALM, (100, 101, 94.5, 100)])] * 2
    strategy = play(both, *bars, margin_mode="cross", cash=100, terms={"leverage": 50})
    # 100 - 20 d = 0.2 (100 - d) at d = 80 / 19.8; then 100 - 10 d - 10 e = 0.1 (100 - e)
    assert deaths(strategy) == [("AAA", pytest.approx(100 - 80 / 19.8)), ("BBB", pytest.approx(100 - (90 - 800 / 19.8) / 9.9))]
    assert labels(strategy) == ["possible", "possible"]


# -- worst: all extremes meet ------------------------------------------------------------------------------------------

HEDGED = {1: lambda s: (s.buy(s.datas[0], size=10), s.sell(s.datas[1], size=10))}
SWING = (100, 106, 94, 100)


def play_hedged(**terms):
    """A long and a short of 1 000 each with 100 behind both: swings of 6 % cost 120 only where they meet."""
    return play(
        HEDGED, frame([CALM, CALM, SWING]), frame([CALM, CALM, SWING]), margin_mode="cross", cash=100, terms={"leverage": 50}, **terms
    )


def test_only_worst_lets_the_low_of_one_contract_meet_the_high_of_another():
    adverse, worst = play_hedged(), play_hedged(intrabar="worst")
    assert deaths(adverse) == []
    # 100 - 120 t = 0.1 (100 - 6 t) + 0.1 (100 + 6 t) = 20 at t = 80 / 120: AAA at 96 goes first, BBB stands on 60 + 40 - 40
    assert deaths(worst) == [("AAA", pytest.approx(96)), ("BBB", pytest.approx((60 + 1_000) / 10.1))]
    assert {row.certainty for row in worst.broker.record.liquidations} == {"possible"}


@pytest.mark.parametrize("intrabar", ["adverse", "favourable", "worst"])
def test_bars_on_which_only_worst_would_liquidate_are_counted_whatever_the_path(intrabar):
    summary = Result.of(play_hedged(intrabar=intrabar)).summary
    assert (summary["only_worst"], summary["ambiguous"]) == (1, 0)


def test_the_legs_of_one_contract_share_its_prices_also_at_worst():
    # swings of 6 % cost a long of 10 and a short of 10 nothing together, and 120 of 100 if their extremes met
    both = {1: lambda s: (s.buy(size=10, position_side="LONG"), s.sell(size=10, position_side="SHORT"))}
    terms = {"margin_mode": "cross", "cash": 100, "terms": {"leverage": 50}, "position_mode": "hedge", "intrabar": "worst"}
    strategy = play(both, frame([CALM, CALM, SWING]), **terms)
    assert len(strategy.broker.record.fills) == 2
    assert (deaths(strategy), Result.of(strategy).summary["only_worst"]) == ([], 0)
    finer = quarters([SWING, CALM, CALM, (100, 101, 60, 98)])
    uneven = {1: lambda s: (s.buy(size=10, position_side="LONG"), s.sell(size=6, position_side="SHORT"))}
    fallen = play(uneven, frame([CALM, CALM, (100, 106, 60, 98)]), detail=[finer], **terms)
    # 100 - 10 t + 6 t = 0.16 (100 - t) at t = 84 / 3.84, in the last quarter; its loss of 218.75 lets the short fail on the way back
    assert deaths(fallen) == [("AAA:LONG", pytest.approx(100 - 84 / 3.84)), ("AAA:SHORT", pytest.approx((700 - 218.75) / 6.06))]
    assert (Result.of(fallen).summary["detailed"], Result.of(fallen).settings["detail"]) == (1, ["AAA"])


def test_the_legs_of_a_hedge_go_one_way_at_worst_whichever_orders_wait_for_them():
    """Stopped at 95 and at 105 they lose 50 each of 115, one after the other: 15 stand behind 1 050 of the short, 10.50 needed.

    If one leg were low while the other is high, 15 would stand behind both, 20 needed.
    """

    def opened(strategy):
        strategy.buy(strategy.datas[0], size=10, position_side="LONG")
        strategy.sell(strategy.datas[0], size=10, position_side="SHORT")
        strategy.buy(strategy.datas[1], size=0.01, position_side="LONG")

    def stops(strategy):
        strategy.sell(strategy.datas[0], size=10, exectype=STOP, price=95, position_side="LONG")
        strategy.buy(strategy.datas[0], size=10, exectype=STOP, price=105, position_side="SHORT")

    terms = {"margin_mode": "cross", "cash": 115, "terms": {"leverage": 50}, "position_mode": "hedge", "intrabar": "worst"}
    for finer in (None, quarters([CALM, SWING, CALM, CALM])):
        strategy = play({1: opened, 2: stops}, frame([CALM, CALM, SWING]), frame([CALM] * 3), detail=[finer, None], **terms)
        assert deaths(strategy) == []
        assert fills(strategy)[2:] == [(-10, 95), (10, 105)]


def test_a_flat_contract_goes_first_to_where_its_nearest_order_waits():
    # AAA sold at 100 loses 60 at 106 while BBB, bought at 97, loses 30 at 94: 100 - 90 is below 10.6 + 9.4 of maintenance
    script = {1: lambda s: (s.sell(s.datas[0], size=10), s.buy(s.datas[1], size=10, exectype=LIMIT, price=97))}
    both = [frame([CALM, CALM, SWING])] * 2
    terms = {"margin_mode": "cross", "cash": 100, "terms": {"leverage": 50}}
    adverse, worst = play(script, *both, **terms), play(script, *both, intrabar="worst", **terms)
    assert (deaths(adverse), Result.of(adverse).summary["only_worst"]) == ([], 1)
    assert [symbol for symbol, _ in deaths(worst)] == ["AAA", "BBB"][: len(deaths(worst))]
    assert len(deaths(worst)) >= 1


def test_bars_whose_two_paths_end_otherwise_are_counted_as_ambiguous():
    bars = frame([CALM, CALM, (100, 106, 80, 99)])
    script = {1: buy(), 2: sell(exectype=LIMIT, price=105)}
    for intrabar, liquidations in (("adverse", 1), ("favourable", 0), ("worst", 1)):
        summary = Result.of(play(script, bars, intrabar=intrabar)).summary
        assert (summary["ambiguous"], summary["only_worst"], summary["liquidations"]) == (1, 0, liquidations)


# -- detail ------------------------------------------------------------------------------------------------------------

UP_THEN_DOWN = [(100, 106, 100, 104), (104, 104, 98, 98), (98, 98, 80, 85), (85, 99, 85, 99)]
DOWN_THEN_UP = [(100, 100, 80, 85), (85, 98, 85, 98), (98, 104, 98, 104), (104, 106, 99, 99)]
BOTH_WAYS = frame([CALM, CALM, (100, 106, 80, 99)])


def quarters(rows, *, start="2024-01-01 03:00", marks=None):
    return frame(rows, start=start, freq="15min", marks=marks)


@pytest.mark.parametrize("intrabar", ["adverse", "favourable", "worst"])
@pytest.mark.parametrize(("rows", "filled"), [(UP_THEN_DOWN, 105), (DOWN_THEN_UP, LIMIT_PRICE)])
def test_finer_bars_decide_whether_the_target_or_the_liquidation_came_first(intrabar, rows, filled):
    script = {1: buy(), 2: sell(exectype=LIMIT, price=105)}
    strategy = play(script, BOTH_WAYS, detail=[quarters(rows)], intrabar=intrabar)
    assert fills(strategy) == [(-1, pytest.approx(filled))]
    assert [row.certainty for row in strategy.broker.record.liquidations] == ["certain"] * (filled == LIMIT_PRICE)
    summary = Result.of(strategy).summary
    assert (summary["ambiguous"], summary["detailed"]) == (0, 1)


def test_a_finer_bar_that_has_both_is_decided_by_its_own_path():
    script = {1: buy(), 2: sell(exectype=LIMIT, price=105)}
    rows = [CALM, (100, 106, 80, 100), CALM, (100, 100, 99, 99)]
    adverse, favourable = (play(script, BOTH_WAYS, detail=[quarters(rows)], intrabar=way) for way in ("adverse", "favourable"))
    assert [row.certainty for row in adverse.broker.record.liquidations] == ["possible"]
    assert fills(favourable) == [(-1, 105)]
    assert Result.of(adverse).summary["ambiguous"] == 1


@pytest.mark.parametrize("top_up", [None, TopUp(amount=20, deposit=True)])
def test_what_the_fund_pays_for_a_jump_between_finer_bars_was_no_equity(top_up):
    """10 of equity behind a long of 1 at 100 are -2 at 88."""
    jump = [(100, 106, 100, 100), (100, 100, 99, 99), (88, 88, 80, 85), (85, 99, 85, 99)]
    strategy = play({1: buy()}, BOTH_WAYS, detail=[quarters(jump)], margin_mode="cross", cash=10, top_up=top_up)
    assert min(strategy.broker.record.column("lowest_equity")) == 0
    assert Result.of(strategy).summary["max_drawdown"] == pytest.approx(1)


def test_a_jump_between_finer_bars_is_met_as_any_open_is():
    jump = [(100, 106, 100, 100), (100, 100, 99, 99), (88, 88, 80, 85), (85, 99, 85, 99)]  # 99 to 88
    alone = play({1: buy()}, BOTH_WAYS, detail=[quarters(jump)])
    assert deaths(alone) == [("AAA", 88)]  # not at 90.909, where no price was
    assert alone.broker.record.liquidations[0].price == 90
    behind_both = play({1: buy(), 2: sell(exectype=STOP, price=95)}, BOTH_WAYS, detail=[quarters(jump)])
    assert deaths(behind_both) == [("AAA", 88)]
    mild = [(100, 106, 100, 100), (100, 100, 99, 99), (93, 93, 80, 85), (85, 99, 85, 99)]  # 99 to 93
    saved = play({1: buy(), 2: sell(exectype=STOP, price=95)}, BOTH_WAYS, detail=[quarters(mild)])
    assert fills(saved) == [(-1, 93)]
    limit = play({1: buy(), 2: buy(exectype=LIMIT, price=95)}, BOTH_WAYS, detail=[quarters(mild)])
    assert fills(limit)[0] == (1, 93)
    slipped = play({1: buy(), 2: sell(exectype=STOP, price=95)}, BOTH_WAYS, detail=[quarters(mild)], slip_fixed=0.5, slip_open=True)
    assert fills(slipped) == [(-1, 92.5)]


@pytest.mark.parametrize(("limit", "filled"), [(92, 93), (95, 95)])
def test_a_stop_limit_that_was_jumped_over_is_a_limit_from_the_open_on(limit, filled):
    rows = [(100, 106, 100, 100), (100, 100, 99, 99), (93, 96, 92, 96), (96, 99, 80, 99)]  # 99 to 93
    order = sell(exectype=bt.Order.StopLimit, price=94, plimit=limit)
    assert fills(play({1: buy(), 2: order}, BOTH_WAYS, detail=[quarters(rows)])) == [(-1, filled)]


@pytest.mark.parametrize(
    ("limit", "filled", "rate"), [(92, 93, 0.001), (93, 93, 0.001), (93.5, 93.5, 0.0002), (94, 94, 0.0002), (95, 95, 0.0002)]
)
def test_a_stop_limit_that_was_jumped_over_makes_where_it_then_rests_and_else_takes(limit, filled, rate):
    """Triggered at 94 it would take up to a limit of 94; at 93, where prices came to, one above 93 rests."""
    rows = [(100, 106, 100, 100), (100, 100, 99, 99), (93, 96, 92, 96), (96, 99, 80, 99)]  # 99 to 93
    order = sell(exectype=bt.Order.StopLimit, price=94, plimit=limit)
    terms = {"commission": 0.001, "maker": 0.0002}
    row = play({1: buy(), 2: order}, BOTH_WAYS, detail=[quarters(rows)], terms=terms).broker.record.fills[1]
    assert (row.price, row.maker, row.fee) == (filled, rate == 0.0002, pytest.approx(filled * rate))


def test_funding_at_the_start_of_a_finer_bar_comes_before_what_that_bar_does():
    bars = frame([CALM, CALM, (100, 101, 80, 99)], start="2024-01-01 06:30")  # the last opens at 08:30 and holds 09:00
    rows = [CALM, CALM, (92, 92, 80, 85), (85, 99, 85, 99)]
    finer = quarters(rows, start="2024-01-01 08:30")
    # at 09:00 the mark has jumped to 92: 10 - 8 - 2 of funding (0.02 x 99.5, the line from open to close) is below 0.92
    strategy = play({1: buy()}, bars, detail=[finer], funding=rate_column(d0109=0.02))
    (row,) = strategy.broker.record.liquidations
    assert (row.mark_price, strategy.broker.record.funding[0].mark_price) == (92, 99.5)


@pytest.mark.parametrize(("grace", "paid"), [(359, []), (360, [-0.0979]), (361, [-0.0979])])
def test_what_opens_at_the_open_of_a_finer_bar_pays_a_stamp_within_the_grace_to_its_last_second(grace, paid):
    """Ten finer bars of 6 minutes: the stamp is at 42, prices jump to 97 at 48; 0.1 % of the mark on its line, 97.9."""
    still, after = (100, 100, 100, 100), (97, 97, 97, 97)
    finer = frame([still] * 8 + [after, (97, 97, 87, 97)], start="2024-01-01 03:00", freq="6min")
    rates = pd.Series({pd.Timestamp("2024-01-01 03:42", tz="UTC"): 0.001})
    schedule = replace(PerpData(dataname=finer, funding=rates).perp.funding, grace_seconds=grace)
    bars = frame([CALM, CALM, (100, 100, 87, 97)])
    strategy = play({2: buy(exectype=LIMIT, price=98)}, bars, detail=[finer], funding=schedule)
    assert strategy.broker.record.fills[0].price == 97
    assert [row.amount for row in strategy.broker.record.funding] == pytest.approx(paid)


def test_the_mark_of_the_finer_bars_decides_and_their_last_fills():
    calm, wick = [(100, 100, 99, 100)] * 4, (100, 106, 80, 99)
    coarse = frame([CALM, CALM, wick], marks=[(100, 100, 99, 100), (100, 100, 99, 100), (100, 104, 85, 99)])
    deep = [(100, 104, 100, 100), (100, 100, 99, 99), (99, 99, 85, 95), (95, 99, 95, 99)]
    died = play({1: buy(), 2: sell(exectype=LIMIT, price=105)}, coarse, detail=[quarters(DOWN_THEN_UP, marks=deep)])
    assert fills(died) == [(-1, pytest.approx(LIMIT_PRICE))]  # the mark fails in the third quarter, last is at 105 in the fourth
    up_first = play({1: buy(), 2: sell(exectype=LIMIT, price=105)}, coarse, detail=[quarters(UP_THEN_DOWN, marks=deep)])
    assert fills(up_first) == [(-1, 105)]
    assert calm[0][3] == 100


def test_without_marks_of_its_own_detail_follows_last_within_the_bars_mark():
    """The mark has been at 85; that was where last was lowest, in the first quarter, and it never was at 80."""
    marks = [(100, 100, 99, 100), (100, 100, 99, 100), (100, 104, 85, 99)]
    strategy = play({1: buy()}, frame([CALM, CALM, (100, 106, 80, 99)], marks=marks), detail=[quarters(DOWN_THEN_UP)])
    assert deaths(strategy) == [("AAA", pytest.approx(LIMIT_PRICE))]
    spared = [(100, 100, 99, 100), (100, 100, 99, 100), (100, 104, 91, 99)]
    strategy = play({1: buy()}, frame([CALM, CALM, (100, 106, 80, 99)], marks=spared), detail=[quarters(DOWN_THEN_UP)])
    assert deaths(strategy) == []
    above = [(100, 100, 99, 100), (100, 100, 99, 100), (100, 104, 90, 99)]  # last stays at 92, the mark has been at 90
    rows = [(100, 100, 92, 92), (92, 98, 92, 98), (98, 104, 98, 104), (104, 106, 99, 99)]
    strategy = play({1: buy()}, frame([CALM, CALM, (100, 106, 92, 99)], marks=above), detail=[quarters(rows)])
    assert deaths(strategy) == [("AAA", pytest.approx(LIMIT_PRICE))]
    assert "detail without marks, fine mark is fine last clipped to the bar's mark: AAA" in Result.of(strategy).summary["flags"]


SWINGS_APART = ([(100, 106, 94, 100), CALM, CALM, (100, 101, 99, 100)], [CALM, CALM, CALM, (100, 106, 94, 100)])


def test_finer_bars_of_both_contracts_tell_that_the_extremes_did_not_meet():
    both = [frame([CALM, CALM, SWING])] * 2
    terms = {"margin_mode": "cross", "cash": 100, "intrabar": "worst", "terms": {"leverage": 50}}
    apart = play(HEDGED, *both, detail=[quarters(rows) for rows in SWINGS_APART], **terms)
    met = play(HEDGED, *both, detail=[quarters(SWINGS_APART[0])] * 2, **terms)
    assert deaths(apart) == []
    assert [symbol for symbol, _ in deaths(met)] == ["AAA", "BBB"]
    assert Result.of(apart).summary["only_worst"] == 0


def test_what_fails_together_where_detail_jumps_is_certain_for_the_marks_of_that_instant_are_known():
    """300 behind 10 of each from 100 are lost at 85; in that quarter both come back to 100, where the other would save either."""
    both = {1: lambda s: (s.buy(s.datas[0], size=10), s.buy(s.datas[1], size=10))}
    jump = [CALM, CALM, (85, 100, 85, 100), CALM]
    fallen = play(both, *[frame([CALM, CALM, (100, 101, 85, 100)])] * 2, detail=[quarters(jump)] * 2, margin_mode="cross", cash=300)
    assert deaths(fallen) == [("AAA", 85), ("BBB", 85)]
    assert labels(fallen) == ["certain", "certain"]


def test_a_contract_without_detail_stands_on_its_path_beside_one_with():
    both = [frame([CALM, CALM, SWING])] * 2
    terms = {"margin_mode": "cross", "cash": 100, "intrabar": "worst", "terms": {"leverage": 50}}
    # high first BBB is at 106 after 20 minutes, low first after 40; at either end of the bar it is near 100
    for number, dies in ((0, False), (4, True), (8, True), (11, False)):
        rows = [CALM] * 12
        rows[number] = (100, 106, 94, 100)
        finer = frame(rows, start="2024-01-01 03:00", freq="5min")
        assert bool(deaths(play(HEDGED, *both, detail=[finer, None], **terms))) == dies, number


def test_detail_of_different_lengths_is_cut_to_one():
    both = [frame([CALM, CALM, SWING])] * 2
    halves = frame([(100, 106, 94, 100), CALM], start="2024-01-01 03:00", freq="30min")
    thirds = frame([CALM, CALM, (100, 106, 94, 100)], start="2024-01-01 03:00", freq="20min")
    strategy = play(HEDGED, *both, detail=[halves, thirds], margin_mode="cross", cash=100, intrabar="worst", terms={"leverage": 50})
    assert [symbol for symbol, _ in deaths(strategy)] == ["AAA", "BBB"]  # cut to the hour, which is all they have in common


def test_a_cooldown_lasts_inside_a_bar_whose_finer_bars_are_shorter():
    """Hyperliquid sells a fifth and, for 30 seconds after, everything: on finer bars of 10 seconds as on bars of 10 seconds."""
    rows = [(100, 100, 100, 100)] * 12 + [(100, 100, 95.6, 95.6), (95.6, 95.6, 95, 95), (95, 95, 94.5, 94.5), (94.5, 99, 94.5, 99)]
    tens = frame([*rows, (99, 99, 99, 99), (99, 99, 99, 99)], freq="10s")
    minutes = tens.resample("1min").agg({"open": "first", "high": "max", "low": "min", "close": "last"})
    terms = {"cash": 16_000, "margin_mode": "cross", "terms": {"leverage": 20, "profile": "hyperliquid"}}
    by_tens = play({6: buy(size=3_000)}, tens, **terms)
    detailed = play({1: buy(size=3_000)}, minutes, detail=[tens], **terms)
    # 16 000 + 3 000 (p - 100) = 30 p at 284 000 / 2 970; the rest fails a quarter of a minute later
    assert deaths(by_tens)[0] == ("AAA", pytest.approx(284_000 / 2_970))
    assert [row.size for row in by_tens.broker.record.liquidations] == [600, 2_400]
    assert deaths(detailed) == [(symbol, pytest.approx(mark, rel=1e-12)) for symbol, mark in deaths(by_tens)]
    assert len(deaths(play({1: buy(size=3_000)}, minutes, **terms))) > 2, "a bar of a minute is longer than the cooldown (R20)"


# -- reading detail ----------------------------------------------------------------------------------------------------


class Shelf:
    """A source of detail that remembers what it was asked for."""

    def __init__(self, finer):
        self.finer, self.asked = finer, []

    def __call__(self, start, end):
        self.asked.append((start, end))
        return self.finer[(self.finer.index >= start) & (self.finer.index < end)]


def test_detail_is_read_on_the_bars_that_need_it_and_on_no_other():
    shelf = Shelf(quarters(DOWN_THEN_UP))
    strategy = play({1: buy()}, frame([CALM, CALM, (100, 106, 80, 99), CALM]), detail=[shelf])
    assert shelf.asked == [(pd.Timestamp("2024-01-01 03:00", tz="UTC"), pd.Timestamp("2024-01-01 04:00", tz="UTC"))]
    assert len(deaths(strategy)) == 1
    idle = Shelf(quarters(DOWN_THEN_UP))
    play({1: buy()}, frame([CALM] * 5), detail=[idle])
    assert idle.asked == []


def test_a_file_of_detail_is_not_opened_before_it_is_needed(tmp_path):
    broken = tmp_path / "finer.csv"
    broken.write_text("no candles at all")
    play({1: buy()}, frame([CALM] * 5), detail=[broken])
    with pytest.raises(ValueError, match="AAA: detail frame has no rows"):
        play({1: buy()}, BOTH_WAYS, detail=[broken])
    quarters(DOWN_THEN_UP).to_csv(broken, index_label="datetime")
    assert len(deaths(play({1: buy()}, BOTH_WAYS, detail=[str(broken)]))) == 1


@pytest.mark.parametrize(
    "finer", [quarters(DOWN_THEN_UP, start="2024-01-01 09:00"), quarters(DOWN_THEN_UP).drop(quarters(DOWN_THEN_UP).index[1])]
)
def test_where_detail_is_missing_the_bar_takes_its_path_and_the_result_says_so(finer):
    result = Result.of(play({1: buy()}, BOTH_WAYS, detail=[finer]))
    assert (result.summary["liquidations"], result.summary["detailed"]) == (1, 0)
    assert "detail missing, the path of the bar was walked: AAA 1 of 1 bars" in result.summary["flags"]


def test_a_function_may_know_nothing_of_a_bar():
    assert Result.of(play({1: buy()}, BOTH_WAYS, detail=[lambda *_: None])).summary["detailed"] == 0


def test_detail_may_be_arrays_or_a_function_of_them():
    finer = quarters(DOWN_THEN_UP)
    columns = {"time": finer.index.as_unit("s").asi8, **{name: finer[name].to_numpy() for name in ("open", "high", "low", "close")}}
    died = deaths(play({1: buy()}, BOTH_WAYS, detail=[finer]))
    assert len(died) == 1
    for source in (columns, lambda *_: columns):
        strategy = play({1: buy()}, BOTH_WAYS, detail=[source])
        assert deaths(strategy) == died
        assert Result.of(strategy).summary["detailed"] == 1
    nothing = {name: column[:0] for name, column in columns.items()}
    assert Result.of(play({1: buy()}, BOTH_WAYS, detail=[lambda *_: nothing])).summary["detailed"] == 0


def changed(name, number, value):
    finer = quarters(DOWN_THEN_UP)
    finer.iloc[number, finer.columns.get_loc(name)] = value
    return finer


BROKEN = {
    "high": (changed("high", 3, 105.5), "AAA: the detail of the bar opened 2024-01-01 03:00:00 UTC has high 105.5 where the bar has 106"),
    "low": (changed("low", 0, 79), "has low 79 where the bar has 80"),
    "open": (changed("open", 0, 99.9), "has open 99.9 where the bar has 100"),
    "close": (changed("close", 3, 99.5), "has close 99.5 where the bar has 99"),
    "blank": (changed("close", 1, float("nan")), "detail row 1 .* close must be a finite number"),
    "unsorted": (quarters(DOWN_THEN_UP).iloc[[1, 0, 2, 3]], "sort the rows by time"),
    "shifted": (frame(DOWN_THEN_UP, start="2024-01-01 03:05", freq="15min"), "must start where the bar does"),
    "another length": (
        frame(DOWN_THEN_UP, start="2024-01-01 03:00", freq="25min"),
        "bars of 25 min, of which one of 1 h is no whole number",
    ),
    "coarser": (frame([DIVE, DIVE], start="2024-01-01 03:00", freq="2h"), "bars of 2 h, of which one of 1 h is no whole number"),
    "marks": (quarters(DOWN_THEN_UP, marks=DOWN_THEN_UP), "the detail has mark prices and the candles have none"),
    "a number": (3, "AAA: detail is a DataFrame, the path"),
    "a function of numbers": (lambda *_: 3, "AAA: detail source must be a pandas DataFrame, .* was int"),
    "one row": (quarters(DOWN_THEN_UP).iloc[:1], "AAA: detail row 0 .* the length of a finer bar is the time between two; give more rows$"),
    "twice": (quarters(DOWN_THEN_UP).iloc[[0, 1, 1, 2, 3]], "detail row 2 .* has the stamp of the row before it"),
    "half of the marks": (quarters(DOWN_THEN_UP).assign(mark_open=100.0), "detail frame lacks mark_high, mark_low, mark_close"),
    "no file": ("nowhere.csv", "AAA: detail file 'nowhere.csv' does not exist"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_detail_that_is_not_of_its_bar_is_refused_in_a_sentence(name):
    finer, told = BROKEN[name]
    with pytest.raises(ValueError, match=told):
        play({1: buy()}, BOTH_WAYS, detail=[finer])


def test_a_price_that_was_rounded_on_its_way_is_not_refused():
    strategy = play({1: buy()}, BOTH_WAYS, detail=[changed("high", 3, 106 * (1 + 9e-7))])
    assert len(deaths(strategy)) == 1


def test_a_target_at_the_high_of_a_bar_is_met_also_where_its_detail_was_rounded_down():
    rounded = quarters([(100, 106 * (1 - 9e-7), 100, 104), *UP_THEN_DOWN[1:]])
    strategy = play({1: buy(), 2: sell(exectype=LIMIT, price=106)}, BOTH_WAYS, detail=[rounded])
    assert fills(strategy) == [(-1, 106)]


def test_detail_of_local_time_with_its_zone_and_of_closes_is_the_same():
    local = quarters(DOWN_THEN_UP).tz_convert("Asia/Shanghai")
    assert len(deaths(play({1: buy()}, BOTH_WAYS, detail=[local]))) == 1
    closes = quarters(DOWN_THEN_UP, start="2024-01-01 03:15")
    feed = PerpData(dataname=BOTH_WAYS, name="AAA", stamp="close", detail=closes)
    assert feed.perp.detail.is_at_close


def test_detail_stamped_in_the_last_millisecond_of_its_bars_opens_where_they_do():
    opens = quarters(DOWN_THEN_UP)
    closes = opens.set_axis(opens.index + pd.Timedelta("899.999s"))
    feed = PerpData(dataname=BOTH_WAYS, name="AAA", stamp="close", detail=closes)
    assert feed.perp.detail._whole.opened == [time.value // 1_000 for time in opens.index.as_unit("ns")]


def test_detail_that_would_never_be_read_is_refused():
    with pytest.raises(ValueError, match="AAA: intrabar='close' looks inside no bar"):
        play({}, BOTH_WAYS, detail=[quarters(UP_THEN_DOWN)], intrabar="close")


# -- real prices -------------------------------------------------------------------------------------------------------


class Everyday(bt.Strategy):
    """Buys or sells 1 at the first open after each midnight and closes at the open 20 hours later, with a target on the way."""

    target = None

    def next(self):
        hour = self.data.datetime.datetime(0)  # delivered at its close, when the next bar opens
        if (hour.hour, hour.minute) == (0, 0):
            side, sign = (self.buy, 1) if hour.day % 2 else (self.sell, -1)
            side(size=1)
            self.target = (self.sell if sign > 0 else self.buy)(size=1, exectype=LIMIT, price=self.data.close[0] * (1 + sign * 0.005))
        elif (hour.hour, hour.minute) == (20, 0) and self.target is not None:
            self.cancel(self.target)
            self.close()


class OneByOne(Everyday):
    """Sends the target an hour after the entry, so that no bar could fill two orders."""

    def next(self):
        hour = self.data.datetime.datetime(0)
        if (hour.hour, hour.minute) == (1, 0) and self.position:
            sign = 1 if self.position.size > 0 else -1
            send = self.sell if sign > 0 else self.buy
            self.target = send(size=1, exectype=LIMIT, price=self.data.close[0] * (1 + sign * 0.005))
        elif (hour.hour, hour.minute) == (0, 0):
            (self.buy if hour.day % 2 else self.sell)(size=1)
        elif (hour.hour, hour.minute) == (20, 0):
            self.cancel(self.target)
            self.close()


def month(reference) -> pd.DataFrame:
    """Return one-minute candles of BTCUSDT on Binance in May 2025."""
    path = reference / "data" / "series" / "binance-BTCUSDT-1m-futures-2025-05_06.parquet"
    candles = pd.read_parquet(path)
    candles = candles if isinstance(candles.index, pd.DatetimeIndex) else candles.set_index("datetime")
    candles.index = pd.to_datetime(candles.index, utc=True)
    return candles.loc["2025-05-01":"2025-05-31", ["open", "high", "low", "close", "volume"]]


def traded(candles, detail=None, *, leverage=100, strategy=Everyday):
    """Return what was filled, liquidations told apart, and the finished broker; isolated at 100x, so that most days are close."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000_000, margin_mode="isolated", check=True)
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=leverage, tiers=0.004, liquidation_fee=0.0))
    cerebro.adddata(PerpData(dataname=candles, name="BTCUSDT", detail=detail))
    cerebro.addstrategy(strategy)
    broker = cerebro.run()[0].broker
    hours = [(row.time - 1e-6) // 3600 for row in broker.record.fills]
    return [(hour, row.size, row.liquidation, row.price) for hour, row in zip(hours, broker.record.fills, strict=True)], broker


def in_hours(minutes) -> pd.DataFrame:
    return minutes.resample("1h").agg({"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"})


def test_hours_with_minutes_inside_end_every_position_as_the_minutes_themselves_do(reference):
    minutes = month(reference)
    by_minute, _ = traded(minutes)
    by_hour, broker = traded(in_hours(minutes), detail=minutes)
    alone, _ = traded(in_hours(minutes))
    assert sum(is_liquidation for _, _, is_liquidation, _ in by_minute) >= 8
    assert by_hour == as_near(by_minute)
    assert (broker.record.undetailed, broker.record.ambiguous_bars) == ({}, 0)
    assert broker.record.walked_bars < len(minutes) / 60 / 10
    assert [row[:3] for row in alone] != [row[:3] for row in by_minute], "without detail some hours are read wrongly"


def as_near(rows) -> list[tuple]:
    return [(*row[:-1], pytest.approx(row[-1], rel=1e-12)) for row in rows]


def jumpy(seed: int, days: int = 8) -> pd.DataFrame:
    """Return minutes that swing a little inside and jump now and then between each other."""
    draw = np.random.default_rng(seed)
    rows = days * 1_440
    steps = np.where(draw.random(rows) < 0.02, draw.normal(0, 0.006, rows), 0.0)
    moves = draw.normal(0, 0.0005, rows)
    close = 100 * np.exp(np.cumsum(steps + moves))
    opened = close / np.exp(moves)
    high = np.maximum(opened, close) * np.exp(np.abs(draw.normal(0, 0.0004, rows)))
    low = np.minimum(opened, close) * np.exp(-np.abs(draw.normal(0, 0.0004, rows)))
    index = pd.date_range("2024-01-01", periods=rows, freq="min", tz="UTC")
    return pd.DataFrame({"open": opened, "high": high, "low": low, "close": close, "volume": 1.0}, index=index)


@pytest.mark.parametrize("seed", range(3))
def test_hours_with_minutes_that_jump_end_every_position_as_the_minutes_do(seed):
    """A target on an hour without danger is filled as stock Backtrader fills it, at its price, where a minute jumped past it."""
    minutes = jumpy(seed)
    by_minute, _ = traded(minutes)
    by_hour, _ = traded(in_hours(minutes), detail=minutes)
    assert [row[:3] for row in by_hour] == [row[:3] for row in by_minute]
    deaths_of = [[row for row in rows if row[2]] for rows in (by_hour, by_minute)]
    assert len(deaths_of[0]) >= 2
    assert deaths_of[0] == as_near(deaths_of[1])


def test_detail_changes_nothing_where_no_bar_could_liquidate():
    """The screen lets every bar pass, so the runs are those of stock Backtrader, and detail is not asked."""
    shelf = Shelf(jumpy(1))
    calm, _ = traded(in_hours(jumpy(1)), leverage=1, strategy=OneByOne)
    beside, broker = traded(in_hours(jumpy(1)), detail=shelf, leverage=1, strategy=OneByOne)
    assert beside == calm
    assert (shelf.asked, broker.record.walked_bars) == ([], 0)


@pytest.mark.parametrize(("first", "price"), [("stop", 96), ("target", 104)])
def test_detail_says_which_of_two_exits_came_first_where_nothing_could_liquidate(first, price):
    """At 1x nothing is near: stock Backtrader fills the order that was sent first, the stop; the quarters show what came first."""

    def exits(strategy):
        stop = strategy.sell(size=1, exectype=bt.Order.Stop, price=96)
        strategy.sell(size=1, exectype=LIMIT, price=104, oco=stop)

    low, high, calm = (100, 100, 95, 100), (100, 105, 100, 100), (100, 100, 100, 100)
    inside = [low, high, calm, calm] if first == "stop" else [high, low, calm, calm]
    bars = frame([CALM, CALM, (100, 105, 95, 100), CALM])
    terms = {"terms": {"leverage": 1}, "cash": 1_000}
    detailed = play({1: buy(size=1), 2: exits}, bars, detail=[quarters(inside)], **terms)
    alone = play({1: buy(size=1), 2: exits}, bars, **terms)
    assert [fill.price for fill in detailed.broker.record.fills] == [100, price]
    assert [fill.price for fill in alone.broker.record.fills] == [100, 96]
