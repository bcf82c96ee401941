"""The section of tasks in a row: own best rates, differences and layers, against the runs that it is read from."""

import math

import planted
from undying.papers.details.online import Online
from undying.papers.plan import make_plan
from undying.papers.tables import TABLES

PLAN = make_plan(TABLES["undying-plasticity"].scales["smoke"], (3,))
TASK = PLAN.scale.tasks[0]
OTHER = 0.003


def online(planned):
    """SUGAR is 0.1 above ReLU at the table's rate and 0.2 at the other, at which both are better."""
    sugar = planned.config.activation == "sugar"
    return 0.3 + 0.01 * planned.config.seed + (0.1 * sugar if planned.config.lr == TASK.lr else 0.1 + 0.2 * sugar)


def line(planned):
    silent = 4 if planned.config.seed == 0 else 8
    unknown = {"name": "b", "units": 16, "silent": None, "dead": None, "dormant": 0}
    return {
        "epoch": 3,
        "sites": [{"name": "a", "units": 16, "silent": silent, "dead": silent, "dormant": silent}, unknown],
        "weight_norms": {"one": 1.0 + planned.config.seed, "head": 2.0},
    }


def results(**more):
    values = {name: lambda _: 0.25 for name in ("slope", "change", "dormant", "rank", "weights", "recycled")}
    return planted.results(
        PLAN,
        online,
        values=lambda planned: {name: of(planned) for name, of in values.items()},
        curves=lambda _: {"over": (0, 1), "accuracy": (None, 0.5), "silent": (0.0, 0.25)},
        epochs=lambda planned: [{"epoch": 0}, line(planned)],
        **more,
    )


def test_each_arm_is_shown_at_the_rate_that_it_chose():
    found = Online.read(TASK, PLAN.scale, results(), None)
    assert found.own == {"relu": OTHER, "sugar": OTHER}
    assert {o.planned.config.lr for o in found.at_best("sugar").values()} == {OTHER}
    relu, sugar = found.table()[1].splitlines()[2:]
    assert relu.startswith("| `relu` | 0.003 | 3 | 41.0 (")
    assert "| +20.00 (+20.00 to +20.00) |" in sugar
    assert "| 25.00 (25.00 to 25.00) |" in sugar  # the slope, in points a task


def test_layers_are_means_over_the_seeds_and_what_is_not_known_is_not_shown():
    rows = Online.read(TASK, PLAN.scale, results(), None).table()[-1].splitlines()
    assert rows[0] == "| arm | silent at 0.003 | norms at 0.003 | silent at 0.01 | norms at 0.01 |"
    assert rows[2] == "| `relu` | 42 / – | 2 / 2 | 42 / – | 2 / 2 |"  # 4, 8 and 8 of 16; 1, 2 and 3
    assert rows[4].startswith("| `crelu` | – | – |")


def test_a_held_out_score_alone_chooses():
    found = Online.read(TASK, PLAN.scale, results(validation=lambda planned: planned.config.lr), None)
    assert found.own == {"relu": TASK.lr, "sugar": TASK.lr}


def test_without_a_grid_there_are_layers_alone():
    at_one = results(keep=lambda planned: planned.config.lr == TASK.lr)
    found = Online.read(TASK, PLAN.scale, at_one, None)
    assert found.own == {}
    assert len(found.table()) == 2
    assert found.figures("smoke") == {}


def test_the_curves_are_those_of_the_own_best_rates():
    found = Online.read(TASK, PLAN.scale, results(), None)
    canvas, title, alt = found.figures("smoke")["own-accuracy"]
    assert title == "Online accuracy, labels-mlp, own best rates, smoke scale"
    assert alt.endswith("relu 50.0 to 50.0; sugar 50.0 to 50.0.")
    assert not math.isnan(canvas.axes[0].get_ylim()[0])
