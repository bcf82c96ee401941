"""A small convolutional network of the kind in BAReLU's tables."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def small_cnn(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Three 3x3 convolutions of 32, 64 and 128 channels, each with max pooling, and one hidden layer of 256 units.

    The source gives accuracies and no layers; these are our choice. Any side from 8 pixels on.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = shape[0]
    for i, width in enumerate((32, 64, 128), 1):
        layers[f"conv{i}"] = nn.Conv2d(channels, width, 3, padding=1)
        layers[f"act{i}"] = nn.ReLU()
        layers[f"pool{i}"] = nn.MaxPool2d(2)
        channels = width
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(128 * max(1, shape[1] // 8) * max(1, shape[2] // 8), 256)
    layers["act4"] = nn.ReLU()
    layers["head"] = nn.Linear(256, classes)
    return nn.Sequential(layers)
