"""The screen may only err towards walking: what it lets pass fails no wallet, whatever fills, in whichever order.

The traders of ``wild`` hold cross and isolated positions of every kind beside each other, with orders of every kind.
"""

from math import inf
from random import Random

import backtrader as bt
import numpy as np
import pandas as pd
import pytest

from bt_margin import MarginBroker, PerpCommInfo, PerpData, TierTable, TopUp, screen
from bt_margin.core.liquidation import just_past

ROWS = [(2_000, 0.01, 50), (10_000, 0.02, 25), (None, 0.08, 10)]
COINS = [(20, 0.01, 50), (100, 0.02, 25), (None, 0.08, 10)]
INVERSE = {"kind": "inverse", "currency": "BTC", "mult": 10.0}
KINDS = {
    "slab": {"tiers": TierTable.from_rows(ROWS, mode="slab")},
    "slab of contracts, fee of the notional": {
        "tiers": TierTable.from_rows([(20, 0.01, 50), (100, 0.02, 25), (None, 0.08, 10)], mode="slab", unit="contracts"),
        "fee_in_margin": "notional",
    },
    "base tiers at entry": {"tiers": TierTable.from_rows(COINS, unit="base"), "maintenance_basis": "entry"},
    "fee at bankruptcy": {"tiers": TierTable.from_rows(ROWS), "fee_in_margin": "bankruptcy"},
    "slab at entry, fee at bankruptcy": {
        "tiers": TierTable.from_rows(ROWS, mode="slab"),
        "maintenance_basis": "entry",
        "fee_in_margin": "bankruptcy",
    },
    "inverse": {**INVERSE, "tiers": TierTable.from_rows(COINS, unit="base")},
    "inverse slab, fee at bankruptcy": {
        **INVERSE,
        "tiers": TierTable.from_rows(COINS, mode="slab", unit="base"),
        "fee_in_margin": "bankruptcy",
    },
    "inverse slab of quote money at entry": {
        **INVERSE,
        "tiers": TierTable.from_rows(ROWS, mode="slab", unit="quote"),
        "maintenance_basis": "entry",
    },
}


def wild(seed: int, bars: int) -> pd.DataFrame:
    """Return candles with marks apart from last and funding on every fourth bar."""
    draw = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(draw.normal(0, 0.014, bars)))
    opened = np.concatenate(([100.0], close[:-1])) * np.exp(draw.normal(0, 0.003, bars))
    high = np.maximum(opened, close) * np.exp(np.abs(draw.normal(0, 0.006, bars)))
    low = np.minimum(opened, close) * np.exp(-np.abs(draw.normal(0, 0.006, bars)))
    index = pd.date_range("2024-01-01", periods=bars, freq="h", tz="UTC")
    frame = pd.DataFrame({"open": opened, "high": high, "low": low, "close": close, "volume": 1.0}, index=index)
    apart = np.exp(draw.normal(0, 0.002, bars))
    for name in ("open", "close"):
        frame[f"mark_{name}"] = frame[name] * apart
    frame["mark_high"] = np.maximum(frame[["mark_open", "mark_close"]].max(axis=1), high * 0.999)
    frame["mark_low"] = np.minimum(frame[["mark_open", "mark_close"]].min(axis=1), low * 1.001)
    frame["funding_rate"] = np.where(np.arange(bars) % 4 == 0, draw.normal(0, 0.001, bars), np.nan)
    return frame


class Wild(bt.Strategy):
    """Place orders of all kinds on both sides of every contract, as large as the account bears and larger."""

    params = (("seed", 0),)

    def __init__(self):
        self.draw, self.placed = Random(self.p.seed), []

    def next(self):
        for data in self.datas:
            if self.draw.random() < 0.4:
                self.place(data)
        if self.placed and self.draw.random() < 0.3:
            self.cancel(self.placed.pop(self.draw.randrange(len(self.placed))))

    def place(self, data):
        draw, price = self.draw, data.close[0]
        side = draw.choice((self.buy, self.sell))
        worth = self.broker.getcommissioninfo(data).getvaluesize(1.0, price)
        terms = {"data": data, "size": max(self.broker.getcash(), 1.0) * draw.choice((0.3, 3.0, 12.0)) * draw.random() / worth}
        away = price * (1 + draw.uniform(-0.012, 0.012))
        kind = draw.randrange(8)
        if kind == 0:
            placed = side(**terms)
        elif kind == 1:
            placed = side(**terms, exectype=bt.Order.Limit, price=away)
        elif kind == 2:
            placed = side(**terms, exectype=bt.Order.Stop, price=away)
        elif kind == 3:
            placed = side(**terms, exectype=bt.Order.StopLimit, price=away, plimit=away * (1 + draw.uniform(-0.004, 0.004)))
        elif kind == 4:
            placed = side(**terms, exectype=bt.Order.StopTrail, trailpercent=0.01)
        elif kind == 5:
            placed = side(**terms, exectype=bt.Order.Limit, price=price * 0.995)
            side(**terms, exectype=bt.Order.Stop, price=price * 1.005, oco=placed)
        elif kind == 6:
            placed = side(**terms, exectype=bt.Order.Close)
        else:
            placed = self.close(data=data)
        if placed is not None:
            self.placed.append(placed)


def run(kind: str, seed: int, bars: int = 120, **account):
    """Return the broker of a run with two cross contracts and an isolated one, the second cross one plain where it can be."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = broker = MarginBroker(cash=2_000 if "inverse" not in kind else 20.0, check=True, **account)
    other = {"tiers": TierTable.from_rows(ROWS)} if "inverse" not in kind else KINDS[kind]
    for number, (mode, terms) in enumerate((("cross", KINDS[kind]), ("isolated", KINDS[kind]), ("cross", other))):
        shared = {"leverage": (20, 10, 20)[number], "commission": 0.0005, "maker": 0.0002, "margin_mode": mode}
        broker.addcommissioninfo(PerpCommInfo(**{**shared, **terms}), name="ABC"[number] * 3)
        cerebro.adddata(PerpData(dataname=wild(seed * 10 + number, bars), name="ABC"[number] * 3))
    cerebro.addstrategy(Wild, seed=seed)
    cerebro.run()
    return broker


# What could happen in a bar, by force


def possible_orders(clock):
    """Return (slot, size, least price, greatest price) of every fill that the bar could hold."""
    found = []
    for symbol, fills in clock.broker.possible_fills().items():
        slot = clock.broker.slots[symbol]
        for change, worst in fills:
            best = slot.low if change > 0 else slot.high
            found.append((slot, change, worst, best if (worst - best) * change > 0 else worst))
    return found


def marks_in_bar(clock, draw):
    """Return a mark of each contract somewhere in its bar: at an end, past the edge of a tier, or anywhere."""
    marks = dict(clock.marks)
    for slot in clock.broker.slots.values():
        if slot.is_fresh:
            marks[slot.symbol] = draw.choice((slot.mark_low, slot.mark_high, draw.uniform(slot.mark_low, slot.mark_high)))
    return marks


def past_edges(position, slot):
    units, is_inverse = abs(position.size) * position.contract.multiplier, position.contract.kind == "inverse"
    past = [just_past(units, bracket.cap, is_inverse=is_inverse) for bracket in position.brackets if bracket.cap < inf]
    return [mark for mark in past if slot.mark_low <= mark <= slot.mark_high]


def pay_stamps(clock, account, draw):
    """Pay the stamps of the bar on what is held, at marks somewhere in it."""
    for slot in clock.broker.slots.values():
        if slot.has_stamps_due() and slot.position.size:
            marks = marks_in_bar(clock, draw)
            for stamp in slot.schedule.between(slot.funded_until, slot.close_time):
                account.pay_funding(slot.symbol, mark_price=marks[slot.symbol], rate=stamp.rate, time=0.0, marks=marks)


def failing(account, marks):
    return [wallet for wallet in account.wallets if account.risk(wallet, marks).is_liquidatable]


def try_at_random(clock, draw):
    """Let some of the possible fills happen in some order, in whole or in part, and look at every wallet after each."""
    account = clock.account.clone()
    if draw.random() < 0.5:
        pay_stamps(clock, account, draw)
    orders = possible_orders(clock)
    draw.shuffle(orders)
    for slot, change, worst, best in [(None, 0.0, 0.0, 0.0), *orders[: draw.randint(0, len(orders))]]:
        marks = marks_in_bar(clock, draw)
        if slot is not None:
            price = draw.choice((worst, best, draw.uniform(worst, best)))
            part = change * draw.choice((1.0, 1.0, draw.random()))
            account.execute(slot.symbol, size=part, price=price, fee_rate=slot.position.contract.taker, marks=marks, time=0.0)
        for stirred in clock.broker.slots.values():
            position = account.positions[stirred.symbol]
            for mark in (*past_edges(position, stirred), marks[stirred.symbol]) if position.size and stirred.is_fresh else ():
                at = {**marks, stirred.symbol: mark}
                assert not failing(account, at), f"{clock.broker.now}: {failing(account, at)} fails where the screen let the bar pass, {at}"


@pytest.mark.parametrize("kind", KINDS)
def test_no_fills_in_any_order_fail_a_wallet_where_the_screen_lets_the_bar_pass(kind, monkeypatch):
    draw, passed, is_safe = Random(1), [], screen.is_safe

    def checked(broker, held, fresh):
        safe = is_safe(broker, held, fresh)
        holds_odd = any(not position.is_plain for _, position in held)
        if safe and holds_odd and broker.possible_fills():
            passed.append(broker.now)
            for _ in range(12):
                try_at_random(broker.clock, draw)
        return safe

    monkeypatch.setattr(screen, "is_safe", checked)
    broker = run(kind, seed=1)
    assert len(passed) >= 5, "bars with orders must pass, or nothing is tested"
    assert broker.record.walked_bars >= 3, "the trader must come near its limits"


@pytest.mark.parametrize("kind", KINDS)
def test_walking_every_bar_by_force_liquidates_nobody_the_screen_would_have_let_pass(kind, monkeypatch):
    """Up to where the two runs part, for the fills of a passed bar may come in the host's order: then a liquidation is no cause."""
    normal = run(kind, seed=3)
    monkeypatch.setattr(screen, "is_safe", lambda *_: False)
    monkeypatch.setattr(screen, "is_single_safe", lambda *_: (False, 0.0))
    forced = run(kind, seed=3)
    told, walked = ([(row.time, row.symbol, row.liquidation) for row in broker.record.fills] for broker in (normal, forced))
    shared = next((n for n, (one, other) in enumerate(zip(told, walked, strict=False)) if one != other), None)
    if shared is not None:
        mine = {row for row in told if row[0] == walked[shared][0]}
        assert not walked[shared][2] or walked[shared] in mine, f"{walked[shared]} only where the bar is walked"
    assert forced.record.walked_bars > normal.record.walked_bars


RULES = {"moved": TopUp(ratio=1.5, times=None), "paid in": TopUp(amount=0.5, times=None, deposit=True)}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", KINDS)
def test_with_a_rule_too_every_plan_is_what_happens_and_no_passed_bar_could_fail(kind, rule):
    """``check=True`` compares both, and the journal with the wallets, on every bar."""
    brokers = [run(kind, seed, top_up=RULES[rule]) for seed in (9, 10, 11)]
    rows = [row for broker in brokers for row in broker.record.top_ups]
    assert rows
    assert all(row.amount > 0 for row in rows)
    if rule == "paid in":
        assert not any(broker.record.liquidations for broker in brokers)
