"""Look inside what PyTorch wraps around a network."""

from __future__ import annotations

import contextlib

import torch
from torch import nn

from undying._torch import compiler_is_loaded, without_compile


def unwrap_model(model: nn.Module) -> nn.Module:
    """The network inside ``torch.compile`` and DistributedDataParallel, under its own parameter names.

    Raises:
        TypeError: it is in ``nn.DataParallel``, or holds one: replicas come and go within a forward pass.
    """
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


def uncompiled() -> contextlib.AbstractContextManager[None]:
    """While it is active, what ``torch.compile`` has compiled runs as it was written, so that hooks and modes see it."""
    if not compiler_is_loaded():  # nothing is compiled, and importing it takes a second
        return contextlib.nullcontext()
    return torch.compiler.set_stance("force_eager")  # type: ignore[no-any-return]
