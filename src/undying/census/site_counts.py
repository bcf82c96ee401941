"""Running counts of one site, on the device of the network."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from undying.activations.known import Ends, is_rectifier
from undying.census.accumulators import Accumulator, OutputAccumulator, SecondMoments
from undying.units.layout import Columns
from undying.units.unseen import line_of_call


class SiteCounts:
    """Running counts of one site."""

    def __init__(self, name: str, kind: type[nn.Module], units: int, ends: Ends | None, device: torch.device) -> None:
        self.name, self.kind, self.units, self.ends = name, kind, units, ends
        self.values: Any = 0
        """Seen of each unit: a number, or with masks a tensor on the device."""
        self.samples: Any = 0
        """Those that they are of, likewise; None where that is not known."""
        self.before = Accumulator(units, ends or (-math.inf, math.inf), device)
        self.after = None if is_rectifier(kind) else OutputAccumulator(units, device)
        self.moments: SecondMoments | None = None
        """Of the outputs, where they are asked."""
        self.layer: str | None = None
        """What makes the units."""
        self.line = line_of_call()
        """Of the user's code that makes the call."""
        self.gradient: Tensor | None = None
        """Largest \\|dL/dx\\|; None before any was seen."""

    def add_some(self, values: Tensor, units: Tensor, positions: int | Tensor) -> None:
        """Add one value each of the units whose numbers are in ``units``, both flat; all others are 0 at the positions."""
        assert self.after is not None
        self.values = self.values + positions
        self.before.add_some(values, units)
        self.after.add_some(values, units, positions)
        self.before.peak = torch.where(self.after.zeros > 0, self.before.peak.clamp(min=0), self.before.peak)

    @property
    def zeros(self) -> Tensor:
        return self.values - self.before.fired - self.before.nan if self.after is None else self.after.zeros

    @property
    def total(self) -> Tensor:
        """Sum of the absolute values of the post-activations."""
        return self.before.rectified if self.after is None else self.after.total

    def gradient_at(self, columns: Columns) -> None:
        sizes = columns.values.abs()
        if columns.mask is not None:
            sizes = torch.where(columns.mask, sizes, 0)
        self._add_gradient(sizes.amax((0, 2)))

    def gradient_at_some(self, values: Tensor, units: Tensor) -> None:
        """One value each of the units whose numbers are in ``units``; both are flat."""
        self._add_gradient(values.new_zeros(self.units).scatter_reduce_(0, units, values.abs(), "amax"))

    def _add_gradient(self, largest: Tensor) -> None:
        self.gradient = largest if self.gradient is None else torch.maximum(self.gradient, largest)
