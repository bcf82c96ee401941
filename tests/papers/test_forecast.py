"""Estimates: operations by hand, and what they are made of."""

from dataclasses import replace

import pytest

from undying.lab.recipe import Recipe
from undying.papers import forecast
from undying.papers.forecast import Size, cpu_seconds, gpu_seconds, image_flops, listed, run_flops, runs_of
from undying.papers.table import Scale, Stage, Task

SIZE = Size((1, 8, 8), 10, 1000, 300)
STAGES = (Stage(("relu", "sugar"), (0.1,)), Stage(("relu",), (0.1, 0.3)))
TASK = Task("t", "digits", "mlp", STAGES, (0, 1), 3, 0.1, "sgd", 128, Recipe(subset=500, validation=0.1))


def test_operations_of_a_multilayer_perceptron():
    """Two an entry of each matrix forward, twice that backward, but none for the gradient of the input."""
    entries = 64 * 128 + 5 * 128 * 128 + 128 * 10
    assert image_flops("mlp", (1, 8, 8), 10) == 6 * entries - 2 * 64 * 128


def test_operations_of_a_run():
    images = 3 * 450 + 4 * ((300 + 50) / 3 + 450)  # epochs; tests and counts, one more
    assert run_flops(TASK, SIZE) == pytest.approx(images * image_flops("mlp", (1, 8, 8), 10))
    seldom = replace(TASK, recipe=replace(TASK.recipe, measure_every=2))  # before, after the second and the last
    images = 3 * 450 + 3 * ((300 + 50) / 3 + 450)
    assert run_flops(seldom, SIZE) == pytest.approx(images * image_flops("mlp", (1, 8, 8), 10))


def test_a_gpu_is_bound_by_its_launches_or_by_its_operations(monkeypatch):
    assert gpu_seconds(TASK, SIZE) == pytest.approx(3 * 4 * forecast.GPU_STEP)
    monkeypatch.setattr(forecast, "GPU_FLOPS", 1e6)
    assert gpu_seconds(TASK, SIZE) == pytest.approx(run_flops(TASK, SIZE) / 1e6)


def test_a_timed_step_is_scaled_to_the_run(monkeypatch):
    # The step that warms up takes 0.5 s for 8 images; so the one that counts has 32, and takes 1 s.
    ticks = iter([0.0, 0.5, 10.0, 11.0])
    monkeypatch.setattr("undying.papers.forecast.time.perf_counter", lambda: next(ticks))
    images = run_flops(TASK, SIZE) / image_flops("mlp", (1, 8, 8), 10)
    assert cpu_seconds(TASK, SIZE) == pytest.approx(images / 32)


def test_a_run_that_is_in_two_stages_counts_once():
    assert runs_of(TASK) == 6
    runs, on_gpu, on_core = listed(Scale((TASK,)))
    assert (runs, on_gpu > 0, on_core > 0) == (6, True, True)
