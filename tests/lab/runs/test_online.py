"""Tasks in a row: what a task is, what is scored before which step, and what is measured, against the network itself."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying
from undying._base.errors import UndyingError
from undying.lab import data
from undying.lab.execution import Execution
from undying.lab.executors.work import FINISHED, execute
from undying.lab.models.mlp import mlp
from undying.lab.runs.online import KIND, OnlineRun, _Run, train
from undying.lab.store import Store

RUN = OnlineRun(
    activation="relu",
    seed=1,
    epochs=3,
    lr=0.01,
    optimizer="sgd",
    batch_size=100,
    depth=2,
    width=16,
    changes="labels",
    steps=6,
)


def lines(run):
    return [epoch.metrics for epoch in train(run)]


def test_it_is_a_loop_written_by_hand():
    """Online accuracy is of each batch before the step on it; one optimizer goes on from task to task."""
    digits = data.load("digits")
    x, y = digits.standardised(digits.x_train), digits.y_train
    torch.manual_seed(RUN.seed)
    net = mlp(digits.shape, 10, depth=2, width=16)
    optimizer = torch.optim.SGD(net.parameters(), RUN.lr)
    draws = torch.Generator().manual_seed(RUN.seed)
    found = []
    for _ in range(RUN.epochs):
        names, right = torch.randperm(10, generator=draws), 0
        for batch in torch.randperm(len(y), generator=draws)[:600].split(100):
            output = net(x[batch])
            right += (output.argmax(1) == names[y[batch]]).sum().item()
            optimizer.zero_grad()
            F.cross_entropy(output, names[y[batch]]).backward()
            optimizer.step()
        found.append(right / 600)
    assert [line["online_accuracy"] for line in lines(RUN)[1:]] == found
    assert len(set(found)) > 1


def test_permuted_pixels_are_the_same_ones_in_another_place():
    run = _Run(replace(RUN, changes="inputs"), Execution())
    assert torch.equal(run.permuted(run.x), run.x)
    run.begin()
    once = run.permuted(run.x)
    run.begin()
    twice = run.permuted(run.x)
    assert not torch.equal(once, twice)
    assert once.shape == run.x.shape
    for x in (once, twice):
        assert torch.equal(x.flatten(1).sort(1).values, run.x.flatten(1).sort(1).values)
    # One place for a pixel in all samples: columns are those of before, in another order.
    columns = {tuple(column.tolist()) for column in run.x.flatten(1).T}
    assert {tuple(column.tolist()) for column in once.flatten(1).T} == columns
    assert torch.equal(run.names, torch.arange(10))


def test_each_sample_is_seen_once_in_a_pass():
    run = _Run(replace(RUN, steps=14), Execution())
    seen = torch.cat(run.batches())
    assert len(seen.unique()) == len(seen) == 1400
    twice = torch.cat(_Run(replace(RUN, steps=28), Execution()).batches())
    assert len(twice) == 2800
    assert len(twice[:1400].unique()) == len(twice[1400:].unique()) == 1400
    with pytest.raises(UndyingError, match="a batch of 2000 is more than the 1437 training samples"):
        _Run(replace(RUN, batch_size=2000), Execution()).batches()


@pytest.mark.parametrize("arm", ["sugar", "crelu", "relu+redo:every=2", "relu+layernorm"])
def test_all_arms_of_a_seed_have_the_same_tasks_and_batches(arm):
    one, other = _Run(RUN, Execution()), _Run(replace(RUN, activation=arm), Execution())
    for _ in range(2):
        one.begin(), other.begin()
        assert torch.equal(one.names, other.names)
        assert all(torch.equal(a, b) for a, b in zip(one.batches(), other.batches(), strict=True))


def test_units_rank_and_norms_are_those_of_the_network():
    run = _Run(replace(RUN, changes="inputs", epochs=1), Execution())
    run.train()
    *_, last = lines(replace(RUN, changes="inputs", epochs=1))
    x = run.permuted(run.unseen)
    with torch.no_grad():
        layers = list(run.model)
        hidden = [nn.Sequential(*layers[: i + 1])(x) for i, layer in enumerate(layers) if isinstance(layer, nn.ReLU)]
    assert [site["silent"] for site in last["sites"]] == [int((h <= 0).all(0).sum()) for h in hidden]
    means = [h.mean(0) / h.mean() for h in hidden]
    assert [site["dormant"] for site in last["sites"]] == [int((mean <= 0.025).sum()) for mean in means]
    shares = np.linalg.svd(hidden[-1].double().numpy(), compute_uv=False)
    shares = shares[shares > 1e-9] / shares.sum()
    assert last["effective_rank"] == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-4)
    norms = {name: p.norm().item() for name, p in run.model.named_parameters() if name.endswith("weight")}
    assert list(last["weight_norms"].values()) == pytest.approx(list(norms.values()), rel=1e-5)
    values = KIND.values(replace(RUN, epochs=1), lines(replace(RUN, epochs=1)), 0.1)
    assert values["weights"] == pytest.approx(math.hypot(*lines(replace(RUN, epochs=1))[-1]["weight_norms"].values()))


def planted(*online):
    """Lines of tasks with these online accuracies."""
    return [{"epoch": 0}, *({"epoch": task, "online_accuracy": a} for task, a in enumerate(online, 1))]


def test_every_other_task_is_held_out():
    config = replace(RUN, epochs=5)
    values = KIND.values(config, planted(0.9, 0.1, 0.8, 0.3, 0.7), 0.1)
    assert (values["accuracy"], values["validation"]) == (pytest.approx(0.8), pytest.approx(0.2))
    assert values["slope"] == pytest.approx(np.polyfit([0, 2, 4], [0.9, 0.8, 0.7], 1)[0])
    assert values["change"] == pytest.approx(-0.2)  # from task 1 to task 5
    # What is held out is in no score.
    other = KIND.values(config, planted(0.9, 0.6, 0.8, 0.5, 0.7), 0.1)
    assert {name for name in values if values[name] == values[name] and values[name] != other[name]} == {"validation"}


def test_a_network_that_is_not_finite_guesses_from_then_on():
    config = replace(RUN, lr=1e30, activation="leaky_relu")
    *_, last = train(config)
    assert last.diverged
    assert last.metrics["epoch"] < 3
    values = KIND.values(config, [{"epoch": 0}, last.metrics], 0.5)
    assert values["accuracy"] == values["validation"] == 0.1
    assert values["slope"] == 0


def test_a_high_rate_loses_what_the_first_task_could():
    """Adam at 0.03 kills ReLU units task after task; self-normalized resets bring them back."""
    config = replace(RUN, epochs=10, steps=44, batch_size=32, optimizer="adam", lr=0.03, depth=3, width=32)
    lost, kept = (
        KIND.values(c, lines(c), 0.1) for c in (config, replace(config, activation="relu+snr:longest=44:window=100"))
    )
    assert lost["change"] < -0.2
    assert kept["accuracy"] > lost["accuracy"]
    assert kept["recycled"] > 0


def test_it_is_a_run_of_the_store(tmp_path):
    assert execute(RUN, tmp_path, Execution(), False) == FINISHED
    assert Store(tmp_path).config(RUN.id) == RUN
    assert len(Store(tmp_path).read(RUN).epochs) == 4


@pytest.mark.parametrize("change", [{"steps": 7}, {"changes": "inputs"}, {"depth": 3}, {"width": 8}, {"momentum": 0.9}])
def test_every_setting_is_part_of_the_id(change):
    assert replace(RUN, **change).id != RUN.id


def test_momentum_is_the_optimizers():
    assert _Run(replace(RUN, momentum=0.9), Execution()).optimizer.defaults["momentum"] == 0.9


def test_a_network_that_calls_its_activations_has_them_replaced():
    run = _Run(replace(RUN, model="functional_cnn", activation="sugar"), Execution())
    assert {row.old.partition("(")[0] for row in undying.revert_(run.model, allow_change=True).rows} == {"SUGAR"}
    assert len(lines(replace(RUN, model="functional_cnn"))[-1]["sites"]) == 3


def test_what_does_not_change_is_named():
    with pytest.raises(UndyingError, match="changes must be one of labels, inputs, not 'colours'"):
        _Run(replace(RUN, changes="colours"), Execution())
