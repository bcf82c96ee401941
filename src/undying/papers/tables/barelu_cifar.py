"""BAReLU's CIFAR tables: a small CNN, accuracy and dead units, against ReLU and LeakyReLU."""

from __future__ import annotations

from dataclasses import replace

from undying.lab.recipe import Recipe
from undying.papers.table import Claim, Gain, Published, Scale, Stage, Table, Task

SOURCE = "Aseervatham 2026, Zenodo 20565328, public description of version 2"
TASK = "small_cnn"
SEEDS = (42, 1337, 2026, 0, 1)

MAIN = ("relu", "barelu", "leaky_relu", "barelu:eps=0.01", "sugar")
TUNED = ("relu", "barelu", "barelu:eps=0.01", "sugar")
RATES = (0.001, 0.003, 0.01, 0.0003)

ROOT = "eps = 0.01 for a smoothed root; the published formula has no eps, and is then LeakyReLU"
IS_LEAKY = "sqrt(max(0, x)^2) is x for x > 0, so BAReLU with eps = 0 is LeakyReLU(0.01), bit for bit"
NEVER_DEAD = (
    "a unit is dead when no gradient reaches its pre-activation, and a slope of 0.01 for x <= 0 lets one through whatever "
    "the data are; the count is 0 without any training"
)


def trains_as_leaky(task: str, whose: str = " (ours)") -> Claim:
    """What its formula makes of BAReLU without eps."""
    text = f"BAReLU (eps = 0) trains as LeakyReLU(0.01) does{whose}"
    return Claim(text, task, "barelu", "leaky_relu", by_construction=IS_LEAKY)


def _table(data: str, relu: float, barelu: float, dead: float) -> Table:
    full = Task(
        name=TASK,
        data=data,
        model="small_cnn",
        stages=(Stage(MAIN, RATES[:1]), Stage(TUNED, RATES[1:])),
        seeds=SEEDS,
        epochs=20,
        lr=RATES[0],
        optimizer="adam",
        batch_size=128,
        recipe=Recipe(validation=0.1),
        keep=("norms",),  # which barelu-gradients reads
    )
    small = replace(
        full,
        stages=(Stage(MAIN, RATES[:1]), Stage(("relu", "barelu", "sugar"), RATES[1:])),
        epochs=5,
        recipe=Recipe(subset=10_000, validation=0.1, measure_every=5),
    )
    smoke = replace(
        full,
        data="digits",
        stages=(Stage(MAIN, RATES[:1]), Stage(TUNED, RATES[1:2])),
        seeds=SEEDS[:2],
        epochs=1,
        recipe=Recipe(subset=100, validation=0.1),
    )
    unknown = (
        "Whether its numbers equal the published ones: the source's network, epochs and learning rate are not public, so "
        "only the direction of a difference can be compared."
    )
    return Table(
        name=f"barelu-{data}",
        says=f"BAReLU {barelu:.2f} % with 0 % dead units, ReLU {relu:.2f} % with {dead:.2f} % dead",
        source=SOURCE,
        scales={
            "full": Scale((full,), (unknown,)),
            "small": Scale(
                (small,),
                (
                    unknown,
                    "What happens later in training: it has 10,000 of the 50,000 training images and 5 epochs, so "
                    "accuracies are lower, and units that would die later are not seen to.",
                    "BAReLU with eps = 0.01 at a rate of its own. It is left out, and no run of it was seen before that was "
                    "decided, because of the time that it would take.",
                ),
            ),
            "smoke": Scale(
                (smoke,),
                ("Anything: it trains 90 of scikit-learn's digits for one epoch, to see that the table runs.",),
                answers=False,
            ),
        },
        given=("seeds 42, 1337, 2026", "slope 0.01 for x <= 0"),
        chosen=(
            "the network: three convolutions of 32, 64 and 128 channels and a hidden layer of 256 units",
            "Adam at 0.001, batch 128, no augmentation, the number of epochs",
            ROOT,
            "two seeds more than the published three, and SUGAR beside the published arms",
            "a tenth of the training data held out in every run, on which each arm's own best rate is chosen",
            "the grid of rates: 0.3, 1, 3 and 10 times 0.001",
            "dead: silent, and no gradient reaches the pre-activation, on up to 2,048 training images",
        ),
        published=(
            Published(TASK, "relu", relu / 100),
            Published(TASK, "barelu", barelu / 100),
            Published(TASK, "relu", dead / 100, "dead"),
            Published(TASK, "barelu", 0.0, "dead"),
        ),
        claims=(
            Claim("BAReLU is more accurate than ReLU", TASK, "barelu", "relu"),
            Claim("The same, each at its own best rate", TASK, "barelu", "relu", own_rates=True),
            Claim(
                "BAReLU has 0 % dead units",
                TASK,
                "barelu",
                "relu",
                "lower",
                "dead",
                by_construction=NEVER_DEAD,
            ),
            Claim("BAReLU leaves fewer units silent than ReLU", TASK, "barelu", "relu", "lower", "silent"),
            trains_as_leaky(TASK),
            Claim(
                "The quadratic root, read as smoothing (eps = 0.01), is more accurate than LeakyReLU",
                TASK,
                "barelu:eps=0.01",
                "leaky_relu",
            ),
        ),
        gains=tuple(Gain(TASK, arm, "relu") for arm in ("barelu", "barelu:eps=0.01", "sugar")),
    )


TABLES = (_table("cifar10", 66.47, 68.32, 15.03), _table("cifar100", 29.57, 31.39, 12.11))
