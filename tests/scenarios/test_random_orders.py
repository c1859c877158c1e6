"""A trader who sends every kind of order at once; each bar is audited, and what a walked path planned is what was booked."""

import itertools

import backtrader as bt
import pytest
from scenarios.test_random_trader import TIERS, RandomTrader, wild_frame

import bt_margin.clock
from bt_margin import MarginBroker, OrderTerms, PerpCommInfo, PerpData
from bt_margin.desk import REASONS


class OrderTrader(RandomTrader):
    """Grids, unlinked exits, OCO groups, brackets, post-only and reduce-only orders, several at a time."""

    def _act(self, data):
        rng, price, held = self.rng, data.close[0], self.getposition(data).size
        size = self.broker.max_size(data, rng.random() < 0.5) * rng.choice((0.2, 0.7, 1.0, 1.5)) + price / 1e9
        size = self.broker.slot_of(data).position.contract.floor_size(size)
        if not size:
            return
        place, back = (self.buy, self.sell) if rng.random() < 0.5 else (self.sell, self.buy)
        exits = {"data": data, "exectype": bt.Order.Limit, "price": price * (1.01 if held > 0 else 0.99)}
        kind = rng.randrange(9)
        if kind == 0:
            for step in range(1, 4):
                self.buy(data=data, size=size / 6, exectype=bt.Order.Limit, price=price * (1 - 0.006 * step))
                self.sell(data=data, size=size / 6, exectype=bt.Order.Limit, price=price * (1 + 0.006 * step))
        elif kind == 1 and held:
            close = self.sell if held > 0 else self.buy
            close(size=abs(held) * rng.choice((0.5, 1, 2)), reduce_only=rng.random() < 0.5, **exits)
            close(
                data=data,
                size=abs(held),
                exectype=bt.Order.Stop,
                price=price * (0.99 if held > 0 else 1.01),
                reduce_only=rng.random() < 0.5,
            )
        elif kind == 2:
            place(data=data, size=size)
            back(data=data, size=size, exectype=bt.Order.Limit, price=price * (1.01 if place == self.buy else 0.99))
        elif kind == 3:
            first = self.buy(data=data, size=size, exectype=bt.Order.Stop, price=price * 1.008)
            self.sell(data=data, size=size, exectype=bt.Order.Stop, price=price * 0.992, oco=first)
            self.sell(data=data, size=size / 2, exectype=bt.Order.Limit, price=price * 1.012, oco=first)
        elif kind == 4:
            kinds = rng.choice((bt.Order.Market, bt.Order.Limit))
            self.buy_bracket(data=data, size=size, exectype=kinds, price=price * 0.997, stopprice=price * 0.98, limitprice=price * 1.01)
        elif kind == 5:
            place(data=data, size=size, exectype=bt.Order.Limit, price=price * rng.uniform(0.99, 1.01), post_only=True)
        elif kind == 6:
            self.close(data=data)
            place(data=data, size=size)
        elif kind == 7:
            limit = price * (1.012 if rng.random() < 0.5 else 1.003)
            self.buy(data=data, size=size, exectype=bt.Order.StopLimit, price=price * 1.006, plimit=limit)
        else:
            for order in [order for order in self.broker.get_orders_open() if order.data is data]:
                self.cancel(order)
            self._change_terms(data)


def part(order, _price, ago):
    """Fill at most a fifth of the bar's volume, which is the size of three lots."""
    return min(abs(order.executed.remsize), 0.2 * order.data.volume[ago] * 50)


VENUES = {
    "usual": OrderTerms(),
    "binance": OrderTerms(margin_price="assumed", counts_loss=True, counts_fee=False),
    "bybit": OrderTerms(margin_price="quote"),
    "both": OrderTerms(netting="both_sides"),
    "bitmex": OrderTerms(netting="net_bids"),
}


def trade(seed, monkeypatch, *, bars=150, venue="usual", lot=0.0, filler=None, terms=None, **params):
    """Run the trader on three contracts and return its broker, and how many paths were compared with what was booked."""
    compared = watch_paths(monkeypatch)
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = broker = MarginBroker(cash=10_000, check=True, filler=filler, **params)
    for number, (name, mode) in enumerate((("AAA", "cross"), ("BBB", "isolated"), ("CCC", "cross"))):
        own = {"leverage": (20, 10, 5)[number], "commission": 0.0005, "maker": 0.0002, "lot": lot, "tiers": TIERS, "margin_mode": mode}
        broker.addcommissioninfo(PerpCommInfo(**{**own, "order_terms": VENUES[venue], **(terms or {})}), name=name)
        candles = wild_frame(seed * 10 + number, bars, start=(100.0, 30.0, 2_000.0)[number], gap_every=17 if name == "CCC" else 0)
        cerebro.adddata(PerpData(dataname=candles, name=name))
    cerebro.addstrategy(OrderTrader, seed=seed, appetite=0.3)
    cerebro.run()
    return broker, compared


def watch_paths(monkeypatch):
    """Compare the equity of the chosen plan with the account's once it has been applied; return the list of comparisons."""
    plans, compared = [], []
    plan_bar, run_path = bt_margin.clock.plan_bar, bt_margin.clock.BarClock._run_path

    def planning(*args, **kwargs):
        ends = plan_bar(*args, **kwargs)
        plans.extend(ends)
        return ends

    def running(clock, fresh, opening):
        plans.clear()
        run_path(clock, fresh, opening)
        marks = {**clock.marks, **{slot.symbol: slot.mark_close for slot in fresh}}
        booked, slack = clock.account.equity(marks), 1e-9 * clock.account.turnover
        assert any(abs(booked - plan.equity) <= slack for plan in plans), f"{booked} was booked, planned were {[p.equity for p in plans]}"
        compared.append(booked)

    monkeypatch.setattr(bt_margin.clock, "plan_bar", planning)
    monkeypatch.setattr(bt_margin.clock.BarClock, "_run_path", running)
    return compared


CASES = [
    *itertools.product((1,), VENUES, [{}, {"unfunded": "shrink"}]),
    (3, "usual", {"filler": part, "unfunded": "shrink"}),
    (4, "binance", {"filler": part}),
    (5, "usual", {"lot": 0.01, "unfunded": "shrink", "terms": {"tick": 0.01, "min_size": 0.05, "max_size": 40, "min_notional": 50}}),
    (6, "usual", {"lot": 0.01, "filters": "refuse", "terms": {"min_notional": 50}}),
    (7, "bybit", {"terms": {"fee_in_margin": "bankruptcy"}}),
    (8, "binance", {"terms": {"kind": "inverse", "currency": "BTC", "mult": 10.0, "tiers": 0.01}, "unfunded": "shrink"}),
    (9, "usual", {"intrabar": "favourable", "unfunded": "shrink"}),
]


@pytest.mark.parametrize(("seed", "venue", "how"), CASES)
def test_every_kind_of_order_keeps_the_invariants_and_is_booked_as_planned(seed, venue, how, monkeypatch):
    broker, compared = trade(seed, monkeypatch, venue=venue, **how)
    assert broker.record.fills
    assert compared
    assert {row.reason for row in broker.record.refusals} <= set(REASONS)
    assert min(broker.record.column("equity")) >= 0


def test_the_book_is_empty_of_margin_once_all_orders_have_ended(monkeypatch):
    broker, _ = trade(2, monkeypatch)
    alive = {order.ref for order in broker.pending if order.parent is None and not order.info.get("reduce_only")}
    assert broker.account.reserved_orders == alive
