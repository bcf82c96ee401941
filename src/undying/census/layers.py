"""Which layer makes the units of an activation: the one whose output feature j is unit j.

A layer's output is followed through what leaves units apart and in their order: norms, pooling, reshapes, dropout, other
activations, and sums and products with parameters, buffers and numbers. Through anything else it is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from undying._base.module_stack import ModuleStack
from undying._base.patterns import ROOT
from undying._torch import base_of
from undying.census.uses import keeps_apart
from undying.units.layout import Layout
from undying.units.rules import is_elementwise
from undying.units.tensors import ByTensor

WEIGHED = {"linear", "bilinear", "addmm", "embedding", "embedding_bag", "matmul", "mm", "rmatmul"} | {
    f"conv{t}{n}d" for t in ("", "_transpose") for n in (1, 2, 3)
}
RUNNING = {"lstm", "gru", "rnn_tanh", "rnn_relu", "multi_head_attention_forward"}
"""Operations with several weights, those of the module that runs."""
_COMPUTING = (
    nn.Linear, nn.Bilinear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d
)  # fmt: skip
_NORMS = {"layer_norm", "rms_norm", "group_norm", "instance_norm", "batch_norm"}


class Layers:
    """Follows the outputs of layers through forward passes.

    Args:
        running: which module is running.
        layout_of: the layout of a tensor, or None where it is not followed.
    """

    def __init__(self, running: ModuleStack, layout_of: Callable[[Tensor], Layout | None]) -> None:
        self._running, self._layout_of = running, layout_of
        self._weights = {id(p): name for name, p in running.model.named_parameters()}
        self._buffers = {id(buffer) for buffer in running.model.buffers()}
        self._layers: ByTensor[str | None] = ByTensor()

    def of(self, x: Tensor) -> str | None:
        """Name of the layer whose output feature j is unit j of x; None where there is none, or several are."""
        return self._layers.get(x)

    def set(self, x: Tensor, layer: str | None) -> None:
        """Say it, of what an activation gives."""
        self._layers.set(x, layer)

    def called(self, func: Callable[..., Any], given: list[Tensor], made: list[Tensor]) -> None:
        """Note one operation, after it; ``given``: the tensors among its arguments, ``made``: those that it gave."""
        name = getattr(func, "__name__", "").strip("_")
        if name == "setitem":  # gives nothing, and writes into its first argument
            made = given[:1]
        if made:
            layer = self._made_by(name, given, self._layout_of(made[0]))
            for tensor in made:
                self._layers.set(tensor, layer)

    def _made_by(self, name: str, given: list[Tensor], after: Layout | None) -> str | None:
        if after is None or not given:
            return None
        if name in RUNNING:
            return self._here()
        if name in WEIGHED:
            return self._owner(given)
        layers = {self._layers.get(t) for t in given if not self._is_fixed(t)}
        layer = layers.pop() if len(layers) == 1 else None
        if layer is None or is_elementwise(name):
            return layer
        before = self._layout_of(given[0])
        apart = before == after if name in _NORMS else before is not None and keeps_apart(name, before, after)
        return layer if apart else None

    def _owner(self, given: list[Tensor]) -> str | None:
        """Who has the weight of a weighted sum."""
        module = self._running.module
        weights = [t for t in given if t.dim() > 1 and self._parameter(t) is not None]
        if not weights:  # a layer that computes its weight, as under weight norm
            return self._here() if isinstance(module, _COMPUTING) else None
        name, base = self._parameter(weights[-1]) or "", base_of(weights[-1])
        if base is not None and base.numel() != weights[-1].numel():  # some rows of a weight
            return None
        owner, _, own = name.rpartition(".")
        if own != "weight":
            return name
        if module is not None and getattr(module, "weight", None) is weights[-1]:
            return self._here()
        tied = module is not None and any(self._weights.get(id(p)) == name for p in module.parameters(False))
        return self._here() if tied else owner or ROOT

    def _here(self) -> str | None:
        return None if self._running.module is None else self._running.name or ROOT

    def _parameter(self, x: Tensor) -> str | None:
        base = None if id(x) in self._weights else base_of(x)
        return self._weights.get(id(x if base is None else base))

    def _is_fixed(self, x: Tensor) -> bool:
        return id(x) in self._weights or id(x) in self._buffers or x.numel() == 1 or self._parameter(x) is not None
