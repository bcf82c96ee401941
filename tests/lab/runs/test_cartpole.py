"""PPO on CartPole: what is written is what happened, and the count is that of the networks."""

import math
import sys
from dataclasses import replace

import pytest
import torch

import undying
from undying._base.errors import UndyingError
from undying.lab.executors.work import FINISHED, execute
from undying.lab.runs import cartpole
from undying.lab.runs.cartpole import CartPoleRun, count, probe, train
from undying.lab.store import Store

RUN = CartPoleRun(activation="relu", seed=3, epochs=2, lr=0.0003, batch_size=64, steps=128, passes=2)


@pytest.fixture(scope="module")
def lines():
    return {arm: [e.metrics for e in train(replace(RUN, activation=arm))] for arm in ("relu", "barelu", "leaky_relu")}


def test_the_lines_of_a_run(lines):
    first, second, last = lines["relu"]
    assert [line["steps"] for line in (first, second, last)] == [0, 128, 256]
    assert [line["updates"] for line in (first, second, last)] == [0, 2, 4]
    assert (first["episodes"], first["return"]) == (0, None)
    # A reward of 1 a step: the episodes that ended are as long as what they returned, and fit into the rollouts.
    total = sum(line["episodes"] * line["return"] for line in (second, last))
    assert total == pytest.approx(round(total))
    assert 128 < total <= 256
    assert "test_return" not in second
    assert 8 <= last["test_return"] <= cartpole.MOST
    assert 8 <= last["validation_return"] <= cartpole.MOST
    networks = {site["name"].split(".")[1]: site["units"] for site in last["sites"]}
    assert networks == {"policy_net": 64, "value_net": 64}
    assert len(last["sites"]) == 4


def test_a_run_again_ends_the_same_and_barelu_is_leaky_relu(lines):
    *_, again = train(RUN)
    assert again.metrics["weights_sha256"] == lines["relu"][-1]["weights_sha256"]
    barelu, leaky = lines["barelu"][-1], lines["leaky_relu"][-1]
    assert barelu["weights_sha256"] == leaky["weights_sha256"] != again.metrics["weights_sha256"]
    assert barelu["test_return"] == leaky["test_return"]


def test_all_activations_begin_with_the_same_weights():
    def weights(activation):
        agent, _ = cartpole._agent(replace(RUN, activation=activation), undying.lab.execution.Execution())
        return torch.cat([p.flatten() for p in agent.policy.parameters()]), agent

    (relu, _), (sugar, agent) = weights("relu"), weights("sugar")
    assert torch.equal(relu, sugar)
    assert sum(isinstance(module, undying.SUGAR) for module in agent.policy.modules()) == 4


def test_planted_units_are_silent_and_dead_as_their_activation_has_it():
    found = {}
    for activation in ("relu", "leaky_relu"):
        agent, _ = cartpole._agent(replace(RUN, activation=activation), undying.lab.execution.Execution())
        first = agent.policy.mlp_extractor.policy_net[0]
        with torch.no_grad():
            first.bias[:5] = -1e6
        before = torch.random.get_rng_state()
        site = count(agent.policy)["mlp_extractor.policy_net.1"]
        assert torch.equal(before, torch.random.get_rng_state())  # what is counted must not change what is trained
        assert site.silent[:5].all()
        found[activation] = int(site.dead[:5].sum())
    assert found == {"relu": 5, "leaky_relu": 0}


def test_the_probe_is_of_whole_episodes_with_their_discounted_returns():
    observations, target = probe()
    assert observations.shape == (cartpole.PROBE, 4)
    assert set(target["action"].tolist()) == {0, 1}
    # Within an episode R_t = 1 + gamma R_(t+1); where that does not hold an episode has ended, with a return of 1.
    returns = target["return"].double()
    ends = (returns[:-1] - (1 + 0.99 * returns[1:])).abs() > 1e-4
    assert torch.allclose(returns[:-1][ends], torch.ones(int(ends.sum()), dtype=torch.float64))
    assert ends.sum() > 10
    assert observations[:, 2].abs().max() < math.radians(12.5)  # the pole has not fallen yet


def test_weights_that_are_not_finite_end_the_run(monkeypatch):
    def broken(self, *_, **__):
        with torch.no_grad():
            next(self.policy.parameters()).fill_(math.nan)

    monkeypatch.setattr("stable_baselines3.PPO.learn", broken)
    *before, last = train(RUN)
    assert len(before) == 1
    assert last.diverged
    assert last.metrics["epoch"] == 1
    assert "test_return" not in last.metrics


def test_a_curve_of_many_rollouts_has_few_points():
    """The last of each stretch, with the mean of the returns that are known there."""
    units = {"name": "mlp_extractor.policy_net.1", "units": 4, "silent": 1, "dead": 0}
    lines = [{"steps": 0, "return": None, "sites": []}]
    lines += [{"steps": 128 * i, "return": None if i % 3 else float(i), "sites": [units]} for i in range(1, 390)]
    curves = cartpole.KIND.curves(RUN, lines)
    assert curves["over"] == (0, *(128 * i for i in range(8, 389, 8)), 128 * 389)
    assert len(curves["over"]) == len(curves["return"]) == cartpole.POINTS
    assert curves["return"][1] == pytest.approx((3 + 6) / 2 / 500)  # of 1 to 8
    assert curves["return"][-1] == pytest.approx(387 / 500)  # of 385 to 389
    assert curves["policy_silent"] == (None, *[0.25] * 49)
    short = lines[: cartpole.POINTS + 1]
    assert cartpole.KIND.curves(RUN, short)["over"] == tuple(line["steps"] for line in short)
    assert cartpole.KIND.curves(RUN, lines[1:4])["return"][1] is None


def test_it_is_a_run_of_the_store(tmp_path):
    execution = undying.lab.execution.Execution()
    assert execute(RUN, tmp_path, execution, False) == FINISHED
    store = Store(tmp_path)
    assert store.config(RUN.id) == RUN
    run = store.read(RUN)
    assert run.status == "finished"
    assert len(run.epochs) == 3
    assert {"gymnasium", "stable-baselines3", "torch"} <= run.environment.keys()
    assert replace(RUN, steps=256).id != RUN.id


def test_without_its_extra_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(UndyingError, match=r"stable_baselines3: pip install 'undying\[rl\]'"):
        next(train(RUN))
