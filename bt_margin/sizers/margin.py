"""Rules that know the liquidation price: the stop comes first, size, margin and leverage follow from it.

All of them reckon with the account as it would be after the order's fill at the price that is known, one maintenance margin or
several times it being due at an adverse price. Other contracts are taken at their present marks: where their losses take the
shared wallet's money later, the liquidation price comes nearer.
"""

from math import inf
from typing import Any, ClassVar

from ..core.contract import average_entry
from ..core.sizing import Adverse, implied_leverage, largest_share, margin_to_survive, whole_leverage, worth_at_ratio
from .base import FROM_0, INSIDE, SHARE, SWITCH, Ask, Check, Rule, SkipError, percent, rule
from .risk import STOP_CHECKS, STOP_PARAMS, RiskToStop

BEYOND = (("slippage", 0.0), *STOP_PARAMS)
BEYOND_CHECKS: dict[str, Check] = {"slippage": FROM_0, **STOP_CHECKS}


class _Survivor(Rule):
    """A rule whose size is the largest that is alive at an adverse price, or what another rule says where that is less."""

    needs_margin = True

    def adverse(self, ask: Ask) -> tuple[float, float]:
        """Return the adverse price and how many maintenance margins have to be there."""
        raise TypeError(f"{type(self).__name__} survives nothing; write a method adverse(ask) that returns a price and a buffer")

    def wanted(self, ask: Ask) -> float:
        at, buffer = self.adverse(ask)
        size = ask.surviving(at, buffer=buffer, slippage=self.p.slippage)
        if not size > 0:
            raise SkipError("room")
        return size if self.inner is None else min(size, self.inner_wanted(ask))

    def with_inner(self, words: str) -> str:
        """Return a label with the one of the rule inside in front."""
        return words if self.inner is None else f"{self.inner_label()}, {words}"


@rule("liquidation")
class LiquidationBeyondStop(_Survivor):
    """The largest size whose liquidation price lies ``beyond`` average true ranges past the stop, or what another rule says if less.

    At B = S - side * beyond * ATR the wallet still holds its maintenance margin: of a long (W + c) / (P * (1 + f) - B * (1 - m)).
    W is the wallet behind the position (in cross with the profit of other contracts less their maintenance; isolated the margin that
    the set leverage gives it). "First the stop, then the leverage."

    Params:

      - ``inner`` (default: ``None``): a rule that may want less
      - ``beyond`` (default: ``1.0``): average true ranges, 1 to 3; it also pays for a worse open and for funding
      - ``slippage`` (default: ``0.0``): what the entry is filled worse than the price, a fraction of it
      - ``stop_atr``, ``atr``: as in ``RiskToStop``

    Source: the founding articles; derived from the account inequality, see ``core.sizing.surviving_size``.
    """

    params: Any = (("inner", None), ("beyond", 1.0), *BEYOND)
    checks: ClassVar[dict[str, Check]] = {"beyond": FROM_0, **BEYOND_CHECKS}

    def label(self) -> str:
        return self.with_inner(f"liquidation {self.p.beyond:g} ATR beyond stop")

    def adverse(self, ask: Ask) -> tuple[float, float]:
        return ask.adverse_price(self.stop_of(ask), self.p.beyond * self.range_of(ask, self.p.atr)), 1.0


@rule("maintenance")
class MaintenanceBuffer(_Survivor):
    """The largest size that still has ``beta`` times its maintenance margin at the stop, or what another rule says if less.

    As ``LiquidationBeyondStop`` with B = S: of a long (W + beta * c) / (P * (1 + f) - S * (1 - beta * m)).

    Params:

      - ``inner`` (default: ``None``): a rule that may want less
      - ``beta`` (default: ``2.0``): maintenance margins at the stop, 2 to 3; at 1 liquidation lies at the stop
      - ``slippage``, ``stop_atr``, ``atr``: as in ``LiquidationBeyondStop``

    Source: the founding articles, a buffer of two to three times maintenance margin.
    """

    params: Any = (("inner", None), ("beta", 2.0), *BEYOND)
    checks: ClassVar[dict[str, Check]] = {"beta": (lambda value: value >= 1, "a number of 1 or more"), **BEYOND_CHECKS}

    def label(self) -> str:
        return self.with_inner(f"{self.p.beta:g} x maintenance at stop")

    def adverse(self, ask: Ask) -> tuple[float, float]:
        return self.stop_of(ask), self.p.beta


@rule("isolated")
class IsolatedToStop(RiskToStop):
    """Risk per trade, in isolated margin so chosen that liquidation lies ``beyond`` average true ranges past the stop.

    The size is ``RiskToStop``'s. Its margin is what is lost at B = S - side * beyond * ATR and the maintenance margin there; before
    the order the leverage of the contract is set to what this implies, cut to a whole number, so that the fill moves the margin. It is
    never set above the leverage that the contract had at the first order. Where the free money is too little for that margin the size is
    less. What is added to an open position, whose leverage cannot fall, gets the margin that is missing at once, by
    ``broker.add_margin``. ``decisions`` have the leverage. It sets the contract's leverage, so a strategy should not.

    Params: as ``RiskToStop``, and

      - ``beyond`` (default: ``1.0``): average true ranges past the stop; it also pays for a worse open and for funding

    Source: derived from the account inequality, see ``core.sizing.margin_to_survive``.
    """

    params: Any = (("beyond", 1.0),)
    checks: ClassVar[dict[str, Check]] = {"beyond": FROM_0}
    needs_margin = True

    def _begin(self) -> None:
        super()._begin()
        self._ceilings: dict[int, float] = {}
        self._plan: _Plan | None = None

    def set(self, strategy: Any, broker: Any) -> None:
        """Begin to size the orders of a strategy; called by the host."""
        super().set(strategy, broker)
        positions = [slot.position for slot in broker.slots.values()]
        if positions and not any(position.is_isolated for position in positions):
            self._refuse_cross(positions[0].contract.symbol)

    def _refuse_cross(self, symbol: str) -> None:
        raise ValueError(f"IsolatedToStop: {symbol} is in cross margin, where no margin is its own; run it with margin_mode='isolated'")

    def label(self) -> str:
        return f"risk {percent(self.p.fraction)} to stop, isolated, liquidation {self.p.beyond:g} ATR beyond"

    def wanted(self, ask: Ask) -> float:
        position = ask.slot.position
        if not position.is_isolated:
            self._refuse_cross(ask.symbol)
        self._ceilings.setdefault(id(ask.data), position.leverage)
        size = super().wanted(ask)
        at = ask.adverse_price(ask.stop or 0.0, self.p.beyond * self.range_of(ask, self.p.atr))
        self._plan = _Plan(ask, at, self.p.slippage, self._ceilings[id(ask.data)])
        return size

    def fitted(self, ask: Ask, size: float) -> float:
        """Return what the free money allows of a size, once the leverage is set, or the margin added, for just that."""
        plan, self._plan = self._plan, None
        if plan is None:  # a rule around this one has not asked it
            return size
        free = (1 - self.p.spare) * ask.account.spendable(ask.slot.symbol, ask.marks)
        affordable = ask.contract.notional(1.0, plan.entry) / max(plan.ceiling, plan.position.leverage)
        size = ask.largest_size(min(size, max(free, 0.0) / affordable), lambda part: plan.cost(part) <= free)
        if not size > 0:
            raise SkipError("room")
        if not ask.contract.takes(size, ask.price, time=self.broker.now):
            raise SkipError("least")
        plan.carry_out(size)
        ask.terms_changed()
        return size


class _Plan:
    """The margin and the leverage of an isolated order that has to be alive at an adverse price."""

    def __init__(self, ask: Ask, at: float, slippage: float, ceiling: float) -> None:
        self.ask, self.at, self.ceiling = ask, at, ceiling
        self.position: Any = ask.position
        self.entry = ask.price * (1 + ask.side * slippage)
        # The legs of a hedge share their leverage, which cannot fall while one is open, nor for an order that is on its way.
        legs = ask.broker.legs_of(ask.data)
        self.is_fixed = any(leg.position.size or ask.account.positions[leg.symbol].size for leg in legs)

    def margin(self, size: float) -> float:
        """Return what the position's own wallet needs once the order has filled."""
        held, ask = self.position.size, self.ask
        total = held + ask.side * size
        entry = average_entry(
            size=held, entry_price=self.position.entry_price, added=ask.side * size, price=self.entry, kind=ask.contract.kind
        )
        case = Adverse(entry, self.at, self.position.holding(total, entry).brackets(), **ask.terms)
        return margin_to_survive(abs(total), case)

    def leverage(self, size: float) -> float:
        """Return the leverage to open a size with, 0 where more than the whole notional would have to lie behind it."""
        if self.is_fixed:
            return float(self.position.leverage)
        worth = self.ask.contract.notional(size, self.entry)
        implied = implied_leverage(worth, self.margin(size))
        if implied < 1:
            return 0.0
        allowed = self.position.table.max_leverage(self.position.measure(size, self.entry))
        return min(whole_leverage(implied), self.ceiling, max(allowed, 1.0))

    def lacking(self, size: float) -> float:
        """Return what has to be added to a position besides the margin that comes with the order."""
        if not self.is_fixed:
            return 0.0
        own = self.ask.account.wallets[self.position.wallet] + self.ask.contract.notional(size, self.entry) / self.position.leverage
        return max(self.margin(size) - own, 0.0)

    def cost(self, size: float) -> float:
        """Return what a size takes of the free money: its margin, what has to be added, the fee."""
        leverage, lacking = self.leverage(size), self.lacking(size)
        is_open = self.ask.slot.position.size * self.position.size > 0
        if not leverage or (lacking and not is_open):  # margin can be added to what is open only
            return inf
        worth = self.ask.contract.notional(size, self.entry)
        return worth / leverage + lacking + worth * max(self.ask.fee, 0.0)

    def carry_out(self, size: float) -> None:
        """Set the leverage for the order, or add the margin that an open position lacks; SkipError where the broker refuses it."""
        broker, data, lacking = self.ask.broker, self.ask.data, self.lacking(size)
        try:
            if not self.is_fixed:
                broker.set_leverage(data, self.leverage(size))
            elif lacking:
                broker.add_margin(data, lacking, side=self.ask.leg)
        except ValueError as refused:  # resting orders need the money, or more of it at another leverage
            raise SkipError("room") from refused


class _Cap(Rule):
    """A rule that lets another one's orders pass, refuses or cuts them."""

    needs_margin = True

    def largest(self, ask: Ask) -> float:
        """Return the largest notional that an order may open."""
        raise TypeError(f"{type(self).__name__} caps nothing; write a method largest(ask) that returns a notional")

    def wanted(self, ask: Ask) -> float:
        size, most = self.inner_wanted(ask), ask.worth(self.largest(ask))
        if size <= most:
            return size
        if not self.p.cut or not most > 0:
            raise SkipError("refused")
        return most


@rule("margin-ratio")
class MarginRatioCap(_Cap):
    """Refuse another rule's order where equity would be less than ``ratio`` of all notional held, or cut it to that.

    The margin ratio as the founding articles have it, equity / notional: at 10 % the account stands at 10x.

    Params:

      - ``inner`` (default: ``'risk'``): the rule that is capped
      - ``ratio`` (default: ``0.1``): equity over notional
      - ``cut`` (default: ``False``): cut an order to what the ratio allows, rather than refuse it

    Source: the founding articles, an alert at 10 %.
    """

    params: Any = (("inner", "risk"), ("ratio", 0.1), ("cut", False))
    checks: ClassVar[dict[str, Check]] = {"ratio": SHARE, "cut": SWITCH}

    def label(self) -> str:
        return f"{self.inner_label()}, margin ratio above {percent(self.p.ratio)}"

    def largest(self, ask: Ask) -> float:
        return worth_at_ratio(ask.equity_left, ask.held_notional(), ratio=self.p.ratio, fee=max(ask.fee, 0.0))


@rule("concentration")
class ConcentrationCap(_Cap):
    """Refuse another rule's order where its contract would be more than ``share`` of all notional held, or cut it to that.

    Judged where another contract is held: a book of one contract is one contract whatever its size.

    Params:

      - ``inner`` (default: ``'risk'``): the rule that is capped
      - ``share`` (default: ``0.5``): of the notional of all contracts, by mark
      - ``cut`` (default: ``False``): cut an order to the share, rather than refuse it
    """

    params: Any = (("inner", "risk"), ("share", 0.5), ("cut", False))
    checks: ClassVar[dict[str, Check]] = {"share": INSIDE, "cut": SWITCH}

    def label(self) -> str:
        return f"{self.inner_label()}, at most {percent(self.p.share)} in one contract"

    def largest(self, ask: Ask) -> float:
        others = ask.held_notional(others_only=True)
        return largest_share(self.p.share, others) - (ask.held_notional() - others) if others else inf
