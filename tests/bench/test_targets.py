"""Targets judged on planted figures."""

import pytest

from undying.bench.activations import Case
from undying.bench.forms import FORMS
from undying.bench.memory import Memory
from undying.bench.targets import MEMORY, SPEED, TRAINING, judge_memory, judge_speed, judge_training
from undying.bench.timing import Timings
from undying.bench.training import TrainingCase
from undying.surrogates import SURROGATES


def case(size, dtype="float32", threads=1, **seconds):
    return Case(size, dtype, threads, timings(seconds), {}, {})


def timings(seconds):
    return Timings({name.replace("_", " "): [value] * 6 for name, value in seconds.items()}, {})


def outcome(outcomes, text):
    (found,) = [o for o in outcomes if str(o.target) == text]
    return found


def test_the_worst_case_decides():
    cases = [
        case(10**6, **{"nn.ReLU": 1.0, "SUGAR_bsilu": 1.05}),
        case(10**7, threads=2, **{"nn.ReLU": 1.0, "SUGAR_bsilu": 1.2}),
    ]
    found = outcome(judge_speed(cases), "SUGAR bsilu <= 1.1 x nn.ReLU, >= 1e6")
    assert (found.figure, found.where, found.met) == (pytest.approx(1.2), "1e7 float32 2T", False)
    assert outcome(judge_speed(cases[:1]), "SUGAR bsilu <= 1.1 x nn.ReLU, >= 1e6").met is True


def test_sizes_and_types_that_a_target_is_not_about_do_not_count():
    cases = [
        case(10**5, **{"nn.ReLU": 1.0, "SUGAR_bsilu": 3.0, "nn.SiLU": 4.0}),
        case(10**6, dtype="bfloat16", **{"nn.ReLU": 1.0, "SUGAR_bsilu": 3.0, "nn.SiLU": 3.0}),
    ]
    assert outcome(judge_speed(cases), "SUGAR bsilu <= 1.1 x nn.ReLU, >= 1e6").met is None
    against_silu = outcome(judge_speed(cases), "SUGAR bsilu <= 0.9 x nn.SiLU")
    assert (against_silu.figure, against_silu.where) == (1.0, "1e6 bfloat16 1T")


def test_what_was_not_measured_is_not_met():
    assert {o.met for o in judge_speed([])} == {None}
    assert {o.met for o in judge_memory([])} == {None}
    assert {o.met for o in judge_training([])} == {None}


def test_memory_and_training_are_judged_on_resnet18():
    found = [
        Memory("mlp", "SUGAR bsilu", 900, 0),
        Memory("resnet18", "nn.ReLU inplace", 1000, 0),
        Memory("resnet18", "SUGAR bsilu", 1009, 0),
    ]
    assert outcome(judge_memory(found), "SUGAR bsilu <= 1.01 x nn.ReLU inplace").met is True
    cases = [TrainingCase("resnet18", 2, timings({"nn.ReLU inplace": 1.0, "SUGAR bsilu": 1.02}))]
    assert outcome(judge_training(cases), "SUGAR bsilu <= 1.01 x nn.ReLU inplace").where == "2T"
    assert outcome(judge_training(cases), "SUGAR bsilu <= 1.01 x nn.ReLU inplace").met is False


def test_every_surrogate_has_a_target():
    aimed = {target.form for target in SPEED if target.to == "nn.ReLU" and target.least == 1e6}
    assert {f"SUGAR {name}" for name in SURROGATES} <= aimed


def test_every_target_names_forms_of_the_table():
    known = {form.name for form in FORMS}
    assert {name for target in (*SPEED, *MEMORY, *TRAINING) for name in (target.form, target.to)} <= known
