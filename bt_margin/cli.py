"""The command ``bt-margin``: prints tables for people, JSON with ``--json``; exits 0, or 2 with one sentence on stderr."""

import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from . import calc
from .result import Result, plain, records

if TYPE_CHECKING:
    from types import ModuleType

    import pandas as pd

NAME = "bt-margin"
USAGE_ERROR: Any = typer.BadParameter.__mro__[2]  # the ancestor of every complaint about a command line; typer does not export it

DEMO_SYMBOL = "BTCUSDT"
DEMO_SPAN = slice("2019-08-01", "2020-12-31")
DEMO_HOURS_A_DAY = 24
DEMO_STAKE = 2.5
DEMO_FUNDING = 0.0001  # Binance's default rate for 8 hours; data/README.md
DEMO_STORY = f"SMA cross of 50 and 200 days, {DEMO_STAKE:g} {DEMO_SYMBOL} at 20x isolated margin on Binance's rules"
DEMO_NOTE = "hourly Binance spot prices stand in for last and mark price of the perpetual; funding at the default 0.01 % per 8 h"
DEMO_PICTURE = "bt_margin_demo.png"
SHOWN = 5

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def lobby(context: typer.Context) -> None:
    """Backtrader backtests that obey the margin rules of a perpetual-futures venue."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the picture.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print summary and liquidations as JSON.")] = False,
) -> None:
    """See a 20x trend strategy live and die on real prices."""
    picture = _folder(out) / DEMO_PICTURE
    with Console(stderr=True).status("trading 17 months of hours, twice"):
        result = _demo_result()
        _save_overview(result, picture)
    if as_json:
        shown = {"summary": result.summary, "liquidations": records(result.liquidations), "picture": str(picture)}
        print(json.dumps(plain(shown), indent=2))
        return
    console = Console()
    console.print(f"{DEMO_STORY}; {DEMO_NOTE}.\n", highlight=False)
    console.print(_claims(result))
    console.print(_liquidations(result.liquidations))
    console.print("Stated policies: " + "; ".join(result.summary["flags"]) + ".", highlight=False)
    console.print(f"Picture: {picture}", highlight=False, soft_wrap=True)


calc.register(app)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; every error of use or input is one sentence on stderr and exit code 2."""
    command = typer.main.get_command(app)
    try:
        sys.exit(command.main(args=arguments, prog_name=NAME, standalone_mode=False))
    except (ValueError, OSError) as error:
        _refuse(str(error))
    except USAGE_ERROR as error:
        _refuse(error.format_message())
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)


def _refuse(reason: str) -> NoReturn:
    print(f"{NAME}: {' '.join(reason.split())}", file=sys.stderr)
    sys.exit(2)


# -- demo ------------------------------------------------------------------------------------------------------------


def _demo_result() -> Result:
    from .backtest import run

    candles = _shipped("data").load().loc[DEMO_SPAN]
    days = {"fast": 50 * DEMO_HOURS_A_DAY, "slow": 200 * DEMO_HOURS_A_DAY}
    return run(
        _shipped("strategies.sma_cross").SmaCross, {DEMO_SYMBOL: candles}, venue="binance", leverage=20, margin_mode="isolated",
        params=days, sizer=DEMO_STAKE, funding=DEMO_FUNDING, baseline=True,
    )  # fmt: skip


def _shipped(name: str) -> "ModuleType":
    """Return what is installed inside the package and stands at the top of a checkout."""
    try:
        return import_module(f"bt_margin.{name}")
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("bt_margin."):
            raise
        raise ValueError("the demo's candles and strategies come with the installed package; run 'pip install .' first") from error


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out {path} is no folder to write to ({error.strerror}); name one that is") from error
    return path


def _save_overview(result: Result, picture: Path) -> None:
    from .plots import overview

    try:
        overview(result, note=DEMO_NOTE).savefig(picture)
    except OSError as error:
        raise ValueError(f"cannot write {picture} ({error.strerror}); name another folder with --out") from error


# -- tables ----------------------------------------------------------------------------------------------------------


def _claims(result: Result) -> Table:
    """Return the two accounts side by side; a dash where stock Backtrader does not know."""
    summary, stock = result.summary, result.baseline
    assert stock is not None
    start = summary["start_cash"]
    rows = [
        ("final equity", f"{stock.iloc[-1]:,.0f}", f"{summary['final_equity']:,.0f}"),
        ("return", f"{stock.iloc[-1] / start - 1:+.0%}", f"{summary['total_return']:+.1%}"),
        ("lowest equity", f"{stock.min():,.0f}", f"{result.equity['lowest_equity'].min():,.0f}"),
        ("liquidations", "-", f"{summary['liquidations']}"),
        ("lost in them", "-", f"{summary['liquidation_loss']:,.0f}"),
        ("trading fees", "-", f"{summary['fees']:,.0f}"),
        ("funding", "-", f"{summary['funding']:,.0f}"),
        ("time in market", "-", f"{summary['time_in_market']:.1%}"),
    ]
    span = result.settings["data"]
    table = Table(title=f"{start:,.0f} USDT, {span['first'][:10]} to {span['last'][:10]}", title_justify="left")
    table.add_column("")
    table.add_column("stock Backtrader claims", justify="right", style="dim")
    table.add_column("under margin", justify="right", style="bold")
    for row in rows:
        table.add_row(*row)
    return table


def _liquidations(rows: "pd.DataFrame") -> Table:
    left = len(rows) - SHOWN
    caption = f"and {left} more" if left > 0 else None
    table = Table(title=f"Liquidations ({len(rows)})", title_justify="left", caption=caption, caption_justify="left")
    for name in ("UTC", "symbol", "size", "entry", "mark", "lost", "how sure"):
        table.add_column(name, justify="left" if name in ("UTC", "symbol", "how sure") else "right", no_wrap=True)
    for row in rows.head(SHOWN).itertuples():
        table.add_row(
            f"{row.time:%Y-%m-%d %H:%M}", row.symbol, f"{row.size:g}", f"{row.entry_price:,.6g}", f"{row.mark_price:,.6g}",
            f"[red]{row.realized_pnl - row.fee:,.0f}[/red]", row.certainty,
        )  # fmt: skip
    return table
