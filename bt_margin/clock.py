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
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby, takewhile
from math import inf, isnan, nextafter
from typing import TYPE_CHECKING, Any, NamedTuple

from . import screen
from .core.account import Marks, Position, Step
from .core.funding import funding_payment
from .core.ledger import CROSS, MONEY_TOLERANCE
from .core.liquidation import account_liquidation_price, jumps
from .core.path import PATHS, LateStamp, PathEvent, PathStamp, Plan, Track, plan_bar
from .core.profiles import Cooldown, marks_of_bar, plan_liquidation
from .core.rescue import Range, Rescue, rescue, worst_mark
from .core.tiers import maintenance_margin
from .detail import in_parts
from .lone import pass_lone_order
from .record import FundingRow, LiquidationRow
from .screen import headroom_share, is_farther, mark_range

if TYPE_CHECKING:
    from .broker import MarginBroker
    from .core.funding import Settlement
    from .slots import Slot

INTRABAR = (*PATHS, "close")


class Moment(NamedTuple):
    """An instant of a bar: its time, the length of the bar or of the finer bar it is in, the last prices where they are known.

    ``ahead`` are the lowest and highest marks from there on, of an instant on the path; elsewhere they are the bar's. They
    are known where finer bars tell them, and do not depend on which path the bar is said to take.
    """

    now: float
    bar_seconds: float
    last: dict[str, float]
    ahead: dict[str, tuple[float, float]] | None = None
    is_known: bool = False


class BarClock:
    """Runs the steps of one broker."""

    def __init__(self, broker: "MarginBroker") -> None:
        self.broker = broker
        self.account = broker.account
        self.is_hedging = broker.is_hedging
        self.record = broker.record
        self.marks: dict[str, float] = broker.marks
        self.held: list[tuple[Slot, Position]] = []
        self.lowest_equity = inf  # of a bar, since money last came in from outside
        self.lows: list[float] = []  # of a bar, before each time it did
        self.least_headroom: float | None = None  # of a bar's one position, as a fraction of its notional
        self.cooldown = Cooldown()
        self.fills_before = 0
        self.walked = self.is_on_path = False
        self.flat_state: tuple[int, float] | None = None
        self.flat_row = array("d")

    def note_positions(self, slots: Iterable["Slot"]) -> None:
        """Remember which slots hold something, after anything that can change it."""
        self.held = [(slot, slot.position) for slot in slots if slot.position.size]

    def note_inflow(self, equity: float) -> None:
        """Begin to look for the lowest equity anew: money is coming in from outside, before which there was this much."""
        self.lows.append(max(min(self.lowest_equity, equity), 0.0))
        self.lowest_equity = inf

    def rest(self) -> None:
        """Pass a bar on which nothing is held and nothing rests in the book, or those of a lull."""
        self.walked, self.lowest_equity = False, inf

    # -- one step ----------------------------------------------------------------------------------------------------

    def run(self, fresh: Sequence["Slot"]) -> None:
        """Take the contracts that have a new bar and may be touched by it from its opening to its close."""
        self.lowest_equity = inf
        self.lows.clear()
        self.least_headroom = None
        if len(self.held) == 1 and not self.broker.pending and self.held[0][1].is_plain:
            slot, position = self.held[0]
            is_safe, self.least_headroom = screen.is_single_safe(self.account.wallets[position.wallet], slot, position)
            if is_safe:
                self._pass_single(fresh)
                return
        if self.broker.pending and pass_lone_order(self, fresh):
            return
        self.fills_before = len(self.record.fills)
        self.broker.begin_bar()
        self.walked = not screen.is_safe(self.broker, self.held, fresh)
        if self.walked:
            self._run_walked(fresh)
        else:
            self._run_plain(fresh)
        self.note_positions(self.broker.slots.values())

    def _pass_single(self, fresh: Sequence["Slot"]) -> None:
        self.walked = False
        for slot in fresh:
            if slot.has_stamps_due():
                self._run_plain((slot,))
            else:
                self.marks[slot.symbol] = slot.mark_close

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
            self.test_after_fill(fresh)

    def _worst_equity(self) -> float:
        """Return equity with every contract at its own worst mark of the bar, which is one for both legs of a hedge."""
        worst = self.account.wallet_balance
        if not self.is_hedging:
            for slot, position in self.held:
                ends = (slot.mark_low, slot.mark_high) if slot.is_fresh else (slot.mark_close,)
                worst += min(map(position.unrealized_pnl, ends))
            return worst
        for _, legs in groupby(self.held, key=lambda held: held[0].name):
            slots, positions = zip(*legs, strict=True)
            worst += min(sum(position.unrealized_pnl(mark) for position in positions) for mark in mark_range(slots[0]))
        return worst

    def test_after_fill(self, fresh: Sequence["Slot"]) -> None:
        """Test every wallet once the fills of a bar that is not walked are booked, at its closing marks."""
        self._test("fill", self._closing(fresh))

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
        seconds = opening.bar_seconds
        orders = self.broker.working_orders()
        detail = self._detail_of(fresh, tracks, {order.symbol for order in orders})
        ends = plan_bar(
            *(self.account, tracks, orders, stamps, self.broker.profile),
            detail=detail,
            opening=opening.now,
            bar_seconds=seconds,
            cooldown=self.cooldown,
            late=late,
        )
        self.record.ambiguous_bars += ends.is_ambiguous
        self.record.only_worst_bars += ends.is_only_worst
        chosen: Plan = getattr(ends, self.broker.p.intrabar)
        in_both = ends.in_both({track.symbol: self.account.positions[track.symbol].size for track in tracks})
        self._repeat(chosen, in_both, tracks, detail, opening)
        if self.broker.p.check:
            self._check_plan(chosen, tracks)

    def _repeat(
        self,
        plan: Plan,
        in_both: Counter[str],
        tracks: Sequence[Track],
        detail: Sequence[dict[str, Track]],
        opening: Moment,
    ) -> None:
        """Let the events of a plan happen; ``in_both`` counts the steps of each contract that both market paths have.

        What is held when a wallet fails is judged at its extremes of the bar; where detail tells what every contract did in a
        part of the bar, at those of the part. What was possible only makes nothing certain: after it a step of its wallet is
        certain if it was so before the path.
        """
        before = set() if detail else {symbol for symbol in in_both if self._fails_alone(symbol, tracks)}
        doubtful: set[str] = set()
        lows = iter(plan.lows)
        self.lowest_equity = min(self.lowest_equity, next(lows))
        self.is_on_path = True
        for event in plan.events:
            self.marks.update(event.marks)
            if event.kind != "liquidation":
                paid_in = len(self.lows)
                self._apply_event(event)
                if len(self.lows) > paid_in:
                    self.lowest_equity = next(lows)
                continue
            wallet, then = str(event.subject), _tracks_of(event, tracks, detail)
            alone = {symbol for symbol in in_both if wallet not in doubtful and self._fails_alone(symbol, then)}
            certain = Counter({symbol: in_both[symbol] for symbol in alone | before})
            now = opening.now + event.fraction * opening.bar_seconds
            moment = Moment(now, opening.bar_seconds / max(len(detail), 1), event.last, event.ahead, bool(detail))
            steps = self._liquidate(wallet, "path", certain, moment)
            taken = Counter(step.symbol for step in steps)
            in_both.subtract(taken)
            if any(certain[symbol] < 0 for symbol in taken):
                doubtful.add(wallet)
            before -= {symbol for symbol in taken if not self._fails_alone(symbol, then)}  # what is left of it the other path may spare
        self.is_on_path = False

    def _detail_of(self, fresh: Sequence["Slot"], tracks: Sequence[Track], ordered: Collection[str]) -> list[dict[str, Track]]:
        """Return the finer tracks of what is held or ordered, by equal parts of the bar; none of bars of different spans."""
        stirred = [slot for slot in fresh if slot.position.size or slot.symbol in ordered]
        is_one_span = len({(slot.open_time, slot.close_time) for slot in stirred}) == 1
        fine, missing = {}, set()
        for slot in stirred:
            bars = slot.detail.bars(slot) if slot.detail is not None and is_one_span else None
            if bars is not None:
                fine[slot.symbol] = bars
            elif slot.detail is not None:
                missing.add(slot.name)
        self.record.undetailed.update(missing)
        self.record.detailed.update({slot.name for slot in stirred if slot.symbol in fine})  # once where both legs are held
        return in_parts(fine, tracks)

    def _track(self, slot: "Slot") -> Track:
        if not slot.is_fresh:
            mark = self.marks[slot.symbol]
            return Track(slot.symbol, mark, mark, mark, mark, None)
        last = (slot.open, slot.high, slot.low, slot.close)
        return Track(slot.symbol, slot.mark_open, slot.mark_high, slot.mark_low, slot.mark_close, last, slot.name)

    def _fails_alone(self, symbol: str, tracks: Sequence[Track]) -> bool:
        """Whether one of a position's own extremes fails its wallet with every other contract at its best."""
        position = self.account.positions[symbol]
        if not position.size:
            return False
        best, extremes, legs = dict(self.marks), [self.marks[symbol]], self.account.symbols_of(symbol)
        for track in tracks:
            other, ends = self.account.positions[track.symbol], (track.mark_low, track.mark_high)
            if track.symbol == symbol:
                extremes = [*ends]
            elif other.size and track.symbol not in legs:
                best[track.symbol] = max(ends, key=partial(headroom_share, other))
        return any(
            self.broker.profile.fails(self.account.risk(position.wallet, {**best, **dict.fromkeys(legs, mark)})) for mark in extremes
        )

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
            self.broker.trigger(subject, event.price)
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
        if self.is_on_path or not opened or slot.schedule is None or not slot.schedule.grace_seconds:
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
        if moment.is_known and moment.ahead is not None:
            ahead = {symbol: Range(*moment.ahead[symbol]) for symbol in ahead}
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
            **marks_of_bar(self.account, ahead if moment.ahead is None else moment.ahead),
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
        row, note_held = len(self.record), self.record.note_held
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
            note_held(row, (slot.number, size, entry_price, balance, is_isolated, leverage, since, fee), mark)
            maintenance += maintenance_margin(position.brackets, value)
        if self.is_hedging:
            lowest = self._worst_equity()
        if self.held:
            self.record.bars_held += 1
            if self.least_headroom is None or self.walked or self.least_headroom < self.record.closest_call * 2:
                self._note_closest_call()
        lowest = min(self.lowest_equity if self.walked else min(lowest, self.lowest_equity), equity)
        if self.lows:
            lowest = self.lowest_of_all(lowest)
        available = cross_free - order_margin
        self.record.looked.extend((time, equity, lowest, wallet_balance, initial, maintenance, order_margin, available, notional))
        self.broker.publish(equity, available, notional)

    def lowest_of_all(self, last: float) -> float:
        """Return the lowest equity of a bar in which money came in, and note with each of these flows what it was after it."""
        flows, lows = self.record.flows, [*self.lows, last]
        flows[-len(self.lows) :] = [flow._replace(lowest=low) for flow, low in zip(flows[-len(self.lows) :], lows[1:], strict=True)]
        return min(lows)

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
        self.record.looked.append(time)
        self.record.looked.extend(self.flat_row)

    def _note_closest_call(self) -> None:
        """Keep the least distance to a liquidation price, each mark at its own worst and the others at their close."""
        if self.least_headroom is not None and not self.walked:
            slot, position = self.held[0]
            worst = slot.worst_mark()
            self.note_distance(slot, position, self.least_headroom * position.notional(worst), worst, self.marks)
            return
        has_fills = self.walked and len(self.record.fills) > self.fills_before  # held from inside the bar: its extremes may lie before
        at_close = {id(position): headroom_share(position, self.marks[slot.symbol]) for slot, position in self.held}
        wallets = dict(self.account.wallets)
        for _, position in self.held:
            wallets[position.wallet] += at_close[id(position)]
        for slot, position in self.held:
            if slot.is_fresh:
                joint = self.account.joint(position)
                apart = wallets[position.wallet] - sum(at_close[id(leg)] for leg in joint)
                for mark in (slot.mark_close,) if has_fills else _judged_marks(slot, position):
                    headroom = apart + sum(headroom_share(leg, mark) for leg in joint)
                    self.note_distance(slot, position, headroom, mark, self.marks)

    def note_distance(self, slot: "Slot", position: Position, headroom: float, worst: float, others: Marks) -> float | None:
        """Note the distance of a mark to the liquidation price, the ``others`` as they are, and return that price if there is one.

        Unless ``headroom``, that of the wallet at this mark, shows that it is no record: then nothing is reckoned, and None returned.
        """
        closest, joint = self.record.closest_call, self.account.joint(position)
        if len(joint) == 1 and is_farther(position, headroom, worst, closest):
            return None
        marks = {**others, **dict.fromkeys((leg.contract.symbol for leg in joint), worst)}
        price = account_liquidation_price(self.account, slot.symbol, marks)
        if price is not None:
            self.record.closest_call = min(closest, abs(worst - price) / worst if headroom > 0 else 0.0)
        return price


def _tracks_of(event: PathEvent, tracks: Sequence[Track], detail: Sequence[dict[str, Track]]) -> Sequence[Track]:
    """Return what contracts may have done when a wallet failed: by the bar, by its part, or at a part's open that very mark."""
    if not detail:
        return tracks
    part = detail[event.part]
    if event.fraction != event.part / len(detail):
        return [part.get(track.symbol, track) for track in tracks]
    known = {symbol: track._replace(mark_high=event.marks[symbol], mark_low=event.marks[symbol]) for symbol, track in part.items()}
    return [known.get(track.symbol, track) for track in tracks]


def _judged_marks(slot: "Slot", position: Position) -> tuple[float, ...]:
    """Return the marks of a bar that may be the nearest to a liquidation price: both ends where a slab's requirement jumps."""
    return (slot.worst_mark(),) if position.is_plain or not jumps(position.brackets) else mark_range(slot)
