"""Measure what leaves each activation in the forward passes of training, and the gradient that comes back to it."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from undying._base.module_stack import Hook, ModuleStack
from undying._base.places import Places
from undying._base.unwrap import uncompiled
from undying._torch import computes_no_numbers, disable_torch_function, in_backward, in_functorch, jit_tracing_state
from undying.activations.known import TYPE_OF, is_activation, is_rectifier
from undying.census.passes import Passes
from undying.treat.policies.wiring import Site
from undying.units.layout import Layout

MEASURES = ("size", "mean", "fired", "gradient")


@dataclass
class Measured:
    """Of one site in one step: float over units, on the device; what was not asked for is None."""

    size: Tensor | None = None
    """Mean \\|h\\|."""
    mean: Tensor | None = None
    """Mean h."""
    fired: Tensor | None = None
    """Where some h > 0: 1, else 0."""
    gradient: Tensor | None = None
    """Mean \\|dL/dh\\|, but for one factor for all units."""


class Taps(TorchFunctionMode):
    """While it listens, measures every call of the sites in forward passes that record gradients.

    Args:
        model: the network.
        sites: whose.
    """

    def __init__(self, model: nn.Module, sites: Mapping[str, Site]) -> None:
        super().__init__()
        self.model, self.sites = model, sites
        self._passes = Passes(model, None, self._around)
        self._listening = contextlib.ExitStack()
        self._what: frozenset[str] = frozenset()
        self._running = ModuleStack(model)
        self._calls: dict[str, int] = {}
        self._sums: dict[str, dict[str, Tensor]] = {}
        self._values: dict[str, int] = {}
        self._active = False

    def listen(self, what: frozenset[str]) -> None:
        """From now on measure these of ``MEASURES``; none: leave the network alone."""
        if what and not self._what:
            self._listening.enter_context(uncompiled())
            self._listening.enter_context(self._passes)
        elif self._what and not what:
            self._listening.close()
        self._what = what

    def take(self, group: Any = None) -> dict[str, Measured]:
        """By site, what was measured since the last time; of sites that were reached.

        Args:
            group: processes to add it over; each must reach the same sites.
        """
        sums, values = self._sums, self._values
        self._sums, self._values = {}, {}
        if group is not None:
            sums, values = _over(group, sums, values)
        found = {}
        for name, of in sums.items():
            if not of:
                continue
            one = Measured(fired=of.get("fired"), gradient=of.get("gradient"))
            if "size" in of:
                one.size = of["size"] / values[name]
            if "mean" in of:
                one.mean = one.size if of["mean"] is of.get("size") else of["mean"] / values[name]
            found[name] = one
        return found

    @contextlib.contextmanager
    def _around(self, *_: Any) -> Iterator[None]:
        idle = self._active or not self._what or not torch.is_grad_enabled() or in_backward()
        if (
            idle
            or in_functorch()
            or torch.compiler.is_compiling()
            or jit_tracing_state() is not None
            or computes_no_numbers()
        ):
            yield
            return
        sums, values = {name: dict(of) for name, of in self._sums.items()}, dict(self._values)
        self._calls.clear()
        try:
            with self._attached():
                yield
        except BaseException:
            # A pass that failed is tried again, or not of this step. Gradients of others are still to come to its sums.
            for name, of in self._sums.items():
                of.clear()
                of.update(sums.get(name, {}))
            self._values = values
            raise

    @contextlib.contextmanager
    def _attached(self) -> Iterator[None]:
        self._places = Places(self.model)
        self._places.restart()
        here = [m for m in self.model.modules() if is_activation(m) and not isinstance(m, torch.jit.ScriptModule)]
        names = {self._places.name(m, None) for m in here}
        simple = all(name.partition("#")[0] in names for name in self.sites)
        with contextlib.ExitStack() as stack:
            hook = Hook(self._after)
            for module in here:  # before those of the stack, so that the module is still on it
                stack.callback(module.register_forward_hook(hook).remove)
            if not simple or any(self._places.is_shared(m) for m in here):
                stack.enter_context(self._running)
            self._active = True
            stack.callback(setattr, self, "_active", False)
            if not simple:
                stack.enter_context(self)
            yield

    def _after(self, module: nn.Module, _: Any, h: Any) -> None:
        if self._active and isinstance(h, Tensor):
            with disable_torch_function():
                self._measure(self._places.name(module, self._running.caller) or type(module).__name__, h)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        h = func(*args, **(kwargs or {}))
        if func in TYPE_OF and not is_activation(self._running.module):
            place = self._running.name if self._running.module is not None else ""
            name = func.__name__.strip("_")
            self._measure(f"{place}.{name}" if place else name, h)
        return h

    def _measure(self, label: str, h: Tensor) -> None:
        number = self._calls[label] = self._calls.get(label, 0) + 1
        name = label if number == 1 else f"{label}#{number}"
        if (site := self.sites.get(name)) is None or not h.numel():
            return
        sums = self._sums.setdefault(name, {})

        def add(key: str, value: Tensor) -> None:
            sums[key] = sums[key] + value if key in sums else value

        layout = _fitted(name, site.layout, h.shape)
        with torch.no_grad():
            values = layout.columns(h.detach()).values
            self._values[name] = self._values.get(name, 0) + h.numel() // site.units
            if "fired" in self._what:
                fired = (_largest(values) > 0).float()
                sums["fired"] = torch.maximum(sums["fired"], fired) if "fired" in sums else fired
            positive = is_rectifier(site.kind)
            if "size" in self._what:
                add("size", _total(values if positive else values.abs()))
            if "mean" in self._what:
                if positive and "size" in self._what:
                    sums["mean"] = sums["size"]
                else:
                    add("mean", _total(values))
        if "gradient" in self._what and h.requires_grad:
            h.register_hook(lambda g: add("gradient", _total(layout.columns(g.detach()).values.abs())))


def _total(values: Tensor) -> Tensor:
    """Sum by unit, in float32 at least. First along memory, which is the fast way round."""
    dtype = torch.float64 if values.dtype == torch.float64 else torch.float32
    inner = values.sum(2, dtype=dtype) if values.shape[2] > 1 else values[:, :, 0].to(dtype)
    return inner.sum(0)


def _largest(values: Tensor) -> Tensor:
    inner = values.amax(2) if values.shape[2] > 1 else values[:, :, 0]
    return inner.amax(0)


@functools.lru_cache(1024)
def _fitted(name: str, layout: Layout, shape: torch.Size) -> Layout:
    """The layout of a site for another number of samples and positions."""
    if len(shape) == len(layout.axes):
        axes = []
        for axis, old, size in zip(layout.axes, layout.shape, shape, strict=True):
            if old == size:
                axes.append(axis)
            elif not any(step for _, step in axis):
                axes.append(((size, 0),) if size != 1 else ())
            else:
                break
        else:
            return Layout(tuple(axes))
    raise ValueError(
        f"site {name!r} gave {tuple(shape)} in training and {layout.shape} on the probe: give a probe whose units lie alike"
    )


def _over(
    group: Any, sums: dict[str, dict[str, Tensor]], values: dict[str, int]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, int]]:
    """Added over processes."""
    if not sums:
        return sums, values
    device = next(iter(next(iter(sums.values())).values())).device
    flat = [tensor.double() for of in sums.values() for tensor in of.values()]
    counts = torch.tensor([float(values[name]) for name in sums], dtype=torch.float64).to(device)
    everything = torch.cat([*flat, counts])
    torch.distributed.all_reduce(everything, group=group)
    parts = iter(everything.split([len(t) for t in flat] + [1] * len(sums)))
    added = {name: {key: next(parts).to(t.dtype) for key, t in of.items()} for name, of in sums.items()}
    for of in added.values():
        if "fired" in of:
            of["fired"] = (of["fired"] > 0).float()
    return added, {name: math.floor(float(next(parts))) for name in sums}
