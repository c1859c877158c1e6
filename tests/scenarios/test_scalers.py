"""Scalers attached to strategies that know nothing of them: what goes out, what is added, what ends a ladder."""

import backtrader as bt
import pandas as pd
import pytest

import bt_margin as bm
from bt_margin import MarginBroker, PerpCommInfo, PerpData
from bt_margin.scalers import Ladder, MarginTopUp, Pyramid, Rectangle, Rung, Rungs, Turtle, attach, ladder_table

CASH = 10_000.0


def candles(rows) -> pd.DataFrame:
    """Return hourly candles; one price stands for a bar that does not move."""
    bars = [row if isinstance(row, tuple) else (row,) * 4 for row in rows]
    index = pd.date_range("2024-01-01", periods=len(bars), freq="h", tz="UTC")
    return pd.DataFrame(bars, columns=["open", "high", "low", "close"], index=index, dtype=float).assign(volume=1.0)


class Script(bt.Strategy):
    """Does what ``acts`` says on the bar of each number, from 1; keeps every notification."""

    params = (("acts", {}), ("hear", None))

    def __init__(self):
        self.told = []
        self.sent = []

    def notify_order(self, order):
        self.told.append((len(self), order.getstatusname(), order.info.get("rung"), order.size))
        if self.p.hear is not None:
            self.p.hear(self, order)

    def prenext(self):
        self.next()

    def next(self):
        act = self.p.acts.get(len(self))
        if act is not None:
            self.sent.append(act(self))


def run(scaler, rows, acts, *, kind=bt.Cerebro, hear=None, leverage=10, margin_mode="cross", cash=CASH, broker=None, before=None, **terms):
    """Run a script of orders under margin, by a scaler if there is one, and return the finished strategy."""
    cerebro = kind(stdstats=False)
    cerebro.broker = MarginBroker(cash=cash, margin_mode=margin_mode, check=True, **(broker or {}))
    given = {"leverage": leverage, "tiers": 0.01, "liquidation_fee": 0.0, **terms}
    cerebro.broker.addcommissioninfo(PerpCommInfo(**given))
    cerebro.adddata(PerpData(dataname=candles(rows), name="A"))
    cerebro.addstrategy(Script, acts=acts, hear=hear)
    for each in [scaler] if scaler is not None else []:
        attach(cerebro, each, **({"before": before} if before else {}))
    return cerebro.run()[0]


def fills(strategy) -> list[tuple]:
    """Return (bar, size, price) of every fill."""
    first = strategy.broker.record.fills
    start = pd.Timestamp("2024-01-01", tz="UTC").timestamp()
    return [(round((fill.time - start) / 3600), round(fill.size, 9), round(fill.price, 9)) for fill in first]


def buy(size, **terms):
    return lambda strategy: strategy.buy(size=size, **terms)


def sell(size, **terms):
    return lambda strategy: strategy.sell(size=size, **terms)


def close(strategy):
    return strategy.close()


in_both = pytest.mark.parametrize("kind", [bt.Cerebro, bm.Cerebro], ids=["host", "ours"])
in_each_mode = pytest.mark.parametrize("margin_mode", ["cross", "isolated"])
THREE = Rungs(Ladder((Rung(0, 0.5), Rung(-0.1, 0.3), Rung(-0.2, 0.2))))


# -- what goes out ---------------------------------------------------------------------------------------------------


@in_both
@in_each_mode
def test_an_entry_becomes_the_first_rung_and_the_others_fill_at_their_own_prices(kind, margin_mode):
    rows = [100, 100, 100, (100, 100, 89, 89), (89, 89, 79, 85), 85, 85]
    strategy = run(THREE, rows, {1: buy(10), 6: close}, kind=kind, margin_mode=margin_mode, leverage=3)
    assert fills(strategy) == [(2, 5, 100), (4, 3, 90), (5, 2, 80), (7, -10, 85)]
    (told,) = strategy.analyzers.scaling.get_analysis()["ladders"]
    assert (told["price"], told["whole"], told["filled"], told["ended"]) == (100, 10, 3, "left")


@in_both
def test_a_short_is_the_mirror_of_a_long(kind):
    rows = [100, 100, 100, (100, 111, 100, 111), (111, 121, 111, 115), 115, 115]
    strategy = run(THREE, rows, {1: sell(10), 6: close}, kind=kind)
    assert fills(strategy) == [(2, -5, 100), (4, -3, 110), (5, -2, 120), (7, 10, 115)]


def test_the_strategy_hears_of_rungs_as_of_its_own_orders():
    strategy = run(THREE, [100, 100, 100, (100, 100, 89, 89), 89], {1: buy(10)})
    assert [row for row in strategy.told if row[2] == 2] == [(3, "Submitted", 2, 3), (3, "Accepted", 2, 3), (4, "Completed", 2, 3)]
    assert strategy.sent[0].info["whole"] == 10


@in_each_mode
def test_the_liquidation_price_after_each_rung_is_the_one_that_the_table_told_before(margin_mode):
    seen = {}

    def look(strategy, order):
        if order.status == order.Completed:
            seen[order.info["rung"]] = strategy.broker.liquidation_price(strategy.data)

    rows = [100, 100, 100, (100, 100, 89, 89), (89, 89, 79, 85), 85]
    terms = {"leverage": 3, "margin_mode": margin_mode, "commission": 0.001, "maker": 0.0002, "cash": 400.0}
    run(THREE, rows, {1: buy(10)}, hear=look, **terms)
    comminfo = PerpCommInfo(leverage=3, tiers=0.01, commission=0.001, maker=0.0002)
    table = ladder_table(THREE, side="long", entry_price=100, size=10, wallet=400, margin_mode=margin_mode, comminfo=comminfo, symbol="A")
    assert [row.liquidation_price for row in table.rows] == pytest.approx([seen[1], seen[2], seen[3]], rel=1e-12)
    assert table.rows[2].refused == ""


def test_the_table_comes_before_the_trade():
    tables = []
    run(THREE, [100, 100, 100], {1: buy(10)}, before=tables.append)
    (table,) = tables
    assert [row.price for row in table.rows] == [100, 90, 80]
    assert str(table).startswith("Rungs, long A at 10x cross")


@pytest.mark.parametrize(
    ("entry", "bars"),
    [
        (buy(10, exectype=bt.Order.Limit, price=95), []),
        (buy(10, exectype=bt.Order.Limit, price=95, valid=pd.Timestamp("2024-01-01 03:00").to_pydatetime()), []),
        (buy(1e6), []),
        (lambda strategy: strategy.cancel(strategy.buy(size=10)), []),
    ],
    ids=["unfilled", "expired", "unfunded", "cancelled"],
)
def test_an_entry_that_does_not_fill_begins_no_ladder(entry, bars):
    strategy = run(THREE, [100, 100, 100, 100, (96, 96, 96, 96)], {1: entry})
    assert fills(strategy) == bars
    assert strategy.analyzers.scaling.get_analysis()["ladders"] == []
    assert {rung for _, _, rung, _ in strategy.told} <= {1}


def half(order, price, ago):
    """Fill two contracts a bar."""
    return min(abs(order.executed.remsize), 2.0)


def test_rungs_wait_for_an_entry_that_fills_in_parts():
    strategy = run(THREE, [100, 100, 100, 100, 100, (100, 100, 85, 85)], {1: buy(10)}, broker={"filler": half})
    assert fills(strategy) == [(2, 2, 100), (3, 2, 100), (4, 1, 100), (6, 2, 90)]


def test_an_entry_cancelled_half_way_begins_a_ladder_of_what_has_filled():
    acts = {1: buy(10), 2: lambda strategy: strategy.cancel(strategy.sent[0])}
    strategy = run(THREE, [100, 100, 100, (100, 100, 85, 85)], acts, broker={"filler": half})
    (told,) = strategy.analyzers.scaling.get_analysis()["ladders"]
    assert told["whole"] == 2 / 0.5
    assert fills(strategy) == [(2, 2, 100), (4, 0.3 * 4, 90)]


def test_rungs_come_as_many_at_once_as_may_be_active():
    scaler = Rungs(Ladder((Rung(0, 0.5), Rung(-0.1, 0.3), Rung(-0.2, 0.2)), active=1))
    strategy = run(scaler, [100, 100, 100, (100, 100, 79, 79), 79, 79], {1: buy(10)})
    assert fills(strategy) == [(2, 5, 100), (4, 3, 90), (5, 2, 79)]


# -- what the strategy does meanwhile --------------------------------------------------------------------------------

FALL = [100, 100, 100, (100, 100, 89, 89), 89, 89, 89]


@pytest.mark.parametrize(
    "leave",
    [close, sell(10), lambda s: s.order_target_size(target=0), lambda s: s.order_target_percent(target=0.0), sell(8), sell(9)],
    ids=["close", "its whole", "target size", "target percent", "what is held", "between"],
)
def test_an_exit_closes_all_that_is_held_and_cancels_the_rungs(leave):
    strategy = run(THREE, [*FALL, (89, 89, 70, 70)], {1: buy(10), 5: leave})
    assert fills(strategy) == [(2, 5, 100), (4, 3, 90), (6, -8, 89)]
    assert strategy.told[-2:] == [(6, "Completed", None, -8)] or strategy.told[-1][:2] == (6, "Completed")
    assert not strategy.broker.pending


def test_an_exit_of_its_own_size_closes_a_ladder_that_is_larger():
    rise = [100, 101, 100, 101, 100, 101, (101, 110, 101, 110), 110, 110]
    strategy = run(Turtle(atr_period=3, stop=50), rise, {4: buy(2), 7: sell(2)}, leverage=20)
    sizes = [size for _, size, _ in fills(strategy)]
    assert sizes == [2, 2, 2, 2, -8]


@pytest.mark.parametrize(
    ("leave", "held"),
    [
        ({5: sell(20)}, -5),
        ({5: lambda s: (s.close(), s.sell(size=10))}, -5),
        ({5: lambda s: s.order_target_size(target=-10)}, -5),
        ({5: lambda s: s.order_target_value(target=-890.0)}, -5),
        ({5: lambda s: (s.close(), s.buy(size=10))}, 5),
    ],
    ids=["twice its whole", "close and sell", "target size", "target value", "close and buy"],
)
def test_a_reversal_cancels_the_ladder_and_begins_another(leave, held):
    strategy = run(THREE, [*FALL, 89, 89, 89], {1: buy(10), **leave})
    assert strategy.position.size == pytest.approx(held)
    first, second = strategy.analyzers.scaling.get_analysis()["ladders"]
    assert (first["ended"], first["filled"]) == ("left", 2)
    assert (second["side"], second["price"], second["whole"]) == (1 if held > 0 else -1, 89, pytest.approx(10))
    prices = sorted(order.created.price for order in strategy.broker.pending)
    assert prices == pytest.approx([97.9, 106.8] if held < 0 else [71.2, 80.1])


def test_a_part_is_what_it_says_and_ends_the_ladder():
    strategy = run(THREE, [*FALL, (89, 89, 70, 70)], {1: buy(10), 5: sell(2)})
    assert fills(strategy) == [(2, 5, 100), (4, 3, 90), (6, -2, 89)]
    assert strategy.analyzers.scaling.get_analysis()["ladders"][0]["ended"] == "reduced"


def test_adding_is_the_ladders_business_until_its_last_rung_has_filled():
    rows = [100, 100, 100, (100, 100, 89, 89), (89, 89, 79, 79), 79, 79]
    strategy = run(THREE, rows, {1: buy(10), 3: buy(1), 4: lambda s: s.order_target_size(target=10), 6: buy(1)})
    assert fills(strategy) == [(2, 5, 100), (4, 3, 90), (5, 2, 80), (7, 1, 79)]
    assert strategy.analyzers.scaling.get_analysis()["withheld"] == 2
    refused = strategy.broker.record.refusals
    assert [row.reason for row in refused] == ["scaler", "scaler"]
    assert strategy.sent[1].status == bt.Order.Rejected


def test_a_target_is_held_against_what_the_strategy_takes_itself_to_hold():
    rise = [100, 101, 100, 101, 100, 101, (101, 110, 101, 110), 110, 110]
    strategy = run(Turtle(atr_period=3, stop=50), rise, {4: buy(2), 7: lambda s: s.order_target_size(target=2)}, leverage=20)
    assert strategy.position.size == 8


def test_the_exits_of_a_bracket_grow_with_the_ladder():
    def bracket(strategy):
        return strategy.buy_bracket(size=10, exectype=bt.Order.Market, stopprice=85, limitprice=120)

    strategy = run(THREE, [100, 100, 100, (100, 100, 89, 89), 89, (89, 89, 84, 84), 84, 84], {1: bracket})
    assert fills(strategy) == [(2, 5, 100), (4, 3, 90), (6, -8, 85)]
    assert not strategy.broker.pending


def test_a_stop_loss_sent_after_the_entry_closes_all():
    def protect(strategy, order):
        if order.status == order.Completed and order.info.get("rung") == 1:
            strategy.sell(size=order.executed.size, exectype=bt.Order.Stop, price=85)

    strategy = run(THREE, [100, 100, 100, (100, 100, 89, 89), 89, (89, 89, 84, 84), 84, 84], {1: buy(10)}, hear=protect)
    assert fills(strategy) == [(2, 5, 100), (4, 3, 90), (6, -8, 85)]
    assert not strategy.broker.pending


def test_targets_of_half_each_close_all():
    def protect(strategy, order):
        if order.status == order.Completed and order.info.get("rung") == 1:
            for price in (110, 120):
                strategy.sell(size=order.executed.size / 2, exectype=bt.Order.Limit, price=price)

    rows = [100, 100, 100, (100, 100, 89, 89), 89, (89, 111, 89, 111), (111, 121, 111, 121), 121]
    strategy = run(THREE, rows, {1: buy(10)}, hear=protect)
    assert fills(strategy) == [(2, 5, 100), (4, 3, 90), (6, -4, 110), (7, -4, 120)]


def test_what_a_rung_buys_in_the_bar_of_the_stop_is_sold_at_the_next_open():
    def protect(strategy, order):
        if order.status == order.Completed and order.info.get("rung") == 1:
            strategy.sell(size=order.executed.size, exectype=bt.Order.Stop, price=85)

    strategy = run(THREE, [100, 100, 100, (100, 100, 84, 84), 83, 83], {1: buy(10)}, hear=protect)
    assert fills(strategy) == [(2, 5, 100), (4, 3, 90), (4, -5, 85), (5, -3, 83)]


def test_a_strategy_that_closes_what_a_rung_has_left_is_not_closed_twice():
    def protect(strategy, order):
        if order.status == order.Completed and order.info.get("rung") == 1:
            strategy.sell(size=order.executed.size, exectype=bt.Order.Stop, price=85)

    strategy = run(THREE, [100, 100, 100, (100, 100, 84, 84), 83, 83], {1: buy(10), 4: close}, hear=protect)
    assert fills(strategy) == [(2, 5, 100), (4, 3, 90), (4, -5, 85), (5, -3, 83)]
    assert strategy.position.size == 0


def test_what_the_strategy_adds_itself_is_not_covered_by_its_earlier_stop():
    acts = {1: buy(10), 4: sell(5, exectype=bt.Order.Stop, price=70), 6: buy(4)}
    rows = [100, 100, 100, 100, (100, 100, 79, 79), 79, 79, (79, 79, 69, 69), 69, 69]
    strategy = run(THREE, rows, acts)
    assert fills(strategy) == [(2, 5, 100), (5, 3, 90), (5, 2, 80), (7, 4, 79), (8, -10, 70)]
    assert strategy.position.size == 4


def test_an_average_true_range_of_bars_that_are_not_kept_is_refused():
    cerebro = bt.Cerebro(stdstats=False, exactbars=1)
    cerebro.broker = MarginBroker(cash=CASH)
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=10, tiers=0.01))
    cerebro.adddata(bt.feeds.PandasData(dataname=candles([100, 101] * 6).tz_localize(None)), name="A")
    cerebro.addstrategy(Script, acts={8: buy(1)})
    attach(cerebro, Turtle(atr_period=5))
    with pytest.raises(ValueError, match=r"an average needs 8 bars back, and exactbars keeps fewer"):
        cerebro.run()


def test_a_cancelled_rung_is_missed_and_the_others_stand():
    def drop(strategy, order):
        if order.info.get("rung") == 2 and order.status == order.Accepted:
            strategy.cancel(next(other for other in strategy.broker.pending if other.ref == order.ref))

    strategy = run(THREE, [100, 100, 100, (100, 100, 79, 79), 79], {1: buy(10)}, hear=drop)
    assert fills(strategy) == [(2, 5, 100), (4, 2, 80)]


# -- the account -----------------------------------------------------------------------------------------------------


def test_a_liquidation_cancels_the_ladder():
    strategy = run(THREE, [100, 100, 100, 100, (100, 100, 50, 50), 50, 50], {1: buy(10)}, margin_mode="isolated", leverage=20)
    assert strategy.position.size == 0
    assert not strategy.broker.pending
    assert strategy.analyzers.scaling.get_analysis()["ladders"][0]["ended"] == "liquidated"


def test_a_liquidation_at_the_open_comes_before_the_exit_that_was_sent():
    strategy = run(THREE, [100, 100, 100, 100, 100, 50, 50], {1: buy(10), 5: close}, margin_mode="isolated", leverage=20)
    assert strategy.analyzers.scaling.get_analysis()["ladders"][0]["ended"] == "liquidated"
    assert strategy.position.size == 0


def test_a_rung_without_margin_ends_the_ladder_and_moves_no_money():
    # 10x: the entry takes 50, rung 2 takes 27, of 75 there are 25 left
    strategy = run(THREE, [100, 100, 100, (100, 100, 95, 95), 95], {1: buy(10)}, cash=75.0)
    (told,) = strategy.analyzers.scaling.get_analysis()["ladders"]
    assert told["refused"].startswith("rung 2: A: opening 3 at 90 with 10x needs 27, available is 25")
    assert fills(strategy) == [(2, 5, 100)]
    assert {row.kind for row in strategy.broker.journal} == {"deposit"}
    assert not strategy.broker.pending


def test_rungs_whose_liquidation_lies_inside_the_next_are_not_placed():
    # isolated 10x: liquidation at 90 / 0.99 = 90.91, before rung 2 at 90
    scaler = Rungs(Ladder(THREE.own.rungs, refuse="beyond"))
    strategy = run(scaler, [100, 100, 100, 95, 95], {1: buy(10)}, margin_mode="isolated")
    (told,) = strategy.analyzers.scaling.get_analysis()["ladders"]
    assert told["refused"] == "rung 2: behind rung 1, whose liquidation at 90.909091 would come before rung 2 at 90"
    assert not strategy.broker.pending


@pytest.mark.parametrize("entry_bar", [1, 2, 3, 4, 9])
def test_distances_are_in_the_average_true_range_of_the_sizers_which_is_wilders(entry_bar):
    # true ranges of bars 2 to 9: 2, 4, 6, 1, 1, 1, 1, 13; the average of 3 begins with their mean, 4, at bar 4
    rows = [(100, 101, 100, 100), (100, 102, 100, 100), (100, 104, 100, 100), (100, 106, 100, 100), *[(100, 101, 100, 100)] * 4]
    rows += [(100, 113, 100, 100), *[100] * 3]
    wilders = 4.0
    for true_range in (1, 1, 1, 1, 13):
        wilders = wilders * 2 / 3 + true_range / 3
    expected = {1: 1, 2: 2, 3: (2 + 4) / 2, 4: 4, 9: wilders}  # before bar 4 the mean of those there are; of bar 1 high - low
    strategy = run(Turtle(atr_period=3), rows, {entry_bar: buy(1)}, leverage=5)
    (told,) = strategy.analyzers.scaling.get_analysis()["ladders"]
    assert told["atr"] == pytest.approx(expected[entry_bar], rel=1e-12)


def test_under_cheat_on_open_a_ladder_knows_nothing_of_the_bar_it_opens_in():
    class AtOpen(bt.Strategy):
        def next_open(self):
            if len(self.data) == 5:
                self.buy(size=1)

    def atr(last):
        cerebro = bt.Cerebro(stdstats=False, cheat_on_open=True)
        cerebro.broker = MarginBroker(cash=CASH, check=True, coo=True)
        cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=5, tiers=0.01))
        cerebro.adddata(PerpData(dataname=candles([(100, 101, 99, 100)] * 4 + [last] * 2), name="A"))
        cerebro.addstrategy(AtOpen)
        attach(cerebro, Turtle(atr_period=3))
        (told,) = cerebro.run()[0].analyzers.scaling.get_analysis()["ladders"]
        return told["atr"]

    assert atr((100, 100.5, 99.5, 100)) == atr((100, 100.5, 80, 90)) == 2


# -- stops -----------------------------------------------------------------------------------------------------------


def test_turtle_units_come_each_half_n_with_all_stops_two_n_under_the_last_fill():
    # true ranges of the three bars before the entry are 2 each: N = 2, units at +1, +2, +3, the stop 4 under the last fill
    calm = (100, 101, 99, 100)
    rows = [
        calm,
        calm,
        calm,
        calm,
        100,
        (100, 101.5, 100, 101.5),
        101.5,
        (101.5, 102.5, 101.5, 102.5),
        102.5,
        (102.5, 102.5, 97, 97),
        97,
        97,
    ]
    strategy = run(Turtle(atr_period=3), rows, {4: buy(1)}, leverage=5)
    assert fills(strategy) == [(5, 1, 100), (6, 1, 101), (8, 1, 102), (10, -3, 98)]
    (told,) = strategy.analyzers.scaling.get_analysis()["ladders"]
    assert (told["atr"], told["filled"], told["ended"]) == (2, 3, "stopped")
    assert not strategy.broker.pending


def test_turtle_units_follow_the_fill_that_gapped():
    calm = (100, 101, 99, 100)
    rows = [calm, calm, calm, calm, 100, (101.5, 101.5, 101.5, 101.5), (101.5, 102.6, 101.5, 102.6), 102.6]
    strategy = run(Turtle(atr_period=3), rows, {4: buy(1)}, leverage=5)
    assert fills(strategy) == [(5, 1, 100), (6, 1, 101.5), (7, 1, 102.5)]
    assert sorted(order.created.price for order in strategy.broker.pending) == [98.5, 103.5]


def test_a_pyramids_stop_trails_the_best_close_by_two_average_true_ranges():
    # N = 2; adds at 102 and 104; the best close is 105, so the stop stands at 101
    calm = (100, 101, 99, 100)
    rows = [calm, calm, calm, calm, 100, (100, 105, 100, 105), 105, (105, 105, 100, 100), 100]
    strategy = run(Pyramid(atr_period=3), rows, {4: buy(10)}, leverage=5)
    assert fills(strategy) == [(5, 3, 100), (6, 2, 102), (6, 1, 104), (8, -6, 101)]


def test_the_ladders_stop_and_the_strategys_never_sell_the_same_twice():
    def protect(strategy, order):
        if order.status == order.Completed and order.info.get("rung") == 1:
            strategy.sell(size=order.executed.size, exectype=bt.Order.Stop, price=97)

    calm = (100, 101, 99, 100)
    rows = [calm, calm, calm, calm, 100, 100, (100, 100, 90, 90), 90, 90]
    strategy = run(Turtle(atr_period=3), rows, {4: buy(1)}, leverage=5, hear=protect)
    assert [size for _, size, _ in fills(strategy)] == [1, -1]
    assert strategy.position.size == 0


# -- margin by rule --------------------------------------------------------------------------------------------------


def topped_up(rule, rows, acts=None, **terms):
    """Run a long of 10 at 100, isolated at 10x: 100 of margin, liquidation at (1 000 - 100) / 9.9 = 90.91."""
    return run(rule, rows, acts or {1: buy(10)}, margin_mode="isolated", **terms)


def test_margin_is_added_where_liquidation_comes_within_the_distance():
    # at 96 the distance is 5.3 %, at 95 it is 4.3 %; with 50 more liquidation lies at (1 000 - 150) / 9.9 = 85.86
    strategy = topped_up(MarginTopUp(within=0.05, amount=50), [100, 100, 96, 95, 92, 92])
    (row,) = strategy.analyzers.topping_up.get_analysis()["top_ups"]
    assert (row["amount"], row["distance"]) == (50, pytest.approx(1 - 900 / 9.9 / 95))
    assert (row["liquidation_price"], row["liquidation_price_after"]) == pytest.approx((900 / 9.9, 850 / 9.9))
    assert strategy.broker.liquidation_price(strategy.data) == pytest.approx(850 / 9.9)
    assert strategy.position.size == 10


@pytest.mark.parametrize(
    ("terms", "amounts"),
    [
        ({"times": 2}, [20, 20]),
        ({"times": None, "budget": 50}, [20, 20, 10]),
        ({"times": None}, [20] * 3),  # then liquidation lies at (1 000 - 160) / 9.9 = 84.85, 10.7 % away
    ],
    ids=["at most twice", "within a budget", "until it is far enough"],
)
def test_margin_is_added_no_more_often_than_the_rule_says(terms, amounts):
    strategy = topped_up(MarginTopUp(within=0.1, amount=20, **terms), [100, 100, 95, 95, 95, 95, 95])
    assert [row["amount"] for row in strategy.analyzers.topping_up.get_analysis()["top_ups"]] == amounts


def test_margin_brings_liquidation_back_to_a_distance():
    strategy = topped_up(MarginTopUp(within=0.05, to=0.1), [100, 100, 95, 95])
    assert strategy.broker.liquidation_price(strategy.data) == pytest.approx(95 * 0.9)


def test_no_more_margin_is_added_than_there_is():
    strategy = topped_up(MarginTopUp(within=0.05, amount=50), [100, 100, 95, 95], cash=130.0)
    assert [row["amount"] for row in strategy.analyzers.topping_up.get_analysis()["top_ups"]] == [30]


def test_the_next_position_has_uses_of_its_own():
    acts = {1: buy(10), 4: close, 6: sell(10)}
    strategy = topped_up(MarginTopUp(within=0.05, amount=50), [100, 100, 95, 95, 95, 95, 95, 100, 100], acts)
    assert [row["amount"] for row in strategy.analyzers.topping_up.get_analysis()["top_ups"]] == [50, 50]


def test_a_ladder_and_a_margin_rule_go_together():
    cerebro = bm.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=CASH, margin_mode="isolated", check=True)
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=10, tiers=0.01))
    cerebro.adddata(PerpData(dataname=candles([100, 100, 100, (100, 100, 92, 92), 92]), name="A"))
    cerebro.addstrategy(Script, acts={1: buy(10)})
    attach(cerebro, Rectangle(n=2, share=0.5, step=0.05), MarginTopUp(within=0.05, amount=20))
    (strategy,) = cerebro.run()
    assert strategy.position.size == 10
    assert len(strategy.analyzers.topping_up.get_analysis()["top_ups"]) == 1


# -- what cannot be ---------------------------------------------------------------------------------------------------


def cerebro_with(broker) -> bt.Cerebro:
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = broker
    cerebro.adddata(PerpData(dataname=candles([100, 100, 100]), name="A"))
    cerebro.addstrategy(Script)
    return cerebro


@pytest.mark.parametrize(
    ("broker", "scaler", "sentence"),
    [
        (bt.brokers.BackBroker(), Turtle(), "Turtle needs a MarginBroker, whose account it asks; the broker is a BackBroker"),
        (MarginBroker(position_mode="hedge"), Turtle(), "in hedge mode there are two: run with position_mode='one_way'"),
        (MarginBroker(), MarginTopUp(within=0.1, amount=1), "MarginTopUp is for isolated margin"),
    ],
    ids=["stock", "hedge", "cross"],
)
def test_a_broker_that_a_scaler_cannot_work_with_is_refused(broker, scaler, sentence):
    cerebro = cerebro_with(broker)
    attach(cerebro, scaler)
    with pytest.raises(ValueError, match=sentence):
        cerebro.run()


def test_only_one_scheme_is_attached():
    cerebro = cerebro_with(MarginBroker())
    attach(cerebro, Turtle())
    with pytest.raises(ValueError, match="one scheme and one MarginTopUp at most"):
        attach(cerebro, Rectangle())
    with pytest.raises(ValueError, match="a scaler is one of bt_margin"):
        attach(cerebro, "Turtle")
    with pytest.raises(ValueError, match="n of a Rectangle is a whole number"):
        attach(cerebro_with(MarginBroker()), Rectangle(n=0))


def test_run_takes_a_scaler_and_has_no_baseline_then():
    data = {"BTCUSDT": candles([100, 100, 100, (100, 100, 89, 89), 89])}
    result = bm.run(Script, data, leverage=3, params={"acts": {1: buy(10)}}, scaler=THREE, venue=None)
    assert list(result.fills["size"]) == [5, 3]
    assert result.settings["scaler"] == [repr(THREE)]
    assert result.settings["sizer"] == "FixedSize"
    with pytest.raises(ValueError, match="with a scaler there is no baseline"):
        bm.run(Script, data, params={"acts": {}}, scaler=THREE, baseline=True)
