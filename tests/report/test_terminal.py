"""The terminal's summary."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from undying.lab.results import Results
from undying.report.terminal import print_summary
from undying.report.words import lead


def summary(results: Results, path: str = "out/report.html") -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    print_summary(results, Path(path), console)
    return console.export_text()


def test_it_fits_eighty_columns_without_wrapping_a_row(make_results: Callable[..., Results]) -> None:
    names = ["relu", "leaky_relu", "barelu", "sugar:bsilu", "sugar:nelu", "sugar:gelu.all"]
    lines = summary(make_results(names)).splitlines()
    assert max(map(cell_len, lines)) <= 80
    rows = [next(line for line in lines if line.startswith(f"{name} ")) for name in names]
    assert rows[0].rstrip().endswith("baseline")
    assert all(row.rstrip().endswith(("higher", "lower", "none detected", "cannot tell")) for row in rows[1:])
    # Neighbouring lines: no row is broken in two.
    start = lines.index(rows[0])
    assert lines[start : start + 6] == rows


def test_numbers_and_words(results: Results) -> None:
    text = " ".join(summary(results).split())
    relu, bsilu = results.baseline, results.activations[3]
    accuracy, comparison = bsilu.score, bsilu.comparison
    assert f"sugar:bsilu {100 * accuracy.mean:.1f} [{100 * accuracy.low:.1f}, {100 * accuracy.high:.1f}]" in text
    assert f"+{100 * comparison.difference:.1f} (0.004)" in text
    assert f"{100 * relu.silent.mean:.1f} {100 * relu.dead.mean:.1f} baseline" in text
    assert lead(results) in text
    assert text.endswith("report: out/report.html")


def test_names_are_not_markup(make_results: Callable[..., Results]) -> None:
    text = summary(make_results(["relu", "[bold]x[/]", "\x1b[2J:smile:"]), path="out/[red]/report.html")
    assert "[bold]x[/]" in text
    assert "[red]" in text
    assert ":smile:" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("seeds", [1, 10])
def test_wide_names_and_paths_stay_inside(make_results: Callable[..., Results], seeds: int) -> None:
    text = summary(make_results(["relu", "a" * 70, "漢字" * 30], seeds=seeds), path="/".join(["directory"] * 20))
    assert max(map(cell_len, text.splitlines())) <= 80


def test_the_table_is_plain_ascii_in_its_numbers(results: Results) -> None:
    rows = [line for line in summary(results).splitlines() if line.startswith(("relu ", "silu "))]
    assert all(row.isascii() for row in rows)


def test_partial_and_unknown_are_said_and_fit(make_results: Callable[..., Results]) -> None:
    results = make_results(["relu", "leaky_relu", "sugar:gelu.all"], seeds=2)
    second = replace(results.activations[1], silent=None, dead=None)
    third = replace(results.activations[2], comparisons={})
    text = summary(replace(results, activations=[results.baseline, second, third], planned=60))
    assert "Partial: 6 of 60 runs finished." in text
    assert "unknown unknown cannot tell" in " ".join(text.split())
    row = next(line for line in text.splitlines() if line.startswith("sugar:gelu.all"))
    assert row.rstrip().endswith("cannot tell")
    assert max(map(cell_len, text.splitlines())) <= 80
