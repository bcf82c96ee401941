"""What is said of a plan before anything runs."""

from __future__ import annotations

from undying.lab.power import power

from .test_tuning import SETTINGS, plan, replace


def test_too_few_seeds_are_said_with_the_number_that_it_takes() -> None:
    few = replace(SETTINGS, grid=(), activations=("relu", "sugar", "gelu"), seeds=5, lr=0.01)
    assert power(plan(few, keep=lambda _: False)) == [
        "5 seeds are too few to find a difference in 2 comparisons, whatever they show: add --seeds 7"
    ]


def test_a_pilot_says_what_could_be_found() -> None:
    many = replace(SETTINGS, grid=(), seeds=10, lr=0.01)
    pilot = plan(many, keep=lambda config: config.seed < 4)
    for number, config in enumerate(list(pilot.finished)):
        run = pilot.finished[config]
        line = {**run.epochs[0], "test_accuracy": 0.9 + 0.01 * (number % 3)}
        pilot.finished[config] = replace(run, epochs=[line, line])
    (said,) = power(pilot)
    assert said.startswith("sugar: with 10 seeds a true difference of ")
    assert said.endswith(" points would be found in 4 of 5 such comparisons, judged by 4 finished pairs")
    assert power(plan(many, keep=lambda _: False)) == []
