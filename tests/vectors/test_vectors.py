"""Worked examples of venues, of other projects' tests and of real accounts, against the vault.

One JSON file for each kind of example; its ``about`` says what the inputs are. A case has an id, a claim, a source
(publisher, page, date), the inputs in our words and the figures expected: ``expected`` to the case's tolerance,
relative to max(1, |figure|); ``remarked`` to the digits the source printed. Figures that the vault cannot compute
stand under ``later``, in the case or, for whole examples, in ``index.json``. Everything runs from these files alone;
the last part proves, where the collected originals are at hand, that none was left out or altered.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from math import copysign, inf
from pathlib import Path
from typing import Any

import pytest

from bt_margin.core.account import MarginAccount, Risk
from bt_margin.core.contract import Contract, initial_margin
from bt_margin.core.funding import FundingSchedule, funding_payment, funding_sum
from bt_margin.core.ledger import CROSS
from bt_margin.core.liquidation import (
    FORFEIT,
    MARKET,
    Profile,
    account_bankruptcy_price,
    account_liquidation_price,
    bankruptcy_price,
    liquidation_price,
    plan_liquidation,
)
from bt_margin.core.tiers import Bracket, TierTable, bracket_at

FOLDER = Path(__file__).parent
POSITIONS = "positions"
KINDS = sorted(path.stem for path in FOLDER.glob("*.json") if path.stem not in ("index", POSITIONS))

Figures = dict[str, Any]
Case = dict[str, Any]


def load(name: str) -> dict[str, Any]:
    """Return the contents of one vector file."""
    contents: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return contents


INDEX = load("index")
TESTED: set[str] = set()


def each_case(kind: str) -> pytest.MarkDecorator:
    """Run a test once for every case of a file."""
    TESTED.add(kind)
    return pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in load(kind)["cases"]])


def near(figure: Any, *, relative: float, absolute: float) -> Any:
    """Return what a figure is compared with; none, words and yes or no have no tolerance."""
    return figure if figure is None or isinstance(figure, str | bool) else pytest.approx(figure, rel=relative, abs=absolute)


def assert_figures(case: Case, figures: Mapping[str, Any]) -> None:
    """Fail on the first figure of a case that ours does not match."""
    for name, figure in case["expected"].items():
        assert figures[name] == near(figure, relative=case["tolerance"], absolute=case["tolerance"]), name
    for name, printed in case.get("remarked", {}).items():
        decimals = len(str(printed).partition(".")[2])
        assert round(figures[name], decimals) == printed, name


def table_of(tiers: list[list[float | None]] | dict[str, float]) -> TierTable | tuple[Bracket, ...]:
    """Return the table of a case; a leverage its source does not name is the highest its rate allows."""
    if isinstance(tiers, dict):
        return (Bracket(inf, tiers["rate"], tiers["amount"], 1 / tiers["rate"]),)
    return TierTable.from_rows([(cap, rate, leverage or 1 / (rate or 1)) for cap, rate, leverage in tiers])


def brackets_of(table: TierTable | tuple[Bracket, ...]) -> tuple[Bracket, ...]:
    return table.brackets if isinstance(table, TierTable) else table


def collateral_of(inputs: Mapping[str, Any]) -> float:
    """Return the money behind a position: stated, or notional at entry / leverage."""
    if "collateral" in inputs:
        return float(inputs["collateral"])
    return initial_margin(notional=abs(inputs["size"]) * inputs["entry_price"], leverage=inputs["leverage"])


# Accounts


def account_of(inputs: Mapping[str, Any]) -> tuple[MarginAccount, dict[str, float]]:
    """Return an account that holds the positions of a case, and their marks."""
    account, marks = MarginAccount(), {}
    account.adjust(inputs.get("wallet_balance", 0.0), time=0)
    for symbol, terms in inputs["positions"].items():
        hold(account, symbol, terms)
        marks[symbol] = mark_of(account, symbol, terms)
    return account, marks


def hold(account: MarginAccount, symbol: str, terms: Mapping[str, Any]) -> None:
    """Open a position; an isolated one ends with exactly its stated balance, the cross wallet as it was."""
    rates = {name: terms.get(name, 0.0) for name in ("maker", "taker", "liquidation_fee")}
    contract = Contract(symbol, multiplier=terms.get("multiplier", 1.0), **rates)
    is_isolated = "isolated_balance" in terms
    account.add_contract(contract, leverage=terms.get("leverage", 1), margin_mode="isolated" if is_isolated else "cross")
    position = account.positions[symbol]
    position.brackets = brackets_of(table_of(terms["tiers"]))
    margin = initial_margin(notional=contract.notional(terms["size"], terms["entry_price"]), leverage=position.leverage)
    if is_isolated:
        account.adjust(margin, time=0)
    account.apply_fill(symbol, size=terms["size"], price=terms["entry_price"], fee_rate=0.0, time=0)
    if is_isolated:
        surplus = margin - terms["isolated_balance"]
        account.transfer(position.wallet, CROSS, surplus, symbol=symbol, time=0)
        account.adjust(-surplus, time=0)


def mark_of(account: MarginAccount, symbol: str, terms: Mapping[str, Any]) -> float:
    """Return a position's mark price: stated, from its notional, or just past its own liquidation price."""
    if "mark_price" in terms:
        return float(terms["mark_price"])
    if "notional" in terms:
        return float(terms["notional"] / account.positions[symbol].contract.notional(terms["size"], 1.0))
    price = account_liquidation_price(account, symbol, {})
    assert price is not None, f"{symbol} has no liquidation price to stand at"
    # A hair past it, or the rounding of the price itself could spare the wallet.
    return price * (1 - copysign(1e-12, terms["size"]))


def account_figures(account: MarginAccount, marks: Mapping[str, float]) -> Figures:
    """Return the figures of all positions together and, as SYMBOL.figure, of each."""
    risk = account.total_risk(marks)
    total: Figures = {
        "equity": account.equity(marks),
        "initial_margin": risk.initial_margin,
        "maintenance_margin": risk.maintenance_margin,
        "unrealized_pnl": sum(position.unrealized_pnl(marks[symbol]) for symbol, position in account.positions.items()),
        "is_liquidatable": risk.is_liquidatable,
    }
    figures: Figures = {}
    for symbol in account.positions:
        own = position_figures(account, symbol, marks)
        figures |= {f"{symbol}.{name}": figure for name, figure in own.items()}
        if len(account.positions) == 1:
            figures |= own
    return figures | total


def position_figures(account: MarginAccount, symbol: str, marks: Mapping[str, float]) -> Figures:
    position, mark_price = account.positions[symbol], marks[symbol]
    contract, size = position.contract, position.size
    price_at_liquidation = account_liquidation_price(account, symbol, marks)
    figures: Figures = {
        "notional": contract.notional(size, mark_price),
        "unrealized_pnl": contract.unrealized_pnl(size=size, entry_price=position.entry_price, mark_price=mark_price),
        "isolated_equity": account.risk(position.wallet, marks).equity if position.is_isolated else None,
        "liquidation_price": price_at_liquidation,
        "bankruptcy_price": account_bankruptcy_price(account, symbol, marks),
        "maker_fee": contract.fee(size, mark_price, maker=True),
        "taker_fee": contract.fee(size, mark_price, maker=False),
    }
    if price_at_liquidation is not None:
        loss = -contract.unrealized_pnl(size=size, entry_price=position.entry_price, mark_price=price_at_liquidation)
        figures["loss_at_liquidation"] = loss
    return figures


def liquidated(account: MarginAccount, marks: Mapping[str, float], profile: Profile) -> Figures:
    """Return what a profile takes and leaves of the wallet that backs the account's positions."""
    trial = account.clone()
    (wallet,) = {position.wallet for position in trial.positions.values()}
    balance = trial.wallet_balance
    steps = plan_liquidation(trial, wallet, marks, profile)
    returned = [trial.apply(step, time=0).returned for step in steps]
    return {
        f"{profile.name}.closed": " ".join(step.symbol for step in steps),
        f"{profile.name}.fee": sum(step.fee for step in steps),
        f"{profile.name}.left": sum(returned),
        f"{profile.name}.lost": balance - trial.wallet_balance,
        f"{profile.name}.maintenance_margin_left": trial.total_risk(marks).maintenance_margin,
    }


# The examples


@each_case("initial_margin")
def test_initial_margin_is_the_published_one(case: Case) -> None:
    inputs = case["inputs"]
    margins = [initial_margin(notional=notional, leverage=inputs["leverage"]) for notional in inputs["notionals"]]
    assert_figures(case, {"initial_margins": margins})


@each_case("tiers")
def test_maintenance_amounts_follow_from_caps_and_rates(case: Case) -> None:
    amounts = [bracket.amount for bracket in brackets_of(table_of(case["inputs"]["tiers"]))]
    assert_figures(case, {"maintenance_amounts": amounts, "last_amount": amounts[-1]})


@each_case("maintenance_margin")
def test_maintenance_climbs_the_tiers_and_ignores_leverage(case: Case) -> None:
    inputs = case["inputs"]
    table = table_of(inputs["tiers"])
    assert isinstance(table, TierTable)
    notional = Contract(multiplier=inputs.get("multiplier", 1.0)).notional(inputs["size"], inputs["mark_price"])
    figures = {
        "notional": notional,
        "initial_margins": [initial_margin(notional=notional, leverage=leverage) for leverage in inputs["leverages"]],
        "maintenance_margin": table.maintenance_margin(notional),
    }
    assert_figures(case, figures)


@each_case("maintenance_margin")
def test_equity_at_maintenance_is_liquidated_and_a_cent_above_it_is_not(case: Case) -> None:
    maintenance = case["expected"]["maintenance_margin"]
    assert Risk(maintenance, 0.0, maintenance).is_liquidatable
    assert not Risk(maintenance + 0.01, 0.0, maintenance).is_liquidatable


@each_case("liquidation_price")
def test_liquidation_price_is_the_published_one(case: Case) -> None:
    inputs = case["inputs"]
    tiers = inputs["tiers"]
    table = table_of(load("liquidation_price")["tables"][tiers] if isinstance(tiers, str) else tiers)
    size, entry_price = inputs["size"], inputs["entry_price"]
    price = liquidation_price(size=size, entry_price=entry_price, collateral=collateral_of(inputs), table=table)
    figures: Figures = {"liquidation_price": price}
    if price is not None:
        bracket = bracket_at(brackets_of(table), abs(size) * price)
        distance = 100 * abs(entry_price - price) / entry_price
        figures |= {"rate_at_liquidation": bracket.rate, "amount_at_liquidation": bracket.amount, "distance_percent": distance}
    assert_figures(case, figures)


@each_case("bankruptcy_price")
def test_bankruptcy_price_is_the_published_one(case: Case) -> None:
    inputs = case["inputs"]
    price = bankruptcy_price(size=inputs["size"], entry_price=inputs["entry_price"], collateral=collateral_of(inputs))
    assert_figures(case, {"bankruptcy_price": price})


@each_case("funding")
def test_funding_is_paid_by_the_published_side(case: Case) -> None:
    inputs = case["inputs"]
    terms = {"multiplier": 1.0, "mark_price": inputs["mark_price"], "rate": inputs["rate"]}
    received = funding_payment(size=inputs["size"], **terms)
    figures = {"received": received, "paid": -received, "received_by_mirror": funding_payment(size=-inputs["size"], **terms)}
    assert_figures(case, figures)


@each_case("funding_sum")
def test_funding_adds_up_over_the_stamps_of_a_holding(case: Case) -> None:
    hours, rates, marks = zip(*case["inputs"]["settlements"], strict=True)
    schedule = FundingSchedule(tuple(3600.0 * hour for hour in hours), rates, marks)
    opened, closed = case["inputs"].get("held", (-inf, inf))
    settlements = list(schedule.between(3600 * opened, 3600 * closed))
    assert_figures(case, {"received": funding_sum(settlements, size=case["inputs"]["size"])})


@each_case("fees")
def test_trading_fee_is_a_fraction_of_notional(case: Case) -> None:
    inputs = case["inputs"]
    contract = Contract(maker=inputs["maker"], taker=inputs["taker"])
    fees = {f"{side}_fee": contract.fee(1, inputs["notional"], maker=side == "maker") for side in ("maker", "taker")}
    assert_figures(case, fees)


@each_case("account")
def test_contracts_of_one_wallet_carry_each_other(case: Case) -> None:
    assert_figures(case, account_figures(*account_of(case["inputs"])))


@each_case("fills")
def test_isolated_wallet_returns_its_share_as_the_position_shrinks(case: Case) -> None:
    inputs = case["inputs"]
    account = MarginAccount()
    account.add_contract(Contract("X"), leverage=inputs["leverage"], margin_mode="isolated")
    account.deposit(inputs["wallet_balance"], time=0)
    *before, last = inputs["fills"]
    bookings = [account.apply_fill("X", size=size, price=price, fee_rate=0.0, time=0) for size, price in before]
    position, marks = account.positions["X"], {"X": before[-1][1]}
    figures: Figures = {
        "unrealized_pnl": position.unrealized_pnl(marks["X"]),
        "realized_pnl": bookings[-1].realized_pnl,
        "isolated_balance": account.wallets[position.wallet],
        "available_margin": account.available_margin(marks),
        "equity": account.equity(marks),
    }
    account.apply_fill("X", size=last[0], price=last[1], fee_rate=0.0, time=0)
    assert_figures(case, figures | {"final_wallet_balance": account.wallet_balance})


@each_case("liquidation_outcome")
def test_liquidation_takes_and_leaves_what_its_profile_says(case: Case) -> None:
    account, marks = account_of(case["inputs"])
    outcomes = [liquidated(account, marks, profile) for profile in (MARKET, FORFEIT)]
    assert_figures(case, account_figures(account, marks) | outcomes[0] | outcomes[1])


@pytest.mark.parametrize(
    ("case", "check"),
    [pytest.param(case, check, id=f"{case['id']}: {check['check']}") for case in load(POSITIONS)["cases"] for check in case["checks"]],
)
def test_reported_position_has_the_figure_its_exchange_reports(case: Case, check: dict[str, Any]) -> None:
    figures = account_figures(*account_of(case["inputs"]))
    assert figures[check["figure"]] == near(check["value"], relative=check["tolerance"], absolute=0)


# The books


def cases() -> Iterator[Case]:
    """Yield the cases of every kind, reported positions excluded."""
    return chain.from_iterable(load(kind)["cases"] for kind in KINDS)


def listed(section: str) -> list[str]:
    """Return the ids under 'later' or 'not_ours' in the index."""
    return [example for group in INDEX[section] for example in group["ids"]]


def all_ids() -> list[str]:
    return [case["id"] for case in cases()] + listed("later") + listed("not_ours")


def position_rows() -> list[tuple[str, str, Any, float | None]]:
    """Return (entry, check, value, tolerance) of every check, computed today or later (tolerance None)."""
    return [
        (case["entry"], check["check"], check["value"], check.get("tolerance"))
        for case in load(POSITIONS)["cases"]
        for check in case["checks"] + case.get("later", [])
    ]


def test_every_file_of_cases_has_its_test() -> None:
    assert set(KINDS) == TESTED


def test_no_example_is_listed_twice() -> None:
    case_ids = [case["id"] for case in load(POSITIONS)["cases"]]
    checks = [row[:2] for row in position_rows()]
    repeated = [name for name, count in Counter([*all_ids(), *case_ids, *checks]).items() if count > 1]
    assert repeated == []


@pytest.mark.parametrize("kind", [*KINDS, POSITIONS])
def test_every_case_names_a_dated_source_and_a_figure(kind: str) -> None:
    vectors = load(kind)
    for case in vectors["cases"]:
        source = vectors["sources"][case["source"]]
        assert source["publisher"] and source["page"] and source["retrieved"] == "2026-11-21", case["id"]
        assert case["claim"].endswith(".") and case["provenance"], case["id"]
        assert case.get("expected") or case.get("remarked") or case.get("checks"), case["id"]


def figure_key(figure: Any) -> Any:
    """Return a figure as it is compared with its original, which writes 0 for none and words after a symbol."""
    if isinstance(figure, str):
        return figure.split()[0]
    return 0.0 if figure is None else float(figure)


def stated_figures(case: Case) -> Counter[Any]:
    """Return the figures of the original that a case tests or lists as later."""
    figures: list[Any] = [row["value"] for row in case.get("later", [])]
    for figure in case["expected"].values():
        figures += figure if isinstance(figure, list) else [figure]
    return Counter(map(figure_key, figures))


@pytest.fixture
def originals(reference: Path) -> dict[str, Any]:
    """The collected worked examples by id."""
    collected = json.loads((reference / "oracles" / "worked_examples.json").read_text(encoding="utf-8"))
    return {original["id"]: original for original in collected["oracles"]}


@pytest.fixture
def entries(reference: Path) -> dict[str, Any]:
    """The collected positions by id."""
    collected = json.loads((reference / "oracles" / "exchange_positions.json").read_text(encoding="utf-8"))
    return {entry["id"]: entry for entry in collected["entries"]}


def test_every_collected_example_is_tested_later_or_not_ours(originals: dict[str, Any]) -> None:
    assert sorted(all_ids()) == sorted(originals)
    assert set(listed("not_ours")) == {name for name, original in originals.items() if "not_ours" in original}


def test_every_figure_of_a_tested_example_is_its_original_one(originals: dict[str, Any]) -> None:
    for case in cases():
        original = originals[case["id"]]
        assert stated_figures(case) == Counter(map(figure_key, original["expected"].values())), case["id"]
        assert case["tolerance"] == original["tol"] and case["provenance"] == original["provenance"], case["id"]
        for printed in case.get("remarked", {}).values():
            assert str(printed) in original["note"], case["id"]


def test_every_check_of_a_collected_position_is_tested_or_later(entries: dict[str, Any]) -> None:
    rows = {(entry, check): (value, tolerance) for entry, check, value, tolerance in position_rows()}
    collected = {(name, check["quantity"]): check for name, entry in entries.items() for check in entry["checks"]}
    beyond = {(entry, check) for entry, check in rows if check.startswith("reported ")}
    assert set(rows) - beyond == set(collected)
    assert {row["entry"] for row in INDEX["positions_later"]} == set(entries) - {entry for entry, _ in rows}
    for key, check in collected.items():
        value, tolerance = rows[key]
        assert value == check["reported"] and tolerance in (check["tol"], None), key
    for entry, check in beyond:
        assert rows[entry, check][0] == entries[entry]["reported"][check.removeprefix("reported ")], entry
