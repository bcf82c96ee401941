"""Interval bounds of tensor operations, sound for a network that computes in floating point.

Interval bound propagation (Gowal et al. 2018, arXiv:1810.12715): every rule takes intervals that hold all values its
inputs can have and gives one that holds all values the operation can *compute* from them. The model of arithmetic:

* One operation on numbers of type t (+, -, *, /, square root, a conversion to t) has a relative error of at most u,
  t's unit roundoff, and never gets the sign wrong; results below the smallest normal number may become 0.
* Sums (linear, convolution, mean, pooling) may be taken in any order, with or without fused multiply-add, in t or
  anything more precise; for float16 and bfloat16 they accumulate in float32 and round to t at most three times.
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
import torch.nn.functional as F
from torch import Tensor, nn

from undying.activations.known import turning_point

_INF = math.inf
_U64 = 2.0**-53
_LARGEST = torch.finfo(torch.float64).max
#: In units of u: what an elementary function may be wrong by, here and in the network.
_FUNCTION = 32


class Unbounded(Exception):  # noqa: N818 - control flow between a rule and the walk over the graph, not a failure
    """An operation, or these arguments of it, has no rule."""


class Undecided:
    """A tensor of booleans or indices that depends on the input."""


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
    return n * u / (1 - n * u) if n * u < 1 else _INF


@dataclass(frozen=True)
class Arithmetic:
    """How a network computes one operation; see the head of this module."""

    u: float
    """Unit roundoff of the result's type."""
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
    def of(cls, dtype: torch.dtype, device: torch.device) -> Arithmetic:
        """The arithmetic of ``dtype`` on ``device``, under torch's float32 matmul precision as it is set now."""
        info = torch.finfo(dtype)
        inner = torch.finfo(torch.float32 if info.bits < 32 else dtype)
        floor = info.smallest_normal if dtype is not torch.float16 else info.smallest_normal * info.eps
        return cls(info.eps / 2, inner.eps / 2, _operand_error(dtype, device), floor, inner.smallest_normal, info.max)

    @property
    def half(self) -> bool:
        """Whether sums and functions are computed in a wider type and then rounded."""
        return self.u > self.sum_u

    def sum_error(self, n: int) -> float:
        """Relative error of each of n terms of a sum of products and a bias."""
        narrowing = gamma(3, self.u) if self.half else 0.0
        network = (1 + gamma(n + 2, self.sum_u)) * (1 + gamma(2, self.operand_u)) * (1 + narrowing) - 1
        return network + 4 * gamma(n + 16, _U64)

    def lost(self, n: int) -> float:
        """How far results too small to keep can move a sum of n products."""
        return 4 * (n + 2) * self.sum_floor + (4 * self.floor if self.half else 0.0)

    def function_error(self) -> float:
        """Relative error of an elementary function."""
        return gamma(_FUNCTION, self.sum_u) + (gamma(2, self.u) if self.half else 0.0)


def _operand_error(dtype: torch.dtype, device: torch.device) -> float:
    if dtype != torch.float32:
        return 0.0
    precision = torch.get_float32_matmul_precision()
    if precision == "medium":
        return 2.0**-8  # bfloat16
    return 2.0**-10 if precision == "high" or device.type != "cpu" else 0.0  # TensorFloat-32, cudnn's default


@dataclass(frozen=True)
class Op:
    """One call of an ATen operator: its arguments by the schema's names, and the arithmetic of its result."""

    name: str
    target: Callable[..., Any]
    arguments: dict[str, Any]
    arithmetic: Arithmetic

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    @property
    def x(self) -> Interval:
        """The first argument, as an interval."""
        return self.interval(next(iter(self.arguments.values())))

    def interval(self, value: Any) -> Interval:
        """A constant is a narrow interval; a Python number was rounded to the network's type first."""
        if isinstance(value, Interval):
            return value
        if isinstance(value, Tensor) and value.is_floating_point():
            return Interval(value.double(), value.double())
        if isinstance(value, Tensor) and not value.is_complex():
            return self.rounded(Interval(value.double(), value.double()))
        if isinstance(value, (int, float)) and not math.isnan(value):
            exact = torch.tensor(float(value), dtype=torch.float64)
            return self.rounded(Interval(exact, exact))
        raise Unbounded

    def on(self, value: Any, **changes: Any) -> Any:
        """The operator itself, with its first argument replaced."""
        first = next(iter(self.arguments))
        return self.target(**{**self.arguments, first: value, **changes})

    def rounded(self, x: Interval, error: float | None = None, absolute: float = 0.0) -> Interval:
        """``x`` after a rounding of relative ``error`` (default u) that keeps signs, and an ``absolute`` error."""
        a = self.arithmetic
        error = (gamma(1, a.u) if error is None else error) + 16 * _U64
        absolute *= 1 + 2.0**-40
        high = torch.where(x.high > 0, x.high * (1 + error) + a.floor, _towards_0(x.high, error, a.floor))
        low = torch.where(x.low < 0, x.low * (1 + error) - a.floor, -_towards_0(-x.low, error, a.floor))
        return self.representable(low - absolute, high + absolute)

    def representable(self, low: Tensor, high: Tensor) -> Interval:
        """Give what exceeds the network's largest number as infinite, and what is not known as unbounded."""
        largest = self.arithmetic.largest
        high, low = high.nan_to_num(_INF, _INF, -_INF), low.nan_to_num(-_INF, _INF, -_INF)
        high = torch.where(high > largest, _INF, high).clamp(min=-largest)
        low = torch.where(low < -largest, -_INF, low).clamp(max=largest)
        return Interval(low, high)


def _towards_0(negative: Tensor, error: float, floor: float) -> Tensor:
    return (negative * max(0.0, 1 - error) + floor).clamp(max=0)


# --- sums of products ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Parts:
    """A quantity for each of the positive and negative terms of an upper, and of a lower bound; all at least 0."""

    high_positive: Tensor
    high_negative: Tensor
    low_positive: Tensor
    low_negative: Tensor

    @classmethod
    def of(cls, x: Interval) -> _Parts:
        return cls(x.high.clamp(min=0), (-x.high).clamp(min=0), x.low.clamp(min=0), (-x.low).clamp(min=0))

    def map(self, function: Callable[[Tensor], Tensor]) -> _Parts:
        return _Parts(*map(function, self._all()))

    def __add__(self, other: _Parts) -> _Parts:
        return _Parts(*(a + b for a, b in zip(self._all(), other._all(), strict=True)))

    def negated(self) -> _Parts:
        """The parts of -x."""
        return _Parts(self.low_negative, self.low_positive, self.high_negative, self.high_positive)

    def _all(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.high_positive, self.high_negative, self.low_positive, self.low_negative


def _summed(op: Op, parts: _Parts, error: float, lost: float | Tensor) -> Interval:
    """Bounds of a sum from those of its terms, each known to the relative ``error``."""

    def upper(positive: Tensor, negative: Tensor) -> Tensor:
        positive, negative = positive.nan_to_num(_INF, _INF), negative.nan_to_num(0.0, _INF)
        largest = torch.where(positive > 0, positive * (1 + error), 0.0)
        bound = largest - negative * max(0.0, 1 - error) + lost
        # A sum keeps the common sign of its terms, however it is rounded.
        bound = torch.where(positive > 0, bound, bound.clamp(max=0))
        # A partial sum, of the positive terms alone, may overflow.
        return torch.where(largest > op.arithmetic.largest, _INF, bound)

    low = -upper(parts.low_negative, parts.low_positive)
    return op.representable(low, upper(parts.high_positive, parts.high_negative))


def _products(x: Interval, weight: Any, apply: Callable[[Tensor, Tensor], Tensor]) -> _Parts:
    """The parts of ``apply(x, weight)``, which is linear in each; the weight must be a constant."""
    if not isinstance(weight, Tensor):
        raise Unbounded
    parts, weight = _Parts.of(x), weight.double()
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
    return torch.where(hit, _INF, apply(x.masked_fill(infinite, 0), weight))


def _affine(
    op: Op, x: Interval, weight: Any, bias: Any, terms: int, apply: Callable[[Tensor, Tensor], Tensor]
) -> Interval:
    parts = _products(x, weight, apply) + _constant(bias)
    return _summed(op, parts, op.arithmetic.sum_error(terms), op.arithmetic.lost(terms))


def _constant(value: Any) -> _Parts:
    if value is None:
        value = torch.zeros((), dtype=torch.float64)
    if not isinstance(value, Tensor):
        raise Unbounded
    return _Parts.of(Interval(value.double(), value.double()))


def _linear(op: Op) -> Interval:
    return _affine(op, op.x, op["weight"], op["bias"], op.x.shape[-1], F.linear)


def _matmul(op: Op) -> Interval:
    left, right = list(op.arguments.values())[:2]
    if isinstance(left, Tensor) and not isinstance(right, Tensor):
        return _affine(op, op.interval(right), left, None, left.shape[-1], lambda v, w: torch.matmul(w, v))
    return _affine(op, op.interval(left), right, None, op.interval(left).shape[-1], torch.matmul)


def _addmm(op: Op) -> Interval:
    if op["alpha"] != 1 or op["beta"] != 1:
        raise Unbounded
    x = op.interval(op["mat1"])
    return _affine(op, x, op["mat2"], op["self"], x.shape[-1], torch.matmul)


def _convolution(op: Op) -> Interval:
    weight = op["weight"]
    if not isinstance(weight, Tensor):
        raise Unbounded
    transposed = "transpose" in op.name
    fan_in = weight.shape[0] // op["groups"] * weight[0, 0].numel() if transposed else weight[0].numel()
    bias = op["bias"]
    if isinstance(bias, Tensor):
        bias = bias.view(-1, *[1] * (weight.dim() - 2))
    return _affine(op, op.x, weight, bias, fan_in, lambda v, w: op.on(v, weight=w, bias=None))


def _batch_norm(op: Op) -> Interval:
    """x a - mean a + b with a = weight / sqrt(var + eps), however that is bracketed: at most 16 roundings a term."""
    mean, var, weight, bias = (op[name] for name in ("running_mean", "running_var", "weight", "bias"))
    if op.arguments.get("training") or not (isinstance(mean, Tensor) and isinstance(var, Tensor)):
        raise Unbounded  # batch statistics
    floor = op.arithmetic.floor
    shifted = var.double() + op["eps"]
    scale = shifted.rsqrt() * (1.0 if weight is None else weight.double())
    if (shifted < 4 * floor).any() or ((scale != 0) & (scale.abs() < 4 * floor)).any():
        raise Unbounded  # too small to be known to any relative error

    def channels(value: Tensor) -> Tensor:
        return value.view(-1, *[1] * (len(op.x.shape) - 2))

    scale = channels(scale)
    parts = _products(op.x, scale, torch.mul) + _constant(-channels(mean.double()) * scale)
    parts = parts + _constant(None if bias is None else channels(bias))
    error = gamma(16, op.arithmetic.u) + 4 * gamma(32, _U64)
    return _summed(op, parts, error, 16 * floor * (1 + scale.abs()))


def _mean(op: Op, terms: int | None = None) -> Interval:
    """A sum with equal weights, of ``terms`` numbers each."""
    same = {"dtype": None} if "dtype" in op.arguments else {}
    parts = _Parts.of(op.x).map(lambda v: op.on(v, **same))
    if terms is None:
        terms = op.x.low.numel() // max(1, parts.high_positive.numel())
    return _summed(op, parts, op.arithmetic.sum_error(terms + 2), op.arithmetic.lost(terms))


def _avg_pool(op: Op) -> Interval:
    if (op.arguments.get("divisor_override") or 1) < 0:
        raise Unbounded
    kernel, dims = op["kernel_size"], int(op.name[-2])
    return _mean(op, math.prod(kernel) if len(kernel) == dims else kernel[0] ** dims)


def _adaptive_avg_pool(op: Op) -> Interval:
    sizes = op.x.shape[-len(op["output_size"]) :]
    return _mean(op, math.prod(n // k + 2 for n, k in zip(sizes, op["output_size"], strict=True)))


# --- element by element -------------------------------------------------------------------------------------------


def _add(op: Op, sign: int = 1) -> Interval:
    a, b = op.x, op.interval(op["other"])
    if op.arguments.get("alpha", 1) != 1:
        b = _times(op, b, op.interval(op["alpha"]))
    if sign < 0:
        b = Interval(-b.high, -b.low)
    return op.rounded(Interval(a.low + b.low, a.high + b.high))


def _subtract(op: Op) -> Interval:
    return _add(op, -1)


def _subtract_from(op: Op) -> Interval:
    if op["alpha"] != 1:
        raise Unbounded
    difference = _subtract(op)
    return Interval(-difference.high, -difference.low)


def _multiply(op: Op) -> Interval:
    return _times(op, op.x, op.interval(op["other"]))


def _times(op: Op, a: Interval, b: Interval) -> Interval:
    ends = torch.stack(torch.broadcast_tensors(a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high))
    ends = ends.nan_to_num(0.0, _INF, -_INF)  # 0 * inf: an infinite end is a limit, times exactly 0
    return op.rounded(Interval(ends.amin(0), ends.amax(0)))


def _divide(op: Op) -> Interval:
    if op.arguments.get("rounding_mode") is not None:
        raise Unbounded
    a, b = op.x, op.interval(op["other"])
    ends = torch.stack(torch.broadcast_tensors(a.low / b.low, a.low / b.high, a.high / b.low, a.high / b.high))
    known = ((b.low > 0) | (b.high < 0)) & ~ends.isnan().any(0)
    return op.rounded(
        Interval(torch.where(known, ends.amin(0), -_INF), torch.where(known, ends.amax(0), _INF)),
        gamma(2, op.arithmetic.u),  # by a constant: perhaps times its reciprocal
    )


def _reciprocal(op: Op) -> Interval:
    known = (op.x.low > 0) | (op.x.high < 0)
    low, high = torch.where(known, 1 / op.x.high, -_INF), torch.where(known, 1 / op.x.low, _INF)
    return op.rounded(Interval(low, high))


def _negate(op: Op) -> Interval:
    return Interval(-op.x.high, -op.x.low)


def _maximum(op: Op) -> Interval:
    other = op.interval(op["other"])
    return Interval(torch.maximum(op.x.low, other.low), torch.maximum(op.x.high, other.high))


def _minimum(op: Op) -> Interval:
    other = op.interval(op["other"])
    return Interval(torch.minimum(op.x.low, other.low), torch.minimum(op.x.high, other.high))


def _clamped(op: Op, smallest: Any, largest: Any) -> Interval:
    low, high = op.x.low, op.x.high
    if smallest is not None:
        end = op.interval(smallest)
        low, high = torch.maximum(low, end.low), torch.maximum(high, end.high)
    if largest is not None:
        end = op.interval(largest)
        low, high = torch.minimum(low, end.low), torch.minimum(high, end.high)
    return Interval(low, high)


def _clamp(op: Op) -> Interval:
    return _clamped(op, op.arguments.get("min"), op.arguments.get("max"))


def _hardtanh(op: Op) -> Interval:
    return _clamped(op, op["min_val"], op["max_val"])


def _where(op: Op) -> Interval:
    a, b, condition = op.interval(op["self"]), op.interval(op["other"]), op["condition"]
    if isinstance(condition, Tensor):
        return Interval(torch.where(condition, a.low, b.low), torch.where(condition, a.high, b.high))
    return Interval(torch.minimum(a.low, b.low), torch.maximum(a.high, b.high))


# --- functions of one variable ------------------------------------------------------------------------------------


def _curve(
    op: Op,
    function: Callable[[Tensor], Tensor],
    turn: float | None = None,
    absolute: float = 0.0,
    error: float | None = None,
) -> Interval:
    """Bounds of a function that is monotone, or monotone on each side of ``turn``.

    ``absolute``, in units of u, is for formulas that lose relative precision (1 + erf(x), exp(x) - 1).
    """
    low, high = op.x.low.clamp(-_LARGEST, _LARGEST), op.x.high.clamp(-_LARGEST, _LARGEST)
    points = [low, high] if turn is None else [low, high, torch.full_like(low, turn).clamp(low, high)]
    values = torch.stack([function(point) for point in points])
    error = op.arithmetic.function_error() if error is None else error
    return op.rounded(Interval(values.amin(0), values.amax(0)), error, absolute * op.arithmetic.sum_u)


def _relu(op: Op) -> Interval:
    return Interval(op.x.low.clamp(min=0), op.x.high.clamp(min=0))


def _leaky(slope: Callable[[Op], Any]) -> Callable[[Op], Interval]:
    """x for x > 0, slope x otherwise; a negative slope turns at 0."""

    def rule(op: Op) -> Interval:
        value = slope(op)
        return _curve(op, lambda v: torch.where(v > 0, v, v * value), 0.0)

    return rule


def _prelu_slope(op: Op) -> Tensor:
    weight = op["weight"]
    if not isinstance(weight, Tensor):
        raise Unbounded
    return weight.double() if weight.numel() == 1 else weight.double().view(-1, *[1] * (len(op.x.shape) - 2))


def _rrelu_slope(op: Op) -> float:
    if op["training"]:
        raise Unbounded  # random
    return float(op["lower"] + op["upper"]) / 2


def _exponential(alpha: float, scale: float, steepness: float) -> Callable[[Tensor], Tensor]:
    return lambda v: torch.where(v > 0, scale * v, torch.expm1(v.clamp(max=0) * steepness) * (alpha * scale))


def _elu(op: Op) -> Interval:
    alpha, scale = float(op["alpha"]), float(op["scale"])
    function = _exponential(alpha, scale, float(op["input_scale"]))
    return _curve(op, function, 0.0, _FUNCTION * abs(alpha * scale))


def _selu(op: Op) -> Interval:
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return _curve(op, _exponential(alpha, scale, 1.0), 0.0, _FUNCTION * alpha * scale)


def _celu(op: Op) -> Interval:
    alpha = float(op["alpha"])
    return _curve(op, _exponential(alpha, 1.0, 1 / alpha), 0.0, _FUNCTION * abs(alpha))


def _softplus(op: Op) -> Interval:
    """log(1 + exp(beta x)) / beta; torch gives x itself where beta x > threshold, a step down of less than log 2 / beta."""
    beta, threshold = float(op["beta"]), float(op["threshold"])
    if beta <= 0:
        raise Unbounded
    smooth = _curve(op, lambda v: torch.logaddexp(v * beta, torch.zeros_like(v)) / beta)
    step = op.x.low.clamp(min=threshold / beta)
    after_the_step = op.rounded(Interval(step, step), gamma(4, op.arithmetic.u))
    return Interval(torch.minimum(smooth.low, after_the_step.low), smooth.high)


def _gelu(op: Op) -> Interval:
    kind = op["approximate"]
    # 1 + erf(x / sqrt 2) and 1 + tanh(...) are off by some u, and x is below 8 where they are not yet 0 or 2.
    return _curve(op, lambda v: F.gelu(v, approximate=kind), turning_point(nn.GELU, approximate=kind), 8 * _FUNCTION)


def _hardsigmoid(op: Op) -> Interval:
    return _curve(op, lambda v: (v / 6 + 0.5).clamp(0, 1), absolute=_FUNCTION)


def _hardswish(op: Op) -> Interval:
    return _curve(op, lambda v: v * (v / 6 + 0.5).clamp(0, 1), turning_point(nn.Hardswish), absolute=_FUNCTION)


def _power(op: Op) -> Interval:
    if op["exponent"] != 2:
        raise Unbounded
    return _square(op)


def _square(op: Op) -> Interval:
    return _curve(op, torch.square, 0.0, error=gamma(2, op.arithmetic.u))


# --- moving and choosing ------------------------------------------------------------------------------------------


def _moved(op: Op) -> Any:
    """Operations that only move numbers: done to both ends."""
    low = op.target(**{name: _end(value, "low") for name, value in op.arguments.items()})
    high = op.target(**{name: _end(value, "high") for name, value in op.arguments.items()})
    if isinstance(low, Tensor):
        return Interval(low, high)
    return tuple(Interval(a, b) for a, b in zip(low, high, strict=True))


def _end(value: Any, end: str) -> Any:
    if isinstance(value, Interval):
        return getattr(value, end)
    if isinstance(value, Undecided):
        raise Unbounded
    return [_end(v, end) for v in value] if isinstance(value, (list, tuple)) else value


def _padded(op: Op) -> Any:
    moved = _moved(op)
    return op.rounded(moved) if op.arguments.get("value") else moved


def _cast(op: Op) -> Interval:
    return op.rounded(op.x)


def _dropout(op: Op) -> Interval:
    if op["train"]:
        raise Unbounded  # random
    return op.x


def _monotone(op: Op) -> Any:
    """Largest or smallest values, exact; with their indices, which depend on the input."""
    if "other" in op.arguments:
        return (_maximum if op.name == "max" else _minimum)(op)
    low, high = op.on(op.x.low), op.on(op.x.high)
    return Interval(low, high) if isinstance(low, Tensor) else (Interval(low[0], high[0]), Undecided())


def _undecided(_: Op) -> Undecided:
    return Undecided()


#: These only move numbers, so they are done to constants as they stand.
MOVES = frozenset(
    [
        "adjoint",
        "alias",
        "as_strided",
        "broadcast_to",
        "cat",
        "channel_shuffle",
        "chunk",
        "clone",
        "concat",
        "contiguous",
        "detach",
        "detach_copy",
        "diagonal",
        "embedding",
        "expand",
        "expand_as",
        "flatten",
        "flip",
        "getitem",
        "index",
        "index_select",
        "lift_fresh",
        "lift_fresh_copy",
        "movedim",
        "mT",
        "narrow",
        "numpy_T",
        "permute",
        "pixel_shuffle",
        "pixel_unshuffle",
        "repeat",
        "reshape",
        "roll",
        "select",
        "slice",
        "split",
        "split_with_sizes",
        "squeeze",
        "stack",
        "swapaxes",
        "t",
        "tensor_split",
        "transpose",
        "unbind",
        "unflatten",
        "unsafe_chunk",
        "unsafe_split",
        "unsqueeze",
        "view",
        "view_as",
    ]
)
#: These make constants.
MAKES = frozenset(
    [
        "arange",
        "eye",
        "full",
        "full_like",
        "ones",
        "ones_like",
        "scalar_tensor",
        "zeros",
        "zeros_like",
        "new_zeros",
        "new_ones",
        "new_full",
    ]
)
_COMPARISONS = [
    "gt",
    "ge",
    "lt",
    "le",
    "eq",
    "ne",
    "logical_and",
    "logical_or",
    "logical_not",
    "and",
    "or",
    "xor",
    "isnan",
    "isinf",
    "bitwise_and",
    "bitwise_or",
    "bitwise_not",
    "argmax",
    "argmin",
]
_CONVOLUTIONS = [f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3)]

#: ATen operator, without underscores around it -> its rule.
RULES: dict[str, Callable[[Op], Any]] = {
    "linear": _linear,
    **dict.fromkeys(("matmul", "mm", "bmm", "mv"), _matmul),
    "addmm": _addmm,
    **dict.fromkeys(_CONVOLUTIONS, _convolution),
    **dict.fromkeys(("batch_norm", "native_batch_norm_legit_no_training"), _batch_norm),
    **dict.fromkeys(("mean", "sum"), _mean),
    **{f"avg_pool{n}d": _avg_pool for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d": _adaptive_avg_pool for n in (1, 2, 3)},
    **{f"max_pool{n}d{suffix}": _monotone for n in (1, 2, 3) for suffix in ("", "_with_indices")},
    **{f"adaptive_max_pool{n}d": _monotone for n in (1, 2, 3)},
    **dict.fromkeys(("amax", "amin", "max", "min"), _monotone),
    "add": _add,
    **dict.fromkeys(("sub", "subtract"), _subtract),
    "rsub": _subtract_from,
    **dict.fromkeys(("mul", "multiply"), _multiply),
    **dict.fromkeys(("div", "true_divide"), _divide),
    "neg": _negate,
    "maximum": _maximum,
    "minimum": _minimum,
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max", "clip"), _clamp),
    "where": _where,
    "relu": _relu,
    "relu6": lambda op: _clamped(op, 0, 6),
    "hardtanh": _hardtanh,
    "leaky_relu": _leaky(lambda op: float(op["negative_slope"])),
    "prelu": _leaky(_prelu_slope),
    "rrelu": _leaky(_rrelu_slope),
    "elu": _elu,
    "selu": _selu,
    "celu": _celu,
    "softplus": _softplus,
    "gelu": _gelu,
    "silu": lambda op: _curve(op, F.silu, turning_point(nn.SiLU)),
    "mish": lambda op: _curve(op, F.mish, turning_point(nn.Mish)),
    "hardsigmoid": _hardsigmoid,
    "hardswish": _hardswish,
    "sigmoid": lambda op: _curve(op, torch.sigmoid),
    "tanh": lambda op: _curve(op, torch.tanh),
    "abs": lambda op: _curve(op, torch.abs, 0.0, error=0.0),
    "sqrt": lambda op: _curve(op, lambda v: v.clamp(min=0).sqrt()),
    "reciprocal": _reciprocal,
    "square": _square,
    "pow": _power,
    **dict.fromkeys(("pad", "constant_pad_nd", "reflection_pad2d", "replication_pad2d"), _padded),
    **dict.fromkeys(("to", "to_copy", "type_as"), _cast),
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"), _dropout),
    **dict.fromkeys(MOVES, _moved),
    **dict.fromkeys(_COMPARISONS, _undecided),
}
