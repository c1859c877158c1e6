"""What would have kept a position alive does keep it alive, and, where nothing else moves, a little less does not."""

from math import isnan

import backtrader as bt
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playing import CALM, buy, frame, play, sell

from bt_margin import MarginBroker, PerpCommInfo, PerpData
from bt_margin.core.account import MarginAccount
from bt_margin.core.contract import Contract
from bt_margin.core.profiles import PROFILES
from bt_margin.core.rescue import Range, rescue, worst_mark
from bt_margin.core.terms import MarginTerms
from bt_margin.core.tiers import TierSchedule, TierTable
from bt_margin.result import Result

CRASH = (100, 100, 80, 85)
FLAT = TierTable.flat(0.01)


def account_with(size: float, *, cash: float, mode: str, leverage: float = 10, table: TierTable = FLAT) -> MarginAccount:
    """Return an account that holds ``size`` of AAA, bought at 100 without a fee."""
    account = MarginAccount()
    account.add_contract(Contract("AAA", tiers=TierSchedule.constant(table)), leverage=leverage, margin_mode=mode)
    account.deposit(cash, time=0)
    account.apply_fill("AAA", size=size, price=100, fee_rate=0.0, time=0)
    return account


def at(mark: float) -> dict[str, Range]:
    return {"AAA": Range(mark, mark)}


@pytest.mark.parametrize(
    ("size", "worst", "mode", "margin", "leverage"),
    [
        (1, 80, "isolated", 10.8, 100 / 20.8),  # 0.8 of maintenance + 20 lost - 10 of margin
        (-1, 120, "isolated", 11.2, 100 / 21.2),  # 1.2 + 20 - 10
        (1, 80, "cross", 8.8, 100 / 20.8),  # 20.8 - 12 of cash; 12 carry 12 / 20.8 of it: 57.69 of notional / 12
        (1, 5, "isolated", 85.05, 100 / 95.05),  # 0.05 + 95 - 10
        (-1, 250, "isolated", 142.5, None),  # 2.5 + 150 - 10: more than the whole notional
    ],
)
def test_margin_to_add_and_safe_leverage_by_hand(size, worst, mode, margin, leverage):
    saved = rescue(account_with(size, cash=12, mode=mode), "AAA", at(worst), {})
    assert saved.margin_to_add == pytest.approx(margin, rel=1e-12)
    assert saved.safe_leverage == (None if leverage is None else pytest.approx(leverage, rel=1e-12))


def test_of_a_position_too_small_to_have_margin_no_leverage_is_told():
    account = MarginAccount()
    account.add_contract(Contract("AAA", tiers=TierSchedule.constant(FLAT)), leverage=10, margin_mode="isolated")
    account.deposit(1, time=0)
    account.apply_fill("AAA", size=1e-323, price=1, fee_rate=0.0, time=0)
    assert account.positions["AAA"].given_margin == 0.0  # 1e-323 / 10 is less than the smallest float
    assert rescue(account, "AAA", at(0.9), {}) == (0.0, None)


def test_funding_still_to_come_is_margin_to_add():
    assert rescue(account_with(1, cash=12, mode="isolated"), "AAA", at(80), {"AAA": 0.5}).margin_to_add == pytest.approx(11.3)


def test_a_wallet_that_owed_before_the_position_carries_none_at_all():
    account = account_with(1, cash=12, mode="cross")
    account.wallets["wallet:cross"] = -5
    assert rescue(account, "AAA", at(99), {}).safe_leverage is None


def test_the_largest_position_a_wallet_carries_is_found_across_a_tier():
    # 40 carry 100 x share x 20 % lost + 1 % of the first 100 and 5 % of the rest at 80: 20 s + 4 s - 4 = 40, s = 44 / 24
    table = TierTable.from_rows([(100, 0.01, 50), (None, 0.05, 20)])
    saved = rescue(account_with(3, cash=40, mode="cross", table=table), "AAA", at(80), {})
    assert saved.safe_leverage == pytest.approx(44 / 24 * 100 / 40)


SLAB = TierTable.from_rows([(110, 0.01, 50), (None, 0.2, 5)], mode="slab")


@pytest.mark.parametrize(("size", "worst"), [(1, 110), (-1, 120)])
def test_a_slab_positions_worst_mark_may_be_the_first_past_an_edge(size, worst):
    # a long's 10 + 10 of equity meet 20 % of 110 there, and its 10 + 20 only 24 at 120
    account = account_with(size, cash=12, mode="isolated", table=SLAB)
    mark = worst_mark(account.positions["AAA"], Range(100, 120))
    assert mark == pytest.approx(worst, rel=1e-12)
    assert account.positions["AAA"].notional(mark) > 110


def test_spot_has_no_leverage_to_lower():
    account = MarginAccount()
    account.add_contract(Contract("AAA", kind="spot"), leverage=1, margin_mode="cross")
    account.deposit(100, time=0)
    account.apply_fill("AAA", size=1, price=100, fee_rate=0.0, time=0)
    account.wallets["wallet:cross"] = 15
    assert rescue(account, "AAA", at(80), {}) == (pytest.approx(5), None)  # 20 lost - 15


# -- a run with what was said to save it lives through the bar ----------------------------------------------------------


def run(script: dict, *candles: pd.DataFrame, cash: float, **kwargs) -> Result:
    terms = {"leverage": 10, "tiers": 0.01, **kwargs.pop("terms", {})}
    return Result.of(play(script, *candles, cash=cash, terms=terms, **kwargs))


@pytest.mark.parametrize("mode", ["isolated", "cross"])
@pytest.mark.parametrize("place", [buy, sell])
def test_at_less_than_the_safe_leverage_the_same_position_survives(mode, place):
    bar = CRASH if place is buy else (100, 120, 100, 115)
    candles = frame([CALM, CALM, bar, CALM])
    cash = 1_000 if mode == "isolated" else 12
    (row,) = run({1: place()}, candles, cash=cash, margin_mode=mode).liquidations.itertuples()
    assert row.worst_mark == (80 if place is buy else 120)
    for factor, deaths in ((0.999, 0), (1.001, 1)):
        leverage = row.safe_leverage * factor
        size = 1 if mode == "isolated" else leverage * cash / 100
        terms = {"leverage": leverage if mode == "isolated" else 10}
        assert len(run({1: place(size=size)}, candles, cash=cash, margin_mode=mode, terms=terms).liquidations) == deaths


INVERSE = {"kind": "inverse", "currency": "AAA"}
UP = (100, 120, 100, 115)
CONTRACTS = TierTable.from_rows([(0.5, 0.01, 50), (0.8, 0.02, 20), (None, 0.05, 10)], mode="slab", unit="contracts")
KINDS = {
    "inverse": INVERSE,
    "slab": {"tiers": TierTable.from_rows([(70, 0.01, 50), (None, 0.05, 10)], mode="slab")},
    "inverse slab": {**INVERSE, "tiers": TierTable.from_rows([(0.9, 0.01, 50), (None, 0.05, 10)], mode="slab", unit="base")},
    "contracts": {"tiers": CONTRACTS},
    "entry": {"maintenance_basis": "entry"},
    "fee of the notional": {"fee_in_margin": "notional", "commission": 0.002},
    "fee that is only maintained": {"margin_terms": MarginTerms("mark", "notional", fee_in_initial=False), "commission": 0.002},
    "fee at bankruptcy": {"fee_in_margin": "bankruptcy", "commission": 0.002},
    "fee at bankruptcy, inverse": {**INVERSE, "fee_in_margin": "bankruptcy", "commission": 0.002},
}
of_every_kind = pytest.mark.parametrize("kind", KINDS)


def stake(kind: str, notional: float) -> float:
    """Return the size whose notional at 100 this is a hundredth of: 1 of a linear contract, 10 000 of quote money of coins."""
    return notional * (100 if KINDS[kind].get("kind") == "inverse" else 1)


@of_every_kind
@pytest.mark.parametrize("mode", ["isolated", "cross"])
@pytest.mark.parametrize("place", [buy, sell])
def test_of_every_kind_less_than_the_safe_leverage_survives_and_more_does_not(kind, mode, place):
    bar = CRASH if place is buy else UP
    candles, terms = frame([CALM, CALM, bar, CALM]), KINDS[kind]
    worth = 1 if terms.get("kind") == "inverse" else 100
    cash = worth * (10 if mode == "isolated" else 0.15)
    (row,) = run({1: place(size=stake(kind, 1))}, candles, cash=cash, margin_mode=mode, terms=terms).liquidations.itertuples()
    assert row.safe_leverage > 1
    for factor, deaths in ((0.999, 0), (1.001, 1)):
        leverage = row.safe_leverage * factor
        size = stake(kind, 1 if mode == "isolated" else leverage * cash / worth)
        given = {**terms, "leverage": leverage if mode == "isolated" else 10}
        assert len(run({1: place(size=size)}, candles, cash=cash, margin_mode=mode, terms=given).liquidations) == deaths


@of_every_kind
@pytest.mark.parametrize(("factor", "deaths"), [(0.999, 1), (1.001, 0)])
@pytest.mark.parametrize("place", [buy, sell])
def test_of_every_kind_the_margin_added_saves_and_a_little_less_does_not(kind, place, factor, deaths):
    candles, terms = frame([CALM, CALM, CRASH if place is buy else UP, CALM]), KINDS[kind]
    (row,) = run({1: place(size=stake(kind, 1))}, candles, cash=1_000, terms=terms).liquidations.itertuples()

    def add(strategy):
        strategy.broker.add_margin(strategy.data, row.margin_to_add * factor)

    again = run({1: place(size=stake(kind, 1)), 2: add}, candles, cash=1_000, terms=terms)
    assert len(again.liquidations) == deaths


@pytest.mark.parametrize(("mode", "cash", "leverage"), [("isolated", 1_000, 100 / 12), ("cross", 11, 9)])
def test_a_slab_long_that_dies_on_its_way_up_is_told_what_would_have_carried_it_past_the_edge(mode, cash, leverage):
    # past 110: 10 + 10 - 22 of an isolated long; a share s of one on 11 of cash: 11 + 110 - 100 s = 22, s = 0.99
    candles, terms = frame([CALM, CALM, UP, CALM]), {"tiers": SLAB}
    (row,) = run({1: buy()}, candles, cash=cash, margin_mode=mode, terms=terms).liquidations.itertuples()
    assert row.worst_mark == pytest.approx(110)
    assert row.margin_to_add == pytest.approx(2 if mode == "isolated" else 1)
    assert row.safe_leverage == pytest.approx(leverage)
    for factor, deaths in ((0.999, 0), (1.001, 1)):
        size = 1 if mode == "isolated" else row.safe_leverage * factor * cash / 100
        given = {**terms, "leverage": row.safe_leverage * factor if mode == "isolated" else 10}
        assert len(run({1: buy(size=size)}, candles, cash=cash, margin_mode=mode, terms=given).liquidations) == deaths


def test_a_short_perpetual_beside_its_spot_needs_what_the_pair_needs_at_both_worst_marks():
    candles = frame([CALM, CALM, (100, 140, 90, 100), CALM])
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=150, check=True)
    for name, terms in (("AAA", {"leverage": 10, "tiers": 0.01, "liquidation_fee": 0.0}), ("BBB", {"kind": "spot"})):
        cerebro.broker.addcommissioninfo(PerpCommInfo(**terms), name=name)
        cerebro.adddata(PerpData(dataname=candles, name=name))
    cerebro.addstrategy(Sleeper, sizes=[-5, 0.5])
    (row, *_) = cerebro.run()[0].broker.record.liquidations
    assert (row.symbol, row.worst_mark) == ("AAA", 140)
    assert row.margin_to_add == pytest.approx(5 * 40 + 7 - 150 + 0.5 * 10)  # the coin's worst is 90
    assert row.safe_leverage == pytest.approx(145 / 207 * 500 / 145)  # 145 carry 145 / 207 of the short


def test_in_cross_the_leverage_is_on_the_money_before_fees_and_funding():
    candles = frame([CALM] * 12 + [CRASH, CALM])
    costs = {"terms": {"commission": 0.01}, "margin_mode": "cross", "funding": 0.01, "cash": 14}
    (row,) = run({1: buy()}, candles, **costs).liquidations.itertuples()
    for factor, deaths in ((0.999, 0), (1.001, 1)):
        size = row.safe_leverage * factor * costs["cash"] / 100
        assert len(run({1: buy(size=size)}, candles, **costs).liquidations) == deaths


def test_raising_the_leverage_afterwards_does_not_change_what_the_position_was_given():
    candles = frame([CALM, CALM, CALM, CRASH, CALM])

    def raise_leverage(strategy):
        strategy.broker.set_leverage(strategy.data, 50)

    (row,) = run({1: buy(), 2: raise_leverage}, candles, cash=1_000).liquidations.itertuples()
    assert row.safe_leverage == pytest.approx(100 / 20.8)
    for factor, deaths in ((0.999, 0), (1.001, 1)):
        terms = {"leverage": row.safe_leverage * factor}
        assert len(run({1: buy()}, candles, cash=1_000, terms=terms).liquidations) == deaths


@pytest.mark.parametrize(("factor", "deaths"), [(0.999, 1), (1.001, 0)])
def test_with_the_margin_added_an_isolated_position_survives(factor, deaths):
    candles = frame([CALM, CALM, CRASH, CALM])
    (row,) = run({1: buy()}, candles, cash=1_000).liquidations.itertuples()

    def add(strategy):
        strategy.broker.add_margin(strategy.data, row.margin_to_add * factor)

    assert len(run({1: buy(), 2: add}, candles, cash=1_000).liquidations) == deaths


@pytest.mark.parametrize(("factor", "deaths"), [(0.999, 2), (1.001, 0)])
def test_two_positions_of_one_wallet_need_what_both_need(factor, deaths):
    candles = frame([CALM, CALM, CRASH, CALM])

    def buy_both(strategy):
        for data in strategy.datas:
            strategy.buy(data=data, size=1)

    def cash(extra: float) -> Result:
        return run({1: buy_both}, candles, candles, cash=30 + extra, margin_mode="cross", terms={"profile": "forfeit"})

    rows = cash(0).liquidations
    assert list(rows["margin_to_add"]) == pytest.approx([11.6, 11.6])  # 2 x (0.8 + 20) - 30
    assert len(cash(rows["margin_to_add"].iloc[0] * factor).liquidations) == deaths


def test_stamps_still_to_come_in_the_bar_are_counted():
    rates = pd.Series(0.001, index=pd.date_range("2024-01-01", periods=30, freq="8h", tz="UTC"))
    days = frame([CALM, CALM, CRASH, CALM], start="2024-01-01", freq="1D")
    (row,) = run({1: buy()}, days, cash=1_000, funding=rates).liquidations.itertuples()

    def add(strategy):
        strategy.broker.add_margin(strategy.data, row.margin_to_add * 1.0001)

    assert not len(run({1: buy(), 2: add}, days, cash=1_000, funding=rates).liquidations)


def test_without_a_path_the_close_is_all_there_is_to_survive():
    candles = frame([CALM, CALM, CRASH, CALM])
    (row,) = run({1: buy()}, candles, cash=1_000, intrabar="close").liquidations.itertuples()
    assert (row.worst_mark, row.margin_to_add) == (85, pytest.approx(0.85 + 15 - 10))


def test_a_leverage_below_1_is_no_leverage_to_lower_to():
    (row,) = run({1: sell()}, frame([CALM, CALM, (100, 250, 100, 240), CALM]), cash=1_000).liquidations.itertuples()
    assert isnan(row.safe_leverage)
    assert row.margin_to_add == pytest.approx(142.5)


class Sleeper(bt.Strategy):
    """Opens a position in each data after its first bar, and does nothing more."""

    params = (("sizes", ()),)

    def next(self):
        if len(self) == 1:
            for data, size in zip(self.datas, self.p.sizes, strict=True):
                (self.buy if size > 0 else self.sell)(data, size=abs(size))


ROWS = [(500, 0.01, 50), (None, 0.03, 20)]
RANDOM_TERMS = [
    {"tiers": ROWS},
    {"tiers": TierTable.from_rows(ROWS, mode="slab")},
    {"tiers": TierTable.from_rows([(3, 0.01, 50), (None, 0.03, 20)], mode="slab", unit="contracts")},
    {"tiers": ROWS, "maintenance_basis": "entry"},
    {"tiers": ROWS, "fee_in_margin": "notional"},
    {"tiers": ROWS, "fee_in_margin": "bankruptcy"},
    {"tiers": TierTable.from_rows([(500, 0.01, 50), (None, 0.03, 20)], unit="base"), "kind": "inverse", "currency": "COIN", "mult": 1e4},
]


def lived(candles: list[pd.DataFrame], sizes: list[float], cash: float, *, bars: int, terms: dict) -> list:
    """Return the liquidations of the first ``bars`` of a cross account that opened ``sizes`` with this much cash."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=cash, check=True)
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=20, commission=0.001, **terms))
    for number, rows in enumerate(candles):
        cerebro.adddata(PerpData(dataname=rows.iloc[:bars], name="ABC"[number] * 3, funding=0.0005))
    cerebro.addstrategy(Sleeper, sizes=sizes)
    return cerebro.run()[0].broker.record.liquidations


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.lists(st.integers(-6, 6).filter(bool), min_size=1, max_size=2),
    moves=st.lists(st.tuples(st.floats(0.93, 1.07), st.floats(0.93, 1.07)), min_size=12, max_size=12),
    share=st.floats(0.06, 0.2),
    terms=st.sampled_from(RANDOM_TERMS),
    profile=st.sampled_from([*PROFILES]),
)
def test_with_the_margin_added_random_wallets_outlive_the_bar_they_died_in(sizes, moves, share, terms, profile):
    terms, candles = {**terms, "profile": profile}, []
    for number in range(len(sizes)):
        closes = pd.Series([move[number] for move in moves]).cumprod().mul(100).tolist()
        opens = [100.0, *closes[:-1]]
        rows = [(o, max(o, c) * 1.01, min(o, c) * 0.99, c) for o, c in zip(opens, closes, strict=True)]
        candles.append(frame(rows, start="2024-01-01", freq="8h"))
    cash = sum(abs(size) for size in sizes) * 100 * share
    deaths = lived(candles, sizes, cash, bars=12, terms=terms)
    if deaths:
        first = deaths[0]
        bars = next(number for number, time in enumerate(candles[0].index, 1) if time.timestamp() + 8 * 3600 == first.time)
        assert not lived(candles, sizes, cash + first.margin_to_add * 1.000001 + 1e-9, bars=bars, terms=terms)
