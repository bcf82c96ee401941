"""Tasks by name, and one's own by import path: what is learned from which data, and what it is judged by."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from undying._base import imports
from undying._base.errors import UndyingError
from undying.lab import data
from undying.lab.checkpoints import random_state, restore_random, seed_everything
from undying.lab.data.dataset import Dataset
from undying.lab.data.imported import read_pairs
from undying.lab.tasks.builtin import Classification, MultiLabel, Regression
from undying.lab.tasks.task import Task
from undying.statistics.metric import Metric, clash

__all__ = [
    "RL",
    "TASKS",
    "Classification",
    "Task",
    "build_task",
    "describe",
    "is_own",
    "known",
    "load",
    "measured",
    "metrics_of",
    "probe_of",
    "scalar",
    "source_sha256",
]

TASKS: dict[str, tuple[str, Callable[[Dataset], Task]]] = {
    "classification": ("classes", Classification),
    "regression": ("values", Regression),
    "multilabel": ("labels", MultiLabel),
}
"""By name: the targets that its data have (see ``Dataset.targets``), and the task for them."""

_TAKEN = ("loss", "accuracy", "silent", "dead", "dormant", "sparsity", "recycled", "seconds", "seed", "activation")
"""Names that the report gives to something else."""


RL = "rl"
"""The task that has an environment in the place of data, see ``undying.lab.runs.reinforcement``."""


def known(spec: str) -> None:
    """Raises UndyingError unless ``spec`` is one of ``TASKS``, ``RL`` or an import path; nothing is imported."""
    if spec not in (*TASKS, RL) and not all(spec.partition(":")):
        raise UndyingError(f"unknown --task {spec!r}; known: {', '.join(TASKS)}, {RL}, package.module:Class")


def is_own(spec: str) -> bool:
    """Whether it is one of the user's."""
    return spec not in (*TASKS, RL)


def source_sha256(spec: str) -> str:
    """Hash of the file of a task of the user's own; empty for the others."""
    return imports.source_sha256(spec, "task") if is_own(spec) else ""


def load(spec: str, of: str, columns: tuple[str, ...] = (), image_size: int = 0, root: Path | None = None) -> Dataset:
    """The data of a task: those that ``--data`` names, ``of``, or the task's own.

    Raises:
        UndyingError: they cannot be read, or are not such as the task learns.
    """
    if is_own(spec):
        return _own_data(spec)
    targets, _ = TASKS[spec]
    return data.load(of, image_size, root, targets=targets, columns=columns)


def build_task(spec: str, dataset: Dataset) -> Task:
    """The task, for ``dataset``."""
    return _own(spec) if is_own(spec) else TASKS[spec][1](dataset)


def probe_of(spec: str) -> tuple[Tensor, Tensor] | None:
    """The samples on which a task of the user's own has units counted; None: the training samples."""
    given = getattr(_own(spec), "probe", None) if is_own(spec) else None
    probe = imports.ask(spec, "task", given) if given is not None else None
    return None if probe is None else _tensors(probe, f"task {spec!r}, probe")


def describe(spec: str, dataset: Dataset) -> dict[str, Any]:
    """What is recorded of a task's data, plain: beside a classification's also what it is judged by.

    Raises:
        UndyingError: that is nothing that a comparison can use.
    """
    metrics = metrics_of(build_task(spec, dataset), spec)
    named = {} if spec == "classification" else {"metrics": [metric.to_dict() for metric in metrics]}
    probe = probe_of(spec)
    return {**dataset.describe(), **named, **({} if probe is None else {"probe": len(probe[0])})}


def scalar(loss: Any) -> Tensor:
    """A loss, if it is one.

    Raises:
        UndyingError: it is no tensor of one number.
    """
    if isinstance(loss, Tensor) and loss.dim() == 0:
        return loss
    given = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)[:80]
    raise UndyingError(f"the task's loss gives {given}; it must be a tensor of one number, the mean over the samples")


def measured(metric: Metric, outputs: Tensor, targets: Tensor, finite: bool) -> float:
    """What a metric says of copies, which it may change.

    Args:
        metric: with its function.
        outputs: of all samples.
        targets: likewise.
        finite: whether the loss is, so that the metric must be.

    Raises:
        UndyingError: it is no number, or not such a one as the metric says.
    """
    assert metric.function is not None
    value = metric.function(outputs.clone(), targets.clone())
    single = value.item() if getattr(value, "size", None) is not None and _length(value) == 1 else value
    if not isinstance(single, (bool, int, float)):
        given = f"a {type(value).__name__}" + (f" of {_length(value)} numbers" if _length(value) > 1 else "")
        raise UndyingError(
            f"metric {metric.name!r} gives {given}; it must be one real number of all outputs and targets"
        )
    number = float(single)
    if finite and not math.isfinite(number):
        raise UndyingError(
            f"metric {metric.name!r} is {number} on {len(targets)} samples, where the loss is finite; a metric must be a "
            "finite number for every finite output"
        )
    if metric.share and math.isfinite(number) and not -1e-9 <= number <= 1 + 1e-9:
        raise UndyingError(f"metric {metric.name!r} is {number:g}; with share=True it must lie in [0, 1]")
    return number


def _length(value: Any) -> int:
    """Numbers in a tensor or an array; 0 for what is neither."""
    size = value.numel() if isinstance(value, Tensor) else getattr(value, "size", 0)
    return size if isinstance(size, int) else 0


def metrics_of(task: Task, what: str) -> list[Metric]:
    """What it is judged by.

    Raises:
        UndyingError: it is nothing that a comparison can use.
    """
    metrics = list(imports.ask(what, "task", task.metrics))
    wrong = next((m for m in metrics if not isinstance(m, Metric) or m.function is None), None)
    if not metrics or wrong is not None:
        raise UndyingError(
            f"task {what!r}: metrics() must give one Metric or more, each with its function, not {wrong or metrics!r}"
        )
    names = [metric.name for metric in metrics]
    for metric in metrics:
        taken = metric.name in _TAKEN or metric.name.startswith(("train_", "test_", "validation_"))
        if names.count(metric.name) > 1 or (taken and not isinstance(task, Classification)):
            raise UndyingError(f"task {what!r}: a metric cannot be called {metric.name!r}, which is taken")
        if metric.higher_is_better is None:
            raise UndyingError(f"task {what!r}: metric {metric.name!r} needs higher_is_better=True or False")
    if both := clash(names):
        raise UndyingError(
            f"task {what!r}: metrics {both[0]!r} and {both[1]!r} would have a column in common; rename one"
        )
    return metrics


@cache
def _own(spec: str) -> Task:
    """Made once a process.

    Raises:
        UndyingError: it is not there, or lacks a method.
    """
    task = imports.call(spec, "task")
    lacking = [name for name in ("data", "loss", "metrics") if not callable(getattr(task, name, None))]
    if lacking:
        raise UndyingError(
            f"task {spec!r} is a {type(task).__name__} without {' and '.join(lacking)}; see undying.lab.Task"
        )
    metrics_of(task, spec)
    return task  # type: ignore[no-any-return]


@cache
def _own_data(spec: str) -> Dataset:
    state = random_state()
    seed_everything(0)
    try:
        given = imports.ask(spec, "task", _own(spec).data)
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise UndyingError(f"task {spec!r}: data() gives a {type(given).__name__}, not (train, test)")
        (x_train, y_train), (x_test, y_test) = (
            _tensors(source, f"task {spec!r}, {part}") for source, part in zip(given, ("train", "test"), strict=True)
        )
    finally:
        restore_random(state)
    outputs = getattr(_own(spec), "outputs", None) or _outputs(y_train, y_test)
    return Dataset(spec, x_train, y_train, x_test, y_test, int(outputs), targets="own").checked()


def _tensors(source: Any, what: str) -> tuple[Tensor, Tensor]:
    if isinstance(source, (tuple, list)) and len(source) == 2:
        x, y = (torch.as_tensor(part) for part in source)
        return x, y
    return read_pairs(source, what)


def _outputs(*targets: Tensor) -> int:
    """What a network by name gives a sample: a score a class for whole numbers, else as many numbers as a target has."""
    if any(y.is_floating_point() or y.dtype == torch.bool for y in targets):
        return targets[0][0].numel() if len(targets[0]) else 1
    return max(int(y.max()) for y in targets if y.numel()) + 1
