"""Progress for people: one bar on a terminal, a line per stage everywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


@contextmanager
def showing_progress(console: Console) -> Iterator[Callable[[str, float], None]]:
    """A function that is told a stage and how much of it is done (0 to 1)."""
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (TextColumn("{task.description:<24}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=1.0)

        def show(stage: str, done: float) -> None:
            bars.update(task, description=stage, completed=done)

        yield show


def _lines(console: Console) -> Callable[[str, float], None]:
    last: str | None = None

    def show(stage: str, done: float) -> None:  # noqa: ARG001 - a line has no length
        nonlocal last
        if stage != last:
            last = stage
            console.print(stage, highlight=False)

    return show
