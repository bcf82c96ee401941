"""Where the units of a tensor lie: which of its axes, or which part of an axis, tells them apart.

A flattened map (N, C * H * W) still has C units, and attention heads (N, heads, T, d) have heads * d. So an axis is
described by the factors of its size, slowest first, and each factor says how far a step along it goes in the
numbering of the units; 0 for a step to another position of the same unit:

    (N, C, H, W)      ((N, 0),), ((C, 1),), ((H, 0),), ((W, 0),)
    (N, C * H * W)    ((N, 0),), ((C, 1), (H * W, 0))
    (N, heads, T, d)  ((N, 0),), ((heads, d),), ((T, 0),), ((d, 1),)

Reshaping regroups factors and permuting moves axes, so both are followed exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Axis = tuple[tuple[int, int], ...]
"""(size, step in unit numbers) of each factor; empty for an axis of length 1."""


@dataclass(frozen=True)
class Layout:
    """The units of a tensor with ``len(axes)`` axes."""

    axes: tuple[Axis, ...]

    @classmethod
    def along(cls, axis: int, shape: Sequence[int]) -> Layout:
        """Units along one whole axis."""
        return cls(tuple(((size, 1),) if d == axis % len(shape) else _positions(size) for d, size in enumerate(shape)))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(math.prod(size for size, _ in axis) for axis in self.axes)

    @property
    def units(self) -> int:
        return math.prod(size for axis in self.axes for size, step in axis if step)

    def reshaped(self, shape: Sequence[int]) -> Layout | None:
        """After view, reshape, flatten, squeeze and the like; None where an axis would hold part of a factor."""
        left = [factor for axis in self.axes for factor in axis if factor[0] > 1]
        axes = []
        for size in shape:
            axis = []
            while size > 1:
                if not left:
                    return None
                have, step = left.pop(0)
                if size % have and have % size:
                    return None
                if have > size:  # the slow part goes here, the fast part to the next axis
                    left.insert(0, (have // size, step))
                    have, step = size, step * (have // size)
                axis.append((have, step))
                size //= have
            axes.append(_tidy(axis))
        return Layout(tuple(axes)) if not left else None

    def permuted(self, order: Iterable[int]) -> Layout:
        return Layout(tuple(self.axes[d] for d in order))

    def resized(self, shape: Sequence[int]) -> Layout | None:
        """After slicing, padding, pooling, concatenating, expanding: as many axes, some of another length.

        An axis that is all positions stays so, and one that is all the units holds a new set of them; None where
        one that is mixed changes its length.
        """
        if len(shape) != len(self.axes):
            return None
        axes: list[Axis] = []
        for axis, old, new in zip(self.axes, self.shape, shape, strict=True):
            if old == new:
                axes.append(axis)
            elif not any(step for _, step in axis):
                axes.append(_positions(new))
            elif all(step for _, step in axis) and old == self.units:
                axes.append(((new, 1),))
            else:
                return None
        return Layout(tuple(axes))

    def without(self, dims: Iterable[int]) -> Layout | None:
        """After a reduction over ``dims`` that drops them; None where they tell units apart."""
        gone = {d % len(self.axes) for d in dims}
        if any(step for d in gone for _, step in self.axes[d]):
            return None
        return Layout(tuple(axis for d, axis in enumerate(self.axes) if d not in gone))

    def broadcast(self, shape: Sequence[int]) -> Layout | None:
        """As an operand of an elementwise operation whose result has ``shape``; None where its units are repeated."""
        missing = len(shape) - len(self.axes)
        if missing < 0:
            return None
        axes: list[Axis] = [_positions(size) for size in shape[:missing]]
        for axis, old, new in zip(self.axes, self.shape, shape[missing:], strict=True):
            if old != new and (old != 1 or axis):
                return None
            axes.append(axis if old == new else _positions(new))
        return Layout(tuple(axes))

    def numbers(self, dim: int) -> Tensor | None:
        """int64: the unit of each index along ``dim``; None where other axes matter too."""
        if any(step for d, axis in enumerate(self.axes) if d != dim for _, step in axis):
            return None
        number = torch.zeros(1, dtype=torch.int64)
        for size, step in self.axes[dim]:
            number = (number[:, None] + step * torch.arange(size)).flatten()
        return number

    def columns(self, x: Tensor, mask: Tensor | None = None) -> Columns:
        """The values of x by unit: a view where one run of units lies in dense memory, as in channels-last maps too.

        Args:
            x: laid out like this.
            mask: bool, over the first axes of x that are not units, such as (N, T) for (N, T, C) or (N, C, T); true
                where a value counts.

        Raises:
            ValueError: the mask does not fit.
        """
        factors = [factor for axis in self.axes for factor in axis]
        x = x.view([size for size, _ in factors])  # splits axes and drops those of length 1: always a view
        dims, strides = range(x.dim()), x.stride()
        order = sorted(dims, key=lambda d: -strides[d])
        run = [d for d in order if factors[d][1]]
        if len(_tidy(factors[d] for d in run)) > 1 or (run and order.index(run[-1]) - order.index(run[0]) >= len(run)):
            run = sorted((d for d in dims if factors[d][1]), key=lambda d: -factors[d][1])
            order = [d for d in dims if not factors[d][1]] + run
        inner = math.prod(factors[d][0] for d in (order[order.index(run[-1]) + 1 :] if run else order))
        values = x.permute(order).contiguous()
        if mask is not None:
            places = [d for d in dims if not factors[d][1]]
            mask = _spread(mask, [factors[d][0] for d in places])
            mask = mask.permute([places.index(d) for d in order if d in places]).reshape(-1, 1, inner)
        return Columns(values.view(-1, self.units, inner), mask)


@dataclass(frozen=True)
class Columns:
    """Values by unit."""

    values: Tensor
    """(outer, units, inner), contiguous."""
    mask: Tensor | None
    """bool (outer, 1, inner): which values count; None for all."""


def _spread(mask: Tensor, positions: Sequence[int]) -> Tensor:
    """``mask``, repeated to the sizes of ``positions``, of which it covers the first."""
    covered = 0
    while math.prod(positions[:covered]) < mask.numel() and covered < len(positions):
        covered += 1
    if math.prod(positions[:covered]) != mask.numel():
        raise ValueError(f"a mask of shape {tuple(mask.shape)} does not fit values at {tuple(positions)} positions")
    rest = positions[covered:]
    return mask.reshape([*positions[:covered], *[1] * len(rest)]).expand(list(positions))


def _positions(size: int) -> Axis:
    return ((size, 0),) if size != 1 else ()


def _tidy(factors: Iterable[tuple[int, int]]) -> Axis:
    """Without factors of 1, and neighbours that count on from each other as one."""
    out: list[tuple[int, int]] = []
    for size, step in factors:
        if size == 1:
            continue
        if out and out[-1][1] == step * size:
            out[-1] = (out[-1][0] * size, step)
        else:
            out.append((size, step))
    return tuple(out)
