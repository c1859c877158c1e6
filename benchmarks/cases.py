"""One group of figures. ``run.py`` starts this file once for each group and reads the JSON it prints.

Whatever is compared runs in turn in one process, round by round. A group returns ``seconds``: by case and engine the CPU
seconds of each round, and ``yardstick``: what a bar of W took stock Backtrader in the same rounds.
"""

import argparse
import gc
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import backtrader as bt
import parts
import sweeps
import workload as work
from workload import Engine, backtest, candles, check_loop, check_same_work

import bt_margin as bm
from bt_margin.clock import BarClock
from bt_margin.lull import Lull
from bt_margin.record import Record

YARDSTICK_BARS = 10_000
TEN = 10
EVERY = 10  # bars between two reversals
WARM_UP_BARS = 2_000
LEAST_BARS = 200  # of one contract: the averages need a hundred
MORE_CASH = 1_000  # times as much, for long runs
# Short runs are repeated until they have had as many bars: long and short ones are disturbed alike. Stock would take minutes.
SCALE_BARS = {"ours": 1_000_000, "stock": 100_000}
HOURLY_SHARE = 5  # of the bars: so many fewer hours
CONTRACTS = (1, 10, 50)
STRATEGIES = {"flat": work.Idle, "holding": work.Hold, "trading": work.CrossAll}
MEGA = 1024 if sys.platform != "darwin" else 1024**2  # what ru_maxrss counts in, to a megabyte
# What writes the recorded series: bars that got a look one by one, those of a lull in blocks once the record is read.
WRITERS = ((BarClock, "write"), (Lull, "_keep"), (Record, "table"))
OWN_ANALYZERS = (bm.analyzers.Margin, bm.analyzers.Liquidations, bm.analyzers.Funding, bm.analyzers.Leverage, bm.analyzers.Equity)
HOST_ANALYZERS = tuple(getattr(bt.analyzers, name) for name in ("TradeAnalyzer", "DrawDown", "TimeReturn", "Returns", "SharpeRatio"))
OWN_OBSERVERS = (bm.observers.LiquidationPrice, bm.observers.MarginRatio, bm.observers.WalletEquity)


def draw_page(result: Any) -> None:
    """Draw the page of pictures; pictures are imported here and not by whoever measures memory."""
    bm.plots.page(result)


def save_report(result: Any) -> None:
    """Write the report page into a folder that goes away."""
    with TemporaryDirectory() as folder:
        bm.Report(result).save(Path(folder) / "run.html")


STEPS: dict[str, Callable[[Any], Any]] = {  # what is asked of a result
    "summary": lambda result: result.summary,
    "frames of equity, positions, fills, trades": lambda result: (result.equity, result.positions, result.fills, result.trades),
    "everything as JSON": lambda result: result.to_json(),
    "the page of pictures": draw_page,
    "the report page": save_report,
}

Figures = dict[str, dict[str, list[float]]]


class Group:
    """The figures of a group as they come in."""

    def __init__(self, bars: int, rounds: int) -> None:
        self.bars, self.rounds = bars, rounds
        self.seconds: Figures = {}
        self.yardstick: list[float] = []
        self.facts: dict[str, Any] = {}
        self._frame = candles(min(bars, YARDSTICK_BARS))

    def each_round(self) -> Iterator[None]:
        """Yield once a round, and run the yardstick in it."""
        for _ in range(self.rounds):
            self.yardstick.append(work.yardstick(self._frame))
            yield

    def add(self, case: str, engine: str, seconds: float) -> None:
        self.seconds.setdefault(case, {}).setdefault(engine, []).append(seconds)

    def told(self) -> dict[str, Any]:
        return {"bars": self.bars, "rounds": self.rounds, "seconds": self.seconds, "yardstick": self.yardstick, **self.facts}


def on(engine: str, feed: Callable[[Any], Any], broker: Callable[[], Any]) -> Engine:
    """Return an engine with another feed and broker."""
    return replace(work.engines()[engine], feed=feed, broker=broker)


def measure_whole(bars: int, rounds: int) -> dict[str, Any]:
    """Run W with every engine, split into feed, loop and series; these rounds are their own yardstick."""
    group, frame = Group(bars, rounds), candles(bars)
    for _ in range(rounds):
        timings = {name: backtest([frame], engine, work.Cross) for name, engine in work.engines().items()}
        stock = timings["stock"]
        for name, timing in timings.items():
            if name != "stock":
                check_same_work(stock.strategy, timing.strategy)
                check_loop(timing.strategy)
            for part in ("feed", "loop", "series", "whole"):
                group.add(part, name, getattr(timing, part))
        group.yardstick.append(stock.whole / bars)
        group.facts["fills"] = stock.strategy.fills
    return group.told()


def measure_swap(bars: int, rounds: int) -> dict[str, Any]:
    """Run the host's loop with nothing but the broker exchanged: ten positions on a tenth of the bars."""
    group, one = Group(bars, rounds), [candles(bars)]
    ten = [candles(bars // TEN, seed) for seed in range(1, TEN + 1)]
    cases = (("flat", one, work.Idle), ("one position", one, work.Hold), ("ten positions", ten, work.Hold))
    for _ in group.each_round():
        for feed_name, feed in (("PandasData", work.stock_feed), ("PerpData", work.perp_feed)):
            for case, frames, strategy in cases:
                stock = backtest(frames, on("stock", feed, work.stock_broker), strategy)
                ours = backtest(frames, on("host loop", feed, work.margin_broker), strategy)
                check_same_work(stock.strategy, ours.strategy)
                group.add(f"{feed_name}, {case}", "stock", stock.loop)
                group.add(f"{feed_name}, {case}", "ours", ours.loop + ours.series)
    return group.told()


def silent(kind: Any) -> Any:
    """Return a broker class that does nothing any more from the bar on which every data of a holding strategy is held."""

    class Silent(kind):
        is_for_holding = True

        def next(self) -> None:
            super().next()
            if not self.is_for_holding or all(self.getposition(data).size for data in self.cerebro.datas):
                self.next = lambda: None

    return Silent


def measure_calls(bars: int, rounds: int) -> dict[str, Any]:
    """Return what ``broker.next`` costs a bar: the loop less the same loop with it switched off once everything is held.

    Funded feed, tiers; series are not read. "ours" is in the loop of its own, where nobody asks for cash and value, "asked" in the
    host's, which asks on every bar: a lull reckons the figures then, and they are counted here.
    """
    group, one = Group(bars, rounds), [candles(bars)]
    ten = [candles(bars // TEN, seed) for seed in range(1, TEN + 1)]
    stock_kinds = (bt.brokers.BackBroker, silent(bt.brokers.BackBroker))
    own_kinds = (bm.MarginBroker, silent(bm.MarginBroker))
    makers = {
        "stock": ("host loop", [partial(_stock_of, kind) for kind in stock_kinds]),
        "ours": ("own loop", [partial(work.margin_broker, kind) for kind in own_kinds]),
        "asked": ("host loop", [partial(work.margin_broker, kind) for kind in own_kinds]),
    }
    for _ in group.each_round():
        for case, frames, strategy in (("flat", one, work.Idle), ("one position", one, work.Hold), ("ten positions", ten, work.Hold)):
            for kind in (stock_kinds[1], own_kinds[1]):
                kind.is_for_holding = strategy is work.Hold
            for name, (engine, kinds) in makers.items():
                found = [backtest(frames, on(engine, work.funded_feed, kind), strategy, reads_series=False) for kind in kinds]
                group.add(case, name, (found[0].loop - found[1].loop) / len(frames[0]))
    return group.told()


def _stock_of(kind: Any) -> Any:
    broker = kind(cash=work.CASH)
    broker.setcommission(commission=work.FEE, leverage=work.LEVERAGE)
    return broker


def measure_reversals(bars: int, rounds: int) -> dict[str, Any]:
    """Return what a reversing order costs: a position turned round every so many bars, less the same one held, by order."""
    group, frames = Group(bars, rounds), [candles(bars)]
    engines = {"stock": on("stock", work.perp_feed, work.stock_broker)}
    engines |= {
        name: replace(engine, feed=work.perp_feed) for name, engine in work.engines().items() if name not in ("stock", "fast averages")
    }
    for _ in group.each_round():
        ends = {}
        for name, engine in engines.items():
            held, turned = backtest(frames, engine, work.Hold), backtest(frames, engine, work.Flip, every=EVERY)
            ends[name] = turned.strategy
            cost = turned.loop + turned.series - held.loop - held.series
            group.add("reversal", name, cost / (turned.strategy.fills - held.strategy.fills))
        for name in ends.keys() - {"stock"}:
            check_same_work(ends["stock"], ends[name])
        group.facts["orders"] = ends["stock"].fills
    return group.told()


class Stopwatch:
    """Adds up the CPU seconds inside some functions, those they call among themselves counted once; a call's own cost is taken off."""

    def __init__(self) -> None:
        self.seconds, self.calls, self.depth = 0.0, 0, 0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*arguments: Any, **named: Any) -> Any:
            if self.depth:
                return function(*arguments, **named)
            self.depth += 1
            before = time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += time.process_time() - before
                self.calls += 1
                self.depth -= 1

        return measured

    def own_cost(self, calls: int = 20_000) -> float:
        """Return the seconds that a call adds by being timed and that it counts as its own."""
        empty = Stopwatch()
        function = empty.timed(lambda _: None)
        for _ in range(calls):
            function(None)
        return empty.seconds / calls


def measure_series(bars: int, rounds: int) -> dict[str, Any]:
    """Return what the recorded series of W cost a bar: the seconds inside what writes them, until they have been asked for at the end."""
    group, frame, engine = Group(bars, rounds), candles(bars), work.usual()
    originals = [(owner, name, getattr(owner, name)) for owner, name in WRITERS]
    for _ in group.each_round():
        watch = Stopwatch()
        for owner, name, function in originals:
            setattr(owner, name, watch.timed(function))
        try:
            timing = backtest([frame], engine, work.Cross)
        finally:
            for owner, name, function in originals:
                setattr(owner, name, function)
        rows = len(timing.strategy.broker.record)
        if not watch.calls or rows != bars:
            raise SystemExit(f"what writes the series was called {watch.calls} times and wrote {rows} rows of {bars}; WRITERS names others")
        spent = watch.seconds - watch.calls * watch.own_cost()
        group.add("series", "ours", spent / bars)
        group.facts["rows"] = rows
    return group.told()


def measure_variants(bars: int, rounds: int) -> dict[str, Any]:
    """Run 1, 10 and 50 contracts, flat, holding and trading, in cross and isolated; seconds of a bar of one contract."""
    group, stock_engine, usual = Group(bars, rounds), work.engines()["stock"], work.usual()
    frames = {contracts: [candles(max(bars // contracts, LEAST_BARS), seed) for seed in range(1, contracts + 1)] for contracts in CONTRACTS}
    for _ in group.each_round():
        for contracts in CONTRACTS:
            for case, strategy in STRATEGIES.items():
                name, together = f"{contracts}, {case}", contracts * len(frames[contracts][0])
                stock = backtest(frames[contracts], stock_engine, strategy)
                group.add(name, "stock", stock.whole / together)
                for mode in ("cross", "isolated"):
                    engine = replace(usual, broker=partial(work.margin_broker, margin_mode=mode))
                    ours = backtest(frames[contracts], engine, strategy)
                    check_same_work(stock.strategy, ours.strategy)
                    group.add(name, mode, ours.whole / together)
    return group.told()


def adding(method: str, kinds: Any) -> Callable[[Any], None]:
    """Return what adds analyzers or observers to a Cerebro."""

    def equip(cerebro: Any) -> None:
        for kind in kinds:
            getattr(cerebro, method)(kind)

    return equip


def measure_features(bars: int, rounds: int) -> dict[str, Any]:
    """Run W and a held position with what users add to them, stock beside where it has the same."""
    group, minutes = Group(bars, rounds), [candles(bars)]
    hourly = [work.hours(candles(max(bars // HOURLY_SHARE, WARM_UP_BARS) * 60))]
    plain: dict[str, Any] = {}
    rows = (
        ("W", minutes, work.Cross, plain, True),
        ("W, five analyzers of ours", minutes, work.Cross, {"equip": adding("addanalyzer", OWN_ANALYZERS)}, False),
        ("W, five analyzers of the host", minutes, work.Cross, {"equip": adding("addanalyzer", HOST_ANALYZERS)}, True),
        ("W, the host's default observers", minutes, work.Cross, {"stdstats": True}, True),
        ("W, three observers of ours", minutes, work.Cross, {"equip": adding("addobserver", OWN_OBSERVERS)}, False),
        ("a position held", minutes, work.Hold, plain, True),
        ("held, a limit order resting", minutes, work.Rest, plain, True),
        ("held, ten limit orders resting", minutes, work.Rest, {"orders": TEN}, True),
        ("held, between stop and limit of a bracket", minutes, work.Bracket, plain, True),
        ("W on hourly bars, a funding stamp every eight", hourly, work.Cross, plain, True),
    )
    for _ in group.each_round():
        for name, frames, strategy, terms, has_stock in rows:
            ours = backtest(frames, work.usual(), strategy, **terms)
            group.add(name, "ours", ours.whole / len(frames[0]))
            if has_stock:
                stock = backtest(frames, work.engines()["stock"], strategy, **terms)
                check_same_work(stock.strategy, ours.strategy)
                group.add(name, "stock", stock.whole / len(frames[0]))
    return group.told()


def measure_walks(bars: int, rounds: int) -> dict[str, Any]:
    """Run a position at 125x, turned round on every hourly bar: without a path, with it, and with minutes inside.

    Stock Backtrader turns round as often and is never liquidated, so these runs do not do the same work.
    """
    group = Group(bars, rounds)
    minutes = candles(bars * 60)
    frame = work.hours(minutes)
    broker = partial(work.margin_broker, leverage=125.0, margin_mode="isolated")
    feeds = {"with minutes inside": lambda hourly: bm.PerpData(dataname=hourly, funding=work.FUNDING, detail=minutes)}
    for _ in group.each_round():
        group.add("turned round on every bar", "stock", backtest([frame], work.engines()["stock"], work.Dare).whole / bars)
        for name, intrabar in (("open and close only", "close"), ("path of the bar", "adverse"), ("with minutes inside", "adverse")):
            engine = replace(work.usual(), feed=feeds.get(name, work.funded_feed), broker=partial(broker, intrabar=intrabar))
            timing = backtest([frame], engine, work.Dare)
            group.add(name, "ours", timing.whole / bars)
            record = timing.strategy.broker.record
            group.facts[name] = {"walked": record.walked_bars, "liquidations": len(record.liquidations)}
    return group.told()


def measure_results(bars: int, rounds: int) -> dict[str, Any]:
    """Return the seconds of what is asked of a finished run of so many hourly bars of W."""
    group, frame = Group(bars, rounds), work.hours(candles(bars * 60))
    for _ in group.each_round():
        strategy = backtest([frame], work.usual(), work.Cross).strategy
        result = bm.Result(strategy)
        for name, step in STEPS.items():
            before = time.process_time()
            step(result)
            group.add(name, "ours", time.process_time() - before)
    return group.told()


class CollectorClock:
    """Adds up the CPU seconds of Python's collector while it is entered, but for collections that were asked for."""

    def __init__(self) -> None:
        self.seconds = self._began = 0.0

    def __enter__(self) -> "CollectorClock":
        gc.callbacks.append(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._note)

    def _note(self, phase: str, _: dict[str, int]) -> None:
        now = time.process_time()
        if phase == "start":
            self._began = now
        elif not self._is_asked_for():
            self.seconds += now - self._began

    @staticmethod
    def _is_asked_for() -> bool:
        caller = sys._getframe(2)
        return caller.f_code is backtest.__code__


def measure_scale(bars: int, contracts: int, engine: str) -> dict[str, Any]:
    """Run W on so many bars of so many contracts and return CPU seconds of a bar of one of them, and this process's peak MB.

    There is cash for the fees of millions of bars, whatever the prices have become by then: no order is refused.
    """
    chosen = work.usual() if engine == "ours" else work.engines()[engine]
    chosen = replace(chosen, broker=partial(chosen.broker, cash=work.CASH * MORE_CASH))
    make = candles if engine == "stock" else work.candle_columns  # without pandas where it is not needed
    frames = [make(bars, seed) for seed in range(1, contracts + 1)]
    strategy = work.Cross if contracts == 1 else work.CrossAll
    backtest([make(WARM_UP_BARS)], chosen, work.Cross)
    repeats, seconds = max(1, SCALE_BARS[engine] // (bars * contracts)), 0.0
    with CollectorClock() as collector:
        for _ in range(repeats):
            timing = backtest(frames, chosen, strategy)
            seconds, fills, refusals = seconds + timing.whole, timing.strategy.fills, timing.strategy.refusals
            if refusals:
                raise SystemExit(f"{contracts} x {bars}: {refusals} orders were refused, so this is another work than W")
            del timing  # with all that the run has left
    peak, count = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEGA, repeats * bars * contracts
    return {"seconds": seconds / count, "gc": collector.seconds / count, "peak": peak, "fills": fills}


def measure_parts(bars: int, rounds: int) -> dict[str, Any]:
    """Return for each engine the seconds of a bar of W and the share of each part in them."""
    frame, found = candles(bars), {}
    for name, engine in work.engines().items():
        seconds = [backtest([frame], engine, work.Cross).whole / bars for _ in range(rounds)]
        found[name] = {"seconds": median(seconds), "shares": parts.shares(partial(backtest, [frame], engine, work.Cross))}
    return {"bars": bars, "engines": found}


def run_once(engine: str, bars: int) -> dict[str, Any]:
    """Run W once and return its fills; the caller measures this whole process."""
    return {"fills": backtest([candles(bars)], work.engines()[engine], work.Cross).strategy.fills}


GROUPS: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "whole": measure_whole,
    "swap": measure_swap,
    "calls": measure_calls,
    "reversals": measure_reversals,
    "series": measure_series,
    "variants": measure_variants,
    "features": measure_features,
    "walks": measure_walks,
    "results": measure_results,
    "parts": measure_parts,
    "sweeps": sweeps.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure one group of figures and print them as JSON.")
    parser.add_argument("group", choices=(*GROUPS, "scale", "process", "engines"))
    parser.add_argument("--bars", type=int, default=YARDSTICK_BARS)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--contracts", type=int, default=1)
    parser.add_argument("--engine", default="ours")
    asked = parser.parse_args()
    found: Any
    if asked.group == "scale":
        found = measure_scale(asked.bars, asked.contracts, asked.engine)
    elif asked.group == "process":
        found = run_once(asked.engine, asked.bars)
    elif asked.group == "engines":
        found = list(work.engines())
    else:
        found = GROUPS[asked.group](asked.bars, asked.rounds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
