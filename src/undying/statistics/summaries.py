"""Of one number a run, in any unit: mean, interval and curves.

Pure functions of their arguments. The resampling draws from a generator with a fixed seed, and runs are put in order of
size before they are resampled, so the same numbers give the same bytes on every call, in whatever order they come.

Why each method was chosen, and how to read it: ``docs/statistics.md``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from undying.statistics.records import Curve, Summary

RESAMPLES = 9999  # with the observed one, 10,000: p moves in steps of 0.0001
SEED = 0

Floats = npt.NDArray[np.float64]


def summarise(values: Sequence[float]) -> Summary:
    """Mean with its 95 % interval, and interquartile mean, of one number a run.

    The interval is the BCa bootstrap's (Efron 1987), from 9999 resamples. The interquartile mean leaves out the lowest
    and the highest quarter of the runs, each rounded down to whole runs (Agarwal et al. 2021).

    Args:
        values: one finite number a run, in any unit; at least one.

    Returns:
        a summary in the unit of ``values``. The interval is None with a single run, and has no width where all runs
        are equal.

    Raises:
        ValueError: there are no values, or one is not finite.

    >>> summary = summarise([0.91, 0.93, 0.92, 0.95, 0.94])
    >>> round(summary.mean, 3), round(summary.iqm, 3)
    (0.93, 0.93)
    >>> round(summary.low, 3), round(summary.high, 3)
    (0.918, 0.942)
    >>> summarise([0.91]).low is None
    True
    """
    array = finite("values", values)
    low, high = interval(array) or (None, None)
    return Summary(
        values=array.tolist(),
        mean=mean(array),
        low=low,
        high=high,
        iqm=float(stats.trim_mean(np.sort(array), 0.25)) if np.ptp(array) else float(array[0]),
    )


def curve(values_by_run: Sequence[Sequence[float | None]]) -> Curve:
    """Median and quartiles over runs, epoch by epoch.

    Args:
        values_by_run: for each run, one number an epoch, in any unit. None, nan, inf and the epochs that a shorter run
            lacks are left out, so that after a run has diverged the curve is that of the others.

    Returns:
        a curve as long as the longest run, in the unit of the values; None at epochs without any finite value.

    >>> curve([[4.0, 3.0, None], [6.0, 1.0], [5.0, float("nan")]])
    Curve(median=[5.0, 2.0, None], low=[4.5, 1.5, None], high=[5.5, 2.5, None], steps=None)
    """
    low: list[float | None] = []
    median: list[float | None] = []
    high: list[float | None] = []
    for epoch in range(max(map(len, values_by_run), default=0)):
        at_epoch = [run[epoch] for run in values_by_run if epoch < len(run)]
        finite = [value for value in at_epoch if value is not None and math.isfinite(value)]
        quartiles = np.quantile(finite, (0.25, 0.5, 0.75)).tolist() if finite else [None, None, None]
        for line, value in zip((low, median, high), quartiles, strict=True):
            line.append(value)
    return Curve(median=median, low=low, high=high)


def interval(values: Floats) -> tuple[float, float] | None:
    """95 % BCa bootstrap interval of the mean; no width for equal values, None for a single one."""
    if len(values) == 1:
        return None
    ordered = np.sort(values)
    start, width = float(ordered[0]), float(np.ptp(ordered))
    if width == 0:
        return start, start
    # From here on there are two different values, so BCa is always defined: the jackknife means differ, and resamples
    # have means on both sides of the sample's. It takes third powers, though, which values such as losses of 1e200 or
    # 1e-200 would not survive; the mean's interval moves and stretches with the values, so they are brought to [0, 1].
    low, high = stats.bootstrap(
        ((ordered - start) / width,),
        _mean_without_rounding,
        method="BCa",
        confidence_level=0.95,
        n_resamples=RESAMPLES,
        vectorized=True,
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return start + width * float(low), start + width * float(high)


def mean(values: Floats) -> float:
    """The mean, the same to the last bit in whatever order the values come, and v for values that all equal v."""
    return math.fsum(values) / len(values) if np.ptp(values) else float(values[0])


def _mean_without_rounding(values: Floats, axis: int = -1) -> Floats:
    """The mean to 12 decimals.

    BCa counts the resamples whose mean is below, equal to and above that of the sample. Means of k/n fractions are
    often equal, and the last bits of their sums would decide otherwise: the interval of 0.91, 0.93, ... would not be a
    hundredth of that of 91, 93, ...
    """
    return np.asarray(np.round(np.mean(values, axis=axis), 12))


def finite(name: str, values: Sequence[float]) -> Floats:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name}: expected a sequence of numbers, not {values!r:.60}: {error}") from None
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name}: expected a sequence of one or more numbers, not shape {array.shape}")
    for index, value in enumerate(array):
        if not math.isfinite(value):
            raise ValueError(f"{name}: values[{index}] is {value}; every run must have a finite number")
    return array
