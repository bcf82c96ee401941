"""A table in the terminal of the runs that are being trained."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from undying._base.errors import UndyingError
from undying._base.text import clean
from undying.integrations.rich import names_and_numbers
from undying.lab.settings import AnyRun
from undying.lab.status import RunState, run_state, under_way
from undying.lab.store import Store
from undying.report.runs import scored


class RunsTable:
    """Context manager that shows the runs that are being trained, by whichever executor: a bar, the time left and a row
    each, read from the store once a second. Where the output is no terminal, nothing.

    Args:
        store: where the runs are.
        missing: those that are to be trained.
        console: the output.
        rows: most runs to show.
    """

    def __init__(self, store: Store, missing: Sequence[AnyRun], console: Console, rows: int = 20) -> None:
        self._store, self.rows = store, rows
        self._open = {config.id: config for config in missing}
        # What interrupted runs have behind them took no time here.
        self._before = {run_id: _part(run_state(store, run_id, config)) for run_id, config in self._open.items()}
        self._began = time.monotonic()
        self._running: list[RunState] = []
        self._live = Live(get_renderable=self.render, console=console, refresh_per_second=1, transient=True)
        self._shown = console.is_terminal and bool(missing)

    def __enter__(self) -> RunsTable:
        if self._shown:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._live.stop()

    def finished(self, config: AnyRun) -> None:
        """Count a run as finished."""
        self._open.pop(config.id, None)

    def render(self) -> RenderableType:
        """The bar and the table as of now."""
        with contextlib.suppress(UndyingError, OSError):  # read in the midst of a change; the next look will tell
            self._running = under_way(self._store, dict(self._open))  # a copy: this is another thread
        line = Table.grid(padding=(0, 1, 0, 0))
        parts = {state.id: _part(state) for state in self._running}
        total, done = len(self._before), len(self._before) - len(self._open)
        bar = ProgressBar(total, done + sum(parts.values()), width=20)
        elapsed = time.monotonic() - self._began
        line.add_row(
            bar,
            f"{done}/{total} runs,",
            f"{_clock(elapsed)} elapsed,",
            f"{_clock(self._left(elapsed, parts))} left",
        )
        return Group(line, self._table()) if self._running else line

    def _left(self, elapsed: float, parts: dict[str, float]) -> float | None:
        """Seconds, if it goes on as it went here; None before anything is done."""
        now = {
            run_id: parts.get(run_id, part) if run_id in self._open else 1.0 for run_id, part in self._before.items()
        }
        done_here = sum(max(0.0, now[run_id] - part) for run_id, part in self._before.items())
        return elapsed * sum(1 - part for part in now.values()) / done_here if done_here else None

    def _table(self) -> Table:
        table = names_and_numbers("", "activation", ("seed", "epoch", "test"))
        for state in self._running[: self.rows]:
            assert state.config is not None
            epoch = f"{state.epoch or 0}/{state.config.epochs}"
            table.add_row(Text(clean(state.config.activation)), str(state.config.seed), epoch, scored(state))
        if len(self._running) > self.rows:
            table.caption = f"{self.rows} of {len(self._running)} runs"
        return table


def _part(state: RunState | None) -> float:
    """How much of a run is done, from 0 to 1: measuring before training counts for nothing."""
    return (state.epoch or 0) / state.config.epochs if state is not None and state.config is not None else 0.0


def _clock(seconds: float | None) -> str:
    """
    >>> _clock(75), _clock(3675), _clock(None)
    ('1:15', '1:01:15', '-')
    """
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
