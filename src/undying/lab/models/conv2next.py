"""Conv2NeXt: J. Feng, H. Tan, W. Li, M. Xie, "Conv2NeXt: Reconsidering ConvNeXt Network Design for Image Recognition",
CAIT 2022. Four stages of blocks with one down-sampling, and an attention between the stages."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from undying.lab.models.vision import stochastic_depth

SIZES = {
    "conv2next_narrow": ((1, 1, 2, 1), (16, 32)),
    "conv2next_tiny": ((3, 3, 6, 3), (96, 192)),
    "conv2next_base": ((3, 3, 9, 3), (128, 256)),
    "conv2next_large": ((3, 3, 27, 3), (196, 384)),
}
"""Name -> (blocks a stage, channels of stages 0 and 1 and of stages 2 and 3). The narrow one is ours, for a CPU."""


def conv2next(
    shape: tuple[int, ...], classes: int, drop_path: float, *, blocks: Sequence[int], widths: tuple[int, int]
) -> nn.Module:
    """The network of the given size; drop path grows linearly from 0 to ``drop_path`` over the blocks."""
    first, second = widths
    total = sum(blocks)
    rates = iter([drop_path * i / max(1, total - 1) for i in range(total)])
    stages = [
        nn.Sequential(*(Block(width, next(rates)) for _ in range(count)))
        for count, width in zip(blocks, (first, first, second, second), strict=True)
    ]
    model = nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(nn.Conv2d(shape[0], first, 1), ChannelNorm(first)),
            stage0=stages[0],
            between0=nn.Sequential(ChannelNorm(first), MixSACA(first)),
            stage1=stages[1],
            between1=nn.Sequential(nn.Conv2d(first, second, 2, stride=2), ChannelNorm(second)),
            stage2=stages[2],
            between2=nn.Sequential(ChannelNorm(second), MixSACA(second)),
            stage3=stages[3],
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            norm=nn.LayerNorm(second, eps=1e-6),
            head=nn.Linear(second, classes),
        )
    )
    model.apply(_initialise)
    return model


class Block(nn.Module):
    """u = BN(DW(x)); v = u + gamma * W2 act(W1 u); y = x + DropPath(BN(DW(v)))."""

    def __init__(self, width: int, drop_path: float) -> None:
        super().__init__()
        depthwise = partial(nn.Conv2d, width, width, 3, padding=1, groups=width)
        self.before = nn.Sequential(depthwise(), nn.BatchNorm2d(width))
        self.expand = nn.Conv2d(width, 4 * width, 1)
        self.act = nn.GELU()
        self.contract = nn.Conv2d(4 * width, width, 1)
        self.gamma = nn.Parameter(torch.full((width, 1, 1), 1e-6))
        self.after = nn.Sequential(depthwise(), nn.BatchNorm2d(width))
        self.drop = stochastic_depth(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        u = self.before(x)
        v = u + self.gamma * self.contract(self.act(self.expand(u)))
        y: Tensor = x + self.drop(self.after(v))
        return y


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (N, C, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class MixSACA(nn.Module):
    """Coordinate attention on one half of the channels, spatial attention on the other, then a channel shuffle."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        middle = max(8, half // 2)
        self.squeeze = nn.Sequential(nn.Conv2d(half, middle, 1), nn.BatchNorm2d(middle), nn.Hardswish())
        self.rows = nn.Conv2d(middle, half, 1)
        self.columns = nn.Conv2d(middle, half, 1)
        self.spatial = nn.Conv2d(2, 1, 3, padding=1)
        self.shuffle = nn.ChannelShuffle(half)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        height = x.shape[2]
        # (N, C, H, 1) and (N, C, W, 1) in one, so that both share the squeeze.
        means = torch.cat([a.mean(3, keepdim=True), a.mean(2, keepdim=True).transpose(2, 3)], dim=2)
        rows, columns = self.squeeze(means).split([height, x.shape[3]], dim=2)
        a = a * self.rows(rows).sigmoid() * self.columns(columns.transpose(2, 3)).sigmoid()
        b = b * self.spatial(torch.cat([b.amax(1, keepdim=True), b.mean(1, keepdim=True)], dim=1)).sigmoid()
        y: Tensor = self.shuffle(torch.cat([a, b], dim=1) + x)
        return y


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
