"""A seeded random trader in hedge mode, and hedge mode with one side against one-way mode; ``check=True`` asserts on every bar."""

import math

import backtrader as bt
import pytest
from scenarios.test_random_trader import TIERS, RandomTrader, wild_frame

from bt_margin import MarginBroker, PerpCommInfo, PerpData, Result, TierTable
from bt_margin.core.profiles import PROFILES


class RandomHedger(RandomTrader):
    """The random trader with a side for each order; now and then with none, a wrong one, or one that holds nothing."""

    def buy(self, **kwargs):
        return super().buy(**{"position_side": self._side("LONG", "SHORT"), **kwargs})

    def sell(self, **kwargs):
        return super().sell(**{"position_side": self._side("SHORT", "LONG"), **kwargs})

    def _side(self, opening, closing):
        return opening if (draw := self.rng.random()) < 0.6 else closing if draw < 0.97 else None

    def close(self, data=None, **kwargs):
        return self.broker.close_side(data, self.rng.choice(("LONG", "SHORT")))

    def _change_terms(self, data):
        side = self.rng.choice(("LONG", "SHORT"))
        try:
            if self.rng.random() < 0.5:
                self.broker.set_leverage(data, self.rng.choice((1, 3, 10, 40)))
            elif self.broker.getposition(data, side).size:
                amount = self.broker.getcash() * self.rng.random() * 0.3 + 1.0
                (self.broker.add_margin if self.rng.random() < 0.6 else self.broker.remove_margin)(data, amount, side)
        except ValueError as refused:
            self.refusals.append((data._name, str(refused)))


class OneSided(RandomTrader):
    """The random trader who only ever holds longs: what sells is cut to what is held, and nothing sells twice."""

    params = (("is_hedging", False),)

    def _act(self, data):
        rng, price, held = self.rng, data.close[0], self.broker.getposition(data).size
        leg = {"position_side": "LONG"} if self.p.is_hedging else {}
        size = max(self.broker.getcash(), 1.0) * rng.choice((1.0, 5.0, 15.0)) * rng.random()
        size /= self.broker.getcommissioninfo(data).getvaluesize(1.0, price)
        if any(order.alive() and order.data is data for order in self.open_orders):
            return
        kind = rng.randrange(5)
        if kind <= 1:
            order = self.buy(data=data, size=size, **leg)
        elif kind == 2:
            order = self.buy(data=data, size=size, exectype=bt.Order.Limit, price=price * 0.99, valid=data.datetime.datetime(0), **leg)
        elif held and kind == 3:
            order = self.sell(data=data, size=held, exectype=bt.Order.Stop, price=price * 0.98, **leg)
        elif held:
            order = self.sell(data=data, size=held * rng.choice((0.5, 1.0)), **leg)
        else:
            return
        self.open_orders.append(order)


def run_hedger(seed, strategy=RandomHedger, *, bars=300, profile="market", position_mode="hedge", more=None, **cerebro_args):
    """Run a random trader on three contracts, one cross, one isolated, one with gaps, and return its strategy."""
    intrabar, params = cerebro_args.pop("intrabar", "adverse"), cerebro_args.pop("params", {})
    cerebro = bt.Cerebro(stdstats=False, **cerebro_args)
    cerebro.broker = MarginBroker(cash=10_000, intrabar=intrabar, position_mode=position_mode, check=True)
    starts = (20_000.0, 21_000.0, 20_500.0) if more and more.get("kind") == "inverse" else (100.0, 3.0, 20_000.0)
    for number, (name, mode) in enumerate((("AAA", "cross"), ("BBB", "isolated"), ("CCC", "cross"))):
        terms = {"leverage": (20, 10, 5)[number], "commission": 0.0005, "maker": 0.0002, "tiers": TIERS, "profile": profile}
        cerebro.broker.addcommissioninfo(PerpCommInfo(**{**terms, "margin_mode": mode, **(more or {})}), name=name)
        frame = wild_frame(seed * 10 + number, bars, start=starts[number], gap_every=17 if name == "CCC" else 0)
        cerebro.adddata(PerpData(dataname=frame, name=name))
    cerebro.addstrategy(strategy, seed=seed, **params)
    return cerebro.run()[0]


def held_both(record):
    """Return on how many bars both legs of a contract were held at the close."""
    rows = [(row, number) for row, number, *_ in record.holdings().tolist()]
    seen = set(rows)
    return sum((row, number + 1) in seen for row, number in rows if number % 2 == 0)


KINDS = {
    "linear": {},
    "inverse": {"kind": "inverse", "currency": "BTC", "mult": 100.0, "tiers": TierTable.from_rows(TIERS, unit="base")},
    "slab, notional fee": {"tiers": TierTable.from_rows(TIERS, mode="slab", unit="contracts"), "fee_in_margin": "notional"},
}


@pytest.mark.parametrize(("seed", "profile"), list(enumerate(PROFILES, 18)))
def test_random_hedging_keeps_every_invariant(seed, profile):
    strategy = check_hedger(seed, profile, [*KINDS][seed % len(KINDS)])
    record = strategy.broker.record
    assert held_both(record) > 20
    assert record.liquidations, "the trader must be wild enough to be liquidated"
    assert {row.size > 0 for row in record.fills if row.symbol.endswith(":LONG")} == {True, False}
    assert {"Rejected", "Canceled", "Margin"} <= {state for _, state, *_ in strategy.seen}


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "profile"), list(enumerate([*PROFILES] * 3, 18)))
@pytest.mark.parametrize("kind", KINDS)
def test_many_random_hedgers_keep_every_invariant(seed, profile, kind):
    assert check_hedger(seed, profile, kind).broker.record.fills


def check_hedger(seed, profile, kind):
    """Run a hedger, whose broker checks itself, and check what is left of its run."""
    strategy = run_hedger(seed, profile=profile, more=KINDS[kind], params={"appetite": 0.3})
    record, journal = strategy.broker.record, strategy.broker.journal
    assert math.fsum(journal.balances().values()) == pytest.approx(0.0, abs=1e-9 * journal.turnover())
    assert min(record.column("equity")) >= 0.0
    assert min(record.column("lowest_equity")) >= -1e-6
    assert (Result(strategy).positions["liquidation_price"].dropna() > 0).all()
    return strategy


@pytest.mark.parametrize("mode", [{"runonce": False}, {"preload": False}])
def test_run_modes_agree_in_hedge_mode(mode):
    once, other = run_hedger(3), run_hedger(3, **mode)
    assert other.seen == once.seen
    assert other.broker.record.table().tolist() == once.broker.record.table().tolist()


@pytest.mark.parametrize("intrabar", ["favourable", "close"])
def test_other_intrabar_rules_keep_every_invariant_in_hedge_mode(intrabar):
    assert run_hedger(4, intrabar=intrabar).broker.record.fills


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [7, 11])
def test_longs_alone_are_to_the_cent_what_they_are_in_one_way_mode(seed, kind):
    one_way, hedged = (
        run_hedger(seed, OneSided, position_mode=mode, more=KINDS[kind], params={"is_hedging": mode == "hedge", "appetite": 0.3})
        for mode in ("one_way", "hedge")
    )
    assert {len(run.broker.record.liquidations) > 0 for run in (one_way, hedged)} == {True}
    assert hedged.seen == one_way.seen
    entries = [
        [(entry.time, entry.kind, entry.symbol.removesuffix(":LONG"), entry.postings[0][1]) for entry in run.broker.journal.entries]
        for run in (one_way, hedged)
    ]
    assert entries[0] == entries[1]
    assert len({kind for _, kind, *_ in entries[0]}) >= 5
    for column in ("equity", "lowest_equity", "initial_margin", "maintenance_margin", "order_margin", "available_margin"):
        assert list(hedged.broker.record.column(column)) == pytest.approx(list(one_way.broker.record.column(column)), rel=1e-12, abs=1e-9)
    assert hedged.broker.record.closest_call == one_way.broker.record.closest_call
