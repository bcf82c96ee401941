"""Time callables against each other: interleaved rounds, and ratios taken within a round.

A machine's speed drifts (frequency, heat, other people's work) by more than the differences of interest. Within one round
every form runs once, in random order, so a ratio of two of its samples is hardly touched by drift; the median over the
rounds is not moved by the rounds that something else disturbed. One call before each sample is not timed: it finds the
caches and the allocator as the form before it left them.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from undying.statistics.interval import Interval

LEAST_ROUNDS = 6
"""The fewest rounds from which a 95 % interval of a median can be given."""


@dataclass(frozen=True)
class Ratio(Interval):
    """Median of the ratios of ``n`` rounds, with its 95 % interval, which it always has."""

    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        return {"median": self.value, "low": self.low, "high": self.high, "rounds": self.n}

    def in_words(self, number: Callable[[float], str], ends: str = " ({} to {})") -> str:
        """As of every interval; of a form against itself just 1."""
        return "1" if self.low == self.high == self.value == 1 else super().in_words(number, ends)


@dataclass(frozen=True)
class Timings:
    """What :func:`measure` found: for each name the seconds of one call, an entry a round, and the calls in a sample."""

    samples: dict[str, list[float]]
    repeats: dict[str, int]

    def seconds(self, name: str) -> float:
        """Median seconds of one call."""
        return statistics.median(self.samples[name])

    def ratio(self, name: str, to: str) -> Ratio:
        """How many times as long as ``to`` a call of ``name`` takes.

        >>> timings = Timings({"a": [1.0, 2.0, 1.0], "b": [2.0, 4.0, 3.0]}, {"a": 1, "b": 1})
        >>> timings.ratio("b", to="a").value
        2.0
        """
        ratios = sorted(a / b for a, b in zip(self.samples[name], self.samples[to], strict=True))
        low, high = median_interval(ratios)
        return Ratio(statistics.median(ratios), low, high, len(ratios))


def measure(
    forms: Mapping[str, Callable[[], object]],
    seconds: float,
    *,
    sample: float = 0.01,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> Timings:
    """Run ``forms`` against each other for about ``seconds``, after each has warmed up.

    Args:
        forms: name -> what to time. Each is called at least once before anything is timed.
        seconds: for all forms together; at least six rounds are made however long they take.
        sample: seconds that one timed sample should last at least; short calls are repeated within it.
        seed: of the order within the rounds.
        clock: gives seconds.

    >>> timings = measure({"sum": lambda: sum(range(100)), "twice": lambda: sum(range(200))}, seconds=0.01, sample=1e-4)
    >>> sorted(timings.samples)
    ['sum', 'twice']
    """
    repeats = {name: _calibrate(form, sample, clock) for name, form in forms.items()}
    samples: dict[str, list[float]] = {name: [] for name in forms}
    order, shuffle = list(forms), random.Random(seed).shuffle
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()  # a collection would fall on whoever happens to run
    try:
        rounds, start = 0, clock()
        while rounds < LEAST_ROUNDS or clock() - start < seconds:
            shuffle(order)
            for name in order:
                forms[name]()
                samples[name].append(_time(forms[name], repeats[name], clock) / repeats[name])
            rounds += 1
    finally:
        if collecting:
            gc.enable()
    return Timings(samples, repeats)


def median_interval(values: list[float]) -> tuple[float, float]:
    """Interval of the median between two of the sorted ``values``, with at least 95 % confidence, whatever the distribution.

    Fewer than six values cannot give 95 %: then it is all of them.

    >>> median_interval([float(i) for i in range(100)])
    (39.0, 60.0)
    """
    n = len(values)
    # The median lies outside [value k, value n-1-k] on one side if at most k of n fair coins show heads.
    k, tail = -1, 0.0
    while tail + math.comb(n, k + 1) / 2**n <= 0.025:
        k += 1
        tail += math.comb(n, k) / 2**n
    k = max(k, 0)
    return values[k], values[n - 1 - k]


def _calibrate(form: Callable[[], object], sample: float, clock: Callable[[], float]) -> int:
    """Calls that last at least ``sample``; the first, which may compile or allocate, does not count."""
    form()
    repeats = 1
    while (taken := _time(form, repeats, clock)) < sample:
        # By what was seen, but no more than tenfold: a first short sample says little.
        repeats = min(
            10 * repeats, max(repeats + 1, math.ceil(1.2 * repeats * sample / taken)) if taken > 0 else 10 * repeats
        )
    return repeats


def _time(form: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    calls = range(repeats)
    start = clock()
    for _ in calls:
        form()
    return clock() - start
