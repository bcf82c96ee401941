"""The operators by themselves, as somebody may call them: checked by torch, and differentiable."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import undying
from activations import test_transform_table as table
from kernels import OPERATORS, arguments, assert_near, expected, library, numbers
from undying.ops import native

# torch itself warns, at its first use of inductor.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script(_method)?` is (deprecated|not supported)",
    "ignore:The .grad attribute of a Tensor that is not a leaf",  # within opcheck
)
every_operator = pytest.mark.parametrize("name", OPERATORS)
both_libraries = pytest.mark.usefixtures("each_library")


@both_libraries
@every_operator
def test_opcheck(name: str) -> None:
    g, x = numbers(3, 5, seed=1).requires_grad_(), numbers(3, 5).requires_grad_()
    # What compiling makes of an operator cannot be seen in Triton's interpreter: test_triton.py looks at that.
    utilities = ("test_schema", "test_autograd_registration", "test_faketensor")
    if library() is native:
        utilities += ("test_aot_dispatch_dynamic",)
    operator = library().operator
    if name == "barelu":
        torch.library.opcheck(operator("barelu_backward"), (g, x, 0.2, 0.1), test_utils=utilities)
        torch.library.opcheck(operator("barelu"), (x, 0.2, 0.1), test_utils=utilities)
    else:
        torch.library.opcheck(operator(f"{name}_backward"), (g, x, *arguments(name)), test_utils=utilities)


@both_libraries
@every_operator
def test_derivative_of_the_operator(name: str) -> None:
    """Not the zeros that an operator without a derivative gives."""
    g, x = numbers(50, seed=1).requires_grad_(), numbers(50).requires_grad_()
    outer = numbers(50, seed=2).clamp(-1, 1)
    by_g, by_x = torch.autograd.grad(OPERATORS[name][0](g, x), (g, x), outer)

    wide = x.detach().double().requires_grad_(), g.detach().double().requires_grad_()
    with undying.ops.using("composite"):
        (slope,) = torch.autograd.grad(OPERATORS[name][1](wide[0]), wide[0], wide[1], create_graph=True)
    truth = torch.autograd.grad(slope, (wide[1], wide[0]), outer.double())
    # The reference implementation's, through torch's own derivatives: that of tanh's GELU is up to 8.7 ulp off under AVX2.
    assert_near(by_g, truth[0], ulp=9 if name == "gelu_tanh" else 4)
    torch.testing.assert_close(by_x.double(), truth[1], rtol=1e-4, atol=1e-5)
    straight = ("leaky_relu", "helu", "frigorelu")  # in pieces, whose second derivative is 0
    assert (by_x != 0).any() or name in straight


@both_libraries
def test_batched_gradients() -> None:
    """torch.autograd.grad(is_grads_batched=True) runs the backward pass under vmap."""
    x, outer = numbers(6).requires_grad_(), torch.eye(6)
    (rows,) = torch.autograd.grad(undying.sugar(x), x, outer, is_grads_batched=True)
    assert_near(rows.diagonal(), expected("bsilu", torch.ones(6), x))


@both_libraries
@pytest.mark.parametrize(
    ("g", "x", "message"),
    [
        (torch.zeros(3), torch.zeros(4), "the gradient must have the shape of x"),
        (torch.zeros(3), torch.zeros(3, 1), "the gradient must have the shape of x"),
        (torch.zeros(3).half(), torch.zeros(3), "the gradient must have the type of x"),
        (torch.zeros(3).double(), torch.zeros(3).double(), "float64 is for the reference implementation"),
        (torch.zeros(3).int(), torch.zeros(3).int(), "x must be float16, bfloat16"),
    ],
)
def test_wrong_input(g: Tensor, x: Tensor, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        OPERATORS["bsilu"][0](g, x)


SERVED = [case for case in table.CASES if case.name in ("sugar-bsilu-all", "sugar-selu-negative-0.3", "barelu-0.1")]


@both_libraries
@pytest.mark.parametrize("case", SERVED, ids=str)
@pytest.mark.parametrize("transform", [*table.FIRST, *table.SECOND], ids=lambda f: f.__name__)
def test_what_a_kernel_cannot_do_goes_to_the_composite_form(case: table.Case, transform: table.Transform) -> None:
    x = table.POINTS[table.POINTS.abs() > 1e-30].float()
    truth = case.truth.curvature if transform in table.SECOND else case.truth.slope
    table.assert_near(transform(case.make(), x), table.truth_at(truth, x), x, 16 * torch.finfo(x.dtype).eps)


@both_libraries
@pytest.mark.parametrize("case", SERVED, ids=str)
@pytest.mark.parametrize("use_reentrant", [True, False], ids=["reentrant", "non-reentrant"])
def test_checkpoint(case: table.Case, use_reentrant: bool) -> None:
    module, x = case.make(), table.POINTS.float()
    slope = table.backward(lambda x: table.checkpoint(module, x, use_reentrant=use_reentrant), x)
    assert torch.equal(slope, table.backward(module, x))
