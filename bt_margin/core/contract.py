"""What one contract is: its kind, its size, its fees, its tiers, and what a position in it is worth.

Three kinds. *Linear*: quoted and settled in the same money; a contract is ``multiplier`` base units. *Inverse*: quoted in
one money and settled in the base coin; a contract is ``multiplier`` units of quote money, and all money is coin.
*Spot*: the coin itself, worth what a linear contract is worth, but fully paid and without maintenance margin.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, floor, inf, isfinite, ulp

from .funding import DEBITS, PRICES
from .tiers import GENERIC_RATE, TierSchedule, TierTable

# Binary floats cannot hold most lots: 0.3 / 0.1 is 2.9999999999999996. A size this close to a whole number of lots is that number.
LOT_SLACK = 1e-9
# Of very many lots the quotient's own last digit is larger than that: a few of them.
LOT_ROUNDING = 1e-15
# Without a lot, a residue this small against the largest size held is a rounding left-over, not a position.
RESIDUE = 1e-9

KINDS = ("linear", "inverse", "spot")

GENERIC_TIERS = TierSchedule.constant(TierTable.flat(GENERIC_RATE))
NO_TIERS = TierSchedule.constant(TierTable.flat(0.0))

# Quote currencies that tell, in a symbol, which part of it is the quote; the others only behind the name of a coin.
QUOTES = ("FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USD")
OTHER_QUOTES = ("BTC", "ETH", "BNB", "EUR", "TRY")
# Coins that tell the quote from the coin where the two run together: BNBUSD is BNB in USD, BNBBUSD in BUSD. The largest, and
# those whose last letter is the first of BUSD or TUSD.
COIN_NAMES = """
BTC XBT ETH BNB SOL XRP DOGE ADA TRX AVAX LINK LTC BCH XLM XMR ETC EOS UNI AAVE ATOM NEAR FIL ALGO MATIC POL SUI TON OP PEPE
INJ SEI TIA WLD LDO MKR CRV ICP HBAR VET SAND MANA AXS FTM EGLD THETA XTZ NEO DASH ZEC USDT USDC FDUSD
ARB SHIB 1000SHIB KSHIB TRB CKB DGB BGB DOT APT NOT BAT GMT GRT QNT LPT ANT HOT MNT WBT FTT ACT PNUT
"""
COINS = frozenset(COIN_NAMES.split())
SAME_COIN = {"XBT": "BTC"}


@dataclass(frozen=True, slots=True)
class Contract:
    """Terms of one contract.

    ``multiplier`` base units per contract, of an inverse contract its quote value; ``lot`` smallest step of a size (0: any
    size); ``maker``, ``taker`` and ``liquidation_fee`` fractions of notional (a maker rebate is negative). Spot has no tiers.

    ``tick`` smallest step of a price; orders smaller than ``min_size`` or, unless they only close, worth less than
    ``min_notional`` (quote currency) are not taken, nor market orders above ``max_size``; all four from ``filters_since`` on
    (seconds UTC).

    ``dated_fees`` are (start in seconds UTC, maker, taker) in rising order, which take the place of ``maker`` and ``taker``
    from their start on; see ``at``. ``funding_debit`` says what pays a funding fee: the 'position' by its wallet; for
    an isolated one the available balance first, 'free_first'; or the wallet, but never so much that funding alone
    liquidates, 'capped'. ``funding_price`` is the price it is paid by, 'mark' or 'oracle'.
    """

    symbol: str = ""
    multiplier: float = 1.0
    lot: float = 0.0
    maker: float = 0.0
    taker: float = 0.0
    liquidation_fee: float = 0.0
    tiers: TierSchedule = GENERIC_TIERS
    kind: str = "linear"
    dated_fees: tuple[tuple[float, float, float], ...] = ()
    funding_debit: str = "position"
    funding_price: str = "mark"
    tick: float = 0.0
    min_size: float = 0.0
    max_size: float = inf
    min_notional: float = 0.0
    filters_since: float = -inf

    def __post_init__(self) -> None:
        name = self.symbol or "contract"
        check_kind(name, self.kind)
        if not (isfinite(self.multiplier) and self.multiplier > 0):
            raise ValueError(f"{name}: the multiplier is a positive number of base units per contract, was {self.multiplier}")
        if not (isfinite(self.lot) and self.lot >= 0):
            raise ValueError(f"{name}: the lot is a positive size, or 0 for any size, was {self.lot}")
        for what, figure in (("tick", self.tick), ("smallest size", self.min_size), ("smallest notional", self.min_notional)):
            if not (isfinite(figure) and figure >= 0):
                raise ValueError(f"{name}: the {what} is a number of 0 or more, was {figure}")
        if not self.max_size > self.min_size:
            raise ValueError(f"{name}: the largest market order is above the smallest of {self.min_size:g}, was {self.max_size}")
        rates = [(fee, getattr(self, fee)) for fee in ("maker", "taker", "liquidation_fee")]
        for fee, rate in [*rates, *((fee, dated[place]) for dated in self.dated_fees for place, fee in ((1, "maker"), (2, "taker")))]:
            if not (isfinite(rate) and -0.1 < rate < 0.1):
                raise ValueError(f"{name}: {fee} is a fraction of notional (0.0005 = 5 bp), was {rate}; 10 % and more is refused as a slip")
        if any(later[0] <= earlier[0] for earlier, later in pairwise(self.dated_fees)):
            raise ValueError(f"{name}: the dates of fees must rise")
        for what, value, known in (
            ("a funding fee is taken by", self.funding_debit, DEBITS),
            ("funding is paid by the price of", self.funding_price, PRICES),
        ):
            if value not in known:
                raise ValueError(f"{name}: {what} {', '.join(map(repr, known))}, was {value!r}")
        if self.liquidation_fee < 0:
            raise ValueError(f"{name}: a liquidation fee costs, it is 0 or more, was {self.liquidation_fee}")
        if self.kind == "spot":
            if self.tiers is not GENERIC_TIERS and any(tier.rate for table in self.tiers.tables for tier in table.tiers):
                raise ValueError(f"{name}: spot is paid in full and has no tiers; leave them out")
            object.__setattr__(self, "tiers", NO_TIERS)

    def at(self, time: float) -> "Contract":
        """Return the contract with the fees of a time (seconds, UTC); before the first date its own are in force.

        >>> contract = Contract(maker=0.0002, taker=0.0004, dated_fees=((100.0, 0.0002, 0.0005),))
        >>> contract.at(99).taker, contract.at(100).taker
        (0.0004, 0.0005)
        """
        known = [dated for dated in self.dated_fees if dated[0] <= time]
        return replace(self, maker=known[-1][1], taker=known[-1][2]) if known else self

    @property
    def is_plain(self) -> bool:
        """Whether profit is ``units * (mark - entry)`` and maintenance, by every table, is marginal in the notional at mark."""
        return self.kind != "inverse" and all(table.mode == "marginal" and table.unit == "quote" for table in self.tiers.tables)

    def notional(self, size: float, price: float) -> float:
        """Return ``|size| * multiplier * price``; of an inverse contract ``|size| * multiplier / price``, in coin."""
        if self.kind == "inverse":
            return abs(size) * self.multiplier / price
        return abs(size) * self.multiplier * price

    def unrealized_pnl(self, *, size: float, entry_price: float, mark_price: float) -> float:
        """Return the profit between two prices, as ``unrealized_pnl`` does."""
        if self.kind == "inverse":
            return size * self.multiplier * (1 / entry_price - 1 / mark_price)
        return size * self.multiplier * (mark_price - entry_price)

    def price_earning(self, amount: float, *, size: float, price: float) -> float:
        """Return the price at which a size has earned this much more than at ``price`` (less, where it is negative).

        >>> Contract().price_earning(60, size=-2, price=100), Contract(kind="inverse").price_earning(1, size=200, price=100)
        (70.0, 200.0)
        """
        if self.kind == "inverse":
            return 1 / (1 / price - amount / (size * self.multiplier))
        return price + amount / (size * self.multiplier)

    def fee(self, size: float, price: float, *, maker: bool) -> float:
        """Return the trading fee of a fill, positive when it costs."""
        return self.notional(size, price) * (self.maker if maker else self.taker)

    def floor_size(self, size: float) -> float:
        """Return a size cut towards zero to whole lots, keeping its sign.

        >>> Contract(lot=0.1).floor_size(-0.37)
        -0.30000000000000004
        """
        if not self.lot:
            return size
        lots = abs(size) / self.lot
        whole = floor(lots + max(LOT_SLACK, lots * LOT_ROUNDING))
        return whole * self.lot if size > 0 else -(whole * self.lot)

    def size_below(self, size: float, *, beside: float = 0.0) -> float:
        """Return the next smaller size (>= 0): a lot less; without a lot, less by the last digit of the sum with ``beside``.

        >>> Contract(lot=0.5).size_below(2), Contract(lot=0.5).size_below(0.5)
        (1.5, 0.0)
        """
        if self.lot:
            return max(ceil(size / self.lot - max(LOT_SLACK, size / self.lot * LOT_ROUNDING)) - 1, 0) * self.lot
        return max(size - ulp(size + abs(beside)), 0.0)

    def largest_size(self, most: float, fits: Callable[[float], bool], *, beside: float = 0.0) -> float:
        """Return the largest size (>= 0, whole lots) up to ``most`` that fits, where all smaller ones do.

        >>> Contract(lot=0.5).largest_size(9.9, lambda size: size <= 3.2)
        3.0
        """
        top = max(self.floor_size(most), 0.0)
        for _ in range(3):  # mostly it is the bound, or the last digit of the division behind it was rounded up
            if top == 0.0 or fits(top):
                return top
            top = self.size_below(top, beside=beside)
        low, high = 0, ceil(top / self.lot - LOT_SLACK) + 1 if self.lot else 0
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle * self.lot) else (low, middle)
        return low * self.lot if self.lot else _largest_number(top, fits)

    def takes(self, size: float, price: float, *, time: float) -> bool:
        """Return whether an opening order of a size (>= 0) is one that the venue takes at a time (seconds, UTC)."""
        if time < self.filters_since or not size:
            return size > 0
        return size >= self.min_size * (1 - LOT_SLACK) and self.quote_value(size, price) >= self.min_notional * (1 - LOT_SLACK)

    def quote_value(self, size: float, price: float) -> float:
        """Return what a size is worth in quote money, which an inverse contract's multiplier is in."""
        return abs(size) * self.multiplier * (1.0 if self.kind == "inverse" else price)

    def snap_size(self, size: float, *, largest: float) -> float:
        """Return a held size on its lot grid, 0 where only a residue of ``largest`` is left."""
        if self.lot:
            return round(size / self.lot) * self.lot
        return 0.0 if abs(size) < RESIDUE * largest else size


def _largest_number(most: float, fits: Callable[[float], bool]) -> float:
    """Return the largest number up to ``most``, which does not fit, that does; of 12 digits where it is but a digit short of them."""
    low, high = 0.0, most
    while low < (middle := (low + high) / 2) < high and high - low > ulp(high):
        low, high = (middle, high) if fits(middle) else (low, middle)
    even = float(f"{low:.12g}")
    return even if even > low and fits(even) else low


def check_kind(name: str, kind: str) -> None:
    """Raise ValueError for a kind of contract that is not known."""
    if kind not in KINDS:
        raise ValueError(f"{name}: a contract is 'linear', 'inverse' or 'spot', was {kind!r}")


def notional(*, size: float, price: float, multiplier: float = 1.0, kind: str = "linear") -> float:
    """Return what a size is worth at a price: ``|size| * multiplier * price``, inverse ``|size| * multiplier / price`` in coin.

    >>> notional(size=-2, price=30_000), notional(size=600, price=30_000, multiplier=100, kind="inverse")
    (60000.0, 2.0)
    """
    gross = abs(size) * multiplier
    return gross / price if kind == "inverse" else float(gross * price)


def unrealized_pnl(*, size: float, entry_price: float, mark_price: float, multiplier: float = 1.0, kind: str = "linear") -> float:
    """Return the profit of a size between two prices.

    size * multiplier * (mark_price - entry_price); inverse size * multiplier * (1 / entry_price - 1 / mark_price), in coin.

    >>> unrealized_pnl(size=-60_000, entry_price=30_000, mark_price=20_000, kind="inverse")       # 3 coins buy back 2
    1.0
    """
    if kind == "inverse":
        return size * multiplier * (1 / entry_price - 1 / mark_price)
    return size * multiplier * (mark_price - entry_price)


def initial_margin(*, notional: float, leverage: float) -> float:
    """Return ``notional / leverage``."""
    return notional / leverage


def average_entry(*, size: float, entry_price: float, added: float, price: float, kind: str = "linear") -> float:
    """Return the entry price after adding to a position on its own side.

    The size-weighted mean; of an inverse contract the harmonic one, which alone leaves the profit in coin as it was.

    >>> average_entry(size=100, entry_price=20, added=50, price=40, kind="inverse")      # 150 / (100/20 + 50/40)
    24.0
    """
    if kind == "inverse":
        return (size + added) / (size / entry_price + added / price) if size else price
    return (size * entry_price + added * price) / (size + added)


def break_even_price(*, size: float, entry_price: float, opening_rate: float, closing_rate: float = 0.0, kind: str = "linear") -> float:
    """Return the price at which a position's profit has paid its fees.

    entry_price * (1 + side * opening_rate) / (1 - side * closing_rate), inverse with the rates in each other's place.
    Venues show it with the fee already paid alone (Binance, recorded account answers of 2024-07-28, retrieved
    2026-11-21); a closing rate adds the fee that is still to come.

    >>> round(break_even_price(size=0.009, entry_price=67_445.9, opening_rate=0.0005), 5)
    67479.62295
    """
    side = 1 if size > 0 else -1
    above, below = (closing_rate, opening_rate) if kind == "inverse" else (opening_rate, closing_rate)
    return entry_price * (1 + side * above) / (1 - side * below)


def settlement_currency(symbol: str, kind: str = "linear") -> str | None:
    """Return the currency that a contract's money is in: the quote, of an inverse contract the base; None where a symbol does not tell.

    >>> settlement_currency("BTC/USD:BTC", "inverse"), settlement_currency("ETHUSD_PERP", "inverse"), settlement_currency("BTC-USDT-SWAP")
    ('BTC', 'ETH', 'USDT')
    >>> settlement_currency("ETH_USDT"), settlement_currency("ETH/EUR"), settlement_currency("BTC")
    ('USDT', 'EUR', None)
    >>> settlement_currency("BNBUSD_PERP", "inverse"), settlement_currency("BNBUSD"), settlement_currency("ETHBTC")
    ('BNB', 'USD', 'BTC')
    """
    pair, _, stated = symbol.upper().partition(":")
    base, _, quote = pair.partition("/")
    if not quote:
        base, quote = _base_and_quote(pair, is_inverse=kind == "inverse")
    money = stated.partition("-")[0] or (base if kind == "inverse" and quote else quote)
    return SAME_COIN.get(money, money) or None


def _base_and_quote(pair: str, *, is_inverse: bool) -> tuple[str, str]:
    """Return the coin and the quote of a symbol without a slash, '' for a quote that it does not tell.

    What stands apart is taken at its word. Run together, an inverse contract is quoted in USD; another in what leaves the name
    of a coin, USD before those that end in it; else in the longest dollar that the symbol ends with.
    """
    base, *rest = pair.replace("-", "_").split("_")
    apart = next((part for part in rest if part in QUOTES), "")
    if apart and (rest[0] == apart or not is_inverse):
        return base, apart
    if rest and rest[0] in OTHER_QUOTES and base in COINS and not is_inverse:
        return base, rest[0]
    ends = [end for end in (("USD",) if is_inverse else QUOTES + OTHER_QUOTES) if base.endswith(end) and base != end]
    known = [end for end in ends if base.removesuffix(end) in COINS]
    quote = min(known, key=len) if known else next((end for end in ends if end in QUOTES), "")
    return base.removesuffix(quote), quote


def shared_currency(contracts: Iterable[tuple[str, str, str | None]], *, whose: str, must_say: bool, remedy: str) -> str | None:
    """Return the currency that contracts (name, kind, currency) of one account settle in, None where none of them says (R26).

    ValueError where they settle in different money, in the words of ``whose`` account it is and a ``remedy``. A contract
    that does not say is taken to share it, but inverse ones beside others are not: each coin is money of its own. Whether
    inverse ones beside each other ``must_say`` is the caller's.

    >>> terms = {"whose": "an account", "must_say": True, "remedy": "split it"}
    >>> shared_currency([("A", "linear", None), ("B", "spot", "USDT")], **terms)
    'USDT'
    """
    known: tuple[str, str, str | None] | None = None
    for contract in contracts:
        if known is None:
            known = contract
            continue
        kinds, currencies = {known[1], contract[1]}, (known[2], contract[2])
        is_unsure = "inverse" in kinds and (must_say or len(kinds) > 1)
        if currencies[0] != currencies[1] if all(currencies) else is_unsure:
            money = [f"{name} is {kind} and settles in {currency or 'a currency not named'}" for name, kind, currency in (known, contract)]
            raise ValueError(f"{whose} has one settlement currency: {money[0]}, {money[1]}; {remedy}")
        known = known if known[2] else contract
    return known[2] if known else None


def split_fill(held: float, size: float) -> tuple[float, float]:
    """Return how much of a fill closes and how much opens, both with the fill's sign.

    >>> split_fill(10, -14)          # the long is closed first, the rest opens a short
    (-10, -4)
    """
    if not held or (held > 0) == (size > 0):
        return 0.0, size
    if abs(size) <= abs(held):
        return size, 0.0
    return -held, size + held
