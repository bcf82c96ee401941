"""Agents in environments that change: the environments against their equations, the parts of a run, and its scores."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from undying.lab.execution import Execution
from undying.lab.executors.work import FINISHED, execute
from undying.lab.runs.changing import KIND, ChangingRun, train
from undying.lab.store import Store

environments = pytest.importorskip("undying.lab.environments", reason="gymnasium is not installed")
pytest.importorskip("stable_baselines3")

RUN = ChangingRun(
    data="ChangingCartPole-v0",
    model="MlpPolicy",
    activation="relu",
    seed=1,
    epochs=2,
    lr=0.001,
    batch_size=64,
    algo="ppo",
    steps=256,
    envs=2,
)
DQN = replace(RUN, algo="dqn", steps=1024, envs=8)  # it learns from the hundredth step of each environment on


def lines(run):
    return [epoch.metrics for epoch in train(run)]


def test_the_pole_and_the_force_are_those_of_the_task():
    """One step from rest, against the equations of Barto, Sutton and Anderson in closed form."""
    found = set()
    for task in range(4):
        env = environments.ChangingCartPole()
        env.begin(task)
        env.reset(seed=0)
        env.state = (0.0, 0.0, 0.0, 0.0)
        observed, reward, *_ = env.step(1)
        pull = env.force_mag / 1.1
        turn = -pull / (env.length * (4 / 3 - 0.1 / 1.1))
        push = pull - 0.1 * env.length * turn / 1.1
        assert observed[[1, 3]] == pytest.approx([0.02 * push, 0.02 * turn], rel=1e-5)
        assert reward == 1
        found.add((env.length, env.force_mag))
        again = environments.ChangingCartPole()
        again.begin(task)
        assert (again.length, again.force_mag) == (env.length, env.force_mag)
    assert (0.5, 10.0) in found
    assert len(found) == 4
    assert all(0.25 <= length <= 1 and 5 <= force <= 20 for length, force in found)


def test_the_tip_earns_most_in_the_direction_of_the_task():
    env = environments.ChangingAcrobot()
    for task in range(5):
        env.begin(task)
        angles = np.linspace(0, 2 * math.pi, 720, endpoint=False)
        earned = []
        for angle in angles:
            env.state = np.array([angle, 0.0, 0.0, 0.0])  # both links in one line
            earned.append(env.reached())
        assert max(earned) == pytest.approx(1, abs=1e-4)
        assert min(earned) == pytest.approx(0, abs=1e-4)
        best = angles[int(np.argmax(earned))]
        assert math.pi / 2 <= best <= 3 * math.pi / 2  # never where it hangs
        if task == 0:
            assert best == pytest.approx(math.pi, abs=0.01)
    env.state = np.array([math.pi, math.pi, 0.0, 0.0])  # folded: the tip is at the joint that holds all
    assert env.reached() == pytest.approx(0.5)


@pytest.mark.parametrize("name", environments.LIMITS)
def test_an_episode_ends_at_its_limit_and_brings_at_most_that(name):
    import gymnasium

    env = gymnasium.make(name)
    env.reset(seed=0)
    env.action_space.seed(0)
    steps, earned, over = 0, 0.0, False
    while not over:
        _, reward, ended, cut, _ = env.step(env.action_space.sample())
        steps, earned, over = steps + 1, earned + reward, ended or cut
        assert 0 <= reward <= 1
    assert steps <= environments.LIMITS[name]
    assert steps == environments.LIMITS[name] or "CartPole" in name
    assert 0 < earned <= environments.LIMITS[name]


@pytest.mark.parametrize("run", [RUN, DQN], ids=["ppo", "dqn"])
def test_a_run_goes_from_task_to_task(run):
    config = replace(run, activation="relu+redo:every=5")
    found = lines(config)
    assert [line["steps"] for line in found] == [0, run.steps // 2, run.steps]
    assert found[0]["online_return"] is None
    assert all(0 < line["online_return"] <= 1 for line in found[1:])
    assert lines(config)[-1]["weights_sha256"] == found[-1]["weights_sha256"]
    assert lines(replace(config, seed=2))[-1]["weights_sha256"] != found[-1]["weights_sha256"]


def test_the_environments_are_told_of_each_task(monkeypatch):
    begun = []
    before = environments.ChangingCartPole.begin
    monkeypatch.setattr(
        environments.ChangingCartPole, "begin", lambda env, task: (begun.append(task), before(env, task))
    )
    lines(RUN)
    assert begun == [0] * 2 + [1] * 2


@pytest.mark.parametrize("run", [RUN, DQN], ids=["ppo", "dqn"])
@pytest.mark.parametrize("arm", ["sugar", "crelu", "relu+layernorm", "relu+snr:longest=5:window=5"])
def test_every_treatment_trains_in_both_algorithms(run, arm):
    found = lines(replace(run, activation=arm))
    assert found[-1]["epoch"] == 2
    assert found[-1]["weight_norm"] != pytest.approx(found[0]["weight_norm"], rel=1e-3)


def test_the_score_is_the_mean_over_the_tasks():
    told = [{"epoch": 0, "online_return": None}, *({"epoch": k, "online_return": k / 10} for k in (1, 2, 3))]
    values = KIND.values(replace(RUN, epochs=3), told, 0.0)
    assert values["accuracy"] == pytest.approx(0.2)
    assert (values["slope"], values["change"]) == (pytest.approx(0.1), pytest.approx(0.2))
    # A run that diverged in its third task earns nothing in it.
    diverged = [*told[:3], {"epoch": 3, "online_return": None}]
    assert KIND.values(replace(RUN, epochs=3), diverged, 0.0)["accuracy"] == pytest.approx(0.1)


def test_weights_that_are_not_finite_end_the_run():
    *_, last = train(replace(DQN, lr=1e30))
    assert last.diverged
    assert last.metrics["online_return"] is None
    assert torch.isfinite(torch.tensor(KIND.values(RUN, [last.metrics], 0.0)["accuracy"]))


def test_it_is_a_run_of_the_store(tmp_path):
    assert execute(RUN, tmp_path, Execution(), False) == FINISHED
    assert Store(tmp_path).config(RUN.id) == RUN
    assert len(Store(tmp_path).read(RUN).epochs) == 3
    assert "gymnasium" in Store(tmp_path).read(RUN).environment
