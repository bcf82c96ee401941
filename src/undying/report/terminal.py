"""The end of a comparison in the terminal: a table, the verdict, and where the report is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from undying._base.text import clean, known
from undying.lab.results import ActivationResult, Results
from undying.report.words import (
    MINUS,
    MISSING,
    UNKNOWN,
    lead,
    noun,
    points,
    probability,
    progress,
    tuned,
    verdict,
)
from undying.statistics.metric import ACCURACY
from undying.statistics.records import Summary


def print_summary(results: Results, report_path: Path | None, console: Console) -> None:
    """Print what was found, and where the report is; it fits 80 columns for names of up to about 14 characters."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(noun(results), overflow="fold")
    metric = results.metric
    named = f"{metric.name} {metric.written_unit}".rstrip()
    for title in (f"{named} [95 %]", "difference (p)", *(() if results.imported else ("silent", "dead"))):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for activation in results.activations:
        table.add_row(*(Text(cell) for cell in _row(activation, results)))
    console.print(table)
    units = "" if results.imported else "silent, dead: % of all units, after the last epoch; "
    console.print(Text(f"{units}p after Holm's correction"), style="dim")
    if results.tuning is not None:
        console.print(
            Text("each at its own best on data held out: " + "; ".join(map(clean, tuned(results)))), style="dim"
        )
    console.print()
    for note in results.data.get("notes", ()):
        console.print(Text(clean(note)), style="bold yellow")
    # Text, not str: a name may look like rich's markup.
    diverged = [f"{clean(a.name)} {a.diverged} of {len(a.seeds)}" for a in results.activations if a.diverged]
    if diverged:
        said = "guessing" if results.metric == ACCURACY else "the worst score of any run"
        console.print(Text(f"diverged: {', '.join(diverged)}; these count with {said}"), style="bold yellow")
    if results.partial:
        console.print(Text(clean(progress(results))), style="bold yellow")
    console.print(Text(lead(results)), style="bold")
    if report_path is not None:
        console.print(Text(f"report: {clean(str(report_path))}", overflow="fold"))


def print_overview(comparisons: Sequence[tuple[Path, Results]], page: Path, console: Console) -> None:
    """Print a line or two a comparison, and where the page of all is."""
    for out, results in comparisons:
        console.print(Text(f"{clean(str(out))}: {results.settings['model']} on {results.data['name']}"), style="bold")
        if results.partial:
            console.print(Text(clean(progress(results))), style="bold yellow")
        console.print(Text(lead(results)))
        console.print()
    console.print(Text(f"report: {clean(str(page))}", overflow="fold"))


def _row(activation: ActivationResult, results: Results) -> list[str]:
    metric, comparison = results.metric, activation.comparison
    numbers = [
        activation.score.interval.in_words(metric.number, " [{}, {}]"),
        f"{points(comparison.difference, metric)} ({probability(comparison.p_holm)})" if comparison else "",
        *([] if results.imported else [_mean(activation.silent), _mean(activation.dead)]),
    ]
    # A console with an old code page cannot print a real minus or dash.
    numbers = [number.replace(MINUS, "-").replace(MISSING, "-") for number in numbers]
    return [clean(activation.name), *numbers, _verdict(activation, results.baseline)]


def _verdict(activation: ActivationResult, baseline: ActivationResult) -> str:
    return "baseline" if activation is baseline else _SHORT.get(found := verdict(activation), found)


_SHORT = {"none": "none detected"}


def _mean(summary: Summary | None) -> str:
    return _percent(summary.mean) if summary is not None else UNKNOWN


def _percent(share: float | None) -> str:
    return f"{100 * share:.1f}" if known(share) else MISSING
