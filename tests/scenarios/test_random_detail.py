"""Random traders whose bars have finer bars inside; ``check=True`` asserts on every bar, also that plans happen as planned."""

import math

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from scenarios.test_random_hedger import KINDS, RandomHedger
from scenarios.test_random_trader import OTHERS, TIERS, RandomTrader, wild_frame

from bt_margin import MarginBroker, PerpCommInfo, PerpData, TopUp
from bt_margin.core.path import PATHS
from bt_margin.core.profiles import PROFILES

PRICES = {"open": "first", "high": "max", "low": "min", "close": "last"}


def hours_and_quarters(seed, hours, *, start):
    """Return hourly candles, the quarters of an hour they are made of, which jump between each other, and funding rates."""
    quarters = wild_frame(seed, hours * 4, start=start).drop(columns="funding_rate")
    quarters.index = pd.date_range("2024-01-01", periods=len(quarters), freq="15min", tz="UTC")
    whole = {**PRICES, "volume": "sum", **{f"mark_{price}": how for price, how in PRICES.items()}}
    rng = np.random.default_rng(seed)
    stamps = pd.date_range("2024-01-01", periods=hours // 2, freq="2h", tz="UTC") + pd.to_timedelta(
        rng.choice((0, 7, 15, 20, 45)), unit="min"
    )
    return quarters.resample("1h").agg(whole), quarters, pd.Series(rng.normal(0, 0.001, len(stamps)), index=stamps)


def run_detailed(
    seed,
    strategy=RandomTrader,
    *,
    hours=250,
    profile="market",
    has_marks=True,
    without=(),
    more=({},) * 3,
    grace=0,
    modes=None,
    **broker_args,
):
    """Run a random trader on three contracts, one cross, one isolated, one cross again; those of ``without`` have no detail."""
    cerebro = bt.Cerebro(stdstats=False, **(modes or {}))
    cerebro.broker = MarginBroker(**{"cash": 10_000, "check": True, **broker_args})
    starts = (20_000.0, 21_000.0, 20_500.0) if more[0].get("kind") == "inverse" else (100.0, 3.0, 20_000.0)
    for number, (name, mode) in enumerate((("AAA", "cross"), ("BBB", "isolated"), ("CCC", "cross"))):
        terms = {"leverage": (20, 10, 5)[number], "commission": 0.0005, "maker": 0.0002, "tiers": TIERS, "profile": profile}
        cerebro.broker.addcommissioninfo(PerpCommInfo(**{**terms, "margin_mode": mode, **more[number]}), name=name)
        whole, finer, rates = hours_and_quarters(seed * 10 + number, hours, start=starts[number])
        if not has_marks:
            finer = finer[[*PRICES, "volume"]]
        funding = None if more[number].get("kind") == "spot" else rates
        detail = None if name in without else finer
        cerebro.adddata(
            PerpData(dataname=whole, name=name, detail=detail, funding=funding, grace_seconds=grace if funding is not None else 0)
        )
    cerebro.addstrategy(strategy, seed=seed, appetite=0.3)
    return cerebro.run()[0]


def check_books(strategy):
    record, journal = strategy.broker.record, strategy.broker.journal
    assert math.fsum(journal.balances().values()) == pytest.approx(0.0, abs=1e-9 * journal.turnover())
    assert min(record.column("equity")) >= 0.0
    assert min(record.column("lowest_equity")) >= -1e-6
    assert record.detailed.total() > 5
    assert record.walked_bars > 5, "the trader must be wild enough to come near to a liquidation"


CASES = {
    "filler": {"filler": bt.broker.fillers.FixedSize(size=1)},
    "part of the volume": {"filler": bt.broker.fillers.BarPointPerc(minmov=0.5, perc=50.0)},
    "shrink": {"unfunded": "shrink"},
    "top-ups": {"top_up": {"BBB": TopUp(ratio=4.0), "cross": TopUp(amount=500, deposit=True)}},
    "slippage": {"slip_perc": 0.002, "slip_open": True},
    "slippage that leaves the bar": {"slip_perc": 0.002, "slip_match": False, "slip_out": False},
    "grace": {"grace": 900},
    "no marks": {"has_marks": False},
    "one without": {"without": ("BBB",)},
    "two without": {"without": ("AAA", "CCC")},
    "cheat on close": {"coc": True},
    "refill": {"on_liquidation": "refill", "refill": 5_000},
}


@pytest.mark.parametrize(("number", "name"), list(enumerate(CASES)))
def test_random_trading_with_detail_keeps_every_invariant(number, name):
    check_books(run_detailed(3 + number, intrabar=PATHS[number % 3], **CASES[name]))


@pytest.mark.parametrize(("number", "profile"), list(enumerate(PROFILES)))
def test_every_kind_and_profile_keeps_every_invariant_with_detail(number, profile):
    others = [*OTHERS][number % len(OTHERS)]
    check_books(run_detailed(5, profile=profile, intrabar=PATHS[number % 3], hours=160, more=OTHERS[others]))


@pytest.mark.parametrize(("number", "kind"), list(enumerate(KINDS)))
def test_hedgers_with_detail_keep_every_invariant(number, kind):
    terms = {"intrabar": PATHS[number % 3], "position_mode": "hedge", "unfunded": "shrink"}
    check_books(run_detailed(7, RandomHedger, hours=200, more=(KINDS[kind],) * 3, **terms))


@pytest.mark.slow
@pytest.mark.parametrize("intrabar", PATHS)
@pytest.mark.parametrize("others", OTHERS)
@pytest.mark.parametrize("profile", PROFILES)
def test_all_of_them_together_keep_every_invariant_with_detail(others, profile, intrabar):
    check_books(run_detailed(6, profile=profile, intrabar=intrabar, hours=120, more=OTHERS[others]))


@pytest.mark.parametrize("mode", [{"runonce": False}, {"preload": False}, {"exactbars": -1}])
def test_run_modes_agree_with_detail(mode):
    once, other = run_detailed(4), run_detailed(4, modes=mode)
    assert other.seen == once.seen
    assert other.broker.record.table().tolist() == once.broker.record.table().tolist()
