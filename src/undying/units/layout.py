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

import functools
import itertools
import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Axis = tuple[tuple[int, int], ...]
"""(size, step in unit numbers) of each factor; empty for an axis of length 1, unless it once told units apart."""

_Rank = tuple[int, ...]
_POSITION: _Rank = ()


@dataclass(frozen=True)
class Layout:
    """The units of a tensor with ``len(axes)`` axes."""

    axes: tuple[Axis, ...]

    @staticmethod
    def along(axis: int, shape: Sequence[int]) -> Layout:
        """Units along one whole axis."""
        return _along(axis % len(shape), tuple(shape))

    @classmethod
    def single(cls, shape: Sequence[int]) -> Layout:
        """One unit, at as many positions as there are values."""
        return cls(tuple(_positions(size) for size in shape))

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        return tuple(math.prod(size for size, _ in axis) for axis in self.axes)

    @functools.cached_property
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
        """After slicing, padding, pooling, concatenating: as many axes, some of another length.

        An axis that is all positions stays so, and one that is all units holds a new set of them; None where one that
        is mixed changes its length, and where one of length 1 grows that may be the axis of a single unit.
        """
        if len(shape) != len(self.axes):
            return None
        axes = []
        for ranked, axis, old, new in zip(self._ranked(), self.axes, self.shape, shape, strict=True):
            if old == new:
                axes.append(ranked)
            elif axis and all(step for _, step in axis):
                axes.append([(new, max(rank for _, rank in ranked))])
            elif not any(step for _, step in axis) and (axis or self.units > 1):
                axes.append([(new, _POSITION)])
            else:
                return None
        return _renumbered(axes)

    def rearranged(self, shape: Sequence[int]) -> Layout | None:
        """As ``resized``, after what may also move values along an axis of the same length; None for a mixed axis."""
        mixed = any(len({step > 0 for _, step in axis}) > 1 for axis in self.axes)
        return None if mixed else self.resized(shape)

    def without(self, dims: Iterable[int]) -> Layout | None:
        """After a reduction over ``dims`` that drops them; None where they tell units apart."""
        gone = {d % len(self.axes) for d in dims}
        if any(step and size > 1 for d in gone for size, step in self.axes[d]):
            return None
        return Layout(tuple(axis for d, axis in enumerate(self.axes) if d not in gone))

    def selected(self, dims: Iterable[int]) -> Layout:
        """After taking one index along each of ``dims``, such as the queries out of (3, N, heads, T, d)."""
        gone = {d % len(self.axes) for d in dims}
        return _renumbered([axis for d, axis in enumerate(self._ranked()) if d not in gone])

    def in_order(self) -> Layout:
        """With the units numbered as they lie: after a channel shuffle, unit 1 is at index 1 again."""
        return _in_order(self)

    def _ranked(self) -> list[list[tuple[int, _Rank]]]:
        """For each axis (size, rank) of its factors: units are numbered by rank, that of a lower one faster."""
        # A factor of size 1 has the step of the next slower one, and comes before it.
        return [
            [(size, (step, size, d) if step else _POSITION) for size, step in axis] for d, axis in enumerate(self.axes)
        ]

    def stacked(self, at: int, size: int) -> Layout:
        """With one more axis of positions."""
        return Layout((*self.axes[:at], _positions(size), *self.axes[at:]))

    def broadcast(self, shape: Sequence[int]) -> Layout | None:
        """As an operand of an elementwise operation whose result has ``shape``; None where a single unit is repeated,
        perhaps over the units of another operand."""
        if tuple(shape) == self.shape:
            return self
        missing = len(shape) - len(self.axes)
        if missing < 0 or (missing and self.units == 1):
            return None
        axes: list[Axis] = [_positions(size) for size in shape[:missing]]
        for axis, old, new in zip(self.axes, self.shape, shape[missing:], strict=True):
            if old != new and (old != 1 or axis or self.units == 1):
                return None
            axes.append(axis if old == new else _positions(new))
        if type(self) is not Layout and math.prod(shape) == math.prod(self.shape):  # a statistic still
            return type(self)(tuple(axes))
        return Layout(tuple(axes))

    def numbers(self, dim: int) -> Tensor | None:
        """int64: the unit of each index along ``dim``; None where other axes matter too."""
        if not self.are_along(dim):
            return None
        number = torch.zeros(1, dtype=torch.int64)
        for size, step in self.axes[dim]:
            number = (number[:, None] + step * torch.arange(size)).flatten()
        return number

    def are_along(self, dim: int) -> bool:
        """Whether no other axis tells units apart."""
        return not any(step for d, axis in enumerate(self.axes) if d != dim for _, step in axis)

    def columns(self, x: Tensor, mask: Tensor | None = None) -> Columns:
        """The values of x by unit: a view where one run of units lies in dense memory, as in channels-last maps too.

        Args:
            x: laid out like this.
            mask: bool, over the first axes of x that are not units, such as (N, T) for (N, T, C) or (N, C, T); true
                where a value counts.

        Raises:
            ValueError: the mask does not fit.
        """
        order, inner = _order_in_memory(self, x.stride())
        if mask is not None:
            factors = [factor for axis in self.axes for factor in axis]
            places = [d for d, (_, step) in enumerate(factors) if not step]
            mask = spread(mask, [factors[d][0] for d in places])
            mask = mask.permute([places.index(d) for d in order if d in places]).reshape(-1, 1, inner)
        if order != tuple(range(len(order))):
            x = _split(self, x).permute(order)
        return Columns(x.contiguous().view(-1, self.units, inner), mask)

    def peaks(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """float64 (rows, units): the largest value of each unit in each row of the first axis, which tells no units apart. NaN
        where one of them is, and where the mask leaves none.

        Args:
            x: laid out like this.
            mask: as in :meth:`columns`.
        """
        rows = Layout((((len(x), 0),), *self.axes[1:]))  # a factor for the rows, though there be one alone
        factors = [factor for axis in rows.axes for factor in axis]
        units = sorted((d for d, (_, step) in enumerate(factors) if step), key=lambda d: -factors[d][1])
        places = [d for d, (_, step) in enumerate(factors) if not step]
        order = [places[0], *units, *places[1:]]
        found = _split(rows, x).permute(order).reshape(len(x), self.units, -1)
        if mask is None:
            return found.amax(2).double()
        mask = spread(mask, [factors[d][0] for d in places]).reshape(len(x), 1, -1)
        peaks = torch.where(mask, found, -torch.inf).amax(2).double()
        return torch.where(mask.any(2), peaks, torch.nan)


@dataclass(frozen=True)
class Statistic(Layout):
    """Of one value a unit over all samples, as losses are made of: no activation of any sample, until it is stacked or
    spread over samples."""


@dataclass(frozen=True)
class Columns:
    """Values by unit."""

    values: Tensor
    """(outer, units, inner), contiguous."""
    mask: Tensor | None
    """bool (outer, 1, inner): which values count; None for all."""


def spread(mask: Tensor, positions: Sequence[int]) -> Tensor:
    """``mask``, repeated to the sizes of ``positions``, of which it covers the first: the same axes, or some of them as
    one, but never (N, T) for (T, N)."""
    products = list(itertools.accumulate(positions, operator.mul, initial=1))
    own = set(itertools.accumulate(mask.shape, operator.mul, initial=1))
    covered = products.index(mask.numel()) if mask.numel() in products else -1
    theirs = set(products[: covered + 1])
    if not (own <= theirs or (theirs and theirs <= own)):
        raise ValueError(f"a mask of shape {tuple(mask.shape)} does not fit values at {tuple(positions)} positions")
    rest = positions[covered:]
    return mask.reshape([*positions[:covered], *[1] * len(rest)]).expand(list(positions))


def _positions(size: int) -> Axis:
    return ((size, 0),) if size != 1 else ()


# Asked again in every forward pass, so remembered.


@functools.lru_cache(1024)
def _along(axis: int, shape: tuple[int, ...]) -> Layout:
    return Layout(tuple(((size, 1),) if d == axis else _positions(size) for d, size in enumerate(shape)))


@functools.lru_cache(1024)
def _in_order(layout: Layout) -> Layout:
    ranks = itertools.count(0, -1)
    return _renumbered([[(size, (next(ranks),) if step else _POSITION) for size, step in axis] for axis in layout.axes])


def _split(layout: Layout, x: Tensor) -> Tensor:
    """With an axis a factor, and none of length 1: always a view."""
    return x.view([size for axis in layout.axes for size, _ in axis])


@functools.lru_cache(1024)
def _order_in_memory(layout: Layout, strides: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """(the order of the factors in which those that tell the units follow each other, where a tensor has these strides; how
    many values lie behind these)."""
    factors = [factor for axis in layout.axes for factor in axis]
    steps = _split(layout, torch.empty_strided(layout.shape, strides, device="meta")).stride()
    dims = range(len(factors))
    order = sorted(dims, key=lambda d: -steps[d])
    run = [d for d in order if factors[d][1]]
    if len(_tidy(factors[d] for d in run)) > 1 or (run and order.index(run[-1]) - order.index(run[0]) >= len(run)):
        run = sorted((d for d in dims if factors[d][1]), key=lambda d: -factors[d][1])
        order = [d for d in dims if not factors[d][1]] + run
    return tuple(order), math.prod(factors[d][0] for d in (order[order.index(run[-1]) + 1 :] if run else order))


def _renumbered(ranked: list[list[tuple[int, _Rank]]]) -> Layout:
    """Units numbered 0, 1, ... in the order of the ranks, whatever number of them is left of each factor."""
    steps, units = {_POSITION: 0}, 1
    for rank, size in sorted((rank, size) for axis in ranked for size, rank in axis if rank != _POSITION):
        steps[rank] = units
        units *= size
    axes = [tuple((size, steps[rank]) for size, rank in axis if size > 1 or rank != _POSITION) for axis in ranked]
    return Layout(tuple(_tidy(axis) or axis for axis in axes))


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
