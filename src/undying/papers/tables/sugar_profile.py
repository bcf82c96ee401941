"""SUGAR's activation profile: how often each unit of each layer fires, against ReLU, in the runs of sugar-cifar10."""

from __future__ import annotations

from dataclasses import replace

from undying.papers.table import Claim, Scale, Stage, Table, Task
from undying.papers.tables import sugar_cifar
from undying.papers.tables.sugar_cifar import SOURCE

ARMS = ("relu", "sugar")
_CIFAR = next(table for table in sugar_cifar.TABLES if table.name == "sugar-cifar10")


def _tasks(scale: str, **rates: float) -> tuple[Task, ...]:
    """Those of sugar-cifar10 with fewer arms: the same runs, which are trained once for both tables. ``rates``: of tasks
    that are shown at another than the published one."""
    tasks = [replace(task, lr=rates.get(task.name, task.lr)) for task in _CIFAR.scales[scale].tasks]
    return tuple(replace(task, stages=(Stage(ARMS, (task.lr,)),)) for task in tasks)


def _claim(network: str, published: str, whose: str = "") -> Claim:
    return Claim(
        f"SUGAR leaves fewer units that never fire than ReLU{whose}",
        network,
        "sugar",
        "relu",
        "lower",
        "silent",
        published=published,
    )


TABLE = Table(
    name="sugar-profile",
    says="a figure of how often VGG-16's units fire: with ReLU many never do, with SUGAR few",
    source=SOURCE,
    scales={
        "full": Scale(_tasks("full"), _CIFAR.scales["full"].limits),
        "small": Scale(
            _tasks("small", vgg16=0.01),
            (
                "What the figure shows, units that are lost over 50 epochs: resnet18 has 10,000 of the 50,000 training "
                "images and 5 epochs. In the place of VGG-16 stands vgg16_narrow, a quarter of its channels, with 10 epochs at "
                "ten times the published rate: at that rate it hardly leaves chance in so few.",
            ),
        ),
        "smoke": Scale(_tasks("smoke"), _CIFAR.scales["smoke"].limits, answers=False),
    },
    given=_CIFAR.given[:2],
    chosen=(
        "the settings of sugar-cifar10, whose runs these are",
        "fires: the pre-activation is above 0; how often is counted over samples and positions, up to 2,048 training images "
        "after the last epoch, in eval mode",
        "a unit is a channel of a convolution or a feature of a linear layer",
        "resnet18 beside VGG-16",
    ),
    published=(),
    claims=(_claim("vgg16", "a figure, no number"), _claim("resnet18", "", " (ours)")),
    gains=(),
    shows="profile",
)
