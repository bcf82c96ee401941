"""BAReLU's gradient and update norms over training, against LeakyReLU and ReLU, of the whole network and by layer."""

from __future__ import annotations

from dataclasses import replace

from undying.papers.table import Claim, Scale, Stage, Table, Task
from undying.papers.tables import barelu_cifar
from undying.papers.tables.barelu_cifar import ROOT, SOURCE, TASK, trains_as_leaky

ARMS = ("leaky_relu", "barelu", "barelu:eps=0.01", "relu", "sugar")
"""The first is what the others are held against."""
FEWER, SHORTER = "−31.1 %", "−38.3 %"

_CIFAR = next(table for table in barelu_cifar.TABLES if table.name == "barelu-cifar10")
_OPTIMIZER = (
    "Updates under another optimizer than Adam, whose steps hardly depend on the size of a gradient; the source does not "
    "name its optimizer, network or epochs."
)

_TRAINING = (
    "Why norms differ: a gradient's norm also depends on how far training has come, which the activation changes, and "
    "nothing is matched for that."
)


def _task(scale: str) -> Task:
    """That of barelu-cifar10 with these arms: the same runs, which are trained once for both tables."""
    [task] = _CIFAR.scales[scale].tasks
    return replace(task, stages=(Stage(ARMS, (task.lr,)),))


TABLE = Table(
    name="barelu-gradients",
    says=f"gradient norms {FEWER} and weight update norms {SHORTER} against Leaky ReLU",
    source=SOURCE,
    scales={
        "full": Scale((_task("full"),), (_OPTIMIZER, _TRAINING)),
        "small": Scale(
            (_task("small"),),
            (
                _OPTIMIZER,
                _TRAINING,
                "What happens later in training: it has 10,000 of the 50,000 training images and 5 epochs.",
            ),
        ),
        "smoke": Scale((_task("smoke"),), _CIFAR.scales["smoke"].limits, answers=False),
    },
    given=_CIFAR.given,
    chosen=(
        "the network, Adam at 0.001, batch 128, no augmentation, the number of epochs: these are runs of barelu-cifar10",
        ROOT,
        "a norm is the mean over training of the L2 norm, over all parameters, of the gradient or of a step's change of the "
        "weights, taken at each 4th step (each 20th of a network of over a million parameters)",
        "norms of two arms are compared as a ratio: the mean over the seeds is the geometric one",
        "two seeds more than the published three, and ReLU and SUGAR beside LeakyReLU",
    ),
    published=(),
    claims=(
        trains_as_leaky(TASK),
        *(
            Claim(
                f"{name} has lower {what} norms than LeakyReLU",
                TASK,
                arm,
                "leaky_relu",
                "lower",
                metric,
                published=said,
            )
            for name, arm in (
                ("BAReLU (eps = 0)", "barelu"),
                ("BAReLU (eps = 0.01, a smoothed root)", "barelu:eps=0.01"),
            )
            for what, metric, said in (("gradient", "gradient", FEWER), ("weight update", "update", SHORTER))
        ),
    ),
    gains=(),
    shows="norms",
)
