"""Forwards in which calls of a function are replaced: what ``functional=True`` installs.

``Replacing`` stands in for the forward of a module that calls, say, ``F.relu``: while it runs, a TorchFunctionMode
sends each such call to a child module. Everything that runs inside is in its reach, so a module whose own calls must
stay what they are (an activation that computes with relu, one that the user skips) runs in ``Passing``.

All are plain objects in the module's ``__dict__``, so they are copied and pickled with it, and torch.compile traces
them. ``nn.DataParallel`` does not know to give its replicas their own: use DistributedDataParallel.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from undying._torch import show_to_compile
from undying.activations.known import TYPE_OF, functional_forms, is_inplace, is_torchs, targets


class _Level(threading.local):
    """How many passing forwards are running. A replacement acts only at the level at which it was entered."""

    def __init__(self) -> None:
        self.value = 0  # in each thread, before torch.compile looks whether it is there


_level = _Level()


class Replacing:
    """Forward of ``owner`` with calls replaced.

    Args:
        owner: the module.
        kind: name of the activation type whose functional forms are replaced.
        child: name of the child of ``owner`` that takes their place.
        hidden: a function called there that torch.compile does not show to modes of itself, as the user knows it; or
            None.
    """

    def __init__(self, owner: nn.Module, kind: str, child: str, hidden: str | None) -> None:
        self.owner, self.kind, self.child, self.hidden = owner, kind, child, hidden
        self.original = vars(owner).get("forward")
        self.compilable = hidden is None or _shown_to_compile(kind)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self.kind not in targets():
            raise RuntimeError(
                f"calls of {self.kind}, an activation that was registered, are replaced in this {type(self.owner).__name__}; "
                "call undying.register_activation with it in this process too, before the network is loaded"
            )
        self.compilable = self.hidden is None or _shown_to_compile(self.kind)  # in this process

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.compilable and torch.compiler.is_compiling():
            raise RuntimeError(
                f"{type(self.owner).__name__} calls {self.hidden}, which cannot be replaced under torch.compile; "
                f"use the module {self.kind}, or a function of torch whose name has no underscore at its end, there"
            )
        with _Replacement(self.owner, self.kind, self.child):
            return _forward(self, args, kwargs)


def _shown_to_compile(kind: str) -> bool:
    """Have torch.compile show the functional forms of this type to modes; it looks into what is not of torch instead."""
    forms = functional_forms(targets()[kind])
    return all(map(is_torchs, forms)) and show_to_compile(forms)


class Passing:
    """Forward of ``owner`` that no replacement around it reaches."""

    def __init__(self, owner: nn.Module) -> None:
        self.owner = owner
        self.original = vars(owner).get("forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        _level.value += 1
        try:
            return _forward(self, args, kwargs)
        finally:
            _level.value -= 1


class AsFunction(Passing):
    """Forward of a module that stands where a function stood: it takes the function's arguments, and overwrites its
    input where the function did."""

    def __call__(self, input: Tensor, *args: Any, inplace: bool = False, **_: Any) -> Any:  # noqa: A002, the function's name
        if inplace or True in args:
            return overwritten(input, super().__call__)
        return super().__call__(input)


class Kept(functools.partial):  # type: ignore[type-arg]
    """A function held as an attribute that stays what it is, in the reach of a replacement."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        _level.value += 1
        try:
            return super().__call__(*args, **kwargs)
        finally:
            _level.value -= 1


def overwritten(x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """x, overwritten with its activation: whoever ignores the result must find it there."""
    # A copy, since the activation may keep what it is given for its backward pass.
    return x.copy_(activation(x.clone()))


def _forward(wrapper: Replacing | Passing, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if wrapper.original is not None:
        return wrapper.original(*args, **kwargs)
    return type(wrapper.owner).forward(wrapper.owner, *args, **kwargs)


class _Replacement(TorchFunctionMode):
    def __init__(self, owner: nn.Module, kind: str, child: str) -> None:
        super().__init__()
        self.owner, self.kind, self.child, self.level = owner, kind, child, _level.value

    def __torch_function__(
        self, func: Callable[..., Any], _: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        kind = TYPE_OF.get(func)
        if kind is None or kind.__name__ != self.kind or _level.value != self.level:
            return func(*args, **kwargs)
        child = getattr(self.owner, self.child)
        x: Tensor = args[0] if args else kwargs["input"]
        return overwritten(x, child) if is_inplace(func, args, kwargs) else child(x)
