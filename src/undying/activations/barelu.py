"""BAReLU: the identity above 0, a small slope below, a "quadratic root" at the origin.

Aseervatham 2026, "Born Again ReLU", Zenodo 20565328.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.fx
from torch import Tensor, nn

from undying.activations import checks
from undying.ops import dispatch

__all__ = ["SMALLEST_EPS", "BAReLU", "barelu"]

SMALLEST_EPS = 1e-30
"""Of those above 0: the root stays normal in float32."""


def barelu(x: Tensor, alpha: float = 0.01, eps: float = 0.0, *, inplace: bool = False) -> Tensor:
    """Born Again ReLU.

    With ``eps = 0``: x for x > 0, alpha x otherwise. **This equals** ``leaky_relu(x, alpha)`` **bit for bit**:
    the published root sqrt(max(0, x)^2) is x for x > 0, so it changes nothing in exact arithmetic. With ``alpha = 0`` as
    well it equals ``torch.relu(x)`` bit for bit, at -0.0 and -inf too, and has its derivative.

    With ``eps > 0`` the root smooths the origin: sqrt(x^2 + eps) - sqrt(eps) for x > 0, alpha x otherwise.
    It is continuous at 0; its derivative for x > 0, x / sqrt(x^2 + eps), rises from 0 to 1.

    Args:
        x: any shape, float16, bfloat16, float32 or float64.
        alpha: slope for x <= 0, in [0, 1].
        eps: 0, or between 1e-30 and 1e6; in units of x squared.
        inplace: with ``eps = 0`` x is overwritten, as ``nn.LeakyReLU(inplace=True)`` does; otherwise a no-op.

    Returns:
        a tensor of x's shape, dtype and memory format.

    Raises:
        TypeError: x is not a real floating point tensor.
        ValueError: alpha or eps out of range.

    >>> import torch
    >>> barelu(torch.tensor([-2.0, 0.0, 3.0]))
    tensor([-0.0200,  0.0000,  3.0000])
    >>> barelu(torch.tensor([-2.0, 0.0, 3.0]), eps=16.0)
    tensor([-0.0200,  0.0000,  1.0000])
    """
    _RULES["alpha"](alpha)
    _RULES["eps"](eps)
    _RULES["inplace"](inplace)
    return _compute(x, alpha, eps, inplace)


torch.fx.wrap("barelu")  # a leaf of symbolic tracing, as sugar is


class BAReLU(nn.Module):
    """Module form of :func:`undying.barelu`; it has no parameters and no state.

    Args:
        alpha, eps, inplace: as in :func:`undying.barelu`. All are plain attributes that may be set between steps, by
            hand or by :class:`undying.StrengthSchedule`, and are checked when they are set.

    Shape:
        input and output: any shape.

    >>> BAReLU()
    BAReLU(alpha=0.01)
    """

    def __init__(self, alpha: float = 0.01, eps: float = 0.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha
        self.eps = eps
        self.inplace = inplace

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _RULES:
            _RULES[name](value)
        super().__setattr__(name, value)

    def forward(self, x: Tensor) -> Tensor:
        return _compute(x, self.alpha, self.eps, self.inplace)

    def extra_repr(self) -> str:
        eps = f", eps={self.eps}" if self.eps else ""
        return f"alpha={self.alpha}{eps}{', inplace=True' if self.inplace else ''}"


def _compute(x: Tensor, alpha: float, eps: float, inplace: bool) -> Tensor:
    """BAReLU with arguments that were checked, x apart."""
    checks.floating("barelu", x)
    return dispatch.barelu(x, alpha, eps, inplace)


torch.fx.wrap("_compute")  # as barelu is


def _check_eps(eps: float) -> None:
    if eps != 0:
        checks.number("eps (if not 0)", eps, SMALLEST_EPS, 1e6)


_RULES: dict[str, Callable[[Any], None]] = {
    "alpha": partial(checks.number, "alpha", low=0.0, high=1.0),
    "eps": _check_eps,
    "inplace": partial(checks.flag, "inplace"),
}
"""Raise unless an argument is one that is allowed."""
