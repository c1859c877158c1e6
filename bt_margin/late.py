"""Observers of the account that write their lines late: in one go, once somebody looks at them or the run is over.

An observer asks the broker on every bar. In a lull nothing changes but the marks, so that what it would have been told on
each bar follows from what the lull carries, for all its bars at once and by the same operations: the same numbers to the
last digit. On all other bars it is asked as ever. Its lines stand empty meanwhile, and write themselves where anything of
them is touched, be it by a strategy that reads them: from then on they are written on every bar.

An observer that may wait says so in its own class, ``may_wait = True`` (a subclass is another one), and has two methods:
``say()``, the values of its lines as of this bar, and ``say_of(stretch)``, those of all bars of a ``Stretch``.
"""

from array import array
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from backtrader.linebuffer import LineBuffer

from .broker import MarginBroker
from .core.contract import notional
from .core.ledger import CROSS
from .core.liquidation import EDGE_SLACK, NOTHING, is_paid_for, liquidation_price
from .core.tiers import Bracket
from .passed import Carried, HoldingTerms, maintenance_margins

if TYPE_CHECKING:
    import numpy as np

    from .slots import Slot

TOUCHED = ("array", "_idx", "lencount", "bindings")  # all that a line's methods go by


class Held(NamedTuple):
    """What a lull carries of one position, by name."""

    slot: "Slot"
    units: float
    brackets: Sequence[Bracket]
    terms: HoldingTerms

    @property
    def entry_price(self) -> float:
        return self.terms[2]

    @property
    def is_cross(self) -> bool:
        return not self.terms[4]


class Stretch:
    """Bars ``start`` to ``end`` of the feeds (from 0) on which the account differs by its marks alone."""

    def __init__(self, start: int, carried: Sequence[Carried], wallet_balance: float) -> None:
        self.start, self.end, self.wallet_balance = start, start + 1, wallet_balance
        self.carried = [Held(*one) for one in carried]

    @cached_property
    def _marks(self) -> "list[np.ndarray]":
        import numpy as np

        return [np.frombuffer(one.slot.mark_closes, np.float64, self.end - self.start, 8 * self.start) for one in self.carried]

    @cached_property
    def _profits(self) -> "list[np.ndarray]":
        return [one.units * (marks - one.entry_price) for one, marks in zip(self.carried, self._marks, strict=True)]

    @cached_property
    def _maintenance(self) -> "list[np.ndarray]":
        return [maintenance_margins(one.brackets, abs(one.units) * marks) for one, marks in zip(self.carried, self._marks, strict=True)]

    @cached_property
    def _wallets(self) -> dict[str, tuple[float, list[int]]]:
        """By wallet: its balance, and which of what is carried it backs."""
        wallets: dict[str, tuple[float, list[int]]] = {}
        for place, one in enumerate(self.carried):
            wallets.setdefault(CROSS if one.is_cross else one.slot.symbol, (one.terms[3], []))[1].append(place)
        return wallets

    @property
    def equity(self) -> Any:
        """All wallets plus unrealized profit, by bar."""
        return sum(self._profits, self.wallet_balance)

    @property
    def margin_ratio(self) -> Any:
        """Maintenance margin / equity of the wallet that is nearest to liquidation, by bar; NaN where none has equity."""
        import numpy as np

        ratios = [np.full(self.end - self.start, np.nan)]
        for balance, places in self._wallets.values():
            equity = sum((self._profits[place] for place in places), balance)
            maintenance = sum((self._maintenance[place] for place in places), 0.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratios.append(np.where(equity > 0, maintenance / equity, np.nan))
        return np.fmax.reduce(ratios)

    def liquidation_price(self, data: Any) -> Any:
        """Return the mark at which a data's position would be liquidated, by bar, the other marks as they are; NaN where none."""
        import numpy as np

        place = next((place for place, one in enumerate(self.carried) if one.slot.data is data), None)
        if place is None:
            return np.nan
        one = self.carried[place]
        balance, places = self._wallets[CROSS if one.is_cross else one.slot.symbol]
        if self._owes_nothing(balance, places):
            return np.nan
        if places == [place]:
            price = liquidation_price(size=one.units, entry_price=one.entry_price, collateral=balance, table=one.brackets)
            return np.nan if price is None else price
        collateral: Any = balance
        for other in places:
            if other != place:
                collateral = collateral + (self._profits[other] - self._maintenance[other])
        return _prices(one.units, one.entry_price, collateral, one.brackets)

    def _owes_nothing(self, balance: float, places: Sequence[int]) -> bool:
        held = [self.carried[place] for place in places]
        if any(one.slot.position.contract.kind != "spot" for one in held):
            return False
        return is_paid_for(balance, sum(notional(size=one.units, price=one.entry_price) for one in held))


class Late:
    """The observers of one strategy that wait."""

    def __init__(self, broker: MarginBroker, observers: Sequence[Any]) -> None:
        self.broker, self.observers = broker, observers
        self.is_over = not observers
        self.bars = 0
        self._began = -1  # with which bar the last stretch's lull began
        self._stretches: list[Stretch] = []
        self._asked: list[tuple[int, list[tuple[float, ...]]]] = []
        for line in self._lines():
            vars(line)["late"] = self
            line.__class__ = LateLine

    def _lines(self) -> list[Any]:
        return [line for observer in self.observers for line in observer.lines.lines]

    def note(self, index: int) -> None:
        """Take note of a bar, counted from 0."""
        lull = self.broker.lull
        if not lull.stands_on(index + 1):
            self._asked.append((index, [observer.say() for observer in self.observers]))
        elif lull.began == self._began and self._stretches[-1].end == index:
            self._stretches[-1].end = index + 1
        else:
            self._began = lull.began
            self._stretches.append(Stretch(index, lull.carried, lull.balances[0]))
        self.bars = index + 1

    def write(self) -> None:
        """Write all lines up to the last bar noted, and leave them to be written bar by bar."""
        if self.is_over:
            return
        import numpy as np

        self.is_over = True
        for line in self._lines():
            line.__class__ = LineBuffer
            del line.late
        for number, observer in enumerate(self.observers):
            values = np.empty((len(observer.lines.lines), self.bars))
            for stretch in self._stretches:
                for column, said in zip(values, observer.say_of(stretch), strict=True):
                    column[stretch.start : stretch.end] = said
            for index, told in self._asked:
                values[:, index] = told[number]
            for line, column in zip(observer.lines.lines, values, strict=True):
                # As the host leaves it: what lay there before the first bar, all of it NaN, and a place more for every bar.
                line.array[:0] = array("d", column.tobytes())
                line._idx, line.lencount = self.bars - 1, self.bars
        self._stretches.clear()
        self._asked.clear()


class LateLine(LineBuffer):
    """A line that is written as soon as anything of it is touched, and is then one of the host's."""


def _touching(name: str) -> property:
    def get(line: Any) -> Any:
        line.late.write()
        return vars(line)[name]

    def put(line: Any, value: Any) -> None:
        line.late.write()
        vars(line)[name] = value

    return property(get, put)


for _name in TOUCHED:
    setattr(LateLine, _name, _touching(_name))


def waiting(broker: Any, observers: Sequence[Any]) -> Late:
    """Return the observers of a strategy, before its first bar, that may wait."""
    can_wait = isinstance(broker, MarginBroker) and type(broker).next is MarginBroker.next and "next" not in vars(broker)
    return Late(broker, [observer for observer in observers if can_wait and _may_wait(observer)])


def _may_wait(observer: Any) -> bool:
    if "may_wait" not in vars(type(observer)) or observer._analyzers or {"next", "prenext", "nextstart"} & set(vars(observer)):
        return False
    lines = observer.lines.lines
    return all(type(line) is LineBuffer and line.mode == line.UnBounded and not (line.lencount or line.bindings) for line in lines)


def _prices(units: float, entry_price: float, collateral: Any, brackets: Sequence[Bracket]) -> Any:
    """Return ``core.liquidation.liquidation_price`` of a plain position for each collateral, NaN where there is none."""
    import numpy as np

    gross, floor, worth, found = abs(units), 0.0, units * entry_price - collateral, np.full(len(collateral), np.nan)
    for bracket in reversed(brackets):
        is_last = bracket is brackets[-1]
        floor = max((other.cap for other in brackets if other.cap < bracket.cap), default=0.0)
        x = (worth - bracket.amount) / (units - gross * bracket.rate)
        measure = gross * x
        fits = (x > NOTHING * entry_price) & (floor * (1 - EDGE_SLACK) <= measure)
        if not is_last:
            fits &= measure <= bracket.cap * (1 + EDGE_SLACK)
        found = np.where(fits, x, found)  # the first tier that fits is written last
    return found
