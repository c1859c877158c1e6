"""The account: wallets, positions and the journal that explains them.

State: one cross wallet shared by every cross position and one wallet for each isolated position; balances exclude
unrealized profit. A wallet changes only together with a journal entry. Which wallet backs a position is all that
tells cross from isolated. Marks are a mapping from symbol to mark price.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

from .contract import Contract, average_entry, split_fill
from .funding import funding_payment
from .ledger import CROSS, MONEY_TOLERANCE, Journal, wallet_of
from .orders import USUAL, OrderTerms, Resting, opened_by, sides
from .terms import ALWAYS_PLAIN, PLAIN, Holding, MarginTerms, Terms, terms_at
from .tiers import Bracket, TierTable, maintenance_margin

if TYPE_CHECKING:
    from .top_up import TopUp, TopUpStep

Marks = Mapping[str, float]

MARGIN_MODES = ("cross", "isolated")
SIDES = ("LONG", "SHORT")


@dataclass(frozen=True, slots=True)
class Risk:
    """Equity of a wallet against its requirements; risks add up."""

    equity: float
    initial_margin: float
    maintenance_margin: float
    holds_position: bool = True

    def __add__(self, other: "Risk") -> "Risk":
        return Risk(
            self.equity + other.equity,
            self.initial_margin + other.initial_margin,
            self.maintenance_margin + other.maintenance_margin,
            self.holds_position or other.holds_position,
        )

    @property
    def is_liquidatable(self) -> bool:
        """Whether equity has fallen to maintenance while something is held; exactly at maintenance counts (R1).

        >>> Risk(10.0, 20.0, 10.0).is_liquidatable, Risk(10.01, 20.0, 10.0).is_liquidatable
        (True, False)
        """
        return self.holds_position and self.equity <= self.maintenance_margin


@dataclass(slots=True)
class Position:
    """What is held of one contract, and on which terms; ``contract``, ``table`` and ``terms`` are those in force.

    ``offered`` is the contract with all its dated fees as it was added.

    ``brackets`` say what is maintained: ``notional at mark * rate - amount`` up to each cap. Where the position
    ``is_plain`` they are the table's own. Otherwise (an inverse contract, tiers that are slab or do not count quote
    money, maintenance at entry, a closing fee in margin) they depend on what is held and are renewed with it.

    Since it was last flat: ``given_margin`` is what openings moved into an isolated wallet, less the share of what was
    closed; ``costs`` are fees, funding and closed losses, less funding and profits received. ``set_aside`` is the closing fee
    at bankruptcy that an isolated position keeps for each contract, as it was reckoned by the openings, with the entry price
    that it belongs to: a copy put at another entry keeps what its own leverage asks.
    """

    contract: Contract
    leverage: float
    wallet: str
    table: TierTable
    offered: Contract
    rules: Terms = ALWAYS_PLAIN
    terms: MarginTerms = PLAIN
    size: float = 0.0
    entry_price: float = 0.0
    largest_size: float = 0.0
    is_plain: bool = True
    brackets: tuple[Bracket, ...] = ()
    given_margin: float = 0.0
    costs: float = 0.0
    orders: OrderTerms = USUAL
    set_aside: tuple[float, float] = (0.0, 0.0)

    def unrealized_pnl(self, mark_price: float) -> float:
        """Return the profit at a mark price, 0 when flat."""
        if self.is_plain:
            return self.size * self.contract.multiplier * (mark_price - self.entry_price)
        if not self.size:
            return 0.0
        return self.contract.unrealized_pnl(size=self.size, entry_price=self.entry_price, mark_price=mark_price)

    def notional(self, mark_price: float) -> float:
        """Return what is held at a mark price, in the settlement currency."""
        return self.contract.notional(self.size, mark_price)

    def maintenance_margin(self, mark_price: float) -> float:
        """Return the maintenance margin at a mark price, by the tier that holds the position (R2)."""
        return maintenance_margin(self.brackets, self.notional(mark_price)) if self.size else 0.0

    def headroom(self, mark_price: float) -> float:
        """Return what the position adds to its wallet's headroom: unrealized profit less maintenance margin."""
        return self.unrealized_pnl(mark_price) - self.maintenance_margin(mark_price)

    def initial_margin(self, mark_price: float) -> float:
        """Return the initial margin at a mark price: notional / leverage, and what the terms keep besides."""
        if self.is_plain:
            return self.notional(mark_price) / self.leverage
        return self.holding().initial_margin(mark_price) if self.size else 0.0

    def opening_margin(self, size: float, price: float) -> float:
        """Return the margin that opening a size (signed) at a price takes, fees paid apart."""
        if self.is_plain or not size:
            return self.contract.notional(size, price) / self.leverage
        return self.holding(size, price).opening_margin

    def cost(self, order: Resting, opened: float) -> float:
        """Return what an order takes of which so much (signed) opens: initial margin, opening fee, loss at the mark.

        Spot that is sold takes nothing.
        """
        if opened < 0 and self.contract.kind == "spot":
            return 0.0
        fee = self.contract.notional(opened, order.price) * order.fee_rate if order.fee_rate else 0.0
        return self.opening_margin(opened, order.margin_price) + fee + abs(opened) * order.loss

    def measure(self, size: float, price: float) -> float:
        """Return a size at a price in the unit of the tier table."""
        if self.is_plain or not size:
            return self.contract.notional(size, price)
        return self.holding(size, price).measure(price)

    def holding(self, size: float | None = None, price: float | None = None) -> Holding:
        """Return what is held, or a size entered at a price, with all that its margin depends on."""
        entered_at, fee = self.set_aside
        return Holding(
            size=self.size if size is None else size,
            entry_price=self.entry_price if price is None else price,
            table=None if self.contract.kind == "spot" else self.table,
            kind=self.contract.kind,
            multiplier=self.contract.multiplier,
            leverage=self.leverage,
            taker=self.contract.taker,
            is_isolated=self.is_isolated,
            terms=self.terms,
            set_aside=abs(self.size) * fee if size is None and entered_at == self.entry_price else None,
        )

    @property
    def kept_fee(self) -> float:
        """The closing fee that openings of what is held set aside besides its margin."""
        return self.holding().kept_fee if self.size and not self.is_plain else 0.0

    @property
    def reserved_fee(self) -> float:
        """The part of it that maintenance holds too, fixed at entry."""
        return self.holding().reserved_fee if self.size and not self.is_plain else 0.0

    def set_fee_aside(self, fee: float) -> None:
        """Keep a closing fee at bankruptcy for what is held, in place of what was kept before."""
        self.set_aside = (self.entry_price, fee / abs(self.size))

    def renew(self) -> None:
        """Bring ``brackets`` up to table, terms and what is held, after anything that changes one of them."""
        self.brackets = self.table.brackets if self.is_plain or not self.size else self.holding().brackets()

    @property
    def is_isolated(self) -> bool:
        return self.wallet != CROSS


class Booking(NamedTuple):
    """What a fill did: the parts that closed and opened (signed), profit realized, fees of the two parts."""

    closed: float
    opened: float
    realized_pnl: float
    closing_fee: float
    opening_fee: float


class Refusal(NamedTuple):
    """Why an opening does not fit: a word and a sentence, the money it needs and there is, the largest size that fits (>= 0).

    The word is 'margin', 'tier_cap' or 'short_spot'.
    """

    reason: str
    message: str
    needed: float
    available: float
    max_size: float


class Step(NamedTuple):
    """One position, or a part of one, taken from its owner.

    ``size`` is what is taken, of the position's sign; ``market_price`` is what the market pays, ``price`` what the owner gets (R14,
    R15); ``forfeits_rest`` gives what is left in the wallet to the insurance fund once nothing is held there (R16).
    """

    symbol: str
    size: float
    market_price: float
    price: float
    fee: float
    forfeits_rest: bool


class Liquidated(NamedTuple):
    """What a step moved: the owner's profit, money returned to the cross wallet, the fund's gain and loss (both >= 0).

    ``forfeited`` is the part of them that was left in the emptied wallet and went to the fund; negative where the fund filled it.
    """

    realized_pnl: float
    returned: float
    to_insurance_fund: float
    from_insurance_fund: float
    forfeited: float


class Leg(NamedTuple):
    """One of the two positions of a hedged contract: its sign, and the symbols of both."""

    sign: float
    symbols: tuple[str, str]


class MarginAccount:
    """Wallets and positions of one trader at one venue.

    A contract has one position, or in hedge mode two, under the symbols ``SYMBOL:LONG`` and ``SYMBOL:SHORT`` (R25).

    >>> account = MarginAccount()
    >>> account.add_contract(Contract("BTCUSDT"), leverage=10, margin_mode="isolated")
    >>> account.deposit(1_000, time=0)
    >>> account.apply_fill("BTCUSDT", size=0.1, price=30_000, fee_rate=0.0, time=0).opened
    0.1
    >>> account.wallets                                   # 3 000 / 10 moved into the position's own wallet
    {'wallet:cross': 700.0, 'wallet:BTCUSDT': 300.0}
    >>> account.risk("wallet:BTCUSDT", {"BTCUSDT": 29_000}).equity
    200.0
    """

    def __init__(self) -> None:
        self.journal: Journal | None = Journal.empty()
        self.wallets: dict[str, float] = {CROSS: 0.0}
        self.positions: dict[str, Position] = {}
        self.legs: dict[str, Leg] = {}
        self.turnover = 0.0
        self.shrinks = False  # whether an opening that is not funded is cut down to what is
        self._resting: dict[int, Resting] = {}
        self._order_margins: dict[str, float] = {}  # by contract, as far as they are known
        self.before_change: Callable[[], None] | None = None  # called before money, terms or reserved margin change
        # Of many positions: who sums up their free margin in less time, and the contracts that have changed since it looked.
        self.free_margin: Callable[[Marks], float] | None = None
        self.touched: set[str] | None = None
        self.top_ups: dict[str, TopUp] = {}  # the rules of isolated contracts by symbol, '' is the cross wallet's
        self.top_ups_used: dict[str, int] = {}  # by wallet, since it last held nothing

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles take along: all but who is told of changes, and who sums up in its place."""
        return {**vars(self), "before_change": None, "free_margin": None, "touched": None}

    # -- contracts ---------------------------------------------------------------------------------------------------

    def add_contract(
        self,
        contract: Contract,
        *,
        leverage: float,
        margin_mode: str,
        rules: Terms = ALWAYS_PLAIN,
        time: float = 0.0,
        orders: OrderTerms = USUAL,
    ) -> None:
        """Open a contract for trading at a leverage, in 'cross' or 'isolated' margin, with its tiers and terms of a time.

        Some table of the contract must allow the leverage; while the one in force does not, openings are refused (R4).
        ``rules`` are the venue's dated margin terms, which mean nothing to spot; ``orders`` says what resting orders take.
        """
        symbol = contract.symbol
        if wallet_of(symbol) == CROSS:
            raise ValueError(f"{symbol}: this name is the shared wallet's; give the contract another")
        if symbol in self.legs:
            raise ValueError(f"{symbol}: this name is that of a leg of a hedge; give the contract another")
        _check_spot(contract, leverage)
        check_leverage(symbol, leverage, max((table.brackets for table in contract.tiers.tables), key=lambda b: b[0].max_leverage))
        rules = ALWAYS_PLAIN if contract.kind == "spot" else rules
        _check_fee_in_margin(contract, leverage, rules, min(contract.tiers.tables, key=lambda table: table.brackets[0].rate))
        is_plain = contract.is_plain and all(terms.is_plain for _, terms in rules)
        self.positions[symbol] = Position(
            contract, leverage, CROSS, contract.tiers.at(time), contract, rules, is_plain=is_plain, orders=orders
        )
        self.set_tiers(symbol, time)
        self.set_margin_mode(symbol, margin_mode)

    def add_hedge(self, contract: Contract, **terms: Any) -> None:
        """Open a contract for a long and a short side by side, each a position with tiers and, isolated, a wallet of its own (R25).

        ``terms`` are those of ``add_contract``. Spot, which is never short, has no two sides.

        >>> account = MarginAccount()
        >>> account.add_hedge(Contract("BTCUSDT"), leverage=10, margin_mode="isolated")
        >>> list(account.wallets)
        ['wallet:cross', 'wallet:BTCUSDT:LONG', 'wallet:BTCUSDT:SHORT']
        """
        if contract.kind == "spot":
            raise ValueError(f"{contract.symbol}: spot is never short and has no hedge mode; add it as a contract")
        symbols = (f"{contract.symbol}:LONG", f"{contract.symbol}:SHORT")
        taken = [symbol for symbol in symbols if symbol in self.positions]
        if taken:
            raise ValueError(f"{taken[0]}: a contract has this name, which is that of a leg of {contract.symbol}; give one of them another")
        for symbol, sign in zip(symbols, (1.0, -1.0), strict=True):
            self.add_contract(replace(contract, symbol=symbol), **terms)
            self.legs[symbol] = Leg(sign, symbols)

    def symbols_of(self, symbol: str) -> tuple[str, ...]:
        """Return the symbols of all positions of one contract: both legs of a hedge, else the one given."""
        return self.legs[symbol].symbols if symbol in self.legs else (symbol,)

    def joint(self, position: Position) -> list[Position]:
        """Return what is held of one contract in one wallet, whose marks move together: a position, in cross both legs of a hedge."""
        symbol = position.contract.symbol
        if symbol not in self.legs or position.is_isolated:
            return [position]
        return [self.positions[leg] for leg in self.legs[symbol].symbols if leg == symbol or self.positions[leg].size]

    def only_closes(self, symbol: str, size: float) -> bool:
        """Return whether a fill of a size (signed) can only close: a leg of a hedge is never taken beyond flat (R25)."""
        return symbol in self.legs and size * self.legs[symbol].sign < 0

    def set_leverage(self, symbol: str, leverage: float) -> None:
        """Change a contract's leverage, which moves no money and leaves a closing fee that was set aside as it is.

        ValueError where maintenance and a fee kept with it would be all of the margin that a position begins with.
        """
        position = self.positions[symbol]
        _check_spot(position.contract, leverage)
        _check_fee_in_margin(position.contract, leverage, position.rules, position.table)
        self._announce()
        position.leverage = leverage
        self._touch(symbol)
        self._order_margins.pop(symbol, None)
        if not position.is_plain:
            position.renew()

    def set_margin_mode(self, symbol: str, margin_mode: str) -> None:
        """Choose the wallet that will back a flat contract."""
        if margin_mode not in MARGIN_MODES:
            raise ValueError(f"{symbol}: margin_mode is 'cross' or 'isolated', was {margin_mode!r}")
        position = self.positions[symbol]
        if position.size:
            raise ValueError(f"{symbol}: the margin mode of an open position ({position.size:g}) cannot change; close it first")
        position.wallet = CROSS if margin_mode == "cross" else wallet_of(symbol)
        self.wallets.setdefault(position.wallet, 0.0)
        self._touch(symbol)

    def set_tiers(self, symbol: str, time: float) -> None:
        """Put the tier table, the margin terms and the fees of a time in force (R5)."""
        self._announce()
        self._touch(symbol)
        position = self.positions[symbol]
        self._order_margins.pop(symbol, None)
        position.contract = position.offered.at(time)
        position.table = position.contract.tiers.at(time)
        before, position.terms = position.terms, terms_at(position.rules, time)
        if position.size and position.terms.fee_in_margin != before.fee_in_margin:
            position.set_fee_aside(position.holding(position.size, position.entry_price).reserved_fee)
        position.renew()

    # -- reading -----------------------------------------------------------------------------------------------------

    def held(self, wallet: str) -> Iterator[Position]:
        """Yield the open positions a wallet backs, in the order the contracts were added."""
        return (position for position in self.positions.values() if position.size and position.wallet == wallet)

    def risk(self, wallet: str, marks: Marks) -> Risk:
        """Return the wallet's equity, initial and maintenance margin at these marks."""
        equity, initial, maintenance, holds = self.wallets[wallet], 0.0, 0.0, False
        for position in self.held(wallet):
            mark_price = marks[position.contract.symbol]
            equity += position.unrealized_pnl(mark_price)
            initial += position.initial_margin(mark_price)
            maintenance += position.maintenance_margin(mark_price)
            holds = True
        return Risk(equity, initial, maintenance, holds)

    def total_risk(self, marks: Marks) -> Risk:
        """Return the risk of the whole account, the sum over its wallets."""
        total = Risk(0.0, 0.0, 0.0, False)
        for wallet in self.wallets:
            total += self.risk(wallet, marks)
        return total

    def equity(self, marks: Marks) -> float:
        """Return all wallets plus all unrealized profit."""
        return self.wallet_balance + sum(p.unrealized_pnl(marks[symbol]) for symbol, p in self.positions.items() if p.size)

    @property
    def wallet_balance(self) -> float:
        """All wallets together, unrealized profit excluded."""
        return sum(self.wallets.values())

    def available_margin(self, marks: Marks) -> float:
        """Return what can still be committed; negative when requirements exceed equity (R6).

        available = cross wallet + cross unrealized profit - cross initial margin - order margin
        """
        if self.free_margin is not None:
            return self.free_margin(marks) - self.order_margin
        equity, initial = self.wallets[CROSS], 0.0
        for position in self.held(CROSS):
            mark_price = marks[position.contract.symbol]
            equity += position.unrealized_pnl(mark_price)
            initial += position.initial_margin(mark_price)
        return equity - initial - self.order_margin

    # -- orders ------------------------------------------------------------------------------------------------------

    @property
    def order_margin(self) -> float:
        """Margin reserved for resting orders (R7): of each contract by its order terms, given what is held.

        Of a group with members on both legs of a hedge, only one of which can fill, it is that of the larger one.
        """
        if not self._resting:
            return 0.0
        reserved = sum(map(self._set_aside, dict.fromkeys(order.symbol for order in self._resting.values())))
        return reserved - sum(self.shared_margin(symbol) for symbol, leg in self.legs.items() if leg.sign > 0)

    def _set_aside(self, symbol: str) -> float:
        """Return the order margin of one contract, in hedge mode of one leg."""
        if symbol not in self._order_margins:
            self._order_margins[symbol] = self._margin_of(self.orders_of(symbol), self.positions[symbol])
        return self._order_margins[symbol]

    def shared_margin(self, symbol: str, *, leverage: float | None = None) -> float:
        """Return what both legs of a hedge have set aside for the same groups and only one of them needs, at another leverage if asked."""
        long, short = (self.orders_of(leg) for leg in self.legs[symbol].symbols)
        shared = {order.group for order in long} & {order.group for order in short}
        if not shared:
            return 0.0
        needs = []
        for orders in (long, short):
            position = self.positions[orders[0].symbol]
            position = position if leverage is None else replace(position, leverage=leverage)
            needs.append({group: self._margin_of([o for o in orders if o.group == group], position) for group in shared})
        return sum(min(need[group] for need in needs) for group in shared)

    def order_margin_of(self, symbol: str, *, leverage: float | None = None) -> float:
        """Return the part of one contract, at another leverage if asked."""
        position = self.positions[symbol]
        return self._margin_of(self.orders_of(symbol), position if leverage is None else replace(position, leverage=leverage))

    def _margin_of(self, orders: Sequence[Resting], position: Position, size: float | None = None) -> float:
        held = position.size if size is None else size
        return sides(orders, held, position.cost).margin(position.orders.netting) if orders else 0.0

    def orders_of(self, symbol: str) -> list[Resting]:
        """Return a contract's resting orders, the first placed first."""
        if not self._resting:
            return []
        return [order for order in self._resting.values() if order.symbol == symbol]

    @property
    def reserved_orders(self) -> frozenset[int]:
        """References of the orders that margin is reserved for, if they open anything."""
        return frozenset(self._resting)

    @property
    def resting_orders(self) -> Iterable[Resting]:
        """The orders that margin is reserved for."""
        return self._resting.values()

    def resting(self, ref: int) -> Resting | None:
        """Return an order as margin sees it, None where it needs none (an exit of a bracket) or has ended."""
        return self._resting.get(ref)

    def reserve(self, order: Resting) -> None:
        """Count an order until ``release``, in the place of what was known of it before."""
        self._announce()
        self._resting[order.ref] = order
        self._order_margins.pop(order.symbol, None)

    def release(self, ref: int) -> None:
        """Free what was set aside for an order, if anything."""
        if ref in self._resting:
            self._announce()
            order = self._resting.pop(ref)
            self._order_margins.pop(order.symbol, None)

    def release_group(self, group: int) -> None:
        """Free what was set aside for a group of which one order fills, which ends the others."""
        if not self._resting:
            return
        for ref in [ref for ref, order in self._resting.items() if order.group == group]:
            self.release(ref)

    def release_symbol(self, symbol: str) -> None:
        """Free what was set aside for the orders of a contract, which a liquidation cancels."""
        for order in self.orders_of(symbol):
            self.release(order.ref)

    def needed_for(self, order: Resting) -> float:
        """Return the margin that one more order takes: by how much more is set aside with it than without (R7)."""
        position, orders = self.positions[order.symbol], self.orders_of(order.symbol)
        opened = opened_by(order, orders, position.size)
        if not opened:
            return 0.0
        grown = position.cost(order, opened)
        if orders:
            grown = max(self._margin_of([*orders, order], position) - self._margin_of(orders, position), 0.0)
        return max(grown - self._of_group(order), 0.0) if self.legs else grown

    def _of_group(self, order: Resting) -> float:
        """Return what the other leg of a hedge has set aside for an order's group beyond its own leg: only one member can fill."""
        needs = []
        for symbol in (order.symbol, *self.symbols_of(order.symbol)):
            own = [other for other in self.orders_of(symbol) if other.group == order.group]
            needs.append(self._margin_of(own, self.positions[symbol]))
        return max(needs) - needs[0]

    def cover(self, marks: Marks) -> None:
        """Set all of its need aside for every order of which only a share was, as far as the money has come in since."""
        for order in [order for order in self._resting.values() if order.share < 1]:
            self.reserve(order._replace(share=1.0))
            if self.spendable(order.symbol, marks) < 0:
                self.reserve(order)

    def _freed_by(self, symbol: str, size: float) -> float:
        """Return what resting orders need less once a fill of this size has made closings of their openings."""
        orders = self.orders_of(symbol)
        if not orders:
            return 0.0
        position = self.positions[symbol]
        return self._margin_of(orders, position) - self._margin_of(orders, position, position.size + size)

    def opening_need(
        self, symbol: str, *, size: float, price: float, fee_rate: float, mark_price: float | None = None, margin_price: float | None = None
    ) -> float:
        """Return what opening ``size`` (signed) at ``price`` takes (R7).

        Its initial margin, by ``margin_price`` where the venue takes another, the opening fee, and what it would have lost by the
        mark, as far as the contract's order terms count them.
        """
        at, mark = price if margin_price is None else margin_price, price if mark_price is None else mark_price
        order = self.order(symbol, size=size, price=price, fee_rate=fee_rate, mark_price=mark, margin_price=at)
        return self.positions[symbol].cost(order, size)

    def order(
        self,
        symbol: str,
        *,
        size: float,
        price: float,
        fee_rate: float,
        mark_price: float,
        margin_price: float,
        ref: int = 0,
        group: int = 0,
        rests_as: str = "limit",
    ) -> Resting:
        """Return an order as margin sees it, by the contract's order terms."""
        position = self.positions[symbol]
        terms, contract, loss = position.orders, position.contract, 0.0
        if terms.counts_loss:
            loss = max(-contract.unrealized_pnl(size=1.0 if size > 0 else -1.0, entry_price=price, mark_price=mark_price), 0.0)
        is_fee_counted = terms.counts_fee or position.is_isolated or contract.kind == "spot"
        return Resting(ref, symbol, group, size, price, margin_price, max(fee_rate, 0.0) if is_fee_counted else 0.0, loss, rests_as)

    @property
    def free_cash(self) -> float:
        """The cross wallet less what the spot in it was bought for: money that is there."""
        spot = (p for p in self.held(CROSS) if p.contract.kind == "spot")
        return self.wallets[CROSS] - sum(position.notional(position.entry_price) for position in spot)

    def spendable(self, symbol: str, marks: Marks) -> float:
        """Return the money an opening in this contract may use.

        Isolated margin and the price of spot are money that is there, so unrealized profit does not count for them (R8, R27).
        """
        available = self.available_margin(marks)
        return min(available, self._uncommitted_cash) if _takes_cash(self.positions[symbol]) else available

    @property
    def _uncommitted_cash(self) -> float:
        """What is free of the cross wallet's own money once the orders that must be paid with it have filled."""
        return self.free_cash - (sum(self._set_aside(s) for s, p in self.positions.items() if _takes_cash(p)) if self._resting else 0.0)

    def max_measure(self, symbol: str) -> float:
        """Return the largest position the tiers allow at the contract's leverage, in the unit of its tier table (R4)."""
        position = self.positions[symbol]
        return position.table.max_notional(position.leverage)

    def max_opening(
        self,
        symbol: str,
        *,
        price: float,
        fee_rate: float,
        marks: Marks,
        besides: float | None = None,
        credit: float = 0.0,
        is_short: bool = False,
        order: Resting | None = None,
        closed: float = 0.0,
    ) -> float:
        """Return the largest size (>= 0, whole lots) that may be opened or added at a price, on the side asked for.

        ``besides`` (default: what is held) and ``credit`` as in ``refusal``. It is opened by a fill, or by an ``order`` like
        the one given that comes in and has so much (signed) to close.
        """
        position = self.positions[symbol]
        contract = position.contract
        if is_short and contract.kind == "spot":
            return 0.0
        side, unit = -1.0 if is_short else 1.0, position.measure(1.0, price)
        money, limit = self.spendable(symbol, marks) + credit, self.max_measure(symbol)
        beside = abs(position.size if besides is None else besides)
        mark_price = marks.get(symbol, price)

        def fits(size: float) -> bool:
            if order is not None:
                is_funded = self.needed_for(order._replace(size=closed + side * size)) <= money
            else:
                needed = self.opening_need(symbol, size=side * size, price=price, fee_rate=fee_rate, mark_price=mark_price)
                is_funded = needed <= money + self._freed_by(symbol, side * size)
            return is_funded and position.measure(size + beside, price) <= limit

        by_tier = max(limit - beside * unit, 0.0) / unit
        if order is None:
            each = self.opening_need(symbol, size=side, price=price, fee_rate=fee_rate, mark_price=mark_price)
        else:
            each = position.cost(order, side)
        orders = self.orders_of(symbol)
        known = sides(orders, position.size, position.cost)
        covered = (known.buys + known.sells) / each + sum(abs(other.size) for other in orders)  # at most: it bounds the search
        return contract.largest_size(min(money / each + covered, by_tier), fits, beside=beside)

    def refusal(
        self,
        symbol: str,
        *,
        size: float,
        price: float,
        fee_rate: float,
        marks: Marks,
        besides: float = 0.0,
        credit: float = 0.0,
        order: Resting | None = None,
        known: tuple[float, float] | None = None,
    ) -> Refusal | None:
        """Return why opening ``size`` at ``price`` is refused, None where it fits (R4, R7, R8).

        ``besides`` is size of the same side that is held or ordered already, ``credit`` margin that orders placed before this
        one will free. Of an ``order`` that comes in, what the other side's orders have set aside counts for it too; without
        one, this is a fill. Who has asked for what an order needs (``needed_for``) and what is ``spendable`` says it in ``known``.
        """
        position, lent = self.positions[symbol], credit
        if known is not None:
            needed, available = known[0], known[1] + credit
        else:
            if order is None:
                needed = self.opening_need(symbol, size=size, price=price, fee_rate=fee_rate, mark_price=marks.get(symbol, price))
                credit += self._freed_by(symbol, size)
            else:
                needed = self.needed_for(order)
            available = self.spendable(symbol, marks) + credit
        measure, limit = position.measure(abs(size) + abs(besides), price), position.table.max_notional(position.leverage)
        if position.contract.kind == "spot" and size < 0:
            reason, message = "short_spot", f"{symbol}: spot cannot be sold short"
        elif measure > limit:
            what = "a notional of" if position.is_plain else f"a size in its tiers' {position.table.unit} of"
            reason = "tier_cap"
            message = f"{symbol}: {what} {measure:.8g} would pass the {limit:.8g} that its tiers allow at {position.leverage:g}x"
        elif needed > available:
            opening = f"opening {abs(size):.8g} at {price:.8g} with {position.leverage:g}x"
            reason, message = "margin", f"{symbol}: {opening} needs {needed:.8g}, available is {available:.8g}"
        else:
            return None
        fits = self.max_opening(
            *(symbol,),
            price=price,
            fee_rate=fee_rate,
            marks=marks,
            besides=besides,
            credit=lent,
            is_short=size < 0,
            order=order,
            closed=0.0 if order is None else order.size - size,
        )
        return Refusal(reason, f"{message}; lower the size to {fits:.8g} or less", needed, available, fits)

    def clearly_fits(
        self, position: Position, size: float, price: float, fee_rate: float, marks: Marks, *, besides: float = 0.0, closed: float = 0.0
    ) -> bool:
        """Return whether an opening fits beyond doubt, in the usual case: nothing rests, and what is held in cross is plain.

        Then ``refusal`` has nothing to say, for there is more by a billionth of everything reckoned with than it asks. False
        tells nothing. ``closed`` (signed) is what the order closes before; it counts where that would cost more than it frees.
        """
        contract, leverage = position.contract, position.leverage
        if self._resting or not position.is_plain or position.wallet != CROSS or contract.kind == "spot" or position.orders.counts_loss:
            return False
        worth = contract.multiplier * price
        opening, available = abs(size) * worth, self.available_margin(marks)
        needed, gross = opening / leverage + opening * max(fee_rate, 0.0), opening + abs(available)
        if closed:
            mark_worth, closing = contract.multiplier * marks[contract.symbol], abs(closed)
            needed -= min(closing * (mark_worth / leverage - abs(worth - mark_worth) - worth * abs(fee_rate)), 0.0)
            gross += closing * (worth + mark_worth)
        if not needed + MONEY_TOLERANCE * gross <= available < inf:
            return False
        return (abs(size) + abs(besides)) * worth * (1 + MONEY_TOLERANCE) <= position.table.max_notional(leverage)

    def execute(
        self, symbol: str, *, size: float, price: float, fee_rate: float, marks: Marks, time: float
    ) -> tuple[Booking, Refusal | None]:
        """Book what fits of an order's fill: the closing part always, the opening part if it is funded (R7).

        Where it is not, the refusal says why; an account that ``shrinks`` books as much of it as fits, where the venue takes
        an order of what is left.
        """
        position = self.positions[symbol]
        closed, opened = split_fill(position.size, size)
        booked = Booking(0.0, 0.0, 0.0, 0.0, 0.0)
        if closed:
            booked = self.apply_fill(symbol, size=closed, price=price, fee_rate=fee_rate, time=time)
        if not opened:
            return booked, None
        refused = None
        if not self.clearly_fits(position, opened, price, fee_rate, marks, besides=position.size):
            refused = self.refusal(symbol, size=opened, price=price, fee_rate=fee_rate, marks=marks, besides=position.size)
        if refused is not None:
            fits = refused.max_size if self.shrinks and position.contract.takes(abs(closed) + refused.max_size, price, time=time) else 0.0
            opened = fits if opened > 0 else -fits
        if not opened:
            return booked, refused
        added = self.apply_fill(symbol, size=opened, price=price, fee_rate=fee_rate, time=time)
        return Booking(booked.closed, added.opened, booked.realized_pnl, booked.closing_fee, added.opening_fee), refused

    # -- money -------------------------------------------------------------------------------------------------------

    def deposit(self, amount: float, *, time: float) -> None:
        """Put money into the cross wallet from outside."""
        _check_amount("a deposit", amount)
        self._post(time, "deposit", "", (CROSS, amount), ("external", -amount))

    def withdraw(self, amount: float, *, time: float, marks: Marks) -> None:
        """Take money out of the cross wallet; no more than is available and there."""
        _check_amount("a withdrawal", amount)
        free = min(self.available_margin(marks), self._uncommitted_cash)
        if amount > free:
            raise ValueError(f"cannot withdraw {amount:.8g}: {max(free, 0.0):.8g} is available; lower the amount or close a position")
        self._post(time, "withdraw", "", (CROSS, -amount), ("external", amount))

    def adjust(self, amount: float, *, time: float) -> None:
        """Correct the cross wallet by an amount of either sign."""
        if not isfinite(amount):
            raise ValueError(f"an adjustment is a finite amount of money, was {amount}")
        if self.wallets[CROSS] + amount < min(self.wallets[CROSS], 0.0):
            raise ValueError(f"an adjustment of {amount:.8g} would take the cross wallet of {self.wallets[CROSS]:.8g} below zero; lower it")
        self._post(time, "adjust", "", (CROSS, amount), ("external", -amount))

    def transfer(self, source: str, target: str, amount: float, *, symbol: str, time: float) -> None:
        """Move money between two wallets."""
        self._post(time, "transfer", symbol, (source, -amount), (target, amount))

    def add_top_up(self, step: "TopUpStep", *, time: float) -> None:
        """Book a planned top-up and count its uses."""
        if step.from_outside:
            self._post(time, "deposit", step.symbol, (step.wallet, step.amount), ("external", -step.amount))
        else:
            self.transfer(CROSS, step.wallet, step.amount, symbol=step.symbol, time=time)
        self.top_ups_used[step.wallet] = self.top_ups_used.get(step.wallet, 0) + step.uses

    def pay_funding(self, symbol: str, *, mark_price: float, rate: float, time: float, marks: Marks, size: float | None = None) -> float:
        """Book one funding stamp on what is held, or on a part of that ``size``, and return what was received (R9, R23, R24).

        Both signs go to the position's wallet, but for what ``Contract.funding_debit`` takes from the available balance or
        leaves uncollected; ``marks`` are those of the instant.
        """
        position = self.positions[symbol]
        contract = position.contract
        part = position.size if size is None else size
        amount = funding_payment(size=part, multiplier=contract.multiplier, mark_price=mark_price, rate=rate, kind=contract.kind)
        if amount < 0 and contract.funding_debit == "capped":
            amount = -min(-amount, self._collectable(position, marks))
        if not amount:
            return 0.0
        drawn = 0.0
        if amount < 0 and contract.funding_debit == "free_first" and position.is_isolated:
            drawn = min(-amount, max(self.spendable(symbol, marks), 0.0))
        position.costs -= amount
        postings = [(CROSS, -drawn)] if drawn else []
        if amount + drawn:
            postings.append((position.wallet, amount + drawn))
        self._post(time, "funding", symbol, *postings, ("funding", -amount))
        return amount

    def _collectable(self, position: Position, marks: Marks) -> float:
        """Return the most that a funding fee may take from a position's wallet and leave it above its maintenance margin.

        It stays above by a billionth of what is held, for a wallet just at its maintenance is liquidated (R1).
        """
        risk = self.risk(position.wallet, marks)
        spare = risk.equity - risk.maintenance_margin
        return max(spare - MONEY_TOLERANCE * position.notional(marks[position.contract.symbol]), 0.0)

    def apply_fill(self, symbol: str, *, size: float, price: float, fee_rate: float, time: float) -> Booking:
        """Book a fill: close first, then open (R8).

        Closing books profit and fee on the position's wallet and returns its share of an isolated one; opening moves
        notional / leverage, and a closing fee kept with it, into an isolated wallet and pays its fee from the cross wallet.
        """
        position = self.positions[symbol]
        closed, opened = split_fill(position.size, size)
        per_unit = position.contract.notional(1.0, price) * fee_rate
        closing_fee, opening_fee = abs(closed) * per_unit, abs(opened) * per_unit
        realized = self._close(position, closed, price, closing_fee, time) if closed else 0.0
        if opened:
            self._open(position, opened, price, opening_fee, time)
        if self.wallets[CROSS] < 0 and not any(self.held(CROSS)):
            self._floor(CROSS, symbol, time)
        return Booking(closed, opened, realized, closing_fee, opening_fee)

    def _open(self, position: Position, opened: float, price: float, fee: float, time: float) -> None:
        symbol = position.contract.symbol
        kept_fee = 0.0
        if position.is_isolated:
            margin = position.opening_margin(opened, price)
            self.transfer(CROSS, position.wallet, margin, symbol=symbol, time=time)
            position.given_margin += margin
            if not position.is_plain:
                kept_fee = position.reserved_fee + position.holding(opened, price).reserved_fee
        position.costs += fee
        if fee:
            self._post(time, "fill", symbol, (CROSS, -fee), ("fees", fee))
        kind = position.contract.kind
        position.entry_price = average_entry(size=position.size, entry_price=position.entry_price, added=opened, price=price, kind=kind)
        self.resize(position, opened, kept_fee)

    def _close(self, position: Position, closed: float, price: float, fee: float, time: float) -> float:
        symbol, wallet = position.contract.symbol, position.wallet
        fraction, before = abs(closed / position.size), self.wallets[wallet]
        realized = position.contract.unrealized_pnl(size=-closed, entry_price=position.entry_price, mark_price=price)
        self._post(time, "fill", symbol, (wallet, realized - fee), ("pnl", -realized), ("fees", fee))
        position.given_margin *= 1 - fraction
        position.costs += fee - realized
        self.resize(position, closed)
        if position.is_isolated:
            left = self.wallets[wallet]
            share = left if not position.size else min(max(fraction * before + realized - fee, 0.0), max(left, 0.0))
            self._return_isolated(position, share, time)
        return realized

    def _return_isolated(self, position: Position, amount: float, time: float) -> None:
        """Give money of an isolated wallet back to the cross wallet; the fund evens out a flat one that has none left."""
        if not position.size and amount <= self._noise():
            self._give_to_fund(position.wallet, amount, position.contract.symbol, time)
        elif amount:
            self.transfer(position.wallet, CROSS, amount, symbol=position.contract.symbol, time=time)

    def resize(self, position: Position, change: float, kept_fee: float | None = None) -> None:
        """Change a position's size, and with it the closing fee that it keeps where that is not in proportion."""
        largest = max(position.largest_size, abs(position.size + change))
        self._order_margins.pop(position.contract.symbol, None)
        self._touch(position.contract.symbol)
        position.size = position.contract.snap_size(position.size + change, largest=largest)
        position.largest_size = largest if position.size else 0.0
        if not position.size:
            position.entry_price = position.given_margin = position.costs = 0.0
            position.set_aside = (0.0, 0.0)
            if self.top_ups_used and not any(self.held(position.wallet)):
                self.top_ups_used.pop(position.wallet, None)
        if not position.is_plain:
            if position.size and kept_fee is not None:
                position.set_fee_aside(kept_fee)
            position.renew()

    def _floor(self, wallet: str, symbol: str, time: float) -> None:
        """Lift a wallet that holds nothing from below zero to zero at the insurance fund's cost (R12)."""
        if self.wallets[wallet] < 0:
            self._give_to_fund(wallet, self.wallets[wallet], symbol, time)

    def _give_to_fund(self, wallet: str, amount: float, symbol: str, time: float) -> None:
        """Move what is left in a wallet to the insurance fund; a negative amount is the fund's loss."""
        if amount:
            kind = "insurance_in" if amount > 0 else "insurance_out"
            self._post(time, kind, symbol, (wallet, -amount), ("insurance_fund", amount))

    # -- liquidation -------------------------------------------------------------------------------------------------

    def apply(self, step: Step, *, time: float) -> Liquidated:
        """Book one step of a liquidation plan.

        Of an isolated position that is taken in part, all that is left in its wallet stays behind the rest of it.
        """
        position = self.positions[step.symbol]
        contract, wallet = position.contract, position.wallet
        realized = contract.unrealized_pnl(size=step.size, entry_price=position.entry_price, mark_price=step.price)
        fund = contract.unrealized_pnl(size=step.size, entry_price=step.price, mark_price=step.market_price)
        self._post(time, "fill", step.symbol, (wallet, realized), ("pnl", -realized))
        position.given_margin *= 1 - step.size / position.size
        position.costs += step.fee - realized
        self.resize(position, -step.size)
        if step.fee:
            self._post(time, "liquidation_fee", step.symbol, (wallet, -step.fee), ("liquidation_fees", step.fee))
        if fund:
            self._post(time, "insurance_in" if fund > 0 else "insurance_out", step.symbol, ("insurance_fund", fund), ("pnl", -fund))
        returned, forfeited = self._empty_wallet(position, step, time)
        flows = (fund, forfeited)
        return Liquidated(realized, returned, sum(max(flow, 0.0) for flow in flows), sum(max(-flow, 0.0) for flow in flows), forfeited)

    def _empty_wallet(self, position: Position, step: Step, time: float) -> tuple[float, float]:
        """Hand on what is left in a wallet that holds nothing more; return what went to the cross wallet and to the fund."""
        wallet = position.wallet
        left = self.wallets[wallet]
        if any(self.held(wallet)) or not left:
            return 0.0, 0.0
        if step.forfeits_rest or left < 0 or abs(left) <= self._noise():
            self._give_to_fund(wallet, left, step.symbol, time)
            return 0.0, left
        if position.is_isolated:
            self._return_isolated(position, left, time)
            return left, 0.0
        return 0.0, 0.0

    # -- state -------------------------------------------------------------------------------------------------------

    def clone(self) -> "MarginAccount":
        """Return a copy to try things on: same state, no journal."""
        copy = MarginAccount()
        copy.journal = None
        copy.wallets = dict(self.wallets)
        copy.positions = {symbol: replace(position) for symbol, position in self.positions.items()}
        copy.legs = self.legs
        copy.turnover = self.turnover
        copy.top_ups, copy.top_ups_used = self.top_ups, dict(self.top_ups_used)
        copy.shrinks = self.shrinks
        copy._resting = dict(self._resting)
        copy._order_margins = dict(self._order_margins)
        return copy

    def _noise(self) -> float:
        return MONEY_TOLERANCE * self.turnover

    def _announce(self) -> None:
        if self.before_change is not None:
            self.before_change()

    def _touch(self, symbol: str) -> None:
        if self.touched is not None:
            self.touched.add(symbol)

    def _post(self, time: float, kind: str, symbol: str, *postings: tuple[str, float]) -> None:
        self._announce()
        self._touch(symbol)
        for account, amount in postings:
            self.turnover += abs(amount)
            if account in self.wallets:
                self.wallets[account] += amount
        if self.journal is not None:
            self.journal.post(time, kind, symbol, *postings)


def _takes_cash(position: Position) -> bool:
    """Whether openings of a contract are paid with money that is there (R8, R27)."""
    return position.is_isolated or position.contract.kind == "spot"


def check_leverage(symbol: str, leverage: float, brackets: tuple[Bracket, ...]) -> None:
    """Raise ValueError where a leverage is no number >= 1 or above what the first tier allows."""
    if not is_number(leverage) or leverage < 1:
        raise ValueError(f"{symbol}: leverage is a finite number of 1 or more, was {leverage!r}")
    first = brackets[0]
    if leverage > first.max_leverage or first.rate * leverage >= 1:
        raise ValueError(
            f"{symbol}: leverage {leverage:g} is not possible, the first tier allows {first.max_leverage:g} and its maintenance rate "
            f"{first.rate:g} must stay below 1 / leverage; lower the leverage"
        )


def is_number(value: object) -> bool:
    """Return whether a value is a finite number; a truth value is none."""
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)


def _check_spot(contract: Contract, leverage: float) -> None:
    if contract.kind == "spot" and leverage != 1:
        raise ValueError(f"{contract.symbol}: spot is paid in full, its leverage is 1, was {leverage:g}")


def _check_fee_in_margin(contract: Contract, leverage: float, rules: Terms, table: TierTable) -> None:
    """Raise ValueError where maintenance by a table with the fee it keeps is all of the margin that a position begins with."""
    rate = table.brackets[0].rate + max(contract.taker, 0.0)
    if rate * leverage >= 1 and any(terms.fee_in_margin == "notional" and not terms.fee_in_initial for _, terms in rules):
        raise ValueError(
            f"{contract.symbol}: leverage {leverage:g} is not possible, maintenance and the fee kept with it, {rate:g} of notional, "
            "must stay below 1 / leverage; lower the leverage"
        )


def _check_amount(what: str, amount: float) -> None:
    if not (isfinite(amount) and amount > 0):
        raise ValueError(f"{what} is a positive amount of money, was {amount}")
