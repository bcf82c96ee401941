"""Count, on the model's device, what reaches and leaves every activation call."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from undying._base.module_stack import ModuleStack
from undying._torch import disable_torch_function, in_functorch
from undying.activations.known import TYPE_OF, Ends, ends, is_activation, is_rectifier
from undying.census.accumulators import Accumulator, OutputAccumulator
from undying.census.uses import Uses
from undying.units.layout import Columns, Layout
from undying.units.rules import AmbiguousError, UnitAxes, site_layout
from undying.units.unseen import Unseen


class SiteCounts:
    """Running counts of one site."""

    def __init__(self, name: str, kind: type[nn.Module], units: int, ends: Ends | None, device: torch.device) -> None:
        self.name, self.kind, self.units, self.ends = name, kind, units, ends
        self.samples: Any = 0
        """N: a number, or with masks a tensor on the device."""
        self.before = Accumulator(units, ends or (-math.inf, math.inf), device)
        self.after = None if is_rectifier(kind) else OutputAccumulator(units, device)
        self.gradient: Tensor | None = None
        """Largest \\|dL/dx\\|; None before any was seen."""

    @property
    def zeros(self) -> Tensor:
        return self.samples - self.before.fired - self.before.nan if self.after is None else self.after.zeros

    @property
    def total(self) -> Tensor:
        """Sum of the absolute values of the post-activations."""
        return self.before.rectified if self.after is None else self.after.total

    def gradient_at(self, columns: Columns) -> None:
        sizes = columns.values.abs()
        if columns.mask is not None:
            sizes = torch.where(columns.mask, sizes, 0)
        largest = sizes.amax((0, 2))
        self.gradient = largest if self.gradient is None else torch.maximum(self.gradient, largest)


@dataclass
class _Call:
    """One call of an activation that is under way."""

    x: Tensor
    """What to give the activation."""
    counts: SiteCounts | None
    """None where nothing is counted: an ambiguous site, an empty batch."""
    layout: Layout | None


class Counter(UnitAxes):
    """While attached and active, counts every activation call of ``model`` into ``counts``, in the order of the calls.

    A call is that of an activation module, or of a function that computes the same in any other module's
    forward; the latter is named after the module and the function (``block.relu``).
    """

    def __init__(
        self,
        model: nn.Module,
        axes: Mapping[str, int],
        gradients: bool,
        began: Callable[[nn.Module], None] | None = None,
        ended: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.axes, self.gradients = model, axes, gradients
        self.counts: dict[str, SiteCounts] = {}
        self.ambiguous: dict[str, tuple[int, ...]] = {}
        """Shape of the input at sites whose unit axis nothing decides; they are not counted."""
        self.leaves: list[Tensor] = []
        """What the gradient must be asked of beside the parameters, so that it comes past every site."""
        self.uses: Uses | None = None
        """Who reads the outputs, while it is asked."""
        self.active = False
        """Whether the mode is entered: a forward pass is under way that counts."""
        self._mask: Tensor | None = None
        self._began = began
        self._running = ModuleStack(model, began=self._begin_forward, ended=ended)
        self.unseen = Unseen(self, self._running)
        """What may act as an activation and is not counted."""
        self._calls: dict[str, int] = {}
        self._under_way: dict[nn.Module, _Call] = {}

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Put hooks on the model; they count while the counter is active as well."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._running)
            self.know_all(self.model)
            for name, module in self.model.named_modules():
                if is_activation(module) and not isinstance(module, torch.jit.ScriptModule):
                    before = self._before(name or type(module).__name__)
                    stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
                    stack.callback(module.register_forward_hook(self._after).remove)
            yield

    def __enter__(self) -> Counter:
        self.active = True
        self.unseen.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.active = False
        super().__exit__(*exception)
        self.unseen.__exit__()

    def restart(self) -> None:
        """Begin all counts anew."""
        self.counts, self.ambiguous = {}, {}
        self.unseen.restart()
        if self.uses is not None:
            self.uses.restart()

    def start_batch(self, mask: Tensor | None = None) -> None:
        """Begin a forward pass. ``mask``: bool, true where a sample's position counts."""
        self._calls.clear()
        self.unseen.start()
        self.leaves.clear()
        self._mask = mask

    def _begin_forward(self, outermost: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._began is not None:
            self._began(outermost)
        self.unseen.given(args, kwargs)

    def _before(self, label: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if not self.active:  # a forward that checkpointing computes again
                return None
            x = args[0] if args else kwargs["input"]
            with disable_torch_function():
                call = self._under_way[module] = self._begin(label, type(module), x, ends(type(module), module, (), {}))
            return _with_first(args, kwargs, call.x)

        return hook

    def _after(self, module: nn.Module, _args: tuple[Any, ...], h: Tensor) -> None:
        with disable_torch_function():
            if module in self._under_way:
                self._end(self._under_way.pop(module), h)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kind, kwargs = TYPE_OF.get(func), dict(kwargs or {})
        self.unseen.read(func, args, kwargs)
        if kind is None or is_activation(self._running.module):
            out = super().__torch_function__(func, types, args, kwargs)
            self.unseen.called(func, args, kwargs, out)
            if self.uses is not None:
                self.uses.called(func, args, kwargs, out)
            return out
        name = func.__name__.strip("_")
        label = f"{self._running.name}.{name}" if self._running.module is not None and self._running.name else name
        call = self._begin(label, kind, args[0] if args else kwargs["input"], ends(kind, None, args, kwargs))
        args, kwargs = _with_first(args, kwargs, call.x)
        h = super().__torch_function__(func, types, args, kwargs)
        self.unseen.called(func, args, kwargs, h)
        self._end(call, h)
        return h

    def _begin(self, label: str, kind: type[nn.Module], x: Tensor, bounds: Ends | None) -> _Call:
        """Count what reaches the activation: here, since one in place overwrites it."""
        self._calls[label] = self._calls.get(label, 0) + 1
        name = label if self._calls[label] == 1 else f"{label}#{self._calls[label]}"
        if self.uses is not None:
            self.uses.read(x)
        if x.numel() == 0:
            return _Call(x, None, None)
        if in_functorch() or x.is_quantized:
            self.unseen.note(
                label, f"{kind.__name__} {'of quantized values' if x.is_quantized else 'under torch.func'}"
            )
            return _Call(x, None, None)
        try:
            layout = site_layout(name, x, self._layouts.get(x), self.axes)
        except AmbiguousError:
            self.ambiguous[name] = tuple(x.shape)
            return _Call(x, None, None)
        if name not in self.counts:
            self.counts[name] = SiteCounts(name, kind, layout.units, bounds, x.device)
        counts = self.counts[name]
        if counts.units != layout.units:
            raise ValueError(f"site {name!r} had {counts.units} units in one batch and {layout.units} in another")
        columns = self._columns(name, x.detach(), layout)
        counts.samples = counts.samples + (x.numel() // counts.units if columns.mask is None else columns.mask.sum())
        counts.before.add(columns)
        if self.gradients and torch.is_grad_enabled():  # under no_grad none comes
            if not x.requires_grad:
                leaf = x.detach().requires_grad_()
                self.leaves.append(leaf)
                x = leaf.clone()  # a leaf may not be overwritten in place
                self.know(x)
            x.register_hook(lambda g: counts.gradient_at(self._columns(name, g.detach(), layout)))
        return _Call(x, counts, layout)

    def _end(self, call: _Call, h: Tensor) -> None:
        if call.counts is None or call.layout is None:
            return
        if call.counts.after is not None:
            call.counts.after.add(self._columns(call.counts.name, h.detach(), call.layout))
        self._layouts.set(h, call.layout)
        if self.uses is not None:
            self.uses.made(call.counts.name, h)

    def _columns(self, name: str, x: Tensor, layout: Layout) -> Columns:
        # One mask covers the tokens of a sample; a site that sees one value a sample, as after pooling, has no padding.
        places, mask = math.prod(layout.shape) // layout.units, self._mask
        if mask is not None and places == mask.shape[0] != mask.numel():
            mask = None
        try:
            return layout.columns(x, mask)
        except ValueError as error:
            raise ValueError(f"site {name!r}, input {tuple(x.shape)}: {error}") from None


def _with_first(args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of an activation, with ``x`` as its input."""
    return ((x, *args[1:]), kwargs) if args else ((), {**kwargs, "input": x})
