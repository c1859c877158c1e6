"""``run`` and ``plug``: a venue's rules in one call, stock Backtrader's claim beside them, and clear words for wrong use."""

import math

import backtrader as bt
import pandas as pd
import pytest
from playing import CALM, frame

from bt_margin import MarginBroker, PerpData
from bt_margin.backtest import run
from bt_margin.plugging import plug
from bt_margin.result import Result

CRASH = [CALM, CALM, (100, 100, 40, 45), (45, 120, 45, 120), (120, 120, 120, 120)]
TAKER = 0.0004  # of Binance before 2024-04-28
SYMBOLS = ("BTCUSDT", "ETHUSDT")


class Holder(bt.Strategy):
    """Buys once, on the first bar, whatever its sizer says."""

    params = (("patience", 0),)

    def next(self):
        if len(self) == 1 + self.p.patience:
            self.buy()


class Rooter(Holder):
    """Takes the root of the account's value on every bar."""

    def next(self):
        super().next()
        math.sqrt(self.broker.getvalue())


def cerebro_with(*names: str, candles: pd.DataFrame | None = None) -> bt.Cerebro:
    cerebro = bt.Cerebro(stdstats=False)
    for name in names:
        cerebro.adddata(PerpData(dataname=frame([CALM] * 4) if candles is None else candles, name=name))
    cerebro.addstrategy(Holder)
    return cerebro


# -- what comes out --------------------------------------------------------------------------------------------------


def test_run_is_plug_and_a_cerebro():
    cerebro = cerebro_with("BTCUSDT", candles=frame(CRASH))
    cerebro.addsizer(bt.sizers.FixedSize, stake=2)
    broker = plug(cerebro, leverage=20, margin_mode="isolated", cash=5_000, intrabar="close")
    by_hand = Result.of(cerebro.run()[0])

    result = run(Holder, {"BTCUSDT": frame(CRASH)}, leverage=20, margin_mode="isolated", cash=5_000, sizer=2, intrabar="close")

    assert cerebro.broker is broker
    assert result.summary == by_hand.summary
    assert result.equity.equals(by_hand.equity)
    assert result.settings == by_hand.settings


def test_a_liquidation_under_binance_rules_can_be_redone_by_hand():
    result = run(Holder, {"BTCUSDT": frame(CRASH)}, leverage=10, margin_mode="isolated", cash=1_000)
    price = 90 / (1 - 0.004)  # first tier of BTCUSDT: 0.4 %
    left = 10 - (100 - price)  # of the margin, and less than the fee of 1.25 % x 90.36, so that no sale could help
    (row,) = result.liquidations.to_dict("records")
    assert (row["mark_price"], row["price"]) == (pytest.approx(price), pytest.approx(90))
    assert row["to_insurance_fund"] == pytest.approx(left)
    assert result.summary["final_equity"] == pytest.approx(1_000 - 100 * TAKER - 10)


def test_a_path_a_frame_and_a_feed_are_the_same_data(tmp_path):
    candles = frame(CRASH)
    candles.rename_axis("datetime").to_csv(tmp_path / "btc.csv")
    sources = [candles, tmp_path / "btc.csv", str(tmp_path / "btc.csv"), PerpData(dataname=candles, name="anything")]
    results = [run(Holder, {"BTCUSDT": source}) for source in sources]
    assert all(result.equity.equals(results[0].equity) for result in results)


def test_params_reach_the_strategy_and_a_sizer_has_three_forms():
    for sizer in (3, (bt.sizers.FixedSize, {"stake": 3}), type("Three", (bt.sizers.FixedSize,), {"params": (("stake", 3),)})):
        result = run(Holder, {"BTCUSDT": frame([CALM] * 5)}, params={"patience": 2}, sizer=sizer)
        assert list(result.fills["size"]) == [3]
        assert list(result.fills["time"]) == [result.equity.index[3]]
        assert result.settings["params"] == {"patience": 2}


def test_leverage_and_mode_may_differ_by_symbol():
    data = dict.fromkeys(SYMBOLS, frame([CALM] * 3))
    result = run(Holder, data, leverage={"BTCUSDT": 5, "ETHUSDT": 20}, margin_mode={"BTCUSDT": "cross", "ETHUSDT": "isolated"})
    assert result.settings["leverage"] == {"BTCUSDT": 5, "ETHUSDT": 20}
    assert result.settings["margin_mode"] == {"BTCUSDT": "cross", "ETHUSDT": "isolated"}
    assert list(result.equity["initial_margin"])[-1] == 100 / 5


def test_the_generic_venue_has_no_fees_and_says_that_its_tiers_are_nobodys():
    result = run(Holder, {"ANYTHING": frame([CALM] * 4)}, venue=None)
    assert result.summary["fees"] == 0.0
    assert "generic tiers (flat 0.5 %): ANYTHING" in result.summary["flags"]
    assert result.settings["venue"] == "generic"
    assert result.settings["profile"] == "generic"


def test_funding_and_mark_may_be_given_apart():
    candles, marks = frame([CALM] * 10), frame([(90, 90, 90, 90)] * 10)
    result = run(Holder, {"BTCUSDT": candles}, funding=0.001, mark=marks)
    assert list(result.funding["amount"]) == [-90 * 0.001]
    assert result.summary["flags"][0] == "constant funding of 0.001 per 8 h: BTCUSDT"
    rates = {"BTCUSDT": 0.001, "ETHUSDT": None}
    by_symbol = run(Holder, dict.fromkeys(SYMBOLS, candles), funding=rates, mark=dict.fromkeys(SYMBOLS, marks))
    assert by_symbol.summary["flags"][:2] == ["constant funding of 0.001 per 8 h: BTCUSDT", "no funding: ETHUSDT"]


@pytest.mark.parametrize(
    ("start", "flag"),
    [
        ("2020-01-01", "tiers as of 2021-03-18: BTCUSDT, the first known, also before that day (from 2020-01-01)"),
        ("2022-03-01", "tiers as of 2022-02-16: BTCUSDT"),
        ("2022-05-20", "tiers as of 2022-02-16 to 2022-05-21 (2 tables): BTCUSDT"),
    ],
)
def test_dated_tiers_are_said_by_their_dates(start, flag):
    result = run(Holder, {"BTCUSDT": frame([CALM] * 30, start=start)})
    assert [line for line in result.summary["flags"] if line.startswith("tiers as of")] == [flag]


# -- the baseline ----------------------------------------------------------------------------------------------------


def test_without_a_baseline_there_is_none():
    assert run(Holder, {"BTCUSDT": frame([CALM] * 3)}).baseline is None


def test_the_baseline_is_what_stock_backtrader_says_below_zero_too():
    result = run(Holder, {"BTCUSDT": frame(CRASH)}, leverage=10, cash=1_000, sizer=50, baseline=True)
    bought = 1_000 - 50 * 100 * TAKER
    closes = [100, 100, 45, 120, 120]
    assert list(result.baseline) == pytest.approx([1_000] + [bought + 50 * (close - 100) for close in closes[1:]])
    assert result.baseline.min() < 0 <= result.equity["lowest_equity"].min()
    assert result.baseline.index.equals(result.equity.index)
    assert result.summary["final_equity"] == 0.0


def test_the_baseline_uses_the_same_sizer_and_leverage():
    fits = run(Holder, {"BTCUSDT": frame([CALM] * 3)}, leverage=10, cash=1_000, sizer=90, baseline=True)
    too_much = run(Holder, {"BTCUSDT": frame([CALM] * 3)}, leverage=10, cash=1_000, sizer=110, baseline=True)
    assert fits.baseline.iloc[-1] == pytest.approx(1_000 - 90 * 100 * TAKER)
    assert too_much.baseline.iloc[-1] == 1_000


def test_a_baseline_that_dies_of_its_own_money_says_so_and_the_run_goes_on():
    result = run(Rooter, {"BTCUSDT": frame(CRASH)}, leverage=10, cash=1_000, sizer=50, baseline=True)
    assert result.summary["flags"][-1] == "the stock baseline ended 2024-01-01T03:00:00Z: ValueError: math domain error"
    assert len(result.baseline) == 2
    assert len(result.equity) == len(CRASH)


def test_a_broken_strategy_is_not_blamed_on_the_baseline():
    class Broken(Holder):
        def next(self):
            raise KeyError("typo")

    with pytest.raises(KeyError, match="typo"):
        run(Broken, {"BTCUSDT": frame([CALM] * 3)}, baseline=True)


# -- plug ------------------------------------------------------------------------------------------------------------


def test_plug_keeps_what_the_old_broker_was_given():
    cerebro = cerebro_with("BTCUSDT")
    cerebro.broker.setcash(777)
    cerebro.broker.set_slippage_fixed(0.5)
    cerebro.broker.set_coc(True)
    broker = plug(cerebro)
    assert (broker.getcash(), broker.p.slip_fixed, broker.p.coc) == (777, 0.5, True)
    assert plug(cerebro, cash=50, slip_fixed=0.0).getcash() == 50
    assert cerebro.broker.p.slip_fixed == 0.0
    cerebro.broker = MarginBroker(cash=888, intrabar="close", check=True)
    again = plug(cerebro)
    assert (again.getcash(), again.p.intrabar, again.p.check) == (888, "close", True)


def test_plug_hands_the_venues_terms_over():
    cerebro = cerebro_with("BTC/USDT:USDT", "DOGEUSDT")
    broker = plug(cerebro, leverage=7, on_liquidation="stop", check=True)
    bitcoin, doge = (broker.getcommissioninfo(data).p for data in cerebro.datas)
    assert (bitcoin.commission, bitcoin.maker, bitcoin.lot, bitcoin.leverage, bitcoin.profile) == (TAKER, 0.0002, 0.001, 7, "binance")
    assert doge.lot == 1
    assert (broker.p.on_liquidation, broker.p.check, broker.p.margin_mode) == ("stop", True, "cross")


def test_a_resampled_copy_belongs_to_its_symbol():
    cerebro = cerebro_with("BTCUSDT")
    cerebro.resampledata(cerebro.datas[0], timeframe=bt.TimeFrame.Minutes, compression=120)
    broker = plug(cerebro)
    assert broker.getcommissioninfo(cerebro.datas[1]).p.lot == 0.001
    (strategy,) = cerebro.run()
    assert Result.of(strategy).symbols == ["BTCUSDT"]


def test_plug_serves_feeds_of_other_kinds_when_they_have_a_name():
    cerebro = bt.Cerebro(stdstats=False)
    feed = bt.feeds.PandasData(dataname=frame([CALM] * 4), timeframe=bt.TimeFrame.Minutes, compression=60)
    cerebro.adddata(feed, name="ETHUSDT")
    cerebro.addstrategy(Holder)
    assert isinstance(plug(cerebro, stamp="open"), MarginBroker)
    assert Result.of(cerebro.run()[0]).summary["fees"] == pytest.approx(-100 * TAKER)


def test_leverage_is_judged_by_the_tiers_in_force_when_the_data_begins():
    young = cerebro_with("BTCUSDT", candles=frame([CALM] * 3, start="2025-10-10"))
    assert plug(young, leverage=150).getcommissioninfo(young.datas[0]).p.leverage == 150
    old = cerebro_with("BTCUSDT", candles=frame([CALM] * 3, start="2024-01-01"))
    with pytest.raises(ValueError, match="BTCUSDT: leverage 150 is not possible, the first tier allows 125"):
        plug(old, leverage=150)


# -- wrong use -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"leverage": 126}, "BTCUSDT: leverage 126 is not possible, the first tier allows 125"),
        ({"leverage": 0}, "BTCUSDT: leverage is a finite number of 1 or more, was 0"),
        ({"leverage": "20"}, "BTCUSDT: leverage is a number of 1 or more, was '20'"),
        ({"leverage": {"ETHUSDT": 5}}, "leverage says nothing of BTCUSDT"),
        ({"margin_mode": {"BTCUSDT": "cross", "ETHUSDT": "cross"}}, "margin_mode names ETHUSDT, but the datas are BTCUSDT"),
        ({"margin_mode": "both"}, "BTCUSDT: margin_mode is 'cross' or 'isolated', was 'both'"),
        ({"venue": "nowhere"}, "no venue is called 'nowhere'; known: binance, "),
        ({"data": {"NOCOIN": frame([CALM] * 3)}}, "binance has no tiers for NOCOIN here"),
        ({"data": {}}, "data maps each symbol to its candles, such as .*, was empty"),
        ({"data": frame([CALM] * 3)}, "data maps each symbol to its candles, .*was a DataFrame"),
        ({"data": {"BTCUSDT": "none.csv"}}, "'none.csv' does not exist"),
        ({"strategy": "SmaCross"}, "strategy is a class derived from backtrader.Strategy, was 'SmaCross'"),
        ({"params": {"speed": 1}}, "Holder has no parameter speed; it has patience"),
        ({"sizer": -1}, "sizer is a class derived from backtrader.Sizer"),
        ({"sizer": bt.Strategy}, "sizer is a class derived from backtrader.Sizer"),
        ({"intrabar": "worse"}, "intrabar is one of 'adverse'"),
        ({"cash": -5}, "cash is a positive amount of money, was -5"),
        ({"funding": {"ETHUSDT": 0.0001}}, "funding says nothing of BTCUSDT"),
    ],
)
def test_wrong_use_is_told_in_one_sentence(changed, sentence):
    arguments = {"strategy": Holder, "data": {"BTCUSDT": frame([CALM] * 3)}, "baseline": True, **changed}
    with pytest.raises(ValueError, match=sentence) as caught:
        run(**arguments)
    assert "\n" not in str(caught.value)


def test_one_funding_series_for_two_contracts_is_refused():
    rates = pd.Series({pd.Timestamp("2024-01-01 08:00", tz="UTC"): 0.0001})
    with pytest.raises(ValueError, match="funding is one contract's, but there are BTCUSDT, ETHUSDT; give a mapping by symbol"):
        run(Holder, dict.fromkeys(SYMBOLS, frame([CALM] * 3)), funding=rates)


def test_a_feed_that_is_made_already_takes_no_second_funding():
    feed = PerpData(dataname=frame([CALM] * 3), name="BTCUSDT", funding=0.0001)
    with pytest.raises(ValueError, match="BTCUSDT: its PerpData has mark, funding and detail of its own"):
        run(Holder, {"BTCUSDT": feed}, funding=0.0002)


def test_plug_needs_datas_and_names():
    with pytest.raises(ValueError, match=r"call adddata\(\) before plug\(\)"):
        plug(bt.Cerebro())
    cerebro = bt.Cerebro()
    cerebro.adddata(bt.feeds.PandasData(dataname=frame([CALM] * 3)))
    with pytest.raises(ValueError, match="data number 1 has no name"):
        plug(cerebro)


# -- progress --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("baseline", "runs"), [(False, 1), (True, 2)])
def test_progress_rises_from_bar_to_bar_to_the_whole(baseline, runs):
    shares = []
    run(Holder, {"BTCUSDT": frame([CALM] * 5)}, baseline=baseline, progress=shares.append)
    assert shares == pytest.approx([bar / 4 / runs + done / runs for done in range(runs) for bar in range(5)])


def test_progress_of_a_long_run_is_told_some_thousand_times():
    shares = []
    run(Holder, {"BTCUSDT": frame([CALM] * 4_001)}, progress=shares.append)
    assert 1_000 <= len(shares) <= 1_002
    assert shares[-1] == 1


def test_a_progress_that_says_false_ends_the_run_with_what_was_done():
    result = run(Holder, {"BTCUSDT": frame([CALM] * 5)}, baseline=True, progress=lambda share: share < 0.25)
    assert result.summary["bars"] == 3
    assert result.baseline is None
    assert "ended 2024-01-01T04:00:00Z, before the data does, 2024-01-01T06:00:00Z" in result.summary["flags"]


def test_a_whole_run_says_nothing_of_an_early_end():
    assert not [flag for flag in run(Holder, {"BTCUSDT": frame([CALM] * 5)}).summary["flags"] if flag.startswith("ended")]


class Targeter(bt.Strategy):
    """Goes for half of the account's equity once."""

    def next(self):
        if not self.position:
            self.order_target_percent(target=0.5)


def test_a_baseline_of_other_sizes_says_so():
    odd = run(Targeter, {"BTCUSDT": frame([CALM] * 5)}, leverage=5, cash=1_000, baseline=True)
    (flag,) = [flag for flag in odd.summary["flags"] if "other sizes" in flag]
    assert flag.startswith("the stock baseline is of other sizes, 25 BTCUSDT first where the account has 5: stock Backtrader multiplies")
    even = run(Holder, {"BTCUSDT": frame([CALM] * 5)}, leverage=5, cash=1_000, baseline=True)
    assert [flag for flag in even.summary["flags"] if "other sizes" in flag] == []
