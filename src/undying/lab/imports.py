"""The user's own code, by import path."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from undying._base.errors import UndyingError


def find(spec: str, what: str) -> Callable[..., Any]:
    """The function that ``package.module:function`` names; the working directory is searched too.

    Args:
        spec: the import path.
        what: what it is for, for messages: ``"model"`` or ``"data"``.

    Raises:
        UndyingError: it is not there.
    """
    source, _, name = spec.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(source), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UndyingError(f"{what} {spec!r}: {error}") from None
    if not callable(found):
        raise UndyingError(f"{what} {spec!r} is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


def call(spec: str, what: str, *arguments: Any) -> Any:
    """What the function of ``spec`` returns for ``arguments``."""
    return find(spec, what)(*arguments)


def source_sha256(spec: str) -> str:
    """Of the file that defines the function: an edited one is another network. Not of what that file imports."""
    function = inspect.unwrap(find(spec, "model"))
    try:
        file = inspect.getsourcefile(function)
    except TypeError:  # written in C, or an object that can be called
        file = getattr(sys.modules[spec.partition(":")[0]], "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
