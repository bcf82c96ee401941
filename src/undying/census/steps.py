"""Follow the steps of an optimizer, of one inside a wrapper, or of several that step in turn."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer

Optimizers = Optimizer | Iterable[Optimizer] | Mapping[Any, Optimizer]


class Follower(Protocol):
    """Who is told of steps."""

    def begins(self) -> None:
        """The first optimizer's step begins."""

    def given(self, optimizer: Optimizer) -> None:
        """An optimizer has its gradients."""

    def ends(self) -> None:
        """Every optimizer has stepped."""


class Steps:
    """Hooks on optimizers. A step ends when each of them has stepped; a step within another is part of it.

    An optimizer's step is that of itself or of what it wraps: SAM steps by ``step`` or by two methods of its own, of
    which the last steps the optimizer inside.

    Args:
        optimizers: one, or several.
        follower: who is told.

    Raises:
        TypeError: torch's hooks can be put neither on one of them nor on anything that it wraps.
    """

    def __init__(self, optimizers: Optimizers, follower: Follower) -> None:
        self._follower = follower
        self._handles: list[Any] = []
        self._seen: list[Any] = []
        self._under_way: list[Optimizer] = []
        self._groups: list[list[Any]] = []
        self.wrappers: list[str] = []
        """Types that are passed over for what is inside, and may change parameters themselves. accelerate's does not."""
        for each in _several(optimizers):
            groups = self._hooked(each)
            if not groups and not any(each is known for group in self._groups for known in group):
                self.remove()
                raise TypeError(
                    f"watch cannot follow the steps of {each!r:.200}: torch's hooks fit neither it nor an optimizer in it; "
                    "leave optimizer out and call watching.step() after each step"
                )
            self._groups += groups
        self._waiting = list(self._groups)

    def remove(self) -> None:
        """Take every hook off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _hooked(self, optimizer: Any) -> list[list[Any]]:
        """Groups of optimizers that now have hooks, of each of which one steps in a step."""
        if any(optimizer is known for known in self._seen):
            return []
        self._seen.append(optimizer)
        within = [group for inner in _inside(optimizer) for group in self._hooked(inner)]
        if self._hook(optimizer):
            return [[optimizer, *itertools.chain(*within)]]
        if within and not type(optimizer).__module__.startswith("accelerate."):
            self.wrappers.append(type(optimizer).__name__)
        return within

    def _hook(self, optimizer: Any) -> bool:
        if not isinstance(optimizer, Optimizer):
            return False
        try:
            # Not for Dynamo to trace, where the step is compiled.
            before, after = torch.compiler.disable(self._before), torch.compiler.disable(self._after)
            self._handles.append(optimizer.register_step_pre_hook(before))
            self._handles.append(optimizer.register_step_post_hook(after))
        except AttributeError:  # a wrapper that never called Optimizer.__init__
            return False
        return True

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if optimizer in self._under_way:  # that step ended by an exception
            del self._under_way[self._under_way.index(optimizer) :]
        self._under_way.append(optimizer)
        if len(self._under_way) == 1 and len(self._waiting) == len(self._groups):
            self._follower.begins()
        if not _has_closure(args, kwargs):
            self._follower.given(optimizer)

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if optimizer not in self._under_way:
            return
        del self._under_way[self._under_way.index(optimizer) :]
        if _has_closure(args, kwargs):  # which computed the gradients
            self._follower.given(optimizer)
        if self._under_way:
            return
        self._waiting = [group for group in self._waiting if not any(optimizer is each for each in group)]
        if not self._waiting:
            self._waiting = list(self._groups)
            self._follower.ends()


def _several(optimizers: Any) -> list[Any]:
    if isinstance(optimizers, Mapping):
        optimizers = list(optimizers.values())
    if not isinstance(optimizers, (list, tuple)):
        return [optimizers]
    if not optimizers:
        raise TypeError("no optimizer to follow; leave optimizer out and call watching.step() after each step")
    return list(optimizers)


def _inside(optimizer: Any) -> Iterator[Any]:
    """What an optimizer may wrap: what it holds that is one, or is called so."""
    for name, value in getattr(optimizer, "__dict__", {}).items():
        if isinstance(value, nn.Module):
            continue
        held = (
            list(value.values()) if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
        )
        for each in held:
            if isinstance(each, Optimizer) or ("optim" in name and hasattr(each, "step")):
                yield each


def _has_closure(args: Any, kwargs: Any) -> bool:
    # The first argument is the optimizer.
    return (args[1] if len(args) > 1 else kwargs.get("closure")) is not None
