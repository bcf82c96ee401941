"""Run a network and leave it as it was."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import torch
from torch import nn


def device_of(model: nn.Module) -> torch.device | None:
    """The device of the first parameter; None without parameters."""
    parameter = next(model.parameters(), None)
    return None if parameter is None else parameter.device


@contextlib.contextmanager
def preserve_state(model: nn.Module) -> Iterator[None]:
    """Afterwards restore training flags, buffers, and Python's and torch's random number generators."""
    training = {module: module.training for module in model.modules()}
    buffers = [(m, name, b, b.clone()) for m in model.modules() for name, b in m._buffers.items() if b is not None]
    state = random.getstate()
    device = device_of(model)
    devices = [] if device is None or device.type in ("cpu", "meta") else [device]
    try:
        with torch.random.fork_rng(devices, device_type=devices[0].type if devices else "cuda"):
            yield
    finally:
        random.setstate(state)
        for module, flag in training.items():
            module.training = flag
        with torch.no_grad():
            for module, name, buffer, saved in buffers:
                buffer.copy_(saved)
                module._buffers[name] = buffer
