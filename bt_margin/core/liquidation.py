"""At which price a wallet fails, and what is done to it then.

Prices here are reports: the trigger is always the account inequality, equity <= maintenance (R1). A plan is a run of
steps computed from one set of marks; nothing is moved until ``MarginAccount.apply`` books a step.

The algebra is one for every kind of contract: in x = price of a linear contract, x = 1 / price of an inverse one, both
profit and notional are linear. With ``units`` the signed size times multiplier, its sign turned for an inverse contract,
profit is ``units * (x - x_entry)`` and notional ``|units| * x``.
"""

from bisect import bisect_left
from collections.abc import Sequence
from math import inf, nextafter
from typing import NamedTuple, Protocol

from .account import MarginAccount, Marks, Position
from .contract import Contract, notional
from .ledger import MONEY_TOLERANCE
from .terms import Holding, is_position
from .tiers import Bracket, TierTable

EDGE_SLACK = 1e-12  # relative; a solution that lands on a tier's edge belongs to both tiers, whose requirements agree there
NOTHING = 1e-12  # relative to what it is the difference of; money or units smaller than this are rounding, not a price
ALMOST_ALL = 0.999  # of a position's notional: it is handed over for more than nothing, for a price is positive


def liquidation_price(
    *,
    size: float,
    entry_price: float,
    collateral: float,
    table: TierTable | Sequence[Bracket],
    multiplier: float = 1.0,
    kind: str = "linear",
    maintenance_basis: str = "mark",
    fee_rate: float = 0.0,
    mark_price: float | None = None,
) -> float | None:
    """Return the mark price at which equity meets maintenance margin, None where no positive price does.

    Solves, in the tier that contains its own answer,

        collateral + profit(p) = notional(p) * (rate + fee_rate) - amount

    where maintenance is at mark; at entry, the right side is the notional at entry's. On a marginal table the left side
    minus the right one is monotone in ``p``, so at most one tier fits. A slab table jumps: several may fit, or none but the
    first price past an edge, and a position may fail on its way up and on its way down; the answer is the nearest to the mark.

    Parameters
    ----------
    size : signed contracts
    collateral : wallet balance behind the position; in a shared wallet plus the unrealized profit of its other
        positions, less their maintenance margin
    table : a tier table, or brackets that measure the notional
    multiplier : base units per contract, of an inverse contract its quote value
    fee_rate : what the venue's maintenance keeps for the closing fee, a fraction of notional
    mark_price : where the ways start, the entry price unless given; matters to slab tables alone

    Source: derived from the definition of the table; venues' worked examples stand in tests/vectors.

    >>> table = TierTable.from_rows([(5_000, 0.01, 50), (None, 0.02, 25)])
    >>> price = liquidation_price(size=2, entry_price=10_000, collateral=2_000, table=table)
    >>> round(price, 2)                                              # 18 316 of notional, the second tier
    9158.16
    >>> round(2_000 + 2 * (price - 10_000), 2), round(2 * price * 0.02 - 50, 2)
    (316.33, 316.33)
    >>> liquidation_price(size=1, entry_price=100, collateral=100, table=table) is None
    True
    >>> flat = TierTable.flat(0.005)
    >>> liquidation_price(size=60_000, entry_price=50_000, collateral=0.12, table=flat, kind="inverse")   # 60 300 / 1.32
    45681.81818181818
    """
    if not is_position(size, entry_price, kind, maintenance_basis):
        return None
    is_inverse = kind == "inverse"
    units, entry = (-size * multiplier, 1 / entry_price) if is_inverse else (size * multiplier, entry_price)
    brackets = _by_notional(table, size, multiplier, is_inverse) if isinstance(table, TierTable) else table
    if maintenance_basis == "entry":
        last = _holding_bracket(brackets, abs(units) * entry)
        x = _root(units * entry - collateral + abs(units) * entry * (last.rate + fee_rate) - last.amount, units, entry)
    elif jumps(brackets):
        mark = entry if mark_price is None else 1 / mark_price if is_inverse else mark_price
        return _first_failure([_Leg(units, entry, brackets, fee_rate)], collateral, mark, is_inverse)
    else:
        x = _only_fit(units, entry, collateral, brackets, fee_rate)
    return None if x is None else 1 / x if is_inverse else x


def bankruptcy_price(*, size: float, entry_price: float, collateral: float, multiplier: float = 1.0, kind: str = "linear") -> float | None:
    """Return the mark price at which the wallet's equity is 0, None where no positive price does.

    p = entry_price - collateral / units, inverse 1 / (1 / entry_price + collateral / units), with units = size *
    multiplier; ``collateral`` as in ``liquidation_price``, but without taking off the maintenance margin of other positions.

    >>> bankruptcy_price(size=1, entry_price=10_000, collateral=200)            # 50x
    9800.0
    >>> bankruptcy_price(size=100, entry_price=100, collateral=1, kind="inverse")    # 1x: 100 * 1 / (1 + 1)
    50.0
    """
    if not is_position(size, entry_price, kind):
        return None
    if kind == "inverse":
        x = _root(-size * multiplier / entry_price - collateral, -size * multiplier, 1 / entry_price)
        return None if x is None else 1 / x
    return _root(size * multiplier * entry_price - collateral, size * multiplier, entry_price)


class Held(Protocol):
    """A position as far as its liquidation price depends on it."""

    @property
    def contract(self) -> Contract: ...
    @property
    def size(self) -> float: ...
    @property
    def entry_price(self) -> float: ...
    @property
    def brackets(self) -> Sequence[Bracket]: ...


def shared_liquidation_price(holdings: Sequence[Holding], *, collateral: float, mark_price: float) -> float | None:
    """Return the mark price at which a wallet fails whose money backs these positions of one contract.

    One position, or several that move together: the two legs of a hedge share one liquidation price. ``collateral`` as in
    ``liquidation_price``, with the closing fees that isolated positions keep. The price returned is the nearest to the mark,
    on either side of it; of a wallet that has failed already, the one where it failed. None where it fails at no positive
    price, or at every one.

    >>> flat = TierTable.flat(0.01)
    >>> legs = [Holding(3, 100, flat), Holding(-1, 100, flat)]
    >>> shared_liquidation_price(legs, collateral=20, mark_price=100)     # 20 + 2 x (p - 100) = 4 x p x 1 %
    91.83673469387755
    """
    is_inverse = holdings[0].is_inverse
    legs = [_leg(h.size * h.multiplier, h.entry_price, h.brackets(), is_inverse=is_inverse) for h in holdings]
    return _first_failure(legs, collateral, 1 / mark_price if is_inverse else mark_price, is_inverse)


def joint_liquidation_price(held: Sequence[Held], *, collateral: float, mark_price: float) -> float | None:
    """Return the same of positions as an account or its record holds them."""
    is_inverse = held[0].contract.kind == "inverse"
    legs = [_leg(p.size * p.contract.multiplier, p.entry_price, p.brackets, is_inverse=is_inverse) for p in held]
    return _first_failure(legs, collateral, 1 / mark_price if is_inverse else mark_price, is_inverse)


def shared_bankruptcy_price(holdings: Sequence[Holding], *, collateral: float) -> float | None:
    """Return the mark price at which the equity of a wallet is 0 whose money backs these positions of one contract.

    >>> flat = TierTable.flat(0.01)
    >>> shared_bankruptcy_price([Holding(3, 100, flat), Holding(-1, 100, flat)], collateral=20)    # 20 + 2 x (p - 100) = 0
    90.0
    """
    is_inverse = holdings[0].is_inverse
    units = [(-h.size if is_inverse else h.size) * h.multiplier for h in holdings]
    entries = [1 / h.entry_price if is_inverse else h.entry_price for h in holdings]
    net, gross = sum(units), sum(map(abs, units))
    if abs(net) <= NOTHING * gross:
        return None
    worth = sum(unit * entry for unit, entry in zip(units, entries, strict=True))
    turnover = sum(abs(unit) * entry for unit, entry in zip(units, entries, strict=True)) + abs(collateral)
    x = (worth - collateral) / net
    if abs(worth - collateral) <= NOTHING * turnover or x <= 0:
        return None
    return 1 / x if is_inverse else x


def _root(numerator: float, units: float, entry: float) -> float | None:
    """Return ``numerator / units``, None where it is not a positive price but zero or a rounding of it."""
    x = numerator / units
    return x if x > NOTHING * entry else None


def _only_fit(units: float, entry: float, collateral: float, brackets: Sequence[Bracket], fee_rate: float) -> float | None:
    gross, floor, worth = abs(units), 0.0, units * entry - collateral
    for number, bracket in enumerate(brackets, 1):
        x = (worth - bracket.amount) / (units - gross * (bracket.rate + fee_rate))
        measure = gross * x
        is_below_cap = number == len(brackets) or measure <= bracket.cap * (1 + EDGE_SLACK)
        if x > NOTHING * entry and floor * (1 - EDGE_SLACK) <= measure and is_below_cap:
            return x
        floor = bracket.cap
    return None


def _by_notional(table: TierTable, size: float, multiplier: float, is_inverse: bool) -> Sequence[Bracket]:
    return Holding(size, 1.0, table, "inverse" if is_inverse else "linear", multiplier).brackets()


def _holding_bracket(brackets: Sequence[Bracket], measure: float) -> Bracket:
    return next((bracket for bracket in brackets if measure <= bracket.cap), brackets[-1])


def jumps(brackets: Sequence[Bracket]) -> bool:
    """Return whether brackets are a slab table's: only those climb in rate without an amount that makes up for it."""
    first, last = brackets[0], brackets[-1]
    return last.rate != first.rate and last.amount == first.amount


def least_headroom(position: Position, low: float, high: float) -> float:
    """Return the least that any position may add to its wallet's headroom between two marks.

    Profit and notional are straight lines in the mark (in 1 / mark, of an inverse contract) and maintenance never falls
    with the notional. So the least profit and the most maintenance lie at the ends; and where maintenance does not jump
    it is convex and headroom concave, whose least value lies at an end too.
    """
    ends = (low, high)
    if jumps(position.brackets):
        return min(map(position.unrealized_pnl, ends)) - max(map(position.maintenance_margin, ends))
    return min(map(position.headroom, ends))


class _Leg(NamedTuple):
    """One position in the coordinate in which its profit and notional are linear."""

    units: float
    entry: float
    brackets: Sequence[Bracket]
    fee_rate: float


def _leg(units: float, entry_price: float, brackets: Sequence[Bracket], *, is_inverse: bool) -> _Leg:
    return _Leg(-units, 1 / entry_price, brackets, 0.0) if is_inverse else _Leg(units, entry_price, brackets, 0.0)


class _Edge(NamedTuple):
    """Where a leg's notional reaches the cap of a tier."""

    x: float
    gross: float
    cap: float


class _Headroom:
    """Equity less maintenance of a wallet as a function of x: a line between each pair of edges, upper ones inclusive."""

    def __init__(self, legs: Sequence[_Leg], collateral: float) -> None:
        self.legs = legs
        self.collateral = collateral
        self.own_edges = [[row.cap / abs(leg.units) for row in leg.brackets[:-1]] for leg in legs]
        edges = {
            x: _Edge(x, abs(leg.units), row.cap)
            for leg, own in zip(legs, self.own_edges, strict=True)
            for x, row in zip(own, leg.brackets, strict=False)
        }
        self.edges = [edges[x] for x in sorted(edges)]

    def line(self, number: int) -> tuple[float, float]:
        """Return (constant, slope) on a stretch, counted from 0; a rounding of zero is zero."""
        top = self.edges[number].x if number < len(self.edges) else inf
        constant, slope, money, units = self.collateral, 0.0, abs(self.collateral), 0.0
        for leg, own in zip(self.legs, self.own_edges, strict=True):
            row, gross = leg.brackets[bisect_left(own, top)], abs(leg.units)
            constant += row.amount - leg.units * leg.entry
            slope += leg.units - gross * (row.rate + leg.fee_rate)
            money += abs(row.amount) + gross * leg.entry
            units += gross
        return (0.0 if abs(constant) <= NOTHING * money else constant), (0.0 if abs(slope) <= NOTHING * units else slope)

    def stretch_of(self, x: float) -> int:
        """Return the number of the stretch that holds x."""
        return bisect_left([edge.x for edge in self.edges], x)

    def change(self, x: float, *, is_safe: bool, upward: bool) -> tuple[float, _Edge | None] | None:
        """Return where the wallet stops being safe, or failed, on the way from x: a root, or an edge it jumps at."""
        number = self.stretch_of(x)
        while True:
            constant, slope = self.line(number)
            far = (self.edges[number].x if number < len(self.edges) else inf) if upward else self.edges[number - 1].x if number else 0.0
            if slope and (slope < 0) == (upward == is_safe):
                root = max(-constant / slope, x) if upward else min(-constant / slope, x)
                if (root <= far if upward else root > far) and 0 < root < inf:
                    return root, None
            number += 1 if upward else -1
            if not 0 <= number <= len(self.edges):
                return None
            edge = self.edges[number - 1 if upward else number]
            x = edge.x
            constant, slope = self.line(number)
            if (constant + slope * x > 0) != is_safe:
                # Whatever fails, fails above the edge: notionals grow with x, and a cap belongs to the tier below it.
                return x, edge if upward == is_safe else None


def _first_failure(legs: Sequence[_Leg], collateral: float, mark: float, is_inverse: bool) -> float | None:
    """Return the failure nearest to the mark (an x) on either side of it; of a wallet that has failed already, where it did."""
    headroom = _Headroom(legs, collateral)
    constant, slope = headroom.line(headroom.stretch_of(mark))
    is_safe = constant + slope * mark > 0
    losing = (slope <= 0) == is_safe
    changes = (headroom.change(mark, is_safe=is_safe, upward=upward) for upward in (losing, not losing))
    prices = [_price_of(*change, is_inverse=is_inverse) for change in changes if change is not None]
    if not is_safe:
        return prices[0] if prices else None
    mark_price = 1 / mark if is_inverse else mark
    return min(prices, key=lambda price: abs(price - mark_price), default=None)


def _price_of(x: float, edge: _Edge | None, *, is_inverse: bool) -> float:
    if edge is not None:
        return just_past(edge.gross, edge.cap, is_inverse=is_inverse)
    return 1 / x if is_inverse else x


def just_past(units: float, cap: float, *, is_inverse: bool) -> float:
    """Return the first price at which the notional of units (without sign), as it is computed, lies above a cap."""
    if is_inverse:
        price = units / cap
        while units / price <= cap:
            price = nextafter(price, 0.0)
        return price
    price = cap / units
    while units * price <= cap:
        price = nextafter(price, inf)
    return price


def takeover_price(*, units: float, mark_price: float, equity: float, share: float, kind: str = "linear") -> float:
    """Return the price at which a failed position is handed over when it spends a share of its wallet's equity.

    p = mark_price - equity * share / units, with ``units`` the signed size * multiplier handed over; inverse
    1 / (1 / mark_price + equity * share / units). The share is their part of the wallet's maintenance margin (R16). No more
    than the position itself is worth can be spent on it, nor earned by it where equity is below 0: a price is positive.
    Source: dYdX v4, x/clob/keeper/liquidations.go, bankruptcy price in quote quantums, retrieved 2026-11-21.

    >>> takeover_price(units=0.1, mark_price=3_000, equity=10, share=0.6)       # 3 000 - 6 / 0.1
    2940.0
    """
    most = ALMOST_ALL * notional(size=units, price=mark_price, kind=kind)
    spent = min(max(equity * share, -most), most)
    return 1 / (1 / mark_price + spent / units) if kind == "inverse" else mark_price - spent / units


def liquidation_fee(*, rate: float, units: float, price: float, equity: float, kind: str = "linear") -> float:
    """Return the fee of a forced fill: ``rate * notional``, at most the equity that is left after the fill (R15).

    >>> liquidation_fee(rate=0.0125, units=1, price=95_000, equity=381.5)
    381.5
    """
    return min(max(rate * notional(size=units, price=price, kind=kind), 0.0), max(equity, 0.0))


def fillable_price(
    *,
    units: float,
    mark_price: float,
    maintenance_margin: float,
    equity: float,
    total_maintenance_margin: float,
    adjustment: float = 1.0,
    spread: float = 0.1,
    kind: str = "linear",
) -> float:
    """Return the price at which dYdX offers a failed position to the book.

    p = mark_price - b * spread * maintenance_margin / units, inverse 1 / (1 / mark_price + the same); b = adjustment *
    (1 - equity / total_maintenance_margin) from 0 to 1: the deeper the wallet has sunk below its total maintenance margin,
    the further from the mark.
    Source: dYdX v4, x/clob/keeper/liquidations.go, fillable price, retrieved 2026-11-21.

    >>> fillable_price(units=0.1, mark_price=50_000, maintenance_margin=500, equity=0, total_maintenance_margin=500)
    49500.0
    """
    depth = min(max(adjustment * (1 - equity / total_maintenance_margin), 0.0), 1.0)
    given_up = depth * spread * maintenance_margin / units
    return 1 / (1 / mark_price + given_up) if kind == "inverse" else mark_price - given_up


ADL_RULES = ("binance", "hyperliquid")


def adl_score(
    rule: str, *, unrealized_pnl: float, notional: float, entry_notional: float, equity: float, maintenance_margin: float
) -> float | None:
    """Return by how much a position leads the queue for auto-deleveraging: the highest score of its side goes first.

    'binance': unrealized_pnl / collateral * maintenance_margin / equity, collateral being equity less the profit;
    'hyperliquid': notional / entry_notional * notional / equity. None where the position is not queued: nothing earned, or
    no money behind it. The profit and the notionals are its own, equity and maintenance margin those of the wallet that
    backs it.
    Sources: Binance, support article 360033525471; Hyperliquid, docs, auto-deleveraging; retrieved 2026-11-21.

    >>> adl_score("binance", unrealized_pnl=500, notional=10_500, entry_notional=10_000, equity=1_500, maintenance_margin=75)
    0.025
    """
    if rule not in ADL_RULES:
        raise ValueError(f"an ADL rule is 'binance' or 'hyperliquid', was {rule!r}")
    if unrealized_pnl <= 0 or equity <= unrealized_pnl:
        return None
    if rule == "binance":
        return unrealized_pnl / (equity - unrealized_pnl) * (maintenance_margin / equity)
    return notional / entry_notional * (notional / equity)


def account_liquidation_price(account: MarginAccount, symbol: str, marks: Marks) -> float | None:
    """Return the liquidation price of a held position with the marks of other contracts in its wallet fixed.

    Both legs of a hedge in one wallet move together and share one price. A wallet that holds nothing but spot that is paid
    for has none: nothing is borrowed, nothing can be called.
    """
    position = account.positions[symbol]
    if _owes_nothing(account, position.wallet):
        return None
    joint = account.joint(position)
    if len(joint) > 1 and position.size:
        return joint_liquidation_price(joint, collateral=collateral_of(account, position, marks), mark_price=marks[symbol])
    return liquidation_price(
        size=position.size,
        entry_price=position.entry_price,
        collateral=collateral_of(account, position, marks),
        table=position.brackets,
        multiplier=position.contract.multiplier,
        kind=position.contract.kind,
        mark_price=marks.get(symbol),
    )


def collateral_of(account: MarginAccount, position: Position, marks: Marks) -> float:
    """Return what backs a position: its wallet's balance, the profit of the others there less their maintenance margin.

    The other leg of a hedge, which moves with it, is none of the others.
    """
    collateral = account.wallets[position.wallet]
    for other in _others(account, position):
        mark_price = marks[other.contract.symbol]
        collateral += other.unrealized_pnl(mark_price) - other.maintenance_margin(mark_price)
    return collateral


def account_bankruptcy_price(account: MarginAccount, symbol: str, marks: Marks) -> float | None:
    """Return the bankruptcy price of a held position with the other marks of its wallet fixed.

    The closing fee that an isolated position keeps beside its margin is there to pay that fee, and not counted.
    """
    position = account.positions[symbol]
    if _owes_nothing(account, position.wallet):
        return None
    joint = account.joint(position)
    collateral = account.wallets[position.wallet] - sum(leg.reserved_fee for leg in joint)
    for other in _others(account, position):
        collateral += other.unrealized_pnl(marks[other.contract.symbol])
    if len(joint) > 1 and position.size:
        return shared_bankruptcy_price([leg.holding() for leg in joint], collateral=collateral)
    return bankruptcy_price(
        size=position.size,
        entry_price=position.entry_price,
        collateral=collateral,
        multiplier=position.contract.multiplier,
        kind=position.contract.kind,
    )


def account_adl_score(rule: str, account: MarginAccount, symbol: str, marks: Marks) -> float | None:
    """Return the score of a held position by ``adl_score``, None where it is not queued."""
    position, mark_price = account.positions[symbol], marks.get(symbol)
    if not position.size or mark_price is None or position.contract.kind == "spot":
        return None
    risk = account.risk(position.wallet, marks)
    return adl_score(
        rule,
        unrealized_pnl=position.unrealized_pnl(mark_price),
        notional=position.notional(mark_price),
        entry_notional=position.notional(position.entry_price),
        equity=risk.equity,
        maintenance_margin=risk.maintenance_margin,
    )


def is_paid_for(balance: float, cost: float) -> bool:
    """Return whether a wallet's balance covers what the spot in it was bought for, but for rounding.

    It does not where other positions have lost money since: then the spot is held on credit, and can be called.
    """
    return balance - cost >= -MONEY_TOLERANCE * cost


def _owes_nothing(account: MarginAccount, wallet: str) -> bool:
    held = list(account.held(wallet))
    if any(position.contract.kind != "spot" for position in held):
        return False
    return is_paid_for(account.wallets[wallet], sum(position.notional(position.entry_price) for position in held))


def _others(account: MarginAccount, position: Position) -> list[Position]:
    joint = account.joint(position)
    return [other for other in account.held(position.wallet) if not any(other is leg for leg in joint)]
