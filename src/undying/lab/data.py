"""Data sets by name: each is four tensors in memory, hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Dataset:
    """Images as uint8 (N, C, H, W), labels as int64 (N,)."""

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample: (C, H, W)."""
        return tuple(self.x_train.shape[1:])

    @cached_property
    def sha256(self) -> str:
        """Of all four tensors."""
        digest = hashlib.sha256()
        for tensor in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def standardised(self) -> tuple[Tensor, Tensor]:
        """(x_train, x_test) in float32, with mean 0 and deviation 1 over all pixels of the training data."""
        train = self.x_train.float()
        mean, deviation = train.mean(), train.std()
        return (train - mean) / deviation, (self.x_test.float() - mean) / deviation


def _digits() -> Dataset:
    """scikit-learn's handwritten digits: 1,437 to train and 360 to test, stratified, always the same split."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    images = pixels.reshape(-1, 1, 8, 8).astype(np.uint8)
    x_train, x_test, y_train, y_test = train_test_split(images, labels, test_size=360, random_state=0, stratify=labels)
    x_train, y_train, x_test, y_test = (torch.from_numpy(a) for a in (x_train, y_train, x_test, y_test))
    return Dataset("digits", x_train, y_train.long(), x_test, y_test.long(), classes=10)


DATA: dict[str, Callable[[], Dataset]] = {"digits": _digits}


@cache
def load(name: str) -> Dataset:
    """The data set called ``name``, one of ``DATA``; loaded once a process."""
    return DATA[name]()
