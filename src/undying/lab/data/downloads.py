"""Data sets that torchvision downloads and checks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from undying.errors import UndyingError
from undying.lab.data.dataset import Dataset

_SOURCES = {
    "fashion-mnist": ("FashionMNIST", "FashionMNIST/raw/*-ubyte.gz"),
    "cifar10": ("CIFAR10", "cifar-10-python.tar.gz"),
    "cifar100": ("CIFAR100", "cifar-100-python.tar.gz"),
}
"""Our name -> torchvision's class, and the files of a copy, under the root."""

DOWNLOADS = tuple(_SOURCES)


def default_root() -> Path:
    """Where downloads are kept: the environment's UNDYING_DATA, else a folder of the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("UNDYING_DATA") or Path(cache) / "undying")


def download(name: str, root: Path | None = None) -> Dataset:
    """The data set, from ``root`` if it is there, otherwise downloaded to it. torchvision verifies checksums either way.

    Raises:
        UndyingError: no torchvision, no network, or a file that fails its checksum.
    """
    try:
        from torchvision import datasets
    except ModuleNotFoundError:
        raise UndyingError(f"data {name!r} needs torchvision: pip install 'undying[vision]'") from None
    root = root or default_root()
    kind, files = _SOURCES[name]
    try:
        train, test = (getattr(datasets, kind)(root, train=part, download=True) for part in (True, False))
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong checksum a RuntimeError
        reason = " ".join(str(error).split())
        raise UndyingError(
            f"cannot download {name}: {reason}; without a network put a copy of {files} into {root} "
            "or name another folder with --data-root"
        ) from None
    x, y = zip(*(_tensors(part) for part in (train, test)), strict=True)
    return Dataset(name, x[0], y[0], x[1], y[1], classes=len(train.classes), names=tuple(train.classes))


def _tensors(part: Any) -> tuple[Tensor, Tensor]:
    """torchvision keeps (N, H, W, C) arrays, or (N, H, W) tensors of grey images."""
    x = torch.as_tensor(part.data)
    x = x.permute(0, 3, 1, 2) if x.ndim == 4 else x.unsqueeze(1)
    return x.contiguous(), torch.as_tensor(part.targets).long()
