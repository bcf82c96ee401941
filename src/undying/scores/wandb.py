"""CSV files that W&B writes: a chart's, with a column a run, and a table of runs, with a row a run."""

from __future__ import annotations

import ast
from typing import Any

from undying._base.csv_files import CsvFile, Row
from undying._base.errors import UndyingError
from undying.scores.reading import Reading
from undying.scores.value import Value, number_of, seed_of, step_of

_ENDS = ("__MIN", "__MAX")
_NAMES = ("Name", "name")
_FINISHED = ("", "finished")


def is_chart(file: CsvFile) -> bool:
    """Whether it is a chart's: ``Step, relu-seed0 - loss, relu-seed0 - loss__MIN, ...``."""
    return len(file.header) > 1 and all(" - " in name for name in file.header[1:])


def read_chart(file: CsvFile, reading: Reading) -> list[Value]:
    """A chart's file: the first column is the step.

    Raises:
        UndyingError: a run's name does not tell its arm and seed, or a column holds means over several runs or steps.
    """
    columns = [(name, *name.rpartition(" - ")[::2]) for name in file.header[1:] if not name.endswith(_ENDS)]
    chosen = reading.chosen((metric for _, _, metric in columns if not metric.startswith("_")), str(file.path))
    values = []
    for column, run, metric in columns:
        if metric not in chosen:
            continue
        arm, seed = reading.run(run, f"{file.path}, column {column!r}")
        found = [row for row in file.rows if row.cells[column]]
        if not found:
            raise UndyingError(f"{file.path}: column {column!r} has no value; remove the run from the chart")
        _check_single(found[-1], column)
        values += [
            Value(arm, seed, metric, number_of(row.cells[column], column, row.place), _step(row, file), row.place)
            for row in found
        ]
    return values


def _step(row: Row, file: CsvFile) -> float:
    return step_of(row.cells[file.header[0]], row.place)


def _check_single(row: Row, column: str) -> None:
    """The ends beside a value differ from it where it stands for several: a group of runs, or steps brought together."""
    value, *ends = (row.cells.get(f"{column}{end}", "") for end in ("", *_ENDS))
    if any(end and number_of(end, column, row.place) != number_of(value, column, row.place) for end in ends):
        raise UndyingError(
            f"{row.place}: column {column!r} holds a mean of values from {ends[0]} to {ends[1]}, of several runs or steps; "
            "export it without grouping, or each run's last value as a table of runs"
        )


def is_table(file: CsvFile, reading: Reading) -> bool:
    """Whether it is a table of runs: of the app, or of the API as W&B's own example writes it."""
    return _is_nested(file) or any(name in file.header for name in (*_NAMES, *_columns("arm", reading)))


def read_table(file: CsvFile, reading: Reading) -> tuple[list[Value], list[str]]:
    """The summary of each run, and what was left out of it, in words.

    Raises:
        UndyingError: a run's arm or seed is not told, or a metric is no number.
    """
    rows = [(row, _flat(row) if _is_nested(file) else row.cells) for row in file.rows]
    if _is_nested(file):
        found = [name for row in file.rows for name in _dictionary(row, "summary") if not name.startswith("_")]
    else:
        told = {"", "State", "state", *_NAMES, *_columns("arm", reading), *_columns("seed", reading)}
        found = [name for name in file.header if name not in told]
    chosen = reading.chosen(found, str(file.path))
    values, left_out = [], []
    for row, cells in rows:
        state = cells.get("State", cells.get("state", ""))
        if state not in _FINISHED:
            left_out.append(f"{row.place}: the run {_name(cells)!r} is left out; its state is {state}")
            continue
        arm, seed = _run(cells, row.place, reading)
        for metric in chosen:
            if cells.get(metric, "") == "":
                continue  # who lacks what is told over all files
            values.append(Value(arm, seed, metric, number_of(cells[metric], metric, row.place), None, row.place))
    return values, left_out


def _is_nested(file: CsvFile) -> bool:
    return {"summary", "config", "name"} <= set(file.header)


def _columns(what: str, reading: Reading) -> tuple[str, ...]:
    """Where the arm or the seed may stand."""
    own: str = getattr(reading, f"{what}_column")
    return (own,) if own else {"arm": ("arm", "activation"), "seed": ("seed",)}[what]


def _run(cells: dict[str, str], place: str, reading: Reading) -> tuple[str, int]:
    """By its columns, or by its name if one of them is not there."""
    arm, seed = (
        next((cells[column] for column in _columns(what, reading) if cells.get(column)), None)
        for what in ("arm", "seed")
    )
    if arm is not None and seed is not None:
        return arm, seed_of(seed, place)
    for what, found in (("arm", arm), ("seed", seed)):
        asked = getattr(reading, f"{what}_column")
        if found is None and asked:
            raise UndyingError(f"{place}: --{what}-column {asked!r} is not there or empty; columns: {', '.join(cells)}")
    if not _name(cells):
        raise UndyingError(
            f"{place}: neither columns nor a name tell arm and seed; name them with --arm-column and --seed-column: "
            f"{', '.join(cells)}"
        )
    named = reading.run(_name(cells), place)
    return (arm or named[0]), (named[1] if seed is None else seed_of(seed, place))


def _name(cells: dict[str, str]) -> str:
    return next((cells[name] for name in _NAMES if cells.get(name)), "")


def _flat(row: Row) -> dict[str, str]:
    """The cells of a row whose config and summary are dictionaries as Python writes them."""
    config, summary = _dictionary(row, "config"), _dictionary(row, "summary")
    return {**{key: str(value) for part in (config, summary) for key, value in part.items()}, "name": row.cells["name"]}


def _dictionary(row: Row, column: str) -> dict[str, Any]:
    try:
        found = ast.literal_eval(row.cells[column])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UndyingError(
            f"{row.place}: {column} is no dictionary of plain values; write a column for each of its keys"
        )
    return found
