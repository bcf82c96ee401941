"""Parts that act on the weights in every step: annealing, L2 Init, shrink and perturb."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from undying._base.preserve_state import device_of
from undying.activations.schedule import StrengthSchedule
from undying.activations.sugar import SUGAR
from undying.lab.treatments.part import Effect, Part, Training, in_range


@dataclass(frozen=True)
class Anneal(Part):
    """Takes SUGAR and BAReLU to ReLU over the last ``share`` of the steps; see :class:`undying.StrengthSchedule`. Written
    among the activation's arguments: ``sugar:anneal=0.5``."""

    name = "anneal"
    share: float

    def __post_init__(self) -> None:
        in_range("anneal", self.share, 1e-6, 1)

    def start(self, training: Training) -> Effect:
        return _Annealing(self, training)


class _Annealing(Effect):
    def __init__(self, part: Anneal, training: Training) -> None:
        super().__init__()
        both = nn.ModuleList([training.network, *([training.average] if training.average is not None else [])])
        begin = next((module.strength for module in both.modules() if isinstance(module, SUGAR)), 1.0)
        assert not isinstance(begin, Tensor)  # a spec gives numbers
        self._schedule = StrengthSchedule(both, training.steps, start=begin, hold=1 - part.share)

    def after_step(self, step: int) -> None:
        self._schedule.step()

    def state_dict(self) -> dict[str, Any]:
        return {"start": self._schedule.start, **self._schedule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._schedule.start = state["start"]  # the network may be annealed already, and this one was made from it
        self._schedule.load_state_dict(state)


@dataclass(frozen=True)
class L2Init(Part):
    """Pulls the weights to where they began: the loss has ``weight`` times the sum of squares of their difference more.

    Kumar, Marklund and Van Roy 2023, arXiv:2308.11958. The paper chooses the weight from 1e-2 to 1e-5 for each problem;
    the default is the middle of these.
    """

    name = "l2init"
    main = "weight"
    weight: float = 1e-3

    def __post_init__(self) -> None:
        in_range("weight", self.weight, 0, math.inf, below=True)

    def start(self, training: Training) -> Effect:
        return _Pulling(self, training)


class _Pulling(Effect):
    def __init__(self, part: L2Init, training: Training) -> None:
        super().__init__()
        self._weight = part.weight
        self._parameters = [p for p in training.network.parameters() if p.requires_grad]
        self._first = [p.detach().clone() for p in self._parameters]

    @torch.no_grad()
    def before_step(self) -> None:
        for parameter, first in zip(self._parameters, self._first, strict=True):
            pull = 2 * self._weight * (parameter - first)
            parameter.grad = pull if parameter.grad is None else parameter.grad.add_(pull)

    def state_dict(self) -> dict[str, Any]:
        return {"first": self._first}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for first, value in zip(self._first, state["first"], strict=True):
            first.copy_(value)


@dataclass(frozen=True)
class ShrinkPerturb(Part):
    """After each step makes the weights smaller by the share ``shrink`` and adds normal noise of the standard deviation
    ``noise``.

    Ash and Adams 2020, arXiv:1910.08475, do so before each new set of data; in each step Dohare et al. 2024 (Nature 632),
    by weight decay and noise. The defaults are those of their permuted MNIST: noise 1e-5, and weight decay 1e-4 at rate
    0.003, which is a shrinkage of 3e-7.
    """

    name = "shrink_perturb"
    main = "shrink"
    shrink: float = 3e-7
    noise: float = 1e-5

    def __post_init__(self) -> None:
        in_range("shrink", self.shrink, 0, 1, below=True)
        in_range("noise", self.noise, 0, math.inf, below=True)

    def start(self, training: Training) -> Effect:
        return _Perturbing(self, training)


class _Perturbing(Effect):
    def __init__(self, part: ShrinkPerturb, training: Training) -> None:
        super().__init__()
        self._part = part
        self._parameters = [p for p in training.network.parameters() if p.requires_grad]
        self._generator = torch.Generator(device_of(training.network) or "cpu").manual_seed(training.seed_of(part))

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        for parameter in self._parameters:
            noise = torch.empty_like(parameter).normal_(generator=self._generator)
            parameter.mul_(1 - self._part.shrink).add_(noise, alpha=self._part.noise)

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._generator.set_state(state["generator"])
