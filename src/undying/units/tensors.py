"""Find the tensors in values, and remember something of each."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

V = TypeVar("V")

QUERIES = {
    *(
        getattr(Tensor, name)
        for name in ("dim", "size", "numel", "stride", "is_contiguous", "is_floating_point", "__len__")
    ),
    *(getattr(Tensor, name).__get__ for name in ("shape", "dtype", "device", "ndim", "is_cuda", "requires_grad")),
}
"""What asks a tensor and gives none."""


class ByTensor(Generic[V]):
    """Values by the identity of tensors that are alive. torch's own dictionary for this takes five times as long."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Tensor], V]] = {}
        self._most = 1024

    def get(self, tensor: Tensor) -> V | None:
        entry = self._entries.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else None

    def __contains__(self, tensor: Tensor) -> bool:
        entry = self._entries.get(id(tensor))
        return entry is not None and entry[0]() is tensor

    def __bool__(self) -> bool:
        return bool(self._entries)

    def set(self, tensor: Tensor, value: V) -> None:
        if len(self._entries) > self._most:
            self._entries = {key: entry for key, entry in self._entries.items() if entry[0]() is not None}
            self._most = 2 * max(512, len(self._entries))
        self._entries[id(tensor)] = (weakref.ref(tensor), value)

    def discard(self, tensor: Tensor) -> None:
        """Forget what was remembered of it, if anything was."""
        if tensor in self:
            del self._entries[id(tensor)]


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """All tensors in nested lists, tuples and mappings."""
    found: list[Tensor] = []
    _find(values, found)
    return found


def _find(values: Iterable[Any], found: list[Tensor]) -> None:
    for value in values:
        if value.__class__ in _PLAIN:  # first: of an operation's arguments most are
            continue
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            _find(value, found)
        elif isinstance(value, dict) or isinstance(value, Mapping):  # noqa: SIM101, as asking for the second is slow
            _find(value.values(), found)


def held_by(module: nn.Module) -> list[Tensor]:
    """Its parameters, buffers, and tensors that are plain attributes, without those of its children."""
    return tensors_in(value for name, value in vars(module).items() if name not in _EVERY_MODULES)


def is_among(tensor: Tensor, tensors: Iterable[Tensor]) -> bool:
    """Whether it is one of them."""
    return any(tensor is other for other in tensors)


_PLAIN = {int, float, bool, str, type(None), slice}
_EVERY_MODULES = vars(nn.Module()).keys() - {"_parameters", "_buffers"}
"""Attributes that hold no tensor: flags, children, hooks."""
