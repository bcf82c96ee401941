"""Data sets by name: one module a kind of source, each of which gives a ``Dataset``."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

from undying._base.errors import UndyingError
from undying.lab.data.arrays import npz
from undying.lab.data.dataset import Dataset
from undying.lab.data.digits import digits
from undying.lab.data.downloads import DOWNLOADS, default_root, download
from undying.lab.data.folder import folder
from undying.lab.data.imported import imported

__all__ = ["DATA", "Dataset", "default_root", "identity", "load", "source"]

DATA = ("digits", *DOWNLOADS)


@cache
def load(spec: str, image_size: int = 0, root: Path | None = None, whole: bool = False) -> Dataset:
    """The data set that ``spec`` names; loaded once a process.

    Args:
        spec: one of ``DATA``, a folder of images, an .npz file, or package.module:function.
        image_size, whole: see ``folder``; of no account elsewhere.
        root: where downloads are kept; None: ``default_root()``.
    """
    kind = source(spec)
    if kind is digits:
        return digits()
    if kind is download:
        return download(spec, root)
    if kind is folder:
        return folder(Path(spec), image_size, whole)
    return npz(Path(spec)) if kind is npz else imported(spec)


def source(spec: str) -> Callable[..., Dataset]:
    """Which kind of source ``spec`` names.

    Raises:
        UndyingError: it names none.
    """
    if spec == "digits":
        return digits
    if spec in DOWNLOADS:
        return download
    if spec.endswith(".npz"):
        return npz
    if _is_path(spec):
        return folder
    if ":" in spec:
        return imported
    raise UndyingError(
        f"unknown --data {spec!r}; known: {', '.join(DATA)}, a folder of images, an .npz file or package.module:function"
    )


def identity(spec: str) -> str:
    """``spec`` without the folder that a file or folder lies in, which does not decide any number."""
    return Path(spec).name if "/" in spec or os.sep in spec else spec


def _is_path(spec: str) -> bool:
    return "/" in spec or os.sep in spec or Path(spec).is_dir()
