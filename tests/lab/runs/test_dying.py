"""Networks that are driven to death: tasks, the switch, and who comes back, against the networks themselves."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import undying
from undying.lab.execution import Execution
from undying.lab.executors.work import FINISHED, execute
from undying.lab.runs.dying import KIND, DyingRun, _Run, train
from undying.lab.store import Store

RUN = DyingRun(activation="sugar", seed=1, epochs=4, lr=0.001, optimizer="adam", batch_size=128, depth=3, width=32)
REVIVE = replace(RUN, relu_epochs=2, relu_lr=0.1)


def lines(run):
    return [epoch.metrics for epoch in train(run)]


def test_until_the_switch_every_arm_is_relu_and_after_it_not():
    relu, sugar = lines(replace(REVIVE, activation="relu")), lines(REVIVE)
    said = ("epoch", "test_loss", "sites")
    assert [[line[name] for name in said] for line in relu[:3]] == [[line[name] for name in said] for line in sugar[:3]]
    assert relu[-1]["weights_sha256"] != sugar[-1]["weights_sha256"]
    assert lines(REVIVE)[-1]["weights_sha256"] == sugar[-1]["weights_sha256"]


def test_who_comes_back_is_counted_on_the_same_samples():
    found = lines(REVIVE)
    assert not any("revived" in line for line in found[:2])
    at, after, last = found[2:]
    assert at["silent_before"] == sum(site["silent"] for site in at["sites"]) > 10
    # SUGAR's forward is ReLU's: without training nobody comes back, and nobody is lost.
    assert (at["revived"], at["lost"]) == (0, 0)
    for line in (after, last):
        silent = sum(site["silent"] for site in line["sites"])
        assert silent == line["silent_before"] - line["revived"] + line["lost"]


def test_another_forward_changes_what_the_next_layer_gets_at_once():
    gelu = lines(replace(REVIVE, activation="gelu"))[2]
    assert gelu["silent_before"] == lines(REVIVE)[2]["silent_before"]
    assert gelu["revived"] > 0


def test_bias_of_a_unit_that_relu_cannot_bring_back():
    """Planted: a unit silent by far stays so under ReLU, and its weights do not move; under SUGAR they do."""
    moved = {}
    for activation in ("relu", "sugar"):
        run = _Run(replace(RUN, activation=activation), Execution())
        linear = run.model.linear2
        with torch.no_grad():
            linear.bias[0] = -2.0
            linear.weight[0] = 0.0
        before = linear.weight[0].clone()
        run.train(1)
        moved[activation] = not torch.equal(before, linear.weight[0])
    assert moved == {"relu": False, "sugar": True}


def test_tasks_are_equal_shares_of_the_epochs_with_permuted_labels():
    run = _Run(replace(RUN, tasks=2), Execution())
    assert [run.task(epoch) for epoch in range(5)] == [0, 0, 0, 1, 1]
    own, other = run.labels(run.y, 1), run.labels(run.y, 3)
    assert torch.equal(own, run.y)
    assert not torch.equal(own, other)
    # One to one: the same digit always has the same new label.
    assert len(set(zip(own.tolist(), other.tolist(), strict=True))) == len(set(other.tolist())) == 10
    # All arms of a seed have the same tasks.
    assert torch.equal(other, _Run(replace(RUN, tasks=2, activation="gelu"), Execution()).labels(run.y, 3))


def test_the_network_has_the_activation_everywhere():
    model = _Run(replace(RUN, activation="barelu"), Execution()).model
    assert sum(isinstance(module, undying.BAReLU) for module in model.modules()) == 3
    assert not any(isinstance(module, nn.ReLU) for module in model.modules())


def test_what_is_held_out_is_measured_with_the_tasks_labels_and_not_trained_on():
    held_out = replace(RUN, tasks=2, validation=0.1)
    run = _Run(held_out, Execution())
    x, y = run.held
    whole = _Run(RUN, Execution())
    assert (len(y), len(run.y) + len(y)) == (144, len(whole.y))
    *_, last = train(held_out)
    for epoch in range(1, 5):
        run.train(epoch)
    outputs = run.model.eval()(x).argmax(1)
    assert last.metrics["validation_accuracy"] == (outputs == run.labels(y, 4)).sum().item() / 144
    assert "validation_accuracy" not in lines(RUN)[-1]


def test_a_loss_that_is_not_finite_ends_the_run():
    *_, last = train(replace(RUN, optimizer="sgd", lr=1e30, activation="leaky_relu"))
    assert last.diverged
    assert last.metrics["test_accuracy"] is None
    values = KIND.values(RUN, [*lines(RUN)[:1], last.metrics], 0.5)
    assert (values["accuracy"], values["revived"]) == (0.1, 0.0)


def test_it_is_a_run_of_the_store(tmp_path):
    assert execute(REVIVE, tmp_path, Execution(), False) == FINISHED
    assert Store(tmp_path).config(REVIVE.id) == REVIVE
    assert len(Store(tmp_path).read(REVIVE).epochs) == 5


@pytest.mark.parametrize(
    "change", [{"tasks": 2}, {"relu_epochs": 1}, {"relu_lr": 1.0}, {"depth": 4}, {"width": 8}, {"validation": 0.1}]
)
def test_every_setting_is_part_of_the_id(change):
    assert replace(RUN, **change).id != RUN.id


def test_a_dead_network_is_recycled_and_ends_as_relu():
    """A spike of the rate kills nearly all; new weights at once wake them, and the network learns again."""
    dead = replace(RUN, epochs=10, lr=0.003, relu_epochs=2, relu_lr=0.3, ends_as_relu=True)
    found = {arm: lines(replace(dead, activation=arm)) for arm in ("relu", "relu+recycle")}
    for arm, told in found.items():
        assert told[2]["silent_before"] > 80, arm
    assert (found["relu"][2]["revived"], found["relu+recycle"][2]["revived"]) == (
        0,
        found["relu+recycle"][2]["silent_before"],
    )
    assert KIND.values(dead, found["relu+recycle"], 0.1)["recovered"] == 1
    assert found["relu"][-1]["test_accuracy"] < 0.5


def test_what_was_silent_before_a_treatment_is_counted_before_it():
    shifted = replace(RUN, epochs=1, shift=10.0)
    told = lines(replace(shifted, activation="relu+recycle"))[0]
    assert told["silent_before"] == sum(
        site["silent"] for site in lines(replace(shifted, activation="relu"))[0]["sites"]
    )
    assert told["revived"] == told["silent_before"] > 20


def test_the_shift_is_that_of_what_the_first_layer_reads():
    plain, shifted = (_Run(replace(RUN, shift=shift), Execution()) for shift in (0.0, 7.0))
    for part in ("x", "test"):
        given = [value[0] if isinstance(value := getattr(run, part), tuple) else value for run in (plain, shifted)]
        assert torch.allclose(given[0] + 7, given[1])


@pytest.mark.parametrize(("arm", "kind"), [("sugar", "SUGAR"), ("barelu:anneal=0.5", "BAReLU")])
def test_a_network_that_calls_its_activations_is_treated_and_ends_as_itself(arm, kind):
    config = replace(RUN, activation=arm, model="functional_cnn", epochs=2, relu_epochs=1, ends_as_relu=True)
    run = _Run(config, Execution())
    run.switch()
    assert [row.old.partition("(")[0] for row in undying.revert_(run.model, allow_change=True).rows] == [kind]
    assert {site["name"] for site in lines(config)[-1]["sites"]} == {"relu", "relu#2", "relu#3"}


def test_what_does_not_end_as_relu_fails():
    with pytest.raises(ValueError, match="revert_ would change what the network computes"):
        lines(replace(REVIVE, activation="gelu", ends_as_relu=True))
