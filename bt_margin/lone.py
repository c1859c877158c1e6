"""The short road of the usual order: a market order sent alone, of the one contract that is held, nothing near its maintenance.

From its sending to the end of the bar that fills it this does what the desk, the clock, the book and the account do, in their
order, without looking for what is not there. Where anything else is in play, or danger is not beyond doubt, it does
nothing and says so, and the general road is taken.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import inf
from typing import TYPE_CHECKING, Any

from backtrader import Order
from backtrader.order import OrderExecutionBit

from .comminfo import PerpCommInfo
from .core.account import Booking, Position
from .core.booking import book_lone_fill
from .core.contract import LOT_SLACK, RESIDUE, split_fill
from .core.ledger import CROSS, MONEY_TOLERANCE
from .core.orders import Resting
from .core.tiers import maintenance_margin
from .hostorder import Family, snapshot
from .record import FillRow

if TYPE_CHECKING:
    from .broker import MarginBroker
    from .clock import BarClock
    from .desk import OrderDesk
    from .slots import Slot

EPOCH = datetime(1970, 1, 1)  # naive, as the host's times are

# What a broker's class, or a broker itself by its first bar, may have a way of its own of doing: then all goes the general road.
STEPS = (
    *("buy", "sell", "submit", "transmit", "notify", "claim", "check_submitted", "submit_accept", "getcommissioninfo", "reduces"),
    *("net_of", "place", "_ocoize", "_rejection", "_take_side", "_take_children", "_as_resting", "_accept_at_once", "_fee_rate"),
    *("_try_exec", "_try_exec_market", "_execute", "_show_fill", "_keep_lots", "_ococheck", "_bracketize", "match_lone", "note_change"),
)


def is_usual_contract(slot: "Slot", comminfo: PerpCommInfo) -> bool:
    """Whether the orders of a slot may take the short road as far as its contract goes."""
    position = slot.position
    contract, terms = position.contract, position.orders
    has_filters = contract.min_size or contract.min_notional or contract.max_size != inf
    return bool(
        type(comminfo) is PerpCommInfo
        and position.is_plain
        and contract.kind == "linear"
        and slot.side is None
        and not has_filters
        and not terms.needs_prices
    )


def goes_its_own_way(broker: Any, base: type) -> bool:
    """Whether a broker overrides any of the steps that the short road leaves out."""
    own = vars(broker)
    return any(name in own or getattr(type(broker), name) is not getattr(base, name) for name in STEPS)


# -- sent ----------------------------------------------------------------------------------------------------------------


def send_market(broker: "OrderDesk", kind: type[Order], owner: Any, data: Any, size: float, tradeid: Any, exectype: int | None) -> Any:
    """Send a market order with nothing besides as ``OrderDesk.place`` does, and return it; None where that is not certain."""
    legs = broker._legs_by_data.get(id(data))
    if legs is None or not legs[0].is_usual or broker.goes_its_own_way or not broker.p.checksubmit:
        return None
    slot, contract = legs[0], legs[0].position.contract
    line = slot.clock_line
    stamp, close = line.array[line._idx], slot.close_line[0]
    if not (line.lencount and 0 < size < inf and 0 < close < inf and data._tz is None):
        return None
    if contract.lot:
        whole = contract.floor_size(size)
        if not whole or abs(whole - size) > LOT_SLACK * contract.lot or broker.p.filters != "round":
            return None
        size = whole
    if broker._owners.setdefault(id(data), owner) is not owner:
        return None
    order = broker._maker.make_market(kind, owner, data, size, tradeid, exectype, stamp, close)
    ref, lull = order.ref, broker.lull
    broker._ocos[ref] = ref
    broker._ocol[ref] = [ref]
    broker._order_versions[ref] = slot.version + (
        lull.last - slot.count if lull.is_on else 0
    )  # the slot need not be brought up to the present bar
    broker._pchildren[ref] = Family((order,))
    order.status, order.plen = Order.Submitted, line.lencount
    broker.submitted.append(order)
    broker.orders.append(order)
    lull.interrupt()
    broker._available = None
    broker.notifs.append(snapshot(order))
    return order


# -- accepted ------------------------------------------------------------------------------------------------------------


def accept_market(broker: "OrderDesk", order: Order) -> bool:
    """Accept a market order that clearly fits as ``OrderDesk._accept_at_once`` does; False where it is not of the usual kind."""
    slot, account, held = broker._legs_by_data[id(order.data)][0], broker.account, broker.clock.held
    position, size, price = slot.position, order.executed.remsize, order.created.price
    if broker.goes_its_own_way or not slot.is_usual or account._resting or account.legs or position.wallet != CROSS:
        return False
    if (held and (len(held) > 1 or held[0][1] is not position)) or (not position.size and slot.open_time >= slot.next_tiers):
        return False
    contract, leverage = position.contract, position.leverage
    closed, opened = split_fill(position.size, size)
    taker, worth = contract.taker, contract.multiplier * price
    opening, available = abs(opened) * worth, account.wallets[CROSS]
    needed, gross = opening / leverage + opening * max(taker, 0.0), opening
    if position.size:
        mark_price = broker._marks[slot.symbol]
        available += position.unrealized_pnl(mark_price) - position.notional(mark_price) / leverage
        if closed:
            mark_worth, closing = contract.multiplier * mark_price, abs(closed)
            needed -= min(closing * (mark_worth / leverage - abs(worth - mark_worth) - worth * abs(taker)), 0.0)
            gross += closing * (worth + mark_worth)
    if not needed + MONEY_TOLERANCE * (gross + abs(available)) <= available < inf:
        return False
    if (abs(opened) + abs(position.size)) * worth * (1 + MONEY_TOLERANCE) > position.table.max_notional(leverage):
        return False
    fee_rate = max(taker, 0.0) if position.orders.counts_fee else 0.0
    account.reserve(Resting(order.ref, slot.symbol, broker._ocos[order.ref], size, price, price, fee_rate, 0.0, "market"))
    order.pannotated = order.broker = None
    order.status, order.plen = Order.Accepted, slot.clock_line.lencount
    broker.pending.append(order)
    broker._available = None  # no lull is on
    broker.notifs.append(snapshot(order))
    return True


# -- filled --------------------------------------------------------------------------------------------------------------


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
    if not _fill(broker, slot, order):
        broker.match_lone(order)
    clock.held = [(slot, position)] if position.size else []
    clock.marks[slot.symbol] = mark_price = slot.mark_close
    if len(fills) > clock.fills_before:
        if position.size and broker.lull.begin_here(slot, position):
            return True
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
        or order.data is not slot.data
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


def _fill(broker: "MarginBroker", slot: "Slot", order: Order) -> bool:
    """Fill an order at the open as ``match_lone`` does, whole; False, and nothing done, where that takes a closer look."""
    account, position, ref = broker.account, slot.position, order.ref
    executed, price = order.executed, slot.open
    if not slot.is_usual or broker.goes_its_own_way or account.legs or order.info or executed.size:
        return False
    resting = account._resting
    if order.parent is not None or (resting and [*resting] != [ref]) or slot.day_number <= order.created.dt:
        return False
    size, held, entry_price = executed.remsize, position.size, position.entry_price
    taker, mark_price = position.contract.taker, slot.mark_open
    booked = book_lone_fill(account, position, size=size, price=price, fee_rate=taker, mark_price=mark_price, time=broker.now)
    if booked is None:
        return False
    account.release(ref)
    broker.pending.clear()
    _show(broker, slot, order, booked, held, entry_price)
    fee = booked.closing_fee + booked.opening_fee
    broker._record.fills.append(FillRow(broker.now, slot.symbol, size, price, fee, booked.realized_pnl, False, False, ref))
    broker._available = None
    broker._order_versions.pop(ref, None)
    broker._first_tries.pop(ref, None)
    broker.notifs.append(snapshot(order))
    broker._ocol.pop(broker._ocos[ref], None)
    children = broker._pchildren[ref]
    del children[0]
    if children:
        broker._toactivate.extend(children)
    return True


def _show(broker: "MarginBroker", slot: "Slot", order: Order, booked: Booking, held: float, entry_price: float) -> None:
    """Mirror a whole fill into the host's position and order as ``MarginBroker._show_fill`` does; what was ``held`` before."""
    position, data, executed, price = slot.position, order.data, order.executed, slot.open
    lots, key, line = slot.lots, (order.owner, order.tradeid), slot.clock_line
    size, after, closed, opened = executed.remsize, position.size, booked.closed, booked.opened
    lot = lots.get(key)
    if (closed == -held or not after) and lot is not None and len(lots) == 1:
        closed = -lot
    shown, seconds = broker.positions[data], slot.close_time
    is_whole = slot.is_bulk and line._tz is None and seconds % 1 == 0.0
    shown.update(size, price, EPOCH + timedelta(seconds=seconds) if is_whole else line.datetime())
    shown.size, shown.price = after, position.entry_price
    multiplier = position.contract.multiplier  # that of the comminfo, which the contract was made of
    closed_value = abs(closed) * multiplier * entry_price * (1 if closed < 0 else -1) if closed else 0.0
    opened_value = abs(opened) * multiplier * price * (1 if opened > 0 else -1) if opened else 0.0
    bit = OrderExecutionBit(
        *(line.array[line._idx], size, price, closed, closed_value, booked.closing_fee, opened, opened_value, booked.opening_fee),
        *(booked.realized_pnl, after, position.entry_price),
    )
    executed.addbit(bit)
    executed.margin = abs(size) * multiplier * price / position.leverage
    order.status = Order.Partial if executed.remsize else Order.Completed
    order.comminfo = broker.getcommissioninfo(data)
    lots[key] = left = (lot or 0.0) + closed + opened
    if not after:
        lots.clear()
    elif abs(left) < RESIDUE * abs(after):
        del lots[key]


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
