"""The index of a table's runs, read back: what was known is known again, and a damaged line is named."""

import math
from dataclasses import astuple, replace

import pytest

import planted
from undying._base.errors import UndyingError
from undying.papers.plan import make_plan
from undying.papers.records import read_records, records
from undying.papers.tables import TABLES

TABLE = TABLES["sugar-swin"]


@pytest.fixture(scope="module")
def plan():
    return make_plan(TABLE.scales["smoke"])


@pytest.fixture(scope="module")
def results(plan):
    """Of every kind that there is: with norms, without, and diverged before anything could be counted."""
    found = planted.results(plan, lambda run: 0.1 + run.config.seed / 7, weights=lambda run: 4 * run.config.id)
    unknown = {"silent": math.nan, "dead": math.nan, "sparsity": math.nan}
    return (
        replace(found[0], status="diverged", **unknown),
        replace(found[1], gradient=math.log(3), update=math.log(1e-3), curvature=math.log(7e4)),
        *found[2:],
    )


def test_it_reads_what_was_written(plan, results, tmp_path):
    path = tmp_path / "index.csv"
    path.write_text(records(plan, results))
    read = read_records(TABLE, plan, path)
    for one, other in zip(read, results, strict=True):
        assert all(
            a == b or a == pytest.approx(b, rel=1e-14, nan_ok=True)
            for a, b in zip(*map(astuple, (one, other)), strict=True)
        )


def test_a_processor_without_a_name_is_kept(plan, results, tmp_path):
    """As some systems have it; the page tells it all the same."""
    nameless = [replace(o, environment=o.environment | {"processor": ""}) for o in results]
    path = tmp_path / "index.csv"
    path.write_text(records(plan, nameless))
    assert [o.environment for o in read_records(TABLE, plan, path)] == [o.environment for o in nameless]


def test_other_runs_are_left_out_and_the_order_is_the_plans(plan, results, tmp_path):
    path = tmp_path / "index.csv"
    path.write_text(records(plan, results[::-1]))
    one_seed = make_plan(TABLE.scales["smoke"], (1,))
    read = read_records(TABLE, one_seed, path)
    assert [o.id for o in read] == [planned.config.id for planned in one_seed.runs]
    assert len(read) < len(results)


def test_a_run_of_other_settings_is_no_run_of_the_plan(plan, results, tmp_path):
    other = replace(plan.scale, tasks=tuple(replace(task, epochs=7) for task in plan.scale.tasks))
    path = tmp_path / "index.csv"
    path.write_text(records(plan, results))
    with pytest.raises(UndyingError, match=r"index\.csv has no run of sugar-swin with this --scale"):
        read_records(TABLE, make_plan(other), path)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("test_accuracy", "", "'' in test_accuracy"),
        ("test_accuracy", "nan", "'nan' in test_accuracy"),
        ("dead", "inf", "'inf' in dead"),
        ("seconds", "1,5", "'1,5' in seconds"),
        ("status", "running", "'running' in status"),
        ("weights_sha256", "abc", "'abc' in weights_sha256"),
    ],
)
def test_a_damaged_line_is_named(plan, results, tmp_path, column, value, words):
    path = tmp_path / "index.csv"
    path.write_text(planted.damaged(records(plan, results), column, value))
    with pytest.raises(UndyingError, match=f"index.csv, line 4: {words}; delete the line"):
        read_records(TABLE, plan, path)


def test_a_file_cut_off_is_no_record(plan, results, tmp_path):
    path = tmp_path / "index.csv"
    text = records(plan, results)
    for keep in (len(text) - 40, len(text) - 90):  # within the hash, and before it
        path.write_text(text[:keep])
        with pytest.raises(UndyingError, match=f"line {len(results) + 1}: "):
            read_records(TABLE, plan, path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text + text.splitlines()[1] + "\n", "a second time"),
        (lambda text: text.replace("weights_sha256", "weights", 1), "no column weights_sha256"),
        (lambda text: "", "no column run"),
    ],
)
def test_a_file_of_another_kind_is_refused(plan, results, tmp_path, change, words):
    path = tmp_path / "index.csv"
    path.write_text(change(records(plan, results)))
    with pytest.raises(UndyingError, match=words):
        read_records(TABLE, plan, path)


def test_bytes_are_no_record(plan, tmp_path):
    path = tmp_path / "index.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UndyingError, match=r"cannot read .*index\.csv"):
        read_records(TABLE, plan, path)


@pytest.mark.parametrize("name", ["barelu-gradients", "barelu-eps", "sugar-profile", "sugar-landscape"])
def test_a_page_that_shows_more_cannot_be_made_from_it(name, plan, tmp_path):
    table = TABLES[name]
    with pytest.raises(UndyingError, match=f"the page of {name}, which shows more"):
        read_records(table, replace(plan, scale=table.scales["smoke"]), tmp_path / "index.csv")
