"""A folder of images, a class a sub-folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undying._base.errors import UndyingError
from undying.lab.data.dataset import Dataset

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
_TEST_BYTE = 51  # of 256: 20 %
_PARTS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
}
"""What folders of a split are called, beside capitals, punctuation and a ``set`` or ``data`` at the end."""
_DEEP = ("I", "F")
"""Pillow's modes of one channel with more than 8 bits, and the beginnings of their names (``I;16B``)."""


def folder(path: Path, size: int = 0, whole: bool = False) -> Dataset:
    """``path/train/<class>/*`` and ``path/test/<class>/*``; or ``path/<class>/*``, of which a hash picks 20 % to test.

    Images are bytes, grey if all of them are, else RGB. What is transparent shows white. Images of one channel with more
    than 8 bits (16-bit PNG, float TIFF) keep their values, in float32. A camera's note of how it was held is followed.
    With ``size`` the shorter side is scaled to it and the middle square kept; without, all must be of one size.
    With ``whole`` the test part of a folder that has no parts is all of its images.

    Raises:
        UndyingError: an image cannot be read or is of another size, or the folder holds something else.
    """
    if not path.is_dir():
        raise UndyingError(f"there is no folder {path}")
    split = _split(path)
    if split:
        names = _classes(split["train"])
        unknown = sorted(set(_classes(split["test"])) - set(names))
        if unknown:
            raise UndyingError(f"{split['test']} has classes that train has not: {', '.join(unknown)}")
        parts = [_files(split[part], names) for part in ("train", "test")]
    else:
        names = _classes(path)
        files = _files(path, names)
        # By content, so that copies of one image are on the same side wherever they lie.
        chosen = [hashlib.sha256(file.read_bytes()).digest()[0] < _TEST_BYTE for file, _ in files]
        parts = [[f for f, test in zip(files, chosen, strict=True) if test == side] for side in (False, True)]
    whole = whole and not split
    for part, files in zip(("train", "test"), parts, strict=True):
        if not files and not (whole and any(parts)):
            raise UndyingError(f"{path} holds no images to {part} on; known kinds: {' '.join(_SUFFIXES)}")
    images = _Images([file for files in parts for file, _ in files], size)
    y_train, y_test = (torch.tensor([label for _, label in files], dtype=torch.int64) for files in parts)
    x_train, x_test = images.tensor[: len(y_train)], images.tensor[len(y_train) :]
    if whole:
        x_test, y_test = images.tensor, torch.cat([y_train, y_test])
        x_train, y_train = (x_train, y_train) if len(y_train) else (x_test, y_test)
    return Dataset(path.resolve().name, x_train, y_train, x_test, y_test, len(names), tuple(names), whole).checked()


def _split(path: Path) -> dict[str, Path]:
    """The folders of the training and the test part; nothing where the folders are classes."""
    found: dict[str, Path] = {}
    for name in _folders(path):
        part = _PARTS.get(re.sub(r"[^a-z]", "", name.lower()).removesuffix("set").removesuffix("data"))
        if part in found:
            raise UndyingError(f"{path} has two folders of {part} images, {found[part].name} and {name}; keep one")
        if part:
            found[part] = path / name
    if found and not {"train", "test"} <= found.keys():
        missing = "train" if "train" not in found else "test"
        there = ", ".join(folder.name for folder in found.values())
        raise UndyingError(
            f"{path} has {there} and no {missing} folder; rename one to {missing!r}, or the class that is called so"
        )
    return found


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _classes(path: Path) -> list[str]:
    names = _folders(path)
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
    """The files as one tensor (N, C, H, W), uint8 or, of more than 8 bits a pixel, float32."""

    def __init__(self, files: Sequence[Path], size: int) -> None:
        modes = {file: _mode(file) for file in files}
        deep = [file for file, mode in modes.items() if mode.startswith(_DEEP)]
        if deep and len(deep) < len(files):
            shallow = next(file for file in files if not modes[file].startswith(_DEEP))
            raise UndyingError(
                f"{deep[0]} has more than 8 bits a pixel and {shallow} has 8, so their values cannot be compared; "
                "bring all to one kind"
            )
        mode = "F" if deep else "L" if set(modes.values()) == {"L"} else "RGB"
        first = _pixels(files[0], mode, size)
        self.tensor: Tensor = torch.empty((len(files), *first.shape), dtype=first.dtype)
        for i, file in enumerate(files):
            image = _pixels(file, mode, size)
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
    except Exception as error:  # Pillow's own, and others by format
        raise _unreadable(file, error) from None


def _pixels(file: Path, mode: str, size: int) -> Tensor:
    """(C, H, W)."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            image = _opaque(ImageOps.exif_transpose(opened)).convert(mode)
    except Exception as error:  # the same
        raise _unreadable(file, error) from None
    if size:
        scale = size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    array = torch.from_numpy(np.array(image))
    return array.unsqueeze(0) if array.ndim == 2 else array.permute(2, 0, 1)


def _opaque(image: Any) -> Any:
    """On white where it is transparent: the colours there are whatever the program left, often black."""
    from PIL import Image

    if not image.has_transparency_data:
        return image
    drawn = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn)


def _unreadable(file: Path, error: Exception) -> UndyingError:
    return UndyingError(f"{file} cannot be read as an image, it is truncated or damaged: {error}")
