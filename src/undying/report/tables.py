"""Results as CSV: a row a run, and a row an arm."""

from __future__ import annotations

import math
from collections.abc import Sequence

from undying._base.text import clean, comma_separated
from undying.lab.results import ActivationResult, Results
from undying.statistics.records import Comparison, Summary

_COLUMNS = ("test_loss", "silent", "dead", "dormant", "sparsity", "recycled", "seconds")
"""Beside the scores."""


def runs_csv(results: Results) -> str:
    """One row a run, also for those that are not finished; with a grid at the point that its arm is judged at."""
    held_out = list(dict.fromkeys(name for activation in results.activations for name in activation.validation))
    others = () if results.imported else _COLUMNS
    numbers = [*(metric.name for metric in results.metrics), *others, *held_out]
    chosen = {name: arm.chosen for name, arm in results.tuning.arms.items()} if results.tuning is not None else {}
    options = list(next(iter(chosen.values()), {}))
    rows: list[Sequence[object]] = [
        ["activation", "seed", *options, *numbers, "finished", *([] if results.imported else ["diverged"])]
    ]
    by_name = {activation.name: activation for activation in results.activations}
    for name in results.settings["activations"]:
        activation = by_name.get(name)
        for seed in results.seeds:
            finished = activation is not None and seed in activation.seeds
            row = [_number(activation, column, seed) if activation and finished else "" for column in numbers]
            diverged = activation is not None and seed in activation.diverged_seeds
            told = [finished] if results.imported else [finished, diverged]
            point = [chosen[name][option] if name in chosen else "" for option in options]
            rows.append([harmless(name), seed, *point, *row, *("yes" if said else "no" for said in told)])
    return comma_separated(rows)


def _number(activation: ActivationResult, column: str, seed: int) -> float | str:
    """An empty cell where the run has no such number."""
    place = activation.seeds.index(seed)
    if column.startswith("validation_"):
        return cell(activation.validation[column][place] if column in activation.validation else None)
    summary = activation.scores[column] if column in activation.scores else getattr(activation, column)
    return cell(summary.values[place] if summary is not None else None)


def arms_csv(results: Results) -> str:
    """One row an arm: of each metric its mean with the interval and what it is beside the baseline's."""
    metrics = [*(metric.name for metric in results.metrics), *([] if results.imported else ["silent"])]
    heads = [f"{metric}_{column}" for metric in metrics for column in (*_of(None, 0), *_against(None))]
    rows: list[Sequence[object]] = [["activation", *heads]]
    for activation in results.activations:
        row: list[object] = [harmless(activation.name)]
        for metric in metrics:
            summary = activation.scores.get(metric, activation.silent)
            row += [
                *_of(summary, len(activation.seeds)).values(),
                *_against(activation.comparisons.get(metric)).values(),
            ]
        rows.append(row)
    return comma_separated(rows)


def _of(summary: Summary | None, runs: int) -> dict[str, object]:
    names = ("mean", "low", "high", "iqm")
    return {"n": runs if summary else "", **{name: cell(getattr(summary, name, None)) for name in names}}


def _against(found: Comparison | None) -> dict[str, object]:
    """Beside the baseline: over how many pairs, and what was found."""
    names = ("difference", "low", "high", "p", "p_holm", "p_equal", "margin", "effect_size")
    columns = {"low": "difference_low", "high": "difference_high"}
    return {
        "pairs": found.wins + found.ties + found.losses if found else "",
        **{columns.get(name, name): cell(getattr(found, name, None)) for name in names},
        "verdict": found.verdict if found else "",
    }


def cell(value: float | None) -> float | str:
    """Empty for what is not known or not finite."""
    return value if value is not None and math.isfinite(value) else ""


def harmless(name: str) -> str:
    """A spreadsheet runs a cell that begins like a formula; an apostrophe makes it text.

    >>> harmless("=1+1"), harmless("relu")
    ("'=1+1", 'relu')
    """
    name = clean(name)
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\n")) else name
