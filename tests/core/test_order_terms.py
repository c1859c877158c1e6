"""What resting orders are margined by, each figure by hand."""

from math import inf

import pytest

from bt_margin import Contract, OrderTerms, PerpCommInfo
from bt_margin.core.orders import Resting, opened_by, openings, sides


def order(size, *, ref=1, group=None, price=100.0, rests_as="limit", share=1.0):
    return Resting(ref, "AAA", ref if group is None else group, size, price, price, 0.0, rests_as=rests_as, share=share)


def worth(resting, opened):
    return abs(opened) * resting.margin_price


@pytest.mark.parametrize(
    ("terms", "size", "price", "expected"),
    [
        (OrderTerms(), 1, 90, 90),
        (OrderTerms(), -1, 90, 90),
        (OrderTerms(margin_price="quote"), 1, 110, 100),
        (OrderTerms(margin_price="quote"), -1, 90, 100),
        (OrderTerms(margin_price="quote"), -1, 110, 110),
        (OrderTerms(margin_price="assumed"), 1, 90, 90),
        (OrderTerms(margin_price="assumed"), -1, 90, 105),  # the mark
        (OrderTerms(margin_price="assumed"), -1, 120, 120),
    ],
)
def test_the_price_of_a_limit_is_by_the_terms(terms, size, price, expected):
    assert terms.price_of_limit(size=size, price=price, mark_price=105, last_price=100) == expected


def test_only_terms_that_look_at_prices_need_them():
    assert not OrderTerms().needs_prices
    assert OrderTerms(counts_loss=True).needs_prices
    assert OrderTerms(margin_price="quote").needs_prices


@pytest.mark.parametrize(("field", "value"), [("netting", "gross"), ("margin_price", "mark")])
def test_terms_that_no_venue_has_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} of order terms is one of .*, was '{value}'"):
        OrderTerms(**{field: value})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"order_terms": "binance"}, "order_terms is an OrderTerms, was 'binance'"),
        ({"max_size": True}, "max_size is a number, or inf for none, was True"),
        ({"tick": "0.1"}, "tick is a finite number, was '0.1'"),
        ({"min_size": inf}, "min_size is a finite number, was inf"),
    ],
)
def test_filters_that_are_no_numbers_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        PerpCommInfo(**given)


def test_market_orders_fill_in_turn_before_anything_else():
    """Held 2: a market sale of 3 opens 1, one of 2 opens 2, and the bid placed first then closes 3 of its 5."""
    book = [order(5, ref=1), order(-3, ref=2, rests_as="market"), order(-2, ref=3, rests_as="market")]
    assert openings(book, 2) == [2, -1, -2]


def test_a_member_of_a_group_is_not_moved_by_the_others():
    book = [order(-5, ref=1), order(5, ref=2, group=1, rests_as="market")]
    assert openings(book, 0) == [-5, 5]


def test_a_group_closes_as_its_largest_member():
    """Held 5: a group of asks of 2 and 4 closes 4, the ask behind it 1 of its 3."""
    book = [order(-2, ref=1), order(-4, ref=2, group=1), order(-3, ref=3)]
    assert openings(book, 5) == [0, 0, -2]
    assert opened_by(book[2], book[:2], 5) == -2


def test_a_share_of_a_need_is_a_share_of_what_is_set_aside():
    assert sides([order(2, share=0.25)], 0, worth).margin("larger_side") == 50


def test_a_group_that_may_buy_or_sell_counts_once_where_both_sides_do():
    pair = [order(2, ref=1, price=110.0), order(-2, ref=2, group=1, price=90.0), order(1, ref=3, price=50.0)]
    assert sides(pair, 0, worth).margin("both_sides") == 220 + 50
    assert sides(pair, 0, worth).margin("larger_side") == 270


@pytest.mark.parametrize(
    ("size", "price", "time", "expected"),
    [(1, 100, 0, True), (0.5, 100, 10, False), (1, 40, 10, False), (1, 50, 10, True), (0.5, 10, 9, True), (0, 100, 0, False)],
)
def test_a_contract_takes_what_its_filters_let_pass_from_their_day_on(size, price, time, expected):
    assert Contract(min_size=1, min_notional=50, filters_since=10).takes(size, price, time=time) is expected


@pytest.mark.parametrize(("lot", "edge"), [(0.0, 7.3), (0.1, 7.3), (0.001, 7.3), (1.0, 7.0)])
@pytest.mark.parametrize("most", [7.3, 50.0, 1e6])
def test_the_largest_size_is_found_whatever_bounds_the_search(lot, edge, most):
    assert Contract(lot=lot).largest_size(most, lambda size: size <= 7.3 + 1e-12) == pytest.approx(edge, rel=1e-11)


def test_no_size_is_found_where_none_fits():
    assert Contract(lot=1).largest_size(5, lambda size: size <= 0) == 0
    assert Contract().largest_size(-5, lambda size: size < 9) == 0
