"""Which sample each value of a tensor belongs to, followed from what a network is given to its activations.

A tensor's samples are a map that broadcasts to its shape: (n, 1, 1) for (n, T, C), (1, n, 1) once that is transposed. An
operation that moves values moves the map as well, by the same function; one that leaves the samples' axis where it is leaves
the map; after any other the samples are lost. What no data reach has no samples and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from undying.units.tensors import ByTensor, tensors_in


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MOVES = _names(
    """permute transpose swapaxes swapdims movedim moveaxis t adjoint get flip fliplr flipud roll rot90 index_select gather
    take_along_dim getitem select narrow unbind chunk split split_with_sizes tensor_split hsplit vsplit dsplit view view_as
    reshape reshape_as flatten ravel unflatten squeeze unsqueeze expand expand_as broadcast_to repeat tile repeat_interleave
    unfold diagonal"""
)
_REDUCES = _names("mean sum amax amin max min argmax argmin logsumexp nanmean nansum std var prod all any")
_SORTS = {"sort": 1, "argsort": 1, "topk": 2, "kthvalue": 2, "median": 1, "mode": 1}
"""With the place of the axis among the arguments."""
_GROWS = _names("embedding one_hot stack")
_PRODUCTS = _names("matmul mm bmm linear addmm cdist")
_FIRST_ONLY = _names("lstm gru rnn_tanh rnn_relu multi_head_attention_forward")
"""What else these return has other axes."""
_LOSES = _names(
    """einsum tensordot inner outer kron cov corrcoef baddbmm addbmm msort unique unique_consecutive nonzero masked_select
    masked_scatter as_strided set put take bincount histc combinations cartesian_prod block_diag"""
)
_COPIES: dict[str, Callable[..., Any]] = {"view": Tensor.reshape, "view_as": Tensor.reshape_as}
_LOST = torch.empty(0)


class Rows:
    """Follows the samples of one batch.

    Args:
        samples: how many there are.
        given: what the network is given; tensors whose first axis has that length have a sample in each row.
    """

    def __init__(self, samples: int, given: Sequence[Any]) -> None:
        self.samples = samples
        self._maps: ByTensor[Tensor] = ByTensor()
        for tensor in () if samples < 2 or _is_packed(given) else tensors_in(given):
            if tensor.dim() and len(tensor) == samples:
                rows = torch.arange(samples, dtype=torch.int32, device=tensor.device)
                self._maps.set(tensor, rows.view(-1, *[1] * (tensor.dim() - 1)))

    def axis(self, x: Tensor) -> int | None:
        """The axis along which the samples lie in order, one in each place; None where that is not known."""
        rows = self._maps.get(x)
        if rows is None or rows is _LOST or rows.numel() != self.samples:
            return None
        in_order = torch.equal(rows.flatten(), torch.arange(self.samples, dtype=rows.dtype, device=rows.device))
        return rows.shape.index(self.samples) if in_order and self.samples in rows.shape else None

    def same(self, x: Tensor, made: Tensor) -> None:
        """Note that ``made`` has a value for each of ``x``."""
        if (rows := self._maps.get(x)) is not None:
            self._maps.set(made, rows)

    def called(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], given: list[Tensor], out: Any
    ) -> None:
        """Note one operation, after it; ``given``: the tensors among its arguments."""
        held = [(t, rows) for t in given if (rows := self._maps.get(t)) is not None]
        if not held:
            return
        name = getattr(func, "__name__", "").strip("_")
        made = given[:1] if name == "setitem" else list(tensors_in([out]))
        found = [_LOST] * len(made)
        if any(rows is _LOST for _, rows in held) or name in _LOSES:
            pass
        elif name in _MOVES:
            # The map of a tensor that can be viewed so need not be dense.
            found = _moved(_COPIES.get(name, func), args, kwargs, held, made)
        elif not name.startswith(("index_", "scatter")) and not _mixes(name, args, kwargs, held):
            found = [_kept(name, held, tensor) for tensor in made]
        for at, (tensor, rows) in enumerate(zip(made, found, strict=True)):
            self._maps.set(tensor, _LOST if at and name in _FIRST_ONLY else rows)


def _is_packed(given: Any) -> bool:
    """Whether a PackedSequence is among the values, whose rows are steps."""
    if isinstance(given, Mapping):
        given = list(given.values())
    return isinstance(given, PackedSequence) or (isinstance(given, (list, tuple)) and any(map(_is_packed, given)))


def _moved(
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    held: Sequence[tuple[Tensor, Tensor]],
    made: Sequence[Tensor],
) -> list[Tensor]:
    """The same done to the map of what is moved."""
    key = next((key for key in ("input", "self") if key in kwargs), None)
    x = args[0] if args else kwargs.get(key or "")
    rows = next((rows for tensor, rows in held if tensor is x), None)
    lost = [_LOST] * len(made)
    if rows is None or not isinstance(x, Tensor):  # an index alone holds samples
        return lost
    try:
        spread = rows.expand(x.shape)
        found = list(tensors_in([func(spread, *args[1:], **kwargs) if args else func(**{**kwargs, str(key): spread})]))
    except (RuntimeError, TypeError, ValueError, IndexError):  # in place, or of another type
        return lost
    if [(t.shape, t.dtype) for t in found] != [(t.shape, rows.dtype) for t in made]:
        return lost
    return [_compressed(t) for t in found]


def _compressed(rows: Tensor) -> Tensor:
    """With length 1 for every axis along which nothing changes."""
    for d, size in enumerate(rows.shape):
        if size > 1 and (rows.stride(d) == 0 or bool((rows == rows.narrow(d, 0, 1)).all())):
            rows = rows.narrow(d, 0, 1)
    return rows.clone()


def _mixes(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], held: Sequence[tuple[Tensor, Tensor]]) -> bool:
    """Whether the operation goes along an axis of samples, or may put another in its place."""
    maps = {id(tensor): rows for tensor, rows in held}

    def argument(place: int, *keys: str) -> Any:
        return args[place] if len(args) > place else next((kwargs[key] for key in keys if key in kwargs), None)

    if name in _PRODUCTS or name.startswith("conv"):
        first = 1 if name == "addmm" else 0
        one, other = (
            maps.get(id(argument(first + i, *keys))) for i, keys in enumerate([("input",), ("other", "weight")])
        )
        if name not in ("matmul", "bmm") and (other is not None or one is None):
            return True
        along = range(1, one.dim()) if one is not None and name.startswith("conv") else (-1,)
        summed = [one is not None and one.shape[d] > 1 for d in along]
        summed += [
            other is not None and other.shape[d] > 1 for d in (-1, -2) if other is not None and other.dim() >= -d
        ]
        return any(summed)
    if name == "setitem":
        return id(args[2]) in maps
    if name in _SORTS:
        dim = kwargs.get("dim", args[_SORTS[name]] if len(args) > _SORTS[name] else -1)
        return not isinstance(dim, int) or any(rows.shape[dim] > 1 for _, rows in held)
    if name in _REDUCES or name == "stack":
        dims = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else 0 if name == "stack" else None))
        listed = [dims] if isinstance(dims, int) else dims if isinstance(dims, (list, tuple)) else []
        if name == "stack":
            return listed[0] % (held[0][0].dim() + 1) == 0
        return any(rows.shape[d] > 1 for _, rows in held for d in listed if -rows.dim() <= d < rows.dim())
    return False


def _kept(name: str, held: Sequence[tuple[Tensor, Tensor]], made: Tensor) -> Tensor:
    """The map of what an operation made that moves no sample, where all its arguments agree on one."""
    found = None
    for tensor, rows in held:
        long = [d for d, size in enumerate(rows.shape) if size > 1]
        if made.dim() != tensor.dim():
            other = name in _GROWS if made.dim() > tensor.dim() else name in _REDUCES or name in ("matmul", "mv")
            if not other or long != [0] or made.dim() == 0:
                return _LOST
            rows = rows.view(-1, *[1] * (made.dim() - 1))
        if any(made.shape[d] != rows.shape[d] for d in long):
            return _LOST
        if found is not None and not torch.equal(found, rows):
            return _LOST
        found = rows
    return _LOST if found is None else found
