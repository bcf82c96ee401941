"""The surrogates that PyTorch does not have, as ordinary activations: f~ forward, its own derivative backward.

The paper compares these with SUGAR, which uses the same derivative under a ReLU forward.
"""

from __future__ import annotations

import torch.fx
from torch import Tensor, nn

from undying import surrogates
from undying.activations import checks
from undying.ops import reference

__all__ = ["BSiLU", "NeLU", "bsilu", "nelu"]


def bsilu(x: Tensor, a: float = 1.67) -> Tensor:
    """B-SiLU, (x + a) sigmoid(x) - a / 2 (Horuz et al. 2025, arXiv:2505.22074).

    Args:
        x: any shape, float16, bfloat16, float32 or float64.
        a: the paper's 1.67.

    Raises:
        TypeError: x is not a real floating point tensor.

    >>> import torch
    >>> bsilu(torch.tensor([-1.0, 0.0, 2.0]))
    tensor([-0.6548,  0.0000,  2.3975])
    """
    checks.floating("bsilu", x)
    return reference.ordinary(x, surrogates.BSiLU(a))


def nelu(x: Tensor, a: float = 0.05) -> Tensor:
    """NeLU, x for x > 0 and a - a / (1 + x^2) otherwise (Horuz et al. 2025, arXiv:2505.22074).

    Args:
        x: any shape, float16, bfloat16, float32 or float64.
        a: 0.01, 0.05 and 0.1 in the paper.

    Raises:
        TypeError: x is not a real floating point tensor.

    >>> import torch
    >>> nelu(torch.tensor([-1.0, 0.0, 2.0]))
    tensor([0.0250, 0.0000, 2.0000])
    """
    checks.floating("nelu", x)
    return reference.ordinary(x, surrogates.NeLU(a))


for _leaf in ("bsilu", "nelu"):  # leaves of symbolic tracing, as sugar is
    torch.fx.wrap(_leaf)


class BSiLU(nn.Module):
    """Module form of :func:`undying.bsilu`.

    >>> BSiLU()
    BSiLU(a=1.67)
    """

    def __init__(self, a: float = 1.67) -> None:
        super().__init__()
        self.a = surrogates.BSiLU(a).a

    def forward(self, x: Tensor) -> Tensor:
        return bsilu(x, self.a)

    def extra_repr(self) -> str:
        return f"a={self.a}"


class NeLU(nn.Module):
    """Module form of :func:`undying.nelu`.

    >>> NeLU(a=0.1)
    NeLU(a=0.1)
    """

    def __init__(self, a: float = 0.05) -> None:
        super().__init__()
        self.a = surrogates.NeLU(a).a

    def forward(self, x: Tensor) -> Tensor:
        return nelu(x, self.a)

    def extra_repr(self) -> str:
        return f"a={self.a}"
