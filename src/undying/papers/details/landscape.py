"""The loss around the ends of runs: computed from their weights, on a plane of two directions, with its largest curvature.

SUGAR's forward pass is ReLU's, so a network that was trained with it is looked at with ReLU: its derivatives are then those
of the loss, and not of a surrogate.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, MaxNLocator
from torch import Tensor

from undying._base.errors import UndyingError
from undying._base.files import write_text
from undying._base.text import markdown
from undying.lab.execution import Execution
from undying.lab.runs.batches import Batches, dataset_of
from undying.lab.runs.classification import build_model
from undying.lab.settings import AnyRun, RunConfig
from undying.lab.store import Store
from undying.papers.details.protocol import Drawn, Section
from undying.papers.details.surface import curvature_along, directions, surface, top_curvature
from undying.papers.plan import Plan, Planned
from undying.papers.results import RunResult
from undying.papers.table import Grid, Scale, Task
from undying.papers.verdicts import estimate
from undying.plots.theme import INK, SERIES, WIDE
from undying.report.words import MISSING, digits

FILE = "landscape.json"
FORMAT = 1


@dataclass(frozen=True)
class Landscape:
    """The loss around one run's end, on the first test data."""

    losses: Sequence[Sequence[float | None]]
    """A row a step along the second direction, an entry a step along the first; None where not finite."""
    top: float | None
    """The largest eigenvalue of the loss's Hessian in all parameters; None where not finite."""
    along: float | None
    """Mean curvature along the two directions, by second differences in the middle of the grid."""

    @property
    def middle(self) -> float | None:
        """The loss of the network itself."""
        half = len(self.losses) // 2
        return self.losses[half][half]


@dataclass(frozen=True)
class Landscapes(Section):
    """The loss around the ends of one task's runs."""

    task: Task
    grid: Grid
    runs: Mapping[Planned, Landscape]

    @property
    def arms(self) -> dict[str, dict[int, Landscape]]:
        """At the table's rate, in the order of the table: arm -> seed -> landscape."""
        shown = [planned for planned in self.runs if planned.config.lr == self.task.lr]
        return {
            arm: {planned.config.seed: self.runs[planned] for planned in shown if planned.arm == arm}
            for arm in self.task.arms
            if any(planned.arm == arm for planned in shown)
        }

    @classmethod
    def announce(cls, scale: Scale) -> str:
        if (grid := scale.grid) is None:
            return ""
        return (
            f"then the loss around the end of each run: {grid.points} x {grid.points} points on {grid.images:,} images, "
            "which the estimate leaves out"
        )

    @classmethod
    def compute(cls, plan: Plan, execution: Execution, store: Store, say: Callable[[str], object]) -> None:
        if (grid := plan.scale.grid) is None:
            return
        runs = [cast(RunConfig, planned.config) for planned in plan.runs]
        for number, config in enumerate(runs, 1):
            if read_landscape(config, grid, store) is None:
                say(f"landscape {number} of {len(runs)}: {config.activation}, seed {config.seed}")
                try:
                    compute_landscape(config, grid, execution, store)
                except OSError as error:
                    raise UndyingError(
                        f"cannot write to {store.out}: {error.strerror}; make room, then run the same command again to resume"
                    ) from None

    @classmethod
    def read(cls, task: Task, scale: Scale, results: Sequence[RunResult], store: Store) -> Landscapes | None:
        """Of every run of which one was computed."""
        if (grid := scale.grid) is None:
            return None
        own = [o.planned for o in results if o.planned.task == task.name]
        runs = {planned: found for planned in own if (found := read_landscape(planned.config, grid, store)) is not None}
        return cls(task, grid, runs) if runs else None

    def complete(self, result: RunResult) -> RunResult:
        """With its curvature, where that is above 0."""
        found = self.runs.get(result.planned)
        return replace(result, curvature=math.log(found.top)) if found and found.top and found.top > 0 else result

    def table(self) -> list[str]:
        rows: list[tuple[str, ...]] = [
            ("arm", "n", "loss there", "largest curvature", "curvature along the directions (95 % interval)")
        ]
        for arm, seeds in self.arms.items():
            middle, top, along = (
                [value for found in seeds.values() if (value := getattr(found, name)) is not None]
                for name in ("middle", "top", "along")
            )
            rows.append((f"`{arm}`", str(len(seeds)), _mean(middle), _mean(top), _mean(along)))
        return [
            f"The loss around the end of each run, on {self.grid.images:,} test images: the largest curvature is the Hessian's "
            f"largest eigenvalue on {self.grid.curved:,} of them, after {self.grid.iterations} power iterations. Arithmetic "
            "means over the seeds with their 95 % intervals; the claim is judged by the ratio, paired by seed. The figures "
            "are of the first seed that both have.",
            markdown(rows),
        ]

    def figures(self, scale_name: str) -> Drawn:
        """The first seed that all arms have, as contours and as a surface."""
        seeds = [set(of) for of in self.arms.values()]
        common = [seed for seed in next(iter(self.arms.values()), ()) if all(seed in of for of in seeds)]
        if not common:
            return {}
        heights = {
            arm: np.ma.masked_invalid(np.log10(np.array(of[common[0]].losses, dtype=np.float64).clip(1e-12)))
            for arm, of in self.arms.items()
        }
        if any(not height.count() for height in heights.values()):
            return {}
        task, grid = self.task, self.grid
        where = f"{task.name} on {task.data}, rate {task.lr:g}, seed {common[0]}, {scale_name} scale"
        said = "; ".join(
            f"{arm}: {digits(10 ** height[grid.points // 2, grid.points // 2])} in the middle, up to "
            f"{digits(10 ** height.max())}"
            for arm, height in heights.items()
        )
        steps = np.linspace(-grid.reach, grid.reach, grid.points)
        return {
            "contours": _contours(heights, steps, f"Loss around the trained network, {where}", said),
            "surfaces": _surfaces(heights, steps, f"Loss around the trained network, surface, {where}", said),
        }


def compute_landscape(config: RunConfig, grid: Grid, execution: Execution, store: Store) -> None:
    """Compute the landscape of a finished run from its weights and store it beside them; nothing, if it has none.

    Raises:
        UndyingError: its weights cannot be read, or the data changed.
        OSError: it cannot be written.
    """
    weights = store.weights(config)
    if weights is None:
        return
    dataset = dataset_of(config, execution)
    batches = Batches(dataset, config, execution)
    model = build_model(replace(config, activation="relu"), dataset).to(batches.device)
    model.load_state_dict(weights)
    model.eval()
    x, y = _first(batches, grid.images)
    parameters = list(model.parameters())
    draws = torch.Generator().manual_seed(config.seed)  # the same for every activation of a seed
    first, second = directions(parameters, draws), directions(parameters, draws)
    losses = surface(lambda: float(F.cross_entropy(model(x), y)), parameters, first, second, grid)
    part = slice(grid.curved)
    top = top_curvature(F.cross_entropy(model(x[part]), y[part]), parameters, grid.iterations, draws)
    content = {
        "format": FORMAT,
        "grid": asdict(grid),
        "losses": [[_finite(loss) for loss in row] for row in losses],
        "top": _finite(top),
        "along": _finite(curvature_along(losses, grid)),
    }
    write_text(store.path(config, FILE), json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_landscape(config: AnyRun, grid: Grid, store: Store) -> Landscape | None:
    """What ``compute_landscape`` stored; None if it did not, or for another grid.

    Raises:
        UndyingError: it cannot be read.
    """
    path = store.path(config, FILE)
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] > FORMAT:
            raise UndyingError(f"{path} was written by a newer undying; upgrade undying")
        if content["grid"] != asdict(grid):
            return None
        return Landscape(content["losses"], content["top"], content["along"])
    except (ValueError, KeyError, TypeError):
        raise UndyingError(f"{path} cannot be read: it is damaged; delete it and give the same command again") from None


def _first(batches: Batches, number: int) -> tuple[Tensor, Tensor]:
    """The first test samples."""
    x, y = (torch.cat(parts) for parts in zip(*batches.test(), strict=True))
    return x[:number], y[:number]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _mean(values: Sequence[float]) -> str:
    return estimate(values).in_words("{:.3g}".format) if values else MISSING


def _contours(heights: dict[str, Any], steps: Any, title: str, said: str) -> tuple[Canvas, str, str]:
    """The same levels for every arm."""
    low, high = (edge([edge(height) for height in heights.values()]) for edge in (np.min, np.max))
    levels = np.linspace(low, max(high, low + 1e-6), 14)[1:-1]
    canvas = Canvas(figsize=(WIDE, 3.1), layout="constrained")
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
    canvas = Canvas(figsize=(WIDE, 3.1))
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
