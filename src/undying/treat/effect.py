"""What taking activations out does to a network's output, and to its accuracy, over data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from undying._base.preserve_state import device_of, preserve_state
from undying.census.batches import Method, batches_of, entry, moved, unpacked
from undying.treat.change import undone
from undying.treat.difference import difference
from undying.treat.report import Effect
from undying.units.tensors import tensors_in


def effect_of_reverting(model: nn.Module, data: Any, method: Method) -> Effect:
    """Run each batch through the network as it is and as it was before its conversions, in eval mode with the same random
    numbers.

    Raises:
        ValueError: no batch, or outputs without a number.
    """
    largest, numbers = 0.0, 0
    correct, labels = [0, 0], 0
    for batch in batches_of(data):
        args, kwargs, target = unpacked(moved(batch, device_of(model)))
        before = _output(model, method, args, kwargs)
        with undone(model):
            after = _output(model, method, args, kwargs)
        for change, count in _changes(before, after):
            largest, numbers = max(largest, change), numbers + count
        hits = [_correct(output, target) for output in (before, after)]
        if hits[0] is not None and hits[1] is not None:
            labels += len(hits[0])
            correct = [total + int(hit.sum()) for total, hit in zip(correct, hits, strict=True) if hit is not None]
    if not numbers:
        raise ValueError(
            "check: the data gave no batch, or outputs without a number, so that no change can be measured"
        )
    return Effect(largest, (correct[0] / labels, correct[1] / labels) if labels else None, labels)


def _output(model: nn.Module, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with preserve_state(model), torch.no_grad():
        model.eval()
        return entry(model, method)(*args, **kwargs)


def _changes(before: Any, after: Any) -> Iterator[tuple[float, int]]:
    """Largest change, and count of numbers, of each tensor."""
    pairs = list(tensors_in([before])), list(tensors_in([after]))
    if len(pairs[0]) != len(pairs[1]):
        yield math.inf, 1
        return
    for a, b in zip(*pairs, strict=True):
        if a.numel() or b.numel():
            yield difference(a, b), max(a.numel(), b.numel())


def _correct(output: Any, target: Any) -> Tensor | None:
    """bool, a value a label: whether the highest score is the label's. None where these are not scores and labels: (N, C)
    and (N,), (N, C, ...) and (N, ...), or (N, ..., C) and (N, ...). Negative labels, as those to ignore, do not count."""
    if isinstance(target, Mapping):
        target = target.get("labels")
    scores = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(scores, Tensor) or not isinstance(target, Tensor) or scores.dim() < 2:
        return None
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        return None
    axes = {axis for axis in (1, scores.dim() - 1) if scores.shape[:axis] + scores.shape[axis + 1 :] == target.shape}
    if len(axes) != 1 or not scores.shape[min(axes)]:
        return None
    counted = target >= 0
    return (scores.argmax(min(axes)) == target)[counted]
