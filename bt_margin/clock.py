"""The bar clock: what happens to a margin account between two bars, in order.

A step handles every contract with a new bar, by these instants:

1. funding stamps up to the opening instant, on the position held before this bar's fills
2. test at the mark's open: a position that gapped through its limit goes before a queued exit can save it
3. fills at the open, then test
4. the path of the bar: orders, funding stamps and the margin test in the order of the clock
5. mark at the close, test, record

A bar is walked like this only where ``equity <= maintenance`` could hold somewhere inside it (the screen). Any other
bar takes the host's own matching, in the host's order, so that a run without danger equals stock Backtrader's.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import takewhile
from math import inf, isnan, nextafter
from typing import TYPE_CHECKING, Any, NamedTuple

from backtrader import Order

from .core.account import Position, Step
from .core.funding import funding_payment
from .core.ledger import CROSS, MONEY_TOLERANCE
from .core.liquidation import account_liquidation_price, jumps
from .core.path import LateStamp, PathEvent, PathStamp, Plan, Track, plan_path
from .core.profiles import Cooldown, marks_of_bar, plan_liquidation
from .core.rescue import Range, Rescue, rescue, worst_mark
from .core.tiers import maintenance_margin
from .record import FundingRow, LiquidationRow

if TYPE_CHECKING:
    from .broker import MarginBroker
    from .core.funding import Settlement
    from .slots import Slot

INTRABAR = ("adverse", "favourable", "close")


class Moment(NamedTuple):
    """An instant of a bar: its time, the length of the bar, the last prices where they are known.

    ``ahead`` are the lowest and highest marks from there on, of an instant on the path; elsewhere they are the bar's.
    """

    now: float
    bar_seconds: float
    last: dict[str, float]
    ahead: dict[str, tuple[float, float]] | None = None


class BarClock:
    """Runs the steps of one broker."""

    def __init__(self, broker: "MarginBroker") -> None:
        self.broker = broker
        self.account = broker.account
        self.record = broker.record
        self.marks: dict[str, float] = broker.marks
        self.held: list[tuple[Slot, Position]] = []
        self.lowest_equity = inf
        self.least_headroom: float | None = None  # of a bar's one position, as a fraction of its notional
        self.cooldown = Cooldown()
        self.fills_before = 0
        self.walked = self.is_on_path = False
        self.flat_state: tuple[int, float] | None = None
        self.flat_row = array("d")

    def note_positions(self, slots: Iterable["Slot"]) -> None:
        """Remember which slots hold something, after anything that can change it."""
        self.held = [(slot, slot.position) for slot in slots if slot.position.size]

    def rest(self) -> None:
        """Pass a bar on which nothing is held and nothing rests in the book."""
        self.walked, self.lowest_equity = False, inf

    # -- one step ----------------------------------------------------------------------------------------------------

    def run(self, fresh: Sequence["Slot"]) -> None:
        """Take the contracts that have a new bar and may be touched by it from its opening to its close."""
        self.lowest_equity = inf
        self.least_headroom = None
        if len(self.held) == 1 and not self.broker.pending and self.held[0][1].is_plain and self._is_single_safe(*self.held[0]):
            self.walked = False
            for slot in fresh:
                if slot.has_stamps_due():
                    self._run_plain((slot,))
                else:
                    self.marks[slot.symbol] = slot.mark_close
            return
        self.fills_before = len(self.record.fills)
        self.broker.begin_bar()
        self.walked = not self._is_safe(fresh)
        if self.walked:
            self._run_walked(fresh)
        else:
            self._run_plain(fresh)
        self.note_positions(self.broker.slots.values())

    def _run_plain(self, fresh: Sequence["Slot"]) -> None:
        due = [(slot, settlement) for slot in fresh if slot.has_stamps_due() for settlement in slot.stamps_before_open()]
        self._open_marks(fresh, due)
        fills = len(self.record.fills)
        if self.broker.pending:
            worst = self._worst_equity()
            self.broker.match_like_host()
            if any(fill.price != self.broker.slots[fill.symbol].open for fill in self.record.fills[fills:]):
                self.lowest_equity = worst  # what was held went into the bar with its extremes before it
        self._pay_inside(fresh)
        for slot in fresh:
            self.marks[slot.symbol] = slot.mark_close
        if len(self.record.fills) > fills:
            self._test("fill", self._closing(fresh))

    def _worst_equity(self) -> float:
        """Return equity with every position at its own worst mark of the bar."""
        return self.account.wallet_balance + sum(position.unrealized_pnl(slot.worst_mark()) for slot, position in self.held)

    def _run_walked(self, fresh: Sequence["Slot"]) -> None:
        self.record.walked_bars += 1
        self._settle_gap(fresh)
        due = [(slot, settlement) for slot in fresh for settlement in slot.stamps_before_open()]
        self._open_marks(fresh, due)
        paid = bool(due)
        opening = self._opening(fresh)
        self._test("funding" if paid else "gap", opening)
        self.broker.fill_at_open()
        self._test("fill", opening)
        if self.broker.p.intrabar == "close":
            self._run_without_path(fresh)
        else:
            self._run_path(fresh, opening)
        for slot in fresh:
            self.marks[slot.symbol] = slot.mark_close
        self.broker.fill_at_close()
        self._test("close", self._closing(fresh))

    def _open_marks(self, fresh: Sequence["Slot"], due: Sequence[tuple["Slot", "Settlement"]]) -> None:
        """Set every mark to its open and pay the stamps due at the opening; those of a gap before it, at the last known marks."""
        for slot, settlement in due:
            if settlement.stamp < slot.open_time:
                self._pay(slot, settlement)
        for slot in fresh:
            self.marks[slot.symbol] = slot.mark_open
        for slot, settlement in due:
            if settlement.stamp >= slot.open_time:
                self._pay(slot, settlement)

    def _settle_gap(self, fresh: Sequence["Slot"]) -> None:
        """Pay the stamps that fell into a gap of the data, those of each instant followed by the test at the last known marks."""
        due: dict[float, list[tuple[Slot, Settlement]]] = {}
        for slot in fresh:
            for settlement in slot.stamps_in_gap():
                due.setdefault(settlement.stamp, []).append((slot, settlement))
        for stamp in sorted(due):
            for slot, settlement in due[stamp]:
                self._pay(slot, settlement)
            self._test("funding", Moment(stamp, self._opening(fresh).bar_seconds, {}))

    @staticmethod
    def _opening(fresh: Sequence["Slot"]) -> Moment:
        """Return the instant at which a bar opens; of several, the last to open and the length of the longest."""
        seconds = max((slot.close_time - slot.open_time for slot in fresh), default=0.0)
        return Moment(max((slot.open_time for slot in fresh), default=0.0), seconds, {slot.symbol: slot.open for slot in fresh})

    def _closing(self, fresh: Sequence["Slot"]) -> Moment:
        opening = self._opening(fresh)
        return Moment(opening.now + opening.bar_seconds, opening.bar_seconds, {slot.symbol: slot.close for slot in fresh})

    def _run_without_path(self, fresh: Sequence["Slot"]) -> None:
        self.broker.match_like_host()
        self._pay_inside(fresh)

    def _pay_inside(self, fresh: Sequence["Slot"]) -> None:
        """Pay the stamps inside a bar without a path, in order, every mark on its line from open to close (R23)."""
        due = [(settlement.stamp, slot, settlement) for slot in fresh if slot.has_stamps_due() for settlement in slot.stamps_inside()]
        for stamp, slot, settlement in sorted(due, key=lambda item: item[0]):
            for other in fresh:
                self.marks[other.symbol] = other.line_mark(stamp)
            self._pay(slot, settlement)

    # -- the screen --------------------------------------------------------------------------------------------------

    def _is_safe(self, fresh: Sequence["Slot"]) -> bool:
        """Whether no wallet can reach its maintenance inside this bar, whatever fills and in whichever order.

        For every subset of the fills that could happen, equity less maintenance is concave in each mark, so its least
        value lies at the mark's extremes; there each possible fill counts as done if that is worse. Of positions that are
        not plain it is the least profit less the most maintenance. The screen may only err towards walking.
        """
        if any(slot.position.size and slot.next_stamp < slot.open_time for slot in fresh):
            return False  # a stamp in a gap of the data is judged at marks that this bar does not show
        if not self.broker.pending:
            return self._is_held_safe()
        orders = self.broker.possible_fills()
        headroom = self.account.wallets[CROSS]
        holds_cross = False
        for slot, position in self.broker.touched_slots(self.held, orders):
            fills = orders.get(slot.symbol, ())
            if position.is_isolated:
                prices = self._fill_prices(slot, fills) if fills else ()
                if not _is_isolated_safe(slot, position, self.account.wallets[position.wallet], fills, prices):
                    return False
                headroom -= _isolated_opening_cost(position, fills, prices)
                if position.contract.funding_debit == "free_first":
                    headroom -= _funding_bound(slot, abs(position.size) + sum(abs(change) for change, _ in fills))
            else:
                holds_cross = True
                prices = self._fill_prices(slot, fills) if fills and not position.is_plain else ()
                headroom += _worst_headroom(slot, position, fills, prices)
        return not holds_cross or headroom > 0

    def _fill_prices(self, slot: "Slot", fills: Sequence[tuple[float, float]]) -> tuple[float, float]:
        """Return the least and the greatest price that any of these fills could have, slippage included."""
        prices = [slot.low, slot.high, *(price for _, price in fills)]
        for order in self.broker.pending:
            is_of_old = order.exectype in (Order.Close, Order.Historical) or (self.broker.p.coc and order.exectype == Order.Market)
            if is_of_old and self.broker.slot_for(order) is slot:
                prices += [price for price in (order.created.price, order.created.pclose, order.pannotated) if price]
        return min(prices), max(prices)

    def _is_held_safe(self) -> bool:
        """The screen for positions without orders: each wallet with every position at its own adverse extreme."""
        headroom, holds_cross = self.account.wallets[CROSS], False
        for slot, position in self.held:
            share = _plain_share(position, slot.worst_mark()) if position.is_plain else _least_share(slot, position)
            if slot.has_stamps_due():
                bound = _funding_bound(slot, position.size)
                share -= bound
                if position.contract.funding_debit == "free_first" and position.is_isolated:
                    headroom -= bound
            if position.wallet == CROSS:
                headroom += share
                holds_cross = True
            elif self.account.wallets[position.wallet] + share <= 0:
                return False
        return not holds_cross or headroom > 0

    def _is_single_safe(self, slot: "Slot", position: Position) -> bool:
        """The screen for one position without orders: its wallet at its own adverse extreme."""
        units = position.size * position.contract.multiplier
        if units > 0:
            mark = slot.mark_low if slot.is_fresh else slot.mark_close
            notional = units * mark
        else:
            mark = slot.mark_high if slot.is_fresh else slot.mark_close
            notional = -units * mark
        headroom = self.account.wallets[position.wallet] + units * (mark - position.entry_price)
        for bracket in position.brackets:
            if notional <= bracket.cap:
                break
        headroom -= notional * bracket.rate - bracket.amount
        self.least_headroom = headroom / notional
        if slot.has_stamps_due():
            if slot.next_stamp < slot.open_time:
                return False
            headroom -= _funding_bound(slot, position.size)
        return headroom > 0

    # -- the path ----------------------------------------------------------------------------------------------------

    def _run_path(self, fresh: Sequence["Slot"], opening: Moment) -> None:
        stale = [slot for slot, _ in self.held if not slot.is_fresh]
        tracks = [self._track(slot) for slot in (*fresh, *stale)]
        stamps = [
            PathStamp(slot.fraction(s.stamp), slot.symbol, s.rate, slot.funding_mark(s), s.stamp)
            for slot in fresh
            for s in slot.stamps_inside()
        ]
        late = [
            LateStamp(PathStamp(slot.fraction(s.stamp), slot.symbol, s.rate, slot.late_mark(s), s.stamp), slot.grace)
            for slot in fresh
            for s in slot.late_stamps()
        ]
        orders = self.broker.working_orders()
        profile, seconds = self.broker.profile, opening.bar_seconds
        plan = partial(
            plan_path,
            *(self.account, tracks, orders, stamps, profile),
            opening=opening.now,
            bar_seconds=seconds,
            cooldown=self.cooldown,
            late=late,
        )
        low_first, high_first = plan(low_first=True), plan(low_first=False)
        prefers_low = low_first.own_equity <= high_first.own_equity
        if self.broker.p.intrabar == "favourable":
            prefers_low = low_first.own_equity > high_first.own_equity
        chosen = low_first if prefers_low else high_first
        in_both = low_first.liquidated & high_first.liquidated  # of each contract, the fewer steps
        certain = Counter({symbol: number for symbol, number in in_both.items() if self._fails_alone(symbol, tracks)})
        self.lowest_equity = min(self.lowest_equity, chosen.lowest_equity)
        self.is_on_path = True
        for event in chosen.events:
            self.marks.update(event.marks)
            if event.kind == "liquidation":
                moment = Moment(opening.now + event.fraction * seconds, seconds, event.last, event.ahead)
                for symbol in {step.symbol for step in self._liquidate(str(event.subject), "path", certain, moment)}:
                    if not self._fails_alone(symbol, tracks):  # what is left of it, which the other path may spare
                        del certain[symbol]
            else:
                self._apply_event(event)
        self.is_on_path = False
        if self.broker.p.check and self.broker.p.filler is None:
            self._check_plan(chosen, tracks)

    def _track(self, slot: "Slot") -> Track:
        if not slot.is_fresh:
            mark = self.marks[slot.symbol]
            return Track(slot.symbol, mark, mark, mark, mark, None)
        last = (slot.open, slot.high, slot.low, slot.close)
        return Track(slot.symbol, slot.mark_open, slot.mark_high, slot.mark_low, slot.mark_close, last)

    def _fails_alone(self, symbol: str, tracks: Sequence[Track]) -> bool:
        """Whether one of a position's own extremes fails its wallet with every other contract at its best."""
        position = self.account.positions[symbol]
        if not position.size:
            return False
        best, extremes = dict(self.marks), [self.marks[symbol]]
        for track in tracks:
            other, ends = self.account.positions[track.symbol], (track.mark_low, track.mark_high)
            if track.symbol == symbol:
                extremes = [*ends]
            elif other.size:
                best[track.symbol] = max(ends, key=partial(_headroom_share, other))
        return any(self.broker.profile.fails(self.account.risk(position.wallet, {**best, symbol: mark})) for mark in extremes)

    def _check_plan(self, plan: Plan, tracks: Sequence[Track]) -> None:
        marks = {**self.marks, **{track.symbol: track.mark_close for track in tracks}}
        slack = MONEY_TOLERANCE * self.account.turnover
        assert abs(self.account.equity(marks) - plan.equity) <= slack, (
            f"{self.broker.now}: the account ended at {self.account.equity(marks)}, its plan at {plan.equity}"
        )

    def _apply_event(self, event: PathEvent) -> None:
        subject: Any = event.subject
        if event.kind == "funding":
            self._book_funding(subject.symbol, subject.stamp, subject.mark_price, subject.rate, subject.size)
        elif event.kind == "trigger":
            self.broker.trigger(subject)
        elif event.kind == "top_up":
            self.broker.book_top_up(subject, "path")
        else:
            self.broker.fill_on_path(subject, event.price)

    # -- funding -----------------------------------------------------------------------------------------------------

    def _pay(self, slot: "Slot", settlement: "Settlement") -> None:
        mark_price = settlement.mark_price
        if isnan(mark_price):
            if settlement.stamp < slot.open_time:  # in a gap of the data: the last known mark stands in (R23)
                mark_price = self.marks[slot.symbol]
                self.record.gap_stamps += 1
            else:
                mark_price = slot.funding_mark(settlement)
        self._book_funding(slot.symbol, settlement.stamp, mark_price, settlement.rate)

    def _book_funding(self, symbol: str, stamp: float, mark_price: float, rate: float, size: float | None = None) -> None:
        size = self.account.positions[symbol].size if size is None else size
        if size:
            amount = self.account.pay_funding(symbol, mark_price=mark_price, rate=rate, time=stamp, marks=self.marks, size=size)
            self.record.funding.append(FundingRow(stamp, symbol, size, mark_price, rate, amount))

    def pay_late(self, slot: "Slot", opened: float, *, at_open: bool) -> None:
        """Charge what a fill off the path opened with the settled stamps whose grace is not over (R24).

        A fill at the open is of the opening instant; when another one came is not known, and it counts as at the close.
        """
        if self.is_on_path or not opened or slot.schedule is None:
            return
        for settlement in slot.schedule.late(slot.open_time if at_open else slot.close_time):
            if settlement.stamp <= slot.funded_until:
                self._book_funding(slot.symbol, settlement.stamp, slot.late_mark(settlement), settlement.rate, opened)

    # -- test and liquidation ----------------------------------------------------------------------------------------

    def _test(self, trigger: str, moment: Moment) -> None:
        """Liquidate every wallet that fails at the present marks, isolated ones first (R1, R18)."""
        wallets = dict.fromkeys(position.wallet for _, position in self.held if position.size)
        for wallet in sorted(wallets, key=lambda name: name == CROSS):
            if self.broker.profile.fails(self.account.risk(wallet, self.marks)) and not self.broker.top_up(wallet, trigger):
                self._liquidate(wallet, trigger, None, moment)
        self.lowest_equity = min(self.lowest_equity, self.account.equity(self.marks))

    def _liquidate(self, wallet: str, trigger: str, certain: Counter[str] | None, moment: Moment) -> list[Step]:
        """Plan a failed wallet's liquidation, apply it and return its steps.

        ``certain`` counts the steps of each contract that are certain still; without it all are.
        """
        ahead, due = self._marks_ahead(trigger), self._funding_ahead(trigger)
        held = {symbol: self.account.positions[symbol] for symbol in ahead}
        steps = plan_liquidation(
            self.account,
            wallet,
            self.marks,
            self.broker.profile,
            now=moment.now,
            bar_seconds=moment.bar_seconds,
            cooldown=self.cooldown,
            last=moment.last,
            has_failed=True,
            **marks_of_bar(self.account.positions, ahead if moment.ahead is None else moment.ahead),
        )
        taken = {step.symbol for step in steps}
        worst = {symbol: worst_mark(held[symbol], ahead[symbol]) for symbol in taken}
        rescues = {symbol: rescue(self.account, symbol, ahead, due) for symbol in taken}
        for step in steps:
            is_certain = certain is None or certain[step.symbol] > 0
            if certain is not None:
                certain[step.symbol] -= 1
            self._take(step, trigger, is_certain, worst[step.symbol], rescues[step.symbol])
            self.cooldown.note(self.account, step, moment.now)
        return steps

    def _take(self, step: Step, trigger: str, is_certain: bool, worst: float, saved: Rescue) -> None:
        """Cancel the orders that the profile cancels, book a step, record it and show it to the host."""
        position = self.account.positions[step.symbol]
        entry_price, isolated = position.entry_price, position.is_isolated
        for symbol in self.broker.profile.cancelled_symbols(self.account, step.symbol):
            self.broker.cancel_orders_of(symbol)
        moved = self.account.apply(step, time=self.broker.now)
        row = LiquidationRow(
            self.broker.now,
            step.symbol,
            step.size,
            step.price,
            self.marks[step.symbol],
            trigger,
            step.fee,
            moved.returned,
            moved.to_insurance_fund,
            moved.from_insurance_fund,
            "certain" if is_certain else "possible",
            moved.realized_pnl,
            "isolated" if isolated else "cross",
            entry_price,
            position.leverage,
            worst,
            saved.margin_to_add,
            saved.safe_leverage,
            moved.forfeited,
        )
        self.record.liquidations.append(row)
        self.record.closest_call = 0.0
        self.broker.show_liquidation(step, row)

    def _marks_ahead(self, trigger: str) -> dict[str, Range]:
        """Return for each position the marks it had still to meet in this bar, the present one among them."""
        ahead = {}
        for symbol, slot in self.broker.slots.items():
            if slot.position.size:
                marks = [self.marks[symbol]]
                if slot.is_fresh and trigger != "close":
                    marks += [slot.mark_close] if self.broker.p.intrabar == "close" else [slot.mark_low, slot.mark_high]
                ahead[symbol] = Range(min(marks), max(marks))
        return ahead

    def _paid_since(self, time: float) -> Iterator[FundingRow]:
        return takewhile(lambda row: row.time >= time, reversed(self.record.funding))

    def _funding_ahead(self, trigger: str) -> dict[str, float]:
        """Return for each position what the stamps of this bar that it has not paid yet will cost at most, 0 or more."""
        ahead: dict[str, float] = {}
        for symbol, slot in self.broker.slots.items():
            position = slot.position
            if not (position.size and slot.is_fresh and slot.schedule is not None):
                continue
            since = nextafter(slot.open_time, -inf) if trigger == "funding" else slot.open_time
            paid = {row.time for row in self._paid_since(since) if row.symbol == symbol}
            contract = position.contract
            dearest = slot.mark_low if contract.kind == "inverse" else slot.mark_high
            for settlement in slot.schedule.between(since, nextafter(slot.close_time, -inf)):
                if settlement.stamp not in paid:
                    mark_price = dearest if isnan(settlement.mark_price) else settlement.mark_price
                    received = funding_payment(
                        size=position.size,
                        multiplier=contract.multiplier,
                        mark_price=mark_price,
                        rate=settlement.rate,
                        kind=contract.kind,
                    )
                    ahead[symbol] = ahead.get(symbol, 0.0) + max(-received, 0.0)
        return ahead

    # -- the record --------------------------------------------------------------------------------------------------

    def write(self, time: float) -> None:
        """Append this bar's row: equity and margin at the closing marks, and equity at the bar's worst."""
        if not self.held and self.lowest_equity == inf:
            self._write_flat(time)
            return
        account, marks, wallets = self.account, self.marks, self.account.wallets
        wallet_balance = equity = lowest = sum(wallets.values())
        cross_free = wallets[CROSS]
        initial = maintenance = notional = 0.0
        order_margin = account.order_margin
        row, holdings = len(self.record), self.record.holdings
        for slot, position in self.held:
            mark, size, entry_price, leverage = marks[slot.symbol], position.size, position.entry_price, position.leverage
            if position.is_plain:
                units = size * position.contract.multiplier
                value = units * mark if units > 0 else -units * mark
                profit = units * (mark - entry_price)
                margin = value / leverage
                worst = (slot.mark_low if units > 0 else slot.mark_high) if slot.is_fresh else mark
                lowest += units * (worst - entry_price)
            else:
                value, profit, margin = position.notional(mark), position.unrealized_pnl(mark), position.initial_margin(mark)
                lowest += position.unrealized_pnl(slot.worst_mark() if slot.is_fresh else mark)
            equity += profit
            notional += value
            initial += margin
            is_isolated = position.wallet != CROSS
            if not is_isolated:
                cross_free += profit - margin
            balance, since, fee = wallets[position.wallet], slot.terms_since, position.set_aside[1]
            holdings.extend((row, slot.number, size, entry_price, mark, balance, is_isolated, leverage, since, fee))
            maintenance += maintenance_margin(position.brackets, value)
        if self.held:
            self.record.bars_held += 1
            if self.least_headroom is None or self.walked or self.least_headroom < self.record.closest_call * 2:
                self._note_closest_call()
        lowest = min(self.lowest_equity if self.walked else min(lowest, self.lowest_equity), equity)
        available = cross_free - order_margin
        self.record.bars.extend((time, equity, lowest, wallet_balance, initial, maintenance, order_margin, available, notional))
        self.broker.publish(equity, available, notional)

    def _write_flat(self, time: float) -> None:
        """Append the row of a bar without positions, which differs from the last such one only where money has moved."""
        account = self.account
        state = (len(self.broker.journal.entries), account.order_margin)
        if state != self.flat_state:
            balance, order_margin = account.wallet_balance, account.order_margin
            available = account.wallets[CROSS] - order_margin
            self.flat_state = state
            self.flat_row = array("d", (balance, balance, balance, 0.0, 0.0, order_margin, available, 0.0))
            self.broker.publish(balance, available, 0.0)
        self.record.bars.append(time)
        self.record.bars.extend(self.flat_row)

    def _note_closest_call(self) -> None:
        """Keep the least distance to a liquidation price, each mark at its own worst and the others at their close."""
        if self.least_headroom is not None and not self.walked:
            slot, position = self.held[0]
            self._note_distance(slot, position, self.least_headroom, slot.worst_mark())
            return
        has_fills = self.walked and len(self.record.fills) > self.fills_before  # held from inside the bar: its extremes may lie before
        at_close = {id(position): _headroom_share(position, self.marks[slot.symbol]) for slot, position in self.held}
        wallets = dict(self.account.wallets)
        for _, position in self.held:
            wallets[position.wallet] += at_close[id(position)]
        for slot, position in self.held:
            if slot.is_fresh:
                apart = wallets[position.wallet] - at_close[id(position)]
                for mark in (slot.mark_close,) if has_fills else _judged_marks(slot, position):
                    headroom = apart + _headroom_share(position, mark)
                    self._note_distance(slot, position, headroom / position.notional(mark), mark)

    def _note_distance(self, slot: "Slot", position: Position, headroom: float, worst: float) -> None:
        """Note the distance to a liquidation price unless ``headroom``, a fraction of notional, shows that it is no record."""
        closest = self.record.closest_call
        if headroom >= _record_headroom(position, closest):
            return
        price = account_liquidation_price(self.account, slot.symbol, {**self.marks, slot.symbol: worst})
        if price is not None:
            self.record.closest_call = min(closest, abs(worst - price) / worst if headroom > 0 else 0.0)


def _headroom_share(position: Position, mark_price: float) -> float:
    """Return what a position adds to its wallet's headroom: unrealized profit less maintenance margin."""
    return _plain_share(position, mark_price) if position.is_plain else position.headroom(mark_price)


def _plain_share(position: Position, mark_price: float) -> float:
    units = position.size * position.contract.multiplier
    return units * (mark_price - position.entry_price) - maintenance_margin(position.brackets, abs(units) * mark_price)


def _least_share(slot: "Slot", position: Position) -> float:
    """Return the least that any position may add to its wallet's headroom inside a bar.

    Profit and notional are straight lines in the mark (in 1 / mark, of an inverse contract) and maintenance never falls
    with the notional. So the least profit and the most maintenance lie at the ends; and where maintenance does not jump
    it is convex and headroom concave, whose least value lies at an end too.
    """
    ends = _mark_range(slot)
    if jumps(position.brackets):
        return min(map(position.unrealized_pnl, ends)) - max(map(position.maintenance_margin, ends))
    return min(map(position.headroom, ends))


def _record_headroom(position: Position, closest: float) -> float:
    """Return the headroom, a fraction of notional, from which on a liquidation price is no closer than the closest so far.

    distance = headroom / (1 - rate) for a long and headroom / (1 + rate) for a short, with rates from 0 to the last tier's;
    a long with a distance of 1 or more has no liquidation price. Of an inverse contract d / (1 + d) with d = headroom /
    (1 + rate) for a long, and d / (1 - d) with d = headroom / (1 - rate) for a short. A jump may lie anywhere.
    """
    rate = position.brackets[-1].rate
    if not position.is_plain and jumps(position.brackets):
        return inf
    if position.contract.kind == "inverse":
        if position.size < 0:
            return closest
        return (1 + rate) * closest / (1 - closest) if closest < 1 else inf
    return min(closest, 1.0) if position.size > 0 else closest * (1 + rate)


def _mark_range(slot: "Slot") -> tuple[float, float]:
    return (slot.mark_low, slot.mark_high) if slot.is_fresh else (slot.mark_close, slot.mark_close)


def _judged_marks(slot: "Slot", position: Position) -> tuple[float, ...]:
    """Return the marks of a bar that may be the nearest to a liquidation price: both ends where a slab's requirement jumps."""
    return (slot.worst_mark(),) if position.is_plain or not jumps(position.brackets) else _mark_range(slot)


def _worst_headroom(slot: "Slot", position: Position, fills: Sequence[tuple[float, float]], prices: Sequence[float]) -> float:
    """Return a lower bound of a cross position's profit less maintenance over the bar and over every subset of fills.

    ``prices`` are the least and the greatest price of these fills, which positions that are not plain depend on.
    """
    if not (fills or position.is_plain):
        return _least_share(slot, position) - _funding_bound(slot, position.size)
    multiplier = position.contract.multiplier
    bought = sum(change for change, _ in fills if change > 0)
    sold = sum(change for change, _ in fills if change < 0)
    largest = max(abs(position.size + bought), abs(position.size + sold))
    paying = abs(position.size) + bought - sold if slot.grace else largest  # with a grace both sides of a reversal pay
    if not position.is_plain:
        ends = (position.size + bought, position.size + sold)
        return _least_profit(slot, position, fills) - _most_maintenance(slot, position, ends, prices) - _funding_bound(slot, paying)
    costs = sum(abs(change) * multiplier * price * _dearest_fee(position) for change, price in fills)
    worst = inf
    for mark in _mark_range(slot):
        profit = position.unrealized_pnl(mark)
        profit += sum(min(change * multiplier * (mark - price), 0.0) for change, price in fills)
        worst = min(worst, profit - maintenance_margin(position.brackets, largest * multiplier * mark))
    return worst - costs - _funding_bound(slot, paying)


def _least_profit(slot: "Slot", position: Position, fills: Sequence[tuple[float, float]]) -> float:
    """Return the least that any position and any subset of its fills may earn over the bar, fees paid.

    Profits are straight lines in the mark (of an inverse contract in 1 / mark), and so is what is lost by the fills that
    lose a concave line: its least value lies at an end. A better price earns more than its fee changes.
    """
    contract, fee = position.contract, _dearest_fee(position)
    least = min(
        position.unrealized_pnl(mark)
        + sum(min(contract.unrealized_pnl(size=change, entry_price=price, mark_price=mark), 0.0) for change, price in fills)
        for mark in _mark_range(slot)
    )
    return least - sum(contract.notional(change, price) * fee for change, price in fills)


def _most_maintenance(slot: "Slot", position: Position, ends: Sequence[float], prices: Sequence[float]) -> float:
    """Return the most that a cross position may maintain at any mark of the bar with any size between two ``ends`` (signed).

    By every table and under all terms more is maintained of a larger size of the same side, and at a dearer price.
    """
    dearest = _dearest_price(slot, position, prices)
    return max(0.0, *(position.holding(size, dearest).maintenance_margin(dearest) for size in ends if size))


def _dearest_price(slot: "Slot", position: Position, prices: Sequence[float]) -> float:
    """Return the price at which maintenance, or a fee kept with it, may be taken that gives a size its largest notional.

    ``prices`` are those at which it may be entered.
    """
    found, terms = [*_mark_range(slot)], position.terms
    if terms.maintenance_basis == "entry" or (position.is_isolated and terms.fee_in_margin == "bankruptcy"):
        found += [*prices, position.entry_price] if position.size else prices
    return min(found) if position.contract.kind == "inverse" else max(found)


def _is_isolated_safe(
    slot: "Slot", position: Position, balance: float, fills: Sequence[tuple[float, float]], prices: Sequence[float]
) -> bool:
    """Whether an isolated position and each of its possible fills keep a surplus of their own at both extremes.

    Closing a share scales balance, profit and (at most) maintenance alike, so surpluses stay surpluses in any order, as
    long as a fill that closes at the worst price leaves its share of the balance above zero.
    """
    if not position.is_plain:
        if fills:
            return _is_bounded_safe(slot, position, balance, fills, prices)
        return balance + _least_share(slot, position) > _funding_bound(slot, position.size)
    multiplier, size = position.contract.multiplier, position.size
    low, high = _mark_range(slot)
    same, other = _sides(size, fills)
    rate, fee = _rate_at(position, max(abs(size) + same, other - abs(size)) * multiplier * high), _dearest_fee(position)
    for mark in (low, high):
        headroom = balance + position.unrealized_pnl(mark) - position.maintenance_margin(mark)
        if size and headroom <= _funding_bound(slot, size):
            return False
    for change, price in fills:
        units = abs(change) * multiplier
        closes = size * change < 0
        if closes and balance + position.unrealized_pnl(price) <= position.notional(price) * fee:
            return False
        if closes and other <= abs(size):
            continue
        margin = units * price / position.leverage - _funding_bound(slot, change)
        judged = [(mark, rate * units * mark) for mark in (low, high)]
        judged += [(other_price, units * other_price * fee) for opposite, other_price in fills if opposite * change < 0]
        if any(margin + change * multiplier * (mark - price) <= least for mark, least in judged):
            return False
    return True


def _is_bounded_safe(
    slot: "Slot", position: Position, balance: float, fills: Sequence[tuple[float, float]], prices: Sequence[float]
) -> bool:
    """Whether the same holds of a position that is not plain, with no contract of it maintaining more than the dearest may.

    A surplus is a straight line in the mark and in the price of entry (of an inverse contract in their inverses), so its
    least value lies at their ends.
    """
    contract, size, fee = position.contract, position.size, _dearest_fee(position)
    same, other = _sides(size, fills)
    need, fee_kept = _most_per_contract(position, max(abs(size) + same, other - abs(size)), _dearest_price(slot, position, prices))
    if size:
        left, kept = balance - _funding_bound(slot, size), abs(size) * need + max(abs(size) * fee_kept, position.reserved_fee)
        judged = [(mark, kept) for mark in _mark_range(slot)]
        judged += [(price, position.notional(price) * fee) for change, price in fills if size * change < 0]
        if any(left + position.unrealized_pnl(price) <= least for price, least in judged):
            return False
    for change, price in fills:
        if size * change < 0 and other <= abs(size):
            continue
        judged = [(mark, abs(change) * (need + fee_kept)) for mark in _mark_range(slot)]
        judged += [(exit_price, contract.notional(change, exit_price) * fee) for opposite, exit_price in fills if opposite * change < 0]
        for entry in (price, prices[0] if change > 0 else prices[1]):
            given = position.opening_margin(change, entry) - _funding_bound(slot, change)
            if any(given + contract.unrealized_pnl(size=change, entry_price=entry, mark_price=at) <= least for at, least in judged):
                return False
    return True


def _most_per_contract(position: Position, largest: float, dearest: float) -> tuple[float, float]:
    """Return what one contract maintains at most of any size up to the largest, and the fee kept with it: inf where nothing bounds it."""
    terms, bracket = position.terms, position.table.bracket_at(position.measure(largest, dearest))
    worth = position.contract.notional(1.0, dearest)
    share = {"none": 0.0, "notional": 1.0, "bankruptcy": 1 + 1 / position.leverage}[terms.fee_in_margin]
    # The amount lowers what is maintained; one below 0, which only a lone tier may have, raises it however small the size is.
    return worth * bracket.rate if bracket.amount >= 0 else inf, worth * share * max(position.contract.taker, 0.0)


def _isolated_opening_cost(position: Position, fills: Sequence[tuple[float, float]], prices: Sequence[float]) -> float:
    """Return the most that the fills can move from the cross wallet: margins and fees.

    The worst price of a sale, of an inverse contract that of a purchase, is the one at which its margin is least.
    """
    if not fills:
        return 0.0
    contract, fee = position.contract, _dearest_fee(position)
    is_inverse = contract.kind == "inverse"
    dearest = prices[0] if is_inverse else prices[1]
    at = [(change, worst if (change > 0) != is_inverse else dearest) for change, worst in fills]
    return sum(position.opening_margin(change, price) + contract.notional(change, price) * fee for change, price in at)


def _funding_bound(slot: "Slot", size: float) -> float:
    """Return the most that the stamps of this bar could cost a position of this size, of either sign."""
    if not slot.is_fresh or slot.schedule is None or not (slot.has_stamps_due() or slot.grace):
        return 0.0
    cost, contract = 0.0, slot.position.contract
    since = slot.funded_until if slot.position.size else max(slot.funded_until, slot.open_time)
    if slot.grace:
        since = min(since, nextafter(slot.open_time - slot.schedule.grace_seconds, -inf))
    for settlement in slot.schedule.between(since, slot.close_time):
        own = settlement.mark_price
        if contract.kind == "inverse":
            dearest = own if own < slot.mark_low else slot.mark_low
        else:
            dearest = own if own > slot.mark_high else slot.mark_high
        cost += contract.notional(size, dearest) * abs(settlement.rate)
    return cost


def _dearest_fee(position: Position) -> float:
    return max(position.contract.taker, position.contract.maker, 0.0)


def _sides(size: float, fills: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return how much the fills add to the side held and how much they take from it."""
    same = sum(abs(change) for change, _ in fills if change * size >= 0)
    other = sum(abs(change) for change, _ in fills if change * size < 0)
    return same, other


def _rate_at(position: Position, notional: float) -> float:
    for bracket in position.brackets:
        if notional <= bracket.cap:
            return bracket.rate
    return position.brackets[-1].rate
