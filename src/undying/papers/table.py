"""What a table is: tasks with their settings at each scale, published numbers, claims, and what is our own choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from undying.lab import data, models
from undying.lab.data.dataset import Dataset
from undying.lab.own_activations import source_sha256
from undying.lab.recipe import Recipe
from undying.lab.settings import AnyRun, RunConfig

SCALES = ("full", "small", "smoke")

METRICS = {
    "accuracy": "test accuracy",
    "silent": "share of silent units",
    "dead": "share of dead units",
    "sparsity": "share of outputs that are exactly 0",
    "gradient": "gradient norm",
    "update": "norm of a step's change of the weights",
    "curvature": "largest curvature of the loss",
    "area": "area under the learning curve",
    "online": "accuracy at the end of each task",
    "revived": "share of revived units",
    "recovered": "share of networks that recovered",
    "recycled": "units recycled, over all units",
    "slope": "slope of the online accuracy over the tasks",
    "change": "change of the online accuracy from the first task to the last, along its slope",
    "dormant": "share of dormant units",
    "rank": "effective rank of the features",
    "weights": "norm of the weights",
}
"""What is measured of a run: after its last epoch, a share in [0, 1]; and those of ``LOGARITHMS``. Those from ``area`` on
are of kinds of run of their own."""

LOGARITHMS = ("gradient", "update", "curvature")
"""Norms are means over all of training. They are kept as natural logarithms: a difference is told as a ratio, in per cent."""


@dataclass(frozen=True)
class Metric:
    """A column of the page, or the axis of a curve."""

    metric: str
    """As ``RunResult.of`` and ``RunResult.curves`` call it; there it is a share in [0, 1]."""
    text: str
    most: float = 0.0
    """What a share of 1 stands for, such as a return of 500; 0: it is shown in percent."""
    places: int = 1
    """After the decimal point."""

    @property
    def factor(self) -> float:
        return self.most or 100

    @property
    def heading(self) -> str:
        return self.text if self.most else f"{self.text}, %"


@dataclass(frozen=True)
class Stage:
    """Runs that belong together: every arm at every rate, one seed after the other."""

    arms: tuple[str, ...]
    """Activations or treatments, as ``undying.lab.treatments`` spells them."""
    rates: tuple[float, ...]
    """Learning rates."""


def times(lr: float, *factors: float) -> tuple[float, ...]:
    """Learning rates that are so many times ``lr``.

    >>> times(0.001, 3, 0.3)
    (0.003, 0.0003)
    """
    return tuple(float(f"{factor * lr:.6g}") for factor in factors)


@dataclass(frozen=True)
class Task:
    """One network on one data set: its arms are compared with each other. Its runs are those of ``undying compare``; with
    others it is a ``KindTask``."""

    name: str
    """What claims and published numbers call it; the same at every scale."""
    data: str
    model: str
    stages: tuple[Stage, ...]
    """In the order in which they are run, those of all tasks alternating: an interrupted table has the first ones whole."""
    seeds: tuple[int, ...]
    epochs: int
    lr: float
    """The published rate, or ours where none is published; the others of the stages are the grid."""
    optimizer: str
    batch_size: int
    recipe: Recipe = field(default_factory=Recipe)
    keep: tuple[str, ...] = ()
    """What its runs keep beside the numbers; see ``RunConfig``."""
    metrics: tuple[Metric, ...] = ()
    """The columns of its page, the first of which is the score; none: those of accuracies."""
    curves: tuple[Metric, ...] = ()
    """The figures of its page; none: those of accuracies."""
    over: str = ""
    """What a curve goes over."""
    seconds: float | None = None
    """That a run takes one core of an AMD EPYC, about, where it was measured: networks too small for a GPU."""

    @property
    def arms(self) -> tuple[str, ...]:
        """Each once, in the order of the stages."""
        return tuple(dict.fromkeys(arm for stage in self.stages for arm in stage.arms))

    def rates(self, arm: str) -> tuple[float, ...]:
        """Learning rates of an arm, ascending."""
        return tuple(sorted({rate for stage in self.stages if arm in stage.arms for rate in stage.rates}))

    @property
    def grid(self) -> tuple[float, ...]:
        """All learning rates, ascending."""
        return tuple(sorted({rate for stage in self.stages for rate in stage.rates}))

    @property
    def tuned(self) -> str:
        """The arms that have more rates than one, as a page lists them."""
        return ", ".join(f"`{arm}`" for arm in self.arms if len(self.rates(arm)) > 1)

    @property
    def most(self) -> float:
        """What a score of 1 stands for."""
        return (self.metrics[0].most if self.metrics else 0) or 1

    def load(self, data_root: Path | None) -> Dataset | None:
        """The data that a plan must have for its runs; None where they have their own."""
        return data.load(self.data, self.recipe.image_size, data_root)

    def config(self, arm: str, rate: float, seed: int, data_sha256: str) -> AnyRun:
        """One of its runs."""
        return RunConfig(
            data=self.data,
            data_sha256=data_sha256,
            model=self.model,
            model_sha256=models.own_source(self.model),
            activation=arm,
            activation_sha256=source_sha256(arm),
            seed=seed,
            epochs=self.epochs,
            lr=rate,
            optimizer=self.optimizer,
            batch_size=self.batch_size,
            keep=self.keep,
            **asdict(self.recipe),
        )

    def settings(self, described: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, str]:
        """What its page says of the settings, by label; ``described`` is what ``Dataset.describe`` says of its data."""
        train = self.recipe.subset or described["train"]
        return {
            "network": self.model,
            "data": f"{described['name']}, {described['test']:,} to test, hash {described['sha256'][:12]}",
            "trained on": f"{train - round(self.recipe.validation * train):,} samples",
            "seeds": " ".join(map(str, seeds)),
            "epochs": str(self.epochs),
            "batch": str(self.batch_size),
            "optimizer": f"{self.optimizer} at {self.lr:g}",
            "grid of rates": ", ".join(f"{rate:g}" for rate in self.grid) if len(self.grid) > 1 else "none",
            "arms with the grid": self.tuned,
            "beside defaults": _changed(self.recipe),
        }


def _changed(recipe: Recipe) -> str:
    """The options that are not at their defaults."""
    plain = Recipe()
    changed = {name: value for name, value in vars(recipe).items() if value != getattr(plain, name)}
    return ", ".join(
        f"{name.replace('_', ' ')} {' '.join(value) if isinstance(value, tuple) else value}"
        for name, value in changed.items()
    )


@dataclass(frozen=True)
class Grid:
    """How a loss landscape is computed."""

    points: int
    """Along each direction: an odd number, so that the network itself is one of them."""
    reach: float
    """The farthest, in lengths of the direction."""
    images: int
    """The first so many test images give the loss."""
    curved: int
    """The first so many of these give the Hessian."""
    iterations: int
    """Of the power method."""


@dataclass(frozen=True)
class Scale:
    """A table at one size."""

    tasks: tuple[Task, ...]
    limits: tuple[str, ...] = ()
    """What it cannot answer, and where it differs from the published scale."""
    answers: bool = True
    """Whether it can say anything at all about a claim. A smoke test cannot."""
    grid: Grid | None = None
    """Where the loss around each run's end is looked at, for a table that shows a landscape."""


@dataclass(frozen=True)
class Published:
    """A number of the source."""

    task: str
    arm: str
    value: float
    """A share in [0, 1]."""
    metric: str = "accuracy"
    note: str = ""
    """Where the source leaves open what the number is of."""


@dataclass(frozen=True)
class Claim:
    """A difference that the source states: of ``arm`` minus ``against``, in ``metric``."""

    text: str
    task: str
    arm: str
    against: str
    says: str = "higher"
    """``"higher"``, ``"lower"``, ``"not worse"`` or ``"no gain"``; see ``undying.papers.verdicts``."""
    metric: str = "accuracy"
    own_rates: bool = False
    """Each of the two at its own best learning rate, instead of both at the published one."""
    published: str = ""
    """What the source says of the difference, where its numbers are not given."""
    by_construction: str = ""
    """Why no run can decide it, where that is so."""


@dataclass(frozen=True)
class Gain:
    """A gain in accuracy, and the arms that tell how much of it remains under a control."""

    task: str
    arm: str
    against: str
    controls: Mapping[str, str] = field(default_factory=dict)
    """Arm -> what it holds fixed."""


@dataclass(frozen=True)
class Table:
    """A grid of runs with what was published of it."""

    name: str
    says: str
    """What the source says, in a line."""
    source: str
    scales: Mapping[str, Scale]
    given: tuple[str, ...]
    """Settings that the source gives."""
    chosen: tuple[str, ...]
    """Settings that are our choice because it does not."""
    published: tuple[Published, ...]
    claims: tuple[Claim, ...]
    gains: tuple[Gain, ...]
    shows: str = ""
    """The section that its page has beside accuracies: one of ``undying.papers.details.SECTIONS``."""
    score: str = "test accuracy"
    """What its ``accuracy`` is."""
    diverged: str = "the accuracy of guessing"
    """What that of a run is that diverged."""
    points: str = ""
    """What a percentage point is, where that is not a share of samples or units."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Heading -> markdown: what else its page says, below the results."""

    def number(self, task: str, arm: str, metric: str) -> Published | None:
        """What the source says of an arm."""
        found = (p for p in self.published if (p.task, p.arm, p.metric) == (task, arm, metric))
        return next(found, None)

    def difference(self, claim: Claim) -> float | None:
        """That of the source's two numbers; None where it does not give both."""
        first, second = (self.number(claim.task, arm, claim.metric) for arm in (claim.arm, claim.against))
        return first.value - second.value if first and second else None
