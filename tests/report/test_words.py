"""Numbers, names and the lead sentence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from undying.lab.results import Results
from undying.report.words import MISSING, lead, percent, points, probability, ratio, signed


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_not_known_is_a_dash(value: float | None) -> None:
    assert percent(value) == points(value) == signed(value) == ratio(value) == MISSING


def test_a_zero_has_no_sign() -> None:
    assert points(-0.0) == points(0.0) == "0.0"
    assert points(-0.02) == "−2.0"
    assert points(-0.00001) == "−0.001"  # small, but not nothing


def test_probabilities() -> None:
    assert [probability(p) for p in (1.0, 0.05, 0.001, 0.0009, math.nan)] == [
        "1.000",
        "0.050",
        "0.001",
        "< 0.001",
        MISSING,
    ]


def verdicts(results: Results, accuracy: list[str], silent: list[str]) -> Results:
    others = [
        replace(
            activation,
            comparisons={
                metric: replace(activation.comparisons[metric], verdict=verdict)
                for metric, verdict in (("accuracy", own), ("silent", quiet))
            },
        )
        for activation, own, quiet in zip(results.activations[1:], accuracy, silent, strict=False)
    ]
    return replace(results, activations=[results.baseline, *others])


@pytest.mark.parametrize(
    ("accuracy", "silent", "expected"),
    [
        ([], [], "Only ReLU was trained, so there is nothing to compare it with."),
        (
            ["higher"],
            ["lower"],
            "In place of ReLU, leaky_relu reached a higher test accuracy and had fewer silent units.",
        ),
        (["none"], ["none"], "In place of ReLU, leaky_relu showed no detectable difference in test accuracy."),
        (
            ["higher", "lower", "none", "cannot tell"],
            ["lower", "higher", "none", "cannot tell"],
            "Of 4 activations tried in place of ReLU, 1 reached a higher test accuracy, 1 a lower one, 1 showed no detectable "
            "difference in it and 1 had too few seeds for a verdict. 1 had fewer silent units and 1 had more silent units.",
        ),
        (
            ["lower", "lower"],
            ["lower", "lower"],
            "Both activations tried in place of ReLU reached a lower test accuracy. Both had fewer silent units.",
        ),
        (
            ["cannot tell", "cannot tell", "cannot tell"],
            ["lower", "lower", "lower"],
            "All 3 activations tried in place of ReLU had too few seeds for a verdict. All 3 had fewer silent units.",
        ),
        (
            ["none", "cannot tell"],
            ["none", "none"],
            "Of 2 activations tried in place of ReLU, 1 showed no detectable difference in test accuracy and 1 had too few seeds for a verdict.",
        ),
    ],
)
def test_lead(results: Results, accuracy: list[str], silent: list[str], expected: str) -> None:
    assert lead(verdicts(results, accuracy, silent)) == expected


def test_lead_names_another_baseline(make_results: Callable[..., Results]) -> None:
    assert "in place of gelu" in lead(make_results(["gelu", "relu", "silu"]))
