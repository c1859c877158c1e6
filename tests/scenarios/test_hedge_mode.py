"""Hedge mode (R25): a long and a short of one contract side by side, by hand arithmetic on the terms of ``playing``."""

import json
import math

import backtrader as bt
import pytest
from playing import CALM, Script, frame, play, rate_column
from typer.testing import CliRunner

from bt_margin import MarginBroker, PerpCommInfo, PerpData, Result, TopUp, analyzers, observers, plots, run, sizers
from bt_margin.cli import app
from bt_margin.core.orders import OrderTerms

LONG, SHORT = {"position_side": "LONG"}, {"position_side": "SHORT"}
STILL = (100, 100, 100, 100)


def hedge(script, *candles, **args):
    """Play a script in hedge mode."""
    return play(script, *candles, position_mode="hedge", **args)


def both(strategy, long=1, short=1):
    strategy.buy(size=long, **LONG)
    strategy.sell(size=short, **SHORT)


def long_only(strategy, **kwargs):
    return strategy.buy(**{"size": 1, **LONG, **kwargs})


def sized(long, short):
    return lambda strategy: both(strategy, long, short)


def sizes(strategy):
    return tuple(strategy.broker.getposition(strategy.data, side).size for side in ("LONG", "SHORT"))


def states(strategy):
    """Return the last status and the executed size of each order, in the order they were sent."""
    return [order[:2] for order in strategy.orders.values()]


def said(strategy):
    """Return the reason and the sentence of each order, in the order they were sent."""
    return [(order[4].get("reason"), order[4].get("message")) for order in strategy.orders.values()]


# -- two positions of one contract -----------------------------------------------------------------------------------


def test_both_legs_are_held_with_a_wallet_each_and_the_net_is_shown():
    strategy = hedge({1: sized(3, 1)}, frame([CALM, CALM, CALM]))
    broker, data = strategy.broker, strategy.data
    assert broker.account.wallets == {"wallet:cross": 1_000 - 30 - 10, "wallet:AAA:LONG": 30, "wallet:AAA:SHORT": 10}
    assert sizes(strategy) == (3, -1)
    assert (broker.getposition(data).size, strategy.position.price) == (2, 100)
    assert broker.getvalue([data]) == 3 * 100 - 100
    assert broker.get_leverage() == (300 + 100) / 1_000


def test_margin_of_both_legs_is_required():
    strategy = hedge({1: sized(3, 1)}, frame([CALM, CALM, CALM]), margin_mode="cross")
    broker, data = strategy.broker, strategy.data
    assert broker.initial_margin(data) == 300 / 10 + 100 / 10
    assert broker.maintenance_margin(data) == 3 + 1
    assert broker.available_margin == 1_000 - 40


def test_the_net_has_the_entry_price_of_the_larger_leg():
    script = {1: long_only, 2: lambda s: s.sell(size=3, **SHORT)}
    strategy = hedge(script, frame([CALM, CALM, (102, 102, 102, 102), (102, 102, 102, 102)]))
    assert (strategy.position.size, strategy.position.price) == (1 - 3, 102)


def test_one_leg_is_closed_and_the_other_stays():
    up = (105, 105, 105, 105)
    strategy = hedge({1: both, 2: lambda s: s.sell(size=1, **LONG)}, frame([CALM, CALM, up, up]))
    assert sizes(strategy) == (0, -1)
    assert strategy.broker.wallet_balance == 1_000 + 5  # the long has earned it, the short has not lost it yet
    assert strategy.broker.equity == 1_000
    assert strategy.broker.account.wallets["wallet:AAA:LONG"] == 0


def test_legs_of_equal_size_in_cross_keep_their_equity_through_any_move():
    crash = frame([CALM, CALM, (100, 400, 1, 5), (5, 5, 5, 5), (5, 5, 5, 5)])
    strategy = hedge({1: both}, crash, margin_mode="cross", funding=rate_column(d0103=0.01, d0104=0.02))
    record = strategy.broker.record
    assert set(record.column("equity")) == set(record.column("lowest_equity")) == {1_000}
    assert [row.amount for row in record.funding] == [-1.0, 1.0, -0.1, 0.1]  # 100 x 1 %, 5 x 2 %: one leg pays the other
    assert record.liquidations == []
    assert strategy.broker.liquidation_price(strategy.data) == pytest.approx(1_000 / 0.02)  # two times 1 % of the mark are 1 000


def test_tiers_are_of_each_leg_s_own_notional():
    terms = {"tiers": [(200, 0.01, 50), (None, 0.02, 20)]}
    strategy = hedge({1: sized(2, 3)}, frame([CALM, CALM, CALM]), terms=terms)
    assert strategy.broker.maintenance_margin(strategy.data) == pytest.approx(200 * 0.01 + (300 * 0.02 - 2))
    assert strategy.broker.account.positions["AAA:SHORT"].brackets[0].cap == 200


def test_the_tiers_limit_each_leg_by_itself():
    terms = {"tiers": [(200, 0.01, 50), (None, 0.05, 5)]}

    def more(strategy):
        long_only(strategy)
        strategy.sell(size=1, **SHORT)

    strategy = hedge({1: sized(1.5, 1), 2: more}, frame([CALM] * 4), terms=terms)
    assert sizes(strategy) == (1.5, -2)
    assert [state for state, _ in states(strategy)] == ["Completed", "Completed", "Margin", "Completed"]


# -- liquidation -----------------------------------------------------------------------------------------------------


def test_an_isolated_leg_is_liquidated_and_the_other_lives():
    strategy = hedge({1: both}, frame([CALM, CALM, (100, 100, 85, 95), (95, 95, 95, 95)]))
    (row,) = strategy.broker.record.liquidations
    assert (row.symbol, row.size, row.mark_price) == ("AAA:LONG", 1, pytest.approx(90 / 0.99))
    assert row.returned == pytest.approx(10 - (100 - 90 / 0.99))
    assert sizes(strategy) == (0, -1)
    assert strategy.broker.equity == pytest.approx(1_000 - (100 - 90 / 0.99) + 5)
    assert strategy.position.size == -1


def test_legs_in_cross_share_one_liquidation_price():
    strategy = hedge({1: sized(3, 1)}, frame([CALM, CALM, CALM]), margin_mode="cross", cash=100)
    broker, data = strategy.broker, strategy.data
    shared = 100 / (2 - 0.04)  # 100 + 2 (p - 100) = 4 p x 1 %
    assert broker.liquidation_price(data) == pytest.approx(shared)
    assert [broker.liquidation_price(data, side) for side in ("LONG", "SHORT")] == pytest.approx([shared] * 2)
    assert broker.bankruptcy_price(data) == pytest.approx(100 - 100 / 2)
    assert Result(strategy).positions["liquidation_price"].tolist() == pytest.approx([shared] * 4)


def test_in_cross_the_losing_leg_goes_first_and_the_other_stands_alone():
    strategy = hedge({1: sized(3, 1)}, frame([CALM, CALM, (100, 100, 40, 60), (60, 60, 60, 60)]), margin_mode="cross", cash=100)
    first, second = strategy.broker.record.liquidations
    shared = 100 / 1.96
    assert (first.symbol, first.size, first.mark_price) == ("AAA:LONG", 3, pytest.approx(shared))
    left = 100 + 3 * (shared - 100)
    # the short alone: left + (100 - p) = 1 % of p, on the way up again
    assert (second.symbol, second.size) == ("AAA:SHORT", -1)
    assert second.mark_price == pytest.approx((left + 100) / 1.01)
    assert strategy.broker.equity == pytest.approx(left + 100 - (left + 100) / 1.01)


def test_a_liquidated_leg_takes_the_orders_of_both_with_it():
    def orders(strategy):
        both(strategy)
        strategy.sell(size=1, exectype=bt.Order.Limit, price=120, **SHORT)
        long_only(strategy, exectype=bt.Order.Limit, price=80)

    strategy = hedge({1: orders}, frame([CALM, CALM, (100, 100, 85, 95), (95, 130, 95, 100)]))
    assert [state for state, _ in states(strategy)][2:4] == ["Canceled", "Canceled"]
    assert sizes(strategy) == (0, 0)  # the short died at 110 / 1.01 on the bar after
    assert len(strategy.broker.record.liquidations) == 2


def test_a_forced_fill_is_an_order_of_its_leg_and_closes_its_trade():
    strategy, trades = run_watched({1: both}, frame([CALM, CALM, (100, 100, 85, 95), CALM]))
    forced = [order[4] for order in strategy.orders.values() if order[4].get("liquidation")]
    assert [info["position_side"] for info in forced] == ["LONG"]
    assert trades == [("LONG", "open"), ("SHORT", "open"), ("LONG", "closed")]


def test_what_would_have_saved_a_leg_is_judged_with_both_at_one_mark():
    crash = frame([CALM, CALM, (100, 100, 40, 60), (60, 60, 60, 60)])
    (row, _) = hedge({1: sized(3, 1)}, crash, margin_mode="cross", cash=100).broker.record.liquidations
    assert row.margin_to_add == pytest.approx(4 * 40 * 0.01 - (100 - 2 * 60))  # at 40: maintenance less equity
    saved = hedge({1: sized(3, 1)}, crash, margin_mode="cross", cash=100 + row.margin_to_add + 1e-6)
    dead = hedge({1: sized(3, 1)}, crash, margin_mode="cross", cash=100 + row.margin_to_add - 1e-6)
    assert (len(saved.broker.record.liquidations), bool(dead.broker.record.liquidations)) == (0, True)


def test_the_closest_call_of_a_hedge_is_that_of_both_legs():
    strategy = hedge({1: sized(3, 1)}, frame([CALM, CALM, (100, 100, 60, 100), CALM]), margin_mode="cross", cash=100)
    assert strategy.broker.record.closest_call == pytest.approx((60 - 100 / 1.96) / 60)


# -- orders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cash", [1_000, 13], ids=["host's matching", "on the path"])
def test_an_order_closes_its_leg_and_never_crosses_zero(cash):
    def exits(strategy):
        strategy.sell(size=3, exectype=bt.Order.Limit, price=104, **LONG)

    bars = frame([CALM, CALM, (100, 105, 88, 100), CALM])
    strategy = hedge({1: long_only, 2: exits}, bars, margin_mode="cross", cash=cash)
    assert bool(strategy.broker.record.walked_bars) == (cash == 13)
    assert states(strategy)[1] == ("Completed", -1)
    assert list(strategy.orders.values())[1][4]["asked_size"] == 3
    assert sizes(strategy) == (0, 0)
    assert strategy.broker.equity == cash + 4


def test_a_second_exit_of_a_closed_leg_is_cancelled_at_its_fill():
    def exits(strategy):
        for price in (104, 105):
            strategy.sell(size=1, exectype=bt.Order.Limit, price=price, **LONG)

    strategy = hedge({1: long_only, 2: exits}, frame([CALM, CALM, (100, 106, 100, 106), CALM]))
    assert states(strategy) == [("Completed", 1), ("Completed", -1), ("Canceled", 0)]
    assert said(strategy)[2] == ("reduce_only", "AAA:LONG: a closing order of -1 finds nothing to close any more")
    assert sizes(strategy) == (0, 0)
    assert strategy.broker.equity == 1_000 + 4


def test_an_exit_may_be_sent_with_the_opening_that_it_closes():
    def in_and_out(strategy):
        long_only(strategy)
        strategy.sell(size=1, exectype=bt.Order.Stop, price=96, **LONG)

    strategy = hedge({1: in_and_out}, frame([CALM, CALM, (100, 100, 95, 95), CALM]))
    assert states(strategy) == [("Completed", 1), ("Completed", -1)]
    assert strategy.broker.equity == 1_000 - 4


@pytest.mark.parametrize("cash", [1_000, 11.5], ids=["host's matching", "on the path"])
def test_exits_of_a_leg_that_is_closed_already_end_together(cash):
    def bracket(strategy):
        strategy.sell(size=1, **SHORT)
        strategy.buy_bracket(size=0.1, exectype=bt.Order.Market, stopprice=90, limitprice=102, **LONG)

    bars = frame([CALM, CALM, CALM, (100, 101.2, 99, 100), (100, 110, 99, 100), CALM])
    strategy = hedge({1: bracket, 3: lambda s: s.broker.close_side(s.data, "LONG")}, bars, margin_mode="cross", cash=cash)
    assert states(strategy) == [("Completed", -1), ("Completed", 0.1), ("Canceled", 0), ("Canceled", 0), ("Completed", -0.1)]
    assert bool(strategy.broker.record.walked_bars) == (cash != 1_000)
    assert said(strategy)[3][0] == "reduce_only"
    assert sizes(strategy) == (0, -1)


def test_an_order_cut_to_its_leg_ends_its_trade():
    strategy, trades = run_watched({1: long_only, 2: lambda s: s.sell(size=3, **LONG)}, frame([CALM] * 4))
    assert strategy.heard[-3:] == ["Submitted", "Accepted", "Completed"]
    assert trades == [("LONG", "open"), ("LONG", "closed")]


def test_opening_orders_of_both_sides_reserve_in_full():
    def resting(strategy):
        long_only(strategy, size=50, exectype=bt.Order.Limit, price=90)
        strategy.sell(size=50, exectype=bt.Order.Limit, price=110, **SHORT)

    strategy = hedge({1: resting, 2: long_only}, frame([CALM] * 3))
    assert strategy.broker.record.column("order_margin")[1] == 50 * 90 / 10 + 50 * 110 / 10
    assert states(strategy)[2] == ("Margin", 0)


@pytest.mark.parametrize("netting", ["larger_side", "both_sides", "net_bids"])
@pytest.mark.parametrize("first", ["LONG", "SHORT"])
def test_a_group_on_both_legs_reserves_its_larger_member(first, netting):
    """60 bought at 110 take 660 and 60 sold at 90 take 540: both are not there, but one ends the other. At 7x the larger takes 943."""

    def straddle(strategy):
        stop = {"size": 60, "exectype": bt.Order.Stop}
        orders = [(strategy.buy, 110, LONG), (strategy.sell, 90, SHORT)]
        (send, price, leg), (other, opposite, its_leg) = orders if first == "LONG" else orders[::-1]
        other(price=opposite, oco=send(price=price, **leg, **stop), **its_leg, **stop)

    script = {1: straddle, 3: lambda s: s.broker.set_leverage(s.data, 7), 4: lambda s: s.broker.set_leverage(s.data, 10)}
    terms = {"order_terms": OrderTerms(netting=netting)}
    strategy = hedge(script, frame([STILL] * 5 + [(100, 105, 89, 90), (90,) * 4]), terms=terms, margin_mode="cross")
    assert list(strategy.broker.record.column("order_margin")) == pytest.approx([0, 660, 660, 6_600 / 7, 660, 0, 0])
    assert dict(zip(("LONG", "SHORT") if first == "LONG" else ("SHORT", "LONG"), states(strategy), strict=True)) == {
        "LONG": ("Canceled", 0),
        "SHORT": ("Completed", -60),
    }


def test_exits_reserve_nothing_and_lend_no_room_to_what_opens_after_them():
    def orders(strategy):
        strategy.sell(size=3, **LONG)  # all that is held, and two more that are cut off
        long_only(strategy, size=99)

    strategy = hedge({1: long_only, 2: orders}, frame([STILL] * 4))
    assert states(strategy) == [("Completed", 1), ("Completed", -1), ("Completed", 99)]
    assert strategy.broker.initial_margin() == 990


REFUSED = {
    "no side": (lambda s: s.buy(size=1), "AAA: in hedge mode an order names its leg, position_side='LONG' or position_side='SHORT'"),
    "close()": (lambda s: s.close(), "to close one use broker.close_side(data, side)"),
    "a word": (lambda s: s.buy(size=1, position_side="long"), "AAA: position_side is 'LONG' or 'SHORT', was 'long'"),
    "a list": (lambda s: s.buy(size=1, position_side=["LONG"]), "AAA: position_side is 'LONG' or 'SHORT', was ['LONG']"),
    "nothing to close": (lambda s: s.buy(size=1, **SHORT), "AAA:SHORT: a closing order of 1 finds nothing to close, the position is flat"),
    "reduce-only, and it opens": (
        lambda s: long_only(s, reduce_only=True),
        "AAA:LONG: a reduce-only order of 1 finds nothing to close, the position is 1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_order_without_a_leg_to_change_is_rejected(case):
    order, sentence = REFUSED[case]
    strategy = hedge({1: long_only, 2: order}, frame([CALM] * 4))
    assert states(strategy)[1] == ("Rejected", 0)
    reason, message = said(strategy)[1]
    assert reason == ("reduce_only" if "finds nothing" in sentence else "position_side")
    assert sentence in message
    assert Result(strategy).refusals["message"].tolist() == [message]
    assert sizes(strategy) == (1, 0)


def test_a_side_in_one_way_mode_is_rejected():
    strategy = play({1: long_only}, frame([CALM] * 3))
    assert states(strategy) == [("Rejected", 0)]
    assert [message for _, message in said(strategy)] == [
        "AAA: a position_side belongs to hedge mode; leave it out, or run with position_mode='hedge', was 'LONG'"
    ]


def test_the_exits_of_a_bracket_close_their_own_leg():
    def bracket(strategy):
        strategy.sell(size=1, **SHORT)
        strategy.buy_bracket(size=1, exectype=bt.Order.Market, stopprice=96, limitprice=104, **LONG)

    strategy = hedge({1: bracket}, frame([CALM, CALM, (100, 105, 100, 105), CALM]))
    assert states(strategy) == [("Completed", -1), ("Completed", 1), ("Canceled", 0), ("Completed", -1)]
    assert sizes(strategy) == (0, -1)


def test_children_inherit_the_side_of_their_entry():
    def bracket(strategy):
        entry = strategy.sell(size=1, transmit=False, **SHORT)
        strategy.buy(size=1, exectype=bt.Order.Stop, price=104, parent=entry)

    strategy = hedge({1: bracket}, frame([CALM, CALM, (100, 105, 100, 105), CALM]))
    assert [info["position_side"] for *_, info in strategy.orders.values()] == ["SHORT", "SHORT"]
    assert states(strategy) == [("Completed", -1), ("Completed", 1)]
    assert sizes(strategy) == (0, 0)


def test_close_side_closes_one_leg():
    sent = []

    def leave(strategy):
        sent.append(strategy.broker.close_side(strategy.data, "SHORT"))

    strategy = hedge({1: sized(1, 2), 2: leave, 3: leave}, frame([CALM] * 5))
    assert (sent[0].size, sent[0].info["position_side"], sent[1]) == (2, "SHORT", None)
    assert sizes(strategy) == (1, 0)


def test_close_side_takes_the_terms_of_an_order():
    def leave(strategy):
        strategy.broker.close_side(strategy.data, "LONG", size=0.5, exectype=bt.Order.Limit, price=101)

    strategy = hedge({1: long_only, 2: leave}, frame([CALM] * 4))
    assert states(strategy)[1] == ("Completed", -0.5)
    assert strategy.broker.record.fills[1].price == 101


def test_the_largest_order_is_asked_for_by_leg():
    strategy = hedge({1: both}, frame([STILL] * 3), margin_mode="cross")
    broker, data = strategy.broker, strategy.data
    assert broker.max_size(data, isbuy=True, side="LONG") == (1_000 - 20) / 10
    assert broker.max_size(data, isbuy=False, side="LONG") == 1
    assert broker.max_size(data, isbuy=True, side="SHORT") == 1
    with pytest.raises(ValueError, match="in hedge mode a side is 'LONG' or 'SHORT', was None"):
        broker.max_size(data, isbuy=True)


# -- terms -----------------------------------------------------------------------------------------------------------


def test_both_legs_share_leverage_and_margin_mode():
    flat = hedge({}, frame([CALM] * 2))
    flat.broker.set_leverage(flat.data, 5)
    flat.broker.set_margin_mode(flat.data, "cross")
    assert {(p.leverage, p.wallet) for p in flat.broker.account.positions.values()} == {(5, "wallet:cross")}
    held = hedge({1: lambda s: s.sell(size=1, **SHORT)}, frame([CALM] * 3))
    for change in (lambda: held.broker.set_leverage(held.data, 5), lambda: held.broker.set_margin_mode(held.data, "cross")):
        with pytest.raises(ValueError, match=r"AAA:SHORT: the (leverage|margin mode) of an open"):
            change()
    assert {(p.leverage, p.is_isolated) for p in held.broker.account.positions.values()} == {(10, True)}


def test_lowering_leverage_in_cross_needs_the_margin_of_both_legs():
    strategy = hedge({1: sized(40, 40)}, frame([STILL] * 3), margin_mode="cross")
    with pytest.raises(ValueError, match="AAA: 5x needs 800 more initial margin, available is 200"):
        strategy.broker.set_leverage(strategy.data, 5)
    strategy.broker.set_leverage(strategy.data, 8)
    assert strategy.broker.initial_margin() == 8_000 / 8


def test_margin_is_added_to_the_leg_that_is_named():
    strategy = hedge({1: both}, frame([CALM] * 3))
    broker, data = strategy.broker, strategy.data
    broker.add_margin(data, 5, "SHORT")
    assert broker.account.wallets["wallet:AAA:SHORT"] == 15
    assert broker.liquidation_price(data, "SHORT") == pytest.approx((100 + 15) / 1.01)
    assert broker.liquidation_price(data, "LONG") == pytest.approx((100 - 10) / 0.99)
    broker.remove_margin(data, 2, side="SHORT")
    assert broker.account.wallets["wallet:AAA:SHORT"] == 13
    for ask in (lambda: broker.add_margin(data, 5), lambda: broker.liquidation_price(data), lambda: broker.bankruptcy_price(data)):
        with pytest.raises(ValueError, match="AAA: a long and a short are held and this is of one of them; say side='LONG'"):
            ask()


def test_the_only_leg_that_is_held_needs_no_name():
    strategy = hedge({1: long_only}, frame([CALM] * 3))
    strategy.broker.add_margin(strategy.data, 5)
    assert strategy.broker.liquidation_price(strategy.data) == pytest.approx((100 - 15) / 0.99)
    with pytest.raises(ValueError, match="'LONG' or 'SHORT', was 'both'"):
        strategy.broker.getposition(strategy.data, "both")


def test_a_rule_names_the_contract_of_a_data_without_a_name_and_not_its_legs():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(position_mode="hedge", margin_mode="isolated", cash=1_000, top_up={"data0": TopUp(amount=5)}, check=True)
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=10, tiers=0.01))
    cerebro.adddata(PerpData(dataname=frame([CALM, CALM, (100, 109.5, 90.5, 100)])))
    cerebro.addstrategy(Script, script={1: both})
    strategy = cerebro.run()[0]
    assert [row.account for row in strategy.broker.record.top_ups] == ["wallet:data0:LONG", "wallet:data0:SHORT"]
    assert sizes(strategy) == (1, -1)


@pytest.mark.parametrize("mode", ["one_way", "hedge"])
def test_what_has_no_sides_is_not_closed_by_one(mode):
    def end(strategy):
        with pytest.raises(ValueError, match="AAA: it has no sides to close one of; close what is held by the strategy's own close"):
            strategy.broker.close_side(strategy.data, None)

    terms = {"kind": "spot", "leverage": 1, "tiers": None} if mode == "hedge" else {}
    assert (
        play({1: lambda s: s.buy(size=1), 3: end}, frame([CALM] * 4), terms=terms, margin_mode="cross", position_mode=mode).position.size
        == 1
    )


def test_spot_has_one_position_in_hedge_mode():
    terms = {"kind": "spot", "leverage": 1, "tiers": None, "liquidation_fee": 0.0}
    strategy = hedge({1: lambda s: s.buy(size=1), 2: long_only}, frame([CALM] * 4), terms=terms, margin_mode="cross")
    assert list(strategy.broker.account.positions) == ["AAA"]
    assert states(strategy) == [("Completed", 1), ("Rejected", 0)]
    assert "spot has one position and no position_side" in said(strategy)[1][1]


def test_a_resampled_copy_has_legs_of_its_own():
    cerebro = bt.Cerebro()
    cerebro.broker = MarginBroker(position_mode="hedge", check=True)
    data = PerpData(dataname=frame([CALM] * 6), name="AAA")
    cerebro.adddata(data)
    cerebro.resampledata(data, timeframe=bt.TimeFrame.Minutes, compression=180)
    cerebro.addstrategy(Watched, script={3: both})
    strategy = cerebro.run()[0]
    assert list(strategy.broker.slots) == ["AAA:LONG", "AAA:SHORT", "AAA#1:LONG", "AAA#1:SHORT"]
    assert Result(strategy).symbols == ["AAA"]
    assert len(strategy.broker.record.fills) == 2


def test_what_hedge_mode_cannot_do_is_refused_with_a_sentence():
    with pytest.raises(ValueError, match="position_mode is one of 'one_way', 'hedge', was 'both'"):
        MarginBroker(position_mode="both")
    cerebro = bt.Cerebro()
    cerebro.broker = MarginBroker(position_mode="hedge")
    cerebro.adddata(PerpData(dataname=frame([CALM] * 2), name="AAA"))
    cerebro.add_order_history([["2024-01-01", 1, 100]])
    with pytest.raises(ValueError, match="an order history names no sides"):
        cerebro.run()


# -- what the run leaves behind --------------------------------------------------------------------------------------


class Watched(bt.Strategy):
    """Plays a script and notes what the host says of orders and trades."""

    params = (("script", None),)

    def __init__(self):
        self.heard, self.trades, self.orders = [], [], {}

    def notify_order(self, order):
        self.heard.append(order.getstatusname())
        self.orders[order.ref] = (order.getstatusname(), order.executed.size, order.executed.price, order.executed.comm, order.info)

    def notify_trade(self, trade):
        self.trades.append((trade.tradeid, "closed" if trade.isclosed else "open"))

    def next(self):
        self.p.script.get(len(self.data), lambda _: None)(self)


def run_watched(script, candles, *readers):
    """Run a script in hedge mode and return its strategy and the trades it heard of."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000, margin_mode="isolated", position_mode="hedge", check=True)
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=10, tiers=0.01, liquidation_fee=0.0))
    cerebro.adddata(PerpData(dataname=candles, name="AAA"))
    cerebro.addstrategy(Watched, script=script)
    for reader in readers:
        (cerebro.addobserver if issubclass(reader, bt.Observer) else cerebro.addanalyzer)(reader)
    strategy = cerebro.run()[0]
    return strategy, strategy.trades


def test_the_trades_of_the_legs_are_kept_apart_and_keep_the_strategy_s_own_ids():
    def out(strategy):
        strategy.buy(size=1, tradeid=7, **SHORT)
        strategy.broker.close_side(strategy.data, "LONG")

    script = {1: lambda s: (long_only(s), s.sell(size=1, tradeid=7, **SHORT)), 2: out}
    _, trades = run_watched(script, frame([CALM] * 4))
    assert trades == [("LONG", "open"), ("SHORT:7", "open"), ("SHORT:7", "closed"), ("LONG", "closed")]


def test_close_side_closes_the_trade_that_a_strategy_named():
    script = {1: lambda s: long_only(s, tradeid=7), 2: lambda s: s.broker.close_side(s.data, "LONG")}
    assert run_watched(script, frame([CALM] * 4))[1] == [("LONG:7", "open"), ("LONG:7", "closed")]


def test_results_analyzers_and_observers_tell_of_both_legs():
    bars = frame([CALM, CALM, (100, 100, 85, 95), (95, 95, 95, 95), (95, 95, 95, 95)])
    script = {1: both, 3: lambda s: s.broker.close_side(s.data, "SHORT")}
    readers = (analyzers.Liquidations, analyzers.Margin, bt.analyzers.TradeAnalyzer, observers.LiquidationPrice, observers.MarginRatio)
    strategy, _ = run_watched(script, bars, *readers)
    result = Result(strategy)
    assert (result.symbols, result.legs("AAA")) == (["AAA"], ["AAA:LONG", "AAA:SHORT"])
    assert result.fills["symbol"].tolist() == ["AAA:LONG", "AAA:SHORT", "AAA:LONG", "AAA:SHORT"]
    assert list(result.trades["side"]) == ["long", "short"]
    assert result.trades["net_pnl"].tolist() == pytest.approx([90 / 0.99 - 100, 5])
    assert list(result.margin_ratios) == ["AAA:LONG", "AAA:SHORT"]
    assert result.settings["position_mode"] == "hedge"
    assert result.settings["leverage"] == {"AAA": 10}
    liquidated, margin, trades = strategy.analyzers
    assert liquidated.get_analysis().by_symbol == {"AAA:LONG": 1}
    assert margin.get_analysis().highest_ratio == pytest.approx(1 / 10)
    assert trades.get_analysis().total.closed == 2
    shown = strategy.observers[0].lines.price.array
    assert shown[1] == pytest.approx(110 / 1.01)  # nearer to 100 than the long's 90.91
    assert shown[2] == pytest.approx(110 / 1.01)
    assert math.isnan(shown[4])


@pytest.mark.parametrize("margin_mode", ["cross", "isolated"])
def test_the_page_of_a_hedge_draws_its_legs_on_one_price(margin_mode):
    crash = (100, 100, 85, 95) if margin_mode == "isolated" else (100, 100, 1, 95)
    script = {1: sized(3, 1), 3: lambda s: s.broker.close_side(s.data, "SHORT")}
    cash = 1_000 if margin_mode == "isolated" else 100
    strategy = hedge(script, frame([CALM, CALM, CALM, crash, CALM, CALM]), margin_mode=margin_mode, cash=cash)
    result = Result(strategy)
    price = plots.page(result, symbol="AAA").axes[0]
    assert price.get_title(loc="left").startswith("Price")
    # Two liquidation prices, told apart by their dashes, where each leg has a wallet of its own; one where they share it.
    steps = [line.get_linestyle() for line in price.get_lines() if line.get_drawstyle() == "steps-post" and line.get_linewidth() == 1.5]
    assert steps == (["-", "--"] if margin_mode == "isolated" else ["-"])
    marks = sum(len(line.get_xdata()) for line in price.get_lines() if line.get_marker() in ("^", "v"))
    assert marks == len(result.fills) - len(result.liquidations)
    json.loads(result.to_json())


def test_a_run_and_the_command_line_take_the_position_mode(tmp_path):
    candles = frame([CALM, CALM, (100, 100, 85, 95), (95, 95, 95, 95)], start="2024-01-01")
    candles.to_csv(tmp_path / "BTCUSDT-1h.csv", index_label="datetime")
    (tmp_path / "pair.py").write_text(
        "import backtrader as bt\n\n\nclass Pair(bt.Strategy):\n    def next(self):\n        if len(self) == 1:\n"
        "            self.buy(size=1, position_side='LONG')\n            self.sell(size=1, position_side='SHORT')\n"
    )
    options = ["--venue", "generic", "--leverage", "10", "--margin-mode", "isolated", "--position-mode", "hedge", "--json"]
    out = CliRunner().invoke(app, ["run", str(tmp_path / "pair.py"), str(tmp_path / "BTCUSDT-1h.csv"), *options])
    assert out.exit_code == 0, out.output
    assert [row["symbol"] for row in json.loads(out.stdout)["liquidations"]] == ["BTCUSDT:LONG"]


def test_a_stock_baseline_of_a_hedge_is_refused():
    with pytest.raises(ValueError, match="in hedge mode there is no baseline"):
        run(Watched, {"AAA": frame([CALM] * 3)}, venue=None, params={"script": {}}, position_mode="hedge", baseline=True)
    assert (
        run(Watched, {"AAA": frame([CALM] * 3)}, venue=None, params={"script": {}}, position_mode="hedge").settings["position_mode"]
        == "hedge"
    )


@pytest.mark.parametrize("sizer", [sizers.EquityFraction, sizers.MarginFraction])
def test_a_sizer_opens_the_other_leg_with_its_own_size(sizer):
    size = []

    def other(strategy):
        size.append(strategy.getsizing(strategy.data, isbuy=False))

    strategy = hedge_with_sizer(sizer, {1: long_only, 2: other})
    assert strategy.broker.is_hedging
    assert size == [pytest.approx(10.0 if sizer is sizers.EquityFraction else 0.1 * (1_000 - 10) * 10 / 100)]


def hedge_with_sizer(sizer, script):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000, position_mode="hedge", check=True)
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=10, tiers=0.01))
    cerebro.adddata(PerpData(dataname=frame([STILL] * 3), name="AAA"))
    cerebro.addstrategy(Watched, script=script)
    cerebro.addsizer(sizer)
    return cerebro.run()[0]
