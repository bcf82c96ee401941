"""A task whose runs are of a kind of their own (``undying.lab.runs.kind``), with measures and curves of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from undying.lab.settings import AnyRun
from undying.papers.table import Stage, Task


@dataclass(frozen=True)
class Measure:
    """A column of the page, or the axis of a curve."""

    metric: str
    """As ``Outcome.of`` and ``Outcome.curves`` call it; there it is a share in [0, 1]."""
    text: str
    most: float = 0.0
    """What a share of 1 stands for, such as a return of 500; 0: it is shown in percent."""

    @property
    def factor(self) -> float:
        return self.most or 100

    @property
    def heading(self) -> str:
        return self.text if self.most else f"{self.text}, %"


@dataclass(frozen=True, kw_only=True)
class Trial(Task):
    """Its ``accuracy``, on which gains are told, is the score of its kind of run: see ``undying.papers.measured``."""

    template: AnyRun
    """A run; those of the plan differ from it in activation, rate and seed."""
    measures: tuple[Measure, ...]
    """The first is the score."""
    curves: tuple[Measure, ...]
    over: str
    """What a curve goes over."""
    seconds: float
    """That a run takes one core of an AMD EPYC, about; measured."""

    def config(self, arm: str, rate: float, seed: int) -> AnyRun:
        return replace(self.template, activation=arm, lr=rate, seed=seed)


def trial(
    name: str,
    template: AnyRun,
    stages: Sequence[Stage],
    seeds: Sequence[int],
    measures: Sequence[Measure],
    curves: Sequence[Measure],
    over: str,
    seconds: float,
) -> Trial:
    """A trial, with what it has in common with other tasks taken from its template."""
    return Trial(
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
        measures=tuple(measures),
        curves=tuple(curves),
        over=over,
        seconds=seconds,
    )


def only_trials(tasks: Iterable[Task]) -> bool:
    """Whether all of them are; a GPU is of no use to these, and their pages have other tables."""
    return all(isinstance(task, Trial) for task in tasks)
