"""Numbers of a run, and the choice of a rate against trying them all."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undying.lab.recipe import Recipe
from undying.lab.runs.kind import Run
from undying.papers.plan import make_plan
from undying.papers.results import choose_rate, run_result
from undying.papers.table import Scale, Stage, Task

SITES = [
    {"name": "a", "units": 10, "silent": 5, "dead": 1, "dormant": 0},
    {"name": "b", "units": 30, "silent": 3, "dead": None, "dormant": 0},
    {"name": "c", "units": 60, "silent": None, "dead": None, "dormant": 0},
]


@pytest.fixture(scope="module")
def planned():
    stage = Stage(("relu",), (0.1,))
    return make_plan(Scale((Task("t", "digits", "mlp", (stage,), (0,), 2, 0.1, "sgd", 16, Recipe()),))).runs[0]


def epoch(**more):
    return {"sparsity": 0.5, "sites": SITES, "test_accuracy": 0.7, "validation_accuracy": 0.6, **more}


def test_a_run_after_its_last_epoch(planned):
    run = Run(planned.config, "finished", 3.0, [epoch(test_accuracy=0.1), epoch(weights_sha256="w")], {"torch": "2"})
    found = run_result(planned, run, 0.1)
    assert (found.id, found.accuracy, found.validation, found.weights) == (planned.config.id, 0.7, 0.6, "w")
    assert found.silent == pytest.approx(8 / 40)  # where it is known
    assert found.dead == pytest.approx(1 / 10)


def test_a_diverged_run_counts_as_guessing_with_the_units_it_had(planned):
    last = {"test_accuracy": None, "validation_accuracy": None, "weights_sha256": "w"}
    run = Run(planned.config, "diverged", 3.0, [epoch(), epoch(sparsity=0.9), last], {})
    found = run_result(planned, run, 0.01)
    assert (found.status, found.accuracy, found.validation, found.sparsity) == ("diverged", 0.01, 0.01, 0.9)


def test_what_is_unknown_of_units_is_no_number(planned):
    tanh = [{**site, "silent": None, "dead": None} for site in SITES]
    run = Run(planned.config, "finished", 3.0, [epoch(sites=tanh, weights_sha256="w")], {})
    assert math.isnan(run_result(planned, run, 0.1).silent)
    never = {"test_accuracy": None, "validation_accuracy": None, "weights_sha256": "w"}
    found = run_result(planned, Run(planned.config, "diverged", 3.0, [never], {}), 0.1)
    assert all(map(math.isnan, (found.silent, found.dead, found.sparsity)))


# Accuracies are counts over counts, so ties are common.
tables = st.dictionaries(
    st.sampled_from([0.0003, 0.001, 0.003, 0.01]),
    st.dictionaries(st.integers(0, 4), st.integers(0, 5)),
)


@given(tables)
def test_the_rate_is_that_of_trying_all(counts):
    begun = {rate: of for rate, of in counts.items() if of}
    common = [seed for seed in range(5) if all(seed in of for of in begun.values())]
    best = None
    if len(begun) > 1 and common:
        for rate in sorted(begun):
            mean = sum(Fraction(begun[rate][seed], 7) for seed in common) / len(common)
            if best is None or mean > best[0]:
                best = mean, rate
    found = choose_rate({rate: {seed: n / 7 for seed, n in of.items()} for rate, of in counts.items()})
    assert found == (best[1] if best else None)
