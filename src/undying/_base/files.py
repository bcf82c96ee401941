"""Write files so that a reader finds the old one or the new one, never half of one."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path

from undying._base.errors import UndyingError

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}")
_STREAMS = {"/dev/stdout": "/dev/fd/1", "/dev/stderr": "/dev/fd/2"}


def write_text(path: Path, text: str) -> None:
    """Write beside ``path``, sync, rename. On an error the old file stays and nothing is left beside it. A link at ``path``
    is replaced and not followed.

    Raises:
        OSError: the file cannot be written.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes | memoryview, ready: Callable[[], object] = lambda: None) -> None:
    """The same for bytes; ``ready`` is called when all that is left to do is the rename, and may raise."""
    # Nobody can foresee or meet the name: not another machine in this folder, nor who put links into it.
    beside = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}")
    try:
        with beside.open("xb") as file:  # a new file, through no link
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        ready()
        beside.replace(path)
    except OSError as error:
        if error.filename != os.fspath(beside):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None  # nobody knows the other name
    finally:
        with contextlib.suppress(OSError):  # as where there is no such folder
            beside.unlink()


def write_named(path: Path, text: str) -> None:
    """:func:`write_text` for a file that the user named, which may also be a device, a pipe or ``/dev/stdout``: these are
    written to.

    Raises:
        OSError: the file cannot be written.
    """
    stream = re.fullmatch(r"/(?:dev|proc/self)/fd/([0-9]+)", _STREAMS.get(str(path), str(path)))
    if stream:
        sys.stdout.flush()
        descriptor = os.dup(int(stream[1]))  # opened by its name a file would be written from its beginning
    elif path.exists() and not path.is_file() and not path.is_dir():
        descriptor = os.open(path, os.O_WRONLY)
    else:
        write_text(path, text)
        return
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def write_or_say(path: Path, text: str) -> None:
    """:func:`write_named` for commands.

    Raises:
        UndyingError: the file cannot be written.
    """
    try:
        write_named(path, text)
    except OSError as error:
        raise UndyingError(f"cannot write {path}: {error.strerror}") from None


def clear_temporary(folder: Path, seconds: float = 0.0) -> None:
    """Remove what writers that were killed left in ``folder``, of this age at least."""
    for path in folder.glob(".*"):
        if _TEMPORARY.fullmatch(path.name):
            with contextlib.suppress(OSError):
                if time.time() - path.lstat().st_mtime >= seconds:
                    path.unlink()
