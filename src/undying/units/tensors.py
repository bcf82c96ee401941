"""Find the tensors in values, and remember something of each."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from torch import Tensor

V = TypeVar("V")


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


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """All tensors in nested lists, tuples and mappings."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)
        elif isinstance(value, dict) or (value.__class__ not in _PLAIN and isinstance(value, Mapping)):
            yield from tensors_in(value.values())


def is_among(tensor: Tensor, tensors: Iterable[Tensor]) -> bool:
    """Whether it is one of them."""
    return any(tensor is other for other in tensors)


_PLAIN = {int, float, bool, str, type(None), slice}  # asking whether they are mappings takes most of the time
