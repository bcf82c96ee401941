"""torch-pruning: what it would cut with given outputs of a layer, and its cutting.

It follows a network by autograd's graph. What it does not know it takes for elementwise, and reshapes it guesses. So it is
asked first, and what it would cut is compared with what the flow says.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from undying._base.extras import need
from undying._base.preserve_state import preserve_state
from undying.treat.prune.layers import NORMS, WEIGHING
from undying.treat.prune.plan import Plan
from undying.units.tensors import tensors_in

Output = tuple[str, int]
"""(name of a layer, number of an output)."""

_ASKED = 16
"""Of how many outputs of a layer it is asked one by one before it is taken to disagree on all."""


class Peer:
    """torch-pruning's graph of a network.

    Args:
        model: a copy that it may cut.
        args, kwargs: of a forward pass.
    """

    def __init__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._pruning = need("torch_pruning", "prune", "undying.prune_")
        self._model, self._args, self._kwargs = model, args, kwargs
        self._names = {module: name for name, module in model.named_modules()}
        self._modules = dict(model.named_modules())
        self._parameters = {id(p): name for name, p in model.named_parameters()}
        self.problem: str | None = None
        """Why there is no graph."""
        frozen = [p for p in model.parameters() if not p.requires_grad]
        try:
            for p in frozen:  # it sees what autograd does
                p.requires_grad_(True)
            self._graph = self._traced()
        except Exception as error:
            self.problem = f"torch-pruning cannot trace the network: {type(error).__name__}: {error}"
        finally:
            for p in frozen:
                p.requires_grad_(False)

    def _traced(self) -> Any:
        with warnings.catch_warnings(), preserve_state(self._model), torch.enable_grad():
            warnings.simplefilter("ignore")  # what it guesses is checked
            return self._pruning.DependencyGraph().build_dependency(
                self._model,
                self._args,
                forward_fn=lambda model, _: model(*self._args, **self._kwargs),
                output_transform=lambda out: [t for t in tensors_in([out]) if t.grad_fn is not None],
                verbose=False,
            )

    def disagreements(self, plan: Plan) -> dict[Output, str]:
        """Outputs with which it would cut something else than the plan does, with the reason."""
        found: dict[Output, str] = {}
        for name, units in plan.roots.items():
            outputs = [(name, int(unit)) for unit in units]
            if self._problem(plan, outputs) is None:
                continue
            each = self._each(plan, outputs)
            # Where each alone is right, and all together are not, none is taken.
            found |= each or dict.fromkeys(outputs, self._problem(plan, outputs) or "")
        return found

    def _each(self, plan: Plan, outputs: list[Output]) -> dict[Output, str]:
        """Of each output alone. It takes long to answer: when it disagreed on all of the first, it is not asked of the rest."""
        first = {output: self._problem(plan, [output]) for output in outputs[:_ASKED]}
        rest = outputs[_ASKED:]
        if all(first.values()):
            return {**first, **dict.fromkeys(rest, f"{first[outputs[0]]}, and so for all that was asked")}  # type: ignore[dict-item]
        every = first | {output: self._problem(plan, [output]) for output in rest}
        return {output: why for output, why in every.items() if why is not None}

    def cut(self, plan: Plan) -> None:
        """Have it cut its copy."""
        gone: dict[str, set[int]] = {}
        for name, units in plan.roots.items():
            before = gone.get(name, set())
            now = [unit - sum(other < unit for other in before) for unit in units.tolist()]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._group(name, now).prune()
            for unit in units.tolist():
                for (layer, side), numbers in plan.parts[name, unit].items():
                    if side == "outputs":
                        gone.setdefault(layer, set()).update(numbers)

    def _group(self, name: str, units: list[int]) -> Any:
        module = self._modules[name]
        return self._graph.get_pruning_group(module, self._graph.get_pruner_of_module(module).prune_out_channels, units)

    def _problem(self, plan: Plan, outputs: list[Output]) -> str | None:
        [name] = {name for name, _ in outputs}
        ours: dict[tuple[str, str], set[int]] = {}
        for output in outputs:
            for key, numbers in plan.parts[output].items():
                ours.setdefault(key, set()).update(numbers)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = self._named(self._group(name, [unit for _, unit in outputs]))
        except Exception as error:
            return f"torch-pruning does not cut {name}: {type(error).__name__}: {error}"
        if isinstance(theirs, str):
            return theirs
        for layer, side in {**ours, **theirs}:
            a, b = ours.get((layer, side), set()), theirs.get((layer, side), set())
            if a != b:
                return f"torch-pruning would cut {side} {_few(b)} of {layer}, and those of the unit are {_few(a)}"
        return None

    def _named(self, group: Any) -> dict[tuple[str, str], set[int]] | str:
        found: dict[tuple[str, str], set[int]] = {}
        for dep, numbers in group:
            target = dep.target.module
            if not numbers:
                continue
            if isinstance(target, Tensor):
                return f"torch-pruning would cut the parameter {self._parameters.get(id(target), 'of a layer')}"
            if type(target).__name__ == "_OutputOp":
                return "torch-pruning would cut an output of the network"
            if target not in self._names:
                continue  # what it calls an operation
            if not isinstance(target, (*WEIGHING, *NORMS)):
                if any(True for _ in target.parameters()):
                    return f"torch-pruning would cut {self._names[target]}, a {type(target).__name__}"
                continue
            pruner = self._graph.get_pruner_of_module(target)
            both = pruner.prune_out_channels == pruner.prune_in_channels
            sides = ["outputs"] if both or dep.handler == pruner.prune_out_channels else ["inputs"]
            for side in [*sides, "inputs"] if both and isinstance(target, WEIGHING) else sides:
                found.setdefault((self._names[target], side), set()).update(numbers)
        return found


def _few(numbers: set[int]) -> str:
    first = ", ".join(map(str, sorted(numbers)[:4]))
    return f"{first}, … ({len(numbers)})" if len(numbers) > 4 else first or "none"
