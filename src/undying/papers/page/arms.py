"""A row an arm: what its runs ended with."""

from __future__ import annotations

import math

from undying._base.text import markdown
from undying.papers.analysis import Analysis, Seeds, TaskAnalysis
from undying.papers.page import metrics
from undying.papers.page.cells import count, logarithms, own_rate, points_of
from undying.papers.table import METRICS, Published
from undying.papers.verdicts import estimate
from undying.report.words import MISSING


def arms(analysis: Analysis, task: TaskAnalysis) -> str:
    """Each arm at the table's rate, and at its own best where there is a grid."""
    if task.task.metrics:
        return metrics.arms(analysis, task)
    lr = f"{task.task.lr:g}"
    tuned = [arm for arm in task.arms.values() if len(arm.runs) > 1]
    baseline = next(iter(task.arms))
    head = ["arm", "published, %", f"accuracy at {lr}, %", "n", f"minus {baseline}, points", "silent, %", "dead, %"]
    head += ["exactly 0, %"]
    norms = logarithms(analysis.table)
    head += [METRICS[metric] for metric in norms]
    head += ["own best rate", "accuracy there, %"] if tuned else []
    rows = [tuple(head)]
    for arm, found in task.arms.items():
        runs = found.at(task.task.lr)
        row = [
            f"`{arm}`",
            _published(analysis, task.task.name, arm),
            _shares(runs, "accuracy"),
            count(runs),
            "" if arm == baseline else points_of(task.difference(arm, baseline)),
            *(_shares(runs, metric, plain=True) for metric in ("silent", "dead", "sparsity")),
            *(_geometric(runs, metric) for metric in norms),
        ]
        row += (
            [own_rate(found), _shares(found.at(found.own_rate), "accuracy") if len(found.runs) > 1 else ""]
            if tuned
            else []
        )
        rows.append(tuple(row))
    text = (
        "Test accuracy after the last epoch, mean over the seeds with its 95 % interval; silent and dead units are shares "
        "of all units, exactly 0 of all outputs."
    )
    if tuned:
        text += (
            " The own best rate is the one with the highest mean accuracy on the data held out for validation; a * marks "
            "the end of the grid, beyond which a better one may lie."
        )
    if norms:
        text += f" The {' and the '.join(METRICS[metric] for metric in norms)}: geometric mean over the seeds."
    notes = {p.note for arm in task.arms if (p := analysis.table.number(task.task.name, arm, "accuracy")) and p.note}
    text += "".join(f" Published: {note}." for note in sorted(notes))
    return f"{text}\n\n{markdown(rows)}"


def _published(analysis: Analysis, task: str, arm: str) -> str:
    accuracy, dead = (analysis.table.number(task, arm, metric) for metric in ("accuracy", "dead"))
    told = [f"{_hundredths(accuracy)}{' (see above)' if accuracy.note else ''}"] if accuracy else []
    return ", ".join([*told, *([f"dead {_hundredths(dead)}"] if dead else [])])


def _hundredths(number: Published) -> str:
    return f"{100 * number.value:.2f}"


def _shares(runs: Seeds, metric: str, *, plain: bool = False) -> str:
    if not runs:
        return MISSING
    found = estimate([100 * getattr(run, metric) for run in runs.values()])
    return f"{found.value:.1f}" if plain else found.in_words("{:.1f}".format)


def _geometric(runs: Seeds, metric: str) -> str:
    values = [value for run in runs.values() if math.isfinite(value := getattr(run, metric))]
    return f"{math.exp(sum(values) / len(values)):.3g}" if values else MISSING
