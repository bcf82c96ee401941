"""What makes the units of a network and what reads them, by parameter: found by following one forward pass.

Every unit of every tensor has an id. A layer with weights gives its outputs new ids, and notes which part of which
parameter makes each of them and which part weighs each of its inputs. What only moves values (reshape, slice,
concatenate, shuffle) is done to the ids as it is done to the values. Whatever else reads a unit is noted by its name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from undying.treat.layers import Arguments, Weighing, over_axes, pooled, weighing
from undying.units.layout import Layout
from undying.units.tensors import tensors_in


def _words(text: str) -> set[str]:
    return set(text.split())


_SAME = _words("""contiguous clone detach dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout float double half
    bfloat16 to type type_as cpu cuda requires_grad""")
_MOVES = _words("""view reshape flatten unflatten squeeze unsqueeze permute transpose swapaxes swapdims movedim moveaxis t adjoint
    view_as reshape_as ravel getitem slice narrow select unbind chunk split tensor_split index_select cat concat
    concatenate stack expand expand_as broadcast_to repeat roll flip channel_shuffle native_channel_shuffle""")
_PROPERTIES = {Tensor.T.__get__, Tensor.mT.__get__}  # type: ignore[attr-defined]
_DATA = Tensor.data.__get__  # type: ignore[attr-defined]
_ADDS = _words("add radd iadd")
_SUMS = _ADDS | _words("sub subtract rsub isub")
_PRODUCTS = _words("mul multiply rmul imul div divide truediv itruediv true_divide neg negative")
_NORMS: dict[Any, str] = {
    F.batch_norm: "running_mean running_var weight bias",
    F.instance_norm: "running_mean running_var weight bias",
    F.group_norm: "num_groups weight bias",
    F.layer_norm: "normalized_shape weight bias",
    F.rms_norm: "normalized_shape weight",
}
_APART = (F.batch_norm, F.instance_norm)
"""Norms that compute a unit from the same unit alone."""
_ASKS = _words("""size dim ndimension stride numel nelement element_size storage_offset data_ptr get_device len
    is_contiguous is_floating_point is_complex is_inference is_pinned result_type repr format zeros_like ones_like
    empty_like full_like rand_like randn_like new_zeros new_ones new_empty new_full""")
"""Functions that do not look at values."""


@dataclass
class Slot:
    """A parameter of which each of a call's units has a part."""

    given: Tensor
    """What the call was given: the parameter or a view of it."""
    parameter: nn.Parameter | None
    """None for one that was computed."""
    rows: Tensor
    """int64, the shape of ``given``: the id of the unit that each element is a part of."""
    is_bias: bool = False

    def on(self, whole: Tensor) -> Tensor:
        """The part of ``whole``, laid out as the parameter, that ``given`` is of it."""
        assert self.parameter is not None
        offset = self.given.storage_offset() - self.parameter.storage_offset()
        return whole.as_strided(self.given.size(), self.given.stride(), offset)


def like(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    """Zeros on the CPU, laid out in memory as ``parameter``."""
    return torch.empty_strided(parameter.size(), parameter.stride(), dtype=dtype).zero_()


def few(numbers: Tensor) -> Tensor:
    """The same tensor with one of each value that it repeats along an axis."""
    for d in repeated(numbers):
        numbers = numbers.narrow(d, 0, 1)
    return numbers


def repeated(numbers: Tensor) -> list[int]:
    """The axes along which a tensor repeats its values, as one that was expanded does."""
    return [d for d in range(numbers.dim()) if numbers.stride(d) == 0 and numbers.shape[d] > 1]


@dataclass
class Reading:
    """How a layer weighs the units that it reads."""

    weight: Slot
    columns: Tensor
    """int64, the shape of what was given as the weight: the id of the unit that each element weighs."""
    mean: Tensor
    """float64, as ``columns``: mean of the unit's values on the probe, each as often as the element meets it."""
    places: int
    """How many values that is a mean of."""
    share: float = 1.0
    """In how many outputs, of those that a value is next to, an element meets it."""

    @property
    def ids(self) -> Tensor:
        """int64: the units that are read."""
        ids: Tensor = few(self.columns).unique()
        return ids

    def join(self, other: Reading) -> None:
        """Take in what the same call gave on another batch."""
        places = self.places + other.places
        mean = (few(self.mean) * self.places + few(other.mean) * other.places) / places
        self.mean, self.places = mean.expand(self.mean.shape), places


@dataclass
class Made:
    """Units that one call makes, with the ids ``first``, ``first + 1``, ..."""

    where: str
    """``conv1 (conv2d)``; of a site, its name."""
    kind: str
    """``weighted``, ``norm`` (each unit by itself), ``mixing norm``, ``bias``, ``scaled``, ``sum``, ``difference`` or ``site``."""
    first: int
    count: int
    slots: list[Slot] = field(default_factory=list)
    child: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    """int64: ids made here, each with ..."""
    parent: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    """... one that it is computed from alone or in a sum; empty where all are mixed, or nothing is followed."""
    running: list[tuple[nn.Module, str, float]] = field(default_factory=list)
    """Buffers of running statistics, by module and name, and the value that they begin with."""
    reading: Reading | None = None
    lost: str = ""
    """Of a site: what made its input, where that is not followed."""

    @property
    def ids(self) -> Tensor:
        return torch.arange(self.first, self.first + self.count)

    @property
    def bias(self) -> Slot | None:
        return next((slot for slot in self.slots if slot.is_bias), None)


class Flow:
    """Follows one forward pass.

    Args:
        model: the network.
        module_name: gives the name of the module that is running.
    """

    def __init__(self, model: nn.Module, module_name: Callable[[], str]) -> None:
        self.made: list[Made] = []
        self.sites: dict[str, Made] = {}
        self.layouts: dict[str, Layout] = {}
        """Of what each site gave."""
        self.reads: list[tuple[Tensor, str]] = []
        """(ids, by what), where it is no weighted sum of units."""
        self.parameter_reads: dict[nn.Parameter, str] = {}
        """Where a parameter is used for anything but what ``made`` says."""
        self.count = 1
        """Ids so far; 0 is that of everything that is not followed."""
        self._module_name = module_name
        self._labels: MutableMapping[Tensor, Tensor] = WeakIdKeyDictionary()
        self._lost: MutableMapping[Tensor, str] = WeakIdKeyDictionary()
        self._open = 0
        self._at_site: Tensor | None = None
        self._buffers = {id(b): (m, n) for m in model.modules() for n, b in m._buffers.items() if b is not None}
        self._owners: dict[int, list[nn.Parameter]] = {}
        for parameter in model.parameters():
            self._owners.setdefault(_memory(parameter), []).append(parameter)

    # A site: between its beginning and its end, what the activation computes with is its own affair.

    def begins(self, x: Tensor) -> None:
        """An activation is about to be called with x."""
        if not self._open:
            self._at_site = self._labels.get(x)
            self._why_lost = self._lost.get(x, "the input of the network")
        self._open += 1

    def ends(self, name: str | None, layout: Layout | None, h: Tensor) -> None:
        """It gave h; without a name and a layout its units are not known."""
        self._open -= 1
        if self._open:
            return
        below = self._at_site
        if name is None or layout is None:
            self._read(below, "an activation whose unit axis nothing decides")
            self._forget(h, "an activation whose unit axis nothing decides")
            return
        numbers = _numbers(layout).to(h.device)
        made = self._new(name, "site", layout.units)
        if below is None or below.dim() != numbers.dim():
            made.child, made.parent = made.ids, torch.zeros(made.count, dtype=torch.int64)
            made.lost = self._why_lost
        else:
            pairs = torch.stack([t.flatten() for t in torch.broadcast_tensors(numbers + made.first, below)])
            made.child, made.parent = pairs.long().unique(dim=1).cpu()
        self.sites[name], self.layouts[name] = made, layout
        self._labels[h] = numbers + made.first

    def returned(self, output: Any) -> None:
        """The network gave this."""
        for tensor in tensors_in([output]):
            self._read(self._labels.get(tensor), "the network returns it")

    def called(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Note one operation, after it."""
        if self._open:
            return
        name = getattr(func, "__name__", "").strip("_")
        made = list(tensors_in([out]))
        if name in _ASKS or (name == "get" and not made):
            return
        given = list(tensors_in((*args, *kwargs.values())))
        self._at = f"{self._module_name()} ({name})"
        self._slots: list[Tensor] = []
        call = Arguments(args, kwargs)
        if not self._followed(func, name, call, given, out):
            for tensor in given:
                self._read(self._labels.get(tensor), f"{self._at} reads it")
            for tensor in made or (given[:1] if out is None else ()):  # None: x[0] = h
                self._forget(tensor, self._at)
        for tensor in given:
            source = self._parameter(tensor)
            if source is None or any(tensor is slot for slot in self._slots):
                continue
            if not made or any(self._parameter(t) is not source for t in made):  # a view of it reads nothing
                self.parameter_reads.setdefault(source, self._at)

    def _followed(self, func: Any, name: str, call: Arguments, given: list[Tensor], out: Any) -> bool:
        """Give ids to what was made, if it is known how."""
        if isinstance(out, Tensor) and (weighs := weighing(name, call, self._parameter)) is not None:
            return self._weighted(weighs, out)
        if func in _NORMS and isinstance(out, Tensor):
            return self._normed(func, call, out)
        labelled = [t for t in given if t in self._labels]
        if not labelled:
            return False
        x = call.get(0, "input")
        if name == "copy" and labelled[-1] is call.get(1, "src") and labelled[-1].shape == x.shape:
            self._labels[x] = self._labels[labelled[-1]]
            return True
        if name in _MOVES or func in _PROPERTIES:
            return self._moved(func, call, out)
        if not isinstance(out, Tensor):
            return False
        if name in _SUMS or name in _PRODUCTS:
            return self._arithmetic(name, call, given, labelled, out)
        if x is not labelled[0]:
            return False
        labels = self._labels[x]
        if (name in _SAME or func is _DATA) and out.shape == x.shape:
            self._labels[out] = labels
            return True
        if len(labelled) > 1:
            return False
        if (dims := pooled(name, x, call)) is not None and all(labels.size(d) == 1 for d in dims):
            self._labels[out] = labels
            return True
        if name in ("mean", "sum", "amax", "amin"):
            given_dims = call.get(1, "dim", call.kwargs.get("axis"))
            over = [given_dims] if isinstance(given_dims, int) else given_dims
            if isinstance(over, (tuple, list)) and over and all(labels.shape[d] == 1 for d in over):
                left = labels.amax([*over], keepdim=out.dim() == x.dim())
                if name == "sum":
                    return self._computed("scaled", left, None, out)
                self._labels[out] = left
                return True
        return False

    def _weighted(self, w: Weighing, out: Tensor) -> bool:
        made = self._new(self._at, "weighted", w.units)
        weight = self._slot(made, w.weight, over_axes(w.rows + made.first, w.weight))
        if w.bias is not None:
            self._slot(made, w.bias, made.ids, is_bias=True)
        ids = self._along(w.x, w.input_axis)
        if ids is not None:
            others = [d for d in range(w.x.dim()) if d != w.input_axis % w.x.dim()]
            total = w.x.detach().sum(others, dtype=torch.float64) if others else w.x.detach().double()
            places = w.x.numel() // max(1, w.x.shape[w.input_axis])
            means = total.cpu() * w.share / places
            columns, mean = (over_axes(values[w.columns], w.weight) for values in (ids, means))
            made.reading = Reading(weight, columns, mean, places, w.share)
        elif w.x in self._labels:
            self._read(self._labels[w.x], f"{self._at} weighs different units as one")
        self._set_along(out, w.output_axis, made)
        return True

    def _normed(self, func: Any, call: Arguments, out: Tensor) -> bool:
        x = call.get(0, "input")
        apart = func in _APART
        shape = call.get(1, "normalized_shape") if func in (F.layer_norm, F.rms_norm) else (x.shape[1],)
        ids = self._along(x, 1) if apart else None
        made = self._new(self._at, "norm" if apart else "mixing norm", math.prod(shape))
        if ids is not None:
            made.child, made.parent = made.ids, ids
        elif x in self._labels:
            self._read(self._labels[x], f"{self._at} mixes it with others")
        for position, key in enumerate(_NORMS[func].split(), 1):
            value = call.get(position, key)
            if key in ("weight", "bias") and value is not None:
                self._slot(made, value, made.ids.view(value.shape), is_bias=key == "bias")
            elif isinstance(value, Tensor) and id(value) in self._buffers:
                made.running.append((*self._buffers[id(value)], float(key == "running_var")))
        if func in (F.layer_norm, F.rms_norm):
            self._labels[out] = made.ids.to(out.device, torch.int32).view([1] * (out.dim() - len(shape)) + list(shape))
        else:
            self._set_along(out, 1, made)
        return True

    def _moved(self, func: Any, call: Arguments, out: Any) -> bool:
        def ids(value: Any, ready: Callable[[Tensor], Tensor]) -> Any:
            if isinstance(value, Tensor) and value in self._labels:
                return ready(self._labels[value].expand(value.shape))
            if isinstance(value, Tensor) and value.is_floating_point():
                return torch.zeros((), dtype=torch.int32, device=value.device).expand(value.shape)
            return type(value)(ids(v, ready) for v in value) if type(value) in (list, tuple) else value

        for ready in (lambda labels: labels, Tensor.contiguous):  # a view may need what is laid out densely
            try:
                moved = func(
                    *(ids(value, ready) for value in call.args), **{k: ids(v, ready) for k, v in call.kwargs.items()}
                )
                break
            except (RuntimeError, TypeError):
                continue
        else:
            return False
        for tensor, labels in zip(tensors_in([out]), tensors_in([moved]), strict=True):
            self._labels[tensor] = _compact(labels)
        return True

    def _arithmetic(self, name: str, call: Arguments, given: list[Tensor], labelled: list[Tensor], out: Tensor) -> bool:
        """Sums and products, elementwise; a product of two followed tensors is lost."""
        x = labelled[0]
        other = next((t for t in given if t is not x), None)
        labels = self._labels[x]
        if name in _PRODUCTS:
            if len(labelled) > 1 or not (call.get(0, "input") is x or name in ("mul", "multiply")):
                return False
            return self._computed("scaled", labels, None, out)
        if other is None:  # a number is added, or x to itself
            return self._computed("scaled", labels, None, out)
        kind = "sum" if name in _ADDS and "alpha" not in call.kwargs else "difference"
        if other in self._labels:
            return self._computed(kind, labels, self._labels[other], out)
        alike = torch.broadcast_shapes(labels.shape, other.shape) == labels.shape and other.numel() == labels.numel()
        if self._parameter(other) is not None and alike and kind == "sum":
            made = self._computed("bias", labels, None, out)
            self._slot(self.made[-1], other, self._labels[out].reshape(other.shape).long().cpu(), is_bias=True)
            return made
        return self._computed(kind, labels, torch.zeros_like(labels), out)

    def _computed(self, kind: str, a: Tensor, b: Tensor | None, out: Tensor) -> bool:
        """New ids for each pair of one in ``a`` and one in ``b``."""
        if a.dim() > out.dim() or (b is not None and b.dim() > out.dim()):
            return False
        if b is None:
            # One for each place: a bias may differ where the unit does not.
            pairs, new = a.flatten()[None], torch.arange(a.numel(), device=a.device).view(a.shape)
        else:
            both = torch.stack([t.flatten() for t in torch.broadcast_tensors(a, b)])
            shape = torch.broadcast_shapes(a.shape, b.shape)
            pairs, new = both.unique(dim=1, return_inverse=True)
            new = new.view(shape)
        made = self._new(self._at, kind, pairs.shape[1])
        made.child = made.ids.repeat(len(pairs))
        made.parent = pairs.flatten().long().cpu()
        labels = (new + made.first).int()
        self._labels[out] = labels.view([1] * (out.dim() - labels.dim()) + list(labels.shape))
        return True

    def _new(self, where: str, kind: str, count: int) -> Made:
        made = Made(where, kind, self.count, count)
        self.count += count
        self.made.append(made)
        return made

    def _slot(self, made: Made, given: Tensor, rows: Tensor, *, is_bias: bool = False) -> Slot:
        self._read(self._labels.get(given), f"{self._at} reads it as a parameter")
        slot = Slot(given.detach(), self._parameter(given), rows, is_bias)
        made.slots.append(slot)
        self._slots.append(given)
        return slot

    def _along(self, x: Tensor, axis: int) -> Tensor | None:
        """int64, on the CPU: the ids along one axis of x; None where they differ along others too, or are unknown."""
        labels = self._labels.get(x)
        if labels is None or labels.dim() != x.dim():
            return None
        axis = axis % x.dim()
        if any(size != 1 for d, size in enumerate(labels.shape) if d != axis):
            return None
        return labels.flatten().expand(x.shape[axis]).long().cpu()

    def _set_along(self, out: Tensor, axis: int, made: Made) -> None:
        shape = [1] * out.dim()
        shape[axis] = made.count
        self._labels[out] = made.ids.to(out.device, torch.int32).view(shape)

    def _read(self, labels: Tensor | None, by: str) -> None:
        if labels is not None:
            self.reads.append((labels.unique().long().cpu(), by))

    def _forget(self, tensor: Tensor, where: str) -> None:
        self._labels.pop(tensor, None)
        self._lost[tensor] = where

    def _parameter(self, tensor: Tensor) -> nn.Parameter | None:
        """The parameter that this is, or is a view of."""
        owners = self._owners.get(_memory(tensor), ()) if type(tensor) in (Tensor, nn.Parameter) else ()
        # Of several that share their memory, none is changed for the others.
        return owners[0] if len(owners) == 1 and type(owners[0]) is nn.Parameter else None


def _numbers(layout: Layout) -> Tensor:
    """int32: the unit at each place, of size 1 along axes that tell no units apart."""
    numbers = torch.zeros([1] * len(layout.axes), dtype=torch.int32)
    for d, axis in enumerate(layout.axes):
        along = torch.zeros(1, dtype=torch.int32)
        for size, step in axis:
            along = (along[:, None] + step * torch.arange(size, dtype=torch.int32)).flatten()
        if any(step for _, step in axis):
            numbers = numbers + along.view([-1 if e == d else 1 for e in range(len(layout.axes))])
    return numbers


def _compact(labels: Tensor) -> Tensor:
    """Of size 1 along axes along which nothing changes."""
    for d in range(labels.dim()):
        first = labels.narrow(d, 0, 1) if labels.shape[d] else labels
        if labels.shape[d] > 1 and bool((labels == first).all()):
            labels = first
    return labels.clone()


def _memory(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return 0
