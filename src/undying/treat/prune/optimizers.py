"""Have optimizers go on with cut parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from undying.treat.prune.recipe import Cut, Slice


class Followed:
    """What optimizers will hold, computed before anything changes.

    Args:
        optimizers: every one of the network.
        cut: of the network.
        name_of: gives the name of a parameter.

    Raises:
        ValueError: one keeps something of a parameter that has no part a row.
    """

    def __init__(self, optimizers: list[torch.optim.Optimizer], cut: Cut, name_of: Callable[[Tensor], str]) -> None:
        self._params: list[tuple[dict[str, Any], list[Any]]] = []
        self._states: list[tuple[Any, Tensor, Tensor, Any]] = []
        slices = {id(s.old): s for s in cut.slices if isinstance(s.old, nn.Parameter)}
        biases = {id(s.module._parameters["weight"]): s for s in cut.slices if s.old is None}
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                held = [slices[id(p)].new if id(p) in slices else p for p in group["params"]]
                held += [biases[id(p)].new for p in group["params"] if id(p) in biases]
                self._params.append((group, held))
                for p in group["params"]:
                    if id(p) in slices and p in optimizer.state:
                        s = slices[id(p)]
                        state = _sliced(optimizer.state[p], s, f"{type(optimizer).__name__} of {name_of(p)!r}")
                        self._states.append((optimizer.state, p, s.new, state))

    def commit(self) -> None:
        """Change the optimizers."""
        for group, held in self._params:
            group["params"][:] = held
        for states, old, new, state in self._states:
            if old in states:  # several may hold one dictionary
                del states[old]
                states[new] = state


def _sliced(value: Any, s: Slice, where: str) -> Any:
    """What is kept of a parameter, however deep, with its part of each tensor."""
    if isinstance(value, Tensor):
        assert s.old is not None
        if value.numel() == 1 and s.old.numel() != 1:
            return value
        fits = value.dim() == s.old.dim() and all(a in (b, 1) for a, b in zip(value.shape, s.old.shape, strict=True))
        if not fits:
            raise ValueError(
                f"{where} keeps a tensor of shape {tuple(value.shape)} for a parameter of shape {tuple(s.old.shape)}: its rows "
                "cannot be told; give optimizer=None, and make a new optimizer afterwards; nothing was changed"
            )
        return s.of(value).clone()
    if isinstance(value, dict):
        copied = copy.copy(value)
        copied.update({key: _sliced(v, s, where) for key, v in value.items()})
        return copied
    return type(value)(_sliced(v, s, where) for v in value) if type(value) in (list, tuple) else value
