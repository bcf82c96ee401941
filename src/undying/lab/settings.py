"""What to compare. The dataclasses are the command line, its help and the stored configs at once."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from types import MappingProxyType, NoneType
from typing import Any, ClassVar

from undying._base.errors import UndyingError
from undying.lab import data, models, tasks
from undying.lab import grid as grids
from undying.lab.optimizers import OPTIMIZERS
from undying.lab.recipe import Recipe, one_of
from undying.lab.treatments import build_treatment

_HELD_OUT = 0.1
"""Share of the training data by which a grid chooses, unless another is given."""
FORMAT = 1
"""Of everything in the run store. A reader refuses a higher one."""


_TYPES: dict[str, Any] = {
    "str": str,
    "int": int,
    "bool": bool,
    "float": (int, float),
    "float | None": (int, float, NoneType),
    "tuple[str, ...]": tuple,
}


def check_types(settings: Any) -> None:
    """Raises TypeError for a dataclass of this module that was read from a file and holds something else."""
    for f in fields(settings):
        value = getattr(settings, f.name)
        words = value if isinstance(value, tuple) else ()
        if not isinstance(value, _TYPES[str(f.type)]) or not all(isinstance(word, str) for word in words):
            raise TypeError(f"{f.name} is {value!r:.40}")


@dataclass(frozen=True)
class Essentials:
    """What to compare on what."""

    data: str = "digits"
    """Data set: digits (scikit-learn's 1,797 handwritten digits of 8x8 pixels, part of the package); fashion-mnist,
    cifar10 or cifar100 (downloaded by torchvision); a folder of images (train/CLASS/*, test/CLASS/*, or CLASS/*); a
    .csv file with a header (see --columns); a Keras-style .npz file (x_train, y_train, x_test, y_test); or
    package.module:function, which returns two datasets or loaders."""
    model: str = "mlp"
    """Network: mlp (6 hidden layers of 128 units), small_cnn, vgg16, vgg16_bn, resnet18 (torchvision's); vgg16_cifar,
    vgg16_bn_cifar, resnet18_cifar (for 32x32); swin_t, conv2next_tiny, conv2next_base, conv2next_large; vgg16_narrow,
    swin_narrow, conv2next_narrow (for a CPU); torchvision:NAME, timm:NAME; or package.module:function, which returns
    one."""
    activations: tuple[str, ...] = ("relu", "leaky_relu", "barelu", "sugar", "sugar:nelu", "gelu")
    """Activations or treatments to compare. The first is the baseline. A name may carry a surrogate and arguments, such as
    sugar:nelu:a=0.1, sugar:region=negative or barelu:eps=0.01; sugar:anneal=0.5 and barelu:anneal=0.5 end as ReLU, over
    the last half of the steps. Parts of a treatment follow after plus signs, such as relu+redo:every=200 or
    relu+recycle:at=0.5+l2init:1e-3; there are redo, cbp, snr, grama, recycle, fresh, l2init, layernorm and
    shrink_perturb. crelu stands in the place of an activation. One of your own is package.module:name, a class of modules or a
    function, such as mine:MyAct:alpha=0.2; a surrogate of your own is sugar:mine:my_surrogate."""
    seeds: int = 10
    """Number of seeds. The same seed gives every activation the same initial weights and data order."""
    epochs: int = 15
    """Passes over the training data."""
    lr: float | None = None
    """Learning rate; default: 0.01, and with --task rl that of the algorithm: ppo 0.0003, dqn 0.0001, a2c 0.0007."""
    optimizer: str = "adam"
    """Optimizer: adam, adamw or sgd."""
    batch_size: int = 64
    """Training samples in a step."""


_OF_ALL = ("activations", "seeds", "margin", "grid")
"""Fields of a comparison that its single runs do not have."""
_OF_RL = ("env", "algo", "steps", "envs")
"""And those that runs of ``--task rl`` have alone."""
_ALSO_OF_RL = ("task", "validation", "grid", "margin")
"""Options beside the essentials that mean something there too."""
ALGORITHMS = {"ppo": 3e-4, "dqn": 1e-4, "a2c": 7e-4}
"""Of stable-baselines3, with their learning rates."""


@dataclass(frozen=True)
class Settings(Recipe, Essentials):  # in this order the essentials' fields are the first
    """Everything that decides the numbers of a comparison."""

    env: str = "CartPole-v1"
    """With --task rl: an id of gymnasium's, or package.module:function, which returns an environment. --model is then one of
    stable-baselines3's policies, MlpPolicy by default; --epochs is how often the agent is measured."""
    algo: str = "ppo"
    """With --task rl: ppo, dqn or a2c of stable-baselines3. What is not an option here is as they have it."""
    steps: int = 50_000
    """With --task rl: steps of the environment."""
    envs: int = 1
    """With --task rl: environments that are played side by side."""
    grid: tuple[str, ...] = ()
    """Values of numeric options, as in lr=0.001,0.003,0.01; --lr 0.001 0.003 0.01 says the same. Each arm is then judged at its
    own best, chosen on --validation of the training data (0.1 if it is not given). Options: lr, weight_decay, batch_size,
    momentum, warmup, label_smoothing, clip, ema, mixup, cutmix, drop_path."""
    margin: float = 0.0
    """The smallest difference that matters, in points of accuracy or in the unit of another score: the report then says
    where arms are equal within it (two one-sided tests at 5 %). 0: none. Name it before you look."""

    def __post_init__(self) -> None:
        super().__post_init__()
        tasks.known(self.task)
        self._check_environment()
        if self.task != tasks.RL:
            data.source(self.data)
            models.known(self.model)
        if tasks.is_own(self.task) and self.data != "digits":
            raise UndyingError(f"--task {self.task!r} brings its own data; leave out --data")
        if self.task != "classification":
            mixed = [
                f"--{name.replace('_', '-')}" for name in ("label_smoothing", "mixup", "cutmix") if getattr(self, name)
            ]
            if mixed:
                raise UndyingError(f"{mixed[0]} needs classes, and --task is {self.task}")
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("seeds", "epochs", "batch_size"):
            if not 1 <= getattr(self, name) < 2**31:
                raise UndyingError(
                    f"--{name.replace('_', '-')} must be at least 1 and below 2**31, not {getattr(self, name)}"
                )
        if self.epochs % self.tasks:
            raise UndyingError(f"--epochs {self.epochs} cannot be shared equally by --tasks {self.tasks}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UndyingError(f"--lr must be above 0, not {self.lr}")
        self._check_grid()
        if not 0 <= self.margin < math.inf:
            raise UndyingError(f"--margin must be a number of at least 0, not {self.margin}")
        if len(self.activations) < 2:
            raise UndyingError("--activations needs at least two: the baseline and one to compare with it")
        for spec in self.activations:
            if self.activations.count(spec) > 1:
                raise UndyingError(f"--activations names {spec!r} twice; name it once")
            build_treatment(spec).check(averaged=self.ema > 0)

    @property
    def learning_rate(self) -> float:
        """The learning rate, also where none is named."""
        default = ALGORITHMS[self.algo] if self.task == tasks.RL else 0.01
        return default if self.lr is None else self.lr

    def _check_environment(self) -> None:
        defaults = {f.name: f.default for f in fields(self)}
        changed = [name for name in defaults if getattr(self, name) != defaults[name]]
        if self.task != tasks.RL:
            stray = [name for name in changed if name in _OF_RL]
            if stray:
                raise UndyingError(f"--{stray[0]} goes with --task rl")
            return
        essential = {f.name for f in fields(Essentials)} - {"data", "optimizer"}
        stray = [name for name in changed if name not in {*essential, *_OF_RL, *_ALSO_OF_RL}]
        if stray:
            raise UndyingError(f"--{stray[0].replace('_', '-')} does not go with --task rl")
        one_of("algo", self.algo, ALGORITHMS)
        if self.model == defaults["model"]:
            object.__setattr__(self, "model", "MlpPolicy")
        for name in ("steps", "envs"):
            if not 1 <= getattr(self, name) < 2**31:
                raise UndyingError(f"--{name} must be at least 1 and below 2**31, not {getattr(self, name)}")

    def _check_grid(self) -> None:
        if not self.grid:
            return
        if not self.validation:
            object.__setattr__(self, "validation", _HELD_OUT)
        defaults = {f.name: f.default for f in fields(self)}
        twice = [option for option in grids.parse(self.grid) if getattr(self, option) != defaults[option]]
        if twice:
            option = twice[0].replace("_", "-")
            raise UndyingError(
                f"--{option} {getattr(self, twice[0])} stands beside a grid of {option}; add it there, or leave it out"
            )
        stray = [option for option in grids.parse(self.grid) if option not in ("lr", "batch_size")]
        if self.task == tasks.RL and stray:
            raise UndyingError(f"--{stray[0].replace('_', '-')} does not go with --task rl")
        for point in self.points:
            replace(self, grid=(), **dict[str, Any](point))  # raises what a value of its own would

    @property
    def points(self) -> list[grids.Point]:
        """Those of the grid; one that changes nothing where there is none."""
        return grids.points(grids.parse(self.grid))

    def runs(
        self,
        data_sha256: str,
        model_sha256: str = "",
        task_sha256: str = "",
        activations_sha256: Mapping[str, str] = MappingProxyType({}),
    ) -> list[AnyRun]:
        """Every run of the comparison, one seed after the other, each at every point of the grid; see ``RunConfig`` for the
        hashes."""
        hashes = {"data_sha256": data_sha256, "model_sha256": model_sha256, "task_sha256": task_sha256}
        agents = self.task == tasks.RL
        kind: type[AgentRun] | type[RunConfig] = AgentRun if agents else RunConfig
        shared = self._of_agents(task_sha256) if agents else self._of_trainings(hashes)
        return [
            kind(
                activation=activation,
                seed=seed,
                activation_sha256=activations_sha256.get(activation, ""),
                **{**shared, **point},
            )
            for seed in range(self.seeds)
            for activation in self.activations
            for point in self.points
        ]

    def _of_trainings(self, hashes: Mapping[str, str]) -> dict[str, Any]:
        """What all runs have in common."""
        shared = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in (*_OF_ALL, *_OF_RL)}
        own = {"data": self.task} if tasks.is_own(self.task) else {}
        return {**shared, "lr": self.learning_rate, **own, **hashes}

    def _of_agents(self, env_sha256: str) -> dict[str, Any]:
        """The same of agents."""
        same = ("model", "epochs", "batch_size", "algo", "steps", "envs")
        shared = {name: getattr(self, name) for name in same}
        return {**shared, "lr": self.learning_rate, "data": self.env, "env_sha256": env_sha256}

    def command(self, out: str) -> str:
        """The command line that makes this comparison again; of the recipe, what is not the default."""
        words = ["undying", "compare"]
        essential = {f.name for f in fields(Essentials)}
        for f in fields(self):
            value = self.learning_rate if f.name == "lr" else getattr(self, f.name)
            if f.name == "grid":
                for option, values in grids.parse(self.grid).items():
                    words += [f"--{option.replace('_', '-')}", *map(str, values)]
            elif f.name not in grids.parse(self.grid) and (f.name in essential or value != f.default):
                words += [f"--{f.name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else (value,))]
        return shlex.join([*words, "--out", out])


@dataclass(frozen=True, kw_only=True)
class AnyRun:
    """One training of any kind (``undying.lab.runs.kind``): everything that decides its numbers."""

    kind: ClassVar[str] = ""
    """What config.json calls it; nothing for those of ``undying compare``."""
    data: str
    model: str
    activation: str
    seed: int
    epochs: int
    lr: float
    optimizer: str
    batch_size: int
    keep: tuple[str, ...] = ()
    """What is kept beside the numbers, for the tables that need it: ``"norms"``, of each parameter's gradient and update at
    the steps whose global norms are taken, and ``"weights"``, after the last epoch. The numbers do not depend on it."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the format of the store. A field with a default was added later; at it, it is left out."""
        later = {f.name: f.default for f in fields(self) if f.default is not MISSING}
        values = {name: value for name, value in asdict(self).items() if name not in later or value != later[name]}
        return {"format": FORMAT, **({"kind": self.kind} if self.kind else {}), **values}

    @property
    def id(self) -> str:
        """Hash of the canonical config. The folder that the data lie in has no part in it."""
        content = {**self.to_dict(), "data": data.identity(self.data)}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class RunConfig(Recipe, AnyRun):
    """One training of ``undying compare``."""

    data_sha256: str
    model_sha256: str = ""
    """Hash of the source file of a network given by import path."""
    task_sha256: str = ""
    """The same of a task."""
    activation_sha256: str = ""
    """And of an activation or surrogate."""


@dataclass(frozen=True, kw_only=True)
class AgentRun(AnyRun):
    """One training; an epoch is an interval between two measurements. What is not named is stable-baselines3's own."""

    kind: ClassVar[str] = "rl"
    optimizer: str = "adam"
    algo: str
    steps: int
    """Of the environment, over all epochs."""
    envs: int
    """That are played side by side."""
    env_sha256: str = ""
    """Hash of the source of an environment given by import path; below of an activation."""
    activation_sha256: str = ""
