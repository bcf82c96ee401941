"""Warnings that point at the user's line."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from pathlib import Path

import torch

_INNER = tuple(f"{folder}{os.sep}" for folder in (Path(__file__).parents[1], Path(torch.__file__).parent))
"""Folders of code that is between the user's and what warns."""


def warn(message: str) -> None:
    """A ``UserWarning`` at the first line that is neither in this package nor in torch: how many calls lie between is another
    number on each way here."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_inner(frame.f_code.co_filename):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def _is_inner(file: str) -> bool:
    return file == contextlib.__file__ or file.startswith(_INNER)
