"""Where bounded activations are flat: the pre-activations beyond which a unit is at an end of its range.

An end is within 1 % of the range's length for the smooth ones (tanh, sigmoid), and the exactly flat part for the
others; after Rakitianskaia and Engelbrecht 2015, who measure saturation by how near the ends outputs lie.
"""

from __future__ import annotations

import math
from typing import Any

from torch import nn

_INF = math.inf
_TANH, _SIGMOID = math.atanh(0.98), math.log(99.0)

_ENDS: dict[type[nn.Module], tuple[float, float]] = {
    nn.ReLU6: (-_INF, 6.0),
    nn.Tanh: (-_TANH, _TANH),
    nn.Sigmoid: (-_SIGMOID, _SIGMOID),
    nn.Hardsigmoid: (-3.0, 3.0),
}


def ends(kind: type[nn.Module], module: nn.Module | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """(low, high): the unit is at an end where x <= low or x >= high. None for an activation without bounds.

    Args:
        kind: type of the activation.
        module: the activation, or None for a call of its function with ``args`` and ``kwargs``.
    """
    if kind is nn.Hardtanh:
        if isinstance(module, nn.Hardtanh):
            return module.min_val, module.max_val
        values = {
            "min_val": -1.0,
            "max_val": 1.0,
            **dict(zip(("min_val", "max_val"), args[1:3], strict=False)),
            **kwargs,
        }
        return values["min_val"], values["max_val"]
    return _ENDS.get(kind)


def is_two_sided(bounds: tuple[float, float] | None) -> bool:
    """Whether both ends are flat, so that x <= 0 says nothing of a unit: it can be saturated, not silent."""
    return bounds is not None and bounds[0] > -_INF
