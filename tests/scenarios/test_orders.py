"""How orders share margin, and what a strategy may move while it runs; numbers by hand as in ``playing``."""

import re

import backtrader as bt
import pandas as pd
import pytest
from playing import CALM, Script, buy, close, frame, play, rate_column, sell

from bt_margin import FundingSchedule, MarginBroker, PerpCommInfo, PerpData, TierSchedule, TierTable
from bt_margin.core.orders import OrderTerms

STILL = (100, 100, 100, 100)


def statuses(strategy) -> list[str]:
    return [status for status, *_ in strategy.orders.values()]


def together(*actions):
    def act(strategy):
        for action in actions:
            action(strategy)

    return act


# -- margin shared by orders -------------------------------------------------------------------------------------------


def test_margin_lent_by_a_closing_market_order_does_not_starve_the_orders_before_it():
    """1 000 at 10x, 90 of BBB held (900): AAA 9 takes 90, closing BBB frees 900, CCC 80 takes 800."""
    script = {
        1: lambda s: s.buy(s.datas[1], size=90),
        2: lambda s: (s.buy(s.datas[0], size=9), s.close(s.datas[1]), s.buy(s.datas[2], size=80)),
    }
    strategy = play(script, *(frame([STILL] * 4) for _ in range(3)), margin_mode="cross")
    assert statuses(strategy) == ["Completed"] * 4


def test_members_of_an_oco_group_share_their_reservation_when_judged_and_when_filled():
    def straddle(strategy):
        first = strategy.buy(size=60, exectype=bt.Order.Stop, price=102)
        strategy.sell(size=60, exectype=bt.Order.Stop, price=98, oco=first)

    strategy = play({1: straddle}, frame([STILL, STILL, (100, 103, 100, 102)]), margin_mode="cross")
    assert statuses(strategy) == ["Completed", "Canceled"]
    assert strategy.cash[1] == 1_000 - 60 * 102 / 10
    assert strategy.position.size == 60


def test_orders_of_one_batch_are_counted_once_against_the_tiers():
    tiers = [(250, 0.01, 50), (None, 0.02, 5)]
    strategy = play({1: together(buy(), buy(), buy())}, frame([STILL] * 3), terms={"tiers": tiers}, margin_mode="cross")
    assert statuses(strategy) == ["Completed", "Completed", "Margin"]
    info = list(strategy.orders.values())[2][4]
    assert info["max_size"] == pytest.approx(0.5)


def test_two_exits_of_one_position_need_no_margin():
    exits = together(sell(size=50, exectype=bt.Order.Stop, price=95), sell(size=50, exectype=bt.Order.Limit, price=105))
    strategy = play({1: buy(size=50), 2: exits}, frame([STILL] * 4), margin_mode="cross")
    assert statuses(strategy) == ["Completed", "Accepted", "Accepted"]
    assert strategy.cash[-1] == 500


def test_a_reversal_that_is_not_funded_closes_and_is_refused_the_rest():
    strategy = play({1: buy(size=10), 2: sell(size=500)}, frame([STILL] * 4), margin_mode="cross")
    status, size, _, _, info = list(strategy.orders.values())[1]
    assert (status, size) == ("Margin", -10)
    assert (info["needed"], info["available"], info["max_size"]) == (490 * 100 / 10, 1_000, 100)
    assert strategy.position.size == 0


def test_max_size_is_the_size_that_is_just_accepted():
    sizes = []

    def most(strategy):
        sizes.append(strategy.broker.max_size(strategy.data, isbuy=True))
        strategy.buy(size=sizes[0])

    strategy = play({1: most}, frame([STILL] * 3), terms={"commission": 0.0007, "leverage": 7}, margin_mode="cross")
    assert statuses(strategy) == ["Completed"]
    assert sizes[0] == pytest.approx(1_000 / (100 / 7 + 0.07))


def test_max_size_counts_what_a_reversal_closes_first():
    strategy = play({1: buy(size=50)}, frame([STILL] * 3), margin_mode="cross")
    broker, data = strategy.broker, strategy.data
    assert broker.max_size(data, isbuy=False) == 50 + 100
    assert broker.max_size(data, isbuy=True) == 50


def test_max_size_counts_resting_orders_against_the_tiers_as_a_refusal_does():
    sizes = []

    def most(strategy):
        sizes.append(strategy.broker.max_size(strategy.data, isbuy=True))
        strategy.buy(size=1.5)
        strategy.buy(size=sizes[0])

    terms = {"tiers": [(500, 0.01, 20)]}
    script = {1: buy(size=4, exectype=bt.Order.Limit, price=90), 3: most}
    strategy = play(script, frame([STILL] * 5), terms=terms, margin_mode="cross")
    assert sizes == [1]
    assert statuses(strategy) == ["Accepted", "Margin", "Completed"]
    assert list(strategy.orders.values())[1][4]["max_size"] == 1
    assert strategy.broker.max_size(strategy.data, isbuy=False) == 1 + 5


def test_max_size_of_an_idle_contract_is_by_the_table_of_its_bar():
    since = pd.Timestamp("2024-01-01 03:00", tz="UTC").timestamp()
    tables = (TierTable.from_rows([(50_000, 0.01, 20)]), TierTable.from_rows([(500, 0.01, 20)]))
    sizes = []

    def most(strategy):
        sizes.append(strategy.broker.max_size(strategy.data, isbuy=True))
        if sizes[-1] == 5:
            strategy.buy(size=5)

    # bars open at 01:00, 02:00, ...: the third is the first of the second table
    script = dict.fromkeys((1, 2, 3), most)
    terms = {"tiers": TierSchedule((float("-inf"), since), tables)}
    strategy = play(script, frame([STILL] * 5), terms=terms, margin_mode="cross")
    assert sizes == [100, 100, 5]
    assert statuses(strategy) == ["Completed"]


@pytest.mark.parametrize("price", [100.0, 37.3, 61_234.5])
@pytest.mark.parametrize("lot", [0.0, 0.001])
@pytest.mark.parametrize("terms", [{}, {"kind": "inverse", "currency": "X"}, {"fee_in_margin": "bankruptcy"}])
def test_a_reversal_of_max_size_is_filled_whole(price, lot, terms):
    def reverse(strategy):
        strategy.sell(size=strategy.broker.max_size(strategy.data, isbuy=False))

    def most(strategy):
        strategy.buy(size=strategy.broker.max_size(strategy.data, isbuy=True) / 3)

    for leverage in (1, 3, 7):
        own = {"tiers": 0.005, "commission": 0.0005, "lot": lot, "leverage": leverage, **terms}
        strategy = play({1: most, 3: reverse}, frame([(price,) * 4] * 6), terms=own, margin_mode="cross")
        assert statuses(strategy) == ["Completed", "Completed"]
        assert strategy.position.size < 0


@pytest.mark.parametrize("price", [float("nan"), -5, 0, float("inf"), "7", True])
def test_max_size_at_a_price_that_cannot_be_is_an_error_that_names_the_contract(price):
    ask = {1: lambda strategy: strategy.broker.max_size(strategy.data, isbuy=True, price=price)}
    with pytest.raises(ValueError, match=re.escape(f"AAA: max_size takes a price above 0, or none for the close, was {price!r}")):
        play(ask, frame([STILL] * 3))


def test_closing_very_many_lots_leaves_none():
    held = 20_971_524 * 0.1  # divided by the lot it is 20 971 523.999 999 996
    quiet = (0.1, 0.1, 0.1, 0.1)
    strategy = play({1: buy(size=held), 3: close}, frame([quiet] * 6), terms={"lot": 0.1}, cash=1e7)
    assert [row.size for row in strategy.broker.record.fills] == [held, -held]
    assert strategy.position.size == 0


def test_a_cancelled_order_frees_its_margin_at_once():
    seen = []

    def cancel(strategy):
        strategy.cancel(strategy.broker.pending[0])
        seen.append(strategy.broker.getcash())

    play({1: buy(size=10, exectype=bt.Order.Limit, price=90), 2: cancel}, frame([STILL] * 3))
    assert seen == [1_000]


def test_an_order_that_has_expired_reserves_nothing_while_others_are_judged():
    script = {1: buy(size=90, exectype=bt.Order.Limit, price=100, valid=pd.Timestamp("2024-01-01 03:00").to_pydatetime())}
    bars = frame([(101, 102, 101, 101)] * 5)
    script[2] = buy(size=90, exectype=bt.Order.Limit, price=99)  # judged on the bar delivered at 04:00, when the first has expired
    assert statuses(play(script, bars, margin_mode="cross")) == ["Expired", "Accepted"]


def test_another_leverage_reserves_another_margin_for_resting_orders():
    script = {1: buy(size=10, exectype=bt.Order.Limit, price=90), 2: lambda s: s.broker.set_leverage(s.data, 5)}
    strategy = play(script, frame([STILL] * 4), margin_mode="cross")
    assert strategy.cash == [1_000, 910, 820, 820]


def test_a_stop_limit_never_fills_beyond_its_limit_however_far_it_slips():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000, check=True, slip_perc=0.01)
    cerebro.adddata(PerpData(dataname=frame([STILL, (100, 104, 100, 103)]), name="AAA"))
    cerebro.addstrategy(Script, script={1: buy(exectype=bt.Order.StopLimit, price=101, plimit=101.2)})
    assert cerebro.run()[0].broker.record.fills[0].price == 101.2


def test_a_volume_filler_fills_an_order_once_a_bar_also_where_the_bar_is_walked():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000, check=True, filler=bt.broker.fillers.FixedSize(size=1))
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=10, tiers=0.01, liquidation_fee=0.0), name="AAA")
    bars = frame([STILL, STILL, (100, 100, 85, 95), STILL])
    bars["volume"] = 10.0
    cerebro.adddata(PerpData(dataname=bars, name="AAA"))
    cerebro.addstrategy(Script, script={1: buy(size=3, exectype=bt.Order.Limit, price=105)})
    fills = cerebro.run()[0].broker.record.fills
    assert [fill.size for fill in fills] == [1, 1, 1]


# -- the account of a run ----------------------------------------------------------------------------------------------


def test_a_leverage_that_a_later_table_allows_is_refused_order_by_order_until_then():
    day = pd.Timestamp("2024-01-01 04:00", tz="UTC").timestamp()
    tables = TierTable.from_rows([(None, 0.01, 20)]), TierTable.from_rows([(None, 0.005, 100)])
    script = {1: buy(), 4: buy()}
    strategy = play(script, frame([STILL] * 6), terms={"tiers": TierSchedule((0.0, day), tables), "leverage": 50})
    assert statuses(strategy) == ["Margin", "Completed"]
    with pytest.raises(ValueError, match="AAA: leverage 101 is not possible"):
        play({}, frame([STILL] * 2), terms={"tiers": TierSchedule((0.0, day), tables), "leverage": 101})


def test_cash_set_as_a_strategy_starts_is_the_first_deposit():
    class Setter(Script):
        def start(self):
            self.broker.setcash(5_000)

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000, check=True)
    cerebro.adddata(PerpData(dataname=frame([STILL] * 3), name="AAA"))
    cerebro.addstrategy(Setter, script={1: buy()})
    strategy = cerebro.run()[0]
    assert strategy.broker.equity == 5_000
    assert [row.amount for row in strategy.broker.journal if row.kind == "deposit"] == [5_000, -5_000]


def test_cash_sent_before_a_run_opens_every_run_and_none_leaks_from_one_to_the_next():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000, check=True)
    cerebro.broker.add_cash(500)
    cerebro.adddata(PerpData(dataname=frame([STILL] * 3), name="AAA"))
    cerebro.addstrategy(Script, script={3: lambda s: s.broker.add_cash(70)})
    assert [cerebro.run()[0].broker.equity for _ in range(2)] == [1_500, 1_500]


def test_an_adjustment_below_zero_is_refused():
    def overdraw(strategy):
        with pytest.raises(ValueError, match="cash is what is available, 0 or more; it cannot be set to -1"):
            strategy.broker.cash -= 1_001

    assert play({1: overdraw}, frame([STILL] * 2)).broker.equity == 1_000


def test_fractions_that_sum_to_flat_close_the_trade():
    class Trades(Script):
        def notify_trade(self, trade):
            self.events.append({"closed": trade.isclosed})

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000, check=True)
    cerebro.adddata(PerpData(dataname=frame([STILL] * 5), name="AAA"))
    cerebro.addstrategy(Trades, script={1: buy(size=0.1), 2: buy(size=0.2), 3: sell(size=0.3)})
    strategy = cerebro.run()[0]
    assert [event["closed"] for event in strategy.events] == [False, True]
    assert strategy.position.size == 0


# -- funding and liquidation that took a review to get right -----------------------------------------------------------


def test_stamps_of_one_instant_are_one_event():
    """Long AAA and short BBB pay and receive the same 5 out of a wallet of 5: the account stands as before."""
    script = {1: lambda s: (s.buy(s.datas[0], size=1), s.sell(s.datas[1], size=1))}
    bars = [frame([STILL] * 5, start="2024-01-01 05:00") for _ in range(2)]
    strategy = play(script, *bars, funding=rate_column(d0108=0.2), margin_mode="cross", cash=21)
    assert [row.amount for row in strategy.broker.record.funding] == [-20, 20]
    assert strategy.broker.record.liquidations == []


def test_a_position_opened_inside_a_walked_bar_pays_the_stamps_after_it():
    # at the low 100 - 9 x 10.17 = 8.47 of equity face 7.63 of maintenance: only a stamp there could kill, and low first pays it at the high
    bars = frame([STILL, (100, 100, 84.83, 95), STILL], start="2024-01-01", freq="D")
    script = {1: buy(size=9, exectype=bt.Order.Limit, price=95)}
    funding = rate_column(d0216=0.001)
    strategy = play(script, bars, funding=funding, margin_mode="cross", cash=100, intrabar="favourable")
    (row,) = strategy.broker.record.funding
    assert row.size == 9
    assert strategy.broker.record.walked_bars == 1


@pytest.mark.parametrize(("stamp", "shift"), [("close", 1), ("open", 0)])
def test_a_stock_feed_pays_the_stamps_of_its_own_hours_only(stamp, shift):
    index = pd.date_range("2024-01-01 09:00", periods=10, freq="h")
    candles = frame([STILL] * 10).set_axis(index + pd.Timedelta(hours=shift))
    at = [pd.Timestamp(f"2024-01-01 {hour}:00", tz="UTC").timestamp() for hour in ("08", "16")]
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000, check=True, stamp=stamp)
    cerebro.broker.set_funding(FundingSchedule(tuple(at), (0.01, 0.01)), name="AAA")
    cerebro.adddata(bt.feeds.PandasData(dataname=candles, name="AAA"))
    cerebro.addstrategy(Script, script={2: buy(), 4: close, 6: buy()})  # held 11:00-13:00 and from 15:00 on
    rows = cerebro.run()[0].broker.record.funding
    assert [pd.Timestamp(row.time, unit="s").hour for row in rows] == [16]


def test_funding_without_a_word_on_stamps_is_a_warning():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000)
    cerebro.broker.set_funding(FundingSchedule((0.0,), (0.01,)))
    cerebro.adddata(bt.feeds.PandasData(dataname=frame([STILL] * 3).tz_localize(None), name="AAA"))
    with pytest.warns(UserWarning, match="AAA: funding is given but not what the feed's stamps mean"):
        cerebro.run()


def test_a_shared_deficit_is_lifted_loser_by_loser_and_never_into_profit():
    """Shorts of 1 and 1.2 from 100, wallet 100, gap to 250: losses 150 and 180, equity -230; 180 lifts BBB to 100, 50 AAA to 200."""
    script = {1: lambda s: (s.sell(s.datas[0], size=1), s.sell(s.datas[1], size=1.2))}
    gap = (250, 250, 250, 250)
    strategy = play(script, frame([CALM, STILL, gap]), frame([CALM, STILL, gap]), margin_mode="cross", cash=100)
    rows = {row.symbol: row for row in strategy.broker.record.liquidations}
    assert rows["BBB"].price == pytest.approx(100)
    assert rows["AAA"].price == pytest.approx(200)
    assert rows["AAA"].from_insurance_fund + rows["BBB"].from_insurance_fund == pytest.approx(230)
    assert strategy.broker.equity == 0


def test_a_long_with_an_order_and_no_funding_is_not_walked_without_danger():
    script = {1: together(buy(), sell(exectype=bt.Order.Limit, price=150))}
    assert play(script, frame([STILL] * 8)).broker.record.walked_bars == 0


def test_a_bar_without_a_usable_price_is_an_error_that_names_it():
    candles = frame([STILL] * 4).tz_localize(None)
    candles.iloc[2, candles.columns.get_loc("close")] = float("nan")
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000)
    cerebro.adddata(bt.feeds.PandasData(dataname=candles, name="AAA"))
    cerebro.addstrategy(Script, script={1: buy()})
    with pytest.raises(ValueError, match="AAA: the bar at 2024-01-01 03:00 UTC has no usable price"):
        cerebro.run()


def test_the_exits_of_a_rejected_entry_say_why_they_are_rejected():
    def bracket(strategy):
        strategy.buy_bracket(size=0.04, exectype=bt.Order.Market, stopprice=90, limitprice=110)

    strategy = play({1: bracket}, frame([STILL] * 3), terms={"lot": 0.1})
    assert statuses(strategy) == ["Rejected"] * 3
    reasons = [info["message"] for *_, info in strategy.orders.values()]
    assert "no whole lot of 0.1" in reasons[0]
    assert all("reason" in info and "max_size" in info for *_, info in strategy.orders.values())


def test_a_deposit_after_everything_was_lost_is_no_profit_of_the_fund():
    script = {1: buy(size=10), 4: lambda s: s.broker.add_cash(500)}
    bars = frame([STILL, STILL, (100, 100, 60, 60), *[(60, 60, 60, 60)] * 3])
    strategy = play(script, bars, terms={"profile": "forfeit"}, margin_mode="cross", cash=101)
    assert strategy.broker.equity == 500
    assert strategy.broker.fundvalue == pytest.approx(100 * 1e-20, rel=1e-9, abs=0)  # its shares are worth SPECK of what they were
    assert strategy.broker.fundvalue * strategy.broker.fundshares == pytest.approx(500)


def test_an_order_left_by_the_filler_on_a_walked_bar_goes_on_filling_on_calm_ones():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=101, check=True, filler=bt.broker.fillers.FixedSize(size=3))
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=10, tiers=0.01, liquidation_fee=0.0), name="AAA")
    bars = frame([STILL, STILL, (100, 100, 90.5, 100), *[STILL] * 4])
    bars["volume"] = 10.0
    cerebro.adddata(PerpData(dataname=bars, name="AAA"))
    cerebro.addstrategy(Script, script={1: buy(), 2: buy(size=9)})
    broker = cerebro.run()[0].broker
    assert [fill.size for fill in broker.record.fills] == [1, 3, 3, 3]
    assert broker.record.walked_bars >= 1


def test_orders_that_a_liquidation_cancels_free_their_margin_for_the_fills_after_it():
    """AAA dies at 90.909 and takes its order for the session's close with it, whose 40 the limit of BBB then needs."""

    def act(strategy):
        strategy.buy(strategy.datas[0], size=4, exectype=bt.Order.Close)
        strategy.buy(strategy.datas[1], size=4, exectype=bt.Order.Limit, price=90)

    script = {1: lambda s: (s.buy(s.datas[0], size=1), s.buy(s.datas[1], size=1)), 2: act}
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=100, check=True)
    for name, mode, bars in (("AAA", "isolated", (100, 100, 80, 82)), ("BBB", "cross", (100, 100, 86, 88))):
        terms = PerpCommInfo(leverage=10, tiers=0.01, liquidation_fee=0.0, margin_mode=mode)
        cerebro.broker.addcommissioninfo(terms, name=name)
        cerebro.adddata(PerpData(dataname=frame([STILL, STILL, bars, (88, 88, 88, 88)]), name=name))
    cerebro.addstrategy(Script, script=script)
    broker = cerebro.run()[0].broker
    assert broker.equity == pytest.approx(100 - (100 - 90 / 0.99) - 12 - 4 * 2)


def test_openings_of_one_side_count_against_the_tiers_also_within_a_batch():
    limit = {"exectype": bt.Order.Limit, "price": 95}
    orders = together(buy(size=9, **limit), sell(size=9, exectype=bt.Order.Limit, price=105), buy(size=9, **limit))
    strategy = play({1: orders}, frame([STILL] * 3), terms={"tiers": [(1_000, 0.01, 50), (None, 0.02, 5)]}, margin_mode="cross")
    assert statuses(strategy) == ["Accepted", "Accepted", "Margin"]


def test_a_position_that_ends_inside_a_bar_shows_how_low_the_bar_took_it():
    bars = frame([STILL, STILL, (100, 121, 60, 118)])
    script = {1: buy(size=10), 2: sell(size=10, exectype=bt.Order.Limit, price=120)}
    strategy = play(script, bars, terms={"leverage": 1}, margin_mode="cross", cash=2_000)
    assert strategy.broker.record.column("lowest_equity")[-1] == 2_000 - 10 * 40
    assert strategy.broker.equity == 2_200


def test_a_resampled_copy_trades_on_the_terms_of_its_source():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000, check=True)
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=10, tiers=0.01, profile="forfeit"), name="AAA")
    data = PerpData(dataname=frame([STILL] * 9), name="AAA")
    cerebro.adddata(data)
    cerebro.resampledata(data, timeframe=bt.TimeFrame.Minutes, compression=240)
    cerebro.addstrategy(Script, script={1: buy()})
    broker = cerebro.run()[0].broker
    assert list(broker.slots) == ["AAA", "AAA#1"]
    assert broker.profile.name == "forfeit"


@pytest.mark.parametrize("stamp", ["open", "close"])
def test_the_times_of_a_stock_feed_follow_its_own_step(stamp):
    candles = frame([STILL] * 5).tz_localize(None)
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000, check=True, stamp=stamp)
    cerebro.adddata(bt.feeds.PandasData(dataname=candles, name="AAA"))
    cerebro.addstrategy(Script, script={})
    times = pd.to_datetime(list(cerebro.run()[0].broker.record.column("time")), unit="s")
    shift = pd.Timedelta(hours=1 if stamp == "open" else 0)
    assert list(times[1:]) == list(candles.index[1:] + shift)
    assert times[0] == candles.index[0]  # the length of the first bar is not known when it comes


def test_an_order_for_the_close_fills_once_a_bar_also_without_a_path():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=200, check=True, intrabar="close", filler=bt.broker.fillers.FixedSize(size=4))
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=10, tiers=0.01, liquidation_fee=0.0), name="AAA")
    bars = frame([STILL, STILL, (100, 100, 70, 95), *[(95, 95, 95, 95)] * 2], start="2024-01-01", freq="D")
    bars["volume"] = 10.0
    cerebro.adddata(PerpData(dataname=bars, name="AAA", stamp="close"))
    cerebro.addstrategy(Script, script={1: buy(size=8), 2: buy(size=9, exectype=bt.Order.Close)})
    broker = cerebro.run()[0].broker
    assert broker.record.walked_bars == 1
    assert [fill.size for fill in broker.record.fills] == [4, 4, 4, 4]  # two of the entry, two of the order for the close
    by_bar = [(fill.order_ref, fill.time) for fill in broker.record.fills]
    assert len(set(by_bar)) == len(by_bar)


def test_the_largest_reversal_is_found_where_offers_were_netted_with_bids():
    """Two stops of 20 at 107 and 93 take 186 of offers and 28 of bids while flat; beside a long, whose exit the offer is, 214 of bids.

    Of the 1 000 there are 786 left, for 78.6 at 100 with 10x, after the 10 that are short.
    """

    def rest(strategy):
        strategy.buy(size=20, exectype=bt.Order.Stop, price=107)
        strategy.sell(size=20, exectype=bt.Order.Stop, price=93)

    asked = []
    script = {1: sell(size=10), 3: rest, 4: lambda s: asked.append(s.broker.max_size(s.data, isbuy=True))}
    script[5] = lambda s: s.buy(size=asked[0])
    terms = {"order_terms": OrderTerms(netting="net_bids"), "tiers": 0}
    strategy = play(script, frame([(100,) * 4] * 7), margin_mode="cross", terms=terms)
    assert asked == [pytest.approx(10 + 786 / 10)]
    assert strategy.position.size == pytest.approx(78.6)
