"""What pays a funding fee, how much of it, and who is late: the terms of funding, in runs whose numbers can be redone by hand.

A long of 1 at 100 with 10x isolated holds 10 of margin; flat maintenance 1 %, no trading fees; bars of an hour from 01:00
of the first of January 2024 on, so that bar 8 opens at 08:00.
"""

import random
from dataclasses import replace

import backtrader as bt
import pandas as pd
import pytest
from bt_margin.strategies.buy_and_hold import BuyAndHold
from playing import CALM, Script, buy, close, frame, play, rate_column, sell

from bt_margin import FundingSchedule, MarginBroker, PerpCommInfo, PerpData, Result, run

EIGHT = pd.Timestamp("2024-01-01 08:00", tz="UTC").timestamp()


def schedule(*rates: float, grace: float = 0.0, first: float = EIGHT) -> FundingSchedule:
    """Return rates an hour apart from 08:00 on."""
    return FundingSchedule(tuple(first + 3_600 * hour for hour in range(len(rates))), rates, grace_seconds=grace)


def amounts(strategy) -> list[float]:
    return [row.amount for row in strategy.broker.record.funding]


# -- late (R24) ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("grace", "paid"), [(0, []), (15, [-0.1])])
def test_what_opens_at_the_stamp_pays_it_only_with_a_grace(grace, paid):
    strategy = play({7: buy()}, frame([CALM] * 10), funding=schedule(0.001, grace=grace))
    assert amounts(strategy) == pytest.approx(paid)  # 1 x 100 x 0.1 %
    assert strategy.broker.account.wallets["wallet:AAA"] == pytest.approx(10 + sum(paid))


@pytest.mark.parametrize(("grace", "count"), [(5, 0), (10, 1), (15, 1)])
def test_a_stamp_before_the_opening_is_paid_within_the_grace(grace, count):
    strategy = play({7: buy()}, frame([CALM] * 10), funding=schedule(0.001, grace=grace, first=EIGHT - 10))
    assert len(amounts(strategy)) == count


def test_both_sides_of_a_reversal_within_the_grace_pay():
    strategy = play({1: buy(), 7: sell(size=2)}, frame([CALM] * 10), funding=schedule(0.001, grace=15))
    assert [(row.size, round(row.amount, 9)) for row in strategy.broker.record.funding] == [(1, -0.1), (-1, 0.1)]


def test_what_is_added_within_the_grace_pays_for_the_addition():
    strategy = play({1: buy(), 7: buy(size=3)}, frame([CALM] * 10), funding=schedule(0.001, grace=15))
    assert [row.size for row in strategy.broker.record.funding] == [1, 3]


def test_a_close_within_the_grace_has_paid_at_the_stamp_and_pays_no_more():
    strategy = play({1: buy(), 7: close}, frame([CALM] * 10), funding=schedule(0.001, grace=15))
    assert amounts(strategy) == pytest.approx([-0.1])


def test_an_order_that_fills_later_in_an_hour_is_not_late():
    strategy = play({7: buy(exectype=2, price=99.5)}, frame([CALM] * 10), funding=schedule(0.001, grace=15))
    assert strategy.position.size == 1
    assert amounts(strategy) == []


@pytest.mark.parametrize(("limit", "count"), [(98.5, 1), (95.0, 0)])
def test_on_a_walked_bar_the_path_tells_who_is_late(limit, count):
    """A minute's bar that kills another contract: down from 100 to 82 in its first 20 seconds, 0.9 a second."""
    # 98.5 is met after 1.7 s, 95 after 5.6 s; the stamp is the opening instant, its grace 5 s
    calm = [CALM] * 10
    falls = [*calm[:5], (100, 101, 82, 84), *calm[6:]]
    start = "2024-01-01 07:55"
    candles = [frame(rows, start=start, freq="min") for rows in (falls, falls)]

    def first(strategy):
        strategy.buy(strategy.data1)

    def second(strategy):
        strategy.buy(strategy.data0, exectype=2, price=limit)

    # both paths kill both; down first leaves a little more, for who has paid 0.1 dies at a higher mark
    strategy = play({1: first, 5: second}, *candles, funding=schedule(0.001, grace=5), intrabar="favourable")
    mine = [row for row in strategy.broker.record.funding if row.symbol == "AAA"]
    assert strategy.broker.record.walked_bars == 1
    assert [row.amount for row in mine] == pytest.approx([-0.1] * count)


def test_a_schedule_says_which_stamps_a_holding_pays():
    day = FundingSchedule((0, 28_800, 57_600), (0.1, 0.2, 0.3))
    late = replace(day, grace_seconds=15)
    assert [s.rate for s in day.paid_by(0, 28_800)] == [0.2]
    assert [s.rate for s in late.paid_by(0, 28_800)] == [0.1, 0.2]  # both boundaries count
    assert [s.rate for s in late.paid_by(0, 28_799)] == [0.1]
    assert [s.rate for s in late.paid_by(28_815, 50_000)] == [0.2]
    assert [s.rate for s in late.paid_by(28_816, 50_000)] == []


@pytest.mark.parametrize("grace", [-1, float("inf"), float("nan")])
def test_a_grace_is_a_number_of_seconds(grace):
    with pytest.raises(ValueError, match=r"the grace after a funding stamp is a number of seconds, 0 or more, was"):
        FundingSchedule((0,), (0.1,), grace_seconds=grace)
    with pytest.raises(ValueError, match=r"AAA: grace_seconds is a number of seconds, 0 or more, was"):
        PerpData(dataname=frame([CALM] * 3), name="AAA", funding=0.1, grace_seconds=grace)


# -- what pays (R9) --------------------------------------------------------------------------------------------------

DEBITS = {  # cash, rate -> what the cross wallet and the position's own hold after the stamp
    "its own wallet": ("position", 1_000, 0.01, 990, 9),
    "its own wallet, whatever is free": ("position", 10, 0.01, 0, 9),
    "the free balance": ("free_first", 1_000, 0.01, 989, 10),
    "the free balance as far as it goes": ("free_first", 10.4, 0.01, 0, 9.4),
    "its own wallet where nothing is free": ("free_first", 10, 0.01, 0, 9),
    "receipts go to the position": ("free_first", 1_000, -0.01, 990, 11),
    "all of it, below the cap": ("capped", 1_000, 0.01, 990, 9),
    "no more than leaves maintenance": ("capped", 1_000, 0.5, 990, 1),
}


@pytest.mark.parametrize("case", DEBITS)
def test_a_funding_fee_is_taken_by_the_venues_rule(case):
    debit, cash, rate, cross, own = DEBITS[case]
    terms = {"funding_debit": debit}
    strategy = play({1: buy()}, frame([(100, 100, 100, 100)] * 10), funding=rate_column(d0108=rate), terms=terms, cash=cash)
    wallets = strategy.broker.account.wallets
    assert (wallets["wallet:cross"], wallets["wallet:AAA"]) == (pytest.approx(cross, abs=1e-6), pytest.approx(own, abs=1e-6))
    assert strategy.broker.record.liquidations == []
    assert strategy.broker.journal.imbalance() < 1e-12


def test_an_order_margin_is_not_free():
    script = {1: buy(), 2: buy(exectype=2, price=50)}  # reserves 5
    terms = {"funding_debit": "free_first"}
    strategy = play(script, frame([CALM] * 10), funding=rate_column(d0108=0.01), terms=terms, cash=15.25)
    assert strategy.broker.account.wallets["wallet:cross"] == pytest.approx(5)  # of 5.25, 0.25 was free
    assert strategy.broker.account.wallets["wallet:AAA"] == pytest.approx(9.25)


NEAR = (91.5, 91.6, 91.4, 91.5)  # equity of the long 1.5, maintenance 0.915, headroom 0.585


def test_funding_alone_liquidates_by_the_usual_rule_and_never_where_it_is_capped():
    candles = frame([CALM, CALM, (100, 100, 91.4, 91.5), *[NEAR] * 7])
    usual = play({1: buy()}, candles, funding=rate_column(d0108=0.01))
    assert [row.trigger for row in usual.broker.record.liquidations] == ["funding"]  # 0.915 is due

    capped = play({1: buy()}, candles, funding=rate_column(d0108=0.01), terms={"funding_debit": "capped"})
    assert amounts(capped) == pytest.approx([-0.585], abs=1e-6)
    # the same hour goes on down to 91.4, which the maintenance that was left does not carry
    assert [row.trigger for row in capped.broker.record.liquidations] == ["path"]


def test_a_wallet_that_funding_has_cut_to_its_maintenance_lives_on_where_prices_stand_still():
    still = (91.5, 91.5, 91.5, 91.5)
    candles = frame([CALM, CALM, (100, 100, 91.5, 91.5), *[still] * 7])
    strategy = play({1: buy()}, candles, funding=rate_column(d0108=0.01, d0109=0.01), terms={"funding_debit": "capped"})
    assert amounts(strategy) == pytest.approx([-0.585, 0.0], abs=1e-6)
    assert strategy.position.size == 1
    assert strategy.broker.record.liquidations == []


def test_in_cross_the_cap_is_what_the_whole_wallet_has_over_its_maintenance():
    terms = {"funding_debit": "capped"}
    strategy = play({1: buy()}, frame([CALM] * 10), funding=rate_column(d0108=0.9), terms=terms, cash=20, margin_mode="cross")
    assert amounts(strategy) == pytest.approx([-19], abs=1e-6)  # of 90 due; 20 less 1 of maintenance


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ({"funding_debit": "later"}, r"a funding fee is taken by 'position', 'free_first', 'capped', was 'later'"),
        ({"funding_price": "last"}, r"funding is paid by the price of 'mark', 'oracle', was 'last'"),
        ({"dated_fees": ((5, 0, 0), (5, 0, 0))}, r"the dates of fees must rise"),
        ({"dated_fees": ((5, 0, 0.5),)}, r"taker is a fraction of notional .* was 0\.5"),
    ],
)
def test_terms_that_are_none_are_refused(terms, sentence):
    with pytest.raises(ValueError, match=sentence):
        PerpCommInfo(**terms)


# -- by which price, how often ---------------------------------------------------------------------------------------


def test_the_price_that_the_venue_paid_by_may_stand_beside_the_rate(tmp_path):
    rates = pd.DataFrame({"datetime": ["2024-01-01T08:00Z", "2024-01-01T09:00Z"], "rate": 0.001, "oracle_price": [110.0, None]})
    rates.to_csv(tmp_path / "rates.csv", index=False)
    result = Result.of(play({1: buy()}, frame([CALM] * 10), funding=tmp_path / "rates.csv", terms={"funding_price": "oracle"}))
    assert list(result.funding["amount"]) == pytest.approx([-0.11, -0.1])  # at 110, then at the mark
    assert "funding at mark, no oracle price was given: AAA" in result.summary["flags"]
    whole = rates.assign(oracle_price=110.0)
    told = Result.of(play({1: buy()}, frame([CALM] * 10), funding=whole, terms={"funding_price": "oracle"}))
    assert [flag for flag in told.summary["flags"] if "oracle" in flag] == []


@pytest.mark.parametrize("price", [0.0, -5.0, float("inf")])
def test_a_price_of_funding_is_above_zero(price):
    rates = pd.DataFrame({"datetime": ["2024-01-01T08:00Z"], "rate": 0.001, "mark_price": price})
    with pytest.raises(ValueError, match=r"AAA: funding row 0 \(2024-01-01 08:00:00 UTC\): mark_price must be a price above 0 or blank"):
        PerpData(dataname=frame([CALM] * 3), name="AAA", funding=rates)


def test_intervals_may_change_inside_a_series():
    hours = (2, 6, 7, 8)  # four hours, then one
    rates = pd.Series(0.001, index=pd.DatetimeIndex([f"2024-01-01 0{hour}:00" for hour in hours], tz="UTC"))
    strategy = play({1: buy()}, frame([CALM] * 10), funding=rates)
    assert [row.time for row in strategy.broker.record.funding] == [EIGHT - 3_600 * ago for ago in (2, 1, 0)]


def test_a_constant_rate_is_charged_as_often_as_the_venue_charges():
    candles = frame([CALM] * 26)
    hourly = run(BuyAndHold, {"BTC": candles}, venue="hyperliquid", funding=0.0001, params={"leverage": 1, "spare": 0.01})
    assert len(hourly.funding) == 24  # from 03:00, the bar after the purchase, to 02:00
    assert "constant funding of 0.0001 per 1 h: BTC" in hourly.summary["flags"]
    assert len(run(BuyAndHold, {"BTCUSDT": candles}, funding=0.0001, params={"leverage": 1, "spare": 0.01}).funding) == 3


@pytest.mark.parametrize("hours", [0, -1, "8", float("inf")])
def test_an_interval_is_a_number_of_hours(hours):
    with pytest.raises(ValueError, match=r"AAA: funding_hours is the interval of a constant rate in hours, above 0, was"):
        PerpData(dataname=frame([CALM] * 3), name="AAA", funding=0.1, funding_hours=hours)


# -- fees by date ----------------------------------------------------------------------------------------------------


def test_fees_change_on_their_day():
    terms = {"commission": 0.001, "dated_fees": ((EIGHT, 0.0, 0.002),)}
    strategy = play({6: buy(), 7: close, 8: buy(exectype=2, price=99.5)}, frame([CALM] * 10), terms=terms)
    fees = [round(row.fee, 9) for row in strategy.broker.record.fills]
    assert fees == [0.1, 0.2, 0.0]  # at 07:00, at 08:00, and a limit as maker
    assert Result.of(strategy).settings["fees"]["AAA"]["later"] == [{"from": "2024-01-01", "maker": 0.0, "taker": 0.002}]


@pytest.mark.parametrize(("fee", "paid"), [(None, 0.04), (0.001, 0.1), ((0.0, 0.002), 0.2)])
def test_a_flat_fee_of_ones_own_takes_the_place_of_the_venues(fee, paid):
    result = run(BuyAndHold, {"BTCUSDT": frame([CALM] * 4)}, fee=fee, cash=1_000, sizer=1, params={"leverage": 0.1, "spare": 0})
    assert result.fills["fee"].iloc[0] == pytest.approx(paid)


@pytest.mark.parametrize("fee", ["much", (0.1, 0.2, 0.3), True, ("a", "b")])
def test_a_fee_that_is_none_is_told(fee):
    with pytest.raises(ValueError, match=r"fee is a fraction of notional such as 0\.0005, or \(maker, taker\), was"):
        run(BuyAndHold, {"BTCUSDT": frame([CALM] * 4)}, fee=fee)


# -- any of it -------------------------------------------------------------------------------------------------------


def wild_candles(seed: int, rows: int = 80) -> pd.DataFrame:
    draw = random.Random(seed)
    price, candles = 100.0, []
    for _ in range(rows):
        end = price * draw.uniform(0.95, 1.05)
        candles.append((price, max(price, end) * draw.uniform(1, 1.02), min(price, end) * draw.uniform(0.98, 1), end))
        price = end
    return frame(candles, start="2024-01-01 00:00", freq="min")


def wild_script(seed: int, rows: int = 80) -> dict:
    draw, script = random.Random(seed), {}

    def act(strategy):
        data = draw.choice(strategy.datas)
        place = draw.choice((strategy.buy, strategy.sell))
        kind = draw.choice((0, 0, 2, 3))
        price = data.close[0] * draw.uniform(0.97, 1.03) if kind else None
        place(data, size=draw.choice((0.5, 1, 2)), exectype=kind, price=price)

    for bar in range(1, rows):
        if draw.random() < 0.4:
            script[bar] = act
    return script


@pytest.mark.parametrize("debit", ["position", "free_first", "capped"])
@pytest.mark.parametrize("margin_mode", ["isolated", "cross"])
@pytest.mark.parametrize("seed", range(4))
def test_money_is_whole_and_the_plan_is_what_was_done_under_any_terms(debit, margin_mode, seed):
    """``check=True`` asserts on every bar the journal, the wallets and that the path did what was planned."""
    stamps = tuple(EIGHT - 8 * 3_600 + 60 * minute for minute in range(80))
    draw = random.Random(seed)
    funding = FundingSchedule(stamps, tuple(draw.uniform(-0.01, 0.01) for _ in stamps), grace_seconds=20)
    candles = wild_candles(seed), wild_candles(seed + 100)
    terms = {"funding_debit": debit, "leverage": 20}
    strategy = play(wild_script(seed), *candles, funding=funding, terms=terms, margin_mode=margin_mode, cash=60)
    result = Result.of(strategy)
    assert result.summary["journal_imbalance"] < 1e-12
    assert (result.equity["lowest_equity"] >= -1e-9).all()
    assert len(result.funding) > 10


# -- at one instant --------------------------------------------------------------------------------------------------

QUIET = [(100, 100, 100, 100)]
OPENS_AGAIN = [*QUIET, (100, 100, 85, 86), (100, 100, 100, 100), *QUIET]  # closed at 86, opens at 100
GAPS_DOWN = [*QUIET, *QUIET, (91, 91, 91, 91), (91, 91, 91, 91)]


def play_two(order: str, rows: list, rate: float, cash: float, debit: str, isolated: str = "") -> object:
    """Hold 1 of A and 5 of B from 100 on, with a stamp on A at the opening of the third bar; the datas in an order."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=cash, margin_mode="cross", check=True)
    for name in order:
        mode = "isolated" if name == isolated else "cross"
        terms = PerpCommInfo(leverage=10, tiers=0.01, liquidation_fee=0.0, funding_debit=debit, margin_mode=mode)
        cerebro.broker.addcommissioninfo(terms, name=name)
        cerebro.adddata(PerpData(dataname=frame(QUIET * 4 if name == "A" else rows), name=name))
    stamps = tuple(pd.Timestamp(f"2024-01-01 0{hour}:00", tz="UTC").timestamp() for hour in (1, 3))
    cerebro.broker.set_funding(FundingSchedule(stamps, (0.0, rate)), "A")

    def enter(strategy):
        for data in strategy.datas:
            strategy.buy(data, size=1 if data._name == "A" else 5)

    cerebro.addstrategy(Script, script={1: enter})
    return cerebro.run()[0]


@pytest.mark.parametrize("order", ["AB", "BA"])
def test_what_a_wallet_can_pay_is_judged_at_the_marks_of_the_stamp_whatever_the_order_of_the_datas(order):
    capped = play_two(order, OPENS_AGAIN, 0.2, 82, "capped")
    assert amounts(capped) == pytest.approx([-20])  # 76 is spare at the opening; at B's last close 6.7 was
    free = play_two(order, OPENS_AGAIN, 0.2, 92, "free_first", isolated="A")
    assert amounts(free) == pytest.approx([-20])
    assert free.broker.account.wallets == pytest.approx({"wallet:cross": 62, "wallet:A": 10})
    gapped = play_two(order, GAPS_DOWN, 0.3, 62, "capped")
    assert amounts(gapped) == pytest.approx([-(62 - 45 - 1 - 4.55)], abs=1e-6)  # B has lost 45
    assert gapped.broker.record.liquidations == []


def test_the_cap_is_judged_at_the_mark_whatever_price_the_venue_paid_by():
    # wallet 10, 8.5 lost at 91.5, 0.915 maintained: 0.585 is spare, though 0.05 x 94 is due
    still = (91.5, 91.5, 91.5, 91.5)
    rates = FundingSchedule((EIGHT,), (0.05,), (94.0,))
    bars = frame([CALM, CALM, (100, 100, 91.5, 91.5), *[still] * 7])
    strategy = play({1: buy()}, bars, funding=rates, terms={"funding_debit": "capped"})
    assert amounts(strategy) == pytest.approx([-0.585], abs=1e-6)
    assert strategy.broker.record.liquidations == []


def test_a_stamp_at_the_close_of_a_walked_bar_is_paid_once():
    rows = [*QUIET, (100, 106, 80, 103), (103, 103, 103, 103), (103, 103, 103, 103)]
    stamp = pd.Timestamp("2024-01-01 03:00", tz="UTC").timestamp()

    def enter(strategy):
        strategy.buy(size=1, price=105, plimit=103, exectype=bt.Order.StopLimit)
        strategy.buy(size=7)

    funding = FundingSchedule((stamp - 10_800, stamp), (0.0, 0.01), (), 900)
    # low first: 7 live on 10 at 80, 105 arms the stop on the way up, and the close is its limit
    strategy = play({1: enter}, frame(rows), funding=funding, margin_mode="cross", cash=150, intrabar="favourable")
    assert strategy.broker.record.walked_bars >= 1
    assert [(row.size, row.amount) for row in strategy.broker.record.funding] == [(8, pytest.approx(-8.24))]
