"""The Triton kernels (triton_kernels.py): imported at the first need, and tried once on every device.

Where Triton is not installed, or does not run, everything works without it.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
from importlib.util import find_spec
from types import ModuleType

import torch

__all__ = ["DEVICES", "library", "missing", "state"]

DEVICES = ("cuda",)
"""The types of the devices that the kernels are made for; those of ROCm are called cuda too."""


def library() -> ModuleType:
    """The module of the kernels.

    Raises:
        RuntimeError: there are no Triton kernels.
    """
    loaded = _load()
    if isinstance(loaded, str):
        raise RuntimeError(f"there are no Triton kernels: {loaded}")
    return loaded


def missing(device: torch.device | None = None) -> str | None:
    """Why there are no Triton kernels, at all or on ``device``, or None if there are."""
    loaded = _load()
    if isinstance(loaded, str):
        return loaded
    return None if device is None else _refusal(device)


def state(*devices: torch.device) -> str:
    """Whether there are Triton kernels, and on which of ``devices``, in words.

    Importing them takes seconds. It is not done where they are for none of the devices, whatever is installed.
    """
    if find_spec("triton") and not _load.cache_info().currsize and "TRITON_INTERPRET" not in os.environ:
        unfit = [why for device in devices if (why := _unfit(device, interpreted=False))]
        if len(unfit) == len(devices):
            return "; ".join(["Triton is installed", *unfit])
    if why := missing():
        return f"missing: {why}"
    kernels = library()
    said = [f"Triton {kernels.VERSION}{', in its interpreter' if kernels.INTERPRETED else ''}"]
    said += [missing(device) or f"they run on {device}" for device in devices]
    return "; ".join(said)


@functools.cache
def _load() -> ModuleType | str:
    try:
        return importlib.import_module("undying.ops.triton_kernels")
    except Exception as error:  # whatever is wrong with an installation of Triton, there are other paths
        return _said(f"they do not import: {type(error).__name__}: {error}")


@functools.cache
def _refusal(device: torch.device) -> str | None:
    """Compiling needs more than Triton: a C compiler, Python's headers, a device that is new enough."""
    kernels = library()
    if why := _unfit(device, kernels.INTERPRETED):
        return why
    try:
        kernels.operator("barelu")(torch.ones(1, device=device), 0.5, 1.0)
    except Exception as error:
        return _said(f"they do not run on {device}: {type(error).__name__}: {error}")
    return None


def _unfit(device: torch.device, interpreted: bool) -> str | None:
    """Why the kernels are not for devices of this type, or None if they are."""
    if device.type in DEVICES or (interpreted and device.type == "cpu"):
        return None
    interpreter = ", where they need TRITON_INTERPRET=1 before their first use" if device.type == "cpu" else ""
    return f"they are not for {device.type}{interpreter}"


def _said(reason: str) -> str:
    logging.getLogger(__name__).debug("no Triton kernels: %s", reason)
    return reason
