"""The short road of bars on which many contracts are held: all of them at once, as columns of numbers.

With fifty contracts nearly every bar fills an order of one of them, so that there is no lull, and a look at each costs fifty
times as much as a look at one. Here a bar is judged, and its row is written, by operations on whole columns: the same
operations as of ``BarClock.run`` and ``BarClock.write`` in the same order, sums one addition after the other, so that the
numbers are the same to the last digit. Orders are filled by the order book as on any other bar.

A bar with funding or other tiers, or on which a wallet is not beyond doubt above its maintenance, takes the plain road. The
closest call alone may differ in its last digits.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

from backtrader import Order

from . import screen
from .core.account import Marks
from .core.ledger import CROSS, MONEY_TOLERANCE
from .core.tiers import Bracket

if TYPE_CHECKING:
    import numpy as np

    from .broker import MarginBroker
    from .slots import Slot

FEWEST = 16  # contracts held below which a look at each is as quick
BLOCK = 256  # bars whose prices are laid side by side at once
PLANNED = 8  # contracts held for each bar without a fill that a lull is waited for: its plan looks at each of them
TERMS = ("size", "entry_price", "balance", "is_isolated", "leverage", "terms_since", "set_aside")


@dataclass(slots=True)
class Spread:
    """What was held at the closes of the bars that went this road: for each contract the terms and the bar they began with.

    Bars are counted from 0 in the order in which they came; ``rows`` are the record's, ``bars`` the feeds', ``balances`` those of
    the cross wallet. ``terms`` are TERMS by contract, the balance that of an isolated wallet.
    """

    marks: list[array]
    terms: list[list[tuple[int, tuple[float, ...]]]]
    rows: array = field(default_factory=lambda: array("q"))
    bars: array = field(default_factory=lambda: array("q"))
    balances: array = field(default_factory=lambda: array("d"))

    def holdings(self) -> "np.ndarray":
        """Return a row of ``record.HOLDING_COLUMNS`` for every bar of every contract that was held."""
        import numpy as np

        rows, bars, balances = np.array(self.rows, dtype=int), np.array(self.bars, dtype=int), np.array(self.balances)
        tables = []
        for number, (marks, terms) in enumerate(zip(self.marks, self.terms, strict=True)):
            starts = np.array([start for start, _ in terms], dtype=int)
            each = np.repeat(np.array([own for _, own in terms]), np.diff(np.append(starts, len(rows))), axis=0)
            held = np.flatnonzero(each[:, 0])
            size, entry_price, balance, is_isolated, *rest = each[held].T
            balance = np.where(is_isolated, balance, balances[held])
            mark_price = np.frombuffer(marks, np.float64)[bars[held]]
            tables.append(
                np.column_stack((rows[held], np.full(len(held), number), size, entry_price, mark_price, balance, is_isolated, *rest))
            )
        return np.concatenate(tables)


class Tiers:
    """The tier that each contract's notional was found in last: where none has left its tier nobody is asked for it."""

    def __init__(self, contracts: int) -> None:
        import numpy as np

        self.rate, self.amount = np.zeros(contracts), np.zeros(contracts)
        self.floor, self.cap = np.full(contracts, -inf), np.full(contracts, inf)
        self.brackets: list[Sequence[Bracket]] = [()] * contracts

    def forget(self, number: int, brackets: Sequence[Bracket]) -> None:
        """Take other brackets for a contract; none of a flat one, which maintains nothing."""
        self.brackets[number] = brackets
        self.rate[number] = self.amount[number] = 0.0
        self.floor[number], self.cap[number] = (inf, -inf) if brackets else (-inf, inf)

    def maintenance_margins(self, notionals: "np.ndarray") -> "np.ndarray":
        """Return ``core.tiers.maintenance_margin`` of each contract's notional."""
        import numpy as np

        outside = (notionals <= self.floor) | (notionals > self.cap)
        if np.count_nonzero(outside):  # a third of what ``any`` takes for columns this short
            for number in outside.nonzero()[0].tolist():
                self._find(number, float(notionals[number]))
        return notionals * self.rate - self.amount

    def _find(self, number: int, notional: float) -> None:
        floor, brackets = -inf, self.brackets[number]
        for bracket in brackets:
            if notional <= bracket.cap or bracket is brackets[-1]:
                break
            floor = bracket.cap
        self.rate[number], self.amount[number], self.floor[number] = bracket.rate, bracket.amount, floor
        self.cap[number] = inf if bracket is brackets[-1] else bracket.cap


class Basket:
    """The contracts of a broker side by side, where all have the same bars from the start and plain positions.

    ``slots`` are all of them; prices of those that no order concerns are read where somebody asks for them.
    """

    def __init__(self, broker: "MarginBroker") -> None:
        self.broker, self.account = broker, broker.account
        self.is_possible: bool | None = None
        self.is_behind = self.has_passed = self.has_begun = False
        self.slots: list[Slot] = []
        self._count = self._quiet_bars = 0
        self._next_stamp = self._next_tiers = -inf

    def _find_out(self) -> bool:
        """Whether this run may go this road at all; if so, lay its contracts side by side."""
        broker, slots = self.broker, list(self.broker._slots.values())
        if len(slots) < FEWEST or broker.is_hedging or broker.p.check or broker.thresholds.is_set or broker._userhist:
            return False
        if not broker.cerebro._dopreload or not all(slot.is_bulk and slot.count == slots[0].count for slot in slots):
            return False
        if not all(slot.position.is_plain and slot.detail is None for slot in slots):
            return False
        if any(slot.schedule is not None and slot.schedule.grace_seconds for slot in slots):
            return False
        stamps = slots[0].all_stamps()
        if stamps is None or not all(slot.has_stamps(slots[0], stamps) for slot in slots[1:]):
            return False
        self._lay_out(slots)
        return True

    def _lay_out(self, slots: "list[Slot]") -> None:
        import numpy as np

        self.slots, contracts = slots, len(slots)
        self._lead, self._clocks = slots[0]._clock, [slot._clock for slot in slots]
        self._numbers = {slot.symbol: slot.number for slot in slots}
        self.units, self.gross, self.entry_price = np.zeros(contracts), np.zeros(contracts), np.zeros(contracts)
        self.leverage, self.is_long = np.ones(contracts), np.zeros(contracts, dtype=bool)
        self.is_isolated = np.zeros(contracts, dtype=bool)
        self._near, self._far = Tiers(contracts), Tiers(contracts)  # of present notionals, and of those at a liquidation price
        self._sums = np.zeros((6, contracts + 1))
        self._block_start = self._block_end = 0
        self._symbols = [slot.symbol for slot in slots]
        self._held: list[int] = []  # numbers, in their order, as are those of ``_isolated``
        self._isolated: list[int] = []
        self._is_full = self._has_isolated = False
        self._shown: Any = None  # the broker's marks of all contracts, None where they are to be asked for
        self._backed: Any = None  # profit and initial margin in cross at these marks behind a first column, None until asked for
        self._block: Any = None
        self.spread = self.broker._record.spread = Spread([slot.mark_closes for slot in slots], [[] for _ in slots])
        self.account.touched = set(self._numbers)
        self.account.free_margin = self.free_margin
        self._follow()

    # -- what changes between two bars -------------------------------------------------------------------------------

    def refresh(self) -> "list[Slot]":
        """Return the contracts with a new bar, each brought to it but for its prices."""
        if not self.is_possible and not self._becomes_possible():
            return [slot for slot in self.broker._slots.values() if slot.refresh()]
        self.has_passed, count = False, self._lead.lencount
        self._count = count
        if any(clock.lencount != count for clock in self._clocks) or self._lead._idx != count - 1:
            self._give_up()
            return [slot for slot in self.slots if slot.refresh()]
        day_number, close_time = self._lead.array[count - 1], self.slots[0].series.stamps[count - 1]  # type: ignore[union-attr]
        self.is_behind = False  # whoever needs prices of this bar reads them
        for slot in self.slots:
            slot.version += count - slot.count
            slot.count, slot.day_number, slot.is_fresh = count, day_number, True
            slot.close_time, slot.open_time = close_time, close_time - slot.bar_seconds
        return self.slots

    def _becomes_possible(self) -> bool:
        """Find out behind the first bar whether this run may go this road."""
        if self.is_possible is None:
            if self.has_begun:
                self.is_possible = self._find_out()
            self.has_begun = True
        return bool(self.is_possible)

    def _give_up(self) -> None:
        """Take the plain road from here on: somebody has moved a data by hand."""
        self.catch_up()
        self.is_possible, self.account.free_margin, self.account.touched = False, None, None

    def catch_up(self) -> None:
        """Read the prices of this bar for every contract that has not been asked for them."""
        if self.is_behind:
            self.is_behind = False
            for slot in self.slots:
                if slot.position.size:
                    slot.read_row(slot.count - 1)

    def _follow(self) -> None:
        """Bring the columns up to what has changed in the account."""
        touched = self.account.touched
        if not touched:
            return
        for symbol in touched:
            if symbol in self._numbers:
                self._renew(self._numbers[symbol])
        touched.clear()

    def _renew(self, number: int) -> None:
        """Take over what is held of a contract."""
        slot = self.slots[number]
        position = slot.position
        units = position.size * position.contract.multiplier
        if _list(number, self._held, is_in=bool(units)):
            self._is_full = len(self._held) == len(self.slots)
            self._next_stamp, self._next_tiers = min(self._next_stamp, slot.next_stamp), min(self._next_tiers, slot.next_tiers)
        if _list(number, self._isolated, is_in=bool(units) and position.is_isolated):
            self._has_isolated = bool(self._isolated)
        self.units[number], self.gross[number], self.entry_price[number] = units, abs(units), position.entry_price
        self.leverage[number], self.is_long[number] = position.leverage, units > 0
        self.is_isolated[number] = position.is_isolated
        for tiers in (self._near, self._far):
            tiers.forget(number, position.brackets if position.size else ())
        _, size, entry_price, balance, is_isolated, leverage, since, fee = slot.terms_held(self.account.wallets[position.wallet])
        spread = self.spread
        spread.terms[number].append((len(spread.rows), (size, entry_price, balance, float(is_isolated), leverage, since, fee)))
        if self._shown is not None and self._backed is not None:
            self._backed[:, number + 1] = self._backing(self._shown[number], number)

    # -- sums over all -----------------------------------------------------------------------------------------------

    def free_margin(self, marks: Marks) -> float:
        """Return cross wallet + cross profit - cross initial margin at these marks, as ``available_margin`` sums them up."""
        import numpy as np

        self._follow()
        if self._shown is None or marks is not self.broker._marks:
            prices = np.zeros(len(self.slots))
            held = [number for number in self._held if not self.is_isolated[number]]
            prices[held] = [marks[self._symbols[number]] for number in held]
            backed = self._all_backed(prices)
        else:
            if self._backed is None:
                self._backed = self._all_backed(self._shown)
            backed = self._backed
        backed[:, 0] = self.account.wallets[CROSS], 0.0
        equity, initial = np.add.accumulate(backed, axis=1)[:, -1].tolist()
        return float(equity - initial)

    def _all_backed(self, prices: Any) -> Any:
        import numpy as np

        backed = np.empty((2, len(prices) + 1))
        backed[:, 1:] = self._backing(prices, slice(None))
        return backed

    def _backing(self, prices: Any, at: "int | slice") -> Any:
        """Return profit and initial margin of contracts at these marks, 0 of those that do not share the cross wallet."""
        import numpy as np

        is_apart = self.is_isolated[at]
        profits, margins = self.units[at] * (prices - self.entry_price[at]), self.gross[at] * prices / self.leverage[at]
        return np.where(is_apart, 0.0, profits), np.where(is_apart, 0.0, margins)

    def _prices(self, row: int) -> Any:
        """Return marks at open, high, low and close of one bar of all contracts."""
        import numpy as np

        if not self._block_start <= row < self._block_end:
            self._block_start, self._block_end = row, min(row + BLOCK, len(self._lead.array))
            self._block = np.empty((4, self._block_end - row, len(self.slots)))
            for slot in self.slots:
                columns = (slot.mark_opens, slot.mark_highs, slot.mark_lows, slot.mark_closes)
                for kind, column in enumerate(columns):
                    self._block[kind, :, slot.number] = np.frombuffer(column, np.float64, self._block_end - row, 8 * row)
        return self._block[:, row - self._block_start]

    # -- one bar -----------------------------------------------------------------------------------------------------

    def passes(self) -> bool:
        """Take all contracts from their bar's opening to its close and write its row, or return False where that needs a look at each."""
        broker, clock = self.broker, self.broker.clock
        self._shown = None
        if not self.is_possible or len(clock.held) < FEWEST or broker._userhist or broker._is_refilling:
            return False
        self._follow()
        ordered = {id(order.data): broker._legs_by_data[id(order.data)][0] for order in broker.pending}
        if self._is_event_due(ordered.values()):
            return False
        row = self._count - 1
        for slot in ordered.values():
            slot.read_row(row)
        opens, highs, lows, closes = prices = self._prices(row)
        if not self._is_clearly_safe(highs, lows):
            return False
        fills = len(broker._record.fills)
        clock.lowest_equity, clock.least_headroom, clock.walked, clock.fills_before = inf, None, False, fills
        clock.lows.clear()
        numbers = [*self._held] if self._is_full else sorted({*self._held, *(slot.number for slot in ordered.values())})
        self.is_behind = self.has_passed = True
        if broker.pending:
            broker.begin_bar()
            self._show(opens, numbers)
            worst = self._worst_equity(highs, lows)
            broker.match_like_host()
            if any(fill.price != broker._slots[fill.symbol].open for fill in broker._record.fills[fills:]):
                clock.lowest_equity = worst
        self._show(closes, numbers)
        self._follow()
        if len(broker._record.fills) > fills:
            self._test(closes, [self.slots[number] for number in numbers])
        if broker.pending:
            self.account.cover(broker._marks)
        self._write(prices, row)
        return True

    def _show(self, prices: "np.ndarray", numbers: list[int]) -> None:
        """Make these the broker's marks of what is held or ordered."""
        is_full = len(numbers) == len(self.slots)
        symbols = self._symbols if is_full else [self._symbols[number] for number in numbers]
        self.broker._marks.update(zip(symbols, (prices if is_full else prices[numbers]).tolist(), strict=True))
        self._shown, self._backed = prices, None

    def _is_event_due(self, ordered: "Iterable[Slot]") -> bool:
        """Whether a funding stamp, other tiers or fees fall into this bar, of what is held or ordered."""
        open_time, close_time = self.slots[0].open_time, self.slots[0].close_time
        if self._next_stamp < close_time or self._next_tiers <= open_time:
            held = [self.slots[number] for number in self._held]
            self._next_stamp = min((slot.next_stamp for slot in held), default=inf)
            self._next_tiers = min((slot.next_tiers for slot in held), default=inf)
            if self._next_stamp < close_time or self._next_tiers <= open_time:
                return True
        return any(slot.next_stamp < close_time or slot.next_tiers <= open_time for slot in ordered)

    def _is_clearly_safe(self, highs: "np.ndarray", lows: "np.ndarray") -> bool:
        """Whether ``screen.is_safe`` holds by a billionth of all that is reckoned with: no bar that it would walk is passed."""
        import numpy as np

        broker, wallets = self.broker, self.account.wallets
        worst = np.where(self.is_long, lows, highs)
        shares = self.units * (worst - self.entry_price) - self._near.maintenance_margins(self.gross * worst)
        slack = MONEY_TOLERANCE * (sum(map(abs, wallets.values())) + float(self.gross @ (worst + self.entry_price)))
        headroom = wallets[CROSS]
        if broker.pending:
            orders = broker.possible_fills()
            for symbol, fills in orders.items():
                slot, number = broker._slots[symbol], self._numbers[symbol]
                position = slot.position
                shares[number] = 0.0
                slack += MONEY_TOLERANCE * sum(abs(change) * position.contract.multiplier * price for change, price in fills)
                if position.is_isolated:
                    balance = wallets[position.wallet] - (slack if position.size else 0.0)
                    if not screen.is_isolated_safe(slot, position, balance, fills, ()):
                        return False
                    headroom -= screen.isolated_opening_cost(position, fills, (slot.low, slot.high))
                    shares[number] = inf  # judged
                else:
                    headroom += screen.worst_headroom(slot, position, fills, ())
        if not self._has_isolated:
            return bool(headroom + float(shares[np.isfinite(shares)].sum()) > slack)
        balances = np.fromiter((wallets[self.slots[number].position.wallet] for number in self._isolated), np.float64)
        in_cross = ~self.is_isolated
        return bool((balances + shares[self._isolated] > slack).all() and headroom + float(shares[in_cross].sum()) > slack)

    def _worst_equity(self, highs: "np.ndarray", lows: "np.ndarray") -> float:
        """Return ``BarClock._worst_equity``; inf where no order can fill elsewhere than at its open, so that nobody asks."""
        import numpy as np

        params = self.broker.p
        if not (
            params.slip_perc or params.slip_fixed or params.coc or any(order.exectype != Order.Market for order in self.broker.pending)
        ):
            return inf
        profits = np.minimum(self.units * (lows - self.entry_price), self.units * (highs - self.entry_price))
        return float(np.add.accumulate(np.append(self.account.wallet_balance, profits))[-1])

    def _test(self, closes: "np.ndarray", active: "list[Slot]") -> None:
        """Test every wallet at the closing marks after a fill, as ``BarClock.test_after_fill``."""
        import numpy as np

        clock, wallets = self.broker.clock, self.account.wallets
        profits, notionals = self.units * (closes - self.entry_price), self.gross * closes
        shares = profits - self._near.maintenance_margins(notionals)
        slack = MONEY_TOLERANCE * (sum(map(abs, wallets.values())) + float(self.gross @ (closes + self.entry_price)))
        is_clear = wallets[CROSS] + float(shares[~self.is_isolated].sum()) > slack
        if is_clear and self._has_isolated:
            balances = np.fromiter((wallets[self.slots[number].position.wallet] for number in self._isolated), np.float64)
            is_clear = bool((balances + shares[self._isolated] > slack).all())
        if not is_clear:
            self.catch_up()
            clock.test_after_fill(active)
            clock.note_positions(self.slots)
            self._follow()
            return
        equity = self.account.wallet_balance + float(np.add.accumulate(np.append(0.0, profits))[-1])
        clock.lowest_equity = min(clock.lowest_equity, equity)

    # -- the record --------------------------------------------------------------------------------------------------

    def _write(self, prices: Any, row: int) -> None:
        """Append this bar's row, and what it holds, as ``BarClock.write``."""
        import numpy as np

        broker, clock, record, wallets = self.broker, self.broker.clock, self.broker._record, self.account.wallets
        if not clock.held:
            clock.write(broker.now)
            return
        _, highs, lows, closes = prices
        wallet_balance, order_margin = sum(wallets.values()), self.account.order_margin
        worst = np.where(self.is_long, lows, highs)
        sums = self._sums
        sums[:, 0] = wallet_balance, wallet_balance, 0.0, 0.0, 0.0, wallets[CROSS]
        profits, lowest, notionals, margins, maintenance, free = sums[:, 1:]
        np.multiply(self.units, closes - self.entry_price, out=profits)
        np.multiply(self.units, worst - self.entry_price, out=lowest)
        np.multiply(self.gross, closes, out=notionals)
        np.divide(notionals, self.leverage, out=margins)
        maintenance[:] = self._near.maintenance_margins(notionals)
        np.subtract(profits, margins, out=free)
        if self._has_isolated:
            free[self.is_isolated] = 0.0
        equity, least, notional, initial, maintained, cross_free = np.add.accumulate(sums, axis=1)[:, -1].tolist()
        record.bars_held += 1
        self._note_closest_call(worst, profits - maintenance)
        least = min(least, clock.lowest_equity, equity)
        if clock.lows:
            least = clock.lowest_of_all(least)
        available, spread = cross_free - order_margin, self.spread
        spread.rows.append(len(record))
        spread.bars.append(row)
        spread.balances.append(wallets[CROSS])
        record.looked.extend((broker.now, equity, least, wallet_balance, initial, maintained, order_margin, available, notional))
        broker.publish(equity, available, notional)

    def _note_closest_call(self, worst: "np.ndarray", at_close: "np.ndarray") -> None:
        """Keep the least distance to a liquidation price, each mark at its own worst and the others at their close."""
        import numpy as np

        broker, wallets, closest = self.broker, self.account.wallets, self.broker._record.closest_call
        with np.errstate(over="ignore", invalid="ignore"):  # before the first call everything is infinitely far
            moved = np.where(self.is_long, worst * (1 - min(closest, 1.0)), worst * (1 + closest))
            total = wallets[CROSS] + float(at_close[~self.is_isolated].sum())
            apart = total - at_close
            if self._has_isolated:
                apart[self._isolated] = [wallets[self.slots[number].position.wallet] for number in self._isolated]
            gone = self.gross * moved
            left = apart + self.units * (moved - self.entry_price) - self._far.maintenance_margins(gone)
            near = ~(left > MONEY_TOLERANCE * self.gross * worst)
        if not near[self._held].any():
            return
        shares = self.units * (worst - self.entry_price) - self._near.maintenance_margins(self.gross * worst)
        for number in self._held:
            if near[number]:
                slot, headroom = self.slots[number], float(apart[number] + shares[number])
                broker.clock.note_distance(slot, slot.position, headroom, float(worst[number]), broker._marks)

    def is_quiet(self, has_fills: bool) -> bool:
        """Whether it is time to look for a lull: at once behind a bar of the plain road, else once some bars had no fill."""
        if self.has_passed:
            self._quiet_bars = 0 if has_fills else self._quiet_bars + 1
            if self._quiet_bars < len(self._held) // PLANNED:
                return False
            self._quiet_bars = 0
            self.catch_up()
        self._shown = None  # a lull has marks of its own
        return True


def _list(number: int, numbers: list[int], *, is_in: bool) -> bool:
    """Enter a number into a sorted list or take it out, and return whether that changed the list."""
    place = bisect_left(numbers, number)
    if is_in == (numbers[place : place + 1] == [number]):
        return False
    numbers[place : place + (not is_in)] = [number] * is_in
    return True
