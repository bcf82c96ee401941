"""Optimizers by name, and the learning rate over the steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch.optim import SGD, Adam, AdamW, Optimizer

from undying.lab.recipe import Recipe

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adam": Adam, "adamw": AdamW, "sgd": SGD}
"""name -> torch's class."""

_FUSED = ("cpu", "cuda")


def build_optimizer(name: str, parameters: Any, lr: float, recipe: Recipe) -> Optimizer:
    """The optimizer called ``name`` with the recipe's momentum and weight decay, over a list of parameters."""
    arguments: dict[str, Any] = {"momentum": recipe.momentum} if name == "sgd" else {}
    # One kernel for all parameters: on a small network the loop over them takes a third of a step.
    arguments["fused"] = all(p.device.type in _FUSED for p in parameters)
    if recipe.weight_decay is not None:
        arguments["weight_decay"] = recipe.weight_decay
    return OPTIMIZERS[name](parameters, lr, **arguments)


def lr_factor(recipe: Recipe, step: int, steps_per_epoch: int, epochs: int) -> float:
    """What the learning rate is multiplied by in ``step``, counted from 0 over the whole run.

    A function of the step alone, so that a run that is taken up again needs no scheduler's state.

    >>> [lr_factor(Recipe(schedule="cosine", warmup=1), step, 2, 3) for step in (0, 1, 2, 4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    warmup = round(recipe.warmup * steps_per_epoch)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, epochs * steps_per_epoch - warmup)
    if recipe.schedule == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    if recipe.schedule == "step":
        return 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01
    return 1.0
