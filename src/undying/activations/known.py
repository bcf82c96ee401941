"""Which modules are activations, and which functions compute the same."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undying.activations.barelu import BAReLU
from undying.activations.plain import BSiLU, NeLU
from undying.activations.sugar import SUGAR

OURS: tuple[type[nn.Module], ...] = (SUGAR, BAReLU, BSiLU, NeLU)
"""The activation modules of this package; they compute with relu themselves."""

TWINS: dict[type[nn.Module], tuple[Callable[..., Tensor], ...]] = {
    nn.ReLU: (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_),
    nn.ReLU6: (F.relu6,),
    nn.LeakyReLU: (F.leaky_relu, F.leaky_relu_),
    nn.ELU: (F.elu, F.elu_),
    nn.SELU: (F.selu, F.selu_, torch.selu, torch.selu_),
    nn.CELU: (F.celu, F.celu_, torch.celu, torch.celu_),
    nn.GELU: (F.gelu,),
    nn.SiLU: (F.silu,),
    nn.Mish: (F.mish,),
    nn.Hardswish: (F.hardswish,),
    nn.Softplus: (F.softplus,),
    nn.Tanh: (F.tanh, torch.tanh, torch.tanh_, Tensor.tanh, Tensor.tanh_),
    nn.Sigmoid: (F.sigmoid, torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_),
    nn.Hardtanh: (F.hardtanh, F.hardtanh_),
    nn.Hardsigmoid: (F.hardsigmoid,),
}
"""Module type -> its functional forms."""

TYPE_OF: dict[Any, type[nn.Module]] = {function: kind for kind, functions in TWINS.items() for function in functions}
"""Function -> the module type that computes the same."""

# Looked up, not read off the name at each call: torch.compile does not trace the name of every function.
_OVERWRITING = frozenset(function for function in TYPE_OF if function.__name__.endswith("_"))


def type_of(value: Any) -> type[nn.Module] | None:
    """The module type that a function, or a partial of one, stands for; None for anything else."""
    while isinstance(value, functools.partial):
        value = value.func
    try:
        return TYPE_OF.get(value)
    except TypeError:  # not hashable, so not a function
        return None


def is_inplace(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether this call of one of the functions above overwrites its input."""
    return function in _OVERWRITING or bool(kwargs.get("inplace")) or True in _flags(args)


def _flags(args: tuple[Any, ...]) -> list[Any]:
    # The only boolean that any of them takes is inplace.
    return [arg for arg in args[1:] if isinstance(arg, bool)]
