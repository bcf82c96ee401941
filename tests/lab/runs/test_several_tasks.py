"""``--tasks``: classes that are renamed again and again, against a loop written out."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F

from undying._base.errors import UndyingError
from undying.lab import Execution, Settings, data
from undying.lab.process_group import SingleProcess
from undying.lab.runs.classification import SingleRun, train
from undying.lab.settings import RunConfig


def run_of(**settings) -> RunConfig:
    settings = Settings(activations=("relu", "gelu"), seeds=1, **{"epochs": 4, "tasks": 2, "subset": 200} | settings)
    return settings.runs(data.load("digits").sha256)[0]


def test_the_second_half_of_the_epochs_is_of_other_names() -> None:
    """Trained by hand, with the names of each task, to the same loss; the run measures by the names that it learned last."""
    config = run_of(lr=0.003)
    epochs = list(train(config))
    run = SingleRun(config, Execution(), SingleProcess())
    first, second = run.names
    assert first.tolist() == list(range(10))
    assert sorted(second.tolist()) == list(range(10)) != second.tolist()
    optimizer = torch.optim.Adam(run.model.parameters(), lr=0.003)
    for epoch in range(1, 5):
        names, total = (first if epoch < 3 else second), 0.0
        run.model.train()
        for x, y, _ in run.batches.epoch():
            loss = F.cross_entropy(run.model(x), names[y])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
        assert epochs[epoch].metrics["train_loss"] == pytest.approx(total / 200, rel=1e-4)
        run.model.eval()
        right = torch.cat([run.model(x).argmax(1) == names[y] for x, y in run.batches.test()])
        assert epochs[epoch].metrics["test_accuracy"] == pytest.approx(float(right.double().mean()), abs=0.01)


def test_all_activations_learn_the_same_tasks() -> None:
    runs = [
        SingleRun(run_of(), Execution(), SingleProcess()),
        SingleRun(run_of(model="small_cnn"), Execution(), SingleProcess()),
    ]
    assert torch.equal(runs[0].names, runs[1].names)


def test_a_run_of_one_task_is_what_it_was() -> None:
    assert "tasks" not in run_of(tasks=1).to_dict()


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"tasks": 3}, "--epochs 4 cannot be shared equally by --tasks 3"),
        ({"tasks": 0}, "--tasks must be at least 1, not 0"),
        ({"mixup": 0.2}, "--tasks renames classes: it goes with --task classification, without mixup"),
        ({"task": "regression"}, "--tasks renames classes"),
    ],
)
def test_what_has_no_classes_to_rename_is_refused(settings: dict, error: str) -> None:
    with pytest.raises(UndyingError, match=re.escape(error)):
        run_of(**settings)
