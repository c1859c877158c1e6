"""The command ``bt-margin calc``: one position before it is traded, or a whole account with every number filled in."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from math import ceil, floor, log10
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .calculator import contract_sheet, evaluate, money_of
from .loading import fraction

DASH = "-"
STDIN = "-"
SIDES = {"long": 1, "short": -1}
MONEY_DIGITS = {"inverse": 8}  # coins are counted to the hundred-millionth, other money to the cent
UNIT_NAMES = {"quote": "of notional", "base": "coins", "contracts": "contracts"}

# How the calculator's words are said on a command line.
SAID = {
    r"^position 1( \([^)]*\))?: ": "",
    r"^the sheet: ": "",
    r"\bwanted_liquidation_price\b": "--target-liquidation",
    r"\bmargin_mode\b": "--margin-mode",
    r"\bfunding_rate\b": "--rate",
    r"\bentry_price\b": "--entry",
    r"\bmark_price\b": "--mark",
    r"\blast_price\b": "--last",
    r"\bcontract_type\b": "--contract-type",
    r"\bisolated_margin\b": "--isolated-margin",
    r"\btaker_fee\b": "--taker-fee",
    r"\bgive its balance\b": "give its --balance",
    r"\bgive the position tiers of its own$": "give --maintenance-rate, or an account file with its tiers",
}

RATIO_NOTES = {
    "maintenance/equity": "100 % liquidates (Binance, Bybit)",
    "equity/maintenance": "100 % liquidates (OKX)",
    "equity/notional": "liquidates near {maintenance}",
    "equity/initial": "liquidates near {in_use}",
}
COST_PARTS = {"initial_margin": "margin", "open_loss": "open loss", "opening_fee": "fee to open", "closing_fee": "fee to close"}


def register(app: typer.Typer) -> None:
    """Add the command to a command line."""
    app.command()(calc)


def calc(
    account: Annotated[str | None, typer.Argument(metavar="[ACCOUNT.json]", help="A whole account; '-' reads it from stdin.")] = None,
    venue: Annotated[str | None, typer.Option(help="Whose tiers, fees and margin terms; 'generic' (default) takes any symbol.")] = None,
    symbol: Annotated[
        str | None, typer.Option(help="As the venue spells it (BTCUSDT, BTC-USDT-SWAP; BTC at Hyperliquid, BTC-USD at dYdX), or BTC/USDT.")
    ] = None,
    side: Annotated[str | None, typer.Option(help="long or short.")] = None,
    entry: Annotated[float | None, typer.Option(help="Entry price.")] = None,
    size: Annotated[float | None, typer.Option(help="In coins, or in contracts where the venue counts those.")] = None,
    leverage: Annotated[float | None, typer.Option(help="1 unless given.")] = None,
    margin_mode: Annotated[str | None, typer.Option(help="isolated (default) or cross.")] = None,
    date: Annotated[str | None, typer.Option(help="The venue's tables of a day, 2024-05-01; the newest unless given.")] = None,
    price: Annotated[float | None, typer.Option(help="Profit and return on margin at this price.")] = None,
    balance: Annotated[float | None, typer.Option(help="Largest size it opens; in cross margin the wallet.")] = None,
    rate: Annotated[
        float | None, typer.Option(parser=fraction, metavar="RATE", help="Funding rate per interval; 0.0001 is 0.01 %.")
    ] = None,
    target_liquidation: Annotated[float | None, typer.Option(help="Margin to add for this liquidation price.")] = None,
    mark: Annotated[float | None, typer.Option(help="Mark price; the entry unless given.")] = None,
    last: Annotated[float | None, typer.Option(help="Last price, for the cost of a Binance short; the mark unless given.")] = None,
    contract_type: Annotated[str | None, typer.Option(help="linear, inverse or spot; the venue's unless given.")] = None,
    multiplier: Annotated[float | None, typer.Option(help="Coins per contract, of an inverse one its quote value.")] = None,
    isolated_margin: Annotated[float | None, typer.Option(help="Money of the position; notional / leverage unless given.")] = None,
    taker_fee: Annotated[
        float | None, typer.Option(parser=fraction, metavar="RATE", help="Fraction of notional; the venue's unless given.")
    ] = None,
    maintenance_rate: Annotated[
        float | None, typer.Option(parser=fraction, metavar="RATE", help="One flat rate instead of the venue's tiers; 0.005 is 0.5 %.")
    ] = None,
    ladder: Annotated[bool, typer.Option("--ladder", help="Add liquidation prices by leverage.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Work out margin, liquidation price, costs and profit before a trade, or fill in an account.

    An account comes back as JSON where stdout is no terminal.
    """
    terms = {name: value for name, value in locals().items() if name not in ("account", "ladder", "as_json") and value is not None}
    if account is not None:
        named = [f"--{name.replace('_', '-')}" for name in [*terms, *(["ladder"] if ladder else [])]]
        if named:
            raise ValueError(f"an account file says all of its positions itself; leave out {', '.join(named)}")
        _fill_in(_account(account), as_json=as_json or not sys.stdout.isatty())
        return
    sheet = _sheet(terms)
    if ladder and not sheet["ladder"]:
        raise ValueError("spot is paid in full, it has no liquidation prices by leverage; leave out --ladder")
    if as_json:
        _print_json(sheet | {"ladder": sheet["ladder"] if ladder else None})
        return
    _print([_sheet_table(sheet), *([_ladder_table(sheet)] if ladder else [])], [_said(flag) for flag in sheet.get("flags", [])])


def _fill_in(account: dict[str, Any], *, as_json: bool) -> None:
    sheet = evaluate(account)
    if as_json:
        _print_json(sheet)
    else:
        _print(_account_tables(account, sheet), sheet.get("flags", []))


def _sheet(terms: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sheet of the position that the options describe."""
    missing = [f"--{name}" for name in ("side", "entry", "size") if name not in terms]
    if missing:
        raise ValueError(f"calc takes an ACCOUNT.json, or one position with --side, --entry and --size; {', '.join(missing)} not given")
    side, size = terms["side"], terms["size"]
    if side not in SIDES:
        raise ValueError(f"--side is long or short, was {side!r}")
    if not size > 0:
        raise ValueError(f"--size is above 0, --side says which way it goes, was {size:.10g}")
    renamed = {
        "entry": "entry_price",
        "mark": "mark_price",
        "last": "last_price",
        "rate": "funding_rate",
        "target_liquidation": "wanted_liquidation_price",
    }
    given = {renamed.get(name, name): value for name, value in terms.items() if name not in ("side", "size", "maintenance_rate")}
    if "maintenance_rate" in terms:
        given["tiers"] = [{"rate": terms["maintenance_rate"]}]
    try:
        return contract_sheet(size=SIDES[side] * size, **given)
    except ValueError as error:
        raise ValueError(_said(str(error))) from None


def _said(sentence: str) -> str:
    for pattern, words in SAID.items():
        sentence = re.sub(pattern, words, sentence)
    return sentence


# -- reading and printing --------------------------------------------------------------------------------------------


def _account(path: str) -> dict[str, Any]:
    """Return the account in a JSON file, or on stdin."""
    name = "stdin" if path == STDIN else path
    try:
        text = (sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()).decode("utf-8-sig")
        account: dict[str, Any] = json.loads(text, object_pairs_hook=_object)
    except OSError as error:
        raise ValueError(f"cannot read {name} ({error.strerror}); name a JSON file, or - for stdin") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is no JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is no JSON: byte {error.start} is no UTF-8") from None
    except RecursionError:
        raise ValueError(f"{name} is no account: it is nested too deeply") from None
    return account


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"a JSON object has {name!r} twice; keep one")
        found[name] = value
    return found


def _print_json(figures: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(figures, indent=2, allow_nan=False))


def _print(tables: Sequence[Table], flags: Sequence[str]) -> None:
    console = Console()
    for table in tables:
        console.print(table)
    for flag in flags:
        console.print(f"Note: {flag}.", highlight=False, markup=False)


# -- the tables of one position --------------------------------------------------------------------------------------


Rows = list[tuple[str, str, str]]


class _Words:
    """Money and prices as words, each with its own currency and digits."""

    def __init__(self, kind: str, money_unit: str | None, price_unit: str | None) -> None:
        self.money_unit = money_unit or ("coin" if kind == "inverse" else "")
        self.price_unit = price_unit or ""
        self.digits = MONEY_DIGITS.get(kind, 2)

    def figure(self, amount: float, sign: str = "") -> str:
        """Return an amount of money; one too small for its digits keeps four that count."""
        digits = self.digits
        if amount and abs(amount) < 1:
            digits = min(max(digits, 3 - floor(log10(abs(amount)))), 12)
        return f"{amount + 0.0:{sign},.{digits}f}"

    def money(self, amount: float, sign: str = "") -> str:
        """Return an amount with its currency."""
        return f"{self.figure(amount, sign)} {self.money_unit}".strip()

    def price(self, price: float | None, *, careful: int = 0) -> str:
        """Return a price with its currency."""
        return "none" if price is None else f"{price_figure(price, careful=careful)} {self.price_unit}".strip()


def price_figure(price: float, *, careful: int = 0) -> str:
    """Return a price to six digits and at least cents; rounded up where ``careful`` is 1, down where it is -1.

    >>> price_figure(57_228.911, careful=1), price_figure(64.6), price_figure(0.000012345)
    ('57,228.92', '64.6000', '0.0000123450')
    """
    digits = max(2, 5 - floor(log10(price)))
    if careful:
        steps = round(price * 10**digits, 6)  # what a float adds in its last digits is no reason to go up
        price = (ceil(steps) if careful > 0 else floor(steps)) / 10**digits
    return f"{price:,.{digits}f}"


def _percent(fraction: float | None, sign: str = "") -> str:
    return DASH if fraction is None else f"{100 * fraction:{sign},.2f} %"


def _rate(fraction: float) -> str:
    """Return a rate in percent with all its digits: 0.05 %, -0.0075 %."""
    return f"{100 * fraction:.10g} %"


def _number(value: float) -> str:
    return f"{value:,.10g}"


def _sheet_table(sheet: Mapping[str, Any]) -> Table:
    """Return the figures of one position in groups: what it is, its prices, its ratios, its order, what was asked."""
    words = _Words(sheet["contract_type"], sheet["settlement"], sheet["quote"])
    table = _figures(_heading(sheet, words))
    groups = (_position_rows, _price_rows, _ratio_rows, _order_rows, _asked_rows)
    for group in groups:
        for row in group(sheet, words):
            table.add_row(*row)
        table.add_section()
    return table


def _figures(title: str) -> Table:
    """Return a table with a name, a figure and a remark in each row."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column("", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True, style="bold")
    table.add_column("")
    return table


def _heading(sheet: Mapping[str, Any], words: _Words) -> str:
    kind, is_long = sheet["contract_type"], sheet["size"] > 0
    side = "Buy" if kind == "spot" else "Long" if is_long else "Short"
    terms = "spot" if kind == "spot" else f"{_number(sheet['leverage'])}x {sheet['margin_mode']}"
    what = f"{side} {_number(abs(sheet['size']))} {sheet['symbol']}".rstrip()
    day = f" on {sheet['date']}" if sheet["date"] else ""
    return f"{what} at {words.price(sheet['entry_price'])}, {terms}, {sheet['venue']}{day}"


def _has_contracts(sheet: Mapping[str, Any]) -> bool:
    return bool(sheet["contract_type"] == "inverse" or sheet["multiplier"] != 1)


def _position_rows(sheet: Mapping[str, Any], words: _Words) -> Rows:
    is_spot = sheet["contract_type"] == "spot"
    rows = [("notional", words.money(sheet["notional"]), f"at a mark of {price_figure(sheet['mark_price'])}")]
    if _has_contracts(sheet):
        worth = f"{_number(sheet['multiplier'])} {words.price_unit if sheet['contract_type'] == 'inverse' else 'coins'}"
        rows.insert(0, ("size", f"{_number(abs(sheet['size']))} contracts", f"of {worth.rstrip()} each"))
    behind = "paid" if is_spot else "its margin" if sheet["margin_mode"] == "isolated" else "the wallet"
    rows += [
        ("unrealized PnL", words.money(sheet["unrealized_pnl"], "+"), "at the mark"),
        ("equity", words.money(sheet["equity"]), f"{behind} + PnL"),
    ]
    if is_spot:
        return rows
    rows += [
        ("initial margin", words.money(sheet["initial_margin"]), _initial_note(sheet)),
        ("maintenance margin", words.money(sheet["maintenance_margin"]), _maintenance_note(sheet, words)),
    ]
    return rows + _tier_rows(sheet)


def _initial_note(sheet: Mapping[str, Any]) -> str:
    at_entry = sheet["margin_mode"] == "isolated" and sheet["fee_in_margin"] != "none"
    where = " at entry" if sheet["maintenance_basis"] == "entry" or at_entry else ""
    return f"notional{where} / {_number(sheet['leverage'])}" + (" + closing fee" if sheet["fee_in_initial"] else "")


def _maintenance_note(sheet: Mapping[str, Any], words: _Words) -> str:
    tier, unit = sheet["tier"], sheet["tier_table"]["unit"]
    note = f"{_rate(tier['rate'])} of notional" + (" at entry" if sheet["maintenance_basis"] == "entry" else "")
    if tier["amount"]:
        note += f" - {_number(tier['amount'])} {words.price_unit if unit == 'quote' else UNIT_NAMES[unit]}".rstrip()
    return note + (" + closing fee" if sheet["fee_in_margin"] != "none" else "")


def _tier_rows(sheet: Mapping[str, Any]) -> Rows:
    tier, table = sheet["tier"], sheet["tier_table"]
    cap = "of any size" if tier["cap"] is None else f"up to {_number(tier['cap'])} {UNIT_NAMES[table['unit']]}"
    leverage = "" if tier["max_leverage"] is None else f", at most {_number(tier['max_leverage'])}x"
    rows = [("tier", f"{tier['number']} of {table['tiers']}", cap + leverage)]
    return [*rows, ("tier table", table["valid_from"], "in force from that day")] if table["valid_from"] else rows


def _price_rows(sheet: Mapping[str, Any], words: _Words) -> Rows:
    rows = []
    if sheet["contract_type"] != "spot":
        side, liquidated, broke = 1 if sheet["size"] > 0 else -1, sheet["liquidation_price"], sheet["bankruptcy_price"]
        away = "liquidated at this mark already" if sheet["liquidatable"] else _distance(liquidated, sheet)
        rows = [
            ("liquidation price", words.price(liquidated, careful=side), away),
            ("bankruptcy price", words.price(broke), _distance(broke, sheet)),
        ]
    return [
        *rows,
        ("break-even", words.price(sheet["break_even_price"]), "opening fee paid"),
        ("break-even, closed", words.price(sheet["break_even_price_closed"]), "opening and closing fee paid"),
    ]


def _distance(price: float | None, sheet: Mapping[str, Any]) -> str:
    """Return on which side of the mark a price is and how far."""
    if price is None:
        return "at no price"
    distance = price / sheet["mark_price"] - 1
    return f"{_percent(abs(distance))} {'below' if distance < 0 else 'above'} the mark"


def _ratio_rows(sheet: Mapping[str, Any], _words: _Words) -> Rows:
    if sheet["contract_type"] == "spot":
        return []
    score = sheet["adl_score"]
    queued = [] if score is None else [("ADL score", f"{score:.4g}", "the highest of a side is deleveraged first")]
    return ratio_rows(sheet["margin_ratio"]) + queued


def ratio_rows(ratios: Mapping[str, float | None]) -> Rows:
    """Return the margin ratio by each convention, with the value at which it liquidates."""
    by_notional = _quotient(ratios["equity/notional"], ratios["equity/maintenance"])
    by_initial = _quotient(ratios["equity/initial"], ratios["equity/maintenance"])
    ends = {"maintenance": _percent(by_notional), "in_use": _percent(by_initial)}
    return [(name.replace("/", " / "), _percent(ratios[name]), note.format(**ends)) for name, note in RATIO_NOTES.items()]


def _quotient(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _order_rows(sheet: Mapping[str, Any], words: _Words) -> Rows:
    cost, fees = sheet["order_cost"], sheet["fees"]
    parts = [(f"  {name}", words.money(cost[part]), "") for part, name in COST_PARTS.items() if cost[part]]
    rows = [("order cost", words.money(cost["total"]), "set aside for the order" + ("" if len(parts) > 1 else ": its margin"))]
    rows += parts if len(parts) > 1 else []
    for name in ("taker", "maker"):
        rows.append(
            (f"fee, {name}", words.money(fees[name]), f"{_rate(fees[f'{name}_rate'])} to open" + (", a rebate" if fees[name] < 0 else ""))
        )
    if sheet["largest_size"] is not None:
        size = _number(abs(sheet["largest_size"])) + (" contracts" if _has_contracts(sheet) else "")
        rows.append(("largest size", size, f"that {words.money(sheet['balance'])} opens at {_number(sheet['leverage'])}x"))
    return rows


def _asked_rows(sheet: Mapping[str, Any], words: _Words) -> Rows:
    at_price, funding, added = sheet["at_price"], sheet["funding_per_day"], sheet["margin_to_add"]
    is_spot, rows = sheet["contract_type"] == "spot", []
    if at_price is not None:
        where = f"at {price_figure(at_price['price'])}" + (", past liquidation" if at_price["is_past_liquidation"] else "")
        rows = [
            ("PnL", words.money(at_price["unrealized_pnl"], "+"), where),
            ("PnL, closed", words.money(at_price["net_pnl"], "+"), "opening and closing fee paid"),
            ("ROE", _percent(at_price["return_on_margin"], "+"), f"PnL / {'what was paid' if is_spot else 'initial margin at entry'}"),
        ]
    if funding is not None:
        payer = "the long pays" if funding["rate"] >= 0 else "the short pays"
        note = "spot pays none" if is_spot else f"{_number(24 / funding['interval_hours'])} x {_rate(funding['rate'])}, {payer}"
        rows.append(("funding a day", words.money(funding["amount"], "+"), note))
    if added is not None:
        wanted = price_figure(sheet["wanted_liquidation_price"])
        rows.append(("margin to add", words.money(added, "+"), f"for liquidation at {wanted}" + ("" if added >= 0 else ", to spare")))
    return rows


def _ladder_table(sheet: Mapping[str, Any]) -> Table:
    words = _Words(sheet["contract_type"], sheet["settlement"], sheet["quote"])
    table = Table(title="Isolated liquidation price by leverage", title_justify="left")
    for name in ("leverage", "margin", "liquidation price", "from entry"):
        table.add_column(name, justify="right", no_wrap=True)
    side = 1 if sheet["size"] > 0 else -1
    for rung in sheet["ladder"]:
        price = rung["liquidation_price"]
        distance = None if price is None else price / sheet["entry_price"] - 1
        row = (f"{_number(rung['leverage'])}x", words.money(rung["margin"]), words.price(price, careful=side), _percent(distance, "+"))
        table.add_row(*row, style="bold" if rung["leverage"] == sheet["leverage"] else None)
    return table


# -- the tables of an account ----------------------------------------------------------------------------------------


def _account_tables(account: Mapping[str, Any], sheet: Mapping[str, Any]) -> list[Table]:
    """Return a row for each position, and what the account comes to."""
    kind, unit = money_of(account)
    words = _Words(kind, unit, None)
    table = Table(title=f"Positions, money in {words.money_unit or 'the settlement currency'}", title_justify="left")
    for name in ("symbol", "size", "entry", "mark", "PnL", "liquidation"):
        table.add_column(name, justify="left" if name == "symbol" else "right", overflow="fold")
    for row in sheet["positions"]:
        side, mark, liquidated = 1 if row["size"] > 0 else -1, row.get("mark_price"), row["liquidation_price"]
        prices = (price_figure(row["entry_price"]), DASH if mark is None else price_figure(mark))
        profit = words.figure(row["unrealized_pnl"], "+")
        end = "none" if liquidated is None else price_figure(liquidated, careful=side)
        table.add_row(row.get("symbol") or DASH, _number(row["size"]), *prices, profit, end)
    return [*([table] if sheet["positions"] else []), _summary_table(sheet, words)]


def _summary_table(sheet: Mapping[str, Any], words: _Words) -> Table:
    table = _figures("Account")
    notes = {"equity": "wallets + PnL", "available_margin": "of the shared wallet", "initial_margin": "", "maintenance_margin": ""}
    for name, note in notes.items():
        table.add_row(name.replace("_", " "), words.money(sheet[name]), note)
    table.add_section()
    for row in ratio_rows(sheet["margin_ratio"]):
        table.add_row(*row)
    table.add_section()
    fate = ("yes", "a wallet has fallen to its maintenance") if sheet["liquidatable"] else ("no", "equity is above maintenance")
    table.add_row("liquidatable", *fate)
    return table
