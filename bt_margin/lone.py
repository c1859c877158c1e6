"""The short road of the usual bar that fills something: one contract, one market order, nothing near its maintenance.

It does what ``BarClock.run`` and ``match_like_host`` do on such a bar, in their order, without looking for what is not
there. Where anything else is in play, or danger is not beyond doubt, it does nothing and says so.
"""

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

from backtrader import Order

from .core.account import Position
from .core.ledger import CROSS, MONEY_TOLERANCE
from .core.tiers import maintenance_margin

if TYPE_CHECKING:
    from .clock import BarClock
    from .slots import Slot


def pass_lone_order(clock: "BarClock", fresh: Sequence["Slot"]) -> bool:
    """Take the one contract with a market order from its bar's opening to its close; False where the bar is not of that kind."""
    broker = clock.broker
    if len(fresh) != 1 or len(broker.pending) != 1:
        return False
    slot, order = fresh[0], broker.pending[0]
    if not (_is_usual(clock, slot, order) and _is_clearly_safe(slot, slot.position, order, clock.account.wallets[CROSS])):
        return False
    position, fills = slot.position, clock.record.fills
    clock.lowest_equity, clock.least_headroom, clock.walked, clock.fills_before = inf, None, False, len(fills)
    clock.lows.clear()
    broker.begin_bar()
    clock.marks[slot.symbol] = slot.mark_open
    broker.match_lone(order)
    clock.held = [(slot, position)] if position.size else []
    clock.marks[slot.symbol] = mark_price = slot.mark_close
    if len(fills) > clock.fills_before:
        if position.size and not _is_clearly_held(position, mark_price, clock.account.wallets[CROSS]):
            clock.test_after_fill(fresh)
        else:
            clock.lowest_equity = clock.account.equity(clock.marks)
    if position.size:
        clock.least_headroom = _headroom_share(position, slot.worst_mark(), clock.account.wallets[CROSS])
    return True


def _is_usual(clock: "BarClock", slot: "Slot", order: Order) -> bool:
    """Whether a bar has one market order of one plain contract in cross, no funding due, and fills at its open as it is."""
    broker, params, held, position = clock.broker, clock.broker.p, clock.held, slot.position
    return not (
        order.exectype != Order.Market
        or (held and (len(held) > 1 or held[0][0] is not slot))
        or not position.is_plain
        or position.wallet != CROSS
        or slot.side is not None
        or slot.has_stamps_due()
        or (slot.schedule is not None and slot.schedule.grace_seconds)
        or params.slip_perc
        or params.slip_fixed
        or params.filler is not None
        or params.coc
        or params.coo
        or order.data.tick_open is not None
        or not broker.is_due(order, slot)
    )


def _is_clearly_safe(slot: "Slot", position: Position, order: Order, balance: float) -> bool:
    """Whether the wallet stays above maintenance by a billionth of what is reckoned with, whether the order fills or not.

    A bound below ``screen.is_safe``: the least profit, the most loss of the fill, the most maintenance and the dearest fee, though
    no one mark has them all.
    """
    contract, low, high, opened = position.contract, slot.mark_low, slot.mark_high, slot.open
    units, change = position.size * contract.multiplier, order.executed.remsize * contract.multiplier
    profit = units * ((low if units > 0 else high) - position.entry_price)
    loss = min(change * ((low if change > 0 else high) - opened), 0.0)
    largest = max(abs(units), abs(units + change)) * high
    fee = abs(change) * opened * max(contract.taker, contract.maker, 0.0)
    slack = MONEY_TOLERANCE * (abs(balance) + abs(profit) + largest + abs(change) * opened)
    return bool(balance + profit + loss - maintenance_margin(position.brackets, largest) - fee > slack)


def _is_clearly_held(position: Position, mark_price: float, balance: float) -> bool:
    """Whether a wallet with one position is above its maintenance by a billionth of what is reckoned with."""
    units = position.size * position.contract.multiplier
    profit, notional = units * (mark_price - position.entry_price), abs(units) * mark_price
    slack = MONEY_TOLERANCE * (abs(balance) + abs(profit) + notional)
    return balance + profit - maintenance_margin(position.brackets, notional) > slack


def _headroom_share(position: Position, worst: float, balance: float) -> float:
    """Return the headroom of a wallet with one position at its worst mark, as a fraction of notional."""
    units = position.size * position.contract.multiplier
    notional = abs(units) * worst
    return (balance + units * (worst - position.entry_price) - maintenance_margin(position.brackets, notional)) / notional
