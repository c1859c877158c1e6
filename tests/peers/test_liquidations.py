"""What other backtesters were reported to get wrong about liquidation; each thread with a scenario that can be redone by hand.

The terms are those of ``playing``: 1 000 of cash, flat maintenance 1 %, 10x isolated, no fees. A long of 1 at 100 holds 10
and dies where 10 + p - 100 = 0.01 p, at 90 / 0.99 = 90.909; a short where 10 + 100 - p = 0.01 p, at 110 / 1.01 = 108.911.
"""

import backtrader as bt
import pytest
from playing import CALM, Script, buy, close, frame, play, rate_column, sell

from bt_margin import MarginBroker, PerpCommInfo, PerpData, Result
from bt_margin.core.profiles import PROFILES

STILL = (100, 100, 100, 100)
LONG_DIES, SHORT_DIES = 90 / 0.99, 110 / 1.01
CROSS = {"margin_mode": "cross"}


def liquidations(strategy):
    return strategy.broker.record.liquidations


def at(price):
    return (price,) * 4


# -- the bar hides the price that kills ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opening", "bar", "price"),
    [(buy(), (100, 101, 80, 100), LONG_DIES), (sell(), (100, 120, 99, 100), SHORT_DIES)],
    ids=["a long by its low", "a short by its high"],
)
def test_an_extreme_that_recovers_by_the_close_still_liquidates(opening, bar, price):
    """kernc/backtesting.py#939: equity was made of closes only; the bar opens and closes at 100 and its extreme is past the limit."""
    (row,) = liquidations(play({1: opening}, frame([CALM, CALM, bar])))
    assert (row.trigger, row.certainty) == ("path", "certain")
    assert row.mark_price == pytest.approx(price)


def test_the_extreme_that_liquidates_is_that_of_the_mark_where_there_is_one():
    """kernc/backtesting.py#939: last falls to 80 while the mark stays at 99 and nothing happens; where the mark is at 80 the long dies."""
    deep, calm = (100, 101, 80, 100), (100, 101, 99, 100)
    spared = play({1: buy()}, frame([calm, calm, deep], marks=[calm, calm, calm]))
    killed = play({1: buy()}, frame([calm, calm, calm], marks=[calm, calm, deep]))
    assert liquidations(spared) == []
    assert [row.mark_price for row in liquidations(killed)] == [pytest.approx(LONG_DIES)]


def test_a_position_can_die_in_the_bar_that_opened_it():
    """kernc/backtesting.py#939: also where nothing of it was there before. Bought at the open of 100, the low of that bar is 80."""
    strategy = play({1: buy()}, frame([CALM, (100, 101, 80, 100)]))
    assert [(row.trigger, row.mark_price) for row in liquidations(strategy)] == [("path", pytest.approx(LONG_DIES))]
    assert strategy.broker.equity == pytest.approx(1_000 - 100 + LONG_DIES)


def test_a_price_that_comes_back_does_not_bring_a_liquidated_position_back():
    """polakowo/vectorbt#187: the curve crossed the liquidation and recovered. 10 - (100 - 90.909) = 0.909 of the margin comes back."""
    strategy = play({1: buy()}, frame([CALM, CALM, (100, 101, 80, 100), at(100), at(200)]))
    assert strategy.position.size == 0
    assert list(strategy.broker.record.column("equity"))[2:] == pytest.approx([1_000 - 10 + 0.909090909] * 3)


def test_a_short_loses_no_more_than_the_account_however_far_the_price_runs():
    """polakowo/vectorbt#187: a loss of 256 %. Short 10 at 100 with 1x cross; the open at 356 is 2 560 off, and the account has 1 000.

    The owner's price is 200, where 1 000 + 10 (100 - p) is 0; the fund pays 10 (356 - 200).
    """
    strategy = play({1: sell(size=10)}, frame([STILL, STILL, at(356), at(90)]), terms={"leverage": 1}, **CROSS)
    (row,) = liquidations(strategy)
    assert (row.trigger, row.mark_price, row.price, row.from_insurance_fund) == ("gap", 356, 200, 1_560)
    assert list(strategy.broker.record.column("equity"))[2:] == [0, 0]


# -- maintenance ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("intrabar", ["adverse", "close"])
@pytest.mark.parametrize(("low", "died"), [(50, True), (50.001, False)], ids=["at it", "a hair above"])
def test_equity_at_maintenance_margin_liquidates_and_a_hair_above_it_does_not(low, died, intrabar):
    """community 577: no maintenance margin in the host. 16 long from 100 with 1 000, 25 % maintained: 1 000 + 16 (p - 100) = 4 p at 50.

    There 200 are left and 200 are maintained; with maintenance 0 they would have lived to 37.50.
    """
    bars = frame([STILL, STILL, (100, 100, low, low)])
    strategy = play({1: buy(size=16)}, bars, terms={"tiers": 0.25, "leverage": 2}, intrabar=intrabar, **CROSS)
    assert [row.mark_price for row in liquidations(strategy)] == ([50] if died else [])
    assert strategy.broker.equity == pytest.approx(1_000 + 16 * (low - 100))
    assert strategy.broker.maintenance_margin() == (0 if died else pytest.approx(0.25 * 16 * low))


def test_a_fully_paid_short_can_be_liquidated():
    """HKUDS/Vibe-Trading#1291: shorts at 1x never died. Short 1 at 100 with 100 behind: 100 + 100 - p = 0.01 p at 200 / 1.01."""
    strategy = play({1: sell()}, frame([STILL, STILL, (100, 210, 100, 210)]), terms={"leverage": 1})
    (row,) = liquidations(strategy)
    assert row.mark_price == pytest.approx(200 / 1.01)
    assert strategy.broker.equity == pytest.approx(1_000 + 100 - 200 / 1.01)


def test_a_fully_paid_long_dies_only_where_the_price_is_nothing():
    """HKUDS/Vibe-Trading#1291, the other side: 100 + p - 100 = 0.01 p has no price above 0, so a long at 1x outlives -99 %."""
    strategy = play({1: buy()}, frame([STILL, STILL, (100, 100, 1, 1)]), terms={"leverage": 1})
    assert strategy.broker.liquidation_price(strategy.data) is None
    assert (liquidations(strategy), strategy.broker.equity) == ([], 901)


def test_at_1x_it_is_the_inverse_long_that_can_die_and_the_short_that_cannot():
    """HKUDS/Vibe-Trading#1291: of inverse contracts it is the other way round. 1 000 at 100 are 10 coins, and 10 coins are behind them.

    Long 10 + 1 000 (1/100 - 1/p) = 0.01 x 1 000 / p, at 1 010 / 20 = 50.5; short 10 - 10 + 1 000 / p = 10 / p at no price.
    """
    terms = {"kind": "inverse", "currency": "BTC", "leverage": 1}
    bars = frame([STILL, STILL, (100, 1_000, 40, 100)])
    long, short = play({1: buy(size=1_000)}, bars, terms=terms, cash=10), play({1: sell(size=1_000)}, bars, terms=terms, cash=10)
    assert [row.mark_price for row in liquidations(long)] == [pytest.approx(50.5)]
    assert (liquidations(short), short.broker.equity) == ([], pytest.approx(10))


# -- tiers ---------------------------------------------------------------------------------------------------------------

TIERS = [(1_000, 0.01, 50), (None, 0.05, 20)]  # amount of the second tier: 1 000 x (0.05 - 0.01) = 40


def test_the_tier_is_chosen_by_notional_and_not_by_the_margin_posted():
    """freqtrade#10422: 30 at 100 with 10x post 300, but are worth 3 000 and in the second tier.

    They die where 300 + 30 (p - 100) = 0.05 x 30 p - 40, at p = 2 660 / 28.5 = 93.333; by the first tier it would be 90.909.
    """
    strategy = play({1: buy(size=30)}, frame([STILL, STILL, (100, 100, 93, 100)]), terms={"tiers": TIERS})
    (row,) = liquidations(strategy)
    assert row.mark_price == pytest.approx(2_660 / 28.5)


def test_the_tier_is_chosen_at_the_mark_and_not_at_entry():
    """freqtrade#10422: 9 short from 100 are worth 900 at entry and 1 080 at a mark of 120: 0.05 x 1 080 - 40 = 14 and not 10.8."""
    strategy = play({1: sell(size=9)}, frame([STILL, STILL, (100, 120, 100, 120)]), terms={"tiers": TIERS}, **CROSS)
    assert strategy.broker.maintenance_margin() == pytest.approx(14)


def test_a_position_at_the_highest_leverage_of_its_tier_is_not_liquidated_as_it_opens():
    """freqtrade#7294: trades died at once. 10 at 100 fill the first tier at its 50x: 20 posted against 0.01 x 1 000 = 10 maintained.

    It dies where 20 + 10 (p - 100) = 0.1 p, at 980 / 9.9 = 98.990, and a low of 99 spares it.
    """
    terms = {"tiers": TIERS, "leverage": 50}
    spared = play({1: buy(size=10)}, frame([STILL, STILL, (100, 100, 99, 100)]), terms=terms)
    killed = play({1: buy(size=10)}, frame([STILL, STILL, (100, 100, 98, 100)]), terms=terms)
    assert (liquidations(spared), spared.position.size) == ([], 10)
    assert liquidations(killed)[0].mark_price == pytest.approx(980 / 9.9)


# -- cross ---------------------------------------------------------------------------------------------------------------


def test_cross_margin_lends_a_position_what_isolated_margin_keeps_from_it():
    """freqtrade#11916 and #11220: cross mode was wanted. 10 long, a fall to 50 and back: isolated it costs 90.91, in cross nothing."""
    bars = frame([STILL, STILL, (100, 100, 50, 100)])
    isolated, cross = play({1: buy(size=10)}, bars), play({1: buy(size=10)}, bars, **CROSS)
    assert isolated.broker.equity == pytest.approx(1_000 - 10 * (100 - LONG_DIES))
    assert (liquidations(cross), cross.broker.equity) == ([], 1_000)
    assert cross.broker.record.column("lowest_equity")[2] == 500


def pair(first, second):
    """Order both contracts after the first bar: sizes with their signs."""
    return {
        1: lambda s: [(s.buy if size > 0 else s.sell)(data, size=abs(size)) for data, size in zip(s.datas, (first, second), strict=True)]
    }


@pytest.mark.parametrize(("other", "equity"), [(110, 1_000 - 30 * 10), (90, 1_000 + 30 * 10)], ids=["it loses", "it earns"])
def test_the_cross_liquidation_price_knows_the_side_of_the_other_position(other, equity):
    """freqtrade#13456: another short's profit counted as a long's. 30 of AAA long at 100, 30 of BBB short from 100.

    equity + 30 (p - 100) = 0.01 x 30 p + 0.01 x 30 b with BBB at b: p = (3 000 - equity + 0.3 b) / 29.7. BBB's rise lifts it.
    """
    strategy = play(pair(30, -30), frame([STILL, STILL, STILL]), frame([STILL, STILL, at(other)]), **CROSS)
    expected = (3_000 - equity + 0.3 * other) / 29.7
    assert strategy.broker.liquidation_price(strategy.datas[0]) == pytest.approx(expected)
    assert (expected > 100 - 1_000 / 30) is (other == 110)


def test_two_positions_that_fall_together_die_of_their_sum():
    """freqtrade#11318: the other positions stayed at their entry. 30 of each: 1 000 + 60 (p - 100) = 0.6 p, at 5 000 / 59.4 = 84.175.

    With the other frozen at 100 it would be 1 000 + 30 (p - 100) = 0.3 p + 30, at 68.35, which a low of 84 never reaches.
    """
    fall = (100, 100, 84, 84)
    strategy = play(pair(30, 30), frame([STILL, STILL, fall]), frame([STILL, STILL, fall]), **CROSS)
    assert liquidations(strategy)[0].mark_price == pytest.approx(5_000 / 59.4)


def test_a_position_past_its_first_liquidation_price_lives_while_the_account_can_carry_it():
    """freqtrade#10668: a price fixed at entry decided. 45 of AAA long from 100 beside 45 of BBB short, which earn what AAA loses.

    With BBB still at 100: 1 000 + 45 (p - 100) = 0.45 p + 45 at 3 545 / 44.55 = 79.574. At 75 both, equity is 1 000 and
    0.01 x 45 x 75 x 2 = 67.5 are maintained.
    """
    first_prices = []
    script = {**pair(45, -45), 2: lambda s: first_prices.append(s.broker.liquidation_price(s.datas[0]))}
    fall = (100, 100, 75, 75)
    strategy = play(script, frame([STILL, STILL, fall, at(75)]), frame([STILL, STILL, fall, at(75)]), **CROSS)
    assert first_prices == [pytest.approx(3_545 / 44.55)]
    assert (liquidations(strategy), strategy.broker.equity, strategy.broker.maintenance_margin()) == ([], 1_000, 67.5)


# -- orders and the path -------------------------------------------------------------------------------------------------


def stop(price):
    return sell(exectype=bt.Order.Stop, price=price)


@pytest.mark.parametrize(
    ("stop_price", "bar", "died", "filled_at"),
    [
        (95, (100, 101, 80, 85), False, 95),
        (90.5, (100, 101, 80, 85), True, LONG_DIES),
        (95, (85, 86, 80, 85), True, 90),
    ],
    ids=["nearer than the limit", "beyond the limit", "nearer, but gapped"],
)
def test_of_a_stop_and_a_liquidation_in_one_bar_the_nearer_comes_first_unless_the_bar_gapped(stop_price, bar, died, filled_at):
    """freqtrade#9296, TorchTrade#300: long 1 from 100, limit at 90.909. A bar that opens at 85 has left it behind: bankrupt at 90."""
    strategy = play({1: buy(), 2: stop(stop_price)}, frame([CALM, CALM, bar]))
    assert bool(liquidations(strategy)) is died
    assert strategy.broker.record.fills[-1].price == pytest.approx(filled_at)
    assert strategy.position.size == 0


def test_of_a_target_and_a_liquidation_in_one_bar_the_worse_is_taken_and_called_possible():
    """TorchTrade#300: on opposite sides of the entry a bar does not tell which came first. Target 105, limit 90.909, range 80 to 106."""
    script = {1: buy(), 2: sell(exectype=bt.Order.Limit, price=105)}
    bars = frame([CALM, CALM, (100, 106, 80, 99)])
    feared, hoped = play(script, bars), play(script, bars, intrabar="favourable")
    assert [row.certainty for row in liquidations(feared)] == ["possible"]
    assert (liquidations(hoped), hoped.broker.equity) == ([], 1_005)


def test_a_limit_that_is_crossed_between_two_bars_liquidates_at_the_next_open():
    """shobhit727/trade#30: the boundary lay between a close of 95 and an open of 92, and no bar's range held it; the later bar only rises.

    Long 1 at 20x holds 5 and dies where 5 + p - 100 = 0.01 p, at 95 / 0.99 = 95.96; gapped to 92 it is bankrupt at 95.
    """
    strategy = play({1: buy()}, frame([STILL, STILL, (100, 100, 97, 97), (92, 110, 92, 110)]), terms={"leverage": 20})
    (row,) = liquidations(strategy)
    assert (row.trigger, row.mark_price, row.price) == ("gap", 92, 95)


# -- what a liquidation costs --------------------------------------------------------------------------------------------


def test_a_gap_is_booked_at_the_open_and_never_better():
    """TorchTrade#314: it was booked at the liquidation price. Long 1 from 100 opens at 90.5, below 90.909: sold at 90.5, 0.5 comes back."""
    strategy = play({1: buy()}, frame([CALM, CALM, (90.5, 95, 90.5, 95)]))
    (row,) = liquidations(strategy)
    assert (row.price, row.returned, strategy.broker.equity) == (90.5, 0.5, 990.5)


def test_a_deeper_crash_never_costs_less():
    """TorchTrade#364: the loss was capped and the fee was not, so that it shrank as the crash went on. Long 1 with 10x, a fee of 0.2 %.

    An open at 90.5 costs 9.5 + 0.181; at 90.1 it is 9.9 + 0.1, for no more is left of the margin of 10; and 10 at any below.
    """
    opens = (90.5, 90.1, 90, 70, 50, 10)
    losses = []
    for gap in opens:
        strategy = play({1: buy()}, frame([CALM, CALM, at(gap)]), terms={"liquidation_fee": 0.002})
        losses.append(1_000 - strategy.broker.equity)
    assert losses == pytest.approx([9.681, 10, 10, 10, 10, 10])


def test_a_short_that_gapped_costs_its_margin_and_no_more():
    """TorchTrade#364: a gap to four times the price cost 1 400 of a margin of 1 000. Short 10 at 100 with 10x and a fee of 1 %: 100."""
    strategy = play({1: sell(size=10)}, frame([CALM, CALM, at(400)]), terms={"liquidation_fee": 0.01})
    assert strategy.broker.equity == pytest.approx(1_000 - 100)
    assert liquidations(strategy)[0].from_insurance_fund == pytest.approx(10 * (400 - 110))


# -- the branch that runs once in a hundred runs -------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["plain", "replayed", "resampled"])
def test_a_replayed_or_resampled_feed_liquidates_as_a_plain_one(mode):
    """TorchTrade#269: replay knew no liquidation, equity went to -1 000 and came back. 50 long at 100 with 1 000 cross die at 80.808.

    Two hours make a bar, (100, 100, 70, 100), of which the first hour is (100, 100, 70, 90).
    """
    hours = frame([STILL, STILL, STILL, STILL, (100, 100, 70, 90), (90, 100, 90, 100), STILL, STILL], start="2024-01-01 00:00")
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000, check=True)
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=10, tiers=0.01, liquidation_fee=0.0))
    add = {"plain": cerebro.adddata, "replayed": cerebro.replaydata, "resampled": cerebro.resampledata}[mode]
    how = {} if mode == "plain" else {"timeframe": bt.TimeFrame.Minutes, "compression": 120}
    add(PerpData(dataname=hours, name="AAA"), **how)
    cerebro.addstrategy(Script, script={1: lambda s: s.orders or s.buy(size=50)})  # a replayed bar has the same number twice
    strategy = cerebro.run()[0]
    (row,) = strategy.broker.record.liquidations
    assert row.mark_price == pytest.approx(4_000 / 49.5)
    assert strategy.broker.equity == pytest.approx(1_000 - 50 * (100 - 4_000 / 49.5))


def test_the_distance_to_liquidation_is_never_a_constant():
    """TorchTrade#269: the price was 0 for every position. Long 1 isolated: 90.909 by its entry, and 60.606 once 30 of margin are added."""
    prices = []
    script = {
        1: buy(),
        2: lambda s: (prices.append(s.broker.liquidation_price(s.data)), s.broker.add_margin(s.data, 30)),
        3: lambda s: prices.append(s.broker.liquidation_price(s.data)),
    }
    play(script, frame([STILL] * 4))
    assert prices == pytest.approx([90 / 0.99, 60 / 0.99])


def test_the_strategy_finds_its_position_gone_in_the_bar_that_took_it():
    """TorchTrade#310: the bar was checked after the policy had acted on it. What ``next`` of the fatal bar sees is flat and poorer."""
    seen = []
    script = {1: buy(), 3: lambda s: seen.append((s.position.size, s.broker.getvalue(), s.broker.getcash(), len(s.events)))}
    play(script, frame([CALM, CALM, (100, 101, 80, 100), CALM]))
    left = 990 + LONG_DIES - 90
    assert seen == [(0, pytest.approx(left), pytest.approx(left), 1)]


class Listener(Script):
    """Keeps the trades as well."""

    def __init__(self):
        super().__init__()
        self.trades = []

    def notify_trade(self, trade):
        self.trades.append((trade.isclosed, trade.size, trade.pnl, trade.pnlcomm))


def listen(script, candles, **broker_args):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(**{"cash": 1_000, "margin_mode": "isolated", "check": True, **broker_args})
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=10, tiers=0.01, liquidation_fee=0.002))
    cerebro.adddata(PerpData(dataname=candles, name="AAA"))
    cerebro.addstrategy(Listener, script=script)
    cerebro.addanalyzer(bt.analyzers.TradeAnalyzer, _name="trades")
    return cerebro.run()[0]


def test_a_forced_close_is_told_as_an_order_a_trade_and_an_event():
    """akfamily/akquant#254: no callback. Short 1 from 100, dead at 108.911: -8.911, and 0.2 % of 108.911 in fees, on each of them."""
    strategy = listen({1: sell()}, frame([STILL, STILL, (100, 120, 100, 100)]))
    loss, fee = 100 - SHORT_DIES, 0.002 * SHORT_DIES
    status, size, price, comm, info = list(strategy.orders.values())[-1]
    assert (status, size, info["liquidation"]) == ("Completed", 1, True)
    assert (price, comm) == pytest.approx((SHORT_DIES, fee))
    assert strategy.trades[-1] == (True, 0, pytest.approx(loss), pytest.approx(loss - fee))
    assert [event["kind"] for event in strategy.events] == ["liquidation"]
    assert strategy.analyzers.trades.get_analysis().total.closed == 1


def test_a_short_held_over_nights_at_a_still_price_is_left_alone():
    """akfamily/akquant#254: shorts were closed after a night, and all their notional went with them. Three days at 100 cost nothing."""
    strategy = play({1: sell(size=50)}, frame([STILL] * 72), **CROSS)
    assert (liquidations(strategy), strategy.position.size, strategy.broker.equity) == ([], -50, 1_000)


@pytest.mark.parametrize("name", sorted(PROFILES))
@pytest.mark.parametrize("margin_mode", ["isolated", "cross"])
def test_every_way_to_liquidate_runs_to_the_end_of_the_data(name, margin_mode):
    """Robot-Wealth/rsims#20: the branch held a name that did not exist, and nobody had run it. Two contracts that halve in three bars.

    30 of each at 100 with 1 000: after the second fall, at the latest, nothing of 6 000 can be carried; the last bar is reached.
    """
    fall = frame([STILL, STILL, (100, 100, 80, 80), (80, 80, 60, 60), (60, 60, 50, 50)])
    strategy = play(
        pair(30, 30), fall, fall, terms={"profile": name, "liquidation_fee": 0.01, "commission": 0.0005}, margin_mode=margin_mode
    )
    assert len(strategy) == 5
    assert {row.symbol for row in liquidations(strategy)} == {"AAA", "BBB"}
    assert strategy.broker.equity >= 0
    assert all(row.size > 0 and row.price > 0 for row in liquidations(strategy))


# -- after the end -------------------------------------------------------------------------------------------------------


def test_an_account_that_has_lost_everything_opens_nothing_and_its_result_has_no_number_that_is_none():
    """enarjord/passivbot#606: a depleted wallet went on into the risk metrics. 100 long at 100 gap to 50: all 1 000 are gone.

    Whatever is bought later is refused with 0 available, the total return is -1 and the drawdown 1.
    """
    script = {1: buy(size=100), 4: buy(), 6: sell()}
    strategy = play(script, frame([STILL, STILL, at(50), at(50), at(60), at(70), at(80), at(90)]), **CROSS)
    summary = Result.of(strategy).summary
    assert strategy.broker.equity == 0
    assert [status for status, *_ in strategy.orders.values()] == ["Completed", "Completed", "Margin", "Margin"]
    assert (summary["total_return"], summary["max_drawdown"], summary["final_equity"]) == (-1, 1, 0)
    assert all(value is None or value == value for value in summary.values())
    assert '"final_equity": 0' in Result.of(strategy).to_json()


def test_a_run_goes_on_after_a_wipe_out_with_what_is_left():
    """kernc/backtesting.py#938: the run ended at the first wipe-out. The second long is opened from the 990.909 that are left.

    It is bought at 100, and sold at 110 by the script: 10 more.
    """
    script = {1: buy(), 3: buy(), 5: close}
    strategy = play(script, frame([CALM, CALM, (100, 101, 80, 100), STILL, at(110), at(110)]))
    assert len(liquidations(strategy)) == 1
    assert strategy.broker.equity == pytest.approx(1_000 - 100 + LONG_DIES + 10)


def test_a_run_can_be_told_to_stop_at_its_first_liquidation():
    """kernc/backtesting.py#938, Drakkar-Software/OctoBot#2909: the other wish. Bar 3 kills, the strategy sees it, bar 4 never comes."""
    strategy = play({1: buy(), 4: buy()}, frame([CALM, CALM, (100, 101, 80, 100), CALM, CALM]), on_liquidation="stop")
    assert (len(strategy), [event["kind"] for event in strategy.events]) == (3, ["liquidation"])


def test_buying_more_all_the_way_down_makes_no_fortune_of_a_dead_account():
    """Drakkar-Software/OctoBot#2909: huge profits that nobody could have made. 20 are bought at each of 100, 95, 90 and 85.

    At 85 the 60 held are worth 400 with the rest and take 510, so the last purchase is refused. They cost 95 on average and die
    where 400 + 60 (p - 85) = 0.6 p, at 4 700 / 59.4 = 79.125, which leaves 47.47. Alive, 60 would have earned 3 300 at 150.
    """
    bars = [STILL, STILL, at(95), at(90), at(85), (85, 85, 60, 60), at(150), at(150)]
    strategy = play({n: buy(size=20) for n in (1, 2, 3, 4)}, frame(bars), **CROSS)
    assert [status for status, *_ in strategy.orders.values()] == [*["Completed"] * 3, "Margin", "Completed"]
    assert list(strategy.broker.record.column("equity"))[-3:] == pytest.approx([0.6 * 4_700 / 59.4] * 3)


# -- demand --------------------------------------------------------------------------------------------------------------


def test_bars_alone_are_enough_to_liquidate():
    """nautilus#3788, PR#4077 and #57: the engine there is waits for quotes, and left 9 964 of 10 000 with 9x and a halved price.

    90 long at 1 000 with 10 000 cross gap to 500: 45 000 are lost, 10 000 are there, the fund pays 35 000.
    """
    strategy = play({1: buy(size=90)}, frame([at(1_000), at(1_000), at(500)]), cash=10_000, **CROSS)
    (row,) = liquidations(strategy)
    assert (row.from_insurance_fund, strategy.broker.equity, strategy.position.size) == (
        pytest.approx(35_000),
        pytest.approx(0, abs=1e-9),
        0,
    )


def test_funding_that_drains_a_position_liquidates_it():
    """nautilus#3788: equity is all that happened to the wallet. Long 1 with 10 behind, 5 % of 100 at each of two stamps: 0 is left."""
    bars = frame([STILL] * 5, start="2024-01-01 06:00")
    strategy = play({1: buy()}, bars, funding=rate_column(d0108=0.05, d0109=0.05))
    (row,) = liquidations(strategy)
    assert (row.trigger, row.mark_price) == ("funding", 100)
    assert strategy.broker.equity == 990


# -- what follows a wipe-out ---------------------------------------------------------------------------------------------

FORFEIT = {"profile": "forfeit"}


def test_a_refill_after_a_wipe_out_is_counted_and_is_no_return():
    """kernc/backtesting.py#938: he wants on. 10 long with 101 cross die on the way to 80 and forfeit all; 500 are paid in and stay."""
    bars = frame([CALM, CALM, (100, 100, 80, 80), *[at(80)] * 3])
    strategy = play({1: buy(size=10)}, bars, terms=FORFEIT, cash=101, on_liquidation="refill", refill=500, **CROSS)
    summary = Result.of(strategy).summary
    assert (summary["liquidations"], summary["refills"], summary["refilled"], summary["final_equity"]) == (1, 1, 500, 500)
    assert summary["total_return"] == pytest.approx(-1)


def test_a_dead_account_can_be_refilled_and_the_result_says_how_often_and_with_how_much():
    """Drakkar-Software/OctoBot#2909: he wants to choose. 10 long die twice, at 101 and at the 101 that a refill brings it back to."""
    fall, rise = (100, 100, 80, 80), (80, 100, 80, 100)
    bars = frame([CALM, CALM, fall, rise, CALM, CALM, fall, at(80), at(80)])
    script = {1: buy(size=10), 5: buy(size=10)}
    told = {}
    for choice in ({}, {"on_liquidation": "stop"}, {"on_liquidation": "refill", "refill": 101}):
        summary = Result.of(play(script, bars, terms=FORFEIT, cash=101, **CROSS, **choice)).summary
        told[choice.get("on_liquidation")] = (summary["liquidations"], summary["refills"], summary["refilled"], summary["died"] is not None)
    assert told == {None: (1, 0, 0, True), "stop": (1, 0, 0, True), "refill": (2, 2, 202, False)}
