"""The default network."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn


def mlp(shape: tuple[int, ...], classes: int, *, depth: int = 6, width: int = 128) -> nn.Module:
    """``depth`` hidden layers of ``width`` units: deep enough that plain ReLU units fall silent."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    features = math.prod(shape)
    for i in range(1, depth + 1):
        layers[f"linear{i}"] = nn.Linear(features, width)
        layers[f"act{i}"] = nn.ReLU()
        features = width
    layers["head"] = nn.Linear(features, classes)
    return nn.Sequential(layers)
