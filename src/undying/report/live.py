"""The page of a comparison whose runs are still trained: written again every few seconds, without a server."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from undying._base.errors import UndyingError
from undying._base.files import write_text
from undying._base.text import known
from undying.lab.collect import analyze
from undying.lab.plan import Plan
from undying.lab.runs.lines import score
from undying.lab.settings import AnyRun
from undying.lab.status import RunState, under_way

_PLACE = "<!-- the runs as of now -->"
"""Where in a page the part stands that changes with every epoch."""
_LOOKS, _DRAWINGS = 250, 200
"""How many times as long as a look at the runs, and as drawing the figures, it takes until the next: 0.9 % of one core."""
_PAUSE = 1.0
"""Seconds between two looks at least."""
_BEAT = 20.0
"""Seconds after which a page is written again though nothing has changed."""
_PATIENCE = 5.0
"""Seconds that a sweep which is stopped waits for a drawing."""
_GUESS = 2.0
"""Seconds that drawing takes, before it is known."""


@dataclass(frozen=True)
class Arm:
    """One activation as of now."""

    name: str
    finished: int
    running: int
    planned: int
    diverged: int
    """Of the finished."""
    score: float | None
    """Mean over the finished runs; None without one, where one diverged, and where a grid mixes several settings."""


@dataclass(frozen=True)
class Progress:
    """What the page says of the runs."""

    state: str
    """``running`` or ``stopped``."""
    written: float
    """Seconds since 1970."""
    finished: int
    planned: int
    arms: list[Arm]
    under_way: list[RunState]


class LivePage:
    """Context manager that keeps ``OUT/report.html`` up to date while the missing runs of a plan are trained.

    A thread of its own looks at the store, so it shows runs of every executor. What a look and a drawing cost decides how
    long it waits for the next. Each page is whole, so one that is left behind by a sweep that was killed can be read; it says
    how old it is. If the sweep ends by an exception, the last page says that it has stopped; otherwise the report replaces it.
    """

    def __init__(self, plan: Plan) -> None:
        self.path = plan.store.out / "report.html"
        self._plan = plan
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._shell = ""
        """The page but for the runs as of now."""
        self._drawn = 0
        """Number of finished runs that its figures are of."""
        self._seen: tuple[Any, ...] = ()
        """What the page tells of the runs."""
        self._written = 0.0

    def __enter__(self) -> LivePage:
        if self._plan.missing:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._thread.ident is None:
            return
        self._stop.set()
        self._thread.join(None if kind is None else _PATIENCE)
        if kind is not None:
            with contextlib.suppress(UndyingError, OSError):
                if self._plan.store.is_of(self._plan.settings):
                    self._write(self._progress("stopped"))

    def _follow(self) -> None:
        import undying.report.write  # noqa: F401  what draws: it takes a second, and the runs have begun

        while not self._plan.store.is_of(self._plan.settings):  # who trains has not noted it yet
            if self._stop.wait(_PAUSE):
                return
        spent = _GUESS
        if self._plan.finished:  # else the page of a sweep that is resumed would be empty where its report was
            spent = self._drawn_within()
        due = time.monotonic() + _DRAWINGS * spent
        with contextlib.suppress(UndyingError, OSError):
            self._look()  # the first reads the templates, so that its time says nothing of the next
        pause = 0.0
        while not self._stop.wait(pause):
            began = time.thread_time()
            with contextlib.suppress(UndyingError, OSError):  # read in the midst of a change; the next look will tell
                self._look()
            pause = max(_PAUSE, _LOOKS * (time.thread_time() - began))
            if time.monotonic() > due and len(self._plan.finished) > self._drawn:
                due = time.monotonic() + _DRAWINGS * self._drawn_within()

    def _drawn_within(self) -> float:
        """Draw, and say how many seconds it took."""
        began = time.thread_time()
        with contextlib.suppress(Exception):  # such as no run of the baseline; the report in the end will say it
            self._draw()
        return time.thread_time() - began

    def _look(self) -> None:
        """Write the page, if there is news or it has grown old: a page of a minute says that runs may have been stopped.
        Where another comparison has begun in the folder, the page there is that one's."""
        if not self._plan.store.is_of(self._plan.settings):
            return
        progress = self._progress("running")
        seen = (len(self._plan.finished), self._drawn, *((run.id, run.epoch) for run in progress.under_way))
        if seen != self._seen or progress.written - self._written > _BEAT:
            self._write(progress)
            self._seen, self._written = seen, progress.written

    def _draw(self) -> None:
        """Everything below, of the runs that are finished."""
        from undying.report.figures import draw
        from undying.report.html import page

        finished = self._plan.finished.snapshot()
        self._drawn = len(finished)
        results = analyze(replace(self._plan, finished=finished), partial=True)
        self._shell = page(results, draw(results), live=_PLACE)

    def _progress(self, state: str) -> Progress:
        plan = self._plan
        finished = plan.finished.snapshot()
        running = under_way(plan.store, {config.id: config for config in plan.runs if config not in finished})
        trained = Counter(config.activation for config in finished)
        at = Counter(run.config.activation for run in running if run.config is not None)
        planned = Counter(config.activation for config in plan.runs)
        diverged = Counter(config.activation for config, run in finished.items() if run.status == "diverged")
        return Progress(
            state,
            time.time(),
            len(finished),
            len(plan.runs),
            [
                Arm(
                    name,
                    trained[name],
                    at[name],
                    planned[name],
                    diverged[name],
                    None if plan.settings.grid or diverged[name] else _mean(name, finished),
                )
                for name in plan.settings.activations
            ],
            running,
        )

    def _write(self, progress: Progress) -> None:
        # These draw, and take a second to import; who trains waits for nothing here.
        from undying.plots.theme import THEME
        from undying.report.html import environment

        if not self._shell:
            shell = environment().get_template("live.html.j2")
            self._shell = shell.render(plan=self._plan, theme=THEME, live=_PLACE)
        now = environment().get_template("now.html.j2")
        said = now.render(progress=progress, metric=self._plan.metrics[0])
        write_text(self.path, self._shell.replace(_PLACE, said, 1))


def _mean(name: str, finished: dict[AnyRun, Any]) -> float | None:
    values = [score(run.epochs)[1] for config, run in finished.items() if config.activation == name]
    numbers = [value for value in values if known(value)]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None
