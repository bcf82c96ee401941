"""Tasks against scikit-learn's scores of the same predictions, and what is refused before anything runs."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from undying._base.errors import UndyingError
from undying.lab import Execution, Metric, Settings, compare, tasks
from undying.lab.collect import collect
from undying.lab.data.dataset import Dataset
from undying.lab.runs.classification import train
from undying.lab.store import Store

OWN = """
    import torch
    from torch import nn
    from undying.lab import Metric, Task

    class Parity(Task):
        outputs = 2
        def data(self):
            x = torch.arange(64).unsqueeze(1).repeat(1, 3)
            return (x[:48], x[:48, 0] % 2), (x[48:], x[48:, 0] % 2)
        def loss(self, output, target):
            return nn.functional.cross_entropy(output, target)
        def metrics(self):
            wrong = lambda output, target: (output.argmax(1) != target).sum()
            return [Metric("wrong", "number of errors", higher_is_better=False, function=wrong)]
        def probe(self):
            return torch.arange(5).unsqueeze(1).repeat(1, 3), torch.zeros(5, dtype=torch.int64)

    def embedded(outputs):
        return nn.Sequential(nn.Embedding(64, 4), nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, outputs))

    class Nameless(Parity):
        def metrics(self):
            return []

    class Undirected(Parity):
        def metrics(self):
            return [Metric("wrong", higher_is_better=None, function=lambda output, target: 0.0)]

    class Taken(Parity):
        def metrics(self):
            return [Metric("loss", function=lambda output, target: 0.0)]

    class TakenByAPart(Parity):
        def metrics(self):
            return [Metric("test_loss", function=lambda output, target: 0.0)]

    class Unwritable(Parity):
        def metrics(self):
            return [Metric("a b", function=lambda output, target: 0.0)]

    class Undefined(Parity):
        def metrics(self):
            return [Metric("ratio", function=lambda output, target: float("nan"))]

    class Lacking:
        pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module with tasks of a user's."""
    name = f"own_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(OWN))
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def table(targets: torch.Tensor, kind: str) -> Dataset:
    x = torch.randn(len(targets), 3)
    return Dataset("t", x, targets, x, targets, targets.shape[1], targets=kind)


def scores(name: str, targets: torch.Tensor, outputs: torch.Tensor, kind: str) -> dict[str, float]:
    task = tasks.build_task(name, table(targets, kind))
    return {metric.name: metric.function(outputs, targets) for metric in tasks.metrics_of(task, name)}


@pytest.mark.parametrize("columns", [1, 3])
def test_regression_is_scored_in_the_unit_of_the_data(columns: int) -> None:
    targets, outputs = 40 + 7 * torch.randn(30, columns), torch.randn(30, columns)
    predicted = (outputs.double() * targets.std(0) + targets.mean(0)).numpy()
    found = scores("regression", targets, outputs, "values")
    assert found["rmse"] == pytest.approx(sk.mean_squared_error(targets, predicted) ** 0.5, rel=1e-5)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(targets, predicted), rel=1e-5)
    assert found["r2"] == pytest.approx(sk.r2_score(targets, predicted), rel=1e-4)
    task = tasks.build_task("regression", table(targets, "values"))
    error = (outputs - (targets - targets.mean(0)) / targets.std(0)).square().mean()
    torch.testing.assert_close(task.loss(outputs, targets), error)


def test_multilabel_is_scored_as_by_scikit_learn() -> None:
    targets, outputs = (torch.rand(40, 5) < 0.3).float(), torch.randn(40, 5)
    given = (outputs > 0).int()
    found = scores("multilabel", targets, outputs, "labels")
    assert found["f1"] == pytest.approx(sk.f1_score(targets, given, average="micro"))
    assert found["exact"] == pytest.approx(sk.accuracy_score(targets, given))
    assert found["labels"] == pytest.approx(1 - sk.hamming_loss(targets, given))
    none = torch.zeros(4, 2)
    assert scores("multilabel", none, none - 1, "labels")["f1"] == 1.0


def test_classification_is_what_it_was() -> None:
    """Its runs have the ids that they had before there were tasks."""
    run = Settings().runs("hash")[0]
    assert "task" not in run.to_dict()
    assert [metric.name for metric in tasks.build_task("classification", None).metrics()] == ["accuracy"]


def test_a_task_of_ones_own_is_trained_measured_and_counted_as_it_says(own: str, tmp_path: Path) -> None:
    settings = Settings(task=f"{own}:Parity", model=f"{own}:embedded", activations=("relu", "gelu"), seeds=1, epochs=2)
    dataset = tasks.load(settings.task, settings.data)
    config = settings.runs(dataset.sha256, "", tasks.source_sha256(settings.task))[0]
    assert config.data == settings.task
    epochs = list(train(config))
    assert [epoch.metrics["test_wrong"] for epoch in epochs] == [int(epoch.metrics["test_wrong"]) for epoch in epochs]
    assert "train_accuracy" not in epochs[-1].metrics
    assert epochs[-1].census.sites[0].samples == 5


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("Nameless", "metrics() must give one Metric or more, each with its function, not []"),
        ("Undirected", "metric 'wrong' needs higher_is_better=True or False"),
        ("TakenByAPart", "a metric cannot be called 'test_loss', which is taken"),
        ("Unwritable", "the name of a metric must be a word of letters, digits and _, not 'a b'"),
        ("Taken", "a metric cannot be called 'loss', which is taken"),
        ("Lacking", "is a Lacking without data and loss and metrics; see undying.lab.Task"),
        ("Missing", "has no attribute 'Missing'"),
    ],
)
def test_what_is_no_task_is_refused_by_name(own: str, name: str, error: str) -> None:
    with pytest.raises(UndyingError, match=re.escape(error)):
        tasks.describe(f"{own}:{name}", tasks.load(f"{own}:{name}", "digits"))


def test_a_metric_that_is_not_finite_where_the_loss_is_stops_the_run(own: str) -> None:
    settings = Settings(
        task=f"{own}:Undefined", model=f"{own}:embedded", activations=("relu", "gelu"), seeds=1, epochs=1
    )
    config = settings.runs(tasks.load(settings.task, "digits").sha256)[0]
    with pytest.raises(UndyingError, match="metric 'ratio' is nan on 16 samples, where the loss is finite"):
        list(train(config))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("0.5", "gives a str; it must be one real number"),
        (None, "gives a NoneType;"),
        (1j, "gives a complex;"),
        (torch.zeros(3), "gives a Tensor of 3 numbers;"),
        (np.zeros(2), "gives a ndarray of 2 numbers;"),
        (float("inf"), "is inf on 2 samples"),
        (1.5, "is 1.5; with share=True it must lie in"),
    ],
)
def test_a_metric_that_is_no_such_number_is_refused(value: object, error: str) -> None:
    with pytest.raises(UndyingError, match=re.escape(error)):
        tasks.measured(Metric("m", share=True, function=lambda *_: value), torch.zeros(2), torch.zeros(2), True)


@pytest.mark.parametrize("value", [0.25, np.float32(0.25), torch.tensor(0.25, requires_grad=True), np.array([0.25])])
def test_one_number_of_any_library_is_taken(value: object) -> None:
    outputs = torch.zeros(2)
    metric = Metric("m", function=lambda output, _: (output.add_(1), value)[1])
    assert tasks.measured(metric, outputs, torch.zeros(2), True) == 0.25
    assert outputs.tolist() == [0, 0]  # it was given a copy


@pytest.mark.parametrize("loss", [torch.ones(3), torch.ones(1), 0.5])
def test_a_loss_is_one_number(loss: object) -> None:
    with pytest.raises(UndyingError, match=r"the task's loss gives .*; it must be a tensor of one number"):
        tasks.scalar(loss)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"task": "guessing"}, "unknown --task 'guessing'; known: classification, regression, multilabel"),
        ({"task": "a:B", "data": "x.npz"}, "--task 'a:B' brings its own data; leave out --data"),
        ({"task": "regression", "mixup": 0.5}, "--mixup needs classes, and --task is regression"),
        ({"margin": -1.0}, "--margin must be a number of at least 0, not -1.0"),
    ],
)
def test_settings_that_do_not_fit_a_task_are_refused(settings: dict, error: str) -> None:
    with pytest.raises(UndyingError, match=re.escape(error)):
        Settings(**settings)


def test_images_with_classes_are_no_regression() -> None:
    with pytest.raises(UndyingError, match=r"--data 'digits' has classes; --task regression needs a \.csv"):
        tasks.load("regression", "digits")


def test_a_comparison_of_numbers_from_a_file_to_the_report(tmp_path: Path) -> None:
    """A linear law with noise: it is learned, R2 and RMSE agree, and the report is made from the store alone."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    y = 100 + 20 * x @ [1.0, -2.0, 0.5] + rng.normal(size=400)
    rows = "\n".join(",".join(f"{v:.6f}" for v in (*row, target)) for row, target in zip(x, y, strict=True))
    (tmp_path / "law.csv").write_text(f"a,b,c,mass\n{rows}\n")
    settings = Settings(
        data=str(tmp_path / "law.csv"),
        task="regression",
        activations=("relu", "tanh"),
        seeds=2,
        epochs=3,
        margin=4.0,
    )
    results = compare(settings, tmp_path / "out", Execution(workers=2))
    assert [metric.name for metric in results.metrics] == ["rmse", "mae", "r2"]
    relu, tanh = results.activations
    spread = float(tasks.load("regression", settings.data).y_test.double().var(unbiased=False))
    for rmse, r2 in zip(relu.score.values, relu.scores["r2"].values, strict=True):
        assert 1 - rmse**2 / spread == pytest.approx(r2)
    assert relu.scores["r2"].mean > 0.2
    assert "a verdict on 3 comparisons takes 7 seeds" in tanh.comparison.sentence
    (tmp_path / "law.csv").unlink()
    store = Store(tmp_path / "out")
    assert collect(store, store.settings()).to_dict() == results.to_dict()
