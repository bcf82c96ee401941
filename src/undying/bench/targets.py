"""What undying's own forms should reach, and whether they did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from undying.bench.activations import Case
from undying.bench.memory import Memory
from undying.bench.settings import short
from undying.bench.timing import Ratio
from undying.bench.training import TrainingCase
from undying.surrogates import SURROGATES


@dataclass(frozen=True)
class Target:
    """``form`` should take at most ``limit`` times what ``to`` takes, at every size from ``least`` to ``most``."""

    form: str
    to: str
    limit: float
    least: float = 0
    most: float = float("inf")
    dtypes: tuple[str, ...] = ("float32",)

    def __str__(self) -> str:
        sizes = short(self.least) if self.least == self.most else f">= {short(self.least)}" if self.least else ""
        return f"{self.form} <= {self.limit:.4g} x {self.to}" + (f", {sizes}" if sizes else "")


_EVERY = ("float32", "bfloat16", "float16", "float64")

SPEED = (
    *(Target(f"SUGAR {name}", "nn.ReLU", 1.10, least=1e6) for name in SURROGATES),
    Target("SUGAR bsilu", "nn.SiLU", 0.9, dtypes=_EVERY),
    Target("SUGAR bsilu", "Function SUGAR", 1 / 4, least=1e6),
    Target("SUGAR bsilu", "Function SUGAR", 1 / 2.3, least=1e5, most=1e5),
    Target("SUGAR compiled", "Function SUGAR compiled", 1.0),
    Target("SUGAR compiled", "nn.ReLU", 1.15, least=1e7, most=1e7),
    Target("BAReLU", "nn.ReLU", 1.0111, least=1e6),
    Target("BAReLU inplace", "nn.ReLU inplace", 1.05, least=1e6),
    Target("SUGAR bsilu", "nn.ReLU", 1.5, least=1e3, most=1e3),
    Target("BAReLU", "nn.ReLU", 1.5, least=1e3, most=1e3),
)
"""Of forward and backward together; the last two are about the cost of dispatch."""

MEMORY = (Target("SUGAR bsilu", "nn.ReLU inplace", 1.01), Target("SUGAR lean", "nn.ReLU inplace", 1.01))
"""Of the bytes kept for the backward pass of resnet18."""

TRAINING = (Target("SUGAR bsilu", "nn.ReLU inplace", 1.01), Target("SUGAR lean", "nn.ReLU inplace", 1.01))
"""Of a training step of resnet18."""


@dataclass(frozen=True)
class Outcome:
    """The worst figure that a target met with; None where none of its cases was measured."""

    target: Target
    figure: float | None
    interval: tuple[float, float] | None
    """95 %; None for what is counted, not timed."""
    where: str

    @property
    def met(self) -> bool | None:
        """Whether the worst median is within the limit; None where nothing was measured."""
        return None if self.figure is None else self.figure <= self.target.limit

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self.target), "most": None if self.target.most == float("inf") else self.target.most} | {
            "figure": self.figure,
            "interval": self.interval,
            "where": self.where,
            "met": self.met,
        }


def judge_speed(cases: Sequence[Case]) -> list[Outcome]:
    """Every target of speed, in its worst case."""
    return [
        worst(
            target,
            [
                (ratio, f"{short(case.size)} {case.dtype} {case.threads}T")
                for case in cases
                if target.least <= case.size <= target.most
                and case.dtype in target.dtypes
                and (ratio := case.ratio(target.form, target.to))
            ],
        )
        for target in SPEED
    ]


def judge_training(cases: Sequence[TrainingCase]) -> list[Outcome]:
    """Every target of the training step, in its worst case."""
    return [
        worst(
            target,
            [
                (case.timings.ratio(target.form, target.to), f"{case.threads}T")
                for case in cases
                if case.model == "resnet18" and {target.form, target.to} <= case.timings.samples.keys()
            ],
        )
        for target in TRAINING
    ]


def judge_memory(found: Sequence[Memory]) -> list[Outcome]:
    """Every target of memory."""
    kept = {memory.form: memory.kept for memory in found if memory.model == "resnet18"}
    return [
        Outcome(target, kept[target.form] / kept[target.to], None, "")
        if {target.form, target.to} <= kept.keys()
        else Outcome(target, None, None, "")
        for target in MEMORY
    ]


def worst(target: Target, found: Sequence[tuple[Ratio, str]]) -> Outcome:
    if not found:
        return Outcome(target, None, None, "")
    ratio, where = max(found, key=lambda pair: pair[0].median)
    return Outcome(target, ratio.median, (ratio.low, ratio.high), where)
