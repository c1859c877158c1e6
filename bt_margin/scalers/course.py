"""The course of a ladder on one data: which order of the strategy begins it, what it places, what ends it.

An order of the strategy while it is flat is an *entry*: it goes out with the first rung's share of what was asked for, and what
was asked for is the *whole* that the other rungs are shares of. Once the entry has filled (or has ended with a part filled) the
rungs are placed as orders of the strategy's own. Until the last of them has filled or the ladder is over, adding is its business:
an order of the strategy that would add is rejected with the reason 'scaler'.

An order against the position is an *exit*. It is held against what the strategy takes its position to be: the whole that it
ordered, or what is really held. An exit of either size closes all that is held, and is never more than that. What goes beyond,
a reversal, is the entry of a new ladder; what is less takes what it says and ends the ladder. A market exit cancels the rungs
as it is sent. One that rests (a stop-loss, a target, the exits of a bracket) grows with what the rungs add and cancels the
rungs when it fills; what a rung has bought in that very bar is sold at the next open.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backtrader import Order
from backtrader.order import BuyOrder, SellOrder

from ..core.ladder import Ladder, climb
from ..sizers.past import AverageRange

if TYPE_CHECKING:
    from .attach import Scaling

SAME = 1e-9  # sizes that differ by less, of themselves, are the same
AT_MARKET = (None, Order.Market, Order.Close)


@dataclass
class Entry:
    """An order that may begin a ladder: how much was asked for, the average true range then, the exits of its bracket."""

    order: Any
    whole: float
    atr: float | None
    exits: list["Exit"] = field(default_factory=list)


@dataclass
class Exit:
    """A resting exit of the strategy: the share of the position that it closes, and what it opens beyond."""

    order: Any
    share: float
    extra: float = 0.0


class Course:
    """The ladder of one data, if there is one; ``side`` is 0 where there is none."""

    def __init__(self, scaling: "Scaling", data: Any) -> None:
        self.scaling, self.data = scaling, data
        self.ladder: Ladder = scaling.ladder
        self.broker = scaling.broker
        self.entries: dict[int, Entry] = {}
        self.range = None if self.ladder.atr_period is None else AverageRange(self.ladder.atr_period)
        self._clear()

    def _clear(self) -> None:
        self.side, self.whole, self.price = 0, 0.0, 0.0
        self.entry: Entry | None = None
        self.rungs: dict[int, Any] = {}  # the live ones, by number from 0
        self.filled = self.following = 0  # the last rung filled, the next one to place
        self.end = len(self.ladder.rungs)  # of those that may be placed
        self.shift = 0.0  # by which rungs that follow fills are off the first plan
        self.stop: Any = None
        self.exits: list[Exit] = []
        self.bought = self.covered = 0.0  # by rungs that have ended; by all rungs when exits were last brought to size
        self.closed = 0.0  # which share of the position the strategy's exits have closed
        self.leaving: Any = None  # the market order that closes everything
        self.is_sweeping = False  # whether that is ours, for what an exit of the strategy has left
        self.is_launched = self.is_over = False
        self.is_even = self.ladder.is_trivial  # whether what the strategy takes itself to hold is what is held
        self.told: dict[str, Any] = {}

    # -- what the account says -----------------------------------------------------------------------------------------

    @property
    def held(self) -> float:
        """What is held of the data, signed."""
        return float(self.broker.getposition(self.data).size)

    @property
    def first_share(self) -> float:
        return self.ladder.rungs[0].share

    @property
    def is_adding(self) -> bool:
        """Whether rungs of this ladder are still to fill."""
        if self.is_over or len(self.ladder.rungs) == 1:
            return False
        return not self.is_launched or bool(self.rungs) or self.following < self.end

    # -- orders of the strategy ----------------------------------------------------------------------------------------

    def take(self, kind: type[Order], size: float, terms: dict[str, Any]) -> Any:
        """Send an order of the strategy, in the size that the ladder makes of it, and return it."""
        sign = 1 if kind is BuyOrder else -1
        parent = terms.get("parent")
        if parent is not None:
            return self._take_child(kind, size, parent, terms)
        self.catch_up()
        held = self.held
        if held and not self.side:  # held for another reason than a ladder's
            return self._send(kind, size, terms)
        if self.is_sweeping and sign * held < 0 and _is_same(size, abs(held)):
            self._cancel([self.leaving])  # the strategy closes what is left by itself
            self.leaving, self.is_sweeping = None, False
        if not held or self.leaving is not None:
            return self._enter(kind, size, size if self.first_share == 1 else size * self.first_share, terms)
        if sign * held > 0:
            return self._withhold(kind, size, terms) if self.is_adding else self._send(kind, size, terms)
        return self._exit(kind, size, held, terms)

    def _send(self, kind: type[Order], size: float, terms: dict[str, Any], **info: Any) -> Any:
        return self.broker.place(kind, self.scaling.strategy, self.data, size, **terms, **info)

    def _withhold(self, kind: type[Order], size: float, terms: dict[str, Any]) -> Any:
        self.scaling.withheld += 1
        message = f"{self.broker.slot_of(self.data).symbol}: a ladder is under way and adding is its business until rung {self.end}"
        return self.broker.withhold(kind, self.scaling.strategy, self.data, size, "scaler", message, terms)

    def _enter(self, kind: type[Order], whole: float, size: float, terms: dict[str, Any]) -> Any:
        """Send an entry in a size, with what it closes before, and keep it as one that a ladder may begin with."""
        ladder = self.ladder
        atr = None if self.range is None else self.range.so_far(self.data, int(self.broker.slot_of(self.data).is_ahead))
        info = {} if ladder.is_trivial else {"rung": 1, "whole": whole}
        order = self._send(kind, size, terms, **info)
        if order.alive():
            self.entries[order.ref] = Entry(order, whole, atr)
            self._tell_before(1 if kind is BuyOrder else -1, self.entries[order.ref])
        return order

    def _take_child(self, kind: type[Order], size: float, parent: Any, terms: dict[str, Any]) -> Any:
        """Send an exit of a bracket, which is of the entry's own size until rungs add to it."""
        entry = self.entries.get(parent.ref)
        if entry is None:
            return self._send(kind, size, terms)
        base = abs(parent.size)
        share = min(size / (base if size <= base * (1 + SAME) else entry.whole), 1.0)
        order = self._send(kind, size if size <= base else share * base, terms, **self._only_reduces())
        entry.exits.append(Exit(order, share))
        return order

    def _only_reduces(self) -> dict[str, Any]:
        # The ladder's stop and an exit of the strategy could both fill in one bar, and the second one must not open.
        return {} if self.ladder.is_trivial else {"reduce_only": True}

    def _exit(self, kind: type[Order], size: float, held: float, terms: dict[str, Any]) -> Any:
        """Send an order against the position: all of it, with what opens beyond, or a part."""
        all_held, whole, extra = abs(held), self.whole, 0.0
        is_market = terms.get("exectype") in AT_MARKET
        if self.scaling.is_targeting and size < all_held * (1 - SAME):
            if all_held - size >= whole * (1 - SAME):  # the target is no less than what it takes itself to hold
                return self._withhold(kind, size, terms)
            return self._part(kind, size, all_held, terms, is_market=is_market)
        if self.scaling.is_targeting or _is_same(whole, all_held):
            extra = size - all_held
        elif not _is_same(size, all_held):
            extra = size - whole if size > whole * (1 + SAME) else 0.0
        if not _is_same(size, all_held) and size < min(all_held, whole) * (1 - SAME):
            return self._part(kind, size, all_held, terms, is_market=is_market)
        if extra > SAME * all_held:
            is_own = self.first_share == 1 and _is_same(whole, all_held)
            order = self._enter(kind, extra, size if is_own else all_held + self.first_share * extra, terms)
            extra = abs(order.size) - all_held
        else:
            extra = 0.0
            size = size if _is_same(size, all_held) else all_held
            order = self._send(kind, size, terms, **({} if is_market else self._only_reduces()))
        if not order.alive():
            return order
        if is_market:
            self.leaving = order
            self._finish("left")
        else:
            self.exits.append(Exit(order, 1.0, extra))
        return order

    def _part(self, kind: type[Order], size: float, all_held: float, terms: dict[str, Any], *, is_market: bool) -> Any:
        order = self._send(kind, size, terms, **({} if is_market else self._only_reduces()))
        if order.alive():
            if is_market:
                self._finish("reduced")
            else:
                self.exits.append(Exit(order, size / all_held))
        return order

    # -- what has become of orders -------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Bring what is known of the position up to its orders, without placing any."""
        held = self.held
        if self.side and (held * self.side <= 0 or self._has_left()):
            self._close_course()
        for ref, entry in list(self.entries.items()):
            order = entry.order
            if not self.side and order.executed.size and order.executed.size * held > 0:
                self.side, self.entry, self.exits = 1 if held > 0 else -1, entry, entry.exits
                self.price, self.whole = order.executed.price, abs(held) / self.first_share
            if not order.alive():
                del self.entries[ref]
        if self.entry is not None and not self.is_launched:
            self.price, self.whole = self.entry.order.executed.price, abs(held) / self.first_share
        elif not self.is_even and not self.is_adding:
            self.is_even = _is_same(self.whole, abs(held))
        if self.is_even:
            self.whole = abs(held)

    def _has_left(self) -> bool:
        """Whether the market exit of everything has filled; one that ended otherwise leaves the position to the strategy."""
        order = self.leaving
        if order is None or order.alive():
            return False
        self.leaving, self.is_sweeping = None, False
        return bool(order.status == Order.Completed)

    def review(self) -> None:
        """Do what the present state of all orders asks for; called for each notification, and the same the second time."""
        self.catch_up()
        if not self.side:
            return
        if self.entry is not None and not self.entry.order.alive() and not self.is_launched:
            self._launch()
        self._review_rungs()
        self._review_exits()
        self._follow()

    def liquidated(self) -> None:
        """End the ladder: the venue has taken the position or a part of it."""
        self.catch_up()
        if self.side:
            self._finish("liquidated")

    def _launch(self) -> None:
        """Place the ladder of an entry that has filled."""
        self.is_launched = True
        assert self.entry is not None
        self.filled, self.following = 0, 1
        self.told = {
            "time": self.broker.now, "symbol": self.broker.slot_of(self.data).symbol, "side": self.side,
            "price": self.price, "whole": self.whole, "atr": self.entry.atr, "filled": 1, "refused": "", "ended": "",
        }  # fmt: skip
        self.scaling.ladders.append(self.told)
        if self.leaving is not None or self.is_over:
            return
        if self.ladder.unit(self.price, self.entry.atr) <= 0:
            self._refuse(1, "the average true range is 0, so that all rungs lie at the entry")
        elif self.ladder.refuse is not None:
            refused = next((row for row in self._rows(self.price, self.entry.atr, is_entered=True) if row.refused), None)
            if refused is not None:
                self._refuse(refused.number - 1, refused.refused)
        self._place_rungs()
        self._place_stop(self.price)

    def _rows(self, price: float, atr: float | None, *, is_entered: bool, side: int = 0, whole: float = 0.0) -> list[Any]:
        slot = self.broker.slot_of(self.data)
        return climb(
            self.broker.account, slot.symbol, self.ladder, side=side or self.side, whole=whole or self.whole, entry_price=price,
            marks=self.broker.marks, atr=atr, time=self.broker.now, is_entered=is_entered,
        )  # fmt: skip

    def _tell_before(self, side: int, entry: Entry) -> None:
        """Give the table of a ladder to who wants to see it before the trade."""
        if self.scaling.p.before is None or self.held:
            return
        from .table import LadderTable

        slot = self.broker.slot_of(self.data)
        self.broker._use_terms_of_today(slot)
        price, position = entry.order.created.price, slot.position
        rows = self._rows(price, entry.atr, is_entered=False, side=side, whole=entry.whole)
        terms = (position.leverage, "isolated" if position.is_isolated else "cross")
        self.scaling.p.before(LadderTable(self.scaling.p.scaler, position.contract.symbol, *terms, tuple(rows)))

    def _place_rungs(self) -> None:
        """Place rungs up to as many as may rest at once, the nearest first, until one is refused."""
        assert self.entry is not None
        ladder, active = self.ladder, self.ladder.active or self.end
        prices = ladder.prices(self.side, self.price, self.entry.atr)
        kind = BuyOrder if self.side > 0 else SellOrder
        while self.following < min(self.end, self.filled + 1 + active):
            index = self.following
            self.following += 1
            price = prices[index] + self.shift
            if price <= 0:
                self._refuse(index, f"a price of {price:.8g} is none")
                return
            terms = {"price": price, "exectype": Order.Stop if ladder.is_with_trend else Order.Limit}
            terms["tradeid"] = self.entry.order.tradeid
            order = self._send(kind, self.whole * ladder.rungs[index].share, terms, scaler=True, rung=index + 1)
            self.rungs[index] = order
            if not order.alive():
                self._review_rungs()

    def _review_rungs(self) -> None:
        last: tuple[int, float] | None = None
        for index, order in sorted(self.rungs.items()):
            if index not in self.rungs or order.alive():
                continue
            del self.rungs[index]
            self.bought += abs(order.executed.size)
            if order.status == Order.Completed:
                self.filled = max(self.filled, index)
                self.told["filled"] += 1
                last = index, order.executed.price
            elif order.status in (Order.Margin, Order.Rejected):
                self._refuse(index, str(order.info.get("message") or order.getstatusname()))
        if last is not None:
            self._after_fill(*last)

    def _after_fill(self, index: int, price: float) -> None:
        """Place what a rung's fill calls for: rungs that follow it, the stop under it."""
        if self.is_over:
            return
        assert self.entry is not None
        if self.ladder.follows_fills:
            shift = price - self.ladder.prices(self.side, self.price, self.entry.atr)[index]
            if not _is_same(shift + price, self.shift + price):
                self.shift = shift
                self._cancel(later for number, later in self.rungs.items() if number > index and later.alive())
                self.rungs = {number: order for number, order in self.rungs.items() if number <= index}
                self.following = index + 1
        self._place_rungs()
        self._place_stop(price)

    def _refuse(self, index: int, why: str) -> None:
        """End the ladder before a rung that is refused: those nearer rest on."""
        if index >= self.end:
            return
        self.end = index
        self.told["refused"] = f"rung {index + 1}: {why}"
        self._cancel(order for number, order in self.rungs.items() if number > index)
        self.rungs = {number: order for number, order in self.rungs.items() if number <= index}

    def _place_stop(self, fill_price: float) -> None:
        """Put the ladder's stop under the last fill, or have it trail, for all that is held."""
        rule = self.ladder.stop
        if rule is None or self.is_over or self.leaving is not None or not self.held:
            return
        assert self.entry is not None
        terms: dict[str, Any] = {"tradeid": self.entry.order.tradeid, "reduce_only": True, "scaler": True, "rung": 0}
        distance = rule.distance * self.ladder.unit(self.price, self.entry.atr)
        better = max if self.side > 0 else min
        if rule.follows == "best":
            if self.stop is not None:
                return
            terms |= {"exectype": Order.StopTrail, "price": better(self.price, self.data.close[0]), "trailamount": distance}
        else:
            price = fill_price - self.side * distance
            if self.stop is not None and self.stop.alive():
                self.broker.cancel(self.stop)
            terms |= {"exectype": Order.Stop, "price": price}
        if distance <= 0 or (self.side > 0 and terms["price"] - (distance if rule.follows == "best" else 0.0) <= 0):
            return
        self.stop = self._send(SellOrder if self.side > 0 else BuyOrder, abs(self.held), terms)

    def _review_exits(self) -> None:
        """Count the strategy's exits that have filled, and the ladder's own stop."""
        for leave in list(self.exits):
            order = leave.order
            if order.executed.size and not leave.extra:
                self._finish("left")
            if not order.alive():
                self.exits.remove(leave)
                self.closed += leave.share if order.status == Order.Completed else 0.0
        if self.stop is not None and not self.stop.alive() and self.stop.executed.size:
            self.closed = 1.0
            self._finish("stopped")
        left = min(self._bought_by_rungs() - self.covered, self.held * self.side)
        if left > 0 and self.closed >= 1 - SAME and self.leaving is None:
            terms = {"tradeid": self.entry.order.tradeid if self.entry else 0, "reduce_only": True, "scaler": True, "rung": 0}
            self.leaving = self._send(SellOrder if self.side > 0 else BuyOrder, left, terms)
            self.is_sweeping = True
            self._cancel([self.stop] if self.stop is not None else [])

    def _bought_by_rungs(self) -> float:
        return float(self.bought + sum(abs(order.executed.size) for order in self.rungs.values()))

    def _follow(self) -> None:
        """Have the exits that rest close what rungs have added too, and the ladder's stop all that is held."""
        held, bought = abs(self.held), self._bought_by_rungs()
        if bought > self.covered and not self.is_over:
            for leave in self.exits:
                self._bring(leave.order, held * leave.share + leave.extra)
        self.covered = bought
        if self.stop is not None:
            self._bring(self.stop, held)

    def _bring(self, order: Any, size: float) -> None:
        if order.alive() and size and not _is_same(abs(order.executed.remsize), size):
            self.broker.change_size(order, size if order.isbuy() else -size)

    # -- the end -------------------------------------------------------------------------------------------------------

    def _finish(self, why: str) -> None:
        """Add no more: cancel the rungs that rest; in a market exit's or a liquidation's case the stop too."""
        if self.told and (not self.told["ended"] or why == "liquidated"):
            self.told["ended"] = why
        self.is_over = True
        self._cancel(self.rungs.values())
        self.rungs.clear()
        if why in ("liquidated", "stopped") or self.leaving is not None:
            self._cancel([self.stop] if self.stop is not None else [])

    def _close_course(self) -> None:
        if self.told:
            self.told["filled"] += sum(order.status == Order.Completed for order in self.rungs.values())
        self._finish(self._why_flat())
        self._cancel([self.stop] if self.stop is not None else [])
        self._clear()

    def _why_flat(self) -> str:
        """Return what has closed the position: the venue, if only the last of it, the ladder's stop, the strategy, something else."""
        symbol, begun = self.broker.slot_of(self.data).symbol, self.told.get("time", self.broker.now)
        if any(row.symbol == symbol and row.time > begun for row in reversed(self.broker.record.liquidations[-8:])):
            return "liquidated"
        if self.stop is not None and self.stop.executed.size:
            return "stopped"
        leaving = [leave.order for leave in self.exits] + ([] if self.leaving is None else [self.leaving])
        return "left" if any(order.executed.size for order in leaving) else "flat"

    def _cancel(self, orders: Iterable[Any]) -> None:
        for order in list(orders):
            if order.alive():
                self.broker.cancel(order)


def _is_same(first: float, second: float) -> bool:
    return abs(first - second) <= SAME * max(abs(first), abs(second))


Before = Callable[[Any], None]
