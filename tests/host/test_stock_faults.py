"""Nine scripts that stock Backtrader answers wrongly (T1-T9): first stock's answer as it stands, then ours.

Every script trades one contract on 1 000 of cash, without fees. A bar is one price, or (open, high, low, close).
Stock's answers are those of backtrader 1.9.78.123.
"""

import backtrader as bt
import pandas as pd
import pytest

from bt_margin import MarginBroker

CASH = 1_000.0
CRASH = [100.0, 100.0, 50.0, 50.0, 50.0]  # a fill at 100 on the second bar, then half the price is gone at the open


class Scripted(bt.Strategy):
    """Act as the script says, by bar number, and keep what the host tells."""

    params = (("script", {}),)

    def __init__(self):
        self.values, self.sizes, self.ends = [], [], []

    def notify_order(self, order):
        if order.status not in (order.Submitted, order.Accepted):
            self.ends.append((order.getstatusname(), order.executed.size, order.executed.price, dict(order.info)))

    def next(self):
        self.values.append(self.broker.getvalue())
        self.sizes.append(self.position.size)
        self.p.script.get(len(self), lambda _: None)(self)

    @property
    def statuses(self):
        return [end[0] for end in self.ends]


def run(broker, prices, script):
    """Run one script on hourly bars and return the finished strategy."""
    bars = [price if isinstance(price, tuple) else (price,) * 4 for price in prices]
    index = pd.date_range("2024-01-01", periods=len(bars), freq="h")
    frame = pd.DataFrame(bars, columns=["open", "high", "low", "close"], index=index).assign(volume=1.0)
    engine = bt.Cerebro(stdstats=False)
    engine.broker = broker
    engine.adddata(bt.feeds.PandasData(dataname=frame, timeframe=bt.TimeFrame.Minutes, compression=60), name="BTC")
    engine.addstrategy(Scripted, script=script)
    return engine.run()[0]


def stock(prices, script, **terms):
    broker = bt.brokers.BackBroker(cash=CASH)
    broker.setcommission(**terms)
    return run(broker, prices, script)


def ours(prices, script, **terms):
    broker = MarginBroker(cash=CASH, check=True)
    broker.setcommission(**terms)
    return run(broker, prices, script)


def buy(size, **kwargs):
    return lambda strategy: strategy.buy(size=size, **kwargs)


def sell(size, **kwargs):
    return lambda strategy: strategy.sell(size=size, **kwargs)


def test_t1_a_lost_leveraged_long_is_liquidated_and_owes_nothing():
    script = {1: buy(90)}

    corpse = stock(CRASH, script, leverage=10)
    run_over = ours(CRASH, script, leverage=10)

    assert corpse.values[-1] == 1_000 - 90 * 50
    assert corpse.sizes[-1] == 90
    (liquidation,) = run_over.broker.record.liquidations
    assert liquidation.trigger == "gap"
    assert liquidation.from_insurance_fund == pytest.approx(90 * 50 - 1_000)
    assert run_over.sizes[-1] == 0
    assert run_over.broker.wallet_balance >= 0.0
    assert run_over.values[-1] == pytest.approx(0.0, abs=1e-9)
    status, size, price, info = run_over.ends[-1]
    assert (status, size, price) == ("Completed", -90, pytest.approx(100 - 1_000 / 90))
    assert info["liquidation"] is True


def test_t2_a_short_of_ten_thousand_times_the_equity_is_refused():
    script = {1: sell(100_000)}

    credited = stock([100.0] * 3, script)
    refused = ours([100.0] * 3, script)

    assert credited.statuses == ["Completed"]
    assert credited.broker.getcash() == 1_000 + 100_000 * 100
    ((status, size, _, info),) = refused.ends
    assert (status, size) == ("Margin", 0)
    assert (info["needed"], info["available"], info["max_size"]) == (100_000 * 100, 1_000, 10)
    assert refused.broker.getcash() == 1_000


def test_t3_profit_is_counted_once():
    prices, script = [100.0, 100.0, 110.0], {1: buy(90)}

    counted_twice = stock(prices, script, margin=1, automargin=0.1)
    counted_once = ours(prices, script, leverage=10)

    assert counted_twice.values[-1] == 1_000 + 90 * 10 + 90 * 10 * 0.1
    assert counted_once.values[-1] == 1_000 + 90 * 10


def test_t4_a_resting_order_reserves_its_margin():
    limit = buy(9, price=90.0, exectype=bt.Order.Limit)
    prices, script = [100.0] * 5, {1: limit, 2: limit, 3: limit}

    overbooked = stock(prices, script)
    reserved = ours(prices, script)

    assert [order.status for order in overbooked.broker.get_orders_open()] == [bt.Order.Accepted] * 3
    assert [order.status for order in reserved.broker.get_orders_open()] == [bt.Order.Accepted]
    assert reserved.statuses == ["Margin", "Margin"]
    for _, _, _, info in reserved.ends:
        assert (info["needed"], info["available"], info["max_size"]) == (9 * 90, 1_000 - 9 * 90, pytest.approx((1_000 - 9 * 90) / 90))
    assert reserved.broker.account.order_margin == 9 * 90


def test_t5_of_an_oversized_reversal_the_close_fills_and_the_rest_is_refused():
    script = {1: sell(5), 3: buy(5 + 1_000)}

    stuck = stock([100.0] * 5, script)
    closed = ours([100.0] * 5, script)

    assert stuck.statuses == ["Completed", "Margin"]
    assert stuck.sizes[-1] == -5
    assert closed.statuses == ["Completed", "Partial", "Margin"]
    assert closed.sizes[-1] == 0
    _, size, price, info = closed.ends[-1]
    assert (size, price) == (5, 100)
    assert (info["needed"], info["available"], info["max_size"]) == (1_000 * 100, 1_000, 10)


def test_t6_an_order_is_judged_again_at_the_open_and_its_refusal_carries_numbers():
    prices, script = [100.0, 110.0, 110.0], {1: buy(10)}

    silent = stock(prices, script)
    spoken = ours(prices, script)

    assert [(status, info) for status, _, _, info in silent.ends] == [("Margin", {})]
    ((status, size, _, info),) = spoken.ends
    assert (status, size) == ("Margin", 0)
    assert (info["needed"], info["available"], info["max_size"]) == (10 * 110, 1_000, pytest.approx(1_000 / 110))
    assert info["message"].startswith("BTC: opening 10 at 110 with 1x needs 1100, available is 1000")


def test_t7_a_wick_liquidates():
    """Bought 90 at 100 with 1 000 behind: dead where 1 000 + 90 (p - 100) = 0.5 % of 90 p, at 8 000 / 89.55."""
    prices, script = [100.0, 100.0, (100.0, 100.0, 80.0, 100.0), 100.0], {1: buy(90)}

    ignored = stock(prices, script, leverage=10)
    met = ours(prices, script, leverage=10, liquidation_fee=0.0)

    assert (ignored.values[-1], ignored.sizes[-1]) == (1_000, 90)
    (liquidation,) = met.broker.record.liquidations
    assert (liquidation.trigger, liquidation.certainty) == ("path", "certain")
    assert liquidation.mark_price == pytest.approx(8_000 / 89.55)
    assert met.values[-1] == pytest.approx(1_000 + 90 * (8_000 / 89.55 - 100))
    assert met.sizes[-1] == 0


def test_t8_a_bankrupt_position_is_closed_for_its_owner():
    script = {1: buy(90), 3: lambda strategy: strategy.close()}

    stuck = stock(CRASH, script, margin=10)
    gone = ours(CRASH, script, leverage=10)

    assert stuck.statuses == ["Completed", "Margin"]
    assert (stuck.values[-1], stuck.sizes[-1]) == (1_000 - 90 * 50, 90)
    assert gone.statuses == ["Completed", "Completed"]
    assert (gone.values[-1], gone.sizes[-1]) == (pytest.approx(0.0, abs=1e-9), 0)


def test_t8_a_close_executes_where_no_margin_is_left():
    """At 90 the equity is 100, far below the initial margin of 810 and above the maintenance of 40.5."""
    prices, script = [100.0, 100.0, 90.0, 90.0, 90.0], {1: buy(90), 3: lambda strategy: strategy.close()}

    closed = ours(prices, script, leverage=10)

    assert closed.broker.record.column("available_margin")[2] == 100 - 810
    assert closed.statuses == ["Completed", "Completed"]
    assert (closed.values[-1], closed.sizes[-1]) == (1_000 - 90 * 10, 0)


def test_t8_a_close_waiting_at_the_open_that_kills_cannot_save_the_position():
    script = {1: buy(90), 2: lambda strategy: strategy.close()}

    gone = ours(CRASH, script, leverage=10)

    assert gone.statuses == ["Completed", "Canceled", "Completed"]
    assert gone.ends[-1][3]["liquidation"] is True
    assert gone.sizes[-1] == 0


def test_t9_after_bankruptcy_nothing_is_opened():
    script = {1: buy(90), 3: sell(1_000)}

    undead = stock(CRASH, script, leverage=10)
    over = ours(CRASH, script, leverage=10)

    assert undead.values[2] == -3_500
    assert undead.statuses[-1] == "Completed"
    assert undead.sizes[-1] == 90 - 1_000
    status, size, _, info = over.ends[-1]
    assert (status, size) == ("Margin", 0)
    assert (info["needed"], info["available"], info["max_size"]) == (
        1_000 * 50 / 10,
        pytest.approx(0.0, abs=1e-9),
        pytest.approx(0.0, abs=1e-9),
    )
    assert over.sizes[-1] == 0
