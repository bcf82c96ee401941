"""Metrics of any kind, and equality within a margin, against hand counts and simulations."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from undying.lab import Metric, compare_scores
from undying.papers.verdicts import judge
from undying.statistics import paired
from undying.statistics.paired import compare_metrics, compare_to_baseline, detectable_difference, seeds_needed
from undying.statistics.permutation import sign_flip_p, sign_flip_p_above

RMSE = Metric("rmse", "test RMSE", higher_is_better=False, unit="mg")
RETURNS = [195.0, 120.0, 310.0, 88.0, 240.0, 150.0]


@pytest.fixture
def no_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdicts do not depend on them, and they take half of the time."""
    monkeypatch.setattr(paired, "interval", lambda values: (min(values), max(values)))


def test_any_real_number_is_compared() -> None:
    found = compare_to_baseline("returned", RETURNS, {"a": [value + 50 for value in RETURNS], "b": RETURNS})
    assert (found["a"].difference, found["a"].verdict, found["b"].ties) == (50.0, "cannot tell", 6)
    tiny = compare_scores([1e-9 * value for value in RETURNS], [1.2e-9 * value for value in RETURNS])
    large = compare_scores([1e9 * value for value in RETURNS], [1.2e9 * value for value in RETURNS])
    assert tiny.p == large.p == 2 / 64
    assert tiny.effect_size == pytest.approx(large.effect_size)


def test_lower_is_better_where_the_metric_says_so() -> None:
    found = compare_scores([54.0, 55.0, 53.0, 56.0, 54.5, 55.5], [51.0, 52.5, 50.5, 53.0, 51.0, 52.0], metric=RMSE)
    assert found.verdict == "lower"
    assert "test RMSE is lower than the baseline's by 3.0 mg (better), 95 % interval" in found.sentence


@pytest.mark.parametrize("threshold", [-3.0, 0.0, 1.0, 2.5])
def test_one_sided_p_counts_the_flips(threshold: float) -> None:
    differences = [3.0, -1.0, 2.0, 4.0, 1.0]
    shifted = [d - threshold for d in differences]
    totals = [sum(s * d for s, d in zip(signs, shifted, strict=True)) for signs in itertools.product((1, -1), repeat=5)]
    by_hand = sum(total >= sum(shifted) for total in totals) / len(totals)
    assert sign_flip_p_above(differences, threshold) == by_hand


def test_equal_takes_both_sides() -> None:
    """And p is the larger one: here that the difference is below the margin."""
    base = [0.90, 0.91, 0.92, 0.93, 0.94, 0.95]
    other = [value + by for value, by in zip(base, [0.004, 0.006, 0.005, 0.003, 0.007, 0.002], strict=True)]
    found = compare_to_baseline("accuracy", base, {"a": other}, margin=0.01)["a"]
    assert (found.verdict, found.margin, found.p_equal, found.p_holm) == ("equal", 0.01, 1 / 64, 2 / 64)
    assert "equal within 1.0 points" in found.sentence
    assert "that it is higher is found too, p = 0.031" in found.sentence
    outside = compare_to_baseline("accuracy", base, {"a": other}, margin=0.004)["a"]
    assert outside.verdict == "higher"
    assert outside.p_equal > 0.05


def test_one_correction_is_over_metrics_and_arms() -> None:
    pairs = {name: (RETURNS, [value + by for value in RETURNS]) for name, by in (("a", 50), ("b", 60))}
    one, two = compare_metrics([(RMSE, pairs, None), (Metric("other"), pairs, None)])
    assert {c.p_holm for found in (one, two) for c in found.values()} == {4 * 2 / 64}
    assert seeds_needed(4) == 8
    assert "a verdict on 4 comparisons takes 8 seeds or more" in one["a"].sentence


DRAWS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(0.9, 0.02, n),
    "skewed": lambda rng, n: 0.9 - rng.exponential(0.02, n),
    "tied": lambda rng, n: rng.binomial(20, 0.9, n) / 20,
}


def rate(found: int, of: int) -> float:
    """The share that is still compatible with a true one: its lower 99.9 % bound."""
    return float(stats.binomtest(found, of).proportion_ci(0.998).low)


@pytest.mark.usefixtures("no_intervals")
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize(("n", "simulations"), [(5, 300), (10, 200), (20, 30)])
def test_no_more_false_findings_than_the_level(n: int, simulations: int, draw: str) -> None:
    """Better where there is no difference, and equal where there is one of the margin, by the exact test and by the papers'
    t-test."""
    rng, margin = np.random.default_rng(n), 0.05
    better, equal, gains, no_gains = 0, 0, 0, 0
    for _ in range(simulations):
        base, other = DRAWS[draw](rng, n), DRAWS[draw](rng, n)
        better += sign_flip_p((other - base).tolist()) <= 0.05
        worse = other - margin  # as the margin is a whole count of the tied ones too
        equal += paired._p_equal(worse - base, margin) <= 0.05
        gains += judge([("higher", (other - base).tolist())]) == ["supported"]
        no_gains += judge([("no gain", (other - base + 0.01).tolist())]) == ["supported"]
    assert max(rate(found, simulations) for found in (better, equal, gains, no_gains)) <= 0.05


def test_the_detectable_difference_is_found_as_often_as_it_says() -> None:
    rng, seeds, comparisons = np.random.default_rng(3), 8, 2
    difference = detectable_difference(2.0, seeds, comparisons)
    p = [sign_flip_p(rng.normal(difference, 2.0, seeds).tolist()) for _ in range(400)]
    assert np.mean(np.array(p) * comparisons <= 0.05) == pytest.approx(0.8, abs=0.06)
    assert detectable_difference(2.0, 6, 2) == math.inf  # 7 are needed
    assert detectable_difference(4.0, seeds, comparisons) == 2 * difference


@pytest.mark.parametrize("scale", [1.0, 1e-320, 1e90, -3e-5])
def test_effect_sizes_do_not_depend_on_the_scale(scale):
    base, own = [1.0, 2.0, 3.0, 5.0, 4.0, 6.0], [2.0, 2.5, 5.0, 5.5, 6.0, 8.0]
    differences = np.subtract(own, base)
    found = compare_scores([scale * x for x in base], [scale * x for x in own])
    assert found.effect_size == pytest.approx(np.sign(scale) * differences.mean() / differences.std(ddof=1), rel=1e-3)


def test_a_mean_difference_of_nothing_has_the_decimals_of_its_interval():
    sentence = compare_scores([0.0] * 8, [0.004, -0.004] * 4, metric=Metric("x")).sentence
    low, high = re.search(r"anything from (\S+) to (\S+) ", sentence).groups()
    assert float(low) < -0.001
    assert float(high) > 0.001
    tiny = compare_scores([0.0] * 8, [0.004, -0.004 + 4e-18] * 4, metric=Metric("x")).sentence
    assert "e-" not in tiny


@pytest.mark.parametrize(
    ("baseline", "scores", "options", "error"),
    [
        ([0.5] * 6, [0.6] * 6, {"metric": Metric("acc", share=True), "margin": 2}, "0.01 for one point, not 2"),
        ([1e101] * 6, [2.0] * 6, {}, r"beyond 1e\+100"),
        ([2**2000] * 6, [2.0] * 6, {}, "expected a sequence of numbers"),
        ({"a": 1.0}, [2.0], {}, "expected a sequence of numbers"),
        ([1.0] * 6, [2.0] * 6, {"names": ("a", "b", "c")}, "names must be two"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(baseline, scores, options, error):
    with pytest.raises(ValueError, match=error):
        compare_scores(baseline, scores, **options)
