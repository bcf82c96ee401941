"""The page of a reproduced table, in markdown, with its figures and the index of its runs."""

from __future__ import annotations

import csv
import io
import math
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from undying.files import write_text
from undying.lab.recipe import Recipe
from undying.lab.reproduce.details import KINDS, Detail, Landscapes, Norms, Profile
from undying.lab.reproduce.findings import (
    ClaimFinding,
    Findings,
    GainFinding,
    Remainder,
    Seeds,
    TaskFinding,
)
from undying.lab.reproduce.table import LOGARITHMS, METRICS, Claim, Published, Table, Task
from undying.lab.reproduce.trial import Trial, only_trials
from undying.lab.reproduce.verdicts import FEWEST, LEVEL, MARGIN, Estimate, estimate
from undying.report import trials
from undying.report.cells import bullets, count, own_rate, points_of
from undying.report.formats import MISSING, signed
from undying.report.reproduce_figures import draw
from undying.text import duration, markdown

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
)


def write_page(findings: Findings, out: Path, seeds: Sequence[int] = ()) -> Path:
    """Write ``<name>.md``, its figures and ``<name>.runs.csv`` into ``out``, each whole or not at all, the page last.

    Args:
        findings: what to write.
        out: a folder.
        seeds: the ``--seeds`` that were asked for, for the command on the page.

    Returns:
        the path of the page.

    Raises:
        OSError: a file cannot be written.
    """
    name = findings.table.name
    figures = draw(findings)
    texts = {file: svg for file, (svg, _) in figures.items()}
    texts[f"{name}.runs.csv"] = runs_table(findings)
    texts[f"{name}.md"] = page(findings, {file: alt for file, (_, alt) in figures.items()}, seeds)
    out.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        write_text(out / file, text)
    return out / f"{name}.md"


def runs_table(findings: Findings) -> str:
    """A row a finished run, in the order in which they are run."""
    if only_trials(found.task for found in findings.tasks.values()):
        return trials.runs_table(findings)
    stream = io.StringIO()
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(COLUMNS)
    for o in findings.outcomes:
        config = o.planned.config
        rows.writerow(
            [
                o.id,
                o.planned.task,
                o.planned.arm,
                config.seed,
                config.lr,
                o.status,
                o.accuracy,
                o.validation,
                o.silent,
                o.dead,
                o.sparsity,
                *(math.exp(value) if math.isfinite(value) else "" for value in (o.gradient, o.update, o.curvature)),
                round(o.seconds, 1),
                o.weights,
            ]
        )
    return stream.getvalue()


def page(findings: Findings, figures: dict[str, str], seeds: Sequence[int] = ()) -> str:
    """The page; ``figures`` are file name -> description."""
    table = findings.table
    parts = [
        f"# {table.name}: {findings.scale_name} scale",
        _progress(findings),
        f"The source says: {table.says}. ({table.source}.)" if table.given else f"Our own table: {table.says}.",
        f"## Claims, {findings.scale_name} scale",
        _claims(findings),
    ]
    for name, task in findings.tasks.items():
        parts += [f"## {_heading(task.task)}, {findings.scale_name} scale", _arms(findings, task)]
        parts += [f"![{alt}]({file})" for file, alt in figures.items() if file.startswith(f"{table.name}.{name}.")]
        parts += [told for detail in findings.details if detail.task.name == name for told in _detail(detail)]
    if findings.gains:
        parts += [f"## What remains of the gain, {findings.scale_name} scale", _gains(findings)]
    parts += [
        f"## Settings, {findings.scale_name} scale",
        _settings(findings),
        *([f"Given by the source: {'; '.join(table.given)}."] if table.given else []),
        "Our choice, since the source as we have it does not say:" if table.given else "What each case is:",
        bullets(table.chosen),
        f"## What {findings.scale_name} scale cannot answer",
        bullets(findings.plan.scale.limits),
        "## How a verdict comes about",
        _rules(findings),
        "## The runs",
        _runs(findings, seeds),
    ]
    return "\n\n".join(parts) + "\n"


def _progress(findings: Findings) -> str:
    done, planned = len(findings.outcomes), len(findings.plan.runs)
    if done == planned:
        return f"All {planned} runs of the table at {findings.scale_name} scale."
    return (
        f"**Unfinished: {done} of {planned} runs.** What follows is of those; numbers and verdicts can change when the "
        f"others are in. The scale is {findings.scale_name}."
    )


# Claims


def _claims(findings: Findings) -> str:
    rows = [("claim", "where", "published", "ours, points (95 % interval)", "n", "verdict")]
    rows += [
        (
            found.claim.text,
            found.claim.task,
            _claimed(findings, found.claim),
            _difference(found.difference, found.claim.metric),
            str(found.difference.n) if found.difference else "0",
            f"**{found.verdict}**",
        )
        for found in findings.claims
    ]
    count = Counter(found.verdict for found in findings.claims)
    said = ", ".join(f"{number} {verdict}" for verdict, number in count.items())
    reasons = [_by_construction(found) for found in findings.claims if found.claim.by_construction]
    reasons += [
        f"{found.claim.text}, {found.claim.task}: cannot be told, since `{found.claim.against}` itself has less than one "
        "point, which leaves nothing to lower."
        for found in findings.claims
        if found.nothing_to_lower and not found.claim.by_construction
    ]
    intro = (
        f"{len(findings.claims)} claims: {said}. A difference is arm minus the other, paired by seed, in percentage points "
        "of the metric, both at the table's learning rate (the published one, or ours where none is) unless the claim says "
        "otherwise."
    )
    if _logarithms(findings.table):
        intro += " Of a norm or a curvature it is in per cent of the other's; a point is then 1 %."
    missing = {found.claim.task for found in findings.claims} - findings.tasks.keys()
    if findings.table.points:
        intro += f" {findings.table.points}"
    if missing:
        intro += f" Not run at {findings.scale_name} scale: {', '.join(sorted(missing))}."
    return "\n\n".join([intro, markdown(rows), *([bullets(reasons)] if reasons else [])])


def _claimed(findings: Findings, claim: Claim) -> str:
    difference = findings.table.difference(claim)
    return claim.published or "no number" if difference is None else f"{signed(100 * difference)} points"


def _by_construction(found: ClaimFinding) -> str:
    told = f"{found.claim.text}: true by construction, since {found.claim.by_construction}."
    if found.difference and found.same_weights:
        told += f" {found.same_weights} of {found.difference.n} pairs ended with the same weights to the last bit."
    return told


def _logarithms(table: Table) -> list[str]:
    """Those that the table makes claims of."""
    return [metric for metric in LOGARITHMS if any(claim.metric == metric for claim in table.claims)]


# Arms


def _heading(task: Task) -> str:
    model = "" if task.model == task.name else f" ({task.model})"
    return f"{task.name}{model} on {task.data}"


def _arms(findings: Findings, task: TaskFinding) -> str:
    if isinstance(task.task, Trial):
        return trials.arms(findings, task, task.task)
    lr = f"{task.task.lr:g}"
    tuned = [arm for arm in task.arms.values() if len(arm.runs) > 1]
    baseline = next(iter(task.arms))
    head = ["arm", "published, %", f"accuracy at {lr}, %", "n", f"minus {baseline}, points", "silent, %", "dead, %"]
    head += ["exactly 0, %"]
    norms = _logarithms(findings.table)
    head += [METRICS[metric] for metric in norms]
    head += ["own best rate", "accuracy there, %"] if tuned else []
    rows = [tuple(head)]
    for arm, found in task.arms.items():
        runs = found.at(task.task.lr)
        row = [
            f"`{arm}`",
            _published(findings, task.task.name, arm),
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
    notes = {p.note for arm in task.arms if (p := findings.table.number(task.task.name, arm, "accuracy")) and p.note}
    text += "".join(f" Published: {note}." for note in sorted(notes))
    return f"{text}\n\n{markdown(rows)}"


def _published(findings: Findings, task: str, arm: str) -> str:
    accuracy, dead = (findings.table.number(task, arm, metric) for metric in ("accuracy", "dead"))
    told = [f"{_hundredths(accuracy)}{' (see above)' if accuracy.note else ''}"] if accuracy else []
    return ", ".join([*told, *([f"dead {_hundredths(dead)}"] if dead else [])])


def _hundredths(number: Published) -> str:
    return f"{100 * number.value:.2f}"


def _shares(runs: Seeds, metric: str, *, plain: bool = False) -> str:
    if not runs:
        return MISSING
    found = estimate([100 * getattr(run, metric) for run in runs.values()])
    interval = f" ({found.low:.1f} to {found.high:.1f})" if found.low is not None and not plain else ""
    return f"{found.mean:.1f}{interval}"


def _geometric(runs: Seeds, metric: str) -> str:
    values = [value for run in runs.values() if math.isfinite(value := getattr(run, metric))]
    return f"{math.exp(sum(values) / len(values)):.3g}" if values else MISSING


def _difference(found: Estimate | None, metric: str) -> str:
    """In points; of a norm or a curvature in per cent of the other's."""
    if found is None or metric not in LOGARITHMS:
        return points_of(found)
    low_high = (found.low, found.high) if found.low is not None and found.high is not None else ()
    mean, *interval = [f"{signed(100 * math.expm1(value))} %" for value in (found.mean, *low_high)]
    return f"{mean} ({' to '.join(interval)})" if interval else mean


# Details


def _detail(detail: Detail) -> list[str]:
    if isinstance(detail, Norms):
        return _norms(detail)
    return _profile(detail) if isinstance(detail, Profile) else _landscapes(detail)


def _norms(detail: Norms) -> list[str]:
    rows = [("weight", *(f"`{arm}`, {kind}" for arm in detail.arms if arm != detail.against for kind in KINDS))]
    layers = next(iter(detail.arms.values())).layers[KINDS[0]]
    for layer in layers:
        cells = [
            _difference(norms.ratios[kind].get(layer), kind)
            for arm, norms in detail.arms.items()
            if arm != detail.against
            for kind in KINDS
        ]
        rows.append((f"`{layer}`", *cells))
    return [
        f"Norms by layer against `{detail.against}`, in per cent of its own: mean over training, then geometric mean over "
        "the seeds with its 95 % interval.",
        markdown(rows),
    ]


def _profile(detail: Profile) -> list[str]:
    first, *others = detail.arms
    rows: list[tuple[str, ...]] = [
        (
            "site",
            "units",
            *(f"`{arm}`, {what}" for what in ("never, %", "at most 1 %, %") for arm in detail.arms),
            *(f"`{arm}` minus `{first}` at most 1 %, points" for arm in others),
        )
    ]
    rows += [
        (
            f"`{site}`",
            str(len(next(iter(detail.arms[first][site].values())))),
            *(f"{100 * detail.share(arm, site, at_most).mean:.1f}" for at_most in (0.0, 0.01) for arm in detail.arms),
            *(points_of(detail.difference(arm, first, site, 0.01)) for arm in others),
        )
        for site in detail.sites
    ]
    return [
        "Share of the units of each site that never fire, and that fire at no more than 1 % of samples and positions; mean "
        "over the seeds, the difference paired by seed with its 95 % interval.",
        markdown(rows),
    ]


def _landscapes(detail: Landscapes) -> list[str]:
    rows: list[tuple[str, ...]] = [
        ("arm", "n", "loss there", "largest curvature", "curvature along the directions (95 % interval)")
    ]
    for arm, seeds in detail.arms.items():
        middle, top, along = (
            [value for found in seeds.values() if (value := getattr(found, name)) is not None]
            for name in ("middle", "top", "along")
        )
        rows.append((f"`{arm}`", str(len(seeds)), _mean(middle), _mean(top), _mean(along)))
    grid = detail.grid
    return [
        f"The loss around the end of each run, on {grid.images:,} test images: the largest curvature is the Hessian's largest "
        f"eigenvalue on {grid.curved:,} of them, after {grid.iterations} power iterations. Arithmetic means over the seeds "
        "with their 95 % intervals; the claim is judged by the ratio, paired by seed. The figures are of the first seed that "
        "both have.",
        markdown(rows),
    ]


def _mean(values: Sequence[float]) -> str:
    if not values:
        return MISSING
    found = estimate(values)
    interval = f" ({found.low:.3g} to {found.high:.3g})" if found.low is not None and found.high is not None else ""
    return f"{found.mean:.3g}{interval}"


# Gains


def _gains(findings: Findings) -> str:
    parts = [
        "B-SiLU's derivative is above 1 over most of (0, 4), so that SUGAR with it also takes larger steps. Here is each "
        f"gain in {findings.table.score} again with every arm at its own best rate, and with what isolates the cause. The share is of "
        "the gain at the table's rate, and is left out unless that gain is above 0 by its interval."
    ]
    for found in findings.gains:
        gain = found.gain
        rows = [("arm", "rate", "gain, points (95 % interval)", "n", "share that remains")]
        rows += [
            (
                f"`{row.arm}`",
                _gain_rate(findings.tasks[gain.task], row, gain.against),
                points_of(row.difference),
                str(row.difference.n),
                MISSING if row.share is None else f"{100 * row.share:.0f} %",
            )
            for row in found.rows
        ]
        parts += [f"{gain.task}: `{gain.arm}` over `{gain.against}`", markdown(rows)]
        parts += _explained(found)
    return "\n\n".join(parts)


def _gain_rate(task: TaskFinding, row: Remainder, against: str) -> str:
    if not row.own_rates:
        return f"{task.task.lr:g}"
    return f"own best: {task.arms[row.arm].own_rate:g} against {task.arms[against].own_rate:g}"


def _explained(found: GainFinding) -> list[str]:
    shown = {row.arm for row in found.rows}
    told = [f"`{arm}`: {what}." for arm, what in found.gain.controls.items() if arm in shown]
    return [bullets(told)] if told else []


# Settings


def _settings(findings: Findings) -> str:
    tasks = [found.task for found in findings.tasks.values()]
    if only_trials(found.task for found in findings.tasks.values()):
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


# How, and where from


def _rules(findings: Findings) -> str:
    if not findings.plan.scale.answers:
        return f"At {findings.scale_name} scale no claim is judged."
    points = f"{100 * MARGIN:g} point{'' if MARGIN == 0.01 else 's'}"
    return (
        f"Differences are paired by seed. *Supported*: shown to lie on the claimed side (of 0 for higher and lower; of "
        f"-{points} for competitive; below +{points} for gains nothing). *Not supported*: shown to fall short of it by the "
        f"smallest difference that matters, {points}, or to lie on the other side. Shown is p of at most {LEVEL:g} in a "
        f"one-sided paired t-test, after Holm's correction over the claims of the page, with {FEWEST} pairs or more. *Cannot "
        "tell* is everything else, and a claim of fewer where the other arm has less than a point itself. *True by construction* is declared by the table, with the reason. The t-test assumes that "
        "differences over seeds are about normal; the lab's exact test, which does not, cannot come below p = 0.0625 with "
        f"5 seeds. A run that diverged counts with {findings.table.diverged}."
    )


def _runs(findings: Findings, seeds: Sequence[int]) -> str:
    name = findings.table.name
    words = ["undying", "reproduce", name, "--scale", findings.scale_name]
    again = [*words, *(["--seeds", *map(str, seeds)] if seeds else [])]
    first = findings.outcomes[0].id if findings.outcomes else "ID"
    parts = [
        f"    {shlex.join(again)}",
        f"makes this page; stopped, it goes on from there. [{name}.runs.csv]({name}.runs.csv) has a row a run: a number "
        "above is the mean over the rows with its task, arm and rate (lr). One run again, here the first of them:",
        f"    {shlex.join([*again, '--run', first, '--out', 'again'])}",
        "On a CPU of the same kind, with the same torch, it ends with the weights_sha256 of its row.",
    ]
    for environment in findings.environments:
        parts.append(
            f"Machine: {environment['processor']}, {environment['cores']} cores; Python {environment['python']}, torch "
            f"{environment['torch']} with {environment['threads']} thread a run"
            + "".join(
                f", {name} {environment[name]}" for name in ("gymnasium", "stable-baselines3") if name in environment
            )
            + f", undying {environment['undying']}."
        )
    seconds = {run.id: run.seconds for run in findings.outcomes}
    parts.append(f"The runs took {duration(sum(seconds.values()))} in all, on one core each.")
    return "\n\n".join(parts)
