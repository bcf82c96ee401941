"""Activation names for timm: ``act_layer="sugar"``."""

from __future__ import annotations

from typing import Any

from timm.layers import create_act

from undying.activations.barelu import BAReLU, barelu
from undying.activations.sugar import SUGAR, sugar


def register() -> None:
    """Enter the names, for layers and for functions. timm has no public call for it."""
    layers: dict[str, Any] = create_act._ACT_LAYER_DEFAULT
    functions: dict[str, Any] = create_act._ACT_FN_DEFAULT
    layers.update({"sugar": SUGAR, "barelu": BAReLU})
    functions.update({"sugar": sugar, "barelu": barelu})
