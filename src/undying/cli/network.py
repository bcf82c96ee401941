"""The network that a command is given, with its weights: options that several commands share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from undying._base.errors import UndyingError
from undying.census.batches import batches_of
from undying.lab import models
from undying.lab.models.checkpoint import load_weights
from undying.probe.data import Probe, ProbeOptions, probe


@dataclass(frozen=True)
class NetworkOptions:
    """Which network, and which weights."""

    model: str
    """Network: a name as in compare, torchvision:NAME, timm:NAME, or package.module:function, which returns one."""
    checkpoint: Path | None = None
    """State dict to load: a .safetensors file, or one that torch.save wrote, read with weights_only. Without it the
    network is taken as it is built."""
    checkpoint_key: str = ""
    """Which of several sets of weights in the checkpoint to load, such as state_dict_ema."""
    classes: int = 0
    """Classes of the network; 0: those of the data, for torchvision's and timm's as many as the library gives it."""
    seed: int = 0
    """Seed of random weights and random data."""

    def check(self) -> None:
        """Raises UndyingError for what can be no choice."""
        if not 0 <= self.seed < 2**63:
            raise UndyingError(f"--seed must be at least 0 and below 2**63, not {self.seed}")
        if not 0 <= self.classes < 2**31:
            raise UndyingError(f"--classes must be at least 0 and below 2**31, not {self.classes}")
        if self.checkpoint_key and self.checkpoint is None:
            raise UndyingError("--checkpoint-key names weights of a --checkpoint; give one")

    def build(self, found: Probe) -> tuple[nn.Module, str]:
        """With its weights, and where these are from.

        Raises:
            UndyingError: it cannot be built, or the checkpoint does not fit.
        """
        if self.model not in models.MODELS:
            model = models.load_model(self.model, self.classes)
        elif found.shape is None or not (classes := self.classes or found.classes):
            raise UndyingError(
                f"--model {self.model} is made for a data set; give one as --data, or --classes, or torchvision:NAME"
            )
        else:
            model = models.build(self.model, found.shape, classes)
        if self.checkpoint is None:
            return model, f"as built, seed {self.seed}"
        try:
            taken = load_weights(model, self.checkpoint, self.checkpoint_key)
        except UndyingError as error:
            advice = "; --classes gives the network another number of classes" if "size mismatch" in str(error) else ""
            raise UndyingError(f"{error}{advice}") from None
        return model, f"{self.checkpoint.name}{f', {taken}' if taken else ''}"


class Data:
    """Batches that can be gone through again: read anew each time, since all images need not fit into memory."""

    def __init__(self, options: ProbeOptions, network: NetworkOptions) -> None:
        self._options, self._network = options, network

    def __iter__(self) -> Iterator[Any]:
        torch.manual_seed(self._network.seed)  # of random data
        yield from batches_of(probe(self._options, self._network.model).batches)


def axes_of(given: tuple[str, ...]) -> dict[str, int]:
    """``--axes``: by site, which axis of its input holds the units."""
    axes = {}
    for word in given:
        name, _, axis = word.rpartition("=")
        if not name or not axis.lstrip("-").isdigit():
            raise UndyingError(f"--axes {word!r} must be site=axis, such as act=1")
        axes[name] = int(axis)
    return axes
