"""Activation names for transformers configs: ``hidden_act="sugar"``."""

from __future__ import annotations

from transformers.activations import ACT2FN

from undying.activations.barelu import BAReLU
from undying.activations.sugar import SUGAR


def register() -> None:
    """Enter the names; each layer gets a module of its own."""
    ACT2FN.update({"sugar": SUGAR, "barelu": BAReLU})
