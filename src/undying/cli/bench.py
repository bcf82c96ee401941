"""``undying bench``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from undying._base.files import write_or_say
from undying.bench.activations import measure_activations
from undying.bench.census import CensusSettings, census_page, measure_census
from undying.bench.memory import measure_memory
from undying.bench.page import Page, activation_page, memory_page, training_page
from undying.bench.policies import PolicySettings, measure_policies, policies_page
from undying.bench.settings import ActivationSettings, NetworkSettings, TrainingSettings
from undying.bench.training import measure_training


@dataclass(frozen=True)
class Outputs:
    """Where results go besides the terminal."""

    json: Path | None = None
    """Also write the results to this file."""
    markdown: Path | None = None
    """Also write the tables, with whole intervals, to this file."""

    def write(self, console: Console, page: Page) -> None:
        """Print the tables, and write the files that were asked for."""
        console.print(page.plain(), markup=False, highlight=False, soft_wrap=True)
        for path, content in ((self.json, page.json()), (self.markdown, page.markdown())):
            if path is not None:
                write_or_say(path, content)


@dataclass(frozen=True)
class BenchActivations:
    """Forward and backward of every activation beside nn.ReLU, and the bytes kept in between."""

    settings: Annotated[ActivationSettings, tyro.conf.arg(name="")] = field(default_factory=ActivationSettings)
    outputs: Annotated[Outputs, tyro.conf.arg(name="")] = field(default_factory=Outputs)

    def __call__(self, console: Console) -> int:
        cases = list(measure_activations(self.settings, _started(console)))
        self.outputs.write(console, activation_page(self.settings, cases))
        return 0


@dataclass(frozen=True)
class BenchMemory:
    """Bytes kept for the backward pass of a network, and the peak of a training step."""

    settings: Annotated[NetworkSettings, tyro.conf.arg(name="")] = field(default_factory=NetworkSettings)
    outputs: Annotated[Outputs, tyro.conf.arg(name="")] = field(default_factory=Outputs)

    def __call__(self, console: Console) -> int:
        found = list(measure_memory(self.settings, _started(console)))
        self.outputs.write(console, memory_page(self.settings, found))
        return 0


@dataclass(frozen=True)
class BenchTraining:
    """A training step of a network from end to end: forward, loss, backward, SGD with momentum."""

    settings: Annotated[TrainingSettings, tyro.conf.arg(name="")] = field(default_factory=TrainingSettings)
    outputs: Annotated[Outputs, tyro.conf.arg(name="")] = field(default_factory=Outputs)

    def __call__(self, console: Console) -> int:
        cases = list(measure_training(self.settings, _started(console)))
        self.outputs.write(console, training_page(self.settings, cases))
        return 0


@dataclass(frozen=True)
class BenchCensus:
    """A census beside a plain pass over the data, and a watched training step beside a plain one."""

    settings: Annotated[CensusSettings, tyro.conf.arg(name="")] = field(default_factory=CensusSettings)
    outputs: Annotated[Outputs, tyro.conf.arg(name="")] = field(default_factory=Outputs)

    def __call__(self, console: Console) -> int:
        cases = list(measure_census(self.settings, _started(console)))
        self.outputs.write(console, census_page(self.settings, cases))
        return 0


@dataclass(frozen=True)
class BenchPolicies:
    """A training step with a Recycler beside a plain one, each policy with its defaults."""

    settings: Annotated[PolicySettings, tyro.conf.arg(name="")] = field(default_factory=PolicySettings)
    outputs: Annotated[Outputs, tyro.conf.arg(name="")] = field(default_factory=Outputs)

    def __call__(self, console: Console) -> int:
        cases = list(measure_policies(self.settings, _started(console)))
        self.outputs.write(console, policies_page(self.settings, cases))
        return 0


@dataclass(frozen=True)
class BenchCommand:
    """Measure speed and memory on this machine, beside PyTorch's own activations."""

    what: Annotated[
        Annotated[BenchActivations, tyro.conf.subcommand("activations")]
        | Annotated[BenchMemory, tyro.conf.subcommand("memory")]
        | Annotated[BenchTraining, tyro.conf.subcommand("training")]
        | Annotated[BenchCensus, tyro.conf.subcommand("census")]
        | Annotated[BenchPolicies, tyro.conf.subcommand("policies")],
        tyro.conf.arg(name=""),
    ]

    def __call__(self, console: Console) -> int:
        return self.what(console)


def _started(console: Console) -> Callable[[str], None]:
    """Tells a person what is being measured; a file or a pipe gets the results alone."""

    def tell(what: str) -> None:
        if console.is_terminal:
            console.print(f"measuring {what}", markup=False, highlight=False, style="dim")

    return tell
