"""The kernels, of every instruction set and Triton's: the rows of the transform table that reach them, and their edges."""

from __future__ import annotations

import pytest
import torch

import closed_forms
import undying
from activations import test_transform_table as table
from kernels import OPERATORS, assert_near, expected, library, numbers
from undying.ops import native

pytestmark = [
    pytest.mark.usefixtures("each_kernel"),
    # torch itself warns, at its first forward-mode derivative.
    pytest.mark.filterwarnings("ignore:`torch.jit.script(_method)?` is (deprecated|not supported)"),
]

DTYPES = native.DTYPES
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
CASES = [case for case in table.CASES if (case.is_relu and "custom" not in case.name) or case.name == "barelu-0.1"]
every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_operator = pytest.mark.parametrize("name", OPERATORS)


# ---------------------------------------------------------------------------------------------------------------------
# The transform table


@pytest.mark.parametrize("case", [CASES[0], CASES[-1]], ids=str)
def test_dtype_and_layout(case: table.Case) -> None:
    table.assert_dtypes_and_layouts(case, DTYPES)


@every_case
def test_special_values(case: table.Case) -> None:
    table.assert_special_values(case, DTYPES, (table.backward, table.backward_of_scaled_loss))


# ---------------------------------------------------------------------------------------------------------------------
# Numbers


@pytest.mark.parametrize("name", closed_forms.SURROGATES)
@pytest.mark.parametrize("region", ["all", "negative"])
def test_within_4_ulp_of_the_closed_form(name: str, region: str) -> None:
    x = torch.cat([torch.linspace(-8, 8, 1601), torch.linspace(-125, 125, 251)])
    form = closed_forms.sugar(closed_forms.SURROGATES[name], region)
    slope = table.backward(undying.SUGAR(name, region=region), x)
    assert_near(slope, table.truth_at(form.slope, x))


@every_operator
@every_dtype
def test_a_number_does_not_depend_on_its_neighbours(name: str, dtype: torch.dtype) -> None:
    """Where one of them is out of the reach of the quicker forms, all are computed again."""
    count = 61 if library() is native else 5  # Triton has no quicker forms, and its interpreter takes some ms a call
    x = torch.cat([torch.linspace(-120, 120, count), torch.tensor([1e-30, -1e-30, 7.9, -7.9, 1e30, -1e30, -torch.inf])])
    x = x.to(dtype)
    for g in (torch.ones_like(x), torch.full_like(x, torch.inf)):
        together = OPERATORS[name][0](g, x)
        alone = torch.cat([OPERATORS[name][0](a, b) for a, b in zip(g.split(1), x.split(1), strict=True)])
        assert torch.equal(together, alone)
        assert not together.isnan().any()


@pytest.mark.parametrize(
    ("surrogate", "truth"),
    [
        (undying.surrogate("bsilu", a=-3.0), closed_forms.bsilu(-3.0)),
        (undying.surrogate("nelu", a=0.5), closed_forms.nelu(0.5)),
        (undying.surrogate("leaky_relu", slope=-0.2), closed_forms.leaky_relu(-0.2)),
        (undying.surrogate("elu", alpha=2.5), closed_forms.elu(2.5)),
        (undying.surrogate("helu", alpha=1.5), closed_forms.helu(1.5)),  # x has -1.5, where it jumps
        (undying.surrogate("frigorelu", alpha=-0.2), closed_forms.frigorelu(-0.2)),
    ],
    ids=["bsilu", "nelu", "leaky_relu", "elu", "helu", "frigorelu"],
)
@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_parameters_and_strength(surrogate: undying.Surrogate, truth: closed_forms.Form, strength: float) -> None:
    x = torch.linspace(-20, 20, 401)
    slope = table.backward(undying.SUGAR(surrogate, strength=strength), x)
    assert_near(slope, table.truth_at(closed_forms.sugar(truth, "all", strength).slope, x), ulp=8)


@every_dtype
@pytest.mark.parametrize("eps", [1e-30, 1e-8, 0.1, 1e6])
def test_barelu(dtype: torch.dtype, eps: float) -> None:
    info = torch.finfo(dtype)
    x = torch.cat([torch.logspace(-17, 18, 300, dtype=torch.float64), torch.tensor([1e19, 1e30, info.max])])
    x = torch.cat([x, -x]).to(dtype)
    x = x[x.isfinite()].requires_grad_()
    y = undying.barelu(x, 0.2, eps)
    assert type(y.grad_fn).__name__ == "KernelBAReLUBackward"
    form = closed_forms.barelu(0.2, eps)
    slope = torch.autograd.grad(y, x, torch.ones_like(y))[0]
    for actual, function in ((y.detach(), form.value), (slope, form.slope)):
        truth = table.truth_at(function, x)
        bound = (8 * info.eps * truth.abs()).clamp(min=info.tiny * info.eps)
        assert ((actual.double() - truth).abs() <= bound).all()


@every_operator
def test_infinite_gradient(name: str) -> None:
    """As relu's: where it lets nothing through, nothing comes through; where the derivative is not 0, infinity does."""
    x = torch.tensor([-torch.inf, -1e38, -1.0, -0.0, 0.0, 1.0, 1e38, torch.inf])
    actual = OPERATORS[name][0](torch.full_like(x, torch.inf), x)
    slope = OPERATORS[name][0](torch.ones_like(x), x)
    assert torch.equal(actual, torch.where(slope == 0, 0.0, slope * torch.inf))
    assert not actual.isnan().any()


@pytest.mark.parametrize("module", [undying.SUGAR(strength=0.0), undying.BAReLU(0.0, 1e-30)], ids=["sugar", "barelu"])
def test_infinite_gradient_where_nothing_comes_through(module: torch.nn.Module) -> None:
    x = numbers(40).clamp(-3, 3).requires_grad_()
    y = module(x)
    (actual,) = torch.autograd.grad(y, x, torch.full_like(y, torch.inf))
    assert torch.equal(actual, torch.where(x > 0, torch.inf, 0.0))


# ---------------------------------------------------------------------------------------------------------------------
# Memory


@every_operator
@every_dtype
def test_any_size(name: str, dtype: torch.dtype) -> None:
    # Those of vectors and threads; those of Triton's blocks, which its interpreter computes at some ms each.
    sizes = [0, 1, 2, 1023, 1024, 1025, 2500] if library() is not native else [*range(40), 63, 64, 65, 1000, 40_001]
    for size in sizes:
        g, x = numbers(size, dtype=dtype, seed=1).clamp(-1, 1), numbers(size, dtype=dtype)
        assert_near(OPERATORS[name][0](g, x), expected(name, g, x))


@every_dtype
def test_any_place_in_a_storage_and_nothing_beside_it(dtype: torch.dtype) -> None:
    for offset in range(4):
        for size in (1, 7, 15, 16, 17, 33):
            x = numbers(size + offset, dtype=dtype)[offset:]
            g = numbers(size + offset, dtype=dtype, seed=1)[offset:]
            assert_near(OPERATORS["bsilu"][0](g, x), expected("bsilu", g, x))


STRIDES = {
    "contiguous": lambda t: t.contiguous(),
    "channels_last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "permuted": lambda t: t.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
    "expanded": lambda t: t[:1, :1].expand(t.shape),
    "strided": lambda t: torch.stack([t, t], -1).flatten(-2)[..., ::2],
    "size 1": lambda t: t[:, :1].clone().as_strided((2, 1, 5, 6), (30, 7, 6, 1)).expand(t.shape),
}


@pytest.mark.parametrize("of_x", STRIDES)
def test_gradient_of_another_memory_format(of_x: str) -> None:
    x = STRIDES[of_x](numbers(2, 4, 5, 6))
    for of_gradient, strided in STRIDES.items():
        with table.of(of_gradient):
            g = strided(numbers(2, 4, 5, 6, seed=1))
            actual = OPERATORS["bsilu"][0](g, x)
            assert actual.stride() == torch.empty_like(x).stride()
            assert_near(actual, expected("bsilu", g, x))


def test_sum_and_backward() -> None:
    """Its gradient is one number, expanded."""
    x = numbers(3, 5).requires_grad_()
    undying.sugar(x).sum().backward()
    assert_near(x.grad, expected("bsilu", torch.ones(3, 5), x))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads(threads: int) -> None:
    size = 100_003 if library() is native else 2500  # Triton's interpreter has no threads of torch's
    before, g, x = torch.get_num_threads(), numbers(size, seed=1), numbers(size)
    one = OPERATORS["mish"][0](g, x)
    torch.set_num_threads(threads)
    try:
        assert torch.equal(OPERATORS["mish"][0](g, x), one)
    finally:
        torch.set_num_threads(before)


def test_a_kernel_computes_what_it_says() -> None:
    """The rows above would pass without any kernel; here it is seen at work."""
    x = numbers(10).requires_grad_()
    assert undying.sugar(x).grad_fn.kernel.operator.namespace == library().NAMESPACE
    with torch.profiler.profile() as profile:
        undying.sugar(x).sum().backward()
        undying.barelu(x, 0.2, 0.1).sum().backward()
    used = {event.key for event in profile.key_averages()}
    assert {f"{library().NAMESPACE}::{name}" for name in ("bsilu_backward", "barelu", "barelu_backward")} <= used


def _zeros(x: torch.Tensor) -> torch.Tensor:
    return torch._efficientzerotensor(x.shape, dtype=x.dtype)


@pytest.mark.parametrize(
    "make",
    [
        torch.clone,
        lambda x: torch._neg_view(-x),
        _zeros,
        lambda x: x.new_tensor(0.5).expand_as(x),
        lambda x: x.t().contiguous().t(),
    ],
    ids=["plain", "lazily negated", "zeros that are not written down", "expanded", "transposed"],
)
@pytest.mark.parametrize("dtype", native.DTYPES, ids=str)
def test_gradients_that_are_more_than_their_memory(make, dtype):
    """Kernels are called on addresses where a tensor is just that; everything else takes the long way."""
    x = numbers(5, 7, dtype=dtype).requires_grad_()
    gradient = make(numbers(5, 7, dtype=dtype, seed=1))
    (actual,) = torch.autograd.grad(undying.sugar(x), x, gradient)
    assert_near(actual, expected("bsilu", gradient + 0, x))


def test_what_saved_tensor_hooks_give_back_may_be_anything():
    """Also a tensor of another size: an error, as from any other operation, not a read beyond its end."""
    x = numbers(5, 7).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x[:1].contiguous()):
        y = undying.sugar(x)
    with pytest.raises(RuntimeError, match="shape"):
        y.backward(torch.ones_like(y))
