"""Hooks that count, on the model's device, what reaches and leaves every activation module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from undying.activations.barelu import BAReLU
from undying.activations.plain import BSiLU, NeLU
from undying.activations.sugar import SUGAR
from undying.diagnose.units import UnitAxes

ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Softplus, nn.Hardswish, SUGAR, BAReLU, BSiLU, NeLU,
)  # fmt: skip


class SiteCounts:
    """Running counts of one site, on the model's device."""

    def __init__(self, name: str, module: nn.Module, units: int, gradients: bool) -> None:
        self.name, self.module, self.units, self.gradients = name, module, units, gradients
        self.samples = 0
        self.fired: Any = 0
        self.peak: Any = None
        self.sum_abs: Any = 0.0
        self.zeros: Any = 0
        self.gradient: Any = 0.0

    def pre_activation(self, x: Tensor, others: list[int]) -> None:
        self.samples += x.numel() // self.units
        self.fired = self.fired + (x > 0).sum(others)
        if x.numel():
            peak = x.amax(others) if others else x.clone()
            self.peak = peak if self.peak is None else torch.maximum(self.peak, peak)

    def post_activation(self, h: Tensor, others: list[int]) -> None:
        self.sum_abs = self.sum_abs + h.abs().sum(others, dtype=torch.float64)
        self.zeros = self.zeros + (h == 0).sum(others)

    def gradient_at(self, g: Tensor, others: list[int]) -> None:
        if g.numel():
            self.gradient = torch.maximum(torch.as_tensor(self.gradient), g.abs().amax(others) if others else g.abs())


class Counter:
    """Hooks on every activation module that feed ``counts``, one entry a call."""

    def __init__(
        self, model: nn.Module, counts: dict[str, SiteCounts], axes: Mapping[str, int], gradients: bool
    ) -> None:
        self.model, self.counts, self.axes, self.gradients = model, counts, axes, gradients
        self.unit_axes = UnitAxes()
        self.calls: dict[str, int] = {}
        self.current: dict[str, tuple[SiteCounts, list[int]]] = {}
        self.leaves: list[Tensor] = []
        self.handles: list[Any] = []

    def __enter__(self) -> Counter:
        for name, module in self.model.named_modules():
            if isinstance(module, ACTIVATIONS):
                label = name or type(module).__name__
                self.handles.append(module.register_forward_pre_hook(self._before(label)))
                self.handles.append(module.register_forward_hook(self._after(label)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def start_batch(self) -> None:
        self.calls.clear()
        self.leaves.clear()

    def _before(self, label: str) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            # Here, since an activation in place overwrites x.
            x: Tensor = args[0]
            self.calls[label] = self.calls.get(label, 0) + 1
            name = label if self.calls[label] == 1 else f"{label}#{self.calls[label]}"
            with torch._C.DisableTorchFunction():
                axis = self._axis(name, x)
                count = self.counts.setdefault(name, SiteCounts(name, module, x.shape[axis], self.gradients))
                if count.units != x.shape[axis]:
                    raise ValueError(
                        f"site {name!r} had {count.units} units in one batch and {x.shape[axis]} in another"
                    )
                others = [d for d in range(x.dim()) if d != axis]
                self.current[label] = count, others
                count.pre_activation(x.detach(), others)
            if self.gradients:
                if not x.requires_grad:
                    leaf = x.detach().requires_grad_()
                    self.leaves.append(leaf)
                    x = leaf.clone()  # a leaf may not be overwritten in place
                x.register_hook(lambda g: count.gradient_at(g.detach(), others))
            return (x, *args[1:])

        return hook

    def _after(self, label: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        def hook(_module: nn.Module, _args: tuple[Any, ...], h: Tensor) -> None:
            with torch._C.DisableTorchFunction():
                count, others = self.current.pop(label)
                count.post_activation(h.detach(), others)

        return hook

    def _axis(self, name: str, x: Tensor) -> int:
        axis = self.axes.get(name, self.unit_axes.of(x))
        if axis is None:
            raise ValueError(
                f"site {name!r}: nothing that is followed decides which axis of its {tuple(x.shape)} input holds the units; "
                f"name it, for example axes={{{name!r}: 1}}"
            )
        if not -x.dim() <= axis < x.dim():
            raise ValueError(f"site {name!r}: axes gives {axis}, but its input has shape {tuple(x.shape)}")
        return axis % x.dim()
