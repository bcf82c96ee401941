"""Train an agent of stable-baselines3 in an environment and measure it, interval by interval."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from undying._base import imports
from undying._base.errors import UndyingError
from undying._base.extras import need
from undying.census.census import census
from undying.census.results import Census
from undying.lab.checkpoints import Checkpoint
from undying.lab.execution import Execution
from undying.lab.runs.episodes import EPISODES, played
from undying.lab.runs.kind import Epoch, Kind, Lines
from undying.lab.runs.lines import treatment_metrics, unit_metrics, weights_sha256
from undying.lab.runs.start import start_of
from undying.lab.settings import AgentRun
from undying.lab.treatments import Applied, build_treatment
from undying.statistics.metric import Metric
from undying.treat.convert import convert_

RETURN = Metric("episode_return", "return")
PROBE = 2048
"""Observations of random actions on which units are counted, the same for every run of an environment."""


def train(config: AgentRun, execution: Execution | None = None) -> Iterator[Epoch]:
    """Train as ``config`` says. Weights that stop being finite end the run with a last, diverged epoch.

    Raises:
        UndyingError: stable-baselines3 is missing, or the environment cannot be played.
    """
    run = AgentTraining(config, execution or Execution())

    def scored(returns: Sequence[float], known: bool) -> dict[str, float | None]:
        return {f"train_{RETURN.name}": float(np.mean(returns)) if returns else None, **run.evaluated(known)}

    yield from run.epochs(scored)


class AgentTraining:
    """The agent, and what treats its networks.

    Args:
        config: of the run.
        execution: where it is trained.
        own: what the algorithm is made with beside.
    """

    def __init__(self, config: AgentRun, execution: Execution, own: Mapping[str, Any] = MappingProxyType({})) -> None:
        _, baselines = libraries()
        from stable_baselines3.common.env_util import make_vec_env

        self.config = config
        # Seeded before the networks are made: the same initial weights for every activation.
        self.envs = make_vec_env(maker(config.data), n_envs=config.envs, seed=config.seed)
        batch = {} if config.algo == "a2c" else {"batch_size": config.batch_size}
        try:
            self.agent = getattr(baselines, config.algo.upper())(
                config.model,
                self.envs,
                learning_rate=config.lr,
                seed=config.seed,
                device=execution.device,
                **batch,
                **own,
                policy_kwargs={"activation_fn": nn.ReLU},
            )
        except (AssertionError, ValueError, KeyError) as error:
            raise UndyingError(f"--algo {config.algo} with --env {config.data!r}: {error}") from None
        self.returns: list[float] = []
        self.networks = _Networks(self.agent.policy)
        self.planned = build_treatment(config.activation)
        observed = [self._observed()]
        if convert_(self.networks, self.planned.build()).converted == 0:
            raise UndyingError(f"--model {config.model} has no ReLU to replace")
        self.prepared = self.planned.prepare(self.networks, observed)
        policy = self.agent.policy
        if self.prepared and hasattr(policy, "q_net_target"):  # which is no part of the forward pass
            policy.q_net_target = copy.deepcopy(policy.q_net).eval()
            self.agent._create_aliases()
            self.prepared += [name.replace("q_net", "q_net_target", 1) for name in self.prepared]
        if self.prepared:  # an optimizer of what is there now, as the policy makes its own
            policy.optimizer = policy.optimizer_class(policy.parameters(), lr=config.lr, **policy.optimizer_kwargs)
        self.treatment: Applied = self.planned.start(
            self.networks, policy.optimizer, observed, self._steps(), config.seed
        )
        # The library takes the steps, of which each is one of the treatment.
        policy.optimizer.register_step_pre_hook(lambda *_: self.treatment.before_step())
        policy.optimizer.register_step_post_hook(lambda *_: self.treatment.after_step())

    def epochs(
        self,
        scored: Callable[[Sequence[float], bool], dict[str, float | None]],
        begin: Callable[[int], object] = lambda _: None,
    ) -> Iterator[Epoch]:
        """Train, and close at the end. Weights that stop being finite end it with a last, diverged epoch.

        Args:
            scored: gives what is told of an epoch beside units, from the returns of the episodes that ended in it and whether
                the weights are finite.
            begin: is called with the number of an epoch, from 1, before it is trained.
        """
        start = start_of(self.networks, self.planned, prepared=self.prepared)
        counted: Census | None = None
        try:
            for epoch in range(self.config.epochs + 1):
                started, seen = time.perf_counter(), len(self.returns)
                if epoch > 0:
                    begin(epoch)
                    self.train(epoch)
                diverged = not all(bool(p.isfinite().all()) for p in self.networks.parameters())
                counted = counted if diverged else self.count()
                last, ended = diverged or epoch == self.config.epochs, self.returns[seen:]
                metrics = {
                    "epoch": epoch,
                    "steps": self.agent.num_timesteps,
                    "episodes": len(ended),
                    **scored(ended, not diverged),
                    **(unit_metrics(counted) if counted and not diverged else {}),
                    **treatment_metrics(self.treatment, last=last),
                    **({"weights_sha256": weights_sha256(self.networks)} if last else {}),
                    "seconds": time.perf_counter() - started,
                }
                yield Epoch(metrics, counted, diverged, start=start if epoch == 0 else None)
                if diverged:
                    return
        finally:
            self.close()

    def train(self, epoch: int) -> None:
        """As many steps of the environment as the epoch has."""
        from stable_baselines3.common.callbacks import BaseCallback

        returns = self.returns

        class Returns(BaseCallback):
            def _on_step(self) -> bool:
                returns.extend(info["episode"]["r"] for info in self.locals["infos"] if "episode" in info)
                return True

        config = self.config
        until = config.steps * epoch // config.epochs
        if until > self.agent.num_timesteps:
            self.agent.learn(until - self.agent.num_timesteps, callback=Returns(), reset_num_timesteps=False)

    def evaluated(self, known: bool) -> dict[str, float | None]:
        """Mean returns from starts that are the same for all."""
        names = (f"test_{RETURN.name}", f"validation_{RETURN.name}")
        if not known:
            return dict.fromkeys(names)
        returns = played(self.agent, maker(self.config.data), range(10_000, 10_000 + 2 * EPISODES))
        means = (float(np.mean(part)) for part in (returns[:EPISODES], returns[EPISODES:]))
        return dict(zip(names, means, strict=True))

    def count(self) -> Census:
        """Units of all networks on the probe; dead by the gradient of the sum of their outputs, each weighed at random."""
        return census(self.networks, [self._observed()], gradients=True, loss=_weighed)

    def close(self) -> None:
        """Have the treatment leave the networks alone, and end the environments."""
        self.treatment.close()
        self.envs.close()

    def _observed(self) -> Tensor:
        observations = probe(self.config.data)
        tensor: Tensor = self.agent.policy.obs_to_tensor(observations)[0]
        return tensor

    def _steps(self) -> int:
        """Steps of the optimizer, about."""
        agent: Any = self.agent
        steps, envs = self.config.steps, self.config.envs
        if self.config.algo == "dqn":
            every = getattr(agent.train_freq, "frequency", agent.train_freq) * envs
            return max(1, int((steps - agent.learning_starts) // every * max(1, agent.gradient_steps)))
        rollout = agent.n_steps * envs
        passes = agent.n_epochs * -(-rollout // agent.batch_size) if self.config.algo == "ppo" else 1
        return int(-(-steps // rollout) * passes)


class _Networks(nn.Module):
    """All networks of a policy as one, which gives their outputs side by side without sampling an action."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observations: Tensor) -> Tensor:
        policy: Any = self.policy
        if hasattr(policy, "q_net"):
            values: Tensor = policy.q_net(observations)
            return values
        features = policy.extract_features(observations)
        actor, critic = features if isinstance(features, tuple) else (features, features)
        actions = policy.action_net(policy.mlp_extractor.forward_actor(actor))
        return torch.cat([actions, policy.value_net(policy.mlp_extractor.forward_critic(critic))], 1)


def _weighed(outputs: Tensor, *_: Any) -> Tensor:
    weights = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0)).to(outputs.device)
    return (outputs * weights).sum() / len(outputs)


@cache
def probe(env: str) -> Any:
    """(2048, ...): observations of random actions, the same in every process."""
    played = maker(env)()
    played.action_space.seed(0)
    observations: list[Any] = []
    number = 0
    observation, _ = played.reset(seed=0)
    while len(observations) < PROBE:
        observations.append(np.asarray(observation))
        observation, _, ended, cut, _ = played.step(played.action_space.sample())
        if ended or cut:
            number += 1
            observation, _ = played.reset(seed=number)
    played.close()
    return np.stack(observations)


def maker(env: str) -> Callable[[], Any]:
    """What makes an environment: an id of gymnasium's, or package.module:function.

    Raises:
        UndyingError: there is none.
    """
    gymnasium, _ = libraries()
    if ":" in env and env not in gymnasium.registry:
        return lambda: imports.call(env, "env")

    def make() -> Any:
        try:
            return gymnasium.make(env)
        except gymnasium.error.Error as error:
            raise UndyingError(f"--env {env!r}: {error}") from None

    return make


def libraries() -> tuple[Any, Any]:
    return need("gymnasium", "rl", "--task rl"), need("stable_baselines3", "rl", "--task rl")


def describe(env: str) -> dict[str, Any]:
    """What is recorded of an environment.

    Raises:
        UndyingError: it cannot be played, or its observations are of a kind that is not supported.
    """
    made = maker(env)()
    spaces = {"observations": str(made.observation_space), "actions": str(made.action_space)}
    shape = getattr(made.observation_space, "shape", None)
    made.close()
    if not shape:
        raise UndyingError(f"--env {env!r} gives {spaces['observations']}; observations must be arrays of one shape")
    seen = {"name": env, "train": 0, "outputs": 0, "shape": list(shape), **spaces, "probe": PROBE}
    return {**seen, "sha256": env_sha256(env), "metrics": [RETURN.to_dict()]}


def env_sha256(env: str) -> str:
    """Hash of the source of an environment of the user's own; empty for others."""
    gymnasium, _ = libraries()
    return imports.source_sha256(env, "env") if ":" in env and env not in gymnasium.registry else ""


class Agents(Kind[AgentRun]):
    """Scored by the mean return of the trained policy."""

    config = AgentRun

    def train(self, config: AgentRun, execution: Execution, checkpoint: Checkpoint | None) -> Iterator[Epoch]:
        return train(config, execution)

    def rehearse(self, config: AgentRun, execution: Execution) -> None:
        AgentTraining(config, execution).close()

    def versions(self) -> dict[str, str]:
        gymnasium, baselines = libraries()
        return {"gymnasium": gymnasium.__version__, "stable-baselines3": baselines.__version__}

    def describe(self, config: AgentRun, execution: Execution) -> dict[str, Any]:
        return describe(config.data)

    def values(self, config: AgentRun, lines: Lines, chance: float) -> dict[str, float]:
        last: Mapping[str, Any] = lines[-1]
        scores = {"accuracy": last.get(f"test_{RETURN.name}"), "validation": last.get(f"validation_{RETURN.name}")}
        return {name: math.nan if value is None else value for name, value in scores.items()}


KIND = Agents()
