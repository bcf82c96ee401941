"""What is known of each type of activation, in one table: torch's, this package's, and those that users register."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import get_overridable_functions

from undying.activations.barelu import BAReLU
from undying.activations.plain import BSiLU, NeLU
from undying.activations.sugar import SUGAR

__all__ = [
    "FACTS",
    "OPERATORS",
    "SPELLINGS",
    "TYPE_OF",
    "Ends",
    "EndsOfCall",
    "Facts",
    "ends",
    "enter",
    "functional_forms",
    "is_activation",
    "is_composed",
    "is_flat_below_zero",
    "is_inplace",
    "is_rectifier",
    "is_torchs",
    "is_two_sided",
    "overridable_functions",
    "targets",
    "turning_point",
    "type_of",
]

Function = Callable[..., Tensor]

Ends = tuple[float, float]
"""(low, high): pre-activations; where x <= low or x >= high, the output is at an end of its range."""

EndsOfCall = Callable[[nn.Module | None, tuple[Any, ...], dict[str, Any]], Ends]
"""The same of one call: of a module, or, where that is None, of a function with these arguments."""

_INF = math.inf


@dataclass(frozen=True)
class Facts:
    """What is known of one type of activation."""

    kind: type[nn.Module]
    name: str | None = None
    """How ``undying compare --activations`` spells it; None: it does not."""
    functions: tuple[Function, ...] = ()
    """Functional forms: functions that compute the same, or may be told to by ``inplace``."""
    inplace: tuple[Function, ...] = ()
    """Functional forms that always overwrite their input."""
    flat_below_zero: bool = False
    """Whether the derivative is exactly 0 for x <= 0, so that a silent unit gets no gradient."""
    ends: Ends | EndsOfCall | None = None
    """Where a bounded activation is at an end of its range: to within 1 % of the range's length for a smooth one, where it
    is exactly flat for another (Rakitianskaia and Engelbrecht 2015 measure saturation by how near the ends outputs lie).
    None without bounds."""
    rectifier: bool = False
    """Whether the output is max(x, 0), so that counting what reaches it tells what leaves it."""
    turn: float | Callable[..., float] | None = None
    """Where one of torch's stops falling and begins to rise, or a function of its arguments that says so. None for one that
    is monotone, and for those outside of torch, which are not one operation."""


def _hardtanh_ends(module: nn.Module | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Ends:
    if isinstance(module, nn.Hardtanh):
        return module.min_val, module.max_val
    values = {"min_val": -1.0, "max_val": 1.0, **dict(zip(("min_val", "max_val"), args[1:3], strict=False)), **kwargs}
    return values["min_val"], values["max_val"]


def _gelu_turn(approximate: str = "none") -> float:
    return -0.75179152469356445746 if approximate == "none" else -0.752461422071016258487


_TANH, _SIGMOID = math.atanh(0.98), math.log(99.0)

_TABLE = (
    Facts(
        nn.ReLU,
        "relu",
        (F.relu, torch.relu, Tensor.relu),
        (torch.relu_, Tensor.relu_),
        flat_below_zero=True,
        rectifier=True,
    ),
    Facts(nn.ReLU6, "relu6", (F.relu6,), flat_below_zero=True, ends=(-_INF, 6.0)),
    Facts(nn.LeakyReLU, "leaky_relu", (F.leaky_relu,), (F.leaky_relu_,)),
    Facts(nn.ELU, "elu", (F.elu,), (F.elu_,)),
    Facts(nn.SELU, "selu", (F.selu, torch.selu), (F.selu_, torch.selu_)),
    Facts(nn.CELU, None, (F.celu, torch.celu), (F.celu_, torch.celu_)),
    Facts(nn.GELU, "gelu", (F.gelu,), turn=_gelu_turn),
    Facts(nn.SiLU, "silu", (F.silu,), turn=-1.27846454276107379511),
    Facts(nn.Mish, "mish", (F.mish,), turn=-1.19243121451549521214),
    Facts(nn.Hardswish, None, (F.hardswish,), turn=-1.5),
    Facts(nn.Softplus, None, (F.softplus,)),
    Facts(nn.Tanh, "tanh", (F.tanh, torch.tanh, Tensor.tanh), (torch.tanh_, Tensor.tanh_), ends=(-_TANH, _TANH)),
    Facts(
        nn.Sigmoid,
        None,
        (F.sigmoid, torch.sigmoid, Tensor.sigmoid),
        (torch.sigmoid_, Tensor.sigmoid_),
        ends=(-_SIGMOID, _SIGMOID),
    ),
    Facts(nn.Hardtanh, None, (F.hardtanh,), (F.hardtanh_,), ends=_hardtanh_ends),
    Facts(nn.Hardsigmoid, None, (F.hardsigmoid,), ends=(-3.0, 3.0)),
    Facts(nn.PReLU),
    Facts(nn.RReLU),
    Facts(SUGAR, "sugar", rectifier=True),
    Facts(BAReLU, "barelu"),
    Facts(BSiLU, "bsilu"),
    Facts(NeLU, "nelu"),
)

FACTS: dict[type[nn.Module], Facts] = {}
"""Every known type of activation -> what is known of it."""

TYPE_OF: dict[Any, type[nn.Module]] = {}
"""Function -> the module type that computes the same."""

SPELLINGS: dict[str, Callable[..., nn.Module]] = {"gelu_tanh": functools.partial(nn.GELU, "tanh")}
"""Name in the lab -> what makes the module."""

OPERATORS: dict[str, str] = {}
"""Name of one of torch's functions, without underscores around it -> the name of the module type that computes the same."""

# Looked up, not read off the name at each call: torch.compile does not trace the name of every function.
_OVERWRITING: set[Any] = set()


def enter(facts: Facts) -> None:
    """Add a type of activation, which is checked to be new."""
    FACTS[facts.kind] = facts
    if facts.name is not None:
        SPELLINGS[facts.name] = facts.kind
    for function in (*facts.functions, *facts.inplace):
        TYPE_OF[function] = facts.kind
        if is_torchs(function):
            OPERATORS[function.__name__.strip("_")] = facts.kind.__name__
    _OVERWRITING.update(facts.inplace)


# ---------------------------------------------------------------------------------------------------------------------
# Modules and types


#: Modules that hold activations of other libraries, such as transformers' GELU written out with tanh.
_LIBRARIES = {"transformers.activations", "timm.layers.activations", "timm.layers.activations_me"}


def is_activation(module: nn.Module | None) -> bool:
    """Whether calls of ``module`` are sites; what it computes with inside is not."""
    return not FACTS.keys().isdisjoint(type(module).__mro__) or type(module).__module__ in _LIBRARIES


def is_composed(module: nn.Module | None) -> bool:
    """Whether it is of a known type outside of torch: what it computes with, such as relu, is its own arithmetic."""
    return isinstance(module, tuple(kind for kind in FACTS if not _is_in_torch(kind)))


def targets() -> dict[str, type[nn.Module]]:
    """What may be replaced by name: torch's types that have functional forms, and the registered ones."""
    ours = {facts.kind for facts in _TABLE}
    return {kind.__name__: kind for kind in FACTS if functional_forms(kind) or kind not in ours}


def functional_forms(kind: type[nn.Module]) -> tuple[Function, ...]:
    """The functions that compute the same as modules of this type; none for an unknown type."""
    facts = FACTS.get(kind)
    return () if facts is None else (*facts.functions, *facts.inplace)


def is_rectifier(kind: type[nn.Module]) -> bool:
    """Whether the output is max(x, 0)."""
    return kind in FACTS and FACTS[kind].rectifier


def is_flat_below_zero(kind: type[nn.Module]) -> bool:
    """Whether the derivative is exactly 0 for x <= 0; a subclass is taken for what it inherits from."""
    known = next((base for base in kind.__mro__ if base in FACTS), None)
    return known is not None and FACTS[known].flat_below_zero


def ends(kind: type[nn.Module], module: nn.Module | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Ends | None:
    """Where a unit is at an end of its range; None for an activation without bounds.

    Args:
        kind: type of the activation.
        module: the activation, or None for a call of its function with ``args`` and ``kwargs``.
    """
    found = FACTS[kind].ends if kind in FACTS else None
    return found(module, args, kwargs) if callable(found) else found


def is_two_sided(bounds: Ends | None) -> bool:
    """Whether both ends are flat, so that x <= 0 says nothing of a unit: it can be saturated, not silent."""
    return bounds is not None and bounds[0] > -_INF


def turning_point(kind: type[nn.Module], **arguments: Any) -> float | None:
    """Where one of torch's activations with these arguments stops falling and begins to rise; None: it is monotone."""
    found = FACTS[kind].turn
    return found(**arguments) if callable(found) else found


# ---------------------------------------------------------------------------------------------------------------------
# Functions


def type_of(value: Any) -> type[nn.Module] | None:
    """The module type that a function, or a partial of one, stands for; None for anything else."""
    while isinstance(value, functools.partial):
        value = value.func
    try:
        return TYPE_OF.get(value)
    except TypeError:  # not hashable, so not a function
        return None


def is_inplace(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether this call of a functional form overwrites its input."""
    return function in _OVERWRITING or bool(kwargs.get("inplace")) or True in _flags(args)


def _flags(args: tuple[Any, ...]) -> list[Any]:
    # The only boolean that any of them takes is inplace.
    return [arg for arg in args[1:] if isinstance(arg, bool)]


@functools.cache
def overridable_functions() -> frozenset[Any]:
    """Those of torch's functions that TorchFunctionModes see under torch.compile too; torch.relu_ is not among them."""
    return frozenset(chain.from_iterable(get_overridable_functions().values()))


def is_torchs(function: Any) -> bool:
    """Whether it is a function of torch, which torch.compile does not look into, or an operator."""
    return not isinstance(function, FunctionType) or _is_in_torch(function)


def _is_in_torch(value: Any) -> bool:
    return str(value.__module__).split(".")[0] == "torch"


for _facts in _TABLE:
    enter(_facts)
