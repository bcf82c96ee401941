"""A folder of images, a class a sub-folder."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from undying._base.errors import UndyingError
from undying.lab.data.dataset import Dataset
from undying.lab.data.images import (
    SUFFIXES,
    Picture,
    array,
    common_mode,
    fitted,
    is_deep,
    mode_of,
    opened,
    same_size,
    unreadable,
)

_TEST_BYTE = 51  # of 256: 20 %
_PARTS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
}
"""What folders of a split are called, beside capitals, punctuation and a ``set`` or ``data`` at the end."""

Files = list[tuple[Path, int]]
"""Images, with the number of their class."""


@dataclass(frozen=True)
class Listing:
    """The images of a folder, in the same order on every machine."""

    path: Path
    names: tuple[str, ...]
    """Of the classes; empty where images lie in the folder itself, which are counted as class 0."""
    train: Files
    test: Files
    validation: Files
    """Of a folder that has such a part. Comparisons leave it alone."""
    split: bool
    """Whether the parts are the folder's own; else a hash has chosen."""

    @property
    def all(self) -> Files:
        """Every image."""
        return [*self.train, *self.test, *self.validation]

    def without(self, files: Collection[Path]) -> Listing:
        """The listing of the others."""

        def kept(part: Files) -> Files:
            return [image for image in part if image[0] not in files]

        return replace(self, train=kept(self.train), test=kept(self.test), validation=kept(self.validation))

    def passed_over(self) -> list[str]:
        """What else lies in the folder, in words."""
        listed = {file for file, _ in self.all}
        folders = {folder for file in listed for folder in file.parents}
        others = [file for file in _walk(self.path) if file not in listed and file.name[0] != "."]
        links = [f for f in others if f.is_dir() and f not in folders]
        others = [f for f in others if not f.is_dir()]
        lost = [f for f in others if f.suffix.lower() in SUFFIXES]
        kinds = Counter(f.suffix.lower() or "without a suffix" for f in others if f not in lost).most_common(5)
        return [
            *([f"images in no folder of a class: {len(lost)}, such as {lost[0]}"] if lost else []),
            *([f"linked folders, which are not followed: {', '.join(map(str, links))}"] if links else []),
            *([f"other files: {', '.join(f'{number} {kind}' for kind, number in kinds)}"] if kinds else []),
        ]


def listing(path: Path) -> Listing:
    """The images of ``path/train/<class>/*`` and ``path/test/<class>/*``; or of ``path/<class>/*``, of which a hash picks
    20 % to test; or of ``path`` itself.

    Raises:
        UndyingError: there is no folder, or it holds half a split.
    """
    if not path.is_dir():
        raise UndyingError(f"there is no folder {path}")
    split = _split(path)
    validation: Files = []
    if split:
        names = _classes(split["train"])
        unknown = sorted(set(_classes(split["test"])) - set(names))
        if unknown:
            raise UndyingError(f"{split['test']} has classes that train has not: {', '.join(unknown)}")
        train, test = (_files(split[part], names) for part in ("train", "test"))
        validation = _files(split["validation"], names) if "validation" in split else []
    else:
        names = _folders(path)
        files = _files(path, names) if names else [(file, 0) for file in _images(sorted(path.iterdir()))]
        chosen = [_is_chosen(file) for file, _ in files]
        train, test = ([f for f, test in zip(files, chosen, strict=True) if test == side] for side in (False, True))
    return Listing(path, tuple(names), train, test, validation, bool(split))


def _is_chosen(file: Path) -> bool:
    """For the test part: by content, so that copies of one image are on the same side wherever they lie."""
    try:
        return hashlib.sha256(file.read_bytes()).digest()[0] < _TEST_BYTE
    except OSError:  # told of where it is to be decoded
        return False


def folder(path: Path, size: int = 0, whole: bool = False, skip_unreadable: bool = False) -> Dataset:
    """The images of a :func:`listing`.

    Images are bytes, grey if all of them are, else RGB. What is transparent shows white. Images of one channel with more
    than 8 bits (16-bit PNG, float TIFF) keep their values, in float32. A camera's note of how it was held is followed.
    With ``size`` the shorter side is scaled to it and the middle square kept; without, all must be of one size.
    With ``whole`` the test part is every image, those of the training part and of a validation part too, and they need no
    classes. With ``skip_unreadable`` those that cannot be read are left out.

    Raises:
        UndyingError: an image cannot be read or is of another size, or the folder holds something else.
    """
    found = listing(path)
    if not whole:
        _need_classes(path, found.names)
    bad = unreadable([file for file, _ in found.all]) if skip_unreadable else {}
    found = found.without(bad.keys())
    for part, files in (("train", found.train), ("test", found.test)):
        if not files and not (whole and found.all):
            raise UndyingError(f"{path} holds no images to {part} on; known kinds: {' '.join(SUFFIXES)}")
    files = found.all if whole else [*found.train, *found.test]
    x = _pixels([file for file, _ in files], size)
    y = torch.tensor([label for _, label in files], dtype=torch.int64)
    train = len(found.train) or len(files)
    test = 0 if whole else train
    name, classes = path.resolve().name, max(1, len(found.names))
    told = tuple((str(file), reason) for file, reason in bad.items())
    return Dataset(
        name, x[:train], y[:train], x[test:], y[test:], classes, found.names, whole, unreadable=told
    ).checked()


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
    _need_classes(path, names)
    return names


def _need_classes(path: Path, names: Sequence[str]) -> None:
    if not names:
        raise UndyingError(f"{path} has no folders of images, one a class")


def _files(path: Path, names: Sequence[str]) -> Files:
    there = [(path / name, label) for label, name in enumerate(names) if (path / name).is_dir()]
    return [(file, label) for folder, label in there for file in _images(_walk(folder))]


def _walk(path: Path) -> list[Path]:
    """All files below, and links to folders, in order; a folder that may not be read is an error."""

    def fail(error: OSError) -> None:
        raise error

    return sorted(
        file
        for folder, folders, files in os.walk(path, onerror=fail)
        for file in map(Path(folder).joinpath, [*files, *folders])
        if file.is_symlink() or not file.is_dir()
    )


def _images(paths: Sequence[Path]) -> list[Path]:
    """With links that lead nowhere, which cannot be decoded."""
    return [file for file in paths if file.suffix.lower() in SUFFIXES and (file.is_file() or not file.exists())]


def _pixels(files: Sequence[Path], size: int) -> Tensor:
    """The files as one tensor (N, C, H, W), uint8 or, of more than 8 bits a pixel, float32."""
    modes = {file: mode_of(file) for file in files}
    deep = [file for file, mode in modes.items() if is_deep(mode)]
    if deep and len(deep) < len(files):
        shallow = next(file for file in files if not is_deep(modes[file]))
        raise UndyingError(
            f"{deep[0]} has more than 8 bits a pixel and {shallow} has 8, so their values cannot be compared; "
            "bring all to one kind"
        )
    mode = "F" if deep else common_mode(modes.values())
    first = _read(opened(files[0]), mode, size)
    pixels = torch.empty((len(files), *first.shape), dtype=first.dtype)
    for i, file in enumerate(files):
        image = _read(opened(file), mode, size)
        same_size(image, file, first, files[0])
        pixels[i] = image
    return pixels


def _read(picture: Picture, mode: str, size: int) -> Tensor:
    return array(fitted(picture.converted(mode), size))
