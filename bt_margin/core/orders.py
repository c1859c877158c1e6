"""What an order takes before it fills: its cost at the venue, and the margin of resting orders."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .contract import notional, split_fill, unrealized_pnl
from .terms import Holding

NETTINGS = ("larger_side", "both_sides", "net_bids")
MARGIN_PRICES = ("own", "assumed", "quote")

ASSUMING_BUFFER = 0.0015  # Binance, FAQ 87fa7ee33b574f7084d42bd2ce2e463b, retrieved 2026-11-21


@dataclass(frozen=True, slots=True)
class OrderCost:
    """What a venue sets aside for an order, in the settlement currency."""

    initial_margin: float
    open_loss: float
    opening_fee: float
    closing_fee: float

    @property
    def total(self) -> float:
        """All parts together."""
        return self.initial_margin + self.open_loss + self.opening_fee + self.closing_fee


def order_cost(
    *,
    size: float,
    price: float,
    leverage: float,
    multiplier: float = 1.0,
    kind: str = "linear",
    mark_price: float | None = None,
    assumed_price: float | None = None,
    reserved_rate: float = 0.0,
) -> OrderCost:
    """Return the cost of an opening order.

    initial_margin = notional at ``assumed_price`` (default: the order's) / leverage; open_loss = what the order would have
    lost as it fills, by ``mark_price``, 0 where a venue does not count it (None); fees = ``reserved_rate`` on notional to
    open, and on notional at the bankruptcy price, (1 - side / leverage), inverse (1 + side / leverage), to close.
    Sources: Binance, FAQ 87fa7ee33b574f7084d42bd2ce2e463b (initial margin and open loss, no fees); Bybit, help on order
    cost (initial margin and both fees, no open loss); retrieved 2026-11-21.

    >>> order_cost(size=1, price=50_000, leverage=10, reserved_rate=0.00055)
    OrderCost(initial_margin=5000.0, open_loss=0.0, opening_fee=27.5, closing_fee=24.75)
    """
    margin_price = price if assumed_price is None else assumed_price
    order = Holding(size, price, None, kind, multiplier, leverage, reserved_rate)
    loss = 0.0
    if mark_price is not None:
        loss = -unrealized_pnl(size=size, entry_price=price, mark_price=mark_price, multiplier=multiplier, kind=kind)
    return OrderCost(
        initial_margin=notional(size=size, price=margin_price, multiplier=multiplier, kind=kind) / leverage,
        open_loss=max(loss, 0.0),
        opening_fee=order.fee_rate * order.notional(price),
        closing_fee=order.closing_fee(price, "bankruptcy"),
    )


def assumed_price(*, size: float, price: float, mark_price: float, last_price: float, buffer: float = ASSUMING_BUFFER) -> float:
    """Return the price by which Binance takes the initial margin of a limit order.

    A buy's is its own; a sell's is max(last_price * (1 + buffer), mark_price, price), for it may fill higher than it asks.
    Source: Binance, FAQ 87fa7ee33b574f7084d42bd2ce2e463b, retrieved 2026-11-21.

    >>> assumed_price(size=-1, price=100, mark_price=101, last_price=100)
    101
    """
    return price if size > 0 else max(last_price * (1 + buffer), mark_price, price)


def order_margin(*, bids: Sequence[float], asks: Sequence[float], position: float, leverage: float) -> float:
    """Return the margin of resting orders besides a position's own, in one-way mode.

    max(bids - short, asks - long, 0) / leverage, where bids and asks are notionals and ``position`` a signed one: the
    part of a side that closes the position needs nothing, and only the dearer side can come to bear.
    Source: lfest-rs, src/account/active_limit_orders.rs, retrieved 2026-11-21.

    >>> order_margin(bids=[90], asks=[100, 120], position=100, leverage=1)         # 220 - 100
    120.0
    """
    return max(sum(bids) - max(-position, 0.0), sum(asks) - max(position, 0.0), 0.0) / leverage


@dataclass(frozen=True, slots=True)
class OrderTerms:
    """What a venue sets aside for resting orders, besides its margin terms.

    Parameters
    ----------
    netting : of a contract's openings the 'larger_side', since only one side can come to bear; 'both_sides'; or 'net_bids',
        all offers and what the bids are more than they (BitMEX: 20 bids and 15 offers take 5 bids and 15 offers)
    margin_price : by which initial margin is taken of a limit: its 'own'; 'assumed', see ``assumed_price`` (Binance); or the
        'quote', a buy's at most and a sell's at least the last price (Bybit)
    counts_loss : whether what an order would have lost as it fills, by the mark, is set aside too (Binance)
    counts_fee : whether the opening fee is; of an isolated position it always is, for it is paid in cash (R7, R8)
    """

    netting: str = "larger_side"
    margin_price: str = "own"
    counts_loss: bool = False
    counts_fee: bool = True

    def __post_init__(self) -> None:
        for what, value, known in (("netting", self.netting, NETTINGS), ("margin_price", self.margin_price, MARGIN_PRICES)):
            if value not in known:
                raise ValueError(f"{what} of order terms is one of {', '.join(map(repr, known))}, was {value!r}")

    @property
    def needs_prices(self) -> bool:
        """Whether what an order sets aside depends on the mark and the last price at which it is placed."""
        return self.counts_loss or self.margin_price != "own"

    def price_of_limit(self, *, size: float, price: float, mark_price: float, last_price: float) -> float:
        """Return the price by which the initial margin of a limit order is taken.

        >>> OrderTerms(margin_price="quote").price_of_limit(size=1, price=110, mark_price=99, last_price=100)
        100
        """
        if self.margin_price == "assumed":
            return assumed_price(size=size, price=price, mark_price=mark_price, last_price=last_price)
        if self.margin_price == "quote":
            return min(price, last_price) if size > 0 else max(price, last_price)
        return price


USUAL = OrderTerms()


class Resting(NamedTuple):
    """An order at the venue as margin sees it, from its acceptance to its end.

    ``size`` may still fill (signed). Initial margin is taken by ``margin_price``, the opening fee of ``fee_rate`` by ``price``;
    ``loss`` is set aside for each contract besides. It rests as 'market', which fills before anything else, 'limit' or
    'stop'. Orders of one ``group`` can fill only once. ``share`` of its need is set aside: less than all where it lives on
    margin that orders before it have yet to free.
    """

    ref: int
    symbol: str
    group: int
    size: float
    price: float
    margin_price: float
    fee_rate: float
    loss: float = 0.0
    rests_as: str = "limit"
    share: float = 1.0


Cost = Callable[[Resting, float], float]  # what an order needs of which so much (signed) opens


class Opening(NamedTuple):
    """What an order, or the group of which only one member fills, may open: its size (>= 0) and its need."""

    size: float
    need: float


class Sides(NamedTuple):
    """The openings among a contract's resting buys and sells, the first placed first.

    ``either`` is what both sides need together, of a group that could do one or the other its dearer side.
    """

    bids: list[Opening]
    asks: list[Opening]
    either: float

    @property
    def buys(self) -> float:
        """What the buys need."""
        return sum(opening.need for opening in self.bids)

    @property
    def sells(self) -> float:
        """What the sells need."""
        return sum(opening.need for opening in self.asks)

    def margin(self, netting: str) -> float:
        """Return what is set aside for all of them."""
        if netting == "both_sides":
            return self.either
        if netting == "net_bids":
            return self._net_buys() + self.sells
        return max(self.buys, self.sells)

    def _net_buys(self) -> float:
        """Return what the bids need that are left once the offers have been taken off them, those placed first first."""
        offered, net = sum(opening.size for opening in self.asks), 0.0
        for size, need in self.bids:
            if size > offered:
                net += need * (1 - offered / size)
            offered = max(offered - size, 0.0)
        return net


def sides(orders: Sequence[Resting], held: float, cost: Cost) -> Sides:
    """Return what a contract's orders open, given the position ``held`` (signed).

    Of a group the member that needs most counts.
    """
    found: dict[bool, dict[int, Opening]] = {True: {}, False: {}}
    for order, opened in zip(orders, openings(orders, held), strict=True):
        if opened:
            side, opening = found[order.size > 0], Opening(abs(opened), order.share * cost(order, opened))
            known = side.get(order.group)
            if known is None or opening.need > known.need:
                side[order.group] = opening
    buys, sells = found[True], found[False]
    spared = sum(min(buys[group].need, sells[group].need) for group in buys.keys() & sells.keys())
    both = sum(opening.need for side in (buys, sells) for opening in side.values())
    return Sides(list(buys.values()), list(sells.values()), both - spared)


def opened_by(order: Resting, before: Sequence[Resting], held: float, *, after: Sequence[Resting] = ()) -> float:
    """Return how much of an order opens (signed), given what is held and the orders placed ``before`` and ``after`` it.

    >>> ask = Resting(ref=1, symbol="BTC", group=1, size=-3, price=100, margin_price=100, fee_rate=0.0)
    >>> opened_by(ask, [ask._replace(ref=2, group=2, size=-4)], held=5)                # 4 of the 5 are closed by the first
    -2.0
    """
    if not (before or after):
        return _opened_alone(order, held)
    return openings([*before, order, *after], held)[len(before)]


def _opened_alone(order: Resting, held: float) -> float:
    """Return how much of a contract's only order opens (signed): what ``openings`` finds for it."""
    size = order.size
    if order.rests_as == "market":
        return split_fill(held, size)[1]
    opened = max(abs(size) - max(-held if size > 0 else held, 0.0), 0.0)
    return opened if size > 0 else -opened


def openings(orders: Sequence[Resting], held: float) -> list[float]:
    """Return how much of each of a contract's orders opens (signed), given what is held; the first placed comes first.

    Market orders fill first, in turn. Then a side closes what is held, limits placed first before the others; a stop is in no
    book before it is triggered, so that each may close all of it. Members of one group can fill only once, in one place.
    """
    found = [0.0] * len(orders)
    moved, moved_by = _fill_market_orders(orders, held, found)
    closing: tuple[dict[int, float], dict[int, float]] = ({}, {})  # what the limits of each side close so far, by group
    closed = [0.0, 0.0]
    for place, order in enumerate(orders):
        if order.rests_as == "market":
            continue
        is_buy = bool(order.size > 0)  # of numpy's numbers it is none that indexes
        present = held + moved - moved_by.get(order.group, 0.0)
        closable = max(-present if is_buy else present, 0.0)
        if order.rests_as == "limit":
            before = closing[is_buy].get(order.group, 0.0)
            closable = max(closable - (closed[is_buy] - before), 0.0)
            closing[is_buy][order.group] = max(before, abs(order.size))
            closed[is_buy] += closing[is_buy][order.group] - before
        opened = max(abs(order.size) - closable, 0.0)
        found[place] = opened if is_buy else -opened
    return found


def _fill_market_orders(orders: Sequence[Resting], held: float, found: list[float]) -> tuple[float, dict[int, float]]:
    """Note what each market order opens; return how far all of them move the position, and each group of them."""
    moved, moved_by = 0.0, dict[int, float]()
    for place, order in enumerate(orders):
        if order.rests_as == "market":
            found[place] = split_fill(held + moved - moved_by.get(order.group, 0.0), order.size)[1]
            moved += order.size
            moved_by[order.group] = moved_by.get(order.group, 0.0) + order.size
    return moved, moved_by
