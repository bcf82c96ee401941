"""What a finished run says, and which learning rate an arm chooses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from undying.lab.runs.kind import Run, kind_of
from undying.lab.runs.lines import last_counted, or_nan, share
from undying.lab.settings import AnyRun
from undying.papers.plan import Plan, Planned


@dataclass(frozen=True)
class RunResult:
    """One finished run, after its last epoch. Shares are in [0, 1]."""

    planned: Planned
    id: str
    status: str
    """``"finished"`` or ``"diverged"``."""
    accuracy: float
    """On the test data; that of guessing if the run diverged."""
    validation: float
    """The same on what was held out."""
    silent: float
    """Of all units, NaN where unknown; of a diverged run, at the last epoch at which they could be counted."""
    dead: float
    sparsity: float
    seconds: float
    weights: str
    """Hash of the trained network."""
    environment: Mapping[str, str]
    gradient: float = math.nan
    """Natural logarithm of the gradient's norm, mean over the epochs in which it was finite; NaN if it never was."""
    update: float = math.nan
    """The same of a step's change of the weights."""
    curvature: float = math.nan
    """Natural logarithm of the loss's largest curvature; NaN where that is unknown or below 0."""
    values: Mapping[str, float] = field(default_factory=dict)
    """What its kind of run measures beside, by metric; NaN where it is not known."""
    curves: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    """Of its kind of run, by metric, over ``over``."""
    epochs: Sequence[Mapping[str, Any]] = field(default=(), compare=False, repr=False)
    """The lines of metrics.jsonl, the first of before training; none of a run on record."""

    def of(self, metric: str) -> float:
        """One of ``METRICS``."""
        value: float = self.values[metric] if metric in self.values else getattr(self, metric)
        return value


def run_results(plan: Plan, runs: Mapping[AnyRun, Run]) -> tuple[RunResult, ...]:
    """Of every run of ``plan`` that is among ``runs``, in its order."""
    chances = {
        task.name: 1 / plan.datasets[task.data].classes for task in plan.scale.tasks if task.data in plan.datasets
    }
    return tuple(
        run_result(planned, runs[planned.config], chances.get(planned.task, 0))
        for planned in plan.runs
        if planned.config in runs
    )


def run_result(planned: Planned, run: Run, chance: float) -> RunResult:
    """What ``run`` says; ``chance`` is the accuracy of guessing on its data, see ``Kind.values``."""
    kind, counted = kind_of(planned.config), last_counted(run.epochs)
    values = kind.values(planned.config, run.epochs, chance)
    return RunResult(
        planned=planned,
        id=planned.config.id,
        status=run.status,
        accuracy=values.pop("accuracy"),
        validation=values.pop("validation"),
        silent=or_nan(share(counted, "silent")),
        dead=or_nan(share(counted, "dead")),
        sparsity=counted.get("sparsity", math.nan),
        seconds=run.seconds,
        weights=run.epochs[-1]["weights_sha256"],
        environment=run.environment,
        gradient=_log_mean(run.epochs, "gradient_norm"),
        update=_log_mean(run.epochs, "update_norm"),
        values=values,
        curves=kind.curves(planned.config, run.epochs),
        epochs=run.epochs,
    )


def _log_mean(epochs: Sequence[Mapping[str, Any]], name: str) -> float:
    """Over the epochs after that before training."""
    values = [value for epoch in epochs[1:] if (value := epoch.get(name)) is not None]
    mean = sum(values) / len(values) if values else 0.0
    return math.log(mean) if mean > 0 else math.nan


def choose_rate(validation: Mapping[float, Mapping[int, float]]) -> float | None:
    """The learning rate with the highest mean validation accuracy; of equals the lowest.

    Args:
        validation: learning rate -> seed -> accuracy on what was held out.

    Returns:
        the best of the rates that have runs, compared on the seeds that all of these have; None if fewer than two have
        runs, or they have no seed in common.

    >>> choose_rate({0.1: {0: 0.5, 1: 0.7}, 0.01: {0: 0.6, 1: 0.7, 2: 0.1}, 0.001: {}})
    0.01
    """
    begun = {rate: of for rate, of in validation.items() if of}
    seeds = set.intersection(*(set(of) for of in begun.values())) if len(begun) > 1 else set()
    if not seeds:
        return None
    # Rounded, so that the order of a sum does not decide between equals.
    means = {rate: round(sum(of[seed] for seed in seeds) / len(seeds), 12) for rate, of in begun.items()}
    return min(means, key=lambda rate: (-means[rate], rate))
