"""A DQN whose network is killed: the parts of a run, and what a treatment does to it."""

from dataclasses import replace

import pytest
from torch import nn

import undying
from undying._base.errors import UndyingError
from undying.lab.execution import Execution
from undying.lab.executors.work import FINISHED, execute
from undying.lab.runs.dying_dqn import KIND, DyingDQNRun, _Run, train
from undying.lab.store import Store

RUN = DyingDQNRun(
    activation="relu",
    seed=1,
    epochs=4,
    lr=0.001,
    batch_size=32,
    healthy_epochs=1,
    dying_epochs=2,
    dying_lr=0.3,
    steps=100,
)


@pytest.fixture(scope="module")
def lines():
    return {arm: [epoch.metrics for epoch in train(replace(RUN, activation=arm))] for arm in ("relu", "relu+recycle")}


def silent(line):
    return sum(site["silent"] for site in line["sites"])


def test_every_arm_is_relu_until_it_is_treated(lines):
    said = ("steps", "return", "sites")
    first, second = ([[line[name] for name in said] for line in of[:4]] for of in lines.values())
    assert first == second
    assert [line["steps"] for line in lines["relu"]] == [0, 100, 200, 300, 400]
    assert silent(lines["relu"][0]) < 60 < silent(lines["relu"][3])


def test_recycled_units_fire_and_what_is_measured_is_plain_relu(lines):
    assert silent(lines["relu+recycle"][4]) < silent(lines["relu"][3]) / 2 < silent(lines["relu"][4])
    for arm, told in lines.items():
        values = KIND.values(replace(RUN, activation=arm), told, 0.0)
        assert values["accuracy"] == told[-1]["test_return"] / 500
        assert values["recovered"] == (told[-1]["test_return"] >= 195)


def test_the_rate_is_that_of_the_part_and_the_network_holds_the_treatment():
    run = _Run(replace(RUN, activation="sugar", steps=20), Execution())
    rates = []
    for epoch in range(1, 5):
        run.train(epoch)
        rates.append(run.agent.policy.optimizer.param_groups[0]["lr"])
    assert rates == [0.001, 0.3, 0.3, 0.001]
    for network in (run.agent.q_net, run.agent.q_net_target):
        assert sum(isinstance(module, undying.SUGAR) for module in network.modules()) == 2
    undying.revert_(run.agent.q_net)
    assert sum(type(module) is nn.ReLU for module in run.agent.q_net.modules()) == 2


def test_steps_of_the_treatment_are_those_of_the_optimizer():
    run = _Run(replace(RUN, activation="barelu:anneal=1", healthy_epochs=1, dying_epochs=0, epochs=3), Execution())
    for epoch in range(1, 4):
        run.train(epoch)
    assert run.applied.step == 100  # two epochs of 100 steps of the environment
    assert all(m.alpha == 0 for m in run.agent.q_net.modules() if isinstance(m, undying.BAReLU))


def test_weights_that_are_not_finite_end_the_run():
    *_, last = train(replace(RUN, dying_lr=1e30, dying_epochs=1))
    assert last.diverged
    assert KIND.values(RUN, [last.metrics], 0.0)["accuracy"] == 0.0


def test_it_is_a_run_of_the_store(tmp_path):
    config = replace(RUN, epochs=1, steps=20)
    assert execute(config, tmp_path, Execution(), False) == FINISHED
    assert Store(tmp_path).config(config.id) == config
    assert len(Store(tmp_path).read(config).epochs) == 2


def test_a_treatment_that_does_not_fit_is_refused_before_any_run():
    with pytest.raises(UndyingError, match="crelu begins with other weights"):
        KIND.rehearse(replace(RUN, activation="crelu"), Execution())
    KIND.rehearse(replace(RUN, activation="sugar+layernorm"), Execution())
