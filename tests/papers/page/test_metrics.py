"""The page of planted runs of a kind of their own: rewards in their own unit, aggregates, curves, settings, and the way to a run."""

import csv
import io
import math
import re
from xml.etree import ElementTree

import pytest

import planted
from undying.lab.runs.cartpole import CartPoleRun
from undying.papers.analysis import analyze
from undying.papers.page.page import page, write_page
from undying.papers.plan import make_plan
from undying.papers.records import records
from undying.papers.tables import TABLES

TABLE = TABLES["barelu-cartpole"]
REWARD = {"relu": 200.0, "barelu": 200.0, "leaky_relu": 200.0, "sugar": 400.0}


def reward(run):
    return REWARD.get(run.arm, 300.0) + run.config.seed % 7 + (50 if run.config.lr == 0.001 else 0)


def values(run):
    silent = math.nan if run.arm == "tanh" else 0.25
    return {"area": reward(run) / 1000, "policy_silent": silent, "value_silent": 0.5}


def curves(run):
    silent = (None, None) if run.arm == "tanh" else (0.0, 0.25)
    return {
        "over": (0, 2048),
        "return": (None, reward(run) / 500),
        "policy_silent": silent,
        "value_silent": silent,
        "dead": silent,
    }


@pytest.fixture(scope="module")
def plan():
    return make_plan(TABLE.scales["small"])


@pytest.fixture(scope="module")
def analysis(plan):
    found = planted.results(plan, lambda run: reward(run) / 500, values=values, curves=curves)
    return analyze(TABLE, "small", plan, found)


@pytest.fixture(scope="module")
def text(analysis):
    return page(analysis, {})


def cells(text, start):
    return [
        cell.strip() for cell in next(line for line in text.splitlines() if line.startswith(start)).split("|")[1:-1]
    ]


def test_the_plan_is_of_runs_of_its_kind(plan):
    assert {type(planned.config) for planned in plan.runs} == {CartPoleRun}
    assert not plan.datasets
    assert len({planned.config.id for planned in plan.runs}) == len(plan.runs) == 200
    first = [(run.arm, run.config.seed, run.config.lr) for run in plan.runs[:7]]
    assert first[0] == ("relu", 42, 0.0003)
    assert first[6] == ("relu", 1337, 0.0003)  # the main arms first, seed after seed


def test_rewards_are_in_their_own_unit_and_differences_in_points(text):
    head = cells(text, "| arm | published | n")
    row = dict(zip(head, cells(text, "| `sugar` |"), strict=True))
    assert row["final reward"].startswith("402.")
    assert row["minus relu, points"].startswith("+40.00")
    assert row["silent, policy, %"] == "25.0 (25.0 to 25.0)"
    assert row["own best rate"] == "0.001"
    assert row["there: final reward"].startswith("452.")
    assert cells(text, "| `relu` | 138.60")[1] == "138.60"
    tanh = dict(zip(head, cells(text, "| `tanh` |"), strict=True))
    assert "25.0" not in tanh["silent, policy, %"]  # silent is not said of tanh


def test_claims_and_what_they_mean(text):
    assert "One point of reward is 5, a hundredth of the 500" in text
    barelu = cells(text, "| BAReLU's final reward is above Leaky ReLU's")
    assert barelu[2:] == ["+11.91 points", "0.00 (0.00 to 0.00)", "10", "**not supported**"]
    assert cells(text, "| SUGAR's final reward is above ReLU's")[-1] == "**supported**"
    assert "10 of 10 pairs" not in text  # planted weights differ
    assert "A run that diverged counts with a reward of 0." in text


def test_aggregates(text):
    row = cells(text.partition("interquartile mean")[2], "| `sugar` |")
    assert row[2] == "100.0 (100.0 to 100.0)"  # every run is above every one of relu
    row = cells(text.partition("interquartile mean")[2], "| `barelu` |")
    assert row[2].startswith("50.0 (")


def test_a_run_without_a_number_leaves_its_arm_without_an_aggregate(plan):
    def scored(run):
        return math.nan if (run.arm, run.config.seed) == ("sugar", 42) else reward(run) / 500

    found = planted.results(plan, scored, values=values, curves=curves)
    rows = page(analyze(TABLE, "small", plan, found), {}).partition("interquartile mean")[2]
    assert cells(rows, "| `sugar` |")[1:3] == ["–", "–"]
    assert cells(rows, "| `barelu` |")[2].startswith("50.0 (")


def test_figures_of_curves(analysis, tmp_path):
    text = write_page(analysis, tmp_path).read_text()
    figures = re.findall(r"!\[(.*)\]\((.*)\)", text)
    assert [file for _, file in figures] == [
        f"barelu-cartpole.cartpole.{kind}.svg" for kind in ("return", "policy-silent", "value-silent", "dead")
    ]
    for alt, file in figures:
        assert "small scale" in alt
        root = ElementTree.parse(tmp_path / file).getroot()
        assert "small scale" in "".join(root.itertext())
        assert (tmp_path / file).stat().st_size < 60_000
    assert "tanh" in figures[0][0]
    assert "tanh" not in figures[1][0]


def test_settings_and_runs(text, analysis):
    assert cells(text, "| steps |") == ["steps", "2048"]
    assert cells(text, "| data |") == ["data", "CartPole-v1"]
    assert "activation |" not in text.partition("## Settings")[2].partition("Given")[0]
    rows = list(csv.DictReader(io.StringIO(records(analysis.plan, analysis.results))))
    assert len(rows) == 200
    first = rows[0]
    assert float(first["score"]) == pytest.approx(200 + 42 % 7)
    assert float(first["area"]) == pytest.approx(100)
    assert float(first["validation"]) == pytest.approx(200 + 42 % 7)  # reward, as the score is
    assert float(first["silent"]) == analysis.results[0].silent
    assert first["run"] == first["weights_sha256"] == analysis.results[0].id
    assert next(row for row in rows if row["arm"] == "tanh")["policy_silent"] == ""


def test_our_own_table_does_not_speak_of_a_source():
    table = TABLES["undying-death"]
    plan = make_plan(table.scales["small"], (3,))
    more = dict.fromkeys(("online", "revived", "revived_soon", "revived_at_once"), 0.5)
    found = planted.results(plan, lambda run: 0.9, values=lambda _: more)
    text = page(analyze(table, "small", plan, found), {})
    assert "Our own table" in text
    assert "source says" not in text
    assert "Given by the source" not in text
    # A row an arm of each of the five tasks, at its one rate, and another in its aggregates.
    assert len([line for line in text.splitlines() if line.startswith("| `sugar:nelu` |")]) == 10
