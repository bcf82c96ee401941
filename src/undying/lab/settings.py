"""What to compare. The dataclasses are the command line, its help and the stored configs at once."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from dataclasses import asdict, dataclass, fields
from typing import Any

from undying.errors import UndyingError
from undying.lab import data
from undying.lab.activations import build_activation
from undying.lab.models import MODELS
from undying.lab.optimizers import OPTIMIZERS

FORMAT = 1
"""Of everything in the run store. A reader refuses a higher one."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers of a comparison."""

    data: str = "digits"
    """Data set: digits (scikit-learn's 1,797 handwritten digits of 8x8 pixels, part of the package), fashion-mnist,
    cifar10, cifar100 (downloaded by torchvision), a folder of images (train/CLASS/*, test/CLASS/*, or CLASS/*), a
    Keras-style .npz (x_train, y_train, x_test, y_test), or package.module:function giving two datasets or loaders."""
    model: str = "mlp"
    """Network: mlp (6 hidden layers of 128 units)."""
    activations: tuple[str, ...] = ("relu", "leaky_relu", "barelu", "sugar", "sugar:nelu", "gelu")
    """Activations to compare; the first is the baseline. A name may carry a surrogate and arguments, as in
    sugar:nelu:a=0.1, sugar:region=negative or barelu:eps=0.01."""
    seeds: int = 10
    """Number of seeds. The same seed gives every activation the same initial weights and data order."""
    epochs: int = 15
    """Passes over the training data."""
    lr: float = 0.01
    """Learning rate."""
    optimizer: str = "adam"
    """Optimizer: adam, adamw or sgd (momentum 0.9)."""
    batch_size: int = 64
    """Training samples a step."""

    def __post_init__(self) -> None:
        data.source(self.data)
        _known("model", self.model, MODELS)
        _known("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("seeds", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UndyingError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(self, name)}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise UndyingError(f"--lr must be above 0, not {self.lr}")
        if len(self.activations) < 2:
            raise UndyingError("--activations needs at least two: the baseline and one to compare with it")
        for spec in self.activations:
            if self.activations.count(spec) > 1:
                raise UndyingError(f"--activations names {spec!r} twice; name it once")
            build_activation(spec)

    def runs(self, data_sha256: str) -> list[RunConfig]:
        """Every run of the comparison, one seed after the other."""
        shared = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("activations", "seeds")}
        return [
            RunConfig(activation=activation, seed=seed, data_sha256=data_sha256, **shared)
            for seed in range(self.seeds)
            for activation in self.activations
        ]

    def command(self, out: str) -> str:
        """The command line that makes this comparison again."""
        words = ["undying", "compare"]
        for name, value in asdict(self).items():
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
        return shlex.join([*words, "--out", out])


@dataclass(frozen=True)
class RunConfig:
    """One training: everything that decides its numbers."""

    data: str
    data_sha256: str
    model: str
    activation: str
    seed: int
    epochs: int
    lr: float
    optimizer: str
    batch_size: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the format of the store."""
        return {"format": FORMAT, **asdict(self)}

    @property
    def id(self) -> str:
        """Hash of the canonical config."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _known(field: str, value: str, names: Any) -> None:
    if value not in names:
        raise UndyingError(f"unknown --{field} {value!r}; known: {', '.join(names)}")
