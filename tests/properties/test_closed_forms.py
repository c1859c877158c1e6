"""The calculator's prices against the account inequality itself, on random accounts, and the laws they keep.

The inequality is computed here a second way, from the fields of an account: maintenance as the sum over the tiers climbed,
one wallet at a time. Between two edges of a tier table everything is a line in the price (or in 1 / price), so a wallet
that is safe at both ends of such a stretch is safe all along it, and bisection needs to look at one stretch only.
"""

from copy import deepcopy
from itertools import pairwise
from math import inf, isfinite, nextafter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bt_margin.calculator import evaluate

KINDS = ("linear", "inverse")
UNITS = ("quote", "base", "contracts")
TAKER = 0.0006
FAR = 1e4  # how far from the mark a price is looked for, as a factor
few = settings(max_examples=30, deadline=None)


# The inequality


def notional(position, price):
    gross = abs(position["size"]) * position["multiplier"]
    return gross / price if position["contract_type"] == "inverse" else gross * price


def profit(position, price):
    units, entry = position["size"] * position["multiplier"], position["entry_price"]
    return units * (1 / entry - 1 / price) if position["contract_type"] == "inverse" else units * (price - entry)


def measure(position, price):
    """What the tiers count; the notional where they count money of the position's own kind."""
    moving = "base" if position["contract_type"] == "inverse" else "quote"
    sizes = {"contracts": abs(position["size"]), moving: notional(position, price)}
    return sizes.get(position["tier_unit"], abs(position["size"]) * position["multiplier"])


def by_tiers(position, price):
    held = measure(position, price)
    if position["tier_mode"] == "slab":
        rate = next((row["rate"] for row in position["tiers"] if held <= (row["cap"] or inf)), position["tiers"][-1]["rate"])
        return notional(position, price) * rate
    floors = [0.0, *(row["cap"] for row in position["tiers"][:-1])]
    caps = [*floors[1:], inf]
    parts = sum(row["rate"] * max(min(held, cap) - floor, 0.0) for row, floor, cap in zip(position["tiers"], floors, caps, strict=True))
    return notional(position, price) * parts / held


def is_isolated(account, position):
    return (position.get("margin_mode") or account["margin_mode"]) == "isolated"


def bankruptcy_fee(position, price):
    side = 1 if position["size"] > 0 else -1
    sign = side if position["contract_type"] == "inverse" else -side
    return TAKER * notional(position, price) * (1 + sign / position["leverage"])


def maintenance(account, position, mark):
    price = position["entry_price"] if account["maintenance_basis"] == "entry" else mark
    fee = {"none": 0.0, "notional": TAKER * notional(position, price), "bankruptcy": bankruptcy_fee(position, price)}
    if account["fee_in_margin"] == "bankruptcy" and is_isolated(account, position):
        return by_tiers(position, price) + bankruptcy_fee(position, position["entry_price"])
    return by_tiers(position, price) + fee[account["fee_in_margin"]]


def wallet_of(account, number):
    """The positions that stand on the same money as one of them, and that money."""
    position = account["positions"][number]
    if not is_isolated(account, position):
        return [other for other in account["positions"] if not is_isolated(account, other)], account["wallet_balance"]
    margin = position["isolated_margin"]
    if margin is None:
        margin = notional(position, position["entry_price"]) / position["leverage"]
    fee = bankruptcy_fee(position, position["entry_price"]) if account["fee_in_margin"] == "bankruptcy" else 0.0
    return [position], margin + fee


def headroom(account, number, price):
    """Equity less maintenance of a position's wallet with its contract at a price and the others at their marks."""
    held, money = wallet_of(account, number)
    symbol = account["positions"][number]["symbol"]
    marks = [price if other["symbol"] == symbol else other["mark_price"] for other in held]
    pairs = list(zip(held, marks, strict=True))
    return money + sum(profit(other, mark) for other, mark in pairs) - sum(maintenance(account, other, mark) for other, mark in pairs)


def edges(account, number):
    """The prices at which the tier of a position of this contract changes, from both sides."""
    position, found = account["positions"][number], []
    for other in (other for other in account["positions"] if other["symbol"] == position["symbol"]):
        gross = abs(other["size"]) * other["multiplier"]
        for row in other["tiers"][:-1]:
            price = gross / row["cap"] if other["contract_type"] == "inverse" else row["cap"] / gross
            found += [price * (1 - 1e-13), price * (1 + 1e-13)]
    return found


def first_failure(account, number, *, upward):
    """The first price on the way from the mark at which the wallet fails, None where there is none within reach."""
    mark = account["positions"][number]["mark_price"]
    end = mark * FAR if upward else mark / FAR
    stops = sorted((edge for edge in edges(account, number) if min(mark, end) < edge < max(mark, end)), reverse=not upward)
    for start, stop in pairwise([mark, *stops, end]):
        if headroom(account, number, stop) <= 0:
            return bisected(account, number, safe=start, failed=stop)
    return None


def nearest_failure(account, number):
    """The failure nearest to the mark on either side of it, None where there is none within reach."""
    mark = account["positions"][number]["mark_price"]
    found = [first_failure(account, number, upward=upward) for upward in (True, False)]
    return min((price for price in found if within_reach(price, mark)), key=lambda price: abs(price - mark), default=None)


def bisected(account, number, *, safe, failed):
    for _ in range(60):
        middle = (safe * failed) ** 0.5
        safe, failed = (middle, failed) if headroom(account, number, middle) > 0 else (safe, middle)
    return failed


# The accounts


def tables(kind, unit, size, multiplier, entry):
    """Tables whose edges lie where the position is."""
    gross = size * multiplier
    here = {
        "contracts": size,
        "quote": gross if kind == "inverse" else gross * entry,
        "base": gross / entry if kind == "inverse" else gross,
    }
    step = st.tuples(st.floats(1.05, 3), st.floats(1.1, 2.5))

    def rows(start, first_rate, steps):
        cap, rate, table = here[unit] * start, first_rate, []
        for further, steeper in steps:
            table.append({"cap": cap, "rate": rate, "amount": None, "max_leverage": None})
            cap, rate = cap * further, min(rate * steeper, 0.5)
        return [*table, {"cap": None, "rate": rate, "amount": None, "max_leverage": None}]

    return st.builds(rows, st.floats(0.1, 1.5), st.floats(0.001, 0.03), st.lists(step, max_size=4))


@st.composite
def positions(draw, symbol, kind, mode=None):
    size, multiplier = draw(st.floats(0.01, 1_000)), draw(st.sampled_from((1, 0.01, 100)))
    entry = draw(st.floats(0.5, 5_000))
    unit = draw(st.sampled_from(UNITS))
    is_short = draw(st.booleans())
    return {
        "symbol": symbol,
        "size": -size if is_short else size,
        "entry_price": entry,
        "mark_price": entry * draw(st.floats(0.85, 1.15)),
        "contract_type": kind,
        "multiplier": multiplier,
        "leverage": draw(st.floats(1.2, 60)),
        "margin_mode": mode or draw(st.sampled_from(("cross", "isolated", None))),
        "isolated_margin": None,
        "taker_fee": TAKER,
        "tiers": draw(tables(kind, unit, size, multiplier, entry)),
        "tier_mode": draw(st.sampled_from(("marginal", "slab"))),
        "tier_unit": unit,
    }


@st.composite
def accounts(draw, *, largest=3, mode=None, fees=("none", "notional", "bankruptcy")):
    kind = draw(st.sampled_from(KINDS))
    held = [draw(positions(f"C{number}", kind, mode)) for number in range(draw(st.integers(1, largest)))]
    gross = sum(notional(position, position["entry_price"]) for position in held)
    return {
        "venue": "generic",
        "margin_mode": draw(st.sampled_from(("cross", "isolated"))),
        "wallet_balance": gross * draw(st.floats(0.02, 1.5)),
        "maintenance_basis": draw(st.sampled_from(("mark", "mark", "entry"))),
        "fee_in_margin": draw(st.sampled_from(fees)),
        "positions": held,
    }


def moved(account, number, price):
    """The account with one contract at another mark."""
    trial = deepcopy(account)
    for position in trial["positions"]:
        if position["symbol"] == account["positions"][number]["symbol"]:
            position["mark_price"] = price
    return trial


def scale_of(account):
    return (
        sum(notional(p, price) for p in account["positions"] for price in (p["entry_price"], p["mark_price"])) + account["wallet_balance"]
    )


def within_reach(price, mark):
    return price is not None and mark / FAR * 1.01 < price < mark * FAR / 1.01


# The laws


@few
@given(account=accounts())
def test_the_closed_form_equals_bisection_on_the_account_inequality(account):
    for number, position in enumerate(evaluate(account)["positions"]):
        price, mark = position["liquidation_price"], position["mark_price"]
        # At a hair's breadth from failing, rounding decides which side of the boundary an account is on.
        if headroom(account, number, mark) <= 1e-9 * scale_of(account):
            continue
        found = nearest_failure(account, number)
        if within_reach(price, mark):
            assert price == pytest.approx(found, rel=1e-9)
        else:
            assert found is None or (price is not None and abs(price - mark) < abs(found - mark))


@few
@given(account=accounts(largest=1))
def test_at_the_liquidation_price_equity_is_maintenance_or_jumps_past_it(account):
    position = evaluate(account)["positions"][0]
    price = position["liquidation_price"]
    assume(within_reach(price, position["mark_price"]))
    account["wallet_balance"] *= not is_isolated(account, account["positions"][0])  # the isolated position's money alone
    there = evaluate(moved(account, 0, price))
    gap = there["equity"] - there["maintenance_margin"]
    if abs(gap) <= 1e-9 * scale_of(moved(account, 0, price)):
        return
    towards = inf if position["contract_type"] == "inverse" else 0.0  # to the lower tier
    assert there["liquidatable"] and position["tier_mode"] == "slab"
    assert not evaluate(moved(account, 0, nextafter(price, towards)))["liquidatable"]


@few
@given(account=accounts())
def test_the_account_is_liquidatable_exactly_where_a_wallet_of_it_has_failed(account):
    rooms = [headroom(account, number, position["mark_price"]) for number, position in enumerate(account["positions"])]
    assume(min(map(abs, rooms)) > 1e-9 * scale_of(account))
    assert evaluate(account)["liquidatable"] == (min(rooms) <= 0)


@few
@given(account=accounts())
def test_bankruptcy_lies_beyond_liquidation(account):
    for position in evaluate(account)["positions"]:
        price, broke = position["liquidation_price"], position["bankruptcy_price"]
        if price is not None and broke is not None:
            assert (price - broke) * position["size"] >= -1e-9 * abs(price * position["size"])


@few
@given(account=accounts(largest=1, mode="cross", fees=("none", "notional")))
def test_one_cross_position_is_an_isolated_one_with_the_same_money(account):
    alone = deepcopy(account)
    alone["positions"][0] |= {"margin_mode": "isolated", "isolated_margin": account["wallet_balance"]}
    alone["wallet_balance"] = 0
    (cross,), (isolated,) = evaluate(account)["positions"], evaluate(alone)["positions"]
    for figure in ("maintenance_margin", "liquidation_price", "bankruptcy_price", "unrealized_pnl", "tier"):
        assert cross[figure] == isolated[figure]


@few
@given(account=accounts(largest=1, mode="isolated", fees=("none",)))
def test_a_closing_fee_at_bankruptcy_cancels_out_of_an_isolated_liquidation_price(account):
    with_fee = {**account, "fee_in_margin": "bankruptcy"}
    plain, kept = evaluate(account)["positions"][0], evaluate(with_fee)["positions"][0]
    assert kept["liquidation_price"] == pytest.approx(plain["liquidation_price"], rel=1e-9)
    assert kept["maintenance_margin"] > plain["maintenance_margin"]
    assert kept["initial_margin"] > notional(account["positions"][0], plain["entry_price"]) / plain["leverage"]


@few
@given(account=accounts(), factor=st.floats(0.01, 100))
def test_prices_and_money_times_k_with_the_tables_scaled_give_prices_times_k(account, factor):
    larger = deepcopy(account)
    is_inverse = account["positions"][0]["contract_type"] == "inverse"
    larger["wallet_balance"] *= 1 / factor if is_inverse else factor
    for position in larger["positions"]:
        for name in ("entry_price", "mark_price"):
            position[name] *= factor
        moving = 1 / factor if is_inverse and position["tier_unit"] == "base" else factor
        if (position["tier_unit"] == "base") == is_inverse and position["tier_unit"] != "contracts":
            scale_caps(position, moving)
    compare(account, larger, factor)


@few
@given(account=accounts(), factor=st.floats(0.01, 100))
def test_sizes_and_money_times_k_with_the_tables_scaled_leave_the_prices(account, factor):
    larger = deepcopy(account)
    larger["wallet_balance"] *= factor
    for position in larger["positions"]:
        position["size"] *= factor
        scale_caps(position, factor)
    compare(account, larger, 1.0)


def scale_caps(position, factor):
    for row in position["tiers"]:
        row["cap"] = row["cap"] and row["cap"] * factor


def compare(account, other, factor):
    """Expect the prices of one account, times a factor, in the other."""
    pairs = zip(evaluate(account)["positions"], evaluate(other)["positions"], strict=True)
    for number, (one, two) in enumerate(pairs):
        is_at_edge = abs(headroom(account, number, one["mark_price"])) <= 1e-9 * scale_of(account)
        for figure in ("liquidation_price", "bankruptcy_price"):
            # Near a tier's edge, or with next to nothing left, rounding may tip the case over.
            if not is_at_edge and within_reach(one[figure], one["mark_price"]):
                assert two[figure] == pytest.approx(one[figure] * factor, rel=1e-8)


@few
@given(account=accounts(largest=1, fees=("none", "notional")))
def test_an_inverse_position_is_a_linear_one_of_the_other_side_in_one_over_the_price(account):
    mirror = deepcopy(account)
    (position,) = mirror["positions"]
    position["size"] *= -1
    for name in ("entry_price", "mark_price"):
        position[name] = 1 / position[name]
    other = {"linear": "inverse", "inverse": "linear"}
    position["contract_type"] = other[position["contract_type"]]
    position["tier_unit"] = {"quote": "base", "base": "quote"}.get(position["tier_unit"], "contracts")
    one, two = evaluate(account)["positions"][0], evaluate(mirror)["positions"][0]
    for figure in ("notional", "unrealized_pnl", "initial_margin", "maintenance_margin"):
        assert two[figure] == pytest.approx(one[figure], rel=1e-9, abs=1e-9 * scale_of(account))
    assume(abs(headroom(account, 0, one["mark_price"])) > 1e-9 * scale_of(account))
    for figure in ("liquidation_price", "bankruptcy_price"):
        if within_reach(one[figure], one["mark_price"]):
            assert 1 / two[figure] == pytest.approx(one[figure], rel=1e-8)


@few
@given(account=accounts(largest=1))
def test_reflected_prices_and_a_turned_side_reflect_the_prices_that_know_the_entry_alone(account):
    (position,) = account["positions"]
    assume(position["contract_type"] == "linear")
    account |= {"maintenance_basis": "entry", "fee_in_margin": "none"}
    mirror = deepcopy(account)
    mirror["positions"][0]["size"] *= -1
    mirror["positions"][0]["mark_price"] = 2 * position["entry_price"] - position["mark_price"]
    one, two = evaluate(account)["positions"][0], evaluate(mirror)["positions"][0]
    assert two["unrealized_pnl"] == pytest.approx(one["unrealized_pnl"], rel=1e-9, abs=1e-9 * scale_of(account))
    for figure in ("liquidation_price", "bankruptcy_price"):
        if one[figure] is not None and two[figure] is not None:
            assert one[figure] + two[figure] == pytest.approx(2 * position["entry_price"], rel=1e-9)


@st.composite
def jumps(draw):
    """A slab position whose wallet bears the rate on one side of an edge ahead of it and not the one on the other."""
    kind = draw(st.sampled_from(KINDS))
    losing = {"linear": -1, "inverse": 1}[kind]
    size, entry, ahead = draw(st.floats(0.01, 1_000)) * losing, draw(st.floats(0.5, 5_000)), draw(st.floats(1.001, 1.2))
    edge = entry / ahead if kind == "inverse" else entry * ahead
    rate, steeper = draw(st.floats(0.001, 0.05)), draw(st.floats(0.06, 0.2))
    terms = {"contract_type": kind, "multiplier": 1, "leverage": 10, "taker_fee": 0, "tier_mode": "slab"}
    position = {**terms, "symbol": "C", "size": size, "entry_price": entry, "mark_price": entry, "margin_mode": "cross"}
    cap = notional(position, edge)
    position |= {
        "tier_unit": "base" if kind == "inverse" else "quote",
        "tiers": [{"cap": cap, "rate": rate}, {"cap": None, "rate": steeper}],
    }
    equity = cap * draw(st.floats(rate * 1.01, steeper * 0.99))
    account = {"maintenance_basis": "mark", "fee_in_margin": "none", "margin_mode": "cross", "positions": [position]}
    return account | {"wallet_balance": equity - profit(position, edge)}, cap


@few
@given(case=jumps())
def test_where_no_tier_fits_the_wallet_fails_at_the_first_price_past_the_edge(case):
    account, cap = case
    (position,) = account["positions"]
    price = evaluate(account)["positions"][0]["liquidation_price"]
    back = inf if position["contract_type"] == "inverse" else 0.0
    assert notional(position, price) > cap >= notional(position, nextafter(price, back))
    assert evaluate(moved(account, 0, price))["liquidatable"]
    assert not evaluate(moved(account, 0, nextafter(price, back)))["liquidatable"]


@st.composite
def hedges(draw):
    """Two legs of one contract in cross margin, under one table."""
    kind = draw(st.sampled_from(KINDS))
    one = draw(positions("H", kind, "cross"))
    other = {**one, "size": -one["size"] * draw(st.floats(0.1, 0.9)), "entry_price": one["mark_price"] * draw(st.floats(0.9, 1.1))}
    gross = notional(one, one["mark_price"]) + notional(other, one["mark_price"])
    terms = {
        "maintenance_basis": "mark",
        "fee_in_margin": "none",
        "margin_mode": "cross",
        "wallet_balance": gross * draw(st.floats(0.05, 1)),
    }
    return {**terms, "positions": [one, other]}


@few
@given(account=hedges())
def test_the_legs_of_a_hedge_share_the_price_at_which_their_wallet_fails(account):
    one, two = evaluate(account)["positions"]
    assert one["liquidation_price"] == two["liquidation_price"]
    assert one["bankruptcy_price"] == two["bankruptcy_price"]
    mark, net = one["mark_price"], one["size"] + two["size"]
    rates = [row["rate"] for row in one["tiers"]]
    # Where the net side is so small that maintenance outgrows it, the losing side is the other one.
    assume(headroom(account, 0, mark) > 1e-9 * scale_of(account) and abs(net) > 1.01 * max(rates) * (abs(one["size"]) + abs(two["size"])))
    found = nearest_failure(account, 0)
    if within_reach(one["liquidation_price"], mark):
        assert one["liquidation_price"] == pytest.approx(found, rel=1e-9)


@few
@given(account=accounts())
def test_what_comes_out_is_plain_finite_data_and_what_went_in_is_untouched(account):
    before = deepcopy(account)
    sheet = evaluate(account)
    assert account == before
    figures = [figure for part in (sheet, sheet["margin_ratio"], *sheet["positions"]) for figure in part.values()]
    assert all(isfinite(figure) for figure in figures if isinstance(figure, float))
    assert {name: sheet[name] for name in account if name != "positions"} == {
        name: account[name] for name in account if name != "positions"
    }
