"""What can be cut out of a network with nothing else changed, and why the rest cannot."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from undying.treat.flow import Made
from undying.treat.prune.constants import Constants
from undying.treat.prune.follow import CutFlow, Met
from undying.treat.prune.layers import CONVOLUTIONS, WEIGHING, Layer, components, layers_of, ties


@dataclass
class Fold:
    """A constant that a layer is given no more, added where it is computed with."""

    layer: str
    amount: Tensor
    """float64, over the outputs of the layer as it was."""
    norm: str | None = None
    """The batch norm from whose running mean it is taken; None: it goes to the layer's bias."""
    added: bool = False
    """Whether that bias is new."""


@dataclass
class Plan:
    """What goes."""

    units: dict[str, Tensor]
    """bool over units, by site: cut."""
    folded: dict[str, Tensor]
    """The same: of those, who gave something other than 0."""
    refused: dict[str, dict[int, str]]
    """By site and unit: why it stays, of those that are constant."""
    whole: dict[str, int]
    """By layer: of how many outputs, where all could go; one is left."""
    kept: dict[str, tuple[Tensor, Tensor | None]]
    """By layer: bool over outputs, and over inputs; only of layers that change."""
    folds: list[Fold]
    roots: dict[str, Tensor]
    """By layer: int64, outputs with which everything else goes."""
    goes: Tensor
    """bool over ids."""
    parts: dict[tuple[str, int], dict[tuple[str, str], set[int]]] = field(default_factory=dict)
    """By layer and output of ``roots``: what goes with it, as ("conv1", "outputs") -> numbers."""


class Planner:
    """Decides on a flow.

    A unit can go where all that is computed from it, and all that shares a place with it, goes as well, and what weighs
    any of these is given a constant. Its id stands for all of them, since they are tied.

    Args:
        model: the network.
        flow: of the example.
        known: bool over units, by site: who is constant, as a census or a certificate has it.
    """

    def __init__(self, model: nn.Module, flow: CutFlow, known: Mapping[str, Tensor]) -> None:
        self.model, self.flow = model, flow
        self.constants = Constants(flow, known)
        self.layers, problems = layers_of(model, flow)
        self.tied = components(flow.count, ties(self.layers, flow))
        self._calls: dict[int, Layer] = {made.first: layer for layer in self.layers.values() for made in layer.calls}
        self._block = torch.zeros(flow.count, dtype=torch.int64)
        for i, made in enumerate(flow.made):
            self._block[made.first : made.first + made.count] = i
        self._reasons = [""]
        self._why = torch.zeros(flow.count, dtype=torch.int64)
        """Over ids, of which those of ``tied`` count: number of the reason why it stays."""
        self._targets: dict[int, Fold | None] = {}
        for ids, why in [*self._by_structure(), *problems, *flow.beside, *self._read_otherwise()]:
            self._note(ids, why)
        for ids, why in self._by_values():
            self._note(ids, why)

    def refuse(self, outputs: Iterable[tuple[str, int]], why: str) -> None:
        """Leave what goes with these outputs of layers."""
        by_name = {layer.name: layer for layer in self.layers.values()}
        for name, unit in outputs:
            self._note(by_name[name].outputs[0][[unit]], why)

    def plan(self, only: Collection[tuple[str, int]] | None = None) -> Plan:
        """Of all constant units, those that can go.

        Args:
            only: outputs of layers with which they go; default: all.
        """
        whole = self._keep_one_each()
        goes = self._goes()
        if only is not None:
            by_name = {layer.name: layer.outputs[0] for layer in self.layers.values()}
            goes &= torch.isin(self.tied, self.tied[torch.stack([by_name[name][unit] for name, unit in only])])
        flow, same = self.flow, self.constants.same
        plan = Plan({}, {}, {}, whole, {}, [], {}, goes)
        for name, made in flow.sites.items():
            constant = same[made.ids]
            plan.units[name] = constant & goes[made.ids]
            plan.folded[name] = plan.units[name] & ~self.constants.zero[made.ids]
            stay = (constant & ~goes[made.ids]).nonzero().flatten().tolist()
            plan.refused[name] = {u: self._reasons[int(self._why[self.tied[made.first + u]])] for u in stay}
        for layer in self.layers.values():
            out = ~goes[layer.outputs[0]]
            inputs = next((ids for ids in layer.inputs if ids is not None), None)
            into = None if inputs is None else ~goes[inputs]
            if not out.all() or (into is not None and not into.all()):
                plan.kept[layer.name] = out, into
        plan.folds = list(self._folds(goes))
        self._group(plan, goes)
        return plan

    # Why units stay.

    def _note(self, ids: Tensor, why: str) -> None:
        where = self.tied[ids[ids > 0]]
        where = where[self._why[where] == 0]
        if len(where):
            self._reasons.append(why)
            self._why[where] = len(self._reasons) - 1

    def _by_structure(self) -> Iterator[tuple[Tensor, str]]:
        yield from self.flow.reads
        own = dict(self.model.named_modules())
        for made in self.flow.made:
            lost = made.child[made.parent == 0]
            if made.kind == "site":
                yield lost, f"what makes it is not followed: {made.lost or 'another activation'}"
            elif made.kind == "norm" and not len(made.child):
                yield made.ids, f"what {made.where} is given is not followed"
            elif made.kind == "mixing norm":
                yield made.ids, f"{made.where} mixes it with others"
            elif made.kind != "difference":
                yield lost, f"{made.where} takes it with what is not followed"
            module = own.get(made.where.partition("#")[0]) if made.kind == "site" else None
            if module is not None and any(t.numel() > 1 for t in (*module.parameters(), *module.buffers())):
                yield made.ids, f"the activation {made.where} has weights of its own"

    def _read_otherwise(self) -> Iterator[tuple[Tensor, str]]:
        """Groups that torch-pruning does not cut, layers that are given something else too, what no layer makes, and what
        nothing reads."""
        for layer in self.layers.values():
            followed = [torch.zeros(1) if ids is None else ids for ids in layer.inputs]
            if len({tuple((ids == 0).nonzero().flatten().tolist()) for ids in followed}) > 1:
                yield from (
                    (ids, f"{layer.name} is also given what is not followed") for ids in followed if ids.numel() > 1
                )
            groups = layer.module.groups if isinstance(layer.module, CONVOLUTIONS) else 1
            if groups > 1 and not groups == layer.module.out_channels == layer.module.in_channels:
                why = f"{layer.name} is a convolution in {groups} groups, out of which torch-pruning cannot cut"
                yield from ((ids, why) for ids in (*layer.outputs, *layer.inputs) if ids is not None)
        rooted = torch.zeros(self.flow.count, dtype=torch.bool)
        for layer in self.layers.values():
            if isinstance(layer.module, WEIGHING):
                rooted[self.tied[layer.outputs[0]]] = True
        for made in self.flow.made:
            yield made.ids[~rooted[self.tied[made.ids]]], "no linear or convolution layer of torch.nn makes it"
        heard = torch.zeros(self.flow.count, dtype=torch.bool)
        for made in self.flow.made:
            heard[made.parent] = True
        for met in self.flow.met.values():
            if met.inputs is not None:
                heard[met.inputs] = True
        for made in self.flow.made:
            yield made.ids[~heard[made.ids]], "nothing that is followed reads it"

    def _by_values(self) -> Iterator[tuple[Tensor, str]]:
        same, zero = self.constants.same, self.constants.zero
        for made, met in self._readings():
            assert met.inputs is not None
            assert met.low is not None
            assert met.high is not None
            steady = same[met.inputs] & (met.low == met.high)
            for block in self._block[met.inputs[~steady]].unique().tolist():
                other = met.inputs[~steady & (self._block[met.inputs] == block)]
                yield other, f"{self.flow.made[block].where}, which goes with it, gives something to {made.where}"
            loud = steady & ~(zero[met.inputs] & (met.low == 0))
            if not loud.any():
                continue
            if met.padded:
                yield met.inputs[loud], f"its constant is not 0, and {made.where} pads with 0 or is transposed"
                continue
            self._targets[made.first] = target = self._target(made)
            if target is None:
                yield met.inputs[loud], f"its constant is not 0, and {made.where} has no bias to which it can be added"

    def _readings(self) -> Iterator[tuple[Made, Met]]:
        for made in self.flow.made:
            met = self.flow.met.get(made.first)
            if met is not None and met.inputs is not None:
                yield made, met

    # Where constants go.

    def _target(self, made: Made) -> Fold | None:
        """Without an amount."""
        layer = self._calls.get(made.first)
        if layer is None or len(layer.calls) > 1:
            return None
        none = torch.zeros(0)
        if made.bias is not None:
            return Fold(layer.name, none)
        if (norm := self._norm_behind(made)) is not None:
            return Fold(layer.name, none, norm=norm.name)
        if type(layer.module).__module__.startswith("torch.nn.modules."):
            return Fold(layer.name, none, added=True)
        return None

    def _norm_behind(self, made: Made) -> Layer | None:
        """The batch norm that alone reads what a call makes, if its running mean can take a constant."""

        def reads(ids: Tensor | None) -> bool:
            return ids is not None and bool(((ids >= made.first) & (ids < made.first + made.count)).any())

        behind = [other for other in self.flow.made if reads(other.parent)]
        if len(behind) != 1 or behind[0].kind != "norm" or not torch.equal(behind[0].parent, made.ids):
            return None
        if any(reads(ids) for ids, _ in self.flow.reads) or any(reads(met.inputs) for met in self.flow.met.values()):
            return None
        norm = self._calls.get(behind[0].first)
        usable = norm is not None and len(norm.calls) == 1 and norm.module._buffers.get("running_mean") is not None
        return norm if usable else None

    def _folds(self, goes: Tensor) -> Iterator[Fold]:
        for made, met in self._readings():
            assert met.inputs is not None
            assert met.low is not None
            given = torch.where(goes[met.inputs], met.low.double(), 0)
            target = self._targets.get(made.first)
            if target is None or not given.any():
                continue
            weight = made.slots[0].given.cpu().double()
            weight = weight.flatten(2).sum(2) if weight.dim() > 2 else weight
            yield replace(target, amount=met.by_row(weight * given[met.columns], made.count))

    # What goes together.

    def _goes(self) -> Tensor:
        """bool over ids."""
        asked = torch.zeros(self.flow.count, dtype=torch.bool)
        for made in self.flow.sites.values():
            asked[self.tied[made.ids[self.constants.same[made.ids]]]] = True
        goes = asked & (self._why == 0)
        goes[0] = False
        return goes[self.tied]

    def _keep_one_each(self) -> dict[str, int]:
        """By layer: of how many outputs, where all could go; its first one stays."""
        whole: dict[str, int] = {}
        while True:
            goes = self._goes()
            for layer in self.layers.values():
                ids = layer.outputs[0]
                if goes[ids].all():
                    if isinstance(layer.module, WEIGHING):
                        whole[layer.name] = len(ids)
                    self._note(ids[:1], f"all units of {layer.name} could go: one is left")
                    break
                read = next((ids for ids in layer.inputs if ids is not None), None)
                if read is not None and goes[read].all():
                    self._note(read[:1], f"all inputs of {layer.name} could go: one is left")
                    break
            else:
                return whole

    def _group(self, plan: Plan, goes: Tensor) -> None:
        """Name what goes with what, by a layer that makes it."""
        root: dict[int, tuple[str, int]] = {}
        taken: dict[str, list[int]] = {}
        for layer in self.layers.values():
            if not isinstance(layer.module, WEIGHING):
                continue
            for unit in goes[layer.outputs[0]].nonzero().flatten().tolist():
                key = int(self.tied[layer.outputs[0][unit]])
                if key not in root:
                    root[key] = layer.name, unit
                    taken.setdefault(layer.name, []).append(unit)
        for layer in self.layers.values():
            sides = [("outputs", layer.outputs[0])]
            sides += [("inputs", ids) for ids in layer.inputs if ids is not None]
            for side, ids in sides:
                for number in goes[ids].nonzero().flatten().tolist():
                    together = plan.parts.setdefault(root[int(self.tied[ids[number]])], {})
                    together.setdefault((layer.name, side), set()).add(number)
        plan.roots = {name: torch.tensor(units) for name, units in taken.items()}
