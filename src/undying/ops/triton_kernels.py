"""The activation kernels of csrc/ in Triton, and their operators.

Imported by :mod:`undying.ops.triton_loader` alone, at the first need, since it imports Triton. A new surrogate is a
functor and a line in ``_derivative``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

from undying._torch import OpOverload, below_autograd
from undying.ops import autograd, native
from undying.surrogates import BUILT_IN, Surrogate

NAMESPACE = "undying_triton"
"""Of the operators, in ``torch.ops``."""

_BLOCK = 1024  # elements a program
# Above this sqrt(x^2 + eps) - sqrt(eps) rounds to x, and x^2 would overflow further up.
_ROOTED = tl.constexpr(4.6e18)

# ---------------------------------------------------------------------------------------------------------------------
# The derivatives of the surrogates: x and the parameter (0 where there is none) -> f~'(x) for x within the surrogate's
# reach, in float32; what comes out elsewhere, NaN too, is not used.


@triton.jit
def _exp(x):
    return tl.exp(tl.minimum(tl.maximum(x, -87.0), 88.0))


@triton.jit
def bsilu(x, a):
    e = _exp(-x)
    s = 1.0 / (1.0 + e)
    return s + (x + a) * s * (e * s)  # e s = 1 - s, without its cancellation


@triton.jit
def nelu(x, a):
    r = 1.0 / (1.0 + x * x)
    return tl.where(x > 0, 1.0, 2 * a * (x * r) * r)


@triton.jit
def leaky_relu(x, slope):
    return tl.where(x > 0, 1.0, slope)


@triton.jit
def elu(x, alpha):
    return tl.where(x > 0, 1.0, alpha * _exp(x))


@triton.jit
def selu(x):
    return 1.0507009873554805 * elu(x, 1.6732632423543773)


@triton.jit
def gelu(x):
    z = tl.abs(x)
    bell = _exp(-0.5 * z * z)
    t = 1.0 / (1.0 + 0.3 * z)
    # Minimax fit of Phi(-z) = bell(z) t h(t): absolute error below 2.5e-9 before rounding.
    h = t * 0.03887070715427399 - 0.25193342566490173
    h = h * t + 0.536861777305603
    h = h * t - 0.32459110021591187
    h = h * t + 0.30701377987861633
    h = h * t + 0.0685485377907753
    h = h * t + 0.12522973120212555
    tail = bell * (t * h)
    return tl.where(x > 0, 1.0 - tail, tail) + x * (bell * 0.3989422804014327)


@triton.jit
def gelu_tanh(x):
    k = 0.7978845608028654
    c = 0.044715
    # (1 + tanh(u)) / 2 = sigmoid(2 u), u = k (x + c x^3)
    square = x * x
    e = _exp(-2 * k * x * (1.0 + c * square))
    s = 1.0 / (1.0 + e)
    return s + x * (2 * k * (1.0 + 3 * c * square)) * s * (e * s)


@triton.jit
def mish(x):
    # t = tanh(softplus(x)) = n / (n + 2), 1 - t = 2 / (n + 2), n = e^x (e^x + 2)
    e = _exp(x)
    n = e * (e + 2.0)
    r = 1.0 / (n + 2.0)
    t = n * r
    return t + x * (2 * r * (1.0 + t)) * (e / (1.0 + e))


@triton.jit
def helu(x, alpha):
    return tl.where(x > -alpha, 1.0, 0.0)


@triton.jit
def frigorelu(x, alpha):
    return tl.where(x >= 0, 1.0, alpha)


@triton.jit
def _derivative(x, a, surrogate: tl.constexpr):
    if surrogate == "bsilu":
        slope = bsilu(x, a)
    elif surrogate == "nelu":
        slope = nelu(x, a)
    elif surrogate == "leaky_relu":
        slope = leaky_relu(x, a)
    elif surrogate == "elu":
        slope = elu(x, a)
    elif surrogate == "selu":
        slope = selu(x)
    elif surrogate == "gelu":
        slope = gelu(x)
    elif surrogate == "gelu_tanh":
        slope = gelu_tanh(x)
    elif surrogate == "silu":
        slope = bsilu(x, 0.0)
    elif surrogate == "helu":
        slope = helu(x, a)
    elif surrogate == "frigorelu":
        slope = frigorelu(x, a)
    else:
        tl.static_assert(surrogate == "mish", "there is no kernel for this surrogate")
        slope = mish(x)
    return slope


# ---------------------------------------------------------------------------------------------------------------------
# The kernels: n elements in one order of memory; positions are int64, since there may be more than 2^31.


@triton.jit
def _positions(block: tl.constexpr):
    return tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)


@triton.jit
def sugar_backward(gradient, x, out, n, a, strength, low, high, surrogate: tl.constexpr, block: tl.constexpr):
    """gradient * (strength f~'(x) + (1 - strength) relu'(x)) for low <= x <= high, gradient * relu'(x) elsewhere."""
    at = _positions(block)
    x = tl.load(x + at, at < n).to(tl.float32)
    g = tl.load(gradient + at, at < n).to(tl.float32)
    relu = tl.where(x <= 0, 0.0, 1.0)
    smooth = _derivative(x, a, surrogate)
    smooth = tl.where(strength == 1.0, smooth, relu + strength * (smooth - relu))
    slope = tl.where((x >= low) & (x <= high), smooth, relu)
    # As relu does it: no gradient is none, also where what comes in is infinite.
    tl.store(out + at, tl.where(slope == 0, 0.0, g * slope), at < n)


@triton.jit
def barelu(x, out, n, alpha, eps, block: tl.constexpr):
    at = _positions(block)
    x = tl.load(x + at, at < n).to(tl.float32)
    c = tl.where(x < _ROOTED, x, 1.0)
    root = c * (c / (tl.sqrt(c * c + eps) + tl.sqrt(eps)))
    tl.store(out + at, tl.where(x > 0, tl.where(x < _ROOTED, root, x), alpha * x), at < n)


@triton.jit
def barelu_backward(gradient, x, out, n, alpha, eps, block: tl.constexpr):
    at = _positions(block)
    x = tl.load(x + at, at < n).to(tl.float32)
    g = tl.load(gradient + at, at < n).to(tl.float32)
    c = tl.where(x < _ROOTED, x, 1.0)
    slope = tl.where(x > 0, tl.where(x < _ROOTED, c / tl.sqrt(c * c + eps), 1.0), alpha)
    tl.store(out + at, tl.where(slope == 0, 0.0, g * slope), at < n)


VERSION: str = triton.__version__

# Under TRITON_INTERPRET=1 Triton runs them in Python, on the CPU.
INTERPRETED = not isinstance(sugar_backward, triton.JITFunction)

# ---------------------------------------------------------------------------------------------------------------------
# The operators. torch.compile sees the kernels in them.


def _check(x: Tensor, gradient: Tensor) -> None:
    if x.dtype not in native.DTYPES:
        raise RuntimeError(
            f"x must be float16, bfloat16 or float32, not {x.dtype}; float64 is for the reference implementation"
        )
    for what, same in (("type", gradient.dtype == x.dtype), ("shape", gradient.shape == x.shape)):
        if not same:
            raise RuntimeError(f"the gradient must have the {what} of x")
    if gradient.device != x.device:
        raise RuntimeError("the gradient must be on the device of x")


def _ordered_as(out: Tensor, x: Tensor) -> Tensor:
    """x in the order of memory of ``out``, which is dense and has x's shape."""
    same = all(size == 1 or a == b for size, a, b in zip(x.shape, x.stride(), out.stride(), strict=True))
    return x if same else torch.empty_like(out).copy_(x)


def _grid(x: Tensor) -> tuple[int]:
    return ((x.numel() + _BLOCK - 1) // _BLOCK,)


def _sugar_backward(
    gradient: Tensor, x: Tensor, a: float, strength: float, low: float, high: float, surrogate: str
) -> Tensor:
    _check(x, gradient)
    out = torch.empty_like(x)
    if x.numel():
        with torch.cuda.device_of(x):
            wrap_triton(sugar_backward)[_grid(x)](
                _ordered_as(out, gradient),
                _ordered_as(out, x),
                out,
                x.numel(),
                a,
                strength,
                low,
                high,
                surrogate=surrogate,
                block=_BLOCK,
            )
    return out


def _operator_of(surrogate: str) -> Callable[..., Tensor]:
    def backward(gradient: Tensor, x: Tensor, a: float, strength: float, low: float, high: float) -> Tensor:
        return _sugar_backward(gradient, x, a, strength, low, high, surrogate)

    return backward


def _barelu(x: Tensor, alpha: float, eps: float) -> Tensor:
    _check(x, x)
    out = torch.empty_like(x)
    if x.numel():
        with torch.cuda.device_of(x):
            wrap_triton(barelu)[_grid(x)](_ordered_as(out, x), out, x.numel(), alpha, eps, block=_BLOCK)
    return out


def _barelu_backward(gradient: Tensor, x: Tensor, alpha: float, eps: float) -> Tensor:
    _check(x, gradient)
    out = torch.empty_like(x)
    if x.numel():
        with torch.cuda.device_of(x):
            wrap_triton(barelu_backward)[_grid(x)](
                _ordered_as(out, gradient), _ordered_as(out, x), out, x.numel(), alpha, eps, block=_BLOCK
            )
    return out


def _register(name: str, function: Callable[..., Tensor], fake: Callable[..., Tensor]) -> None:
    definition: Any = triton_op(f"{NAMESPACE}::{name}", function, mutates_args=())
    # In place of triton_op's own, which would launch the interpreter on tensors without numbers.
    definition.register_fake(fake)


_register("barelu", _barelu, native.like)
_register("barelu_backward", _barelu_backward, native.like_second)
for _surrogate in BUILT_IN:
    _register(f"{_surrogate.name}_backward", _operator_of(_surrogate.name), native.like_second)


@functools.cache
def operator(name: str) -> OpOverload | None:
    """``<surrogate>_backward``, ``barelu`` or ``barelu_backward``; None where there is no such operator."""
    packet = getattr(torch.ops.undying_triton, name, None)
    return packet.default if packet is not None else None


@dataclass(frozen=True, slots=True)
class SlopeKernel:
    """SUGAR's backward pass with one surrogate, as ``native.SlopeKernel``."""

    operator: OpOverload
    a: float
    low: float
    high: float

    def __call__(self, gradient: Tensor, x: Tensor, strength: float) -> Tensor:
        with below_autograd():
            result: Tensor = self.operator(gradient, x, self.a, strength, self.low, self.high)
        return result


def slope_kernel(surrogate: Surrogate, low: float, high: float) -> SlopeKernel | None:
    """The kernel for a built-in surrogate, as ``native.slope_kernel``."""
    found = operator(f"{surrogate.name}_backward")
    return None if found is None else SlopeKernel(found, native.parameter(surrogate), low, high)


autograd.register_derivatives(NAMESPACE, operator)
