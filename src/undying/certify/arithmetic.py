"""Interval bounds of tensor operations, sound for a network that computes in floating point.

Interval bound propagation (Gowal et al. 2018, arXiv:1810.12715): every rule takes intervals that hold all values its
inputs can have and gives one that holds all values the operation can *compute* from them. The model of arithmetic:

* One operation on numbers of type t (+, -, *, /, square root, a conversion to t) has a relative error of at most u,
  t's unit roundoff, and never gets the sign wrong; results below the smallest normal number may become 0.
* Sums (linear, convolution, mean, pooling) may be taken in any order, with or without fused multiply-add, in t or
  anything more precise; for float16 and bfloat16 they accumulate in float32 and round to t at most three times, or
  in t itself where :class:`~undying.certify.backends.Backends` says so. Operands of float32 products may be rounded first.
  A sum of n products then has the value sum_i t_i (1 + e_i), abs(e_i) <= gamma_(n+2), gamma_n = n u / (1 - n u)
  (Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1). Hence, with T_i the largest value of t_i,
  its upper bound is sum_(T_i > 0) T_i (1 + gamma) + sum_(T_i < 0) T_i (1 - gamma): no margin where all T_i are 0.
* Elementary functions are right to 32 u, computed in float32 for the half types.
* NaN is in no interval. Nothing here turns a NaN into a number that a bound excludes.

The bounds themselves are computed in float64 and rounded outwards: positive and negative terms are summed apart, so
nothing cancels and the error of these sums is relative, gamma_n again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from undying.certify.backends import Backends

INF = math.inf
U64 = 2.0**-53
FUNCTION = 32
"""In units of u: what an elementary function may be wrong by, here and in the network."""


class Unbounded(Exception):  # noqa: N818 - control flow between a rule and the walk over the graph, not a failure
    """An operation, or these arguments of it, has no rule; the message says what of them has none."""


@dataclass(frozen=True)
class Interval:
    """All values of a tensor lie in [low, high], elementwise; float64, on the CPU. low < inf and high > -inf."""

    low: Tensor
    high: Tensor

    @property
    def shape(self) -> torch.Size:
        return self.low.shape


def gamma(n: int, u: float) -> float:
    """Higham's bound n u / (1 - n u) on the relative error of n roundings; infinite where it does not hold.

    >>> gamma(2, 0.25), gamma(4, 0.25)
    (1.0, inf)
    """
    return n * u / (1 - n * u) if n * u < 1 else INF


@dataclass(frozen=True)
class Parts:
    """A quantity for each of the positive and negative terms of an upper, and of a lower bound; all at least 0."""

    high_positive: Tensor
    high_negative: Tensor
    low_positive: Tensor
    low_negative: Tensor

    @classmethod
    def of(cls, x: Interval) -> Parts:
        return cls(x.high.clamp(min=0), (-x.high).clamp(min=0), x.low.clamp(min=0), (-x.low).clamp(min=0))

    def map(self, function: Callable[[Tensor], Tensor]) -> Parts:
        return Parts(*map(function, self._all()))

    def __add__(self, other: Parts) -> Parts:
        return Parts(*(a + b for a, b in zip(self._all(), other._all(), strict=True)))

    def negated(self) -> Parts:
        """The parts of -x."""
        return Parts(self.low_negative, self.low_positive, self.high_negative, self.high_positive)

    def _all(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.high_positive, self.high_negative, self.low_positive, self.low_negative


@dataclass(frozen=True)
class Arithmetic:
    """How a network computes one operation; see the head of this module."""

    u: float
    """Unit roundoff of the result's type."""
    half: bool
    """Whether functions, and mostly sums, are computed in a wider type and then rounded."""
    function_u: float
    """Unit roundoff that functions are computed with."""
    sum_u: float
    """Unit roundoff of the accumulator of a sum."""
    operand_u: float
    """Relative error of the operands of a matrix product (TensorFloat-32 and the like); 0 without."""
    floor: float
    """Smallest result that is not lost."""
    sum_floor: float
    """The same for the accumulator."""
    largest: float
    """Largest finite number; what exceeds it becomes infinite."""

    @classmethod
    def of(cls, dtype: torch.dtype, device: torch.device, backends: Backends) -> Arithmetic:
        """The arithmetic of ``dtype`` on ``device``.

        Raises:
            Unbounded: nothing is known of this device's.
        """
        if device.type not in ("cpu", "cuda"):
            raise Unbounded(f"on {device.type}")
        info = torch.finfo(dtype)
        inner = torch.finfo(torch.float32 if info.bits < 32 else dtype)
        floor = info.smallest_normal if dtype is not torch.float16 else info.smallest_normal * info.eps
        return cls(
            u=info.eps / 2,
            half=info.bits < 32,
            sum_u=info.eps / 2 if info.bits < 32 and backends.half_sums(device) else inner.eps / 2,
            function_u=inner.eps / 2,
            operand_u=backends.operand_error(dtype, device),
            floor=floor,
            sum_floor=inner.smallest_normal,
            largest=info.max,
        )

    def sum_error(self, n: int) -> float:
        """Relative error of each of n terms of a sum of products and a bias."""
        narrowing = gamma(3, self.u) if self.half else 0.0
        network = (1 + gamma(n + 2, self.sum_u)) * (1 + gamma(2, self.operand_u)) * (1 + narrowing) - 1
        return network + 4 * gamma(n + 16, U64)

    def lost(self, n: int) -> float:
        """How far results too small to keep can move a sum of n products."""
        return 4 * (n + 2) * self.sum_floor + (4 * self.floor if self.half else 0.0)

    def function_error(self) -> float:
        """Relative error of an elementary function."""
        return gamma(FUNCTION, self.function_u) + (gamma(2, self.u) if self.half else 0.0)

    def rounded(self, x: Interval, error: float | None = None, absolute: float = 0.0) -> Interval:
        """``x`` after a rounding of relative ``error`` (default u) that keeps signs, and an ``absolute`` error."""
        error = (gamma(1, self.u) if error is None else error) + 16 * U64
        absolute *= 1 + 2.0**-40
        high = torch.where(x.high > 0, x.high * (1 + error) + self.floor, _towards_0(x.high, error, self.floor))
        low = torch.where(x.low < 0, x.low * (1 + error) - self.floor, -_towards_0(-x.low, error, self.floor))
        return self.representable(low - absolute, high + absolute)

    def representable(self, low: Tensor, high: Tensor) -> Interval:
        """Give what exceeds the network's largest number as infinite, and what is not known as unbounded."""
        largest = self.largest
        high, low = high.nan_to_num(INF, INF, -INF), low.nan_to_num(-INF, INF, -INF)
        high = torch.where(high > largest, INF, high).clamp(min=-largest)
        low = torch.where(low < -largest, -INF, low).clamp(max=largest)
        return Interval(low, high)

    def summed(self, parts: Parts, error: float, lost: float | Tensor) -> Interval:
        """Bounds of a sum from those of its terms, each known to the relative ``error``."""

        def upper(positive: Tensor, negative: Tensor) -> Tensor:
            positive, negative = positive.nan_to_num(INF, INF), negative.nan_to_num(0.0, INF)
            largest = torch.where(positive > 0, positive * (1 + error), 0.0)
            bound = largest - negative * max(0.0, 1 - error) + lost
            # A sum keeps the common sign of its terms, however it is rounded.
            bound = torch.where(positive > 0, bound, bound.clamp(max=0))
            # A partial sum, of the positive terms alone, may overflow.
            return torch.where(largest > self.largest, INF, bound)

        low = -upper(parts.low_negative, parts.low_positive)
        return self.representable(low, upper(parts.high_positive, parts.high_negative))


def _towards_0(negative: Tensor, error: float, floor: float) -> Tensor:
    return (negative * max(0.0, 1 - error) + floor).clamp(max=0)


def products(x: Interval, weight: Any, apply: Callable[[Tensor, Tensor], Tensor]) -> Parts:
    """The parts of ``apply(x, weight)``, which is linear in each; the weight must be a constant."""
    if not isinstance(weight, Tensor):
        raise Unbounded
    parts, weight = Parts.of(x), weight.double()
    up, down = weight.clamp(min=0), (-weight).clamp(min=0)
    return parts.map(lambda v: _product(apply, v, up)) + parts.negated().map(lambda v: _product(apply, v, down))


def _product(apply: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor) -> Tensor:
    """``apply(x, weight)`` for x, weight >= 0 with 0 * inf = 0."""
    if not x.any():  # half of them, after a ReLU
        return torch.zeros(apply(x.to("meta"), weight.to("meta")).shape, dtype=torch.float64)
    infinite = x.isinf()
    if not infinite.any():
        return apply(x, weight)
    hit = apply(infinite.double(), (weight > 0).double()) > 0
    return torch.where(hit, INF, apply(x.masked_fill(infinite, 0), weight))
