"""Whether the positions of a tensor still lie as the mask has them: samples first, then their positions, none moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from undying.census.samples import is_time_first
from undying.units.tensors import ByTensor, tensors_in

_SWAPS = {"transpose", "transpose_", "swapaxes", "swapdims", "permute", "movedim", "moveaxis", "t", "adjoint"}
_MOVES = {"flip", "roll", "index_select", "gather", "take_along_dim", "sort", "fliplr", "flipud", "__getitem__"}
_TIME_FIRST = "time before samples"


class Positions:
    """Follows (N, T) through a forward pass.

    Args:
        mask: (N, T); with any other number of axes nothing is followed.
    """

    def __init__(self, mask: Tensor) -> None:
        self._shape = tuple(mask.shape) if mask.dim() == 2 else None
        self._changed: ByTensor[str] = ByTensor()
        self.compares = False
        """Whether bools are values, not masks."""

    def changed(self, x: Tensor) -> str | None:
        """What was done to the positions of ``x`` that the mask does not know; None where nothing was."""
        return self._changed.get(x)

    def called(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], tensors: list[Tensor], out: Any
    ) -> None:
        """Note one operation, after it; ``tensors``: those among its arguments."""
        if self._shape is None:
            return
        given = [t for t in tensors if self._has_positions(t)]
        if not given:
            return
        x = given[0]
        shapes = {x.shape, *(made.shape for made in tensors_in([out]))}
        alike = [t for t in given if t.shape in shapes]
        reasons = [reason for t in alike if (reason := self._changed.get(t)) not in (None, _TIME_FIRST)]
        reason = reasons[0] if reasons else self._changed.get(x)
        if name in _SWAPS and _swaps(name, x, args[1:] or tuple(kwargs.values())):
            reason = {None: _TIME_FIRST, _TIME_FIRST: None}.get(reason, reason)
        elif (
            name in _MOVES and tuple(x.shape[:2]) in (self._shape, self._shape[::-1]) and _moves(name, x, args, kwargs)
        ):
            reason = f"the order that {name.strip('_')} gives them"
        elif not reasons and is_time_first(name, args):
            reason = _TIME_FIRST
        for tensor in tensors_in([out]):
            if reason is not None:
                self._changed.set(tensor, reason)

    def _has_positions(self, tensor: Tensor) -> bool:
        # A mask of attention is made by indexing the mask, and says nothing of where values lie.
        if isinstance(tensor, nn.Parameter) or self._shape is None or not tensor.dim():
            return False
        if tensor.dtype is torch.bool and not self.compares:
            return False
        return tensor.numel() % (self._shape[0] * self._shape[1]) == 0


def _swaps(name: str, x: Tensor, dims: tuple[Any, ...]) -> bool:
    """Whether the first two axes change their order."""
    if x.dim() < 2:
        return False
    if name in ("t", "adjoint"):
        return x.dim() == 2
    flat = dims[0] if len(dims) == 1 and isinstance(dims[0], Sequence) else dims
    if any(not isinstance(d, int) for d in flat):
        return False
    order = [d % x.dim() for d in flat]
    if name == "permute":
        return order.index(0) > order.index(1)
    return set(order) == {0, 1}


def _moves(name: str, x: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether values change places along the first two axes."""
    if name == "__getitem__":
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        return any(isinstance(i, Tensor) and i.dim() and not i.dtype.is_floating_point for i in index[:2])
    if name in ("gather", "take_along_dim") and not x.is_floating_point():  # a table of positions or types is looked up
        return False
    if name in ("fliplr", "flipud"):
        return True
    position = 2 if name in ("roll", "take_along_dim") else 1
    dims = kwargs.get("dims", kwargs.get("dim", args[position] if len(args) > position else -1))
    found = [dims] if isinstance(dims, int) else [d for d in dims if isinstance(d, int)] if dims is not None else [0]
    found += [d for d in args[1:] if isinstance(d, int)] if name == "flip" else []
    return any(d % x.dim() < 2 for d in found)
