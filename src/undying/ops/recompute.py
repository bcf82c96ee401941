"""The composite form of SUGAR, keeping x alone: the backward pass runs the composite form again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from undying.activations.surrogates import Custom, Surrogate
from undying.ops import composite

_PIECE = 2**16  # elements


def serves(x: Tensor, strength: float | Tensor) -> bool:
    """Whether this call is plain eager mode with a gradient to come; elsewhere only the composite form is right."""
    return (
        torch.is_grad_enabled()
        and x.requires_grad
        and type(x) in (Tensor, torch.nn.Parameter)
        and not (isinstance(strength, Tensor) and strength.requires_grad)
        and not torch.compiler.is_compiling()
        and torch._C._functorch.peek_interpreter_stack() is None
        and torch.autograd.forward_ad._current_level < 0
    )


def sugar(x: Tensor, surrogate: Surrogate, region: str, strength: float | Tensor) -> Tensor:
    """As :func:`undying.ops.composite.sugar`, where :func:`serves` says so."""
    return _Sugar.apply(x, surrogate, region, strength)  # type: ignore[no-any-return]


class _Sugar(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, surrogate: Surrogate, region: str, strength: float | Tensor) -> Tensor:
        varies = isinstance(strength, Tensor)
        ctx.save_for_backward(x, strength if varies else None)
        ctx.arguments = surrogate, region, None if varies else strength
        return torch.relu(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        x, varying = ctx.saved_tensors
        surrogate, region, constant = ctx.arguments
        strength = constant if varying is None else varying
        if torch.is_grad_enabled():  # someone will differentiate this
            y = composite.sugar(x, surrogate, region, strength)
            (result,) = torch.autograd.grad(y, x, grad, create_graph=True)
        else:
            result = _gradient(x, grad, surrogate, region, strength)
        return result, None, None, None


def _gradient(x: Tensor, grad: Tensor, surrogate: Surrogate, region: str, strength: float | Tensor) -> Tensor:
    """grad * f~'(x), in pieces where that is possible: what the composite form keeps then stays in the cache."""
    order = sorted(range(x.dim()), key=lambda axis: x.stride(axis), reverse=True)
    in_memory_order = x.permute(order)
    if x.device.type != "cpu" or isinstance(surrogate, Custom) or not in_memory_order.is_contiguous():
        return _whole(x, grad, surrogate, region, strength)
    result = torch.empty_like(x)
    flat = (in_memory_order, grad.permute(order), result.permute(order))
    for xs, grads, results in zip(*(t.reshape(-1).split(_PIECE) for t in flat), strict=True):
        results.copy_(_whole(xs, grads, surrogate, region, strength))
    return result


def _whole(x: Tensor, grad: Tensor, surrogate: Surrogate, region: str, strength: float | Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        y = composite.sugar(x, surrogate, region, strength)
    return torch.autograd.grad(y, x, grad)[0]
