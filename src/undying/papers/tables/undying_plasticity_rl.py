"""Our own table: agents in environments that change as they learn, scored by what they earn on the way."""

from __future__ import annotations

from dataclasses import replace

from undying.lab.runs.changing import ChangingRun
from undying.papers.kinds import KindTask, kind_task
from undying.papers.table import Claim, Metric, Scale, Stage, Table

REDO = "relu+redo:every=320"
SNR = "relu+snr:longest=320:window=500"
ARMS = ("relu", "sugar", "barelu", "crelu", REDO, SNR, "relu+layernorm")
SMALL_ARMS = ("relu", "sugar", REDO)
"""What fits into half an hour of one core."""

MOST = {"cartpole": 200, "acrobot": 100}
_ENVIRONMENTS = {"cartpole": "ChangingCartPole-v0", "acrobot": "ChangingAcrobot-v0"}
_SECONDS = {"ppo": 7.5, "dqn": 5.5}

RUN = ChangingRun(
    data="",
    model="MlpPolicy",
    activation="relu",
    seed=0,
    epochs=6,
    lr=0.001,
    batch_size=64,
    algo="ppo",
    steps=6 * 2048,
    envs=8,
)


def _task(name: str, epochs: int, arms: tuple[str, ...], seeds: int) -> KindTask[ChangingRun]:
    """``ppo-cartpole`` and its like."""
    algo, _, short = name.partition("-")
    most = MOST[short]
    run = replace(RUN, data=_ENVIRONMENTS[short], algo=algo, epochs=epochs, steps=2048 * epochs)
    return kind_task(
        name,
        run,
        stages=(Stage(arms, (run.lr,)),),
        seeds=range(seeds),
        metrics=(
            Metric("accuracy", "mean return", most),
            Metric("slope", "slope, points of the most a task", 100, 2),
            Metric("silent", "silent"),
            Metric("dormant", "dormant"),
            Metric("weights", "weight norm", 1),
            Metric("recycled", "recycled, of all units"),
        ),
        curves=(Metric("accuracy", "Return of the episodes of a task", most), Metric("silent", "Silent units")),
        over="Task",
        seconds=_SECONDS[algo] * epochs / RUN.epochs,
    )


NAMES = ("ppo-cartpole", "dqn-cartpole", "ppo-acrobot", "dqn-acrobot")


def _tasks(epochs: int, arms: tuple[str, ...], seeds: int) -> tuple[KindTask[ChangingRun], ...]:
    return tuple(_task(name, epochs, arms, seeds) for name in NAMES)


def _smallest(task: KindTask[ChangingRun]) -> KindTask[ChangingRun]:
    """Two tasks of one rollout each: PPO's in two environments, DQN's as long as it takes until it learns."""
    run = replace(task.template, epochs=2, steps=1024)
    run = replace(run, steps=256, envs=2) if run.algo == "ppo" else run
    return replace(task, template=run, epochs=run.epochs)


_TEXTS = {"sugar": "SUGAR earns more than ReLU", REDO: "ReDo earns more than ReLU"}
"""Of the arms that are run at every scale: a claim without runs makes the others harder to show."""

_LIMITS = (
    "Whether anything keeps agents plastic: in six tasks no arm loses what it could, as all slopes are above 0. So it tells how fast "
    "agents learn while an environment changes.",
    "Whether it is so of other agents and environments, or of longer trainings: it has six tasks of 2,048 steps, networks of "
    "two layers of 64 units, and two environments of classic control.",
    "What each arm is worth at a rate that suits it: there is one, 0.001, for all.",
    "Whether a policy keeps what it learned of earlier tasks: only what is earned on the way is scored.",
)

TABLE = Table(
    name="undying-plasticity-rl",
    says="agents in environments that change as they learn: what they earn on the way, by treatment",
    source="no publication",
    scales={
        "full": Scale(_tasks(20, ARMS, 30), _LIMITS[2:]),
        "small": Scale(_tasks(6, SMALL_ARMS, 10), _LIMITS),
        "smoke": Scale(
            tuple(_smallest(task) for task in _tasks(2, SMALL_ARMS, 2)),
            ("Anything: it trains agents for two rollouts, to see that the table runs.",),
            answers=False,
        ),
    },
    given=(),
    chosen=(
        "cartpole: CartPole-v1 with episodes of at most 200 steps; each task draws a length of the pole and a force from half to "
        "twice the usual ones. The first is the usual one",
        "acrobot: Acrobot-v1 with episodes of 100 steps and another reward, which each task changes: how far the tip is in a "
        "direction that the task draws, from 0 to 1 a step. In the first that is straight up",
        "tasks are the same for all seeds and follow without notice; episodes go on in the next task",
        "stable-baselines3's PPO (rollouts of 64 steps in 8 environments) and DQN (8 environments, 8 updates after each 32 steps, a "
        "buffer of 20,000, target network every 256 steps, 10 % of the actions random); all else is the library's. Adam at 0.001",
        "mean return: of the episodes that end in a task, mean over the tasks. A point is 1 % of the most that an episode can bring",
        "silent and dormant units and the norm of the weights: of all networks together, after the last task, on 2,048 observations "
        "of random actions in the first task's environment",
        "`relu+redo`: every 320 steps of the optimizer, a task of PPO",
    ),
    published=(),
    claims=tuple(Claim(text, name, arm, "relu") for name in NAMES for arm, text in _TEXTS.items()),
    gains=(),
    score="mean return",
    diverged="a return of 0 from then on",
    points="A point of return is 1 % of the most that an episode can bring.",
)
