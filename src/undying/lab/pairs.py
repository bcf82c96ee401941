"""What finished runs scored, and the pairs that they make."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

from undying._base.errors import UndyingError
from undying.lab.runs.kind import Run
from undying.statistics.metric import ACCURACY, Metric

Name = TypeVar("Name", bound=Hashable)


def pairs_of(values: Mapping[str, Mapping[int, float]]) -> dict[str, tuple[list[float], list[float]]]:
    """By name, the baseline's values and an activation's own over the seeds that both have, where there are any."""
    baseline, *others = values
    pairs = {}
    for name in others:
        shared = [seed for seed in values[name] if seed in values[baseline]]
        if shared:
            pairs[name] = [values[baseline][seed] for seed in shared], [values[name][seed] for seed in shared]
    return pairs


def scores_of(
    metric: Metric, runs: Mapping[Name, Sequence[Run]], data: Mapping[str, Any], part: str = "test"
) -> dict[Name, dict[int, float]]:
    """By name and seed, what its runs scored after their last epoch.

    A run that diverged counts as guessing where that is known, of classes, and else with the worst score of any run, before
    or after training.

    Raises:
        UndyingError: no run has a finite one.
    """
    key = f"{part}_{metric.name}"
    every = [run for of in runs.values() for run in of]
    if metric == ACCURACY:
        worst = 1 / data["classes"]
    else:
        known = [v for run in every for line in (run.epochs[0], run.epochs[-1]) if (v := line.get(key)) is not None]
        if not known:
            raise UndyingError(
                f"no run has a finite {metric.title} before or after training, so there is no comparison"
            )
        worst = min(known) if metric.higher_is_better else max(known)
    return {
        name: {run.config.seed: worst if run.epochs[-1].get(key) is None else run.epochs[-1][key] for run in of}
        for name, of in runs.items()
    }
