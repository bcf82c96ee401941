"""Numbers of runs as the results of a comparison: who pairs with whom, the last step as the score, the curves."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy
import scipy

from undying._base.errors import UndyingError
from undying._version import __version__
from undying.lab.results import ActivationResult, Results
from undying.scores.reading import Reading
from undying.scores.value import Value
from undying.statistics.metric import Metric, clash
from undying.statistics.paired import compare_metrics
from undying.statistics.records import Curve
from undying.statistics.summaries import curve, summarise

_TAKEN = ("activation", "seed", "finished", "silent")
"""Columns and keys of the report that mean something else."""

Series = dict[float | None, Value]
"""By step, one metric of one run; in order."""
Runs = dict[str, dict[int, dict[str, Series]]]
"""By arm, seed and metric."""


def results_of(
    values: Sequence[Value], reading: Reading, source: Mapping[str, Any], notes: Sequence[str], command: str
) -> Results:
    """The results of a comparison of the arms that ``values`` are of.

    Args:
        values: numbers of any runs.
        reading: what they mean.
        source: what is recorded of where they come from.
        notes: what is to be said of that.
        command: makes the results again.

    Raises:
        UndyingError: two numbers stand for the same, a run lacks a metric, or there is nothing to compare.
    """
    metrics = _metrics(values, reading, notes)
    runs = _runs(values, reading)
    _check_complete(runs, list(metrics))
    baseline = next(iter(runs))
    scores = {name: _scores(runs, name) for name in metrics}
    for name, metric in metrics.items():
        _check_shares(metric, runs, name)
    pairs = {name: _pairs(of, baseline) for name, of in scores.items()}
    if not any(pairs.values()):
        raise UndyingError(f"no arm has a seed that the baseline {baseline} has too; runs are paired by seed")
    try:
        margins = [next(iter(metrics.values())).margin_of(reading.margin), *[None] * (len(metrics) - 1)]
        judged = compare_metrics(
            [(metrics[name], pairs[name], margin) for name, margin in zip(metrics, margins, strict=True)],
            baseline=baseline,
        )
    except ValueError as error:  # more comparisons than p-values can tell apart, numbers too large, the margin
        raise UndyingError(str(error)) from None
    by_metric = {metrics[name].name: found for name, found in zip(metrics, judged, strict=True)}
    return Results(
        undying=__version__,
        command=command,
        settings={
            "activations": list(runs),
            "seeds": len({seed for of in runs.values() for seed in of}),
            "margin": reading.margin,
        },
        data={**source, "notes": [*notes, *_left_out(runs, baseline), *_last_steps(runs, list(metrics))]},
        metrics=list(metrics.values()),
        probe=0,
        environment={"python": platform.python_version(), "numpy": numpy.__version__, "scipy": scipy.__version__},
        activations=[
            ActivationResult(
                name=arm,
                module="",
                seeds=list(of),
                diverged=0,
                scores={metric.name: summarise(list(scores[name][arm].values())) for name, metric in metrics.items()},
                test_loss=None,
                silent=None,
                dead=None,
                dormant=None,
                sparsity=None,
                seconds=None,
                comparisons={metric: found[arm] for metric, found in by_metric.items() if arm in found},
                curves={f"test_{metric.name}": _curve(of, name) for name, metric in metrics.items()},
                sites=[],
            )
            for arm, of in runs.items()
        ],
        planned=sum(map(len, runs.values())),
    )


def _metrics(values: Sequence[Value], reading: Reading, notes: Sequence[str]) -> dict[str, Metric]:
    """By the name in the files, the first decides; ``notes`` say what of them was left out."""
    there = list(dict.fromkeys(value.metric for value in values))
    for option, names in (
        ("metric", reading.metric),
        ("lower-is-better", reading.lower_is_better),
        ("share", reading.share),
    ):
        unknown = [name for name in names if name not in there]
        if unknown:
            others = (
                f"there are: {', '.join(there)}" if there else "; ".join(["the files hold none of those named", *notes])
            )
            raise UndyingError(f"--{option}: no metric {unknown[0]!r} is read; {others}")
    if not there:
        raise UndyingError("; ".join(["the files hold no score", *notes]))
    metrics: dict[str, Metric] = {}
    for name in reading.metric or there:
        word = _word(name)
        other = next((known for known, metric in metrics.items() if metric.name == word), None)
        if other is not None:
            raise UndyingError(f"metrics {other!r} and {name!r} would both be the column {word}; rename one of them")
        lower = name in reading.lower_is_better
        metrics[name] = Metric(word, name, higher_is_better=not lower, share=name in reading.share)
    if both := clash([metric.name for metric in metrics.values()]):
        raise UndyingError(
            f"metrics {both[0]!r} and {both[1]!r} would have a column of summary.csv in common; rename one, or choose with --metric"
        )
    return metrics


def _word(name: str) -> str:
    """A metric's name as a column and a key.

    >>> _word("eval/return"), _word("5-shot"), _word("silent")
    ('eval_return', '_5_shot', 'silent_')
    """
    word = re.sub(r"\W", "_", name)
    word = word if word.isidentifier() else f"_{word}"
    return f"{word}_" if word in _TAKEN else word


def _runs(values: Sequence[Value], reading: Reading) -> Runs:
    """The arms in the order of the files, the baseline first; their seeds ascending."""
    runs: Runs = {}
    for value in values:
        series = runs.setdefault(value.arm, {}).setdefault(value.seed, {}).setdefault(value.metric, {})
        if value.step in series:
            at = "" if value.step is None else f" at step {value.step:g}"
            raise UndyingError(
                f"{value.place}: {value.arm}, seed {value.seed} has {value.metric}{at} already, in "
                f"{series[value.step].place}; keep one of them{'' if at else ', or add a column step'}"
            )
        series[value.step] = value
    for series in (series for of in runs.values() for metrics in of.values() for series in metrics.values()):
        if None in series and len(series) > 1:
            raise UndyingError(f"{series[None].place}: no step, but other values of this run and metric have one")
    if len(runs) < 2:
        raise UndyingError(f"a comparison needs two arms or more; there is only {next(iter(runs), 'none')}")
    baseline = reading.baseline or next(iter(runs))
    if baseline not in runs:
        raise UndyingError(f"--baseline {baseline!r} is not there; arms: {', '.join(runs)}")
    return {
        arm: {
            seed: {m: dict(sorted(series.items(), key=_step)) for m, series in runs[arm][seed].items()}
            for seed in sorted(runs[arm])
        }
        for arm in dict.fromkeys([baseline, *runs])
    }


def _step(item: tuple[float | None, Value]) -> float:
    return item[0] or 0.0


def _check_complete(runs: Runs, metrics: Sequence[str]) -> None:
    """Raises UndyingError for a run without one of the metrics, or with a score that is not finite."""
    for arm, of in runs.items():
        for seed, found in of.items():
            for name in metrics:
                if name not in found:
                    raise UndyingError(
                        f"{arm}, seed {seed} has no {name}; add it, remove the run, or name metrics that all runs have with "
                        "--metric"
                    )
                last = _last(found[name])
                if not math.isfinite(last.value):
                    raise UndyingError(
                        f"{last.place}: the score is {last.value}, not a finite number; a run that failed counts with a "
                        "number that you choose, such as the worst of all, or is removed"
                    )


def _check_shares(metric: Metric, runs: Runs, name: str) -> None:
    for found in (found for of in runs.values() for found in of.values()):
        last = _last(found[name])
        if metric.share and not 0 <= last.value <= 1:
            raise UndyingError(f"{last.place}: {name} is {last.value:g}, and --share says that it lies in [0, 1]")


def _last(series: Series) -> Value:
    return next(reversed(series.values()))


def _scores(runs: Runs, name: str) -> dict[str, dict[int, float]]:
    """By arm and seed."""
    return {arm: {seed: _last(found[name]).value for seed, found in of.items()} for arm, of in runs.items()}


def _pairs(scores: Mapping[str, Mapping[int, float]], baseline: str) -> dict[str, tuple[list[float], list[float]]]:
    base, pairs = scores[baseline], {}
    for arm, own in scores.items():
        shared = [seed for seed in own if seed in base]
        if arm != baseline and shared:
            pairs[arm] = [base[seed] for seed in shared], [own[seed] for seed in shared]
    return pairs


def _curve(of: Mapping[int, Mapping[str, Series]], name: str) -> Curve:
    """Over the steps that all runs of the arm have; empty with fewer than two of those."""
    every = [found[name] for found in of.values()]
    shared = [step for step in every[0] if step is not None and all(step in series for series in every)]
    if len(shared) < 2:
        return Curve([], [], [])
    found = curve([[series[step].value for step in shared] for series in every])
    return Curve(found.median, found.low, found.high, steps=shared)


def _left_out(runs: Runs, baseline: str) -> list[str]:
    """Seeds without a pair, in words."""
    said = []
    for arm, of in runs.items():
        alone = [seed for seed in of if seed not in runs[baseline]]
        lacking = [seed for seed in runs[baseline] if seed not in of]
        if alone or lacking:
            which = [f"{_seeds(seeds)} of {name}" for seeds, name in ((alone, arm), (lacking, baseline)) if seeds]
            said.append(
                f"Without a pair, and so left out of the comparison of {arm} with {baseline}: {' and '.join(which)}."
            )
    return said


def _seeds(seeds: Iterable[int]) -> str:
    numbers = [str(seed) for seed in seeds]
    return f"seed {numbers[0]}" if len(numbers) == 1 else f"seeds {', '.join(numbers)}"


def _last_steps(runs: Runs, metrics: Sequence[str]) -> list[str]:
    """What is said where runs end at different steps: a score from the middle of training is no end."""
    said = []
    for name in metrics:
        steps = {
            (arm, seed): step
            for arm, of in runs.items()
            for seed, found in of.items()
            if (step := _last(found[name]).step) is not None
        }
        if len(set(steps.values())) > 1:
            (first, low), (last, high) = (ends(steps.items(), key=lambda item: item[1]) for ends in (min, max))
            said.append(
                f"The last steps of {name} differ, from {low:g} ({first[0]}, seed {first[1]}) to {high:g} ({last[0]}, seed "
                f"{last[1]}); each run's own last is its score."
            )
    return said
