"""An auto top-up rule: margin that is added to a wallet at the very instant at which it would be liquidated.

Whatever a rule does, it saves the wallet or it is not done: money that would be lost in the same liquidation is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import NamedTuple

from .account import MarginAccount, Marks, Position, is_number
from .ledger import CROSS
from .liquidation import jumps

CLEAR = (
    1e-4  # of what a wallet holds: a top-up leaves at least so much above maintenance, or a falling price would need one at every instant
)
BESIDE = 1e-9  # of a mark: a slab's requirement that jumps so near is due already


@dataclass(frozen=True, slots=True)
class TopUp:
    """A rule: where a wallet would be liquidated, add margin to it, if that saves it.

      - ``amount``: money for each use, or ``ratio``: up to this equity / maintenance margin (2.0, say); one of the two
      - ``times`` (default: 1): uses for each position, counted since its wallet last held nothing; None: as often as there is money
      - ``deposit`` (default: False): the money comes from outside and counts as paid in. Otherwise it is moved from the cross
        wallet to an isolated position's own, no more than is available and there (R8), nor so much that the cross wallet would
        not be clear of its own maintenance margin; a cross wallet has no other to draw on

    Where one use does not suffice, as many as it takes are spent at once. Where there is less money than the rule says, what
    there is is added. What would not leave the wallet clear of its maintenance margin, by 0.01 % of what it holds, is not
    added at all, and it is liquidated.
    """

    amount: float | None = None
    ratio: float | None = None
    times: int | None = 1
    deposit: bool = False

    def __post_init__(self) -> None:
        if (self.amount is None) == (self.ratio is None):
            raise ValueError("a TopUp adds an amount or up to a ratio: give one of them, TopUp(amount=100) or TopUp(ratio=2.0)")
        if self.amount is not None and not (is_number(self.amount) and self.amount > 0):
            raise ValueError(f"the amount of a TopUp is a positive amount of money, was {self.amount!r}")
        if self.ratio is not None and not (is_number(self.ratio) and self.ratio > 1):
            raise ValueError(f"the ratio of a TopUp is equity / maintenance margin and above 1, where liquidation is, was {self.ratio!r}")
        if self.times is not None and (isinstance(self.times, bool) or not isinstance(self.times, int) or self.times < 1):
            raise ValueError(f"the times of a TopUp are a whole number from 1 on, or None for no limit, were {self.times!r}")
        if not isinstance(self.deposit, bool):
            raise ValueError(f"deposit of a TopUp is True or False, was {self.deposit!r}")


class TopUpStep(NamedTuple):
    """Margin to add to a wallet, and how many uses of its rule that takes; ``symbol`` is '' of the cross wallet."""

    wallet: str
    symbol: str
    amount: float
    uses: int
    from_outside: bool


def plan_top_up(account: MarginAccount, wallet: str, marks: Marks) -> TopUpStep | None:
    """Return what the rule of a wallet that is about to be liquidated adds to it; None where that is nothing, or would not save it.

    >>> from .contract import Contract
    >>> from .tiers import TierSchedule, TierTable
    >>> account = MarginAccount()
    >>> account.add_contract(Contract("AAA", tiers=TierSchedule.constant(TierTable.flat(0.01))), leverage=10, margin_mode="isolated")
    >>> account.deposit(100, time=0)
    >>> booked = account.apply_fill("AAA", size=1, price=100, fee_rate=0, time=0)    # 10 of margin, 90 free
    >>> account.top_ups["AAA"] = TopUp(ratio=2)
    >>> round(plan_top_up(account, "wallet:AAA", {"AAA": 90.5}).amount, 9)          # 2 x 0.905 - (10 - 9.5)
    1.31
    """
    if not account.top_ups:
        return None
    held = list(account.held(wallet))
    symbol = "" if wallet == CROSS else held[0].contract.symbol
    rule = account.top_ups.get(symbol)
    if rule is None:
        return None
    equity = account.risk(wallet, marks).equity
    maintenance, clear = _kept(held, marks)
    least = max(maintenance - equity, 0.0) + clear
    if rule.ratio is not None:
        uses, wanted = 1, max(rule.ratio * maintenance - equity, least)
    else:
        assert rule.amount is not None
        uses = ceil(least / rule.amount)
        wanted = max(uses * rule.amount, least)
    left = inf if rule.times is None else rule.times - account.top_ups_used.get(wallet, 0)
    amount = wanted if rule.deposit else min(wanted, _spare(account, marks))
    return TopUpStep(wallet, symbol, amount, uses, rule.deposit) if uses <= left and amount >= least else None


def _spare(account: MarginAccount, marks: Marks) -> float:
    """Return what the cross wallet can give away: what is available and there, and leaves it clear of its maintenance margin.

    That margin may be more than the initial one, of a position that has drifted into a tier its leverage would not be allowed in.
    """
    free, held = min(account.available_margin(marks), account.free_cash), list(account.held(CROSS))
    return min(free, account.risk(CROSS, marks).equity - sum(_kept(held, marks))) if held else free


def _kept(held: Sequence[Position], marks: Marks) -> tuple[float, float]:
    """Return what positions maintain, and how much more leaves a wallet clear of that."""
    maintenance = sum(_due(position, marks[position.contract.symbol]) for position in held)
    return maintenance, CLEAR * sum(position.notional(marks[position.contract.symbol]) for position in held)


def _due(position: Position, mark_price: float) -> float:
    """Return what a position must maintain at a mark, or a hair beside it, where a slab's requirement may jump."""
    if position.is_plain or not jumps(position.brackets):
        return position.maintenance_margin(mark_price)
    return max(position.maintenance_margin(mark_price * beside) for beside in (1 - BESIDE, 1.0, 1 + BESIDE))
