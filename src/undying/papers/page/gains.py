"""What remains of a gain under the controls, and with each arm at its own best rate."""

from __future__ import annotations

from undying._base.text import markdown
from undying.papers.analysis import Analysis, GainAnalysis, Remainder, TaskAnalysis
from undying.papers.page.cells import bullets, points_of
from undying.report.words import MINUS, MISSING


def gains(analysis: Analysis) -> str:
    """A table a gain."""
    parts = [
        "B-SiLU's derivative is above 1 over most of (0, 4), so that SUGAR with it also takes larger steps. Here is each "
        f"gain in {analysis.table.score} again with every arm at its own best rate, and with what isolates the cause. The share is of "
        "the gain at the table's rate, and is left out unless that gain is above 0 by its interval."
    ]
    for found in analysis.gains:
        gain = found.gain
        rows = [("arm", "rate", "gain, points (95 % interval)", "n", "share that remains")]
        rows += [
            (
                f"`{row.arm}`",
                _gain_rate(analysis.tasks[gain.task], row, gain.against),
                points_of(row.difference),
                str(row.difference.n),
                _share(row.share),
            )
            for row in found.rows
        ]
        parts += [f"{gain.task}: `{gain.arm}` over `{gain.against}`", markdown(rows)]
        parts += _explained(found)
    return "\n\n".join(parts)


def _gain_rate(task: TaskAnalysis, row: Remainder, against: str) -> str:
    if not row.own_rates:
        return f"{task.task.lr:g}"
    return f"own best: {task.arms[row.arm].own_rate:g} against {task.arms[against].own_rate:g}"


def _share(share: float | None) -> str:
    return MISSING if share is None else f"{round(100 * share)} %".replace("-", MINUS)


def _explained(found: GainAnalysis) -> list[str]:
    shown = {row.arm for row in found.rows}
    told = [f"`{arm}`: {what}." for arm, what in found.gain.controls.items() if arm in shown]
    return [bullets(told)] if told else []
