"""plug(): a venue's rules for every data of a Cerebro, in one line."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from math import inf
from numbers import Real
from typing import Any, TypeVar

import backtrader as bt

from . import venues
from .broker import MarginBroker
from .cerebro import Cerebro
from .comminfo import PerpCommInfo, venue_terms
from .core.account import check_leverage
from .core.tiers import TierSchedule
from .feeds import PerpData

T = TypeVar("T")

START_CASH = 10_000.0

# What a script may have set on the present broker, besides money and fees, and what means the same under margin.
HOST_PARAMS = ("eosbar", "filler", "slip_perc", "slip_fixed", "slip_open", "slip_match", "slip_limit", "slip_out", "coc", "coo")
OWN_PARAMS = (
    *("position_mode", "intrabar", "on_liquidation", "refill", "top_up", "stamp", "unfunded", "filters", "check"),
    *("warning_rate", "call_rate", "warning_distance", "warning_atr", "warning_atr_period"),
)


def plug(
    cerebro: bt.Cerebro,
    venue: str | None = "binance",
    leverage: float | Mapping[str, float] = 1,
    margin_mode: str | Mapping[str, str] = "cross",
    cash: float | None = None,
    spot: Mapping[str, float] | None = None,
    fee: float | tuple[float, float] | None = None,
    **params: Any,
) -> MarginBroker:
    """Give a Cerebro a MarginBroker with the venue's rules for every data added so far, and return it.

    A data's name is its symbol. ``leverage`` and ``margin_mode`` are one value for all, or a mapping that names every
    symbol. ``venue=None`` is 'generic': a flat 0.5 % of maintenance and no fees. ``cash=None`` keeps what the present
    broker was given; at a venue of inverse contracts it is coins. ``spot`` names the datas that are the coin itself,
    bought in full, each with its trading fee, a fraction: ``{"BTCUSDT_SPOT": 0.001}``; a venue's own rates are its
    perpetuals', so there is no default, and ``leverage`` and ``margin_mode`` need not name these datas. ``fee`` is a fraction
    for maker and taker, or (maker, taker), in place of the venue's dated ones.

    ``params`` go to the MarginBroker: ``position_mode``, ``intrabar``, ``on_liquidation``, ``refill``, ``top_up``, ``stamp``,
    ``unfunded``, ``filters``, ``check``, the warnings' (``warning_rate``, ``call_rate``, ``warning_distance``, ``warning_atr``) and
    the host's own. What the present broker was given of these, slippage and cheat-on-open among them, is kept; its commissions
    are not, the venue's replace them.

    A stock Cerebro becomes a ``bt_margin.Cerebro``, whose loop takes less time; one of a class of its own stays as it is.

    ValueError where a data has no name, the venue does not know a symbol, a mapping leaves one out, or the leverage is
    above what the venue allowed when the data begins.
    """
    symbols = _symbols(cerebro)
    rules = venues.load("generic" if venue is None else venue)
    fees = _spot_fees(spot, symbols)
    leverages = by_symbol("leverage", leverage, symbols, optional=fees)
    modes = by_symbol("margin_mode", margin_mode, symbols, optional=fees)
    for symbol, mode in modes.items():
        if mode not in ("cross", "isolated"):
            raise ValueError(f"{symbol}: margin_mode is 'cross' or 'isolated', was {mode!r}")
    present = cerebro.broker
    kept = {name: getattr(present.p, name) for name in HOST_PARAMS + OWN_PARAMS if hasattr(present.p, name)}
    broker = MarginBroker(**{**kept, "cash": getattr(present.p, "cash", START_CASH) if cash is None else cash, **params})
    broker.venue = rules.name
    for symbol, datas in symbols.items():
        if symbol in fees:
            own = leverages.get(symbol, 1) if isinstance(leverage, Mapping) else 1
            terms = PerpCommInfo(kind="spot", leverage=own, margin_mode=modes.get(symbol), commission=fees[symbol], profile=rules.profile)
            broker.addcommissioninfo(terms, name=symbol)
            continue
        contract = rules.contract(symbol) if fee is None else rules.contract(symbol).with_fee(*_maker_and_taker(fee))
        opening = min(map(_first_opening, datas))
        check_leverage(symbol, _number(symbol, leverages[symbol]), contract.tiers.at(opening).brackets)
        own_terms = {"leverage": leverages[symbol], "margin_mode": modes[symbol], "tiers": _tiers(rules, symbol)}
        broker.addcommissioninfo(PerpCommInfo(**own_terms, **venue_terms(rules, contract, opening)), name=symbol)
    Cerebro.adopt(cerebro)
    cerebro.broker = broker
    return broker


def by_symbol(what: str, value: T | Mapping[str, T], symbols: Mapping[str, Any], *, optional: Collection[str] = ()) -> dict[str, T]:
    """Return a value for each symbol, from one for all or from a mapping that names exactly them, but for the optional."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(symbols, value)
    missing = [symbol for symbol in symbols if symbol not in value and symbol not in optional]
    unknown = [str(name) for name in value if name not in symbols]
    if missing:
        raise ValueError(f"{what} says nothing of {', '.join(missing)}; name every symbol, or give one {what} for all")
    if unknown:
        raise ValueError(f"{what} names {', '.join(unknown)}, but the datas are {', '.join(symbols)}; leave it out or add that data")
    return dict(value)


def _maker_and_taker(fee: Any) -> tuple[float, float]:
    pair = fee if isinstance(fee, tuple) else (fee, fee)
    if len(pair) != 2 or not all(isinstance(rate, Real) and not isinstance(rate, bool) for rate in pair):
        raise ValueError(f"fee is a fraction of notional such as 0.0005, or (maker, taker), was {fee!r}")
    return float(pair[0]), float(pair[1])


def _spot_fees(spot: Mapping[str, float] | None, symbols: Mapping[str, Any]) -> Mapping[str, float]:
    if spot is None:
        return {}
    if not isinstance(spot, Mapping):
        raise ValueError(f"spot maps the datas that are spot to their trading fee, such as {{'BTCUSDT_SPOT': 0.001}}, was {spot!r}")
    unknown = [str(symbol) for symbol in spot if symbol not in symbols]
    if unknown:
        raise ValueError(f"spot names {', '.join(unknown)}, but the datas are {', '.join(symbols)}; leave it out or add that data")
    return spot


def _symbols(cerebro: bt.Cerebro) -> dict[str, list[Any]]:
    """Return the datas by symbol; a resampled or replayed copy without a name belongs to its source's symbol."""
    if not cerebro.datas:
        raise ValueError("plug() reads the datas of the Cerebro and there are none yet; call adddata() before plug()")
    symbols: dict[str, list[Any]] = {}
    for number, data in enumerate(cerebro.datas, 1):
        source = data
        while not source._name and isinstance(source, bt.feed.DataClone):
            source = source.p.dataname
        if not source._name:
            raise ValueError(f"data number {number} has no name, and its name says which contract it is; use adddata(data, name='BTCUSDT')")
        data._name = source._name
        symbols.setdefault(data._name, []).append(data)
    return symbols


def _tiers(rules: venues.Venue, symbol: str) -> TierSchedule | None:
    """Return a listed contract's tiers; None lets the comminfo say by itself that the generic rate stands in (R28)."""
    is_listed = venues.plain_symbol(symbol) in rules.contracts
    return rules.contract(symbol).tiers if is_listed else None


def _number(symbol: str, leverage: Any) -> float:
    if not isinstance(leverage, Real) or isinstance(leverage, bool):
        raise ValueError(f"{symbol}: leverage is a number of 1 or more, was {leverage!r}")
    return float(leverage)


def _first_opening(data: Any) -> float:
    """Return the opening instant of a data's first bar, -infinity where it is not known before the run (R5)."""
    if isinstance(data, PerpData):
        return data.perp.stamps[0] - data.perp.bar_seconds
    day = data.p.fromdate
    if day is None:
        return -inf
    moment = day if isinstance(day, datetime) else datetime(day.year, day.month, day.day)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
