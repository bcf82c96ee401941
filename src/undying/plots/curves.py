"""Curves over epochs, steps or learning rates: a median line, with the middle half of the runs as a band around it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from undying._base.text import clip, known
from undying.plots.marks import listed, mark, mark_axes
from undying.plots.theme import INK, MUTED, NARROW, SERIES, WIDE, columns, entitle, plain_numbers, style_of

POINTS = 120
"""Most points of a curve in a narrow figure, beyond which some are left out: it is 400 pixels wide. In small panels 40."""


@dataclass(frozen=True)
class Line:
    """One series; nan is where nothing was measured."""

    name: str
    x: Sequence[float]
    middle: Sequence[float]
    low: Sequence[float] = ()
    """With ``high`` the ends of a band, where there is one."""
    high: Sequence[float] = ()

    def measured(self, points: int | None = None) -> Line:
        """Without what was not measured, thinned out to at most so many ``points``."""
        found = [i for i, pair in enumerate(zip(self.x, self.middle, strict=True)) if all(map(math.isfinite, pair))]
        if points is not None and len(found) > points:
            found = [found[i] for i in np.linspace(0, len(found) - 1, points).round().astype(int)]
        x, middle, low, high = (
            [values[i] for i in found] if values else [] for values in (self.x, self.middle, self.low, self.high)
        )
        return replace(self, x=x, middle=middle, low=low, high=high)


def numbers(values: Iterable[float | None], factor: float = 1) -> list[float]:
    """``values`` as a line takes them, each times ``factor``.

    >>> numbers([0.5, None], 100)
    [50.0, nan]
    """
    return [factor * value if known(value) else math.nan for value in values]


@dataclass(frozen=True)
class Panel:
    """One set of axes over epochs or steps."""

    title: str
    lines: Sequence[Line]
    """The first is the baseline."""
    log: bool = False
    """Whether a wide range gets a logarithmic axis."""
    over: str = "Epoch"
    """What is along the horizontal axis."""


def panels(shown: Sequence[Panel]) -> Canvas:
    """All lines of each, one above the other, with one legend for them all."""
    names = [clip(line.name, 18) for line in shown[0].lines]
    beside = columns([line.name for line in shown[0].lines])
    legend_rows = math.ceil(len(names) / beside)
    canvas = Canvas(figsize=(NARROW, 1.85 * len(shown) + 0.2 * legend_rows + 0.35), layout="constrained")
    grid = canvas.subplots(len(shown), 1, sharex=True, squeeze=False)
    for axes, panel in zip(grid[:, 0], shown, strict=True):
        _draw_panel(axes, panel)
    grid[-1, 0].set_xlabel(shown[-1].over)

    lines = [Line2D([], [], color=colour, linestyle=dashes) for colour, dashes in map(style_of, range(len(names)))]
    # The names are set afterwards: matplotlib refuses a label that begins with an underscore.
    legend = canvas.legend(lines, ["x"] * len(names), loc="outside upper left", ncols=beside, handlelength=2.1)
    for index, (entry, line, text) in enumerate(zip(legend.get_texts(), legend.get_lines(), names, strict=True)):
        entry.set_text(text)
        mark(entry, arm=index, label="")
        mark(line, arm=index, label="")
    return canvas


def _draw_panel(axes: Axes, panel: Panel) -> None:
    drawn = [line.measured(POINTS) for line in panel.lines]
    for index, line in enumerate(drawn):
        if line.low:
            mark(_band(axes, line, color=style_of(index)[0], alpha=0.12), arm=index, band="")
        _median(axes, index, line, marker=_marker(line), zorder=4 if index == 0 else 3)
    mark_axes(axes, panel.over)
    axes.set_title(panel.title)
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    _scale(axes, panel, drawn, ticks=5)


def multiples(panel: Panel) -> Canvas:
    """A small panel for each line but the first, which is dashed in all of them; all have the same scale."""
    baseline, *others = (line.measured(POINTS // 3) for line in panel.lines)
    across = 4 if all(len(other.name) <= 12 for other in others) else 3
    rows = math.ceil(len(others) / across)
    height = 0.92 * rows + 0.5
    canvas = Canvas(figsize=(NARROW, height))
    grid = canvas.subplots(rows, across, sharex=True, sharey=True, squeeze=False)
    edges = {"left": 0.13, "right": 0.99, "bottom": 0.42 / height, "top": 1 - 0.24 / height}
    canvas.subplots_adjust(**edges, wspace=0.12, hspace=0.42)
    colour = SERIES[1].stand_in
    for index, (axes, other) in enumerate(zip(grid.flat, others, strict=False), 1):
        style: dict[str, Any] = {"color": INK.stand_in, "linestyle": (0, (3, 2)), "linewidth": 0.9, "zorder": 4}
        _marked(axes.plot(baseline.x, baseline.middle, **style), 0, baseline)
        mark(_band(axes, other, color=colour, alpha=0.22), arm=index, band="")
        style = {"color": colour, "linewidth": 1.4, "marker": _marker(other), "zorder": 3}
        _marked(axes.plot(other.x, other.middle, **style), index, other)
        mark_axes(axes, panel.over)
        name = _fitted(other.name, 8.5, 72 * NARROW * axes.get_position().width)
        title = axes.set_title(name, fontsize=8.5, fontweight="normal", pad=3)
        mark(title, arm=index, label="")
        axes.tick_params(labelsize=8.5)
    for axes in list(grid.flat)[len(others) :]:
        axes.set_visible(False)
    # The numbers of the epochs are below the last panel of each column.
    for column in range(min(across, len(others))):
        lowest = (len(others) - 1 - column) // across
        grid[lowest, column].tick_params(labelbottom=True)
    grid[0, 0].xaxis.set_major_locator(MaxNLocator(2, integer=True, min_n_ticks=1))
    _scale(grid[0, 0], panel, [baseline, *others], ticks=3)
    canvas.supxlabel(panel.over, fontsize=9.5, color=MUTED.stand_in, x=0.56, y=0.02 / height)
    return canvas


def _fitted(name: str, size: float, width: float) -> str:
    """``name`` cut to what is at most so many points wide: letters differ."""
    for letters in range(24, 3, -1):
        shown = clip(name, letters)
        if TextPath((0, 0), shown, size=size).get_extents().width <= width:
            break
    return shown


def lines(shown: Sequence[Line], over: str, label: str, title: str) -> Canvas:
    """All of them in one wide figure, with the band of the first, and a legend beside them.

    Args:
        shown: at least one; without gaps.
        over: what is along the horizontal axis.
        label: of the vertical axis.
        title: above.
    """
    canvas, axes = _wide(2.8, over, label, title)
    _band(axes, shown[0], color=style_of(0)[0], alpha=0.12)
    for index, line in enumerate(shown):
        _median(axes, index, line, label=line.name)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    _legend(axes)
    return canvas


def by_rate(shown: Sequence[Line], rings: Mapping[str, float], label: str, title: str) -> Canvas:
    """All of them over learning rates on a logarithmic axis.

    Args:
        shown: at least one; without gaps.
        rings: name of a line -> the rate at which it gets a ring.
        label: of the vertical axis.
        title: above.
    """
    canvas, axes = _wide(2.6, "Learning rate", label, title)
    for index, line in enumerate(shown):
        _median(axes, index, line, marker="o", markersize=4, label=line.name)
        if line.name in rings:
            rate = rings[line.name]
            height = line.middle[line.x.index(rate)]
            axes.plot([rate], [height], color=style_of(index)[0], marker="o", markersize=10, fillstyle="none")
    axes.set_xscale("log")
    axes.set_xticks(sorted({rate for line in shown for rate in line.x}))
    axes.xaxis.set_major_formatter(plain_numbers())
    axes.xaxis.set_minor_locator(NullLocator())
    _legend(axes)
    return canvas


def _wide(height: float, over: str, label: str, title: str) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=(WIDE, height), layout="constrained")
    axes = canvas.add_subplot()
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(over)
    axes.set_ylabel(label)
    entitle(canvas, title)
    return canvas, axes


def _legend(axes: Axes) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _median(axes: Axes, index: int, line: Line, **more: Any) -> None:
    colour, dashes = style_of(index)
    _marked(axes.plot(line.x, line.middle, color=colour, linestyle=dashes, linewidth=1.5, **more), index, line)


def _marked(drawn: Sequence[Line2D], index: int, line: Line) -> None:
    ends = {"low": listed(line.low), "high": listed(line.high)} if line.low else {}
    mark(drawn[0], arm=index, x=listed(line.x), y=listed(line.middle), **ends)


def _band(axes: Axes, line: Line, color: str, alpha: float) -> Artist:
    return axes.fill_between(line.x, line.low, line.high, color=color, alpha=alpha, linewidth=0)


def _marker(line: Line) -> str:
    """A dot where a line would need two points."""
    return "o" if len(line.x) == 1 else ""


def _scale(axes: Axes, panel: Panel, drawn: Sequence[Line], ticks: int) -> None:
    shown = [value for line in drawn for value in line.middle]
    span = max(shown) / min(shown) if shown and min(shown) > 0 else 1
    if panel.log and span > 4:
        axes.set_yscale("log")
        fine = (1, 2, 5) if span < 6 * ticks else (1, 3) if span < 200 * ticks and ticks > 3 else (1,)
        # By itself it would leave out every tick of a small panel.
        axes.yaxis.set_major_locator(LogLocator(subs=fine, numticks=12))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(plain_numbers())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(ticks))
