"""A seeded random trader does everything at once; ``check=True`` asserts the invariants on every bar."""

import math
import random

import backtrader as bt
import numpy as np
import pandas as pd
import pytest

from bt_margin import MarginBroker, PerpCommInfo, PerpData, TierTable
from bt_margin.core.profiles import PROFILES

TIERS = [(2_000, 0.01, 50), (10_000, 0.02, 25), (50_000, 0.05, 10), (None, 0.1, 5)]


def wild_frame(seed: int, bars: int, *, start: float, gap_every: int = 0) -> pd.DataFrame:
    """Return hourly candles with jumps, marks that differ from last, funding every 8 hours and, if asked, missing bars."""
    rng = np.random.default_rng(seed)
    closes = start * np.exp(np.cumsum(rng.normal(0, 0.012, bars) + (rng.random(bars) < 0.01) * rng.normal(0, 0.12, bars)))
    opens = np.concatenate([[start], closes[:-1]]) * np.exp(rng.normal(0, 0.001, bars))
    highs = np.maximum(opens, closes) * np.exp(np.abs(rng.normal(0, 0.01, bars)))
    lows = np.minimum(opens, closes) * np.exp(-np.abs(rng.normal(0, 0.01, bars)))
    index = pd.date_range("2024-01-01", periods=bars, freq="h", tz="UTC")
    frame = pd.DataFrame({"open": opens, "high": highs, "low": lows, "close": closes, "volume": 1.0}, index=index)
    middle = np.exp(rng.normal(0, 0.002, bars))
    for name in ("open", "close"):
        frame[f"mark_{name}"] = frame[name] * middle
    frame["mark_high"] = np.maximum(frame[["mark_open", "mark_close"]].max(axis=1), frame["high"] * 0.998)
    frame["mark_low"] = np.minimum(frame[["mark_open", "mark_close"]].min(axis=1), frame["low"] * 1.002)
    frame["funding_rate"] = np.where(index.hour % 8 == 0, rng.normal(0, 0.001, bars), np.nan)
    if gap_every:
        frame = frame[(np.arange(bars) % gap_every != 0) | (np.arange(bars) < 3)]
    return frame


class RandomTrader(bt.Strategy):
    """Markets, limits, stops, stop-limits, trails, brackets, OCO, targets, cancels, margin and leverage changes."""

    params = (("seed", 0), ("appetite", 0.15))

    def __init__(self):
        self.rng = random.Random(self.p.seed)
        self.seen: list[tuple] = []
        self.open_orders: list[bt.Order] = []
        self.values: list[float] = []
        self.refusals: list[tuple[str, str]] = []

    def notify_order(self, order):
        self.seen.append((order.data._name, order.getstatusname(), order.executed.size, order.executed.price, order.executed.comm))

    def next(self):
        self.values.append(self.broker.getvalue())
        for data in self.datas:
            if len(data) and self.rng.random() < self.p.appetite:
                self._act(data)

    def _act(self, data):
        rng, price = self.rng, data.close[0]
        free = max(self.broker.getcash(), 1.0)
        size = free * rng.choice((0.2, 1.0, 5.0, 30.0)) * rng.random() / self.broker.getcommissioninfo(data).getvaluesize(1.0, price)
        place = self.buy if rng.random() < 0.5 else self.sell
        away = price * (1 + rng.uniform(-0.03, 0.03))
        kind = rng.randrange(12)
        if kind <= 2:
            order = place(data=data, size=size)
        elif kind == 3:
            order = place(data=data, size=size, exectype=bt.Order.Limit, price=away)
        elif kind == 4:
            order = place(data=data, size=size, exectype=bt.Order.Stop, price=away)
        elif kind == 5:
            order = place(data=data, size=size, exectype=bt.Order.StopLimit, price=away, plimit=away * (1 + rng.uniform(-0.01, 0.01)))
        elif kind == 6:
            order = place(data=data, size=size, exectype=bt.Order.StopTrail, trailpercent=0.02)
        elif kind == 7:
            bracket = self.buy_bracket if place == self.buy else self.sell_bracket
            up, down = price * 1.02, price * 0.98
            stop, limit = (down, up) if place == self.buy else (up, down)
            order = bracket(data=data, size=size, exectype=bt.Order.Market, stopprice=stop, limitprice=limit)[0]
        elif kind == 8:
            order = place(data=data, size=size, exectype=bt.Order.Limit, price=price * 0.99)
            place(data=data, size=size, exectype=bt.Order.Stop, price=price * 1.01, oco=order)
        elif kind == 9:
            order = self.order_target_percent(data=data, target=rng.uniform(-8, 8))
        elif kind == 10:
            order = self.close(data=data)
        else:
            order = None
            self._change_terms(data)
        if order is not None:
            self.open_orders.append(order)
        if self.open_orders and rng.random() < 0.2:
            self.cancel(self.open_orders.pop(rng.randrange(len(self.open_orders))))

    def _change_terms(self, data):
        """Try what the account may refuse: its sentence is an answer too."""
        position = self.broker.getposition(data)
        try:
            if self.rng.random() < 0.5:
                self.broker.set_leverage(data, self.rng.choice((1, 3, 10, 40)))
            elif position.size:
                amount = self.broker.getcash() * self.rng.random() * 0.3 + 1.0
                (self.broker.add_margin if self.rng.random() < 0.6 else self.broker.remove_margin)(data, amount)
        except ValueError as refused:
            self.refusals.append((data._name, str(refused)))


def run_trader(
    seed: int,
    *,
    bars: int = 500,
    intrabar: str = "adverse",
    profile: str = "market",
    lot: float = 0.0,
    starts: tuple[float, ...] = (100.0, 3.0, 20_000.0),
    more: tuple[dict, ...] = ({}, {}, {}),
    **cerebro_args,
):
    """Run the random trader on three contracts, one cross, one isolated, one with gaps, and return its strategy.

    ``more`` are further terms of each contract, ``starts`` their first prices.
    """
    cerebro = bt.Cerebro(stdstats=False, **cerebro_args)
    broker = MarginBroker(cash=10_000, intrabar=intrabar, check=True)
    cerebro.broker = broker
    for number, (name, mode) in enumerate((("AAA", "cross"), ("BBB", "isolated"), ("CCC", "cross"))):
        terms = {"leverage": (20, 10, 5)[number], "commission": 0.0005, "maker": 0.0002, "lot": lot, "tiers": TIERS, "profile": profile}
        terms = {**terms, "margin_mode": mode, **more[number]}
        broker.addcommissioninfo(PerpCommInfo(**terms), name=name)
        frame = wild_frame(seed * 10 + number, bars, start=starts[number], gap_every=17 if name == "CCC" else 0)
        if terms.get("kind") == "spot":
            frame = frame.drop(columns="funding_rate")
        cerebro.adddata(PerpData(dataname=frame, name=name))
    cerebro.addstrategy(RandomTrader, seed=seed)
    return cerebro.run()[0]


@pytest.mark.parametrize(("seed", "profile"), [*((seed, "market") for seed in range(1, 4)), *enumerate(PROFILES)])
def test_random_trading_keeps_every_invariant(seed, profile):
    strategy = run_trader(seed, profile=profile)
    broker = strategy.broker
    balances = broker.journal.balances()
    assert broker.record.liquidations, "the trader must be wild enough to be liquidated"
    assert math.fsum(balances.values()) == pytest.approx(0.0, abs=1e-9 * broker.journal.turnover())
    assert math.fsum(v for k, v in balances.items() if k.startswith("wallet:")) == pytest.approx(broker.wallet_balance, rel=1e-9, abs=1e-6)
    assert all(name in sentence for name, sentence in strategy.refusals)
    assert min(broker.record.column("equity")) >= 0.0
    assert min(broker.record.column("lowest_equity")) >= -1e-6


INVERSE = {"kind": "inverse", "currency": "BTC", "mult": 100.0}
SPOT = {"kind": "spot", "leverage": 1, "tiers": None}


def slab(unit: str) -> dict:
    return {"tiers": TierTable.from_rows(TIERS, mode="slab", unit=unit)}


OTHERS = {
    "inverse": ({**INVERSE, "tiers": TierTable.from_rows(TIERS, unit="base")},) * 3,
    "inverse slab, at entry": ({**INVERSE, **slab("base"), "maintenance_basis": "entry"},) * 3,
    "inverse, bankruptcy fee": ({**INVERSE, "tiers": 0.01, "fee_in_margin": "bankruptcy"},) * 3,
    "slab": (slab("quote"),) * 3,
    "slab of contracts, notional fee": ({**slab("contracts"), "fee_in_margin": "notional"},) * 3,
    "at entry, bankruptcy fee": ({"maintenance_basis": "entry", "fee_in_margin": "bankruptcy"},) * 3,
    "spot beside perpetuals": ({}, {}, SPOT),
}


@pytest.mark.parametrize("others", OTHERS)
@pytest.mark.parametrize("profile", PROFILES)
def test_random_trading_of_every_kind_keeps_every_invariant(others, profile):
    starts = (20_000.0, 21_000.0, 20_500.0) if others.startswith("inverse") else (100.0, 3.0, 20_000.0)
    strategy = run_trader(2, bars=300, profile=profile, starts=starts, more=OTHERS[others])
    broker = strategy.broker
    balances = broker.journal.balances()
    assert broker.record.liquidations, "the trader must be wild enough to be liquidated"
    assert math.fsum(balances.values()) == pytest.approx(0.0, abs=1e-9 * broker.journal.turnover())
    assert min(broker.record.column("equity")) >= 0.0
    assert min(broker.record.column("lowest_equity")) >= -1e-6


@pytest.mark.parametrize("others", ["inverse", "slab", "spot beside perpetuals"])
def test_run_modes_agree_on_every_kind(others):
    once, other = (run_trader(7, bars=250, more=OTHERS[others], runonce=flag) for flag in (True, False))
    assert other.seen == once.seen
    assert other.broker.record.table().tolist() == once.broker.record.table().tolist()


@pytest.mark.parametrize("intrabar", ["favourable", "worst", "close"])
def test_other_intrabar_rules_keep_every_invariant(intrabar):
    assert run_trader(11, intrabar=intrabar).broker.record.liquidations
    assert run_trader(11, bars=300, intrabar=intrabar, more=OTHERS["inverse"]).broker.record.fills


def test_lots_keep_sizes_whole():
    assert run_trader(5, lot=0.01).broker.record.fills


@pytest.mark.parametrize("mode", [{"runonce": False}, {"preload": False}])
def test_run_modes_agree_to_the_last_fill(mode):
    once, other = run_trader(7), run_trader(7, **mode)
    assert other.seen == once.seen
    assert other.values == once.values
    assert other.broker.record.table().tolist() == once.broker.record.table().tolist()


def test_the_same_run_twice_is_the_same():
    assert run_trader(8).seen == run_trader(8).seen


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
def test_many_random_traders_keep_every_invariant(seed):
    profile, intrabar = [*PROFILES][seed % len(PROFILES)], ("adverse", "favourable", "close")[seed % 3]
    assert run_trader(seed, bars=1_500, profile=profile, intrabar=intrabar).broker.record.fills
