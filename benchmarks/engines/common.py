"""What every engine's program shares: workload W's terms, its candles from a file, and the line of JSON it prints.

Each program runs W once in an environment of its own, where bt_margin is not: it imports its engine, numpy and this file only.
"""

import gc
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

CASH, LEVERAGE, FEE, UNITS = 100_000.0, 5.0, 0.0005, 20
FAST, SLOW = 20, 100
COLUMNS = ("open", "high", "low", "close", "volume")


def columns() -> dict[str, Any]:
    """Return the candles as arrays: ``time`` in nanoseconds since 1970 and the columns."""
    with np.load(sys.argv[1]) as stored:
        return {name: stored[name] for name in ("time", *COLUMNS)}


def frame() -> Any:
    """Return the candles as a pandas frame indexed by time."""
    import pandas as pd

    arrays = columns()
    index = pd.DatetimeIndex(arrays["time"].astype("datetime64[ns]"), name="datetime")
    return pd.DataFrame({name: arrays[name] for name in COLUMNS}, index=index)


def report(make: Callable[[], dict[str, Any]]) -> None:
    """Time ``make``, from candles in memory to the finished backtest, and print it with what it returned.

    ``make`` returns ``fills``, how often an order was filled, and ``equity`` at the end, funding left out.
    """
    gc.collect()
    begin = time.process_time()
    facts = make()
    seconds = time.process_time() - begin
    print(json.dumps({"seconds": seconds, **facts}))
