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
from undying.lab.data.table import table

__all__ = ["DATA", "Dataset", "default_root", "identity", "load", "source"]

DATA = ("digits", *DOWNLOADS)


@cache
def load(
    spec: str,
    image_size: int = 0,
    root: Path | None = None,
    targets: str = "classes",
    columns: tuple[str, ...] = (),
) -> Dataset:
    """The data set that ``spec`` names; loaded once a process.

    Args:
        spec: one of ``DATA``, a folder of images, an .npz or .csv file, or package.module:function.
        image_size: see ``folder``; of no account elsewhere.
        root: where downloads are kept; None: ``default_root()``.
        targets: see ``Dataset.targets``; sets of images have classes alone.
        columns: of a .csv, see ``table``; of no account elsewhere.

    Raises:
        UndyingError: they cannot be read, or have other targets.
    """
    kind = source(spec)
    if targets != "classes" and kind in (digits, download, folder):
        raise UndyingError(
            f"--data {spec!r} has classes; --task {_TASK[targets]} needs a .csv, an .npz or package.module:function"
        )
    if columns and kind is not table:
        raise UndyingError(f"--columns are of a .csv, and --data {spec!r} is none")
    if kind is digits:
        return digits()
    if kind is download:
        return download(spec, root)
    if kind is folder:
        return folder(Path(spec), image_size)
    if kind is table:
        return table(Path(spec), targets, columns)
    return npz(Path(spec), targets) if kind is npz else imported(spec, targets)


_TASK = {"values": "regression", "labels": "multilabel"}


def source(spec: str) -> Callable[..., Dataset]:
    """Which kind of source ``spec`` names.

    Raises:
        UndyingError: it names none.
    """
    if spec == "digits":
        return digits
    if spec in DOWNLOADS:
        return download
    if spec.endswith((".npz", ".csv")):
        return npz if spec.endswith(".npz") else table
    if _is_path(spec):
        return folder
    if ":" in spec:
        return imported
    raise UndyingError(
        f"unknown --data {spec!r}; known: {', '.join(DATA)}, a folder of images, an .npz or .csv file or package.module:function"
    )


def identity(spec: str) -> str:
    """``spec`` without the folder that a file or folder lies in, which does not decide any number."""
    return Path(spec).name if "/" in spec or os.sep in spec else spec


def _is_path(spec: str) -> bool:
    return "/" in spec or os.sep in spec or (spec != "" and Path(spec).is_dir())  # an empty one would be "."
