"""What other backtesters were reported to get wrong about orders; each thread with a scenario that can be redone by hand.

The terms are those of ``playing``: 1 000 of cash, flat maintenance 1 %, 10x, no fees; here in cross unless a test says isolated.
"""

import backtrader as bt
import pytest
from playing import buy, close, frame, play, sell

from bt_margin.sizers import MarginFraction

STILL = (100, 100, 100, 100)
CROSS = {"margin_mode": "cross"}


def at(price):
    return (price,) * 4


def outcomes(strategy):
    return [(status, size) for status, size, *_ in strategy.orders.values()]


def info_of(strategy, number):
    return list(strategy.orders.values())[number][4]


def numbers(info):
    return info["needed"], info["available"], info["max_size"]


# -- refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (buy(size=101), (1_010, 1_000, 100)),
        (sell(size=250), (2_500, 1_000, 100)),
        (buy(size=120, exectype=bt.Order.Limit, price=90), (1_080, 1_000, 1_000 / 9)),
        (buy(size=100, exectype=bt.Order.Stop, price=125), (1_250, 1_000, 80)),
    ],
    ids=["market", "short", "limit", "stop"],
)
def test_a_refused_order_is_told_with_what_it_needed_what_there_was_and_what_would_have_fitted(order, expected):
    """kernc/backtesting.py#1334: orders were cancelled without a word. At 10x a size needs size x price / 10 of 1 000."""
    strategy = play({1: order}, frame([STILL] * 3), **CROSS)
    assert outcomes(strategy) == [("Margin", 0)]
    assert numbers(info_of(strategy, 0)) == pytest.approx(expected)
    (row,) = strategy.broker.record.refusals
    assert (row.needed, row.available, row.max_size) == pytest.approx(expected)


def test_a_refusal_has_a_code_that_a_program_can_read_and_a_sentence_for_people():
    """kernc/backtesting.py#1334: orders vanish and nothing says why. 101 at 100 and 10x need 1 010 of 1 000; 100 would fit."""
    strategy = play({1: buy(size=101)}, frame([STILL] * 3), **CROSS)
    info = info_of(strategy, 0)
    assert (info["reason"], info["needed"], info["available"], info["max_size"]) == ("margin", 1_010, 1_000, 100)
    assert info["message"] == "AAA: opening 101 at 100 with 10x needs 1010, available is 1000; lower the size to 100 or less"


@pytest.mark.parametrize(("asked", "taken"), [(0.0037, 0.003), (1.9999, 1.999), (0.001, 0.001)])
def test_a_fraction_is_cut_to_whole_lots_and_not_to_whole_numbers(asked, taken):
    """kernc/backtesting.py#1334 and #1198: sizes below 1 vanished. With lots of 0.001 what is asked loses less than a lot."""
    strategy = play({1: buy(size=asked)}, frame([STILL] * 3), terms={"lot": 0.001}, **CROSS)
    assert outcomes(strategy) == [("Completed", pytest.approx(taken))]


def test_less_than_a_lot_is_rejected_aloud_with_what_the_smallest_order_needs():
    """kernc/backtesting.py#1198: the order was gone. 0.0004 of lots of 0.001: a lot needs 0.001 x 100 / 10 = 0.01, and 100 fit."""
    strategy = play({1: buy(size=0.0004)}, frame([STILL] * 3), terms={"lot": 0.001}, **CROSS)
    assert outcomes(strategy) == [("Rejected", 0)]
    assert numbers(info_of(strategy, 0)) == pytest.approx((0.01, 1_000, 100))
    assert len(strategy.broker.record.refusals) == 1


def test_half_of_a_small_account_buys_a_fraction_of_a_dear_coin():
    """kernc/backtesting.py#1198: 500 of 1 000 at 60 000 a coin are 0.00833; in lots of 0.001 that is 0.008, and it is bought."""
    dear = at(60_000)
    strategy = play({1: lambda s: s.order_target_percent(target=0.5)}, frame([dear] * 3), terms={"lot": 0.001}, **CROSS)
    assert strategy.position.size == pytest.approx(0.008)


@pytest.mark.parametrize("opening", [buy, sell])
def test_longs_and_shorts_need_the_same_initial_margin(opening):
    """polakowo/vectorbt#187: shorts were not limited. 100 at 100 with 10x take all of 1 000 on either side, 100.1 are refused."""
    strategy = play({1: opening(size=100.1), 2: opening(size=100)}, frame([STILL] * 4), **CROSS)
    assert [status for status, _ in outcomes(strategy)] == ["Margin", "Completed"]
    assert abs(strategy.position.size) == 100
    assert strategy.cash[-1] == 0


def test_an_order_larger_than_the_leverage_allows_is_refused_and_what_is_locked_is_all_that_is_held():
    """nautilus#2541: 5x on 100 filled more than 500, and locked 6. At 5x: 6 at 100 need 120 of 100; 5 take all of it."""
    script = {1: buy(size=6), 2: buy(size=5)}
    strategy = play(script, frame([STILL] * 4), terms={"leverage": 5}, cash=100, **CROSS)
    assert outcomes(strategy) == [("Margin", 0), ("Completed", 5)]
    assert (strategy.broker.initial_margin(), strategy.broker.available_margin) == (100, 0)


def test_a_run_goes_on_after_a_refusal():
    """nautilus#2530 and #545: the engine stopped when margin was exceeded. Three are refused, a fourth fills, the last bar comes."""
    script = {1: buy(size=1_000), 2: sell(size=1_000), 3: buy(size=101), 4: buy(size=99)}
    strategy = play(script, frame([STILL] * 7), **CROSS)
    assert outcomes(strategy) == [("Margin", 0)] * 3 + [("Completed", 99)]
    assert len(strategy) == 7


def test_an_equity_that_falls_below_the_initial_margin_stops_nothing():
    """nautilus#2530: a fill that left less than nothing free ended the run. 100 bought with all of 1 000; at 95 equity is 500.

    950 of margin are in use and nothing is free, an addition is refused, the position lives: 100 at 95 maintain 95.
    """
    strategy = play({1: buy(size=100), 3: buy(size=1)}, frame([STILL, STILL, at(95), at(95), at(98)]), **CROSS)
    assert outcomes(strategy) == [("Completed", 100), ("Margin", 0)]
    assert (strategy.cash[2], strategy.position.size, strategy.broker.equity) == (0, 100, 800)


def test_an_order_is_judged_beside_what_is_held_already():
    """Lean#7816: the position that was there did not count. 60 held take 600 of 1 000; 50 more need 500, 40 would fit, and 40 do."""
    script = {1: buy(size=60), 2: buy(size=50), 3: buy(size=40)}
    strategy = play(script, frame([STILL] * 5), **CROSS)
    assert outcomes(strategy) == [("Completed", 60), ("Margin", 0), ("Completed", 40)]
    assert numbers(info_of(strategy, 1)) == (500, 400, 40)


def test_a_second_short_is_paid_from_what_the_first_has_left():
    """virattt/ai-hedge-fund#418: the check took all cash, raised by the first short. 70 of AAA take 700; 40 of BBB need 400 of 300."""
    script = {1: lambda s: s.sell(s.datas[0], size=70), 2: lambda s: s.sell(s.datas[1], size=40), 3: lambda s: s.sell(s.datas[1], size=30)}
    strategy = play(script, frame([STILL] * 5), frame([STILL] * 5), **CROSS)
    assert outcomes(strategy) == [("Completed", -70), ("Margin", 0), ("Completed", -30)]
    assert numbers(info_of(strategy, 1)) == (400, 300, 30)


# -- targets -------------------------------------------------------------------------------------------------------------


def test_a_target_that_an_open_has_made_too_dear_is_refused_with_the_size_that_fits_and_that_size_fills():
    """mementum/backtrader#270: it died as Margin and said no more. 10 x 1 000 at 100 are 100; the next open is 105: 95.238 fit."""

    def send_what_fits(strategy):
        strategy.buy(size=info_of(strategy, 0)["max_size"])

    script = {1: lambda s: s.order_target_percent(target=10), 2: send_what_fits}
    strategy = play(script, frame([STILL, at(105), at(105), at(105)]), **CROSS)
    assert numbers(info_of(strategy, 0)) == pytest.approx((1_050, 1_000, 1_000 / 10.5))
    assert outcomes(strategy) == [("Margin", 0), ("Completed", pytest.approx(1_000 / 10.5))]


def test_a_target_that_an_open_has_made_too_dear_is_shrunk_to_what_fits_where_the_broker_is_told_to():
    """mementum/backtrader#270, community 3091: a target of all that there is dies as the open gaps.

    100 at a close of 100 with all of 1 000; at an open of 105 they are 1 000 / 10.5 = 95.238.
    """
    all_in = {1: lambda s: s.order_target_percent(target=10.0)}
    strategy = play(all_in, frame([STILL, at(105), at(105)]), unfunded="shrink", **CROSS)
    assert outcomes(strategy) == [("Completed", pytest.approx(1_000 / 10.5))]
    assert info_of(strategy, 0)["asked_size"] == 100


def test_a_part_of_what_is_available_leaves_room_for_a_higher_open_and_the_fee():
    """mementum/backtrader PR#420, community 3091: a buffer for costs was asked for. 90 % of 1 000 at 10x are 90 at 100.

    At an open of 105 they need 945 and, at 0.1 %, 9.45 in fees, which is less than 1 000; the whole would have been refused.
    """

    def sized(fraction):
        def order(strategy):
            strategy.setsizer(MarginFraction(fraction=fraction))
            strategy.buy()

        return play({1: order}, frame([STILL, at(105), at(105)]), terms={"commission": 0.001}, **CROSS)

    assert outcomes(sized(0.9)) == [("Completed", pytest.approx(90))]
    assert outcomes(sized(1.0)) == [("Margin", 0)]


@pytest.mark.parametrize(
    ("target", "size"),
    [
        (lambda s: s.order_target_percent(target=-0.5), -5),
        (lambda s: s.order_target_percent(target=-2), -20),
        (lambda s: s.order_target_value(target=-1_500), -15),
        (lambda s: s.order_target_size(target=-7), -7),
    ],
    ids=["half of equity", "twice equity", "a value", "a size"],
)
def test_a_short_target_is_met_with_one_order_and_kept_without_another(target, size):
    """mementum/backtrader#186 and PR#494: changes to short cash broke targets. The same target on four bars at one price: one fill."""
    strategy = play(dict.fromkeys((1, 2, 3, 4), target), frame([STILL] * 6), **CROSS)
    assert strategy.position.size == size
    assert len(strategy.broker.record.fills) == 1


def test_what_a_short_is_worth_and_the_size_of_that_worth_are_inverse():
    """mementum/backtrader PR#494: getvalue and getsize must agree. 20 short at 90: -1 800 and back to 20, and a target turns it long."""
    script = {1: sell(size=20), 3: lambda s: s.order_target_value(target=900)}
    strategy = play(script, frame([STILL, STILL, at(90), at(90), at(90)]), **CROSS)
    (at_90,) = [fill for fill in strategy.broker.record.fills if fill.price == 90]
    assert at_90.size == 20 + 10
    comminfo = strategy.broker.getcommissioninfo(strategy.data)
    assert strategy.broker.getvalue([strategy.data]) == 900
    assert comminfo.getsize(90, 900) == 10


def test_a_short_sale_brings_no_cash():
    """community 2858: cash rose with every short. 20 short at 100 take 200, and give them back as they are bought at 90, with 200."""
    strategy = play({1: sell(size=20), 3: close}, frame([STILL, STILL, at(90), at(90), at(90)]), **CROSS)
    assert strategy.cash == [1_000, 1_000 - 200, 1_000 + 200 - 20 * 90 / 10, 1_200, 1_200]


# -- closing -------------------------------------------------------------------------------------------------------------


def test_a_position_bought_with_everything_can_be_sold():
    """nautilus#2986: all cash spent, and the sale was refused for lack of it. 10 at 100 with 1x leave nothing; they are sold at 101."""
    strategy = play({1: buy(size=10), 2: close}, frame([STILL, STILL, at(101), at(101)]), terms={"leverage": 1}, **CROSS)
    assert strategy.cash[1] == 0
    assert outcomes(strategy) == [("Completed", 10), ("Completed", -10)]
    assert strategy.broker.equity == 1_010


def test_a_trailing_stop_that_reduces_needs_no_cash():
    """nautilus#3256: a trailing stop of an all-in long was checked against cash. It trails 4 behind 110 and sells at 106."""
    trail = sell(size=10, exectype=bt.Order.StopTrail, trailamount=4)
    strategy = play(
        {1: buy(size=10), 2: trail}, frame([STILL, STILL, at(110), (110, 110, 105, 105), at(105)]), terms={"leverage": 1}, **CROSS
    )
    assert outcomes(strategy) == [("Completed", 10), ("Completed", -10)]
    assert strategy.broker.equity == 1_000 + 10 * 6


@pytest.mark.parametrize(
    "exit_order", [sell(size=100, exectype=bt.Order.Limit, price=96), sell(size=100, exectype=bt.Order.Stop, price=94), close]
)
def test_an_exit_is_taken_where_less_than_nothing_is_free(exit_order):
    """nautilus#2505: orders that reduce were refused. 100 long with all of 1 000; at 95 equity is 500 and 950 are in use."""
    strategy = play({1: buy(size=100), 3: exit_order}, frame([STILL, STILL, at(95), at(95), (95, 97, 93, 95), at(95)]), **CROSS)
    assert strategy.broker.record.column("available_margin")[2] == 500 - 950
    assert strategy.position.size == 0
    assert [status for status, _ in outcomes(strategy)] == ["Completed", "Completed"]


def test_a_stop_and_a_target_of_all_that_is_held_both_rest_where_nothing_is_free():
    """nautilus#2505: each reduces what is held, whatever else is queued. 100 long with all of 1 000: both are taken and reserve nothing."""

    def both(strategy):
        strategy.sell(size=100, exectype=bt.Order.Limit, price=105)
        strategy.sell(size=100, exectype=bt.Order.Stop, price=95)

    strategy = play({1: buy(size=100), 2: both}, frame([STILL] * 4), **CROSS)
    assert outcomes(strategy) == [("Completed", 100), ("Accepted", 0), ("Accepted", 0)]
    assert (strategy.cash[-1], strategy.broker.account.order_margin) == (0, 0)


def test_a_reversal_is_a_close_and_an_opening_and_only_the_opening_needs_margin():
    """nautilus#2505, and the host's T5: 100 long take all; 150 are sold. Closing frees 1 000, the 50 short take 500."""
    strategy = play({1: buy(size=100), 2: sell(size=150)}, frame([STILL] * 4), **CROSS)
    assert outcomes(strategy) == [("Completed", 100), ("Completed", -150)]
    assert (strategy.position.size, strategy.broker.initial_margin(), strategy.cash[-1]) == (-50, 500, 500)


def test_a_reduce_only_order_never_opens_and_needs_no_margin():
    """nautilus#2505: reduce-only orders were refused for margin. 100 long take all; at 95 a reduce-only ask of 150 closes the 100."""
    exit_order = sell(size=150, exectype=bt.Order.Limit, price=96, reduce_only=True)
    strategy = play({1: buy(size=100), 3: exit_order}, frame([STILL, STILL, at(95), at(95), at(96), at(96)]), **CROSS)
    assert outcomes(strategy) == [("Completed", 100), ("Completed", -100)]
    assert (strategy.position.size, max(strategy.broker.record.column("order_margin"))) == (0, 0)


# -- margin follows what is held -----------------------------------------------------------------------------------------


def test_margin_is_of_the_net_position_and_gone_with_it():
    """nautilus#4110: margin grew with every fill. Five times 10 are bought and sold: 100 in use while they are held, 0 when not."""
    script = {n: buy(size=10) if n % 2 else close for n in range(1, 11)}
    seen = {}
    watched = {n: lambda s, act=act, n=n: (seen.setdefault(n, s.broker.initial_margin()), act(s)) for n, act in script.items()}
    strategy = play(watched, frame([STILL] * 12), **CROSS)
    assert list(seen.values()) == [0, 100] * 5
    assert (strategy.broker.initial_margin(), strategy.cash[-1]) == (0, 1_000)


def test_the_balance_is_the_deposit_with_profits_less_fees():
    """nautilus#2632: 999 535 where it was 1 000 245. 10 from 100 to 110 and 20 short from 110 to 105, 0.1 % each way.

    Profits 100 + 100; fees 0.001 x (1 000 + 1 100 + 2 200 + 2 100) = 6.4.
    """
    script = {1: buy(size=10), 2: sell(size=30), 3: buy(size=20)}
    strategy = play(script, frame([STILL, STILL, at(110), at(105), at(105)]), terms={"commission": 0.001}, **CROSS)
    assert strategy.broker.wallet_balance == pytest.approx(1_000 + 200 - 6.4)
    assert sum(row.amount for row in strategy.broker.journal if row.account == "fees") == pytest.approx(6.4)


def test_a_contract_without_a_margin_rate_is_not_free():
    """nautilus#5024: a venue's contracts came with a margin of 0. Without tiers 0.5 % are maintained, and every result says so."""
    strategy = play({1: buy(size=10)}, frame([STILL] * 3), terms={"tiers": None}, **CROSS)
    assert strategy.broker.maintenance_margin() == 0.005 * 1_000
    assert strategy.broker.initial_margin() == 100


@pytest.mark.parametrize("tiers", [float("nan"), -0.01, [(1_000, float("nan"), 20)], [(None, 1.5, 20)]])
def test_a_margin_rate_that_is_none_is_an_error(tiers):
    """nautilus#5024: margin that is absent is to fail, not to pass as 0."""
    with pytest.raises(ValueError, match="rate"):
        play({}, frame([STILL] * 2), terms={"tiers": tiers})


def test_nothing_is_traded_once_there_is_nothing_left():
    """Lean#5691: the account was below zero and went on trading. 100 long gap to 80: 0 is left, and neither side is opened after it."""
    script = {1: buy(size=100), 3: buy(), 4: sell()}
    strategy = play(script, frame([STILL, STILL, at(80), at(80), at(80), at(80)]), **CROSS)
    assert outcomes(strategy)[2:] == [("Margin", 0), ("Margin", 0)]
    assert [info_of(strategy, n)["available"] for n in (2, 3)] == [0, 0]
    assert min(strategy.broker.record.column("equity")) == 0
