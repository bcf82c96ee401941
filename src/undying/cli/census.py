"""``undying census``: which units of a network fire, as a table, a file, a page, a gate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from undying._base import imports
from undying._base.errors import UndyingError
from undying._base.files import write_or_say
from undying._base.patterns import SKIPPED
from undying.census.census import census
from undying.census.results import Census
from undying.lab import data, models
from undying.lab.data.folder import folder
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
    """What to count on: a data set as in compare (its test part, or all images of a folder without parts, normalized as
    compare does it); random:256,3,64,64 (normally distributed numbers); or package.module:function, which takes no
    arguments and returns batches for undying.census."""
    checkpoint: Path | None = None
    """State dict to load: a .safetensors file, or one that torch.save wrote, read with weights_only. Without it the
    network is counted as it is built."""
    train: bool = False
    """Count on the training part of the data set instead."""
    image_size: int = 0
    """Bring a folder's images to this many pixels a side; 0: keep them, all of one size."""
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
    skip: tuple[str, ...] = ()
    """Patterns of sites to leave out, such as 'head.*'."""
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
        model, batches, source = self._model_and_batches()
        if self.checkpoint is not None:
            load_weights(model, self.checkpoint)
        try:
            counted = census(
                model, batches, tau=self.tau, gradients=self.gradients, axes=_axes(self.axes), skip=self.skip
            )
        except (RuntimeError, TypeError, ValueError) as error:
            raise UndyingError(f"{self.model} on {self.data}: {error}") from None
        console.print(str(counted), markup=False, highlight=False, soft_wrap=True)
        if any(site.samples and site.silent is not None and site.silent.any() for site in counted.sites):
            console.print(
                "silent: no firing in N samples, so each fires in fewer than about 3 / N of such samples (95 %)",
                style="dim",
            )
        source = f"{_samples(counted)}: {source}"
        console.print(f"counted on {source}", markup=False, highlight=False, soft_wrap=True)
        self._write(counted, source)
        return self._judge(counted, console)

    def _check(self) -> None:
        if not (0 <= self.limit < 2**31 and 1 <= self.batch_size < 2**31):
            raise UndyingError(
                f"--limit must be at least 0, --batch-size 1, both below 2**31, not {self.limit} and {self.batch_size}"
            )
        if not 0 <= self.seed < 2**63:
            raise UndyingError(f"--seed must be at least 0 and below 2**63, not {self.seed}")
        if self.image_size < 0 or (self.image_size and data.source(self.data) is not folder):
            raise UndyingError(f"--image-size is a number of pixels for a folder of images, not {self.image_size}")
        if not self.tau >= 0:
            raise UndyingError(f"--tau must be at least 0, not {self.tau}")
        if self.max_dead is not None and not 0 <= self.max_dead <= 1:
            raise UndyingError(f"--max-dead is a share from 0 to 1, not {self.max_dead}")

    def _model_and_batches(self) -> tuple[nn.Module, Iterable[Any], str]:
        """The network, what to count on, and where that comes from."""
        if self.data.startswith("random:"):
            if self.gradients:
                raise UndyingError("--gradients needs labels, which random data have not; give a data set or batches")
            return _made(self.model, None), torch.randn(_shape(self.data)).split(self.batch_size), self.data
        if data.source(self.data) is imported:
            return _made(self.model, None), imports.call(self.data, "data"), self.data
        found = data.load(self.data, self.image_size, whole=not self.train)
        samples, y = (found.x_train, found.y_train) if self.train else (found.x_test, found.y_test)
        x = found.standardised(samples)
        limit = self.limit or len(x)
        pairs = zip(x[:limit].split(self.batch_size), y[:limit].split(self.batch_size), strict=True)
        part = "all" if found.whole else f"the {'training' if self.train else 'test'} part"
        return _made(self.model, found), pairs, f"{part} of {self.data}"

    def _page(self, counted: Census, source: str) -> str:
        from undying.report.census import census_page

        facts = [
            ("model", self.model),
            ("weights", str(self.checkpoint.name) if self.checkpoint else f"as made, seed {self.seed}"),
            ("data", source),
            ("loss", counted.loss or "none: no backward pass"),
            ("tau", f"{self.tau:g}"),
            ("probe", str(counted.probe)),
        ]
        return census_page(counted, self.model, facts)

    def _write(self, counted: Census, source: str) -> None:
        for path, content in ((self.json, counted.to_json), (self.html, lambda: self._page(counted, source))):
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
                f"--max-dead cannot be judged: not recognised, so not counted: {places}; --skip leaves one out, "
                "--allow-unrecognised judges by the rest"
            )
        left = [f"{name} ({reason})" for name, reason in counted.left_out.items() if not reason.startswith(SKIPPED)]
        if left:
            raise UndyingError(f"--max-dead cannot be judged: {'; '.join(left)} not counted; --skip leaves it out")
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


def _samples(counted: Census) -> str:
    samples = max((site.samples for site in counted.sites if site.samples is not None), default=None)
    return "an unknown number of samples" if samples is None else f"{samples} sample{'' if samples == 1 else 's'}"


def _shape(spec: str) -> list[int]:
    try:
        sizes = [int(size) for size in spec.removeprefix("random:").split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1 or math.prod(sizes) >= 2**40:
        raise UndyingError(
            f"--data {spec!r} must be random: and a shape that fits in memory, such as random:256,3,64,64"
        )
    return sizes


def _axes(given: tuple[str, ...]) -> dict[str, int]:
    axes = {}
    for word in given:
        name, _, axis = word.rpartition("=")
        if not name or not axis.lstrip("-").isdigit():
            raise UndyingError(f"--axes {word!r} must be site=axis, such as act=1")
        axes[name] = int(axis)
    return axes
