"""Data sets that torchvision downloads and checks, or a Keras-style copy of them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from undying._base.errors import UndyingError
from undying._base.extras import need
from undying.lab.data.arrays import npz
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

    NAME.npz in ``root`` (x_train, y_train, x_test, y_test) is taken instead. Samples are sorted by their bytes, so that
    every complete copy of the data, whatever its order, gives the same runs.

    Raises:
        UndyingError: no torchvision, no network, or a file that is damaged or fails its checksum.
    """
    root = root or default_root()
    if (copy := root / f"{name}.npz").exists():
        return _sorted(replace(npz(copy), name=name))
    datasets = need("torchvision.datasets", "vision", f"data {name!r}")
    kind, files = _SOURCES[name]
    try:
        train, test = (getattr(datasets, kind)(root, train=part, download=True) for part in (True, False))
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong checksum a RuntimeError
        reason = " ".join(str(error).split())
        raise UndyingError(
            f"cannot download {name}: {reason}; without a network put a copy of {files}, or {copy.name} in the style of Keras, into {root} "
            "or name another folder with --data-root"
        ) from None
    x, y = zip(*(_tensors(part) for part in (train, test)), strict=True)
    return _sorted(Dataset(name, x[0], y[0], x[1], y[1], classes=len(train.classes), names=tuple(train.classes)))


def _sorted(dataset: Dataset) -> Dataset:
    train, test = (_order(x, y) for x, y in ((dataset.x_train, dataset.y_train), (dataset.x_test, dataset.y_test)))
    return replace(
        dataset,
        x_train=dataset.x_train[train],
        y_train=dataset.y_train[train],
        x_test=dataset.x_test[test],
        y_test=dataset.y_test[test],
    )


def _order(x: Tensor, y: Tensor) -> Tensor:
    """Ascending by pixels, then by label."""
    rows = torch.cat([x.flatten(1), y.to(torch.uint8).unsqueeze(1)], 1).numpy()
    return torch.from_numpy(rows.view(f"V{rows.shape[1]}").ravel().argsort(kind="stable"))


def _tensors(part: Any) -> tuple[Tensor, Tensor]:
    """torchvision keeps (N, H, W, C) arrays, or (N, H, W) tensors of grey images."""
    x = torch.as_tensor(part.data)
    x = x.permute(0, 3, 1, 2) if x.ndim == 4 else x.unsqueeze(1)
    return x.contiguous(), torch.as_tensor(part.targets).long()
