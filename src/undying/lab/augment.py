"""Augmentation of whole batches on their device."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from undying.lab.models.vision import library


def flip(x: Tensor, generator: Generator) -> Tensor:
    """Half of the images, drawn at random, left to right."""
    chosen = torch.rand(len(x), generator=generator, device=x.device) < 0.5
    return torch.where(chosen[:, None, None, None], x.flip(-1), x)


def crop(x: Tensor, generator: Generator) -> Tensor:
    """Each image shifted by up to an eighth of its side (4 pixels of 32) each way."""
    count, channels, height, width = x.shape
    down, right = max(1, height // 8), max(1, width // 8)
    padded = F.pad(x, (right, right, down, down))
    rows = _draw(2 * down + 1, count, generator, x) + torch.arange(height, device=x.device)
    columns = _draw(2 * right + 1, count, generator, x) + torch.arange(width, device=x.device)
    samples = torch.arange(count, device=x.device)[:, None, None, None]
    return padded[
        samples, torch.arange(channels, device=x.device)[:, None, None], rows[:, None, :, None], columns[:, None, None]
    ]


def cutout(x: Tensor, generator: Generator) -> Tensor:
    """A square of half the side blanked in each image, around a point drawn over the whole image (DeVries & Taylor 2017)."""
    side = min(x.shape[2:]) // 2
    inside = []
    for length in x.shape[2:]:
        start = _draw(length, len(x), generator, x) - side // 2
        at = torch.arange(length, device=x.device)
        inside.append((at >= start) & (at < start + side))
    return x.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0)


def randaugment(x: Tensor, generator: Generator) -> Tensor:
    """Two operations of magnitude 9 of 30 on each image, drawn from torchvision's 14 (Cubuk et al. 2020,
    arXiv:1909.13719); what comes in from outside is black. ``x``: bytes, of 1 or 3 channels."""
    transform = library("torchvision.transforms.v2").RandAugment()
    seed = torch.randint(2**31, (), generator=generator, device=x.device)
    # It draws from torch's own generator, which must stand where it would without it.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        return torch.stack([transform(image) for image in x])


def _draw(below: int, count: int, generator: Generator, like: Tensor) -> Tensor:
    return torch.randint(below, (count, 1), generator=generator, device=like.device)


ON_BYTES: dict[str, Callable[[Tensor, Generator], Tensor]] = {"randaugment": randaugment}
"""name -> function of images as uint8 (N, C, H, W) and a generator on their device; these come first."""
STANDARDISED: dict[str, Callable[[Tensor, Generator], Tensor]] = {"flip": flip, "crop": crop, "cutout": cutout}
"""The same of normalized images, in which 0 is the mean colour: what is blanked is that."""
AUGMENTATIONS = STANDARDISED | ON_BYTES
