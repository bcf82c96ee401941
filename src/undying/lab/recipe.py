"""How to train, beyond the essentials: what a comparison and each of its runs have in common."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from undying._base.errors import UndyingError
from undying.lab import models
from undying.lab.augment import AUGMENTATIONS

SCHEDULES = ("constant", "cosine", "step")
AMP = ("none", "bfloat16", "float16")
_ENDLESS = 1e15  # steps are counted in whole numbers


@dataclass(frozen=True)
class Recipe:
    """Every field has a default, at which it has no part in a run's id: runs of before there was the field stay."""

    task: str = "classification"
    """What is learned: classification; regression (numbers; RMSE, MAE and R2); multilabel (any number of labels a sample; F1);
    rl (the return in --env); or package.module:Class, a subclass of undying.lab.Task with its own data, loss and metrics."""
    columns: tuple[str, ...] = ()
    """Columns of a .csv that are to be predicted; default: the last one."""
    tasks: int = 1
    """Number of tasks in a row on the same data, for classification. Each renames the classes at random and gets an equal part
    of --epochs. The last one is tested."""
    subset: int = 0
    """Train on this many samples only, with the same share of each class; 0: on all."""
    validation: float = 0.0
    """Share of the training data that is held out and measured each epoch. Make choices on it; the test data are for
    the report."""
    measure_every: int = 1
    """Measure on test and validation data every so many epochs, also before training and after the last epoch. Above 1,
    units are counted each time too."""
    image_size: int = 0
    """Bring a folder's images to this many pixels a side; 0: keep them, all of one size."""
    augment: tuple[str, ...] = ()
    """Augmentations of the training images: flip (left to right), crop (shift by up to an eighth), cutout (a square of
    half the side), randaugment (two of torchvision's operations on each image, one image after the other)."""
    targets: tuple[str, ...] = ()
    """Types of torch.nn that the activations replace, such as ReLU GELU; default: the network's own."""
    momentum: float = 0.9
    """Momentum of sgd."""
    weight_decay: float | None = None
    """Weight decay; default: the optimizer's own (adamw 0.01, others 0)."""
    schedule: str = "constant"
    """Learning rate over the steps: constant, cosine (down to 0) or step (a tenth after half of the steps, and again
    after three quarters)."""
    warmup: float = 0.0
    """Epochs at the start in which the learning rate rises linearly."""
    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes."""
    clip: float = 0.0
    """Largest norm of a step's gradient; a larger gradient is scaled down to it. 0: no limit."""
    ema: float = 0.0
    """Decay of a moving average of the weights. The average is what is measured. 0: none."""
    mixup: float = 0.0
    """Alpha of mixup; 0: none. With cutmix as well, each batch gets one of the two."""
    cutmix: float = 0.0
    """Alpha of cutmix; 0: none."""
    drop_path: float = 0.0
    """Stochastic depth, for swin_t, conv2next and those networks of torchvision and timm that have it."""
    amp: str = "none"
    """Automatic mixed precision: none, bfloat16 or float16."""

    def __post_init__(self) -> None:
        for names, field, known in (
            (self.augment, "augment", AUGMENTATIONS),
            ((self.schedule,), "schedule", SCHEDULES),
            ((self.amp,), "amp", AMP),
        ):
            for name in names:
                one_of(field, name, known)
        for name in self.targets:
            models.target(name)
        for field in ("validation", "momentum", "label_smoothing", "ema", "drop_path"):
            if not 0 <= getattr(self, field) < 1:
                raise UndyingError(f"{_flag(field)} must be at least 0 and below 1, not {getattr(self, field)}")
        if self.tasks < 1:
            raise UndyingError(f"--tasks must be at least 1, not {self.tasks}")
        if self.tasks > 1 and (self.task != "classification" or self.mixup or self.cutmix):
            raise UndyingError("--tasks renames classes: it goes with --task classification, without mixup and cutmix")
        if self.measure_every < 1:
            raise UndyingError(f"--measure-every must be at least 1, not {self.measure_every}")
        for field in ("subset", "image_size", "weight_decay", "warmup", "clip", "mixup", "cutmix"):
            value = getattr(self, field)
            if value is not None and not 0 <= value < _ENDLESS:
                raise UndyingError(f"{_flag(field)} must be a number of at least 0 and below {_ENDLESS:g}, not {value}")


def one_of(field: str, value: str, known: object) -> None:
    """Raises UndyingError unless ``value`` is in ``known``, a collection of names."""
    names = list(known)  # type: ignore[call-overload]
    if value not in names:
        near = "".join(f"; did you mean {name!r}?" for name in difflib.get_close_matches(str(value), names, 1))
        raise UndyingError(f"unknown {_flag(field)} {value!r}{near or ';'} known: {', '.join(names)}")


def _flag(field: str) -> str:
    return f"--{field.replace('_', '-')}"
