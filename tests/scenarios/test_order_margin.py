"""What resting orders set aside, read from a running broker; numbers by hand as in ``playing``.

Orders are sent after a bar, accepted as the next one opens, and read as it closes. Unless a test says otherwise an order far from
a still price rests; cross margin, 10x, 1 000 of cash: 1 at 90 sets 9 aside.
"""

import json
from pathlib import Path

import backtrader as bt
import numpy as np
import pytest
from playing import CALM, Script, buy, close, frame, play, sell

from bt_margin import MarginBroker, PerpCommInfo, PerpData, venues
from bt_margin.core.orders import OrderTerms
from bt_margin.core.terms import MarginTerms

STILL = (100, 100, 100, 100)
CROSS = {"margin_mode": "cross"}
VECTORS = Path(__file__).parent.parent / "vectors"


def bid(price, size=1.0, **kwargs):
    return buy(size=size, exectype=bt.Order.Limit, price=price, **kwargs)


def ask(price, size=1.0, **kwargs):
    return sell(size=size, exectype=bt.Order.Limit, price=price, **kwargs)


def stop_buy(price, size=1.0):
    return buy(size=size, exectype=bt.Order.Stop, price=price)


def stop_sell(price, size=1.0):
    return sell(size=size, exectype=bt.Order.Stop, price=price)


def together(*actions):
    def act(strategy):
        for action in actions:
            action(strategy)

    return act


def set_aside(strategy) -> list[float]:
    """Return the order margin at each close."""
    return list(strategy.broker.record.column("order_margin"))


def statuses(strategy) -> list[str]:
    return [status for status, *_ in strategy.orders.values()]


def rest(orders, *, held=0.0, netting="larger_side", rows=None, **broker_args):
    """Hold so much bought or sold at 100, then place the orders, and return the strategy."""
    opening = {1: buy(size=held) if held > 0 else sell(size=-held)} if held else {}
    terms = {"order_terms": OrderTerms(netting=netting)} | broker_args.pop("terms", {})
    return play(opening | {2: together(*orders)}, frame(rows or [STILL] * 4), terms=terms, **(CROSS | broker_args))


# -- the larger side ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orders", "held", "expected"),
    [
        ([bid(90), bid(80)], 0, (90 + 80) / 10),
        ([bid(90), ask(110)], 0, 110 / 10),
        ([bid(90), bid(80), ask(110)], 0, 170 / 10),
        ([ask(110, 3)], 5, 0),  # all of it closes
        ([ask(110, 3), ask(120, 4)], 5, 2 * 120 / 10),  # 3 and 2 close, 2 open
        ([ask(120, 4), ask(110, 3)], 5, 2 * 110 / 10),  # 4 and 1 close: the one placed first closes first
        ([bid(90, 3), ask(110, 7)], 5, 3 * 90 / 10),  # 2 of the asks open, 220 against the bids' 270
        ([bid(90, 2), ask(110, 7)], 5, 2 * 110 / 10),
        ([bid(90, 5), bid(80, 2), ask(110, 1)], -5, 2 * 80 / 10),
        ([bid(90, 5), bid(80, 2), ask(110, 2)], -5, 2 * 110 / 10),
        ([stop_sell(90, 5), ask(110, 5)], 5, 0),  # unlinked exits: the stop is in no book before it is triggered
        ([stop_sell(90, 5), stop_sell(85, 5), ask(110, 5)], 5, 0),
        ([stop_sell(90, 7), ask(110, 5)], 5, 2 * 90 / 10),
        ([stop_buy(110), stop_sell(90)], 0, 110 / 10),
    ],
)
def test_buys_and_sells_that_rest_together_set_the_larger_side_aside_given_what_is_held(orders, held, expected):
    strategy = rest(orders, held=held)
    assert set_aside(strategy)[2:] == pytest.approx([expected] * 2)
    assert strategy.cash[-1] == pytest.approx(1_000 - abs(held) * 10 - expected)


def test_both_sides_set_aside_bids_and_asks_where_a_venue_says_so():
    assert set_aside(rest([bid(90), ask(110)], netting="both_sides"))[-1] == 20


def test_both_sides_of_one_oco_group_set_only_the_dearer_aside():
    def straddle(strategy):
        first = strategy.buy(size=1, exectype=bt.Order.Stop, price=110)
        strategy.sell(size=1, exectype=bt.Order.Stop, price=90, oco=first)

    assert set_aside(rest([straddle], netting="both_sides"))[-1] == 11


def test_net_bids_take_all_offers_and_the_bids_beyond_them():
    """BitMEX: of 20 bids at 100 and 15 offers at 150, 5 bids and 15 offers count."""
    rows = [STILL, (125, 125, 125, 125), (125, 125, 125, 125), (125, 125, 125, 125)]
    strategy = rest([bid(100, 20), ask(150, 15)], netting="net_bids", rows=rows)
    assert set_aside(strategy)[-1] == 5 * 100 / 10 + 15 * 150 / 10


def test_an_order_of_the_smaller_side_is_taken_where_nothing_is_free():
    """100 bids at 90 take all of 900; 80 asks at 110 are 880 and cost nothing more; 10 more would make 990."""
    script = {1: bid(90, 100), 2: ask(110, 80), 3: ask(110, 10)}
    strategy = play(script, frame([STILL] * 5), terms={"lot": 1}, cash=900, **CROSS)
    assert statuses(strategy) == ["Accepted", "Accepted", "Margin"]
    info = list(strategy.orders.values())[2][4]
    assert (info["needed"], info["available"], info["max_size"]) == (990 - 900, 0, 1)  # 81 asks are 891


def test_a_fill_changes_what_the_others_set_aside():
    """A bid of 2 at 95 fills: the asks of 3 that were set aside by 33 close 2 of it, 1 still opens."""
    strategy = rest([bid(95, 2), ask(110, 3)], rows=[STILL, STILL, STILL, (100, 100, 94, 96), (96, 96, 96, 96)])
    assert set_aside(strategy) == pytest.approx([0, 0, 3 * 11, 1 * 11, 11])
    assert strategy.cash[-1] == pytest.approx(1_000 + 2 * 1 - 2 * 96 / 10 - 11)


def test_exits_left_behind_by_the_position_set_aside_what_they_would_open():
    """Unlinked stop and limit of 5 need nothing while 5 are held; closed by hand, both would sell: 5 x 90 and 5 x 110."""
    script = {1: buy(size=5), 2: together(stop_sell(90, 5), ask(110, 5)), 4: close}
    strategy = play(script, frame([STILL] * 7), **CROSS)
    assert set_aside(strategy) == [0, 0, 0, 0, 5 * 20, 5 * 20, 5 * 20]


def test_an_oco_pair_of_exits_left_behind_sets_its_larger_member_aside():
    def exits(strategy):
        first = strategy.sell(size=5, exectype=bt.Order.Stop, price=90)
        strategy.sell(size=5, exectype=bt.Order.Limit, price=110, oco=first)

    strategy = play({1: buy(size=5), 2: exits, 4: close}, frame([STILL] * 7), **CROSS)
    assert set_aside(strategy)[3:] == [0, 55, 55, 55]


def test_bracket_exits_set_nothing_aside():
    def bracket(strategy):
        strategy.buy_bracket(size=5, exectype=bt.Order.Limit, price=95, stopprice=80, limitprice=120)

    rows = [STILL, STILL, (100, 100, 94, 96), (96, 96, 96, 96), (96, 96, 96, 96)]
    strategy = play({1: bracket}, frame(rows), **CROSS)
    assert set_aside(strategy) == [0, 5 * 9.5, 0, 0, 0]


def test_a_market_entry_and_its_plain_exit_sent_together_take_all_there_is():
    strategy = play({1: together(buy(size=100), ask(110, 100), stop_sell(90, 100))}, frame([STILL] * 4), **CROSS)
    assert statuses(strategy) == ["Completed", "Accepted", "Accepted"]
    assert set_aside(strategy) == [0, 0, 0, 0]


def test_exits_sent_together_are_taken_where_less_than_nothing_is_free():
    """100 long with all of 1 000; at 95 equity is 500 and 950 are in use: neither exit opens anything."""
    rows = [STILL, STILL, (95, 95, 95, 95), (95, 95, 95, 95), (95, 95, 95, 95)]
    strategy = play({1: buy(size=100), 3: together(stop_sell(92, 100), ask(110, 100))}, frame(rows), **CROSS)
    assert statuses(strategy) == ["Completed", "Accepted", "Accepted"]
    assert set_aside(strategy)[-1] == 0


# -- margin is lent once -----------------------------------------------------------------------------------------------


def test_margin_that_a_close_will_free_is_lent_to_one_order_of_the_batch():
    """100 of AAA take all of 1 000; closing them lends 1 000: BBB of 100 takes it, CCC finds nothing."""

    def swap(strategy):
        strategy.close(strategy.datas[0])
        strategy.buy(strategy.datas[1], size=100)
        strategy.buy(strategy.datas[2], size=1)

    strategy = play({1: buy(size=100), 2: swap}, *(frame([STILL] * 4) for _ in range(3)), **CROSS)
    assert statuses(strategy) == ["Completed", "Completed", "Completed", "Margin"]
    refused = list(strategy.orders.values())[3]
    assert (refused[4]["reason"], refused[4]["available"], refused[4]["max_size"]) == ("margin", 0, 0)
    assert strategy.broker.record.refusals[0].time == strategy.broker.record.fills[1].time  # at submission, not at its fill


def test_a_reversal_uses_what_it_frees_itself():
    def turn(strategy):
        strategy.sell(strategy.datas[0], size=200)
        strategy.buy(strategy.datas[1], size=1)

    strategy = play({1: buy(size=100), 2: turn}, frame([STILL] * 4), frame([STILL] * 4), **CROSS)
    assert statuses(strategy) == ["Completed", "Completed", "Margin"]
    assert strategy.position.size == -100


def test_a_limit_that_was_taken_on_lent_margin_sets_all_aside_once_it_is_free():
    def swap(strategy):
        strategy.close(strategy.datas[0])
        strategy.buy(strategy.datas[1], size=100, exectype=bt.Order.Limit, price=90)

    strategy = play({1: buy(size=100), 2: swap}, frame([STILL] * 4), frame([STILL] * 4), **CROSS)
    assert set_aside(strategy) == [0, 0, 900, 900]
    assert strategy.cash[-1] == 100


def test_members_that_join_an_oco_group_late_are_not_lent_what_the_group_does_not_hold():
    """5 long at 100; an ask of 5 closes them. Its group's second member of 100 opens 95 at 110: 1 045 is not there."""

    def exits(strategy):
        first = strategy.sell(size=5, exectype=bt.Order.Limit, price=110)
        strategy.sell(size=100, exectype=bt.Order.Limit, price=110, oco=first)

    strategy = play({1: buy(size=5), 2: exits}, frame([STILL] * 4), **CROSS)
    assert set_aside(strategy)[-1] <= 1_000 - 50
    assert min(strategy.broker.record.column("available_margin")) >= 0


def test_isolated_openings_set_aside_money_that_is_there():
    """1 000 with a cross profit of 500: two isolated bids of 60 at 100 take 600 each, and only one is covered by cash."""

    def bids(strategy):
        for _ in range(2):
            strategy.buy(strategy.datas[1], size=60, exectype=bt.Order.Limit, price=100)

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000, margin_mode="cross", check=True)
    terms = {"leverage": 10, "tiers": 0.01, "liquidation_fee": 0.0}
    cerebro.broker.addcommissioninfo(PerpCommInfo(**terms))
    cerebro.broker.addcommissioninfo(PerpCommInfo(**terms, margin_mode="isolated"), name="BBB")
    risen = (130, 130, 130, 130)
    cerebro.adddata(PerpData(dataname=frame([STILL, STILL, risen, risen, risen]), name="AAA"))
    cerebro.adddata(PerpData(dataname=frame([risen] * 5), name="BBB"))
    cerebro.addstrategy(Script, script={1: buy(size=50), 3: bids})
    strategy = cerebro.run()[0]
    assert statuses(strategy) == ["Completed", "Accepted", "Margin"]
    assert list(strategy.orders.values())[2][4]["available"] == 1_000 - 600


def test_resting_spot_sales_set_nothing_aside_and_cover_no_purchase():
    terms = {"kind": "spot", "leverage": 1, "tiers": None}
    pair = together(bid(90, 10), ask(110, 10), bid(90, 2))
    strategy = play({1: pair}, frame([STILL] * 3), terms=terms, **CROSS)
    assert statuses(strategy) == ["Accepted", "Accepted", "Margin"]
    assert set_aside(strategy)[-1] == 900


# -- the oracles of venues, through a running broker ---------------------------------------------------------------------


def cases(name, *ids):
    known = {case["id"]: case for case in json.loads((VECTORS / f"{name}.json").read_text())["cases"]}
    return [pytest.param(known[case], id=case) for case in ids]


def quote(candles, script, terms, *, cash=100_000.0):
    """Play on one contract in cross margin without fees unless the terms have some; marks and last prices from the candles."""
    return play(script, candles, terms={"tiers": 0, **terms}, cash=cash, **CROSS)


LFEST = ("LFEST-1", "LFEST-2", "LFEST-3", "LFEST-4", "LFEST-8", "LFEST-10")


@pytest.mark.parametrize("case", cases("order_margin", *LFEST))
def test_a_running_broker_sets_aside_for_resting_orders_what_lfest_does(case):
    """The position is opened by a fill at 100; then the price stands at 95, between the bids and the asks."""
    given = case["inputs"]
    position = given["position"] / 100
    opening = {1: buy(size=position) if position > 0 else sell(size=-position)} if position else {}
    orders = [bid(price) for price in given["bids"]] + [ask(price) for price in given["asks"]]
    between = (95, 95, 95, 95)
    script = opening | {3: together(*orders)}
    strategy = quote(frame([STILL, STILL, between, between, between]), script, {"leverage": given["leverage"]}, cash=1_000)
    before, after = strategy.cash[2], strategy.cash[3]
    assert strategy.broker.account.order_margin == pytest.approx(case["expected"]["order_margin"])
    assert before - after == pytest.approx(case["expected"]["order_margin"])


def terms_of(venue):
    """Return a venue's order terms and its margin terms, as ``plug`` takes them."""
    rules = venues.load(venue)
    return {"order_terms": rules.orders, "margin_terms": rules.terms}


def rested(case, *, is_buy, venue, last=None, start="2026-01-01 01:00", **terms):
    """Place the order of a case after the first bar and return what it took of the cash, before any price reaches it."""
    given = case["inputs"]
    place = bid if is_buy else ask
    beyond = 1.1 if is_buy else 0.9
    last = given["price"] * beyond if last is None else last
    candles = frame(
        [(last,) * 4, (given["price"] * beyond,) * 4],
        marks=[(given.get("mark_price", given["price"]),) * 4, (given["price"] * beyond,) * 4],
        start=start,
    )
    known = {"leverage": given["leverage"], "mult": given.get("multiplier", 1.0), "kind": given.get("kind", "linear"), "currency": "ABC"}
    script = {1: place(given["price"], given["size"])}
    strategy = quote(candles, script, {**terms_of(venue), **known, **terms})
    assert statuses(strategy) == ["Accepted"]
    taken = 100_000 - strategy.cash[-1]
    assert strategy.broker.account.order_margin == pytest.approx(taken)
    return taken


@pytest.mark.parametrize("case", cases("order_cost", "BIN-COST-1", "BIN-COST-2"))
def test_a_buy_at_binance_costs_its_initial_margin(case):
    taken = rested(case, is_buy=True, venue="binance", last=case["inputs"].get("last_price"), commission=0.0005)
    assert taken == pytest.approx(case["expected"]["initial_margin"], rel=case["tolerance"])


@pytest.mark.parametrize("case", cases("order_cost", "BIN-COST-1"))
def test_a_sell_at_binance_once_cost_the_margin_of_its_own_price_and_its_open_loss(case):
    own = OrderTerms(counts_loss=True, counts_fee=False)
    taken = rested(case, is_buy=False, venue="binance", order_terms=own)
    assert taken == pytest.approx(case["expected"]["sell.total"], rel=case["tolerance"])


@pytest.mark.parametrize("case", cases("order_cost", "BIN-COST-2"))
def test_a_sell_at_binance_costs_the_margin_of_the_assuming_price_and_its_open_loss(case):
    taken = rested(case, is_buy=False, venue="binance", last=case["inputs"]["last_price"], commission=0.0005)
    assert taken == pytest.approx(case["remarked"]["sell.total"], rel=case["tolerance"])


@pytest.mark.parametrize(
    ("last", "mark", "expected"),
    [
        (100, 101, (101 / 10, 1)),  # the mark is dearest, and 1 is lost by it
        (102, 100, (102 * 1.0015 / 10, 0)),
        (99, 99, (100 / 10, 0)),
    ],
)
def test_the_assuming_price_of_a_short_limit_is_the_dearest_of_last_and_buffer_mark_and_its_own(last, mark, expected):
    case = {"inputs": {"size": 1, "price": 100, "leverage": 10, "mark_price": mark}}
    assert rested(case, is_buy=False, venue="binance", last=last) == pytest.approx(sum(expected))


def test_a_buy_above_the_mark_adds_what_it_would_have_lost():
    case = {"inputs": {"size": 2, "price": 100, "leverage": 10, "mark_price": 97}}
    assert rested(case, is_buy=True, venue="binance", last=98) == pytest.approx(2 * 100 / 10 + 2 * 3)


@pytest.mark.parametrize("case", cases("order_cost", "BINCM-COST"))
def test_a_coin_margined_order_costs_coin(case):
    taken = rested(case, is_buy=True, venue="binance-coinm")
    assert taken == pytest.approx(case["expected"]["initial_margin"], abs=case["tolerance"])


@pytest.mark.parametrize("case", cases("order_cost", "BYBIT-COST-LIN", "BYBIT-COST-OLD"))
def test_an_order_at_bybit_costs_its_margin_and_both_fees(case):
    fee = case["inputs"]["reserved_rate"]
    taken = rested(case, is_buy=True, venue="bybit", commission=fee)
    assert taken == pytest.approx(case["expected"]["total"], rel=case["tolerance"])


def test_both_fees_are_set_aside_by_the_terms_that_keep_the_closing_one():
    """1 at 50 000 and 10x: 5 000, 27.50 to open and, in the terms that keep it, 24.75 to close at the bankruptcy price of 45 000."""
    case = {"inputs": {"size": 1, "price": 50_000, "leverage": 10}}
    kept = MarginTerms(fee_in_margin="bankruptcy")
    assert rested(case, is_buy=True, venue="bybit", commission=0.00055, margin_terms=kept) == pytest.approx(5_052.25)


@pytest.mark.parametrize(
    ("place", "last", "initial_margin"),
    [
        (bid(110), 100, 100 / 10),  # min(110, 100)
        (bid(90), 100, 90 / 10),
        (ask(90), 100, 100 / 10),  # max(90, 100)
        (ask(110), 100, 110 / 10),
    ],
)
def test_bybit_takes_the_margin_of_a_limit_by_the_quote_where_that_is_better(place, last, initial_margin):
    seen = {}

    def look(strategy):
        place(strategy)
        order = strategy.broker.submitted[-1]
        seen["margin_price"] = strategy.broker._as_resting(order, strategy.broker.slot_of(order.data), order.created.price).margin_price

    play({1: look}, frame([(last,) * 4] * 2), terms={"order_terms": OrderTerms(margin_price="quote")}, **CROSS)
    assert seen["margin_price"] / 10 == initial_margin


def test_both_sides_quoted_at_bybit_cost_the_dearer():
    """Without fees: bids of 1 at 90 are 9, asks of 1 at 110 are 11; asks of 2 of a long of 1 are 11 again."""
    terms = venues.load("bybit").orders
    assert set_aside(rest([bid(90), ask(110)], terms={"order_terms": terms}))[-1] == 11
    assert set_aside(rest([bid(90), ask(110, 2)], held=1, terms={"order_terms": terms}))[-1] == 11


# -- nothing of the future -----------------------------------------------------------------------------------------------


def test_an_order_is_judged_by_the_prices_of_the_bar_it_was_placed_on():
    """Placed at last and mark 100; the next bar closes at 300, by which the ask's margin would be thrice as much."""
    strategy = rest([ask(101)], rows=[STILL, STILL, (100, 100.5, 99, 100), (100, 100, 100, 100)], terms={"order_terms": BINANCE})
    assert set_aside(strategy)[2] == pytest.approx(101 / 10)
    runs = [rest([ask(400)], rows=[STILL, STILL, row, row], terms={"order_terms": BINANCE}) for row in (STILL, (100, 300, 100, 300))]
    assert [set_aside(run)[2] for run in runs] == [400 / 10] * 2


BINANCE = OrderTerms(margin_price="assumed", counts_loss=True, counts_fee=False)


class AtTheOpen(bt.Strategy):
    """Asks before the third bar has shown more than its open."""

    def next_open(self):
        if len(self.data) == 3:
            self.sell(size=1, exectype=bt.Order.Limit, price=1_000)


@pytest.mark.parametrize("close_price", [120, 900])
def test_under_cheat_on_open_an_order_is_judged_by_the_open(close_price):
    """Placed at the open of 110 and at 1 000: the quote is max(110, 1 000) and nothing is lost by the mark, whatever the close is."""
    cerebro = bt.Cerebro(stdstats=False, cheat_on_open=True)
    cerebro.broker = MarginBroker(cash=1_000, margin_mode="cross", coo=True, check=True)
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=10, tiers=0, order_terms=OrderTerms(margin_price="quote", counts_loss=True)))
    rows = [STILL, STILL, (110, 950, 100, close_price), (close_price,) * 4]
    cerebro.adddata(PerpData(dataname=frame(rows), name="AAA"))
    cerebro.addstrategy(AtTheOpen)
    strategy = cerebro.run()[0]
    assert strategy.broker.record.column("order_margin")[2] == 100


# -- freed exactly once ---------------------------------------------------------------------------------------------------


def bracket_of(price, stop, limit):
    return lambda strategy: strategy.buy_bracket(size=1, exectype=bt.Order.Limit, price=price, stopprice=stop, limitprice=limit)


def oco_pair(strategy):
    first = strategy.buy(size=1, exectype=bt.Order.Limit, price=99)
    strategy.buy(size=1, exectype=bt.Order.Limit, price=50, oco=first)


def cancel_first(strategy):
    strategy.cancel(strategy.broker.pending[0])


ENDS = {
    "Completed": ({1: bid(99)}, [STILL, STILL, CALM, STILL], {}, 9.9),
    "Canceled": ({1: bid(90), 2: cancel_first}, [STILL] * 4, {}, 9),
    "Margin at the fill": ({1: stop_buy(105, 90)}, [STILL, STILL, (120, 120, 120, 120), (120,) * 4], {}, 945),
    "Rejected as post-only": ({1: bid(101, post_only=True)}, [STILL, STILL, STILL, STILL], {}, 0),
    "OCO sibling": ({1: oco_pair}, [STILL, STILL, (100, 100, 98, 99), (99,) * 4], {}, 9.9),
    "bracket": ({1: bracket_of(90, 80, 120), 2: cancel_first}, [STILL] * 4, {}, 9),
    "liquidation": (
        {1: buy(size=100), 2: together(bid(50, 1), ask(120, 101))},
        [STILL, STILL, (95, 95, 95, 95), (80, 80, 80, 80), (80,) * 4],
        {"cash": 1_050},
        None,
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_was_set_aside_is_free_again_however_an_order_ends(end):
    script, rows, broker_args, expected = ENDS[end]
    strategy = play(script, frame(rows), **(CROSS | broker_args))
    if expected is not None:
        assert set_aside(strategy)[1] == pytest.approx(expected)
    assert (set_aside(strategy)[-1], strategy.broker.account.reserved_orders) == (0, frozenset())


def test_an_order_that_expires_sets_nothing_aside_from_its_last_bar_on():
    def good_for_two_bars(strategy):
        strategy.buy(size=1, exectype=bt.Order.Limit, price=90, valid=strategy.data.datetime[0] + 2.5 / 24)

    strategy = play({1: good_for_two_bars}, frame([STILL] * 6), **CROSS)
    assert statuses(strategy) == ["Expired"]
    assert set_aside(strategy) == [0, 9, 9, 0, 0, 0]


def test_an_order_that_rests_as_the_data_ends_is_still_counted_once():
    strategy = play({1: bid(90)}, frame([STILL] * 3), **CROSS)
    assert (set_aside(strategy)[-1], strategy.cash[-1]) == (9, 991)


def test_what_a_partial_fill_leaves_is_set_aside():
    """Of a bid of 10 at 99 a filler takes 4 on the third bar: 6 x 99 stay set aside, then 2, then none."""
    script = {1: bid(99, 10)}

    def four(order, _price, _ago):
        return min(4, abs(order.executed.remsize))

    strategy = play(script, frame([STILL, STILL, CALM, CALM, CALM, CALM]), filler=four, **CROSS)
    assert set_aside(strategy) == pytest.approx([0, 99, 6 * 9.9, 2 * 9.9, 0, 0])


def test_the_members_of_an_oco_group_end_with_one_that_is_refused():
    """Left alone they would be no group any more, and both could fill on the margin of one. 200 at 105 need 2 100 of 1 000."""

    def three(strategy):
        first = strategy.buy(size=200, exectype=bt.Order.Stop, price=105)
        strategy.sell(size=10, exectype=bt.Order.Stop, price=95, oco=first)
        strategy.sell(size=10, exectype=bt.Order.Limit, price=104, oco=first)

    strategy = play({1: three}, frame([STILL] * 4), **CROSS)
    assert statuses(strategy) == ["Margin", "Canceled", "Canceled"]
    assert (set_aside(strategy)[-1], strategy.broker.pending) == (0, type(strategy.broker.pending)())


# -- leverage ---------------------------------------------------------------------------------------------------------------


def leverage(x):
    return lambda strategy: strategy.broker.set_leverage(strategy.data, x)


def test_another_leverage_rescales_what_rests():
    strategy = play({1: bid(90), 2: leverage(5), 3: leverage(20)}, frame([STILL] * 5), **CROSS)
    assert set_aside(strategy) == pytest.approx([0, 9, 90 / 5, 90 / 20, 90 / 20])


def test_a_lower_leverage_is_refused_where_what_rests_would_not_be_covered():
    """100 at 90 take 900 of 1 000; at 8x they would take 1 125."""
    with pytest.raises(ValueError, match="8x needs 225 more initial margin, available is 100"):
        play({1: bid(90, 100), 2: leverage(8)}, frame([STILL] * 4), **CROSS)


def test_a_higher_leverage_is_refused_where_held_and_ordered_pass_its_tier():
    script = {1: buy(size=4), 2: bid(90, 10), 3: leverage(20)}
    tiers = [(1_000, 0.01, 20), (None, 0.02, 10)]
    with pytest.raises(ValueError, match="AAA: 1300 held and ordered allows no 20x, its tier ends at 1000"):
        play(script, frame([STILL] * 5), terms={"tiers": tiers}, cash=10_000, **CROSS)


def test_sizes_and_prices_may_be_numpys():
    # Asks of 0.5 and 0.7 close the 1 that is held and open 0.2: 105 * 0.2 / 10 = 2.1. The bid takes 90 * 0.1 / 10, which is less.
    rests = together(ask(np.float64(105), np.float64(0.5)), ask(105.0, np.float64(0.7)), bid(np.float64(90), np.float64(0.1)))

    strategy = play({1: buy(size=np.float64(1)), 2: rests}, frame([STILL] * 5), **CROSS)

    assert strategy.broker.account.order_margin == pytest.approx(2.1)
