"""A comparison as planned: its runs, and those of them that are finished."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undying.lab import data, models
from undying.lab.execution import Execution
from undying.lab.finished import FinishedRuns
from undying.lab.settings import RunConfig, Settings
from undying.lab.store import Store


@dataclass(frozen=True)
class Plan:
    """What a comparison consists of."""

    settings: Settings
    store: Store
    data: dict[str, Any]
    """What the data are, see ``Dataset.describe``."""
    model_sha256: str
    """Of the source of a network given by import path."""
    runs: list[RunConfig]
    """Every run of it."""
    finished: FinishedRuns
    """Those that are in the store, as read from it."""

    @property
    def missing(self) -> list[RunConfig]:
        """The others."""
        return [config for config in self.runs if config not in self.finished]


def plan(settings: Settings, out: Path, execution: Execution | None = None) -> Plan:
    """Look into the store in ``out``; nothing is written there. A damaged run is found now, and not after hours of training.

    Raises:
        UndyingError: the data or a finished run cannot be read.
    """
    dataset = data.load(settings.data, settings.image_size, (execution or Execution()).data_root)
    return _planned(settings, Store(out), dataset.describe(), models.own_source(settings.model))


def stored(store: Store, settings: Settings) -> Plan:
    """The same of a comparison that was begun, which needs neither its data nor its network.

    Raises:
        UndyingError: there is none, or a finished run cannot be read.
    """
    described, model_sha256 = store.described()
    # A folder of an early version; those knew no data that could be elsewhere by now.
    return _planned(settings, store, described or data.load(settings.data).describe(), model_sha256)


def _planned(settings: Settings, store: Store, described: dict[str, Any], model_sha256: str) -> Plan:
    runs = settings.runs(described["sha256"], model_sha256)
    return Plan(settings, store, described, model_sha256, runs, FinishedRuns(store, runs))
