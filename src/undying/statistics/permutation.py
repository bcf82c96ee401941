"""Tests on paired differences by flips of their signs, and the correction for several.

Random flips come from a generator with a fixed seed: the same numbers give the same p-values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from undying.statistics.summaries import RESAMPLES, SEED, Floats, finite

_ROUNDING = 1e-9
"""Of the largest difference. Means of k/n fractions differ by more than that, or else by their rounding in float64."""


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


def _mean_of(differences: Floats, axis: int = -1) -> Floats:
    return np.asarray(np.mean(differences, axis=axis))


def _distance_from_0(differences: Floats, axis: int = -1) -> Floats:
    return np.abs(_mean_of(differences, axis))
