"""What happens inside one bar, planned on a copy of the account.

All contracts share one clock of three equal legs: open to one extreme, to the other, to the close. On a leg every
series is a straight line. Events are met in the order of the clock: an order where the last price reaches it, a
funding stamp at its own time, a wallet where its equity meets its maintenance. Equity is linear on a leg and
maintenance piecewise linear in the notional, so the crossing is solved, not sampled; so is that of inverse contracts,
whose terms are hyperbolas. Where the requirement of a slab table jumps over what equity is left, the edge is the
crossing. At one instant liquidation comes first, then funding, then fills; every event is followed by the test at the
same marks.

Given finer bars (detail), the bar is a row of them, each with legs of its own; from one's close to the next one's open
prices jump, and what they jump over is met as at any open: the stamps of that instant, the test, then the orders, at the
open's price. Of each finer bar the way is chosen by itself, on what has become of the account by then.

The plan is a list of events for the caller to repeat on the real account.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf, isclose
from typing import NamedTuple, TypeVar

from .account import MarginAccount, Position
from .crossing import Curve, Pole, first_crossing
from .liquidation import NOTHING, least_headroom
from .profiles import Cooldown, Profile, marks_of_bar, plan_liquidation
from .tiers import bracket_at
from .top_up import plan_top_up

LEGS = 3
PATHS = ("adverse", "favourable", "worst")
SAME_SIZE = 1e-9  # two paths add up the same fills in another order
AN_INSTANT = 1e-9  # of a bar or of a part of it: instants that are nearer to each other are one


class Track(NamedTuple):
    """Four corners of one contract's bar; ``last`` is None where the contract has no new bar, its mark then stands still.

    ``series`` names the prices where several positions share them (the two legs of a hedge); else the symbol does.
    """

    symbol: str
    mark_open: float
    mark_high: float
    mark_low: float
    mark_close: float
    last: tuple[float, float, float, float] | None
    series: str = ""


@dataclass(slots=True, eq=False)
class WorkingOrder:
    """A resting order as the path sees it.

    ``size`` is what may fill in this bar (signed), ``rest`` what a volume filler leaves for later bars. ``stop`` is the
    trigger (None for a limit), ``stop_fill`` the price a triggered stop pays, ``limit`` the limit price (None for a
    plain stop). Orders of one ``oco`` group end each other; so do the exits of one ``bracket``. One that ``reduces`` never opens.
    ``resting_fee_rate`` is what a stop-limit pays that rests once it is triggered (None: as if it did not). ``gap_fill`` returns
    what is paid where detail jumps over the order to an open price, None where slippage leaves the bar.
    """

    ref: int
    symbol: str
    size: float
    rest: float
    stop: float | None
    stop_fill: float | None
    limit: float | None
    fee_rate: float
    oco: int
    bracket: int | None
    reduces: bool = False
    resting_fee_rate: float | None = None
    gap_fill: Callable[[float], float | None] | None = None

    @property
    def levels(self) -> list[float]:
        """The price that the last price has to reach next."""
        return [level for level in (self.stop, self.limit) if level is not None][:1]


class PathStamp(NamedTuple):
    """A funding stamp inside the bar at a fraction (0 to 1) of its time, paid by what is held then, or by a part of that ``size``."""

    fraction: float
    symbol: str
    rate: float
    mark_price: float
    stamp: float
    size: float | None = None


class LateStamp(NamedTuple):
    """A funding stamp that an opening within ``grace`` after it (a fraction of the bar) still pays (R24)."""

    stamp: PathStamp
    grace: float


class PathEvent(NamedTuple):
    """Something that happens at one instant; ``subject`` is an order reference, a symbol or a wallet by ``kind``.

    Kinds: ``trigger`` and ``fill`` (order), ``funding`` (PathStamp), ``top_up`` (TopUpStep), ``liquidation`` (wallet). ``price``
    is that of a fill, the last price of a trigger, the mark of a stamp.
    ``marks`` and ``last`` are the prices of the instant, ``fraction`` (0 to 1) is its place in the bar; of a liquidation,
    ``ahead`` are the lowest and the highest mark of each contract from there on. ``part`` is the one of the bar's parts that it
    lies in, where there are several.
    """

    kind: str
    subject: object
    price: float
    marks: dict[str, float]
    last: dict[str, float]
    fraction: float
    ahead: dict[str, tuple[float, float]]
    part: int = 0


class Plan(NamedTuple):
    """Events in order, the account's equity at the closing marks and at its lowest, and the steps that took each contract.

    ``paid_in`` of that equity is money from outside that came in on the way; ``lows`` are the lowest equity before it came in,
    and after each time it did; ``failed`` is how much was held of each contract (signed) when it was first liquidated.
    """

    events: list[PathEvent]
    equity: float
    lows: tuple[float, ...]
    liquidated: Counter[str]
    paid_in: float
    failed: Mapping[str, float]

    @property
    def lowest_equity(self) -> float:
        """The account's equity at its lowest."""
        return min(self.lows)

    @property
    def own_equity(self) -> float:
        """What is left at the closing marks of what the account had, by which two paths are compared."""
        return self.equity - self.paid_in

    @property
    def filled(self) -> frozenset[object]:
        """The references of the orders that are filled."""
        return frozenset(event.subject for event in self.events if event.kind == "fill")


P = TypeVar("P", Plan, "_Walk")


class Ends(NamedTuple):
    """What a bar may do: by the path that leaves less, by the other one, and at worst.

    ``adverse`` and ``favourable`` are the two market paths, low first and high first, taken by all contracts together.
    ``worst`` is where all extremes meet: each contract takes its own worse leg first. Where that is no path of its own, it
    is ``adverse``.
    """

    adverse: Plan
    favourable: Plan
    worst: Plan

    @property
    def is_ambiguous(self) -> bool:
        """Whether the two market paths liquidate other contracts, or other steps of them, or fill other orders."""
        return self.adverse.liquidated != self.favourable.liquidated or self.adverse.filled != self.favourable.filled

    def in_both(self, held: Mapping[str, float]) -> Counter[str]:
        """Return the steps of each contract that both market paths have, ``held`` being what was held (signed) before the bar's path.

        They are of the side held before; of another they count only where both paths had come to hold as much of it, for
        then orders made it, and in which order prices met them may have decided.
        """
        common = self.adverse.liquidated & self.favourable.liquidated
        for symbol in list(common):
            sizes, before = (self.adverse.failed[symbol], self.favourable.failed[symbol]), held[symbol]
            if min(size * before for size in sizes) <= 0 and not isclose(*sizes, rel_tol=SAME_SIZE):
                del common[symbol]
        return common

    @property
    def is_only_worst(self) -> bool:
        """Whether a contract is liquidated at worst that neither market path liquidates."""
        return not self.worst.liquidated.keys() <= self.adverse.liquidated.keys() | self.favourable.liquidated.keys()


def plan_bar(
    account: MarginAccount,
    tracks: Sequence[Track],
    orders: Sequence[WorkingOrder],
    stamps: Sequence[PathStamp],
    profile: Profile,
    *,
    detail: Sequence[Mapping[str, Track]] = (),
    opening: float = 0.0,
    bar_seconds: float = 0.0,
    cooldown: Cooldown | None = None,
    late: Sequence[LateStamp] = (),
) -> Ends:
    """Return what the bar does to the account by each model of its path; see ``plan_path`` for the arguments.

    Contracts without detail take the same way all bar long.
    """
    plan = partial(
        plan_path,
        *(account, tracks, orders, stamps, profile),
        detail=detail,
        opening=opening,
        bar_seconds=bar_seconds,
        cooldown=cooldown,
        late=late,
    )
    ordered = {order.symbol for order in orders}
    stirred = [track for track in tracks if track.last is not None and (track.symbol in ordered or account.positions[track.symbol].size)]
    coarse = [track for track in stirred if track.symbol not in detail[0]] if detail else stirred
    ways = (True,) if detail and not coarse else (True, False)
    adverse, favourable = _by_equity([plan(low_first=way) for way in ways])
    if detail:
        _, favourable = _by_equity([plan(low_first=way, path="favourable") for way in ways])
        adverse, favourable = _by_equity([adverse, favourable])  # less at every part's close may come to more at the last one
    if len({_series(track) for track in stirred}) < 2:
        return Ends(adverse, favourable, adverse)
    worst, sides = adverse, _own_worse(account, coarse, orders)
    if detail:
        worst = worse_of(adverse, _by_equity([plan(low_first=way, path="worst") for way in ways])[0])
    return Ends(adverse, favourable, worse_of(worst, plan(low_first=sides, path="worst") if _is_apart(sides) else None))


def _by_equity(ways: Sequence[P]) -> tuple[P, P]:
    """Return the one of one or two that leaves less equity at the close, the first if they tie, and the other."""
    first, other = ways[0], ways[-1]
    return (first, other) if first.own_equity <= other.own_equity else (other, first)


def worse_of(adverse: P, met: P | None) -> P:
    """Return the worse of two: the one that liquidates more contracts, or else leaves less equity; ``met`` if they tie."""
    if met is None:
        return adverse
    more = len(met.liquidated) - len(adverse.liquidated)
    return met if more > 0 or (more == 0 and met.own_equity <= adverse.own_equity) else adverse


def _own_worse(account: MarginAccount, tracks: Collection[Track], orders: Collection[WorkingOrder]) -> dict[str, bool]:
    """Return for each contract whether its own worse leg is the one to the low: for what is held long, it is.

    Positions that share a series of prices are taken by their sum, and go the same way. A flat contract, or one whose legs are
    as large, goes first to where the nearest of its orders waits, so that what it fills is held while the others are at their
    worst; one without orders has no side.
    """
    held: dict[str, float] = {}
    away: dict[str, list[float]] = {}
    for track in tracks:
        position, series = account.positions[track.symbol], _series(track)
        held[series] = held.get(series, 0.0) + position.size * position.contract.multiplier
        if track.last is not None:
            levels = (level for order in orders if order.symbol == track.symbol for level in order.levels)
            away.setdefault(series, []).extend(level - track.last[0] for level in levels)
    sides = {
        series: held[series] > 0 if held[series] else min(away[series], key=abs) <= 0 for series in away if held[series] or away[series]
    }
    return {track.symbol: sides[_series(track)] for track in tracks if _series(track) in sides}


def _series(track: Track) -> str:
    return track.series or track.symbol


def _is_apart(sides: Mapping[str, bool]) -> bool:
    """Whether contracts differ in their worse legs, so that their extremes meet on neither market path."""
    return len(set(sides.values())) > 1


def plan_path(
    account: MarginAccount,
    tracks: Sequence[Track],
    orders: Iterable[WorkingOrder],
    stamps: Iterable[PathStamp],
    profile: Profile,
    *,
    low_first: bool | Mapping[str, bool],
    detail: Sequence[Mapping[str, Track]] = (),
    path: str = "adverse",
    opening: float = 0.0,
    bar_seconds: float = 0.0,
    cooldown: Cooldown | None = None,
    late: Sequence[LateStamp] = (),
) -> Plan:
    """Return what one path, low first or high first, does to the account; the account itself is left alone.

    ``low_first`` is the way of all contracts, or of each by symbol (low first where it says nothing). ``detail`` are equal
    parts of the bar, each with the finer tracks of the contracts that have them; they begin and end at the corners of
    the bar. The way through each part is chosen by ``path``, one of PATHS, by what it does up to that part's close; the
    contracts without finer tracks stay on their way through the whole bar.

    The bar opens at ``opening`` (seconds UTC); with its length and ``cooldown`` this tells how long ago a position was sold
    in part. ``late`` are the stamps that openings inside the bar may still pay.
    """
    copies = [replace(order) for order in orders]
    instant = (opening, bar_seconds, (cooldown or Cooldown()).clone())
    walk = _Walk(account.clone(), _Ground(tracks, detail, low_first), copies, stamps, profile, *instant)
    walk.late = late
    walk.stand(0, {})
    walk.lowest_equity = walk.equity
    if not detail:
        walk.run_legs()
    for number in range(len(detail)):
        walk = _through(walk, number, path)
    return Plan(walk.events, walk.equity, (*walk.lows, walk.lowest_equity), walk.liquidated, walk.paid_in, walk.failed)


def _through(walk: "_Walk", number: int, path: str) -> "_Walk":
    """Return the walk at the close of a part of the bar, from the one at the close of the part before it."""
    walk.stand(number, {})
    if number:
        walk.meet_open()
    tracks = walk.ground.detail[number].values()
    if walk.is_calm():
        if path == "worst":  # nothing happens, but equity is at its lowest where the extremes meet
            walk.stand(number, _own_worse(walk.account, tracks, walk.orders))
        walk.glide()
        return walk
    adverse, favourable = _by_equity([walk.fork(number, dict.fromkeys(walk.ground.detail[number], way)) for way in (True, False)])
    if path == "favourable":
        return favourable
    sides = _own_worse(walk.account, tracks, walk.orders) if path == "worst" else {}
    return worse_of(adverse, walk.fork(number, sides) if _is_apart(sides) else None)


class _Ground:
    """The corners of a bar's contracts, and of its parts where there is detail."""

    def __init__(self, tracks: Sequence[Track], detail: Sequence[Mapping[str, Track]], low_first: bool | Mapping[str, bool]) -> None:
        self.detail, self.parts = detail, max(len(detail), 1)
        sides = {track.symbol: low_first if isinstance(low_first, bool) else low_first.get(track.symbol, True) for track in tracks}
        self.marks = {track.symbol: _grid(_mark_corners(track, sides[track.symbol]), self.parts) for track in tracks}
        self.last = {
            track.symbol: _grid(_last_corners(track.last, sides[track.symbol]), self.parts) for track in tracks if track.last is not None
        }

    def corners(self, number: int, sides: Mapping[str, bool]) -> tuple[dict[str, Sequence[float]], dict[str, Sequence[float]]]:
        """Return the corners of mark and last in one part of the bar; ``sides`` says who goes low first there (else: all)."""
        first = number * LEGS
        marks: dict[str, Sequence[float]] = {symbol: grid[first : first + LEGS + 1] for symbol, grid in self.marks.items()}
        last: dict[str, Sequence[float]] = {symbol: grid[first : first + LEGS + 1] for symbol, grid in self.last.items()}
        for symbol, track in self.detail[number].items() if self.detail else ():
            marks[symbol] = _mark_corners(track, sides.get(symbol, True))
            if track.last is not None:
                last[symbol] = _last_corners(track.last, sides.get(symbol, True))
        return marks, last

    def marks_after(self, number: int, symbol: str) -> Iterable[float]:
        """Return the marks that a contract has still to meet in the parts after this one, their extremes among them."""
        for later in range(number + 1, self.parts):
            track = self.detail[later].get(symbol)
            first = later * LEGS
            yield from self.marks[symbol][first : first + LEGS + 1] if track is None else (track.mark_low, track.mark_high)


class _Walk:
    def __init__(
        self,
        account: MarginAccount,
        ground: _Ground,
        orders: list[WorkingOrder],
        stamps: Iterable[PathStamp],
        profile: Profile,
        opening: float,
        bar_seconds: float,
        cooldown: Cooldown,
    ) -> None:
        self.account, self.ground, self.orders, self.profile = account, ground, orders, profile
        self.opening, self.bar_seconds, self.cooldown = opening, bar_seconds, cooldown
        self.stamps = sorted(stamps, key=lambda stamp: stamp.fraction)
        self.mark_corners: dict[str, Sequence[float]] = {}
        self.last_corners: dict[str, Sequence[float]] = {}
        self.marks: dict[str, float] = {}
        self.number, self.leg, self.fraction = 0, 0, 0.0
        self.events: list[PathEvent] = []
        self.late: Sequence[LateStamp] = ()
        self.liquidated: Counter[str] = Counter()
        self.failed: dict[str, float] = {}
        self.paid_in = 0.0
        self.lowest_equity = inf  # since money last came in from outside
        self.lows: tuple[float, ...] = ()  # before each time it did

    @property
    def equity(self) -> float:
        """The account's equity at the present marks."""
        return self.account.equity(self.marks)

    @property
    def own_equity(self) -> float:
        """Equity less the money from outside that came in on the way."""
        return self.equity - self.paid_in

    def stand(self, number: int, sides: Mapping[str, bool]) -> None:
        """Go to the opening of a part of the bar."""
        self.number, self.leg, self.fraction = number, 0, 0.0
        self.mark_corners, self.last_corners = self.ground.corners(number, sides)
        self.marks = {symbol: corners[0] for symbol, corners in self.mark_corners.items()}

    def fork(self, number: int, sides: Mapping[str, bool]) -> "_Walk":
        """Return what a copy of this walk, which stands at a part's opening, is at its close."""
        walk = _Walk(
            self.account.clone(),
            self.ground,
            [replace(order) for order in self.orders],
            self.stamps,
            self.profile,
            *(self.opening, self.bar_seconds, self.cooldown.clone()),
        )
        walk.events, walk.liquidated, walk.failed = list(self.events), Counter(self.liquidated), dict(self.failed)
        walk.late, walk.lowest_equity, walk.lows, walk.paid_in = self.late, self.lowest_equity, self.lows, self.paid_in
        walk.stand(number, sides)
        walk.run_legs()
        return walk

    def meet_open(self) -> None:
        """Meet at one instant what the jump to this part's open brings: its stamps, the test, then the orders jumped over."""
        for stamp in [stamp for stamp in self.stamps if stamp.fraction * self.ground.parts <= self.number + AN_INSTANT]:
            self._pay(stamp)
        self._test()
        self.lowest_equity = min(self.lowest_equity, self.equity)  # not before the test: what the fund has paid was no equity
        for order in list(self.orders):
            opened = self.last_corners[order.symbol][0]
            if order in self.orders and _is_reached_by(order, opened):
                self._gap(order, opened)
        self._test()

    def is_calm(self) -> bool:
        """Whether nothing can happen in this part of the bar: no order or stamp is due, and no wallet can fail."""
        if any(stamp.fraction * self.ground.parts < self.number + 1 for stamp in self.stamps):
            return False
        for order in self.orders:
            corners = self.last_corners[order.symbol]
            if _is_reached_by(order, min(corners)) or _is_reached_by(order, max(corners)):
                return False
        headroom: dict[str, float] = {}
        for symbol, position in self.account.positions.items():
            if position.size:
                marks = self.mark_corners[symbol]
                if position.is_plain:
                    own = position.headroom((min if position.size > 0 else max)(marks))
                else:
                    own = least_headroom(position, min(marks), max(marks))
                headroom[position.wallet] = headroom.get(position.wallet, self.account.wallets[position.wallet]) + own
        return all(left > 0 for left in headroom.values())

    def glide(self) -> None:
        """Pass to the close of a part of the bar in which nothing happens."""
        for leg in range(LEGS):
            self._move_marks(leg, 1.0)

    def run_legs(self) -> None:
        """Walk a part of the bar from its opening to its close."""
        for leg in range(LEGS):
            self.run_leg(leg)

    def run_leg(self, leg: int) -> None:
        """Meet the events of one leg in order and leave the marks at its end."""
        fraction = 0.0
        while True:
            wallet, failing = self._next_failure(leg, fraction)
            stamps, due = self._next_stamps(leg, fraction)
            orders, reached = self._next_orders(leg, fraction)
            fraction = min(failing, due, reached)
            if fraction > 1.0:
                break
            self._move_marks(leg, fraction)
            if wallet is not None and failing <= fraction:
                self._liquidate(wallet)
            else:
                for stamp in stamps if due <= fraction else ():
                    self._pay(stamp)
                for order in orders if reached <= fraction else ():
                    if order in self.orders:
                        self._reach(order, leg, fraction)
            self._test()
        self._move_marks(leg, 1.0)
        self._test()

    # -- where the next event lies, as a fraction of the leg; inf where there is none --------------------------------

    def _next_failure(self, leg: int, start: float) -> tuple[str | None, float]:
        found: tuple[str | None, float] = (None, inf)
        for wallet in self._wallets():
            crossing = self._crossing(wallet, leg, start)
            if crossing < found[1]:
                found = (wallet, crossing)
        return found

    def _next_stamps(self, leg: int, start: float) -> tuple[list[PathStamp], float]:
        if not self.stamps:
            return [], inf
        first, parts = self.stamps[0].fraction, self.ground.parts
        place = (first * parts - self.number) * LEGS - leg
        is_of_next = leg == LEGS - 1 and self.number < parts - 1 and place > 1.0 - AN_INSTANT  # it is met at that one's open
        if place > 1.0 or is_of_next:
            return [], inf
        return [stamp for stamp in self.stamps if stamp.fraction == first], max(place, start)

    def _next_orders(self, leg: int, start: float) -> tuple[list[WorkingOrder], float]:
        found: tuple[list[WorkingOrder], float] = ([], inf)
        for order in self.orders:
            corners = self.last_corners[order.symbol]
            reached = _reached(order, corners[leg], corners[leg + 1], start)
            if reached < found[1]:
                found = ([order], reached)
            elif reached == found[1] < inf:
                found[0].append(order)
        return found

    def _crossing(self, wallet: str, leg: int, start: float) -> float:
        """Return where on the leg equity first meets maintenance.

        Of plain positions headroom (equity - maintenance) is concave in the fraction, because maintenance is convex in the
        notional. It is positive at ``start``; if it is positive at the end it is positive throughout.
        """
        held = list(self.account.held(wallet))
        if not all(position.is_plain for position in held):
            return self._stretched_crossing(wallet, held, leg, start)
        if self._headroom(wallet, held, leg, 1.0) > 0:
            return inf
        edges = sorted({edge for position in held for edge in self._tier_edges(position, leg, start)} | {1.0})
        low, above = start, self._headroom(wallet, held, leg, start)
        if above <= 0:
            return start
        for edge in edges:
            below = self._headroom(wallet, held, leg, edge)
            if below <= 0:
                return low + (edge - low) * above / (above - below)
            low, above = edge, below
        return 1.0

    def _stretched_crossing(self, wallet: str, held: Sequence[Position], leg: int, start: float) -> float:
        """Return the same of any positions, by the stretches between tier edges.

        The tiers of a stretch are those of its middle: an upper edge belongs to the tier below it, so where a requirement
        jumps, it does just past the edge, and the next stretch begins failed.
        """
        edges = sorted({edge for position in held for edge in self._tier_edges(position, leg, start)} | {1.0})
        for edge in edges:
            found = first_crossing(self._curve(wallet, held, leg, (start + edge) / 2), start, edge)
            if found is not None:
                return found
            start = edge
        return inf

    def _curve(self, wallet: str, held: Sequence[Position], leg: int, middle: float) -> Curve:
        """Return the headroom on the stretch around a fraction, in ``t``: each mark is ``begin + (end - begin) * t``."""
        constant, slope = self._balance(wallet, held), 0.0
        poles: dict[tuple[float, float], float] = {}
        for position in held:
            contract = position.contract
            begin, end = self.mark_corners[contract.symbol][leg : leg + 2]
            bracket = bracket_at(position.brackets, position.notional(self._mark_at(contract.symbol, leg, middle)))
            units = position.size * contract.multiplier
            if contract.kind == "inverse":
                constant += units / position.entry_price + bracket.amount
                pole = (begin, end - begin)
                poles[pole] = poles.get(pole, 0.0) - units - abs(units) * bracket.rate
            else:
                weight = units - abs(units) * bracket.rate
                constant += weight * begin - units * position.entry_price + bracket.amount
                slope += weight * (end - begin)
        return Curve(constant, slope, tuple(Pole(weight, *pole) for pole, weight in poles.items()))

    def _headroom(self, wallet: str, held: Sequence[Position], leg: int, fraction: float) -> float:
        headroom = self._balance(wallet, held)
        for position in held:
            mark_price = self._mark_at(position.contract.symbol, leg, fraction)
            headroom += position.unrealized_pnl(mark_price) - position.maintenance_margin(mark_price)
        return headroom

    def _balance(self, wallet: str, held: Sequence[Position]) -> float:
        """Return a wallet's balance; a hair more where it fails only below maintenance, so that to touch it is not to cross it."""
        balance = self.account.wallets[wallet]
        if self.profile.is_strict:
            balance += NOTHING * sum((position.notional(position.entry_price) for position in held), abs(balance))
        return balance

    def _tier_edges(self, position: Position, leg: int, start: float) -> Iterable[float]:
        corners = self.mark_corners[position.contract.symbol]
        begin, end = corners[leg], corners[leg + 1]
        units = abs(position.size) * position.contract.multiplier
        if begin == end:
            return
        is_inverse = position.contract.kind == "inverse"
        for bracket in position.brackets[:-1]:
            price = units / bracket.cap if is_inverse else bracket.cap / units
            fraction = (price - begin) / (end - begin)
            if start < fraction < 1.0:
                yield fraction

    def _mark_at(self, symbol: str, leg: int, fraction: float) -> float:
        corners = self.mark_corners[symbol]
        begin, end = corners[leg], corners[leg + 1]
        return end if fraction == 1.0 else begin + (end - begin) * fraction

    def _move_marks(self, leg: int, fraction: float) -> None:
        self.leg, self.fraction = leg, fraction
        for symbol in self.marks:
            self.marks[symbol] = self._mark_at(symbol, leg, fraction)
        self.lowest_equity = min(self.lowest_equity, self.account.equity(self.marks))

    def _wallets(self) -> list[str]:
        """Wallets that hold something; isolated ones first, as they go when several fail together (R18)."""
        holding = dict.fromkeys(position.wallet for position in self.account.positions.values() if position.size)
        return sorted(holding, key=lambda wallet: wallet == "wallet:cross")

    # -- the events --------------------------------------------------------------------------------------------------

    def _test(self) -> None:
        for wallet in self._wallets():
            if self.profile.fails(self.account.risk(wallet, self.marks)):
                self._liquidate(wallet)

    def _liquidate(self, wallet: str) -> None:
        if not self._top_up(wallet):
            self._sell(wallet)

    def _top_up(self, wallet: str) -> bool:
        """Add to a failed wallet what its rule adds, and return whether that is something, which then saves it."""
        step = plan_top_up(self.account, wallet, self.marks)
        if step is None:
            return False
        self._record("top_up", step, 0.0)
        if step.from_outside:
            self.lows = (*self.lows, max(min(self.lowest_equity, self.equity), 0.0))
        self.account.add_top_up(step, time=0.0)
        if step.from_outside:
            self.paid_in += step.amount
            self.lowest_equity = self.equity
        return True

    def _sell(self, wallet: str) -> None:
        self._record("liquidation", wallet, 0.0)
        now = self.opening + self.place * self.bar_seconds
        steps = plan_liquidation(
            self.account,
            wallet,
            self.marks,
            self.profile,
            now=now,
            bar_seconds=self.bar_seconds / self.ground.parts,
            cooldown=self.cooldown,
            last=self._last_prices(),
            has_failed=True,
            **marks_of_bar(self.account, self._ranges()),
        )
        for step in steps:
            self.failed.setdefault(step.symbol, self.account.positions[step.symbol].size)
            cancelled = self.profile.cancelled_symbols(self.account, step.symbol)
            self.account.apply(step, time=0.0)
            self.cooldown.note(self.account, step, now)
            self.liquidated[step.symbol] += 1
            for symbol in cancelled:
                self.account.release_symbol(symbol)  # also of orders that this bar cannot reach
            for order in [order for order in self.orders if order.symbol in cancelled]:
                self._end(order)

    def _ranges(self) -> dict[str, tuple[float, float]]:
        """Return the lowest and highest mark of each contract from here on, the present one among them."""
        ahead = {
            symbol: (self.marks[symbol], *corners[self.leg + 1 :], *self.ground.marks_after(self.number, symbol))
            for symbol, corners in self.mark_corners.items()
        }
        return {symbol: (min(marks), max(marks)) for symbol, marks in ahead.items()}

    @property
    def place(self) -> float:
        """Where the walk stands, as a fraction of the bar."""
        return (self.number + (self.leg + self.fraction) / LEGS) / self.ground.parts

    def _last_prices(self) -> dict[str, float]:
        prices = {}
        for symbol, corners in self.last_corners.items():
            begin, end = corners[self.leg], corners[self.leg + 1]
            prices[symbol] = begin + (end - begin) * self.fraction
        return prices

    def _pay(self, stamp: PathStamp) -> None:
        self.stamps.remove(stamp)
        self._book(stamp)

    def _pay_late(self, symbol: str, opened: float) -> None:
        """Charge what was opened with the stamps whose grace is not over."""
        for stamp, grace in self.late:
            if stamp.symbol == symbol and -AN_INSTANT <= self.place - stamp.fraction <= grace + AN_INSTANT:
                self._book(stamp._replace(size=opened))

    def _book(self, stamp: PathStamp) -> None:
        self._record("funding", stamp, stamp.mark_price)
        self.account.pay_funding(stamp.symbol, mark_price=stamp.mark_price, rate=stamp.rate, time=0.0, marks=self.marks, size=stamp.size)

    def _reach(self, order: WorkingOrder, leg: int, fraction: float) -> None:
        if order.stop is not None and order.limit is not None:
            self._trigger(order, leg, fraction)
            return
        price = order.limit if order.limit is not None else order.stop_fill
        if price is None:  # slipped out of the bar: the order stays, but not on this bar
            self.orders.remove(order)
            return
        self._fill(order, price)

    def _gap(self, order: WorkingOrder, price: float) -> None:
        """Fill an order that prices jumped over at the open they came to; a stop-limit becomes a limit there."""
        if order.stop is not None and order.limit is not None:
            self._record("trigger", order.ref, price)
            order.stop = None
            if not _is_reached_by(order, price):
                order.fee_rate = order.fee_rate if order.resting_fee_rate is None else order.resting_fee_rate
                return
        fill = price if order.gap_fill is None else order.gap_fill(price)
        if fill is None:
            self.orders.remove(order)
            return
        self._fill(order, fill)

    def _trigger(self, order: WorkingOrder, leg: int, fraction: float) -> None:
        """Turn a reached stop-limit into a limit, filled at once where the market already stands within it."""
        stop_fill, limit = order.stop_fill, order.limit
        assert order.stop is not None
        self._record("trigger", order.ref, order.stop)
        order.stop = None
        begin, end = self.last_corners[order.symbol][leg : leg + 2]
        if stop_fill is not None and limit is not None and _is_reached_by(order, begin + (end - begin) * fraction):
            self._fill(order, min(stop_fill, limit) if order.size > 0 else max(stop_fill, limit))

    def _fill(self, order: WorkingOrder, price: float) -> None:
        self._record("fill", order.ref, price)
        resting = self.account.resting(order.ref)
        self.account.release_group(order.oco)
        size, rest = order.size, order.rest
        if order.reduces:  # it closes at most what is held, and ends where that is less than it
            held = self.account.positions[order.symbol].size
            size = 0.0 if held * size >= 0 else size if abs(size) < abs(held) else -held
            rest = rest if size == order.size and abs(held) > abs(size) else 0.0
        refused = None
        if size:
            booked, refused = self.account.execute(
                order.symbol, size=size, price=price, fee_rate=order.fee_rate, marks=self.marks, time=0.0
            )
            if booked.opened and self.late:
                self._pay_late(order.symbol, booked.opened)
        self.orders.remove(order)
        if rest and refused is None and resting is not None:
            self.account.reserve(resting._replace(size=rest))
        ends_bracket = order.bracket is not None and (not rest or refused is not None)
        for other in list(self.orders):
            if other.oco == order.oco or (ends_bracket and other.bracket == order.bracket):
                self._end(other)

    def _end(self, order: WorkingOrder) -> None:
        self.account.release(order.ref)
        self.orders.remove(order)

    def _record(self, kind: str, subject: object, price: float) -> None:
        ahead = self._ranges() if kind == "liquidation" else {}
        self.events.append(PathEvent(kind, subject, price, dict(self.marks), self._last_prices(), self.place, ahead, self.number))


def _grid(corners: Sequence[float], parts: int) -> list[float]:
    """Return a path at the corners of ``parts`` equal parts of its bar, which its own corners are among."""
    if parts == 1:
        return list(corners)
    steps = [divmod(step, parts) for step in range(LEGS * parts)]
    return [corners[leg] + (corners[leg + 1] - corners[leg]) * (rest / parts) for leg, rest in steps] + [corners[-1]]


def _mark_corners(track: Track, low_first: bool) -> tuple[float, float, float, float]:
    extremes = (track.mark_low, track.mark_high) if low_first else (track.mark_high, track.mark_low)
    return (track.mark_open, *extremes, track.mark_close)


def _last_corners(last: tuple[float, float, float, float], low_first: bool) -> tuple[float, float, float, float]:
    first, high, low, close = last
    return (first, low, high, close) if low_first else (first, high, low, close)


def _is_reached_by(order: WorkingOrder, price: float) -> bool:
    """Whether a last price stands at or beyond an order's active level."""
    if order.stop is not None:
        return price >= order.stop if order.size > 0 else price <= order.stop
    assert order.limit is not None
    return price <= order.limit if order.size > 0 else price >= order.limit


def _reached(order: WorkingOrder, begin: float, end: float, start: float) -> float:
    """Return the fraction of the leg at which the last price first reaches an order, not before ``start``."""
    if _is_reached_by(order, begin + (end - begin) * start):
        return start
    if not _is_reached_by(order, end):
        return inf
    level = order.stop if order.stop is not None else order.limit
    assert level is not None
    return max((level - begin) / (end - begin), start)
