"""Hourly BTCUSDT candles shipped with the package, so that the demo needs no network.

Binance spot, 2019-01-01 00:00 to 2023-12-31 23:00 UTC, stamped with the hour each candle opens; hours in which the
venue was halted or its record is unusable are missing. README.md beside this file has source, licence, checksums and
every repair. Installed as ``bt_margin.data``; in a checkout this is the top-level folder ``data``.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

SYMBOL = "BTCUSDT"
FILE_NAME = "BTCUSDT-1h-2019-2023.csv.gz"


def path() -> Path:
    """Return the shipped candles: gzipped CSV with columns datetime, open, high, low, close, volume."""
    return Path(__file__).with_name(FILE_NAME)


def load() -> "pd.DataFrame":
    """Return the shipped candles as a frame with a UTC index; prices in USDT, volume in BTC."""
    import pandas as pd

    return pd.read_csv(path(), index_col="datetime", parse_dates=["datetime"])
