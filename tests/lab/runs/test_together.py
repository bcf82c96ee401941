"""Runs trained together against the same runs trained alone: every bit, whatever happens to one of them."""

import dataclasses

import pytest
import torch
from torch import nn

import undying
from undying.lab import data
from undying.lab.checkpoints import Checkpoint
from undying.lab.execution import Execution
from undying.lab.runs import classification, together
from undying.lab.runs.classification import train
from undying.lab.runs.kind import AloneError
from undying.lab.runs.stack import layers_of
from undying.lab.runs.together import may_train_together, train_together
from undying.lab.settings import Settings

# Three batches an epoch, the last of 29 samples: no whole number of vectors for the ten outputs.
SETTINGS = Settings(activations=("relu", "sugar"), seeds=3, epochs=2, subset=157)
SURROGATES = [f"sugar:{name}" for name in undying.SURROGATES]
HERE = Execution()


@pytest.fixture(autouse=True)
def one_thread():
    """As the executors do; sums in another order round differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def configs(activation="relu", **changes):
    runs = SETTINGS.runs(data.load("digits").sha256)
    return [dataclasses.replace(run, activation=activation, **changes) for run in runs if run.activation == "relu"]


def never(tmp_path, count=3):
    return [Checkpoint(tmp_path / f"{i}.pt", 1e9) for i in range(count)]


def numbers(epoch):
    lines = {key: value for key, value in epoch.metrics.items() if "seconds" not in key and key != "together"}
    return lines, epoch.start, epoch.diverged, epoch.census and epoch.census.to_dict()


def of_each(runs, checkpoints):
    found = [[] for _ in runs]
    for index, epoch in train_together(runs, HERE, checkpoints):
        found[index].append(numbers(epoch))
    return found


@pytest.mark.parametrize(
    "activation",
    ["relu", "leaky_relu", "barelu", "barelu:eps=0.01", "gelu", "mish", "tanh", "sugar:region=negative", *SURROGATES],
)
def test_every_bit_is_that_of_a_run_alone(activation, tmp_path):
    runs = configs(activation, epochs=1)
    assert of_each(runs, never(tmp_path)) == [[numbers(epoch) for epoch in train(run)] for run in runs]


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd", "schedule": "cosine", "warmup": 1.0},
        {"optimizer": "adamw", "weight_decay": 0.1, "clip": 0.5},
        {"label_smoothing": 0.1, "batch_size": 21, "augment": ("crop",)},
        {"validation": 0.2, "measure_every": 2, "keep": ("weights",)},
        {"tasks": 2},
    ],
    ids=str,
)
def test_of_other_recipes_too(changes, tmp_path):
    runs = configs("gelu", **changes)
    assert of_each(runs, never(tmp_path)) == [[numbers(epoch) for epoch in train(run)] for run in runs]


def test_numbers_do_not_depend_on_who_is_in_the_group(tmp_path):
    runs = configs("sugar")
    assert of_each(runs, never(tmp_path))[1:] == of_each(runs[1:], never(tmp_path, 2))


@pytest.mark.parametrize(("factor", "epochs"), [(1e38, 1), (100.0, 2)], ids=["at once", "in training"])
def test_a_run_that_diverges_ends_and_disturbs_no_other(factor, epochs, monkeypatch, tmp_path):
    build = classification.build_model

    def planted(config, dataset):
        model = build(config, dataset)
        if config.seed == 1:
            model.head.weight.data *= factor
            model.linear1.weight.data *= factor
        return model

    runs = configs(optimizer="sgd", lr=0.1)
    undisturbed = [[numbers(epoch) for epoch in train(run)] for run in runs]
    monkeypatch.setattr(classification, "build_model", planted)
    found = of_each(runs, never(tmp_path))
    assert [found[0], found[2]] == [undisturbed[0], undisturbed[2]]
    assert len(found[1]) == epochs
    assert found[1][-1][2]
    assert found[1] == [numbers(epoch) for epoch in train(runs[1])]


def test_from_a_checkpoint_within_an_epoch_a_run_goes_on_alone_to_the_same_numbers(tmp_path):
    runs = configs("sugar", keep=("weights",))
    checkpoints = [*never(tmp_path, 1), Checkpoint(tmp_path / "due.pt", 0), *never(tmp_path, 1)]
    training = train_together(runs, HERE, checkpoints)
    for index, epoch in training:
        if (index, epoch.metrics["epoch"]) == (0, 1):
            break
    training.close()
    assert 1 <= checkpoints[1].read()["step"] <= 3
    rest = [numbers(epoch) for epoch in train(runs[1], checkpoint=checkpoints[1])]
    assert rest == [numbers(epoch) for epoch in train(runs[1])][1:]


def test_a_line_says_how_many_shared_its_seconds(tmp_path):
    lines = [epoch.metrics for _, epoch in train_together(configs(epochs=1), HERE, never(tmp_path))]
    assert [line["together"] for line in lines] == [3] * 6
    assert all(line["seconds"] >= line["train_seconds"] >= 0 for line in lines)


def chain(*middle):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), *middle, nn.Linear(8, 10))


def hooked():
    model = chain(nn.ReLU())
    model[2].register_forward_hook(lambda *_: None)
    return model


def frozen():
    model = chain(nn.ReLU())
    model[1].weight.requires_grad_(False)
    return model


class Own(nn.Sequential):
    def forward(self, x):
        return super().forward(x) * 2


SHARED = nn.Linear(8, 8)
TIED = nn.Linear(8, 8)
TIED.weight = SHARED.weight


@pytest.mark.parametrize(
    "model",
    [
        chain(nn.Dropout(0.1)),
        chain(nn.BatchNorm1d(8)),
        chain(nn.LayerNorm(8)),
        chain(nn.PReLU()),
        chain(nn.RReLU()),
        chain(nn.Softmax(1)),
        chain(undying.SUGAR(torch.sin)),
        chain(SHARED, nn.ReLU(), SHARED),
        chain(SHARED, nn.ReLU(), TIED),
        chain(Own(nn.ReLU())),
        chain(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))),
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)),
        hooked(),
        frozen(),
        chain(nn.ReLU()).double(),
        Own(nn.Flatten(), nn.Linear(64, 10)),
        nn.Linear(64, 10),
    ],
    ids=lambda model: type(model[2] if isinstance(model, nn.Sequential) and len(model) > 2 else model).__name__,
)
def test_a_network_that_is_no_plain_chain_is_not_stacked(model):
    assert layers_of(model) is None


def test_a_plain_chain_is():
    assert (
        len(layers_of(chain(nn.ReLU(), nn.Sequential(nn.Linear(8, 8, bias=False), undying.SUGAR()), nn.Identity())))
        == 7
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"activation": "relu+redo"},
        {"activation": "sugar:anneal=0.5"},
        {"activation": "crelu"},
        {"amp": "bfloat16"},
        {"ema": 0.9},
        {"mixup": 0.2},
        {"cutmix": 0.2},
        {"drop_path": 0.1},
        {"keep": ("norms",)},
        {"task": "mine:Task"},
    ],
    ids=str,
)
def test_recipes_that_are_trained_alone(changes):
    [first, *_] = configs()
    assert may_train_together(first, HERE)
    assert not may_train_together(dataclasses.replace(first, **changes), HERE)


@pytest.mark.parametrize("changes", [{"devices": 2}, {"compile": True}, {"channels_last": True}], ids=str)
def test_executions_that_train_alone(changes):
    assert not may_train_together(configs()[0], dataclasses.replace(HERE, **changes))


def test_where_a_step_rounds_otherwise_nothing_is_trained_together(monkeypatch, tmp_path):
    call = together.Stack.__call__
    monkeypatch.setattr(together.Stack, "__call__", lambda self, x: call(self, x) * (1 + 2**-23))
    with pytest.raises(AloneError, match="bit by bit"):
        next(train_together(configs(), HERE, never(tmp_path)))
