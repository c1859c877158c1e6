"""Sizes from the sizers themselves, on random tiers: after the fill the account's own liquidation price lies where it should."""

from itertools import pairwise

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from playing import frame, play

from bt_margin import TierTable, sizers

few = settings(max_examples=60, deadline=None)
STILL = (100, 100, 100, 100)
NEAR = 1e-9


@st.composite
def terms(draw):
    """Return a contract's terms with one to four tiers; an inverse one is worth 100 in coin where a linear one is 10 000."""
    kind = draw(st.sampled_from(["linear", "inverse"]))
    unit = 1.0 if kind == "linear" else 0.01
    rates = sorted(draw(st.lists(st.floats(0.002, 0.04), min_size=1, max_size=4)))
    caps = sorted(draw(st.lists(st.floats(500, 60_000), min_size=len(rates) - 1, max_size=len(rates) - 1, unique=True)))
    assume(all(high > 1.01 * low for low, high in pairwise(caps)))
    rows = [(cap * unit, rate, 20) for cap, rate in zip([*caps, None], rates, strict=True) if cap is not None]
    mode = draw(st.sampled_from(["marginal", "slab"]))
    table = TierTable.from_rows([*rows, (None, rates[-1], 20)], mode=mode, unit="base" if kind == "inverse" else "quote")
    mult = draw(st.sampled_from([0.1, 1.0])) * (1.0 if kind == "linear" else 100)
    fee = draw(st.sampled_from([0.0, 0.0005]))
    return {"kind": kind, "tiers": table, "mult": mult, "leverage": 20, "commission": fee, "currency": "X"}


def filled(text, stop, side, contract, **account):
    """Return the broker after the order that a rule makes of a stop, and what it decided."""

    def stop_for(data, isbuy):
        return stop

    def order(strategy):
        strategy.stop_for = stop_for
        strategy.setsizer(sizers.make(text))
        (strategy.buy if side > 0 else strategy.sell)()

    cash = 1_000 if contract["kind"] == "linear" else 10
    rows = [(100, 100.5, 99.5, 100)] * 4 + [STILL] * 2
    strategy = play({4: order}, frame(rows), terms=contract, cash=cash, **account)
    return strategy.broker, strategy.data, strategy.getsizer().decisions[-1]


@few
@given(contract=terms(), side=st.sampled_from([1, -1]), distance=st.floats(0.5, 30), beyond=st.floats(0, 3))
def test_liquidation_lies_beyond_the_stop_and_just_there_where_the_size_is_not_bound_by_what_is_available(contract, side, distance, beyond):
    stop = 100 - side * distance
    text = f"liquidation:atr=3,spare=0,beyond={beyond}"
    broker, data, decision = filled(text, stop, side, contract, margin_mode="cross")
    assert decision.size > 0
    price = broker.liquidation_price(data)
    at = stop - side * beyond  # the ranges are of 1
    assert price is None or (at - price) * side >= -NEAR * at
    if distance + beyond > 7 and contract["tiers"].mode == "marginal":  # so far away 20x is more than is asked for
        assert price is not None
        assert abs(price - at) <= 1e-6 * at


@few
@given(contract=terms(), side=st.sampled_from([1, -1]), distance=st.floats(0.5, 30), fraction=st.floats(0.001, 0.5))
def test_isolated_margin_puts_liquidation_beyond_the_stop(contract, side, distance, fraction):
    stop = 100 - side * distance
    broker, data, decision = filled(f"isolated:atr=3,fraction={fraction}", stop, side, contract, margin_mode="isolated")
    assert decision.size > 0
    price = broker.liquidation_price(data)
    assert price is None or (stop - side - price) * side >= -NEAR * stop
    assert decision.leverage == int(decision.leverage)
