"""The strategies are plain Backtrader: they know nothing of us, run on the stock broker, and unchanged under margin."""

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from playing import frame

from bt_margin.backtest import run

FOLDER = Path(__file__).parents[1] / "strategies"
FILES = sorted(path for path in FOLDER.glob("*.py") if path.stem != "__init__")


def module(path: Path) -> ModuleType:
    """Import a strategy file by its path, which works whether or not the package is installed."""
    spec = importlib.util.spec_from_file_location(f"strategies_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded  # Backtrader looks its classes' modules up there
    spec.loader.exec_module(loaded)
    return loaded


def strategies_in(path: Path) -> list[type[bt.Strategy]]:
    found = vars(module(path)).values()
    return [item for item in found if isinstance(item, type) and issubclass(item, bt.Strategy) and item.__module__ != "backtrader"]


def walk(bars: int, *, seed: int = 5) -> pd.DataFrame:
    """Return candles of a seeded random walk."""
    rng = np.random.default_rng(seed)
    closes = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, bars)))
    opens = np.concatenate([[100.0], closes[:-1]])
    return frame(list(zip(opens, np.maximum(opens, closes) * 1.005, np.minimum(opens, closes) * 0.995, closes, strict=True)))


def on_stock_backtrader(strategy: type[bt.Strategy], candles: pd.DataFrame, **params) -> bt.Strategy:
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=candles))
    cerebro.addstrategy(strategy, **params)
    return cerebro.run()[0]


SmaCross = module(FOLDER / "sma_cross.py").SmaCross


@pytest.mark.parametrize("path", [*FILES, FOLDER / "__init__.py"], ids=lambda path: path.stem)
def test_strategies_import_nothing_of_ours(path):
    tree = ast.parse(path.read_text("utf-8"))
    named = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    named += [node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in named} <= {"backtrader", "math"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_file_has_one_strategy_that_trades_on_stock_backtrader(path):
    (strategy,) = strategies_in(path)
    assert "Where it fails:" in strategy.__doc__
    finished = on_stock_backtrader(strategy, walk(1_000))
    assert finished.broker.orders


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_runs_unchanged_under_margin(path):
    (strategy,) = strategies_in(path)
    result = run(strategy, {"BTCUSDT": walk(1_000)}, leverage=5, check=True)
    assert len(result.fills)


# -- SMA cross -------------------------------------------------------------------------------------------------------


def test_its_averages_are_backtraders_own():
    candles = walk(300)
    ours = on_stock_backtrader(SmaCross, candles, fast=7, slow=31)
    closes = candles["close"]
    for line, period in ((ours.fast, 7), (ours.slow, 31)):
        assert list(line.get(size=200)) == pytest.approx(list(closes.rolling(period).mean().iloc[-200:]), rel=1e-12)


def test_it_is_long_exactly_while_the_fast_average_is_above():
    candles = walk(300)
    finished = run(SmaCross, {"BTCUSDT": candles}, params={"fast": 5, "slow": 20})
    closes = candles["close"].reset_index(drop=True)
    rising = (closes.rolling(5).mean() > closes.rolling(20).mean()) & (closes.index >= 20)
    expected = rising.shift(1, fill_value=False)  # decided at a close, filled at the next open
    assert list(finished.equity["notional"] > 0) == list(expected)


def test_it_buys_again_after_a_liquidation_while_the_averages_have_not_crossed():
    rises = [(price, price, price, price) for price in range(100, 130)]
    dip = [(129, 129, 100, 128)] * 3  # 20x dies 4.6 % below its entry, at 105.9 at first, then at 122
    result = run(SmaCross, {"BTCUSDT": frame(rises + dip)}, leverage=20, margin_mode="isolated", params={"fast": 3, "slow": 10})
    assert result.summary["liquidations"] == 3
    assert list(result.fills["size"]) == [1, -1] * 3


def test_a_refused_order_makes_it_wait_for_the_next_cross():
    waves = [(price, price, price, price) for price in [*range(100, 130), *range(130, 90, -1), *range(90, 130)]]
    poor = run(SmaCross, {"BTCUSDT": frame(waves)}, cash=50, params={"fast": 3, "slow": 10})
    assert [order.getstatusname() for order in poor.strategy.broker.orders] == ["Margin", "Margin"]


@pytest.mark.parametrize(("fast", "slow"), [(0, 10), (10, 10), (20, 10)])
def test_averages_that_cannot_cross_are_refused(fast, slow):
    with pytest.raises(ValueError, match="fast must be at least 1 bar and slow must be longer"):
        on_stock_backtrader(SmaCross, walk(50), fast=fast, slow=slow)
