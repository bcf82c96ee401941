"""Train one run and measure it, epoch by epoch. Knows nothing of where the numbers go."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import get_total_norm, parameters_to_vector
from torch.optim import Optimizer

from undying.diagnose.census import census
from undying.diagnose.results import Census
from undying.errors import UndyingError
from undying.lab import data
from undying.lab.activations import build_activation
from undying.lab.models import MODELS
from undying.lab.optimizers import OPTIMIZERS
from undying.lab.settings import RunConfig
from undying.treat.convert import convert_

PROBE = 2048
"""Units are counted on the first so many training samples, the same for every run."""


@dataclass(frozen=True)
class Epoch:
    """What is known after an epoch; epoch 0 is before training."""

    metrics: dict[str, Any]
    """One line of metrics.jsonl."""
    census: Census | None
    """None once the run has diverged."""

    @property
    def diverged(self) -> bool:
        return self.census is None


def train(config: RunConfig) -> Iterator[Epoch]:
    """Train as ``config`` says. A loss that stops being finite ends the run with a last, diverged epoch."""
    dataset = data.load(config.data)
    x_train, x_test = dataset.standardised()
    y_train, y_test = dataset.y_train, dataset.y_test
    model = build_model(config)
    optimizer = OPTIMIZERS[config.optimizer](model.parameters(), config.lr)
    order = torch.Generator().manual_seed(config.seed)

    for epoch in range(config.epochs + 1):
        started = time.perf_counter()
        steps: dict[str, float | None] = {}
        if epoch > 0:
            batches = torch.randperm(len(x_train), generator=order).split(config.batch_size)
            steps = _steps(model, optimizer, ((x_train[batch], y_train[batch]) for batch in batches))
        test_loss, test_accuracy = evaluate(model, x_test, y_test)
        diverged = None in steps.values() or not math.isfinite(test_loss)
        counted = None if diverged else _count(model, x_train[:PROBE], y_train[:PROBE])
        metrics = {
            "epoch": epoch,
            **steps,
            "test_loss": None if diverged else test_loss,
            "test_accuracy": None if diverged else test_accuracy,
            **(_unit_metrics(counted) if counted else {}),
            "seconds": time.perf_counter() - started,
        }
        yield Epoch(metrics, counted)
        if diverged:
            return


def build_model(config: RunConfig) -> nn.Module:
    """The network with its activation: the same initial weights for every activation of a seed."""
    dataset = data.load(config.data)
    torch.manual_seed(config.seed)
    model = MODELS[config.model](dataset.shape, dataset.classes)
    if convert_(model, build_activation(config.activation)).converted == 0:
        raise UndyingError(f"model {config.model!r} holds no nn.ReLU module to put {config.activation!r} in")
    return model


def _steps(model: nn.Module, optimizer: Optimizer, batches: Iterator[tuple[Tensor, Tensor]]) -> dict[str, float | None]:
    """One pass. Means over samples (loss, accuracy) and over steps (norms); None where not finite."""
    model.train()
    parameters = list(model.parameters())
    weights = parameters_to_vector(parameters).detach()
    sums = torch.zeros(4, dtype=torch.float64)
    samples = steps = 0
    for x, y in batches:
        optimizer.zero_grad()
        output = model(x)
        loss = F.cross_entropy(output, y)
        loss.backward()
        gradient_norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        optimizer.step()
        before, weights = weights, parameters_to_vector(parameters).detach()
        hits = (output.argmax(1) == y).sum()
        sums += torch.stack([loss.detach() * len(y), hits, gradient_norm, (weights - before).norm()]).double()
        samples += len(y)
        steps += 1
    means = (sums / torch.tensor([samples, samples, steps, steps])).tolist()
    names = ("train_loss", "train_accuracy", "gradient_norm", "update_norm")
    return {name: value if math.isfinite(value) else None for name, value in zip(names, means, strict=True)}


@torch.no_grad()
def evaluate(model: nn.Module, x: Tensor, y: Tensor, batch_size: int = 1024) -> tuple[float, float]:
    """(mean cross entropy, accuracy) in eval mode."""
    model.eval()
    outputs = torch.cat([model(part) for part in x.split(batch_size)])
    return float(F.cross_entropy(outputs, y)), float((outputs.argmax(1) == y).double().mean())


def _count(model: nn.Module, x: Tensor, y: Tensor) -> Census:
    return census(model, [(x, y)], gradients=True, loss=F.cross_entropy)


def _unit_metrics(counted: Census) -> dict[str, Any]:
    return {
        "sparsity": counted.sparsity,
        "sites": [
            {
                "name": site.name,
                "units": site.units,
                "silent": int(site.silent.sum()) if site.silent is not None else None,
                "dead": int(site.dead.sum()) if site.dead is not None else None,
                "dormant": int(site.dormant.sum()),
            }
            for site in counted.sites
        ],
    }
