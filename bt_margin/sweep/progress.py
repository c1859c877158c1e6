"""A bar on the terminal that tells how far a sweep is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(words: str = "running") -> Iterator[Callable[[int, int, float | None], None]]:
    """Give what ``Sweep.run`` takes as ``progress``: a bar with the time left, on stderr, and none where that is no terminal."""
    from datetime import timedelta

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal, redirect_stderr=False) as shown:
        task = shown.add_task(words, total=None, left="")

        def tell(done: int, total: int, seconds_left: float | None) -> None:
            left = "" if seconds_left is None else f"left {timedelta(seconds=round(seconds_left))}"
            shown.update(task, completed=done, total=total, left=left)

        yield tell
