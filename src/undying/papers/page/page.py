"""The page of a reproduced table, in markdown, with its figures and the index of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from undying._base.files import write_text
from undying.papers.analysis import Analysis
from undying.papers.details.protocol import Section
from undying.papers.page.arms import arms
from undying.papers.page.cells import bullets, divergences
from undying.papers.page.claims import claims, rules
from undying.papers.page.figures import arms_of, draw
from undying.papers.page.gains import gains
from undying.papers.page.html import html_page
from undying.papers.page.provenance import runs, settings
from undying.papers.records import records
from undying.papers.table import Task


def write_page(analysis: Analysis, out: Path, seeds: Sequence[int] = (), sections: Sequence[Section] = ()) -> Path:
    """Write ``<name>.md``, the same as ``<name>.html``, its figures and ``<name>.runs.csv`` into ``out``, each whole or not at
    all, the page last.

    Args:
        analysis: what to write.
        out: a folder.
        seeds: the ``--seeds`` that were asked for, for the command on the page.
        sections: what the table shows beside accuracies.

    Returns:
        the path of the page.

    Raises:
        OSError: a file cannot be written.
    """
    name = analysis.table.name
    figures = draw(analysis, sections)
    texts = {file: figure.file for file, figure in figures.items()}
    text = page(analysis, {file: figure.alt for file, figure in figures.items()}, seeds, sections)
    texts[f"{name}.runs.csv"] = records(analysis.plan, analysis.results)
    texts[f"{name}.html"] = html_page(text, figures, arms_of(analysis))
    texts[f"{name}.md"] = text
    out.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        write_text(out / file, text)
    return out / f"{name}.md"


def page(
    analysis: Analysis, figures: dict[str, str], seeds: Sequence[int] = (), sections: Sequence[Section] = ()
) -> str:
    """The page; ``figures`` are file name -> description."""
    table = analysis.table
    parts = [
        f"# {table.name}: {analysis.scale_name} scale",
        _progress(analysis),
        f"The source says: {table.says}. ({table.source}.)" if table.given else f"Our own table: {table.says}.",
        f"## Claims, {analysis.scale_name} scale",
        claims(analysis),
    ]
    for name, task in analysis.tasks.items():
        parts += [f"## {_heading(task.task)}, {analysis.scale_name} scale", arms(analysis, task)]
        parts += divergences(task)
        parts += [f"![{alt}]({file})" for file, alt in figures.items() if file.startswith(f"{table.name}.{name}.")]
        parts += [part for section in sections if section.task.name == name for part in section.table()]
    if analysis.gains:
        parts += [f"## What remains of the gain, {analysis.scale_name} scale", gains(analysis)]
    parts += [part for heading, text in table.texts.items() for part in (f"## {heading}", text)]
    parts += [
        f"## Settings, {analysis.scale_name} scale",
        settings(analysis),
        *([f"Given by the source: {'; '.join(table.given)}."] if table.given else []),
        "Our choice, since the source as we have it does not say:" if table.given else "What each case is:",
        bullets(table.chosen),
        f"## What {analysis.scale_name} scale cannot answer",
        bullets(analysis.plan.scale.limits),
        "## How a verdict comes about",
        rules(analysis),
        "## The runs",
        runs(analysis, seeds),
    ]
    return "\n\n".join(parts) + "\n"


def _progress(analysis: Analysis) -> str:
    done, planned = len(analysis.results), len(analysis.plan.runs)
    if done == planned:
        return f"All {planned} runs of the table at {analysis.scale_name} scale."
    return (
        f"**Unfinished: {done} of {planned} runs.** What follows is of those; numbers and verdicts can change when the "
        f"others are in. The scale is {analysis.scale_name}."
    )


def _heading(task: Task) -> str:
    model = "" if task.model == task.name else f" ({task.model})"
    return f"{task.name}{model} on {task.data}"
