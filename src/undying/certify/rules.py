"""A rule for each operator: intervals of its inputs to an interval of all values that it can compute.

A new rule is a function of an :class:`Op` and a line of :data:`RULES`.
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
from undying.certify.arithmetic import FUNCTION, INF, U64, Arithmetic, Interval, Parts, Unbounded, gamma, products
from undying.certify.backends import Backends

_LARGEST = torch.finfo(torch.float64).max


class Undecided:
    """A tensor of booleans or indices that depends on the input."""


@dataclass(frozen=True)
class Op:
    """One call of an ATen operator: its arguments by the schema's names, its arithmetic, and what may compute it."""

    name: str
    target: Callable[..., Any]
    arguments: dict[str, Any]
    arithmetic: Arithmetic
    device: torch.device
    backends: Backends

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
        """As :meth:`Arithmetic.rounded`."""
        return self.arithmetic.rounded(x, error, absolute)


# --- sums of products ---------------------------------------------------------------------------------------------


def _affine(
    op: Op, x: Interval, weight: Any, bias: Any, terms: int, apply: Callable[[Tensor, Tensor], Tensor]
) -> Interval:
    parts = products(x, weight, apply) + _constant(bias)
    return op.arithmetic.summed(parts, op.arithmetic.sum_error(terms), op.arithmetic.lost(terms))


def _constant(value: Any) -> Parts:
    if value is None:
        value = torch.zeros((), dtype=torch.float64)
    if not isinstance(value, Tensor):
        raise Unbounded
    return Parts.of(Interval(value.double(), value.double()))


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
    dilated, depthwise = transposed or max(op["dilation"]) > 1, weight.shape[1] == 1 and op["groups"] > 1
    by = op.backends.transforms(weight.dtype, op.device, weight.shape[2:], dilated=dilated, depthwise=depthwise)
    if by is not None:
        raise Unbounded(f"by {by}")
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
    parts = products(op.x, scale, torch.mul) + _constant(-channels(mean.double()) * scale)
    parts = parts + _constant(None if bias is None else channels(bias))
    error = gamma(16, op.arithmetic.u) + 4 * gamma(32, U64)
    return op.arithmetic.summed(parts, error, 16 * floor * (1 + scale.abs()))


def _mean(op: Op, terms: int | None = None) -> Interval:
    """A sum with equal weights, of ``terms`` numbers each."""
    same = {"dtype": None} if "dtype" in op.arguments else {}
    parts = Parts.of(op.x).map(lambda v: op.on(v, **same))
    if terms is None:
        terms = op.x.low.numel() // max(1, parts.high_positive.numel())
    return op.arithmetic.summed(parts, op.arithmetic.sum_error(terms + 2), op.arithmetic.lost(terms))


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
    ends = ends.nan_to_num(0.0, INF, -INF)  # 0 * inf: an infinite end is a limit, times exactly 0
    return op.rounded(Interval(ends.amin(0), ends.amax(0)))


def _divide(op: Op) -> Interval:
    if op.arguments.get("rounding_mode") is not None:
        raise Unbounded
    a, b = op.x, op.interval(op["other"])
    ends = torch.stack(torch.broadcast_tensors(a.low / b.low, a.low / b.high, a.high / b.low, a.high / b.high))
    known = ((b.low > 0) | (b.high < 0)) & ~ends.isnan().any(0)
    return op.rounded(
        Interval(torch.where(known, ends.amin(0), -INF), torch.where(known, ends.amax(0), INF)),
        gamma(2, op.arithmetic.u),  # by a constant: perhaps times its reciprocal
    )


def _reciprocal(op: Op) -> Interval:
    known = (op.x.low > 0) | (op.x.high < 0)
    low, high = torch.where(known, 1 / op.x.high, -INF), torch.where(known, 1 / op.x.low, INF)
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
    return op.rounded(Interval(values.amin(0), values.amax(0)), error, absolute * op.arithmetic.function_u)


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
    return _curve(op, function, 0.0, FUNCTION * abs(alpha * scale))


def _selu(op: Op) -> Interval:
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return _curve(op, _exponential(alpha, scale, 1.0), 0.0, FUNCTION * alpha * scale)


def _celu(op: Op) -> Interval:
    alpha = float(op["alpha"])
    return _curve(op, _exponential(alpha, 1.0, 1 / alpha), 0.0, FUNCTION * abs(alpha))


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
    return _curve(op, lambda v: F.gelu(v, approximate=kind), turning_point(nn.GELU, approximate=kind), 8 * FUNCTION)


def _hardsigmoid(op: Op) -> Interval:
    return _curve(op, lambda v: (v / 6 + 0.5).clamp(0, 1), absolute=FUNCTION)


def _hardswish(op: Op) -> Interval:
    return _curve(op, lambda v: v * (v / 6 + 0.5).clamp(0, 1), turning_point(nn.Hardswish), absolute=FUNCTION)


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


def _viewed(op: Op) -> Interval:
    """A view, of ends that may lie in memory in another way than the network's own numbers."""
    shape = op["size"] if "size" in op.arguments else getattr(op.arguments.get("other"), "shape", None)
    if shape is None:
        raise Unbounded  # bits taken for numbers of another type
    return Interval(op.x.low.reshape(shape), op.x.high.reshape(shape))


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


def _names(rule: Callable[[Op], Any], names: str) -> dict[str, Callable[[Op], Any]]:
    return dict.fromkeys(names.split(), rule)


#: These only move numbers, so they are done to constants as they stand. None may depend on how a tensor lies in memory,
#: as as_strided does: that differs with the layout of the input, and with what computed a convolution.
MOVES = _names(_viewed, "view view_as") | _names(
    _moved,
    """adjoint alias broadcast_to cat channel_shuffle chunk clone concat contiguous detach detach_copy diagonal
    embedding expand expand_as flatten flip getitem index index_select lift_fresh lift_fresh_copy movedim mT narrow numpy_T
    permute pixel_shuffle pixel_unshuffle repeat reshape roll select slice split split_with_sizes squeeze stack swapaxes t
    tensor_split transpose unbind unflatten unsafe_chunk unsafe_split unsqueeze""",
)

_MAKES = "arange eye full full_like new_full new_ones new_zeros ones ones_like scalar_tensor zeros zeros_like"
#: These make constants.
MAKES = frozenset(_MAKES.split())

#: ATen operator, without underscores around it -> its rule.
RULES: dict[str, Callable[[Op], Any]] = {
    **_names(_linear, "linear"),
    **_names(_matmul, "matmul mm bmm mv"),
    **_names(_addmm, "addmm"),
    **_names(_convolution, "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"),
    **_names(_batch_norm, "batch_norm native_batch_norm_legit_no_training"),
    **_names(_mean, "mean sum"),
    **_names(_avg_pool, "avg_pool1d avg_pool2d avg_pool3d"),
    **_names(_adaptive_avg_pool, "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d"),
    **_names(
        _monotone,
        """amax amin max min max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices
        max_pool3d_with_indices adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d""",
    ),
    **_names(_add, "add"),
    **_names(_subtract, "sub subtract"),
    **_names(_subtract_from, "rsub"),
    **_names(_multiply, "mul multiply"),
    **_names(_divide, "div true_divide"),
    **_names(_negate, "neg"),
    **_names(_maximum, "maximum"),
    **_names(_minimum, "minimum"),
    **_names(_clamp, "clamp clamp_min clamp_max clip"),
    **_names(_where, "where"),
    **_names(_relu, "relu"),
    **_names(lambda op: _clamped(op, 0, 6), "relu6"),
    **_names(_hardtanh, "hardtanh"),
    **_names(_leaky(lambda op: float(op["negative_slope"])), "leaky_relu"),
    **_names(_leaky(_prelu_slope), "prelu"),
    **_names(_leaky(_rrelu_slope), "rrelu"),
    **_names(_elu, "elu"),
    **_names(_selu, "selu"),
    **_names(_celu, "celu"),
    **_names(_softplus, "softplus"),
    **_names(_gelu, "gelu"),
    **_names(lambda op: _curve(op, F.silu, turning_point(nn.SiLU)), "silu"),
    **_names(lambda op: _curve(op, F.mish, turning_point(nn.Mish)), "mish"),
    **_names(_hardsigmoid, "hardsigmoid"),
    **_names(_hardswish, "hardswish"),
    **_names(lambda op: _curve(op, torch.sigmoid), "sigmoid"),
    **_names(lambda op: _curve(op, torch.tanh), "tanh"),
    **_names(lambda op: _curve(op, torch.abs, 0.0, error=0.0), "abs"),
    **_names(lambda op: _curve(op, lambda v: v.clamp(min=0).sqrt()), "sqrt"),
    **_names(_reciprocal, "reciprocal"),
    **_names(_square, "square"),
    **_names(_power, "pow"),
    **_names(_padded, "pad constant_pad_nd reflection_pad2d replication_pad2d"),
    **_names(_cast, "to to_copy type_as"),
    **_names(_dropout, "dropout feature_dropout alpha_dropout feature_alpha_dropout"),
    **MOVES,
    **_names(
        _undecided,
        """gt ge lt le eq ne logical_and logical_or logical_not and or xor isnan isinf bitwise_and bitwise_or bitwise_not
        argmax argmin""",
    ),
}
