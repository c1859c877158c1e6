"""Result: what a run under margin came to, read from its journal and its record.

Frames are built when asked for. Every time is UTC; a bar's time is its closing instant.
"""

import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby, pairwise
from math import fsum, inf, isfinite, isnan, nan
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

from .core.account import Position
from .core.contract import Contract
from .core.funding import FundingSchedule
from .core.ledger import CROSS, Journal, Row, wallet_of
from .core.liquidation import (
    bankruptcy_price,
    is_paid_for,
    joint_liquidation_price,
    jumps,
    liquidation_price,
    shared_bankruptcy_price,
)
from .core.terms import Holding, terms_at
from .core.tiers import Bracket, TierSchedule, maintenance_margin
from .measures import DAY, RoundTrip, annual_return, daily_returns, max_drawdown, positions_of, sharpe, without_flows
from .measures import iso as iso
from .record import BAR_COLUMNS, HOLDING_COLUMNS, FillRow, FlowRow, FundingRow, LiquidationRow, Record, RefusalRow, TopUpRow, WarningRow
from .sizers import Rule, label
from .thresholds import AverageTrueRange
from .traces import ExcursionRow, Held, StopRow, excursions, slippage, stop_rows

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

EQUITY_COLUMNS = (
    "equity",
    "wallet_balance",
    "unrealized_pnl",
    "initial_margin",
    "maintenance_margin",
    "order_margin",
    "available_margin",
    "margin_ratio",
    "effective_leverage",
    "lowest_equity",
    "notional",
)
TRADE_COLUMNS = (
    "symbol",
    "side",
    "opened",
    "closed",
    "size",
    "entry_price",
    "exit_price",
    "realized_pnl",
    "fees",
    "funding",
    "net_pnl",
    "liquidated",
)
POSITION_COLUMNS = ("time", "symbol", "size", "entry_price", "mark_price", "liquidation_price", "bankruptcy_price")
TIER_COLUMNS = ("time", "symbol", "notional", "tier", "cap", "rate", "max_leverage", "leverage")
LONGEST_FUNDING_INTERVAL = 8 * 3600.0  # seconds; no venue of ours settles more rarely
DTYPES = {float | None: float}  # what stands for a NamedTuple's type in a frame, where that is another
DEAD_SHARE = 1e-6  # of all that was paid in: with less an account is dead, where no lot says so
RANGE_BARS = 14  # of an average true range
NOT_A_TIME = -(2**63)  # among numpy's instants
EPOCH = 719_163  # Backtrader's day number of 1970-01-01


class Baseline(NamedTuple):
    """What stock Backtrader said the account was worth: seconds UTC, values, and why its run ended early ('' if not).

    ``first_fill`` is the symbol and the signed size of its first order that was filled, None where none was.
    """

    times: Sequence[float]
    values: Sequence[float]
    failure: str = ""
    first_fill: tuple[str, float] | None = None


@dataclass(frozen=True)
class Bounds:
    """The same backtest by the path of each bar that leaves most (``best``) and by the one that is a bound (``worst``).

    They bound what bars hide on each bar from a given state, not the outcome: once they part, they trade on other accounts.
    """

    best: "Result"
    worst: "Result"

    @cached_property
    def equity(self) -> "pd.DataFrame":
        """Equity at the close of each bar under both, columns ``best`` and ``worst``; the last one stands where a run has ended."""
        import pandas as pd

        return pd.DataFrame({"best": self.best.equity["equity"], "worst": self.worst.equity["equity"]}).ffill()

    @property
    def ends(self) -> "tuple[tuple[str, Result], ...]":
        """Both Results with their names."""
        return ("best", self.best), ("worst", self.worst)

    @property
    def liquidations(self) -> tuple[int, int]:
        """How many liquidations the best and the worst end have."""
        return self.best.summary["liquidations"], self.worst.summary["liquidations"]


class Closest(NamedTuple):
    """How near a position came to its liquidation price: the bar's close, the contract, the distance as a share of the mark and in ATR.

    ``ranges`` is the distance in average true ranges (Wilder's over 14 bars), NaN before there are so many.
    """

    time: "pd.Timestamp"
    symbol: str
    share: float
    ranges: float


class _Holding:
    """One contract held at the close of a bar, as recorded."""

    def __init__(
        self,
        slot: Any,
        size: float,
        entry_price: float,
        mark_price: float,
        wallet_balance: float,
        is_isolated: float,
        leverage: float,
        terms_since: float,
        set_aside: float,
    ) -> None:
        self.slot, self.size, self.entry_price, self.mark_price = slot, size, entry_price, mark_price
        self.wallet_balance, self.is_isolated = wallet_balance, bool(is_isolated)
        self.contract: Contract = slot.position.offered.at(terms_since)
        self.brackets: Sequence[Bracket] = self.contract.tiers.at(terms_since).brackets
        self.kept_fee = 0.0  # for closing, beside the margin
        if not slot.position.is_plain:
            position = self._position(leverage, terms_since, set_aside)
            self.brackets, self.kept_fee = position.brackets, position.reserved_fee

    def _position(self, leverage: float, terms_since: float, set_aside: float) -> Position:
        then: Position = replace(
            self.slot.position, contract=self.contract, size=self.size, entry_price=self.entry_price, leverage=leverage
        )
        then.wallet = wallet_of(self.slot.symbol) if self.is_isolated else CROSS
        then.set_aside = (self.entry_price, set_aside)
        then.table, then.terms = self.contract.tiers.at(terms_since), terms_at(then.rules, terms_since)
        then.renew()
        return then

    @property
    def profit(self) -> float:
        """Unrealized profit."""
        return self.contract.unrealized_pnl(size=self.size, entry_price=self.entry_price, mark_price=self.mark_price)

    @property
    def maintenance(self) -> float:
        """Maintenance margin."""
        return maintenance_margin(self.brackets, self.contract.notional(self.size, self.mark_price))

    @property
    def headroom(self) -> float:
        """Unrealized profit less maintenance margin."""
        return self.profit - self.maintenance

    def problem(self, collateral: float) -> tuple[Any, ...]:
        """Return what the liquidation price follows from; the mark alone decides on which side of a slab's jump it lies."""
        mark_price = self.mark_price if jumps(self.brackets) else None
        return self.size, self.entry_price, collateral, self.brackets, mark_price

    def liquidation_price(self, collateral: float) -> float:
        """Return the liquidation price with this much behind the position, NaN where there is none."""
        price = liquidation_price(
            size=self.size,
            entry_price=self.entry_price,
            collateral=collateral,
            table=self.brackets,
            multiplier=self.contract.multiplier,
            kind=self.contract.kind,
            mark_price=self.mark_price,
        )
        return nan if price is None else price

    def bankruptcy_price(self, collateral: float) -> float:
        """Return the bankruptcy price with this much behind the position, NaN where there is none."""
        contract = self.contract
        terms: Any = {"size": self.size, "entry_price": self.entry_price, "multiplier": contract.multiplier, "kind": contract.kind}
        price = bankruptcy_price(collateral=collateral - self.kept_fee, **terms)
        return nan if price is None else price

    def as_holding(self) -> Holding:
        """Return as much of the position as a bankruptcy price depends on."""
        return Holding(self.size, self.entry_price, None, kind=self.contract.kind, multiplier=self.contract.multiplier)


class Result:
    """A finished run.

    Attributes (frames are pandas DataFrames, made when first asked for):

      - ``summary``: dict of plain numbers, see ``Result.summary``
      - ``equity``: by bar time, EQUITY_COLUMNS; ``lowest_equity`` is the worst inside the bar, ``margin_ratio`` is
        maintenance margin / equity (liquidation at 1; blank while flat), ``effective_leverage`` is notional / equity
      - ``positions``: one row for each bar and contract held at its close, POSITION_COLUMNS; see ``Result.positions``
      - ``fills``, ``funding``, ``liquidations``, ``refusals``, ``warnings``, ``top_ups``, ``journal``: the rows of ``record`` and
        ``core.ledger``
      - ``trades``: closed positions from flat to flat, TRADE_COLUMNS, rebuilt from the fills
      - ``insurance_fund``: what the fund gained from this account (negative: what it paid)
      - ``baseline``: stock Backtrader's value by bar time, or None where it was not run
      - ``bounds``: the same run under both ends of what bars hide, see ``Bounds``, or None where they were not run
      - ``strategy``: the finished strategy; ``settings``: how it was run
    """

    def __init__(self, strategy: Any, *, baseline: Baseline | None = None, bounds: Bounds | None = None) -> None:
        broker = strategy.broker
        record = getattr(broker, "record", None)
        if not isinstance(record, Record):
            kind = type(broker).__name__
            raise ValueError(f"a Result is read from a run with a MarginBroker, this one had a {kind}; use plug(cerebro, ...) before run()")
        if not len(record):
            raise ValueError("a Result is read from a finished run, this one has no bar yet; call cerebro.run() first")
        self.strategy, self.bounds = strategy, bounds
        self._broker, self._record, self._stock = broker, record, baseline
        self._times = record.column("time")
        self._ledger: Journal = broker.journal

    def __repr__(self) -> str:
        end, count = self._record.column("equity")[-1], len(self._record.liquidations)
        deaths = "1 liquidation" if count == 1 else f"{count} liquidations"
        contracts = ", ".join(self.symbols)
        became = f"{self._start_cash:,.{self.decimals}f} became {end:,.{self.decimals}f}"
        return f"<Result of {type(self.strategy).__name__} on {contracts}: {became}, {deaths}>"

    @property
    def decimals(self) -> int:
        """How many decimals money is shown with: 2, of coins 6."""
        return 6 if any(slot.position.contract.kind == "inverse" for slot in self._broker.slots.values()) else 2

    @classmethod
    def of(cls, strategy: Any) -> "Result":
        """Return the Result of a strategy that ``cerebro.run()`` has returned."""
        return cls(strategy)

    # -- the run in numbers ------------------------------------------------------------------------------------------

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The run in plain numbers; money as the account sees it (paid is negative), fractions plain.

        - ``start_cash``, ``final_equity``, ``net_deposits`` (paid in less taken out after the start)
        - ``died``: since when (ISO 8601, UTC) nothing could be opened any more, see ``Result.died``; None of an account that lives
        - ``total_return``, ``annual_return`` (365 days; None for less than a day), ``sharpe`` (daily UTC returns,
          sqrt(365), no risk-free rate): time-weighted, so what is paid in or out is no return. Of a dead account there is no
          Sharpe ratio, and no annual return but -1 where everything was lost
        - ``max_drawdown`` positive, inside bars: from the highest equity of any bar before to the worst inside a bar
        - ``trades`` closed positions, ``open_trades`` those still held, ``orders_refused``, ``win_rate`` closed with a profit after costs
        - ``fees`` trading fees, ``funding``, ``liquidation_loss`` profit of forced fills less fees and forfeits
        - ``liquidations``, ``possible_liquidations`` (those of them that only one of the two paths has)
        - ``ambiguous`` bars on which the two paths differ in what they liquidate or which orders they fill, ``only_worst`` those
          on which a contract is liquidated by ``intrabar='worst'`` alone; both of the bars that were walked; ``detailed`` those of
          them that finer bars decided, counted for each contract
        - ``top_ups`` and ``topped_up``: how often a rule added margin, and how much; ``refills`` and ``refilled``: the same of
          deposits after liquidations
        - ``insurance_fund`` what the fund gained from this account; ``closest_call`` least distance to a liquidation
          price as a fraction of mark, None where none was ever in reach
        - ``time_in_market`` share of bars that ended with a position, ``bars``
        - ``journal_imbalance`` largest unbalanced entry relative to turnover; ``flags`` the policies that were used
        """
        record, times, start = self._record, self._times, self._start_cash
        equity, lowest = self.levels
        total_return = equity[-1] / start - 1
        died = self.died
        trips, open_trips = self._round_trips
        balances = self._ledger.balances()
        return {
            "start_cash": start,
            "final_equity": record.column("equity")[-1],
            "died": None if died is None else iso(died),
            "net_deposits": sum((flow.amount for flow in self.flows), 0.0),
            "total_return": total_return,
            "annual_return": annual_return(total_return, times[-1] - times[0] + self.bar_seconds)
            if died is None or total_return <= -1
            else None,
            "max_drawdown": max_drawdown(start, equity, lowest),
            "sharpe": sharpe(self._returns) if died is None else None,
            "trades": len(trips),
            "open_trades": len(open_trips),
            "orders_refused": len(record.refusals),
            "win_rate": sum(trip.net_pnl > 0 for trip in trips) / len(trips) if trips else None,
            "fees": -balances.get("fees", 0.0) + 0.0,
            "funding": -balances.get("funding", 0.0) + 0.0,
            "liquidations": len(record.liquidations),
            "possible_liquidations": sum(row.certainty == "possible" for row in record.liquidations),
            "liquidation_loss": sum((row.loss for row in record.liquidations), 0.0),
            **self._added_money(),
            "ambiguous": record.ambiguous_bars,
            "only_worst": record.only_worst_bars,
            "detailed": sum(record.detailed.values()),
            "insurance_fund": self.insurance_fund,
            "closest_call": record.closest_call if record.closest_call < inf else None,
            "time_in_market": record.bars_held / len(record),
            "bars": len(record),
            "journal_imbalance": self._ledger.imbalance(),
            "flags": self._flags(),
        }

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """The numbers of a tear sheet, by the names of ``tearsheet.STATISTICS``, which has their units and definitions."""
        from .tearsheet import statistics

        return statistics(self)

    @cached_property
    def levels(self) -> tuple[Sequence[float], Sequence[float]]:
        """Equity and its lowest inside each bar as if nothing had been paid in or out after the start: what returns are of."""
        record = self._record
        return without_flows(self._start_cash, record.column("equity"), record.column("lowest_equity"), self.flows)

    @cached_property
    def _returns(self) -> list[float]:
        return daily_returns(self._start_cash, [time - self.bar_seconds for time in self._times], self.levels[0])

    @cached_property
    def daily_returns(self) -> "pd.Series":
        """The return of each UTC day from the first bar's to the last's, by the day's midnight, as tear-sheet libraries take it.

        A bar belongs to the day it opens on; money paid in or out is no return; a day without a bar returned 0.
        """
        import pandas as pd

        first = (self._times[0] - self.bar_seconds) // DAY * DAY
        days = _instants([first + row * DAY for row in range(len(self._returns))], name="day")
        return pd.Series(self._returns, index=pd.DatetimeIndex(days, freq="D"), name="return", dtype=float)

    @cached_property
    def price_profit(self) -> float:
        """What prices brought, before fees and funding: realized by fills that were not forced, and open at the last close."""
        realized = fsum(fill.realized_pnl for fill in self._record.fills if not fill.liquidation)
        return realized + self._record.column("equity")[-1] - self._record.column("wallet_balance")[-1]

    @cached_property
    def traded_notional(self) -> float:
        """Notional of all fills at their prices, forced ones too."""
        slots = self._broker.slots
        return fsum(slots[fill.symbol].position.contract.notional(fill.size, fill.price) for fill in self._record.fills)

    def _added_money(self) -> dict[str, float]:
        topped_up = [row.amount for row in self._record.top_ups]
        refilled = [flow.amount for flow in self.flows if flow.kind == "refill"]
        sums = {"topped_up": sum(topped_up, 0.0), "refilled": sum(refilled, 0.0)}
        return {"top_ups": len(topped_up), "refills": len(refilled), **sums}

    @cached_property
    def insurance_fund(self) -> float:
        """What the insurance fund gained from this account; negative is what it paid for shortfalls."""
        return self._ledger.balances().get("insurance_fund", 0.0)

    @cached_property
    def bar_seconds(self) -> float:
        """Length of a bar: the shortest time between two of them, 0 where there is only one."""
        return min((later - earlier for earlier, later in pairwise(self._times) if later > earlier), default=0.0)

    @property
    def ended_early(self) -> bool:
        """Whether the run ended before its data does; known of PerpData only."""
        return self._times[-1] < self._last_known

    @property
    def _last_known(self) -> float:
        series = [slot.series for slot in self._slots.values()]
        return max((known.stamps[-1] for known in series if known is not None), default=self._times[-1])

    @property
    def _start_cash(self) -> float:
        return self._ledger.entries[0].postings[0][1]

    @property
    def start_cash(self) -> float:
        """The first deposit."""
        return self._start_cash

    @property
    def flags(self) -> list[str]:
        """The stated policies of the run, as in ``summary``, without the rest of it."""
        return self._flags()

    @property
    def flows(self) -> list[FlowRow]:
        """Money from outside after the start; what came after the last bar is in no equity and left out."""
        return [flow for flow in self._record.flows if flow.bar < len(self._record)]

    @cached_property
    def died(self) -> float | None:
        """Since when (seconds UTC) the account has been dead: the bar from which on it holds nothing and can open nothing more.

        Judged at the last closes: its money is below what one lot takes of each contract, of one without lots below a
        millionth of all that was paid in. None of an account that lives, has never traded, or was emptied by its owner.
        """
        account, record = self._broker.account, self._record
        left = account.wallet_balance
        if not record.fills or any(position.size for position in account.positions.values()) or self._can_open(left):
            return None
        equity, notional = record.column("equity"), record.column("notional")
        row = len(record) - 1
        while row and not notional[row - 1] and equity[row - 1] == equity[-1]:
            row -= 1
        is_emptied = any(flow.bar >= row and flow.amount < 0 for flow in record.flows)
        return None if is_emptied else self._times[row]

    def _can_open(self, money: float) -> bool:
        """Whether this much money opens the smallest size of some contract at its last close."""
        account, paid_in = self._broker.account, self._start_cash + sum(flow.amount for flow in self._record.flows if flow.amount > 0)
        for symbol, slot in self._broker.slots.items():
            contract = slot.position.contract
            if not contract.lot:
                if money > DEAD_SHARE * paid_in:
                    return True
            elif len(slot.data):
                need = account.opening_need(symbol, size=contract.lot, price=slot.data.close[0], fee_rate=contract.taker)
                if money >= need:
                    return True
        return False

    @cached_property
    def _round_trips(self) -> tuple[list[RoundTrip], list[RoundTrip]]:
        slots = self._broker.slots.values()
        return positions_of(
            self._record.fills, self._record.funding, {slot.symbol for slot in slots if slot.position.contract.kind == "inverse"}
        )

    # -- how it was run ----------------------------------------------------------------------------------------------

    @cached_property
    def settings(self) -> dict[str, Any]:
        """How the run was made: rules, money, data, strategy, versions."""
        broker, terms = self._broker, self._terms()
        return {
            "venue": getattr(broker, "venue", None),
            "leverage": {symbol: comminfo.p.leverage for symbol, comminfo in terms.items()},
            "margin_mode": {symbol: comminfo.p.margin_mode or broker.p.margin_mode for symbol, comminfo in terms.items()},
            "cash": self._start_cash,
            "position_mode": broker.p.position_mode,
            "intrabar": broker.p.intrabar,
            "detail": list(dict.fromkeys(slot.name for slot in broker.slots.values() if slot.detail is not None)),
            "unfunded": broker.p.unfunded,
            "filters": broker.p.filters,
            "on_liquidation": broker.p.on_liquidation,
            "refill": broker.p.refill,
            "top_up": _rules_said(broker.p.top_up),
            "scaler": [repr(rule) for analyzer in self.strategy.analyzers if (rule := getattr(analyzer, "scaled_by", None)) is not None],
            "sizer": label(self.strategy.getsizer()),
            "profile": broker.profile.name,
            "currency": broker.currency,
            "kind": {symbol: comminfo.p.kind for symbol, comminfo in terms.items()},
            "mark": {symbol: "own candles" if slot.has_own_mark else "last price" for symbol, slot in self._slots.items()},
            "fees": {symbol: _fees(comminfo.contract(symbol)) for symbol, comminfo in terms.items()},
            "strategy": type(self.strategy).__name__,
            "params": _params(self.strategy),
            "data": {
                "first": iso(self._times[0] - self.bar_seconds),
                "last": iso(self._times[-1]),
                "bars": len(self._times),
                "bar_seconds": self.bar_seconds,
            },
            "versions": {"bt_margin": version_of("bt_margin"), "backtrader": version_of("backtrader"), "python": platform.python_version()},
        }

    @property
    def symbols(self) -> list[str]:
        """The contracts of the run, in the order their datas were added; resampled copies left out unless traded."""
        traded = {fill.symbol for fill in self._record.fills}
        contracts = self._broker.contracts.items()
        return [name for name, legs in contracts if "#" not in name or any(leg.symbol in traded for leg in legs)]

    def legs(self, symbol: str) -> list[str]:
        """Return the symbols that a contract's rows carry: its own, in hedge mode 'SYMBOL:LONG' and 'SYMBOL:SHORT'."""
        return [leg.symbol for leg in self._broker.contracts[symbol]]

    @property
    def _slots(self) -> dict[str, Any]:
        """The slot of each contract, in hedge mode the long leg's: what both have in common."""
        return {symbol: self._broker.contracts[symbol][0] for symbol in self.symbols}

    def _terms(self) -> dict[str, Any]:
        return {symbol: self._broker.getcommissioninfo(slot.data) for symbol, slot in self._slots.items()}

    def _flags(self) -> list[str]:
        """Return the stated policies that this run used, a sentence each (R30), after what its figures cannot say."""
        slots = self._slots
        groups = {
            "mark from last": [symbol for symbol, slot in slots.items() if not slot.has_own_mark],
            "generic tiers (flat 0.5 %)": [symbol for symbol, comminfo in self._terms().items() if comminfo.is_generic],
            "no maintenance margin": [
                symbol for symbol, comminfo in self._terms().items() if _maintains_nothing(comminfo.contract(symbol))
            ],
            **_constant_funding(slots),
            "funding at mark, no oracle price was given": [symbol for symbol, slot in slots.items() if _lacks_oracle(slot)],
            "no trading fees": [symbol for symbol, comminfo in self._terms().items() if not (comminfo.p.commission or comminfo.p.maker)],
            "detail without marks, fine mark is fine last clipped to the bar's mark": [
                symbol for symbol, slot in slots.items() if slot.has_own_mark and slot.detail is not None and slot.detail.has_marks is False
            ],
            "no funding": [symbol for symbol, slot in slots.items() if slot.schedule is None and slot.position.contract.kind != "spot"],
        }
        for slot in slots.values():
            for policy in (*_term_flags(slot.position, self._broker.currency), *(() if slot.series is None else slot.series.flags)):
                groups.setdefault(policy, []).append(slot.name)
        flags = [] if self.died is None else [f"the account died at {iso(self.died)}: no Sharpe ratio, no annual return"]
        flags += [f"{policy}: {', '.join(symbols)}" for policy, symbols in groups.items() if symbols]
        first, last = self._times[0] - self.bar_seconds, self._times[-1]
        for symbol, slot in slots.items():
            flags.extend(_tier_flag(symbol, slot.position.contract.tiers, first, last))
            flags.extend(_rules_flag(symbol, slot.position, first, last))
            series = slot.series
            if series is not None and series.gaps:
                flags.append(f"bars missing between the first and the last: {symbol} {series.gaps}")
            span = (first, last) if series is None else (series.stamps[0] - series.bar_seconds, series.stamps[-1])
            flags.extend(_funding_flag(symbol, slot.schedule, *span))
        if self._record.gap_stamps:
            flags.append(f"funding stamps in data gaps, settled at the last known mark: {self._record.gap_stamps}")
        for symbol, count in self._record.undetailed.items():
            flags.append(
                f"detail missing, the path of the bar was walked: {symbol} {count} of {count + self._record.detailed[symbol]} bars"
            )
        sizer = self.strategy.getsizer()
        flags += sizer.flags() if isinstance(sizer, Rule) else []
        flags.append(f"intrabar: {self._broker.p.intrabar}")
        if self.ended_early:
            flags.append(f"ended {iso(last)}, before the data does, {iso(self._last_known)}")
        if self._stock is not None and self._stock.first_fill is not None:
            flags.extend(_sizes_flag(self._stock.first_fill, self._record.fills, slots))
        if self._stock is not None and self._stock.failure:
            flags.append(f"the stock baseline ended {iso(self._stock.times[-1])}: {self._stock.failure}")
        return flags

    # -- frames ------------------------------------------------------------------------------------------------------

    @cached_property
    def equity(self) -> "pd.DataFrame":
        """Equity and margin by bar time."""
        import pandas as pd

        rows = self._record.table()
        frame = pd.DataFrame(dict(zip(BAR_COLUMNS[1:], rows.T[1:], strict=True)), index=_instants(rows[:, 0], name="time"))
        frame["unrealized_pnl"] = frame["equity"] - frame["wallet_balance"]
        holds = frame["notional"] > 0
        frame["margin_ratio"] = (frame["maintenance_margin"] / frame["equity"]).where(holds)
        frame["effective_leverage"] = (frame["notional"] / frame["equity"]).where(holds, 0.0)
        return frame[list(EQUITY_COLUMNS)]

    @cached_property
    def positions(self) -> "pd.DataFrame":
        """What was held at the close of each bar: size (signed), entry, closing mark, liquidation and bankruptcy price (NaN where none).

        The liquidation price is the mark at which the position's wallet would fail, the bankruptcy price the one at which its
        equity would be 0, the other marks as at that close. In hedge mode each leg is a row; in cross both have one price.
        """
        import numpy as np
        import pandas as pd

        rows = self._record.holdings()
        row, number, size, entry_price, mark_price = rows.T[:5]
        symbols = np.array([slot.symbol for slot in self._broker.slots.values()], dtype=object)
        prices = self.position_prices(rows)
        columns = {
            "time": _instants(np.array(self._times)[row.astype(int)]),
            "symbol": pd.Series(symbols[number.astype(int)], dtype=str),
            "size": size,
            "entry_price": entry_price,
            "mark_price": mark_price,
            "liquidation_price": prices[:, 0],
            "bankruptcy_price": prices[:, 1],
        }
        return pd.DataFrame(columns)[list(POSITION_COLUMNS)]

    def position_prices(self, holdings: "np.ndarray") -> "np.ndarray":
        """Return liquidation and bankruptcy price of rows of ``Record.holdings``, NaN where none; all of a bar's together."""
        import numpy as np

        return np.array(list(self._position_prices(holdings.tolist()))).reshape(-1, 2)

    def _position_prices(self, rows: "list[list[float]]") -> Iterator[tuple[float, float]]:
        """Yield liquidation and bankruptcy price of each holding; those of one bar and the cross wallet carry each other."""
        slots = list(self._broker.slots.values())
        solved: dict[int, tuple[Any, tuple[float, float]]] = {}  # by contract: the last problem and its answer, most bars repeat it
        for _, bar in groupby(rows, key=lambda holding: holding[0]):
            held = [_Holding(slots[int(number)], *rest) for _, number, *rest in bar]
            shared = [holding for holding in held if not holding.is_isolated] if len(held) > 1 else []
            headroom, profit = sum(holding.headroom for holding in shared), sum(holding.profit for holding in shared)
            for holding in held:
                joint = [holding] if holding.is_isolated else [other for other in held if other.slot.name == holding.slot.name]
                collateral = worth = holding.wallet_balance
                if len(held) > 1 and not holding.is_isolated:
                    collateral += headroom - sum(other.headroom for other in joint)
                    worth += profit - sum(other.profit for other in joint)
                number = holding.slot.number
                if len(joint) > 1:
                    price = joint_liquidation_price(joint, collateral=collateral, mark_price=holding.mark_price)
                    worth -= sum(other.kept_fee for other in joint)
                    bankrupt = shared_bankruptcy_price([other.as_holding() for other in joint], collateral=worth)
                    yield nan if price is None else price, nan if bankrupt is None else bankrupt
                    continue
                if holding.contract.kind == "spot" and _owes_nothing(holding, held):
                    yield nan, nan  # nothing is borrowed, nothing can be called
                    continue
                problem = (*holding.problem(collateral), worth)
                if number not in solved or solved[number][0] != problem:
                    solved[number] = problem, (holding.liquidation_price(collateral), holding.bankruptcy_price(worth))
                yield solved[number][1]

    @cached_property
    def margin_ratios(self) -> "pd.DataFrame":
        """Maintenance margin / equity of each wallet that was ever used, by bar time: a column 'cross', or a contract's (a leg's) symbol.

        A wallet is liquidated at 1 by what it holds itself, whatever the account has besides. Of closes; NaN where a wallet
        held nothing then, or its equity was 0 or less.
        """
        import numpy as np
        import pandas as pd

        slots = list(self._broker.slots.values())
        held = pd.DataFrame(self._record.holdings(), columns=list(HOLDING_COLUMNS))
        symbols = np.array([slot.symbol for slot in slots], dtype=object)[held["number"].astype(int)]
        held["wallet"] = np.where(held["is_isolated"] > 0, symbols, CROSS.removeprefix("wallet:"))
        held["profit"] = held["maintenance"] = 0.0
        for (number, _), rows in held.groupby(["number", "terms_since"]):
            held.loc[rows.index, ["profit", "maintenance"]] = _profit_and_maintenance(slots[int(number)], rows)
        wallets = held.groupby(["row", "wallet"]).agg({"wallet_balance": "first", "profit": "sum", "maintenance": "sum"})
        equity = wallets["wallet_balance"] + wallets["profit"]
        ratios = (wallets["maintenance"] / equity.where(equity > 0)).unstack("wallet")
        order = [name for name in (CROSS.removeprefix("wallet:"), *self._broker.slots) if name in ratios]
        return ratios.reindex(range(len(self._times)))[order].set_index(self.equity.index)

    @cached_property
    def judged_ratios(self) -> "pd.DataFrame":
        """The margin ratios that decide, by bar and NaN while flat: of each wallet, or where all is in cross of the 'account'.

        A wallet is liquidated by what it holds itself.
        """
        modes, held = self.settings["margin_mode"], self.margin_ratios
        if any(modes[symbol] == "isolated" or any(leg in held for leg in self.legs(symbol)) for symbol in self.symbols):
            return held
        ratio = self.equity["margin_ratio"]
        return ratio.where(ratio >= 0).to_frame("account")

    @cached_property
    def fills(self) -> "pd.DataFrame":
        """One row for each execution."""
        return _frame(FillRow, self._record.fills)

    @cached_property
    def funding(self) -> "pd.DataFrame":
        """One row for each funding payment, at its stamp."""
        return _frame(FundingRow, self._record.funding)

    @cached_property
    def liquidations(self) -> "pd.DataFrame":
        """One row for each position taken from its owner."""
        return _frame(LiquidationRow, self._record.liquidations)

    @cached_property
    def refusals(self) -> "pd.DataFrame":
        """One row for each order that was refused, with the reason."""
        return _frame(RefusalRow, self._record.refusals)

    @cached_property
    def warnings(self) -> "pd.DataFrame":
        """One row for each warning and margin call."""
        return _frame(WarningRow, self._record.warnings)

    @cached_property
    def top_ups(self) -> "pd.DataFrame":
        """One row for each time a rule added margin to a wallet that would have been liquidated."""
        return _frame(TopUpRow, self._record.top_ups)

    @cached_property
    def journal(self) -> "pd.DataFrame":
        """One row for each posting; those of one ``entry_id`` sum to zero."""
        return _frame(Row, list(_postings(self._ledger)))

    @cached_property
    def trades(self) -> "pd.DataFrame":
        """One row for each closed position, from flat to flat."""
        import pandas as pd

        trips = self._round_trips[0]
        kinds = {**RoundTrip.__annotations__, "net_pnl": float}
        frame = pd.DataFrame({name: pd.Series([getattr(trip, name) for trip in trips], dtype=kinds[name]) for name in TRADE_COLUMNS})
        return frame.assign(opened=_instants(frame["opened"]), closed=_instants(frame["closed"]))

    @cached_property
    def baseline(self) -> "pd.Series | None":
        """What stock Backtrader said the account was worth, by bar time; None where it was not run."""
        if self._stock is None:
            return None
        import pandas as pd

        return pd.Series(self._stock.values, index=_instants(self._stock.times, name="time"), name="baseline", dtype=float)

    def candles(self, symbol: str | None = None) -> "pd.DataFrame":
        """Return a contract's candles by bar time (default: the first contract's), as the strategy saw them."""
        import pandas as pd

        slot = self._broker.contracts[self.symbols[0] if symbol is None else symbol][0]
        data, size = slot.data, len(slot.data)
        times = [round((day - EPOCH) * DAY, 3) for day in data.datetime.get(size=size)]
        prices = {name: list(getattr(data, name).get(size=size)) for name in ("open", "high", "low", "close")}
        return pd.DataFrame(prices, index=_instants(times, name="time"))

    def marks(self, symbol: str | None = None) -> "pd.DataFrame":
        """Return a contract's mark candles by the times of ``candles``; the candles themselves where no marks were given."""
        import numpy as np

        candles, slot = self.candles(symbol), self._broker.contracts[self.symbols[0] if symbol is None else symbol][0]
        series = slot.series
        if not slot.has_own_mark or candles.empty:
            return candles
        ends = np.searchsorted(np.array(series.stamps), _seconds(candles.index), side="right")
        first = np.minimum(np.concatenate([[max(ends[0] - 1, 0)], ends[:-1]]), ends - 1)
        opens, highs, lows, closes = (np.array(getattr(series, f"mark_{name}")) for name in candles.columns)
        merged = {"open": opens[first], "high": np.maximum.reduceat(highs, first), "low": np.minimum.reduceat(lows, first)}
        if first[-1] < ends[-1] < len(highs):  # the last bar ends before the series does
            merged["high"][-1], merged["low"][-1] = highs[first[-1] : ends[-1]].max(), lows[first[-1] : ends[-1]].min()
        return candles.assign(**merged, close=closes[ends - 1])

    def _bar_rows(self, symbol: str, times: Any) -> "np.ndarray":
        """Return which row of ``candles`` each closing instant belongs to; feeds of the host may be stamped at the open."""
        import numpy as np

        slot = self._broker.contracts[symbol][0]
        side: Any = "left" if slot.stamps_are_opens and slot.series is None else "right"
        return (np.searchsorted(_seconds(self.candles(symbol).index), times, side=side) - 1).clip(min=0)

    # -- what orders and bars tell beyond the record -----------------------------------------------------------------

    @cached_property
    def stops(self) -> "pd.DataFrame":
        """One row for each price at which a stop order rested, see ``traces.StopRow``; none where the host checks no orders."""
        names = {id(leg.data): symbol for symbol, legs in self._broker.contracts.items() for leg in legs}
        known = [order for order in self._broker.orders if id(order.data) in names]
        rows = stop_rows(known, _of_host, lambda order: names[id(order.data)], self._times[-1])
        return _frame(StopRow, rows)

    @cached_property
    def slippage(self) -> "pd.Series":
        """What slippage took by each fill, a number for each row of ``fills``: money, negative; it is inside the fills' prices.

        None is known where the host checks no orders (``checksubmit=False``), for it keeps none then.
        """
        import pandas as pd

        fills, params = self._record.fills, self._broker.p
        if not (params.slip_perc or params.slip_fixed):
            return pd.Series(0.0, index=self.fills.index, name="slippage")
        orders = {order.ref: order for order in self._broker.orders}
        legs = {leg.symbol: symbol for symbol, legs in self._broker.contracts.items() for leg in legs}
        bars = {symbol: self.candles(symbol) for symbol in set(legs.values())}
        taken = []
        for fill in fills:
            symbol = legs[fill.symbol]
            bar = bars[symbol].iloc[int(self._bar_rows(symbol, fill.time))].to_dict()
            contract = self._broker.slots[fill.symbol].position.contract
            taken.append(slippage(fill, orders.get(fill.order_ref), contract, bar, is_at_close=params.coc))
        return pd.Series(taken, index=self.fills.index, name="slippage", dtype=float)

    @cached_property
    def excursions(self) -> "pd.DataFrame":
        """One row for each position: how far its mark went against it, and how far its liquidation was; see ``traces.ExcursionRow``."""
        held, positions = {}, self.positions
        for symbol in self.symbols:
            marks = self.marks(symbol)
            lows, highs = marks["low"].to_numpy(), marks["high"].to_numpy()
            for leg in self.legs(symbol):
                rows = positions[positions["symbol"] == leg]
                times = _seconds(rows["time"])
                bars = self._bar_rows(symbol, times)
                sizes, entries, ends = (rows[name].to_numpy() for name in ("size", "entry_price", "liquidation_price"))
                held[leg] = Held(times, sizes, entries, ends, lows[bars], highs[bars])
        deaths = {(row.symbol, row.time): row.mark_price for row in self._record.liquidations}
        return _frame(ExcursionRow, list(excursions(*self._round_trips, held, deaths)))

    @cached_property
    def closest(self) -> "Closest | None":
        """The close at which a position's mark was nearest to its liquidation price inside the bar, None where none was in reach.

        Of what was held at closes; the ``closest_call`` of the summary also knows what came and went inside a bar.
        """
        import numpy as np

        rows = self.positions[self.positions["liquidation_price"] > 0]
        nearest: Closest | None = None
        for symbol in self.symbols:
            held = rows[rows["symbol"].isin(self.legs(symbol))]
            if held.empty:
                continue
            marks, bars = self.marks(symbol), self._bar_rows(symbol, _seconds(held["time"]))
            worst = np.where(held["size"] > 0, marks["low"].to_numpy()[bars], marks["high"].to_numpy()[bars])
            shares = np.abs(worst - held["liquidation_price"].to_numpy()) / worst
            row = int(shares.argmin())
            if nearest is None or shares[row] < nearest.share:
                ranges = self._average_range(symbol, int(bars[row]))
                distance = float(shares[row] * worst[row])
                nearest = Closest(held["time"].iloc[row], symbol, float(shares[row]), nan if ranges is None else distance / ranges)
        return nearest

    def _average_range(self, symbol: str, bar: int) -> float | None:
        """Return Wilder's average true range of a contract's last prices as of a row of its candles, None where it is too early."""
        average = AverageTrueRange(RANGE_BARS)
        for number, row in enumerate(self.candles(symbol).iloc[: bar + 1].itertuples(), 1):
            average.add(number, row.high, row.low, row.close)
        return average.value

    @cached_property
    def tiers(self) -> "pd.DataFrame":
        """The tier of each row of ``positions``, spot left out: number (from 1), cap, maintenance rate, largest leverage; the leverage set.

        ``notional`` is at the closing mark; ``cap`` counts what the table does (quote money, coins or contracts), inf where open.
        """
        import numpy as np
        import pandas as pd

        slots = list(self._broker.slots.values())
        held = pd.DataFrame(self._record.holdings(), columns=list(HOLDING_COLUMNS))
        on_margin = np.array([slot.position.contract.kind != "spot" for slot in slots])
        held = held[on_margin[held["number"].astype(int)]]
        frame = pd.DataFrame(0.0, index=held.index, columns=["notional", "tier", "cap", "rate", "max_leverage"])
        for (number, since), rows in held.groupby(["number", "terms_since"]):
            frame.loc[rows.index] = _tiers_of(slots[int(number)], since, rows)
        symbols = np.array([slot.symbol for slot in slots], dtype=object)[held["number"].astype(int)]
        times = _instants(np.array(self._times)[held["row"].astype(int)])
        frame = frame.assign(leverage=held["leverage"], tier=frame["tier"].astype(int), symbol=pd.Series(symbols, held.index, dtype=str))
        return frame.reset_index(drop=True).assign(time=times)[list(TIER_COLUMNS)]

    # -- for machines ------------------------------------------------------------------------------------------------

    def to_json(self, *, indent: int | None = None) -> str:
        """Return everything as JSON: times as ISO 8601 UTC, blanks as null; ``equity``, ``positions``, ``baseline`` by column.

        ``bounds`` has the summary and the equity of both ends.
        """
        tables = {
            name: getattr(self, name)
            for name in ("liquidations", "trades", "fills", "refusals", "warnings", "top_ups", "funding", "journal")
        }
        whole = {
            "settings": self.settings,
            "summary": self.summary,
            "statistics": self.statistics,
            **{name: records(frame) for name, frame in tables.items()},
            "equity": _columns(self.equity),
            "positions": _columns(self.positions),
            "baseline": None if self.baseline is None else _columns(self.baseline.to_frame()),
            "bounds": None if self.bounds is None else {name: _end(end) for name, end in self.bounds.ends},
        }
        return json.dumps(plain(whole), indent=indent, allow_nan=False)


def _end(result: Result) -> dict[str, Any]:
    return {"summary": result.summary, "equity": _columns(result.equity)}


def records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return a frame's rows as dicts of plain values, times as ISO 8601 UTC."""
    columns = _columns(frame.set_index(frame.columns[0]))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: no NaN or infinity, keys and unknown things as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool | str | None):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if isfinite(value) else None
    return str(value)


def _columns(frame: "pd.DataFrame") -> dict[str, list[Any]]:
    frame = frame.reset_index()
    return {str(name): _texts(column) if str(column.dtype).startswith("datetime") else column.tolist() for name, column in frame.items()}


def _texts(times: "pd.Series") -> list[str]:
    return [time.isoformat().replace("+00:00", "Z") for time in times]


def _frame(kind: Any, rows: Sequence[Sequence[Any]]) -> "pd.DataFrame":
    """Return rows of a NamedTuple as a frame whose columns keep their types when there are none."""
    import pandas as pd

    columns = list(zip(*rows, strict=True)) or [()] * len(kind._fields)
    frame = {}
    for name, values in zip(kind._fields, columns, strict=True):
        frame[name] = (
            _instants(values)
            if name in ("time", "placed", "ended", "opened", "closed")
            else pd.Series(list(values), dtype=DTYPES.get(kind.__annotations__[name], kind.__annotations__[name]))
        )
    return pd.DataFrame(frame)


def _instants(seconds: Iterable[float], *, name: str | None = None) -> "pd.DatetimeIndex":
    """Return seconds since 1970 as UTC instants, to the microsecond; NaN is no time (NaT)."""
    import numpy as np
    import pandas as pd

    known = np.fromiter(seconds, dtype="float64")
    micros = np.where(np.isnan(known), NOT_A_TIME, np.rint(np.nan_to_num(known) * 1e6).astype("int64"))
    return pd.DatetimeIndex(micros.view("datetime64[us]"), name=name).tz_localize("UTC")


def _seconds(times: Any) -> "np.ndarray":
    """Return UTC instants as seconds since 1970."""
    import numpy as np
    import pandas as pd

    return np.asarray(pd.DatetimeIndex(times).as_unit("us").asi8) / 1e6


def _of_host(day_number: float) -> float:
    """Return the host's day number as seconds since 1970."""
    return round((day_number - EPOCH) * DAY, 3)


def _postings(journal: Journal) -> Iterator[tuple[float, str, str, str, float, int]]:
    for entry_id, (time, kind, symbol, postings) in enumerate(journal.entries):
        for account, amount in postings:
            yield time, kind, symbol, account, amount, entry_id


def _day(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d}"


def _tiers_of(slot: Any, since: float, rows: "pd.DataFrame") -> Any:
    """Return notional, tier number, cap, rate and largest leverage of holdings of one contract under the same dated terms, a row each."""
    import numpy as np

    contract, terms = slot.position.offered.at(since), terms_at(slot.position.rules, since)
    table, is_inverse = contract.tiers.at(since), contract.kind == "inverse"
    sizes, entries, marks = (rows[name].to_numpy() for name in ("size", "entry_price", "mark_price"))
    coins = abs(sizes) * contract.multiplier
    judged = entries if terms.maintenance_basis == "entry" else marks
    notionals, basis = (coins / price if is_inverse else coins * price for price in (marks, judged))
    moves = table.unit == ("base" if is_inverse else "quote")
    measures = abs(sizes) if table.unit == "contracts" else basis if moves else coins
    terms_of = np.array([(tier.cap, tier.rate, tier.max_leverage) for tier in table.tiers])
    numbers = np.searchsorted(terms_of[:, 0], measures).clip(max=len(terms_of) - 1)
    return np.column_stack([notionals, numbers + 1, terms_of[numbers]])


def _profit_and_maintenance(slot: Any, rows: "pd.DataFrame") -> Any:
    """Return profit and maintenance margin of holdings of one contract under the same dated terms, a row each."""
    import numpy as np

    if not slot.position.is_plain:
        holdings = [_Holding(slot, *row) for row in rows[list(HOLDING_COLUMNS[2:])].to_numpy().tolist()]
        return np.array([(holding.profit, holding.maintenance) for holding in holdings])
    contract = slot.position.contract
    units = rows["size"].to_numpy() * contract.multiplier
    notionals = abs(units) * rows["mark_price"].to_numpy()
    brackets = contract.tiers.at(rows["terms_since"].iloc[0]).brackets
    caps, rates, amounts = (np.array([getattr(bracket, name) for bracket in brackets]) for name in ("cap", "rate", "amount"))
    tiers = np.searchsorted(caps, notionals).clip(max=len(caps) - 1)
    profit = units * (rows["mark_price"] - rows["entry_price"]).to_numpy()
    return np.column_stack([profit, notionals * rates[tiers] - amounts[tiers]])


def _params(strategy: Any) -> dict[str, Any]:
    """Return a strategy's own parameters, without what the host keeps among them."""
    params = dict(strategy.p._getkwargs())
    hidden = ("signals",) if "_accumulate" in params else ()  # of the host's SignalStrategy
    return {name: value for name, value in params.items() if not name.startswith("_") and name not in hidden}


def _rules_said(top_up: Any) -> Any:
    """Return top-up rules as plain dicts."""
    if top_up is None:
        return None
    return {name: asdict(rule) for name, rule in top_up.items()} if isinstance(top_up, Mapping) else asdict(top_up)


def _fees(contract: Contract) -> dict[str, Any]:
    fees: dict[str, Any] = {"maker": contract.maker, "taker": contract.taker, "liquidation_fee": contract.liquidation_fee}
    if contract.dated_fees:
        fees["later"] = [{"from": _day(start), "maker": maker, "taker": taker} for start, maker, taker in contract.dated_fees]
    return fees


def _constant_funding(slots: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the contracts that one rate was assumed for, by a policy that names the rate."""
    policies: dict[str, list[str]] = {}
    for symbol, slot in slots.items():
        series = slot.series
        if series is not None and series.constant_funding is not None and slot.schedule is series.funding:
            policy = f"constant funding of {series.constant_funding:g} per {series.funding_hours:g} h"
            policies.setdefault(policy, []).append(symbol)
    return policies


def _maintains_nothing(contract: Contract) -> bool:
    """Whether no tier of a contract that is no spot asks for maintenance margin: nothing is liquidated before its money is gone."""
    return contract.kind != "spot" and not any(tier.rate for table in contract.tiers.tables for tier in table.tiers)


def _lacks_oracle(slot: Any) -> bool:
    """Whether a venue takes the oracle's price for funding and the schedule has it not for every stamp."""
    schedule = slot.schedule
    if schedule is None or not len(schedule) or slot.position.contract.funding_price != "oracle":
        return False
    return not schedule.marks or any(map(isnan, schedule.marks))


def _tier_flag(symbol: str, tiers: TierSchedule, first: float, last: float) -> list[str]:
    """Return which dated tables a run used; nothing for tiers without a date (R5)."""
    if tiers.dates[0] == -inf:
        return []
    used = [tiers.dates[index] for index in range(tiers.index_at(first), tiers.index_at(last) + 1)]
    span = _day(used[0]) if len(used) == 1 else f"{_day(used[0])} to {_day(used[-1])} ({len(used)} tables)"
    before = f", the first known, also before that day (from {_day(first)})" if first < used[0] else ""
    return [f"tiers as of {span}: {symbol}{before}"]


def _term_flags(position: Position, currency: str | None) -> list[str]:
    """Return what sets a contract apart from a linear one with marginal tiers and maintenance at mark."""
    contract = position.contract
    if contract.kind == "spot":
        return ["spot, paid in full"]
    tables = contract.tiers.tables
    policies = [f"inverse, all money in {currency or 'coin'}"] if contract.kind == "inverse" else []
    policies += [f"slab tiers, counted in {table.unit}" for table in tables[-1:] if table.mode == "slab"]
    if position.terms.maintenance_basis == "entry":
        policies.append("maintenance of the notional at entry")
    if position.terms.fee_in_margin != "none":
        policies.append(f"closing fee kept in margin ({position.terms.fee_in_margin})")
    return policies


def _rules_flag(symbol: str, position: Position, first: float, last: float) -> list[str]:
    """Return the days on which a venue's margin terms changed inside a run (R5)."""
    changes = [_day(start) for start, _ in position.rules[1:] if first < start <= last]
    return [f"margin terms changed {', '.join(changes)}: {symbol}"] if changes else []


def _owes_nothing(holding: _Holding, held: Sequence[_Holding]) -> bool:
    """Return whether a holding's wallet holds nothing but spot that is paid for."""
    beside = [holding] if holding.is_isolated else [other for other in held if not other.is_isolated]
    if any(other.contract.kind != "spot" for other in beside):
        return False
    return is_paid_for(holding.wallet_balance, sum(other.contract.notional(other.size, other.entry_price) for other in beside))


def _funding_flag(symbol: str, schedule: FundingSchedule | None, first: float, last: float) -> list[str]:
    """Return what part of the run has no funding stamps, where some were given: it paid none there (R30)."""
    if schedule is None:
        return []
    stamps = [first, *(stamp for stamp in schedule.stamps if first <= stamp <= last), last]
    holes = [(early, late) for early, late in pairwise(stamps) if late - early > LONGEST_FUNDING_INTERVAL]
    if not holes:
        return []
    longest = max(holes, key=lambda hole: hole[1] - hole[0])
    count = "" if len(holes) == 1 else f" and {len(holes) - 1} shorter times"
    return [f"no funding stamps, none paid: {symbol} {iso(longest[0])} to {iso(longest[1])}{count}"]


def _sizes_flag(first: tuple[str, float], fills: Sequence[FillRow], slots: Mapping[str, Any]) -> list[str]:
    """Return that the stock baseline is of other sizes, where its first fill already is; a lot or one per cent is rounding."""
    symbol, size = first
    if not fills or fills[0].symbol != symbol or symbol not in slots:
        return []
    rounding = slots[symbol].position.contract.lot + 0.01 * abs(size)
    if abs(fills[0].size - size) <= rounding:
        return []
    why = "stock Backtrader multiplies order_target_percent and order_target_value by its leverage"
    return [f"the stock baseline is of other sizes, {size:g} {symbol} first where the account has {fills[0].size:g}: {why}"]


def version_of(package: str) -> str:
    """Return an installed package's version; a checkout on the path alone has none."""
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and seldom asked for

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
