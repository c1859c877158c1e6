"""A run under each venue's rules reckons as the calculator does with the same venue, symbol and day."""

import backtrader as bt
import pandas as pd
import pytest
from playing import Script, frame

from bt_margin import PerpData, plug, run, venues
from bt_margin.calculator import contract_sheet, evaluate

START = "2026-10-01 01:00"
LISTED = [
    ("binance", "BTCUSDT", 60_000),
    ("binance", "DOGEUSDT", 0.1),
    ("binance-coinm", "BTCUSD_PERP", 60_000),
    ("bybit", "BTCUSDT", 60_000),
    ("okx", "BTCUSDT", 60_000),
    ("okx", "ETHUSDT", 2_500),
    ("gate", "BTCUSDT", 60_000),
    ("bitget", "BTCUSDT", 60_000),
    ("hyperliquid", "BTC", 60_000),
    ("dydx", "BTC-USD", 60_000),
]


class Once(bt.Strategy):
    """Buys one after the first bar."""

    def next(self):
        if len(self) == 1:
            self.buy(size=1)


def flat(price, bars=5, *, start=START):
    return frame([(price, price, price, price)] * bars, start=start)


def held(venue, symbol, price, *, worth=0.2, margin_mode="isolated", leverage=10, start=START, **more):
    """Return the broker after a long of ``worth`` times the cash has been bought."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(PerpData(dataname=flat(price, start=start), name=symbol))
    broker = plug(cerebro, venue, leverage=leverage, margin_mode=margin_mode, check=True, **{"cash": 100_000, **more})
    cerebro.addstrategy(Script, script={1: lambda strategy: strategy.order_target_percent(target=worth)})
    strategy = cerebro.run()[0]
    assert strategy.position.size > 0
    return broker, strategy


@pytest.mark.parametrize("margin_mode", ["isolated", "cross"])
@pytest.mark.parametrize(("venue", "symbol", "price"), LISTED)
def test_a_run_says_what_the_calculator_says(venue, symbol, price, margin_mode):
    broker, strategy = held(venue, symbol, price, margin_mode=margin_mode, cash=2 if venue == "binance-coinm" else 100_000)
    position = broker.slot_of(strategy.data).position
    row = {"symbol": symbol, "size": position.size, "entry_price": price, "mark_price": price, "leverage": 10}
    if margin_mode == "isolated":
        told = contract_sheet(venue=venue, date=START[:10], margin_mode=margin_mode, **row)
        row["isolated_margin"] = told["isolated_margin"]
    sheet = evaluate(
        {
            "venue": venue,
            "date": START[:10],
            "margin_mode": margin_mode,
            "wallet_balance": broker.account.wallets["wallet:cross"],
            "positions": [row],
        }
    )
    (told,) = sheet["positions"]
    assert broker.liquidation_price(strategy.data) == (
        pytest.approx(told["liquidation_price"], rel=1e-9) if told["liquidation_price"] else None
    )
    assert broker.bankruptcy_price(strategy.data) == (
        pytest.approx(told["bankruptcy_price"], rel=1e-9) if told["bankruptcy_price"] else None
    )
    assert broker.maintenance_margin() == pytest.approx(told["maintenance_margin"], rel=1e-9)
    assert broker.initial_margin() == pytest.approx(told["initial_margin"], rel=1e-9)
    assert broker.equity == pytest.approx(sheet["equity"], rel=1e-9)
    assert broker.available_margin == pytest.approx(sheet["available_margin"], rel=1e-9)


@pytest.mark.parametrize(("day", "basis"), [("2025-09-01", "entry"), ("2025-09-02", "mark")])
def test_bybits_maintenance_moved_from_entry_to_mark_on_the_day_it_did(day, basis):
    cerebro = bt.Cerebro(stdstats=False)
    rows = [(60_000,) * 4] * 3 + [(60_000, 66_000, 60_000, 66_000)]
    cerebro.adddata(PerpData(dataname=frame(rows, start=f"{day} 01:00"), name="BTCUSDT"))
    broker = plug(cerebro, "bybit", leverage=10, margin_mode="isolated", cash=100_000, check=True)
    cerebro.addstrategy(Script, script={1: lambda strategy: strategy.buy(size=1)})
    strategy = cerebro.run()[0]
    rate = broker.slot_of(strategy.data).position.table.brackets[0].rate
    worth, fee = {"entry": 60_000, "mark": 66_000}[basis], 60_000 * 0.9 * 0.00055
    assert broker.maintenance_margin() == pytest.approx(worth * rate + fee)


def test_the_positions_of_a_result_have_the_liquidation_price_of_the_terms_of_their_day():
    candles = flat(60_000, 8, start="2025-09-01 20:00")
    result = run(Once, {"BTCUSDT": candles}, venue="bybit", leverage=10, margin_mode="isolated", cash=100_000)
    prices = result.positions["liquidation_price"]
    rate = venues.load("bybit").contract("BTCUSDT").tiers.tables[0].brackets[0].rate
    assert prices.iloc[0] == pytest.approx(60_000 * (0.9 + rate))  # margin of a tenth is lost but for maintenance of the entry's
    assert prices.iloc[-1] == pytest.approx(60_000 * 0.9 / (1 - rate))  # but for maintenance of the mark's


def test_margin_terms_that_change_inside_a_run_are_named_in_its_result():
    candles = flat(60_000, 12, start="2025-09-01 20:00")
    result = run(bt.Strategy, {"BTCUSDT": candles}, venue="bybit")
    assert "margin terms changed 2025-09-02: BTCUSDT" in result.summary["flags"]


def test_okx_orders_are_contracts_of_a_hundredth_of_a_coin_and_its_tiers_count_them():
    broker, strategy = held("okx", "BTCUSDT", 60_000, worth=0.6)
    assert strategy.position.size == pytest.approx(100)  # 60 000 of notional, 600 a contract
    assert broker.getvalue([strategy.data]) == pytest.approx(60_000)
    assert broker.slot_of(strategy.data).position.table.unit == "contracts"


def test_a_run_at_a_venue_of_inverse_contracts_is_in_coin():
    broker, strategy = held("binance-coinm", "BTC/USD:BTC", 60_000, worth=3.0, cash=2.0, margin_mode="cross")
    assert strategy.position.size == 3_600  # 6 coins are 360 000, of 100 a contract
    assert broker.currency == "BTC"
    assert broker.getvalue() == pytest.approx(2 - 6 * venues.load("binance-coinm").taker)


def test_perpetuals_of_two_coins_cannot_share_a_broker_of_inverse_contracts():
    cerebro = bt.Cerebro(stdstats=False)
    for symbol, price in (("BTCUSD_PERP", 60_000), ("ETHUSD_PERP", 2_500)):
        cerebro.adddata(PerpData(dataname=flat(price), name=symbol))
    plug(cerebro, "binance-coinm", cash=1)
    with pytest.raises(ValueError, match="BTCUSD_PERP is inverse and settles in BTC, ETHUSD_PERP is inverse and settles in ETH"):
        cerebro.run()


@pytest.mark.parametrize(
    ("venue", "symbol", "what"),
    [("binance-coinm", "BTCUSD_PERP", "an inverse contract"), ("okx", "BTCUSDT", "a contract of 0.01 base units")],
)
def test_a_baseline_that_stock_backtrader_cannot_run_is_refused(venue, symbol, what):
    with pytest.raises(ValueError, match=f"{symbol}: stock Backtrader cannot trade {what}, so there is no baseline; leave it out"):
        run(bt.Strategy, {symbol: flat(60_000)}, venue=venue, baseline=True)


# -- spot ----------------------------------------------------------------------------------------------------------------


def test_plug_takes_spot_beside_a_venues_perpetual():
    cerebro = bt.Cerebro(stdstats=False)
    for symbol in ("BTCUSDT", "BTCUSDT_SPOT"):
        cerebro.adddata(PerpData(dataname=flat(60_000), name=symbol))
    broker = plug(
        cerebro, "binance", leverage={"BTCUSDT": 10}, margin_mode={"BTCUSDT": "cross"}, spot={"BTCUSDT_SPOT": 0.001}, cash=100_000
    )
    cerebro.addstrategy(Script, script={1: lambda s: (s.sell(s.datas[0], size=1), s.buy(s.datas[1], size=1))})
    strategy = cerebro.run()[0]
    taker = venues.load("binance").contract("BTCUSDT").taker
    assert [strategy.getposition(data).size for data in strategy.datas] == [-1, 1]
    assert broker.equity == pytest.approx(100_000 - 60_000 * (taker + 0.001))
    assert broker.getcash() == pytest.approx(broker.equity - 6_000 - 60_000)
    assert broker.currency == "USDT"


def test_spot_that_is_no_data_is_refused():
    with pytest.raises(ValueError, match="spot names ETH, but the datas are BTCUSDT; leave it out or add that data"):
        run(bt.Strategy, {"BTCUSDT": flat(60_000)}, spot={"ETH": 0.001})


def test_spot_without_its_fee_is_refused():
    with pytest.raises(ValueError, match="spot maps the datas that are spot to their trading fee"):
        run(bt.Strategy, {"BTCUSDT": flat(60_000)}, spot=["BTCUSDT"])


def test_a_leverage_for_spot_other_than_1_is_refused():
    with pytest.raises(ValueError, match="spot is paid in full, its leverage is 1, was 5"):
        run(bt.Strategy, {"BTCUSDT": flat(60_000)}, spot={"BTCUSDT": 0.001}, leverage={"BTCUSDT": 5})


def test_spot_beside_a_perpetual_has_a_baseline():
    result = run(bt.Strategy, {"BTCUSDT": flat(60_000), "BTC": flat(60_000)}, leverage=5, spot={"BTC": 0.001}, baseline=True)
    assert isinstance(result.baseline, pd.Series)
    assert "spot, paid in full: BTC" in result.summary["flags"]
