"""From one number a run to a verdict in words: intervals, paired tests, curves.

Pure functions of their arguments. The resampling draws from a generator with a fixed seed, and runs are put in order of
size before they are resampled, so the same numbers give the same bytes on every call, in whatever order they come.

Why each method was chosen, and how to read it: ``docs/statistics.md``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from undying.lab.interval import Interval
from undying.lab.results import Comparison, Curve, Summary

_LEVEL = 0.05
_RESAMPLES = 9999  # with the observed one, 10,000: p moves in steps of 0.0001
_SEED = 0
_MOST_COMPARISONS = 500  # beyond, Holm's correction lifts the smallest random p, 1 in 10,000, above the level

# Shares are counts over counts. Differences of fewer than 1e-12 are not of counts but of their rounding in float64.
_ROUNDING = 1e-12

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Words:
    """How to speak of a metric; ``{}`` is the baseline's name."""

    share: str
    higher: str
    lower: str
    points: str


_WORDS = {
    "accuracy": _Words(
        share="test accuracy",
        higher="test accuracy is higher than {}'s by",
        lower="test accuracy is lower than {}'s by",
        points="points",
    ),
    "silent": _Words(
        share="share of silent units",
        higher="more silent units than {}, by",
        lower="fewer silent units than {}, by",
        points="points of all units",
    ),
}


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
    array = _finite("values", values)
    low, high = _interval(array) or (None, None)
    return Summary(
        values=array.tolist(),
        mean=_mean(array),
        low=low,
        high=high,
        iqm=float(stats.trim_mean(np.sort(array), 0.25)) if np.ptp(array) else float(array[0]),
    )


def compare_to_baseline(
    metric: str,
    baseline_values: Sequence[float],
    values: Mapping[str, Sequence[float]],
    *,
    baseline: str = "the baseline",
) -> dict[str, Comparison]:
    """Compare activations with the baseline on one metric, run by run of the same seed.

    The mean difference comes with its 95 % BCa bootstrap interval, the p-value of :func:`sign_flip_p`, the same after
    :func:`holm` over all activations in ``values``, and Cohen's d_z. The verdict is

    * ``"higher"`` or ``"lower"`` where p after Holm's correction is at most 0.05;
    * ``"cannot tell"`` where that is out of reach with so few seeds, whatever their values (:func:`seeds_needed`);
    * ``"none"`` otherwise: no difference detected, which is not the same as no difference. Also where all pairs are
      equal.

    The interval belongs to one difference and is not corrected; the verdict goes by p alone.

    Args:
        metric: ``"accuracy"`` or ``"silent"``; picks the words of the sentence.
        baseline_values: the baseline's share in [0, 1] by seed; at least one.
        values: the other activations' shares by name, each in the order of the baseline's seeds.
        baseline: what to call the baseline in the sentence.

    Returns:
        a comparison for each name, in the order given; differences are (activation - baseline), in shares.

    Raises:
        ValueError: the metric is unknown; there are more than 500 activations; there are no values; one is not finite
            or not in [0, 1]; an activation does not have as many values as the baseline.

    >>> relu = [0.90, 0.91, 0.89, 0.92, 0.90, 0.88, 0.91, 0.90]
    >>> sugar = [0.92, 0.92, 0.92, 0.93, 0.92, 0.91, 0.93, 0.91]
    >>> print(compare_to_baseline("accuracy", relu, {"sugar": sugar}, baseline="relu")["sugar"].sentence)
    sugar: test accuracy is higher than relu's by 1.9 points, 95 % interval 1.4 to 2.4, p = 0.0078 after Holm's correction (8 seeds)
    >>> print(compare_to_baseline("accuracy", relu[:3], {"sugar": sugar[:3]}, baseline="relu")["sugar"].sentence)
    sugar: cannot tell with 3 seeds: test accuracy differs from relu's by 2.0 points on average, but a verdict on 1 comparison takes 6 seeds or more
    """
    pairs = {name: (baseline_values, shares) for name, shares in values.items()}
    # Also without any activation to compare, the baseline's own values must be shares.
    _shares(baseline, baseline_values)
    return compare_pairs(metric, pairs, baseline=baseline)


def compare_pairs(
    metric: str,
    pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    baseline: str = "the baseline",
) -> dict[str, Comparison]:
    """:func:`compare_to_baseline` where activations do not all have the same seeds.

    Args:
        metric: as there.
        pairs: by name, the baseline's shares and the activation's own, over the seeds that both have; at least one.
        baseline: as there.

    >>> relu, sugar = [0.90, 0.91, 0.89], [0.92, 0.92]
    >>> print(compare_pairs("accuracy", {"sugar": (relu[:2], sugar)}, baseline="relu")["sugar"].sentence)
    sugar: cannot tell with 2 seeds: test accuracy differs from relu's by 1.5 points on average, but a verdict on 1 comparison takes 6 seeds or more
    """
    if metric not in _WORDS:
        raise ValueError(f"metric must be one of {', '.join(map(repr, _WORDS))}, not {metric!r}")
    if len(pairs) > _MOST_COMPARISONS:
        raise ValueError(f"{len(pairs)} activations; p-values resolve at most {_MOST_COMPARISONS} comparisons")
    differences = {
        name: _differences(_shares(name, own), _shares(baseline, base), name) for name, (base, own) in pairs.items()
    }
    p = {name: sign_flip_p(difference.tolist()) for name, difference in differences.items()}
    p_holm = dict(zip(p, holm(list(p.values())), strict=True))
    return {
        name: _comparison(_WORDS[metric], name, baseline, difference, p[name], p_holm[name], len(pairs))
        for name, difference in differences.items()
    }


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
    found, drawn = 0.0, np.zeros(_RESAMPLES)
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


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p-value of the paired permutation test: the share of sign flips with a mean as far from 0 as observed.

    If the activation makes no difference, the two runs of a pair could have had each other's result, so each
    difference could as well have had the other sign. All 2^n flips are counted for n <= 13. For more, 9999 random ones
    are, with the observed one added, so that p is never 0 (Phipson & Smyth 2010).

    Args:
        differences: one finite difference a seed, of shares in [0, 1].

    Returns:
        p in (0, 1].

    Raises:
        ValueError: there are no differences, or one is not finite.

    >>> sign_flip_p([0.01, 0.02, 0.03, 0.04])
    0.125
    >>> sign_flip_p([0.01])
    1.0
    """
    array = _finite("differences", differences)
    if len(array) == 1:  # refused by scipy; either sign is as far from 0 as the other
        return 1.0
    flips = stats.permutation_test(
        # The flips do not depend on the signs and the order observed, so neither shall the random choice among them.
        (np.sort(np.abs(array)),),
        _distance_from_0,
        permutation_type="samples",
        vectorized=True,
        n_resamples=_RESAMPLES,
        rng=np.random.default_rng(_SEED),
    ).null_distribution
    # scipy's own p takes two means for equal when they agree to 1e-14 of the observed one. Means of k/n fractions tie
    # often, and near 0 their rounding is larger than that: with test sets of 360 a fifth of its p-values are too small.
    as_far = np.count_nonzero(flips >= _distance_from_0(array) - _ROUNDING)
    observed = 0 if len(flips) == 2 ** len(array) else 1  # it is among the flips when all are counted
    return float((as_far + observed) / (len(flips) + observed))


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


def seeds_needed(comparisons: int) -> int:
    """The smallest number of seeds with which any of so many comparisons can reach p <= 0.05 after Holm's correction.

    With n pairs p cannot be below 2/2^n: that is all differences of one sign. Holm's correction multiplies the smallest
    p by the number of comparisons.

    Args:
        comparisons: activations that are compared with the baseline; at least 1.

    >>> seeds_needed(1), seeds_needed(5)
    (6, 8)
    """
    return math.ceil(math.log2(2 * comparisons / _LEVEL))


def _comparison(
    words: _Words, name: str, baseline: str, differences: _Floats, p: float, p_holm: float, comparisons: int
) -> Comparison:
    difference = _mean(differences)
    low, high = _interval(differences) or (None, None)
    if p_holm <= _LEVEL:
        verdict = "higher" if difference > 0 else "lower"
    elif len(differences) < seeds_needed(comparisons):
        verdict = "cannot tell"
    else:
        verdict = "none"
    unspoken = Comparison(
        difference=difference,
        low=low,
        high=high,
        p=p,
        p_holm=p_holm,
        effect_size=difference / float(np.std(differences, ddof=1)) if np.ptp(differences) else None,
        wins=int(np.count_nonzero(differences > 0)),
        ties=int(np.count_nonzero(differences == 0)),
        losses=int(np.count_nonzero(differences < 0)),
        verdict=verdict,
        sentence="",
    )
    return replace(unspoken, sentence=f"{name}: {_sentence(words, baseline, unspoken, comparisons)}")


def _sentence(words: _Words, baseline: str, result: Comparison, comparisons: int) -> str:
    pairs = result.wins + result.ties + result.losses
    seeds = _count(pairs, "seed")
    if result.ties == pairs:
        same = f"its {words.share} and {baseline}'s are identical on {'the one seed' if pairs == 1 else f'all {seeds}'}"
        return same if result.verdict == "none" else f"{same}, but {_takes(comparisons)}"
    if result.verdict == "cannot tell" or result.low is None or result.high is None:
        (mean,) = _points(result.difference)
        return (
            f"cannot tell with {seeds}: {words.share} differs from {baseline}'s by {mean} {words.points} on average, "
            f"but {_takes(comparisons)}"
        )
    p = ("p < 0.001" if result.p_holm < 0.001 else f"p = {result.p_holm:.2g}") + " after Holm's correction"
    mean, low, high = _points(result.difference, result.low, result.high)
    if result.verdict == "none":
        return (
            f"no difference detected with {seeds} between its {words.share} and {baseline}'s: mean difference {mean} "
            f"{words.points}, compatible with anything from {low} to {high} (95 % interval), {p}"
        )
    opening = words.higher
    if result.verdict == "lower":
        # "lower by 0.8" is a difference of -0.8: the words carry the sign, and the ends of the interval change places.
        opening = words.lower
        mean, low, high = _points(-result.difference, -result.high, -result.low)
    return f"{opening.format(baseline)} {mean} {words.points}, 95 % interval {low} to {high}, {p} ({seeds})"


def _takes(comparisons: int) -> str:
    return f"a verdict on {_count(comparisons, 'comparison')} takes {seeds_needed(comparisons)} seeds or more"


def _strata(tasks: Sequence[Sequence[float]]) -> list[_Floats]:
    if not len(tasks):
        raise ValueError("there is no task")
    return [np.sort(_finite(f"task {i}", values)) for i, values in enumerate(tasks)]


def _resampled(runs: int, stratum: int) -> npt.NDArray[np.int64]:
    """Indices (9999, runs), drawn with replacement; other ones for each stratum."""
    return np.random.default_rng([_SEED, stratum]).integers(runs, size=(_RESAMPLES, runs))


def _aggregate(tasks: Sequence[Sequence[float]], value: float, drawn: _Floats) -> Interval:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Interval(value, float(low), float(high), sum(map(len, tasks)))


def _points(difference: float, *others: float) -> list[str]:
    """Shares as percentage points: one decimal, or as many as the difference needs to show a digit other than 0."""
    decimals = min(max(1, -math.floor(math.log10(abs(100 * difference)))), 6) if difference else 1
    # + 0.0 turns -0.0 into 0.0
    return [f"{round(100 * share, decimals) + 0.0:.{decimals}f}" for share in (difference, *others)]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _interval(values: _Floats) -> tuple[float, float] | None:
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
        n_resamples=_RESAMPLES,
        vectorized=True,
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return start + width * float(low), start + width * float(high)


def _mean(values: _Floats) -> float:
    """The mean, the same to the last bit in whatever order the values come, and v for values that all equal v."""
    return math.fsum(values) / len(values) if np.ptp(values) else float(values[0])


def _mean_without_rounding(values: _Floats, axis: int = -1) -> _Floats:
    """The mean to 12 decimals.

    BCa counts the resamples whose mean is below, equal to and above that of the sample. Means of k/n fractions are
    often equal, and the last bits of their sums would decide otherwise: the interval of 0.91, 0.93, ... would not be a
    hundredth of that of 91, 93, ...
    """
    return np.asarray(np.round(np.mean(values, axis=axis), 12))


def _distance_from_0(differences: _Floats, axis: int = -1) -> _Floats:
    return np.asarray(np.abs(np.mean(differences, axis=axis)))


def _differences(values: _Floats, base: _Floats, name: str) -> _Floats:
    """values - base by seed, where equal counts give exactly 0, and equal differences exactly equal numbers."""
    if len(values) != len(base):
        raise ValueError(
            f"{name} has {_count(len(values), 'value')}, the baseline {len(base)}; runs are paired by seed"
        )
    differences = values - base
    differences[np.abs(differences) <= _ROUNDING] = 0.0
    if np.ptp(differences) <= _ROUNDING:
        differences[:] = np.median(differences)
    return differences


def _shares(name: str, values: Sequence[float]) -> _Floats:
    array = _finite(name, values)
    for seed, value in enumerate(array):
        if not -_ROUNDING <= value <= 1 + _ROUNDING:  # a mean of shares can come out a last bit above 1
            raise ValueError(f"{name}: values[{seed}] is {value}; shares lie in [0, 1]")
    return array


def _finite(name: str, values: Sequence[float]) -> _Floats:
    array = np.array(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name}: expected a sequence of one or more numbers, not shape {array.shape}")
    for index, value in enumerate(array):
        if not math.isfinite(value):
            raise ValueError(f"{name}: values[{index}] is {value}; every run must have a finite number")
    return array
