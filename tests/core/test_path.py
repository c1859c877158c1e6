"""One bar at a time: what the two market paths do to an account, at prices that can be redone by hand.

Flat maintenance 1 %, no fees. A long of 1 at 100 with 10x isolated margin holds 10 and dies where
10 + (p - 100) = 0.01 p, at p = 90 / 0.99 = 90.909.
"""

import pytest

from bt_margin import Contract, MarginAccount, TierSchedule, TierTable
from bt_margin.core.path import PathStamp, Track, WorkingOrder, plan_bar, plan_path
from bt_margin.core.profiles import DYDX, FORFEIT, HYPERLIQUID, MARKET, Cooldown

LIMIT_PRICE = 90 / 0.99


def long_account(size: float = 1.0, *, table: TierTable | None = None, mode: str = "isolated", cash: float = 1_000.0) -> MarginAccount:
    account = MarginAccount()
    tiers = TierSchedule.constant(table or TierTable.flat(0.01))
    account.add_contract(Contract("BTC", tiers=tiers), leverage=10, margin_mode=mode)
    account.deposit(cash, time=0)
    if size:
        account.apply_fill("BTC", size=size, price=100, fee_rate=0.0, time=0)
    return account


def bar(open_: float, high: float, low: float, close: float, symbol: str = "BTC") -> Track:
    return Track(symbol, open_, high, low, close, (open_, high, low, close))


def order(
    ref: int, size: float, *, stop: float | None = None, limit: float | None = None, oco: int | None = None, bracket=None
) -> WorkingOrder:
    return WorkingOrder(ref, "BTC", size, 0.0, stop, stop, limit, 0.0, oco if oco is not None else ref, bracket)


def run(account, tracks, orders=(), stamps=(), *, low_first=True, profile=MARKET):
    return plan_path(account, tracks, orders, stamps, profile, low_first=low_first)


def kinds(plan) -> list[str]:
    return [event.kind for event in plan.events]


def test_a_wallet_is_liquidated_exactly_where_equity_meets_maintenance():
    plan = run(long_account(), [bar(100, 101, 88, 95)])
    (event,) = plan.events
    assert event.kind == "liquidation"
    assert event.marks["BTC"] == pytest.approx(LIMIT_PRICE)
    assert plan.liquidated == {"BTC": 1}


def test_a_low_just_above_the_limit_spares_it():
    assert kinds(run(long_account(), [bar(100, 101, 90.91, 95)])) == []


def test_a_stop_nearer_than_the_limit_saves_the_position():
    plan = run(long_account(), [bar(100, 101, 88, 95)], [order(1, -1, stop=92)])
    assert [(event.kind, event.price) for event in plan.events] == [("fill", 92)]
    assert plan.equity == pytest.approx(1_000 - 8)


def test_a_stop_beyond_the_limit_comes_too_late():
    plan = run(long_account(), [bar(100, 101, 88, 95)], [order(1, -1, stop=90)])
    assert kinds(plan) == ["liquidation"]


def test_low_first_dies_where_high_first_takes_its_profit():
    orders = [order(1, -1, limit=104)]
    low = run(long_account(), [bar(100, 105, 88, 95)], orders, low_first=True)
    high = run(long_account(), [bar(100, 105, 88, 95)], orders, low_first=False)
    assert kinds(low) == ["liquidation"]
    assert [(event.kind, event.price) for event in high.events] == [("fill", 104)]


def test_the_account_itself_is_left_alone():
    account = long_account()
    run(account, [bar(100, 101, 88, 95)])
    assert account.positions["BTC"].size == 1
    assert account.wallets["wallet:BTC"] == 10


def test_at_one_price_liquidation_comes_before_a_stop():
    plan = run(long_account(), [bar(100, 101, 88, 95)], [order(1, -1, stop=LIMIT_PRICE)])
    assert kinds(plan)[0] == "liquidation"


def test_an_order_added_on_the_way_down_moves_the_limit():
    # buys 1 more at 95: 10 + 9.5 held against 2 contracts from 97.5: 19.5 + 2(p - 97.5) = 0.02 p at p = 175.5 / 1.98
    plan = run(long_account(), [bar(100, 101, 85, 95)], [order(1, 1, limit=95)])
    assert kinds(plan) == ["fill", "liquidation"]
    assert plan.events[1].marks["BTC"] == pytest.approx(175.5 / 1.98)


def test_a_position_opened_inside_the_bar_can_die_inside_the_bar():
    plan = run(long_account(0), [bar(100, 101, 80, 95)], [order(1, 1, limit=95)])
    assert kinds(plan) == ["fill", "liquidation"]
    assert plan.events[1].marks["BTC"] == pytest.approx(95 * 0.9 / 0.99)


def test_funding_at_its_time_kills_what_the_price_alone_spares():
    # at half of the bar the path low-first stands between low 92 and high 104; 7 of funding leave 3 + (98 - 100) > 0.98 at the mark then
    spared = run(long_account(), [bar(100, 104, 92, 100)])
    paid = run(long_account(), [bar(100, 104, 92, 100)], stamps=[PathStamp(0.1, "BTC", 0.05, 100.0, 0.0)])
    assert kinds(spared) == []
    assert kinds(paid) == ["funding", "liquidation"]
    assert paid.events[0].marks["BTC"] == pytest.approx(100 - 8 * 0.3)  # a tenth of the bar is 0.3 of the first leg
    assert paid.events[1].marks["BTC"] == pytest.approx(95 / 0.99)  # 10 - 5 of margin: 5 + (p - 100) = 0.01 p


def test_the_crossing_is_solved_across_tiers():
    table = TierTable.from_rows([(92, 0.001, 50), (None, 0.05, 10)])
    # above 92 of notional: mm = 0.05 p - 92 x 0.049; the limit is met where 10 + p - 100 = 0.001 p in the lower tier
    plan = run(long_account(table=table), [bar(100, 101, 85, 95)])
    assert plan.events[0].marks["BTC"] == pytest.approx(90 / 0.999)


def test_a_stop_limit_triggers_and_fills_at_once_where_the_market_is_within_its_limit():
    plan = run(long_account(), [bar(100, 101, 91, 95)], [order(1, -1, stop=93, limit=92)])
    assert [(event.kind, event.price) for event in plan.events] == [("trigger", 93), ("fill", 93)]


def test_a_stop_limit_with_a_better_limit_waits_for_it():
    plan = run(long_account(), [bar(100, 101, 91, 95)], [order(1, -1, stop=93, limit=94)])
    assert [(event.kind, event.price) for event in plan.events] == [("trigger", 93), ("fill", 94)]


def test_a_filled_order_ends_its_oco_group_and_its_bracket():
    bracket = [order(1, -1, stop=95, bracket=9), order(2, -1, limit=104, bracket=9)]
    oco = [order(1, -1, stop=95, oco=1), order(2, -1, limit=104, oco=1)]
    for orders in (bracket, oco):
        assert [event.subject for event in run(long_account(), [bar(100, 105, 94, 100)], orders).events] == [1]
        assert [event.subject for event in run(long_account(), [bar(100, 105, 94, 100)], orders, low_first=False).events] == [2]


def test_orders_of_a_liquidated_contract_are_ended():
    plan = run(long_account(), [bar(100, 101, 80, 95)], [order(1, 1, limit=85)])
    assert kinds(plan) == ["liquidation"]


def test_a_stale_contract_keeps_its_mark_while_another_moves():
    account = MarginAccount()
    for symbol in ("BTC", "ETH"):
        account.add_contract(Contract(symbol, tiers=TierSchedule.constant(TierTable.flat(0.01))), leverage=10, margin_mode="cross")
    account.deposit(25, time=0)
    account.apply_fill("BTC", size=1, price=100, fee_rate=0.0, time=0)
    account.apply_fill("ETH", size=1, price=100, fee_rate=0.0, time=0)
    still = Track("ETH", 95.0, 95.0, 95.0, 95.0, None)
    plan = run(account, [bar(100, 100, 75, 90), still], profile=FORFEIT)
    # 25 + (p - 100) - 5 = 0.01 p + 0.95
    assert plan.events[0].marks == {"BTC": pytest.approx(80.95 / 0.99), "ETH": 95.0}
    assert plan.liquidated == {"BTC": 1, "ETH": 1}


def test_two_isolated_wallets_fail_in_the_order_of_the_clock():
    account = MarginAccount()
    for symbol, leverage in (("BTC", 10), ("ETH", 20)):
        tiers = TierSchedule.constant(TierTable.flat(0.01))
        account.add_contract(Contract(symbol, tiers=tiers), leverage=leverage, margin_mode="isolated")
    account.deposit(1_000, time=0)
    for symbol in ("BTC", "ETH"):
        account.apply_fill(symbol, size=1, price=100, fee_rate=0.0, time=0)
    plan = run(account, [bar(100, 100, 80, 90), bar(100, 100, 80, 90, "ETH")])
    assert [event.subject for event in plan.events] == ["wallet:ETH", "wallet:BTC"]


def test_the_lowest_equity_lies_inside_the_bar():
    plan = run(long_account(), [bar(100, 101, 93, 100)])
    assert (plan.lowest_equity, plan.equity) == (pytest.approx(993), pytest.approx(1_000))


@pytest.mark.parametrize(
    "table", [None, TierTable.from_rows([(10_000, 0.01, 50), (None, 0.02, 20)], mode="slab")], ids=["plain", "stretched"]
)
@pytest.mark.parametrize(("profile", "low", "steps"), [(MARKET, 93.75, 1), (DYDX, 93.75, 0), (DYDX, 93.74, 1)])
def test_where_only_less_than_maintenance_fails_to_touch_it_is_not_to_cross_it(profile, low, steps, table):
    # 6.25 of 7.1875 are lost at 93.75; the 0.9375 that are left are exactly 1 % of it
    account = long_account(mode="cross", cash=6.25 + 0.9375, table=table)
    plan = run(account, [bar(100, 101, low, 99)], profile=profile)
    assert plan.liquidated["BTC"] == steps


def test_each_next_failing_point_of_a_bar_takes_another_part():
    # a long of 2 000 at 100 holds 20 000: a fifth goes at 90 / 0.99, another where 16 363.64 + 1 600 (p - 100) = 16 p
    plan = run(long_account(2_000, cash=100_000), [bar(100, 101, 90.6, 99)], profile=HYPERLIQUID)
    first, second = (event.marks["BTC"] for event in plan.events)
    assert (first, second) == (pytest.approx(LIMIT_PRICE), pytest.approx((160_000 - 20_000 + 400 * (100 - LIMIT_PRICE)) / 1_584))
    assert plan.liquidated == {"BTC": 2}


@pytest.mark.parametrize(("bar_seconds", "steps", "left"), [(60, 2, 1_280), (15, 2, 0)])
def test_a_cooldown_is_over_at_the_next_failing_point_of_a_longer_bar_alone(bar_seconds, steps, left):
    account, cooldown = long_account(2_000, cash=100_000), Cooldown()
    plan = plan_path(
        account, [bar(100, 101, 90.6, 99)], [], [], HYPERLIQUID, low_first=True, opening=1e9, bar_seconds=bar_seconds, cooldown=cooldown
    )
    assert plan.liquidated == {"BTC": steps}
    sold = 400 * (LIMIT_PRICE - 100) + (1_600 - left) * (plan.events[1].marks["BTC"] - 100)
    assert plan.equity == pytest.approx(100_000 + sold - left)  # what is left stands at 99
    assert cooldown.cut_at == {}, "a plan leaves the caller's own as it was"


def hedged_account() -> MarginAccount:
    """Return 100 behind a long and a short of 10 at 100."""
    account = MarginAccount()
    account.deposit(140, time=0)
    for symbol, size in (("BTC:LONG", 10), ("BTC:SHORT", -10)):
        account.add_contract(Contract(symbol, tiers=TierSchedule.constant(TierTable.flat(0.01))), leverage=50, margin_mode="cross")
        account.apply_fill(symbol, size=size, price=100, fee_rate=0.0, time=0)
    return account


@pytest.mark.parametrize(("series", "is_only_worst"), [("BTC", False), ("", True)])
def test_the_extremes_of_one_series_of_prices_never_meet(series, is_only_worst):
    # a long at 90 and a short at 110 lose 200 together; the two legs of one contract always stand at one price and lose nothing
    tracks = [bar(100, 110, 90, 100, symbol)._replace(series=series) for symbol in ("BTC:LONG", "BTC:SHORT")]
    ends = plan_bar(hedged_account(), tracks, [], [], MARKET)
    assert ends.is_only_worst == is_only_worst
    assert bool(ends.worst.liquidated) == is_only_worst
    assert not ends.adverse.liquidated


def test_a_part_of_the_bar_is_walked_by_what_has_become_of_the_account():
    # the limit buys at 95 in the first half; the second, which kills 1 from 100 at 90.909, spares 2 from 97.5 (88.6)
    halves = [bar(100, 101, 94, 96), bar(96, 97, 89.5, 95)]
    whole = bar(100, 101, 89.5, 95)
    alone = plan_bar(long_account(), [whole], [], [], FORFEIT, detail=[{"BTC": half} for half in halves])
    assert [event.part for event in alone.adverse.events] == [1]
    joined = plan_bar(long_account(), [whole], [order(1, 1, limit=95)], [], MARKET, detail=[{"BTC": half} for half in halves])
    assert [(event.kind, event.part) for event in joined.adverse.events] == [("fill", 0)]
    assert joined.adverse.equity == pytest.approx(1_000 + 2 * (95 - 97.5))
