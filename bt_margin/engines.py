"""What the workers of a comparison do: combinations of rule and terms played on one market path, told in figures.

A plan names everything by reference and in values of JSON, see ``comparison``. A job is one path of one period and some of the
combinations, so that what is drawn is drawn once for all of them. ENGINES are the ways to play them; each takes the market once and
yields, for the combinations asked for and in their order, figures (with ``"error"``) and the curve, None where the run failed.
"""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf, nan
from typing import TYPE_CHECKING, Any, NamedTuple

import backtrader as bt

from . import venues
from .backtest import run
from .bootstrap import Candles, generator, resampled
from .core.funding import FundingSchedule
from .core.top_up import TopUp
from .feeds import PerpData
from .loading import UserCodeError, blaming
from .outcome import FIGURES, Outcome
from .sweep import load, resolve

if TYPE_CHECKING:
    import numpy as np

Plan = Mapping[str, Any]
SECOND = 10**6  # microseconds
ARRAYS = ("closes_at", "stamps", "rates", "paid_by")  # of a contract, beside its columns


class Market(NamedTuple):
    """One path of all contracts: what the history was, or what could have been."""

    plan: Plan
    period: int
    path: int
    candles: tuple[Candles, ...]
    made: dict[str | None, dict[str, PerpData]]

    def feeds(self, venue: str | None) -> dict[str, PerpData]:
        """Return a feed for each contract, made once; a constant funding rate is charged as often as the venue does."""
        if venue not in self.made:
            rules = venues.load(venues.GENERIC.name if venue is None else venue)
            contracts = zip(self.candles, self.plan["contracts"], strict=True)
            self.made[venue] = {candles.symbol: _feed(candles, terms, rules) for candles, terms in contracts}
        return self.made[venue]

    def instants(self) -> "np.ndarray":
        """Return the common instants, in seconds, at which the curves of a period are read."""
        import numpy as np

        first, last = self.plan["spans"][self.period]
        return np.linspace(first, last, self.plan["points"])


Played = tuple[dict[str, Any], "np.ndarray | None"]


class Engine(NamedTuple):
    """A way to play combinations; ``bars`` is how many it plays in a job, over all its combinations, or one where that is more."""

    play: Callable[[Market, Sequence[int]], Iterator[Played]]
    bars: float

    def chunk(self, bars: int, combinations: int) -> int:
        """Return how many combinations make a job."""
        return int(max(1, min(self.bars / bars, combinations)))


def engine_called(name: str) -> Engine:
    """Return an engine; ValueError, saying what there is, for a name that none has."""
    if name not in ENGINES:
        raise ValueError(f"engine is one of {', '.join(ENGINES)}; was {name!r}")
    return ENGINES[name]


def work(plan: Plan, job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a job's combinations under ``"runs"``, and their curves as the array ``"curves"``."""
    import numpy as np

    market = _market(plan, job["period"], job["path"])
    runs, curves = [], []
    for figures, curve in engine_called(plan["engine"]).play(market, job["combinations"]):
        runs.append(figures)
        curves.append(np.full(plan["points"], nan) if curve is None else curve)
    return {"runs": runs, "arrays": {"curves": np.array(curves, dtype=np.float32)}}


# -- the market ------------------------------------------------------------------------------------------------------

_latest: dict[tuple[Any, ...], Market] = {}  # the path that this process was last on: jobs come path by path


def _market(plan: Plan, period: int, path: int) -> Market:
    key = plan["market"], plan["seed"], period, path
    if key not in _latest:
        _latest.clear()
        history = tuple(_history(contract, number, plan["periods"][period]) for number, contract in enumerate(plan["contracts"]))
        block = inf if plan["block"] is None else plan["block"]
        drawn = history if path == 0 else tuple(resampled(history, block, generator(plan["seed"], path)))
        _latest[key] = Market(plan, period, path, tuple(_frozen(candles) for candles in drawn), {})
    return _latest[key]._replace(plan=plan)


def _history(contract: Mapping[str, Any], number: int, rows: Sequence[Sequence[int]]) -> Candles:
    """Return a contract's rows of a period from the arrays that all workers share."""
    columns = {name: load(f"{number}.{name}") for name in contract["columns"]}
    closes_at, *funding = (load(f"{number}.{name}") for name in ARRAYS)
    return Candles(contract["symbol"], closes_at, contract["bar"], columns, *funding).during(*rows[number])


def _frozen(candles: Candles) -> Candles:
    """Return candles whose arrays are read-only, so that the feeds of all runs share them."""
    for column in (candles.closes_at, *candles.columns.values()):
        column.flags.writeable = False
    return candles


def _feed(candles: Candles, terms: Mapping[str, Any], rules: venues.Venue) -> PerpData:
    hours = terms["funding_hours"]
    made: dict[str, Any] = {
        "dataname": {"time": candles.closes_at, **candles.columns},
        "name": candles.symbol,
        "stamp": "close",
        "timeframe": terms["timeframe"],
        "compression": terms["compression"],
        "funding": _funding(candles, terms),
        "funding_hours": rules.funding_hours(candles.symbol) if hours is None else hours,
        "grace_seconds": terms["grace_seconds"],
    }
    return PerpData(**made)


def _funding(candles: Candles, terms: Mapping[str, Any]) -> FundingSchedule | float | None:
    if terms["constant_funding"] is not None:
        return float(terms["constant_funding"])
    if not terms["has_funding"]:
        return None
    stamps = (candles.stamps / SECOND).tolist()
    return FundingSchedule(tuple(stamps), tuple(candles.rates.tolist()), tuple(candles.paid_by.tolist()))


# -- the loop --------------------------------------------------------------------------------------------------------


def play_by_loop(market: Market, combinations: Sequence[int]) -> Iterator[Played]:
    """Run each combination's strategy through the event loop; what it raises is the error of that combination alone."""
    plan = market.plan
    instants, label = market.instants(), plan["strategy"]["name"]
    with blaming(label, *_modules(plan["strategy"])):
        strategy = resolve(plan["strategy"])
    for number in combinations:
        combination = plan["combinations"][number]
        try:
            with blaming(label, strategy.__module__, *_modules_of_sizer(plan, combination)):
                played = _played(market, strategy, combination, instants)
        except (UserCodeError, ValueError, ArithmeticError) as error:
            played = {**dict.fromkeys(FIGURES), "error": _sentence(error)}, None
        gc.collect()  # a finished Cerebro is a knot of references to itself, and the next one would be made beside it
        yield played


def _played(market: Market, strategy: type[bt.Strategy], combination: Mapping[str, Any], instants: "np.ndarray") -> Played:
    venue = combination["venue"]
    result = run(
        strategy,
        market.feeds(venue),
        venue=venue,
        leverage=combination["leverage"],
        margin_mode=combination["margin_mode"],
        params=combination["params"],
        sizer=_sizer(market.plan["sizers"][combination["sizer"]]),
        **_terms(market.plan["run"]),
    )
    outcome = Outcome(result)
    told = {"flags": result.flags} if market.path == 0 else {}
    return {**outcome.figures, "error": "", **told}, outcome.curve.at(instants)


def _terms(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``run`` that all combinations share, out of what JSON made of them."""
    terms = dict(plain)
    if isinstance(terms.get("fee"), list):
        terms["fee"] = tuple(terms["fee"])
    rules = terms.get("top_up")
    if rules is not None:
        terms["top_up"] = {name: TopUp(**rule) for name, rule in rules["by_symbol"].items()} if "by_symbol" in rules else TopUp(**rules)
    return terms


def _sizer(plain: Mapping[str, Any]) -> Any:
    if plain["reference"] is None:
        return plain["size"]
    return resolve(plain["reference"]), plain["params"]


def _modules(reference: Mapping[str, Any]) -> list[str]:
    """Return where the code of a reference stands, as ``blaming`` takes it."""
    return [place for place in (reference["file"], reference["module"]) if place]


def _modules_of_sizer(plan: Plan, combination: Mapping[str, Any]) -> list[str]:
    reference = plan["sizers"][combination["sizer"]]["reference"]
    return [] if reference is None else _modules(reference)


def _sentence(error: Exception) -> str:
    said = " ".join(str(error).split())
    return f"the arithmetic failed ({said})" if isinstance(error, ArithmeticError) else said


ENGINES = {"loop": Engine(play_by_loop, bars=50_000)}
