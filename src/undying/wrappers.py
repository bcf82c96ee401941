"""Look inside what PyTorch wraps around a network."""

from __future__ import annotations

from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside ``torch.compile`` and DistributedDataParallel, under its own parameter names.

    Raises:
        TypeError: it is in ``nn.DataParallel``, or holds one: replicas come and go within a forward pass.
    """
    while True:
        if hasattr(model, "_orig_mod"):
            model = model._orig_mod  # type: ignore[assignment]
        elif isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            break
    for name, module in model.named_modules():
        if isinstance(module, nn.DataParallel):
            where = f"{name!r} is" if name else "the model is"
            raise TypeError(f"{where} in nn.DataParallel; give its .module, or use DistributedDataParallel")
    return model
