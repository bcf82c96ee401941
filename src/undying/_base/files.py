"""Write files so that a reader finds the old one or the new one, never half of one."""

from __future__ import annotations

import os
from pathlib import Path

from undying._base.errors import UndyingError


def write_text(path: Path, text: str) -> None:
    """Write beside ``path``, sync, rename. On an error the old file stays and nothing is left beside it.

    Raises:
        OSError: the file cannot be written.
    """
    write_bytes(path, text.encode())


def write_or_say(path: Path, text: str) -> None:
    """:func:`write_text` for a file that the user named.

    Raises:
        UndyingError: the file cannot be written.
    """
    try:
        write_text(path, text)
    except OSError as error:
        raise UndyingError(f"cannot write {path}: {error.strerror}") from None


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """The same for bytes."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
