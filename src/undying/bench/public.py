"""SUGAR and BAReLU as they are commonly written, to be measured against. Nothing else uses them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_A = 1.67


class FunctionSUGAR(nn.Module):
    """SUGAR with B-SiLU as an ``autograd.Function`` of eager operations: the common way to give an own derivative."""

    def forward(self, x: Tensor) -> Tensor:
        return _Sugar.apply(x)  # type: ignore[no-any-return]


class _Sugar(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.relu(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        s = torch.sigmoid(x)
        return grad * (s + (x + _A) * s * (1 - s))


class InjectedSUGAR(nn.Module):
    """SUGAR with B-SiLU by forward gradient injection, written literally; its gradient is NaN at infinities."""

    def forward(self, x: Tensor) -> Tensor:
        smooth = (x + _A) * torch.sigmoid(x) - _A / 2
        return smooth - smooth.detach() + torch.relu(x).detach()


class LiteralBAReLU(nn.Module):
    """BAReLU as its formula reads: ``torch.where`` around sqrt(max(0, x)^2) and the slope."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, torch.sqrt(torch.clamp(x, min=0) ** 2), 0.01 * x)
