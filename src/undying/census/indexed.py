"""Units of which each position has a few, as pairs of values and indices."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from undying.units.layout import spread


class Indexed(NamedTuple):
    """Units of which each position has a few: the others are 0 there. What top-k layers and routers return.

    >>> import torch, undying
    >>> values, indices = torch.topk(torch.tensor([[0.0, 3.0, 1.0], [5.0, 0.0, 2.0]]), 2)
    >>> undying.Indexed(values, indices, units=3).dense()
    tensor([[0., 3., 1.],
            [5., 0., 2.]])
    """

    values: Tensor
    """(..., k), floating-point, with at least one axis of positions before k: of the units that a position has."""
    indices: Tensor
    """(..., k), integers from 0 to ``units`` - 1: which units these are, each at most once a position where its value is
    not 0."""
    units: int
    """How many there are."""

    def dense(self) -> Tensor:
        """(..., units): with the zeros."""
        values = self.values
        return values.new_zeros(*values.shape[:-1], self.units).scatter_add_(-1, self.indices.long(), values)


def problem_of(found: Indexed) -> str | None:
    """What keeps a pair of tensors from being what it says; None where nothing does."""
    values, indices, units = found
    if not isinstance(units, int) or isinstance(units, bool) or units < 1:
        return f"; the number of units must be an int of at least 1, not {units!r}"
    if values.shape != indices.shape or indices.dtype.is_floating_point or indices.dtype == torch.bool:
        return (
            f"; it must have integers as indices and one for each value, not {tuple(indices.shape)} of {indices.dtype}"
        )
    if values.dim() < 2:
        return (
            "; its axes are those of the positions, then one of the units that each has: where each has one, values[..., None] "
            "and indices[..., None]"
        )
    if not values.numel():
        return None
    if not (int(indices.min()) >= 0 and int(indices.max()) < units):
        return f", with indices from {int(indices.min())} to {int(indices.max())}"
    if (twice := _twice(values, indices)) is not None:
        return (
            f", where a position has unit {twice} more than once; the last axis must be that of the units which a position "
            "has (movedim takes it there), and where values of one unit add up, a function can give dense()"
        )
    return None


def entries(found: Indexed, mask: Tensor | None) -> tuple[Tensor, Tensor, Any, Tensor | None]:
    """(values, units, how many positions these are of, which entries count), flat; None for all.

    Args:
        found: checked.
        mask: bool, over the positions or the first of them; see :func:`undying.units.layout.spread`.

    Raises:
        ValueError: the mask does not fit.
    """
    values, units = found.values.detach().flatten(), found.indices.long().flatten()
    *places, k = found.values.shape
    if mask is None:
        return values, units, math.prod(places), None
    mask = spread(mask, places)
    kept = mask[..., None].expand(*places, k).flatten()
    return values[kept], units[kept], mask.sum(), kept


def _twice(values: Tensor, indices: Tensor) -> int | None:
    """A unit that a position has with two values that are not 0."""
    k = values.shape[-1]
    own = -1 - torch.arange(k, device=indices.device)  # a unit whose value is 0 is as good as none
    order = torch.where(values != 0, indices.long(), own).sort(-1).values
    again = order[..., 1:] == order[..., :-1]
    return int(order[..., 1:][again][0]) if bool(again.any()) else None
