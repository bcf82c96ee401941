"""One compiled function, called in more ways than it was compiled for: right or refused, never ReLU's derivative."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor

import undying
from undying.ops import reference

# torch itself warns, at its first forward-mode derivative.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script(_method)?` is (deprecated|not supported)")

POINTS = torch.tensor([-1.0, -0.1, 2.0], dtype=torch.float64)
SLOPE = undying.surrogate("bsilu").derivative(POINTS)


def reverse(f: Callable[[Tensor], Tensor]) -> Tensor:
    x = POINTS.clone().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0]


def functional(f: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.func.grad(lambda x: f(x).sum())(POINTS)


def dual(f: Callable[[Tensor], Tensor], x: Tensor = POINTS) -> Tensor:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(x, torch.ones_like(x)))).tangent


def dual_of_a_leaf(f: Callable[[Tensor], Tensor]) -> Tensor:
    return dual(f, POINTS.clone().requires_grad_())


def dual_without_gradients(f: Callable[[Tensor], Tensor], x: Tensor = POINTS) -> Tensor:
    with torch.no_grad():
        return dual(f, x)


WAYS = (reverse, functional, dual, dual_of_a_leaf, dual_without_gradients)


@pytest.mark.parametrize("first", [None, *WAYS], ids=lambda f: f.__name__ if f else "alone")
@pytest.mark.parametrize("second", WAYS, ids=lambda f: f.__name__)
def test_used_in_two_ways(first: Callable[..., Tensor] | None, second: Callable[..., Tensor]) -> None:
    torch.compiler.reset()
    compiled = torch.compile(undying.SUGAR(), backend="aot_eager", fullgraph=True)
    compiled(POINTS)
    with torch.no_grad():
        compiled(POINTS)
    for way in (first, second):
        try:
            slope = way(compiled) if way else SLOPE
        except (NotImplementedError, torch._dynamo.exc.TorchDynamoException):
            assert way is not reverse  # what PyTorch does not compile
            continue
        torch.testing.assert_close(slope.detach(), SLOPE, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("way", WAYS[1:], ids=lambda f: f.__name__)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_compiled_around_it(way: Callable[..., Tensor], requires_grad: bool) -> None:
    """Here the compiler sees the transform."""
    torch.compiler.reset()
    module = undying.SUGAR()

    def run(x: Tensor) -> Tensor:
        if way is functional:
            return torch.func.grad(lambda x: module(x).sum())(x)
        return dual_without_gradients(module, x) if way is dual_without_gradients else dual(module, x)

    x = POINTS.clone().requires_grad_(requires_grad)
    slope = torch.compile(run, backend="aot_eager", fullgraph=True)(x)
    torch.testing.assert_close(slope.detach(), SLOPE, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", sorted(undying.SURROGATES))
def test_at_a_finite_end_of_the_reach_float32_has_relu_s_derivative(name: str) -> None:
    """What is compiled holds x within the reach and goes by that alone."""
    surrogate = undying.surrogate(name)
    low, high = surrogate.reach
    if torch.isfinite(torch.tensor([low, high])).all():
        ends = torch.tensor([low, high])
        assert surrogate.derivative(ends).tolist() == [0.0, 1.0]
        x = torch.tensor([-torch.inf, 3 * low, 3 * high, torch.inf])
        assert reference.slope(x, surrogate, "all", 0.5).tolist() == [0.0, 0.0, 1.0, 1.0]
