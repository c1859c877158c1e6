"""What other backtesters were reported to get wrong about equity, margin and leverage, or not to have; each thread with a scenario.

The terms are those of ``playing``: 1 000 of cash, flat maintenance 1 %, 10x, no fees; here in cross unless a test says isolated.
"""

import re
from math import fsum, nextafter

import backtrader as bt
import pytest
from playing import Script, buy, close, frame, play, sell

from bt_margin import MarginBroker, PerpCommInfo, PerpData, Result, TierTable, analyzers, run, venues

STILL = (100, 100, 100, 100)
CROSS = {"margin_mode": "cross"}


def at(price):
    return (price,) * 4


def analysed(script, *candles, kinds=(), leverage=10):
    """Play with analyzers; in cross, without fees."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000, check=True)
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=leverage, tiers=0.01, liquidation_fee=0.0))
    for number, candle_frame in enumerate(candles):
        cerebro.adddata(PerpData(dataname=candle_frame, name="ABC"[number] * 3))
    for kind in kinds:
        cerebro.addanalyzer(kind, _name=kind.__name__)
    cerebro.addstrategy(Script, script=script)
    return cerebro.run()[0]


# -- value and cash ------------------------------------------------------------------------------------------------------


def test_value_is_the_ledger_and_the_unrealized_profit_on_every_bar():
    """mementum/backtrader#387, community 1903 and 5930: getvalue counted margin on top of profit. Every bar is redone from the fills.

    10 bought at 100, 5 more at 110, 8 sold at 120, the rest held at 90; a fee of 0.1 % each time.
    """
    values = []
    script = {n: lambda s, n=n: (values.append(s.broker.getvalue()), orders.get(n, lambda _: None)(s)) for n in range(1, 7)}
    orders = {1: buy(size=10), 2: buy(size=5), 3: sell(size=8)}
    closes = [100, 100, 110, 120, 120, 90]
    play(script, frame([at(price) for price in closes]), terms={"commission": 0.001}, **CROSS)
    fills = [(1, 10, 100), (2, 5, 110), (3, -8, 120)]
    for bar, (price, value) in enumerate(zip(closes, values, strict=True)):
        done = [fill for fill in fills if fill[0] <= bar]
        paid = fsum(size * fill_price + abs(size) * fill_price * 0.001 for _, size, fill_price in done)
        assert value == pytest.approx(1_000 - paid + price * sum(size for _, size, _ in done)), f"bar {bar}"


def test_cash_value_and_wallet_are_three_numbers_and_each_can_be_said_why():
    """community 3492: 'value 973, cash 590?'. 50 long from 100 at 98: a wallet of 1 000, equity 900, margin 490, 410 free."""
    broker = play({1: buy(size=50)}, frame([STILL, STILL, at(98)]), **CROSS).broker
    assert (broker.wallet_balance, broker.getvalue(), broker.initial_margin(), broker.getcash()) == (1_000, 900, 490, 410)


def test_available_initial_and_maintenance_margin_are_not_one_number():
    """Lean#9241 and #9242: maintenance was taken for what is in use. 50 long from 100 at 98: 490 in use, 49 maintained, 410 free."""
    broker = play({1: buy(size=50)}, frame([STILL, STILL, at(98)]), **CROSS).broker
    assert (broker.initial_margin(), broker.maintenance_margin(), broker.available_margin) == (490, 49, 410)
    assert broker.margin_ratio() == pytest.approx(49 / 900)


def test_margins_can_be_relied_on_on_every_bar():
    """nautilus#2530: margin could not be relied on. Long 40, at 110 short 20 of another: each bar's four numbers by hand."""
    script = {1: lambda s: s.buy(s.datas[0], size=40), 3: lambda s: s.sell(s.datas[1], size=20)}
    first, second = frame([at(100), at(100), at(110), at(110), at(95)]), frame([at(50)] * 4 + [at(60)])
    strategy = play(script, first, second, **CROSS)
    equity = [1_000, 1_000, 1_400, 1_400, 1_000 - 40 * 5 - 20 * 10]
    initial = [0, 400, 440, 440 + 100, 380 + 120]
    record = strategy.broker.record
    assert list(record.column("equity")) == equity
    assert list(record.column("initial_margin")) == initial
    assert list(record.column("maintenance_margin")) == pytest.approx([margin / 10 for margin in initial])
    assert list(record.column("available_margin")) == [e - i for e, i in zip(equity, initial, strict=True)]


# -- leverage ------------------------------------------------------------------------------------------------------------


def swing(leverage):
    """20 held from 100 over 110 and 95."""
    return play({1: buy(size=20)}, frame([STILL, STILL, at(110), at(95)]), terms={"leverage": leverage}, cash=3_000, **CROSS)


def test_leverage_changes_margin_and_no_profit():
    """jesse#461: 'leverage changes nothing'. 20 at 95 are 1 900: 950 of margin at 2x, 95 at 20x, and 3 000 - 100 of equity at either."""
    low, high = swing(2), swing(20)
    assert list(low.broker.record.column("equity")) == list(high.broker.record.column("equity")) == [3_000, 3_000, 3_200, 2_900]
    assert (low.broker.initial_margin(), high.broker.initial_margin()) == (950, 95)
    assert low.broker.maintenance_margin() == high.broker.maintenance_margin() == 19


def test_leverage_sets_the_distance_to_an_isolated_liquidation():
    """jesse#461: what it does change. Margin 100 / L: long 1 dies where 100 / L + p - 100 = 0.01 p."""
    for leverage in (2, 5, 20):
        strategy = play({1: buy()}, frame([STILL] * 3), terms={"leverage": leverage})
        assert strategy.broker.liquidation_price(strategy.data) == pytest.approx((100 - 100 / leverage) / 0.99)


@pytest.mark.parametrize("leverage", [1, 5, 20])
def test_value_is_not_multiplied_by_leverage(leverage):
    """jesse#515: profit was, so that sizes made of the portfolio's value were wrong. 9 at 100, then at 110: 1 090 at any leverage."""
    seen = []
    look = {3: lambda s: (seen.append(s.broker.getvalue()), s.order_target_percent(target=0.5))}
    strategy = play({1: buy(size=9), **look}, frame([STILL, STILL, at(110), at(110)]), terms={"leverage": leverage}, **CROSS)
    assert seen == [1_090]
    assert strategy.position.size == pytest.approx(0.5 * 1_090 / 110)


@pytest.mark.parametrize(("leverage", "most"), [(1, 10), (2, 20), (25, 250)])
def test_the_largest_order_grows_with_leverage(leverage, most):
    """Lean#7589: 'leverage has no effect'. 1 000 at 100 buy 10 times the leverage, and no more."""
    strategy = play({1: buy(size=most + 0.5), 2: buy(size=most)}, frame([STILL] * 4), terms={"leverage": leverage}, **CROSS)
    assert [status for status, *_ in strategy.orders.values()] == ["Margin", "Completed"]


@pytest.mark.parametrize(("leverage", "used"), [(1, 200), (10, 20)])
def test_margin_in_use_is_notional_over_leverage(leverage, used):
    """Lean#7604: the margin in use was the same at 1x and 10x. 2 at 100: 200 and 20; 2 are maintained at either."""
    broker = play({1: buy(size=2)}, frame([STILL] * 3), terms={"leverage": leverage}, **CROSS).broker
    assert (broker.initial_margin(), broker.maintenance_margin(), broker.available_margin) == (used, 2, 1_000 - used)


def test_leverage_changes_while_a_run_goes_on_and_what_it_takes_is_judged_again():
    """kernc/backtesting.py#712 and #736: it was fixed for a run. 50 at 100 take 500 at 10x, 1 250 of 1 000 at 4x, and 250 at 20x."""
    refused, cash = [], []

    def change(strategy):
        with pytest.raises(ValueError, match="4x needs 750 more initial margin, available is 500") as error:
            strategy.broker.set_leverage(strategy.data, 4)
        refused.append(error)
        cash.append(strategy.broker.getcash())
        strategy.broker.set_leverage(strategy.data, 20)
        cash.append(strategy.broker.getcash())

    strategy = play({1: buy(size=50), 2: change}, frame([STILL] * 4), **CROSS)
    assert (len(refused), cash) == (1, [500, 750])
    assert strategy.broker.initial_margin() == 250


@pytest.mark.parametrize(("opening", "expected"), [(buy(size=50), 4_000 / 49.5), (sell(size=50), 6_000 / 50.5)])
def test_the_liquidation_price_of_what_is_held_can_be_asked_for(opening, expected):
    """kernc/backtesting.py#712: wanted for contracts. Long 1 000 + 50 (p - 100) = 0.5 p, short 1 000 + 50 (100 - p) = 0.5 p, flat none."""
    asked = []
    look = {n: lambda s: asked.append(s.broker.liquidation_price(s.data)) for n in (1, 3, 5)}
    script = {1: lambda s: (look[1](s), opening(s)), 3: look[3], 4: close, 5: look[5]}
    play(script, frame([STILL] * 6), **CROSS)
    assert asked == [None, pytest.approx(expected), None]


def test_leverage_is_gross_notional_over_equity_and_may_be_above_one():
    """community 582 and 2614: get_leverage said odd numbers, and leverage was never above 1. 20 long and 10 short at 100 on 1 000.

    Gross 3 000 and net 1 000: 3x and 1x. With AAA at 90: 2 800 gross on 800, 3.5x.
    """
    script = {1: lambda s: (s.buy(s.datas[0], size=20), s.sell(s.datas[1], size=10))}
    kinds = (analyzers.Leverage, bt.analyzers.PositionsValue)
    strategy = analysed(script, frame([STILL, STILL, at(90)]), frame([STILL] * 3), kinds=kinds)
    broker = strategy.broker
    assert broker.get_leverage() == pytest.approx(2_800 / 800)
    assert broker.getvalue(strategy.datas) / broker.getvalue() == pytest.approx(800 / 800)
    assert list(Result.of(strategy).equity["effective_leverage"]) == pytest.approx([0, 3, 3.5])
    assert strategy.analyzers.Leverage.get_analysis().highest == pytest.approx(3.5)
    assert list(strategy.analyzers.PositionsValue.get_analysis().values())[1:] == [[2_000, -1_000], [1_800, -1_000]]


# -- contracts -----------------------------------------------------------------------------------------------------------

INVERSE = {"terms": {"kind": "inverse", "currency": "BTC"}, "cash": 10, **CROSS}


def test_linear_and_inverse_contracts_are_traded_by_the_same_script():
    """polakowo/vectorbt#639: perpetuals were wanted, inverse ones too. Bought at 100 and sold at 125.

    10 coins earn 250; 1 000 contracts of 1 earn 1 000 (1/100 - 1/125) = 2 coins, on margins of 100 and of 1 coin.
    """
    bars = frame([STILL, STILL, at(125), at(125)])
    script = {
        1: lambda s: s.buy(size=s.broker.max_size(s.data, isbuy=True) / 10),
        2: lambda s: used.append(s.broker.initial_margin()),
        3: close,
    }
    used = []
    linear, inverse = play(script, bars, **CROSS), play(script, bars, **INVERSE)
    assert used == pytest.approx([100, 1])
    assert linear.broker.equity == pytest.approx(1_250)
    assert inverse.broker.equity == pytest.approx(12)


def test_an_inverse_position_whose_price_comes_back_has_earned_nothing():
    """cloudQuant forks of the host: 100, 50, 100 earned 500 on a path. Here it earns what its ends say, bar by bar.

    100 contracts at 50: 100 (1/100 - 1/50) = -1 coin.
    """
    strategy = play({1: buy(size=100), 3: close}, frame([STILL, STILL, at(50), at(100), at(100)]), **INVERSE)
    assert list(strategy.broker.record.column("equity")) == pytest.approx([10, 10, 9, 10, 10])


def test_the_liquidation_price_follows_every_purchase_payment_and_transfer():
    """freqtrade#9205: it was wrong after a second purchase. Isolated, 5x: 1 at 100 with 20, then 1 at 90 with 18, then 10 of margin more.

    20 + p - 100 = 0.01 p; 38 + 2 p - 190 = 0.02 p; 48 + 2 p - 190 = 0.02 p; half sold at the entry of 95: 24 + p - 95 = 0.01 p.
    """
    prices = []

    def look(strategy):
        prices.append(strategy.broker.liquidation_price(strategy.data))

    script = {
        1: buy(),
        2: look,
        3: buy(),
        4: lambda s: (look(s), s.broker.add_margin(s.data, 10), look(s)),
        5: sell(),
        6: look,
    }
    play(script, frame([STILL, STILL, at(90), at(90), at(95), at(95), at(95)]), terms={"leverage": 5})
    assert prices == pytest.approx([80 / 0.99, 152 / 1.98, 142 / 1.98, 71 / 0.99])


# -- tiers ---------------------------------------------------------------------------------------------------------------


def edges():
    """Every edge between two tiers of every linear contract that Binance's tables of the package have."""
    for symbol, contract in venues.load("binance").contracts.items():
        for table in contract.tiers.tables:
            yield from ((symbol, table, tier.cap) for tier in table.tiers[:-1])


def test_maintenance_margin_does_not_jump_at_any_edge_of_a_venues_tiers():
    """freqtrade#10422: which notional picks the tier matters only if the tiers meet. At each edge the next number maintains the same."""
    seen = list(edges())
    assert len(seen) > 20
    for symbol, table, cap in seen:
        below, above = table.maintenance_margin(cap), table.maintenance_margin(nextafter(cap, 1e300))
        assert above == pytest.approx(below, rel=1e-9), f"{symbol} at {cap:g}"


def test_no_tier_of_a_venue_lets_a_position_open_that_is_dead_already():
    """freqtrade#7294: leverage times maintenance rate above 1. At each edge, notional / highest leverage is above what is maintained."""
    for symbol, table, cap in edges():
        assert cap / table.max_leverage(cap) > table.maintenance_margin(cap), f"{symbol} at {cap:g}"


class Buyer(bt.Strategy):
    def next(self):
        if not self.position:
            self.buy(size=1)


def test_a_contract_without_tiers_runs_on_the_generic_ones_and_says_so():
    """freqtrade#11757 and #11083: a pair that the tier file did not have could not be tested. 0.5 % of 100 are maintained, and flagged."""
    result = run(Buyer, {"NEWLISTUSDT": frame([STILL] * 4)}, venue=None, leverage=3)
    assert any(re.match("generic tiers.*NEWLISTUSDT", flag) for flag in result.summary["flags"])
    assert result.equity["maintenance_margin"].iloc[-1] == pytest.approx(0.5)


def test_a_venue_that_does_not_know_a_contract_says_what_would_run():
    """freqtrade#11757: a clear message. At Binance's rules the same name is refused, with the two ways to run it."""
    with pytest.raises(ValueError, match=r"no tiers for NEWLISTUSDT.*take venue 'generic'.*or give PerpCommInfo tiers="):
        run(Buyer, {"NEWLISTUSDT": frame([STILL] * 4)}, venue="binance")


def test_tiers_of_ones_own_are_taken_as_rows():
    """freqtrade#11757: or as a user has them. 30 at 100 by (1 000, 1 %) and 5 % above: 0.05 x 3 000 - 40 = 110."""
    rows = [(1_000, 0.01, 50), (None, 0.05, 20)]
    strategy = play({1: buy(size=30)}, frame([STILL] * 3), terms={"tiers": rows}, **CROSS)
    assert strategy.broker.maintenance_margin() == pytest.approx(110)
    assert TierTable.from_rows(rows).maintenance_margin(3_000) == pytest.approx(110)


def test_a_leverage_that_a_contract_does_not_have_is_refused_with_what_it_has():
    """freqtrade#11083: a clear message instead of a pair left out."""
    with pytest.raises(ValueError, match=re.escape("AAA")) as error:
        play({}, frame([STILL] * 2), terms={"tiers": [(1_000, 0.01, 50)], "leverage": 75})
    assert "50" in str(error.value)


# -- telemetry -----------------------------------------------------------------------------------------------------------


def test_the_distance_of_each_contract_to_the_liquidation_of_the_account_is_told():
    """freqtrade#12093: distance per pair was wanted. 30 of each at 100 on 1 000: the other's 30 of maintenance stay as they are.

    1 000 + 30 (p - 100) = 0.3 p + 30, at 2 030 / 29.7 = 68.35.
    """
    script = {1: lambda s: (s.buy(s.datas[0], size=30), s.buy(s.datas[1], size=30))}
    strategy = analysed(script, frame([STILL] * 3), frame([STILL] * 3))
    last = Result.of(strategy).positions.tail(2)
    assert list(last["symbol"]) == ["AAA", "BBB"]
    assert list(last["liquidation_price"]) == pytest.approx([2_030 / 29.7] * 2)


def test_margin_has_a_curve_and_a_highest_ratio():
    """akfamily/akquant#183: a margin curve; diogomatoschaves/MyCryptoBot#73: the margin ratio. 50 long from 100, at 90, at 105.

    Maintained 50, 45, 52.5 of equity 1 000, 500, 1 250: 0.05, 0.09, 0.042.
    """
    kinds = (analyzers.Margin,)
    strategy = analysed({1: buy(size=50)}, frame([STILL, STILL, at(90), at(105)]), kinds=kinds)
    equity = Result.of(strategy).equity
    assert list(equity["initial_margin"]) == [0, 500, 450, 525]
    assert list(equity["margin_ratio"])[1:] == pytest.approx([0.05, 0.09, 0.042])
    assert strategy.analyzers.Margin.get_analysis().highest_ratio == pytest.approx(0.09)


def test_maintenance_margin_lies_beside_equity_and_meets_it_where_the_account_dies():
    """Robot-Wealth/risk-premia-app#26: the maintenance line under the equity curve. 50 long from 100: at 81, equity 50 and 40.5 maintained.

    The nearest call before the end is that bar's: (81 - 80.808) / 81; once it is dead there is neither.
    """
    strategy = analysed({1: buy(size=50)}, frame([STILL, STILL, at(81)]), kinds=(analyzers.Margin,))
    row = Result.of(strategy).equity.iloc[-1]
    assert (row["equity"], row["maintenance_margin"]) == (50, pytest.approx(40.5))
    assert strategy.analyzers.Margin.get_analysis().closest_call == pytest.approx((81 - 4_000 / 49.5) / 81)
    dead = analysed({1: buy(size=50)}, frame([STILL, STILL, at(81), at(80)]))
    assert Result.of(dead).equity["maintenance_margin"].iloc[-1] == 0
