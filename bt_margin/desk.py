"""The order desk: orders come in, are judged for margin, reserve it, are refused or cancelled.

Overridden here: ``buy``, ``sell`` and ``submit`` (the venue's filters, what no venue would take), ``check_submitted`` (margin
is judged in turn, on pseudo-positions), ``notify`` (an order that has ended frees what it had reserved) and ``cancel``.

A refused order has the status Margin (what it needs is not there, or the tiers do not allow it) or Rejected (no venue would
take it). Its ``info`` says why: ``reason``, one of REASONS; ``message``, the sentence that the log has too; ``needed`` and
``available``, money; ``max_size``, the largest size that would have fitted. An order that was changed on its way in has
``asked_size``, ``asked_price`` or ``asked_limit`` there.
"""

import logging
from collections.abc import Callable
from math import ceil, floor, inf, isfinite
from typing import TYPE_CHECKING, Any

from backtrader import Order
from backtrader.order import BuyOrder, SellOrder

from .comminfo import utc
from .core.account import Refusal
from .core.contract import LOT_SLACK, Contract, split_fill
from .core.orders import Resting, opened_by
from .hostorder import OrderMaker, snapshot
from .lone import accept_market, send_market
from .matching import STOPS, TRAILS, OrderBook
from .record import RefusalRow
from .slots import Slot

if TYPE_CHECKING:
    from .clock import BarClock

LOG = logging.getLogger("bt_margin")

FILTERS = ("round", "refuse")
UNFUNDED = ("reject", "shrink")

NOTHING_ELSE = (None,) * 7  # of what an order may be sent with

REASONS = (
    *("margin", "tier_cap", "short_spot"),  # the status Margin
    *("not_started", "size", "price", "lot", "tick", "min_size", "max_size", "min_notional"),  # from here on Rejected
    *("post_only", "reduce_only", "bracket", "position_side", "scaler"),
)


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
        if not self._orders:
            return slot.position.size
        worst = max if size > 0 else min
        others = [orders for (symbol, other), orders in self._orders.items() if symbol == slot.symbol and other != group]
        return slot.position.size + sum(worst(change for change, _ in orders) for orders in others)

    def opened(self, slot: Slot, group: int, size: float) -> float:
        """Return what the orders noted so far open on the side of this size, the order's own group left out."""
        if not self._orders:
            return 0.0
        others = [orders for (symbol, other), orders in self._orders.items() if symbol == slot.symbol and other != group]
        return sum(max((opened for _, opened in orders if opened * size > 0), key=abs, default=0.0) for orders in others)

    def note(self, ref: int, slot: Slot, group: int, size: float, opened: float) -> None:
        """Count an accepted order of this size, of which so much opens."""
        self.refs.add(ref)
        self._orders.setdefault((slot.symbol, group), []).append((size, opened))


class OrderDesk(OrderBook):
    """The part of MarginBroker that takes orders in."""

    _maker: OrderMaker
    clock: "BarClock"
    goes_its_own_way: bool  # whether a step of an order's life is overridden, so that none is left out
    _placed_at: dict[int, tuple[float, float]]  # the mark and the last price at which each order was placed
    doors: dict[int, Callable[..., Any]]  # by id of a strategy: what takes its orders before the broker does (``scalers``)

    def buy(self, owner, data, size, *args, **kwargs):
        """Place a buy order: ``Strategy.buy`` with the venue's own words besides.

        ``post_only=True``: a limit that is cancelled rather than filled at once. ``reduce_only=True``: an order that closes what
        is held and never opens; it needs no margin. ``position_side='LONG'`` or ``'SHORT'``: in hedge mode the leg that it changes;
        an order against its leg is reduce-only.
        """
        place = self.doors.get(id(owner), self.place) if self.doors else self.place
        return place(BuyOrder, owner, data, size, *args, **kwargs)

    def sell(self, owner, data, size, *args, **kwargs):
        """Place a sell order; see ``buy``."""
        place = self.doors.get(id(owner), self.place) if self.doors else self.place
        return place(SellOrder, owner, data, size, *args, **kwargs)

    def place(
        self,
        kind,
        owner,
        data,
        size,
        price=None,
        plimit=None,
        exectype=None,
        valid=None,
        tradeid=0,
        oco=None,
        trailamount=None,
        trailpercent=None,
        parent=None,
        transmit=True,
        histnotify=False,
        _checksubmit=True,
        **info,
    ):
        """Place an order of the host's class ``kind``, BuyOrder or SellOrder, past the owner's door."""
        is_market = not exectype and (price, plimit, valid, oco, trailamount, trailpercent, parent) == NOTHING_ELSE
        if is_market and owner is not None and not info and transmit and _checksubmit and not histnotify:
            order = send_market(self, kind, owner, data, size, tradeid, exectype)
            if order is not None:
                return order
        size = self._whole_lots(data, size, info)
        order = self._maker.make(
            kind, owner, data, size, price, plimit, exectype, valid, tradeid, trailamount, trailpercent, parent, transmit, histnotify
        )
        if info:
            order.info.update(info)
        self._ocoize(order, oco)
        return self.submit(order, check=_checksubmit)

    def withhold(self, kind, owner, data, size, reason: str, message: str, terms: dict[str, Any]):
        """Return an order that is made and rejected at once, for a reason that is no venue's; it ends no other order of its group."""
        known = ("price", "plimit", "exectype", "valid", "tradeid", "trailamount", "trailpercent", "transmit")
        order = self._maker.make(kind, owner, data, size, **{name: terms[name] for name in known if name in terms})
        order.info.update({name: value for name, value in terms.items() if name not in (*known, "oco", "parent", "histnotify")})
        self.claim(order, self.slot_for(order))
        return self._reject(order, reason, message)

    def change_size(self, order, left: float) -> None:
        """Leave so much (signed) of a live order to be filled, more or less than there was, and set aside what it then needs."""
        resize(order, left)
        resting = self.account.resting(order.ref)
        if resting is not None:
            self.account.reserve(resting._replace(size=left))
        self.note_change()

    def _whole_lots(self, data, size, info: dict[str, Any]) -> float:
        """Return the size in whole lots, or as it is where nothing would be left or nothing is rounded: ``submit`` refuses it then."""
        contract = self.legs_of(data)[0].position.contract
        whole = contract.floor_size(size) if isfinite(size) and self.p.filters == "round" else 0.0
        if whole and abs(whole - size) > LOT_SLACK * contract.lot:
            info["asked_size"] = size
        return whole or size

    def submit(self, order, check=True):
        """Take an order in, or reject what no venue would take."""
        self._take_side(order)
        slot = self.slot_for(order)
        self.claim(order, slot)
        self._order_versions[order.ref] = slot.version
        is_orphan = order.parent is not None and not order.parent.alive()  # the host rejects it
        rejected = None if is_orphan or order.info.get("liquidation") else self._rejection(order, slot)
        if rejected is None:
            if slot.position.orders.needs_prices:
                self._placed_at[order.ref] = self._present_prices(slot)
            if order.parent is not None and "asked_size" in order.parent.info:
                cut_exit(order, abs(order.parent.size))
            if order.parent is None and order.transmit:
                self._pchildren[order.ref].append(order)
                return self.transmit(order, check=check)
            return super().submit(order, check=check)
        reason, message = rejected
        for other in self._pchildren.pop(order.parent.ref, ()) if order.parent is not None else ():
            self._reject(other, "bracket", f"an order of the same bracket was rejected: {message}")
        return self._reject(order, reason, message)

    def _present_prices(self, slot: Slot) -> tuple[float, float]:
        """Return the mark and the last price known to who places an order: the close's, under cheat-on-open the open's."""
        if not slot.is_ahead:
            return slot.present_mark(), slot.data.close[0]
        return slot.present_mark(at_open=True), slot.data.open[0]

    def _rejection(self, order, slot: Slot) -> tuple[str, str] | None:
        """Return why no venue would take an order, after its price and size are brought to the contract's steps."""
        symbol, contract = slot.symbol, slot.position.contract
        if not len(order.data):
            return "not_started", f"{symbol}: no bar has come yet; place orders from the first bar on"
        if not isfinite(order.size):
            return "size", f"{symbol}: the size of an order is a finite number, was {order.size}"
        if not contract.floor_size(order.size):
            return "lot", f"{symbol}: a size of {abs(order.size):.8g} leaves no whole lot of {contract.lot:g}; order at least one lot"
        for price in (order.created.price, order.created.pricelimit):
            if price is not None and not (isfinite(price) and price > 0):
                return "price", f"{symbol}: an order price is a positive number, was {price}"
        side = self._side_refusal(order)
        if side is not None:
            return "position_side", side
        if order.info.get("post_only") and order.exectype != Order.Limit:
            return "post_only", f"{symbol}: only a limit order can be post-only, this one is {order.getordername()}; leave it out"
        off_lot = self._off_lot(order, slot, contract)
        if off_lot is not None or self.now < contract.filters_since:
            return off_lot
        return self._off_tick(order, slot, contract) or self._off_size(order, slot, contract)

    def _off_lot(self, order, slot: Slot, contract: Contract) -> tuple[str, str] | None:
        if self.p.filters == "refuse" and abs(contract.floor_size(order.size) - order.size) > LOT_SLACK * contract.lot:
            return "lot", f"{slot.symbol}: a size of {abs(order.size):.8g} is no whole number of lots of {contract.lot:g}; round it down"
        return None

    def _off_tick(self, order, slot: Slot, contract: Contract) -> tuple[str, str] | None:
        """Return why a price off its tick is refused; where steps are rounded, bring it to one.

        A buy's price goes up and a sell's down: never for the better.
        """
        if not contract.tick or order.exectype in (Order.Market, Order.Close, *TRAILS):
            return None
        for name, kept in (("price", "asked_price"), ("pricelimit", "asked_limit")):
            price = getattr(order.created, name)
            rounded = price if price is None else _to_tick(price, contract.tick, up=order.isbuy())
            if rounded != price and (self.p.filters == "refuse" or not rounded):
                at = f"order at {rounded or contract.tick:.10g}"
                return "tick", f"{slot.symbol}: a price of {price:.10g} is no multiple of the tick of {contract.tick:g}; {at}"
            if rounded != price:
                order.info[kept] = price
                setattr(order.created, name, rounded)
        return None

    def _off_size(self, order, slot: Slot, contract: Contract) -> tuple[str, str] | None:
        """Return why an order is too small or too large; where sizes are rounded, a market order is cut down to the largest."""
        if not (contract.min_size or contract.min_notional) and contract.max_size == inf:
            return None
        size, worth = abs(order.size), contract.quote_value(order.size, order.created.price)
        if size < contract.min_size * (1 - LOT_SLACK):
            return "min_size", f"{slot.symbol}: a size of {size:.8g} is below the smallest order of {contract.min_size:.8g}; order more"
        if not contract.takes(size, order.created.price, time=self.now) and not self._is_reduction(order, slot):
            least = f"the smallest order is worth {contract.min_notional:.8g}; order more"
            return "min_notional", f"{slot.symbol}: {size:.8g} at {order.created.price:.8g} is worth {worth:.8g}, {least}"
        if order.exectype == Order.Market and size > contract.max_size * (1 + LOT_SLACK):
            if self.p.filters == "refuse":
                return "max_size", f"{slot.symbol}: a market order of {size:.8g} is above the largest of {contract.max_size:.8g}; split it"
            resize(order, contract.floor_size(contract.max_size if order.size > 0 else -contract.max_size))
        return None

    def _is_reduction(self, order, slot: Slot) -> bool:
        """Whether an order only closes: an exit of a bracket, a reduce-only order, one against what is held and not larger."""
        held = slot.position.size
        closes = held * order.size < 0 and abs(order.size) <= abs(held)
        return order.parent is not None or self.reduces(order) or closes

    def _reject(self, order, reason: str, message: str):
        """Give an order the status Rejected, with the reason and the numbers a refusal for margin has."""
        self._say_why(order, reason, message)
        self._note_refusal(order)
        order.reject()
        self.notify(order)
        return order

    def _bounce(self, order, slot: Slot) -> None:
        """Reject a post-only limit that would be filled at once."""
        self.account.release(order.ref)
        self.note_change()
        price = f"{order.created.price:.8g} would be filled at the open of {slot.open:.8g}"
        self._reject(order, "post_only", f"{slot.symbol}: a post-only limit at {price}")
        self._end_linked(order)

    def _note_refusal(self, order) -> None:
        info = order.info
        LOG.info("%s UTC: %s", utc(self.now).strftime("%Y-%m-%d %H:%M"), info["message"])
        row = (info["reason"], info["message"], info["needed"], info["available"], info["max_size"], order.ref)
        self._record.refusals.append(RefusalRow(self.now, self.slot_for(order).symbol, order.executed.remsize, *row))

    def _say_why(self, order, reason: str, message: str) -> None:
        slot = self.slot_for(order)
        order.info["reason"], order.info["message"] = reason, message
        order.info["needed"] = order.info["max_size"] = None
        order.info["available"] = self.available_margin
        price = order.created.price
        if len(order.data) and price and isfinite(price) and price > 0:
            mark_price, last_price = self._placed_at.get(order.ref) or (price, price)
            marks = self.marks if slot.position.size else {**self.marks, slot.symbol: mark_price}
            order.info["needed"] = self._need_of_a_lot(slot, price, mark_price)
            if self._is_funded:
                side, is_limit = 1 if order.isbuy() else -1, order.exectype == Order.Limit
                order.info["max_size"] = self._largest(slot, side, price, marks, is_limit=is_limit, last_price=last_price)

    def _take_children(self, order):
        if order.parent is None:
            return order.ref
        parent = super()._take_children(order)
        if parent is None:  # the host has rejected an exit whose entry is gone; its notification shares this info
            slot = self.slot_for(order)
            self._say_why(order, "bracket", f"{slot.symbol}: the entry that this exit belongs to was refused or has ended")
        return parent

    def _need_of_a_lot(self, slot: Slot, price: float, mark_price: float) -> float:
        """Return what the smallest order takes at a price."""
        contract = slot.position.contract
        return self.account.opening_need(slot.symbol, size=contract.lot, price=price, fee_rate=contract.taker, mark_price=mark_price)

    def check_submitted(self):
        """Judge submitted orders in turn, on pseudo-positions, at the marks of the bar they were placed on (R7)."""
        if len(self.submitted) == 1 and self._accept_at_once(self.submitted[0]):
            self.submitted.clear()
            return
        batch = Batch()
        while self.submitted:
            order = self.submitted.popleft()
            if self._take_children(order) is None:
                continue
            if order.parent is not None:  # the exits of a bracket need nothing, and rest until their entry has filled
                self.submit_accept(order)
            elif self.reduces(order):
                self._judge_reduction(order, batch)
            else:
                self._judge(order, batch)

    def _accept_at_once(self, order) -> bool:
        """Accept a market order that was sent alone and clearly fits, as ``_judge`` would; return whether it was."""
        if order.exectype != Order.Market or order.parent is not None or self.p.coo or self.reduces(order):
            return False
        if accept_market(self, order):
            return True
        slot = self.slot_for(order)
        self._use_terms_of_today(slot)
        account, position, size, price = self.account, slot.position, order.executed.remsize, order.created.price
        closed, opened = split_fill(position.size, size)
        if not account.clearly_fits(position, opened, price, position.contract.taker, self.marks, besides=position.size, closed=closed):
            return False
        account.reserve(self._as_resting(order, slot, price))
        self.submit_accept(order)
        return True

    def _judge_reduction(self, order, batch: "Batch") -> None:
        """Accept an order that can only close where it finds something to close; it needs nothing."""
        slot, group = self.slot_for(order), self._ocos[order.ref]
        size = order.executed.remsize
        held = batch.held(slot, group, size)
        if held * size < 0 or slot.position.size * size < 0:
            closed = split_fill(held, size)[0]
            self.submit_accept(order)
            batch.note(order.ref, slot, group, closed, 0.0)
            if closed and order.exectype == Order.Market:
                batch.credit += self._freed(slot, closed, order.data.open[0] if self.p.coo else order.created.price)
            return
        what = "flat" if not held else f"{held:g}"
        self._reject(order, "reduce_only", f"{slot.symbol}: {closing(order)} of {size:g} finds nothing to close, the position is {what}")
        self._end_linked(order)

    def _judge(self, order, batch: "Batch") -> None:
        """Accept an order and reserve what it may open, or refuse it."""
        slot = self.slot_for(order)
        self._use_terms_of_today(slot)
        size, group = order.executed.remsize, self._ocos[order.ref]
        price = order.data.open[0] if self.p.coo and order.exectype == Order.Market else order.created.price
        held = batch.held(slot, group, size)
        resting = self._as_resting(order, slot, price)
        opened = self._opened(slot, resting, held, batch)
        freed = self._freed(slot, split_fill(held, size)[0], price) if order.exectype == Order.Market and held * size < 0 else 0.0
        credit = batch.credit + freed
        known = self.account.needed_for(resting), self.account.spendable(slot.symbol, self.marks)
        refused = None
        if opened:
            refused = self.account.refusal(
                slot.symbol, size=opened, price=price, fee_rate=slot.position.contract.taker, marks=self.marks,
                besides=self._besides(order, slot, batch), credit=credit, order=resting, known=known,
            )  # fmt: skip
        if refused is not None and opened == size:
            smaller = refused.max_size if self.p.unfunded == "shrink" and refused.max_size < abs(size) else 0.0
            if not slot.position.contract.takes(smaller, price, time=self.now):
                self._refuse(order, refused)
                return
            self._shrink(order, refused)
            self._judge(order, batch)
            return
        share, lent = (0.0, 0.0) if refused is not None else self._share(slot, resting, *known)
        self.account.reserve(resting if share == resting.share else resting._replace(share=share))
        self.submit_accept(order)
        batch.note(order.ref, slot, group, size, opened)
        batch.credit = max(credit - lent, 0.0)

    def submit_accept(self, order):
        """Put an order into the book; one that the host was told not to check reserves what is there."""
        if self.account.resting(order.ref) is None and not (
            order.parent is not None or self.reduces(order) or order.info.get("liquidation")
        ):
            slot = self.slot_for(order)
            resting = self._as_resting(order, slot, order.created.price)
            known = self.account.needed_for(resting), self.account.spendable(slot.symbol, self.marks)
            self.account.reserve(resting._replace(share=self._share(slot, resting, *known)[0]))
        super().submit_accept(order)

    def _as_resting(self, order, slot: Slot, price: float) -> Resting:
        """Return an order as margin sees it, at its own price and the last one of its data."""
        contract = slot.position.contract
        mark_price, last_price = self._placed_at.get(order.ref, (price, price))
        rests_as = "stop" if order.exectype in STOPS else "limit" if order.exectype == Order.Limit else "market"
        by = price
        if rests_as == "limit":
            by = slot.position.orders.price_of_limit(size=order.size, price=price, mark_price=mark_price, last_price=last_price)
        return self.account.order(
            slot.symbol,
            size=order.executed.remsize,
            price=price,
            fee_rate=contract.taker,
            mark_price=mark_price,
            margin_price=by,
            ref=order.ref,
            group=self._ocos[order.ref],
            rests_as=rests_as,
        )

    def _opened(self, slot: Slot, resting: Resting, held: float, batch: "Batch") -> float:
        """Return how much of an order opens (signed), given the pseudo-position ``held`` that it meets.

        Limits that rest since an earlier bar close it first. What the account finds to close counts too: exits that were sent
        together are each judged on what is really held, and a market order or a stop no larger than that only closes.
        """
        size, position = resting.size, slot.position.size
        if resting.rests_as != "limit" and position * size < 0 and abs(size) <= abs(position):
            return 0.0
        orders = self.account.orders_of(slot.symbol)
        by_account = opened_by(resting, orders, position)
        if not orders and held == position:
            return by_account
        in_batch = opened_by(resting, [order for order in orders if order.rests_as == "limit" and order.ref not in batch.refs], held)
        return min(by_account, in_batch, key=abs)

    def _share(self, slot: Slot, resting: Resting, needed: float, spendable: float) -> tuple[float, float]:
        """Return how much of its need an order sets aside, and how much of it is margin that orders before it have yet to free."""
        free = max(spendable, 0.0)
        if needed <= free:
            return 1.0, 0.0
        position = slot.position
        cost = position.cost(resting, opened_by(resting, self.account.orders_of(slot.symbol), position.size))
        return max(1 - (needed - free) / cost, 0.0), needed - free

    def _shrink(self, order, refused: Refusal) -> None:
        """Cut an order, and the exits of its bracket, down to the size that fits."""
        size = refused.max_size if order.isbuy() else -refused.max_size
        LOG.info("%s UTC: %s; it was cut to that", utc(self.now).strftime("%Y-%m-%d %H:%M"), refused.message)
        resize(order, size)
        self._cut_exits(order)

    def _cut_exits(self, order) -> None:
        """Cut the exits of a bracket down to the size that its entry was cut to."""
        for child in self._pchildren.get(order.ref, ()):
            if child is not order:
                cut_exit(child, abs(order.size))

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
        order.info["reason"], order.info["message"], order.info["needed"] = refused.reason, refused.message, refused.needed
        order.info["available"], order.info["max_size"] = (refused.available, refused.max_size)
        self._note_refusal(order)
        order.margin()
        self.notify(order)
        self._end_linked(order)

    def notify(self, order):
        """Queue a notification; an order that has ended frees what it had reserved."""
        self.note_change()
        if not order.alive():
            ref = order.ref
            self.account.release(ref)
            for known in (self._order_versions, self._first_tries, self._triggers, self._placed_at):
                known.pop(ref, None)
        self.notifs.append(snapshot(order))

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

    def _end_linked(self, order) -> None:
        """End the other members of a refused order's OCO group, which would be no group any more, and the rest of its bracket."""
        self._ococheck(order)
        self._cancel_sent_siblings(order)
        self._bracketize(order, cancel=True)

    def _cancel_sent_siblings(self, order) -> None:
        """End the members of an order's OCO group that were sent in this bar: the host looks for them in the book only."""
        for other in [other for other in self.submitted if self._ocos[other.ref] == self._ocos[order.ref]]:
            self.submitted.remove(other)
            other.cancel()
            self.notify(other)


def resize(order, left: float) -> None:
    """Leave so much (signed) of an order to be filled; what it was sent with stays in its ``info.asked_size``."""
    order.info.setdefault("asked_size", abs(order.size))
    order.executed.remsize = left
    order.size = order.created.size = order.created.remsize = order.executed.size + left


def cut_exit(order, size: float) -> None:
    """Cut an exit down to a size (> 0) where it is larger."""
    if abs(order.size) > size:
        resize(order, size if order.isbuy() else -size)


def _to_tick(price: float, tick: float, *, up: bool) -> float:
    """Return a price on its grid, the next one up or down where it is between two."""
    ticks = price / tick
    if abs(ticks - round(ticks)) <= LOT_SLACK * max(abs(ticks), 1.0):
        return price
    return round((ceil(ticks) if up else floor(ticks)) * tick, 12)


def closing(order) -> str:
    """Return what to call an order that can only close."""
    return "a reduce-only order" if order.info.get("reduce_only") else "a closing order"
