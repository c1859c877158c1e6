"""The table in docs/scaling.md is what its code prints today, and every scheme and parameter that it names is there."""

import re
from pathlib import Path

from bt_margin import scalers

TEXT = (Path(__file__).parents[1] / "docs" / "scaling.md").read_text("utf-8")


def test_the_printed_table_is_what_its_code_prints():
    code, printed = re.search(r"```python\n(table = .*?)print\(table\)\n```\n\n```text\n(.*?)```", TEXT, re.DOTALL).groups()
    names = dict(vars(scalers))
    exec(code, names)
    assert str(names["table"]) == printed.rstrip("\n")


def test_every_scheme_has_its_row_with_the_shares_it_ships():
    rows = dict(re.findall(r"^\| `([A-Z]\w+)[^|]*\|[^|]*\|([^|]*)\|", TEXT, re.MULTILINE))
    assert set(rows) == {kind.__name__ for kind in scalers.SCHEMES} | {"Rungs"}
    for name in ("Funnel", "Pyramid", "TwoThreeFive"):
        shares = [f"{share:.0%}".rstrip("%") for share in getattr(scalers, name)().shares]
        assert re.findall(r"\d+(?=[ ,%])", rows[name])[: len(shares)] == shares
    assert "5 x 20 %, 2 % apart" in rows["Rectangle"]
    assert (scalers.Rectangle().n, scalers.Rectangle().share, scalers.Rectangle().step) == (5, 0.2, 0.02)
    assert [rung.share for rung in scalers.GridMartingale().ladder().rungs] == [1, 2, 4, 8]
    assert len(scalers.Turtle().ladder().rungs) == 4
    assert len(scalers.SafetyOrders().ladder().rungs) == 1 + 5
