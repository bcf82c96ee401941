"""The figures of a reproduced table: a file each, which say their scale and, in words, what they show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from matplotlib.figure import Figure as Canvas

from undying.papers.analysis import Analysis, TaskAnalysis
from undying.papers.details.protocol import Section
from undying.papers.table import METRICS, Metric, Task
from undying.papers.verdicts import estimate
from undying.plots.curves import Line, by_rate, lines, numbers
from undying.plots.dots import Row, dots
from undying.plots.theme import WIDE, styled
from undying.report.drawing import Drawing, Figure
from undying.statistics.summaries import curve

_Found = tuple[Canvas, str, str, Sequence[str]]
"""Figure, title, description, and the arms that it shows in its own order."""


def draw(analysis: Analysis, sections: Sequence[Section] = ()) -> dict[str, Figure]:
    """By the name of the file, in the order of the page; a task without runs has none."""
    drawn: dict[str, Figure] = {}
    places = {arm: place for place, arm in enumerate(arms_of(analysis))}
    with styled():
        for name, task in analysis.tasks.items():
            for kind, figure in _kinds(task.task).items():
                found = figure(task, analysis.scale_name)
                if found is not None:
                    canvas, title, alt, arms = found
                    file = f"{analysis.table.name}.{name}.{kind}.svg"
                    drawn[file] = placed(canvas, file, title, alt, [places[arm] for arm in arms])
        for section in sections:
            for kind, (canvas, title, alt) in section.figures(analysis.scale_name).items():
                file = f"{analysis.table.name}.{section.task.name}.{kind}.svg"
                drawn[file] = placed(canvas, file, title, alt)
    return drawn


def placed(canvas: Canvas, file: str, title: str, alt: str, arms: Sequence[int] = ()) -> Figure:
    """Ready for the page and as a file."""
    return Drawing(canvas, file.removesuffix(".svg"), title, "", alt, arms=arms).placed(salt=file)


def arms_of(analysis: Analysis) -> list[str]:
    """Of all tasks, each once."""
    return list(dict.fromkeys(arm for task in analysis.tasks.values() for arm in task.arms))


def _accuracy(task: TaskAnalysis, scale: str) -> _Found | None:
    return _dots(task, scale, "accuracy")


def _silent(task: TaskAnalysis, scale: str) -> _Found | None:
    counted = [run.silent for found in task.arms.values() for run in found.at(task.task.lr).values()]
    return _dots(task, scale, "silent") if any(counted) else None  # a row of zeros is no picture


def _dots(task: TaskAnalysis, scale: str, metric: str) -> _Found | None:
    """Each arm at the published rate: mean, interval and runs."""
    values = {
        arm: [100 * getattr(run, metric) for run in found.at(task.task.lr).values()] for arm, found in task.arms.items()
    }
    shown = {arm: estimate(of) for arm, of in values.items() if of}
    if not shown:
        return None
    what = METRICS[metric].capitalize()
    title = f"{what}, {task.task.name} on {task.task.data}, rate {task.task.lr:g}, {scale} scale"
    rows = [
        Row(arm, f"{found.value:.1f}", found.value, found.low, found.high, values[arm], _places(found.n))
        for arm, found in shown.items()
    ]
    said = "; ".join(f"{arm} {found.in_words('{:.1f}'.format)}" for arm, found in shown.items())
    return (
        dots(rows, f"{what} (%)", WIDE, title, far=True),
        title,
        f"{title}. Mean over the seeds, %, with its 95 % interval: {said}.",
        list(shown),
    )


def _places(runs: int) -> list[float]:
    """A seed has the same place above or below the line in every row that has all seeds."""
    return [run / (runs - 1) - 0.5 for run in range(runs)] if runs > 1 else [0.0]


def _rates(task: TaskAnalysis, scale: str) -> _Found | None:
    """Test accuracy by learning rate of each arm that has a grid."""
    means = {
        arm: {
            rate: estimate([100 * run.accuracy for run in runs.values()]).value
            for rate, runs in found.runs.items()
            if runs
        }
        for arm, found in task.arms.items()
        if sum(map(bool, found.runs.values())) > 1
    }
    if not means:
        return None
    title = f"Test accuracy by learning rate, {task.task.name} on {task.task.data}, {scale} scale"
    shown = [Line(arm, list(of), list(of.values())) for arm, of in means.items()]
    rings = {arm: rate for arm in means if (rate := task.arms[arm].own_rate) is not None}
    said = "; ".join(
        f"{arm}: " + ", ".join(f"{mean:.1f} at {rate:g}" for rate, mean in of.items()) for arm, of in means.items()
    )
    canvas = by_rate(shown, rings, "Test accuracy (%)", title)
    return (
        canvas,
        title,
        f"{title}. Mean over the seeds, %; a ring is the rate chosen on validation data. {said}.",
        list(means),
    )


def _curve(task: TaskAnalysis, scale: str, metric: Metric, over: str) -> _Found | None:
    """Each arm at the table's rate: median over the seeds, with the quartiles of the baseline."""
    shown = []
    for arm, found in task.arms.items():
        curves = [run.curves for run in found.at(task.task.lr).values()]
        if curves:
            along = curve([one[metric.metric] for one in curves])
            longest = max((one["over"] for one in curves), key=len)
            middle, low, high = (numbers(of, metric.factor) for of in (along.median, along.low, along.high))
            line = Line(arm, numbers(longest), middle, low, high).measured()
            if line.x:
                shown.append(line)
    if not shown:
        return None
    title = f"{metric.text}, {task.task.name}, rate {task.task.lr:g}, {scale} scale"
    said = "; ".join(f"{line.name} {line.middle[0]:.1f} to {line.middle[-1]:.1f}" for line in shown)
    canvas = lines(shown, over, metric.heading.replace(", %", " (%)"), title)
    return (
        canvas,
        title,
        f"{title}. Median over the seeds, first and last point: {said}.",
        [line.name for line in shown],
    )


def _kinds(task: Task) -> dict[str, Callable[[TaskAnalysis, str], _Found | None]]:
    """Of curves where it has any; those of accuracies are of tasks without metrics of their own."""
    if not task.metrics:
        return _FIGURES
    return {metric.metric.replace("_", "-"): partial(_curve, metric=metric, over=task.over) for metric in task.curves}


_FIGURES: dict[str, Callable[[TaskAnalysis, str], _Found | None]] = {
    "accuracy": _accuracy,
    "rates": _rates,
    "silent": _silent,
}
