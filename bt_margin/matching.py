"""The order book: which orders a bar fills, at which prices and in which order.

Overridden here: ``_try_exec`` (the host fills resting orders on bars that are older than the order, where a data has
no new bar) and ``_try_exec_limit`` (the host lets a limit sell slip below the bar). The rest of the host's matching is
used as it is; a walked bar is taken apart into fills at the open, fills on the path and fills at the close.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from backtrader import Order

from .core.path import WorkingOrder
from .slots import Slot
from .view import AccountView

LIMITS = (Order.Limit, Order.StopLimit, Order.StopTrailLimit)
STOPS = (Order.Stop, Order.StopTrail, Order.StopLimit, Order.StopTrailLimit)
TRAILS = (Order.StopTrail, Order.StopTrailLimit)


class OrderBook(AccountView):
    """The part of MarginBroker that matches orders with bars."""

    _order_versions: dict[int, int]
    _first_tries: dict[int, int]
    _tried: set[int]  # tried at the open of a walked bar: not again on this bar
    _planned_sizes: dict[int, float]  # what a filler gives each order on this bar's path
    _triggered_before: set[int]
    _triggers: dict[int, float]  # at which price each stop-limit was triggered

    def begin_bar(self) -> None:
        """Forget what was tried on the bar before."""
        self._tried.clear()
        self._planned_sizes.clear()

    def match_like_host(self) -> None:
        """Try every order of the book once, in the host's order."""
        if not self.pending:
            return
        self.pending.append(None)
        while (order := self.pending.popleft()) is not None:
            if order.expire():
                self._expired(order)
                continue
            if order.active() and order.ref not in self._tried:
                self._try_exec(order)
            if order.alive():
                self.pending.append(order)
            elif order.status == Order.Completed:
                self._bracketize(order)
        self.clock.note_positions(self._slots.values())

    def match_lone(self, order) -> None:
        """Try the only order of the book, a market order that is due."""
        self.pending.popleft()
        self._try_exec(order)
        if order.alive():
            self.pending.append(order)
        elif order.status == Order.Completed:
            self._bracketize(order)

    def is_due(self, order, slot: Slot) -> bool:
        """Whether an order is active and its data has moved on since it was placed."""
        return order.active() and self._is_new_to(order, slot)

    def _expired(self, order) -> None:
        self.notify(order)
        self._ococheck(order)
        self._bracketize(order, cancel=True)

    @staticmethod
    def is_out_of_date(order) -> bool:
        """Whether an order's validity has passed on its data's present bar; market orders have none."""
        return bool(order.exectype != Order.Market and order.valid and order.data.datetime[0] > order.valid)

    def _is_new_to(self, order, slot: Slot) -> bool:
        """Whether the data has moved on since the order was placed; under cheat-on-open its own bar is new to it."""
        if order.exectype == Order.Historical:
            return True
        if not slot.is_fresh:
            return False
        return self.p.coo or slot.version > self._order_versions.get(order.ref, 0)

    def _try_exec(self, order):
        slot = self.slot_for(order)
        if not self._is_new_to(order, slot):
            return
        self._first_tries.setdefault(order.ref, slot.version)
        if order.info.get("post_only") and self._crosses_at_once(order, slot):
            self._bounce(order, slot)
            return
        if order.exectype == Order.Market and getattr(order.data, "tick_open", None) is None:
            self._try_exec_market(order, slot.open, slot.high, slot.low)  # the host reads the same prices, each by a search
            return
        self._note_trigger(order, slot)
        super()._try_exec(order)

    def _crosses_at_once(self, order, slot: Slot) -> bool:
        """Whether a limit would be filled by the open of the first bar after it was placed."""
        is_first = order.exectype == Order.Limit and self._first_tries.get(order.ref) == slot.version
        limit = order.created.price
        return is_first and (limit >= slot.open if order.isbuy() else limit <= slot.open)

    def _note_trigger(self, order, slot: Slot) -> None:
        """Remember at which price a stop-limit is triggered, if this bar reaches its stop: it tells whether it then rests."""
        if order.exectype not in LIMITS or order.exectype == Order.Limit or order.triggered:
            return
        stop = order.created.price
        if slot.high >= stop if order.isbuy() else slot.low <= stop:
            self._triggers[order.ref] = max(stop, slot.open) if order.isbuy() else min(stop, slot.open)

    def _try_exec_limit(self, order, popen, phigh, plow, plimit):
        """Fill a limit at the open where the open is at least as good, else at its own price where the bar reaches it."""
        sign = 1 if order.isbuy() else -1
        if sign * plimit >= sign * popen:
            bound = min(phigh, plimit) if order.isbuy() else max(plow, plimit)
            slip = self._slip_up if order.isbuy() else self._slip_down
            self._execute(order, ago=0, price=slip(bound, popen, doslip=self.p.slip_open, lim=True))
        elif plow <= plimit <= phigh:
            self._execute(order, ago=0, price=plimit)

    def _is_maker(self, order) -> bool:
        """A limit makes if it has rested: unless it fills at the open of its first bar; everything else takes (R32).

        A stop-limit rests where its limit was not yet met when it was triggered.
        """
        if order.exectype == Order.Limit:
            return not self._crosses_at_once(order, self.slot_for(order))
        if order.exectype not in LIMITS:
            return False
        trigger, limit = self._triggers.get(order.ref, order.created.price), order.created.pricelimit
        return limit < trigger if order.isbuy() else limit > trigger

    def _fee_rate(self, order) -> float:
        contract = self.slot_for(order).position.contract
        return contract.maker if self._is_maker(order) else contract.taker

    def _fill_size(self, order, slot: Slot, price: float, ago: int = 0) -> float:
        """Return what may fill in this bar; on a path what the plan of it was made with, for a filler may look at the price."""
        if self.p.filler is None:
            return order.executed.remsize
        if order.ref in self._planned_sizes:
            return self._planned_sizes[order.ref]
        filled = self.p.filler(order, price, ago)
        whole = slot.position.contract.floor_size(filled)
        if abs(filled) >= abs(order.executed.remsize):
            return order.executed.remsize
        return whole if order.isbuy() else -whole

    def possible_fills(self) -> dict[str, list[tuple[float, float]]]:
        """Return by symbol the (signed size, worst price) of every order that could fill in this bar."""
        found: dict[str, list[tuple[float, float]]] = {}
        for order in self.pending:
            slot = self.slot_for(order)
            if order.active() and self._is_new_to(order, slot) and not self.is_out_of_date(order):
                price = self._worst_price(order, slot)
                if price is not None:
                    found.setdefault(slot.symbol, []).append((order.executed.remsize, price))
        return found

    def _worst_price(self, order, slot: Slot) -> float | None:
        """Return the worst price an order could fill at in this bar, None where the bar cannot reach it."""
        is_buy = order.isbuy()
        if order.exectype == Order.Market and not self.p.coc:
            return self._slipped_worst(slot.open, slot, is_buy) if self.p.slip_perc or self.p.slip_fixed else slot.open
        stop = order.created.price if order.exectype in STOPS and not order.triggered else None
        limit = order.created.price if order.exectype == Order.Limit else order.created.pricelimit if order.exectype in LIMITS else None
        if stop is not None and not (slot.high >= stop if is_buy else slot.low <= stop):
            return None
        if limit is not None and not (slot.low <= limit if is_buy else slot.high >= limit):
            return None
        worse = max if is_buy else min
        if limit is not None:
            better = min if is_buy else max
            worst = better(limit, slot.open if stop is None else slot.high if is_buy else slot.low)
        elif stop is not None:
            worst = worse(stop, slot.open)
        elif order.exectype in (Order.Close, Order.Historical) or self.p.coc:
            worst = worse(slot.open, slot.close, order.created.price, order.created.pclose, order.pannotated or slot.close)
        else:
            worst = slot.open
        return self._slipped_worst(worst, slot, is_buy) if self.p.slip_perc or self.p.slip_fixed else worst

    def _slipped_worst(self, price: float, slot: Slot, is_buy: bool) -> float:
        """Return a bound of a price after slippage, which may leave the bar where ``slip_out`` allows it."""
        edge = max(price, slot.high) if is_buy else min(price, slot.low)
        slip = edge * self.p.slip_perc if self.p.slip_perc else self.p.slip_fixed
        return edge + slip if is_buy else max(edge - slip, 0.0)

    def fill_at_open(self) -> None:
        """Fill what the open fills: market orders, limits and stops that gapped, in the host's order."""
        self._triggered_before = {order.ref for order in self.pending if order.triggered}
        for order in list(self.pending):
            slot = self.slot_for(order)
            if order not in self.pending:
                continue
            if order.expire():
                self.pending.remove(order)
                self._expired(order)
            elif order.active() and self._is_new_to(order, slot) and self._fills_at_open(order, slot):
                self._tried.add(order.ref)
                self._try_apart(order, self._try_exec)
        self.clock.note_positions(self.slots.values())

    def _fills_at_open(self, order, slot: Slot) -> bool:
        is_buy, price = order.isbuy(), order.created.price
        if order.exectype in (Order.Market, Order.Historical):
            return True
        if order.exectype == Order.Limit or (order.exectype in LIMITS and order.triggered):
            limit = price if order.exectype == Order.Limit else order.created.pricelimit
            return limit >= slot.open if is_buy else limit <= slot.open
        if order.exectype not in STOPS or not (slot.open >= price if is_buy else slot.open <= price):
            return False
        if order.exectype in LIMITS:  # a stop-limit that gapped is a limit from the open on
            self._note_trigger(order, slot)
            order.triggered = True
            limit = order.created.pricelimit
            return limit >= slot.open if is_buy else limit <= slot.open
        return True

    def _try_apart(self, order, attempt: Callable[[Any], None]) -> None:
        """Try an order while it is out of the book: the host ends every order of a group that it finds there."""
        place = self.pending.index(order)
        self.pending.remove(order)
        attempt(order)
        if order.alive():
            self.pending.insert(min(place, len(self.pending)), order)
        elif order.status == Order.Completed:
            self._bracketize(order)

    def fill_at_close(self) -> None:
        """After a walked path: fill what waits for the session's close, and let trailing stops follow the close."""
        if self.p.intrabar == "close":  # without a path the host's matching has done both
            return
        for order in list(self.pending):
            slot = self.slot_for(order)
            if order not in self.pending or not order.active() or not self._is_new_to(order, slot):
                continue
            if order.exectype == Order.Close and order.ref not in self._tried:
                self._try_apart(order, super()._try_exec)
            elif order.exectype in TRAILS and order.ref not in self._triggered_before:
                order.trailadjust(slot.close)
        self.clock.note_positions(self.slots.values())

    def working_orders(self) -> list[WorkingOrder]:
        """Return the resting orders that the path of this bar may reach."""
        candidates = [
            self._working(order)
            for order in self.pending
            if order.active()
            and order.ref not in self._tried
            and order.exectype not in (Order.Market, Order.Close, Order.Historical)
            and self._is_new_to(order, self.slot_for(order))
        ]
        if self.p.filler is not None:
            self._planned_sizes = {order.ref: order.size for order in candidates}
        return [order for order in candidates if order.size]

    def _working(self, order) -> WorkingOrder:
        slot = self.slot_for(order)
        self._first_tries.setdefault(order.ref, slot.version)
        is_stop = order.exectype in STOPS and not order.triggered
        limit = order.created.price if order.exectype == Order.Limit else order.created.pricelimit if order.exectype in LIMITS else None
        stop = order.created.price if is_stop else None
        stop_fill = None
        if stop is not None:
            slip, edge = (self._slip_up, slot.high) if order.isbuy() else (self._slip_down, slot.low)
            stop_fill = slip(edge, stop, lim=limit is not None)
        price = order.created.price if limit is None else limit
        size = self._fill_size(order, slot, price)
        return WorkingOrder(
            ref=order.ref,
            symbol=slot.symbol,
            size=size,
            rest=order.executed.remsize - size,
            stop=stop,
            stop_fill=stop_fill,
            limit=limit,
            fee_rate=self._fee_rate(order),
            oco=self._ocos[order.ref],
            bracket=order.parent.ref if order.parent is not None else None,
            reduces=self.reduces(order),
            resting_fee_rate=slot.position.contract.maker if is_stop else None,
            gap_fill=partial(self._gap_price, order, slot),
        )

    def _gap_price(self, order, slot: Slot, opened: float) -> float | None:
        """Return what an order pays that prices inside the bar jump over to ``opened``: as at the bar's own open."""
        slip = self._slip_up if order.isbuy() else self._slip_down
        edge = slot.high if order.isbuy() else slot.low
        if order.exectype in STOPS and order.exectype not in LIMITS:
            return slip(edge, opened, doslip=self.p.slip_open)
        limit = order.created.price if order.exectype == Order.Limit else order.created.pricelimit
        bound = min(edge, limit) if order.isbuy() else max(edge, limit)
        return slip(bound, opened, doslip=self.p.slip_open, lim=True)

    def trigger(self, ref: int, price: float) -> None:
        """Mark a stop-limit as triggered at a last price."""
        order = next(order for order in self.pending if order.ref == ref)
        self._triggers[ref] = price
        order.triggered = True

    def fill_on_path(self, ref: int, price: float) -> None:
        """Fill an order where the planned path met it."""
        order = next(order for order in self.pending if order.ref == ref)
        self._try_apart(order, lambda reached: self._execute(reached, ago=0, price=price))

    def cancel_orders_of(self, symbol: str) -> None:
        """Cancel every order of a contract that is about to be liquidated (R17), those of both legs of a hedge."""
        data = self.slots[symbol].data
        for order in [order for order in self.pending if order.data is data]:
            self.cancel(order)
