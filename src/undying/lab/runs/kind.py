"""What a kind of run is, and those that there are.

The store, the executors and the tables know runs through this alone. A new kind is a file beside this one, with a config
and a ``KIND``, and a line in ``KINDS``.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

from torch import Tensor

from undying.census.results import Census
from undying.lab.checkpoints import Checkpoint
from undying.lab.execution import Execution
from undying.lab.runs.start import Start
from undying.lab.settings import AnyRun
from undying.lab.treatments import build_treatment

Config = TypeVar("Config", bound=AnyRun)
Lines = Sequence[dict[str, Any]]
"""Those of metrics.jsonl, one an epoch; the first is before training."""
Curve = tuple[float | None, ...]

KINDS = {
    "": "undying.lab.runs.classification",
    "cartpole": "undying.lab.runs.cartpole",
    "dying": "undying.lab.runs.dying",
    "rl": "undying.lab.runs.reinforcement",
    "dying-dqn": "undying.lab.runs.dying_dqn",
    "sae": "undying.lab.runs.sae",
    "online": "undying.lab.runs.online",
    "changing-agent": "undying.lab.runs.changing",
}
"""What config.json calls it (nothing: those of ``undying compare``) -> its module, imported when it is asked for."""


TOGETHER = {"": "undying.lab.runs.together"}
"""The same of those whose runs can be trained several at once -> the module that does it."""


@dataclass(frozen=True)
class Epoch:
    """What is known after an epoch; epoch 0 is before training."""

    metrics: dict[str, Any]
    """One line of metrics.jsonl."""
    census: Census | None
    """The last one that could be made: a diverged network is not counted."""
    diverged: bool = False
    weights: dict[str, Tensor] | None = None
    """Of the last epoch, where they are to be kept."""
    start: Start | None = None
    """Of epoch 0."""


@dataclass(frozen=True)
class Run:
    """A finished run as read back."""

    config: AnyRun
    status: str
    """``"finished"`` or ``"diverged"``."""
    seconds: float
    epochs: list[dict[str, Any]]
    """The lines of metrics.jsonl; the first is before training."""
    environment: dict[str, str]
    start: Start | None = None
    """None of early versions, which did not note it."""


class AloneError(Exception):
    """Runs cannot be trained together; each is to be trained alone."""


class Together(Protocol):
    """What a module of ``TOGETHER`` has."""

    def may_train_together(self, config: Any, execution: Execution) -> bool:
        """Whether ``train_together`` can be tried with runs that differ in their seed alone."""

    def train_together(
        self, configs: Sequence[Any], execution: Execution, checkpoints: Sequence[Checkpoint] | None
    ) -> Iterator[tuple[int, Epoch]]:
        """The epochs of each run from its first on, with its place in ``configs``, and every number as ``train`` gives it.

        Args:
            configs: of runs that differ in their seed alone.
            execution: how to train.
            checkpoints: of each; states are written to them, from which ``train`` goes on, and none is read. None: none are written.

        Raises:
            AloneError: before the first epoch: they are to be trained alone.
        """


class Kind(ABC, Generic[Config]):
    """One kind of run: its config, how it is trained, and what its lines say."""

    config: type[Config]

    @abstractmethod
    def train(self, config: Config, execution: Execution, checkpoint: Checkpoint | None) -> Iterator[Epoch]:
        """Train as ``config`` says, if it can from the state in ``checkpoint``, where there is one. A run that stops being finite ends with a
        last, diverged epoch."""

    def check(self, config: Config, execution: Execution) -> None:
        """Before anything of it is written.

        Raises:
            UndyingError: no run with its network can be trusted.
        """

    def is_treated(self, config: Config) -> bool:
        """Whether more is done than an activation put in, which may not fit its network: then it is rehearsed.

        Raises:
            UndyingError: there is no such treatment.
        """
        return bool(build_treatment(config.activation).parts)

    @abstractmethod
    def rehearse(self, config: Config, execution: Execution) -> None:
        """Begin a run on a few samples and train nothing, to see whether its treatment fits its network.

        Raises:
            UndyingError: it does not.
        """

    def versions(self) -> dict[str, str]:
        """Of libraries beside torch that decide its numbers."""
        return {}

    def describe(self, config: Config, execution: Execution) -> dict[str, Any]:
        """What is recorded of its data.

        Raises:
            UndyingError: they are not those that ``config`` was made for.
        """
        return {"name": config.data}

    @abstractmethod
    def values(self, config: Config, lines: Lines, chance: float) -> dict[str, float]:
        """What a finished run ended with, by metric: shares in [0, 1], NaN where it is not known.

        ``accuracy`` is its score, in whatever its kind is scored; ``validation`` the same on what was held out, by which a
        learning rate is chosen. ``chance`` is the score of guessing, with which a diverged run counts; a kind whose data
        are always the same has its own.
        """

    def curves(self, config: Config, lines: Lines) -> dict[str, Curve]:
        """What went on in training, by metric, an entry a line; ``over`` is the axis. None where it is not known."""
        return {}


def kind_named(name: str) -> Kind[Any]:
    """The kind that config.json calls ``name``.

    Raises:
        KeyError: there is none.
    """
    kind: Kind[Any] = importlib.import_module(KINDS[name]).KIND
    return kind


def kind_of(config: AnyRun) -> Kind[Any]:
    """The kind of a run."""
    return kind_named(config.kind)


def together_of(config: AnyRun) -> Together | None:
    """What trains several runs of its kind at once; None: nothing."""
    module = TOGETHER.get(config.kind)
    return None if module is None else cast(Together, importlib.import_module(module))
