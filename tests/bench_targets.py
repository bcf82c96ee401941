"""What undying's own forms should reach, and whether they do: python tests/bench_targets.py WHAT [OPTION ...]

WHAT and its options are those of ``undying bench``. It measures, and prints the page of results and the targets.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from undying._base.text import markdown
from undying.bench.activations import Case, measure_activations
from undying.bench.census import CensusCase, CensusSettings, census_page, measure_census
from undying.bench.memory import Memory, measure_memory
from undying.bench.page import Page, activation_page, memory_page, training_page
from undying.bench.policies import PolicySettings, measure_policies, policies_page
from undying.bench.settings import ActivationSettings, NetworkSettings, TrainingSettings, short
from undying.bench.timing import Ratio
from undying.bench.training import TrainingCase, measure_training
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
    *(Target(f"SUGAR {name}", "nn.ReLU", 1.20, least=1e6, dtypes=("bfloat16", "float16")) for name in SURROGATES),
    Target("SUGAR bsilu", "nn.SiLU", 0.9, dtypes=_EVERY),
    Target("SUGAR bsilu", "Function SUGAR", 1 / 4, least=1e6),
    Target("SUGAR bsilu", "Function SUGAR", 1 / 2.3, least=1e5, most=1e5),
    Target("SUGAR compiled", "Function SUGAR compiled", 1.0),
    Target("SUGAR compiled", "nn.ReLU", 1.15, least=1e7, most=1e7),
    Target("BAReLU", "nn.ReLU", 1.0111, least=1e6),
    Target("BAReLU inplace", "nn.ReLU inplace", 1.05, least=1e6),
    Target("SUGAR bsilu", "nn.ReLU", 1.45, least=1e3, most=1e3),
    Target("BAReLU", "nn.ReLU", 1.5, least=1e3, most=1e3),
)
"""Of forward and backward together; the last two are about the cost of dispatch."""

MEMORY = (
    Target("SUGAR bsilu", "nn.ReLU inplace", 1.01),
    Target("SUGAR lean", "nn.ReLU inplace", 1.01),
)
"""Of the bytes kept for the backward pass of resnet18."""

TRAINING = (Target("SUGAR bsilu", "nn.ReLU inplace", 1.01), Target("SUGAR lean", "nn.ReLU inplace", 1.01))
"""Of a training step of resnet18."""

CENSUS = (
    Target("census", "eval pass", 1.05),
    Target("step, every=1", "step", 1.05),
    Target("step, every=50", "step", 1.01),
    Target("compiled, every=50", "compiled", 1.02),
)
"""Of counting, in every network."""

POLICIES = tuple(
    Target(name, "step", 1.03) for name in ("ReDo", "GradientDormancy", "ContinualBackprop", "SelfNormalizedResets")
)
"""Of a training step, in every network."""


@dataclass(frozen=True)
class Checked:
    """The worst figure that a target met with; None where none of its cases was measured."""

    target: Target
    figure: float | None
    where: str

    @property
    def met(self) -> bool | None:
        """Whether the worst median is within the limit; None where nothing was measured."""
        return None if self.figure is None else self.figure <= self.target.limit


def check_speed(cases: Sequence[Case]) -> list[Checked]:
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


def check_training(cases: Sequence[TrainingCase]) -> list[Checked]:
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


def check_memory(found: Sequence[Memory]) -> list[Checked]:
    """Every target of memory."""
    kept = {memory.form: memory.kept for memory in found if memory.model == "resnet18"}
    return [
        Checked(target, kept[target.form] / kept[target.to], "")
        if {target.form, target.to} <= kept.keys()
        else Checked(target, None, "")
        for target in MEMORY
    ]


def check_census(cases: Sequence[CensusCase], targets: Sequence[Target] = CENSUS) -> list[Checked]:
    """Every target of counting, or of policies, in its worst case."""
    return [
        worst(
            target,
            [
                (ratio, f"{case.model} {case.threads}T")
                for case in cases
                if (ratio := case.ratios.get((target.form, target.to)))
            ],
        )
        for target in targets
    ]


def worst(target: Target, found: Sequence[tuple[Ratio, str]]) -> Checked:
    if not found:
        return Checked(target, None, "")
    ratio, where = max(found, key=lambda pair: pair[0].value)
    return Checked(target, ratio.value, where)


def table(checked: Sequence[Checked]) -> list[list[str]]:
    """A row a target: its worst figure, where that was, and whether it is met; ``?`` where nothing was measured."""
    rows = [["target", "figure", "met", "worst at"]]
    for one in checked:
        figure = "" if one.figure is None else f"{one.figure:.3f}"
        rows.append([str(one.target), figure, {None: "?", True: "yes", False: "no"}[one.met], one.where])
    return rows


Settings = (
    Annotated[ActivationSettings, tyro.conf.subcommand("activations")]
    | Annotated[NetworkSettings, tyro.conf.subcommand("memory")]
    | Annotated[TrainingSettings, tyro.conf.subcommand("training")]
    | Annotated[CensusSettings, tyro.conf.subcommand("census")]
    | Annotated[PolicySettings, tyro.conf.subcommand("policies")]
)


def measured(settings: Settings) -> tuple[Page, list[Checked]]:
    """The page of what ``settings`` name, and its targets."""
    if isinstance(settings, ActivationSettings):
        cases = list(measure_activations(settings))
        return activation_page(settings, cases), check_speed(cases)
    if isinstance(settings, CensusSettings):
        counted = list(measure_census(settings))
        return census_page(settings, counted), check_census(counted)
    if isinstance(settings, PolicySettings):
        trained = list(measure_policies(settings))
        return policies_page(settings, trained), check_census(trained, POLICIES)
    if isinstance(settings, TrainingSettings):
        steps = list(measure_training(settings))
        return training_page(settings, steps), check_training(steps)
    found = list(measure_memory(settings))
    return memory_page(settings, found), check_memory(found)


def main(arguments: Sequence[str]) -> None:
    page, checked = measured(tyro.cli(Settings, prog="bench_targets.py", description="", args=arguments))
    print(page.markdown())
    print(f"Targets:\n\n{markdown(table(checked))}")


if __name__ == "__main__":
    sys.argv.insert(1, "bench")  # the page names the command that measures the same
    main(sys.argv[2:])
