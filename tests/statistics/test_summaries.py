"""The statistics against scipy called directly, against hand computation, and against simulations of whole sweeps."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from undying.statistics import paired
from undying.statistics.aggregates import interquartile_mean, probability_of_improvement
from undying.statistics.interval import Interval
from undying.statistics.metric import ACCURACY
from undying.statistics.paired import compare_to_baseline, seeds_needed
from undying.statistics.permutation import holm, sign_flip_p
from undying.statistics.records import Comparison, Curve
from undying.statistics.summaries import curve, summarise


def by_enumeration(numerators: Sequence[int]) -> float:
    """Two-sided sign-flip p in integers, where nothing rounds."""
    totals = [abs(sum(flip)) for flip in itertools.product(*((k, -k) for k in numerators))]
    return sum(total >= abs(sum(numerators)) for total in totals) / len(totals)


def scipy_interval(values: Sequence[float]) -> tuple[float, float]:
    result = stats.bootstrap(
        (np.sort(values),), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(result.low), float(result.high)


# Fractions k/n as a test set or a network makes them: many ties, and sums that round.
pairs_of_counts = st.integers(1, 2000).flatmap(
    lambda n: st.lists(st.tuples(st.integers(0, n), st.integers(0, n)), min_size=2, max_size=8).map(
        lambda counts: (n, counts)
    )
)


class TestSummarise:
    VALUES = (0.91, 0.97, 0.93, 0.92, 0.99, 0.94, 0.90, 0.95, 0.98, 0.96)

    def test_interval_is_scipys(self) -> None:
        summary = summarise(self.VALUES)
        assert summary.values == list(self.VALUES)
        assert summary.mean == pytest.approx(0.945, abs=1e-15)
        low, high = scipy_interval([round(100 * value) for value in self.VALUES])  # whole numbers tie as they should
        assert (summary.low, summary.high) == pytest.approx((low / 100, high / 100), abs=1e-11)

    def test_interval_does_not_depend_on_the_unit(self) -> None:
        # with scipy's on its own, the last bit of a sum decides whether two means tie, and the ends move by 0.001
        low, high = (end / 100 for end in scipy_interval([round(100 * value) for value in self.VALUES]))
        assert abs(scipy_interval(self.VALUES)[0] - low) > 5e-4 or abs(scipy_interval(self.VALUES)[1] - high) > 5e-4
        for unit in (1.0, 3.0, 1 / 360, 1e-9, 1e9):
            for start in (0.0, 0.1, 7.0):
                summary = summarise([start * unit + value * unit for value in self.VALUES])
                assert (summary.low, summary.high) == pytest.approx(
                    ((start + low) * unit, (start + high) * unit), rel=1e-9
                )

    def test_skewed_interval_is_scipys_and_not_the_percentile_one(self) -> None:
        values = np.random.default_rng(3).exponential(size=12)
        summary = summarise(values.tolist())
        assert (summary.low, summary.high) == pytest.approx(scipy_interval(values.tolist()), abs=1e-9)
        percentile = stats.bootstrap(
            (np.sort(values),), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(0)
        ).confidence_interval
        assert abs(summary.high - percentile.high) > 0.01

    @pytest.mark.parametrize(
        ("values", "iqm"),
        [
            ((1.0, 2.0, 9.0), 4.0),  # a quarter of three is no whole run
            ((0.0, 2.0, 4.0, 100.0), 3.0),
            ((100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, -100.0), 4.5),  # two off each end
        ],
    )
    def test_interquartile_mean_by_hand(self, values: Sequence[float], iqm: float) -> None:
        assert summarise(values).iqm == pytest.approx(iqm, abs=1e-14)

    def test_a_single_run_has_no_interval(self) -> None:
        summary = summarise([0.1])
        assert (summary.mean, summary.low, summary.high, summary.iqm) == (0.1, None, None, 0.1)

    @pytest.mark.parametrize("runs", [2, 3, 7, 10, 49])
    @pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1e300, 5e-324])
    def test_equal_runs(self, value: float, runs: int) -> None:
        summary = summarise([value] * runs)
        assert (summary.mean, summary.low, summary.high, summary.iqm) == (value,) * 4

    def test_two_runs_span_their_interval(self) -> None:
        summary = summarise([0.2, 0.3])
        assert (summary.low, summary.high) == pytest.approx((0.2, 0.3))

    @pytest.mark.parametrize("values", [(0.3, 0.1 + 0.2), (1e200, 2e200, 4e200), (1e-200, 2e-200, 5e-200), (1.0, 1e30)])
    def test_extreme_runs_do_not_warn(self, values: Sequence[float]) -> None:
        summary = summarise(values)
        assert min(values) <= summary.low <= summary.high <= max(values)

    @pytest.mark.parametrize("runs", [2, 3, 5, 10, 20, 40])
    def test_bca_is_defined_for_the_most_skewed_runs(self, runs: int) -> None:
        for ones in range(1, runs):
            summary = summarise([0.0] * (runs - ones) + [1.0] * ones)
            assert 0 <= summary.low <= ones / runs <= summary.high <= 1

    @given(st.lists(st.floats(-1e100, 1e100), min_size=1, max_size=12), st.randoms())
    @settings(max_examples=100, deadline=None)
    def test_any_finite_runs(self, values: list[float], random) -> None:
        summary = summarise(values)
        if len(values) > 1:
            assert math.isfinite(summary.low)
            assert math.isfinite(summary.high)
            assert summary.low <= summary.high
        shuffled = random.sample(values, len(values))
        again = summarise(shuffled)
        assert (again.mean, again.low, again.high, again.iqm) == (summary.mean, summary.low, summary.high, summary.iqm)

    def test_coverage(self) -> None:
        rng = np.random.default_rng(5)
        summaries = [summarise(rng.normal(3.0, 2.0, 20).tolist()) for _ in range(500)]
        covered = sum(summary.low <= 3.0 <= summary.high for summary in summaries) / len(summaries)
        assert 0.90 <= covered <= 0.97

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_refuses_what_is_not_finite(self, bad: float) -> None:
        with pytest.raises(ValueError, match=rf"values\[2\] is {bad}"):
            summarise([0.1, 0.2, bad])

    def test_refuses_nothing_and_tables(self) -> None:
        with pytest.raises(ValueError, match="one or more"):
            summarise([])
        with pytest.raises(ValueError, match="shape"):
            summarise([[0.1, 0.2]])  # type: ignore[list-item]

    def test_same_bytes_every_time(self) -> None:
        first, second = (json.dumps(asdict(summarise(self.VALUES))) for _ in range(2))
        assert first == second


class TestSignFlip:
    def test_four_pairs_by_hand(self) -> None:
        # |3 + 1 + 2 - 1| = 5; of 16 flips, +-7 (1 each), +-5 (2 each) reach it: those with 3, 2 and at least one 1.
        assert by_enumeration([3, 1, 2, -1]) == 6 / 16
        assert sign_flip_p([0.03, 0.01, 0.02, -0.01]) == 6 / 16

    @pytest.mark.parametrize("seed", range(40))
    def test_ties_among_fractions(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        steps, base = rng.integers(-6, 7, 10), rng.integers(300, 350, 10)
        values = {"sugar": ((base + steps) / 360).tolist()}
        result = compare_to_baseline("accuracy", (base / 360).tolist(), values)["sugar"]
        assert result.p == by_enumeration(steps.tolist())

    def test_scipys_own_p_is_off_where_means_tie_near_0(self) -> None:
        """The reason to count the flips here; if this fails, scipy has learnt to and the code can be simpler."""
        steps = np.array([0, 1, -5, -2, 2, 1, 6, 4, -6, -3])
        base = np.array([329, 349, 316, 340, 304, 301, 337, 321, 335, 324])
        differences = (base + steps) / 360 - base / 360
        scipys = stats.permutation_test((differences,), np.mean, permutation_type="samples", vectorized=True).pvalue
        assert by_enumeration(steps.tolist()) == sign_flip_p(differences.tolist()) == 0.93359375
        assert scipys < 0.9

    @pytest.mark.parametrize("pairs", [2, 5, 10, 13])
    def test_exact_p_is_scipys_for_continuous_values(self, pairs: int) -> None:
        differences = np.random.default_rng(pairs).normal(0.02, 0.05, pairs)
        scipys = stats.permutation_test((differences,), np.mean, permutation_type="samples", vectorized=True).pvalue
        assert sign_flip_p(differences.tolist()) == pytest.approx(scipys, abs=1e-12)

    @pytest.mark.parametrize("pairs", [14, 30])
    def test_random_p_is_near_the_t_test(self, pairs: int) -> None:
        differences = np.random.default_rng(pairs).normal(0.02, 0.05, pairs)
        p = sign_flip_p(differences.tolist())
        assert p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.02)
        assert p == sign_flip_p((-differences[::-1]).tolist())

    def test_random_p_is_never_0(self) -> None:
        assert sign_flip_p([0.1] * 40) == 1e-4

    @pytest.mark.parametrize("pairs", [1, 2, 6, 13])
    def test_smallest_p(self, pairs: int) -> None:
        assert sign_flip_p([0.1] * pairs) == 2 / 2**pairs

    def test_nothing_differs(self) -> None:
        assert sign_flip_p([0.0] * 10) == 1.0

    def test_refuses(self) -> None:
        with pytest.raises(ValueError, match=r"differences: values\[1\] is nan"):
            sign_flip_p([0.1, math.nan])
        with pytest.raises(ValueError, match="one or more"):
            sign_flip_p([])


class TestHolm:
    def test_worked_example(self) -> None:
        assert holm((0.01, 0.04, 0.03, 0.005)) == pytest.approx([0.03, 0.06, 0.06, 0.02], abs=1e-15)

    def test_edges(self) -> None:
        assert holm([]) == []
        assert holm([0.3]) == [0.3]
        assert holm([0.9, 0.6, 1.0]) == [1.0, 1.0, 1.0]
        assert holm([0.02, 0.02]) == [0.04, 0.04]

    @given(st.lists(st.floats(0, 1), max_size=12))
    def test_properties(self, p: list[float]) -> None:
        corrected = holm(p)
        assert all(0 <= before <= after <= 1 for before, after in zip(p, corrected, strict=True))
        assert [corrected[i] for i in np.argsort(p)] == sorted(corrected)
        assert not p or min(corrected) == min(1.0, len(p) * min(p))

    def test_seeds_needed_by_search(self) -> None:
        for comparisons in range(1, 501):
            expected = next(n for n in range(1, 99) if comparisons * 2 / 2**n <= 0.05)
            assert seeds_needed(comparisons) == expected


RELU = (0.90, 0.91, 0.89, 0.92, 0.90, 0.88, 0.91, 0.90, 0.89, 0.92)


def shifted(*points: float, base: Sequence[float] = RELU) -> list[float]:
    return [share + point / 100 for share, point in zip(base, points, strict=True)]


class TestCompare:
    def test_numbers_by_hand(self) -> None:
        points = (1.0, -0.5, 1.0, 0.0, 2.0, 1.5, 0.5, 0.0, 1.0, 1.5)
        result = compare_to_baseline("accuracy", RELU, {"sugar": shifted(*points)})["sugar"]
        assert result.difference == pytest.approx(0.008, abs=1e-15)
        # In halves of a point: 16 of at most 18. Apart from the two 0s, 16 is reached by all of one sign, or all but one
        # of the two 1s: 3 ways in either direction, of 2^8.
        assert (result.wins, result.ties, result.losses) == (7, 2, 1)
        assert result.effect_size == pytest.approx(0.8 / math.sqrt(sum((x - 0.8) ** 2 for x in points) / 9))
        assert result.p == result.p_holm == by_enumeration([int(2 * x) for x in points]) == 6 / 256
        low, high = scipy_interval([2 * x for x in points])
        assert (result.low, result.high) == pytest.approx((low / 200, high / 200), abs=1e-11)

    def test_higher(self) -> None:
        points = (1.0, 0.5, 1.0, 0.5, 2.0, 1.5, 0.5, 0.5, 1.0, 1.5)
        result = compare_to_baseline("accuracy", RELU, {"sugar": shifted(*points)}, baseline="relu")["sugar"]
        assert result.verdict == "higher"
        assert result.sentence == (
            "sugar: test accuracy is higher than relu's by 1.0 points, 95 % interval 0.8 to 1.4, "
            "p = 0.002 after Holm's correction (10 seeds)"
        )

    def test_lower_turns_the_interval_round(self) -> None:
        points = (-9, -12, -15, -10, -11, -13, -12, -14, -12, -13)
        for metric, opening in (
            ("silent", "fewer silent units than relu, by 12.1 points of all units"),
            ("accuracy", "test accuracy is lower than relu's by 12.1 points"),
        ):
            result = compare_to_baseline(metric, RELU, {"sugar": shifted(*points)}, baseline="relu")["sugar"]
            assert result.verdict == "lower"
            assert result.low < result.high < 0
            assert result.sentence == (
                f"sugar: {opening}, 95 % interval 11.0 to 13.1, p = 0.002 after Holm's correction (10 seeds)"
            )

    def test_more_silent_units(self) -> None:
        result = compare_to_baseline("silent", RELU, {"gelu": shifted(*range(1, 9), 1, 2)}, baseline="relu")["gelu"]
        assert result.sentence.startswith("gelu: more silent units than relu, by 3.9 points of all units, ")

    def test_none_says_what_remains_possible(self) -> None:
        points = (1.0, -0.5, 1.0, -2.0, 2.0, 1.5, -0.5, 0.0, -1.0, 0.5)
        result = compare_to_baseline("accuracy", RELU, {"sugar": shifted(*points)}, baseline="relu")["sugar"]
        assert result.verdict == "none"
        assert result.sentence == (
            "sugar: no difference detected with 10 seeds between its test accuracy and relu's: mean difference 0.2 points, "
            "compatible with anything from -0.6 to 0.9 (95 % interval), p = 0.7 after Holm's correction"
        )

    def test_cannot_tell_says_how_many_seeds_it_takes(self) -> None:
        values = {name: shifted(*[1.0, 2.0, 1.0, 3.0, 2.0, 1.0, 2.0], base=RELU[:7]) for name in "abcd"}
        result = compare_to_baseline("accuracy", RELU[:7], values, baseline="relu")["a"]
        assert (result.p, result.p_holm, result.verdict) == (2 / 128, 8 / 128, "cannot tell")
        assert result.sentence == (
            "a: cannot tell with 7 seeds: test accuracy differs from relu's by 1.7 points on average, "
            "but a verdict on 4 comparisons takes 8 seeds or more"
        )
        # one comparison fewer, and the same numbers are enough
        del values["d"]
        assert compare_to_baseline("accuracy", RELU[:7], values)["a"].verdict == "higher"

    def test_one_seed(self) -> None:
        result = compare_to_baseline("silent", [0.2], {"sugar": [0.1]}, baseline="relu")["sugar"]
        assert (result.low, result.high, result.p, result.effect_size) == (None, None, 1.0, None)
        assert result.verdict == "cannot tell"
        assert result.sentence == (
            "sugar: cannot tell with 1 seed: share of silent units differs from relu's by -10.0 points of all units "
            "on average, but a verdict on 1 comparison takes 6 seeds or more"
        )

    def test_identical(self) -> None:
        result = compare_to_baseline("accuracy", RELU, {"barelu": list(RELU)}, baseline="leakyrelu")["barelu"]
        assert (result.difference, result.low, result.high, result.p, result.p_holm) == (0.0, 0.0, 0.0, 1.0, 1.0)
        assert (result.effect_size, result.wins, result.ties, result.losses) == (None, 0, 10, 0)
        assert result.verdict == "none"
        assert result.sentence == "barelu: its test accuracy and leakyrelu's are identical on all 10 seeds"

    def test_identical_is_said_with_any_number_of_seeds(self) -> None:
        result = compare_to_baseline("silent", [0.0], {"sugar": [0.0], "gelu": [0.0]}, baseline="relu")["sugar"]
        assert result.verdict == "cannot tell"
        assert result.sentence == (
            "sugar: its share of silent units and relu's are identical on the one seed, "
            "but a verdict on 2 comparisons takes 7 seeds or more"
        )

    def test_no_negative_0(self) -> None:
        assert ACCURACY.differences(0.01, -1e-4, -0.0) == ["1.0", "0.0", "0.0"]

    def test_a_last_bit_above_1_is_a_share(self) -> None:
        result = compare_to_baseline("silent", [1.0] * 6, {"sugar": [math.nextafter(1.0, 2.0)] * 6})["sugar"]
        assert result.ties == 6

    def test_rounding_is_no_difference(self) -> None:
        result = compare_to_baseline("silent", [0.3] * 8, {"sugar": [0.1 + 0.2] * 8})["sugar"]
        assert (result.ties, result.difference, result.verdict) == (8, 0.0, "none")

    def test_equal_differences_have_no_effect_size(self) -> None:
        # 3 samples of 360 more on every seed: naively, rounding makes a deviation of 1e-17 and so a d_z of 1e14
        counts = range(40, 360, 32)
        base, other = ([(count + more) / 360 for count in counts] for more in (0, 3))
        assert np.ptp(np.subtract(other, base)) > 0
        result = compare_to_baseline("accuracy", base, {"sugar": other})["sugar"]
        assert result.effect_size is None
        assert result.low == result.high == result.difference == pytest.approx(1 / 120)
        assert result.verdict == "higher"

    def test_small_differences_show_their_digits(self) -> None:
        points = (0.02, 0.03, 0.04, 0.03, 0.02, 0.03, 0.04, 0.03, 0.02, 0.03)
        result = compare_to_baseline("accuracy", RELU, {"sugar": shifted(*points)})["sugar"]
        assert "by 0.03 points, 95 % interval 0.02 to 0.03, p = 0.002" in result.sentence

    def test_many_seeds(self) -> None:
        base = np.random.default_rng(0).uniform(0.4, 0.5, 30)
        result = compare_to_baseline("accuracy", base.tolist(), {"sugar": (base + base / 9).tolist()})["sugar"]
        assert result.p == 1e-4
        assert "p < 0.001" in result.sentence

    def test_holm_over_the_activations(self) -> None:
        rng = np.random.default_rng(1)
        values = {name: np.clip(RELU + rng.normal(0.01, 0.01, 10), 0, 1).tolist() for name in "edcba"}
        results = compare_to_baseline("accuracy", RELU, values)
        assert list(results) == list("edcba")
        assert [r.p_holm for r in results.values()] == holm([r.p for r in results.values()])

    def test_no_activations(self) -> None:
        assert compare_to_baseline("accuracy", RELU, {}) == {}

    def test_plain_data(self) -> None:
        result = compare_to_baseline("accuracy", np.array(RELU), {"sugar": np.array(RELU) + 0.01})["sugar"]
        assert {type(value) for value in asdict(result).values()} <= {float, int, str, type(None)}
        assert Comparison(**json.loads(json.dumps(asdict(result)))) == result

    def test_refuses(self) -> None:
        with pytest.raises(
            ValueError, match="name of a metric must be a word of letters, digits and _, not 'the speed'"
        ):
            compare_to_baseline("the speed", RELU, {})
        for margin in (0.0, -1.0, math.inf, math.nan):
            with pytest.raises(ValueError, match=f"the margin must be a number above 0, not {margin}"):
                compare_to_baseline("speed", RELU, {"sugar": RELU}, margin=margin)
        with pytest.raises(ValueError, match=r"sugar: values\[1\] is nan"):
            compare_to_baseline("accuracy", RELU[:2], {"sugar": [0.9, math.nan]})
        with pytest.raises(ValueError, match=r"relu: values\[0\] is inf"):
            compare_to_baseline("accuracy", [math.inf], {}, baseline="relu")
        with pytest.raises(ValueError, match=r"sugar: values\[0\] is 93.0; shares lie in \[0, 1\]"):
            compare_to_baseline("accuracy", RELU[:2], {"sugar": [93.0, 94.0]})
        with pytest.raises(ValueError, match="sugar has 2 values, the baseline 10; runs are paired by seed"):
            compare_to_baseline("accuracy", RELU, {"sugar": [0.9, 0.9]})
        with pytest.raises(ValueError, match="one or more"):
            compare_to_baseline("accuracy", [], {"sugar": []})
        with pytest.raises(ValueError, match="501 comparisons"):
            compare_to_baseline("accuracy", [0.5], {str(i): [0.5] for i in range(501)})

    @given(pairs_of_counts, st.randoms())
    @settings(max_examples=60, deadline=None)
    def test_properties(self, counted: tuple[int, list[tuple[int, int]]], random) -> None:
        n, counts = counted
        base, other = ([count / n for count in side] for side in zip(*counts, strict=True))
        result = compare_to_baseline("accuracy", base, {"a": other, "b": base})["a"]

        steps = [k - j for j, k in counts]
        assert result.p == by_enumeration(steps)
        assert result.p_holm >= result.p
        assert (result.wins, result.losses) == (sum(k > 0 for k in steps), sum(k < 0 for k in steps))
        assert (result.effect_size is None) == (len(set(steps)) == 1)
        assert result.low - 1e-12 <= result.difference <= result.high + 1e-12

        order = random.sample(range(len(base)), len(base))
        base_, other_ = ([side[i] for i in order] for side in (base, other))
        shuffled = compare_to_baseline("accuracy", base_, {"a": other_, "b": base_})["a"]
        assert shuffled == Comparison(**{**asdict(result), "effect_size": shuffled.effect_size})
        assert shuffled.effect_size == (result.effect_size and pytest.approx(result.effect_size))

        swapped = compare_to_baseline("accuracy", other, {"a": base, "b": other})["a"]
        assert swapped.difference == -result.difference
        assert swapped.p == result.p
        assert swapped.verdict == {"higher": "lower", "lower": "higher"}.get(result.verdict, result.verdict)


class TestCurve:
    def test_quartiles(self) -> None:
        runs = [[1.0, 5.0], [2.0, 4.0], [3.0, 3.0], [4.0, 2.0], [10.0, 1.0]]
        assert curve(runs) == Curve(median=[3.0, 3.0], low=[2.0, 2.0], high=[4.0, 4.0])

    def test_diverged_runs(self) -> None:
        runs = [[1.0, 2.0, None, None], [3.0], [5.0, 4.0, math.inf, 7.0], [math.nan, -math.inf, None]]
        assert curve(runs) == Curve(median=[3.0, 3.0, None, 7.0], low=[2.0, 2.5, None, 7.0], high=[4.0, 3.5, None, 7.0])

    def test_nothing(self) -> None:
        assert curve([]) == curve([[], []]) == Curve(median=[], low=[], high=[])
        assert curve([[None], [math.nan]]) == Curve(median=[None], low=[None], high=[None])

    def test_plain_data(self) -> None:
        line = curve([np.array([0.25, 0.5]), np.array([0.75, 1.0])])
        assert json.loads(json.dumps(asdict(line))) == asdict(line)
        assert {type(value) for value in line.median} == {float}


class TestSimulatedSweeps:
    """Sweeps as the lab makes them: accuracies on 360 test samples, 10 seeds, and a seed's effect shared by its runs."""

    SEEDS = 10

    @pytest.fixture(autouse=True)
    def no_intervals(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Verdicts do not depend on the intervals, which take half of the time."""
        monkeypatch.setattr(paired, "interval", lambda values: (min(values), max(values)))

    def sweep(self, rng: np.random.Generator, shifts: Sequence[float]) -> dict[str, Comparison]:
        """Runs deviate from their seed's mean by 0.008, so differences of two by 0.0113; shifts are in units of that."""
        seed_effect = rng.normal(0.95, 0.01, self.SEEDS)
        runs = [
            np.round(np.clip(seed_effect + rng.normal(0, 0.008, self.SEEDS) + shift * 0.0113, 0, 1) * 360) / 360
            for shift in (0.0, *shifts)
        ]
        return compare_to_baseline("accuracy", runs[0], {str(i): run for i, run in enumerate(runs[1:])})

    def test_no_false_discoveries_beyond_the_level(self) -> None:
        rng = np.random.default_rng(2026)
        sweeps = [self.sweep(rng, [0.0] * 5).values() for _ in range(400)]
        margin = 2 * math.sqrt(0.05 * 0.95 / len(sweeps))
        higher = np.mean([any(r.verdict == "higher" for r in sweep) for sweep in sweeps])
        either = np.mean([any(r.verdict in ("higher", "lower") for r in sweep) for sweep in sweeps])
        assert higher <= 0.05 + margin
        assert either <= 0.05 + margin
        # neither is the test so careful that it never speaks, nor the simulation so tame that Holm's correction is idle
        assert either >= 0.015
        assert np.mean([any(r.p <= 0.05 for r in sweep) for sweep in sweeps]) > 0.1

    def test_finds_a_shift_of_one_deviation(self) -> None:
        rng = np.random.default_rng(7)
        found = [self.sweep(rng, [1.0])["0"].verdict == "higher" for _ in range(200)]
        assert np.mean(found) > 0.7

    def test_finds_a_large_shift_among_five(self) -> None:
        rng = np.random.default_rng(8)
        sweeps = [self.sweep(rng, [-2.0, 0.0, 0.0, 0.0, 0.0]) for _ in range(100)]
        assert np.mean([sweep["0"].verdict == "lower" for sweep in sweeps]) > 0.9


class TestAggregates:
    """Against resamples that are all counted, where they are few enough for that."""

    def test_interquartile_mean_by_hand(self) -> None:
        assert interquartile_mean([[9.0, 1.0, 3.0, 100.0]]).value == 6.0
        # Ten runs of two tasks together: two are left out on each side.
        assert interquartile_mean([[1.0, 2.0, 3.0, 4.0, 5.0], [6.0, 7.0, 8.0, 9.0, 100.0]]).value == 5.5
        assert interquartile_mean([[2.0]]) == Interval(2.0, 2.0, 2.0, 1)

    def test_its_interval_is_that_of_all_resamples_by_task(self) -> None:
        tasks = [[0.1, 0.4, 0.9], [0.3, 0.5, 2.0]]
        means = [
            np.sort([*first, *second])[1:-1].mean()
            for first in itertools.product(tasks[0], repeat=3)
            for second in itertools.product(tasks[1], repeat=3)
        ]
        found = interquartile_mean(tasks)
        # 9999 draws place a quantile to about 0.002 of probability.
        assert np.mean(np.array(means) < found.low - 1e-9) <= 0.025 + 0.006
        assert np.mean(np.array(means) <= found.low + 1e-9) >= 0.025 - 0.006
        assert np.mean(np.array(means) <= found.high + 1e-9) >= 0.975 - 0.006
        assert np.mean(np.array(means) < found.high - 1e-9) <= 0.975 + 0.006

    def test_a_task_keeps_its_number_of_runs(self) -> None:
        """Two tasks of equal runs: resampling within each changes nothing, resampling all together would."""
        assert interquartile_mean([[0.0] * 4, [1.0] * 4]) == Interval(0.5, 0.5, 0.5, 8)

    @settings(max_examples=20, deadline=None)
    @given(
        st.lists(
            st.tuples(*[st.lists(st.integers(0, 4).map(float), min_size=1, max_size=5)] * 2), min_size=1, max_size=3
        )
    )
    def test_probability_of_improvement_by_pairs(self, tasks: list[tuple[list[float], list[float]]]) -> None:
        by_task = [np.mean([(x > y) + 0.5 * (x == y) for x in own for y in other]) for own, other in tasks]
        found = probability_of_improvement([own for own, _ in tasks], [other for _, other in tasks])
        assert found.value == pytest.approx(np.mean(by_task))
        assert 0 <= found.low <= found.high <= 1

    def test_its_interval_is_that_of_all_resamples(self) -> None:
        own, other = [1.0, 4.0, 6.0], [2.0, 4.0, 3.0]
        chances = np.array(
            [
                np.mean([(x > y) + 0.5 * (x == y) for x in xs for y in ys])
                for xs in itertools.product(own, repeat=3)
                for ys in itertools.product(other, repeat=3)
            ]
        )
        found = probability_of_improvement([own], [other])
        for end, level in ((found.low, 0.025), (found.high, 0.975)):
            assert np.mean(chances < end - 1e-9) <= level + 0.006
            assert np.mean(chances <= end + 1e-9) >= level - 0.006

    def test_a_run_against_itself_and_far_above(self) -> None:
        scores = [0.3, 0.1, 0.7, 0.5]
        assert probability_of_improvement([scores], [scores]).value == 0.5
        assert probability_of_improvement([[2.0, 3.0]], [scores]) == Interval(1.0, 1.0, 1.0, 2)

    def test_the_order_of_the_runs_is_of_no_account(self) -> None:
        assert interquartile_mean([[3.0, 1.0, 2.0, 5.0]]) == interquartile_mean([[5.0, 2.0, 1.0, 3.0]])

    @pytest.mark.parametrize("tasks", [[], [[]], [[math.nan]], [[0.5], []]])
    def test_what_cannot_be_aggregated(self, tasks: list[list[float]]) -> None:
        with pytest.raises(ValueError, match="task"):
            interquartile_mean(tasks)
        with pytest.raises(ValueError, match="task"):
            probability_of_improvement([[1.0]], tasks)
