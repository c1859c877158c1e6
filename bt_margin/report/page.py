"""The page of one run: verdict, charts, liquidations, where the money went, assumptions, and how to run it again."""

import json
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from math import ceil, floor, isnan
from typing import TYPE_CHECKING, Any

from ..laboratory import minus, percent
from ..panels import drawdowns, panel, panels, price_currency, seconds_of, thinned
from ..result import Result, plain
from ..tearsheet import STATISTICS
from .frame import Numbers, document, library_versions, packed
from .pictures import pane, scatter, waterfall
from .series import Store
from .words import Words, cell, change

if TYPE_CHECKING:
    import pandas as pd

MOST_PRICES = 4  # contracts whose price is drawn
MOST_DEATHS = 300  # rows of the table of liquidations
MANY_BARS = 200  # more than candles that a chart has room for
MOST_ROWS = 20_000  # of a file to download
SAME_CALL = 0.02  # closest calls that differ by less are the same: one is of closes, the other of the path inside a bar
DAY = 86_400
SPANS = ((365 * DAY, "span_year"), (90 * DAY, "span_quarter"), (30 * DAY, "span_month"), (7 * DAY, "span_week"), (DAY, "span_day"))
TIME_PANELS = ("equity", "margin_ratio", "costs", "drawdown", "leverage")
FILES = ("liquidations", "trades", "fills", "funding", "refusals", "warnings", "top_ups")
TICKS = (
    {"dtickrange": [None, 60_000], "value": "%H:%M:%S"},
    {"dtickrange": [60_000, 86_400_000], "value": "tick_hour"},
    {"dtickrange": [86_400_000, "M1"], "value": "tick_day"},
    {"dtickrange": ["M1", "M6"], "value": "tick_month"},
    {"dtickrange": ["M12", None], "value": "%Y"},
)  # how instants are written below a chart, a format or its key in the words, by how far apart they are


def run_page(result: Result, *, words: Words, title: str, note: str, command: str, span: tuple[float, float] | None) -> str:
    """Return the page of a run as HTML; ``span`` is what the charts over time show first (None: everything)."""
    return _Page(result, words, title, note, command, span).html()


class _Page:
    def __init__(self, result: Result, words: Words, title: str, note: str, command: str, span: tuple[float, float] | None) -> None:
        self.result, self.words, self.title, self.note_said, self.command, self.view = result, words, title, note, command, span
        self.times = seconds_of(result.equity.index)
        self.unit = result.settings["currency"] or ""
        self.numbers, self._candles = Numbers(), dict[str, Any]()
        self.store = Store(self.numbers, self.times, seconds_of(result.liquidations["time"]))

    def html(self) -> str:
        words = self.words
        panes, charts = self._figures()
        files, files_note = self._files()
        first, last = float(self.times[0]), float(self.times[-1])
        spans = [{"seconds": "all", "name": words["span_all"]}]
        spans += [{"seconds": str(seconds), "name": words[name]} for seconds, name in SPANS if seconds < last - first]
        edge = self.result.bar_seconds or 60.0
        data = {
            "words": {name: words[name] for name in ("beyond", "log_scale", "saved")},
            "span": [first - edge, last] if last == first else [first, last],
            "view": self.view,
            "bar": edge,
            "ticks": self._ticks(""),
            "narrowTicks": self._ticks("_narrow"),
            "arrays": self.numbers.arrays,
            "panes": [drawn for drawn, _ in panes],
            "charts": [drawn for drawn, _ in charts],
            "files": files,
        }
        heading = self._heading()
        return document(
            "run.html.j2",
            data=data,
            lang=words.lang,
            words=words,
            title=self.title or f"{self.result.settings['strategy']}: {self._verdict()}",
            versions=self.result.settings["versions"],
            heading=heading,
            verdict=self.title or self._verdict(),
            sentences=self._sentences(),
            tiles=self._tiles(),
            spans=spans,
            panes=[said for _, said in panes],
            charts=[said for _, said in charts],
            deaths=self._deaths(),
            numbers=self._numbers(),
            assumptions=[*([self.note_said] if self.note_said else []), *self._assumptions()],
            again={"how": words["again_command" if self.command else "again_python"], "command": self.command or call_of(self.result)},
            facts=self._facts(),
            files=list(files),
            files_note=files_note,
        )

    def _ticks(self, size: str) -> list[dict[str, Any]]:
        """Return how instants are written below a chart of a size, the narrow one or any other."""
        words = self.words
        return [{**tick, "value": words.get(f"{tick['value']}{size}", words.get(str(tick["value"]), tick["value"]))} for tick in TICKS]

    # -- figures -----------------------------------------------------------------------------------------------------

    def _figures(self) -> tuple[list[tuple[Any, Any]], list[tuple[Any, Any]]]:
        """Return the panes of time and the other charts, each for the script and for the template."""
        result, words, steps = self.result, self.words, len(self.times)
        shown = self._symbols()
        found = panels(result, symbol=shown[0], steps=steps)
        prices = [found["price"], *(panel(result, "price", symbol=symbol, steps=steps) for symbol in shown[1:])]
        panes = [
            pane(price, self.store, words, key="price" if not number else f"price{number}", candles=self.candles(symbol))
            for number, (symbol, price) in enumerate(zip(shown, prices, strict=True))
        ]
        if len(self.times) > MANY_BARS:
            for _, said in panes:
                said["note"] = words["prices_merged"]
        if len(shown) < len(result.symbols):
            panes[-1][1]["note"] = words.say("prices_left_out", shown=len(shown), count=len(result.symbols))
        panes += [pane(found[key], self.store, words, key=key) for key in TIME_PANELS]
        charts = [
            waterfall(found["money"], words, self._money),
            *([scatter(found["close_calls"], words)] if found["close_calls"].points else []),
        ]
        return panes, charts

    def _symbols(self) -> list[str]:
        """Return the contracts whose price is drawn, in the order of the run: where they are many those with the most fills."""
        symbols = self.result.symbols
        if len(symbols) <= MOST_PRICES:
            return symbols
        fills = self.result.fills["symbol"].value_counts()
        counts = {symbol: sum(int(fills.get(leg, 0)) for leg in self.result.legs(symbol)) for symbol in symbols}
        chosen = sorted(symbols, key=lambda symbol: -counts[symbol])[:MOST_PRICES]
        return [symbol for symbol in symbols if symbol in chosen]

    # -- words on top ------------------------------------------------------------------------------------------------

    def _money(self, amount: float) -> str:
        """Return an amount as its page shows it: large ones of quote money without decimals."""
        decimals = self.result.decimals
        return minus(f"{amount + 0.0:,.{0 if decimals == 2 and abs(amount) >= 1000 else decimals}f}")

    def _heading(self) -> str:
        settings, words = self.result.settings, self.words
        contracts = ", ".join(
            f"{symbol} {leverage:g}x {settings['margin_mode'][symbol]}" for symbol, leverage in settings["leverage"].items()
        )
        contracts += f", {words['hedge']}" if settings["position_mode"] == "hedge" else ""
        params = ", ".join(f"{name}={value}" for name, value in settings["params"].items())
        span = settings["data"]
        return words.say(
            "heading", strategy=settings["strategy"], params=params, contracts=contracts, venue=settings["venue"] or words["own_rules"],
            first=cell(span["first"]), last=cell(span["last"]),
        )  # fmt: skip

    def _verdict(self) -> str:
        summary, words = self.result.summary, self.words
        start, final, count = summary["start_cash"], summary["final_equity"], summary["liquidations"]
        told = {"start": self._money(start), "final": self._money(final), "unit": self.unit, "change": change(summary["total_return"])}
        if self.result.fills.empty:
            return words.say("verdict_idle", **told)
        if self.result.died is not None and count:
            return words.say("verdict_dead", times=words.times(count), day=_day(self.result.died), **told)
        if count:
            return words.say("verdict_liquidated", times=words.times(count), **told)
        return words.say("verdict_alive", **told)

    def _sentences(self) -> list[str]:
        result, words, unit = self.result, self.words, self.unit
        sentences = []
        stock = None if result.baseline is None else result.baseline.dropna()
        if stock is not None and len(stock):
            told = {"final": self._money(stock.iloc[-1]), "unit": unit, "change": change(stock.iloc[-1] / result.summary["start_cash"] - 1)}
            is_below = stock.min() < 0
            sentences.append(words.say("sentence_stock_below" if is_below else "sentence_stock", low=self._money(stock.min()), **told))
        if len(result.liquidations):
            sentences.append(self._worst_said())
        if result.flows:
            sentences.append(words.say("sentence_deposits", amount=self._money(result.summary["net_deposits"]), unit=unit))
        if result.bounds is not None:
            ends = [self._money(end.summary["final_equity"]) for end in (result.bounds.worst, result.bounds.best)]
            key = "sentence_bounds_same" if ends[0] == ends[1] else "sentence_bounds"
            sentences.append(words.say(key, low=ends[0], high=ends[1], unit=unit))
            if ends[0] == ends[1] and result.summary["possible_liquidations"] and len(result.symbols) > 1:
                sentences.append(words["sentence_bounds_apart"])
        if result.ended_early:
            sentences.append(words["sentence_early"])
        return sentences

    def _worst_said(self) -> str:
        rows, words = self.result.liquidations, self.words
        losses = rows["realized_pnl"] - rows["fee"] - rows["forfeited"]
        row = rows.loc[losses.idxmin()]
        ways = [words.say("short_margin", amount=self._more(row["margin_to_add"]), unit=self.unit)]
        if not isnan(row["safe_leverage"]):
            kind = "short_effective" if row["margin_mode"] == "cross" else "short_leverage"
            ways.append(words.say(kind, leverage=_less(row["safe_leverage"])))
        return words.say(
            "sentence_worst", symbol=row["symbol"], day=f"{row['time']:%Y-%m-%d %H:%M}", loss=self._money(-losses.min()), unit=self.unit,
            ways=words["or"].join(ways),
        )  # fmt: skip

    def _more(self, amount: float) -> str:
        """Return margin to add, rounded up: rounded down it would not prevent."""
        decimals = self.result.decimals
        return f"{ceil(amount * 10**decimals) / 10**decimals:,.{decimals}f}"

    # -- tiles -------------------------------------------------------------------------------------------------------

    def _tiles(self) -> list[dict[str, Any]]:
        return [
            self._equity_tile(),
            self._drawdown_tile(),
            self._deaths_tile(),
            self._closest_tile(),
            self._costs_tile(),
            self._trades_tile(),
        ]

    def _tile(self, key: str, value: str, more: str, *, unit: str = "", is_bad: bool = False) -> dict[str, Any]:
        return {"name": self.words[f"tile_{key}"], "value": value, "unit": unit, "more": more, "is_bad": is_bad}

    def _equity_tile(self) -> dict[str, Any]:
        summary = self.result.summary
        more = self.words.say("tile_equity_more", change=change(summary["total_return"]), start=self._money(summary["start_cash"]))
        return self._tile("equity", self._money(summary["final_equity"]), more, unit=self.unit, is_bad=summary["total_return"] < 0)

    def _drawdown_tile(self) -> dict[str, Any]:
        depth = self.result.summary["max_drawdown"]
        if not depth:
            return self._tile("drawdown", percent(0), self.words["tile_drawdown_none"])
        row = int(drawdowns(self.result)[1].argmin())
        return self._tile("drawdown", percent(depth), self.words.say("tile_drawdown_more", day=_day(self.times[row])), is_bad=depth >= 0.5)

    def _deaths_tile(self) -> dict[str, Any]:
        summary = self.result.summary
        count, possible = summary["liquidations"], summary["possible_liquidations"]
        key = "none" if not count else "possible" if possible else "more"
        more = self.words.say(f"tile_liquidations_{key}", loss=self._money(-summary["liquidation_loss"]), unit=self.unit, count=possible)
        return self._tile("liquidations", f"{count:,}", more, is_bad=count > 0)

    def _closest_tile(self) -> dict[str, Any]:
        summary, words = self.result.summary, self.words
        if summary["liquidations"]:
            return self._tile("closest", words["tile_closest_dead"], words["tile_closest_dead_more"], is_bad=True)
        if summary["closest_call"] is None:
            return self._tile("closest", "\N{EN DASH}", words["tile_closest_never"])
        more = " ".join([words["tile_closest_more"], *self._closest_said(summary["closest_call"])])
        return self._tile("closest", percent(summary["closest_call"]), more, is_bad=summary["closest_call"] < 0.02)

    def _closest_said(self, share: float) -> list[str]:
        """Return when the closest call was and how far in average true ranges; nothing where it was inside a bar only."""
        closest = self.result.closest
        if closest is None or abs(closest.share - share) > SAME_CALL * share:
            return []
        kind = "tile_closest_when" if isnan(closest.ranges) else "tile_closest_ranges"
        return [self.words.say(kind, day=f"{closest.time:%Y-%m-%d}", ranges=f"{closest.ranges:.1f}")]

    def _costs_tile(self) -> dict[str, Any]:
        summary = self.result.summary
        paid = summary["fees"] + summary["funding"]
        profit = summary["final_equity"] - summary["start_cash"] - summary["net_deposits"] - paid
        told = {"fees": self._money(summary["fees"]), "funding": self._money(summary["funding"])}
        key = "tile_costs_share" if profit > 0 > paid else "tile_costs_more"
        return self._tile(
            "costs", self._money(paid), self.words.say(key, share=percent(-paid / profit) if profit > 0 else "", **told), unit=self.unit
        )

    def _trades_tile(self) -> dict[str, Any]:
        summary = self.result.summary
        held = percent(summary["time_in_market"])
        if summary["win_rate"] is None:
            return self._tile("trades", f"{summary['trades']:,}", self.words.say("tile_trades_idle", held=held))
        return self._tile(
            "trades", f"{summary['trades']:,}", self.words.say("tile_trades_more", won=percent(summary["win_rate"]), held=held)
        )

    # -- the run in numbers ------------------------------------------------------------------------------------------

    def _numbers(self) -> list[dict[str, Any]]:
        """Return the numbers of a tear sheet as two tables, each number with what it is made of."""
        words, values = self.words, self.result.statistics
        columns = [{"name": words[f"col_{name}"], "unit": "", "is_text": name != "value"} for name in ("number", "value", "meaning")]
        rows = [
            [
                words.told(number.label),
                self._number(values[number.name], number.unit),
                words.told(number.definition),
            ]
            for number in STATISTICS
        ]
        half = [number.name for number in STATISTICS].index("exposure")
        titles = (words["numbers_first"], words["numbers_second"])
        return [{"title": title, "columns": columns, "rows": part} for title, part in zip(titles, (rows[:half], rows[half:]), strict=True)]

    def _number(self, value: Any, unit: str) -> str:
        """Return a number of the tear sheet with its unit."""
        words = self.words
        if value is None or isinstance(value, str):
            return cell(value)
        if unit == "money":
            return f"{self._money(value)} {self.unit}".rstrip()
        yearly = words["unit_year"] if unit.endswith("a year") else ""
        if unit.startswith("share"):
            return percent(value) + yearly
        if unit.startswith("times"):
            return f"{cell(float(f'{value:.3g}'))}x{yearly}"
        return cell(float(f"{value:.4g}")) + {"days": words["unit_days"], "hours": words["unit_hours"]}.get(unit, "")

    # -- liquidations ------------------------------------------------------------------------------------------------

    def _deaths(self) -> dict[str, Any]:
        """Return the table of liquidations with what would have prevented each."""
        rows, words = self.result.liquidations, self.words
        if rows.empty:
            return {"title": words["deaths_none_title"], "note": words["deaths_none"], "rows": []}
        units = {price_currency(self.result, symbol) for symbol in self.result.symbols}
        price_unit = words.told(units.pop()) if len(units) == 1 else ""
        named = [
            *(("when", "UTC", "when"), ("contract", "", "word"), ("size", "", "number"), ("entry", price_unit, "number")),
            *(("mark", price_unit, "number"), ("trigger", "", "word"), ("lost", self.unit, "lost"), ("certainty", "", "word")),
            ("saved", "", "saved"),
        ]
        columns = [
            {"name": words[f"col_{key}"], "unit": unit, "kind": kind, "is_text": kind in ("when", "word", "saved")}
            for key, unit, kind in named
        ]
        count, shown = len(rows), rows.head(MOST_DEATHS)
        caption = words.say("deaths_cut" if count > MOST_DEATHS else "deaths_caption", count=f"{count:,}", shown=f"{MOST_DEATHS:,}")
        told_rows = [{"time": round(row.time.timestamp()), "cells": self._death(row)} for row in shown.itertuples()]
        return {
            "title": words.say("deaths_title", count=f"{count:,}"),
            "note": words["deaths_note"],
            "caption": caption,
            "columns": columns,
            "rows": told_rows,
        }

    def _death(self, row: Any) -> list[Any]:
        loss = row.realized_pnl - row.fee - row.forfeited
        return [
            f"{row.time:%Y-%m-%d %H:%M}",
            row.symbol,
            minus(f"{row.size:+,.10g}"),
            cell(row.entry_price),
            cell(row.mark_price),
            self.words[f"trigger_{row.trigger}"],
            self._money(loss),
            self.words[f"certainty_{row.certainty}"],
            {"ways": self._ways(row), "bar": " ".join(self._bar_said(row))},
        ]

    def _bar_said(self, row: Any) -> list[str]:
        """Return the bar of a liquidation in words: its prices, and what the account and its tier were at the close before."""
        result, words, said = self.result, self.words, []
        symbol = next(name for name in result.symbols if row.symbol in result.legs(name))
        candles, index = self.candles(symbol), result.equity.index
        at = int(candles.index.searchsorted(row.time))
        if at < len(candles):
            said.append(words.say("bar_said", **{name: cell(float(candles[name].iloc[at])) for name in ("open", "high", "low", "close")}))
        before = int(index.searchsorted(row.time)) - 1
        if before >= 0:
            account = result.equity.iloc[before]
            told = {"equity": self._money(account["equity"]), "maintenance": self._money(account["maintenance_margin"])}
            key = (index[before], row.symbol)
            if not account["notional"]:
                return [*said, words.say("before_flat", **told)]
            if key in self.held:
                said.append(words.say("before_position", mark=cell(self.held[key][0]), line=cell(self.held[key][1])))
            if key in self.tiers:
                said.append(words.say("before_tier", tier=self.tiers[key][0], rate=percent(self.tiers[key][1])))
            said.append(words.say("before_said", **told))
        return said

    @cached_property
    def tiers(self) -> dict[Any, tuple[int, float]]:
        """The tier, its number and rate, by the time and the symbol of what was held in it."""
        tiers = self.result.tiers
        return dict(zip(zip(tiers["time"], tiers["symbol"], strict=True), zip(tiers["tier"], tiers["rate"], strict=True), strict=True))

    @cached_property
    def held(self) -> dict[Any, tuple[float, float]]:
        """The mark and the liquidation price by the time and the symbol of what was held."""
        held = self.result.positions
        marks = zip(held["mark_price"], held["liquidation_price"], strict=True)
        return dict(zip(zip(held["time"], held["symbol"], strict=True), marks, strict=True))

    def candles(self, symbol: str) -> "pd.DataFrame":
        """Return a contract's candles, read once."""
        if symbol not in self._candles:
            self._candles[symbol] = self.result.candles(symbol)
        return self._candles[symbol]

    def _ways(self, row: Any) -> list[str]:
        """Return what would have kept a position alive in the bar in which it died."""
        words = self.words
        ways = [words.say("way_margin", amount=self._more(row.margin_to_add), unit=self.unit)]
        if not isnan(row.safe_leverage):
            kind = "way_effective" if row.margin_mode == "cross" else "way_leverage"
            ways.append(words.say(kind, leverage=_less(row.safe_leverage), was=f"{row.leverage:g}"))
        against = (row.entry_price - row.mark_price) * (1 if row.size > 0 else -1)
        if row.trigger == "gap":
            ways.append(words["way_no_stop"])
        elif against > 0 and row.price != row.entry_price:
            loss = row.realized_pnl * self._share_lost(row)
            kind = "way_stop_long" if row.size > 0 else "way_stop_short"
            ways.append(
                words.say(
                    kind, price=cell(row.mark_price), share=percent(against / row.entry_price), loss=self._money(-loss), unit=self.unit
                )
            )
        return ways

    def _share_lost(self, row: Any) -> float:
        """Return what of the realized loss a stop at the mark of the trigger would have been."""
        kind = self.result.settings["kind"].get(row.symbol.partition(":")[0], "linear")
        if kind == "inverse":
            return float((1 / row.mark_price - 1 / row.entry_price) / (1 / row.price - 1 / row.entry_price))
        return float((row.mark_price - row.entry_price) / (row.price - row.entry_price))

    # -- to run it again ---------------------------------------------------------------------------------------------

    def _facts(self) -> list[tuple[str, str]]:
        result, words = self.result, self.words
        settings, span = result.settings, result.settings["data"]
        versions = ", ".join(f"{name} {version}" for name, version in {**settings["versions"], **library_versions()}.items())
        told_span = words.say(
            "span_said",
            first=cell(span["first"]),
            last=cell(span["last"]),
            bars=f"{span['bars']:,}",
            length=length_said(span["bar_seconds"]),
        )
        hashes = [f"{symbol} {data_hash(self.candles(symbol))}" for symbol in result.symbols]
        facts = [(words["fact_span"], told_span), (words["fact_hash"], "; ".join(hashes))]
        if len(result.funding):
            facts.append((words["fact_funding_hash"], data_hash(result.funding.set_index("time")[["mark_price", "rate"]])))
        facts.append((words["fact_versions"], versions))
        left_out = ("versions", "data", "params", "strategy")
        shown = {name: value for name, value in settings.items() if name not in left_out and value not in (None, [], {})}
        facts.append((words["fact_settings"], json.dumps(plain(shown), ensure_ascii=False)))
        return facts

    def _assumptions(self) -> list[str]:
        """Return where the marks came from and the stated policies of the run."""
        words, marks = self.words, self.result.settings["mark"]
        own = [symbol for symbol, source in marks.items() if source == "own candles"]
        given = [words.say("mark_given", symbols=", ".join(own))] if own else []
        return [*given, *(words.flag(flag) for flag in self.result.summary["flags"])]

    def _files(self) -> tuple[dict[str, str], str]:
        """Return the files of the page, packed, and what is to be said of them."""
        result, words = self.result, self.words
        whole = {"settings": result.settings, "summary": result.summary, "command": self.command or call_of(result)}
        files = {"summary.json": packed(json.dumps(plain(whole), indent=2, ensure_ascii=False) + "\n")}
        notes, is_cut = [], False
        for name in FILES:
            frame = getattr(result, name)
            if len(frame):
                is_cut = is_cut or len(frame) > MOST_ROWS
                files[f"{name}.csv"] = packed(frame.head(MOST_ROWS).to_csv(index=False))
        equity = result.equity
        if len(equity) > MOST_ROWS // 2:
            steps = MOST_ROWS // 8
            rows = thinned([(equity["lowest_equity"].to_numpy(), equity["equity"].to_numpy())], steps)
            notes.append(words.say("files_drawn", kept=f"{len(rows):,}", count=f"{len(equity):,}", steps=f"{steps:,}"))
            equity = equity.iloc[rows]
        files["equity.csv"] = packed(equity.to_csv())
        notes += [words.say("files_cut", most=f"{MOST_ROWS:,}")] if is_cut else []
        return files, " ".join(notes)


def call_of(result: Result) -> str:
    """Return the call of ``bt_margin.run`` that makes a run again, its data named by their hash on the page."""
    settings = result.settings
    data = ", ".join(f"{symbol!r}: candles" for symbol in result.symbols)
    given = {
        "venue": settings["venue"],
        "leverage": _common(settings["leverage"]),
        "margin_mode": _common(settings["margin_mode"]),
        "cash": settings["cash"],
        "params": settings["params"],
        "sizer": _sizer(result.strategy),
        "intrabar": settings["intrabar"],
        "position_mode": settings["position_mode"],
        "on_liquidation": settings["on_liquidation"],
        "unfunded": settings["unfunded"],
        "filters": settings["filters"],
        "baseline": result.baseline is not None,
    }
    told = ",\n    ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)
    return f"bt_margin.run(\n    {settings['strategy']},\n    {{{data}}},\n    {told},\n)"


def _sizer(strategy: Any) -> Any:
    """Return a strategy's sizer as ``bt_margin.run`` takes it: a number, or a class and its params; None for the host's own of 1."""
    sizer = strategy.getsizer()
    usual = dict(type(sizer).params._getitems())
    params = {name: value for name, value in sizer.p._getkwargs().items() if value != usual[name]}
    if type(sizer).__name__ == "FixedSize" and set(params) <= {"stake"}:
        return params.get("stake")
    return _Named(f"({type(sizer).__name__}, {params!r})")


class _Named(str):
    """Text that stands in a call as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _common(values: dict[str, Any]) -> Any:
    """Return the one value that all contracts share, else all of them."""
    different = list(dict.fromkeys(values.values()))
    return different[0] if len(different) == 1 else values


def data_hash(frame: "pd.DataFrame") -> str:
    """Return the SHA-256 of a frame's times (seconds) and numbers, little-endian doubles row by row."""
    import numpy as np

    rows = np.column_stack([seconds_of(frame.index), frame.to_numpy(dtype=float)])
    return sha256(np.ascontiguousarray(rows, dtype="<f8").tobytes()).hexdigest()


def length_said(seconds: float) -> str:
    """Return how long a bar is.

    >>> length_said(3600.0), length_said(900.0), length_said(86400.0)
    ('1 h', '15 min', '1 d')
    """
    for size, name in ((DAY, "d"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {name}"
    return f"{seconds:g} s"


def _less(leverage: float) -> str:
    """Return a leverage rounded down: rounded up it would not prevent."""
    return f"{floor(leverage * 10) / 10:,.1f}"


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(float(seconds), UTC):%Y-%m-%d}"
