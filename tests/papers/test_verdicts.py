"""The rules of a verdict on planted effects, on none, and against scipy's own tests."""

import numpy as np
import pytest
from scipy import stats

from undying.papers.verdicts import (
    CANNOT_TELL,
    MARGIN,
    NOT_SUPPORTED,
    SAYS,
    SUPPORTED,
    estimate,
    judge,
    p_beyond,
)

DRAW = np.random.default_rng(0)


def around(mean, deviation=0.002, n=5):
    """Differences whose mean and deviation are exactly these."""
    noise = DRAW.normal(size=n)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    return (mean + deviation * noise).tolist()


@pytest.mark.parametrize("threshold", [0.0, MARGIN, -MARGIN])
def test_p_and_interval_are_scipys(threshold):
    for n in (3, 5, 20):
        values = DRAW.normal(0.005, 0.01, n).tolist()
        for side, word in (("above", "greater"), ("below", "less")):
            expected = stats.ttest_1samp(values, threshold, alternative=word).pvalue
            assert p_beyond(values, side, threshold) == pytest.approx(expected, rel=1e-9)
        low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        found = estimate(values)
        assert (found.low, found.high, found.n) == (pytest.approx(low), pytest.approx(high), n)


@pytest.mark.parametrize(
    ("says", "mean", "verdict"),
    [
        ("higher", 0.05, SUPPORTED),
        ("higher", 0.005, SUPPORTED),  # small, and still shown to be above 0
        ("higher", 0.0, NOT_SUPPORTED),  # shown to be below a point
        ("higher", -0.05, NOT_SUPPORTED),
        ("lower", -0.05, SUPPORTED),
        ("lower", 0.0, NOT_SUPPORTED),
        ("lower", 0.05, NOT_SUPPORTED),
        ("not worse", 0.0, SUPPORTED),
        ("not worse", 0.05, SUPPORTED),
        ("not worse", -0.05, NOT_SUPPORTED),
        ("not worse", -0.01, CANNOT_TELL),
        ("no gain", 0.0, SUPPORTED),
        ("no gain", -0.05, SUPPORTED),
        ("no gain", 0.05, NOT_SUPPORTED),
        ("no gain", 0.01, CANNOT_TELL),
    ],
)
def test_a_planted_effect_is_found(says, mean, verdict):
    assert judge([(says, around(mean))]) == [verdict]


@pytest.mark.parametrize("says", SAYS)
def test_noise_and_few_pairs_cannot_tell(says):
    assert judge([(says, around(0.005, deviation=0.05))]) == [CANNOT_TELL]
    assert judge([(says, [0.05, 0.06]), (says, []), (says, [-0.05])]) == [CANNOT_TELL] * 3


def test_equal_differences_are_certain_and_rounding_is_none():
    assert judge([("higher", [0.02] * 5), ("higher", [0.0] * 5), ("not worse", [0.1 + 0.2 - 0.3] * 3)]) == [
        SUPPORTED,
        NOT_SUPPORTED,
        SUPPORTED,
    ]
    third = [1 / 3 - 0.3, 10 / 30 - 0.3, 0.1 / 0.3 - 0.3]
    assert len(set(third)) > 1
    assert p_beyond(third, "above", 0.0) == 0.0


def test_every_claim_counts_in_the_correction_with_runs_or_without():
    # p is about 0.02: enough for one claim, not for ten.
    values = around(0.01, deviation=0.01 * 5**0.5 / 3)
    assert 0.01 < p_beyond(values, "above", 0.0) < 0.05
    assert judge([("higher", values)]) == [SUPPORTED]
    assert judge([("higher", values), *[("higher", [])] * 9])[0] == CANNOT_TELL


def test_with_no_effect_hardly_any_table_supports_anything():
    """Family-wise: at most 5 % of tables may have even one false support. 400 tables of 8 claims, 5 seeds."""
    draw = np.random.default_rng(1)
    false = sum(
        SUPPORTED in judge([("higher", row) for row in draw.normal(0, 0.01, (8, 5)).tolist()]) for _ in range(400)
    )
    assert false <= 400 * 0.05 + 3 * (400 * 0.05 * 0.95) ** 0.5
    assert false >= 1  # the test can fail: the level is used


def test_a_large_effect_among_none_is_found():
    claims = [("higher", around(0.1, 0.01)), *[("higher", around(0.0, 0.05)) for _ in range(7)]]
    assert judge(claims) == [SUPPORTED, *[CANNOT_TELL] * 7]
