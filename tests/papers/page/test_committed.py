"""The pages under docs/results say of each claim what their tables of runs say, computed here a second time."""

import csv
import math
import re
from collections import defaultdict
from pathlib import Path
from statistics import mean

import pytest
from scipy import stats

from undying.papers.tables import TABLES

RESULTS = Path(__file__).parents[3] / "docs" / "results"
COLUMNS = {"gradient": "gradient_norm", "update": "update_norm", "curvature": "curvature"}
MOST = {
    "cartpole": 500,
    "spike-dqn": 500,
    "ppo-cartpole": 200,
    "dqn-cartpole": 200,
    "ppo-acrobot": 100,
    "dqn-acrobot": 100,
}
"""Of the return of an episode."""
POINTS = re.compile(r"([+−]?\d+\.\d\d)")


FOLDERS = {"small": RESULTS, "full": RESULTS / "full"}
PAGES = [(scale, name) for scale, folder in FOLDERS.items() for name in TABLES if (folder / f"{name}.md").exists()]


@pytest.mark.parametrize(("scale", "name"), PAGES)
def test_every_difference_follows_from_the_runs(scale, name):
    table, folder = TABLES[name], FOLDERS[scale]
    lines = (folder / f"{name}.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == f"# {name}: {scale} scale"
    rows_said = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    said = [cells for cells in rows_said if cells[-1].startswith("**")]
    with (folder / f"{name}.runs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    tasks = {task.name: task for task in table.scales[scale].tasks}
    assert [cells[:2] for cells in said] == [[claim.text, claim.task] for claim in table.claims]
    for claim, (*_, shown, n, _) in zip(table.claims, said, strict=True):
        differences = pairs(rows, claim, tasks[claim.task].lr) if claim.task in tasks else []
        assert int(n) == len(differences)
        assert numbers(shown) == pytest.approx(expected(claim, differences), abs=0.0051)


def pairs(rows, claim, rate):
    """Arm minus the other by seed, in points; of norms and curvatures in logarithms."""
    arms = []
    for arm in (claim.arm, claim.against):
        runs = [row for row in rows if (row["task"], row["arm"]) == (claim.task, arm)]
        at = best(runs) if claim.own_rates else rate
        arms.append({row["seed"]: value(row, claim.metric) for row in runs if float(row["lr"]) == at})
    return [arms[0][seed] - arms[1][seed] for seed in arms[0] if seed in arms[1]]


def best(runs):
    """The rate with the highest mean on the data held out, over the seeds that all rates have."""
    held_out = defaultdict(dict)
    for row in runs:
        held_out[float(row["lr"])][row["seed"]] = float(row.get("validation_accuracy") or row["validation"])
    common = set.intersection(*map(set, held_out.values())) if len(held_out) > 1 else set()
    return max(sorted(held_out), key=lambda rate: mean(held_out[rate][s] for s in common)) if common else None


def value(row, metric):
    if metric in COLUMNS:
        return math.log(float(row[COLUMNS[metric]]))
    if metric == "accuracy" and "test_accuracy" in row:
        return 100 * float(row["test_accuracy"])
    points = 100 / MOST.get(row["task"], 1) if metric in ("accuracy", "area") else 100
    return float(row["score" if metric == "accuracy" else metric]) * points


def expected(claim, differences):
    if not differences:
        return []
    found = [mean(differences)]
    if len(differences) > 2 and len(set(differences)) > 1:
        found += stats.ttest_1samp(differences, 0).confidence_interval()
    elif len(differences) > 2:
        found *= 3  # an interval without length
    return [100 * math.expm1(x) for x in found] if claim.metric in COLUMNS else found


def numbers(cell):
    return [float(text.replace("−", "-")) for text in POINTS.findall(cell)]
