"""The figures of a reproduced table: a file each, which say their scale and, in words, what they show."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from undying.lab.statistics import curve
from undying.papers.analysis import Analysis, TaskAnalysis
from undying.papers.page.detail_figures import WIDTH, draw_detail
from undying.papers.table import METRICS, Metric, Task
from undying.papers.verdicts import Estimate, estimate
from undying.plots.theme import INK, MUTED, RC, colour_of, for_file, render, style_of


def draw(analysis: Analysis) -> dict[str, tuple[str, str]]:
    """File name -> (SVG, description), in the order of the page; a task without runs has none."""
    drawn: dict[str, tuple[str, str]] = {}
    # after_reset: a user's matplotlibrc must not change a page.
    with matplotlib.style.context(RC, after_reset=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        for name, task in analysis.tasks.items():
            for kind, figure in (_of_curves(task.task) or _FIGURES).items():
                found = figure(task, analysis.scale_name)
                if found is not None:
                    canvas, title, alt = found
                    file = f"{analysis.table.name}.{name}.{kind}.svg"
                    drawn[file] = for_file(render(canvas, salt=file), title, alt), alt
        for detail in analysis.details:
            for kind, (canvas, title, alt) in draw_detail(detail, analysis.scale_name).items():
                file = f"{analysis.table.name}.{detail.task.name}.{kind}.svg"
                drawn[file] = for_file(render(canvas, salt=file), title, alt), alt
    return drawn


def _accuracy(task: TaskAnalysis, scale: str) -> tuple[Canvas, str, str] | None:
    return _dots(task, scale, "accuracy")


def _silent(task: TaskAnalysis, scale: str) -> tuple[Canvas, str, str] | None:
    counted = [run.silent for found in task.arms.values() for run in found.at(task.task.lr).values()]
    return _dots(task, scale, "silent") if any(counted) else None  # a row of zeros is no picture


def _dots(task: TaskAnalysis, scale: str, metric: str) -> tuple[Canvas, str, str] | None:
    """Each arm at the published rate: mean, interval and runs."""
    shown = {
        arm: estimate([100 * getattr(run, metric) for run in found.at(task.task.lr).values()])
        for arm, found in task.arms.items()
        if found.at(task.task.lr)
    }
    if not shown:
        return None
    canvas = Canvas(figsize=(WIDTH, 0.25 * len(shown) + 0.8), layout="constrained")
    axes = canvas.add_subplot()
    for row, found in enumerate(shown.values()):
        colour = colour_of(row)
        dots: dict[str, Any] = {"color": colour, "linestyle": "none", "marker": "o", "markeredgewidth": 0}
        # A seed has the same place above or below the line in every row.
        heights = row + np.linspace(-0.22, 0.22, found.n) if found.n > 1 else [row]
        axes.plot(found.values, heights, markersize=3, alpha=0.4, **dots)
        if found.low is not None and found.high is not None:
            axes.plot([found.low, found.high], [row, row], color=colour, linewidth=2)
        axes.plot([found.mean], [row], markersize=6, **dots)
        axes.text(1.02, row, f"{found.mean:.1f}", transform=axes.get_yaxis_transform(), va="center")
    baseline = next(iter(shown.values())).mean
    axes.axvline(baseline, color=MUTED.stand_in, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_yticks(range(len(shown)), list(shown), color=INK.stand_in)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    what = METRICS[metric].capitalize()
    axes.set_xlabel(f"{what} (%)")
    title = f"{what}, {task.task.name} on {task.task.data}, rate {task.task.lr:g}, {scale} scale"
    canvas.suptitle(title, x=0.01, ha="left", fontsize=9)
    said = "; ".join(f"{arm} {_words(found)}" for arm, found in shown.items())
    return canvas, title, f"{title}. Mean over the seeds, %, with its 95 % interval: {said}."


def _rates(task: TaskAnalysis, scale: str) -> tuple[Canvas, str, str] | None:
    """Test accuracy by learning rate of each arm that has a grid."""
    lines = {
        arm: {
            rate: estimate([100 * run.accuracy for run in runs.values()]) for rate, runs in found.runs.items() if runs
        }
        for arm, found in task.arms.items()
        if sum(map(bool, found.runs.values())) > 1
    }
    if not lines:
        return None
    canvas = Canvas(figsize=(WIDTH, 2.6), layout="constrained")
    axes = canvas.add_subplot()
    for number, (arm, points) in enumerate(lines.items()):
        colour, line = style_of(number)
        means = [point.mean for point in points.values()]
        axes.plot(list(points), means, color=colour, linestyle=line, marker="o", markersize=4, linewidth=1.5, label=arm)
        own = task.arms[arm].own_rate
        if own is not None:
            axes.plot([own], [points[own].mean], color=colour, marker="o", markersize=10, fillstyle="none")
    axes.set_xscale("log")
    ticks = sorted({rate for points in lines.values() for rate in points})
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("Learning rate")
    axes.set_ylabel("Test accuracy (%)")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    title = f"Test accuracy by learning rate, {task.task.name} on {task.task.data}, {scale} scale"
    canvas.suptitle(title, x=0.01, ha="left", fontsize=9)
    said = "; ".join(
        f"{arm}: " + ", ".join(f"{point.mean:.1f} at {rate:g}" for rate, point in points.items())
        for arm, points in lines.items()
    )
    return canvas, title, f"{title}. Mean over the seeds, %; a ring is the rate chosen on validation data. {said}."


def _curve(task: TaskAnalysis, scale: str, metric: Metric, over: str) -> tuple[Canvas, str, str] | None:
    """Each arm at the table's rate: median over the seeds, with the quartiles of the baseline."""
    lines: dict[str, tuple[list[float], list[float], list[float], list[float]]] = {}
    for arm, found in task.arms.items():
        curves = [run.curves for run in found.at(task.task.lr).values()]
        if curves:
            along = curve([one[metric.metric] for one in curves])
            longest = max((one["over"] for one in curves), key=len)
            points = [
                (x, metric.factor * low, metric.factor * middle, metric.factor * high)
                for x, low, middle, high in zip(longest, along.low, along.median, along.high, strict=True)
                if x is not None and low is not None and middle is not None and high is not None
            ]
            if points:
                x, low, middle, high = (list(axis) for axis in zip(*points, strict=True))
                lines[arm] = x, low, middle, high
    if not lines:
        return None
    canvas = Canvas(figsize=(WIDTH, 2.8), layout="constrained")
    axes = canvas.add_subplot()
    for number, (arm, (x, low, middle, high)) in enumerate(lines.items()):
        colour, line = style_of(number)
        if number == 0:
            axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.plot(x, middle, color=colour, linewidth=1.5, linestyle=line, label=arm)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(over)
    axes.set_ylabel(metric.heading.replace(", %", " (%)"))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    title = f"{metric.text}, {task.task.name}, rate {task.task.lr:g}, {scale} scale"
    canvas.suptitle(title, x=0.01, ha="left", fontsize=9)
    said = "; ".join(f"{arm} {middle[0]:.1f} to {middle[-1]:.1f}" for arm, (_, _, middle, _) in lines.items())
    return canvas, title, f"{title}. Median over the seeds, first and last point: {said}."


def _of_curves(task: Task) -> dict[str, Callable[[TaskAnalysis, str], tuple[Canvas, str, str] | None]]:
    return {metric.metric.replace("_", "-"): partial(_curve, metric=metric, over=task.over) for metric in task.curves}


_FIGURES: dict[str, Callable[[TaskAnalysis, str], tuple[Canvas, str, str] | None]] = {
    "accuracy": _accuracy,
    "rates": _rates,
    "silent": _silent,
}


def _words(found: Estimate) -> str:
    interval = f" ({found.low:.1f} to {found.high:.1f})" if found.low is not None else ""
    return f"{found.mean:.1f}{interval}"
