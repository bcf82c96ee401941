"""The parts of a page that are other ones for trials: arms by their own measures, aggregates over seeds, settings, runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict

from undying._base.text import comma_separated, markdown
from undying.lab.statistics import interquartile_mean, probability_of_improvement
from undying.papers.analysis import ArmFinding, Findings, Seeds, TaskFinding
from undying.papers.page.cells import count, own_rate, points_of
from undying.papers.trial import Measure, Trial
from undying.papers.verdicts import FEWEST, estimate
from undying.report.words import MISSING


def arms(findings: Findings, task: TaskFinding, trial: Trial) -> str:
    """Each arm at the table's rate, and at its own best where there is a grid; and aggregates over the seeds."""
    score, baseline = trial.measures[0], next(iter(task.arms))
    published = {arm: findings.table.number(trial.name, arm, score.metric) for arm in task.arms}
    tuned = any(len(found.runs) > 1 for found in task.arms.values())
    head = ["arm", *(["published"] if any(published.values()) else []), "n", score.heading]
    head += [f"minus {baseline}, points", *(measure.heading for measure in trial.measures[1:])]
    head += ["own best rate", f"there: {score.heading}"] if tuned else []
    rows = [head]
    for arm, found in task.arms.items():
        runs, number = found.at(trial.lr), published[arm]
        row = [f"`{arm}`"]
        if any(published.values()):
            row.append(f"{score.factor * number.value:.2f}" if number else "")
        row += [count(runs), _mean(runs, score), "" if arm == baseline else points_of(task.difference(arm, baseline))]
        row += [_mean(runs, measure) for measure in trial.measures[1:]]
        row += _tuned(found, score) if tuned else []
        rows.append(row)
    told = [f"At rate {trial.lr:g}. Mean over the seeds with its 95 % interval."]
    if tuned:
        told.append(
            f"The own best rate is the one with the highest mean {findings.table.score} in what is held out for choices; a * "
            "marks the end of the grid, beyond which a better one may lie."
        )
    parts = [" ".join(told), markdown(rows), *_aggregates(findings, task, trial)]
    return "\n\n".join(parts)


def _tuned(found: ArmFinding, score: Measure) -> list[str]:
    return [own_rate(found), _mean(found.at(found.own_rate), score)] if len(found.runs) > 1 else ["", ""]


def _mean(runs: Seeds, measure: Measure) -> str:
    values = [measure.factor * run.of(measure.metric) for run in runs.values()]
    if not values or not all(map(math.isfinite, values)):
        return MISSING
    return estimate(values).in_words("{:.1f}".format)


def _aggregates(findings: Findings, task: TaskFinding, trial: Trial) -> list[str]:
    """Interquartile means, and how likely a run is to end above one of the baseline."""
    shown = [measure for measure in trial.measures if measure.metric in ("accuracy", "area", "online")]
    baseline, *_ = task.arms
    runs = {arm: list(found.at(trial.lr).values()) for arm, found in task.arms.items()}
    if len(runs[baseline]) < FEWEST:
        return []
    rows = [["arm"]]
    for measure in shown:
        rows[0] += [f"{measure.heading}: interquartile mean", f"chance to be above {baseline}'s, %"]
    for arm, of in runs.items():
        if len(of) >= FEWEST:
            row = [f"`{arm}`"]
            for measure in shown:
                own, other = ([run.of(measure.metric) for run in some] for some in (of, runs[baseline]))
                row.append(interquartile_mean([own]).in_words(_times(measure.factor)))
                row.append("" if arm == baseline else probability_of_improvement([own], [other]).in_words(_times(100)))
            rows.append(row)
    text = (
        f"Over the seeds at rate {trial.lr:g}, {findings.scale_name} scale: the mean of the middle half of the runs, and the "
        f"chance that a run of the arm ends above one of `{baseline}` (equal ones count half), each with its 95 % interval of "
        "the stratified bootstrap. Seeds are not paired here."
    )
    return [text, markdown(rows)]


def _times(factor: float) -> Callable[[float], str]:
    return lambda value: f"{factor * value:.1f}"


def settings(findings: Findings) -> str:
    """What the runs of each task have in common, in the words of their configs."""
    tasks = [found.task for found in findings.tasks.values() if isinstance(found.task, Trial)]
    configs = [asdict(task.template) for task in tasks]
    names = [name for name in dict.fromkeys(name for config in configs for name in config) if name not in _OWN]
    rows = [["setting", *(task.name for task in tasks)]]
    rows += [[name.replace("_", " "), *(_plain(config.get(name)) for config in configs)] for name in names]
    rows.append(["grid of rates", *(_rates(task) for task in tasks)])
    rows.append(["seeds", *(" ".join(map(str, findings.plan.seeds[task.name])) for task in tasks)])
    return markdown(rows)


_OWN = ("activation", "seed")
"""Of each run."""


def _plain(value: object) -> str:
    return MISSING if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _rates(task: Trial) -> str:
    rates = sorted({rate for arm in task.arms for rate in task.rates(arm)})
    tuned = ", ".join(f"`{arm}`" for arm in task.arms if len(task.rates(arm)) > 1)
    return f"{', '.join(f'{rate:g}' for rate in rates)}, of {tuned}" if len(rates) > 1 else "none"


def runs_table(findings: Findings) -> str:
    """A row a finished run, in the order in which they are run; what its task does not measure is empty."""
    tasks = {found.task.name: found.task for found in findings.tasks.values() if isinstance(found.task, Trial)}
    metrics = dict.fromkeys(("accuracy", "validation", "silent", "dead"))
    metrics |= dict.fromkeys(measure.metric for task in tasks.values() for measure in task.measures)
    named = ["score" if metric == "accuracy" else metric for metric in metrics]
    rows: list[Sequence[object]] = [["run", "task", "arm", "seed", "lr", "status", *named, "seconds", "weights_sha256"]]
    for o in findings.outcomes:
        most = {measure.metric: measure.most or 1 for measure in tasks[o.planned.task].measures}
        most = {"validation": most["accuracy"], "silent": 1, "dead": 1} | most
        cells = [_number(o.of(metric) * most[metric]) if metric in most else "" for metric in metrics]
        config = o.planned.config
        start = [o.id, o.planned.task, o.planned.arm, config.seed, config.lr, o.status]
        rows.append([*start, *cells, round(o.seconds, 1), o.weights])
    return comma_separated(rows)


def _number(value: float) -> str:
    return repr(value) if math.isfinite(value) else ""
