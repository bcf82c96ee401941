"""What every part of a treatment has in common."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from undying._base.unwrap import unwrap_model


@dataclass(frozen=True)
class Training:
    """The training that a treatment acts on."""

    model: nn.Module
    """As it is trained: alone, or in DistributedDataParallel."""
    optimizer: torch.optim.Optimizer
    probe: Iterable[Any]
    """Batches as :func:`undying.census` takes them, which can be read again and again."""
    steps: int
    """Of the optimizer, in all."""
    seed: int
    average: nn.Module | None = None
    """A moving average of the weights, with activations of its own."""

    @property
    def network(self) -> nn.Module:
        return unwrap_model(self.model)

    def seed_of(self, part: Part) -> int:
        """Of what the part draws: from generators of its own, so that all else is drawn as without it."""
        digest = hashlib.sha256(f"{part.name} {self.seed}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1


class Effect:
    """A part at work in one training. What a part does not need it leaves as it is here."""

    recycled: int = 0
    """Units made anew so far."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        """Sites of which it cannot make all units anew, with the reason."""

    def before_step(self) -> None:
        """Between the backward pass and the optimizer's step."""

    def after_step(self, step: int) -> None:
        """After the optimizer's step; the first is 1."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain data."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict()``."""

    def close(self) -> None:
        """Take hooks away."""


class Part:
    """One part of a treatment: a frozen dataclass, whose fields are its arguments and hold their defaults."""

    name: ClassVar[str]
    """In a spec."""
    main: ClassVar[str] = ""
    """The field that a VALUE without a key sets."""
    recycles: ClassVar[bool] = False
    """Whether it makes single units anew."""
    at_once: ClassVar[bool] = False
    """Whether it may change weights before the first step, and so comes before parts that start from them."""

    def objection(self, *, averaged: bool, trained: bool) -> str:
        """Why it cannot be right beside a moving average of the weights, or of a network that was trained before, and the
        way out; empty: it can."""
        return ""

    def prepare(self, model: nn.Module, activation: nn.Module, probe: Iterable[Any]) -> list[str]:
        """Change the structure of a network, in place.

        Args:
            model: the network, with the activation in it.
            activation: one of its kind.
            probe: batches, by which it is looked at.

        Returns:
            names of the parameters and buffers that it added or replaced.

        Raises:
            UndyingError: it cannot be right for this network; nothing was changed.
        """
        return []

    def start(self, training: Training) -> Effect | None:
        """Begin to act on a training; None: it has nothing to do in it."""
        return None


def in_range(name: str, value: float, low: float, high: float, *, below: bool = False) -> None:
    """Raises ValueError unless low <= value <= high, or with ``below`` low <= value < high."""
    if not (low <= value and (value < high if below else value <= high)):
        high_end = "" if math.isinf(high) else f" and {'below' if below else 'at most'} {high:g}"
        raise ValueError(f"{name} must be at least {low:g}{high_end}, not {value:g}")
