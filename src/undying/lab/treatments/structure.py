"""Parts that change what a network consists of: layer norms, and concatenated ReLU."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from undying._base.errors import UndyingError
from undying._base.preserve_state import device_of, preserve_state
from undying.census.batches import batches_of, moved, unpacked
from undying.lab.treatments.part import Part
from undying.treat.flow import Flow, few
from undying.treat.probe import Probe
from undying.units.layout import Layout
from undying.units.rules import UnitAxes
from undying.units.tensors import tensors_in


@dataclass(frozen=True)
class LayerNorm(Part):
    """A layer norm with weight and bias before each activation, over all units of a sample, as in Lyle et al. 2023,
    arXiv:2303.01486; of tokens over the units of each. For maps that is torch's GroupNorm of one group."""

    name = "layernorm"

    def prepare(self, model: nn.Module, activation: nn.Module, probe: Iterable[Any]) -> list[str]:
        # All are made before any is put in.
        norms = {call.name: self._norm(call) for call in _calls(model, type(activation), probe, self.name)}
        parameter = next(model.parameters())
        for name, norm in norms.items():
            act = model.get_submodule(name)
            norm = norm.to(parameter.device, parameter.dtype)
            _put(model, act, nn.Sequential(OrderedDict(norm=norm, act=act)))
        return [f"{name}.norm.{tensor}" for name, norm in norms.items() for tensor in norm.state_dict()]

    def _norm(self, call: _Calls) -> nn.Module:
        if call.count > 1:
            raise UndyingError(
                f"{self.name} cannot stand before {call.name!r}, which is called {call.count} times in a forward pass and "
                "would need a norm for each; give each call an activation module of its own"
            )
        return nn.GroupNorm(1, call.units) if call.axis == 1 else nn.LayerNorm(call.units)


class ConcatenatedReLU(nn.Module):
    """relu(x) and relu(-x), one after the other along the axis of the units.

    Args:
        act: the ReLU.
        axis: of the units.
    """

    def __init__(self, act: nn.Module, axis: int) -> None:
        super().__init__()
        self.act, self.axis = act, axis

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(torch.cat([x, -x], self.axis))
        return out

    def extra_repr(self) -> str:
        return f"axis={self.axis}"


@dataclass(frozen=True)
class Crelu(Part):
    """Concatenated ReLU in the place of each ReLU, as in Abbas et al. 2023, arXiv:2303.07507: a layer gives both the positive
    and the negative part of its outputs, and what reads them has twice the inputs. Its weights are drawn anew, as the layer
    itself draws them, since there are others. Written in the place of the activation: ``crelu``."""

    name = "crelu"

    def objection(self, *, averaged: bool, trained: bool) -> str:
        return (
            "crelu begins with other weights, and the network was trained before; let it begin with crelu"
            if trained
            else ""
        )

    def prepare(self, model: nn.Module, activation: nn.Module, probe: Iterable[Any]) -> list[str]:
        batches = list(batches_of(probe))
        calls = _calls(model, type(activation), batches, self.name)
        seen = Probe(model, batches, None, {}).look()
        assert seen.flow is not None
        inputs = _Readers(model, seen.flow, {call.name for call in calls}).inputs()
        # Everything is made before anything is changed.
        with torch.random.fork_rng([]):  # one for all: layers must not begin alike
            weights = {name: _drawn(model.get_submodule(name), many) for name, many in inputs.items()}
        for name, weight in weights.items():
            layer = model.get_submodule(name)
            setattr(layer, _inputs_of(layer), inputs[name])
            layer.weight = weight
        for call in calls:
            act = model.get_submodule(call.name)
            _put(model, act, ConcatenatedReLU(act, call.axis))
        _check(model, batches[0], [tuple(t.shape) for t in seen.outputs])
        return [f"{name}.weight" for name in weights]


_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)


class _Readers:
    """The layers that read what activations give.

    Args:
        model: the network.
        flow: of a forward pass.
        activations: names of modules.
    """

    def __init__(self, model: nn.Module, flow: Flow, activations: set[str]) -> None:
        self.model, self.flow = model, flow
        sites = [made for name, made in flow.sites.items() if name.partition("#")[0] in activations]
        self._by_id = {int(i): made.where for made in sites for i in made.ids}
        self._ids = torch.tensor(list(self._by_id))

    def inputs(self) -> dict[str, int]:
        """By name of each layer: how many inputs it has when every unit of the activations is two.

        Raises:
            UndyingError: something else reads the units.
        """
        for ids, by in self.flow.reads:
            self._refuse(ids, by)
        found: dict[str, int] = {}
        for made in self.flow.made:
            self._refuse(made.parent, f"{made.where} reads it" if made.kind == "site" else f"{made.where} takes it in")
            if made.reading is None:
                continue
            columns = few(made.reading.columns).flatten()
            doubled = int(torch.isin(columns, self._ids).sum())
            if not doubled:
                continue
            name = self._layer(made.reading.weight.parameter)
            layer = self.model.get_submodule(name) if name is not None else None
            if layer is None or not _inputs_of(layer) or getattr(layer, "groups", 1) != 1:
                self._refuse(columns, f"{made.where} weighs it, and is no linear or convolution layer without groups")
                continue
            assert name is not None
            if found.setdefault(name, len(columns) + doubled) != len(columns) + doubled:
                self._refuse(columns, f"{made.where} weighs it here and other units elsewhere")
        return found

    def _layer(self, parameter: nn.Parameter | None) -> str | None:
        """The layer whose weight it is, if it is that of one layer alone."""
        owners = [(n, k) for n, m in self.model.named_modules() for k, p in m._parameters.items() if p is parameter]
        return owners[0][0] if parameter is not None and len(owners) == 1 and owners[0][1] == "weight" else None

    def _refuse(self, ids: Tensor, why: str) -> None:
        for i in ids[torch.isin(ids, self._ids)].tolist():
            raise UndyingError(
                f"crelu cannot stand in the place of {self._by_id[i]!r}, whose output would have twice the units: {why}; "
                "linear and convolution layers alone are given twice the inputs"
            )


def _inputs_of(layer: nn.Module) -> str:
    """The attribute that says how many inputs a layer has; empty for one that is not known."""
    return "in_features" if type(layer) is nn.Linear else "in_channels" if type(layer) in _CONVOLUTIONS else ""


def _drawn(layer: nn.Module, inputs: int) -> nn.Parameter:
    """A weight for so many inputs, as the layer itself draws it."""
    own = layer.weight
    assert isinstance(own, nn.Parameter)
    fresh = copy.deepcopy(layer).cpu()
    axis = 0 if type(layer) in _TRANSPOSED else 1
    shape = [inputs if d == axis else size for d, size in enumerate(own.shape)]
    fresh.weight = nn.Parameter(torch.empty(shape, dtype=own.dtype))
    fresh.reset_parameters()  # type: ignore[operator]
    return nn.Parameter(fresh.weight.detach().to(own.device), requires_grad=own.requires_grad)


def _check(model: nn.Module, batch: Any, shapes: list[tuple[int, ...]]) -> None:
    """Raises UndyingError unless the network runs, in both modes, and gives outputs of the same shapes."""
    args, kwargs, _ = unpacked(moved(batch, device_of(model)), None)
    try:
        with preserve_state(model), torch.no_grad():
            model.train()
            model(*args, **kwargs)
            model.eval()
            now = [tuple(t.shape) for t in tensors_in([model(*args, **kwargs)])]
    except Exception as error:
        raise UndyingError(
            f"crelu: the network does not take twice the units: {' '.join(str(error).split())}"
        ) from None
    if now != shapes[: len(now)]:
        raise UndyingError(f"crelu: the network gives outputs of the shapes {now}, and gave {shapes[: len(now)]}")


@dataclass
class _Calls:
    """Of one activation module, in a forward pass."""

    name: str
    count: int
    axis: int
    """That holds the units: 1, or the last, -1."""
    units: int
    """Along it."""


def _calls(model: nn.Module, kind: type[nn.Module], probe: Iterable[Any], part: str) -> list[_Calls]:
    """Of each activation of a kind, in the order of their first calls.

    Raises:
        UndyingError: there is none, or it is not known how the units of one lie.
    """
    names = {module: name for name, module in model.named_modules() if type(module) is kind}
    found: dict[str, list[tuple[Tensor, Layout | None]]] = {}
    axes = UnitAxes()

    def called(module: nn.Module, args: tuple[Any, ...]) -> None:
        found.setdefault(names[module], []).append((args[0], axes.of(args[0])))

    handles = [module.register_forward_pre_hook(called) for module in names]
    try:
        with preserve_state(model), torch.no_grad():
            model.train()  # there may be more of it than in eval mode
            args, kwargs, _ = unpacked(moved(next(iter(batches_of(probe))), device_of(model)), None)
            with axes:
                model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise UndyingError(f"{part}: {type(model).__name__} calls no {kind.__name__} module for it to change")
    return [_together(name, calls, part) for name, calls in found.items()]


def _together(name: str, calls: list[tuple[Tensor, Layout | None]], part: str) -> _Calls:
    axes = set.intersection(*(_axes(x, layout) for x, layout in calls))
    x = calls[0][0]
    if not axes:
        raise UndyingError(
            f"{part} cannot change {name!r}: no single axis of its {tuple(x.shape)} input is known to hold the units, in "
            "every call the same"
        )
    axis = min(axes)
    return _Calls(name, len(calls), axis, x.shape[axis])


def _axes(x: Tensor, layout: Layout | None) -> set[int]:
    """Which axes hold the units, and nothing else: the last, as -1, or the one after the samples."""
    if x.dim() == 2:
        return {-1, 1}
    return set() if layout is None else {axis for axis in (-1, 1) if layout.axes[axis] == ((x.shape[axis], 1),)}


def _put(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in every place where another stands."""
    new.train(old.training)
    for parent in list(model.modules()):
        for key, child in list(parent._modules.items()):
            if child is old and parent is not new:
                parent._modules[key] = new
