"""The figures of what some tables show beside accuracies."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from undying.papers.detail_data import KINDS, Detail, Landscapes, Norms, Profile
from undying.papers.table import METRICS
from undying.plots.theme import INK, SERIES, colour_of, style_of
from undying.report.words import digits

WIDTH = 5.6
"""Inches."""

Drawn = dict[str, tuple[Canvas, str, str]]
"""Kind of figure -> figure, title, description."""


_BINS = 20
_EDGES = [i / _BINS for i in range(-1, _BINS + 1)]


def draw_detail(detail: Detail, scale: str) -> Drawn:
    """Within matplotlib's style of the page."""
    if isinstance(detail, Norms):
        return _norms(detail, scale)
    return _profile(detail, scale) if isinstance(detail, Profile) else _landscapes(detail, scale)


def _norms(norms: Norms, scale: str) -> Drawn:
    where = f"{norms.task.name} on {norms.task.data}, rate {norms.task.lr:g}, {scale} scale"
    return {"norms": _curves(norms, where), **{f"{kind}-layers": _boxes(norms, kind, where) for kind in KINDS}}


def _curves(norms: Norms, where: str) -> tuple[Canvas, str, str]:
    """Both norms over all parameters, by epoch."""
    canvas = Canvas(figsize=(WIDTH, 2.6), layout="constrained")
    said = []
    for axes, kind in zip(canvas.subplots(1, 2), KINDS, strict=True):
        for i, (arm, of) in enumerate(norms.arms.items()):
            values = list(of.curves[kind])
            if values:
                colour, line = style_of(i)
                over = range(1, len(values) + 1)
                axes.plot(over, values, color=colour, linestyle=line, marker="o", markersize=2.5, label=arm)
                said.append(f"{arm} {kind} {values[0]:.3g} to {values[-1]:.3g}")
        _logarithmic(axes)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_xlabel("Epoch")
        axes.set_title(METRICS[kind].capitalize(), fontsize=8)
    handles, labels = axes.get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower left", ncols=3)
    title = f"Norms over training, {where}"
    canvas.suptitle(title, x=0.01, ha="left", fontsize=9)
    return canvas, title, f"{title}. Median over the seeds, first and last epoch: {'; '.join(said)}."


def _boxes(norms: Norms, kind: str, where: str) -> tuple[Canvas, str, str]:
    """Distribution of each layer's norm over the steps and seeds: median, quartiles, and 5 to 95 %."""
    layers = list(next(iter(norms.arms.values())).layers[kind])
    canvas = Canvas(figsize=(WIDTH, 0.16 * len(layers) * len(norms.arms) + 1.2), layout="constrained")
    axes = canvas.add_subplot()
    said = []
    for i, (arm, of) in enumerate(norms.arms.items()):
        for row, layer in enumerate(layers):
            values = [value for value in of.layers[kind][layer] if value > 0]
            if len(values) > 1:
                cuts = statistics.quantiles(values, n=20, method="inclusive")
                place = row + 0.7 * ((i + 0.5) / len(norms.arms) - 0.5)
                style: dict[str, Any] = {"color": colour_of(i), "solid_capstyle": "butt"}
                axes.plot([cuts[0], cuts[-1]], [place, place], linewidth=0.8, **style)
                axes.plot([cuts[4], cuts[14]], [place, place], linewidth=4, label=arm if row == 0 else None, **style)
                axes.plot([cuts[9]], [place], marker="|", markersize=6, color=INK.stand_in)
                said.append(f"{arm} {layer} {cuts[9]:.3g}")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(range(len(layers)), layers, color=INK.stand_in)
    axes.set_ylim(len(layers) - 0.5, -0.5)
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(METRICS[kind].capitalize())
    canvas.legend(loc="outside lower left", ncols=3)
    title = f"{METRICS[kind].capitalize()} by layer, {where}"
    canvas.suptitle(title, x=0.01, ha="left", fontsize=8)
    told = "median, quartiles (thick) and 5 to 95 % (thin) over steps and seeds"
    return canvas, title, f"{title}: {told}. Medians: {'; '.join(said)}."


def _profile(profile: Profile, scale: str) -> Drawn:
    """A histogram of the firing rates of each site's units, with a bin of its own for those that never fire."""
    columns = 4
    rows = math.ceil(len(profile.sites) / columns)
    canvas = Canvas(figsize=(WIDTH + 1, 1.25 * rows + 0.8), layout="constrained")
    panels = canvas.subplots(rows, columns, squeeze=False).flat
    said = []
    for site, axes in zip(profile.sites, panels, strict=False):  # sites first: a panel drawn too many would be lost
        for i, (arm, sites) in enumerate(profile.arms.items()):
            heights = _histogram([rate for rates in sites[site].values() for rate in rates])
            colour, line = style_of(i)
            axes.stairs(heights, _EDGES, color=colour, linestyle=line, linewidth=1.2, label=arm)
            said.append(f"{arm} {site} {heights[0]:.1f}")
        axes.set_title(site, fontsize=7)
        axes.set_xticks([_EDGES[0] / 2, 0.5, 1], ["never", "50 %", "100 %"], fontsize=6)
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.tick_params(axis="y", labelsize=6)
    for axes in panels:  # those left over
        axes.set_axis_off()
    canvas.legend(*canvas.axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=3)
    canvas.supylabel("Units of the site (%)", fontsize=8)
    where = f"{profile.task.name} on {profile.task.data}, rate {profile.task.lr:g}, {scale} scale"
    title = f"How often units fire, {where}"
    canvas.suptitle(title, x=0.01, ha="left", fontsize=9)
    told = "Share of values above 0, histogram over the units of all seeds, a panel a site; the first bin never fires"
    return {"profile": (canvas, title, f"{title}. {told}. Units that never fire, %: {'; '.join(said)}.")}


def _histogram(rates: Sequence[float]) -> list[float]:
    """Percentages of the units: of those that never fire, then by rate.

    >>> _histogram([0.0, 0.0, 0.001, 1.0])[:2], _histogram([0.0, 0.0, 0.001, 1.0])[-1]
    ([50.0, 25.0], 25.0)
    """
    counts = [0] * (_BINS + 1)
    for rate in rates:
        counts[math.ceil(rate * _BINS) if rate > 0 else 0] += 1
    return [100 * count / len(rates) for count in counts]


def _landscapes(landscapes: Landscapes, scale: str) -> Drawn:
    """The first seed that all arms have, as contours and as a surface."""
    seeds = [set(of) for of in landscapes.arms.values()]
    common = [seed for seed in next(iter(landscapes.arms.values())) if all(seed in of for of in seeds)]
    if not common:
        return {}
    heights = {
        arm: np.ma.masked_invalid(np.log10(np.array(of[common[0]].losses, dtype=np.float64).clip(1e-12)))
        for arm, of in landscapes.arms.items()
    }
    if any(not height.count() for height in heights.values()):
        return {}
    task, grid = landscapes.task, landscapes.grid
    where = f"{task.name} on {task.data}, rate {task.lr:g}, seed {common[0]}, {scale} scale"
    said = "; ".join(
        f"{arm}: {digits(10 ** height[grid.points // 2, grid.points // 2])} in the middle, up to {digits(10 ** height.max())}"
        for arm, height in heights.items()
    )
    steps = np.linspace(-grid.reach, grid.reach, grid.points)
    return {
        "contours": _contours(heights, steps, f"Loss around the trained network, {where}", said),
        "surfaces": _surfaces(heights, steps, f"Loss around the trained network, surface, {where}", said),
    }


def _contours(heights: dict[str, Any], steps: Any, title: str, said: str) -> tuple[Canvas, str, str]:
    """The same levels for every arm."""
    low, high = (edge([edge(height) for height in heights.values()]) for edge in (np.min, np.max))
    levels = np.linspace(low, max(high, low + 1e-6), 14)[1:-1]
    canvas = Canvas(figsize=(WIDTH, 3.1), layout="constrained")
    for axes, (arm, height) in zip(np.atleast_1d(canvas.subplots(1, len(heights))), heights.items(), strict=True):
        inside = [level for level in levels if height.min() < level < height.max()]
        if inside:
            lines = axes.contour(steps, steps, height, levels=inside, colors=SERIES[1].stand_in, linewidths=0.8)
            named = [level for level in levels[::3] if level in inside]
            axes.clabel(lines, named, fmt=lambda level: digits(10**level), fontsize=7, colors=INK.stand_in)
        axes.plot([0], [0], marker="+", color=INK.stand_in)
        axes.set_title(arm, fontsize=9)
        axes.set_aspect("equal")
        axes.grid(visible=False)
        axes.set_xlabel("First direction")
    canvas.axes[0].set_ylabel("Second direction")
    canvas.suptitle(title, x=0.01, ha="left", fontsize=8)
    told = (
        "Contours of the loss, evenly spaced in its logarithm and the same for all, on two filter-normalised directions"
    )
    return canvas, title, f"{title}. {told}. {said}."


def _surfaces(heights: dict[str, Any], steps: Any, title: str, said: str) -> tuple[Canvas, str, str]:
    """As wires, every second of a fine grid."""
    canvas = Canvas(figsize=(WIDTH, 3.1))
    x, y = np.meshgrid(steps, steps)
    every = 2 if len(steps) > 11 else 1
    high = max(height.max() for height in heights.values())
    low = min(height.min() for height in heights.values())
    for i, (arm, height) in enumerate(heights.items(), 1):
        axes: Any = canvas.add_subplot(1, len(heights), i, projection="3d")
        colour = SERIES[i % len(SERIES)].stand_in
        axes.plot_wireframe(x, y, height.filled(high), rstride=every, cstride=every, color=colour, linewidth=0.6)
        axes.set_zlim(low, max(high, low + 1e-6))
        axes.set_title(arm, fontsize=9)
        axes.tick_params(labelsize=6)
        axes.zaxis.set_major_formatter(FuncFormatter(lambda level, _: digits(10**level)))
        for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
            axis.set_pane_color((1, 1, 1, 0))
            axis.set_major_locator(MaxNLocator(4))
    canvas.suptitle(title, x=0.01, ha="left", fontsize=8)
    return canvas, title, f"{title}. The height is the logarithm of the loss, on the same scale for all. {said}."


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.tick_params(axis="y", which="both", labelsize=7)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: digits(value)))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: digits(value)))
