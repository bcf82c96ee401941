"""Which axis of a tensor holds its units: decided by what produced the tensor, never by its rank alone.

Convolutions and batch, group and instance norm put them on the channel axis; linear layers, layer and RMS norm
and embeddings on the last. The axis is followed through the operations that keep or move axes; through any other
operation it is lost, and a tensor of more than two dimensions is then ambiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

_LAST = {"linear", "bilinear", "layer_norm", "rms_norm", "embedding"}
_SECOND = {"batch_norm", "group_norm", "instance_norm"}
_CONV = {f"conv{t}{n}d": n for t in ("", "_transpose") for n in (1, 2, 3)}
_POOL = {f"{kind}_pool{n}d" for kind in ("max", "avg", "adaptive_avg", "adaptive_max") for n in (1, 2, 3)}
# Keep every axis where it is; trailing underscores (in place) and dunders are stripped before the look-up.
_KEEP = {
    "add", "radd", "iadd", "sub", "rsub", "isub", "mul", "rmul", "imul", "div", "truediv", "itruediv", "neg", "where",
    "clamp", "clone", "contiguous", "detach", "to", "float", "double", "half", "bfloat16", "type_as", "maximum", "minimum",
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "pad", "interpolate",
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish", "softplus", "hardswish",
    "hardtanh", "hardsigmoid", "sigmoid", "tanh", "cat", "requires_grad", "normalize",
} | _POOL  # fmt: skip


class UnitAxes(TorchFunctionMode):
    """While active, remembers the unit axis of every tensor it can follow."""

    def __init__(self) -> None:
        super().__init__()
        self._axis: MutableMapping[Tensor, int] = WeakIdKeyDictionary()

    def of(self, x: Tensor) -> int | None:
        """The unit axis of ``x``, or None where nothing that is known decides it."""
        return self._axis.get(x)

    def __torch_function__(
        self, func: Callable[..., Any], _: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # Read before the call: an operation in place returns its own input.
        before = next(((self._axis[t], t.dim()) for t in _tensors((*args, *kwargs.values())) if t in self._axis), None)
        out = func(*args, **kwargs)
        if isinstance(out, Tensor):
            axis = _axis_after(getattr(func, "__name__", "").strip("_"), out, before, args, kwargs)
            if axis is not None:
                self._axis[out] = axis
        return out


def site_axis(name: str, x: Tensor, followed: int | None, axes: Mapping[str, int]) -> int:
    """The unit axis at a site: what the user says in ``axes``, what was followed, or the last of at most two.

    Raises:
        ValueError: none of these decides it, or ``axes`` names one that x does not have.
    """
    if followed is None and 0 < x.dim() <= 2:
        followed = x.dim() - 1
    axis = axes.get(name, followed)
    if axis is None:
        raise ValueError(
            f"site {name!r}: nothing that is followed decides which axis of its {tuple(x.shape)} input holds the units; "
            f"name it, for example axes={{{name!r}: 1}}"
        )
    if not -x.dim() <= axis < x.dim():
        raise ValueError(f"site {name!r}: axes gives {axis}, but its input has shape {tuple(x.shape)}")
    return axis % x.dim()


def _axis_after(
    name: str, out: Tensor, before: tuple[int, int] | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> int | None:
    """The unit axis of ``out``, made by the operation ``name`` from a tensor with ``before = (axis, dim)``."""
    if name in _LAST:
        return out.dim() - 1
    if name in _SECOND:
        return 1
    if name in _CONV:
        return out.dim() - _CONV[name] - 1  # without a batch axis the channels come first
    if before is None:
        return None
    axis, dim = before
    if name in _KEEP and out.dim() == dim:
        return axis
    if name == "permute":
        order = args[1] if len(args) == 2 and not isinstance(args[1], int) else kwargs.get("dims", args[1:])
        return [int(d) % dim for d in order].index(axis)
    if name in ("transpose", "swapaxes", "swapdims") and len(args) == 3:
        a, b = (int(d) % dim for d in args[1:])
        return {a: b, b: a}.get(axis, axis)
    return None


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
