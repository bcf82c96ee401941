"""The user's own code, by import path."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from undying._base.errors import UndyingError


def locate(spec: str, what: str) -> Any:
    """Whatever ``package.module:name`` names; the working directory is searched too.

    Args:
        spec: the import path.
        what: what it is for, for messages, such as ``"model"``.

    Raises:
        UndyingError: it is not there.
    """
    source, _, name = spec.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(source), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UndyingError(f"{what} {spec!r}: {error}") from None
    except (Exception, SystemExit) as error:
        raise raised(spec, what, error) from error


def find(spec: str, what: str) -> Callable[..., Any]:
    """The function that it names, see :func:`locate`.

    Raises:
        UndyingError: it is not there, or is none.
    """
    found = locate(spec, what)
    if not callable(found):
        raise UndyingError(f"{what} {spec!r} is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


def call(spec: str, what: str, *arguments: Any) -> Any:
    """What the function of ``spec`` returns for ``arguments``.

    Raises:
        UndyingError: it is not there, or raised something; that is its cause.
    """
    return ask(spec, what, find(spec, what), *arguments)


def ask(spec: str, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of the user's returns, or raises; see :func:`call`."""
    try:
        return function(*arguments)
    except UndyingError:
        raise
    except (Exception, SystemExit) as error:
        raise raised(spec, what, error) from error


def raised(spec: str, what: str, error: BaseException) -> UndyingError:
    """What is said of an exception of the user's code, with the place where it comes from."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    told = "sys.exit was called" if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
    return UndyingError(f"{what} {spec!r}: {told} ({at.filename}, line {at.lineno})")


def source_sha256(spec: str, what: str) -> str:
    """Of the file that defines it: an edited one is another. Not of what that file imports."""
    found = inspect.unwrap(locate(spec, what))
    try:
        file = inspect.getsourcefile(found)
    except TypeError:  # written in C, or an object
        file = getattr(sys.modules[spec.partition(":")[0]], "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
