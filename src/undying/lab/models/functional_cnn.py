"""A convolutional network as people write it by hand: every activation is a call in its forward."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class FunctionalCNN(nn.Module):
    """Two 3x3 convolutions of 16 and 32 channels, each with max pooling, and a hidden layer of 64 units.

    Args:
        shape: of a sample, (C, H, W), of at least 4 pixels a side.
        classes: number of outputs.
    """

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(shape[0], 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * (shape[1] // 4) * (shape[2] // 4), 64)
        self.fc2 = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, classes)."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        out: Tensor = self.fc2(F.relu(self.fc1(x.flatten(1))))
        return out
