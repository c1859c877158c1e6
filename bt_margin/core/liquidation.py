"""At which price a wallet fails, and what is done to it then.

Prices here are reports: the trigger is always the account inequality, equity <= maintenance (R1). A plan is a run of
steps computed from one set of marks; nothing is moved until ``MarginAccount.apply`` books a step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .account import MarginAccount, Marks, Position, Step
from .tiers import Bracket, TierTable

EDGE_SLACK = 1e-12  # relative; a solution that lands on a tier's edge belongs to both tiers, whose requirements agree there


@dataclass(frozen=True, slots=True)
class Profile:
    """How a venue liquidates a wallet, as data.

    ``takes_over``: all positions of the wallet go at once at their takeover prices and the rest of the wallet goes to
    the insurance fund (R16). Otherwise positions are sold at the mark one at a time, largest loss first, until the
    wallet is safe (R18), each paying the contract's liquidation fee, and the trader keeps what is left.
    """

    name: str
    takes_over: bool


MARKET = Profile("market", takes_over=False)
FORFEIT = Profile("forfeit", takes_over=True)
PROFILES = {profile.name: profile for profile in (MARKET, FORFEIT)}


def liquidation_price(
    *, size: float, entry_price: float, collateral: float, table: TierTable | Sequence[Bracket], multiplier: float = 1.0
) -> float | None:
    """Return the mark price at which equity meets maintenance margin, None where no positive price does.

    Solves, in the tier that contains its own answer,

        collateral + size * multiplier * (p - entry_price) = |size| * multiplier * p * rate - amount

    Left minus right is monotone in ``p`` because rates are below 1, so at most one tier fits.

    Parameters
    ----------
    size : signed contracts
    collateral : wallet balance behind the position; in a shared wallet plus the unrealized profit of its other
        positions, less their maintenance margin
    table : a tier table, or its brackets

    Source: derived from the definition of the table; venues' worked examples stand in tests/vectors.

    >>> table = TierTable.from_rows([(5_000, 0.01, 50), (None, 0.02, 25)])
    >>> price = liquidation_price(size=2, entry_price=10_000, collateral=2_000, table=table)
    >>> round(price, 2)                                              # 18 316 of notional, the second tier
    9158.16
    >>> round(2_000 + 2 * (price - 10_000), 2), round(2 * price * 0.02 - 50, 2)
    (316.33, 316.33)
    >>> liquidation_price(size=1, entry_price=100, collateral=100, table=table) is None
    True
    """
    if not size:
        return None
    signed, gross = size * multiplier, abs(size) * multiplier
    floor = 0.0
    brackets = table.brackets if isinstance(table, TierTable) else table
    for number, bracket in enumerate(brackets, 1):
        price = (signed * entry_price - collateral - bracket.amount) / (signed - gross * bracket.rate)
        notional = gross * price
        is_below_cap = number == len(brackets) or notional <= bracket.cap * (1 + EDGE_SLACK)
        if price > 0 and floor * (1 - EDGE_SLACK) <= notional and is_below_cap:
            return price
        floor = bracket.cap
    return None


def bankruptcy_price(*, size: float, entry_price: float, collateral: float, multiplier: float = 1.0) -> float | None:
    """Return the mark price at which the wallet's equity is 0, None where no positive price does.

    p = entry_price - collateral / (size * multiplier); ``collateral`` as in ``liquidation_price``, but without
    taking off the maintenance margin of other positions.

    >>> bankruptcy_price(size=1, entry_price=10_000, collateral=200)            # 50x
    9800.0
    """
    if not size:
        return None
    price = entry_price - collateral / (size * multiplier)
    return price if price > 0 else None


def account_liquidation_price(account: MarginAccount, symbol: str, marks: Marks) -> float | None:
    """Return the liquidation price of a held position with the other marks of its wallet fixed."""
    position = account.positions[symbol]
    return liquidation_price(
        size=position.size,
        entry_price=position.entry_price,
        collateral=collateral_of(account, position, marks),
        table=position.brackets,
        multiplier=position.contract.multiplier,
    )


def collateral_of(account: MarginAccount, position: Position, marks: Marks) -> float:
    """Return what backs a position: its wallet's balance, the profit of the others there less their maintenance margin."""
    collateral = account.wallets[position.wallet]
    for other in _others(account, position):
        mark_price = marks[other.contract.symbol]
        collateral += other.unrealized_pnl(mark_price) - other.maintenance_margin(mark_price)
    return collateral


def account_bankruptcy_price(account: MarginAccount, symbol: str, marks: Marks) -> float | None:
    """Return the bankruptcy price of a held position with the other marks of its wallet fixed."""
    position = account.positions[symbol]
    collateral = account.wallets[position.wallet]
    for other in _others(account, position):
        collateral += other.unrealized_pnl(marks[other.contract.symbol])
    return bankruptcy_price(
        size=position.size, entry_price=position.entry_price, collateral=collateral, multiplier=position.contract.multiplier
    )


def _others(account: MarginAccount, position: Position) -> list[Position]:
    return [other for other in account.held(position.wallet) if other is not position]


def plan_liquidation(account: MarginAccount, wallet: str, marks: Marks, profile: Profile) -> list[Step]:
    """Return the steps that a venue takes with a wallet at these marks; none while it is safe.

    Largest unrealized loss first, ties in the order the contracts were added (R18).
    """
    risk = account.risk(wallet, marks)
    return liquidation_steps(account, wallet, marks, profile) if risk.is_liquidatable else []


def liquidation_steps(account: MarginAccount, wallet: str, marks: Marks, profile: Profile) -> list[Step]:
    """Return the steps for a wallet known to fail: solved marks stand on the boundary, where rounding could deny it."""
    risk = account.risk(wallet, marks)
    held = sorted(account.held(wallet), key=lambda p: p.unrealized_pnl(marks[p.contract.symbol]))
    if profile.takes_over:
        return _take_over(held, marks, risk.equity, risk.maintenance_margin)
    return _sell_until_safe(held, marks, risk.equity)


def _take_over(held: Sequence[Position], marks: Marks, equity: float, maintenance: float) -> list[Step]:
    """Spend the wallet's equity on its positions pro rata to maintenance margin, so that nothing is left (R16)."""
    total = sum(p.notional(marks[p.contract.symbol]) for p in held)
    steps = []
    for position in held:
        mark_price = marks[position.contract.symbol]
        weight = position.maintenance_margin(mark_price) / maintenance if maintenance else position.notional(mark_price) / total
        takeover = mark_price - equity * weight / (position.size * position.contract.multiplier)
        steps.append(Step(position.contract.symbol, position.size, mark_price, takeover, 0.0, True))
    return steps


def _sell_until_safe(held: Sequence[Position], marks: Marks, equity: float) -> list[Step]:
    """Close positions whole at the mark until equity exceeds the maintenance of those that stay.

    A deficit is lifted to 0 by the owners' prices (R15): each loser's up to its entry, the rest of the deficit by the
    next one's. The fee is capped by what is left.
    """
    steps = []
    for number, position in enumerate(held, 1):
        mark_price = marks[position.contract.symbol]
        units = position.size * position.contract.multiplier
        lifted = min(max(-equity, 0.0), max(-position.unrealized_pnl(mark_price), 0.0))
        price = mark_price + lifted / units
        equity += lifted
        fee = min(max(position.contract.liquidation_fee * abs(units) * price, 0.0), max(equity, 0.0))
        steps.append(Step(position.contract.symbol, position.size, mark_price, price, fee, False))
        equity -= fee
        if equity > sum(p.maintenance_margin(marks[p.contract.symbol]) for p in held[number:]):
            break
    return steps
