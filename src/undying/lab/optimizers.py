"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import SGD, Adam, AdamW, Optimizer

OPTIMIZERS: dict[str, Callable[[Any, float], Optimizer]] = {
    "adam": lambda parameters, lr: Adam(parameters, lr),
    "adamw": lambda parameters, lr: AdamW(parameters, lr),
    "sgd": lambda parameters, lr: SGD(parameters, lr, momentum=0.9),
}
"""name -> function of (parameters, learning rate)."""
