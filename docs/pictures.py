"""Draw the README's pictures anew, into docs/img: ``make pictures``. The same bytes wherever matplotlib is the same."""

import runpy
from pathlib import Path

from bt_margin.strategies.buy_and_hold import BuyAndHold

import bt_margin as bm
from bt_margin import data, plots

IMAGES = Path(__file__).parent / "img"
EXAMPLES = Path(__file__).parents[1] / "examples"
NOTE = "hourly Binance spot prices stand in for last and mark price of the perpetual; funding at the default 0.01 % per 8 h"


def hero() -> bm.Result:
    """Return the run of the README: a long of 10.5 times the account from the top of September 2020, beside stock Backtrader."""
    candles = data.load().loc["2020-09-01 20:00":"2021-04-30"]
    params = {"leverage": 10.5, "spare": 0}
    return bm.run(BuyAndHold, {"BTCUSDT": candles}, leverage=20, params=params, funding=0.0001, baseline=True)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    plots.save(plots.overview(hero(), note=NOTE), IMAGES / "hero.png")
    compared = runpy.run_path(str(EXAMPLES / "compare_position_sizing.py"))["compare"]()
    plots.save(plots.compare(compared, note=NOTE), IMAGES / "comparison.png")
    plots.save(plots.page(compared["half as margin at 10x"], note=NOTE), IMAGES / "page.png")


if __name__ == "__main__":
    main()
