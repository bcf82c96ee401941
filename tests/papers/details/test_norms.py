"""Norms of planted runs with known answers."""

import math
from dataclasses import replace

import pytest

import planted
from undying.lab.runs.kind import Run
from undying.papers.analysis import analyze
from undying.papers.details.norms import Norms
from undying.papers.plan import make_plan
from undying.papers.results import run_result
from undying.papers.tables import TABLES

GRADIENTS = TABLES["barelu-gradients"]


@pytest.fixture(scope="module")
def plan():
    """The smoke scale's runs, with enough seeds to be judged."""
    made = make_plan(GRADIENTS.scales["smoke"], (5,))
    return replace(made, scale=replace(made.scale, answers=True))


def lines(planned):
    """The norms of layer i are (i + 1) times those of a run, at three steps an epoch: twice as large with ReLU, and larger
    with the seed."""
    size = (2 if planned.arm == "relu" else 1) * (1 + planned.config.seed)
    norms = {
        f"{i}.{name}": {
            "gradient": [(i + 1) * size * s for s in (1, 2, 3)],
            "update": [0.5 * size, None, 1.5 * size],
        }
        for i in range(2)
        for name in ("weight", "bias")
    }
    whole = {"gradient_norm": 4 * size, "update_norm": size}
    return [{"epoch": 0}, *({"epoch": e, "norms": norms, **whole} for e in (1, 2))]


def test_norms_by_layer_are_ratios_paired_by_seed(plan):
    """Twice those of the first arm whatever the seed: no spread, and the distribution of every step of every seed."""
    results = planted.results(plan, lambda run: 0.5, epochs=lines)
    found = Norms.read(plan.scale.tasks[0], plan.scale, results, None)  # no file is read again
    assert list(found.arms) == list(GRADIENTS.scales["smoke"].tasks[0].arms)
    assert found.against == "leaky_relu"
    relu = found.arms["relu"]
    assert list(relu.layers["gradient"]) == ["0.weight", "1.weight"]
    for kind in ("gradient", "update"):
        for ratio in relu.ratios[kind].values():
            assert ratio.n == 5
            assert [ratio.value, ratio.low, ratio.high] == pytest.approx([math.log(2)] * 3)
        assert all(ratio.value == 0 for ratio in found.arms["barelu"].ratios[kind].values())
    assert len(relu.layers["gradient"]["0.weight"]) == 5 * 2 * 3
    assert len(relu.layers["update"]["0.weight"]) == 5 * 2 * 2  # one of three was not finite
    median = 1 + sorted(plan.seeds["small_cnn"])[2]
    assert relu.curves == {"gradient": [8 * median] * 2, "update": [2 * median] * 2}


def test_the_claims_of_norms_are_judged_as_ratios(plan):
    """A third less is supported. No difference at all, which eps = 0 has by its making, is not what the source says."""
    size = {"barelu:eps=0.01": 1 - 0.311, "leaky_relu": 1, "barelu": 1}

    def log(run):
        return math.log(size.get(run.arm, 1)) + 0.001 * (run.config.seed % 3) * ("eps" in run.arm) - 20

    results = planted.results(plan, lambda run: 0.5, gradient=log, update=lambda run: math.nan)
    found = analyze(GRADIENTS, "small", plan, results).claims
    verdicts = {(one.claim.arm, one.claim.metric): (one.verdict, one.difference) for one in found}
    assert verdicts["barelu", "gradient"][0] == "not supported"
    assert verdicts["barelu", "gradient"][1].value == 0
    verdict, difference = verdicts["barelu:eps=0.01", "gradient"]
    assert verdict == "supported"
    assert math.expm1(difference.value) == pytest.approx(-0.311, abs=0.002)
    assert verdicts["barelu", "update"] == ("cannot tell at this scale", None)


def test_an_outcome_has_the_mean_norms_of_the_epochs_that_have_any(plan):
    sites = [{"name": "a", "units": 4, "silent": 1, "dead": 1, "dormant": 1}]
    whole = {"test_accuracy": 0.5, "validation_accuracy": 0.5, "weights_sha256": "x", "sites": sites, "sparsity": 0.5}
    epochs = [{"epoch": 0, **whole}]
    epochs += [
        {"epoch": i, "gradient_norm": g, "update_norm": None, **whole} for i, g in enumerate((2.0, 4.0, None), 1)
    ]
    found = run_result(plan.runs[0], Run(plan.runs[0].config, "diverged", 1.0, epochs, {}), 0.1)
    assert found.gradient == pytest.approx(math.log(3))
    assert math.isnan(found.update)


@pytest.mark.parametrize("name", ["full", "small", "smoke"])
def test_the_gradients_are_of_the_runs_of_barelu_cifar10(name):
    [mine], [theirs] = (TABLES[table].scales[name].tasks for table in ("barelu-gradients", "barelu-cifar10"))
    assert replace(mine, stages=()) == replace(theirs, stages=())
    assert mine.keep == ("norms",)
    assert set(mine.arms) <= set(theirs.arms)
