"""What must hold after every bar, asserted by ``MarginBroker(check=True)``."""

from math import fsum
from typing import TYPE_CHECKING

from .core.ledger import MONEY_TOLERANCE

if TYPE_CHECKING:
    from .broker import MarginBroker


class Audit:
    """Follows a broker's journal and compares it with the account after every bar."""

    def __init__(self) -> None:
        self._seen = 0
        self._sums: dict[str, float] = {}

    def check(self, broker: "MarginBroker") -> None:
        """Raise AssertionError, with the numbers, where an invariant is broken."""
        self._read_journal(broker)
        slack = MONEY_TOLERANCE * broker.account.turnover
        self._check_money(broker, slack)
        self._check_terms(broker)
        self._check_book(broker)
        self._check_host(broker)
        if not broker.clock.walked:
            self._check_screen(broker)

    def _check_screen(self, broker: "MarginBroker") -> None:
        """A bar that was not walked was safe: even at every position's own adverse extreme no wallet fails.

        Nor at the other one, where the requirement of a slab table may have jumped.
        """
        for is_adverse in (True, False):
            marks = dict(broker.marks)
            for slot, position in broker.clock.held:
                if slot.is_fresh:
                    marks[slot.symbol] = slot.mark_low if (position.size > 0) == is_adverse else slot.mark_high
            for wallet in broker.account.wallets:
                risk = broker.account.risk(wallet, marks)
                assert not broker.profile.fails(risk), f"{broker.now}: the screen let {wallet} pass, {risk}"

    def _read_journal(self, broker: "MarginBroker") -> None:
        entries = broker.journal.entries
        for entry in entries[self._seen :]:
            for account, amount in entry.postings:
                self._sums[account] = fsum((self._sums.get(account, 0.0), amount))
        self._seen = len(entries)

    def _check_money(self, broker: "MarginBroker", slack: float) -> None:
        account, when = broker.account, broker.now
        for wallet, balance in account.wallets.items():
            booked = self._sums.get(wallet, 0.0)
            assert abs(balance - booked) <= slack, f"{when}: {wallet} holds {balance}, its journal says {booked}"
        total = fsum(self._sums.values())
        assert abs(total) <= slack, f"{when}: the accounts sum to {total}, not to zero"
        equity = account.equity(broker.marks)
        assert abs(equity - broker.equity) <= slack, f"{when}: equity {broker.equity} is not wallets + unrealized profit {equity}"
        assert equity >= -slack, f"{when}: equity {equity} is below zero"
        for wallet in account.wallets:
            risk = account.risk(wallet, broker.marks)
            assert not broker.profile.fails(risk), f"{when}: {wallet} outlived its maintenance, {risk}"
            assert wallet == "wallet:cross" or risk.holds_position or abs(risk.equity) <= slack, (
                f"{when}: flat {wallet} keeps {risk.equity}"
            )

    def _check_terms(self, broker: "MarginBroker") -> None:
        """The brackets that the account reckons with are those of what it holds; spot is never short."""
        for slot, position in broker.clock.held:
            kind, mark_price = position.contract.kind, broker.marks[slot.symbol]
            assert kind != "spot" or position.size > 0, f"{slot.symbol}: spot is held short, {position.size}"
            required, held = position.maintenance_margin(mark_price), position.holding()
            assert abs(required - held.maintenance_margin(mark_price)) <= MONEY_TOLERANCE * held.notional(mark_price), (
                f"{slot.symbol}: maintenance is reckoned as {required}, its terms say {held.maintenance_margin(mark_price)}"
            )

    def _check_book(self, broker: "MarginBroker") -> None:
        """Every order that rests, and none that has ended, is counted by its margin with the size that may still fill."""
        resting = {
            order.ref: order.executed.remsize
            for order in broker.pending
            if order.alive() and order.parent is None and not broker.reduces(order) and not broker.is_out_of_date(order)
        }
        counted = {ref: order.size for ref in broker.account.reserved_orders if (order := broker.account.resting(ref)) is not None}
        assert counted == resting, f"{broker.now}: orders rest with {resting}, margin is reserved for {counted}"
        account = broker.account
        shared = fsum(account.shared_margin(symbol) for symbol, leg in account.legs.items() if leg.sign > 0)
        known, anew = account.order_margin, fsum(account.order_margin_of(symbol) for symbol in account.positions) - shared
        assert abs(known - anew) <= MONEY_TOLERANCE * anew, f"{broker.now}: order margin is kept as {known}, reckoned anew it is {anew}"
        assert broker.account.order_margin >= 0, f"{broker.now}: order margin {broker.account.order_margin} is below zero"

    def _check_host(self, broker: "MarginBroker") -> None:
        for slot in broker.slots.values():
            position, shown = slot.position, broker.positions[slot.data]
            assert (shown.size, shown.price) == broker.net_of(slot.data), f"{slot.symbol}: the host shows {shown}, the account {position}"
            assert slot.side is None or position.size * broker.account.legs[slot.symbol].sign >= 0, (
                f"{slot.symbol}: the leg holds {position.size} of the other side"
            )
            lot = position.contract.lot
            assert not lot or position.size == round(position.size / lot) * lot, (
                f"{slot.symbol}: size {position.size} is no whole number of lots of {lot}"
            )
            lots = fsum(slot.lots.values())
            assert abs(lots - position.size) <= MONEY_TOLERANCE * max(abs(position.size), 1.0), (
                f"{slot.symbol}: trades hold {lots}, the account {position.size}"
            )
