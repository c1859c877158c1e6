"""The funding carry: what the hedge earns is the funding, and nothing of what the price does."""

import ast
import importlib.util
import sys
from pathlib import Path

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from playing import frame

from bt_margin import MarginBroker, PerpCommInfo, PerpData
from bt_margin.backtest import run

PATH = Path(__file__).parents[1] / "strategies" / "funding_carry.py"
RATE = 0.0003


def strategy() -> type[bt.Strategy]:
    """Import the strategy by its path, which works whether or not the package is installed."""
    spec = importlib.util.spec_from_file_location("strategies_funding_carry", PATH)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded  # Backtrader looks its classes' modules up there
    spec.loader.exec_module(loaded)
    return loaded.FundingCarry


FundingCarry = strategy()


def candles(closes, *, start="2024-01-01") -> pd.DataFrame:
    """Return hourly candles that open where the last one closed."""
    closes = np.asarray(closes, dtype=float)
    opens = np.concatenate([closes[:1], closes[:-1]])
    rows = zip(opens, np.maximum(opens, closes), np.minimum(opens, closes), closes, strict=True)
    return frame(list(rows), start=start)


def walk(bars=400, *, seed=3, sigma=0.02) -> np.ndarray:
    return 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, sigma, bars)))


def carry(perp, spot=None, *, funding=None, fee=0.0, venue=None, leverage=3, params=None, **more):
    """Run the carry on a perpetual and its spot; without a spot of its own the prices are the same."""
    data = {"COIN_PERP": candles(perp), "COIN": candles(perp if spot is None else spot)}
    own = funding if funding is None or isinstance(funding, float) else {"COIN_PERP": funding, "COIN": None}
    params = {"period": 4, **(params or {})}
    return run(FundingCarry, data, venue=venue, leverage=leverage, funding=own, spot={"COIN": fee}, params=params, check=True, **more)


def test_it_imports_nothing_of_ours_and_says_where_it_fails():
    tree = ast.parse(PATH.read_text("utf-8"))
    named = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert named == ["backtrader"]
    assert "Where it fails:" in FundingCarry.__doc__


def test_the_hedge_earns_the_funding_of_its_notional_at_every_stamp():
    result = carry([100.0] * 60, funding=RATE)
    coins = 0.4 * 10_000 / 100
    # bought on the fifth bar, at 04:00; stamps at 08:00, 16:00, ... up to the last bar, which closes at 60:00
    stamps = 7
    assert len(result.funding) == stamps
    assert result.summary["funding"] == pytest.approx(stamps * coins * 100 * RATE)
    assert result.summary["final_equity"] == pytest.approx(10_000 + stamps * 12 * 0.1)  # 40 coins x 100 x 0.03 % are 1.2 a stamp


def test_whatever_the_price_does_the_account_moves_by_funding_alone():
    result = carry(walk(), funding=RATE)
    assert result.summary["liquidations"] == 0
    assert result.summary["time_in_market"] > 0.95
    paid = result.funding.set_index("time")["amount"]
    received = [paid[paid.index < bar].sum() for bar in result.equity.index]
    assert list(result.equity["equity"]) == pytest.approx([10_000 + money for money in received], rel=1e-12)
    assert result.equity["equity"].iloc[-1] > 10_000


def test_each_payment_is_the_notional_of_the_short_at_its_stamp():
    result = carry(walk(), funding=RATE)
    size = -result.funding["size"].iloc[0]
    assert list(result.funding["amount"]) == pytest.approx([size * row.mark_price * RATE for row in result.funding.itertuples()])


def test_without_funding_and_fees_it_earns_nothing():
    result = carry(walk())
    assert result.equity["equity"].to_numpy() == pytest.approx(10_000, rel=1e-12)


def test_fees_are_all_it_loses():
    result = carry(walk(), fee=0.001)
    bought = 0.4 * 10_000 / walk()[3] * candles(walk())["open"].iloc[4]
    assert result.summary["final_equity"] == pytest.approx(10_000 - 0.001 * bought)


def test_a_premium_that_falls_is_earned_and_one_that_widens_is_lost():
    spot = walk(seed=7)
    half = len(spot) // 2
    perps = {"falls": np.where(np.arange(len(spot)) < half, 1.01, 1.0), "widens": np.where(np.arange(len(spot)) < half, 1.01, 1.03)}
    earned = {}
    for name, premium in perps.items():
        result = carry(spot * premium, spot)
        coins = -result.fills["size"].iloc[0]
        sold, bought = result.fills["price"]
        earned[name] = result.summary["final_equity"] - 10_000
        assert earned[name] == pytest.approx(coins * (sold - bought - spot[-1] * (premium[-1] - 1)), rel=1e-9)
    assert earned["falls"] > 0 > earned["widens"]


def test_it_closes_both_legs_when_the_premium_turns_and_opens_them_when_it_comes_back():
    spot = np.full(60, 100.0)
    premium = np.concatenate([np.full(20, 0.002), np.full(20, -0.01), np.full(20, 0.002)])
    result = carry(spot * (1 + premium), spot)
    assert list(result.fills["symbol"]) == ["COIN_PERP", "COIN"] * 3
    assert [round(size, 6) for size in result.fills["size"]][:4] == [-40, 40, 40, -40]


def test_a_leg_that_is_refused_takes_the_other_with_it_and_is_not_tried_again():
    result = carry([100.0] * 40, params={"fraction": 0.9})  # 0.9 of spot leave 0.1 for a margin of 0.3
    assert [row.symbol for row in result.fills.itertuples()] in (["COIN_PERP", "COIN_PERP"], ["COIN", "COIN"])
    assert result.equity["notional"].iloc[-1] == 0


def test_a_short_of_its_own_margin_dies_in_a_rally_and_the_coin_is_sold_after_it():
    rally = np.concatenate([np.full(10, 100.0), np.linspace(100, 160, 30)])
    isolated = carry(rally, margin_mode={"COIN_PERP": "isolated", "COIN": "cross"}, params={"enter": 0.0})
    cross = carry(rally)
    assert isolated.summary["liquidations"] >= 1
    after = isolated.fills.index[isolated.fills["liquidation"]][0] + 1
    assert isolated.fills.loc[after, "symbol"] == "COIN"
    assert isolated.fills.loc[after, "size"] < 0
    assert cross.summary["liquidations"] == 0
    assert cross.summary["final_equity"] == pytest.approx(10_000)


@pytest.mark.parametrize(("mult", "lot"), [(1.0, 0.001), (0.01, 0.1), (100.0, 1.0), (1.0, 0.0)])
def test_both_legs_are_the_whole_lots_of_the_perpetual(mult, lot):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000_000, check=True)
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=3, mult=mult, lot=lot), name="PERP")
    cerebro.broker.addcommissioninfo(PerpCommInfo(kind="spot", mult=0.5), name="COIN")
    for name in ("PERP", "COIN"):
        cerebro.adddata(PerpData(dataname=candles([61_234.5 / 60] * 10), name=name))
    cerebro.addstrategy(FundingCarry, period=2)
    finished = cerebro.run()[0]
    perp, spot = (finished.getposition(data).size for data in finished.datas)
    coins = 400_000 / (61_234.5 / 60)
    lots = int(coins / (mult * lot)) if lot else coins / mult
    assert perp == pytest.approx(-(lots * lot if lot else lots))
    assert spot * 0.5 == pytest.approx(-perp * mult, rel=1e-12)


def test_an_account_too_small_for_a_lot_holds_neither_leg_and_is_told_why():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=100, check=True)
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=3, lot=1.0), name="PERP")
    cerebro.broker.addcommissioninfo(PerpCommInfo(kind="spot"), name="COIN")
    for name in ("PERP", "COIN"):
        cerebro.adddata(PerpData(dataname=candles([100.0] * 10), name=name))
    cerebro.addstrategy(FundingCarry, period=2)
    finished = cerebro.run()[0]
    assert finished.broker.record.fills == []
    assert [row.message for row in finished.broker.record.refusals] == [
        "PERP: a size of 0.4 leaves no whole lot of 1; order at least one lot"
    ]


def test_it_runs_on_stock_backtrader():
    cerebro = bt.Cerebro(stdstats=False)
    for _ in range(2):
        cerebro.adddata(bt.feeds.PandasData(dataname=candles(walk())))
    cerebro.addstrategy(FundingCarry)
    finished = cerebro.run()[0]
    perp, spot = (finished.getposition(data).size for data in finished.datas)
    assert spot > 0
    assert perp == -spot


@pytest.mark.parametrize("params", [{"fraction": 1.0}, {"fraction": 0.0}, {"period": 0}, {"leave": 0.1}])
def test_params_that_cannot_be_are_refused(params):
    with pytest.raises(ValueError, match="fraction lies between 0 and 1, period is 1 or more and leave no higher than enter"):
        carry([100.0] * 10, params=params)


def test_one_data_is_refused():
    with pytest.raises(ValueError, match="FundingCarry needs two datas"):
        run(FundingCarry, {"COIN": candles([100.0] * 30)}, venue=None)
