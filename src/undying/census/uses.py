"""Which units of an activation anything makes use of: those with an outgoing weight that is not 0.

An output is followed to the linear and convolution layers that read it, through what leaves units apart (pooling,
flattening, dropout, batch norm). Where anything else reads it, or it is what the network returns, nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from undying._torch import base_of
from undying.units.layout import Layout
from undying.units.tensors import ByTensor, tensors_in
from undying.units.unseen import line_of_call

_PASSING = {
    "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose", "swapaxes", "movedim",
    "moveaxis", "contiguous", "clone", "detach", "dropout", "dropout1d", "dropout2d", "dropout3d", "max_pool1d",
    "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d",
    "mean", "sum", "amax", "pow", "square", "float", "double", "half", "bfloat16", "to",
}  # fmt: skip


class Uses:
    """Follows the outputs of sites through one forward pass.

    Args:
        layout_of: the layout of a tensor, or None where it is not followed.
    """

    def __init__(self, layout_of: Callable[[Tensor], Layout | None]) -> None:
        self._layout_of = layout_of
        self.restart()

    def restart(self) -> None:
        """Forget what was seen."""
        self._site: ByTensor[str] = ByTensor()
        self._used: dict[str, Tensor] = {}
        self._unclear: set[str] = set()
        self._read: set[str] = set()
        self._summed: dict[str, str | None] = {}

    def made(self, site: str, output: Tensor) -> None:
        """Note the output of a site."""
        self._site.set(output, site)

    def read(self, tensor: Tensor) -> None:
        """Note that something that is no weighted sum reads this tensor."""
        if (site := self._site.get(tensor)) is not None:
            self._unclear.add(site)
            self._read.add(site)

    def returned(self, output: Any) -> None:
        """Note what the network gives back."""
        for tensor in tensors_in([output]):
            self.read(tensor)

    @property
    def terms(self) -> dict[str, str | None]:
        """Sites of which only the sum or mean over all samples is used, as of a hinge in a loss, with the line."""
        return {site: line for site, line in self._summed.items() if site not in self._read}

    def unused(self, site: str) -> Tensor | None:
        """bool over units, on the CPU: all outgoing weights are 0. None where that is not known."""
        used = self._used.get(site)
        return None if used is None or site in self._unclear else ~used.cpu()

    def called(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], given: list[Tensor], out: Any
    ) -> None:
        """Note one operation, after it; ``given``: the tensors among its arguments."""
        read = [(t, site) for t in given if (site := self._site.get(t)) is not None]
        made = list(tensors_in([out]))
        if not read or not (made or out is None):  # asking a tensor for its shape reads nothing; x[0] = h gives None
            return
        name = getattr(func, "__name__", "").strip("_")
        alone = sum(self._layout_of(t) is not None for t in given) == 1  # no residual, no weights made from data
        for tensor, site in read:
            layout = self._layout_of(tensor)
            weighed = _weighed(name, tensor, layout, args, kwargs) if layout and alone else None
            if made and not any(t.dim() for t in made):
                self._unclear.add(site)
                self._summed[site] = line_of_call()
            elif weighed is not None:
                self._read.add(site)
                self._used[site] = weighed | self._used.get(site, weighed)
            elif layout and alone and made and keeps_apart(name, layout, self._layout_of(made[0])):
                for passed in made:
                    self._site.set(passed, site)
            else:
                self.read(tensor)


def keeps_apart(name: str, layout: Layout, after: Layout | None) -> bool:
    """Whether each unit of the result depends on the same unit alone."""
    if name == "batch_norm":  # by channel, wherever the units lie
        return after == layout
    if name not in _PASSING or after is None or after.units != layout.units:
        return False
    return "pool" not in name or not any(step for axis in layout.axes[-int(name[-2]) :] for _, step in axis)


def _weighed(name: str, tensor: Tensor, layout: Layout, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """bool over units: some weight that this call gives them is not 0. None where it is no weighted sum of them."""
    found = _columns(name, tensor, args, kwargs)
    if found is None:
        return None
    columns, axis = found[0].cpu(), found[1] % tensor.dim()
    if not layout.are_along(axis):
        return None
    if bool(columns.all()):
        return torch.ones(layout.units, dtype=torch.bool)
    numbers = layout.numbers(axis)
    assert numbers is not None
    return torch.zeros(layout.units, dtype=torch.bool).index_put((numbers[columns],), torch.tensor(True))


def _columns(name: str, tensor: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, int] | None:
    """(bool along the axis that is summed over: some weight is not 0; that axis)."""

    def argument(position: int, key: str) -> Any:
        return args[position] if len(args) > position else kwargs.get(key)

    if name == "addmm":
        return ((args[2] != 0).any(1), -1) if len(args) > 2 and args[1] is tensor else None
    if argument(0, "input") is not tensor:
        return None
    weight = argument(1, {"matmul": "other", "mm": "mat2"}.get(name, "weight"))
    if name == "linear":
        return (_any(weight), -1) if weight.dim() == 2 else None
    if name in ("matmul", "mm"):
        fixed = any(isinstance(w, nn.Parameter) for w in (weight, base_of(weight)))
        return ((weight != 0).any(1), -1) if fixed and weight.dim() == 2 else None
    if name in ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"):
        return (weight != 0).flatten(1).any(1), tensor.dim() - int(name[-2]) - 1
    if name in ("conv1d", "conv2d", "conv3d"):
        groups = argument(6, "groups") or 1
        by_group = weight.reshape(groups, -1, weight.shape[1] * weight[0, 0].numel())
        used = torch.stack([_any(group) for group in by_group]).view(-1, weight[0, 0].numel())
        return used.any(1), tensor.dim() - int(name[-2]) - 1
    return None


def _any(weights: Tensor) -> Tensor:
    """Which columns of a matrix have a value that is not 0."""
    first = (weights[:8] != 0).any(0)
    # As a rule the first rows tell; where they do not, this is several times as fast as asking for just that.
    return first if bool(first.all()) else weights.detach().abs().amax(0) != 0
