"""The runs of a store in whatever state they are: finished, under way, failed, left behind, damaged. Nothing is written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undying._base.errors import UndyingError
from undying._base.lock import locked
from undying.lab.runs.lines import check_lines, last_counted, score, share
from undying.lab.settings import AnyRun
from undying.lab.store import Store, read_text

STATUSES = ("finished", "diverged", "running", "interrupted", "failed", "damaged")


@dataclass(frozen=True)
class RunState:
    """One run as it is now."""

    id: str
    status: str
    """One of ``STATUSES``."""
    config: AnyRun | None
    """None where it cannot be read."""
    epochs: list[dict[str, Any]]
    """The lines of metrics.jsonl that are there; the first is before training."""
    reason: str = ""
    """Why it failed, or what is damaged."""

    @property
    def epoch(self) -> int | None:
        """The last epoch that is done, 0 before training; None where there is none."""
        return self.epochs[-1]["epoch"] if self.epochs else None

    @property
    def metric(self) -> str:
        """The one that decides."""
        return score(self.epochs)[0]

    @property
    def score(self) -> float | None:
        """Its value on the test data when it was measured last, an accuracy in [0, 1]; None where it was not finite."""
        return score(self.epochs)[1]

    @property
    def silent(self) -> float | None:
        """Share of silent units when they were counted last; None where that is unknown."""
        return share(last_counted(self.epochs), "silent")

    @property
    def seconds(self) -> float | None:
        """That training and measuring took so far."""
        return sum(epoch["seconds"] for epoch in self.epochs) if self.epochs else None


def runs_of(store: Store, planned: dict[str, AnyRun]) -> list[RunState]:
    """Every run that was begun in the store, also of earlier comparisons.

    Args:
        store: the store.
        planned: what :func:`planned_runs` gives of it; these come first, in their order.
    """
    folder = store.out / "runs"
    begun = _begun(folder)
    own = [run_state(store, run_id, config) for run_id, config in planned.items() if run_id in begun]
    others = [run_state(store, run_id) for run_id in sorted(begun - planned.keys())]
    return [state for state in (*own, *sorted(others, key=_place)) if state is not None]


def planned_runs(store: Store) -> dict[str, AnyRun]:
    """The runs of the latest comparison by id; none in a folder of an early version, which does not say what the data are.

    Raises:
        UndyingError: there is no comparison, or its sweep.json cannot be read.
    """
    settings = store.settings()
    described, model, task, activations = store.described()
    if described is None:
        return {}
    return {config.id: config for config in settings.runs(described["sha256"], model, task, activations)}


def run_state(store: Store, run_id: str, planned: AnyRun | None = None) -> RunState | None:
    """The run in folder ``run_id``; None if nothing of it was written yet."""
    folder, config = store.out / "runs" / run_id, planned
    try:
        if (folder / "config.json").exists():
            config = store.config(run_id)
        if config is None:
            raise UndyingError(f"{folder / 'config.json'} is missing")
        if store.finished(config):
            run = store.read(config)
            return RunState(run_id, run.status, config, run.epochs)
        epochs = _so_far(folder)
        if locked(folder):
            return RunState(run_id, "running", config, epochs)
        if store.finished(config):  # it was, a moment ago
            return run_state(store, run_id, planned)
        if store.has_failed(config):
            _, error = store.failure(config)
            return RunState(run_id, "failed", config, epochs, error.strip().rpartition("\n")[2])
    except (UndyingError, OSError) as error:
        return RunState(run_id, "damaged", config, [], str(error))
    return RunState(run_id, "interrupted", config, epochs) if any(folder.glob("[!.]*")) else None


def under_way(store: Store, configs: Mapping[str, AnyRun]) -> list[RunState]:
    """Those of ``configs``, by id, that a process is at right now."""
    folder = store.out / "runs"
    begun = _begun(folder)
    return [
        RunState(run_id, "running", config, _so_far(folder / run_id))
        for run_id, config in configs.items()
        if run_id in begun and locked(folder / run_id) and not (folder / run_id / "result.json").exists()
    ]


def others_under_way(store: Store, configs: Iterable[AnyRun]) -> int:
    """How many runs that are none of ``configs`` a process is at right now: those of another comparison in this folder."""
    folder = store.out / "runs"
    others = (folder / run_id for run_id in _begun(folder) - {config.id for config in configs})
    return sum(not (run / "result.json").exists() and locked(run) for run in others)


def _begun(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set()


def _place(state: RunState | None) -> tuple[str, str, str, int]:
    config = state.config if state else None
    return (config.data, config.model, config.activation, config.seed) if config else ("", "", "", 0)


def _so_far(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that may be written to this moment."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    try:
        epochs = [json.loads(line) for line in read_text(path).split("\n")[:-1]]
        check_lines(epochs)
    except (ValueError, RecursionError) as error:
        raise UndyingError(f"{path} cannot be read: {error}") from None
    return epochs
