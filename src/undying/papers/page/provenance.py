"""The settings of a table's runs, their index, and how to make one of them again."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence

from undying._base.text import duration, markdown
from undying.papers.analysis import Analysis
from undying.papers.results import RunResult
from undying.report.words import MISSING


def settings(analysis: Analysis) -> str:
    """A column a task."""
    plan = analysis.plan
    columns = {
        task.name: task.settings(
            plan.datasets[task.data].describe() if task.data in plan.datasets else {}, plan.seeds[task.name]
        )
        for task in plan.scale.tasks
    }
    labels = dict.fromkeys(label for column in columns.values() for label in column)
    rows = [("setting", *columns)]
    rows += [(label, *(column.get(label) or MISSING for column in columns.values())) for label in labels]
    return markdown(rows)


def runs(analysis: Analysis, seeds: Sequence[int]) -> str:
    """How the page is made, and one run of it; on what machine they ran, and for how long."""
    name = analysis.table.name
    words = ["undying", "reproduce", name, "--scale", analysis.scale_name]
    again = [*words, *(["--seeds", *map(str, seeds)] if seeds else [])]
    first = analysis.results[0].id if analysis.results else "ID"
    parts = [
        f"    {shlex.join(again)}",
        f"makes this page; stopped, it goes on from there. [{name}.runs.csv]({name}.runs.csv) has a row a run: a number "
        "above is the mean over the rows with its task, arm and rate (lr). One run again, here the first of them:",
        f"    {shlex.join([*again, '--run', first, '--out', 'again'])}",
        "On the same processor, with the same torch and kernels, it ends with the weights_sha256 of its row; another "
        "rounds otherwise.",
    ]
    parts += _machines(analysis.results)
    seconds = {run.id: run.seconds for run in analysis.results}
    parts.append(f"The runs took {duration(sum(seconds.values()))} in all, on one core each.")
    return "\n\n".join(parts)


def _machines(results: Sequence[RunResult]) -> list[str]:
    """A line for each, with how many runs are of it if there are several."""
    found = Counter(_machine(o.environment) for o in results)
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
