"""One number of a run that somebody else trained, and where it was read."""

from __future__ import annotations

import math
from dataclasses import dataclass

from undying._base.errors import UndyingError


@dataclass(frozen=True)
class Value:
    """One number of one run."""

    arm: str
    seed: int
    metric: str
    """As its file spells it."""
    value: float
    step: float | None
    """When it was measured; None: once, at the end."""
    place: str
    """Where it was read, for messages: ``scores.csv, line 7``."""


def seed_of(word: str, place: str) -> int:
    """A seed. Tools that know no missing whole numbers write 3 as 3.0.

    >>> seed_of("3.0", "scores.csv, line 2")
    3

    Raises:
        UndyingError: it is no whole number.
    """
    if word.isdecimal():
        return int(word)
    number = number_of(word, "seed", place)
    if not number.is_integer():
        raise UndyingError(f"{place}: the seed must be a whole number, not {word!r}; runs are paired by seed")
    return int(number)


def number_of(word: str, what: str, place: str) -> float:
    """A number, also nan or inf.

    Raises:
        UndyingError: it is none.
    """
    try:
        if "_" in word:  # which Python takes between digits
            raise ValueError
        return float(word)
    except ValueError:
        raise UndyingError(f"{place}: {what} must be a number, not {word!r:.40}") from None


def step_of(word: str, place: str) -> float:
    """A step or epoch, a finite number.

    Raises:
        UndyingError: it is none.
    """
    step = number_of(word, "step", place)
    if not math.isfinite(step):
        raise UndyingError(f"{place}: step must be a finite number, not {word!r}")
    return step
