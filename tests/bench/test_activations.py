"""Every form on a small tensor: that the right thing is measured, not how long it takes."""

import pytest
import torch

import closed_forms
from inductor import HAS_COMPILER
from undying._base.errors import UndyingError
from undying.bench.activations import measure_activations
from undying.bench.forms import FORMS, LIMIT
from undying.bench.public import FunctionSUGAR, InjectedSUGAR, LiteralBAReLU
from undying.bench.settings import ActivationSettings


@pytest.fixture(scope="module")
def case():
    settings = ActivationSettings(sizes=(1000,), dtypes=("float32",), threads=(1,), seconds=1e-3, no_compiled=True)
    (found,) = measure_activations(settings, lambda _: None)
    return found


def test_every_form_and_the_limit_are_timed_in_the_same_rounds(case):
    assert set(case.timings.samples) == {LIMIT, *(form.name for form in FORMS if form.alone and not form.compiled)}
    assert {len(samples) for samples in case.timings.samples.values()} == {case.ratio("nn.SiLU").n}
    assert case.ratio("nn.ReLU").value == 1
    assert case.ratio("SUGAR compiled") is None


def test_bytes_kept_by_forms_whose_need_is_known(case):
    one = 4 * 1000
    known = {"nn.ReLU": one, "nn.ReLU inplace": one, "nn.SiLU": one, "Function SUGAR": one, "BAReLU inplace": one}
    assert {name: case.kept[name] for name in known} == known
    # x + a, sigmoid(x) and relu's mask are not all that the literal forms keep, but the least.
    assert case.kept["injected SUGAR"] >= 2 * one


def test_the_node_shows_what_computes_the_backward_pass(case):
    assert case.nodes["nn.ReLU"] == "ReluBackward0"
    assert case.nodes["Function SUGAR"] == "_SugarBackward"
    assert LIMIT not in case.nodes


def test_threads_are_put_back_even_if_measuring_is_given_up():
    before = torch.get_num_threads()
    settings = ActivationSettings(
        sizes=(10, 10), dtypes=("float32",), threads=(before + 1,), seconds=1e-3, forms=("nn.SiLU",)
    )
    cases = measure_activations(settings, lambda _: None)
    assert next(cases).threads == before + 1
    cases.close()
    assert torch.get_num_threads() == before


@pytest.mark.skipif(not HAS_COMPILER, reason="inductor needs a C++ compiler")
def test_compiled_forms_are_compiled():
    settings = ActivationSettings(
        sizes=(64,), dtypes=("float32",), threads=(1,), seconds=1e-3, forms=("SUGAR compiled",)
    )
    (found,) = measure_activations(settings, lambda _: None)
    assert found.nodes["SUGAR compiled"] == "CompiledFunctionBackward"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": (0.0,)}, "--sizes must be whole numbers of at least 1, not 0.0"),
        ({"sizes": (1.5,)}, "--sizes must be whole numbers"),
        ({"dtypes": ("int8",)}, "--dtypes must be some of float32, bfloat16, float16, float64, not int8"),
        ({"threads": (0,)}, "--threads must be whole numbers of at least 1, not 0"),
        ({"seconds": 0.0}, "--seconds must be above 0, not 0"),
        ({"forms": ("SUGAR",)}, "unknown --forms SUGAR; known: nn.ReLU, "),
    ],
)
def test_settings_that_cannot_be_measured_are_named(change, message):
    with pytest.raises(UndyingError, match=message):
        list(measure_activations(ActivationSettings(**change), print))


@pytest.mark.parametrize("form", [FunctionSUGAR, InjectedSUGAR])
def test_the_public_forms_of_sugar_are_sugar(form):
    x = torch.linspace(-8, 8, 101, dtype=torch.float64, requires_grad=True)
    y = form()(x)
    torch.testing.assert_close(y, x.relu(), atol=1e-15, rtol=0)
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(
        grad, torch.from_numpy(closed_forms.at(closed_forms.bsilu().slope, x.tolist())), atol=1e-12, rtol=0
    )


def test_the_literal_barelu_is_barelu():
    x = torch.linspace(-8, 8, 100, dtype=torch.float64, requires_grad=True)
    y = LiteralBAReLU()(x)
    torch.testing.assert_close(y, torch.nn.functional.leaky_relu(x, 0.01), atol=1e-15, rtol=0)
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(grad, torch.where(x > 0, torch.ones_like(x), 0.01), atol=1e-12, rtol=0)
