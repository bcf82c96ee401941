"""``undying runs``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from undying._base.errors import UndyingError
from undying._base.files import write_or_say
from undying._base.text import clean
from undying.lab.recipe import one_of
from undying.lab.settings import AnyRun

if TYPE_CHECKING:
    from undying.lab.status import RunState


@dataclass(frozen=True)
class RunsCommand:
    """List the runs in a folder of 'undying compare', also while it works.

    A run is finished, diverged (its loss stopped being finite), running, interrupted (run the same command again to
    resume it), failed or damaged.
    """

    out: Annotated[Path, tyro.conf.Positional] = Path("undying-compare")
    """Folder that 'undying compare' wrote."""
    activation: tuple[str, ...] = ()
    """Only runs of these activations, named as in the comparison."""
    seed: tuple[int, ...] = ()
    """Only runs of these seeds."""
    status: tuple[str, ...] = ()
    """Only runs with these statuses."""
    filter: tuple[str, ...] = ()
    """Only runs whose config has these values, such as lr=0.01 data=digits."""
    csv: Path | None = None
    """Also write the runs to this CSV file, a row for each with its whole config."""
    json: Path | None = None
    """Also write the runs to this JSON file."""

    def __call__(self, console: Console) -> int:
        from undying.lab.status import STATUSES, planned_runs, runs_of
        from undying.lab.store import Store
        from undying.report.runs import in_common, runs_table, totals

        for status in self.status:
            one_of("status", status, STATUSES)
        wanted = [_condition(word) for word in self.filter]
        store, trouble = Store(self.out), ""
        try:
            planned = planned_runs(store)
        except UndyingError as error:
            if not (self.out / "runs").is_dir():
                raise
            planned, trouble = {}, str(error)
        every = runs_of(store, planned)
        states = [state for state in every if self._shows(state) and all(condition(state) for condition in wanted)]
        if states:
            console.print(in_common(states), style="dim", markup=False, highlight=False)
            console.print(runs_table(states))
            console.print(
                "test: the score, of an accuracy in %; silent units in %; seconds so far", style="dim", highlight=False
            )
        for state in states:
            if state.reason:
                console.print(f"{state.id[:8]}: {clean(state.reason)}", markup=False, highlight=False, soft_wrap=True)
        if trouble:
            console.print(clean(trouble), markup=False, highlight=False, soft_wrap=True)
        shown = f"; {len(states)} shown" if len(states) < len(every) else ""
        console.print(totals(every, list(planned)) + shown, highlight=False)
        self._export(states)
        return 0

    def _shows(self, state: RunState) -> bool:
        config = state.config
        return (
            (not self.status or state.status in self.status)
            and (not self.activation or (config is not None and config.activation in self.activation))
            and (not self.seed or (config is not None and config.seed in self.seed))
        )

    def _export(self, states: list[RunState]) -> None:
        from undying.report.runs import to_csv, to_json

        for path, content in ((self.csv, to_csv), (self.json, to_json)):
            if path is not None:
                write_or_say(path, content(states))


def _condition(word: str) -> Callable[[RunState], bool]:
    """Of ``field=value``: whether a run's config has it. Numbers are equal by value, several words as they are typed."""
    from undying.report.runs import CONFIG

    field, equals, value = word.partition("=")
    field = field.replace("-", "_")
    if not equals or field not in CONFIG:
        raise UndyingError(f"--filter {word!r} must be field=value; fields: {', '.join(CONFIG)}")

    def holds(config: AnyRun) -> bool:
        own = getattr(config, field)
        if isinstance(own, (int, float)):
            try:
                return math.isclose(own, float(value))
            except ValueError:
                return False
        return value == (" ".join(own) if isinstance(own, tuple) else str(own))

    return lambda state: state.config is not None and holds(state.config)
