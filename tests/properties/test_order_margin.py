"""Margin of resting orders against a reference that fills them side by side, and sizes on the edge of what fits."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_margin import Contract, MarginAccount, TierSchedule, TierTable
from bt_margin.core.orders import OrderTerms, Resting

LEVERAGE = 4
MARKS = {"AAA": 100.0}

ORDER = st.tuples(
    st.integers(-8, 8).filter(bool),
    st.integers(80, 120),
    st.sampled_from(["limit", "limit", "stop", "market"]),
    st.integers(0, 6),  # the order whose OCO group it joins, if there is one of that number
)
BOOK = st.lists(ORDER, max_size=7)


def account_with(book, held, netting="larger_side", cash=1_000.0, lot=1.0, netted=True):
    account = MarginAccount()
    contract = Contract("AAA", lot=lot, tiers=TierSchedule.constant(TierTable.flat(0.0)))
    account.add_contract(contract, leverage=LEVERAGE, margin_mode="cross", orders=OrderTerms(netting=netting))
    account.deposit(cash, time=0)
    if held:
        account.apply_fill("AAA", size=held, price=100, fee_rate=0.0, time=0)
    for order in orders_of(book, grouped=netted):
        account.reserve(order)
    return account


def orders_of(book, *, grouped=True):
    orders: list[Resting] = []
    for ref, (size, price, rests_as, leader) in zip(count(1), book, strict=False):
        group = orders[leader].group if grouped and leader < len(orders) else ref
        orders.append(Resting(ref, "AAA", group, float(size), float(price), float(price), 0.0, rests_as=rests_as))
    return orders


def need_of_a_side(orders, held, side):
    """Fill the market orders, then the limits of one side in the order they were placed; each stop by itself. One of a group counts."""
    needs: dict[int, float] = {}
    for order in [order for order in orders if order.size * side > 0]:
        present = held + sum(
            other.size
            for place, other in enumerate(orders)
            if other.rests_as == "market" and other.group != order.group and (order.rests_as != "market" or place < orders.index(order))
        )
        if order.rests_as == "limit":
            present = after_limits(orders[: orders.index(order)], order, present, side)
        opened = abs(order.size) if present * side >= 0 else max(abs(order.size) - abs(present), 0.0)
        needs[order.group] = max(needs.get(order.group, 0.0), opened * order.price / LEVERAGE)
    return sum(needs.values())


def after_limits(before, order, present, side):
    sizes: dict[int, float] = {}
    for other in before:
        if other.rests_as == "limit" and other.group != order.group and other.size * side > 0:
            sizes[other.group] = max(sizes.get(other.group, 0.0), abs(other.size))
    for size in sizes.values():
        present = min(present + size, 0.0) if present < 0 < side else max(present - size, 0.0) if side < 0 < present else present
    return present


@given(BOOK, st.integers(-8, 8))
def test_the_larger_side_of_the_book_is_what_filling_side_by_side_would_need(book, held):
    orders = orders_of(book)
    needs = [need_of_a_side(orders, held, side) for side in (1, -1)]
    assert account_with(book, held).order_margin == pytest.approx(max(needs), rel=1e-12)


@given(BOOK, st.integers(-8, 8))
def test_order_margin_is_never_negative_nor_above_that_of_both_sides(book, held):
    larger, both, net = (account_with(book, held, netting).order_margin for netting in ("larger_side", "both_sides", "net_bids"))
    assert 0 <= larger <= both * (1 + 1e-12)
    assert net >= 0


@given(BOOK, st.integers(-8, 8))
def test_an_order_released_leaves_no_trace(book, held):
    account = account_with(book, held)
    before = account.order_margin
    account.reserve(Resting(99, "AAA", 99, 5.0, 100.0, 100.0, 0.0))
    account.release(99)
    assert account.order_margin == before
    for order in orders_of(book):
        account.release(order.ref)
    assert account.order_margin == 0


@given(BOOK, st.integers(-8, 8), st.sampled_from([-1, 1]), st.integers(80, 120), st.sampled_from(["larger_side", "both_sides", "net_bids"]))
def test_one_more_order_takes_what_it_adds_to_order_margin_or_nothing_where_it_only_closes(book, held, side, price, netting):
    account = account_with(book, held, netting, cash=100_000.0)
    order = Resting(99, "AAA", 99, 6.0 * side, float(price), float(price), 0.0)
    needed, before = account.needed_for(order), account.order_margin
    account.reserve(order)
    assert needed == pytest.approx(max(account.order_margin - before, 0), abs=1e-9)


@given(BOOK, st.integers(-8, 8), st.sampled_from([-1, 1]), st.integers(80, 120), st.sampled_from(["larger_side", "both_sides", "net_bids"]))
def test_the_largest_opening_fits_and_one_lot_more_does_not(book, held, side, price, netting):
    account = account_with(book, held, netting, cash=2_000.0)
    if account.available_margin(MARKS) < 0:
        return
    order = Resting(99, "AAA", 99, float(side), float(price), float(price), 0.0)
    account.apply_fill("AAA", size=-account.positions["AAA"].size or side, price=100, fee_rate=0.0, time=0)
    if account.available_margin(MARKS) < 0 or account.positions["AAA"].size * side < 0:
        return
    terms = {"price": price, "fee_rate": 0.0, "marks": MARKS}
    most = account.max_opening("AAA", **terms, is_short=side < 0, order=order)

    def refused(size):
        return account.refusal("AAA", size=size * side, **terms, order=order._replace(size=size * side))

    assert most == 0 or refused(most) is None
    assert refused(most + 1) is not None


@given(BOOK, st.sampled_from([-1, 1]), st.integers(80, 120), st.sampled_from([0.0, 0.1, 1.0]))
def test_the_largest_fill_fits_and_a_bit_more_does_not(book, side, price, lot):
    account = account_with(book, 0, cash=2_000.0, lot=lot)
    if account.available_margin(MARKS) < 0:
        return
    terms = {"price": price, "fee_rate": 0.0005, "marks": MARKS}
    most = account.max_opening("AAA", **terms, is_short=side < 0)
    assert most == 0 or account.refusal("AAA", size=most * side, **terms) is None
    assert account.refusal("AAA", size=(most + (lot or 1e-6)) * side, **terms) is not None
