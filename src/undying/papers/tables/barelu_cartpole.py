"""BAReLU's reinforcement learning table: PPO on CartPole-v1, final reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from undying.lab.runs.cartpole import MOST, CartPoleRun
from undying.papers.kinds import KindTask, kind_task
from undying.papers.table import Claim, Gain, Metric, Published, Scale, Stage, Table
from undying.papers.tables.barelu_cifar import ROOT, SOURCE, trains_as_leaky

TASK = "cartpole"
SEEDS = (42, 1337, 2026, *range(17))
MAIN = ("relu", "barelu", "leaky_relu", "barelu:eps=0.01", "sugar", "tanh")
CONTROLS = ("sugar:region=negative", "sugar:scale=unit")
TUNED = ("relu", "barelu", "barelu:eps=0.01", "sugar")
RATES = (0.0003, 0.001, 0.003, 0.0001)

METRICS = (
    Metric("accuracy", "final reward", MOST),
    Metric("area", "mean return while it learns", MOST),
    Metric("policy_silent", "silent, policy"),
    Metric("value_silent", "silent, value"),
    Metric("dead", "dead, both"),
)
CURVES = (
    Metric("return", "Return", MOST),
    Metric("policy_silent", "Silent units, policy"),
    Metric("value_silent", "Silent units, value"),
    Metric("dead", "Dead units, both"),
)


STAGES = (Stage(MAIN, RATES[:1]), Stage(CONTROLS, RATES[:1]), Stage(TUNED, RATES[1:]))


def _task(
    rollouts: int, seeds: int, seconds: float, stages: tuple[Stage, ...] = STAGES, steps: int = 2048, passes: int = 10
) -> KindTask[CartPoleRun]:
    return kind_task(
        TASK,
        CartPoleRun(activation="relu", seed=0, epochs=rollouts, lr=RATES[0], batch_size=64, steps=steps, passes=passes),
        stages=stages,
        seeds=SEEDS[:seeds],
        metrics=METRICS,
        curves=CURVES,
        over="Steps of the environment",
        seconds=seconds,
    )


_SMOKE = (Stage(MAIN, RATES[:1]), Stage(TUNED[:2], RATES[1:2]))

_NOT_PUBLIC = (
    "Whether its numbers equal the published ones: the source's PPO settings, its network and what its final reward is of "
    "are not public, so only the direction of a difference can be compared."
)

_BOUNDED = (
    "Differences between runs that end near 500, the most there is: where many do, final reward tells little, "
    "and the mean return while it learns tells more."
)

_CHOSEN = (
    "all settings of PPO: stable-baselines3's defaults (Adam at 0.0003, batches of 64, two hidden layers of 64 units "
    "for the policy and for the value, each), with its default activation, tanh, for orientation",
    "final reward: mean return of 20 episodes after training, in which the policy takes its most likely action, from "
    "starts that are the same for every run; 20 other episodes serve to choose each arm's own best rate",
    "mean return while it learns, the area under the learning curve: the mean, over the rollouts, of the mean return "
    "of the episodes that ended in them",
    "silent and dead units: on 2,048 observations that are the same for every run, of episodes played by a simple "
    "rule with a share of random actions; dead by the gradient of PPO's loss as it is at the first step of an "
    "update, with the actions of those episodes and their standardised returns in the place of the advantage",
    ROOT,
    "the number of seeds, and SUGAR beside the published arms",
    "the grid of rates: 0.3, 1, 3 and 10 times 0.0003",
)


def _table(name: str, says: str, scales: Mapping[str, Scale], chosen: Sequence[str]) -> Table:
    return Table(
        name=name,
        says=says,
        source=SOURCE,
        scales=scales,
        given=("CartPole-v1, PPO", "389 policy updates", "slope 0.01 for x <= 0"),
        chosen=(*chosen, *_CHOSEN),
        published=(
            Published(TASK, "relu", 138.60 / MOST),
            Published(TASK, "barelu", 165.60 / MOST),
            Published(TASK, "leaky_relu", 106.05 / MOST),
        ),
        claims=(
            Claim("BAReLU's final reward is above ReLU's", TASK, "barelu", "relu"),
            Claim("The same, each at its own best rate", TASK, "barelu", "relu", own_rates=True),
            Claim("BAReLU's final reward is above Leaky ReLU's", TASK, "barelu", "leaky_relu"),
            trains_as_leaky(TASK),
            Claim(
                "The quadratic root, read as smoothing (eps = 0.01), ends above Leaky ReLU",
                TASK,
                "barelu:eps=0.01",
                "leaky_relu",
            ),
            Claim("BAReLU learns faster than ReLU (ours)", TASK, "barelu", "relu", metric="area"),
            Claim("BAReLU leaves fewer units silent than ReLU (ours)", TASK, "barelu", "relu", "lower", "silent"),
            Claim("SUGAR's final reward is above ReLU's (ours)", TASK, "sugar", "relu"),
            Claim("The same of SUGAR, each at its own best rate", TASK, "sugar", "relu", own_rates=True),
        ),
        gains=(
            Gain(TASK, "barelu", "relu"),
            Gain(TASK, "barelu:eps=0.01", "relu"),
            Gain(
                TASK,
                "sugar",
                "relu",
                {
                    CONTROLS[0]: "ReLU's own derivative for x > 0, the surrogate's for x <= 0",
                    CONTROLS[1]: "the derivative divided by its mean over x > 0 under a standard normal density",
                },
            ),
        ),
        score="final reward",
        diverged="a reward of 0",
        points=f"One point of reward is {MOST / 100:g}, a hundredth of the {MOST} that an episode can bring.",
    )


TABLES = (
    _table(
        "barelu-cartpole",
        "final reward BAReLU 165.60, ReLU 138.60, Leaky ReLU 106.05, after 389 policy updates",
        {
            "full": Scale((_task(39, 20, 65),), (_NOT_PUBLIC, _BOUNDED)),
            "small": Scale(
                (_task(10, 10, 18),),
                (
                    _NOT_PUBLIC,
                    "What happens later in training: it ends after 20,480 steps and 100 updates of the 390.",
                    _BOUNDED,
                ),
            ),
            "smoke": Scale(
                (_task(2, 2, 1, _SMOKE, 128, 1),),
                ("Anything: it trains for 256 steps, to see that the table runs.",),
                answers=False,
            ),
        },
        (
            "what an update is: stable-baselines3 counts a pass over a rollout as one (n_updates), 10 a rollout of 2,048 "
            "steps; 39 rollouts give 390 updates from 79,872 steps, the nearest to 389. Were an update a rollout, it would "
            "be 796,672 steps. Either way 165.60 of 500 is less than PPO with these settings ends with, so the source has others",
        ),
    ),
    _table(
        "barelu-cartpole-rollouts",
        "the same 389 policy updates, each read as a rollout of 128 steps: final reward BAReLU 165.60, ReLU 138.60, "
        "Leaky ReLU 106.05",
        {
            "full": Scale((_task(389, 20, 80, steps=128),), (_NOT_PUBLIC, _BOUNDED)),
            "small": Scale(
                (_task(389, 5, 80, STAGES[:1], steps=128),),
                (_NOT_PUBLIC, "What each arm does at its own best rate: it runs one rate.", _BOUNDED),
            ),
            "smoke": Scale(
                (_task(4, 2, 1, _SMOKE, 64, 1),),
                ("Anything: it trains for 256 steps, to see that the table runs.",),
                answers=False,
            ),
        },
        (
            "what an update is: a rollout with all its passes, here of 128 steps, so that 389 of them are 49,792 steps, near the "
            "50,000 that CartPole is often given. The other reading, a pass of stable-baselines3, is barelu-cartpole",
        ),
    ),
)
"""Both readings of "389 policy updates"."""
