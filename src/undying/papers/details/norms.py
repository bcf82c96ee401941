"""Norms of gradients and weight updates: over training, and by layer against the first arm."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from undying._base.text import markdown
from undying.lab.store import Store
from undying.papers.details.protocol import Drawn, Section, at_its_rate
from undying.papers.page.cells import difference
from undying.papers.results import RunResult
from undying.papers.table import METRICS, Scale, Task
from undying.papers.verdicts import estimate
from undying.plots.theme import INK, WIDE, colour_of, style_of
from undying.report.words import digits
from undying.statistics.interval import Interval

KINDS = ("gradient", "update")


@dataclass(frozen=True)
class ArmNorms:
    """Norms of one arm's runs at the table's rate."""

    curves: Mapping[str, Sequence[float]]
    """Kind -> median over the runs of the norm over all parameters, an entry an epoch."""
    layers: Mapping[str, Mapping[str, Sequence[float]]]
    """Kind -> weight -> its norms, over the steps at which they are taken and the seeds."""
    ratios: Mapping[str, Mapping[str, Interval]]
    """Kind -> weight -> difference of the logarithms of its mean norm to the first arm's, paired by seed."""


@dataclass(frozen=True)
class Norms(Section):
    """Gradient and update norms of one task, by arm."""

    task: Task
    against: str
    arms: Mapping[str, ArmNorms]

    @property
    def weights(self) -> tuple[str, ...]:
        """In the order of the forward pass."""
        return tuple(next(iter(self.arms.values())).layers[KINDS[0]])

    @classmethod
    def read(cls, task: Task, scale: Scale, results: Sequence[RunResult], store: Store) -> Norms | None:
        """Of every arm that has runs."""
        epochs = {(o.planned.arm, o.planned.config.seed): o.epochs[1:] for o in at_its_rate(task, results)}
        against = task.arms[0]
        steps = {run: _by_layer(of) for run, of in epochs.items()}
        arms = {}
        for arm in task.arms:
            seeds = [seed for one, seed in epochs if one == arm]
            if seeds:
                arms[arm] = ArmNorms(
                    {kind: _curve([epochs[arm, seed] for seed in seeds], f"{kind}_norm") for kind in KINDS},
                    {kind: _pooled([steps[arm, seed][kind] for seed in seeds]) for kind in KINDS},
                    {
                        kind: _ratios(
                            [(steps[arm, s][kind], steps[against, s][kind]) for s in seeds if (against, s) in steps]
                        )
                        for kind in KINDS
                    },
                )
        return cls(task, against, arms) if arms else None

    def table(self) -> list[str]:
        others = {arm: of for arm, of in self.arms.items() if arm != self.against}
        rows = [("weight", *(f"`{arm}`, {kind}" for arm in others for kind in KINDS))]
        rows += [
            (f"`{layer}`", *(difference(of.ratios[kind].get(layer), kind) for of in others.values() for kind in KINDS))
            for layer in self.weights
        ]
        return [
            f"Norms by layer against `{self.against}`, in per cent of its own: mean over training, then geometric mean over "
            "the seeds with its 95 % interval.",
            markdown(rows),
        ]

    def figures(self, scale_name: str) -> Drawn:
        where = f"{self.task.name} on {self.task.data}, rate {self.task.lr:g}, {scale_name} scale"
        return {"norms": _curves(self, where), **{f"{kind}-layers": _boxes(self, kind, where) for kind in KINDS}}


def _by_layer(epochs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Kind -> weight -> its finite norms over training; biases are left out."""
    layers = [name for name in epochs[0]["norms"] if name.endswith("weight")]
    return {
        kind: {
            layer: [value for epoch in epochs for value in epoch["norms"][layer][kind] if value is not None]
            for layer in layers
        }
        for kind in KINDS
    }


def _curve(runs: Sequence[Sequence[Mapping[str, Any]]], name: str) -> list[float]:
    """Median over the runs, as far as all go with finite norms."""
    curve = []
    for epochs in zip(*runs, strict=False):
        values = [epoch[name] for epoch in epochs]
        if None in values:
            break
        curve.append(statistics.median(values))
    return curve


def _pooled(runs: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    return {layer: [value for run in runs for value in run[layer]] for layer in runs[0]}


def _ratios(
    pairs: Sequence[tuple[Mapping[str, Sequence[float]], Mapping[str, Sequence[float]]]],
) -> dict[str, Interval]:
    """By layer; without one of which no pair has norms above 0."""
    ratios = {}
    for layer in pairs[0][0] if pairs else ():
        means = [tuple(statistics.fmean(side[layer] or [0.0]) for side in pair) for pair in pairs]
        differences = [math.log(first / second) for first, second in means if first > 0 and second > 0]
        if differences:
            ratios[layer] = estimate(differences)
    return ratios


def _curves(norms: Norms, where: str) -> tuple[Canvas, str, str]:
    """Both norms over all parameters, by epoch."""
    canvas = Canvas(figsize=(WIDE, 2.6), layout="constrained")
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
    layers = norms.weights
    canvas = Canvas(figsize=(WIDE, 0.16 * len(layers) * len(norms.arms) + 1.2), layout="constrained")
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


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.tick_params(axis="y", which="both", labelsize=7)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: digits(value)))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: digits(value)))
