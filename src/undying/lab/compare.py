"""The main job: train what is not trained yet, then collect."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from undying.lab import data
from undying.lab.collect import collect
from undying.lab.executors import run_in_processes
from undying.lab.results import Results
from undying.lab.settings import RunConfig, Settings
from undying.lab.store import Run, Store
from undying.lab.training import train


@dataclass(frozen=True)
class Plan:
    """What a comparison still has to do."""

    runs: list[RunConfig]
    """Every run of it."""
    missing: list[RunConfig]
    """Those that are not in the store."""
    finished: list[Run]
    """The others, as read from it."""


def plan(settings: Settings, out: Path) -> Plan:
    """Look into the store; nothing is written.

    Raises:
        UndyingError: a finished run cannot be read.
    """
    store = Store(out)
    runs = settings.runs(data.load(settings.data).sha256)
    # Read here, so that a damaged run is found now and not after hours of training.
    finished = {config: store.read(config) for config in runs if store.finished(config)}
    return Plan(runs, [config for config in runs if config not in finished], list(finished.values()))


def compare(
    settings: Settings, out: Path, workers: int, finished: Callable[[RunConfig], None] = lambda _: None
) -> Results:
    """Train every missing run of ``settings`` in ``out`` and return the results of all.

    Raises:
        UndyingError: the folder cannot be written or holds something unreadable, or a worker was killed.
    """
    store = Store(out)
    missing = plan(settings, out).missing
    store.prepare(settings)
    run_in_processes(missing, out, workers, finished)
    return collect(store, settings)


def estimate_seconds(the_plan: Plan, workers: int) -> float:
    """Expected wall-clock seconds of the missing runs: from finished ones, or from two epochs timed here."""
    if not the_plan.missing:
        return 0.0
    if the_plan.finished:
        per_run = sum(run.seconds for run in the_plan.finished) / len(the_plan.finished)
    else:
        config = the_plan.missing[0]
        *_, last = itertools.islice(train(config), 3)  # the first two warm up
        per_run = last.metrics["seconds"] * (config.epochs + 1)
    return per_run * len(the_plan.missing) / min(workers, len(the_plan.missing))
