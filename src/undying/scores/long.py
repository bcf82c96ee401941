"""A table of a row a number: arm, seed, metric, value and, where there are curves, step."""

from __future__ import annotations

from undying._base.csv_files import CsvFile
from undying._base.errors import UndyingError
from undying.scores.reading import Reading
from undying.scores.value import Value, number_of, seed_of, step_of

COLUMNS = ("arm", "seed", "metric", "value")


def is_long(file: CsvFile) -> bool:
    """Whether it has the columns."""
    return set(COLUMNS) <= set(file.header)


def read_long(file: CsvFile, reading: Reading) -> list[Value]:
    """
    Raises:
        UndyingError: a cell is empty or no number; its line is named.
    """
    values = []
    for row in file.rows:
        cells, place = row.cells, row.place
        empty = next((name for name in COLUMNS if not cells[name]), None)
        if empty is not None:
            raise UndyingError(f"{place}: {empty} is empty; fill it in or remove the row")
        if reading.metric and cells["metric"] not in reading.metric:
            continue
        step = cells.get("step", "")
        values.append(
            Value(
                arm=cells["arm"],
                seed=seed_of(cells["seed"], place),
                metric=cells["metric"],
                value=number_of(cells["value"], "value", place),
                step=step_of(step, place) if step else None,
                place=place,
            )
        )
    return values


def not_read(file: CsvFile) -> list[str]:
    """Its other columns."""
    return [name for name in file.header if name not in (*COLUMNS, "step")]
