"""Lines of a NAME.runs.csv, read back: a damaged one is named, with the way out."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from undying._base.errors import UndyingError

MACHINE = ("processor", "instructions", "kernels", "cores", "python", "torch", "threads", "undying")
"""Of a run's environment."""
_LATER = ("instructions", "kernels")
"""Of these, what runs of early versions do not tell."""


@dataclass(frozen=True)
class Row:
    """One of them."""

    path: Path
    line: int
    cells: Mapping[str, str]

    def damaged(self, column: str) -> UndyingError:
        return UndyingError(
            f"{self.path}, line {self.line}: {_short(self.cells[column])!r} in {column}; delete the line to train the run again"
        )

    def number(self, column: str) -> float:
        """A finite number."""
        return _finite(self.cells[column], self, column)

    def known(self, column: str) -> float:
        """The same; NaN where the cell is empty."""
        return self.number(column) if self.cells[column] else math.nan

    def numbers(self, column: str) -> tuple[float | None, ...]:
        """Those that spaces separate; a - is None."""
        return tuple(None if word == "-" else _finite(word, self, column) for word in self.cells[column].split())

    @property
    def status(self) -> str:
        if self.cells["status"] not in ("finished", "diverged"):
            raise self.damaged("status")
        return self.cells["status"]

    @property
    def weights(self) -> str:
        if len(self.cells["weights_sha256"]) != 64:
            raise self.damaged("weights_sha256")
        return self.cells["weights_sha256"]

    def environment(self, libraries: Sequence[str] = ()) -> dict[str, str]:
        """Of the machine, and the versions of ``libraries`` where the run used them."""
        told = {name: self.cells[name] for name in MACHINE if self.cells[name] or name not in _LATER}
        return told | {name: self.cells[name] for name in libraries if self.cells[name]}


def read_rows(path: Path, columns: Sequence[str], lacking: str) -> dict[str, Row]:
    """Run -> its line.

    Args:
        path: of a NAME.runs.csv.
        columns: what it must have.
        lacking: what to do about a file without one of them.

    Raises:
        UndyingError: it cannot be read, lacks a column, or has a run twice.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, restval="", strict=True)
            there = reader.fieldnames or ()
            rows = [Row(path, reader.line_num, cells) for cells in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UndyingError(f"cannot read {path}: {error}") from None
    missing = [name for name in columns if name not in there]
    if missing:
        raise UndyingError(f"{path} has no column {missing[0]}; {lacking}")
    found: dict[str, Row] = {}
    for row in rows:
        run = row.cells["run"]
        if run in found:
            raise UndyingError(f"{path}, line {row.line}: run {run} a second time; delete one of its two lines")
        found[run] = row
    return found


def _finite(word: str, row: Row, column: str) -> float:
    try:
        value = float(word)
    except ValueError:
        raise row.damaged(column) from None
    if not math.isfinite(value):
        raise row.damaged(column)
    return value


def _short(cell: str) -> str:
    return cell if len(cell) <= 40 else f"{cell[:40]}…"
