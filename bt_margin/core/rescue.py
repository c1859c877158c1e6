"""What would have kept a liquidated position alive: margin to add, or a lower leverage to have opened it at.

Both are judged over the bar in which it died: every position of its wallet at its own worst mark of that bar, and the
funding that was still to come in it paid. That errs towards too much, for the worst marks need not come together. What
resting orders would have done in that bar, and what came after it, they do not know.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from .account import MarginAccount, Marks, Position

HALVINGS = 60  # of the share of a position that a wallet carries: more than a float can tell apart


class Rescue(NamedTuple):
    """``margin_to_add``: more money than this in the wallet; ``safe_leverage``: any leverage below this, None where none of 1 or more."""

    margin_to_add: float
    safe_leverage: float | None


def rescue(account: MarginAccount, symbol: str, worst: Marks, due: Mapping[str, float]) -> Rescue:
    """Return what would have kept a held position alive at the ``worst`` marks, with the funding ``due`` still to be paid.

    margin_to_add = sum of (maintenance - profit + due) over the wallet's positions - wallet balance

    Isolated: the leverage at which the same position would have been given that much more when it was opened, entry
    notional / (given margin + margin_to_add). Cross: the leverage that is set moves no liquidation price, so it is the
    effective one, entry notional over the money there was before this position's own costs, of the largest position that
    the wallet would have carried.
    """
    position = account.positions[symbol]
    others = sum(_headroom(other, worst, due) for other in account.held(position.wallet) if other is not position)
    balance = account.wallets[position.wallet] + others
    lacking = max(-(balance + _headroom(position, worst, due)), 0.0)
    entry_notional = position.notional(position.entry_price)
    if position.is_isolated:
        safe_leverage = entry_notional / (position.given_margin + lacking)
    else:
        before = balance + position.costs
        safe_leverage = _carried_share(position, before, worst, due) * entry_notional / before if before > 0 else 0.0
    return Rescue(lacking, safe_leverage if safe_leverage >= 1 else None)


def _headroom(position: Position, worst: Marks, due: Mapping[str, float]) -> float:
    """Return what a position adds to its wallet's headroom: profit less maintenance less the funding due."""
    mark_price = worst[position.contract.symbol]
    return position.unrealized_pnl(mark_price) - position.maintenance_margin(mark_price) - due.get(position.contract.symbol, 0.0)


def _carried_share(position: Position, before: float, worst: Marks, due: Mapping[str, float]) -> float:
    """Return the largest share of a position, its costs shared alike, that ``before`` carries to its worst mark."""

    def survives(share: float) -> bool:
        part = replace(position, size=position.size * share)
        funding = {symbol: amount * share for symbol, amount in due.items()}
        return before - share * position.costs + _headroom(part, worst, funding) > 0

    low, high = 0.0, 1.0
    if survives(high):
        return high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if survives(middle) else (low, middle)
    return low
