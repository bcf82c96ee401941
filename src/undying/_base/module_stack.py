"""Know which module of a network is running."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import Any

import torch
from torch import nn


class Hook:
    """A hook on a module, for the thread that makes it; in copies of the module, pickled ones too, it does nothing."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call, self._thread = call, get_ident()

    def __call__(self, *args: Any) -> Any:
        return self._call(*args) if get_ident() == self._thread else None

    def __reduce__(self) -> tuple[Any, ...]:
        return Hook, (_nothing,)


def _nothing(*_: Any) -> None:
    pass


class ModuleStack:
    """Context manager that follows a network's modules through a forward pass, by hooks that go when it ends.

    Args:
        model: the network.
        left: called with (module, args, output) as each module ends, while ``module`` is still the outer one's.
    """

    def __init__(
        self,
        model: nn.Module,
        left: Callable[[nn.Module, Any, Any], None] | None = None,
    ) -> None:
        self.model, self.left = model, left
        self._names: dict[nn.Module, str] = {}
        self._stack: list[nn.Module] = []
        self._handles: list[Any] = []

    @property
    def module(self) -> nn.Module | None:
        """The innermost module whose forward is running; None outside."""
        return self._stack[-1] if self._stack else None

    @property
    def caller(self) -> nn.Module | None:
        """The module around it; None for the outermost."""
        return self._stack[-2] if len(self._stack) > 1 else None

    def within(self, holds: Callable[[nn.Module], bool]) -> bool:
        """Whether that is so of a module around the innermost one."""
        return any(map(holds, self._stack[:-1]))

    @property
    def name(self) -> str:
        """Its first qualified name; empty for the network itself."""
        return self._names[self._stack[-1]]

    def __enter__(self) -> ModuleStack:
        enter, leave = Hook(self._enter), Hook(self._leave)
        self._names = {module: name for name, module in self.model.named_modules()}
        for module in self._names:
            if isinstance(module, torch.jit.ScriptModule):  # its forward is not Python, and takes no hooks
                continue
            self._handles.append(module.register_forward_pre_hook(enter, prepend=True))
            self._handles.append(module.register_forward_hook(leave, always_call=True))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.clear()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _enter(self, module: nn.Module, _: Any) -> None:
        self._stack.append(module)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        # An exception that was caught on the way leaves inner modules behind.
        while self._stack and self._stack.pop() is not module:
            pass
        if self.left is not None:
            self.left(module, args, output)
