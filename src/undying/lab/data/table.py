"""A table of numbers in a .csv file, a sample a row."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from undying._base.csv_files import Row, read_csv
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
    file = read_csv(path)
    wanted = list(columns) or file.header[-1:]
    unknown = [name for name in wanted if name not in file.header]
    if unknown:
        raise UndyingError(f"{path} has no column {unknown[0]!r}; it has {', '.join(file.header)}")
    if targets == "classes" and len(wanted) > 1:
        raise UndyingError(
            f"--columns {' '.join(wanted)}: a class is one column; for several labels add --task multilabel"
        )
    if len(set(wanted)) < len(wanted):
        raise UndyingError(f"--columns {' '.join(wanted)} names a column twice")
    features = [name for name in file.header if name not in wanted]
    if not features:
        raise UndyingError(f"{path} has no column beside {', '.join(wanted)} to learn from")
    x = torch.tensor([[_number(row, name) for name in features] for row in file.rows])
    names: tuple[str, ...] = ()
    if targets == "classes":
        words = [row.cells[wanted[0]] for row in file.rows]
        names = tuple(_in_order(set(words), path, wanted[0]))
        _check_classes(names, words, path, wanted[0])
        y = torch.tensor([names.index(word) for word in words])
    else:
        y = torch.tensor([[_number(row, name) for name in wanted] for row in file.rows])
    test = torch.tensor([hashlib.sha256(sample.numpy().tobytes()).digest()[0] < _TEST_BYTE for sample in x])
    if not bool(test.any()) or bool(test.all()):
        raise UndyingError(f"{path} has {len(file.rows)} rows, too few to test on a fifth of them")
    number = len(names) or y.shape[1]
    return Dataset(path.stem, x[~test], y[~test], x[test], y[test], number, names, targets=targets).checked()


def _check_classes(names: Sequence[str], words: Sequence[str], path: Path, column: str) -> None:
    """Numbers that are measured are taken for classes easily, and every run then ends with an accuracy of guessing."""
    for name in names:
        if _is_measured(name):
            raise UndyingError(
                f"{path}, column {column}: a class is {name}; for numbers that are measured add --task regression, and give "
                "classes whole numbers or words"
            )
    if len(names) > len(words) / 2:
        raise UndyingError(
            f"{path}, column {column}: {len(names)} classes in {len(words)} rows; for numbers that are measured add "
            "--task regression"
        )


def _is_measured(word: str) -> bool:
    try:
        return math.isfinite(float(word)) and not float(word).is_integer()
    except ValueError:
        return False


def _number(row: Row, name: str) -> float:
    cell = row.cells[name]
    try:
        value = math.nan if "_" in cell else float(cell)  # Python takes one between digits
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        what = repr(cell) if cell else "empty"
        raise UndyingError(
            f"{row.place}, column {name}: {what}; every cell must be a number: encode words as columns of 0 and 1, "
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
