"""Heat maps of shares: a panel each, a row a layer, a column an epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from undying._base.text import clip, known
from undying.plots.marks import mark
from undying.plots.theme import NARROW, columns

HEAT = (226, 88, 12)
"""The colour, seen through on low shares: it is read on white and on black alike."""


@dataclass(frozen=True)
class Map:
    """One panel."""

    name: str
    labels: Sequence[str]
    """Of the rows, from the top."""
    shares: Sequence[Sequence[float | None]]
    """By row and column, in [0, 1]; None is not known, and rows may end early."""
    arm: int = 0
    """Its number among the arms of the page."""

    @property
    def width(self) -> int:
        return max(map(len, self.shares), default=0)


def heat_maps(maps: Sequence[Map], label: str) -> Canvas:
    """All ``maps``, at least one, with one scale below them that has this ``label``."""
    beside = min(columns([one.name for one in maps]), len(maps))
    rows = math.ceil(len(maps) / beside)
    most = max(len(one.shares) for one in maps)
    height = min(max(0.14 * most, 0.6), 2.4 if rows < 3 else 1.2 if rows < 6 else 0.8)
    canvas = Canvas(figsize=(NARROW, rows * (height + 0.32) + 0.78), layout="constrained")
    grid = canvas.add_gridspec(rows + 1, beside, height_ratios=[*[height] * rows, 0.09])
    for index, one in enumerate(maps):
        axes = canvas.add_subplot(grid[index // beside, index % beside])
        _draw(axes, one)
        if index % beside == 0:
            _label_rows(axes, one.labels, most=min(12, int(height / 0.12)))
        if index + beside >= len(maps):
            _label_epochs(axes, one.width)
    _draw_scale(canvas.add_subplot(grid[rows, :]), label)
    return canvas


def _pixels(shares: Sequence[Sequence[float | None]]) -> np.ndarray:
    """One RGBA pixel a cell. A share of 0 is left faintly visible, so that the panel is seen; unknown is grey."""
    table = np.array([[share if known(share) else math.nan for share in row] for row in shares], dtype=float)
    pixels = np.empty((*table.shape, 4), dtype=np.uint8)
    pixels[..., :3] = HEAT
    # The power keeps small shares, which are the common ones, apart; the scale below the panels shows the same.
    pixels[..., 3] = np.nan_to_num(np.rint(255 * (0.06 + 0.94 * table.clip(0, 1) ** 0.7)))
    pixels[np.isnan(table)] = (128, 128, 128, 110)
    return pixels


def _draw(axes: Axes, one: Map) -> None:
    title = axes.set_title(clip(one.name, 17), fontsize=9, fontweight="normal")
    mark(title, arm=one.arm, label="")  # axes.title would be that in the middle, which is empty
    _bare(axes)
    if one.width:
        padded = [[*row, *[None] * (one.width - len(row))] for row in one.shares]
        drawn = axes.imshow(_pixels(padded), interpolation="none", aspect="auto")
        mark(drawn, arm=one.arm, columns=one.width, rows=len(one.shares))


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _label_rows(axes: Axes, labels: Sequence[str], most: int) -> None:
    """As many as fit."""
    every = math.ceil(len(labels) / most) or 1
    axes.set_yticks(range(0, len(labels), every), labels[::every], fontsize=8.5)


def _label_epochs(axes: Axes, epochs: int) -> None:
    axes.set_xticks(sorted({0, (epochs - 1) // 2, epochs - 1}) if epochs else [])
    axes.set_xlabel("Epoch")


def _draw_scale(axes: Axes, label: str) -> None:
    ramp = np.linspace(0, 1, 101)
    axes.imshow(_pixels([ramp.tolist()]), interpolation="none", aspect="auto", extent=(0, 100, 0, 1))
    _bare(axes)
    axes.set_xticks([0, 25, 50, 75, 100], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel(label)
