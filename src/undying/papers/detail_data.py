"""What some tables show beside accuracies, read from the files of their runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from undying.lab.store import Store
from undying.papers import landscape
from undying.papers.landscape import Landscape
from undying.papers.plan import Plan
from undying.papers.results import RunResult
from undying.papers.table import Grid, Table, Task
from undying.papers.verdicts import Estimate, estimate

KINDS = ("gradient", "update")


@dataclass(frozen=True)
class ArmNorms:
    """Norms of one arm's runs at the table's rate."""

    curves: Mapping[str, Sequence[float]]
    """Kind -> median over the runs of the norm over all parameters, an entry an epoch."""
    layers: Mapping[str, Mapping[str, Sequence[float]]]
    """Kind -> weight -> its norms, over the steps at which they are taken and the seeds."""
    ratios: Mapping[str, Mapping[str, Estimate]]
    """Kind -> weight -> difference of the logarithms of its mean norm to the first arm's, paired by seed."""


@dataclass(frozen=True)
class Norms:
    """Gradient and update norms of one task, by arm."""

    task: Task
    against: str
    arms: Mapping[str, ArmNorms]


@dataclass(frozen=True)
class Profile:
    """How often the units of one task's networks fire, by arm."""

    task: Task
    arms: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]]
    """Arm -> site -> seed -> share of values above 0, in [0, 1], an entry a unit."""

    @property
    def sites(self) -> tuple[str, ...]:
        """In the order of the forward pass."""
        return tuple(next(iter(self.arms.values())))

    def share(self, arm: str, site: str, at_most: float) -> Estimate:
        """Of the units that fire at no more than this share of values: mean over the seeds."""
        return estimate([_share(rates, at_most) for rates in self.arms[arm][site].values()])

    def difference(self, arm: str, against: str, site: str, at_most: float) -> Estimate | None:
        """Of these shares, paired by seed; None without a pair."""
        first, second = self.arms[arm][site], self.arms[against][site]
        pairs = [_share(first[seed], at_most) - _share(second[seed], at_most) for seed in first if seed in second]
        return estimate(pairs) if pairs else None


@dataclass(frozen=True)
class Landscapes:
    """The loss around the ends of one task's runs at the table's rate, by arm."""

    task: Task
    grid: Grid
    arms: Mapping[str, Mapping[int, Landscape]]
    """Arm -> seed -> landscape."""


Detail = Norms | Profile | Landscapes


def read_details(table: Table, plan: Plan, outcomes: Sequence[RunResult], store: Store) -> tuple[Detail, ...]:
    """What ``table`` shows, for each task that has runs.

    Raises:
        UndyingError: a run cannot be read.
    """
    if table.shows == "norms":
        return tuple(norms for task in plan.scale.tasks if (norms := read_norms(task, outcomes, store)).arms)
    if table.shows == "profile":
        return tuple(profile for task in plan.scale.tasks if (profile := read_profile(task, outcomes, store)).arms)
    if table.shows == "landscape" and plan.scale.grid is not None:
        found = (read_landscapes(task, plan.scale.grid, outcomes, store) for task in plan.scale.tasks)
        return tuple(landscapes for landscapes in found if landscapes.arms)
    return ()


def read_norms(task: Task, outcomes: Sequence[RunResult], store: Store) -> Norms:
    """Of every arm that has runs."""
    epochs = {
        (o.planned.arm, o.planned.config.seed): store.read(o.planned.config).epochs[1:]
        for o in _at_its_rate(task, outcomes)
    }
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
    return Norms(task, against, arms)


def read_profile(task: Task, outcomes: Sequence[RunResult], store: Store) -> Profile:
    """Of every arm that has runs; from the last census of each, which a diverged run has from before."""
    arms: dict[str, dict[str, dict[int, Sequence[float]]]] = {}
    for o in _at_its_rate(task, outcomes):
        config = o.planned.config
        counted = store.census(config)
        for site in counted.sites if counted else ():
            arms.setdefault(o.planned.arm, {}).setdefault(site.name, {})[config.seed] = site.rate.tolist()
    return Profile(task, arms)


def read_landscapes(task: Task, grid: Grid, outcomes: Sequence[RunResult], store: Store) -> Landscapes:
    """Of every arm of which one was computed."""
    arms: dict[str, dict[int, Landscape]] = {}
    for o in _at_its_rate(task, outcomes):
        config = o.planned.config
        found = landscape.read(config, grid, store)
        if found is not None:
            arms.setdefault(o.planned.arm, {})[config.seed] = found
    return Landscapes(task, grid, arms)


def _at_its_rate(task: Task, outcomes: Sequence[RunResult]) -> list[RunResult]:
    """The task's runs at the table's rate, arm by arm in the order of the table."""
    own = [o for o in outcomes if o.planned.task == task.name and o.planned.config.lr == task.lr]
    return [o for arm in task.arms for o in own if o.planned.arm == arm]


def _share(rates: Sequence[float], at_most: float) -> float:
    return sum(rate <= at_most for rate in rates) / len(rates)


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
) -> dict[str, Estimate]:
    """By layer; without one of which no pair has norms above 0."""
    ratios = {}
    for layer in pairs[0][0] if pairs else ():
        means = [tuple(statistics.fmean(side[layer] or [0.0]) for side in pair) for pair in pairs]
        differences = [math.log(first / second) for first, second in means if first > 0 and second > 0]
        if differences:
            ratios[layer] = estimate(differences)
    return ratios
