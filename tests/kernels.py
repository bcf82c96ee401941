"""The native kernels for tests: every instruction set that this machine has, and every operator with its truth."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

import undying
from undying.ops import functions, native


@contextlib.contextmanager
def kernels(name: str) -> Iterator[None]:
    """The native path with one instruction set."""
    before = native.instructions()
    native.use_instructions(name)
    try:
        with undying.ops.using("native"):
            yield
    finally:
        native.use_instructions(before)


def kernels_here() -> list[str]:
    """The instruction sets of this machine; none where the library is not built."""
    return [name for name in native.INSTRUCTIONS if _is_here(name)] if native.missing() is None else []


def _is_here(name: str) -> bool:
    try:
        with kernels(name):
            return True
    except ValueError:
        return False


def arguments(name: str) -> tuple[float, float, float, float]:
    """What follows gradient and x in an operator of SUGAR's."""
    kernel = functions.kernel(undying.surrogate(name), "all")
    return kernel.a, 1.0, kernel.low, kernel.high


def _sugar_backward(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda g, x: getattr(torch.ops.undying, f"{name}_backward")(g, x, *arguments(name))


def _barelu_backward(g: Tensor, x: Tensor) -> Tensor:
    return torch.ops.undying.barelu_backward(g, x, 0.2, 0.1)


#: name -> operator(gradient, x), and the module whose backward pass it is.
OPERATORS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], nn.Module]] = {
    **{name: (_sugar_backward(name), undying.SUGAR(name)) for name in undying.SURROGATES},
    "barelu": (_barelu_backward, undying.BAReLU(0.2, 0.1)),
}


def expected(name: str, gradient: Tensor, x: Tensor) -> Tensor:
    """gradient * f'(x) in float64, by autograd through the composite form."""
    x = x.detach().double().requires_grad_()
    with undying.ops.using("composite"):
        return torch.autograd.grad(OPERATORS[name][1](x), x, gradient.double())[0]


def numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return (3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).to(dtype)


def assert_near(actual: Tensor, truth: Tensor, ulp: float = 4) -> None:
    """Within ``ulp`` of max(1, |truth|); half types round once."""
    ulp = ulp if actual.dtype == torch.float32 else 1
    bound = ulp * torch.finfo(actual.dtype).eps * truth.abs().clamp(min=1)
    wrong = (actual.double() - truth).abs() > bound
    assert not wrong.any(), f"{actual[wrong].tolist()} is not {truth[wrong].tolist()}"
