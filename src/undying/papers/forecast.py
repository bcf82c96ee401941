"""How long a table may take, before it is begun: from floating point operations, a timed step, or runs that are finished."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

from undying.lab import models
from undying.lab.data.dataset import Dataset
from undying.lab.runs.classification import PROBE
from undying.papers.table import Scale, Task

GPU_FLOPS = 6e12
"""Sustained in float32 by a large GPU on such networks, a third of an A100's 19.5e12: assumed, not measured."""
GPU_STEP = 0.012
"""Seconds that a training step takes a GPU at least, to be launched from Python: assumed, not measured."""
CPU_FLOPS = 6e10
"""Of one core, for ``--list`` alone: the middle of 3e10 to 1.1e11 measured for these networks on an AMD EPYC."""

GPU_BASIS = (
    f"counted floating point operations at {GPU_FLOPS / 1e12:g} TFLOP/s and at least {1000 * GPU_STEP:g} ms a step, "
    "assumed and not measured: it may be wrong by a factor of three"
)


@dataclass(frozen=True)
class Size:
    """Of a data set."""

    shape: tuple[int, ...]
    classes: int
    train: int
    test: int

    @classmethod
    def of(cls, dataset: Dataset) -> Size:
        return cls(dataset.shape, dataset.classes, len(dataset.x_train), len(dataset.x_test))


KNOWN = {
    "cifar10": Size((3, 32, 32), 10, 50_000, 10_000),
    "cifar100": Size((3, 32, 32), 100, 50_000, 10_000),
    "digits": Size((1, 8, 8), 10, 1_437, 360),
    "CartPole-v1": Size((4,), 2, 0, 0),
    "ChangingCartPole-v0": Size((4,), 2, 0, 0),
    "ChangingAcrobot-v0": Size((6,), 3, 0, 0),
    "minilm-tokens": Size((384,), 384, 136_080, 9_072),
    "generated": Size((16,), 16, 1_920, 128),
}
"""So that ``--list`` loads no data."""


def for_a_gpu(scale: Scale) -> bool:
    """Whether a GPU is of use to any of it."""
    return any(task.seconds is None for task in scale.tasks)


def gpu_seconds(task: Task, size: Size) -> float:
    """One run of ``task`` on one GPU; see ``GPU_BASIS``."""
    if task.seconds is not None:
        return task.seconds
    steps = math.ceil(_trained(task, size) / task.batch_size) * task.epochs
    return max(run_flops(task, size) / GPU_FLOPS, steps * GPU_STEP)


def cpu_seconds(task: Task, size: Size) -> float:
    """One run of ``task`` on one core of this machine, from a training step timed here for about two seconds at most,
    or what it took another machine."""
    if task.seconds is not None:
        return task.seconds
    model = models.build(task.model, size.shape, size.classes, task.recipe.drop_path).train()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        images = 8
        seconds = _timed(model, size, images)  # which also warms up
        images = min(task.batch_size, max(images, round(2 * images / seconds)))
        seconds = _timed(model, size, images)
    finally:
        torch.set_num_threads(threads)
    return seconds / images * run_flops(task, size) / image_flops(task.model, size.shape, size.classes)


def _timed(model: nn.Module, size: Size, images: int) -> float:
    x, y = torch.randn(images, *size.shape), torch.arange(images) % size.classes
    begun = time.perf_counter()
    F.cross_entropy(model(x), y).backward()
    return time.perf_counter() - begun


def listed(scale: Scale) -> tuple[int, float, float]:
    """(runs, seconds on one GPU, seconds on one core) of a whole scale, without data and without timing anything."""
    counts = {task.name: runs_of(task) for task in scale.tasks}
    return (
        sum(counts.values()),
        sum(counts[task.name] * gpu_seconds(task, KNOWN[task.data]) for task in scale.tasks),
        sum(counts[task.name] * _core_seconds(task) for task in scale.tasks),
    )


def _core_seconds(task: Task) -> float:
    return task.seconds if task.seconds is not None else run_flops(task, KNOWN[task.data]) / CPU_FLOPS


def runs_of(task: Task) -> int:
    """Number of runs with the task's own seeds."""
    return len({(arm, rate) for stage in task.stages for arm in stage.arms for rate in stage.rates}) * len(task.seeds)


def run_flops(task: Task, size: Size) -> float:
    """Of one run: training, and the measurements: tests (a third of a step each), and counting units as often, which is
    the most that the lab does."""
    trained = _trained(task, size)
    held = (task.recipe.subset or size.train) - trained
    measured = (size.test + held) / 3 + min(PROBE, trained)
    images = trained * task.epochs + measured * (math.ceil(task.epochs / task.recipe.measure_every) + 1)
    return images * image_flops(task.model, size.shape, size.classes)


@cache
def image_flops(model: str, shape: tuple[int, ...], classes: int) -> float:
    """Floating point operations of matrix products and convolutions in a training step, an image."""
    from torch.utils.flop_counter import FlopCounterMode  # takes half a second, which no other command should

    with torch.device("meta"):
        network = models.build(model, shape, classes).train()
        x, y = torch.empty(2, *shape), torch.zeros(2, dtype=torch.long)
        with FlopCounterMode(display=False) as counted:
            F.cross_entropy(network(x), y).backward()
    return float(counted.get_total_flops()) / 2


def _trained(task: Task, size: Size) -> int:
    number = task.recipe.subset or size.train
    return number - round(task.recipe.validation * number)
