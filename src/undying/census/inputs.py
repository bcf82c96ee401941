"""What a network's first layers read: how large the mean of the input is against its spread.

A unit with random weights w computes w . mean + w . (x - mean). Where the mean is much larger than the spread, the first
part decides the sign for all data, and up to half of the units of a first layer are dead before training begins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from undying._base.equal import Equal
from undying._torch import in_functorch
from undying.census.layers import RUNNING, WEIGHED
from undying.units.layout import Columns, Layout
from undying.units.tensors import ByTensor

OTHER_SUMS = {"addbmm", "addmv", "baddbmm", "bmm", "dot", "einsum", "inner", "mv", "outer", "tensordot"}
_CHUNK = 2**20
"""Values that are brought to float64 at a time."""


@dataclass(frozen=True, eq=False)
class InputStatistics(Equal):
    """Of what one layer reads, over samples and positions."""

    values: int
    """Seen of each feature, or channel."""
    mean: Tensor
    """float64, of each feature or channel."""
    variance: float
    """Sum over features of the variance of each, with 1 / values."""

    @property
    def gamma(self) -> float:
        """\\|\\|mean\\|\\| / \\|\\|std\\|\\|, the norms over features (arXiv:2605.31518, there after a normalization of each sample,
        which is left out here, as the layer reads the values as they are). inf for a constant input, NaN for zeros.

        >>> InputStatistics(4, torch.tensor([3.0, 4.0]), 1.0).gamma
        5.0
        """
        return _ratio(float(self.mean.norm()), math.sqrt(self.variance) if self.variance >= 0 else math.nan)

    def __add__(self, other: InputStatistics) -> InputStatistics:
        """Over both data sets together."""
        joined = _joined(*((s.values, s.mean, s.variance * s.values) for s in (self, other)))
        return _statistics(*joined)


class FirstLayers:
    """Follows what a network is given to the layers that read it, with no other layer in between.

    Args:
        layer_of: name of the layer that made a tensor, or None.
        columns: the values of a tensor by channel, with the mask of the batch; a ValueError where that does not fit.
    """

    def __init__(self, layer_of: Callable[[Tensor], str | None], columns: Callable[[Tensor, Layout], Columns]) -> None:
        self._layer_of, self._columns = layer_of, columns
        self.restart()

    def restart(self) -> None:
        """Forget what was seen."""
        self._is_input: ByTensor[bool] = ByTensor()
        """False for what a layer has made."""
        self._sums: dict[str, tuple[Any, Tensor, Any] | None] = {}
        """(values, mean, squares around it) by layer, on the device; None where it cannot be said."""

    def given(self, tensors: Iterable[Tensor]) -> None:
        """Note what the network is given."""
        for tensor in tensors:
            self._is_input.set(tensor, True)

    def read(self) -> dict[str, InputStatistics]:
        """By layer, in the order of the calls; read off the device."""
        return {layer: _statistics(*sums) for layer, sums in self._sums.items() if sums is not None and int(sums[0])}

    def called(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        given: list[Tensor],
        made: list[Tensor],
    ) -> None:
        """Note one operation, after it; ``given``: the tensors among its arguments, ``made``: those that it gave."""
        known = [state for t in given if (state := self._is_input.get(t)) is not None]
        if not known:
            return
        name = getattr(func, "__name__", "").strip("_")
        sums = name in WEIGHED or name in RUNNING or name in OTHER_SUMS
        if name == "setitem":
            made = given[:1]
        for tensor in made:
            self._is_input.set(tensor, all(known) and not sums)
        if all(known) and sums and made and (layer := self._layer_of(made[0])) is not None:
            self._add(layer, name, args, kwargs)

    def _add(self, layer: str, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        place = 1 if name == "addmm" else 0
        x = args[place] if len(args) > place else kwargs.get("input")
        if not isinstance(x, Tensor) or not self._is_input.get(x) or not x.is_floating_point():
            return
        if x.numel() == 0 or x.layout != torch.strided or in_functorch():
            return
        axis = -1 - int(name[-2]) if name.startswith("conv") else -1
        sums = self._sums.get(layer, (0, x.new_zeros((), dtype=torch.float64), 0))
        try:
            columns = self._columns(x, Layout.along(axis, x.shape))
        except ValueError:  # a mask that does not fit says nothing of which values count
            sums = None
        if sums is not None and sums[1].dim() and len(sums[1]) != x.shape[axis]:
            sums = None
        self._sums[layer] = None if sums is None else _joined(sums, *_summed(columns))


def _summed(columns: Columns) -> Iterable[tuple[Any, Tensor, Any]]:
    rows = max(1, _CHUNK // columns.values[0].numel())
    masks = [None] * len(columns.values) if columns.mask is None else columns.mask.split(rows)
    for part, mask in zip(columns.values.split(rows), masks, strict=False):
        x = part.detach()
        count: Any
        if mask is None:
            count = x.shape[0] * x.shape[2]
            x = x if x.element_size() > 2 else x.float()
            first = x[:1, :, :1]  # near the mean against the spread, so that the squares around it lose no digits
            away = (x - first).double()
            mean = away.sum((0, 2)) / count
            squares = (torch.dot(away.flatten(), away.flatten()) - count * mean.square().sum()).clamp(min=0)
            mean = mean + first.flatten()
        else:
            x, count = x.double(), mask.sum(dtype=torch.float64)
            mean = torch.where(mask, x, 0).sum((0, 2)) / count.clamp(min=1)
            squares = torch.where(mask, x - mean[:, None], 0).square().sum()
        yield count, torch.where(mean.isfinite(), mean, torch.nan), squares  # whatever the order of the batches


def _joined(*parts: tuple[Any, Tensor, Any]) -> tuple[Any, Tensor, Any]:
    """Of all parts together, from (values, mean, squares around it) of each."""
    values, mean, squares = parts[0]
    for count, other, around in parts[1:]:
        total = values + count
        share = count / (total.clamp(min=1) if isinstance(total, Tensor) else total)
        squares = squares + around + (other - mean).square().sum() * values * share
        values, mean = total, mean + (other - mean) * share
    return values, mean, squares


def _statistics(values: Any, mean: Tensor, squares: Any) -> InputStatistics:
    return InputStatistics(int(values), mean.cpu(), float(squares) / int(values))


def _ratio(mean: float, spread: float) -> float:
    if spread:
        return mean / spread
    return math.inf if mean > 0 else math.nan
