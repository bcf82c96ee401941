"""Import what not every installation has."""

from __future__ import annotations

import importlib
from typing import Any

from undying._base.errors import UndyingError


def need(module: str, extra: str | None, what: str) -> Any:
    """A module that comes with an extra of undying, or by itself if ``extra`` is None.

    Args:
        module: its name.
        extra: of undying, such as ``"vision"``.
        what: what needs it, for the message.

    Raises:
        UndyingError: it, or a package that it imports, is not installed.

    >>> need("math", None, "a circle").pi > 3
    True
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = f"'undying[{extra}]'" if extra else error.name
        raise UndyingError(f"{what} needs {error.name}: pip install {package}") from None
