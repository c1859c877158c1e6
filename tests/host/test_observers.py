"""Observers write what the broker says of each bar, the same in every run mode, and draw it where it belongs.

The scripts are those of ``playing``: unless a test says otherwise no fees, maintenance 1 %, 10x isolated, 1 000 of cash.
"""

import io
from datetime import datetime
from math import isnan, nan

import backtrader as bt
import numpy as np
import pytest
from backtrader.linebuffer import LineBuffer
from playing import CALM, Script, buy, close, frame, sell

import bt_margin
from bt_margin import MarginBroker, PerpCommInfo, PerpData
from bt_margin.observers import LiquidationPrice, MarginRatio, WalletEquity

CRASH = (100, 100, 80, 85)
LIQUIDATION_PRICE = 90 / 0.99
MODES = {
    "runonce": {},
    "runnext": {"runonce": False},
    "no_preload": {"preload": False},
    "neither": {"runonce": False, "preload": False},
    "exactbars_but_for_indicators": {"exactbars": -1},
    "exactbars_but_for_plotted_indicators": {"exactbars": -2},
}


class Slow(Script):
    """Begins after a warm-up of three bars."""

    def __init__(self):
        super().__init__()
        self.mean = bt.ind.SMA(self.data, period=3)


class Trader(bt.Strategy):
    """Moves each data to a target drawn at random."""

    def __init__(self):
        self.draw = np.random.default_rng(5)

    def prenext(self):
        self.next()

    def next(self):
        for data in self.datas:
            chance, side = self.draw.random(2)
            if len(data) and chance < 0.2:
                self.order_target_percent(data, target=side * 6 - 3)


def watch(strategy, *candles, terms=None, cash=1_000, margin_mode="isolated", script=None, prepare=None, **settings) -> bt.Strategy:
    """Run a strategy with the three observers, LiquidationPrice on every data, and return it."""
    cerebro = bt.Cerebro(stdstats=False, **settings)
    cerebro.broker = MarginBroker(cash=cash, margin_mode=margin_mode, check=True)
    cerebro.broker.addcommissioninfo(PerpCommInfo(**{"leverage": 10, "tiers": 0.01, "liquidation_fee": 0.0, **(terms or {})}))
    for number, candle_frame in enumerate(candles):
        cerebro.adddata(PerpData(dataname=candle_frame, name="ABC"[number] * 3))
    cerebro.addobservermulti(LiquidationPrice)
    cerebro.addobserver(MarginRatio)
    cerebro.addobserver(WalletEquity)
    cerebro.addstrategy(strategy, **({"script": script} if script is not None else {}))
    if prepare is not None:
        prepare(cerebro)
    return cerebro.run()[0]


def line(observer, name) -> list[float]:
    """Return all values of an observer's line."""
    return list(getattr(observer.l, name).get(size=len(observer)))


def lines(strategy) -> dict[str, list[float]]:
    """Return every line of every observer of ours, NaN as None so that equal lines are equal."""
    stats = strategy.stats
    observers = {f"price of {price.data._name}": price for price in stats.liquidationprice}
    observers |= {"ratio": stats.marginratio, "account": stats.walletequity}
    return {
        f"{title}: {name}": [None if isnan(value) else value for value in line(observer, name)]
        for title, observer in observers.items()
        for name in observer.getlinealiases()
    }


def walk(rows=120, seed=1):
    """Return hourly candles of a random walk."""
    draw = np.random.default_rng(seed)
    closes = 100 * np.exp(np.cumsum(draw.normal(0, 0.01, rows)))
    opens = np.concatenate([[100.0], closes[:-1]])
    return frame(list(zip(opens, np.maximum(opens, closes) * 1.004, np.minimum(opens, closes) * 0.996, closes, strict=True)))


def test_liquidation_price_is_written_while_something_is_held():
    strategy = watch(Script, frame([CALM] * 6), script={1: buy(), 4: close})
    (price,) = strategy.stats.liquidationprice
    assert line(price, "price") == pytest.approx([nan, *[LIQUIDATION_PRICE] * 3, nan, nan], nan_ok=True)


def test_liquidation_price_of_a_short_is_above_its_entry():
    strategy = watch(Script, frame([CALM] * 3), script={1: sell()})
    assert line(strategy.stats.liquidationprice[0], "price") == pytest.approx([nan, 110 / 1.01, 110 / 1.01], nan_ok=True)


def test_a_position_that_no_price_liquidates_has_no_liquidation_price():
    strategy = watch(Script, frame([CALM] * 3), script={1: buy()}, margin_mode="cross")  # 1 000 stand behind a notional of 100
    assert all(map(isnan, line(strategy.stats.liquidationprice[0], "price")))
    assert line(strategy.stats.marginratio, "ratio") == pytest.approx([nan, 1 / 1_000, 1 / 1_000], nan_ok=True)


def test_liquidation_price_is_gone_on_the_bar_that_liquidates():
    strategy = watch(Script, frame([CALM, CALM, CRASH, CALM]), script={1: buy()})
    assert line(strategy.stats.liquidationprice[0], "price") == pytest.approx([nan, LIQUIDATION_PRICE, nan, nan], nan_ok=True)
    assert line(strategy.stats.marginratio, "ratio") == pytest.approx([nan, 1 / 10, nan, nan], nan_ok=True)


def test_every_data_has_its_own_liquidation_price():
    strategy = watch(Script, frame([CALM] * 3), frame([CALM] * 3), script={1: lambda strategy: strategy.sell(strategy.datas[1], size=1)})
    first, second = strategy.stats.liquidationprice
    assert all(map(isnan, line(first, "price")))
    assert line(second, "price") == pytest.approx([nan, 110 / 1.01, 110 / 1.01], nan_ok=True)


def test_added_once_it_watches_the_first_data():
    def add(cerebro):
        cerebro.addobserver(LiquidationPrice, obsname="single")

    strategy = watch(Script, frame([CALM] * 3), frame([CALM] * 3), script={1: buy()}, prepare=add)
    assert strategy.stats.single.data is strategy.data
    assert line(strategy.stats.single, "price") == pytest.approx([nan, LIQUIDATION_PRICE, LIQUIDATION_PRICE], nan_ok=True)


def test_margin_ratio_rises_to_liquidation():
    bars = [(price,) * 4 for price in (100, 100, 90.5, 90, 89, 100)]  # 9 at 100 on 100 of cash are liquidated at 800 / 8.91 = 89.79
    strategy = watch(Script, frame(bars), script={1: buy(size=9)}, cash=100, margin_mode="cross")
    ratios = [nan, 9 / 100, 8.145 / 14.5, 8.1 / 10, nan, nan]
    assert line(strategy.stats.marginratio, "ratio") == pytest.approx(ratios, nan_ok=True)


def test_the_margin_ratio_is_that_of_the_wallet_nearest_to_liquidation():
    def both(strategy):
        strategy.buy(strategy.data0)
        strategy.buy(strategy.data1)

    falls, rises = ([(price,) * 4 for price in (100, 100, end)] for end in (92, 120))
    strategy = watch(Script, frame(falls), frame(rises), script={1: both})  # 10 of margin each, 980 in the cross wallet
    ratios = [nan, 1 / 10, 0.92 / 2]  # the account's would be 2.12 / 1 012
    assert line(strategy.stats.marginratio, "ratio") == pytest.approx(ratios, nan_ok=True)


def test_wallet_and_equity_part_by_the_unrealized_profit():
    bars = [CALM, CALM, (100, 105, 100, 105), (105, 105, 105, 105), CALM]
    strategy = watch(Script, frame(bars), script={1: buy(), 3: close}, terms={"commission": 0.001})
    account = strategy.stats.walletequity
    assert line(account, "wallet_balance") == pytest.approx([1_000, 999.9, 999.9, 999.9 + 5 - 0.105, 999.9 + 5 - 0.105])
    assert line(account, "equity") == pytest.approx([1_000, 999.9, 999.9 + 5, 999.9 + 5 - 0.105, 999.9 + 5 - 0.105])


@pytest.mark.parametrize("mode", MODES)
def test_bars_of_the_warm_up_are_observed_too(mode):
    strategy = watch(Slow, frame([CALM] * 6), script={3: buy()}, **MODES[mode])
    assert line(strategy.stats.walletequity, "equity") == [1_000] * 6
    assert line(strategy.stats.liquidationprice[0], "price") == pytest.approx([nan] * 3 + [LIQUIDATION_PRICE] * 3, nan_ok=True)


@pytest.fixture(scope="module")
def together() -> dict:
    """All lines over two datas in step, runonce and preload on."""
    observed = lines(watch(Trader, walk(), walk(seed=2), margin_mode="cross"))
    assert {len(values) for values in observed.values()} == {120}
    assert all(sum(value is not None for value in values) > 50 for values in observed.values())
    return observed


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "runonce"])
def test_every_run_mode_writes_equal_lines(mode, together):
    assert lines(watch(Trader, walk(), walk(seed=2), margin_mode="cross", **MODES[mode])) == together


@pytest.mark.parametrize("mode", MODES)
def test_datas_out_of_step_get_one_liquidation_price_for_each_of_their_bars(mode):
    """The first data has holes, begins later and ends sooner; its price stands beside its own bars in every mode."""
    holed = walk(seed=2).iloc[10:100].drop(walk().index[20:90:3])
    strategy = watch(Trader, holed, walk(), margin_mode="cross", **MODES[mode])
    sparse, full = strategy.stats.liquidationprice
    assert len(sparse) == len(holed) == len(sparse.data)
    assert len(full) == len(strategy.stats.marginratio) == len(strategy.stats.walletequity) == 120
    assert lines(strategy) == lines(watch(Trader, holed, walk(), margin_mode="cross"))


@pytest.mark.parametrize("mode", MODES)
def test_a_data_that_never_begins_has_an_empty_line(mode):
    cerebro = bt.Cerebro(stdstats=False, **MODES[mode])
    cerebro.broker = MarginBroker()
    cerebro.adddata(bt.feeds.PandasData(dataname=frame([CALM] * 3), fromdate=datetime(2025, 1, 1)))
    cerebro.adddata(PerpData(dataname=frame([CALM] * 3), name="AAA"))
    cerebro.addobservermulti(LiquidationPrice)
    (strategy,) = cerebro.run()
    assert [len(price) for price in strategy.stats.liquidationprice] == [0, 3]


def test_memory_saving_keeps_the_last_values(together):
    strategy = watch(Trader, walk(), walk(seed=2), margin_mode="cross", exactbars=1)
    assert strategy.stats.marginratio.l.ratio[0] == together["ratio: ratio"][-1]
    assert strategy.stats.walletequity.l.equity[0] == together["account: equity"][-1]
    assert [price.l.price[0] for price in strategy.stats.liquidationprice] == [
        together[f"price of {name}: price"][-1] for name in ("AAA", "BBB")
    ]


def test_a_writer_has_a_column_for_every_line():
    out = io.StringIO()
    watch(Script, frame([CALM] * 3), script={1: buy()}, prepare=lambda cerebro: cerebro.addwriter(bt.WriterFile, csv=True, out=out))
    headers, *rows = [written.split(",") for written in out.getvalue().splitlines()[1:5]]
    written = [dict(zip(headers, row, strict=True)) for row in rows]
    assert [row["price"] for row in written] == ["", str(LIQUIDATION_PRICE), str(LIQUIDATION_PRICE)]
    assert [row["ratio"] for row in written] == ["", "0.1", "0.1"]
    assert [(float(row["wallet_balance"]), float(row["equity"])) for row in written] == [(1_000, 1_000)] * 3


@pytest.mark.parametrize("kind", [LiquidationPrice, MarginRatio, WalletEquity])
@pytest.mark.parametrize("add", ["addobserver", "addobservermulti"])
def test_another_broker_is_refused_in_one_sentence(kind, add):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=frame([CALM] * 3)))
    getattr(cerebro, add)(kind)
    said = rf"bt_margin\.observers\.{kind.__name__} reads a MarginBroker and this run has a BackBroker; use plug\(cerebro, \.\.\.\) before"
    with pytest.raises(ValueError, match=said):
        cerebro.run()


def test_each_says_where_it_is_drawn_and_how_its_number_is_made():
    strategy = watch(Script, frame([CALM] * 3), script={})
    (price,), ratio, account = strategy.stats.liquidationprice, strategy.stats.marginratio, strategy.stats.walletequity
    assert not price.plotinfo.subplot
    assert price.plotinfo.plot
    assert [pane.plotinfo.plot and pane.plotinfo.subplot for pane in (ratio, account)] == [True, True]
    assert ratio.plotinfo.plotname == "Margin ratio = maintenance margin / equity (1 = liquidation)"
    assert ratio.plotinfo.plothlines == [0.5, 0.8, 1.0]


# -- lines that are written late ---------------------------------------------------------------------------------------


class Dealer(bt.Strategy):
    """Trades all datas by chance, now and then moves money, and may read its observers by one of several ways."""

    params = (("seed", 0), ("every", 0), ("way", 0))
    ways = (
        lambda strategy: strategy.stats.marginratio.lines.ratio[-1],
        lambda strategy: len(strategy.stats.walletequity),
        lambda strategy: strategy.stats.liquidationprice[0].l.price.get(size=2).tolist(),
        lambda strategy: strategy.kept.array[-1],
        lambda strategy: strategy.stats.walletequity.lines.equity.idx,
    )

    def __init__(self):
        self.draw, self.seen = np.random.default_rng(self.p.seed), []

    def start(self):
        self.kept = self.stats.marginratio.lines.ratio

    def next(self):
        if self.p.every and len(self) > 2 and len(self) % self.p.every == 0:
            self.seen.append(repr(self.ways[self.p.way](self)))
        for data in self.datas:
            chance, side = self.draw.random(2)
            if chance < 0.02:
                self.order_target_percent(data, target=side * 6 - 3)
            elif chance < 0.03:
                self.buy(data, exectype=bt.Order.Limit, price=data.close[0] * 0.99, size=0.5)
        if self.draw.random() < 0.01:
            self.broker.add_cash(10.0)
        if self.draw.random() < 0.01:
            self.broker.set_cash(self.broker.getcash() + 5.0)


def observed(cerebro_class, *, datas, modes, kinds=("linear",) * 3, prepare=None, **params):
    """Return what a Dealer has seen, the bits of every observer's lines, and the Cerebro."""
    cerebro = cerebro_class(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000)
    for number in range(datas):
        name = "ABC"[number] * 3
        kind = {"kind": "spot", "leverage": 1} if kinds[number] == "spot" else {"leverage": 10, "tiers": TIERS_OF_TWO}
        cerebro.broker.addcommissioninfo(PerpCommInfo(commission=0.0005, margin_mode=modes[number], **kind), name=name)
        cerebro.adddata(PerpData(dataname=walk(300, seed=number + 1), name=name))
    cerebro.addobservermulti(LiquidationPrice)
    cerebro.addobserver(MarginRatio)
    cerebro.addobserver(WalletEquity)
    cerebro.addstrategy(Dealer, **params)
    if prepare is not None:
        prepare(cerebro)
    (strategy,) = cerebro.run()
    kept = [(value.array.tobytes(), value.idx, len(value)) for observer in strategy.observers_in_turn() for value in observer.lines.lines]
    return strategy.seen, kept, cerebro


TIERS_OF_TWO = [(300, 0.01, 20), (None, 0.02, 10)]
Dealer.observers_in_turn = lambda strategy: list(strategy._lineiterators[strategy.ObsType])


def late_and_asked(**run):
    """Return what was seen; both must have seen and written the same, bit for bit."""
    late, asked = observed(bt_margin.Cerebro, **run), observed(bt.Cerebro, **run)
    assert late[2].host_loop_reason == ""
    assert late[:2] == asked[:2]
    return late[0]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("modes", ["cross", "isolated", "mixed"])
@pytest.mark.parametrize("datas", [1, 3])
def test_lines_that_are_written_late_have_the_bits_of_those_that_were_asked_for(seed, modes, datas):
    late_and_asked(datas=datas, modes=["isolated", "cross", "cross"] if modes == "mixed" else [modes] * 3, seed=seed)


def test_spot_beside_a_perpetual_is_observed_late_too():
    late_and_asked(datas=3, modes=["cross"] * 3, kinds=("spot", "linear", "spot"), seed=4)


@pytest.mark.parametrize("every", [1, 40])
@pytest.mark.parametrize("way", range(len(Dealer.ways)))
def test_whoever_looks_at_a_line_during_the_run_finds_it_written(way, every):
    seen = late_and_asked(datas=2, modes=["cross", "cross"], seed=5, way=way, every=every)
    assert len(seen) == (298 if every == 1 else 7)


def test_the_broker_is_hardly_asked_where_nobody_looks(monkeypatch):
    asked = []
    say = WalletEquity.say
    monkeypatch.setattr(WalletEquity, "say", lambda observer: asked.append(1) or say(observer))
    late_and_asked(datas=1, modes=["cross"], seed=6)
    assert 0 < len(asked) - 300 < 60  # the host's loop asked on all 300 bars


def test_an_observer_of_a_class_of_its_own_is_asked_on_every_bar():
    class Doubled(MarginRatio):
        def next(self):
            super().next()
            self.l.ratio[0] *= 2

    def add(cerebro):
        cerebro.addobserver(Doubled)
        cerebro.addobserver(bt.observers.Value)

    late_and_asked(datas=1, modes=["cross"], seed=7, prepare=add)


def test_lines_are_whole_after_a_strategy_that_stops_or_fails():
    class Failing(Dealer):
        def next(self):
            super().next()
            if len(self) == 50:
                raise ZeroDivisionError

    cerebro = bt_margin.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=1_000)
    cerebro.adddata(PerpData(dataname=walk(100), name="AAA"))
    cerebro.addobserver(MarginRatio)
    cerebro.addobserver(WalletEquity)
    cerebro.addstrategy(Failing)
    with pytest.raises(ZeroDivisionError):
        cerebro.run()
    account = cerebro.runningstrats[0].stats.walletequity
    assert len(account) == 49
    assert type(account.l.equity) is LineBuffer
