"""The main job: train what is not trained yet, then collect."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undying.lab import data, executors, models
from undying.lab.collect import collect
from undying.lab.execution import Execution
from undying.lab.results import Results
from undying.lab.runs.classification import train
from undying.lab.runs.kind import Run
from undying.lab.settings import AnyRun, RunConfig, Settings
from undying.lab.store import Store
from undying.lab.tracking import Trackers


@dataclass(frozen=True)
class Plan:
    """What a comparison still has to do."""

    runs: list[RunConfig]
    """Every run of it."""
    missing: list[RunConfig]
    """Those that are not in the store."""
    finished: list[Run]
    """The others, as read from it."""
    data: dict[str, Any]
    """What the data are, see ``Dataset.describe``."""
    model_sha256: str
    """Of the source of a network given by import path."""


def plan(settings: Settings, out: Path, execution: Execution | None = None) -> Plan:
    """Look into the store; nothing is written there.

    Raises:
        UndyingError: the data or a finished run cannot be read.
    """
    store = Store(out)
    dataset = data.load(settings.data, settings.image_size, (execution or Execution()).data_root)
    model_sha256 = models.own_source(settings.model)
    runs = settings.runs(dataset.sha256, model_sha256)
    # Read here, so that a damaged run is found now and not after hours of training.
    finished = {config: store.read(config) for config in runs if store.finished(config)}
    missing = [config for config in runs if config not in finished]
    return Plan(runs, missing, list(finished.values()), dataset.describe(), model_sha256)


def compare(
    settings: Settings,
    out: str | Path,
    execution: Execution | None = None,
    finished: Callable[[AnyRun], None] = lambda _: None,
) -> Results:
    """Train every missing run of ``settings`` and return the results of all.

    Args:
        settings: what to compare.
        out: folder for the runs; those that are in it and finished are used.
        execution: how to run it; default: processes of this machine, one a core.
        finished: called after each run.

    Runs are processes of their own: a script that calls this needs ``if __name__ == "__main__":``.

    Raises:
        RunsFailedError: runs failed; the others are finished.
        UndyingError: the data, the network, the folder or a tracker cannot be used.
    """
    execution = execution or Execution()
    store = Store(Path(out))
    todo = plan(settings, store.out, execution)
    trackers = Trackers(store, execution)
    store.prepare(settings, todo.data, todo.model_sha256)
    for run in todo.finished:
        trackers.track(run.config)

    def done(config: AnyRun) -> None:
        finished(config)
        trackers.track(config)

    executors.run(todo.missing, store.out, execution, done)
    trackers.check()
    return collect(store, settings)


def estimate_seconds(the_plan: Plan, execution: Execution) -> float:
    """Expected wall-clock seconds of the missing runs: from finished ones, or from two epochs timed here."""
    if not the_plan.missing:
        return 0.0
    if the_plan.finished:
        per_run = sum(run.seconds for run in the_plan.finished) / len(the_plan.finished)
    else:
        config = the_plan.missing[0]
        *_, last = itertools.islice(train(config, execution), 3)  # the first two warm up
        per_run = last.metrics["seconds"] * (config.epochs + 1)
    return per_run * len(the_plan.missing) / min(execution.slots, len(the_plan.missing))
