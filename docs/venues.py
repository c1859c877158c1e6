"""Write ``docs/venues.md``: what is shipped of each venue, from its data, and what is said about it here.

Run it after a change of the data: ``python docs/venues.py``. A test holds the written page against what this makes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

from bt_margin import venues
from bt_margin.calculator import contract_sheet, share_left
from bt_margin.core.orders import OrderTerms
from bt_margin.core.profiles import PROFILES, Profile
from bt_margin.core.tiers import Tier, TierTable

PAGE = Path(__file__).with_name("venues.md")
READ = "read 2026-11-21"
UNITS = {"quote": "quote notional", "base": "base coins", "contracts": "contracts"}
FEES = {
    "none": "no fee",
    "notional": "the taker fee of the notional",
    "bankruptcy": "the taker fee of closing at the bankruptcy price",
}
NETTINGS = {
    "larger_side": "the larger of buys and sells, less what they close",
    "both_sides": "buys and sells",
    "net_bids": "all offers and the bids beyond them",
}
MARGIN_PRICES = {
    "own": "its own price",
    "assumed": "its own price, a short limit's by max(last x 1.0015, mark, limit)",
    "quote": "min(limit, last) of a buy and max(limit, last) of a sell",
}

Row = Sequence[str]


@dataclass(frozen=True)
class Notes:
    """What is known of a venue besides its figures.

    ``rules``: (rule, where it is here, source). ``not_modelled``: what the venue does and we do not. ``recalled``: (what nobody
    read in a source, what stands for it).
    """

    title: str
    rules: tuple[tuple[str, str, str], ...]
    not_modelled: tuple[str, ...]
    recalled: tuple[tuple[str, str], ...] = ()


NOTES = {
    "binance": Notes(
        "Binance USD-M",
        (
            (
                "Maintenance is of the notional at mark, in marginal tiers; the leverage chosen never enters it",
                "tiers; the amount of each is derived",
                f"FAQ 360033162192, {READ}",
            ),
            (
                "Liquidation at a margin ratio, maintenance / margin balance, of 100 %",
                "`maintenance/equity`",
                f"FAQ c983a9268cfa4e70a4916c276bb3b7bc, {READ}",
            ),
            (
                "The liquidation price is taken in the tier that holds the notional at that price; one for both legs of a hedge",
                "`liquidation_price`",
                f"FAQ b3c689c1f50a44cabb3a84e663b81d93, {READ}",
            ),
            (
                "Order cost = initial margin + opening loss, no fee; a sell limit's margin is taken at max(last x 1.0015, mark, limit)",
                "`order_terms`; `bt-margin calc`, order cost, `--last`",
                f"FAQ 87fa7ee33b574f7084d42bd2ce2e463b, {READ}",
            ),
            (
                "The leverage of an open isolated position cannot be lowered (error -4161)",
                "`broker.set_leverage` refuses it",
                f"API error codes, {READ}",
            ),
            (
                "Rate of 8 hours = premium + (interest - premium, at most 0.05 % either way)",
                "`core.premium.funding_rate`; a run takes the rates of your data",
                f"FAQ on funding (copy), {READ}",
            ),
            (
                "Deleveraging takes the highest (profit / collateral) x margin ratio of a side first",
                "`broker.adl_score(data)`, `adl_score` of `bt-margin calc`",
                f"support article 360033525471, {READ}",
            ),
        ),
        (
            "multi-assets mode and portfolio margin; an asset's own haircut is `core.collateral.collateral_value`",
            "a stamp is charged to positions opened up to 15 seconds after it",
            "20x as the most that accounts younger than 60 days may take",
            "discounts: VIP levels, BNB",
            "the order that reduces a failed account takes what the book has, at its prices; here all it asks for, at the mark",
        ),
        (
            ("the order that reduces a failed account is just large enough", "profile `binance`: judged at the worst mark of the bar"),
            ("an isolated position is funded with fill notional / leverage", "`isolated_margin` of the calculator; `add_margin`"),
            ("a market buy is charged at ask x 1.0005", "`--entry`: the price you expect"),
            (
                "both legs of a hedge need their whole initial margin",
                "hedge mode: each leg reserves for itself; in an account file the sum of the positions",
            ),
            ("the mark is the median of two index prices and the last price", "mark candles: yours"),
            ("the funding cap is 0.75 x the maintenance rate at maximum leverage", "`cap` of `funding_rate`, none by default"),
            ("interest and clamp shrink with the interval", "`interest` and `clamp` of `funding_rate`"),
            ("in cross, a lower leverage needs free margin; isolated margin may be taken out down to initial margin", "as recalled"),
            ("which position of a cross account goes first is not published", "largest loss first"),
        ),
    ),
    "binance-coinm": Notes(
        "Binance COIN-M (inverse)",
        (
            (
                "A contract is worth a fixed sum of USD; notional, margin and profit are coin, and tiers count coins",
                "`kind` inverse, `tier_unit` base",
                f"FAQ ceccfcfb4e3a45e3b48b0b1bb1a8ae46, {READ}",
            ),
            (
                "Order cost: contracts x value / price / leverage, and the opening loss in coin",
                "`bt-margin calc`, order cost",
                f"FAQ be2c7d9d95b04a7e8044ed02dd7dfe5c (copy), {READ}",
            ),
            ("Where the formula gives no positive price, none is shown", "`null`", f"notes of the liquidation page, {READ}"),
            (
                "Deleveraging and liquidation are those of USD-M, in coin",
                "profile `binance`; `broker.adl_score(data)`",
                f"support article 360033525471, {READ}",
            ),
        ),
        ("dated futures", "the tables in force today: those shipped are of 2020, newer ones come in through the reader"),
        (("contracts other than BTCUSD are worth 10 USD (ETHUSD is sourced)", "`multiplier`: yours"),),
    ),
    "bybit": Notes(
        "Bybit USDT perpetuals",
        (
            (
                "Maintenance is of the value at entry until 2025-09-01, at mark from 2025-09-02",
                "`maintenance_basis`, by date",
                f"New Margin Calculation, in force from 2025-09-02, {READ}",
            ),
            (
                "Both margins hold the fee of closing at the bankruptcy price; an isolated one's is fixed at entry, so it cancels",
                "`fee_in_margin` bankruptcy",
                f"New Margin Calculation, {READ}",
            ),
            (
                "Order cost = initial margin + fee to open + fee to close at the bankruptcy price",
                "`bt-margin calc`, order cost",
                f"help, order cost of USDT contracts (copy), {READ}",
            ),
            ("Bankruptcy price = entry x (1 - side / leverage)", "`bankruptcy_price`", f"help, bankruptcy price (copy), {READ}"),
            (
                "A funding fee of an isolated position is taken from the available balance first, then from its margin",
                "`funding_debit` free_first",
                f"help 000001391 (copy), {READ}",
            ),
            (
                "In the average premium late minutes weigh most",
                "`core.premium.average_premium(late_weighs_more=True)`",
                f"introduction to the funding rate, {READ}",
            ),
        ),
        (
            "a cross account's haircuts, loans and repayments; margin balance here is one currency",
            "margin added to an inverse position counts 1 / (1 + taker) of itself",
            "portfolio margin",
            "isolated legs of a hedge may have different leverage; here both share one",
            "a risk limit is first lowered while orders stay; here they are cancelled before anything else",
            "a cross account's own order of steps; here the position goes first whose lower risk limit meets the margin",
        ),
        (("the rank for deleveraging is profit in percent x leverage", "none: `broker.adl_score(data)` is None, `adl_score` null"),),
    ),
    "okx": Notes(
        "OKX USDT perpetuals",
        (
            (
                "Tiers go by the number of contracts, so a price never moves a position into another; the upper bound is inclusive",
                "`tier_unit` contracts",
                f"OKX position tiers; okx-perp-backtest at 57a7fa5a, {READ}",
            ),
            (
                "The whole position is charged the rate of its tier",
                "`tier_mode` slab",
                f"OKX DEX clearing document, {READ}",
            ),
            (
                "Margin ratio = (margin + profit) / (notional x (rate + taker fee)), liquidation at 100 %, from above",
                "`fee_in_margin` notional; `equity/maintenance`",
                f"OKX help on margin ratio (copies), {READ}",
            ),
            (
                "Initial margin: isolated at the average entry, cross at mark",
                "`initial_margin`",
                f"OKX help on initial margin (copy), {READ}",
            ),
            (
                "A funding fee is limited so that the margin stays at maintenance and liquidation fee: funding alone never liquidates",
                "`funding_debit` capped",
                f"OKX help 360053909272 (copy), {READ}",
            ),
        ),
        (
            "resting orders count in the maintenance margin of a cross account",
            "multi-currency and portfolio margin",
            "the legs of a hedge are set off before a liquidation",
            "a deficit the fund cannot bear goes to deleveraging",
        ),
        (
            ("a warning at a ratio of 300 %", "none: a warning is a rate of your own"),
            ("the newer funding formula adds interest and a clamp", "`core.premium.funding_rate`, if you want it"),
        ),
    ),
    "hyperliquid": Notes(
        "Hyperliquid",
        (
            (
                "Maintenance is half the initial margin at the tier's maximum leverage",
                "tiers: rate = 1 / (2 x max leverage)",
                f"docs, margin tiers, {READ}",
            ),
            (
                "Liquidation price = price - side x margin available / size / (1 - rate x side), the same algebra as everywhere",
                "`liquidation_price`; 29 reported positions agree to 4e-5",
                f"docs, liquidations (copies), {READ}",
            ),
            (
                "Funding every hour: an eighth of the rate of 8 hours, on the notional at the oracle price",
                "`funding`: interval 1 h, price oracle",
                f"docs, funding (copies), {READ}",
            ),
            (
                "Deleveraging takes the highest (mark / entry) x (notional / account value) first",
                "`broker.adl_score(data)`, `adl_score` of `bt-margin calc`",
                f"docs, auto-deleveraging, {READ}",
            ),
        ),
        (
            "margin may be taken out only while max(initial margin, a tenth of all notional) stays",
            "strict isolated margin; exchanges built on Hyperliquid, which have no backstop",
            "in bars longer than 30 seconds the cooldown is over by the next price at which the wallet fails",
        ),
        (
            ("the mark is the median of oracle, book and other venues' perpetuals", "mark candles: yours"),
            ("an order is worth 10 USDC at least; prices have five digits", "`min_notional` and `tick`: none"),
            ("a contract has one net position and no hedge mode", "`position_mode` is not refused: leave it at one_way"),
        ),
    ),
    "dydx": Notes(
        "dYdX Chain",
        (
            (
                "Maintenance = initial margin x the maintenance fraction of the market's liquidity tier",
                "one tier for every size",
                f"v4-chain at 84d4664b, x/perpetuals, {READ}",
            ),
            (
                "A position that fails in cross spends equity pro rata to maintenance margin",
                "profile `dydx`, floor `share`; `core.liquidation.takeover_price`",
                f"v4-chain, x/clob/keeper/liquidations.go, {READ}",
            ),
            (
                "The price offered to the book",
                "profile `dydx`, a spread of 0.1; `core.liquidation.fillable_price`",
                f"v4-chain, x/clob/keeper/liquidations.go, {READ}",
            ),
            (
                "The fee is at most 0.5 % of the fill and what it leaves above bankruptcy",
                "`liquidation_fee`",
                f"v4-chain, x/clob/keeper/liquidations.go, {READ}",
            ),
        ),
        (
            "initial margin that grows with open interest",
            "funding accrues by an index; here it is paid at hourly stamps",
            "fills better than the price offered to the book; here always at it",
            "positions are chosen pseudo-randomly, within limits for each block; here the largest loss goes first",
        ),
        (("a contract has one net position and no hedge mode", "`position_mode` is not refused: leave it at one_way"),),
    ),
    "gate": Notes(
        "Gate USDT perpetuals",
        (
            (
                "Liquidation price = (entry - side x margin / size) / (1 - side x (rate + taker))",
                "`fee_in_margin` notional",
                f"the venue's reply to a customer; a position of 2022-05-06 (ccxt pull request 13130), {READ}",
            ),
            (
                "An isolated position is opened with entry notional x (1 / leverage + taker)",
                "runs and `bt-margin calc` open it so; an account file states `isolated_margin`",
                f"the same position, {READ}",
            ),
        ),
        ("tables before 2025-07-29, when the whole position had one rate",),
        recalled=(
            ("above the lowest tier a position is reduced before it is taken over", "the nearest profile, `forfeit`: taken over whole"),
        ),
    ),
    "bitget": Notes(
        "Bitget perpetuals",
        (
            (
                "Liquidation price = [amount of the tier + margin - size x entry x side] / [size x (rate + taker - side)]",
                "`fee_in_margin` notional, marginal tiers",
                f"help 12560603808759 (2025-09-18), {READ}",
            ),
            (
                "An isolated position is opened with entry notional / leverage",
                "`fee_in_initial` no",
                f"a position of 2022-05-12 (ccxt pull request 13207), {READ}",
            ),
        ),
        (
            "in cross, long and short of a contract share a tier",
            "an order to close that would itself liquidate is refused",
            "the older margin ratio, equity / notional, with a liquidation at the maintenance rate",
        ),
        recalled=(("a position is reduced tier by tier before it is taken over", "the nearest profile, `forfeit`: taken over whole"),),
    ),
}

EVERYWHERE = (
    "depth of the book: a forced order fills whole",
    "deleveraging itself: the rank of a position is computed, nobody's position is closed for another's loss",
    "portfolio margin: a stress test of a whole book is no tier table",
)

ELSEWHERE = (
    ("BitMEX", "maintenance of XBTUSD 0.35 % and the taker fee; risk limit steps; funding cap", "tiers and a step of your own"),
    ("Deribit", "funding by the millisecond within a dead band of 0.025 %", "a funding schedule of your own"),
    ("Binance portfolio margin", "liquidation at a uniMMR of 1.05", "not modelled"),
)


# (what an article says, what the venues do, what is here); the figures in braces are computed.
ARTICLES = (
    (
        "Maintenance is of the notional at entry (articles 0 and 1)",
        "of the notional at mark",
        "mark: a 20x long at 100,000 and 0.5 % dies at {at_mark:,.2f}; `maintenance_basis` entry gives the articles' {at_entry:,.2f}",
    ),
    (
        "The margin ratio is equity / notional, elsewhere equity / margin in use (article 0), or equity / maintenance (article 2)",
        "each venue has one, and they do not agree",
        "equity and maintenance are stored; all four ratios are shown, by formula",
    ),
    (
        "Three lines, with the margin call at 2 % above a liquidation at 1 % (article 0)",
        "one line: falling to the maintenance margin is the liquidation",
        "maintenance liquidates",
    ),
    (
        "Two positions take 1,300 of initial margin on an equity of 1,000 (article 1)",
        "the second order is refused",
        "refused, with the numbers",
    ),
    ("A 10x long with 1 % of maintenance dies about 9 % away (article 1)", "{tenth:.2f} % away", "as the venues"),
    (
        "The whole margin of 100 is lost though half of it was left (article 1)",
        "so where the position is taken over; elsewhere the rest stays with the trader, less a fee",
        "the venue's profile decides",
    ),
    (
        "The closing fee stands in initial and maintenance margin (article 2)",
        "so at Gate; OKX and Bitget have it in maintenance alone, Bybit at the bankruptcy price, Binance not at all",
        "`fee_in_margin`, `fee_in_initial`",
    ),
    ("A ratio of 186 % (article 2)", "{ratio:.3f} %: the article cuts where it should round", "rounded on the screen only"),
    (
        "Ten losses of 10 % are ruin (article 2)",
        "so if each is a tenth of the first balance; if of what is left, {left:.2f} % remain",
        "`calculator.share_left`, both ways",
    ),
    (
        "OKX measures equity against margin in use (article 3)",
        "against maintenance margin and closing fee, with the liquidation at 100 %",
        "`equity/maintenance`",
    ),
)


def page() -> str:
    """Return the whole page."""
    loaded = {name: venues.load(name) for name in venues.names() if name != venues.GENERIC.name}
    missing = sorted(set(loaded) ^ set(NOTES))
    if missing:
        raise ValueError(f"docs/venues.py has no notes on {', '.join(missing)}, or notes on a venue that is not shipped")
    parts = [introduction(), overview(loaded), profiles(loaded)]
    parts += [venue_section(venue) for venue in loaded.values()]
    parts += [generic_section(), recollections(), articles()]
    return "\n\n".join(parts) + "\n"


def introduction() -> str:
    return """# The rules of the venues

Written by `python docs/venues.py` from [bt_margin/venues](../bt_margin/venues); do not edit it by hand.

Each venue has its figures as data, with the source and the day beside them, and its rules as parameters of one engine,
which backtests and the calculator share. `venues.load(name, date)` gives the venue as of a day, `bt-margin calc --venue NAME
--date DAY` a position under it, `run(..., venue=NAME)` a backtest. What no source says is not shipped: it stands under "not
sourced" or under [recollections](#recollections), and is yours to give. Figures that were fetched since come in through
`venues.readers`."""


def overview(loaded: dict[str, venues.Venue]) -> str:
    rows = []
    for name, venue in loaded.items():
        terms, contracts = venue.margin_terms(), listed(venue)
        table = contracts[0].tiers.tables[-1]
        funding = contracts[0].funding
        rows.append(
            (
                f"[`{name}`](#{name})", f"{len(contracts)} {contracts[0].kind}", f"{table.mode}, by {UNITS[table.unit]}",
                f"at {terms.maintenance_basis}, {FEES[terms.fee_in_margin]}", f"{percent(venue.maker)} / {percent(venue.taker)}",
                f"`{venue.profile}`", f"{funding.interval_hours:g} h" if funding else "",
            )
        )  # fmt: skip
    head = ("venue", "contracts", "tiers", "maintenance today, and the fee in it", "maker / taker", "liquidation", "funding")
    return "## At a glance\n\n" + markdown(head, rows)


def profiles(loaded: dict[str, venues.Venue]) -> str:
    """Return each liquidation profile with its settings, who uses it and where it is from."""
    rows = []
    for name, profile in PROFILES.items():
        users = [other for other, venue in loaded.items() if venue.profile == name]
        users += [venues.GENERIC.name] if venues.GENERIC.profile == name else []
        rows.append((f"`{name}`", settings(profile), ", ".join(f"`{user}`" for user in users) or "none", profile.source))
    about = (
        "How a venue liquidates is data: the name of one of these, or a `core.profiles.Profile` of one's own, is the `profile` of a "
        "`PerpCommInfo`. Settings that are not told are those of `market`."
    )
    return f"## Liquidation profiles\n\n{about}\n\n" + markdown(("profile", "settings", "used by", "what it does, and the source"), rows)


def settings(profile: Profile) -> str:
    """Return what sets a profile apart from 'market', whose own settings are all told."""
    usual = {field.name: field.default for field in fields(profile)} if profile.name != "market" else {}
    values = [(field.name, getattr(profile, field.name)) for field in fields(profile) if field.name not in ("name", "source")]
    return ", ".join(f"`{name}` {said(value)}" for name, value in values if name not in usual or usual[name] != value)


def said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_dataclass(value):
        own = ", ".join(f"{field.name} {said(getattr(value, field.name))}" for field in fields(value))
        return f"{type(value).__name__.lower()} ({own})"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def venue_section(venue: venues.Venue) -> str:
    notes = NOTES[venue.name]
    return "\n\n".join(
        [
            f'<a id="{venue.name}"></a>\n\n## {notes.title}: `{venue.name}`',
            f"{venue.source}; fetched {venue.retrieved}.",
            "### Figures\n\n" + markdown(("rule", "parameter", "value", "source"), [*figure_rows(venue), *own_rows(venue)]),
            "### Tiers\n\nRule and source: " + venue.sources["tiers"] + ".\n\n" + tier_tables(venue),
            "### Rules\n\n" + markdown(("rule", "here", "source"), notes.rules),
            "### Not modelled\n\n" + bullets(notes.not_modelled),
            "### Not sourced\n\n" + bullets(venue.not_sourced),
        ]
    )


def figure_rows(venue: venues.Venue) -> list[Row]:
    """Return what holds for all contracts of a venue, each figure with its source."""
    sources = venue.sources
    rows: list[Row] = [
        ("trading fee, maker", "`maker`", percent(venue.maker), sources["maker"]),
        ("trading fee, taker", "`taker`", percent(venue.taker), sources["taker"]),
        *earlier_fee_rows(venue),
        ("fee on what is liquidated", "`liquidation_fee`", percent(venue.liquidation_fee), sources["liquidation_fee"]),
        ("liquidation", "`profile`", f"`{venue.profile}`", sources["profile"]),
    ]
    if "order_terms" in sources:
        parameters = "`order_terms`: `netting`, `margin_price`, `counts_loss`, `counts_fee`"
        rows.append(("what resting orders set aside", parameters, told_order_terms(venue.orders), sources["order_terms"]))
    since = {contract.filters_since for contract in listed(venue)} - {-inf}
    if since:
        days = ", ".join(sorted(map(day, since)))
        rows.append(
            (
                "tick, smallest and largest size, smallest notional",
                "`filters_since`",
                f"hold from {days} on",
                sources.get("filters", "the day of the file they are read from; before it they are not known"),
            )
        )
    first_change = f"before {day(venue.terms[1][0])}" if len(venue.terms) > 1 else "always"
    for start, terms in venue.terms:
        since = first_change if start == -inf else f"from {day(start)}"
        fee = FEES[terms.fee_in_margin]
        also = "" if terms.fee_in_margin == "none" else ", in initial margin too" if terms.fee_in_initial else ", not in initial margin"
        kept = f"{since}: notional at {terms.maintenance_basis}, {fee}{also}"
        rows.append(("maintenance margin", "`maintenance_basis`, `fee_in_margin`", kept, sources["margin_terms"]))
    return rows


def told_order_terms(orders: OrderTerms) -> str:
    """Return in words what a venue sets aside for resting orders."""
    loss = ", and the loss by the mark" if orders.counts_loss else ""
    fee = "the opening fee too" if orders.counts_fee else "no fee but of an isolated position, which pays it in cash"
    return f"{NETTINGS[orders.netting]}; initial margin by {MARGIN_PRICES[orders.margin_price]}{loss}; {fee}"


def earlier_fee_rows(venue: venues.Venue) -> list[Row]:
    """Return the fees that were in force before the latest, by the day they ended."""
    contract = next((known for known in listed(venue) if known.dated_fees), None)
    if contract is None:
        return []
    rows = []
    for (_, maker, taker), (end, *_) in pairwise(contract.dated_fees):
        rows.append((f"trading fees before {day(end)}, maker and taker", "`earlier_fees`", f"{percent(maker)}, {percent(taker)}",
                     contract.sources[f"fees before {day(end)}"]))  # fmt: skip
    return rows


def own_rows(venue: venues.Venue) -> list[Row]:
    """Return the figures that may differ by contract, contracts of one value together."""
    rows: list[Row] = []
    by_funding: dict[str, list[str]] = {}
    by_fee: dict[float, list[str]] = {}
    for contract in listed(venue):
        facts = contract.funding
        bounds = "" if facts is None or facts.cap is None else f", {percent(facts.floor or 0)} to {percent(facts.cap)}"
        paid = "not sourced" if facts is None else f"every {facts.interval_hours:g} h at {facts.price}{bounds}"
        by_funding.setdefault(paid, []).append(contract.symbol)
        if contract.liquidation_fee != venue.liquidation_fee:
            by_fee.setdefault(contract.liquidation_fee, []).append(contract.symbol)
    for paid, symbols in by_funding.items():
        who = "" if len(by_funding) == 1 else f" of {', '.join(symbols)}"
        rows.append((f"funding{who}", "`funding`", paid, venue.sources["funding"]))
    for fee, symbols in by_fee.items():
        source = next(contract for contract in listed(venue) if contract.symbol == symbols[0]).sources["liquidation_fee"]
        rows.append((f"fee on what is liquidated, {', '.join(symbols)}", "`liquidation_fee`", percent(fee), f"{symbols[0]}: {source}"))
    return rows


def tier_tables(venue: venues.Venue) -> str:
    """Return a row for each newest table, contracts that share one together."""
    shared: dict[tuple[str, TierTable, str, float, float], list[venues.VenueContract]] = {}
    for contract in listed(venue):
        newest = day(contract.tiers.dates[-1])
        others = [day(start) for start in contract.tiers.dates[:-1]]
        before = f"{len(others)} since {others[0]}" if others else "none"
        shared.setdefault((newest, contract.tiers.tables[-1], before, contract.lot, contract.multiplier), []).append(contract)
    rows = []
    for (newest, table, before, lot, multiplier), contracts in shared.items():
        size = f"{multiplier:.10g}" + (f", {lot:.10g}" if lot else ", -")
        rows.append(
            (", ".join(contract.symbol for contract in contracts), size, newest, before, str(len(table.tiers)),
             tier(table.tiers[0]), tier(table.tiers[-1]))
        )  # fmt: skip
    head = ("contract", "multiplier, lot", "newest table", "tables before it", "tiers", "first", "last")
    unit = UNITS[listed(venue)[0].tiers.tables[-1].unit]
    note = f"Caps in {unit}; every table has its own source in the venue's file, and every maintenance amount is derived."
    return markdown(head, rows) + f"\n\n{note}"


def tier(row: Tier) -> str:
    cap = "any size" if row.cap == inf else f"to {row.cap:,.10g}"
    return f"{cap}: {percent(row.rate)}, {row.max_leverage:g}x"


def generic_section() -> str:
    venue = venues.GENERIC
    return f"""## No venue: `generic`

{venue.source}; profile `{venue.profile}`, margin at mark without a fee. It takes any symbol, and a result says that it stood in.

Not modelled anywhere:

{bullets(EVERYWHERE)}"""


def recollections() -> str:
    """Return what nobody read in a source, and what stands for it."""
    rows: list[Row] = [(NOTES[name].title, what, stands) for name in NOTES for what, stands in NOTES[name].recalled]
    about = (
        "These were recalled, not read, and none of them is in the data. What stands for each is in the last column: a parameter\n"
        "that has no default, or a plain rule of ours, where a source that says otherwise will win."
    )
    return f"## Recollections\n\n{about}\n\n" + markdown(("venue", "what is recalled", "what stands for it here"), [*rows, *ELSEWHERE])


def articles() -> str:
    """Return where the articles the project began with differ from the venues, the figures computed here."""
    example: dict[str, Any] = {"size": 1, "entry_price": 100_000, "leverage": 20, "tiers": [{"rate": 0.005}]}
    at_entry = contract_sheet(**example, maintenance_basis="entry")["liquidation_price"]
    at_mark = contract_sheet(**example)["liquidation_price"]
    tenth = contract_sheet(size=1, entry_price=100, leverage=10, tiers=[{"rate": 0.01}])["liquidation_distance_percent"]
    fee_terms: dict[str, Any] = {"size": 1, "entry_price": 100, "leverage": 100, "taker_fee": 0.00075, "tiers": [{"rate": 0.005}]}
    ratio = contract_sheet(**fee_terms, fee_in_margin="notional")["margin_ratio"]["equity/maintenance"]
    left = share_left(risk=0.1, losses=10, is_compounded=True)
    figures = {"at_entry": at_entry, "at_mark": at_mark, "tenth": tenth, "ratio": 100 * ratio, "left": 100 * left}
    rows = [[cell.format(**figures) for cell in row] for row in ARTICLES]
    about = (
        "The project began with four articles for traders (numbered 0 to 3 here).\n"
        "Where they disagree with each other or with a venue, the venue's rule wins."
    )
    title = "## Where the founding articles disagree with venues"
    return f"{title}\n\n{about}\n\n" + markdown(("the article", "the venues", "here"), rows)


# -- Markdown --------------------------------------------------------------------------------------------------------


def listed(venue: venues.Venue) -> list[venues.VenueContract]:
    """Return the contracts of a venue, each once."""
    return list({contract.symbol: contract for contract in venue.contracts.values()}.values())


def markdown(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def percent(rate: float) -> str:
    return f"{100 * rate:.10g} %"


def day(stamp: float) -> str:
    return datetime.fromtimestamp(stamp, UTC).date().isoformat()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
