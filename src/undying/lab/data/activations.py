"""Activations of another network, as autoencoders are trained on: rows of numbers without a target."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from undying._base.errors import UndyingError
from undying.lab.data.dataset import Dataset
from undying.lab.data.downloads import default_root

GENERATED = "generated"
_HELD_OUT = 16
"""One in so many rows, the last ones, is for the test."""
_MADE_BY = "python tests/embed_text.py FILE makes it, see docs/reproduce.md"


@cache
def activations(name: str, root: Path | None = None) -> Dataset:
    """The rows of NAME.npy under ``root``, the first fifteen sixteenths to train on; ``"generated"`` needs no file.

    Args:
        name: of the file, without its ending: an array (rows, width) of a floating type.
        root: where data are kept; None: ``default_root()``.

    Raises:
        UndyingError: there is no such file, or it holds something else.
    """
    rows = _generated() if name == GENERATED else _read((root or default_root()) / f"{name}.npy")
    train, test = rows.split([len(rows) - len(rows) // _HELD_OUT, len(rows) // _HELD_OUT])
    # What is to be given back is the sample itself.
    return Dataset(name, train, train, test, test, rows.shape[1], targets="own")


def _read(path: Path) -> Tensor:
    try:
        rows = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UndyingError(f"there is no {path}; {_MADE_BY}, or name another folder with --data-root") from None
    except Exception as error:  # by what is damaged
        raise UndyingError(f"{path} cannot be read as an array, it is damaged or something else: {error}") from None
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.dtype.kind != "f" or len(rows) < 2 * _HELD_OUT:
        shape = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else "several arrays"
        raise UndyingError(f"{path} must hold an array (rows, width) of a floating type, not {shape}; {_MADE_BY}")
    if not np.isfinite(rows).all():
        raise UndyingError(f"{path} holds values that are infinite or NaN; {_MADE_BY}")
    return torch.from_numpy(rows)


def _generated() -> Tensor:
    """float32 (2048, 16): sparse sums of 48 directions, and a mean."""
    draws = torch.Generator().manual_seed(0)
    directions = torch.randn(48, 16, generator=draws)
    features = torch.rand(2048, 48, generator=draws) * (torch.rand(2048, 48, generator=draws) < 0.06)
    return features @ directions + 0.5
