"""Scalers attached to a Cerebro: every strategy in it trades by the ladder, and its code knows nothing of it.

The analyzer that this adds stands at the broker's door: it sees each order of its strategy before the broker does, however it
was sent (``buy``, ``order_target_*``, a bracket, a signal, the broker's own ``buy``), and hears what becomes of it. It has no
``next``, so that it costs nothing on a bar without orders, and both run loops, lulls and ``optstrategy`` are as they were.
"""

from collections.abc import Callable, Iterable
from typing import Any

import backtrader as bt

from ..broker import MarginBroker
from ..comminfo import utc
from ..core.account import Position
from ..core.liquidation import account_liquidation_price
from .course import Before, Course
from .schemes import MarginTopUp, Scaler

# What the host's ``buy`` and ``sell`` take by place behind owner, data and size.
BY_PLACE = ("price", "plimit", "exectype", "valid", "tradeid", "oco", "trailamount", "trailpercent", "parent", "transmit")
TARGETS = ("order_target_size", "order_target_value")  # order_target_percent calls the second


def attach(cerebro: bt.Cerebro, *scalers: Scaler | MarginTopUp, before: Before | None = None) -> None:
    """Have the strategies of a Cerebro trade by a scaler: one scheme, a MarginTopUp, or both.

    Whether before or after the strategies are added makes no difference. ``before`` is called with the ``LadderTable`` of each
    entry that is ordered from flat (``before=print``). The broker is a MarginBroker by the time of the run.

    >>> cerebro = bt.Cerebro()
    >>> attach(cerebro, Turtle(), before=print)                                             # doctest: +SKIP
    """
    schemes = [scaler for scaler in scalers if isinstance(scaler, Scaler)]
    top_ups = [scaler for scaler in scalers if isinstance(scaler, MarginTopUp)]
    strange = [scaler for scaler in scalers if not isinstance(scaler, Scaler | MarginTopUp)]
    if strange or not scalers:
        raise ValueError(f"a scaler is one of bt_margin.scalers such as Pyramid(), was {strange[0] if strange else None!r}")
    there = {kind for kind, _, _ in cerebro.analyzers}
    if len(schemes) + (Scaling in there) > 1 or len(top_ups) + (ToppingUp in there) > 1:
        raise ValueError("a Cerebro has one scheme and one MarginTopUp at most; make one ladder of two with Rungs(Ladder(...))")
    for scheme in schemes:
        scheme.ladder()
        cerebro.addanalyzer(Scaling, _name="scaling", scaler=scheme, before=before)
    for rule in top_ups:
        cerebro.addanalyzer(ToppingUp, _name="topping_up", rule=rule)


def _margin_broker(strategy: bt.Strategy, what: str) -> MarginBroker:
    broker = strategy.broker
    if not isinstance(broker, MarginBroker):
        raise ValueError(f"{what} needs a MarginBroker, whose account it asks; the broker is a {type(broker).__name__}: use plug()")
    if broker.is_hedging:
        raise ValueError(f"{what} knows one position of a contract; in hedge mode there are two: run with position_mode='one_way'")
    return broker


class Scaling(bt.Analyzer):
    """Has a strategy trade by a ladder; ``get_analysis()["ladders"]`` tells each that was begun.

    Of each: ``time`` (UTC), ``symbol``, ``side`` (1 or -1), ``price`` of the entry, the ``whole`` that was asked for, ``atr`` of its
    distances (None: fractions), how many rungs were ``filled``, the one that was ``refused`` and why, and what ``ended`` it: 'left',
    'reduced', 'stopped', 'liquidated', 'flat', '' where it has not. ``withheld`` counts the orders that would have added.
    """

    params = (("scaler", None), ("before", None))

    def start(self) -> None:
        """Stand at the broker's door."""
        self.broker = _margin_broker(self.strategy, type(self.p.scaler).__name__)
        self.scaled_by = self.p.scaler  # a Result's settings name it
        self.ladder = self.p.scaler.ladder()
        self.courses: dict[int, Course] = {}
        self.ladders: list[dict[str, Any]] = []
        self.withheld = 0
        self.is_targeting = False
        self.broker.doors[id(self.strategy)] = self._take
        for name in TARGETS:
            setattr(self.strategy, name, self._as_target(getattr(self.strategy, name)))

    def _as_target(self, order_target: Callable[..., Any]) -> Callable[..., Any]:
        """Return a strategy's method, whose orders are from now on known to be meant against what is really held."""

        def targeting(*args: Any, **kwargs: Any) -> Any:
            before, self.is_targeting = self.is_targeting, True
            try:
                return order_target(*args, **kwargs)
            finally:
                self.is_targeting = before

        return targeting

    def _take(self, kind: type[bt.Order], owner: Any, data: Any, size: float, *args: Any, **terms: Any) -> Any:
        terms |= dict(zip(BY_PLACE, args, strict=False))
        if not 0 < size < float("inf") or not len(data):
            return self.broker.place(kind, owner, data, size, **terms)  # the broker says what is wrong with it
        return self._course(data).take(kind, size, terms)

    def _course(self, data: Any) -> Course:
        if id(data) not in self.courses:
            self.courses[id(data)] = Course(self, data)
        return self.courses[id(data)]

    def notify_order(self, order: bt.Order) -> None:
        """Hear what has become of an order of the strategy."""
        course = self._course(order.data)
        if order.info.get("liquidation"):
            course.liquidated()
        course.review()

    def stop(self) -> None:
        """Leave the door, and keep what there is to tell."""
        self.broker.doors.pop(id(self.strategy), None)
        for name in TARGETS:
            self.strategy.__dict__.pop(name, None)
        for told in self.ladders:
            told["time"] = utc(told["time"])
        self.rets = {"ladders": self.ladders, "withheld": self.withheld}
        del self.broker, self.courses  # an optimisation sends analyzers from process to process


class ToppingUp(bt.Analyzer):
    """Adds margin to isolated positions by a MarginTopUp; ``get_analysis()["top_ups"]`` tells each time it did.

    Of each: ``time`` (UTC), ``symbol``, ``amount``, the ``distance`` there was, a fraction of the mark, and ``liquidation_price`` before
    and ``liquidation_price_after``.
    """

    params = (("rule", None),)

    def start(self) -> None:
        """Find the positions that it is for."""
        self.broker = _margin_broker(self.strategy, "MarginTopUp")
        if not any(slot.position.is_isolated for slot in self.broker.slots.values()):
            raise ValueError("MarginTopUp is for isolated margin: in cross the whole wallet stands behind the position already")
        self.scaled_by = self.p.rule
        self.used: dict[str, tuple[int, float]] = {}  # by contract: how often, and how much
        self.top_ups: list[dict[str, Any]] = []
        self.rets = {"top_ups": self.top_ups}

    def next(self) -> None:
        """Look at each isolated position of the strategy at a bar's close."""
        for current in self.strategy.datas:
            if not len(current):
                continue
            slot = self.broker.slot_of(current)
            if not slot.position.size:
                self.used.pop(slot.symbol, None)
            elif slot.position.is_isolated:
                self._look_at(current, slot.symbol, slot.position)

    def _look_at(self, current: Any, symbol: str, position: Position) -> None:
        rule, broker = self.p.rule, self.broker
        mark, price = broker.marks[symbol], account_liquidation_price(broker.account, symbol, broker.marks)
        if price is None or abs(mark - price) > rule.within * mark:
            return
        times, spent = self.used.get(symbol, (0, 0.0))
        if rule.times is not None and times >= rule.times:
            return
        amount = rule.amount if rule.to is None else self._missing(position, mark)
        left = float("inf") if rule.budget is None else rule.budget - spent
        amount = min(amount, left, broker.account.spendable(symbol, broker.marks))
        if amount <= 0:
            return
        broker.add_margin(current, amount)
        self.used[symbol] = times + 1, spent + amount
        after = account_liquidation_price(broker.account, symbol, broker.marks)
        row = {"time": utc(broker.now), "symbol": symbol, "amount": amount, "distance": abs(mark - price) / mark}
        self.top_ups.append(row | {"liquidation_price": price, "liquidation_price_after": after})

    def _missing(self, position: Position, mark: float) -> float:
        """Return the margin with which liquidation lies ``to`` from the mark: maintenance less profit there, less what there is."""
        wanted = mark * (1 - self.p.rule.to if position.size > 0 else 1 + self.p.rule.to)
        money = position.maintenance_margin(wanted) - position.unrealized_pnl(wanted)
        return money - self.broker.account.wallets[position.wallet]

    def stop(self) -> None:
        """Keep what there is to tell only."""
        del self.broker, self.used


def several(scaler: Scaler | MarginTopUp | Iterable[Scaler | MarginTopUp]) -> tuple[Scaler | MarginTopUp, ...]:
    """Return one scaler, or several, as a tuple."""
    return tuple(scaler) if isinstance(scaler, tuple | list) else (scaler,)  # type: ignore[return-value]
