"""What it would take for BAReLU's norms to be as published: eps, the offset, the slope of LeakyReLU, and the optimizer."""

from __future__ import annotations

from dataclasses import replace

from undying.lab.recipe import Recipe
from undying.papers.table import Claim, Scale, Stage, Table, Task, times
from undying.papers.tables.barelu_cifar import SEEDS, SOURCE
from undying.papers.tables.barelu_gradients import FEWER, SHORTER

LEAKY = "leaky_relu"
SLOPES = tuple(f"leaky_relu:negative_slope={slope:g}" for slope in (0.1, 0.2))


def smooth(*eps: float) -> tuple[str, ...]:
    """BAReLU as here: sqrt(eps) is taken off, so that it is continuous."""
    return tuple(f"barelu:eps={one:g}" for one in eps)


def jumping(*eps: float) -> tuple[str, ...]:
    """The offset left in."""
    return tuple(f"undying.papers.roots:jumping:eps={one:g}" for one in eps)


FITS = 0.003
"""The eps whose norms come nearest to the published ones, of those below under SGD."""
FITTING = smooth(FITS)[0]
_RATE = 0.01

_SGD = Task(
    name="sgd",
    data="cifar10",
    model="small_cnn",
    stages=(
        Stage((LEAKY, *smooth(0.001, FITS, 0.01, 0.1, 1)), (_RATE,)),
        Stage((LEAKY, FITTING), times(_RATE, 3, 10, 0.3)),
        Stage(jumping(0.01, 0.1, 1), (_RATE,)),
        Stage((*smooth(0.0001, 0.03, 0.07, 0.3), *SLOPES), (_RATE,)),
    ),
    seeds=SEEDS,
    epochs=2,
    lr=_RATE,
    optimizer="sgd",
    batch_size=64,
    recipe=Recipe(subset=6_000, validation=0.1, measure_every=2),
    keep=("norms",),
)
_ADAM = replace(
    _SGD,
    name="adam",
    optimizer="adam",
    lr=0.001,
    stages=(
        Stage((LEAKY, *smooth(0.001, 0.01, 0.1, 1)), (0.001,)),
        Stage((*smooth(0.3), *jumping(0.1, 1)), (0.001,)),
        Stage((*smooth(0.0001, FITS, 0.03, 0.07), *jumping(0.01), *SLOPES), (0.001,)),
    ),
)
TASKS = (_SGD, _ADAM)


def _smoke(task: Task) -> Task:
    return replace(
        task,
        data="digits",
        stages=(
            Stage((LEAKY, *smooth(0.001, FITS, 0.01), *jumping(0.01), SLOPES[1]), (task.lr,)),
            *((Stage((LEAKY, FITTING), (10 * _RATE,)),) if task is _SGD else ()),
        ),
        seeds=SEEDS[:2],
        epochs=1,
        recipe=Recipe(subset=100, validation=0.1),
    )


TABLE = Table(
    name="barelu-eps",
    says=f"gradient norms {FEWER} and weight update norms {SHORTER} against Leaky ReLU",
    source=SOURCE,
    scales={
        "full": Scale(tuple(replace(task, epochs=20, recipe=Recipe(validation=0.1)) for task in TASKS), ("",)),
        "small": Scale(TASKS, ("",)),
        "smoke": Scale(
            tuple(map(_smoke, TASKS)),
            ("Anything: it trains 90 of scikit-learn's digits for one epoch, to see that the table runs.",),
            answers=False,
        ),
    },
    given=("seeds 42, 1337, 2026",),
    chosen=(),
    published=(),
    claims=(),
    gains=(),
    shows="",
)
