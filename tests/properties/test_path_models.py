"""The models of a bar's path against each other, on random accounts, bars, orders and stamps.

``worst`` is a bound of the danger, never of what is earned by it: a position that is sold early may be better off at the
close than one that survives. So it is compared by what it liquidates first, and by equity where that is the same.
"""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_margin import Contract, MarginAccount, TierSchedule, TierTable
from bt_margin.core.path import PathStamp, Track, WorkingOrder, _Ground, _Walk, plan_bar, plan_path
from bt_margin.core.profiles import FORFEIT, MARKET, PROFILES, Cooldown

SYMBOLS = ("AAA", "BBB", "CCC")
ROWS = [(4_000, 0.01, 50), (12_000, 0.02, 25), (None, 0.05, 10)]
TABLE = TierTable.from_rows(ROWS)
seeds = st.integers(0, 10**9)


KINDS = {
    "linear": {"tiers": TierSchedule.constant(TABLE)},
    "inverse": {"tiers": TierSchedule.constant(TierTable.from_rows(ROWS, unit="base")), "kind": "inverse", "multiplier": 100.0},
    "slab": {"tiers": TierSchedule.constant(TierTable.from_rows(ROWS, mode="slab"))},
}


def account_of(rng: Random, contracts: int, *, modes=("cross", "cross", "cross", "isolated"), kind: str = "linear") -> MarginAccount:
    """Return an account near its limit: long and short of several contracts, about 100 each."""
    account = MarginAccount()
    account.deposit(100_000, time=0)
    for symbol in SYMBOLS[:contracts]:
        account.add_contract(Contract(symbol, taker=0.0005, **KINDS[kind]), leverage=10, margin_mode=rng.choice(modes))
        size = rng.choice((-1, -1, 1, 1, 0)) * rng.uniform(10, 90)
        if size:
            account.apply_fill(symbol, size=size, price=100, fee_rate=0.0005, time=0)
    gross = sum(position.notional(100.0) for position in account.positions.values())
    account.adjust(rng.uniform(0.02, 0.13) * gross + 5 - account.wallets["wallet:cross"], time=0)
    return account


def track_of(rng: Random, symbol: str) -> Track:
    low, high = rng.uniform(90, 99.5), rng.uniform(100.5, 110)
    opened, closed = rng.uniform(99.5, 100.5), rng.uniform(low, high)
    prices = (opened, high, low, closed)
    return Track(symbol, *prices, prices)


def orders_of(rng: Random, account: MarginAccount, tracks) -> list[WorkingOrder]:
    orders: list[WorkingOrder] = []
    for track in tracks:
        for _ in range(rng.randint(0, 3)):
            size, away = rng.choice((-1, 1)) * rng.uniform(5, 90), rng.uniform(0.2, 6)
            is_stop = rng.random() < 0.5
            level = track.mark_open + away * (1 if (size > 0) == is_stop else -1)
            stop, limit = (level, None) if is_stop else (None, level)
            orders.append(WorkingOrder(len(orders) + 1, track.symbol, size, 0.0, stop, stop, limit, 0.0005, len(orders) + 1, None))
    return orders


def stamps_of(rng: Random, tracks) -> list[PathStamp]:
    return [PathStamp(rng.random(), track.symbol, rng.uniform(-0.004, 0.004), 100.0, 0.0) for track in tracks if rng.random() < 0.3]


def bar_of(seed: int, contracts: int | None = None, kind: str = "linear"):
    """Return the arguments of a plan of one random bar."""
    rng = Random(seed)
    account = account_of(rng, contracts or rng.randint(1, 3), kind=kind)
    tracks = [track_of(rng, symbol) for symbol in account.positions]
    return account, tracks, orders_of(rng, account, tracks), stamps_of(rng, tracks), rng.choice([*PROFILES.values()])


@settings(max_examples=400, deadline=None)
@given(seed=seeds)
def test_worst_liquidates_no_fewer_contracts_than_adverse_and_where_as_many_leaves_no_more_equity(seed):
    ends = plan_bar(*bar_of(seed))
    assert len(ends.worst.liquidated) >= len(ends.adverse.liquidated)
    if len(ends.worst.liquidated) == len(ends.adverse.liquidated):
        assert ends.worst.equity <= ends.adverse.equity
    assert ends.adverse.equity <= ends.favourable.equity


@settings(max_examples=150, deadline=None)
@given(seed=seeds)
def test_of_one_contract_worst_is_adverse_whatever_its_orders_and_stamps(seed):
    bar = bar_of(seed, contracts=1)
    ends = plan_bar(*bar)
    assert ends.worst == ends.adverse
    assert not ends.is_only_worst
    assert ends.worst.equity <= min(plan_path(*bar, low_first=way).equity for way in (True, False))


def wallets_of(plan) -> set[str]:
    return {str(event.subject) for event in plan.events if event.kind == "liquidation"}


@settings(max_examples=300, deadline=None)
@given(seed=seeds)
def test_without_orders_worst_fails_every_wallet_that_any_prices_of_the_bar_could_fail(seed):
    """The marks of the contracts are drawn from their bars in every combination, far more than two market paths have.

    Under 'forfeit': what the death of an isolated position returns to the cross wallet may be what saves that one.
    """
    account, tracks, *_ = bar_of(seed)
    ends = plan_bar(account, tracks, [], [], FORFEIT)
    failed, rng = wallets_of(ends.worst), Random(seed)
    assert wallets_of(ends.adverse) | wallets_of(ends.favourable) <= failed
    for _ in range(60):
        marks = {t.symbol: rng.choice((t.mark_low, t.mark_high, rng.uniform(t.mark_low, t.mark_high))) for t in tracks}
        held = {position.wallet for position in account.positions.values() if position.size}
        fails = {wallet for wallet in held if account.risk(wallet, marks).is_liquidatable}
        assert fails <= failed, f"{fails} at {marks}"


def test_the_random_bars_hold_what_the_models_differ_in():
    """Else the claims above would be claims of nothing."""
    ends = [plan_bar(*bar_of(seed)) for seed in range(800)]
    assert sum(end.is_ambiguous for end in ends) > 20
    assert sum(end.is_only_worst for end in ends) > 10
    assert sum(bool(end.adverse.liquidated) for end in ends) > 40
    assert sum(end.worst is not end.adverse for end in ends) > 40


def parts_of(rng: Random, track: Track, parts: int) -> list[Track]:
    """Return finer bars that begin and end where a bar does, stay inside it and reach its extremes, with jumps between them."""
    opened, high, low, closed = track.last or (0.0,) * 4
    reach = [rng.randrange(parts), rng.randrange(parts)]
    finer = []
    for number in range(parts):
        begin = opened if number == 0 else rng.uniform(low, high)
        end = closed if number == parts - 1 else rng.uniform(low, high)
        top = high if number == reach[0] else rng.uniform(max(begin, end), high)
        bottom = low if number == reach[1] else rng.uniform(low, min(begin, end))
        prices = (begin, top, bottom, end)
        finer.append(Track(track.symbol, *prices, prices))
    return finer


@pytest.mark.parametrize("parts", [1, 2, 7])
@settings(max_examples=120, deadline=None)
@given(seed=seeds)
def test_with_detail_the_models_keep_their_order_and_liquidate_only_where_the_bar_could(parts, seed):
    account, tracks, orders, stamps, profile = bar_of(seed)
    rng = Random(seed)
    detailed = [track for track in tracks if rng.random() < 0.8]
    by_part = zip(*(parts_of(rng, track, parts) for track in detailed), strict=True)
    detail = [{track.symbol: track for track in part} for part in by_part]
    ends = plan_bar(account, tracks, orders, stamps, profile, detail=detail)
    assert len(ends.worst.liquidated) >= len(ends.adverse.liquidated)
    assert ends.adverse.equity <= ends.favourable.equity
    places = [event.fraction for event in ends.adverse.events]
    assert places == sorted(places), "events come in the order of the clock"
    closes = {track.symbol: track.mark_close for track in tracks}
    plain = plan_bar(account, tracks, [], [], MARKET)
    if not wallets_of(plain.worst):  # the box of the bar is safe, and detail lies inside it
        within = plan_bar(account, tracks, [], [], MARKET, detail=detail)
        assert not wallets_of(within.worst)
        assert within.worst.equity == pytest.approx(account.equity(closes), rel=1e-12)


@settings(max_examples=150, deadline=None)
@given(seed=seeds)
def test_one_finer_bar_that_is_the_bar_itself_changes_nothing(seed):
    account, tracks, orders, stamps, profile = bar_of(seed)
    plain = plan_bar(account, tracks, orders, stamps, profile)
    detailed = plan_bar(account, tracks, orders, stamps, profile, detail=[{track.symbol: track for track in tracks}])
    for name in ("adverse", "favourable", "worst"):
        one, other = getattr(plain, name), getattr(detailed, name)
        assert other.equity == pytest.approx(one.equity, rel=1e-12)
        assert other.liquidated == one.liquidated
        assert [(event.kind, event.subject) for event in other.events] == [(event.kind, event.subject) for event in one.events]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_a_part_that_passes_as_it_is_would_have_done_nothing_if_it_were_walked(kind, seed):
    account, tracks, orders, stamps, profile = bar_of(seed, kind=kind)
    rng = Random(seed)
    quiet = [track._replace(mark_high=101, mark_low=99, mark_close=100, last=(track.mark_open, 101, 99, 100)) for track in tracks]
    detail = [{track.symbol: track for track in part} for part in zip(*(parts_of(rng, track, 5) for track in quiet), strict=True)]
    passed = plan_bar(account, quiet, orders, stamps, profile, detail=detail)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Walk, "is_calm", lambda _: False)
        walked = plan_bar(account, quiet, orders, stamps, profile, detail=detail)
    for one, other in zip(passed, walked, strict=True):
        assert [(event.kind, event.subject, event.fraction) for event in one.events] == [
            (event.kind, event.subject, event.fraction) for event in other.events
        ]
        assert (one.equity, one.failed) == (other.equity, other.failed)
        assert one.lowest_equity == pytest.approx(other.lowest_equity, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_in_which_no_wallet_can_fail_are_calm_whatever_kind_is_held(kind):
    account = MarginAccount()
    account.deposit(100_000, time=0)
    account.add_contract(Contract("AAA", **KINDS[kind]), leverage=10, margin_mode="cross")
    account.apply_fill("AAA", size=20, price=100, fee_rate=0, time=0)
    (track,) = [track_of(Random(1), "AAA")]
    walk = _Walk(account, _Ground([track], [{"AAA": track}], True), [], [], MARKET, 0.0, 0.0, Cooldown())
    walk.stand(0, {})
    assert walk.is_calm()
