"""The parts of a page that are other ones for tasks with metrics of their own: arms, aggregates over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from undying._base.text import markdown
from undying.papers.analysis import Analysis, ArmAnalysis, Seeds, TaskAnalysis
from undying.papers.page.cells import count, own_rate, points_of
from undying.papers.table import Metric
from undying.papers.verdicts import FEWEST, estimate
from undying.report.words import MISSING
from undying.statistics.aggregates import interquartile_mean, probability_of_improvement


def arms(analysis: Analysis, task: TaskAnalysis) -> str:
    """Each arm at the table's rate, and at its own best where there is a grid; and aggregates over the seeds."""
    lr, (score, *others), baseline = task.task.lr, task.task.metrics, next(iter(task.arms))
    published = {arm: analysis.table.number(task.task.name, arm, score.metric) for arm in task.arms}
    tuned = any(len(found.runs) > 1 for found in task.arms.values())
    head = ["arm", *(["published"] if any(published.values()) else []), "n", score.heading]
    head += [f"minus {baseline}, points", *(metric.heading for metric in others)]
    at_best = [score, *(metric for metric in others if metric.metric == "recovered")]
    head += ["own best rate", *(f"there: {metric.heading}" for metric in at_best)] if tuned else []
    rows = [head]
    for arm, found in task.arms.items():
        runs, number = found.at(lr), published[arm]
        row = [f"`{arm}`"]
        if any(published.values()):
            row.append(f"{score.factor * number.value:.2f}" if number else "")
        row += [count(runs), mean_of(runs, score), "" if arm == baseline else points_of(task.difference(arm, baseline))]
        row += [mean_of(runs, metric) for metric in others]
        row += _tuned(found, at_best) if tuned else []
        rows.append(row)
    told = [f"At rate {lr:g}. Mean over the seeds with its 95 % interval."]
    if tuned:
        told.append(
            f"The own best rate is the one with the highest mean {analysis.table.score} in what is held out for choices; a * "
            "marks the end of the grid, beyond which a better one may lie."
        )
    parts = [" ".join(told), markdown(rows), *_aggregates(analysis, task)]
    return "\n\n".join(parts)


def _tuned(found: ArmAnalysis, metrics: Sequence[Metric]) -> list[str]:
    if len(found.runs) == 1:
        return [""] * (1 + len(metrics))
    return [own_rate(found), *(mean_of(found.at(found.own_rate), metric) for metric in metrics)]


def mean_of(runs: Seeds, metric: Metric) -> str:
    """With its 95 % interval."""
    values = [metric.factor * run.of(metric.metric) for run in runs.values()]
    if not values or not all(map(math.isfinite, values)):
        return MISSING
    return estimate(values).in_words(f"{{:.{metric.places}f}}".format)


def _aggregates(analysis: Analysis, task: TaskAnalysis) -> list[str]:
    """Interquartile means, and how likely a run is to end above one of the baseline."""
    shown = [metric for metric in task.task.metrics if metric.metric in ("accuracy", "area", "online")]
    baseline, *_ = task.arms
    runs = {arm: list(found.at(task.task.lr).values()) for arm, found in task.arms.items()}
    if len(runs[baseline]) < FEWEST:
        return []
    rows = [["arm"]]
    for metric in shown:
        rows[0] += [f"{metric.heading}: interquartile mean", f"chance to be above {baseline}'s, %"]
    for arm, of in runs.items():
        if len(of) >= FEWEST:
            row = [f"`{arm}`"]
            for metric in shown:
                own, other = ([run.of(metric.metric) for run in some] for some in (of, runs[baseline]))
                known, both = (all(map(math.isfinite, some)) for some in (own, [*own, *other]))
                chance = "" if arm == baseline else MISSING
                if both and arm != baseline:
                    chance = probability_of_improvement([own], [other]).in_words(_times(100))
                row += [interquartile_mean([own]).in_words(_times(metric.factor)) if known else MISSING, chance]
            rows.append(row)
    text = (
        f"Over the seeds at rate {task.task.lr:g}, {analysis.scale_name} scale: the mean of the middle half of the runs, and the "
        f"chance that a run of the arm ends above one of `{baseline}` (equal ones count half), each with its 95 % interval of "
        "the stratified bootstrap. Seeds are not paired here."
    )
    return [text, markdown(rows)]


def _times(factor: float) -> Callable[[float], str]:
    return lambda value: f"{factor * value:.1f}"
