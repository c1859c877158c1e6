"""How far something is, on a terminal; nothing anywhere else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def shown() -> Iterator[Callable[[str, float | None], None]]:
    """Show on a terminal what is being done and, where a share of it is known, how long the rest will take."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    terms: dict[str, Any] = {"transient": True, "disable": not console.is_terminal, "redirect_stderr": False}
    with Progress(*columns, console=console, redirect_stdout=sys.stdout.isatty(), **terms) as bars:
        tasks: dict[str, TaskID] = {}

        def tell(stage: str, share: float | None) -> None:
            if stage not in tasks:
                for task in tasks.values():
                    bars.remove_task(task)
                tasks.clear()
                tasks[stage] = bars.add_task(stage, total=None if share is None else 1.0)
            bars.update(tasks[stage], completed=share)

        yield tell
