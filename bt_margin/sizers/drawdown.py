"""Rules that shrink with the account: less in a drawdown, nothing at a floor."""

from typing import ClassVar

from ..core.sizing import buffered, cushion_notional, drawdown_factor, turtle_factor
from .base import ABOVE_0, FROM_0, INSIDE, SHARE, Ask, Check, Rule, SkipError, percent, rule


@rule("drawdown")
class DrawdownScaled(Rule):
    """What another rule says, times max(0, 1 - DD / most) ** power: nothing is opened from a drawdown of ``most`` on.

    The drawdown is of the account's equity at the bars' closes; deposits and withdrawals move the peak with them.

    Params:

      - ``inner`` (default: ``'risk'``): the rule that is scaled
      - ``most`` (default: ``0.3``): drawdown at which trading stops, a fraction of the peak
      - ``power`` (default: ``1.0``): gamma, above 1 it shrinks sooner
    """

    params = (("inner", "risk"), ("most", 0.3), ("power", 1.0))
    checks: ClassVar[dict[str, Check]] = {"most": SHARE, "power": FROM_0}

    def label(self) -> str:
        return f"{self.inner_label()}, less in a drawdown up to {percent(self.p.most)}"

    def wanted(self, ask: Ask) -> float:
        factor = drawdown_factor(self.water().drawdown(), most=self.p.most, power=self.p.power)
        if not factor > 0:
            raise SkipError("edge")
        return factor * self.inner_wanted(ask)


@rule("turtle-account")
class TurtleAccount(Rule):
    """What another rule says of an account that is treated as ``cut`` smaller for each ``step`` of drawdown.

    Params:

      - ``inner`` (default: ``'turtle'``): the rule that is scaled
      - ``step`` (default: ``0.1``): of drawdown, a fraction of the peak
      - ``cut`` (default: ``0.2``): of the account

    Source: Curtis Faith, "Way of the Turtle", 2007.
    """

    params = (("inner", "turtle"), ("step", 0.1), ("cut", 0.2))
    checks: ClassVar[dict[str, Check]] = {"step": INSIDE, "cut": INSIDE}

    def label(self) -> str:
        return f"{self.inner_label()}, account x{1 - self.p.cut:g} each {percent(self.p.step)} down"

    def wanted(self, ask: Ask) -> float:
        return turtle_factor(self.water().drawdown(), step=self.p.step, cut=self.p.cut) * self.inner_wanted(ask)


@rule("floor")
class DrawdownFloor(Rule):
    """All that is held may be worth a multiple of what equity has above a floor under its peak; an order brings it there.

    size = (multiple * (equity - floor * peak) - notional held) / (price * multiplier). Between two orders nothing is sold, so the
    floor is a rule of entries and no promise.

    Params:

      - ``floor`` (default: ``0.7``): of the highest equity at a bar's close
      - ``multiple`` (default: ``3.0``): notional over the cushion

    Sources: Grossman and Zhou, 1993; Cvitanic and Karatzas, 1994; as TIPP, Estep and Kritzman, 1988.
    """

    params = (("floor", 0.7), ("multiple", 3.0))
    checks: ClassVar[dict[str, Check]] = {"floor": INSIDE, "multiple": ABOVE_0}
    needs_margin = True

    def label(self) -> str:
        return f"{self.p.multiple:g} x above a floor of {percent(self.p.floor)}"

    def wanted(self, ask: Ask) -> float:
        allowed = cushion_notional(ask.equity, self.water().peak(), floor_share=self.p.floor, multiple=self.p.multiple)
        if not allowed > 0:
            raise SkipError("edge")
        lacking = buffered(allowed, ask.held_notional(), 0.0)
        if not lacking:
            raise SkipError("buffer")
        return ask.worth(lacking)
