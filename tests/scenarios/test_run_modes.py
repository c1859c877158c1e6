"""The host may hand over bars all at once or one by one, keep few of them, or make them of finer ones: an account is the same."""

import backtrader as bt
import pandas as pd
import pytest
from scenarios.test_random_hedger import RandomHedger
from scenarios.test_random_trader import TIERS, RandomTrader, wild_frame

from bt_margin import MarginBroker, PerpCommInfo, PerpData, TopUp

MODES = {
    "runnext": {"runonce": False},
    "no preload": {"preload": False},
    "neither": {"runonce": False, "preload": False},
    "exactbars": {"exactbars": -1},
}
ACCOUNTS = {
    "one way": {},
    "worst": {"intrabar": "worst"},
    "hedge": {"position_mode": "hedge"},
    "shrunk, topped up, refilled": {
        "unfunded": "shrink",
        "on_liquidation": "refill",
        "refill": 9_000,
        "top_up": {"BBB": TopUp(ratio=2.0, times=2), "cross": TopUp(amount=500, deposit=True)},
        "warning_rate": 3.0,
        "warning_distance": 0.05,
        "warning_atr": 3.0,
    },
}
COLUMNS = ["open", "high", "low", "close", "volume"]


def run_trader(account, *, detailed=False, seed=7, **mode):
    """Run a random trader on hours of two contracts, AAA cross and BBB isolated (at worst cross); with detail, on quarters inside."""
    cerebro = bt.Cerebro(stdstats=False, **mode)
    cerebro.broker = MarginBroker(cash=10_000, check=True, **account)
    modes = ("cross", "cross" if account.get("intrabar") == "worst" else "isolated")
    for number, (name, margin_mode) in enumerate(zip(("AAA", "BBB"), modes, strict=True)):
        terms = {"leverage": (20, 10)[number], "commission": 0.0005, "maker": 0.0002, "tiers": TIERS}
        cerebro.broker.addcommissioninfo(PerpCommInfo(margin_mode=margin_mode, **terms), name=name)
        frame = wild_frame(90 + number, 300, start=(100.0, 3.0)[number])
        detail = None
        if detailed:
            frame, detail = in_hours(frame), in_quarters(frame)
        cerebro.adddata(PerpData(dataname=frame, name=name, detail=detail))
    cerebro.addstrategy(RandomHedger if account.get("position_mode") else RandomTrader, seed=seed, appetite=0.4)
    return cerebro.run()[0]


def in_quarters(frame):
    """Take every four hours for four quarters of an hour."""
    return frame[COLUMNS].set_axis(pd.date_range("2024-01-01", periods=len(frame), freq="15min", tz="UTC"))


def in_hours(frame):
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    return in_quarters(frame).resample("1h").agg(rules)


def told(strategy):
    record, journal = strategy.broker.record, strategy.broker.journal
    fills = [row[:-1] for row in record.fills]  # but for the number of the order, which counts on from run to run
    return strategy.seen, record.table().tolist(), fills, record.liquidations, record.warnings, record.top_ups, list(journal)


@pytest.fixture(scope="module")
def at_once():
    """What is told of each account by the host's usual run."""
    return {name: told(run_trader(account)) for name, account in ACCOUNTS.items()} | {"detail": told(run_trader({}, detailed=True))}


@pytest.mark.parametrize("account", [*ACCOUNTS, "detail"])
@pytest.mark.parametrize("mode", MODES)
def test_an_account_is_the_same_in_every_run_mode(at_once, account, mode):
    again = told(run_trader(ACCOUNTS.get(account, {}), detailed=account == "detail", **MODES[mode]))
    assert again == at_once[account]


def test_the_accounts_that_are_compared_hold_what_they_are_named_after(at_once):
    bars, fills, liquidations, warnings, top_ups, journal = zip(*(at_once[name][1:] for name in ACCOUNTS), strict=True)
    assert all(map(len, bars))
    assert all(map(len, fills))
    assert all(map(len, liquidations))
    assert bars[0] != bars[1]
    assert [len(rows) > 0 for rows in warnings] == [False, False, False, True]
    assert [len(rows) > 0 for rows in top_ups] == [False, False, False, True]
    assert sum(row.kind == "deposit" for row in journal[3]) > 3
    assert at_once["detail"][3]


class Swinger(bt.Strategy):
    """Goes long and short by turns, with a stop and a target, and knows nothing but closed hours."""

    def __init__(self):
        self.seen = []
        self.known = 0

    def notify_order(self, order):
        if order.status == order.Completed:
            self.seen.append((order.executed.size, order.executed.price, bool(order.info.get("liquidation"))))

    def next(self):
        if len(self.data) == self.known:
            return
        self.known = len(self.data)
        if len(self.data) % 12 == 0 and self.broker.getcash() > 1:
            self.close()
            send = self.buy_bracket if len(self.data) % 24 else self.sell_bracket
            price, side = self.data.close[0], 1 if len(self.data) % 24 else -1
            exits = {"stopprice": price * (1 - 0.06 * side), "limitprice": price * (1 + 0.05 * side)}
            send(size=0.6 * 20 * self.broker.getcash() / price, exectype=bt.Order.Market, **exits)


def swung(add, frame, **how):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker = MarginBroker(cash=10_000, check=True)
    cerebro.broker.addcommissioninfo(PerpCommInfo(leverage=20, tiers=0.01, liquidation_fee=0.01, commission=0.0005))
    getattr(cerebro, add)(PerpData(dataname=frame, name="AAA"), **how)
    cerebro.addstrategy(Swinger)
    strategy = cerebro.run()[0]
    return strategy.seen, strategy.broker.equity


def test_hours_that_the_host_makes_of_quarters_trade_as_hours_of_ones_own():
    frame = wild_frame(3, 1_200, start=100.0)
    hours, hour = {"timeframe": bt.TimeFrame.Minutes, "compression": 60}, in_hours(frame)
    own, equity = swung("adddata", hour)
    made, made_equity = swung("resampledata", in_quarters(frame), **hours)
    assert any(is_liquidation for _, _, is_liquidation in own)
    assert len(own) > 10
    assert made == own
    assert made_equity == equity


class LooksBack(bt.Strategy):
    """Has an average of the closes alone, so that where few bars are kept more closes than stamps and opens are."""

    def __init__(self):
        self.average = bt.ind.SMA(self.data.close, period=5)
        self.placed, self.values = [], []

    def next(self):
        if len(self) % 7 == 0:
            order = self.order_target_percent(target=0.5 if len(self) % 2 else -0.5)
            self.placed.append((order.created.price, order.created.pclose))
        self.values.append((len(self), self.broker.getvalue(), self.broker.getcash()))


def test_lines_of_which_more_bars_are_kept_than_of_others_are_read_on_the_present_one():
    def looked(**mode):
        cerebro = bt.Cerebro(stdstats=False, **mode)
        cerebro.broker = MarginBroker(cash=10_000)
        frame = wild_frame(11, 80, start=100.0)[COLUMNS].tz_localize(None)
        cerebro.adddata(bt.feeds.PandasData(dataname=frame, timeframe=bt.TimeFrame.Minutes, compression=60))
        cerebro.addstrategy(LooksBack)
        strategy = cerebro.run()[0]
        return strategy.placed, strategy.values

    assert looked(exactbars=1) == looked()
