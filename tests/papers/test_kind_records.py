"""The index of runs that have metrics of their own, read back: the very same numbers, the curves that are drawn, and no more."""

import csv
import io
import math
from dataclasses import replace

import numpy as np
import pytest

import planted
from undying._base.errors import UndyingError
from undying.lab.runs.cartpole import POINTS
from undying.papers.kinds import KindTask
from undying.papers.plan import make_plan
from undying.papers.records import read_records, records
from undying.papers.tables import TABLES

TABLE = TABLES["barelu-cartpole"]
KINDS = [
    name
    for name, table in TABLES.items()
    if not table.shows  # --recorded is not for those
    and any(isinstance(task, KindTask) for scale in table.scales.values() for task in scale.tasks)
]


def planted_results(plan):
    """Numbers with all their digits, such as means have; of tanh no units are known, and one run diverged before it could
    be counted."""
    draw = np.random.default_rng(0)
    tasks = {task.name: task for task in plan.scale.tasks}

    def number(planned):
        return math.nan if planned.arm == "tanh" else float(draw.random())

    def curves(planned):
        steps = tuple(range(0, 4096, 1024))
        return {"over": steps} | {
            metric.metric: (None, *map(float, draw.random(3))) for metric in tasks[planned.task].curves
        }

    found = planted.results(
        plan,
        lambda _: float(draw.random()),
        silent=number,
        dead=number,
        sparsity=lambda _: math.nan,
        weights=lambda run: 4 * run.config.id,
        values=lambda planned: {
            metric.metric: number(planned)
            for metric in tasks[planned.task].metrics
            if metric.metric not in ("accuracy", "silent", "dead")
        },
        curves=curves,
    )
    known = planted.ENVIRONMENT | {"instructions": "AVX2", "kernels": "none", "gymnasium": "1.0"}
    return (
        replace(found[0], status="diverged", silent=math.nan, dead=math.nan),
        replace(found[1], environment=known),
        *found[2:],
    )


@pytest.fixture(scope="module")
def plan():
    return make_plan(TABLE.scales["smoke"])


@pytest.fixture(scope="module")
def results(plan):
    return planted_results(plan)


@pytest.mark.parametrize("name", KINDS)
def test_it_reads_what_was_written(name, tmp_path):
    plan = make_plan(TABLES[name].scales["smoke"])
    results, path = planted_results(plan), tmp_path / "index.csv"
    path.write_text(records(plan, results))
    rates = {task.name: task.lr for task in plan.scale.tasks}
    read = read_records(TABLES[name], plan, path)
    for one, other in zip(results, read, strict=True):
        assert exact(one) == exact(other)  # to the last bit: a recorded run may be compared with one trained now
        if one.planned.config.lr != rates[one.planned.task]:
            assert other.curves == {}  # no figure shows it
            continue
        assert other.curves.keys() == one.curves.keys()
        for curve, values in one.curves.items():
            assert other.curves[curve] == tuple(
                None if value is None else pytest.approx(value, rel=1e-5) for value in values
            )
    assert records(plan, read) == path.read_text()  # of a page made from it the page can be made again


def exact(o):
    """All but the curves; a NaN is the same as another."""
    values = {**vars(o), **o.values, "environment": sorted(o.environment.items())}
    return {name: repr(value) for name, value in values.items() if name not in ("values", "curves", "epochs")}


@pytest.mark.parametrize("name", KINDS)
def test_what_is_claimed_is_recorded(name):
    for scale in TABLES[name].scales.values():
        recorded = {
            task.name: {"accuracy", "silent", "dead", *(metric.metric for metric in task.metrics)}
            for task in scale.tasks
        }
        for claim in TABLES[name].claims:
            assert claim.metric in recorded.get(claim.task, {claim.metric})


def test_a_return_is_a_return(plan, tmp_path):
    """In its own unit, with no digits of a division."""
    results = tuple(
        replace(o, accuracy=499.15 / 500, validation=(i / 20) / 500) for i, o in enumerate(planted_results(plan))
    )
    rows = list(csv.DictReader(io.StringIO(records(plan, results))))
    assert {row["score"] for row in rows} == {"499.15"}
    assert [row["validation"] for row in rows[:3]] == ["0", "0.05", "0.1"]
    steps, returns = rows[0]["over_curve"], rows[0]["return_curve"].split()
    assert steps == "0 1024 2048 3072"
    assert returns[0] == "-"
    assert float(returns[1]) == pytest.approx(500 * results[0].curves["return"][1], rel=1e-5)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("score", "", "'' in score"),
        ("validation", "nan", "'nan' in validation"),
        ("area", "inf", "'inf' in area"),
        ("policy_silent", "1,5", "'1,5' in policy_silent"),
        ("status", "running", "'running' in status"),
        ("weights_sha256", "abc", "'abc' in weights_sha256"),
        ("over_curve", "", "'' in over_curve"),
        ("over_curve", "0 - 2048 3072", "'0 - 2048 3072' in over_curve"),
        ("return_curve", "1 2 3", "'1 2 3' in return_curve"),
        ("dead_curve", "", "'' in dead_curve"),
        ("dead_curve", "0 0 x 0", "'0 0 x 0' in dead_curve"),
    ],
)
def test_a_damaged_line_is_named(plan, results, tmp_path, column, value, words):
    path = tmp_path / "index.csv"
    path.write_text(planted.damaged(records(plan, results), column, value))
    with pytest.raises(UndyingError, match=f"index.csv, line 4: {words}; delete the line"):
        read_records(TABLE, plan, path)


def test_a_file_cut_off_is_no_record(plan, results, tmp_path):
    """Within the hash, and anywhere before it."""
    path = tmp_path / "index.csv"
    text = records(plan, results[1:2])
    head, line = text.splitlines()
    for keep in range(0, line.index(results[1].weights) + 63, 7):
        path.write_text(f"{head}\n{line[:keep]}")
        with pytest.raises(UndyingError, match=r"line 2: |has no run"):
            read_records(TABLE, plan, path)


def test_the_file_of_an_earlier_version_is_refused(plan, results, tmp_path):
    """It tells neither machine nor curves, and the page would lack its figures."""
    rows = [line.split(",") for line in records(plan, results).splitlines()]
    path = tmp_path / "index.csv"
    kept = [i for i, name in enumerate(rows[0]) if not name.endswith("_curve") and i <= rows[0].index("weights_sha256")]
    path.write_text("\n".join(",".join(row[i] for i in kept) for row in rows))
    with pytest.raises(UndyingError, match=r"index\.csv has no column over_curve; one of an earlier version .* --out"):
        read_records(TABLE, plan, path)


@pytest.mark.parametrize("name", ["barelu-cartpole", "barelu-cartpole-rollouts"])
def test_the_index_of_the_full_table_is_less_than_a_megabyte(name):
    plan = make_plan(TABLES[name].scales["full"])
    long = tuple(1 / 3 for _ in range(POINTS + 1))
    results = [
        replace(o, curves=dict.fromkeys(o.curves, long), environment=o.environment | {"processor": "A" * 40})
        for o in planted_results(plan)
    ]
    assert len(records(plan, results)) < 1_000_000
