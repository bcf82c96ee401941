"""Tell whether two censuses saw the same data, whatever the batch size and order."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

# Odd 64-bit constants, so that multiplication permutes the integers (Knuth's multiplicative hashing).
_POSITION = -7046029254386353131
_MIX = -4658895280553007687
_INTEGER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Fingerprint:
    """A 64-bit sum over samples of a hash of each sample's bits; order and batching do not change it.

    Stays on the data's device until it is read. Not cryptographic: it tells data sets apart, not forgeries.
    """

    def __init__(self) -> None:
        self._sum: Any = 0

    def add(self, batch: Any) -> None:
        """Take in one batch: tensors with the samples along the first axis, in any nest of tuples, lists and dicts."""
        samples: Tensor | None = None
        for i, tensor in enumerate(_tensors(batch)):
            h = _rows(tensor) * (2 * i + 1)
            same = samples is not None and samples.shape == h.shape
            # A tensor that does not go by samples (a scalar, a shared mask) counts as a whole.
            samples = samples + h if same and samples is not None else h if samples is None else samples + h.sum()
        if samples is not None:
            self._sum = self._sum + _mixed(samples).sum()

    def read(self) -> str:
        """16 hexadecimal digits."""
        return f"{int(self._sum) & (2**64 - 1):016x}"


def _rows(tensor: Tensor) -> Tensor:
    """int64: one hash a row of the first axis."""
    if tensor.dtype == torch.bool:
        tensor = tensor.to(torch.uint8)
    tensor = tensor.detach()
    rows = (tensor.flatten(1) if tensor.dim() > 1 else tensor.reshape(-1, 1)).contiguous()
    if rows.is_complex():
        rows = torch.view_as_real(rows).flatten(1).contiguous()
    bits = _integers(rows)
    return (bits * _weights(bits.shape[1], bits.device)).sum(1) + rows.shape[1]


def _integers(rows: Tensor) -> Tensor:
    """The bits of each row as int64: eight bytes in each where they fill it, a value in each elsewhere."""
    if rows.numel() and rows.shape[1] * rows.element_size() % 8 == 0:
        aligned = rows if rows.storage_offset() * rows.element_size() % 8 == 0 else rows.clone()
        return aligned.view(torch.int64)
    return rows.view(_INTEGER[rows.element_size()]).to(torch.int64)


@functools.lru_cache(maxsize=8)
def _weights(n: int, device: torch.device) -> Tensor:
    """A fixed factor a column. Odd, so that no change of a single value is lost."""
    return _mixed(torch.arange(1, n + 1, device=device) * _POSITION) | 1


def _mixed(h: Tensor) -> Tensor:
    """Wrapping arithmetic on int64 that spreads every bit."""
    h = (h ^ (h >> 31)) * _MIX
    return h ^ (h >> 29)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [t for key in sorted(value) for t in _tensors(value[key])]
    if isinstance(value, (tuple, list)):
        return [t for v in value for t in _tensors(v)]
    return []
