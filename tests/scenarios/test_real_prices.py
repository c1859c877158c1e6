"""Positions on records of real venues, each with the price or hour that hand arithmetic gives.

Prices are Binance USD-M candles, mark candles and funding rates, read from the reference folder.
"""

import math
from pathlib import Path

import backtrader as bt
import pandas as pd
import pytest

from bt_margin import MarginBroker, PerpCommInfo, PerpData

MAINTENANCE = 0.005


class BuyOnce(bt.Strategy):
    """Buys so that the order fills at the open of the bar that starts at ``when`` (UTC)."""

    params = (("when", None), ("size", 1.0))

    def next(self):
        if self.data.datetime.datetime(0) == self.p.when:  # delivered at its close, when the next bar opens
            self.buy(size=self.p.size)


def window(reference: Path, event: str, symbol: str, *, with_mark: bool) -> pd.DataFrame:
    frame = pd.read_csv(reference / "data" / "windows" / event / f"binance-{symbol}-1h-futures_mark_funding.csv")
    return frame if with_mark else frame.drop(columns=[name for name in frame if name.startswith("mark_")])


def hold(
    frame, symbol: str, when: str, *, leverage: float, mode: str = "isolated", size: float = 1.0, cash: float = 10_000.0, profile="forfeit"
):
    """Buy once at an open and hold; return the finished broker."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=cash, margin_mode=mode, check=True)
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=leverage, tiers=MAINTENANCE, profile=profile), name=symbol)
    cerebro.adddata(PerpData(dataname=frame, name=symbol))
    cerebro.addstrategy(BuyOnce, when=pd.Timestamp(when).to_pydatetime(), size=size)
    return cerebro.run()[0].broker


def hour_of(row) -> str:
    """Return the opening hour of the bar that a row was written on; its time is the bar's close."""
    return f"{pd.Timestamp(row.time - 3600, unit='s'):%Y-%m-%d %H:%M}"


def test_the_mark_spares_an_eth_long_that_the_last_price_would_have_killed(reference):
    broker = hold(window(reference, "2021-05-19", "ETHUSDT", with_mark=True), "ETHUSDT", "2021-05-19 13:00", leverage=3)

    assert broker.record.fills[0].price == 2332.92
    assert broker.record.liquidations == []


def test_with_mark_from_last_the_same_eth_long_dies_in_that_hour(reference):
    broker = hold(window(reference, "2021-05-19", "ETHUSDT", with_mark=False), "ETHUSDT", "2021-05-19 13:00", leverage=3)

    (row,) = broker.record.liquidations
    assert hour_of(row) == "2021-05-19 13:00"
    assert row.mark_price == pytest.approx(2332.92 * (1 - 1 / 3) / (1 - MAINTENANCE))  # 1563.0955, above the low of 1400.73
    assert row.price == pytest.approx(2332.92 * (1 - 1 / 3))
    assert row.certainty == "certain"


def test_a_link_long_dies_by_a_mark_the_chart_never_shows(reference):
    frame = window(reference, "2025-10-10", "LINKUSDT", with_mark=True)
    entry = float(frame.loc[frame["datetime"] == "2025-10-10T21:00:00Z", "open"].iloc[0])
    leverage = 1 / (1 - 8.135 * (1 - MAINTENANCE) / entry)  # a limit between the mark's low of 8.107 and the last low of 8.164

    broker = hold(frame, "LINKUSDT", "2025-10-10 21:00", leverage=leverage)
    spared = hold(window(reference, "2025-10-10", "LINKUSDT", with_mark=False), "LINKUSDT", "2025-10-10 21:00", leverage=leverage)

    (row,) = broker.record.liquidations
    assert hour_of(row) == "2025-10-10 21:00"
    assert row.mark_price == pytest.approx(8.135)
    assert spared.record.liquidations == []


def test_a_btc_10x_long_of_march_2020_dies_in_the_hour_and_at_the_price_of_hand_arithmetic(reference):
    frame = window(reference, "2020-03-12_covid", "BTCUSDT", with_mark=True)
    opened = "2020-03-11 00:00"
    entry = float(frame.loc[frame["datetime"] == "2020-03-11T00:00:00Z", "open"].iloc[0])

    broker = hold(frame, "BTCUSDT", opened, leverage=10)

    (row,) = broker.record.liquidations
    paid = math.fsum(funding.amount for funding in broker.record.funding)
    limit = (entry - entry / 10 - paid) / (1 - MAINTENANCE)  # funding moves the wallet, and with it the limit
    after = frame[(frame["datetime"] >= "2020-03-11T00:00:00Z") & (frame["mark_low"] <= limit)]
    assert f"{hour_of(row).replace(' ', 'T')}:00Z" == after["datetime"].iloc[0]
    assert row.mark_price == pytest.approx(limit, rel=1e-9)
    assert broker.journal.imbalance() <= 1e-9


def test_total_funding_of_one_btc_over_years_is_minus_the_sum_of_rate_times_mark_open(reference):
    series = reference / "data" / "series"
    candles = pd.read_parquet(series / "binance-BTCUSDT-1h-futures.parquet")
    marks = pd.read_parquet(series / "binance-BTCUSDT-1h-mark.parquet")
    rates = pd.read_parquet(series / "binance-BTCUSDT-funding.parquet")
    candles, marks, rates = (indexed(frame) for frame in (candles, marks, rates))
    candles = candles.loc["2019-12-24":"2026-05-17 06:00"]
    marks = marks.loc["2019-12-24":"2026-05-17 06:00"]
    rate = rates[next(name for name in rates.columns if "rate" in name.lower())]
    rate.index = rate.index.round("min")
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=100_000, margin_mode="cross")
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=10, tiers=MAINTENANCE), name="BTCUSDT")
    cerebro.adddata(PerpData(dataname=candles, mark=marks, funding=rate, name="BTCUSDT"))
    cerebro.addstrategy(BuyOnce, when=pd.Timestamp("2019-12-24 01:00").to_pydatetime())

    broker = cerebro.run()[0].broker

    held = rate.loc["2019-12-24 02:00":"2026-05-17 06:00"]
    expected = -math.fsum(held * marks["open"].reindex(held.index))
    assert len(broker.record.funding) == len(held) > 7_000
    assert broker.journal.balances()["funding"] == pytest.approx(-expected, rel=1e-9)
    assert broker.record.liquidations == []


def indexed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a reference frame on its UTC instants."""
    if not isinstance(frame.index, pd.DatetimeIndex):
        frame = frame.set_index(
            pd.to_datetime(frame[next(name for name in frame.columns if "time" in name.lower() or "date" in name.lower())], utc=True)
        )
    frame.index = frame.index.tz_convert("UTC") if frame.index.tz is not None else frame.index.tz_localize("UTC")
    return frame.sort_index()
