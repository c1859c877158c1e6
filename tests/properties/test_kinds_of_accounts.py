"""Accounts of every kind of contract, table and terms: what the engine says of them, and what happens to them inside a bar."""

from dataclasses import replace
from functools import partial
from math import inf
from random import Random
from types import SimpleNamespace

import backtrader as bt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bt_margin import Contract, MarginAccount, MarginBroker, TierSchedule, TierTable
from bt_margin.calculator import evaluate
from bt_margin.core.ledger import CROSS
from bt_margin.core.liquidation import account_bankruptcy_price, account_liquidation_price, just_past
from bt_margin.core.path import LEGS, Track, plan_path
from bt_margin.core.profiles import PROFILES
from bt_margin.core.terms import BASES, FEES_IN_MARGIN, PLAIN, Holding, MarginTerms
from bt_margin.core.tiers import MODES, UNITS
from bt_margin.screen import is_safe, least_share

TAKER = 0.0006
SYMBOLS = ("AAA", "BBB", "CCC")
SAMPLES = 40

# Accounts are drawn by a seed: drawn field by field they come out too plain, and hardly ever fail.
seeds = st.integers(0, 10**9)


def random_account(rng: Random) -> dict:
    """Return an account to build: one to three positions near their entries, with tier edges in reach and little money."""
    kind = rng.choice(("linear", "inverse"))
    moving = "quote" if kind == "linear" else "base"
    terms = MarginTerms(rng.choice(BASES), rng.choice(FEES_IN_MARGIN), rng.random() < 0.5)
    return {
        "kind": kind,
        "terms": rng.choice((PLAIN, terms)),
        "cash": rng.uniform(0.01, 0.25),
        "positions": [random_position(rng, moving) for _ in range(rng.randint(1, 3))],
    }


def random_position(rng: Random, moving: str) -> dict:
    """Return a position; of its table: where the first edge lies against its measure at 100, how far the next, how rates climb."""
    return {
        "size": rng.uniform(1, 60) * rng.choice((1, -1)),
        "entry_price": rng.uniform(95, 105),
        "leverage": rng.choice((1, 5, 10)),
        "margin_mode": rng.choice(("cross", "cross", "isolated")),
        "is_spot": rng.random() < 0.2,
        "edge": rng.uniform(0.85, 1.18),
        "next": rng.uniform(1.01, 1.3),
        "climb": rng.uniform(1.1, 6),
        "mode": rng.choice(MODES),
        "unit": rng.choice((moving, *UNITS)),
    }


def table_of(row, kind, multiplier) -> TierTable:
    """Return a table whose edges lie about what the position measures at 100."""
    units = TierTable.from_rows([(None, 0.01, 5)], unit=row["unit"])
    cap = Holding(row["size"], 100.0, units, kind, multiplier).measure(100.0) * row["edge"]
    rate = 0.01 * row["climb"]
    rows = [(cap, 0.01, 50), (cap * row["next"], rate, 10), (None, rate * 1.5, 10)]
    return TierTable.from_rows(rows, mode=row["mode"], unit=row["unit"])


def built(drawn) -> MarginAccount:
    """Return an account that holds what was drawn, with ``cash`` times its gross notional left in the cross wallet."""
    account = MarginAccount()
    for symbol, row in zip(SYMBOLS, drawn["positions"], strict=False):
        is_spot = drawn["kind"] == "linear" and row["is_spot"] and row["size"] > 0
        kind, multiplier = ("spot", 10.0) if is_spot else (drawn["kind"], 1_000.0 if drawn["kind"] == "inverse" else 10.0)
        more = {} if is_spot else {"tiers": TierSchedule.constant(table_of(row, kind, multiplier))}
        contract = Contract(symbol, multiplier=multiplier, taker=TAKER, kind=kind, **more)
        leverage = 1 if is_spot else row["leverage"]
        account.add_contract(contract, leverage=leverage, margin_mode=row["margin_mode"], rules=((-inf, drawn["terms"]),))
        need = account.opening_need(symbol, size=row["size"], price=row["entry_price"], fee_rate=0.0)
        account.deposit(need, time=0)
        account.apply_fill(symbol, size=row["size"], price=row["entry_price"], fee_rate=0.0, time=0)
    gross = sum(position.notional(100.0) for position in account.positions.values())
    account.adjust(drawn["cash"] * gross - account.wallets[CROSS], time=0)
    return account


def as_told(account: MarginAccount, marks, drawn):
    """Return the account in the words of the calculator."""
    told = []
    for symbol, position in account.positions.items():
        kind = position.contract.kind
        row = {
            "symbol": symbol,
            "size": position.size,
            "entry_price": position.entry_price,
            "mark_price": marks[symbol],
            "contract_type": kind,
            "multiplier": position.contract.multiplier,
            "leverage": position.leverage,
            "taker_fee": TAKER,
            "margin_mode": "isolated" if position.is_isolated else "cross",
        }
        if position.is_isolated:
            row["isolated_margin"] = account.wallets[position.wallet] - position.reserved_fee
        if kind != "spot":
            row |= {"tiers": told_tiers(position.table), "tier_mode": position.table.mode, "tier_unit": position.table.unit}
        told.append(row)
    basis, fee = drawn["terms"].maintenance_basis, drawn["terms"].fee_in_margin
    return {"wallet_balance": account.wallets[CROSS], "maintenance_basis": basis, "fee_in_margin": fee, "positions": told}


def told_tiers(table):
    tiers = [
        {"floor": t.floor, "cap": None if t.cap == inf else t.cap, "rate": t.rate, "max_leverage": t.max_leverage} for t in table.tiers
    ]
    return [tier | {"amount": bracket.amount} for tier, bracket in zip(tiers, table.brackets, strict=True)]


def is_spot_on_credit(account, wallet):
    held = list(account.held(wallet))
    cost = sum(position.notional(position.entry_price) for position in held)
    return all(position.contract.kind == "spot" for position in held) and account.wallets[wallet] < cost * (1 - 1e-9)


def close_to(price):
    return None if price is None else pytest.approx(price, rel=1e-9)


@settings(max_examples=150, deadline=None)
@given(seed=seeds)
def test_the_engine_says_of_an_account_what_the_calculator_says(seed):
    rng = Random(seed)
    drawn = random_account(rng)
    # the calculator keeps the closing fee in initial margin unless a venue says otherwise
    drawn["terms"] = replace(drawn["terms"], fee_in_initial=True)
    account = built(drawn)
    marks = {symbol: rng.uniform(80, 125) for symbol in SYMBOLS}
    sheet = evaluate(as_told(account, marks, drawn))
    risk = account.total_risk(marks)
    assert account.equity(marks) == pytest.approx(sheet["equity"], rel=1e-9, abs=1e-9)
    assert risk.initial_margin == pytest.approx(sheet["initial_margin"], rel=1e-9)
    assert risk.maintenance_margin == pytest.approx(sheet["maintenance_margin"], rel=1e-9, abs=1e-12)
    assert account.available_margin(marks) == pytest.approx(sheet["available_margin"], rel=1e-9, abs=1e-9 * account.turnover)
    for row in sheet["positions"]:
        symbol = row["symbol"]
        position = account.positions[symbol]
        if is_spot_on_credit(account, position.wallet):  # which the calculator is not told
            continue
        assert account_bankruptcy_price(account, symbol, marks) == close_to(row["bankruptcy_price"])
        if not account.risk(position.wallet, marks).is_liquidatable:
            assert account_liquidation_price(account, symbol, marks) == close_to(row["liquidation_price"])


def corners(track, *, low_first):
    extremes = (track.mark_low, track.mark_high) if low_first else (track.mark_high, track.mark_low)
    return (track.mark_open, *extremes, track.mark_close)


def points_of(tracks, low_first):
    """Yield (position on the bar's clock, marks) at many points of the path."""
    runs = {track.symbol: corners(track, low_first=low_first) for track in tracks}
    for leg in range(LEGS):
        for number in range(SAMPLES + 1):
            fraction = number / SAMPLES
            marks = {symbol: run[leg] + (run[leg + 1] - run[leg]) * fraction for symbol, run in runs.items()}
            yield leg + fraction, marks


def when(event, tracks, low_first):
    """Return where on the clock an event's marks lie, by the contract that moves most on each leg."""
    runs = {track.symbol: corners(track, low_first=low_first) for track in tracks}
    for leg in range(LEGS):
        symbol = max(runs, key=lambda name: abs(runs[name][leg + 1] - runs[name][leg]))
        begin, end = runs[symbol][leg : leg + 2]
        fraction = (event.marks[symbol] - begin) / (end - begin) if end != begin else 0.0
        expected = {name: run[leg] + (run[leg + 1] - run[leg]) * fraction for name, run in runs.items()}
        if -1e-9 <= fraction <= 1 + 1e-9 and event.marks == pytest.approx(expected, rel=1e-9):
            return leg + fraction
    raise AssertionError(f"{event.marks} lie on no leg")


@settings(max_examples=250, deadline=None)
@given(seed=seeds, low_first=st.booleans(), profile=st.sampled_from([*PROFILES.values()]))
def test_no_wallet_fails_before_its_path_says_so_and_none_at_all_where_the_screen_lets_it_pass(seed, low_first, profile):
    rng = Random(seed)
    account = built(random_account(rng))
    tracks = []
    for symbol in account.positions:
        low, high = rng.uniform(85, 100), rng.uniform(100, 118)
        tracks.append(Track(symbol, rng.uniform(low, high), high, low, rng.uniform(low, high), None))
    opening = {track.symbol: track.mark_open for track in tracks}
    wallets = {position.wallet for position in account.positions.values()}
    assume(not any(profile.fails(account.risk(wallet, opening)) for wallet in wallets))  # the clock has tested the open
    plan = plan_path(account, tracks, [], [], profile, low_first=low_first)
    first = min((when(event, tracks, low_first) for event in plan.events), default=inf)
    for wallet in wallets:
        fails = [at for at, marks in points_of(tracks, low_first) if profile.fails(account.risk(wallet, marks))]
        assert all(at >= first - 1e-9 for at in fails), f"{wallet} fails at {fails[0]}, its path at {first}"
        shares = 0.0
        for track in tracks:
            position = account.positions[track.symbol]
            if position.wallet == wallet:
                slot = SimpleNamespace(is_fresh=True, mark_low=track.mark_low, mark_high=track.mark_high)
                shares += least_share(slot, position)
        if account.wallets[wallet] + shares > 0:
            assert not fails
            assert not any(event.subject == wallet for event in plan.events)


# The screen of bars on which orders could fill


def bars_of(account, rng):
    """Return by symbol a slot whose bar moves a little, for accounts that stand near their limits."""
    slots = {}
    for symbol, position in account.positions.items():
        low, high = rng.uniform(93, 100), rng.uniform(100, 107)
        slots[symbol] = SimpleNamespace(
            detail=None,
            symbol=symbol,
            position=position,
            is_fresh=True,
            low=low * 0.998,
            high=high * 1.002,
            mark_low=low,
            mark_high=high,
            open_time=0.0,
            next_stamp=inf,
            schedule=None,
            grace=0.0,
            has_stamps_due=lambda: False,
        )
    return slots


def lets_pass(account, slots, fills) -> bool:
    """Whether the screen lets these bars pass unwalked with these possible fills."""
    held = [(slot, slot.position) for slot in slots.values() if slot.position.size]
    order = SimpleNamespace(exectype=bt.Order.Limit)
    book = {"account": account, "pending": [order], "possible_fills": lambda: fills, "p": SimpleNamespace(coc=False)}
    broker = SimpleNamespace(**book, slots=slots, touched_slots=partial(MarginBroker.touched_slots, SimpleNamespace(slots=slots)))
    return is_safe(broker, held, list(slots.values()))


def fills_of(slots, rng):
    """Return some fills of some contracts, each at its worst price somewhere in the bar."""
    found = {}
    for symbol, slot in slots.items():
        size = slot.position.size or 20.0
        fills = [(size * rng.uniform(-1.5, 1.5), rng.uniform(slot.low, slot.high)) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
        if fills:
            found[symbol] = fills
    return found


def failed_at_random(account, slots, fills, rng):
    """Let some of the fills happen, in whole or in part, and return where a wallet fails on the way, if one does."""
    tried = account.clone()
    queue = [(symbol, *fill) for symbol, mine in fills.items() for fill in mine if rng.random() < 0.7]
    rng.shuffle(queue)
    for symbol, change, worst in [("", 0.0, 0.0), *queue]:
        if symbol:
            best = slots[symbol].low if change > 0 else slots[symbol].high
            part = change * rng.choice((1.0, 1.0, rng.random()))
            tried.apply_fill(symbol, size=part, price=rng.choice((worst, worst, best)), fee_rate=TAKER, time=0)
        marks = {name: rng.choice((slot.mark_low, slot.mark_high)) for name, slot in slots.items()}
        for name, slot in slots.items():
            position = tried.positions[name]
            past = [just_past_cap(position, bracket.cap) for bracket in position.brackets if bracket.cap < inf and position.size]
            for mark in [slot.mark_low, slot.mark_high, *(price for price in past if slot.mark_low <= price <= slot.mark_high)]:
                at = {**marks, name: mark}
                if any(tried.risk(wallet, at).is_liquidatable for wallet in tried.wallets):
                    return at
    return None


def just_past_cap(position, cap):
    units = abs(position.size) * position.contract.multiplier
    return just_past(units, cap, is_inverse=position.contract.kind == "inverse")


@settings(max_examples=400, deadline=None)
@given(seed=seeds)
def test_no_fills_in_any_order_fail_a_wallet_where_the_screen_lets_the_bar_pass(seed):
    rng = Random(seed)
    drawn = random_account(rng)
    for row in drawn["positions"]:
        row["is_spot"] = False
        row["leverage"] = rng.choice((1, 5, 10))
    account = built(drawn)
    for position in account.positions.values():  # some isolated money besides what opening gave
        if position.is_isolated:
            account.transfer(CROSS, position.wallet, account.wallets[CROSS] * rng.uniform(0, 0.2), symbol="", time=0)
    slots = bars_of(account, rng)
    fills = fills_of(slots, rng)
    assume(fills and lets_pass(account, slots, fills))
    for _ in range(12):
        at = failed_at_random(account, slots, fills, rng)
        assert at is None, f"a wallet fails at {at} with some of {fills}"
