"""The settings of a table's runs, their index, and how to make one of them again."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence

from undying._base.text import duration, markdown
from undying.lab.recipe import Recipe
from undying.papers.analysis import Findings
from undying.papers.page import trials
from undying.papers.records import records
from undying.papers.results import Outcome
from undying.papers.table import Task
from undying.papers.trial import only_trials
from undying.report.words import MISSING


def settings(findings: Findings) -> str:
    """A column a task."""
    tasks = [found.task for found in findings.tasks.values()]
    if only_trials(tasks):
        return trials.settings(findings)
    lines: list[tuple[str, ...]] = [("setting", *(task.name for task in tasks))]
    for label, values in (
        ("network", [task.model for task in tasks]),
        ("data", [_data(findings, task) for task in tasks]),
        ("trained on", [f"{_trained(findings, task):,} samples" for task in tasks]),
        ("seeds", [" ".join(map(str, findings.plan.seeds[task.name])) for task in tasks]),
        ("epochs", [str(task.epochs) for task in tasks]),
        ("batch", [str(task.batch_size) for task in tasks]),
        ("optimizer", [f"{task.optimizer} at {task.lr:g}" for task in tasks]),
        ("grid of rates", [_grid(task) for task in tasks]),
        ("arms with the grid", [", ".join(f"`{a}`" for a in task.arms if len(task.rates(a)) > 1) for task in tasks]),
        ("beside defaults", [_recipe(task.recipe) for task in tasks]),
    ):
        lines.append((label, *(value or MISSING for value in values)))
    return markdown(lines)


def _data(findings: Findings, task: Task) -> str:
    described = findings.plan.datasets[task.data].describe()
    return f"{described['name']}, {described['test']:,} to test, hash {described['sha256'][:12]}"


def _trained(findings: Findings, task: Task) -> int:
    number: int = task.recipe.subset or findings.plan.datasets[task.data].describe()["train"]
    return number - round(task.recipe.validation * number)


def _grid(task: Task) -> str:
    rates = sorted({rate for arm in task.arms for rate in task.rates(arm)})
    return ", ".join(f"{rate:g}" for rate in rates) if len(rates) > 1 else "none"


def _recipe(recipe: Recipe) -> str:
    plain = Recipe()
    changed = {name: value for name, value in vars(recipe).items() if value != getattr(plain, name)}
    return ", ".join(
        f"{name.replace('_', ' ')} {' '.join(value) if isinstance(value, tuple) else value}"
        for name, value in changed.items()
    )


def runs_table(findings: Findings) -> str:
    """A row a finished run, in the order in which they are run."""
    if only_trials(found.task for found in findings.tasks.values()):
        return trials.runs_table(findings)
    return records(findings.outcomes)


def runs(findings: Findings, seeds: Sequence[int]) -> str:
    """How the page is made, and one run of it; on what machine they ran, and for how long."""
    name = findings.table.name
    words = ["undying", "reproduce", name, "--scale", findings.scale_name]
    again = [*words, *(["--seeds", *map(str, seeds)] if seeds else [])]
    first = findings.outcomes[0].id if findings.outcomes else "ID"
    parts = [
        f"    {shlex.join(again)}",
        f"makes this page; stopped, it goes on from there. [{name}.runs.csv]({name}.runs.csv) has a row a run: a number "
        "above is the mean over the rows with its task, arm and rate (lr). One run again, here the first of them:",
        f"    {shlex.join([*again, '--run', first, '--out', 'again'])}",
        "On a CPU with the same instructions, with the same torch and kernels, it ends with the weights_sha256 of its row.",
    ]
    parts += _machines(findings.outcomes)
    seconds = {run.id: run.seconds for run in findings.outcomes}
    parts.append(f"The runs took {duration(sum(seconds.values()))} in all, on one core each.")
    return "\n\n".join(parts)


def _machines(outcomes: Sequence[Outcome]) -> list[str]:
    """A line for each, with how many runs are of it if there are several."""
    found = Counter(_machine(o.environment) for o in outcomes)
    if len(found) == 1:
        return [f"Machine: {machine}." for machine in found]
    return [f"Machine of {count} run{'s' * (count > 1)}: {machine}." for machine, count in found.items()]


def _machine(environment: Mapping[str, str]) -> str:
    # Runs of early versions do not tell these.
    instructions = f", {environment['instructions']}" if environment.get("instructions") else ""
    kernels = f", native kernels: {environment['kernels']}" if environment.get("kernels") else ""
    libraries = [f", {name} {environment[name]}" for name in ("gymnasium", "stable-baselines3") if name in environment]
    return (
        f"{environment['processor']}, {environment['cores']} cores{instructions}{kernels}; Python {environment['python']}, torch "
        f"{environment['torch']} with {environment['threads']} thread a run{''.join(libraries)}, undying "
        f"{environment['undying']}"
    )
