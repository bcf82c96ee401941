"""NAME.runs.csv: a row a run, with all that a page tells of it, so that the page can be made from it again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from undying._base.errors import UndyingError
from undying._base.text import comma_separated
from undying.papers import kind_records
from undying.papers.plan import Plan, Planned
from undying.papers.results import RunResult
from undying.papers.rows import MACHINE, Row, read_rows
from undying.papers.table import Table

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
"""Of a table of accuracies; those of tasks with metrics of their own are in ``kind_records``."""


def records(plan: Plan, results: Sequence[RunResult]) -> str:
    """A row a run of ``plan``, in the order given; what is not known is empty."""
    if _of_kinds(plan):
        return kind_records.records(plan, results)
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
    if table.shows:
        raise UndyingError(
            f"--recorded cannot make the page of {table.name}, which shows more of its runs than {path} tells; "
            "keep their --out to resume them"
        )
    if _of_kinds(plan):
        columns = kind_records.columns(plan)
        lacking = "one of an earlier version cannot serve: keep the --out of its runs to resume them"
    else:
        columns, lacking = COLUMNS, "give a NAME.runs.csv that undying reproduce wrote"
    rows = read_rows(path, columns, lacking)
    read = (lambda planned, row: kind_records.read(plan, planned, row)) if _of_kinds(plan) else _run_result
    found = [read(planned, rows[planned.config.id]) for planned in plan.runs if planned.config.id in rows]
    if not found:
        raise UndyingError(
            f"--recorded {path} has no run of {table.name} with this --scale, these data and seeds; give the "
            f"{table.name}.runs.csv beside such a page"
        )
    return tuple(found)


def _of_kinds(plan: Plan) -> bool:
    return any(task.metrics for task in plan.scale.tasks)


def _run_result(planned: Planned, row: Row) -> RunResult:
    return RunResult(
        planned=planned,
        id=planned.config.id,
        status=row.status,
        accuracy=row.number("test_accuracy"),
        validation=row.number("validation_accuracy"),
        silent=row.known("silent"),
        dead=row.known("dead"),
        sparsity=row.known("sparsity"),
        seconds=row.number("seconds"),
        weights=row.weights,
        environment=row.environment(),
        gradient=_log(row.known("gradient_norm")),
        update=_log(row.known("update_norm")),
        curvature=_log(row.known("curvature")),
    )


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan
