"""What it would take for BAReLU's norms to be as published: eps, its offset, LeakyReLU's slope, epochs, the optimizer."""

from __future__ import annotations

from dataclasses import replace

from undying.lab.recipe import Recipe
from undying.papers.table import Claim, Scale, Stage, Table, Task, times
from undying.papers.tables.barelu_cifar import SEEDS, SOURCE
from undying.papers.tables.barelu_gradients import FEWER, SHORTER

LEAKY = "leaky_relu"
SLOPES = tuple(f"{LEAKY}:negative_slope={slope:g}" for slope in (0.1, 0.2))


def smooth(*eps: float) -> tuple[str, ...]:
    """BAReLU as here: sqrt(eps) is taken off, so that it is continuous."""
    return tuple(f"barelu:eps={one:g}" for one in eps)


def jumping(*eps: float) -> tuple[str, ...]:
    """The offset left in."""
    return tuple(f"undying.papers.roots:jumping:eps={one:g}" for one in eps)


FITS, MOST = 0.003, 1
"""eps: between those whose norms fall by less and by more than published under SGD, and the largest that is run."""
FITTING, LARGEST = smooth(FITS, MOST)
_RATE = 0.01
_PAIR = (("gradient", "gradient", FEWER), ("weight update", "update", SHORTER))
_LIMITS = (
    "What the source did: it names neither network nor optimizer nor epochs, and its formula has no eps. A reading that "
    "gives its numbers here need not be its own.",
    "eps for another network. It is in units of the pre-activation squared: where those are larger, by their "
    "initialization or after a normalization, a larger eps does the same. A first look at another small CNN had the pair "
    "near eps = 0.07 under SGD.",
    "Norms at the same loss: with an eps as large as the pre-activations squared a network has not begun to learn, and its "
    "gradients are small for that reason alone.",
)

_SGD = Task(
    name="sgd",
    data="cifar10",
    model="small_cnn",
    stages=(
        Stage((LEAKY, *smooth(0.001, FITS, 0.005, 0.01, 0.1, 1)), (_RATE,)),
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
        Stage((*smooth(0.0001, 0.07), *jumping(0.01), *SLOPES), (0.001,)),
    ),
)
_CLIPPED = replace(
    _SGD,
    name="sgd-clipped",
    stages=(Stage((LEAKY, *smooth(0.001, FITS, 0.01)), (_RATE,)),),
    recipe=replace(_SGD.recipe, clip=1.0),
)
TASKS = (_SGD, _ADAM, _CLIPPED)
_SMOKED = (LEAKY, *smooth(0.001, FITS, 0.01), *jumping(0.01), SLOPES[1])


def _smoke(task: Task) -> Task:
    return replace(
        task,
        data="digits",
        stages=(
            Stage(tuple(arm for arm in _SMOKED if arm in task.arms), (task.lr,)),
            *((Stage((LEAKY, FITTING), (10 * _RATE,)),) if task is _SGD else ()),
        ),
        seeds=SEEDS[:2],
        epochs=1,
        recipe=replace(task.recipe, subset=100, measure_every=1),
    )


def _whole(task: Task) -> Task:
    return replace(task, epochs=20, recipe=replace(task.recipe, subset=0, measure_every=1))


TABLE = Table(
    name="barelu-eps",
    says=f"gradient norms {FEWER} and weight update norms {SHORTER} against Leaky ReLU",
    source=SOURCE,
    scales={
        "full": Scale(tuple(map(_whole, TASKS)), _LIMITS),
        "small": Scale(
            TASKS,
            (
                *_LIMITS,
                "What happens later in training: it has 6,000 of the 50,000 training images and 2 epochs, of which the first "
                "is spent near chance under SGD.",
            ),
        ),
        "smoke": Scale(
            tuple(map(_smoke, TASKS)),
            ("Anything: it trains 90 of scikit-learn's digits for one epoch, to see that the table runs.",),
            answers=False,
        ),
    },
    given=("seeds 42, 1337, 2026", "slope 0.01 for x <= 0"),
    chosen=(
        "the network, batch 64, no augmentation; SGD at 0.01 with momentum 0.9, Adam at 0.001",
        "eps from 0.0001 to 1, with the offset taken off, sqrt(x^2 + eps) - sqrt(eps) for x > 0, as `barelu` has it, or left "
        "in, sqrt(x^2 + eps), which jumps at 0 (`undying.papers.roots:jumping`); the published formula has no eps",
        "LeakyReLU's slope 0.01, torch's default, and 0.1 and 0.2",
        "in sgd-clipped a step's gradient is scaled down to a norm of 1 where it is larger; its norm is taken before, as "
        "elsewhere, and after",
        "a norm is the mean over epochs of the L2 norm, over all parameters, of the gradient or of a step's change of the "
        "weights, taken at each 4th step",
        f"eps = {FITS:g} for the claims on SGD and the grid of rates, by the first seed's norms at 0.001 and 0.01; 0.005 was "
        "added after the others' norms had been seen",
        "a tenth of the training data held out in every run, on which each arm's own best rate is chosen; the grid of rates: "
        "0.3, 1, 3 and 10 times 0.01",
    ),
    published=(),
    claims=(
        *(
            Claim(
                f"BAReLU (eps = {eps:g}) has lower {what} norms than LeakyReLU, {name}",
                task,
                arm,
                LEAKY,
                "lower",
                metric,
                published=said,
            )
            for eps, arm, task, name in ((FITS, FITTING, "sgd", "SGD"), (MOST, LARGEST, "adam", "Adam"))
            for what, metric, said in _PAIR
        ),
        Claim(f"BAReLU (eps = {FITS:g}) is as accurate as LeakyReLU (ours)", "sgd", FITTING, LEAKY, "not worse"),
        Claim("The same, each at its own best rate", "sgd", FITTING, LEAKY, "not worse", own_rates=True),
    ),
    gains=(),
    shows="readings",
)
