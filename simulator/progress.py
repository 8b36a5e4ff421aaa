"""How far a long computation is, and how long it will take: on stderr, and only where someone looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

Show = Callable[[float], None]


def silent(done: float) -> None:
    """Show nothing."""


@contextmanager
def bar(what: str, total: float | None, *, wanted: bool = True) -> Iterator[Show]:
    """A function that is told how much of `total` is done (None: nobody knows of how much): a bar with the time left,
    if stderr is a terminal.
    """
    console = Console(stderr=True)
    if not (wanted and console.is_terminal):
        yield silent
        return
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)
