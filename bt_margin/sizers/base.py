"""What all sizing rules share: the question they are asked, the way every answer ends, and how they are named in a text.

A rule says what it wants in ``wanted(ask)``. ``Rule`` sees to the rest, in this order: an order against the position held is
sized to close it (in hedge mode it may open the other leg, and is sized like any opening); what is wanted is cut to what the
tiers, the leverage and the available margin with its fee allow (``broker.max_size``, less ``spare`` for a worse open), to the
venue's largest market order and to whole lots; below the smallest order it is 0, and the host makes no order of 0. Every answer
is kept in ``decisions``, what came to nothing is counted by its reason in ``skipped``.
"""

import re
from ast import literal_eval
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import inf, isfinite, isnan
from typing import Any, ClassVar, TypeVar

import backtrader as bt

from ..core.account import is_number
from ..core.contract import Contract
from ..core.ledger import CROSS
from ..core.liquidation import jumps
from ..core.sizing import Adverse, contracts_worth, loss_per_contract, surviving_size
from ..slots import seconds
from .past import AverageRange, ClosedTrades, Decision, HighWater, name_of

REASONS = {
    "bars": "too few bars have come for the average that the rule needs, or the price has not moved in them",
    "stop": "no stop is known, or it does not lie on the losing side of the price",
    "edge": "past trades, prices or a floor under the account leave nothing to bet",
    "room": "the tiers, the available margin or the stop leave room for nothing",
    "least": "what is left is less than a lot or than the smallest order",
    "refused": "a cap that refuses rather than cuts",
    "buffer": "what is held is near enough to its target, or above it",
}
WHOLE = "a whole number"  # how the words for what a count has to be begin
WORDS = {"true": True, "false": False, "none": None}
NEAR = 1e-12  # relative: sums of money that differ by less are the same
DEEPEST = 20  # brackets inside brackets
NEAREST = 0.01  # of the price: an adverse price at or below zero is put here

SizerSpec = Any  # a class derived from bt.Sizer, (class, params), an instance, a text such as 'risk:fraction=1%' or a size
Check = tuple[Callable[[Any], bool], str]
R = TypeVar("R", bound="type[Rule]")

ABOVE_0: Check = (lambda value: value > 0, "a number above 0")
FROM_0: Check = (lambda value: value >= 0, "a number of 0 or more")
FROM_1: Check = (lambda value: value >= 1, "a number of 1 or more")
SHARE: Check = (lambda value: 0 < value <= 1, "a fraction above 0 and at most 1 (0.01 = 1 %)")
INSIDE: Check = (lambda value: 0 < value < 1, "a fraction between 0 and 1 (0.5 = 50 %)")
COUNT: Check = (lambda value: value >= 1 and value == int(value), "a whole number of 1 or more")
SWITCH: Check = (lambda value: isinstance(value, bool), "true or false")


class SkipError(Exception):
    """Why a rule orders nothing: one of REASONS."""


# -- names --------------------------------------------------------------------------------------------------------------

RULES: dict[str, type[bt.Sizer]] = {}  # by the name that is typed


def rule(name: str) -> Callable[[R], R]:
    """Enter a class under the name by which texts call it."""

    def enter(kind: R) -> R:
        RULES[name] = kind
        kind.key = name
        return kind

    return enter


def from_text(text: str) -> tuple[type[bt.Sizer], dict[str, Any]]:
    """Return the class and the params of a rule from ``NAME`` or ``NAME:key=value,key=value``; a number is a fixed size.

    A value is a number, a percentage (``1%``), true, false, none, or a text; a rule inside a rule stands in brackets if it has
    params of its own: ``martingale:inner=(risk:fraction=1%),most=3``.
    """
    if re.fullmatch(r"\d*\.?\d+", text.strip()):
        return RULES["size"], {"size": float(text)}
    name, terms = split(text)
    if name not in RULES:
        raise ValueError(f"{text!r} is no sizing rule; known are {', '.join(sorted(RULES))}")
    return RULES[name], check_known(name, RULES[name], params_from(terms))


def split(text: str) -> tuple[str, list[str]]:
    """Return the name in front of a text and its ``key=value`` terms; colons and commas inside brackets belong to a value.

    >>> split("floor:inner=(risk:fraction=1%,atr=20),most=3")
    ('floor', ['inner=(risk:fraction=1%,atr=20)', 'most=3'])
    """
    head, _, last = _rpart(text.strip())
    if not (head and "=" in last):
        return text.strip(), []
    return head, _parts(last, ",")


def params_from(pairs: Iterable[str], option: str = "a sizing rule", read: Callable[[str], Any] | None = None) -> dict[str, Any]:
    """Return parameters from ``key=value`` texts, each value as ``read`` has it (default: ``value_from``)."""
    params: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (equals and key.strip()):
            raise ValueError(f"{option} takes key=value, was {pair!r}")
        if key.strip() in params:
            raise ValueError(f"{option} gives {key.strip()} twice; leave one out")
        params[key.strip()] = (read or value_from)(value.strip())
    return params


def value_from(text: str) -> Any:
    """Return the value that a text of a sizing rule stands for: a rule in brackets, a percentage, else as ``literal_from``.

    >>> value_from("2.5%"), value_from("(risk:fraction=1%)"), value_from("20")
    (0.025, 'risk:fraction=1%', 20)
    """
    if text.startswith("(") and text.endswith(")") and re.match(r"\(\s*[a-zA-Z][\w-]*\s*(:|\))", text):
        return text[1:-1].strip()
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)%", text):
        return float(text[:-1]) / 100
    return literal_from(text)


def literal_from(text: str) -> Any:
    """Return true, false, none or the Python literal that a text stands for, else the text."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # the last two: of a text with thousands of signs or brackets
        return text


def check_known(name: str, kind: type[bt.Sizer], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the params; ValueError where the rule has none of that name."""
    known = list(kind.params._getkeys())
    unknown = [key for key in params if key not in known]
    if unknown:
        raise ValueError(f"{name} has no parameter {', '.join(unknown)}; it has {', '.join(known) or 'none'}")
    return dict(params)


def make(spec: SizerSpec) -> bt.Sizer:
    """Return a sizer from whatever names one: a text, a class, (class, params), a sizer or a fixed size."""
    if isinstance(spec, bt.Sizer):
        return spec
    if is_number(spec):
        return RULES["size"](size=spec)
    if isinstance(spec, str):
        spec = from_text(spec)
    kind, params = spec if isinstance(spec, tuple) and len(spec) == 2 else (spec, {})
    if not (isinstance(kind, type) and issubclass(kind, bt.Sizer) and isinstance(params, Mapping)):
        raise ValueError(
            f"a sizer is a name such as 'risk', a class derived from backtrader.Sizer, (class, params) or a size, was {spec!r}"
        )
    return kind(**check_known(kind.__name__, kind, params))


def label(spec: SizerSpec) -> str:
    """Return a rule in a few words, for tables and pictures; of a sizer of others its class and what is not its default."""
    sizer = make(spec)
    own = getattr(sizer, "label", None)
    if callable(own):
        return str(own())
    return _plain_label(sizer)


def _plain_label(sizer: bt.Sizer) -> str:
    defaults, params = dict(sizer.p._getkwargsdefault()), dict(sizer.p._getkwargs())
    chosen = [f"{name}={value}" for name, value in params.items() if value != defaults[name]]
    return " ".join([type(sizer).__name__, *chosen])


def percent(fraction: float) -> str:
    """Return a fraction as people write it.

    >>> percent(0.015)
    '1.5 %'
    """
    return f"{100 * fraction:.4g} %"


def _rpart(text: str) -> tuple[str, str, str]:
    parts = _parts(text, ":")
    return ":".join(parts[:-1]), ":", parts[-1]


def _parts(text: str, mark: str) -> list[str]:
    """Return a text cut at a mark wherever it stands outside brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if depth > DEEPEST:
            raise ValueError(f"a sizing rule has at most {DEEPEST} brackets inside brackets, more were in {text[:40]!r}")
        if letter == mark and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


# -- the question -------------------------------------------------------------------------------------------------------


class Ask:
    """One question to a sizer: how much to buy or sell of a data now.

    ``price`` is the close of the bar the data stands on (under cheat-on-open its open), ``equity`` the whole account's, at mark,
    with all its contracts; ``cash`` what is available of it. ``slot`` is the contract as the account has it, None on stock Backtrader.
    ``account`` and ``marks`` are those that the order finds: market orders sent before it on this bar count as filled, for what is
    held, what fits and what the margin-aware rules keep, so that two entries of one bar do not both take all there is.
    """

    def __init__(self, sizer: "Rule", comminfo: Any, cash: float, data: Any, isbuy: bool) -> None:
        self.strategy, self.broker, self.comminfo, self.data, self.isbuy = sizer.strategy, sizer.broker, comminfo, data, isbuy
        self.side = 1 if isbuy else -1
        self.symbol = name_of(self.strategy, data)
        self.stop: float | None = None
        legs = self.broker.legs_of(data) if hasattr(self.broker, "legs_of") else ()
        self.leg = ("LONG" if isbuy else "SHORT") if len(legs) > 1 else None
        self.slot: Any = self.broker.slot_of(data, self.leg) if legs else None
        self.ahead = 1 if self.slot is not None and self.slot.is_ahead else 0
        self.price = data.open[0] if self.ahead else data.close[0]
        self.cash, self.equity = max(cash, 0.0), max(self.broker.getvalue(), 0.0)
        self.account: Any = None
        self.marks: Mapping[str, float] = {}
        self._most: float | None = None
        if self.slot is not None:  # the terms of an idle contract are brought up to this bar, too
            self.account, self.marks = self.broker.account_as_sent(self.slot)

    @property
    def contract(self) -> Contract:
        """The contract's terms; on stock Backtrader its multiplier is all that is known."""
        if self.slot is not None:
            return self.slot.position.contract
        return getattr(self.comminfo, "terms", None) or Contract(multiplier=self.comminfo.p.mult)

    @property
    def terms(self) -> dict[str, Any]:
        """What the formulas need of the contract."""
        return {"multiplier": self.contract.multiplier, "kind": self.contract.kind}

    @property
    def fee(self) -> float:
        """The taker fee, a fraction of notional."""
        if self.slot is not None:
            return self.contract.taker
        return float(self.comminfo.getcommission(1.0, self.price)) / self.contract.notional(1.0, self.price)

    @property
    def position(self) -> Any:
        """The contract's position as the order finds it, in hedge mode that of the leg it opens."""
        return self.account.positions[self.slot.symbol]

    @property
    def held(self) -> float:
        """What is held of the contract, in hedge mode of the leg that the order opens (signed)."""
        return float(self.broker.getposition(self.data).size if self.slot is None else self.position.size)

    @property
    def equity_left(self) -> float:
        """Equity less what the orders sent on this bar have paid in fees."""
        return self.equity if self.account is self.broker.account else max(float(self.account.equity(self.marks)), 0.0)

    @property
    def closing(self) -> float:
        """The size that closes what the order is against, 0 where it is against nothing."""
        held = 0.0 if self.leg is not None else self.held
        return abs(held) if held and (held > 0) != self.isbuy else 0.0

    @property
    def same_side(self) -> float:
        """What is held already on the order's side, without sign."""
        return max(self.held * self.side, 0.0)

    def worth(self, money: float) -> float:
        """Return the size whose notional is an amount of money."""
        return contracts_worth(money, price=self.price, **self.terms)

    def notional(self, size: float) -> float:
        """Return what a size is worth."""
        return self.contract.notional(size, self.price)

    def most(self) -> float:
        """Return the largest size that the tiers and the available margin allow, the fee counted; endless on stock Backtrader."""
        if self.slot is None:
            return inf
        if self._most is None:
            self._most = float(self.broker._max_size(self.slot, self.isbuy, seen=(self.account, self.marks)))
        return self._most

    def terms_changed(self) -> None:
        """Take note that the contract's leverage or margin has been changed for this order: a copy of the account has what was before."""
        self._most = None
        self.account, self.marks = self.broker.account_as_sent(self.slot)

    def held_notional(self, *, others_only: bool = False) -> float:
        """Return the notional at mark of all that is held, or of all other contracts."""
        own = {leg.symbol for leg in self.broker.legs_of(self.data)} if others_only else ()
        held = [(symbol, position) for symbol, position in self.account.positions.items() if position.size and symbol not in own]
        return float(sum(position.notional(self.marks[symbol]) for symbol, position in held))

    def is_losing(self, stop: float) -> bool:
        """Return whether a stop is a price on the side on which the order loses."""
        return stop > 0 and (self.price - stop) * self.side > 0

    def adverse_price(self, stop: float, distance: float) -> float:
        """Return the price that lies so far beyond a stop; one that would be 0 or less is put at a hundredth of the price."""
        return max(stop - self.side * distance, NEAREST * self.price)

    def loss(self, stop: float, *, with_costs: bool, slippage: float = 0.0) -> float:
        """Return what one contract loses to a stop, with the fees of entry and exit if asked for."""
        fee = self.fee if with_costs else 0.0
        return loss_per_contract(price=self.price, stop=stop, entry_fee=fee, exit_fee=fee, slippage=slippage, **self.terms)

    def largest_size(self, most: float, fits: Callable[[float], bool]) -> float:
        """Return the largest size up to ``most`` that fits, 0 where nothing does but what the account's last digits cannot see."""
        size = self.contract.largest_size(most, fits, beside=self.same_side)
        return size if self.notional(size) > NEAR * self.equity else 0.0

    def surviving(self, at: float, *, buffer: float, slippage: float) -> float:
        """Return the largest size whose wallet holds ``buffer`` times its maintenance margin with this contract's mark at a price.

        The marks of other contracts stay where they are. Both legs of a hedge move.
        """
        slot = self.slot
        position, account, marks = self.position, self.account, self.marks
        entry = self.price * (1 + self.side * slippage)
        symbols = account.symbols_of(self.contract.symbol) if len(self.broker.legs_of(self.data)) > 1 else (slot.symbol,)
        there = {**marks, **dict.fromkeys(symbols, at)}

        def survives(size: float) -> bool:
            trial = account.clone()
            trial.apply_fill(slot.symbol, size=self.side * size, price=entry, fee_rate=self.fee, time=self.broker.now)
            risk = trial.risk(position.wallet, there)
            return bool(risk.equity - buffer * risk.maintenance_margin >= -NEAR * (abs(risk.equity) + self.notional(size)))

        most = self.most()
        if position.wallet == CROSS and len(symbols) == 1 and not jumps(position.table.brackets) and position.is_plain:
            rest = account.risk(CROSS, there)
            own = position.maintenance_margin(at)
            case = Adverse(entry, at, position.brackets, entry_fee=self.fee, buffer=buffer, **self.terms)
            wallet = rest.equity - buffer * (rest.maintenance_margin - own)
            most = min(most, surviving_size(wallet, case, held=self.same_side))
        return self.largest_size(most, survives)


# -- rules --------------------------------------------------------------------------------------------------------------


class Rule(bt.Sizer):
    """A sizer of this package: ``wanted`` says how much, the rest is the same for all.

    After a run ``strategy.getsizer()`` is the instance, with ``decisions`` (every answer to an opening order, one a bar, contract and
    side) and ``skipped`` (how many of them were 0, by reason: see ``REASONS``).

    Params:

      - ``spare`` (default: ``0.01``): share of what fits that is kept back, so that an order at the limit is not refused for an open
        that is a little worse than the close; it matters only where tiers, leverage or money are the limit
    """

    params: Any = (("spare", 0.01),)

    key = ""
    checks: ClassVar[dict[str, Check]] = {}
    needs_margin = False  # whether the rule asks the account for more than equity and positions
    learns = False  # whether it looks at closed trades
    decisions: list[Decision]
    skipped: Counter[str]
    strategy: Any
    broker: Any

    def __init__(self) -> None:
        if type(self).wanted is Rule.wanted:
            raise ValueError(f"{type(self).__name__} sizes nothing; derive a class from it with a method wanted(ask) that returns a size")
        self._check({"spare": (lambda value: 0 <= value < 1, "a fraction from 0 to below 1 (0.01 = 1 %)")})
        for kind in reversed(type(self).__mro__):
            self._check(vars(kind).get("checks", {}))
        self.inner: bt.Sizer | None = None
        if "inner" in self.p._getkeys() and self.p.inner is not None:
            self.inner = make(self.p.inner)
        self._begin()

    def _check(self, checks: Mapping[str, Check]) -> None:
        for name, (holds, what) in checks.items():
            value = getattr(self.p, name)
            if not (is_number(value) or (isinstance(value, bool) and what == SWITCH[1])) or not holds(value):
                raise ValueError(f"{type(self).__name__}: {name} is {what}, was {value!r}")
            if what.startswith(WHOLE):
                setattr(self.p, name, int(value))  # 30.0 is 30, but no count of a list

    def _begin(self) -> None:
        """Forget the run before, if there was one."""
        self.decisions, self.skipped = [], Counter()
        self._ranges: dict[tuple[int, int], AverageRange] = {}
        self._trades: ClosedTrades | None = None
        self._water: HighWater | None = None

    def set(self, strategy: Any, broker: Any) -> None:
        """Begin to size the orders of a strategy; called by the host."""
        if self.asks_margin and not hasattr(broker, "legs_of"):
            raise ValueError(f"{type(self).__name__} asks the account for its margin; run it under bt_margin.MarginBroker")
        super().set(strategy, broker)
        self._begin()
        for name, isbuy in (("buy_bracket", True), ("sell_bracket", False)):
            if getattr(type(strategy), name) is getattr(bt.Strategy, name):
                setattr(strategy, name, partial(_bracket, strategy, isbuy))
        if self.learns:
            self.trades()
        if self.inner is not None:
            self.inner.set(strategy, broker)
            self._share()

    def _share(self) -> None:
        """Let the rules inside see what was decided: it is the outermost that is asked."""
        if isinstance(self.inner, Rule):
            self.inner.decisions = self.decisions
            self.inner._share()

    @property
    def asks_margin(self) -> bool:
        """Whether it or a rule inside it needs an account with margin."""
        return self.needs_margin or (isinstance(self.inner, Rule) and self.inner.asks_margin)

    def flags(self) -> list[str]:
        """Return what a finished run has to say of its sizes, a sentence each: that the rule was not asked, what came to nothing."""
        if not (self.decisions or self.skipped):
            return [
                "the sizer was asked for no entry: either none was made, or the strategy says the sizes itself and the rule has no part"
            ]
        if not self.skipped:
            return []
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self.skipped.items()))
        return [f"entries that the sizer made nothing of, by reason (each bar asked on): {reasons}"]

    def label(self) -> str:
        """Return the rule in a few words; without any of its own, its class and what is not its default."""
        return _plain_label(self)

    def wanted(self, ask: Ask) -> float:
        """Return the size that the rule wants, before caps and lots; SkipError where it wants none."""
        raise TypeError(f"{type(self).__name__} sizes nothing; write a method wanted(ask) that returns a size")

    def fitted(self, ask: Ask, size: float) -> float:
        """Return what is to be left of a size, with all done that its order needs before it; called once, with what the outermost wants."""
        return self.inner.fitted(ask, size) if isinstance(self.inner, Rule) else size

    def _getsizing(self, comminfo: Any, cash: float, data: Any, isbuy: bool) -> float:
        if not len(data):  # no bar of it has come; a preloaded line would answer with its last one
            self.skipped["bars"] += 1
            return 0.0
        ask = Ask(self, comminfo, cash, data, isbuy)
        if ask.closing:
            return ask.closing
        wanted, size, reason = 0.0, 0.0, ""
        try:
            wanted = self.wanted(ask)
            size = self._cut(ask, self.fitted(ask, wanted) if wanted > 0 else 0.0)
        except SkipError as skip:
            reason = str(skip)
        self._note(ask, wanted, size, reason)
        return size

    def _cut(self, ask: Ask, wanted: float) -> float:
        """Return a size cut to what the account and the venue take; SkipError where nothing is left."""
        contract, most = ask.contract, ask.most() * (1 - self.p.spare)
        if not most > 0:
            raise SkipError("room")
        if not wanted > 0:
            raise SkipError("edge")
        size = min(wanted, most)
        is_filtered = ask.slot is None or self.broker.now >= contract.filters_since
        size = contract.floor_size(min(size, contract.max_size) if is_filtered else size)
        if not isfinite(size):
            raise ValueError(f"{type(self).__name__}: {ask.symbol} has no largest size on this broker; run it under bt_margin.MarginBroker")
        if not (contract.takes(size, ask.price, time=getattr(self.broker, "now", inf)) if ask.slot is not None else size > 0):
            raise SkipError("least")
        return size

    def _note(self, ask: Ask, wanted: float, size: float, reason: str) -> None:
        if ask.stop is None and callable(getattr(self.strategy, "stop_for", None)):
            given = self._given_stop(ask)
            ask.stop = given if given is not None and ask.is_losing(given) else None
        time = ask.slot.close_time if ask.ahead else seconds(ask.data.datetime[0])
        leverage = getattr(ask.comminfo.p, "leverage", 1.0) if ask.slot is None else ask.slot.position.leverage
        decision = Decision(time, ask.symbol, ask.side, ask.price, ask.stop, wanted, size, leverage, reason)
        last = self.decisions[-1] if self.decisions else None
        if last is not None and (last.time, last.symbol, last.side) == (decision.time, decision.symbol, decision.side):
            self.decisions[-1] = decision  # asked twice on a bar: by the strategy, then by the order
            if last.reason:
                self.skipped[last.reason] -= 1
        else:
            self.decisions.append(decision)
        if reason:
            self.skipped[reason] += 1
        self.skipped = +self.skipped

    # -- what rules ask for ------------------------------------------------------------------------------------------

    def inner_wanted(self, ask: Ask) -> float:
        """Return what the rule inside wants."""
        inner = self.inner
        if isinstance(inner, Rule):
            return inner.wanted(ask)
        assert inner is not None
        return float(abs(inner._getsizing(ask.comminfo, ask.cash, ask.data, ask.isbuy)))

    def inner_label(self) -> str:
        """Return the rule inside in a few words."""
        return label(self.inner)

    def range_of(self, ask: Ask, period: int) -> float:
        """Return the average true range of a data as of the present bar; SkipError before there is one."""
        average = self._ranges.setdefault((id(ask.data), period), AverageRange(int(period)))
        found = average.value(ask.data, ask.ahead)
        if found is None or not found > 0:
            raise SkipError("bars")
        return found

    def trades(self) -> ClosedTrades:
        """Return the strategy's closed trades."""
        if self._trades is None:
            self._trades = ClosedTrades(self.strategy)
        return self._trades

    def water(self) -> HighWater:
        """Return the account's highest equity."""
        if self._water is None:
            self._water = HighWater(self.broker)
        return self._water

    def stop_of(self, ask: Ask) -> float:
        """Return the stop of an order: the strategy's, else so many average true ranges from the price; SkipError where there is none.

        A strategy gives it by ``stop_for(data, isbuy)``, which returns a price, or None to leave it to the rule.
        """
        stop = self._given_stop(ask) if callable(getattr(self.strategy, "stop_for", None)) else None
        if stop is None:
            stop = ask.adverse_price(ask.price, self.p.stop_atr * self.range_of(ask, self.p.atr))
        if not ask.is_losing(stop):
            raise SkipError("stop")
        ask.stop = stop
        return stop

    def _given_stop(self, ask: Ask) -> float | None:
        """Return the stop that the strategy gives, None where it gives none."""
        given = self.strategy.stop_for(ask.data, ask.isbuy)
        if given is None or (isinstance(given, float) and isnan(given)):
            return None
        if not is_number(given):
            raise ValueError(f"{ask.symbol}: stop_for returns the price of the stop or None, was {given!r}")
        return float(given)


def _bracket(strategy: Any, isbuy: bool, data: Any = None, size: float | None = None, *args: Any, **terms: Any) -> list[Any]:
    """Send a host's bracket, or three times None where the rule makes its size 0.

    The host asks for the size as it sends the entry, and gives its two exits the size of an order that is then not there.
    """
    if size is None and "size" not in terms.get("oargs", {}):
        size = strategy.getsizing(strategy.getdatabyname(data) if isinstance(data, str) else data, isbuy=isbuy)
        if not size:
            return [None, None, None]
    host = bt.Strategy.buy_bracket if isbuy else bt.Strategy.sell_bracket
    return list(host(strategy, data, size, *args, **terms))
