"""BAReLU: the identity above 0, a small slope below, a "quadratic root" at the origin.

Aseervatham 2026, "Born Again ReLU", Zenodo 20565328.
"""

from __future__ import annotations

import torch.fx
from torch import Tensor, nn

from undying.activations import checks
from undying.ops import dispatch

__all__ = ["BAReLU", "barelu"]

# Narrower than any float32 sqrt needs to stay normal, wider than any smoothing of use.
_EPS_RANGE = (1e-30, 1e6)


def barelu(x: Tensor, alpha: float = 0.01, eps: float = 0.0, *, inplace: bool = False) -> Tensor:
    """Born Again ReLU.

    With ``eps = 0``: x for x > 0, alpha x otherwise. **This equals** ``leaky_relu(x, alpha)`` **bit for bit**:
    the published root sqrt(max(0, x)^2) is x for x > 0, so it changes nothing in exact arithmetic.

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
    checks.floating("barelu", x)
    _check(alpha, eps, inplace)
    return dispatch.barelu(x, alpha, eps, inplace)


torch.fx.wrap("barelu")  # a leaf of symbolic tracing, as sugar is


class BAReLU(nn.Module):
    """Module form of :func:`undying.barelu`; it has no parameters and no state.

    Args:
        alpha, eps, inplace: as in :func:`undying.barelu`.

    Shape:
        input and output: any shape.

    >>> BAReLU()
    BAReLU(alpha=0.01)
    """

    def __init__(self, alpha: float = 0.01, eps: float = 0.0, inplace: bool = False) -> None:
        super().__init__()
        _check(alpha, eps, inplace)
        self.alpha = alpha
        self.eps = eps
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        return barelu(x, self.alpha, self.eps, inplace=self.inplace)

    def extra_repr(self) -> str:
        eps = f", eps={self.eps}" if self.eps else ""
        return f"alpha={self.alpha}{eps}{', inplace=True' if self.inplace else ''}"


def _check(alpha: float, eps: float, inplace: bool) -> None:
    checks.number("alpha", alpha, 0.0, 1.0)
    if eps != 0:
        checks.number("eps (if not 0)", eps, *_EPS_RANGE)
    checks.flag("inplace", inplace)
