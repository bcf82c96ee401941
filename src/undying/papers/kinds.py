"""A task whose runs are of a kind of their own, with columns and curves of its own; see ``undying.lab.runs.kind``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic

from undying.lab.data.dataset import Dataset
from undying.lab.runs.kind import Config
from undying.lab.settings import AnyRun
from undying.papers.table import Metric, Stage, Task

_OWN = ("activation", "seed")
"""Of each run."""


@dataclass(frozen=True, kw_only=True)
class KindTask(Task, Generic[Config]):
    """Its ``accuracy``, on which gains are told, is the score of its kind."""

    template: Config
    """A run; those of the plan differ from it in activation, rate and seed."""

    def load(self, data_root: Path | None) -> Dataset | None:
        return None

    def config(self, arm: str, rate: float, seed: int, data_sha256: str) -> AnyRun:
        return replace(self.template, activation=arm, lr=rate, seed=seed)

    def settings(self, described: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, str]:
        config = asdict(self.template)
        rates = ", ".join(f"{rate:g}" for rate in self.grid)
        return {
            **{name.replace("_", " "): _plain(value) for name, value in config.items() if name not in _OWN},
            "grid of rates": f"{rates}, of {self.tuned}" if len(self.grid) > 1 else "none",
            "seeds": " ".join(map(str, seeds)),
        }


def kind_task(
    name: str,
    template: Config,
    stages: Sequence[Stage],
    seeds: Sequence[int],
    metrics: Sequence[Metric],
    curves: Sequence[Metric],
    over: str,
    seconds: float,
) -> KindTask[Config]:
    """A task of the kind of its template, from which it has what tasks have in common."""
    return KindTask(
        name=name,
        data=template.data,
        model=template.model,
        stages=tuple(stages),
        seeds=tuple(seeds),
        epochs=template.epochs,
        lr=template.lr,
        optimizer=template.optimizer,
        batch_size=template.batch_size,
        template=template,
        metrics=tuple(metrics),
        curves=tuple(curves),
        over=over,
        seconds=seconds,
    )


def _plain(value: object) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
