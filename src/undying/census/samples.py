"""How many samples a forward pass is given, which bounds how often a silent unit fires.

The positions of one sample are no independent draws: neighbouring pixels and tokens are alike. What a census has seen is
therefore counted in samples, and the number must never be too large.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


def samples_in(args: Iterable[Any], kwargs: Mapping[str, Any], target: Any = None) -> int | None:
    """The length of the first axis of the first tensor in the arguments; of a list its own length, as of images or texts. A tuple
    or list may be a batch with its targets.

    Args:
        args, kwargs: of the network.
        target: of the loss. A tensor has no fewer entries than there are samples.

    Returns:
        None where nothing tells, as for an object.

    >>> import torch
    >>> samples_in([torch.zeros(8, 3, 4, 4)], {}), samples_in([["a text", "another"]], {}), samples_in([3], {})
    (8, 2, None)
    """
    found = _first((*args, *kwargs.values()))
    return min(found, len(target)) if found is not None and isinstance(target, Tensor) and target.dim() else found


def samples_of(passes: Mapping[Any, int | None]) -> int | None:
    """Of a step whose passes called several parts, each with the samples that it was given: those of the largest, since all parts
    of a network as a rule see the same samples."""
    given = [number for number in passes.values() if number is not None]
    return max(given, default=0) if len(given) == len(passes) else None


def _first(values: Iterable[Any]) -> int | None:
    return next((length for value in values if (length := _length(value)) is not None), None)


def _length(value: Any) -> int | None:
    if isinstance(value, PackedSequence):  # its first tensor holds all steps of all sequences
        return int(value.batch_sizes[0])
    if isinstance(value, Tensor):
        return (value.size(0) or None) if value.dim() else None
    if isinstance(value, Mapping):
        return _first(value.values())
    if isinstance(value, str):
        return 1
    if isinstance(value, (tuple, list)) and _may_be_a_batch(value):
        first, others = value[0], value[1:]
        return len(first) if any(_form(first) != _form(other) for other in others) else None
    if isinstance(value, list):
        return len(value) or None
    if isinstance(value, tuple):
        inner = _first(value)
        if inner is None or hasattr(value, "_fields"):
            return inner
        return min(len(value), inner)  # several inputs, or a batch of images
    return None


def _may_be_a_batch(values: tuple[Any, ...] | list[Any]) -> bool:
    """Whether they may be inputs with their targets, given whole, and not images or sequences of one form."""
    if len(values) < 2 or not all(isinstance(value, Tensor) and value.dim() for value in values):
        return False
    if len({len(value) for value in values}) > 1 or len(values) == len(values[0]):
        return False
    return (len(values) == 2 and values[0].dim() != _IMAGE) or len({_form(value) for value in values}) > 1


def _form(value: Tensor) -> tuple[Any, ...]:
    """What sets of images and sequences have in common. Vectors have their size too."""
    return value.dtype, value.dim(), value.shape[1:] if value.dim() < _IMAGE else ()


def samples_shown(operation: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], samples: int) -> int:
    """``samples``, unless an operation shows that the axis they were read from is another: time, or channels.

    Args:
        operation: name of the function.
        args, kwargs: of the call.
        samples: as known so far.
    """
    x = args[0] if args else kwargs.get("input", kwargs.get("query"))
    if not isinstance(x, Tensor):
        return samples
    if operation in _CONVOLUTIONS:
        return 1 if x.dim() == _CONVOLUTIONS[operation] + 1 and len(x) == samples else samples
    if operation in _RECURRENT and len(args) < _UNPACKED:  # of packed sequences
        return samples
    if operation == "multi_head_attention_forward" and x.dim() == 2:  # the tokens of one sample
        return 1 if len(x) == samples else samples
    if operation not in _RECURRENT and operation != "multi_head_attention_forward":
        return samples
    first = operation in _RECURRENT and bool(args[_UNPACKED - 1])
    batch, time = x.shape[:2] if first else x.shape[:2][::-1]
    return min(samples, batch) if time == samples else samples


def fewer(so_far: Any, most: Any, given: int | None) -> Any:
    """The samples of one more forward pass added: no more than have values, nor than were given; None where unknown."""
    if so_far is None or (given is None and not isinstance(most, Tensor)):
        return None
    if given is not None:
        most = most.clamp(max=given) if isinstance(most, Tensor) else min(most, given)
    return so_far + most


def is_time_first(operation: str, args: tuple[Any, ...]) -> bool:
    """Whether this is a recurrent layer or attention whose input has time as its first axis and samples as its second."""
    if not args or not isinstance(args[0], Tensor) or args[0].dim() != 3:
        return False
    if operation in _RECURRENT:
        return len(args) >= _UNPACKED and not args[_UNPACKED - 1]
    return operation == "multi_head_attention_forward"


#: By name, how many axes the samples and the channels come before.
_CONVOLUTIONS = {f"conv{t}{n}d": n for t in ("", "_transpose") for n in (1, 2, 3)}
_IMAGE = 3
"""Axes of one image."""
_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}
_UNPACKED = 9
"""How many arguments torch gives these for a plain tensor; the last says whether samples come first."""
