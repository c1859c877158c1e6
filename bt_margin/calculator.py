"""The contract calculator: an account in, the same account with every number out; or one position before it is traded.

``evaluate`` takes the account as plain data, the way it is written in JSON, and its names are a public contract:

    venue, date, margin_mode, wallet_balance, maintenance_basis, fee_in_margin, positions: of the account
    symbol, size, entry_price, mark_price, contract_type, multiplier, leverage, margin_mode, isolated_margin, taker_fee,
    tiers, tier_mode, tier_unit: of a position
    floor, cap, rate, amount, max_leverage: of a tier

Only ``size`` and ``entry_price`` must be there; null is the same as left out. ``size`` is signed. Of an inverse contract
``multiplier`` is its quote value and all money is coin. An isolated position's money is besides ``wallet_balance``, and so is
the closing fee that some venues keep with it; spot in cross is paid out of ``wallet_balance``, which still counts the money.
What a field stands for when it is left out is the venue's rule, else: wallet_balance 0, margin_mode cross, leverage 1,
multiplier 1, taker_fee 0, a flat maintenance rate of 0.5 %, and the entry price for a mark price; where one of the last two
is used, ``flags`` says so.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from math import inf, isclose, isfinite
from numbers import Real
from typing import Any

from . import venues
from .core.account import MARGIN_MODES, Risk
from .core.contract import KINDS, Contract, break_even_price, settlement_currency, shared_currency
from .core.liquidation import adl_score, shared_bankruptcy_price, shared_liquidation_price
from .core.orders import assumed_price, order_cost
from .core.profiles import PROFILES
from .core.terms import BASES, FEES_IN_MARGIN, Holding, MarginTerms, margin_ratios
from .core.tiers import GENERIC_RATE, MODES, UNITS, Tier, TierTable

ACCOUNT_FIELDS = ("venue", "date", "margin_mode", "wallet_balance", "maintenance_basis", "fee_in_margin", "positions")
POSITION_FIELDS = (
    *("symbol", "size", "entry_price", "mark_price", "contract_type", "multiplier", "leverage", "margin_mode"),
    *("isolated_margin", "taker_fee", "tiers", "tier_mode", "tier_unit"),
)
TIER_FIELDS = ("floor", "cap", "rate", "amount", "max_leverage")
LADDER = (1, 2, 3, 5, 10, 20, 25, 50, 75, 100, 125, 150, 200)
LARGEST = 1e300  # what is beyond it is a slip, and no float
FUNDING_HOURS = 8.0  # the interval where a venue names none

# What an order costs besides margin and opening fee. Binance: FAQ 87fa7ee33b574f7084d42bd2ce2e463b, no fee but the loss it
# opens with. Bybit: help on order cost, the closing fee too. Retrieved 2026-11-21.
COUNTS_OPEN_LOSS = ("binance", "binance-coinm")
RESERVES_CLOSING_FEE = ("bybit",)


def evaluate(account: Mapping[str, Any]) -> dict[str, Any]:
    """Return an account with every number filled in; the one given stays as it is.

    Adds to each position ``notional, unrealized_pnl, initial_margin, maintenance_margin, liquidation_price,
    bankruptcy_price, tier, adl_score``, to the account ``equity, available_margin, initial_margin, maintenance_margin,
    margin_ratio`` (by convention), ``liquidatable``, and ``flags`` where something stood in for what was not given.
    Prices are those of the position with all other contracts at their marks, None where no positive price liquidates.
    Raises ValueError, in one sentence, for whatever it cannot take.

    >>> sheet = evaluate({"wallet_balance": 1_000, "positions": [{"size": 1, "entry_price": 10_000, "leverage": 10}]})
    >>> round(sheet["positions"][0]["liquidation_price"], 4), sheet["liquidatable"]         # 9 000 / 0.995
    (9045.2261, False)
    """
    book = _Book(account)
    result = deepcopy(dict(account))
    rows = result.get("positions") or []
    result["positions"] = [dict(row) | book.position_figures(line) for row, line in zip(rows, book.lines, strict=True)]
    result |= book.account_figures()
    return result | {"flags": book.flags} if book.flags else result


class _Fields:
    """The fields of one object, each read once and judged on the way; null is the same as left out."""

    def __init__(self, entry: object, where: str, known: Sequence[str]) -> None:
        if not isinstance(entry, Mapping):
            raise ValueError(f"{where} must be an object with the fields {', '.join(known)}, was {_short(entry)}")
        unknown = [str(name) for name in entry if name not in known]
        if unknown:
            raise ValueError(f"{where} has unknown fields {', '.join(map(repr, unknown))}; known are {', '.join(known)}")
        self.entry = entry
        self.where = where

    def number(self, name: str, default: float, *, above: float = -inf, least: float = -inf) -> float:
        """Return a finite number, or the default where none is given."""
        value = self.entry.get(name)
        if value is None:
            return default
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not is_number or not -LARGEST < value < LARGEST:
            raise ValueError(f"{self.where}: {name} must be a finite number, was {_short(value)}")
        if not value > above or value < least:
            bound = f"above {above:g}" if above > -inf else f"{least:g} or more"
            raise ValueError(f"{self.where}: {name} must be {bound}, was {value:.10g}")
        return float(value)

    def needed(self, name: str, *, above: float = -inf) -> float:
        """Return a finite number that has to be there."""
        if self.entry.get(name) is None:
            raise ValueError(f"{self.where}: {name} is missing")
        return self.number(name, 0.0, above=above)

    def text(self, name: str, default: str) -> str:
        """Return a text, or the default where none is given."""
        value = self.entry.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise ValueError(f"{self.where}: {name} must be a text, was {_short(value)}")
        return value

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        """Return one of the choices, or the default where none is given."""
        value = self.entry.get(name)
        if value is None:
            return default
        if value not in choices:
            raise ValueError(f"{self.where}: {name} is one of {', '.join(map(repr, choices))}, was {_short(value)}")
        return str(value)

    def items(self, name: str) -> Sequence[object] | None:
        """Return a list, None where none is given."""
        value = self.entry.get(name)
        if value is not None and not isinstance(value, list | tuple):
            raise ValueError(f"{self.where}: {name} must be a list, was {_short(value)}")
        return value


def contract_sheet(
    *,
    size: float,
    entry_price: float,
    venue: str = "generic",
    symbol: str = "",
    date: str | None = None,
    leverage: float = 1.0,
    margin_mode: str = "isolated",
    mark_price: float | None = None,
    last_price: float | None = None,
    price: float | None = None,
    balance: float | None = None,
    funding_rate: float | None = None,
    wanted_liquidation_price: float | None = None,
    **terms: Any,
) -> dict[str, Any]:
    """Return what one position is, costs and stands, before it is traded.

    Beside the figures of ``evaluate``: ``settlement`` (the currency of money) and ``quote`` (of prices), the ``tier_table`` in force,
    ``order_cost``, distances of the two prices from the mark in percent, fees, the break-even prices with the opening fee
    alone and with both, the ``ladder`` of isolated liquidation prices by leverage, and where asked for, None otherwise:
    profit and return on margin at ``price``, funding a day at ``funding_rate`` (as the account sees it), the margin to add
    for ``wanted_liquidation_price`` (negative: to spare), and the largest size that ``balance`` opens. In cross the balance
    is the wallet; an isolated position has the money its venue opens it with. ``flags`` say what stood in, and which of
    the venue's bounds the numbers break. ``terms`` are fields of ``evaluate``: contract_type, multiplier, isolated_margin,
    taker_fee, tiers, tier_mode, tier_unit, maintenance_basis, fee_in_margin.

    >>> sheet = contract_sheet(venue="binance", symbol="BTCUSDT", size=0.5, entry_price=60_000, leverage=20, price=61_200)
    >>> round(sheet["liquidation_price"], 2), sheet["at_price"]["unrealized_pnl"], sheet["at_price"]["return_on_margin"]
    (57228.92, 600.0, 0.4)
    """
    if margin_mode == "cross" and balance is None:
        raise ValueError("a position in cross margin stands on the whole wallet; give its balance, or take margin_mode 'isolated'")
    given = {"symbol": symbol, "size": size, "entry_price": entry_price, "mark_price": mark_price, "leverage": leverage}
    account = {"venue": venue, "date": date, "margin_mode": margin_mode, "wallet_balance": balance if margin_mode == "cross" else None}
    for name, value in terms.items():
        (account if name in ("maintenance_basis", "fee_in_margin") else given)[name] = value
    book = _Book(account | {"positions": [given]})
    if margin_mode == "isolated" and terms.get("isolated_margin") is None:
        book = _Book(account | {"positions": [given | {"isolated_margin": _opening_margin(book.lines[0].holding)}]})
    book.check_leverage()
    sheet = _Sheet(book, symbol, last_price)
    asked = {
        "balance": balance,
        "wanted_liquidation_price": wanted_liquidation_price,
        "at_price": None if price is None else sheet.at_price(_positive("price", price)),
        "funding_per_day": None if funding_rate is None else sheet.funding_per_day(_finite("funding_rate", funding_rate)),
        "margin_to_add": None if wanted_liquidation_price is None else sheet.margin_to_add(wanted_liquidation_price),
        "largest_size": None if balance is None else sheet.largest_size(_finite("balance", balance)),
    }
    figures = {"venue": venue, "date": date, "margin_mode": margin_mode, **given, **sheet.terms(), **sheet.standing(), **sheet.trading()}
    flags = [*book.flags, *sheet.notes(asked)]
    return {**figures, **asked, "ladder": sheet.ladder(), **({"flags": flags} if flags else {})}


def money_of(account: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the kind of an account's perpetuals, 'linear' or 'inverse', and the currency of its money as far as symbols tell.

    >>> money_of({"positions": [{"symbol": "BTCUSD_PERP", "size": 1, "entry_price": 60_000, "contract_type": "inverse"}]})
    ('inverse', 'BTC')
    """
    lines = _Book(account).lines
    is_inverse = any(line.holding.is_inverse for line in lines)
    return "inverse" if is_inverse else "linear", next((line.settlement for line in lines if line.settlement), None)


def share_left(*, risk: float, losses: int, is_compounded: bool) -> float:
    """Return the share of an account that is left after a run of losses of the same risk.

    1 - losses * risk where each risks a fraction of the first balance, at least 0; (1 - risk) ** losses where of what is left.

    >>> share_left(risk=0.1, losses=10, is_compounded=False), round(share_left(risk=0.1, losses=10, is_compounded=True), 4)
    (0.0, 0.3487)
    """
    return (1 - risk) ** losses if is_compounded else max(1 - losses * risk, 0.0)


@dataclass(frozen=True, slots=True)
class _Line:
    """One position as it was read: the contract it is in, its mark, and the money that is its own."""

    where: str
    contract: tuple[str, str]
    holding: Holding
    mark_price: float
    isolated_margin: float
    settlement: str | None

    @property
    def backing(self) -> float:
        """The position's own money, with the closing fee that is kept beside its margin."""
        return self.isolated_margin + self.holding.reserved_fee

    @property
    def profit(self) -> float:
        return self.holding.unrealized_pnl(self.mark_price) + 0.0  # a short's profit of nothing is -0.0

    @property
    def maintenance(self) -> float:
        return self.holding.maintenance_margin(self.mark_price)


class _Book:
    """An account as it was read, and the figures that follow from it."""

    def __init__(self, account: Mapping[str, Any]) -> None:
        fields = _Fields(account, "the account", ACCOUNT_FIELDS)
        if fields.entry.get("wallet_balance") is None and fields.entry.get("positions") is None:
            raise ValueError(
                "the account has neither wallet_balance nor positions; give one or both, each position with size and entry_price"
            )
        self.flags: list[str] = []
        self.day = fields.text("date", "") or None
        self.venue = _venue(fields.text("venue", "generic"), self.day)
        self.usual = next(iter(self.venue.contracts.values()), None)  # whose kind and tiers a contract not listed is like
        self.terms = _terms(fields, self.venue)
        self.margin_mode = fields.choice("margin_mode", MARGIN_MODES, "cross")
        self.wallet_balance = fields.number("wallet_balance", 0.0)
        entries = [_position_fields(number, entry) for number, entry in enumerate(fields.items("positions") or [], 1)]
        contracts = [self._contract(number, entry) for number, entry in enumerate(entries, 1)]
        marks = _marks(entries, contracts)
        self.lines = [self._line(entry, contract, marks) for entry, contract in zip(entries, contracts, strict=True)]
        shared_currency(
            ((line.where, line.holding.kind, line.settlement) for line in self.lines),
            whose="an account",
            must_say=False,
            remedy="give each its own account",
        )

    # -- reading -----------------------------------------------------------------------------------------------------

    def _contract(self, number: int, fields: "_Fields") -> tuple[str, str]:
        """Return what tells contracts apart; a position without a symbol is in one of its own."""
        symbol = fields.text("symbol", "")
        like = self._listed(symbol) or self.usual
        kind = fields.choice("contract_type", KINDS, like.kind if like else "linear")
        return venues.plain_symbol(symbol) or f"position {number}", kind

    def _listed(self, symbol: str) -> venues.VenueContract | None:
        """Return the venue's contract of a symbol, None where it lists none."""
        return None if self.venue.name == "generic" else self.venue.contracts.get(venues.plain_symbol(symbol))

    def _line(self, fields: "_Fields", contract: tuple[str, str], marks: Mapping[tuple[str, str], float]) -> _Line:
        symbol, kind = fields.text("symbol", ""), contract[1]
        listed = None if kind == "spot" else self._listed(symbol)
        size, entry_price = fields.needed("size"), fields.needed("entry_price", above=0)
        leverage = fields.number("leverage", 1.0, least=1)
        if not size:
            raise ValueError(f"{fields.where}: size must not be 0; leave out a position that is flat")
        if kind == "spot" and (size < 0 or leverage != 1):
            raise ValueError(
                f"{fields.where}: spot is bought and paid in full, with size > 0 and leverage 1; they were {size:g} and {leverage:g}"
            )
        holding = Holding(
            size=size,
            entry_price=entry_price,
            table=self._table(fields, listed, kind),
            kind=kind,
            multiplier=fields.number("multiplier", listed.multiplier if listed else 1.0, above=0),
            leverage=leverage,
            taker=self._taker(fields, listed, kind),
            is_isolated=fields.choice("margin_mode", MARGIN_MODES, self.margin_mode) == "isolated",
            terms=self.terms,
        )
        if contract not in marks:
            self.flags.append(f"{fields.where}: no mark_price, its entry price {entry_price:.10g} stands in")
        margin = _isolated_margin(fields, holding)
        return _Line(fields.where, contract, holding, marks.get(contract, entry_price), margin, settlement_currency(symbol, kind))

    def _table(self, fields: "_Fields", listed: venues.VenueContract | None, kind: str) -> TierTable | None:
        rows = fields.items("tiers")
        if kind == "spot":
            if rows:
                raise ValueError(f"{fields.where}: spot has no tiers, {len(rows)} were given; leave them out")
            return None
        like = listed or self.usual
        table = like.tiers.tables[-1] if like else TierTable.flat(GENERIC_RATE)
        mode, unit = fields.choice("tier_mode", MODES, table.mode), fields.choice("tier_unit", UNITS, table.unit)
        if rows is not None:
            return _own_table(rows, mode, unit, fields.where)
        if listed is None and self.venue.name != "generic":
            symbol = fields.text("symbol", "") or "a position without a symbol"
            known = ", ".join(sorted({contract.symbol for contract in self.venue.contracts.values()}))
            raise ValueError(
                f"{fields.where}: {self.venue.name} has no tiers for {symbol} here (known: {known}); give the position tiers of its own"
            )
        if listed is None:
            self.flags.append(f"{fields.where}: no tiers, a flat maintenance rate of {GENERIC_RATE:g} stands in")
        elif (mode, unit) != (table.mode, table.unit):
            own = f"those of {self.venue.name} are {table.mode} and count {table.unit}"
            raise ValueError(f"{fields.where}: tier_mode {mode!r} and tier_unit {unit!r} need tiers of your own, {own}")
        elif self.day is not None and _seconds(self.day) < listed.tiers.dates[0]:
            self.flags.append(f"{fields.where}: no tiers before {_day(listed.tiers.dates[0])} are known, those stand in on {self.day}")
        return table

    def _taker(self, fields: "_Fields", listed: venues.VenueContract | None, kind: str) -> float:
        """Return the taker fee: the one given, else the contract's or the venue's, which are no fees of spot."""
        if kind == "spot" and self.venue.name != "generic" and fields.entry.get("taker_fee") is None:
            self.flags.append(f"{fields.where}: no taker_fee, and {self.venue.name}'s is that of its perpetuals; 0 stands in for spot")
            return 0.0
        taker = fields.number("taker_fee", listed.taker if listed else self.venue.taker)
        if not -0.1 < taker < 0.1:
            raise ValueError(f"{fields.where}: taker_fee is a fraction of notional (0.0005 = 5 bp) between -0.1 and 0.1, was {taker:g}")
        return taker

    def check_leverage(self) -> None:
        """Raise ValueError where a position could not be opened at its leverage, or at its size (R4)."""
        for line in self.lines:
            table, measure = line.holding.table, line.holding.measure(line.holding.entry_price)
            if table is None:
                continue
            if measure > table.tiers[-1].cap:
                ends = f"the last tier ends at {table.tiers[-1].cap:.10g} ({table.unit})"
                raise ValueError(f"{line.where}: a size of {line.holding.size:.10g} measures {measure:.10g}, {ends}; lower it")
            if line.holding.leverage > table.max_leverage(measure):
                allowed = f"its tier allows {table.max_leverage(measure):g}x"
                raise ValueError(f"{line.where}: leverage {line.holding.leverage:g} is not possible at this size, {allowed}")

    # -- figures -----------------------------------------------------------------------------------------------------

    def position_figures(self, line: _Line) -> dict[str, Any]:
        """Return what is added to a position."""
        holding, mark_price = line.holding, line.mark_price
        liquidated, broke = self.prices(line)
        figures = {
            "notional": holding.notional(mark_price),
            "unrealized_pnl": line.profit,
            "initial_margin": holding.initial_margin(mark_price),
            "maintenance_margin": line.maintenance,
            "liquidation_price": liquidated,
            "bankruptcy_price": broke,
            "tier": tier_figures(holding, mark_price),
            "adl_score": self._adl_score(line),
        }
        _check_finite(figures, line.where)
        return figures

    def prices(self, line: _Line) -> tuple[float | None, float | None]:
        """Return liquidation and bankruptcy price: of the position alone, in cross of its contract with the others fixed."""
        if line.holding.is_isolated:
            own = [line.holding]
            liquidated = shared_liquidation_price(own, collateral=line.backing, mark_price=line.mark_price)
            return liquidated, shared_bankruptcy_price(own, collateral=line.isolated_margin)
        cross = [other for other in self.lines if not other.holding.is_isolated]
        if all(other.holding.kind == "spot" for other in cross):
            return None, None  # nothing is borrowed, nothing can be called
        moving = [other.holding for other in cross if other.contract == line.contract]
        fixed = [other for other in cross if other.contract != line.contract]
        profit = self.wallet_balance + sum(other.profit for other in fixed)
        collateral = profit - sum(other.maintenance for other in fixed)
        liquidated = shared_liquidation_price(moving, collateral=collateral, mark_price=line.mark_price)
        return liquidated, shared_bankruptcy_price(moving, collateral=profit)

    def _adl_score(self, line: _Line) -> float | None:
        """Return how far a position leads the queue for auto-deleveraging; None where the venue's formula is not sourced."""
        rule, holding = PROFILES[self.venue.profile].adl, line.holding
        if rule is None or holding.kind == "spot":
            return None
        cross = [other for other in self.lines if not other.holding.is_isolated]
        sharing, balance = ([line], line.backing) if holding.is_isolated else (cross, self.wallet_balance)
        return adl_score(
            rule,
            unrealized_pnl=line.profit,
            notional=holding.notional(line.mark_price),
            entry_notional=holding.notional(holding.entry_price),
            equity=balance + sum(other.profit for other in sharing),
            maintenance_margin=sum(other.maintenance for other in sharing),
        )

    def account_figures(self) -> dict[str, Any]:
        """Return what is added to the account."""
        cross = [line for line in self.lines if not line.holding.is_isolated]
        cross_equity = self.wallet_balance + sum(line.profit for line in cross)
        cross_initial = sum(line.holding.initial_margin(line.mark_price) for line in cross)
        equity = cross_equity + sum(line.backing + line.profit for line in self.lines if line.holding.is_isolated)
        maintenance = sum(line.maintenance for line in self.lines)
        initial = sum(line.holding.initial_margin(line.mark_price) for line in self.lines)
        worth = sum(line.holding.notional(line.holding.basis_price(line.mark_price)) for line in self.lines)
        ratios = margin_ratios(equity=equity, initial_margin=initial, maintenance_margin=maintenance, notional=worth)
        figures = {
            "equity": equity,
            "available_margin": cross_equity - cross_initial,
            "initial_margin": initial,
            "maintenance_margin": maintenance,
            "margin_ratio": ratios,
            "liquidatable": self._is_liquidatable(cross, cross_equity),
        }
        _check_finite(figures | ratios, "the account")
        return figures

    def _is_liquidatable(self, cross: Sequence[_Line], cross_equity: float) -> bool:
        """Return whether the cross wallet or an isolated one has failed (R1); one that holds nothing but spot cannot."""
        wallets = [(cross_equity, cross), *((line.backing + line.profit, [line]) for line in self.lines if line.holding.is_isolated)]
        profile = PROFILES[self.venue.profile]
        return any(
            profile.fails(Risk(equity, 0.0, sum(line.maintenance for line in held)))
            for equity, held in wallets
            if any(line.holding.kind != "spot" for line in held)
        )


class _Sheet:
    """What a sheet says of one position besides its figures in the account."""

    def __init__(self, book: _Book, symbol: str, last_price: float | None) -> None:
        (line,) = book.lines
        self.line = line
        self.holding = line.holding
        self.mark_price = line.mark_price
        self.last_price = line.mark_price if last_price is None else _positive("last_price", last_price)
        self.wallet = book.wallet_balance
        self.venue = book.venue
        self.book = book
        self.symbol = symbol
        self.listed = None if line.holding.kind == "spot" else book.venue.contracts.get(line.contract[0])

    def terms(self) -> dict[str, Any]:
        """Return the terms the figures rest on, those that were left out filled in."""
        holding, names = self.holding, self.spellings()
        settled = next((money for name in names if (money := settlement_currency(name, holding.kind))), None)
        quote = next((money for name in names if (money := settlement_currency(name.partition(":")[0], "linear"))), None)
        return {
            "contract_type": holding.kind,
            "multiplier": holding.multiplier,
            "settlement": settled,
            "quote": quote,
            "mark_price": self.mark_price,
            "isolated_margin": self.line.isolated_margin if holding.is_isolated else None,
            "taker_fee": holding.taker,
            "maintenance_basis": holding.terms.maintenance_basis,
            "fee_in_margin": holding.terms.fee_in_margin,
            "fee_in_initial": holding.terms.fee_in_initial and holding.terms.fee_in_margin != "none",
            "tier_table": self.tier_table(),
        }

    def spellings(self) -> list[str]:
        """Return every name of the contract, those that state the settlement currency first."""
        known = [name for name, contract in self.book.venue.contracts.items() if contract is self.listed]
        return sorted([self.symbol, *known], key=lambda name: ":" not in name)

    def tier_table(self) -> dict[str, Any] | None:
        """Return what the tiers are: from which day and source, where they are the venue's; None where there are none."""
        table, listed = self.holding.table, self.listed
        if table is None:
            return None
        is_listed = listed is not None and table is listed.tiers.tables[-1]
        day = _day(listed.tiers.dates[-1]) if is_listed and listed is not None else None
        source = listed.sources[f"tiers from {day}"] if day and listed is not None else None
        return {"valid_from": day, "tiers": len(table.tiers), "mode": table.mode, "unit": table.unit, "source": source}

    def standing(self) -> dict[str, Any]:
        """Return the figures of the position in its account, with the ratios of the money behind it."""
        figures, account = self.book.position_figures(self.line), self.book.account_figures()
        return {
            **figures,
            "equity": account["equity"],
            "margin_ratio": account["margin_ratio"],
            "liquidatable": account["liquidatable"],
            "liquidation_distance_percent": self.distance(figures["liquidation_price"]),
            "bankruptcy_distance_percent": self.distance(figures["bankruptcy_price"]),
        }

    def trading(self) -> dict[str, Any]:
        """Return what it costs to open the position and to close it."""
        return {
            "order_cost": self.order_cost(),
            "fees": self.fees(),
            "break_even_price": self.break_even(0.0),
            "break_even_price_closed": self.break_even(self.holding.taker),
        }

    def notes(self, asked: Mapping[str, Any]) -> list[str]:
        """Return one sentence for each bound that the numbers break: the venue's filters, and the position's own end."""
        notes = [] if self.listed is None else _broken_filters(self.holding, self.listed)
        funding, at_price = asked["funding_per_day"], asked["at_price"]
        known = self.listed.funding if self.listed else None
        if funding and known:
            low, high = (-inf if known.floor is None else known.floor), (inf if known.cap is None else known.cap)
            if not low <= funding["rate"] <= high:
                notes.append(f"{self.venue.name} bounds this funding rate: from {low:g} to {high:g}, was {funding['rate']:g}")
        added = asked["margin_to_add"]
        equity = self.book.account_figures()["equity"]
        if added is not None and added < 0 and equity + added < self.holding.initial_margin(self.mark_price):
            notes.append("taking that margin out leaves less than the initial margin, which venues do not allow")
        if at_price and at_price["is_past_liquidation"]:
            notes.append(f"at {at_price['price']:.10g} the position is gone: it is past the liquidation price")
        return notes

    def order_cost(self, size: float | None = None) -> dict[str, float]:
        """Return what the venue sets aside for the order that opens the position, part by part."""
        holding, entry_price = self.holding, self.holding.entry_price
        size = holding.size if size is None else size
        counts_loss = self.venue.name in COUNTS_OPEN_LOSS
        margin_price = entry_price
        if counts_loss and holding.kind == "linear":
            margin_price = assumed_price(size=size, price=entry_price, mark_price=self.mark_price, last_price=self.last_price)
        cost = order_cost(
            size=size,
            price=entry_price,
            leverage=holding.leverage,
            multiplier=holding.multiplier,
            kind=holding.kind,
            mark_price=self.mark_price if counts_loss else None,
            assumed_price=margin_price,
            reserved_rate=0.0 if counts_loss else holding.taker,
        )
        closing_fee = cost.closing_fee if self.venue.name in RESERVES_CLOSING_FEE else 0.0
        total = cost.initial_margin + cost.open_loss + cost.opening_fee + closing_fee
        # Adding 0 takes the sign off the zero that a loss of nothing is.
        parts = {"initial_margin": cost.initial_margin, "open_loss": cost.open_loss + 0.0, "opening_fee": cost.opening_fee}
        return {**parts, "closing_fee": closing_fee, "total": total}

    def distance(self, price: float | None) -> float | None:
        """Return how far a price is from the mark, in percent of it."""
        return None if price is None else 100 * abs(price - self.mark_price) / self.mark_price

    def fees(self) -> dict[str, float]:
        """Return the trading fees of opening, as taker and as maker; a rebate is negative."""
        worth = self.holding.notional(self.holding.entry_price)
        maker = self.listed.maker if self.listed else 0.0 if self.holding.kind == "spot" else self.venue.maker
        rates = {"taker_rate": self.holding.taker, "maker_rate": maker}
        return {"taker": self.holding.taker * worth, "maker": maker * worth, **rates}

    def break_even(self, closing_rate: float) -> float:
        """Return the price at which the profit has paid the opening fee and one of closing."""
        holding = self.holding
        return break_even_price(
            size=holding.size, entry_price=holding.entry_price, opening_rate=holding.taker, closing_rate=closing_rate, kind=holding.kind
        )

    def at_price(self, price: float) -> dict[str, Any]:
        """Return the profit at a price, before and after both taker fees, and as a return on the margin it was opened with."""
        holding = self.holding
        profit = holding.unrealized_pnl(price)
        fees = holding.taker * (holding.notional(holding.entry_price) + holding.notional(price))
        margin = holding.notional(holding.entry_price) / holding.leverage
        figures = {"unrealized_pnl": profit, "return_on_margin": profit / margin, "fees": fees, "net_pnl": profit - fees}
        return {"price": price, **figures, "is_past_liquidation": self.is_liquidatable_at(price)}

    def is_liquidatable_at(self, price: float) -> bool:
        """Return whether a mark of this price, or one on the way there, liquidates the position (R1)."""
        liquidated, _ = self.book.prices(self.line)
        return liquidated is not None and (price - liquidated) * self.holding.size <= 0

    def funding_per_day(self, rate: float) -> dict[str, float]:
        """Return what a day of stamps at one rate brings the account; a long pays a positive rate."""
        known = self.listed.funding if self.listed else None
        hours = known.interval_hours if known else FUNDING_HOURS
        side = 1 if self.holding.size > 0 else -1
        amount = 0.0 if self.holding.kind == "spot" else -side * self.holding.notional(self.mark_price) * rate * 24 / hours
        return {"rate": rate, "interval_hours": hours, "amount": amount}

    def margin_to_add(self, wanted: float) -> float:
        """Return the money that moves the liquidation price to a wanted one; negative where there is more than it takes."""
        price, holding = _positive("wanted_liquidation_price", wanted), self.holding
        if holding.kind == "spot":
            raise ValueError("spot is paid in full and has no liquidation price to move; leave out wanted_liquidation_price")
        if (self.mark_price - price) * holding.size <= 0:
            side, where = ("long", "below") if holding.size > 0 else ("short", "above")
            raise ValueError(
                f"a {side} is liquidated {where} its mark price {self.mark_price:.10g}, a liquidation price of {price:.10g} is not"
            )
        money = holding.maintenance_margin(price) - holding.unrealized_pnl(price)
        reached = shared_liquidation_price([holding], collateral=money, mark_price=self.mark_price)
        if reached is None or not isclose(reached, price, rel_tol=1e-9):
            raise ValueError(
                f"no margin puts the liquidation price at {price:.10g}: the requirement jumps at a tier's edge; try one beside it"
            )
        return money - (self.line.backing if holding.is_isolated else self.wallet)

    def largest_size(self, balance: float) -> float:
        """Return the largest size, with its sign, whose order a balance pays and whose tier allows the leverage."""
        holding = self.holding
        unit = 1.0 if holding.size > 0 else -1.0
        by_money = max(balance, 0.0) / self.order_cost(unit)["total"]
        limit = inf if holding.table is None else holding.table.max_notional(holding.leverage)
        by_tier = limit / (holding.measure(holding.entry_price) / abs(holding.size))
        contract = Contract(lot=self.listed.lot if self.listed else 0.0)
        size = contract.floor_size(min(by_money, by_tier))
        while size > 0 and (
            self.order_cost(size * unit)["total"] > balance or replace(holding, size=size * unit).measure(holding.entry_price) > limit
        ):
            size = contract.size_below(size)  # the division's last digit was rounded up
        return size * unit

    def ladder(self) -> list[dict[str, float | None]]:
        """Return the isolated liquidation price at each usual leverage that the size may have, the position's own among them."""
        table, holding = self.holding.table, self.holding
        if table is None:
            return []
        highest = table.max_leverage(holding.measure(holding.entry_price))
        rungs = []
        for leverage in sorted({*(rung for rung in LADDER if rung <= highest), holding.leverage}):
            step = replace(holding, leverage=float(leverage), is_isolated=True)
            margin = _opening_margin(step)
            price = shared_liquidation_price([step], collateral=margin + step.reserved_fee, mark_price=step.entry_price)
            rungs.append({"leverage": float(leverage), "margin": margin, "liquidation_price": price})
        return rungs


def _finite(name: str, value: float) -> float:
    return _Fields({name: value}, "the sheet", (name,)).needed(name)


def _positive(name: str, value: float) -> float:
    return _Fields({name: value}, "the sheet", (name,)).needed(name, above=0)


def _day(stamp: float) -> str:
    """Return the UTC day of a time in seconds."""
    return datetime.fromtimestamp(stamp, UTC).date().isoformat()


def _seconds(day: str) -> float:
    """Return a day or an instant that a venue was loaded for in seconds, UTC."""
    when = datetime.fromisoformat(day)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _broken_filters(holding: Holding, listed: venues.VenueContract) -> list[str]:
    """Return one sentence for each filter of a contract that an order of this size at its entry price breaks."""
    size, quoted = abs(holding.size), abs(holding.size) * holding.multiplier
    worth = quoted if holding.is_inverse else quoted * holding.entry_price
    broken = []
    if listed.lot and not isclose(size, Contract(lot=listed.lot).snap_size(size, largest=size), rel_tol=1e-9):
        broken.append(f"{listed.symbol} trades in lots of {listed.lot:.10g}, {size:.10g} is no whole number of them")
    if listed.min_size is not None and size < listed.min_size:
        broken.append(f"{listed.symbol} takes no order below {listed.min_size:.10g}, was {size:.10g}")
    if listed.max_size is not None and size > listed.max_size:
        broken.append(f"{listed.symbol} takes no market order above {listed.max_size:.10g}, {size:.10g} must be split")
    if listed.min_notional is not None and worth < listed.min_notional:
        broken.append(f"{listed.symbol} takes no order worth less than {listed.min_notional:.10g} in quote currency, was {worth:.10g}")
    return broken


def _position_fields(number: int, entry: object) -> _Fields:
    symbol = entry.get("symbol") if isinstance(entry, Mapping) else None
    named = f" ({symbol})" if isinstance(symbol, str) and symbol else ""
    return _Fields(entry, f"position {number}{named}", POSITION_FIELDS)


@lru_cache(maxsize=16)
def _venue(name: str, day: str | None) -> venues.Venue:
    """Return a venue as of a day; kept, for an account is evaluated at many prices and its venue is a file to read."""
    return venues.load(name, day)


def _terms(fields: _Fields, venue: venues.Venue) -> MarginTerms:
    """Return the venue's margin terms with what the account overrides."""
    terms = venue.margin_terms()
    fee = fields.choice("fee_in_margin", FEES_IN_MARGIN, terms.fee_in_margin)
    return terms.overridden(fields.choice("maintenance_basis", BASES, terms.maintenance_basis), fee)


def _marks(entries: Sequence[_Fields], contracts: Sequence[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """Return the mark price of each contract that was given one."""
    marks: dict[tuple[str, str], float] = {}
    for fields, contract in zip(entries, contracts, strict=True):
        if fields.entry.get("mark_price") is None:
            continue
        mark_price = fields.needed("mark_price", above=0)
        if marks.setdefault(contract, mark_price) != mark_price:
            other = f"another position in it has {marks[contract]:.10g}"
            raise ValueError(f"{fields.where}: a contract has one mark price, was {mark_price:.10g} where {other}")
    return marks


def _isolated_margin(fields: _Fields, holding: Holding) -> float:
    given = fields.entry.get("isolated_margin")
    margin = fields.number("isolated_margin", holding.notional(holding.entry_price) / holding.leverage, least=0)
    if holding.is_isolated:
        return margin
    if given is not None:
        raise ValueError(
            f"{fields.where}: isolated_margin is {margin:.10g} on a position in cross margin; set its margin_mode to 'isolated'"
        )
    return 0.0


def _opening_margin(holding: Holding) -> float:
    """Return the money that an isolated position is opened with, without the fee that ``_Line.backing`` adds to it."""
    return holding.opening_margin - holding.reserved_fee


def _own_table(rows: Sequence[object], mode: str, unit: str, where: str) -> TierTable:
    """Return the table that a position brings; ValueError names the tier, the reason and the numbers."""
    tiers: list[Tier] = []
    amounts: list[float | None] = []
    for number, row in enumerate(rows, 1):
        fields = _Fields(row, f"{where}, tier {number}", TIER_FIELDS)
        before = tiers[-1] if tiers else Tier(0.0, 0.0, 0.0, inf)
        rate = fields.needed("rate")
        highest = inf if len(rows) == 1 or not rate else min(1 / rate, before.max_leverage)
        tiers.append(Tier(fields.number("floor", before.cap), fields.number("cap", inf), rate, fields.number("max_leverage", highest)))
        amounts.append(None if fields.entry.get("amount") is None else fields.needed("amount"))
    try:
        return TierTable.supplied(tiers, amounts, mode=mode, unit=unit)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def tier_figures(holding: Holding, mark_price: float) -> dict[str, Any] | None:
    """Return the tier that a position's maintenance is taken by, with its number from 1; None where it has none."""
    number = holding.tier(mark_price)
    if number is None or holding.table is None:
        return None
    tier, bracket = holding.table.tiers[number - 1], holding.table.brackets[number - 1]
    figures = {"floor": tier.floor, "cap": tier.cap, "rate": tier.rate, "amount": bracket.amount, "max_leverage": tier.max_leverage}
    return {"number": number} | {name: None if figure == inf else figure for name, figure in figures.items()}


def _check_finite(figures: Mapping[str, Any], where: str) -> None:
    for name, figure in figures.items():
        if isinstance(figure, float) and not isfinite(figure):
            raise ValueError(f"{where}: {name} is too large or too small to compute with these numbers")


def _short(value: object) -> str:
    said = repr(value)
    return said if len(said) <= 60 else f"{said[:57]}..."
