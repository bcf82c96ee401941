"""The project's targets on planted figures, and measured."""

import re

import pytest

from bench_targets import CENSUS, MEMORY, SPEED, TRAINING, check_census, check_memory, check_speed, check_training, main
from undying.bench.activations import Case
from undying.bench.census import CensusCase
from undying.bench.forms import FORMS
from undying.bench.memory import Memory
from undying.bench.timing import Ratio, Timings
from undying.bench.training import TrainingCase
from undying.surrogates import SURROGATES


def case(size, dtype="float32", threads=1, **seconds):
    return Case(size, dtype, threads, timings(seconds), {}, {})


def timings(seconds):
    return Timings({name.replace("_", " "): [value] * 6 for name, value in seconds.items()}, {})


def one(checked, text):
    (found,) = [c for c in checked if str(c.target) == text]
    return found


def test_the_worst_case_decides():
    cases = [
        case(10**6, **{"nn.ReLU": 1.0, "SUGAR_bsilu": 1.05}),
        case(10**7, threads=2, **{"nn.ReLU": 1.0, "SUGAR_bsilu": 1.2}),
    ]
    found = one(check_speed(cases), "SUGAR bsilu <= 1.1 x nn.ReLU, >= 1e6")
    assert (found.figure, found.where, found.met) == (pytest.approx(1.2), "1e7 float32 2T", False)
    assert one(check_speed(cases[:1]), "SUGAR bsilu <= 1.1 x nn.ReLU, >= 1e6").met is True


def test_sizes_and_types_that_a_target_is_not_about_do_not_count():
    cases = [
        case(10**5, **{"nn.ReLU": 1.0, "SUGAR_bsilu": 3.0, "nn.SiLU": 4.0}),
        case(10**6, dtype="bfloat16", **{"nn.ReLU": 1.0, "SUGAR_bsilu": 3.0, "nn.SiLU": 3.0}),
    ]
    assert one(check_speed(cases), "SUGAR bsilu <= 1.1 x nn.ReLU, >= 1e6").met is None
    against_silu = one(check_speed(cases), "SUGAR bsilu <= 0.9 x nn.SiLU")
    assert (against_silu.figure, against_silu.where) == (1.0, "1e6 bfloat16 1T")


def test_what_was_not_measured_is_not_met():
    assert {o.met for o in check_speed([])} == {None}
    assert {o.met for o in check_memory([])} == {None}
    assert {o.met for o in check_training([])} == {None}
    assert {o.met for o in check_census([])} == {None}


def test_memory_and_training_are_judged_on_resnet18():
    found = [
        Memory("mlp", "SUGAR bsilu", 900, 0),
        Memory("resnet18", "nn.ReLU inplace", 1000, 0),
        Memory("resnet18", "SUGAR bsilu", 1009, 0),
    ]
    assert one(check_memory(found), "SUGAR bsilu <= 1.01 x nn.ReLU inplace").met is True
    cases = [TrainingCase("resnet18", 2, timings({"nn.ReLU inplace": 1.0, "SUGAR bsilu": 1.02}))]
    assert one(check_training(cases), "SUGAR bsilu <= 1.01 x nn.ReLU inplace").where == "2T"
    assert one(check_training(cases), "SUGAR bsilu <= 1.01 x nn.ReLU inplace").met is False


def test_every_surrogate_has_a_target():
    aimed = {target.form for target in SPEED if target.to == "nn.ReLU" and target.least == 1e6}
    assert {f"SUGAR {name}" for name in SURROGATES} <= aimed


def test_every_target_names_forms_of_the_table():
    known = {form.name for form in FORMS}
    assert {name for target in (*SPEED, *MEMORY, *TRAINING) for name in (target.form, target.to)} <= known


def test_counting_is_judged_in_its_worst_network():
    def ratio(median):
        return Ratio(median, median, median, 6)

    cases = [
        CensusCase("resnet18", 1, {("census", "eval pass"): ratio(1.05), ("step, every=50", "step"): ratio(1.0)}, {}),
        CensusCase("mlp", 2, {("census", "eval pass"): ratio(1.2)}, {}),
    ]
    found = check_census(cases)
    assert [c.target for c in found] == list(CENSUS)
    assert [(c.met, c.where) for c in found] == [(False, "mlp 2T"), (None, ""), (True, "resnet18 1T"), (None, "")]


@pytest.mark.parametrize(
    ("command", "page", "row"),
    [
        (
            "activations --sizes 1000 --dtypes float32 --threads 1 --seconds 0.001 --forms BAReLU",
            "times nn.ReLU: float32, 1 thread",
            r"\| BAReLU <= 1.5 x nn.ReLU, 1e3 \| \d+\.\d{3} \| (yes|no) \| 1e3 float32 1T \|",
        ),
        (
            "memory --models mlp --batch 2 --side 3 --forms BAReLU",
            "| mlp | BAReLU |",
            r"\| SUGAR lean <= 1.01 x nn.ReLU inplace \|  \| \? \|  \|",
        ),
    ],
)
def test_the_script_measures_and_says_what_is_met(command, page, row, capsys):
    main(command.split())
    written = capsys.readouterr().out
    assert page in written
    assert re.search(row, written)
