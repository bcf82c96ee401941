"""Names and hooks for other libraries, one thin file each. Importing undying registers nothing by itself."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

_REGISTRIES = ("transformers", "timm")


def register() -> list[str]:
    """Add ``"sugar"`` and ``"barelu"`` to the activation names of transformers and timm, where they are installed.

    Afterwards a transformers config takes ``hidden_act="sugar"`` and timm takes ``act_layer="sugar"``. torchvision and
    stable-baselines3 take the classes themselves: ``activation_layer=undying.SUGAR``, ``activation_fn=undying.SUGAR``.

    Returns:
        the libraries that know the names now.
    """
    found = [name for name in _REGISTRIES if find_spec(name) is not None]
    for name in found:
        importlib.import_module(f"undying.integrations.{name}").register()
    return found
