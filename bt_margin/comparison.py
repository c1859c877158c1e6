"""compare(): the same signals under many sizing rules, leverages, margin modes and venues, on the history and on paths like it.

One row for each combination, told by wealth and by what it cost in liquidations. All combinations meet the same market paths, so that
two rules differ by what they do and not by luck. Whatever runs where, the same seed has the same table.
"""

import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from hashlib import sha256
from inspect import signature
from itertools import product
from math import inf, nan, sqrt
from numbers import Real
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import backtrader as bt

from .backtest import check_strategy, feeds_of, run, sizer_of
from .bootstrap import DAY, SECOND, Candles, common, funding_clock
from .broker import MarginBroker
from .core.top_up import TopUp
from .engines import ARRAYS, engine_called
from .frames import exact_terms
from .loading import sizer_from
from .measures import DAY as SECONDS_A_DAY
from .measures import DAYS_A_YEAR, iso
from .outcome import AGGREGATES, CONFIDENCE, FIGURES, QUANTILES, RUIN_SHARE, WEALTH_FLOOR, together
from .plugging import START_CASH
from .result import plain, version_of
from .sizers import Rule, label
from .sweep import Sweep, reference
from .venues import GENERIC, Venue
from .venues import load as rules_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from .feeds import PerpData

Told = Callable[[int, int, float | None], Any]

WORK = "bt_margin.engines:work"
POINTS = 200  # instants of a curve
BLOCK = "48h"
CAP = 0.05
SEED = 1
UNITS = {"h": 3_600 * SECOND, "d": DAY, "m": 60 * SECOND}
# Flags of one account, which say nothing of the comparison; and those of one rule, which are told with its name.
OF_A_RUN = ("the account died", "ended ", "funding stamps in data gaps", "entries that the sizer made nothing of")
OF_A_RULE = "the sizer was asked for no entry"
NOT_HERE = ("baseline", "bounds", "detail", "progress")  # arguments of run() that a comparison has no use for
AXES = ("rule", "leverage", "margin_mode", "venue")
PERIODS = ("train", "test")
OWN_SIZE = "as the strategy sizes"
OWN_COLUMNS = {*AXES, *AGGREGATES, "id", "paths", "errors", "is_admitted"}
CURVES, MANIFEST = "curves.npz", "comparison.json"
FILES = {"table": "table.csv", "runs": "runs.csv", "errors": "errors.csv", "test": "test.csv"}


@dataclass
class Comparison:
    """What ``compare`` returns.

    - ``table``: a row for each combination, best first: those within the cap on the probability of liquidation by median log
      wealth, then the others likewise. With a split it is of the period before it, as ``train``, and ``test`` has the period after
      it in the same order
    - ``runs``: a row for each run; ``path`` 0 is the history as it was. ``errors``: those of them that failed
    - ``fans``: by combination (5, points), quantiles of equity over the paths in multiples of what was put in, or the one history
      five times; ``history``: its curve; ``fan_days``: days since the start
    - ``settings``: how it was made; ``flags``: the stated policies; ``market``: ``mu`` and ``sigma`` of ``symbol`` a year, so that
      l * mu - l**2 * sigma**2 / 2 is the log growth of holding l times equity, at l = 1 that of the price itself
    """

    table: "pd.DataFrame"
    runs: "pd.DataFrame"
    fans: "dict[int, np.ndarray]"
    fan_days: "np.ndarray"
    history: "dict[int, np.ndarray]"
    settings: dict[str, Any]
    flags: tuple[str, ...]
    market: dict[str, Any]
    test: "pd.DataFrame | None" = None
    errors: "pd.DataFrame" = field(init=False)

    def __post_init__(self) -> None:
        keys = [name for name in ("combination", "period", "path", "error") if name in self.runs]
        self.errors = self.runs.loc[self.runs["error"] != "", keys].reset_index(drop=True)

    @property
    def combinations(self) -> int:
        """How many combinations were tried: the more, the more of the best one's lead is luck."""
        return len(self.table)

    @property
    def train(self) -> "pd.DataFrame | None":
        """The table that the order is of, where there was a split; else None."""
        return None if self.test is None else self.table

    def __str__(self) -> str:
        from .tables import comparison_text

        return comparison_text(self)

    def to_csv(self, path: str | Path) -> Path:
        """Write the table to a CSV file and return its path."""
        path = Path(path)
        self.table.to_csv(path)
        return path

    def save(self, folder: str | Path) -> list[Path]:
        """Write everything to a folder, for ``load``, and return the files: tables as CSV, curves as .npz, ``comparison.json``."""
        import numpy as np

        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        written = []
        for name, file in FILES.items():
            frame = getattr(self, name)
            if frame is None:
                (place / file).unlink(missing_ok=True)
            else:
                frame.to_csv(place / file, index=name in ("table", "test"))
                written.append(place / file)
        ids = list(self.fans)
        curves: dict[str, Any] = {
            "ids": np.array(ids, dtype=int),
            "days": self.fan_days,
            "fans": np.array([self.fans[number] for number in ids]),
        }
        known = [number for number in ids if number in self.history]
        curves |= {"known": np.array(known, dtype=int), "history": np.array([self.history[number] for number in known])}
        np.savez_compressed(place / CURVES, **curves)
        whole = {"settings": self.settings, "flags": list(self.flags), "market": self.market, "combinations": self.combinations}
        (place / MANIFEST).write_text(json.dumps(plain(whole), indent=2) + "\n", "utf-8")
        return [*written, place / CURVES, place / MANIFEST]

    @classmethod
    def load(cls, folder: str | Path) -> "Comparison":
        """Return what ``save`` wrote to a folder; ValueError where there is none."""
        import numpy as np
        import pandas as pd

        place = Path(folder)
        if not (place / MANIFEST).is_file():
            raise ValueError(f"there is no comparison.json in {place}; name a folder that Comparison.save() or --out has written")
        whole = json.loads((place / MANIFEST).read_text("utf-8"))
        terms = exact_terms()
        frames = {name: pd.read_csv(place / file, **terms) for name, file in FILES.items() if (place / file).is_file() and name != "errors"}
        frames["runs"]["error"] = frames["runs"]["error"].fillna("")
        tables = {name: frame.set_index("id") for name, frame in frames.items() if name != "runs"}
        with np.load(place / CURVES) as curves:
            fans = dict(zip(curves["ids"].tolist(), curves["fans"], strict=True))
            history = dict(zip(curves["known"].tolist(), curves["history"], strict=True))
            days = curves["days"]
        told = whole["settings"], tuple(whole["flags"]), whole["market"]
        return cls(tables["table"], frames["runs"], fans, days, history, *told, test=tables.get("test"))


# -- what is asked for -----------------------------------------------------------------------------------------------


def compare(
    strategy: type[bt.Strategy],
    data: Mapping[str, Any],
    sizers: Sequence[Any] = (None,),
    leverages: Sequence[float] = (1,),
    margin_modes: Sequence[str] = ("cross",),
    venues: Sequence[str | None] = ("binance",),
    params: Mapping[str, Any] | None = None,
    *,
    paths: int = 0,
    block: float | str = BLOCK,
    seed: int = SEED,
    cap: float = CAP,
    split: str | date | None = None,
    cash: float = START_CASH,
    mark: Any = None,
    funding: Any = None,
    engine: str = "loop",
    workers: int | None = None,
    backend: str = "loky",
    scheduler: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    minutes: float | None = None,
    progress: Told | None = None,
    command: str = "",
    **terms: Any,
) -> Comparison:
    """Run a strategy under every combination of rule, leverage, margin mode, venue and parameters, and return them ranked.

    ``data``, ``mark``, ``funding`` and ``terms`` are ``run``'s (intrabar, fee, on_liquidation ...). ``sizers`` are classes, (class,
    params), sizes as numbers, texts as on the command line, or None, for orders as the strategy sizes them. A list among ``params``
    is tried value by value.

    ``paths`` market paths are drawn beside the history (stationary bootstrap, see ``bootstrap``), in blocks of ``block`` on average:
    '48h', '3d' or a number of bars; near the time that positions are held, 24 to 168 hours. Quantiles and probabilities are of the
    paths alone; without paths there are none. The same ``seed`` has the same paths, of all combinations and all workers.

    ``cap`` is the highest probability of a liquidation with which a combination is ranked among the first. ``split`` (a date or time,
    UTC): the ranking is of the bars that close until then, and the bars after it are shown in its order; either period is run by
    itself, and paths are drawn from its own bars.

    ``workers`` (None: one for each core), ``backend`` ('loky', 'dask', 'serial') and ``scheduler`` are ``Sweep.run``'s. ``out`` is a
    folder that keeps results as they come; ``resume`` goes on with what is there. After so many ``minutes`` no run is begun, and the
    paths are those that all combinations have met by then, as ``settings`` and a flag say: with ``resume`` 0 minutes tell what an
    interrupted comparison has come to. ``progress`` is called with the jobs done, the jobs in all and the seconds left. ``command`` is
    kept in ``settings``.

    A run that fails is a row with its error. ValueError for what can be told before.
    """
    where: dict[str, Any] = {"workers": workers, "backend": backend, "scheduler": scheduler, "resume": resume, "progress": progress}
    where["seconds"] = _seconds(minutes, out, resume=resume)
    numbers = {"paths": paths, "seed": seed, "cap": cap, "cash": cash, "engine": engine}
    asked = _asked(strategy, sizers, (leverages, margin_modes, venues), dict(params or {}), numbers, terms)
    rules = rules_of(asked.combinations[0]["venue"])
    market = _market(feeds_of(data, mark, funding, None, rules), rules, block=block, split=split, paths=paths)
    compared = _compared(asked, market, _played({**asked.plan, **market.plan}, market, paths, out, where), command)
    if out is not None:
        compared.save(out)
    return compared


def _seconds(minutes: Any, out: str | Path | None, *, resume: bool) -> float:
    """Return how long runs may be begun, infinity without an end; ValueError where there is nothing to go on with."""
    if resume and out is None:
        raise ValueError("resume goes on with what a folder holds; name it as out=")
    if minutes is not None and (isinstance(minutes, bool) or not isinstance(minutes, int | float) or not minutes >= 0):
        raise ValueError(f"minutes is how long runs may be begun, 0 or more, or None for no end, was {minutes!r}")
    return inf if minutes is None else 60.0 * minutes


def _played(plan: dict[str, Any], market: "_Market", paths: int, out: str | Path | None, where: dict[str, Any]) -> "_Played":
    """Return what the jobs of a plan came to, of the paths that are whole; ``where`` are the arguments of ``Sweep.run``."""
    jobs = _jobs(plan, paths)
    with _folder(out) as folder:
        sweep = Sweep(folder, plan, jobs, WORK)
        for name, array in market.arrays.items():
            sweep.store(name, array)
        rows = sweep.run(**where)
        whole = min((job["path"] for job, row in zip(jobs, rows, strict=True) if row is None), default=paths + 1) - 1
        if whole < 0:
            kept = "what is done is kept, go on with resume=True" if out is not None else "give more"
            raise ValueError(f"the time for runs was over before all combinations had met the history itself; {kept}")
        jobs = [job for job in jobs if job["path"] <= whole]  # a prefix: jobs come path by path
        return _Played(jobs, rows[: len(jobs)], [_read(sweep, number) for number in range(len(jobs))], whole)


def _read(sweep: Sweep, number: int) -> "np.ndarray | None":
    """Return the curves of a job, in memory, for their file may be gone soon; None of a job that failed whole."""
    import numpy as np

    curves = sweep.arrays(number).get("curves")
    return None if curves is None else np.array(curves)


def files_in(folder: str | Path) -> list[Path]:
    """Return the files of a comparison that a folder holds."""
    return [path for name in (*FILES.values(), CURVES, MANIFEST) if (path := Path(folder) / name).is_file()]


@contextmanager
def _folder(out: str | Path | None) -> Iterator[Path]:
    """Yield the folder of the sweep, below ``out`` or for the time being."""
    if out is not None:
        yield Path(out) / "sweep"
        return
    with TemporaryDirectory(prefix="bt_margin-") as folder:
        yield Path(folder)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What was asked for: the part of the plan that is no market, the labels of the rules and which parameters vary."""

    plan: dict[str, Any]
    rules: tuple[str, ...]
    varied: tuple[str, ...]
    paths: int
    cap: float

    @property
    def combinations(self) -> list[dict[str, Any]]:
        return self.plan["combinations"]

    def told(self, number: int) -> dict[str, Any]:
        """Return the columns that name a combination."""
        combination = self.combinations[number]
        named = {"rule": self.rules[combination["sizer"]], **{name: combination[name] for name in AXES[1:]}}
        return named | {column_of(name): combination["params"][name] for name in self.varied}


def column_of(param: str) -> str:
    """Return the column of a parameter, which may not be called as a figure is.

    >>> column_of("fast"), column_of("leverage")
    ('fast', 'param_leverage')
    """
    return f"param_{param}" if param in OWN_COLUMNS else param


def _asked(
    strategy: type[bt.Strategy],
    sizers: Sequence[Any],
    axes: tuple[Sequence[float], Sequence[str], Sequence[str | None]],
    params: dict[str, Any],
    numbers: dict[str, Any],
    terms: dict[str, Any],
) -> _Asked:
    check_strategy(strategy, params)
    _check_numbers(**numbers)
    leverages, modes, houses = axes
    leverages = leverages.tolist() if hasattr(leverages, "tolist") else leverages
    for name, values in zip(("sizers", "leverages", "margin_modes", "venues"), (sizers, leverages, modes, houses), strict=True):
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise ValueError(f"{name} is a list of one or more, was {values!r}")
    for leverage in leverages:
        if isinstance(leverage, bool) or not isinstance(leverage, Real) or not 1 <= float(leverage) < inf:
            raise ValueError(f"leverages are numbers of 1 or more, the same for all contracts, one was {leverage!r}")
    for mode in modes:
        if mode not in ("cross", "isolated"):
            raise ValueError(f"margin_modes are 'cross' or 'isolated', one was {mode!r}")
    houses = [rules_of(GENERIC.name if house is None else house).name for house in houses]
    labels, rules = _rules(sizers)
    params = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in params.items()}
    varied = tuple(name for name, value in params.items() if isinstance(value, list | tuple | range) and len(value) > 1)
    tried = {name: list(value) if isinstance(value, list | tuple | range) else [value] for name, value in params.items()}
    if empty := [name for name, values in tried.items() if not values]:
        raise ValueError(f"params: {', '.join(empty)} has no value to try; give one or more")
    for axis, values in (*zip(AXES, (labels, leverages, modes, houses), strict=True), *tried.items()):
        twice = [value for place, value in enumerate(values) if value in values[:place]]
        if twice:
            raise ValueError(f"{axis} {twice[0]!r} is tried twice; leave one out")
    combinations = [
        {"sizer": rule, "leverage": plain(leverage), "margin_mode": mode, "venue": house, "params": dict(zip(tried, values, strict=True))}
        for rule, house, mode, values, leverage in product(range(len(rules)), houses, modes, list(product(*tried.values())), leverages)
    ]
    plan = {
        "strategy": reference(strategy),
        "sizers": rules,
        "combinations": combinations,
        "run": {"cash": numbers["cash"], **_plain_terms(terms)},
        "engine": numbers["engine"],
        "seed": numbers["seed"],
        "points": POINTS,
        "made_by": {name: version_of(name) for name in ("bt_margin", "backtrader")},  # rows of two versions do not mix
    }
    return _Asked(plan, labels, varied, numbers["paths"], numbers["cap"])


def _check_numbers(*, paths: Any, seed: Any, cap: Any, cash: Any, engine: str) -> None:
    engine_called(engine)
    for name, value in (("paths", paths), ("seed", seed)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} is a whole number of 0 or more, was {value!r}")
    if isinstance(cap, bool) or not isinstance(cap, int | float) or not 0 <= cap <= 1:
        raise ValueError(f"cap is a probability from 0 to 1, was {cap!r}")
    if isinstance(cash, bool) or not isinstance(cash, int | float) or not 0 < cash < inf:
        raise ValueError(f"cash is an amount above 0, was {cash!r}")


def _rules(sizers: Sequence[Any]) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """Return the label of each rule and what a worker makes it of; classes of one name are told apart by their modules."""
    made = [_rule(sizer) for sizer in sizers]
    places = [rule["reference"] and (rule["reference"]["module"] or Path(rule["reference"]["file"]).stem) for _, rule in made]
    shared = {label for place, (label, rule) in enumerate(made) if any(label == other and rule != its for other, its in made[:place])}
    labels = [f"{label} ({place})" if label in shared else label for (label, _), place in zip(made, places, strict=True)]
    return tuple(labels), [rule for _, rule in made]


def _rule(sizer: Any) -> tuple[str, dict[str, Any]]:
    if sizer is None:
        return OWN_SIZE, {"reference": None, "size": None, "params": {}}
    sizer = sizer_from(sizer) if isinstance(sizer, str) else sizer
    kind, params = sizer_of(sizer)
    if isinstance(sizer, int | float):
        return f"size {sizer:g}", {"reference": None, "size": sizer, "params": {}}
    # Another's sizer may not want to be made outside of a Cerebro.
    told = label((kind, params)) if issubclass(kind, Rule) else " ".join([kind.__name__, *(f"{name}={params[name]}" for name in params)])
    return told, {"reference": reference(kind), "size": None, "params": dict(params)}


def _plain_terms(terms: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``run`` that all combinations share, as JSON holds them."""
    ours = set(signature(run).parameters) - {
        "strategy",
        "data",
        "sizer",
        *AXES[1:],
        "params",
        "cash",
        "mark",
        "funding",
        "account",
        *NOT_HERE,
    }
    known = [*sorted(ours), *MarginBroker.params._getkeys()]  # type: ignore[attr-defined]
    for name in terms:
        if name in NOT_HERE:
            raise ValueError(f"compare() has no {name}: it is of a single run; leave it out")
        if name not in known:
            raise ValueError(
                f"compare() has no argument {name}; beside its own it takes those of run() and MarginBroker, {', '.join(known)}"
            )
    kept = dict(terms)
    rules = kept.get("top_up")
    if isinstance(rules, TopUp):
        kept["top_up"] = asdict(rules)
    elif rules is not None:
        kept["top_up"] = {"by_symbol": {symbol: asdict(rule) for symbol, rule in rules.items()}}
    return kept


# -- the market ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Market:
    """The candles of all contracts: the part of the plan that is of them, the arrays that workers share, what was left out."""

    plan: dict[str, Any]
    arrays: "dict[str, np.ndarray]"
    history: tuple[Candles, ...]
    flags: tuple[str, ...]
    split: float | None

    @property
    def is_split(self) -> bool:
        return self.split is not None


def _market(feeds: "Sequence[PerpData]", rules: Venue, *, block: float | str, split: Any, paths: int) -> _Market:
    import numpy as np

    flags = [f"finer bars are not drawn, so detail is left out of every run: {feed._name}" for feed in feeds if feed.p.detail is not None]
    history = [_candles(feed) for feed in feeds]
    if paths:
        history, told = common(history)
        flags += [told] if told else []
    contracts = [
        {**_terms_of(feed, rules), "columns": list(candles.columns), "bar": candles.bar}
        for feed, candles in zip(feeds, history, strict=True)
    ]
    arrays = {f"{number}.{name}": getattr(candles, name) for number, candles in enumerate(history) for name in ARRAYS}
    arrays |= {f"{number}.{name}": column for number, candles in enumerate(history) for name, column in candles.columns.items()}
    digest = sha256()
    for name, array in arrays.items():
        digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    instant = None if split is None else _instant(split)
    periods = _periods(history, instant)
    for rows in periods if paths else ():
        funding_clock([candles.during(*span) for candles, span in zip(history, rows, strict=True)])
    plan = {
        "contracts": contracts,
        "block": _bars(block, history[0].bar),
        "periods": periods,
        "spans": [_span(history, rows) for rows in periods],
    }
    digest.update(json.dumps(plan).encode())
    return _Market({**plan, "market": digest.hexdigest()}, arrays, tuple(history), tuple(flags), instant)


def _candles(feed: "PerpData") -> Candles:
    import numpy as np

    columns = {name: np.array(column) for name, column in feed.columns().items()}
    known = {"open", "high", "low", "close", "volume", "openinterest", *(f"mark_{name}" for name in ("open", "high", "low", "close"))}
    if own := sorted(set(columns) - known):
        raise ValueError(f"{feed._name}: a comparison knows candles, marks and funding, not the lines {', '.join(own)}; give plain candles")
    schedule = None if feed.perp.constant_funding is not None else feed.perp.funding
    stamps, rates, paid_by = ((), (), ()) if schedule is None else (schedule.stamps, schedule.rates, schedule.marks)
    return Candles(
        feed._name,
        np.rint(np.array(feed.perp.stamps) * SECOND).astype("int64"),
        round(feed.perp.bar_seconds * SECOND),
        columns,
        np.rint(np.array(stamps, dtype=float) * SECOND).astype("int64"),
        np.array(rates, dtype=float),
        np.array(paid_by, dtype=float) if paid_by else np.full(len(stamps), nan),
    )


def _terms_of(feed: "PerpData", rules: Venue) -> dict[str, Any]:
    """Return what of a feed is no array; a constant rate that is charged as often as the first venue does is so at every venue."""
    is_of_venue = feed.perp.constant_funding is not None and feed.p.funding_hours == rules.funding_hours(feed._name)
    return {
        "symbol": feed._name,
        "timeframe": feed.p.timeframe,
        "compression": feed.p.compression,
        "constant_funding": feed.perp.constant_funding,
        "has_funding": feed.perp.funding is not None,
        "funding_hours": None if is_of_venue else feed.p.funding_hours,
        "grace_seconds": feed.p.grace_seconds,
    }


def _bars(block: float | str, bar: int) -> float | None:
    """Return the mean length of a block in bars, None for infinity."""
    if isinstance(block, str):
        text = block.strip().lower()
        unit = UNITS.get(text[-1:])
        try:
            length = float(text[:-1] if unit else text)
        except ValueError:
            raise ValueError(f"block is a number of bars, or a time such as 48h or 3d, was {block!r}") from None
        bars = length * (unit / bar if unit else 1)
    else:
        bars = block
    if isinstance(bars, bool) or not isinstance(bars, int | float) or not bars >= 1:
        raise ValueError(f"block is the mean length of a block, one bar ({bar / SECOND:g} s) or more, was {block!r}")
    return None if bars == inf else bars


def _instant(split: Any) -> float:
    """Return the instant of a split in seconds; what has no zone is UTC."""
    try:
        moment = datetime.fromisoformat(split.strip()) if isinstance(split, str) else split
    except ValueError:
        raise ValueError(f"split is a UTC date or time such as 2022-01-01, was {split!r}") from None
    if isinstance(moment, date) and not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    if not isinstance(moment, datetime):
        raise ValueError(f"split is a UTC date or time such as 2022-01-01, was {split!r}")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _periods(history: Sequence[Candles], split: float | None) -> list[list[list[int]]]:
    """Return for each period the first row and the end of each contract's bars; ValueError where a period has none of one."""
    import numpy as np

    if split is None:
        return [[[0, len(candles)] for candles in history]]
    ends = [int(np.searchsorted(candles.closes_at, round(split * SECOND), side="right")) for candles in history]
    for candles, end in zip(history, ends, strict=True):
        if not 0 < end < len(candles):
            first, last = (iso(float(closes) / SECOND) for closes in candles.closes_at[[0, -1]])
            raise ValueError(f"split {iso(split)} leaves {candles.symbol} no bar on one side; its bars close from {first} to {last}")
    return [[[0, end] for end in ends], [[end, len(candles)] for candles, end in zip(history, ends, strict=True)]]


def _span(history: Sequence[Candles], rows: Sequence[Sequence[int]]) -> list[float]:
    """Return the opening instant of the first bar of a period and the closing instant of its last, in seconds."""
    firsts = [float(candles.closes_at[first] - candles.bar) for candles, (first, _) in zip(history, rows, strict=True)]
    lasts = [float(candles.closes_at[end - 1]) for candles, (_, end) in zip(history, rows, strict=True)]
    return [min(firsts) / SECOND, max(lasts) / SECOND]


def _growth(candles: Candles, rows: Sequence[int]) -> dict[str, Any]:
    """Return drift and volatility a year of a contract's last price: mu = mean log move + sigma**2 / 2."""
    import numpy as np

    closes = candles.columns["close"][rows[0] : rows[1]]
    moves = np.diff(np.log(closes))
    if len(moves) < 2:
        return {"symbol": candles.symbol, "mu": None, "sigma": None}
    span = float(candles.closes_at[rows[1] - 1] - candles.closes_at[rows[0]]) / DAY / DAYS_A_YEAR
    sigma = float(moves.std(ddof=1)) * sqrt(len(moves) / span)
    return {"symbol": candles.symbol, "mu": float(moves.sum()) / span + sigma**2 / 2, "sigma": sigma}


def _jobs(plan: Mapping[str, Any], paths: int) -> list[dict[str, Any]]:
    """Return the jobs: the history first, then path by path, each by chunks of combinations."""
    count = len(plan["combinations"])
    bars = sum(end - first for rows in plan["periods"] for first, end in rows[:1])
    chunk = engine_called(plan["engine"]).chunk(bars, count)
    return [
        {"period": period, "path": path, "combinations": list(range(first, min(first + chunk, count)))}
        for path in range(paths + 1)
        for period in range(len(plan["periods"]))
        for first in range(0, count, chunk)
    ]


# -- what came of it -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Played:
    """The jobs, what each came to, the curves of its combinations (None of a job that failed whole), and how many paths that is."""

    jobs: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    curves: "list[np.ndarray | None]"
    paths: int

    def runs(self) -> Iterator[tuple[int, int, int, dict[str, Any], "np.ndarray | None"]]:
        """Yield period, combination, path, figures with the error, and the curve of each run."""
        for job, row, curves in zip(self.jobs, self.rows, self.curves, strict=True):
            for place, number in enumerate(job["combinations"]):
                told = row["runs"][place] if curves is not None else {**dict.fromkeys(FIGURES), "error": row["error"]}
                yield job["period"], number, job["path"], told, None if curves is None or told["error"] else curves[place]


def _compared(asked: _Asked, market: _Market, played: _Played, command: str) -> Comparison:
    import numpy as np
    import pandas as pd

    paths, flags = played.paths, dict.fromkeys(market.flags)
    if paths < asked.paths:
        flags[f"{paths} of {asked.paths} paths: the time for runs was over"] = None
    asked = replace(asked, paths=paths)
    figures: dict[int, dict[int, list[dict[str, Any]]]] = {}
    curves: dict[int, dict[int, np.ndarray]] = {}
    rows = []
    for period, number, path, told, curve in played.runs():
        if path == 0:
            rule = asked.told(number)["rule"]
            own = [flag for flag in told.get("flags", ()) if not flag.startswith(OF_A_RUN)]
            own = [f"{rule}: {flag}" if flag.startswith(OF_A_RULE) else flag for flag in own]
            flags |= dict.fromkeys(own if period == 0 else [f"{PERIODS[period]}: {flag}" for flag in own if flag not in flags])
        named = {"combination": number, **({"period": PERIODS[period]} if market.is_split else {}), "path": path}
        rows.append({**named, **{name: told[name] for name in FIGURES}, "error": told["error"]})
        figures.setdefault(period, {}).setdefault(number, []).append({**told, "path": path})
        if curve is not None and period == 0:
            curves.setdefault(number, {})[path] = curve
    tables = [_table(asked, figures[period], paths) for period in sorted(figures)]
    order = tables[0].sort_values(["is_admitted", "median_log_wealth"], ascending=False, kind="stable").index
    table, *tests = (frame.loc[order] for frame in tables)
    drawn = {number: [curve for path, curve in found.items() if path or not paths] for number, found in curves.items()}
    fans = {number: np.percentile(np.array(found), QUANTILES, axis=0) for number, found in drawn.items() if found}
    first, last = market.plan["spans"][0]
    days = (np.linspace(first, last, POINTS) - first) / SECONDS_A_DAY
    return Comparison(
        table,
        pd.DataFrame(rows).astype(dict.fromkeys(FIGURES, float)).sort_values(["combination", "path"], kind="stable").reset_index(drop=True),
        fans,
        days,
        {number: found[0] for number, found in curves.items() if 0 in found},
        _settings(asked, market, command),
        (*_own_flags(asked, market, table), *flags),
        _growth(market.history[0], market.plan["periods"][0][0]),
        test=tests[0] if tests else None,
    )


def _table(asked: _Asked, figures: Mapping[int, list[dict[str, Any]]], paths: int) -> "pd.DataFrame":
    """Return the rows of the combinations in a period, in the order of their ids."""
    import pandas as pd

    rows = {}
    for number in range(len(asked.combinations)):
        runs = figures[number]
        judged = [run for run in runs if not run["error"] and bool(run["path"]) == bool(paths)]
        found = together(judged, is_drawn=bool(paths))
        errors = sum(bool(run["error"]) for run in runs)
        is_within = found["p_liquidation"] <= asked.cap if paths else found["full_liquidations"] + found["partial_liquidations"] == 0
        admitted = {"is_admitted": bool(is_within and not errors)}
        rows[number] = {**asked.told(number), "paths": paths, "errors": errors, **found, **admitted}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("id")


def _settings(asked: _Asked, market: _Market, command: str) -> dict[str, Any]:
    plan = {**asked.plan, **market.plan}
    first, last = market.plan["spans"][0][0], market.plan["spans"][-1][1]
    return {
        "strategy": plan["strategy"]["name"],
        "symbols": [candles.symbol for candles in market.history],
        "span": [iso(first), iso(last)],
        "bars": max(len(candles) for candles in market.history),
        "bar_seconds": market.history[0].bar / SECOND,
        "rules": list(asked.rules),
        "leverages": sorted({combination["leverage"] for combination in asked.combinations}),
        "margin_modes": list(dict.fromkeys(combination["margin_mode"] for combination in asked.combinations)),
        "venues": list(dict.fromkeys(combination["venue"] for combination in asked.combinations)),
        "params": {name: value for name, value in asked.combinations[0]["params"].items() if name not in asked.varied},
        "varied": [column_of(name) for name in asked.varied],
        "combinations": len(asked.combinations),
        "paths": asked.paths,
        "seed": plan["seed"],
        "block": plan["block"],
        "cap": asked.cap,
        "confidence": CONFIDENCE,
        "ruin_share": RUIN_SHARE,
        "wealth_floor": WEALTH_FLOOR,
        "engine": plan["engine"],
        "walk_forward": None if market.split is None else iso(market.split),
        "versions": {
            "bt_margin": version_of("bt_margin"),
            "backtrader": version_of("backtrader"),
            "numpy": version_of("numpy"),
            "python": platform.python_version(),
        },
        "command": command,
        **plan["run"],
    }


def _own_flags(asked: _Asked, market: _Market, table: "pd.DataFrame") -> Iterator[str]:
    """Yield the policies of the comparison itself, a sentence each."""
    plan, paths = asked.plan, asked.paths
    yield f"{len(table)} combinations tried: the more, the more of the best one's lead is luck"
    if paths:
        block = market.plan["block"]
        length = "the whole history" if block is None else f"{block:g} bars"
        yield f"{paths} paths of the stationary bootstrap, blocks of {length} on average, seed {plan['seed']}, the same for all"
        yield f"ranked first: a probability of liquidation of at most {asked.cap:g}, as the paths have it"
    else:
        yield "no paths were drawn, so there is no probability; ranked first: what was not liquidated on the history"
    yield f"ruin, equity below {RUIN_SHARE:g} of what was put in or no order possible, is final; its log wealth is that of {WEALTH_FLOOR:g}"
    if market.split is not None:
        yield f"walk-forward: ranked by the bars until {iso(market.split)}, tested on the bars after it, each period run by itself"
    failed = int((table["errors"] > 0).sum())
    if failed:
        yield f"combinations with runs that failed: {failed}, see errors; they are not ranked first"
