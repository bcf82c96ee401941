"""``undying census``: which units of a network fire, as a table, a file, a page, a gate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from undying._base.errors import UndyingError
from undying._base.files import write_or_say
from undying.census.census import census
from undying.census.results import Census
from undying.lab import data, imports, models
from undying.lab.data.imported import imported
from undying.lab.models.checkpoint import load_weights


@dataclass(frozen=True)
class CensusCommand:
    """Count which units of a network fire, and which are silent, dead, dormant, saturated or unused.

    Exit status 1 if more units are dead than --max-dead allows.
    """

    model: str
    """Network: a name as in compare, or package.module:function, which takes no arguments and returns one."""
    data: str = "digits"
    """What to count on: a data set as in compare (its test part, standardised as compare does it); random:256,3,64,64
    (normally distributed numbers); or package.module:function, which takes no arguments and returns batches for
    undying.census."""
    checkpoint: Path | None = None
    """State dict to load: a .safetensors file, or one that torch.save wrote, read with weights_only. Without it the
    network is counted as it is built."""
    train: bool = False
    """Count on the training part of the data set instead."""
    limit: int = 0
    """Largest number of samples; 0: all."""
    batch_size: int = 256
    """Samples in a batch."""
    gradients: bool = False
    """Also run the backward pass of the loss on the labels, which tells dead units from silent ones."""
    tau: float = 0.025
    """Dormancy threshold."""
    axes: tuple[str, ...] = ()
    """Axis of the units, for sites where it cannot be told, such as site=1."""
    max_dead: float | None = None
    """Largest share of dead units that passes, such as 0.05."""
    allow_unrecognised: bool = False
    """Judge --max-dead by the counted units where some places that act as an activation are not recognised."""
    json: Path | None = None
    """Also write the census to this file, for undying.Census.load."""
    html: Path | None = None
    """Also write a page that shows every unit to this file."""
    seed: int = 0
    """Seed of random weights and random data."""

    def __call__(self, console: Console) -> int:
        self._check()
        torch.manual_seed(self.seed)
        model, batches = self._model_and_batches()
        if self.checkpoint is not None:
            load_weights(model, self.checkpoint)
        try:
            counted = census(model, batches, tau=self.tau, gradients=self.gradients, axes=_axes(self.axes))
        except (RuntimeError, TypeError, ValueError) as error:
            raise UndyingError(f"{self.model} on {self.data}: {error}") from None
        console.print(str(counted), markup=False, highlight=False, soft_wrap=True)
        if any(site.silent is not None and site.silent.any() for site in counted.sites):
            console.print("silent: no firing in N values, so fewer than about 3 / N of them fire (95 %)", style="dim")
        self._write(counted)
        return self._judge(counted, console)

    def _check(self) -> None:
        if self.limit < 0 or self.batch_size < 1:
            raise UndyingError(f"--limit must be at least 0 and --batch-size 1, not {self.limit} and {self.batch_size}")
        if not self.tau >= 0:
            raise UndyingError(f"--tau must be at least 0, not {self.tau}")
        if self.max_dead is not None and not 0 <= self.max_dead <= 1:
            raise UndyingError(f"--max-dead is a share from 0 to 1, not {self.max_dead}")

    def _model_and_batches(self) -> tuple[nn.Module, Iterable[Any]]:
        if self.data.startswith("random:"):
            if self.gradients:
                raise UndyingError("--gradients needs labels, which random data have not; give a data set or batches")
            return _made(self.model, None), torch.randn(_shape(self.data)).split(self.batch_size)
        if data.source(self.data) is imported:
            return _made(self.model, None), imports.call(self.data, "data")
        found = data.load(self.data)
        samples, y = (found.x_train, found.y_train) if self.train else (found.x_test, found.y_test)
        x = found.standardised(samples)
        limit = self.limit or len(x)
        pairs = zip(x[:limit].split(self.batch_size), y[:limit].split(self.batch_size), strict=True)
        return _made(self.model, found), pairs

    def _page(self, counted: Census) -> str:
        from undying.report.census import census_page

        facts = [
            ("model", self.model),
            ("weights", str(self.checkpoint.name) if self.checkpoint else f"as made, seed {self.seed}"),
            (
                "data",
                f"{self.data}, {'training' if self.train else 'test'} part" if ":" not in self.data else self.data,
            ),
            ("loss", counted.loss or "none: no backward pass"),
            ("tau", f"{self.tau:g}"),
            ("probe", str(counted.probe)),
        ]
        return census_page(counted, self.model, facts)

    def _write(self, counted: Census) -> None:
        for path, content in ((self.json, counted.to_json), (self.html, lambda: self._page(counted))):
            if path is not None:
                write_or_say(path, content())

    def _judge(self, counted: Census, console: Console) -> int:
        if self.max_dead is None:
            return 0
        if counted.ambiguous:
            raise UndyingError(f"--max-dead cannot be judged: {', '.join(counted.ambiguous)} not counted; give --axes")
        if counted.unrecognised and not self.allow_unrecognised:
            places = "; ".join(f"{name} ({place})" for name, place in counted.unrecognised.items())
            raise UndyingError(
                f"--max-dead cannot be judged: not recognised, so not counted: {places}; --allow-unrecognised judges by the rest"
            )
        dead = counted.dead_fraction
        if dead is None:
            unknown = [site.name for site in counted.sites if site.dead is None]
            raise UndyingError(
                f"--max-dead cannot be judged: dead is unknown at {', '.join(unknown)}; give --gradients"
            )
        passed = dead <= self.max_dead
        console.print(
            f"{100 * dead:.2f} % of the units are dead, {'within' if passed else 'more than'} the {100 * self.max_dead:g} % "
            "of --max-dead",
            highlight=False,
        )
        return 0 if passed else 1


def _made(model: str, found: data.Dataset | None) -> nn.Module:
    """The network: made for the data where they are a data set, else as it comes."""
    if found is not None and model in models.MODELS:
        return models.build(model, found.shape, found.classes)
    if model in models.MODELS:
        raise UndyingError(f"--model {model} is made for a data set; give one as --data, or torchvision:NAME")
    return models.load_model(model)


def _shape(spec: str) -> list[int]:
    try:
        sizes = [int(size) for size in spec.removeprefix("random:").split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise UndyingError(f"--data {spec!r} must be random: and a shape, such as random:256,3,64,64")
    return sizes


def _axes(given: tuple[str, ...]) -> dict[str, int]:
    axes = {}
    for word in given:
        name, _, axis = word.rpartition("=")
        if not name or not axis.lstrip("-").isdigit():
            raise UndyingError(f"--axes {word!r} must be site=axis, such as act=1")
        axes[name] = int(axis)
    return axes
