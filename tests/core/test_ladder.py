"""Ladders against the numbers of their definitions, and what they make of an account, redone by hand.

Where nothing else is said the account has no fees, a flat 1 % of maintenance margin and no other position.
"""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_margin import PerpCommInfo
from bt_margin.calculator import evaluate
from bt_margin.scalers import (
    Funnel,
    GridMartingale,
    Ladder,
    MarginTopUp,
    Pyramid,
    Rectangle,
    Rung,
    Rungs,
    SafetyOrders,
    Scaler,
    StopRule,
    Turtle,
    TwoThreeFive,
    ladder_table,
)

TWO = Rectangle(n=2, share=0.5, step=0.1)


def table(scaler=TWO, *, side="long", size=10.0, wallet=400.0, leverage=5.0, margin_mode="cross", **terms):
    """Return a ladder from 100 on, by terms of its own."""
    given = {"tiers": 0.01, "venue": None, "symbol": "AUSDT", "entry_price": 100.0, **terms}
    if "comminfo" in terms:
        del given["tiers"]
    else:
        given["leverage"] = leverage
    return ladder_table(scaler, side=side, size=size, wallet=wallet, margin_mode=margin_mode, **given)


def figures(told, name) -> list:
    return [getattr(row, name) for row in told.rows]


# -- definitions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scaler", "prices", "shares"),
    [
        (Rectangle(), [100, 98, 96, 94, 92], [0.2] * 5),
        (Rectangle(n=3, step=1, atr_period=20), [100, 98, 96], [0.2] * 3),
        (Funnel(), [100, 97, 92], [0.15, 0.25, 0.40]),
        (Funnel(shares=(1, 2, 4), step=0.02), [100, 98, 96], [1, 2, 4]),
        (Pyramid(), [100, 102, 104], [0.30, 0.20, 0.10]),
        (Pyramid(shares=(0.5, 0.3, 0.2), step=0.01, atr_period=None, stop=None), [100, 101, 102], [0.5, 0.3, 0.2]),
        (TwoThreeFive(), [100, 102, 104], [0.2, 0.3, 0.5]),
        (Turtle(), [100, 101, 102, 103], [1, 1, 1, 1]),
        (Turtle(total=1), [100, 101, 102, 103], [0.25] * 4),
        # 3Commas: d = 1 %, 1 + 2 = 3 %, 1 + 2 + 4 = 7 %; v = 0.5, 0.5 x 2, 0.5 x 4
        (SafetyOrders(1, 0.5, 0.01, 2, 2, 3), [100, 99, 97, 93], [1, 0.5, 1, 2]),
        # d = 1 % x i; v = 1.05 to the power of i - 1
        (SafetyOrders(), [100, 99, 98, 97, 96, 95], [1, 1, 1.05, 1.1025, 1.157625, 1.21550625]),
        (GridMartingale(), [100, 98, 96, 94], [1, 2, 4, 8]),
        (GridMartingale(total=1), [100, 98, 96, 94], [1 / 15, 2 / 15, 4 / 15, 8 / 15]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Scaler) else "",
)
def test_rungs_are_those_of_the_definition(scaler, prices, shares):
    ladder = scaler.ladder()
    assert ladder.prices(1, 100, 2.0) == pytest.approx(prices)
    assert ladder.prices(-1, 100, 2.0) == pytest.approx([200 - price for price in prices])
    assert [rung.share for rung in ladder.rungs] == pytest.approx(shares)


def test_all_turtle_stops_stand_two_n_under_the_last_fill():
    told = table(Turtle(), size=1, wallet=1_000, atr=2.0)
    assert figures(told, "stop_price") == [96, 97, 98, 99]
    assert Turtle().ladder().stop == StopRule(2.0, "fills")
    assert Turtle().ladder().follows_fills


def test_a_pyramids_stop_trails_two_average_true_ranges():
    assert Pyramid().ladder().stop == StopRule(2.0, "best")
    assert figures(table(Pyramid(), side="short", atr=2.0), "stop_price") == [104, 102, 100]


# -- the account after each rung -------------------------------------------------------------------------------------


def test_in_cross_the_whole_wallet_stands_behind_each_rung():
    told = table()
    assert figures(told, "size") == [5, 5]
    assert figures(told, "total_size") == [5, 10]
    assert figures(told, "entry_price") == [100, 95]
    # 400 + 5 (P - 100) = 0.01 x 5 P; 400 + 10 (P - 95) = 0.01 x 10 P
    assert figures(told, "liquidation_price") == pytest.approx([100 / 4.95, 550 / 9.9])
    assert figures(told, "initial_margin") == pytest.approx([5 * 100 / 5, 10 * 90 / 5])
    assert figures(told, "maintenance_margin") == pytest.approx([5, 9])
    # 400 - 100; 400 - 10 x 5 - 180
    assert figures(told, "available_margin") == pytest.approx([300, 170])
    assert figures(told, "next_distance") == [pytest.approx(-0.1), None]
    assert figures(told, "distance") == [0, pytest.approx(-0.1)]


def test_in_isolated_each_rung_brings_its_own_margin():
    told = table(margin_mode="isolated")
    assert figures(told, "initial_margin") == pytest.approx([100, 100 + 90])
    # 100 + 5 (P - 100) = 0.05 P; 190 + 10 (P - 95) = 0.1 P
    assert figures(told, "liquidation_price") == pytest.approx([400 / 4.95, 760 / 9.9])


def test_a_short_is_liquidated_above():
    told = table(side="short", wallet=500)
    # 500 - 5 (P - 100) = 0.05 P; 500 - 10 (P - 105) = 0.1 P
    assert figures(told, "liquidation_price") == pytest.approx([1_000 / 5.05, 1_550 / 10.1])
    assert figures(told, "price") == [100, pytest.approx(110)]


def test_the_entry_pays_the_taker_fee_and_rungs_against_the_trade_the_maker_fee():
    told = table(comminfo=PerpCommInfo(leverage=5, tiers=0.01, commission=0.001, maker=0.0))
    # 400 - 0.5 + 10 (P - 95) = 0.1 P
    assert told.rows[1].liquidation_price == pytest.approx(550.5 / 9.9)
    with_trend = table(
        Pyramid(shares=(0.5, 0.5), step=0.1, atr_period=None, stop=None),
        comminfo=PerpCommInfo(leverage=5, tiers=0.01, commission=0.001, maker=0.0),
    )
    # 400 - 0.5 - 0.55 + 10 (P - 105) = 0.1 P
    assert with_trend.rows[1].liquidation_price == pytest.approx(651.05 / 9.9)


def test_tiers_are_those_of_the_venue_as_the_ladder_grows_into_them():
    told = ladder_table(Rectangle(n=3, share=20, step=0.02), side="long", entry_price=60_000, size=1, wallet=1e6, leverage=10)
    row = told.rows[2]
    fees = 20 * 60_000 * 0.0005 + 20 * (58_800 + 57_600) * 0.0002
    position = {"symbol": "BTCUSDT", "size": 60, "entry_price": 58_800, "mark_price": 57_600, "leverage": 10}
    sheet = evaluate({"venue": "binance", "wallet_balance": 1e6 - fees, "positions": [position]})
    assert row.liquidation_price == pytest.approx(sheet["positions"][0]["liquidation_price"], rel=1e-12)
    assert row.maintenance_margin == pytest.approx(sheet["positions"][0]["maintenance_margin"], rel=1e-12)
    assert sheet["positions"][0]["tier"]["number"] > 1


def test_an_inverse_contract_counts_coins_and_averages_harmonically():
    # 10 contracts of 100 USD; 5 at 60 000 and 5 at 54 000; 1 % maintenance on 1 000 / P coins
    comminfo = PerpCommInfo(kind="inverse", mult=100, leverage=5, tiers=0.01, currency="BTC")
    told = table(entry_price=60_000, wallet=0.01, comminfo=comminfo, symbol="BTCUSD")
    average = 1_000 / (500 / 60_000 + 500 / 54_000)
    assert told.rows[1].entry_price == pytest.approx(average)
    # 0.01 + 1 000 / average - 1 000 / P = 10 / P
    assert told.rows[1].liquidation_price == pytest.approx(1_010 / (0.01 + 1_000 / average))


# -- what is refused -------------------------------------------------------------------------------------------------


def test_a_rung_that_would_put_liquidation_inside_the_next_is_refused_with_those_behind_it():
    # cross 150: after two rungs 150 + 4 (P - 95) = 0.04 P, P = 230 / 3.96 = 58.1; after three 150 + 6 (P - 90) = 0.06 P, 65.7;
    # after four 150 + 8 (P - 85) = 0.08 P, 66.9, and the fifth lies at 60
    told = table(Rectangle(n=5, share=0.2, step=0.1, refuse="beyond"), wallet=150, leverage=25)
    assert [row.refused for row in told.rows[:3]] == ["", "", ""]
    assert told.rows[3].refused == "liquidation at 66.919192 would come before rung 5 at 60"
    assert told.rows[3].liquidation_price == pytest.approx(530 / 7.92)
    assert told.rows[4].refused == "behind rung 4, which is refused"
    assert told.rows[4].liquidation_price is None
    assert len(told.placed) == 3


def test_a_ladder_that_goes_with_the_price_is_held_against_its_stop():
    # isolated 25x: the entry of 10 at 100 is liquidated at (1 000 - 40) / 9.9 = 96.97, before its stop at 95
    scaler = Pyramid(shares=(1, 1), step=0.05, stop=0.05, atr_period=None, refuse="beyond")
    told = table(scaler, leverage=25, margin_mode="isolated", wallet=1_000)
    assert told.rows[0].refused == ""
    assert told.rows[1].refused == "behind rung 1, whose liquidation at 96.969697 would come before the stop at 95"


def test_a_rung_without_margin_ends_the_ladder():
    # 5x: the entry takes 100 of 150, rung 2 would need 90
    told = table(wallet=150)
    assert told.rows[1].refused.startswith("AUSDT: opening 5 at 90 with 5x needs 90, available is 50")


def test_rungs_that_rest_at_once_are_all_set_aside_for():
    # 400 - 100 for the entry - 90 for the rung at 90; with both resting 80 more for the one at 80; one at a time the same
    three = Rectangle(n=3, share=0.5, step=0.1)
    assert [bool(row.refused) for row in table(three, wallet=265).rows] == [False, False, True]
    rise = Pyramid(shares=(0.5, 0.5, 0.5), step=0.1, atr_period=None, stop=None)
    # with the trend the profit of the first pays for the third only where that is sent after it: 100 + 110 + 120 = 330
    assert [bool(row.refused) for row in table(rise, wallet=320).rows] == [False, False, True]
    one = Pyramid(shares=(0.5, 0.5, 0.5), step=0.1, atr_period=None, stop=None, active=1)
    assert [bool(row.refused) for row in table(one, wallet=320).rows] == [False, False, False]


def test_a_rung_below_the_smallest_order_ends_the_ladder():
    told = table(comminfo=PerpCommInfo(leverage=5, tiers=0.01, min_notional=470))
    assert told.rows[1].refused == "a size of 5 at 90 is below the smallest order"


def test_sizes_are_whole_lots():
    told = table(Funnel(), comminfo=PerpCommInfo(leverage=5, tiers=0.01, lot=1), size=11)
    assert figures(told, "size") == [1, 2, 4]


# -- as a table ------------------------------------------------------------------------------------------------------


def test_a_ladder_is_a_frame_and_a_text():
    told = table()
    assert isinstance(told.frame, pd.DataFrame)
    assert told.frame.loc[2, "liquidation_price"] == pytest.approx(550 / 9.9)
    lines = str(told).splitlines()
    assert lines[0] == "Rectangle, long AUSDT at 5x cross"
    assert lines[3].split() == ["2", "90.0000", "-10.00%", "5", "95.0000", "55.5556", "180.00", "9.00", "170.00", "-", "-"]


def test_a_text_says_what_is_refused():
    assert str(table(wallet=150)).splitlines()[-1].startswith("Rung 2 is not placed: AUSDT: opening 5 at 90")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Ladder(()), "a ladder begins with the entry itself"),
        (lambda: Ladder((Rung(-0.1, 1),)), "a ladder begins with the entry itself"),
        (lambda: Ladder((Rung(0, 0),)), "rung 1: a share is a number above 0"),
        (lambda: Ladder((Rung(0, 1), Rung(float("nan"), 1))), "rung 2: a distance is a finite number"),
        (lambda: Ladder((Rung(0, 1), Rung(-0.1, 1), Rung(0.1, 1))), "all against the trade or all with it"),
        (lambda: Ladder((Rung(0, 1), Rung(-1.5, 1))), "a rung cannot lie 150% below the entry"),
        (lambda: Ladder((Rung(0, 1),), active=0), "active is a whole number from 1 on, or None, was 0"),
        (lambda: Ladder((Rung(0, 1),), refuse="never"), "refuse is 'beyond' or None, was 'never'"),
        (lambda: Ladder((Rung(0, 1), Rung(0.1, 1)), refuse="beyond"), "this ladder has neither"),
        (lambda: StopRule(0), "the distance of a stop is a number above 0, was 0"),
        (lambda: StopRule(1, "last"), "a stop follows 'fills' or 'best', was 'last'"),
        (lambda: Rectangle(n=0).ladder(), "n of a Rectangle is a whole number from 1 on, was 0"),
        (lambda: Funnel(shares=0.5).ladder(), "shares of a Funnel are a row of numbers such as (0.5, 0.3, 0.2), were 0.5"),
        (lambda: Pyramid(shares=()).ladder(), "shares of a Pyramid are a row of numbers"),
        (lambda: SafetyOrders(base_order="x").ladder(), "base_order is a number above 0, was 'x'"),
        (lambda: Funnel(step=(0.1,)).ladder(), "Funnel: 3 rungs have 2 steps between them, were 1"),
        (lambda: Funnel(step=(0.1, -0.1)).ladder(), "Funnel: a step is a number above 0, was -0.1"),
        (lambda: Turtle(total=-1).ladder(), "total is all shares together, a number above 0, or None, was -1"),
        (lambda: GridMartingale(factor=0).ladder(), "factor is a number above 0, was 0"),
        (lambda: SafetyOrders(volume_scale=1e300).ladder(), "too large to count"),
        (lambda: Scaler().ladder(), "Scaler is no scheme of its own"),
        (lambda: table(Turtle()), "give atr, a number of 0 or more, was None"),
        (lambda: table(side="up"), "side is 'long' or 'short', was 'up'"),
        (lambda: table(wallet=0), "wallet is a number above 0, was 0"),
        (lambda: table(date="soon"), "date is a day such as 2024-05-01"),
        (lambda: table(date="soon", comminfo=PerpCommInfo()), "date is a day such as 2024-05-01, was 'soon'"),
        (lambda: table(comminfo=PerpCommInfo(), fee=0.001), "a comminfo says leverage, tiers and fee itself"),
        (lambda: table(leverage=500), "leverage 500 is not possible"),
        (lambda: MarginTopUp(within=2, amount=1), "within is a fraction of the mark between 0 and 1"),
        (lambda: SafetyOrders(step_scale=0.5, max_safety_orders=2_000).ladder(), "all with it, were at 0, -0.01, -0.015, -0.0175, "),
        (lambda: MarginTopUp(within=0.05), "adds an amount, or brings the distance back"),
        (lambda: MarginTopUp(within=0.05, to=0.01), "to is a fraction of the mark above within"),
        (lambda: MarginTopUp(within=0.05, amount=-1), "amount of a MarginTopUp is a number above 0"),
        (lambda: MarginTopUp(within=0.05, amount=1, times=0), "times of a MarginTopUp is a whole number from 1 on"),
    ],
)
def test_a_wrong_number_is_one_sentence(make, sentence):
    with pytest.raises((ValueError, TypeError)) as refused:
        make()
    assert sentence in str(refused.value)
    assert len(str(refused.value)) < 250


@given(
    st.lists(st.sampled_from([0.1, 0.3, 1.0, 2.5]), min_size=1, max_size=6),
    st.sampled_from([0.005, 0.02, 0.1]),
    st.sampled_from(["long", "short"]),
    st.sampled_from(["cross", "isolated"]),
    st.sampled_from([None, "beyond"]),
    st.floats(50, 5_000),
    st.sampled_from([None, 1, 2]),
)
def test_whatever_the_ladder_its_rows_add_up(shares, step, side, margin_mode, refuse, wallet, active):
    rungs = tuple(Rung(-step * number, share) for number, share in enumerate(shares))
    told = table(Rungs(Ladder(rungs, refuse=refuse, active=active)), side=side, wallet=wallet, leverage=20, margin_mode=margin_mode)
    placed = told.placed
    assert [row.number for row in placed] == list(range(1, len(placed) + 1))
    total, worth = 0.0, 0.0
    for row in placed:
        total += row.size
        worth += row.size * row.price
        assert row.total_size == pytest.approx(total)
        assert row.entry_price == pytest.approx(worth / total)
        assert row.maintenance_margin == pytest.approx(0.01 * abs(total) * row.price)
        following = told.rows[row.number].price if row.number < len(told.rows) else None
        if refuse and row.number > 1 and following is not None and row.liquidation_price is not None:
            assert (following - row.liquidation_price) * row.size > 0
