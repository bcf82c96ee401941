"""Which places that are not counted lead to an output that is, with no layer in between: their units are those of the output."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from undying.census.inputs import OTHER_SUMS
from undying.census.layers import RUNNING, WEIGHED
from undying.units.tensors import ByTensor, tensors_in

_LAYERS = WEIGHED | RUNNING | OTHER_SUMS | {"scaled_dot_product_attention"}


class Covered:
    """Follows what such places give through forward passes."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget what was seen."""
        self._given: set[tuple[int, str]] = set()
        self._reached: set[tuple[int, str]] = set()
        """Each with the number of the pass."""
        self._pass = 0
        self._from: ByTensor[frozenset[str]] = ByTensor()

    def start(self) -> None:
        """Begin a forward pass."""
        self._pass += 1

    def given(self, name: str, out: Any) -> None:
        """Note what the place ``name`` gives."""
        self._given.add((self._pass, name))
        for tensor in tensors_in([out]):
            self._from.set(tensor, (self._from.get(tensor) or frozenset()) | {name})

    def called(self, func: Callable[..., Any], given: list[Tensor], out: Any) -> None:
        """Note one operation, after it; ``given``: the tensors among its arguments."""
        if not self._from:
            return
        name = getattr(func, "__name__", "").strip("_")
        if name not in _LAYERS and (places := self._of(given)):
            for tensor in given[:1] if name == "setitem" else tensors_in([out]):
                self._from.set(tensor, places)

    def returned(self, value: Any) -> None:
        """Note what is counted."""
        self._reached |= {(self._pass, name) for name in self._of(tensors_in([value]))}

    def names(self) -> set[str]:
        """The places that led to an output in every pass."""
        return {name for _, name in self._given} - {name for _, name in self._given - self._reached}

    def _of(self, tensors: Iterable[Tensor]) -> frozenset[str]:
        return frozenset().union(*(self._from.get(tensor) or () for tensor in tensors))
