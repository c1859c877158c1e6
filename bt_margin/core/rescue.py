"""What would have kept a liquidated position alive: margin to add, or a lower leverage to have opened it at.

Both are judged over the bar in which it died: every position of its wallet at its own worst mark of that bar, and the
funding that was still to come in it paid. That errs towards too much, for the worst marks need not come together. What
resting orders would have done in that bar, and what came after it, they do not know.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from .account import MarginAccount, Position
from .liquidation import jumps, just_past

HALVINGS = 60  # of the share of a position that a wallet carries: more than a float can tell apart


class Rescue(NamedTuple):
    """``margin_to_add``: more money than this in the wallet; ``safe_leverage``: any leverage below this, None where none of 1 or more."""

    margin_to_add: float
    safe_leverage: float | None


class Range(NamedTuple):
    """The least and the greatest mark price that a contract had still to meet, the present one among them."""

    low: float
    high: float


def worst_mark(position: Position, marks: Range) -> float:
    """Return the mark of a range at which a position adds least to its wallet.

    A long's is the lowest and a short's the highest, but where the requirement of a slab table jumps: then the first mark
    past an edge may be, which a long meets on its way up.

    >>> from .contract import Contract
    >>> account = MarginAccount()
    >>> account.add_contract(Contract("AAA"), leverage=10, margin_mode="cross")
    >>> account.deposit(100, time=0)
    >>> booked = account.apply_fill("AAA", size=-1, price=100, fee_rate=0, time=0)
    >>> worst_mark(account.positions["AAA"], Range(90, 120))
    120
    """
    if position.is_plain or not jumps(position.brackets):
        return marks.low if position.size > 0 else marks.high
    return min(_judged_marks(position, marks), key=position.headroom)


def _judged_marks(position: Position, marks: Range) -> list[float]:
    """Return the marks of a range at one of which a position, alone or with its other leg, adds least: its ends and a slab's jumps."""
    if position.is_plain or not jumps(position.brackets):
        return [*marks]
    units, is_inverse = abs(position.size) * position.contract.multiplier, position.contract.kind == "inverse"
    past = (just_past(units, bracket.cap, is_inverse=is_inverse) for bracket in position.brackets[:-1])
    return [*marks, *(mark for mark in past if marks.low < mark < marks.high)]


def rescue(account: MarginAccount, symbol: str, ahead: Mapping[str, Range], due: Mapping[str, float]) -> Rescue:
    """Return what would have kept a held position alive over the marks ``ahead``, with the funding ``due`` still to be paid.

    margin_to_add = sum of (maintenance - profit + due) over the wallet's positions, each at its worst mark, - wallet balance

    Isolated: the leverage at which the same position would have been given that much more when it was opened, entry
    notional / (given margin + margin_to_add), where the given margin leaves out the closing fee that was set aside with it.
    Cross: the leverage that is set moves no liquidation price, or hardly, so it is the effective one, entry notional over
    the money there was before this position's own costs, of the largest position that the wallet would have carried. Spot
    has no leverage to lower. Both legs of a hedge in one wallet meet one mark; the leverage is found with the other leg at
    its own worst, for the smaller this one is, the less it offsets the other.
    """
    position = account.positions[symbol]
    others = sum(_headroom(other, ahead, due) for other in account.held(position.wallet) if other is not position)
    balance = account.wallets[position.wallet] + others
    lacking = max(-(account.wallets[position.wallet] + _wallet_headroom(account, position.wallet, ahead, due)), 0.0)
    entry_notional = position.notional(position.entry_price)
    if position.contract.kind == "spot":
        safe_leverage = 0.0
    elif position.is_isolated:
        own = position.given_margin - position.kept_fee + lacking
        safe_leverage = entry_notional / own if own > 0 else 0.0  # of a position so small that its margin is 0 none can be told
    else:
        before = balance + position.costs
        safe_leverage = _carried_share(position, before, ahead, due) * entry_notional / before if before > 0 else 0.0
    return Rescue(lacking, safe_leverage if safe_leverage >= 1 else None)


def _wallet_headroom(account: MarginAccount, wallet: str, ahead: Mapping[str, Range], due: Mapping[str, float]) -> float:
    """Return the least that all positions of a wallet add to its headroom, both legs of a hedge at one mark."""
    total = 0.0
    for position in account.held(wallet):
        joint = account.joint(position)
        if len(joint) == 1:
            total += _headroom(position, ahead, due)
        elif position is joint[0]:
            marks = {mark for leg in joint for mark in _judged_marks(leg, ahead[leg.contract.symbol])}
            total += min(sum(leg.headroom(mark) for leg in joint) for mark in marks)
            total -= sum(due.get(leg.contract.symbol, 0.0) for leg in joint)
    return total


def _headroom(position: Position, ahead: Mapping[str, Range], due: Mapping[str, float]) -> float:
    """Return the least that a position adds to its wallet's headroom: profit less maintenance less the funding due."""
    symbol = position.contract.symbol
    return position.headroom(worst_mark(position, ahead[symbol])) - due.get(symbol, 0.0)


def _carried_share(position: Position, before: float, ahead: Mapping[str, Range], due: Mapping[str, float]) -> float:
    """Return the largest share of a position, its costs shared alike, that ``before`` carries to its worst mark.

    Maintenance never grows slower than the share, whatever the tiers; so below a share that survives every other does.
    """

    def survives(share: float) -> bool:
        part = replace(position, size=position.size * share)
        part.renew()
        funding = {symbol: amount * share for symbol, amount in due.items()}
        return before - share * position.costs + _headroom(part, ahead, funding) > 0

    low, high = 0.0, 1.0
    if survives(high):
        return high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if survives(middle) else (low, middle)
    return low
