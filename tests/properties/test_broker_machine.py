"""Whatever a trader sends and whatever the market does, a running broker keeps its invariants.

The machine writes a scenario step by step: bars with wicks and gaps, finer bars inside them, funding, orders of every kind,
cancels, transfers, other leverages and margin modes; under any profile, with top-ups, refills and warnings. At the end the
scenario is played under ``check=True``, which asserts the invariants after every bar; a failing one is printed as a table that
can be played again by hand.
"""

import warnings

import backtrader as bt
import pandas as pd
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from bt_margin import MarginBroker, PerpCommInfo, PerpData, Result, TopUp
from bt_margin.core.orders import NETTINGS, OrderTerms
from bt_margin.panels import money_steps
from bt_margin.record import SPECK

SYMBOLS = ("AAA", "BBB")
TIERS = [(20_000, 0.01, 50), (100_000, 0.03, 20), (None, 0.1, 5)]
MODES = ({}, {"runonce": False}, {"preload": False}, {"exactbars": -1})
TOP_UPS = (
    None,
    None,
    TopUp(amount=20, times=2),
    TopUp(amount=5, times=None),
    TopUp(ratio=1.5, times=None),
    TopUp(amount=50, deposit=True),
    TopUp(ratio=2.0, times=3, deposit=True),
)
ENDINGS = (
    {},
    {},
    {"on_liquidation": "stop"},
    {"on_liquidation": "refill", "refill": 300.0},
    {"on_liquidation": "refill", "refill": 5_000.0},
)
WARNINGS = ({}, {"warning_rate": 3.0, "call_rate": 1.5}, {"warning_distance": 0.05, "warning_atr": 2.0, "warning_atr_period": 2})
FINER = (None, None, (True,), (False, True, True))  # whether the finer bars of a bar go low first, over and over
EXECTYPES = ("Market", "Close", "Limit", "Stop", "StopLimit", "StopTrail")

shares = st.floats(0.05, 1.1)
symbols = st.integers(0, 1)
places = st.floats(-0.08, 0.08)


class Trader(bt.Strategy):
    """Plays what the machine has written for each bar; what the broker refuses in words is noted."""

    params = (("script", None),)

    def __init__(self):
        self.sent: list[bt.Order] = []
        self.refused: list[str] = []

    def next(self):
        for action, *terms in self.p.script.get(len(self), ()):
            try:
                getattr(self, f"do_{action}")(*terms)
            except ValueError as error:
                self.refused.append(str(error))

    def leg(self, isbuy, closes=False):
        """Return the side that an order names in hedge mode: the one it opens, or the one it closes."""
        return {"position_side": "LONG" if isbuy != closes else "SHORT"} if self.broker.is_hedging else {}

    def size_of(self, data, share, isbuy, position_side=None):
        most = self.broker.max_size(data, isbuy, side=position_side)
        return share * (most or abs(self.broker.getposition(data, position_side).size) or 1.0)

    def do_order(self, number, isbuy, share, exectype, place, flag):
        data, leg = self.datas[number], self.leg(isbuy, closes=place < 0)
        price = data.close[0] * (1 + place)
        terms = {"exectype": getattr(bt.Order, exectype)}
        if exectype not in ("Market", "Close"):
            terms["price"] = price
        if exectype == "StopLimit":
            terms["plimit"] = price * (1 + abs(place) / 2)
        if exectype == "StopTrail":
            terms = {"exectype": bt.Order.StopTrail, "trailpercent": abs(place) + 0.005}
        if flag == "reduce_only" or (flag == "post_only" and exectype == "Limit"):
            terms[flag] = True
        send = self.buy if isbuy else self.sell
        self.sent.append(send(data=data, size=self.size_of(data, share, isbuy, **leg), **terms, **leg))

    def do_bracket(self, number, isbuy, share, place):
        data, price = self.datas[number], self.datas[number].close[0]
        send = self.buy_bracket if isbuy else self.sell_bracket
        below, above = price * (1 - abs(place) - 0.005), price * (1 + abs(place) + 0.005)
        stop, limit = (below, above) if isbuy else (above, below)
        leg = self.leg(isbuy)
        size = self.size_of(data, share, isbuy, **leg)
        orders = send(data=data, size=size, exectype=bt.Order.Market, stopprice=stop, limitprice=limit, **leg)
        self.sent += [order for order in orders if order is not None]

    def do_straddle(self, number, share, place):
        data, price = self.datas[number], self.datas[number].close[0]
        size = self.size_of(data, share, True, **self.leg(True))
        first = self.buy(data=data, size=size, exectype=bt.Order.Stop, price=price * (1 + abs(place) + 0.002), **self.leg(True))
        self.sell(data=data, size=size, exectype=bt.Order.Stop, price=price * (1 - abs(place) - 0.002), oco=first, **self.leg(False))

    def do_cancel(self, which):
        if self.sent:
            self.cancel(self.sent[which % len(self.sent)])

    def do_close(self, number):
        if not self.broker.is_hedging:
            self.close(data=self.datas[number])
        for side in ("LONG", "SHORT") if self.broker.is_hedging else ():
            self.broker.close_side(self.datas[number], side)

    def do_move_money(self, share):
        self.broker.add_cash(share * max(self.broker.getcash(), 1.0))

    def do_move_margin(self, number, share):
        move = self.broker.add_margin if share > 0 else self.broker.remove_margin
        side = {"side": "LONG" if round(abs(share) * 1_000) % 2 else "SHORT"} if self.broker.is_hedging else {}
        move(self.datas[number], abs(share) * max(self.broker.getcash(), 1.0), **side)

    def do_leverage(self, number, leverage):
        self.broker.set_leverage(self.datas[number], leverage)

    def do_mode(self, number, mode):
        self.broker.set_margin_mode(self.datas[number], mode)


class BrokerMachine(RuleBasedStateMachine):
    """Writes a scenario of two contracts, AAA in whole lots, and plays it when it ends."""

    position_mode = "one_way"

    @initialize(
        leverage=st.sampled_from((1, 3, 10, 20)),
        margin_mode=st.sampled_from(("cross", "isolated")),
        profile=st.sampled_from(("market", "forfeit", "binance", "okx", "hyperliquid", "tradingview")),
        intrabar=st.sampled_from(("adverse", "favourable", "worst", "close")),
        netting=st.sampled_from(NETTINGS),
        counts_loss=st.booleans(),
        unfunded=st.sampled_from(("reject", "shrink")),
        mode=st.sampled_from(MODES),
        top_up=st.sampled_from(TOP_UPS),
        ending=st.sampled_from(ENDINGS),
        warned=st.sampled_from(WARNINGS),
        other_mode=st.sampled_from((None, "cross", "isolated")),
        finer=st.sampled_from(FINER),
    )
    def open_account(  # everything that an account is opened with
        self, leverage, margin_mode, profile, intrabar, netting, counts_loss, unfunded, mode, top_up, ending, warned, other_mode, finer
    ):
        self.account = {"margin_mode": margin_mode, "position_mode": self.position_mode, "intrabar": intrabar, "unfunded": unfunded}
        self.account |= {**ending, **warned}
        self.margin_modes = (margin_mode, other_mode or margin_mode)
        if top_up is not None and (top_up.deposit or "isolated" in self.margin_modes):
            self.account["top_up"] = top_up
        self.finer = None if intrabar == "close" else finer
        self.orders = {"netting": netting, "counts_loss": counts_loss, "counts_fee": not counts_loss}
        self.terms = {"leverage": leverage, "profile": profile, "commission": 0.0005, "maker": 0.0002}
        self.mode = mode
        self.rows: list[tuple] = [(hour, (100.0,) * 4, (100.0,) * 4) for hour in (0, 1)]
        self.rates: dict[int, float] = {}
        self.script: dict[int, list[tuple]] = {}

    def note(self, *action):
        self.script.setdefault(len(self.rows), []).append(action)

    @rule(moves=st.tuples(*[st.floats(-0.12, 0.12)] * 2), wicks=st.tuples(*[st.floats(0, 0.08)] * 4), gap=st.floats(-0.06, 0.06))
    def bar(self, moves, wicks, gap):
        hour, *last = self.rows[-1]
        bars = []
        for number, (move, candle) in enumerate(zip(moves, last, strict=True)):
            opening = candle[3] * (1 + gap * (1 - number))
            close = opening * (1 + move)
            above, below = wicks[2 * number : 2 * number + 2]
            bars.append((opening, max(opening, close) * (1 + above), min(opening, close) * (1 - below), close))
        self.rows.append((hour + 1, *bars))

    @rule(hours=st.integers(2, 9))
    def outage(self, hours):
        hour, *last = self.rows[-1]
        self.rows.append((hour + hours, *((candle[3],) * 4 for candle in last)))

    @rule(rate=st.floats(-0.03, 0.03))
    def funding(self, rate):
        self.rates[self.rows[-1][0] + 1] = rate

    @rule(number=symbols, isbuy=st.booleans(), share=shares, exectype=st.sampled_from(EXECTYPES), place=places,
          flag=st.sampled_from((None, None, "reduce_only", "post_only")))  # fmt: skip
    def order(self, number, isbuy, share, exectype, place, flag):
        self.note("order", number, isbuy, share, exectype, place, flag)

    @rule(number=symbols, isbuy=st.booleans(), share=shares, place=places)
    def bracket(self, number, isbuy, share, place):
        self.note("bracket", number, isbuy, share, place)

    @rule(number=symbols, share=shares, place=places)
    def straddle(self, number, share, place):
        self.note("straddle", number, share, place)

    @rule(which=st.integers(0, 30))
    def cancel(self, which):
        self.note("cancel", which)

    @rule(number=symbols)
    def close(self, number):
        self.note("close", number)

    @rule(share=st.floats(-0.9, 0.9).filter(lambda share: abs(share) > 0.01))
    def move_money(self, share):
        self.note("move_money", share)

    @rule(number=symbols, share=st.floats(-0.5, 0.5).filter(lambda share: abs(share) > 0.01))
    def move_margin(self, number, share):
        self.note("move_margin", number, share)

    @rule(number=symbols, leverage=st.sampled_from((1, 2, 5, 10, 20, 50)))
    def leverage(self, number, leverage):
        self.note("leverage", number, leverage)

    @rule(number=symbols, mode=st.sampled_from(("cross", "isolated")))
    def mode_of_margin(self, number, mode):
        self.note("mode", number, mode)

    def teardown(self):
        if not hasattr(self, "rows"):
            return
        try:
            self.play()
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}\n{self.table()}") from error

    def play(self):
        start = pd.Timestamp("2024-01-01", tz="UTC")
        index = [start + pd.Timedelta(hours=hour) for hour, *_ in self.rows]
        cerebro = bt.Cerebro(stdstats=False, **self.mode)
        cerebro.broker = MarginBroker(cash=1_000.0, check=True, **self.account)
        rates = pd.Series({start + pd.Timedelta(hours=hour): rate for hour, rate in self.rates.items()}, dtype=float)
        for number, symbol in enumerate(SYMBOLS):
            own = {"tiers": TIERS, "lot": 0.01 if number == 0 else 0.0, "order_terms": OrderTerms(**self.orders)}
            own["margin_mode"] = self.margin_modes[number]
            cerebro.broker.addcommissioninfo(PerpCommInfo(**own, **self.terms), name=symbol)
            candles = pd.DataFrame([row[1 + number] for row in self.rows], columns=["open", "high", "low", "close"], index=index)
            candles["volume"] = 1.0
            funding = rates if len(rates) else None
            feed = {"funding": funding, "detail": self.quarters(number, index), "timeframe": bt.TimeFrame.Minutes, "compression": 60}
            cerebro.adddata(PerpData(dataname=candles, name=symbol, **feed))
        cerebro.addstrategy(Trader, script=self.script)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* cannot withdraw ", category=UserWarning)
            strategy = cerebro.run()[0]
        self.judge(strategy)

    def quarters(self, number, index):
        """Return four finer bars for each bar: to one extreme, by a jump from there to the other, to the close; None of no detail."""
        if self.finer is None or number >= len(self.finer):
            return None
        rows, times = [], []
        for place, row in enumerate(self.rows):
            opening, high, low, close = row[1 + number]
            first, then = (low, high) if self.finer[place % len(self.finer)] else (high, low)
            middle = (first + 2 * then) / 3
            for quarter, (begin, end) in enumerate(((opening, first), (middle, then), (then, close), (close, close))):
                rows.append((begin, max(begin, end), min(begin, end), end))
                times.append(index[place] + pd.Timedelta(minutes=15 * quarter))
        return pd.DataFrame(rows, columns=["open", "high", "low", "close"], index=times).assign(volume=1.0)

    def judge(self, strategy):
        """Assert of a finished run what must hold of any."""
        broker, result = strategy.broker, Result.of(strategy)
        summary = result.summary
        assert summary["journal_imbalance"] <= 1e-9
        assert summary["final_equity"] >= 0
        assert all(sentence.startswith(SYMBOLS) for sentence in strategy.refused), strategy.refused
        assert result.to_json()
        *whence, (_, _, end) = money_steps(result)
        assert sum(amount for _, _, amount in whence) == pytest.approx(end, abs=1e-6)
        assert summary["total_return"] >= -1
        assert max(-summary["total_return"], 0) - 1e-9 <= summary["max_drawdown"] <= 1
        assert (summary["refills"] > 0) <= (summary["liquidations"] > 0)
        assert all(row.amount > 0 and row.equity <= row.maintenance_margin * (1 + 1e-9) + 1e-9 for row in broker.record.top_ups)
        external = [row.amount for row in broker.journal if row.account == "external"]
        assert sum(flow.amount for flow in broker.record.flows) == pytest.approx(-sum(external) - 1_000, abs=1e-6)
        assert broker.fundvalue * broker.fundshares == pytest.approx(max(broker.equity, SPECK * 1_000), rel=1e-6)
        if not any(flow.bar == len(broker.record) for flow in broker.record.flows):
            assert broker.fundvalue / 100 - 1 == pytest.approx(summary["total_return"], rel=1e-6, abs=1e-9)

    def table(self) -> str:
        """Return the scenario as a table: the bars, and after each what the trader did."""
        lines = [f"account {self.account}, orders {self.orders}, terms {self.terms}, mode {self.mode}, funding by hour {self.rates}"]
        lines.append(f"margin modes {self.margin_modes}, finer bars low first {self.finer}")
        lines.append(f"{'hour':>4}  {'AAA open, high, low, close':<44}{'BBB':<44}then")
        for number, (hour, *candles) in enumerate(self.rows, 1):
            cells = "".join(f"{' '.join(f'{price:.6g}' for price in candle):<44}" for candle in candles)
            lines.append(f"{hour:>4}  {cells}{'; '.join(map(str, self.script.get(number, ())))}")
        return "\n".join(lines)


BrokerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
TestBrokerMachine = BrokerMachine.TestCase


class HedgeMachine(BrokerMachine):
    """The same in hedge mode; an order that is placed below the market is against its leg."""

    position_mode = "hedge"


HedgeMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
TestHedgeMachine = HedgeMachine.TestCase
