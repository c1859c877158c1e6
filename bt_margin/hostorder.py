"""Backtrader's own orders, made and copied at a fraction of the host's price.

The host makes an order through its class of params (three dictionaries, thirty ``setattr``, two dates) and copies it by
``copy.copy``, three times for a market order. What is made here has the same class and in every attribute the same value; what
an order's params hold is its own attribute besides, for the host finds it by a failed look-up and ``__getattr__`` behind it.
``exbits`` alone, the fills, are a list (of what was asked for, which never has any, an empty tuple): the host's deques take 760
bytes each, empty ones too, and every order has two.
"""

from datetime import timedelta
from math import inf
from typing import Any

from backtrader import Order
from backtrader.order import OrderData
from backtrader.utils import AutoOrderedDict

MILLISECOND = 1e-3 / 86_400  # in days


class OrderMaker:
    """Makes the orders of one run."""

    def __init__(self) -> None:
        self._sessions: dict[int, tuple[float, float]] = {}  # by id of a data: a stamp, and the end of its session

    def make(
        self,
        kind: type[Order],
        owner,
        data,
        size,
        price=None,
        plimit=None,
        exectype=None,
        valid=None,
        tradeid=0,
        trailamount=None,
        trailpercent=None,
        parent=None,
        transmit=True,
        histnotify=False,
    ) -> Order:
        """Return what ``kind``, the host's BuyOrder or SellOrder, would make of these."""
        if valid is not None or exectype in (Order.StopTrail, Order.StopTrailLimit) or data._tz is not None:
            order = kind(  # rare, and its dates and offsets are the host's affair
                owner=owner,
                data=data,
                size=size,
                price=price,
                pricelimit=plimit,
                exectype=exectype,
                valid=valid,
                tradeid=tradeid,
                trailamount=trailamount,
                trailpercent=trailpercent,
                parent=parent,
                transmit=transmit,
                histnotify=histnotify,
            )
        else:
            order = object.__new__(kind)
            order.params = order.p = params = object.__new__(kind.params)
            params.owner, params.data, params.size, params.price, params.pricelimit = owner, data, size, price, plimit
            params.exectype, params.valid, params.tradeid, params.oco = exectype, None, tradeid, None
            params.trailamount, params.trailpercent, params.parent = trailamount, trailpercent, parent
            params.transmit, params.simulated, params.histnotify = transmit, False, histnotify
            self._begin(order, params)
        order.owner, order.data, order.parent, order.tradeid = owner, data, parent, tradeid
        order.transmit, order.valid = transmit, order.valid
        return order

    def _begin(self, order: Order, params: Any) -> None:
        """Give an order that neither trails nor ends by itself what the host's constructor gives it."""
        data, price, plimit, exectype = params.data, params.price, params.pricelimit, params.exectype
        order.ref = next(Order.refbasis)
        order.broker = order.comminfo = None
        order.info = AutoOrderedDict()
        order.triggered = False
        order._active = params.parent is None
        order.status = Order.Created
        order._plimit = plimit
        order.exectype = Order.Market if exectype is None else exectype
        order.size = size = params.size if order.ordtype == Order.Buy else -params.size
        last, stamp = data.close[0], data.datetime[0]
        own_price = price if price or plimit else last
        trail = params.trailamount, params.trailpercent
        order.created = created = OrderData(stamp, size, own_price, plimit, 0, last, *trail)
        order._limitoffset = 0.0
        order.executed = executed = OrderData(remsize=size)
        created.exbits, executed.exbits = (), []
        order.position = 0
        order.dteos = self._session_end(data, stamp)

    def make_market(
        self, kind: type[Order], owner: Any, data: Any, size: float, tradeid: Any, exectype: int | None, stamp: float, last: float
    ) -> Order:
        """Return what ``make`` would of a market order without anything besides, of a data without a time zone.

        ``stamp`` and ``last`` are the time and the close of its present bar.
        """
        order = object.__new__(kind)
        order.params = order.p = params = object.__new__(kind.params)
        params.owner, params.data, params.size, params.price, params.pricelimit = owner, data, size, None, None
        params.exectype, params.valid, params.tradeid, params.oco = exectype, None, tradeid, None
        params.trailamount = params.trailpercent = params.parent = None
        params.transmit, params.simulated, params.histnotify = True, False, False
        signed = size if kind.ordtype == Order.Buy else -size
        order.ref = next(Order.refbasis)
        order.broker = order.comminfo = order._plimit = None
        order.info = AutoOrderedDict()
        order.triggered = False
        order._active = True
        order.status = Order.Created
        order.exectype = Order.Market
        order.size = signed
        order.created = created = object.__new__(OrderData)
        created.pclose, created.exbits, created.p1, created.p2 = last, (), 0, 0
        created.dt, created.size, created.remsize, created.price, created.pricelimit = stamp, signed, 0, last, last
        created.trailamount = created.trailpercent = created._plimit = None
        created.value, created.comm, created.margin, created.pnl, created.psize, created.pprice = 0.0, 0.0, None, 0.0, 0, 0
        order._limitoffset = 0.0
        order.executed = executed = object.__new__(OrderData)
        executed.pclose, executed.exbits, executed.p1, executed.p2 = 0.0, [], 0, 0
        executed.dt, executed.size, executed.remsize, executed.price, executed.pricelimit = None, 0, signed, 0.0, 0.0
        executed.trailamount = executed.trailpercent = executed._plimit = 0.0
        executed.value, executed.comm, executed.margin, executed.pnl, executed.psize, executed.pprice = 0.0, 0.0, None, 0.0, 0, 0
        order.position = 0
        order.dteos = self._session_end(data, stamp)
        order.owner, order.data, order.parent, order.tradeid, order.transmit, order.valid = owner, data, None, tradeid, True, None
        return order

    def _session_end(self, data: Any, stamp: float) -> float:
        """Return the end of the session (days, as the host counts them) that a stamp of a data without a time zone lies in.

        It is the same for all stamps from the one it was reckoned for up to itself; within the last millisecond before it
        rounding tells.
        """
        first, end = self._sessions.get(id(data), (inf, -inf))
        if not first <= stamp < end - MILLISECOND:
            when, closing = data.datetime.datetime(0), data.p.sessionend
            ending = when.replace(hour=closing.hour, minute=closing.minute, second=closing.second, microsecond=closing.microsecond)
            end = data.date2num(ending if ending >= when else ending + timedelta(days=1))
            self._sessions[id(data)] = stamp, end
        return end


class Family(list):
    """An order and the exits of its bracket, of which every order leaves one: the host's deque takes ten times the memory."""

    __slots__ = ()

    def popleft(self) -> Any:
        """Remove and return the first."""
        return self.pop(0)


def snapshot(order: Order) -> Order:
    """Return what ``order.clone()`` would, of which a notification is made."""
    seen = order.executed
    seen.p1, seen.p2 = seen.p2, len(seen.exbits)
    copied, executed = object.__new__(type(order)), object.__new__(type(seen))
    executed.__dict__ = seen.__dict__.copy()
    copied.__dict__ = known = order.__dict__.copy()
    known["executed"] = executed
    return copied
