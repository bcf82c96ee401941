"""The native operators by themselves, as somebody may call them: checked by torch, and differentiable."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import undying
from activations import test_transform_table as table
from kernels import OPERATORS, arguments, assert_near, expected, numbers

# torch itself warns, at its first use of inductor.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script(_method)?` is (deprecated|not supported)",
    "ignore:The .grad attribute of a Tensor that is not a leaf",  # within opcheck
)
every_operator = pytest.mark.parametrize("name", OPERATORS)


@every_operator
def test_opcheck(name: str) -> None:
    g, x = numbers(3, 5, seed=1).requires_grad_(), numbers(3, 5).requires_grad_()
    if name == "barelu":
        torch.library.opcheck(torch.ops.undying.barelu_backward.default, (g, x, 0.2, 0.1))
        torch.library.opcheck(torch.ops.undying.barelu.default, (x, 0.2, 0.1))
    else:
        torch.library.opcheck(getattr(torch.ops.undying, f"{name}_backward").default, (g, x, *arguments(name)))


@pytest.mark.parametrize("bits", [8, 4])
def test_opcheck_of_the_codes(bits: int) -> None:
    x, codes = numbers(15), torch.zeros(15 if bits == 8 else 8, dtype=torch.uint8)
    arguments_after = (bits, *arguments("bsilu"), 9.0, 1, True, 7)
    torch.library.opcheck(torch.ops.undying.bsilu_quantise.default, (x, codes, *arguments_after))
    gradient = numbers(15, seed=1).requires_grad_()
    torch.library.opcheck(torch.ops.undying.dequantise.default, (gradient, codes, bits, 9.0, 1))


@pytest.mark.parametrize(
    ("codes", "bits", "zero", "message"),
    [
        (torch.zeros(5, dtype=torch.uint8), 8, 1, "codes must be contiguous uint8"),
        (torch.zeros(6, dtype=torch.uint8), 4, 1, "codes must be contiguous uint8"),
        (torch.zeros(6), 8, 1, "codes must be contiguous uint8"),
        (torch.zeros(6, dtype=torch.uint8), 7, 1, "bits must be 8 or 4, not 7"),
        (torch.zeros(6, dtype=torch.uint8), 8, 256, "zero must be a code of 8 bits, not 256"),
    ],
)
def test_wrong_codes(codes: Tensor, bits: int, zero: int, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        torch.ops.undying.dequantise(torch.zeros(6), codes, bits, 9.0, zero)
    with pytest.raises(RuntimeError, match=message):
        torch.ops.undying.bsilu_quantise(torch.zeros(6), codes, bits, *arguments("bsilu"), 9.0, zero, False, 0)


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
    assert_near(by_g, truth[0])
    torch.testing.assert_close(by_x.double(), truth[1], rtol=1e-4, atol=1e-5)
    assert (by_x != 0).any() or name == "leaky_relu"


def test_batched_gradients() -> None:
    """torch.autograd.grad(is_grads_batched=True) runs the backward pass under vmap."""
    x, outer = numbers(6).requires_grad_(), torch.eye(6)
    (rows,) = torch.autograd.grad(undying.sugar(x), x, outer, is_grads_batched=True)
    assert_near(rows.diagonal(), expected("bsilu", torch.ones(6), x))


@pytest.mark.parametrize(
    ("g", "x", "message"),
    [
        (torch.zeros(3), torch.zeros(4), "the gradient must have the shape of x"),
        (torch.zeros(3), torch.zeros(3, 1), "the gradient must have the shape of x"),
        (torch.zeros(3).half(), torch.zeros(3), "the gradient must have the type of x"),
        (torch.zeros(3).double(), torch.zeros(3).double(), "float64 is for the composite form"),
        (torch.zeros(3).int(), torch.zeros(3).int(), "x must be float16, bfloat16, float32 or float64"),
    ],
)
def test_wrong_input(g: Tensor, x: Tensor, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        OPERATORS["bsilu"][0](g, x)


SERVED = [case for case in table.CASES if case.name in ("sugar-bsilu-all", "sugar-selu-negative-0.3", "barelu-0.1")]


@pytest.mark.parametrize("case", SERVED, ids=str)
@table.transforms(*table.FIRST, *table.SECOND)
def test_what_a_kernel_cannot_do_goes_to_the_composite_form(case: table.Case, transform: table.Transform) -> None:
    x = table.POINTS[table.POINTS.abs() > 1e-30].float()
    truth = case.truth.curvature if transform in table.SECOND else case.truth.slope
    table.assert_near(transform(case.make(), x), table.truth_at(truth, x), x, 16 * torch.finfo(x.dtype).eps)


@pytest.mark.parametrize("case", SERVED, ids=str)
@pytest.mark.parametrize("use_reentrant", [True, False], ids=["reentrant", "non-reentrant"])
def test_checkpoint(case: table.Case, use_reentrant: bool) -> None:
    module, x = case.make(), table.POINTS.float()
    slope = table.backward(lambda x: table.checkpoint(module, x, use_reentrant=use_reentrant), x)
    assert torch.equal(slope, table.backward(module, x))
