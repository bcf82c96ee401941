"""Which elements of a parameter belong to which unit of a site, so that those of a few units are reached at once."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from undying.census.accumulators import OutputAccumulator
from undying.units.layout import Columns


class Part:
    """Elements of a parameter or buffer, by the unit of a site that they belong to.

    Args:
        target: the parameter or buffer.
        unit: int64, its shape, on the CPU: the unit that each element belongs to; -1 for none.
        units: how many the site has.
    """

    def __init__(self, target: Tensor, unit: Tensor, units: int) -> None:
        self.target = target
        self.axis = next((d for d in range(unit.dim()) if _varies_along(unit, d)), None)
        """Along which whole slices belong to a unit; None where single elements do, as in grouped convolutions."""
        along = (unit if self.axis is None else _line(unit, self.axis)).flatten()
        order = along.argsort(stable=True)
        self._places = order[along[order] >= 0]
        self._owner = along[self._places]
        """The unit of each place, in order."""
        self._starts = torch.searchsorted(self._owner, torch.arange(units + 1)).tolist()
        self._units = units
        self._tables: dict[torch.device, tuple[Tensor | None, Tensor, int]] = {}

    @property
    def units(self) -> Tensor:
        """int64, on the CPU: the units that have any element of it."""
        units: Tensor = self._owner.unique()
        return units

    def places(self, units: list[int]) -> tuple[Tensor, Tensor]:
        """(numbers of slices or elements of these units; the position in ``units`` that each belongs to), on the CPU."""
        none = self._places[:0]
        runs = [none, *(self._places[self._starts[u] : self._starts[u + 1]] for u in units)]
        lengths = torch.tensor([len(run) for run in runs[1:]], dtype=torch.int64)
        return torch.cat(runs), torch.arange(len(units)).repeat_interleave(lengths)

    def take(self, tensor: Tensor, places: Tensor) -> Tensor:
        """Elements of a tensor of the target's shape: slices one after another, or single ones."""
        places = places.to(tensor.device)
        if self.axis is None:
            return tensor[torch.unravel_index(places, self.target.shape)]
        return tensor.index_select(self.axis, places)

    def put(self, tensor: Tensor, places: Tensor, values: Tensor | float) -> None:
        """Write them: as ``take`` gives them, or one number."""
        places = places.to(tensor.device)
        if isinstance(values, Tensor):
            values = values.to(tensor.device, tensor.dtype)
        if self.axis is None:
            tensor[torch.unravel_index(places, self.target.shape)] = values
        elif isinstance(values, Tensor):
            tensor.index_copy_(self.axis, places, values)
        else:
            tensor.index_fill_(self.axis, places, values)

    def sizes(self) -> Tensor:
        """float64, over the units of the site, on the target's device: sum of the absolute values of each one's elements."""
        weights = self.target.detach()
        places, owner, each = self._on(weights.device)
        if self.axis is None:
            along = weights.flatten().abs().double()
        else:  # by what the census counts with, which reads each weight once
            shape = math.prod(weights.shape[: self.axis]), weights.shape[self.axis], -1
            total = OutputAccumulator(weights.shape[self.axis], weights.device)
            total.add(Columns(weights.contiguous().view(shape), None))
            along = total.total
        found = along if places is None else along[places]
        if each:  # as many of each unit, which needs no sum in an order that a GPU chooses
            return found.view(self._units, each).sum(1) if each > 1 else found
        return found.new_zeros(self._units).index_add_(0, owner, found)

    def _on(self, device: torch.device) -> tuple[Tensor | None, Tensor, int]:
        """(places, None for all in order; unit of each; how many each unit has, 0 where that varies)."""
        if device not in self._tables:
            counts = {b - a for a, b in itertools.pairwise(self._starts)}
            length = self.target.numel() if self.axis is None else self.target.shape[self.axis]
            everything = torch.equal(self._places, torch.arange(length))
            places = None if everything else self._places.to(device)
            self._tables[device] = places, self._owner.to(device), counts.pop() if len(counts) == 1 else 0
        return self._tables[device]


def shortest(numbers: Tensor) -> Tensor:
    """The same numbers, once along each axis along which they do not vary."""
    for d in range(numbers.dim()):
        first = numbers.narrow(d, 0, 1)
        if (numbers == first).all():
            numbers = first
    return numbers.clone()


def _line(numbers: Tensor, axis: int) -> Tensor:
    for d in range(numbers.dim()):
        if d != axis:
            numbers = numbers.narrow(d, 0, 1)
    return numbers


def _varies_along(numbers: Tensor, axis: int) -> bool:
    """Whether they vary along this axis alone, if at all."""
    return bool((numbers == _line(numbers, axis)).all())
