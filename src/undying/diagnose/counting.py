"""Count, on the model's device, what reaches and leaves every activation call."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from undying.activations.twins import OURS, TWINS, TYPE_OF
from undying.diagnose.units import UnitAxes, site_axis
from undying.running import Running

ACTIVATIONS: tuple[type[nn.Module], ...] = (*TWINS, nn.PReLU, nn.RReLU, nn.Softplus, *OURS)


class SiteCounts:
    """Running counts of one site."""

    def __init__(self, name: str, kind: type[nn.Module], units: int, gradients: bool) -> None:
        self.name, self.kind, self.units, self.gradients = name, kind, units, gradients
        self.samples = 0
        self.fired: Any = 0
        self.nonfinite: Any = 0
        self.peak: Any = None
        self.sum_abs: Any = 0.0
        self.zeros: Any = 0
        self.gradient: Any = 0.0

    def pre_activation(self, x: Tensor, others: list[int]) -> None:
        self.samples += x.numel() // self.units
        self.fired = self.fired + (x > 0).sum(others)
        self.nonfinite = self.nonfinite + (~x.isfinite()).sum(others)
        if x.numel():
            peak = x.amax(others) if others else x.clone()
            self.peak = peak if self.peak is None else torch.maximum(self.peak, peak)

    def post_activation(self, h: Tensor, others: list[int]) -> None:
        self.sum_abs = self.sum_abs + h.abs().sum(others, dtype=torch.float64)
        self.zeros = self.zeros + (h == 0).sum(others)

    def gradient_at(self, g: Tensor, others: list[int]) -> None:
        if g.numel():
            self.gradient = torch.maximum(torch.as_tensor(self.gradient), g.abs().amax(others) if others else g.abs())


@dataclass
class _Call:
    """One call of an activation that is under way."""

    counts: SiteCounts
    others: list[int]
    """Every axis but that of the units."""
    x: Tensor
    """What to give the activation."""


class Counter(UnitAxes):
    """While attached and active, counts every activation call of ``model`` into ``counts``, in the order of the calls.

    A call is that of a module in ``ACTIVATIONS``, or of a function that computes the same in any other module's
    forward; the latter is named after the module and the function (``block.relu``).
    """

    def __init__(self, model: nn.Module, axes: Mapping[str, int], gradients: bool) -> None:
        super().__init__()
        self.model, self.axes, self.gradients = model, axes, gradients
        self.counts: dict[str, SiteCounts] = {}
        self.leaves: list[Tensor] = []
        """What the gradient must be asked of beside the parameters, so that it comes past every site."""
        self._running = Running(model)
        self._calls: dict[str, int] = {}
        self._under_way: dict[nn.Module, _Call] = {}

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Put hooks on the model; they count while the counter is active as well."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._running)
            for name, module in self.model.named_modules():
                if isinstance(module, ACTIVATIONS):
                    before = self._before(name or type(module).__name__)
                    stack.callback(module.register_forward_pre_hook(before).remove)
                    stack.callback(module.register_forward_hook(self._after).remove)
            yield

    def start_batch(self) -> None:
        self._calls.clear()
        self.leaves.clear()

    def _before(self, label: str) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            with torch._C.DisableTorchFunction():
                call = self._under_way[module] = self._begin(label, type(module), args[0])
            return (call.x, *args[1:])

        return hook

    def _after(self, module: nn.Module, _args: tuple[Any, ...], h: Tensor) -> None:
        with torch._C.DisableTorchFunction():
            self._end(self._under_way.pop(module), h)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kind, kwargs = TYPE_OF.get(func), dict(kwargs or {})
        if kind is None or isinstance(self._running.module, ACTIVATIONS):
            return super().__torch_function__(func, types, args, kwargs)
        name = func.__name__.strip("_")
        label = f"{self._running.name}.{name}" if self._running.module is not None and self._running.name else name
        call = self._begin(label, kind, args[0] if args else kwargs["input"])
        args, kwargs = ((call.x, *args[1:]), kwargs) if args else ((), {**kwargs, "input": call.x})
        h = super().__torch_function__(func, types, args, kwargs)
        self._end(call, h)
        return h

    def _begin(self, label: str, kind: type[nn.Module], x: Tensor) -> _Call:
        """Count what reaches the activation: here, since one in place overwrites it."""
        self._calls[label] = self._calls.get(label, 0) + 1
        name = label if self._calls[label] == 1 else f"{label}#{self._calls[label]}"
        axis = site_axis(name, x, self.of(x), self.axes)
        counts = self.counts.setdefault(name, SiteCounts(name, kind, x.shape[axis], self.gradients))
        if counts.units != x.shape[axis]:
            raise ValueError(f"site {name!r} had {counts.units} units in one batch and {x.shape[axis]} in another")
        others = [d for d in range(x.dim()) if d != axis]
        counts.pre_activation(x.detach(), others)
        if self.gradients:
            if not x.requires_grad:
                leaf = x.detach().requires_grad_()
                self.leaves.append(leaf)
                x = leaf.clone()  # a leaf may not be overwritten in place
            x.register_hook(lambda g: counts.gradient_at(g.detach(), others))
        return _Call(counts, others, x)

    def _end(self, call: _Call, h: Tensor) -> None:
        call.counts.post_activation(h.detach(), call.others)
