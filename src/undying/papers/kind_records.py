"""NAME.runs.csv of tasks with metrics of their own: their columns, and the curves that the page draws.

A metric with a unit, such as a return, is in that unit. Its decimals are those of the share times the unit, so that the very
same share is read back: a recorded run and one trained now are compared, and equal ones must stay equal. Curves are for
figures, and have six digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext

from undying._base.text import comma_separated
from undying.papers.plan import Plan, Planned
from undying.papers.results import RunResult
from undying.papers.rows import MACHINE, Row
from undying.papers.table import Task

LIBRARIES = ("gymnasium", "stable-baselines3")
"""Whose versions decide the numbers of some kinds of run."""
_FIELDS = ("accuracy", "validation", "silent", "dead")
"""What is told of every run, and is a field of a ``RunResult``; other metrics are among its ``values``."""


def columns(plan: Plan) -> tuple[str, ...]:
    """Those of the tasks of ``plan``."""
    start = ("run", "task", "arm", "seed", "lr", "status")
    return (
        *start,
        *("score" if name == "accuracy" else name for name in _metrics(plan)),
        "seconds",
        *map(_curve_column, _curves(plan)),
        "weights_sha256",  # behind them, so that a line cut off within a number is not taken for whole
        *MACHINE,
        *LIBRARIES,
    )


def records(plan: Plan, results: Sequence[RunResult]) -> str:
    """A row a finished run, in the order given. What its task does not measure is empty, and so are the curves of a run at
    another rate than the table's, of which no figure is drawn."""
    tasks = {task.name: task for task in plan.scale.tasks}
    rows: list[Sequence[object]] = [columns(plan)]
    for o in results:
        task, config = tasks[o.planned.task], o.planned.config
        units = _units(task)
        drawn = _drawn(task) if config.lr == task.lr else {}
        rows.append(
            [
                *(o.id, o.planned.task, o.planned.arm, config.seed, config.lr, o.status),
                *(_exact(o.of(name), units[name]) if name in units else "" for name in _metrics(plan)),
                round(o.seconds, 1),
                *(_listed(o.curves[name], drawn[name]) if name in drawn else "" for name in _curves(plan)),
                o.weights,
                *(o.environment.get(name, "") for name in (*MACHINE, *LIBRARIES)),
            ]
        )
    return comma_separated(rows)


def read(plan: Plan, planned: Planned, row: Row) -> RunResult:
    """What ``records`` wrote of a run.

    Raises:
        UndyingError: the row is damaged.
    """
    task = next(task for task in plan.scale.tasks if task.name == planned.task)

    def share(name: str) -> float:
        column = "score" if name == "accuracy" else name
        value = row.number(column) if name in ("accuracy", "validation") else row.known(column)
        return _over(row.cells[column], units[name]) if math.isfinite(value) else value

    units = _units(task)
    metrics = {name: share(name) for name in units}
    return RunResult(
        planned=planned,
        id=planned.config.id,
        status=row.status,
        accuracy=metrics.pop("accuracy"),
        validation=metrics.pop("validation"),
        silent=metrics.pop("silent"),
        dead=metrics.pop("dead"),
        sparsity=math.nan,
        seconds=row.number("seconds"),
        weights=row.weights,
        environment=row.environment(LIBRARIES),
        values=metrics,
        curves=_read_curves(task, row) if planned.config.lr == task.lr else {},
    )


def _read_curves(task: Task, row: Row) -> Mapping[str, tuple[float | None, ...]]:
    found: dict[str, tuple[float | None, ...]] = {}
    for name, unit in _drawn(task).items():
        column = _curve_column(name)
        values = row.numbers(column)
        if not values or len(values) != len(found.get("over", values)) or (name == "over" and None in values):
            raise row.damaged(column)
        found[name] = tuple(None if value is None else value / unit for value in values)
    return found


def _metrics(plan: Plan) -> tuple[str, ...]:
    """Of any of the tasks."""
    return tuple(dict.fromkeys((*_FIELDS, *(metric.metric for task in plan.scale.tasks for metric in task.metrics))))


def _curves(plan: Plan) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for task in plan.scale.tasks for name in _drawn(task)))


def _units(task: Task) -> dict[str, float]:
    """What a share of 1 stands for, by metric."""
    own = {metric.metric: metric.most or 1 for metric in task.metrics}
    return {"accuracy": 1, "validation": own["accuracy"], "silent": 1, "dead": 1} | own


def _drawn(task: Task) -> dict[str, float]:
    """The same by curve; the first is what they go over."""
    return {"over": 1.0} | {metric.metric: metric.most or 1 for metric in task.curves} if task.curves else {}


def _curve_column(name: str) -> str:
    return f"{name}_curve"


def _exact(share: float, unit: float) -> str:
    if not math.isfinite(share):
        return ""
    with localcontext() as context:
        context.prec = 60
        product = Decimal(repr(float(share))) * Decimal(repr(float(unit)))
    return f"{product.normalize():f}"


def _over(text: str, unit: float) -> float:
    with localcontext() as context:
        context.prec = 60
        return float(Decimal(text.strip()) / Decimal(repr(float(unit))))


def _listed(curve: Sequence[float | None], unit: float) -> str:
    """Spaces between, a - for what was not measured."""
    return " ".join("-" if value is None or not math.isfinite(value) else f"{value * unit:.6g}" for value in curve)
