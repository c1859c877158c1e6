"""What a venue asks for a position: its margin terms, and the ratios that compare them with the money there is.

``MarginTerms`` are a venue's choices, ``Holding`` one position under them, without its mark price and without the money
behind it. All money is in the settlement currency: quote money of a linear contract, coin of an inverse one.
"""

from dataclasses import dataclass
from math import inf

from .contract import KINDS, check_kind, notional, unrealized_pnl
from .tiers import Bracket, TierTable

BASES = ("mark", "entry")
FEES_IN_MARGIN = ("none", "notional", "bankruptcy")
RATIOS = ("maintenance/equity", "equity/maintenance", "equity/notional", "equity/initial")


@dataclass(frozen=True, slots=True)
class MarginTerms:
    """How a venue reckons the margin of a position.

    ``maintenance_basis``: maintenance is taken of the notional at 'mark', or once and for all of the one at 'entry'.
    ``fee_in_margin``: the fee of closing the position that is kept in margin: 'none'; 'notional', the taker fee of the
    notional maintenance is taken of; 'bankruptcy', the taker fee at the nominal bankruptcy price. ``fee_in_initial``:
    whether that fee is kept in initial margin too.
    """

    maintenance_basis: str = "mark"
    fee_in_margin: str = "none"
    fee_in_initial: bool = True

    def __post_init__(self) -> None:
        if self.maintenance_basis not in BASES:
            raise ValueError(f"maintenance_basis is 'mark' or 'entry', was {self.maintenance_basis!r}")
        if self.fee_in_margin not in FEES_IN_MARGIN:
            raise ValueError(f"fee_in_margin is 'none', 'notional' or 'bankruptcy', was {self.fee_in_margin!r}")

    @property
    def is_plain(self) -> bool:
        """Whether maintenance is of the notional at mark and no fee is kept in margin."""
        return self.maintenance_basis == "mark" and self.fee_in_margin == "none"

    def overridden(self, maintenance_basis: str | None, fee_in_margin: str | None) -> "MarginTerms":
        """Return the terms with what is given put in place; another fee than the venue's is kept in initial margin too."""
        basis = self.maintenance_basis if maintenance_basis is None else maintenance_basis
        fee = self.fee_in_margin if fee_in_margin is None else fee_in_margin
        return MarginTerms(basis, fee, self.fee_in_initial or fee != self.fee_in_margin)

    def has_initial_at_entry(self, *, is_isolated: bool) -> bool:
        """Return whether initial margin is taken of the notional at entry rather than at mark.

        It is where maintenance is, and where a venue keeps a closing fee in margin: such venues fund an isolated
        position once, at its entry.
        Source: Bybit, "New Margin Calculation", in force from 2025-09-02; OKX, help on initial margin (copy at
        ukcamo.com/8077); a live Gate position, ccxt pull request 13130. All retrieved 2026-11-21.
        """
        return self.maintenance_basis == "entry" or (is_isolated and self.fee_in_margin != "none")


PLAIN = MarginTerms()

# Margin terms with the times (seconds, UTC) they came into force, in order.
Terms = tuple[tuple[float, MarginTerms], ...]

ALWAYS_PLAIN: Terms = ((-inf, PLAIN),)


def is_position(size: float, entry_price: float, kind: str, maintenance_basis: str = "mark") -> bool:
    """Return whether anything is held; ValueError for a kind, a basis or an entry price that no position has."""
    if kind not in KINDS or maintenance_basis not in BASES:
        check_kind("a position", kind)
        MarginTerms(maintenance_basis)
    if not size:
        return False
    if not 0 < entry_price < inf:
        raise ValueError(f"the entry_price of a position is a finite number above 0, was {entry_price}")
    return True


def terms_at(terms: Terms, time: float) -> MarginTerms:
    """Return the terms in force at a time; before the first the first apply."""
    return next((found for start, found in reversed(terms) if start <= time), terms[0][1])


@dataclass(frozen=True, slots=True)
class Holding:
    """One position and what its margin depends on, apart from the mark price and the money behind it.

    ``size`` signed contracts, not 0; ``table`` None where nothing has to be maintained; ``taker`` a fraction of notional;
    ``set_aside`` the closing fee that an isolated position has kept at bankruptcy since it opened, None for what it would
    keep if it opened now.

    >>> coin = Holding(60_000, 50_000, TierTable.flat(0.005), kind="inverse", leverage=10)
    >>> coin.notional(50_000), coin.initial_margin(50_000), round(coin.maintenance_margin(50_000), 6)
    (1.2, 0.12, 0.006)
    """

    size: float
    entry_price: float
    table: TierTable | None
    kind: str = "linear"
    multiplier: float = 1.0
    leverage: float = 1.0
    taker: float = 0.0
    is_isolated: bool = False
    terms: MarginTerms = PLAIN
    set_aside: float | None = None

    def __post_init__(self) -> None:
        check_kind("holding", self.kind)
        if self.kind == "spot" and (self.size < 0 or self.leverage != 1 or self.table is not None):
            raise ValueError(f"spot is held long, at leverage 1 and without tiers; was a size of {self.size:g} at {self.leverage:g}x")

    @property
    def is_inverse(self) -> bool:
        return self.kind == "inverse"

    @property
    def fee_rate(self) -> float:
        """The taker fee as margin counts it: a rebate takes nothing off."""
        return max(self.taker, 0.0)

    def notional(self, price: float) -> float:
        """Return what the position is worth at a price."""
        return notional(size=self.size, price=price, multiplier=self.multiplier, kind=self.kind)

    def unrealized_pnl(self, mark_price: float) -> float:
        """Return its profit at a mark price."""
        return unrealized_pnl(
            size=self.size, entry_price=self.entry_price, mark_price=mark_price, multiplier=self.multiplier, kind=self.kind
        )

    def measure(self, price: float) -> float:
        """Return the position in the unit of its tier table: quote money, base coins or contracts."""
        unit = "quote" if self.table is None else self.table.unit
        if unit == "contracts":
            return abs(self.size)
        return self.notional(price) if self.has_moving_measure else abs(self.size) * self.multiplier

    @property
    def has_moving_measure(self) -> bool:
        """Whether its measure is its notional, and so moves with the price; otherwise its size alone decides its tier."""
        return self.table is not None and self.table.unit == ("base" if self.is_inverse else "quote")

    def tier(self, mark_price: float) -> int | None:
        """Return the number, from 1, of the tier that maintenance is taken by, None where nothing is maintained."""
        return None if self.table is None else self.table.tier_of(self.measure(self.basis_price(mark_price)))

    def basis_price(self, mark_price: float) -> float:
        """Return the price whose notional maintenance is taken of."""
        return self.entry_price if self.terms.maintenance_basis == "entry" else mark_price

    def requirement(self, worth: float, price: float) -> float:
        """Return what the tier table asks of a notional that stands at a price, without any fee."""
        if self.table is None:
            return 0.0
        # The amount of a lone tier is money, taken as it stands.
        is_own_measure = self.has_moving_measure or self.table.amount is not None
        return self.table.requirement(worth, None if is_own_measure else self.measure(price))

    def maintenance_margin(self, mark_price: float) -> float:
        """Return the money needed to stay, by tier, with the fee that the terms keep in margin."""
        price = self.basis_price(mark_price)
        return self.requirement(self.notional(price), price) + self.closing_fee(price, self.terms.fee_in_margin)

    def initial_margin(self, mark_price: float) -> float:
        """Return notional / leverage at mark or entry, with the fee that the terms keep in it; spot is paid in full, at mark."""
        at_entry = self.kind != "spot" and self.terms.has_initial_at_entry(is_isolated=self.is_isolated)
        price = self.entry_price if at_entry else mark_price
        fee = self.closing_fee(price, self.terms.fee_in_margin) if self.terms.fee_in_initial else 0.0
        return self.notional(price) / self.leverage + fee

    def closing_fee(self, price: float, fee_in_margin: str) -> float:
        """Return the fee of closing that is kept in margin, by the notional at a price.

        taker * notional, or taker * notional * (1 - side / leverage) at the nominal bankruptcy price, inverse
        (1 + side / leverage); an isolated position's at bankruptcy is fixed at its entry, and what was set aside then stays.
        Source: Bybit, help on order cost, and "New Margin Calculation", retrieved 2026-11-21.
        """
        if self.kind == "spot" or fee_in_margin == "none":
            return 0.0
        if fee_in_margin == "notional":
            return self.fee_rate * self.notional(price)
        if self.is_isolated and self.set_aside is not None:
            return self.set_aside
        return self.fee_rate * self.bankruptcy_share * self.notional(self.entry_price if self.is_isolated else price)

    @property
    def bankruptcy_share(self) -> float:
        """The notional at the price where notional / leverage is lost, as a share of the one at entry."""
        side = 1 if self.size > 0 else -1
        return 1 + side / self.leverage if self.is_inverse else 1 - side / self.leverage

    @property
    def reserved_fee(self) -> float:
        """The closing fee that maintenance of an isolated position holds at its entry's figure, 0 under other terms.

        It moved into the position's money as it opened, so it cancels out of the liquidation price.
        """
        is_reserved = self.is_isolated and self.terms.fee_in_margin == "bankruptcy"
        return self.closing_fee(self.entry_price, "bankruptcy") if is_reserved else 0.0

    @property
    def kept_fee(self) -> float:
        """The closing fee that opening the position sets aside besides its margin, 0 under other terms.

        Of an isolated position it moves into the position's own money.
        Source: a Gate position of 2022-05-06 whose margin is 0.79271 + 0.01189 of taker fee, ccxt pull request 13130,
        retrieved 2026-11-21.
        """
        is_kept = self.terms.fee_in_initial or (self.is_isolated and self.terms.fee_in_margin == "bankruptcy")
        return self.closing_fee(self.entry_price, self.terms.fee_in_margin) if is_kept else 0.0

    @property
    def opening_margin(self) -> float:
        """The margin that opening the position takes: notional / leverage, and the closing fee kept with it."""
        return self.notional(self.entry_price) / self.leverage + self.kept_fee

    def brackets(self) -> tuple[Bracket, ...]:
        """Return maintenance as brackets of the notional at mark, fees included: ``notional * rate - amount`` up to each cap.

        Where the size alone decides the tier, or maintenance is taken at entry, one bracket holds every notional.
        """
        if self.terms.maintenance_basis == "entry":
            return (Bracket(inf, 0.0, -self.maintenance_margin(self.entry_price), inf),)
        rows, fixed_fee = brackets_by_notional(self), self.reserved_fee
        moving_fee = 0.0 if fixed_fee else self.closing_fee(self.entry_price, self.terms.fee_in_margin)
        fee_rate = moving_fee / self.notional(self.entry_price)
        return tuple(Bracket(row.cap, row.rate + fee_rate, row.amount - fixed_fee, row.max_leverage) for row in rows)


def brackets_by_notional(holding: Holding) -> tuple[Bracket, ...]:
    """Return the rows of a holding's table with caps and amounts in its settlement currency, fees left out."""
    table = holding.table
    if table is None:
        return (Bracket(inf, 0.0, 0.0, 1.0),)
    if holding.has_moving_measure and table.amount is None:
        return table.brackets
    if table.amount is not None:
        return (Bracket(inf, table.brackets[0].rate, table.amount, inf),)
    return (Bracket(inf, holding.requirement(1.0, holding.entry_price), 0.0, inf),)


def margin_ratios(*, equity: float, initial_margin: float, maintenance_margin: float, notional: float) -> dict[str, float | None]:
    """Return the margin ratio in each convention, named by its formula; None where it has no value.

    'maintenance/equity' rises to 1 in danger (Binance, Bybit), 'equity/maintenance' falls to 1 (OKX), 'equity/notional'
    falls to the maintenance rate, 'equity/initial' is equity over the margin in use. With no equity left the first has
    no value: the wallet is past every threshold.

    >>> margin_ratios(equity=500, initial_margin=1_000, maintenance_margin=100, notional=10_000)
    {'maintenance/equity': 0.2, 'equity/maintenance': 5.0, 'equity/notional': 0.05, 'equity/initial': 0.5}
    """
    return {
        RATIOS[0]: maintenance_margin / equity if equity > 0 else None,
        RATIOS[1]: equity / maintenance_margin if maintenance_margin > 0 else None,
        RATIOS[2]: equity / notional if notional > 0 else None,
        RATIOS[3]: equity / initial_margin if initial_margin > 0 else None,
    }
