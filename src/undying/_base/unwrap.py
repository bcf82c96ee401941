"""Look inside what PyTorch wraps around a network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from undying._torch import compiler_is_loaded, is_compiled_in_place, without_compile


def check_module(model: Any) -> None:
    """Raises TypeError for what is no network, such as an agent that holds one."""
    if isinstance(model, nn.Module):
        return
    held = [f".{name}" for name, value in getattr(model, "__dict__", {}).items() if isinstance(value, nn.Module)]
    way_out = f"; give what it holds: {', '.join(held)}" if held else ""
    raise TypeError(f"model must be an nn.Module, not {type(model).__name__}{way_out}")


def unwrap_model(model: nn.Module) -> nn.Module:
    """The network inside ``torch.compile`` and DistributedDataParallel, under its own parameter names.

    Raises:
        TypeError: it is no network; or it is in ``nn.DataParallel``, or holds one: replicas come and go within a forward
            pass.
    """
    check_module(model)
    while True:
        if (inside := without_compile(model)) is not model:
            model = inside
        elif isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            break
    for name, module in model.named_modules():
        if isinstance(module, nn.DataParallel):
            where = f"{name!r} is" if name else "the model is"
            raise TypeError(f"{where} in nn.DataParallel; give its .module, or use DistributedDataParallel")
    return model


def is_compiled(model: nn.Module) -> bool:
    """Whether calls of it, or of the network in DistributedDataParallel, are compiled."""
    within = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    return any(without_compile(m) is not m or is_compiled_in_place(m) for m in (model, within))


class _Uncompiled:
    """How many ask for it, and the compiler's stance while any does."""

    def __init__(self) -> None:
        self.asked = 0
        self.stance: Any = None

    def apply(self) -> None:
        # Where the compiler is not loaded nothing is compiled, and importing it takes a second.
        if self.asked and self.stance is None and compiler_is_loaded():
            self.stance = torch.compiler.set_stance("force_eager")
            self.stance.__enter__()

    def release(self) -> None:
        self.asked -= 1
        if not self.asked and self.stance is not None:
            self.stance.__exit__(None, None, None)
            self.stance = None


_uncompiled = _Uncompiled()


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """While it is active, what ``torch.compile`` has compiled runs as it was written, so that hooks and modes see it.

    Several may be active and end in any order; compiled code is on again after the last.
    """
    _uncompiled.asked += 1
    try:
        _uncompiled.apply()
        yield
    finally:
        _uncompiled.release()


def stay_uncompiled() -> None:
    """Have :func:`uncompiled`, where it is active, heed a compiler that was loaded after it began."""
    _uncompiled.apply()
