"""The page of a comparison: verdict, heat maps, fans, the leverage cliff, wealth against liquidation, the ranked table, how it was made."""

import json
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any

from ..laboratory import (
    QUANTILES,
    RANKED,
    Laboratory,
    Trial,
    fans_panel,
    multiple,
    percent,
    probability,
    ranks_of,
    shown_as,
    trials_of,
    wealth_limits,
)
from ..result import plain, version_of
from .charts import Charts
from .drawn import (
    PALE,
    between,
    fan_drawing,
    heat_cells,
    key_for,
    named,
    spark,
)
from .frame import document, library_versions, packed
from .pictures import Look, line_swatch, told
from .words import Words, cell

if TYPE_CHECKING:
    import pandas as pd

MOST_FANS = 240  # drawings in a page, of the best-ranked combinations
MOST_RANKED = 300  # rows of the table
MOST_PRINTED = 10  # columns of it on paper
MOST_ERRORS = 20
LONG = 16  # letters of a tile's value; longer ones are written smaller
MOST_ROWS = 60_000  # of a file to download
COLUMNS = (
    ("rank", "rank", "number"),
    ("name", "name", "name"),
    ("wealth_50", RANKED["wealth_50"].form, "number"),
    ("annual_return", RANKED["annual_return"].form, "number"),
    ("p_liquidation", RANKED["p_liquidation"].form, "number"),
    ("p_ruin", RANKED["p_ruin"].form, "number"),
    ("p_deep_drawdown", "probability", "number"),
    ("liquidations", RANKED["liquidations"].form, "number"),
    ("max_drawdown", RANKED["max_drawdown"].form, "number"),
    ("sharpe", "plain", "number"),
    ("calmar", "plain", "number"),
    ("mean_leverage", "leverage", "number"),
    ("closest_call", "share", "number"),
    ("turnover", "plain", "number"),
    ("fees", "share", "number"),
    ("trades", RANKED["trades"].form, "number"),
    ("course", "", "spark"),
)  # of the ranked table: figure, how it is shown, what kind of cell


def comparison_page(comparison: Any, *, words: Words, title: str, note: str, command: str) -> str:
    """Return the page of a comparison as HTML."""
    return _Page(comparison, words, title, note, command).html()


class _Page:
    def __init__(self, comparison: Any, words: Words, title: str, note: str, command: str) -> None:
        self.comparison, self.words, self.title, self.note, self.command = comparison, words, title, note, command
        self.laboratory = Laboratory(comparison)
        self.settings: dict[str, Any] = comparison.settings
        self.best = self.laboratory.best
        self.cap = probability(self.laboratory.cap)
        self.charts = Charts(self.laboratory, words, self.cap)

    def html(self) -> str:
        words = self.words
        charts = [self.charts.cliff(), self.charts.pareto()]
        files, files_note = self._files()
        verdict = _kept_together(self.title or self._verdict())
        return document(
            "comparison.html.j2",
            data={"words": {}, "charts": [drawn for drawn, _ in charts], "files": files},
            lang=words.lang,
            words=words,
            title=self.title or self._verdict(),
            versions=self._versions(),
            heading=self._heading(),
            verdict=verdict,
            sentences=[_kept_together(sentence) for sentence in self._sentences()],
            tiles=self._tiles(),
            heats=self._heats(),
            heats_note=words.say(self._key("heats_note"), cap=self.cap),
            fans=self._fans(),
            charts=[said for _, said in charts],
            ranking=self._ranking(),
            split=self._split(),
            errors=self._errors(),
            assumptions=[*([self.note] if self.note else []), *self._assumptions()],
            command=self.command or str(self.settings.get("command") or ""),
            facts=self._facts(),
            files=list(files),
            files_note=files_note,
        )

    def _versions(self) -> dict[str, str]:
        return {**self.settings.get("versions", {}), **library_versions()} | {"bt_margin": version_of("bt_margin")}

    # -- words on top ------------------------------------------------------------------------------------------------

    def _heading(self) -> str:
        settings, words = self.settings, self.words
        told_paths = (
            words.say("compare_paths", paths=f"{self.laboratory.paths:,}") if self.laboratory.has_paths else words["compare_history"]
        )
        symbols = settings.get("symbols") or [self.laboratory.market["symbol"]]
        return words.say(
            "compare_heading", strategy=settings["strategy"], symbols=", ".join(symbols), span=span_said(settings.get("span"), words),
            rules=len(self.laboratory.lines), leverages=len(self.laboratory.leverages), paths=told_paths,
        )  # fmt: skip

    def _verdict(self) -> str:
        words, best = self.words, self.best
        values = {"name": named(best, words), "wealth": multiple(best.figure("wealth_50")), "cap": self.cap}
        if not self.laboratory.has_paths:
            count = round(best.figure("liquidations"))
            fate = words.say("fate_dead", times=words.times(count)) if count else words["fate_alive"]
            return words.say("verdict_history", fate=fate, **values)
        dead = probability(best.figure("p_liquidation"))
        return words.say("verdict_best" if best.is_admitted else "verdict_none", dead=dead, **values)

    def _sentences(self) -> list[str]:
        words, laboratory, best = self.words, self.laboratory, self.best
        said = []
        if laboratory.has_paths:
            said.append(words.say("sentence_spread", **self._spread(best)))
            if laboratory.richest is not best:
                richest = laboratory.richest
                kind = "sentence_richest" if not richest.is_admitted else "sentence_richest_too"
                told_dead = {"dead": probability(richest.figure("p_liquidation")), "between": between(richest, "p_liquidation", words)}
                said.append(words.say(kind, name=named(richest, words), wealth=multiple(richest.figure("wealth_50")), **told_dead))
        said.append(words.say(self._key("sentence_tried"), count=f"{self.comparison.combinations:,}"))
        split = self._split()
        return [*said, *([split["said"]] if split else [])]

    def _key(self, key: str) -> str:
        """Return the key of a text, of a comparison without paths that of its own."""
        return key_for(key, self.laboratory, self.words)

    def _spread(self, trial: Trial) -> dict[str, str]:
        history = self.comparison.history.get(trial.id)
        return {
            "low": multiple(trial.figure("wealth_5")),
            "high": multiple(trial.figure("wealth_95")),
            "history": multiple(float(history[-1])) if history is not None else "\N{EN DASH}",
        }

    def _tiles(self) -> list[dict[str, Any]]:
        words, laboratory, best = self.words, self.laboratory, self.best

        def tile(key: str, value: str, more: str, *, is_bad: bool = False) -> dict[str, Any]:
            value, more = _kept_together(value), _kept_together(more)
            return {
                "is_long": len(value) > LONG,
                "name": words[self._key(f"tile_{key}")],
                "value": value,
                "unit": "",
                "more": more,
                "is_bad": is_bad,
            }

        def risk(key: str, more: str) -> dict[str, Any]:
            return tile(key, probability(best.figure(key)), f"{between(best, key, words)}{more}", is_bad=not best.is_admitted)

        wealth = multiple(best.figure("wealth_50"))
        first = tile("best", best.line, words.say("tile_best_more", leverage=f"{best.leverage:g}", count=f"{len(laboratory.trials):,}"))
        if not laboratory.has_paths:
            count = best.figure("liquidations")
            return [
                first,
                tile("wealth", wealth, words["tile_wealth_once"], is_bad=best.figure("wealth_50") < 1),
                tile("deaths", f"{count:g}", words["tile_deaths_more"], is_bad=count > 0),
                tile("fall", percent(best.figure("max_drawdown")), words["tile_fall_more"]),
                tile("tried", f"{self.comparison.combinations:,}", words["tile_tried_more"]),
                tile("paths", "0", words["tile_paths_none"]),
            ]
        admitted = sum(trial.is_admitted for trial in laboratory.trials)
        spread = self._spread(best)
        more = words.say("tile_wealth_more", low=spread["low"], high=spread["high"])
        return [
            first,
            tile("wealth", wealth, more, is_bad=best.figure("wealth_50") < 1),
            risk("p_liquidation", words.say("tile_cap", cap=self.cap)),
            risk("p_ruin", ""),
            tile(
                "admitted",
                words.say("tile_admitted_value", some=admitted, all=len(laboratory.trials)),
                words.say("tile_admitted_more", cap=self.cap),
            ),
            tile("paths", f"{laboratory.paths:,}", words.say("tile_paths_more", block=self._setting("block"), seed=self._setting("seed"))),
        ]

    def _setting(self, name: str) -> str:
        value = self.settings.get(name)
        return "\N{EN DASH}" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

    # -- heat maps and fans ------------------------------------------------------------------------------------------

    def _heats(self) -> list[dict[str, Any]]:
        words, laboratory = self.words, self.laboratory
        columns = [f"{lever:g}x" for lever in laboratory.leverages]
        captions = {"max_drawdown": "heat_caption_percent", "p_liquidation": "heat_caption_share", "p_ruin": "heat_caption_share"}
        maps = []
        for heat in laboratory.heats():
            rows, name = heat_cells(laboratory, heat, words), words.told(heat.title)
            maps.append(
                {
                    "key": heat.key,
                    "title": name,
                    "caption": words[captions.get(heat.key, "heat_caption")],
                    "columns": columns,
                    "rows": rows,
                }
            )
        return maps

    def _fans(self) -> dict[str, Any]:
        words, laboratory = self.words, self.laboratory
        drawn = [trial for trial in laboratory.trials if trial.id in self.comparison.fans][:MOST_FANS]
        levers = sorted({trial.leverage for trial in drawn})
        chosen = self.best.leverage if self.best.leverage in levers else levers[0] if levers else 0.0
        limits = {lever: laboratory.fan_limits([trial.id for trial in drawn if trial.leverage == lever]) for lever in levers}
        order = {line: place for place, line in enumerate(laboratory.lines)}
        figures = [
            {
                "id": trial.id,
                "leverage": f"{trial.leverage:g}",
                "name": named(trial, words),
                "drawing": fan_drawing(laboratory, trial, limits[trial.leverage], words),
                "said": ("✖ " if laboratory.is_caught(trial) else "") + self._fan_said(trial),
                "is_bad": laboratory.is_caught(trial),
            }
            for trial in sorted(drawn, key=lambda trial: (trial.leverage, order[trial.line]))
        ]
        notes = [words["fans_note"]] if laboratory.has_paths else []
        left_out = len(laboratory.trials) - len(drawn)
        notes += [words.say("fans_left_out", count=left_out)] if left_out else []
        given = fans_panel(laboratory)
        return {
            "title": words.told(given.title),
            "leverages": [{"value": f"{lever:g}", "name": f"{lever:g}x"} for lever in levers],
            "chosen": f"{chosen:g}",
            "legend": _fan_key(words, laboratory.has_paths),
            "figures": figures,
            "note": " ".join(notes),
            "tables": [told(table, words) for table in given.tables],
        }

    def _fan_said(self, trial: Trial) -> str:
        words, wealth = self.words, multiple(trial.figure("wealth_50"))
        if not self.laboratory.has_paths:
            return words.say("fan_said_history", wealth=wealth, count=f"{trial.figure('liquidations'):g}")
        dead, ruin = (probability(trial.figure(key)) for key in ("p_liquidation", "p_ruin"))
        return words.say("fan_said", wealth=wealth, dead=dead, ruin=ruin)

    # -- tables ------------------------------------------------------------------------------------------------------

    def _ranking(self) -> dict[str, Any]:
        words, laboratory = self.words, self.laboratory
        shown = laboratory.trials[:MOST_RANKED]
        limits = wealth_limits(value for trial in shown if trial.id in self.comparison.fans for value in self.comparison.fans[trial.id][2])
        kept = [
            (key, form, kind)
            for key, form, kind in COLUMNS
            if kind != "number" or key == "rank" or any(isfinite(trial.figure(key)) for trial in shown)
        ]
        columns = [self._column(key, kind if place < MOST_PRINTED else f"{kind} extra") for place, (key, _, kind) in enumerate(kept)]
        rows = [
            {"is_out": laboratory.is_caught(trial), "cells": [self._cell(trial, key, form, limits) for key, form, _ in kept]}
            for trial in shown
        ]
        count = len(laboratory.trials)
        cut = words.say("ranking_cut", shown=f"{MOST_RANKED:,}", count=f"{count:,}") if count > MOST_RANKED else ""
        tried = f"{self.comparison.combinations:,}"
        return {
            "title": words.say("ranking_title", count=f"{count:,}"),
            "note": words.say(self._key("ranking_note"), cap=self.cap),
            "caption": " ".join(filter(None, (words.say("ranking_caption", count=tried, seed=self._setting("seed")), cut))),
            "columns": columns,
            "rows": rows,
        }

    def _column(self, key: str, kind: str) -> dict[str, Any]:
        words = self.words
        return {
            "name": words[self._key(f"rank_{key}")],
            "unit": "",
            "meaning": words[self._key(f"rank_{key}_meaning")],
            "kind": kind,
            "is_text": not kind.startswith("number"),
            "sorts": not kind.startswith("spark"),
            "sorted": "ascending" if key == "rank" else "none",
        }

    def _cell(self, trial: Trial, key: str, form: str, limits: tuple[float, float]) -> dict[str, Any]:
        words = self.words
        if form == "rank":
            return {"text": str(trial.rank), "more": "", "value": trial.rank}
        if form == "name":
            name = named(trial, words)
            return {"text": f"{name} ✖" if self.laboratory.is_caught(trial) else name, "more": "", "value": name}
        if not form:
            return {"text": spark(self.laboratory, trial, limits), "more": "", "value": ""}
        value = trial.figure(key)
        more = ""
        if key == "wealth_50" and self.laboratory.has_paths:
            more = words.say("interval", **{name: text for name, text in self._spread(trial).items() if name != "history"})
        elif form == "probability":
            more = between(trial, key, words)
        elif key == "closest_call" and isfinite(trial.figure("closest_call_atr")):
            more = words.say("in_atr", atr=f"{trial.figure('closest_call_atr'):.1f}")
        return {"text": shown_as(value, form), "more": more, "value": repr(value) if isfinite(value) else ""}

    def _split(self) -> dict[str, Any] | None:
        """Return what was chosen on one period and what it came to on the next, None where no split was asked."""
        train, test = getattr(self.comparison, "train", None), getattr(self.comparison, "test", None)
        if train is None or test is None or not len(train) or not len(test):
            return None
        words, ranks = self.words, ranks_of(test)
        after = {(trial.line, trial.leverage): replace(trial, rank=ranks[trial.id]) for trial in trials_of(test, self.settings)}
        before = trials_of(train, self.settings)
        pairs = [(trial, after[trial.line, trial.leverage]) for trial in before if (trial.line, trial.leverage) in after]
        if not pairs:
            return None
        first, then = pairs[0]
        values = {
            "name": named(first, words), "before": multiple(first.figure("wealth_50")), "after": multiple(then.figure("wealth_50")),
            "rank": f"{then.rank:,}", "count": f"{len(after):,}",
        }  # fmt: skip
        keys = ("rank", "name", "wealth_train", "wealth_test", "p_train", "p_test", "rank_test")
        columns = [self._column(key, "name" if key == "name" else "number") for key in keys]
        rows = [{"is_out": not trial.is_admitted, "cells": self._split_cells(trial, other)} for trial, other in pairs[:MOST_RANKED]]
        said = words.say("split_said", **values)
        return {
            "title": words["split_title"],
            "said": said,
            "note": "",
            "caption": words["split_caption"],
            "columns": columns,
            "rows": rows,
        }

    def _split_cells(self, before: Trial, after: Trial) -> list[dict[str, Any]]:
        cells = [{"text": str(before.rank), "more": "", "value": before.rank}]
        cells.append({"text": named(before, self.words), "more": "", "value": named(before, self.words)})
        for key, form in (("wealth_50", "times"), ("p_liquidation", "probability")):
            for trial in (before, after):
                value = trial.figure(key)
                more = between(trial, key, self.words) if form == "probability" else ""
                cells.append({"text": shown_as(value, form), "more": more, "value": repr(value) if isfinite(value) else ""})
        return [*cells, {"text": str(after.rank), "more": "", "value": after.rank}]

    def _errors(self) -> dict[str, Any] | None:
        errors = getattr(self.comparison, "errors", None)
        if errors is None or not len(errors):
            return None
        columns = [{"name": str(name), "unit": "", "is_text": True} for name in errors.columns]
        rows = [[cell(plain(value)) for value in row] for row in errors.head(MOST_ERRORS).itertuples(index=False)]
        said = self.words.say("errors_title", count=f"{len(errors):,}")
        return {"title": said, "columns": columns, "rows": rows}

    # -- how it was made ---------------------------------------------------------------------------------------------

    def _assumptions(self) -> list[str]:
        words = self.words
        confidence = probability(float(self.settings.get("confidence") or 0.95))
        own = [words.say("assume_wilson", confidence=confidence)] if self.laboratory.has_paths else []
        return [*own, *(words.flag(flag) for flag in getattr(self.comparison, "flags", ()))]

    def _facts(self) -> list[tuple[str, str]]:
        words, settings, laboratory = self.words, self.settings, self.laboratory
        data = words.say("compare_data", span=span_said(settings.get("span"), words), bars=_count(settings.get("bars")))
        facts = [(words["fact_span"], data), (words["fact_combinations"], f"{self.comparison.combinations:,}")]
        facts.append((words["fact_seed"], self._setting("seed")))
        if laboratory.has_paths:
            facts.append((words["fact_paths"], words.say("paths_said", paths=f"{laboratory.paths:,}", block=self._setting("block"))))
        facts.append((words["fact_versions"], ", ".join(f"{name} {version}" for name, version in self._versions().items())))
        left_out = ("versions", "command", "span", "seed", "paths", "block", "bars")
        shown = {name: value for name, value in settings.items() if name not in left_out and value not in (None, [], {})}
        facts.append((words["fact_settings"], json.dumps(plain(shown), ensure_ascii=False)))
        return facts

    def _files(self) -> tuple[dict[str, str], str]:
        """Return the files of the page, packed, and what is to be said of them."""
        comparison, table = self.comparison, self.comparison.table
        whole = {
            "settings": self.settings, "market": comparison.market, "combinations": comparison.combinations,
            "flags": list(getattr(comparison, "flags", ())), "table": table.rename_axis("id").reset_index().to_dict("records"),
        }  # fmt: skip
        files = {
            "comparison.csv": packed(table.to_csv(index_label="id")),
            "comparison.json": packed(json.dumps(plain(whole), indent=1, ensure_ascii=False) + "\n"),
        }
        notes = []
        for name in ("runs", "errors", "train", "test"):
            frame = getattr(comparison, name, None)
            if frame is not None and len(frame):
                files[f"{name}.csv"] = packed(
                    frame.head(MOST_ROWS).to_csv(index=name in ("train", "test"), index_label="id" if name in ("train", "test") else None)
                )
                notes += [self.words.say("files_cut", most=f"{MOST_ROWS:,}")] if len(frame) > MOST_ROWS else []
        files["fans.csv"] = packed(_fans_frame(self.laboratory).to_csv(index=False))
        return files, " ".join(notes)


def _fan_key(words: Words, has_paths: bool) -> list[dict[str, Any]]:
    from markupsafe import Markup

    def block(strength: str) -> Any:
        return Markup(f'<rect y="1" width="18" height="10" fill="var(--blue-soft)" fill-opacity="{strength}"/>')

    median = {"look": line_swatch(Look("blue", 1.9)), "label": words["key_median" if has_paths else "key_history"]}
    if not has_paths:
        return [median]
    return [
        median,
        {"look": block("1"), "label": words["key_half"]},
        {"look": block(PALE), "label": words["key_most"]},
        {"look": line_swatch(Look("orange", 1.6, "dash")), "label": words["key_history"]},
    ]


def _fans_frame(laboratory: Laboratory) -> "pd.DataFrame":
    """Return the fans as they are drawn, thinned: a row for each combination and day."""
    import pandas as pd

    frames = []
    for trial in laboratory.trials[:MOST_FANS]:
        if trial.id in laboratory.comparison.fans:
            days, fan, history = laboratory.fan(trial.id, 200)
            columns = {
                "id": trial.id,
                "day": days.round(4),
                **{f"wealth_{share}": fan[row].round(6) for row, share in enumerate(QUANTILES)},
            }
            frames.append(pd.DataFrame({**columns, **({} if history is None else {"history": history.round(6)})}))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _kept_together(text: str) -> str:
    """Return a text whose numbers and per cent signs stay on one line."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def span_said(span: Any, words: Words) -> str:
    """Return from when to when, of a pair of instants or whatever the settings have."""
    if isinstance(span, list | tuple) and len(span) == 2:
        return words.say("from_to", first=str(span[0])[:10], last=str(span[1])[:10])
    return "\N{EN DASH}" if span is None else str(span)


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
