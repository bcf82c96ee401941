"""The way from a table's name to its page, over runs that nobody trained."""

from collections import Counter

import pytest

import planted
from stores import count_reads, finish
from undying import cli
from undying._base.errors import UndyingError
from undying.lab.store import Store
from undying.papers import run
from undying.papers.plan import make_plan
from undying.papers.tables import TABLES

NAME = "sugar-swin"


@pytest.fixture
def plan():
    return make_plan(TABLES[NAME].scales["smoke"])


def train_all(plan, out, but=0):
    """Every run but the last ones is finished, with an accuracy of a half."""
    sites = [{"name": "a", "units": 4, "silent": 1, "dead": 0, "dormant": 0}]
    ends = {"test_accuracy": 0.5, "validation_accuracy": 0.5, "sparsity": 0.5, "sites": sites, "seconds": 1.0}
    runs = plan.runs[: len(plan.runs) - but]
    for planned in runs:
        lines = [{"epoch": 0, **ends}, {"epoch": 1, **ends, "weights_sha256": planned.config.id}]
        finish(Store(out), planned.config, lines, environment=dict(planted.ENVIRONMENT))
    return {planned.config.id for planned in runs}


def test_with_everything_finished_each_run_is_read_once(plan, tmp_path, monkeypatch):
    ids, reads = train_all(plan, tmp_path), count_reads(monkeypatch)
    said = []
    analysis = run(NAME, scale="smoke", out=tmp_path, say=said.append)
    assert reads == Counter(ids)
    assert [result.id for result in analysis.results] == [planned.config.id for planned in plan.runs]
    assert {result.accuracy for result in analysis.results} == {0.5}
    assert said[0] == f"{NAME}, smoke scale: {len(ids)} of {len(ids)} runs"
    assert said[-2:] == [f"to explore: {tmp_path / NAME}.html", f"page: {tmp_path / NAME}.md"]
    assert len(said) == len(TABLES[NAME].claims) + 3


def test_so_does_the_command(plan, tmp_path, monkeypatch):
    ids, reads = train_all(plan, tmp_path), count_reads(monkeypatch)
    assert cli.main(["reproduce", NAME, "--scale", "smoke", "--out", str(tmp_path)]) == 0
    assert reads == Counter(ids)


def test_a_run_that_is_trained_is_read_once_too(plan, tmp_path, monkeypatch):
    before, reads = train_all(plan, tmp_path, but=2), count_reads(monkeypatch)
    after = []

    def trained(configs, out, execution, finished):
        train_all(plan, out)
        after.extend(configs)
        for config in configs:
            finished(config)

    monkeypatch.setattr("undying.lab.executors.run", trained)
    seen = []
    analysis = run(NAME, scale="smoke", out=tmp_path, finished=seen.append)
    assert seen == after == [planned.config for planned in plan.runs[-2:]]
    assert reads == Counter({planned.config.id for planned in plan.runs}) != Counter(before)
    assert len(analysis.results) == len(plan.runs)


def test_without_training_it_says_what_is_there(plan, tmp_path, monkeypatch):
    monkeypatch.delattr("undying.lab.executors.run")
    train_all(plan, tmp_path, but=5)
    assert len(run(NAME, scale="smoke", out=tmp_path, train=False).results) == len(plan.runs) - 5
    assert "**Unfinished: 7 of 12 runs.**" in (tmp_path / f"{NAME}.md").read_text()


@pytest.mark.parametrize(
    ("name", "scale", "words"),
    [("sugar-mnist", "smoke", "'sugar-mnist'"), (NAME, "tiny", "'tiny'"), ("barelu-overhead", "smoke", "has no runs")],
)
def test_what_it_cannot_run_is_named(name, scale, words, tmp_path):
    with pytest.raises(UndyingError, match=words):
        run(name, scale=scale, out=tmp_path)
