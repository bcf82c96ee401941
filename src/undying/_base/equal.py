"""Dataclasses that hold tensors, which Python's own ``==`` cannot compare."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from torch import Tensor


class Equal:
    """Equal by value: for a dataclass with ``eq=False``. NaN is as NaN, since what was found is the same."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        compared = [field.name for field in fields(self) if field.compare]  # type: ignore[arg-type]
        return all(_equal(getattr(self, name), getattr(other, name)) for name in compared)

    __hash__ = None  # type: ignore[assignment]  # as tensors change


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        alike = one.shape == other.shape and one.dtype == other.dtype
        return alike and bool(((one == other) | ((one != one) & (other != other))).all())
    return bool(one == other or (one != one and other != other))
