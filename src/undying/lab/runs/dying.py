"""Train a network so that its units die, treat it, and count who comes back."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undying.census.census import census
from undying.census.results import Census
from undying.lab import data
from undying.lab.checkpoints import Checkpoint, seed_everything
from undying.lab.execution import Execution
from undying.lab.models.functional_cnn import FunctionalCNN
from undying.lab.models.mlp import mlp
from undying.lab.optimizers import build_optimizer
from undying.lab.recipe import Recipe
from undying.lab.runs.classification import evaluate
from undying.lab.runs.kind import Curve, Epoch, Kind, Lines
from undying.lab.runs.lines import last_counted, recycled_share, share, treatment_metrics, unit_metrics, weights_sha256
from undying.lab.runs.start import start_of
from undying.lab.settings import AnyRun
from undying.lab.treatments import build_treatment
from undying.treat.convert import convert_
from undying.treat.revert import revert_

_CHANCE = 0.1  # of ten digits
_RECOVERED = 0.9
"""Accuracy from which a network counts as brought back; a healthy one has 0.93 to 0.98."""


@dataclass(frozen=True, kw_only=True)
class DyingRun(AnyRun):
    """One training on digits of an MLP, or of a small network that calls its activations in its forward."""

    kind: ClassVar[str] = "dying"
    data: str = "digits"
    model: str = "mlp"
    """``"mlp"`` or ``"functional_cnn"``."""
    depth: int
    """Hidden layers of the MLP; the other network has its own."""
    width: int
    """Units of each."""
    tasks: int = 1
    """One after the other, an equal share of the epochs each: the digits get other labels, a permutation of the ten."""
    relu_epochs: int = 0
    """Train so many epochs with ReLU first, then put the activation in; 0: from the start."""
    relu_lr: float = 0.0
    """The learning rate of these."""
    validation: float = 0.0
    """Share of the training data that is held out and measured each epoch, for choices."""
    shift: float = 0.0
    """Added to every input, which is normalized: |mean| / std of what the first layer reads."""
    ends_as_relu: bool = False
    """Before it is measured for the last time, what was put in is taken out again; where that would change what the
    network computes, the run fails."""


def train(config: DyingRun, execution: Execution | None = None) -> Iterator[Epoch]:
    """Train as ``config`` says. A loss or weight that stops being finite ends the run with a last, diverged epoch.

    From the switch on, ``revived`` is the number of units of those silent before it (``silent_before``) that fire, and
    ``lost`` of those that fired and are silent, on the same samples: all training samples. At the epoch of the switch it is
    what the new activation does without any training, while the other numbers of that line are those of ReLU.
    """
    run = _Run(config, execution or Execution())
    counted: Census | None = None
    start = start_of(run.model, run.planned, prepared=run.prepared)
    try:
        if not config.relu_epochs:
            run.begin()
        for epoch in range(config.epochs + 1):
            started = time.perf_counter()
            if epoch > 0:
                run.train(epoch)
            if config.ends_as_relu and epoch == config.epochs:
                revert_(run.model)
            loss, accuracy = run.measure(run.test, epoch)
            diverged = not (math.isfinite(loss) and all(bool(p.isfinite().all()) for p in run.model.parameters()))
            metrics: dict[str, Any] = {"epoch": epoch, "task": run.task(epoch)}
            if diverged:
                metrics |= {"test_loss": None, "test_accuracy": None}
            else:
                counted = run.count(epoch)
                metrics |= {"test_loss": loss, "test_accuracy": accuracy, **unit_metrics(counted)}
                if run.held is not None:
                    _, metrics["validation_accuracy"] = run.measure(run.held, epoch)
                silent = _silent(counted)
                if epoch == config.relu_epochs > 0:
                    run.silent_before = silent
                    run.switch()
                    run.begin()
                    silent = _silent(run.count(epoch))  # other outputs of one layer are other inputs of the next
                if epoch == 0 and len(run.silent_before) not in (0, len(silent)):
                    run.silent_before = silent  # with crelu there are other units
                if epoch >= config.relu_epochs:
                    metrics |= {
                        "silent_before": int(run.silent_before.sum()),
                        "revived": int((run.silent_before & ~silent).sum()),
                        "lost": int((silent & ~run.silent_before).sum()),
                    }
            last = diverged or epoch == config.epochs
            metrics |= treatment_metrics(run.treatment, last=last)
            if last:
                metrics["weights_sha256"] = weights_sha256(run.model)
            metrics["seconds"] = time.perf_counter() - started
            yield Epoch(metrics, counted, diverged, start=start if epoch == 0 else None)
            if diverged:
                return
    finally:
        run.treatment.close()


class _Run:
    """The network, its data and its labels."""

    def __init__(self, config: DyingRun, execution: Execution) -> None:
        self.config = config
        dataset, held = data.load(config.data), None
        if config.validation:
            dataset, *held = dataset.without(config.validation)
        device = torch.device(execution.device)

        def moved(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            return (dataset.standardised(x) + config.shift).to(device), y.to(device)

        self.x, self.y = moved(dataset.x_train, dataset.y_train)
        self.test = moved(dataset.x_test, dataset.y_test)
        self.held = moved(*held) if held else None
        seed_everything(config.seed)
        self.model = network(config.model, config.depth, config.width, dataset.shape, dataset.classes).to(device)
        self.draws = torch.Generator().manual_seed(config.seed)
        # The first task has the digits' own labels.
        permutations = [torch.randperm(dataset.classes, generator=self.draws) for _ in range(config.tasks - 1)]
        self.permutations = [p.to(device) for p in (torch.arange(dataset.classes), *permutations)]
        self.optimizer = self._optimizer(config.relu_lr)
        self.planned, self.prepared = build_treatment(config.activation), list[str]()
        self.treatment = build_treatment("relu").start(self.model, self.optimizer, [], 1, config.seed)
        self.silent_before = torch.empty(0)
        if not config.relu_epochs:
            self.silent_before = _silent(self.count(0))
            self.switch()

    def switch(self) -> None:
        """Put the activation in. A new optimizer: what the old one remembers is of another rate."""
        calls = self.config.model == "functional_cnn"
        convert_(self.model, self.planned.build(), functional=calls, example=self.x[:2] if calls else None)
        self.prepared = self.planned.prepare(self.model, self.probe)
        self.optimizer = self._optimizer(self.config.lr)

    def begin(self) -> None:
        """Put the treatment to work for the epochs that are left: its steps are counted from the switch on."""
        steps = -(-len(self.y) // self.config.batch_size) * (self.config.epochs - self.config.relu_epochs)
        self.treatment = self.planned.start(self.model, self.optimizer, self.probe, steps, self.config.seed)

    @property
    def probe(self) -> list[tuple[Tensor, Tensor]]:
        return [(self.x, self.y)]

    def train(self, epoch: int) -> None:
        self.model.train()
        y = self.labels(self.y, epoch)
        for batch in torch.randperm(len(y), generator=self.draws).to(y.device).split(self.config.batch_size):
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(self.x[batch]), y[batch]).backward()
            self.treatment.before_step()
            self.optimizer.step()
            self.treatment.after_step()

    def measure(self, part: tuple[Tensor, Tensor], epoch: int) -> tuple[float, float]:
        """(loss, accuracy) with the labels of the epoch's task."""
        x, y = part
        values = evaluate(self.model, [(x, self.labels(y, epoch))])
        return values["loss"], values["accuracy"]

    def count(self, epoch: int) -> Census:
        return census(self.model, [(self.x, self.labels(self.y, epoch))], gradients=True, loss=F.cross_entropy)

    def task(self, epoch: int) -> int:
        """The task of an epoch, counted from 0; an epoch is counted from 1, and 0 is before training."""
        return max(epoch - 1, 0) * self.config.tasks // self.config.epochs

    def labels(self, y: Tensor, epoch: int) -> Tensor:
        return self.permutations[self.task(epoch)][y]

    def _optimizer(self, lr: float) -> torch.optim.Optimizer:
        return build_optimizer(self.config.optimizer, list(self.model.parameters()), lr, Recipe())


def network(model: str, depth: int, width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    """``"functional_cnn"``, or an MLP of ``depth`` hidden layers of ``width`` units."""
    return FunctionalCNN(shape, classes) if model == "functional_cnn" else mlp(shape, classes, depth=depth, width=width)


def _silent(counted: Census) -> Tensor:
    return torch.cat([site.silent for site in counted.sites if site.silent is not None])


class Dying(Kind[DyingRun]):
    """Scored by test accuracy; ``validation`` is the mean over the ends of the tasks, so that a rate is chosen at which a
    network keeps learning."""

    config = DyingRun

    def rehearse(self, config: DyingRun, execution: Execution) -> None:
        build_treatment(config.activation).check(trained=config.relu_epochs > 0)
        run = _Run(replace(config, relu_epochs=0), execution)
        run.begin()
        run.treatment.close()

    def train(self, config: DyingRun, execution: Execution, checkpoint: Checkpoint | None) -> Iterator[Epoch]:
        return train(config, execution)

    def values(self, config: DyingRun, lines: Lines, chance: float) -> dict[str, float]:
        # The last epoch of each task that was begun with the activation in place.
        ends = [end * config.epochs // config.tasks for end in range(1, config.tasks + 1)]
        ends = [end for end in ends if end - config.epochs // config.tasks >= config.relu_epochs] or ends[-1:]
        revived, at = _revived(lines), config.relu_epochs
        accuracy = _accuracy(lines, "test", [config.epochs])
        return {
            "accuracy": accuracy,
            "recovered": float(accuracy >= _RECOVERED),
            "validation": _accuracy(lines, "validation", ends),
            "online": _accuracy(lines, "test", ends),
            # What diverged has brought nobody back.
            "revived_at_once": _at(revived, at),
            "revived_soon": _at(revived, at + 1),
            "revived": _at(revived, config.epochs),
            "recycled": recycled_share(last_counted(lines)),
        }

    def curves(self, config: DyingRun, lines: Lines) -> dict[str, Curve]:
        return {
            "over": tuple(line["epoch"] for line in lines),
            "accuracy": tuple(line["test_accuracy"] for line in lines),
            "silent": tuple(share(line, "silent") for line in lines),
            "revived": _revived(lines),
            "recycled": tuple(map(recycled_share, lines)),
        }


KIND = Dying()


def _revived(lines: Lines) -> Curve:
    """Of the units that were silent before the switch, the share that fires; None before it."""
    return tuple(line["revived"] / max(line["silent_before"], 1) if "revived" in line else None for line in lines)


def _accuracy(lines: Lines, part: str, epochs: Sequence[int]) -> float:
    """Mean over ``epochs``; a network that has diverged guesses from then on."""
    known = {line["epoch"]: line.get(f"{part}_accuracy") for line in lines}
    found = [known.get(epoch) for epoch in epochs]
    return sum(_CHANCE if accuracy is None else accuracy for accuracy in found) / len(epochs)


def _at(revived: Curve, epoch: int) -> float:
    return (revived[epoch] if epoch < len(revived) else None) or 0.0
