"""The strategies are plain Backtrader: they know nothing of us, run on the stock broker, and unchanged under margin.

The scenarios are tables that a reader can redo: bars open at the close before, so that an order placed at one bar's
close fills at that price; there are no fees; maintenance margin is 1 % and liquidation costs nothing. A fill is
(number of the bar, size, price).
"""

import ast
import importlib.util
import re
import sys
from math import isfinite
from pathlib import Path
from types import ModuleType

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from playing import frame

from bt_margin import MarginBroker, PerpCommInfo
from bt_margin.backtest import run
from bt_margin.sizers import RiskToStop

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "strategies"
TWO_DATAS = ("funding_carry",)  # tested by themselves
FILES = sorted(path for path in FOLDER.glob("*.py") if path.stem not in ("__init__", *TWO_DATAS))
by_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
on_both = pytest.mark.parametrize("broker", ["stock", "margin"])


def module(path: Path) -> ModuleType:
    """Import a file by its path, which works whether or not the package is installed."""
    name = path.stem if path.stem != "__init__" else path.parent.name
    spec = importlib.util.spec_from_file_location(f"strategies_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded  # Backtrader looks its classes' modules up there
    spec.loader.exec_module(loaded)
    return loaded


def strategies_in(path: Path) -> list[type[bt.Strategy]]:
    found = vars(module(path)).values()
    return [item for item in found if isinstance(item, type) and issubclass(item, bt.Strategy) and item.__module__ != "backtrader"]


SmaCross = module(FOLDER / "sma_cross.py").SmaCross
DonchianBreakout = module(FOLDER / "donchian_breakout.py").DonchianBreakout
RsiReversion = module(FOLDER / "rsi_reversion.py").RsiReversion
VolatilityTarget = module(FOLDER / "volatility_target.py").VolatilityTarget
MartingaleGrid = module(FOLDER / "martingale_grid.py").MartingaleGrid
BuyAndHold = module(FOLDER / "buy_and_hold.py").BuyAndHold


# -- candles and runs ------------------------------------------------------------------------------------------------


def walk(bars: int, *, seed: int = 5) -> pd.DataFrame:
    """Return candles of a seeded random walk."""
    rng = np.random.default_rng(seed)
    closes = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, bars)))
    opens = np.concatenate([[100.0], closes[:-1]])
    return frame(list(zip(opens, np.maximum(opens, closes) * 1.005, np.minimum(opens, closes) * 0.995, closes, strict=True)))


def bars(*closes: float) -> pd.DataFrame:
    """Return candles that open at the close before and go straight to their own."""
    opens = [closes[0], *closes[:-1]]
    return frame([(start, max(start, end), min(start, end), end) for start, end in zip(opens, closes, strict=True)])


def line(start: float, stop: float, count: int) -> list[float]:
    """Return prices from start to stop, both among them."""
    return [float(price) for price in np.linspace(start, stop, count)]


class Diary(bt.Analyzer):
    """Keeps fills as (bar, size, price), how the other orders ended as (bar, status), and the value of each bar."""

    def start(self):
        self.fills: list[tuple] = []
        self.ends: list[tuple] = []
        self.refusals: list[int] = []  # bars on which an order was refused; a bracket is one order
        self.values: list[float] = []

    def notify_order(self, order):
        if order.status == order.Completed:
            self.fills.append((len(self.strategy), order.executed.size, order.executed.price))
        elif not order.alive():
            self.ends.append((len(self.strategy), order.getstatusname()))
            if order.status in (order.Margin, order.Rejected) and order.parent is None:
                self.refusals.append(len(self.strategy))

    def notify_cashvalue(self, cash, value):
        self.values.append(value)


def trade(
    broker: str, strategy: type[bt.Strategy], *candles: pd.DataFrame, cash=10_000.0, multiple=1.0, mult=1.0, stake=1, filler=None, **params
) -> Diary:
    """Run a strategy on the first candles on one of the two brokers, at a leverage of ``multiple``; return its diary."""
    cerebro = bt.Cerebro(stdstats=False)
    if broker == "margin":
        cerebro.broker = MarginBroker(cash=cash, check=True)
        cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=multiple, mult=mult, tiers=0.01, liquidation_fee=0.0))
    else:
        cerebro.broker.setcash(cash)
        cerebro.broker.setcommission(leverage=multiple, mult=mult)
    cerebro.broker.set_filler(filler)
    for one in candles:
        cerebro.adddata(bt.feeds.PandasData(dataname=one))
    cerebro.addstrategy(strategy, **params)
    cerebro.addsizer(bt.sizers.FixedSize, stake=stake)
    cerebro.addanalyzer(Diary, _name="diary")
    return cerebro.run()[0].analyzers.diary


def near(*fills: tuple) -> list:
    """Return fills to compare with, prices and sizes to the last few digits of a float."""
    return [(bar, pytest.approx(size), pytest.approx(price)) for bar, size, price in fills]


def on_stock_backtrader(strategy: type[bt.Strategy], candles: pd.DataFrame, **params) -> bt.Strategy:
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=candles))
    cerebro.addstrategy(strategy, **params)
    return cerebro.run()[0]


# -- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*FILES, FOLDER / "__init__.py"], ids=lambda path: path.stem)
def test_strategies_import_nothing_of_ours(path):
    tree = ast.parse(path.read_text("utf-8"))
    named = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    named += [node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in named} <= {"backtrader", "math"}


@by_file
def test_each_file_has_one_strategy_that_trades_on_stock_backtrader(path):
    (strategy,) = strategies_in(path)
    finished = on_stock_backtrader(strategy, walk(1_000))
    assert finished.broker.orders


@by_file
def test_each_docstring_says_its_idea_where_it_fails_and_every_param_with_its_default(path):
    (strategy,) = strategies_in(path)
    told = re.findall(r"- ``(\w+)`` \(default: ``(.+?)``\): \w", strategy.__doc__)
    assert dict(told) == {name: str(default) for name, default in strategy.params._getitems()}
    assert "Idea: " in strategy.__doc__
    assert "Where it fails: " in strategy.__doc__


@by_file
def test_each_runs_unchanged_under_margin(path):
    (strategy,) = strategies_in(path)
    result = run(strategy, {"BTCUSDT": walk(1_000)}, leverage=5, check=True)
    assert len(result.fills)


@by_file
def test_each_trades_the_shipped_hours_of_a_crash_with_a_journal_that_balances(path):
    (strategy,) = strategies_in(path)
    candles = module(ROOT / "data" / "__init__.py").load().loc["2020-02-01":"2020-04-30"]
    result = run(strategy, {"BTCUSDT": candles}, leverage=5, sizer=0.5, check=True)
    assert len(result.fills)
    assert result.equity["lowest_equity"].min() >= 0
    assert result.summary["journal_imbalance"] < 1e-9


@on_both
@by_file
def test_none_repeats_a_refused_order_bar_after_bar(path, broker):
    (strategy,) = strategies_in(path)
    poor = trade(broker, strategy, walk(1_000), cash=50)  # one unit costs about 100
    assert len(poor.refusals) <= 50


@by_file
def test_none_sends_an_order_twice_while_its_data_has_no_new_bar(path):
    (strategy,) = strategies_in(path)
    candles = walk(600)
    params = {"rsi_reversion": {"period": 1}, "sma_cross": {"fast": 20, "slow": 60}, "volatility_target": {"slow": 150}}.get(path.stem, {})
    alone = trade("margin", strategy, candles.iloc[::2], multiple=5, **params)
    beside_another = trade("margin", strategy, candles.iloc[::2], candles, multiple=5, **params)
    assert alone.fills
    assert [fill[1:] for fill in beside_another.fills] == [fill[1:] for fill in alone.fills]


@pytest.mark.parametrize("strategy", [SmaCross, DonchianBreakout, RsiReversion, MartingaleGrid])
@on_both
def test_a_sizer_that_says_nothing_buys_nothing(broker, strategy):
    told = trade(broker, strategy, walk(400), stake=0)
    assert told.fills == told.ends == []


# Each path leads its strategy into a large long position before the price halves between two bars, and stays down.
HALVED = line(50, 55, 200)
RUIN = {
    "sma_cross": (line(100, 120, 250), {}),
    "donchian_breakout": (line(100, 120, 250), {}),
    "rsi_reversion": ([*line(110, 120, 20), *line(119, 111, 20)], {}),
    "volatility_target": (line(100, 120, 100), {"fast": 5, "slow": 20, "vol_span": 20, "max_leverage": 8.0}),
    "martingale_grid": (line(120, 105, 30), {}),
    "buy_and_hold": (line(100, 120, 20), {"leverage": 8.0}),
}
STAKES = {"martingale_grid": 50}


def ruin(path: Path, broker: str) -> Diary:
    (strategy,) = strategies_in(path)
    before, params = RUIN[path.stem]
    gap = bars(*before, *HALVED)
    gap.iloc[len(before), :3] = HALVED[0]  # open, high and low: the bar opens where it ends
    return trade(broker, strategy, gap, multiple=10, stake=STAKES.get(path.stem, 600), **params)


@by_file
def test_each_outlives_a_liquidation(path):
    told = ruin(path, "margin")
    taken = told.strategy.broker.record.liquidations
    assert [(row.trigger, row.size > 0) for row in taken[:1]] == [("gap", True)]
    assert min(told.values) >= 0
    assert len(told.refusals) <= 20


@by_file
def test_each_outlives_a_stock_account_that_owes_money(path):
    told = ruin(path, "stock")
    assert min(told.values) < 0
    assert all(map(isfinite, told.values))
    assert len(told.refusals) <= 20


@pytest.mark.parametrize(
    ("strategy", "params", "sentence"),
    [
        (SmaCross, {"fast": 0}, "fast must be at least 1 bar and slow must be longer, were 0 and 200"),
        (SmaCross, {"fast": 10, "slow": 10}, "fast must be at least 1 bar and slow must be longer, were 10 and 10"),
        (DonchianBreakout, {"exit": 0}, "exit must be at least 1 bar and entry must be longer, were 0 and 20"),
        (DonchianBreakout, {"entry": 10}, "exit must be at least 1 bar and entry must be longer, were 10 and 10"),
        (DonchianBreakout, {"atr": 0}, "atr must be at least 1 bar, stop_atr and target_atr must be above 0, were 0, 2.0 and 10.0"),
        (DonchianBreakout, {"stop_atr": 0}, "atr must be at least 1 bar, stop_atr and target_atr must be above 0, were 20, 0 and 10.0"),
        (DonchianBreakout, {"target_atr": -1}, "atr must be at least 1 bar, stop_atr and target_atr must be above 0, were 20, 2.0 and -1"),
        (RsiReversion, {"period": 0}, "period must be at least 1 bar, was 0"),
        (RsiReversion, {"oversold": 60}, "oversold, middle and overbought must rise between 0 and 100, were 60, 50.0 and 70.0"),
        (RsiReversion, {"overbought": 100}, "oversold, middle and overbought must rise between 0 and 100, were 30.0, 50.0 and 100"),
        (VolatilityTarget, {"slow": 100}, "fast must be at least 1 bar and slow must be longer, were 100 and 100"),
        (VolatilityTarget, {"vol_span": 0}, "vol_span and bars_per_year must be at least 1, were 0 and 8760"),
        (VolatilityTarget, {"bars_per_year": 0}, "vol_span and bars_per_year must be at least 1, were 168 and 0"),
        (VolatilityTarget, {"target_vol": 0}, "target_vol must be above 0 and max_leverage above 0 and finite, were 0 and 2.0"),
        (
            VolatilityTarget,
            {"max_leverage": float("nan")},
            "target_vol must be above 0 and max_leverage above 0 and finite, were 0.4 and nan",
        ),
        (VolatilityTarget, {"buffer": 1}, "buffer is a fraction of the target, 0 or more and below 1, was 1"),
        (MartingaleGrid, {"step": 1}, "step must be between 0 and 1 and take_profit above 0, were 1 and 0.01"),
        (MartingaleGrid, {"take_profit": 0}, "step must be between 0 and 1 and take_profit above 0, were 0.02 and 0"),
        (MartingaleGrid, {"factor": 0}, "factor must be above 0 and levels at least 1, were 0 and 5"),
        (MartingaleGrid, {"levels": 0}, "factor must be above 0 and levels at least 1, were 2.0 and 0"),
        (BuyAndHold, {"leverage": 0}, "leverage must be above 0 and finite, was 0"),
        (BuyAndHold, {"leverage": float("inf")}, "leverage must be above 0 and finite, was inf"),
        (BuyAndHold, {"spare": 1}, "spare is a fraction of equity, 0 or more and below 1, was 1"),
    ],
)
def test_params_that_make_no_sense_are_refused_in_one_sentence(strategy, params, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        on_stock_backtrader(strategy, walk(50), **params)


# -- SMA cross -------------------------------------------------------------------------------------------------------


def test_its_averages_are_backtraders_own():
    candles = walk(300)
    ours = on_stock_backtrader(SmaCross, candles, fast=7, slow=31)
    closes = candles["close"]
    for average, period in ((ours.fast, 7), (ours.slow, 31)):
        assert list(average.get(size=200)) == pytest.approx(list(closes.rolling(period).mean().iloc[-200:]), rel=1e-12)


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


# -- Donchian breakout -----------------------------------------------------------------------------------------------

CHANNELS = {"entry": 3, "exit": 2, "atr": 1}  # ATR of one bar: the breakout's own range, 4 in what follows
UP = (100, 100, 100, 100, 104)  # out of the channel on bar 5: bought at 104 on bar 6, stop 104 - 2 * 4, target 104 + 10 * 4
DOWN = (100, 100, 100, 100, 96)


@on_both
@pytest.mark.parametrize(
    ("closes", "fills"),
    [
        ((*UP, 106, 108, 95), [(6, 1, 104), (8, -1, 104 - 2 * 4)]),
        ((*UP, 106, 108, 150), [(6, 1, 104), (8, -1, 104 + 10 * 4)]),
        ((*DOWN, 94, 92, 105), [(6, -1, 96), (8, 1, 96 + 2 * 4)]),
        ((*DOWN, 94, 92, 50), [(6, -1, 96), (8, 1, 96 - 10 * 4)]),
    ],
    ids=["stop of a long", "target of a long", "stop of a short", "target of a short"],
)
def test_a_breakout_is_bought_with_a_stop_and_a_target_in_ranges_from_its_close(broker, closes, fills):
    told = trade(broker, DonchianBreakout, bars(*closes), multiple=2, **CHANNELS)
    assert told.fills == fills
    assert told.ends == [(8, "Canceled")]  # the other exit


@on_both
@pytest.mark.parametrize(
    ("closes", "fills"),
    [
        ((*UP, 106, 108, 103, 103, 103), [(6, 1, 104), (9, -1, 103)]),  # bar 8 closes below 104, the low of bars 6 and 7
        ((*DOWN, 94, 92, 97, 97, 97), [(6, -1, 96), (9, 1, 97)]),
    ],
    ids=["long", "short"],
)
def test_the_shorter_channel_ends_a_trade_and_takes_the_bracket_with_it(broker, closes, fills):
    told = trade(broker, DonchianBreakout, bars(*closes), multiple=2, **CHANNELS)
    assert told.fills == fills
    assert [status for _, status in told.ends] == ["Canceled", "Canceled"]  # stop and target, before the sale


@on_both
def test_the_channel_is_made_of_highs_and_lows(broker):
    wicks = [(100, 106, 94, 100)] * 4  # 104 is above every close and below every high
    told = trade(broker, DonchianBreakout, frame([*wicks, (100, 104, 100, 104), (104, 107, 104, 107), (107, 107, 107, 107)]), **CHANNELS)
    assert told.fills == [(7, 1, 107)]


@on_both
def test_after_a_stop_it_waits_for_another_breakout(broker):
    closes = (100, 100, 100, 100, 90, 100, 100, 104, 106, 108, 95, 100, 112, 112)
    told = trade(broker, DonchianBreakout, bars(*closes), multiple=2, **{**CHANNELS, "entry": 6})
    assert told.fills == [(9, 1, 104), (11, -1, 96), (14, 1, 112)]  # bar 13 is the first above 108


@on_both
def test_a_refused_breakout_is_not_repeated_while_the_move_goes_on(broker):
    closes = [*UP, *range(106, 126, 2), *range(124, 104, -2), *range(106, 126, 2)]
    told = trade(broker, DonchianBreakout, bars(*closes), cash=50, **CHANNELS, stop_atr=100)
    longs = [bar for bar in told.refusals if closes[bar - 2] > closes[bar - 3]]
    assert longs == [6, 29]  # bar 5 breaks out; bar 28 is the first above its channel after the fall


def test_sizers_are_told_the_stop_that_its_bracket_has():
    stops = []

    class Asked(DonchianBreakout):
        def notify_order(self, order):
            super().notify_order(order)
            if order.exectype == bt.Order.Stop and order.status == order.Submitted:
                stops.append((order.created.price, self.getsizer().decisions[-1].stop))

    run(Asked, {"BTCUSDT": walk(400)}, leverage=5, sizer=RiskToStop)
    assert len(stops) > 3
    assert all(order == told for order, told in stops)


def test_a_stop_far_below_zero_becomes_a_price_the_venue_takes():
    told = trade("margin", DonchianBreakout, bars(*UP, 106, 108), **CHANNELS, stop_atr=100)
    assert told.fills == [(6, 1, 104)]


# -- RSI reversion ---------------------------------------------------------------------------------------------------

# An RSI of one bar is 0 after a fall, 100 after a rise, 50 where the price stands.
SWINGS = (100, 100, 98, 97, 99, 99, 101, 102, 102, 102)


@on_both
def test_it_buys_a_fall_sells_a_rise_and_leaves_at_the_middle(broker):
    told = trade(broker, RsiReversion, bars(*SWINGS), period=1)
    # bar 3 falls, bar 5 rises; bar 7 rises, bar 9 stands
    assert told.fills == [(4, 1, 98), (6, -1, 99), (8, -1, 101), (10, 1, 102)]


@on_both
def test_a_price_that_stands_is_back_at_the_middle(broker):
    told = trade(broker, RsiReversion, bars(100, 100, 98, 98, 98), period=1)
    assert told.fills == [(4, 1, 98), (5, -1, 98)]


def test_what_a_refused_cover_has_left_is_bought_at_the_next_extreme_and_not_added_to():
    candles = bars(100, 100, 101, 102, 160, 150, 140, 120, 110, 125, 133, 133)
    candles.iloc[4, :3] = 160
    told = trade("stock", RsiReversion, candles, stake=300, period=2, oversold=0.1)
    # 300 sold at 101 leave 40 300, too little for 140, where the RSI is back at the middle, and enough for 133
    assert told.refusals == [8]
    assert told.fills == [(4, -300, 101), (12, 300, 133)]


@on_both
def test_a_market_that_stands_still_has_an_rsi_in_the_middle(broker):
    told = trade(broker, RsiReversion, bars(*[100] * 40))
    assert told.fills == told.ends == []


def test_a_swing_is_traded_once_whatever_became_of_the_trade():
    closes = (100, 100, 98, 97, 80, 79, 78, 79, 78, 78)
    told = trade("margin", RsiReversion, bars(*closes), cash=1_000, multiple=20, stake=100, period=1)
    # 100 bought at 98 with 1 000: equity meets 1 % of maintenance at (9 800 - 1 000) / 99 = 88.889
    assert told.fills == near((4, 100, 98), (5, -100, 8_800 / 99))
    assert told.refusals == [10]  # what bar 9's fall would buy can no longer be paid


@on_both
def test_a_refused_purchase_waits_for_the_next_swing(broker):
    told = trade(broker, RsiReversion, bars(*line(100, 90, 11), 91, *line(90, 80, 11)), cash=50, period=1)
    assert told.refusals == [3, 14]  # sent on bars 2 and 13, the first of each fall


# -- volatility target -----------------------------------------------------------------------------------------------

# Every bar moves 1 %: with 400 bars in a year volatility is 0.01 * sqrt(400) = 20 %.
QUICK = {"fast": 1, "slow": 2, "vol_span": 2, "bars_per_year": 400}


def growth(count: int, rate: float = 0.01, start: float = 100.0) -> list[float]:
    return [start * (1 + rate) ** number for number in range(count)]


@pytest.mark.parametrize(
    ("target_vol", "max_leverage", "weight"), [(0.1, 2.0, 0.1 / 0.2), (0.4, 3.0, 0.4 / 0.2), (0.8, 3.0, 3.0)], ids=["half", "double", "cap"]
)
def test_the_position_is_target_volatility_over_volatility_up_to_the_cap(target_vol, max_leverage, weight):
    told = trade("margin", VolatilityTarget, bars(*growth(5)), multiple=5, target_vol=target_vol, max_leverage=max_leverage, **QUICK)
    assert told.fills == near((4, weight * 10_000 / 102.01, 102.01))  # two returns, three bars, and the next open


@on_both
def test_a_market_that_stands_still_has_no_trend_to_hold(broker):
    told = trade(broker, VolatilityTarget, bars(*[100] * 20), **QUICK)
    assert told.fills == told.ends == []


def test_stock_backtrader_brings_it_there_in_whole_units():
    told = trade("stock", VolatilityTarget, bars(*growth(5)), target_vol=0.1, **QUICK)
    assert told.fills == near((4, 5_000 // 102.01, 102.01))


@on_both
def test_it_rebalances_only_outside_the_buffer(broker):
    told = trade(broker, VolatilityTarget, bars(*growth(26)), target_vol=0.1, **QUICK)
    # grown by g, the position is g / (1 + g) of equity: above 0.5 * 1.1 from g = 0.55 / 0.45 on, at 1.01 ** 21
    assert [bar for bar, _, _ in told.fills] == [4, 3 + 21 + 1]
    assert told.fills[1][1] < 0


def test_without_a_buffer_it_rebalances_on_every_bar():
    told = trade("margin", VolatilityTarget, bars(*growth(10)), target_vol=0.1, buffer=0.0, **QUICK)
    assert [bar for bar, _, _ in told.fills] == [4, 5, 6, 7, 8, 9, 10]


@on_both
@pytest.mark.parametrize("allow_short", [True, False])
def test_a_falling_trend_is_sold_short_or_sat_out(broker, allow_short):
    peak = growth(10)[-1]
    closes = [*growth(10), *growth(5, rate=-0.01, start=peak * 0.99)]
    told = trade(broker, VolatilityTarget, bars(*closes), target_vol=0.1, allow_short=allow_short, **QUICK)
    held = sum(size for _, size, _ in told.fills)
    assert [bar for bar, _, _ in told.fills] == [4, 12]  # bar 11 is the first to fall
    assert held < 0 if allow_short else held == 0


@on_both
def test_a_refused_order_is_not_repeated_before_the_estimate_is_a_new_one(broker):
    slow = {**QUICK, "vol_span": 10}
    told = trade(broker, VolatilityTarget, bars(*growth(35)), target_vol=0.8, max_leverage=3.0, **slow)  # 3x on a 1x account
    # ten returns are there on bar 11; refused on bar 12, it waits until bar 22, and again until bar 33
    assert told.refusals == [12, 23, 34]


# -- martingale grid -------------------------------------------------------------------------------------------------

RUNGS = (100.0, 98.0, 98 * 0.98, 98 * 0.98**2)  # each 2 % below the one before
AVERAGE = (1 * RUNGS[0] + 2 * RUNGS[1] + 4 * RUNGS[2] + 8 * RUNGS[3]) / 15  # 95.54


@on_both
def test_each_rung_is_twice_the_last_and_all_is_sold_above_the_average(broker):
    told = trade(broker, MartingaleGrid, bars(100, 100, 97.5, 95.9, 94, 100, 100))
    rungs = [(2 + number, 2**number, price) for number, price in enumerate(RUNGS)]
    assert told.fills == near(*rungs, (6, -15, AVERAGE * 1.01), (7, 1, 100))  # and begins anew


@on_both
def test_it_stops_adding_at_its_last_level(broker):
    told = trade(broker, MartingaleGrid, bars(100, 100, 97.5, 95.9, 94, 90, 80), levels=2)
    assert told.fills == near((2, 1, 100), (3, 2, 98))


@on_both
def test_a_bar_that_reaches_both_the_sale_and_the_next_rung_fills_one_of_them(broker):
    told = trade(broker, MartingaleGrid, frame([(100, 100, 100, 100)] * 2 + [(100, 102, 97, 99), (99, 99, 99, 99)]))
    assert told.fills == near((2, 1, 100), (3, -1, 101), (4, 1, 99))


@on_both
def test_a_rung_that_fills_in_part_is_planned_anew(broker):
    candles = bars(100, 100, 97.5, 95.9, 95.9).assign(volume=100)
    told = trade(broker, MartingaleGrid, candles, filler=bt.broker.fillers.FixedSize(size=3))
    # 1, 2 and 3 of 4 are bought; on sale is what is held, and the one that was left has gone
    assert told.strategy.position.size == 6
    assert sorted(order.size for order in told.strategy.broker.get_orders_open()) == [-6, 8]


@on_both
def test_a_rung_that_cannot_be_paid_leaves_the_sale_of_the_rest_standing(broker):
    told = trade(broker, MartingaleGrid, bars(100, 100, 97.5, 95.9, 94, 94, 100), cash=600)
    # 600 - 100 - 2 * 98 = 304 is less than 4 * 96.04
    assert told.refusals == [4]
    assert told.fills == near((2, 1, 100), (3, 2, 98), (7, -3, (100 + 2 * 98) / 3 * 1.01))


@on_both
def test_a_first_rung_that_cannot_be_paid_is_tried_again_a_step_lower(broker):
    told = trade(broker, MartingaleGrid, bars(*range(100, 89, -1)), cash=50)
    # refused at 99, it waits for 99 * 0.98 = 97.02; refused at 96, for 94.08; at 93, for 91.14
    assert told.refusals == [2, 5, 8, 11]


@on_both
def test_once_it_has_begun_it_begins_again_at_any_price(broker):
    told = trade(broker, MartingaleGrid, bars(100, 99, 97, 97, 98, 98, 98), cash=98)
    # refused at 100, bought at 97 a step lower; sold at 98, the open above 97.97, it buys there again
    assert told.fills == near((4, 1, 97), (6, -1, 98), (7, 1, 98))


@on_both
def test_a_market_that_goes_sideways_pays_it(broker):
    wave = [*line(100, 93, 8), *line(94, 102, 9), *line(101, 101, 1)]
    told = trade(broker, MartingaleGrid, bars(*wave * 10), multiple=10, stake=10)
    sales = [size for _, size, _ in told.fills if size < 0]
    assert len(sales) >= 10
    assert told.values[-1] > 10_000 + 10 * 31 * 10 * 0.5  # at least half a unit of price on every wave's full grid
    assert min(told.values) > 5_000


def test_a_fall_that_goes_on_is_the_end_where_stock_waits_for_the_recovery():
    fall = [100.0, 100.0, *line(99, 60, 40), *line(61, 101, 41)]
    stock, margin = (trade(broker, MartingaleGrid, bars(*fall), multiple=10, stake=10) for broker in ("stock", "margin"))
    # Both hold 10 * 31 = 310 at an average near 94.4; 10 000 of cash are gone at about 62.
    assert [size for _, size, _ in margin.fills[:6]] == [10, 20, 40, 80, 160, -310]
    assert margin.fills[5][2] == pytest.approx((sum(size * price for _, size, price in margin.fills[:5]) - 10_000) / (310 * 0.99))
    assert margin.values[-1] < 1_000
    assert min(stock.values) < 0
    assert stock.values[-1] > 10_000


# -- buy and hold ----------------------------------------------------------------------------------------------------


@on_both
@pytest.mark.parametrize("leverage", [1, 3])
def test_it_buys_leverage_times_equity_less_what_it_spares_and_never_again(broker, leverage):
    told = trade(broker, BuyAndHold, bars(100, 100, 120, 90, 110), multiple=5, leverage=leverage)
    size = 10_000 * 0.98 * leverage / 100
    assert told.fills == near((2, size, 100))
    assert told.values[-1] == pytest.approx(10_000 + size * 10)


def test_contracts_of_a_tenth_of_a_coin_are_ten_times_as_many():
    told = trade("margin", BuyAndHold, bars(100, 100, 110), multiple=5, mult=0.1, leverage=2)
    assert told.fills == near((2, 10_000 * 0.98 * 2 / (100 * 0.1), 100))
    assert told.values[-1] == pytest.approx(10_000 + 1_960 * 0.1 * 10)


def test_sold_by_the_venue_it_stays_out():
    told = trade("margin", BuyAndHold, bars(100, 100, 85, 100, 200), multiple=10, leverage=10)
    # 980 bought at 100 with 10 000: equity meets 1 % of maintenance at (98 000 - 10 000) / (980 * 0.99)
    assert told.fills == near((2, 980, 100), (3, -980, 88_000 / (980 * 0.99)))


@on_both
def test_a_leverage_the_broker_does_not_allow_is_asked_for_once(broker):
    told = trade(broker, BuyAndHold, bars(*[100] * 30), multiple=2, leverage=3)
    assert told.fills == []
    assert told.refusals == [2]
