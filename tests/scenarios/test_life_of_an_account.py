"""The life of an account: what is changed while it runs, top-ups, refills, its death, and several strategies on one.

Unless a test says otherwise: no fees, maintenance 1 %, 10x isolated, 1 000 of cash. A long of 1 at 100 holds 10 of margin, is
bankrupt at 90 and dies at 90 / 0.99 = 90.909.
"""

import io
from datetime import UTC, datetime, time
from math import isfinite, log
from random import Random

import backtrader as bt
import pytest
from playing import CALM, Script, buy, close, frame, play, sell
from rich.console import Console

from bt_margin import MarginBroker, PerpCommInfo, PerpData, Result, TopUp, analyzers, plug, run
from bt_margin.core.top_up import CLEAR
from bt_margin.plots.pages import headlines
from bt_margin.record import SPECK
from bt_margin.tables import summary_table

LIQUIDATION_PRICE = 90 / 0.99
FALL = (100, 100, 80, 85)
ALL_IN = {"margin_mode": "cross", "cash": 100}  # with 10 at 100: liquidated at 900 / 9.9 = 90.909


def at(hour: int) -> datetime:
    return datetime(2024, 1, 1, hour, tzinfo=UTC)


def kinds(strategy) -> list[str]:
    return [event["kind"] for event in strategy.events]


def wallets(strategy) -> dict[str, float]:
    return strategy.broker.account.wallets


def engine(*candles, terms=None, **broker_args) -> bt.Cerebro:
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(**{"cash": 1_000, "margin_mode": "isolated", "check": True, **broker_args})
    cerebro.broker.addcommissioninfo(PerpCommInfo(**{"leverage": 10, "tiers": 0.01, "liquidation_fee": 0.0, **(terms or {})}))
    for number, candle_frame in enumerate(candles):
        cerebro.adddata(PerpData(dataname=candle_frame, name="ABC"[number] * 3))
    return cerebro


# -- what is changed while it runs -----------------------------------------------------------------------------------


class Clerk(bt.Analyzer):
    """Does to the broker what its script says, from outside the strategy."""

    params = (("script", None),)

    def next(self):
        action = self.p.script.get(len(self.strategy.data))
        if action is not None:
            action(self.strategy)


def by_strategy(script, candles, **how):
    return play(script, candles, **how)


def by_analyzer(script, candles, **how):
    cerebro = engine(candles, **how)
    cerebro.addstrategy(Script, script={})
    cerebro.addanalyzer(Clerk, script=script)
    return cerebro.run()[0]


def by_timer(script, candles, **how):
    cerebro = engine(candles, **how)
    cerebro.addstrategy(Script, script={})

    def called(timer, when, *args, **kwargs):
        strategy = cerebro.runningstrats[0]
        script.get(len(strategy.data), lambda _: None)(strategy)

    for hour in range(2, 24):  # one for each bar: it goes off as the bar is delivered, before the strategies
        cerebro.add_timer(when=time(hour), timername=str(hour), cheat=False)
    cerebro.notify_timer = called
    return cerebro.run()[0]


DOORS = pytest.mark.parametrize("door", [by_strategy, by_analyzer, by_timer])


@DOORS
def test_leverage_margin_and_mode_are_changed_from_any_door(door):
    def tighten(strategy):
        strategy.broker.set_leverage(strategy.data, 20)
        strategy.broker.add_margin(strategy.data, 5)

    def loosen(strategy):
        strategy.broker.remove_margin(strategy.data, 7)

    def switch(strategy):
        strategy.broker.set_margin_mode(strategy.data, "cross")

    script = {1: buy(), 3: tighten, 4: loosen, 5: close, 7: switch, 8: buy()}
    strategy = door(script, frame([CALM] * 10))
    moved = [(row.kind, row.account, row.amount) for row in strategy.broker.journal if row.account == "wallet:AAA" and row.amount]
    assert moved == [("transfer", "wallet:AAA", amount) for amount in (10, 5, -7, -8)]  # opened, added, removed, closed
    assert wallets(strategy) == {"wallet:cross": 1_000, "wallet:AAA": 0}
    assert strategy.broker.initial_margin() == 100 / 20  # the second long is in cross, at 20x
    assert kinds(strategy) == ["top_up"]


@DOORS
def test_what_the_venue_would_refuse_is_refused_at_any_door(door):
    said = []

    def trying(action):
        def attempt(strategy):
            with pytest.raises(ValueError) as caught:  # noqa: PT011  # the sentences are compared below
                action(strategy)
            said.append(str(caught.value))

        return attempt

    script = {
        1: buy(),
        3: trying(lambda s: s.broker.set_leverage(s.data, 5)),
        4: trying(lambda s: s.broker.set_margin_mode(s.data, "cross")),
        5: trying(lambda s: s.broker.add_margin(s.data, 991)),
        6: trying(lambda s: s.broker.remove_margin(s.data, 1)),
    }
    strategy = door(script, frame([CALM] * 8))
    assert said == [
        "AAA: the leverage of an open isolated position cannot fall from 10 to 5; add margin or close it",
        "AAA: the margin mode of an open position (1) cannot change; close it first",
        "AAA: cannot add 991 of margin, 990 is available",
        "AAA: cannot remove 1 of margin, 0 is above its initial margin",
    ]
    assert wallets(strategy) == {"wallet:cross": 990, "wallet:AAA": 10}


@DOORS
def test_the_largest_size_is_the_one_that_fits_by_one_lot(door):
    asked = []

    def ask(strategy):
        size = strategy.broker.max_size(strategy.data, isbuy=True)
        asked.append(size)
        strategy.buy(size=size)

    strategy = door({2: ask}, frame([CALM] * 5), terms={"lot": 0.1, "commission": 0.001})
    assert asked == [pytest.approx(1_000 / (100 * (1 / 10 + 0.001)) // 0.1 * 0.1)]  # 99.0 lots of 10.1 each
    assert strategy.position.size == asked[0]


@pytest.mark.parametrize("fundmode", [False, True])
@DOORS
def test_deposits_and_withdrawals_buy_and_sell_shares_of_the_fund(door, fundmode):
    """100 shares of 10; 10 bought at 100 stand at 110 (+ 100): 11 a share. 550 buy 50, 220 sell 20 of them; then 110 to 115."""
    bars = frame([CALM, CALM, *[(110,) * 4] * 3, (110, 115, 110, 115), (115,) * 4])
    script = {1: buy(size=10), 3: lambda s: s.broker.add_cash(550), 4: lambda s: s.broker.add_cash(-220)}
    strategy = door(script, bars, fundmode=fundmode, fundstartval=10.0, margin_mode="cross")
    broker = strategy.broker
    assert broker.fundshares == pytest.approx(100 + 550 / 11 - 220 / 11)
    assert broker.equity == pytest.approx(1_000 + 100 + 550 - 220 + 50)
    assert broker.fundvalue == pytest.approx(broker.equity / 130)
    result = Result.of(strategy)
    assert result.summary["total_return"] == pytest.approx(broker.fundvalue / 10 - 1)
    assert result.summary["net_deposits"] == 550 - 220
    assert [(row.kind, row.amount) for row in broker.journal if row.account == "external"][1:] == [("deposit", -550), ("withdraw", 220)]


@pytest.mark.parametrize("fund", [True, False])
def test_the_hosts_time_return_takes_a_deposit_for_profit_without_the_fund_only(fund):
    """10 bought at 100 on 1 000 stand at 1 100; 550 paid in make 1 650; 10 x (143 - 110) more make 1 980, 20 %."""
    bars = frame([CALM, CALM, (110,) * 4, (110,) * 4, (110, 143, 110, 143)])
    cerebro = engine(bars, margin_mode="cross")
    cerebro.addstrategy(Script, script={1: buy(size=10), 3: lambda s: s.broker.add_cash(550)})
    cerebro.addanalyzer(bt.analyzers.TimeReturn, timeframe=bt.TimeFrame.Minutes, compression=60, fund=fund, _name="returns")
    strategy = cerebro.run()[0]
    returns = list(strategy.analyzers.returns.get_analysis().values())
    assert returns == pytest.approx([0, 0, 0.1, 0 if fund else 550 / 1_100, 0.2])
    assert Result.of(strategy).summary["total_return"] == pytest.approx(1.1 * 1.2 - 1)


def test_cash_set_by_a_strategy_is_no_profit_of_the_fund():
    strategy = play({2: lambda s: s.broker.set_cash(1_500)}, frame([CALM] * 4))
    assert (strategy.broker.equity, strategy.broker.fundvalue, strategy.broker.fundshares) == (1_500, 100, 15)
    assert Result.of(strategy).summary["total_return"] == 0


def test_a_fund_that_was_emptied_goes_on_at_its_value():
    script = {1: buy(size=10), 3: close, 5: lambda s: s.broker.add_cash(-1_100), 7: lambda s: s.broker.add_cash(330)}
    strategy = play(script, frame([CALM, CALM, *[(110,) * 4] * 7]), margin_mode="cross")
    assert (strategy.broker.equity, strategy.broker.fundvalue) == (pytest.approx(330), pytest.approx(110))
    summary = Result.of(strategy).summary
    assert (summary["total_return"], summary["died"]) == (pytest.approx(0.1), None)


# -- top-ups ---------------------------------------------------------------------------------------------------------
# A long of 1 at 100 with 10 of margin fails at 90.909, where equity and maintenance are 0.90909.


def test_a_ratio_is_filled_up_to_at_the_instant_of_liquidation_inside_the_bar():
    strategy = play({1: buy()}, frame([CALM, CALM, (100, 100, 90, 95), CALM]), top_up=TopUp(ratio=2))
    (row,) = strategy.broker.record.top_ups
    assert (row.symbol, row.account, row.trigger, row.uses, row.from_outside) == ("AAA", "wallet:AAA", "path", 1, False)
    assert row.equity == pytest.approx(row.maintenance_margin) == pytest.approx(LIQUIDATION_PRICE / 100)
    assert row.amount == pytest.approx(2 * row.maintenance_margin - row.equity)
    assert wallets(strategy) == pytest.approx({"wallet:cross": 990 - row.amount, "wallet:AAA": 10 + row.amount})
    assert strategy.broker.equity == pytest.approx(1_000)
    assert strategy.position.size == 1


def test_the_event_the_rows_and_the_sums_say_what_was_added():
    strategy = play({1: buy()}, frame([CALM, CALM, (100, 100, 90, 95), CALM]), top_up=TopUp(amount=5))
    (event,) = strategy.events
    assert (event["kind"], event["rule"], event["symbol"], event["amount"]) == ("top_up", "auto", "AAA", 5)
    assert event["time"] == at(4)
    result = Result.of(strategy)
    assert (result.summary["top_ups"], result.summary["topped_up"]) == (1, 5)
    assert (result.summary["liquidations"], result.summary["net_deposits"]) == (0, 0)
    assert result.summary["closest_call"] == 0
    assert list(result.top_ups["amount"]) == [5]
    moves = [(row.kind, row.account, row.amount) for row in strategy.broker.journal][-2:]
    assert moves == [("transfer", "wallet:cross", -5), ("transfer", "wallet:AAA", 5)]
    assert result.settings["top_up"] == {"amount": 5, "ratio": None, "times": 1, "deposit": False}
    assert '"top_ups": [' in result.to_json()


@pytest.mark.parametrize(
    ("times", "low", "used"),
    [
        # with 10 + 5 k of margin it fails at (90 - 5 k) / 0.99: 90.91, 85.86, 80.81, 75.76
        (1, 86.0, 1),
        (2, 81.0, 2),
        (None, 76.0, 3),
    ],
)
def test_a_rule_acts_as_often_as_it_may(times, low, used):
    bars = [CALM, CALM, (100, 100, low, low), (low,) * 4]
    strategy = play({1: buy()}, frame(bars), top_up=TopUp(amount=5, times=times))
    assert [row.uses for row in strategy.broker.record.top_ups] == [1] * used
    assert strategy.position.size == 1
    assert wallets(strategy)["wallet:AAA"] == 10 + 5 * used


def test_a_rule_without_uses_left_lets_the_wallet_go_where_it_then_stands():
    strategy = play({1: buy()}, frame([CALM, CALM, FALL, CALM]), top_up=TopUp(amount=5, times=1))
    (row,) = strategy.broker.record.liquidations
    assert row.mark_price == pytest.approx((90 - 5) / 0.99)
    assert kinds(strategy) == ["top_up", "liquidation"]


def test_uses_are_counted_anew_once_the_position_was_flat():
    bars = [CALM, CALM, (100, 100, 90, 95), (95,) * 4, (95, 95, 85, 90), (90,) * 4]
    # the second long of 1 is bought at 95: 9.5 of margin, fails at 85.5 / 0.99 = 86.36
    script = {1: buy(), 3: close, 4: lambda s: s.buy(size=1)}
    strategy = play(script, frame(bars), top_up=TopUp(amount=5))
    assert [row.uses for row in strategy.broker.record.top_ups] == [1, 1]
    assert strategy.position.size == 1


def test_a_gap_takes_as_many_uses_at_once_as_it_needs_and_none_where_they_do_not_suffice():
    # opens at 78: equity 10 - 22 = -12, maintenance 0.78. 12.78 is lacking: 3 x 5
    bars = frame([CALM, CALM, (78, 78, 78, 78), (78,) * 4])
    saved = play({1: buy()}, bars, top_up=TopUp(amount=5, times=3))
    (row,) = saved.broker.record.top_ups
    assert (row.amount, row.uses, row.trigger) == (15, 3, "gap")
    assert saved.position.size == 1
    lost = play({1: buy()}, bars, top_up=TopUp(amount=5, times=2))
    assert lost.broker.record.top_ups == []
    assert lost.broker.equity == pytest.approx(990)  # its 10 are lost, and nothing with them


def test_what_is_left_is_added_where_it_saves_and_kept_where_it_does_not():
    # 15 of cash: 5 free. At 87 equity is -3 and 3.87 is lacking; at 83, 7.83
    saved = play({1: buy()}, frame([CALM, CALM, (87,) * 4, (87,) * 4]), cash=15, top_up=TopUp(amount=100))
    assert wallets(saved) == {"wallet:cross": 0, "wallet:AAA": 15}
    lost = play({1: buy()}, frame([CALM, CALM, (83,) * 4, (83,) * 4]), cash=15, top_up=TopUp(amount=100))
    assert (lost.broker.record.top_ups, lost.broker.equity) == ([], pytest.approx(5))


def test_a_hair_above_maintenance_is_not_enough_to_be_added():
    # at 87 maintenance is lacking 3.87; 0.01 % of 87 more is asked for
    for cash, count in ((10 + 3.87 + 0.5 * CLEAR * 87, 0), (10 + 3.87 + 1.5 * CLEAR * 87, 1)):
        strategy = play({1: buy()}, frame([CALM, CALM, (87,) * 4, (87,) * 4]), cash=cash, top_up=TopUp(amount=100))
        assert len(strategy.broker.record.top_ups) == count


def test_what_cross_positions_and_orders_need_is_not_drawn_on():
    def enter(strategy):
        strategy.buy(strategy.data0, size=1)
        strategy.buy(strategy.data1, size=1)
        strategy.buy(strategy.data1, size=1, exectype=bt.Order.Limit, price=50)

    # 28 of cash: 10 to the isolated AAA, 10 bound by BBB in cross, 5 by the order: 3 are free, and AAA opens at 87
    falls, calm = frame([CALM, CALM, (87,) * 4, (87,) * 4]), frame([CALM] * 4)
    cerebro = engine(falls, calm, cash=28, top_up=TopUp(amount=100))
    for name, mode in (("AAA", "isolated"), ("BBB", "cross")):
        cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=10, tiers=0.01, liquidation_fee=0.0, margin_mode=mode), name=name)
    cerebro.addstrategy(Script, script={1: enter})
    strategy = cerebro.run()[0]
    assert strategy.broker.record.top_ups == []
    assert [row.symbol for row in strategy.broker.record.liquidations] == ["AAA"]
    assert strategy.broker.getposition(strategy.data1).size == 1


def test_a_top_up_leaves_the_cross_wallet_clear_of_its_own_maintenance():
    """9.9 of BBB sold at 100 with 1 300 in cross: at 200 it has 310, needs 1 980 / 50 = 39.6 and maintains 1 980 x 20 % - 190 = 206.

    AAA fails at 90.909: of the 200 asked for, 104 less 0.01 % of 1 980 can go.
    """
    falls = frame([CALM, CALM, (100,) * 4, (100, 100, 88, 95), (95,) * 4])
    rises = frame([CALM, CALM, (100, 200, 100, 200), (200,) * 4, (200,) * 4])
    cerebro = engine(falls, rises, cash=1_310, top_up=TopUp(amount=200))
    drifts = {"leverage": 50, "tiers": [(1_000, 0.01, 50), (None, 0.2, 4)], "margin_mode": "cross"}
    cerebro.broker.addcommissioninfo(PerpCommInfo(liquidation_fee=0.0, **drifts), name="BBB")
    cerebro.addstrategy(Script, script={1: lambda s: (s.buy(s.data0, size=1), s.sell(s.data1, size=9.9))})
    strategy = cerebro.run()[0]
    assert [row.amount for row in strategy.broker.record.top_ups] == [pytest.approx(310 - 206 - CLEAR * 1_980)]
    assert strategy.broker.record.liquidations == []


def test_both_paths_of_a_bar_are_planned_with_the_rule_and_the_plan_is_what_happens():
    """A stop closes on the way; check=True compares plan and account after every walked bar."""
    bars = [CALM, CALM, (100, 112, 84, 110), (110, 125, 80, 90), (90,) * 4]
    script = {1: buy(), 2: lambda s: s.sell(size=1, exectype=bt.Order.Stop, price=82)}
    for intrabar in ("adverse", "favourable"):
        strategy = play(script, frame(bars), top_up=TopUp(amount=2, times=None), intrabar=intrabar)
        assert strategy.broker.record.top_ups
        assert strategy.broker.record.liquidations == []
        assert strategy.position.size == 0


def test_a_deposit_rule_saves_a_cross_account_with_money_from_outside():
    """10 at 100 on 100: at 900 / 9.9 = 90.909 equity is 9.0909; 100 come in, and at 95 it has 100 + 100 - 50."""
    rule = TopUp(amount=100, deposit=True)
    strategy = play({1: buy(size=10)}, frame([CALM, CALM, (100, 100, 90, 95), (95,) * 4]), top_up=rule, **ALL_IN)
    (row,) = strategy.broker.record.top_ups
    assert (row.symbol, row.account, row.from_outside) == ("", "wallet:cross", True)
    assert strategy.broker.equity == pytest.approx(150)
    summary = Result.of(strategy).summary
    assert (summary["net_deposits"], summary["topped_up"], summary["liquidations"]) == (100, 100, 0)
    growth = (row.equity / 100) * (150 / (row.equity + 100))  # what was there before, then with the deposit
    assert summary["total_return"] == pytest.approx(growth - 1)
    assert strategy.broker.fundvalue == pytest.approx(100 * growth)
    assert [(entry.kind, entry.amount) for entry in strategy.broker.journal if entry.account == "external"][1:] == [("deposit", -100)]


def test_money_from_outside_does_not_make_a_path_look_better():
    """9 at 100 on 100 fail at 800 / 8.91 = 89.79. Low first the deposit of 500 comes in and the stop at 88 loses 108, which leaves
    492; high first the target at 111 earns 99 and leaves 199. The account itself is worse off in the first."""

    def exits(strategy):
        stop = strategy.sell(size=9, exectype=bt.Order.Stop, price=88)
        strategy.sell(size=9, exectype=bt.Order.Limit, price=111, oco=stop)

    bars = [CALM, CALM, (100, 112, 84, 110), (110, 110, 110, 110)]
    strategy = play({1: buy(size=9), 2: exits}, frame(bars), top_up=TopUp(amount=500, deposit=True), **ALL_IN)
    assert [(fill.size, fill.price) for fill in strategy.broker.record.fills] == [(9, 100), (-9, 88)]
    assert strategy.broker.equity == pytest.approx(100 - 9 * 12 + 500)


def test_rules_may_differ_by_symbol_and_leave_contracts_out():
    def both(strategy):
        strategy.buy(strategy.data0)
        strategy.buy(strategy.data1)

    falls = frame([CALM, CALM, (100, 100, 90, 95), CALM])
    strategy = play({1: both}, falls, falls, top_up={"BBB": TopUp(amount=3)})
    assert [row.symbol for row in strategy.broker.record.top_ups] == ["BBB"]
    assert [row.symbol for row in strategy.broker.record.liquidations] == ["AAA"]


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (dict, "a TopUp adds an amount or up to a ratio: give one of them"),
        (lambda: TopUp(amount=1, ratio=2), "give one of them"),
        (lambda: TopUp(amount=0), "the amount of a TopUp is a positive amount of money, was 0"),
        (lambda: TopUp(amount=float("nan")), "the amount of a TopUp is a positive amount of money, was nan"),
        (lambda: TopUp(ratio=1), "the ratio of a TopUp is equity / maintenance margin and above 1, where liquidation is, was 1"),
        (lambda: TopUp(ratio=2, times=0), "the times of a TopUp are a whole number from 1 on, or None for no limit, were 0"),
        (lambda: TopUp(ratio=2, times=1.5), "the times of a TopUp are .*, were 1.5"),
        (lambda: TopUp(ratio=2, deposit=1), "deposit of a TopUp is True or False, was 1"),
    ],
)
def test_rules_that_are_none_are_refused(rule, sentence):
    with pytest.raises(ValueError, match=sentence):
        TopUp() if rule is dict else rule()


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"top_up": 100}, r"top_up is a TopUp, such as TopUp\(amount=100\), or maps symbols to such, was 100"),
        ({"top_up": {"AAA": 5}}, "top_up is a TopUp, .*, was 5"),
        ({"top_up": {"XYZ": TopUp(amount=1)}}, "top_up names XYZ, but the datas are AAA; leave it out or add that data"),
        (
            {"top_up": TopUp(amount=1), "margin_mode": "cross"},
            r"top_up: a cross wallet has no other to take margin from; use .*deposit=True",
        ),
        ({"top_up": {"cross": TopUp(amount=1)}}, "cross: a cross wallet has no other to take margin from"),
        ({"top_up": {"AAA": TopUp(amount=1)}, "margin_mode": "cross"}, "AAA: a cross wallet has no other to take margin from"),
    ],
)
def test_rules_that_no_wallet_can_follow_are_refused(how, sentence):
    with pytest.raises(ValueError, match=sentence):
        play({1: buy()}, frame([CALM] * 3), **how)


def test_a_contract_put_into_cross_after_a_mapping_was_checked_has_no_rule():
    script = {1: lambda s: s.broker.set_margin_mode(s.data, "cross"), 2: buy(size=10)}
    strategy = play(script, frame([CALM, CALM, CALM, FALL, (85,) * 4]), cash=100, top_up={"AAA": TopUp(amount=1)})
    assert kinds(strategy) == ["liquidation"]


@pytest.mark.parametrize("seed", range(6))
def test_a_wild_trader_with_a_rule_breaks_no_invariant(seed):
    rng = Random(seed)
    close, rows = 100.0, []
    for _ in range(150):
        begin, close = close, max(close * (1 + rng.gauss(0, 0.02)), 1.0)
        rows.append((begin, max(begin, close) * (1 + abs(rng.gauss(0, 0.01))), min(begin, close) * (1 - abs(rng.gauss(0, 0.01))), close))
    rule = TopUp(amount=rng.choice([0.5, 5, 50]), times=rng.choice([1, 3, None])) if seed % 2 else TopUp(ratio=1.5, times=None)

    def trade(strategy):
        draw = rng.random()
        if draw < 0.2:
            strategy.buy(size=rng.choice([1, 3]))
        elif draw < 0.4:
            strategy.sell(size=rng.choice([1, 3]))
        elif draw < 0.5:
            strategy.close()

    strategy = play(dict.fromkeys(range(1, 150), trade), frame(rows), top_up=rule, terms={"commission": 0.0005, "leverage": 20})
    assert strategy.broker.record.top_ups
    assert Result.of(strategy).summary["journal_imbalance"] < 1e-12


def test_the_drawdown_sees_what_is_lost_of_a_top_up_inside_its_bar():
    """10 at 100 with 100 fail at 90.909 with 9.09, and 60 come in: 69.09. At 86 20 are left of it; it closes at 95 with 110.

    Of each unit of the fund 0.0909 is left, then 0.0909 x 20 / 69.09, then 0.0909 x 110 / 69.09.
    """
    left = LIQUIDATION_PRICE / 10
    bars = frame([CALM, CALM, (100, 100, 86, 95), (95,) * 4])
    strategy = play({1: buy(size=10)}, bars, top_up=TopUp(amount=60, deposit=True), **ALL_IN)
    (flow,) = strategy.broker.record.flows
    assert (flow.equity, flow.lowest) == (pytest.approx(left), pytest.approx(900 / 45))
    assert list(Result.of(strategy).equity["lowest_equity"])[2] == pytest.approx(left)
    summary = Result.of(strategy).summary
    assert summary["total_return"] == pytest.approx(left / 100 * 110 / (left + 60) - 1)
    assert summary["max_drawdown"] == pytest.approx(1 - left / 100 * 20 / (left + 60))


# -- refills ---------------------------------------------------------------------------------------------------------

REFILL = {"on_liquidation": "refill", "refill": 100, **ALL_IN}


def test_a_refill_brings_the_account_back_after_the_bar_and_the_next_bar_trades_with_it():
    """10 at 100 die at 90.909 and leave 9.0909; 90.909 come in, and 10 bought at 85 stand at 90 with a profit of 50."""
    bars = [CALM, CALM, FALL, (85, 90, 85, 90), (90,) * 4]
    strategy = play({1: buy(size=10), 3: lambda s: s.order_target_percent(target=8.5)}, frame(bars), **REFILL)
    assert [fill.size for fill in strategy.broker.record.fills] == [10, -10, 10]
    assert kinds(strategy) == ["liquidation", "refill"]
    assert strategy.events[1]["amount"] == pytest.approx(100 - LIQUIDATION_PRICE / 10)
    assert strategy.broker.equity == pytest.approx(150)
    result = Result.of(strategy)
    assert list(result.equity["equity"]) == pytest.approx([100, 100, LIQUIDATION_PRICE / 10, 150, 150])
    assert (result.summary["refills"], result.summary["refilled"]) == (1, pytest.approx(100 - LIQUIDATION_PRICE / 10))
    assert result.summary["net_deposits"] == result.summary["refilled"]
    assert result.summary["died"] is None


def test_a_refill_is_no_profit():
    """0.0909 of it was left, which the refilled account then made 1.5 times."""
    bars = [CALM, CALM, FALL, (85, 90, 85, 90), (90,) * 4]
    strategy = play({1: buy(size=10), 3: lambda s: s.buy(size=10)}, frame(bars), **REFILL)
    summary, left = Result.of(strategy).summary, LIQUIDATION_PRICE / 1_000
    assert summary["total_return"] == pytest.approx(left * 1.5 - 1)
    assert strategy.broker.fundvalue == pytest.approx(100 * left * 1.5)
    assert strategy.broker.fundvalue * strategy.broker.fundshares == pytest.approx(150)
    assert summary["max_drawdown"] == pytest.approx(1 - left)


def test_the_sharpe_ratio_of_a_refilled_account_is_that_of_the_funds_days():
    """Days end at 100, at 9.09 refilled to 100, and at 110: returns of 0, -0.909 and 0.1."""
    bars = [CALM] * 23 + [FALL] + [(85,) * 4] * 23 + [(85, 86, 85, 86)]
    bars = [CALM] * 24 + bars
    strategy = play({24: buy(size=10), 50: lambda s: s.buy(size=10)}, frame(bars, start="2024-01-01 00:00"), **REFILL)
    returns = [0, LIQUIDATION_PRICE / 1_000 - 1, 0.1]
    mean = sum(returns) / 3
    deviation = (sum((value - mean) ** 2 for value in returns) / 2) ** 0.5
    assert Result.of(strategy).summary["sharpe"] == pytest.approx(mean / deviation * 365**0.5)


def test_an_account_that_lost_everything_is_refilled_and_what_it_earns_then_is_a_return():
    bars = [CALM, CALM, FALL, (85, 90, 85, 90), (90, 90, 80, 82), (82,) * 4]
    script = {1: buy(size=10), 3: lambda s: s.buy(size=10)}
    strategy = play(script, frame(bars), terms={"profile": "forfeit"}, **REFILL)
    # at 85 it holds 10 with 100: fails at (850 - 100) / 9.9 = 75.76, so it lives to the end: 100 - 30
    result = Result.of(strategy)
    assert list(result.equity["equity"]) == pytest.approx([100, 100, 0, 150, 70, 70])
    assert result.summary["refilled"] == 100
    assert result.summary["total_return"] == pytest.approx(-1, abs=1e-12)
    assert strategy.broker.fundvalue == pytest.approx(100 * SPECK * 0.7, rel=1e-9, abs=0)


def test_forty_total_losses_leave_numbers_that_can_be_reckoned_with():
    """Each leaves SPECK of the fund; after so many a share would be worth less than a float can hold."""
    bars = [CALM, CALM, FALL] * 40 + [CALM]
    script = dict.fromkeys(range(1, 120, 3), buy(size=10))
    cerebro = engine(frame(bars), terms={"profile": "forfeit"}, **REFILL)
    cerebro.addstrategy(Script, script=script)
    cerebro.addanalyzer(bt.analyzers.TimeReturn, timeframe=bt.TimeFrame.Minutes, compression=60, fund=True, _name="returns")
    strategy = cerebro.run()[0]
    summary = Result.of(strategy).summary
    assert (summary["refills"], summary["refilled"], summary["final_equity"]) == (40, 4_000, 100)
    assert 0 < strategy.broker.fundvalue < 1e-190
    assert strategy.broker.fundvalue * strategy.broker.fundshares == pytest.approx(100)
    assert max(strategy.analyzers.returns.get_analysis().values()) < 1e-9  # no refill is a profit
    assert summary["total_return"] == -1


def test_equity_above_the_amount_is_not_refilled_and_each_death_counts():
    """Isolated: of 1 000 ten are lost; refilled only where less than the amount is left."""
    twice = [CALM, CALM, FALL, CALM, CALM, FALL, CALM]
    script = {1: buy(), 4: buy()}
    rich = play(script, frame(twice), on_liquidation="refill", refill=900)
    assert (Result.of(rich).summary["refills"], rich.broker.record.flows) == (0, [])
    poor = play(script, frame(twice), on_liquidation="refill", refill=1_000)
    lost = 100 - LIQUIDATION_PRICE  # each time
    assert [flow.amount for flow in poor.broker.record.flows] == pytest.approx([lost, lost])
    assert poor.broker.equity == pytest.approx(1_000)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"on_liquidation": "refill"}, "on_liquidation='refill' needs refill=, the positive amount .*, was None"),
        ({"on_liquidation": "refill", "refill": 0}, "needs refill=, the positive amount that equity is brought back to, was 0"),
        ({"on_liquidation": "refill", "refill": -5}, "was -5"),
        ({"on_liquidation": "refill", "refill": float("nan")}, "was nan"),
        ({"on_liquidation": "refill", "refill": "100"}, "was '100'"),
        ({"refill": 100}, "refill=100 is for on_liquidation='refill', which was 'continue'; give both or neither"),
        ({"on_liquidation": "stop", "refill": 100}, "which was 'stop'"),
    ],
)
def test_a_refill_without_an_amount_or_an_amount_without_a_refill_is_refused(how, sentence):
    with pytest.raises(ValueError, match=sentence):
        MarginBroker(**how)


def test_plug_and_run_pass_all_of_it_on():
    cerebro = engine(frame([CALM] * 3))
    broker = plug(cerebro, None, on_liquidation="refill", refill=50, top_up=TopUp(ratio=2, deposit=True), warning_distance=0.1)
    assert (broker.p.refill, broker.p.top_up.ratio, broker.p.warning_distance) == (50, 2, 0.1)
    again = plug(cerebro, None, leverage=3)
    assert (again.p.on_liquidation, again.p.refill, again.p.top_up.ratio) == ("refill", 50, 2)
    more = {"on_liquidation": "refill", "refill": 50, "top_up": TopUp(amount=1), "warning_rate": 3, "warning_atr": 2}
    result = run(Idle, {"AAA": frame([CALM] * 3)}, "generic", 5, "isolated", **more)
    assert (result.settings["refill"], result.settings["top_up"]["amount"]) == (50, 1)
    with pytest.raises(ValueError, match="MarginBroker has no parameter refil; it has "):
        run(Idle, {"AAA": frame([CALM] * 3)}, "generic", 5, refil=50)


class Idle(bt.Strategy):
    """Does nothing."""


# -- a dead account --------------------------------------------------------------------------------------------------

DAYS = 20
DEATH = [CALM] * 30 + [FALL] + [(85, 86, 84, 85)] * (DAYS * 24 - 31)  # hours; it dies on the second day


class Again(bt.Strategy):
    """Orders 10 times what the account is worth whenever it holds nothing."""

    def next(self):
        if not self.position:
            self.order_target_percent(target=9.0)


ANALYZERS = {
    "TimeReturn": {"timeframe": bt.TimeFrame.Days},
    "LogReturnsRolling": {"timeframe": bt.TimeFrame.Days, "compression": 1},
    "Returns": {"timeframe": bt.TimeFrame.Days},
    "SharpeRatio": {"timeframe": bt.TimeFrame.Days},
    "SharpeRatio_A": {},
    "Calmar": {"timeframe": bt.TimeFrame.Days, "period": 3},
    "VWR": {"timeframe": bt.TimeFrame.Days},
    "DrawDown": {},
    "TimeDrawDown": {"timeframe": bt.TimeFrame.Days},
    "PeriodStats": {"timeframe": bt.TimeFrame.Days},
    "AnnualReturn": {},
    "SQN": {},
    "GrossLeverage": {},
    "PositionsValue": {},
    "TradeAnalyzer": {},
    "Transactions": {},
}


@pytest.fixture(scope="module")
def dead() -> bt.Strategy:
    """An account that loses everything on its second day of twenty, watched by the host's analyzers, the fund's among them."""
    cerebro = engine(frame(DEATH, start="2024-01-01 00:00"), terms={"profile": "forfeit"}, margin_mode="cross")
    cerebro.addobserver(bt.observers.Broker)
    cerebro.addstrategy(Again)
    for name, params in ANALYZERS.items():
        cerebro.addanalyzer(getattr(bt.analyzers, name), _name=name, **params)
        if "fund" in getattr(bt.analyzers, name).params._getkeys():
            cerebro.addanalyzer(getattr(bt.analyzers, name), _name=f"{name} of the fund", fund=True, **params)
    return cerebro.run()[0]


def test_a_dead_account_is_reported_as_dead(dead):
    summary = Result.of(dead).summary
    assert summary["died"] == "2024-01-02T07:00:00Z"  # the close of the 31st hour
    assert (summary["final_equity"], summary["total_return"], summary["annual_return"]) == (0, -1, -1)
    assert (summary["sharpe"], summary["max_drawdown"]) == (None, 1)
    assert summary["flags"][0] == "the account died at 2024-01-02T07:00:00Z: no Sharpe ratio, no annual return"
    assert min(Result.of(dead).equity["equity"]) == 0
    assert summary["time_in_market"] == 29 / len(DEATH)
    assert summary["orders_refused"] == 0  # nine times nothing is no order


@pytest.mark.parametrize("name", ANALYZERS)
def test_the_hosts_analyzers_live_on_with_a_dead_account(name, dead):
    """They divide by value and take its logarithm: the broker says SPECK of the first deposit where it is 0."""
    assert dead.analyzers.getbyname(name).get_analysis() is not None
    assert (dead.broker.equity, dead.broker.getvalue()) == (0, 1_000 * SPECK)


def test_what_the_hosts_analyzers_say_of_a_death_can_be_redone_by_hand(dead):
    analysis = {name: dead.analyzers.getbyname(name).get_analysis() for name in ANALYZERS}
    returns = list(analysis["TimeReturn"].values())
    assert returns[1] == pytest.approx(-1)
    assert returns[2:] == [0] * (len(returns) - 2)
    assert list(analysis["LogReturnsRolling"].values())[1] == pytest.approx(log(SPECK))
    assert analysis["Returns"]["rtot"] == pytest.approx(log(SPECK))
    assert analysis["DrawDown"]["max"]["drawdown"] == pytest.approx(100)
    assert isfinite(analysis["VWR"]["vwr"])
    assert isfinite(analysis["SharpeRatio"]["sharperatio"])
    assert isfinite(next(reversed(analysis["Calmar"].values())))
    assert list(dead.analyzers.getbyname("TimeReturn of the fund").get_analysis().values()) == pytest.approx(returns)


def test_our_analyzers_say_that_it_died():
    cerebro = engine(frame(DEATH, start="2024-01-01 00:00"), terms={"profile": "forfeit"}, margin_mode="cross")
    cerebro.addstrategy(Again)
    cerebro.addanalyzer(analyzers.Equity, _name="equity")
    analysis = cerebro.run()[0].analyzers.equity.get_analysis()
    assert (analysis.died, analysis.sharpe, analysis.annual_return, analysis.lowest_equity) == ("2024-01-02T07:00:00Z", None, -1, 0)


def test_an_account_that_cannot_open_one_lot_more_is_dead_and_one_that_can_is_not():
    """A lot of 1 takes 85 / 10 = 8.5 at the end: with 9.09 left it lives, with a lot of 1.1 it is dead."""
    bars = frame([CALM, CALM, FALL, (85,) * 4])
    for lot, died in ((1.0, None), (1.25, "2024-01-01T04:00:00Z")):
        strategy = play({1: buy(size=10)}, bars, terms={"lot": lot}, **ALL_IN)
        summary = Result.of(strategy).summary
        assert summary["died"] == died
        assert summary["final_equity"] == pytest.approx(LIQUIDATION_PRICE / 10)
        assert summary["annual_return"] is None


def test_an_account_that_never_traded_or_was_emptied_by_its_owner_is_not_dead():
    assert Result.of(play({}, frame([CALM] * 4), cash=5, terms={"lot": 1.0})).summary["died"] is None
    emptied = play({1: buy(), 2: close, 4: lambda s: s.broker.add_cash(-1_000)}, frame([CALM] * 7))
    assert Result.of(emptied).summary["died"] is None
    assert Result.of(emptied).summary["total_return"] == 0


def test_the_table_and_the_picture_say_dead(dead):
    out = io.StringIO()
    Console(file=out, width=120).print(summary_table(Result.of(dead)))
    assert "DEAD since 2024-01-02 07:00 UTC" in out.getvalue()
    assert headlines(Result.of(dead)) == ["The venue says: liquidated once, DEAD since 02 Jan 2024, 0 left"]


def test_the_table_says_what_was_topped_up_and_refilled():
    rules = {"top_up": TopUp(amount=5, deposit=True), **REFILL}
    out = io.StringIO()
    Console(file=out, width=120).print(summary_table(Result.of(play({1: buy(size=10)}, frame([CALM, CALM, FALL, (85,) * 4]), **rules))))
    assert "topped up by rule" in out.getvalue()
    assert "5.00, once" in out.getvalue()
    assert "refilled after them" in out.getvalue()


# -- several strategies ----------------------------------------------------------------------------------------------


def two(first, second, *candles, **how):
    cerebro = engine(*candles, **how)
    for script in (first, second):
        cerebro.addstrategy(Script, script=script)
    return cerebro.run()


def on_second(action):
    return lambda strategy: action(strategy, strategy.data1)


def test_strategies_that_trade_different_contracts_hear_of_their_own():
    """The first is liquidated with AAA, the second tops BBB up and is warned of it."""
    falls, sinks = frame([CALM, CALM, FALL, *[(85,) * 4] * 2]), frame([CALM, CALM, CALM, (100, 100, 92, 92), (92,) * 4])
    second = {1: on_second(lambda s, data: s.buy(data)), 2: on_second(lambda s, data: s.broker.add_margin(data, 1))}
    one, other = two({1: buy()}, second, falls, sinks, warning_distance=0.05)
    assert kinds(one) == ["liquidation"]
    assert kinds(other) == ["top_up", "warning"]
    assert {order[4].get("liquidation", False) for order in one.orders.values()} == {True, False}
    assert [order[0] for order in other.orders.values()] == ["Completed"]
    assert (one.getposition(one.data0).size, other.getposition(other.data1).size) == (0, 1)


def test_what_concerns_the_shared_wallet_is_told_to_all():
    """24 of cash in cross and a long of 1 of each: at 92 equity is 16 and the two maintain 1.92."""
    bars = frame([CALM, CALM, (100, 100, 92, 92), (92,) * 4])
    first, second = {1: buy()}, {1: on_second(lambda s, data: s.buy(data))}
    one, other = two(first, second, bars, bars, margin_mode="cross", cash=24, warning_rate=6.0)
    assert kinds(one) == kinds(other) == ["warning"]
    assert one.events[0]["rate"] == 6.0  # 8 / 1.84 = 4.3


def test_a_refill_is_told_to_all_and_a_contract_nobody_ordered_belongs_to_nobody():
    one, other = two({1: buy(size=10)}, {}, frame([CALM, CALM, FALL, (85,) * 4]), frame([CALM] * 4), **REFILL)
    assert (kinds(one), kinds(other)) == (["liquidation", "refill"], ["refill"])


@pytest.mark.parametrize("late", [2, 5])
def test_strategies_that_share_a_contract_are_refused_by_name(late):
    """Also when the first has closed its position by then."""
    with pytest.raises(ValueError, match=r"AAA: Script \(number 2\) ordered what Script \(number 1\) trades; strategies of one Cerebro"):
        two({1: buy(), 3: close}, {late: sell()}, frame([CALM] * 8))


def test_an_order_of_no_owner_takes_no_contract():
    def manual(strategy):
        strategy.broker.buy(None, strategy.data, 1)

    _, other = two({1: manual}, {3: buy()}, frame([CALM] * 6))
    assert other.position.size == 2
