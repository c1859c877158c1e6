"""Bars of many contracts judged and recorded side by side leave what a look at each leaves, to the last digit."""

import pickle
import random

import backtrader as bt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bt_margin.basket
from bt_margin import MarginBroker, PerpCommInfo, PerpData, TierSchedule, TierTable, TopUp
from bt_margin.basket import Basket
from bt_margin.lull import Lull
from tests.scenarios.test_lulls import Curious, calm_frame, leavings
from tests.scenarios.test_random_trader import TIERS, wild_frame

pytestmark = pytest.mark.filterwarnings("ignore:.*cannot withdraw:UserWarning")  # the traders try, and both roads refuse

MANY = 4  # contracts that are many in these tests
CONTRACTS = MANY + 2


class Rebalancer(Curious):
    """Holds something of every contract nearly all of the time, and turns a few of them round on most bars."""

    params = (("share", 0.3), ("rests", 0.1))

    def __init__(self):
        super().__init__()
        self.hand = random.Random(self.p.seed + 2)
        self.odd = [data for number, data in enumerate(self.datas) if number % 5 == 4]

    def next(self):
        for data in self.datas:
            if len(self) > 2 and self.hand.random() > self.p.share / len(self.datas):
                continue
            side = self.hand.choice((1, -1))
            value = self.broker.getvalue() * self.hand.uniform(0.02, 0.5)
            if self.hand.random() < self.p.rests:
                price = data.close[0] * (1 - side * 0.002)
                kind = self.hand.choice((bt.Order.Limit, bt.Order.Stop))
                price = price if kind == bt.Order.Limit else data.close[0] * (1 + side * 0.002)
                (self.buy if side > 0 else self.sell)(data, size=value / data.close[0], exectype=kind, price=price)
            elif data in self.odd and self.hand.random() < 0.5:
                self.close(data)
            else:
                self.order_target_value(data, target=side * value)
        if self.mood.random() < self.p.curiosity:
            self._look()
        if self.mood.random() < 0.02:
            self._move()


class Restless(Rebalancer):
    """Changes leverage and modes on many bars, leaves everything now and then, and orders sizes that are numpy's."""

    def buy(self, data=None, size=None, **order):
        return super().buy(data, size=size if data in self.odd else np.float64(size), **order)

    def sell(self, data=None, size=None, **order):
        return super().sell(data, size=size if data in self.odd else np.float64(size), **order)

    def next(self):
        super().next()
        if len(self) % 40 == 0:
            for data in self.datas:
                self.close(data)
        if self.hand.random() < 0.3:
            data = self.hand.choice(self.datas)
            try:
                self.broker.set_leverage(data, self.hand.choice((2, 4, 12)))
                self.broker.set_margin_mode(data, self.hand.choice(("cross", "isolated")))
            except ValueError as refused:  # something is held of it
                self.told.append(str(refused))
        self.told.append((self.broker.getcash(), self.broker.available_margin))


def run(
    frames,
    *,
    modes="cross",
    seed=0,
    cerebro=bt.Cerebro,
    strategy=Rebalancer,
    strategy_args=None,
    cash=100_000,
    tiers=TIERS,
    **broker_args,
):
    engine = cerebro(stdstats=False)
    engine.broker = MarginBroker(cash=cash, **broker_args)
    for number, candles in enumerate(frames):
        name = f"C{number}"
        mode = "isolated" if modes == "isolated" or (modes == "mixed" and number % 3 == 1) else "cross"
        terms = {"leverage": (10, 5, 20)[number % 3], "commission": 0.0005, "maker": 0.0002, "tiers": tiers, "margin_mode": mode}
        engine.broker.addcommissioninfo(PerpCommInfo(**terms), name=name)
        engine.adddata(PerpData(dataname=candles, name=name))
    engine.addstrategy(strategy, seed=seed, **(strategy_args or {}))
    return engine.run()[0]


def both_roads(monkeypatch, frames, **kwargs):
    """Return how many bars the short road took; it must leave the same as a look at every contract on every bar."""
    taken = []
    with monkeypatch.context() as patch:
        patch.setattr(bt_margin.basket, "FEWEST", MANY)
        patch.setattr(bt_margin.basket, "PLANNED", 1)  # lulls are waited for, so that most bars come this way
        passes = Basket.passes
        patch.setattr(Basket, "passes", lambda basket: taken.append(passes(basket)) or taken[-1])
        short = run(frames, **kwargs)
    with monkeypatch.context() as patch:
        patch.setattr(Lull, "_find_out", lambda _: False)
        patch.setattr(Basket, "_find_out", lambda _: False)
        plain = run(frames, **kwargs)
    ours, theirs = leavings(short), leavings(plain)
    assert ours.pop("closest call") == pytest.approx(theirs.pop("closest call"), rel=1e-9)
    for name, left in theirs.items():
        assert ours[name] == left, name
    assert short.told == plain.told
    return sum(taken)


def calm_frames(count, bars=400):
    return [calm_frame(number, bars, start=(100.0, 7.0, 2_000.0)[number % 3]) for number in range(count)]


@pytest.mark.parametrize("modes", ["cross", "isolated", "mixed"])
@pytest.mark.parametrize("seed", [1, 2])
def test_many_contracts_leave_the_same_in_calm_markets_with_a_crash(monkeypatch, modes, seed):
    assert both_roads(monkeypatch, calm_frames(CONTRACTS), modes=modes, seed=seed) > 100


@pytest.mark.parametrize("cerebro", [bt.Cerebro, bt_margin.Cerebro])
def test_many_contracts_leave_the_same_by_both_loops(monkeypatch, cerebro):
    assert both_roads(monkeypatch, calm_frames(CONTRACTS, 200), cerebro=cerebro, seed=3) > 100


@pytest.mark.parametrize("modes", ["cross", "mixed"])
def test_many_contracts_leave_the_same_in_wild_markets(monkeypatch, modes):
    frames = [wild_frame(number, 150, start=100.0) for number in range(CONTRACTS)]
    both_roads(monkeypatch, frames, modes=modes, seed=4, cash=20_000, strategy_args={"share": 2.0})


@pytest.mark.parametrize(
    "account",
    [
        {"on_liquidation": "refill", "refill": 50_000.0},
        {"top_up": TopUp(amount=500.0, deposit=True)},
        {"unfunded": "shrink"},
        {"intrabar": "close"},
        {"intrabar": "worst"},
    ],
    ids="-".join,
)
def test_many_contracts_leave_the_same_by_every_rule_of_the_account(monkeypatch, account):
    both_roads(monkeypatch, calm_frames(CONTRACTS, 300), modes="mixed", seed=5, cash=30_000, strategy_args={"share": 1.0}, **account)


def test_many_contracts_leave_the_same_with_slippage(monkeypatch):
    class Slipping(MarginBroker):
        params = (("slip_perc", 0.0003), ("slip_open", True))

    monkeypatch.setattr(f"{__name__}.MarginBroker", Slipping)
    assert both_roads(monkeypatch, calm_frames(CONTRACTS, 200), seed=6) > 100


@settings(max_examples=5, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    modes=st.sampled_from(["cross", "isolated", "mixed"]),
    count=st.integers(MANY, MANY + 4),
    share=st.floats(0.05, 3.0),
    cash=st.sampled_from([5_000, 50_000, 1_000_000]),
)
def test_many_contracts_leave_the_same_for_any_trader(seed, modes, count, share, cash):
    with pytest.MonkeyPatch.context() as patch:
        frames = [calm_frame(seed + number, 160, start=50.0) for number in range(count)]
        both_roads(patch, frames, modes=modes, seed=seed, cash=cash, strategy_args={"share": share})


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_many_contracts_leave_the_same_where_terms_tiers_and_modes_change_and_sizes_are_numpys(monkeypatch, seed):
    frames = calm_frames(CONTRACTS, 300)
    for number, candles in enumerate(frames):
        candles["funding_rate"] = np.where(np.arange(300) % (30 + number) == 7, 0.0004, np.nan)
    others = [(rule[0], rule[1] * 1.5, *rule[2:]) for rule in TIERS]
    dates = [frames[0].index[bar].timestamp() for bar in (90, 210)]
    tiers = TierSchedule((0.0, *dates), tuple(TierTable.from_rows(rows) for rows in (TIERS, others, TIERS)))
    assert both_roads(monkeypatch, frames, modes="mixed", seed=seed, strategy=Restless, tiers=tiers, cash=10_000_000) > 30


class Mover(Rebalancer):
    """Moves a data by hand once."""

    def next(self):
        super().next()
        if len(self) == 60:
            self.datas[3].lines.rewind()
            self.datas[3].lines.advance()
        if len(self) == 90:
            self.datas[2].advance(2)  # stands a bar ahead of the others on the next one


def test_a_data_that_is_moved_by_hand_ends_the_short_road(monkeypatch):
    monkeypatch.setattr(Lull, "_find_out", lambda _: False)
    taken = both_roads(monkeypatch, calm_frames(CONTRACTS, 150), seed=7, strategy=Mover)
    assert 50 < taken <= 90


def test_what_many_contracts_leave_can_be_pickled_and_copied(monkeypatch):
    monkeypatch.setattr(bt_margin.basket, "FEWEST", MANY)
    broker = run(calm_frames(CONTRACTS, 120), seed=8).broker
    copied = pickle.loads(pickle.dumps(broker.record.spread))
    assert copied.holdings().tobytes() == broker.record.spread.holdings().tobytes()
    account = pickle.loads(pickle.dumps(broker.account))
    assert account.free_margin is None
    assert account.available_margin(broker.marks) == broker.account.available_margin(broker.marks)
