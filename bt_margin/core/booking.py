"""A fill booked in one go where nothing is unusual: one linear position in cross, nothing else held, nothing else in the book.

It leaves what ``MarginAccount.execute`` leaves, entry for entry and to the last digit, without asking for what is not there.
"""

from math import inf

from .account import Booking, MarginAccount, Position
from .contract import split_fill
from .ledger import CROSS, MONEY_TOLERANCE, Entry, Journal


def book_lone_fill(
    account: MarginAccount, position: Position, *, size: float, price: float, fee_rate: float, mark_price: float, time: float
) -> Booking | None:
    """Book a fill of a plain linear position in cross, the only one held; None, and nothing done, where it does not clearly fit.

    Nothing may rest besides the order that fills, whose margin counts as released.
    """
    contract, wallets, journal, held = position.contract, account.wallets, account.journal, position.size
    closed, opened = split_fill(held, size)
    multiplier, symbol = contract.multiplier, contract.symbol
    per_unit, after = multiplier * price * fee_rate, wallets[CROSS]
    realized = closing_fee = 0.0
    if closed:
        closing_fee = abs(closed) * per_unit
        realized = -closed * multiplier * (price - position.entry_price)
        after += realized - closing_fee
    if journal is None or account.before_change is not None or account.top_ups_used or after <= 0:
        return None
    if opened and not _clearly_fits(position, held + closed, opened, price, fee_rate, mark_price, after):
        return None
    if closed:
        account.turnover = account.turnover + abs(realized - closing_fee) + abs(realized) + abs(closing_fee)
        wallets[CROSS] = after
        _post(journal, time, symbol, ((CROSS, realized - closing_fee), ("pnl", -realized), ("fees", closing_fee)))
        position.given_margin *= 1 - abs(closed / held)
        position.costs += closing_fee - realized
        account.resize(position, closed)
    opening_fee = abs(opened) * per_unit
    if opened:
        position.costs += opening_fee
        if opening_fee:
            account.turnover = account.turnover + abs(opening_fee) + abs(opening_fee)
            wallets[CROSS] = after - opening_fee
            _post(journal, time, symbol, ((CROSS, -opening_fee), ("fees", opening_fee)))
        left = position.size
        position.entry_price = (left * position.entry_price + opened * price) / (left + opened)
        account.resize(position, opened)
    return Booking(closed, opened, realized, closing_fee, opening_fee)


def _clearly_fits(position: Position, left: float, opened: float, price: float, fee_rate: float, mark_price: float, balance: float) -> bool:
    """Whether ``MarginAccount.clearly_fits`` says so of an opening beside what is ``left``, with this balance in the wallet."""
    leverage, multiplier = position.leverage, position.contract.multiplier
    worth, opening = multiplier * price, abs(opened) * multiplier * price
    available = balance
    if left:
        available += left * multiplier * (mark_price - position.entry_price) - abs(left) * multiplier * mark_price / leverage
    needed = opening / leverage + opening * max(fee_rate, 0.0)
    if not needed + MONEY_TOLERANCE * (opening + abs(available)) <= available < inf:
        return False
    return (abs(opened) + abs(left)) * worth * (1 + MONEY_TOLERANCE) <= position.table.max_notional(leverage)


def _post(journal: Journal, time: float, symbol: str, postings: tuple[tuple[str, float], ...]) -> None:
    """Do what ``Journal.post`` does with a fill."""
    total = gross = 0.0
    for _, amount in postings:
        total += amount
        gross += abs(amount)
    if abs(total) <= 0.5 * MONEY_TOLERANCE * gross < inf:
        journal.entries.append(Entry(time, "fill", symbol, postings))
    else:
        journal.post(time, "fill", symbol, *postings)
