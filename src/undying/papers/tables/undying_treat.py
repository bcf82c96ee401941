"""Our own table: dead networks, what brings them back, and what is left of it when they end as plain ReLU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from undying.lab.runs.cartpole import MOST
from undying.lab.runs.dying import DyingRun
from undying.lab.runs.dying_dqn import DyingDQNRun
from undying.papers.kinds import KindTask, kind_task
from undying.papers.table import Claim, Metric, Scale, Stage, Table, times

ONCE = ("relu+recycle", "relu+recycle:init=kaiming", "relu+recycle:init=scaled", "relu+recycle:init=recenter")
POLICIES = ("relu+redo:every=20", "relu+cbp:rate=0.01:maturity=20", "relu+snr:longest=20:window=100")
FRESH = "relu+fresh"
ARMS = ("relu", "sugar", "barelu:anneal=0.5", *ONCE, *POLICIES, FRESH)
LR = 0.003

SCORES = (Metric("accuracy", "accuracy"), Metric("recovered", "recovered"))
UNITS = (Metric("silent", "silent"), Metric("dead", "dead"), Metric("recycled", "recycled, of all units"))
REVIVED = Metric("revived", "revived at the end")
CURVES = (Metric("accuracy", "Test accuracy"), Metric("silent", "Silent units"))
RETURNS = (
    Metric("accuracy", "final return", MOST),
    Metric("recovered", "recovered"),
    Metric("area", "mean return while treated", MOST),
)
RETURN_CURVES = (Metric("return", "Return", MOST), Metric("silent", "Silent units"))

SPIKE = DyingRun(
    activation="relu",
    seed=0,
    epochs=18,
    lr=LR,
    optimizer="adam",
    batch_size=64,
    depth=4,
    width=64,
    relu_epochs=3,
    relu_lr=0.1,
    validation=0.1,
    ends_as_relu=True,
)
SHIFT = replace(SPIKE, lr=0.001, epochs=15, relu_epochs=0, relu_lr=0.0, shift=10.0)
TASKS = replace(SPIKE, epochs=45, tasks=15, relu_epochs=30, relu_lr=0.01)
DQN = DyingDQNRun(
    activation="relu", seed=0, epochs=10, lr=0.001, batch_size=64, healthy_epochs=2, dying_epochs=1, dying_lr=0.1
)


def _digits(name: str, template: DyingRun, seeds: int, seconds: float) -> KindTask[DyingRun]:
    # A network that is not trained yet has nothing to start over from, and what is dead takes higher rates.
    arms, factors = (ARMS, (3, 10)) if template.relu_epochs else (ARMS[:-1], (0.3, 3))
    return kind_task(
        name,
        template,
        stages=(Stage(arms, (template.lr,)), Stage(arms, times(template.lr, *factors))),
        seeds=range(seeds),
        metrics=(*SCORES, *UNITS, REVIVED),
        curves=(*CURVES, Metric("revived", "Revived units")),
        over="Epoch",
        seconds=seconds,
    )


def _dqn(seeds: int) -> KindTask[DyingDQNRun]:
    return kind_task(
        "spike-dqn",
        DQN,
        stages=(Stage(ARMS, (DQN.lr,)),),
        seeds=range(seeds),
        metrics=(*RETURNS, *UNITS),
        curves=RETURN_CURVES,
        over="Steps of the environment",
        seconds=14,
    )


def _tasks(seeds: int) -> tuple[KindTask[Any], ...]:
    return (
        _digits("spike-mlp", SPIKE, seeds, 1.0),
        _digits("spike-cnn", replace(SPIKE, model="functional_cnn"), seeds, 2.0),
        _digits("shift-mlp", SHIFT, seeds, 1.0),
        _digits("shift-cnn", replace(SHIFT, model="functional_cnn"), seeds, 2.0),
        _digits("tasks-mlp", TASKS, seeds, 2.5),
        _digits("tasks-cnn", replace(TASKS, model="functional_cnn"), seeds, 5.0),
        _dqn(seeds),
    )


NAMES = tuple(task.name for task in _tasks(1))
SMOKED = ("spike-mlp", "shift-cnn", "tasks-mlp", "spike-dqn")
"""Each way to die and each network once."""


def _smallest(task: KindTask[Any]) -> KindTask[Any]:
    """An epoch of every part, four of the arms, at one rate."""
    run = task.template
    if isinstance(run, DyingRun):
        tasks = min(run.tasks, 2)
        small: Any = replace(run, epochs=2, tasks=tasks, relu_epochs=min(run.relu_epochs, 1), depth=2, width=16)
    else:
        small = replace(run, epochs=3, healthy_epochs=1, steps=100)
    stages = (Stage(("relu", "sugar", ONCE[0], POLICIES[0]), (task.lr,)),)
    return replace(task, template=small, epochs=small.epochs, stages=stages)


def _claims(task: str) -> Iterator[Claim]:
    """At the table's rate, and where there is a grid, with each arm at its own best one."""
    said = [
        Claim("SUGAR is better than going on with ReLU", task, "sugar", "relu"),
        Claim("BAReLU annealed to ReLU is better than going on with ReLU", task, "barelu:anneal=0.5", "relu"),
        Claim("Recycling silent units once is better than going on with ReLU", task, "relu+recycle", "relu"),
        Claim("ReDo is better than going on with ReLU", task, POLICIES[0], "relu"),
        Claim("Continual backprop is better than going on with ReLU", task, POLICIES[1], "relu"),
        Claim("Self-normalized resets are better than going on with ReLU", task, POLICIES[2], "relu"),
    ]
    if not task.startswith("shift"):
        text = "Recycling silent units once is not worse than a fresh start"
        said.append(Claim(text, task, "relu+recycle", FRESH, "not worse"))
    for claim in said:
        yield claim
        if task != "spike-dqn":
            yield replace(claim, text=f"{claim.text}, each at its own best rate", own_rates=True)


_LIMITS = (
    "Whether it is so of other networks, data and ways to die: it has an MLP and a small convolutional network on "
    "scikit-learn's 8x8 digits, and one DQN on CartPole-v1.",
    "What the policies are worth at settings that suit them best: of each, the settings below are the only ones; the "
    "learning rate alone is chosen on held-out data, for every arm from the same grid, and for DQN not even that.",
)

TABLE = Table(
    name="undying-treat",
    says="dead networks: what brings them back, measured after they end as plain ReLU",
    source="no publication",
    scales={
        "full": Scale(_tasks(30), _LIMITS),
        "small": Scale(_tasks(10), _LIMITS),
        "smoke": Scale(
            tuple(_smallest(task) for task in _tasks(2) if task.name in SMOKED),
            ("Anything: it trains small networks for an epoch or two, to see that the table runs.",),
            answers=False,
        ),
    },
    given=(),
    chosen=(
        "Adam, batches of 64, digits normalized; 144 samples are held out in every run, on which each arm's own best rate is "
        "chosen out of 0.003, 0.009 and 0.03, or where the network is not trained yet, 0.0003, 0.001 and 0.003",
        "spike: three epochs of ReLU at 0.1, a hundred times what suits it, leave 80 to 100 % of the units dead; then 15 "
        "epochs of the arm",
        "shift: 10 is added to every normalized input, so that |mean| / std of what the first layer reads is 10; 15 epochs of "
        "the arm from the first step on",
        "tasks: ten tasks of three epochs with ReLU at 0.01, each with another permutation of the labels; then five such tasks "
        "with the arm",
        "spike-dqn: stable-baselines3's DQN with two layers of 64 ReLU units, 2,000 steps of the environment, 1,000 at rate "
        "0.1, then 7,000 with the arm; 10 % of the actions are random, one rate, 0.001, for all",
        "what comes after the switch has a new optimizer; `relu` goes on with ReLU, with the same new optimizer and rate",
        "`relu+recycle`: `undying.recycle_` once, of the silent units, before the first step; the training samples are its "
        "probe. `relu+fresh`: every layer is drawn again before the first step",
        "300 steps are fewer than the policies' papers count with, so they act sooner here: ReDo every 20 steps, an epoch, "
        "instead of 1,000; continual backprop at a replacement rate of 0.01 and a maturity of 20 instead of 0.0001 and 100; "
        "self-normalized resets with a first threshold of 20 steps instead of 256, and a window of 100 instead of 1,000. All "
        "else of them is their papers'",
        "the score is that of a plain ReLU network: before the last measurement `undying.revert_` takes out what was put in, "
        "and a run in which that changes what the network computes would fail",
        "recovered: the share of networks with a test accuracy of at least 90 % at the end, or a return of at least 195; "
        "revived: of the units silent before the switch, the share that fires at the end on the same samples",
    ),
    published=(),
    claims=tuple(claim for task in NAMES for claim in _claims(task)),
    gains=(),
    score="accuracy, or return,",
)
