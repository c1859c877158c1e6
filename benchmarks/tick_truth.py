"""Hold the models of the path inside a bar against the ticks it hides, and rewrite the tables of docs/tick-truth.md.

    python benchmarks/tick_truth.py            everything, some minutes
    python benchmarks/tick_truth.py --quick    few positions, printed, nothing is written

Ticks are drawn, candles made of them, and each model is shown the candles alone. The path models are ``plan_path``, the
code that a backtest uses, with the rules by which the bar clock calls it; a test runs some of the positions through a
whole backtest. Mark price is last price. There are no fees, the maintenance rate is flat and a liquidated wallet is
forfeited. All draws are seeded: a run on the same machine writes the same tables.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from math import inf
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from bt_margin import Contract, MarginAccount, TierSchedule, TierTable
from bt_margin.clock import INTRABAR
from bt_margin.core.ledger import CROSS
from bt_margin.core.path import Plan, Track, WorkingOrder, plan_path
from bt_margin.core.profiles import FORFEIT, plan_liquidation

PAGE = Path(__file__).parents[1] / "docs" / "tick-truth.md"
SEED, POSITIONS, ACCOUNTS = 5, 10_000, 2_000
QUICK_POSITIONS, QUICK_ACCOUNTS = 60, 12
TICKS, BARS = 240, 40
PRICE, RATE, CORRELATION = 100.0, 0.005, 0.8
CHUNK = 250  # positions whose ticks are in memory at once
SAME = 1e-9  # results that differ by less, as a share of margin, are the same

MODELS = (*INTRABAR, "orders first", "liquidation first")
LEVERAGES, SIGMAS = (5.0, 20.0, 50.0, 100.0), (0.002, 0.005, 0.02)
FIXED, SCALED = "fixed", "scaled"  # exits 0.2 to 3 % away; 0.1 to 1.5 times as far away as the liquidation price
PARTS = (1, 4, 12, 60, TICKS)  # of a bar, as it is shown by finer and finer candles

Array = np.ndarray[Any, np.dtype[np.float64]]


class Exit(NamedTuple):
    """How a position ended: by which of 'stop', 'target', 'liquidation' or 'held', in which bar, with which share of its margin."""

    kind: str
    bar: int
    pnl: float


class Candle(NamedTuple):
    """Four prices of a bar or a part of one."""

    open: float
    high: float
    low: float
    close: float


class Score(NamedTuple):
    """A model against the ticks, as fractions of all positions; ``missed`` and ``never`` of those that the ticks liquidate.

    ``missed`` are liquidated in a later bar or not at all, ``never`` in no bar. ``error`` is the mean of model less ticks in
    shares of the position's margin, ``distance`` that of its magnitude.
    """

    liquidated: float
    missed: float
    never: float
    false: float
    wrong: float
    error: float
    distance: float


# -- one position and its ticks ------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """Positions alike: their leverage, the standard deviation of a bar's return, how far their exits may lie."""

    leverage: float
    sigma: float
    exits: str


class Trade(NamedTuple):
    """One isolated position with a stop and a target, entered at ``PRICE``, and what the ticks do to it.

    ``candles`` are its bars; ``ticks`` those of the first bar that touches a level, with the last tick before it.
    """

    side: float
    leverage: float
    stop: float
    target: float
    liquidation_price: float
    candles: Array
    ticks: Array
    truth: Exit

    def touched(self, candle: Candle) -> tuple[bool, bool, bool]:
        """Return whether a bar reaches the liquidation price, the stop, the target."""
        adverse, favourable = (candle.low, candle.high) if self.side > 0 else (candle.high, candle.low)
        is_dead, is_stopped = (self.side * adverse <= self.side * level for level in (self.liquidation_price, self.stop))
        return is_dead, is_stopped, self.side * favourable >= self.side * self.target

    def pnl(self, price: float) -> float:
        """Return the profit of an exit at a price, as a share of margin."""
        return self.side * (price / PRICE - 1) * self.leverage

    @property
    def account(self) -> MarginAccount:
        return isolated_account(self.leverage, self.side)

    @property
    def orders(self) -> list[WorkingOrder]:
        exits = ((1, self.stop, None), (2, None, self.target))
        return [WorkingOrder(ref, "A", -self.side, 0.0, stop, stop, limit, 0.0, 1, None) for ref, stop, limit in exits]

    def bars(self) -> Iterator[tuple[int, Candle]]:
        """Yield the bars that touch a level, with their numbers."""
        return ((number, candle) for number, candle in enumerate(to_candles(self.candles)) if any(self.touched(candle)))


def to_candles(rows: Array) -> list[Candle]:
    return [Candle(*row) for row in rows.tolist()]


def walk(draw: np.random.Generator, sigma: float, *shape: int) -> Array:
    """Return driftless prices from ``PRICE`` on, in their last axis: the expectation of each tick is the tick before."""
    deviation = sigma / TICKS**0.5
    steps = draw.normal(-(deviation**2) / 2, deviation, shape)
    return PRICE * np.exp(np.concatenate((np.zeros((*shape[:-1], 1)), np.cumsum(steps, axis=-1)), axis=-1))


def candles_of(prices: Array, length: int, *, joined: bool) -> Array:
    """Return the open, high, low and close of every ``length`` ticks; the first price is the last before the first bar.

    ``joined``: a bar begins at the last tick before it, so that bars and the lines between ticks leave no gaps. Else it
    begins with its own first tick, as on an exchange; of one tick all four prices are equal.
    """
    own = prices[..., 1:].reshape(*prices.shape[:-1], -1, length)
    opens = prices[..., :-1:length] if joined else own[..., 0]
    high, low = np.maximum(own.max(-1), opens), np.minimum(own.min(-1), opens)
    return np.stack((opens, high, low, own[..., -1]), axis=-1)


@cache
def isolated_account(leverage: float, side: float) -> MarginAccount:
    """Return an account with one isolated position of one unit; plans leave it alone."""
    return account_with((side,), cash=2 * PRICE, leverage=leverage, margin_mode="isolated")


def account_with(sizes: Sequence[float], *, cash: float, leverage: float, margin_mode: str) -> MarginAccount:
    account, tiers = MarginAccount(), TierSchedule.constant(TierTable.flat(RATE))
    account.deposit(cash, time=0)
    for symbol, size in zip("ABCDE", sizes, strict=False):
        account.add_contract(Contract(symbol, tiers=tiers), leverage=leverage, margin_mode=margin_mode)
        account.apply_fill(symbol, size=size, price=PRICE, fee_rate=0.0, time=0)
    return account


def trades_of(case: Case, count: int, seed: Sequence[int]) -> Iterator[Trade]:
    """Yield positions of a case, longs and shorts in turn."""
    draw = np.random.default_rng(seed)
    for start in range(0, count, CHUNK):
        number = min(CHUNK, count - start)
        sides = np.where(np.arange(start, start + number) % 2, -1.0, 1.0)
        dying = PRICE * (1 - sides / case.leverage) / (1 - sides * RATE)  # where margin + profit = RATE * price
        nearest, farthest = (0.002, 0.03) if case.exits == FIXED else (0.1 * abs(dying / PRICE - 1), 1.5 * abs(dying / PRICE - 1))
        stops = PRICE * (1 - sides * draw.uniform(nearest, farthest, number))
        targets = PRICE * (1 + sides * draw.uniform(nearest, farthest, number))
        prices = walk(draw, case.sigma, number, BARS * TICKS)
        candles = candles_of(prices, TICKS, joined=True)
        hits = _first_hits(prices, sides, np.where(sides > 0, np.maximum(stops, dying), np.minimum(stops, dying)), targets)
        for i, hit in enumerate(hits.tolist()):
            levels = float(stops[i]), float(targets[i]), float(dying[i])
            bar = (hit - 1) // TICKS if hit else BARS
            last = prices[i, hit or -1]
            end = _truth(float(sides[i]), case.leverage, levels, float(last), bar)
            ticks = prices[i, bar * TICKS : bar * TICKS + TICKS + 1].copy()
            yield Trade(float(sides[i]), case.leverage, *levels, candles[i], ticks, end)


def _first_hits(prices: Array, sides: Array, near: Array, targets: Array) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the first tick of each path at or beyond the nearer of stop and liquidation price, or its target; 0 where none."""
    signed, sides = prices * sides[:, None], sides[:, None]
    hit = (signed <= near[:, None] * sides) | (signed >= targets[:, None] * sides)
    return np.argmax(hit, axis=1)


def _truth(side: float, leverage: float, levels: tuple[float, float, float], last: float, bar: int) -> Exit:
    """Return how the ticks end a position whose first tick beyond a level is ``last``.

    Of what lies between two ticks the nearer is met first. Exits fill at their own prices; a liquidation takes the margin.
    """
    stop, target, dying = levels
    if bar == BARS:
        return Exit("held", bar, side * (last / PRICE - 1) * leverage)
    if side * last >= side * target:
        return Exit("target", bar, side * (target / PRICE - 1) * leverage)
    if side * dying >= side * stop:
        return Exit("liquidation", bar, -1.0)
    return Exit("stop", bar, side * (stop / PRICE - 1) * leverage)


# -- what a model makes of a bar -----------------------------------------------------------------------------------------


class Paths:
    """The plans of one bar, each made when it is asked for."""

    def __init__(self, account: MarginAccount, candles: Mapping[str, Candle], orders: Sequence[WorkingOrder] = ()) -> None:
        self.account, self.candles, self.orders = account, candles, orders

    def plan(self, model: str) -> Plan:
        """Return what a path model does with the bar: 'adverse' the path that leaves less at the close, low first in a tie."""
        if model == "worst":
            return self.worst
        prefers_low = self.low_first.equity <= self.high_first.equity
        if model == "favourable":
            prefers_low = self.low_first.equity > self.high_first.equity
        return self.low_first if prefers_low else self.high_first

    @cached_property
    def low_first(self) -> Plan:
        return self._plan([_track(symbol, candle) for symbol, candle in self.candles.items()], low_first=True)

    @cached_property
    def high_first(self) -> Plan:
        return self._plan([_track(symbol, candle) for symbol, candle in self.candles.items()], low_first=False)

    @cached_property
    def worst(self) -> Plan:
        """Each contract to its own worse extreme first: the low of a long, for which a short's bar is turned over."""
        turned = {
            symbol: candle._replace(high=candle.low, low=candle.high) if self.account.positions[symbol].size < 0 else candle
            for symbol, candle in self.candles.items()
        }
        return self._plan([_track(symbol, candle) for symbol, candle in turned.items()], low_first=True)

    def _plan(self, tracks: Sequence[Track], *, low_first: bool) -> Plan:
        return plan_path(self.account, tracks, self.orders, (), FORFEIT, low_first=low_first)


def _track(symbol: str, candle: Candle) -> Track:
    return Track(symbol, *candle, candle)


def fails(account: MarginAccount, marks: Mapping[str, float]) -> bool:
    """Whether a wallet of the account is liquidated at these marks."""
    return any(FORFEIT.fails(account.risk(wallet, marks)) for wallet in account.wallets)


Ending = tuple[str, float] | None


def by_path(model: str, trade: Trade, candle: Candle) -> Ending:
    """Return the kind of exit and the profit that a path model finds in a bar."""
    if not is_walked(trade, candle):
        return by_host(trade, candle)
    plan = Paths(trade.account, {"A": candle}, trade.orders).plan(model)
    (event,) = plan.events
    kind = {1: "stop", 2: "target"}[event.subject] if event.kind == "fill" else "liquidation"  # type: ignore[index]
    return kind, (plan.equity - 2 * PRICE) * trade.leverage / PRICE


def is_walked(trade: Trade, candle: Candle) -> bool:
    """Whether a backtest walks the bar: it could liquidate the position, or one that both exits together would open.

    Any other bar it leaves to the host's own matching.
    """
    is_dead, is_stopped, is_target = trade.touched(candle)
    return is_dead or (is_stopped and is_target and _could_reverse(trade, candle))


def is_asked(trade: Trade, candle: Candle) -> bool:
    """Whether a backtest asks the detail of the bar."""
    _, is_stopped, is_target = trade.touched(candle)
    return is_walked(trade, candle) or (is_stopped and is_target)


def _could_reverse(trade: Trade, candle: Candle) -> bool:
    """Whether the opposite position, opened by either exit, would be liquidated at an extreme of the bar."""
    prices, marks = (trade.stop, trade.target), (candle.low, candle.high)
    return any(price / trade.leverage - trade.side * (mark - price) <= RATE * mark for price in prices for mark in marks)


def by_host(trade: Trade, candle: Candle) -> Ending:
    """Return what orders do by themselves: of two that a bar reaches the one that was sent first, here the stop."""
    _, is_stopped, is_target = trade.touched(candle)
    if is_stopped:
        return "stop", trade.pnl(trade.stop)
    return ("target", trade.pnl(trade.target)) if is_target else None


def at_close(trade: Trade, candle: Candle) -> Ending:
    """Return what happens where only the close of a bar is tested, after its orders."""
    ended, marks = by_host(trade, candle), {"A": candle.close}
    if ended is not None or not fails(trade.account, marks):
        return ended
    account = trade.account.clone()
    for step in plan_liquidation(account, "wallet:A", marks, FORFEIT):
        account.apply(step, time=0)
    return "liquidation", (account.equity(marks) - 2 * PRICE) * trade.leverage / PRICE


def orders_first(trade: Trade, candle: Candle) -> Ending:
    """Return what a plain broker does that fills orders and then looks whether the bar has passed the liquidation price."""
    return by_host(trade, candle) or liquidated(trade, candle)


def liquidation_first(trade: Trade, candle: Candle) -> Ending:
    return liquidated(trade, candle) or by_host(trade, candle)


def liquidated(trade: Trade, candle: Candle) -> Ending:
    return ("liquidation", -1.0) if trade.touched(candle)[0] else None


OTHERS: dict[str, Callable[[Trade, Candle], Ending]] = {
    "close": at_close,
    "orders first": orders_first,
    "liquidation first": liquidation_first,
}


def ending_by(model: str, trade: Trade, bars: Iterable[tuple[int, Candle]] | None = None) -> Exit:
    """Return how a model ends a position, seeing its bars alone."""
    for number, candle in trade.bars() if bars is None else bars:
        ended = OTHERS[model](trade, candle) if model in OTHERS else by_path(model, trade, candle)
        if ended is not None:
            return Exit(ended[0], number, ended[1])
    return Exit("held", BARS, trade.pnl(float(trade.candles[-1, -1])))


def ending_in_candles(trade: Trade, parts: int, *, as_detail: bool = False) -> Exit:
    """Return the same by 'adverse' in a backtest on finer candles, so many a bar; the ticks are the lines between them.

    ``as_detail``: the backtest is on bars, and has the candles as their detail, which is asked about the bars that could
    liquidate or fill both exits.
    """
    if trade.truth.kind == "held" or (as_detail and not is_asked(trade, Candle(*trade.candles[trade.truth.bar].tolist()))):
        return ending_by("adverse", trade)
    rows = candles_of(trade.ticks, TICKS // parts, joined=True)
    bars = ((trade.truth.bar, candle) for candle in to_candles(rows) if any(trade.touched(candle)))
    return ending_by("adverse", trade, bars)


def score(truths: Sequence[Exit], endings: Sequence[Exit]) -> Score:
    """Return how far the endings are off. A liquidation of another bar is missed, or false where it comes too early."""
    pairs, count = list(zip(truths, endings, strict=True)), len(truths)
    dead = [(_death(truth), _death(ending)) for truth, ending in pairs]
    errors = [ending.pnl - truth.pnl for truth, ending in pairs]
    wrong = sum((t.kind, t.bar) != (e.kind, e.bar) or abs(e.pnl - t.pnl) > SAME for t, e in pairs)
    return Score(*deaths(dead), wrong / count, sum(errors) / count, sum(map(abs, errors)) / count)


def _death(ending: Exit) -> float:
    return ending.bar if ending.kind == "liquidation" else inf


class Deaths(NamedTuple):
    """The same of liquidations alone."""

    liquidated: float
    missed: float
    never: float
    false: float


def deaths(pairs: Sequence[tuple[float, float]]) -> Deaths:
    """Return how far a model is off from (bar of the ticks, bar of the model), inf where there is none."""
    found = [model for truth, model in pairs if truth < inf]
    missed = sum(truth < model for truth, model in pairs)
    of_all, of_found = len(pairs), max(len(found), 1)
    return Deaths(
        len(found) / of_all, missed / of_found, found.count(inf) / of_found, sum(model < truth for truth, model in pairs) / of_all
    )


# -- several contracts in one cross wallet -------------------------------------------------------------------------------


class Book(NamedTuple):
    """Accounts alike: how many contracts, whether of both sides, notional over equity at the start, sigma of a bar."""

    contracts: int
    is_mixed: bool
    leverage: float
    sigma: float


def books() -> list[Book]:
    return [
        Book(contracts, is_mixed, leverage, sigma)
        for contracts in (2, 5)
        for is_mixed in (False, True)
        for leverage in (5.0, 20.0, 50.0)
        for sigma in (0.005, 0.02)
    ]


class Wallet(NamedTuple):
    """A cross account of one unit of each contract and the ticks of all of them, a row for each."""

    account: MarginAccount
    sizes: Array
    prices: Array

    def headroom(self, prices: Array) -> Array:
        """Return equity less maintenance margin at prices of the contracts, in their first axis."""
        shape = (-1, *(1 for _ in prices.shape[1:]))
        sizes = self.sizes.reshape(shape)
        balance = self.account.wallets[CROSS]
        return balance + (sizes * (prices - PRICE) - abs(sizes) * RATE * prices).sum(axis=0)

    @property
    def death(self) -> float:
        """The bar in which the ticks liquidate the account; inf where they do not."""
        failed = self.headroom(self.prices[:, 1:]) <= 0
        return int(failed.argmax()) // TICKS if failed.any() else inf


def wallets_of(book: Book, count: int, seed: Sequence[int]) -> Iterator[Wallet]:
    """Yield accounts of a book; in turn its first contract is held long and short."""
    draw = np.random.default_rng(seed)
    for number in range(count):
        sizes = np.where(np.arange(book.contracts) % 2 if book.is_mixed else np.zeros(book.contracts), -1.0, 1.0)
        sizes *= -1 if number % 2 else 1
        cash = book.contracts * PRICE / book.leverage
        account = account_with(sizes.tolist(), cash=cash, leverage=100.0, margin_mode="cross")
        deviation = book.sigma / TICKS**0.5
        common, own = draw.normal(0, deviation, (1, BARS * TICKS)), draw.normal(0, deviation, (book.contracts, BARS * TICKS))
        steps = CORRELATION**0.5 * common + (1 - CORRELATION) ** 0.5 * own - deviation**2 / 2
        prices = PRICE * np.exp(np.concatenate((np.zeros((book.contracts, 1)), np.cumsum(steps, axis=1)), axis=1))
        yield Wallet(account, sizes, prices)


def deaths_by(models: Sequence[str], wallet: Wallet, parts: int = 1) -> dict[str, float]:
    """Return the bar in which each model liquidates an account that is shown as so many candles a bar; inf where it does not.

    As in a backtest a candle is walked only
    where the account could fail with every contract at its own worst price.
    """
    rows = candles_of(wallet.prices, TICKS // parts, joined=False)
    worst = np.where(wallet.sizes[:, None] > 0, rows[..., 2], rows[..., 1])
    found = dict.fromkeys(models, inf)
    for place in np.flatnonzero(wallet.headroom(worst) <= 0).tolist():
        bar = place // parts
        if inf not in found.values():
            break
        candles = {symbol: Candle(*row) for symbol, row in zip("ABCDE", rows[:, place].tolist(), strict=False)}
        paths = Paths(wallet.account, candles)
        for model in models:
            if found[model] == inf and liquidates(model, paths):
                found[model] = bar
    return found


def liquidates(model: str, paths: Paths) -> bool:
    """Whether a model liquidates an account without orders in a bar: at its open, on its path or at its close."""
    opens, closes = ({symbol: candle[corner] for symbol, candle in paths.candles.items()} for corner in (0, 3))
    if fails(paths.account, opens) or fails(paths.account, closes):
        return True
    return model != "close" and bool(paths.plan(model).liquidated)


# -- the tables ----------------------------------------------------------------------------------------------------------


class Measured(NamedTuple):
    """Everything a run has measured: scores by case and model, by case and what is seen; of books the deaths alone."""

    cases: dict[Case, dict[str, Score]]
    detail: dict[Case, dict[str, Score]]
    books: dict[Book, dict[str, Deaths]]
    book_detail: dict[Book, dict[str, Deaths]]


AS_DETAIL = "the bars, the ticks as `detail`"
DETAIL_CASES = (Case(20.0, 0.02, FIXED), Case(50.0, 0.005, FIXED), Case(50.0, 0.02, FIXED), Case(100.0, 0.02, FIXED))
DETAIL_BOOKS = (Book(2, True, 20.0, 0.02), Book(5, True, 20.0, 0.02))


def cases() -> list[Case]:
    return [Case(leverage, sigma, exits) for exits in (FIXED, SCALED) for leverage in LEVERAGES for sigma in SIGMAS]


def measure(positions: int, accounts: int) -> Measured:
    """Draw so many positions of each case and accounts of each book, and judge every model by them."""
    measured = Measured({}, {}, {}, {})
    for number, case in enumerate(cases()):
        trades = list(trades_of(case, positions, (SEED, number)))
        truths = [trade.truth for trade in trades]
        measured.cases[case] = {model: score(truths, [ending_by(model, trade) for trade in trades]) for model in MODELS}
        if case in DETAIL_CASES:
            measured.detail[case] = in_detail(trades)
    for number, book in enumerate(books()):
        models: dict[str, list[tuple[float, float]]] = {model: [] for model in INTRABAR}
        seen: dict[str, list[tuple[float, float]]] = {words_of(parts): [] for parts in PARTS}
        for wallet in wallets_of(book, accounts, (SEED, 100 + number)):
            for model, bar in deaths_by(INTRABAR, wallet).items():
                models[model].append((wallet.death, bar))
            if book in DETAIL_BOOKS:
                for parts in PARTS:
                    seen[words_of(parts)].append((wallet.death, deaths_by(("adverse",), wallet, parts)["adverse"]))
        measured.books[book] = {model: deaths(pairs) for model, pairs in models.items()}
        if book in DETAIL_BOOKS:
            measured.book_detail[book] = {words: deaths(pairs) for words, pairs in seen.items()}
    return measured


def in_detail(trades: Sequence[Trade]) -> dict[str, Score]:
    """Return how far 'adverse' is off on finer and finer candles, and where the ticks are the detail of its bars."""
    truths = [trade.truth for trade in trades]
    found = {words_of(parts): [ending_in_candles(trade, parts) for trade in trades] for parts in PARTS}
    found[AS_DETAIL] = [ending_in_candles(trade, TICKS, as_detail=True) for trade in trades]
    return {words: score(truths, endings) for words, endings in found.items()}


def words_of(parts: int) -> str:
    return {1: "the bars", TICKS: "the ticks"}.get(parts, f"{parts} candles a bar")


def percent(fraction: float, digits: int = 1) -> str:
    return f"{100 * fraction:.{digits}f}".replace("-0." + "0" * digits, "0." + "0" * digits)


def signed(fraction: float) -> str:
    if abs(fraction) <= SAME:
        return "0"
    return f"{100 * fraction:+.2f}" if abs(fraction) >= 0.00005 else "~0"


def exact(fraction: float, digits: int = 2) -> str:
    """Return a percentage whose plain 0 means that there is none at all."""
    return "0" if abs(fraction) <= SAME else percent(fraction, digits)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], texts: int) -> list[str]:
    """Return a table whose first columns are words and whose other columns are figures."""
    rule = ["---"] * texts + ["---:"] * (len(heads) - texts)
    return ["| " + " | ".join(cells) + " |" for cells in (heads, rule, *rows)]


def head_of(case: Case) -> list[str]:
    return [case.exits, f"{case.leverage:g}x", f"{percent(case.sigma)} %"]


def summary(measured: Measured) -> list[str]:
    rows = []
    for exits in (FIXED, SCALED):
        scores = [models for case, models in measured.cases.items() if case.exits == exits]
        for model in MODELS:
            own = [models[model] for models in scores]
            dead = sum(found.liquidated for found in own)
            missed, never = (sum(getattr(found, name) * found.liquidated for found in own) / dead for name in ("missed", "never"))
            false, wrong, error, distance = (
                fmean(getattr(found, name) for found in own) for name in ("false", "wrong", "error", "distance")
            )
            rows.append([exits, named(model), exact(missed), exact(never), exact(false), exact(wrong), signed(error), exact(distance)])
    heads = ["exits", "model", "missed", "never", "false", "wrong exits", "mean error", "mean distance"]
    return table(heads, rows, 2)


def named(model: str) -> str:
    return f"`{model}`" if model in INTRABAR else model


def by_case(measured: Measured, show: Callable[[Score], str], *, of_dead: bool = False) -> list[str]:
    """Return a table of one figure: a row for each case and a column for each model."""
    rows = []
    for case, scores in measured.cases.items():
        liquidated = scores["adverse"].liquidated
        if liquidated or not of_dead:
            rows.append([*head_of(case), percent(liquidated), *(show(scores[model]) for model in MODELS)])
    return table(["exits", "leverage", "sigma", "liquidated", *map(named, MODELS)], rows, 3)


def of_books(measured: Measured) -> list[str]:
    """Return a row for each book: missed, never and false of each model; without the first two where the ticks liquidate none."""
    rows = []
    for book, models in measured.books.items():
        liquidated = models["adverse"].liquidated
        cells = [" / ".join(exact(figure, 1) for figure in found[1 if liquidated else 3 :]) for found in models.values()]
        sides = "both" if book.is_mixed else "one"
        rows.append([f"{book.contracts}", sides, f"{book.leverage:g}x", f"{percent(book.sigma)} %", percent(liquidated), *cells])
    return table(["contracts", "sides", "leverage", "sigma", "liquidated", *map(named, INTRABAR)], rows, 4)


def of_detail(measured: Measured) -> list[str]:
    """Return a row for each way to see bars; accounts have no orders, so there detail is as good as bars of its own."""
    heads = ["seen are", *(f"{case.leverage:g}x, {percent(case.sigma)} %" for case in measured.detail)]
    heads += [f"{book.contracts} contracts, {book.leverage:g}x, {percent(book.sigma)} %" for book in measured.book_detail]
    rows = []
    for words in (*map(words_of, PARTS), AS_DETAIL):
        scores = [scores[words] for scores in measured.detail.values()]
        of_one = [f"{exact(found.wrong)} / {exact(found.distance)}" for found in scores]
        many = [found[words_of(TICKS) if words == AS_DETAIL else words] for found in measured.book_detail.values()]
        rows.append([words, *of_one, *(f"{exact(found.missed, 1)} / {exact(found.false, 1)}" for found in many)])
    return table(heads, rows, 1)


def tables(measured: Measured) -> dict[str, list[str]]:
    """Return every table of the page by the name that its markers bear."""
    return {
        "summary": summary(measured),
        "missed": by_case(measured, lambda found: exact(found.missed, 1), of_dead=True),
        "false": by_case(measured, lambda found: exact(found.false)),
        "wrong": by_case(measured, lambda found: exact(found.wrong)),
        "error": by_case(measured, lambda found: signed(found.error)),
        "books": of_books(measured),
        "detail": of_detail(measured),
    }


def rewritten(page: str, made: Mapping[str, Sequence[str]]) -> str:
    """Return the page with its tables replaced; each stands between the two markers of its name."""
    for name, lines in made.items():
        begin, end = (f"<!-- {word} {name}: benchmarks/tick_truth.py -->" for word in ("begin", "end"))
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"{PAGE.name} has no markers {begin} and {end} for the table; put them where it belongs")
        page = f"{before}{begin}\n" + "\n".join(lines) + f"\n{end}{after}"
    return page


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Hold the path models against ticks and rewrite the tables of docs/tick-truth.md.")
    parser.add_argument("--quick", action="store_true", help="few positions, printed, nothing is written")
    quick = parser.parse_args(arguments).quick
    positions, accounts = (QUICK_POSITIONS, QUICK_ACCOUNTS) if quick else (POSITIONS, ACCOUNTS)
    start = time.process_time()
    made = tables(measure(positions, accounts))
    print(f"seed {SEED}, {positions} positions of each case, {accounts} accounts of each book, {time.process_time() - start:.0f} s of CPU")
    for name, lines in made.items():
        print(f"\n{name}", *lines, sep="\n")
    if not quick:
        PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    main()
