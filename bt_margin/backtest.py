"""run(): a whole backtest in one call, beside stock Backtrader's if asked."""

import sys
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from math import inf, isfinite
from pathlib import Path
from traceback import walk_tb
from typing import Any

import backtrader as bt

from . import venues
from .broker import MarginBroker
from .cerebro import Cerebro
from .comminfo import PerpCommInfo
from .feeds import PerpData
from .plugging import START_CASH, by_symbol, plug
from .result import Baseline, Bounds, Result
from .scalers import MarginTopUp, Scaler, attach, several
from .scalers.course import Before
from .slots import seconds

Sizer = type[bt.Sizer] | tuple[type[bt.Sizer], Mapping[str, Any]] | float
Progress = Callable[[float], bool | None]

AMOUNTS = ("stake", "percents")  # of the host's sizers, which take any number for them and then order nothing, or the reverse
BOUNDS = ("favourable", "worst")  # the paths of the best and the worst end
REPORTS = 1_000  # how often a run says how far it is


def run(
    strategy: type[bt.Strategy],
    data: Mapping[str, Any],
    venue: str | None = "binance",
    leverage: float | Mapping[str, float] = 1,
    margin_mode: str | Mapping[str, str] = "cross",
    cash: float = START_CASH,
    params: Mapping[str, Any] | None = None,
    sizer: Sizer | None = None,
    intrabar: str = "adverse",
    on_liquidation: str = "continue",
    mark: Any = None,
    funding: Any = None,
    baseline: bool = False,
    check: bool = False,
    progress: Progress | None = None,
    spot: Mapping[str, float] | None = None,
    fee: float | tuple[float, float] | None = None,
    position_mode: str = "one_way",
    detail: Any = None,
    bounds: bool = False,
    scaler: Scaler | MarginTopUp | Sequence[Scaler | MarginTopUp] | None = None,
    before: Before | None = None,
    **account: Any,
) -> Result:
    """Run a strategy on candles under a venue's margin rules and return the Result.

    ``data`` maps each symbol to a DataFrame, the path of a CSV or Parquet file, arrays by name of column, or a PerpData. ``mark``
    and ``funding`` are given to the feeds made here (see PerpData): one for the only symbol, or a mapping by symbol (arrays
    always so: ``{"BTCUSDT": {"time": ..., "rate": ...}}``); a number as ``funding`` may stand for all, and is charged as often
    as the venue charges.

    ``detail`` is given to the feeds likewise: finer bars (a frame, a path, or a function of (start, end)), which decide what
    happened inside the bars that could liquidate.

    ``params`` are the strategy's, ``sizer`` is a class, (class, params) or the size of every order as a number, ``scaler`` one of
    ``bt_margin.scalers``, or several, and ``before`` what is called with each entry's ``LadderTable`` before it is sent. ``unfunded``
    says what happens to an order without the margin it needs, 'reject' or 'shrink' to what fits; ``filters`` to a size or a price
    off its step, 'round' or 'refuse'. The rest is ``plug``'s; ``account`` are
    further params of MarginBroker: these two, ``refill``, ``top_up``, the four ``warning_...`` and ``call_rate``, and the host's own.

    ``baseline=True`` also runs stock Backtrader's own broker, with the taker fee and all else the same; ``result.baseline`` is what it
    says the account was worth. What it cannot trade, inverse contracts, those of another multiplier than 1, hedge mode, is refused.

    ``bounds=True`` runs the same twice more, by ``intrabar='favourable'`` and ``'worst'``; ``result.bounds`` has both
    Results. Once their accounts differ, so may what the strategy does with them.

    ``progress`` is called about a thousand times a run with the share that is done, 0 to 1 (of all runs, if there are
    several). Where it returns False the run ends after that bar, and the Result, which says so, is of what was done.
    """
    check_strategy(strategy, params)
    feeds = feeds_of(data, mark, funding, detail, venues.load(venues.GENERIC.name if venue is None else venue))
    watch = None if progress is None else _Watch(progress, feeds, runs=1 + baseline + len(BOUNDS) * bounds)
    _check_params(MarginBroker, MarginBroker.params, account)
    account |= {"spot": spot, "fee": fee, "on_liquidation": on_liquidation, "position_mode": position_mode, "check": check}
    terms = {"venue": venue, "leverage": leverage, "margin_mode": margin_mode, "cash": cash, **account}
    runs = _Runs(feeds, strategy, params, sizer, terms, watch, scaler, before)
    finished = runs.play(intrabar, is_for_stock=baseline)
    stock = runs.play_stock(finished.cerebro, cash) if baseline and not runs.is_over else None
    return Result(finished, baseline=stock, bounds=runs.play_bounds() if bounds else None)


class _Runs:
    """The runs of one backtest, each in a Cerebro of its own."""

    def __init__(
        self,
        feeds: list[PerpData],
        strategy: type[bt.Strategy],
        params: Mapping[str, Any] | None,
        sizer: Sizer | None,
        terms: Mapping[str, Any],
        watch: "_Watch | None",
        scaler: Any,
        before: Before | None,
    ) -> None:
        self.feeds, self.strategy, self.params, self.sizer, self.terms, self.watch = feeds, strategy, params, sizer, terms, watch
        self.scalers, self.before = () if scaler is None else several(scaler), before
        if before is not None and not self.scalers:
            raise ValueError("before is told the ladders of a scaler; name one as scaler=, or leave it out")
        self.is_used = False

    @property
    def is_over(self) -> bool:
        """Whether it was asked to end."""
        return self.watch is not None and self.watch.is_over

    def _ready(self, kind: type[bt.Cerebro]) -> tuple[bt.Cerebro, list[PerpData]]:
        feeds = [_copy(feed) for feed in self.feeds] if self.is_used else self.feeds
        self.is_used = True
        return _cerebro(kind, feeds, self.strategy, self.params, self.sizer), feeds

    def play(self, intrabar: str, *, is_for_stock: bool = False) -> bt.Strategy:
        """Run under margin and return the finished strategy; ``is_for_stock``: contracts that stock Backtrader cannot trade are refused."""
        if is_for_stock and self.scalers:
            raise ValueError("stock Backtrader's broker knows no ladder, so with a scaler there is no baseline; leave one of them out")
        cerebro, feeds = self._ready(Cerebro)
        plug(cerebro, intrabar=intrabar, **self.terms)
        if self.scalers:
            attach(cerebro, *self.scalers, before=self.before)
            self.before = None  # what comes after it are the bounds of the same run
        if is_for_stock:
            _check_stock(_terms(cerebro, feeds), self.terms["position_mode"])
        self._watch(cerebro)
        return _run(cerebro, self.strategy, feeds)

    def play_stock(self, plugged: bt.Cerebro, cash: float) -> Baseline | None:
        """Run stock Backtrader's broker on the terms of a Cerebro that has run; None where it was cut short, for half a claim is none."""
        cerebro, _ = self._ready(bt.Cerebro)  # its broker, and its loop
        self._watch(cerebro)
        stock = _run_stock(cerebro, _terms(plugged, self.feeds), cash)
        return None if self.is_over else stock

    def play_bounds(self) -> Bounds | None:
        """Run by the best and by the worst path; None where that was cut short."""
        ends: list[Result] = []
        ends.extend(Result(self.play(path)) for path in BOUNDS if not self.is_over)
        return None if self.is_over else Bounds(*ends)

    def _watch(self, cerebro: bt.Cerebro) -> None:
        if self.watch is not None:
            self.watch.begun += 1
            cerebro.addanalyzer(_Progress, watch=self.watch)


def _terms(cerebro: bt.Cerebro, feeds: list[PerpData]) -> dict[str, PerpCommInfo]:
    return {feed._name: cerebro.broker.getcommissioninfo(feed) for feed in feeds}


def _run(cerebro: bt.Cerebro, strategy: type[bt.Strategy], feeds: list[PerpData]) -> bt.Strategy:
    """Run a Cerebro; the host's IndexError where an indicator needs more bars than there are becomes a sentence."""
    try:
        return cerebro.run()[0]
    except IndexError as error:
        files = [Path(frame.f_code.co_filename) for frame, _ in walk_tb(error.__traceback__)]
        own = getattr(sys.modules.get(strategy.__module__), "__file__", "")
        if Path(own or "") in files or "backtrader" not in files[-1].parts:
            raise
        bars = min(len(feed.perp.stamps) for feed in feeds)
        raise ValueError(
            f"the indicators of {strategy.__name__} need more than the {bars} bars there are; give more candles or shorter periods"
        ) from error


def check_strategy(strategy: Any, params: Mapping[str, Any] | None) -> None:
    """Refuse what is no strategy, or parameters that it has not."""
    if not (isinstance(strategy, type) and issubclass(strategy, bt.Strategy)):
        raise ValueError(f"strategy is a class derived from backtrader.Strategy, was {strategy!r}")
    params_class: Any = strategy.params  # type: ignore[attr-defined]
    _check_params(strategy, params_class, params or {})
    needed = [
        name
        for name, parameter in list(signature(vars(strategy).get("__init__", object.__init__)).parameters.items())[1:]
        if parameter.default is parameter.empty and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        raise ValueError(f"{strategy.__name__}.__init__ asks for {', '.join(needed)}, but Backtrader gives it nothing; name them in params")


def _check_params(owner: type, params_class: Any, given: Mapping[str, Any]) -> None:
    known = list(params_class._getkeys())
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"{owner.__name__} has no parameter {', '.join(unknown)}; it has {', '.join(known) or 'none'}")


def feeds_of(data: Mapping[str, Any], mark: Any, funding: Any, detail: Any, rules: venues.Venue) -> list[PerpData]:
    """Return a feed for each symbol; ``rules`` say how often a rate that is one number is charged."""
    if not isinstance(data, Mapping) or not data:
        was = "empty" if isinstance(data, Mapping) else f"a {type(data).__name__}"
        raise ValueError(f"data maps each symbol to its candles, such as {{'BTCUSDT': frame}}, was {was}")
    given = {what: _apart(what, value, data) for what, value in (("mark", mark), ("funding", funding), ("detail", detail))}
    feeds = []
    for symbol, source in data.items():
        own = {what: values[symbol] for what, values in given.items()}
        if isinstance(source, PerpData):
            if any(value is not None for value in own.values()):
                raise ValueError(f"{symbol}: its PerpData has mark, funding and detail of its own; give them there or not at all")
            feeds.append(_copy(source, name=symbol))
        else:
            feeds.append(PerpData(dataname=source, name=symbol, funding_hours=rules.funding_hours(symbol), **own))
    return feeds


def _apart(what: str, value: Any, symbols: Mapping[str, Any]) -> dict[str, Any]:
    """Return mark, funding or detail by symbol; a series is one contract's, so only a number may stand for several."""
    if not (value is None or isinstance(value, Mapping | int | float) or len(symbols) == 1):
        raise ValueError(f"{what} is one contract's, but there are {', '.join(symbols)}; give a mapping by symbol")
    return by_symbol(what, value, symbols)


def _copy(feed: PerpData, **changed: Any) -> PerpData:
    """Return a feed of the same candles for another run: one Cerebro must not find the other's state in it."""
    return type(feed)(**{**feed.p._getkwargs(), **changed})


def _cerebro(
    kind: type[bt.Cerebro],
    feeds: list[PerpData],
    strategy: type[bt.Strategy],
    params: Mapping[str, Any] | None,
    sizer: Sizer | None,
) -> bt.Cerebro:
    cerebro = kind(stdstats=False)
    for feed in feeds:
        cerebro.adddata(feed)
    cerebro.addstrategy(strategy, **(params or {}))
    if sizer is not None:
        kind, terms = sizer_of(sizer)
        cerebro.addsizer(kind, **terms)
    return cerebro


def sizer_of(sizer: Any) -> tuple[type[bt.Sizer], Mapping[str, Any]]:
    """Return class and parameters of what ``run`` takes for a sizer."""
    if isinstance(sizer, int | float) and not isinstance(sizer, bool) and 0 < sizer < inf:
        return bt.sizers.FixedSize, {"stake": sizer}
    kind, terms = sizer if isinstance(sizer, tuple) and len(sizer) == 2 else (sizer, {})
    if not (isinstance(kind, type) and issubclass(kind, bt.Sizer) and isinstance(terms, Mapping)):
        raise ValueError(f"sizer is a class derived from backtrader.Sizer, (class, params) or a size above 0, was {sizer!r}")
    _check_params(kind, kind.params, terms)  # type: ignore[attr-defined]
    for name, value in terms.items():
        if name in AMOUNTS and kind.__module__.startswith("backtrader.") and not 0 < value < inf:
            raise ValueError(f"{kind.__name__}: {name} is a number above 0, was {value}")
    return kind, terms


class _Watch:
    """How far a run, or several after each other, have come in the time that their data spans."""

    def __init__(self, report: Progress, feeds: list[PerpData], *, runs: int) -> None:
        self.report, self.runs, self.begun, self.is_over = report, runs, 0, False
        self.first = min(feed.perp.stamps[0] for feed in feeds)
        self.last = max(feed.perp.stamps[-1] for feed in feeds)
        self.every = max(max(len(feed.perp.stamps) for feed in feeds) // REPORTS, 1)

    def tell(self, time: float) -> bool:
        """Report how far the present run is; return whether it may go on."""
        span = self.last - self.first
        share = (time - self.first) / span if span else 1.0
        self.is_over = self.is_over or self.report((self.begun - 1 + share) / self.runs) is False
        return not self.is_over


class _Progress(bt.Analyzer):
    """Tells the ``watch`` the time now and then, and ends the run where that says so."""

    params = (("watch", None),)

    def __init__(self) -> None:
        self.count = 0

    def next(self) -> None:
        self.count += 1
        watch = self.p.watch
        newest = max((data.datetime[0] for data in self.datas if len(data)), default=0.0)
        is_due = self.count % watch.every == 0 or seconds(newest) >= watch.last
        if is_due and not watch.tell(seconds(newest)):
            self.strategy.env.runstop()


class _ValueByBar(bt.Analyzer):
    """Appends (time, account value) to ``rows`` on every bar, those of the strategy's warm-up too."""

    params = (("rows", None),)

    def next(self) -> None:
        newest = max(data.datetime[0] for data in self.datas if len(data))
        self.p.rows.append((seconds(newest), self.strategy.broker.getvalue()))


def _check_stock(terms: Mapping[str, PerpCommInfo], position_mode: str) -> None:
    """Raise ValueError for what stock Backtrader's broker cannot trade."""
    if position_mode == "hedge":
        raise ValueError("stock Backtrader holds no long beside a short, so in hedge mode there is no baseline; leave it out")
    for symbol, comminfo in terms.items():
        if comminfo.p.kind == "inverse" or comminfo.p.mult != 1:
            what = "an inverse contract" if comminfo.p.kind == "inverse" else f"a contract of {comminfo.p.mult:g} base units"
            raise ValueError(f"{symbol}: stock Backtrader cannot trade {what}, so there is no baseline; leave it out")


class _Fills(bt.Analyzer):
    """Appends (symbol, signed size) to ``fills`` for each order that is filled."""

    params = (("fills", None),)

    def notify_order(self, order: bt.Order) -> None:
        if order.status == order.Completed:
            self.p.fills.append((order.data._name, order.executed.size))


def _run_stock(cerebro: bt.Cerebro, terms: Mapping[str, PerpCommInfo], cash: float) -> Baseline:
    """Run stock Backtrader's broker and return what it said the account was worth, bar by bar.

    It lets an account fall below zero; arithmetic that fails on such money ends the run, and the reason is kept.
    """
    rows: list[tuple[float, float]] = []
    cerebro.broker.setcash(cash)
    for symbol, comminfo in terms.items():
        cerebro.broker.setcommission(commission=comminfo.p.commission, leverage=comminfo.p.leverage, name=symbol)
    cerebro.addanalyzer(_ValueByBar, rows=rows)
    fills: list[tuple[str, float]] = []
    cerebro.addanalyzer(_Fills, fills=fills)
    failure = ""
    try:
        cerebro.run()
    except (ArithmeticError, ValueError) as error:
        failure = f"{type(error).__name__}: {error}"
    if not failure and not all(isfinite(value) for _, value in rows):
        failure = "its value is no longer a number"
    first = fills[0] if fills else None
    return Baseline(tuple(time for time, _ in rows), tuple(value for _, value in rows), failure, first)
