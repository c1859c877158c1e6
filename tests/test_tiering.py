"""``bt-margin tiers``: a table at a date, what changed between two, and whether a file of one's own is sound."""

import json
from pathlib import Path
from typing import Any

import pytest
from fakevenue import SYMBOL, TIERS

from bt_margin import venues
from bt_margin.cli import main
from bt_margin.core.tiers import TierTable
from bt_margin.tiering import changed, shape_of


def told(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["tiers", *map(str, words)])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_show_prints_the_table_of_a_day_with_its_amounts_and_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = told(capsys, "show", "BTCUSDT", "--date", "2022-03-01")

    assert (code, err) == (0, "")
    assert "BTCUSDT at binance, from 2022-02-16" in out
    # 50 000 x (0.5 % - 0.4 %) = 50, and 50 + 250 000 x (1 % - 0.5 %) = 1 300
    assert "│    2 │      50,000 │       250,000 │  0.5 % │          50 │     100x │" in out
    assert "│    3 │     250,000 │     1,000,000 │    1 % │       1,300 │      50x │" in out
    assert "Edges count notional, each part of a position is charged its tier's rate. Source: " in out


def test_show_as_json_is_the_table_that_a_run_of_that_day_uses(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, "show", "btcusdt", "--date", "2024-05-01", "--json")

    shown = json.loads(out)
    table = venues.load("binance", "2024-05-01").contract("BTCUSDT").tiers.tables[-1]
    assert (code, shown["symbol"], shown["valid_from"], shown["mode"], shown["unit"]) == (0, "BTCUSDT", "2024-03-31", "marginal", "quote")
    assert [(row["cap"], row["rate"], row["max_leverage"]) for row in shown["tiers"]] == [
        (tier.cap, tier.rate, tier.max_leverage) for tier in table.tiers
    ]
    assert [row["amount"] for row in shown["tiers"]] == [bracket.amount for bracket in table.brackets]


def test_show_says_where_a_day_is_earlier_than_the_first_table(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, "show", "BTCUSDT", "--date", "2019-09-10")
    assert code == 0 and "No table of 2019-09-10 is known; the first that is applies." in out
    assert json.loads(told(capsys, "show", "BTCUSDT", "--date", "2019-09-10", "--json")[1])["is_earlier_than_known"] is True
    assert json.loads(told(capsys, "show", "BTCUSDT", "--json")[1])["is_earlier_than_known"] is False


def test_show_says_what_other_venues_edges_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        "Edges count contracts, the whole position is charged its tier's rate."
        in told(capsys, "show", "BTC-USDT-SWAP", "--venue", "okx")[1]
    )
    assert "Edges count base coins, each part" in told(capsys, "show", "BTCUSD_PERP", "--venue", "binance-coinm")[1]
    assert json.loads(told(capsys, "show", "ANY", "--venue", "generic", "--json")[1])["tiers"] == [
        {"floor": 0.0, "cap": None, "rate": 0.005, "amount": 0.0, "max_leverage": 200.0}  # 1 / 0.5 %
    ]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("show", "NONESUCH"), "binance has no tiers for NONESUCH here (known: "),
        (("show", "BTCUSDT", "--venue", "binanse"), "no venue is called 'binanse'; known: "),
        (("show", "BTCUSDT", "--date", "2024-13-01"), "a date is a day such as 2024-05-01"),
        (
            ("diff", "BTCUSDT", "--from", "2023-02-01", "--to", "2022-03-01"),
            "--from is the earlier day and --to the later one, were 2023-02-01",
        ),
        (("check", "nowhere.json"), "there is no file nowhere.json"),
    ],
)
def test_what_is_not_known_is_one_sentence(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str) -> None:
    code, out, err = told(capsys, *words)
    assert (code, out) == (2, "") and err.startswith(f"bt-margin: {sentence}") and err.count("\n") == 1


def test_changes_are_told_by_spans_of_size_and_nothing_else_is() -> None:
    old = TierTable.from_rows([(50, 0.01, 50), (100, 0.02, 25), (200, 0.05, 10)])
    new = TierTable.from_rows([(50, 0.01, 50), (150, 0.02, 20)])

    spans = [(row["floor"], row["cap"], row["rate_before"], row["rate_after"]) for row in changed(old, new)]
    leverage = [(row["max_leverage_before"], row["max_leverage_after"]) for row in changed(old, new)]

    assert spans == [(50, 100, 0.02, 0.02), (100, 150, 0.05, 0.02), (150, 200, 0.05, None)]
    assert leverage == [(25, 20), (10, 20), (10, None)]
    assert list(changed(old, old)) == []


def test_diff_prints_what_changed_between_two_days(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = told(capsys, "diff", "BTCUSDT", "--from", "2022-03-01", "--to", "2023-02-01")

    assert (code, err) == (0, "")
    assert "BTCUSDT at binance: the table from 2022-02-16, then the one from 2023-01-13." in out
    assert "│ 250,000 │ 1,000,000 │ 1 % │ 1,300 │ 50x to 25x │" in " ".join(out.split())
    code, out, _ = told(capsys, "diff", "BTCUSDT", "--from", "2022-03-01", "--to", "2022-03-05")
    assert code == 0 and out.endswith("Nothing changed.\n")


def test_diff_as_json_has_both_tables_and_the_changes(capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(told(capsys, "diff", "BTCUSDT", "--from", "2022-03-01", "--to", "2023-02-01", "--json")[1])
    assert (shown["before"]["valid_from"], shown["after"]["valid_from"]) == ("2022-02-16", "2023-01-13")
    assert shown["changes"][0] == {
        "floor": 250_000,
        "cap": 1_000_000,
        "rate_before": 0.01,
        "amount_before": 1_300,
        "max_leverage_before": 50,
        "rate_after": 0.01,
        "amount_after": 1_300,
        "max_leverage_after": 25,
    }


# -- files -----------------------------------------------------------------------------------------------------------

BINANCE = [
    {
        "symbol": "BTCUSDT",
        "brackets": [
            {"bracket": 1, "initialLeverage": 125, "notionalCap": 50_000, "notionalFloor": 0, "maintMarginRatio": 0.004, "cum": 0.0},
            {"bracket": 2, "initialLeverage": 100, "notionalCap": 250_000, "notionalFloor": 50_000, "maintMarginRatio": 0.005, "cum": 50.0},
        ],
    }
]
BYBIT_ROW = {"id": 1, "symbol": "BTCUSDT", "riskLimitValue": "300000", "maintenanceMargin": "0.0033", "initialMargin": "0.0066"}
BYBIT_ROW |= {"maxLeverage": "150.00", "mmDeduction": ""}
BYBIT = {"retCode": 0, "result": {"category": "linear", "list": [BYBIT_ROW], "nextPageCursor": ""}}
OKX_ROW = {"tier": "1", "instFamily": "BTC-USDT", "minSz": "0", "maxSz": "1000", "mmr": "0.004", "imr": "0.01", "maxLever": "100"}
HYPERLIQUID = {"universe": [{"name": "BTC", "maxLeverage": 40, "marginTableId": 40}], "marginTables": []}
FILES: dict[str, tuple[str, Any, str]] = {
    "ccxt": ("tiers.json", {SYMBOL: TIERS}, SYMBOL),
    "ccxt of one market": ("tiers.json", TIERS, SYMBOL),
    "binance": ("brackets.json", BINANCE, "BTCUSDT"),
    "bybit": ("risk.json", BYBIT, "BTCUSDT"),
    "bybit pages": ("risk.json", [BYBIT], "BTCUSDT"),
    "okx": ("okx.json", {"code": "0", "data": [OKX_ROW]}, "BTC-USDT"),
    "okx rows": ("okx.json", [OKX_ROW], "BTC-USDT"),
    "hyperliquid": ("meta.json", HYPERLIQUID, "BTC"),
    "hyperliquid and contexts": ("meta.json", [HYPERLIQUID, []], "BTC"),
    "csv": ("own.csv", "symbol,cap,rate,max_leverage\nXYZ,1000,0.01,50\nXYZ,,0.02,25\n", "XYZ"),
    "toml": ("own.toml", '[[table]]\nsymbol = "XYZ"\nrows = [[1000, 0.01, 50], [inf, 0.02, 25]]\n', "XYZ"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_sound_file_of_any_shape_is_recognised_and_summed_up(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    file, written, symbol = FILES[name]
    path = tmp_path / file
    path.write_text(written if isinstance(written, str) else json.dumps(written), "utf-8")

    code, out, err = told(capsys, "check", path, "--json")

    shown = json.loads(out)
    assert (code, err, shown["sound"], shown["shape"]) == (0, "", True, name.split()[0])
    assert [row["symbol"] for row in shown["tables"]] == [symbol]
    assert f"{file}: {name.split()[0]}, 1 sound table" in told(capsys, "check", path)[1]


def test_every_venue_file_of_the_package_is_sound(capsys: pytest.CaptureFixture[str]) -> None:
    for path in sorted(venues.FOLDER.glob("*.json")):
        code, out, _ = told(capsys, "check", path, "--json")
        shown = json.loads(out)
        assert (code, shown["shape"]) == (0, "venue")
        assert {row["symbol"] for row in shown["tables"]} == {contract.symbol for contract in venues.load(path.stem).contracts.values()}
        assert all(row["valid_from"] for row in shown["tables"])


@pytest.mark.parametrize(
    ("file", "written", "sentence"),
    [
        (
            "gap.json",
            [TIERS[0], {**TIERS[1], "minNotional": 60_000}],
            "tier 2 must start where tier 1 ends, at 50000; its floor was 60000, a gap",
        ),
        (
            "cum.json",
            [TIERS[0], {**TIERS[1], "info": {"notionalCap": "1", "cum": "51"}}],
            "maintenance amount 51 disagrees with the derived 50",
        ),
        ("falls.csv", "cap,rate,max_leverage\n10,0.02,25\n20,0.01,50\n", "maintenance rates never fall: tier 2 has 0.01 after 0.02"),
        ("percent.csv", "cap,rate,max_leverage\n10,0.5,125\n", "maintenance rate 0.5 exceeds the initial rate 1/125"),
        ("odd.json", {"a": 1}, "odd.json is not known as tiers by its fields (a); name its --shape, one of ccxt, binance, bybit"),
        ("broken.json", "{", "broken.json is not JSON"),
        ("bybit.json", [BYBIT_ROW], "bybit.json, category must be one of 'linear', 'inverse', was None"),
    ],
)
def test_a_file_that_is_not_sound_ends_with_2_and_its_first_fault(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, file: str, written: Any, sentence: str
) -> None:
    (tmp_path / file).write_text(written if isinstance(written, str) else json.dumps(written), "utf-8")
    code, out, err = told(capsys, "check", tmp_path / file)
    assert (code, out) == (2, "") and sentence in err and err.count("\n") == 1


def test_what_is_no_text_and_a_folder_are_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "packed.json").write_bytes(b"{}\xff")
    assert (
        told(capsys, "check", tmp_path / "packed.json")[2]
        == "bt-margin: packed.json is no text in UTF-8, by its byte 2; name a text file\n"
    )
    assert told(capsys, "check", tmp_path)[2] == f"bt-margin: {tmp_path} is a folder; name a file in it\n"


def test_what_a_file_does_not_say_is_said_by_options_and_by_no_other(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([BYBIT_ROW]), "utf-8")
    (tmp_path / "bare.json").write_text(json.dumps([{**TIERS[0], "info": {}}]), "utf-8")
    (tmp_path / "own.csv").write_text("cap,rate,max_leverage\n1000,0.01,50\n", "utf-8")

    assert told(capsys, "check", tmp_path / "rows.json", "--category", "linear")[0] == 0
    shown = json.loads(told(capsys, "check", tmp_path / "bare.json", "--exchange", "okx", "--json")[1])
    assert (shown["tables"][0]["unit"], shown["tables"][0]["mode"]) == ("contracts", "slab")
    own = json.loads(told(capsys, "check", tmp_path / "own.csv", "--unit", "base", "--mode", "slab", "--json")[1])
    assert (own["tables"][0]["unit"], own["tables"][0]["mode"], own["tables"][0]["valid_from"]) == ("base", "slab", None)
    code, _, err = told(capsys, "check", tmp_path / "own.csv", "--rates", "percent")
    assert (code, err) == (2, "bt-margin: --rates says nothing of a file that is csv; leave it out\n")
    assert told(capsys, "check", tmp_path / "own.csv", "--shape", "tsv")[0] == 2


def test_a_published_history_of_tables_is_sound_day_by_day(reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = json.loads((reference / "data/tiers/binance_usdtm_tiers_history.json").read_text("utf-8"))
    assert len(history) == 18
    for day, entry in history.items():
        path = tmp_path / f"{day}.json"
        path.write_text(json.dumps(entry["tiers"]), "utf-8")
        assert shape_of(path) == "ccxt"
        code, out, _ = told(capsys, "check", path, "--exchange", "binance", "--json")
        assert code == 0 and len(json.loads(out)["tables"]) == len(entry["tiers"])
