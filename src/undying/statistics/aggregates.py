"""Over runs of several tasks, as Agarwal et al. (2021, arXiv:2108.13264) advise for reinforcement learning: runs are not
paired here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from undying.statistics.interval import Interval
from undying.statistics.summaries import RESAMPLES, SEED, Floats, finite


def interquartile_mean(tasks: Sequence[Sequence[float]]) -> Interval:
    """Mean of the middle half of all runs, with the interval that Agarwal et al. (2021, arXiv:2108.13264) advise for few
    runs: percentiles of 9999 resamples, in each of which every task keeps its number of runs.

    Args:
        tasks: for each task one finite score a run, at least one, in a unit that the tasks share.

    Returns:
        the mean without the lowest and the highest quarter, each rounded down to whole runs.

    Raises:
        ValueError: there is no task, a task has no run, or a score is not finite.

    >>> found = interquartile_mean([[0.0, 10.0, 12.0, 90.0]])
    >>> found.value, found.low, found.high
    (11.0, 0.0, 90.0)
    """
    strata = _strata(tasks)
    drawn = np.concatenate([values[_resampled(len(values), i)] for i, values in enumerate(strata)], axis=1)
    found = stats.trim_mean(np.concatenate(strata), 0.25)
    return _aggregate(tasks, float(found), stats.trim_mean(drawn, 0.25, axis=1))


def probability_of_improvement(tasks: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]]) -> Interval:
    """The chance that a run scores above a run of the baseline, each drawn by itself; equal scores count half (Agarwal et
    al. 2021). The mean over the tasks, with the stratified bootstrap's interval as in :func:`interquartile_mean`.

    Args:
        tasks: for each task one finite score a run, at least one. Runs are not paired.
        baseline: the same of the baseline, the tasks in the same order.

    Returns:
        a probability in [0, 1]; 0.5 if there is no difference.

    Raises:
        ValueError: as there, or the two do not have the same number of tasks.

    >>> probability_of_improvement([[3.0, 5.0]], [[1.0, 4.0]]).value
    0.75
    """
    if len(tasks) != len(baseline):
        raise ValueError(f"{len(tasks)} tasks, of the baseline {len(baseline)}; they must be the same")
    found, drawn = 0.0, np.zeros(RESAMPLES)
    for i, (own, other) in enumerate(zip(_strata(tasks), _strata(baseline), strict=True)):
        above = (own[:, None] > other).astype(np.float64) + 0.5 * (own[:, None] == other)
        found += float(above.mean()) / len(tasks)
        # How often each run is in a resample, instead of the comparisons of all pairs of each.
        times, other_times = (
            np.stack([np.count_nonzero(picked == run, axis=1) for run in range(picked.shape[1])], axis=1)
            for picked in (_resampled(len(own), 2 * i), _resampled(len(other), 2 * i + 1))
        )
        drawn += ((times @ above) * other_times).sum(1) / above.size / len(tasks)
    return _aggregate(tasks, found, drawn)


def performance_profile(values: Sequence[float], thresholds: Sequence[float]) -> list[Interval]:
    """The share of runs that score above each threshold (Agarwal et al. 2021), with the percentiles of 9999 resamples.

    Args:
        values: one finite score a run, at least one.
        thresholds: in the same unit.

    Returns:
        for each threshold a share in [0, 1].

    >>> [round(share.value, 2) for share in performance_profile([1.0, 2.0, 4.0], [0.0, 1.0, 3.0, 4.0])]
    [1.0, 0.67, 0.33, 0.0]
    """
    scores = np.sort(finite("values", values))
    drawn = scores[_resampled(len(scores), 0)]
    return [
        _aggregate([values], float(np.mean(scores > threshold)), np.mean(drawn > threshold, axis=1))
        for threshold in thresholds
    ]


def _strata(tasks: Sequence[Sequence[float]]) -> list[Floats]:
    if not len(tasks):
        raise ValueError("there is no task")
    return [np.sort(finite(f"task {i}", values)) for i, values in enumerate(tasks)]


def _resampled(runs: int, stratum: int) -> npt.NDArray[np.int64]:
    """Indices (9999, runs), drawn with replacement; other ones for each stratum."""
    return np.random.default_rng([SEED, stratum]).integers(runs, size=(RESAMPLES, runs))


def _aggregate(tasks: Sequence[Sequence[float]], value: float, drawn: Floats) -> Interval:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Interval(value, float(low), float(high), sum(map(len, tasks)))
