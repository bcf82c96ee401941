"""What is said of numbers: plain frozen records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from undying.statistics.interval import Interval


@dataclass(frozen=True)
class Summary:
    """One number a run, over the runs of one activation."""

    values: Sequence[float]
    """In the order of the seeds."""
    mean: float
    low: float | None
    """95 % BCa bootstrap interval of the mean; None with a single run."""
    high: float | None
    iqm: float
    """Interquartile mean."""

    @property
    def interval(self) -> Interval:
        """Of the mean."""
        return Interval(self.mean, self.low, self.high, len(self.values))


@dataclass(frozen=True)
class Comparison:
    """One metric of an activation against the baseline, paired by seed."""

    difference: float
    """Mean of (activation - baseline)."""
    low: float | None
    """95 % BCa bootstrap interval of the mean difference; None with a single pair."""
    high: float | None
    p: float
    """Two-sided paired permutation test."""
    p_holm: float
    """p after Holm's correction over the activations compared on this metric."""
    effect_size: float | None
    """Mean difference over its standard deviation (Cohen's d_z); None where the deviation is 0."""
    wins: int
    ties: int
    losses: int
    verdict: str
    """``"higher"``, ``"lower"``, ``"equal"`` (within the margin), ``"none"`` (no difference detected) or ``"cannot tell"``
    (too few seeds)."""
    sentence: str
    """The verdict in plain words."""
    margin: float | None = None
    """The smallest difference that matters, where one was named."""
    p_equal: float | None = None
    """Of the two one-sided tests that the difference is smaller than the margin, after Holm's correction."""


@dataclass(frozen=True)
class Curve:
    """One number an epoch: median over the runs, with the quartiles. None where no run has a finite value."""

    median: Sequence[float | None]
    low: Sequence[float | None]
    high: Sequence[float | None]
    steps: Sequence[float] | None = None
    """When each was measured; None: epochs from 0, which is before training."""
