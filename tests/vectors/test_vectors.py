"""Worked examples of venues, of other projects' tests and of real accounts, against the vault and the calculator.

One JSON file for each kind of example; its ``about`` says what the inputs are. A case has an id, a claim, a source
(publisher, page, date), the inputs in our words and the figures expected: ``expected`` to the case's tolerance,
relative to max(1, |figure|); ``also`` the same under other terms; ``remarked`` to the digits the source printed. Examples
that are not ours to compute stand in ``index.json``. Everything runs from these files alone; the last part proves,
where the collected originals are at hand, that none was left out or altered.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from math import copysign, inf
from pathlib import Path
from typing import Any

import pytest

from bt_margin.calculator import ACCOUNT_FIELDS, contract_sheet, evaluate, share_left
from bt_margin.core.account import MarginAccount, Risk
from bt_margin.core.collateral import collateral_value
from bt_margin.core.contract import Contract, break_even_price, initial_margin
from bt_margin.core.funding import FundingSchedule, funding_payment, funding_sum
from bt_margin.core.ledger import CROSS
from bt_margin.core.liquidation import (
    account_bankruptcy_price,
    account_liquidation_price,
    bankruptcy_price,
    fillable_price,
    liquidation_fee,
    liquidation_price,
    takeover_price,
)
from bt_margin.core.orders import assumed_price, order_cost, order_margin
from bt_margin.core.premium import average_premium, funding_rate, impact_notional, premium_index
from bt_margin.core.profiles import FORFEIT, MARKET, Profile, plan_liquidation
from bt_margin.core.tiers import Bracket, TierTable

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


def assert_under_other_terms(case: Case) -> None:
    """Fail on the first figure that ours does not match under the terms that a case is computed with besides."""
    for other in case.get("also", []):
        figures = calculated(case["inputs"], other["given"])
        assert_figures({"expected": other["expected"], "tolerance": case["tolerance"]}, figures)


def table_of(tiers: list[list[float | None]] | dict[str, float], unit: str = "quote") -> TierTable | tuple[Bracket, ...]:
    """Return the table of a case; a leverage its source does not name is the highest its rate allows."""
    if isinstance(tiers, dict):
        return (Bracket(inf, tiers["rate"], tiers["amount"], 1 / tiers["rate"]),)
    return TierTable.from_rows([(cap, rate, leverage or (1 / rate if rate else inf)) for cap, rate, leverage in tiers], unit=unit)


def brackets_of(table: TierTable | tuple[Bracket, ...]) -> tuple[Bracket, ...]:
    return table.brackets if isinstance(table, TierTable) else table


# The calculator


def calculated(inputs: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> Figures:
    """Return what the calculator says of the account of a case: of all positions together and, as SYMBOL.figure, of each."""
    account = calculator_account(inputs, given or {})
    sheet = evaluate(account)
    figures: Figures = {name: figure for name, figure in sheet.items() if name not in account and name != "flags"}
    figures |= figures.pop("margin_ratio")
    figures["unrealized_pnl"] = sum(position["unrealized_pnl"] for position in sheet["positions"])
    if figures["equity/maintenance"] is not None:
        figures["equity/maintenance percent"] = 100 * figures["equity/maintenance"]
    for asked, position in zip(account["positions"], sheet["positions"], strict=True):
        own = position_sheet(asked, position)
        figures |= {f"{asked['symbol']}.{name}": figure for name, figure in own.items()}
        if len(sheet["positions"]) == 1:
            figures |= own | {"effective_leverage": own["notional"] / sheet["equity"] if sheet["equity"] else None}
            figures["percent_at_mark"] = 100 * sheet["equity"] / own["notional"]
    return figures


def calculator_account(inputs: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a case as the calculator takes it; one without positions is about one isolated position."""
    flat = {"positions": {"X": {"mark_price": inputs.get("entry_price"), "margin_mode": "isolated", **inputs}}}
    case = inputs if "positions" in inputs else flat
    own = {name: value for name, value in given.items() if name not in ACCOUNT_FIELDS}
    account: dict[str, Any] = {"positions": [calculator_position(symbol, {**terms, **own}) for symbol, terms in case["positions"].items()]}
    terms = {**inputs, **given}
    return account | {name: terms[name] for name in ACCOUNT_FIELDS if name in terms and name != "positions"}


def calculator_position(symbol: str, terms: Mapping[str, Any]) -> dict[str, Any]:
    """Return a position of a case as the calculator takes it."""
    position = {
        "symbol": symbol,
        "mark_price": terms.get("mark_price"),
        "isolated_margin": terms.get("isolated_balance", terms.get("collateral")),
        "taker_fee": terms.get("taker"),
        "tiers": rows_of(terms["tiers"]),
    }
    if "isolated_balance" in terms:
        position["margin_mode"] = "isolated"
    if "notional" in terms:
        position["mark_price"] = terms["notional"] / abs(terms["size"])
    plain = ("size", "entry_price", "contract_type", "multiplier", "leverage", "margin_mode", "isolated_margin", "taker_fee")
    return position | {name: terms[name] for name in (*plain, "tier_mode", "tier_unit") if name in terms}


def rows_of(tiers: str | list[list[float | None]] | dict[str, float]) -> list[dict[str, Any]]:
    """Return the tiers of a case as the calculator takes them."""
    if isinstance(tiers, dict):
        return [tiers]
    rows = load("liquidation_price")["tables"][tiers] if isinstance(tiers, str) else tiers
    return [{"cap": cap, "rate": rate, "max_leverage": leverage} for cap, rate, leverage in rows]


def position_sheet(asked: Mapping[str, Any], position: Mapping[str, Any]) -> Figures:
    """Return the calculator's figures of a position, and what follows from them at its liquidation price."""
    size, entry_price, multiplier = position["size"], position["entry_price"], position.get("multiplier", 1.0)
    kind, taker = position.get("contract_type", "linear"), position.get("taker_fee") or 0.0
    figures = {name: figure for name, figure in position.items() if name not in asked}
    mark_price = position.get("mark_price") or entry_price
    if asked.get("margin_mode") == "isolated":
        funded = initial_margin(notional=figures["notional"], leverage=position.get("leverage", 1))
        margin = funded if asked["isolated_margin"] is None else asked["isolated_margin"]
        figures["isolated_equity"] = margin + figures["unrealized_pnl"]
    figures["break_even_price"] = break_even_price(size=size, entry_price=entry_price, opening_rate=taker, kind=kind)
    figures["entry_from_profit"] = bankruptcy_price(
        size=size, entry_price=mark_price, collateral=figures["unrealized_pnl"], multiplier=multiplier, kind=kind
    )
    price = figures["liquidation_price"]
    if price is not None:
        contract = Contract(multiplier=multiplier, kind=kind)
        there = {name: value for name, value in asked.items() if name not in ("isolated_margin", "margin_mode")}
        tier = evaluate({"positions": [{**there, "mark_price": price}]})["positions"][0]["tier"]
        figures["rate_at_liquidation"], figures["amount_at_liquidation"] = tier["rate"], tier["amount"]
        figures["distance_percent"] = 100 * abs(entry_price - price) / entry_price
        figures["loss_at_liquidation"] = -contract.unrealized_pnl(size=size, entry_price=entry_price, mark_price=price)
    return figures


# Accounts of the engine


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


def is_plain(inputs: Mapping[str, Any]) -> bool:
    """Return whether a case is under the terms that the engine's account knows."""
    return not {"maintenance_basis", "fee_in_margin"} & set(inputs)


# The examples


@each_case("initial_margin")
def test_initial_margin_is_the_published_one(case: Case) -> None:
    inputs = case["inputs"]
    contract = Contract(kind=inputs.get("contract_type", "linear"))
    margins = [initial_margin(notional=contract.notional(*held), leverage=inputs["leverage"]) for held in inputs["positions"]]
    assert_figures(case, {"initial_margins": margins})


@each_case("initial_margin")
def test_the_calculator_takes_the_published_initial_margin(case: Case) -> None:
    inputs = case["inputs"]
    terms = {"leverage": inputs["leverage"], "contract_type": inputs.get("contract_type", "linear")}
    sheet = evaluate({"positions": [{"size": size, "entry_price": price, **terms} for size, price in inputs["positions"]]})
    assert_figures(case, {"initial_margins": [position["initial_margin"] for position in sheet["positions"]]})


@each_case("tiers")
def test_maintenance_amounts_follow_from_caps_and_rates(case: Case) -> None:
    amounts = [bracket.amount for bracket in brackets_of(table_of(**case["inputs"]))]
    assert_figures(case, {"maintenance_amounts": amounts, "last_amount": amounts[-1]})


@each_case("tier_lookup")
def test_a_size_is_in_the_published_tier(case: Case) -> None:
    inputs = dict(case["inputs"])
    held = [{"positions": {"X": {"entry_price": 50_000, **inputs, "size": size}}} for size in inputs.pop("sizes")]
    assert_figures(case, {"rates": [calculated(account)["tier"]["rate"] for account in held]})


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
    assert calculated(inputs, {"entry_price": inputs["mark_price"]})["maintenance_margin"] == pytest.approx(figures["maintenance_margin"])


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in load("maintenance_margin")["cases"] if "also" in case])
def test_maintenance_by_another_kind_of_table_is_the_published_one(case: Case) -> None:
    opened_at_mark = {**case["inputs"], "entry_price": case["inputs"]["mark_price"]}
    assert_under_other_terms({**case, "inputs": opened_at_mark})


@each_case("maintenance_margin")
def test_equity_at_maintenance_is_liquidated_and_a_cent_above_it_is_not(case: Case) -> None:
    maintenance = case["expected"]["maintenance_margin"]
    assert Risk(maintenance, 0.0, maintenance).is_liquidatable
    assert not Risk(maintenance + 0.01, 0.0, maintenance).is_liquidatable


@each_case("liquidation_price")
def test_liquidation_price_is_the_published_one(case: Case) -> None:
    inputs = case["inputs"]
    mirror = calculated({**inputs, "size": -inputs["size"]})
    assert_figures(case, calculated(inputs) | {"mirror.liquidation_price": mirror["liquidation_price"]})
    assert_under_other_terms(case)


@each_case("liquidation_price")
def test_the_pure_function_has_the_calculators_liquidation_price(case: Case) -> None:
    inputs = case["inputs"]
    tiers = inputs["tiers"]
    kind, is_counted = inputs.get("contract_type", "linear"), inputs.get("fee_in_margin") == "notional"
    funded = Contract(kind=kind).notional(inputs["size"], inputs["entry_price"]) / inputs.get("leverage", 1)
    price = liquidation_price(
        size=inputs["size"],
        entry_price=inputs["entry_price"],
        collateral=inputs.get("collateral", funded),
        table=table_of(load("liquidation_price")["tables"][tiers] if isinstance(tiers, str) else tiers),
        kind=kind,
        maintenance_basis=inputs.get("maintenance_basis", "mark"),
        fee_rate=inputs["taker_fee"] if is_counted else 0.0,
    )
    assert price == near(calculated(inputs)["liquidation_price"], relative=1e-12, absolute=0)


@each_case("bankruptcy_price")
def test_bankruptcy_price_is_the_published_one(case: Case) -> None:
    inputs = {**case["inputs"], "tiers": {"rate": 0.0, "amount": 0}}
    assert_figures(case, calculated(inputs))
    kind = inputs.get("contract_type", "linear")
    funded = Contract(kind=kind).notional(inputs["size"], inputs["entry_price"]) / inputs["leverage"]
    price = bankruptcy_price(size=inputs["size"], entry_price=inputs["entry_price"], collateral=funded, kind=kind)
    assert_figures(case, {"bankruptcy_price": price})


@each_case("order_cost")
def test_an_order_costs_what_is_published(case: Case) -> None:
    inputs = case["inputs"]
    figures = order_figures(inputs) | {f"sell.{name}": value for name, value in order_figures(inputs | {"size": -inputs["size"]}).items()}
    assert_figures(case, figures)


def order_figures(inputs: Mapping[str, Any]) -> Figures:
    terms = dict(inputs)
    last_price = terms.pop("last_price", None)
    if last_price is not None:
        placed = {name: terms[name] for name in ("size", "price", "mark_price")}
        terms["assumed_price"] = assumed_price(**placed, last_price=last_price)
    cost = order_cost(**terms)
    margin = inputs["price"] * abs(inputs["size"]) / inputs["leverage"]
    return {
        "initial_margin": cost.initial_margin,
        "open_loss": cost.open_loss,
        "opening_fee": cost.opening_fee,
        "closing_fee": cost.closing_fee,
        "fees": cost.opening_fee + cost.closing_fee,
        "total": cost.total,
        "assumed_price": terms.get("assumed_price"),
        "bankruptcy_price": bankruptcy_price(size=inputs["size"], entry_price=inputs["price"], collateral=margin),
    }


@each_case("order_margin")
def test_resting_orders_are_margined_as_published(case: Case) -> None:
    assert_figures(case, {"order_margin": order_margin(**case["inputs"])})


@each_case("funding_rate")
def test_a_funding_rate_is_made_as_published(case: Case) -> None:
    inputs, figures = case["inputs"], {}
    if "max_leverage" in inputs:
        figures["impact_notional"] = impact_notional(max_leverage=inputs["max_leverage"])
    if "samples" in inputs:
        minutes = [premium for count, premium in inputs["samples"] for _ in range(count)]
        figures["average_premium"] = average_premium(minutes, late_weighs_more=True)
    if "impact_bid" in inputs:
        figures["premium"] = premium_index(impact_bid=inputs["impact_bid"], index_price=inputs["index_price"])
    if "interest" in inputs:
        figures["rate"] = funding_rate(premium=inputs.get("premium", figures.get("premium")), interest=inputs["interest"])
    if "size" in inputs:
        rate = figures["rate"] * inputs["interval_share"]
        figures["paid"] = -funding_payment(size=inputs["size"], multiplier=1, mark_price=inputs["index_price"], rate=rate)
    assert_figures(case, figures)


@each_case("collateral")
def test_an_asset_counts_for_what_is_published(case: Case) -> None:
    values = [collateral_value(**asset) * copysign(1, asset["balance"]) for asset in case["inputs"]["assets"]]
    assert_figures(case, {"values": values})


@each_case("takeover")
def test_dydx_hands_over_offers_and_charges_as_published(case: Case) -> None:
    inputs = case["inputs"]
    maintenance = [abs(size) * price * rate for size, price, rate in inputs["positions"]]
    equity = inputs["quote_balance"] + sum(size * price for size, price, _ in inputs["positions"])
    size, mark_price, _ = inputs["positions"][inputs["close"]]
    own, units = maintenance[inputs["close"]], inputs.get("units", size)
    share = own * units / size / sum(maintenance)
    figures: Figures = {"received": units * takeover_price(units=units, mark_price=mark_price, equity=equity, share=share)}
    if "spread" in inputs:
        depth = {"equity": equity, "total_maintenance_margin": sum(maintenance)}
        terms = {"adjustment": inputs["adjustment"], "spread": inputs["spread"]}
        figures["fillable_price"] = fillable_price(units=size, mark_price=mark_price, maintenance_margin=own, **depth, **terms)
    if "fill_price" in inputs:
        left = inputs["quote_balance"] + size * inputs["fill_price"]
        figures["fee"] = liquidation_fee(rate=inputs["fee_rate"], units=size, price=inputs["fill_price"], equity=left)
    assert_figures(case, figures)


@each_case("ruin")
def test_losses_leave_what_is_published(case: Case) -> None:
    left = share_left(**case["inputs"], is_compounded=False)
    assert_figures(case, {"left": left, "percent_left_compounded": 100 * share_left(**case["inputs"], is_compounded=True)})


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
    schedule = FundingSchedule(tuple(3600.0 * hour for hour in hours), rates, marks, grace_seconds=15)
    opened, closed = case["inputs"]["held"]
    settlements = schedule.paid_by(3600 * opened, 3600 * closed)
    assert_figures(case, {"received": funding_sum(settlements, size=case["inputs"]["size"])})


@each_case("fees")
def test_a_fee_is_a_fraction_of_notional(case: Case) -> None:
    inputs = case["inputs"]
    contract = Contract(maker=inputs["maker"], taker=inputs["taker"])
    fees = {f"{side}_fee": contract.fee(1, inputs["notional"], maker=side == "maker") for side in ("maker", "taker")}
    fees["liquidation_fee"] = liquidation_fee(rate=inputs["liquidation_fee"], units=1, price=inputs["notional"], equity=inf)
    assert_figures(case, fees)


@each_case("account")
def test_contracts_of_one_wallet_carry_each_other(case: Case) -> None:
    assert_figures(case, calculated(case["inputs"]))
    assert_under_other_terms(case)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in load("account")["cases"] if is_plain(case["inputs"])])
def test_the_engines_account_has_the_calculators_figures(case: Case) -> None:
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
    assert_figures(case, outcome(case["inputs"]))
    for other in case.get("also", []):
        given = other["given"]
        figures = calculated(case["inputs"], given) if is_asked_of_calculator(given) else outcome(with_terms(case["inputs"], given))
        assert_figures({"expected": other["expected"], "tolerance": case["tolerance"]}, figures)


def is_asked_of_calculator(given: Mapping[str, Any]) -> bool:
    return any(name in ACCOUNT_FIELDS for name in given)


def with_terms(inputs: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of a case with terms of its positions changed."""
    return {**inputs, "positions": {symbol: {**terms, **given} for symbol, terms in inputs["positions"].items()}}


def outcome(inputs: Mapping[str, Any]) -> Figures:
    """Return what an account is, and what each profile does to it."""
    account, marks = account_of(inputs)
    outcomes = [liquidated(account, marks, profile) for profile in (MARKET, FORFEIT)]
    return account_figures(account, marks) | outcomes[0] | outcomes[1]


@pytest.mark.parametrize(
    ("case", "check"),
    [pytest.param(case, check, id=f"{case['id']}: {check['check']}") for case in load(POSITIONS)["cases"] for check in case["checks"]],
)
def test_reported_position_has_the_figure_its_exchange_reports(case: Case, check: dict[str, Any]) -> None:
    inputs, given = case["inputs"], check.get("given", {})
    figures = calculated(inputs, given)
    if check["figure"] == "return_on_margin":
        (terms,) = calculator_account(inputs, given)["positions"]
        terms = {name: value for name, value in terms.items() if value is not None}
        figures = contract_sheet(**terms, price=terms["mark_price"])["at_price"]
    elif check["figure"].endswith("_fee"):
        figures = account_figures(*account_of(inputs))
    assert figures[check["figure"]] == near(check["value"], relative=check["tolerance"], absolute=0)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in load(POSITIONS)["cases"]])
def test_the_engine_has_the_reported_figures_of_plain_terms(case: Case) -> None:
    figures = account_figures(*account_of(case["inputs"]))
    for check in case["checks"]:
        if "given" not in check and check["figure"] in figures:
            assert figures[check["figure"]] == near(check["value"], relative=check["tolerance"], absolute=0), check["check"]


# The books


def cases() -> Iterator[Case]:
    """Yield the cases of every kind, reported positions excluded."""
    return chain.from_iterable(load(kind)["cases"] for kind in KINDS)


def listed(section: str) -> list[str]:
    """Return the ids under a heading of the index."""
    return [example for group in INDEX[section] for example in group["ids"]]


def all_ids() -> list[str]:
    return [case["id"] for case in cases()] + listed("not_ours")


def position_rows() -> list[tuple[str, str, Any, float]]:
    """Return (entry, check, value, tolerance) of every check."""
    return [
        (case["entry"], check["check"], check["value"], check["tolerance"]) for case in load(POSITIONS)["cases"] for check in case["checks"]
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
    """Return the figures of the original that a case tests."""
    figures: list[Any] = []
    for expected in (case["expected"], *(other["expected"] for other in case.get("also", []))):
        for figure in expected.values():
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


def test_every_collected_example_is_tested_or_not_ours(originals: dict[str, Any]) -> None:
    assert sorted(all_ids()) == sorted(originals)
    assert set(listed("not_ours")) == {name for name, original in originals.items() if "not_ours" in original}


def test_every_figure_of_a_tested_example_is_its_original_one(originals: dict[str, Any]) -> None:
    for case in cases():
        original = originals[case["id"]]
        assert stated_figures(case) == Counter(map(figure_key, original["expected"].values())), case["id"]
        assert case["tolerance"] == original["tol"] and case["provenance"] == original["provenance"], case["id"]
        for printed in case.get("remarked", {}).values():
            assert str(printed) in original["note"], case["id"]


def test_every_check_of_a_collected_position_is_tested(entries: dict[str, Any]) -> None:
    rows = {(entry, check): (value, tolerance) for entry, check, value, tolerance in position_rows()}
    collected = {(name, check["quantity"]): check for name, entry in entries.items() for check in entry["checks"]}
    beyond = {(entry, check) for entry, check in rows if check.startswith("reported ")}
    assert set(rows) - beyond == set(collected)
    assert {row["entry"] for row in INDEX["positions_later"]} == set(entries) - {entry for entry, _ in rows}
    for key, check in collected.items():
        value, tolerance = rows[key]
        assert value == check["reported"] and tolerance == check["tol"], key
    for entry, check in beyond:
        assert rows[entry, check][0] == entries[entry]["reported"][check.removeprefix("reported ")], entry
