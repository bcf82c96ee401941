"""A folder of images, a class a sub-folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from undying._base.errors import UndyingError
from undying.lab.data.dataset import Dataset

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
_TEST_BYTE = 51  # of 256: 20 %


def folder(path: Path, size: int = 0) -> Dataset:
    """``path/train/<class>/*`` and ``path/test/<class>/*``; or ``path/<class>/*``, of which a hash picks 20 % to test.

    Images are grey if all of them are, else RGB. With ``size`` the shorter side is scaled to it and the middle square
    kept; without, all must be of one size.

    Raises:
        UndyingError: an image cannot be read or is of another size, or the folder holds something else.
    """
    if not path.is_dir():
        raise UndyingError(f"there is no folder {path}")
    if (path / "train").is_dir():
        if not (path / "test").is_dir():
            raise UndyingError(f"{path} has a train folder and no test folder")
        names = _classes(path / "train")
        unknown = sorted(set(_classes(path / "test")) - set(names))
        if unknown:
            raise UndyingError(f"{path / 'test'} has classes that train has not: {', '.join(unknown)}")
        parts = [_files(path / part, names) for part in ("train", "test")]
    else:
        names = _classes(path)
        files = _files(path, names)
        # By content, so that copies of one image are on the same side wherever they lie.
        chosen = [hashlib.sha256(file.read_bytes()).digest()[0] < _TEST_BYTE for file, _ in files]
        parts = [[f for f, test in zip(files, chosen, strict=True) if test == side] for side in (False, True)]
    for part, files in zip(("train", "test"), parts, strict=True):
        if not files:
            raise UndyingError(f"{path} holds no images to {part} on; known kinds: {' '.join(_SUFFIXES)}")
    images = _Images([file for files in parts for file, _ in files], size)
    y_train, y_test = (torch.tensor([label for _, label in files]) for files in parts)
    x_train, x_test = images.tensor[: len(y_train)], images.tensor[len(y_train) :]
    return Dataset(path.resolve().name, x_train, y_train, x_test, y_test, len(names), tuple(names)).checked()


def _classes(path: Path) -> list[str]:
    names = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise UndyingError(f"{path} has no folders of images, one a class")
    return names


def _files(path: Path, names: Sequence[str]) -> list[tuple[Path, int]]:
    """Every image with its class, in the same order on every machine."""
    return [
        (file, label)
        for label, name in enumerate(names)
        for file in sorted((path / name).rglob("*"))
        if file.suffix.lower() in _SUFFIXES and file.is_file()
    ]


class _Images:
    """The files as one uint8 tensor (N, C, H, W)."""

    def __init__(self, files: Sequence[Path], size: int) -> None:
        grey = all(_mode(file) == "L" for file in files)
        first = _pixels(files[0], grey, size)
        self.tensor: Tensor = torch.empty((len(files), *first.shape), dtype=torch.uint8)
        for i, file in enumerate(files):
            image = _pixels(file, grey, size)
            if image.shape != first.shape:
                raise UndyingError(
                    f"{file} is {image.shape[2]}x{image.shape[1]} and {files[0]} {first.shape[2]}x{first.shape[1]}; "
                    "bring all to one size with --image-size"
                )
            self.tensor[i] = image


def _mode(file: Path) -> str:
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.mode
    except OSError as error:
        raise _unreadable(file, error) from None


def _pixels(file: Path, grey: bool, size: int) -> Tensor:
    from PIL import Image

    try:
        with Image.open(file) as opened:
            image = opened.convert("L" if grey else "RGB")
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises, by format
        raise _unreadable(file, error) from None
    if size:
        scale = size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    array = torch.from_numpy(np.array(image))
    return array.unsqueeze(0) if grey else array.permute(2, 0, 1)


def _unreadable(file: Path, error: Exception) -> UndyingError:
    return UndyingError(f"{file} cannot be read as an image, it is truncated or damaged: {error}")
