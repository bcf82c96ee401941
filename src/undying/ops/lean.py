"""``lean``: SUGAR's exact gradients at ReLU's memory.

SUGAR keeps its input x for the backward pass, and the next layer keeps y = relu(x). One of the two is enough. While
``lean`` is on, saved-tensor hooks look at everything that is saved: where it is such a y, unchanged, a handle to x is kept
in its place, and the backward pass computes relu(x) again; or takes y itself, if somebody holds it until then.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import TensorWeakRef, WeakTensorKeyDictionary

from undying._torch import SEES_WHAT_IS_SAVED, base_of, saved_tensor_hooks, version_of

__all__ = ["is_lean", "lean", "remember"]


@dataclass(frozen=True)
class _Source:
    """What y can be computed from. ``x`` shares memory with SUGAR's input; nothing is copied."""

    x: Tensor
    x_version: int
    y_version: int


@dataclass(frozen=True)
class _Handle:
    """Stands for a saved y, or a view of one."""

    packed: Any
    """x, as the hooks around ours keep it."""
    y: TensorWeakRef
    y_version: int
    stride: tuple[int, ...]
    """Of x and y alike."""
    view: tuple[torch.Size, tuple[int, ...], int]
    """Size, stride and offset of what was saved."""

    def held(self) -> Tensor | None:
        """What was saved, if y lives on and nobody wrote to it."""
        y = self.y()
        return None if y is None or version_of(y) != self.y_version else y.as_strided(*self.view)

    def unpack(self, x: Tensor) -> Tensor:
        """What was saved, from ``x``."""
        y = torch.relu(x)
        if y.stride() != self.stride:  # the hooks around ours need not keep the layout in memory
            y = torch.empty_strided(y.size(), self.stride, dtype=y.dtype, device=y.device).copy_(y)
        return y.as_strided(*self.view)


class _Here(threading.local):
    sources: WeakTensorKeyDictionary | None = None
    """y -> its source, for as long as y lives; None where lean is off."""
    pack: Callable[[Tensor], Any] | None = None


_here = _Here()


def is_lean() -> bool:
    """Whether this thread is inside of :func:`lean`, running eagerly, and no other hooks are in force instead.

    Those of ``torch.utils.checkpoint`` are, in its block: what it computes again is not lean, and has to save the same.
    """
    if _here.sources is None or torch.compiler.is_compiling():
        return False
    hooks = saved_tensor_hooks()
    return hooks is not None and hooks[0] is _here.pack


def remember(y: Tensor, x: Tensor) -> None:
    """Note that y = relu(x) and that x is kept for the backward pass. Only where :func:`is_lean`."""
    assert _here.sources is not None
    if type(x) is Tensor and y.stride() == x.stride():
        _here.sources[y] = _Source(x.detach(), version_of(x), version_of(y))


@contextlib.contextmanager
def lean() -> Iterator[None]:
    """Within it, what follows a SUGAR keeps a handle to SUGAR's input where it would keep SUGAR's output.

    Gradients are the same to the last bit; the memory kept for the backward pass is nn.ReLU's instead of one more tensor
    a site. The price is one relu in the backward pass for each layer that had kept a SUGAR's output, and a Python call
    for every tensor that is saved. Only the forward pass needs to be inside; the backward pass may be anywhere. As a
    decorator, ``model.forward = undying.lean()(model.forward)``, it is on in every forward pass of a model.

    Other saved-tensor hooks go on working: those around it are given x in y's place, those inside it replace it in their
    block. So does ``torch.utils.checkpoint``: what is computed again in the backward pass is not lean unless the
    function that is checkpointed has its own ``lean``. It does nothing where nothing is kept twice: for a y that was
    overwritten, for other activations, with gradients disabled, and in code under ``torch.compile``, where the
    compiler decides what is kept. ``torch.func``'s transforms refuse all saved-tensor hooks, and so this.

    Raises (in the backward pass):
        RuntimeError: a tensor that is needed was overwritten, as autograd does without it.

    >>> import torch, undying
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(2, 8), undying.SUGAR(), nn.Linear(8, 1))
    >>> with undying.lean():
    ...     loss = net(torch.ones(4, 2)).sum()
    >>> loss.backward()
    """
    if torch.compiler.is_compiling() or not SEES_WHAT_IS_SAVED:
        yield
        return
    before, sources = (_here.sources, _here.pack), WeakTensorKeyDictionary()
    # torch applies the innermost hooks alone, so what is to be kept is handed on to those around.
    keep, give = saved_tensor_hooks() or (_keep, _give)

    def pack(tensor: Tensor) -> Any:
        base = base_of(tensor)
        y = tensor if base is None else base
        source = _source_of(tensor, y, sources)
        if source is None:
            return keep(tensor)
        view = tensor.size(), tensor.stride(), int(tensor.storage_offset())
        return _Handle(keep(source.x), TensorWeakRef(y), source.y_version, source.x.stride(), view)

    def unpack(packed: Any) -> Tensor:
        if not isinstance(packed, _Handle):
            return give(packed)
        with torch.no_grad():
            held = packed.held()
            return packed.unpack(give(packed.packed)) if held is None else held

    _here.sources, _here.pack = sources, pack
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            yield
    finally:
        _here.sources, _here.pack = before
        sources.clear()  # a y that someone keeps must not keep its x


def _source_of(tensor: Tensor, y: Tensor, sources: WeakTensorKeyDictionary) -> _Source | None:
    """The source of ``y``, which ``tensor`` is, or is a view of, if nobody wrote to it since."""
    if not sources:
        return None
    source: _Source | None = sources.get(y)
    if source is None or y.dtype != tensor.dtype:
        return None
    unchanged = version_of(y) == source.y_version and version_of(source.x) == source.x_version
    return source if unchanged else None


def _keep(tensor: Tensor) -> tuple[Tensor, int]:
    # With hooks, autograd does not notice that a saved tensor was overwritten: that is left to the hooks.
    return tensor, version_of(tensor)


def _give(kept: tuple[Tensor, int]) -> Tensor:
    tensor, version = kept
    if version_of(tensor) != version:
        raise RuntimeError(
            "one of the variables needed for gradient computation has been modified by an inplace operation: a tensor of "
            f"shape {tuple(tensor.shape)} is at version {version_of(tensor)}; expected version {version} instead"
        )
    return tensor
