"""The sentences for a paper say what was done, and cite no more than that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import scipy

from undying.lab.results import Results
from undying.report.method import method


def test_it_names_seeds_tests_correction_intervals_and_versions(results: Results) -> None:
    said = method(results)
    for words in (
        "mlp was trained on digits with 6 activations and 10 seeds each, 15 epochs a run",
        "95 % BCa bootstrap intervals (Efron 1987)",
        "10 pairs of runs with the same seed",
        "exact: all flips are counted",
        "(Holm 1979) over 5 comparisons of test accuracy, and over 5 comparisons of silent units apart",
        f"undying 0.1.0, SciPy {scipy.__version__}, PyTorch 2.14.1 and Python 3.11.2",
    ):
        assert words in said.text, words
    assert [reference.partition(",")[0] for reference in said.references] == ["B. Efron", "S. Holm"]


def test_with_many_seeds_the_flips_are_drawn(make_results: Callable[..., Results]) -> None:
    said = method(make_results(("relu", "gelu"), seeds=14, epochs=1))
    assert "9999 random flips and the observed one, Phipson & Smyth 2010" in said.text
    assert len(said.references) == 3


def test_a_margin_is_told_with_its_test(results: Results) -> None:
    others = [
        replace(other, comparisons={name: replace(c, margin=0.01) for name, c in other.comparisons.items()})
        for other in results.activations[1:]
    ]
    said = method(replace(results, activations=[results.baseline, *others]))
    assert "two one-sided permutation tests (Schuirmann 1987) show their difference to be below 1.0 points" in said.text


def test_what_was_not_compared_is_not_told(make_results: Callable[..., Results]) -> None:
    said = method(make_results(("relu",), seeds=1, epochs=1))
    assert "permutation" not in said.text
    assert "1 epoch a run" in said.text
