"""CSV files as W&B's charts, its table of runs and the example of its API write them."""

import csv

import pytest

from undying._base.errors import UndyingError
from undying.scores import Reading, read_scores

RUNS = [(arm, seed) for arm in ("relu", "gelu") for seed in range(6)]


def write(path, table):
    with path.open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(table)
    return path


def level(arm, seed):
    return seed + 10 * (arm == "gelu")


def chart(ends=0.0):
    """As the app's 'Export to CSV' of a line plot."""
    header, lines = ["Step"], [[0], [100], [200]]
    for arm, seed in RUNS:
        header += [f"{arm} seed {seed} ab12 - eval/return{end}" for end in ("", "__MIN", "__MAX")]
        for step, line in enumerate(lines):
            value = step * 100 + level(arm, seed)
            line += [value, value - ends, value + ends]
    return [header, *lines]


def test_a_chart_has_a_column_a_run(tmp_path):
    results = read_scores([write(tmp_path / "chart.csv", chart())])
    assert [activation.name for activation in results.activations] == ["relu", "gelu"]
    assert results.activations[1].score.values == [210 + seed for seed in range(6)]
    assert results.baseline.curves["test_eval_return"].steps == [0, 100, 200]
    assert results.metric.title == "eval/return"


def test_a_run_that_has_no_value_at_a_step_is_read_without_it(tmp_path):
    table = chart()
    table[2][1:4] = ["", "", ""]
    results = read_scores([write(tmp_path / "chart.csv", table)])
    assert results.baseline.curves["test_eval_return"].steps == [0, 200]


def test_names_of_runs_are_told_by_a_pattern(tmp_path):
    table = chart()
    table[0] = [name.replace(" seed ", "/s") for name in table[0]]
    file = write(tmp_path / "chart.csv", table)
    with pytest.raises(UndyingError, match=r"'relu/s0 ab12' does not tell its arm and seed; .* --run-name"):
        read_scores([file])
    results = read_scores([file], Reading(run_name="{arm}/s{seed} *"))
    assert [activation.name for activation in results.activations] == ["relu", "gelu"]
    with pytest.raises(UndyingError, match=r"does not fit --run-name '\{arm\}_\{seed\}'"):
        read_scores([file], Reading(run_name="{arm}_{seed}"))


def test_a_mean_over_runs_or_steps_is_refused(tmp_path):
    with pytest.raises(UndyingError, match=r"line 4: column 'relu seed 0 .* mean of values from 199\.0 to 201\.0"):
        read_scores([write(tmp_path / "chart.csv", chart(ends=1.0))])


def runs_table(state="finished"):
    """As the app exports a table of runs: config and summary in columns of their own."""
    return [
        ["Name", "State", "activation", "seed", "lr", "loss", "acc"],
        *(
            [
                f"sunny-{arm}-{seed}",
                state if seed == 5 else "finished",
                arm,
                seed,
                0.1,
                1 / (1 + seed),
                level(arm, seed),
            ]
            for arm, seed in RUNS
        ),
    ]


def test_a_table_of_runs_has_columns_for_arm_and_seed(tmp_path):
    file = write(tmp_path / "runs.csv", runs_table())
    results = read_scores([file], Reading(metric=("acc", "loss"), lower_is_better=("loss",)))
    assert results.activations[1].score.values == [10 + seed for seed in range(6)]
    assert results.activations[1].scores["loss"].values == results.baseline.scores["loss"].values
    with pytest.raises(UndyingError, match=r"has 3 metrics; choose with --metric: lr, loss, acc"):
        read_scores([file])


def test_any_table_with_an_arm_and_a_seed_is_read_so(tmp_path):
    table = [["arm", "seed", "score"], *([arm, seed, level(arm, seed)] for arm, seed in RUNS)]
    results = read_scores([write(tmp_path / "wide.csv", table)])
    assert results.activations[1].score.values == [10 + seed for seed in range(6)]


def test_runs_that_did_not_finish_are_left_out_and_named(tmp_path):
    results = read_scores([write(tmp_path / "runs.csv", runs_table("crashed"))], Reading(metric=("acc",)))
    assert list(results.baseline.seeds) == list(range(5))
    assert [note.partition(": ")[2] for note in results.data["notes"]] == [
        "the run 'sunny-relu-5' is left out; its state is crashed",
        "the run 'sunny-gelu-5' is left out; its state is crashed",
    ]


def test_columns_are_named_where_they_have_other_names(tmp_path):
    table = runs_table()
    table[0][2:4] = ["act", "rng"]
    file = write(tmp_path / "runs.csv", table)
    with pytest.raises(UndyingError, match="'sunny-relu-0' does not tell its arm and seed"):
        read_scores([file], Reading(metric=("acc",)))
    results = read_scores([file], Reading(metric=("acc",), arm_column="act", seed_column="rng"))
    assert results.activations[1].score.values == [10 + seed for seed in range(6)]
    with pytest.raises(UndyingError, match="--arm-column 'nothing' is not there or empty; columns: Name, State"):
        read_scores([file], Reading(metric=("acc",), arm_column="nothing"))


def test_the_table_of_the_api_holds_dictionaries(tmp_path):
    table = [
        ["", "summary", "config", "name"],
        *(
            [i, {"acc": level(arm, seed), "_step": 7}, {"activation": arm, "seed": seed}, f"run-{i}"]
            for i, (arm, seed) in enumerate(RUNS)
        ),
    ]
    results = read_scores([write(tmp_path / "project.csv", table)])
    assert results.metric.name == "acc"
    assert results.activations[1].score.values == [10 + seed for seed in range(6)]
    table[3][1] = "{'acc': nan}"
    with pytest.raises(UndyingError, match="line 4: summary is no dictionary"):
        read_scores([write(tmp_path / "project.csv", table)])
