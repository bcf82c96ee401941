"""A plan has every run once, the main comparisons first, and seeds as asked."""

import pytest

from undying._base.errors import UndyingError
from undying.lab.recipe import Recipe
from undying.papers.plan import choose_seeds, make_plan
from undying.papers.table import Scale, Stage, Task


def task(name, *stages, seeds=(7, 3)):
    return Task(name, "digits", "mlp", stages, seeds, 2, 0.1, "sgd", 16, Recipe(validation=0.1, subset=100))


SCALE = Scale(
    (
        task("a", Stage(("relu", "sugar"), (0.1,)), Stage(("relu",), (0.3, 0.01)), Stage(("gelu", "relu"), (0.1,))),
        task("b", Stage(("relu",), (0.1,))),
    )
)


def test_stage_by_stage_over_the_tasks_and_seed_by_seed():
    found = [(p.task, p.arm, p.config.lr, p.config.seed) for p in make_plan(SCALE).runs]
    assert found == [
        *[("a", arm, 0.1, seed) for seed in (7, 3) for arm in ("relu", "sugar")],
        *[("b", "relu", 0.1, seed) for seed in (7, 3)],
        *[("a", "relu", rate, seed) for seed in (7, 3) for rate in (0.3, 0.01)],
        *[("a", "gelu", 0.1, seed) for seed in (7, 3)],  # relu at 0.1 is there
    ]


def test_a_run_has_the_settings_of_its_task():
    config = make_plan(SCALE).runs[0].config
    assert (config.data, config.model, config.epochs, config.optimizer, config.batch_size) == (
        "digits",
        "mlp",
        2,
        "sgd",
        16,
    )
    assert (config.validation, config.subset, config.momentum) == (0.1, 100, 0.9)


def test_arms_and_rates_of_a_task():
    first = SCALE.tasks[0]
    assert first.arms == ("relu", "sugar", "gelu")
    assert first.rates("relu") == (0.01, 0.1, 0.3)
    assert first.rates("gelu") == (0.1,)


def test_seeds_as_asked():
    assert {p.config.seed for p in make_plan(SCALE, [1]).runs} == {7}
    assert {p.config.seed for p in make_plan(SCALE, [4]).runs} == {7, 3, 0, 1}
    assert {p.config.seed for p in make_plan(SCALE, [5, 9]).runs} == {5, 9}
    assert choose_seeds((1, 2), ()) == (1, 2)


@pytest.mark.parametrize("asked", [(0,), (-1,), (3, 3), (1, -2)])
def test_what_is_no_seed_is_named(asked):
    with pytest.raises(UndyingError, match=f"--seeds {' '.join(map(str, asked))} must be"):
        choose_seeds((0, 1), asked)
