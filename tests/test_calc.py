"""``bt-margin calc``: an account or one position in, its figures out, as a table or as JSON; and the venues' own examples."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from bt_margin import calc, cli, venues
from bt_margin.calculator import evaluate

ROOT = Path(__file__).parents[1]

ISSUE = ("--venue", "binance", "--symbol", "BTCUSDT", "--side", "long", "--entry", "60000", "--size", "0.5", "--leverage", "20")
ASKED = ("--date", "2024-05-01", "--price", "58000", "--balance", "5000", "--rate", "0.0001", "--target-liquidation", "50000")
ACCOUNT = {
    "wallet_balance": 1_535_443.01,
    "positions": [
        {
            "symbol": "BTCUSDT",
            "size": 109.488,
            "entry_price": 32_481.98,
            "mark_price": 31_967.27,
            "leverage": 20,
            "tiers": [{"rate": 0.025, "amount": 16_300}],
        },
        {
            "symbol": "ETHUSDT",
            "size": 3_683.979,
            "entry_price": 1_456.84,
            "mark_price": 1_335.18,
            "leverage": 5,
            "tiers": [{"rate": 0.1, "amount": 135_365}],
        },
    ],
}


def said(capsys: pytest.CaptureFixture, *arguments: object) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of ``bt-margin calc``."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["calc", *(str(argument) for argument in arguments)])
    printed = capsys.readouterr()
    return ended.value.code or 0, printed.out, printed.err


@pytest.fixture
def sheet(capsys):
    """Return a function: the JSON of one position, or of an account."""

    def read(*arguments: object) -> dict:
        code, out, err = said(capsys, *arguments, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    return read


@pytest.fixture
def table(capsys, monkeypatch):
    """Return a function: the figure and the remark of each row of the table that is printed on 80 columns, and all of it."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")

    def read(*arguments: object) -> tuple[dict[str, list[str]], str]:
        code, out, err = said(capsys, *arguments)
        assert (code, err) == (0, "")
        assert max(map(len, out.splitlines())) <= 80
        rows: dict[str, list[str]] = {}
        name = ""
        for line in out.splitlines():
            cells = [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
            if cells and cells[0]:
                name = cells[0]
                rows[name] = cells[1:]
            elif len(cells) == 3:
                rows[name][1] += f" {cells[2]}"
        return rows, out

    return read


@pytest.fixture
def account(tmp_path) -> Path:
    path = tmp_path / "account.json"
    path.write_text(json.dumps(ACCOUNT))
    return path


# -- one position ----------------------------------------------------------------------------------------------------


def test_the_table_says_every_figure_with_its_unit_and_how_it_comes_about(table):
    rows, out = table(*ISSUE, *ASKED)
    assert out.startswith("Long 0.5 BTCUSDT at 60,000.00 USDT, 20x isolated, binance on 2024-05-01")
    assert rows["notional"] == ["30,000.00 USDT", "at a mark of 60,000.00"]  # 0.5 x 60 000
    assert rows["initial margin"] == ["1,500.00 USDT", "notional / 20"]
    assert rows["maintenance margin"] == ["120.00 USDT", "0.4 % of notional"]
    assert rows["tier"] == ["1 of 10", "up to 50,000 of notional, at most 125x"]
    assert rows["tier table"][0] == "2024-03-31"
    assert rows["liquidation price"] == ["57,228.92 USDT", "4.62 % below the mark"]  # 57 000 / 0.996
    assert rows["bankruptcy price"] == ["57,000.00 USDT", "5.00 % below the mark"]
    assert rows["break-even"][0] == "60,030.00 USDT"  # 60 000 x 1.0005
    assert rows["break-even, closed"][0] == "60,060.03 USDT"  # 60 030 / 0.9995
    assert rows["order cost"][0] == "1,500.00 USDT"
    assert rows["fee, taker"] == ["15.00 USDT", "0.05 % to open"]
    assert rows["fee, maker"] == ["6.00 USDT", "0.02 % to open"]
    assert rows["largest size"] == ["1.666", "that 5,000.00 USDT opens at 20x"]  # 100 000 / 60 000, in lots of 0.001
    assert rows["PnL"] == ["-1,000.00 USDT", "at 58,000.00"]
    assert rows["PnL, closed"][0] == "-1,029.50 USDT"  # less 15 and 14.50
    assert rows["ROE"] == ["-66.67 %", "PnL / initial margin at entry"]
    assert rows["funding a day"] == ["-9.00 USDT", "3 x 0.01 %, the long pays"]
    assert rows["margin to add"] == ["+3,600.00 USDT", "for liquidation at 50,000.00"]  # 5 000 + 100 - 1 500


def test_the_margin_ratio_stands_there_in_every_convention_with_its_formula(table):
    rows, _ = table(*ISSUE, "--mark", 58_000)
    # 500 of the 1 500 are left, 116 must be, 29 000 are held, 1 450 is the initial margin
    assert rows["maintenance / equity"] == ["23.20 %", "100 % liquidates (Binance, Bybit)"]
    assert rows["equity / maintenance"] == ["431.03 %", "100 % liquidates (OKX)"]
    assert rows["equity / notional"] == ["1.72 %", "liquidates near 0.40 %"]
    assert rows["equity / initial"] == ["34.48 %", "liquidates near 8.00 %"]


def test_the_deleveraging_score_stands_there_where_something_is_earned_and_the_formula_is_known(table, sheet):
    score = 1_000 / 1_500 * 124 / 2_500  # at 62 000: 1 000 on 1 500, 0.4 % of 31 000
    rows, _ = table(*ISSUE, "--mark", 62_000)
    assert rows["ADL score"] == ["0.03307", "the highest of a side is deleveraged first"]
    assert sheet(*ISSUE, "--mark", 62_000)["adl_score"] == pytest.approx(score)
    assert "ADL score" not in table(*ISSUE)[0]


def test_json_has_the_same_figures_and_null_where_nothing_was_asked(sheet):
    plain, asked = sheet(*ISSUE), sheet(*ISSUE, *ASKED, "--ladder")
    assert (plain["notional"], plain["initial_margin"], plain["maintenance_margin"]) == (30_000, 1_500, 120)
    assert plain["liquidation_price"] == pytest.approx(57_000 / 0.996)
    unasked = {name: plain[name] for name in ("at_price", "funding_per_day", "margin_to_add", "largest_size", "ladder")}
    assert unasked == dict.fromkeys(unasked)
    assert asked["margin_to_add"] == pytest.approx(3_600)
    assert asked["tier_table"]["valid_from"] == "2024-03-31"
    assert [rung["leverage"] for rung in asked["ladder"]] == [1, 2, 3, 5, 10, 20, 25, 50, 75, 100, 125]


def test_the_ladder_shows_what_each_leverage_would_stand(table):
    rows, _ = table(*ISSUE, "--leverage", 33, "--ladder")
    assert rows["1x"] == ["30,000.00 USDT", "none", "-"]
    assert rows["20x"] == ["1,500.00 USDT", "57,228.92 USDT", "-4.62 %"]
    assert rows["33x"][0] == "909.09 USDT"  # the one asked for stands among the usual ones


def test_a_short_is_liquidated_above_and_its_price_is_rounded_towards_the_mark(table):
    rows, _ = table("--side", "short", "--entry", 60_000, "--size", 0.5, "--leverage", 20, "--rate", -0.0001)
    assert rows["liquidation price"] == ["62,686.56", "4.48 % above the mark"]  # 63 000 / 1.005 = 62 686.567
    assert rows["funding a day"] == ["-9.00", "3 x -0.01 %, the short pays"]


def test_an_inverse_contract_is_reckoned_in_coin(table):
    terms = ("--venue", "binance-coinm", "--symbol", "BTCUSD_PERP", "--side", "long", "--entry", 50_000, "--size", 600, "--leverage", 10)
    rows, out = table(*terms, "--price", 60_000)
    assert rows["size"] == ["600 contracts", "of 100 USD each"]
    assert rows["notional"][0] == "1.20000000 BTC"
    assert rows["maintenance margin"][0] == "0.00480000 BTC"
    assert rows["liquidation price"][0] == "45,636.37 USD"  # 60 000 x 1.004 / 1.32, rounded up
    assert rows["PnL"][0] == "+0.20000000 BTC"  # 60 000 x (1 / 50 000 - 1 / 60 000)
    assert rows["tier"] == ["1 of 10", "up to 10 coins, at most 125x"]
    assert "at 50,000.00 USD, 10x isolated" in out


def test_spot_is_bought_and_has_no_liquidation(table, sheet):
    terms = ("--venue", "binance", "--symbol", "BTCUSDT", "--contract-type", "spot", "--side", "long", "--entry", 60_000, "--size", 2)
    rows, out = table(*terms, "--price", 61_200, "--rate", 0.0001)
    assert out.startswith("Buy 2 BTCUSDT at 60,000.00 USDT, spot, binance")
    assert set(rows) & {"liquidation price", "maintenance margin", "tier", "equity / initial"} == set()
    assert rows["order cost"][0] == "120,000.00 USDT"
    assert rows["ROE"] == ["+2.00 %", "PnL / what was paid"]
    assert rows["funding a day"] == ["+0.00 USDT", "spot pays none"]
    assert "binance's is that of its perpetuals" in out
    assert sheet(*terms, "--taker-fee", 0.001)["fees"]["taker"] == pytest.approx(120)


def test_in_cross_margin_the_balance_stands_behind_the_position(sheet, table):
    terms = (*ISSUE, "--margin-mode", "cross", "--balance", 6_000)
    assert sheet(*terms)["bankruptcy_price"] == 60_000 - 6_000 / 0.5
    rows, _ = table(*terms)
    assert rows["equity"] == ["6,000.00 USDT", "the wallet + PnL"]


def test_contracts_are_said_to_be_contracts(table):
    rows, _ = table("--venue", "okx", "--symbol", "BTCUSDT", "--side", "long", "--entry", 60_000, "--size", 1_200, "--balance", 50_000)
    assert rows["size"] == ["1,200 contracts", "of 0.01 coins each"]
    assert rows["maintenance margin"] == ["3,960.00 USDT", "0.5 % of notional + closing fee"]  # 720 000 x (0.005 + 0.0005)
    assert rows["tier"] == ["2 of 99", "up to 5,000 contracts, at most 66.66x"]
    assert rows["largest size"][0].endswith(" contracts")


def test_a_price_past_liquidation_and_one_at_which_it_is_dead_are_said(table):
    rows, out = table(*ISSUE, "--price", 50_000)
    assert rows["PnL"] == ["-5,000.00 USDT", "at 50,000.00, past liquidation"]
    assert "Note: at 50000 the position is gone" in out
    rows, _ = table(*ISSUE, "--mark", 57_100)
    assert rows["liquidation price"] == ["57,228.92 USDT", "liquidated at this mark already"]


@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        (ISSUE, "no --mark, its entry price 60000 stands in"),
        ((*ISSUE, "--date", "2019-05-01"), "no tiers before 2021-03-18 are known, those stand in on 2019-05-01"),
        ((*ISSUE, "--size", "0.0005"), "BTCUSDT trades in lots of 0.001, 0.0005 is no whole number of them"),
        ((*ISSUE, "--size", "0.0005"), "BTCUSDT takes no order below 0.001, was 0.0005"),
        ((*ISSUE, "--size", "0.001"), "BTCUSDT takes no order worth less than 100 in quote currency, was 60"),
        ((*ISSUE, "--size", "130"), "BTCUSDT takes no market order above 120, 130 must be split"),
        ((*ISSUE, "--target-liquidation", "59000"), "taking that margin out leaves less than the initial margin"),
        (("--side", "long", "--entry", 1, "--size", 1), "no tiers, a flat maintenance rate of 0.005 stands in"),
        (
            ("--venue", "okx", "--symbol", "BTCUSDT", "--side", "long", "--entry", 60_000, "--size", 1, "--rate", 0.01),
            "okx bounds this funding rate: from -0.00375 to 0.00375, was 0.01",
        ),
    ],
)
def test_what_stood_in_and_what_the_venue_would_refuse_is_noted(table, arguments, note):
    _, out = table(*arguments)
    assert note in " ".join(out.split())


def test_a_contract_with_a_flat_rate_of_ones_own_needs_no_table(sheet):
    terms = ("--venue", "binance", "--symbol", "NEWUSDT", "--side", "long", "--entry", 1, "--size", 1_000, "--leverage", 5)
    assert sheet(*terms, "--maintenance-rate", 0.02)["liquidation_price"] == pytest.approx(0.8 / 0.98)


@pytest.mark.parametrize("venue", venues.names())
def test_every_shipped_contract_can_be_calculated_long_and_short(venue, table):
    contracts = {contract.symbol: contract for contract in venues.load(venue).contracts.values()} or {"ANY": None}
    for symbol, contract in list(contracts.items())[:6]:
        size = contract.lot * 100 if contract and contract.lot else 1
        for side, wanted in (("long", 90), ("short", 110)):
            terms = ("--venue", venue, "--symbol", symbol, "--side", side, "--entry", 100, "--size", size, "--leverage", 2)
            rows, _ = table(*terms, "--price", 101, "--balance", 1_000, "--rate", 0.0001, "--target-liquidation", wanted, "--ladder")
            assert {"notional", "tier", "liquidation price", "order cost", "ROE", "margin to add", "largest size", "2x"} <= set(rows)


# -- a whole account -------------------------------------------------------------------------------------------------


def test_an_account_comes_back_with_every_number_filled_in(sheet, account):
    assert sheet(account) == evaluate(ACCOUNT)


def test_an_account_is_json_without_being_asked_where_stdout_is_no_terminal(capsys, account):
    code, out, _ = said(capsys, account)
    assert (code, json.loads(out)) == (0, evaluate(ACCOUNT))


def test_an_account_is_read_from_stdin(sheet, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + json.dumps(ACCOUNT).encode())))
    assert sheet("-") == evaluate(ACCOUNT)


def test_people_at_a_terminal_see_the_account_as_tables(table, account, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    rows, out = table(account)
    assert rows["BTCUSDT"] == ["109.488", "32,481.98", "31,967.27", "-56,354.57", "26,316.90"]
    assert rows["equity"][0] == "1,030,895.56 USDT"
    assert rows["maintenance / equity"][0] == "41.49 %"
    assert rows["liquidatable"][0] == "no"
    assert "Positions, money in USDT" in out


def test_an_inverse_account_is_shown_in_coin(table, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    path = tmp_path / "coin.json"
    held = {"symbol": "BTCUSD_PERP", "size": 600, "entry_price": 50_000, "leverage": 10}
    path.write_text(json.dumps({"venue": "binance-coinm", "wallet_balance": 0.004, "positions": [held]}))
    rows, out = table(path)
    assert "Positions, money in BTC" in out
    assert rows["equity"][0] == "0.00400000 BTC"
    assert rows["liquidatable"] == ["yes", "a wallet has fallen to its maintenance"]  # 0.0048 must be there
    assert "no mark_price, its entry price 50000 stands in" in " ".join(out.split())


# -- venues' own examples --------------------------------------------------------------------------------------------


def one(venue, symbol, side, entry, size, **terms):
    """Return a command line for one position."""
    options = {"venue": venue, "symbol": symbol, "side": side, "entry": entry, "size": size, **terms}
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def test_binance_order_cost(sheet):
    """A sell limit at 9 253.3 with the last price at 9 258.99: FAQ 87fa7ee33b574f7084d42bd2ce2e463b, read 2026-11-21."""
    short = sheet(*one("binance", "BTCUSDT", "short", 9_253.3, 1, leverage=20, mark=9_259.84, last=9_258.99))["order_cost"]
    assert short["initial_margin"] * 20 == pytest.approx(9_272.88, abs=0.005)
    assert short["open_loss"] == pytest.approx(6.54)
    long = sheet(*one("binance", "BTCUSDT", "long", 9_253.3, 1, leverage=20, mark=9_259.84))["order_cost"]
    assert long["total"] == pytest.approx(462.66, abs=0.01)
    assert long["open_loss"] == 0


def test_binance_liquidation_price(sheet, account):
    """Two longs on one wallet: FAQ b3c689c1f50a44cabb3a84e663b81d93, as freqtrade's tests quote it, read 2026-11-21."""
    assert sheet(account)["positions"][0]["liquidation_price"] == pytest.approx(26_316.89, abs=0.01)


def test_binance_coin_margined_order_cost(sheet):
    """Ten contracts of 100 USD at 9 800 with 20x: FAQ be2c7d9d95b04a7e8044ed02dd7dfe5c (copy), read 2026-11-21."""
    assert sheet(*one("binance-coinm", "BTCUSD_PERP", "long", 9_800, 10, leverage=20))["order_cost"]["total"] == pytest.approx(
        0.0051, abs=5e-5
    )


def test_bybit_order_cost(sheet):
    """1 BTC at 50 000 with 10x: help on order cost, USDT contract (copy), read 2026-11-21."""
    cost = sheet(*one("bybit", "BTCUSDT", "long", 50_000, 1, leverage=10))["order_cost"]
    parts = {"initial_margin": 5_000, "open_loss": 0, "opening_fee": 27.5, "closing_fee": 24.75, "total": 5_052.25}
    assert cost == pytest.approx(parts)


def test_bybit_bankruptcy_price(sheet):
    """A 50x long at 10 000: help on the bankruptcy price, USDT contract (copy), read 2026-11-21."""
    assert sheet(*one("bybit", "BTCUSDT", "long", 10_000, 1, leverage=50))["bankruptcy_price"] == pytest.approx(9_800)


def test_okx_initial_margin_and_funding(sheet):
    """1 BTC at 10 000 with 10x: help on initial margin (copy), read 2026-11-21. One stamp of 0.01 % takes 6 of 60 000."""
    assert sheet(*one("okx", "BTC-USDT-SWAP", "long", 10_000, 100, leverage=10))["initial_margin"] == pytest.approx(1_000)
    paid = sheet(*one("okx", "BTC-USDT-SWAP", "long", 60_000, 100, rate=0.0001))["funding_per_day"]["amount"]
    assert paid == pytest.approx(3 * -6)


def test_hyperliquid_liquidation_price(sheet):
    """An isolated short as the venue reported it on 2025-10-30: ccxt, static response of hyperliquid at 0117dcb9."""
    terms = {"leverage": 10, "mark": 192.58 / 4, "isolated_margin": 211.144417 - 4 * 47.9932, "date": "2025-10-30"}
    short = sheet(*one("hyperliquid", "HYPE", "short", 47.9932, 4, **terms))
    assert short["liquidation_price"] == pytest.approx(50.2724802381)
    assert short["equity"] == pytest.approx(18.564417)


def test_dydx_bankruptcy_price(sheet):
    """0.1 BTC bought with a debt of 4 501 is worth it at 45 010: v4-chain, TestGetBankruptcyPriceInQuoteQuantums, read 2026-11-21."""
    terms = {"margin_mode": "cross", "balance": 5_000 - 4_501, "maintenance_rate": 0.1, "leverage": 10}
    long = sheet(*one("dydx", "BTC-USD", "long", 50_000, 0.1, **terms))
    assert long["bankruptcy_price"] == pytest.approx(4_501 / 0.1)
    assert long["liquidatable"]


def test_gate_liquidation_price(sheet):
    """Two contracts of 10 ADA as the venue reported them on 2022-05-06, closing fee in the margin: ccxt pull request 13130."""
    terms = {"multiplier": 10, "leverage": 20, "mark": 0.79342, "maintenance_rate": 0.025}
    long = sheet(*one("gate", "ADA_USDT", "long", 0.79271, 2, **terms))
    assert long["isolated_margin"] == pytest.approx(0.80460065)
    assert long["liquidation_price"] == pytest.approx(0.77237, abs=5e-6)


def test_bitget_initial_margin(sheet):
    """A thousandth of a bitcoin at 27 671 with 3x, as the venue reported it on 2022-05-12: ccxt pull request 13207."""
    assert sheet(*one("bitget", "BTCUSDT", "long", 27_671, 0.001, leverage=3))["isolated_margin"] == pytest.approx(9.223666666667)


# -- wrong use -------------------------------------------------------------------------------------------------------

LONG = ("--side", "long", "--entry", "100", "--size", "1")
WRONG = {
    "nothing": ((), "calc takes an ACCOUNT.json, or one position with --side, --entry and --size"),
    "half a position": (("--side", "long", "--entry", "1"), "--size not given"),
    "side": (("--side", "up", "--entry", "1", "--size", "1"), "--side is long or short, was 'up'"),
    "negative size": (("--side", "long", "--entry", "1", "--size", "-1"), "--size is above 0, --side says which way it goes, was -1"),
    "nan size": (("--side", "long", "--entry", "1", "--size", "nan"), "--size is above 0"),
    "infinite entry": (("--side", "long", "--entry", "inf", "--size", "1"), "--entry must be a finite number, was inf"),
    "size is a word": (("--side", "long", "--entry", "1", "--size", "big"), "'--size'"),
    "leverage": ((*LONG, "--leverage", "0.5"), "leverage must be 1 or more, was 0.5"),
    "leverage above the tier": ((*ISSUE, "--leverage", "151"), "leverage 151 is not possible at this size, its tier allows 150x"),
    "margin mode": ((*LONG, "--margin-mode", "hedge"), "--margin-mode is one of 'cross', 'isolated', was 'hedge'"),
    "cross without a balance": ((*LONG, "--margin-mode", "cross"), "give its --balance"),
    "isolated margin in cross": (
        (*LONG, "--margin-mode", "cross", "--balance", "5", "--isolated-margin", "5"),
        "--isolated-margin is 5 on a position in cross margin",
    ),
    "venue": ((*LONG, "--venue", "mtgox"), "no venue is called 'mtgox'"),
    "symbol": ((*LONG, "--venue", "binance", "--symbol", "NOPE"), "give --maintenance-rate, or an account file with its tiers"),
    "date": ((*ISSUE, "--date", "soon"), "a date is a day such as 2024-05-01"),
    "rate": ((*LONG, "--rate", "nan"), "--rate must be a finite number, was nan"),
    "price": ((*LONG, "--price", "0"), "price must be above 0, was 0"),
    "mark": ((*LONG, "--mark", "-1"), "--mark must be above 0, was -1"),
    "last": ((*LONG, "--last", "0"), "--last must be above 0, was 0"),
    "liquidation on the wrong side": ((*LONG, "--target-liquidation", "101"), "a long is liquidated below its mark price 100"),
    "liquidation at zero": ((*LONG, "--target-liquidation", "0"), "--target-liquidation must be above 0, was 0"),
    "contract type": ((*LONG, "--contract-type", "future"), "--contract-type is one of 'linear', 'inverse', 'spot', was 'future'"),
    "short spot": (("--side", "short", "--entry", "1", "--size", "1", "--contract-type", "spot"), "spot is bought and paid in full"),
    "ladder of spot": ((*LONG, "--contract-type", "spot", "--ladder"), "leave out --ladder"),
    "liquidation of spot": ((*LONG, "--contract-type", "spot", "--target-liquidation", "9"), "leave out --target-liquidation"),
    "account and options": (("a.json", "--symbol", "X", "--ladder"), "leave out --symbol, --ladder"),
    "two accounts": (("a.json", "b.json"), "b.json"),
    "no file": (("nope.json",), "cannot read nope.json (No such file or directory)"),
    "a folder": ((".",), "cannot read . (Is a directory)"),
    "unknown option": ((*LONG, "--nope"), "--nope"),
}


def assert_refused(said: tuple[int, str, str], sentence: str) -> None:
    code, out, err = said
    assert (code, out) == (2, "")
    assert err.startswith("bt-margin: ")
    assert err.count("\n") == 1
    assert sentence in err


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_one_sentence_and_code_2(capsys, case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, sentence = WRONG[case]
    assert_refused(said(capsys, *arguments), sentence)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "account.json is no JSON: Expecting value in line 1, column 1"),
        (b'{"venue": "generic",\n "date" }', "account.json is no JSON: Expecting ':' delimiter in line 2, column 9"),
        (b"\xff\xfe", "account.json is no JSON: byte 0 is no UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"date": "2024-05-01", "date": null}', "a JSON object has 'date' twice; keep one"),
        (b"5", "the account must be an object with the fields venue"),
        (b'{"wallet": 5}', "the account has unknown fields 'wallet'"),
        (b'{"positions": [{"size": NaN, "entry_price": 1}]}', "position 1: size must be a finite number, was nan"),
        (b'{"positions": [{"size": 1}]}', "position 1: entry_price is missing"),
    ],
)
def test_an_account_that_is_none_is_one_sentence_and_code_2(capsys, content, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("account.json").write_bytes(content)
    assert_refused(said(capsys, "account.json"), sentence)


def test_a_liquidation_price_that_no_margin_gives_is_refused(tmp_path):
    """At 3 % from 900 of notional on and 1 % below, a wallet that holds until 89.9 has failed at the edge before."""
    tiers = [{"cap": 900, "rate": 0.01}, {"cap": None, "rate": 0.03}]
    terms = {"size": 10, "entry_price": 100, "leverage": 5, "tiers": tiers, "tier_mode": "slab"}
    with pytest.raises(ValueError, match="no margin puts the liquidation price at"):
        calc.contract_sheet(**terms, wanted_liquidation_price=89.9)


# -- the command -----------------------------------------------------------------------------------------------------


def test_it_can_be_added_to_any_command_line():
    app = typer.Typer()
    calc.register(app)
    done = CliRunner().invoke(app, [*LONG, "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["notional"] == 100


def test_help_names_both_forms(capsys):
    code, out, _ = said(capsys, "--help")
    assert code == 0
    assert "ACCOUNT.json" in out
    assert "--target-liquidation" in out


def test_the_calculator_needs_no_command_line():
    program = (
        "import sys, bt_margin; bt_margin.calculator.evaluate({'positions': []}); print('typer' in sys.modules, 'rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_rates_may_be_given_in_percent(sheet):
    plain, percent = (sheet(*ISSUE, "--taker-fee", fee, "--rate", rate) for fee, rate in (("0.0007", "0.0002"), ("0.07%", "0.02%")))
    assert percent["break_even_price"] == pytest.approx(plain["break_even_price"], rel=1e-15)
    assert percent["funding_per_day"]["amount"] == pytest.approx(plain["funding_per_day"]["amount"], rel=1e-15)
