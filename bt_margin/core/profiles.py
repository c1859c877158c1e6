"""How venues liquidate a failing wallet, as data, and the plan of what one of them does.

A ``Profile`` has two halves. While its ``part`` applies and helps, positions are *sold* part by part; where it does not,
the ``rest`` is sold whole or the whole wallet is *taken over*: each position at the price at which it spends its share of
the wallet's equity, pro rata to maintenance margin, so that nothing is left (R16). The wallet is tested again after every
sale, at the same marks, until it is safe or empty. Never is more taken than the wallet holds: a sale beyond that is paid
by the insurance fund, through the owner's price (R15).

A plan is made on a copy of the account; nothing is moved until ``MarginAccount.apply`` books its steps.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, inf, isfinite, nextafter

from .account import MarginAccount, Marks, Position, Risk, Step
from .contract import LOT_SLACK, RESIDUE, Contract
from .ledger import CROSS, MONEY_TOLERANCE
from .liquidation import ADL_RULES, ALMOST_ALL, NOTHING, fillable_price, jumps, liquidation_fee, takeover_price
from .tiers import TierTable

CANCELS = ("contract", "wallet", "account")
ORDERS = ("largest_loss", "all_at_once")
PRICES = ("mark", "last", "extreme", "fillable")
FEES = ("none", "liquidation_fee", "taker")
RESTS = ("sold", "taken_over")
HEIRS = ("trader", "fund")
FLOORS = ("wallet", "share")

HALVINGS = 100  # of a size: more than a float can tell apart


@dataclass(frozen=True, slots=True)
class Tiers:
    """A sale takes a position ``down`` that many tiers, to the cap of the one it lands in, and at least to the first.

    Positions below ``from_tier`` are not sold in part. ``must_suffice``: it goes down again by as many until the wallet
    would be safe, in one sale, and where no tier makes it so it is not sold in part at all. ``spares_first``: nor is it
    where equity has fallen to what the wallet would maintain with every position at its first tier's rate.
    """

    down: int
    from_tier: int = 2
    must_suffice: bool = False
    spares_first: bool = False

    def __post_init__(self) -> None:
        if self.down < 1 or self.from_tier < 2:
            raise ValueError(f"a sale goes down 1 tier or more, from the second or higher; was {self.down} from tier {self.from_tier}")


@dataclass(frozen=True, slots=True)
class Fraction:
    """A sale takes a ``share`` of a position whose notional is ``above`` a threshold (settlement currency).

    For ``cooldown`` seconds after it the account's positions are not sold in part.
    """

    share: float
    above: float
    cooldown: float

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and self.above >= 0 and self.cooldown >= 0):
            raise ValueError(
                "a sale takes a share between 0 and 1 of what is worth 0 or more, with a cooldown of 0 seconds or more; "
                f"was {self.share:g} above {self.above:g}, {self.cooldown:g} s"
            )


@dataclass(frozen=True, slots=True)
class Minimum:
    """A sale takes what is just enough: the smallest number of lots that leaves equity above maintenance (R19).

    It is judged at the worst marks of the bar, where the caller knows them, or a falling price would call for another lot
    at once. ``times`` above 1 cuts that minimum to whole lots and multiplies it; where not one lot is left, ``least``
    contracts go.
    """

    times: float = 1.0
    least: float = 0.0

    def __post_init__(self) -> None:
        if not (self.times >= 1 and self.least >= 0):
            raise ValueError(f"a sale takes 1 or more times the minimum, and 0 or more contracts; was {self.times:g} and {self.least:g}")


Part = Tiers | Fraction | Minimum


@dataclass(frozen=True, slots=True)
class Profile:
    """How a venue liquidates a wallet.

    Parameters
    ----------
    name, source : what it is called; where it is from, with the day
    cancels : whose orders go before anything is sold: the 'contract''s; the 'wallet''s, which are an isolated position's
        own and, of the cross wallet, all, since all of them draw on it; the 'account''s
    order : which position is sold first: that with the 'largest_loss', tested again after it; or each, 'all_at_once'
    part : how much of a position a sale takes; None for all of it
    sold_at : the market price of a sale: 'mark'; 'last', if that is worse for the owner; the bar's adverse 'extreme', where
        the wallet is judged too; the 'fillable' price of dYdX, at most ``spread`` of the position's maintenance margin off the
        mark, the deeper the wallet has sunk below its maintenance margin (R14)
    fee : the rate a sale pays on the notional sold, at the owner's price: 'none', the contract's 'liquidation_fee' or 'taker'
    rest : what happens where ``part`` does not apply or cannot help: the position is 'sold' whole, or the wallet 'taken_over'
    leftover : who keeps what a sale leaves in a wallet that holds nothing more; a takeover leaves nothing
    backstop : below this share of its maintenance margin a wallet is taken over at once; None for no such threshold
    is_strict : whether a wallet fails below maintenance margin, rather than at it (R1)
    floor : how much a sale and its fee may take at most: the equity of the 'wallet', or the position's 'share' of it, pro rata
        to maintenance margin; the insurance fund pays the rest (R15)
    adl : how positions queue for auto-deleveraging, a rule of ``adl_score``; None where no source says
    """

    name: str
    source: str = ""
    cancels: str = "contract"
    order: str = "largest_loss"
    part: Part | None = None
    sold_at: str = "mark"
    spread: float = 0.0
    fee: str = "liquidation_fee"
    rest: str = "sold"
    leftover: str = "trader"
    backstop: float | None = None
    is_strict: bool = False
    floor: str = "wallet"
    adl: str | None = None

    def __post_init__(self) -> None:
        choices = {"cancels": CANCELS, "order": ORDERS, "sold_at": PRICES, "fee": FEES, "rest": RESTS, "leftover": HEIRS, "floor": FLOORS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"profile {self.name}: {name} is one of {', '.join(map(repr, known))}, was {getattr(self, name)!r}")
        if self.adl is not None and self.adl not in ADL_RULES:
            raise ValueError(f"profile {self.name}: adl is None or one of {', '.join(map(repr, ADL_RULES))}, was {self.adl!r}")
        if self.backstop is not None and not 0 < self.backstop < 1:
            raise ValueError(f"profile {self.name}: a backstop is a share of maintenance margin between 0 and 1, was {self.backstop:g}")
        if not (isfinite(self.spread) and 0 <= self.spread < 1 and (self.spread > 0) == (self.sold_at == "fillable")):
            raise ValueError(f"profile {self.name}: a spread from 0 to 1 goes with the fillable price alone, was {self.spread:g}")

    def fails(self, risk: Risk) -> bool:
        """Whether a wallet is liquidated: at its maintenance margin, or strictly below it (R1)."""
        return risk.equity < risk.maintenance_margin and risk.holds_position if self.is_strict else risk.is_liquidatable

    def cancelled_symbols(self, account: MarginAccount, symbol: str) -> list[str]:
        """Return the contracts whose orders are cancelled before a step with one of them (R17): both legs of a hedge together."""
        is_all = self.cancels == "account" or (self.cancels == "wallet" and not account.positions[symbol].is_isolated)
        return list(account.positions if is_all else account.symbols_of(symbol))


MARKET = Profile("market", source="no venue: sold whole at the mark for a fee, what is left is the trader's")

FORFEIT = Profile("forfeit", source="no venue: taken over whole, what is left is the insurance fund's", rest="taken_over", leftover="fund")

GENERIC = replace(FORFEIT, name="generic")

BINANCE = Profile(
    "binance",
    source=(
        "Binance FAQ 360033525271 (2020-07-05) and the liquidation protocol of docs.traderwagon.com, retrieved 2026-11-22: all open "
        "orders cancelled; one large immediate order reduces the position, a clearance fee on what it liquidated; a user who is still "
        "short is closed at the bankruptcy price and what is left goes to the insurance fund"
    ),
    cancels="wallet",
    part=Minimum(),
    rest="taken_over",
    adl="binance",
)

BYBIT = Profile(
    "bybit",
    source=(
        "Bybit help, Liquidation Process, 000001098 (2024-01-24) and 900000167723, retrieved 2026-11-22: orders of the contract "
        "cancelled; from the second risk limit on one order, filled whole or not at all, for what is above the lower limit that meets "
        "the margin; else settled at the bankruptcy price, what is left goes to the insurance fund"
    ),
    part=Tiers(down=1, must_suffice=True),
    fee="taker",
    rest="taken_over",
)

OKX = Profile(
    "okx",
    source=(
        "OKX help, forced partial and full liquidation (copies at amorrr.com/14966 and 365shuku.com/10258), and tiered maintenance "
        "margin ratio rules (2025-05-16), retrieved 2026-11-22: from tier 3 on reduced by two tiers, tested, repeated, for a "
        "liquidation fee; below what tier 1 asks, or in tiers 1 and 2, taken over at the bankruptcy price"
    ),
    cancels="wallet",
    part=Tiers(down=2, from_tier=3, spares_first=True),
    rest="taken_over",
)

HYPERLIQUID = Profile(
    "hyperliquid",
    source=(
        "Hyperliquid docs, Liquidations, and the announcement of partial liquidations (hyperliquid_announcements, 307), retrieved "
        "2026-11-22: market orders; a fifth of a position above 100 000 USDC, and for 30 seconds after it everything; what is left is "
        "the trader's, no clearance fee beside the taker fee; below two thirds of maintenance margin the liquidator vault takes "
        "position and margin"
    ),
    part=Fraction(share=0.2, above=100_000, cooldown=30),
    fee="taker",
    backstop=2 / 3,
    adl="hyperliquid",
)

DYDX = Profile(
    "dydx",
    source=(
        "github.com/dydxprotocol/v4-chain at 014223b6, x/clob/keeper/liquidations.go, and liquidations_config_keeper.go, retrieved "
        "2026-11-22: below maintenance, whole positions, at worst at the fillable price (a tenth of maintenance margin), a fee of at "
        "most 0.5 %, neither beyond the position's bankruptcy price, which shares equity pro rata to maintenance margin"
    ),
    sold_at="fillable",
    spread=0.1,
    is_strict=True,
    floor="share",
)

TRADINGVIEW = Profile(
    "tradingview",
    source=(
        "TradingView help 43000681727, margin calls, as pineforge-engine (pull requests 47, 73 and 136) and piner 0.9.0 found it in "
        "58 737 recorded margin calls, retrieved 2026-11-22: once a bar at its adverse extreme, four times the minimum cut to the "
        "lot, one contract where that is nothing"
    ),
    part=Minimum(times=4, least=1),
    sold_at="extreme",
    fee="taker",
    is_strict=True,
)

PROFILES = {profile.name: profile for profile in (MARKET, FORFEIT, GENERIC, BINANCE, BYBIT, OKX, HYPERLIQUID, DYDX, TRADINGVIEW)}


class Cooldown:
    """When each position was last sold in part, in seconds: what a plan must know of earlier ones.

    Note a sale after it is booked; a plan only reads it.
    """

    def __init__(self, cut_at: dict[str, float] | None = None) -> None:
        self.cut_at: dict[str, float] = {} if cut_at is None else dict(cut_at)

    def clone(self) -> "Cooldown":
        """Return a copy to plan on."""
        return Cooldown(self.cut_at)

    def note(self, account: MarginAccount, step: Step, now: float) -> None:
        """Remember a step that is booked, if it left some of its position."""
        if account.positions[step.symbol].size:
            self.cut_at[step.symbol] = now

    def forbids(self, symbol: str, *, now: float, seconds: float, bar_seconds: float) -> bool:
        """Whether a position cannot be sold in part now.

        It was at this instant, or some position of the account was less than ``seconds`` ago. A cooldown shorter than the
        bar is over by the next failing point (R20).
        """
        if self.cut_at.get(symbol) == now:
            return True
        return seconds >= bar_seconds and any(0 < now - then < seconds for then in self.cut_at.values())


def plan_liquidation(
    account: MarginAccount,
    wallet: str,
    marks: Marks,
    profile: Profile,
    *,
    now: float = 0.0,
    bar_seconds: float = 0.0,
    cooldown: Cooldown | None = None,
    last: Marks | None = None,
    extremes: Marks | None = None,
    dearest: Marks | None = None,
    has_failed: bool = False,
) -> list[Step]:
    """Return the steps that a venue takes with a wallet at these marks, in order; none while it is safe.

    The last ones sell spot whose money the liquidated positions have lost, until what is left is paid for again (R27). Source:
    Binance, multi-assets mode: coins are exchanged against a negative balance at liquidation, retrieved 2026-11-21.

    Parameters
    ----------
    now, bar_seconds, cooldown : the instant, the length of the bar it is in and the sales before it; for ``Fraction``
    last : last prices of the instant, the marks where not given; for sales at 'last'
    extremes : the worst mark of the bar for each position held, the marks where not given; for sales at 'extreme' and
        for ``Minimum``
    dearest : where another mark of the bar asks for more maintenance than that, as slab tables do, that mark
    has_failed : the wallet is known to fail: solved marks stand on the boundary, where rounding could deny it
    """
    worst = {**marks, **(extremes or {})}
    judged = worst if profile.sold_at == "extreme" else marks
    scene = _Scene(now, bar_seconds, judged, worst, {**worst, **(dearest or {})}, {**marks, **(last or {})})
    trial = _Trial(account.clone(), wallet, profile, scene, (cooldown or Cooldown()).clone())
    while profile.fails(trial.risk()) or (has_failed and not trial.steps):
        trial.take_round()
    if trial.steps and wallet == CROSS:
        trial.repay()
    return trial.steps


def marks_of_bar(account: MarginAccount, ranges: Mapping[str, tuple[float, float]]) -> dict[str, dict[str, float]]:
    """Return ``extremes`` and ``dearest`` for a plan from the lowest and highest mark of each contract in the bar.

    The extreme of two legs in one wallet is the one that is worse for both together.
    """
    extremes, dearest = {}, {}
    for symbol, (low, high) in ranges.items():
        position = account.positions[symbol]
        extremes[symbol] = low if position.size > 0 else high
        joint = account.joint(position)
        if len(joint) > 1:
            extremes[symbol] = min(low, high, key=partial(_joint_headroom, joint))
        if not position.is_plain and jumps(position.brackets):
            dearest[symbol] = low if position.contract.kind == "inverse" else high
    return {"extremes": extremes, "dearest": dearest}


def _joint_headroom(held: Sequence[Position], mark_price: float) -> float:
    return sum(position.headroom(mark_price) for position in held)


@dataclass(frozen=True, slots=True)
class _Scene:
    """The instant of a plan: its time, the marks the wallet is judged by, the worst and the dearest of the bar, last prices."""

    now: float
    bar_seconds: float
    marks: Marks
    worst: Marks
    dearest: Marks
    last: Marks


class _Trial:
    """A copy of the account on which the steps are tried as they are found."""

    def __init__(self, account: MarginAccount, wallet: str, profile: Profile, scene: _Scene, cooldown: Cooldown) -> None:
        self.account, self.wallet, self.profile, self.scene, self.cooldown = account, wallet, profile, scene, cooldown
        self.steps: list[Step] = []

    def risk(self) -> Risk:
        return self.account.risk(self.wallet, self.scene.marks)

    def take_round(self) -> None:
        """Take what is taken between two tests of the wallet."""
        risk, held, profile = self.risk(), self._in_order(), self.profile
        is_hopeless = profile.rest == "taken_over" and risk.equity <= 0
        if is_hopeless or (profile.backstop is not None and risk.equity < profile.backstop * risk.maintenance_margin):
            self._take_over(held, risk)
        elif profile.order == "all_at_once" and profile.rest == "sold":
            for position in held:
                self._sell(position, self._part(position, risk) or abs(position.size))
        else:
            self._take_first(held, risk)

    def repay(self) -> None:
        """Sell spot at the mark until none of it is held on credit, in whole lots; what is left over stays with the trader."""
        for position in [held for held in self.account.held(self.wallet) if held.contract.kind == "spot"]:
            contract, lot = position.contract, position.contract.lot
            mark_price = self.scene.marks[contract.symbol]
            owed = -self.account.free_cash
            if owed > MONEY_TOLERANCE * position.notional(mark_price):
                size = owed / contract.notional(1.0, mark_price)
                size = contract.snap_size(ceil(size / lot - LOT_SLACK) * lot, largest=position.size) if lot else size
                self._apply(Step(contract.symbol, min(size, position.size), mark_price, mark_price, 0.0, False))

    def _take_first(self, held: Sequence[Position], risk: Risk) -> None:
        rule = self.profile.part
        for position in held if isinstance(rule, Tiers) else held[:1]:
            part = self._part(position, risk)
            if part is not None:
                self._sell(position, part)
                return
        is_sold = self.profile.rest == "sold" or (isinstance(rule, Minimum) and len(held) > 1)  # none does: all of it (R19)
        if is_sold:
            self._sell(held[0], abs(held[0].size))
        else:
            self._take_over(held, risk)

    def _in_order(self) -> list[Position]:
        """Return what is held, the largest loss first (R18): what was cut at this instant after what was not, spot last."""

        def rank(position: Position) -> tuple[bool, bool, float]:
            symbol, contract = position.contract.symbol, position.contract
            was_cut = isinstance(self.profile.part, Fraction) and self.cooldown.cut_at.get(symbol) == self.scene.now
            return contract.kind == "spot", was_cut, position.unrealized_pnl(self.scene.marks[symbol])

        return sorted(self.account.held(self.wallet), key=rank)

    # -- how much ----------------------------------------------------------------------------------------------------

    def _part(self, position: Position, risk: Risk) -> float | None:
        """Return how much of a position is sold, None where the profile's part does not apply to it or cannot help."""
        part = self.profile.part
        if part is None or position.contract.kind == "spot":
            return None
        if isinstance(part, Fraction):
            return self._fraction(position, part)
        if isinstance(part, Tiers):
            return self._tiers(position, part, risk)
        return self._minimum(position, part)

    def _fraction(self, position: Position, part: Fraction) -> float | None:
        symbol, scene = position.contract.symbol, self.scene
        is_cooling = self.cooldown.forbids(symbol, now=scene.now, seconds=part.cooldown, bar_seconds=scene.bar_seconds)
        if is_cooling or position.notional(scene.marks[symbol]) <= part.above:
            return None
        return abs(position.contract.floor_size(part.share * position.size)) or None

    def _tiers(self, position: Position, part: Tiers, risk: Risk) -> float | None:
        tier = position.holding().tier(self.scene.marks[position.contract.symbol]) or 1
        if tier < part.from_tier or (part.spares_first and risk.equity <= self._least_maintenance()):
            return None
        if not part.must_suffice:
            return abs(position.size) - self._size_in(position, max(tier - part.down, 1), self.scene.marks)
        test = _Test(self, position, self.scene.marks, self.scene.marks)
        for lower in (*range(tier - part.down, 1, -part.down), 1):
            size = abs(position.size) - self._size_in(position, lower, self.scene.marks)
            if test.suffices(size):
                return size
        return None

    def _least_maintenance(self) -> float:
        """Return what the wallet would maintain with every position at its first tier's rate."""
        least = 0.0
        for position in self.account.held(self.wallet):
            if position.contract.kind != "spot":
                first = TierTable.flat(position.table.tiers[0].rate)
                least += replace(position.holding(), table=first).maintenance_margin(self.scene.marks[position.contract.symbol])
        return least

    @staticmethod
    def _size_in(position: Position, tier: int, marks: Marks, *, in_lots: bool = True) -> float:
        """Return the largest size (>= 0) of a position that a tier holds."""
        contract, table = position.contract, position.table
        price = position.holding().basis_price(marks[contract.symbol])
        size = table.tiers[tier - 1].cap / position.measure(1.0, price)
        size = contract.floor_size(size) if in_lots else size
        while size > 0 and table.tier_of(position.measure(size, price)) > tier:  # the division's last digit was rounded up
            size = contract.snap_size(size - contract.lot, largest=size) if in_lots and contract.lot else nextafter(size, 0.0)
        return max(size, 0.0)

    def _minimum(self, position: Position, part: Minimum) -> float | None:
        contract, held = position.contract, abs(position.size)
        enough = self._enough(position, in_lots=part.times == 1)
        if enough is None or part.times == 1:
            return enough
        lots = contract.floor_size(enough)
        return min(contract.floor_size(part.times * lots) if lots else max(part.least, contract.lot), held) or enough

    def _enough(self, position: Position, *, in_lots: bool) -> float | None:
        """Return the smallest size whose sale suffices, in whole lots if asked; None where none does.

        It must at the worst marks, with what is maintained at the dearest ones, or a rising price would pass a slab table's
        edge over and over; and it must at the present marks. What is sold moves headroom piecewise linearly, by the tiers
        that what is kept falls through, so that its highest points are at their edges, and on the way to the first edge that
        suffices it crosses zero once.
        """
        contract, held, low = position.contract, abs(position.size), 0.0
        scene = self.scene
        tests = [_Test(self, position, marks, dearest) for marks, dearest in ((scene.worst, scene.dearest), (scene.marks, scene.marks))]

        def suffices(size: float) -> bool:
            return all(test.suffices(size) for test in tests)

        for edge in self._edges(position):
            if suffices(edge):
                high = edge
                for _ in range(HALVINGS):
                    middle = (low + high) / 2
                    low, high = (low, middle) if suffices(middle) else (middle, high)
                found = max(high, RESIDUE * held)
                if in_lots and contract.lot:
                    found = min(max(ceil(found / contract.lot - LOT_SLACK), 1) * contract.lot, held)
                if suffices(found):
                    return found
            low = edge
        return None

    def _edges(self, position: Position) -> Iterator[float]:
        """Yield the sizes, rising, after whose sale the rest falls into a lower tier; and at last all of it."""
        held, edges = abs(position.size), set[float]()
        for marks in (self.scene.dearest, self.scene.marks):
            tiers = range(1, position.holding().tier(marks[position.contract.symbol]) or 1)
            edges.update(_to_leave(held, self._size_in(position, tier, marks, in_lots=False)) for tier in tiers)
        yield from sorted(edge for edge in edges if 0 < edge < held)
        yield held

    # -- at which price ----------------------------------------------------------------------------------------------

    def _sell(self, position: Position, size: float) -> None:
        """Sell a size (>= 0) of a position at the market, its owner's price and fee held to the floor (R14, R15)."""
        contract, risk = position.contract, self.risk()
        if contract.lot:
            size = contract.snap_size(size, largest=size) or abs(position.size)
        part = size if position.size > 0 else -size
        mark_price, share = self.scene.marks[contract.symbol], self._share(position, part, risk)
        market_price = self.market_price(position, part, risk)
        lost = -contract.unrealized_pnl(size=part, entry_price=mark_price, mark_price=market_price)
        if self.profile.floor == "share":
            paid = max(lost - risk.equity * share, 0.0)
            left = risk.equity * share - lost + paid
        else:
            loss = -contract.unrealized_pnl(size=part, entry_price=position.entry_price, mark_price=market_price)
            paid = min(max(lost - risk.equity, 0.0), max(loss, 0.0))
            left = risk.equity - lost + paid
        price = _earning(contract, paid, size=part, price=market_price)
        terms = {"rate": self.fee_rate(contract), "units": part * contract.multiplier, "price": price, "equity": left}
        fee = liquidation_fee(**terms, kind=contract.kind)
        self._apply(Step(contract.symbol, part, market_price, price, fee, self.profile.leftover == "fund"))

    def market_price(self, position: Position, part: float, risk: Risk) -> float:
        """Return what the market pays for a part (signed) of a position, never better than its mark (R14)."""
        contract, mark_price = position.contract, self.scene.marks[position.contract.symbol]
        if self.profile.sold_at == "last":
            return (min if part > 0 else max)(self.scene.last[contract.symbol], mark_price)
        if self.profile.sold_at != "fillable" or not risk.maintenance_margin:
            return mark_price
        return fillable_price(
            units=part * contract.multiplier,
            mark_price=mark_price,
            maintenance_margin=risk.maintenance_margin * self._share(position, part, risk),
            equity=risk.equity,
            total_maintenance_margin=risk.maintenance_margin,
            spread=self.profile.spread,
            kind=contract.kind,
        )

    def fee_rate(self, contract: Contract) -> float:
        """Return the fee of a sale as a fraction of what is sold."""
        if self.profile.fee == "none" or contract.kind == "spot":
            return 0.0
        return contract.liquidation_fee if self.profile.fee == "liquidation_fee" else contract.taker

    def _share(self, position: Position, part: float, risk: Risk) -> float:
        """Return a part's share of its wallet: of maintenance margin by what its going takes off; without any of notional.

        Spot, which maintains nothing, has none.
        """
        symbol, mark_price = position.contract.symbol, self.scene.marks[position.contract.symbol]
        if risk.maintenance_margin:
            kept = _maintenance(position, position.size - part, mark_price)
            return (position.maintenance_margin(mark_price) - kept) / risk.maintenance_margin
        if position.contract.kind == "spot":
            return 0.0
        borrowed = [other for other in self.account.held(self.wallet) if other.contract.kind != "spot"]
        total = sum(other.notional(self.scene.marks[other.contract.symbol]) for other in borrowed)
        return position.contract.notional(part, self.scene.marks[symbol]) / total

    def _take_over(self, held: Sequence[Position], risk: Risk) -> None:
        """Hand over every position at its takeover price, all of them computed before the first one goes (R16).

        A closing fee that is kept beside the margin of an isolated position is no part of its price; it goes with the rest. Of
        a deficit the fund pays each loser its loss, the largest first, until nothing is lacking (R15): no owner is given a
        profit that the mark does not show.
        """
        equity, steps = risk.equity - sum(position.reserved_fee for position in held), []
        lacking = -equity
        for position in held:
            contract, mark_price = position.contract, self.scene.marks[position.contract.symbol]
            if equity < 0:
                paid = min(max(lacking, 0.0), max(-position.unrealized_pnl(mark_price), 0.0))
                price, lacking = _earning(contract, paid, size=position.size, price=mark_price), lacking - paid
            else:
                units, share = position.size * contract.multiplier, self._share(position, position.size, risk)
                price = takeover_price(units=units, mark_price=mark_price, equity=equity, share=share, kind=contract.kind)
            steps.append(Step(contract.symbol, position.size, mark_price, price, 0.0, True))
        for step in steps:
            self._apply(step)

    def _apply(self, step: Step) -> None:
        self.account.apply(step, time=self.scene.now)
        self.cooldown.note(self.account, step, self.scene.now)
        self.steps.append(step)


class _Test:
    """Whether the sale of a size makes a wallet safe: its equity at some marks, its maintenance at the dearest, sold at the present."""

    def __init__(self, trial: _Trial, position: Position, marks: Marks, dearest: Marks) -> None:
        contract, self.position, self.risk = position.contract, position, trial.account.risk(trial.wallet, marks)
        self.present, self.present_mark = trial.risk(), trial.scene.marks[contract.symbol]
        self.mark_price = marks[contract.symbol]
        self.dearest = dearest[contract.symbol]
        held, required = trial.account.held(trial.wallet), position.maintenance_margin(self.dearest)
        self.others = sum(other.maintenance_margin(dearest[other.contract.symbol]) for other in held) - required
        self.market_price = trial.market_price(position, position.size, self.present)
        self.fee_rate = trial.fee_rate(contract)
        self.slack = NOTHING * (abs(self.risk.equity) + self.risk.maintenance_margin + position.notional(self.mark_price))

    def suffices(self, size: float) -> bool:
        """Whether equity exceeds maintenance margin after the sale of a size (>= 0) and its fee, by more than a rounding."""
        position, contract = self.position, self.position.contract
        part = size if position.size > 0 else -size
        lost = -contract.unrealized_pnl(size=part, entry_price=self.present_mark, mark_price=self.market_price)
        terms = {"units": part * contract.multiplier, "price": self.market_price, "equity": self.present.equity - lost}
        fee = liquidation_fee(rate=self.fee_rate, **terms, kind=contract.kind)
        spared = contract.unrealized_pnl(size=part, entry_price=self.mark_price, mark_price=self.market_price)
        kept = _maintenance(position, position.size - part, self.dearest)
        return self.risk.equity + spared - fee > self.others + kept + self.slack


def _to_leave(held: float, kept: float) -> float:
    """Return the least that can be taken from a size so that no more than ``kept`` is left, to the last digit."""
    taken = held - kept
    while held - taken > kept:
        taken = nextafter(taken, inf)
    return taken


def _maintenance(position: Position, size: float, mark_price: float) -> float:
    """Return what a position would maintain if it had another size, which a rounding keeps off its grid of lots."""
    snapped = position.contract.snap_size(size, largest=abs(position.size))
    resized = replace(position, size=snapped if abs(size - snapped) <= LOT_SLACK * position.contract.lot or not snapped else size)
    resized.renew()
    return resized.maintenance_margin(mark_price)


def _earning(contract: Contract, amount: float, *, size: float, price: float) -> float:
    """Return the price at which a size has earned an amount, cut to less than its whole worth: a price is positive."""
    if not amount:
        return price
    most = ALMOST_ALL * contract.notional(size, price)
    return contract.price_earning(min(max(amount, -most), most), size=size, price=price)
