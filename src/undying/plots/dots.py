"""Dot plots: a line each with its mean, its interval and, smaller, the single runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator, NullLocator

from undying._base.text import known
from undying.plots.marks import mark
from undying.plots.theme import INK, MUTED, WIDE, colour_of, entitle, label_rows, plain_numbers


@dataclass(frozen=True)
class Row:
    """One line of a dot plot."""

    name: str
    text: str
    """The mean in words, beside the line."""
    mean: float | None
    low: float | None = None
    high: float | None = None
    values: Sequence[float] = ()
    """A number a run."""
    places: Sequence[float] = ()
    """Of each value, from -0.5 above the line to 0.5 below it."""
    notes: Sequence[str] = ()
    """Of each value, and below of the mean, what the page says of it; no text of a user."""
    said: str = ""


def dots(rows: Sequence[Row], label: str, width: float, title: str = "", *, far: bool = False) -> Canvas:
    """``rows`` from the top, with a dashed line at the mean of the first.

    Args:
        rows: at least one.
        label: of the axis.
        width: in inches.
        title: above; none if empty.
        far: whether runs far from every mean are on the axis too; otherwise they are triangles at its edge.
    """
    canvas = Canvas(figsize=(width, 0.3 * len(rows) + (0.87 if title else 0.62)), layout="constrained")
    axes = canvas.add_subplot()
    low, high = _limits(rows, far)
    if known(rows[0].mean):
        _dash(axes, rows[0].mean)
    for index, row in enumerate(rows):
        _dot_row(axes, index, row, (low, high), arm=index)
        said = axes.text(1.03, index, row.text, transform=axes.get_yaxis_transform(), va="center", color=INK.stand_in)
        mark(said, arm=index, label="")
    axes.set_xlim(low, high)
    label_rows(axes, [row.name for row in rows])
    axes.tick_params(axis="y", pad=7)  # room for the triangles at the edge
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.set_xlabel(label)
    if title:
        entitle(canvas, title)
    return canvas


def forest(rows: Sequence[Row], label: str, width: float, margin: float | None = None, sides: str = "") -> Canvas:
    """Differences from a baseline: ``rows`` from the top around a line at 0.

    Args:
        rows: at least one, without the baseline.
        label: of the axis.
        width: in inches.
        margin: a band of this half width is what does not matter.
        sides: what lies on either side of 0, below the label; none if empty.
    """
    canvas = Canvas(figsize=(width, 0.34 * len(rows) + (0.8 if sides else 0.62)), layout="constrained")
    axes = canvas.add_subplot()
    low, high = _limits([*rows, Row("", "", 0.0)], far=False)
    if margin is not None:
        if margin <= 3 * max(-low, high):  # one far beyond all that was seen would squeeze it into a spot
            low, high = min(low, -1.08 * margin), max(high, 1.08 * margin)
        axes.axvspan(-margin, margin, color=MUTED.stand_in, alpha=0.16, linewidth=0, zorder=0)
    axes.axvline(0, color=INK.stand_in, linewidth=0.9, zorder=1)
    for index, row in enumerate(rows):
        _dot_row(axes, index, row, (low, high), arm=index + 1)
        said = axes.text(1.03, index, row.text, transform=axes.get_yaxis_transform(), va="center", color=INK.stand_in)
        mark(said, arm=index + 1, label="")
    axes.set_xlim(low, high)
    label_rows(axes, [row.name for row in rows], first=1)
    axes.tick_params(axis="y", pad=7)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.set_xlabel(f"{label}\n{sides}" if sides else label)
    return canvas


def _dot_row(axes: Axes, index: int, row: Row, limits: tuple[float, float], arm: int) -> None:
    colour = colour_of(arm)
    notes = np.array(row.notes or [""] * len(row.values))
    heights = index + 0.52 * np.array(row.places, dtype=float)
    values = np.array(row.values, dtype=float)
    inside = (values >= limits[0]) & (values <= limits[1])
    faint: dict[str, Any] = {"color": colour, "alpha": 0.4, "linestyle": "none", "markeredgewidth": 0, "clip_on": False}
    [drawn] = axes.plot(values[inside], heights[inside], marker="o", markersize=3.2, zorder=2, **faint)
    mark(drawn, arm=arm, notes="|".join(notes[inside]))
    for outside, edge, marker in ((values < limits[0], limits[0], "<"), (values > limits[1], limits[1], ">")):
        if outside.any():
            edges = np.full(outside.sum(), edge)
            [drawn] = axes.plot(edges, heights[outside], marker=marker, markersize=4.5, zorder=2, **faint)
            mark(drawn, arm=arm, notes="|".join(notes[outside]))
    if known(row.low) and known(row.high):
        ends, line = [row.low, row.high], {"linewidth": 2.2, "solid_capstyle": "round"}
        [drawn] = axes.plot(ends, [index, index], color=colour, zorder=3, **line)  # type: ignore[arg-type]
        mark(drawn, arm=arm)
    if known(row.mean):
        [drawn] = axes.plot([row.mean], [index], color=colour, marker="o", markersize=6.5, markeredgewidth=0, zorder=4)
        mark(drawn, arm=arm, notes=row.said)


def _limits(rows: Sequence[Row], far: bool) -> tuple[float, float]:
    """An axis that holds every mean and interval, and the runs that are not far from them.

    One diverged run would otherwise squeeze all the others into one spot.
    """
    core = [value for row in rows for value in (row.mean, row.low, row.high) if known(value)] or [0.0, 1.0]
    low, high = min(core), max(core)
    reach = high - low
    near = [
        value for row in rows for value in row.values if known(value) and (far or low - reach <= value <= high + reach)
    ]
    low, high = min([low, *near]), max([high, *near])
    margin = 0.04 * (high - low) or max(0.01 * abs(high), 0.01)
    return low - margin, high + margin


@dataclass(frozen=True)
class Cases:
    """One line of a plot of ratios: the cases in which something was measured, on one line."""

    name: str
    colour: str
    ratios: Sequence[tuple[float, float, float]]
    """Low, middle and high of each."""


def ratios(rows: Sequence[Cases], label: str, limit: float, title: str) -> Canvas:
    """``rows`` from the top on a logarithmic axis, with a dashed line at 1 and another at ``limit``."""
    canvas = Canvas(figsize=(WIDE, 0.25 * len(rows) + 0.9), layout="constrained")
    axes = canvas.add_subplot()
    for index, row in enumerate(rows):
        for low, middle, high in row.ratios:
            axes.plot([low, high], [index, index], color=row.colour, linewidth=1.5)
            axes.plot([middle], [index], color=row.colour, marker="o", markersize=4, linestyle="none")
    _dash(axes, 1)
    axes.axvline(limit, color=INK.stand_in, linewidth=0.9, zorder=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(plain_numbers())
    axes.xaxis.set_minor_locator(NullLocator())
    label_rows(axes, [row.name for row in rows])
    axes.set_xlabel(label, loc="right")
    entitle(canvas, title)
    return canvas


def _dash(axes: Axes, at: float) -> None:
    axes.axvline(at, color=MUTED.stand_in, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
