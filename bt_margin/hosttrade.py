"""Backtrader's own bookkeeping of orders and trades for a strategy, at a fraction of the host's price.

The host updates a trade through calls of its data and its commission scheme, copies it by ``copy.copy`` and tells cash and
value to whoever does not listen. What is done here leaves the same objects with the same attributes and makes the same calls
of strategies and analyzers in the same order; what is not the usual case is the host's affair.
"""

from itertools import chain
from typing import Any

import backtrader as bt
from backtrader import Order, Trade

from .comminfo import PerpCommInfo


def note(owner: Any, order: Order) -> None:
    """Do what ``Strategy._addnotification`` does with an order's notification that is to be told later."""
    own = vars(owner)
    if type(owner)._addnotification is not bt.Strategy._addnotification or "_addnotification" in own:
        owner._addnotification(order, quicknotify=False)
        return
    if not order.executed.size and not order.p.simulated:
        own["_orderspending"].append(order)
    elif _is_usual(owner, order):
        own["_orderspending"].append(order)
        _note_fills(owner, order, own["_tradespending"])
    else:
        owner._addnotification(order, quicknotify=False)


def _is_usual(owner: Any, order: Order) -> bool:
    terms = order.comminfo
    is_linear = type(terms) is PerpCommInfo and terms.terms.kind != "inverse"
    return is_linear and order.data._compensate is None and not (owner._tradehistoryon or order.p.simulated)


def _note_fills(owner: Any, order: Order, told: list[Trade]) -> None:
    """Bring the trades of an order's data, a PerpData, up to its new fills, and add copies of those that began or ended to what is told."""
    data, executed, tradeid = order.data, order.executed, order.tradeid
    line = data.lines.datetime
    now = line.lencount, line.array[line._idx]
    trades = owner._trades[data][tradeid]
    if not trades:
        trades.append(Trade(data=data, tradeid=tradeid))
    trade = trades[-1]
    bits = executed.exbits
    for bit in bits[executed.p1 : executed.p2] if type(bits) is list else executed.getpending():
        if bit.closed:
            _update(trade, order, bit.closed, bit.price, bit.closedcomm, now)
            if trade.isclosed:
                told.append(_copied(trade))
        if bit.opened:
            if trade.isclosed:
                trade = Trade(data=data, tradeid=tradeid)
                trades.append(trade)
            _update(trade, order, bit.opened, bit.price, bit.openedcomm, now)
            if trade.isclosed:
                told.append(_copied(trade))
        if trade.justopened:
            told.append(_copied(trade))


def _update(trade: Trade, order: Order, size: float, price: float, commission: float, now: tuple[int, float]) -> None:
    """Do what ``Trade.update`` does with a part of a fill, its size not 0; ``now``: the length and the stamp of its data."""
    if trade.historyon:
        trade.update(order, size, price, 0.0, commission, 0.0, comminfo=order.comminfo)
        return
    (bar, stamp), terms, before = now, order.comminfo.terms, trade.size
    after = before + size
    trade.commission = paid = trade.commission + commission
    trade.size = after
    trade.justopened = not before
    if not before:
        trade.baropen, trade.dtopen, trade.long = bar, stamp, after > 0
    trade.isopen, trade.barlen, trade.isclosed = after != 0, bar - trade.baropen, before != 0 and not after
    if after:
        trade.status = Trade.Open
    elif before:
        trade.barclose, trade.dtclose, trade.status = bar, stamp, Trade.Closed
    if abs(after) > abs(before):
        trade.price = (before * trade.price + size * price) / after
        profit = 0.0
    else:
        profit = -size * terms.multiplier * (price - trade.price)
    trade.pnl = earned = trade.pnl + profit
    trade.pnlcomm = earned - paid
    trade.value = abs(after) * terms.multiplier * trade.price * (1 if after > 0 else -1) if after else 0.0


def _copied(trade: Trade) -> Trade:
    """Return what ``copy.copy(trade)`` would."""
    copied = object.__new__(type(trade))
    copied.__dict__ = vars(trade).copy()
    return copied


def tell_all(strategy: Any) -> None:
    """Tell orders, trades, cash and value by the strategy's own ``_notify``."""
    strategy._notify()


def tell(strategy: Any) -> None:
    """Do what ``Strategy._notify`` does for a strategy of which nobody listens to cash and value."""
    analyzers, slaves = strategy.analyzers._items, strategy._slave_analyzers
    known = len(analyzers)
    orders, trades = strategy._orderspending, strategy._tradespending
    for order in orders:
        if order.exectype != Order.Historical or order.histnotify:
            strategy.notify_order(order)
        for analyzer in chain(analyzers, slaves):
            analyzer._notify_order(order)
    for trade in trades:
        strategy.notify_trade(trade)
        for analyzer in chain(analyzers, slaves):
            analyzer._notify_trade(trade)
    if len(analyzers) != known:  # one that has just been added hears of cash in this bar
        strategy._orderspending, strategy._tradespending = [], []
        strategy._notify()
        strategy._orderspending, strategy._tradespending = orders, trades
