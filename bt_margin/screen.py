"""Which bars may pass unwalked: those on which no wallet can reach its maintenance, whatever fills and in whichever order.

The screen may only err towards walking. It looks at every mark of the bar at its extremes, counts each possible fill as
done where that is worse, and funding due as paid.
"""

from collections.abc import Iterable, Sequence
from math import inf, nextafter
from typing import TYPE_CHECKING, Any

from backtrader import Order

from .core.account import Position
from .core.ledger import CROSS, MONEY_TOLERANCE
from .core.liquidation import jumps, least_headroom
from .core.tiers import maintenance_margin

if TYPE_CHECKING:
    from .broker import MarginBroker
    from .slots import Slot

Held = Sequence[tuple["Slot", Position]]


def is_safe(broker: "MarginBroker", held: Held, fresh: Iterable["Slot"]) -> bool:
    """Whether no wallet can reach its maintenance inside this bar, whatever fills and in whichever order.

    A bar in which several orders of a contract with finer bars could fill is not passed either.

    For every subset of the fills that could happen, equity less maintenance is concave in each mark, so its least
    value lies at the mark's extremes; there each possible fill counts as done if that is worse. Of positions that are
    not plain it is the least profit less the most maintenance. The screen may only err towards walking.
    """
    if any(slot.position.size and slot.next_stamp < slot.open_time for slot in fresh):
        return False  # a stamp in a gap of the data is judged at marks that this bar does not show
    wallets = broker.account.wallets
    if not broker.pending:
        return _is_held_safe(wallets, held)
    orders = broker.possible_fills()
    if any(len(fills) > 1 and broker.slots[symbol].detail is not None for symbol, fills in orders.items()):
        return False  # which of them came first is what finer bars are given for
    headroom = wallets[CROSS]
    holds_cross = False
    for slot, position in broker.touched_slots(held, orders):
        fills = orders.get(slot.symbol, ())
        if position.is_isolated:
            prices = _fill_prices(broker, slot, fills) if fills else ()
            if not is_isolated_safe(slot, position, wallets[position.wallet], fills, prices):
                return False
            headroom -= isolated_opening_cost(position, fills, prices)
            if position.contract.funding_debit == "free_first":
                headroom -= _funding_bound(slot, abs(position.size) + sum(abs(change) for change, _ in fills))
        else:
            holds_cross = True
            prices = _fill_prices(broker, slot, fills) if fills and not position.is_plain else ()
            headroom += worst_headroom(slot, position, fills, prices)
    return not holds_cross or headroom > 0


def is_single_safe(balance: float, slot: "Slot", position: Position) -> tuple[bool, float]:
    """Whether the one plain position of a wallet, without orders, is safe, and its headroom as a fraction of its notional.

    ``balance`` is the wallet's; the mark is the position's own adverse extreme.
    """
    units = position.size * position.contract.multiplier
    if units > 0:
        mark = slot.mark_low if slot.is_fresh else slot.mark_close
        notional = units * mark
    else:
        mark = slot.mark_high if slot.is_fresh else slot.mark_close
        notional = -units * mark
    headroom = balance + units * (mark - position.entry_price)
    for bracket in position.brackets:
        if notional <= bracket.cap:
            break
    headroom -= notional * bracket.rate - bracket.amount
    share = headroom / notional
    if slot.has_stamps_due():
        if slot.next_stamp < slot.open_time:
            return False, share
        headroom -= _funding_bound(slot, position.size)
    return headroom > 0, share


def _is_held_safe(wallets: dict[str, float], held: Held) -> bool:
    """The screen for positions without orders: each wallet with every position at its own adverse extreme."""
    headroom, holds_cross = wallets[CROSS], False
    for slot, position in held:
        share = plain_share(position, slot.worst_mark()) if position.is_plain else least_share(slot, position)
        if slot.has_stamps_due():
            bound = _funding_bound(slot, position.size)
            share -= bound
            if position.contract.funding_debit == "free_first" and position.is_isolated:
                headroom -= bound
        if position.wallet == CROSS:
            headroom += share
            holds_cross = True
        elif wallets[position.wallet] + share <= 0:
            return False
    return not holds_cross or headroom > 0


def _fill_prices(broker: "MarginBroker", slot: "Slot", fills: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the least and the greatest price that any of these fills could have, slippage included."""
    prices = [slot.low, slot.high, *(price for _, price in fills)]
    for order in broker.pending:
        is_of_old = order.exectype in (Order.Close, Order.Historical) or (broker.p.coc and order.exectype == Order.Market)
        if is_of_old and broker.slot_for(order) is slot:
            prices += [price for price in (order.created.price, order.created.pclose, order.pannotated) if price]
    return min(prices), max(prices)


def headroom_share(position: Position, mark_price: float) -> float:
    """Return what a position adds to its wallet's headroom: unrealized profit less maintenance margin."""
    return plain_share(position, mark_price) if position.is_plain else position.headroom(mark_price)


def plain_share(position: Position, mark_price: float) -> float:
    units = position.size * position.contract.multiplier
    return units * (mark_price - position.entry_price) - maintenance_margin(position.brackets, abs(units) * mark_price)


def least_share(slot: "Slot", position: Position) -> float:
    """Return the least that any position may add to its wallet's headroom inside a bar."""
    return least_headroom(position, *mark_range(slot))


def mark_range(slot: "Slot") -> tuple[float, float]:
    return (slot.mark_low, slot.mark_high) if slot.is_fresh else (slot.mark_close, slot.mark_close)


def worst_headroom(slot: "Slot", position: Position, fills: Sequence[tuple[float, float]], prices: Sequence[float]) -> float:
    """Return a lower bound of a cross position's profit less maintenance over the bar and over every subset of fills.

    ``prices`` are the least and the greatest price of these fills, which positions that are not plain depend on.
    """
    if not (fills or position.is_plain):
        return least_share(slot, position) - _funding_bound(slot, position.size)
    multiplier = position.contract.multiplier
    bought = sum(change for change, _ in fills if change > 0)
    sold = sum(change for change, _ in fills if change < 0)
    largest = max(abs(position.size + bought), abs(position.size + sold))
    paying = abs(position.size) + bought - sold if slot.grace else largest  # with a grace both sides of a reversal pay
    if not position.is_plain:
        ends = (position.size + bought, position.size + sold)
        return _least_profit(slot, position, fills) - _most_maintenance(slot, position, ends, prices) - _funding_bound(slot, paying)
    costs = sum(abs(change) * multiplier * price * _dearest_fee(position) for change, price in fills)
    worst = inf
    for mark in mark_range(slot):
        profit = position.unrealized_pnl(mark)
        profit += sum(min(change * multiplier * (mark - price), 0.0) for change, price in fills)
        worst = min(worst, profit - maintenance_margin(position.brackets, largest * multiplier * mark))
    return worst - costs - _funding_bound(slot, paying)


def _least_profit(slot: "Slot", position: Position, fills: Sequence[tuple[float, float]]) -> float:
    """Return the least that any position and any subset of its fills may earn over the bar, fees paid.

    Profits are straight lines in the mark (of an inverse contract in 1 / mark), and so is what is lost by the fills that
    lose a concave line: its least value lies at an end. A better price earns more than its fee changes.
    """
    contract, fee = position.contract, _dearest_fee(position)
    least = min(
        position.unrealized_pnl(mark)
        + sum(min(contract.unrealized_pnl(size=change, entry_price=price, mark_price=mark), 0.0) for change, price in fills)
        for mark in mark_range(slot)
    )
    return least - sum(contract.notional(change, price) * fee for change, price in fills)


def _most_maintenance(slot: "Slot", position: Position, ends: Sequence[float], prices: Sequence[float]) -> float:
    """Return the most that a cross position may maintain at any mark of the bar with any size between two ``ends`` (signed).

    By every table and under all terms more is maintained of a larger size of the same side, and at a dearer price.
    """
    dearest = _dearest_price(slot, position, prices)
    return max(0.0, *(position.holding(size, dearest).maintenance_margin(dearest) for size in ends if size))


def _dearest_price(slot: "Slot", position: Position, prices: Sequence[float]) -> float:
    """Return the price at which maintenance, or a fee kept with it, may be taken that gives a size its largest notional.

    ``prices`` are those at which it may be entered.
    """
    found, terms = [*mark_range(slot)], position.terms
    if terms.maintenance_basis == "entry" or (position.is_isolated and terms.fee_in_margin == "bankruptcy"):
        found += [*prices, position.entry_price] if position.size else prices
    return min(found) if position.contract.kind == "inverse" else max(found)


def is_isolated_safe(
    slot: "Slot", position: Position, balance: float, fills: Sequence[tuple[float, float]], prices: Sequence[float]
) -> bool:
    """Whether an isolated position and each of its possible fills keep a surplus of their own at both extremes.

    Closing a share scales balance, profit and (at most) maintenance alike, so surpluses stay surpluses in any order, as
    long as a fill that closes at the worst price leaves its share of the balance above zero.
    """
    if not position.is_plain:
        if fills:
            return _is_bounded_safe(slot, position, balance, fills, prices)
        return balance + least_share(slot, position) > _funding_bound(slot, position.size)
    multiplier, size = position.contract.multiplier, position.size
    low, high = mark_range(slot)
    same, other = _sides(size, fills)
    rate, fee = _rate_at(position, max(abs(size) + same, other - abs(size)) * multiplier * high), _dearest_fee(position)
    for mark in (low, high):
        headroom = balance + position.unrealized_pnl(mark) - position.maintenance_margin(mark)
        if size and headroom <= _funding_bound(slot, size):
            return False
    for change, price in fills:
        units = abs(change) * multiplier
        closes = size * change < 0
        if closes and balance + position.unrealized_pnl(price) <= position.notional(price) * fee:
            return False
        if closes and other <= abs(size):
            continue
        margin = units * price / position.leverage - _funding_bound(slot, change)
        judged = [(mark, rate * units * mark) for mark in (low, high)]
        judged += [(other_price, units * other_price * fee) for opposite, other_price in fills if opposite * change < 0]
        if any(margin + change * multiplier * (mark - price) <= least for mark, least in judged):
            return False
    return True


def _is_bounded_safe(
    slot: "Slot", position: Position, balance: float, fills: Sequence[tuple[float, float]], prices: Sequence[float]
) -> bool:
    """Whether the same holds of a position that is not plain, with no contract of it maintaining more than the dearest may.

    A surplus is a straight line in the mark and in the price of entry (of an inverse contract in their inverses), so its
    least value lies at their ends.
    """
    contract, size, fee = position.contract, position.size, _dearest_fee(position)
    same, other = _sides(size, fills)
    need, fee_kept = _most_per_contract(position, max(abs(size) + same, other - abs(size)), _dearest_price(slot, position, prices))
    if size:
        left, kept = balance - _funding_bound(slot, size), abs(size) * need + max(abs(size) * fee_kept, position.reserved_fee)
        judged = [(mark, kept) for mark in mark_range(slot)]
        judged += [(price, position.notional(price) * fee) for change, price in fills if size * change < 0]
        if any(left + position.unrealized_pnl(price) <= least for price, least in judged):
            return False
    for change, price in fills:
        if size * change < 0 and other <= abs(size):
            continue
        judged = [(mark, abs(change) * (need + fee_kept)) for mark in mark_range(slot)]
        judged += [(exit_price, contract.notional(change, exit_price) * fee) for opposite, exit_price in fills if opposite * change < 0]
        for entry in (price, prices[0] if change > 0 else prices[1]):
            given = position.opening_margin(change, entry) - _funding_bound(slot, change)
            if any(given + contract.unrealized_pnl(size=change, entry_price=entry, mark_price=at) <= least for at, least in judged):
                return False
    return True


def _most_per_contract(position: Position, largest: float, dearest: float) -> tuple[float, float]:
    """Return what one contract maintains at most of any size up to the largest, and the fee kept with it: inf where nothing bounds it."""
    terms, bracket = position.terms, position.table.bracket_at(position.measure(largest, dearest))
    worth = position.contract.notional(1.0, dearest)
    share = {"none": 0.0, "notional": 1.0, "bankruptcy": 1 + 1 / position.leverage}[terms.fee_in_margin]
    # The amount lowers what is maintained; one below 0, which only a lone tier may have, raises it however small the size is.
    return worth * bracket.rate if bracket.amount >= 0 else inf, worth * share * max(position.contract.taker, 0.0)


def isolated_opening_cost(position: Position, fills: Sequence[tuple[float, float]], prices: Sequence[float]) -> float:
    """Return the most that the fills can move from the cross wallet: margins and fees.

    The worst price of a sale, of an inverse contract that of a purchase, is the one at which its margin is least.
    """
    if not fills:
        return 0.0
    contract, fee = position.contract, _dearest_fee(position)
    is_inverse = contract.kind == "inverse"
    dearest = prices[0] if is_inverse else prices[1]
    at = [(change, worst if (change > 0) != is_inverse else dearest) for change, worst in fills]
    return sum(position.opening_margin(change, price) + contract.notional(change, price) * fee for change, price in at)


def _funding_bound(slot: "Slot", size: float) -> float:
    """Return the most that the stamps of this bar could cost a position of this size, of either sign."""
    if not slot.is_fresh or slot.schedule is None or not (slot.has_stamps_due() or slot.grace):
        return 0.0
    cost, contract = 0.0, slot.position.contract
    since = slot.funded_until if slot.position.size else max(slot.funded_until, slot.open_time)
    if slot.grace:
        since = min(since, nextafter(slot.open_time - slot.schedule.grace_seconds, -inf))
    for settlement in slot.schedule.between(since, slot.close_time):
        own = settlement.mark_price
        if contract.kind == "inverse":
            dearest = own if own < slot.mark_low else slot.mark_low
        else:
            dearest = own if own > slot.mark_high else slot.mark_high
        cost += contract.notional(size, dearest) * abs(settlement.rate)
    return cost


def _dearest_fee(position: Position) -> float:
    return max(position.contract.taker, position.contract.maker, 0.0)


def _sides(size: float, fills: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return how much the fills add to the side held and how much they take from it."""
    same = sum(abs(change) for change, _ in fills if change * size >= 0)
    other = sum(abs(change) for change, _ in fills if change * size < 0)
    return same, other


def _rate_at(position: Position, notional: float) -> float:
    for bracket in position.brackets:
        if notional <= bracket.cap:
            return bracket.rate
    return position.brackets[-1].rate


def moved_mark(position: Position, mark_price: Any, distance: float) -> Any:
    """Return a mark (or an array of them) after it has moved against a position by a fraction of itself, a long's no further than 0."""
    return mark_price * (1 - min(distance, 1.0)) if position.size > 0 else mark_price * (1 + distance)


def is_farther(position: Position, headroom: float, mark_price: float, distance: float) -> bool:
    """Whether the liquidation price of a position is farther from a mark than a fraction of it; False where that takes a closer look.

    ``headroom`` is that of its wallet at this mark. Of a plain position it is reckoned at the moved mark. Of another one, from
    headroom as a fraction of notional: of an inverse contract d / (1 + d) with d = headroom / (1 + rate) for a long, and
    d / (1 - d) with d = headroom / (1 - rate) for a short; else headroom / (1 - rate) for a long and headroom / (1 + rate)
    for a short, with rates from 0 to the last tier's. A jump may lie anywhere.
    """
    if position.is_plain:
        moved = moved_mark(position, mark_price, distance)
        slack = MONEY_TOLERANCE * position.notional(mark_price)
        return moved < inf and headroom - plain_share(position, mark_price) + plain_share(position, moved) > slack
    return headroom / position.notional(mark_price) >= _record_headroom(position, distance)


def _record_headroom(position: Position, distance: float) -> float:
    rate = position.brackets[-1].rate
    if jumps(position.brackets):
        return inf
    if position.contract.kind == "inverse":
        if position.size < 0:
            return distance
        return (1 + rate) * distance / (1 - distance) if distance < 1 else inf
    return min(distance, 1.0) if position.size > 0 else distance * (1 + rate)
