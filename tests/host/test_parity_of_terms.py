"""Parity under every venue's terms: without danger a run equals stock BackBroker order for order, whatever margin asks.

At 1x, with far more money than the orders need, maintenance comes near nothing. So every order must fill on the same bar at
the same price as in stock; of linear contracts value must be the same too (stock knows no inverse ones).
"""

from math import isclose, isfinite

import backtrader as bt
import pytest
from host.test_parity import FEE, Diary, candles, first_difference, pandas_feed, run

from bt_margin import MarginBroker, PerpCommInfo, TierTable
from bt_margin.core.terms import MarginTerms

CASH = 1_000_000.0
INVERSE = {"kind": "inverse", "currency": "BTC", "mult": 100.0}
ROWS = [(500, 0.004, 100), (50_000, 0.02, 20), (None, 0.05, 10)]
SLAB = {unit: TierTable.from_rows(ROWS, mode="slab", unit=unit) for unit in ("quote", "base", "contracts")}
FEW = TierTable.from_rows([(2, 0.004, 100), (None, 0.02, 20)], unit="contracts")
DATED = ((float("-inf"), MarginTerms("entry", "bankruptcy")), (1_704_240_000.0, MarginTerms("mark", "bankruptcy")))  # from 2024-01-03

TERMS = {
    "plain": {},
    "fee at bankruptcy": {"fee_in_margin": "bankruptcy"},
    "fee of the notional, not in initial margin": {"margin_terms": MarginTerms("mark", "notional", fee_in_initial=False)},
    "at entry": {"maintenance_basis": "entry"},
    "at entry, fee at bankruptcy": {"maintenance_basis": "entry", "fee_in_margin": "bankruptcy"},
    "dated": {"margin_terms": DATED},
    "slab": {"tiers": SLAB["quote"]},
    "slab of base": {"tiers": SLAB["base"]},
    "slab of contracts, fee of the notional": {"tiers": SLAB["contracts"], "fee_in_margin": "notional"},
    "contracts": {"tiers": FEW},
    "inverse": INVERSE,
    "inverse slab": {**INVERSE, "tiers": SLAB["base"]},
    "inverse slab of quote money at entry": {**INVERSE, "tiers": SLAB["quote"], "maintenance_basis": "entry"},
    "inverse, fee at bankruptcy": {**INVERSE, "tiers": FEW, "fee_in_margin": "bankruptcy"},
}


class Swinger(Diary):
    """Hold longs and shorts of a few contracts, with brackets, groups and trails, exits placed on both sides of the price."""

    def __init__(self):
        super().__init__()
        self.placed: list[bt.Order] = []

    def act(self):
        if self.placed and self.draw.random() < 0.25:  # before placing any: stock does not find an order to cancel on its own bar
            self.cancel(self.placed.pop(self.draw.randrange(len(self.placed))))
        for data in self.datas:
            if self.draw.random() < 0.4:
                self.placed += self.orders_for(data)

    def orders_for(self, data):
        draw, price = self.draw, data.close[0]
        side, sign = draw.choice(((self.buy, 1), (self.sell, -1)))
        terms, away, kind = {"data": data, "size": draw.choice((1, 2, 3))}, draw.uniform(0.002, 0.01), draw.randrange(7)
        if kind == 0:
            return [side(**terms)]
        if kind == 1:
            return [side(**terms, exectype=bt.Order.Limit, price=price * (1 - sign * away))]
        if kind == 2:
            return [side(**terms, exectype=bt.Order.Stop, price=price * (1 + sign * away))]
        if kind == 3:
            return [side(**terms, exectype=bt.Order.StopLimit, price=price * (1 + sign * away), plimit=price * (1 + sign * away * 1.2))]
        if kind == 4:
            return [side(**terms, exectype=bt.Order.StopTrail, trailpercent=0.01)]
        if kind == 5:
            bracket = self.buy_bracket if sign > 0 else self.sell_bracket
            exits = {"stopprice": price * (1 - sign * away), "limitprice": price * (1 + sign * away)}
            return bracket(**terms, exectype=bt.Order.Market, **exits)
        limit = side(**terms, exectype=bt.Order.Limit, price=price * (1 - sign * away))
        return [limit, side(**terms, exectype=bt.Order.Stop, price=price * (1 + sign * away), oco=limit)]


def stock():
    broker = bt.brokers.BackBroker(cash=CASH)
    broker.setcommission(commission=FEE)
    return broker


def ours(terms, mode):
    broker = MarginBroker(cash=CASH, margin_mode=mode, check=True)
    broker.addcommissioninfo(PerpCommInfo(**{"leverage": 1, "tiers": 0.005, "commission": FEE, **terms}))
    return broker


def orders_of(diary, *, with_money):
    """Return what was told of each order: its bar, number, kind, status, sizes and price, and its money where asked for."""
    return [row[: 13 if with_money else 8] for row in diary.told if row[1] == "order"]


@pytest.mark.parametrize(("mode", "seed"), [("cross", 1), ("isolated", 2)])
@pytest.mark.parametrize("name", TERMS)
def test_a_run_without_danger_equals_stock_order_for_order_under_all_terms(name, mode, seed):
    frames = [candles(rows=75, seed=110 + seed), candles(rows=75, seed=210 + seed)]
    is_inverse = "inverse" in name

    mine = run(ours(TERMS[name], mode), [pandas_feed(frame) for frame in frames], Swinger, seed=seed)
    theirs = run(stock(), [pandas_feed(frame) for frame in frames], Swinger, seed=seed)

    told, expected = (orders_of(diary, with_money=False) for diary in (mine, theirs))
    assert first_difference(told, expected) is None
    assert len([row for row in told if row[4] == "Completed"]) > 25
    assert mine.broker.record.walked_bars == 0
    if is_inverse:
        assert isfinite(mine.broker.getvalue())
    else:
        assert isclose(mine.broker.getvalue(), theirs.broker.getvalue(), rel_tol=1e-12)
