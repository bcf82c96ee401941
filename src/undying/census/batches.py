"""What a batch of data gives a network: its arguments, the target of the loss, the mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Mask = str | Callable[[Any], Tensor]


def unpacked(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """(args, kwargs, target): a dict is keyword arguments and its own target; of a tuple the first is the input and
    the second the target, and an input that is itself a tuple or a dict is several arguments."""
    if isinstance(batch, Mapping):
        return (), dict(batch), batch
    if not isinstance(batch, (tuple, list)):
        return (batch,), {}, None
    given, target = batch[0], batch[1] if len(batch) > 1 else None
    if isinstance(given, Mapping):
        return (), dict(given), target
    return (tuple(given) if isinstance(given, (tuple, list)) else (given,)), {}, target


def mask_of(batch: Any, mask: Mask | None) -> Tensor | None:
    """bool, true where a position counts.

    Raises:
        ValueError: the batch has no such key, or what is there is no tensor with axes.
    """
    if mask is None:
        return None
    if callable(mask):
        found = mask(batch)
    else:
        _, kwargs, _ = unpacked(batch)
        if mask not in kwargs:
            raise ValueError(f"mask={mask!r}, but the batch has {', '.join(map(repr, kwargs)) or 'no names'}")
        found = kwargs[mask]
    if not isinstance(found, Tensor) or found.dim() == 0:
        raise ValueError(f"mask must give a tensor of shape (N,) or (N, T), not {found!r}")
    return found != 0


def moved(value: Any, device: torch.device | None) -> Any:
    """The batch with its tensors on ``device``."""
    if isinstance(value, Tensor):
        return value if device is None else value.to(device)
    if isinstance(value, Mapping):
        return {key: moved(v, device) for key, v in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(moved(v, device) for v in value))
    if isinstance(value, (tuple, list)):
        return type(value)(moved(v, device) for v in value)
    return value
