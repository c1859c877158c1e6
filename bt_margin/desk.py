"""The order desk: orders come in, are judged for margin, reserve it, are refused or cancelled.

Overridden here: ``buy``, ``sell`` and ``submit`` (whole lots, what no venue would take), ``check_submitted`` (margin is
judged in turn, on pseudo-positions), ``notify`` (an order that has ended frees what it had reserved) and ``cancel``.
"""

from math import isfinite

from backtrader import Order

from .core.account import Refusal
from .core.contract import split_fill
from .matching import OrderBook
from .record import Record, RefusalRow
from .slots import Slot


class Batch:
    """Orders judged together: the positions they would leave, and the margin that closing market orders will free.

    Of an OCO group only one member fills, so each is judged as if the others were not there.
    """

    def __init__(self) -> None:
        self.credit = 0.0
        self.refs: set[int] = set()
        self._orders: dict[tuple[str, int], list[tuple[float, float]]] = {}

    def held(self, slot: Slot, group: int, size: float) -> float:
        """Return the position that an order of this size meets once every order noted so far has filled.

        The order's own group is left out; of another group the member counts that leaves the order least to close.
        """
        worst = max if size > 0 else min
        others = [orders for (symbol, other), orders in self._orders.items() if symbol == slot.symbol and other != group]
        return slot.position.size + sum(worst(change for change, _ in orders) for orders in others)

    def opened(self, slot: Slot, group: int, size: float) -> float:
        """Return what the orders noted so far open on the side of this size, the order's own group left out."""
        others = [orders for (symbol, other), orders in self._orders.items() if symbol == slot.symbol and other != group]
        return sum(max((opened for _, opened in orders if opened * size > 0), key=abs, default=0.0) for orders in others)

    def note(self, ref: int, slot: Slot, group: int, size: float, opened: float) -> None:
        """Count an accepted order of this size, of which so much opens."""
        self.refs.add(ref)
        self._orders.setdefault((slot.symbol, group), []).append((size, opened))


class OrderDesk(OrderBook):
    """The part of MarginBroker that takes orders in."""

    record: Record

    def buy(self, owner, data, size, *args, **kwargs):
        """Place a buy order of a size cut down to whole lots."""
        return super().buy(owner, data, self._whole_lots(data, size), *args, **kwargs)

    def sell(self, owner, data, size, *args, **kwargs):
        """Place a sell order of a size cut down to whole lots."""
        return super().sell(owner, data, self._whole_lots(data, size), *args, **kwargs)

    def _whole_lots(self, data, size):
        """Return the size in whole lots, or as it is where nothing would be left: ``submit`` then refuses it."""
        contract = self.slot_of(data).position.contract
        return (contract.floor_size(size) or size) if isfinite(size) else size

    def submit(self, order, check=True):
        """Take an order in, or reject what no venue would take."""
        slot = self.slot_for(order)
        self.claim(order, slot)
        self._order_versions[order.ref] = slot.version
        reason = None if order.info.get("liquidation") else self._reject_reason(order, slot)
        if reason is None:
            return super().submit(order, check=check)
        for other in self._pchildren.pop(order.parent.ref, ()) if order.parent is not None else ():
            self._reject(other, f"an order of the same bracket was rejected: {reason}")
        return self._reject(order, reason)

    def _reject_reason(self, order, slot: Slot) -> str | None:
        contract = slot.position.contract
        if not len(order.data):
            return f"{slot.symbol}: no bar has come yet; place orders from the first bar on"
        if not isfinite(order.size) or not contract.floor_size(order.size):
            return f"{slot.symbol}: a size of {abs(order.size):.8g} leaves no whole lot of {contract.lot:g}; order at least one lot"
        for price in (order.created.price, order.created.pricelimit):
            if price is not None and not (isfinite(price) and price > 0):
                return f"{slot.symbol}: an order price is a positive number, was {price}"
        return None

    def _reject(self, order, reason: str):
        """Give an order the status Rejected, with the reason and the numbers a refusal for margin has."""
        self._say_why(order, reason)
        self._note_refusal(order)
        order.reject()
        self.notify(order)
        return order

    def _note_refusal(self, order) -> None:
        info = order.info
        row = (info["reason"], info["needed"], info["available"], info["max_size"], order.ref)
        self.record.refusals.append(RefusalRow(self.now, self.slot_for(order).symbol, order.executed.remsize, *row))

    def _say_why(self, order, reason: str) -> None:
        slot = self.slot_for(order)
        price = order.data.close[0] if len(order.data) else None
        order.info["reason"] = reason
        order.info["needed"] = self._need_of_a_lot(slot, price) if price is not None else None
        order.info["available"] = self.available_margin
        order.info["max_size"] = self.max_size(order.data, order.isbuy()) if price is not None and self._is_funded else None

    def _take_children(self, order):
        parent = super()._take_children(order)
        if parent is None:  # the host has rejected an exit whose entry is gone; its notification shares this info
            slot = self.slot_for(order)
            self._say_why(order, f"{slot.symbol}: the entry that this exit belongs to was refused or has ended")
        return parent

    def _need_of_a_lot(self, slot: Slot, price: float) -> float:
        """Return what the smallest order takes at a price."""
        contract = slot.position.contract
        return self.account.opening_need(slot.symbol, size=contract.lot, price=price, fee_rate=contract.taker)

    def check_submitted(self):
        """Judge submitted orders in turn, on pseudo-positions, at the marks of the bar they were placed on (R7)."""
        batch = Batch()
        while self.submitted:
            order = self.submitted.popleft()
            if self._take_children(order) is None:
                continue
            if order.parent is None:
                self._judge(order, batch)
            else:  # the exits of a bracket need nothing, and rest until their entry has filled
                self.submit_accept(order)

    def _judge(self, order, batch: "Batch") -> None:
        """Accept an order and reserve what it may open, or refuse it."""
        slot = self.slot_for(order)
        size, group = order.executed.remsize, self._ocos[order.ref]
        price = order.data.open[0] if self.p.coo and order.exectype == Order.Market else order.created.price
        held = batch.held(slot, group, size)
        closed, opened = split_fill(held, size)
        if slot.position.size * size < 0 and abs(size) <= abs(slot.position.size):
            opened = 0.0  # reduces what is really held, whatever else is queued
        credit = batch.credit + self.account.group_reservation(group)
        refused = self._opening_refusal(slot, opened, price, self._besides(order, slot, batch), credit) if opened else None
        if refused is not None and not closed:
            self._refuse(order, refused)
            return
        self.submit_accept(order)
        batch.note(order.ref, slot, group, size, opened)
        if opened and refused is None:
            self._reserve(order, slot, opened, price, group)
        if closed and order.exectype == Order.Market:
            batch.credit += self._freed(slot, closed, price)

    def _opening_refusal(self, slot: Slot, opened: float, price: float, besides: float, credit: float) -> Refusal | None:
        self._use_terms_of_today(slot)
        taker = slot.position.contract.taker
        return self.account.refusal(slot.symbol, size=opened, price=price, fee_rate=taker, marks=self.marks, besides=besides, credit=credit)

    def _reserve(self, order, slot: Slot, opened: float, price: float, group: int) -> None:
        """Set aside what an opening needs, as far as it is not margin that orders before it have yet to free."""
        need = self.account.opening_need(slot.symbol, size=opened, price=price, fee_rate=slot.position.contract.taker)
        free = self.account.spendable(slot.symbol, self.marks) + self.account.group_reservation(group)
        self.account.reserve(order.ref, min(need, max(free, 0.0)), symbol=slot.symbol, group=group)

    def _besides(self, order, slot: Slot, batch: "Batch") -> float:
        """Return what counts to the same side already: the position and the openings ordered before (R4)."""
        size, group = order.executed.remsize, self._ocos[order.ref]
        resting = self._resting_size(slot, 1 if size > 0 else -1, apart_from=batch.refs, group=group)
        held = slot.position.size if slot.position.size * size > 0 else 0.0
        return held + resting + batch.opened(slot, group, size)

    def _freed(self, slot: Slot, closed: float, price: float) -> float:
        """Return the margin that a closing market order will free at the next open, at its own price."""
        position = slot.position
        share = min(abs(closed / position.size), 1.0) if position.size else 0.0
        contract = position.contract
        fee = contract.fee(closed, price, maker=False)
        if position.is_isolated:
            if not share:
                return 0.0
            pnl = contract.unrealized_pnl(size=-closed, entry_price=position.entry_price, mark_price=price)
            return max(share * self.account.wallets[position.wallet] + pnl - fee, 0.0)
        mark_price = self.marks[slot.symbol] if position.size else price
        at_entry = position.size and position.terms.has_initial_at_entry(is_isolated=False)
        margin = position.opening_margin(-closed, position.entry_price if at_entry else mark_price)
        return margin + contract.unrealized_pnl(size=-closed, entry_price=mark_price, mark_price=price) - fee

    def _refuse(self, order, refused: Refusal) -> None:
        """Give an order the status Margin, with the reason and the numbers in its info."""
        order.info["reason"], order.info["needed"] = refused.reason, refused.needed
        order.info["available"], order.info["max_size"] = (refused.available, refused.max_size)
        self._note_refusal(order)
        order.margin()
        self.notify(order)
        self._ococheck(order)
        self._bracketize(order, cancel=True)

    def notify(self, order):
        """Queue a notification; an order that has ended frees what it had reserved."""
        self._available = None
        if not order.alive():
            self.account.release(order.ref)
            self._order_versions.pop(order.ref, None)
            self._first_tries.pop(order.ref, None)
        super().notify(order)

    def cancel(self, order, bracket=False):
        """Cancel an order, also one that was sent in this very bar."""
        if super().cancel(order, bracket=bracket):
            self._cancel_sent_siblings(order)
            return True
        if order not in self.submitted:
            return False
        self.submitted.remove(order)
        order.cancel()
        self.notify(order)
        self._ococheck(order)
        self._cancel_sent_siblings(order)
        if not bracket:
            self._bracketize(order, cancel=True)
        return True

    def _cancel_sent_siblings(self, order) -> None:
        """End the members of an order's OCO group that were sent in this bar: the host looks for them in the book only."""
        for other in [other for other in self.submitted if self._ocos[other.ref] == self._ocos[order.ref]]:
            self.submitted.remove(other)
            other.cancel()
            self.notify(other)
