"""Puts the report's files into a directory."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from undying._base.errors import UndyingError
from undying._base.files import clear_temporary, write_bytes
from undying.lab.results import Results
from undying.report.figures import draw, printed
from undying.report.html import page
from undying.report.tables import arms_csv, runs_csv

_OLD = 3600.0
"""Seconds after which a half-written file beside the report's is nobody's any more."""


def write_report(results: Results, out: Path, formats: Sequence[str] = ("svg",)) -> Path:
    """Write ``report.html``, ``results.json``, ``results.csv``, ``summary.csv`` and ``figures/`` into ``out``.

    ``formats`` are those of the figures' files, some of ``FORMATS``. Each file appears whole or not at all, the page last; files of an earlier report are replaced. Returns the path of
    the page. Raises OSError where a file cannot be written, and UndyingError where ``figures`` is a link.
    """
    figures = draw(results)
    contents = {f"figures/{figure.name}.svg": figure.file.encode() for figure in figures if "svg" in formats}
    contents |= {f"figures/{name}": drawn for name, drawn in printed(results, formats).items()}
    contents["results.csv"] = runs_csv(results).encode()
    contents["summary.csv"] = arms_csv(results).encode()
    contents["results.json"] = _json(results).encode()
    contents["report.html"] = page(results, figures).encode()
    if (out / "figures").is_symlink():
        raise UndyingError(f"{out / 'figures'} is a link, which may lead to files of somebody else's; remove it")
    for folder in (out, out / "figures"):
        clear_temporary(folder, _OLD)
    for name, content in contents.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out / name, content)
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
