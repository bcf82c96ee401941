"""Whether one activation has the forward pass of another."""

from __future__ import annotations

import copy
import inspect

import torch
from torch import Tensor, nn

from undying.activations.barelu import BAReLU
from undying.activations.known import is_torchs, targets, type_of
from undying.activations.sugar import SUGAR
from undying.treat.change import Before
from undying.treat.forwards import Call


def is_relu(module: nn.Module) -> bool:
    """Whether the forward pass is known to be ``torch.relu``, bit for bit."""
    if type(module) is BAReLU:
        return module.alpha == 0 and module.eps == 0
    return type(module) in (nn.ReLU, SUGAR)


def as_module(before: Before) -> nn.Module | None:
    """The module that computes what ``before`` does; None where that takes arguments, which its calls may give."""
    if isinstance(before, nn.Module):
        return before
    kind = targets().get(before.kind) if isinstance(before, Call) else type_of(before)
    return kind() if kind is not None and is_torchs(kind) and not _arguments(kind) else None


def _arguments(kind: type[nn.Module]) -> set[str]:
    """Of a type of activation; nn.Module's own ``*args`` are none."""
    parameters = inspect.signature(kind).parameters.values()
    return {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)} - {"inplace"}


def same_forward(now: nn.Module, then: nn.Module) -> bool:
    """Whether both give the same for every input. What is not known by its type is compared on a grid of numbers, in
    training and in eval mode, and has to be equal there to the last bit of float64."""
    if is_relu(now) and is_relu(then):
        return True
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            return all(torch.equal(*(_on_grid(m, mode) for m in (now, then))) for mode in (True, False))
        except Exception:  # one of somebody's own may take tensors of some shapes, types or devices only
            return False


def _on_grid(module: nn.Module, training: bool) -> Tensor:
    own = copy.deepcopy(module).to("cpu", torch.float64).train(training)
    torch.default_generator.manual_seed(0)  # the CPU's alone, which fork_rng restores
    # The class's: what was put around it on the instance, as hooks, is there before and after.
    y: Tensor = type(own).forward(own, _grid())
    return torch.where(y.isnan(), 1.5e-300, y)  # a number that no activation gives: NaN is not equal to itself


def _grid() -> Tensor:
    """Where activations bend, and every order of magnitude, so that an end of the range shows."""
    near = torch.linspace(-20, 20, 4001, dtype=torch.float64, device="cpu")
    far = torch.logspace(-300, 300, 1201, dtype=torch.float64, device="cpu")
    return torch.cat([near, far, -far, torch.tensor([-0.0, torch.inf, -torch.inf], dtype=far.dtype, device="cpu")])
