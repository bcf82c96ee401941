"""Operations that weigh units, and those that take neighbouring places together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_POOLS = {f"{kind}_pool{n}d" for kind in ("max", "avg", "adaptive_avg", "adaptive_max") for n in (1, 2, 3)}


@dataclass
class Arguments:
    """Of a call."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def get(self, position: int, name: str, default: Any = None) -> Any:
        """By position, or by name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)


@dataclass
class Weighing:
    """A weighted sum over one axis of x."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    units: int
    rows: Tensor
    """int64, over the first two axes of the weight: number of the unit that each element is a part of."""
    columns: Tensor
    """The same of the index that it weighs."""
    input_axis: int
    output_axis: int
    share: float = 1.0


def weighing(name: str, call: Arguments, parameter: Callable[[Tensor], nn.Parameter | None]) -> Weighing | None:
    """How an operation weighs its input; None for one that does not.

    Args:
        name: of the function.
        call: its arguments.
        parameter: gives the parameter that a tensor is, or is a view of.
    """
    if name == "linear":
        x, weight, bias = (call.get(i, key) for i, key in enumerate(("input", "weight", "bias")))
        if weight.dim() != 2:
            return None
        return Weighing(x, weight, bias, len(weight), _range(weight, 0), _range(weight, 1), -1, -1)
    if name in ("matmul", "mm", "addmm") and not {"alpha", "beta", "out"} & set(call.kwargs):
        operands = call.args[-2:] if len(call.args) == 2 + (name == "addmm") else ()
        if len(operands) < 2 or parameter(operands[1]) is None or operands[1].dim() != 2:
            return None
        x, weight = operands
        bias = call.args[0] if name == "addmm" else None
        if bias is not None and bias.shape != weight.shape[1:]:
            return None
        return Weighing(x, weight, bias, weight.shape[1], _range(weight, 1), _range(weight, 0), -1, -1)
    if name[:4] == "conv" and name[-1:] == "d" and name[-2:-1] in ("1", "2", "3"):
        transposed = name.startswith("conv_transpose")
        x, weight, bias = (call.get(i, key) for i, key in enumerate(("input", "weight", "bias")))
        groups = call.get(6, "groups", 1)
        n = int(name[-2])
        slow, fast = _range(weight, 0), _range(weight, 1)
        # The first axis goes through all groups, the second through one.
        whole = slow // (weight.shape[0] // groups) * weight.shape[1] + fast if groups > 1 else fast
        axis = -n - 1
        if not transposed:
            return Weighing(x, weight, bias, weight.shape[0], slow, whole, axis, axis)
        stride = call.get(3, "stride", 1)
        share = 1 / math.prod(stride if isinstance(stride, (tuple, list)) and len(stride) == n else n * [_one(stride)])
        return Weighing(x, weight, bias, weight.shape[1] * groups, whole, slow, axis, axis, share)
    return None


def _one(stride: Any) -> int:
    return int(stride[0] if isinstance(stride, (tuple, list)) else stride)


def _range(weight: Tensor, axis: int) -> Tensor:
    """The index along one of the first two axes, to broadcast over them."""
    shape = [1, 1]
    shape[axis] = weight.shape[axis]
    return torch.arange(weight.shape[axis]).view(shape)


def over_axes(numbers: Tensor, weight: Tensor) -> Tensor:
    """Numbers for the first axes of a weight, for each of its elements; takes no memory for the others."""
    return numbers.view([*numbers.shape] + [1] * (weight.dim() - numbers.dim())).expand(weight.shape)


def pooled(name: str, x: Tensor, call: Arguments) -> range | None:
    """Axes over which values of neighbouring places are taken together."""
    if name.removesuffix("_with_indices") in _POOLS:
        return range(x.dim() - int(name.removesuffix("_with_indices")[-2]), x.dim())
    if name in ("interpolate", "upsample"):
        return range(2, x.dim())
    if name == "pad":
        return range(x.dim() - len(call.get(1, "pad")) // 2, x.dim())
    return None
