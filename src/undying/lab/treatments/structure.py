"""Parts that change what a network consists of."""

from __future__ import annotations

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
from undying.units.layout import Layout
from undying.units.rules import UnitAxes


@dataclass(frozen=True)
class LayerNorm(Part):
    """A layer norm with weight and bias before each activation, over all units of a sample, as in Lyle et al. 2023,
    arXiv:2303.01486; of tokens over the units of each. For maps that is torch's GroupNorm of one group."""

    name = "layernorm"

    def prepare(self, model: nn.Module, activation: nn.Module, probe: Iterable[Any]) -> list[str]:
        calls = _calls(model, type(activation), probe)
        # All are made before any is put in.
        norms = {name: self._norm(name, seen) for name, seen in calls.items()}
        parameter = next(model.parameters())
        for name, norm in norms.items():
            path, _, key = name.rpartition(".")
            parent = model.get_submodule(path)
            act = parent.get_submodule(key)
            norm = norm.to(parameter.device, parameter.dtype)
            parent._modules[key] = nn.Sequential(OrderedDict(norm=norm, act=act)).train(parent.training)
        return [f"{name}.norm.{tensor}" for name, norm in norms.items() for tensor in norm.state_dict()]

    def _norm(self, name: str, seen: list[tuple[Tensor, Layout | None]]) -> nn.Module:
        if len(seen) != 1:
            raise UndyingError(
                f"{self.name} cannot stand before {name!r}, which is called {len(seen)} times in a forward pass and would "
                "need a norm for each; give each call an activation module of its own"
            )
        [(x, layout)] = seen
        if x.dim() == 2 or (layout is not None and layout.axes[-1] == ((x.shape[-1], 1),)):
            return nn.LayerNorm(x.shape[-1])
        if layout is not None and layout.axes[1] == ((x.shape[1], 1),):
            return nn.GroupNorm(1, x.shape[1])
        raise UndyingError(
            f"{self.name} cannot stand before {name!r}: no single axis of its {tuple(x.shape)} input is known to hold the units"
        )


def _calls(
    model: nn.Module, kind: type[nn.Module], probe: Iterable[Any]
) -> dict[str, list[tuple[Tensor, Layout | None]]]:
    """By name of each activation: the input of each call in a forward pass, and how its units lie."""
    names = {module: name for name, module in model.named_modules() if type(module) is kind}
    calls: dict[str, list[tuple[Tensor, Layout | None]]] = {}
    axes = UnitAxes()

    def called(module: nn.Module, args: tuple[Any, ...]) -> None:
        calls.setdefault(names[module], []).append((args[0], axes.of(args[0])))

    handles = [module.register_forward_pre_hook(called) for module in names]
    try:
        with preserve_state(model), torch.no_grad():
            model.train()  # there may be more of it than in eval mode
            batch = next(iter(batches_of(probe)))
            args, kwargs, _ = unpacked(moved(batch, device_of(model)), None)
            with axes:
                model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    if not calls:
        raise UndyingError(f"{type(model).__name__} calls no {kind.__name__} module for layernorm to stand before")
    return calls
