"""MarginBroker: Backtrader's broker with the account of a perpetual-futures venue.

The host matches orders; the account keeps the money. The broker has four layers: ``view`` (what the account says),
``matching`` (the order book), ``desk`` (orders coming in) and this one (a run's life, fills and liquidations booked).
Overridden here: ``init`` (all run state, the host calls it twice), ``start`` (contracts need the datas), ``_execute``
(whole: the fill is booked by the account) and ``next`` (whole: the order of events is in ``clock``).
"""

import warnings
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

import backtrader as bt
from backtrader import Order
from backtrader.order import BuyOrder, SellOrder

from .basket import Basket
from .clock import INTRABAR, BarClock
from .comminfo import PerpCommInfo, one_currency, utc
from .core.account import MARGIN_MODES, SIDES, Booking, MarginAccount, Position, Step, is_number
from .core.contract import RESIDUE
from .core.funding import FundingSchedule
from .core.profiles import PROFILES, Profile
from .core.top_up import TopUp, TopUpStep, plan_top_up
from .desk import FILTERS, LOG, UNFUNDED, OrderDesk, closing, resize
from .hostorder import Family, OrderMaker
from .invariants import Audit
from .lone import goes_its_own_way, is_usual_contract
from .lull import Lull
from .matching import LIMITS
from .record import FillRow, LiquidationRow, Record, TopUpRow
from .slots import Slot
from .thresholds import Thresholds
from .view import LEAST_FUND_VALUE, check_cash, expect

ON_LIQUIDATION = ("continue", "stop", "refill")
POSITION_MODES = ("one_way", "hedge")


class MarginBroker(OrderDesk):
    """A broker that makes a backtest obey perpetual-futures margin: ``cerebro.broker = MarginBroker(cash=10_000)``.

    Params, besides the host's own:

      - ``cash`` (default: ``10000``): the first deposit
      - ``margin_mode`` (default: ``'cross'``): 'cross' or 'isolated'; a contract's own comminfo may say otherwise
      - ``position_mode`` (default: ``'one_way'``): 'hedge' holds a long and a short of one contract side by side; every order then
        says ``position_side='LONG'`` or ``'SHORT'``, and ``close_side`` closes one of them
      - ``intrabar`` (default: ``'adverse'``): which of the two paths, low first or high first, a dangerous bar takes:
        'adverse' the one that leaves less equity, 'favourable' the other, 'worst' where all contracts meet at their own worse
        extremes (a bound), 'close' none (tests at open and close only)
      - ``on_liquidation`` (default: ``'continue'``): 'stop' ends the run once the strategy has seen a liquidation; 'refill' pays
        in after its bar what equity lacks of ``refill``, which counts as a deposit and not as profit
      - ``top_up`` (default: ``None``): a TopUp, the rule by which margin is added to a wallet where it would be liquidated; or a
        mapping from symbol to TopUp, 'cross' being the shared wallet
      - ``stamp`` (default: ``None``): what the stamps of feeds other than PerpData mean, 'open' or 'close' (assumed)
      - ``warning_rate``, ``call_rate`` (default: ``None``): rates of equity to maintenance margin above 1 (3.0, 1.5, say). Where
        a wallet has fallen to one at a bar's close the strategy's ``notify_margin`` hears 'warning' or 'margin_call'
      - ``warning_distance`` (default: ``None``): a fraction of the mark, 0.05 = 5 %. Where a position's mark has come so near to
        its liquidation price at a bar's close, ``notify_margin`` hears 'warning'
      - ``warning_atr`` (default: ``None``): the same in multiples of the contract's average true range (Wilder's, as
        ``bt.ind.ATR``) over ``warning_atr_period`` bars (default: ``14``); nothing is told before these bars have come
      - ``unfunded`` (default: ``'reject'``): what happens to an opening that is not funded or beyond its tiers: 'reject', or 'shrink'
        to the largest size that fits, at its submission and again at its fill
      - ``filters`` (default: ``'round'``): what happens to a size off its lot, a price off its tick, a market order above the largest:
        'round' (sizes down, a buy's price up, a sell's down: never for the better) or 'refuse'
      - ``check`` (default: ``False``): assert the invariants of the account on every bar
    """

    params = (
        ("cash", 10_000.0),
        ("commission", PerpCommInfo()),
        ("margin_mode", "cross"),
        ("position_mode", "one_way"),
        ("intrabar", "adverse"),
        ("on_liquidation", "continue"),
        ("refill", None),
        ("top_up", None),
        ("stamp", None),
        ("warning_rate", None),
        ("call_rate", None),
        ("unfunded", "reject"),
        ("filters", "round"),
        ("warning_distance", None),
        ("warning_atr", None),
        ("warning_atr_period", 14),
        ("check", False),
    )

    venue: str | None = None  # the rules that ``plug`` put in, for results to name
    currency: str | None = None  # what all money is in, where a contract says

    def __init__(self):
        expect("margin_mode", self.p.margin_mode, MARGIN_MODES)
        expect("position_mode", self.p.position_mode, POSITION_MODES)
        expect("intrabar", self.p.intrabar, INTRABAR)
        expect("on_liquidation", self.p.on_liquidation, ON_LIQUIDATION)
        expect("stamp", self.p.stamp, (None, "open", "close"))
        expect("unfunded", self.p.unfunded, UNFUNDED)
        expect("filters", self.p.filters, FILTERS)
        check_refill(self.p.on_liquidation, self.p.refill)
        check_rules(self.p.top_up)
        self._funding: dict[str, FundingSchedule] = {}
        self._early_cash: list[float] = []  # sent before a run: every run begins with it
        self._is_running = False
        super().__init__()

    def init(self):
        """Create all state of a run; the host calls this on construction and again at every start."""
        check_cash(self.p.cash)
        self.lull = Lull(self)
        self.account = MarginAccount()
        self.account.shrinks = self.p.unfunded == "shrink"
        self._is_funded = False
        self._is_booting = True  # the host's init assigns ``cash``, which must not be booked
        super().init()
        self._is_booting = False
        self._pchildren = defaultdict(Family)
        self._record = Record()
        self._marks: dict[str, float] = {}
        self._slots: dict[str, Slot] = {}
        self.fresh: list[Slot] = []
        self.profile: Profile = PROFILES["market"]
        self.now = 0.0
        self.contracts: dict[str, tuple[Slot, ...]] = {}
        self._legs_by_data: dict[int, tuple[Slot, ...]] = {}
        self.goes_its_own_way = True  # until it is known
        self._order_versions: dict[int, int] = {}
        self._first_tries: dict[int, int] = {}
        self._tried: set[int] = set()
        self._planned_sizes: dict[int, float] = {}
        self._triggered_before: set[int] = set()
        self._triggers: dict[int, float] = {}
        self._placed_at: dict[int, tuple[float, float]] = {}
        self._events: deque[tuple[dict[str, Any], Any]] = deque()
        self._available, self._notional = None, 0.0
        self.doors = {}
        self._owners: dict[int, Any] = {}  # by id of a data: the strategy that trades it
        self._is_stopping = self._is_refilling = False
        self._maker = OrderMaker()
        self.clock = BarClock(self)
        self.basket = Basket(self)
        self.thresholds = Thresholds(
            self.p.warning_rate, self.p.call_rate, self.p.warning_distance, self.p.warning_atr, self.p.warning_atr_period
        )
        self.audit = Audit()

    def start(self):
        """Open the account's contracts for the datas of the run."""
        super().start()
        self.cerebro._event_stop = False  # an optimisation's runs share the engine, and one may have been stopped
        self._is_running = True
        self._cash_addition.extend(self._early_cash)
        if self._fundhist:
            raise ValueError("a fund history replaces equity and cannot be combined with margin; remove set_fund_history")
        if self._userhist and self.is_hedging:
            raise ValueError("an order history names no sides and cannot be replayed in hedge mode; remove add_order_history")
        for data in self.cerebro.datas:
            self._open_slots(data)
        terms = [self.getcommissioninfo(slot.data) for slot in self.slots.values()]
        profiles = {own.profile for own in terms if own.p.kind != "spot"}  # spot needs no margin, and is sold as its wallet's others are
        if len(profiles) > 1:
            named = ", ".join(sorted(profile.name for profile in profiles))
            raise ValueError(f"all contracts of one broker share a liquidation profile, were {named}")
        self.profile = profiles.pop() if profiles else self.profile
        self.account.top_ups = rules_by_contract(self.p.top_up, self.slots.values())
        self.currency = one_currency((slot.data._name or slot.name, self.getcommissioninfo(slot.data)) for slot in self.slots.values())

    def _open_slots(self, data: Any) -> None:
        """Open a contract for a data: one slot, in hedge mode one for each side but of spot, which is never short."""
        if data._compensate is not None:
            raise ValueError(f"{data._name}: data.compensate() is not possible under margin, every data is a contract of its own")
        if not data._name and isinstance(data, bt.feed.DataClone):
            data._name = data.p.dataname._name  # a resampled copy trades on the terms of its source
        name = self._free_symbol(data)
        comminfo = self.getcommissioninfo(data)
        if not isinstance(comminfo, PerpCommInfo):
            raise ValueError(
                f"{name}: MarginBroker needs a PerpCommInfo, was {type(comminfo).__name__}; use PerpCommInfo(...) or setcommission()"
            )
        contract = comminfo.contract(name)
        margin_mode = comminfo.p.margin_mode or self.p.margin_mode
        sides = SIDES if self.is_hedging and contract.kind != "spot" else (None,)
        add = self.account.add_contract if sides == (None,) else self.account.add_hedge
        add(contract, leverage=comminfo.p.leverage, margin_mode=margin_mode, rules=comminfo.rules, orders=comminfo.p.order_terms)
        funding = self._funding.get(name, self._funding.get("") if contract.kind != "spot" else None)
        legs = tuple(self._open_slot(data, name, side, funding) for side in sides)
        self.contracts[name] = self._legs_by_data[id(data)] = legs
        if legs[0].series is None and legs[0].schedule is not None and self.p.stamp is None:
            warnings.warn(
                f"{name}: funding is given but not what the feed's stamps mean; bars are taken as stamped at their close. "
                "Say MarginBroker(stamp='open') or stamp='close'.",
                stacklevel=2,
            )

    def _open_slot(self, data: Any, name: str, side: str | None, funding: FundingSchedule | None) -> Slot:
        symbol = name if side is None else f"{name}:{side}"
        position, number = self.account.positions[symbol], len(self.slots)
        slot = Slot(data, symbol, position, funding, stamps_are_opens=self.p.stamp == "open", number=number, side=side)
        if slot.detail is not None and (self.p.intrabar == "close" or data.replaying):
            why = "intrabar='close' looks inside no bar" if self.p.intrabar == "close" else "a replayed bar is not known before its end"
            raise ValueError(f"{symbol}: {why}, so its detail would never be read; leave detail out")
        slot.is_usual = is_usual_contract(slot, self.getcommissioninfo(data))
        self.slots[symbol] = slot
        return slot

    def _free_symbol(self, data: Any) -> str:
        """Return the data's name as a symbol, numbered where another data (a resampled copy, say) has it already."""
        name = data._name or f"data{len(self.contracts)}"
        return name if name not in self.contracts else f"{name}#{len(self.contracts)}"

    def setcommission(
        self,
        commission=0.0,
        margin=None,
        mult=1.0,
        commtype=None,
        percabs=True,
        stocklike=False,
        interest=0.0,
        interest_long=False,
        leverage=1.0,
        automargin=False,
        name=None,
        **terms,
    ):
        """Build a PerpCommInfo for a data name (None: the default), so that old scripts run.

        ``terms`` are PerpCommInfo's own params (``maker``, ``lot``, ``tiers``, ...). What has no meaning for a perpetual is
        refused: fixed ``margin``, ``automargin``, ``interest`` and fees by contract.
        """
        refused = {"margin": margin, "automargin": automargin, "interest": interest, "interest_long": interest_long, "stocklike": stocklike}
        named = [key for key, value in refused.items() if value]
        if named or commtype not in (None, bt.CommInfoBase.COMM_PERC):
            what = ", ".join(named) or "commtype"
            raise ValueError(
                f"setcommission({what}=...) has no meaning for a perpetual; use leverage= and a commission in fractions of notional"
            )
        rate = commission if percabs else commission / 100.0
        self.addcommissioninfo(PerpCommInfo(commission=rate, mult=mult, leverage=leverage, **terms), name=name)

    def addcommissioninfo(self, comminfo, name=None):
        """Set the PerpCommInfo of a data name; None makes it the default."""
        if self._is_running:
            raise ValueError("a contract's terms are fixed once a run has begun; set them before cerebro.run(), or use set_leverage()")
        if not isinstance(comminfo, PerpCommInfo):
            raise ValueError(
                f"MarginBroker needs a PerpCommInfo for {name or 'its default'}, was {type(comminfo).__name__}; use PerpCommInfo(...)"
            )
        super().addcommissioninfo(comminfo, name=name)

    def add_order_history(self, orders, notify=True):
        """Add orders (time, size, price, and the data) to be filled at these prices; see ``Cerebro.add_order_history``."""
        super().add_order_history(orders, notify)
        self.lull.interrupt()

    def set_funding(self, funding, name=""):
        """Give the FundingSchedule of a data that is no PerpData; without a name, of every data but spot."""
        self._funding[name] = funding

    def add_cash(self, cash):
        """Queue a deposit (positive) or withdrawal (negative) for the next step.

        A withdrawal beyond what is available is refused with a warning.
        """
        if not isfinite(cash):
            raise ValueError(f"add_cash takes a finite amount of money, was {cash}")
        (self._cash_addition if self._is_running else self._early_cash).append(cash)

    def stop(self):
        """End a run; money sent on its last bar is not booked, and not kept for another run."""
        self._is_running = False

    def _book_transfers(self) -> None:
        while self._cash_addition:
            amount = self._cash_addition.popleft()
            try:
                if amount > 0:
                    self.account.deposit(amount, time=self.now)
                elif amount < 0:
                    self.account.withdraw(-amount, time=self.now, marks=self.marks)
            except ValueError as refused:
                warnings.warn(f"{utc(self.now):%Y-%m-%d %H:%M} UTC: {refused}", stacklevel=2)
                continue
            if amount:
                self.note_flow("transfer", amount, self._value)

    def top_up(self, wallet: str, trigger: str) -> bool:
        """Add to a failed wallet what its rule adds, and return whether that is something, which then saves it."""
        step = plan_top_up(self.account, wallet, self.marks)
        if step is not None:
            self.book_top_up(step, trigger)
        return step is not None

    def book_top_up(self, step: TopUpStep, trigger: str) -> None:
        """Book a planned top-up, record it and tell of it."""
        equity, risk = self.account.equity(self.marks), self.account.risk(step.wallet, self.marks)
        self.account.add_top_up(step, time=self.now)
        if step.from_outside:
            self.note_flow("top_up", step.amount, equity)
            self.clock.note_inflow(equity)
        row = TopUpRow(
            self.now, step.symbol, step.wallet, step.amount, step.uses, trigger, risk.equity, risk.maintenance_margin, step.from_outside
        )
        self._record.top_ups.append(row)
        self._record.closest_call = 0.0
        self.note_change()
        self._emit({"kind": "top_up", **row._asdict(), "time": utc(row.time), "rule": "auto"})

    def _refill(self) -> None:
        """Pay in what equity lacks of the stated amount once a bar with a liquidation is over."""
        self._is_refilling = False
        lacking = self.p.refill - self._value
        if lacking > 0:
            self.account.deposit(lacking, time=self.now)
            self.note_flow("refill", lacking, self._value)
            self._emit({"kind": "refill", "time": utc(self.now), "amount": lacking})

    def next(self):
        """Take the account from the last bar to this one; the order of events is in ``clock``."""
        lull = self.lull
        if lull.is_on:
            if not (self.submitted or self._cash_addition) and lull.passes():
                return
            lull.end(is_last=self._is_stopping)
        if self._is_stopping:
            self.cerebro.runstop()
            return
        fills = len(self._record.fills)
        basket = self.basket
        self.fresh = basket.refresh()  # a lull has ended by now
        for slot in self.fresh:
            if slot.close_time > self.now:
                self.now = slot.close_time
        if not self._is_funded:
            self._fund()
        if self.pending or self.submitted or self._cash_addition or self._userhist:
            self._take_in()
        if self.clock.held or self.pending:
            if not basket.passes():
                self.clock.run(self._load_active())
                if lull.is_on:  # the bar is the first of one
                    return
                if self.pending:
                    self.account.cover(self.marks)
        else:
            self.clock.rest()
        if self.thresholds.is_set:
            self._warn()
        if not basket.has_passed:
            self.clock.write(self.now)
        if self._is_refilling:
            self._refill()
        if self.p.check:
            self.audit.check(self)
        elif not self._is_stopping and basket.is_quiet(has_fills=len(self._record.fills) > fills):
            lull.plan(has_fills=len(self._record.fills) > fills)

    def _warn(self) -> None:
        """Note and tell every threshold that a wallet has fallen to in this bar (R31)."""
        self.thresholds.follow(self.fresh)
        wallets = {slot.symbol: position.wallet for slot, position in self.clock.held}
        for row in self.thresholds.crossed(self.account, wallets, self.marks, self.now):
            self._record.warnings.append(row)
            self._emit({**row._asdict(), "time": utc(row.time)})

    def _load_active(self) -> list[Slot]:
        """Read the new bars of the contracts that are held or have orders."""
        active = [slot for slot in self.fresh if slot.position.size]
        if self.pending and len(active) < len(self.fresh):
            ordered = {id(order.data) for order in self.pending}
            active = [slot for slot in self.fresh if slot.position.size or id(slot.data) in ordered]
        for slot in active:
            slot.load(self.account.set_tiers)
        return active

    def _fund(self) -> None:
        opening = min((slot.open_time for slot in self.fresh), default=self.now)
        self.account.deposit(self.p.cash, time=opening)
        self._is_funded = True
        self.goes_its_own_way = goes_its_own_way(self, MarginBroker)  # strategies have begun by now, and may have put something in

    def _take_in(self) -> None:
        """Activate bracket children, free what expired orders reserve, judge submitted ones, book queued transfers."""
        while self._toactivate:
            self._toactivate.popleft().activate()
        for order in self.pending:
            if self.is_out_of_date(order):  # ends in its turn, but holds no margin any more
                self.account.release(order.ref)
        if self.submitted:
            self.check_submitted()
        if self._cash_addition:
            self._book_transfers()
        if self._userhist:
            self._process_order_history()

    def publish(self, equity: float, available: float, notional: float) -> None:
        """Keep the figures of this bar for the accessors of value."""
        self._value, self._available, self._notional = equity, available, notional
        shares = self._fundshares
        if equity > 0 and shares and equity > LEAST_FUND_VALUE * shares:  # every bar comes this way, so without a call
            self._fundval = equity / shares
        else:
            self._fundval = self._fund_value(equity)

    def _execute(self, order, ago=None, price=None, cash=None, position=None, dtcoc=None):
        """Book a fill on the account and show it to the host; what is not funded is refused, the closing part stands."""
        if price is None:
            return
        if order.exectype in LIMITS:  # the host slips a stop-limit beyond its limit
            price = (min if order.isbuy() else max)(price, order.created.pricelimit or price)
        slot = self.slot_for(order)
        size = self._fill_size(order, slot, price, ago or 0)
        if not size:
            return
        if self.reduces(order):
            size = self._cut_to_position(order, slot, size)
            if not size:
                return
        before, group = (slot.position.size, slot.position.entry_price), self._ocos[order.ref]
        resting = self.account.resting(order.ref)
        self.account.release_group(group)
        maker, contract = self._is_maker(order), slot.position.contract
        rate = contract.maker if maker else contract.taker
        booked, refused = self.account.execute(slot.symbol, size=size, price=price, fee_rate=rate, marks=self.marks, time=self.now)
        filled = size if refused is None else booked.closed + booked.opened
        if refused is not None and booked.opened:  # shrunk: nothing of it is left for another bar
            resize(order, filled)
            self._cut_exits(order)
            LOG.info("%s UTC: %s; it was cut to that", utc(self.now).strftime("%Y-%m-%d %H:%M"), refused.message)
            refused = None
        if filled:
            self._show_fill(order, slot, booked, filled, price, before, dtcoc or order.data.datetime[ago or 0])
            fee = booked.closing_fee + booked.opening_fee
            self._record.fills.append(FillRow(self.now, slot.symbol, filled, price, fee, booked.realized_pnl, maker, False, order.ref))
            self.clock.pay_late(slot, booked.opened, at_open=order.exectype == Order.Market or price == slot.open)
            if order.alive() and resting is not None and refused is None:
                self.account.reserve(resting._replace(size=order.executed.remsize))
            self.notify(order)
            self._ococheck(order)
        if refused is not None:
            self._refuse(order, refused)

    def _cut_to_position(self, order, slot: Slot, size: float) -> float:
        """Return what an order that only closes may fill: at most what is held; it is cut to that, or ends where that is nothing."""
        held = slot.position.size
        if held * size >= 0:
            self._say_why(order, "reduce_only", f"{slot.symbol}: {closing(order)} of {size:g} finds nothing to close any more")
            order.cancel()
            self.notify(order)
            self._ococheck(order)
            self._bracketize(order, cancel=True)
            return 0.0
        most = -held
        if abs(order.executed.remsize) > abs(most):
            resize(order, most)
        return size if abs(size) < abs(most) else most

    def _show_fill(self, order, slot: Slot, booked: Booking, filled: float, price: float, before: tuple[float, float], when: float) -> None:
        """Mirror a booked fill into the host's position and order.

        The host's trade adds up fills; where the account is flat the closing part is what the trade still holds, to the
        last digit, or the trade would stay open over a rounding left-over.
        """
        comminfo, (held, entry_price) = self.getcommissioninfo(order.data), before
        closed = booked.closed
        lot = slot.lots.get((order.owner, order.tradeid))
        if (closed == -held or not slot.position.size) and lot is not None and len(slot.lots) == 1:
            closed = -lot
        shown = self.positions[order.data]
        shown.update(filled, price, order.data.datetime.datetime())
        shown.size, shown.price = self.net_of(order.data)
        margin = slot.position.opening_margin(filled, price)
        order.execute(
            when, filled, price,
            closed, comminfo.getvaluesize(-closed, entry_price), booked.closing_fee,
            booked.opened, comminfo.getvaluesize(booked.opened, price), booked.opening_fee,
            margin, booked.realized_pnl, slot.position.size, slot.position.entry_price,
        )  # fmt: skip
        order.addcomminfo(comminfo)
        self._keep_lots(slot, order, closed, booked.opened)

    @staticmethod
    def _keep_lots(slot: Slot, order, closed: float, opened: float) -> None:
        """Remember which owner and trade id hold the position: a liquidation must close the trades that opened it."""
        key = (order.owner, order.tradeid)
        slot.lots[key] = slot.lots.get(key, 0.0) + closed
        slot.lots[key] += opened
        if not slot.position.size:
            slot.lots.clear()
        elif abs(slot.lots[key]) < RESIDUE * abs(slot.position.size):
            del slot.lots[key]

    def touched_slots(self, held: Sequence[tuple[Slot, Position]], orders: dict[str, Any]) -> Iterator[tuple[Slot, Position]]:
        """Yield the slots that hold something or may fill in this bar."""
        yield from held
        for symbol in orders:
            slot = self.slots[symbol]
            if not slot.position.size:
                yield slot, slot.position

    def show_liquidation(self, step: Step, row: LiquidationRow) -> None:
        """Show a booked step to the host: one completed order for each owner and trade id that held the position."""
        slot = self.slots[step.symbol]
        position, lots = slot.position, dict(slot.lots) or {(None, slot.side or 0): step.size + slot.position.size}
        slot.lots.clear()
        gone = step.size / (step.size + position.size) if position.size else 1.0
        gross = sum(abs(size) for size in lots.values())
        for (owner, tradeid), held in lots.items():
            size = gone * held
            if position.size:
                slot.lots[owner, tradeid] = held - size
            share = abs(held) / gross
            order = self._liquidation_order(slot, owner, tradeid, size, row)
            pnl = row.realized_pnl * size / step.size
            shown = self.positions[slot.data]
            comminfo = self.getcommissioninfo(slot.data)
            shown.update(-size if position.size else -shown.size, step.price, slot.data.datetime.datetime())
            shown.size, shown.price = self.net_of(slot.data)
            order.execute(
                slot.data.datetime[0], -size, step.price, -size, comminfo.getvaluesize(size, row.entry_price), row.fee * share,
                0.0, 0.0, 0.0, 0.0, pnl, position.size, position.entry_price,
            )  # fmt: skip
            order.addcomminfo(comminfo)
            self.notify(order)
            self._ococheck(order)
            self._bracketize(order)
            self._record.fills.append(FillRow(row.time, slot.symbol, -size, step.price, row.fee * share, pnl, False, True, order.ref))
        self._emit({"kind": "liquidation", **row._asdict(), "time": utc(row.time)})
        self._is_stopping, self._is_refilling = self.p.on_liquidation == "stop", self.p.on_liquidation == "refill"

    def _liquidation_order(self, slot: Slot, owner: Any, tradeid: int, size: float, row: LiquidationRow):
        leg = {} if slot.side is None else {"position_side": slot.side}
        order = self.place(
            SellOrder if size > 0 else BuyOrder, owner, slot.data, abs(size), exectype=Order.Market, tradeid=tradeid, _checksubmit=False,
            liquidation=True, reason="liquidation", mark_price=row.mark_price,
            message=f"{slot.symbol}: liquidated at mark {row.mark_price:.8g} ({row.trigger})", **leg,
        )  # fmt: skip
        self.pending.remove(order)
        return order

    def claim(self, order, slot: Slot) -> None:
        """Note whose contract an order is for; ValueError where another strategy has ordered it in this run."""
        if order.owner is None:
            return
        owner = self._owners.setdefault(id(slot.data), order.owner)
        if owner is not order.owner:
            first, second = (f"{type(strategy).__name__} (number {self._number_of(strategy)})" for strategy in (owner, order.owner))
            raise ValueError(
                f"{slot.symbol}: {second} ordered what {first} trades; strategies of one Cerebro trade different contracts, "
                "for a position has one owner: give each its own, or run them apart"
            )

    def _number_of(self, strategy: Any) -> int:
        return next((number for number, running in enumerate(self.cerebro.runningstrats, 1) if running is strategy), 0)

    def _emit(self, event: dict[str, Any]) -> None:
        """Queue a margin event for the strategy that owns the contract it is about, or for all."""
        slot = self.slots.get(event.get("symbol") or str(event.get("account", "")).removeprefix("wallet:"))
        self._events.append((event, None if slot is None else self._owners.get(id(slot.data))))

    def get_notification(self):
        """Return the next order notification; once they are out, hand margin events to strategies that listen.

        What concerns one contract is told to the strategy that trades it, what concerns the account to all.
        """
        if self.notifs:
            return self.notifs.popleft()
        while self._events:
            event, owner = self._events.popleft()
            for strategy in self.cerebro.runningstrats:
                listener = getattr(strategy, "notify_margin", None)
                if listener is not None and (owner is None or owner is strategy):
                    listener(event)
        return None


def check_refill(on_liquidation: str, refill: Any) -> None:
    """Raise ValueError where a refill is no positive amount of money, or is given without 'refill', or the reverse."""
    if on_liquidation != "refill":
        if refill is not None:
            raise ValueError(f"refill={refill!r} is for on_liquidation='refill', which was {on_liquidation!r}; give both or neither")
    elif not (is_number(refill) and refill > 0):
        raise ValueError(f"on_liquidation='refill' needs refill=, the positive amount that equity is brought back to, was {refill!r}")


def check_rules(top_up: Any) -> None:
    """Raise ValueError where ``top_up`` is neither a TopUp nor a mapping to such."""
    rules = list(top_up.values()) if isinstance(top_up, Mapping) else [] if top_up is None else [top_up]
    for rule in rules:
        if not isinstance(rule, TopUp):
            raise ValueError(f"top_up is a TopUp, such as TopUp(amount=100), or maps symbols to such, was {rule!r}")


def rules_by_contract(top_up: TopUp | Mapping[str, TopUp] | None, slots: Iterable[Slot]) -> dict[str, TopUp]:
    """Return the rules by the symbol of a position's contract, '' being the cross wallet.

    ValueError where a rule would move margin from the cross wallet to itself, or names no contract of the run.
    """
    if top_up is None:
        return {}
    slots = list(slots)
    names = list(dict.fromkeys(slot.data._name or slot.name for slot in slots))
    isolated = {slot.data._name or slot.name for slot in slots if slot.position.is_isolated}
    if isinstance(top_up, Mapping):
        unknown = [str(name) for name in top_up if name not in names and name != "cross"]
        if unknown:
            raise ValueError(f"top_up names {', '.join(unknown)}, but the datas are {', '.join(names)}; leave it out or add that data")
        by_name, moved = dict(top_up), [name for name, rule in top_up.items() if not rule.deposit and name not in isolated]
    else:
        by_name, moved = dict.fromkeys(names, top_up), [] if top_up.deposit or isolated else ["top_up"]
        by_name |= {"cross": top_up} if top_up.deposit else {}
    if moved:
        raise ValueError(
            f"{', '.join(moved)}: a cross wallet has no other to take margin from; use TopUp(..., deposit=True) for money from outside, "
            "or margin_mode='isolated'"
        )
    rules = {slot.position.contract.symbol: by_name.get(slot.data._name or slot.name) for slot in slots} | {"": by_name.get("cross")}
    return {symbol: rule for symbol, rule in rules.items() if rule is not None}
