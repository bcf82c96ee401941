"""SUGAR's derivative in 8 or 4 bits an element: code = round(derivative * scale) + zero.

0 and 1, the derivatives of ReLU, are on the grid, so that a unit which passes its gradient unchanged still does.
Rounding to nearest is off by at most 1 / (2 scale); stochastic rounding by less than 1 / scale, and by nothing on average.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from undying.ops import native, reference
from undying.surrogates import Custom, Surrogate

__all__ = ["Grid", "decode", "encode", "grid_of"]


@dataclass(frozen=True)
class Grid:
    """Which derivatives the codes of ``bits`` bits stand for: (code - zero) / scale."""

    bits: int
    scale: int
    zero: int


@functools.lru_cache(maxsize=256)
def grid_of(surrogate: Surrogate, region: str, bits: int) -> Grid:
    """The finest grid with 0 and 1 on it that holds every derivative, whatever the strength.

    Raises:
        ValueError: the surrogate is a callable, or its derivative has too wide a range.
    """
    if isinstance(surrogate, Custom):
        raise ValueError(
            f"save='{bits}bit' needs a named surrogate, whose derivative has a known range, not {surrogate.function!r}; "
            "use save='exact' or register the surrogate"
        )
    # A blend lies between the surrogate's derivative and ReLU's, 0 or 1. The margin is for what lies between the points.
    x = torch.linspace(-64, 64, 2**17 + 1, dtype=torch.float64)
    slope = reference.slope(x, surrogate, region, 1.0)
    low, high = min(slope.min().item() - 1e-6, 0.0), max(slope.max().item() + 1e-6, 1.0)
    for scale in range(2**bits, 0, -1):
        zero = math.ceil(-low * scale)
        if zero + math.ceil(high * scale) < 2**bits:
            return Grid(bits, scale, zero)
    raise ValueError(
        f"save='{bits}bit': the derivative of {surrogate} goes from {low:.4g} to {high:.4g}, too far for {bits} bits"
    )


def encode(
    x: Tensor, surrogate: Surrogate, region: str, strength: float | Tensor, grid: Grid, stochastic: bool, kernel: bool
) -> Tensor:
    """The codes (uint8, one a byte, or two of 4 bits) of the derivative at each element of x, which has one axis."""
    if kernel:
        operator = native.operator(f"{surrogate.name}_quantise")
        assert operator is not None
        low, high = reference.limits(torch.float32, surrogate, region)
        codes = torch.empty(x.numel() if grid.bits == 8 else (x.numel() + 1) // 2, dtype=torch.uint8)
        seed = int(torch.randint(2**62, ())) if stochastic else 0
        a = native.parameter(surrogate)
        operator(x, codes, grid.bits, a, strength, low, high, grid.scale, grid.zero, stochastic, seed)
        return codes
    slope = reference.slope(x, surrogate, region, strength)
    up = torch.rand_like(slope) if stochastic else 0.5
    codes = (slope * grid.scale + grid.zero + up).clamp(0, 2**grid.bits - 1).to(torch.uint8)
    if grid.bits == 8:
        return codes
    pairs = torch.nn.functional.pad(codes, (0, x.numel() % 2)).view(-1, 2)
    return pairs[:, 0] | (pairs[:, 1] << 4)


def decode(gradient: Tensor, codes: Tensor, grid: Grid, kernel: bool) -> Tensor:
    """gradient * derivative; the gradient has one axis."""
    if kernel:
        operator = native.operator("dequantise")
        assert operator is not None
        product: Tensor = operator(gradient, codes, grid.bits, grid.scale, grid.zero)
        return product
    if grid.bits == 4:
        codes = torch.stack([codes & 15, codes >> 4], 1).flatten()[: gradient.numel()]
    dtype = torch.float64 if gradient.dtype == torch.float64 else torch.float32
    return (gradient.to(dtype) * ((codes.to(dtype) - grid.zero) / grid.scale)).to(gradient.dtype)
