"""The table of every autoencoder, from planted lines."""

from dataclasses import replace

import pytest

import planted
from undying.papers.details.sparsity import Sparsity
from undying.papers.plan import make_plan
from undying.papers.tables import TABLES


def lines(config):
    """Of two autoencoders: the second has twice the L0, a tenth more explained and half the dead latents of the first."""
    sites = [{"name": "act", "units": 64, "silent": 32, "dead": None, "dormant": 32}]
    shared = {"sites": sites, "seconds": 1.0}
    return [
        {"epoch": 0, "seconds": 0.0},
        {"epoch": 1, "pressure": 0.1, "l0": 4.0 + config.seed, "test_explained": 0.5, "dead": 16, **shared},
        {"epoch": 2, "pressure": 0.01, "l0": 8.0 + 2 * config.seed, "test_explained": 0.6, "dead": 8, **shared},
    ]


@pytest.fixture
def section():
    plan = make_plan(TABLES["undying-sae"].scales["smoke"], (3,))
    results = [replace(one, epochs=lines(one.planned.config)) for one in planted.results(plan, lambda run: 0.5)]
    return Sparsity.read(plan.scale.tasks[0], plan.scale, results, None)


def test_a_row_is_the_mean_of_the_seeds_of_one_strength(section):
    _, rows = section.table()
    said = [line.strip("| ").split(" | ") for line in rows.splitlines() if line.startswith("| `relu`")]
    assert [cells[:4] for cells in said] == [["`relu`", "0.1", "3", "5.0"], ["`relu`", "0.01", "3", "10.0"]]
    assert [cells[4].split()[0] for cells in said] == ["50.0", "60.0"]
    assert [cells[5].split()[0] for cells in said] == ["50.0", "50.0"]
    assert [cells[6].split()[0] for cells in said] == ["25.0", "12.5"]


def test_the_figure_says_what_it_shows(section):
    ((canvas, _, said),) = section.figures("smoke").values()
    assert "explained, relu: 50.0 at 5.0, 60.0 at 10.0" in said
    assert "dead, relu: 25.0 at 5.0, 12.5 at 10.0" in said
    explained, _ = canvas.axes
    relu = next(line for line in explained.lines if line.get_label() == "relu")
    assert relu.get_xydata().tolist() == [[5, 50], [10, 60]]
