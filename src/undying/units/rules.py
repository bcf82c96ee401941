"""Follow the units of every tensor through a forward pass: decided by what produced it, never by its rank alone.

Convolutions and batch, group and instance norm put units on the channel axis; linear layers, layer and RMS norm,
embeddings, recurrent layers and attention on the last. From there they are followed through the operations that keep,
move, cut or join axes (:class:`undying.units.layout.Layout`). Through any other operation they are lost, and a
tensor of more than two dimensions is then ambiguous. So is one of any shape whose values are known to be no units: ranks
of a sort, samples of a transposed input, products of two tensors of which neither is a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from undying.units.call import Call
from undying.units.layout import Axis, Layout, Statistic
from undying.units.marks import Known, Mark, Ranks
from undying.units.tensors import ByTensor, held_by, tensors_in


class UnitAxes(TorchFunctionMode):
    """While active, remembers the layout of every tensor it can follow."""

    def __init__(self) -> None:
        super().__init__()
        self._layouts: ByTensor[Known] = ByTensor()
        """None for a tensor that was seen and is not followed."""
        self.compares = False
        """Whether comparisons are followed too; see :func:`following`."""

    def of(self, x: Tensor) -> Layout | None:
        """The layout of ``x``, or None where nothing that is known decides it."""
        known = self._layouts.get(x)
        return known if isinstance(known, Layout) else None

    def knows(self, x: Tensor) -> bool:
        """Whether ``x`` came out of an operation that was seen."""
        return x in self._layouts

    def know(self, x: Tensor) -> None:
        """Say that nothing need be told of where ``x`` comes from."""
        if x not in self._layouts:
            self._layouts.set(x, None)

    def know_all(self, model: nn.Module) -> None:
        """Say that the buffers of ``model``, and tensors that are plain attributes, are constants, unless they were made
        by what was seen."""
        for module in model.modules():
            for tensor in held_by(module):
                if tensor not in self._layouts:
                    self._layouts.set(tensor, Mark.CONSTANT)

    def __torch_function__(
        self, func: Callable[..., Any], _: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        return self.followed(func, args, kwargs, tensors_in((*args, *kwargs.values())))[0]

    def followed(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], given: list[Tensor]
    ) -> tuple[Any, list[Tensor]]:
        """What an operation gives, and the tensors in it, which are followed; ``given``: those among its arguments."""
        name = getattr(func, "__name__", "")
        operation = func if name == "__get__" else name.strip("_")
        # Before the call: an operation in place returns its own input.
        follow = following(operation, args, kwargs, self._layouts.get, self.compares, given)
        out = func(*args, **kwargs)
        made = tensors_in([out])
        for tensor in made:
            self._layouts.set(tensor, follow(tensor))
        return out, made


def following(
    operation: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    of: Callable[[Tensor], Known],
    compares: bool = False,
    given: list[Tensor] | None = None,
) -> Callable[[Tensor], Known]:
    """What an operation does to layouts: a function from each tensor that it gives to what is known of it, or None.

    Args:
        operation: name of the function or method, without the underscores of dunders and of operations in place; a
            property as it is.
        args, kwargs: of the call.
        of: what is known of an argument, or None. Parameters are constants without being told.
        compares: follow comparisons as well, which in a network make masks of its units rather than units.
        given: the tensors among the arguments, where they were looked for.
    """
    rule = (_RULES | _COMPARISONS if compares else _RULES).get(operation, _unfollowed)
    call = Call(args, kwargs, of, given)

    def follow(out: Tensor) -> Known:
        found = rule(call, out) if out.dim() else None
        if isinstance(found, Layout) and found.shape == tuple(out.shape):
            return found
        if isinstance(found, Ranks) and found.layout.shape == tuple(out.shape):
            return found
        if call.constant:
            return Mark.CONSTANT
        if call.ranks and not call.layouts and rule in _CARRYING and out.dim():
            return _still_ranks(call, rule, out)
        lost = found is Mark.LOST or (call.lost and rule is not _scattered) or (rule in _MOVING and call.first is None)
        return Mark.LOST if lost else None

    return follow


def _still_ranks(call: Call, rule: _Rule, out: Tensor) -> Known:
    """Ranks lie after what only moves or changes values where units would, and are ranks still."""
    found = rule(call.of_ranks(), out)
    sources = {ranks.source for ranks in call.ranks}
    known = isinstance(found, Layout) and found.shape == tuple(out.shape) and len(sources) == 1
    return Ranks(found, sources.pop()) if known else Mark.LOST  # type: ignore[arg-type]


_Rule = Callable[[Call, Tensor], Known]


def _unfollowed(_: Call, __: Tensor) -> None:
    return None


def _no_units(_: Call, __: Tensor) -> Mark:
    return Mark.LOST


def _ranked(dim_at: int, default: int = -1) -> _Rule:
    """Sorted along an axis: what told units apart tells ranks apart then."""

    def rule(call: Call, out: Tensor) -> Known:
        dim, x = call.argument(dim_at, "dim", default), call.first
        if x is not None and not any(step for _, step in x.axes[dim]):
            return _resized(call, out)
        if x is None and call.lost:
            return Mark.LOST
        source: Axis | None = None
        if x is not None:
            source, *others = (x.axes[dim], *(axis for d, axis in enumerate(x.axes) if d != dim % len(x.axes)))
            if any(step for axis in others for _, step in axis):  # ranks of some of the units, at others
                return Mark.LOST
        return Ranks(Layout.along(dim, out.shape), source)

    return rule


def _kth(call: Call, out: Tensor) -> Known:
    found = _ranked(2)(call, out)
    return Mark.LOST if isinstance(found, Ranks) else found


def _largest(call: Call, out: Tensor) -> Known:
    """One of each position, with its place where both are given: of the units a single rank."""
    found, x, dim = _reduced(call, out), call.first, call.argument(1, "dim")
    if found is not None or x is None or not isinstance(dim, int) or out.dim() != len(x.axes) - 1:
        return found
    left = Layout(tuple(axis for d, axis in enumerate(x.axes) if d != dim % len(x.axes)))
    return Mark.LOST if any(step for axis in left.axes for _, step in axis) else Ranks(left, x.axes[dim])


def _taken(dim_at: int, index_at: int) -> _Rule:
    """Picked along an axis by places: those of ranks give ranks."""

    def rule(call: Call, out: Tensor) -> Known:
        if call.first is not None and (ranks := call.ranks_of(call.argument(index_at, "index"))) is not None:
            return ranks
        dim = call.argument(dim_at, "dim", -1)
        axis = call.first.axes[dim] if call.first and dim is not None else ((1, 1),)
        return Mark.LOST if any(step for _, step in axis) else _resized(call, out)

    return rule


def _scattered(call: Call, out: Tensor) -> Layout | None:
    """Values put at places of the first argument, wherever they come from; ranks put back where they were are units."""
    if call.first is not None:
        return call.first.broadcast(out.shape)
    ranks, dim = call.ranks_of(call.argument(2, "index")), call.argument(1, "dim")
    if ranks is None or ranks.source is None or not isinstance(dim, int):
        return None
    place = dim % out.dim()
    if any(step for d, axis in enumerate(ranks.layout.axes) if d != place for _, step in axis):
        return None
    axes = [*Layout.single(out.shape).axes]
    axes[place] = ranks.source
    return Layout(tuple(axes))


def _elementwise(call: Call, out: Tensor) -> Layout | None:
    return _agreed(layout.broadcast(out.shape) for layout in call.layouts)


def _kept(call: Call, out: Tensor) -> Layout | None:
    return call.first and call.first.broadcast(out.shape)


def _copied(call: Call, out: Tensor) -> Layout | None:
    source = call.of(call.argument(1, "src"))
    return source and source.broadcast(out.shape)


def _resized(call: Call, out: Tensor) -> Layout | None:
    return call.first and call.first.resized(out.shape)


def _rearranged(call: Call, out: Tensor) -> Layout | None:
    return call.first and call.first.rearranged(out.shape)


def _joined(call: Call, out: Tensor) -> Layout | None:
    layouts = [layout.resized(out.shape) for layout in call.layouts]
    return None if None in layouts else _agreed(layouts)


def _agreed(layouts: Iterable[Layout | None]) -> Layout | None:
    """The one layout that all who have one agree on; one of a single unit gives way to one of several."""
    known = [layout for layout in layouts if layout is not None]
    different = {layout for layout in known if layout.units > 1} or set(known[:1])
    return different.pop() if len(different) == 1 else None


def _reshaped(call: Call, out: Tensor) -> Layout | None:
    return call.first and call.first.reshaped(out.shape)


def _reduced(call: Call, out: Tensor) -> Layout | None:
    if call.first is None:
        return None
    dims = call.argument(1, "dim", call.kwargs.get("axis"))
    if isinstance(dims, Tensor) or "other" in call.kwargs:  # max and min of two
        return _elementwise(call, out)
    over = (dims,) if isinstance(dims, int) else dims
    if not isinstance(over, (tuple, list)):
        return None
    # Dimensions are kept, or dropped.
    left = _resized(call, out) if out.dim() == len(call.first.axes) else call.first.without(over)
    ranks = {d % len(call.first.axes) for d in over}
    samples = 0 in ranks and not any(step for _, step in call.first.axes[0])
    return Statistic(left.axes) if left and samples and left.units == out.numel() else left


def _picked(call: Call, _: Tensor) -> Layout | None:
    return call.first and call.first.selected([call.argument(1, "dim", 0)])


def _stacked(call: Call, out: Tensor) -> Layout | None:
    at = call.argument(1, "dim", 0) % out.dim()
    layout = _agreed(call.layouts)
    return layout and layout.stacked(at, out.shape[at])


def _permuted(call: Call, _: Tensor) -> Layout | None:
    given = call.argument(1, "dims", ())
    return call.first and call.first.permuted(call.args[1:] if isinstance(given, int) else given)


def _transposed(call: Call, out: Tensor) -> Layout | None:
    names = ("dim0", "dim1") if "dim0" in call.kwargs else ("axis0", "axis1")
    order = list(range(out.dim()))
    a, b = (call.argument(1 + i, name) for i, name in enumerate(names))
    order[a], order[b] = order[b], order[a]
    return call.first and call.first.permuted(order)


def _axis_moved(call: Call, out: Tensor) -> Layout | None:
    source, destination = (
        [axis % out.dim() for axis in ([given] if isinstance(given, int) else given)]
        for given in (call.argument(1, "source"), call.argument(2, "destination"))
    )
    moved = dict(zip(destination, source, strict=True))
    rest = iter(d for d in range(out.dim()) if d not in source)
    return call.first and call.first.permuted(moved[d] if d in moved else next(rest) for d in range(out.dim()))


def _last_two_swapped(call: Call, out: Tensor) -> Layout | None:
    order = list(range(out.dim()))
    return call.first and call.first.permuted([*order[:-2], *order[-2:][::-1]])


def _reversed(call: Call, out: Tensor) -> Layout | None:
    return call.first and call.first.permuted(range(out.dim())[::-1])


def _indexed(call: Call, out: Tensor) -> Layout | None:
    layout = call.first
    if layout is None:
        return None
    index = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    if len(index) == 1 and isinstance(index[0], Tensor):
        return _gathered(layout, index[0], out)
    if not all(i is None or i is Ellipsis or (isinstance(i, (int, slice)) and not isinstance(i, bool)) for i in index):
        return None
    missing = len(layout.axes) - sum(isinstance(i, (int, slice)) for i in index)
    at = index.index(Ellipsis) if Ellipsis in index else len(index)
    index = (*index[:at], *[slice(None)] * missing, *index[at + 1 :])
    cut = layout.selected(d for d, i in enumerate(i for i in index if i is not None) if isinstance(i, int))
    new = [d for d, i in enumerate(i for i in index if not isinstance(i, int)) if i is None]
    resized = cut.resized([size for d, size in enumerate(out.shape) if d not in new])
    for d in new:
        resized = resized and resized.stacked(d, 1)
    return resized


def _gathered(layout: Layout, index: Tensor, out: Tensor) -> Layout | None:
    """x[index], with numbers or a mask."""
    taken = index.dim() if index.dtype == torch.bool else 1
    rest = layout.without(range(taken))
    if rest is None or index.dim() == 0:
        return None
    for size in reversed(out.shape[: out.dim() - len(rest.axes)]):
        rest = rest.stacked(0, size)
    return rest


def _product(call: Call, out: Tensor) -> Layout | Mark | None:
    return _weighed(call, out, call.args[0], call.argument(1, "other", call.kwargs.get("mat2")))


def _product_reversed(call: Call, out: Tensor) -> Layout | Mark | None:
    return _weighed(call, out, call.args[1], call.args[0])


def _added_product(call: Call, out: Tensor) -> Layout | Mark | None:
    return _weighed(call, out, call.argument(1, "mat1"), call.argument(2, "mat2"))


def _einsum(call: Call, out: Tensor) -> Layout | Mark:
    """Of data and weights, the units are where the one letter is that only the weights have."""
    equation, *operands = call.args
    inputs, arrow, result = equation.replace(" ", "").partition("->") if isinstance(equation, str) else ("", "", "")
    terms = inputs.split(",")
    data = "".join(term for term, x in zip(terms, operands, strict=False) if not call.is_constant(x))
    own = [i for i, letter in enumerate(result) if letter not in data]
    plain = arrow and "." not in equation and len(terms) == len(operands)
    return Layout.along(own[0], out.shape) if plain and len(own) == 1 else Mark.LOST


def _attention(call: Call, out: Tensor) -> Layout | None:
    values = call.of(call.argument(2, "value"))
    return values and _summed(values, out)


def _weighed(call: Call, out: Tensor, left: Tensor, right: Tensor) -> Layout | Mark | None:
    """A product with values whose units are followed, as in attention, has theirs; one with weights has its units where
    they do: last, or before it with the weights on the left. Of two tensors of data none says where."""
    values = call.of(right)
    if values is not None and _keeps_units(values):
        return _summed(values, out)
    if call.is_constant(left):
        return Layout.along(-2, out.shape) if left.dim() == 2 and right.dim() > 1 else Mark.LOST
    if not call.is_constant(right):
        return Mark.LOST
    if right.dim() == 1:
        return Layout.single(out.shape)
    return Layout.along(-1, out.shape) if right.dim() == 2 else None


def _linear(call: Call, out: Tensor) -> Layout | None:
    if call.is_constant(call.argument(0, "input")) and not call.is_constant(
        call.argument(1, "weight")
    ):  # weights times samples
        return Layout.along(-2, out.shape) if out.dim() > 1 else None
    return _last(call, out)


def _keeps_units(values: Layout) -> bool:
    """Whether sums over the last axis but one are each of a single unit."""
    return len(values.axes) > 1 and not any(step for _, step in values.axes[-2])


def _summed(values: Layout, out: Tensor) -> Layout | None:
    """Sums of values over their last axis but one."""
    if not _keeps_units(values) or out.dim() < 2:
        return None
    rest = Layout((*values.axes[:-2], values.axes[-1])).broadcast([*out.shape[:-2], out.shape[-1]])
    return rest and rest.stacked(out.dim() - 2, out.shape[-2])


def _normed(call: Call, out: Tensor) -> Layout | None:
    """Over one axis, that of the units; over several, such as (C, H, W), as its input."""
    return _last(call, out) if len(call.argument(1, "normalized_shape")) == 1 else _kept(call, out)


def _last(_: Call, out: Tensor) -> Layout:
    return Layout.along(-1, out.shape)


def _second(_: Call, out: Tensor) -> Layout:
    return Layout.along(1, out.shape)


def _channels(n: int) -> _Rule:
    return lambda _, out: Layout.along(out.dim() - n - 1, out.shape)  # without a batch axis the channels come first


def _names(rule: _Rule, names: str) -> dict[Any, _Rule]:
    return dict.fromkeys(names.split(), rule)


_RULES: dict[Any, _Rule] = {
    **_names(
        _last,
        """bilinear embedding embedding_bag one_hot lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell
        multi_head_attention_forward""",
    ),
    "linear": _linear,
    "addmm": _added_product,
    "einsum": _einsum,
    **_names(_no_units, "tensordot inner outer kron cdist addbmm baddbmm"),
    "topk": _ranked(2),
    **dict.fromkeys(("sort", "argsort"), _ranked(1)),
    "msort": _ranked(1, 0),
    "kthvalue": _kth,
    "take_along_dim": _taken(2, 1),
    "gather": _taken(1, 2),
    **_names(_normed, "layer_norm native_layer_norm rms_norm"),
    **_names(_second, "batch_norm native_batch_norm_legit_no_training group_norm native_group_norm instance_norm"),
    **{f"conv{t}{n}d": _channels(n) for t in ("", "_transpose") for n in (1, 2, 3)},
    **_names(
        _elementwise,
        """add addcdiv addcmul div divide fmax fmin fmod iadd idiv imul isub itruediv lerp masked_fill maximum minimum mul
        multiply pow prelu radd rdiv remainder rmul rpow rsub rtruediv sub subtract true_divide truediv where""",
    ),
    **_names(
        _kept,
        """abs absolute alpha_dropout bfloat16 broadcast_to celu clamp clamp_max clamp_min clip clone contiguous cos cpu cuda cumsum detach double
        dropout dropout1d dropout2d dropout3d elu erf exp expand expand_as expm1 feature_alpha_dropout float gelu half
        hardshrink hardsigmoid hardswish hardtanh leaky_relu local_response_norm log log1p log_softmax logsigmoid mish
        nan_to_num neg negative fake_quantize_per_channel_affine fake_quantize_per_tensor_affine
        fake_quantize_learnable_per_channel_affine fake_quantize_learnable_per_tensor_affine
        fused_moving_avg_obs_fake_quant
        normalize reciprocal relu relu6 requires_grad rrelu rsqrt selu sigmoid sign silu sin softmax
        softmin softplus softshrink softsign sqrt square tanh tanhshrink threshold to type type_as""",
    ),
    **_names(_scattered, "scatter scatter_add scatter_reduce"),
    **_names(_joined, "cat concat concatenate"),
    **_names(_resized, "chunk split tensor_split narrow slice repeat"),
    **_names(
        _rearranged,
        """channel_shuffle native_channel_shuffle flip glu index_select interpolate pad pixel_shuffle pixel_unshuffle roll
        upsample""",
    ),
    **{f"{k}_pool{n}d": _rearranged for k in ("max", "avg", "lp", "adaptive_avg", "adaptive_max") for n in (1, 2, 3)},
    **{f"{k}_pool{n}d_with_indices": _rearranged for k in ("max", "adaptive_max") for n in (1, 2, 3)},
    **_names(_reshaped, "view reshape flatten unflatten squeeze unsqueeze view_as reshape_as ravel"),
    **_names(_reduced, "mean sum amax amin std var logsumexp nanmean nansum"),
    **_names(_largest, "max min median nanmedian mode argmax argmin"),
    **_names(_picked, "select unbind"),
    "stack": _stacked,
    "copy": _copied,
    "getitem": _indexed,
    "permute": _permuted,
    "numpy_T": _reversed,
    **_names(_transposed, "transpose swapaxes swapdims"),
    **_names(_axis_moved, "movedim moveaxis"),
    **_names(_last_two_swapped, "t adjoint mT"),
    **_names(_product, "matmul mm bmm"),
    "rmatmul": _product_reversed,
    "scaled_dot_product_attention": _attention,
    # Properties all have the same name.
    Tensor.T.__get__: _reversed,  # type: ignore[attr-defined]
    Tensor.mT.__get__: _last_two_swapped,  # type: ignore[attr-defined]
    Tensor.data.__get__: _kept,  # type: ignore[attr-defined]
}
"""By the name of the function or method, without the underscores of dunders and of operations in place."""

_MOVING = {_permuted, _transposed, _reversed, _axis_moved, _last_two_swapped}
"""Of a tensor that is not followed they give one whose last axis may be its samples."""

_CARRYING = {
    *_MOVING,
    _elementwise,
    _kept,
    _resized,
    _rearranged,
    _joined,
    _reshaped,
    _reduced,
    _picked,
    _stacked,
    _indexed,
}
"""What leaves ranks ranks: values are moved, changed each by itself, or left out."""

_COMPARISONS = _names(
    _elementwise,
    """bitwise_and bitwise_not bitwise_or eq ge greater greater_equal gt and invert isfinite isinf isnan le less less_equal
    logical_and logical_not logical_or lt ne not_equal or sgn signbit""",
)


def is_elementwise(operation: str) -> bool:
    """Whether each value of the result is made of values at the same place, or as a softmax is, of the whole."""
    return _RULES.get(operation) in (_elementwise, _kept)
