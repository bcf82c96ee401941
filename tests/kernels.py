"""The kernels for tests: every instruction set that this machine has, Triton's interpreter, every operator's truth."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from types import ModuleType
from unittest import mock

import numpy
import torch
from torch import Tensor, nn

import undying
from undying.ops import autograd, dispatch, native, triton_loader

# Triton decides by this, when kernels are defined, whether they run in its interpreter. It is set for undying's alone:
# what TorchInductor does in this process, and what Triton defines itself, is what it is elsewhere.
if importlib.util.find_spec("triton"):
    importlib.import_module("triton.language")
with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
    triton_loader.missing()


@contextlib.contextmanager
def kernels(name: str) -> Iterator[None]:
    """The native path with one instruction set, or Triton's interpreter."""
    if name == "triton":
        with undying.ops.using("triton"), _interpreter():
            yield
        return
    before = native.instructions()
    native.use_instructions(name)
    try:
        with undying.ops.using("native"):
            yield
    finally:
        native.use_instructions(before)


@contextlib.contextmanager
def _interpreter() -> Iterator[None]:
    """Triton's interpreter, mended.

    Its conversions to bfloat16 cut off where Triton's own round to nearest, and those from it misread subnormal numbers.
    numpy, which computes for it, warns of what overflows in a branch that is not taken.
    """
    from triton.runtime import interpreter

    def convert(data: numpy.ndarray, source: object, target: object, rounding: object) -> numpy.ndarray:
        assert {str(source), str(target)} == {"bf16", "fp32"}
        if str(source) == "bf16":
            return data.astype(numpy.uint32) << 16
        return torch.from_numpy(data).bfloat16().view(torch.int16).numpy().view(numpy.uint16)

    with mock.patch.object(interpreter, "_convert_float", convert), numpy.errstate(all="ignore"):
        yield


def instructions_here() -> list[str]:
    """The instruction sets of this machine; none where the native library is not built."""
    return [name for name in native.INSTRUCTIONS if _is_here(name)] if native.missing() is None else []


def kernels_here() -> list[str]:
    """What :func:`kernels` takes here: nothing where there is neither a compiler nor Triton."""
    return [*instructions_here(), *(["triton"] if "triton" in libraries_here() else [])]


def libraries_here() -> list[str]:
    """The libraries of kernels that are here, by the names of their paths."""
    here = {"native": native.missing() is None, "triton": triton_loader.missing() is None}
    return [name for name, is_here in here.items() if is_here]


def library() -> ModuleType:
    """The library of the path in use."""
    return dispatch.library_for(torch.empty(0)) or native


def _is_here(name: str) -> bool:
    try:
        with kernels(name):
            return True
    except ValueError:
        return False


def arguments(name: str) -> tuple[float, float, float, float]:
    """What follows gradient and x in an operator of SUGAR's."""
    kernel = autograd.kernel(undying.surrogate(name), "all", library())
    return kernel.a, 1.0, kernel.low, kernel.high


def _sugar_backward(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda g, x: library().operator(f"{name}_backward")(g, x, *arguments(name))


def _barelu_backward(g: Tensor, x: Tensor) -> Tensor:
    return library().operator("barelu_backward")(g, x, 0.2, 0.1)


#: name -> operator(gradient, x) of the library in use, and the module whose backward pass it is.
OPERATORS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], nn.Module]] = {
    **{name: (_sugar_backward(name), undying.SUGAR(name)) for name in undying.SURROGATES},
    "barelu": (_barelu_backward, undying.BAReLU(0.2, 0.1)),
}


def expected(name: str, gradient: Tensor, x: Tensor) -> Tensor:
    """gradient * f'(x) in float64, by autograd through the reference implementation."""
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
