"""What an order takes before it fills: its cost at the venue, and the margin of resting orders."""

from collections.abc import Sequence
from dataclasses import dataclass

from .contract import notional, unrealized_pnl
from .terms import Holding

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
