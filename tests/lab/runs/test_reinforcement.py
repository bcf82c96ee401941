"""Agents against episodes played by hand, in an environment whose best policy is known."""

from __future__ import annotations

import dataclasses
import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from undying._base.errors import UndyingError
from undying.lab import Execution, Settings, compare
from undying.lab.collect import collect
from undying.lab.runs import reinforcement
from undying.lab.runs.kind import kind_of
from undying.lab.runs.reinforcement import PROBE, AgentTraining, probe, train
from undying.lab.runs.start import difference, start_of
from undying.lab.settings import AgentRun
from undying.lab.store import Store
from undying.report.write import write_report

ENV = """
    import gymnasium
    import numpy as np

    class Sign(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)
        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.left = 10
            return self._seen(), {}
        def step(self, action):
            reward = float(action == (self.seen[0] > 0))
            self.left -= 1
            return self._seen(), reward, self.left == 0, False, {}
        def _seen(self):
            self.seen = self.np_random.uniform(-1, 1, 3).astype(np.float32)
            return self.seen
"""


@pytest.fixture
def sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"env_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(ENV))
    monkeypatch.syspath_prepend(tmp_path)
    yield f"{name}:Sign"
    sys.modules.pop(name, None)


def run_of(env: str, **settings) -> AgentRun:
    settings = {"steps": 256, "epochs": 2, "algo": "a2c", "batch_size": 32} | settings
    return Settings(task="rl", env=env, activations=("relu", "gelu"), seeds=1, **settings).runs("", "", "x")[0]


@pytest.mark.parametrize("algo", ["dqn", "a2c"])
def test_an_agent_is_trained_measured_and_counted(sign: str, algo: str) -> None:
    epochs = list(train(run_of(sign, algo=algo, envs=2)))
    assert [epoch.metrics["epoch"] for epoch in epochs] == [0, 1, 2]
    assert epochs[-1].metrics["steps"] >= 256
    assert all(0 <= epoch.metrics["test_episode_return"] <= 10 for epoch in epochs)
    networks = {"dqn": ("q_net",), "a2c": ("policy_net", "value_net")}[algo]
    assert all(any(f".{network}." in site["name"] for site in epochs[-1].metrics["sites"]) for network in networks)
    assert all(epoch.census.sites[0].samples == PROBE for epoch in epochs)


def test_the_return_is_that_of_episodes_played_by_hand(sign: str) -> None:
    run = AgentTraining(run_of(sign), Execution())
    env = reinforcement.maker(sign)()
    totals = []
    for seed in range(10_000, 10_020):
        seen, total, over = env.reset(seed=seed)[0], 0.0, False
        while not over:
            with torch.no_grad():
                logits = run.networks(torch.as_tensor(seen).unsqueeze(0))[0, :2]
            seen, reward, over, _, _ = env.step(int(logits.argmax()))
            total += reward
        totals.append(total)
    assert run.evaluated(known=True)["test_episode_return"] == pytest.approx(np.mean(totals))
    run.close()


def test_what_can_be_learned_is_learned(sign: str) -> None:
    """A guess gets 5 of 10."""
    epochs = list(train(run_of(sign, algo="ppo", steps=2048, epochs=1, lr=0.01, batch_size=128)))
    assert epochs[-1].metrics["test_episode_return"] > 7 > epochs[0].metrics["test_episode_return"]


def test_all_activations_start_alike_and_the_probe_is_theirs_all(sign: str) -> None:
    starts = [next(train(dataclasses.replace(run_of(sign), activation=name))).start for name in ("relu", "sugar")]
    assert starts[0] == starts[1]
    assert np.array_equal(probe(sign), probe.__wrapped__(sign))


def test_a_treatment_works_in_it(sign: str) -> None:
    config = dataclasses.replace(run_of(sign), activation="relu+redo:tau=0.9:every=2")
    last = list(train(config))[-1].metrics
    assert last["recycled"] > 0
    kind_of(config).rehearse(config, Execution())


def test_a_comparison_from_the_settings_to_the_report(sign: str, tmp_path: Path) -> None:
    settings = Settings(task="rl", env=sign, algo="a2c", steps=64, epochs=1, activations=("relu", "sugar"), seeds=2)
    assert (settings.runs("")[0].lr, settings.model) == (0.0007, "MlpPolicy")
    results = compare(settings, tmp_path / "out", Execution(workers=1))
    assert results.metric.name == "episode_return"
    assert results.probe == PROBE
    assert results.baseline.curves["test_episode_return"].steps[0] == 0
    assert 0 <= results.activations[1].aggregates["improvement"].value <= 1
    html = write_report(results, tmp_path).read_text()
    assert "Performance profile" in html
    assert "Probability of improvement over ReLU" in html
    store = Store(tmp_path / "out")
    assert collect(store, store.settings()).to_dict() == results.to_dict()


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"task": "rl", "algo": "sarsa"}, "unknown --algo 'sarsa'; known: ppo, dqn, a2c"),
        ({"task": "rl", "augment": ("flip",)}, "--augment does not go with --task rl"),
        ({"task": "rl", "data": "cifar10"}, "--data does not go with --task rl"),
        ({"task": "rl", "steps": 0}, "--steps must be at least 1"),
        ({"task": "rl", "grid": ("momentum=0.1,0.2",)}, "--momentum does not go with --task rl"),
        ({"env": "Acrobot-v1"}, "--env goes with --task rl"),
    ],
)
def test_options_that_mean_nothing_there_are_refused(settings: dict, error: str) -> None:
    with pytest.raises(UndyingError, match=re.escape(error)):
        Settings(**settings)


def test_what_cannot_be_played_is_said(sign: str) -> None:
    with pytest.raises(UndyingError, match="--env 'Nowhere-v0'"):
        reinforcement.describe("Nowhere-v0")
    with pytest.raises(UndyingError, match="observations must be arrays of one shape"):
        reinforcement.describe("Blackjack-v1")
    with pytest.raises(UndyingError, match="--algo dqn with --env 'Pendulum-v1'"):
        list(train(run_of("Pendulum-v1", algo="dqn")))


@pytest.mark.parametrize("arm", ["crelu", "relu+layernorm"])
def test_the_target_network_of_dqn_has_the_structure_of_the_treatment(sign, arm):
    runs = [
        AgentTraining(dataclasses.replace(run_of(sign, algo="dqn"), activation=a), Execution()) for a in ("relu", arm)
    ]
    agent, policy = runs[1].agent, runs[1].agent.policy
    assert agent.q_net_target is policy.q_net_target is not policy.q_net
    names = [name for name, _ in policy.q_net.named_parameters()]
    assert names == [name for name, _ in policy.q_net_target.named_parameters()]
    assert all(
        torch.equal(a, b) for a, b in zip(policy.q_net.parameters(), policy.q_net_target.parameters(), strict=True)
    )
    # What the treatment owns is named, so that the rest can be compared with ReLU's.
    starts = [start_of(run.networks, run.planned, prepared=run.prepared) for run in runs]
    assert difference(*starts) == ""
    assert {"policy.q_net.", "policy.q_net_target."} == {
        re.match(r"policy\.\w+\.", name)[0] for name in starts[1].owned
    }
    for run in runs:
        run.close()
