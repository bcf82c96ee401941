"""SUGAR's loss landscape: ResNet-18 on a plane of random directions, and its curvature, against ReLU."""

from __future__ import annotations

from dataclasses import replace

from undying.papers.table import Claim, Grid, Scale, Stage, Table, Task
from undying.papers.tables import sugar_cifar
from undying.papers.tables.sugar_cifar import SOURCE

ARMS = ("relu", "sugar")
NETWORK = "resnet18"
_CIFAR = next(table for table in sugar_cifar.TABLES if table.name == "sugar-cifar10")


def _task(scale: str) -> Task:
    """That of sugar-cifar10 with fewer arms, and with its weights kept."""
    [task] = [task for task in _CIFAR.scales[scale].tasks if task.name == NETWORK]
    return replace(task, stages=(Stage(ARMS, (task.lr,)),), keep=("weights",))


TABLE = Table(
    name="sugar-landscape",
    says="a figure of ResNet-18's loss landscape under ReLU and SUGAR, without a number",
    source=SOURCE,
    scales={
        "full": Scale(
            (_task("full"),),
            ("The training loss: the landscape is that of 2,000 test images.",),
            grid=Grid(points=51, reach=1.0, images=2000, curved=1000, iterations=50),
        ),
        "small": Scale(
            (_task("small"),),
            (
                "Where training ends: it has 10,000 of the 50,000 training images and 5 of 50 epochs.",
                "Fine structure: the grid has 21 x 21 points on 128 test images, and the curvature is that on the same after "
                "15 power iterations, which may be somewhat below the eigenvalue.",
            ),
            grid=Grid(points=21, reach=1.0, images=128, curved=128, iterations=15),
        ),
        "smoke": Scale(
            (_task("smoke"),),
            (
                "Anything: it trains small_cnn, in the place of resnet18, on 90 of scikit-learn's digits for one epoch, and "
                "looks at 5 x 5 points, to see that the table runs.",
            ),
            answers=False,
            grid=Grid(points=5, reach=1.0, images=20, curved=20, iterations=3),
        ),
    },
    given=("ResNet-18", "random filter-normalised directions"),
    chosen=(
        "the settings of sugar-cifar10, at the published rate; runs of their own, which keep their weights",
        "two directions of normal random numbers, each filter of which has the norm of the trained network's own "
        "(Li et al. 2018, arXiv:1712.09913); drawn from the run's seed, the same for both activations",
        "biases and batch norm's parameters are not moved; batch norm is in eval mode, with the running statistics of "
        "training",
        "the loss is cross-entropy on the first test images; SUGAR's networks are looked at with ReLU, which is their "
        "forward pass, so that derivatives are those of the loss and not of the surrogate",
        "largest curvature: the largest eigenvalue of the loss's Hessian in all parameters, by power iteration. It depends on the scale of the weights; beside it is the mean curvature along the two filter-normalised "
        "directions, by second differences in the middle of the grid",
    ),
    published=(),
    claims=(
        Claim(
            "SUGAR ends where the loss has a smaller largest curvature than ReLU",
            NETWORK,
            "sugar",
            "relu",
            "lower",
            "curvature",
            published="a figure, no number",
        ),
    ),
    gains=(),
    shows="landscape",
)
