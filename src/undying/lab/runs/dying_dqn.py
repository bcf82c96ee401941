"""Kill the network of a DQN on CartPole-v1 by a spike of the rate, treat it, and measure what it still learns."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from undying.census.census import census
from undying.census.results import Census
from undying.lab.checkpoints import Checkpoint
from undying.lab.execution import Execution
from undying.lab.optimizers import build_optimizer
from undying.lab.recipe import Recipe
from undying.lab.runs.cartpole import KIND as CARTPOLE
from undying.lab.runs.cartpole import MOST, TASK, evaluated, libraries, probe
from undying.lab.runs.kind import Curve, Epoch, Kind, Lines
from undying.lab.runs.lines import last_counted, recycled_share, share, treatment_metrics, unit_metrics, weights_sha256
from undying.lab.runs.start import start_of
from undying.lab.settings import AnyRun
from undying.lab.treatments import Applied, build_treatment
from undying.treat.convert import convert_
from undying.treat.revert import revert_

RECOVERED = 195
"""Return from which CartPole counted as solved when it ended after 200 steps."""


@dataclass(frozen=True, kw_only=True)
class DyingDQNRun(AnyRun):
    """One training of stable-baselines3's DQN, which takes one step of the optimizer in two of the environment."""

    kind: ClassVar[str] = "dying-dqn"
    data: str = TASK
    model: str = "MlpPolicy"
    """A network with two hidden layers of 64 ReLU units."""
    optimizer: str = "adam"
    healthy_epochs: int
    """With ReLU, at ``lr``."""
    dying_epochs: int
    """With ReLU, at ``dying_lr``; then the network is treated."""
    dying_lr: float
    steps: int = 1000
    """Of the environment, in an epoch."""


def train(config: DyingDQNRun, execution: Execution | None = None) -> Iterator[Epoch]:
    """Train as ``config`` says. Weights that stop being finite end the run with a last, diverged epoch.

    What was put in is taken out again before the last measurement; where that would change what the network computes, the
    run fails.

    Raises:
        UndyingError: stable-baselines3 is missing.
    """
    run = _Run(config, execution or Execution())
    start = start_of(run.agent.q_net, run.treatment)
    counted: Census | None = None
    try:
        for epoch in range(config.epochs + 1):
            started = time.perf_counter()
            seen = len(run.returns())
            last = epoch == config.epochs
            if epoch > 0:
                run.train(epoch)
            if last:
                revert_(run.agent.q_net)
            diverged = not all(bool(p.isfinite().all()) for p in run.agent.q_net.parameters())
            counted = counted if diverged else _count(run.agent.q_net)
            ended = run.returns()[seen:]
            yield Epoch(
                {
                    "epoch": epoch,
                    "steps": run.agent.num_timesteps,
                    "return": sum(ended) / len(ended) if ended else None,
                    **(unit_metrics(counted) if counted and not diverged else {}),
                    **(treatment_metrics(run.applied, last=last) if run.applied is not None else {}),
                    **(evaluated(run.agent) if last and not diverged else {}),
                    **({"weights_sha256": weights_sha256(run.agent.q_net)} if last or diverged else {}),
                    "seconds": time.perf_counter() - started,
                },
                counted,
                diverged,
                start=start if epoch == 0 else None,
            )
            if diverged:
                return
    finally:
        run.close()


class _Run:
    """The agent, and what treats its network."""

    def __init__(self, config: DyingDQNRun, execution: Execution) -> None:
        gymnasium, baselines = libraries()
        from stable_baselines3.common.monitor import Monitor

        env = Monitor(gymnasium.make(TASK))
        self.treatment = build_treatment(config.activation)
        self.applied: Applied | None = None
        self.config, self.returns = config, env.get_episode_rewards
        self.agent = baselines.DQN(
            config.model,
            env,
            learning_rate=config.lr,
            batch_size=config.batch_size,
            buffer_size=20_000,
            learning_starts=config.steps // 2,
            train_freq=4,
            gradient_steps=2,
            target_update_interval=250,
            exploration_initial_eps=0.1,
            exploration_final_eps=0.1,
            seed=config.seed,
            device=execution.device,
            policy_kwargs={"net_arch": [64, 64], "activation_fn": nn.ReLU},
        )

    def train(self, epoch: int) -> None:
        """The epoch's steps, at the rate of its part of the run."""
        config = self.config
        before = config.healthy_epochs + config.dying_epochs
        if epoch == before + 1:
            self.treat()
        lr = config.dying_lr if config.healthy_epochs < epoch <= before else config.lr
        self.agent.lr_schedule = lambda _: lr
        self.agent.learn(config.steps, reset_num_timesteps=False)

    def close(self) -> None:
        """Have the treatment leave the network alone."""
        if self.applied is not None:
            self.applied.close()

    def treat(self) -> None:
        """Put the treatment in. A new optimizer: what the old one remembers is of another rate."""
        config, agent = self.config, self.agent
        observations = [probe()[0].to(agent.device)]
        for network in (agent.q_net, agent.q_net_target):
            convert_(network, self.treatment.build())
            self.treatment.prepare(network, observations)
        optimizer = build_optimizer(config.optimizer, list(agent.q_net.parameters()), config.lr, Recipe())
        steps = (config.epochs - config.healthy_epochs - config.dying_epochs) * config.steps // 2
        applied = self.applied = self.treatment.start(agent.q_net, optimizer, observations, steps, config.seed)
        optimizer.register_step_pre_hook(lambda *_: applied.before_step())
        optimizer.register_step_post_hook(lambda *_: applied.after_step())
        agent.policy.optimizer = optimizer


def _count(network: Any) -> Census:
    observations, target = probe()
    return census(network, [(observations, target)], gradients=True, loss=_loss)


def _loss(values: Tensor, target: Mapping[str, Tensor]) -> Tensor:
    """DQN's, with the return that followed in the place of the target network's estimate."""
    chosen = values.gather(1, target["action"][:, None]).squeeze(1)
    return F.smooth_l1_loss(chosen, target["return"])


class DyingDQN(Kind[DyingDQNRun]):
    """Scored by the final return over the most there is; that of a run that diverged is 0."""

    config = DyingDQNRun

    def rehearse(self, config: DyingDQNRun, execution: Execution) -> None:
        build_treatment(config.activation).check(trained=True)
        run = _Run(config, execution)
        run.treat()
        run.close()

    def train(self, config: DyingDQNRun, execution: Execution, checkpoint: Checkpoint | None) -> Iterator[Epoch]:
        return train(config, execution)

    def versions(self) -> dict[str, str]:
        return CARTPOLE.versions()

    def values(self, config: DyingDQNRun, lines: Lines, chance: float) -> dict[str, float]:
        final = lines[-1].get("test_return", 0.0)
        returns = [
            line["return"] / MOST
            for line in lines
            if line["return"] is not None and line["epoch"] > config.healthy_epochs + config.dying_epochs
        ]
        return {
            "accuracy": final / MOST,
            "validation": lines[-1].get("validation_return", 0.0) / MOST,
            "area": sum(returns) / len(returns) if returns else 0.0,
            "recovered": float(final >= RECOVERED),
            "recycled": recycled_share(last_counted(lines)),
        }

    def curves(self, config: DyingDQNRun, lines: Lines) -> dict[str, Curve]:
        return {
            "over": tuple(line["steps"] for line in lines),
            "return": tuple(None if line["return"] is None else line["return"] / MOST for line in lines),
            "silent": tuple(share(line, "silent") for line in lines),
        }


KIND = DyingDQN()
