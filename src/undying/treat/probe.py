"""Run a network over a probe and see its outputs, which units fire, and, once, what makes and reads them."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from undying._base.preserve_state import device_of, preserve_state
from undying._base.unwrap import uncompiled
from undying.census.batches import Inputs, Method, batches_of, entry, moved, unpacked
from undying.census.counting import Counter
from undying.treat.difference import difference
from undying.treat.flow import Flow
from undying.units.tensors import tensors_in

_MASKED = -9999.0
"""Values below take a choice away, as -1e4, -65504 and -1e9 added to logits do, and are no size of an output."""


@dataclass
class Seen:
    """What one run over the probe showed."""

    outputs: list[Tensor] = field(default_factory=list)
    """Every tensor that the network gave, batch by batch."""
    each: int = 0
    """How many of them a batch gave; it is one where not every batch gave as many."""
    fired: dict[str, Tensor] = field(default_factory=dict)
    """By site, int64 over units: how many values were > 0."""
    types: dict[str, type[nn.Module]] = field(default_factory=dict)
    """By site: type of the activation."""
    layers: dict[str, str | None] = field(default_factory=dict)
    """By site: what makes its units, where that is known."""
    ambiguous: dict[str, tuple[int, ...]] = field(default_factory=dict)
    blind: list[str] = field(default_factory=list)
    """Sites all of whose values were NaN."""
    middle: dict[str, Tensor] = field(default_factory=dict)
    """By site, float64 over units: median of the pre-activation; only where it was asked for."""
    flow: Flow | None = None

    @property
    def kinds(self) -> dict[str, str]:
        """By site: name of the type of the activation."""
        return {name: kind.__name__ for name, kind in self.types.items()}

    def changes_from(self, before: Seen) -> list[float]:
        """Largest change of each output; infinite where one became NaN or infinite, or ceased to be."""
        changes = [difference(a, b) for a, b in zip(before.outputs, self.outputs, strict=True)]
        return [max(changes[i :: self.each]) for i in range(self.each)]

    def change_from(self, before: Seen) -> float:
        """Largest of all."""
        return max(self.changes_from(before), default=0.0)

    def beyond(self, before: Seen, share: float, sizes: list[float]) -> tuple[float, float] | None:
        """(change, most that is allowed) of the output that changed most beyond ``share`` of its size; None if none did."""
        found = [
            (c, share * size) for c, size in zip(self.changes_from(before), sizes, strict=True) if c > share * size
        ]
        return max(found, key=lambda pair: pair[0] / pair[1] if pair[1] else math.inf, default=None)

    @functools.cached_property
    def sizes(self) -> list[float]:
        """Largest absolute value of each output, but for values that are infinite, or as low as only masks are."""
        sizes = [_size(t) for t in self.outputs]
        return [max(sizes[i :: self.each]) for i in range(self.each)]


def _size(t: Tensor) -> float:
    values = t.abs() if t.is_complex() else t.double()
    values = values[values.isfinite()]
    plain = values[values > _MASKED]
    largest = (plain if len(plain) else values).abs()
    return float(largest.max()) if len(largest) else 0.0


@dataclass
class Probe:
    """Batches, as a census takes them, that can be run again and again."""

    model: nn.Module
    data: Iterable[Any]
    inputs: Inputs | None
    axes: Mapping[str, int]
    follow: type[Flow] = Flow
    """What follows the network."""
    method: Method = None
    """What is called with each batch; None: the network."""

    def __post_init__(self) -> None:
        if self.data is None:
            raise TypeError("probe must be batches, as undying.census takes them, not None")
        for name, parameter in [*self.model.named_parameters(), *self.model.named_buffers()]:
            if is_lazy(parameter):
                raise ValueError(f"{name!r} has no shape yet: run the network once, as its lazy layers need it")
        place = device_of(self.model)
        self.batches = [moved(batch, place) for batch in batches_of(self.data)]
        self._whole = False
        if not self.batches:
            raise ValueError("probe gave no batch")

    def look(self) -> Seen:
        """Run it and follow what makes and reads each unit.

        Raises:
            ValueError: it shows nothing by which a change could be seen.
        """
        seen = self._run(follow=True)
        model = type(self.model).__name__
        if not any(t.numel() for t in seen.outputs):
            raise ValueError(f"the probe holds no sample: every output of {model} is empty")
        for name in seen.blind:
            raise ValueError(f"no value at site {name!r} on the probe is a number: its units cannot be told apart")
        if not any(t.isfinite().any() for t in seen.outputs):
            raise ValueError(f"no output of {model} on the probe is finite, so that no change of one can be seen")
        return seen

    def check(self, middle_of: Mapping[str, Tensor] | None = None) -> Seen:
        """Run it.

        Args:
            middle_of: by site, bool over units: whose median is asked for.
        """
        return self._run(follow=False, middle_of=middle_of)

    def _run(self, *, follow: bool, middle_of: Mapping[str, Tensor] | None = None) -> Seen:
        tracer, seen, flows = _Tracer(self.model, self.axes, middle_of or {}), Seen(), []
        counts: set[int] = set()
        with contextlib.ExitStack() as stack:
            stack.enter_context(preserve_state(self.model))
            stack.enter_context(tracer.attached())
            stack.enter_context(uncompiled())
            stack.enter_context(torch.no_grad())
            # An open autocast block keeps copies of weights: no old ones are run, and none that are tried are left.
            torch.clear_autocast_cache()
            stack.callback(torch.clear_autocast_cache)
            self.model.eval()
            for batch in self.batches:
                output = self._output(tracer, batch, follow)
                given = [t.detach().clone() for t in tensors_in([output])]
                seen.outputs += given
                counts.add(len(given))
                if tracer.flow is not None:
                    tracer.flow.returned(output)
                    flows.append(tracer.flow)
        if not seen.outputs:
            raise ValueError(
                f"{type(self.model).__name__} gives no tensor by which to tell whether it still computes the same"
            )
        seen.each = counts.pop() if len(counts) == 1 else 1
        seen.fired = {name: site.before.fired.cpu() for name, site in tracer.counts.items()}
        seen.types = {name: site.kind for name, site in tracer.counts.items()}
        seen.layers = {name: site.layer for name, site in tracer.counts.items()}
        nan = {name: (site.before.nan, site.values) for name, site in tracer.counts.items()}
        seen.blind = [name for name, (n, values) in nan.items() if bool(n.any() and (n >= values).all())]
        seen.ambiguous, seen.middle = tracer.ambiguous, tracer.middles()
        seen.flow = _together(flows) if flows else None
        return seen

    def _output(self, tracer: _Tracer, batch: Any, follow: bool) -> Any:
        # A network may work in place on its input, and what it is given again must be the same.
        args, kwargs, _ = unpacked(copy.deepcopy(batch), self.inputs, whole=self._whole)
        try:
            with tracer.batch(self.follow if follow else None):
                return entry(self.model, self.method)(*args, **kwargs)
        except Exception:
            if self._whole or self.inputs is not None or isinstance(batch, Tensor):
                raise
            try:
                tracer.restart()
                with tracer.batch(self.follow if follow else None):
                    output = entry(self.model, self.method)(copy.deepcopy(batch))
            except Exception:
                output = None
            if output is None:
                raise
            self._whole = True
            return output


def _together(flows: list[Flow]) -> Flow:
    """The first, with the means over all batches."""
    first = flows[0]
    for other in flows[1:]:
        if [(m.where, m.kind, m.count) for m in first.made] != [(m.where, m.kind, m.count) for m in other.made]:
            raise ValueError(
                "the network makes other calls for one batch of the probe than for another: give one of them"
            )
        for mine, theirs in zip(first.made, other.made, strict=True):
            if mine.reading is not None and theirs.reading is not None:
                mine.reading.join(theirs.reading)
    return first


class _Tracer(Counter):
    """Counts as a census does, and tells ``flow`` of every operation."""

    def __init__(self, model: nn.Module, axes: Mapping[str, int], middle_of: Mapping[str, Tensor]) -> None:
        super().__init__(model, axes, gradients=False)
        self.flow: Flow | None = None
        self._middle_of = middle_of
        self._begun = 0
        self._values: dict[str, list[Tensor]] = {}

    def batch(self, follow: type[Flow] | None) -> _Tracer:
        """Begin a forward pass."""
        self.start_batch()
        self.flow = None if follow is None else follow(self.model, lambda: self.running_name)
        return self

    @property
    def running_name(self) -> str:
        return (self._running.name if self._running.module is not None else "") or type(self.model).__name__

    def middles(self) -> dict[str, Tensor]:
        """By site, float64 over units: the median, midway between the two in the middle; 0 where it was not asked for."""
        found = {}
        for name, parts in self._values.items():
            values, units = torch.cat(parts, 1), self._middle_of[name]
            found[name] = torch.zeros(len(units), dtype=torch.float64)
            found[name][units] = ((values.median(1).values - (-values).median(1).values) / 2).cpu()
        return found

    def _begin(self, label: str, kind: type[nn.Module], x: Tensor, *rest: Any) -> Any:
        self._begun += 1
        if self.flow is not None:
            self.flow.begins(x)
        call = super()._begin(label, kind, x, *rest)
        if call.counts is None or call.layout is None:
            return call
        name = call.counts.name
        if (wanted := self._middle_of.get(name)) is not None and wanted.any():
            values = call.layout.columns(x.detach()).values[:, wanted.to(x.device)]
            self._values.setdefault(name, []).append(values.double().transpose(0, 1).flatten(1))
        return call

    def _end(self, call: Any, h: Tensor) -> None:
        super()._end(call, h)
        if self.flow is not None:
            self.flow.ends(None if call.counts is None else call.counts.name, call.layout, h)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        begun = self._begun
        out = super().__torch_function__(func, types, args, kwargs)
        if self.flow is not None and self._begun == begun:  # it was no activation
            self.flow.called(func, args, kwargs or {}, out)
        return out
