"""What happens inside one bar, planned on a copy of the account.

All contracts share one clock of three equal legs: open to one extreme, to the other, to the close. On a leg every
series is a straight line. Events are met in the order of the clock: an order where the last price reaches it, a
funding stamp at its own time, a wallet where its equity meets its maintenance. Equity is linear on a leg and
maintenance piecewise linear in the notional, so the crossing is solved, not sampled; so is that of inverse contracts,
whose terms are hyperbolas. Where the requirement of a slab table jumps over what equity is left, the edge is the
crossing. At one instant liquidation comes first, then funding, then fills; every event is followed by the test at the
same marks.

The plan is a list of events for the caller to repeat on the real account.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import NamedTuple

from .account import MarginAccount, Position
from .crossing import Curve, Pole, first_crossing
from .liquidation import NOTHING
from .profiles import Cooldown, Profile, marks_of_bar, plan_liquidation
from .tiers import bracket_at
from .top_up import plan_top_up

LEGS = 3


class Track(NamedTuple):
    """Four corners of one contract's bar; ``last`` is None where the contract has no new bar, its mark then stands still."""

    symbol: str
    mark_open: float
    mark_high: float
    mark_low: float
    mark_close: float
    last: tuple[float, float, float, float] | None


@dataclass(slots=True, eq=False)
class WorkingOrder:
    """A resting order as the path sees it.

    ``size`` is what may fill in this bar (signed), ``rest`` what a volume filler leaves for later bars. ``stop`` is the
    trigger (None for a limit), ``stop_fill`` the price a triggered stop pays, ``limit`` the limit price (None for a
    plain stop). Orders of one ``oco`` group end each other; so do the exits of one ``bracket``.
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

    Kinds: ``trigger`` and ``fill`` (order), ``funding`` (PathStamp), ``top_up`` (TopUpStep), ``liquidation`` (wallet).
    ``marks`` and ``last`` are the prices of the instant, ``fraction`` (0 to 1) is its place in the bar; of a liquidation,
    ``ahead`` are the lowest and the highest mark of each contract from there on.
    """

    kind: str
    subject: object
    price: float
    marks: dict[str, float]
    last: dict[str, float]
    fraction: float
    ahead: dict[str, tuple[float, float]]


class Plan(NamedTuple):
    """Events in order, the account's equity at the closing marks and at its lowest, and the steps that took each contract.

    ``paid_in`` of that equity is money from outside that came in on the way.
    """

    events: list[PathEvent]
    equity: float
    lowest_equity: float
    liquidated: Counter[str]
    paid_in: float = 0.0

    @property
    def own_equity(self) -> float:
        """What is left at the closing marks of what the account had, by which two paths are compared."""
        return self.equity - self.paid_in


def plan_path(
    account: MarginAccount,
    tracks: Sequence[Track],
    orders: Iterable[WorkingOrder],
    stamps: Iterable[PathStamp],
    profile: Profile,
    *,
    low_first: bool,
    opening: float = 0.0,
    bar_seconds: float = 0.0,
    cooldown: Cooldown | None = None,
    late: Sequence[LateStamp] = (),
) -> Plan:
    """Return what one market path, low first or high first, does to the account; the account itself is left alone.

    The bar opens at ``opening`` (seconds UTC); with its length and ``cooldown`` this tells how long ago a position was sold
    in part. ``late`` are the stamps that openings inside the bar may still pay.
    """
    copies = [replace(order) for order in orders]
    instant = (opening, bar_seconds, (cooldown or Cooldown()).clone())
    walk = _Walk(account.clone(), tracks, copies, stamps, profile, low_first, *instant)
    walk.late = late
    for leg in range(LEGS):
        walk.run_leg(leg)
    return Plan(walk.events, walk.account.equity(walk.marks), walk.lowest_equity, walk.liquidated, walk.paid_in)


class _Walk:
    def __init__(
        self,
        account: MarginAccount,
        tracks: Sequence[Track],
        orders: list[WorkingOrder],
        stamps: Iterable[PathStamp],
        profile: Profile,
        low_first: bool,
        opening: float,
        bar_seconds: float,
        cooldown: Cooldown,
    ) -> None:
        self.account, self.orders, self.profile = account, orders, profile
        self.opening, self.bar_seconds, self.cooldown = opening, bar_seconds, cooldown
        self.stamps = sorted(stamps, key=lambda stamp: stamp.fraction)
        self.mark_corners = {track.symbol: _mark_corners(track, low_first) for track in tracks}
        self.last_corners = {track.symbol: _last_corners(track.last, low_first) for track in tracks if track.last is not None}
        self.marks = {symbol: corners[0] for symbol, corners in self.mark_corners.items()}
        self.leg, self.fraction = 0, 0.0
        self.events: list[PathEvent] = []
        self.late: Sequence[LateStamp] = ()
        self.liquidated: Counter[str] = Counter()
        self.paid_in = 0.0
        self.lowest_equity = account.equity(self.marks)

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
        if not self.stamps or self.stamps[0].fraction * LEGS - leg > 1.0:
            return [], inf
        first = self.stamps[0].fraction
        return [stamp for stamp in self.stamps if stamp.fraction == first], max(first * LEGS - leg, start)

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
        self.account.add_top_up(step, time=0.0)
        self.paid_in += step.amount if step.from_outside else 0.0
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
            bar_seconds=self.bar_seconds,
            cooldown=self.cooldown,
            last=self._last_prices(),
            has_failed=True,
            **marks_of_bar(self.account.positions, self._ranges()),
        )
        for step in steps:
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
        ahead = {symbol: (self.marks[symbol], *corners[self.leg + 1 :]) for symbol, corners in self.mark_corners.items()}
        return {symbol: (min(marks), max(marks)) for symbol, marks in ahead.items()}

    @property
    def place(self) -> float:
        """Where the walk stands, as a fraction of the bar."""
        return (self.leg + self.fraction) / LEGS

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
            if stamp.symbol == symbol and 0.0 <= self.place - stamp.fraction <= grace:
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

    def _trigger(self, order: WorkingOrder, leg: int, fraction: float) -> None:
        """Turn a reached stop-limit into a limit, filled at once where the market already stands within it."""
        self._record("trigger", order.ref, 0.0)
        stop_fill, limit = order.stop_fill, order.limit
        order.stop = None
        begin, end = self.last_corners[order.symbol][leg : leg + 2]
        if stop_fill is not None and limit is not None and _is_reached_by(order, begin + (end - begin) * fraction):
            self._fill(order, min(stop_fill, limit) if order.size > 0 else max(stop_fill, limit))

    def _fill(self, order: WorkingOrder, price: float) -> None:
        self._record("fill", order.ref, price)
        reserved = self.account.reservation(order.ref)
        self.account.release_group(order.oco)
        booked, refused = self.account.execute(
            order.symbol, size=order.size, price=price, fee_rate=order.fee_rate, marks=self.marks, time=0.0
        )
        if booked.opened and self.late:
            self._pay_late(order.symbol, booked.opened)
        self.orders.remove(order)
        if order.rest and refused is None and reserved:
            share = abs(order.rest) / (abs(order.rest) + abs(order.size))
            self.account.reserve(order.ref, reserved * share, symbol=order.symbol, group=order.oco)
        ends_bracket = order.bracket is not None and (not order.rest or refused is not None)
        for other in list(self.orders):
            if other.oco == order.oco or (ends_bracket and other.bracket == order.bracket):
                self._end(other)

    def _end(self, order: WorkingOrder) -> None:
        self.account.release(order.ref)
        self.orders.remove(order)

    def _record(self, kind: str, subject: object, price: float) -> None:
        ahead = self._ranges() if kind == "liquidation" else {}
        self.events.append(PathEvent(kind, subject, price, dict(self.marks), self._last_prices(), self.place, ahead))


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
