"""The figures of the report. Each says in words what it shows, for those who cannot see it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from undying.lab.results import ActivationResult, Curve, Results, Summary
from undying.plots.theme import INK, MUTED, RC, SERIES, for_file, for_page, render, style_of
from undying.report.words import (
    UNKNOWN,
    between,
    clip,
    known,
    mean_share,
    percent,
    product_name,
    ratio,
    seconds_ratio,
)

WIDTH = 4.17
"""Inches: 400 px on a page, so that 9.5 pt can still be read when a phone shows a figure at its full width."""

HEAT = (226, 88, 12)
"""The heat maps' colour, seen through on low shares: it is read on white and on black alike."""


FEW = 8
"""Most activations whose curves can be told apart in one set of axes; more get a small panel each."""
POINTS = 120
"""Most points of a curve, beyond which epochs are left out: a figure is 400 pixels wide. In small panels 40."""


@dataclass(frozen=True)
class Figure:
    """One figure, ready to be placed."""

    name: str
    """Stem of its file and prefix of its ids."""
    title: str
    caption: str
    alt: str
    """The finding in words, with the numbers."""
    page: str
    """SVG element for the page."""
    file: str
    """SVG file."""


def draw(results: Results) -> list[Figure]:
    """All figures, in the order of the page. Leaves matplotlib's settings as they were."""
    with _settings():
        return [
            accuracy(results),
            silent_units(results),
            *learning(results),
            *norms(results),
            layers(results, "silent"),
            layers(results, "dead"),
            *sparsity(results),
            cost(results),
        ]


def draw_few(results: Results, prefix: str) -> list[Figure]:
    """What a page of several comparisons shows of one: accuracy, silent units, and how both came about.

    Args:
        prefix: put before the names, since ids are unique in a page.
    """
    with _settings():
        return [
            accuracy(results, prefix),
            silent_units(results, prefix),
            learning(results, prefix)[0],
            layers(results, "silent", prefix),
        ]


@contextmanager
def _settings() -> Iterator[None]:
    # after_reset: a user's matplotlibrc must not change the report.
    with matplotlib.style.context(RC, after_reset=True), warnings.catch_warnings():
        # A glyph that the measuring font lacks is drawn by the browser's font.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        yield


def accuracy(results: Results, prefix: str = "") -> Figure:
    """Test accuracy of each activation: mean, interval and runs."""
    return _shares(
        results,
        f"{prefix}accuracy",
        "Test accuracy after the last epoch",
        [activation.accuracy for activation in results.activations],
    )


def silent_units(results: Results, prefix: str = "") -> Figure:
    """Silent units of each activation: mean, interval and runs."""
    return _shares(
        results,
        f"{prefix}silent",
        "Silent units after the last epoch",
        [activation.silent for activation in results.activations],
    )


def learning(results: Results, prefix: str = "") -> list[Figure]:
    """Test accuracy and train loss by epoch."""
    return _curves(
        results,
        f"{prefix}learning",
        "Learning curves",
        [_Panel("test_accuracy", "Test accuracy (%)", 100), _Panel("train_loss", "Training loss", 1, log=True)],
    )


def norms(results: Results) -> list[Figure]:
    """Gradient and update norm by epoch."""
    return _curves(
        results,
        "norms",
        "Gradient and update norms",
        [_Panel("gradient_norm", "Gradient norm", 1, log=True), _Panel("update_norm", "Update norm", 1, log=True)],
    )


def sparsity(results: Results) -> list[Figure]:
    """Share of outputs that are exactly 0, by epoch."""
    return _curves(results, "sparsity", "Sparsity", [_Panel("sparsity", "Outputs that are exactly 0 (%)", 100)])


def cost(results: Results) -> Figure:
    """Seconds a run, over the baseline's."""
    reference = results.baseline
    base = dict(zip(reference.seeds, reference.seconds.values, strict=True))
    rows = []
    for index, activation in enumerate(results.activations):
        pairs = [
            (seed, own / base[seed])
            for seed, own in zip(activation.seeds, activation.seconds.values, strict=True)
            if base.get(seed, 0) > 0
        ]
        rows.append(
            _Row(
                activation.name,
                [value for _, value in pairs],
                seconds_ratio(results, index),
                places=_places(results, [seed for seed, _ in pairs]),
            )
        )
    said = "; ".join(
        f"{row.name} {ratio(row.mean)} ({activation.seconds.mean:.3g} s)"
        for row, activation in zip(rows, results.activations, strict=True)
    )
    baseline = product_name(reference.name)
    return _finish(
        _dots(rows, f"Seconds a run, relative to {clip(baseline, 20)}", ratio),
        "cost",
        "Cost of a run",
        f"Large dots: mean seconds over {baseline}’s. Small dots: single seeds, each over {baseline}’s run with that "
        "seed. A triangle is a run outside the axis. Runs share "
        "a machine, so small differences mean nothing.",
        f"Mean seconds of a run relative to {baseline}: {said}.",
    )


def layers(results: Results, kind: str, prefix: str = "") -> Figure:
    """Heat maps of silent or dead units: a panel an activation, a row a site, a column an epoch."""
    columns = min(_columns(results), len(results.activations))
    rows = math.ceil(len(results.activations) / columns)
    names = [site.name for activation in results.activations for site in activation.sites]
    numbered = any(len(name) > 11 for name in names)
    most = max(len(activation.sites) for activation in results.activations)
    height = min(max(0.14 * most, 0.6), 2.4 if rows < 3 else 1.2 if rows < 6 else 0.8)
    canvas = Canvas(figsize=(WIDTH, rows * (height + 0.32) + 0.78), layout="constrained")
    grid = canvas.add_gridspec(rows + 1, columns, height_ratios=[*[height] * rows, 0.09])
    for index, activation in enumerate(results.activations):
        axes = canvas.add_subplot(grid[index // columns, index % columns])
        _heat_map(axes, activation, kind)
        if index % columns == 0:
            _label_layers(axes, activation, numbered, most=min(12, int(height / 0.12)))
        if index + columns >= len(results.activations):
            _label_epochs(axes, max((len(getattr(site, kind)) for site in activation.sites), default=0))
    _heat_scale(canvas.add_subplot(grid[rows, :]), f"{kind.capitalize()} units, mean over the runs")

    histories = [getattr(site, kind) for activation in results.activations for site in activation.sites]
    shares = [share for history in histories for share in _held(history)]
    return _finish(
        canvas,
        f"{prefix}layers-{kind}",
        f"{kind.capitalize()} units by layer and epoch",
        "A row is a layer, from the input (top) to the output; a column is an epoch, and epoch 0 is before training."
        + (" Layers are numbered as in the table below." if numbered else "")
        + (
            ""
            if all(_held(history) == list(history) for history in histories)
            else " An epoch that was not counted shows the count before it."
        )
        + ("" if all(map(known, shares)) else " Grey: not known."),
        f"Share of {kind} units by layer, mean over the runs. "
        + " ".join(_layers_in_words(activation, kind) for activation in results.activations),
    )


@dataclass(frozen=True)
class _Row:
    """One line of a dot plot."""

    name: str
    values: Sequence[float]
    mean: float | None
    low: float | None = None
    high: float | None = None
    places: Sequence[float] = ()
    """Of each value, from -0.5 above the line to 0.5 below it."""


@dataclass(frozen=True)
class _Panel:
    """One set of axes of a curve figure."""

    key: str
    label: str
    scale: float
    log: bool = False


def _finish(canvas: Canvas, name: str, title: str, caption: str, alt: str) -> Figure:
    drawn = render(canvas, salt=name)
    return Figure(name, title, caption, alt, for_page(drawn, name, title, alt), for_file(drawn, title, alt))


def _columns(results: Results) -> int:
    """How many names fit beside each other in a figure."""
    return 3 if all(len(activation.name) <= 11 for activation in results.activations) else 2


# Dot plots


def _shares(results: Results, name: str, title: str, summaries: Sequence[Summary | None]) -> Figure:
    rows = []
    for activation, summary in zip(results.activations, summaries, strict=True):
        places = _places(results, activation.seeds)
        if summary is None:
            rows.append(_Row(activation.name, [], None))
        else:
            low, high = (None if end is None else 100 * end for end in (summary.low, summary.high))
            values = [100 * value for value in summary.values]
            rows.append(_Row(activation.name, values, 100 * summary.mean, low, high, places))
    said = "; ".join(
        f"{activation.name} {mean_share(summary)}{between(summary.low, summary.high, ' %') if summary else ''}"
        for activation, summary in zip(results.activations, summaries, strict=True)
    )
    return _finish(
        _dots(rows, f"{title.removesuffix(' after the last epoch')} (%)", lambda value: f"{value:.1f}"),
        name,
        title,
        "Large dots: mean, with its 95 % interval. Small dots: single seeds; a triangle at the edge is a run outside the "
        f"axis. Dashed line: {product_name(results.baseline.name)}.",
        f"{title}, mean over the runs: {said}.",
    )


def _places(results: Results, seeds: Sequence[int]) -> list[float]:
    """A seed has the same place above or below the line in every row, so that pairs can be followed by eye."""
    most = max((seed for activation in results.activations for seed in activation.seeds), default=0)
    return [seed / most - 0.5 if most else 0.0 for seed in seeds]


def _dots(rows: Sequence[_Row], label: str, text: Callable[[float], str]) -> Canvas:
    canvas = Canvas(figsize=(WIDTH, 0.3 * len(rows) + 0.62), layout="constrained")
    axes = canvas.add_subplot()
    low, high = _limits(rows)
    if known(rows[0].mean):
        axes.axvline(rows[0].mean, color=MUTED.stand_in, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    for index, row in enumerate(rows):
        _dot_row(axes, index, row, (low, high))
        value = text(row.mean) if known(row.mean) else UNKNOWN
        axes.text(1.03, index, value, transform=axes.get_yaxis_transform(), va="center", color=INK.stand_in)
    axes.set_xlim(low, high)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [clip(row.name, 18) for row in rows], color=INK.stand_in)
    axes.tick_params(axis="y", pad=7)  # room for the triangles at the edge
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(label)
    return canvas


def _dot_row(axes: Axes, index: int, row: _Row, limits: tuple[float, float]) -> None:
    colour, _ = style_of(index)
    heights = index + 0.52 * np.array(row.places, dtype=float)
    values = np.array(row.values, dtype=float)
    inside = (values >= limits[0]) & (values <= limits[1])
    faint: dict[str, Any] = {"color": colour, "alpha": 0.4, "linestyle": "none", "markeredgewidth": 0, "clip_on": False}
    axes.plot(values[inside], heights[inside], marker="o", markersize=3.2, zorder=2, **faint)
    for outside, edge, marker in ((values < limits[0], limits[0], "<"), (values > limits[1], limits[1], ">")):
        if outside.any():
            axes.plot(np.full(outside.sum(), edge), heights[outside], marker=marker, markersize=4.5, zorder=2, **faint)
    if known(row.low) and known(row.high):
        axes.plot([row.low, row.high], [index, index], color=colour, linewidth=2.2, solid_capstyle="round", zorder=3)
    if known(row.mean):
        axes.plot([row.mean], [index], color=colour, marker="o", markersize=6.5, markeredgewidth=0, zorder=4)


def _limits(rows: Sequence[_Row]) -> tuple[float, float]:
    """An axis that holds every mean and interval, and the runs that are not far from them.

    One diverged run would otherwise squeeze all the others into one spot.
    """
    core = [value for row in rows for value in (row.mean, row.low, row.high) if known(value)] or [0.0, 1.0]
    low, high = min(core), max(core)
    reach = high - low
    near = [value for row in rows for value in row.values if known(value) and low - reach <= value <= high + reach]
    low, high = min([low, *near]), max([high, *near])
    margin = 0.04 * (high - low) or max(0.01 * abs(high), 0.01)
    return low - margin, high + margin


# Curves


def _curves(results: Results, name: str, title: str, panels: Sequence[_Panel]) -> list[Figure]:
    """One figure of all activations' lines or, where they could not be told apart, one of small panels a number."""
    if len(results.activations) > FEW:
        return [_multiples(results, f"{name}-{panel.key}", panel) for panel in panels]
    names = [clip(activation.name, 18) for activation in results.activations]
    columns = _columns(results)
    legend_rows = math.ceil(len(names) / columns)
    canvas = Canvas(figsize=(WIDTH, 1.85 * len(panels) + 0.2 * legend_rows + 0.35), layout="constrained")
    grid = canvas.subplots(len(panels), 1, sharex=True, squeeze=False)
    for axes, panel in zip(grid[:, 0], panels, strict=True):
        _curve_panel(axes, results, panel)
    grid[-1, 0].set_xlabel("Epoch")

    lines = [Line2D([], [], color=colour, linestyle=line) for colour, line in map(style_of, range(len(names)))]
    # The names are set afterwards: matplotlib refuses a label that begins with an underscore.
    legend = canvas.legend(lines, ["x"] * len(names), loc="outside upper left", ncols=columns, handlelength=2.1)
    for entry, text in zip(legend.get_texts(), names, strict=True):
        entry.set_text(text)

    return [
        _finish(
            canvas,
            name,
            title,
            "Median over the runs; the band holds the middle half of them.",
            " ".join(_curves_in_words(results, panel) for panel in panels),
        )
    ]


def _multiples(results: Results, name: str, panel: _Panel) -> Figure:
    """A panel an activation, each with the baseline's line, all of one scale."""
    others = results.activations[1:]
    columns = 4 if all(len(other.name) <= 12 for other in others) else 3
    rows = math.ceil(len(others) / columns)
    height = 0.92 * rows + 0.5
    canvas = Canvas(figsize=(WIDTH, height))
    grid = canvas.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    edges = {"left": 0.13, "right": 0.99, "bottom": 0.42 / height, "top": 1 - 0.24 / height}
    canvas.subplots_adjust(**edges, wspace=0.12, hspace=0.42)
    shown: list[float] = []
    epochs, _, reference, _ = _curve_arrays(results.baseline.curves[panel.key], panel.scale, POINTS // 3)
    for axes, other in zip(grid.flat, others, strict=False):
        axes.plot(epochs, reference, color=INK.stand_in, linestyle=(0, (3, 2)), linewidth=0.9, zorder=4)
        own, low, median, high = _curve_arrays(other.curves[panel.key], panel.scale, POINTS // 3)
        axes.fill_between(own, low, high, color=SERIES[1].stand_in, alpha=0.22, linewidth=0)
        axes.plot(own, median, color=SERIES[1].stand_in, linewidth=1.4, marker=_marker(median), zorder=3)
        axes.set_title(clip(other.name, 14 if columns == 4 else 19), fontsize=8.5, fontweight="normal", pad=3)
        axes.tick_params(labelsize=8.5)
        shown += [float(value) for line in (reference, median) for value in line if math.isfinite(value)]
    for axes in list(grid.flat)[len(others) :]:
        axes.set_visible(False)
    # The numbers of the epochs are below the last panel of each column.
    for column in range(min(columns, len(others))):
        lowest = (len(others) - 1 - column) // columns
        grid[lowest, column].tick_params(labelbottom=True)
    grid[0, 0].xaxis.set_major_locator(MaxNLocator(2, integer=True, min_n_ticks=1))
    _scale(grid[0, 0], panel, shown, ticks=3)
    canvas.supxlabel("Epoch", fontsize=9.5, color=MUTED.stand_in, x=0.56, y=0.02 / height)
    return _finish(
        canvas,
        name,
        panel.label,
        f"Line: median over the runs; the band holds the middle half of them. Dashed: {product_name(results.baseline.name)}. "
        "All panels have the same scale.",
        _curves_in_words(results, panel),
    )


def _curve_panel(axes: Axes, results: Results, panel: _Panel) -> None:
    shown: list[float] = []
    for index, activation in enumerate(results.activations):
        colour, line = style_of(index)
        epochs, low, median, high = _curve_arrays(activation.curves[panel.key], panel.scale)
        axes.fill_between(epochs, low, high, color=colour, alpha=0.12, linewidth=0)
        order = 4 if index == 0 else 3
        axes.plot(epochs, median, color=colour, linestyle=line, marker=_marker(median), linewidth=1.5, zorder=order)
        shown += [float(value) for value in median if math.isfinite(value)]
    axes.set_title(panel.label)
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    _scale(axes, panel, shown, ticks=5)


def _marker(values: np.ndarray) -> str:
    """A dot where a line would need two points."""
    return "o" if np.isfinite(values).sum() == 1 else ""


def _scale(axes: Axes, panel: _Panel, shown: Sequence[float], ticks: int) -> None:
    span = max(shown) / min(shown) if shown and min(shown) > 0 else 1
    if panel.log and span > 4:
        axes.set_yscale("log")
        fine = (1, 2, 5) if span < 6 * ticks else (1, 3) if span < 200 * ticks and ticks > 3 else (1,)
        # By itself it would leave out every tick of a small panel.
        axes.yaxis.set_major_locator(LogLocator(subs=fine, numticks=12))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(ticks))


def _curve_arrays(
    curve: Curve, scale: float, points: int = POINTS
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Epochs (0: before training) at which something was measured, thinned out; low, median and high as plotted."""
    measured = np.array([epoch for epoch, value in enumerate(curve.median) if known(value)], dtype=int)
    last = len(measured) - 1
    epochs = measured[np.unique(np.linspace(0, last, min(last + 1, points)).round().astype(int))]

    def array(values: Sequence[float | None]) -> np.ndarray:
        return np.array([scale * value if known(value) else math.nan for value in (values[e] for e in epochs)])

    return epochs, array(curve.low), array(curve.median), array(curve.high)


def _curves_in_words(results: Results, panel: _Panel) -> str:
    said = []
    for activation in results.activations:
        values = [panel.scale * value for value in activation.curves[panel.key].median if known(value)]
        said.append(
            f"{activation.name} {values[0]:.3g} to {values[-1]:.3g}" if values else f"{activation.name} not known"
        )
    return f"{panel.label}, median over the runs, first to last epoch: {'; '.join(said)}."


# Heat maps


def _heat(shares: Sequence[Sequence[float | None]]) -> np.ndarray:
    """One RGBA pixel a cell. A share of 0 is left faintly visible, so that the panel is seen; unknown is grey."""
    table = np.array([[share if known(share) else math.nan for share in row] for row in shares], dtype=float)
    pixels = np.empty((*table.shape, 4), dtype=np.uint8)
    pixels[..., :3] = HEAT
    # The power keeps small shares, which are the common ones, apart; the scale below the panels shows the same.
    pixels[..., 3] = np.nan_to_num(np.rint(255 * (0.06 + 0.94 * table.clip(0, 1) ** 0.7)))
    pixels[np.isnan(table)] = (128, 128, 128, 110)
    return pixels


def _heat_map(axes: Axes, activation: ActivationResult, kind: str) -> None:
    axes.set_title(clip(activation.name, 17), fontsize=9, fontweight="normal")
    _bare(axes)
    shares = [getattr(site, kind) for site in activation.sites]
    width = max(map(len, shares), default=0)
    if width:
        axes.imshow(
            _heat([[*_held(row), *[None] * (width - len(row))] for row in shares]), interpolation="none", aspect="auto"
        )


def _held(shares: Sequence[float | None]) -> list[float | None]:
    """Epochs between two that were counted show the first of the two; what was not counted to the end stays unknown.

    >>> _held([0.1, None, None, 0.4, None])
    [0.1, 0.1, 0.1, 0.4, None]
    """
    counted = [epoch for epoch, share in enumerate(shares) if known(share)]
    held = list(shares)
    for epoch, following in pairwise(counted):
        held[epoch:following] = [shares[epoch]] * (following - epoch)
    return held


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _label_layers(axes: Axes, activation: ActivationResult, numbered: bool, most: int) -> None:
    """Names where they fit, else numbers."""
    labels = [str(row + 1) if numbered else clip(site.name, 11) for row, site in enumerate(activation.sites)]
    every = math.ceil(len(labels) / most) or 1
    axes.set_yticks(range(0, len(labels), every), labels[::every], fontsize=8.5)


def _label_epochs(axes: Axes, epochs: int) -> None:
    axes.set_xticks(sorted({0, (epochs - 1) // 2, epochs - 1}) if epochs else [])
    axes.set_xlabel("Epoch")


def _heat_scale(axes: Axes, label: str) -> None:
    ramp = np.linspace(0, 1, 101)
    axes.imshow(_heat([ramp.tolist()]), interpolation="none", aspect="auto", extent=(0, 100, 0, 1))
    _bare(axes)
    axes.set_xticks([0, 25, 50, 75, 100], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel(label)


def _layers_in_words(activation: ActivationResult, kind: str) -> str:
    histories = [(site.name, getattr(site, kind)) for site in activation.sites]
    before = [shares[0] for _, shares in histories if shares and known(shares[0])]
    after = sorted((shares[-1], name) for name, shares in histories if shares and known(shares[-1]))
    if not before or not after:
        return f"{activation.name}: not known."
    (least, lowest), (greatest, highest) = after[0], after[-1]
    return (
        f"{activation.name}: at most {percent(max(before))} before training; "
        f"after the last epoch from {percent(least)} ({lowest}) to {percent(greatest)} ({highest})."
    )
