"""The data that needs no download."""

from __future__ import annotations

import numpy as np
import torch

from undying.lab.data.dataset import Dataset


def digits() -> Dataset:
    """scikit-learn's handwritten digits: 1,437 to train and 360 to test, stratified, always the same split."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    images = pixels.reshape(-1, 1, 8, 8).astype(np.uint8)
    x_train, x_test, y_train, y_test = train_test_split(images, labels, test_size=360, random_state=0, stratify=labels)
    x_train, y_train, x_test, y_test = (torch.from_numpy(a) for a in (x_train, y_train, x_test, y_test))
    return Dataset("digits", x_train, y_train.long(), x_test, y_test.long(), classes=10)
