"""From a table at a scale to the runs of the lab, in the order in which they are worth most."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from undying._base.errors import UndyingError
from undying.lab.data.dataset import Dataset
from undying.lab.settings import AnyRun
from undying.papers.table import Scale


@dataclass(frozen=True)
class Planned:
    """One run of a table, and its place there."""

    task: str
    config: AnyRun

    @property
    def arm(self) -> str:
        return self.config.activation


@dataclass(frozen=True)
class Plan:
    """A table at a scale, made for the data that are there."""

    scale: Scale
    datasets: dict[str, Dataset]
    """By name; none of tasks whose kind of run has its own."""
    seeds: dict[str, tuple[int, ...]]
    """By task."""
    runs: tuple[Planned, ...]
    """Each once, in the order in which to run them."""


def make_plan(scale: Scale, seeds: Sequence[int] = (), data_root: Path | None = None) -> Plan:
    """Expand ``scale`` to its runs.

    Args:
        scale: what to run.
        seeds: none for the table's; one number for the first so many of them; several for these.
        data_root: where downloads are kept.

    Raises:
        UndyingError: data cannot be had, or ``seeds`` are not seeds.
    """
    chosen = {task.name: choose_seeds(task.seeds, seeds) for task in scale.tasks}
    loaded = {task.data: task.load(data_root) for task in scale.tasks}
    datasets = {name: dataset for name, dataset in loaded.items() if dataset is not None}
    hashes = {name: dataset.sha256 for name, dataset in datasets.items()}
    runs = []
    # A task with fewer stages is done earlier.
    for stages in itertools.zip_longest(*(task.stages for task in scale.tasks)):
        for task, stage in zip(scale.tasks, stages, strict=True):
            if stage is not None:
                runs += [
                    Planned(task.name, task.config(arm, rate, seed, hashes.get(task.data, "")))
                    for seed in chosen[task.name]
                    for rate in stage.rates
                    for arm in stage.arms
                ]
    return Plan(scale, datasets, chosen, tuple(dict.fromkeys(runs)))


def choose_seeds(own: Sequence[int], asked: Sequence[int]) -> tuple[int, ...]:
    """The seeds of a task whose own are ``own``: one number asked for is how many, several are the seeds themselves.

    Beyond a task's own, the smallest numbers that are not among them follow.

    >>> choose_seeds((42, 1337, 2026), (5,))
    (42, 1337, 2026, 0, 1)
    >>> choose_seeds((42, 1337, 2026), (7, 8))
    (7, 8)
    """
    if any(seed < 0 for seed in asked) or len(set(asked)) < len(asked) or tuple(asked) == (0,):
        raise UndyingError(
            f"--seeds {' '.join(map(str, asked))} must be one number of at least 1 (how many), "
            "or several different seeds of at least 0"
        )
    if len(asked) != 1:
        return tuple(asked) or tuple(own)
    more = (seed for seed in itertools.count() if seed not in own)
    return tuple(itertools.islice(itertools.chain(own, more), asked[0]))
