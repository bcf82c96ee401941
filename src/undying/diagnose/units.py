"""Follow the units of every tensor through a forward pass: decided by what produced it, never by its rank alone.

Convolutions and batch, group and instance norm put units on the channel axis; linear layers, layer and RMS norm,
embeddings, recurrent layers and attention on the last. From there they are followed through the operations that keep,
move, cut or join axes (:class:`undying.diagnose.layout.Layout`). Through any other operation they are lost, and a
tensor of more than two dimensions is then ambiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from undying.diagnose.layout import Layout


class AmbiguousError(ValueError):
    """Nothing that is followed decides which axis holds the units of a site."""


class UnitAxes(TorchFunctionMode):
    """While active, remembers the layout of every tensor it can follow."""

    def __init__(self) -> None:
        super().__init__()
        self._layouts: MutableMapping[Tensor, Layout] = WeakIdKeyDictionary()

    def of(self, x: Tensor) -> Layout | None:
        """The layout of ``x``, or None where nothing that is known decides it."""
        return self._layouts.get(x)

    def __torch_function__(
        self, func: Callable[..., Any], _: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        # Before the call: an operation in place returns its own input.
        follow = following(func if name == "__get__" else name.strip("_"), args, kwargs, self.of)
        out = func(*args, **kwargs)
        for tensor in tensors_in([out]):
            layout = follow(tensor)
            if layout is not None:
                self._layouts[tensor] = layout
            else:
                self._layouts.pop(tensor, None)
        return out


def following(
    operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], of: Callable[[Tensor], Layout | None]
) -> Callable[[Tensor], Layout | None]:
    """What an operation does to layouts: a function from each tensor that it gives to its layout, or None.

    Args:
        operation: name of the function or method, without the underscores of dunders and of operations in place; a
            property as it is.
        args, kwargs: of the call.
        of: the layout of an argument, or None.
    """
    rule = _RULES.get(operation)
    if rule is None:
        return lambda _: None
    call = _Call(args, kwargs, of)
    return lambda out: rule(call, out) if out.dim() else None


def site_layout(name: str, x: Tensor, followed: Layout | None, axes: Mapping[str, int]) -> Layout:
    """The layout at a site: by the axis that the user names in ``axes``, as followed, or the last of at most two.

    Raises:
        AmbiguousError: none of these decides it.
        ValueError: ``axes`` names an axis that x does not have.
    """
    axis = axes.get(name)
    if axis is not None:
        if not -x.dim() <= axis < x.dim():
            raise ValueError(f"site {name!r}: axes gives {axis}, but its input has shape {tuple(x.shape)}")
        return Layout.along(axis, x.shape)
    if followed is not None and followed.shape == tuple(x.shape):
        return followed
    if not 0 < x.dim() <= 2:
        raise AmbiguousError(
            f"site {name!r}: nothing that is followed decides which axis of its {tuple(x.shape)} input holds the units; "
            f"name it, for example axes={{{name!r}: 1}}"
        )
    return Layout.along(-1, x.shape)


class _Call:
    """The arguments of an operation, and the layouts of those that have one."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], of: Callable[[Tensor], Layout | None]) -> None:
        self.args, self.kwargs = args, kwargs
        self._of = {id(t): layout for t in tensors_in((args, kwargs)) if (layout := of(t)) is not None}

    def of(self, tensor: Any) -> Layout | None:
        return self._of.get(id(tensor))

    @property
    def layouts(self) -> list[Layout]:
        return list(self._of.values())

    @property
    def first(self) -> Layout | None:
        return next(iter(self._of.values()), None)

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)


_Rule = Callable[[_Call, Tensor], "Layout | None"]


def _elementwise(call: _Call, out: Tensor) -> Layout | None:
    return _agreed(layout.broadcast(out.shape) for layout in call.layouts)


def _resized(call: _Call, out: Tensor) -> Layout | None:
    return _agreed(layout.resized(out.shape) for layout in call.layouts)


def _agreed(layouts: Iterable[Layout | None]) -> Layout | None:
    """The one layout that all who have one agree on; one of a single unit gives way to one of several."""
    different = {layout for layout in layouts if layout is not None}
    telling = {layout for layout in different if layout.units > 1} or different
    return telling.pop() if len(telling) == 1 else None


def _reshaped(call: _Call, out: Tensor) -> Layout | None:
    return call.first and call.first.reshaped(out.shape)


def _reduced(call: _Call, out: Tensor) -> Layout | None:
    if call.first is None:
        return None
    if out.dim() == len(call.first.axes):  # dimensions are kept, or max and min of two operands
        return _resized(call, out)
    dims = call.argument(1, "dim", call.kwargs.get("axis"))
    if isinstance(dims, int):
        return call.first.without([dims])
    return call.first.without(dims) if isinstance(dims, (tuple, list)) else None


def _picked(call: _Call, _: Tensor) -> Layout | None:
    return call.first and call.first.without([call.argument(1, "dim", 0)])


def _stacked(call: _Call, out: Tensor) -> Layout | None:
    if call.first is None:
        return None
    at = call.argument(1, "dim", 0) % out.dim()
    return Layout((*call.first.axes[:at], ((out.shape[at], 0),), *call.first.axes[at:]))


def _permuted(call: _Call, _: Tensor) -> Layout | None:
    given = call.argument(1, "dims", ())
    return call.first and call.first.permuted(call.args[1:] if isinstance(given, int) else given)


def _transposed(call: _Call, out: Tensor) -> Layout | None:
    names = ("dim0", "dim1") if "dim0" in call.kwargs else ("axis0", "axis1")
    order = list(range(out.dim()))
    a, b = (call.argument(1 + i, name) for i, name in enumerate(names))
    order[a], order[b] = order[b], order[a]
    return call.first and call.first.permuted(order)


def _axis_moved(call: _Call, out: Tensor) -> Layout | None:
    source, destination = call.argument(1, "source"), call.argument(2, "destination")
    if not isinstance(source, int) or not isinstance(destination, int):
        return None
    order = list(range(out.dim()))
    order.insert(destination % out.dim(), order.pop(source))
    return call.first and call.first.permuted(order)


def _last_two_swapped(call: _Call, out: Tensor) -> Layout | None:
    order = list(range(out.dim()))
    return call.first and call.first.permuted([*order[:-2], *order[-2:][::-1]])


def _reversed(call: _Call, out: Tensor) -> Layout | None:
    return call.first and call.first.permuted(range(out.dim())[::-1])


def _indexed(call: _Call, out: Tensor) -> Layout | None:
    layout = call.of(call.args[0])
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
    kept = layout.without(d for d, i in enumerate(i for i in index if i is not None) if isinstance(i, int))
    if kept is None:
        return None
    axes = list(kept.axes)
    for d, i in enumerate(i for i in index if not isinstance(i, int)):
        if i is None:
            axes.insert(d, ())
    return Layout(tuple(axes)).resized(out.shape)


def _gathered(layout: Layout, index: Tensor, out: Tensor) -> Layout | None:
    """x[index], with numbers or a mask."""
    taken = index.dim() if index.dtype == torch.bool else 1
    rest = layout.without(range(taken))
    if rest is None or index.dim() == 0:
        return None
    return Layout((*(((size, 0),) for size in out.shape[: out.dim() - len(rest.axes)]), *rest.axes))


def _product(call: _Call, out: Tensor) -> Layout | None:
    """A product with weights has its units last."""
    return _weighed(call, out, call.argument(1, "other", call.kwargs.get("mat2")))


def _product_reversed(call: _Call, out: Tensor) -> Layout | None:
    return _weighed(call, out, call.args[0])


def _attention(call: _Call, out: Tensor) -> Layout | None:
    return _weighed(call, out, call.argument(2, "value"))


def _weighed(call: _Call, out: Tensor, values: Tensor) -> Layout | None:
    """A product with values whose units are followed, as in attention, has theirs."""
    layout = call.of(values)
    if layout is None:
        return Layout.along(-1, out.shape)
    if len(layout.axes) < 2 or any(step for _, step in layout.axes[-2]):
        return None
    return Layout((*layout.axes[:-2], (), layout.axes[-1])).resized((*layout.shape[:-2], out.shape[-2], out.shape[-1]))


def _last(_: _Call, out: Tensor) -> Layout:
    return Layout.along(-1, out.shape)


def _second(_: _Call, out: Tensor) -> Layout:
    return Layout.along(1, out.shape)


def _channels(n: int) -> _Rule:
    return lambda _, out: Layout.along(out.dim() - n - 1, out.shape)  # without a batch axis the channels come first


def _names(rule: _Rule, names: str) -> dict[Any, _Rule]:
    return dict.fromkeys(names.split(), rule)


_RULES: dict[Any, _Rule] = {
    **_names(
        _last,
        "linear bilinear addmm layer_norm native_layer_norm rms_norm embedding embedding_bag lstm gru rnn_tanh rnn_relu",
    ),
    **_names(_last, "multi_head_attention_forward"),
    **_names(_second, "batch_norm native_batch_norm_legit_no_training group_norm native_group_norm instance_norm"),
    **{f"conv{t}{n}d": _channels(n) for t in ("", "_transpose") for n in (1, 2, 3)},
    **_names(
        _elementwise,
        """abs absolute add addcdiv addcmul alpha_dropout bfloat16 broadcast_to celu clamp clip clone contiguous copy cos cpu
        cuda cumsum detach div divide double dropout dropout1d dropout2d dropout3d elu erf exp expand expand_as expm1
        feature_alpha_dropout float fmax fmin fmod gelu half hardshrink hardsigmoid hardswish hardtanh iadd idiv imul isub
        itruediv leaky_relu lerp log log1p log_softmax logsigmoid masked_fill maximum minimum mish mul multiply nan_to_num
        neg negative normalize pow prelu radd rdiv reciprocal relu relu6 remainder requires_grad rmul rpow rrelu rsqrt rsub
        rtruediv selu sigmoid sign silu sin softmax softmin softplus softshrink softsign sqrt square sub subtract tanh
        tanhshrink threshold to true_divide truediv type type_as where local_response_norm""",
    ),
    **_names(
        _resized,
        """cat concat concatenate chunk split tensor_split narrow index_select pad interpolate upsample flip roll glu
        pixel_shuffle pixel_unshuffle repeat slice""",
    ),
    **{f"{k}_pool{n}d": _resized for k in ("max", "avg", "lp", "adaptive_avg", "adaptive_max") for n in (1, 2, 3)},
    **{f"{k}_pool{n}d_with_indices": _resized for k in ("max", "adaptive_max") for n in (1, 2, 3)},
    **_names(_reshaped, "view reshape flatten unflatten squeeze unsqueeze view_as reshape_as ravel"),
    **_names(_reduced, "mean sum amax amin max min std var norm logsumexp median nanmean nansum"),
    **_names(_picked, "select unbind"),
    "stack": _stacked,
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
    Tensor.data.__get__: _elementwise,  # type: ignore[attr-defined]
}
"""By the name of the function or method, without the underscores of dunders and of operations in place."""


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """All tensors in nested lists, tuples and mappings."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)
        elif isinstance(value, Mapping):
            yield from tensors_in(value.values())
