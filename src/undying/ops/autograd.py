"""Autograd Functions around the faster forms. Each is right for first derivatives in plain reverse mode only, and hands
what is more than that to the reference implementation; :mod:`undying.ops.dispatch` decides where they are used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from undying._torch import below_autograd, in_dual_level, in_functorch
from undying.ops import native, reference
from undying.surrogates import BUILT_IN, Scaled, Surrogate

SlopeKernel = Callable[[Tensor, Tensor, float], Tensor]
"""(gradient, x, strength) -> SUGAR's backward pass."""


def is_built_in(surrogate: Surrogate) -> bool:
    """Whether it is one of the package's own, or such a one scaled; not something that took the name or inherits."""
    kind = type(surrogate.base) if type(surrogate) is Scaled else type(surrogate)
    return kind in BUILT_IN


@functools.lru_cache(maxsize=256)
def kernel(surrogate: Surrogate, region: str, library: ModuleType) -> SlopeKernel | None:
    """The kernel of a library, ``native`` or ``triton_kernels``, for the backward pass, where it has one."""
    if type(surrogate) not in BUILT_IN:
        return None
    found: SlopeKernel | None = library.slope_kernel(surrogate, *reference.limits(torch.float32, surrogate, region))
    return found


class CompiledSUGAR(Function):
    """SUGAR for a compiler by the closed form, which is given: a compiler moves what it likes of it to the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return torch.relu(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return _times(gradient, slope), None


class CompiledKernelSUGAR(Function):
    """SUGAR for a compiler by the native kernel. What Inductor makes of the closed form on a CPU takes longer than that and
    what the kernel could have been fused with (docs/results/speed.md)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, name: str, *numbers: float) -> Tensor:
        # A copy, which Inductor leaves out where nobody writes to x. Of what a Function saves a compiler does not notice that
        # it is overwritten, and the derivative would be taken elsewhere.
        ctx.save_for_backward(x.clone())
        ctx.name, ctx.numbers = name, numbers
        return torch.relu(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        operator = getattr(torch.ops.undying, f"{ctx.name}_backward").default
        return operator(gradient, x, *ctx.numbers), None, *(None for _ in ctx.numbers)


def _times(gradient: Tensor, slope: Tensor) -> Tensor:
    """As relu does it: no gradient is none, also where what comes in is infinite."""
    return torch.where(slope == 0, 0.0, gradient.to(slope.dtype) * slope).to(gradient.dtype)


class EagerSUGAR(Function):
    """SUGAR that keeps x alone: its backward pass by a kernel where there is one, else by the closed form."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, settings: tuple[Surrogate, str, float], by: SlopeKernel | None) -> Tensor:
        ctx.save_for_backward(x)
        ctx.settings, ctx.kernel = settings, by
        return torch.relu(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        if not is_plain(gradient):
            return _through(reference.sugar, x, gradient, *ctx.settings), None, None
        if ctx.kernel is not None:
            return ctx.kernel(gradient, x, ctx.settings[2]), None, None
        return _times(gradient, reference.slope(x, *ctx.settings)), None, None


class KernelBAReLU(Function):
    """BAReLU with eps > 0 by the kernels of a library."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: float, eps: float, library: ModuleType) -> Tensor:
        ctx.save_for_backward(x)
        ctx.settings, ctx.library = (alpha, eps), library
        with below_autograd():
            # Times 0 what is below would be -0.0, and NaN at -inf.
            y: Tensor = library.operator("barelu")(x if alpha else torch.relu(x), alpha, eps)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        if is_plain(gradient):
            with below_autograd():
                return ctx.library.operator("barelu_backward")(gradient, x, *ctx.settings), None, None, None
        alpha, eps = ctx.settings
        return _through(reference.barelu, x, gradient, alpha, eps, False), None, None, None


def is_plain(gradient: Tensor) -> bool:
    """Whether a backward pass is only that: nobody differentiates it, and the gradient is a tensor and nothing more."""
    return not torch.is_grad_enabled() and type(gradient) is Tensor and not in_functorch() and not in_dual_level()


def _through(form: Any, x: Tensor, gradient: Tensor, *settings: Any) -> Tensor:
    """The gradient of ``form(x, *settings)`` by autograd: itself differentiable, and right for any kind of gradient."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        at = x if create_graph else x.detach().requires_grad_()
        (result,) = torch.autograd.grad(form(at, *settings), at, gradient, create_graph=create_graph)
    return result


# ---------------------------------------------------------------------------------------------------------------------
# The operators by themselves: their derivatives, so that nobody who calls them gets silent zeros.


def _derivative_of_backward(form: Any) -> Any:
    """The derivative of (gradient, x, ...) -> gradient * f'(x), for f = ``form(x, ...)``."""

    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        gradient, x = ctx.saved_tensors
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            if not create_graph:
                gradient, x = gradient.detach(), x.detach()
            gradient, x = (t if t.requires_grad else t.detach().requires_grad_() for t in (gradient, x))
            (inner,) = torch.autograd.grad(form(x, *ctx.settings), x, gradient, create_graph=True)
            results = torch.autograd.grad(inner, (gradient, x), outer, create_graph=create_graph)
        return *results, *(None for _ in ctx.settings)

    return backward


def _keep_backward(ctx: Any, inputs: tuple[Any, ...], **_: Any) -> None:
    gradient, x, *ctx.settings = inputs
    ctx.save_for_backward(gradient, x)


def _sugar_form(cls: type[Surrogate]) -> Any:
    def form(x: Tensor, a: float, strength: float, _low: float, high: float) -> Tensor:
        surrogate = cls(a) if fields(cls) else cls()  # type: ignore[arg-type, call-arg]
        return reference.sugar(x, surrogate, "all" if high > 0 else "negative", strength)

    return form


def _keep_input(ctx: Any, inputs: tuple[Any, ...], **_: Any) -> None:
    x, *ctx.settings = inputs
    ctx.save_for_backward(x)


def _derivative_of_barelu(operator: Any) -> Any:
    """The derivative of x -> barelu(x, ...), for its backward operator."""

    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return operator(gradient, *ctx.saved_tensors, *ctx.settings), None, None

    return backward


def register_derivatives(namespace: str, operator: Callable[[str], Any]) -> None:
    """Give the activation operators of a library, native or Triton's, their derivatives."""
    register = torch.library.register_autograd
    for cls in BUILT_IN:
        if operator(f"{cls.name}_backward") is not None:
            derivative = _derivative_of_backward(_sugar_form(cls))
            register(f"{namespace}::{cls.name}_backward", derivative, setup_context=_keep_backward)
    derivative = _derivative_of_backward(functools.partial(reference.barelu, inplace=False))
    register(f"{namespace}::barelu_backward", derivative, setup_context=_keep_backward)
    derivative = _derivative_of_barelu(operator("barelu_backward"))
    register(f"{namespace}::barelu", derivative, setup_context=_keep_input)


if native.missing() is None:
    register_derivatives(native.NAMESPACE, native.operator)
