"""The account as users and Backtrader read it, and the terms a strategy may change while it runs.

Overridden here: every accessor of cash and value, together with every alias of it: the host binds its aliases to its
own functions, so ``getvalue`` would still be the host's if only ``get_value`` were replaced.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

from backtrader import Order

from .comminfo import utc
from .core.account import MarginAccount, Marks, Position, check_leverage, is_number
from .core.contract import split_fill
from .core.ledger import CROSS, MONEY_TOLERANCE, Journal
from .core.liquidation import account_adl_score, account_bankruptcy_price, account_liquidation_price
from .core.orders import Resting, opened_by, openings
from .core.profiles import Profile
from .legs import Legs
from .record import SPECK, FlowRow, Record
from .slots import Slot

LEAST_FUND_VALUE = 1e-200  # of a share: after many total losses, each of which leaves SPECK of it, it falls no further
AT_MARKET = (Order.Market, Order.Close)
RATIOS = ("maintenance/equity", "equity/maintenance", "equity/notional", "equity/initial")


class Figure:
    """A figure of the account as of the last bar; of a bar that was passed in a lull it is reckoned when it is read.

    Known figures are attributes of the broker itself, which come first; a lull takes them away with each bar it passes.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, broker: Any, owner: type | None = None) -> Any:
        broker.lull.price()
        return broker.__dict__[self.name]


class AccountView(Legs):
    """The part of MarginBroker that answers for the account."""

    account: MarginAccount
    profile: Profile
    _marks: dict[str, float]
    _record: Record
    now: float
    _fundshares: float
    _value, _notional, _fundval = Figure(), Figure(), Figure()
    _available = Figure()  # None once the strategy has moved money or terms since the last bar

    @property
    def marks(self) -> dict[str, float]:
        """The last mark price of each contract that was held or ordered; what was kept from an earlier bar may be behind."""
        self.lull.catch_up()
        return self._marks

    @property
    def record(self) -> Record:
        """What the run has left behind so far; what was kept from an earlier bar may be behind."""
        self.lull.catch_up()
        return self._record

    def note_change(self) -> None:
        """Take note that money, terms or orders have changed since the last bar."""
        self.lull.interrupt()
        self._available = None

    @property
    def equity(self) -> float:
        """Wallets plus unrealized profit at mark, as of the last bar."""
        return self._value

    @property
    def wallet_balance(self) -> float:
        """All wallets, unrealized profit excluded."""
        return self.account.wallet_balance if self._is_funded else self.p.cash

    @property
    def available_margin(self) -> float:
        """What can still be committed, floored at 0 (R6)."""
        if not self._is_funded:
            return self.p.cash
        if self._available is None:
            self._available = self.account.available_margin(self.marks)
        return max(self._available, 0.0)

    def initial_margin(self, data=None) -> float:
        """Return the initial margin of one data's position (in hedge mode of both), or of all."""
        return sum(p.initial_margin(self._mark(p)) for p in self._positions_of(data))

    def maintenance_margin(self, data=None) -> float:
        """Return the maintenance margin of one data's position (in hedge mode of both), or of all."""
        return sum(p.maintenance_margin(self._mark(p)) for p in self._positions_of(data))

    def margin_ratio(self, convention=None) -> float | None:
        """Return maintenance margin / equity of the whole account: liquidation of a single wallet at 1; None when flat.

        ``convention`` names another definition: 'maintenance/equity' (the default, as Binance and Bybit show it),
        'equity/maintenance', 'equity/notional' or 'equity/initial'.
        """
        convention = RATIOS[0] if convention is None else convention
        expect("convention", convention, RATIOS)
        risk = self.account.total_risk(self.marks)
        notional = sum(p.notional(self._mark(p)) for p in self._positions_of(None))
        above, below = {
            "maintenance/equity": (risk.maintenance_margin, risk.equity),
            "equity/maintenance": (risk.equity, risk.maintenance_margin),
            "equity/notional": (risk.equity, notional),
            "equity/initial": (risk.equity, risk.initial_margin),
        }[convention]
        return above / below if notional and below else None

    def liquidation_price(self, data, side=None) -> float | None:
        """Return the mark at which the data's position would be liquidated, the other marks fixed; None if at none.

        In hedge mode both legs move together: in cross they share one price, isolated ones have one each, and where both
        are held a ``side`` says whose is asked for.
        """
        return account_liquidation_price(self.account, self._priced_leg(data, side).symbol, self.marks)

    def bankruptcy_price(self, data, side=None) -> float | None:
        """Return the mark at which the equity of the position's wallet is 0, the other marks fixed; None if at none.

        ``side`` as in ``liquidation_price``.
        """
        return account_bankruptcy_price(self.account, self._priced_leg(data, side).symbol, self.marks)

    def _priced_leg(self, data, side: str | None) -> Slot:
        legs = self.legs_of(data)
        if side is None and not legs[0].position.is_isolated:
            return next((leg for leg in legs if leg.position.size), legs[0])
        return self.held_leg(data, side)

    def adl_score(self, data, side=None) -> float | None:
        """Return how far the data's position leads the queue for auto-deleveraging, by the venue's formula.

        None where no source has that formula (see ``Profile.adl``), and for what is not queued: nothing held or earned. In
        hedge mode each ``side`` is queued for itself.
        """
        rule = self.profile.adl
        return None if rule is None else account_adl_score(rule, self.account, self.held_leg(data, side).symbol, self.marks)

    def max_size(self, data, isbuy, price=None, side=None) -> float:
        """Return the largest size an order may have: what it closes plus what it may open.

        With a price it is a limit, without one a market order, judged at the close (under cheat-on-open at the open). Resting orders
        of the same side count against the tiers (R4), and what is reserved for them is not available; limits before this one close
        what is held first. In hedge mode ``side`` names the leg, which an order closes to flat and no further.
        """
        return self._max_size(self.slot_of(data, side), isbuy, price)

    def account_as_sent(self, slot: Slot) -> tuple[MarginAccount, Marks]:
        """Return the account and its marks as a contract's next order finds them: market orders sent before it on this bar filled.

        They fill at the prices that are known now, those of them that would be refused not at all, and of an OCO group the first, which
        ends the others. Where none was sent it is the account itself.
        """
        self._use_terms_of_today(slot)
        sent = [order for order in self.submitted if order.exectype in AT_MARKET and order.parent is None]
        for order in sent:
            self._use_terms_of_today(self.slot_for(order))
        if not sent:
            return self.account, self.marks
        account, marks, ended = self.account.clone(), dict(self.marks), set[int]()
        for order in sent:
            other, group = self.slot_for(order), self._ocos[order.ref]
            if group in ended:
                continue
            ended.add(group)
            account.release_group(group)
            price = self._present(other)
            marks |= self._marks_with(other, marks)
            held, size = account.positions[other.symbol].size, order.executed.remsize
            if self.reduces(order):
                size = 0.0 if held * size >= 0 else size if abs(size) < abs(held) else -held
            if size:
                fee_rate = other.position.contract.taker
                account.execute(other.symbol, size=size, price=price, fee_rate=fee_rate, marks=marks, time=self.now)
        return account, marks

    def _present(self, slot: Slot) -> float:
        """Return the last price that is known: the close of the bar the data stands on, under cheat-on-open its open."""
        data = slot.data
        return float(data.open[0] if slot.is_ahead else data.close[0])

    def _max_size(self, slot: Slot, isbuy: bool, price: Any = None, seen: tuple[MarginAccount, Marks] | None = None) -> float:
        """Return the largest size, of the account or of the one ``seen`` as ``account_as_sent`` has it."""
        if price is not None and not (is_number(price) and price > 0):
            raise ValueError(f"{slot.symbol}: max_size takes a price above 0, or none for the close, was {price!r}")
        self._use_terms_of_today(slot)
        present = self._present(slot)
        at = present if price is None else price
        account, marks = seen or (self.account, self.marks)
        marks = self._marks_with(slot, marks)
        return self._largest(slot, 1 if isbuy else -1, at, marks, is_limit=price is not None, last_price=present, account=account)

    def _largest(
        self,
        slot: Slot,
        side: int,
        price: float,
        marks: Marks,
        *,
        is_limit: bool,
        last_price: float,
        account: MarginAccount | None = None,
    ) -> float:
        """Return the largest size of an order placed at these marks and last price, in this account or one ``account_as_sent``."""
        account = self.account if account is None else account
        held, limit, closes = account.positions[slot.symbol].size, None, 0.0
        if account.only_closes(slot.symbol, side):
            return abs(held)
        if is_limit:
            limit = self._limit(slot, side, price, marks.get(slot.symbol, price), last_price)
        if held * side < 0:
            closes = abs(held)
            if limit is not None:
                wide = limit._replace(size=2 * side * closes)
                closes = abs(wide.size) - abs(opened_by(wide, account.orders_of(slot.symbol), held))
            if closes == abs(held):
                return self._largest_reversal(slot, side, price, marks)
        besides = (held if held * side > 0 else 0.0) + self._resting_size(slot, side)
        return closes + account.max_opening(
            slot.symbol,
            price=price,
            fee_rate=slot.position.contract.taker,
            marks=marks,
            besides=besides,
            is_short=side < 0,
            order=limit,
            closed=side * closes,
        )

    def _limit(self, slot: Slot, side: int, price: float, mark_price: float, last_price: float) -> Resting:
        """Return a limit order placed at these prices, as margin sees it."""
        by = slot.position.orders.price_of_limit(size=side, price=price, mark_price=mark_price, last_price=last_price)
        taker = slot.position.contract.taker
        return self.account.order(slot.symbol, size=side, price=price, fee_rate=taker, mark_price=mark_price, margin_price=by)

    def _largest_reversal(self, slot: Slot, side: int, price: float, marks: Marks) -> float:
        """Return the largest size that closes all that is held and opens with what is there then."""
        symbol, held, taker, trial = slot.symbol, slot.position.size, slot.position.contract.taker, self.account.clone()
        trial.apply_fill(symbol, size=-held, price=price, fee_rate=taker, time=self.now)
        besides = self._resting_size(slot, side)
        size = abs(held) + trial.max_opening(symbol, price=price, fee_rate=taker, marks=marks, besides=besides, is_short=side < 0)
        # A fill takes its opening part off the whole again, which may give the sum's last digit back; and where offers are netted
        # with bids, what it leaves to resting orders may need more than before.
        while size > abs(held):
            opened = split_fill(held, side * size)[1]
            refused = trial.refusal(symbol, size=opened, price=price, fee_rate=taker, marks=marks, besides=besides)
            if refused is None:
                break
            size = max(min(slot.position.contract.size_below(size), abs(held) + refused.max_size), abs(held))
        return size

    def _resting_size(self, slot: Slot, side: int, *, apart_from: Collection[int] = (), group: int | None = None) -> float:
        """Return what the resting orders of one side open of a contract (signed); some orders and a group left out."""
        orders = self.account.orders_of(slot.symbol)
        if not orders:
            return 0.0
        return sum(
            opened
            for order, opened in zip(orders, openings(orders, slot.position.size), strict=True)
            if order.size * side > 0 and order.ref not in apart_from and order.group != group
        )

    def _marks_with(self, slot: Slot, marks: Marks | None = None) -> Marks:
        """Return the marks, that of a flat contract brought up to the bar its data stands on."""
        marks = self.marks if marks is None else marks
        if slot.position.size or not len(slot.data):
            return marks
        return {**marks, slot.symbol: slot.present_mark(at_open=slot.is_ahead)}

    def _use_terms_of_today(self, slot: Slot) -> None:
        """Put a flat contract's tiers, terms and fees of its present bar in force: bars of idle contracts are not loaded (R5)."""
        if not slot.position.size and slot.open_time >= slot.next_tiers:
            slot.use_tiers(self.account.set_tiers, slot.open_time)

    @property
    def journal(self) -> Journal:
        """The journal of the run; iterates rows of time, kind, symbol, account, amount, entry_id."""
        assert self.account.journal is not None
        return self.account.journal

    def _mark(self, position: Position) -> float:
        return self.marks[position.contract.symbol]

    def _positions_of(self, data) -> Iterator[Position]:
        slots = self.slots.values() if data is None else self.legs_of(data)
        return (slot.position for slot in slots if slot.position.size)

    def get_cash(self):
        """Return the available margin (alias: ``getcash``)."""
        available = self._available  # known on most bars, and every bar asks
        return available if available is not None and available > 0 else self.available_margin

    getcash = get_cash

    @property
    def cash(self):
        """The available margin; assigning books the difference on the wallet as an adjustment, a negative amount is refused."""
        return self.available_margin

    @cash.setter
    def cash(self, amount):
        if not self._is_booting:
            self._set_available(amount)

    def set_cash(self, cash):
        """Set the first deposit; in a running strategy, adjust the wallet so that this much is available (alias: ``setcash``)."""
        self._set_available(cash)

    setcash = set_cash

    def _set_available(self, amount: float) -> None:
        """Before the first bar set the first deposit; then adjust the wallet so that this much is available."""
        if not self._is_funded:
            self._set_first_deposit(amount)
            return
        if not (isfinite(amount) and amount >= 0):
            raise ValueError(f"cash is what is available, 0 or more; it cannot be set to {amount:.8g}")
        difference = amount - self.account.available_margin(self.marks)
        if difference:
            self.account.adjust(difference, time=self.now)
            self.note_flow("adjust", difference, self._value)

    def note_flow(self, kind: str, amount: float, equity: float) -> None:
        """Record booked money from outside, and let it buy shares of the fund at what they are worth just before, at ``equity``.

        The shares of an account that has lost everything are worth SPECK of what they were, so that what comes in buys very
        many of them and is no profit of the fund.
        """
        self._fundval = self._fund_value(equity)
        if self._fundval <= LEAST_FUND_VALUE:
            self._fundshares = max(equity, 0.0) / self._fundval
        shares = amount / self._fundval
        self._fundshares += shares
        if abs(self._fundshares) <= MONEY_TOLERANCE * abs(shares):  # everything was withdrawn
            self._fundshares = 0.0
        self._value = equity + amount
        self.note_change()
        self.record.flows.append(FlowRow(self.now, len(self.record), kind, amount, equity))

    def _fund_value(self, equity: float) -> float:
        """Return what a share of the fund is worth at an equity, as before where there are no shares."""
        if not self._fundshares:
            return self._fundval
        return max((equity if equity > 0 else self.speck) / self._fundshares, LEAST_FUND_VALUE)

    @property
    def speck(self) -> float:
        """What an account without money is shown as by the host's words for value, so that nobody divides by zero."""
        return SPECK * self.startingcash

    def _set_first_deposit(self, cash: float) -> None:
        check_cash(cash)
        self.p.cash = self.startingcash = self._value = cash
        self._fundshares = cash / self._fundval

    def get_value(self, datas=None, mkt=False, lever=False):
        """Return equity; for datas their signed notional at the close (alias: ``getvalue``).

        Of an account without money it is ``speck``, next to nothing: analyzers divide by it and take its
        logarithm. ``equity`` says 0.

        ``mkt`` and ``lever`` ask for the gross notional of what is held, alone or on top of the wallets.
        """
        if datas is not None:
            return sum(self._notional_at_close(data) for data in datas)
        if mkt:
            return self._notional
        if lever:
            return self.wallet_balance + self._notional
        value = self._value
        return value if value > 0 else self.speck

    getvalue = get_value

    def get_value_lever(self, datas=None, mkt=False):
        """Return the wallets plus the gross notional held."""
        return self.get_value(datas=datas, mkt=mkt, lever=True)

    def _get_value(self, datas=None, lever=False):
        return self.get_value(datas=datas, lever=lever)

    def _notional_at_close(self, data) -> float:
        positions = [leg.position for leg in self._legs_by_data[id(data)] if leg.position.size]
        return sum(position.notional(data.close[0]) * (1 if position.size > 0 else -1) for position in positions) if positions else 0.0

    def get_leverage(self):
        """Return the effective leverage: gross notional over equity."""
        return self._notional / self._value if self._value else 0.0

    def orderstatus(self, order):
        """Return the status of an order."""
        return next((known.status for known in self.orders if known.ref == order.ref), order.status)

    def set_leverage(self, data, leverage):
        """Change a contract's leverage, in hedge mode that of both legs.

        Raising moves no money. Lowering is refused on an open isolated position, and in cross where the larger
        initial margin is not available (R10).
        """
        legs = self.legs_of(data)
        for slot in legs:
            self._use_terms_of_today(slot)
            check_leverage(slot.symbol, leverage, slot.position.table.brackets)
        if leverage < legs[0].position.leverage:
            self._check_lower_leverage(legs, leverage)
        for slot in legs:
            self._check_tier(slot, leverage)
        for slot in legs:
            self.account.set_leverage(slot.symbol, leverage)
        self.note_change()

    def _check_tier(self, slot: Slot, leverage: float) -> None:
        """Raise ValueError where what is held is larger than the tiers allow at a leverage."""
        position = slot.position
        limit = position.table.max_notional(leverage)
        measure = position.measure(position.size, self._mark(position)) if position.size else 0.0
        if measure > limit:
            what = "notional" if position.is_plain else f"a size in its tiers' {position.table.unit} of"
            raise ValueError(f"{slot.symbol}: a position of {what} {measure:.8g} allows no {leverage:g}x, its tier ends at {limit:.8g}")
        ordered = self._measure_with_orders(slot)
        if leverage > position.leverage and ordered > limit:
            raise ValueError(f"{slot.symbol}: {ordered:.8g} held and ordered allows no {leverage:g}x, its tier ends at {limit:.8g}")

    def _measure_with_orders(self, slot: Slot) -> float:
        """Return what the tiers count of a contract once the larger side of its orders has filled at their prices."""
        position, found = slot.position, [0.0]
        orders = self.account.orders_of(slot.symbol)
        for side in (1, -1):
            opening = zip(orders, openings(orders, position.size), strict=True)
            held = position.measure(position.size, self._mark(position)) if position.size * side > 0 else 0.0
            found.append(held + sum(position.measure(opened, order.price) for order, opened in opening if opened * side > 0))
        return max(found)

    def _check_lower_leverage(self, legs: Sequence[Slot], leverage: float) -> None:
        more = 0.0
        for slot in legs:
            position = slot.position
            if position.is_isolated and position.size:
                raise ValueError(
                    f"{slot.symbol}: the leverage of an open isolated position cannot fall from {position.leverage:g} to {leverage:g}; "
                    "add margin or close it"
                )
            more += self.account.order_margin_of(slot.symbol, leverage=leverage) - self.account.order_margin_of(slot.symbol)
            if position.size:
                more += self._more_margin(position, leverage)
        if len(legs) > 1:
            symbol = legs[0].symbol
            more -= self.account.shared_margin(symbol, leverage=leverage) - self.account.shared_margin(symbol)
        free = min(self.account.spendable(slot.symbol, self.marks) for slot in legs)
        if more > free:
            raise ValueError(f"{legs[0].name}: {leverage:g}x needs {more:.8g} more initial margin, available is {max(free, 0.0):.8g}")

    def _more_margin(self, position: Position, leverage: float) -> float:
        """Return by how much the initial margin of a position is larger at another leverage."""
        mark_price = self._mark(position)
        if position.is_plain:
            return position.notional(mark_price) * (1 / leverage - 1 / position.leverage)
        return replace(position, leverage=leverage).initial_margin(mark_price) - position.initial_margin(mark_price)

    def set_margin_mode(self, data, margin_mode):
        """Choose 'cross' or 'isolated' for a contract that is flat, in hedge mode on both sides, and has no open orders."""
        legs = self.legs_of(data)
        live = sum(order.data is data for order in (*self.pending, *self.submitted))
        if live:
            raise ValueError(f"{legs[0].name}: the margin mode cannot change with {live} open orders; cancel them first")
        for slot in sorted(legs, key=lambda leg: not leg.position.size):  # what is held is refused before anything has changed
            self.account.set_margin_mode(slot.symbol, margin_mode)

    def add_margin(self, data, amount, side=None):
        """Move money from the cross wallet into an open isolated position's own; where both legs are open a ``side`` says whose."""
        slot = self._isolated_slot(data, amount, side)
        free = self.account.spendable(slot.symbol, self.marks)
        if amount > free:
            raise ValueError(f"{slot.symbol}: cannot add {amount:.8g} of margin, {max(free, 0.0):.8g} is available")
        self.account.transfer(CROSS, slot.position.wallet, amount, symbol=slot.symbol, time=self.now)
        self.note_change()
        self._emit({"kind": "top_up", "time": utc(self.now), "symbol": slot.symbol, "amount": amount})

    def remove_margin(self, data, amount, side=None):
        """Move margin of an open isolated position back to the cross wallet; its initial margin at mark must stay.

        ``side`` as in ``add_margin``.
        """
        slot = self._isolated_slot(data, amount, side)
        position = slot.position
        mark_price = self._mark(position)
        kept = position.initial_margin(mark_price) - min(position.unrealized_pnl(mark_price), 0.0)
        removable = max(self.account.wallets[position.wallet] - kept, 0.0)
        if amount > removable:
            raise ValueError(f"{slot.symbol}: cannot remove {amount:.8g} of margin, {removable:.8g} is above its initial margin")
        self.account.transfer(position.wallet, CROSS, amount, symbol=slot.symbol, time=self.now)
        self.note_change()

    def _isolated_slot(self, data, amount: float, side: str | None) -> Slot:
        slot = self.held_leg(data, side)
        if not (isfinite(amount) and amount > 0):
            raise ValueError(f"{slot.symbol}: an amount of margin is a positive number, was {amount}")
        if not (slot.position.is_isolated and slot.position.size):
            raise ValueError(
                f"{slot.symbol}: margin belongs to an open isolated position, "
                f"this one is {'flat' if slot.position.is_isolated else 'in cross margin'}"
            )
        return slot


def check_cash(cash: float) -> None:
    """Raise ValueError where a first deposit is no positive amount of money."""
    if not (isfinite(cash) and cash > 0):
        raise ValueError(f"cash is a positive amount of money, was {cash}")


def expect(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Raise ValueError where a value is none of those allowed."""
    if value not in allowed:
        raise ValueError(f"{name} is one of {', '.join(map(repr, allowed))}, was {value!r}")
