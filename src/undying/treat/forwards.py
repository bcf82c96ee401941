"""Forwards in which calls of a function are replaced: what ``functional=True`` installs.

``Replacing`` stands in for the forward of a module that calls, say, ``F.relu``: while it runs, a TorchFunctionMode
sends each such call to a child module. Everything that runs inside is in its reach, so a module whose own calls must
stay what they are (an activation that computes with relu, one that the user skips) runs in ``Passing``.

Both are plain objects in the module's ``__dict__``, so they are copied and pickled with it, and torch.compile traces
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from undying.activations.twins import TYPE_OF, is_inplace

# How many Passing forwards are running. A replacement acts only at the level at which it was entered.
_level = 0


class Replacing:
    """Forward of ``owner`` with calls replaced.

    Args:
        owner: the module.
        children: name of a child of ``owner`` by the name of the activation type it replaces (``{"ReLU": ...}``).
    """

    def __init__(self, owner: nn.Module, children: dict[str, str]) -> None:
        self.owner, self.children = owner, children
        self.original = vars(owner).get("forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with _Replacement(self.owner, self.children):
            return _forward(self, args, kwargs)


class Passing:
    """Forward of ``owner`` that no replacement around it reaches."""

    def __init__(self, owner: nn.Module) -> None:
        self.owner = owner
        self.original = vars(owner).get("forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        global _level
        _level += 1
        try:
            return _forward(self, args, kwargs)
        finally:
            _level -= 1


def _forward(wrapper: Replacing | Passing, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if wrapper.original is not None:
        return wrapper.original(*args, **kwargs)
    return type(wrapper.owner).forward(wrapper.owner, *args, **kwargs)


class _Replacement(TorchFunctionMode):
    def __init__(self, owner: nn.Module, children: dict[str, str]) -> None:
        super().__init__()
        self.owner, self.children, self.level = owner, children, _level

    def __torch_function__(
        self, func: Callable[..., Any], _: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        kind = TYPE_OF.get(func)
        if kind is None or kind.__name__ not in self.children or _level != self.level:
            return func(*args, **kwargs)
        child = getattr(self.owner, self.children[kind.__name__])
        x: Tensor = args[0] if args else kwargs["input"]
        if is_inplace(func, args, kwargs):
            # Whoever ignores the result must find it in x; the child may keep what it is given.
            return x.copy_(child(x.clone()))
        return child(x)
