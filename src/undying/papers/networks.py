"""The smallest versions of two networks, on which a smoke test trains the digits."""

from __future__ import annotations

from typing import Any

from torch import nn

from undying.lab.models.conv2next import conv2next
from undying.lab.models.vision import swin


def tiny_conv2next(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Conv2NeXt with a block a stage, of 8 and 16 channels."""
    return conv2next(shape, classes, 0.0, blocks=(1, 1, 1, 1), widths=(8, 16))


def tiny_swin(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Swin with two blocks, of 12 and 24 channels, for 8x8."""
    size: dict[str, Any] = {"patch_size": [2, 2], "window_size": [2, 2]}
    return swin(shape, classes, 0.0, embed_dim=12, depths=[1, 1], num_heads=[1, 2], **size)
