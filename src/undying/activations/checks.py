"""Argument checks shared by the activations: each error names the argument, the value and what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def floating(function: str, x: Any) -> None:
    """``x`` must be a real floating point tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{function}: x must be a tensor, not {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(
            f"{function}: x must be float16, bfloat16, float32 or float64, not {x.dtype}; convert it first, for example x.float()"
        )


def one_of(name: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}, not {value!r}")


def flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")


def number(name: str, value: Any, low: float, high: float) -> None:
    """``value`` must be a number in [low, high]; NaN is not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be between {low:g} and {high:g}, not {value!r}")
