"""Puts the report's files into a directory."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from undying._base.errors import UndyingError
from undying._base.files import clear_temporary, write_text
from undying._base.text import clean, comma_separated
from undying.lab.results import ActivationResult, Results
from undying.report.figures import draw
from undying.report.html import page

_OLD = 3600.0
"""Seconds after which a half-written file beside the report's is nobody's any more."""
_COLUMNS = (
    "test_loss",
    "silent",
    "dead",
    "dormant",
    "sparsity",
    "recycled",
    "seconds",
)
"""Beside the scores."""


def write_report(results: Results, out: Path) -> Path:
    """Write ``report.html``, ``results.json``, ``results.csv`` and ``figures/*.svg`` into ``out``.

    Each file appears whole or not at all, the page last; files of an earlier report are replaced. Returns the path of
    the page. Raises OSError where a file cannot be written, and UndyingError where ``figures`` is a link.
    """
    figures = draw(results)
    texts = {f"figures/{figure.name}.svg": figure.file for figure in figures}
    texts["results.csv"] = _table(results)
    texts["results.json"] = _json(results)
    texts["report.html"] = page(results, figures)
    if (out / "figures").is_symlink():
        raise UndyingError(f"{out / 'figures'} is a link, which may lead to files of somebody else's; remove it")
    for folder in (out, out / "figures"):
        clear_temporary(folder, _OLD)
    for name, text in texts.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_text(out / name, text)
    return out / "report.html"


def _json(results: Results) -> str:
    # default=str: a setting may be a path.
    return json.dumps(finite(results.to_dict()), sort_keys=True, indent=2, allow_nan=False, default=str) + "\n"


def finite(value: Any) -> Any:
    """The same data with None for every number that JSON cannot hold."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(results: Results) -> str:
    """One row a run, also for those that are not finished."""
    numbers = [*(metric.name for metric in results.metrics), *(() if results.imported else _COLUMNS)]
    rows: list[Sequence[object]] = [["activation", "seed", *numbers, "finished"]]
    by_name = {activation.name: activation for activation in results.activations}
    for name in results.settings["activations"]:
        activation = by_name.get(name)
        for seed in results.seeds:
            finished = activation is not None and seed in activation.seeds
            row = [_number(activation, column, seed) if activation and finished else "" for column in numbers]
            rows.append([harmless(name), seed, *row, "yes" if finished else "no"])
    return comma_separated(rows)


def _number(activation: ActivationResult, column: str, seed: int) -> float | str:
    """An empty cell where the run has no such number."""
    summary = activation.scores[column] if column in activation.scores else getattr(activation, column)
    value = summary.values[activation.seeds.index(seed)] if summary is not None else math.nan
    return value if math.isfinite(value) else ""


def harmless(name: str) -> str:
    """A spreadsheet runs a cell that begins like a formula; an apostrophe makes it text.

    >>> harmless("=1+1"), harmless("relu")
    ("'=1+1", 'relu')
    """
    name = clean(name)
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\n")) else name
