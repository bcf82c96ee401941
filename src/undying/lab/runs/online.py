"""Train a network on tasks in a row, and score each batch before the step on it: what is left of its ability to learn."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from undying._base.errors import UndyingError
from undying.census.plasticity import Plasticity, plasticity
from undying.lab import data
from undying.lab.checkpoints import Checkpoint, seed_everything
from undying.lab.execution import Execution
from undying.lab.optimizers import build_optimizer
from undying.lab.recipe import Recipe
from undying.lab.runs.dying import network
from undying.lab.runs.kind import Curve, Epoch, Kind, Lines
from undying.lab.runs.lines import (
    last_counted,
    or_nan,
    recycled_share,
    share,
    treatment_metrics,
    unit_metrics,
    weights_sha256,
)
from undying.lab.runs.start import start_of
from undying.lab.settings import AnyRun
from undying.lab.treatments import build_treatment
from undying.treat.convert import convert_

CHANGES = ("labels", "inputs")
_CHANCE = 0.1  # of ten digits
_TRACED = 64
"""Samples by which a treatment follows the network."""


@dataclass(frozen=True, kw_only=True)
class OnlineRun(AnyRun):
    """One network on so many tasks in a row as it has epochs."""

    kind: ClassVar[str] = "online"
    data: str = "digits"
    model: str = "mlp"
    """``"mlp"``, of ``depth`` hidden layers of ``width`` units, or ``"functional_cnn"``, which has its own."""
    depth: int
    width: int
    changes: str
    """``"labels"``: each task has another permutation of the classes; ``"inputs"``: another one of the pixels."""
    steps: int
    """Of the optimizer, in a task. While it has samples enough, each is seen once."""
    momentum: float = 0.0
    """Of sgd."""


def train(config: OnlineRun, execution: Execution | None = None) -> Iterator[Epoch]:
    """Train as ``config`` says; line 0 is before training, each other the end of a task.

    ``online_accuracy`` is that of all batches of the task, each before the step on it. Units, rank and norms are measured
    on samples that are never trained on, with the task's pixels. A weight that stops being finite ends the run with a last,
    diverged line.
    """
    run = _Run(config, execution or Execution())
    start = start_of(run.model, run.planned, prepared=run.prepared)
    seen: Plasticity | None = None
    try:
        for task in range(config.epochs + 1):
            started = time.perf_counter()
            metrics: dict[str, Any] = {"epoch": task}
            if task > 0:
                metrics["online_accuracy"] = run.train()
            diverged = not all(bool(p.isfinite().all()) for p in run.model.parameters())
            last = diverged or task == config.epochs
            if diverged:
                metrics["online_accuracy"] = None
            else:
                seen = run.look()
                metrics |= {**unit_metrics(seen.census), **_plastic(seen)}
            metrics |= treatment_metrics(run.treatment, last=last)
            if last:
                metrics["weights_sha256"] = weights_sha256(run.model)
            metrics["seconds"] = time.perf_counter() - started
            yield Epoch(metrics, seen.census if seen else None, diverged, start=start if task == 0 else None)
            if diverged:
                return
    finally:
        run.treatment.close()


class _Run:
    """The network, and the stream of its tasks."""

    def __init__(self, config: OnlineRun, execution: Execution) -> None:
        if config.changes not in CHANGES:
            raise UndyingError(f"changes must be one of {', '.join(CHANGES)}, not {config.changes!r}")
        self.config = config
        dataset = data.load(config.data, root=execution.data_root)
        device = torch.device(execution.device)
        self.x, self.y = dataset.standardised(dataset.x_train).to(device), dataset.y_train.to(device)
        self.unseen = dataset.standardised(dataset.x_test).to(device)
        self.classes = dataset.classes
        seed_everything(config.seed)
        self.model = network(config.model, config.depth, config.width, dataset.shape, self.classes).to(device)
        self.draws = torch.Generator().manual_seed(config.seed)
        self.pixels, self.names = torch.arange(math.prod(dataset.shape)), torch.arange(self.classes)
        self.planned = build_treatment(config.activation)
        calls = config.model == "functional_cnn"
        convert_(self.model, self.planned.build(), functional=calls, example=self.unseen[:2] if calls else None)
        probe = [self.unseen[:_TRACED]]
        self.prepared = self.planned.prepare(self.model, probe)
        recipe = Recipe(momentum=config.momentum)
        self.optimizer = build_optimizer(config.optimizer, list(self.model.parameters()), config.lr, recipe)
        steps = config.steps * config.epochs
        self.treatment = self.planned.start(self.model, self.optimizer, probe, steps, config.seed)

    def train(self) -> float:
        """The next task. Returns its online accuracy."""
        self.begin()
        x, y = self.permuted(self.x), self.names.to(self.y.device)[self.y]
        self.model.train()
        right = torch.zeros((), dtype=torch.int64, device=y.device)
        batches = self.batches()
        for batch in batches:
            target = y[batch]
            self.optimizer.zero_grad()
            output = self.model(x[batch])
            right += (output.argmax(1) == target).sum()
            F.cross_entropy(output, target).backward()
            self.treatment.before_step()
            self.optimizer.step()
            self.treatment.after_step()
        return int(right) / sum(map(len, batches))

    def begin(self) -> None:
        """Draw the next task. The first is a permutation too."""
        if self.config.changes == "labels":
            self.names = torch.randperm(self.classes, generator=self.draws)
        else:
            self.pixels = torch.randperm(len(self.pixels), generator=self.draws)

    def permuted(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, self.pixels.to(x.device)].view_as(x)

    def batches(self) -> list[Tensor]:
        """Places of the samples of each step of a task: pass after pass, each in an order of its own."""
        size, steps = self.config.batch_size, self.config.steps
        a_pass = len(self.y) // size
        if not a_pass:
            raise UndyingError(
                f"a batch of {size} is more than the {len(self.y)} training samples of {self.config.data}"
            )
        found: list[Tensor] = []
        while len(found) < steps:
            order = torch.randperm(len(self.y), generator=self.draws).to(self.y.device)
            found += order.split(size)[:a_pass]
        return found[:steps]

    def look(self) -> Plasticity:
        return plasticity(self.model, self.permuted(self.unseen))


def _plastic(seen: Plasticity) -> dict[str, Any]:
    """Of the features that the last layer reads, and of the weights of every layer."""
    rank = seen.rows[-1].effective_rank
    return {
        "effective_rank": rank if rank is not None and math.isfinite(rank) else None,
        "weight_norms": {layer: norm for layer, norm in seen.weight_norms.items() if math.isfinite(norm)},
    }


class Online(Kind[OnlineRun]):
    """Scored by the online accuracy of every other task, from the first on; ``validation`` is that of the tasks between
    them, so that a rate is chosen on tasks that the score knows nothing of."""

    config = OnlineRun

    def rehearse(self, config: OnlineRun, execution: Execution) -> None:
        build_treatment(config.activation).check()
        _Run(replace(config, epochs=1), execution).treatment.close()

    def train(self, config: OnlineRun, execution: Execution, checkpoint: Checkpoint | None) -> Iterator[Epoch]:
        return train(config, execution)

    def values(self, config: OnlineRun, lines: Lines, chance: float) -> dict[str, float]:
        online = _online(config, lines)
        scored, held = range(0, config.epochs, 2), range(1, config.epochs, 2)
        along = slope(scored, [online[task] for task in scored])
        counted = last_counted(lines)
        return {
            "accuracy": float(np.mean([online[task] for task in scored])),
            "validation": float(np.mean([online[task] for task in held])) if len(held) else math.nan,
            "slope": along,
            "change": along * (config.epochs - 1),
            "dormant": or_nan(share(counted, "dormant")),
            "rank": or_nan(counted.get("effective_rank")),
            "weights": weight_norm(counted),
            "recycled": recycled_share(counted),
        }

    def curves(self, config: OnlineRun, lines: Lines) -> dict[str, Curve]:
        return {
            "over": tuple(line["epoch"] for line in lines),
            "accuracy": tuple(line.get("online_accuracy") for line in lines),
            "silent": tuple(share(line, "silent") for line in lines),
            "dormant": tuple(share(line, "dormant") for line in lines),
            "rank": tuple(line.get("effective_rank") for line in lines),
            "weights": tuple(weight_norm(line) if "weight_norms" in line else None for line in lines),
        }


KIND = Online()


def weight_norm(line: dict[str, Any]) -> float:
    """L2 norm of the weights of all layers of a line; NaN where it has none."""
    norms = line.get("weight_norms", {}).values()
    return math.hypot(*norms) if norms else math.nan


def _online(config: OnlineRun, lines: Lines) -> list[float]:
    """Of each task; a network that has diverged guesses from then on."""
    known = {line["epoch"]: line.get("online_accuracy") for line in lines}
    found = [known.get(task) for task in range(1, config.epochs + 1)]
    return [_CHANCE if accuracy is None else accuracy for accuracy in found]


def slope(x: Sequence[int], y: Sequence[float]) -> float:
    """Of the line with the least squares; 0 through one point.

    >>> round(slope([0, 2, 4], [0.5, 0.4, 0.3]), 6)
    -0.05
    """
    away = np.asarray(x, dtype=np.float64) - np.mean(x)
    return float(away @ np.asarray(y) / (away @ away)) if len(x) > 1 else 0.0
