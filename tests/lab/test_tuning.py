"""Each arm at its own best: which point is chosen, on what, and what is said of it, against planted scores."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from undying._base.errors import UndyingError
from undying.lab import Settings
from undying.lab.collect import analyze
from undying.lab.grid import as_grid
from undying.lab.plan import Plan
from undying.lab.runs.kind import Run
from undying.lab.settings import RunConfig
from undying.lab.store import Store
from undying.report.html import page
from undying.report.words import tuned

DATA = {"name": "digits", "train": 100, "test": 50, "classes": 10, "shape": [1], "sha256": "x"}
SETTINGS = Settings(activations=("relu", "sugar"), seeds=6, grid=("lr=0.001,0.01,0.1",))
# By activation and rate: (held out, test). What is best on the test data is chosen for neither.
PLANTED = {
    ("relu", 0.001): (0.90, 0.80),
    ("relu", 0.01): (0.85, 0.95),
    ("relu", 0.1): (0.20, 0.20),
    ("sugar", 0.001): (0.70, 0.70),
    ("sugar", 0.01): (0.88, 0.82),
    ("sugar", 0.1): (0.80, 0.97),
}


def plan(settings: Settings = SETTINGS, keep=lambda config: True, diverged=lambda config: False) -> Plan:
    runs = settings.runs(DATA["sha256"])

    def run(config: RunConfig) -> Run:
        held, test = (score + config.seed / 1000 for score in PLANTED[config.activation, config.lr])
        broken = diverged(config)
        last = {"test_accuracy": None if broken else test, "validation_accuracy": None if broken else held}
        line = {"epoch": 1, "seconds": 1.0, "test_loss": None if broken else 1.0, **last}
        return Run(config, "diverged" if broken else "finished", 1.0, [line, line], {})

    return Plan(
        settings, Store(Path("none")), DATA, "", "", {}, runs, {config: run(config) for config in runs if keep(config)}
    )


def test_each_arm_is_judged_at_its_own_best_by_what_is_held_out() -> None:
    results = analyze(plan())
    assert results.tuning.arms["relu"].chosen == {"lr": 0.001}
    assert results.tuning.arms["sugar"].chosen == {"lr": 0.01}
    relu, sugar = results.activations
    assert relu.score.values == [0.80 + seed / 1000 for seed in range(6)]
    assert sugar.comparison.difference == pytest.approx(0.02)
    # 0.9 + 0.7 are less together than 0.85 + 0.88.
    assert results.tuning.shared == {"lr": 0.01}
    assert results.tuning.arms["sugar"].comparison.difference == pytest.approx(0.82 - 0.95)
    assert results.finished == results.planned == 36


def test_a_best_at_the_end_of_the_grid_says_what_to_add() -> None:
    said = tuned(analyze(plan()))
    assert said == ["relu: lr 0.001 (at the end of the grid: add lr 0.0001)", "sugar: lr 0.01"]


def test_the_choice_is_over_the_seeds_that_all_points_have() -> None:
    """Without two seeds of one point these count for no other: here they alone would make another point the best."""
    lucky = lambda config: (config.activation, config.lr) == ("relu", 0.01) and config.seed > 3  # noqa: E731
    given = plan(keep=lambda config: not (config.activation == "relu" and config.lr == 0.001 and config.seed > 3))
    for config, run in list(given.finished.items()):
        if lucky(config):
            lines = [{**run.epochs[0], "validation_accuracy": 1.0}] * 2
            given.finished[config] = replace(run, epochs=lines)
    results = analyze(given, partial=True)
    assert results.tuning.arms["relu"].chosen == {"lr": 0.001}
    assert results.baseline.seeds == [0, 1, 2, 3]


def test_a_diverged_run_is_guessing_in_the_choice_too() -> None:
    results = analyze(
        plan(diverged=lambda config: config.activation == "relu" and config.lr == 0.001 and config.seed < 4)
    )
    assert results.tuning.arms["relu"].chosen == {"lr": 0.01}
    assert [tried.diverged for tried in results.tuning.arms["relu"].tried] == [4, 0, 0]


def test_an_arm_of_which_every_run_diverged_has_no_best() -> None:
    results = analyze(plan(diverged=lambda config: config.activation == "sugar"))
    assert tuned(results)[1] == "sugar: every run diverged, so that nothing was chosen"
    assert results.activations[1].diverged_seeds == list(range(6))


def test_an_arm_without_a_run_at_every_point_is_unfinished() -> None:
    results = analyze(plan(keep=lambda config: not (config.activation == "sugar" and config.lr == 0.1)), partial=True)
    assert results.unfinished == ["sugar"]


def test_runs_are_shared_between_grids_and_with_none() -> None:
    wide = {config.id for config in SETTINGS.runs("x")}
    narrow = {config.id for config in replace(SETTINGS, grid=("lr=0.01,0.1",)).runs("x")}
    single = {config.id for config in replace(SETTINGS, grid=(), lr=0.01).runs("x")}
    assert single < narrow < wide


def test_the_command_line_and_the_settings_say_the_same() -> None:
    words = as_grid(["--data", "digits", "--lr", "0.001", "0.01", "--weight-decay", "0", "1e-4", "--seeds", "3"])
    assert words == ["--data", "digits", "--seeds", "3", "--grid", "lr=0.001,0.01", "weight_decay=0,1e-4"]
    assert as_grid(["--lr", "0.1", "--activations", "relu", "gelu"]) == ["--lr", "0.1", "--activations", "relu", "gelu"]
    settings = Settings(grid=("lr=0.001,0.01", "batch_size=32,64"))
    assert "--lr 0.001 0.01 --batch-size 32 64" in settings.command("out")
    assert "--validation 0.1" in settings.command("out")
    assert settings.command("out").count("--lr") == 1


@pytest.mark.parametrize(
    ("grid", "error"),
    [
        ("rate=1,2", "--grid 'rate=1,2': rate is none of lr, weight_decay"),
        ("lr=0.1", "--grid 'lr=0.1' needs two values or more, each once"),
        ("lr=0.1,0.1", "needs two values or more, each once"),
        ("lr=a,b", "must be OPTION=VALUE,VALUE,... with numbers"),
        ("lr=0.1,-1", "--lr must be above 0, not -1.0"),
        ("momentum=0.9,1.5", "--momentum must be at least 0 and below 1, not 1.5"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(grid: str, error: str) -> None:
    with pytest.raises(UndyingError, match=re.escape(error)):
        Settings(grid=(grid,))


def test_the_page_shows_both_the_own_best_and_the_shared_point() -> None:
    html = page(analyze(plan()), [])
    for said in ("Each arm at its own best", "add lr 0.0001", "at lr 0.01", "lr 0.001, chosen"):
        assert said in html
