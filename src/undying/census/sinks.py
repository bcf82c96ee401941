"""Where :func:`undying.watch` puts its records. TensorBoard, W&B and others are in ``undying.integrations``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Protocol

from undying.census.record import Record

__all__ = ["JSONL", "Memory", "Sink"]


class Sink(Protocol):
    """Anything that takes records."""

    def write(self, record: Record) -> None: ...

    def close(self) -> None: ...


class Memory(list[Record]):
    """A list of the records, every unit included: some 100 bytes a unit and record."""

    def write(self, record: Record) -> None:
        self.append(record)

    def close(self) -> None:
        pass


class JSONL:
    """A line of JSON a record (:meth:`Record.to_dict`), appended and synced to disk at once.

    A line that a crash left half written is cut off when the file is opened again. Infinities and NaN are the strings
    ``inf``, ``-inf`` and ``nan``.

    Args:
        path: the file; made if it is not there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = self.path.open("ab+")
        _cut_half_line(self._file)

    def write(self, record: Record) -> None:
        line = json.dumps(_plain(record.to_dict()), allow_nan=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    @staticmethod
    def read(path: str | Path) -> list[dict[str, Any]]:
        """The records of a file, without a last line that is half written."""
        lines = Path(path).read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1]]


def _cut_half_line(file: Any) -> None:
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        file.seek(end - 1)
        if file.read(1) == b"\n":
            break
        end -= 1
    file.truncate(end)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, float) and not abs(value) < float("inf"):
        return str(value)
    return value
