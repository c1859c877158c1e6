"""Orders refused, cut, rounded, made or taken: why, by which word, at which size; numbers by hand as in ``playing``."""

import logging

import backtrader as bt
import pandas as pd
import pytest
from playing import CALM, buy, close, frame, play, sell

from bt_margin import MarginBroker, PerpData
from bt_margin.desk import REASONS

STILL = (100, 100, 100, 100)
CROSS = {"margin_mode": "cross"}
SPOT = {"kind": "spot", "leverage": 1, "tiers": None}
LATER = pd.Timestamp("2030-01-01", tz="UTC").timestamp()


def at(price):
    return (price,) * 4


def bid(price, size=1.0, **kwargs):
    return buy(size=size, exectype=bt.Order.Limit, price=price, **kwargs)


def ask(price, size=1.0, **kwargs):
    return sell(size=size, exectype=bt.Order.Limit, price=price, **kwargs)


def stop_buy(price, size=1.0, **kwargs):
    return buy(size=size, exectype=bt.Order.Stop, price=price, **kwargs)


def stop_sell(price, size=1.0, **kwargs):
    return sell(size=size, exectype=bt.Order.Stop, price=price, **kwargs)


def together(*actions):
    def act(strategy):
        for action in actions:
            action(strategy)

    return act


def bracket(**kwargs):
    return lambda strategy: strategy.buy_bracket(**{"size": 1, "exectype": bt.Order.Market} | kwargs)


def outcomes(strategy) -> list[tuple[str, float]]:
    """Return the status and the filled size of each order, the first placed first."""
    return [(status, pytest.approx(size)) for status, size, *_ in strategy.orders.values()]


def info(strategy, number=-1):
    return list(strategy.orders.values())[number][4]


def makers(strategy) -> list[bool]:
    return [fill.maker for fill in strategy.broker.record.fills]


# -- every reason --------------------------------------------------------------------------------------------------------

REFUSED = {  # reason: script, terms, broker params, status, max_size
    "margin": ({1: buy(size=101)}, {}, {}, "Margin", 100),
    "tier_cap": ({1: buy(size=11)}, {"tiers": [(1_000, 0.01, 20)]}, {}, "Margin", 10),
    "short_spot": ({1: sell()}, SPOT, {}, "Margin", 0),
    "size": ({1: buy(size=float("inf"))}, {}, {}, "Rejected", 100),
    "price": ({1: bid(-5)}, {}, {}, "Rejected", None),
    "lot": ({1: buy(size=0.4)}, {"lot": 1}, {}, "Rejected", 100),
    "tick": ({1: bid(90.3)}, {"tick": 0.5}, {"filters": "refuse"}, "Rejected", 1_000 / 9.03),
    "min_size": ({1: buy(size=0.5)}, {"min_size": 1}, {}, "Rejected", 100),
    "max_size": ({1: buy(size=50)}, {"max_size": 20}, {"filters": "refuse"}, "Rejected", 100),
    "min_notional": ({1: buy(size=0.5)}, {"min_notional": 100}, {}, "Rejected", 100),
    "post_only": ({1: bid(101, post_only=True)}, {}, {}, "Rejected", 1_000 / 10.1),
    "reduce_only": ({1: sell(reduce_only=True)}, {}, {}, "Rejected", 100),
    "position_side": ({1: buy(position_side="LONG")}, {}, {}, "Rejected", 100),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_refusal_has_a_word_a_sentence_and_the_numbers(reason, caplog):
    script, terms, params, status, max_size = REFUSED[reason]
    with caplog.at_level(logging.INFO, "bt_margin"):
        strategy = play(script, frame([STILL] * 4), terms=terms, **CROSS, **params)
    assert outcomes(strategy) == [(status, 0)]
    told = info(strategy)
    assert (told["reason"], told["available"]) == (reason, 1_000)
    assert told["max_size"] == (max_size if max_size is None else pytest.approx(max_size))
    assert told["message"].startswith("AAA: ")
    assert [record.getMessage().split(" UTC: ")[1] for record in caplog.records] == [told["message"]]
    (row,) = strategy.broker.record.refusals
    assert (row.symbol, row.reason, row.message, row.max_size) == ("AAA", reason, told["message"], told["max_size"])


class Early(bt.Strategy):
    """Buys the second contract before it has a bar."""

    def prenext(self):
        if len(self.datas[0]) == 1:
            self.order = self.buy(self.datas[1])


def test_an_order_before_the_first_bar_has_its_word():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(check=True)
    cerebro.adddata(PerpData(dataname=frame([STILL] * 4), name="AAA"))
    cerebro.adddata(PerpData(dataname=frame([STILL] * 2, start="2024-01-01 03:00"), name="BBB"))
    cerebro.addstrategy(Early)
    assert cerebro.run()[0].order.info["reason"] == "not_started"


def test_the_exits_of_a_refused_entry_have_their_word():
    strategy = play({1: bracket(size=0.5, stopprice=90, limitprice=110)}, frame([STILL] * 3), terms={"min_size": 1}, **CROSS)
    assert [told["reason"] for *_, told in strategy.orders.values()] == ["min_size", "bracket", "bracket"]


def test_every_word_is_tested():
    assert {*REFUSED, "not_started", "bracket", "scaler"} == set(REASONS)


@pytest.mark.parametrize("reason", ["margin", "tier_cap"])
def test_the_size_that_would_have_fitted_is_taken_the_next_time(reason):
    script, terms, params, *_ = REFUSED[reason]
    sizes = []

    def again(strategy):
        sizes.append(info(strategy)["max_size"])
        strategy.buy(size=sizes[0])

    strategy = play({**script, 3: again}, frame([STILL] * 5), terms=terms, **CROSS, **params)
    assert outcomes(strategy) == [("Margin", 0), ("Completed", sizes[0])]


@pytest.mark.parametrize(
    ("held", "resting", "price", "expected"),
    [
        (0, [], 90, 110),  # 1 000 at 9.045 with the fee, whole lots
        (0, [], -110, 90),
        (0, [bid(90, 20), ask(110, 30)], 90, 90),  # 110 bids in all; the asks are the smaller side then
        (5, [ask(110, 5)], -110, 85),  # the 5 held and their 50 of margin stay; the first ask closes all there is
        (5, [], 90, 105),  # of 999.75 the position has 50
        (-5, [bid(90, 9)], 90, 101),  # of the 9 bids 4 open and are set aside
    ],
)
def test_a_limit_of_max_size_is_taken_and_one_lot_more_is_not(held, resting, price, expected):
    """A negative price asks. Each opening takes a tenth and the fee of 0.05 %; the position's own fee has been paid."""
    opening = {1: buy(size=held) if held > 0 else sell(size=-held)} if held else {}
    place = bid if price > 0 else ask
    sizes = []

    def more(lots):
        def act(strategy):
            sizes.append(strategy.broker.max_size(strategy.data, price > 0, abs(price)) + lots)
            place(abs(price), sizes[-1])(strategy)

        return act

    for lots, status in ((0, "Accepted"), (1, "Margin")):
        script = opening | {2: together(*resting), 3: more(lots)}
        strategy = play(script, frame([STILL] * 6), terms={"lot": 1, "commission": 0.0005}, **CROSS)
        assert outcomes(strategy)[-1] == (status, 0)
    assert sizes == [expected, expected + 1]


# -- filters: round or refuse ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "asked", "became"),
    [
        (bid(90.3), 90.3, 90.5),  # a buy's price goes up, a sell's down: never for the better
        (ask(110.3), 110.3, 110.0),
        (stop_buy(110.3), 110.3, 110.5),
        (stop_sell(90.3), 90.3, 90.0),
    ],
)
def test_a_price_off_its_tick_is_rounded_never_for_the_better_or_refused(place, asked, became):
    placed = {}

    def look(strategy):
        place(strategy)
        placed["price"] = strategy.broker.submitted[-1].created.price if strategy.broker.submitted else None

    strategy = play({1: look}, frame([STILL] * 3), terms={"tick": 0.5}, **CROSS)
    assert (placed["price"], info(strategy)["asked_price"]) == (became, asked)
    refused = play({1: look}, frame([STILL] * 3), terms={"tick": 0.5}, filters="refuse", **CROSS)
    assert info(refused)["message"] == f"AAA: a price of {asked} is no multiple of the tick of 0.5; order at {became:g}"


def test_both_prices_of_a_stop_limit_are_rounded():
    place = buy(exectype=bt.Order.StopLimit, price=110.1, plimit=112.2)
    strategy = play({1: place}, frame([STILL] * 3), terms={"tick": 0.5}, **CROSS)
    assert (info(strategy)["asked_price"], info(strategy)["asked_limit"]) == (110.1, 112.2)
    (order,) = strategy.broker.pending
    assert (order.created.price, order.created.pricelimit) == (110.5, 112.5)


def test_a_price_on_its_tick_stays_as_it_is():
    strategy = play({1: bid(0.1 * 3 * 300)}, frame([STILL] * 3), terms={"tick": 0.1}, filters="refuse", **CROSS)
    assert outcomes(strategy) == [("Accepted", 0)]
    assert "asked_price" not in info(strategy)


def test_a_price_below_one_tick_is_refused_rather_than_rounded_to_nothing():
    strategy = play({1: ask(0.3)}, frame([STILL] * 3), terms={"tick": 0.5}, **CROSS)
    assert (outcomes(strategy), info(strategy)["reason"]) == ([("Rejected", 0)], "tick")


def test_a_size_off_its_lot_is_cut_or_refused():
    cut = play({1: sell(size=2.7)}, frame([STILL] * 3), terms={"lot": 1}, **CROSS)
    assert (outcomes(cut), info(cut)["asked_size"]) == ([("Completed", -2)], 2.7)
    refused = play({1: sell(size=2.7)}, frame([STILL] * 3), terms={"lot": 1}, filters="refuse", **CROSS)
    assert (outcomes(refused), info(refused)["reason"]) == ([("Rejected", 0)], "lot")


def test_a_market_order_above_the_largest_is_cut_with_its_exits():
    def entry_and_exits(strategy):
        entry = strategy.buy(size=50, transmit=False)
        strategy.sell(size=50, exectype=bt.Order.Stop, price=90, parent=entry, transmit=False)
        strategy.sell(size=50, exectype=bt.Order.Limit, price=110, parent=entry)

    strategy = play({1: entry_and_exits}, frame([STILL, STILL, at(111), at(111)]), terms={"max_size": 20}, **CROSS)
    assert outcomes(strategy) == [("Completed", 20), ("Canceled", 0), ("Completed", -20)]
    assert [told["asked_size"] for *_, told in strategy.orders.values()] == [50] * 3
    assert strategy.position.size == 0


def test_a_limit_may_be_larger_than_the_largest_market_order():
    assert outcomes(play({1: bid(90, 50)}, frame([STILL] * 3), terms={"max_size": 20}, **CROSS)) == [("Accepted", 0)]


@pytest.mark.parametrize("exit_order", [close, sell(size=0.4), stop_sell(99, 0.4), sell(size=0.4, reduce_only=True)])
def test_an_order_that_only_closes_may_be_worth_less_than_the_least(exit_order):
    script = {1: buy(size=1), 2: sell(size=0.6), 3: exit_order}
    rows = [STILL, STILL, STILL, (100, 100, 98, 99), at(99)]
    strategy = play(script, frame(rows), terms={"min_notional": 50}, **CROSS)
    assert outcomes(strategy) == [("Completed", 1), ("Completed", -0.6), ("Completed", -0.4)]


def test_the_least_worth_of_an_inverse_contract_is_in_quote_money():
    """Contracts of 100 dollars: 4 are worth 400 at any price."""
    terms = {"kind": "inverse", "mult": 100, "min_notional": 500, "currency": "BTC"}
    strategy = play({1: buy(size=4), 2: buy(size=5)}, frame([STILL] * 4), terms=terms, **CROSS)
    assert [status for status, _ in outcomes(strategy)] == ["Rejected", "Completed"]


def test_filters_hold_from_the_day_they_are_known():
    terms = {"tick": 0.5, "min_size": 1, "max_size": 20, "min_notional": 1_000, "filters_since": LATER}
    strategy = play({1: together(bid(99.3, 0.5), buy(size=50))}, frame([STILL, CALM, CALM]), terms=terms, **CROSS)
    assert outcomes(strategy) == [("Completed", 0.5), ("Completed", 50)]


# -- shrink ------------------------------------------------------------------------------------------------------------------

SHRINK = {"unfunded": "shrink", **CROSS}


def test_an_order_too_large_is_cut_to_what_fits_as_it_is_submitted(caplog):
    with caplog.at_level(logging.INFO, "bt_margin"):
        strategy = play({1: buy(size=150)}, frame([STILL] * 3), **SHRINK)
    assert (outcomes(strategy), info(strategy)["asked_size"]) == ([("Completed", 100)], 150)
    assert "lower the size to 100 or less; it was cut to that" in caplog.text
    assert strategy.broker.record.refusals == []


def test_an_order_that_an_open_has_made_too_dear_is_cut_at_its_fill():
    """100 at 100 take all of 1 000; at an open of 105 they are 1 000 / 10.5 = 95.238."""
    strategy = play({1: buy(size=100)}, frame([STILL, at(105), at(105)]), **SHRINK)
    assert (outcomes(strategy), info(strategy)["asked_size"]) == ([("Completed", 1_000 / 10.5)], 100)
    assert strategy.cash[-1] == pytest.approx(0, abs=1e-9)


def test_an_order_is_cut_to_whole_lots():
    assert outcomes(play({1: buy(size=100)}, frame([STILL, at(105), at(105)]), terms={"lot": 1}, **SHRINK)) == [("Completed", 95)]


def test_an_order_is_cut_to_the_tiers():
    tiers = {"tiers": [(1_000, 0.01, 20)]}
    assert outcomes(play({1: buy(size=15)}, frame([STILL] * 3), terms=tiers, **SHRINK)) == [("Completed", 10)]


def test_the_opening_part_of_a_reversal_is_cut():
    strategy = play({1: buy(size=50), 2: sell(size=300)}, frame([STILL] * 4), **SHRINK)
    assert outcomes(strategy) == [("Completed", 50), ("Completed", -150)]


@pytest.mark.parametrize(
    ("asked", "rows", "cut"),
    [(150, [STILL, STILL, at(111), at(111)], 100), (100, [STILL, at(105), at(111), at(111)], 1_000 / 10.5)],
    ids=["at submission", "at the fill"],
)
def test_the_exits_of_a_bracket_are_cut_with_its_entry(asked, rows, cut):
    strategy = play({1: bracket(size=asked, stopprice=90, limitprice=110)}, frame(rows), **SHRINK)
    assert outcomes(strategy) == [("Completed", cut), ("Canceled", 0), ("Completed", -cut)]
    assert strategy.position.size == 0


def test_members_of_an_oco_group_are_cut_each_by_itself():
    def straddle(strategy):
        first = strategy.buy(size=150, exectype=bt.Order.Stop, price=125)
        strategy.sell(size=150, exectype=bt.Order.Stop, price=80, oco=first)

    strategy = play({1: straddle}, frame([STILL] * 3), **SHRINK)
    assert [order.size for order in strategy.broker.pending] == pytest.approx([1_000 / 12.5, -1_000 / 8])
    assert strategy.broker.account.order_margin == pytest.approx(1_000)


def test_an_order_is_refused_where_nothing_fits():
    strategy = play({1: buy(size=100), 2: buy()}, frame([STILL] * 4), **SHRINK)
    assert (outcomes(strategy)[1], info(strategy)["max_size"]) == (("Margin", 0), 0)


@pytest.mark.parametrize(
    ("terms", "cash", "rows"),
    [({"min_notional": 10_055}, 1_005, [STILL, STILL, STILL]), ({"min_size": 98}, 1_006, [STILL, at(120), at(120)])],
    ids=["at submission", "at the fill"],
)
def test_an_order_is_refused_where_the_venue_takes_none_of_what_is_left(terms, cash, rows):
    """100 at 100.6 take 1 006: with 1 005 99.9 fit, worth 10 050; at an open of 120 83.83 fit."""
    strategy = play({1: stop_buy(100.6, 100)}, frame(rows), terms=terms, cash=cash, **SHRINK)
    assert outcomes(strategy) == [("Margin", 0)]


def test_a_cut_is_planned_on_the_path_as_it_is_applied():
    """100 of AAA held with 1 100 walk a bar to 90.5; the stop of 30 at 95 opens a reversal that must be cut there."""
    script = {1: buy(size=90), 2: stop_sell(95, 250)}
    rows = [STILL, STILL, (100, 100, 88, 93), at(93)]
    strategy = play(script, frame(rows), **SHRINK)
    assert strategy.broker.record.walked_bars >= 1
    # sold 90 at 95 leave 550, of which 550 / 9.5 = 57.89 short are opened
    assert outcomes(strategy)[1] == ("Completed", -90 - 550 / 9.5)
    assert strategy.position.size == pytest.approx(-550 / 9.5)


# -- maker or taker ------------------------------------------------------------------------------------------------------------

MAKER = {"commission": 0.001, "maker": 0.0}
DIP = (100, 100.5, 97.5, 99)


def stop_limit(stop, limit, size=1.0):
    return buy(size=size, exectype=bt.Order.StopLimit, price=stop, plimit=limit)


MADE = {
    "a limit that its first open crosses takes": (bid(101, 1), [STILL, STILL, STILL, STILL], False),
    "a limit that rested makes": (bid(98, 1), [STILL, STILL, DIP, at(99)], True),
    "a limit that gapped through later makes": (bid(98, 1), [STILL, STILL, STILL, at(97)], True),
    "a stop-limit that rests after its trigger makes": (
        stop_limit(101, 100.5),
        [STILL, STILL, (100, 102, 99.8, 101), (101, 101, 100, 101)],
        True,
    ),
    "a stop-limit that crosses at its trigger takes": (stop_limit(101, 103), [STILL, STILL, (100, 102, 99.8, 101), at(101)], False),
    "a stop-limit that gapped beyond its limit makes": (stop_limit(101, 103), [STILL, STILL, at(105), (104, 104, 102, 103)], True),
    "a stop-limit that gapped within its limit takes": (stop_limit(101, 103), [STILL, STILL, at(102), at(102)], False),
    "a stop takes": (stop_buy(101), [STILL, STILL, (100, 102, 99.8, 101), at(101)], False),
    "a market order takes": (buy(), [STILL, STILL, STILL, STILL], False),
}


@pytest.mark.parametrize("claim", MADE)
@pytest.mark.parametrize("is_walked", [False, True], ids=["plain bars", "walked bars"])
def test_who_makes_and_who_takes_is_told_by_what_happened(claim, is_walked):
    """On walked bars 10 of BBB are held and 10 of CCC sold short: at its own worst each loses 140 of 260, together they lose nothing."""
    order, rows, is_maker = MADE[claim]
    if not is_walked:
        strategy = play({2: order}, frame(rows), terms=MAKER, **CROSS)
        assert (makers(strategy), strategy.broker.record.walked_bars) == ([is_maker], 0)
        return
    wild = (100, 114, 86, 100)
    pair = {1: together(lambda s: s.buy(s.datas[1], size=10), lambda s: s.sell(s.datas[2], size=10))}
    strategy = play(pair | {2: order}, frame(rows), *(frame([STILL, STILL, wild, wild]) for _ in range(2)), terms=MAKER, cash=260, **CROSS)
    assert (makers(strategy)[2:], strategy.broker.record.walked_bars) == ([is_maker], 2)
    assert strategy.broker.record.liquidations == []


@pytest.mark.parametrize("cash", [1_000, 100], ids=["plain bars", "walked bars"])
def test_a_post_only_limit_makes_or_is_not_taken(cash):
    crossing = play({2: bid(101, 1, post_only=True)}, frame([STILL] * 4), terms=MAKER, **CROSS)
    assert (outcomes(crossing), info(crossing)["reason"]) == ([("Rejected", 0)], "post_only")
    assert info(crossing)["message"] == "AAA: a post-only limit at 101 would be filled at the open of 100"
    resting = play({2: bid(98, 1, post_only=True)}, frame([STILL, STILL, DIP, at(99)]), terms=MAKER, cash=cash, **CROSS)
    assert (outcomes(resting), makers(resting)) == ([("Completed", 1)], [True])


def test_only_a_limit_can_be_post_only():
    strategy = play({1: stop_buy(110, post_only=True)}, frame([STILL] * 3), **CROSS)
    assert info(strategy)["message"] == "AAA: only a limit order can be post-only, this one is Stop; leave it out"


# -- reduce-only ---------------------------------------------------------------------------------------------------------------


def test_a_reduce_only_order_is_cut_to_what_is_held():
    strategy = play({1: buy(size=5), 2: ask(105, 8, reduce_only=True)}, frame([STILL, STILL, at(106), at(106)]), **CROSS)
    assert outcomes(strategy) == [("Completed", 5), ("Completed", -5)]
    assert info(strategy)["asked_size"] == 8
    assert strategy.position.size == 0


def test_a_reduce_only_order_needs_no_margin_where_less_than_nothing_is_free():
    script = {1: buy(size=100), 3: together(ask(97, 100, reduce_only=True), stop_sell(90, 100, reduce_only=True))}
    strategy = play(script, frame([STILL, STILL, at(95), at(95), at(97), at(97)]), **CROSS)
    assert outcomes(strategy) == [("Completed", 100), ("Completed", -100), ("Accepted", 0)]
    assert max(strategy.broker.record.column("order_margin")) == 0


def test_a_reduce_only_order_is_cancelled_where_nothing_is_left_to_close():
    script = {1: buy(size=5), 2: stop_sell(95, 5, reduce_only=True), 3: close}
    strategy = play(script, frame([STILL, STILL, STILL, STILL, at(94), at(94)]), **CROSS)
    assert outcomes(strategy) == [("Completed", 5), ("Canceled", 0), ("Completed", -5)]
    assert info(strategy, 1)["message"] == "AAA: a reduce-only order of -5 finds nothing to close any more"
    assert strategy.position.size == 0


def test_a_reduce_only_exit_may_be_sent_with_its_market_entry():
    strategy = play({1: together(buy(size=5), stop_sell(95, 5, reduce_only=True))}, frame([STILL, STILL, at(94), at(94)]), **CROSS)
    assert outcomes(strategy) == [("Completed", 5), ("Completed", -5)]


def test_a_reduce_only_order_sent_before_its_entry_finds_nothing():
    strategy = play({1: together(stop_sell(95, 5, reduce_only=True), buy(size=5))}, frame([STILL] * 3), **CROSS)
    assert outcomes(strategy) == [("Rejected", 0), ("Completed", 5)]
    assert info(strategy, 0)["message"] == "AAA: a reduce-only order of -5 finds nothing to close, the position is flat"


def test_a_reduce_only_order_ends_with_the_position_that_a_walked_bar_liquidates():
    """5 at 20x with 100 cross... the long of 90 at 10x dies at 1 000 / 90 below 100, before its stop at 80 is reached."""
    script = {1: buy(size=90), 2: stop_sell(80, 90, reduce_only=True)}
    strategy = play(script, frame([STILL, STILL, (100, 100, 70, 75), at(75)]), **CROSS)
    assert outcomes(strategy)[:2] == [("Completed", 90), ("Canceled", 0)]
    assert len(strategy.broker.record.liquidations) == 1
    assert (strategy.position.size, strategy.broker.record.walked_bars) == (0, 1)


def test_two_reduce_only_exits_on_a_walked_bar_close_once():
    """50 at 10x with 500: stops at 95 and 94 both sell 50; the second finds nothing."""
    script = {1: buy(size=50), 2: together(stop_sell(95, 50, reduce_only=True), stop_sell(94, 50, reduce_only=True))}
    strategy = play(script, frame([STILL, STILL, (100, 100, 88, 93), at(93)]), cash=500, **CROSS)
    assert outcomes(strategy) == [("Completed", 50), ("Completed", -50), ("Canceled", 0)]
    assert (strategy.position.size, strategy.broker.record.walked_bars) == (0, 1)


def test_a_reduce_only_order_that_a_filler_fills_in_parts_never_opens():
    def three(order, _price, _ago):
        return min(3, abs(order.executed.remsize))

    script = {1: buy(size=3), 2: ask(101, 10, reduce_only=True)}
    strategy = play(script, frame([STILL, STILL, at(102), at(102), at(102)]), filler=three, **CROSS)
    assert outcomes(strategy) == [("Completed", 3), ("Completed", -3)]
    assert strategy.position.size == 0
