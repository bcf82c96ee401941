"""New values for parts of parameters and buffers: gathered first, then written, and taken back if need be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from undying.treat.flow import like

_COPIES = ("ax", "z")
"""Entries of an optimizer's state that are weights themselves: ASGD's average, that of schedule-free optimizers."""


class Edits:
    """By parameter or buffer: which elements change, and to what. All on the CPU."""

    def __init__(self) -> None:
        self._edits: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self._before: list[tuple[Tensor, Tensor, Tensor]] = []

    def __bool__(self) -> bool:
        return bool(self._edits)

    def put(self, target: Tensor, mask: Tensor, values: Tensor) -> None:
        """Change the elements of ``target`` where ``mask`` is true and nothing was put before.

        Args:
            target: parameter or buffer.
            mask: bool, its shape.
            values: its shape.
        """
        if not mask.any():
            return
        if id(target) not in self._edits:
            self._edits[id(target)] = (target, like(target, torch.bool), target.detach().cpu().clone())
        _, have, new = self._edits[id(target)]
        mask = mask & ~have
        new[mask] = values.to(new.dtype)[mask]
        have |= mask

    def mask_of(self, target: Tensor) -> Tensor:
        """bool: what changes of one parameter or buffer."""
        if id(target) in self._edits:
            return self._edits[id(target)][1]
        return like(target, torch.bool)

    def masks(self) -> list[tuple[Tensor, Tensor]]:
        """(parameter or buffer, bool) of everything that changes."""
        return [(target, mask) for target, mask, _ in self._edits.values()]

    @torch.no_grad()
    def write(self) -> None:
        """Change the network."""
        self._before = [(t, mask, t.detach().cpu().clone()) for t, mask, _ in self._edits.values()]
        _write(self._edits.values())

    def undo(self) -> None:
        """Give every element the value that it had before ``write``."""
        _write(self._before)


@torch.no_grad()
def _write(edits: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
    for target, mask, values in edits:
        target[mask.to(target.device)] = values[mask].to(target.device)


def optimizers_in(given: Any) -> list[torch.optim.Optimizer]:
    """One, several or none.

    Raises:
        TypeError: something else.
    """
    listed = [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]
    for optimizer in listed:
        if not (hasattr(optimizer, "param_groups") and hasattr(optimizer, "state")):
            raise TypeError(f"optimizer must be an optimizer, a list of them or None, not {optimizer!r}")
    return listed


def check_held(
    optimizers: list[torch.optim.Optimizer], changed: Iterable[Tensor], name_of: Callable[[Tensor], str]
) -> None:
    """Whether the optimizers hold every parameter that changes and is trained.

    Raises:
        ValueError: one is missing.
    """
    held = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    for tensor in changed if optimizers else ():
        if isinstance(tensor, nn.Parameter) and tensor.requires_grad and id(tensor) not in held:
            raise ValueError(
                f"optimizer does not hold {name_of(tensor)!r}, which would change: give every optimizer of this network, as "
                "a list, or optimizer=None where there is none yet; nothing was changed"
            )


@torch.no_grad()
def reset_state(optimizers: list[torch.optim.Optimizer], changed: Mapping[Tensor, Tensor]) -> None:
    """Set what the optimizers remember of changed elements to what it was at the start; their gradients go too.

    Args:
        optimizers: that hold the parameters.
        changed: bool, on the CPU, by parameter.
    """
    for parameter, mask in changed.items():
        mask = mask.to(parameter.device)
        if parameter.grad is not None and not parameter.grad.is_sparse:
            parameter.grad.masked_fill_(mask, 0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                if any(p is parameter for p in group["params"]):
                    _reset(optimizer.state.get(parameter, {}), parameter, mask, float(group.get("lr", 0.0)))


def _reset(state: Any, parameter: Tensor, mask: Tensor, lr: float) -> None:
    """Every tensor of the parameter's shape, however deep."""
    named = (
        state.items() if isinstance(state, Mapping) else enumerate(state) if isinstance(state, (list, tuple)) else ()
    )
    for key, value in named:
        if isinstance(value, Tensor) and value.shape == parameter.shape and value.dim():
            where = mask.to(value.device)
            if key in _COPIES:
                value.copy_(torch.where(where, parameter.to(value.device, value.dtype), value))
            else:
                value.masked_fill_(where, lr if key == "step_size" else 0)  # Rprop's steps begin at the rate
        elif not isinstance(value, Tensor):
            _reset(value, parameter, mask, lr)
