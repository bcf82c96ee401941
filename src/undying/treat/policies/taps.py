"""Measure what leaves each activation in the forward passes of training, and the gradient that comes back to it."""

from __future__ import annotations

import contextlib
import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from undying._base.module_stack import Hook, ModuleStack
from undying._base.places import Places
from undying._base.preserve_state import is_preserving
from undying._base.unwrap import uncompiled
from undying._torch import computes_no_numbers, disable_torch_function, in_backward, in_functorch, jit_tracing_state
from undying.activations.known import TYPE_OF, is_activation, is_rectifier
from undying.census.passes import Passes
from undying.treat.policies.wiring import Site
from undying.units.layout import Layout

MEASURES = ("size", "mean", "fired", "gradient")


@dataclass
class Measured:
    """Of one site in one step: over units, on the device, float or bool; what was not asked for is None."""

    size: Tensor | None = None
    """Mean \\|h\\|."""
    mean: Tensor | None = None
    """Mean h."""
    fired: Tensor | None = None
    """Whether some h > 0 in a forward pass."""
    gradient: Tensor | None = None
    """Mean \\|dL/dx\\|, but for one factor for all units; x: what reaches the activation."""
    astray: bool = False
    """Whether a call was not the one that the probe showed, so that this may be of other units."""
    values: int = 0
    """How many of each unit were seen: samples, times positions. Not counted for ``gradient`` alone."""


class Taps(TorchFunctionMode):
    """While it listens, measures every call of the sites in forward passes that record gradients.

    Args:
        model: the network.
        sites: whose.
        calls: names of all calls of activations in a forward pass, as the probe showed them.
        method: name of one that is called instead of the network.
    """

    def __init__(
        self, model: nn.Module, sites: Mapping[str, Site], calls: Iterable[str], method: str | None = None
    ) -> None:
        super().__init__()
        self.model, self.sites = model, sites
        self._expected = Counter(name.partition("#")[0] for name in calls)
        self._makers = {
            name: [maker.part.target for maker in site.makers if isinstance(maker.part.target, nn.Parameter)]
            for name, site in sites.items()
        }
        self._passes = Passes(model, method, self._around)
        self._listening = contextlib.ExitStack()
        self._what: frozenset[str] = frozenset()
        self._running = ModuleStack(model)
        self._calls: dict[str, int] = {}
        self._sums: dict[str, dict[str, Tensor]] = {}
        self._values: dict[str, int] = {}
        self._astray: set[str] = set()
        self._unsure: set[str] = set()
        """Sites of which autograd did not say in this pass what makes them."""
        self._heard: set[Any] = set()
        """Nodes of the graph that gave the outputs of activations in this pass."""
        self._under_way: dict[nn.Module, Site | None] = {}
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
        sums, values, astray = self._sums, self._values, self._astray
        self._sums, self._values, self._astray = {}, {}, set()
        if group is not None:
            sums, values, astray = _over(group, sums, values, astray)
        found = {name: Measured(astray=True) for name in astray}
        for name, of in sums.items():
            size, mean = (of[key] / values[name] if key in of else None for key in ("size", "mean"))
            if of and name not in astray:  # a site that gives nothing below 0 has one sum for both
                found[name] = Measured(
                    size,
                    size if mean is None else mean,
                    of.get("fired"),
                    of.get("gradient"),
                    values=values.get(name, 0),
                )
        return found

    @contextlib.contextmanager
    def _around(self, *_: Any) -> Iterator[None]:
        idle = self._active or not self._what or not torch.is_grad_enabled() or in_backward()
        if (
            idle
            or is_preserving()  # a census within a step is no pass of the training
            or in_functorch()
            or torch.compiler.is_compiling()
            or jit_tracing_state() is not None
            or computes_no_numbers()
        ):
            yield
            return
        sums, values = {name: dict(of) for name, of in self._sums.items()}, dict(self._values)
        astray = set(self._astray)
        self._calls.clear()
        self._under_way.clear()
        self._unsure.clear()
        try:
            with self._attached():
                yield
            self._compare()
        except BaseException:
            # A pass that failed is tried again, or not of this step. Gradients of others are still to come to its sums.
            for name, of in self._sums.items():
                of.clear()
                of.update(sums.get(name, {}))
            self._values, self._astray = values, astray
            raise
        finally:
            self._heard.clear()  # they hold the graph

    def _compare(self) -> None:
        """Calls are told apart by their number. With more than on the probe a site is called again, or by others; with
        fewer the number says nothing."""
        for name in self.sites:
            label = name.partition("#")[0]
            calls, expected = self._calls.get(label, 0), self._expected[label]
            if calls > expected or (calls < expected and name in self._unsure):
                self._astray.add(name)

    @contextlib.contextmanager
    def _attached(self) -> Iterator[None]:
        self._places = Places(self.model)
        self._places.restart()
        here = [m for m in self._places.modules if is_activation(m) and not isinstance(m, torch.jit.ScriptModule)]
        names = {self._places.name(m, None) for m in here}
        simple = all(name.partition("#")[0] in names for name in self.sites)
        with contextlib.ExitStack() as stack:
            if not simple or any(self._places.is_shared(m) for m in here):
                stack.enter_context(self._running)
            before, after = Hook(self._before), Hook(self._after)
            hooks: list[RemovableHandle] = []
            stack.callback(_remove, hooks)
            for module in here:
                hooks.append(module.register_forward_pre_hook(before, with_kwargs=True))
                hooks.append(module.register_forward_hook(after))
            self._active = True
            stack.callback(setattr, self, "_active", False)
            if not simple:
                stack.enter_context(self)
            yield

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._active:  # not in a forward that checkpointing computes again
            with disable_torch_function():
                label = self._places.name(module, self._running.caller) or type(module).__name__
                self._under_way[module] = self._begin(label, args[0] if args else kwargs["input"])

    def _after(self, module: nn.Module, _: Any, h: Tensor) -> None:
        if module in self._under_way:
            with disable_torch_function():
                self._end(self._under_way.pop(module), h)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in TYPE_OF or is_activation(self._running.module):
            return func(*args, **kwargs)
        place = self._running.name if self._running.module is not None else ""
        name = func.__name__.strip("_")
        call = self._begin(f"{place}.{name}" if place else name, args[0] if args else kwargs["input"])
        h = func(*args, **kwargs)
        self._end(call, h)
        return h

    def _begin(self, label: str, x: Tensor) -> Site | None:
        """The site, of which nothing is measured where it is not followed; x is seen here, as it may be overwritten."""
        number = self._calls[label] = self._calls.get(label, 0) + 1
        site = self.sites.get(label if number == 1 else f"{label}#{number}")
        if site is None or not x.numel():
            return None
        made = _made_by(self._makers[site.name], x.grad_fn, self._heard)
        if made is None:
            self._unsure.add(site.name)
        elif not made:
            self._astray.add(site.name)
            return None
        if "gradient" in self._what and x.requires_grad:
            add, layout = self._adding(site.name), _fitted(site.name, site.layout, x.shape)
            x.register_hook(lambda g: add("gradient", _total(layout.columns(g.detach()).values.abs())))
        return site

    def _end(self, site: Site | None, h: Tensor) -> None:
        self._heard.add(h.grad_fn)
        if site is None or self._what == {"gradient"}:
            return
        add, positive = self._adding(site.name), is_rectifier(site.kind)
        # Few operations: each is slow here, between layers that take the processor's caches.
        values = _fitted(site.name, site.layout, h.shape).columns(h.detach()).values
        self._values[site.name] = self._values.get(site.name, 0) + h.numel() // site.units
        if "fired" in self._what:
            add("fired", _largest(values) > 0)  # added to another pass's, either
        if "size" in self._what:
            add("size", _total(values if positive else values.abs()))
        if "mean" in self._what and not (positive and "size" in self._what):
            add("mean", _total(values))

    def _adding(self, name: str) -> Callable[[str, Tensor], None]:
        sums = self._sums.setdefault(name, {})

        def add(key: str, value: Tensor) -> None:
            sums[key] = sums[key] + value if key in sums else value

        return add


def _remove(hooks: list[RemovableHandle]) -> None:
    for hook in hooks:
        hook.remove()


def _made_by(parameters: list[nn.Parameter], node: Any, heard: set[Any]) -> bool | None:
    """Whether a tensor is computed from one of these, by what autograd noted; None where that does not say.

    Args:
        parameters: of a layer, and of what is between it and the tensor.
        node: of the tensor; None: it has none, as within a checkpoint that computes without gradients.
        heard: nodes behind which is another activation.
    """
    wanted = {id(parameter) for parameter in parameters if parameter.requires_grad}
    if node is None or not wanted:
        return None
    nodes, known = [node], {node}
    for each in nodes:  # nearest first, so that few are looked at where all is as on the probe
        if "CheckpointFunction" in each.name():  # which hides the layers that it ran
            return None
        if id(getattr(each, "variable", None)) in wanted:
            return True
        for before, _ in each.next_functions:
            if before is not None and before not in known and before not in heard:
                known.add(before)
                nodes.append(before)
    return False


def _total(values: Tensor) -> Tensor:
    """Sum by unit, in float32 at least. First along memory, which is the fast way round."""
    dtype = torch.float64 if values.dtype == torch.float64 else torch.float32
    inner = values.sum(2, dtype=dtype) if values.shape[2] > 1 else values.select(2, 0)
    return (inner if inner.dtype is dtype else inner.to(dtype)).sum(0)


def _largest(values: Tensor) -> Tensor:
    inner = values.amax(2) if values.shape[2] > 1 else values.select(2, 0)
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
    group: Any, sums: dict[str, dict[str, Tensor]], values: dict[str, int], astray: set[str]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, int], set[str]]:
    """Added over processes."""
    if not sums:
        return sums, values, astray
    device = next(iter(next(iter(sums.values())).values())).device
    flat = [tensor.double() for of in sums.values() for tensor in of.values()]
    counts = [float(values.get(name, 0)) for name in sums] + [float(name in astray) for name in sums]
    everything = torch.cat([*flat, torch.tensor(counts, dtype=torch.float64).to(device)])
    torch.distributed.all_reduce(everything, group=group)
    parts = iter(everything.split([len(t) for t in flat] + [len(sums)] * 2))
    added = {name: {key: next(parts).to(t.dtype) for key, t in of.items()} for name, of in sums.items()}
    counted, strays = (dict(zip(sums, next(parts).tolist(), strict=True)) for _ in range(2))
    lost = {name for name, many in strays.items() if many} | (astray - sums.keys())
    return added, {name: math.floor(many) for name, many in counted.items()}, lost
