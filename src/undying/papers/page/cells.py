"""What the pages of reproduced tables are put together of."""

from __future__ import annotations

import math
from collections.abc import Sequence

from undying.papers.analysis import ArmAnalysis, Seeds, TaskAnalysis
from undying.papers.table import LOGARITHMS, Table
from undying.report.words import MISSING, listed, signed
from undying.statistics.interval import Interval


def points_of(found: Interval | None) -> str:
    """A difference in percentage points, with its interval."""
    return found.in_words(lambda share: signed(100 * share)) if found else MISSING


def count(runs: Seeds) -> str:
    """How many runs, and how many of them diverged."""
    diverged = _diverged(runs)
    return f"{len(runs)}{f', {diverged} diverged' if diverged else ''}"


def divergences(task: TaskAnalysis) -> list[str]:
    """Which runs diverged, at all rates: a column has the count of the table's own alone."""
    told = [
        f"`{arm}` {diverged} of {len(runs)} at {rate:g}"
        for arm, found in task.arms.items()
        for rate, runs in found.runs.items()
        if (diverged := _diverged(runs))
    ]
    return [f"Diverged: {listed(told)}."] if told else []


def _diverged(runs: Seeds) -> int:
    return sum(run.status == "diverged" for run in runs.values())


def own_rate(found: ArmAnalysis) -> str:
    """The rate that an arm chose; a * marks the end of its grid, as far as that was run."""
    if len(found.runs) < 2:
        return ""
    if found.own_rate is None:
        return "open"
    run = [rate for rate, seeds in found.runs.items() if seeds]
    return f"{found.own_rate:g}{' *' if found.own_rate in (min(run), max(run)) else ''}"


def bullets(lines: Sequence[str]) -> str:
    """A list in markdown."""
    return "\n".join(f"* {line}" for line in lines)


def logarithms(table: Table) -> list[str]:
    """Those that the table makes claims of."""
    return [metric for metric in LOGARITHMS if any(claim.metric == metric for claim in table.claims)]


def difference(found: Interval | None, metric: str) -> str:
    """In points; of a norm or a curvature in per cent of the other's."""
    if found is None or metric not in LOGARITHMS:
        return points_of(found)
    return found.in_words(lambda logarithm: f"{signed(100 * math.expm1(logarithm))} %")
