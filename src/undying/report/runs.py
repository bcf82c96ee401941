"""The runs of a store as a table, CSV and JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from undying._base.text import clean, comma_separated, known
from undying.lab.runs.lines import last_counted, share
from undying.lab.settings import RunConfig
from undying.lab.status import STATUSES, RunState
from undying.report.tables import harmless
from undying.report.words import UNKNOWN
from undying.report.write import finite
from undying.statistics.metric import ACCURACY

CONFIG = tuple(field.name for field in fields(RunConfig))
_SHARED = ("data", "model", "lr")
"""Shown in a column only where runs differ in it."""
_SHORT = 8  # characters of an id that are shown; enough to tell thousands apart


def runs_table(states: Sequence[RunState]) -> Table:
    """A row a run; it fits 80 columns."""
    configs = [state.config for state in states if state.config is not None]
    differing = [name for name in _SHARED if len({getattr(config, name) for config in configs}) > 1]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("id", no_wrap=True)
    table.add_column("activation", overflow="fold")
    table.add_column("seed", justify="right", no_wrap=True)
    for name in differing:
        table.add_column(name, overflow="fold")
    table.add_column("status", no_wrap=True)
    for title in ("epoch", "test", "silent", "s"):
        table.add_column(title, justify="right", no_wrap=True)
    for state in states:
        config = state.config
        epochs = f"{_or_dash(state.epoch)}/{config.epochs if config else '?'}"
        cells = [state.id[:_SHORT], config.activation if config else "?", str(config.seed) if config else "?"]
        cells += [str(getattr(config, name)) if config else "?" for name in differing]
        cells += [state.status, epochs, scored(state), silent(state), _or_dash(state.seconds, "{:.0f}")]
        table.add_row(*(Text(clean(cell)) for cell in cells))
    return table


def in_common(states: Sequence[RunState]) -> str:
    """What every run has alike, for a line above the table: ``data digits, model mlp, lr 0.01``."""
    configs = [state.config for state in states if state.config is not None]
    alike = {name: {getattr(config, name) for config in configs} for name in _SHARED}
    return clean(", ".join(f"{name} {values.pop()}" for name, values in alike.items() if len(values) == 1))


def totals(states: Sequence[RunState], planned: Sequence[str]) -> str:
    """How many runs there are of each status: of those planned, and of others."""
    own = [state for state in states if state.id in planned]
    others = [state for state in states if state.id not in planned]
    said = []
    if planned:
        waiting = len(planned) - len(own)
        numbers = _numbers_by_status(own) + ([f"{waiting} not begun"] if waiting else [])
        said.append(f"{len(planned)} runs planned: {', '.join(numbers)}")
    if others:
        said.append(f"{len(others)} {'others' if planned else 'runs'}: {', '.join(_numbers_by_status(others))}")
    return "; ".join(said) or "no runs"


def _numbers_by_status(states: Sequence[RunState]) -> list[str]:
    numbers = Counter(state.status for state in states)
    return [f"{numbers[status]} {status}" for status in STATUSES if numbers[status]]


def scored(state: RunState) -> str:
    """Its score, an accuracy in percent; a dash where there is none."""
    return _percent(state.score) if state.metric == ACCURACY.name else _or_dash(state.score, "{:.4g}")


def silent(state: RunState) -> str:
    """Of a run's units, in percent; unknown where nothing is said of them."""
    return UNKNOWN if state.silent is None and last_counted(state.epochs) else _percent(state.silent)


def to_json(states: Sequence[RunState]) -> str:
    """An object a run: everything in a row of the CSV, the config as an object of its own."""
    rows = []
    for state in states:
        rows.append({"id": state.id, "config": asdict(state.config) if state.config else None, **_numbers(state)})
    return json.dumps(finite({"format": 1, "runs": rows}), indent=1, allow_nan=False) + "\n"


def to_csv(states: Sequence[RunState]) -> str:
    """A row a run: its config, a column each, and the numbers after its last epoch; unknown is an empty cell."""
    rows = [["id", *CONFIG, *_numbers(RunState("", "", None, []))]]
    for state in states:
        # A run of another kind lacks some of the fields.
        config = [_flat(getattr(state.config, name, "")) if state.config else "" for name in CONFIG]
        numbers = ["" if value is None else value for value in _numbers(state).values()]
        cells = [state.id, *config, *numbers]
        rows.append([harmless(cell) if isinstance(cell, str) else cell for cell in cells])
    return comma_separated(rows)


def _numbers(state: RunState) -> dict[str, Any]:
    counted = last_counted(state.epochs)
    return {
        "status": state.status,
        "epoch": state.epoch,
        "metric": state.metric,
        "score": state.score,
        "silent": share(counted, "silent"),
        "dead": share(counted, "dead"),
        "dormant": share(counted, "dormant"),
        "sparsity": counted.get("sparsity"),
        "seconds": state.seconds,
        "reason": state.reason,
    }


def _flat(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, tuple) else "" if value is None else value


def _percent(value: float | None) -> str:
    return _or_dash(100 * value if known(value) else None, "{:.1f}")


def _or_dash(value: float | None, form: str = "{}") -> str:
    return "-" if value is None else form.format(value)
