"""Finished runs in TensorBoard and Weights & Biases: each once, however often the command is given."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undying._base.errors import UndyingError
from undying._base.extras import need
from undying._base.files import write_text
from undying.lab import data
from undying.lab.execution import Execution
from undying.lab.runs.kind import Run
from undying.lab.runs.lines import share
from undying.lab.settings import AnyRun
from undying.lab.store import Store

_METRICS = ("train_loss", "train_accuracy", "gradient_norm", "update_norm", "sparsity", "train_seconds", "seconds")
_SCORED = ("test_", "validation_")


@dataclass(frozen=True)
class EpochScalars:
    """A line of metrics.jsonl as the sinks of ``undying.integrations`` take it."""

    line: dict[str, Any]

    @property
    def step(self) -> int:
        return int(self.line["epoch"])

    def scalars(self) -> dict[str, float]:
        """What is known of the epoch, by name; shares are of units."""
        values = {name: value for name, value in self.line.items() if name in _METRICS or name.startswith(_SCORED)}
        values |= {state: share(self.line, state) for state in ("silent", "dead", "dormant")}
        for site in self.line.get("sites", ()):
            for state in ("silent", "dead", "dormant"):
                if site[state] is not None:
                    values[f"{state}_at/{site['name']}"] = site[state] / site["units"]
        return {name: value for name, value in values.items() if value is not None}


class Trackers:
    """What ``execution`` asks for, besides the store.

    Raises:
        UndyingError: a package for it is missing.
    """

    def __init__(self, store: Store, execution: Execution) -> None:
        self._targets: list[Callable[[Run], None]] = []
        self._trouble = ""
        if execution.tensorboard is not None:
            need("tensorboard", None, "--tensorboard")
            folder = execution.tensorboard
            self._targets.append(lambda run: to_tensorboard(run, folder))
        if execution.wandb:
            need("wandb", None, "--wandb")
            project = execution.wandb
            self._targets.append(lambda run: to_wandb(run, project, store))

    def track(self, run: Run) -> None:
        """Hand a finished run on. What goes wrong there must not stop the others' training: ``check`` tells."""
        for target in self._targets:
            try:
                target(run)
            except Exception as error:  # of libraries that talk to servers
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                self._trouble = self._trouble or f"{run.config.activation}, seed {run.config.seed}: {reason}"

    def check(self) -> None:
        """
        Raises:
            UndyingError: something went wrong with a run.
        """
        if self._trouble:
            raise UndyingError(
                f"all runs are finished, but not all could be handed to --tensorboard or --wandb; {self._trouble}; "
                "run the same command again to hand on the rest"
            )


def group(config: AnyRun) -> str:
    """A name for what runs that differ in activation and seed only have in common."""
    shared = {name: value for name, value in config.to_dict().items() if name not in ("activation", "seed", "data")}
    digest = hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:8]
    return _file_name(f"{data.identity(config.data)}-{config.model}-{digest}")


def to_tensorboard(run: Run, folder: Path) -> None:
    """Write ``run`` to ``folder/GROUP/ACTIVATION-seedN-ID``, unless that is there. It appears whole, by rename."""
    from undying.integrations.tensorboard import TensorBoard

    config = run.config
    place = folder / group(config) / _file_name(f"{config.activation}-seed{config.seed}-{config.id}")
    if place.exists():
        return
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)  # of a process that had this number and was killed
    try:
        sink = TensorBoard(beside)
        for line in run.epochs:
            sink.write(EpochScalars(line))
        sink.close()
        if not place.exists():
            beside.rename(place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def to_wandb(run: Run, project: str, store: Store) -> None:
    """Log ``run`` to ``project`` as a run with its own id, unless the store has a note that it was logged there."""
    import wandb

    from undying.integrations.wandb import WandB

    config = run.config
    note = store.out / "runs" / config.id / "wandb.json"
    projects: list[str] = json.loads(note.read_text(encoding="utf-8"))["projects"] if note.exists() else []
    if project in projects:
        return
    with wandb.init(
        project=project,
        id=config.id,
        name=f"{config.activation} seed {config.seed} {config.id}",
        group=group(config),
        config={**config.to_dict(), "status": run.status, "environment": run.environment},
        resume="allow",
        reinit="create_new",  # a run of the caller's own stays open
    ) as logged:
        sink = WandB(logged)
        for line in run.epochs:
            sink.write(EpochScalars(line))
    write_text(note, json.dumps({"format": 1, "projects": [*projects, project]}) + "\n")


def _file_name(text: str) -> str:
    """
    >>> _file_name("mine:net/a=0.1 b")
    'mine-net-a=0.1-b'
    """
    return re.sub(r"[^\w.=,+-]", "-", text)
