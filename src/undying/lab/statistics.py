"""Of one number a run, in any unit: intervals, tests on paired differences, curves.

Pure functions of their arguments. The resampling draws from a generator with a fixed seed, and runs are put in order of
size before they are resampled, so the same numbers give the same bytes on every call, in whatever order they come.

Why each method was chosen, and how to read it: ``docs/statistics.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from undying.lab.results import Curve, Summary

RESAMPLES = 9999  # with the observed one, 10,000: p moves in steps of 0.0001
SEED = 0

_ROUNDING = 1e-9
"""Of the largest difference. Means of k/n fractions differ by more than that, or else by their rounding in float64."""

Floats = npt.NDArray[np.float64]


def summarise(values: Sequence[float]) -> Summary:
    """Mean with its 95 % interval, and interquartile mean, of one number a run.

    The interval is the BCa bootstrap's (Efron 1987), from 9999 resamples. The interquartile mean leaves out the lowest
    and the highest quarter of the runs, each rounded down to whole runs (Agarwal et al. 2021).

    Args:
        values: one finite number a run, in any unit; at least one.

    Returns:
        a summary in the unit of ``values``. The interval is None with a single run, and has no width where all runs
        are equal.

    Raises:
        ValueError: there are no values, or one is not finite.

    >>> summary = summarise([0.91, 0.93, 0.92, 0.95, 0.94])
    >>> round(summary.mean, 3), round(summary.iqm, 3)
    (0.93, 0.93)
    >>> round(summary.low, 3), round(summary.high, 3)
    (0.918, 0.942)
    >>> summarise([0.91]).low is None
    True
    """
    array = finite("values", values)
    low, high = interval(array) or (None, None)
    return Summary(
        values=array.tolist(),
        mean=mean(array),
        low=low,
        high=high,
        iqm=float(stats.trim_mean(np.sort(array), 0.25)) if np.ptp(array) else float(array[0]),
    )


def curve(values_by_run: Sequence[Sequence[float | None]]) -> Curve:
    """Median and quartiles over runs, epoch by epoch.

    Args:
        values_by_run: for each run, one number an epoch, in any unit. None, nan, inf and the epochs that a shorter run
            lacks are left out, so that after a run has diverged the curve is that of the others.

    Returns:
        a curve as long as the longest run, in the unit of the values; None at epochs without any finite value.

    >>> curve([[4.0, 3.0, None], [6.0, 1.0], [5.0, float("nan")]])
    Curve(median=[5.0, 2.0, None], low=[4.5, 1.5, None], high=[5.5, 2.5, None])
    """
    low: list[float | None] = []
    median: list[float | None] = []
    high: list[float | None] = []
    for epoch in range(max(map(len, values_by_run), default=0)):
        at_epoch = [run[epoch] for run in values_by_run if epoch < len(run)]
        finite = [value for value in at_epoch if value is not None and math.isfinite(value)]
        quartiles = np.quantile(finite, (0.25, 0.5, 0.75)).tolist() if finite else [None, None, None]
        for line, value in zip((low, median, high), quartiles, strict=True):
            line.append(value)
    return Curve(median=median, low=low, high=high)


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p-value of the paired permutation test: the share of sign flips with a mean as far from 0 as observed.

    If the activation makes no difference, the two runs of a pair could have had each other's result, so each
    difference could as well have had the other sign. All 2^n flips are counted for n <= 13. For more, 9999 random ones
    are, with the observed one added, so that p is never 0 (Phipson & Smyth 2010).

    Args:
        differences: one finite difference a seed, in any unit.

    Returns:
        p in (0, 1].

    Raises:
        ValueError: there are no differences, or one is not finite.

    >>> sign_flip_p([0.01, 0.02, 0.03, 0.04])
    0.125
    >>> sign_flip_p([10.0])
    1.0
    """
    return _sign_flips(finite("differences", differences), _distance_from_0)


def sign_flip_p_above(differences: Sequence[float], threshold: float) -> float:
    """One-sided p-value of the same test that the mean lies above ``threshold``: the share of sign flips of
    (difference - threshold) with a mean at least as high as observed.

    It is exact where the differences lie symmetrically about their mean, as those of two arms do whose runs are distributed
    alike, one moved by the threshold.

    Args:
        differences: one finite difference a seed.
        threshold: in their unit.

    Returns:
        p in (0, 1].

    Raises:
        ValueError: there are no differences, or one is not finite.

    >>> sign_flip_p_above([1.0, 2.0, 3.0, 4.0], 0.0), sign_flip_p_above([1.0, 2.0, 3.0, 4.0], 2.5)
    (0.0625, 0.625)
    """
    return _sign_flips(finite("differences", differences) - threshold, _mean_of)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's correction: with it, the chance of even one false discovery among all comparisons is at most the level.

    The smallest of m p-values is multiplied by m, the next by m - 1, and so on; none may then be smaller than one
    before it, or larger than 1 (Holm 1979). Written out here because scipy has only the false discovery rate.

    Args:
        p: p-values in [0, 1].

    Returns:
        the corrected p-values, in the same order.

    >>> holm([0.01, 0.04, 0.03, 0.005])
    [0.03, 0.06, 0.06, 0.02]
    """
    corrected = [0.0] * len(p)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = largest
    return corrected


def _sign_flips(differences: Floats, statistic: Callable[..., Floats]) -> float:
    """The share of sign flips in which the statistic, a mean or its size, is at least the observed one."""
    largest = float(np.abs(differences).max())
    if largest == 0:
        return 1.0
    array = differences / largest  # sums of losses of 1e308 would not be finite
    observed = float(statistic(array))
    if len(array) == 1:  # refused by scipy
        return float(np.mean([observed <= statistic(flip * np.abs(array)) for flip in (1, -1)]))
    flips = stats.permutation_test(
        # The flips do not depend on the signs and the order observed, so neither shall the random choice among them.
        (np.sort(np.abs(array)),),
        statistic,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(SEED),
    ).null_distribution
    # scipy's own p takes two means for equal when they agree to 1e-14 of the observed one. Means of k/n fractions tie
    # often, and near 0 their rounding is larger than that: with test sets of 360 a fifth of its p-values are too small.
    as_far = np.count_nonzero(flips >= observed - _ROUNDING)
    itself = 0 if len(flips) == 2 ** len(array) else 1  # it is among the flips when all are counted
    return float((as_far + itself) / (len(flips) + itself))


def interval(values: Floats) -> tuple[float, float] | None:
    """95 % BCa bootstrap interval of the mean; no width for equal values, None for a single one."""
    if len(values) == 1:
        return None
    ordered = np.sort(values)
    start, width = float(ordered[0]), float(np.ptp(ordered))
    if width == 0:
        return start, start
    # From here on there are two different values, so BCa is always defined: the jackknife means differ, and resamples
    # have means on both sides of the sample's. It takes third powers, though, which values such as losses of 1e200 or
    # 1e-200 would not survive; the mean's interval moves and stretches with the values, so they are brought to [0, 1].
    low, high = stats.bootstrap(
        ((ordered - start) / width,),
        _mean_without_rounding,
        method="BCa",
        confidence_level=0.95,
        n_resamples=RESAMPLES,
        vectorized=True,
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return start + width * float(low), start + width * float(high)


def mean(values: Floats) -> float:
    """The mean, the same to the last bit in whatever order the values come, and v for values that all equal v."""
    return math.fsum(values) / len(values) if np.ptp(values) else float(values[0])


def _mean_without_rounding(values: Floats, axis: int = -1) -> Floats:
    """The mean to 12 decimals.

    BCa counts the resamples whose mean is below, equal to and above that of the sample. Means of k/n fractions are
    often equal, and the last bits of their sums would decide otherwise: the interval of 0.91, 0.93, ... would not be a
    hundredth of that of 91, 93, ...
    """
    return np.asarray(np.round(np.mean(values, axis=axis), 12))


def _mean_of(differences: Floats, axis: int = -1) -> Floats:
    return np.asarray(np.mean(differences, axis=axis))


def _distance_from_0(differences: Floats, axis: int = -1) -> Floats:
    return np.abs(_mean_of(differences, axis))


def finite(name: str, values: Sequence[float]) -> Floats:
    array = np.array(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name}: expected a sequence of one or more numbers, not shape {array.shape}")
    for index, value in enumerate(array):
        if not math.isfinite(value):
            raise ValueError(f"{name}: values[{index}] is {value}; every run must have a finite number")
    return array
