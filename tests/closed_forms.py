"""The truth that the activations are tested against: closed forms of value, first and second derivative.

Written by hand from the published formulas and evaluated by mpmath with 50 digits, then rounded to float64 once.
Neither undying's formulas nor torch are used.

At exactly x = 0 every piecewise function takes its branch for x <= 0, as torch does: ReLU'(0) is 0, LeakyReLU'(0) is
its slope, ELU'(0) is alpha, NeLU''(0) is 2 a. The exceptions are torch's too, ELU''(0) is 0, as it is for x > 0; and that
of FrigoReLU's author, whose branch for x > 0 has the 0.
At +-inf the limit is taken.

A value is computed once a process, by function: a form that is asked for again is the same object.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import mpmath
import numpy as np
from mpmath import mpf

Function = Callable[[mpf], mpf]


@dataclass(frozen=True, eq=False)
class Form:
    """A function of one variable and its first two derivatives."""

    value: Function
    slope: Function
    curvature: Function


def at(function: Function, points: Iterable[float]) -> np.ndarray:
    """``function`` at each of the points, as a float64 array; NaN stays NaN."""
    return np.array([_at(function, float(x)) for x in points], dtype=np.float64)


@functools.cache
def _at(function: Function, x: float) -> float:
    if x != x:
        return x
    with mpmath.workdps(50):
        # Far outside float64: what comes back rounds to the limit.
        point = mpmath.sign(mpf(x)) * mpf("1e400") if mpmath.isinf(x) else mpf(x)
        return float(function(point))


def _exp(x: mpf) -> mpf:
    """exp(x); held where float64 ended long ago, so that x = -1e400 needs no endless exponent."""
    return mpmath.exp(max(-10_000, min(10_000, x)))


def _sigmoid(x: mpf) -> mpf:
    return 1 / (1 + _exp(-x))


def _piecewise(left: Form, right: Form) -> Form:
    """``left`` for x <= 0, ``right`` for x > 0."""

    def join(low: Function, high: Function) -> Function:
        return lambda x: high(x) if x > 0 else low(x)

    return Form(join(left.value, right.value), join(left.slope, right.slope), join(left.curvature, right.curvature))


def _line(slope: float) -> Form:
    return Form(lambda x: slope * x, lambda x: mpf(slope), lambda x: mpf(0))


RELU = _piecewise(_line(0.0), _line(1.0))


@functools.cache
def leaky_relu(slope: float = 0.01) -> Form:
    return _piecewise(_line(slope), _line(1.0))


@functools.cache
def bsilu(a: float = 1.67) -> Form:
    """(x + a) sigmoid(x) - a / 2, arXiv:2505.22074."""

    def value(x: mpf) -> mpf:
        return (x + a) * _sigmoid(x) - mpf(a) / 2

    def slope(x: mpf) -> mpf:
        s, q = _sigmoid(x), _sigmoid(-x)
        return s + (x + a) * s * q

    def curvature(x: mpf) -> mpf:
        s, q = _sigmoid(x), _sigmoid(-x)
        return 2 * s * q + (x + a) * s * q * (q - s)

    return Form(value, slope, curvature)


@functools.cache
def nelu(a: float = 0.05) -> Form:
    """x for x > 0; below, the antiderivative of the paper's 2 a x / (1 + x^2)^2 that is 0 at 0. arXiv:2505.22074."""
    left = Form(
        lambda x: a * x**2 / (1 + x**2),
        lambda x: 2 * a * x / (1 + x**2) ** 2,
        lambda x: 2 * a * (1 - 3 * x**2) / (1 + x**2) ** 3,
    )
    return _piecewise(left, _line(1.0))


@functools.cache
def helu(alpha: float = 0.05) -> Form:
    """ReLU whose derivative is 1 for x > -alpha: that of max(0, x + alpha), arXiv:2411.10573."""
    return Form(
        lambda x: max(mpf(0), x + mpf(alpha)),
        lambda x: mpf(x > -mpf(alpha)),
        lambda x: mpf(0),
    )


@functools.cache
def frigorelu(alpha: float = 0.1) -> Form:
    """x for x >= 0, alpha x below: unlike LeakyReLU's, its derivative at 0 is 1. r/MachineLearning 1jnalfy."""
    return Form(
        lambda x: x if x >= 0 else mpf(alpha) * x,
        lambda x: mpf(1) if x >= 0 else mpf(alpha),
        lambda x: mpf(0),
    )


@functools.cache
def elu(alpha: float = 1.0, scale: float = 1.0) -> Form:
    """scale x for x > 0, scale alpha (exp(x) - 1) otherwise, arXiv:1511.07289; scaled: arXiv:1706.02515."""
    factor = mpf(alpha) * mpf(scale)
    left = Form(lambda x: factor * (_exp(x) - 1), lambda x: factor * _exp(x), lambda x: factor * _exp(x))
    both = _piecewise(left, _line(scale))
    return replace(both, curvature=lambda x: both.curvature(x) if x != 0 else mpf(0))


def _gated(gate: Function, gate_slope: Function, gate_curvature: Function) -> Form:
    """x g(x)."""
    return Form(
        lambda x: x * gate(x),
        lambda x: gate(x) + x * gate_slope(x),
        lambda x: 2 * gate_slope(x) + x * gate_curvature(x),
    )


def gelu() -> Form:
    """x Phi(x), arXiv:1606.08415."""

    def density(x: mpf) -> mpf:
        return _exp(-(x**2) / 2) / mpmath.sqrt(2 * mpmath.pi)

    def distribution(x: mpf) -> mpf:
        return mpmath.erfc(max(-1000, min(1000, -x / mpmath.sqrt(2)))) / 2

    return _gated(distribution, density, lambda x: -x * density(x))


def gelu_tanh() -> Form:
    """x (1 + tanh(u)) / 2 = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3), arXiv:1606.08415."""

    def gate(x: mpf, order: int) -> mpf:
        k, c = mpmath.sqrt(2 / mpmath.pi), mpf(0.044715)
        u = k * (x + c * x**3)
        p, q = _sigmoid(2 * u), _sigmoid(-2 * u)
        u1, u2 = k * (1 + 3 * c * x**2), k * 6 * c * x
        return (p, 2 * u1 * p * q, 2 * u2 * p * q + 4 * u1**2 * p * q * (q - p))[order]

    return _gated(lambda x: gate(x, 0), lambda x: gate(x, 1), lambda x: gate(x, 2))


def mish() -> Form:
    """x tanh(log(1 + e^x)) = x ((1 + e^x)^2 - 1) / ((1 + e^x)^2 + 1), arXiv:1908.08681."""

    def gate(x: mpf, order: int) -> mpf:
        e = _exp(x)
        below = (1 + e) ** 2 + 1
        return (
            (e**2 + 2 * e) / below,
            4 * e * (1 + e) / below**2,
            (4 * e * (1 + 2 * e) * below - 16 * e**2 * (1 + e) ** 2) / below**3,
        )[order]

    return _gated(lambda x: gate(x, 0), lambda x: gate(x, 1), lambda x: gate(x, 2))


def softplus() -> Form:
    """log(1 + e^x)."""
    return Form(
        lambda x: max(x, mpf(0)) + mpmath.log1p(_exp(-abs(x))),
        _sigmoid,
        lambda x: _sigmoid(x) * _sigmoid(-x),
    )


@functools.cache
def barelu(alpha: float = 0.01, eps: float = 0.0) -> Form:
    """alpha x for x <= 0; sqrt(x^2 + eps) - sqrt(eps) above, which is x for eps = 0. Zenodo 20565328."""

    def hypotenuse(x: mpf) -> mpf:
        return mpmath.sqrt(x**2 + eps)

    right = Form(
        lambda x: x**2 / (hypotenuse(x) + mpmath.sqrt(eps)),  # the difference of the two roots, times their sum
        lambda x: x / hypotenuse(x),
        lambda x: eps / hypotenuse(x) ** 3,
    )
    return _piecewise(_line(alpha), right)


@functools.cache
def sugar(surrogate: Form, region: str = "all", strength: float = 1.0) -> Form:
    """ReLU's value; derivatives strength f~ + (1 - strength) ReLU, or ReLU's own where ``region`` leaves it."""

    def blend(smooth: Function, relu: Function) -> Function:
        def function(x: mpf) -> mpf:
            if region == "negative" and x > 0:
                return relu(x)
            return mpf(strength) * smooth(x) + (1 - mpf(strength)) * relu(x)

        return function

    return Form(RELU.value, blend(surrogate.slope, RELU.slope), blend(surrogate.curvature, RELU.curvature))


#: The registered surrogates by name, with their default parameters.
SURROGATES = {
    "bsilu": bsilu(),
    "nelu": nelu(),
    "leaky_relu": leaky_relu(),
    "elu": elu(),
    "selu": elu(alpha=1.6732632423543772848170429916717, scale=1.0507009873554804934193349852946),
    "gelu": gelu(),
    "gelu_tanh": gelu_tanh(),
    "silu": bsilu(a=0.0),  # x sigmoid(x), arXiv:1702.03118
    "mish": mish(),
    "helu": helu(),
    "frigorelu": frigorelu(),
}
