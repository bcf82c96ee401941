"""A table of a row a number: what is read, and what is refused by its line."""

import json

import numpy as np
import pytest

from undying._base.errors import UndyingError
from undying.report.tables import arms_csv
from undying.scores import Reading, read_scores
from undying.statistics.metric import SUMMARY
from undying.statistics.paired import compare_metrics

SEEDS = range(8)


def scores(arm, seed, metric):
    """Any number: the same each time it is asked."""
    level = {"relu": 200.0, "gelu": 260.0, "silu": 205.0}[arm]
    draw = np.random.default_rng([seed, len(arm), ord(arm[0]), len(metric)])
    return level + 20 * np.random.default_rng(seed).normal() + draw.normal()


def long(path, rows, header="arm,seed,metric,value"):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def rows(*metrics, arms=("relu", "gelu", "silu")):
    return [(arm, seed, metric, scores(arm, seed, metric)) for arm in arms for seed in SEEDS for metric in metrics]


def test_the_statistics_are_those_of_a_comparison_with_one_correction_over_all_metrics(tmp_path):
    reading = Reading(lower_is_better=("loss",), margin=30.0)
    results = read_scores([long(tmp_path / "scores.csv", rows("return", "loss"))], reading)
    base = {metric: [scores("relu", seed, metric) for seed in SEEDS] for metric in ("return", "loss")}
    own = {(arm, metric): [scores(arm, seed, metric) for seed in SEEDS] for arm in ("gelu", "silu") for metric in base}
    expected = compare_metrics(
        [
            (metric, {arm: (base[metric.title], own[arm, metric.title]) for arm in ("gelu", "silu")}, margin)
            for metric, margin in zip(results.metrics, (30.0, None), strict=True)
        ],
        baseline="relu",
    )
    assert [metric.name for metric in results.metrics] == ["return", "loss"]
    assert [metric.higher_is_better for metric in results.metrics] == [True, False]
    for activation in results.activations[1:]:
        assert activation.comparisons == {
            "return": expected[0][activation.name],
            "loss": expected[1][activation.name],
        }
    verdicts = [activation.comparison.verdict for activation in results.activations[1:]]
    assert verdicts == ["higher", "equal"]
    assert results.baseline.score.values == base["return"]
    assert json.loads(json.dumps(results.to_dict()))["activations"][0]["curves"]["test_loss"]["median"] == []


def test_baseline_metric_and_share_are_chosen_by_name(tmp_path):
    table = [
        (arm, seed, metric, 0.5 + seed / 100 + (arm == "gelu") / 10)
        for arm in ("relu", "gelu")
        for seed in SEEDS
        for metric in ("acc/top-1", "other")
    ]
    file = long(tmp_path / "scores.csv", table)
    results = read_scores([file], Reading(baseline="gelu", metric=("acc/top-1",), share=("acc/top-1",)))
    assert [activation.name for activation in results.activations] == ["gelu", "relu"]
    [metric] = results.metrics
    assert (metric.name, metric.title, metric.share) == ("acc_top_1", "acc/top-1", True)
    assert results.activations[1].comparison.verdict == "lower"
    assert "10.0 points" in results.activations[1].comparison.sentence


def test_a_seed_that_one_arm_lacks_is_left_out_of_the_pairs_and_named(tmp_path):
    table = [row for row in rows("return") if row[:2] not in (("gelu", 3), ("relu", 5), ("relu", 6))]
    results = read_scores([long(tmp_path / "scores.csv", table)])
    gelu, silu = (activation.comparison for activation in results.activations[1:])
    assert gelu.wins + gelu.ties + gelu.losses == 5
    assert silu.wins + silu.ties + silu.losses == 6
    assert results.data["notes"] == [
        "Without a pair, and so left out of the comparison of gelu with relu: seeds 5, 6 of gelu and seed 3 of relu.",
        "Without a pair, and so left out of the comparison of silu with relu: seeds 5, 6 of silu.",
    ]
    assert not results.partial
    assert list(results.seeds) == list(SEEDS)


def test_with_steps_the_last_is_the_score_and_curves_go_over_the_steps_of_all(tmp_path):
    table = [
        (arm, seed, "return", 10 * step + seed, step)
        for arm in ("relu", "gelu")
        for seed in range(6)
        for step in (200, 0, 100)  # in any order
        if (arm, seed, step) != ("gelu", 2, 100)
    ]
    results = read_scores([long(tmp_path / "scores.csv", table, "arm,seed,metric,value,step")])
    relu, gelu = results.activations
    assert relu.score.values == [2000 + seed for seed in range(6)]
    assert relu.curves["test_return"].steps == [0, 100, 200]
    assert relu.curves["test_return"].median == [2.5, 1002.5, 2002.5]
    assert gelu.curves["test_return"].steps == [0, 200]
    assert results.data["notes"] == []


def test_runs_that_end_at_different_steps_are_named(tmp_path):
    table = [
        (arm, seed, "return", step + seed, step) for arm in ("relu", "gelu") for seed in range(6) for step in (1, 2)
    ]
    table.remove(("gelu", 4, "return", 6, 2))
    results = read_scores([long(tmp_path / "scores.csv", table, "arm,seed,metric,value,step")])
    assert results.data["notes"] == [
        "The last steps of return differ, from 1 (gelu, seed 4) to 2 (relu, seed 0); each run's own last is its score."
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: [*table, table[3]], ["line 18", "seed 3", "already", "line 5", "column step"]),
        (lambda table: [*table, ("relu", "x", "return", 1)], ["line 18", "seed", "'x'"]),
        (lambda table: [*table, ("relu", 1.5, "return", 1)], ["line 18", "whole number"]),
        (lambda table: [*table, ("relu", 9, "return", "1;5")], ["line 18", "value", "'1;5'"]),
        (lambda table: [*table, ("relu", 9, "return", "")], ["line 18", "value is empty"]),
        (lambda table: [*table, ("relu", 9, "return", "nan")], ["line 18", "nan", "failed"]),
        (lambda table: [*table, ("relu", 9, "return", 1, 2)], ["line 18", "5 cells"]),
        (lambda table: [*table, ("relu", 9, "loss", 1)], ["relu, seed 0", "no loss", "--metric"]),
        (lambda table: table[:8], ["two arms", "relu"]),
        (lambda table: [row for row in table if (row[0] == "relu") != (row[1] < 4)], ["no arm has a seed", "relu"]),
        (lambda table: [], ["no rows"]),
    ],
)
def test_what_cannot_be_right_is_refused_by_line(tmp_path, change, words):
    file = long(tmp_path / "scores.csv", change(rows("return", arms=("relu", "gelu"))))
    with pytest.raises(UndyingError) as refused:
        read_scores([file])
    assert all(word in str(refused.value) for word in words), refused.value


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        ({"metric": ("acc",)}, ["--metric", "'acc'", "none"]),
        ({"lower_is_better": ("loss",)}, ["--lower-is-better", "'loss'", "return"]),
        ({"share": ("return",)}, ["line 2", "--share", "[0, 1]"]),
        ({"baseline": "elu"}, ["--baseline", "'elu'", "relu, gelu"]),
    ],
)
def test_an_option_that_does_not_fit_is_refused(tmp_path, reading, words):
    file = long(tmp_path / "scores.csv", rows("return", arms=("relu", "gelu")))
    with pytest.raises(UndyingError) as refused:
        read_scores([file], Reading(**reading))
    assert all(word in str(refused.value) for word in words), refused.value


@pytest.mark.parametrize(
    "reading", [{"margin": -1.0}, {"margin": float("nan")}, {"run_name": "{arm}"}, {"metric": ("a", "a")}]
)
def test_options_are_checked(reading):
    with pytest.raises(UndyingError, match=f"--{next(iter(reading)).replace('_', '-')}"):
        Reading(**reading)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_what_excel_and_pandas_write_is_read(tmp_path, mark):
    file = tmp_path / "scores.csv"
    lines = ["\ufeffarm, seed, metric, value, notes", "", *(f"{a},{s}.0,r,{s},x" for a in "ab" for s in range(6))]
    file.write_bytes("\r\n".join(lines).replace(",", mark).encode())
    results = read_scores([file])
    assert list(results.activations[1].seeds) == list(range(6))
    assert results.data["notes"] == [f"{file}: not read: notes"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"arm seed metric value\na 0 r 1\n", ["commas"]),
        (b"method,seed,score\na,0,1\n", ["method, seed, score", "arm, seed, metric, value", "--arm-column"]),
        (b"arm,arm,seed,metric,value\na,a,0,r,1\n", ["two columns 'arm'"]),
        (b"\xff\xfe\x00", ["UTF-8"]),
        (b"", ["commas"]),
    ],
)
def test_another_file_is_refused(tmp_path, content, words):
    (tmp_path / "scores.csv").write_bytes(content)
    with pytest.raises(UndyingError) as refused:
        read_scores([tmp_path / "scores.csv"], Reading(metric=("r",)) if b"score\n" not in content else None)
    assert all(word in str(refused.value) for word in words), refused.value


def test_files_add_up_and_names_that_would_collide_are_refused(tmp_path):
    one = long(tmp_path / "one.csv", rows("return", arms=("relu",)))
    two = long(tmp_path / "two.csv", rows("return", arms=("gelu",)))
    assert len(read_scores([one, two]).activations) == 2
    both = long(tmp_path / "both.csv", rows("a/b", "a-b"))
    with pytest.raises(UndyingError, match=r"'a/b' and 'a-b' would both be the column a_b"):
        read_scores([both])
    with pytest.raises(UndyingError, match="is not there"):
        read_scores([tmp_path / "none.csv"])


def test_columns_of_the_summary_are_each_of_one_metric(tmp_path):
    both = rows("acc") + rows("acc_difference")
    with pytest.raises(UndyingError, match=r"'acc' and 'acc_difference' would have a column of summary.csv in common"):
        read_scores(long(tmp_path / "scores.csv", both))
    results = read_scores(str(long(tmp_path / "scores.csv", rows("acc"))))
    heads = arms_csv(results).splitlines()[0].split(",")
    assert heads == ["activation", *(f"acc_{ending}" for ending in SUMMARY)]


def test_a_number_is_no_python(tmp_path):
    (tmp_path / "scores.csv").write_text("arm,seed,metric,value\na,0,r,1_05\nb,0,r,2\n")
    with pytest.raises(UndyingError, match="line 2: value must be a number, not '1_05'"):
        read_scores([tmp_path / "scores.csv"])
