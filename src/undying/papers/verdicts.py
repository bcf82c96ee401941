"""From paired differences to one of four verdicts on a claim, by rules that are the same for every table.

A difference is taken run by run of the same seed: arm minus the arm it is compared with. ``MARGIN`` is the smallest
difference that matters, one percentage point.

    the claim says   supported if it is shown that   not supported if it is shown that
    higher           the difference is above 0       it is below +MARGIN
    lower            it is below 0                   it is above -MARGIN
    not worse        it is above -MARGIN             it is below -MARGIN
    no gain          it is below +MARGIN             it is above +MARGIN

Shown means: a one-sided paired t-test with p at most 0.05 after Holm's correction over all claims of the table
that are not true by construction, for each of the two columns above. Where both are shown, of a difference above 0 and below the margin, it is supported. What is neither
cannot be told at this scale; nor can a claim of lower where the other arm has less than MARGIN of the metric itself,
since there is nothing to lower.

Why Student's t and not the lab's exact test: with five seeds, the published number, the exact test cannot come below
0.0625 whatever the runs say. The t-test can, at the price of the assumption that differences are about normal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from undying.statistics.interval import Interval
from undying.statistics.permutation import holm

MARGIN = 0.01
LEVEL = 0.05
FEWEST = 3
"""Pairs, below which nothing is shown: two can agree by chance."""

SUPPORTED, NOT_SUPPORTED = "supported", "not supported"
CANNOT_TELL, BY_CONSTRUCTION = "cannot tell at this scale", "true by construction"
NOT_YET = "not run yet"
"""In the place of a verdict, where runs are planned that would tell."""

# What shows a claim, and what refutes it: the side on which the difference lies, and of which threshold.
_RULES: dict[str, tuple[tuple[str, float], tuple[str, float]]] = {
    "higher": (("above", 0.0), ("below", MARGIN)),
    "lower": (("below", 0.0), ("above", -MARGIN)),
    "not worse": (("above", -MARGIN), ("below", -MARGIN)),
    "no gain": (("below", MARGIN), ("above", MARGIN)),
}
SAYS = tuple(_RULES)
"""What a claim can say."""


def estimate(values: Sequence[float]) -> Interval:
    """Mean of one finite number a seed, with its 95 % interval of Student's t; fewer than three have none.

    >>> e = estimate([0.02, 0.03, 0.04])
    >>> round(e.value, 4), round(e.low, 4), round(e.high, 4)
    (0.03, 0.0052, 0.0548)
    """
    mean, error = _moments(values)
    if len(values) < FEWEST:
        return Interval(mean, None, None, len(values))
    reach = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return Interval(mean, mean - reach, mean + reach, len(values))


def p_beyond(values: Sequence[float], side: str, threshold: float) -> float:
    """One-sided p-value of the t-test that the mean lies ``"above"`` or ``"below"`` ``threshold``; 1 for fewer than three
    values.

    >>> round(p_beyond([0.02, 0.03, 0.04], "above", 0.0), 4)
    0.0175
    """
    if len(values) < FEWEST:
        return 1.0
    mean, error = _moments(values)
    distance = mean - threshold if side == "above" else threshold - mean
    if error == 0:  # all values equal
        return 0.0 if distance > 0 else 1.0
    return float(stats.t.sf(distance / error, len(values) - 1))


def judge(claims: Sequence[tuple[str, Sequence[float]]]) -> list[str]:
    """The verdict on each claim of a table.

    Args:
        claims: for each what it says, one of ``SAYS``, and its paired differences by seed, in shares. None are given for a
            claim without runs; it counts in Holm's correction all the same, so that a verdict does not change its level
            as runs come in.
    """
    shown = holm([p_beyond(values, *_RULES[says][0]) for says, values in claims])
    refuted = holm([p_beyond(values, *_RULES[says][1]) for says, values in claims])
    return [
        SUPPORTED if for_it <= LEVEL else NOT_SUPPORTED if against <= LEVEL else CANNOT_TELL
        for for_it, against in zip(shown, refuted, strict=True)
    ]


def _moments(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error, which is 0 for a single value."""
    array = np.asarray(values, dtype=np.float64)
    # Shares are counts over counts: what differs by rounding alone is equal.
    deviation = float(np.std(array, ddof=1)) if np.ptp(array) > 1e-12 else 0.0
    return math.fsum(values) / len(values), deviation / math.sqrt(len(values))
