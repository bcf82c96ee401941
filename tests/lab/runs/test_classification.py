"""One run against a plain training loop, and what a diverged run leaves."""

import contextlib
import dataclasses
import functools
import math
import random
import statistics
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from undying._base.errors import UndyingError
from undying.lab import data
from undying.lab.checkpoints import Checkpoint
from undying.lab.execution import Execution
from undying.lab.runs import classification
from undying.lab.runs.classification import build_model, evaluate, train
from undying.lab.settings import Settings

SETTINGS = Settings(activations=("relu", "sugar"), seeds=2, epochs=2)
DIGITS = data.load("digits")


def without_times(epoch):
    return {key: value for key, value in epoch.metrics.items() if "seconds" not in key}


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
    assert last.metrics["gradient_norm"] == pytest.approx(statistics.fmean(gradients[::4]), rel=1e-4)
    assert last.metrics["update_norm"] == pytest.approx(statistics.fmean(updates[::4]), rel=1e-4)
    for i, site in enumerate(last.metrics["sites"]):
        pre = net[: 2 + 2 * i](x)
        assert site["silent"] == site["dead"] == int((pre <= 0).all(0).sum())


def test_units_are_counted_seldom_where_that_costs_as_much_as_training(monkeypatch):
    run = config(epochs=6)

    def counted():
        return [epoch.metrics["epoch"] for epoch in train(run) if "sites" in epoch.metrics]

    assert counted() == [0, 1, 2, 4, 6]
    monkeypatch.setattr(classification, "PROBE", 50)  # of 1,437
    assert counted() == list(range(7))


def test_measured_seldom_a_run_trains_to_the_same_numbers():
    every, seldom = list(train(config(epochs=5))), list(train(config(epochs=5, measure_every=2)))
    for name in ("test_loss", "test_accuracy", "sites"):
        assert [e.metrics["epoch"] for e in seldom if name in e.metrics] == [0, 2, 4, 5]
    for full, thin in zip(every, seldom, strict=True):
        shared = without_times(thin).keys() & without_times(full).keys()
        assert {k: without_times(full)[k] for k in shared} == {k: without_times(thin)[k] for k in shared}
    assert every[-1].metrics.keys() == seldom[-1].metrics.keys()
    assert every[-1].metrics["weights_sha256"] == seldom[-1].metrics["weights_sha256"]


def test_the_same_seed_gives_every_activation_the_same_start():
    starts = [build_model(config(activation=a), DIGITS).state_dict() for a in ("relu", "sugar", "gelu", "barelu")]
    for other in starts[1:]:
        assert all(torch.equal(other[key], value) for key, value in starts[0].items())
    another = build_model(config(seed=1), DIGITS).state_dict()
    assert not torch.equal(another["head.weight"], starts[0]["head.weight"])


def test_runs_repeat_exactly():
    def numbers():
        return [without_times(e) for e in train(config(activation="sugar"))]

    assert numbers() == numbers()


def test_epoch_0_is_before_training():
    first = next(train(config()))
    assert first.metrics["epoch"] == 0
    assert "train_loss" not in first.metrics
    digits = data.load("digits")
    net = build_model(config(), DIGITS)
    values = evaluate(net, [(digits.standardised(digits.x_test), digits.y_test)])
    loss, accuracy = values["loss"], values["accuracy"]
    assert (first.metrics["test_loss"], first.metrics["test_accuracy"]) == (loss, accuracy)


def test_a_diverged_run_says_so_and_stops():
    epochs = list(train(config(optimizer="sgd", lr=1e9, epochs=5)))
    assert [e.diverged for e in epochs] == [False, True]
    assert epochs[-1].census is epochs[0].census
    assert epochs[-1].metrics["test_accuracy"] is None
    assert "sites" not in epochs[-1].metrics
    assert not any(isinstance(v, float) and not math.isfinite(v) for v in epochs[-1].metrics.values())


NETWORK = """
import random, numpy, torch
from torch import nn

class Jitter(nn.Module):
    \"\"\"Draws from every generator that a network of somebody else's may use.\"\"\"
    def forward(self, x):
        return x * (1 + 0.1 * random.random() + 0.1 * numpy.random.rand()) if self.training else x

def net(classes):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), Jitter(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(144, classes)
    )
"""


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A network and data of the user's, in a folder outside the project; returns settings for them."""
    (tmp_path / "usersnet.py").write_text(NETWORK)
    draw = np.random.default_rng(0)
    np.savez(
        tmp_path / "images.npz",
        x_train=draw.integers(0, 256, (70, 8, 8, 3)).astype(np.uint8),
        y_train=np.arange(70) % 3,
        x_test=draw.integers(0, 256, (20, 8, 8, 3)).astype(np.uint8),
        y_test=np.arange(20) % 3,
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield {"data": str(tmp_path / "images.npz"), "model": "usersnet:net", "batch_size": 8, "epochs": 3, "lr": 0.01}
    sys.modules.pop("usersnet", None)


def run_of(**settings):
    settings = Settings(activations=("sugar", "relu"), seeds=1, **settings)
    return settings.runs(data.load(settings.data, settings.image_size).sha256)[0]


class KillAfter(Checkpoint):
    """Keeps the state after the given number of steps, and dies after some more."""

    def __init__(self, path, keep, die):
        super().__init__(path, 0)
        self.keep, self.die, self.steps = keep, die, 0

    def due(self):
        self.steps += 1
        if self.steps == self.die:
            raise KeyboardInterrupt
        return self.steps == self.keep


EVERYTHING = {
    "augment": ("flip", "crop", "cutout", "randaugment"),
    "ema": 0.9,
    "mixup": 0.5,
    "cutmix": 0.5,
    "clip": 1.0,
    "label_smoothing": 0.1,
    "validation": 0.2,
    "schedule": "cosine",
    "warmup": 1.0,
}


@pytest.mark.parametrize(
    "recipe",
    [
        {"optimizer": "sgd"},
        {"optimizer": "adamw", "weight_decay": 0.1, **EVERYTHING},
        {"optimizer": "adam", "amp": "bfloat16", "schedule": "step"},
        {"optimizer": "adam", "amp": "float16"},
    ],
    ids=["sgd", "everything", "bfloat16", "float16"],
)
def test_killed_at_any_step_a_run_ends_with_the_same_numbers(images, tmp_path, recipe):
    config = run_of(**images, **recipe)
    undisturbed = [without_times(epoch) for epoch in train(config)]
    assert len(undisturbed) == 4
    assert undisturbed[-1]["weights_sha256"]
    path = tmp_path / "checkpoint.pt"
    draw = random.Random(0)
    steps = 3 * (7 if "validation" in recipe else 9)
    for _ in range(4):
        path.unlink(missing_ok=True)
        keep = draw.randint(1, steps)
        seen = []
        with contextlib.suppress(KeyboardInterrupt):
            for epoch in train(config, None, KillAfter(path, keep, keep + draw.randint(1, 5))):
                seen.append(without_times(epoch))
        kept = Checkpoint(path, 0).read()["epoch"]
        torch.rand(3), random.random(), np.random.rand()  # another process would be elsewhere in its sequences
        again = [without_times(epoch) for epoch in train(config, None, Checkpoint(path, 1e9))]
        assert seen[:kept] + again == undisturbed


def test_every_option_changes_the_run(images):
    """And none is ignored in silence."""
    base = run_of(**images, optimizer="sgd")
    changes = [
        {"subset": 40},
        {"validation": 0.2},
        {"augment": ("flip",)},
        {"augment": ("randaugment",)},
        {"momentum": 0.5},
        {"weight_decay": 0.1},
        {"schedule": "cosine"},
        {"schedule": "step"},
        {"warmup": 1.0},
        {"label_smoothing": 0.2},
        {"clip": 0.1},
        {"mixup": 1.0},
        {"cutmix": 1.0},
        {"amp": "bfloat16"},
    ]
    hashes = [
        list(train(dataclasses.replace(base, **change)))[-1].metrics["weights_sha256"] for change in [{}, *changes]
    ]
    assert len(set(hashes)) == len(hashes)


def test_a_moving_average_is_what_is_measured(images):
    """Decay 0.5 by hand, over the weights that a run without it has after each step."""
    base = run_of(**images, optimizer="sgd")
    [_, *plain] = train(dataclasses.replace(base, epochs=1))
    [_, *averaged] = train(dataclasses.replace(base, epochs=1, ema=0.5))
    assert averaged[0].metrics["weights_sha256"] == plain[0].metrics["weights_sha256"]
    assert averaged[0].metrics["train_loss"] == plain[0].metrics["train_loss"]
    assert averaged[0].metrics["test_loss"] != plain[0].metrics["test_loss"]


def test_what_is_held_out_is_measured_and_not_trained_on(images):
    epochs = list(train(run_of(**images, validation=0.2)))
    assert all(0 <= e.metrics["validation_accuracy"] <= 1 for e in epochs)
    assert "validation_loss" not in next(train(run_of(**images))).metrics


def test_the_channels_may_be_last_in_memory(images):
    config = run_of(**images, optimizer="sgd")
    *_, plain = train(config)
    *_, last = train(config, Execution(channels_last=True))
    assert last.metrics["test_loss"] == pytest.approx(plain.metrics["test_loss"], rel=1e-3)


def test_a_compiled_network_is_the_same_and_is_still_counted(monkeypatch):
    taken = []

    def backend(graph, _):
        taken.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    *_, plain = train(config(epochs=1))
    *_, compiled = train(config(epochs=1), Execution(compile=True))
    assert taken
    assert without_times(compiled) == without_times(plain)


def test_data_that_changed_since_the_plan_are_refused(images):
    config = dataclasses.replace(run_of(**images), data_sha256="another")
    with pytest.raises(UndyingError, match=r"images\.npz.*changed"):
        next(iter(train(config)))


def test_scores_of_another_shape_are_refused(images, tmp_path):
    (tmp_path / "usersnet.py").write_text(NETWORK.replace("nn.Linear(144, classes)", "nn.Linear(144, 2)"))
    with pytest.raises(UndyingError, match=r"usersnet:net.*\(2, 2\) for 2 samples.*3 classes.*\(2, 3\)"):
        list(train(run_of(**images)))


def test_augmentation_needs_images(tmp_path):
    np.savez(tmp_path / "rows.npz", x_train=np.eye(4), y_train=[0, 1, 0, 1], x_test=np.eye(4), y_test=[0, 1, 0, 1])
    with pytest.raises(UndyingError, match="--augment needs images"):
        list(train(run_of(data=str(tmp_path / "rows.npz"), augment=("flip",))))


def test_randaugment_needs_bytes(tmp_path):
    x = np.zeros((4, 3, 8, 8), np.float32)
    np.savez(tmp_path / "floats.npz", x_train=x, y_train=[0, 1, 0, 1], x_test=x, y_test=[0, 1, 0, 1])
    with pytest.raises(UndyingError, match=r"--augment randaugment needs images as bytes.*torch\.float"):
        list(train(run_of(data=str(tmp_path / "floats.npz"), augment=("flip", "randaugment"))))


def test_a_last_batch_of_one_is_left_out(images):
    """Batch norm could not train on it: 70 = 3 * 23 + 1."""
    *_, last = train(run_of(**{**images, "batch_size": 23}))
    assert last.metrics["train_loss"] is not None


@pytest.mark.parametrize("recipe", [{}, {"clip": 0.5, "validation": 0.2}], ids=["plain", "clip"])
def test_norms_by_parameter_are_those_of_the_whole_and_change_nothing(images, recipe):
    plain = run_of(**images, optimizer="sgd", **recipe)
    without = list(train(plain))
    kept = list(train(dataclasses.replace(plain, keep=("norms", "weights"))))
    assert "norms" not in kept[0].metrics
    parameters = dict(build_model(plain, data.load(plain.data)).named_parameters())
    for a, b in zip(without, kept, strict=True):
        norms = b.metrics.pop("norms", None)
        assert without_times(a) == without_times(b)
        if norms is None:
            continue
        assert list(norms) == list(parameters)
        for kind in ("gradient", "update"):
            steps = zip(*(of[kind] for of in norms.values()), strict=True)
            whole = [math.hypot(*step) for step in steps]
            assert len(whole) == (2 if "validation" in recipe else 3)  # of 7 or 9 steps, each fourth
            assert statistics.fmean(whole) == pytest.approx(b.metrics[f"{kind}_norm"], rel=1e-5)
    assert [epoch.weights for epoch in (*without, *kept[:-1])] == [None] * 7
    assert kept[-1].weights.keys() == build_model(plain, data.load(plain.data)).state_dict().keys()


def test_norms_of_a_run_that_was_killed_are_whole(images, tmp_path):
    config = dataclasses.replace(run_of(**images, optimizer="adam"), keep=("norms",))
    undisturbed = [without_times(epoch) for epoch in train(config)]
    path = tmp_path / "checkpoint.pt"
    with contextlib.suppress(KeyboardInterrupt):
        list(train(config, None, KillAfter(path, 14, 16)))  # within the second epoch, after two of its three
    again = [without_times(epoch) for epoch in train(config, None, Checkpoint(path, 1e9))]
    assert again == undisturbed[2:]
    assert len(again[0]["norms"]["0.weight"]["update"]) == 3
