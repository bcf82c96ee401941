"""BAReLU's gradient and update norms over training, against LeakyReLU and ReLU, of the whole network and by layer."""

from __future__ import annotations

from dataclasses import replace

from undying.lab.recipe import Recipe
from undying.lab.reproduce.table import Claim, Scale, Stage, Table
from undying.lab.reproduce.tables import barelu_cifar
from undying.lab.reproduce.tables.barelu_cifar import IS_LEAKY, SOURCE, TASK

ARMS = ("leaky_relu", "barelu", "barelu:eps=0.01", "relu", "sugar")
"""The first is what the others are held against."""
FEWER, SHORTER = "-31.1 %", "-38.3 %"

_CIFAR = next(table for table in barelu_cifar.TABLES if table.name == "barelu-cifar10")
[_TASK] = _CIFAR.scales["full"].tasks
_FULL = replace(_TASK, stages=(Stage(ARMS, (_TASK.lr,)),), keep=("norms",))
_OPTIMIZER = (
    "Updates under another optimizer than Adam, whose steps hardly depend on the size of a gradient; the source does not "
    "name its optimizer, network or epochs."
)

_TRAINING = (
    "Why norms differ: a gradient's norm also depends on how far training has come, which the activation changes, and "
    "nothing is matched for that."
)

TABLE = Table(
    name="barelu-gradients",
    says=f"gradient norms {FEWER} and weight update norms {SHORTER} against Leaky ReLU",
    source=SOURCE,
    scales={
        "full": Scale((_FULL,), (_OPTIMIZER, _TRAINING)),
        "small": Scale(
            (replace(_FULL, epochs=5, recipe=Recipe(subset=10_000, validation=0.1)),),
            (
                _OPTIMIZER,
                _TRAINING,
                "What happens later in training: it has 10,000 of the 50,000 training images and 5 epochs.",
            ),
        ),
        "smoke": Scale(
            (
                replace(
                    _FULL, data="digits", seeds=_TASK.seeds[:2], epochs=1, recipe=Recipe(subset=100, validation=0.1)
                ),
            ),
            ("Anything: it trains 90 of scikit-learn's digits for one epoch, to see that the table runs.",),
            answers=False,
        ),
    },
    given=("seeds 42, 1337, 2026", "slope 0.01 for x <= 0"),
    chosen=(
        "the network, Adam at 0.001, batch 128, no augmentation, the number of epochs, as in barelu-cifar10",
        "eps = 0.01 for a smoothed root; the published formula has no eps, and is then LeakyReLU",
        "a norm is the mean over training of the L2 norm, over all parameters, of the gradient or of a step's change of the "
        "weights, taken at each 4th step (each 20th of a network of over a million parameters)",
        "norms of two arms are compared as a ratio: the mean over the seeds is the geometric one",
        "two seeds more than the published three, and ReLU and SUGAR beside LeakyReLU",
    ),
    published=(),
    claims=(
        Claim(
            "BAReLU (eps = 0) trains as LeakyReLU(0.01) does (ours)",
            TASK,
            "barelu",
            "leaky_relu",
            by_construction=IS_LEAKY,
        ),
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
                ("BAReLU with the root read as smoothing (eps = 0.01)", "barelu:eps=0.01"),
            )
            for what, metric, said in (("gradient", "gradient", FEWER), ("weight update", "update", SHORTER))
        ),
    ),
    gains=(),
    shows="norms",
)
