"""Add up, a unit, what reaches an activation and what leaves it. Everything stays on the device."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from undying.ops import native
from undying.units.layout import Columns

WIDEST = 4096
"""Units of a site up to which second moments are added up: the matrix then takes 128 MiB."""

_CHUNK = 2**21
"""Values that are brought to float64 at a time."""
_NATIVE = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


class Accumulator:
    """Running counts of the pre-activations of one site, each int64 or float64 over units.

    Args:
        units: how many.
        ends: pre-activations at or beyond which a unit is at the end of its range.
        device: that of the activations.
    """

    def __init__(self, units: int, ends: tuple[float, float], device: torch.device) -> None:
        self.ends = ends
        self.counts = torch.zeros(5, units, dtype=torch.int64, device=device)
        self.peak = torch.full((units,), -torch.inf, dtype=torch.float64, device=device)
        self.rectified = torch.zeros(units, dtype=torch.float64, device=device)
        """Sum of max(x, 0)."""

    @property
    def fired(self) -> Tensor:
        return self.counts[0]

    @property
    def nonfinite(self) -> Tensor:
        return self.counts[1]

    @property
    def nan(self) -> Tensor:
        return self.counts[2]

    @property
    def low(self) -> Tensor:
        return self.counts[3]

    @property
    def high(self) -> Tensor:
        return self.counts[4]

    def add_some(self, values: Tensor, units: Tensor) -> None:
        """Add one value each of the units whose numbers are in ``units``; both are flat."""
        low, high = _in_type(self.ends, values.dtype)
        rows = [values > 0, ~values.isfinite(), values.isnan(), values <= low, values >= high]
        for counts, row in zip(self.counts, rows, strict=True):
            if bool(row.any()):
                counts.index_add_(0, units, row.long())
        self.peak.scatter_reduce_(0, units, values.double(), "amax")
        self.rectified.index_add_(0, units, values.double().clamp(min=0))

    def add(self, columns: Columns) -> None:
        x = columns.values
        left_out = None
        if columns.mask is not None:
            x = torch.where(columns.mask, x, -torch.inf)
            left_out = (~columns.mask).sum()
        _count_inputs(x, _in_type(self.ends, x.dtype), self.counts, self.peak, self.rectified)
        if left_out is not None:  # the -inf that stand for values that do not count
            self.counts[1] -= left_out
            self.counts[3] -= left_out


class OutputAccumulator:
    """Running counts of post-activations: how many are exactly 0, and the sum of their absolute values."""

    def __init__(self, units: int, device: torch.device) -> None:
        self.zeros = torch.zeros(units, dtype=torch.int64, device=device)
        self.total = torch.zeros(units, dtype=torch.float64, device=device)

    def add_some(self, values: Tensor, units: Tensor, positions: int | Tensor) -> None:
        """Add one value each of the units whose numbers are in ``units``; all others are 0 at the ``positions``."""
        self.zeros += positions
        self.zeros.index_add_(0, units, -(values != 0).long())
        self.total.index_add_(0, units, values.double().abs())

    def add(self, columns: Columns) -> None:
        h = columns.values
        left_out = None
        if columns.mask is not None:
            h = torch.where(columns.mask, h, 0)
            left_out = (~columns.mask).sum()
        _count_outputs(h, self.zeros, self.total)
        if left_out is not None:  # the 0 that stand for values that do not count
            self.zeros -= left_out


class SecondMoments:
    """X^T X of the outputs X, (values, units), in float64: what their singular values are read from, at any number of values."""

    def __init__(self, units: int, device: torch.device) -> None:
        self.matrix = torch.zeros(units, units, dtype=torch.float64, device=device)

    def add(self, columns: Columns) -> None:
        h = columns.values if columns.mask is None else torch.where(columns.mask, columns.values, 0)
        units, inner = h.shape[1:]
        for part in h.split(max(1, _CHUNK // (units * inner))):
            by_unit = part.double().transpose(0, 1).reshape(units, -1)
            self.matrix.addmm_(by_unit, by_unit.T)


@functools.cache
def _in_type(ends: tuple[float, float], dtype: torch.dtype) -> tuple[float, float]:
    """As numbers of the network's type, where its own bounds lie."""
    low, high = torch.tensor(ends, dtype=dtype if dtype.is_floating_point else torch.float64).tolist()
    return low, high


def _count_inputs(x: Tensor, ends: tuple[float, float], counts: Tensor, peak: Tensor, rectified: Tensor) -> None:
    """Add x, (outer, units, inner), to the running counts."""
    if _is_native(x):
        native.count_inputs(x, x.shape[1], x.shape[2], *ends, counts, peak, rectified)
        return
    low, high = ends
    rows = [x > 0, ~x.isfinite(), x.isnan(), x <= low, x >= high]
    counts += torch.stack([row.sum((0, 2)) for row in rows])
    torch.maximum(peak, x.amax((0, 2)), out=peak)
    rectified += x.clamp(min=0).sum((0, 2), dtype=torch.float64)


def _count_outputs(h: Tensor, zeros: Tensor, total: Tensor) -> None:
    if _is_native(h):
        native.count_outputs(h, h.shape[1], h.shape[2], zeros, total)
        return
    zeros += (h == 0).sum((0, 2))
    total += h.abs().sum((0, 2), dtype=torch.float64)


def _is_native(x: Tensor) -> bool:
    """Whether the native kernels, which read x once, can count it."""
    return native.missing() is None and type(x) is Tensor and x.is_cpu and x.dtype in _NATIVE
