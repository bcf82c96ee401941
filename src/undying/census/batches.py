"""What a batch of data gives a network: its arguments, the target of the loss, the mask."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from undying._torch import base_of

Mask = str | Callable[[Any], Tensor]
Inputs = Callable[[Any], Any]
Method = str | Callable[..., Any] | None
"""What is called with each batch in place of the network."""


def entry(model: nn.Module, method: str | Callable[..., Any] | None) -> Callable[..., Any]:
    """What is called with each batch: the model, one of its methods, or a function that calls it.

    Raises:
        TypeError: there is no such method, or without one no forward.
    """
    if method is None:
        if type(model).forward is nn.Module.forward and "forward" not in vars(model):
            raise TypeError(
                f"{type(model).__name__} has no forward to call; method= names the method that is called with each batch"
            )
        return model
    call = getattr(model, method, None) if isinstance(method, str) else method
    if not callable(call):
        raise TypeError(f"method must be a function, or name a method of {type(model).__name__}, not {method!r}")
    owner, name = getattr(call, "__self__", None), getattr(call, "__name__", "")
    if isinstance(owner, nn.Module) and inspect.ismethod(call):
        # As it is now: what it returns may be followed meanwhile.
        now = getattr(owner, name, None)
        return now if callable(now) and getattr(type(owner), name, None) is call.__func__ else call
    return call


def batches_of(data: Any) -> Iterator[Any]:
    """The batches in ``data``; a tensor or a dict is one.

    Raises:
        ValueError: it is (x, y), which is one batch or two: a tuple of tensors of as many samples that are no parts of one
            tensor, as ``x.split(8)`` gives, or a list of such whose types or numbers of axes differ.
    """
    if isinstance(data, (Tensor, Mapping, PackedSequence)):
        return iter([data])
    if isinstance(data, (tuple, list)) and _may_be_one(data):
        what = "a pair of" if len(data) == 2 else f"a {type(data).__name__} of {len(data)}"
        raise ValueError(
            f"data is {what} tensors of {len(data[0])} samples each: give [(x, y)] for one batch of inputs and targets, "
            "[x, y] for batches that are alike"
        )
    if not hasattr(data, "__iter__") and hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        # By index: a dataset need not end its own iteration with an IndexError.
        return (data[i] for i in range(len(data)))
    return iter(data)


def _may_be_one(data: tuple[Any, ...] | list[Any]) -> bool:
    """Whether these tensors may be inputs and targets rather than batches."""
    if len(data) < 2 or not all(isinstance(part, Tensor) and part.dim() and len(part) == len(data[0]) for part in data):
        return False
    if isinstance(data, list):  # of two texts the lengths may differ
        return len({(part.dtype, part.dim()) for part in data}) > 1
    return not all(itertools.starmap(_goes_on, itertools.pairwise(data)))


def _goes_on(first: Tensor, second: Tensor) -> bool:
    """Whether both are of one tensor, and the second begins where the first ends."""
    base = base_of(first)
    if base is None or base is not base_of(second) or base.dim() != first.dim():
        return False
    end = int(first.storage_offset()) + len(first) * int(first.stride(0))
    return first.stride() == second.stride() and int(second.storage_offset()) == end


def unpacked(
    batch: Any, inputs: Inputs | None = None, *, whole: bool = False
) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """(args, kwargs, target): a dict is keyword arguments and its own target; of a tuple the first is the input and
    the second the target, and an input that is itself a tuple or a dict is several arguments. Texts are one input, a
    list of them too, and so is a PackedSequence.

    Args:
        batch: of the data.
        inputs: gives the input of a batch, whose target is then the batch itself.
        whole: the batch is one argument.
    """
    if whole:
        return (batch,), {}, batch
    if inputs is not None:
        return (*_arguments(inputs(batch)), batch)
    if isinstance(batch, Mapping):
        return (), dict(batch), batch
    if not _comes_apart(batch):
        return (batch,), {}, None
    return (*_arguments(batch[0]), batch[1] if len(batch) > 1 else None)


def _arguments(given: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(given, Mapping):
        return (), dict(given)
    return (tuple(given) if _comes_apart(given) else (given,)), {}


def _comes_apart(value: Any) -> bool:
    """Whether it is several values, and not one that a tuple or a list holds."""
    if not isinstance(value, (tuple, list)) or isinstance(value, PackedSequence) or not value:
        return False
    return not all(isinstance(part, (str, bytes)) for part in value)


def mask_of(batch: Any, mask: Mask | None, inputs: Inputs | None = None) -> Tensor | None:
    """bool, true where a position counts.

    Raises:
        ValueError: the batch has no such key, or what is there is no tensor with axes.
    """
    if mask is None:
        return None
    if callable(mask):
        found = mask(batch)
    else:
        _, kwargs, _ = unpacked(batch, inputs)
        if mask not in kwargs:
            raise ValueError(f"mask={mask!r}, but the batch has {', '.join(map(repr, kwargs)) or 'no names'}")
        found = kwargs[mask]
    if not isinstance(found, Tensor) or found.dim() == 0:
        raise ValueError(f"mask must give a tensor of shape (N,) or (N, T), not {found!r}")
    return found != 0


def mask_of_call(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], mask: Mask | None) -> Tensor | None:
    """The mask of a forward pass, which may have none."""
    if mask is None:
        return None
    if callable(mask):
        return mask_of(args[0] if len(args) == 1 and not kwargs else args or kwargs, mask)
    try:
        named = dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        named = {}
    for given in (*args, *named.values(), kwargs):
        if isinstance(given, Mapping):
            named = {**named, **given}
    return None if mask in named and named[mask] is None else mask_of(named, mask)


def moved(value: Any, device: torch.device | None) -> Any:
    """The batch with its tensors copied to ``device``: in tuples, lists, dicts and dataclasses, and what has a ``to`` of its
    own. Copied, since a network may work in place on its input, and the data are looked at again."""
    if isinstance(value, Tensor):
        return value.clone() if device is None or value.device == device else value.to(device)
    if isinstance(value, PackedSequence):  # a tuple, of which one part stays on the CPU
        packed: Any = value  # torch's types know only some of what it takes
        return packed._replace(data=moved(packed.data, device)) if device is None else packed.to(device)
    if isinstance(value, Mapping):
        return {key: moved(v, device) for key, v in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(moved(v, device) for v in value))
    if isinstance(value, (tuple, list)):
        parts: Iterable[Any] = (moved(v, device) for v in value)
        return type(value)(parts)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(
            value, **{f.name: moved(getattr(value, f.name), device) for f in dataclasses.fields(value) if f.init}
        )
    return value.to(device) if device is not None and callable(getattr(value, "to", None)) else value
