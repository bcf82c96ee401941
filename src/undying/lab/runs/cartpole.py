"""Train stable-baselines3's PPO on CartPole-v1 and measure it, rollout by rollout. Knows nothing of where the numbers go."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undying._base.extras import need
from undying.census.census import census
from undying.census.results import Census
from undying.lab.activations import build_activation
from undying.lab.checkpoints import Checkpoint
from undying.lab.execution import Execution
from undying.lab.runs.episodes import EPISODES, played
from undying.lab.runs.kind import Curve, Epoch, Kind, Lines
from undying.lab.runs.lines import (
    last_counted,
    or_nan,
    recycled_share,
    share,
    treatment_metrics,
    unit_metrics,
    weights_sha256,
)
from undying.lab.runs.start import start_of
from undying.lab.settings import AnyRun
from undying.lab.treatments import Applied, Treatment, build_treatment

TASK = "CartPole-v1"
MOST = 500
"""Of the return of an episode, which then ends."""
PROBE = 2048
"""Observations on which units are counted, the same for every run."""
POINTS = 50
"""Of a curve, at most."""
_GAMMA = 0.99  # PPO's own
_NETWORKS = ("policy", "value")


@dataclass(frozen=True, kw_only=True)
class CartPoleRun(AnyRun):
    """One training of PPO; an epoch is a rollout and the updates from it. What is not named is stable-baselines3's own."""

    kind: ClassVar[str] = "cartpole"
    data: str = TASK
    model: str = "MlpPolicy"
    """A policy and a value network, each with two hidden layers of 64 units."""
    optimizer: str = "adam"
    steps: int
    """Of a rollout (n_steps)."""
    passes: int
    """Over a rollout, each of which counts as one update (n_epochs)."""


def train(config: CartPoleRun, execution: Execution | None = None) -> Iterator[Epoch]:
    """Train as ``config`` says. Weights that stop being finite end the run with a last, diverged epoch.

    Raises:
        UndyingError: stable-baselines3 is missing.
    """
    execution = execution or Execution()
    agent, episodes = _agent(config, execution)
    planned = build_treatment(config.activation)
    networks = _Networks(agent.policy)
    prepared = _prepare(agent, networks, planned)
    start = start_of(agent.policy, planned, prepared=prepared)
    treatment = _begin(agent, networks, planned, config)
    counted: Census | None = None
    try:
        for epoch in range(config.epochs + 1):
            started = time.perf_counter()
            seen = len(episodes())
            if epoch > 0:
                agent.learn(config.steps, reset_num_timesteps=False)
            diverged = not all(bool(p.isfinite().all()) for p in agent.policy.parameters())
            counted = counted if diverged else count(agent.policy)
            ended = episodes()[seen:]
            last = diverged or epoch == config.epochs
            metrics = {
                "epoch": epoch,
                "steps": agent.num_timesteps,
                "updates": epoch * config.passes,
                "episodes": len(ended),
                "return": sum(ended) / len(ended) if ended else None,
                **(unit_metrics(counted) if counted and not diverged else {}),
                **(evaluated(agent) if last and not diverged else {}),
                **treatment_metrics(treatment, last=last),
                **({"weights_sha256": weights_sha256(agent.policy)} if last else {}),
                "seconds": time.perf_counter() - started,
            }
            yield Epoch(metrics, counted, diverged, start=start if epoch == 0 else None)
            if diverged:
                return
    finally:
        treatment.close()


def _prepare(agent: Any, networks: nn.Module, planned: Treatment) -> list[str]:
    """Have the treatment change the networks. Returns the names of what it owns."""
    policy, prepared = agent.policy, planned.prepare(networks, [probe()])
    if prepared:  # an optimizer of what is there now, as the policy makes its own
        policy.optimizer = policy.optimizer_class(
            policy.parameters(), lr=agent.learning_rate, **policy.optimizer_kwargs
        )
    return prepared


def _begin(agent: Any, networks: nn.Module, planned: Treatment, config: CartPoleRun) -> Applied:
    """Put the treatment to work. The library takes the steps, of which each is one of the treatment; by then it has limited
    the gradient's norm."""
    optimizer = agent.policy.optimizer
    steps = -(-config.steps // config.batch_size) * config.passes * config.epochs
    treatment = planned.start(networks, optimizer, [probe()], steps, config.seed)
    optimizer.register_step_pre_hook(lambda *_: treatment.before_step())
    optimizer.register_step_post_hook(lambda *_: treatment.after_step())
    return treatment


def count(policy: nn.Module) -> Census:
    """The units of both networks on the probe; dead by the gradient of PPO's loss as it is before the first step of an
    update, where old and new policy are one: -A log p(action), plus half the squared error of the value. The actions are
    those stored with the probe, the returns those that followed, and A is the return, standardised."""
    observations, target = probe()
    return census(_Networks(policy), [(observations, target)], gradients=True, loss=_loss)


@cache
def probe() -> tuple[Tensor, Mapping[str, Tensor]]:
    """(observations (2048, 4), ``{"action", "return"}``) of episodes that no run has any part in: a rule that pushes to the
    side on which the pole leans, with a share of random actions that is another in each episode, from none to all."""
    gymnasium, _ = libraries()
    draw = np.random.default_rng(0)
    env = gymnasium.make(TASK)
    observations: list[Any] = []
    actions: list[int] = []
    returns: list[float] = []
    while len(observations) < PROBE:
        observation, _ = env.reset(seed=len(observations))
        share, over, length = draw.random(), False, 0
        while not over:
            leans = int(observation[2] + observation[3] > 0)
            action = int(draw.integers(2)) if draw.random() < share else leans
            observations.append(observation)
            actions.append(action)
            observation, _, ended, cut, _ = env.step(action)
            length, over = length + 1, ended or cut
        # A reward of 1 a step: the discounted rest of the episode.
        returns += [(1 - _GAMMA**left) / (1 - _GAMMA) for left in range(length, 0, -1)]
    env.close()
    target = {"action": torch.tensor(actions[:PROBE]), "return": torch.tensor(returns[:PROBE])}
    return torch.tensor(np.array(observations[:PROBE])), target


class _Networks(nn.Module):
    """The policy's and the value's network as one that gives (logits, values), without sampling an action."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.mlp_extractor, self.action_net, self.value_net = (
            getattr(policy, name) for name in ("mlp_extractor", "action_net", "value_net")
        )

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        policy, value = self.mlp_extractor(observations)
        return self.action_net(policy), self.value_net(value)


def _loss(output: tuple[Tensor, Tensor], target: Mapping[str, Tensor]) -> Tensor:
    logits, values = output
    returns = target["return"]
    advantage = (returns - returns.mean()) / returns.std()
    chosen = -F.cross_entropy(logits, target["action"], reduction="none")
    return -(advantage * chosen).mean() + 0.5 * F.mse_loss(values.squeeze(1), returns)


def _agent(config: CartPoleRun, execution: Execution) -> tuple[Any, Any]:
    """The agent, and a function that gives the returns of its finished episodes."""
    gymnasium, baselines = libraries()
    from stable_baselines3.common.monitor import Monitor

    env = Monitor(gymnasium.make(TASK))
    agent = baselines.PPO(
        config.model,
        env,
        learning_rate=config.lr,
        n_steps=config.steps,
        batch_size=config.batch_size,
        n_epochs=config.passes,
        gamma=_GAMMA,
        # Seeded before the networks are made: the same initial weights for every activation.
        seed=config.seed,
        device=execution.device,
        policy_kwargs={"activation_fn": partial(build_activation, build_treatment(config.activation).activation)},
    )
    return agent, env.get_episode_rewards


def evaluated(agent: Any) -> dict[str, float]:
    """Mean returns of the trained policy, which takes its most likely action, from starts that are the same for all."""
    gymnasium, _ = libraries()
    returns = played(agent, lambda: gymnasium.make(TASK), range(10_000, 10_000 + 2 * EPISODES))
    return {
        "test_return": float(np.mean(returns[:EPISODES])),
        "validation_return": float(np.mean(returns[EPISODES:])),
    }


def libraries() -> tuple[Any, Any]:
    return need("gymnasium", "rl", "CartPole"), need("stable_baselines3", "rl", "CartPole")


class CartPole(Kind[CartPoleRun]):
    """Scored by the final return over the most there is; that of a run that diverged is 0."""

    config = CartPoleRun

    def train(self, config: CartPoleRun, execution: Execution, checkpoint: Checkpoint | None) -> Iterator[Epoch]:
        return train(config, execution)

    def rehearse(self, config: CartPoleRun, execution: Execution) -> None:
        agent, _ = _agent(config, execution)
        planned, networks = build_treatment(config.activation), _Networks(agent.policy)
        _prepare(agent, networks, planned)
        _begin(agent, networks, planned, config).close()

    def versions(self) -> dict[str, str]:
        gymnasium, baselines = libraries()
        return {"gymnasium": gymnasium.__version__, "stable-baselines3": baselines.__version__}

    def values(self, config: CartPoleRun, lines: Lines, chance: float) -> dict[str, float]:
        returns = [line["return"] / MOST for line in lines if line["return"] is not None]
        counted = last_counted(lines)
        return {
            "accuracy": lines[-1].get("test_return", 0.0) / MOST,
            "validation": lines[-1].get("validation_return", 0.0) / MOST,
            "area": sum(returns) / len(returns) if returns else 0.0,
            "recycled": recycled_share(counted),
            **{f"{network}_silent": or_nan(_silent(counted, network)) for network in _NETWORKS},
        }

    def curves(self, config: CartPoleRun, lines: Lines) -> dict[str, Curve]:
        lines = _thinned(lines)
        return {
            "over": tuple(line["steps"] for line in lines),
            "return": tuple(None if line["return"] is None else line["return"] / MOST for line in lines),
            "dead": tuple(share(line, "dead") for line in lines),
            "recycled": tuple(map(recycled_share, lines)),
            **{f"{network}_silent": tuple(_silent(line, network) for line in lines) for network in _NETWORKS},
        }


KIND = CartPole()


def _thinned(lines: Lines) -> Lines:
    """At most ``POINTS`` of them beside the first: of so many rollouts in a row the last, with the mean return of all. A short
    rollout often ends no episode, and its return is then unknown."""
    size = -(-(len(lines) - 1) // POINTS)
    if size <= 1:
        return lines
    groups = [lines[start : start + size] for start in range(1, len(lines), size)]
    return [lines[0], *({**group[-1], "return": _mean_return(group)} for group in groups)]


def _mean_return(lines: Lines) -> float | None:
    known = [line["return"] for line in lines if line["return"] is not None]
    return sum(known) / len(known) if known else None


def _silent(line: Mapping[str, Any], network: str) -> float | None:
    """Share of silent units of the policy's or the value's network."""
    sites = [site for site in line.get("sites", ()) if f".{network}_net." in site["name"]]
    return share({"sites": sites}, "silent")
