"""The flow of a network, with what has to be known of a unit that is to be cut out, and not only silenced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from undying.treat.flow import Flow
from undying.treat.layers import Arguments, Weighing
from undying.units.layout import Layout

_TIMES = {"mul", "multiply", "imul"}
_PLUS = {"add", "radd", "iadd", "sub", "subtract", "rsub", "isub"}


@dataclass
class Met:
    """How a layer weighs its inputs, and what they were."""

    rows: Tensor
    """int64, over the first two axes of the weight: number of the output that each element is a part of."""
    columns: Tensor
    """The same of the input that it weighs."""
    groups: int
    padded: bool
    """Whether some output places lack some elements of the weight, as at the zeros beyond an edge."""
    inputs: Tensor | None
    """int64, over input channels: the id of each; None where they are not followed."""
    low: Tensor | None = None
    """Smallest value of each, over samples and places."""
    high: Tensor | None = None

    def by_row(self, values: Tensor, units: int) -> Tensor:
        """Sums over the elements of each output, of values laid out as the first two axes of the weight."""
        if self.rows.shape[1] == 1:
            return values.sum(1)
        if self.rows.shape[0] == 1:
            return values.sum(0)
        rows = self.rows.expand(values.shape).flatten()
        return torch.zeros(units, dtype=values.dtype).index_add_(0, rows, values.flatten())


class CutFlow(Flow):
    """A flow that follows products too, and notes ranges of values and operands that have a place for each unit."""

    def __init__(self, model: nn.Module, module_name: Callable[[], str]) -> None:
        super().__init__(model, module_name)
        self.met: dict[int, Met] = {}
        """By the first id of a call that weighs units."""
        self.beside: list[tuple[Tensor, str]] = []
        """(ids, why), where an operand that is not followed has a place for each of them."""
        self.varying: set[int] = set()
        """First ids of calls whose other operand may change with the input."""
        self.moving: set[int] = set()
        """First ids of calls that add a number, so that 0 does not stay 0."""
        self.ranges: dict[str, tuple[Tensor, Tensor]] = {}
        """By site: smallest and largest value that it gave, over units."""

    def ends(self, name: str | None, layout: Layout | None, h: Tensor) -> None:
        super().ends(name, layout, h)
        if not self._open and name is not None and layout is not None:
            values = layout.columns(h.detach()).values
            self.ranges[name] = values.amin((0, 2)).cpu(), values.amax((0, 2)).cpu()

    def _followed(self, func: Any, name: str, call: Arguments, given: list[Tensor], out: Any) -> bool:
        self._name, self._call = name, call
        x, value = call.get(0, "input"), call.get(3, "value")
        if name == "pad" and value and isinstance(x, Tensor) and x in self._labels:
            self._read(self._labels[x], f"{self._at} pads it with {value}")
        return super()._followed(func, name, call, given, out)

    def _weighted(self, w: Weighing, out: Tensor) -> bool:
        inputs = self._along(w.x, w.input_axis)
        followed = super()._weighted(w, out)
        conv = self._name.startswith("conv")
        turned = self._name.startswith("conv_transpose")
        groups = int(self._call.get(6, "groups", 1)) if conv else 1
        met = Met(w.rows, w.columns, groups, turned or (conv and self._meets_zeros()), inputs)
        if inputs is not None:
            x = w.x.detach().movedim(w.input_axis, -1).flatten(0, -2)
            met.low, met.high = x.amin(0).cpu(), x.amax(0).cpu()
        self.met[self.made[-1].first] = met
        return followed

    def _meets_zeros(self) -> bool:
        padding = self._call.get(4, "padding", 0)
        if isinstance(padding, str):
            return padding != "valid"
        return any(padding) if isinstance(padding, (tuple, list)) else padding != 0

    def _arithmetic(self, name: str, call: Arguments, given: list[Tensor], labelled: list[Tensor], out: Tensor) -> bool:
        labels = self._labels[labelled[0]]
        if name in _TIMES and len(labelled) == 2 and labelled[0] is not labelled[1]:
            return self._computed("product", labels, self._labels[labelled[1]], out)
        before = len(self.made)
        if not super()._arithmetic(name, call, given, labelled, out):
            return False
        made = self.made[-1] if len(self.made) > before else None
        if made is not None and made.kind == "scaled" and name in _PLUS:
            self.moving.add(made.first)
        for other in given:
            if any(other is t for t in (*labelled, *self._slots)):
                continue
            if _has_places(other, labels):
                self.beside.append((labels.unique().long().cpu(), f"{self._at} takes it with a tensor of its size"))
            if made is not None and self._parameter(other) is None and id(other) not in self._buffers:
                self.varying.add(made.first)
        return True


def _has_places(other: Tensor, labels: Tensor) -> bool:
    """Whether a tensor is more than 1 long along an axis along which units lie."""
    pairs = zip(reversed(other.shape), reversed(labels.shape), strict=False)
    return any(size > 1 and units > 1 for size, units in pairs)
