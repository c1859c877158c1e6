"""``bt-margin data check``: exit codes by severity, JSON, and copies that are repaired where no judgement is needed."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bt_margin.cli import main

PRICES = ("open", "high", "low", "close")


@pytest.fixture
def bars() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    closes = np.round(100 * np.exp(np.cumsum(rng.normal(0, 0.01, 48))), 2)
    opens = np.concatenate(([100.0], closes[:-1]))
    index = pd.date_range("2024-01-01", periods=48, freq="h", tz="UTC", name="datetime").as_unit("ms")
    high, low = np.maximum(opens, closes) + 0.5, np.minimum(opens, closes) - 0.5
    return pd.DataFrame({"open": opens, "high": high, "low": low, "close": closes, "volume": 5.0, "trades": range(48)}, index=index)


def checked(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["data", "check", *map(str, words)])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_a_clean_file_ends_with_0_and_says_what_it_was_taken_for(
    bars: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bars.to_csv(tmp_path / "BTCUSDT-1h.csv")

    code, out, err = checked(capsys, tmp_path / "BTCUSDT-1h.csv")

    assert (code, err) == (0, "")
    assert out == "BTCUSDT-1h.csv: plain, candles, 48 rows every 1 h, 2024-01-01T00:00:00Z to 2024-01-02T23:00:00Z\n"


def test_the_command_by_itself_says_what_it_can(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["data"])

    assert not ended.value.code
    assert "check" in capsys.readouterr().out


def test_warnings_end_with_1_and_errors_with_2_and_one_sentence(
    bars: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bars.drop(bars.index[10]).to_csv(tmp_path / "gap.csv")
    bars.assign(high=1.0).to_csv(tmp_path / "odd.csv")

    code, out, err = checked(capsys, tmp_path / "gap.csv")
    assert (code, err) == (1, "")
    assert "  warning  gap: 1 bar of 1 h missing in 1 place: 2024-01-01 10:00 (1)" in out

    code, out, err = checked(capsys, tmp_path / "gap.csv", tmp_path / "odd.csv", tmp_path / "none.csv")
    assert code == 2
    assert err == "bt-margin: errors in odd.csv, none.csv; mend them before a backtest\n"
    assert "none.csv: not read\n  error    unreadable: does not exist" in out


def test_json_names_every_instant(bars: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bars.drop(bars.index[[10, 20]]).to_csv(tmp_path / "BTCUSDT.csv")

    code, out, _ = checked(capsys, tmp_path / "BTCUSDT.csv", "--json")

    told = json.loads(out)
    (file,) = told["files"]
    (finding,) = file["findings"]
    assert (code, told["worst"]) == (1, "warning")
    assert (file["shape"], file["kind"], file["symbol"], file["rows"], file["bar"]) == ("plain", "candles", "BTCUSDT", 46, "1 h")
    assert (finding["check"], finding["count"], finding["times"]) == ("gap", 2, ["2024-01-01T10:00:00Z", "2024-01-01T20:00:00Z"])


def test_the_distance_of_marks_is_what_is_asked_for(bars: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = bars.assign(**{f"mark_{price}": bars[price] * 1.0001 for price in PRICES})
    frame.iloc[7, frame.columns.get_loc("low")] *= 0.97
    frame.to_csv(tmp_path / "x.csv")

    assert "divergence" not in checked(capsys, tmp_path / "x.csv")[1]
    assert "1 bar whose mark is over 2 % off last" in checked(capsys, tmp_path / "x.csv", "--distance", "2%")[1]
    code, _, err = checked(capsys, tmp_path / "x.csv", "--distance", "7")
    assert (code, err) == (2, "bt-margin: --distance takes a share of last such as 0.05 or 5%, was '7'\n")


def faulty(bars: pd.DataFrame) -> pd.DataFrame:
    """Return the candles with two rows repeated and the third 3 ms late."""
    late = bars.index[:2].append(bars.index[2:3] + pd.Timedelta("3ms")).append(bars.index[3:])
    moved = bars.set_axis(late.rename("datetime"))
    return pd.concat([moved.iloc[:10], moved.iloc[8:]])


CHANGES = [
    {"row": 2, "what": "jitter, moved to the whole minute", "from": "2024-01-01T02:00:00.003000Z", "to": "2024-01-01T02:00:00Z"},
    {"row": 10, "what": "repeats another row, dropped", "from": "2024-01-01T08:00:00Z", "to": None},
    {"row": 11, "what": "repeats another row, dropped", "from": "2024-01-01T09:00:00Z", "to": None},
]


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "ms.csv", "x.parquet", "column.parquet", "x.feather"])
def test_a_repaired_copy_is_clean_lists_every_change_and_leaves_the_file_as_it_was(
    bars: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path, frame = tmp_path / name, faulty(bars)
    stamps = frame.index.tz_localize(None).to_numpy().astype("int64") if name == "ms.csv" else None
    {
        "x.csv": lambda: frame.to_csv(path),
        "x.csv.gz": lambda: frame.to_csv(path),
        "ms.csv": lambda: frame.set_axis(pd.Index(stamps, name="timestamp")).to_csv(path),
        "x.parquet": lambda: frame.to_parquet(path),
        "column.parquet": lambda: frame.reset_index().to_parquet(path),
        "x.feather": lambda: frame.reset_index().to_feather(path),
    }[name]()
    before = path.read_bytes()

    code, out, _ = checked(capsys, path, "--fix", tmp_path / "fixed", "--json")

    (file,) = json.loads(out)["files"]
    assert code == 0
    assert file["changes"] == CHANGES
    assert file["left"] == []
    assert path.read_bytes() == before
    copy = Path(file["fixed"])
    assert checked(capsys, copy)[0] == 0
    made = pd.read_parquet(copy) if name.endswith("parquet") else pd.read_feather(copy) if name.endswith("feather") else pd.read_csv(copy)
    assert made["trades"].tolist() == list(range(48))  # a column that no backtest reads stays


def test_a_copy_of_a_csv_differs_in_the_cells_that_were_changed_alone(
    bars: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["# from a friend", "open time;open;high;low;close;volume"]
    lines += [f"2024-01-01 0{hour}:00:0{hour % 2};1.50;2.50;0.50;1.50;{hour}" for hour in range(8)]
    (tmp_path / "x.csv").write_text("\n".join([*lines, lines[4]]) + "\n", "utf-8")

    code, out, _ = checked(capsys, tmp_path / "x.csv", "--fix", tmp_path / "fixed")

    text = (tmp_path / "fixed" / "x.csv").read_text("utf-8")
    assert code == 0
    assert text.splitlines() == [lines[1], *(line.replace(":01;", ":00;") for line in lines[2:])]
    assert "  row 8 2024-01-01T02:00:00Z: repeats another row, dropped" in out
    assert "  row 1 2024-01-01T01:00:01Z to 2024-01-01T01:00:00Z: jitter, moved to the whole minute" in out


def test_closing_stamps_are_moved_to_the_opening_in_a_copy(bars: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bars.set_axis(bars.index + pd.Timedelta("59min 59.999s")).rename_axis("timestamp").to_csv(tmp_path / "c.csv")

    assert checked(capsys, tmp_path / "c.csv")[0] == 1
    assert checked(capsys, tmp_path / "c.csv", "--fix", tmp_path / "fixed")[0] == 0
    with (tmp_path / "fixed" / "c.csv").open(encoding="utf-8") as file:
        assert [row["timestamp"] for row in csv.DictReader(file)][:2] == ["2024-01-01 00:00:00+00:00", "2024-01-01 01:00:00+00:00"]


def test_nothing_is_written_over_and_nothing_is_written_without_need(
    bars: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faulty(bars).to_csv(tmp_path / "x.csv")
    bars.to_csv(tmp_path / "clean.csv")

    code, _, err = checked(capsys, tmp_path / "x.csv", "--fix", tmp_path)
    assert (code, err) == (
        2,
        f"bt-margin: --fix would write over {tmp_path / 'x.csv'}; name an empty folder, and files of different names\n",
    )
    code, out, _ = checked(capsys, tmp_path / "clean.csv", "--fix", tmp_path / "fixed")
    assert (code, (tmp_path / "fixed").exists()) == (0, False)
    assert "Nothing was written" in out


def test_what_is_left_in_the_copy_decides_how_a_repair_ends(bars: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = faulty(bars)
    frame.drop(frame.index[30]).to_csv(tmp_path / "x.csv")

    code, out, _ = checked(capsys, tmp_path / "x.csv", "--fix", tmp_path / "fixed", "--json")

    assert code == 1
    assert json.loads(out)["files"][0]["left"] == [{"check": "gap", "severity": "warning"}]


def test_rows_of_json_are_repaired_as_a_csv(bars: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stamps = bars.index.tz_localize(None).to_numpy().astype("int64").tolist()
    rows = [[stamp, *row] for stamp, row in zip(stamps, bars[[*PRICES, "volume"]].to_numpy().tolist(), strict=True)]
    (tmp_path / "BTCUSDT.json.gz").write_bytes(gzip.compress(json.dumps([*rows[:9], *rows[8:]]).encode()))

    code, _, _ = checked(capsys, tmp_path / "BTCUSDT.json.gz", "--fix", tmp_path / "fixed")

    assert code == 0
    assert len(pd.read_csv(tmp_path / "fixed" / "BTCUSDT.csv")) == 48


def test_several_series_of_one_file_are_repaired_in_one_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stamp = 1_704_067_200_000
    lines = [f"{name}-USDT-SWAP,0.0001,{stamp + 28_800_000 * number}" for number in range(6) for name in ("BTC", "ETH")]
    late = lines[3].removesuffix("000") + "007"  # the second settlement of ETH, 7 ms late
    text = ["instrument_name,funding_rate,funding_time", *lines[:3], late, *lines[4:], lines[-2]]
    (tmp_path / "allswap-fundingrates.csv").write_text("\n".join(text) + "\n", "utf-8")

    code, out, _ = checked(capsys, tmp_path / "allswap-fundingrates.csv", "--fix", tmp_path / "fixed", "--json")

    told = json.loads(out)
    assert code == 0
    assert [(file["symbol"], file["rows"]) for file in told["files"]] == [("BTCUSDT", 7), ("ETHUSDT", 6)]
    assert [(change["row"], change["what"]) for change in told["files"][0]["changes"]] == [
        (3, "jitter, moved to the whole minute"),
        (12, "repeats another row, dropped"),
    ]
    assert (tmp_path / "fixed" / "allswap-fundingrates.csv").read_text("utf-8").splitlines() == [text[0], *lines]
