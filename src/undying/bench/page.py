"""One bench's results with the settings and the machine, for a terminal, as JSON and as markdown."""

from __future__ import annotations

import json
import shlex
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from undying._base import text
from undying.bench import tables
from undying.bench.activations import Case
from undying.bench.machine import Machine, describe
from undying.bench.memory import Memory
from undying.bench.settings import ActivationSettings, NetworkSettings, TrainingSettings
from undying.bench.tables import Rows
from undying.bench.training import TrainingCase


@dataclass(frozen=True)
class Page:
    """What one command measured."""

    settings: dict[str, Any]
    machine: Machine
    cases: list[dict[str, Any]]
    narrow: list[tuple[str, Rows]]
    """Title and table, for a terminal."""
    wide: list[tuple[str, Rows]]
    """The same with whole intervals."""
    note: str

    def plain(self) -> str:
        """For a terminal of 80 columns."""
        parts = [f"{textwrap.fill(title, 80)}\n\n{text.table(rows, left=1)}" for title, rows in self.narrow]
        parts += [textwrap.fill(self.note, 80)] if self.note else []
        return "\n\n".join([*parts, textwrap.fill(str(self.machine), 80)])

    def markdown(self) -> str:
        """For a page of results: the command, the machine, the tables."""
        parts = [f"    {_command()}", f"Machine: {self.machine}."]
        parts += [self.note] if self.note else []
        parts += [f"{title}:\n\n{text.markdown(rows)}" for title, rows in self.wide]
        return "\n\n".join(parts) + "\n"

    def json(self) -> str:
        """Every figure, with the settings and the machine."""
        content = {
            "command": _command(),
            "settings": self.settings,
            "machine": self.machine.to_dict(),
            "cases": self.cases,
        }
        return json.dumps(content, indent=1) + "\n"


def activation_page(settings: ActivationSettings, cases: Sequence[Case]) -> Page:
    backward = ("What computes the backward pass, and bytes kept for it", tables.backward_table(cases))
    return Page(
        asdict(settings),
        describe(),
        [case.to_dict() for case in cases],
        [*tables.activation_tables(cases, wide=False), backward],
        [*tables.activation_tables(cases, wide=True), backward],
        interval_note(_rounds(cases)),
    )


def memory_page(settings: NetworkSettings, found: Sequence[Memory]) -> Page:
    title = f"A training step, {_batch(settings)}: bytes kept for the backward pass, and the peak with gradients"
    rows = tables.memory_table(found)
    return Page(
        asdict(settings),
        describe(),
        [memory.to_dict() for memory in found],
        [(title, rows)],
        [(title, rows)],
        "",
    )


def training_page(settings: TrainingSettings, cases: Sequence[TrainingCase]) -> Page:
    title = f"A training step, {_batch(settings)}, times nn.ReLU inplace"
    return Page(
        asdict(settings),
        describe(),
        [case.to_dict() for case in cases],
        [(title, tables.training_table(cases, wide=False))],
        [(title, tables.training_table(cases, wide=True))],
        interval_note(_rounds(cases)),
    )


def _batch(settings: NetworkSettings) -> str:
    return f"{settings.batch} images of {settings.side} x {settings.side}"


def interval_note(rounds: Sequence[int]) -> str:
    """What the figures of a page are, by the numbers of rounds behind them."""
    low, high = min(rounds), max(rounds)
    counted = f"{low} rounds" if low == high else f"{low} to {high} rounds"
    return (
        f"Medians of ratios within a round, {counted}; after ± half, in brackets the whole of the 95 % interval of the "
        "median."
    )


def _rounds(cases: Sequence[Case | TrainingCase]) -> list[int]:
    return [len(samples) for case in cases for samples in case.timings.samples.values()]


def _command() -> str:
    return shlex.join(["undying", *sys.argv[1:]])
