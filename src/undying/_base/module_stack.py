"""Know which module of a network is running."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class ModuleStack:
    """Context manager that follows a network's modules through a forward pass, by hooks that go when it ends.

    Args:
        model: the network.
        left: called with (module, args, output) as each module ends, while ``module`` is still the outer one's.
        began: called with the outermost module and the arguments that it is given, as its forward begins.
        ended: called as the outermost forward ends, also by an exception.
    """

    def __init__(
        self,
        model: nn.Module,
        left: Callable[[nn.Module, Any, Any], None] | None = None,
        began: Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None] | None = None,
        ended: Callable[[], None] | None = None,
    ) -> None:
        self.model, self.left, self.began, self.ended = model, left, began, ended
        self._names: dict[nn.Module, str] = {module: name for name, module in model.named_modules()}
        self._stack: list[nn.Module] = []
        self._handles: list[Any] = []

    @property
    def module(self) -> nn.Module | None:
        """The innermost module whose forward is running; None outside."""
        return self._stack[-1] if self._stack else None

    @property
    def name(self) -> str:
        """Its first qualified name; empty for the network itself."""
        return self._names[self._stack[-1]]

    def __enter__(self) -> ModuleStack:
        for module in self._names:
            if isinstance(module, torch.jit.ScriptModule):  # its forward is not Python, and takes no hooks
                continue
            self._handles.append(module.register_forward_pre_hook(self._enter, prepend=True, with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._leave, always_call=True))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.clear()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._stack and self.began is not None:
            self.began(module, args, kwargs)
        self._stack.append(module)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        # An exception that was caught on the way leaves inner modules behind.
        while self._stack and self._stack.pop() is not module:
            pass
        if self.left is not None:
            self.left(module, args, output)
        if not self._stack and self.ended is not None:
            self.ended()
