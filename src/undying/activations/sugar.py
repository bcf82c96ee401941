"""SUGAR: ReLU in the forward pass, the derivative of a smooth surrogate in the backward pass.

Horuz, Kasneci, Eckstein et al. 2025, "The Resurrection of the ReLU", arXiv:2505.22074.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch.fx
from torch import Tensor, nn

from undying.activations import checks
from undying.ops import dispatch
from undying.surrogates import Surrogate
from undying.surrogates import surrogate as resolve

__all__ = ["SUGAR", "StrengthSchedule", "sugar"]


def sugar(
    x: Tensor,
    surrogate: str | Surrogate | Callable[[Tensor], Tensor] = "bsilu",
    *,
    region: str = "all",
    strength: float | Tensor = 1.0,
    inplace: bool = False,
) -> Tensor:
    """ReLU whose derivative is a surrogate's: y = relu(x), dy/dx = f~'(x).

    Args:
        x: pre-activation, any shape, float16, bfloat16, float32 or float64.
        surrogate: a name (see :data:`undying.SURROGATES`), a :class:`undying.Surrogate`, or any
            differentiable callable on tensors, finite for finite input.
        region: ``"all"`` replaces the whole derivative (the paper); ``"negative"`` keeps ReLU's own
            derivative, 1, for x > 0 and uses f~' for x <= 0 only.
        strength: in [0, 1]; the derivative is ``strength * f~'(x) + (1 - strength) * relu'(x)``.
            A 0-dimensional tensor is taken as it is, unchecked, so that no value leaves its device.
        inplace: accepted wherever ``nn.ReLU`` takes it, and a no-op: the backward pass needs x, so x is never
            overwritten. :func:`undying.lean` saves memory instead.

    Returns:
        ``torch.relu(x)`` bit for bit, with x's shape, dtype and memory format.

    The derivative is finite everywhere except where x is NaN. At +-inf it is ReLU's, as it is where a
    surrogate's has come within 1e-45 of it (:attr:`undying.Surrogate.reach`) or |x| exceeds a quarter of
    the largest finite number. With gradients disabled, and in ``torch.export``, this is one relu.

    Raises:
        TypeError: x is not a real floating point tensor.
        ValueError: unknown surrogate or region; strength outside [0, 1].

    >>> import torch
    >>> x = torch.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    >>> y = sugar(x)
    >>> y.detach()
    tensor([0., 0., 2.])
    >>> torch.autograd.grad(y.sum(), x)[0]  # B-SiLU's derivative, arXiv:2505.22074
    tensor([0.4007, 0.9175, 1.2661])
    """
    _RULES["region"](region)
    _RULES["strength"](strength)
    _RULES["inplace"](inplace)
    return _compute(x, resolve(surrogate), region, strength)


torch.fx.wrap("sugar")  # a leaf of symbolic tracing: a Proxy has no dtype to check


class SUGAR(nn.Module):
    """Module form of :func:`undying.sugar`; it has no parameters and no state.

    Args:
        surrogate, region, strength, inplace: as in :func:`undying.sugar`. ``strength`` is a plain
            attribute that may be set between steps, by hand or by :class:`undying.StrengthSchedule`. All are checked
            when they are set.

    Shape:
        input and output: any shape.

    >>> SUGAR("nelu")
    SUGAR(nelu(a=0.05))
    >>> SUGAR(region="negative", strength=0.5)
    SUGAR(bsilu(a=1.67), region='negative', strength=0.5)
    """

    def __init__(
        self,
        surrogate: str | Surrogate | Callable[[Tensor], Tensor] = "bsilu",
        *,
        region: str = "all",
        strength: float | Tensor = 1.0,
        inplace: bool = False,
    ) -> None:
        super().__init__()
        self.surrogate: Surrogate = resolve(surrogate)
        self.region = region
        self.strength = strength
        self.inplace = inplace

    def __setattr__(self, name: str, value: Any) -> None:
        # Here, not in every forward pass: on a small tensor the checks take as long as the work.
        if name in _RULES:
            _RULES[name](value)
        elif name == "surrogate":
            value = resolve(value)
        super().__setattr__(name, value)

    def forward(self, x: Tensor) -> Tensor:
        return _compute(x, self.surrogate, self.region, self.strength)

    def extra_repr(self) -> str:
        shown = [str(self.surrogate)]
        if self.region != "all":
            shown.append(f"region={self.region!r}")
        if isinstance(self.strength, Tensor) or self.strength != 1:
            shown.append(f"strength={self.strength!r}")
        if self.inplace:
            shown.append("inplace=True")
        return ", ".join(shown)


def _compute(x: Tensor, surrogate: Surrogate, region: str, strength: float | Tensor) -> Tensor:
    """SUGAR with arguments that were checked, x apart."""
    checks.floating("sugar", x)
    return dispatch.sugar(x, surrogate, region, strength)


torch.fx.wrap("_compute")  # as sugar is


def _check_strength(strength: float | Tensor) -> None:
    if not isinstance(strength, Tensor):
        checks.number("strength", strength, 0.0, 1.0)
    elif strength.dim() != 0:
        raise ValueError(f"strength must be a number or a 0-dimensional tensor, not of shape {tuple(strength.shape)}")


_RULES: dict[str, Callable[[Any], None]] = {
    "region": partial(checks.one_of, "region", allowed=("all", "negative")),
    "strength": _check_strength,
    "inplace": partial(checks.flag, "inplace"),
}
"""Raise unless an argument is one that is allowed."""


class StrengthSchedule:
    """Takes the strength of every :class:`SUGAR` in a model from ``start`` to ``end``: train with SUGAR, end as ReLU.

    Call ``step()`` after each ``optimizer.step()``, as with a learning rate scheduler. The strength stays at
    ``start`` for the first ``hold`` of the steps, then moves to ``end``, and stays there.

    Args:
        model: any module that holds SUGAR modules (put there before this call).
        total_steps: number of ``step()`` calls after which ``end`` is reached, at least 1.
        start, end: strengths in [0, 1].
        hold: fraction of the steps, in [0, 1), spent at ``start``.
        shape: ``"linear"`` or ``"cosine"``.

    Raises:
        ValueError: the model holds no SUGAR module, or an argument is out of range.

    >>> model = nn.Sequential(nn.Linear(2, 2), SUGAR())
    >>> schedule = StrengthSchedule(model, total_steps=4)
    >>> for _ in range(4):
    ...     schedule.step()
    ...     print(model[1].strength)
    0.75
    0.5
    0.25
    0.0
    """

    def __init__(
        self,
        model: nn.Module,
        total_steps: int,
        *,
        start: float = 1.0,
        end: float = 0.0,
        hold: float = 0.0,
        shape: str = "linear",
    ) -> None:
        self._modules = [module for module in model.modules() if isinstance(module, SUGAR)]
        if not self._modules:
            raise ValueError(f"{type(model).__name__} holds no undying.SUGAR module; convert it first")
        if not isinstance(total_steps, int) or total_steps < 1:
            raise ValueError(f"total_steps must be a whole number of at least 1, not {total_steps!r}")
        checks.number("start", start, 0.0, 1.0)
        checks.number("end", end, 0.0, 1.0)
        checks.number("hold", hold, 0.0, 1.0)
        if hold == 1:
            raise ValueError("hold must be below 1, or the end is never reached")
        checks.one_of("shape", shape, ("linear", "cosine"))
        self.total_steps, self.start, self.end, self.hold, self.shape = total_steps, start, end, hold, shape
        self.steps_taken = 0
        self._apply()

    @property
    def strength(self) -> float:
        """The strength in force."""
        progress = min(1.0, max(0.0, (self.steps_taken / self.total_steps - self.hold) / (1 - self.hold)))
        if self.shape == "cosine":
            progress = (1 - math.cos(math.pi * progress)) / 2
        return self.start + (self.end - self.start) * progress

    def step(self) -> None:
        """Count one optimizer step and set the strength."""
        self.steps_taken += 1
        self._apply()

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint needs."""
        return {"steps_taken": self.steps_taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from ``state_dict()``."""
        self.steps_taken = state["steps_taken"]
        self._apply()

    def _apply(self) -> None:
        for module in self._modules:
            module.strength = self.strength
