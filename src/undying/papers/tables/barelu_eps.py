"""What it would take for BAReLU's norms to be as published: eps, the offset, the slope of LeakyReLU, and the optimizer."""

from __future__ import annotations

from dataclasses import replace

from undying.lab.recipe import Recipe
from undying.papers.table import Claim, Scale, Stage, Table, Task
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


_MAIN = Task(
    name="sgd",
    data="cifar10",
    model="small_cnn",
    stages=(),
    seeds=SEEDS,
    epochs=2,
    lr=0.01,
    optimizer="sgd",
    batch_size=64,
    recipe=Recipe(subset=6_000, validation=0.1, measure_every=2),
    keep=("norms",),
)
_ARMS = (
    (LEAKY, *smooth(0.001, 0.01, 0.1, 1)),
    smooth(0.0001, 0.03, 0.07, 0.3),
    jumping(0.001, 0.01, 0.1, 1),
    SLOPES,
)
"""In the order in which they are run."""


def _tasks(main: Task, *arms: tuple[str, ...]) -> tuple[Task, ...]:
    """The same arms under both optimizers."""
    both = (main, replace(main, name="adam", optimizer="adam", lr=0.001))
    return tuple(replace(task, stages=tuple(Stage(some, (task.lr,)) for some in arms)) for task in both)


TABLE = Table(
    name="barelu-eps",
    says=f"gradient norms {FEWER} and weight update norms {SHORTER} against Leaky ReLU",
    source=SOURCE,
    scales={
        "full": Scale(
            _tasks(replace(_MAIN, epochs=20, recipe=Recipe(validation=0.1)), *_ARMS), ("",)
        ),
        "small": Scale(_tasks(_MAIN, *_ARMS), ("",)),
        "smoke": Scale(
            _tasks(
                replace(_MAIN, data="digits", seeds=SEEDS[:2], epochs=1, recipe=Recipe(subset=100, validation=0.1)),
                (LEAKY, *smooth(0.01), *jumping(0.01), SLOPES[1]),
            ),
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
