"""Our own table: networks driven to death on purpose, what keeps their units alive, and what brings them back."""

from __future__ import annotations

from dataclasses import replace

from undying.lab.runs.dying import DyingRun
from undying.papers.kinds import KindTask, kind_task
from undying.papers.table import Claim, Gain, Metric, Scale, Stage, Table, times
from undying.papers.tables.barelu_cifar import trains_as_leaky
from undying.papers.tables.sugar_cifar import CONTROLS

ARMS = ("relu", "leaky_relu", "barelu", "sugar", "sugar:nelu", "gelu")
TUNED = ("relu", "barelu", "sugar", "gelu")
FACTORS = (0.3, 0.1, 3)
"""Of the rate at which units die, for each arm's own best one."""
JUDGED = ("deep-narrow", "continual", "revive-continual")
"""Where a claim is about accuracy that dead units cost: there are controls, and rates to choose from."""

ACCURACY = Metric("accuracy", "accuracy")
ONLINE = Metric("online", "at the end of each task")
UNITS = (Metric("silent", "silent"), Metric("dead", "dead"))
REVIVED = (
    Metric("revived_at_once", "revived at once"),
    Metric("revived_soon", "after an epoch"),
    Metric("revived", "at the end"),
)
CURVES = (Metric("accuracy", "Test accuracy"), Metric("silent", "Silent units"))

HIGH_RATE = DyingRun(
    activation="relu",
    seed=0,
    epochs=10,
    lr=0.03,
    optimizer="adam",
    batch_size=64,
    depth=4,
    width=128,
    validation=0.1,
)
NARROW = replace(HIGH_RATE, epochs=15, lr=0.01, depth=12, width=16)
CONTINUAL = replace(HIGH_RATE, epochs=40, lr=0.01, width=64, tasks=10)
REVIVE = replace(HIGH_RATE, epochs=15, lr=0.001, relu_epochs=5, relu_lr=0.03)
REVIVE_CONTINUAL = replace(CONTINUAL, relu_epochs=20, relu_lr=0.01)


def _stages(lr: float) -> tuple[Stage, ...]:
    """The arms, what isolates the cause, and the other rates."""
    return Stage(ARMS, (lr,)), Stage(tuple(CONTROLS), (lr,)), Stage(TUNED, times(lr, *FACTORS))


def _tasks(seeds: int) -> tuple[KindTask[DyingRun], ...]:
    declared = (
        ("high-rate", HIGH_RATE, (ACCURACY, *UNITS), 1.2),
        ("deep-narrow", NARROW, (ACCURACY, *UNITS), 1.8),
        ("continual", CONTINUAL, (ACCURACY, ONLINE, *UNITS), 2.8),
        ("revive", REVIVE, (ACCURACY, *UNITS, *REVIVED), 1.2),
        ("revive-continual", REVIVE_CONTINUAL, (ACCURACY, ONLINE, *UNITS, *REVIVED), 2.8),
    )
    return tuple(
        kind_task(
            name,
            template,
            stages=_stages(template.lr) if name in JUDGED else _stages(template.lr)[:1],
            seeds=range(seeds),
            metrics=metrics,
            curves=(*CURVES, Metric("revived", "Revived units")) if template.relu_epochs else CURVES,
            over="Epoch",
            seconds=seconds,
        )
        for name, template, metrics, seconds in declared
    )


def _smallest(task: KindTask[DyingRun]) -> KindTask[DyingRun]:
    """Two epochs of every part, on a network of two layers, and four of the arms."""
    run = task.template
    small = replace(run, depth=2, width=16, epochs=4 if run.relu_epochs or run.tasks > 1 else 2)
    small = replace(small, tasks=min(run.tasks, 2), relu_epochs=min(run.relu_epochs, 2))
    main, *others = task.stages
    stages = (replace(main, arms=ARMS[:4]), *(Stage(("relu", "sugar"), stage.rates[:1]) for stage in others[1:]))
    return replace(task, template=small, epochs=small.epochs, stages=stages)


_LIMITS = (
    "Whether it is so of other networks and data: it has MLPs and scikit-learn's 8x8 digits alone.",
    "What is best for these data: the rates are chosen so that ReLU units die at them, and tasks with permuted labels are "
    "made so that a network must keep learning.",
)


def _keeps_learning(text: str, task: str, arm: str) -> tuple[Claim, Claim]:
    return (
        Claim(text, task, arm, "relu", metric="online"),
        Claim(f"{text}, each at its own best rate", task, arm, "relu", metric="online", own_rates=True),
    )


def _revived(text: str, task: str, arm: str, against: str = "relu") -> Claim:
    return Claim(text, task, arm, against, metric="revived")


TABLES = (
    Table(
        name="undying-death",
        says="networks driven to death on purpose: how many units die, which activation revives them, and what it is worth",
        source="no publication",
        scales={
            "full": Scale(_tasks(60), _LIMITS),
            "small": Scale(_tasks(20), _LIMITS),
            "smoke": Scale(
                tuple(_smallest(task) for task in _tasks(2)),
                ("Anything: it trains small networks for two or four epochs, to see that the table runs.",),
                answers=False,
            ),
        },
        given=(),
        chosen=(
            "Adam, batches of 64, digits standardised; silent and dead units counted on all 1,293 training samples, dead by "
            "the gradient of the loss",
            "144 samples held out in every run, on which each arm's own best rate is chosen: by the accuracy after the last "
            "epoch, or where there are tasks, by its mean over their ends",
            "the grid of rates: 0.1, 0.3, 1 and 3 times the one at which units die, in deep-narrow, continual and revive-continual; in the last it is the "
            "rate after the switch",
            "high-rate: 4 layers of 128 units at 0.03, about ten times what suits them, for 10 epochs",
            "deep-narrow: 12 layers of 16 units at 0.01 for 15 epochs",
            "continual: 4 layers of 64 units at 0.01, ten tasks of 4 epochs one after the other; the first has the digits' "
            "own labels, each other a random permutation of the ten, so that only the last layers would have to change",
            "revive: ReLU for 5 epochs as in high-rate, then the arm is put in by `undying.convert_` with a new optimizer at "
            "0.001, and trained for 10 epochs; `relu` goes on with ReLU, with the same new optimizer and rate",
            "revive-continual: ReLU for the first five tasks of continual, the arm for the other five, at 0.01",
            "revived: of the units that were silent before the arm was put in, the share that fires on the same samples: at "
            "once, without any training, since what one layer gives changes what the next gets; after one epoch; and at the "
            "end. A unit that ReLU's own training brings back counts too, which is why `relu` is an arm",
            "at the end of each task: test accuracy after the last epoch of each task, of those begun with the arm in place",
        ),
        published=(),
        claims=(
            Claim("SUGAR leaves fewer units silent than ReLU", "high-rate", "sugar", "relu", "lower", "silent"),
            Claim("SUGAR leaves fewer units silent than ReLU", "deep-narrow", "sugar", "relu", "lower", "silent"),
            Claim("SUGAR is more accurate than ReLU", "deep-narrow", "sugar", "relu"),
            Claim("The same, each at its own best rate", "deep-narrow", "sugar", "relu", own_rates=True),
            Claim("SUGAR leaves fewer units silent than ReLU", "continual", "sugar", "relu", "lower", "silent"),
            *_keeps_learning("SUGAR keeps learning better than ReLU", "continual", "sugar"),
            *_keeps_learning("BAReLU keeps learning better than ReLU", "continual", "barelu"),
            Claim("SUGAR keeps learning better than BAReLU", "continual", "sugar", "barelu", metric="online"),
            _revived("SUGAR revives more units than going on with ReLU", "revive", "sugar"),
            _revived("BAReLU revives more units than going on with ReLU", "revive", "barelu"),
            _revived("GELU revives more units than SUGAR", "revive", "gelu", "sugar"),
            Claim("SUGAR is then more accurate than going on with ReLU", "revive", "sugar", "relu"),
            Claim("BAReLU is then more accurate than going on with ReLU", "revive", "barelu", "relu"),
            _revived("SUGAR revives more units than going on with ReLU", "revive-continual", "sugar"),
            *_keeps_learning("SUGAR lets a dead network learn again", "revive-continual", "sugar"),
            *_keeps_learning("BAReLU lets a dead network learn again", "revive-continual", "barelu"),
            trains_as_leaky("continual", whose=""),
        ),
        gains=tuple(Gain(task, "sugar", "relu", CONTROLS) for task in JUDGED),
        score="accuracy",
    ),
)
