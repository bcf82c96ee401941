"""A CSV file as its header and its rows, each with its line."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from undying._base.errors import UndyingError


@dataclass(frozen=True)
class Row:
    """One row."""

    cells: dict[str, str]
    """By the names in the header, without spaces around them."""
    place: str
    """``scores.csv, line 7``."""


@dataclass(frozen=True)
class CsvFile:
    """A whole file."""

    path: Path
    header: list[str]
    rows: list[Row]


def read_csv(path: Path) -> CsvFile:
    """Whole, separated by commas, semicolons or tabs, whichever its first line has.

    Raises:
        UndyingError: it cannot be read, or is no table with a header of two columns or more.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")  # Excel begins a file with a mark
    except FileNotFoundError:
        raise UndyingError(f"there is no {path}") from None
    except OSError as error:
        raise UndyingError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UndyingError(f"{path} is no text in UTF-8; save it as 'CSV UTF-8'") from None
    first = next(iter(text.splitlines()), "")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        rows = [
            Row(
                dict(zip(header, _as_wide(row, header, f"{path}, line {reader.line_num}"), strict=True)),
                f"{path}, line {reader.line_num}",
            )
            for row in reader
            if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise UndyingError(f"{path}, line {reader.line_num}: {error}") from None
    if len(header) < 2:
        raise UndyingError(
            f"{path} has no two columns that commas, semicolons or tabs separate: {first[:60].strip()!r}; save it with commas"
        )
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise UndyingError(f"{path} has two columns {twice!r}; name each once")
    if not rows:
        raise UndyingError(f"{path} has a header and no rows")
    return CsvFile(path, header, rows)


def _as_wide(row: list[str], header: list[str], place: str) -> list[str]:
    if len(row) != len(header):
        raise UndyingError(f"{place} has {len(row)} cells, the header {len(header)}")
    return [cell.strip() for cell in row]
