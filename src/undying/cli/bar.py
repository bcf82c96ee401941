"""A bar in the terminal, of one thing that takes long. It imports little, since a command that asks for help has it too."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from undying.cli.console import SafeConsole


@contextlib.contextmanager
def bar(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A line on stderr with a bar and the time left, where that is a terminal; nothing elsewhere.

    Yields:
        what is called with the number of steps that are done and of all there are; None where that is not known.
    """
    columns = (TextColumn("{task.description}", markup=False), BarColumn(20), MofNCompleteColumn())
    console = SafeConsole(file=sys.stderr)
    times = (TimeElapsedColumn(), TextColumn("elapsed,"), TimeRemainingColumn(), TextColumn("left"))
    with Progress(*columns, *times, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, every: progress.update(task, completed=done, total=every)


def followed(batches: Iterable[Any], length: int | None, done: Callable[[int, int | None], None]) -> Iterator[Any]:
    """The batches; ``done`` is told after each how many there were, of how many."""
    for number, batch in enumerate(batches, 1):
        yield batch
        done(number, length)
