"""Lulls: runs of bars on which nothing can happen to the account, passed without a look at each.

After a bar a lull is planned up to the first bar that could matter: one whose marks leave a band in which no wallet can
reach its maintenance, one that a resting order could fill on, one with a funding stamp, or with other tiers, terms or fees.
A bar inside it costs a count. The figures of the present bar are reckoned when somebody asks for them, the rows of all its
bars once the record is read: by the same operations in the same order as ``BarClock.write``, so that they are the same
numbers to the last digit.

What the account holds, owes and orders does not change inside a lull: whatever changes it ends the lull first, and an order
that somebody has written to ends it before the next bar.
Lulls need feeds that are preloaded and share their stamps, positions that are plain (linear contracts whose maintenance
goes by mark) and no check on every bar; anything else takes the plain road.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from backtrader import Order

from .core.account import Position
from .core.ledger import CROSS, MONEY_TOLERANCE
from .core.tiers import maintenance_margin
from .passed import Carried, maintenance_margins
from .screen import is_farther, moved_mark, plain_share

if TYPE_CHECKING:
    import numpy as np

    from .broker import MarginBroker
    from .slots import Slot

WIDEST, NARROWEST = 0.32, 0.0025  # of a band to each side of the mark, as a fraction of it
SHORTEST_LOOK, LONGEST_LOOK = 512, 8_192  # bars looked ahead at once
SHORT = 3  # a lull of fewer bars was hardly worth its plan
PAUSE = 8  # bars until the next try where a wallet is too near to its maintenance for any band

LEAST_AHEAD = 64  # bars of which the extremes must be known still, or more are looked at

Ahead = tuple[int, float, float]  # a bar, and the lowest and the highest mark up to it

PLAIN_ORDERS = (Order.Limit, Order.Stop, Order.StopLimit)  # those that wait for a fixed price


class Lull:
    """The present lull of a broker, if there is one: the bars after the last planned one up to ``until``.

    Bars are counted as the host does, from 1. ``last`` is the last bar passed, ``seen`` the one up to which slots, marks and
    rows have been brought; ``is_priced``: the figures of the last bar are known.
    """

    def __init__(self, broker: "MarginBroker") -> None:
        self.broker = broker
        self.is_on, self.is_priced = False, True
        self.until = self.last = self.seen = 0
        self.lead: Any = None  # the clock of the first data
        self.others: list[Any] = []  # those of the others
        self.stamps = array("d")
        self.carried: list[Carried] = []
        self.watched: list[Slot] = []
        self.sealed: list[tuple[Any, ...]] = []  # what each resting order waits for
        self.balances = (0.0, 0.0, 0.0)  # of all wallets, of the cross wallet, reserved for orders
        self._is_possible: bool | None = None
        self._look = SHORTEST_LOOK
        self._ahead: dict[int, Ahead] = {}  # by number of the slot
        self._is_far = False  # whether no bar of the lull can come nearer to a liquidation price than one before
        self._try_at = 0
        self._began = self._quiet_bars = self._quiet_needed = 0

    # -- passing bars ------------------------------------------------------------------------------------------------

    def passes(self) -> bool:
        """Pass the present bar, or return False where it needs a look; whoever asks has seen to orders and transfers."""
        count = self.lead.lencount
        if self.last + 1 == count < self.until and not (self.sealed and self._has_moved()) and not (self.others and self._is_torn(count)):
            self.last, broker = count, self.broker
            broker.now = self.stamps[count - 1]
            if self.is_priced and self.carried:
                self._forget_figures()
            return True
        return False

    @property
    def began(self) -> int:
        """The bar with which it began, the last to get a look."""
        return self._began

    def stands_on(self, count: int) -> bool:
        """Whether it is on at this bar, and nothing is about to change or has: the account is what ``carried`` says."""
        return self.is_on and self.last == count < self.until

    def _has_moved(self) -> bool:
        """Whether somebody has written to a resting order: the host's orders may be, and tell nobody."""
        return [_seal(order) for order in self.broker.pending] != self.sealed

    def _is_torn(self, count: int) -> bool:
        """Whether the datas stand on different bars, for somebody has moved one by hand: then there are no lulls any more."""
        for line in self.others:
            if line.lencount != count:
                self._is_possible = False
                return True
        return False

    def leave(self) -> None:
        """Bring everything up to the last bar passed and see that the next one gets a look: the account is about to change."""
        self.catch_up()
        self.interrupt()

    def end(self, *, is_last: bool = False) -> None:
        """Bring everything up to the last bar passed and look at each bar from here on.

        What is held reads its new bar in any case, so that it need not read the one before; unless there ``is_last`` none.
        """
        self.price()
        self.catch_up(reads_held=is_last)
        self.is_on = False
        self.broker.account.before_change = None
        self._quiet_bars = 0
        passed = self.last - self._began
        self._quiet_needed = 2 if passed < SHORT else 0
        self._look = min(self._look * 2, LONGEST_LOOK) if passed >= self._look - 1 else SHORTEST_LOOK

    def interrupt(self) -> None:
        """See that the next bar gets a look: something is about to change, or just has."""
        if self.is_on:
            self.price()
            self.until = 0

    def price(self) -> None:
        """Publish the figures of the last bar passed."""
        if self.is_priced:
            return
        self.is_priced = True
        row = self.last - 1
        equity, free, order_margin = self.balances
        notional = 0.0
        for slot, units, _, terms in self.carried:
            mark = slot.mark_closes[row]
            value = units * mark if units > 0 else -units * mark
            profit = units * (mark - terms[2])
            equity += profit
            notional += value
            if not terms[4]:
                free += profit - value / terms[5]
        self.broker.publish(equity, free - order_margin, notional)

    def catch_up(self, *, reads_held: bool = True) -> None:
        """Bring slots, marks and the rows of the record up to the last bar passed; prices in slots that hold nothing, if so told."""
        start, end = self.seen, self.last
        if start == end:
            return
        self.seen = end
        broker = self.broker
        for slot in broker._slots.values():
            slot.stand_on(end)
        for slot in self.watched:
            if reads_held or not slot.position.size:
                slot.read_row(end - 1)
            broker._marks[slot.symbol] = slot.mark_closes[end - 1]
        if self.carried and not self._is_far:
            self._note_closest_call(start, end)
        self._keep(start, end)

    def _note_closest_call(self, start: int, end: int) -> None:
        """Keep the least distance to a liquidation price in these bars, each mark at its own worst and the others at their close."""
        held, closest = self.broker.clock.held, self.broker._record.closest_call
        ends = [(min(slot.mark_lows[start:end]), max(slot.mark_highs[start:end])) for slot, _ in held]
        shares = [_least_share(position, low, high) for (_, position), (low, high) in zip(held, ends, strict=True)]
        headrooms = dict(self.broker.account.wallets)
        for (_, position), share in zip(held, shares, strict=True):
            headrooms[position.wallet] += share
        for (slot, position), (low, high), share in zip(held, ends, shares, strict=True):
            worst = low if position.size > 0 else high
            headroom = headrooms[position.wallet] - share + plain_share(position, worst)
            if not is_farther(position, headroom, worst, closest):
                self._note_distances(slot, position, start, end)

    def _note_distances(self, slot: "Slot", position: Position, start: int, end: int) -> None:
        """Note the distances of one contract's worst marks that may be nearer to its liquidation price than any before."""
        import numpy as np

        broker, alike = self.broker, [other for other in self.broker.clock.held if other[1].wallet == position.wallet]
        worst = np.frombuffer(slot.mark_lows if position.size > 0 else slot.mark_highs, np.float64)[start:end]
        others = np.full(end - start, broker.account.wallets[position.wallet])
        for other, holding in alike:
            if other is not slot:
                others += _shares(holding, np.frombuffer(other.mark_closes, np.float64)[start:end])
        at_worst = others + _shares(position, worst)
        slack = MONEY_TOLERANCE * np.abs(worst) * position.notional(1.0)
        is_noted = np.zeros(end - start, dtype=bool)
        while True:
            moved = moved_mark(position, worst, broker._record.closest_call)
            left = np.where(is_noted, inf, others + _shares(position, moved) - slack)
            nearest = int(left.argmin())
            if left[nearest] > 0:
                return
            is_noted[nearest] = True
            if len(alike) == 1:  # bars that ask the same have the same answer
                is_noted |= worst == worst[nearest]
            marks = {**broker._marks, **{other.symbol: other.mark_closes[start + nearest] for other, _ in alike}}
            price = broker.clock.note_distance(slot, position, float(at_worst[nearest]), float(worst[nearest]), marks)
            if price is None and len(alike) == 1:  # alone in its wallet it has one price, or none, on all these bars
                return

    def _keep(self, start: int, end: int) -> None:
        """Record the bars that were passed by what their rows follow from."""
        record = self.broker._record
        if self.carried:
            record.bars_held += end - start
        record.passed.add(len(record), start, end, self.balances, self.carried)

    # -- planning ----------------------------------------------------------------------------------------------------

    def plan(self, has_fills: bool) -> None:
        """Begin a lull after the present bar, if there are bars that need no look; ``has_fills``: this bar had some."""
        self._quiet_bars = 0 if has_fills else self._quiet_bars + 1
        if self._is_possible is None:
            self._is_possible = self._find_out()
        if not self._is_possible or self._quiet_bars < self._quiet_needed:
            return
        broker, count = self.broker, self.lead.lencount
        if count < self._try_at or broker._userhist or self._is_torn(count):
            return
        held = broker.clock.held
        if held and not (broker._fundshares and all(position.is_plain for _, position in held)):
            return  # without shares a share of the fund is worth what it was last, which a passed bar forgets
        watched = self._watched(held)
        until = self._until_event(count, watched)
        if until > count + 1 and broker.pending:
            until = min(until, self._until_order(count, until))
        if until > count + 1 and held:
            until = min(until, self._until_danger(count, until, held))
        if until > count + 1:
            self._begin(count, until, held, watched)

    def begin_here(self, slot: "Slot", position: Position) -> bool:
        """Begin a lull with the present bar, at whose open the one plain position was entered or changed; False where that cannot be.

        Its row follows from what is held now like those of the bars after it. None of its marks may come nearer to a liquidation
        price than a bar before has, and no order may be left.
        """
        if self._is_possible is None:
            self._is_possible = self._find_out()
        broker, count = self.broker, slot.count
        if not self._is_possible or self._quiet_needed or broker.pending or broker._userhist or not broker._fundshares:
            return False
        if self.lead.lencount != count or self._is_torn(count):
            return False
        watched = [slot]
        until = self._until_event(count, watched)
        end, low, high = self._look_ahead(slot, count)
        if until <= count + 1 or end <= count:
            return False
        if not self._is_calm_alone(slot, position, min(low, slot.mark_close), max(high, slot.mark_close)) or not self._is_far:
            return False
        self._begin(count, min(until, end + 1), broker.clock.held, watched)
        self.seen = count - 1
        self._forget_figures()
        return True

    def _forget_figures(self) -> None:
        """See that the figures of the last bar passed are reckoned when they are asked for."""
        broker = self.broker
        self.is_priced = False
        del broker._value, broker._available, broker._notional, broker._fundval

    def _find_out(self) -> bool:
        """Whether this run can have lulls at all."""
        broker, slots = self.broker, list(self.broker._slots.values())
        if broker.is_hedging or broker.p.check or broker.thresholds.is_set:
            return False
        if not (slots and broker.cerebro._dopreload) or len({slot.data.lines.datetime.lencount for slot in slots}) > 1:
            return False
        first, stamps = slots[0], slots[0].all_stamps()
        if stamps is None or not all(slot.has_stamps(first, stamps) for slot in slots[1:]):
            return False
        self.broker._record.passed.stamps = stamps
        self.stamps, self.lead = stamps, first.data.lines.datetime
        self.others = [slot.data.lines.datetime for slot in slots[1:]]
        return True

    def _watched(self, held: Sequence[tuple["Slot", Position]]) -> list["Slot"]:
        """Return the slots that the plain road would read on every bar: those that are held or have orders."""
        watched = [slot for slot, _ in held]
        if self.broker.pending:
            known = {slot.symbol for slot in watched}
            ordered = {id(order.data) for order in self.broker.pending}
            watched += [slot for slot in self.broker._slots.values() if id(slot.data) in ordered and slot.symbol not in known]
        return watched

    def _until_event(self, count: int, watched: Iterable["Slot"]) -> int:
        """Return the first bar with a funding stamp, or with other tiers, terms or fees; one after the last where there is none."""
        stamps = self.stamps
        until, now = len(stamps) + 1, stamps[count - 1]
        for slot in watched:
            if slot.next_stamp < now or not slot.is_fresh or slot.is_in_grace():
                return count
            if slot.next_stamp < inf:
                until = min(until, bisect_right(stamps, slot.next_stamp, count) + 1)
            if slot.next_tiers < inf:
                until = min(until, bisect_left(stamps, slot.next_tiers, count) + 1)
        return until

    def _until_order(self, count: int, until: int) -> int:
        """Return the first bar on which a resting order could fill or end, within the look ahead; ``count`` where none may rest."""
        broker = self.broker
        bounds: dict[str, tuple[float, float]] = {}
        if broker._toactivate or any(order.share < 1 for order in broker.account.resting_orders):
            return count  # exits are about to begin; what an order lacks may come in with any bar
        for order in broker.pending:
            slot = broker._legs_by_data[id(order.data)][0]
            if order.exectype not in PLAIN_ORDERS or (order.active() and order.ref not in broker._first_tries):
                return count
            if order.valid:
                until = min(until, bisect_right(order.data.lines.datetime.array, order.valid, count, len(self.stamps)) + 1)
            if order.active():
                low, high = bounds.get(slot.symbol, (-inf, inf))
                is_stop = order.exectype != Order.Limit and not order.triggered
                price = order.created.price if is_stop or order.exectype == Order.Limit else order.created.pricelimit
                if order.isbuy() == is_stop:
                    bounds[slot.symbol] = (low, min(high, price))
                else:
                    bounds[slot.symbol] = (max(low, price), high)
        for symbol, (low, high) in bounds.items():
            lines = broker._slots[symbol].data.lines
            until = min(until, self._until_outside(count, until, lines.low.array, lines.high.array, low, high, is_edge_inside=False))
        return until

    def _until_danger(self, count: int, until: int, held: Sequence[tuple["Slot", Position]]) -> int:
        """Return the first bar whose marks leave a band in which nothing can come of them, within the look ahead."""
        self._is_far = False
        ahead = [self._look_ahead(slot, count) for slot, _ in held]
        if self._is_calm_ahead(held, ahead):
            return min(until, min(end for end, _, _ in ahead) + 1)
        width = WIDEST
        while not self._is_calm(held, width):
            width /= 2
            if width < NARROWEST:
                self._try_at = count + PAUSE
                return count
        for slot, _ in held:
            low, high = slot.mark_close * (1 - width), slot.mark_close * (1 + width)
            until = min(until, self._until_outside(count, until, slot.mark_lows, slot.mark_highs, low, high, is_edge_inside=True))
        return until

    def _look_ahead(self, slot: "Slot", count: int) -> "Ahead":
        """Return how far the marks from a bar on are known, and their lowest and highest on those bars or on more."""
        known = self._ahead.get(slot.number)
        if known is not None and known[0] - count >= min(LEAST_AHEAD, len(self.stamps) - count):
            return known
        import numpy as np

        end, start = min(count + self._look, len(self.stamps)), count - 1
        lows = np.frombuffer(slot.mark_lows, np.float64, end - start, 8 * start)
        highs = np.frombuffer(slot.mark_highs, np.float64, end - start, 8 * start)
        self._ahead[slot.number] = found = end, float(lows.min()), float(highs.max())
        return found

    def _is_calm_ahead(self, held: Sequence[tuple["Slot", Position]], ahead: Sequence["Ahead"]) -> bool:
        """Whether no wallet fails with each mark anywhere between its lowest and highest, the rule of ``_is_calm``.

        If so, note whether any of them could come nearer to a liquidation price than a bar before has.
        """
        if len(held) == 1:
            return self._is_calm_alone(*held[0], *ahead[0][1:])
        account, closest = self.broker.account, self.broker._record.closest_call
        headrooms = dict(account.wallets)
        slack = MONEY_TOLERANCE * account.turnover
        shares = [_least_share(position, low, high) for (_, position), (_, low, high) in zip(held, ahead, strict=True)]
        for (slot, position), share in zip(held, shares, strict=True):
            headrooms[position.wallet] += share
            slack += MONEY_TOLERANCE * position.notional(slot.mark_close)
        if not all(headrooms[position.wallet] > slack for _, position in held):
            return False
        is_far = True
        for (_, position), (_, low, high), share in zip(held, ahead, shares, strict=True):
            worst = low if position.size > 0 else high
            headroom = headrooms[position.wallet] - share + plain_share(position, worst)
            is_far = is_far and is_farther(position, headroom, worst, closest)
        self._is_far = is_far
        return True

    def _is_calm_alone(self, slot: "Slot", position: Position, low: float, high: float) -> bool:
        """Whether the only position is calm in that sense."""
        account, brackets, entry_price = self.broker.account, position.brackets, position.entry_price
        units, balance = position.size * position.contract.multiplier, account.wallets[position.wallet]
        gross = abs(units)
        at_low = balance + units * (low - entry_price) - maintenance_margin(brackets, gross * low)
        at_high = balance + units * (high - entry_price) - maintenance_margin(brackets, gross * high)
        slack = MONEY_TOLERANCE * (account.turnover + gross * slot.mark_close)
        if not (at_low > slack and at_high > slack):
            return False
        closest = self.broker._record.closest_call
        worst = low if units > 0 else high
        moved = low * (1 - min(closest, 1.0)) if units > 0 else high * (1 + closest)  # as in ``screen.is_farther``
        left = balance + units * (moved - entry_price) - maintenance_margin(brackets, gross * moved) if moved < inf else -inf
        self._is_far = left > MONEY_TOLERANCE * gross * worst
        return True

    def _is_calm(self, held: Sequence[tuple["Slot", Position]], width: float) -> bool:
        """Whether no wallet fails with each mark anywhere in its band.

        Profit less maintenance is concave in each mark, so its least value lies at an end of the band. The same rule as of the
        screen, on the safe side of rounding.
        """
        account = self.broker.account
        headrooms = dict(account.wallets)
        slack = MONEY_TOLERANCE * account.turnover
        for slot, position in held:
            headrooms[position.wallet] += _least_share(position, slot.mark_close * (1 - width), slot.mark_close * (1 + width))
            slack += MONEY_TOLERANCE * position.notional(slot.mark_close)
        return all(headrooms[position.wallet] > slack for _, position in held)

    def _until_outside(self, count: int, until: int, lows: array, highs: array, low: float, high: float, *, is_edge_inside: bool) -> int:
        """Return the first bar after ``count`` that is not inside the band from low to high; no further than the look ahead."""
        import numpy as np

        end = min(until - 1, count + self._look)
        if end <= count:
            return count
        least = np.frombuffer(lows, np.float64, end - count, 8 * count)
        most = np.frombuffer(highs, np.float64, end - count, 8 * count)
        if low < least.min() and most.max() < high:
            return end + 1
        outside = (least < low) | (most > high) if is_edge_inside else (least <= low) | (most >= high)
        first = int(outside.argmax())
        return count + first + 1 if outside[first] else end + 1

    def _begin(self, count: int, until: int, held: Sequence[tuple["Slot", Position]], watched: "list[Slot]") -> None:
        account = self.broker.account
        wallets = account.wallets
        self.carried = [
            (slot, position.size * position.contract.multiplier, position.brackets, slot.terms_held(wallets[position.wallet]))
            for slot, position in held
        ]
        self.balances = (sum(wallets.values()), wallets[CROSS], account.order_margin)
        self.watched = watched
        self.sealed = [_seal(order) for order in self.broker.pending] if self.broker.pending else []
        self.last = self.seen = self._began = count
        self.until, self.is_on = until, True
        account.before_change = self.leave
        self.broker.clock.rest()


def _seal(order: Order) -> tuple[Any, ...]:
    """Return all that a resting order's fill depends on, besides the bars."""
    created = order.created
    return order.ref, created.price, created.pricelimit, order.exectype, order.valid, order.triggered, order._active, order.status


def _least_share(position: Position, low: float, high: float) -> float:
    """Return the least that a plain position adds to its wallet's headroom with its mark between two prices."""
    return min(plain_share(position, low), plain_share(position, high))


def _shares(position: Position, marks: "np.ndarray") -> "np.ndarray":
    """Return what a plain position adds to its wallet's headroom at each of these marks."""
    units = position.size * position.contract.multiplier
    return units * (marks - position.entry_price) - maintenance_margins(position.brackets, abs(units) * marks)
