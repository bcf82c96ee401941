"""Arms against a baseline, paired by seed: tests, equivalence, and the verdict in words.

Why each method was chosen, and how to read it: ``docs/statistics.md``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from undying.statistics.metric import ACCURACY, SILENT, Metric
from undying.statistics.permutation import holm, sign_flip_p, sign_flip_p_above
from undying.statistics.records import Comparison
from undying.statistics.summaries import SEED, Floats, finite, interval, mean

_LEVEL = 0.05
_MOST_COMPARISONS = 500  # beyond, Holm's correction lifts the smallest random p, 1 in 10,000, above the level
_ROUNDING = 1e-12
"""Of the values. Shares are counts over counts: differences below that are of their rounding in float64."""
_LARGEST = 1e100
_MOST_FLIPS, _SIMULATIONS = 4096, 1000

_KNOWN = {metric.name: metric for metric in (ACCURACY, SILENT)}
Pairs = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""By name: the baseline's values and the arm's own, over the seeds that both have; at least one."""


def compare_scores(
    baseline: Sequence[float],
    scores: Sequence[float],
    *,
    metric: str | Metric = "score",
    margin: float | None = None,
    names: tuple[str, str] = ("the baseline", "the other"),
) -> Comparison:
    """Compare two arms of which there are scores, run by run of the same seed; see :func:`compare_to_baseline`.

    Args:
        baseline: its scores, one a seed, in any unit; at least one.
        scores: those of the other arm, in the same order of seeds.
        metric, margin: as there; the margin is in the unit of the scores, so that of a share 0.01 is one point.
        names: what to call the two in the sentence.

    Raises:
        ValueError: as there.

    >>> before = [195.0, 120.0, 310.0, 88.0, 240.0, 150.0]
    >>> after = [260.0, 190.0, 355.0, 170.0, 280.0, 245.0]
    >>> print(compare_scores(before, after, metric="return_", names=("relu", "sugar")).sentence)
    sugar: return_ is higher than relu's by 66 (better), 95 % interval 51 to 81, p = 0.031 after Holm's correction (6 seeds)
    """
    if len(names) != 2:
        raise ValueError(f"names must be two, of the baseline and of the other, not {names!r}")
    base, name = names
    return compare_to_baseline(metric, baseline, {name: scores}, baseline=base, margin=margin)[name]


def compare_to_baseline(
    metric: str | Metric,
    baseline_values: Sequence[float],
    values: Mapping[str, Sequence[float]],
    *,
    baseline: str = "the baseline",
    margin: float | None = None,
) -> dict[str, Comparison]:
    """Compare arms with the baseline on one metric, run by run of the same seed.

    The mean difference comes with its 95 % BCa bootstrap interval, the p-value of :func:`sign_flip_p`, the same after
    :func:`holm` over all arms in ``values``, and Cohen's d_z. With a margin there is also the p-value of equivalence: the
    larger of the two one-sided tests that the difference is above ``-margin`` and below ``margin`` (TOST), corrected by
    :func:`holm` likewise. The verdict is

    * ``"equal"`` where that is at most 0.05: the difference is smaller than the margin, whether there is one or not;
    * ``"higher"`` or ``"lower"`` where p after Holm's correction is at most 0.05;
    * ``"cannot tell"`` where that is out of reach with so few seeds, whatever their values (:func:`seeds_needed`);
    * ``"none"`` otherwise: no difference detected, which is not the same as no difference. Also where all pairs are
      equal.

    The interval belongs to one difference and is not corrected; the verdict goes by p alone.

    Args:
        metric: what the values are. ``"accuracy"`` and ``"silent"`` are shares in [0, 1]; any other word names a number of
            any kind, of which more is better; a :class:`Metric` says all of it.
        baseline_values: the baseline's by seed; at least one.
        values: those of the other arms by name, each in the order of the baseline's seeds.
        baseline: what to call the baseline in the sentence.
        margin: the smallest difference that matters, above 0 and in the unit of the values: 0.01 of a share is one point.

    Returns:
        a comparison for each name, in the order given; differences are (arm - baseline), in the unit of the values.

    Raises:
        ValueError: the metric's name is no word; there are more than 500 arms; there are no values; one is not finite, or
            a share not in [0, 1]; an arm does not have as many values as the baseline; the margin is not above 0.

    >>> relu = [0.90, 0.91, 0.89, 0.92, 0.90, 0.88, 0.91, 0.90]
    >>> sugar = [0.92, 0.92, 0.92, 0.93, 0.92, 0.91, 0.93, 0.91]
    >>> print(compare_to_baseline("accuracy", relu, {"sugar": sugar}, baseline="relu")["sugar"].sentence)
    sugar: test accuracy is higher than relu's by 1.9 points, 95 % interval 1.4 to 2.4, p = 0.0078 after Holm's correction (8 seeds)
    >>> print(compare_to_baseline("accuracy", relu[:3], {"sugar": sugar[:3]}, baseline="relu")["sugar"].sentence)
    sugar: cannot tell with 3 seeds: test accuracy differs from relu's by 2.0 points on average, but a verdict on 1 comparison takes 6 seeds or more
    >>> print(compare_to_baseline("accuracy", relu, {"sugar": sugar}, baseline="relu", margin=0.03)["sugar"].sentence)
    sugar: equal within 3.0 points: test accuracy differs from relu's by 1.9 points on average, 95 % interval 1.4 to 2.4, p = 0.016 after Holm's correction (8 seeds); that it is higher is found too, p = 0.0078
    """
    known = as_metric(metric)
    pairs = {name: (baseline_values, own) for name, own in values.items()}
    _values(known, baseline, baseline_values)  # also without any arm to compare
    return compare_pairs(known, pairs, baseline=baseline, margin=margin)


def compare_pairs(
    metric: str | Metric, pairs: Pairs, *, baseline: str = "the baseline", margin: float | None = None
) -> dict[str, Comparison]:
    """:func:`compare_to_baseline` where arms do not all have the same seeds.

    >>> relu, sugar = [0.90, 0.91, 0.89], [0.92, 0.92]
    >>> print(compare_pairs("accuracy", {"sugar": (relu[:2], sugar)}, baseline="relu")["sugar"].sentence)
    sugar: cannot tell with 2 seeds: test accuracy differs from relu's by 1.5 points on average, but a verdict on 1 comparison takes 6 seeds or more
    """
    return compare_metrics([(as_metric(metric), pairs, margin)], baseline=baseline)[0]


def compare_metrics(
    asked: Sequence[tuple[Metric, Pairs, float | None]], *, baseline: str = "the baseline"
) -> list[dict[str, Comparison]]:
    """:func:`compare_pairs` for several metrics with one correction over all of them: ``asked`` holds, for each, the metric,
    its pairs and its margin, if there is one."""
    comparisons = sum(len(pairs) for _, pairs, _ in asked)
    if comparisons > _MOST_COMPARISONS:
        raise ValueError(
            f"{comparisons} comparisons; p-values resolve at most {_MOST_COMPARISONS}: choose fewer metrics or arms"
        )
    keys, differences, margins = [], [], []
    for number, (metric, pairs, margin) in enumerate(asked):
        if margin is not None and not (math.isfinite(margin) and margin > 0):
            raise ValueError(f"the margin must be a number above 0, not {margin}")
        if margin is not None and metric.share and margin >= 1:
            raise ValueError(f"the margin of a share is a share, 0.01 for one point, not {margin}")
        for name, (base, own) in pairs.items():
            keys.append((number, name))
            differences.append(_differences(_values(metric, name, own), _values(metric, baseline, base), name))
            margins.append(margin)
    p = [sign_flip_p(difference.tolist()) for difference in differences]
    p_equal = [None if m is None else _p_equal(d, m) for d, m in zip(differences, margins, strict=True)]
    p_equal_holm = iter(holm([value for value in p_equal if value is not None]))
    found: list[dict[str, Comparison]] = [{} for _ in asked]
    for (number, name), difference, margin, raw, corrected in zip(keys, differences, margins, p, holm(p), strict=True):
        equal = None if margin is None else next(p_equal_holm)
        comparison = _comparison(difference, raw, corrected, margin, equal, comparisons)
        sentence = _sentence(asked[number][0], baseline, comparison, comparisons)
        found[number][name] = replace(comparison, sentence=f"{name}: {sentence}")
    return found


def as_metric(metric: str | Metric) -> Metric:
    """One of those that are known by name, or a number of any kind, of which more is better."""
    return metric if isinstance(metric, Metric) else _KNOWN.get(metric) or Metric(metric)


def seeds_needed(comparisons: int) -> int:
    """The smallest number of seeds with which any of so many comparisons can reach p <= 0.05 after Holm's correction.

    With n pairs p cannot be below 2/2^n: that is all differences of one sign. Holm's correction multiplies the smallest
    p by the number of comparisons.

    Args:
        comparisons: arms that are compared with the baseline, times metrics; at least 1.

    >>> seeds_needed(1), seeds_needed(5)
    (6, 8)
    """
    return math.ceil(math.log2(2 * comparisons / _LEVEL))


def detectable_difference(deviation: float, seeds: int, comparisons: int, power: float = 0.8) -> float:
    """The true mean difference that a comparison finds with this power, by simulation of :func:`sign_flip_p` on differences
    of a normal distribution.

    Args:
        deviation: standard deviation of the paired differences, such as that of pilot runs.
        seeds: pairs that there will be.
        comparisons: as in :func:`seeds_needed`; of the correction the hardest case is taken, p times their number.
        power: share of such comparisons with a verdict.

    Returns:
        a difference in the unit of ``deviation``; infinite where no difference can be found with so few seeds.

    >>> detectable_difference(1.0, 5, 1), round(detectable_difference(1.0, 10, 1), 1)
    (inf, 1.0)
    """
    if seeds < seeds_needed(comparisons):
        return math.inf
    draw = np.random.default_rng(SEED)
    if 2 ** (seeds - 1) <= _MOST_FLIPS:  # one sign is left: a flip of all is as far from 0
        flips = 1.0 - 2.0 * ((np.arange(2 ** (seeds - 1))[:, None] >> np.arange(seeds)) & 1)
    else:
        flips = draw.choice([-1.0, 1.0], (_MOST_FLIPS, seeds))
    noise = draw.standard_normal((_SIMULATIONS, seeds))

    def found(difference: float) -> float:
        values = noise + difference
        as_far = np.abs(values @ flips.T) >= np.abs(values.sum(1, keepdims=True)) * (1 - _ROUNDING)
        return float(np.mean(as_far.mean(1) * comparisons <= _LEVEL))

    low, high = 0.0, 1.0
    while found(high) < power:
        low, high = high, 2 * high
    while high - low > 0.005 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) >= power else (middle, high)
    return high * deviation


def _comparison(
    differences: Floats, p: float, p_holm: float, margin: float | None, p_equal: float | None, comparisons: int
) -> Comparison:
    difference = mean(differences)
    low, high = interval(differences) or (None, None)
    if p_equal is not None and p_equal <= _LEVEL:
        verdict = "equal"
    elif p_holm <= _LEVEL:
        verdict = _direction(difference)
    elif len(differences) < seeds_needed(comparisons):
        verdict = "cannot tell"
    else:
        verdict = "none"
    return Comparison(
        difference=difference,
        low=low,
        high=high,
        p=p,
        p_holm=p_holm,
        effect_size=_effect_size(differences),
        wins=int(np.count_nonzero(differences > 0)),
        ties=int(np.count_nonzero(differences == 0)),
        losses=int(np.count_nonzero(differences < 0)),
        verdict=verdict,
        sentence="",
        margin=margin,
        p_equal=p_equal,
    )


def _effect_size(differences: Floats) -> float | None:
    """Of differences brought to the size of 1: squares of very small and very large ones are no numbers."""
    scaled = differences / (np.abs(differences).max() or 1.0)
    deviation = float(np.std(scaled, ddof=1)) if len(scaled) > 1 else 0.0
    return mean(scaled) / deviation if deviation else None


def _p_equal(differences: Floats, margin: float) -> float:
    values = differences.tolist()
    return max(sign_flip_p_above(values, -margin), sign_flip_p_above([-value for value in values], -margin))


def _sentence(metric: Metric, baseline: str, result: Comparison, comparisons: int) -> str:
    pairs = result.wins + result.ties + result.losses
    seeds = _count(pairs, "seed")
    unit = f" {metric.difference_unit}".rstrip()
    if result.ties == pairs and result.verdict != "equal":
        same = (
            f"its {metric.title} and {baseline}'s are identical on {'the one seed' if pairs == 1 else f'all {seeds}'}"
        )
        return same if result.verdict == "none" else f"{same}, but {_takes(comparisons)}"
    if result.verdict == "cannot tell" or result.low is None or result.high is None:
        (average,) = metric.differences(result.difference)
        return (
            f"cannot tell with {seeds}: {metric.title} differs from {baseline}'s by {average}{unit} on average, "
            f"but {_takes(comparisons)}"
        )
    if result.verdict == "equal":
        return _equal(metric, baseline, result, seeds)
    p = f"{_p(result.p_holm)} after Holm's correction"
    average, low, high = metric.differences(result.difference, result.low, result.high)
    if result.verdict == "none":
        nor = f"; nor is it shown that they are equal within {_margin(metric, result)}" if result.margin else ""
        return (
            f"no difference detected with {seeds} between its {metric.title} and {baseline}'s: mean difference {average}"
            f"{unit}, compatible with anything from {low} to {high} (95 % interval), {p}{nor}"
        )
    higher = result.verdict == "higher"
    if not higher:
        # "lower by 0.8" is a difference of -0.8: the words carry the sign, and the ends of the interval change places.
        average, low, high = metric.differences(-result.difference, -result.high, -result.low)
    opening = (metric.more if higher else metric.fewer).format(title=metric.title, baseline=baseline)
    # Everybody knows which accuracy is the better one.
    praise = f" ({metric.praise(higher)})" if metric.praise(higher) and metric not in _KNOWN.values() else ""
    return f"{opening} {average}{unit}{praise}, 95 % interval {low} to {high}, {p} ({seeds})"


def _equal(metric: Metric, baseline: str, result: Comparison, seeds: str) -> str:
    assert result.p_equal is not None
    average, low, high = metric.differences(result.difference, result.low or 0.0, result.high or 0.0)
    unit = f" {metric.difference_unit}".rstrip()
    direction = _direction(result.difference)
    too = f"; that it is {direction} is found too, {_p(result.p_holm)}" if result.p_holm <= _LEVEL else ""
    return (
        f"equal within {_margin(metric, result)}: {metric.title} differs from {baseline}'s by {average}{unit} on average, "
        f"95 % interval {low} to {high}, {_p(result.p_equal)} after Holm's correction ({seeds}){too}"
    )


def _margin(metric: Metric, result: Comparison) -> str:
    (written,) = metric.differences(result.margin or 0.0)
    return f"{written} {metric.difference_unit}".rstrip()


def _direction(difference: float) -> str:
    return "higher" if difference > 0 else "lower"


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _takes(comparisons: int) -> str:
    return f"a verdict on {_count(comparisons, 'comparison')} takes {seeds_needed(comparisons)} seeds or more"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _differences(values: Floats, base: Floats, name: str) -> Floats:
    """values - base by seed, where equal counts give exactly 0, and equal differences exactly equal numbers."""
    if len(values) != len(base):
        raise ValueError(
            f"{name} has {_count(len(values), 'value')}, the baseline {len(base)}; runs are paired by seed"
        )
    differences = values - base
    rounding = _ROUNDING * float(max(np.abs(values).max(), np.abs(base).max()))
    differences[np.abs(differences) <= rounding] = 0.0
    if np.ptp(differences) <= rounding:
        differences[:] = np.median(differences)
    return differences


def _values(metric: Metric, name: str, values: Sequence[float]) -> Floats:
    array = finite(name, values)
    for seed, value in enumerate(array):
        if abs(value) > _LARGEST:
            raise ValueError(
                f"{name}: values[{seed}] is {value}; of numbers beyond {_LARGEST:g} no differences are tested: scale them"
            )
        if (
            metric.share and not -_ROUNDING <= value <= 1 + _ROUNDING
        ):  # a mean of shares can come out a last bit above 1
            raise ValueError(f"{name}: values[{seed}] is {value}; shares lie in [0, 1]")
    return array
