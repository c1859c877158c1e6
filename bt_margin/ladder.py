"""The command ``bt-margin ladder``: a scaling scheme before the trade, rung by rung."""

import json
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from .loading import fraction, scaler_from
from .result import plain
from .scalers import LadderTable, MarginTopUp, ladder_table
from .scalers.table import COLUMNS
from .terminal import console


def register(app: typer.Typer) -> None:
    """Add the command to a command line."""
    app.command()(ladder)


def ladder(
    scaler: Annotated[str, typer.Argument(help="Rectangle, Funnel, Pyramid:shares=0.5/0.3/0.2, Turtle, SafetyOrders, GridMartingale ...")],
    side: Annotated[str, typer.Option(help="long or short.")],
    entry: Annotated[float, typer.Option(help="Entry price.")],
    size: Annotated[float, typer.Option(help="What would be ordered without the ladder, in contracts.")],
    wallet: Annotated[float, typer.Option(help="All the money of the account.")],
    leverage: Annotated[float, typer.Option(help="Chosen leverage.")] = 1.0,
    margin_mode: Annotated[str, typer.Option(help="cross or isolated.")] = "cross",
    venue: Annotated[str, typer.Option(help="Whose tiers, fees and lots; 'generic' takes any symbol.")] = "binance",
    symbol: Annotated[str, typer.Option(help="As the venue spells it.")] = "BTCUSDT",
    atr: Annotated[float | None, typer.Option(help="Average true range, for schemes that space their rungs by it.")] = None,
    maintenance_rate: Annotated[
        float | None, typer.Option(parser=fraction, metavar="RATE", help="One flat rate instead of the venue's tiers.")
    ] = None,
    date: Annotated[str | None, typer.Option(help="The venue's tables of a day, 2024-05-01; the newest unless given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print a ladder before the trade: size, price, average entry, liquidation price and margin of each rung."""
    scheme = scaler_from(scaler)
    if isinstance(scheme, MarginTopUp):
        raise ValueError("MarginTopUp has no rungs; it is for --scaler of a run")
    table = ladder_table(
        scheme,
        side=side.lower(),
        entry_price=entry,
        size=size,
        wallet=wallet,
        leverage=leverage,
        margin_mode=margin_mode.lower(),
        venue=venue.lower(),
        symbol=symbol,
        tiers=maintenance_rate,
        date=date,
        atr=atr,
    )
    if as_json:
        rungs = [row._asdict() for row in table.rows]
        typer.echo(json.dumps(plain({"heading": table.heading, "rungs": rungs}), indent=2, allow_nan=False))
        return
    tell(table)


def tell(table: LadderTable) -> None:
    """Print a ladder and a sentence for each rung that is not placed."""
    printed = console()
    printed.print(rich_table(table))
    for sentence in table.refusals:
        printed.print(sentence, highlight=False, markup=False, soft_wrap=True)


class FirstLadder:
    """Prints the first ladder that a run orders, before it is sent, and keeps quiet about all that follow."""

    def __init__(self) -> None:
        self.is_told = False

    def __call__(self, table: LadderTable) -> None:
        if not self.is_told:
            self.is_told = True
            tell(table)
            console().print()


def rich_table(table: LadderTable) -> Table:
    """Return a ladder for a terminal; a rung that is refused is dim."""
    shown = Table(title=table.heading, title_justify="left", box=box.SIMPLE_HEAD)  # whose lines leave room for the figures
    for name in COLUMNS:
        shown.add_column(name, justify="right", overflow="fold")
    for row, cells in zip(table.rows, table.cells(), strict=True):
        shown.add_row(*cells, style="dim" if row.refused else None)
    return shown
