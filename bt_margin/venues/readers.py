"""Readers of what venues and other programs keep: files in, tables and facts out.

Every reader takes the path of a JSON file or what was parsed from one, and returns its finds by symbol as the source
spells it. Nothing is guessed: what a figure means follows from a rule that is stated here, or reading fails with a sentence
that names the row and the numbers. Deductions are derived, and where a source gives them too they must agree.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import pairwise
from math import inf, isclose
from pathlib import Path
from typing import NamedTuple

from ..core.tiers import MODES, UNITS, Tier, TierSchedule, TierStep, TierTable
from .facts import ContractFacts, FundingFacts
from .fields import cap, check_keys, content, day, figure, mapping, one_of, optional_figure, parsed, sequence, text, whole

Source = object  # a path, or what was parsed from a file

# The units of ccxt's minNotional and maxNotional by the field of the venue's own row that they were copied from.
CCXT_UNITS = {"maxSz": "contracts", "qtyCap": "base"}
CCXT_QUOTE = ("notionalCap", "riskLimitValue", "endUnit", "maxTierValue", "risk_limit", "max_notional")
CCXT_OKX = ("okx", "okxus", "myokx")
CCXT_AMOUNTS = ("cum", "mmDeduction", "deduction")
CCXT_KEYS = frozenset({"minNotional", "maxNotional", "maintenanceMarginRate", "maxLeverage"})
SLAB_UNIT = "contracts"  # of the venues read here only OKX counts contracts, and it charges the whole position one rate

FILTERS = {"LOT_SIZE": ("stepSize", "minQty"), "PRICE_FILTER": ("tickSize",), "MARKET_LOT_SIZE": ("maxQty",), "MIN_NOTIONAL": ("notional",)}
SINGLE_TIER_IDS = 50  # Hyperliquid: a margin table id below 50 is no table, it is the maximum leverage of a single tier
FRACTION, PERCENT = "fraction", "percent"
ROUNDED = 0.1  # how far initial rate x maximum leverage may lie from 1: 150x is published as 0.0066

CSV_COLUMNS = frozenset({"cap", "rate", "max_leverage"})
CSV_OPTIONS = frozenset({"symbol", "valid_from", "floor", "amount"})
STEP_KEYS = frozenset({"cap", "rate", "initial_rate", "first_initial_rate"})
TOML_TABLE = frozenset({"rows"})
TOML_OPTIONS = frozenset({"symbol", "valid_from", "mode", "unit", "step", "amounts"})


class Row(NamedTuple):
    """One tier as a source gives it; ``amount`` None where it gives none."""

    tier: Tier
    amount: float | None


def ccxt_tiers(source: Source, *, exchange: str | None = None, mode: str | None = None) -> dict[str, TierTable]:
    """Return the tables of ccxt's unified structure: ``fetch_leverage_tiers``, or the list of one market.

    ccxt names every edge a notional. It is one, except on OKX, where it counts contracts, and on Binance COIN-M, where it
    counts coins; the venue's own row, kept under 'info', tells. Without it name the ``exchange`` ('okx', 'binancecoinm',
    any other: quote currency). Edges of a contract settled in its base coin (BTC/USD:BTC) are coins. OKX tables are slab,
    others marginal, unless ``mode`` says otherwise: ccxt does not (Gate's were slab before 2025-07-29).
    """
    entry, where = parsed(source)
    where = where or "leverage tiers"
    markets = {None: entry} if isinstance(entry, list) else mapping(entry, where)
    tables: dict[str, TierTable] = {}
    for name, value in markets.items():
        place = where if name is None else f"{where}, {name}"
        rows = [mapping(row, f"{place}, row {number}") for number, row in enumerate(sequence(value, place), 1)]
        symbol = text(rows[0].get("symbol"), f"{place}, row 1, symbol") if name is None else name
        unit = _ccxt_unit(symbol, rows, exchange, place)
        found: list[Row] = []
        for number, row in enumerate(rows, 1):
            found.append(_ccxt_row(row, found[-1].tier.cap if found else 0.0, f"{place}, row {number}"))
        if unit == SLAB_UNIT:
            found = _joined_by_lots(found, place)
        tables[symbol] = _table(found, place, mode=mode or ("slab" if unit == SLAB_UNIT else "marginal"), unit=unit)
    return tables


def binance_brackets(source: Source, *, notional_coef_applied: bool | None = None) -> dict[str, TierTable]:
    """Return the tables of Binance's leverageBracket: USD-M v1 (notionals), COIN-M v1 and v2 (coins).

    COIN-M v1 names a 'pair' where v2 names a symbol, and the floor of both is spelled 'qtylFloor' in answers. An account
    whose brackets were changed has a 'notionalCoef' other than 1; the venue does not say whether the caps carry it
    already, so say it: ``notional_coef_applied``.
    """
    entry, where = parsed(source)
    where = where or "leverageBracket"
    answers = entry if isinstance(entry, list) else [entry]
    tables: dict[str, TierTable] = {}
    for number, value in enumerate(sequence(answers, where), 1):
        answer = mapping(value, f"{where}, answer {number}")
        symbol = text(answer.get("symbol", answer.get("pair")), f"{where}, answer {number}, symbol")
        place = f"{where}, {symbol}"
        brackets = [mapping(row, place) for row in sequence(answer.get("brackets"), f"{place}, brackets")]
        unit = "base" if "qtyCap" in brackets[0] else "quote"
        coefficient = _coefficient(answer, place, is_applied=notional_coef_applied)
        rows = [_binance_row(row, unit, coefficient, f"{place}, bracket {row.get('bracket')}") for row in brackets]
        tables[symbol] = _table(rows, place, unit=unit)
    return tables


def binance_contracts(source: Source) -> dict[str, ContractFacts]:
    """Return lots, ticks, smallest and largest orders of Binance's exchangeInfo, USD-M or COIN-M (those with a contractSize)."""
    entry, where = parsed(source)
    where = where or "exchangeInfo"
    found: dict[str, ContractFacts] = {}
    for number, value in enumerate(sequence(mapping(entry, where).get("symbols"), f"{where}, symbols"), 1):
        row = mapping(value, f"{where}, symbol {number}")
        symbol = text(row.get("symbol"), f"{where}, symbol {number}")
        place = f"{where}, {symbol}"
        filters = _filters(row, place)
        size = optional_figure(row.get("contractSize"), f"{place}, contractSize")
        found[symbol] = ContractFacts(
            symbol=symbol,
            kind="linear" if size is None else "inverse",
            multiplier=1.0 if size is None else size,
            lot=filters.get("LOT_SIZE stepSize"),
            tick=filters.get("PRICE_FILTER tickSize"),
            min_size=filters.get("LOT_SIZE minQty"),
            max_size=filters.get("MARKET_LOT_SIZE maxQty"),
            min_notional=filters.get("MIN_NOTIONAL notional"),
            liquidation_fee=optional_figure(row.get("liquidationFee"), f"{place}, liquidationFee"),
        )
    return found


def binance_funding(source: Source) -> dict[str, FundingFacts]:
    """Return intervals, caps and floors of Binance's fundingInfo, which lists the contracts that differ from the usual."""
    entry, where = parsed(source)
    where = where or "fundingInfo"
    found: dict[str, FundingFacts] = {}
    for number, value in enumerate(sequence(entry, where), 1):
        row = mapping(value, f"{where}, row {number}")
        symbol = text(row.get("symbol"), f"{where}, row {number}, symbol")
        place = f"{where}, {symbol}"
        highest, lowest = (optional_figure(row.get(f"adjustedFundingRate{name}"), f"{place}, {name}") for name in ("Cap", "Floor"))
        hours = figure(row.get("fundingIntervalHours"), f"{place}, fundingIntervalHours")
        try:
            found[symbol] = FundingFacts(hours, highest, lowest)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    return found


def bybit_risk_limits(source: Source, *, rates: str | None = None, category: str | None = None) -> dict[str, TierTable]:
    """Return the tables of Bybit's risk-limit: one answer, the list of its pages, or their rows.

    Rates are fractions in live answers ('0.0033') and percents in the documentation's ('0.5'). The initial rate tells: it
    is 1 / maximum leverage, so their product is about 1 or about 100; where a row gives no initial rate say
    ``rates='fraction'`` or 'percent'. Limits are quote currency in the ``category`` 'linear', coins in 'inverse'. The last
    page's cursor must be empty: a page that is missing would leave the table cut off.
    """
    entry, where = parsed(source)
    where = where or "risk-limit"
    if rates is not None:
        one_of(rates, (FRACTION, PERCENT), f"{where}, rates")
    rows, told = _bybit_rows(entry, where)
    category = one_of(category or told, ("linear", "inverse"), f"{where}, category")
    groups: dict[str, list[Row]] = {}
    for number, row in enumerate(rows, 1):
        symbol = text(row.get("symbol"), f"{where}, row {number}, symbol")
        place = f"{where}, {symbol}, row {number}"
        group = groups.setdefault(symbol, [])
        leverage = figure(row.get("maxLeverage"), f"{place}, maxLeverage")
        rate = figure(row.get("maintenanceMargin"), f"{place}, maintenanceMargin")
        scale = 1.0 if _written_as(row, leverage, rates, place) == FRACTION else 0.01
        tier = Tier(group[-1].tier.cap if group else 0.0, cap(row.get("riskLimitValue"), place), rate * scale, leverage)
        group.append(Row(tier, optional_figure(row.get("mmDeduction"), f"{place}, mmDeduction")))
    unit = "quote" if category == "linear" else "base"
    return {symbol: _table(group, f"{where}, {symbol}", unit=unit) for symbol, group in groups.items()}


def okx_position_tiers(source: Source) -> dict[str, TierTable]:
    """Return the tables of OKX's position-tiers, by instrument family (instId where a row has one): slab, in contracts.

    A row begins one lot above the end of the row before: 1000, then 1000.01. That step must be the same in every row and
    no more than one contract, which is what lots are; anything else is a gap.
    """
    entry, where = parsed(source)
    where = where or "position-tiers"
    if isinstance(entry, Mapping):
        answer = mapping(entry, where)
        if str(answer.get("code", "0")) != "0":
            raise ValueError(f"{where} is a refusal of the venue, code {answer['code']}: {answer.get('msg', '')}; ask it again")
        entry = answer.get("data")
    groups: dict[str, list[Row]] = {}
    for number, value in enumerate(sequence(entry, f"{where}, data"), 1):
        row = mapping(value, f"{where}, row {number}")
        name = text(row.get("instId") or row.get("instFamily") or row.get("uly"), f"{where}, row {number}, instFamily")
        place = f"{where}, {name}, tier {row.get('tier')}"
        tier = Tier(
            figure(row.get("minSz"), f"{place}, minSz"),
            cap(row.get("maxSz"), f"{place}, maxSz"),
            figure(row.get("mmr"), f"{place}, mmr"),
            figure(row.get("maxLever"), f"{place}, maxLever"),
        )
        groups.setdefault(name, []).append(Row(tier, None))
    places = {name: f"{where}, {name}" for name in groups}
    return {name: _table(_joined_by_lots(rows, places[name]), places[name], mode="slab", unit=SLAB_UNIT) for name, rows in groups.items()}


def hyperliquid_meta(source: Source) -> dict[str, TierTable]:
    """Return the tables of Hyperliquid's meta (or metaAndAssetCtxs): maintenance rate = 1 / (2 x maximum leverage).

    A marginTableId below 50 is the maximum leverage of a single tier. Without any id the asset's maxLeverage is.
    """
    entry, where = parsed(source)
    where = where or "meta"
    meta = mapping(entry[0] if isinstance(entry, list) and entry else entry, where)
    listed = _margin_tables(meta, where)
    tables: dict[str, TierTable] = {}
    for number, value in enumerate(sequence(meta.get("universe"), f"{where}, universe"), 1):
        asset = mapping(value, f"{where}, asset {number}")
        name = text(asset.get("name"), f"{where}, asset {number}, name")
        place = f"{where}, {name}"
        highest = figure(asset.get("maxLeverage"), f"{place}, maxLeverage")
        table_id = int(figure(asset.get("marginTableId", highest), f"{place}, marginTableId"))
        if table_id >= SINGLE_TIER_IDS and table_id not in listed and "marginTableId" in asset:
            raise ValueError(f"{place}: its margin table {table_id} is not among the {len(listed)} listed; give the whole answer")
        edges = _hyperliquid_edges(listed[table_id], place) if table_id in listed else [(0.0, float(table_id))]
        if edges[0][1] != highest:
            raise ValueError(f"{place}: its first tier allows {edges[0][1]:g}x, its maxLeverage is {highest:g}")
        caps = [floor for floor, _ in edges[1:]] + [inf]
        rows = [Row(Tier(floor, end, 1 / (2 * top), top), None) for (floor, top), end in zip(edges, caps, strict=True)]
        tables[name] = _table(rows, place)
    return tables


def csv_tiers(path: str | Path, *, mode: str = "marginal", unit: str = "quote") -> dict[str, TierSchedule]:
    """Return the dated tables of one's own CSV, by symbol.

    Columns ``cap, rate, max_leverage``, and where wanted ``symbol`` ('' without it), ``valid_from`` (a day; all or none of
    a symbol's rows), ``floor`` (checked), ``amount`` (checked). An empty cap is none. Rates are fractions.
    """
    import csv

    written, name = content(path)
    reader = csv.DictReader(written.splitlines(), skipinitialspace=True)
    columns = dict.fromkeys(reader.fieldnames or (), None)
    check_keys(columns, CSV_COLUMNS, CSV_OPTIONS, f"the header of {name}")
    found: dict[tuple[str, date | None], list[Row]] = {}
    for number, line in enumerate(reader, 2):
        place = f"{name}, line {number}"
        if None in line or None in line.values():
            raise ValueError(f"{place} has another number of fields than the header, which has {len(columns)}")
        start = day(line["valid_from"], f"{place}, valid_from") if line.get("valid_from") else None
        rows = found.setdefault((line.get("symbol", ""), start), [])
        rows.append(_own_row(line, rows, place))
    if not found:
        raise ValueError(f"{name} has no rows; expected one for each tier")
    tables = [(symbol, start, _table(rows, _said(name, symbol, start), mode=mode, unit=unit)) for (symbol, start), rows in found.items()]
    return _schedules(tables, name)


def toml_tiers(path: str | Path) -> dict[str, TierSchedule]:
    """Return the dated tables of one's own TOML file, by symbol.

    Each ``[[table]]`` has ``rows`` of [cap, rate, max_leverage] (a last cap of inf is none), and where wanted ``symbol`` (''
    without it), ``valid_from`` (a day), ``mode``, ``unit``, ``amounts`` (checked), and ``step``, the rule that goes on after
    the rows: {cap, rate, initial_rate, first_initial_rate, last}.
    """
    import tomllib

    written, name = content(path)
    try:
        entry = tomllib.loads(written)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name} is not TOML: {error}") from None
    check_keys(entry, frozenset({"table"}), frozenset(), name)
    tables: list[tuple[str, date | None, TierTable]] = []
    for number, value in enumerate(sequence(entry["table"], f"{name}, table"), 1):
        place = f"{name}, table {number}"
        row = mapping(value, place)
        check_keys(row, TOML_TABLE, TOML_OPTIONS, place)
        symbol = str(row.get("symbol", ""))
        start = day(row["valid_from"], f"{place}, valid_from") if "valid_from" in row else None
        tables.append((symbol, start, _toml_table(row, _said(name, symbol, start))))
    return _schedules(tables, name)


def tier_step(value: object, where: str) -> TierStep:
    """Return the rule that goes on after a table's rows: cap, rate, initial_rate, first_initial_rate and, where known, last."""
    entry = mapping(value, where)
    check_keys(entry, STEP_KEYS, frozenset({"last"}), where)
    given = {name: figure(entry[name], f"{where}, {name}") for name in STEP_KEYS}
    last = None if entry.get("last") is None else whole(entry["last"], f"{where}, last")
    try:
        return TierStep(**given, last=last)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


# -- one row ---------------------------------------------------------------------------------------------------------


def _ccxt_row(row: Mapping[str, object], reached: float, where: str) -> Row:
    """Return a row of ccxt's; one without a floor, as ccxt leaves those of COIN-M, begins where the row before ends."""
    missing = CCXT_KEYS - set(row)
    if missing:
        raise ValueError(f"{where} is without {', '.join(sorted(missing))}; expected ccxt's {', '.join(sorted(CCXT_KEYS))}")
    info = row.get("info")
    own = mapping(info, f"{where}, info") if isinstance(info, Mapping) else {}
    leverage = figure(row["maxLeverage"], f"{where}, maxLeverage")
    rate = figure(row["maintenanceMarginRate"], f"{where}, maintenanceMarginRate")
    if "riskLimitValue" in own and _written_as(own, leverage, None, where) == PERCENT:
        rate *= 0.01
    floor = optional_figure(row["minNotional"], f"{where}, minNotional")
    tier = Tier(reached if floor is None else floor, cap(row["maxNotional"], f"{where}, maxNotional"), rate, leverage)
    given = next((kept[name] for kept in (row, own) for name in CCXT_AMOUNTS if name in kept), None)
    return Row(tier, optional_figure(given, f"{where}, deduction"))


def _ccxt_unit(symbol: str, rows: Sequence[Mapping[str, object]], exchange: str | None, where: str) -> str:
    """Return what the edges of a ccxt table count, by the venue's own row or by the name of the exchange."""
    info = rows[0].get("info")
    own = info if isinstance(info, Mapping) else {}
    pair, _, settlement = symbol.partition(":")
    is_coin = settlement.partition("-")[0] == pair.partition("/")[0] != ""
    for name, unit in CCXT_UNITS.items():
        if name in own:
            return unit
    if any(name in own for name in CCXT_QUOTE) or (exchange is not None and exchange not in (*CCXT_OKX, "binancecoinm")):
        return "base" if is_coin else "quote"
    if exchange is None:
        raise ValueError(
            f"{where}: its rows keep no answer of the venue under 'info' that says what they count; name the exchange, "
            "as ccxt does (okx, bybit ...)"
        )
    return "contracts" if exchange in CCXT_OKX else "base"


def _filters(row: Mapping[str, object], where: str) -> dict[str, float | None]:
    """Return the figures that are read of a symbol's filters, by filter and field."""
    found: dict[str, float | None] = {}
    for value in sequence(row.get("filters"), f"{where}, filters"):
        one = mapping(value, f"{where}, filters")
        kind = text(one.get("filterType"), f"{where}, filterType")
        for name in FILTERS.get(kind, ()):
            found[f"{kind} {name}"] = optional_figure(one.get(name), f"{where}, {kind}, {name}")
    return found


def _coefficient(answer: Mapping[str, object], where: str, *, is_applied: bool | None) -> float:
    """Return what the edges of a Binance answer have to be multiplied by."""
    value = optional_figure(answer.get("notionalCoef"), f"{where}, notionalCoef")
    if value is None or value == 1 or is_applied:
        return 1.0
    if is_applied is None:
        raise ValueError(f"{where} has a notionalCoef of {value:g}; say notional_coef_applied=True if its caps carry it already, or False")
    return value


def _binance_row(row: Mapping[str, object], unit: str, coefficient: float, where: str) -> Row:
    if unit == "base":
        floor, end = row.get("qtylFloor", row.get("qtyFloor")), row.get("qtyCap")
    else:
        floor, end = row.get("notionalFloor"), row.get("notionalCap")
    tier = Tier(
        figure(floor, f"{where}, floor") * coefficient,
        cap(end, f"{where}, cap") * coefficient,
        figure(row.get("maintMarginRatio"), f"{where}, maintMarginRatio"),
        figure(row.get("initialLeverage"), f"{where}, initialLeverage"),
    )
    amount = optional_figure(row.get("cum"), f"{where}, cum")
    return Row(tier, None if amount is None else amount * coefficient)


def _bybit_rows(entry: object, where: str) -> tuple[list[Mapping[str, object]], str | None]:
    """Return the rows of all pages and the category they name."""
    pages = entry if isinstance(entry, list) and entry and isinstance(entry[0], Mapping) and "result" in entry[0] else [entry]
    rows: list[Mapping[str, object]] = []
    told, cursor = None, ""
    for number, page in enumerate(pages, 1):
        place = where if len(pages) == 1 else f"{where}, page {number}"
        listed: object = page
        if isinstance(page, Mapping):
            answer = mapping(page, place)
            if answer.get("retCode", 0) != 0:
                raise ValueError(f"{place} is a refusal of the venue, code {answer['retCode']}: {answer.get('retMsg', '')}; ask it again")
            result = mapping(answer.get("result"), f"{place}, result")
            told, cursor, listed = result.get("category", told), str(result.get("nextPageCursor") or ""), result.get("list")
        rows += [mapping(row, f"{place}, row {count}") for count, row in enumerate(sequence(listed, f"{place}, list"), 1)]
    if cursor:
        raise ValueError(f"{where} ends with the cursor {cursor!r}: a page is missing; give the list of all pages")
    return rows, told if told is None else str(told)


def _written_as(row: Mapping[str, object], leverage: float, rates: str | None, where: str) -> str:
    """Return whether Bybit's rates are fractions or percents: its initial rate is 1 / maximum leverage in one of them."""
    initial = optional_figure(row.get("initialMargin"), f"{where}, initialMargin")
    if initial is None:
        if rates is None:
            raise ValueError(f"{where} has no initialMargin to tell a fraction from a percent; say rates='fraction' or rates='percent'")
        return rates
    for written, product in ((FRACTION, 1), (PERCENT, 100)):
        if isclose(initial * leverage, product, rel_tol=ROUNDED):
            if rates not in (None, written):
                raise ValueError(f"{where}: initialMargin {initial:g} at {leverage:g}x is a {written}, but rates={rates!r} was said")
            return written
    expected = f"expected {1 / leverage:.4g} or, in percent, {100 / leverage:.4g}"
    raise ValueError(f"{where}: initialMargin {initial:g} does not go with a maximum leverage of {leverage:g}; {expected}")


def _margin_tables(meta: Mapping[str, object], where: str) -> dict[int, object]:
    """Return the margin tables of Hyperliquid's meta by their ids; an answer of an older form has none."""
    listed: dict[int, object] = {}
    if meta.get("marginTables"):
        for item in sequence(meta["marginTables"], f"{where}, marginTables"):
            pair = sequence(item, f"{where}, marginTables")
            if len(pair) != 2:
                raise ValueError(f"{where}, marginTables: each is [id, table], was {pair!r}")
            listed[whole(pair[0], f"{where}, marginTables")] = pair[1]
    return listed


def _hyperliquid_edges(value: object, where: str) -> list[tuple[float, float]]:
    """Return (lower bound, maximum leverage) of a margin table's tiers."""
    tiers = sequence(mapping(value, where).get("marginTiers"), f"{where}, marginTiers")
    found = [mapping(tier, f"{where}, tier {number}") for number, tier in enumerate(tiers, 1)]
    return [
        (figure(tier.get("lowerBound"), f"{where}, lowerBound"), figure(tier.get("maxLeverage"), f"{where}, maxLeverage")) for tier in found
    ]


def _own_row(line: Mapping[str, str], before: Sequence[Row], where: str) -> Row:
    floor = optional_figure(line.get("floor"), f"{where}, floor")
    if floor is None:
        floor = before[-1].tier.cap if before else 0.0
    tier = Tier(
        floor,
        cap(line["cap"], f"{where}, cap"),
        figure(line["rate"], f"{where}, rate"),
        figure(line["max_leverage"], f"{where}, max_leverage"),
    )
    return Row(tier, optional_figure(line.get("amount"), f"{where}, amount"))


# -- one table -------------------------------------------------------------------------------------------------------


def _joined_by_lots(rows: Sequence[Row], where: str) -> list[Row]:
    """Return rows that begin one lot above the end of the row before as rows that begin at it."""
    tiers = [row.tier for row in rows]
    steps = [round(high.floor - low.cap, 9) for low, high in pairwise(tiers)]
    for number, step in enumerate(steps, 2):
        if not 0 <= step <= 1 or step != steps[0]:
            usual = "at most one contract" if step == steps[0] else f"{steps[0]:g} as before tier 2"
            edges = f"{tiers[number - 2].cap:.10g} to {tiers[number - 1].floor:.10g}"
            raise ValueError(
                f"{where}: tier {number} must begin one lot above tier {number - 1}; from {edges} are {step:g}, expected {usual}"
            )
    floors = [tiers[0].floor, *(tier.cap for tier in tiers[:-1])]
    return [
        Row(Tier(floor, tier.cap, tier.rate, tier.max_leverage), row.amount) for floor, tier, row in zip(floors, tiers, rows, strict=True)
    ]


def _table(rows: Sequence[Row], where: str, *, mode: str = "marginal", unit: str = "quote") -> TierTable:
    """Return a checked table; a source's only row is a whole table, not a tier to be taken as it stands."""
    try:
        table = TierTable(tuple(row.tier for row in rows), mode, unit)
        table.check_amounts([row.amount for row in rows])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return table


def _toml_table(row: Mapping[str, object], where: str) -> TierTable:
    mode = one_of(row.get("mode", "marginal"), MODES, f"{where}, mode")
    unit = one_of(row.get("unit", "quote"), UNITS, f"{where}, unit")
    rows = [
        [cap(cell, where) if place == 0 else figure(cell, where) for place, cell in enumerate(sequence(cells, f"{where}, rows"))]
        for cells in sequence(row["rows"], f"{where}, rows")
    ]
    amounts = [optional_figure(amount, f"{where}, amounts") for amount in sequence(row["amounts"], where)] if "amounts" in row else None
    step = tier_step(row["step"], f"{where}, step") if "step" in row else None
    try:
        table = TierTable.from_rows(rows, mode=mode, unit=unit, step=step)
        if amounts is not None:
            table.check_amounts(amounts)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return table


def _said(file: str, symbol: str, start: date | None) -> str:
    return ", ".join([file, *filter(None, [symbol, str(start or "")])])


def _schedules(tables: Iterable[tuple[str, date | None, TierTable]], file: str) -> dict[str, TierSchedule]:
    """Return each symbol's tables in order of time; one without a day is always in force and must be alone."""
    groups: dict[str, list[tuple[date | None, TierTable]]] = {}
    for symbol, start, table in tables:
        groups.setdefault(symbol, []).append((start, table))
    schedules: dict[str, TierSchedule] = {}
    for symbol, dated in groups.items():
        where = f"{file}, {symbol}" if symbol else file
        days = [start for start, _ in dated if start is not None]
        if len(dated) > 1 and len(days) < len(dated):
            raise ValueError(f"{where} has {len(dated)} tables, of which {len(dated) - len(days)} have no valid_from; date each of them")
        if len(set(days)) < len(days):
            raise ValueError(f"{where} has two tables of the same day; leave one out")
        if days:
            schedules[symbol] = TierSchedule.from_days(sorted(((start, table) for start, table in dated if start), key=_start))
        else:
            schedules[symbol] = TierSchedule.constant(dated[0][1])
    return schedules


def _start(item: tuple[date, TierTable]) -> date:
    return item[0]
