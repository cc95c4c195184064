"""Progress of long work as bars on standard error.

Here: the one way every command shows it. Not here: what is being done.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Bars:
    """`warehouse.work.Progress` with one bar per piece of work."""

    def __init__(self, display: Progress) -> None:
        self.display = display
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        if total == 0:
            return
        if what not in self._tasks:
            self._tasks[what] = self.display.add_task(what, total=total)
        self.display.update(self._tasks[what], completed=done, total=total)


@contextmanager
def bars(console: Console | None = None) -> Iterator[Bars]:
    """Show progress for as long as the block lasts."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console or Console(stderr=True), refresh_per_second=4) as display:
        yield Bars(display)
