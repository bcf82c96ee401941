"""A table of numbers in a .csv file, a sample a row."""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from undying._base.errors import UndyingError
from undying.lab.data.dataset import Dataset

_TEST_BYTE = 51  # of 256: 20 %
_MOST_CLASSES = 1000


def table(path: Path, targets: str = "classes", columns: Sequence[str] = ()) -> Dataset:
    """The columns named in ``columns`` are the targets (default: the last one), the others the features. A hash of each row's
    features picks 20 % to test: equal rows are on one side, whatever the order of the file.

    Classes may be words or whole numbers, and are counted in their order; everything else must be a number.

    Raises:
        UndyingError: the file cannot be read, a cell is empty or no number, or a column is not there.
    """
    header, rows = _read(path)
    wanted = list(columns) or header[-1:]
    unknown = [name for name in wanted if name not in header]
    if unknown:
        raise UndyingError(f"{path} has no column {unknown[0]!r}; it has {', '.join(header)}")
    if targets == "classes" and len(wanted) > 1:
        raise UndyingError(
            f"--columns {' '.join(wanted)}: a class is one column; for several labels add --task multilabel"
        )
    features = [name for name in header if name not in wanted]
    if not features:
        raise UndyingError(f"{path} has no column beside {', '.join(wanted)} to learn from")
    x = torch.tensor([[_number(row, header, name, path, line) for name in features] for line, row in rows])
    names: tuple[str, ...] = ()
    if targets == "classes":
        words = [row[header.index(wanted[0])].strip() for _, row in rows]
        names = tuple(_in_order(set(words), path, wanted[0]))
        y = torch.tensor([names.index(word) for word in words])
    else:
        y = torch.tensor([[_number(row, header, name, path, line) for name in wanted] for line, row in rows])
    test = torch.tensor([hashlib.sha256(sample.numpy().tobytes()).digest()[0] < _TEST_BYTE for sample in x])
    if not bool(test.any()) or bool(test.all()):
        raise UndyingError(f"{path} has {len(rows)} rows, too few to test on a fifth of them")
    number = len(names) or y.shape[1]
    return Dataset(path.stem, x[~test], y[~test], x[test], y[test], number, names, targets=targets).checked()


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """(header, rows with their line numbers)."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UndyingError(f"there is no {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UndyingError(f"{path} cannot be read as text: {error}") from None
    try:
        dialect: type[csv.Dialect] = csv.Sniffer().sniff(text.partition("\n")[0], delimiters=",;\t")
    except csv.Error:  # one column, which is refused below
        dialect = csv.excel
    lines = csv.reader(text.splitlines(), dialect)
    header = [name.strip() for name in next(lines, [])]
    if len(header) < 2 or len(set(header)) < len(header):
        raise UndyingError(
            f"{path}: the first line must name two columns or more, each once, not {', '.join(header)!r:.80}"
        )
    rows = [(lines.line_num, row) for row in lines if any(cell.strip() for cell in row)]
    for line, row in rows:
        if len(row) != len(header):
            raise UndyingError(f"{path}, line {line}: {len(row)} cells, and the header names {len(header)}")
    if not rows:
        raise UndyingError(f"{path} has a header and no row")
    return header, rows


def _number(row: Sequence[str], header: Sequence[str], name: str, path: Path, line: int) -> float:
    cell = row[header.index(name)].strip()
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        what = repr(cell) if cell else "empty"
        raise UndyingError(
            f"{path}, line {line}, column {name}: {what}; every cell must be a number: encode words as columns of 0 and 1, "
            "fill in or drop what is missing"
        )
    return value


def _in_order(words: set[str], path: Path, name: str) -> list[str]:
    """Numbers by size, else words by the alphabet."""
    if "" in words:
        raise UndyingError(f"{path}, column {name}: a class is empty; name it or drop the row")
    if len(words) > _MOST_CLASSES:
        raise UndyingError(f"{path}, column {name}: {len(words)} classes; for numbers add --task regression")
    try:
        return sorted(words, key=float)
    except ValueError:
        return sorted(words)
