"""The end of a comparison in the terminal: a table, the verdict, and where the report is."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from undying.lab.results import ActivationResult, Comparison, Results
from undying.report.formats import MINUS, MISSING, VERDICTS, clean, known, lead, points, probability


def print_summary(results: Results, report_path: Path, console: Console) -> None:
    """Print what was found; it fits 80 columns for names of up to about 14 characters."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("activation", overflow="fold")
    for title in ("accuracy % [95 %]", "difference (p)", "silent", "dead"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for activation in results.activations:
        table.add_row(*(Text(cell) for cell in _row(activation)))
    console.print(table)
    console.print(Text("silent, dead: % of all units, after the last epoch; p after Holm's correction"), style="dim")
    console.print()
    # Text, not str: a name may look like rich's markup.
    console.print(Text(lead(results)), style="bold")
    console.print(Text(f"report: {clean(str(report_path))}", overflow="fold"))


def _row(activation: ActivationResult) -> list[str]:
    accuracy, comparison = activation.accuracy, activation.comparisons.get("accuracy")
    interval = f" [{_percent(accuracy.low)}, {_percent(accuracy.high)}]" if known(accuracy.low) else ""
    numbers = [
        _percent(accuracy.mean) + interval,
        f"{points(comparison.difference)} ({probability(comparison.p_holm)})" if comparison else "",
        _percent(activation.silent.mean),
        _percent(activation.dead.mean),
    ]
    # A console with an old code page cannot print a real minus or dash.
    numbers = [number.replace(MINUS, "-").replace(MISSING, "-") for number in numbers]
    return [clean(activation.name), *numbers, _verdict(comparison)]


def _verdict(comparison: Comparison | None) -> str:
    return VERDICTS[comparison.verdict].removesuffix(" detected") if comparison else "baseline"


def _percent(share: float | None) -> str:
    return f"{100 * share:.1f}" if known(share) else MISSING
