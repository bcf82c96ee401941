"""Count, on the model's device, what reaches and leaves every activation call."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from undying._base.module_stack import Hook, ModuleStack
from undying._base.patterns import Skip
from undying._base.places import Places
from undying._torch import disable_torch_function, in_functorch
from undying.activations.known import TYPE_OF, Ends, ends, is_activation
from undying.census.accumulators import WIDEST, SecondMoments
from undying.census.call_names import CallNames
from undying.census.covered import Covered
from undying.census.examples import Keeper
from undying.census.indexed import Indexed, entries
from undying.census.inputs import FirstLayers
from undying.census.layers import Layers
from undying.census.outputs import Given, Outputs
from undying.census.positions import Positions
from undying.census.samples import fewer, samples_shown
from undying.census.site_counts import SiteCounts
from undying.census.uses import Uses
from undying.units.layout import Columns, Layout
from undying.units.marks import Known, Mark, Ranks
from undying.units.rules import UnitAxes
from undying.units.sites import RANKS, AmbiguousError, RanksError, site_layout
from undying.units.tensors import QUERIES, is_among, tensors_in
from undying.units.unseen import Unrecognised, Unseen, reachable


@dataclass
class _Call:
    """One call of an activation that is under way."""

    name: str
    """Of the site."""
    x: Tensor
    """What to give the activation."""
    counts: SiteCounts | None
    """None where nothing is counted: an ambiguous site, an empty batch."""
    layout: Layout | None
    layer: str | None = None
    uncounted: bool = False
    """Whether its units cannot be told."""


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
        skip: Skip | None = None,
        outputs: Given = (),
    ) -> None:
        super().__init__()
        self.outputs = Outputs(model, outputs)
        self.model, self.axes, self.gradients = model, axes, gradients
        self.counts: dict[str, SiteCounts] = {}
        self.ambiguous: dict[str, tuple[int, ...]] = {}
        """Shape of the input at sites whose unit axis nothing decides; they are not counted."""
        self.skip = skip or Skip(())
        self.left_out: dict[str, str] = {}
        """Why sites are not counted that the user skips, or whose number of units changes from call to call."""
        self.leaves: list[Tensor] = []
        """What the gradient must be asked of beside the parameters, so that it comes past every site."""
        self._samples: int | None = None
        """In the forward pass that is under way; None where nothing tells."""
        self.passes: dict[nn.Module | None, int | None] = {}
        """Samples of the passes so far, by what was called; None where nothing tells of one."""
        self._called: nn.Module | None = None
        self._under_count = False
        """Whether the samples of the forward pass that is under way are yet to be added."""
        self._seen: list[tuple[SiteCounts, Any]] = []
        """In it: each site that counted, with the most samples that its values can be of."""
        self.uses: Uses | None = None
        """Who reads the outputs, while it is asked."""
        self.inputs: FirstLayers | None = None
        """What the first layers read, where it is asked."""
        self.examples: Keeper | None = None
        """Which samples fire a unit most and least, where that is asked."""
        self.moments = False
        """Whether to add up the second moments of the outputs."""
        self.active = False
        """Whether the mode is entered: a forward pass is under way that counts."""
        self._picking = False
        """Whether a function of the user's takes units out of what was returned: nothing that it does is counted."""
        self._mask: Tensor | None = None
        self._positions: Positions | None = None
        self._unmasked: Tensor | None = None
        """How many samples it leaves any position of."""
        self._running = ModuleStack(model)
        self.unseen = Unseen(self, self._running)
        """What may act as an activation and is not counted."""
        self._covered = Covered() if self.outputs.kinds else None
        """Of this and of sites whose units cannot be told, what is counted as an output."""
        self.unseen.noted = None if self._covered is None else self._covered.given
        self.names = CallNames()
        self._under_way: dict[nn.Module, _Call] = {}

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Put hooks on the model; they count while the counter is active as well."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._running)
            self._places = Places(self.model)  # here, since modules are replaced between the steps of a training
            self.know_all(self.model)
            self._layers = Layers(self._running, self.of)
            stack.callback(delattr, self, "_layers")  # else the two keep each other, and the network with them
            before, after = Hook(self._before), Hook(self._after)
            for module in self.model.modules():
                if is_activation(module) and not isinstance(module, torch.jit.ScriptModule):
                    stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
                    stack.callback(module.register_forward_hook(after).remove)
            stack.enter_context(self.outputs.attached(self._returned))
            yield

    def __enter__(self) -> Counter:
        self.active = True
        self._places.restart()
        self.unseen.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.active = False
        super().__exit__(*exception)
        self.unseen.__exit__()
        self.names.restart()
        self.add_samples()

    def add_samples(self) -> None:
        """Count those of the forward pass that is under way, as at its end."""
        for counts, most in self._seen:
            counts.samples = fewer(counts.samples, most, self._samples)
        self._seen.clear()
        if self._under_count:
            before = self.passes.get(self._called, 0)
            self.passes[self._called] = None if before is None or self._samples is None else before + self._samples
            self._under_count = False

    def unrecognised(self) -> dict[str, Unrecognised]:
        """Places that may act as an activation and were not counted. Those that the user skips are in ``left_out`` then."""
        found = self.unseen.places
        for name, place in list(found.items()):
            if (reason := self.skip.reason_for(name, name.partition("#")[0], place.layer)) is not None:
                self.left_out[name] = reason
            elif place.layer not in self.outputs.kinds:  # else what it computes is counted
                continue
            del found[name]
        for name in () if self._covered is None else self._covered.names():
            for places in (found, self.ambiguous, self.left_out):
                places.pop(name, None)
        return found

    def restart(self) -> None:
        """Begin all counts anew."""
        self.counts, self.ambiguous, self.left_out, self.names = {}, {}, {}, CallNames()
        self.unseen.restart()
        if self.uses is not None:
            self.uses.restart()
        if self.inputs is not None:
            self.inputs.restart()
        if self.examples is not None:
            self.examples.restart()
        if self._covered is not None:
            self._covered.restart()

    def given(self, *inputs: Any) -> None:
        """Say what the forward pass is given."""
        self.unseen.given(*inputs)
        if self.inputs is not None:
            self.inputs.given(reachable(inputs))
        if self.examples is not None:
            self.examples.start(self._samples, inputs)

    def layer_of(self, x: Tensor) -> str | None:
        """Name of the layer that made ``x``; None where there is none, or several are."""
        return self._layers.of(x)

    def input_columns(self, x: Tensor, layout: Layout) -> Columns:
        """The values of what the network is given, with the mask.

        Raises:
            ValueError: the mask does not fit.
        """
        if self._positions is not None and (order := self._positions.changed(x)) is not None:
            raise ValueError(f"the mask has positions in the order of the batch, not {order}")
        return self._columns("input", x, layout)

    def start_batch(
        self, mask: Tensor | None = None, samples: int | None = None, called: nn.Module | None = None
    ) -> None:
        """Begin a forward pass.

        Args:
            mask: bool, true where a sample's position counts.
            samples: how many it is given; None where nothing tells.
            called: the network or the part of it that is called; None: the network.
        """
        self._called, self._under_count = called, True
        self.names.restart()
        self.unseen.start()
        if self._covered is not None:
            self._covered.start()
        self.leaves.clear()
        self._mask, self._samples = mask, samples
        self._positions = None if mask is None else Positions(mask)
        self._unmasked = None if mask is None else mask.reshape(len(mask), -1).any(1).sum()

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # A forward that checkpointing computes again, or what an activation computes with.
        if not self.active or self._picking or self._running.within(is_activation):
            return None
        place = self._places.name(module, self._running.caller)
        label, bounds = place or type(module).__name__, ends(type(module), module, (), {})
        x = args[0] if args else kwargs["input"]
        with disable_torch_function():
            call = self._under_way[module] = self._begin(label, type(module), x, bounds, place)
        return _with_first(args, kwargs, call.x)

    def _after(self, module: nn.Module, _args: tuple[Any, ...], h: Tensor) -> None:
        with disable_torch_function():
            if module in self._under_way:
                self._end(self._under_way.pop(module), h)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in QUERIES and args and self.knows(args[0]):
            return func(*args, **(kwargs or {}))
        kind, kwargs = TYPE_OF.get(func), dict(kwargs or {})
        if self._samples is not None:
            self._samples = samples_shown(getattr(func, "__name__", ""), args, kwargs, self._samples)
        given = tensors_in((*args, *kwargs.values()))
        if self._picking:
            out, made = self.followed(func, args, kwargs, given)
            self._moved(func, args, kwargs, given, made)
            return out
        self.unseen.read(func, given)
        if kind is None or is_activation(self._running.module) or self._running.within(is_activation):
            out, made = self.followed(func, args, kwargs, given)
            self._moved(func, args, kwargs, given, made)
            self.unseen.called(func, args, kwargs, out)
            if self.uses is not None:
                self.uses.called(func, args, kwargs, given, out)
            if self.inputs is not None:
                self.inputs.called(func, args, kwargs, given, made)
            return out
        name = func.__name__.strip("_")
        place = self._running.name if self._running.module is not None else ""
        label, bounds = f"{place}.{name}" if place else name, ends(kind, None, args, kwargs)
        if label in self.outputs.kinds:  # a part or method of this name is counted as well
            label = f"{label}()"
        call = self._begin(label, kind, args[0] if args else kwargs["input"], bounds, place)
        args, kwargs = _with_first(args, kwargs, call.x)
        h, made = self.followed(func, args, kwargs, tensors_in((*args, *kwargs.values())))
        self.unseen.called(func, args, kwargs, h)
        if self._positions is not None:
            self._positions.called(name, args, kwargs, given, h)
        if self.inputs is not None:
            self.inputs.called(func, args, kwargs, given, made)
        self._end(call, h)
        return h

    def _moved(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], given: list[Tensor], made: Any
    ) -> None:
        """Follow layers, positions and samples through an operation, after it."""
        self._layers.called(func, given, made)
        if self._covered is not None:
            self._covered.called(func, given, made)
        if self._positions is not None:
            self._positions.called(getattr(func, "__name__", ""), args, kwargs, given, made)
        if self.examples is not None:
            self.examples.rows.called(func, args, kwargs, given, made)

    def _returned(self, name: str, value: Any) -> Any:
        """Count what one of the ``outputs`` returned. What it is to return now."""
        if not self.active or self._picking:
            return value
        if self._covered is not None:
            self._covered.returned(value)
        found = self._picked(name, value)
        with disable_torch_function():
            if isinstance(found, Indexed) and any(
                isinstance(known, Ranks) and not known.are_last for known in map(self._layouts.get, found[:2])
            ):
                raise self.outputs.not_last(name)
            self.outputs.check(name, value, found)
            own = list(tensors_in([value]))
            part = found.values if isinstance(found, Indexed) else found
            if self.gradients and torch.is_grad_enabled() and not (part.requires_grad and is_among(part, own)):
                raise self.outputs.error(
                    name,
                    "gave what no gradient of the network reaches; name what it returns itself, or leave out gradients=True",
                )
            if isinstance(found, Indexed):
                self._count_some(name, found)
                return value
            known = self._layouts.get(found)
            if isinstance(known, Ranks):
                raise self.outputs.of_ranks(name, value, found)
            if name not in self.axes:
                self.outputs.check_alone(name, value, found)
                if not is_among(found, own) and not isinstance(known, Layout):
                    known = Mark.LOST  # else the last of two axes would be taken, whatever the function did
            call = self._count(name, self.outputs.kinds[name], found, None, name, known)
            if call.name in self.ambiguous:
                raise self.outputs.ambiguous(name, found)
            self._end(call, call.x)
            return call.x if found is value else value

    def _picked(self, name: str, value: Any) -> Any:
        """What is counted of a value, with what the user's function does followed as the network's operations are."""
        unknown = [t for t in tensors_in([value]) if t.dim() == 2 and self._layouts.get(t) is None]
        seen = [t for t in unknown if self.knows(t)]
        for tensor in unknown:  # of these it is the last axis that is counted
            self._layouts.set(tensor, Layout.along(-1, tensor.shape))
        self._take(True)
        try:
            return self.outputs.pick(name, value)
        finally:
            self._take(False)
            for tensor in unknown:
                self._layouts.discard(tensor)
            for tensor in seen:
                self.know(tensor)

    def _take(self, picking: bool) -> None:
        self._picking = self.compares = picking
        if self._positions is not None:
            self._positions.compares = picking

    def _count_some(self, label: str, found: Indexed) -> None:
        name = self.names.next(label, self._layers.of(found.values))
        if (reason := self.skip.reason_for(name, label, label)) is not None:
            self.left_out[name] = reason
        elif self.examples is not None:
            self.examples.leave_out(name, "of Indexed outputs none are kept")
        if not found.values.numel() or name in self.left_out:
            return
        if (counts := self._counts_at(name, self.outputs.kinds[label], found.units, None, found.values.device)) is None:
            return
        mask = self._mask_at(Layout.along(-1, found.values.shape))
        if mask is not None:
            self._check_order(name, found.values)
        try:
            values, units, positions, kept = entries(found, mask)
        except ValueError as error:
            raise ValueError(f"site {name!r}, values {tuple(found.values.shape)}: {error}") from None
        counts.add_some(values, units, positions)
        self._seen.append((counts, positions if kept is None else self._unmasked))
        if self.gradients and torch.is_grad_enabled():

            def gradient(g: Tensor) -> None:
                g = g.detach().flatten()
                counts.gradient_at_some(g if kept is None else g[kept], units)

            found.values.register_hook(gradient)

    def _begin(self, label: str, kind: type[nn.Module], x: Tensor, bounds: Ends | None, place: str) -> _Call:
        """Count what reaches the activation: here, since one in place overwrites it.

        Args:
            label: of the site, without the number of the call.
            kind: of the activation.
            x: its input.
            bounds: of its range.
            place: name of the module that is the activation, or calls it.
        """
        if self.uses is not None:
            self.uses.read(x)
        return self._count(label, kind, x, bounds, place)

    def _count(
        self, label: str, kind: type[nn.Module], x: Tensor, bounds: Ends | None, place: str, known: Known = None
    ) -> _Call:
        """Likewise; ``known`` of the input in place of what was followed."""
        layer = self._layers.of(x)
        name = self.names.next(label, layer)
        if (reason := self.skip.reason_for(name, label, place)) is not None:
            self.left_out[name] = reason
        if x.numel() == 0 or name in self.left_out:
            return _Call(name, x, None, None, layer)
        if in_functorch() or x.is_quantized:
            self.unseen.note(
                label, f"{kind.__name__} {'of quantized values' if x.is_quantized else 'under torch.func'}"
            )
            return _Call(name, x, None, None)
        try:
            layout = site_layout(name, x, known or self._layouts.get(x), self.axes)
        except RanksError:
            self.left_out[name] = f"its input is {RANKS}; outputs= counts the units, with undying.Indexed"
            return _Call(name, x, None, None, uncounted=True)
        except AmbiguousError:
            self.ambiguous[name] = tuple(x.shape)
            return _Call(name, x, None, None, uncounted=True)
        layer = layer if self.of(x) == layout else None  # else its units are numbered in another way
        begun = name in self.counts
        if (counts := self._counts_at(name, kind, layout.units, bounds, x.device)) is None:
            return _Call(name, x, None, None, layer)
        counts.layer = layer if not begun or layer == counts.layer else None
        columns = self._columns(name, x.detach(), layout)
        if columns.mask is not None:
            self._check_order(name, x)
        values: Any = x.numel() // counts.units if columns.mask is None else columns.mask.sum()
        counts.values = counts.values + values
        self._seen.append((counts, values if columns.mask is None else self._unmasked))
        counts.before.add(columns)
        if self.examples is not None:
            self.examples.add(name, x, layout, self._mask_at(layout), self._samples)
        if self.gradients and torch.is_grad_enabled():  # under no_grad none comes
            if not x.requires_grad:
                leaf = x.detach().requires_grad_()
                self.leaves.append(leaf)
                given, x = x, leaf.clone()  # a leaf may not be overwritten in place
                self.know(x)
                if self.examples is not None:
                    self.examples.rows.same(given, x)
            x.register_hook(lambda g: counts.gradient_at(self._columns(name, g.detach(), layout)))
        return _Call(name, x, counts, layout, layer)

    def _counts_at(
        self, name: str, kind: type[nn.Module], units: int, bounds: Ends | None, device: torch.device
    ) -> SiteCounts | None:
        """Those of a site, begun where it is new; None, and it is left out, where it had another number of units before."""
        if name not in self.counts:
            counts = self.counts[name] = SiteCounts(name, kind, units, bounds, device)
            if self.moments and units <= WIDEST:
                counts.moments = SecondMoments(units, device)
        counts = self.counts[name]
        if counts.units == units:
            return counts
        self.left_out[name] = f"its input had {counts.units} units in one batch and {units} in another"
        del self.counts[name]
        if self.examples is not None:
            self.examples.leave_out(name, self.left_out[name])
        return None

    def _end(self, call: _Call, h: Tensor) -> None:
        self._layers.set(h, call.layer)
        if self._covered is not None:
            self._covered.called(nn.Module.__call__, [call.x], h)
            if call.uncounted:
                self._covered.given(call.name, h)
        if self.examples is not None:
            self.examples.rows.same(call.x, h)
        if call.counts is None or call.layout is None:
            return
        wanted = [each for each in (call.counts.after, call.counts.moments) if each is not None]
        if wanted:
            columns = self._columns(call.counts.name, h.detach(), call.layout)
            for each in wanted:
                each.add(columns)
        self._layouts.set(h, call.layout)
        if self.uses is not None:
            self.uses.made(call.counts.name, h)

    def _columns(self, name: str, x: Tensor, layout: Layout) -> Columns:
        try:
            return layout.columns(x, self._mask_at(layout))
        except ValueError as error:
            raise ValueError(f"site {name!r}, input {tuple(x.shape)}: {error}") from None

    def _check_order(self, name: str, x: Tensor) -> None:
        """Raises ValueError where the positions of x are not in the order that the mask has them in."""
        if self._positions is not None and (order := self._positions.changed(x)) is not None:
            raise ValueError(
                f"site {name!r}: the mask has samples first and positions in the order of the batch, not {order}"
            )

    def _mask_at(self, layout: Layout) -> Tensor | None:
        # One mask covers the tokens of a sample; a site that sees one value a sample, as after pooling, has no padding.
        if (mask := self._mask) is None:
            return None
        places = math.prod(layout.shape) // layout.units
        return None if places == mask.shape[0] != mask.numel() else mask


def _with_first(args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of an activation, with ``x`` as its input."""
    return ((x, *args[1:]), kwargs) if args else ((), {**kwargs, "input": x})
