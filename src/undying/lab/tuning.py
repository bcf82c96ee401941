"""Each arm at its own best point of a grid, chosen on data that are held out of the training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from undying.lab import grid
from undying.lab.grid import Point
from undying.lab.results import Comparison, Summary
from undying.lab.runs.kind import Run


@dataclass(frozen=True)
class Tried:
    """One point of the grid for one arm."""

    point: Point
    validation: float
    """Mean score on what is held out, over the seeds that all points of the arm have."""
    score: Summary
    """On the test data, over all its finished runs; no choice is made by it."""
    diverged: int


@dataclass(frozen=True)
class Tuned:
    """One arm."""

    chosen: Point
    """The point that is best by ``Tried.validation``; the first of those that are equal."""
    add: Point
    """Of the options whose chosen value lies at an end of the grid, the value to add."""
    tried: Sequence[Tried]
    """Every point, in the order of the grid."""
    at_shared: Summary
    """Its score at the point that all arms share."""
    comparison: Comparison | None
    """With the baseline, both at that point."""


@dataclass(frozen=True)
class Tuning:
    """What a grid gave."""

    options: Mapping[str, Sequence[float]]
    shared: Point
    """The one point for all: that with the best mean over the arms on what is held out."""
    arms: Mapping[str, Tuned]
    """By name, those with a run at each point."""


def best(validation: Sequence[float], higher_is_better: bool) -> int:
    """The place of the best; the first of those that are equal.

    >>> best([0.1, 0.3, 0.3], True), best([0.1, 0.3, 0.3], False)
    (1, 0)
    """
    return (max if higher_is_better else min)(range(len(validation)), key=lambda place: validation[place])


def seeds_of_all(runs: Sequence[Sequence[Run]]) -> set[int]:
    """Those that every point of an arm has."""
    return set.intersection(*({run.config.seed for run in of} for of in runs))


def to_add(options: Mapping[str, Sequence[float]], chosen: Point) -> Point:
    """Of each option whose chosen value lies at an end, the value beyond."""
    found = {option: grid.beyond(values, chosen[option]) for option, values in options.items()}
    return {option: value for option, value in found.items() if value is not None}
