"""Deposit, fill, fund, move marks, transfer and liquidate in any order: what must hold after each."""

from math import fsum

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bt_margin import Contract, MarginAccount, TierSchedule, TierTable, plan_liquidation
from bt_margin.core.ledger import CROSS, MONEY_TOLERANCE
from bt_margin.core.profiles import PROFILES
from bt_margin.core.terms import BASES, FEES_IN_MARGIN, MarginTerms
from bt_margin.core.tiers import MODES, UNITS
from bt_margin.core.top_up import TopUp, plan_top_up

SYMBOLS = ("AAA", "BBB", "CCC")
ROWS = [(5_000, 0.01, 50), (50_000, 0.03, 20), (None, 0.1, 5)]
TAKER = 0.0005

terms = st.builds(
    MarginTerms, maintenance_basis=st.sampled_from(BASES), fee_in_margin=st.sampled_from(FEES_IN_MARGIN), fee_in_initial=st.booleans()
)
tables = st.builds(TierTable.from_rows, st.just(ROWS), mode=st.sampled_from(MODES), unit=st.sampled_from(UNITS))

times = st.none() | st.integers(1, 3)
rules = st.none() | st.builds(TopUp, amount=st.floats(1, 1_000), times=times, deposit=st.booleans())
rules |= st.builds(TopUp, ratio=st.floats(1.01, 5), times=times, deposit=st.booleans())


class AccountMachine(RuleBasedStateMachine):
    """AAA and CCC share the cross wallet, BBB is isolated and trades in lots; CCC may be the spot of linear contracts."""

    @initialize(
        cash=st.floats(100, 100_000),
        leverage=st.sampled_from((1, 3, 10, 40)),
        profile=st.sampled_from([*PROFILES.values()]),
        kinds=st.sampled_from((("linear",) * 3, ("linear", "linear", "spot"), ("inverse",) * 3)),
        table=tables,
        terms=terms,
        rule=rules,
        cross_rule=st.none() | rules.filter(lambda rule: rule is not None and rule.deposit),
    )
    def open_account(self, cash, leverage, profile, kinds, table, terms, rule, cross_rule):
        self.profile = profile
        self.account = MarginAccount()
        self.account.top_ups = {symbol: given for symbol, given in (("BBB", rule), ("", cross_rule)) if given is not None}
        self.marks = dict.fromkeys(SYMBOLS, 100.0)
        for symbol, kind in zip(SYMBOLS, kinds, strict=True):
            more = {} if kind == "spot" else {"tiers": TierSchedule.constant(table)}
            multiplier = 200.0 if kind == "inverse" else 2.0
            lot = 0.01 if symbol == "BBB" else 0.0
            contract = Contract(symbol, lot=lot, taker=TAKER, liquidation_fee=0.0125, multiplier=multiplier, kind=kind, **more)
            mode = "isolated" if symbol == "BBB" else "cross"
            rules = ((float("-inf"), terms),)
            self.account.add_contract(contract, leverage=1 if kind == "spot" else leverage, margin_mode=mode, rules=rules)
        self.account.deposit(cash, time=0)

    @rule(
        symbol=st.sampled_from(SYMBOLS), share=st.floats(-1.2, 1.2), slip=st.floats(0.97, 1.03), fee=st.sampled_from((0.0, 0.0005, -0.0001))
    )
    def fill(self, symbol, share, slip, fee):
        price = self.marks[symbol] * slip
        most = self.account.max_opening(symbol, price=price, fee_rate=fee, marks=self.marks, is_short=share < 0)
        size = self.account.positions[symbol].contract.floor_size(share * max(most, abs(self.account.positions[symbol].size)))
        if size:
            self.account.execute(symbol, size=size, price=price, fee_rate=fee, marks=self.marks, time=0)
            self.liquidate()

    @rule(symbol=st.sampled_from(SYMBOLS[:2]), leverage=st.sampled_from((1, 3, 10, 40)))
    def change_leverage(self, symbol, leverage):
        self.account.set_leverage(symbol, leverage)
        self.liquidate()

    @rule(symbol=st.sampled_from(SYMBOLS), rate=st.floats(-0.02, 0.02))
    def fund(self, symbol, rate):
        self.account.pay_funding(symbol, mark_price=self.marks[symbol], rate=rate, time=0, marks=self.marks)
        self.liquidate()

    @rule(symbol=st.sampled_from(SYMBOLS), move=st.floats(0.6, 1.6))
    def mark(self, symbol, move):
        self.marks[symbol] *= move
        self.liquidate()

    @rule(amount=st.floats(1, 1_000))
    def deposit(self, amount):
        self.account.deposit(amount, time=0)

    @rule(share=st.floats(0.01, 1.0))
    def withdraw(self, share):
        free = min(self.account.available_margin(self.marks), self.account.wallets[CROSS])
        if free * share > 0:
            self.account.withdraw(free * share, time=0, marks=self.marks)
            self.liquidate()

    @precondition(lambda self: self.account.positions["BBB"].size)
    @rule(share=st.floats(0.01, 0.5))
    def add_margin(self, share):
        free = self.account.spendable("BBB", self.marks)
        if free > 0:
            self.account.transfer(CROSS, "wallet:BBB", free * share, symbol="BBB", time=0)

    def liquidate(self):
        """Every event is followed by the test at the same marks; what a rule adds saves the wallet that it is added to."""
        for wallet in (*list(self.account.wallets)[1:], CROSS):
            if self.profile.fails(self.account.risk(wallet, self.marks)):
                self.top_up(wallet)
            for step in plan_liquidation(self.account, wallet, self.marks, self.profile):
                self.account.apply(step, time=0)
            assert plan_liquidation(self.account, wallet, self.marks, self.profile) == []

    def top_up(self, wallet):
        step = plan_top_up(self.account, wallet, self.marks)
        if step is None:
            return
        equity, used = self.account.equity(self.marks), self.account.top_ups_used.get(wallet, 0)
        rule = self.account.top_ups[step.symbol]
        assert step.uses >= 1
        assert rule.times is None or used + step.uses <= rule.times
        if not rule.deposit:
            assert step.amount <= min(self.account.available_margin(self.marks), self.account.free_cash)
        self.account.add_top_up(step, time=0)
        assert not self.profile.fails(self.account.risk(wallet, self.marks))
        assert abs(self.account.equity(self.marks) - equity - (step.amount if rule.deposit else 0)) <= self.slack()

    @invariant()
    def a_wallet_that_holds_nothing_has_used_nothing(self):
        assert all(any(self.account.held(wallet)) for wallet in self.account.top_ups_used)

    @invariant()
    def a_copy_goes_on_with_the_same_rules_and_uses(self):
        copy = self.account.clone()
        assert (copy.top_ups, copy.top_ups_used) == (self.account.top_ups, self.account.top_ups_used)
        assert copy.top_ups_used is not self.account.top_ups_used

    @invariant()
    def wallets_are_sums_of_the_journal(self):
        balances, slack = self.account.journal.balances(), self.slack()
        for wallet, balance in self.account.wallets.items():
            assert abs(balance - balances.get(wallet, 0.0)) <= slack
        assert abs(fsum(balances.values())) <= slack

    @invariant()
    def equity_is_never_below_zero(self):
        for wallet in self.account.wallets:
            assert self.account.risk(wallet, self.marks).equity >= -self.slack()

    @invariant()
    def no_wallet_outlives_its_maintenance(self):
        assert not any(self.profile.fails(self.account.risk(wallet, self.marks)) for wallet in self.account.wallets)

    @invariant()
    def a_flat_isolated_wallet_is_empty(self):
        if not self.account.positions["BBB"].size:
            assert abs(self.account.wallets["wallet:BBB"]) <= self.slack()

    @invariant()
    def what_maintenance_is_reckoned_by_is_what_the_terms_say(self):
        for symbol, position in self.account.positions.items():
            if position.size:
                told = position.holding().maintenance_margin(self.marks[symbol])
                slack = 1e-9 * position.notional(self.marks[symbol])
                assert abs(position.maintenance_margin(self.marks[symbol]) - told) <= max(slack, 1e-300)

    @invariant()
    def spot_is_never_short(self):
        assert all(position.size >= 0 for position in self.account.positions.values() if position.contract.kind == "spot")

    @invariant()
    def sizes_are_whole_lots(self):
        size = self.account.positions["BBB"].size
        assert size == round(size / 0.01) * 0.01

    def slack(self) -> float:
        return MONEY_TOLERANCE * self.account.turnover


AccountMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=25, deadline=None, derandomize=True)
TestAccountMachine = AccountMachine.TestCase
