"""The short roads of orders do what the general ones do: the same traders with and without them, compared to the last bit.

Three are shut in turn: a lone market order that is accepted at once, an opening that clearly fits, and a bar with one
market order that passes without the clock's search.
"""

import random
from collections import Counter
from math import fsum, nan

import backtrader as bt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import CALM, frame, play
from scenarios.test_random_trader import TIERS, wild_frame

import bt_margin.clock
import bt_margin.lone
from bt_margin import MarginBroker, PerpCommInfo, PerpData
from bt_margin.core.account import MarginAccount
from bt_margin.core.ledger import Journal
from bt_margin.desk import OrderDesk


class Turner(bt.Strategy):
    """Reverses, adds, closes and now and then rests an order, in sizes from nothing to more than the account can carry."""

    params = (("seed", 0), ("sizes", (0.1, 1.0, 3.0)), ("rests", 0.1))

    def __init__(self):
        self.rng, self.seen = random.Random(self.p.seed), []

    def notify_order(self, order):
        executed = order.executed
        figures = [
            getattr(executed, name) for name in ("dt", "size", "remsize", "price", "value", "comm", "pnl", "margin", "psize", "pprice")
        ]
        bits = [tuple(vars(bit).values()) for bit in executed.iterpending()]
        self.seen.append((order.getstatusname(), order.getordername(), order.size, order.created.price, figures, bits, dict(order.info)))

    def notify_trade(self, trade):
        self.seen.append((trade.status, trade.size, trade.price, trade.value, trade.pnl, trade.pnlcomm, trade.dtopen, trade.dtclose))

    def next(self):
        rng = self.rng
        for data in self.datas:
            if not len(data):
                continue
            shown = self.getposition(data)
            self.seen.append({**vars(shown)})
            held, unit = shown.size, self.broker.getvalue() / data.close[0] * rng.choice(self.p.sizes)
            draw = rng.random()
            if draw < 0.4:
                self.order_target_size(data, target=-held if held else unit)
            elif draw < 0.55:
                (self.buy if rng.random() < 0.5 else self.sell)(data, size=unit * rng.random())
            elif draw < 0.65:
                self.close(data)
            elif draw < 0.65 + self.p.rests:
                self.buy(data, size=unit, exectype=bt.Order.Limit, price=data.close[0] * rng.uniform(0.98, 1.02))
            self.seen.append((self.broker.getcash(), self.broker.getvalue()))


def run(seed, *, datas, sizes, rests, terms, params):
    """Run the trader and return all that it, its journal and its record have seen."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = broker = MarginBroker(cash=10_000, check=True, **params)
    broker.addcommissioninfo(PerpCommInfo(**{"leverage": 10, "commission": 0.0005, "maker": 0.0002, "tiers": TIERS, **terms}))
    for number in range(datas):
        cerebro.adddata(PerpData(dataname=wild_frame(seed + number, 120, start=100.0), name="ABC"[number] * 3))
    cerebro.addstrategy(Turner, seed=seed, sizes=sizes, rests=rests)
    (strategy,) = cerebro.run()
    record = broker.record
    rows = [[tuple(row)[:-1] if name in ("fills", "refusals") else tuple(row) for row in getattr(record, name)] for name in KEPT]
    counts = [record.closest_call, record.bars_held, record.walked_bars, record.ambiguous_bars, record.only_worst_bars]
    series = [record.table().tolist(), record.holdings().tolist()]
    return repr((strategy.seen, broker.journal.entries, broker.account.wallets, rows, counts, series))


KEPT = ("fills", "funding", "liquidations", "refusals", "flows")


@pytest.fixture(scope="module")
def taken():
    """Count how often each short road is taken, so that a test of them cannot pass by never taking one."""
    return Counter()


def shut(patch):
    """Shut the short roads."""
    patch.setattr(bt_margin.desk, "send_market", lambda *_args: None)
    patch.setattr(bt_margin.clock, "pass_lone_order", lambda *_args: False)
    patch.setattr(OrderDesk, "_accept_at_once", lambda *_args: False)
    patch.setattr(MarginAccount, "clearly_fits", lambda *_args, **_kwargs: False)


def count(patch, taken):
    """Count the bars and orders that take a short road."""

    def counting(name, road):
        def counted(*args, **kwargs):
            found = road(*args, **kwargs)
            taken[name, bool(found)] += 1
            return found

        return counted

    patch.setattr(bt_margin.desk, "send_market", counting("sent", bt_margin.desk.send_market))
    patch.setattr(bt_margin.desk, "accept_market", counting("accepted", bt_margin.desk.accept_market))
    patch.setattr(bt_margin.lone, "_fill", counting("filled", bt_margin.lone._fill))
    patch.setattr(bt_margin.clock, "pass_lone_order", counting("bar", bt_margin.clock.pass_lone_order))
    patch.setattr(OrderDesk, "_accept_at_once", counting("order", OrderDesk._accept_at_once))
    patch.setattr(MarginAccount, "clearly_fits", counting("opening", MarginAccount.clearly_fits))
    patch.setattr(bt_margin.lone, "_is_clearly_held", counting("held", bt_margin.lone._is_clearly_held))


CASES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 999),
        "datas": st.sampled_from([1, 1, 2]),
        "sizes": st.sampled_from([(0.1, 1.0, 3.0), (0.5,), (1.0, 8.0, 12.0)]),
        "rests": st.sampled_from([0.0, 0.1]),
        "terms": st.sampled_from(
            [{}, {"lot": 0.01}, {"tiers": 0.01}, {"tiers": 0}, {"maker": -0.0001}, {"margin_mode": "isolated"}, {"commission": 0.0}]
        ),
        "params": st.sampled_from([{}, {"unfunded": "shrink"}, {"intrabar": "worst"}, {"slip_perc": 0.001}, {"coo": True}, {"coc": True}]),
    }
)


@settings(max_examples=12, deadline=None)
@given(CASES)
def test_the_short_roads_do_what_the_general_ones_do(taken, case):
    with pytest.MonkeyPatch.context() as patch:
        count(patch, taken)
        short = run(**case)
    with pytest.MonkeyPatch.context() as patch:
        shut(patch)
        general = run(**case)
    assert short == general


def test_the_short_roads_are_taken_and_left(taken):
    usual = {"seed": 4, "datas": 1, "rests": 0.1, "terms": {}, "params": {}}
    for sizes in ((0.1, 1.0), (1.0, 8.0, 12.0)):
        with pytest.MonkeyPatch.context() as patch:
            count(patch, taken)
            run(sizes=sizes, **usual)
    assert min(taken[name, went] for name in ("bar", "order", "opening") for went in (True, False)) >= 5
    assert min(taken[name, True] for name in ("sent", "accepted", "filled")) >= 5
    assert min(taken[name, False] for name in ("accepted", "filled")) >= 1
    assert taken["held", True] >= 5


def test_an_order_of_a_contract_that_has_no_bars_any_more_is_filled_on_no_other_ones():
    script = {2: lambda strategy: strategy.buy(strategy.datas[0], size=1), 6: lambda strategy: strategy.buy(strategy.datas[1], size=2)}
    strategy = play(script, frame([CALM] * 12), frame([CALM] * 4), margin_mode="cross", check=False)
    assert [(fill.symbol, fill.size) for fill in strategy.broker.record.fills] == [("AAA", 1)]
    assert [order.data._name for order in strategy.broker.pending] == ["BBB"]


@pytest.mark.parametrize("step", ["submit", "transmit", "notify", "submit_accept", "_execute", "_show_fill"])
@pytest.mark.parametrize("moment", ["__init__", "start"])
def test_a_step_that_a_strategy_puts_into_the_broker_is_taken_by_every_order(step, moment):
    def put_in(strategy):
        taken, own = strategy.taken, getattr(strategy.broker, step)
        setattr(strategy.broker, step, lambda *args, **kwargs: taken.append(len(strategy)) or own(*args, **kwargs))

    class Putting(Turner):
        def __init__(self):
            super().__init__()
            self.taken = []
            if moment == "__init__":
                put_in(self)

        def start(self):
            if moment == "start":
                put_in(self)

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=10_000)
    cerebro.adddata(PerpData(dataname=frame([CALM] * 30)))
    cerebro.addstrategy(Putting, seed=3, sizes=(0.1,), rests=0.0)
    strategy = cerebro.run()[0]
    filled = sum(1 for name, *_ in strategy.seen if name == "Completed")
    told = 3 if step == "notify" else 1
    assert filled > 10
    assert len(strategy.taken) >= told * filled


AMOUNTS = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, 1e-300, 1e300, 1.7e308, -1.7e308, 5e-324]))


@given(st.lists(AMOUNTS, min_size=1, max_size=4), st.sampled_from([0.0, 1e-10, 5e-10, 9.99e-10, 1.0001e-9, 1e-6]))
def test_a_journal_takes_exactly_the_entries_that_sum_to_zero_within_the_tolerance(amounts, off):
    try:
        last = -fsum(amounts)
        gross = fsum(map(abs, [*amounts, last]))
        amounts = [*amounts, last + off * gross]
        is_balanced = abs(fsum(amounts)) <= 1e-9 * fsum(map(abs, amounts))
    except OverflowError:
        return
    journal, postings = Journal.empty(), [(f"account {number}", amount) for number, amount in enumerate(amounts)]
    if is_balanced:
        journal.post(0.0, "adjust", "", *postings)
        assert journal.entries[0].postings == tuple(postings)
    else:
        with pytest.raises(AssertionError):
            journal.post(0.0, "adjust", "", *postings)


@pytest.mark.parametrize("amounts", [(1e308, 1e308), (nan, 0.0), (1.0, -1.0 + 3e-9), (5.0,)])
def test_a_journal_refuses_what_is_no_sum(amounts):
    with pytest.raises((AssertionError, OverflowError)):
        Journal.empty().post(0.0, "adjust", "", *((str(number), amount) for number, amount in enumerate(amounts)))
