"""NAME.runs.csv: a row a run, with all that a page of accuracies tells of it, so that the page can be made from it again."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from undying._base.errors import UndyingError
from undying._base.text import comma_separated
from undying.papers.plan import Plan, Planned
from undying.papers.results import RunResult
from undying.papers.table import Table

MACHINE = ("processor", "instructions", "kernels", "cores", "python", "torch", "threads", "undying")
"""Of a run's environment."""
_LATER = ("instructions", "kernels")
"""Of these, what runs of early versions do not tell."""

COLUMNS = (
    "run",
    "task",
    "arm",
    "seed",
    "lr",
    "status",
    "test_accuracy",
    "validation_accuracy",
    "silent",
    "dead",
    "sparsity",
    "gradient_norm",
    "update_norm",
    "curvature",
    "seconds",
    "weights_sha256",
    *MACHINE,
)


def records(results: Sequence[RunResult]) -> str:
    """A row a run, in the order given; what is not known is empty."""
    rows: list[Sequence[object]] = [COLUMNS]
    for o in results:
        config = o.planned.config
        rows.append(
            [
                o.id,
                o.planned.task,
                o.planned.arm,
                config.seed,
                config.lr,
                o.status,
                o.accuracy,
                o.validation,
                *("" if math.isnan(share) else share for share in (o.silent, o.dead, o.sparsity)),
                *(math.exp(value) if math.isfinite(value) else "" for value in (o.gradient, o.update, o.curvature)),
                round(o.seconds, 1),
                o.weights,
                *(o.environment.get(name, "") for name in MACHINE),
            ]
        )
    return comma_separated(rows)


def read_records(table: Table, plan: Plan, path: Path) -> tuple[RunResult, ...]:
    """What ``records`` wrote of the runs of ``plan``, in the plan's order. Other runs, such as those of seeds that are not
    asked for, are left out.

    Raises:
        UndyingError: the file cannot be read or has no run of the plan, or the page of ``table`` shows more than it tells.
    """
    if table.shows or any(task.metrics for task in plan.scale.tasks):
        raise UndyingError(
            f"--recorded is for tables of accuracies: the page of {table.name} shows more of its runs than {path} tells; "
            "keep their --out to resume them"
        )
    rows = _rows(path)
    found = [_run_result(planned, path, *rows[planned.config.id]) for planned in plan.runs if planned.config.id in rows]
    if not found:
        raise UndyingError(
            f"--recorded {path} has no run of {table.name} with this --scale, these data and seeds; give the "
            f"{table.name}.runs.csv beside such a page"
        )
    return tuple(found)


def _rows(path: Path) -> dict[str, tuple[int, Mapping[str, str]]]:
    """Run -> the last of its lines, and its cells."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, restval="", strict=True)
            columns = reader.fieldnames or ()
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UndyingError(f"cannot read {path}: {error}") from None
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise UndyingError(f"{path} has no column {missing[0]}; give a NAME.runs.csv that undying reproduce wrote")
    found: dict[str, tuple[int, Mapping[str, str]]] = {}
    for line, row in rows:
        if row["run"] in found:
            raise UndyingError(f"{path}, line {line}: run {row['run']} a second time; delete one of its two lines")
        found[row["run"]] = line, row
    return found


def _run_result(planned: Planned, path: Path, line: int, row: Mapping[str, str]) -> RunResult:
    def damaged(column: str) -> UndyingError:
        return UndyingError(f"{path}, line {line}: {row[column]!r} in {column}; delete the line to train the run again")

    def number(column: str) -> float:
        try:
            value = float(row[column])
        except ValueError:
            raise damaged(column) from None
        if not math.isfinite(value):
            raise damaged(column)
        return value

    def known(column: str) -> float:
        return number(column) if row[column] else math.nan

    if row["status"] not in ("finished", "diverged"):
        raise damaged("status")
    if len(row["weights_sha256"]) != 64:
        raise damaged("weights_sha256")
    return RunResult(
        planned=planned,
        id=planned.config.id,
        status=row["status"],
        accuracy=number("test_accuracy"),
        validation=number("validation_accuracy"),
        silent=known("silent"),
        dead=known("dead"),
        sparsity=known("sparsity"),
        seconds=number("seconds"),
        weights=row["weights_sha256"],
        environment={name: row[name] for name in MACHINE if row[name] or name not in _LATER},
        gradient=_log(known("gradient_norm")),
        update=_log(known("update_norm")),
        curvature=_log(known("curvature")),
    )


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan
