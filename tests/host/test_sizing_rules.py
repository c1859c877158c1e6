"""The sizing rules in runs whose numbers can be redone by hand, and what is true of all of them."""

import doctest
import math
import random
from collections import Counter
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import backtrader as bt
import pytest
from playing import CALM, frame, play
from trending import Trend

from bt_margin import Cerebro, MarginBroker, PerpCommInfo, PerpData, TierTable, run, sizers
from bt_margin.core import sizing
from bt_margin.core.sizing import optimal_fraction
from bt_margin.loading import sizer_from
from bt_margin.sizers.past import ClosedTrades, HighWater, Outcomes, Volatility, latest

STILL = (100, 100, 100, 100)
FREE = {"tiers": 0.01, "liquidation_fee": 0.0, "leverage": 10}


def at(price: float) -> tuple[float, float, float, float]:
    return (price, price, price, price)


def stands_at(stop):
    """Return a ``stop_for`` that always says this."""

    def stop_for(data, isbuy):
        return stop

    return stop_for


def ask(sizer, *rows, isbuy=True, before=None, terms=None, stop=None, mode="cross", cash=1_000, hedge=False):
    """Return what a sizer says after the last of some bars, and itself; ``before`` is done after the first."""
    said = []

    def last(strategy):
        if stop is not None:
            strategy.stop_for = stands_at(stop)
        strategy.setsizer(sizers.make(sizer))
        said.append(strategy.getsizing(isbuy=isbuy))
        said.append(strategy.getsizer())

    bars = rows or (STILL, STILL)
    script = {len(bars): last} | ({1: before} if before else {})
    play(
        script,
        frame(list(bars)),
        terms={**FREE, **(terms or {})},
        margin_mode=mode,
        cash=cash,
        **({"position_mode": "hedge"} if hedge else {}),
    )
    return said


def size(*args, **kwargs) -> float:
    return ask(*args, **kwargs)[0]


def walk(bars: int, seed: int = 7, *, scale: float = 0.01) -> list[tuple[float, float, float, float]]:
    """Return a random walk's candles."""
    source, price, rows = random.Random(seed), 100.0, []
    for _ in range(bars):
        path = [price]
        for _ in range(4):
            path.append(path[-1] * math.exp(source.gauss(0, scale / 2)))
        rows.append((path[0], max(path), min(path), path[-1]))
        price = path[-1]
    return rows


WALK = walk(600)


def run_trend(sizer, bars=600, *, margin_mode="cross", leverage=20, strategy=Trend, rows=WALK, **terms):
    return run(strategy, {"X": frame(rows[:bars])}, venue="generic", leverage=leverage, margin_mode=margin_mode, sizer=sizer, **terms)


def mode_of(name: str) -> str:
    return "isolated" if name == "isolated" else "cross"


# -- each rule by hand ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("size:size=2.5", 2.5),
        ("notional:notional=500", 5),
        ("notional:multiple=2", 2 * 1_000 / 100),
        ("margin:fraction=20%", 0.2 * 1_000 * 50 / 100),
        ("equity:fraction=3", 3 * 1_000 / 100),
        ("risk:fraction=1%", 0.01 * 1_000 / 5),  # the stop lies at 95
        ("risk:fraction=1%,slippage=1%", 10 / 5.95),
        ("maintenance:beta=3", 1_000 / (100 - 95 * 0.97)),
        ("maintenance:beta=3,inner=(risk:fraction=1%)", 2),
        ("fixed-ratio:unit=0.5", 5),
        ("martingale:inner=(size:size=3)", 3),
        ("anti-martingale:inner=(size:size=3)", 3),
        ("drawdown:inner=(size:size=3)", 3),
        ("turtle-account:inner=(size:size=3)", 3),
        ("floor:floor=0.7,multiple=3", 3 * 300 / 100),
        ("kelly:start=2%", 4),
        ("optimal-f:start=0.7", 7),
        ("secure-f:start=0.7", 7),
        ("margin-ratio:inner=(equity:fraction=9)", 90),
        ("margin-ratio:inner=(equity:fraction=9),ratio=0.2,cut=true", 1_000 / 0.2 / 100),
        ("concentration:inner=(size:size=3)", 3),
    ],
)
def test_first_orders_by_hand(text, expected):
    assert size(text, stop=95, terms={"leverage": 50}) == pytest.approx(expected)


def test_liquidation_beyond_the_stop_by_hand():
    # Ranges of 2 and a stop at 95: B = 95 - 2; (1 000) / (100 - 93 x 0.99). The account's own price is 93.
    rows = [CALM] * 4
    amount = size("liquidation:atr=2,beyond=1,spare=0", *rows, stop=95, terms={"leverage": 50})
    assert amount == pytest.approx(1_000 / (100 - 93 * 0.99))
    strategy = play({1: lambda s: s.buy(size=amount)}, frame([STILL] * 3), terms={**FREE, "leverage": 50}, margin_mode="cross")
    assert strategy.broker.liquidation_price(strategy.data) == pytest.approx(93)


def test_fees_of_both_ends_are_part_of_the_risk():
    assert size("risk", stop=95, terms={"commission": 0.001}) == pytest.approx(10 / (5 + 0.1 + 0.095))
    assert size("kelly:start=2%", stop=95, terms={"commission": 0.001}) == pytest.approx(20 / 5)  # as Kelly's formula has it


def test_an_entry_that_slips_survives_as_well():
    # filled at 101 of a price of 100; alive at 95 - 2, and with two maintenance margins at 95
    assert size("liquidation:atr=2,slippage=1%", *[CALM] * 4, stop=95, terms={"leverage": 50}) == pytest.approx(1_000 / (101 - 93 * 0.99))
    assert size("maintenance:slippage=1%", stop=95, terms={"leverage": 50}) == pytest.approx(1_000 / (101 - 95 * 0.98))
    # a short sold at 99
    short = size("maintenance:slippage=1%", stop=105, isbuy=False, terms={"leverage": 50})
    assert short == pytest.approx(1_000 / (105 * 1.02 - 99))


def test_a_short_is_sized_to_a_stop_above():
    assert size("risk", isbuy=False, stop=104) == pytest.approx(10 / 4)
    assert size("maintenance:beta=2", isbuy=False, stop=110, terms={"leverage": 90}) == pytest.approx(1_000 / (110 * 1.02 - 100))


def test_without_stop_for_the_stop_lies_so_many_ranges_away():
    rows = [CALM] * 16  # every range is 2
    amount, sizer = ask("risk:stop_atr=3", *rows)
    assert amount == pytest.approx(10 / 6)
    assert sizer.decisions[-1].stop == pytest.approx(94)
    assert size("atr:multiple=2", *rows) == pytest.approx(10 / 4)
    assert size("turtle", *[CALM] * 22) == pytest.approx(10 / 2)
    assert size("atr:multiple=2", *rows, terms={"mult": 5}) == pytest.approx(10 / 20)
    # a contract of 10 dollars gains 10 / 100^2 coins where the price gains one: 1 % of a coin over 4
    inverse = {"kind": "inverse", "mult": 10, "currency": "BTC"}
    assert size("atr:multiple=2", *rows, terms=inverse, cash=1) == pytest.approx(0.01 / (4 * 10 / 100**2))


@pytest.mark.parametrize("text", ["risk", "atr", "turtle", "liquidation", "maintenance", "volatility", "kelly", "kelly-continuous"])
def test_before_there_are_enough_bars_nothing_is_ordered_and_it_is_counted(text):
    amount, sizer = ask(text, *[CALM] * 10)
    assert amount == 0
    assert sizer.skipped == Counter(bars=1)
    assert sizer.decisions[-1].reason == "bars"


@pytest.mark.parametrize("stop", [100, 105, float("nan")])
def test_a_stop_on_the_wrong_side_orders_nothing(stop):
    amount, sizer = ask("risk", *([CALM] * 3), stop=stop)
    assert amount == 0
    assert sizer.skipped == (Counter(bars=1) if math.isnan(stop) else Counter(stop=1))  # no stop: the rule's own


@pytest.mark.parametrize(("stop", "known"), [(95, 95), (105, None), (0, None)])
def test_a_rule_that_needs_no_stop_keeps_one_only_where_the_order_would_lose(stop, known):
    amount, sizer = ask("size:size=2", stop=stop)
    assert (amount, sizer.decisions[-1].stop) == (2, known)


def test_a_stop_that_is_no_price_is_a_sentence():
    with pytest.raises(ValueError, match="stop_for returns the price of the stop or None, was 'low'"):
        size("risk", stop="low")


def test_volatility_is_of_a_year_by_the_length_of_the_bar():
    # Closes that rise and fall by the same share: every squared return is 0.01^2, hours have 8 760 bars a year.
    up, down = 101.0, 101.0 / 1.01
    rows = [at(up if number % 2 else down) for number in range(60)]
    returns = [(up / down - 1) ** 2, (down / up - 1) ** 2]
    sigma = math.sqrt(sum(returns) / 2 * 365 * 24)
    assert size("volatility:volatility=0.5", *rows) == pytest.approx(1_000 * 0.5 / sigma / rows[-1][3], rel=2e-3)


def test_a_volatility_target_adds_only_what_is_lacking():
    rows = [at(100 if number % 2 else 101) for number in range(60)]
    whole = size("volatility", *rows)
    near = lambda part: lambda strategy: strategy.buy(size=part * whole)  # noqa: E731
    assert size("volatility", *rows, before=near(0.5)) == pytest.approx(0.5 * whole, rel=0.02)
    amount, sizer = ask("volatility", *rows, before=near(0.97))
    assert (amount, sizer.skipped) == (0, Counter(buffer=1))


def test_continuous_kelly_follows_the_drift_and_stays_out_against_it():
    rows = [at(100 * 1.001**number * (1.01 if number % 2 else 1.0)) for number in range(60)]
    closes = [row[3] for row in rows][-51:]
    returns = [b / a - 1 for a, b in pairwise(closes)]
    mean = sum(returns) / 50
    variance = sum((r - mean) ** 2 for r in returns) / 49
    text = "kelly-continuous:period=50,kappa=0.1,most=50"
    assert size(text, *rows, terms={"leverage": 90}) == pytest.approx(0.1 * mean / variance * 1_000 / closes[-1])
    assert ask(text, *rows, isbuy=False)[1].skipped == Counter(edge=1)
    less = size(f"{text},rate={mean / 4}", *rows, terms={"leverage": 90})
    assert less == pytest.approx(0.1 * 0.75 * mean / variance * 1_000 / closes[-1])
    assert size("kelly-continuous:period=50,most=0.5", *rows) == pytest.approx(500 / closes[-1])


# -- every answer ends the same way ------------------------------------------------------------------------------------------


def test_the_tier_caps_what_is_ordered():
    # at 20x the first tier ends at 5 000 of notional; spare keeps 1 % of it
    tiers = {"tiers": [(5_000, 0.01, 20), (None, 0.02, 10)], "leverage": 20}
    assert size("equity:fraction=20,spare=0", terms=tiers) == pytest.approx(50)
    assert size("equity:fraction=20", terms=tiers) == pytest.approx(49.5)
    assert size("equity:fraction=5,spare=0", terms=tiers) == pytest.approx(50)  # the edge itself belongs to the tier
    assert size("equity:fraction=20,spare=0", terms=tiers, cash=300, isbuy=False) == pytest.approx(50)


def test_what_is_available_caps_it_with_the_fee():
    # 1 000 at 10x: q x (10 + 0.1 % x 100) = 1 000
    assert size("equity:fraction=30,spare=0", terms={"commission": 0.001}) == pytest.approx(1_000 / 10.1)
    assert size("equity:fraction=30,spare=0", before=lambda s: s.buy(size=40)) == pytest.approx(60)


def test_sizes_are_whole_lots_and_none_below_the_smallest_order():
    assert size("equity:fraction=1", terms={"lot": 3}) == 9
    for terms in ({"lot": 11}, {"min_size": 11}, {"min_notional": 1_001}):
        amount, sizer = ask("equity:fraction=1", terms=terms)
        assert (amount, sizer.skipped) == (0, Counter(least=1))
    assert size("equity:fraction=1", terms={"min_notional": 1_000}) == 10
    assert size("equity:fraction=1", terms={"max_size": 4, "lot": 3}) == 3


def test_what_is_against_the_position_closes_it():
    amount, sizer = ask("risk", before=lambda s: s.buy(size=7), isbuy=False, stop=105)
    assert amount == 7
    assert sizer.decisions == []


def test_in_hedge_mode_the_other_leg_is_opened_with_its_own_size():
    long = lambda s: s.buy(size=7, position_side="LONG")  # noqa: E731
    assert size("risk", before=long, isbuy=False, stop=105, hedge=True) == pytest.approx(2)
    # both legs at 120: 1 000 + 7 x 20 - q x 20 = (7 + q) x 120 x 1 %
    amount = size("maintenance:beta=1", before=long, isbuy=False, stop=120, hedge=True)
    assert amount == pytest.approx((1_140 - 8.4) / 21.2)


def test_an_inverse_contract_is_sized_in_coin():
    # 1 coin of 100 dollars; 1 % is 0.01 coin, and a contract of 10 dollars loses 10/80 - 10/100 = 0.025 coin to 80
    inverse = {"kind": "inverse", "mult": 10, "currency": "BTC"}
    assert size("risk", stop=80, terms=inverse, cash=1) == pytest.approx(0.01 / 0.025)
    assert size("equity:fraction=2", terms=inverse, cash=1) == pytest.approx(2 * 1 * 100 / 10)
    # alive at 80: 1 = q x (0.025 + 10/80 x 1 %)
    assert size("maintenance:beta=1", stop=80, terms=inverse, cash=1) == pytest.approx(1 / (0.025 + 0.00125))
    assert size("maintenance:beta=2", stop=125, isbuy=False, terms=inverse, cash=1) == pytest.approx(1 / (0.02 + 2 * 0.0008))


def test_spot_is_bought_with_what_is_there():
    spot = {"kind": "spot", "leverage": 1, "tiers": None}
    assert size("risk:fraction=1", stop=99, terms=spot) == pytest.approx(0.99 * 10)
    assert ask("risk", stop=101, isbuy=False, terms=spot)[1].skipped == Counter(room=1)


def test_slab_tiers_have_no_closed_form_and_are_searched():
    table = TierTable.from_rows([(2_000, 0.01, 50), (None, 0.05, 20)], mode="slab")
    # below 2 000 of notional at 95 (21.05): 1 000 / (5 + 0.95); above it 1 000 / (5 + 4.75)
    amount = size("maintenance:beta=1,spare=0", stop=95, terms={"tiers": table, "leverage": 20})
    assert amount == pytest.approx(1_000 / 9.75)


# -- margin-aware -------------------------------------------------------------------------------------------------------------


def test_isolated_margin_sets_the_leverage_that_puts_liquidation_beyond_the_stop():
    # risk 10 to 95: 2 contracts. B = 95 - 1 x 2 = 93: margin 2 x 7 + 2 x 93 x 1 % = 15.86, leverage 200 / 15.86 = 12.6: 12
    terms = {"leverage": 50}
    said = []

    def order(strategy):
        strategy.stop_for = stands_at(95)
        strategy.setsizer(sizers.IsolatedToStop(atr=2))
        said.append(strategy.buy())

    strategy = play({4: order}, frame([CALM] * 4 + [STILL] * 2), terms={**FREE, **terms})
    broker = strategy.broker
    assert strategy.position.size == pytest.approx(2)
    assert broker.account.positions["AAA"].leverage == 12
    assert broker.liquidation_price(strategy.data) == pytest.approx((100 - 100 / 12) / 0.99)
    assert broker.liquidation_price(strategy.data) < 93
    assert strategy.getsizer().decisions[-1].leverage == 12


def test_it_sets_no_more_leverage_than_the_tier_of_the_order_allows():
    # risk 10 to 99.5: 20 contracts, 2 000 of notional, whose tier allows 20x; the stop would allow 66x
    tiers = [(500, 0.005, 50), (None, 0.01, 20)]
    amount, sizer = ask("isolated:atr=2,beyond=0", *[CALM] * 4, stop=99.5, mode="isolated", terms={"tiers": tiers, "leverage": 50})
    assert (amount, sizer.decisions[-1].leverage) == (pytest.approx(20), 20)


def test_it_never_sets_more_leverage_than_there_was_and_adds_margin_to_what_is_open():
    def order(stop):
        def place(strategy):
            strategy.stop_for = stands_at(stop)
            if not isinstance(strategy.getsizer(), sizers.IsolatedToStop):
                strategy.setsizer(sizers.IsolatedToStop(atr=2))
            strategy.buy()

        return place

    strategy = play({4: order(95), 6: order(80)}, frame([CALM] * 4 + [STILL, CALM, STILL, STILL]), terms={**FREE, "leverage": 10})
    broker = strategy.broker
    assert broker.account.positions["AAA"].leverage == 10  # 12 would do for the first, but 10 was set
    assert [entry.kind for entry in broker.journal if entry.kind == "transfer"].count("transfer") >= 4
    assert strategy.position.size == pytest.approx(2 + 10 / 20, rel=1e-2)
    assert broker.liquidation_price(strategy.data) <= 80 - 1.0


def test_isolated_margin_is_no_ones_while_a_resting_order_needs_it():
    def order(strategy):
        strategy.buy(size=80, exectype=bt.Order.Limit, price=99)
        strategy.stop_for = stands_at(60)
        strategy.setsizer(sizers.IsolatedToStop(atr=2, fraction=0.2))

    strategy = play({3: order, 5: lambda s: s.buy()}, frame([CALM] * 3 + [STILL] * 4), terms=FREE)
    # 2x for a stop so far away would take five times as much for the 80 that rest
    assert strategy.getsizer().skipped == Counter(room=1)
    assert strategy.broker.account.positions["AAA"].leverage == 10


def test_what_is_too_small_to_order_moves_no_margin():
    amount, sizer = ask("isolated:atr=2", CALM, CALM, CALM, CALM, stop=95, mode="isolated", terms={"min_size": 3})
    assert (amount, sizer.skipped) == (0, Counter(least=1))
    assert sizer.decisions[-1].leverage == 10


def test_isolated_legs_of_a_hedge_share_their_leverage():
    long = lambda s: s.buy(size=1, position_side="LONG")  # noqa: E731
    # risk 10 to 106: a loss of 8 to 108 and 1.08 of maintenance are within the 10 that 10x gives; to 120 they are not
    for stop, reasons in ((106, Counter()), (120, Counter(room=1))):
        amount, sizer = ask("isolated:atr=2", CALM, CALM, CALM, CALM, before=long, isbuy=False, stop=stop, mode="isolated", hedge=True)
        assert sizer.skipped == reasons
        assert (amount > 0) == (not reasons)


def test_isolated_margin_that_is_not_there_makes_the_order_smaller():
    # at 1x the stop at 20 needs nearly all of the notional as margin: 1 000 buys 0.99 x 10 at most
    amount, sizer = ask("isolated:fraction=1,atr=1,beyond=0", CALM, CALM, CALM, stop=20, mode="isolated")
    assert sizer.decisions[-1].leverage == 1
    assert amount == pytest.approx(0.99 * 0.99 * 10, rel=2e-2)


def test_isolated_margin_is_refused_in_cross():
    with pytest.raises(ValueError, match="AAA is in cross margin"):
        size("isolated", *[CALM] * 20, stop=95)


def test_in_isolated_margin_a_stop_beyond_the_liquidation_price_leaves_no_room():
    # 10x dies at 90.9; no size changes that
    assert ask("maintenance:beta=1", stop=90, mode="isolated")[1].skipped == Counter(room=1)
    assert size("maintenance:beta=1,inner=(size:size=3)", stop=92, mode="isolated") == 3


@pytest.mark.parametrize(("text", "leverage", "price", "stop"), [("liquidation:atr=3", 20, 7.3, 8.1), ("maintenance:atr=3", 3, 7.3, 9.8)])
def test_where_no_size_survives_none_is_ordered_be_it_ever_so_small(text, leverage, price, stop):
    bars = [(price, price * 1.005, price * 0.995, price)] * 5
    amount, sizer = ask(text, *bars, stop=stop, isbuy=False, mode="isolated", terms={"leverage": leverage})
    assert (amount, sizer.skipped) == (0, Counter(room=1))


class HalfAgain(sizers.IsolatedToStop):
    def wanted(self, ask):
        return 1.5 * super().wanted(ask)


@pytest.mark.parametrize(
    "make_sizer", [lambda: sizers.make("martingale:inner=(isolated:atr=3,fraction=2%),factor=4"), lambda: HalfAgain(atr=3, fraction=0.1)]
)
def test_isolated_margin_is_that_of_the_size_that_is_ordered_not_of_the_rule_inside(make_sizer):
    """A loss comes first, so that the martingale orders four times as much: notional of other tiers, more margin for each contract."""
    tiers = TierTable.from_rows([(500, 0.005, 20), (1_500, 0.01, 20), (4_000, 0.02, 20), (None, 0.04, 20)], mode="marginal")

    def order(strategy):
        strategy.stop_for = stands_at(strategy.data.close[0] - 4)
        strategy.buy()

    def begin(strategy):
        strategy.setsizer(make_sizer())
        order(strategy)

    bars = [(100, 100.5, 99.5, 100)] * 6 + [(100, 100, 98.5, 99)] + [(99, 99.5, 98.5, 99)] * 6
    strategy = play(
        {5: begin, 7: lambda strategy: strategy.close(), 9: order},
        frame(bars),
        terms={"tiers": tiers, "leverage": 20},
        margin_mode="isolated",
        cash=1_000,
    )
    decision = strategy.getsizer().decisions[-1]
    assert decision.size * 99 > 500
    assert strategy.broker.liquidation_price(strategy.data) <= 95 - 0.99  # the stop, and a range beyond it


def test_a_cap_that_refuses_leaves_the_leverage_alone():
    def refused(strategy):
        strategy.stop_for = stands_at(50)
        strategy.setsizer(sizers.make("margin-ratio:inner=(isolated:atr=3,fraction=100%),ratio=1"))
        strategy.buy()

    strategy = play({5: refused}, frame([(100, 100.5, 99.5, 100)] * 7), terms=FREE, margin_mode="isolated", cash=1_000)
    assert strategy.getsizer().skipped == Counter(refused=1)
    assert strategy.broker.slot_of(strategy.data).position.leverage == 10


def test_a_cap_refuses_or_cuts():
    amount, sizer = ask("margin-ratio:inner=(equity:fraction=9),ratio=0.2")
    assert (amount, sizer.skipped) == (0, Counter(refused=1))
    assert size("margin-ratio:inner=(equity:fraction=4),ratio=0.2,cut=true", before=lambda s: s.buy(size=20)) == pytest.approx(30)


def test_a_concentration_is_judged_where_another_contract_is_held():
    said = []

    def first(strategy):
        strategy.buy(strategy.datas[0], size=10)

    def second(strategy):
        for cut in (False, True):
            strategy.setsizer(sizers.ConcentrationCap(inner="size:size=30", share=0.6, cut=cut))
            said.append(strategy.getsizing(strategy.datas[1]))
        said.append(strategy.getsizing(strategy.datas[0]))

    play({1: first, 3: second}, frame([STILL] * 4), frame([STILL] * 4), terms=FREE, margin_mode="cross")
    # 1 500 of 2 500 are 60 %; of the first alone 30 more contracts are not judged
    assert said == [0, pytest.approx(15), 30]


def test_a_concentration_counts_what_is_held_of_the_contract():
    def both(strategy):
        strategy.buy(strategy.datas[0], size=10)
        strategy.buy(strategy.datas[1], size=5)

    def then(strategy):
        strategy.setsizer(sizers.ConcentrationCap(inner="size:size=30", share=0.6, cut=True))
        strategy.buy(strategy.datas[1])

    strategy = play({1: both, 3: then}, frame([STILL] * 5), frame([STILL] * 5), terms=FREE, margin_mode="cross")
    assert strategy.getposition(strategy.datas[1]).size == pytest.approx(5 + 10)


def test_other_contracts_in_the_wallet_count_with_profit_and_maintenance():
    said = []

    def first(strategy):
        strategy.buy(strategy.datas[1], size=10)

    def then(strategy):
        strategy.stop_for = stands_at(95)
        strategy.setsizer(sizers.MaintenanceBuffer(beta=2, spare=0))
        said.append(strategy.getsizing(strategy.datas[0]))

    play(
        {1: first, 3: then},
        frame([STILL] * 4),
        frame([STILL, STILL, at(110), at(110)]),
        terms={**FREE, "leverage": 90},
        margin_mode="cross",
    )
    # W = 1 000 + 100 of profit - 2 x 1 % of 1 100
    assert said == [pytest.approx((1_100 - 22) / (100 - 95 * 0.98))]


@pytest.mark.parametrize("text", ["liquidation:beyond=1.5", "maintenance:beta=1.01", "liquidation:inner=equity"])
@pytest.mark.parametrize("leverage", [5, 30, 100])
def test_the_liquidation_price_after_a_fill_lies_where_it_was_asked_to(text, leverage):
    seen = []

    class Looks(Trend):
        def notify_order(self, order):
            if order.status == order.Completed and order.parent is None and not order.info.get("liquidation"):
                last = self.getsizer().decisions[-1]
                price = self.broker.liquidation_price(self.data)
                seen.append(price is None or (last.stop - price) * last.side > 0)

    result = run_trend(sizers.from_text(text), leverage=leverage, strategy=Looks, fee=0.0)
    assert seen
    assert all(seen)
    assert sizers.liquidations_by_stop(result.strategy).before_stop == 0


# -- several orders of one bar ------------------------------------------------------------------------------------------------


def on_one_bar(*acts, rule, stop=None, contracts=1, before=None, **account):
    """Return what acts on the fourth bar sent and the strategy; ``before`` is done after the first bar."""
    sent = []

    def act(strategy):
        if stop is not None:
            strategy.stop_for = stands_at(stop)
        strategy.setsizer(sizers.make(rule))
        sent.extend(each(strategy) for each in acts)

    terms = {**FREE, **account.pop("terms", {})}
    rows = [CALM] * 4 + [STILL] * 2
    script = {4: act} | ({1: before} if before else {})
    strategy = play(script, *[frame(rows)] * contracts, terms=terms, **{"margin_mode": "cross", **account})
    return [None if order is None else order.size for order in sent], strategy


def buys(number=0, **terms):
    return lambda strategy: strategy.buy(strategy.datas[number], **terms)


def test_two_contracts_entered_on_one_bar_do_not_both_take_all_there_is():
    # 60 at 10x take 600 of 1 000; the second is asked for 600 again, and finds 400 less the hundredth that is spared
    sizes, strategy = on_one_bar(buys(0), buys(1), rule="margin:fraction=60%", contracts=2)
    assert sizes == [60, pytest.approx(0.99 * 40)]
    assert strategy.broker.record.refusals == []


def test_a_cap_counts_what_was_sent_before_on_its_bar():
    sizes, strategy = on_one_bar(buys(0), buys(1), rule="margin-ratio:inner=(equity:fraction=6)", contracts=2, terms={"leverage": 50})
    assert sizes == [60, None]  # 12 000 of notional would be a ratio of 1 000 / 12 000
    assert strategy.getsizer().skipped == Counter(refused=1)
    cut = "margin-ratio:inner=(equity:fraction=6),cut=true"
    sizes, _ = on_one_bar(buys(0), buys(1), rule=cut, contracts=2, terms={"leverage": 50, "commission": 0.001})
    # the first has paid 6: (1 000 - 6 - 10 % of 6 000) / (10 % + 0.1 %) = 3 901
    assert sizes == [60, pytest.approx(394 / 0.101 / 100)]
    sizes, strategy = on_one_bar(buys(0), buys(1), rule="floor:multiple=20", contracts=2, terms={"leverage": 50})
    assert sizes == [60, None]  # 20 x (1 000 - 700) are 6 000
    assert strategy.getsizer().skipped == Counter(buffer=1)
    sizes, _ = on_one_bar(buys(0), buys(1), rule="concentration:inner=(size:size=30),share=0.4,cut=true", contracts=2)
    assert sizes == [30, pytest.approx(20)]  # 2 000 of 5 000


def test_an_entry_sent_with_the_order_that_closes_is_sized_by_the_rule():
    """``close()`` and ``buy()`` in one bar, with a short of 3 held: the rule is asked, not the short."""
    sell = lambda strategy: strategy.sell(size=3)  # noqa: E731
    sizes, strategy = on_one_bar(lambda s: s.close(), buys(), rule="equity:fraction=5", before=sell)
    assert sizes == [3, 50]
    assert strategy.position.size == 50
    assert [decision.size for decision in strategy.getsizer().decisions] == [50]
    sizes, _ = on_one_bar(buys(size=8, reduce_only=True), buys(), rule="equity:fraction=5", before=sell)
    assert sizes == [3, 50]  # a reduce-only order of 8 closes 3 and no more
    sizes, _ = on_one_bar(buys(size=1), buys(), rule="equity:fraction=5", before=sell)
    assert sizes == [1, 2]  # what is left of the short


def test_both_legs_of_a_hedge_opened_on_one_bar_fit():
    legs = [lambda s: s.buy(position_side="LONG"), lambda s: s.sell(position_side="SHORT")]
    sizes, strategy = on_one_bar(*legs, rule="margin:fraction=80%", position_mode="hedge")
    assert sizes == [80, pytest.approx(-0.99 * 20)]
    assert strategy.broker.record.refusals == []


def test_what_is_sent_and_would_be_refused_takes_no_room():
    sizes, _ = on_one_bar(buys(0, size=500), buys(1), rule="margin:fraction=60%", contracts=2)
    assert sizes == [500, 60]


def test_an_isolated_order_beside_one_on_its_way_keeps_its_promise_at_the_leverage_that_is_set():
    sell = lambda strategy: strategy.sell(size=3)  # noqa: E731
    close = lambda strategy: strategy.close()  # noqa: E731
    terms = {"rule": "isolated:atr=2", "margin_mode": "isolated", "before": sell}
    # 10x gives 10 for each; down to 93 a contract loses 7 and maintains 0.93; down to 78 it loses more than it has
    sizes, strategy = on_one_bar(close, buys(), stop=95, **terms)
    assert sizes == [3, pytest.approx(2)]
    assert strategy.broker.liquidation_price(strategy.data) == pytest.approx(90 / 0.99)
    sizes, strategy = on_one_bar(close, buys(), stop=80, **terms)
    assert sizes == [3, None]
    assert strategy.getsizer().skipped == Counter(room=1)
    sizes, strategy = on_one_bar(buys(), buys(), stop=80, rule="isolated:atr=2", margin_mode="isolated")
    assert sizes == pytest.approx([0.5, 0.5])  # 4x for the first, and it stays there for the second
    assert strategy.broker.liquidation_price(strategy.data) <= 78


def test_an_isolated_order_beside_one_of_another_contract_has_the_leverage_that_is_set_for_it():
    """20 % of 1 000 to 95 is 40, at 10x 400 of the 990 that are free; the contract stood at 2x, with which 19.8 would fit."""

    def at_two(strategy):
        rule = strategy.getsizer()
        rule.getsizing(strategy.datas[1], True)  # the ceiling is the leverage before the first order
        strategy.broker.set_leverage(strategy.datas[1], 2)

    sizes, strategy = on_one_bar(
        at_two, buys(0, size=1), buys(1), rule="isolated:atr=2,fraction=20%", stop=95, contracts=2, margin_mode="isolated"
    )
    assert sizes == [None, 1, pytest.approx(40)]
    assert strategy.broker.slot_of(strategy.datas[1]).position.leverage == 10


def test_of_orders_that_end_each_other_one_counts_as_filled():
    def either(strategy):
        strategy.buy(size=30, oco=strategy.buy(size=30))

    sizes, strategy = on_one_bar(either, buys(1), rule="margin:fraction=80%", contracts=2)
    assert sizes == [None, pytest.approx(0.99 * 70)]
    assert strategy.position.size == 30


def test_what_an_order_sent_ends_sets_nothing_aside():
    """A short of 50 rests at 105, and is ended by the 10 that are bought at once: 900 are left."""
    rest = []
    limit = lambda s: rest.append(s.sell(size=50, price=105, exectype=bt.Order.Limit))  # noqa: E731
    sizes, _ = on_one_bar(lambda s: s.buy(size=10, oco=rest[0]), buys(1), rule="equity:fraction=20", contracts=2, before=limit)
    assert sizes == [10, pytest.approx(0.99 * 90)]


# -- past trades ----------------------------------------------------------------------------------------------------------------


class Flips(bt.Strategy):
    """Buys and sells by its sizer on alternate bars; the rows decide what it wins and loses."""

    def next(self):
        if len(self) % 2:
            self.buy()
        else:
            self.close()

    def stop_for(self, data, isbuy):
        return data.close[0] - 10


def flips(outcomes):
    """Return bars on which a trade of each outcome (per unit) opens at 100 and closes at 100 plus it."""
    rows = [at(100)]
    for outcome in outcomes:
        rows += [at(100), (100 + outcome, 100 + outcome, min(100, 100 + outcome), 100)]
        rows[-1] = (100 + outcome, max(100, 100 + outcome), min(100, 100 + outcome), 100)
    return [*rows, at(100)]


def run_flips(sizer, outcomes, **terms):
    rows = flips(outcomes)
    return run(Flips, {"X": frame(rows)}, venue="generic", leverage=10, sizer=sizer, fee=0.0, cash=10_000, **terms).strategy


def test_closed_trades_are_known_once_they_are_closed_and_not_before():
    strategy = run_flips(sizers.from_text("martingale:inner=(size:size=1)"), [-1, -1, 2, -1])
    trades = strategy.getsizer().trades().all()
    assert [(trade.size, trade.profit) for trade in trades] == [(1, -1), (2, -2), (4, 8), (1, -1)]
    assert [trade.outcome for trade in trades] == pytest.approx([-0.01, -0.01, 0.02, -0.01])


def test_a_martingale_doubles_after_each_loss_and_starts_anew_after_a_win():
    strategy = run_flips(sizers.from_text("martingale:inner=(size:size=1),most=3"), [-1, -1, 2, -1, -1, -1, -1, -1, 1, -1])
    assert [decision.size for decision in strategy.getsizer().decisions] == [1, 2, 4, 1, 2, 4, 8, 8, 8, 1, 2]


def test_an_anti_martingale_doubles_after_each_win():
    strategy = run_flips(sizers.from_text("anti-martingale:inner=(size:size=1),most=2"), [1, 1, 1, -1, 1])
    assert [decision.size for decision in strategy.getsizer().decisions] == [1, 2, 4, 4, 1, 2]


def test_kelly_risks_what_the_last_trades_would_have_it():
    # 20 wins of 2 R and 10 losses of 1 R: phi = 2/3 - (1/3) / 2 = 1/2; half of it is a quarter of equity, to a stop 10 away
    outcomes = [20, 20, -10] * 10
    strategy = run_flips(sizers.from_text("kelly:kappa=0.5,start=1%,spare=0"), [*outcomes, 20])
    decisions = strategy.getsizer().decisions
    assert decisions[29].wanted == pytest.approx(0.01 * equity_after(strategy, 29) / 10)
    assert decisions[30].wanted == pytest.approx(0.25 * equity_after(strategy, 30) / 10)


def test_kelly_forgets_all_but_the_last_trades():
    # 30 trades of 1/2 as above, then 30 whose half wins 2 R: phi = 1/2 - (1/2) / 2 = 1/4
    strategy = run_flips(sizers.from_text("kelly:kappa=0.5,start=1%,spare=0"), [20, 20, -10] * 10 + [20, -10] * 15)
    assert strategy.getsizer().decisions[60].wanted == pytest.approx(0.5 * 0.25 * equity_after(strategy, 60) / 10)


def test_kelly_of_an_inverse_contract_counts_what_was_risked_in_coin():
    # 100 dollars a contract: to 120 it wins 100/100 - 100/120 = 1/6 coin, to 90 it loses 100/90 - 100/100 = 1/9: 1.5 R and -1 R
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=100)
    cerebro.broker.addcommissioninfo(PerpCommInfo(kind="inverse", mult=100, currency="BTC", leverage=10, tiers=0.01))
    cerebro.adddata(PerpData(dataname=frame(flips([20, 20, -10] * 10)), name="X"))
    cerebro.addstrategy(Flips)
    cerebro.addsizer(sizers.KellyTrades)
    strategy = cerebro.run()[0]
    equity = 100 + sum(trade.profit for trade in strategy.getsizer().trades().all())
    assert strategy.getsizer().decisions[30].wanted == pytest.approx(0.5 * (2 / 3 - (1 / 3) / 1.5) * equity / (1 / 9))


def test_kelly_without_an_edge_stays_out():
    strategy = run_flips(sizers.from_text("kelly"), [10, -10, -10] * 11)
    assert strategy.getsizer().skipped == Counter(edge=4)
    assert run_flips(sizers.from_text("kelly:least=0.1%"), [10, -10, -10] * 11).getsizer().skipped == Counter()


def equity_after(strategy, trades: int) -> float:
    return 10_000 + sum(trade.profit for trade in strategy.getsizer().trades().all()[:trades])


def test_optimal_f_stakes_the_worst_trade_so_far():
    # +2 % and -1 % of notional by turns: f = 1/4, so that 1 % of the notional is an eighth of equity at half of it: 12.5 x
    strategy = run_flips(sizers.from_text("optimal-f:start=0.5,spare=0"), [2, -1] * 15)
    last = strategy.getsizer().decisions[-1]
    assert optimal_fraction([0.02, -0.01] * 15) == pytest.approx(0.25)
    assert last.wanted == pytest.approx(0.5 * 0.25 / 0.01 * equity_after(strategy, 30) / 100)
    assert strategy.getsizer().decisions[29].wanted == pytest.approx(0.5 * equity_after(strategy, 29) / 100)


def test_optimal_f_is_of_the_last_trades_and_found_anew_with_each():
    # by turns +4 % and -1 %: f = 1/2 - (1/2) / 4; the +2 % of before count until they are 30 trades back
    strategy = run_flips(sizers.from_text("optimal-f:spare=0"), [2, -1] * 15 + [4, -1] * 15)
    decisions = strategy.getsizer().decisions
    assert decisions[60].wanted == pytest.approx(0.5 * 0.375 / 0.01 * equity_after(strategy, 60) / 100)
    half_way = optimal_fraction([0.02, -0.01] * 7 + [0.04, -0.01] * 8)
    assert decisions[46].wanted == pytest.approx(0.5 * half_way / 0.01 * equity_after(strategy, 46) / 100)


def test_secure_f_is_no_more_than_optimal_f_and_the_same_every_time():
    once, again = (run_flips(sizers.from_text("secure-f:drawdown=0.2"), [2, -1] * 20).getsizer().decisions for _ in range(2))
    free = run_flips(sizers.from_text("optimal-f:kappa=1"), [2, -1] * 20).getsizer().decisions
    assert once == again
    assert once[30].wanted < free[30].wanted


def test_a_fixed_ratio_grows_with_closed_profit():
    # a unit is 0.1 x 10 000 / 100 = 10 contracts; delta 100 takes 100, 300 and 600 of profit: 10 a point
    text = "fixed-ratio:unit=0.1,delta=1%"
    sizes = [decision.size for decision in run_flips(sizers.from_text(text), [10, 10, 10, -30]).getsizer().decisions]
    assert sizes == pytest.approx([10, 20, 30, 40, 10])  # profits 0, 100, 300, 600, -600


def test_a_trade_is_held_against_the_last_decision_before_it_though_another_contract_stands_on_an_old_bar():
    """Longs of X begin at hours 5 and 10; at hour 9 Y is asked of too, whose last bar is of hour 2."""

    def decision(hour, symbol, stop):
        return sizers.Decision(3_600.0 * hour, symbol, 1, 100.0, stop, 1.0, 1.0, 1.0, "")

    told = [decision(4, "X", 95.0), decision(9, "X", 98.0), decision(2, "Y", 99.0), decision(11, "X", 97.0)]
    begin = bt.date2num(datetime(1970, 1, 1))
    trades = [sizers.ClosedTrade("X", 1, begin + hour / 24, begin + 1, 1.0, 100.0, 10.0) for hour in (5, 10)]
    past = SimpleNamespace(all=lambda: trades)
    outcomes = Outcomes(past, lambda: told, lambda _, price, stop: price - stop).all()
    assert outcomes == pytest.approx([10 / 5, 10 / 2])


class FlipsTwo(bt.Strategy):
    """Trades the first contract only, and asks for a size of the second one each time."""

    def __init__(self):
        self.asked = []

    def next(self):
        if len(self) % 2:
            self.asked.append(self.getsizing(self.data1))
            self.buy(self.data0)
        else:
            self.close(self.data0)


def asked_of_another(rule, outcomes):
    rows = flips(outcomes)
    data = {"X": frame(rows), "Y": frame([at(100)] * len(rows))}
    return run(FlipsTwo, data, venue="generic", leverage=10, sizer=sizers.from_text(rule), fee=0.0, cash=10_000).strategy.asked


def test_a_martingale_looks_at_its_own_contract_and_a_fixed_ratio_at_all():
    assert asked_of_another("martingale:inner=(size:size=1)", [-1, -1, -1]) == [1, 1, 1, 1]
    assert asked_of_another("anti-martingale:inner=(size:size=1)", [1, 1, 1]) == [1, 1, 1, 1]
    # as above: units of 10, and 100 of profit for the second, 200 more for the third
    assert asked_of_another("fixed-ratio:unit=0.1,delta=1%", [10, 10, 10]) == pytest.approx([10, 20, 30, 40])


def test_trades_of_brackets_under_several_ids_come_in_the_order_in_which_they_closed():
    class Two(bt.Strategy):
        def next(self):
            if len(self) == 1:
                self.buy(size=1, tradeid=1)
                self.buy(size=2, tradeid=2)
            elif len(self) == 3:
                self.sell(size=2, tradeid=2)
            elif len(self) == 5:
                self.sell(size=1, tradeid=1)

    trades = []

    class Learns(sizers.FixedContracts):
        learns = True

    result = run(Two, {"X": frame([at(100 + n) for n in range(9)])}, venue="generic", leverage=10, fee=0.0, sizer=Learns)
    trades = result.strategy.getsizer().trades().all()
    assert [(trade.size, trade.profit) for trade in trades] == [(2, 4), (1, 4)]


# -- drawdowns -----------------------------------------------------------------------------------------------------------------


def test_a_drawdown_is_from_the_highest_close_also_between_orders_and_deposits_move_it():
    seen = {}

    def look(strategy):
        seen[len(strategy)] = (HighWater(strategy.broker).peak(), HighWater(strategy.broker).drawdown())

    def pay(strategy):
        look(strategy)
        strategy.broker.add_cash(500)

    rows = [at(100), at(100), at(120), at(110), at(110), at(110)]
    play({1: lambda s: s.buy(size=10), 4: pay, 6: look}, frame(rows), terms=FREE, margin_mode="cross")
    assert seen[4] == (pytest.approx(1_200), pytest.approx(100 / 1_200))
    assert seen[6] == (pytest.approx(1_700), pytest.approx(100 / 1_700))


def test_sizes_shrink_in_a_drawdown():
    def lose(strategy):
        strategy.buy(size=10)

    rows = [at(100), at(100), at(85)]  # 150 of 1 000 are gone
    text = "drawdown:inner=(size:size=8),most=0.3"
    assert size(text, *rows, before=lose) == pytest.approx(4)
    assert size("turtle-account:inner=(size:size=10)", *rows, before=lose) == pytest.approx(8)
    assert ask("drawdown:inner=(size:size=8),most=0.1", *rows, before=lose)[1].skipped == Counter(edge=1)
    # 3 x (850 - 0.7 x 1 000) = 450, and 850 are held
    assert ask("floor", *rows, before=lose)[1].skipped == Counter(buffer=1)
    assert size("floor:multiple=9", *rows, before=lose) == pytest.approx((9 * 150 - 850) / 85)
    # 200 won and 100 lost again: 1 100 against a floor of 70 % of 1 200
    risen = size("floor:multiple=9", at(100), at(100), at(120), at(110), before=lose)
    assert risen == pytest.approx((9 * (1_100 - 0.7 * 1_200) - 1_100) / 110)


def test_the_tail_of_a_record_is_the_end_of_its_column():
    record = run_trend(sizers.from_text("equity")).strategy.broker.record
    assert record.passed  # some bars were passed in a lull
    whole = list(record.column("equity"))
    for row in (0, 1, 137, len(whole) - 1, len(whole)):
        assert list(record.tail("equity", row)) == whole[row:]


def test_the_peak_found_in_pieces_is_the_peak_of_all():
    result = run_trend((sizers.DrawdownScaled, {"inner": "equity", "most": 0.9}))
    equity = list(result.strategy.broker.record.column("equity"))
    assert result.strategy.getsizer().water().peak() == max(10_000, *equity)


# -- averages ---------------------------------------------------------------------------------------------------------------------


class Compares(bt.Strategy):
    """Asks its sizer now and then, and compares the average true range with the host's."""

    params = (("period", 14), ("every", 7))

    def __init__(self):
        self.range = bt.ind.ATR(period=self.p.period)
        self.own = sizers.AverageRange(self.p.period)
        self.differences = []
        self.compared = 0

    def prenext(self):
        assert self.own.value(self.data) is None

    def next(self):
        if len(self) % self.p.every == 0:
            self.compared += 1
            if self.own.value(self.data) != self.range[0]:
                self.differences.append(len(self))


@pytest.mark.parametrize("modes", [{}, {"runonce": False}, {"preload": False}, {"exactbars": -1}])
@pytest.mark.parametrize("engine", [bt.Cerebro, Cerebro])
@pytest.mark.parametrize("every", [1, 13])
def test_the_average_range_has_the_bits_of_the_hosts(engine, modes, every):
    cerebro = engine(stdstats=False)
    cerebro.broker = MarginBroker()
    cerebro.adddata(PerpData(dataname=frame(WALK[:300]), name="X"))
    cerebro.addstrategy(Compares, every=every)
    strategy = cerebro.run(**modes)[0]
    assert strategy.compared > 15
    assert strategy.differences == []


def test_the_average_range_has_them_on_stock_feeds_and_brokers_too():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=frame(WALK[:300]).tz_localize(None)))
    cerebro.addstrategy(Compares)
    assert cerebro.run()[0].differences == []


def test_bars_that_exactbars_has_thrown_away_are_a_sentence():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=frame(WALK[:60]).tz_localize(None)))
    cerebro.addstrategy(Compares, every=50)
    with pytest.raises(ValueError, match=r"an average needs .* bars back, and exactbars keeps fewer"):
        cerebro.run(exactbars=1)


def test_averages_are_of_the_bars_before_where_the_present_one_is_not_over():
    seen = {}

    def look(strategy):
        seen["full"] = sizers.AverageRange(3).value(strategy.data)
        seen["ahead"] = sizers.AverageRange(3).value(strategy.data, 1)
        seen["closes"] = list(latest(strategy.data.close, 2, 1))
        seen["volatility"] = Volatility(3).value(strategy.data, 1)

    play({5: look}, frame([(100, 100 + n, 100, 100 + n) for n in range(1, 7)]), terms=FREE)
    # true ranges of bars 2 to 5: 2, 3, 4, 5
    assert seen["ahead"] == pytest.approx(3)
    assert seen["full"] == pytest.approx(3 * (1 - 1 / 3) + 5 / 3)
    assert seen["closes"] == [103, 104]
    assert seen["volatility"] == pytest.approx(((102 / 101 - 1) ** 2 + (103 / 102 - 1) ** 2 + (104 / 103 - 1) ** 2) / 3)


# -- what is true of all -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(sizers.RULES))
def test_no_rule_knows_what_has_not_happened_yet(name):
    """The decisions of a run are the same whatever comes after them, down to the last digit."""
    text = {
        "kelly-continuous": "kelly-continuous:period=50",
        "isolated": "isolated:fraction=5%",
        "kelly": "kelly:least=1%",
        "optimal-f": "optimal-f:least=0.1",
        "secure-f": "secure-f:least=0.1",
    }.get(name, name)
    terms = {"margin_mode": mode_of(name), "params": {"period": 4, "stop_atr": 1.0, "target_atr": 1.5}}
    whole = run_trend(sizers.from_text(text), **terms).strategy.getsizer()
    part = run_trend(sizers.from_text(text), rows=WALK[:400] + walk(50, seed=3), **terms).strategy
    last = part.broker.record.column("time")[399]
    decisions = [decision for decision in part.getsizer().decisions if decision.time <= last]
    assert len(decisions) > 60 or name in ("liquidation", "maintenance")  # those two are soon out of money
    assert decisions == [decision for decision in whole.decisions if decision.time <= last]


@pytest.mark.parametrize("name", sorted(sizers.RULES))
@pytest.mark.parametrize("mode", ["cross", "isolated"])
def test_no_order_of_a_rule_is_refused_but_for_its_open(name, mode):
    if name == "isolated" and mode == "cross":
        return
    result = run(
        Trend, {"BTCUSDT": frame([tuple(300 * price for price in row) for row in WALK])}, leverage=25, margin_mode=mode,
        sizer=sizers.from_text(name), check=True,
    )  # fmt: skip
    sizer = result.strategy.getsizer()
    lot = result.strategy.broker.getcommissioninfo(result.strategy.data).p.lot
    assert result.strategy.broker.record.refusals == []
    assert all(abs(decision.size / lot - round(decision.size / lot)) < 1e-6 for decision in sizer.decisions)
    assert sum(sizer.skipped.values()) == sum(not decision.size for decision in sizer.decisions)
    assert set(sizer.skipped) <= set(sizers.REASONS)
    assert {decision.side for decision in sizer.decisions} == {1, -1}


@pytest.mark.parametrize("name", sorted(sizers.RULES))
def test_on_stock_backtrader_a_rule_runs_or_says_that_it_needs_margin(name):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=frame(WALK).tz_localize(None)))
    cerebro.addstrategy(Trend)
    cerebro.addsizer(*[sizers.RULES[name]])
    cerebro.broker.setcash(10_000)
    cerebro.broker.setcommission(commission=0.0005, leverage=10)
    if sizers.RULES[name]().asks_margin:
        with pytest.raises(ValueError, match=f"{sizers.RULES[name].__name__} asks the account for its margin; run it under"):
            cerebro.run()
    else:
        strategy = cerebro.run()[0]
        assert any(decision.size for decision in strategy.getsizer().decisions) or strategy.getsizer().skipped


class AtOpen(bt.Strategy):
    """Buys by its sizer before the sixth bar has shown more than its open."""

    def next_open(self):
        if len(self.data) == 6:
            self.buy()


@pytest.mark.parametrize(
    "text", ["equity", "equity:fraction=50", "risk:atr=3", "liquidation:atr=3", "volatility:period=3", "kelly-continuous:period=4"]
)
def test_under_cheat_on_open_a_size_is_of_the_open_and_of_the_bars_before(text):
    kind, params = sizers.from_text(text)
    decisions = []
    for close in (90, 100, 130):
        cerebro = bt.Cerebro(stdstats=False, cheat_on_open=True)
        cerebro.broker = MarginBroker(cash=1_000, coo=True)
        cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=10, tiers=0.01))
        last = (100, max(close, 100), min(close, 100), close)
        cerebro.adddata(PerpData(dataname=frame([CALM, (100, 103, 99, 101), CALM, (100, 101, 98, 100), CALM, last, STILL]), name="X"))
        cerebro.addstrategy(AtOpen)
        cerebro.addsizer(kind, **params)
        decisions += cerebro.run()[0].getsizer().decisions
    assert len(decisions) == 3
    assert len(set(decisions)) == 1
    assert decisions[0].price == 100
    assert decisions[0].size > 0


def test_of_a_contract_without_a_bar_nothing_is_ordered():
    said = []

    class Early(bt.Strategy):
        def prenext(self):
            self.next()

        def next(self):
            if len(self) == 2:
                said.append((len(self.data1), self.getsizing(self.data1), dict(self.getsizer().skipped)))

    late = frame([at(500)] * 3, start="2024-01-01 05:00")
    run(Early, {"X": frame([STILL] * 6), "Y": late}, venue="generic", leverage=10, sizer=sizers.EquityFraction)
    assert said == [(0, 0, {"bars": 1})]


class Brackets(bt.Strategy):
    """Sends brackets without a size: the sizer says how large they are."""

    params = (("name", None),)

    def __init__(self):
        self.sent = []

    def next(self):
        if not self.position and not any(order and order.alive() for orders in self.sent for order in orders):
            at = self.data.close[0]
            place, side = (self.buy_bracket, 1) if len(self) % 2 else (self.sell_bracket, -1)
            self.sent.append(
                place(self.p.name, exectype=bt.Order.Market, stopprice=at * (1 - 0.02 * side), limitprice=at * (1 + 0.02 * side))
            )


@pytest.mark.parametrize("name", [None, "X"])
def test_a_bracket_that_the_rule_makes_nothing_of_is_three_orders_that_are_not_there(name):
    result = run_trend((sizers.RiskToStop, {}), 60, strategy=Brackets, params={"name": name})
    strategy = result.strategy
    assert strategy.sent[:14] == [[None, None, None]] * 14  # 14 true ranges need 15 bars
    entry, stop, target = strategy.sent[14]
    assert entry.size == -stop.size == -target.size == strategy.getsizer().decisions[14].size
    assert (stop.parent, target.parent) == (entry, entry)
    assert strategy.getsizer().skipped == {"bars": 14}
    assert "entries that the sizer made nothing of, by reason (each bar asked on): bars 14" in result.summary["flags"]


def test_a_strategy_that_says_its_sizes_itself_is_told_of_a_sizer_that_has_no_part():
    class OwnSize(bt.Strategy):
        def next(self):
            if not self.position:
                self.buy(size=1)

    flags = run_trend((sizers.RiskToStop, {}), 30, strategy=OwnSize).summary["flags"]
    assert sum(flag.startswith("the sizer was asked for no entry") for flag in flags) == 1
    flags = run_trend((sizers.EquityFraction, {})).summary["flags"]
    assert not any("sizer" in flag for flag in flags)


def test_a_question_asked_twice_on_a_bar_counts_once():
    def twice(strategy):
        strategy.setsizer(sizers.RiskToStop())
        strategy.getsizing()
        strategy.buy()

    strategy = play({2: twice}, frame([CALM] * 4), terms=FREE)
    assert len(strategy.getsizer().decisions) == 1
    assert strategy.getsizer().skipped == Counter(bars=1)


def test_a_sizer_given_to_another_run_forgets_the_one_before():
    sizer = sizers.RiskToStop()
    for _ in range(2):
        play({3: lambda s: (s.setsizer(sizer), s.getsizing())}, frame([CALM] * 4), terms=FREE)
        assert len(sizer.decisions) == 1


# -- names -----------------------------------------------------------------------------------------------------------------------


def test_rules_are_named_in_texts():
    assert sizers.from_text("risk") == (sizers.RiskToStop, {})
    assert sizers.from_text("risk:fraction=1%,stop_atr=2") == (sizers.RiskToStop, {"fraction": 0.01, "stop_atr": 2})
    assert sizers.from_text("martingale:inner=(risk:fraction=0.02,atr=20),most=3") == (
        sizers.Martingale,
        {"inner": "risk:fraction=0.02,atr=20", "most": 3},
    )
    nested = sizers.make("drawdown:inner=(martingale:inner=(size:size=2)),most=0.5")
    assert nested.inner.inner.p.size == 2


@pytest.mark.parametrize("text", ["kelly:trades=30.0", "secure-f:draws=9.0,trades=30.0", "kelly-continuous:period=50.0", "risk:atr=14.0"])
def test_a_whole_number_may_be_written_with_a_point(text):
    assert (
        run_trend(sizers.from_text(text)).strategy.getsizer().decisions
        == run_trend(sizers.from_text(text.replace(".0", ""))).strategy.getsizer().decisions
    )


def test_the_command_line_names_every_rule():
    assert sizer_from("risk:fraction=2%") == (sizers.RiskToStop, {"fraction": 0.02})
    assert sizer_from("RiskToStop:fraction=0.02") == (sizers.RiskToStop, {"fraction": 0.02})
    assert sizer_from("PercentSizer:percents=50") == (bt.sizers.PercentSizer, {"percents": 50})
    assert sizer_from("2.5") == 2.5
    for name in sizers.RULES:
        assert sizer_from(name) == (sizers.RULES[name], {})
    with pytest.raises(ValueError, match=r"--sizer rsik is no number and no sizer; known are anti-martingale, .*Backtrader's AllInSizer"):
        sizer_from("rsik")
    for text in ("risk:", "risk:fraction", "martingale:inner=risk:fraction=1%"):
        with pytest.raises(ValueError, match=f"--sizer {text}: a rule is NAME or NAME:key=value,key=value; a rule inside it stands in"):
            sizer_from(text)
    with pytest.raises(ValueError, match="--sizer gives fraction twice"):
        sizer_from("risk:fraction=1%,fraction=2%")


def test_the_examples_in_the_room_hold():
    found = [doctest.testmod(room) for room in (sizers.base, sizers.learned, sizing)]
    assert [result.failed for result in found] == [0, 0, 0]
    assert sum(result.attempted for result in found) > 30


def test_the_page_on_sizing_names_every_rule_and_every_parameter():
    page = (Path(__file__).parents[2] / "docs" / "sizing.md").read_text("utf-8")
    for name, kind in sizers.RULES.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        named = set(kind.params._getkeys()) - {"spare"}
        assert [param for param in sorted(named) if f"`{param}`" not in row] == [], name
        assert f"`{kind.__name__}`" in row


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("risk", "risk 1 % to stop"),
        ("risk:fraction=2.5%", "risk 2.5 % to stop"),
        ("equity:fraction=3", "3 x equity"),
        ("kelly:kappa=0.25", "quarter Kelly of 30 trades"),
        ("liquidation:beyond=2", "liquidation 2 ATR beyond stop"),
        ("maintenance:inner=risk", "risk 1 % to stop, 2 x maintenance at stop"),
        ("martingale:inner=(size:size=1)", "1 contracts, x2 after a loss"),
        (2.5, "2.5 contracts"),
        ("0.5", "0.5 contracts"),
        ((bt.sizers.PercentSizer, {"percents": 50}), "PercentSizer percents=50"),
        (bt.sizers.FixedSize, "FixedSize"),
    ],
)
def test_labels_are_few_words(spec, words):
    assert sizers.label(spec) == words


def test_every_rule_has_a_label_of_its_own():
    labels = [sizers.label(name) for name in sizers.RULES]
    assert len(set(labels)) == len(labels)
    assert max(map(len, labels)) < 64


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("risk:fraction=..%", "RiskToStop: fraction is a fraction above 0 and at most 1 .*, was '..%'"),
        ("martingale:inner=(" * 400 + "risk" + ")" * 400, "a sizing rule has at most 20 brackets inside brackets"),
        ("secure-f:draws=1e12", "SecureF: draws is a whole number from 1 to 100,000, was 1000000000000.0"),
        (sizers.Rule, "Rule sizes nothing; derive a class from it"),
        ("rsik", "'rsik' is no sizing rule; known are anti-martingale, atr, .*volatility"),
        ("risk:fractoin=1", "risk has no parameter fractoin; it has spare, fraction, slippage, stop_atr, atr"),
        ("risk:fraction=0", "RiskToStop: fraction is a fraction above 0 and at most 1 .*, was 0"),
        ("risk:fraction=high", "RiskToStop: fraction is .*, was 'high'"),
        ("risk:fraction=true", "RiskToStop: fraction is .*, was True"),
        ("risk:atr=2.5", "RiskToStop: atr is a whole number of 1 or more, was 2.5"),
        ("risk:slippage=-1", "RiskToStop: slippage is a number of 0 or more, was -1"),
        ("risk:spare=1", "RiskToStop: spare is a fraction from 0 to below 1"),
        ("risk:fraction=1,fraction=2", "a sizing rule gives fraction twice; leave one out"),
        ("risk:fraction=1,2=", "a sizing rule takes key=value|risk has no parameter 2"),
        ("kelly:trades=29", "KellyTrades: trades is a whole number of trades, 30 or more, was 29"),
        ("kelly:kappa=1.5", "KellyTrades: kappa is a fraction above 0"),
        ("secure-f:chance=1", "SecureF: chance is a fraction from 0 to below 1"),
        ("secure-f:drawdown=1", "SecureF: drawdown is a fraction between 0 and 1"),
        ("martingale:factor=1", "Martingale: factor is a number above 1"),
        ("martingale:inner=(rsik)", "'rsik' is no sizing rule"),
        ("martingale:inner=(risk:foo=1)", "risk has no parameter foo"),
        ("maintenance:beta=0.5", "MaintenanceBuffer: beta is a number of 1 or more"),
        ("margin-ratio:cut=1", "MarginRatioCap: cut is true or false, was 1"),
        ("concentration:share=1", "ConcentrationCap: share is a fraction between 0 and 1"),
        ("notional:notional=-5", "FixedNotional: notional is an amount of money above 0, or None"),
        ("floor:floor=1.2", "DrawdownFloor: floor is a fraction between 0 and 1"),
        (dict, "a sizer is a name such as 'risk'"),
        ((bt.sizers.PercentSizer, {"percent": 5}), "PercentSizer has no parameter percent; it has percents"),
    ],
)
def test_what_is_no_rule_is_one_sentence(spec, sentence):
    with pytest.raises(ValueError, match=sentence) as raised:
        sizers.make(spec)
    assert str(raised.value).count(". ") == 0


def test_liquidations_are_told_by_where_the_mark_stood():
    def order(strategy):
        strategy.stop_for = stands_at(85)
        strategy.setsizer(sizers.FixedContracts(size=1))
        strategy.buy()

    before = play({1: order}, frame([STILL, STILL, (100, 100, 88, 90), STILL]), terms=FREE)  # dies at 90.9
    past = play({1: order}, frame([STILL, STILL, at(80), STILL]), terms=FREE)
    without = play({1: lambda s: s.buy(size=1)}, frame([STILL, STILL, at(80), STILL]), terms=FREE)
    assert [tuple(sizers.liquidations_by_stop(strategy)) for strategy in (before, past, without)] == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]


def test_closed_trades_ask_the_host_to_keep_their_fills_and_change_nothing_else():
    plain, kept = (
        run_trend(kind).strategy for kind in ((sizers.EquityFraction, {}), (type("Learns", (sizers.EquityFraction,), {"learns": True}), {}))
    )
    assert plain.broker.record.fills[5][:5] == kept.broker.record.fills[5][:5]
    assert len(plain.broker.record.fills) == len(kept.broker.record.fills)
    assert ClosedTrades(kept).all()[0].size > 0
