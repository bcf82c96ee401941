"""Arrays and tensors as people keep them, and Keras-style .npz files of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undying._base.errors import UndyingError
from undying.lab.data.dataset import Dataset

_KEYS = ("x_train", "y_train", "x_test", "y_test")
_CHANNELS = (1, 3, 4)


def npz(path: Path, targets: str = "classes") -> Dataset:
    """x_train, y_train, x_test, y_test and, optionally, classes: their names or their number.

    Raises:
        UndyingError: the file is missing, damaged or holds something else.
    """
    arrays = {}
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            missing = [key for key in _KEYS if key not in file]
            if missing:
                raise UndyingError(f"{path} holds no {', '.join(missing)}; it has {', '.join(file.files) or 'nothing'}")
            for key in (*_KEYS, "classes"):
                if key in file:
                    arrays[key] = file[key]
    except FileNotFoundError:
        raise UndyingError(f"there is no {path}") from None
    except UndyingError:
        raise
    except Exception as error:  # by what is damaged; MemoryError for a header that asks for too much
        raise UndyingError(
            f"{path} cannot be read as an .npz of arrays, it is damaged or something else: {error}"
        ) from None
    x_train, x_test = (_samples(arrays[key], f"{path}: {key}") for key in ("x_train", "x_test"))
    if targets != "classes":
        y_train, y_test = (numbers(arrays[key], f"{path}: {key}") for key in ("y_train", "y_test"))
        return Dataset(path.stem, x_train, y_train, x_test, y_test, y_train.shape[1], targets=targets).checked()
    y_train, y_test = (labels(arrays[key], f"{path}: {key}") for key in ("y_train", "y_test"))
    given = arrays.get("classes")
    names = () if given is None or given.ndim == 0 else tuple(str(name) for name in given)
    number = len(names) or (count_classes(y_train, y_test, str(path)) if given is None else int(given))
    return Dataset(path.stem, x_train, y_train, x_test, y_test, number, names).checked()


def count_classes(y_train: Tensor, y_test: Tensor, what: str) -> int:
    """The highest label and one, where nobody says how many classes there are.

    Raises:
        UndyingError: a class below has no training sample: labels that begin at 1, or a label that marks what to ignore.
    """
    if not len(y_train) or not len(y_test) or int(y_train.min()) < 0:
        return int(max((int(y.max()) for y in (y_train, y_test) if len(y)), default=-1)) + 1  # told of by checked()
    seen = torch.bincount(y_train)
    number = max(len(seen), int(y_test.max()) + 1)
    empty = [label for label in range(number) if label >= len(seen) or seen[label] == 0]
    if empty:
        raise UndyingError(
            f"{what}: labels go from {int(y_train.min())} to {number - 1}, and class {empty[0]} has no training sample"
            f"{f', nor have {len(empty) - 1} others' if len(empty) > 1 else ''}; number the classes from 0, leave out "
            "labels that mean 'ignore', or name the classes"
        )
    return number


def _samples(array: np.ndarray[Any, Any], what: str) -> Tensor:
    """(N, C, H, W) from (N, H, W) or (N, H, W, C) images; anything else as it stands."""
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:  # depth maps, X-rays: a float holds 16 bits exactly
        array = array.astype(np.float32)
    elif array.dtype.kind == "u" and array.dtype.itemsize > 2:  # of these torch knows too little
        if array.size and array.max() > np.iinfo(np.int64).max:
            raise UndyingError(f"{what}: {array.dtype} values up to {array.max()}; images are 0 to 255")
        array = array.astype(np.int64)
    x = samples(torch.from_numpy(np.ascontiguousarray(array)) if array.dtype.kind in "uif" else array, what)
    if x.ndim == 3:
        return x.unsqueeze(1)
    return x.permute(0, 3, 1, 2).contiguous() if x.ndim == 4 and _channels_last(x, what) else x


def _channels_last(x: Tensor, what: str) -> bool:
    """Whether images are (N, H, W, C), as Keras has them, and not (N, C, H, W).

    Raises:
        UndyingError: nothing tells.
    """
    _, first, second, last = x.shape
    if (first == second) != (second == last):  # square images
        return first == second
    if (last in _CHANNELS) != (first in _CHANNELS):
        return last in _CHANNELS
    raise UndyingError(
        f"{what}: shape {tuple(x.shape)} does not tell whether the channels come first or last; give the data as "
        "package.module:function, whose tensors are (N, C, H, W)"
    )


def samples(x: Any, what: str) -> Tensor:
    """A tensor of uint8 if the values are whole numbers of 0 to 255 in an integer type, of float32 if in a floating one."""
    if not isinstance(x, Tensor) or x.ndim < 2 or x.is_complex() or x.dtype == torch.bool:
        shown = f"{x.dtype} {tuple(x.shape)}" if hasattr(x, "dtype") else type(x).__name__
        raise UndyingError(f"{what}: numbers of shape (samples, ...) are needed, not {shown}")
    if x.is_floating_point():
        return x.float()
    if x.dtype != torch.uint8 and x.numel() and (int(x.min()) < 0 or int(x.max()) > 255):
        raise UndyingError(f"{what}: {x.dtype} values from {int(x.min())} to {int(x.max())}; images are 0 to 255")
    return x.to(torch.uint8)


def labels(y: Any, what: str) -> Tensor:
    """int64 (N,) from whole numbers of any integer type, (N,) or (N, 1)."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in "ui":
        raise UndyingError(f"{what}: one class number a sample is needed, not {y.dtype} {y.shape}")
    return torch.from_numpy(y.astype(np.int64))


def numbers(y: Any, what: str) -> Tensor:
    """float32 (N, T) from numbers, (N,) or (N, T)."""
    y = np.asarray(y)
    if y.ndim not in (1, 2) or y.dtype.kind not in "buif" or not y.size:
        raise UndyingError(f"{what}: one number a sample or a row of them is needed, not {y.dtype} {y.shape}")
    return torch.from_numpy(y.reshape(len(y), -1).astype(np.float32))
