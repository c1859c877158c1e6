"""Accounts of every kind of contract, table and terms: what the engine says of them, and what happens to them inside a bar."""

from math import inf
from types import SimpleNamespace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bt_margin import Contract, MarginAccount, TierSchedule, TierTable
from bt_margin.calculator import evaluate
from bt_margin.clock import _least_share
from bt_margin.core.ledger import CROSS
from bt_margin.core.liquidation import FORFEIT, MARKET, account_bankruptcy_price, account_liquidation_price
from bt_margin.core.path import LEGS, Track, plan_path
from bt_margin.core.terms import BASES, FEES_IN_MARGIN, MarginTerms
from bt_margin.core.tiers import MODES, UNITS

TAKER = 0.0006
SYMBOLS = ("AAA", "BBB", "CCC")
SAMPLES = 60

rows = st.tuples(st.floats(200, 3_000), st.floats(1.5, 5), st.floats(1.1, 8)).map(
    lambda drawn: [(drawn[0], 0.01, 50), (drawn[0] * drawn[1], 0.01 * drawn[2], 10), (None, 0.01 * drawn[2] * 1.5, 5)]
)
tables = st.builds(TierTable.from_rows, rows, mode=st.sampled_from(MODES), unit=st.sampled_from(UNITS))
terms = st.builds(
    MarginTerms, maintenance_basis=st.sampled_from(BASES), fee_in_margin=st.sampled_from(FEES_IN_MARGIN), fee_in_initial=st.booleans()
)
positions = st.fixed_dictionaries(
    {
        "size": st.floats(1, 60).flatmap(lambda size: st.sampled_from((size, -size))),
        "entry_price": st.floats(80, 125),
        "leverage": st.sampled_from((1, 2, 5)),
        "margin_mode": st.sampled_from(("cross", "cross", "isolated")),
        "is_spot": st.booleans(),
    }
)
accounts = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(("linear", "inverse")),
        "tables": st.lists(tables, min_size=3, max_size=3),
        "terms": terms,
        "positions": st.lists(positions, min_size=1, max_size=3),
        "cash": st.floats(0.01, 3.0),
    }
)


def built(drawn) -> MarginAccount:
    """Return an account that holds what was drawn, with ``cash`` times its gross notional left in the cross wallet."""
    account = MarginAccount()
    for symbol, table, row in zip(SYMBOLS, drawn["tables"], drawn["positions"], strict=False):
        is_spot = drawn["kind"] == "linear" and row["is_spot"] and row["size"] > 0
        kind, multiplier = ("spot", 10.0) if is_spot else (drawn["kind"], 1_000.0 if drawn["kind"] == "inverse" else 10.0)
        more = {} if is_spot else {"tiers": TierSchedule.constant(table)}
        contract = Contract(symbol, multiplier=multiplier, taker=TAKER, kind=kind, **more)
        leverage = 1 if is_spot else row["leverage"]
        account.add_contract(contract, leverage=leverage, margin_mode=row["margin_mode"], rules=((-inf, drawn["terms"]),))
        need = account.opening_need(symbol, size=row["size"], price=row["entry_price"], fee_rate=0.0)
        account.deposit(need, time=0)
        account.apply_fill(symbol, size=row["size"], price=row["entry_price"], fee_rate=0.0, time=0)
    gross = sum(position.notional(100.0) for position in account.positions.values())
    account.adjust(drawn["cash"] * gross * 0.1 - account.wallets[CROSS], time=0)
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


def close_to(price):
    return None if price is None else pytest.approx(price, rel=1e-9)


@settings(max_examples=150, deadline=None)
@given(drawn=accounts, moves=st.lists(st.floats(0.8, 1.25), min_size=3, max_size=3))
def test_the_engine_says_of_an_account_what_the_calculator_says(drawn, moves):
    account = built(drawn)
    marks = dict(zip(SYMBOLS, (100 * move for move in moves), strict=True))
    # the calculator keeps the closing fee in initial margin unless a venue says otherwise
    assume(drawn["terms"].fee_in_initial)
    sheet = evaluate(as_told(account, marks, drawn))
    risk = account.total_risk(marks)
    assert account.equity(marks) == pytest.approx(sheet["equity"], rel=1e-9, abs=1e-9)
    assert risk.initial_margin == pytest.approx(sheet["initial_margin"], rel=1e-9)
    assert risk.maintenance_margin == pytest.approx(sheet["maintenance_margin"], rel=1e-9, abs=1e-12)
    assert account.available_margin(marks) == pytest.approx(sheet["available_margin"], rel=1e-9, abs=1e-9 * account.turnover)
    for row in sheet["positions"]:
        symbol = row["symbol"]
        position = account.positions[symbol]
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


bars = st.tuples(st.floats(0.85, 1.0), st.floats(1.0, 1.18), st.floats(0, 1), st.floats(0, 1))


@settings(max_examples=150, deadline=None)
@given(drawn=accounts, shapes=st.lists(bars, min_size=3, max_size=3), low_first=st.booleans(), profile=st.sampled_from((MARKET, FORFEIT)))
def test_no_wallet_fails_before_its_path_says_so_and_none_at_all_where_the_screen_lets_it_pass(drawn, shapes, low_first, profile):
    account = built(drawn)
    tracks = []
    for symbol, (low, high, opens, closes) in zip(account.positions, shapes, strict=False):
        lowest, highest = 100 * low, 100 * high
        tracks.append(Track(symbol, lowest + (highest - lowest) * opens, highest, lowest, lowest + (highest - lowest) * closes, None))
    opening = {track.symbol: track.mark_open for track in tracks}
    wallets = {position.wallet for position in account.positions.values()}
    assume(not any(account.risk(wallet, opening).is_liquidatable for wallet in wallets))
    plan = plan_path(account, tracks, [], [], profile, low_first=low_first)
    first = min((when(event, tracks, low_first) for event in plan.events), default=inf)
    for wallet in wallets:
        fails = [at for at, marks in points_of(tracks, low_first) if account.risk(wallet, marks).is_liquidatable]
        assert all(at >= first - 1e-9 for at in fails), f"{wallet} fails at {fails[0]}, its path at {first}"
        shares = 0.0
        for track in tracks:
            position = account.positions[track.symbol]
            if position.wallet == wallet:
                slot = SimpleNamespace(is_fresh=True, mark_low=track.mark_low, mark_high=track.mark_high)
                shares += _least_share(slot, position)
        if account.wallets[wallet] + shares > 0:
            assert not fails
            assert not any(event.subject == wallet for event in plan.events)
