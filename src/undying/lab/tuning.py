"""Each arm at its own best point of a grid, chosen on data that are held out of the training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from undying.lab import grid
from undying.lab.grid import Point
from undying.lab.pairs import pairs_of, scores_of
from undying.lab.results import Tried, Tuned, Tuning
from undying.lab.runs.kind import Run
from undying.statistics.metric import Metric
from undying.statistics.paired import compare_metrics
from undying.statistics.summaries import summarise

Grid = Mapping[str, Sequence[Sequence[Run]]]
"""By arm, the baseline first: for each point of the grid its finished runs."""


def tune(
    runs: Grid,
    options: Mapping[str, Sequence[float]],
    metrics: Sequence[Metric],
    data: Mapping[str, Any],
    margin: float | None,
) -> Tuning:
    """Choose the best point of each arm by what is held out, over the seeds that all its points have, and the one that is best
    for all together; of those that are equal the first.

    Args:
        runs: with a seed that all points of an arm have.
        options: the grid.
        metrics: the first decides; verdicts are corrected for all.
        data: see ``scores_of``.
        margin: see ``compare_metrics``.
    """
    metric, points = metrics[0], grid.points(options)
    every = {(name, place): of for name, arm in runs.items() for place, of in enumerate(arm)}
    held = scores_of(metric, every, data, "validation")
    test = scores_of(metric, every, data)
    means: dict[str, list[float]] = {}
    for name, arm in runs.items():
        seeds = set.intersection(*({run.config.seed for run in of} for of in arm))
        means[name] = [fmean([held[name, place][seed] for seed in sorted(seeds)]) for place in range(len(points))]
    shared = _best([fmean([of[place] for of in means.values()]) for place in range(len(points))], metric)
    at_shared = {name: arm[shared] for name, arm in runs.items()}
    asked = [(m, pairs_of(scores_of(m, at_shared, data)), margin if m is metric else None) for m in metrics]
    judged = compare_metrics(asked, baseline=next(iter(runs)))[0]
    arms = {}
    for name, arm in runs.items():
        scores = [summarise(list(test[name, place].values())) for place in range(len(points))]
        chosen = points[_best(means[name], metric)]
        arms[name] = Tuned(
            chosen,
            _to_add(options, chosen),
            [
                Tried(point, validation, score, sum(run.status == "diverged" for run in of))
                for point, validation, score, of in zip(points, means[name], scores, arm, strict=True)
            ],
            scores[shared],
            judged.get(name),
        )
    return Tuning(options, points[shared], arms)


def _best(values: Sequence[float], metric: Metric) -> int:
    """The place of the best; the first of those that are equal."""
    return (max if metric.higher_is_better else min)(range(len(values)), key=lambda place: values[place])


def _to_add(options: Mapping[str, Sequence[float]], chosen: Point) -> Point:
    found = {option: grid.beyond(values, chosen[option]) for option, values in options.items()}
    return {option: value for option, value in found.items() if value is not None}
