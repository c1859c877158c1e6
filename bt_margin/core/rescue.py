"""What would have kept a liquidated position alive: margin to add, or a lower leverage to have opened it at.

Both are judged at the worst mark of the bar in which it died, with the other marks of its wallet as they were. What
came after that bar they do not know.
"""

from collections.abc import Sequence
from typing import NamedTuple

from .contract import notional as notional_of
from .contract import unrealized_pnl
from .tiers import Bracket, maintenance_margin


class Rescue(NamedTuple):
    """``margin_to_add``: more money than this in the wallet; ``safe_leverage``: any leverage below this, None where none of 1 or more."""

    margin_to_add: float
    safe_leverage: float | None


def rescue(
    *,
    size: float,
    entry_price: float,
    worst_mark: float,
    collateral: float,
    leverage: float,
    is_isolated: bool,
    brackets: Sequence[Bracket],
    multiplier: float = 1.0,
    kind: str = "linear",
) -> Rescue:
    """Return what would have kept a position alive at ``worst_mark``.

    ``brackets`` are of the notional at mark; ``collateral`` is its wallet's balance plus, in a shared wallet, the unrealized
    profit of the other positions less their maintenance margin. ``leverage`` is the one set for the contract.

    margin_to_add = maintenance(worst) - collateral - pnl(worst)

    Isolated: the leverage at which the same position would have been given that much more when it opened,
    entry_notional / (entry_notional / leverage + margin_to_add). Cross: leverage as set moves no liquidation price, so
    it is the effective one, entry_notional / collateral, of the largest position that the same wallet carries.

    >>> tiers = (Bracket(float("inf"), 0.01, 0.0, 50.0),)
    >>> terms = {"size": 10, "entry_price": 100, "worst_mark": 90, "leverage": 20, "brackets": tiers}
    >>> rescue(**terms, collateral=50, is_isolated=True)          # 9 - 50 + 100 = 59; 1 000 / (50 + 59)
    Rescue(margin_to_add=59.0, safe_leverage=9.174311926605505)
    >>> rescue(**terms, collateral=54.5, is_isolated=False)       # half of it: 54.5 = 50 lost + 4.5; 500 / 54.5
    Rescue(margin_to_add=54.5, safe_leverage=9.174311926605505)
    """
    units = size * multiplier
    entry_notional, notional = (notional_of(size=units, price=price, kind=kind) for price in (entry_price, worst_mark))
    profit = unrealized_pnl(size=units, entry_price=entry_price, mark_price=worst_mark, kind=kind)
    lacking = max(maintenance_margin(brackets, notional) - collateral - profit, 0.0)
    if is_isolated:
        safe_leverage = entry_notional / (entry_notional / leverage + lacking)
    elif collateral > 0:
        safe_leverage = _carried_share(collateral, profit, notional, brackets) * entry_notional / collateral
    else:
        safe_leverage = 0.0
    return Rescue(lacking, safe_leverage if safe_leverage >= 1 else None)


def _carried_share(collateral: float, profit: float, notional: float, brackets: Sequence[Bracket]) -> float:
    """Return the share of a position at which collateral + share * profit meets the maintenance of share * notional.

    Solved in the bracket that holds its own answer; headroom falls with the share and is positive at 0, so only one does,
    or none where a slab's requirement jumps over it: then the edge.
    """
    floor = 0.0
    for bracket in brackets:
        slope = notional * bracket.rate - profit
        share = (collateral + bracket.amount) / slope if slope > 0 else 1.0
        if share * notional <= bracket.cap:
            break
        floor = bracket.cap
    return min(max(share, floor / notional), 1.0)
