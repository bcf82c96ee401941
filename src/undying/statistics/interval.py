"""A number with its 95 % interval, and the one way to write it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A number over some runs, with its 95 % interval; all in one unit."""

    value: float
    low: float | None
    """None, like ``high``, where there are too few runs for an interval."""
    high: float | None
    n: int
    """Number of runs, or of pairs of them."""

    def in_words(self, number: Callable[[float], str], ends: str = " ({} to {})") -> str:
        """The number and, where there is one, its interval.

        Args:
            number: how a number is written.
            ends: what is written of the ends of the interval.

        >>> Interval(0.5, 0.4, 0.6, 3).in_words("{:.1f}".format), Interval(0.5, None, None, 1).in_words("{:.2f}".format)
        ('0.5 (0.4 to 0.6)', '0.50')
        """
        if self.low is None or self.high is None:
            return number(self.value)
        return f"{number(self.value)}{ends.format(number(self.low), number(self.high))}"
