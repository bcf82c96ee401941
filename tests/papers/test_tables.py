"""Every declaration is one that can be run, and says of the sources what the sources say."""

from dataclasses import replace

import pytest

from undying.lab.activations import build_activation
from undying.lab.runs.kind import kind_of
from undying.lab.settings import Settings
from undying.papers.kinds import KindTask
from undying.papers.plan import make_plan
from undying.papers.table import METRICS, SCALES
from undying.papers.tables import TABLES
from undying.papers.verdicts import SAYS

tables = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)


@tables
def test_what_is_said_of_an_arm_is_of_an_arm_that_is_run(table):
    tasks = {task.name: task for task in table.scales["full"].tasks}
    for said in (*table.claims, *table.published, *table.gains):
        assert said.arm in tasks[said.task].arms
    for said in (*table.claims, *table.gains):
        assert said.against in tasks[said.task].arms
    for gain in table.gains:
        assert gain.controls.keys() <= set(tasks[gain.task].arms)
    for claim in table.claims:
        assert claim.says in SAYS
        assert claim.metric in METRICS
        if claim.own_rates:
            grids = {tasks[claim.task].rates(arm) for arm in (claim.arm, claim.against)}
            assert len(grids) == 1, "both are tuned on the same grid"
            assert len(*grids) == (3 if table.name in ("undying-treat", "undying-plasticity") else 4)


@tables
@pytest.mark.parametrize("name", SCALES)
def test_every_task_can_be_compared(table, name):
    scale = table.scales[name]
    assert scale.limits
    assert scale.answers == (name != "smoke")
    for task in scale.tasks:
        assert task.stages[0].rates == (task.lr,)
        assert all(task.lr in task.rates(arm) for arm in task.arms)
        assert len(task.seeds) >= (5 if name != "smoke" else 2)
        if isinstance(task, KindTask):
            for arm in task.arms:  # raises for one that there is not
                kind_of(task.template).is_treated(task.config(arm, task.lr, 7, ""))
            assert {task.config(arm, task.lr, 7, "").activation for arm in task.arms} == set(task.arms)
            assert task.config(task.arms[0], 0.5, 7, "") == replace(
                task.template, activation=task.arms[0], lr=0.5, seed=7
            )
            continue
        assert task.recipe.validation == 0.1  # so that runs at the published rate serve both comparisons
        # Settings refuse what the lab cannot run.
        Settings(data=task.data, model=task.model, activations=task.arms, optimizer=task.optimizer)


@tables
def test_the_scale_below_has_no_arm_that_the_published_one_has_not(table):
    full = {task.name: set(task.arms) for task in table.scales["full"].tasks}
    for name in ("small", "smoke"):
        for task in table.scales[name].tasks:
            assert set(task.arms) <= full[task.name]


def test_the_published_differences():
    """As the public descriptions have them, so that a number mistyped here is found."""
    found = {
        (name, claim.task, claim.arm, claim.against, claim.metric): round(100 * difference, 2)
        for name, table in TABLES.items()
        for claim in table.claims
        if (difference := table.difference(claim)) is not None
    }
    assert found == {
        ("barelu-cifar10", "small_cnn", "barelu", "relu", "accuracy"): 1.85,
        ("barelu-cifar10", "small_cnn", "barelu", "relu", "dead"): -15.03,
        ("barelu-cifar100", "small_cnn", "barelu", "relu", "accuracy"): 1.82,
        ("barelu-cifar100", "small_cnn", "barelu", "relu", "dead"): -12.11,
        # In points of the 500 that an episode can bring: 27.00 and 59.55 of reward.
        ("barelu-cartpole", "cartpole", "barelu", "relu", "accuracy"): 5.40,
        ("barelu-cartpole", "cartpole", "barelu", "leaky_relu", "accuracy"): 11.91,
        ("barelu-cartpole-rollouts", "cartpole", "barelu", "relu", "accuracy"): 5.40,
        ("barelu-cartpole-rollouts", "cartpole", "barelu", "leaky_relu", "accuracy"): 11.91,
        ("sugar-cifar10", "vgg16", "sugar", "bsilu", "accuracy"): 9.85,
        ("sugar-cifar10", "resnet18", "sugar", "bsilu", "accuracy"): 9.66,
        ("sugar-cifar100", "vgg16", "sugar", "bsilu", "accuracy"): 15.74,
        ("sugar-cifar100", "resnet18", "sugar", "bsilu", "accuracy"): 7.52,
        ("sugar-cifar100", "resnet18", "sugar:leaky_relu", "leaky_relu", "accuracy"): -0.26,
        ("sugar-conv2next", "conv2next", "sugar:nelu:a=0.1", "gelu", "accuracy"): 0.21,
    }


def test_all_eight_surrogates_are_there_as_activations_and_in_sugar():
    for name in ("sugar-cifar10", "sugar-cifar100"):
        for task in TABLES[name].scales["full"].tasks:
            built = [build_activation(arm) for arm in task.arms]
            shown = [repr(module).lower() for module in built]
            for surrogate in ("bsilu", "nelu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish"):
                assert any(text.startswith(f"sugar({surrogate}") for text in shown)
                assert any(text.startswith(f"{surrogate.replace('_', '')}(") for text in shown)


def test_the_small_resnet18_runs_are_those_that_compare_makes(tmp_path, monkeypatch):
    """The same ids, so that runs of ``undying compare`` with these settings are found."""
    task = TABLES["sugar-cifar10"].scales["small"].tasks[0]
    settings = Settings(
        data="cifar10",
        model="resnet18",
        activations=("relu", "sugar", "bsilu", "sugar:region=negative", "leaky_relu", "barelu"),
        seeds=5,
        epochs=5,
        lr=0.001,
        optimizer="sgd",
        batch_size=128,
        subset=10_000,
        validation=0.1,
        measure_every=5,
    )

    class Data:
        sha256 = "hash"

    monkeypatch.setattr("undying.lab.data.load", lambda *_: Data())
    scale = TABLES["sugar-cifar10"].scales["small"]
    ids = {planned.config.id for planned in make_plan(scale).runs if planned.task == task.name}
    assert {run.id for run in settings.runs("hash")} <= ids
    assert len(ids) == sum(len(task.rates(arm)) for arm in task.arms) * 5
