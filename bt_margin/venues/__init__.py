"""What venues publish: dated tier tables, fees and lots, each with its source. Facts, no behaviour.

A venue is one JSON file beside this one::

    source, retrieved           what the figures are and the day they were fetched
    profile                     how the venue liquidates: a name in ``core.liquidation``
    maker, taker                fees of a regular user, fractions of notional
    liquidation_fee             fraction of the notional that is liquidated
    sources                     for each figure, where it is from
    contracts                   by symbol: lot, tiers, sources and, where it differs, maker, taker, liquidation_fee
      tiers                     in order of time: valid_from, source, rows of [cap, rate, max_leverage]; a cap of null is none

Maintenance amounts are not stored: they follow from the rows.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import MappingProxyType

from ..core.contract import Contract
from ..core.liquidation import PROFILES
from ..core.tiers import GENERIC_RATE, TierSchedule, TierTable

FOLDER = Path(__file__).parent
VENUE_KEYS = frozenset({"source", "retrieved", "profile", "maker", "taker", "liquidation_fee", "sources", "contracts"})
CONTRACT_KEYS = frozenset({"lot", "tiers", "sources"})
OWN_RATES = frozenset({"maker", "taker", "liquidation_fee"})
TABLE_KEYS = frozenset({"valid_from", "source", "rows"})


@dataclass(frozen=True, slots=True)
class VenueContract:
    """One contract as its venue lists it; ``lot`` 0 means sizes are not rounded, rates are fractions of notional.

    ``sources`` says where each figure is from, by the name of the figure; those of a tier table by the day it is dated.
    """

    symbol: str
    lot: float
    multiplier: float
    tiers: TierSchedule
    maker: float
    taker: float
    liquidation_fee: float
    sources: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Venue:
    """A venue and its contracts; the rates here are those of a contract that names none of its own.

    ``retrieved`` is the day the figures were fetched, None where they are no venue's. ``any_tiers`` are the tiers of a
    symbol that is not listed, None where such a symbol is an error.
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

    def contract(self, symbol: str) -> VenueContract:
        """Return the contract of a symbol, spelled BTCUSDT, btcusdt, BTC/USDT or BTC/USDT:USDT.

        Raises ValueError for a symbol whose tiers are not known here.
        """
        found = self.contracts.get(plain_symbol(symbol))
        if found is not None:
            return found
        if self.any_tiers is None:
            raise ValueError(
                f"{self.name} has no tiers for {symbol} here (known: {', '.join(sorted(self.contracts))}); "
                "pass tiers=[(cap, rate, max_leverage), ...] or a flat rate such as tiers=0.01 to PerpCommInfo"
            )
        sources = MappingProxyType({"tiers": self.source})
        return VenueContract(symbol, 0.0, 1.0, self.any_tiers, self.maker, self.taker, self.liquidation_fee, sources)


GENERIC = Venue(
    name="generic",
    source=f"no venue: a flat maintenance rate of {GENERIC_RATE * 100:g} % and no fees",
    retrieved=None,
    maker=0.0,
    taker=0.0,
    liquidation_fee=0.0,
    profile="forfeit",
    contracts=MappingProxyType({}),
    any_tiers=TierSchedule.constant(TierTable.flat(GENERIC_RATE)),
)


def names() -> list[str]:
    """Return the venues that ``load`` knows."""
    return sorted([GENERIC.name, *(path.stem for path in FOLDER.glob("*.json"))])


def load(name: str) -> Venue:
    """Return a venue by name; ValueError for one that is not known."""
    if name not in names():
        raise ValueError(f"no venue is called {name!r}; known: {', '.join(names())}")
    return GENERIC if name == GENERIC.name else read(FOLDER / f"{name}.json")


def read(path: Path) -> Venue:
    """Return the venue a JSON file describes, named after the file; ValueError says where the file is wrong."""
    try:
        entry = _mapping(json.loads(path.read_text("utf-8")), path.name)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path.name} is not JSON: {error}") from None
    _check_keys(entry, VENUE_KEYS, frozenset(), path.name)
    profile = _text(entry["profile"], f"{path.name}, profile")
    if profile not in PROFILES:
        raise ValueError(f"{path.name}: no liquidation profile is called {profile!r}; known: {', '.join(PROFILES)}")
    contracts = _mapping(entry["contracts"], f"{path.name}, contracts")
    return Venue(
        name=path.stem,
        source=_text(entry["source"], f"{path.name}, source"),
        retrieved=_day(entry["retrieved"], f"{path.name}, retrieved"),
        maker=_number(entry["maker"], f"{path.name}, maker"),
        taker=_number(entry["taker"], f"{path.name}, taker"),
        liquidation_fee=_number(entry["liquidation_fee"], f"{path.name}, liquidation_fee"),
        profile=profile,
        contracts=MappingProxyType({symbol: _contract(symbol, contracts[symbol], entry, path.name) for symbol in contracts}),
    )


def plain_symbol(symbol: str) -> str:
    """Return a symbol as venues of linear contracts spell it: BTC/USDT:USDT, BTC/USDT and btcusdt are BTCUSDT.

    A settlement currency other than the quote names another contract and stays in the symbol.
    """
    pair, _, settlement = symbol.upper().partition(":")
    base, slash, quote = pair.partition("/")
    if settlement not in ("", quote):
        return symbol.upper()
    return base + quote if slash else pair


def _contract(symbol: str, value: object, venue: Mapping[str, object], file: str) -> VenueContract:
    where = f"{file}, {symbol}"
    if symbol != plain_symbol(symbol):
        raise ValueError(f"{where}: a contract is listed as {plain_symbol(symbol)}")
    entry = _mapping(value, where)
    _check_keys(entry, CONTRACT_KEYS, OWN_RATES, where)
    rates = {name: _number(entry.get(name, venue[name]), f"{where}, {name}") for name in OWN_RATES}
    sources = _texts(venue["sources"], f"{file}, sources") | _texts(entry["sources"], f"{where}, sources")
    tables: list[tuple[date, TierTable]] = []
    for number, row in enumerate(_sequence(entry["tiers"], f"{where}, tiers"), 1):
        day, table, source = _table(row, f"{where}, table {number}", where)
        tables.append((day, table))
        sources[f"tiers from {day}"] = source
    lot = _number(entry["lot"], f"{where}, lot")
    try:
        tiers = TierSchedule.from_days(tables)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    Contract(where, 1.0, lot, tiers=tiers, **rates)  # its checks of lot and rates are the file's; its errors start with where
    return VenueContract(symbol, lot, 1.0, tiers, sources=MappingProxyType(sources), **rates)


def _table(value: object, unnamed: str, where: str) -> tuple[date, TierTable, str]:
    entry = _mapping(value, unnamed)
    _check_keys(entry, TABLE_KEYS, frozenset(), unnamed)
    day = _day(entry["valid_from"], f"{unnamed}, valid_from")
    where = f"{where}, {day}"
    rows = list(enumerate(_sequence(entry["rows"], f"{where}, rows"), 1))
    try:
        table = TierTable.from_rows([_row(row, f"row {number}") for number, row in rows])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return day, table, _text(entry["source"], f"{where}, source")


def _check_keys(entry: Mapping[str, object], required: frozenset[str], optional: frozenset[str], where: str) -> None:
    missing, unknown = required - set(entry), set(entry) - required - optional
    if missing or unknown:
        wrong = [f"without {name}" for name in sorted(missing)] + [f"with unknown {name}" for name in sorted(unknown)]
        raise ValueError(f"{where} is {', '.join(wrong)}; expected {', '.join(sorted(required | optional))}")


def _mapping(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object, was {value!r}")
    return {str(key): item for key, item in value.items()}


def _sequence(value: object, where: str) -> Sequence[object]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where} must be a list with at least one item, was {value!r}")
    return list(value)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where} must be a text, was {value!r}")
    return value


def _texts(value: object, where: str) -> dict[str, str]:
    return {name: _text(text, f"{where}, {name}") for name, text in _mapping(value, where).items()}


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where} must be a number, was {value!r}")
    return float(value)


def _row(value: object, where: str) -> list[float | None]:
    return [None if cell is None else _number(cell, where) for cell in _sequence(value, where)]


def _day(value: object, where: str) -> date:
    try:
        return date.fromisoformat(_text(value, where))
    except ValueError as error:
        raise ValueError(f"{where} must be a day such as 2024-03-31, was {value!r}") from error
