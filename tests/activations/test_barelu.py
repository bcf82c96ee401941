"""BAReLU: the same as LeakyReLU for eps = 0, smooth at the origin for eps > 0. Transforms: test_transform_table.py."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import Tensor, nn

import closed_forms
import undying
from undying.ops.dispatch import using

AS_INTEGER = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}
every_dtype = pytest.mark.parametrize("dtype", AS_INTEGER, ids=str)


def value_and_slope(f: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().clone().requires_grad_()
    y = f(x)
    return y.detach(), torch.autograd.grad(y, x, torch.ones_like(y))[0]


def truth(function: closed_forms.Function, x: Tensor) -> Tensor:
    return torch.from_numpy(closed_forms.at(function, x.tolist()))


def test_is_no_subclass_of_relu() -> None:
    """Otherwise fusion and quantisation would take it for one."""
    assert not isinstance(undying.BAReLU(), nn.ReLU)


def test_repr() -> None:
    assert repr(undying.BAReLU(0.2, 0.1, inplace=True)) == "BAReLU(alpha=0.2, eps=0.1, inplace=True)"


# ---------------------------------------------------------------------------------------------------------------------
# eps = 0


@every_dtype
@pytest.mark.parametrize("alpha", [0.01, 0.3, 1.0])
def test_without_eps_equals_leaky_relu(dtype: torch.dtype, alpha: float) -> None:
    info = torch.finfo(dtype)
    special = [0.0, info.tiny * info.eps, info.tiny, 1e-4, 1.0, 300.0, info.max, torch.inf, torch.nan]
    x = torch.tensor(special + [-x for x in special], dtype=dtype).repeat(5)
    ours, theirs = value_and_slope(undying.BAReLU(alpha), x), value_and_slope(nn.LeakyReLU(alpha), x)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.view(AS_INTEGER[dtype]), b.view(AS_INTEGER[dtype]))


@given(
    numbers=st.lists(st.floats(), max_size=40),
    dtype=st.sampled_from(list(AS_INTEGER)),
    alpha=st.floats(0, 1, exclude_min=True),
)
def test_without_eps_equals_leaky_relu_for_any_number(numbers: list[float], dtype: torch.dtype, alpha: float) -> None:
    x = torch.tensor(numbers, dtype=dtype)
    ours, theirs = undying.barelu(x, alpha), F.leaky_relu(x, alpha)
    assert torch.equal(ours.view(AS_INTEGER[dtype]), theirs.view(AS_INTEGER[dtype]))


@every_dtype
@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_without_slope_it_is_relu_for_x_up_to_0(dtype: torch.dtype, eps: float) -> None:
    """Where alpha times x is -0.0, or NaN at -inf; with an infinite incoming gradient too."""
    info = torch.finfo(dtype)
    special = [0.0, info.tiny, 1.0, info.max, torch.inf]
    x = torch.tensor([-x for x in special] + ([] if eps else [*special, torch.nan]), dtype=dtype).repeat(5)
    for path in ("auto", "reference"):
        with using(path):
            for f in (undying.BAReLU(0.0, eps), undying.BAReLU(0.0, eps, inplace=True)):
                for incoming in (1.0, torch.inf):
                    pairs = []
                    for g in (f, torch.relu):
                        leaf = x.clone().requires_grad_()
                        y = g(leaf * 1)
                        pairs.append((y, *torch.autograd.grad(y, leaf, torch.full_like(y, incoming))))
                    for a, b in zip(*pairs, strict=True):
                        assert torch.equal(a.detach().view(AS_INTEGER[dtype]), b.detach().view(AS_INTEGER[dtype]))


@pytest.mark.parametrize(("eps", "inplace"), [(0.0, False), (0.0, True), (1.0, False)])
def test_annealing_compiles_three_times_at_most(eps: float, inplace: bool) -> None:
    """The first values, those that change, and ReLU at the end."""
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    module = undying.BAReLU(0.1, eps, inplace)
    compiled = torch.compile(lambda x: module(x * 1), backend="aot_eager", fullgraph=True)
    schedule = undying.StrengthSchedule(module, 10)
    for _ in range(11):
        x = torch.linspace(-3, 3, 25).requires_grad_()
        (slope,) = torch.autograd.grad(compiled(x).sum(), x)
        _, expected = value_and_slope(lambda x: module(x * 1), x)
        torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-6)
        schedule.step()
    assert 1 <= torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 3


def test_what_is_set_is_checked() -> None:
    module = undying.BAReLU()
    for name, value in (("alpha", 1.5), ("alpha", torch.nan), ("eps", 1e-31), ("eps", -1.0)):
        with pytest.raises(ValueError, match=name):
            setattr(module, name, value)
    assert repr(module) == "BAReLU(alpha=0.01)"


@every_dtype
def test_inplace_overwrites_x_and_keeps_the_gradient(dtype: torch.dtype) -> None:
    x = torch.linspace(-3, 3, 25).to(dtype)
    expected_y, expected_slope = value_and_slope(undying.BAReLU(), x)
    leaf = x.clone().requires_grad_()
    pre = leaf * 1
    y = undying.BAReLU(inplace=True)(pre)
    assert y.data_ptr() == pre.data_ptr()
    assert torch.equal(y, expected_y)
    assert torch.equal(torch.autograd.grad(y, leaf, torch.ones_like(y))[0], expected_slope)


def test_inplace_is_a_no_op_with_eps() -> None:
    x = torch.linspace(-3, 3, 25)
    kept = x.clone()
    y = undying.barelu(x, eps=0.1, inplace=True)
    assert torch.equal(x, kept)
    assert torch.equal(y, undying.barelu(x, eps=0.1))


# ---------------------------------------------------------------------------------------------------------------------
# eps > 0

EPS = (1e-30, 1e-8, 0.1, 1.0, 1e6)
every_eps = pytest.mark.parametrize("eps", EPS)


@every_dtype
@every_eps
def test_is_continuous_at_the_origin(dtype: torch.dtype, eps: float) -> None:
    tiny = torch.finfo(dtype).tiny
    assert undying.barelu(torch.tensor([-0.0, 0.0], dtype=dtype), eps=eps).tolist() == [0.0, 0.0]
    below, above = undying.barelu(torch.tensor([-tiny, tiny], dtype=dtype), eps=eps).double().tolist()
    assert -tiny <= below <= 0 <= above <= tiny


@every_eps
def test_slope_rises_from_0_to_1(eps: float) -> None:
    x = eps**0.5 * torch.logspace(-12, 12, 400, dtype=torch.float64)
    slope = value_and_slope(undying.BAReLU(eps=eps), x)[1]
    assert slope[0] < 1e-11
    assert abs(slope[-1] - 1) <= 1e-15
    assert slope.max() <= 1 + 1e-15
    rising = slope < 1 - 1e-12
    assert (slope[rising].diff() > 0).all()
    assert (value_and_slope(undying.BAReLU(0.2, eps), -x)[1] == 0.2).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("eps", [1e-8, 0.1, 1.0])
def test_nothing_cancels(dtype: torch.dtype, eps: float) -> None:
    """Small in relative error too, where sqrt(x^2 + eps) - sqrt(eps) as written has no digit left."""
    info = torch.finfo(dtype)
    x = torch.logspace(-17, 18, 300, dtype=torch.float64).to(dtype)
    form = closed_forms.barelu(eps=eps)
    for actual, function in zip(value_and_slope(undying.BAReLU(eps=eps), x), (form.value, form.slope), strict=True):
        expected = truth(function, x)
        assert ((actual.double() - expected).abs() <= 8 * info.eps * expected).all()
    written = torch.sqrt(x**2 + eps) - eps**0.5
    smallest = truth(form.value, x)[0]
    assert (written[0] - smallest).abs() >= smallest


@every_dtype
@pytest.mark.parametrize("eps", [1e-30, 0.1, 1e6])
def test_neither_overflows_nor_underflows(dtype: torch.dtype, eps: float) -> None:
    info = torch.finfo(dtype)
    x = torch.tensor([1e-4, 1.0, 300.0, 1e20, info.max / 2, info.max, torch.inf], dtype=dtype)
    form = closed_forms.barelu(eps=eps)
    for actual, function in zip(value_and_slope(undying.BAReLU(eps=eps), x), (form.value, form.slope), strict=True):
        expected = truth(function, x)
        finite = expected.isfinite()
        # One rounding of the type, or the spacing of its subnormal numbers.
        bound = (8 * info.eps * expected.abs()).clamp(min=info.tiny * info.eps)
        assert (actual.double() - expected).abs()[finite].le(bound[finite]).all()
        assert torch.equal(actual[~finite].double(), expected[~finite])


@given(x=st.floats(-1e30, 1e30), eps=st.sampled_from(EPS), alpha=st.floats(0, 1))
def test_any_number(x: float, eps: float, alpha: float) -> None:
    point, form = torch.tensor([x], dtype=torch.float64), closed_forms.barelu(alpha, eps)
    for actual, function in zip(
        value_and_slope(undying.BAReLU(alpha, eps), point), (form.value, form.slope), strict=True
    ):
        torch.testing.assert_close(actual, truth(function, point), rtol=2e-15, atol=1e-300)


# ---------------------------------------------------------------------------------------------------------------------
# The form as it is published, and what is wrong with it


def literal(x: Tensor) -> Tensor:
    return torch.where(x > 0, torch.sqrt(torch.maximum(x, torch.zeros_like(x)) ** 2), 0.01 * x)


@pytest.mark.parametrize(
    ("dtype", "x", "wrong"),
    [
        (torch.float16, 300.0, torch.inf),
        (torch.float16, 1e-4, 0.0),
        (torch.float32, 1e20, torch.inf),
        (torch.float32, 1e-25, 0.0),
    ],
)
def test_literal_form_loses_numbers_that_ours_keeps(dtype: torch.dtype, x: float, wrong: float) -> None:
    point = torch.tensor(x, dtype=dtype)
    assert literal(point) == wrong
    assert undying.barelu(point) == point


def test_literal_form_has_no_gradient_at_0() -> None:
    x = torch.zeros(1)
    assert value_and_slope(literal, x)[1].isnan()
    assert value_and_slope(undying.BAReLU(), x)[1] == torch.tensor(0.01)


def test_literal_form_is_leaky_relu_elsewhere() -> None:
    """So the root changes nothing, and LeakyReLU(0.01) is what BAReLU with eps = 0 is to be compared with."""
    x = torch.linspace(-5, 5, 100, dtype=torch.float64)
    torch.testing.assert_close(literal(x), F.leaky_relu(x, 0.01), rtol=1e-15, atol=0)
