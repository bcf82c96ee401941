"""BAReLU read as a smoothed root whose offset is left in: a reading of the formula that only a table asks about."""

from __future__ import annotations

import torch
from torch import Tensor

from undying.activations.barelu import barelu


def jumping(x: Tensor, alpha: float = 0.01, eps: float = 0.01) -> Tensor:
    """sqrt(x^2 + eps) for x > 0, alpha x otherwise: BAReLU without taking off sqrt(eps), by which it jumps at 0.

    Its derivative is that of :func:`undying.barelu` with the same ``eps``.

    Args:
        x: any shape, floating point.
        alpha: slope for x <= 0, in [0, 1].
        eps: above 0, in units of x squared.

    Returns:
        a tensor of x's shape and dtype.

    >>> jumping(torch.tensor([-2.0, 0.0, 3.0]), eps=16.0)
    tensor([-0.0200,  0.0000,  5.0000])
    """
    root = barelu(x, alpha, eps)
    return torch.where(x > 0, root + eps**0.5, root)
