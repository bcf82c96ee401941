"""The layers of a network that can be cut: those of torch.nn whose weights have a row an output."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from undying.treat.flow import Made
from undying.treat.prune.follow import CutFlow

TURNED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TURNED)
WEIGHING = (nn.Linear, *CONVOLUTIONS)
NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)


@dataclass
class Layer:
    """A module with the units that its calls make and weigh."""

    name: str
    module: nn.Module
    calls: list[Made] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    """int64, a call: the id of each output."""
    inputs: list[Tensor | None] = field(default_factory=list)
    """The same of inputs; None for a norm, and where they are not followed."""


def axes_of(module: nn.Module) -> dict[str, tuple[int | None, int | None]]:
    """For each tensor of a layer by its name: the axes that hold its outputs and its inputs."""
    if isinstance(module, WEIGHING):
        into = 0 if isinstance(module, TURNED) else 1
        weight: tuple[int | None, int | None] = (1 - into, into)
        if isinstance(module, CONVOLUTIONS) and module.groups > 1:
            # Whole groups go: of the axis that goes through them all, and of no other.
            weight = (0, None) if into else (None, 0)
        return {"weight": weight, "bias": (0, None)}
    return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (0, None))


def layers_of(model: nn.Module, flow: CutFlow) -> tuple[dict[nn.Module, Layer], list[tuple[Tensor, str]]]:
    """(the layers by module; (ids, why) of what is made or weighed by something that cannot be cut)."""
    names = {module: name for name, module in model.named_modules()}
    owners: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in names:
        for key, parameter in module._parameters.items():
            owners.setdefault(id(parameter), []).append((module, key))
    layers: dict[nn.Module, Layer] = {}
    problems: list[tuple[Tensor, str]] = []
    for made in flow.made:
        if not made.slots and not made.running:
            continue
        met = flow.met.get(made.first)
        inputs = None if met is None else met.inputs
        found = _module_of(made, owners, flow)
        if isinstance(found, str):
            problems += [(ids, found) for ids in (made.ids, inputs) if ids is not None]
            continue
        layer = layers.setdefault(found, Layer(names[found], found))
        layer.calls.append(made)
        layer.outputs.append(made.ids)
        layer.inputs.append(inputs)
    return layers, problems


def _module_of(made: Made, owners: dict[int, list[tuple[nn.Module, str]]], flow: CutFlow) -> nn.Module | str:
    """The layer whose tensors a call was given as they are; else why there is none."""
    if made.kind == "mixing norm":
        return f"{made.where} mixes it with others"
    holders = {module for module, _, _ in made.running}
    for slot in made.slots:
        p = slot.parameter
        if p is None:
            return f"a parameter of {made.where} is computed (parametrized, standardized), or shares its memory with another"
        if p in flow.parameter_reads:
            return f"a parameter of {made.where} is also read by {flow.parameter_reads[p]}"
        own = owners[id(p)]
        if len(own) > 1:
            return f"a parameter of {made.where} is held by several modules"
        [(module, key)] = own
        if key != ("bias" if slot.is_bias else "weight") or slot.given.shape != p.shape:
            return f"{made.where} is given a part of a parameter, or one that is no weight of a layer"
        if slot.given.stride() != p.stride():
            return f"{made.where} is given a parameter in another layout"
        holders.add(module)
    if len(holders) > 1:
        return f"{made.where} takes its parameters from several modules"
    [module] = holders
    known = WEIGHING if made.kind == "weighted" else NORMS
    if not isinstance(module, known):
        return f"{made.where} is no linear, convolution or batch norm layer of torch.nn"
    bias = module._parameters.get("bias")
    if bias is not None and all(slot.parameter is not bias for slot in made.slots):
        return f"{made.where} does not use its bias"
    return module


def ties(layers: dict[nn.Module, Layer], flow: CutFlow) -> list[tuple[Tensor, Tensor]]:
    """Pairs of ids that go together or stay together: of which one is computed from the other, which are made or weighed
    by the same element of a weight in several calls, and which are in one group of a convolution."""
    pairs = [(made.child, made.parent) for made in flow.made if len(made.child)]
    for layer in layers.values():
        pairs += [(layer.outputs[0], other) for other in layer.outputs[1:]]
        followed = [ids for ids in layer.inputs if ids is not None]
        pairs += [(followed[0], other) for other in followed[1:]]
        for made, inputs in zip(layer.calls, layer.inputs, strict=True):
            met = flow.met.get(made.first)
            if met is not None and met.groups > 1 and inputs is not None:
                rows, columns = torch.broadcast_tensors(met.rows, met.columns)
                pairs.append((made.first + rows.flatten(), inputs[columns.flatten()]))
    return pairs


def components(count: int, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """int64 over ids: the smallest id that each is tied to; 0 is tied to none."""
    label = torch.arange(count)
    if not pairs:
        return label
    a, b = (torch.cat([pair[i] for pair in pairs]) for i in (0, 1))
    both = (a > 0) & (b > 0)
    a, b = a[both], b[both]
    while True:
        low = torch.minimum(label[a], label[b])
        new = label.scatter_reduce(0, torch.cat([a, b]), torch.cat([low, low]), "amin")
        new = new[new]
        if torch.equal(new, label):
            return label
        label = new
