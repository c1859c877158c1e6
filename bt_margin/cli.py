"""The command ``bt-margin``: prints tables for people, JSON with ``--json``.

Exits 0; 2 with one sentence on stderr for wrong use and bad input; 130 after Ctrl-C, with what was done so far.
"""

import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from . import calc, checking, ladder, supplying, tiering
from .interrupt import INTERRUPTED, NAME, Interrupted, lift
from .result import Result, plain, records, version_of
from .tearsheet import check as check_tearsheet
from .tearsheet import save as save_tearsheet
from .terminal import console, shown

if TYPE_CHECKING:
    from types import ModuleType

    from matplotlib.figure import Figure

    from .comparison import Comparison

USAGE_ERROR: Any = typer.BadParameter.__mro__[2]  # the ancestor of every complaint about a command line; typer does not export it
SHOWN = 10  # liquidations; the rest is in the files and in --json

DEMO_NOTE = "hourly Binance spot prices stand in for last and mark price of the perpetual; funding at the default 0.01 % per 8 h"
DEMO_PICTURE = "bt_margin_demo.png"
HOURS_A_DAY = 24
OWN_PICTURES = ("leverage", "money", "close_calls")  # the panels that the page has no place for
FRAMES = ("equity", "positions", "trades", "fills", "refusals", "warnings", "top_ups", "funding", "liquidations", "journal")

Scalers = Annotated[
    list[str] | None, typer.Option(help="What entries become: Pyramid:shares=0.5/0.3/0.2, MarginTopUp:within=0.05,amount=100.")
]
ReportFolder = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for the report page, run.html: one file, opens offline.")]
Language = Annotated[str, typer.Option(help="Language of the report page: en or zh.")]

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)


@dataclass(frozen=True)
class Plan:
    """One backtest as its command line names it; see the options of ``run``."""

    strategy: str
    data: Sequence[str]
    mark: Sequence[str] = ()
    funding: Sequence[str] = ()
    venue: str = "binance"
    leverage: str = "1"
    margin_mode: str = "cross"
    position_mode: str = "one_way"
    cash: float = 10_000.0
    start: str | None = None
    end: str | None = None
    param: Sequence[str] = ()
    sizer: str | None = None
    fee: str | None = None
    intrabar: str = "adverse"
    unfunded: str = "reject"
    filters: str = "round"
    baseline: bool = False
    stamp: str = "open"
    detail: Sequence[str] = ()
    bounds: bool = False
    on_liquidation: str = "continue"
    refill: float | None = None
    warn_at: str | None = None
    scaler: Sequence[str] = ()

    def command(self) -> str:
        """Return the command line that carries this plan out."""
        return _command_of("run", self)


def _command_of(name: str, plan: Any) -> str:
    """Return the command line of a plan: what is not the default as options."""
    from shlex import join

    words = [NAME, name, plan.strategy]
    for field, value in vars(plan).items():
        option = f"--{field.replace('_', '-')}"
        if field == "strategy" or value == type(plan).__dataclass_fields__[field].default:
            continue
        if isinstance(value, bool):
            words.append(option)
        else:
            words += [word for item in ([value] if isinstance(value, str | int | float) else value) for word in (option, f"{item}")]
    return join(words)


@dataclass(frozen=True)
class Trial:
    """One comparison as its command line names it; see the options of ``compare``."""

    strategy: str
    data: Sequence[str]
    sizer: Sequence[str] = ()
    leverage: str = "1"
    margin_mode: str = "cross"
    venue: str = "binance"
    param: Sequence[str] = ()
    paths: int = 0
    block: str = "48h"
    seed: int = 1
    cap: float = 0.05
    split: str | None = None
    mark: Sequence[str] = ()
    funding: Sequence[str] = ()
    position_mode: str = "one_way"
    cash: float = 10_000.0
    start: str | None = None
    end: str | None = None
    fee: str | None = None
    intrabar: str = "adverse"
    unfunded: str = "reject"
    filters: str = "round"
    stamp: str = "open"
    on_liquidation: str = "continue"
    refill: float | None = None
    engine: str = "loop"
    scaler: Sequence[str] = ()

    def command(self) -> str:
        """Return the command line that carries it out."""
        return _command_of("compare", self)


@app.callback(invoke_without_command=True)
def lobby(context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the versions and exit.")] = False) -> None:
    """Backtrader backtests that obey the margin rules of a perpetual-futures venue."""
    if version:
        print(f"{NAME} {version_of('bt_margin')}, backtrader {version_of('backtrader')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def run(
    strategy: Annotated[str, typer.Argument(help="file.py, file.py:Class, module or module:Class.")],
    more: Annotated[list[str] | None, typer.Argument(metavar="FILE", help="More candle files.", show_default=False)] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Candles, BTCUSDT-1h.csv or BTCUSDT=FILE, with columns datetime (timestamp ...) open high low close; more may follow.",
        ),
    ] = None,
    mark: Annotated[list[str] | None, typer.Option(metavar="FILE", help="Mark candles, FILE or SYMBOL=FILE.")] = None,
    funding: Annotated[
        list[str] | None,
        typer.Option(metavar="RATE", help="Rate per funding interval (8 h; 1 h at some venues), 0.0001 or 0.01%, or file, or SYMBOL=...."),
    ] = None,
    venue: Annotated[str, typer.Option(help="Whose tiers, fees and lots; 'generic' takes any symbol.")] = Plan.venue,
    leverage: Annotated[str, typer.Option(help="One for all, or SYMBOL=5,SYMBOL=20.")] = Plan.leverage,
    margin_mode: Annotated[str, typer.Option(help="cross, isolated, or SYMBOL=cross,SYMBOL=isolated.")] = Plan.margin_mode,
    position_mode: Annotated[str, typer.Option(help="one_way, or hedge: a long and a short of one contract.")] = Plan.position_mode,
    cash: Annotated[float, typer.Option(help="First deposit.")] = Plan.cash,
    start: Annotated[str | None, typer.Option(help="First day or time of the candles, UTC.")] = None,
    end: Annotated[str | None, typer.Option(help="Last day or time of the candles, UTC.")] = None,
    param: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Parameter of the strategy.")] = None,
    sizer: Annotated[
        str | None, typer.Option(help="Size of every order, a rule as risk:fraction=1% (docs/sizing.md), or file.py:Class.")
    ] = None,
    scaler: Scalers = None,
    fee: Annotated[str | None, typer.Option(metavar="RATE", help="Trading fee, 0.0004, or MAKER,TAKER; the venue's unless given.")] = None,
    intrabar: Annotated[str, typer.Option(help="Path inside a bar: adverse, favourable, worst or close.")] = Plan.intrabar,
    unfunded: Annotated[
        str, typer.Option(help="An order without the margin it needs: reject, or shrink to the largest size that fits.")
    ] = Plan.unfunded,
    filters: Annotated[str, typer.Option(help="A size or price off its step: round (never for the better), or refuse.")] = Plan.filters,
    baseline: Annotated[bool, typer.Option("--baseline", help="Run stock Backtrader too.")] = False,
    stamp: Annotated[str, typer.Option(help="What the time of a row is: the open or the close of its bar.")] = Plan.stamp,
    detail: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Finer candles that decide inside a bar, FILE or SYMBOL=FILE.")
    ] = None,
    bounds: Annotated[bool, typer.Option("--bounds", help="Run the best and the worst path too.")] = False,
    on_liquidation: Annotated[str, typer.Option(help="continue, stop, or refill the account to --refill.")] = Plan.on_liquidation,
    refill: Annotated[float | None, typer.Option(help="Equity that a refill after a liquidation pays up to.")] = None,
    warn_at: Annotated[str | None, typer.Option(metavar="SHARE", help="Warn so near to liquidation, 0.05 or 5% of the mark.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the pictures and the tables.")] = None,
    report: ReportFolder = None,
    lang: Language = "en",
    tearsheet: Annotated[Path | None, typer.Option(metavar="FILE", help="Tear sheet of daily UTC returns, HTML, by quantstats.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print summary and liquidations as JSON.")] = False,
) -> None:
    """Run a Backtrader strategy on candle files under a venue's margin rules."""
    files = [*(data or ()), *(more or ())]
    if not files:
        raise ValueError("a run needs candles: --data BTCUSDT-1h.csv, or --data BTCUSDT=FILE")
    whence = (strategy, files, mark or (), funding or (), venue, leverage, margin_mode, position_mode, cash, start, end)
    how = (param or (), sizer, fee, intrabar, unfunded, filters, baseline, stamp, detail or (), bounds)
    plan = Plan(*whence, *how, on_liquidation, refill, warn_at, scaler or ())
    _check_places(out, tearsheet, report, lang)
    result, written = _carry_out(plan, lambda result: _keep(result, plan, out, tearsheet, report, lang), is_quiet=as_json)
    _tell(result, plan, written, as_json=as_json)
    _stop_if_cut_short(result, plan)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the picture.")] = Path(),
    report: ReportFolder = None,
    lang: Language = "en",
    as_json: Annotated[bool, typer.Option("--json", help="Print summary and liquidations as JSON.")] = False,
) -> None:
    """See a 20x trend strategy live and die on real prices."""
    from .plots import overview

    _check_places(out, None, report, lang)
    plan = demo_plan()

    def keep(result: Result) -> Iterator[Path]:
        yield _save_picture(overview(result, note=DEMO_NOTE), out / DEMO_PICTURE)
        if report is not None:
            yield from _save_report(result, report, f"{NAME} demo", lang=lang, note=DEMO_NOTE)

    result, written = _carry_out(plan, keep, is_quiet=as_json)
    _tell(result, plan, written, as_json=as_json, note=DEMO_NOTE)
    _stop_if_cut_short(result, plan)


@app.command()
def compare(
    strategy: Annotated[str, typer.Argument(help="file.py, file.py:Class, module or module:Class.")],
    more: Annotated[list[str] | None, typer.Argument(metavar="FILE", help="Candle files.", show_default=False)] = None,
    data: Annotated[list[str] | None, typer.Option(metavar="FILE", help="Candles, BTCUSDT-1h.csv or BTCUSDT=FILE.")] = None,
    sizer: Annotated[
        list[str] | None, typer.Option(metavar="RULE", help="A rule to try, as of run; 'none': as the strategy sizes; more may follow.")
    ] = None,
    scaler: Scalers = None,
    leverage: Annotated[str, typer.Option(help="One or more, 2,5,10.")] = Trial.leverage,
    margin_mode: Annotated[str, typer.Option(help="cross, isolated, or cross,isolated.")] = Trial.margin_mode,
    venue: Annotated[str, typer.Option(help="One or more, binance,okx.")] = Trial.venue,
    param: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Parameter, or several to try: fast=10,20.")] = None,
    paths: Annotated[int, typer.Option(help="Bootstrap paths of the market, beside the history; 0 has no probabilities.")] = Trial.paths,
    block: Annotated[str, typer.Option(help="Mean length of a block: 48h, 3d, or a number of bars.")] = Trial.block,
    seed: Annotated[int, typer.Option(help="Of the paths; the same for all combinations.")] = Trial.seed,
    cap: Annotated[float, typer.Option(help="Highest probability of a liquidation to be ranked among the first.")] = Trial.cap,
    split: Annotated[str | None, typer.Option(metavar="TIME", help="Rank by the bars until then, show the bars after it (UTC).")] = None,
    mark: Annotated[list[str] | None, typer.Option(metavar="FILE", help="Mark candles, FILE or SYMBOL=FILE.")] = None,
    funding: Annotated[list[str] | None, typer.Option(metavar="RATE", help="Rate per interval, or file, or SYMBOL=....")] = None,
    position_mode: Annotated[str, typer.Option(help="one_way, or hedge.")] = Trial.position_mode,
    cash: Annotated[float, typer.Option(help="First deposit.")] = Trial.cash,
    start: Annotated[str | None, typer.Option(help="First day or time of the candles, UTC.")] = None,
    end: Annotated[str | None, typer.Option(help="Last day or time of the candles, UTC.")] = None,
    fee: Annotated[str | None, typer.Option(metavar="RATE", help="Trading fee, 0.0004, or MAKER,TAKER; the venue's unless given.")] = None,
    intrabar: Annotated[str, typer.Option(help="Path inside a bar: adverse, favourable, worst or close.")] = Trial.intrabar,
    unfunded: Annotated[str, typer.Option(help="An order without the margin it needs: reject, or shrink.")] = Trial.unfunded,
    filters: Annotated[str, typer.Option(help="A size or price off its step: round, or refuse.")] = Trial.filters,
    stamp: Annotated[str, typer.Option(help="What the time of a row is: the open or the close of its bar.")] = Trial.stamp,
    on_liquidation: Annotated[str, typer.Option(help="continue, stop, or refill the account to --refill.")] = Trial.on_liquidation,
    refill: Annotated[float | None, typer.Option(help="Equity that a refill after a liquidation pays up to.")] = None,
    engine: Annotated[str, typer.Option(help="What plays the runs: loop.")] = Trial.engine,
    workers: Annotated[int | None, typer.Option(help="Processes; one for each core unless given.", show_default=False)] = None,
    backend: Annotated[str, typer.Option(help="loky: this machine; dask: a cluster; serial: this process.")] = "loky",
    scheduler: Annotated[str | None, typer.Option(metavar="tcp://HOST:PORT", help="Of the dask cluster.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the tables; results are kept there as they come.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what --out holds.")] = False,
    minutes: Annotated[float | None, typer.Option(help="Begin no run after so long; paths that are whole by then count.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for the page, compare.html, and its pictures.")] = None,
    lang: Language = "en",
    as_json: Annotated[bool, typer.Option("--json", help="Print the ranked table as JSON.")] = False,
) -> None:
    """Run a strategy under many sizing rules and leverages, on the history and on paths like it, and rank them."""
    files = [*(data or ()), *(more or ())]
    if not files:
        raise ValueError("a comparison needs candles: --data BTCUSDT-1h.csv, or --data BTCUSDT=FILE")
    asked = (strategy, files, sizer or (), leverage, margin_mode, venue, param or (), paths, block, seed, cap, split, mark or ())
    whence = (funding or (), position_mode, cash, start, end, fee, intrabar, unfunded, filters, stamp, on_liquidation, refill, engine)
    trial = Trial(*asked, *whence, scaler or ())
    where: dict[str, Any] = {"workers": workers, "backend": backend.lower(), "scheduler": scheduler, "out": out, "resume": resume}
    where["minutes"] = minutes
    _check_places(out, None, report, lang)
    compared = _compare(trial, where, is_quiet=as_json)
    pages = [] if report is None else list(_save_comparison(compared, report, lang))
    _tell_comparison(compared, out, pages, as_json=as_json)


calc.register(app)
ladder.register(app)
supplying.register(checking.register(app))
tiering.register(app)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; every error of use or input is one sentence on stderr and exit code 2."""
    from .loading import UserCodeError, as_options

    try:
        lift()
        command = typer.main.get_command(app)
        if isinstance(sys.stdout, TextIOWrapper):  # a block of a spark line that a stream cannot write is no reason to fail
            sys.stdout.reconfigure(errors="replace")
        code = command.main(args=arguments, prog_name=NAME, standalone_mode=False)
        if code == INTERRUPTED:  # what typer makes of Ctrl-C; our own ends are SystemExit
            raise KeyboardInterrupt
        sys.exit(code)
    except UserCodeError as error:
        print(error.trace, file=sys.stderr, end="")
        _refuse(str(error))
    except ArithmeticError as error:
        _refuse(f"the arithmetic failed ({error}); look for a 0 or a huge number among the parameters and the prices")
    except (ValueError, OSError) as error:
        _refuse(as_options(str(error)))
    except USAGE_ERROR as error:
        _refuse(error.format_message())
    except (typer.Abort, KeyboardInterrupt):
        print(f"{NAME}: stopped at once", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _refuse(reason: str) -> NoReturn:
    print(f"{NAME}: {' '.join(reason.split())}", file=sys.stderr)
    sys.exit(2)


def _stop_if_cut_short(result: Result, plan: Plan) -> None:
    missing = ["those of stock Backtrader"] if plan.baseline and result.baseline is None else []
    missing += ["those of the best and the worst path"] if plan.bounds and result.bounds is None else []
    if plan.on_liquidation.lower() == "stop" and len(result.liquidations):
        return
    if result.ended_early:
        told = f"stopped on the bar of {result.equity.index[-1]:%Y-%m-%d %H:%M} UTC; the figures are of what was done"
    elif missing:
        told = f"stopped before all runs were done; the figures under margin are whole, {' and '.join(missing)} are left out"
    else:
        return
    print(f"{NAME}: {told}", file=sys.stderr)
    sys.exit(INTERRUPTED)


# -- running ---------------------------------------------------------------------------------------------------------


def demo_plan() -> Plan:
    """Return the demo: a 50/200-day cross at 20x on the candles we ship."""
    return Plan(
        f"{_shipped('strategies.sma_cross').__name__}:SmaCross",
        [f"BTCUSDT={_shipped('data').path()}"],
        funding=["0.0001"],
        leverage="20",
        margin_mode="isolated",
        start="2019-08-01",
        end="2020-12-31",
        param=[f"fast={50 * HOURS_A_DAY}", f"slow={200 * HOURS_A_DAY}"],
        sizer="2.5",
        baseline=True,
    )


def _shipped(name: str) -> "ModuleType":
    """Return what is installed inside the package and stands at the top of a checkout."""
    try:
        return import_module(f"bt_margin.{name}")
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("bt_margin."):
            raise
        raise ValueError("the demo's candles and strategies come with the installed package; run 'pip install .' first") from error


def _carry_out(plan: Plan, keep: Callable[[Result], Iterator[Path]], *, is_quiet: bool) -> tuple[Result, list[Path]]:
    """Return a plan's Result, and the files in which ``keep`` wrote it down, which yields each when it is there.

    ``is_quiet``: what the strategy prints goes to stderr, so that stdout is ours alone.
    """
    written: list[Path] = []
    with redirect_stdout(sys.stderr) if is_quiet else nullcontext(), shown() as progress, _interruptible() as interrupt:
        try:
            progress("reading", None)
            terms = _terms(plan)
            interrupt.is_patient = True
            result = _blamed_run(plan, terms, lambda share: progress("trading", share) or not interrupt.is_asked)
            interrupt.is_patient = False
            progress("drawing and writing", None)
            written.extend(keep(result))
        except KeyboardInterrupt:
            kept = f"kept {', '.join(map(str, written))}" if written else "nothing was kept"
            print(f"{NAME}: stopped at once, {kept}", file=sys.stderr)
            sys.exit(INTERRUPTED)
    return result, written


def _terms(plan: Plan) -> dict[str, Any]:
    """Return the arguments of ``backtest.run`` that a plan names."""
    from . import venues
    from .loading import (
        by_symbol_from,
        check_kinds,
        distance_from,
        fee_from,
        feeds_from,
        leverage_from,
        params_from,
        scaler_from,
        sizer_from,
        strategy_from,
    )

    rules = venues.load(plan.venue.lower())
    if plan.cash == Plan.cash and any(contract.kind == "inverse" for contract in rules.contracts.values()):
        raise ValueError(f"--cash is coins at {rules.name}, whose contracts settle in their base coin; say how many, such as --cash 2")
    strategy, params = strategy_from(plan.strategy), params_from(plan.param)
    check_kinds(strategy, params)
    scalers = [scaler_from(text) for text in plan.scaler]
    return {
        "strategy": strategy,
        "leverage": by_symbol_from("--leverage", plan.leverage, leverage_from),
        "margin_mode": by_symbol_from("--margin-mode", plan.margin_mode, str.lower),
        "params": params,
        "sizer": None if plan.sizer is None else sizer_from(plan.sizer),
        "scaler": scalers or None,
        "before": ladder.FirstLadder() if scalers else None,
        "data": feeds_from(plan.data, plan.mark, plan.funding, plan.start, plan.end, rules, plan.stamp.lower(), plan.detail),
        "venue": plan.venue.lower(),
        "fee": None if plan.fee is None else fee_from(plan.fee),
        "cash": plan.cash,
        "position_mode": plan.position_mode.lower().replace("-", "_"),
        "intrabar": plan.intrabar.lower().replace("favorable", "favourable"),
        "unfunded": plan.unfunded.lower(),
        "filters": plan.filters.lower(),
        "baseline": plan.baseline,
        "bounds": plan.bounds,
        "on_liquidation": plan.on_liquidation.lower(),
        "refill": plan.refill,
        "warning_distance": None if plan.warn_at is None else distance_from(plan.warn_at),
    }


def _blamed_run(plan: Plan, terms: dict[str, Any], progress: Callable[[float], bool]) -> Result:
    from .backtest import run as backtest
    from .loading import blaming

    named = [terms["strategy"].__module__] + ([terms["sizer"][0].__module__] if isinstance(terms["sizer"], tuple) else [])
    modules = [module for module in named if not module.startswith(f"{__package__}.sizers.")]  # what our rules refuse is for their user
    with blaming(plan.strategy, *modules):
        return backtest(**terms, progress=progress)


@dataclass
class _Interrupt:
    is_patient: bool = False
    is_asked: bool = False


@contextmanager
def _interruptible() -> Iterator[_Interrupt]:
    """Let the first Ctrl-C of a run ask it to end after the bar it is on; the next one ends it at once."""
    interrupt = _Interrupt()

    def ask(*_: Any) -> None:
        if interrupt.is_asked or not interrupt.is_patient:
            raise Interrupted
        interrupt.is_asked = True
        print(f"{NAME}: ending after this bar; Ctrl-C again ends at once", file=sys.stderr)

    if current_thread() is not main_thread():  # only there can a signal be handled
        yield interrupt
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


# -- comparing -------------------------------------------------------------------------------------------------------


def _compare(trial: Trial, where: dict[str, Any], *, is_quiet: bool) -> "Comparison":
    """Carry a comparison out; Ctrl-C ends it with a sentence that says what is kept.

    ``is_quiet``: what the strategy prints goes to stderr, so that stdout is ours alone.
    """
    from .comparison import compare as compared
    from .loading import as_options, blaming
    from .sweep import Stopped, progress_bar

    with redirect_stdout(sys.stderr) if is_quiet else nullcontext(), progress_bar("comparing") as progress:
        try:
            terms = _trial_terms(trial)
            with blaming(trial.strategy, terms["strategy"].__module__):
                return compared(**terms, **where, progress=progress, command=trial.command())
        except Stopped as error:
            told = (
                as_options(str(error))
                if where["out"] is not None
                else "stopped, and nothing was kept; --out DIR keeps results as they come"
            )
            print(f"{NAME}: {told}", file=sys.stderr)
            sys.exit(INTERRUPTED)


def _trial_terms(trial: Trial) -> dict[str, Any]:
    """Return the arguments of ``comparison.compare`` that a trial names."""
    from . import venues
    from .loading import check_kinds, fee_from, feeds_from, leverage_from, listed_from, scaler_from, strategy_from, values_from

    houses = listed_from(trial.venue.lower(), str)
    rules = [venues.load(house) for house in houses]
    if trial.cash == Trial.cash and any(contract.kind == "inverse" for house in rules for contract in house.contracts.values()):
        names = ", ".join(house.name for house in rules)
        raise ValueError(f"--cash is coins at {names}, where contracts settle in their base coin; say how many, such as --cash 2")
    strategy, params = strategy_from(trial.strategy), values_from(trial.param)
    for name, values in params.items():
        for value in values:
            check_kinds(strategy, {name: value})
    try:
        leverages = listed_from(trial.leverage, leverage_from)
    except ValueError:
        raise ValueError(f"--leverage takes numbers such as 2,5,10, was {trial.leverage!r}") from None
    return {
        "strategy": strategy,
        "data": feeds_from(trial.data, trial.mark, trial.funding, trial.start, trial.end, rules[0], trial.stamp.lower()),
        "sizers": [None if rule.lower() == "none" else rule for rule in trial.sizer] or [None],
        "leverages": leverages,
        "margin_modes": listed_from(trial.margin_mode.lower(), str),
        "venues": houses,
        "params": params,
        **{name: getattr(trial, name) for name in ("paths", "block", "seed", "cap", "split", "cash", "engine", "refill")},
        "fee": None if trial.fee is None else fee_from(trial.fee),
        "position_mode": trial.position_mode.lower().replace("-", "_"),
        "intrabar": trial.intrabar.lower().replace("favorable", "favourable"),
        "unfunded": trial.unfunded.lower(),
        "filters": trial.filters.lower(),
        "on_liquidation": trial.on_liquidation.lower(),
        "scaler": [scaler_from(text) for text in trial.scaler] or None,
    }


def _save_comparison(compared: "Comparison", folder: Path, lang: str) -> Iterator[Path]:
    """Write the page of a comparison and its pictures, and yield each; without what the page is made with say so, and write these."""
    from .plots import PICTURES, panel
    from .report import MissingExtraError, Report

    try:
        yield _save_text(Report(compared, lang=lang).html(), folder / "compare.html", "--report")
    except MissingExtraError as error:
        print(f"{NAME}: {error}", file=sys.stderr)
    for key in PICTURES:
        yield _save_picture(panel(compared, key), folder / f"{key}.png", "--report")


def _tell_comparison(compared: "Comparison", out: Path | None, pages: Sequence[Path], *, as_json: bool) -> None:
    from .comparison import files_in

    written = [*([] if out is None else files_in(out)), *pages]
    if as_json:
        tables = {name: getattr(compared, name) for name in ("table", "test", "errors")}
        shown = {
            "settings": compared.settings,
            "combinations": compared.combinations,
            "flags": list(compared.flags),
            **{name: None if frame is None else frame.reset_index().to_dict("records") for name, frame in tables.items()},
            "files": [str(path) for path in written],
        }
        print(json.dumps(plain(shown), indent=2))
        return
    from .tables import comparison_heading, comparison_table

    printed = console()
    printed.print(comparison_heading(compared) + "\n", highlight=False, markup=False)
    printed.print(comparison_table(compared))
    printed.print("Stated policies: " + "; ".join(compared.flags) + ".", highlight=False, markup=False)
    for path in written:
        printed.print(f"Wrote {path}", highlight=False, markup=False, soft_wrap=True)


# -- telling ---------------------------------------------------------------------------------------------------------


def _tell(result: Result, plan: Plan, written: Sequence[Path], *, as_json: bool, note: str = "") -> None:
    if as_json:
        shown = {"summary": result.summary, "liquidations": records(result.liquidations), "files": [str(path) for path in written]}
        if result.baseline is not None:
            shown["baseline"] = {"final_equity": result.baseline.iloc[-1], "lowest_equity": result.baseline.min()}
        if result.bounds is not None:
            shown["bounds"] = {
                name: {
                    "final_equity": end.summary["final_equity"],
                    "lowest_equity": end.equity["lowest_equity"].min(),
                    "liquidations": end.summary["liquidations"],
                }
                for name, end in result.bounds.ends
            }
        print(json.dumps(plain(shown), indent=2))
        return
    from .tables import equity_line, heading, liquidation_table, summary_table

    printed = console()
    printed.print(heading(result) + (f"; {note}" if note else "") + "\n", highlight=False, markup=False)
    printed.print(summary_table(result))
    printed.print(equity_line(result), highlight=False, markup=False, soft_wrap=True)
    if len(result.liquidations):
        printed.print(liquidation_table(result, SHOWN))
    if plan.warn_at is not None:
        printed.print(_warned(result), highlight=False, markup=False, soft_wrap=True)
    if result.fills.empty:
        printed.print("No order was filled.")
    for message in result.refusals["message"].head(1):
        printed.print(f"First refusal: {message}.", highlight=False, markup=False, soft_wrap=True)
    printed.print("Stated policies: " + "; ".join(result.summary["flags"]) + ".", highlight=False, markup=False)
    for path in written:
        printed.print(f"Wrote {path}", highlight=False, markup=False, soft_wrap=True)
    if note:
        printed.print(f"The same as: {plan.command()}", highlight=False, markup=False, soft_wrap=True)


def _warned(result: Result) -> str:
    """Return how often the account was warned of a near liquidation, and when first."""
    warnings = result.warnings
    if warnings.empty:
        return "Warnings: none."
    first = warnings.iloc[0]
    whose = f"{first['symbol']} {first['distance']:.2%} from its liquidation price {first['liquidation_price']:,.6g}"
    return f"Warnings: {len(warnings)}, the first {first['time']:%Y-%m-%d %H:%M} UTC, {whose}."


def _check_folder(path: Path | None, option: str = "--out") -> None:
    """Try to write in the folder, or in the nearest one above it that is there, before a run is worked out that could not be kept."""
    if path is None:
        return
    from tempfile import TemporaryFile

    try:
        with TemporaryFile(dir=next(place for place in (path, *path.parents) if place.exists())):
            pass
    except OSError as error:
        raise ValueError(f"{option} {path} is no folder to write to ({error.strerror}); name one that is") from error


def _check_places(out: Path | None, tearsheet: Path | None, report: Path | None, lang: str) -> None:
    """Refuse what could not be written, before a run is worked out for it."""
    from .report import Words

    _check_folder(out)
    _check_folder(report, "--report")
    Words(lang)
    if tearsheet is not None:
        check_tearsheet(tearsheet)
        _check_folder(tearsheet.parent, "--tearsheet")


def _keep(result: Result, plan: Plan, out: Path | None, tearsheet: Path | None, report: Path | None, lang: str) -> Iterator[Path]:
    if out is not None:
        yield from _save(result, out)
    if tearsheet is not None:
        yield _write(tearsheet, lambda place: save_tearsheet(result, place), "--tearsheet")
    if report is not None:
        yield from _save_report(result, report, plan.command(), lang=lang)


def _save(result: Result, folder: Path) -> Iterator[Path]:
    """Write the picture, the tables and the summary of a run, and yield each file that is there."""
    from .plots import PANELS, page, panel, text

    yield _save_picture(page(result), folder / "page.png")
    yield _save_text("\n".join(text(result, key) for key in PANELS), folder / "pictures.txt")
    for key in OWN_PICTURES:
        yield _save_picture(panel(result, key), folder / f"{key}.png")
    for name in FRAMES:
        yield _save_text(getattr(result, name).to_csv(index=name == "equity"), folder / f"{name}.csv")
    whole = json.dumps(plain({"settings": result.settings, "summary": result.summary, "statistics": result.statistics}), indent=2)
    if result.baseline is not None:
        yield _save_text(result.baseline.to_csv(), folder / "baseline.csv")
    if result.bounds is not None:
        yield _save_text(result.bounds.equity.to_csv(), folder / "bounds.csv")
    yield _save_text(whole + "\n", folder / "summary.json")


def _save_report(result: Result, folder: Path, command: str, *, lang: str, note: str = "") -> Iterator[Path]:
    """Write the report page, and yield it; where what it is made with is not installed say so, and write the still picture."""
    from .plots import page
    from .report import MissingExtraError, Report

    try:
        text = Report(result, command=command, note=note, lang=lang).html()
    except MissingExtraError as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        yield _save_picture(page(result, note=note), folder / "page.png", "--report")
        return
    yield _save_text(text, folder / "run.html", "--report")


def _save_text(text: str, path: Path, option: str = "--out") -> Path:
    return _write(path, lambda place: place.write_text(text, "utf-8"), option)


def _save_picture(figure: "Figure", path: Path, option: str = "--out") -> Path:
    from .plots import save

    return _write(path, lambda place: save(figure, place), option)


def _write(path: Path, save: Callable[[Path], Any], option: str = "--out") -> Path:
    """Write a file whole or not at all: of two runs that write the same file it is of one."""
    from secrets import token_hex

    draft = path.with_name(f".{token_hex(4)}.{path.name}")
    missing = [place for place in path.parents if not place.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # not before: a run that ends early leaves no empty folder
        save(draft)
        draft.replace(path)
    except OSError as error:
        raise ValueError(f"cannot write {path} ({error.strerror}); name another folder with {option}") from error
    finally:
        draft.unlink(missing_ok=True)
        for place in missing:
            with suppress(OSError):  # it holds the file, as it should
                place.rmdir()
    return path
