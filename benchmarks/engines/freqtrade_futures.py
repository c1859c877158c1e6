"""Workload W with freqtrade: isolated futures on an exchange whose one market is described here, so that no network is needed."""

import logging
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from common import CASH, FAST, FEE, LEVERAGE, SLOW, UNITS, frame, report
from freqtrade.data.history import get_datahandler
from freqtrade.enums import CandleType, MarginMode, RunMode, TradingMode
from freqtrade.optimize.backtesting import Backtesting
from freqtrade.resolvers import ExchangeResolver

PAIR = "PERP/USDT:USDT"
FUNDING = 0.0001
STRATEGY = f"""
from freqtrade.strategy import IStrategy


class Cross(IStrategy):
    timeframe = "1m"
    can_short = True
    stoploss = -0.99
    minimal_roi = {{}}
    process_only_new_candles = True
    startup_candle_count = 0

    def populate_indicators(self, frame, metadata):
        frame["above"] = frame["close"].rolling({FAST}).mean() > frame["close"].rolling({SLOW}).mean()
        frame["known"] = frame["close"].rolling({SLOW}).mean().notna()
        return frame

    def populate_entry_trend(self, frame, metadata):
        frame["enter_long"] = (frame["known"] & frame["above"]).astype(int)
        frame["enter_short"] = (frame["known"] & ~frame["above"]).astype(int)
        return frame

    def populate_exit_trend(self, frame, metadata):
        frame["exit_long"] = frame["enter_short"]
        frame["exit_short"] = frame["enter_long"]
        return frame

    def leverage(self, **kwargs):
        return {LEVERAGE}

    def custom_stake_amount(self, current_rate, **kwargs):
        return {UNITS} * current_rate / {LEVERAGE}
"""
MARKET: dict[str, Any] = {
    "id": "PERPUSDT",
    "symbol": PAIR,
    "base": "PERP",
    "quote": "USDT",
    "settle": "USDT",
    "type": "swap",
    "spot": False,
    "margin": False,
    "swap": True,
    "future": False,
    "option": False,
    "active": True,
    "contract": True,
    "linear": True,
    "inverse": False,
    "contractSize": 1.0,
    "taker": FEE,
    "maker": FEE,
    "precision": {"amount": 1e-3, "price": 1e-8},
    "limits": {name: {"min": least, "max": None} for name, least in (("amount", 1e-3), ("price", None), ("cost", 1.0), ("leverage", 1.0))},
    "info": {},
}


def settings(folder: Path) -> dict[str, Any]:
    return {
        "runmode": RunMode.BACKTEST,
        "dry_run": True,
        "dry_run_wallet": CASH,
        "max_open_trades": 1,
        "stake_currency": "USDT",
        "stake_amount": 100.0,
        "tradable_balance_ratio": 1.0,
        "fee": FEE,
        "timeframe": "1m",
        "trading_mode": TradingMode.FUTURES,
        "margin_mode": MarginMode.ISOLATED,
        "candle_type_def": CandleType.FUTURES,
        "strategy": "Cross",
        "strategy_path": str(folder),
        "user_data_dir": folder,
        "datadir": folder,
        "exportdirectory": folder,
        "export": "none",
        "backtest_cache": "none",
        "dataformat_ohlcv": "feather",
        "entry_pricing": {"price_side": "same", "use_order_book": False},
        "exit_pricing": {"price_side": "same", "use_order_book": False},
        "unfilledtimeout": {"entry": 10, "exit": 10, "unit": "minutes"},
        "pairlists": [{"method": "StaticPairList"}],
        "exchange": {"name": "binance", "key": "", "secret": "", "pair_whitelist": [PAIR], "pair_blacklist": []},
    }


def stored(config: dict[str, Any], candles: pd.DataFrame, exchange: Any) -> None:
    """Write what freqtrade downloads: the candles, hourly marks and funding rates."""
    handler = get_datahandler(config["datadir"], "feather")
    dated = candles.tz_localize("UTC").rename_axis("date")
    handler.ohlcv_store(PAIR, "1m", dated.reset_index(), CandleType.FUTURES)
    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    hours = dated.resample("h").agg(how)
    handler.ohlcv_store(PAIR, exchange.get_option("mark_ohlcv_timeframe"), hours.reset_index(), CandleType.MARK)
    rates = hours[hours.index.hour % 8 == 0].assign(funding_rate=FUNDING)
    handler.ohlcv_store(PAIR, exchange.get_option("funding_fee_timeframe"), rates.reset_index(), CandleType.FUNDING_RATE)


def offline(config: dict[str, Any]) -> Any:
    """Return the exchange with its market and tiers filled in by hand."""
    exchange = ExchangeResolver.load_exchange(config, validate=False)
    exchange._markets = {PAIR: MARKET}
    exchange._api.set_markets({PAIR: MARKET})
    exchange._leverage_tiers = {
        PAIR: [{"minNotional": 0.0, "maxNotional": 1e9, "maintenanceMarginRate": 0.004, "maxLeverage": 125.0, "maintAmt": 0.0}]
    }
    return exchange


def main() -> None:
    logging.disable(logging.WARNING)
    candles = frame()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "cross.py").write_text(STRATEGY)
        config = settings(folder)
        exchange = offline(config)
        stored(config, candles, exchange)

        def run() -> dict[str, Any]:
            backtesting = Backtesting(config, exchange)
            data, timerange = backtesting.load_bt_data()
            backtesting.backtest_one_strategy(backtesting.strategylist[0], data, timerange)
            found = backtesting.all_bt_content["Cross"]
            trades = found["results"]
            return {"fills": 2 * len(trades), "equity": float(found["final_balance"] - trades["funding_fees"].sum())}

        report(run)


if __name__ == "__main__":
    main()
