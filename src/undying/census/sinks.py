"""Where :func:`undying.watch` puts its records. TensorBoard, W&B and others are in ``undying.integrations``."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from undying._base.warn import warn
from undying.census.record import Record

__all__ = ["JSONL", "Memory", "Sink"]


class Sink(Protocol):
    """Anything that takes records."""

    def write(self, record: Record) -> None: ...

    def close(self) -> None: ...


Sinks = Sink | str | os.PathLike[str] | Iterable[Sink | str | os.PathLike[str]]


class Memory(list[Record]):
    """A list of the records, every unit included: some 100 bytes a unit and record."""

    def __repr__(self) -> str:
        if not self:
            return "Memory(no record)"
        steps = f"steps {self[0].step} to {self[-1].step}" if len(self) > 1 else f"step {self[0].step}"
        return f"Memory({len(self)} record{'s' * (len(self) > 1)}, {steps}; the last: {self[-1]!r})"

    def write(self, record: Record) -> None:
        self.append(record)

    def close(self) -> None:
        pass


class JSONL:
    """A line of JSON a record (:meth:`Record.to_dict`), appended and synced to disk at once.

    Records that are there stay: a resumed training goes on below them. A last line that a crash left half written is cut
    off when the file is opened. Infinities and NaN are the strings ``inf``, ``-inf`` and ``nan``.

    Args:
        path: the file; made if it is not there. After ``close`` the next record opens it again.

    Raises:
        ValueError: the file holds something else than lines of JSON.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()  # the working directory may change on the way
        self._opened().close()  # what fails, fails before training
        self._file: IO[bytes] | None = None

    def write(self, record: Record) -> None:
        line = json.dumps(_plain(record.to_dict()), allow_nan=False)
        if self._file is None:
            self._file = self._opened()
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> IO[bytes]:
        if self.path.is_file():
            _end_whole(self.path)
        return self.path.open("ab")

    @staticmethod
    def read(path: str | Path) -> list[dict[str, Any]]:
        """The records of a file, without a last line that is half written.

        Raises:
            ValueError: another line is damaged.
        """
        *lines, last = Path(path).read_bytes().split(b"\n")
        records = [_object(line) for line in lines]
        if None in records:
            raise ValueError(
                f"{path}: line {records.index(None) + 1} is no record; it was cut or changed: delete that line"
            )
        return [record for record in [*records, _object(last)] if record is not None]


def sinks_of(sinks: Sinks) -> list[Sink]:
    """Every sink that is given: one or several, or paths of a JSONL.

    Raises:
        TypeError: one is no sink.
    """
    several = isinstance(sinks, Iterable) and not isinstance(sinks, (str, Mapping, io.IOBase)) and not _is_sink(sinks)
    given: list[Any] = list(sinks) if several else [sinks]  # type: ignore[arg-type]
    for each in given:
        if not isinstance(each, (str, os.PathLike)) and not _is_sink(each):
            raise TypeError(
                f"{each!r:.200} is no sink: give a path, undying.Memory(), undying.JSONL(path), one of "
                "undying.integrations, or an object with write(record) and close()"
            )
    return [JSONL(os.fspath(each)) if isinstance(each, (str, os.PathLike)) else each for each in given]


def _is_sink(value: Any) -> bool:
    # An open file has both, and would take no record.
    methods = (getattr(value, name, None) for name in ("write", "close"))
    return not isinstance(value, (type, io.IOBase)) and all(map(callable, methods))


def _end_whole(path: Path) -> None:
    """Cut off a half record at the end of a file, or end a line that is whole.

    Raises:
        ValueError: the file holds something else than lines of JSON.
    """
    with path.open("rb+") as file:
        last = rest = b""
        for line in file:
            last, rest = (line, b"") if line.endswith(b"\n") else (last, line)
        half = rest.startswith(_START[: len(rest)]) and _object(rest) is None
        last = last if half else rest or last
        content = _object(last) if last else {"step": 0}
        if content is None:
            raise ValueError(f"{path} holds something else than lines of JSON; give JSONL another file")
        if "step" not in content:
            warn(f"{path} holds something else than records of watch, which are appended to it")
        if half:
            file.truncate(file.tell() - len(rest))
        elif rest:
            file.write(b"\n")


#: How a record begins.
_START = b'{"step": '


def _object(line: bytes) -> dict[str, Any] | None:
    """What a line of JSON holds; None for any other line."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, float) and not abs(value) < float("inf"):
        return str(value)
    return value
