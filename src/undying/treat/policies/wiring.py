"""What makes and what weighs each unit of a network, found once, so that units can be recycled while it trains."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from undying.treat.flow import Flow, Made, Slot, few, like
from undying.treat.policies.parts import Part, shortest
from undying.treat.probe import Seen
from undying.treat.reach import Reach
from undying.units.layout import Layout

_TORCHS = (nn.Linear.reset_parameters, nn.Conv2d.reset_parameters)
"""Of linear and of all convolutions; these draw each weight and bias from U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""


@dataclass
class Maker:
    """A part of what makes units: rows of a weight or bias, of a norm, or of its running statistics."""

    part: Part
    start: float | None
    """What it begins with; None: it is drawn."""
    bound: float = 0.0
    """Drawn from U(-bound, bound), as torch's layers do ..."""
    owner: tuple[nn.Module, str] | None = None
    """... or as this layer's own ``reset_parameters`` draws the parameter of this name."""
    is_bias: bool = False
    deviation: float = 0.0
    """sqrt(2 / fan_in)."""


@dataclass
class Reader:
    """What a call weighs units with, and where it can be given what they say on average."""

    part: Part
    rows: Tensor
    """int64, laid out as the parameter, but of length 1 where it does not vary: the unit of the call that each element is a
    part of."""
    count: int
    """Units that the call makes."""
    into: tuple[Slot, Tensor] | tuple[nn.Module, str] | None
    """Its bias, with the unit of each element, or the running mean of a norm behind it; None: no place."""
    share: float
    """1, but for a transposed convolution, whose outputs each see part of the inputs."""


@dataclass
class Site:
    """An activation whose units can be recycled."""

    name: str
    kind: type[nn.Module]
    units: int
    layout: Layout
    able: Tensor
    """bool over units: which can be."""
    makers: list[Maker] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)

    @property
    def parts(self) -> Iterator[Part]:
        """What makes the units, and what weighs them."""
        yield from (maker.part for maker in self.makers)
        yield from (reader.part for reader in self.readers)

    @property
    def targets(self) -> Iterator[Tensor]:
        """The parameters and buffers that recycling changes."""
        yield from (maker.part.target for maker in self.makers)
        for reader in self.readers:
            yield reader.part.target
            if isinstance(reader.into, tuple) and isinstance(reader.into[0], Slot):
                assert reader.into[0].parameter is not None
                yield reader.into[0].parameter

    @property
    def moved(self) -> Iterator[Tensor]:
        """The running means that it may change too."""
        for reader in self.readers:
            if isinstance(reader.into, tuple) and isinstance(reader.into[0], nn.Module):
                assert isinstance(reader.into[1], str)
                yield reader.into[0].get_buffer(reader.into[1])

    def outgoing(self) -> Tensor:
        """float64, over units: sum of the absolute values of the weights that each is weighed with."""
        sizes = [reader.part.sizes() for reader in self.readers]
        return torch.stack(sizes).sum(0) if len(sizes) > 1 else sizes[0]


def wire(model: nn.Module, seen: Seen) -> tuple[dict[str, Site], dict[str, str]]:
    """(the sites of which units can be recycled; by site: why some or all of its units cannot).

    Args:
        model: the network.
        seen: what one run showed.
    """
    flow = seen.flow
    assert flow is not None
    reach = Reach(flow, keep=False)
    refused, makers = reach.alone()
    notes = {
        name: "; ".join(f"{n} of {flow.sites[name].count} units: {why}" for why, n in Counter(reasons.values()).items())
        for name, reasons in refused.items()
        if reasons
    }
    sites = {}
    for name, made in flow.sites.items():
        able = torch.ones(made.count, dtype=torch.bool)
        able[[*refused[name]]] = False
        if able.any():
            site = Site(name, seen.types[name], made.count, flow.layouts[name], able)
            site.makers += _makers(model, flow, made.count, *makers[name])
            site.readers += _readers(reach, made, able)
            sites[name] = site
    return sites, notes


def is_frozen(target: Tensor) -> bool:
    """Whether it is a parameter that is not trained; a buffer is none."""
    return isinstance(target, nn.Parameter) and not target.requires_grad


def _whole(slot: Slot, unit: Tensor) -> Tensor:
    """``unit``, of the elements that a call was given, laid out as the whole parameter; -1 elsewhere."""
    assert slot.parameter is not None
    whole = like(slot.parameter, torch.int64).fill_(-1)
    slot.on(whole).copy_(unit.expand(slot.given.shape))
    return whole


def _makers(model: nn.Module, flow: Flow, units: int, unit: Tensor, at: Tensor) -> Iterator[Maker]:
    of = torch.full((flow.count,), -1)
    of[at] = unit
    changed = of >= 0
    for made in flow.made:
        if made.kind != "site":
            changed[made.child[changed[made.parent]]] = True
        own = of[made.ids]
        if not (own >= 0).any():
            continue
        for slot in made.slots:
            if slot.parameter is not None:
                yield _maker(model, made, slot, Part(slot.parameter, _whole(slot, of[few(slot.rows)]), units))
        behind = torch.zeros(made.count, dtype=torch.bool)
        behind[made.child[changed[made.parent]] - made.first] = True
        for module, name, start in made.running:
            if (behind & (own >= 0)).any():
                yield Maker(Part(module.get_buffer(name), torch.where(behind, own, -1), units), start)


def _maker(model: nn.Module, made: Made, slot: Slot, part: Part) -> Maker:
    if made.kind != "weighted":
        return Maker(part, 0.0 if slot.is_bias else 1.0)
    fan_in = next(s.given.numel() for s in made.slots if not s.is_bias) / made.count
    found = Maker(part, None, 1 / math.sqrt(fan_in), is_bias=slot.is_bias, deviation=math.sqrt(2 / fan_in))
    for owner in model.modules():
        for key, parameter in owner._parameters.items():
            reset = getattr(type(owner), "reset_parameters", None)
            if parameter is None or parameter is not slot.parameter or reset is None or owner._modules:
                continue
            if reset not in _TORCHS:
                found.owner = owner, key
            elif isinstance(weight := owner.weight, Tensor):  # a transposed convolution's is the other way round
                found.bound = 1 / math.sqrt(weight.shape[1] * weight[0, 0].numel())
            return found
    return found


def _readers(reach: Reach, site: Made, able: Tensor) -> Iterator[Reader]:
    for made in reach.flow.made:
        if made.reading is None or (parameter := made.reading.weight.parameter) is None:
            continue
        weight, columns = made.reading.weight, few(made.reading.columns)
        origin = reach.origin[columns] - site.first
        unit = torch.where((origin >= 0) & (origin < site.count), origin, -1)
        unit = torch.where(able[unit] & (unit >= 0), unit, -1)
        if not (unit >= 0).any():
            continue
        rows = shortest(_whole(weight, few(weight.rows) - made.first))
        # What is behind a norm or scale has another mean than the site.
        into = reach.shifted(made) if bool((origin + site.first == columns)[unit >= 0].all()) else None
        if isinstance(into, Slot) and into.parameter is not None and is_frozen(into.parameter):
            into = None
        moved = (into, into.rows - made.first) if isinstance(into, Slot) else into
        yield Reader(Part(parameter, _whole(weight, unit), site.count), rows, made.count, moved, made.reading.share)
