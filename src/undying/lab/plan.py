"""A comparison as planned: its runs, and those of them that are finished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undying._base.errors import UndyingError
from undying.lab import data, models, tasks
from undying.lab.execution import Execution
from undying.lab.finished import FinishedRuns
from undying.lab.settings import AnyRun, Settings
from undying.lab.store import Store
from undying.lab.treatments import own_sources
from undying.statistics.metric import ACCURACY, Metric


@dataclass(frozen=True)
class Plan:
    """What a comparison consists of."""

    settings: Settings
    store: Store
    data: dict[str, Any]
    """What the data are, see ``Dataset.describe``."""
    model_sha256: str
    """Of the source of a network given by import path; below of a task."""
    task_sha256: str
    activations_sha256: Mapping[str, str]
    """Of those activations that are given so."""
    runs: list[AnyRun]
    """Every run of it."""
    finished: FinishedRuns
    """Those that are in the store, as read from it."""

    @property
    def metrics(self) -> list[Metric]:
        """What its runs are judged by; the first decides."""
        return [Metric(**fields) for fields in self.data.get("metrics", ())] or [ACCURACY]

    @property
    def missing(self) -> list[AnyRun]:
        """The others."""
        return [config for config in self.runs if config not in self.finished]


def plan(settings: Settings, out: Path, execution: Execution | None = None) -> Plan:
    """Look into the store in ``out``; nothing is written there. A damaged run is found now, and not after hours of training.

    Raises:
        UndyingError: the data or a finished run cannot be read.
    """
    if settings.task == tasks.RL:
        from undying.lab.runs import reinforcement  # another library's, which takes seconds to import

        described = reinforcement.describe(settings.env)
        return _planned(settings, Store(out), described, "", described["sha256"], own_sources(settings.activations))
    root = (execution or Execution()).data_root
    dataset = tasks.load(settings.task, settings.data, settings.columns, settings.image_size, root)
    model, task = models.own_source(settings.model), tasks.source_sha256(settings.task)
    described, activations = tasks.describe(settings.task, dataset), own_sources(settings.activations)
    return _planned(settings, Store(out), described, model, task, activations)


def stored(store: Store, settings: Settings) -> Plan:
    """The same of a comparison that was begun, which needs neither its data nor its network.

    Raises:
        UndyingError: there is none, or a finished run cannot be read.
    """
    described, model, task, activations = store.described()
    # A folder of an early version; those knew no data that could be elsewhere by now.
    described = described or data.load(settings.data).describe()
    return _planned(settings, store, described, model, task, activations)


def _planned(
    settings: Settings, store: Store, described: dict[str, Any], model: str, task: str, activations: Mapping[str, str]
) -> Plan:
    runs = settings.runs(described["sha256"], model, task, activations)
    found = Plan(settings, store, described, model, task, activations, runs, FinishedRuns(store, runs))
    try:
        found.metrics[0].margin_of(settings.margin)
    except ValueError as error:
        raise UndyingError(str(error)) from None
    return found
