"""One run against a plain training loop, and what a diverged run leaves."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from undying.lab import data
from undying.lab.settings import Settings
from undying.lab.training import build_model, evaluate, train

SETTINGS = Settings(activations=("relu", "sugar"), seeds=2, epochs=2)


@pytest.fixture(autouse=True)
def one_thread():
    """As the executors do; sums in another order round differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def config(**changes):
    digits = data.load("digits")
    return dataclasses.replace(SETTINGS.runs(digits.sha256)[0], **changes)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_run_is_the_plain_loop_that_a_tutorial_would_write(optimizer):
    run = config(optimizer=optimizer, lr=0.003)
    *_, last = train(run)

    digits = data.load("digits")
    mean, std = digits.x_train.float().mean(), digits.x_train.float().std()
    x, y = (digits.x_train.float() - mean) / std, digits.y_train
    torch.manual_seed(run.seed)
    layers = [nn.Flatten()]
    for features in (64, 128, 128, 128, 128, 128):
        layers += [nn.Linear(features, 128), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(128, 10))
    if optimizer == "adam":
        step = torch.optim.Adam(net.parameters(), lr=0.003)
    else:
        step = torch.optim.SGD(net.parameters(), lr=0.003, momentum=0.9)
    order = torch.Generator().manual_seed(run.seed)
    for _ in range(run.epochs):
        losses, gradients, updates = [], [], []
        for batch in torch.randperm(len(x), generator=order).split(64):
            step.zero_grad()
            loss = F.cross_entropy(net(x[batch]), y[batch])
            loss.backward()
            before = [p.detach().clone() for p in net.parameters()]
            gradients.append(math.sqrt(sum(float(p.grad.double().square().sum()) for p in net.parameters())))
            step.step()
            moved = sum(
                float((p.detach() - q).double().square().sum()) for p, q in zip(net.parameters(), before, strict=True)
            )
            updates.append(math.sqrt(moved))
            losses.append(loss.item() * len(batch))
    outputs = net((digits.x_test.float() - mean) / std)
    assert last.metrics["test_accuracy"] == (outputs.argmax(1) == digits.y_test).sum().item() / 360
    assert last.metrics["test_loss"] == pytest.approx(F.cross_entropy(outputs, digits.y_test).item(), rel=1e-5)
    assert last.metrics["train_loss"] == pytest.approx(sum(losses) / len(x), rel=1e-5)
    assert last.metrics["gradient_norm"] == pytest.approx(sum(gradients) / len(gradients), rel=1e-4)
    assert last.metrics["update_norm"] == pytest.approx(sum(updates) / len(updates), rel=1e-4)
    for i, site in enumerate(last.metrics["sites"]):
        pre = net[: 2 + 2 * i](x)
        assert site["silent"] == site["dead"] == int((pre <= 0).all(0).sum())


def test_the_same_seed_gives_every_activation_the_same_start():
    starts = [build_model(config(activation=a)).state_dict() for a in ("relu", "sugar", "gelu", "barelu")]
    for other in starts[1:]:
        assert all(torch.equal(other[key], value) for key, value in starts[0].items())
    another = build_model(config(seed=1)).state_dict()
    assert not torch.equal(another["head.weight"], starts[0]["head.weight"])


def test_runs_repeat_exactly():
    def numbers():
        return [{k: v for k, v in e.metrics.items() if k != "seconds"} for e in train(config(activation="sugar"))]

    assert numbers() == numbers()


def test_epoch_0_is_before_training():
    first = next(iter(train(config())))
    assert first.metrics["epoch"] == 0
    assert "train_loss" not in first.metrics
    digits = data.load("digits")
    net = build_model(config())
    loss, accuracy = evaluate(net, digits.standardised()[1], digits.y_test)
    assert (first.metrics["test_loss"], first.metrics["test_accuracy"]) == (loss, accuracy)


def test_a_diverged_run_says_so_and_stops():
    epochs = list(train(config(optimizer="sgd", lr=1e9, epochs=5)))
    assert [e.diverged for e in epochs] == [False, True]
    assert epochs[-1].census is None
    assert epochs[-1].metrics["test_accuracy"] is None
    assert "sites" not in epochs[-1].metrics
    assert not any(isinstance(v, float) and not math.isfinite(v) for v in epochs[-1].metrics.values())
