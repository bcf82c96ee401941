"""New values for parts of parameters and buffers: gathered first, then written, and taken back if need be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from undying.treat.flow import like

_COPIES = ("ax", "z", "lookahead_slow_buff", "slow_buffer", "slow_params")
"""Entries of an optimizer's state that are weights themselves: ASGD's average, that of schedule-free optimizers, the slow
weights of Lookahead."""

_FACTORS = ("row_var", "col_var", "exp_avg_sq_row", "exp_avg_sq_col")
"""Entries that are kept by row or column, even where they have the parameter's shape."""


@dataclass
class _Part:
    """Elements of a tensor, with values for them, on the CPU."""

    target: Tensor
    at: Tensor
    """int64: their numbers, as the tensor is flattened."""
    values: Tensor


class Edits:
    """By parameter or buffer: which elements change, and to what."""

    def __init__(self) -> None:
        self._parts: dict[int, _Part] = {}
        self._before: list[_Part] = []

    def put(self, target: Tensor, mask: Tensor, values: Tensor) -> None:
        """Change the elements of ``target`` where ``mask`` is true and nothing was put before.

        Args:
            target: parameter or buffer.
            mask: bool, its shape, on the CPU.
            values: its shape, on the CPU.
        """
        have = self._parts.setdefault(
            id(target), _Part(target, torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=target.dtype))
        )
        at = (mask & ~self.mask_of(target)).flatten().nonzero().flatten()
        have.at = torch.cat([have.at, at])
        have.values = torch.cat([have.values, values.reshape(-1)[at].to(target.dtype)])

    def mask_of(self, target: Tensor) -> Tensor:
        """bool, laid out as ``target``: what of it changes."""
        mask = like(target, torch.bool)
        if id(target) in self._parts:
            mask[_index(self._parts[id(target)].at, target)] = True
        return mask

    @property
    def targets(self) -> list[Tensor]:
        """The parameters and buffers that change."""
        return [part.target for part in self._parts.values() if len(part.at)]

    def write(self) -> None:
        """Change the network."""
        self._before = [_Part(p.target, p.at, values_at(p.target, p.at)) for p in self._parts.values()]
        for part in self._parts.values():
            set_at(part.target, part.at, part.values)

    def undo(self) -> None:
        """Give every element the value that it had before ``write``."""
        for part in self._before:
            set_at(part.target, part.at, part.values)


def changed(edits: Iterable[Edits]) -> Iterator[tuple[Tensor, Tensor]]:
    """(parameter or buffer, int64 on the CPU: the numbers of its elements that any of the edits changed)."""
    found: dict[int, tuple[Tensor, list[Tensor]]] = {}
    for part in (part for one in edits for part in one._parts.values() if len(part.at)):
        found.setdefault(id(part.target), (part.target, []))[1].append(part.at)
    return ((target, torch.cat(parts).unique()) for target, parts in found.values())


def values_at(target: Tensor, at: Tensor) -> Tensor:
    """The elements with the numbers ``at``, on the CPU."""
    return target.detach()[_index(at, target)].cpu()


@torch.no_grad()
def set_at(target: Tensor, at: Tensor, values: Tensor) -> None:
    """Write them, and have an open autocast block forget the copies that it keeps of the old ones."""
    target[_index(at, target)] = values.to(target.device)
    torch.clear_autocast_cache()


def _index(at: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    return torch.unravel_index(at.to(target.device), target.shape)


def optimizers_in(given: Any) -> list[torch.optim.Optimizer]:
    """One, several or none, and those that they hold, as Lookahead does.

    Raises:
        TypeError: something else.
        ValueError: one whose memory has no part that belongs to a unit.
    """
    left = [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]
    for optimizer in left:
        if not _is_optimizer(optimizer):
            raise TypeError(f"optimizer must be an optimizer, a list of them or None, not {optimizer!r}")
    found: dict[int, torch.optim.Optimizer] = {}
    while left:
        optimizer = left.pop(0)
        if id(optimizer) in found:
            continue
        if isinstance(optimizer, torch.optim.LBFGS):
            raise ValueError(
                "LBFGS remembers directions of all weights together, which fit no more once units are recycled: give "
                "optimizer=None, and make a new LBFGS afterwards"
            )
        found[id(optimizer)] = optimizer
        for value in getattr(optimizer, "__dict__", {}).values():
            left += [one for one in (value if isinstance(value, (list, tuple)) else [value]) if _is_optimizer(one)]
    return list(found.values())


def _is_optimizer(value: Any) -> bool:
    return hasattr(value, "param_groups") and hasattr(value, "state")


def check_held(
    optimizers: list[torch.optim.Optimizer], targets: Iterable[Tensor], name_of: Callable[[Tensor], str]
) -> None:
    """Whether the optimizers hold every parameter that changes and is trained.

    Raises:
        ValueError: one is missing.
    """
    held = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    for tensor in targets if optimizers else ():
        if isinstance(tensor, nn.Parameter) and tensor.requires_grad and id(tensor) not in held:
            raise ValueError(
                f"optimizer does not hold {name_of(tensor)!r}, which would change: give every optimizer of this network, as "
                "a list, or optimizer=None where there is none yet; nothing was changed"
            )


@torch.no_grad()
def reset_state(optimizers: list[torch.optim.Optimizer], changes: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Set what the optimizers remember of changed elements to what it was at the start; their gradients go too.

    Args:
        optimizers: that hold the parameters.
        changes: parameters, each with the numbers of its elements that changed.
    """
    for parameter, at in changes:
        mask = torch.zeros(parameter.shape, dtype=torch.bool, device=parameter.device)
        mask[_index(at, parameter)] = True
        if parameter.grad is not None and not parameter.grad.is_sparse:
            parameter.grad.masked_fill_(mask, 0)
        for value, start in remembered(optimizers, parameter):
            where = mask.to(value.device)
            if start is None:
                value.copy_(torch.where(where, parameter.to(value.device, value.dtype), value))
            else:
                value.masked_fill_(where, start)


def remembered(optimizers: Iterable[torch.optim.Optimizer], parameter: Tensor) -> Iterator[tuple[Tensor, float | None]]:
    """(tensor of the parameter's shape in an optimizer's state, what it begins with; None: the weights themselves)."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if any(p is parameter for p in group["params"]):
                yield from _of_its_shape(optimizer.state.get(parameter, {}), parameter, group)


def _of_its_shape(state: Any, parameter: Tensor, group: Mapping[str, Any]) -> Iterator[tuple[Tensor, float | None]]:
    """However deep in the state."""
    named = (
        state.items() if isinstance(state, Mapping) else enumerate(state) if isinstance(state, (list, tuple)) else ()
    )
    for key, value in named:
        if not isinstance(value, Tensor):
            yield from _of_its_shape(value, parameter, group)
        elif value.shape == parameter.shape and value.dim() and key not in _FACTORS:
            # Rprop's steps and Adagrad's sum.
            start = "lr" if key == "step_size" else "initial_accumulator_value" if key == "sum" else ""
            yield value, None if key in _COPIES else float(group.get(start, 0.0))
