"""SUGAR: ReLU in the forward pass, the derivative of a smooth surrogate in the backward pass.

Horuz, Kasneci, Eckstein et al. 2025, "The Resurrection of the ReLU", arXiv:2505.22074.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.fx
from torch import Tensor, nn

from undying.activations import checks
from undying.ops import dispatch
from undying.surrogates import Surrogate
from undying.surrogates import surrogate as resolve

__all__ = ["SUGAR", "sugar"]


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

    The derivative is finite wherever x is not NaN. At +-inf it is ReLU's, as it is where a
    surrogate's has come within 1e-45 of it (:attr:`undying.Surrogate.reach`) or ``abs(x)`` exceeds a quarter of
    the largest finite number of what is computed in (float32 for half types). With gradients disabled, and in
    ``torch.export``, this is one relu.

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
