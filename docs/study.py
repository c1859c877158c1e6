"""Build the study: a trend and a mean reversion, ten sizing rules, their leverages, on bootstrap paths and through crashes.

    python docs/study.py FOLDER [--minutes 60]     from exchange records, ten leverages: the section "records" of docs/study.md
    python docs/study.py [--minutes 5]             from the candles that come with the package: the section "shipped"
    python docs/study.py [FOLDER] --publish        write up the paths that are whole by now; nothing more is run
    python docs/study.py [FOLDER] --smoke          a few seconds, into build/study-smoke: does it work?

FOLDER holds the records as data/windows and data/series of the reference data do. A few runs are measured first, and as many paths
are drawn as fit in the minutes. A study that was interrupted goes on with what build/study holds: start it again. Pictures and
tables go to docs/study, and the words of docs/study.md between the markers are made of those tables; the pages (not kept) stand
in build/study.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from strategies.donchian_breakout import DonchianBreakout  # noqa: E402  # strategies stand at the top of the checkout
from strategies.rsi_reversion import RsiReversion  # noqa: E402

import bt_margin as bm  # noqa: E402
from bt_margin import data as shipped_data  # noqa: E402
from bt_margin import plots, sizers  # noqa: E402
from bt_margin.laboratory import PICTURES, multiple, probability  # noqa: E402
from bt_margin.sweep import progress_bar  # noqa: E402

RULES = (
    *("margin:fraction=20%", "equity:fraction=2", "risk:fraction=2%", "volatility:volatility=40%", "kelly:least=0.5%"),
    *("martingale:inner=(risk:fraction=1%)", "drawdown:inner=(risk:fraction=2%)", "floor"),
    *("liquidation:inner=(risk:fraction=2%)", "isolated:fraction=2%"),
)
PLAIN, AWARE = "risk:fraction=2%", ("liquidation:inner=(risk:fraction=2%)", "isolated:fraction=2%")
LEVERAGES = (1, 2, 3, 5, 8, 10, 15, 20, 30, 50)
TERMS: dict[str, Any] = {"margin_modes": ("isolated",), "seed": 1, "cap": 0.05, "block": "48h"}
KINDS = {"trend": DonchianBreakout, "reversion": RsiReversion}
TITLES = {"trend": "Trend: the Donchian breakout", "reversion": "Mean reversion: the RSI"}
RESERVE = 0.9  # of the time; the rest is for what is not a run: starting, drawing, writing
COLORS_KEPT = 256  # of a picture, which is a third of its size then; fewer turn the colour of rare marks into another
EVENTS = {  # of the shipped candles; the records have windows of their own
    "2020-03-12_covid": ("2020-03-05", "2020-03-20"),
    "2021-05-19": ("2021-05-10", "2021-05-24"),
    "2022-11_ftx": ("2022-11-04", "2022-11-17"),
}


@dataclass(frozen=True)
class Study:
    """What is studied: the market, the strategies' params a bar, and how much of it."""

    name: str
    title: str
    about: str
    market: dict[str, Any]
    split: str
    bars_a_day: int
    windows: dict[tuple[str, str], pd.DataFrame]
    leverages: Sequence[float] = LEVERAGES
    rules: Sequence[str] = RULES
    funding: float | None = None  # a constant rate where the market has none of its own

    def params(self, kind: str) -> dict[str, Any]:
        """Return the Turtles' 20 days in and 10 out with a stop of two daily ranges, by the root of time; Wilder's RSI of 14 bars."""
        if kind == "reversion":
            return {}
        root = self.bars_a_day**0.5
        days = {"entry": 20 * self.bars_a_day, "exit": 10 * self.bars_a_day, "atr": 20 * self.bars_a_day}
        return {**days, "stop_atr": round(2 * root, 1), "target_atr": round(10 * root, 1)}

    def compare(self, kind: str, **terms: Any) -> bm.Comparison:
        """Compare on the market as a whole."""
        given = {"sizers": self.rules, "leverages": self.leverages, "split": self.split, **TERMS, **terms}
        if self.funding is not None:
            given["funding"] = self.funding
        return bm.compare(KINDS[kind], self.market, params=self.params(kind), **given)


# -- the markets -----------------------------------------------------------------------------------------------------


def records(folder: Path, start: str = "2020-01-01", end: str = "2026-05-01") -> Study:
    """Return the study of exchange records: BTCUSDT hourly since 2020 with mark and funding, and every crash window."""
    series = folder / "series"
    sources = {role: series / f"binance-BTCUSDT-{name}.parquet" for role, name in (("last", "1h-futures"), ("mark", "1h-mark"))}
    sources["funding"] = series / "binance-BTCUSDT-funding.parquet"
    for path in sources.values():
        if not path.is_file():
            sys.exit(f"the study is of exchange records, which {folder} does not hold: it has no series/{path.name}")
    market = bm.load(sources["last"], mark=sources["mark"], funding=sources["funding"], symbol="BTCUSDT", start=start, end=end)
    windows = {}
    for path in sorted((folder / "windows").glob("*/binance-*-1h-futures_mark_funding.csv")):
        windows[path.parent.name, path.name.split("-")[1]] = pd.read_csv(path, index_col="datetime", parse_dates=True)
    about = "Binance USD-M BTCUSDT, hourly last and mark prices and every funding settlement"
    return Study("records", "Exchange records", about, market, "2024-01-01", 24, windows)


def shipped() -> Study:
    """Return the smaller study: the candles of the package in bars of four hours, half the leverages, three windows."""
    candles = shipped_data.load()
    windows = {(event, "BTCUSDT"): candles.loc[first:last] for event, (first, last) in EVENTS.items()}
    about = "Binance spot BTCUSDT in bars of four hours, the last price standing in for the mark, 0.01 % of funding every eight hours"
    market = {"BTCUSDT": bm.resample(candles, "4h")}
    return Study(
        "shipped", "The candles that come with the package", about, market, "2022-01-01", 6, windows, LEVERAGES[::2], funding=0.0001
    )


def smallest(study: Study) -> Study:
    """Return so little of a study that it takes seconds."""
    (symbol, source), *_ = study.market.items()
    is_read = isinstance(source, bm.PerpData)  # then it is as short as it was asked for
    few = source if is_read else source.loc["2021-10":"2022-03"]
    first = next(iter(study.windows))
    windows = {first: study.windows[first].iloc[-120:]}
    return replace(study, market={symbol: few}, split="2022-01-01", leverages=(3, 50), rules=(*AWARE, PLAIN), windows=windows)


# -- running ---------------------------------------------------------------------------------------------------------


def measured(study: Study) -> float:
    """Return the seconds that one run of the whole market takes, from every rule at the lowest and the highest leverage."""
    some = (study.leverages[0], study.leverages[-1])
    begun = time.monotonic()
    runs = sum(len(study.compare(kind, leverages=some, backend="serial").table) for kind in KINDS)
    return (time.monotonic() - begun) / runs


def planned(study: Study, minutes: float, workers: int, seconds: float, spent: float) -> int:
    """Return how many paths beside the history fit in what is left of the minutes, one at least."""
    runs = len(KINDS) * len(study.rules) * len(study.leverages)
    left = RESERVE * 60 * minutes - spent
    return max(int(left * workers / (runs * seconds)) - 1, 1)


def crash(study: Study, kind: str, event: str, symbol: str, work: Path) -> pd.DataFrame:
    """Return the combinations in one crash, by the strategy as it is shipped: a window is too short for a channel of 20 days."""
    window = study.windows[event, symbol]
    funding = {} if "funding_rate" in window else {"funding": study.funding}
    given = {
        **TERMS,
        **funding,
        "sizers": study.rules,
        "leverages": study.leverages,
        "backend": "serial",
        "out": work / event / symbol / kind,
        "resume": True,
    }
    table = bm.compare(KINDS[kind], {symbol: window}, **given).table.sort_index()
    return table.assign(
        strategy=kind, event=event, symbol=symbol, is_liquidated=table["full_liquidations"] + table["partial_liquidations"] > 0
    )


def crashes(study: Study, work: Path, workers: int) -> pd.DataFrame:
    """Return the crashes put together: for each strategy, event, rule and leverage how many contracts, and what became of them."""
    from joblib import Parallel, delayed

    asked = [(kind, event, symbol) for event, symbol in study.windows for kind in KINDS]
    rows = pd.concat(Parallel(n_jobs=workers)(delayed(crash)(study, *where, work) for where in asked))
    grouped = rows.groupby(["strategy", "event", "rule", "leverage"], sort=False)
    return grouped.agg(
        windows=("symbol", "size"),
        failed=("errors", "sum"),
        liquidated=("is_liquidated", "sum"),
        before_stop=("liquidated_before_stop", "sum"),
        past_stop=("liquidated_past_stop", "sum"),
        wealth_50=("wealth_50", "median"),
    ).reset_index()


def play(study: Study, work: Path, out: Path, *, minutes: float, workers: int, is_only_published: bool) -> None:
    """Run what is not run yet, and write pictures, tables and facts."""
    work.mkdir(parents=True, exist_ok=True)
    plan_file = work / "plan.json"
    begun = time.monotonic()
    if not plan_file.is_file():
        if is_only_published:
            sys.exit(f"nothing of the study is in {work} yet; run it without --publish first")
        crashes(study, work / "windows", workers)
        seconds = measured(study)
        count = planned(study, minutes, workers, seconds, time.monotonic() - begun)
        plan_file.write_text(json.dumps({"paths": count, "minutes": minutes, "workers": workers, "seconds_a_run": seconds, "took": 0.0}))
    plan = json.loads(plan_file.read_text())
    if plan["minutes"] != minutes and not is_only_published:
        sys.exit(
            f"{work} holds a study planned for {plan['minutes']:g} minutes; give --minutes {plan['minutes']:g}, or another folder as --work"
        )
    runs = len(KINDS) * len(study.rules) * len(study.leverages)
    print(f"{study.name}: {plan['seconds_a_run']:.2f} s a run, {runs} runs a path: {plan['paths']} paths in {plan['minutes']:g} minutes")
    more = {"minutes": 0} if is_only_published else {}
    backend = "loky" if workers > 1 else "serial"
    told = {}
    try:
        for kind in KINDS:
            with progress_bar(f"{study.name}, {kind}") as progress:
                given = {"workers": workers, "backend": backend, "resume": True, "progress": progress, **more}
                told[kind] = study.compare(kind, paths=plan["paths"], out=work / kind, **given)
    finally:
        plan["took"] += (time.monotonic() - begun) / 60
        plan_file.write_text(json.dumps(plan))
    for kind, comparison in told.items():
        if not comparison.settings["paths"]:
            sys.exit(f"no path of the {kind} is whole yet; start the study again without --publish and let it go on")
    publish(study, told, crashes(study, work / "windows", workers), plan, out, work)


# -- publishing ------------------------------------------------------------------------------------------------------


def publish(study: Study, told: dict[str, bm.Comparison], windows: pd.DataFrame, plan: dict[str, Any], out: Path, work: Path) -> None:
    """Write the pictures and tables of a study, its section of the page, and a page of each strategy beside the runs."""
    place = out / "study"
    place.mkdir(parents=True, exist_ok=True)
    for kind, comparison in told.items():
        for key in PICTURES:
            save_small(getattr(plots, key)(comparison, note="isolated margin"), place / f"{study.name}-{kind}-{key}.png")
        for period, table in (("train", comparison.table), ("test", comparison.test)):
            assert table is not None
            table.to_csv(place / f"{study.name}-{kind}-{period}.csv", float_format="%.6g")
        save_page(comparison, work / f"{kind}.html")
    windows.to_csv(place / f"{study.name}-windows.csv", index=False, float_format="%.6g")
    (place / f"{study.name}.json").write_text(json.dumps(facts_of(study, told, plan), indent=2) + "\n", "utf-8")
    page = out / "study.md"
    text = page.read_text("utf-8") if page.is_file() else Path(__file__).with_suffix(".md").read_text("utf-8")
    page.write_text(between(text, study.name, section(place, study.name)), "utf-8")


def facts_of(study: Study, told: dict[str, bm.Comparison], plan: dict[str, Any]) -> dict[str, Any]:
    """Return what is said of a study beside its tables."""
    settings = next(iter(told.values())).settings
    kept = {name: settings[name] for name in ("span", "bars", "walk_forward", "seed", "block", "bar_seconds", "cap", "versions")}
    paths = {kind: comparison.settings["paths"] for kind, comparison in told.items()}
    flags = {kind: list(comparison.flags) for kind, comparison in told.items()}
    params = {kind: study.params(kind) for kind in KINDS}
    about = {name: asdict(replace(study, market={}, windows={}))[name] for name in ("title", "about", "leverages", "rules")}
    return {**about, **kept, "paths": paths, "params": params, "plan": plan, "flags": flags}


def save_small(figure: Any, path: Path) -> None:
    """Write a picture in few colours, for it is kept in the repository."""
    from PIL import Image

    plots.save(figure, path)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(COLORS_KEPT, dither=Image.Dither.NONE).save(path, optimize=True)


def save_page(comparison: bm.Comparison, path: Path) -> None:
    """Write the interactive page, where the extra that it needs is installed."""
    from bt_margin.report import MissingExtraError

    try:
        bm.Report(comparison).save(path)
    except MissingExtraError as error:
        print(f"no page: {error}")


def between(page: str, name: str, text: str) -> str:
    """Return the page with the text between the markers of a study."""
    first, last = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    head, found, rest = page.partition(first)
    _, also, tail = rest.partition(last)
    if not (found and also):
        raise ValueError(f"docs/study.md has no markers of {name}; it needs {first.strip()} and {last}")
    return f"{head}{first}{text}{last}{tail}"


# -- words, every figure of them from the tables ---------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """What the files of a study say of one strategy."""

    kind: str
    facts: dict[str, Any]
    train: pd.DataFrame
    test: pd.DataFrame

    @property
    def levels(self) -> list[float]:
        return sorted(self.train["leverage"].unique())

    def at(self, rule: str, leverage: float, table: pd.DataFrame | None = None) -> pd.Series:
        """Return the row of a rule, as named on the command line, at a leverage."""
        rows = self.train if table is None else table
        return rows[(rows["rule"] == sizers.label(rule)) & (rows["leverage"] == leverage)].iloc[0]


def section(place: Path, name: str) -> str:
    """Return what is said of a study, from its files alone."""
    facts = json.loads((place / f"{name}.json").read_text("utf-8"))
    windows = pd.read_csv(place / f"{name}-windows.csv")
    parts = [opening(facts)]
    for kind in KINDS:
        tables = (pd.read_csv(place / f"{name}-{kind}-{period}.csv", index_col="id") for period in ("train", "test"))
        told = Told(kind, facts, *tables)
        pictures = "\n\n".join(f"![{TITLES[kind]}, {key}](study/{name}-{kind}-{key}.png)" for key in PICTURES)
        parts += [f"### {TITLES[kind]}", findings(told), by_rule(told), by_leverage(told), pictures]
    parts += ["### Crashes", *in_crashes(facts, windows)]
    flags = list(dict.fromkeys(flag for kind in KINDS for flag in facts["flags"][kind]))
    parts += ["Stated policies: " + "; ".join(flags) + "."]
    return "\n\n".join(parts) + "\n"


def opening(facts: dict[str, Any]) -> str:
    plan, paths = facts["plan"], facts["paths"]
    first, last, split = facts["span"][0][:10], facts["span"][1][:10], facts["walk_forward"][:10]
    drawn = " and ".join(f"{count} for the {kind}" for kind, count in paths.items())
    cores = f"{plan['workers']} core{'s' if plan['workers'] > 1 else ''}"
    whole = all(count == plan["paths"] for count in paths.values())
    state = "all of them whole" if whole else f"of {plan['paths']} planned: it was ended before"
    channel, hours = facts["params"]["trend"], f"{facts['bar_seconds'] / 3600:g} h"
    return f"""## {facts["title"]}

{facts["about"]}; {facts["bars"]:,} bars of {hours} from {first} to {last}, ranked until {split} and shown after it. {len(facts["rules"])} rules at
{len(facts["leverages"])} leverages are {len(facts["rules"]) * len(facts["leverages"])} combinations for each strategy. Bootstrap paths of each period: {drawn}, {state};
planned as what fits in {plan["minutes"]:g} minutes on {cores} at {plan["seconds_a_run"]:.2f} s a run, it took {plan["took"]:.0f}. Seed {facts["seed"]}, blocks of {facts["block"] * facts["bar_seconds"] / 3600:g} hours on
average. The channel is {channel["entry"]} bars in and {channel["exit"]} out, with a stop {channel["stop_atr"]:g} average true ranges of a bar away."""


def interval(row: pd.Series, name: str = "p_liquidation") -> str:
    """Return a probability with its Wilson interval."""
    low, high = (probability(row[f"{name}_{end}"]) for end in ("low", "high"))
    return f"{probability(row[name])} (95 %: {low} to {high})"


def named(row: pd.Series) -> str:
    return f"*{row['rule']}* at {row['leverage']:g}x"


def findings(told: Told) -> str:
    """Return the findings of a strategy as a list."""
    train, test, best = told.train, told.test, told.train.iloc[0]
    after = test.loc[best.name]
    ranks = test["median_log_wealth"].rank(ascending=False, method="min")
    admitted = int(train["is_admitted"].sum())
    lines = [f"{admitted} of {len(train)} combinations are within {probability(told.facts['cap'])} of liquidation, as the paths have it."]
    which = "Ranked first" if best["is_admitted"] else "None is, so what is ranked first is only the best of those beyond it"
    lines.append(
        f"{which}: {named(best)}, {multiple(best['wealth_50'])} on the median path ({multiple(best['wealth_5'])} to "
        f"{multiple(best['wealth_95'])} on nine of ten), liquidated on {interval(best)}, ruined on {interval(best, 'p_ruin')}."
    )
    lines.append(
        f"After the split the same has {multiple(after['wealth_50'])} on the median path, {turned(best['wealth_50'], after['wealth_50'])}; liquidated on {interval(after)}; by "
        f"median growth it is number {ranks[best.name]:.0f} of {len(test)} there."
    )
    richest = train.loc[train["wealth_50"].idxmax()]
    if richest.name == best.name:
        lines.append("No other has more on the median path, whatever its liquidations.")
    else:
        lines.append(
            f"The richest on the median path is {named(richest)}: {multiple(richest['wealth_50'])}, liquidated on {interval(richest)}; "
            f"{multiple(test.loc[richest.name, 'wealth_50'])} after the split."
        )
    lines += [order_held(train, test), awareness(told), costs(best)]
    return "\n".join(f"* {line}" for line in lines)


def turned(before: float, after: float) -> str:
    """Return in words what has become of a wealth, of no money made or lost too."""
    words = {1: "a gain", 0: "neither gain nor loss", -1: "a loss"}
    first, second = (int(wealth > 1) - int(wealth < 1) for wealth in (before, after))
    return f"{words[second]} as before it" if first == second else f"{words[second]} after {words[first]}"


def order_held(train: pd.DataFrame, test: pd.DataFrame) -> str:
    """Return how well the order of the combinations before the split told that after it: Spearman's rank correlation."""
    first, second = (table["median_log_wealth"].rank() for table in (train, test.loc[train.index]))
    alike = float(first.corr(second))
    word = "holds" if alike > 0.7 else "holds in part" if alike > 0.3 else "tells little of what came" if alike > -0.3 else "turns round"
    return f"The order of all combinations {word} after the split: rank correlation {alike:.2f}."


def awareness(told: Told) -> str:
    """Return what rules that know the liquidation price make of the highest leverage, beside the plain one."""
    top = told.levels[-1]
    plain, *aware = (told.at(rule, top) for rule in (PLAIN, *AWARE))
    others = " and ".join(
        f"{probability(row['p_liquidation'])} ({row['liquidated_before_stop']:.1f}) with *{row['rule']}*"
        + (" (it hardly trades there)" if row["trades"] < plain["trades"] / 10 else "")
        for row in aware
    )
    lead = f"At {top:g}x *{plain['rule']}* is liquidated on {probability(plain['p_liquidation'])} of the paths"
    return f"{lead} ({plain['liquidated_before_stop']:.1f} times before its stop on average), against {others}."


def costs(best: pd.Series) -> str:
    """Return what trading costs the combination ranked first."""
    shares = [f"{100 * best[name]:.1f} % {word}" for name, word in (("fees", "fees"), ("funding_paid", "funding")) if isfinite(best[name])]
    if not shares:
        return "It does not trade."
    return f"Of all price moves that the first-ranked took part in, {' and '.join(shares)} are paid; it has {best['trades']:.0f} trades a path."


def table_of(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def by_rule(told: Told) -> str:
    """Return a row for each rule: the highest leverage up to which all are within the cap, and what the highest of all does."""
    rows, top = [], told.levels[-1]
    for rule in told.facts["rules"]:
        kept = 0.0
        for level in told.levels:
            if not told.at(rule, level)["is_admitted"]:
                break
            kept = level
        last = told.at(rule, top)
        wealth = "" if not kept else multiple(told.at(rule, kept)["wealth_50"])
        dead = [probability(last["p_liquidation"]), probability(last["p_ruin"]), f"{last['liquidated_before_stop']:.1f}"]
        rows.append([last["rule"], f"{kept:g}x" if kept else "none", wealth, multiple(last["wealth_50"]), *dead])
    head = ["rule", "within the cap up to", "median wealth there"]
    return table_of([*head, f"at {top:g}x", "P(liquidation)", "P(ruin)", "before the stop"], rows)


def by_leverage(told: Told) -> str:
    """Return a row for each leverage over all rules, before the split and after it."""
    rows = []
    for level in told.levels:
        now, later = (table[table["leverage"] == level] for table in (told.train, told.test))
        figures = [f"{int(now['is_admitted'].sum())} of {len(now)}"]
        for table in (now, later):
            figures += [
                multiple(table["wealth_50"].median()),
                probability(table["p_liquidation"].mean()),
                probability(table["p_ruin"].mean()),
            ]
        rows.append([f"{level:g}x", *figures])
    said = ["median wealth", "P(liquidation)", "P(ruin)"]
    return table_of(["leverage", "rules within the cap", *said, *(f"{name}, after" for name in said)], rows)


def in_crashes(facts: dict[str, Any], windows: pd.DataFrame) -> list[str]:
    """Return what became of the rules in the crashes: contracts liquidated, liquidations before and past the stop, by leverage."""
    events = windows.groupby("event")["windows"].first()
    levels = [level for level in (3, 10, 50) if level in set(windows["leverage"])] or sorted(windows["leverage"].unique())
    told = ", ".join(f"{event.split('_')[0]} ({count})" for event, count in events.items())
    failed = int(windows["failed"].sum())
    parts = [
        f"Windows of one contract each, {int(events.sum())} in all: {told}. Here the strategies are as they are shipped, with channels of hours. "
        "Each cell: windows with a liquidation; of those trades in which a stop was known, how many were liquidated before it and past it."
        + (f" {failed} runs were refused, as the contract did not have the leverage." if failed else "")
    ]
    for kind in KINDS:
        rows = []
        for rule in facts["rules"]:
            own = windows[(windows["strategy"] == kind) & (windows["rule"] == sizers.label(rule))]
            sums = [own[own["leverage"] == level][["liquidated", "before_stop", "past_stop"]].sum() for level in levels]
            rows.append(
                [sizers.label(rule), *(f"{row['liquidated']:.0f}; {row['before_stop']:.0f}, {row['past_stop']:.0f}" for row in sums)]
            )
        parts.append(table_of([TITLES[kind], *(f"{level:g}x" for level in levels)], rows))
    return parts


# -- the command -----------------------------------------------------------------------------------------------------


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, help="exchange records; without it the candles that come with the package")
    parser.add_argument("--minutes", type=float, help="for all runs; 60, without a folder 5")
    parser.add_argument("--workers", type=int, default=2, help="processes, 2")
    parser.add_argument("--publish", action="store_true", help="write up what is there and run nothing")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, into build/study-smoke")
    parser.add_argument("--out", type=Path, help="folder of study.md and study/, docs unless given")
    parser.add_argument("--work", type=Path, help="folder of the runs, build/study unless given")
    asked = parser.parse_args(words)
    few = ("2021-11-01", "2022-02-15") if asked.smoke else ()
    study = records(asked.folder, *few) if asked.folder else shipped()
    minutes = asked.minutes or (60.0 if asked.folder else 5.0)
    out, work, workers = asked.out or ROOT / "docs", asked.work or ROOT / "build" / "study", asked.workers
    if asked.smoke:
        study, minutes, workers = smallest(study), 0.1, 1
        out, work = asked.out or ROOT / "build" / "study-smoke", asked.work or ROOT / "build" / "study-smoke" / "runs"
    play(study, work / study.name, out, minutes=minutes, workers=workers, is_only_published=asked.publish)


if __name__ == "__main__":
    main()
