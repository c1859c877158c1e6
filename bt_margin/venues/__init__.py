"""What venues publish: dated tier tables, contract terms, fees and funding, each with its source. Facts, no behaviour.

A venue is one JSON file beside this one::

    source, retrieved           what the figures are and the day they were fetched
    profile                     how the venue liquidates: a name in ``core.profiles``
    maker, taker                fees of a regular user, fractions of notional
    liquidation_fee             fraction of the notional that is liquidated
    kind                        of its contracts: 'linear' (default) or 'inverse'
    tier_mode, tier_unit        of its tables: 'marginal' (default) or 'slab'; 'quote' (default), 'base' or 'contracts'
    margin_terms                in order of time: valid_from (null: from the start), maintenance_basis, fee_in_margin
    funding                     interval_hours and, where known, cap, floor (per interval) and price ('mark' or 'oracle')
    sources                     for each figure, where it is from
    not_sourced                 what the venue has and no source gives: left to the user, never guessed
    contracts                   by symbol: lot, tiers, sources and, where it differs or is known, maker, taker, liquidation_fee,
                                kind, multiplier, tick, min_size, max_size, min_notional, funding, aliases
      tiers                     in order of time: valid_from, source, rows of [cap, rate, max_leverage] and the step that goes on
                                after them; a cap of null is none

Maintenance amounts are not stored: they follow from the rows. Figures that a venue keeps elsewhere, or that changed since,
come in through ``readers``: files in, tables out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import cache
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..core.contract import Contract
from ..core.orders import USUAL, OrderTerms
from ..core.profiles import PROFILES
from ..core.terms import ALWAYS_PLAIN, MarginTerms, Terms, terms_at
from ..core.tiers import GENERIC_RATE, MODES, UNITS, TierSchedule, TierTable
from . import readers
from .facts import KINDS, ContractFacts, FundingFacts
from .fields import check_keys, day, flag, mapping, number, one_of, optional_number, parsed, sequence, text, texts

__all__ = ["ContractFacts", "FundingFacts", "Venue", "VenueContract", "load", "names", "plain_symbol", "read", "readers"]

FOLDER = Path(__file__).parent
VENUE_KEYS = frozenset({"source", "retrieved", "profile", "maker", "taker", "liquidation_fee", "sources", "contracts"})
VENUE_OPTIONS = frozenset({"kind", "tier_mode", "tier_unit", "margin_terms", "order_terms", "funding", "earlier_fees"})
VENUE_OPTIONS |= {"filters_since", "not_sourced"}
CONTRACT_KEYS = frozenset({"lot", "tiers", "sources"})
OWN_RATES = frozenset({"maker", "taker", "liquidation_fee"})
OWN_SIZES = ("tick", "min_size", "max_size", "min_notional")
CONTRACT_OPTIONS = OWN_RATES | set(OWN_SIZES) | {"kind", "multiplier", "funding", "aliases"}
TABLE_KEYS = frozenset({"valid_from", "source", "rows"})
ORDER_TERMS = frozenset({"netting", "margin_price", "counts_loss", "counts_fee"})
TERMS_KEYS = frozenset({"valid_from", "maintenance_basis", "fee_in_margin"})
FUNDING_OPTIONS = frozenset({"cap", "floor", "price", "debit"})
FEE_KEYS = frozenset({"before", "maker", "taker", "source"})

FUNDING_HOURS = 8.0

# The dates that may be said to mean a time: a day, an instant (naive ones are UTC), or either as a text.
Date = date | datetime | str


@dataclass(frozen=True, slots=True)
class VenueContract:
    """One contract as its venue lists it; ``lot`` 0 means sizes are not rounded, rates are fractions of notional.

    ``maker`` and ``taker`` are the latest; ``dated_fees``, where they have changed, all of them as (start in seconds UTC,
    maker, taker), the first from -infinity. ``multiplier`` is base units per contract, of an inverse contract its quote
    value. ``tick``, ``min_size``, ``max_size`` (the largest market order), ``min_notional`` and ``funding`` are None where no
    source gives them; from ``filters_since`` on (seconds, UTC) the first four are known to hold. ``sources`` says where each
    figure is from, by the name of the figure; those of a tier table by the day it is dated.
    """

    symbol: str
    lot: float
    multiplier: float
    tiers: TierSchedule
    maker: float
    taker: float
    liquidation_fee: float
    sources: Mapping[str, str]
    kind: str = "linear"
    tick: float | None = None
    min_size: float | None = None
    max_size: float | None = None
    min_notional: float | None = None
    funding: FundingFacts | None = None
    dated_fees: tuple[tuple[float, float, float], ...] = ()
    filters_since: float = -inf

    def fees_at(self, time: float) -> tuple[float, float]:
        """Return the maker and the taker fee of a time (seconds, UTC)."""
        known = [dated for dated in self.dated_fees if dated[0] <= time]
        return known[-1][1:] if known else (self.maker, self.taker)

    def with_fee(self, maker: float, taker: float) -> "VenueContract":
        """Return the contract with fees of one's own, whatever the date."""
        return replace(self, maker=maker, taker=taker, dated_fees=())


@dataclass(frozen=True, slots=True)
class Venue:
    """A venue and its contracts; the rates here are those of a contract that names none of its own.

    ``contracts`` holds a contract under each of its spellings. ``retrieved`` is the day the figures were fetched, None
    where they are no venue's. ``any_tiers`` are the tiers of a symbol that is not listed, None where such a symbol is an
    error. ``terms`` are the margin terms by the time they came into force, in order; ``orders`` what resting orders
    set aside. ``not_sourced`` names what the venue
    has and no source gives.
    """

    name: str
    source: str
    retrieved: date | None
    maker: float
    taker: float
    liquidation_fee: float
    profile: str
    contracts: Mapping[str, VenueContract]
    any_tiers: TierSchedule | None = None
    terms: Terms = ALWAYS_PLAIN
    orders: OrderTerms = USUAL
    sources: Mapping[str, str] = field(default_factory=dict)
    not_sourced: tuple[str, ...] = ()

    def contract(self, symbol: str) -> VenueContract:
        """Return the contract of a symbol: as the venue spells it, or BTCUSDT, btcusdt, BTC/USDT, BTC/USDT:USDT.

        Raises ValueError for a symbol whose tiers are not known here.
        """
        found = self.contracts.get(plain_symbol(symbol))
        if found is not None:
            return found
        if self.any_tiers is None:
            known = sorted({contract.symbol for contract in self.contracts.values()})
            raise ValueError(
                f"{self.name} has no tiers for {symbol} here (known: {', '.join(known)}); "
                "take venue 'generic' (a flat 0.5 %), or give PerpCommInfo tiers=[(cap, rate, max_leverage), ...] of its own"
            )
        sources = MappingProxyType({"tiers": self.source})
        return VenueContract(symbol, 0.0, 1.0, self.any_tiers, self.maker, self.taker, self.liquidation_fee, sources)

    def funding_hours(self, symbol: str) -> float:
        """Return the hours from one funding stamp of a contract to the next; 8 where no source says otherwise."""
        listed = self.contracts.get(plain_symbol(symbol))
        return listed.funding.interval_hours if listed is not None and listed.funding is not None else FUNDING_HOURS

    def margin_terms(self, time: float = inf) -> MarginTerms:
        """Return the margin terms in force at a time (seconds, UTC); before the first the first apply."""
        return terms_at(self.terms, time)


GENERIC = Venue(
    name="generic",
    source=f"no venue: a flat maintenance rate of {GENERIC_RATE * 100:g} % and no fees",
    retrieved=None,
    maker=0.0,
    taker=0.0,
    liquidation_fee=0.0,
    profile="generic",
    contracts=MappingProxyType({}),
    any_tiers=TierSchedule.constant(TierTable.flat(GENERIC_RATE)),
)


def names() -> list[str]:
    """Return the venues that ``load`` knows."""
    return sorted([GENERIC.name, *(path.stem for path in FOLDER.glob("*.json"))])


def load(name: str, date: Date | None = None) -> Venue:
    """Return a venue by name; ValueError for one that is not known.

    With a date the venue is the one of that day: tables and terms dated later are left out, and where all are, the first
    applies (R5); so are the fees, where it is known when they changed. Figures without a date (lots, filters) stay as they
    were fetched.

    >>> load("binance", "2024-05-01").contract("BTCUSDT").tiers.tables[-1].max_leverage(60_000)
    100.0
    """
    if name not in names():
        raise ValueError(f"no venue is called {name!r}; known: {', '.join(names())}")
    venue = GENERIC if name == GENERIC.name else _read_once(FOLDER / f"{name}.json")
    return venue if date is None else _known_by(venue, _instant(date))


@cache
def _read_once(path: Path) -> Venue:
    return read(path)


def read(path: Path) -> Venue:
    """Return the venue a JSON file describes, named after the file; ValueError says where the file is wrong."""
    entry = mapping(parsed(path)[0], path.name)
    check_keys(entry, VENUE_KEYS, VENUE_OPTIONS, path.name)
    profile = text(entry["profile"], f"{path.name}, profile")
    if profile not in PROFILES:
        raise ValueError(f"{path.name}: no liquidation profile is called {profile!r}; known: {', '.join(PROFILES)}")
    contracts = mapping(entry["contracts"], f"{path.name}, contracts")
    return Venue(
        name=path.stem,
        source=text(entry["source"], f"{path.name}, source"),
        retrieved=day(entry["retrieved"], f"{path.name}, retrieved"),
        maker=number(entry["maker"], f"{path.name}, maker"),
        taker=number(entry["taker"], f"{path.name}, taker"),
        liquidation_fee=number(entry["liquidation_fee"], f"{path.name}, liquidation_fee"),
        profile=profile,
        contracts=MappingProxyType(_contracts(contracts, entry, path.name)),
        terms=_terms(entry, path.name),
        orders=_orders(entry, path.name),
        sources=MappingProxyType(texts(entry["sources"], f"{path.name}, sources")),
        not_sourced=tuple(text(item, f"{path.name}, not_sourced") for item in _optional_list(entry, "not_sourced", path.name)),
    )


def _orders(entry: Mapping[str, object], file: str) -> OrderTerms:
    where = f"{file}, order_terms"
    given = mapping(entry.get("order_terms", {}), where)
    check_keys(given, frozenset(), ORDER_TERMS, where)
    words = {name: text(given.get(name, getattr(USUAL, name)), f"{where}, {name}") for name in ("netting", "margin_price")}
    flags = {name: flag(given.get(name, getattr(USUAL, name)), f"{where}, {name}") for name in ("counts_loss", "counts_fee")}
    try:
        return OrderTerms(words["netting"], words["margin_price"], flags["counts_loss"], flags["counts_fee"])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def plain_symbol(symbol: str) -> str:
    """Return a symbol as venues of linear contracts spell it: BTC/USDT:USDT, BTC/USDT and btcusdt are BTCUSDT.

    A settlement currency other than the quote names another contract and stays in the symbol.
    """
    pair, _, settlement = symbol.upper().partition(":")
    base, slash, quote = pair.partition("/")
    if settlement not in ("", quote):
        return symbol.upper()
    return base + quote if slash else pair


def _contracts(entries: Mapping[str, object], venue: Mapping[str, object], file: str) -> dict[str, VenueContract]:
    """Return the contracts of a file under every spelling they may be asked by."""
    found: dict[str, VenueContract] = {}
    for symbol, value in entries.items():
        entry = mapping(value, f"{file}, {symbol}")
        aliases = [text(alias, f"{file}, {symbol}, aliases") for alias in _optional_list(entry, "aliases", f"{file}, {symbol}")]
        for spelling in (symbol, *aliases):
            if spelling != plain_symbol(spelling):
                raise ValueError(f"{file}, {spelling}: a contract is listed as {plain_symbol(spelling)}")
            if spelling in found:
                raise ValueError(f"{file}, {symbol}: {spelling} is {found[spelling].symbol} already")
        if len({symbol, *aliases}) <= len(aliases):
            raise ValueError(f"{file}, {symbol} is spelled {aliases[-1]} twice")
        found |= dict.fromkeys((symbol, *aliases), _contract(symbol, entry, venue, file))
    return found


def _contract(symbol: str, entry: Mapping[str, object], venue: Mapping[str, object], file: str) -> VenueContract:
    where = f"{file}, {symbol}"
    check_keys(entry, CONTRACT_KEYS, CONTRACT_OPTIONS, where)
    rates: dict[str, Any] = {name: number(entry.get(name, venue[name]), f"{where}, {name}") for name in OWN_RATES}
    tick, smallest, largest, least = (optional_number(entry.get(name), f"{where}, {name}") for name in OWN_SIZES)
    sources = texts(venue["sources"], f"{file}, sources") | texts(entry["sources"], f"{where}, sources")
    mode = one_of(venue.get("tier_mode", "marginal"), MODES, f"{file}, tier_mode")
    unit = one_of(venue.get("tier_unit", "quote"), UNITS, f"{file}, tier_unit")
    tables: list[tuple[date, TierTable]] = []
    for place, row in enumerate(sequence(entry["tiers"], f"{where}, tiers"), 1):
        start, table, source = _table(row, f"{where}, table {place}", where, mode=mode, unit=unit)
        tables.append((start, table))
        sources[f"tiers from {start}"] = source
    kind = one_of(entry.get("kind", venue.get("kind", "linear")), KINDS, f"{where}, kind")
    lot, multiplier = number(entry["lot"], f"{where}, lot"), number(entry.get("multiplier", 1), f"{where}, multiplier")
    try:
        tiers = TierSchedule.from_days(tables)
        Contract(symbol, multiplier, lot, tiers=tiers, kind=kind, **rates)  # its checks are the file's
    except ValueError as error:
        raise ValueError(f"{where}: {str(error).removeprefix(f'{symbol}: ')}") from None
    funding = _funding(entry.get("funding", venue.get("funding")), f"{where}, funding")
    dated = () if {"maker", "taker"} & entry.keys() else _earlier_fees(venue, rates, sources, file)
    own = VenueContract(symbol, lot, multiplier, tiers, sources=MappingProxyType(sources), kind=kind, funding=funding, **rates)
    since = _instant(day(venue["filters_since"], f"{file}, filters_since")) if "filters_since" in venue else -inf
    own = replace(own, dated_fees=dated, tick=tick, min_size=smallest, max_size=largest, min_notional=least)
    return replace(own, filters_since=since)


def _table(value: object, unnamed: str, where: str, *, mode: str, unit: str) -> tuple[date, TierTable, str]:
    entry = mapping(value, unnamed)
    check_keys(entry, TABLE_KEYS, frozenset({"step"}), unnamed)
    start = day(entry["valid_from"], f"{unnamed}, valid_from")
    where = f"{where}, {start}"
    rows = list(enumerate(sequence(entry["rows"], f"{where}, rows"), 1))
    step = readers.tier_step(entry["step"], f"{where}, step") if "step" in entry else None
    try:
        table = TierTable.from_rows([_row(row, f"row {place}") for place, row in rows], mode=mode, unit=unit, step=step)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return start, table, text(entry["source"], f"{where}, source")


def _row(value: object, where: str) -> list[float | None]:
    return [optional_number(cell, where) for cell in sequence(value, where)]


def _terms(venue: Mapping[str, object], file: str) -> Terms:
    """Return the margin terms of a file with the times they start; without any the plain ones, always."""
    found: list[tuple[float, MarginTerms]] = []
    for place, value in enumerate(_optional_list(venue, "margin_terms", file), 1):
        where = f"{file}, margin_terms {place}"
        entry = mapping(value, where)
        check_keys(entry, TERMS_KEYS, frozenset({"fee_in_initial"}), where)
        start = -inf if entry["valid_from"] is None else _instant(day(entry["valid_from"], f"{where}, valid_from"))
        if found and start <= found[-1][0]:
            raise ValueError(f"{where}: the dates of margin terms must rise")
        basis, fee = (text(entry[name], f"{where}, {name}") for name in ("maintenance_basis", "fee_in_margin"))
        is_in_initial = flag(entry.get("fee_in_initial", True), f"{where}, fee_in_initial")
        try:
            found.append((start, MarginTerms(basis, fee, is_in_initial)))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    return tuple(found) or ALWAYS_PLAIN


def _earlier_fees(
    venue: Mapping[str, object], latest: Mapping[str, float], sources: dict[str, str], file: str
) -> tuple[tuple[float, float, float], ...]:
    """Return the fees of a file by the time they start, nothing where they never changed; tell the sources of the earlier ones."""
    found: list[tuple[float, float, float]] = []
    start = -inf
    for place, value in enumerate(_optional_list(venue, "earlier_fees", file), 1):
        where = f"{file}, earlier_fees {place}"
        entry = mapping(value, where)
        check_keys(entry, FEE_KEYS, frozenset(), where)
        before = day(entry["before"], f"{where}, before")
        found.append((start, number(entry["maker"], f"{where}, maker"), number(entry["taker"], f"{where}, taker")))
        if _instant(before) <= start:
            raise ValueError(f"{where}: the days before which earlier fees were in force must rise")
        start = _instant(before)
        sources[f"fees before {before}"] = text(entry["source"], f"{where}, source")
    return (*found, (start, latest["maker"], latest["taker"])) if found else ()


def _funding(value: object, where: str) -> FundingFacts | None:
    if value is None:
        return None
    entry = mapping(value, where)
    check_keys(entry, frozenset({"interval_hours"}), FUNDING_OPTIONS, where)
    cap, floor = (optional_number(entry.get(name), f"{where}, {name}") for name in ("cap", "floor"))
    interval = number(entry["interval_hours"], f"{where}, interval_hours")
    try:
        price, debit = (text(entry.get(name, usual), f"{where}, {name}") for name, usual in (("price", "mark"), ("debit", "position")))
        return FundingFacts(interval, cap, floor, price, debit)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _optional_list(entry: Mapping[str, object], name: str, where: str) -> list[object]:
    return list(sequence(entry[name], f"{where}, {name}")) if name in entry else []


def _known_by(venue: Venue, time: float) -> Venue:
    """Return a venue without what is dated after a time; of terms and of each contract's tables at least the first stays."""

    def cut_off(contract: VenueContract) -> VenueContract:
        maker, taker = contract.fees_at(time)
        dated = tuple(fees for fees in contract.dated_fees if fees[0] <= time)
        return replace(contract, tiers=contract.tiers.known_by(time), maker=maker, taker=taker, dated_fees=dated)

    cut = {id(contract): cut_off(contract) for contract in venue.contracts.values()}
    contracts = {spelling: cut[id(contract)] for spelling, contract in venue.contracts.items()}
    terms = tuple(item for item in venue.terms if item[0] <= time) or venue.terms[:1]
    return replace(venue, contracts=MappingProxyType(contracts), terms=terms)


def _instant(when: Date) -> float:
    """Return a date in seconds, UTC: a day is its beginning, a naive instant is UTC."""
    if isinstance(when, str):
        try:
            when = datetime.fromisoformat(when)
        except ValueError:
            raise ValueError(f"a date is a day such as 2024-05-01 or an instant such as 2024-05-01T08:00, was {when!r}") from None
    if not isinstance(when, datetime):
        when = datetime(when.year, when.month, when.day)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
