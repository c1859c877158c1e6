"""PerpCommInfo: a perpetual contract, or the spot beside it, as Backtrader's commission scheme."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Any

import backtrader as bt

from .core.account import is_number
from .core.contract import GENERIC_TIERS, Contract, settlement_currency, shared_currency
from .core.orders import USUAL, OrderTerms
from .core.profiles import PROFILES, Profile
from .core.terms import ALWAYS_PLAIN, MarginTerms, Terms
from .core.tiers import TierSchedule, TierTable

if TYPE_CHECKING:
    from .venues import Venue, VenueContract

NUMBERS = ("commission", "maker", "mult", "lot", "liquidation_fee", "tick", "min_size", "min_notional")
NO_MONEY = 1e-8  # no venue moves less of any currency

Tiers = TierTable | TierSchedule | Sequence[Sequence[float | None]] | float | None


class PerpCommInfo(bt.CommInfoBase):
    """Terms of one perpetual contract, for ``broker.addcommissioninfo(PerpCommInfo(...), name="BTCUSDT")``.

    Params:

      - ``leverage`` (default: ``1.0``): what the trader chose, a number of 1 or more
      - ``commission`` (default: ``0.0``): taker fee, a fraction of notional (0.0005 = 5 bp)
      - ``maker`` (default: ``None``): maker fee, a fraction; negative for a rebate; ``None`` takes ``commission``
      - ``mult`` (default: ``1.0``): base units per contract; of an inverse contract its quote value
      - ``lot`` (default: ``0.0``): smallest step of a size; orders are cut down to it; 0 leaves sizes as they are
      - ``tick`` (default: ``0.0``): smallest step of a price; the broker's ``filters`` says what happens to one off it
      - ``min_size``, ``max_size`` (default: ``0.0``, ``inf``): the smallest order, the largest market order
      - ``min_notional`` (default: ``0.0``): the least that an order which opens something may be worth, in quote currency
      - ``filters_since`` (default: ``-inf``): from when on (seconds UTC) these four hold
      - ``tiers`` (default: ``None``): maintenance margin as a ``TierTable`` (which may be slab, or count base coins or
        contracts), a dated ``TierSchedule``, rows of ``(cap, rate, max_leverage)`` or one flat rate; ``0`` for no
        maintenance margin at all; ``None`` for a flat 0.5 %, which every result then states
      - ``margin_mode`` (default: ``None``): 'cross' or 'isolated'; ``None`` follows the broker
      - ``liquidation_fee`` (default: ``0.0125``): fraction of the liquidated notional, under the profile 'market'
      - ``profile`` (default: ``'market'``): how a failing wallet is liquidated, a ``Profile`` or the name of one: 'market' sells
        at the mark and charges the fee, 'forfeit' hands everything in the wallet to the insurance fund; 'binance', 'bybit',
        'okx', 'hyperliquid', 'dydx' and 'tradingview' do as they do. All contracts of a broker share one; spot's does not count
      - ``kind`` (default: ``'linear'``): 'inverse' for a contract settled in its base coin, 'spot' for the coin itself,
        paid in full: leverage 1, no shorts, no funding, no tiers
      - ``currency`` (default: ``None``): what its money is in; ``None`` reads it from the symbol where that tells. All
        contracts of a broker settle in one
      - ``maintenance_basis`` (default: ``None``): 'mark' or 'entry', whose notional maintenance is taken of
      - ``fee_in_margin`` (default: ``None``): the closing fee that is kept in margin: 'none', 'notional' or 'bankruptcy'
      - ``margin_terms`` (default: ``None``): the two as a ``MarginTerms``, or a venue's dated ``terms``; the two above
        override them, and without any they are 'mark' and 'none'

      - ``dated_fees`` (default: ``()``): (start in seconds UTC, maker, taker) in rising order; from its start on each takes
        the place of ``maker`` and ``commission``
      - ``funding_debit`` (default: ``'position'``): what pays a funding fee: 'position', its wallet; 'free_first', for an
        isolated position the available balance, then its wallet (Bybit); 'capped', the wallet, but never so much that
        funding alone liquidates (OKX)
      - ``funding_price`` (default: ``'mark'``): the price that the venue pays funding by, 'mark' or 'oracle'; where the
        schedule has no prices the mark stands in, and in place of an oracle's every result says so
      - ``order_terms`` (default: ``OrderTerms()``): what resting orders set aside, of both sides of a contract the larger

    Of inverse contracts all money (cash, value, targets, fees, profit) is coin, and ``position.price`` the harmonic mean
    of the entries. Backtrader's ``Trade`` averages entries plainly, so after an addition at another price its ``price`` and
    ``pnl`` are not exact: read ``order.executed.pnl``, the journal, or a Result's ``fills`` and ``trades``.
    """

    params = (
        ("leverage", 1.0),
        ("commission", 0.0),
        ("maker", None),
        ("mult", 1.0),
        ("lot", 0.0),
        ("tiers", None),
        ("margin_mode", None),
        ("liquidation_fee", 0.0125),
        ("profile", "market"),
        ("kind", "linear"),
        ("currency", None),
        ("maintenance_basis", None),
        ("fee_in_margin", None),
        ("margin_terms", None),
        ("dated_fees", ()),
        ("funding_debit", "position"),
        ("funding_price", "mark"),
        ("tick", 0.0),
        ("min_size", 0.0),
        ("max_size", inf),
        ("min_notional", 0.0),
        ("filters_since", -inf),
        ("order_terms", USUAL),
        ("commtype", bt.CommInfoBase.COMM_PERC),
        ("percabs", True),
        ("stocklike", False),
    )

    def __init__(self):
        super().__init__()
        if not isinstance(self.p.profile, Profile) and self.p.profile not in PROFILES:
            raise ValueError(f"profile is a Profile or one of {', '.join(map(repr, sorted(PROFILES)))}, was {self.p.profile!r}")
        self.profile = self.p.profile if isinstance(self.p.profile, Profile) else PROFILES[self.p.profile]
        if self.p.margin_mode not in (None, "cross", "isolated"):
            raise ValueError(f"margin_mode is 'cross', 'isolated' or None (the broker's), was {self.p.margin_mode!r}")
        if not is_number(self.p.leverage) or self.p.leverage < 1:
            raise ValueError(f"leverage is a finite number of 1 or more, was {self.p.leverage!r}")
        for name in NUMBERS:
            value = getattr(self.p, name)
            if not is_number(value) and (name, value) != ("maker", None):
                raise ValueError(f"{name} is a finite number, was {value!r}")
        if not isinstance(self.p.order_terms, OrderTerms):
            raise ValueError(f"order_terms is an OrderTerms, was {self.p.order_terms!r}")
        if isinstance(self.p.max_size, bool) or not isinstance(self.p.max_size, int | float):
            raise ValueError(f"max_size is a number, or inf for none, was {self.p.max_size!r}")
        if not (self.p.currency is None or isinstance(self.p.currency, str)):
            raise ValueError(f"currency is a name such as 'USDT', or None to read it from the symbol, was {self.p.currency!r}")
        self.schedule = tier_schedule(self.p.tiers)
        self.terms = self.contract("")
        self.rules = self._rules()
        if self.p.kind == "spot" and self.p.leverage != 1:
            raise ValueError(f"spot is paid in full, its leverage is 1, was {self.p.leverage:g}; leave it out")

    def contract(self, symbol: str) -> Contract:
        """Return the terms as a Contract of that symbol."""
        maker = self.p.commission if self.p.maker is None else self.p.maker
        return Contract(
            symbol=symbol,
            multiplier=self.p.mult,
            lot=self.p.lot,
            maker=maker,
            taker=self.p.commission,
            liquidation_fee=self.p.liquidation_fee,
            tiers=self.schedule,
            kind=self.p.kind,
            dated_fees=tuple(self.p.dated_fees),
            funding_debit=self.p.funding_debit,
            funding_price=self.p.funding_price,
            tick=self.p.tick,
            min_size=self.p.min_size,
            max_size=self.p.max_size,
            min_notional=self.p.min_notional,
            filters_since=self.p.filters_since,
        )

    def _rules(self) -> Terms:
        given = self.p.margin_terms
        terms = ALWAYS_PLAIN if given is None else ((-inf, given),) if isinstance(given, MarginTerms) else given
        try:
            starts = [float(start) for start, known in terms if isinstance(known, MarginTerms)]
        except (TypeError, ValueError):
            starts = []
        if not starts or len(starts) < len(terms) or starts != sorted(set(starts)):
            raise ValueError(f"margin_terms is a MarginTerms, or (seconds UTC, MarginTerms) pairs in rising order, was {given!r}")
        return tuple((start, known.overridden(self.p.maintenance_basis, self.p.fee_in_margin)) for start, known in terms)

    def settlement(self, symbol: str) -> str | None:
        """Return the currency of the contract's money under a symbol, None where neither says."""
        return self.p.currency or settlement_currency(symbol, self.p.kind)

    @property
    def is_generic(self) -> bool:
        """Whether the flat 0.5 % stands in for tiers that were not given (R28)."""
        return self.p.tiers is None and self.p.kind != "spot"

    def get_margin(self, price):
        """Return the initial margin of one contract at a price, without the closing fee that some terms keep besides."""
        return self.terms.notional(1.0, price) / self.p.leverage

    def getsize(self, price, cash):
        """Return the size whose notional is ``cash``, in whole lots: the inverse of ``broker.getvalue([data])``.

        0 of less than NO_MONEY, so that a target of an account without money orders nothing.
        """
        if abs(cash) < NO_MONEY:
            return 0.0
        return self.terms.floor_size(cash / self.terms.notional(1.0, price))

    def getoperationcost(self, size, price):
        """Return the initial margin of a size at a price."""
        return abs(size) * self.get_margin(price)

    def getvaluesize(self, size, price):
        """Return the signed notional of a size at a price."""
        return self.terms.notional(size, price) * (1 if size > 0 else -1) if size else 0.0

    def getvalue(self, position, price):
        """Return the signed notional of a position at a price."""
        return self.getvaluesize(position.size, price)

    def profitandloss(self, size, price, newprice):
        """Return the profit of a size between two prices."""
        return self.terms.unrealized_pnl(size=size, entry_price=price, mark_price=newprice)

    def _getcommission(self, size, price, pseudoexec):
        return self.terms.fee(size, price, maker=False)

    def cashadjust(self, size, price, newprice):
        """Return 0: the account books profit itself, nothing is moved bar by bar."""
        return 0.0

    def get_credit_interest(self, data, pos, dt):
        """Return 0: funding is paid by settlement stamps, not by days."""
        return 0.0


def tier_schedule(tiers: Tiers) -> TierSchedule:
    """Return tiers in any accepted form as a dated schedule."""
    if isinstance(tiers, TierSchedule):
        return tiers
    if isinstance(tiers, TierTable):
        return TierSchedule.constant(tiers)
    if tiers is None:
        return GENERIC_TIERS
    if isinstance(tiers, (int, float)):
        return TierSchedule.constant(TierTable.flat(tiers))
    return TierSchedule.constant(TierTable.from_rows(tiers))


def venue_terms(rules: "Venue", contract: "VenueContract", opening: float) -> dict[str, Any]:
    """Return the params of a PerpCommInfo that a venue says of a contract whose data begins at a time."""
    (maker, taker), funding = contract.fees_at(opening), contract.funding
    return {
        "commission": taker,
        "maker": maker,
        "dated_fees": tuple(dated for dated in contract.dated_fees if dated[0] > opening),
        "mult": contract.multiplier,
        "lot": contract.lot,
        "liquidation_fee": contract.liquidation_fee,
        "profile": rules.profile,
        "kind": contract.kind,
        "currency": settlement_currency(contract.symbol, contract.kind),
        "margin_terms": rules.terms,
        "funding_debit": funding.debit if funding else "position",
        "funding_price": funding.price if funding else "mark",
        "order_terms": rules.orders,
        "tick": contract.tick or 0.0,
        "min_size": contract.min_size or 0.0,
        "max_size": contract.max_size or inf,
        "min_notional": contract.min_notional or 0.0,
        "filters_since": contract.filters_since,
    }


def utc(time: float) -> datetime:
    """Return an instant in seconds as an aware datetime."""
    return datetime.fromtimestamp(time, UTC)


def one_currency(contracts: Iterable[tuple[str, PerpCommInfo]]) -> str | None:
    """Return the currency that all contracts of a broker settle in, None where none of them says (R26)."""
    return shared_currency(
        ((symbol, comminfo.p.kind, comminfo.settlement(symbol)) for symbol, comminfo in contracts),
        whose="one broker",
        must_say=True,
        remedy="give each its own run, or say currency= in their PerpCommInfo",
    )
