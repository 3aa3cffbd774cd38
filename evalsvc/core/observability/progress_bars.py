"""Progress bars in terminals and notebooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from evalsvc.core.errors import one_line


class Bars:
    """One bar for the checkpoints, and one for each stage of the current checkpoint."""

    def __init__(self, progress: Progress, written: Callable[[str], str] = one_line) -> None:
        self._progress, self._written = progress, written
        self._tasks: dict[str, TaskID] = {}

    def stage(self, name: str, total: int) -> Callable[[int], None]:
        """Show a bar for this stage and return the function that advances it; the same name restarts its bar."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(self._written(name), total=total)
        task = self._tasks[name]
        self._progress.reset(task, total=total)
        return lambda done: self._progress.advance(task, done)


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "")


@contextmanager
def progress_bars(console: Console, written: Callable[[str], str] = one_line) -> Iterator[Bars]:
    """Bars that are removed at the end; names of stages are shown as ``written`` returns them."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bars(progress, written)
