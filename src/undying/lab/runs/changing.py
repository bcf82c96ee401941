"""Train an agent of stable-baselines3 in an environment that changes again and again, and score it as it learns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from undying.lab.checkpoints import Checkpoint
from undying.lab.execution import Execution
from undying.lab.runs.kind import Curve, Epoch, Kind, Lines
from undying.lab.runs.lines import (
    last_counted,
    or_nan,
    recycled_share,
    share,
)
from undying.lab.runs.online import slope
from undying.lab.runs.reinforcement import AgentTraining, libraries
from undying.lab.settings import AgentRun
from undying.lab.treatments import build_treatment

_OWN: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 64},
    "dqn": {
        "buffer_size": 20_000,
        "learning_starts": 512,
        "train_freq": 4,
        "gradient_steps": 8,
        "target_update_interval": 256,
        "exploration_initial_eps": 0.1,
        "exploration_final_eps": 0.1,
    },
}
"""What is not as stable-baselines3 has it: its defaults are for trainings of a million steps, and look at them seldom."""


@dataclass(frozen=True, kw_only=True)
class ChangingRun(AgentRun):
    """One training on as many tasks in a row as it has epochs, each of an equal share of its steps."""

    kind: ClassVar[str] = "changing-agent"
    data: str
    """One of ``undying.lab.environments.LIMITS``. Its tasks are the same for every seed."""


def train(config: ChangingRun, execution: Execution | None = None) -> Iterator[Epoch]:
    """Train as ``config`` says; line 0 is before training, each other the end of a task. Weights that stop being finite end
    the run with a last, diverged line.

    ``online_return`` is the mean return of the episodes that ended in the task, over the most that one can bring. What is
    under way when a task begins goes on in it.

    Raises:
        UndyingError: stable-baselines3 is missing.
    """
    most = _limits()[config.data]
    run = AgentTraining(config, execution or Execution(), _OWN[config.algo])

    def scored(returns: Sequence[float], known: bool) -> dict[str, float | None]:
        online = float(np.mean(returns)) / most if returns and known else None
        return {"online_return": online, **({"weight_norm": _norm(run)} if known else {})}

    yield from run.epochs(scored, lambda task: run.envs.env_method("begin", task - 1))


def _limits() -> dict[str, int]:
    libraries()
    from undying.lab.environments import LIMITS  # which registers them

    return LIMITS


def _norm(run: AgentTraining) -> float:
    return math.hypot(*(float(p.detach().norm()) for p in run.networks.parameters() if p.dim() > 1))


class Changing(Kind[ChangingRun]):
    """Scored by the mean return over all tasks, over the most there is. Nothing is held out, so a grid would
    choose on the score."""

    config = ChangingRun

    def rehearse(self, config: ChangingRun, execution: Execution) -> None:
        build_treatment(config.activation).check()
        _limits()
        AgentTraining(replace(config, epochs=1), execution, _OWN[config.algo]).close()

    def train(self, config: ChangingRun, execution: Execution, checkpoint: Checkpoint | None) -> Iterator[Epoch]:
        return train(config, execution)

    def versions(self) -> dict[str, str]:
        gymnasium, baselines = libraries()
        return {"gymnasium": gymnasium.__version__, "stable-baselines3": baselines.__version__}

    def values(self, config: ChangingRun, lines: Lines, chance: float) -> dict[str, float]:
        known = {line["epoch"]: line["online_return"] for line in lines}
        online = [known.get(task) or 0.0 for task in range(1, config.epochs + 1)]
        counted = last_counted(lines)
        score = float(np.mean(online))
        along = slope(range(config.epochs), online)
        return {
            "accuracy": score,
            "validation": score,
            "slope": along,
            "change": along * (config.epochs - 1),
            "dormant": or_nan(share(counted, "dormant")),
            "weights": counted.get("weight_norm", math.nan),
            "recycled": recycled_share(counted),
        }

    def curves(self, config: ChangingRun, lines: Lines) -> dict[str, Curve]:
        return {
            "over": tuple(line["epoch"] for line in lines),
            "accuracy": tuple(line["online_return"] for line in lines),
            "silent": tuple(share(line, "silent") for line in lines),
        }


KIND = Changing()
