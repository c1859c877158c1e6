"""The experiment behind docs/tick-truth.md: its shortcut is the broker, its ticks are ticks, and its claims hold.

The script asks ``plan_path`` bar by bar instead of running a backtest for each position. Here some of its positions go
through a whole backtest, in a row on one data: a flat bar at 100 after which the orders are sent, the bars of the
position, and a flat bar in which what is left is closed.
"""

import re
from functools import cache
from pathlib import Path

import backtrader as bt
import pandas as pd
import pytest
from bypath import loaded
from playing import frame, play

from bt_margin.clock import INTRABAR

ROOT = Path(__file__).parents[1]
CASH, HOUR = 100_000.0, 3600
FLAT = (100.0, 100.0, 100.0, 100.0)


script = loaded(ROOT / "benchmarks" / "tick_truth.py")
CASES = [
    script.Case(20.0, 0.02, script.SCALED),
    script.Case(50.0, 0.005, script.FIXED),
    script.Case(50.0, 0.02, script.FIXED),
    script.Case(100.0, 0.02, script.FIXED),
]


@cache
def measured():
    return script.measure(script.QUICK_POSITIONS, script.QUICK_ACCOUNTS)


@cache
def telling(case) -> list:
    """Return twelve positions of a case, first those about which the models differ most."""
    trades = list(script.trades_of(case, 100, (1, 2)))
    return sorted(trades, key=lambda trade: -len({script.ending_by(model, trade) for model in script.MODELS}))[:12] + both_exits(
        case.leverage
    )


def both_exits(leverage: float) -> list:
    """Return a long and a short whose first bar reaches stop and target, 0.4 and 3 % away, and not the liquidation price.

    The short that both exits of the long could open at 99.6 has lost 3.5 at 103.1: at 20x it lives on its margin of 4.98,
    so the bar is left to the host, and at 50x and 100x it does not, so the bar is walked.
    """
    trades = []
    for side in (1.0, -1.0):
        low, high = sorted((100 - side * 0.45, 100 + side * 3.1))
        candles = script.np.array([[100.0, high, low, 100.0], *[FLAT] * (script.BARS - 1)])
        dying = 100 * (1 - side / leverage) / (1 - side * script.RATE)
        trades.append(script.Trade(side, leverage, 100 - side * 0.4, 100 + side * 3, dying, candles, candles, script.Exit("stop", 0, 0.0)))
    return trades


# -- against the broker --------------------------------------------------------------------------------------------------


def played(trades, endings, model: str, leverage: float, *, in_ticks: bool = False) -> list:
    """Return how a whole backtest ends these positions, each shown up to the bar in which the script ends it.

    ``in_ticks``: the backtest is given the lines between the ticks of that bar as detail.
    """
    rows, actions, first_bars, orders = [], {}, [], []

    def send(trade):
        def action(strategy):
            enter, leave = (strategy.buy, strategy.sell) if trade.side > 0 else (strategy.sell, strategy.buy)
            enter(size=1)
            stop = leave(size=1, exectype=bt.Order.Stop, price=trade.stop)
            orders.append((stop, leave(size=1, exectype=bt.Order.Limit, price=trade.target, oco=stop)))

        return action

    def leave(strategy):
        for order in orders[-1]:
            if order.alive():
                strategy.cancel(order)
        strategy.close()

    for trade, ending in zip(trades, endings, strict=True):
        rows.append(FLAT)
        actions[len(rows)] = send(trade)
        first_bars.append(len(rows))
        rows += trade.candles[: ending.bar + 1].tolist()
        actions[len(rows)] = leave
        rows.append(FLAT)
    terms = {"leverage": leverage, "tiers": script.RATE, "profile": "forfeit"}
    ends = [(first + ending.bar, trade) for trade, ending, first in zip(trades, endings, first_bars, strict=True)]
    detail = fine_frame(ends) if in_ticks else None
    strategy = play(actions, frame(rows), cash=CASH, terms=terms, intrabar=model, detail=[detail])
    assert strategy.broker.record.refusals == []
    pairs = zip(trades, endings, first_bars, orders, strict=True)
    return [ending_in(strategy, trade, first, ending.bar, exits) for trade, ending, first, exits in pairs]


def fine_frame(ends) -> pd.DataFrame:
    """Return the lines between ticks as bars, for each (row, position) those of the bar that ends the position."""
    fine = [frame(script.candles_of(trade.ticks, 1, joined=True), freq="15s") for _, trade in ends]
    for (row, _), bars in zip(ends, fine, strict=True):
        bars.index += pd.Timedelta(hours=row)
    return pd.concat(fine)


def ending_in(strategy, trade, first: int, last_bar: int, exits):
    """Return how the backtest ended the position whose bars begin with row ``first``."""
    start = strategy.broker.record.column("time")[0] - HOUR  # the first row's opening instant
    kinds = {order.ref: kind for order, kind in zip(exits, ("stop", "target"), strict=True)}
    for fill in strategy.broker.record.fills:
        bar = round((fill.time - start) / HOUR) - 1 - first
        if fill.size * trade.side < 0 and 0 <= bar <= last_bar:
            kind = "liquidation" if fill.liquidation else kinds[fill.order_ref]
            return script.Exit(kind, bar, trade.pnl(fill.price))
    return script.Exit("held", script.BARS, trade.pnl(float(trade.candles[-1, -1])))


def entering(sizes: list[float]):
    """Return an action that takes one unit of every data, on the side of its size."""

    def action(strategy):
        for data, size in zip(strategy.datas, sizes, strict=True):
            (strategy.buy if size > 0 else strategy.sell)(data=data, size=1)

    return action


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.leverage:g}x-{case.sigma:g}")
@pytest.mark.parametrize("model", INTRABAR)
def test_a_whole_backtest_ends_positions_as_the_script_does(model, case):
    trades = telling(case)
    endings = [script.ending_by(model, trade) for trade in trades]
    for found, expected in zip(played(trades, endings, model, case.leverage), endings, strict=True):
        assert found[:2] == expected[:2]
        assert found.pnl == pytest.approx(expected.pnl, abs=1e-9)


@pytest.mark.parametrize(
    "case", [*CASES, script.Case(20.0, 0.02, script.FIXED)], ids=lambda case: f"{case.leverage:g}x-{case.sigma:g}-{case.exits}"
)
def test_a_whole_backtest_whose_detail_is_the_ticks_ends_positions_as_the_script_does(case):
    trades = [trade for trade in script.trades_of(case, 100, (1, 2)) if trade.truth.kind != "held"]
    trades = sorted(trades, key=lambda trade: -len({script.ending_by(model, trade) for model in script.MODELS} | {trade.truth}))[:12]
    endings = [script.ending_in_candles(trade, script.TICKS, as_detail=True) for trade in trades]
    for found, expected in zip(played(trades, endings, "adverse", case.leverage, in_ticks=True), endings, strict=True):
        assert found[:2] == expected[:2]
        assert found.pnl == pytest.approx(expected.pnl, abs=1e-9)


def test_detail_of_ticks_leaves_nothing_wrong():
    for case in (script.Case(20.0, 0.02, script.FIXED), script.Case(100.0, 0.02, script.FIXED)):
        for trade in script.trades_of(case, 200, (1, 2)):
            assert script.ending_in_candles(trade, script.TICKS, as_detail=True)[:2] == trade.truth[:2]


def test_the_positions_played_are_ended_in_every_way_and_differently_by_the_models():
    endings = {model: [script.ending_by(model, trade) for case in CASES for trade in telling(case)] for model in INTRABAR}
    assert {ending.kind for found in endings.values() for ending in found} >= {"stop", "target", "liquidation"}
    assert endings["adverse"] != endings["favourable"] != endings["close"] != endings["adverse"]


@pytest.mark.parametrize("model", INTRABAR)
@pytest.mark.parametrize("book", [script.Book(2, False, 50.0, 0.02), script.Book(2, True, 50.0, 0.02)], ids=["one side", "both sides"])
def test_a_whole_backtest_liquidates_cross_accounts_in_the_bar_in_which_the_script_does(book, model):
    wallets = list(script.wallets_of(book, 5, (3, 4)))
    expected = [script.deaths_by((model,), wallet)[model] for wallet in wallets]
    assert any(bar < script.BARS for bar in expected)
    for wallet, bar in zip(wallets, expected, strict=True):
        rows = script.candles_of(wallet.prices, script.TICKS, joined=False)
        assert death_in_backtest(book, wallet, rows, intrabar=model) == bar


def test_a_whole_backtest_whose_detail_is_the_ticks_liquidates_cross_accounts_in_the_bar_in_which_they_do():
    book = script.Book(2, True, 50.0, 0.02)
    wallets = [wallet for wallet in script.wallets_of(book, 12, (3, 4)) if wallet.death < 10]
    assert {script.deaths_by(("adverse",), wallet)["adverse"] == wallet.death for wallet in wallets} == {True, False}
    for wallet in wallets:
        bars = int(wallet.death) + 1
        ticks = script.candles_of(wallet.prices[:, : bars * script.TICKS + 1], 1, joined=False)
        fine = [frame(of_one, freq="15s", start="2024-01-01 03:00") for of_one in ticks]
        rows = script.candles_of(wallet.prices, script.TICKS, joined=False)[:, :bars]
        assert death_in_backtest(book, wallet, rows, detail=fine) == wallet.death


def death_in_backtest(book, wallet, rows, **terms) -> float:
    """Return the bar in which a whole backtest on these bars of each contract liquidates an account; inf where it does not."""
    strategy = play(
        {1: entering(wallet.sizes.tolist())},
        *(frame([FLAT, FLAT, *candles]) for candles in rows.tolist()),
        cash=book.contracts * script.PRICE / book.leverage,
        margin_mode="cross",
        terms={"leverage": 100, "tiers": script.RATE, "profile": "forfeit"},
        **terms,
    )
    start = strategy.broker.record.column("time")[0] - HOUR
    return min((round((row.time - start) / HOUR) - 3 for row in strategy.broker.record.liquidations), default=script.inf)


# -- the ticks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.leverage:g}x-{case.sigma:g}")
def test_the_truth_is_what_a_walk_from_tick_to_tick_meets_first(case):
    for trade in script.trades_of(case, 40, (7,)):
        met = "held"
        for price in trade.ticks[1:].tolist() if trade.truth.bar < script.BARS else ():
            beyond = [trade.side * (level - price) >= 0 for level in (trade.stop, trade.liquidation_price)]
            if all(beyond):  # passed both between two ticks: the higher level of a long, the lower of a short, was first
                met = "stop" if trade.side * (trade.stop - trade.liquidation_price) > 0 else "liquidation"
            elif any(beyond):
                met = "stop" if beyond[0] else "liquidation"
            elif trade.side * (price - trade.target) >= 0:
                met = "target"
            if met != "held":
                break
        assert trade.truth.kind == met


def test_the_liquidation_price_of_the_truth_is_where_equity_is_maintenance():
    for trade in script.trades_of(script.Case(50.0, 0.005, script.FIXED), 4, (7,)):
        equity = script.PRICE / 50 + trade.side * (trade.liquidation_price - script.PRICE)
        assert equity == pytest.approx(script.RATE * trade.liquidation_price)


def test_candles_hold_every_tick_and_joined_ones_the_way_to_them():
    prices = script.np.array([[100.0, 101, 99, 102, 98]])
    assert script.candles_of(prices, 2, joined=True).tolist() == [[[100, 101, 99, 99], [99, 102, 98, 98]]]
    assert script.candles_of(prices, 2, joined=False).tolist() == [[[101, 101, 99, 99], [102, 102, 98, 98]]]


# -- the claims ----------------------------------------------------------------------------------------------------------


def test_adverse_misses_no_liquidation_of_one_contract():
    assert sum(models["adverse"].liquidated for models in measured().cases.values()) > 0
    assert [case for case, models in measured().cases.items() if models["adverse"].missed] == []


def test_orders_first_and_closes_miss_some_and_liquidation_first_invents_some():
    hard = measured().cases[script.Case(100.0, 0.02, script.FIXED)]
    assert hard["orders first"].missed > 0.1
    assert hard["close"].missed > 0.1
    assert hard["liquidation first"].false > hard["adverse"].false


def test_the_error_is_nought_where_the_detail_is_the_ticks():
    for scores in measured().detail.values():
        assert scores["the ticks"].wrong == scores["the ticks"].missed == scores["the ticks"].false == 0
        assert scores["the ticks"].distance == pytest.approx(0, abs=1e-12)
        assert scores[script.AS_DETAIL].missed == scores[script.AS_DETAIL].false == 0
    assert any(scores["the bars"].wrong for scores in measured().detail.values())
    for deaths in measured().book_detail.values():
        assert deaths["the ticks"].missed == deaths["the ticks"].false == 0


def test_of_several_contracts_on_one_side_adverse_misses_no_liquidation():
    one_sided = [models for book, models in measured().books.items() if not book.is_mixed]
    assert [models["adverse"].missed for models in one_sided] == [0] * len(one_sided)


def test_of_any_contracts_worst_misses_no_liquidation():
    book = script.Book(2, True, 20.0, 0.02)
    pairs = [(wallet.death, script.deaths_by(("worst",), wallet)["worst"]) for wallet in script.wallets_of(book, 60, (8,))]
    assert any(truth < script.inf for truth, _ in pairs)
    assert [pair for pair in pairs if pair[0] < pair[1]] == []


def test_adverse_takes_the_path_that_leaves_less_even_where_the_other_is_liquidated():
    """The case of the page: 1 - 98.5 / 20 = -3.925 low first; -1 - (102.8 - 98.5) = -5.3 high first."""
    account = script.account_with((-1.0,), cash=200.0, leverage=20.0, margin_mode="isolated")
    levels = [(1, 1.0, 101.0, None, 1), (2, 1.0, None, 99.0, 1), (3, -1.0, 98.5, None, 3)]
    orders = [script.WorkingOrder(ref, "A", size, 0.0, stop, stop, limit, 0.0, oco, None) for ref, size, stop, limit, oco in levels]
    paths = script.Paths(account, {"A": script.Candle(100, 103, 98.4, 102.8)}, orders)
    assert paths.low_first.equity == pytest.approx(200 - 3.925)
    assert paths.low_first.liquidated == {"A": 1}
    assert paths.low_first.events[-1].marks["A"] == pytest.approx((98.5 + 98.5 / 20) / 1.005)
    assert paths.high_first.equity == pytest.approx(200 - 5.3)
    assert not paths.high_first.liquidated
    assert paths.plan("adverse") is paths.high_first


# -- the page ------------------------------------------------------------------------------------------------------------


def test_the_page_has_a_place_for_every_table_and_its_own_tables_stay_as_they_are():
    page = script.PAGE.read_text(encoding="utf-8")
    held = {name: re.search(rf"<!-- begin {name}: .*?-->\n(.*?)\n<!-- end {name}", page, re.DOTALL) for name in script.tables(measured())}
    assert [name for name, found in held.items() if found is None] == []
    assert script.rewritten(page, {name: found[1].splitlines() for name, found in held.items()}) == page


def test_a_page_without_a_place_for_a_table_is_refused():
    with pytest.raises(ValueError, match="has no markers <!-- begin missed"):
        script.rewritten("nothing", {"missed": ["| a |"]})


def test_the_page_tells_of_the_run_that_the_script_makes_and_of_no_missed_liquidation():
    page = script.PAGE.read_text(encoding="utf-8")
    assert f"{script.POSITIONS:,} positions of each case" in page.replace("\n", " ")
    assert f"{script.ACCOUNTS:,} accounts" in page.replace("\n", " ")
    rows = re.search(r"<!-- begin missed: .*?-->\n(.*?)\n<!-- end missed", page, re.DOTALL)[1].splitlines()
    column = [cell.strip() for cell in rows[0].split("|")].index("`adverse`")
    assert {row.split("|")[column].strip() for row in rows[2:]} == {"0"}
