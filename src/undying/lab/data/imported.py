"""Data from the user's own function."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from undying._base.errors import UndyingError
from undying._base.imports import call
from undying.lab.checkpoints import random_state, restore_random, seed_everything
from undying.lab.data.arrays import count_classes, labels, numbers, samples
from undying.lab.data.dataset import Dataset


def imported(spec: str, targets: str = "classes") -> Dataset:
    """``package.module:function`` called without arguments: (train, test), datasets or loaders; or a ``Dataset``.

    It is called, and they are read once and in order, under a fixed seed: leave random augmentation out of them. The number of classes is
    that of a dataset's ``classes``, else the highest label and one.

    Raises:
        UndyingError: the function is not there or gives something else.
    """
    state = random_state()
    seed_everything(0)
    try:
        given = call(spec, "data")
        if isinstance(given, Dataset):
            return given.checked()
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            kind = type(given).__name__
            raise UndyingError(f"data {spec!r} gives a {kind}, not two datasets or loaders: (train, test)")
        (x_train, y_train), (x_test, y_test) = (
            _read(source, targets, f"data {spec!r}, {part}")
            for source, part in zip(given, ("train", "test"), strict=True)
        )
    finally:
        restore_random(state)
    if targets != "classes":
        return Dataset(spec, x_train, y_train, x_test, y_test, y_train.shape[1], targets=targets).checked()
    names = _classes(given[0])
    number = len(names) or count_classes(y_train, y_test, f"data {spec!r}")
    return Dataset(spec, x_train, y_train, x_test, y_test, number, names).checked()


def _read(source: Any, targets: str, what: str) -> tuple[Tensor, Tensor]:
    x, y = read_pairs(source, what)
    return samples(x, what), (labels(y, what) if targets == "classes" else numbers(y, what))


def read_pairs(source: Any, what: str) -> tuple[Tensor, Tensor]:
    """Samples and targets of all batches of a loader, or of all items of a dataset."""
    if isinstance(source, DataLoader):
        pairs = [(torch.as_tensor(x), torch.as_tensor(y)) for x, y in _pairs(source, what)]
    elif hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        # By index: a class with no __iter__ need not end its own iteration with an IndexError.
        items = _pairs((source[i] for i in range(len(source))), what)
        pairs = [(_tensor(x, what).unsqueeze(0), torch.as_tensor(y).unsqueeze(0)) for x, y in items]
    else:
        raise UndyingError(
            f"{what} is a {type(source).__name__}; a torch Dataset with a length or a DataLoader is needed"
        )
    if not pairs:
        raise UndyingError(f"{what} is empty")
    try:
        x = torch.cat([x for x, _ in pairs])
    except RuntimeError:
        raise UndyingError(f"{what}: samples are of different shapes") from None
    try:
        return x, torch.cat([y for _, y in pairs])
    except RuntimeError:
        raise UndyingError(f"{what}: targets are of different shapes") from None


def _pairs(source: Iterable[Any], what: str) -> Iterable[tuple[Any, Any]]:
    for item in source:
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise UndyingError(f"{what}: an item must be (sample, class number), not a {type(item).__name__}")
        yield item[0], item[1]


def _tensor(x: Any, what: str) -> Tensor:
    """A tensor or an array as it stands; a PIL image as (C, H, W)."""
    if isinstance(x, Tensor):
        return x
    array = torch.from_numpy(np.array(x)) if isinstance(x, np.ndarray) or hasattr(x, "convert") else None
    if array is None:
        raise UndyingError(f"{what}: a sample must be a tensor, an array or an image, not a {type(x).__name__}")
    if isinstance(x, np.ndarray):
        return array
    return array.unsqueeze(0) if array.ndim == 2 else array.permute(2, 0, 1)


def _classes(source: Any) -> tuple[str, ...]:
    dataset = source.dataset if isinstance(source, DataLoader) else source
    names = getattr(dataset, "classes", None)
    return tuple(map(str, names)) if isinstance(names, (tuple, list)) else ()
